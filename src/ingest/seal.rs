//! Sealing the live file, on the writer thread and between two batches.
//!
//! ```text
//! last batch → sync and rest → rename, new file in place → summary to the keeper → next batch
//! ```
//!
//! While the writer rests, tailers read the old file to its end, and the journal takes new events; nothing is written to
//! the old file after its rename. A sync that takes longer than [`SYNC_MAX`], or a rename that fails, puts the matter off:
//! the old file goes on. So does a stop: a process that ends does not rest.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::writer::Writer;
use crate::failpoint;
use crate::log::segment::SegmentId;
use crate::log::summary::Tally;

/// How much longer than the rest the sync before a rename may take.
const SYNC_MAX: Duration = Duration::from_secs(10);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often a resting writer looks up.
const LOOK_UP: Duration = Duration::from_millis(5);

/// What the writer knows of the live file beside its length.
pub(super) struct Front {
    pub number: u64,
    /// Position of its first byte in the log.
    pub base: u64,
    /// The number of its first event.
    pub first_seq: u64,
    /// When it was begun; `None` while it is empty.
    pub since: Option<SystemTime>,
    /// Not to be sealed before, after a failure.
    pub not_before: Option<Instant>,
}

impl Writer {
    /// Whether somebody has asked for the live file to be sealed, and it can be tried.
    pub(super) fn is_sealing_wanted(&self) -> bool {
        self.shared.rotation.is_requested() && self.front.not_before.is_none_or(|then| Instant::now() >= then)
    }

    /// Seals the live file if it is time.
    pub(super) fn seal_if_due(&mut self) {
        let policy = self.shared.config.rotation;
        let is_large = policy.bytes.is_some_and(|most| self.live.length() >= most);
        if !is_large && !self.shared.rotation.is_requested() {
            return;
        }
        if self.live.length() == 0 {
            return self.shared.rotation.done();
        }
        if self.front.not_before.is_some_and(|then| Instant::now() < then) {
            return;
        }
        if self.shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        match self.seal(policy.rest) {
            Sealing::Done => self.shared.rotation.done(),
            Sealing::PutOff => self.front.not_before = Some(Instant::now() + RETRY),
            Sealing::Stopping => {}
        }
    }

    fn seal(&mut self, rest: Duration) -> Sealing {
        failpoint::hit("rotate.due");
        self.sync_thread.demand();
        let rested = Instant::now() + rest;
        loop {
            if self.shared.stopping.load(Ordering::Relaxed) {
                return Sealing::Stopping;
            }
            let now = Instant::now();
            if now >= rested && self.sync_thread.is_settled(self.live.length()) {
                break;
            }
            if now >= rested + SYNC_MAX {
                tracing::warn!("the log's file is not sealed now: syncing it takes too long");
                return Sealing::PutOff;
            }
            std::thread::sleep(
                LOOK_UP.min(
                    rested
                        .saturating_duration_since(now)
                        .max(Duration::from_millis(1)),
                ),
            );
        }
        let id = SegmentId::new(
            self.front.number,
            self.front.since.unwrap_or_else(SystemTime::now),
        );
        let catalog = &self.shared.catalog;
        if let Err(error) = self.live.rotate(&catalog.family().plain(id)) {
            tracing::warn!(%error, "the log's file cannot be sealed now; it goes on");
            return Sealing::PutOff;
        }
        let tally = Tally::new(self.shared.config.names_max);
        let sealed = std::mem::replace(&mut *self.shared.tally(), tally);
        let segment = catalog.add(sealed.summary(id, self.front.first_seq));
        tracing::info!(
            file = %catalog.family().file_name(id).display(),
            bytes = segment.summary.bytes,
            events = segment.summary.events,
            "a file of the log is sealed"
        );
        let front = catalog.front();
        self.front = Front {
            number: front.number,
            base: front.base,
            first_seq: front.first_seq,
            since: None,
            not_before: None,
        };
        self.shared.live_bytes.store(0, Ordering::Release);
        self.shared.rotation.begun(None);
        self.sync_thread.turn_to(self.live.file());
        self.keeper.sealed(segment);
        Sealing::Done
    }
}

/// What came of it.
enum Sealing {
    Done,
    /// The old file goes on for a while.
    PutOff,
    Stopping,
}
