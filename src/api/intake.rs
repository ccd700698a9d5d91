//! What a connection has taken in: what is to be waited for of a burst's events, and the answers owed for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::refusal::Shortage;
use super::{Shared, ack};
use crate::event::Lines;
use crate::http::{Output, OwedSlot};
use crate::ingest::{Acknowledged, Commitment, Level, NotJoined, Producer, Refused};

/// The way into the journal of one connection, and what is under way on it.
pub struct Intake {
    shared: Arc<Shared>,
    pub producer: Producer,
    /// What is to be waited for when the burst is settled. Of a batch with its number of lines; of singles there is one for
    /// all of the burst that are committed together.
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
    /// The line at this place of a commitment.
    One { commitment: usize, line: usize },
    /// All lines of these commitments.
    All(Range<usize>),
}

impl Intake {
    pub fn new(shared: Arc<Shared>, producer: Producer) -> Intake {
        Intake {
            shared,
            producer,
            commitments: Vec::new(),
            owed: Vec::new(),
            room_until: None,
            level_until: None,
        }
    }

    /// Takes in one event, of which `parse` pushes the line; it may take up to `bytes`. Gives the line's place in its frame.
    pub fn take_in<E>(
        &mut self,
        bytes: usize,
        level: Level,
        parse: impl FnOnce(&mut Lines) -> Result<(), E>,
    ) -> Result<usize, NotJoined<E>> {
        let timeout = || left_of(&mut self.room_until, self.shared.enqueue_timeout);
        let joined = self.producer.join(bytes, level, timeout, parse)?;
        self.commitments
            .extend(joined.commitment.map(|commitment| (commitment, 1)));
        Ok(joined.line)
    }

    /// Promises `level` for the event that was taken in last, as `line` of its frame; its answer is owed until the burst is
    /// settled.
    pub fn owe_single(&mut self, line: usize, level: Level, body: Vec<u8>, output: &mut Output) {
        let events = Events::One {
            commitment: self.commitments.len() - 1,
            line,
        };
        let slot = output.owe();
        self.owed.push(Owed {
            slot,
            level,
            events,
            body,
        });
    }

    /// Begins a batch: what is committed from here on belongs to it. Gives its beginning.
    pub fn begin_batch(&mut self) -> usize {
        self.producer.commit_joined();
        self.commitments.len()
    }

    /// Commits `lines` as a frame of their own, behind what came before them.
    pub fn commit(&mut self, lines: &mut Lines, level: Level) -> Result<(), Refused> {
        if lines.is_empty() {
            return Ok(());
        }
        let bytes = lines.bytes().len();
        if !self.producer.try_reserve(bytes) {
            let timeout = left_of(&mut self.room_until, self.shared.enqueue_timeout);
            self.producer.reserve(bytes, timeout)?;
        }
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
        self.producer.settle();
        self.pay_owed(output);
        (self.room_until, self.level_until) = (None, None);
    }

    /// Gives back memory that a connection at rest does not need.
    pub fn rest(&mut self) {
        (self.commitments, self.owed) = Default::default();
    }

    fn pay_owed(&mut self, output: &mut Output) {
        if self.owed.is_empty() {
            // What was committed for a batch that was then refused is waited for by nobody.
            return self.commitments.clear();
        }
        let (until, timeout) = (&mut self.level_until, self.shared.ack_timeout);
        let wait = |(commitment, lines)| (self.producer.wait(commitment, left_of(until, timeout)), lines);
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

/// What is left of `timeout`, which began when this was first asked.
fn left_of(until: &mut Option<Instant>, timeout: Duration) -> Duration {
    let now = Instant::now();
    until.get_or_insert(now + timeout).saturating_duration_since(now)
}

/// So many sequence numbers from `first` on, as `X-Seq` names them.
fn spelled(first: u64, count: usize) -> String {
    match count {
        1 => first.to_string(),
        _ => format!("{first}-{}", first + count as u64 - 1),
    }
}
