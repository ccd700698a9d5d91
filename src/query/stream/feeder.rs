//! The feeder: one thread that follows the log's end and puts what is new into the ring, for all subscribers that keep up.
//!
//! It rests while there is no subscriber, and the writer then pays for a look at a flag. Otherwise it sleeps until the log
//! grows, takes what there is, and then lets events gather ([`GATHER`]): the first event after a pause is there at once, and a
//! stream of them comes in batches, for each of which a subscriber is woken once.
//!
//! One that cannot keep up itself, because a log grows faster than a thread reads, is moved on like a subscriber that
//! lags.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chunk::{Builder, Chunk};
use super::filter::Filter;
use super::{CHUNK_BYTES, RING_BYTES_MAX, Shared};
use crate::background;
use crate::ingest::End;
use crate::log::cursor::{Cursor, CursorError, Notice, Start, Step};

/// How long events gather: a person sees no difference between the shortest and none.
const GATHER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// Within that, how long for each subscriber that is to be woken for them: ten thousand wake-ups a second, at some ten
/// microseconds, are a tenth of a core.
const GATHER_EACH: Duration = Duration::from_micros(100);
/// Bytes of text that are put into the ring at a time: an eighth of it, so that subscribers get at what is there while the
/// feeder reads on.
const BATCH_BYTES: usize = super::RING_BYTES_MAX / 8;
/// Room for a chunk's text: it is full with the first event that goes beyond.
const ROOM_BYTES: usize = CHUNK_BYTES + (2 << 10);
/// How long it sleeps at most. The log's files may be sealed, and removed, while nothing is stored; it should let go of them.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// The pause after a failure to read.
const RETRY: Duration = Duration::from_secs(1);

/// The thread's body.
pub(super) fn run(shared: &Shared) {
    background::enter();
    shared.view.follow();
    while let Some(start) = await_subscribers(shared) {
        if let Err(error) = follow(shared, start) {
            tracing::warn!(%error, "the live stream cannot read the log; trying again");
            std::thread::park_timeout(RETRY);
        }
    }
}

/// Sleeps while there are no subscribers. Where to begin; `None` when the server ends.
fn await_subscribers(shared: &Shared) -> Option<End> {
    loop {
        if shared.is_stopping() {
            return None;
        }
        {
            let mut state = shared.lock();
            if !state.rests() {
                return Some(state.fed_to());
            }
        }
        std::thread::park();
    }
}

/// Follows the log from `start` on, until there are no subscribers.
fn follow(shared: &Shared, start: End) -> Result<(), CursorError> {
    let mut feed = Feed {
        cursor: Cursor::open(&shared.log, Start::At(start.at))?,
        end: start,
        all: Filter::of_spelt(Vec::new()),
    };
    // Less than that it may always be behind: it reads in batches.
    let lag_max = shared.policy.lag_max.map(|max| max.max(RING_BYTES_MAX as u64));
    while !shared.is_stopping() && !shared.lock().rests() {
        let seen = shared.view.end();
        let began = Instant::now();
        let (chunks, stop) = feed.read(shared)?;
        if stop == Stop::End && feed.end.at == seen.at {
            feed.end.next_seq = seen.next_seq;
        }
        let gather = publish(shared, chunks, feed.end);
        let lag = shared.view.bytes_behind(feed.end.at);
        if stop == Stop::Elsewhere {
            let at = feed.cursor.position();
            if at < feed.end.at {
                shared.lock().lose(at.number);
                shared.jobs.forget();
            }
            feed.go_on(shared, End { at, next_seq: None });
        } else if lag_max.is_some_and(|max| lag > max) {
            let end = shared.view.end();
            feed.cursor.go_to(end.at)?;
            feed.go_on(shared, end);
        } else if stop == Stop::End {
            // In this order: where there is more after that, nobody has to wake it.
            std::thread::sleep(gather.saturating_sub(began.elapsed()));
            shared.view.wait_for_more(seen.at, SLEEP_MAX);
        }
    }
    Ok(())
}

/// Puts chunks that end at `end` into the ring. How long the next events should gather.
fn publish(shared: &Shared, chunks: Vec<Arc<Chunk>>, end: End) -> Duration {
    let mut names: Vec<Box<[u8]>> = chunks.iter().flat_map(|chunk| chunk.names()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    let waiting = shared.change(|state| state.push(chunks, &names, end));
    (GATHER_EACH * waiting as u32).clamp(GATHER.0, GATHER.1)
}

struct Feed {
    cursor: Cursor,
    /// How far it is.
    end: End,
    all: Filter,
}

/// Why reading has stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// There is no more.
    End,
    /// There is enough for a batch.
    Batch,
    /// Files are gone, or somebody has laid hands on the live one: what follows is not what was to follow.
    Elsewhere,
}

impl Feed {
    /// Reads on.
    fn read(&mut self, shared: &Shared) -> Result<(Vec<Arc<Chunk>>, Stop), CursorError> {
        let mut chunks = Vec::new();
        let mut bytes = 0;
        let mut builder = Builder::new(self.end.at, self.end.next_seq, ROOM_BYTES);
        let stop = loop {
            match self.cursor.step()? {
                Step::Line(line) => {
                    let is_first = line.at.offset == 0;
                    if is_first || builder.bytes() >= CHUNK_BYTES {
                        let seq = match is_first {
                            true => shared.view.first_seq_of(line.at.number),
                            false => builder.next_seq(),
                        };
                        bytes += builder.bytes();
                        let full = std::mem::replace(&mut builder, Builder::new(line.at, seq, ROOM_BYTES));
                        chunks.push(Arc::new(full.finish()));
                        // After a rest of the writer there is much at once.
                        std::thread::yield_now();
                    }
                    builder.push(&line, &self.all);
                    if bytes + builder.bytes() >= BATCH_BYTES {
                        break Stop::Batch;
                    }
                }
                Step::Notice(Notice::HalfLine { .. } | Notice::TooLong { .. }) => {}
                Step::Notice(notice) => {
                    tracing::warn!("the live stream: {notice}");
                    break Stop::Elsewhere;
                }
                Step::End => break Stop::End,
            }
        };
        if stop == Stop::End {
            builder.pass(self.cursor.position());
        }
        let last = builder.finish();
        self.end = End {
            at: last.end,
            next_seq: last.next_seq(last.begin, None),
        };
        chunks.push(Arc::new(last));
        chunks.retain(|chunk| chunk.begin != chunk.end);
        Ok((chunks, stop))
    }

    /// Goes on at `end`, where the cursor is: what lies before is left to the catch-up readers.
    fn go_on(&mut self, shared: &Shared, end: End) {
        self.end = end;
        shared.change(|state| state.restart(end));
    }
}
