//! Where the log ends, and who is woken when that moves.
//!
//! One who follows the log within the server is woken by publishing. The writer pays for it, after each publication, an
//! uncontended lock, a fence and a load; a system call only where the follower sleeps, which it arms the bell for, so once
//! for each of its sleeps.
//!
//! # Why no wake-up is lost
//!
//! Dekker's pattern, as in `doorbell.rs`: the writer stores the end, then looks whether the bell is armed; the follower arms
//! it, then looks at the end. Each puts a `SeqCst` fence between the two.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;

use super::View;
use crate::log::catalog::Catalog;
use crate::log::cursor::Position;

/// The end of what is published and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Behind the last line.
    pub at: Position,
    /// The number that the next event will have; `None` while the log is being counted after the start.
    pub next_seq: Option<u64>,
}

/// The end of the log, and the bell of the one who follows it.
pub(super) struct Tip {
    /// Stored by the writer when it has counted what it published and when it has begun a file. Locked for a copy.
    end: Mutex<End>,
    /// Stored by the follower before it sleeps, swapped back by whoever wakes it.
    armed: AtomicBool,
    /// Locked by the follower when it comes, and by whoever wakes it.
    follower: Mutex<Option<Thread>>,
}

impl Tip {
    /// The end of a log that is not counted yet.
    pub fn new(at: Position) -> Tip {
        Tip {
            end: Mutex::new(End { at, next_seq: None }),
            armed: AtomicBool::new(false),
            follower: Mutex::new(None),
        }
    }

    /// The end has moved. Only the writer says so.
    pub fn moved(&self, at: Position, next_seq: u64) {
        let end = End {
            at,
            next_seq: Some(next_seq),
        };
        *self.end.lock().expect("no holder of this lock panics") = end;
        // Pairs with the fence in `wait`.
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    fn end(&self) -> End {
        *self.end.lock().expect("no holder of this lock panics")
    }

    #[cold]
    fn wake(&self) {
        if self.armed.swap(false, Ordering::AcqRel)
            && let Some(follower) = &*self.follower.lock().expect("no holder of this lock panics")
        {
            follower.unpark();
        }
    }
}

/// What those who follow the log look at.
impl View {
    /// Where the log ends now: whatever was acknowledged as written is before it.
    pub fn end(&self) -> End {
        self.shared.tip.end()
    }

    /// Makes the calling thread the one who is woken when the log grows. There is one.
    pub fn follow(&self) {
        let me = std::thread::current();
        *self
            .shared
            .tip
            .follower
            .lock()
            .expect("no holder of this lock panics") = Some(me);
    }

    /// Sleeps until the log's end is no longer `seen`, or `timeout`; also now and then for nothing. Only for who follows it.
    pub fn wait_for_more(&self, seen: Position, timeout: Duration) {
        let tip = &self.shared.tip;
        tip.armed.store(true, Ordering::Relaxed);
        // Pairs with the fence in `moved`.
        fence(Ordering::SeqCst);
        if tip.end().at == seen {
            std::thread::park_timeout(timeout);
        }
        tip.armed.store(false, Ordering::Relaxed);
    }

    /// Bytes of the log between that place and its end.
    pub fn bytes_behind(&self, at: Position) -> u64 {
        let end = self.end().at;
        let catalog = &self.shared.catalog;
        match at.number == end.number {
            true => end.offset.saturating_sub(at.offset),
            false => (base_of(catalog, end.number) + end.offset)
                .saturating_sub(base_of(catalog, at.number) + at.offset),
        }
    }

    /// The number of the first event in that file, if the file is known.
    pub fn first_seq_of(&self, number: u64) -> Option<u64> {
        let catalog = &self.shared.catalog;
        // In this order: a file that is sealed meanwhile is found as a segment.
        let front = catalog.front();
        match front.number == number {
            true => Some(front.first_seq),
            false => Some(catalog.segment(number)?.summary.first_seq),
        }
    }
}

/// Position of a file's first byte among all that the log ever had.
fn base_of(catalog: &Arc<Catalog>, number: u64) -> u64 {
    // In this order: a file that is sealed meanwhile is found as a segment.
    let front = catalog.front();
    match catalog.segment(number) {
        Some(segment) if number != front.number => segment.base,
        _ => front.base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    /// A follower that sleeps whenever it has seen the end misses none of a writer's steps, however the two meet.
    #[test]
    fn who_follows_is_woken_by_each_step() {
        let tip = Arc::new(Tip::new(Position::FIRST));
        let seen = Arc::new(AtomicU64::new(0));
        let follower = thread::spawn({
            let (tip, seen) = (Arc::clone(&tip), Arc::clone(&seen));
            move || {
                *tip.follower.lock().unwrap() = Some(thread::current());
                while seen.load(Ordering::Relaxed) < 20_000 {
                    tip.armed.store(true, Ordering::Relaxed);
                    fence(Ordering::SeqCst);
                    if tip.end().at.offset == seen.load(Ordering::Relaxed) {
                        // Armed anew after each, as it may have been for the step before. Without a limit: a wake-up that is lost shows.
                        thread::park();
                    }
                    seen.store(tip.end().at.offset, Ordering::Relaxed);
                }
            }
        });
        for offset in 1..=20_000 {
            tip.moved(Position { number: 1, offset }, offset);
            while offset % 7 == 0 && seen.load(Ordering::Relaxed) < offset {
                thread::yield_now();
            }
        }
        follower.join().unwrap();
    }
}
