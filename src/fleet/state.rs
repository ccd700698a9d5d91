//! What was taken of each node: read out of the log, with a note beside it so that not all of it has to be read.
//!
//! The note (`metrics.fleet.json`, put there whole and synced) says what was taken before some place of the log that is on the disk;
//! the lines behind it say the rest. Without a note, or with one of another log, all lines are read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event::origin_of_line;
use crate::log::cursor::{Cursor, CursorError, Position, Start, Step};
use crate::log::fs::{Fs, OsFs};
use crate::log::segment::Family;

/// Version of the format.
const VERSION: u32 = 1;
/// No note is longer: a thousand nodes take less than a tenth of it.
const BYTES_MAX: u64 = 1 << 20;

/// A place in a node's log, over all its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    pub life: u64,
    pub at: Position,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.life, self.at)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Mark, ()> {
        let (life, at) = text.split_once(':').ok_or(())?;
        Ok(Mark {
            life: life.parse().map_err(|_| ())?,
            at: at.parse().map_err(|_| ())?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// Everything before it in the log is in the marks.
    log: String,
    nodes: BTreeMap<String, String>,
}

/// What was taken of each node.
pub struct State {
    family: Family,
    /// Behind the last line that was taken.
    marks: BTreeMap<String, Mark>,
}

fn note(family: &Family) -> PathBuf {
    family.live().with_extension("fleet.json")
}

impl State {
    /// Finds out what the log at `log` has.
    ///
    /// # Errors
    /// What reading it says.
    pub fn recover(log: &Path) -> Result<State, CursorError> {
        let family = Family::of(log);
        let noted = read_note(&family).and_then(|(at, marks)| {
            // A place that the log does not have is of another one, or was lost with a disk.
            let cursor = Cursor::open(log, Start::At(at)).ok()?;
            Some((cursor, marks))
        });
        let (mut cursor, marks) = match noted {
            Some(noted) => noted,
            None => (Cursor::open(log, Start::Beginning)?, BTreeMap::new()),
        };
        let mut state = State { family, marks };
        loop {
            match cursor.step()? {
                Step::Line(line) => state.see(line.bytes),
                Step::Notice(notice) => tracing::warn!(%notice, "lines of the fleet's log cannot be read"),
                Step::End => return Ok(state),
            }
        }
    }

    fn see(&mut self, line: &[u8]) {
        let Some((node, at)) = origin_of_line(line) else {
            return;
        };
        let text = |bytes| std::str::from_utf8(bytes).ok();
        if let (Some(node), Some(at)) = (text(node), text(at).and_then(|at| at.parse().ok())) {
            self.took(node, at);
        }
    }

    /// Behind the last line that was taken of a node.
    pub fn of(&self, node: &str) -> Option<Mark> {
        self.marks.get(node).copied()
    }

    /// The nodes of which something was taken, with that place.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, Mark)> {
        self.marks.iter().map(|(node, mark)| (node.as_str(), *mark))
    }

    /// Something was taken.
    pub fn took(&mut self, node: &str, mark: Mark) {
        match self.marks.get_mut(node) {
            Some(known) => *known = mark.max(*known),
            None => {
                self.marks.insert(node.to_owned(), mark);
            }
        }
    }

    /// Notes it, where `log` is a place behind all that was taken, and everything before it is on the disk.
    ///
    /// # Errors
    /// What writing says.
    pub fn note(&self, log: Position) -> io::Result<()> {
        let marks = self
            .nodes()
            .map(|(node, mark)| (node.to_owned(), mark.to_string()));
        let stored = Stored {
            version: VERSION,
            log: log.to_string(),
            nodes: marks.collect(),
        };
        let mut text = serde_json::to_vec(&stored)?;
        text.push(b'\n');
        OsFs.put_whole(&note(&self.family), &text)?;
        Ok(OsFs.sync_directory(self.family.directory())?)
    }
}

fn read_note(family: &Family) -> Option<(Position, BTreeMap<String, Mark>)> {
    let mut text = String::new();
    let file = OsFs.open_read(&note(family)).ok()??;
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    let stored: Stored = serde_json::from_str(&text).ok()?;
    let marks: Result<BTreeMap<String, Mark>, ()> = stored
        .nodes
        .into_iter()
        .map(|(node, mark)| Ok((node, mark.parse()?)))
        .collect();
    let at = stored.log.parse().ok()?;
    (stored.version == VERSION).then_some((at, marks.ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(node: &str, at: &str) -> String {
        format!(
            "{{\"visitor_id\":\"visitor\",\"event\":\"e\",\"timestamp\":\"2026-11-22T21:15:30Z\",\"metadata\":{{}},\"user_agent\":null,\"node\":\"{node}\",\"at\":\"{at}\"}}\n"
        )
    }

    fn marks(log: &Path) -> Vec<(String, String)> {
        let state = State::recover(log).unwrap();
        let nodes = state.nodes();
        nodes
            .map(|(node, mark)| (node.to_owned(), mark.to_string()))
            .collect()
    }

    #[test]
    fn the_log_says_what_was_taken_and_the_note_saves_reading_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("metrics.jsonl");
        assert_eq!(marks(&log), []);
        let first = [line("a", "5:1:100"), line("b", "7:2:50"), line("a", "5:1:200")].concat();
        fs::write(&log, &first).unwrap();
        let expected = [("a".into(), "5:1:200".into()), ("b".into(), "7:2:50".into())];
        assert_eq!(marks(&log), expected);
        let end = Position {
            number: 1,
            offset: first.len() as u64,
        };
        State::recover(&log).unwrap().note(end).unwrap();
        // What lies before the place that is noted is not looked at again.
        fs::write(
            &log,
            [first.replace("5:1:200", "9:9:999"), line("b", "8:1:10")].concat(),
        )
        .unwrap();
        let expected = [("a".into(), "5:1:200".into()), ("b".into(), "8:1:10".into())];
        assert_eq!(marks(&log), expected);
        // A note that is of another log, or none at all, is passed over.
        fs::write(&log, line("c", "1:1:1")).unwrap();
        assert_eq!(marks(&log), [("c".into(), "1:1:1".into())]);
        fs::write(folder.path().join("metrics.fleet.json"), "{").unwrap();
        assert_eq!(marks(&log), [("c".into(), "1:1:1".into())]);
    }
}
