//! Where the feeder, the catch-up readers and the subscribers meet: the ring of chunks, a slot for each subscriber, and
//! whose turn it is.
//!
//! Everything is behind one lock, which is held for moments: to push a batch (with a look at each slot), to take a few
//! chunks, to hand on a turn. Texts are copied, and coroutines woken, outside of it.

use std::collections::{BTreeMap, VecDeque};
use std::mem::replace;
use std::sync::Arc;

use super::catchup::Job;
use super::chunk::Chunk;
use super::crier::TURNS_A_CRY;
use super::filter::Filter;
use super::{RING_BYTES_MAX, TURN_BYTES};
use crate::ingest::{End, View};
use crate::log::cursor::Position;

/// Has a subscriber's coroutine look at its slot. From any thread.
pub(super) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a subscriber is doing, and so who may change its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its answer has not begun.
    Opening,
    /// It has taken everything and sleeps: the feeder wakes it, or moves it on where it wants nothing.
    Idle,
    /// It waits for a turn, in the queue.
    Queued,
    /// It has a turn.
    Turn,
    /// It would have a turn, but its peer does not read: it comes back by itself.
    Away,
    /// A catch-up reader reads for it.
    Reading,
}

/// What a catch-up reader has found.
pub(super) enum Found {
    /// Lines, for who wants all.
    Chunk(Arc<Chunk>),
    /// What is wanted, and how far that is.
    Text(Vec<u8>, Position),
    /// Files that are gone: reading goes on there. Whether their events are counted.
    Gap(Position, bool),
    /// The number of the event that is next, if it could be told.
    Seq(Option<u64>),
    /// The place is not in the log any more.
    Lost,
    /// It cannot be read.
    Failed(String),
}

/// A subscriber, as the hub knows it.
struct Slot {
    filter: Arc<Filter>,
    wake: Option<Wake>,
    stage: Stage,
    /// Its peer does not read, and it waits for that.
    is_away: bool,
    /// Everything before has been taken.
    at: Position,
    /// The number of the event that is next, where it is known.
    seq: Option<u64>,
    /// It has been tried to find that out by reading.
    is_seq_sought: bool,
    /// The next chunk to look at, while it is fed from the ring.
    next_chunk: Option<u64>,
    found: Option<Found>,
    /// How near to the log's end it has come, in bytes; within the ring is at the end.
    lag_min: u64,
}

/// What a turn is for.
pub(super) enum Taken {
    /// Nothing: it is not one's turn, or something has to be read first.
    Nothing,
    /// The events in these from that place on.
    Chunks(Vec<Arc<Chunk>>, Position),
    /// This.
    Text(Vec<u8>),
    /// Events were left out, so many if that is known; it goes on there.
    Gap(Option<u64>, Position),
    /// The log cannot be read.
    Failed(String),
}

/// What is behind the lock.
pub(super) struct State {
    slots: BTreeMap<u64, Slot>,
    next_id: u64,
    /// The newest chunks, each beginning where the one before ends.
    chunks: VecDeque<Arc<Chunk>>,
    ring_bytes: usize,
    /// The number of the first of them.
    first_chunk: u64,
    /// Where the first one begins.
    begin: Position,
    /// How far the feeder is.
    end: Position,
    end_seq: Option<u64>,
    /// The feeder follows the log.
    is_fed: bool,
    /// Turns that are given.
    turns: usize,
    /// Those who wait for one.
    queue: VecDeque<u64>,
    /// Whether each crier has been rung and not come yet.
    criers: Vec<bool>,
    /// Gaps that were told.
    pub(super) gaps: u64,
    lag_max: Option<u64>,
}

impl State {
    pub fn new(criers: usize, lag_max: Option<u64>) -> State {
        State {
            slots: BTreeMap::new(),
            next_id: 0,
            chunks: VecDeque::new(),
            ring_bytes: 0,
            first_chunk: 0,
            begin: Position::FIRST,
            end: Position::FIRST,
            end_seq: None,
            is_fed: false,
            turns: 0,
            queue: VecDeque::new(),
            criers: vec![false; criers],
            gaps: 0,
            lag_max,
        }
    }

    pub fn subscribers(&self) -> usize {
        self.slots.len()
    }

    /// How far behind the log's end the last of the subscribers is.
    pub fn lag_bytes_max(&self, view: &View) -> u64 {
        let lags = self.slots.values().map(|slot| view.bytes_behind(slot.at));
        lags.max().unwrap_or(0)
    }

    /// Where the feeder begins, or has got to.
    pub fn fed_to(&self) -> End {
        End {
            at: self.end,
            next_seq: self.end_seq,
        }
    }

    /// A slot for one who begins at `at`; `end` is where the log ends.
    pub fn enter(&mut self, filter: Arc<Filter>, at: Position, seq: Option<u64>, end: End) -> u64 {
        if !replace(&mut self.is_fed, true) {
            self.restart(end);
        }
        let id = self.next_id;
        self.next_id += 1;
        let slot = Slot {
            filter,
            wake: None,
            stage: Stage::Opening,
            is_away: false,
            at,
            seq,
            is_seq_sought: false,
            next_chunk: None,
            found: None,
            lag_min: u64::MAX,
        };
        self.slots.insert(id, slot);
        id
    }

    pub fn leave(&mut self, id: u64) {
        let slot = self.slots.remove(&id);
        if slot.is_some_and(|slot| slot.stage == Stage::Turn) {
            self.turns -= 1;
        }
    }

    /// Whether the feeder may rest, as nobody is there; it does then.
    pub fn rests(&mut self) -> bool {
        if self.slots.is_empty() {
            self.is_fed = false;
            self.chunks = VecDeque::new();
            self.ring_bytes = 0;
        }
        !self.is_fed
    }

    /// Somebody has laid hands on the live file: who is in that file has to begin again, where the feeder does.
    pub fn lose(&mut self, number: u64) {
        let there = self.slots.values_mut().filter(|slot| slot.at.number >= number);
        there.for_each(|slot| slot.found = Some(Found::Lost));
    }

    /// One whose answer has not begun goes on at `end`, and is told that there is a gap before it.
    pub fn displace(&mut self, id: u64, end: Position) {
        let slot = self.slots.get_mut(&id).expect(THERE);
        (slot.at, slot.seq) = (end, None);
        slot.found = Some(Found::Gap(end, false));
    }

    /// The feeder goes on at `end`, and what lies between is not in the ring: who was at its end is behind now.
    pub fn restart(&mut self, end: End) {
        // A number is left out, so that nobody takes the next chunk for the one behind his last.
        self.first_chunk = self.next_chunk() + 1;
        self.chunks.clear();
        self.ring_bytes = 0;
        (self.begin, self.end, self.end_seq) = (end.at, end.at, end.next_seq);
        let idle = self
            .slots
            .iter_mut()
            .filter(|(_, slot)| slot.stage == Stage::Idle);
        for (id, slot) in idle {
            slot.stage = Stage::Queued;
            self.queue.push_back(*id);
        }
    }

    fn next_chunk(&self) -> u64 {
        self.first_chunk + self.chunks.len() as u64
    }

    /// Takes in what the feeder has read: chunks up to `end`, with events of these `names`, sorted. How many wait for a
    /// turn then.
    pub fn push(&mut self, chunks: Vec<Arc<Chunk>>, names: &[Box<[u8]>], end: End) -> usize {
        for chunk in chunks {
            self.ring_bytes += chunk.bytes();
            self.chunks.push_back(chunk);
        }
        (self.end, self.end_seq) = (end.at, end.next_seq);
        while self.ring_bytes > RING_BYTES_MAX
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.ring_bytes -= oldest.bytes();
            self.first_chunk += 1;
            self.begin = oldest.end;
        }
        let next = Some(self.next_chunk());
        for (id, slot) in &mut self.slots {
            if slot.stage != Stage::Idle {
                continue;
            }
            if slot.filter.wants_any(names) {
                slot.stage = Stage::Queued;
                self.queue.push_back(*id);
            } else {
                slot.next_chunk = next;
                if end.at > slot.at {
                    (slot.at, slot.seq) = (end.at, end.next_seq);
                }
            }
        }
        self.queue.len()
    }

    /// The crier to be rung, if somebody waits for a turn and there is one to give.
    pub fn crier_to_ring(&mut self) -> Option<usize> {
        if self.queue.is_empty() || self.turns >= self.criers.len() * TURNS_A_CRY {
            return None;
        }
        let silent = self.criers.iter().position(|is_rung| !is_rung)?;
        self.criers[silent] = true;
        Some(silent)
    }

    /// A crier has been rung: gives turns to those who wait longest.
    pub fn cry(&mut self, crier: usize) -> Vec<Wake> {
        self.criers[crier] = false;
        let mut wakes = Vec::with_capacity(TURNS_A_CRY);
        while wakes.len() < TURNS_A_CRY
            && self.turns < self.criers.len() * TURNS_A_CRY
            && let Some(id) = self.queue.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.stage == Stage::Queued) else {
                continue;
            };
            if slot.is_away {
                slot.stage = Stage::Away;
                continue;
            }
            slot.stage = Stage::Turn;
            self.turns += 1;
            wakes.extend(slot.wake.clone());
        }
        wakes
    }

    fn enqueue(&mut self, id: u64, from: Stage) {
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.stage == from
        {
            slot.stage = Stage::Queued;
            self.queue.push_back(id);
        }
    }

    /// The answer has begun: from now on it is woken.
    pub fn attend(&mut self, id: u64, wake: Wake) {
        self.slots.get_mut(&id).expect(THERE).wake = Some(wake);
        self.enqueue(id, Stage::Opening);
    }

    /// The peer does not read: there are no turns for now, and one that it has is over.
    pub fn go_away(&mut self, id: u64) {
        let slot = self.slots.get_mut(&id).expect(THERE);
        slot.is_away = true;
        if slot.stage == Stage::Turn {
            slot.stage = Stage::Away;
            self.turns -= 1;
        }
    }

    /// The peer reads again.
    pub fn come_back(&mut self, id: u64) {
        self.slots.get_mut(&id).expect(THERE).is_away = false;
        self.enqueue(id, Stage::Away);
    }

    /// A catch-up reader has done its job.
    pub fn found(&mut self, id: u64, found: Found) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.found = Some(found);
        }
        self.enqueue(id, Stage::Reading);
    }

    /// The turn is over, and everything has been sent.
    pub fn end_turn(&mut self, id: u64) {
        let next = self.next_chunk();
        let slot = self.slots.get_mut(&id).expect(THERE);
        debug_assert!(slot.stage == Stage::Turn, "a turn ends once");
        self.turns -= 1;
        slot.stage = match slot.next_chunk {
            Some(number) if number == next && slot.found.is_none() => Stage::Idle,
            _ => Stage::Queued,
        };
        if slot.stage == Stage::Queued {
            self.queue.push_back(id);
        }
    }

    /// Everything before this place has been taken.
    pub fn position(&self, id: u64) -> Position {
        self.slots[&id].at
    }

    /// Uses a turn, if it is one's own. A job, if something is to be read first: the turn is over then.
    pub fn take(&mut self, id: u64, view: &View) -> (Taken, Option<Job>) {
        let slot = self.slots.get_mut(&id).expect(THERE);
        if slot.stage != Stage::Turn {
            return (Taken::Nothing, None);
        }
        match slot.found.take() {
            Some(Found::Chunk(chunk)) => {
                let from = slot.at;
                slot.pass(&chunk);
                return (Taken::Chunks(vec![chunk], from), None);
            }
            Some(Found::Text(text, end)) => {
                (slot.at, slot.seq) = (end, None);
                return (Taken::Text(text), None);
            }
            Some(Found::Gap(next, is_counted)) => {
                let seq = view.first_seq_of(next.number).filter(|_| is_counted);
                return (self.leave_out(id, next, seq), None);
            }
            Some(Found::Failed(error)) => return (Taken::Failed(error), None),
            Some(Found::Lost) => return (self.leave_out(id, self.end, None), None),
            Some(Found::Seq(seq)) => slot.seq = seq,
            None => {}
        }
        if slot.next_chunk.is_none() && slot.at >= self.begin {
            let before = self.chunks.partition_point(|chunk| chunk.end <= slot.at);
            slot.next_chunk = Some(self.first_chunk + before as u64);
        }
        if let Some(number) = slot.next_chunk.filter(|number| *number >= self.first_chunk) {
            return (self.take_from_ring(id, number), None);
        }
        slot.next_chunk = None;
        let lag = view.bytes_behind(slot.at);
        let is_behind = |max| lag > slot.lag_min.saturating_add(max);
        if self.lag_max.is_some_and(is_behind) {
            let may_know = slot.filter.is_all() && slot.seq.is_none() && self.end_seq.is_some();
            if may_know && !replace(&mut slot.is_seq_sought, true) {
                let at = slot.at;
                return (Taken::Nothing, Some(self.read(id, Job::Count { id, at })));
            }
            return (self.leave_out(id, self.end, self.end_seq), None);
        }
        slot.lag_min = slot.lag_min.min(lag);
        let (at, filter) = (slot.at, Arc::clone(&slot.filter));
        let job = Job::Read { id, at, filter };
        (Taken::Nothing, Some(self.read(id, job)))
    }

    fn take_from_ring(&mut self, id: u64, number: u64) -> Taken {
        let slot = self.slots.get_mut(&id).expect(THERE);
        let from = slot.at;
        let (mut chunks, mut bytes, mut next) = (Vec::new(), 0, number);
        while bytes < TURN_BYTES
            && let Some(chunk) = self.chunks.get((next - self.first_chunk) as usize)
        {
            next += 1;
            slot.pass(chunk);
            let wanted = chunk.bytes_wanted(&slot.filter);
            if wanted > 0 {
                bytes += wanted;
                chunks.push(Arc::clone(chunk));
            }
        }
        slot.next_chunk = Some(next);
        slot.lag_min = 0;
        Taken::Chunks(chunks, from)
    }

    /// Has a subscriber go on elsewhere, where the event with the number `seq` is next.
    fn leave_out(&mut self, id: u64, to: Position, seq: Option<u64>) -> Taken {
        self.gaps += 1;
        let slot = self.slots.get_mut(&id).expect(THERE);
        let counted = |(from, to): (u64, u64)| to.checked_sub(from);
        let skipped = slot
            .seq
            .zip(seq)
            .and_then(counted)
            .filter(|_| slot.filter.is_all());
        (slot.at, slot.seq) = (to, seq);
        (slot.next_chunk, slot.is_seq_sought) = (None, false);
        // He is measured by where he is now.
        slot.lag_min = u64::MAX;
        Taken::Gap(skipped, to)
    }

    /// Ends a turn until a catch-up reader has done `job`.
    fn read(&mut self, id: u64, job: Job) -> Job {
        self.slots.get_mut(&id).expect(THERE).stage = Stage::Reading;
        self.turns -= 1;
        job
    }
}

impl Slot {
    fn pass(&mut self, chunk: &Chunk) {
        // Otherwise a catch-up reader has been faster than the feeder, and read this for it already.
        if chunk.end > self.at {
            self.seq = chunk.next_seq(self.at, self.seq);
            self.at = chunk.end;
        }
    }
}

const THERE: &str = "a subscription has its slot until it is dropped";
