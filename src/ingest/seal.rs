//! Sealing the live file, on the writer thread and between two batches.
//!
//! ```text
//! due → sync, and room in the journal, while writing goes on → last batch → sync of the little that is left, and rest → rename, new file in place
//!     → summary to the keeper → next batch
//! ```
//!
//! While the writer rests, tailers read the old file to its end, and the journal takes new events; nothing is written to
//! the old file after its rename. So that the rest is never much longer than it is meant to be, it begins when there is
//! little left to sync, however long that takes. If the disk hangs then of all times, or a rename fails, the
//! matter is put off: the old file goes on. So does it at a stop: a process that ends does not rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::cut::Live;
use super::writer::Writer;
use crate::failpoint;
use crate::log::Sight;
use crate::log::catalog::Segment;
use crate::log::segment::SegmentId;

/// How much longer than the rest the sync of what is left may take, at the first attempt; at each further one it is twice as
/// long, up to 8 s, as a disk that always takes so long gets its files sealed, too.
const SYNC_GRACE: Duration = Duration::from_secs(1);
const DOUBLINGS_MAX: u32 = 3;
/// How long a file that should be sealed goes on at the most, so that the journal grows for the rest.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is tried to begin another file.
const BEGIN_AGAIN: Duration = Duration::from_millis(250);
/// How often a resting writer looks up.
const LOOK_UP: Duration = Duration::from_millis(5);

impl Writer {
    /// Whether there may be something to do here.
    pub(super) fn is_sealing_wanted(&self) -> bool {
        let rotation = &self.shared.rotation;
        let is_due = || self.not_before.is_none_or(|then| Instant::now() >= then);
        rotation.is_suspected() || (rotation.is_requested() && is_due() && !self.sync_thread.is_nearing())
    }

    /// Seals the live file if it is time, or begins another if somebody has taken it away.
    pub(super) fn seal_if_due(&mut self) {
        let policy = self.shared.config.rotation;
        let is_large = policy.bytes.is_some_and(|most| self.live.length() >= most);
        let rotation = &self.shared.rotation;
        if !is_large && !rotation.is_requested() && !rotation.is_suspected() {
            return;
        }
        rotation.looked();
        if !self.is_file_well() {
            return self.give_up_file();
        }
        let is_wanted = is_large || self.shared.rotation.is_requested();
        if is_wanted && self.live.length() == 0 {
            return self.shared.rotation.done();
        }
        let is_early = self.not_before.is_some_and(|then| Instant::now() < then);
        if !is_wanted || is_early || self.shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        // Also where it is due for its size: whether anything comes or not, it is looked at again.
        self.shared.rotation.request();
        if !self.sync_thread.is_near() || !self.has_room_for(policy.rest) {
            return;
        }
        match self.seal(policy.rest) {
            Sealing::Done => self.shared.rotation.done(),
            Sealing::PutOff => {
                let until = self.sync_thread.put_off_until();
                if until.is_none() {
                    self.put_off += 1;
                }
                self.not_before = Some(until.unwrap_or_else(|| Instant::now() + RETRY));
            }
            Sealing::Stopping => {}
        }
    }

    /// Whether the journal can take in what is expected to come during a rest. If not, it is asked to grow, and the file goes on
    /// meanwhile: in the rest itself everybody would wait for each chunk. Not for ever: the disk may be full, or the bound near.
    fn has_room_for(&mut self, rest: Duration) -> bool {
        let needed = self.pace.blocks_in(rest);
        let shared = &self.shared;
        let has_room = shared.space.free() >= needed || !shared.journal.can_grow();
        if has_room || self.room_sought.get_or_insert_with(Instant::now).elapsed() >= ROOM_WAIT_MAX {
            self.room_sought = None;
            return true;
        }
        shared.growth.demand();
        false
    }

    fn is_file_well(&self) -> bool {
        self.live.sight().unwrap_or_else(|error| {
            tracing::warn!(%error, "it cannot be seen whether the log's file is in its place");
            Sight::Well
        }) == Sight::Well
    }

    fn seal(&mut self, rest: Duration) -> Sealing {
        failpoint::hit("rotate.due");
        if self.sync_thread.put_off_until().is_some() {
            return Sealing::PutOff;
        }
        self.sync_thread.demand();
        let rested = Instant::now() + rest;
        let given_up = rested + SYNC_GRACE * (1 << self.put_off.min(DOUBLINGS_MAX));
        loop {
            if self.shared.stopping.load(Ordering::Relaxed) {
                return Sealing::Stopping;
            }
            let now = Instant::now();
            if now >= rested && self.sync_thread.is_settled(self.live.length()) {
                break;
            }
            if self.sync_thread.put_off_until().is_some() {
                return Sealing::PutOff;
            }
            if now >= given_up {
                tracing::warn!("the log's file is not sealed now: syncing it takes too long");
                return Sealing::PutOff;
            }
            let left = rested.saturating_duration_since(now);
            std::thread::sleep(LOOK_UP.min(left.max(Duration::from_millis(1))));
        }
        // Another program can have put a file of its own there during the rest.
        if !self.is_file_well() {
            self.give_up_file();
            return Sealing::Done;
        }
        let id = self.front_id();
        if let Err(error) = self.live.rotate(self.shared.catalog.family(), id) {
            tracing::warn!(%error, "the log's file cannot be sealed now; it goes on");
            return Sealing::PutOff;
        }
        let segment = self.end_file(id, true);
        tracing::info!(
            file = %self.shared.catalog.family().file_name(id).display(),
            bytes = segment.summary.bytes,
            events = segment.summary.events,
            "a file of the log is sealed"
        );
        self.keeper.sealed(segment);
        Sealing::Done
    }

    /// Begins another file in place of one that somebody else has laid hands on. Nothing that was acknowledged is lost by
    /// it: of a deleted file, which is there as long as it is open, the keeper makes a copy; a renamed one is where it was
    /// put; of a truncated one what came after is sealed. Until another is begun nothing is written, and what comes stays in
    /// the journal.
    fn give_up_file(&mut self) {
        let shared = Arc::clone(&self.shared);
        let family = shared.catalog.family();
        let id = self.front_id();
        let old = self.live.file().cloned();
        let sight = loop {
            let sight = self.live.sight().unwrap_or(Sight::Well);
            let begun = match sight {
                Sight::Well => return shared.status.log_works(),
                Sight::Truncated => self.live.rotate(family, id),
                Sight::Deleted | Sight::Moved => self.live.begin_anew(),
            };
            match begun {
                Ok(()) => break sight,
                Err(error) => shared.status.log_failed(&error),
            }
            if !shared.pause_unless_giving_up(BEGIN_AGAIN) {
                return;
            }
        };
        let sealed = family.file_name(id);
        let sealed = sealed.display();
        match sight {
            Sight::Deleted => {
                tracing::error!(%sealed, "the log's file was deleted while it was in use; it is copied back as a sealed file, and another is begun")
            }
            Sight::Truncated => {
                tracing::error!(%sealed, "the log's file was truncated while it was in use (by `copytruncate`?): lines that nobody has copied are lost; what is left of it is sealed, and another is begun. Rename the file instead, or send SIGUSR1")
            }
            Sight::Moved | Sight::Well => {
                tracing::warn!("the log's file was renamed by another program; another is begun");
            }
        }
        // Who waits for the disk is told the truth: a deleted file is nowhere yet.
        let is_sound = sight != Sight::Deleted && !self.sync_thread.is_in_doubt();
        let is_synced = is_sound && old.as_ref().is_some_and(|old| old.sync_data().is_ok());
        let segment = self.end_file(id, is_synced);
        if sight == Sight::Deleted
            && let Some(old) = old
        {
            self.keeper.restore(old, Arc::clone(&segment));
        }
        // Where the new file begins stands in the summary alone: without it a frame would not be found again after a kill.
        while let Err(error) = shared.catalog.store(&segment) {
            shared.status.log_failed(&error);
            if !shared.pause_unless_giving_up(BEGIN_AGAIN) {
                break;
            }
        }
        shared.status.log_works();
        self.keeper.sealed(segment);
        shared.rotation.done();
    }

    fn front_id(&self) -> SegmentId {
        SegmentId::new(self.front.number, self.since.unwrap_or_else(SystemTime::now))
    }

    /// The file before has its end, and the one that is begun nothing in it yet.
    fn end_file(&mut self, id: SegmentId, is_synced: bool) -> Arc<Segment> {
        let catalog = &self.shared.catalog;
        // Under one lock: who looks at both finds the file in one of them.
        let mut live = self.shared.live();
        let sealed = std::mem::replace(&mut *live, Live::new(self.shared.config.names_max));
        let segment = catalog.add(sealed.tally.summary(id, self.front.first_seq));
        drop(live);
        self.front = catalog.front();
        (self.since, self.not_before, self.put_off) = (None, None, 0);
        self.shared.live_bytes.store(0, Ordering::Release);
        self.shared.rotation.begun(None);
        self.tip_moved();
        self.sync_thread
            .turn_to(self.live.file(), is_synced, &self.shared.herald);
        segment
    }
}

/// What came of it.
enum Sealing {
    Done,
    /// The old file goes on for a while.
    PutOff,
    Stopping,
}
