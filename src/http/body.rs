//! Request bodies: one reader, whether the body is already in memory or still on its way.

use std::cell::Cell;
use std::fmt;
use std::io;

use super::chunked::{Decoder, Malformed};
use super::socket::Socket;
use super::wire::{Awaited, Filled, Input, Wire};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Why a body could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than the caller takes (413). Nothing was read when its length was announced.
    TooLarge,
    /// The peer ended the connection in the middle of it. Nobody is left to read an answer.
    Closed,
    /// It came more slowly than the limits allow (408).
    TooSlow,
    /// The connection failed in the middle of it, or there is no memory for it.
    Io(io::Error),
    /// Its chunks are not what the chunked coding allows (400): it has no end, and the connection none but closing.
    Malformed(&'static str),
    /// It is packed in a way that is not known here (415).
    UnknownCoding,
    /// It does not unpack (400).
    Corrupt,
}

impl BodyError {
    /// The status and sentence of the answer that suits.
    pub fn answer(&self) -> (u16, &'static str) {
        match self {
            Self::TooLarge => (413, "The request body is too large."),
            Self::Closed | Self::Io(_) => (400, "The request body is incomplete."),
            Self::Malformed(sentence) => (400, sentence),
            Self::TooSlow => (408, "The request body came too slowly."),
            Self::UnknownCoding => (
                415,
                "The content coding of the request body is not supported; gzip, deflate and zstd are.",
            ),
            Self::Corrupt => (
                400,
                "The request body does not unpack: it is cut short or damaged.",
            ),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => to.write_str("the request body is too large"),
            Self::Closed => to.write_str("the peer ended the connection within a request body"),
            Self::TooSlow => to.write_str("the request body came too slowly"),
            Self::Io(error) => write!(to, "the connection failed within a request body: {error}"),
            Self::Malformed(sentence) => to.write_str(sentence),
            Self::UnknownCoding => to.write_str("the content coding of the request body is not known"),
            Self::Corrupt => to.write_str("the request body does not unpack"),
        }
    }
}

impl std::error::Error for BodyError {}

/// For readers, whose errors are those of `std::io`. The way back is the other `From`.
impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> io::Error {
        io::Error::other(error)
    }
}

impl From<io::Error> for BodyError {
    fn from(error: io::Error) -> BodyError {
        error.downcast().unwrap_or_else(BodyError::Io)
    }
}

/// Reader of one request's body. What a service leaves unread is thrown away behind it.
pub struct Body<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    /// What is left of a body that was in memory from the start.
    Whole(&'a [u8]),
    /// A body that is read as it comes.
    OnItsWay(&'a mut dyn Pieces, Kept<'a>),
}

/// How much memory the service holds for a body that is on its way, and for how much of it as it was before it was packed.
/// The service says so here, whatever it is that it keeps; the more that is, the faster the rest has to come
/// ([`super::Limits::KEPT_WITHIN`]).
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a>(Option<&'a Account>);

/// What is found in a [`Kept`].
#[derive(Debug, Default)]
pub struct Account {
    kept: Cell<usize>,
    /// Bytes that were unpacked since this was last asked for; `None` for a body that is not packed.
    unpacked: Cell<Option<usize>>,
}

impl Account {
    /// So many bytes are kept.
    pub fn kept(&self) -> usize {
        self.kept.get()
    }
}

impl<'a> Kept<'a> {
    /// What is set is found in `account`.
    pub fn of(account: &'a Account) -> Self {
        Self(Some(account))
    }

    /// Nobody keeps anything, or nobody waits for more.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// So many bytes are kept from now on, in all.
    pub fn set(self, bytes: usize) {
        if let Some(account) = self.0 {
            account.kept.set(bytes);
        }
    }

    /// The body is packed, and so many bytes more of it have been unpacked.
    pub(super) fn unpacked(self, bytes: usize) {
        if let Some(account) = self.0 {
            let before = account.unpacked.get().unwrap_or(0);
            account.unpacked.set(Some(before + bytes));
        }
    }

    /// What more of the body is awaited for.
    fn awaited(self) -> Awaited {
        match self.0 {
            Some(account) => {
                let unpacked = account.unpacked.get();
                account.unpacked.set(unpacked.map(|_| 0));
                Awaited::Body {
                    kept: account.kept(),
                    unpacked,
                }
            }
            None => Awaited::Body {
                kept: 0,
                unpacked: None,
            },
        }
    }
}

impl<'a> Body<'a> {
    pub(super) fn whole(bytes: &'a [u8]) -> Self {
        Self {
            source: Source::Whole(bytes),
        }
    }

    pub(super) fn on_its_way(pieces: &'a mut dyn Pieces, kept: Kept<'a>) -> Self {
        Self {
            source: Source::OnItsWay(pieces, kept),
        }
    }

    /// Where the service says how much it keeps while the body comes.
    pub fn kept(&self) -> Kept<'a> {
        match &self.source {
            Source::Whole(_) => Kept::nothing(),
            Source::OnItsWay(_, kept) => *kept,
        }
    }

    /// Bytes still to be read, where the peer has announced them.
    pub fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Whole(bytes) => Some(bytes.len() as u64),
            Source::OnItsWay(pieces, _) => pieces.length(),
        }
    }

    /// The bytes that are there and not consumed, never none but at the end. Parks the coroutine until there are some.
    pub fn available(&mut self) -> Result<&[u8], BodyError> {
        match &mut self.source {
            Source::Whole(bytes) => Ok(bytes),
            Source::OnItsWay(pieces, _) => pieces.available(),
        }
    }

    /// Lets go of the first `count` of the available bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, count: usize) {
        match &mut self.source {
            Source::Whole(bytes) => *bytes = &bytes[count..],
            Source::OnItsWay(pieces, _) => pieces.consume(count),
        }
    }

    /// All that is left, where it is in memory already. It is lent from there and counts as read.
    pub fn in_memory(&mut self) -> Option<&'a [u8]> {
        match &mut self.source {
            Source::Whole(bytes) => Some(std::mem::take(bytes)),
            Source::OnItsWay(..) => None,
        }
    }
}

/// A body on its way, whatever socket it comes from. Called once a piece: a virtual call beside a system call.
pub(super) trait Pieces {
    fn length(&self) -> Option<u64>;
    fn available(&mut self) -> Result<&[u8], BodyError>;
    fn consume(&mut self, count: usize);
}

/// How the end of a body is told.
#[derive(Debug)]
pub(super) enum Framing {
    /// By a count of bytes; `left` are still to be handed out.
    Length { left: u64 },
    /// By chunks.
    Chunked(Decoder),
}

impl Framing {
    /// Bytes that can be handed out before the next look at the framing: none at the end of the body, and where more
    /// input is needed to know.
    fn left(&self) -> u64 {
        match self {
            Self::Length { left } => *left,
            Self::Chunked(decoder) => decoder.data_left(),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Length { left } => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
        }
    }
}

/// What a service left of a body that was on its way.
#[derive(Debug)]
pub(super) enum Rest {
    /// Nothing: the next request begins at the front of the input.
    Nothing,
    /// Something that may be read and thrown away to keep the connection.
    Discardable(Framing),
    /// Something that ends the connection: too much, or malformed, or nobody knows whether the peer will send it.
    Fatal,
}

/// A body that was not wholly in the input buffer when its head had been read, or is chunked.
#[derive(Debug)]
pub(super) struct Incoming<'a, S> {
    wire: &'a mut Wire<S>,
    input: &'a mut Input,
    framing: Framing,
    /// The peer waits for `100 Continue` before it sends.
    continue_owed: bool,
    kept: Kept<'a>,
    /// Reading failed: there is nothing more to come.
    failed: bool,
}

impl<'a, S: Socket> Incoming<'a, S> {
    pub(super) fn new(
        wire: &'a mut Wire<S>,
        input: &'a mut Input,
        framing: Framing,
        continue_owed: bool,
        kept: Kept<'a>,
    ) -> Self {
        Self {
            wire,
            input,
            framing,
            continue_owed,
            kept,
            failed: false,
        }
    }

    /// Tells what is left, and lets go of what of it is here. No more than `limit` bytes are worth reading; how long a
    /// chunked rest is only shows when it is read.
    pub(super) fn finish(mut self, limit: u64) -> Rest {
        if matches!(self.framing, Framing::Chunked(_)) && !self.failed {
            while let Ok(count @ 1..) = self.advance() {
                self.consume(count);
            }
        }
        if self.failed {
            Rest::Fatal
        } else if self.framing.is_done() {
            Rest::Nothing
        } else if self.continue_owed || matches!(self.framing, Framing::Length { left } if left > limit) {
            Rest::Fatal
        } else {
            Rest::Discardable(self.framing)
        }
    }

    /// Reads to the end, but no more than `limit` bytes. Whether the next request now begins at the front of the input.
    pub(super) fn discard(mut self, limit: u64) -> bool {
        let mut left = limit;
        loop {
            match self.available().map(<[u8]>::len) {
                Ok(0) => return true,
                Ok(count) if count as u64 <= left => {
                    left -= count as u64;
                    self.consume(count);
                }
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Takes the framing off the front of the input. The number of bytes there that can be handed out: none at the end
    /// and where more input is needed.
    fn advance(&mut self) -> Result<usize, BodyError> {
        if let Framing::Chunked(decoder) = &mut self.framing {
            match decoder.skip_framing(self.input.unused()) {
                Ok(count) => self.input.consume(count),
                Err(Malformed(sentence)) => {
                    self.failed = true;
                    return Err(BodyError::Malformed(sentence));
                }
            }
        }
        let left = usize::try_from(self.framing.left()).unwrap_or(usize::MAX);
        Ok(left.min(self.input.unused().len()))
    }

    fn fill(&mut self) -> Result<(), BodyError> {
        let filled = (|| {
            if std::mem::take(&mut self.continue_owed) {
                self.wire.write_all(CONTINUE)?;
            }
            self.wire.fill(self.input, self.kept.awaited())
        })();
        let error = match filled {
            Ok(Filled::More) => return Ok(()),
            Ok(Filled::End | Filled::Stopping | Filled::AtRest) => BodyError::Closed,
            Ok(Filled::TooSlow) => BodyError::TooSlow,
            Err(error) => BodyError::Io(error),
        };
        self.failed = true;
        Err(error)
    }
}

impl<S: Socket> Pieces for Incoming<'_, S> {
    fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length { left } => Some(left),
            Framing::Chunked(_) => None,
        }
    }

    fn available(&mut self) -> Result<&[u8], BodyError> {
        if self.failed {
            return Err(BodyError::Closed);
        }
        loop {
            let count = self.advance()?;
            if count > 0 || self.framing.is_done() {
                return Ok(&self.input.unused()[..count]);
            }
            self.fill()?;
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.framing {
            Framing::Length { left } => {
                *left = left
                    .checked_sub(count as u64)
                    .expect("no more is consumed than was available");
            }
            Framing::Chunked(decoder) => decoder.took(count as u64),
        }
        self.input.consume(count);
    }
}
