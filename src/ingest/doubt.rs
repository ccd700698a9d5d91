//! What the sync thread does after a failed sync.
//!
//! After a failed `fdatasync` the kernel may have dropped the pages that it could not write, and will report success the next
//! time (that is what "fsyncgate" was about). So the file is not synced again, as if that could prove anything. Instead:
//!
//! ```text
//! sync fails → the writer is asked to seal the file, and rests → what is in doubt is written again, to a fresh file, and
//! synced ([`crate::log::rescue`]) → those who wait are told → the file is sealed, another begun and synced → the sealed
//! one is healed by the keeper
//! ```
//!
//! - Who waits for `synced` waits until the fresh file is on the disk, and is then told that it is; or at once, when that
//!   fails, that it is not. Until the next file has been synced, `synced` is refused to all who come, with a time to
//!   come again, and health says why.
//! - If the fresh file cannot be written either, it is tried again with pauses that double from 1 s to a minute, and so is
//!   a second failure in a row. Meanwhile the writer goes on in the old file, whatever its size: events are taken at the
//!   lower levels, and what is in doubt grows on the disk only.
//! - A process that dies meanwhile leaves an empty file `metrics.doubt`: the next one begins with the whole live file in
//!   doubt.
//! - What cannot be read back as it was written is lost. That is told, and the log goes on with the next file.

use std::io;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use super::Shared;
use super::sync_thread::{SyncThread, Work};
use crate::log::rescue::{self, Doubt, RescueError};

/// First and longest pause before another attempt.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often the writer is asked again to seal the file.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A sync of the live file has failed.
pub(super) struct Failure {
    /// What was on the disk before, and its CRC-32C.
    from: u64,
    before: u32,
    /// What is behind that could not be read back.
    is_lost: bool,
    /// Whether all that is in doubt has been written again at some time.
    is_rescued: bool,
    /// Whether a process after this one would know of it.
    is_marked: bool,
}

impl Work {
    /// A sync has failed.
    pub fn fail(&mut self, error: &io::Error, shared: &Shared) {
        let failure = Failure {
            from: self.synced,
            before: self.synced_checksum,
            is_lost: false,
            is_rescued: false,
            is_marked: false,
        };
        self.failure = Some(failure);
        // Only for a writer that rests can anything be done.
        (self.is_demanded, self.nearing) = (false, None);
        self.pause();
        shared.status.sync_failed(error);
    }

    fn pause(&mut self) {
        let pause = match self.failures_in_a_row {
            0 => Duration::ZERO,
            more => PAUSES.1.min(PAUSES.0 * 2_u32.saturating_pow(more - 1)),
        };
        self.failures_in_a_row += 1;
        self.not_before = Some(Instant::now() + pause);
    }

    /// Whether the file has bytes, published or not; also if nobody can say.
    fn has_bytes(&self) -> bool {
        let length = self.file.as_ref().map(|file| file.length());
        length.is_some_and(|length| !matches!(length, Ok(0)))
    }

    fn time_left(&self) -> Option<Duration> {
        let left = self.not_before?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

impl SyncThread {
    /// Whether a sync of the live file has failed.
    pub fn is_in_doubt(&self) -> bool {
        self.work().failure.is_some()
    }

    /// Until when nothing can be done about what is in doubt.
    pub fn put_off_until(&self) -> Option<Instant> {
        let work = self.work();
        work.failure.as_ref()?;
        work.time_left().map(|left| Instant::now() + left)
    }

    /// One step after a failed sync, and the waiting for the next. `Some`: the thread is to end, and whether all that was
    /// published is on the disk.
    pub(super) fn attend_to_failure<'a>(
        &'a self,
        mut work: MutexGuard<'a, Work>,
        shared: &Shared,
    ) -> (MutexGuard<'a, Work>, Option<bool>) {
        if let Some(failure) = work.failure.as_mut().filter(|failure| !failure.is_marked) {
            failure.is_marked = true;
            drop(work);
            self.mark(shared);
            work = self.work();
            return (work, None);
        }
        if !work.is_counted {
            let is_stopping = work.stopping;
            work = if is_stopping {
                work
            } else {
                self.wait(work, ASK_AGAIN)
            };
            return (work, is_stopping.then_some(false));
        }
        if work.published == 0 && work.has_bytes() {
            // The first of them were appended while the sync was under way, and the writer has not come to say so: they may be
            // what the disk did not take.
            if work.stopping {
                return (work, Some(false));
            }
            return (self.wait(work, ASK_AGAIN), None);
        }
        if work.published == 0 {
            // A file with nothing in it: nothing can have been lost, and its entry may be synced again.
            match work.time_left().filter(|_| !work.stopping) {
                Some(left) => work = self.wait(work, left),
                None if work.stopping => return (work, Some(true)),
                None => (work.failure, work.is_entry_new) = (None, true),
            }
            return (work, None);
        }
        if work.stopping {
            // The writer has ended.
            work = self.rescue(work, shared);
            let failure = work.failure.as_ref();
            // What came after an earlier rescue may not have been written again.
            let is_all = work.synced >= work.published;
            let is_safe = is_all && failure.is_some_and(|failure| failure.is_rescued && !failure.is_lost);
            if is_safe {
                self.unmark(shared);
            }
            return (work, Some(is_safe));
        }
        if let Some(left) = work.time_left() {
            work.tell_waiters(u64::MAX, false, &shared.herald);
            return (self.wait(work, left), None);
        }
        if work.is_demanded {
            return (self.rescue(work, shared), None);
        }
        // With the lock, so that it cannot be for the next file.
        shared.rotation.request();
        drop(work);
        shared.doorbell.ring(true);
        work = self.work();
        if work.failure.is_some() && !work.is_demanded && !work.stopping {
            work = self.wait(work, ASK_AGAIN);
        }
        (work, None)
    }

    /// Takes over what an earlier process left in doubt.
    pub fn take_over(&self, shared: &Shared) -> io::Result<()> {
        if self.fs.stat(&shared.catalog.family().doubt())?.is_some() {
            let error = io::Error::other("an earlier process could not sync it");
            self.work().fail(&error, shared);
        }
        Ok(())
    }

    /// Leaves a word for a process after this one. It is not on the disk, and need not be: after a restart of the machine the
    /// file is looked through in any case.
    fn mark(&self, shared: &Shared) {
        if let Err(error) = self.fs.create(&shared.catalog.family().doubt()) {
            tracing::warn!(%error, "a start after a crash would not know that the log could not be synced");
        }
    }

    /// Nothing is in doubt any more.
    pub(super) fn unmark(&self, shared: &Shared) {
        match self.fs.remove(&shared.catalog.family().doubt()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the next start will take the log for one that could not be synced");
            }
            _ => {}
        }
    }

    /// Writes what is in doubt again, while the writer rests or has ended.
    fn rescue<'a>(&'a self, mut work: MutexGuard<'a, Work>, shared: &Shared) -> MutexGuard<'a, Work> {
        work.is_demanded = false;
        // Asked for twice: the writer may be sealing the file by now, and the number is that of the next.
        if work.synced >= work.published {
            work.failure
                .iter_mut()
                .for_each(|failure| failure.is_rescued = true);
            return work;
        }
        let (Some(failure), Some(file)) = (&work.failure, work.file.clone()) else {
            return work;
        };
        let doubt = Doubt {
            number: shared.catalog.front().number,
            from: failure.from,
            to: work.published,
            before: failure.before,
            after: work.checksum,
        };
        let generation = work.generation;
        drop(work);
        let result = rescue::write(&*self.fs, shared.catalog.family(), &*file, &doubt);
        if let Err(RescueError::Lost(_)) = &result {
            // It proves nothing, but what is there may as well get to the disk.
            file.sync_data().ok();
        }
        let mut work = self.work();
        if work.generation != generation {
            return work;
        }
        let Some(failure) = &mut work.failure else {
            return work;
        };
        let bytes = doubt.to - doubt.from;
        match result {
            Ok(()) => {
                failure.is_rescued = true;
                shared.status.sync_rescued(bytes);
            }
            Err(RescueError::Lost(error)) => {
                failure.is_lost = true;
                shared.status.sync_lost(bytes, &error);
            }
            Err(RescueError::Io(error)) => {
                work.pause();
                shared.status.sync_failed(&error);
                work.tell_waiters(doubt.to, false, &shared.herald);
                return work;
            }
        }
        let is_safe = !failure.is_lost;
        (work.synced, work.synced_checksum) = (doubt.to, doubt.after);
        work.tell_waiters(doubt.to, is_safe, &shared.herald);
        work
    }
}
