//! Group commit: the single events that come in on a worker's connections in one round are committed as one frame.
//!
//! A frame costs something whatever it holds: a block, a header, a place in the ring, a slice of a `writev`. A client that sends
//! one event and waits for its answer sends one line. So a connection adds its lines to the group of the worker it runs on, lets
//! the coroutines that are ready do the same, and then sees to it that the group is committed: who comes back first does it for
//! all. No answer leaves before.
//!
//! # Invariants
//!
//! - The lines of a group have their blocks: a 202 that is rendered already can be kept.
//! - A group's number changes when it has been committed, under the same lock. Whoever finds it changed knows that his lines are.
//! - Whatever adds a line may panic; no part of a line is left then.
//!
//! # Bounds
//!
//! A group for each worker, for one round of the worker's coroutines: [`GROUP_BYTES_MAX`] of lines, or one line if that is longer; for each
//! producer in it a waiter for each level that it waits for.
//!
//! Owner: a group is locked while a line is added, which for a short event includes reading it, and for its commit; never across a
//! yield. A coroutine that another worker takes over locks the group that it has added to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crossbeam::utils::CachePadded;

use super::blocks::Block;
use super::frame::Awaited;
use super::{Level, Shared};
use crate::event::Lines;

/// A group is committed before it gets longer than this, in bytes of lines: what stays in a core's second-level cache.
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
    pub waiters: Vec<Awaited>,
    /// How many groups there were before it here.
    number: u64,
}

/// What a producer has in a group. It is committed once the group there has another number.
#[derive(Clone, Copy)]
pub struct Membership {
    /// The group's place among [`Groups`].
    pub at: usize,
    number: u64,
    /// The level that the producer waits for.
    pub level: Level,
}

impl Groups {
    /// A group for each of `workers`.
    pub fn new(workers: usize) -> Groups {
        Groups {
            groups: (0..workers.max(1)).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Where the group of this thread is: they have the groups by turns, each worker its own. A coroutine may be on another
    /// thread after it has waited.
    // Not inlined: the address of a thread-local must not be kept across a yield.
    #[inline(never)]
    pub fn here(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            // Relaxed: only the number counts.
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        NUMBER.with(|number| number % self.groups.len())
    }

    /// Locks the group at that place.
    ///
    /// # Panics
    /// If a commit there has panicked: nobody takes his lines for committed then.
    pub fn lock(&self, at: usize) -> MutexGuard<'_, Group> {
        self.groups[at].lock().expect("no commit of a group panics")
    }

    /// Locks the group at that place, unless a commit there has panicked.
    pub fn lock_if_sound(&self, at: usize) -> Option<MutexGuard<'_, Group>> {
        self.groups[at].lock().ok()
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

    /// The membership of a producer that adds a line here, where the group is `at`. `before` is the one it has, if any.
    pub fn membership(&self, at: usize, before: Option<Membership>) -> Membership {
        let here = before.filter(|before| before.at == at && before.number == self.number);
        here.unwrap_or(Membership {
            at,
            number: self.number,
            level: Level::Journaled,
        })
    }

    /// Commits what `membership` is of, if nobody has.
    pub fn commit_for(&mut self, membership: Membership, shared: &Shared) {
        if membership.number == self.number {
            self.commit(shared);
        }
    }

    fn commit(&mut self, shared: &Shared) {
        shared.commit(&mut self.reserved, &mut self.lines, self.waiters.drain(..));
        self.number += 1;
    }
}
