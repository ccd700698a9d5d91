//! A producer: what a connection commits events through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::blocks::{Block, PAYLOAD_BYTES};
use super::completion::Progress;
use super::frame::{Frame, blocks_for};
use super::herald::Waiter;
use super::{Level, Shared};
use crate::event::Lines;
use crate::failpoint;
use crate::log::lock::Lock;

/// Why events are not taken. None of them is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The journal stayed full for longer than the caller would wait.
    Full,
    /// The lines are more than half the journal could ever hold.
    TooLarge,
}

/// A frame that was committed, to be waited for with [`Producer::wait`].
pub struct Commitment {
    /// The level to wait for, and where it is announced; `None` where the commit itself is all that was asked for.
    awaited: Option<(Level, Arc<Waiter>)>,
}

/// How far a commit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The level that is reached for certain.
    pub level: Level,
    /// Sequence number of the frame's first line, from [`Level::Written`] up.
    pub first_sequence: u64,
    /// The sync that was waited for failed.
    pub sync_failed: bool,
}

/// Waiters that a producer keeps for its next frames: a burst seldom waits for more.
const WAITERS_KEPT: usize = 4;

/// A connection's way into the journal. It belongs to one coroutine or thread.
pub struct Producer {
    shared: Arc<Shared>,
    /// Blocks taken for lines that are not committed yet.
    reserved: Vec<Block>,
    /// Waiters that nobody holds for an old frame any more.
    waiters: Vec<Arc<Waiter>>,
    /// A request to publish that was not served in time.
    barrier: Option<Arc<Waiter>>,
    /// Held until the last producer is gone: what it commits late must not meet another process's journal.
    _lock: Arc<Lock>,
}

impl Producer {
    pub(super) fn new(shared: Arc<Shared>, lock: Arc<Lock>) -> Producer {
        Producer {
            shared,
            reserved: Vec::new(),
            waiters: Vec::new(),
            barrier: None,
            _lock: lock,
        }
    }

    /// Makes sure that `bytes` of lines, with those reserved before, can be committed: `true` if there was room at once.
    #[inline]
    pub fn try_reserve(&mut self, bytes: usize) -> bool {
        if self.reserved.len() * PAYLOAD_BYTES >= bytes {
            return true;
        }
        let shared = &self.shared;
        let taken = shared.space.take(blocks_for(bytes), &mut self.reserved);
        if shared.space.is_low() && shared.journal.can_grow() {
            shared.growth.foresee();
        }
        taken
    }

    /// As [`Producer::try_reserve`], but waits up to `timeout`. Commit first what is reserved for: who waits
    /// waits with empty hands.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn reserve(&mut self, bytes: usize, timeout: Duration) -> Result<(), Refused> {
        if self.try_reserve(bytes) {
            return Ok(());
        }
        let shared = &self.shared;
        shared.space.give_back(self.reserved.drain(..));
        let blocks = blocks_for(bytes);
        if blocks > shared.journal.region().capacity() as usize / 2 {
            return Err(Refused::TooLarge);
        }
        let press = || {
            shared.doorbell.ring(true);
            shared.growth.demand();
        };
        let taken = shared
            .space
            .take_within(timeout, blocks, &mut self.reserved, press);
        if !taken {
            shared.status.refused();
            return Err(Refused::Full);
        }
        Ok(())
    }

    /// Commits `lines` as one frame and clears them: from here on they survive the process (or, with a journal in memory,
    /// are queued). `level` is what [`Producer::wait`] will wait for.
    ///
    /// # Panics
    /// If there is no line, or no room has been reserved for them.
    pub fn commit(&mut self, lines: &mut Lines, level: Level) -> Commitment {
        let needed = blocks_for(lines.bytes().len());
        assert!(
            needed <= self.reserved.len(),
            "lines are committed into blocks that were reserved for them"
        );
        failpoint::hit("commit.reserved");
        let awaited = (level > Level::Journaled).then(|| (level, self.waiter()));
        let shared = &self.shared;
        let ticket = shared.ticket.fetch_add(1, Ordering::Relaxed) + 1;
        // Acquire: pairs with the writer's store, so that the base is not ahead of the lines before it.
        let base = shared.published.load(Ordering::Acquire);
        let blocks = self.reserved.drain(..needed);
        let frame = Frame::commit(
            shared.journal.region(),
            blocks,
            lines,
            ticket,
            base,
            awaited.clone(),
        );
        // The ring has a slot for each block of the journal, and each frame has a block of its own.
        assert!(
            shared.ring.push(frame).is_ok(),
            "the ring has room for every frame there can be"
        );
        failpoint::hit("commit.pushed");
        if awaited.is_some() {
            shared.herald.ring_soon();
        } else {
            shared.doorbell.ring(false);
        }
        lines.clear();
        self.release();
        Commitment { awaited }
    }

    /// Parks until the frame has reached the level it was committed with, or `timeout`; answers how far it is.
    pub fn wait(&mut self, commitment: Commitment, timeout: Duration) -> Acknowledged {
        match self.wait_or_keep(commitment, timeout) {
            Ok(reached) | Err((reached, _)) => reached,
        }
    }

    /// As [`Producer::wait`], but who waited in vain gets the commitment back, to wait for it again.
    ///
    /// # Errors
    /// How far it is, and the commitment.
    pub fn wait_or_keep(
        &mut self,
        commitment: Commitment,
        timeout: Duration,
    ) -> Result<Acknowledged, (Acknowledged, Commitment)> {
        let Some((level, waiter)) = commitment.awaited else {
            return Ok(Acknowledged {
                level: Level::Journaled,
                first_sequence: 0,
                sync_failed: false,
            });
        };
        let enough = |progress| match level {
            Level::Journaled => true,
            Level::Written => progress != Progress::Pending,
            Level::Synced => matches!(progress, Progress::Synced | Progress::SyncFailed),
        };
        let shared = &self.shared;
        let (progress, first_sequence) = waiter.wait_for_progress(&shared.herald, timeout, enough);
        let reached = Acknowledged {
            level: match progress {
                Progress::Pending => Level::Journaled,
                Progress::Written | Progress::SyncFailed => Level::Written,
                Progress::Synced => Level::Synced,
            },
            first_sequence,
            sync_failed: progress == Progress::SyncFailed,
        };
        if !enough(progress) {
            // The writer and the sync thread may still write to it.
            let awaited = Some((level, waiter));
            return Err((reached, Commitment { awaited }));
        }
        self.keep(waiter);
        Ok(reached)
    }

    /// Has the writer publish what is committed, so that a read that follows sees it. Waits for that up to
    /// `timeout`; not at all while the log cannot be written.
    pub fn publish(&mut self, timeout: Duration) {
        if self.shared.status.is_log_failing() {
            return;
        }
        let published = |progress| progress != Progress::Pending;
        // One that was not served in time is still in the writer's hands: it is waited for again instead of handing in
        // another each time.
        let unserved = self
            .barrier
            .take()
            .filter(|waiter| !published(waiter.completion.progress().0));
        let waiter = unserved.unwrap_or_else(|| {
            let waiter = self.waiter();
            self.shared.barriers.push(Arc::clone(&waiter));
            waiter
        });
        let shared = &self.shared;
        shared.herald.ring_soon();
        let (progress, _) = waiter.wait_for_progress(&shared.herald, timeout, published);
        if published(progress) {
            self.keep(waiter);
        } else {
            self.barrier = Some(waiter);
        }
    }

    fn keep(&mut self, waiter: Arc<Waiter>) {
        if self.waiters.len() < WAITERS_KEPT {
            self.waiters.push(waiter);
        }
    }

    /// A waiter for a new frame.
    fn waiter(&mut self) -> Arc<Waiter> {
        let Some(waiter) = self.waiters.pop() else {
            return self.shared.herald.waiter();
        };
        waiter.completion.reset();
        waiter
    }

    /// Gives back what was reserved and not used.
    pub fn release(&mut self) {
        if !self.reserved.is_empty() {
            self.shared.space.give_back(self.reserved.drain(..));
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.release();
    }
}
