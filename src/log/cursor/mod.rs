//! Reading a log in order, from any place, while it is written, rotated, compressed and removed.
//!
//! A [`Cursor`] hands out whole lines, each once and none left out, over sealed files, compressed ones and the live one.
//! `floodgate tail` and `floodgate verify` read with it, and so may any reader within the server: it looks at nothing but the
//! files.
//!
//! # How it follows
//!
//! - A file is final from its rename on. So when the live file it reads no longer has the live name, the cursor reads on
//!   to the end, which nothing can move any more, and then takes the file with the next number.
//! - An open file stays readable whatever becomes of its name. One that is compressed before it was opened is read from
//!   the archive: the plain file goes only when the other is in place.
//! - One that was removed before it was opened is a gap, which is told ([`Notice::Gap`]) and is no error.
//! - Half a line at the end of the live file is an append that is going on: it is handed out when its newline has come.
//! - Against the contract, the live file may be removed, renamed or truncated by somebody else. A server that runs notices
//!   and gives the file's number to nothing else: the cursor reads the file it has open until that shows. If it does
//!   not and there is another live file, that is told ([`Notice::Replaced`]), and reading goes on with it; so it does
//!   with a file that was truncated.
//!
//! # Owner, bounds
//!
//! Whoever made it, on a thread: file I/O blocks, so a cursor is nothing for a coroutine. It never waits for more: at the end
//! of the log it says so ([`Step::End`]), and the next call looks again, for two system calls while nothing changes. Memory: a
//! chunk of 64 KiB, more only for a line that is longer, of up to 16 MiB; longer ones are passed over and
//! told. Beside it the list of the files that the log had at the last look.

mod last;
mod notice;
mod position;
mod reader;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use notice::{CursorError, Notice};
pub use position::{NoPosition, Position};
use reader::{Found, Identity, LineReader};
use view::View;

use super::fs::OsFs;
use super::segment::{Family, SegmentId};
use super::summary::Summary;

/// Which lines somebody wants.
pub trait Selection {
    /// Whether [`Selection::may_have`] can say no, so that summaries are worth reading.
    fn asks_summaries(&self) -> bool;
    /// Whether a file with this summary may have such a line.
    fn may_have(&self, summary: &Summary) -> bool;
    /// Whether this is one; it comes without its newline.
    fn wants(&self, line: &[u8]) -> bool;
}

/// All lines.
pub struct Everything;

impl Selection for Everything {
    fn asks_summaries(&self) -> bool {
        false
    }

    fn may_have(&self, _: &Summary) -> bool {
        true
    }

    fn wants(&self, _: &[u8]) -> bool {
        true
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest line there is.
    Beginning,
    /// Behind the newest line there is.
    End,
    /// With the earliest of that many of the newest lines that are wanted.
    Last(u64),
    /// At that place, where a line begins or will begin.
    At(Position),
}

/// What a cursor comes upon.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'c> {
    /// A line.
    Line(Line<'c>),
    /// Something that the reader should know of; reading goes on.
    Notice(Notice),
    /// There is no more now.
    End,
}

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'c> {
    /// Where it begins.
    pub at: Position,
    /// Where reading goes on behind it.
    pub next: Position,
    /// The line, without its newline.
    pub bytes: &'c [u8],
}

/// The server looks after its live file at least once a second, and may be busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a file that must be there is waited for: a rotation that is going on takes less.
const ROTATION_WAIT: Duration = Duration::from_millis(10);
const ROTATION_WAITS_MAX: usize = 50;

/// A reader's place in a log, and the file open there.
pub struct Cursor<S = Everything> {
    family: Family,
    selection: S,
    /// The sealed files there were at the last look.
    known: BTreeMap<u64, SegmentId>,
    open: Option<Open>,
    /// Where reading goes on while no file is open.
    target: Position,
    /// The number of the last file that is read; `None`: there is no last.
    last: Option<u64>,
    /// Whether files that are missing before the next one are told.
    tells_gaps: bool,
    /// How long a server may take to tell that its live file was taken away.
    patience: Duration,
    notices: VecDeque<Notice>,
}

struct Open {
    number: u64,
    path: PathBuf,
    reader: LineReader,
    state: State,
}

enum State {
    /// It has its final name: it ends where it ends.
    Sealed,
    /// It had the live name when it was looked at last.
    Live(Identity),
    /// It has lost the live name, and is read to its end. With the time since when another file has been in its place while
    /// nothing tells of a sealed one.
    Ending(Option<Instant>),
}

impl Cursor {
    /// A cursor over all lines of the log whose live file is at `live`.
    ///
    /// # Errors
    /// What reading says, and if no line begins at the place asked for.
    pub fn open(live: &Path, start: Start) -> Result<Cursor, CursorError> {
        Cursor::select(live, start, Everything)
    }
}

impl<S: Selection> Cursor<S> {
    /// A cursor over the lines that `selection` wants.
    ///
    /// # Errors
    /// As [`Cursor::open`].
    pub fn select(live: &Path, start: Start, selection: S) -> Result<Cursor<S>, CursorError> {
        let family = Family::of(live);
        let target = match start {
            Start::Beginning => Position::FIRST,
            Start::End => last::position(&family, 0, &selection)?,
            Start::Last(count) => last::position(&family, count, &selection)?,
            Start::At(position) => position,
        };
        let mut cursor = Cursor {
            family,
            selection,
            known: BTreeMap::new(),
            open: None,
            target,
            last: None,
            tells_gaps: start != Start::Beginning,
            patience: PATIENCE,
            notices: VecDeque::new(),
        };
        if target.offset > 0 {
            cursor.open_within()?;
        } else {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    /// Goes to another place.
    ///
    /// # Errors
    /// As [`Cursor::open`].
    pub fn go_to(&mut self, position: Position) -> Result<(), CursorError> {
        self.open = None;
        self.target = position;
        self.notices.clear();
        match position.offset {
            0 => self.advance().map(|_| ()),
            _ => self.open_within(),
        }
    }

    /// Goes to the beginning of a file, and reads no other.
    ///
    /// # Errors
    /// What opening the file says.
    pub fn read_only(&mut self, number: u64) -> Result<(), CursorError> {
        self.last = Some(number);
        self.tells_gaps = true;
        self.go_to(Position::begin_of(number))
    }

    /// Where reading goes on.
    pub fn position(&self) -> Position {
        match &self.open {
            Some(open) => open.position(),
            None => self.target,
        }
    }

    /// Bytes behind the last line handed out that no newline follows yet.
    pub fn half_line_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.reader.left())
    }

    /// The file that is open.
    pub fn path(&self) -> Option<&Path> {
        self.open.as_ref().map(|open| &*open.path)
    }

    /// The next line that is wanted, or what else there is. After an error reading can go on elsewhere only
    /// ([`Cursor::go_to`]).
    ///
    /// # Errors
    /// What reading says.
    pub fn step(&mut self) -> Result<Step<'_>, CursorError> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Ok(Step::Notice(notice));
            }
            let Some(open) = &mut self.open else {
                if self.advance()? || !self.notices.is_empty() {
                    continue;
                }
                return Ok(Step::End);
            };
            let at = open.position();
            match open.reader.next().map_err(|source| open.error(source))? {
                Found::Line(range) if self.selection.wants(open.reader.bytes(range.clone())) => {
                    // Looked up again: a borrow that is returned in one arm would hold in all of them.
                    let open = self.open.as_ref().expect("it was open above");
                    return Ok(Step::Line(Line {
                        at,
                        next: open.position(),
                        bytes: open.reader.bytes(range),
                    }));
                }
                Found::Line(_) => {}
                Found::TooLong(bytes) => return Ok(Step::Notice(Notice::TooLong { at, bytes })),
                Found::End => {
                    if !self.end_of_file()? {
                        return Ok(Step::End);
                    }
                }
            }
        }
    }

    /// At the end of what the open file has: whether there may be more, in it or behind it.
    fn end_of_file(&mut self) -> Result<bool, CursorError> {
        let open = self.open.as_mut().expect("a file is at its end");
        let at = open.position();
        match open.state {
            State::Sealed => {
                self.finish();
                Ok(true)
            }
            State::Live(identity) => {
                let length = open.reader.metadata().transpose();
                let length = length
                    .map_err(|source| open.error(source))?
                    .map_or(0, |metadata| metadata.len());
                if length < at.offset + open.reader.left() {
                    self.restart(Notice::Truncated { at });
                    return Ok(true);
                }
                if view::identity_at(&open.path)? == Some(identity) {
                    return Ok(false);
                }
                open.state = State::Ending(None);
                // Something may have been written between reading the end and the rename.
                Ok(true)
            }
            State::Ending(since) => {
                // The name is gone, so a list made from now on has the new one, if it was sealed.
                let list = self.family.list(&OsFs).map_err(|source| CursorError::Io {
                    path: self.family.directory().to_owned(),
                    source,
                })?;
                if list.keys().any(|id| id.number == at.number) {
                    open.state = State::Sealed;
                    return Ok(true);
                }
                // Somebody else has taken it away. A server that runs writes to it until it notices, and then tells.
                let is_replaced = match view::open(&open.path)? {
                    Some((other, _)) => other.metadata().is_ok_and(|metadata| metadata.len() > 0),
                    None => false,
                };
                let since = is_replaced.then(|| since.unwrap_or_else(Instant::now));
                open.state = State::Ending(since);
                if since.is_some_and(|since| since.elapsed() >= self.patience) {
                    self.restart(Notice::Replaced { at });
                    return Ok(true);
                }
                Ok(false)
            }
        }
    }

    /// Leaves a file that is read to its end.
    fn finish(&mut self) {
        let open = self.open.take().expect("a file is at its end");
        let (at, bytes) = (open.position(), open.reader.left());
        if bytes > 0 {
            self.notices.push_back(Notice::HalfLine { at, bytes });
        }
        self.target = Position::begin_of(open.number + 1);
    }

    /// Reads another file under the same number.
    fn restart(&mut self, notice: Notice) {
        let open = self.open.take().expect("a file is at its end");
        // An empty file may be replaced: the server does so with one that somebody has made.
        if open.reader.offset() + open.reader.left() > 0 {
            self.notices.push_back(notice);
        }
        self.target = Position::begin_of(open.number);
    }

    /// Opens the file that the target lies in, which must be there.
    fn open_within(&mut self) -> Result<(), CursorError> {
        for _ in 0..ROTATION_WAITS_MAX {
            if self.advance()? || self.target.offset == 0 {
                return Ok(());
            }
            sleep(ROTATION_WAIT);
        }
        Err(CursorError::NoLine(self.target))
    }

    /// Opens the file that reading goes on in: the target's, or else the next one there is. Whether there is one.
    fn advance(&mut self) -> Result<bool, CursorError> {
        let mut is_second_look = false;
        // A name that leads nowhere would be listed again and again.
        let mut gone = None;
        while self.last.is_none_or(|last| self.target.number <= last) {
            while let Some(id) = self.known.get(&self.target.number).copied() {
                if self.last.is_some_and(|last| id.number > last) {
                    return Ok(false);
                } else if self.target.offset == 0 && !may_have(&self.family, id, &self.selection)? {
                    self.target = Position::begin_of(id.number + 1);
                } else if self.open_sealed(id)? {
                    return Ok(true);
                } else {
                    self.known.remove(&id.number);
                    gone = Some(id.number);
                }
            }
            let view = View::take(&self.family)?;
            self.known = view.sealed;
            if let Some(gone) = gone {
                self.known.remove(&gone);
            }
            if self.target.number > view.front {
                return Err(CursorError::Beyond {
                    position: self.target,
                    front: view.front,
                });
            }
            let next = self.known.range(self.target.number..).next();
            let number = next.map_or(view.front, |(number, _)| *number);
            if number > self.target.number {
                // A list made while files are sealed may lack one that it could have had; the next list has it.
                if !std::mem::replace(&mut is_second_look, true) {
                    continue;
                }
                if self.tells_gaps {
                    self.notices.push_back(Notice::Gap {
                        first: self.target.number,
                        last: number - 1,
                    });
                }
                self.target = Position::begin_of(number);
                is_second_look = false;
            }
            if number < view.front {
                continue;
            }
            let Some((file, identity)) = view.live else {
                return Ok(false);
            };
            let open = Open {
                number,
                path: self.family.live(),
                reader: LineReader::plain(file),
                state: State::Live(identity),
            };
            return self.set_open(open).map(|()| true);
        }
        Ok(false)
    }

    /// Opens a sealed file, where it is; whether it is still there.
    fn open_sealed(&mut self, id: SegmentId) -> Result<bool, CursorError> {
        let (plain, packed) = (self.family.plain(id), self.family.compressed(id));
        // In this order: the plain file is removed when the compressed one is in place.
        let (path, reader) = if let Some((file, _)) = view::open(&plain)? {
            (plain, Ok(LineReader::plain(file)))
        } else if let Some((file, _)) = view::open(&packed)? {
            (packed, LineReader::packed(file))
        } else {
            return Ok(false);
        };
        let open = Open {
            number: id.number,
            reader: reader.map_err(|source| CursorError::Io {
                path: path.clone(),
                source,
            })?,
            path,
            state: State::Sealed,
        };
        self.set_open(open).map(|()| true)
    }

    fn set_open(&mut self, mut open: Open) -> Result<(), CursorError> {
        let is_begin = open.reader.go_to(self.target.offset);
        if !is_begin.map_err(|source| open.error(source))? {
            return Err(CursorError::NoLine(self.target));
        }
        self.tells_gaps = true;
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    fn position(&self) -> Position {
        Position {
            number: self.number,
            offset: self.reader.offset(),
        }
    }

    fn error(&self, source: io::Error) -> CursorError {
        CursorError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// Whether a sealed file may have wanted lines, as far as its summary tells.
fn may_have(family: &Family, id: SegmentId, selection: &impl Selection) -> Result<bool, CursorError> {
    if !selection.asks_summaries() {
        return Ok(true);
    }
    let path = family.summary(id);
    let summary = Summary::read(&OsFs, &path, id).map_err(|source| CursorError::Io { path, source })?;
    Ok(summary.is_none_or(|summary| selection.may_have(&summary)))
}
