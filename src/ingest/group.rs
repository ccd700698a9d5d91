//! Group commit: the single events that come in on a worker's connections in one round are committed as one frame.
//!
//! A frame costs something whatever it holds: a block, a header, a place in the ring, a slice of a `writev`. A client that sends one
//! event and waits for its answer sends one line. So a connection adds its lines to the group of the worker it runs on, lets the
//! connections that are ready do the same, and then sees to it that the group is committed: who comes first does it for all. No
//! answer leaves before.
//!
//! # Invariants
//!
//! - The lines of a group have their blocks: a 202 that is rendered already can be kept.
//! - A group's number changes only after it is committed. So whoever finds the number changed knows that its lines are.
//! - What adds a line may panic; the group is then as it was before. A panic in a commit poisons the lock: nobody takes its lines
//!   for committed.
//!
//! # Bounds
//!
//! A group for each worker, of [`GROUP_BYTES_MAX`] and one line; one who waits for each connection in it. It lasts for one
//! round of its worker.
//!
//! Owner: a group is locked for the time of one line or of one commit. Its worker alone uses it, unless a connection goes on on
//! another one between adding and committing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crossbeam::utils::CachePadded;

use super::blocks::Block;
use super::frame::Awaited;
use super::{Level, Shared};
use crate::event::Lines;

/// A group is committed before it gets longer than this, in bytes of lines: a frame that stays in a core's second-level cache.
pub const GROUP_BYTES_MAX: usize = 64 << 10;

/// The groups of all workers.
pub struct Groups {
    groups: Box<[CachePadded<Mutex<Group>>]>,
}

/// Lines of several producers that are not committed yet.
#[derive(Default)]
pub struct Group {
    pub lines: Lines,
    /// Blocks for all of them.
    pub reserved: Vec<Block>,
    /// Who waits for a level.
    pub awaited: Vec<Awaited>,
    /// How many groups there were before it here.
    number: u64,
}

/// Where the latest lines of a producer are. They are committed once the group there has another number.
#[derive(Clone, Copy)]
pub struct Place {
    pub worker: usize,
    number: u64,
    /// The level that the producer waits for there.
    pub awaited: Level,
}

impl Groups {
    /// A group for each of `workers`.
    pub fn new(workers: usize) -> Groups {
        Groups {
            groups: (0..workers.max(1)).map(|_| CachePadded::default()).collect(),
        }
    }

    /// The worker that the caller runs on, as a place among the groups. A coroutine may be on another after it has waited.
    // Not inlined: the address of a thread-local must not be kept across a yield.
    #[inline(never)]
    pub fn worker(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            // Relaxed: only the number counts.
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        NUMBER.with(|number| number % self.groups.len())
    }

    /// The group of that worker.
    ///
    /// # Panics
    /// If a commit there has panicked.
    pub fn open(&self, worker: usize) -> MutexGuard<'_, Group> {
        self.open_if_sound(worker).expect("no commit of a group panics")
    }

    /// The group of that worker, unless a commit there has panicked.
    pub fn open_if_sound(&self, worker: usize) -> Option<MutexGuard<'_, Group>> {
        self.groups[worker].lock().ok()
    }
}

impl Group {
    /// Commits what is here if `bytes` of lines more would be too much.
    pub fn commit_if_full(&mut self, shared: &Shared, bytes: usize) {
        if !self.lines.is_empty() && self.lines.bytes().len() + bytes > GROUP_BYTES_MAX {
            self.commit(shared);
        }
    }

    /// Makes sure that there are blocks for `bytes` of lines more: `true` if there are.
    pub fn try_reserve(&mut self, shared: &Shared, bytes: usize) -> bool {
        shared.try_reserve(&mut self.reserved, self.lines.bytes().len() + bytes)
    }

    /// A line did not come after all: blocks that are not needed for others go back.
    pub fn release_if_empty(&mut self, shared: &Shared) {
        if self.lines.is_empty() {
            shared.release(&mut self.reserved);
        }
    }

    /// The place of a line that `producer` adds here, which had `before`.
    pub fn place(&self, worker: usize, before: Option<Place>) -> Place {
        let here = before.filter(|place| place.worker == worker && place.number == self.number);
        here.unwrap_or(Place {
            worker,
            number: self.number,
            awaited: Level::Journaled,
        })
    }

    /// Commits the lines at `place`, if nobody has.
    pub fn commit_at(&mut self, place: Place, shared: &Shared) {
        if place.number == self.number {
            self.commit(shared);
        }
    }

    fn commit(&mut self, shared: &Shared) {
        shared.commit(&mut self.reserved, &mut self.lines, self.awaited.drain(..));
        self.number += 1;
    }
}
