//! The writer thread: frames out of the ring, into the log.
//!
//! One thread, so that the log has one writer and the counts one counter. It is woken by the first frame after a rest,
//! gathers for the publish interval (or not, if somebody waits), and publishes what the ring holds by `writev`. Then, in
//! this order: published position, counts, recent window, those who wait for `written`, the sync thread, blocks freed.
//!
//! # When the log cannot be written
//!
//! The rest of the batch is tried again, with a pause that doubles from 10 ms to 1 s, for as long as it takes: nothing
//! else may follow a half-written line. Meanwhile health says so, frames stay in the journal, and once that is full new
//! events are refused. When the file system takes bytes again, everything goes on by itself.

use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use super::blocks::Region;
use super::cut::Live;
use super::frame::Frame;
use super::gathered::Gathered;
use super::header::Placement;
use super::herald::Waiter;
use super::numbered::number;
use super::pace::Pace;
use super::sync_thread::SyncThread;
use super::{Level, Shared};
use crate::failpoint;
use crate::log::LiveFile;
use crate::log::catalog::Front;
use crate::log::cursor::Position;
use crate::log::keeper::Keeper;

/// Slices a `writev` takes at the most (`IOV_MAX` of Linux).
const SLICES_MAX: usize = 1024;
/// A batch is full with the first frame that brings it to so many slices: a quarter of a millisecond of work, about, for which
/// a worker of the same core waits.
const BATCH_SLICES: usize = 256;
/// First and longest pause before a failed write is tried again.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How often a writer that waits for the disk looks whether it is to give up.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// What the writer thread owns.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) live: LiveFile,
    /// Where the live file begins.
    pub(super) front: Front,
    /// When it was begun; `None` while it is empty.
    pub(super) since: Option<SystemTime>,
    /// The live file is not to be sealed before, after a failure.
    pub(super) not_before: Option<Instant>,
    /// How often in a row that was so.
    pub(super) put_off: u32,
    /// Since when it would be sealed if the journal had room for the rest.
    pub(super) room_sought: Option<Instant>,
    pub(super) pace: Pace,
    pub(super) sync_thread: Arc<SyncThread>,
    pub(super) keeper: Arc<Keeper>,
    /// Events in the log.
    pub(super) sequence: u64,
    batch: Vec<Frame>,
    /// Kept for its allocation; empty between publications.
    slices: Vec<IoSlice<'static>>,
    name_scratch: Vec<u8>,
    /// Empty between publications.
    gathered: Gathered,
    /// The batch's lines with their numbers; empty where they are stored without.
    numbered: Vec<u8>,
}

/// The writer was told to give up while the log could not be written.
pub(super) struct GaveUp;

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        live: LiveFile,
        sync_thread: Arc<SyncThread>,
        keeper: Arc<Keeper>,
    ) -> Writer {
        let front = shared.catalog.front();
        let since = live.file().filter(|_| live.length() > 0).map(|file| file.born());
        shared.rotation.begun(since);
        Writer {
            shared,
            live,
            front,
            since,
            not_before: None,
            put_off: 0,
            room_sought: None,
            pace: Pace::new(),
            sync_thread,
            keeper,
            sequence: 0,
            batch: vec![],
            slices: vec![],
            name_scratch: vec![],
            gathered: Gathered::default(),
            numbered: vec![],
        }
    }

    /// Runs until the engine stops and the ring is empty: `true` then. `false` if it had to leave frames in the journal.
    pub fn run(mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        if self.count_log().is_err() {
            return false;
        }
        shared.doorbell.attend();
        loop {
            let stopping = shared.stopping.load(Ordering::Acquire);
            let Ok(published) = self.publish_ring() else {
                return false;
            };
            if stopping && shared.ring.is_empty() {
                // A last look: what was taken away is seen to.
                shared.rotation.suspect();
                self.seal_if_due();
                return true;
            }
            self.seal_if_due();
            // Where there was something, there is more to come: it is gathered without being woken for it.
            if !published {
                let quiet = || {
                    shared.ring.is_empty()
                        && shared.barriers.is_empty()
                        && !self.is_sealing_wanted()
                        && shared.stopping.load(Ordering::Relaxed) == stopping
                };
                shared.doorbell.wait(quiet);
            }
            shared.doorbell.gather(shared.config.publish_interval);
        }
    }

    /// Publishes what the ring holds now, and then lets those go on who waited for that. Answers whether there was anything.
    fn publish_ring(&mut self) -> Result<bool, GaveUp> {
        let shared = Arc::clone(&self.shared);
        // Taken first: whatever was committed before one of them came is in the ring by now.
        let barriers: Vec<Arc<Waiter>> = std::iter::from_fn(|| shared.barriers.pop()).collect();
        let mut left = shared.ring.len();
        let mut behind = left;
        let published = left > 0;
        while left > 0 {
            if shared.giving_up.load(Ordering::Relaxed) {
                return Err(GaveUp);
            }
            let mut slices = 0;
            while left > 0 && slices < BATCH_SLICES {
                let Some(frame) = shared.ring.pop() else { break };
                slices += frame.blocks();
                left -= 1;
                self.batch.push(frame);
            }
            if self.batch.is_empty() {
                break;
            }
            self.publish_batch()?;
            self.seal_if_due();
            // One that catches up gives way to a worker of its core, as long as it comes nearer to the end: where events come
            // faster than that, nobody is served by a longer ring.
            let still_behind = shared.ring.len();
            if left > 0 && still_behind < behind {
                behind = still_behind;
                std::thread::yield_now();
            }
        }
        if shared.space.free() < shared.journal.region().minted() as usize / 4 {
            shared.growth.demand();
        }
        if !barriers.is_empty() {
            for waiter in barriers {
                waiter.completion.written(self.sequence);
                shared.herald.enqueue(waiter);
            }
            shared.herald.wake();
        }
        Ok(published)
    }

    fn publish_batch(&mut self) -> Result<(), GaveUp> {
        let shared = Arc::clone(&self.shared);
        let region = shared.journal.region();
        if self.live.length() == 0 {
            let now = SystemTime::now();
            self.since = Some(now);
            shared.rotation.begun(Some(now));
        }
        self.place_batch();
        failpoint::hit("publish.placed");
        let (began, before) = (Instant::now(), self.live.length());
        self.write_batch()?;
        failpoint::hit("publish.written");

        // Release: a producer that sees the new length as its base has the lines before it published.
        shared
            .published
            .store(self.front.base + self.live.length(), Ordering::Release);
        shared.live_bytes.store(self.live.length(), Ordering::Release);
        let lines: usize = self.batch.iter().map(|frame| frame.lines()).sum();
        let bytes = self.live.length() - before;
        shared.status.appended(began, lines as u64, bytes);
        let checksum = self.count_batch(lines);
        let first_sequence = self.sequence + 1;
        self.sequence += lines as u64;
        self.tip_moved();
        self.tell_waiters(first_sequence);
        self.sync_thread
            .published(self.live.file(), self.live.length(), checksum);
        self.pace
            .passed(self.batch.iter().map(Frame::blocks).sum(), began);
        shared.space.give_back(self.batch.drain(..).flat_map(|frame| {
            region.header(frame.head()).free();
            failpoint::hit("publish.freed");
            frame.into_blocks()
        }));
        Ok(())
    }

    /// Tells where the log ends now.
    pub(super) fn tip_moved(&self) {
        let end = Position {
            number: self.front.number,
            offset: self.live.length(),
        };
        self.shared.tip.moved(end, self.sequence + 1);
    }

    /// Gives each frame its place, and its lines their numbers.
    fn place_batch(&mut self) {
        let region = self.shared.journal.region();
        let mut position = self.front.base + self.live.length();
        let mut first_seq = self.sequence + 1;
        self.numbered.clear();
        for frame in &mut self.batch {
            let mut placement = Placement {
                position,
                first_seq: 0,
            };
            if self.shared.config.line_seq {
                placement.first_seq = first_seq;
                let before = self.numbered.len();
                number(frame.pieces(region), first_seq, &mut self.numbered);
                frame.set_stored_bytes(self.numbered.len() - before);
            }
            region.header(frame.head()).place(placement);
            position += frame.stored_bytes() as u64;
            first_seq += frame.lines() as u64;
        }
    }

    /// Writes the batch, however often it takes.
    fn write_batch(&mut self) -> Result<(), GaveUp> {
        let shared = Arc::clone(&self.shared);
        let region = shared.journal.region();
        let mut slices: Vec<IoSlice<'_>> = recycle(std::mem::take(&mut self.slices));
        slices.extend(stored(region, &self.batch, &self.numbered, 0).map(IoSlice::new));
        let mut rest = &mut slices[..];
        let mut pause = RETRY_PAUSES.0;
        // A batch of few, long frames can have more slices than one call takes.
        let mut result = Ok(());
        while result.is_ok() && !rest.is_empty() {
            let end = rest.len().min(SLICES_MAX);
            let (mut now, later) = std::mem::take(&mut rest).split_at_mut(end);
            let failed = loop {
                match self.live.append(&mut now) {
                    Ok(()) => break false,
                    Err(error) => {
                        shared.status.log_failed(&error);
                        if !shared.pause_unless_giving_up(pause) {
                            break true;
                        }
                        pause = (pause * 2).min(RETRY_PAUSES.1);
                    }
                }
            };
            if failed {
                result = Err(GaveUp);
            }
            rest = later;
        }
        if result.is_ok() {
            shared.status.log_works();
        }
        self.slices = recycle(slices);
        result
    }

    /// Counts the batch; answers the file's checksum with it.
    fn count_batch(&mut self, lines: usize) -> u32 {
        let shared = Arc::clone(&self.shared);
        let region = shared.journal.region();
        let mut live = shared.live();
        if live.file.is_none() {
            live.file = self.live.file().cloned();
        }
        let tally = &mut live.tally;
        tally.add_lines(lines as u64);
        stored(region, &self.batch, &self.numbered, 0).for_each(|piece| tally.append(piece));
        // From here on readers of lifetime counts wait, so that these agree with the window.
        let mut window = shared.recent.lock();
        let mut count = |name: &[u8], minute, count| {
            shared.counters.add(name, count);
            tally.add_events(name, Some(minute), count);
        };
        for frame in &self.batch {
            frame.for_each_name(region, &mut self.name_scratch, |name, minute, events| {
                self.gathered.add(name, minute, events, &mut count);
            });
        }
        self.gathered.drain(count);
        let checksum = tally.checksum();
        drop(live);
        let mut skip = lines.saturating_sub(shared.recent.capacity());
        let mut first = 0;
        while first < self.batch.len() && skip >= self.batch[first].lines() {
            skip -= self.batch[first].lines();
            first += 1;
        }
        window.extend(skip, stored(region, &self.batch, &self.numbered, first));
        checksum
    }

    fn tell_waiters(&mut self, mut sequence: u64) {
        let mut woken = false;
        let mut end = self.live.length()
            - self
                .batch
                .iter()
                .map(|frame| frame.stored_bytes() as u64)
                .sum::<u64>();
        for frame in &mut self.batch {
            end += frame.stored_bytes() as u64;
            for (level, waiter) in frame.take_awaited() {
                waiter.completion.written(sequence);
                if level == Level::Synced {
                    self.sync_thread.wait_for(end, waiter);
                } else {
                    self.shared.herald.enqueue(waiter);
                    woken = true;
                }
            }
            sequence += frame.lines() as u64;
        }
        if woken {
            self.shared.herald.wake();
        }
    }
}

impl Shared {
    /// The live file and what is counted of it.
    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().expect("no holder of this lock panics")
    }

    /// Sleeps for `pause`; `false` as soon as the engine has given up on publishing.
    pub(super) fn pause_unless_giving_up(&self, pause: Duration) -> bool {
        let end = Instant::now() + pause;
        loop {
            if self.giving_up.load(Ordering::Relaxed) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(STOP_CHECK));
        }
    }
}

/// The bytes of a batch as they are in the log, from its frame `first` on. `numbered` has them where lines are numbered.
fn stored<'b>(
    region: &'b Region,
    batch: &'b [Frame],
    numbered: &'b [u8],
    first: usize,
) -> impl Iterator<Item = &'b [u8]> {
    let (skipped, frames) = batch.split_at(first);
    let skipped: usize = skipped.iter().map(|frame| frame.stored_bytes()).sum();
    let numbered = (!numbered.is_empty()).then(|| &numbered[skipped..]);
    let frames = if numbered.is_some() { &[] } else { frames };
    let plain = frames.iter().flat_map(|frame| frame.pieces(region));
    numbered.into_iter().chain(plain)
}

/// An empty vector with the allocation of `slices`: the lifetime changes, the memory stays.
fn recycle<'a>(mut slices: Vec<IoSlice<'_>>) -> Vec<IoSlice<'a>> {
    slices.clear();
    slices
        .into_iter()
        .map(|_| unreachable!("the vector is empty"))
        .collect()
}
