//! The sync thread: `fdatasync` of the log, beside the writer, so that appends go on.
//!
//! It syncs when somebody waits for `synced` (all who wait at that moment share one sync: group commit) and by the policy
//! of `METRICS_FSYNC`. A sync covers what was published before it began.
//!
//! # A failed sync is not forgotten
//!
//! After a failed `fdatasync` the kernel may have dropped the dirty pages and will report success the next time (that is
//! what "fsyncgate" was about), so a later success proves nothing about the bytes of now. The failure is sticky: those
//! who wait get an error, so does everyone who asks for `synced` afterwards, and health shows it until the process is
//! restarted on a disk that somebody has looked at.
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

use super::EngineConfig;
use super::herald::{Herald, Waiter};
use super::status::Status;
use crate::log::fs::{AppendFile, Fs};

/// With [`FsyncPolicy::Every`], the log is synced when so many bytes are new, though its time has not come: a sync then never
/// has so much to write that appends wait behind it, and the log's pages go round while they are still in the processor's
/// caches.
const DIRTY_BYTES_MAX: u64 = 16 << 20;

/// The page cache is left in steps of so many bytes. A power of two, and no smaller than the largest folio, which could not
/// be dropped in parts.
const UNCACHE_STEP: u64 = 4 << 20;

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

#[derive(Default)]
struct Work {
    file: Option<Arc<dyn AppendFile>>,
    /// How many files there were before this one: a sync that was under way when the file changed says nothing of the new one.
    generation: u64,
    /// Bytes in the log.
    published: u64,
    /// Bytes that are on the disk.
    synced: u64,
    /// Bytes from the file's start that have been dropped from the page cache.
    uncached: u64,
    /// The file before, and what of it is still there: the newest bytes of the log, until this one has as many.
    before: Option<(Arc<dyn AppendFile>, Range<u64>)>,
    /// Who waits for the log to be on the disk up to which byte; ascending.
    waiters: VecDeque<(u64, Arc<Waiter>)>,
    /// The writer waits for all of it, or for little of it to be left.
    is_demanded: bool,
    /// Since when a sync is under way.
    syncing: Option<Instant>,
    /// Syncs of this file that have ended.
    syncs: u64,
    /// Since when the writer wants to seal the file, and how many syncs had ended then.
    nearing: Option<(Instant, u64)>,
    /// The file has not been in its directory for long: the directory is synced before it.
    is_entry_new: bool,
    failed: bool,
    stopping: bool,
}

/// What the writer and the sync thread share. Locked by each for a moment, never across a sync.
pub(super) struct SyncThread {
    policy: FsyncPolicy,
    /// The newest bytes that stay in the page cache; `None`: all that the kernel likes.
    page_cache: Option<u64>,
    fs: Arc<dyn Fs>,
    directory: PathBuf,
    work: Mutex<Work>,
    bell: Condvar,
}

impl SyncThread {
    pub fn new(
        config: &EngineConfig,
        (fs, directory): (Arc<dyn Fs>, &Path),
        file: Option<Arc<dyn AppendFile>>,
        length: u64,
    ) -> SyncThread {
        let work = Work {
            file,
            published: length,
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

    /// The writer has published up to `length`.
    pub fn published(&self, file: Option<&Arc<dyn AppendFile>>, length: u64) {
        let mut work = self.work();
        if work.file.is_none() {
            work.file = file.cloned();
        }
        work.published = length;
        if !work.waiters.is_empty() || self.is_due(&work) {
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
        let left = work.published - work.synced;
        let is_little = || left <= DIRTY_BYTES_MAX || since.elapsed() >= NEARING_MAX;
        let is_slow = work.syncing.is_some_and(|begun| begun.elapsed() >= SLOW_AFTER);
        let is_prompt = !is_slow || ended > before;
        let is_near = work.failed || left == 0 || (is_prompt && is_little());
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

    /// Whether the log is on the disk up to `length`, or cannot be brought there.
    pub fn is_settled(&self, length: u64) -> bool {
        let work = self.work();
        work.failed || work.synced >= length
    }

    /// From here on all is about a new, empty file. Who still waits for the one before is told whether it is on the disk.
    pub fn turn_to(&self, file: Option<&Arc<dyn AppendFile>>, is_synced: bool, herald: &Herald) {
        let mut work = self.work();
        let waiters = std::mem::take(&mut work.waiters);
        let before = work.file.take().map(|file| (file, work.uncached..work.published));
        *work = Work {
            generation: work.generation + 1,
            before,
            is_entry_new: file.is_some(),
            file: file.cloned(),
            syncing: work.syncing,
            failed: work.failed,
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

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().expect("no holder of this lock panics")
    }

    /// Ends the thread after a last sync.
    pub fn stop(&self) {
        self.work().stopping = true;
        self.bell.notify_one();
    }

    /// The thread's body. Answers whether all that was published has been synced without a failure.
    pub fn run(&self, status: &Status, herald: &Herald) -> bool {
        let mut last = Instant::now();
        let mut work = self.work();
        loop {
            let dirty = work.published > work.synced && !work.failed;
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
            if awaited || due || demanded || (work.stopping && dirty) || (work.is_entry_new && !work.failed) {
                work = self.sync(work, status, herald);
                work = self.uncache(work);
                last = Instant::now();
                continue;
            }
            if work.stopping {
                return !work.failed;
            }
            work = match self.policy {
                FsyncPolicy::Every(interval) => {
                    let left = interval
                        .saturating_sub(last.elapsed())
                        .max(Duration::from_millis(1));
                    let left = if dirty { left } else { interval };
                    self.bell
                        .wait_timeout(work, left)
                        .expect("no holder of this lock panics")
                        .0
                }
                _ => self.bell.wait(work).expect("no holder of this lock panics"),
            };
        }
    }

    fn sync<'a>(
        &'a self,
        mut work: MutexGuard<'a, Work>,
        status: &Status,
        herald: &Herald,
    ) -> MutexGuard<'a, Work> {
        let (file, end, failed, is_entry_new) =
            (work.file.clone(), work.published, work.failed, work.is_entry_new);
        let generation = work.generation;
        work.syncing = Some(Instant::now());
        drop(work);
        let directory = || match is_entry_new {
            true => self.fs.sync_directory(&self.directory),
            false => Ok(()),
        };
        let result = match &file {
            Some(file) if !failed => directory().and_then(|()| file.sync_data()),
            _ => Ok(()),
        };
        let mut work = self.work();
        work.syncing = None;
        if work.generation != generation {
            return work;
        }
        work.syncs += 1;
        if work.nearing.is_some() {
            herald.ring_soon();
        }
        match result {
            Ok(()) if !work.failed => {
                work.synced = end;
                // What came meanwhile is still wanted.
                work.is_demanded &= work.published > end;
                work.is_entry_new = false;
                status.synced(end);
            }
            Ok(()) => {}
            Err(error) => {
                (work.failed, work.is_demanded) = (true, false);
                status.sync_failed(&error);
            }
        }
        let mut woken = false;
        while work
            .waiters
            .front()
            .is_some_and(|(wanted, _)| *wanted <= end || work.failed)
        {
            let (_, waiter) = work.waiters.pop_front().expect("the queue has a front");
            waiter.completion.synced(!work.failed);
            herald.enqueue(waiter);
            woken = true;
        }
        if woken {
            herald.wake();
        }
        work
    }

    /// Whether there is something to sync now, whatever the time.
    fn is_due(&self, work: &Work) -> bool {
        let dirty_bytes = match work.failed {
            true => 0,
            false => work.published - work.synced,
        };
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
            work.synced.saturating_sub(kept) & !(UNCACHE_STEP - 1),
        );
        let before = match work.synced >= kept {
            true => work.before.take(),
            false => None,
        };
        if from < to || before.is_some() {
            work.uncached = work.uncached.max(to);
            drop(work);
            if let Some((file, rest)) = before {
                file.uncache(rest);
            }
            if from < to {
                file.uncache(from..to);
            }
            work = self.work();
        }
        work
    }
}
