//! What is wrong, if anything: written by the threads that find out, read by health and by whoever must refuse.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::latency::Latency;

/// The engine's state of health.
pub struct Status {
    /// How long appending a batch takes, over all its attempts: recorded by the writer.
    pub append: Latency,
    /// How long a sync takes that succeeds: recorded by the sync thread.
    pub fsync: Latency,
    /// Events and bytes appended since the start. Added by the writer, loaded by readers; Relaxed, as they stand for nothing else.
    appended_events: AtomicU64,
    appended_bytes: AtomicU64,
    /// Stored by the writer, loaded by readers. Relaxed: the text behind the lock carries its own ordering.
    log_fails: AtomicBool,
    log_error: Mutex<Option<String>>,
    /// Stored by the sync thread, as what follows: set by a failed sync, cleared when another file has been synced.
    sync_fails: AtomicBool,
    /// What became of the last failure. Locked by the sync thread and by health.
    sync_error: Mutex<Option<String>>,
    sync_failures: AtomicU64,
    synced: AtomicU64,
    /// Stored by the writer when it has read the log, once.
    has_counted: AtomicBool,
    /// Why the journal cannot grow: stored by the growth thread.
    growth_error: Mutex<Option<String>>,
    /// When a producer was last refused. Locked on that path and by health.
    refused: Mutex<Option<Instant>>,
}

/// How long after a refusal events count as being refused: a load balancer that asks each second or two sees it.
const REFUSING_FOR: Duration = Duration::from_secs(2);

impl Default for Status {
    fn default() -> Status {
        Status {
            append: Latency::new(),
            fsync: Latency::new(),
            appended_events: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            log_fails: AtomicBool::new(false),
            log_error: Mutex::default(),
            sync_fails: AtomicBool::new(false),
            sync_error: Mutex::default(),
            sync_failures: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            has_counted: AtomicBool::new(false),
            growth_error: Mutex::default(),
            refused: Mutex::default(),
        }
    }
}

impl Status {
    /// A batch has been appended.
    pub(super) fn appended(&self, began: Instant, events: u64, bytes: u64) {
        self.append.record(began);
        self.appended_events.fetch_add(events, Ordering::Relaxed);
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Events and bytes appended since the start.
    pub fn appended_since_start(&self) -> (u64, u64) {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (load(&self.appended_events), load(&self.appended_bytes))
    }

    /// The log could not be written.
    pub(super) fn log_failed(&self, error: &io::Error) {
        if !self.log_fails.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the log cannot be written; trying again until it can");
        }
        *self.log_error.lock().expect("no holder of this lock panics") = Some(error.to_string());
    }

    /// The log was written.
    pub(super) fn log_works(&self) {
        // Read first: this is the writer's every batch.
        if self.log_fails.load(Ordering::Relaxed) {
            self.log_fails.store(false, Ordering::Relaxed);
            *self.log_error.lock().expect("no holder of this lock panics") = None;
            tracing::info!("the log can be written again");
        }
    }

    /// A sync of the log failed, or what was in doubt could not be written again.
    pub(super) fn sync_failed(&self, error: &io::Error) {
        tracing::error!(%error, "the log cannot be synced to the disk; `synced` is refused until it can");
        self.sync_failures.fetch_add(1, Ordering::Relaxed);
        self.tell_of_sync(error.to_string());
        self.sync_fails.store(true, Ordering::Relaxed);
    }

    /// So many bytes that were in doubt are on the disk, in a fresh file.
    pub(super) fn sync_rescued(&self, bytes: u64) {
        tracing::warn!(
            bytes,
            "what the failed sync had left in doubt is on the disk, in a fresh file"
        );
        let before = self.sync_error().unwrap_or_default();
        self.tell_of_sync(format!(
            "{before}; {bytes} bytes were written again, nothing is lost"
        ));
    }

    /// So many bytes that were in doubt cannot be read back.
    pub(super) fn sync_lost(&self, bytes: u64, error: &io::Error) {
        tracing::error!(bytes, %error, "what the failed sync had left in doubt cannot be read back: some of it may be lost; `floodgate verify` shows what");
        let before = self.sync_error().unwrap_or_default();
        self.tell_of_sync(format!(
            "{before}; {bytes} bytes cannot be read back ({error}): some of them may be lost"
        ));
    }

    fn tell_of_sync(&self, text: String) {
        *self.sync_error.lock().expect("no holder of this lock panics") = Some(text);
    }

    /// The journal could not grow, or could again.
    pub(super) fn growth(&self, result: Result<(), &io::Error>) {
        let mut error = self.growth_error.lock().expect("no holder of this lock panics");
        if let Err(error) = result {
            tracing::warn!(%error, "the journal cannot grow; events are refused once it is full");
        }
        *error = result.err().map(io::Error::to_string);
    }

    /// A producer was refused for want of room.
    pub(super) fn refused(&self) {
        *self.refused.lock().expect("no holder of this lock panics") = Some(Instant::now());
    }

    /// The log is on the disk up to byte `end`. Answers whether it could not be synced before.
    pub(super) fn synced(&self, end: u64) -> bool {
        self.synced.store(end, Ordering::Relaxed);
        let has_failed = self.sync_fails.swap(false, Ordering::Relaxed);
        if has_failed {
            tracing::info!("the log can be synced to the disk again");
        }
        has_failed
    }

    /// The counts are known.
    pub(super) fn counted(&self) {
        // Release: who sees it sees the counts.
        self.has_counted.store(true, Ordering::Release);
    }

    /// Whether the counts are not known yet.
    pub(super) fn is_counting(&self) -> bool {
        !self.has_counted.load(Ordering::Acquire)
    }

    /// Whether the log cannot be written at the moment.
    pub fn is_log_failing(&self) -> bool {
        self.log_fails.load(Ordering::Relaxed)
    }

    /// Whether the log cannot be synced at the moment.
    pub fn is_sync_failing(&self) -> bool {
        self.sync_fails.load(Ordering::Relaxed)
    }

    /// Whether producers are being refused, for whatever reason the journal is full.
    pub fn is_refusing(&self) -> bool {
        let refused = self.refused.lock().expect("no holder of this lock panics");
        refused.is_some_and(|at| at.elapsed() < REFUSING_FOR)
    }

    /// Why the journal cannot grow, if it was asked to and could not.
    pub fn growth_error(&self) -> Option<String> {
        self.growth_error
            .lock()
            .expect("no holder of this lock panics")
            .clone()
    }

    /// Why the log cannot be written, if it cannot.
    pub fn log_error(&self) -> Option<String> {
        self.log_error
            .lock()
            .expect("no holder of this lock panics")
            .clone()
    }

    /// Failed syncs since the start.
    pub fn sync_failures(&self) -> u64 {
        self.sync_failures.load(Ordering::Relaxed)
    }

    /// Why the last sync that failed did, and what became of it.
    pub fn sync_error(&self) -> Option<String> {
        self.sync_error
            .lock()
            .expect("no holder of this lock panics")
            .clone()
    }

    /// Bytes of the log that are known to be on the disk.
    pub fn synced_bytes(&self) -> u64 {
        self.synced.load(Ordering::Relaxed)
    }
}
