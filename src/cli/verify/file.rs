//! Checking one file of a log: each line, and the summary.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

use super::line::{self, Kind};
use crate::log::cursor::{Cursor, CursorError, Line, Notice, Step};
use crate::log::fs::{Fs, OsFs};
use crate::log::segment::{Family, Parts, SegmentId};
use crate::log::summary::{ByMinute, OTHER, Summary, Tally};

/// Findings kept of a file; the rest are counted.
pub const FINDINGS_MAX: usize = 20;
/// Names told apart while a file is counted; no server may be set to more.
const NAMES_MAX: usize = 1_000_000;
/// How long a running server may take to store a summary before that is told.
const LATE_MAX: Duration = Duration::from_secs(600);
/// Bytes between two words about how far it is.
const WORD_BYTES: u64 = 1 << 20;

/// Something that is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The file it is wrong with.
    pub file: String,
    /// The line, counted from 1; `None` if it is none of a line's.
    pub line: Option<u64>,
    /// Bytes of the file, unpacked, before what is wrong.
    pub byte: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// Findings: the first ones, and how many there are.
#[derive(Debug, Default)]
pub struct Findings {
    pub first: Vec<Finding>,
    pub total: u64,
}

impl Findings {
    pub fn add(&mut self, file: &str, place: Option<(u64, u64)>, what: impl Into<String>) {
        self.total += 1;
        if self.first.len() < FINDINGS_MAX {
            self.first.push(Finding {
                file: file.to_owned(),
                line: place.map(|(line, _)| line),
                byte: place.map(|(_, byte)| byte),
                what: what.into(),
            });
        }
    }
}

/// Where a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Beside the live file.
    Plain,
    /// In the archive.
    Compressed,
    /// Nowhere any more; its summary says what it had.
    Removed,
    /// It is the live file.
    Live,
}

/// What a file must go with.
#[derive(Clone, Copy)]
pub struct Task {
    /// The sealed file, and what there is of it; `None`: the live file.
    pub sealed: Option<(SegmentId, Parts)>,
    pub number: u64,
    /// The number of its first event, if that is known before it is read.
    pub first_seq: Option<u64>,
    /// Bytes of the live file when the check began: what comes later is not looked at.
    pub bytes: u64,
}

/// What was found of a file.
#[derive(Debug)]
pub struct Checked {
    pub name: String,
    pub number: u64,
    pub state: State,
    pub lines: u64,
    pub events: u64,
    pub torn: u64,
    pub bytes: u64,
    /// The number of its first event, by its summary if that can be read.
    pub first_seq: Option<u64>,
    /// How many it has, by its summary if it could not be read.
    pub seq_count: u64,
    /// The number of its first event, as numbers in its lines tell it.
    pub first_seq_of_lines: Option<u64>,
    /// Whether its summary can be believed and goes with the file.
    pub is_summary_right: bool,
    pub findings: Findings,
}

/// Checks files, one after another.
pub struct Checker<'a> {
    pub family: &'a Family,
    pub cursor: Cursor,
    /// Whether a server has the log open.
    pub is_held: bool,
    /// Told how many bytes are checked.
    pub progress: &'a ProgressBar,
}

/// A file that is being read.
struct Reading {
    checked: Checked,
    tally: Tally,
    /// Numbers that no event has, because a power cut took it: only where the file says that something is torn.
    skipped: u64,
    /// Whether a torn line came since the last event.
    is_torn: bool,
    /// Bytes behind the last line.
    half: u64,
    /// Whether it could be read to its end.
    is_whole: bool,
}

impl Checker<'_> {
    /// Checks a file.
    pub fn check(&mut self, task: Task) -> Checked {
        let Some((id, parts)) = task.sealed else {
            return self.check_live(task);
        };
        let path = self.family.summary(id);
        let (stored, why) = stored_summary(&path, id, parts);
        let mut reading = self.read(task);
        // One that was compressed or summarised meanwhile.
        let (stored, why) = match stored {
            None if self.is_held => stored_summary(
                &path,
                id,
                Parts {
                    summary: true,
                    ..parts
                },
            ),
            stored => (stored, why),
        };
        let checked = &mut reading.checked;
        let path = path.display().to_string();
        match &stored {
            None if checked.state == State::Removed => {
                checked
                    .findings
                    .add(&path, None, format!("{why}, and its file is gone"));
            }
            None if self.is_late(id, checked.state) => {}
            None => checked.findings.add(
                &path,
                None,
                format!("{why}; the next start of the server makes it, or --repair"),
            ),
            Some(summary) => {
                checked.first_seq = Some(summary.first_seq);
                checked.is_summary_right = true;
                if !reading.is_whole || checked.state == State::Removed {
                    checked.seq_count = summary.events + summary.skipped;
                }
                if checked.state == State::Removed {
                    (checked.lines, checked.events, checked.bytes) =
                        (summary.lines, summary.events, summary.bytes);
                } else if reading.is_whole {
                    let wrong = differences(&reading, id, summary);
                    reading.checked.is_summary_right = wrong.is_empty();
                    for what in wrong {
                        reading.checked.findings.add(&path, None, what);
                    }
                }
            }
        }
        reading.checked
    }

    /// Whether a summary that is not there is only late: the server stores it behind the sealing, as soon as the disk lets it.
    fn is_late(&self, id: SegmentId, state: State) -> bool {
        let path = match state {
            State::Compressed => self.family.compressed(id),
            _ => self.family.plain(id),
        };
        let sealed = OsFs.stat(&path).ok().flatten().map(|stat| stat.changed);
        let age = sealed.map(|sealed| sealed.elapsed().unwrap_or_default());
        self.is_held && age.is_some_and(|age| age < LATE_MAX) && !self.family.summary(id).exists()
    }

    fn check_live(&mut self, task: Task) -> Checked {
        let mut reading = self.read(task);
        let half = reading.half;
        if half > 0 && !self.is_held {
            let checked = &mut reading.checked;
            let place = (checked.lines + 1, checked.bytes);
            let what = format!(
                "the file ends within a line, after {half} bytes of it; the next start of the server completes it"
            );
            checked.findings.add(&checked.name, Some(place), what);
        }
        reading.checked
    }

    /// Reads a file, checking each line.
    fn read(&mut self, task: Task) -> Reading {
        let (path, state) = match task.sealed {
            Some((id, parts)) if parts.plain => (self.family.plain(id), State::Plain),
            Some((id, parts)) if parts.compressed => (self.family.compressed(id), State::Compressed),
            Some((id, _)) => (self.family.plain(id), State::Removed),
            None => (self.family.live(), State::Live),
        };
        let mut reading = Reading {
            checked: Checked {
                name: path.display().to_string(),
                number: task.number,
                state,
                lines: 0,
                events: 0,
                torn: 0,
                bytes: 0,
                first_seq: task.first_seq,
                seq_count: 0,
                first_seq_of_lines: None,
                is_summary_right: false,
                findings: Findings::default(),
            },
            tally: Tally::new(NAMES_MAX),
            skipped: 0,
            is_torn: false,
            half: 0,
            is_whole: true,
        };
        if state == State::Removed {
            return reading;
        }
        if let Err(error) = self.read_lines(task, &mut reading) {
            reading.is_whole = false;
            let checked = &mut reading.checked;
            let place = (checked.lines + 1, checked.bytes);
            let what = match &error {
                CursorError::Io { source, .. } => format!("it cannot be read: {source}"),
                other => other.to_string(),
            };
            checked.findings.add(&checked.name, Some(place), what);
        }
        let checked = &mut reading.checked;
        checked.first_seq = checked.first_seq.or(checked.first_seq_of_lines);
        checked.events = reading.tally.events();
        checked.seq_count = checked.events + reading.skipped;
        reading
    }

    fn read_lines(&mut self, task: Task, reading: &mut Reading) -> Result<(), CursorError> {
        let mut told = 0;
        self.cursor.read_only(task.number)?;
        loop {
            match self.cursor.step()? {
                Step::Line(line) => reading.line(&line),
                Step::Notice(Notice::HalfLine { at, bytes }) => {
                    reading.half = bytes;
                    reading.fault(at.offset, "the file ends within a line");
                }
                Step::Notice(Notice::TooLong { at, bytes }) => {
                    // Without the line there is no checksum to compare.
                    reading.is_whole = false;
                    reading.fault(
                        at.offset,
                        format!("a line of {bytes} bytes is longer than any that is stored"),
                    );
                    reading.checked.lines += 1;
                }
                Step::Notice(Notice::Gap { .. }) => reading.checked.state = State::Removed,
                Step::Notice(notice) => {
                    reading.is_whole = false;
                    reading.fault(reading.checked.bytes, notice.to_string());
                }
                Step::End => {
                    if task.sealed.is_none() {
                        reading.half = self.cursor.half_line_bytes();
                    }
                    break;
                }
            }
            let at = self.cursor.position();
            if at.number == task.number {
                reading.checked.bytes = at.offset;
            }
            if reading.checked.bytes - told >= WORD_BYTES {
                self.progress.inc(reading.checked.bytes - told);
                told = reading.checked.bytes;
            }
            if task.sealed.is_none() && reading.checked.bytes >= task.bytes {
                break;
            }
        }
        self.progress.inc(reading.checked.bytes - told);
        Ok(())
    }
}

impl Reading {
    fn line(&mut self, line: &Line<'_>) {
        match line::check(line.bytes) {
            Ok(Kind::Event { seq: Some(seq) }) => {
                let mut before = self.tally.events() + self.skipped;
                let first = self.checked.first_seq_of_lines.or(self.checked.first_seq);
                let mut expected = first.map(|first| first + before);
                if let Some(next) = expected.filter(|next| self.is_torn && seq > *next) {
                    self.skipped += seq - next;
                    before += seq - next;
                    expected = Some(seq);
                }
                self.is_torn = false;
                if expected.is_some_and(|expected| expected != seq) {
                    let expected = expected.unwrap_or_default();
                    self.fault(
                        line.at.offset,
                        format!("its sequence number is {seq}, where {expected} is the next"),
                    );
                }
                // What is wrong once is not wrong for all lines behind it.
                self.checked.first_seq_of_lines = Some(seq.saturating_sub(before));
            }
            Ok(Kind::Event { seq: None }) => {}
            Ok(Kind::Torn) => {
                self.checked.torn += 1;
                self.is_torn = true;
            }
            Err(fault) => self.fault(line.at.offset + fault.column as u64, fault.what),
        }
        self.tally.add_line(line.bytes);
        self.tally.append(line.bytes);
        self.tally.append(b"\n");
        self.checked.lines += 1;
    }

    fn fault(&mut self, byte: u64, what: impl Into<String>) {
        let checked = &mut self.checked;
        checked
            .findings
            .add(&checked.name, Some((checked.lines + 1, byte)), what);
    }
}

/// The summary at `path`, or why there is none that is good for anything.
fn stored_summary(path: &Path, id: SegmentId, parts: Parts) -> (Option<Summary>, String) {
    match Summary::read(&OsFs, path, id) {
        Ok(Some(summary)) => (Some(summary), String::new()),
        Ok(None) if parts.summary => (None, "the summary is damaged, of another version, or gone".into()),
        Ok(None) => (None, "the summary is missing".into()),
        Err(error) => (None, format!("the summary cannot be read: {error}")),
    }
}

/// What a summary says that is not so.
fn differences(reading: &Reading, id: SegmentId, stored: &Summary) -> Vec<String> {
    let found = reading.tally.summary(id, stored.first_seq);
    let mut wrong = Vec::new();
    let mut compare = |what: &str, said: u64, is: u64| {
        if said != is {
            wrong.push(format!("it says {said} {what}, the file has {is}"));
        }
    };
    compare("bytes", stored.bytes, found.bytes + reading.half);
    compare("lines", stored.lines, found.lines);
    compare("events", stored.events, found.events);
    if reading.half == 0 && stored.crc32c != found.crc32c {
        wrong.push(format!(
            "it says that the file's CRC-32C is {:08x}, it is {:08x}",
            stored.crc32c, found.crc32c
        ));
    }
    if (stored.first_minute, stored.last_minute) != (found.first_minute, found.last_minute) {
        wrong.push("the minutes of its first and its last event are not those of the file".into());
    }
    wrong.extend(wrong_counts(stored, &found));
    wrong
}

type Counts = (u64, Option<BTreeMap<Option<i64>, u64>>);

/// The first name whose events are not as many as the summary says.
fn wrong_counts(stored: &Summary, found: &Summary) -> Option<String> {
    let minutes = |minutes: &Option<ByMinute>| -> Option<BTreeMap<Option<i64>, u64>> {
        minutes.as_ref().map(|minutes| minutes.iter().copied().collect())
    };
    let said: BTreeMap<&[u8], Counts> = stored
        .counts
        .iter()
        .map(|counts| (counts.name(), (counts.total, minutes(&counts.minutes))))
        .collect();
    let mut is: BTreeMap<&[u8], Counts> = BTreeMap::new();
    for counts in &found.counts {
        // Who kept the summary may have told fewer names apart.
        let name = match said.contains_key(counts.name()) || !said.contains_key(OTHER) {
            true => counts.name(),
            false => OTHER,
        };
        let (total, by_minute) = is.entry(name).or_insert_with(|| (0, Some(BTreeMap::new())));
        *total += counts.total;
        match (by_minute.as_mut(), minutes(&counts.minutes)) {
            (Some(sum), Some(more)) => more
                .into_iter()
                .for_each(|(minute, count)| *sum.entry(minute).or_default() += count),
            _ => *by_minute = None,
        }
    }
    let is_same = |(total, minutes): &Counts, other: Option<&Counts>| {
        other.is_some_and(|(other_total, other_minutes)| {
            let both = minutes.as_ref().zip(other_minutes.as_ref());
            total == other_total && both.is_none_or(|(minutes, others)| minutes == others)
        })
    };
    let wrong = said
        .iter()
        .find(|(name, counts)| !is_same(counts, is.get(*name)))
        .or_else(|| is.iter().find(|(name, counts)| !is_same(counts, said.get(*name))));
    wrong.map(|(name, _)| {
        let total = |counts: &BTreeMap<&[u8], Counts>| counts.get(name).map_or(0, |(total, _)| *total);
        let name = String::from_utf8_lossy(name);
        match (total(&said), total(&is)) {
            (said, is) if said == is => {
                format!("the minutes of the events \"{name}\" are not those of the file")
            }
            (said, is) => format!("it says {said} events \"{name}\", the file has {is}"),
        }
    })
}
