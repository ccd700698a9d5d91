//! Reading for subscribers that are not at the log's end: those that have resumed, and those that lag further than the ring
//! reaches.
//!
//! Few threads, whatever the number of subscribers. A subscriber has one job at a time, and a job reads one piece: so they
//! take turns, and memory is bounded by a piece for each. Near the log's end a piece is read once for all who come
//! by (`shelf.rs`). Between two jobs a cursor is kept, as opening a file again, a
//! compressed one above all, costs more than reading a piece; [`KEPT_MAX`] of them, and not for longer than [`KEPT_FOR`], since
//! it holds a file that may have been removed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::chunk::{Builder, Chunk};
use super::filter::{Filter, Passing};
use super::hub::Found;
use super::shelf::Shelf;
use super::{Opened, Shared, TURN_BYTES};
use crate::background;
use crate::event::facts_of_line;
use crate::log::cursor::{Cursor, CursorError, Notice, Position, Start, Step};

/// Bytes of the log that a job looks through for wanted events: a few milliseconds.
const LOOK_BYTES: u64 = if cfg!(test) { 8 << 10 } else { 4 << 20 };
/// Room for a piece's text: it is full with the first event that goes beyond.
const ROOM_BYTES: usize = TURN_BYTES + (2 << 10);
/// So near to the log's end lines are read for all: those who lag, up to the default of METRICS_STREAM_LAG_MAX and what is stored
/// while they do, and those who have been away for a moment. Further back there is seldom another one at the same place, and
/// who wants few events does not want the others rendered.
const SHARED_WITHIN: u64 = if cfg!(test) { 64 << 10 } else { 512 << 20 };
/// Cursors that are kept. One takes 64 KiB, on a compressed file some megabytes.
const KEPT_MAX: usize = 16;
/// How long one is kept that nobody asks for.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// The pause where there is no more to read, and yet the feeder is not there: somebody has laid hands on the live file, and
/// that takes seconds to show.
const NO_PROGRESS: Duration = Duration::from_millis(10);

/// Something to be read.
pub(super) enum Job {
    /// Whether one can begin there. No subscriber's answer has begun.
    Open {
        at: Position,
        filter: Arc<Filter>,
        opened: Opened,
    },
    /// What follows.
    Read {
        id: u64,
        at: Position,
        filter: Arc<Filter>,
    },
    /// The number of the event that is next there.
    Count { id: u64, at: Position },
}

/// What is to be done, and the cursors from the last times. A subscriber has one job at a time, which bounds it.
#[derive(Default)]
pub(super) struct Jobs {
    queue: Mutex<VecDeque<Job>>,
    bell: Condvar,
    kept: Mutex<VecDeque<Kept>>,
    shelf: Mutex<Shelf>,
}

struct Kept {
    at: Position,
    filter: Arc<Filter>,
    cursor: Cursor<Passing>,
    /// Files are gone here, which was not told yet; whether their events are counted.
    gap: Option<bool>,
    since: Instant,
}

impl Jobs {
    pub fn push(&self, job: Job) {
        self.queue.lock().expect(NO_PANIC).push_back(job);
        self.bell.notify_one();
    }

    /// Has all threads look up.
    pub fn ring(&self) {
        drop(self.queue.lock().expect(NO_PANIC));
        self.bell.notify_all();
    }

    /// The next job; `None` when the server ends.
    fn next(&self, shared: &Shared) -> Option<Job> {
        let mut queue = self.queue.lock().expect(NO_PANIC);
        loop {
            if shared.is_stopping() {
                return None;
            }
            if let Some(job) = queue.pop_front() {
                return Some(job);
            }
            let is_kept = self.let_go();
            queue = match is_kept {
                true => self.bell.wait_timeout(queue, KEPT_FOR).expect(NO_PANIC).0,
                false => self.bell.wait(queue).expect(NO_PANIC),
            };
        }
    }

    /// Drops cursors that nobody has asked for, and when the last one goes the shelf; whether some are left.
    fn let_go(&self) -> bool {
        let mut kept = self.kept.lock().expect(NO_PANIC);
        kept.retain(|kept| kept.since.elapsed() < KEPT_FOR);
        if kept.is_empty() {
            self.shelf().clear();
        }
        !kept.is_empty()
    }

    /// Forgets what was read: somebody has laid hands on the live file.
    pub fn forget(&self) {
        self.kept.lock().expect(NO_PANIC).clear();
        self.shelf().clear();
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().expect(NO_PANIC)
    }

    fn keep(&self, at: Position, filter: Arc<Filter>, cursor: Cursor<Passing>, gap: Option<bool>) {
        let mut kept = self.kept.lock().expect(NO_PANIC);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept {
            at,
            filter,
            cursor,
            gap,
            since: Instant::now(),
        });
    }

    fn cursor(
        &self,
        shared: &Shared,
        at: Position,
        filter: &Arc<Filter>,
    ) -> Result<(Cursor<Passing>, Option<bool>), CursorError> {
        let mut kept = self.kept.lock().expect(NO_PANIC);
        let fits = |kept: &Kept| kept.at == at && kept.filter == *filter;
        if let Some(index) = kept.iter().position(fits) {
            let Kept { cursor, gap, .. } = kept.remove(index).expect("it was found there");
            return Ok((cursor, gap));
        }
        drop(kept);
        let cursor = Cursor::select(&shared.log, Start::At(at), Passing(Arc::clone(filter)))?;
        Ok((cursor, None))
    }
}

/// A thread's body.
pub(super) fn run(shared: &Shared) {
    background::enter();
    while let Some(job) = shared.jobs.next(shared) {
        match job {
            Job::Open { at, filter, opened } => {
                let cursor = shared.jobs.cursor(shared, at, &filter);
                let result = cursor.map(|(cursor, gap)| shared.jobs.keep(at, filter, cursor, gap));
                opened.tell(&shared.view, result);
            }
            Job::Read { id, at, filter } => {
                let found = read(shared, at, filter).unwrap_or_else(|error| match error {
                    CursorError::Io { .. } => Found::Failed(error.to_string()),
                    CursorError::NoLine(_) | CursorError::Beyond { .. } => Found::Lost,
                });
                shared.change(|state| state.found(id, found));
            }
            Job::Count { id, at } => {
                let seq = count(shared, at).unwrap_or(None);
                shared.change(|state| state.found(id, Found::Seq(seq)));
            }
        }
    }
}

/// Reads what follows: a turn's worth of what `filter` wants, or as much as a job looks through.
fn read(shared: &Shared, at: Position, filter: Arc<Filter>) -> Result<Found, CursorError> {
    let (mut text, mut end) = (Vec::new(), at);
    for _ in 0..LOOK_BYTES.div_ceil(TURN_BYTES as u64) {
        let is_near = shared.view.bytes_behind(end) <= SHARED_WITHIN;
        let chunk = match next_chunk(shared, end, if is_near { &shared.all } else { &filter })? {
            Piece::Gap(next, is_counted) if end == at => return Ok(Found::Gap(next, is_counted)),
            // It is met again.
            Piece::Gap(..) => break,
            Piece::Chunk(chunk) if chunk.end == end => break,
            Piece::Chunk(chunk) => chunk,
        };
        if filter.is_all() {
            return Ok(Found::Chunk(chunk));
        }
        chunk.each_piece(end, &filter, |piece| text.extend_from_slice(piece));
        end = chunk.end;
        if text.len() >= TURN_BYTES || !is_near {
            break;
        }
    }
    if end == at {
        std::thread::sleep(NO_PROGRESS);
    }
    Ok(Found::Text(text, end))
}

/// The chunk that follows, from the shelf if it is there.
fn next_chunk(shared: &Shared, at: Position, filter: &Arc<Filter>) -> Result<Piece, CursorError> {
    if filter.is_all()
        && let Some(chunk) = shared.jobs.shelf().get(at)
    {
        return Ok(Piece::Chunk(chunk));
    }
    let piece = piece(shared, at, filter)?;
    if filter.is_all()
        && let Piece::Chunk(chunk) = &piece
    {
        shared.jobs.shelf().put(chunk);
    }
    Ok(piece)
}

/// What lies at a place.
enum Piece {
    /// Lines, if any.
    Chunk(Arc<Chunk>),
    /// Files that are gone: reading goes on there. Whether their events are counted.
    Gap(Position, bool),
}

/// Reads a piece with the events that `filter` wants.
fn piece(shared: &Shared, at: Position, filter: &Arc<Filter>) -> Result<Piece, CursorError> {
    let (mut cursor, gap) = shared.jobs.cursor(shared, at, filter)?;
    let keep = |at, cursor, gap| shared.jobs.keep(at, Arc::clone(filter), cursor, gap);
    if let Some(is_counted) = gap {
        let next = cursor.position();
        keep(next, cursor, None);
        return Ok(Piece::Gap(next, is_counted));
    }
    let first_seq = match at.offset {
        0 => shared.view.first_seq_of(at.number),
        _ => None,
    };
    let mut builder = Builder::new(at, first_seq, if filter.is_all() { ROOM_BYTES } else { 0 });
    let mut looked = 0;
    loop {
        match cursor.step()? {
            Step::Line(line) => {
                builder.push(&line, filter);
                looked += line.bytes.len() as u64 + 1;
                if builder.bytes() < TURN_BYTES && looked < LOOK_BYTES {
                    continue;
                }
            }
            Step::Notice(Notice::HalfLine { .. } | Notice::TooLong { .. }) => continue,
            Step::Notice(notice) => {
                let is_counted = matches!(notice, Notice::Gap { .. });
                let chunk = Arc::new(builder.finish());
                keep(chunk.end, cursor, Some(is_counted));
                return match chunk.end == at {
                    true => piece(shared, at, filter),
                    false => Ok(Piece::Chunk(chunk)),
                };
            }
            Step::End => {}
        }
        builder.pass(cursor.position());
        keep(cursor.position(), cursor, None);
        return Ok(Piece::Chunk(Arc::new(builder.finish())));
    }
}

/// The number of the event that is next at `at`, by counting those before it in its file.
fn count(shared: &Shared, at: Position) -> Result<Option<u64>, CursorError> {
    let Some(mut seq) = shared.view.first_seq_of(at.number) else {
        return Ok(None);
    };
    let mut cursor = Cursor::open(&shared.log, Start::At(Position::begin_of(at.number)))?;
    loop {
        match cursor.step()? {
            Step::Line(line) if line.next <= at => seq += u64::from(facts_of_line(line.bytes).is_some()),
            Step::Line(_) | Step::End => return Ok(Some(seq)),
            Step::Notice(Notice::HalfLine { .. } | Notice::TooLong { .. }) => {}
            Step::Notice(_) => return Ok(None),
        }
    }
}

const NO_PANIC: &str = "no holder of this lock panics";
