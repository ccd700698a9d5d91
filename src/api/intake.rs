//! What a connection has taken in: the lines of a burst, what was committed of them, and the answers owed for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::refusal::Shortage;
use super::{Shared, ack};
use crate::event::Lines;
use crate::http::{Output, OwedSlot};
use crate::ingest::{Acknowledged, Commitment, Level, Producer, Refused};

/// Most that an idle connection keeps of its lines, in bytes.
const IDLE_BYTES_MAX: usize = 64 << 10;

/// The way into the journal of one connection, and what is under way on it.
pub struct Intake {
    shared: Arc<Shared>,
    pub producer: Producer,
    /// Lines of the burst's singles that are not committed yet, and the highest level asked for among them.
    pub burst: Lines,
    burst_level: Level,
    /// What was committed in this burst and is waited for when it is settled, with its number of lines.
    commitments: Vec<(Commitment, usize)>,
    owed: Vec<Owed>,
    /// When those who wait in this burst give up: one deadline each for room and for a level, whatever the number of
    /// requests.
    room_until: Option<Instant>,
    level_until: Option<Instant>,
}

/// An answer that waits for its level.
struct Owed {
    slot: OwedSlot,
    level: Level,
    events: Events,
    /// The body of the 202.
    body: Vec<u8>,
}

/// The events of a request, among those committed.
enum Events {
    /// The line at this place of a commitment, which for a single is the one the burst will be committed with.
    One { commitment: usize, line: usize },
    /// All lines of these commitments.
    All(Range<usize>),
}

impl Intake {
    pub fn new(shared: Arc<Shared>, producer: Producer) -> Intake {
        Intake {
            shared,
            producer,
            burst: Lines::new(),
            burst_level: Level::Journaled,
            commitments: Vec::new(),
            owed: Vec::new(),
            room_until: None,
            level_until: None,
        }
    }

    /// Makes room for `bytes` of lines, those of the burst included.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), Refused> {
        if self.producer.try_reserve(self.burst.bytes().len() + bytes) {
            return Ok(());
        }
        // Nobody waits for room while holding some: what is promised so far goes first.
        self.commit_burst();
        let until = *self
            .room_until
            .get_or_insert_with(|| Instant::now() + self.shared.enqueue_timeout);
        self.producer
            .reserve(bytes, until.saturating_duration_since(Instant::now()))
    }

    /// Promises `level` for the line that was pushed last; its answer is owed until the burst is settled.
    pub fn owe_single(&mut self, level: Level, body: Vec<u8>, output: &mut Output) {
        self.burst_level = self.burst_level.max(level);
        let events = Events::One {
            commitment: self.commitments.len(),
            line: self.burst.count() - 1,
        };
        let slot = output.owe();
        self.owed.push(Owed {
            slot,
            level,
            events,
            body,
        });
    }

    /// Commits the singles collected so far, as one frame.
    pub fn commit_burst(&mut self) {
        if self.burst.is_empty() {
            return self.producer.release();
        }
        let level = std::mem::replace(&mut self.burst_level, Level::Journaled);
        let lines = self.burst.count();
        let commitment = self.producer.commit(&mut self.burst, level);
        if level > Level::Journaled {
            self.commitments.push((commitment, lines));
        }
    }

    /// Begins a batch: what is committed from here on belongs to it. Gives its beginning.
    pub fn begin_batch(&mut self) -> usize {
        self.commit_burst();
        self.commitments.len()
    }

    /// Commits `lines` as a frame of their own, behind what came before them.
    pub fn commit(&mut self, lines: &mut Lines, level: Level) -> Result<(), Refused> {
        if lines.is_empty() {
            return Ok(());
        }
        self.reserve(lines.bytes().len())?;
        let count = lines.count();
        let commitment = self.producer.commit(lines, level);
        if level > Level::Journaled {
            self.commitments.push((commitment, count));
        }
        // What is committed later may be read from the peer a long time after.
        self.room_until = None;
        Ok(())
    }

    /// Answers 202 to the batch that began at `begin`, now or when its level is reached.
    pub fn end_batch(&mut self, begin: usize, level: Level, body: Vec<u8>, output: &mut Output) {
        let events = begin..self.commitments.len();
        if events.is_empty() {
            // Of no event every level is reached at once.
            return output.json(202, &[("X-Ack", ack::name(level, &self.shared.view))], &body);
        }
        let slot = output.owe();
        self.owed.push(Owed {
            slot,
            level,
            events: Events::All(events),
            body,
        });
    }

    /// Commits what is collected, waits for what was promised and hands in the answers.
    pub fn settle(&mut self, output: &mut Output) {
        self.commit_burst();
        self.pay_owed(output);
        (self.room_until, self.level_until) = (None, None);
        if self.burst.capacity() > IDLE_BYTES_MAX {
            self.burst = Lines::new();
        }
    }

    /// Gives back memory that a connection at rest does not need.
    pub fn rest(&mut self) {
        self.shared.spare.give_lines(std::mem::take(&mut self.burst));
        (self.commitments, self.owed) = Default::default();
    }

    fn pay_owed(&mut self, output: &mut Output) {
        if self.owed.is_empty() {
            // What was committed for a batch that was then refused is waited for by nobody.
            return self.commitments.clear();
        }
        let until = *self
            .level_until
            .get_or_insert_with(|| Instant::now() + self.shared.ack_timeout);
        let wait = |(commitment, lines)| {
            let left = until.saturating_duration_since(Instant::now());
            (self.producer.wait(commitment, left), lines)
        };
        let acknowledged: Vec<(Acknowledged, usize)> = self.commitments.drain(..).map(wait).collect();
        for owed in self.owed.drain(..) {
            let part = match &owed.events {
                Events::One { commitment, .. } => *commitment..commitment + 1,
                Events::All(part) => part.clone(),
            };
            let part = &acknowledged[part];
            let level = part.iter().map(|(reached, _)| reached.level).min();
            let level = level.expect("an answer is owed for a commitment");
            let reached = ack::name(level.min(owed.level), &self.shared.view);
            let numbers = match owed.events {
                Events::One { line, .. } => spelled(part[0].0.first_sequence + line as u64, 1),
                Events::All(_) => {
                    let ranges = part
                        .iter()
                        .map(|(reached, lines)| spelled(reached.first_sequence, *lines));
                    ranges.collect::<Vec<_>>().join(",")
                }
            };
            let numbered = [("X-Ack", reached), ("X-Seq", numbers.as_str())];
            // A level below `written` has no numbers.
            let headers = &numbered[..if level >= Level::Written { 2 } else { 1 }];
            let sync_failed = part.iter().any(|(reached, _)| reached.sync_failed);
            output.fill(owed.slot, |output| {
                if level >= owed.level {
                    return output.json(202, headers, &owed.body);
                }
                let (shortage, sentence) = if sync_failed {
                    let sentence = "The events are in the log, but it could not be synced to the disk.";
                    (Shortage::Sync, sentence)
                } else {
                    let sentence = "The events are stored, but did not reach the level asked for in time (METRICS_ACK_TIMEOUT).";
                    (Shortage::Time, sentence)
                };
                shortage.count(output);
                // No Retry-After: the events are stored, and sent again they would be stored twice.
                output.detail(503, headers, sentence);
            });
        }
    }
}

/// So many sequence numbers from `first` on, as `X-Seq` names them.
fn spelled(first: u64, count: usize) -> String {
    match count {
        1 => first.to_string(),
        _ => format!("{first}-{}", first + count as u64 - 1),
    }
}
