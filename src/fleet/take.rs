//! Taking messages: each line that was not taken before becomes a line of this log, and the log is waited for.
//!
//! That a line was taken is known from its commit on, so a message that comes again brings nothing new, even where the log was waited
//! for in vain. What is owed by then stays owed: nothing is settled, of this message or of a later one, before it is paid.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::{Mark, State};
use super::status::FleetStatus;
use crate::event::{Lines, Parser};
use crate::ingest::{Commitment, Level, Producer, Refused, View};
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
    /// What comes before it was not taken; or it may not have been, as this is the first one of a node's life.
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
    /// Committed, and not known to have reached the level.
    owed: Option<Commitment>,
    /// A sync has failed of something that was taken: what the log has of it is to be read.
    is_in_doubt: bool,
    log_wait: Duration,
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
            owed: None,
            is_in_doubt: false,
            log_wait: LOG_WAIT,
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
        let of_life = known.filter(|known| known.life == span.life);
        if of_life.is_none_or(|known| after > known) && !is_all {
            return Fate::Early;
        }
        if let Some(known) = of_life.filter(|known| after > *known) {
            self.status.gap();
            tracing::error!(node, from = %known.at, to = %span.after, "the stream of a node no longer has what comes next: it is missing here");
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

    /// Whether what was taken has to be found out from the log once more: by another taker.
    pub fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Commits what was taken, and waits until the log has it, and all that was committed before.
    ///
    /// # Errors
    /// Why the log does not have it, as a sentence. What was taken is in the journal, or will be tried again.
    pub fn commit(&mut self) -> Result<(), String> {
        self.settle()?;
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
            self.owed = Some(self.producer.commit(&mut self.lines, level));
            if self.settle()? == Some(Level::Synced) && is_noted {
                self.note();
            }
        }
        Ok(())
    }

    /// Waits for what is owed, if anything is; how far that is then.
    fn settle(&mut self) -> Result<Option<Level>, String> {
        let Some(commitment) = self.owed.take() else {
            return Ok(None);
        };
        let (reached, commitment) = match self.producer.wait_or_keep(commitment, self.log_wait) {
            Ok(reached) => (reached, None),
            Err((reached, commitment)) => (reached, Some(commitment)),
        };
        if reached.level >= self.level {
            return Ok(Some(reached.level));
        }
        self.owed = commitment;
        self.is_in_doubt |= reached.sync_failed;
        Err(match reached.level {
            Level::Journaled => "the log cannot be written".into(),
            _ => "the log cannot be synced".into(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Engine;
    use crate::ingest::tests::config;
    use crate::log::fs::faulty::{Faults, FaultyFs};

    const NODE: &str = "a";

    /// An engine on a disk that does as it is told, and what takes messages into it at that level.
    fn taker(folder: &std::path::Path, fs: &FaultyFs, level: Level) -> (Engine, Taker) {
        let config = config(folder);
        let engine = Engine::open(config.clone(), Arc::new(fs.clone())).unwrap();
        let mut taker = Taker::new(
            State::recover(&config.log).unwrap(),
            engine.entrance().producer(),
            engine.view(),
            level,
            Arc::default(),
        );
        taker.log_wait = Duration::from_millis(20);
        (engine, taker)
    }

    /// The line of a node that begins there, and where it lies.
    fn message(from: u64, after: u64) -> (Span, Vec<u8>) {
        let line = r#"{"visitor_id":"visitor","event":"e","timestamp":"2026-11-22T21:15:30Z","metadata":{},"user_agent":null}"#;
        let place = |offset| Position { number: 1, offset };
        let span = Span {
            life: 7,
            after: place(after),
            from: place(from),
            next: place(from + line.len() as u64 + 1),
        };
        (span, line.as_bytes().to_vec())
    }

    #[test]
    fn nothing_is_settled_before_the_disk_has_it_however_often_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let fs = FaultyFs::new(1, Faults::default());
        let (engine, mut taker) = taker(folder.path(), &fs, Level::Synced);
        let (span, line) = message(0, 0);
        fs.hold_syncs(true);
        assert_eq!(taker.take(NODE, &span, &line, true), Fate::Taken);
        assert_eq!(taker.commit(), Err("the log cannot be synced".into()));
        assert_eq!(taker.take(NODE, &span, &line, false), Fate::Duplicate);
        assert_eq!(taker.commit(), Err("the log cannot be synced".into()));
        assert_eq!(engine.view().status().synced_bytes(), 0);
        fs.hold_syncs(false);
        taker.log_wait = LOG_WAIT;
        taker.commit().unwrap();
        assert_eq!(engine.view().status().synced_bytes(), engine.view().live_bytes());
        assert!(!taker.is_in_doubt());
    }

    #[test]
    fn what_may_be_lost_is_found_out_from_the_log_once_more() {
        let folder = tempfile::tempdir().unwrap();
        let fs = FaultyFs::new(1, Faults::default());
        let (_engine, mut taker) = taker(folder.path(), &fs, Level::Synced);
        taker.log_wait = LOG_WAIT;
        let (span, line) = message(0, 0);
        // Neither the file nor a fresh one can be synced.
        fs.set(|faults| faults.syncs = 2);
        assert_eq!(taker.take(NODE, &span, &line, true), Fate::Taken);
        assert_eq!(taker.commit(), Err("the log cannot be synced".into()));
        assert!(taker.is_in_doubt());
    }

    #[test]
    fn a_message_is_taken_once_and_not_before_what_precedes_it() {
        let folder = tempfile::tempdir().unwrap();
        let fs = FaultyFs::new(1, Faults::default());
        let (engine, mut taker) = taker(folder.path(), &fs, Level::Written);
        taker.log_wait = LOG_WAIT;
        let (first, line) = message(0, 0);
        let (second, _) = message(first.next.offset, first.next.offset);
        let (third, _) = message(second.next.offset, second.next.offset);
        let fates = [
            (first, false, Fate::Early),
            (first, true, Fate::Taken),
            (third, false, Fate::Early),
            (first, false, Fate::Duplicate),
            (second, false, Fate::Taken),
            (third, false, Fate::Taken),
            (second, true, Fate::Duplicate),
        ];
        for (span, is_all, fate) in fates {
            assert_eq!(taker.take(NODE, &span, &line, is_all), fate, "{span}");
            taker.commit().unwrap();
        }
        assert_eq!(engine.view().counters().total(), 3);
        assert_eq!(taker.status.taken().gaps, 0);
        // Of another life it cannot be told from its place whether it is the first.
        let other = Span { life: 8, ..first };
        assert_eq!(taker.take(NODE, &other, &line, false), Fate::Early);
        // Two frames of which the second begins within the first: only its rest is taken.
        let (fourth, _) = message(third.next.offset, third.next.offset);
        let longer = Span {
            next: Position {
                number: 1,
                offset: fourth.next.offset,
            },
            from: third.from,
            ..third
        };
        let lines = [&line[..], b"\n", &line, b"\n"].concat();
        assert_eq!(taker.take(NODE, &longer, &lines, false), Fate::Taken);
        taker.commit().unwrap();
        assert_eq!(engine.view().counters().total(), 4);
        // What the stream has not any more is given up, once, and told.
        let (late, _) = message(fourth.next.offset + 1_000, fourth.next.offset + 1_000);
        assert_eq!(taker.take(NODE, &late, &line, false), Fate::Early);
        assert_eq!(taker.take(NODE, &late, &line, true), Fate::Taken);
        taker.commit().unwrap();
        assert_eq!(
            (engine.view().counters().total(), taker.status.taken().gaps),
            (5, 1)
        );
    }
}
