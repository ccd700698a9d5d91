//! Holds the log against what was acknowledged.
//!
//! The place where the log ends is taken before the first request, and the log is read from there when the last answer has come:
//! over files that were sealed or compressed meanwhile. An event that was acknowledged as `journaled` is in the log within
//! milliseconds, unless the disk hangs; so the log is waited for by progress: as long as events of this run come,
//! and [`PATIENCE`] after that.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::events::{Marks, Recognizer, Seen};
use super::ledger::{Fate, Ledger};
use super::progress::Progress;
use super::report::{EXAMPLES_MAX, Verify};
use crate::log::cursor::{Cursor, CursorError, Position, Start, Step};

/// How long the log may stand still while acknowledged events are missing: longer than a restart of the server takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may while only those are missing that nobody promised.
const PATIENCE_FOR_UNKNOWN: Duration = Duration::from_secs(1);
/// Time between two looks at its end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines between two looks at the terminal.
const SHOW_EVERY: u64 = 100_000;

/// A log, from some place on.
pub struct Watch {
    path: PathBuf,
    from: Position,
}

impl Watch {
    /// From its end, now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn begin(path: &Path) -> Result<Watch, CursorError> {
        Ok(Watch {
            path: path.to_owned(),
            from: Cursor::open(path, Start::End)?.position(),
        })
    }

    /// Reads what has come since, and says what the log has of the events in the ledger.
    ///
    /// # Errors
    /// The log cannot be read to its end.
    pub fn check(self, marks: &Marks, ledger: Ledger, progress: &Progress) -> Result<Verify, CursorError> {
        let mut reading = Reading::new(marks, ledger);
        let mut cursor = Cursor::open(&self.path, Start::At(self.from))?;
        let mut since = Instant::now();
        let (mut found, mut lines) = (0, 0_u64);
        loop {
            match cursor.step()? {
                Step::Line(line) => {
                    reading.line(line.at, line.bytes);
                    lines += 1;
                    if lines.is_multiple_of(SHOW_EVERY) {
                        progress.read(reading.found(), reading.sought());
                    }
                }
                Step::Notice(notice) => reading.example(|| notice.to_string()),
                Step::End => {
                    if reading.found() > found {
                        (found, since) = (reading.found(), Instant::now());
                    }
                    if since.elapsed() >= reading.patience() {
                        break;
                    }
                    progress.read(found, reading.sought());
                    sleep(LOOK_EVERY);
                }
            }
        }
        Ok(reading.finish(&self.path))
    }
}

struct Reading {
    recognizer: Recognizer,
    ledger: Ledger,
    examples: Vec<String>,
    acknowledged: u64,
    unknown: u64,
    /// Of the acknowledged ones.
    acknowledged_found: u64,
    /// Of those without an answer.
    unknown_found: u64,
}

impl Reading {
    fn new(marks: &Marks, ledger: Ledger) -> Reading {
        let (mut acknowledged, mut unknown) = (0, 0);
        for (_, fate, _) in ledger.entries() {
            match fate {
                Fate::Acknowledged => acknowledged += 1,
                Fate::Unknown => unknown += 1,
                Fate::Unsent | Fate::Refused => {}
            }
        }
        Reading {
            recognizer: Recognizer::new(marks),
            ledger,
            examples: Vec::new(),
            acknowledged,
            unknown,
            acknowledged_found: 0,
            unknown_found: 0,
        }
    }

    fn line(&mut self, at: Position, line: &[u8]) {
        let number = match self.recognizer.see(line) {
            Seen::Foreign => return,
            Seen::Damaged => {
                return self
                    .example(|| format!("the line at {at} has the run's id, and is no event that was sent"));
            }
            Seen::Event(number) => number,
        };
        match self.ledger.see(number) {
            Some((Fate::Acknowledged, false)) => self.acknowledged_found += 1,
            Some((Fate::Unknown, false)) => self.unknown_found += 1,
            Some((Fate::Refused, false)) => {}
            Some((_, true)) => self.example(|| format!("event {number:012} is there again at {at}")),
            Some((Fate::Unsent, false)) | None => {
                self.example(|| format!("event {number:012}, at {at}, was never sent"));
            }
        }
    }

    fn example(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what());
        }
    }

    fn found(&self) -> u64 {
        self.acknowledged_found + self.unknown_found
    }

    fn sought(&self) -> u64 {
        self.acknowledged + self.unknown
    }

    /// How long the log may stand still before it is believed that no more comes.
    fn patience(&self) -> Duration {
        if self.acknowledged_found < self.acknowledged {
            PATIENCE
        } else if self.unknown_found < self.unknown {
            PATIENCE_FOR_UNKNOWN
        } else {
            Duration::ZERO
        }
    }

    fn finish(self, path: &Path) -> Verify {
        let mut verify = Verify {
            log: path.display().to_string(),
            examples: self.examples,
            ..Verify::default()
        };
        for (number, fate, seen) in self.ledger.entries() {
            match (fate, seen) {
                (Fate::Unsent, _) => {}
                (_, 2..) => verify.twice += 1,
                (Fate::Acknowledged, 1) => verify.stored_once += 1,
                (Fate::Acknowledged, _) => {
                    verify.missing += 1;
                    if verify.examples.len() < EXAMPLES_MAX {
                        verify
                            .examples
                            .push(format!("event {number:012} was acknowledged and is missing"));
                    }
                }
                (Fate::Refused, 1) => verify.refused_stored += 1,
                (Fate::Refused, _) => verify.refused += 1,
                (Fate::Unknown, 1) => verify.unknown_stored += 1,
                (Fate::Unknown, _) => verify.unknown_missing += 1,
            }
        }
        verify
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FATES: [Fate; 3] = [Fate::Acknowledged, Fate::Refused, Fate::Unknown];

    /// Of each fate three events: one that the log has not, one that it has once, one that it has twice.
    fn reading() -> Reading {
        let mut ledger = Ledger::new(100);
        for (at, fate) in FATES.into_iter().enumerate() {
            let first = 10 * at as u64;
            ledger.mark(first, 3, fate);
            for number in [first + 1, first + 2, first + 2] {
                ledger.see(number);
            }
        }
        Reading::new(&Marks::new(1), ledger)
    }

    #[test]
    fn every_event_is_accounted_for_once() {
        let verify = reading().finish(Path::new("log"));
        let expected = Verify {
            log: "log".into(),
            stored_once: 1,
            missing: 1,
            // Whatever was answered: nothing may be there twice.
            twice: 3,
            refused: 1,
            refused_stored: 1,
            unknown_stored: 1,
            unknown_missing: 1,
            examples: vec!["event 000000000000 was acknowledged and is missing".into()],
        };
        assert_eq!(verify, expected);
        assert!(!verify.is_ok());
    }

    #[test]
    fn the_log_is_waited_for_as_long_as_something_may_still_come() {
        let mut reading = reading();
        assert_eq!(reading.sought(), 6);
        for (acknowledged, unknown, patience) in [
            (0, 0, PATIENCE),
            (2, 3, PATIENCE),
            (3, 2, PATIENCE_FOR_UNKNOWN),
            (3, 3, Duration::ZERO),
        ] {
            (reading.acknowledged_found, reading.unknown_found) = (acknowledged, unknown);
            assert_eq!(reading.patience(), patience, "{acknowledged}, {unknown}");
            assert_eq!(reading.found(), acknowledged + unknown);
        }
    }
}
