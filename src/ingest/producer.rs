//! A producer: what a connection commits events through.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::blocks::{Block, PAYLOAD_BYTES};
use super::completion::Progress;
use super::frame::{Awaited, Frame, blocks_for};
use super::group::Membership;
use super::herald::{Herald, Waiter};
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

/// A frame that was committed, or will be by [`Producer::settle`], to be waited for with [`Producer::wait`].
pub struct Commitment {
    /// The level to wait for, and where it is announced; `None` where the commit itself is all that was asked for.
    awaited: Option<Awaited>,
}

/// A line that was added to a group.
pub struct Joined {
    /// Its place among the lines of the frame.
    pub line: usize,
    /// What to wait for, if a level was asked for; `None` also where that is the same as for the line before that had one.
    pub commitment: Option<Commitment>,
}

/// Why a line was not added to a group.
#[derive(Debug)]
pub enum NotJoined<E> {
    /// There is no room for it.
    Refused(Refused),
    /// It did not come: what was to add it said why.
    Failed(E),
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
    /// The group that lines were added to last, unless they are known to be committed.
    membership: Option<Membership>,
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
            membership: None,
            waiters: Vec::new(),
            barrier: None,
            _lock: lock,
        }
    }

    /// Makes sure that `bytes` of lines, with those reserved before, can be committed: `true` if there was room at once.
    #[inline]
    pub fn try_reserve(&mut self, bytes: usize) -> bool {
        self.shared.try_reserve(&mut self.reserved, bytes)
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
        // What was added to a group came before.
        self.commit_joined();
        let awaited =
            (level > Level::Journaled).then(|| (level, waiter(&mut self.waiters, &self.shared.herald)));
        self.shared
            .commit(&mut self.reserved, lines, awaited.clone().into_iter());
        Commitment { awaited }
    }

    /// Adds one line to the group of this worker, behind what this producer added before; it is not committed until
    /// [`Producer::commit_joined`] or [`Producer::settle`]. `add` is to push it, or to leave the lines as they are, and may take up to
    /// `bytes`. Where there is no room at once, that is waited for as long as `timeout` says; what was added before is then
    /// committed first.
    ///
    /// # Errors
    /// [`NotJoined`].
    ///
    /// # Panics
    /// As `add` does: no part of a line is left then, and one that was whole stays.
    pub fn join<E>(
        &mut self,
        bytes: usize,
        level: Level,
        timeout: impl FnOnce() -> Duration,
        add: impl FnOnce(&mut Lines) -> Result<(), E>,
    ) -> Result<Joined, NotJoined<E>> {
        let mut at = self.shared.groups.here();
        if self.membership.is_some_and(|membership| membership.at != at) {
            self.commit_joined();
        }
        let mut group = self.shared.groups.lock(at);
        group.commit_if_full(&self.shared, bytes);
        if !group.try_reserve(&self.shared, bytes) {
            drop(group);
            // Nobody waits for room while holding some.
            self.commit_joined();
            self.reserve(bytes, timeout()).map_err(NotJoined::Refused)?;
            at = self.shared.groups.here();
            group = self.shared.groups.lock(at);
            group.commit_if_full(&self.shared, bytes);
            group.reserved.append(&mut self.reserved);
        }
        let before = group.lines.mark();
        match catch_unwind(AssertUnwindSafe(|| add(&mut group.lines))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                group.release_if_empty(&self.shared);
                return Err(NotJoined::Failed(error));
            }
            Err(panic) => {
                group.lines.drop_unfinished(before);
                group.release_if_empty(&self.shared);
                drop(group);
                resume_unwind(panic);
            }
        }
        let mut membership = group.membership(at, self.membership);
        let mut commitment = None;
        if level > membership.level {
            membership.level = level;
            let awaited = (level, waiter(&mut self.waiters, &self.shared.herald));
            group.waiters.push(awaited.clone());
            commitment = Some(Commitment {
                awaited: Some(awaited),
            });
        }
        self.membership = Some(membership);
        failpoint::hit("commit.joined");
        Ok(Joined {
            line: group.lines.count() - 1,
            commitment,
        })
    }

    /// Commits what was added to a group, if nobody has.
    pub fn commit_joined(&mut self) {
        if let Some(membership) = self.membership.take() {
            let mut group = self.shared.groups.lock(membership.at);
            group.commit_for(membership, &self.shared);
        }
    }

    /// Lets the coroutines that are ready add to the group too, then commits what was added to it, if nobody has.
    pub fn settle(&mut self) {
        if self.membership.is_some() {
            may::coroutine::yield_now();
            self.commit_joined();
        }
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
            let waiter = waiter(&mut self.waiters, &self.shared.herald);
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

    /// Gives back what was reserved and not used.
    pub fn release(&mut self) {
        self.shared.release(&mut self.reserved);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Nobody waits for an answer any more, but lines are not taken out of a group again.
        if let Some(membership) = self.membership.take()
            && let Some(mut group) = self.shared.groups.lock_if_sound(membership.at)
        {
            group.commit_for(membership, &self.shared);
        }
        self.release();
    }
}

/// A waiter for a new frame: one of `kept`, or a new one.
fn waiter(kept: &mut Vec<Arc<Waiter>>, herald: &Herald) -> Arc<Waiter> {
    let Some(waiter) = kept.pop() else {
        return herald.waiter();
    };
    waiter.completion.reset();
    waiter
}

impl Shared {
    /// Makes sure that `reserved` is enough for `bytes` of lines: `true` if it is.
    #[inline]
    pub(super) fn try_reserve(&self, reserved: &mut Vec<Block>, bytes: usize) -> bool {
        if reserved.len() * PAYLOAD_BYTES >= bytes {
            return true;
        }
        let taken = self.space.take(blocks_for(bytes), reserved);
        if self.space.is_low() && self.journal.can_grow() {
            self.growth.foresee();
        }
        taken
    }

    /// Gives back blocks that were reserved and not used.
    pub(super) fn release(&self, reserved: &mut Vec<Block>) {
        if !reserved.is_empty() {
            self.space.give_back(reserved.drain(..));
        }
    }

    /// Commits `lines` as one frame, into blocks of `reserved`; clears both.
    pub(super) fn commit(
        &self,
        reserved: &mut Vec<Block>,
        lines: &mut Lines,
        awaited: impl ExactSizeIterator<Item = Awaited>,
    ) {
        let needed = blocks_for(lines.bytes().len());
        assert!(
            needed <= reserved.len(),
            "lines are committed into blocks that were reserved for them"
        );
        failpoint::hit("commit.reserved");
        let is_awaited = awaited.len() > 0;
        let ticket = self.ticket.fetch_add(1, Ordering::Relaxed) + 1;
        // Acquire: pairs with the writer's store, so that the base is not ahead of the lines before it.
        let base = self.published.load(Ordering::Acquire);
        let blocks = reserved.drain(..needed);
        let frame = Frame::commit(self.journal.region(), blocks, lines, ticket, base, awaited);
        // The ring has a slot for each block of the journal, and each frame has a block of its own.
        assert!(
            self.ring.push(frame).is_ok(),
            "the ring has room for every frame there can be"
        );
        failpoint::hit("commit.pushed");
        if is_awaited {
            self.herald.ring_soon();
        } else {
            self.doorbell.ring(false);
        }
        lines.clear();
        self.release(reserved);
    }
}
