//! Request bodies: one reader, whether the body is already in memory or still on its way.

use std::fmt;

use super::socket::Socket;
use super::wire::{Awaited, Filled, Input, Wire};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Most that a gathering read sets aside before the bytes are there, in bytes: a length is only a claim.
const RESERVE_BYTES_MAX: usize = 256 * 1024;

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
    Io(std::io::Error),
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
            Self::TooSlow => (408, "The request body came too slowly."),
            Self::UnknownCoding => (
                415,
                "The content coding of the request body is not supported; gzip and zstd are.",
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
            Self::UnknownCoding => to.write_str("the content coding of the request body is not known"),
            Self::Corrupt => to.write_str("the request body does not unpack"),
        }
    }
}

impl std::error::Error for BodyError {}

/// Reader of one request's body. What a service leaves unread is thrown away behind it.
pub struct Body<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    /// What is left of a body that was in memory from the start.
    Whole(&'a [u8]),
    /// A body that is read as it comes.
    OnItsWay(&'a mut dyn Pieces),
}

impl<'a> Body<'a> {
    pub(super) fn whole(bytes: &'a [u8]) -> Self {
        Self {
            source: Source::Whole(bytes),
        }
    }

    pub(super) fn on_its_way(pieces: &'a mut dyn Pieces) -> Self {
        Self {
            source: Source::OnItsWay(pieces),
        }
    }

    /// Bytes still to be read, where the peer has announced them.
    pub fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Whole(bytes) => Some(bytes.len() as u64),
            Source::OnItsWay(pieces) => pieces.length(),
        }
    }

    /// The bytes that are there and not consumed, never none but at the end. Parks the coroutine until there are some.
    pub fn available(&mut self) -> Result<&[u8], BodyError> {
        match &mut self.source {
            Source::Whole(bytes) => Ok(bytes),
            Source::OnItsWay(pieces) => pieces.available(),
        }
    }

    /// Lets go of the first `count` of the available bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, count: usize) {
        match &mut self.source {
            Source::Whole(bytes) => *bytes = &bytes[count..],
            Source::OnItsWay(pieces) => pieces.consume(count),
        }
    }

    /// All that is left, if no longer than `limit` bytes. A body in memory is lent from there and not
    /// copied; any other is gathered in `scratch`, whose contents are replaced.
    pub fn read_all<'x>(&mut self, limit: usize, scratch: &'x mut Vec<u8>) -> Result<&'x [u8], BodyError>
    where
        'a: 'x,
    {
        match &mut self.source {
            Source::Whole(bytes) if bytes.len() > limit => Err(BodyError::TooLarge),
            Source::Whole(bytes) => Ok(std::mem::take(bytes)),
            Source::OnItsWay(pieces) => {
                scratch.clear();
                gather(*pieces, limit, scratch)?;
                Ok(scratch)
            }
        }
    }
}

fn gather(pieces: &mut dyn Pieces, limit: usize, to: &mut Vec<u8>) -> Result<(), BodyError> {
    if let Some(length) = pieces.length() {
        let length = usize::try_from(length).ok().filter(|&length| length <= limit);
        to.reserve(length.ok_or(BodyError::TooLarge)?.min(RESERVE_BYTES_MAX));
    }
    loop {
        let piece = pieces.available()?;
        let count = piece.len();
        if count == 0 {
            return Ok(());
        }
        if count > limit - to.len() {
            return Err(BodyError::TooLarge);
        }
        to.extend_from_slice(piece);
        pieces.consume(count);
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
enum Framing {
    /// By a count of bytes; `left` are still to be handed out.
    Length { left: u64 },
}

/// A body that was not wholly in the input buffer when its head had been read.
#[derive(Debug)]
pub(super) struct Incoming<'a, S> {
    wire: &'a mut Wire<S>,
    input: &'a mut Input,
    framing: Framing,
    /// The peer waits for `100 Continue` before it sends.
    continue_owed: bool,
    /// Reading failed: there is nothing more to come.
    failed: bool,
}

impl<'a, S: Socket> Incoming<'a, S> {
    pub(super) fn with_length(
        wire: &'a mut Wire<S>,
        input: &'a mut Input,
        length: u64,
        continue_owed: bool,
    ) -> Self {
        Self {
            wire,
            input,
            framing: Framing::Length { left: length },
            continue_owed,
            failed: false,
        }
    }

    /// Whether what the service left unread may be thrown away to keep the connection: not when it is more
    /// than `limit` bytes, nor when the peer waits for `100 Continue` and may or may not send it.
    pub(super) fn can_discard(&self, limit: u64) -> bool {
        self.left() == 0 || (self.left() <= limit && !self.continue_owed && !self.failed)
    }

    /// Bytes of the body not yet handed out.
    pub(super) fn left(&self) -> u64 {
        let Framing::Length { left } = self.framing;
        left
    }

    /// Reads to the end. Whether the next request now begins at the front of the input.
    pub(super) fn discard(mut self) -> bool {
        loop {
            match self.available().map(<[u8]>::len) {
                Ok(0) => return true,
                Ok(count) => self.consume(count),
                Err(_) => return false,
            }
        }
    }

    fn fill(&mut self) -> Result<(), BodyError> {
        let filled = (|| {
            if std::mem::take(&mut self.continue_owed) {
                self.wire.write_all(CONTINUE)?;
            }
            self.wire.fill(self.input, Awaited::Body)
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
        }
    }

    fn available(&mut self) -> Result<&[u8], BodyError> {
        if self.failed {
            return Err(BodyError::Closed);
        }
        let Framing::Length { left } = self.framing;
        if left > 0 && self.input.is_empty() {
            self.fill()?;
        }
        let unused = self.input.unused();
        Ok(&unused[..unused.len().min(usize::try_from(left).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, count: usize) {
        let Framing::Length { left } = &mut self.framing;
        *left = left
            .checked_sub(count as u64)
            .expect("no more is consumed than was available");
        self.input.consume(count);
    }
}
