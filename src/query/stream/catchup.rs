//! Reading for subscribers that are not at the log's end: those that have resumed, and those that lag further than the ring
//! reaches.
//!
//! Few threads, whatever the number of subscribers. A subscriber has one job at a time, and a job reads one piece: so they
//! take turns, and memory is bounded by a piece for each. Between two jobs a cursor is kept, as opening a file again, a
//! compressed one above all, costs more than reading a piece; [`KEPT_MAX`] of them, and not for longer than [`KEPT_FOR`], since
//! it holds a file that may have been removed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use super::chunk::Builder;
use super::filter::{Filter, Passing};
use super::hub::Found;
use super::{Opened, Shared, TURN_BYTES};
use crate::event::facts_of_line;
use crate::log::cursor::{Cursor, CursorError, Notice, Position, Start, Step};

/// Bytes of the log that a job looks through for wanted events: a few milliseconds.
const LOOK_BYTES: u64 = if cfg!(test) { 8 << 10 } else { 4 << 20 };
/// Cursors that are kept. One takes 64 KiB, on a compressed file some megabytes.
const KEPT_MAX: usize = 16;
/// How long one is kept that nobody asks for.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// The pause where there is no more to read, and yet the feeder is not there: somebody has laid hands on the live file, and
/// that takes seconds to show.
const NO_PROGRESS: Duration = Duration::from_millis(10);

/// The readers' priority: they get what others leave, and a tenth of a processor if these leave nothing.
const NICE: i32 = 10;

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
}

struct Kept {
    at: Position,
    filter: Arc<Filter>,
    cursor: Cursor<Passing>,
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

    /// Drops cursors that nobody has asked for; whether some are left.
    fn let_go(&self) -> bool {
        let mut kept = self.kept.lock().expect(NO_PANIC);
        kept.retain(|kept| kept.since.elapsed() < KEPT_FOR);
        !kept.is_empty()
    }

    fn keep(&self, at: Position, filter: Arc<Filter>, cursor: Cursor<Passing>) {
        let mut kept = self.kept.lock().expect(NO_PANIC);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept {
            at,
            filter,
            cursor,
            since: Instant::now(),
        });
    }

    fn cursor(
        &self,
        shared: &Shared,
        at: Position,
        filter: &Arc<Filter>,
    ) -> Result<Cursor<Passing>, CursorError> {
        let mut kept = self.kept.lock().expect(NO_PANIC);
        let fits = |kept: &Kept| kept.at == at && kept.filter == *filter;
        if let Some(index) = kept.iter().position(fits) {
            return Ok(kept.remove(index).expect("it was found there").cursor);
        }
        drop(kept);
        Cursor::select(&shared.log, Start::At(at), Passing(Arc::clone(filter)))
    }
}

/// A thread's body.
pub(super) fn run(shared: &Shared) {
    // Who is behind can wait for those who store events and those who keep up. (On Linux this is the thread's own.)
    setpriority_process(None, NICE).ok();
    while let Some(job) = shared.jobs.next(shared) {
        match job {
            Job::Open { at, filter, opened } => {
                let cursor = shared.jobs.cursor(shared, at, &filter);
                let result = cursor.map(|cursor| shared.jobs.keep(at, filter, cursor));
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

/// Reads a piece.
fn read(shared: &Shared, at: Position, filter: Arc<Filter>) -> Result<Found, CursorError> {
    let mut cursor = shared.jobs.cursor(shared, at, &filter)?;
    let first_seq = match at.offset {
        0 => shared.view.first_seq_of(at.number),
        _ => None,
    };
    let mut builder = Builder::new(at, first_seq, 0);
    let mut looked = 0;
    let mut is_end = false;
    let gap = loop {
        match cursor.step()? {
            Step::Line(line) => {
                builder.push(&line, &filter);
                looked += line.bytes.len() as u64 + 1;
                if builder.bytes() >= TURN_BYTES || looked >= LOOK_BYTES {
                    break None;
                }
            }
            Step::Notice(Notice::HalfLine { .. } | Notice::TooLong { .. }) => {}
            Step::Notice(notice) => break Some(matches!(notice, Notice::Gap { .. })),
            Step::End => {
                is_end = true;
                break None;
            }
        }
    };
    let next = cursor.position();
    shared.jobs.keep(next, filter, cursor);
    if let Some(is_counted) = gap {
        return Ok(Found::Gap(Arc::new(builder.finish()), next, is_counted));
    }
    builder.pass(next);
    if is_end && next == at {
        std::thread::sleep(NO_PROGRESS);
    }
    Ok(Found::Chunk(Arc::new(builder.finish())))
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
