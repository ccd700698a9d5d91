//! Waiting for an acknowledgement level: the word between the threads that reach it and the one who waits.
//!
//! A producer that promised `written` or `synced` puts a completion into its frame. The writer fills in the sequence
//! numbers when the lines are in the log, the sync thread when they are on the disk. Waking is not done here: the
//! completion is handed to the [`super::herald`], which unparks in the right place.
//!
//! # Why no wake-up is lost
//!
//! The outcome is stored before the blocker is unparked, and the blocker keeps an unpark that comes before its park; the
//! waiter looks at the outcome again after each park. `tests/loom.rs` checks it.

use super::primitives::{AtomicU32, AtomicU64, Ordering};

const PENDING: u32 = 0;
const WRITTEN: u32 = 1;
const SYNCED: u32 = 2;
const SYNC_FAILED: u32 = 3;

/// How far a frame has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not in the log yet.
    Pending,
    /// In the log.
    Written,
    /// In the log and on the disk.
    Synced,
    /// In the log, but the sync it waited for failed.
    SyncFailed,
}

/// One frame's progress.
pub struct Completion {
    /// Stored by the writer (WRITTEN), then by the sync thread; loaded by the waiter.
    progress: AtomicU32,
    /// Sequence number of the frame's first line. Stored by the writer before `progress`.
    first_sequence: AtomicU64,
}

impl Completion {
    /// A completion of a frame that is nowhere yet.
    pub fn new() -> Completion {
        Completion {
            progress: AtomicU32::new(PENDING),
            first_sequence: AtomicU64::new(0),
        }
    }

    /// Makes it a completion of a new frame. Nobody may hold it for an old one any more.
    pub fn reset(&self) {
        // Relaxed: published with the frame, by the ring.
        self.progress.store(PENDING, Ordering::Relaxed);
    }

    /// The lines are in the log, numbered from `first_sequence`.
    pub fn written(&self, first_sequence: u64) {
        self.first_sequence.store(first_sequence, Ordering::Relaxed);
        // Release: who sees the progress sees the number.
        self.progress.store(WRITTEN, Ordering::Release);
    }

    /// The lines are on the disk, or the sync failed.
    pub fn synced(&self, succeeded: bool) {
        self.progress
            .store(if succeeded { SYNCED } else { SYNC_FAILED }, Ordering::Release);
    }

    /// How far the frame has come, and the sequence number of its first line once it is written.
    pub fn progress(&self) -> (Progress, u64) {
        // Acquire: pairs with the Release stores above.
        let progress = match self.progress.load(Ordering::Acquire) {
            WRITTEN => Progress::Written,
            SYNCED => Progress::Synced,
            SYNC_FAILED => Progress::SyncFailed,
            _ => Progress::Pending,
        };
        (progress, self.first_sequence.load(Ordering::Relaxed))
    }
}
