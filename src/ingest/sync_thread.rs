//! The sync thread: `fdatasync` of the log, beside the writer, so that appends go on.
//!
//! It syncs when somebody waits for `synced` (all who wait at that moment share one sync: group commit) and by the policy
//! of `METRICS_FSYNC`. A sync covers what was published before it began.
//!
//! # A failed sync is not forgotten
//!
//! See [`super::doubt`].
//!
//! # The page cache is not the log's to fill
//!
//! What is on the disk and older than the newest [`EngineConfig::page_cache`](super::EngineConfig::page_cache) bytes is
//! dropped from the page cache. Without that a log that grows for ever pushes out what other programs have there, and each
//! of its pages is a new one; so the pages of the log go round, still warm in the processor's caches and, on a virtual
//! machine, already backed by the host's memory. `docs/ARCHITECTURE.md` has the measurement.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::doubt::Failure;
use super::herald::{Herald, Waiter};
use super::{EngineConfig, Shared};
use crate::log::fs::{AppendFile, DirectoryError, Fs};

/// With [`FsyncPolicy::Every`], the log is synced when so many bytes are new, though its time has not come: a sync then never
/// has so much to write that appends wait behind it, and the log's pages go round while they are still in the processor's
/// caches.
const DIRTY_BYTES_MAX: u64 = 16 << 20;

/// What takes the kernel time by the byte is asked of it in such pieces, between which others have their turn: a third of a
/// millisecond each. It does not take the processor from a thread that is inside of it, so that a worker on the same core would wait
/// for the whole. A power of two, and no smaller than the largest folio, which could not be dropped in parts.
const PIECE_BYTES: u64 = 2 << 20;

/// Events that come faster than the disk takes them leave ever more to sync: after so long the writer rests all the same, and
/// with that they are held up.
const NEARING_MAX: Duration = Duration::from_secs(10);

/// A sync that has been under way for so long may not end at all.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// When the log is synced though nobody waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Not at all: the kernel writes back when it likes.
    Never,
    /// After each publication.
    Always,
    /// This often, if there is something new, and whenever 16 MiB are new.
    Every(Duration),
}

/// How long after it could not be opened the directory is tried again.
const OPEN_AGAIN: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Work {
    pub file: Option<Arc<dyn AppendFile>>,
    /// How many files there were before this one: a sync that was under way when the file changed says nothing of the new one.
    pub generation: u64,
    /// Bytes in the file, and their CRC-32C; nobody knows before the file is counted.
    pub is_counted: bool,
    pub published: u64,
    pub checksum: u32,
    /// Bytes that are on the disk, and their CRC-32C.
    pub synced: u64,
    pub synced_checksum: u32,
    /// Bytes from the file's start that have been dropped from the page cache.
    uncached: u64,
    /// The file before, and what of it is still there: the newest bytes of the log, until this one has as many.
    before: Option<(Arc<dyn AppendFile>, Range<u64>)>,
    /// Who waits for the log to be on the disk up to which byte; ascending.
    pub waiters: VecDeque<(u64, Arc<Waiter>)>,
    /// The writer waits for all of it, or for little of it to be left.
    pub is_demanded: bool,
    /// Since when a sync is under way.
    syncing: Option<Instant>,
    /// Syncs of this file that have ended.
    pub syncs: u64,
    /// Since when the writer wants to seal the file, and how many syncs had ended then.
    pub nearing: Option<(Instant, u64)>,
    /// The file has not been in its directory for long: the directory is synced before it.
    pub is_entry_new: bool,
    /// A sync of this file has failed: it is not synced any more.
    pub failure: Option<Failure>,
    /// Failures since the last sync of some bytes that succeeded.
    pub failures_in_a_row: u32,
    /// Nothing is tried before.
    pub not_before: Option<Instant>,
    pub stopping: bool,
}

/// What the writer and the sync thread share. Locked by each for a moment, never across a sync.
pub(super) struct SyncThread {
    policy: FsyncPolicy,
    /// The newest bytes that stay in the page cache; `None`: all that the kernel likes.
    page_cache: Option<u64>,
    pub(super) fs: Arc<dyn Fs>,
    directory: PathBuf,
    work: Mutex<Work>,
    pub(super) bell: Condvar,
}

impl SyncThread {
    pub fn new(
        config: &EngineConfig,
        (fs, directory): (Arc<dyn Fs>, &Path),
        file: Option<Arc<dyn AppendFile>>,
    ) -> SyncThread {
        let work = Work {
            // Whoever made it may have died before its name was on the disk.
            is_entry_new: file.is_some(),
            file,
            ..Work::default()
        };
        SyncThread {
            policy: config.fsync,
            page_cache: config.page_cache,
            fs,
            directory: directory.to_owned(),
            work: Mutex::new(work),
            bell: Condvar::new(),
        }
    }

    /// The writer has published up to `length`; so far the file's CRC-32C is `checksum`.
    pub fn published(&self, file: Option<&Arc<dyn AppendFile>>, length: u64, checksum: u32) {
        let mut work = self.work();
        if work.file.is_none() {
            work.file = file.cloned();
        }
        (work.published, work.checksum) = (length, checksum);
        let is_first = !std::mem::replace(&mut work.is_counted, true);
        if is_first || !work.waiters.is_empty() || work.failure.is_some() || self.is_due(&work) {
            self.bell.notify_one();
        }
    }

    /// `waiter` is to be told when the log is on the disk up to byte `end`. [`SyncThread::published`] follows.
    pub fn wait_for(&self, end: u64, waiter: Arc<Waiter>) {
        self.work().waiters.push_back((end, waiter));
    }

    /// Whether the rest of the file can be brought to the disk in a moment, for which the writer may stand. Until then the
    /// thread syncs without a pause, and rings the writer's bell after each time, while writing goes on. A sync that was
    /// under way for long when this was asked first has to end: on a disk that hangs little can be left for ever.
    pub fn is_near(&self) -> bool {
        let mut work = self.work();
        let ended = work.syncs;
        let (since, before) = *work.nearing.get_or_insert_with(|| (Instant::now(), ended));
        let left = work.published.saturating_sub(work.synced);
        let is_little = || left <= DIRTY_BYTES_MAX || since.elapsed() >= NEARING_MAX;
        let is_slow = work.syncing.is_some_and(|begun| begun.elapsed() >= SLOW_AFTER);
        let is_prompt = !is_slow || ended > before;
        let is_near = work.failure.is_some() || left == 0 || (is_prompt && is_little());
        if is_near {
            work.nearing = None;
        } else {
            work.is_demanded = true;
            self.bell.notify_one();
        }
        is_near
    }

    /// Whether the bell will be rung for what [`SyncThread::is_near`] was asked.
    pub fn is_nearing(&self) -> bool {
        let work = self.work();
        work.nearing.is_some() && work.is_demanded
    }

    /// Has the thread sync what is published, whatever the policy says.
    pub fn demand(&self) {
        self.work().is_demanded = true;
        self.bell.notify_one();
    }

    /// Whether the file is on the disk up to `length`, or what is in doubt of it has been seen to.
    pub fn is_settled(&self, length: u64) -> bool {
        self.work().synced >= length
    }

    /// Bytes that are published and not known to be on the disk.
    pub fn unsynced_bytes(&self) -> u64 {
        let work = self.work();
        work.published - work.synced
    }

    /// From here on all is about a new, empty file. Who still waits for the one before is told whether it is on the disk.
    pub fn turn_to(&self, file: Option<&Arc<dyn AppendFile>>, is_synced: bool, herald: &Herald) {
        let mut work = self.work();
        let waiters = std::mem::take(&mut work.waiters);
        // What is in doubt stays in memory as long as it may.
        let before = work.file.take().filter(|_| work.failure.is_none());
        let before = before.map(|file| (file, work.uncached..work.published));
        *work = Work {
            generation: work.generation + 1,
            before,
            is_counted: true,
            is_entry_new: file.is_some(),
            file: file.cloned(),
            failures_in_a_row: work.failures_in_a_row,
            syncing: work.syncing,
            stopping: work.stopping,
            ..Work::default()
        };
        self.bell.notify_one();
        drop(work);
        for (_, waiter) in waiters {
            waiter.completion.synced(is_synced);
            herald.enqueue(waiter);
        }
        herald.wake();
    }

    /// The live file, once there is one.
    pub fn file(&self) -> Option<Arc<dyn AppendFile>> {
        self.work().file.clone()
    }

    pub(super) fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().expect("no holder of this lock panics")
    }

    /// Ends the thread after a last sync.
    pub fn stop(&self) {
        self.work().stopping = true;
        self.bell.notify_one();
    }

    /// The thread's body. Answers whether all that was published is on the disk.
    pub fn run(&self, shared: &Shared) -> bool {
        let mut last = Instant::now();
        let mut work = self.work();
        loop {
            if work.failure.is_some() {
                let outcome;
                (work, outcome) = self.attend_to_failure(work, shared);
                match outcome {
                    Some(is_safe) => return is_safe,
                    None => continue,
                }
            }
            let dirty = work.published > work.synced;
            let in_time = |interval| dirty && last.elapsed() >= interval;
            let due = match self.policy {
                FsyncPolicy::Every(interval) if in_time(interval) => true,
                _ => self.is_due(&work),
            };
            let awaited = work
                .waiters
                .front()
                .is_some_and(|(wanted, _)| *wanted <= work.published);
            let demanded = dirty && work.is_demanded;
            let wanted = awaited || due || demanded || (work.stopping && dirty) || work.is_entry_new;
            let now = Instant::now();
            if let Some(then) = work
                .not_before
                .filter(|then| wanted && *then > now && !work.stopping)
            {
                work = self.wait(work, then - now);
                continue;
            }
            if wanted {
                work = self.sync(work, shared);
                work = self.uncache(work);
                last = Instant::now();
                continue;
            }
            if work.stopping {
                return true;
            }
            work = match self.policy {
                FsyncPolicy::Every(interval) => {
                    let left = interval
                        .saturating_sub(last.elapsed())
                        .max(Duration::from_millis(1));
                    let left = if dirty { left } else { interval };
                    self.wait(work, left)
                }
                _ => self.bell.wait(work).expect("no holder of this lock panics"),
            };
        }
    }

    pub(super) fn wait<'a>(&self, work: MutexGuard<'a, Work>, timeout: Duration) -> MutexGuard<'a, Work> {
        let waited = self.bell.wait_timeout(work, timeout);
        waited.expect("no holder of this lock panics").0
    }

    fn sync<'a>(&'a self, mut work: MutexGuard<'a, Work>, shared: &Shared) -> MutexGuard<'a, Work> {
        let (file, start) = (work.file.clone(), work.synced);
        let (end, checksum) = (work.published, work.checksum);
        let (generation, is_entry_new) = (work.generation, work.is_entry_new);
        work.syncing = Some(Instant::now());
        drop(work);
        let directory = match is_entry_new {
            true => self.fs.sync_directory(&self.directory),
            false => Ok(()),
        };
        let began = Instant::now();
        let result = match (directory, &file) {
            (Ok(()), Some(file)) => {
                in_pieces(start..end.saturating_sub(PIECE_BYTES), |piece| {
                    file.write_out(piece)
                });
                file.sync_data().map_err(DirectoryError::Sync)
            }
            (directory, _) => directory,
        };
        if file.is_some() && result.is_ok() {
            shared.status.fsync.record(began);
        }
        let mut work = self.work();
        work.syncing = None;
        if work.generation != generation {
            return work;
        }
        work.syncs += 1;
        if work.nearing.is_some() {
            shared.herald.ring_soon();
        }
        match result {
            Ok(()) => {
                (work.synced, work.synced_checksum) = (end, checksum);
                // What came meanwhile is still wanted.
                work.is_demanded &= work.published > end;
                (work.is_entry_new, work.not_before) = (false, None);
                if end > 0 {
                    work.failures_in_a_row = 0;
                }
                let has_failed = shared.status.synced(end);
                work.tell_waiters(end, true, &shared.herald);
                if has_failed {
                    drop(work);
                    self.unmark(shared);
                    work = self.work();
                }
            }
            Err(DirectoryError::Open(error)) if !work.stopping => {
                tracing::warn!(%error, "the log's directory cannot be opened to sync it; trying again");
                work.not_before = Some(Instant::now() + OPEN_AGAIN);
            }
            Err(DirectoryError::Open(error) | DirectoryError::Sync(error)) => work.fail(&error, shared),
        }
        work
    }

    /// Whether there is something to sync now, whatever the time.
    fn is_due(&self, work: &Work) -> bool {
        let dirty_bytes = work.published.saturating_sub(work.synced);
        match self.policy {
            FsyncPolicy::Never => false,
            FsyncPolicy::Always => dirty_bytes > 0,
            FsyncPolicy::Every(_) => dirty_bytes >= DIRTY_BYTES_MAX,
        }
    }

    /// Drops from the page cache what is on the disk and not among the newest bytes.
    fn uncache<'a>(&'a self, mut work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        let Some((file, kept)) = work.file.clone().zip(self.page_cache) else {
            return work;
        };
        let (from, to) = (
            work.uncached,
            work.synced.saturating_sub(kept) & !(PIECE_BYTES - 1),
        );
        let before = match work.synced >= kept {
            true => work.before.take(),
            false => None,
        };
        if from < to || before.is_some() {
            work.uncached = work.uncached.max(to);
            drop(work);
            if let Some((file, rest)) = before {
                in_pieces(rest, |piece| file.uncache(piece));
            }
            in_pieces(from..to, |piece| file.uncache(piece));
            work = self.work();
        }
        work
    }
}

/// Calls `each` with the pieces of `bytes`, the file's last one cut short, and gives way after each.
fn in_pieces(bytes: Range<u64>, each: impl Fn(Range<u64>)) {
    let mut start = bytes.start;
    while start < bytes.end {
        let end = (start / PIECE_BYTES + 1) * PIECE_BYTES;
        each(start..end.min(bytes.end));
        std::thread::yield_now();
        start = end;
    }
}

impl Work {
    /// Tells those who wait for the file up to byte `end` whether it is on the disk.
    pub fn tell_waiters(&mut self, end: u64, is_synced: bool, herald: &Herald) {
        let is_told = |(wanted, _): &(u64, Arc<Waiter>)| *wanted <= end;
        let told = self.waiters.iter().take_while(|waiter| is_told(waiter)).count();
        for (_, waiter) in self.waiters.drain(..told) {
            waiter.completion.synced(is_synced);
            herald.enqueue(waiter);
        }
        if told > 0 {
            herald.wake();
        }
    }
}
