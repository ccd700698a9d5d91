//! Retention: which sealed files have to go.
//!
//! The oldest first, by age, by their number and by what they take on the disk together; a file counts with what it takes
//! as it is, compressed or not. The live file is no sealed file, and one that was sealed less than a minute ago stays
//! whatever the limits say: those who follow the log may still be reading it. Summaries stay for good.

use std::time::{Duration, SystemTime};

use super::stock::Held;

/// How long a file stays after it was sealed, whatever the limits.
pub(super) const FRESH: Duration = Duration::from_secs(60);

/// How much is kept; `None`: all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long after its last line was written a file is kept.
    pub age: Option<Duration>,
    /// Bytes that sealed files take on the disk.
    pub bytes: Option<u64>,
    /// Sealed files.
    pub files: Option<usize>,
}

/// Why a file has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Age,
    Bytes,
    Files,
}

impl Reason {
    /// The setting that says so.
    pub fn setting(self) -> &'static str {
        match self {
            Reason::Age => "METRICS_RETAIN_FOR",
            Reason::Bytes => "METRICS_RETAIN_BYTES",
            Reason::Files => "METRICS_RETAIN_FILES",
        }
    }
}

/// Which file has to go, and whether it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Surplus<'h> {
    pub file: &'h Held,
    pub reason: Reason,
    /// Something still needs it: it stays, and younger ones go in its place where it is room that is short.
    pub is_needed: bool,
}

impl Retention {
    /// Whether there is any limit.
    pub fn is_limited(&self) -> bool {
        self.age.is_some() || self.bytes.is_some() || self.files.is_some()
    }

    /// The files of `held`, the oldest first, that have to go.
    pub(super) fn surplus<'h>(
        &self,
        held: &'h [Held],
        now: SystemTime,
        may_remove: impl Fn(&Held) -> bool,
    ) -> Vec<Surplus<'h>> {
        let mut bytes: u64 = held.iter().map(|file| file.bytes).sum();
        let mut files = held.len();
        let mut surplus = Vec::new();
        for file in held {
            // A clock that was set back makes files of the future: they are young.
            let since = |then| now.duration_since(then).unwrap_or_default();
            if since(file.sealed) < FRESH {
                continue;
            }
            let reason = if self.age.is_some_and(|age| since(file.modified) >= age) {
                Reason::Age
            } else if self.bytes.is_some_and(|most| bytes > most) {
                Reason::Bytes
            } else if self.files.is_some_and(|most| files > most) {
                Reason::Files
            } else {
                continue;
            };
            let is_needed = !may_remove(file);
            if !is_needed {
                bytes -= file.bytes;
                files -= 1;
            }
            surplus.push(Surplus {
                file,
                reason,
                is_needed,
            });
        }
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::{Parts, SegmentId};

    const NOW: u64 = 1_000_000;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    /// A file of 100 bytes, so many seconds old.
    fn file(number: u64, age: u64) -> Held {
        Held {
            id: SegmentId {
                number,
                since: number,
            },
            parts: Parts::default(),
            bytes: 100,
            modified: at(NOW - age),
            sealed: at(NOW - age),
        }
    }

    /// The numbers of the files that have to go, those that are needed negative, and why.
    fn surplus(retention: Retention, held: &[Held], needed: &[u64]) -> Vec<(i64, Reason)> {
        retention
            .surplus(held, at(NOW), |file| !needed.contains(&file.id.number))
            .iter()
            .map(|surplus| {
                let number = surplus.file.id.number as i64;
                (if surplus.is_needed { -number } else { number }, surplus.reason)
            })
            .collect()
    }

    const FOUR: fn() -> [Held; 4] = || [file(1, 4000), file(2, 3000), file(3, 2000), file(4, 1000)];

    #[test]
    fn without_a_limit_everything_stays() {
        assert!(!Retention::default().is_limited());
        assert_eq!(surplus(Retention::default(), &FOUR(), &[]), []);
    }

    #[test]
    fn files_go_by_age_by_number_and_by_bytes_the_oldest_first() {
        let by_age = Retention {
            age: Some(Duration::from_secs(3000)),
            ..Retention::default()
        };
        assert_eq!(
            surplus(by_age, &FOUR(), &[]),
            [(1, Reason::Age), (2, Reason::Age)]
        );
        let by_files = Retention {
            files: Some(3),
            ..Retention::default()
        };
        assert_eq!(surplus(by_files, &FOUR(), &[]), [(1, Reason::Files)]);
        let by_bytes = Retention {
            bytes: Some(250),
            ..Retention::default()
        };
        assert_eq!(
            surplus(by_bytes, &FOUR(), &[]),
            [(1, Reason::Bytes), (2, Reason::Bytes)]
        );
        let exactly = Retention {
            bytes: Some(400),
            files: Some(4),
            ..Retention::default()
        };
        assert_eq!(surplus(exactly, &FOUR(), &[]), []);
        let all = Retention {
            age: Some(Duration::from_secs(4000)),
            bytes: Some(200),
            files: Some(1),
        };
        let expected = [(1, Reason::Age), (2, Reason::Bytes), (3, Reason::Files)];
        assert_eq!(surplus(all, &FOUR(), &[]), expected);
    }

    #[test]
    fn a_file_that_was_just_sealed_stays_however_old_its_lines_are() {
        let mut held = FOUR();
        for file in &mut held[..3] {
            file.sealed = at(NOW - 59);
        }
        held[3].sealed = at(NOW - 60);
        let nothing = Retention {
            age: Some(Duration::ZERO),
            bytes: Some(0),
            files: Some(0),
        };
        assert_eq!(surplus(nothing, &held, &[]), [(4, Reason::Age)]);
        // The clock was set back.
        held[3].sealed = at(NOW + 1000);
        assert_eq!(surplus(nothing, &held, &[]), []);
    }

    #[test]
    fn what_is_still_needed_stays_and_younger_files_make_room() {
        let two = Retention {
            files: Some(2),
            ..Retention::default()
        };
        let expected = [(-1, Reason::Files), (2, Reason::Files), (3, Reason::Files)];
        assert_eq!(surplus(two, &FOUR(), &[1]), expected);
    }
}
