//! Taking messages: each line that was not taken before becomes a line of this log, and the log is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{Mark, State};
use super::status::FleetStatus;
use crate::event::{Lines, Parser};
use crate::ingest::{Level, Producer, Refused, View};
use crate::log::cursor::Position;
use crate::ship::names::Span;

/// Bytes of lines after which they are committed: below half of the smallest journal, also with another frame on top.
const BATCH_BYTES: usize = 128 << 10;
/// How long is waited at a time for room in the journal, and for the log.
const ROOM_WAIT: Duration = Duration::from_secs(1);
const LOG_WAIT: Duration = Duration::from_secs(30);
/// Time between two notes: each costs a sync or two.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// The longest line of a node's that is read again where it is not in our shape: as long as a setting lets one be.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its lines are among those that wait to be committed.
    Taken,
    /// All of it was taken before.
    Duplicate,
    /// What comes before it was not taken.
    Early,
}

/// Takes messages into the log.
pub struct Taker {
    state: State,
    producer: Producer,
    view: View,
    level: Level,
    status: Arc<FleetStatus>,
    lines: Lines,
    /// For lines that another program has written.
    parser: Parser,
    rendered: Lines,
    noted: Instant,
    /// Something was taken that is not noted.
    is_note_due: bool,
}

impl Taker {
    pub fn new(
        state: State,
        producer: Producer,
        view: View,
        level: Level,
        status: Arc<FleetStatus>,
    ) -> Taker {
        Taker {
            state,
            producer,
            view,
            level,
            status,
            lines: Lines::new(),
            parser: Parser::new(LINE_BYTES_MAX),
            rendered: Lines::new(),
            noted: Instant::now(),
            is_note_due: false,
        }
    }

    /// Behind the last line that was taken of a node.
    pub fn mark(&self, node: &str) -> Option<Mark> {
        self.state.of(node)
    }

    /// Whether there are as many lines as are to be committed at once.
    pub fn is_full(&self) -> bool {
        self.lines.bytes().len() >= BATCH_BYTES
    }

    /// Takes the lines of a message that were not taken before. `is_all` says that what comes before it is not in the stream.
    pub fn take(&mut self, node: &str, span: &Span, payload: &[u8], is_all: bool) -> Fate {
        let next = Mark {
            life: span.life,
            at: span.next,
        };
        let after = Mark {
            life: span.life,
            at: span.after,
        };
        let known = self.state.of(node);
        if known.is_some_and(|known| next <= known) {
            self.status.duplicate();
            return Fate::Duplicate;
        }
        if known.is_some_and(|known| known.life == span.life && after > known) {
            if !is_all {
                return Fate::Early;
            }
            self.status.gap();
            tracing::error!(node, from = %known.expect("it was compared").at, to = %span.after, "the stream of a node no longer has what comes next: it is missing here");
        }
        let mut events = 0;
        let mut at = span.from;
        for line in payload.split_inclusive(|byte| *byte == b'\n') {
            let bytes = line.strip_suffix(b"\n").unwrap_or(line);
            at = Position {
                number: at.number,
                offset: at.offset + bytes.len() as u64 + 1,
            };
            let mark = Mark { life: span.life, at };
            if known.is_some_and(|known| mark <= known) {
                continue;
            }
            if self.push(bytes, node, mark) {
                events += 1;
            } else {
                tracing::error!(node, %mark, "a line of a node's log is no event; it is left out");
            }
        }
        self.state.took(node, next);
        self.status.took(node, events);
        self.is_note_due = true;
        Fate::Taken
    }

    fn push(&mut self, line: &[u8], node: &str, mark: Mark) -> bool {
        if self.lines.push_of_node(line, node, mark) {
            return true;
        }
        // Of another program, which spells lines in another way: written again, and then it is one of ours.
        self.rendered.clear();
        self.parser.single(line, None, None, &mut self.rendered).is_ok()
            && self.lines.push_of_node(self.rendered.bytes(), node, mark)
    }

    /// Commits what was taken, and waits until the log has it.
    ///
    /// # Errors
    /// Why the log does not have it, as a sentence. What was taken is in the journal, or will be tried again.
    pub fn commit(&mut self) -> Result<(), String> {
        let is_noted = self.is_note_due && self.noted.elapsed() >= NOTE_EVERY;
        if !self.lines.is_empty() {
            let level = if is_noted { Level::Synced } else { self.level };
            match self.producer.reserve(self.lines.bytes().len(), ROOM_WAIT) {
                Ok(()) => {}
                Err(Refused::Full) => return Err("the journal is full".into()),
                Err(Refused::TooLarge) => {
                    return Err(
                        "a message has more lines than half the journal (METRICS_JOURNAL_BYTES_MAX)".into(),
                    );
                }
            }
            let commitment = self.producer.commit(&mut self.lines, level);
            let reached = self.producer.wait(commitment, LOG_WAIT);
            if reached.level < self.level {
                return Err("the log cannot be written".into());
            }
            if is_noted && reached.level == Level::Synced {
                self.note();
            }
        }
        Ok(())
    }

    /// Everything that was taken is in the log, and on the disk.
    fn note(&mut self) {
        self.noted = Instant::now();
        match self.state.note(self.view.end().at) {
            Ok(()) => self.is_note_due = false,
            Err(error) => {
                tracing::warn!(%error, "it cannot be noted what was taken; the next start reads more of the log")
            }
        }
    }

    /// At the end: what waits is committed, as far as that goes.
    pub fn finish(&mut self) {
        if let Err(error) = self.commit() {
            tracing::warn!(error, "what has come last is taken again by the next start");
        }
    }
}
