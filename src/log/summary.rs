//! What is counted of a file of the log, so that nobody has to read the file for it: lines, bytes, a checksum, and events
//! by name and minute.
//!
//! The writer keeps a [`Tally`] of the live file as it appends; when the file is sealed the tally becomes its
//! [`Summary`], which is stored beside it, aside first, synced and renamed. It outlives the file: lifetime totals are the
//! sum of all summaries and of the live file's tally.
//!
//! **Format.** One line of JSON, `{"crc32c":"…","summary":{"version":1,…}}`; the checksum is over the bytes of the inner
//! object. One of another version, or whose checksum does not hold, is not believed and made anew from the file.
//!
//! **Bounds.** At most 65,536 pairs of a name and a minute are kept, some 4 MB: beyond that (hostile time stamps,
//! thousands of names) a summary has totals by name only, and a question about time reads the file. Names are bounded as
//! those of the lifetime counts are.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fs::Fs;
use super::lines::{Ending, for_each_line};
use super::segment::SegmentId;
use crate::event::facts_of_line;

/// Version of the format.
const VERSION: u32 = 1;
/// Most pairs of a name and a minute that a tally keeps.
const CELLS_MAX: usize = 1 << 16;
/// The name under which events are counted whose own name came after the bound was reached, as JSON text without the
/// quotes.
pub const OTHER: &[u8] = b"__other__";

/// What is counted of a file so far.
///
/// Names are JSON text without the quotes, in the one spelling that lines have.
#[derive(Clone, Debug)]
pub struct Tally {
    names_max: usize,
    lines: u64,
    events: u64,
    skipped: u64,
    bytes: u64,
    crc32c: u32,
    minutes: Option<(i64, i64)>,
    names: HashMap<Box<[u8]>, u32>,
    /// By number of the name: its events.
    totals: Vec<u64>,
    /// By number of the name and minute; `None` once there were too many.
    cells: Option<HashMap<(u32, Option<i64>), u64>>,
}

impl Tally {
    /// Of an empty file; `names_max` names are told apart.
    pub fn new(names_max: usize) -> Tally {
        Tally {
            names_max,
            lines: 0,
            events: 0,
            skipped: 0,
            bytes: 0,
            crc32c: 0,
            minutes: None,
            names: HashMap::new(),
            totals: Vec::new(),
            cells: Some(HashMap::new()),
        }
    }

    /// The next bytes of the file.
    pub fn append(&mut self, bytes: &[u8]) {
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        self.bytes += bytes.len() as u64;
    }

    /// So many more lines.
    pub fn add_lines(&mut self, lines: u64) {
        self.lines += lines;
    }

    /// `count` more events of `name` in `minute`.
    pub fn add_events(&mut self, name: &[u8], minute: Option<i64>, count: u64) {
        self.events += count;
        if let Some(minute) = minute {
            let (first, last) = self.minutes.unwrap_or((minute, minute));
            self.minutes = Some((first.min(minute), last.max(minute)));
        }
        let number = match self.names.get(name) {
            Some(number) => *number,
            None => self.number_of_new(name),
        };
        self.totals[number as usize] += count;
        if let Some(cells) = &mut self.cells {
            *cells.entry((number, minute)).or_default() += count;
            if cells.len() > CELLS_MAX {
                self.cells = None;
            }
        }
    }

    /// The next line of the file, without its newline; answers whether it is an event.
    pub fn add_line(&mut self, line: &[u8]) -> bool {
        self.lines += 1;
        let facts = facts_of_line(line);
        if let Some(facts) = &facts {
            self.add_events(&facts.name, facts.minute, 1);
        }
        facts.is_some()
    }

    /// The last event has the number `last`, the first one has `first_seq` or would have it. Numbers that no event has are those of
    /// events that a power cut took.
    pub fn numbered_up_to(&mut self, first_seq: u64, last: u64) {
        self.skipped = (last + 1).saturating_sub(first_seq + self.events);
    }

    /// Numbers up to the last event's that no event has.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Of what `from` gives; `each` is called with each line that is an event. And how the file ends: a last line without
    /// a newline is counted among the bytes only.
    ///
    /// # Errors
    /// What reading says.
    pub fn of(
        from: &mut dyn Read,
        names_max: usize,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<(Tally, Ending)> {
        let mut tally = Tally::new(names_max);
        let mut hashed = Hashed {
            from,
            crc32c: 0,
            bytes: 0,
        };
        let ending = for_each_line(&mut hashed, |line| {
            if tally.add_line(line) {
                each(line);
            }
        })?;
        (tally.crc32c, tally.bytes) = (hashed.crc32c, hashed.bytes);
        Ok((tally, ending))
    }

    fn number_of_new(&mut self, name: &[u8]) -> u32 {
        let name = match self.names.len() < self.names_max {
            true => name,
            false => OTHER,
        };
        let next = self.totals.len() as u32;
        let number = *self.names.entry(name.into()).or_insert(next);
        if number == next {
            self.totals.push(0);
        }
        number
    }

    /// Bytes counted.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// CRC-32C of the bytes counted.
    pub fn checksum(&self) -> u32 {
        self.crc32c
    }

    /// Events counted.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Events by name, in the order of their first ones.
    pub fn by_name(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let mut names: Vec<(u32, &[u8])> = self
            .names
            .iter()
            .map(|(name, number)| (*number, &**name))
            .collect();
        names.sort_unstable();
        names
            .into_iter()
            .map(|(number, name)| (name, self.totals[number as usize]))
    }

    /// The summary of the file `id`, whose first event has the number `first_seq`.
    pub fn summary(&self, id: SegmentId, first_seq: u64) -> Summary {
        let mut counts: Vec<NameCounts> = self
            .by_name()
            .map(|(name, total)| NameCounts::new(name, total))
            .collect();
        if let Some(cells) = &self.cells {
            let mut minutes = vec![Vec::new(); counts.len()];
            for ((number, minute), count) in cells {
                minutes[*number as usize].push((*minute, *count));
            }
            for (counts, mut minutes) in counts.iter_mut().zip(minutes) {
                minutes.sort_unstable();
                counts.minutes = Some(minutes.into());
            }
        }
        Summary {
            version: VERSION,
            number: id.number,
            since: id.since,
            first_seq,
            lines: self.lines,
            events: self.events,
            skipped: self.skipped,
            bytes: self.bytes,
            crc32c: self.crc32c,
            first_minute: self.minutes.map(|(first, _)| first),
            last_minute: self.minutes.map(|(_, last)| last),
            counts,
        }
    }
}

/// Reads, and keeps a checksum of what was read.
struct Hashed<'f> {
    from: &'f mut dyn Read,
    crc32c: u32,
    bytes: u64,
}

impl Read for Hashed<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let size = self.from.read(to)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &to[..size]);
        self.bytes += size as u64;
        Ok(size)
    }
}

/// What is counted of a sealed file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    version: u32,
    /// The file's number.
    pub number: u64,
    /// When it was begun, in seconds since the Unix epoch.
    pub since: u64,
    /// The number of its first event; if it has none, the number that its first event would have.
    pub first_seq: u64,
    /// Lines, those that are no events included.
    pub lines: u64,
    /// Events.
    pub events: u64,
    /// Numbers up to the last event's that no event has: those of events that a power cut took.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub skipped: u64,
    /// Bytes.
    pub bytes: u64,
    /// CRC-32C of the whole file.
    pub crc32c: u32,
    /// The earliest minute of an event's time stamp, counted from the Unix epoch.
    pub first_minute: Option<i64>,
    /// The latest.
    pub last_minute: Option<i64>,
    /// Events by name, in the order of their first ones.
    pub counts: Vec<NameCounts>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How many events in which minute (from the Unix epoch; `None` for those without a time that could be read), in order.
pub type ByMinute = Box<[(Option<i64>, u64)]>;

/// The events of one name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameCounts {
    /// The name, a JSON string.
    event: Box<RawValue>,
    /// How many.
    pub total: u64,
    /// The same by minute. Missing where there were too many to keep: then the file has to be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub minutes: Option<ByMinute>,
}

impl NameCounts {
    fn new(name: &[u8], total: u64) -> NameCounts {
        let quoted = format!("\"{}\"", String::from_utf8_lossy(name));
        let event = RawValue::from_string(quoted).expect("a name is the inside of a JSON string");
        NameCounts {
            event,
            total,
            minutes: None,
        }
    }

    /// The name, as JSON text without the quotes.
    pub fn name(&self) -> &[u8] {
        let quoted = self.event.get().as_bytes();
        &quoted[1..quoted.len() - 1]
    }
}

/// A summary as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    crc32c: String,
    summary: Box<RawValue>,
}

impl Summary {
    /// The id of its file.
    pub fn id(&self) -> SegmentId {
        SegmentId {
            number: self.number,
            since: self.since,
        }
    }

    /// The number of the first event behind it.
    pub fn next_seq(&self) -> u64 {
        self.first_seq + self.events + self.skipped
    }

    /// Reads the summary at `path`, of the file `id`. `None` if there is none, or none that can be believed.
    ///
    /// # Errors
    /// What reading the file says.
    pub fn read(fs: &dyn Fs, path: &Path, id: SegmentId) -> io::Result<Option<Summary>> {
        let Some(mut file) = fs.open_read(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let believed = Summary::decode(&bytes).filter(|summary| summary.id() == id);
        if believed.is_none() {
            tracing::warn!(file = %path.display(), "a summary is damaged or of another version");
        }
        Ok(believed)
    }

    fn decode(bytes: &[u8]) -> Option<Summary> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let inner = stored.summary.get();
        let summary: Summary = serde_json::from_str(inner).ok()?;
        let whole = stored.crc32c == checksum(inner) && summary.version == VERSION;
        whole.then_some(summary)
    }

    /// Stores it at `path`: whole or not at all, and on the disk when this returns.
    ///
    /// # Errors
    /// What writing, syncing or renaming says.
    pub fn write(&self, fs: &dyn Fs, path: &Path) -> io::Result<()> {
        let inner = serde_json::value::to_raw_value(self)?;
        let stored = Stored {
            crc32c: checksum(inner.get()),
            summary: inner,
        };
        let mut text = serde_json::to_vec(&stored)?;
        text.push(b'\n');
        fs.put_whole(path, &text)
    }
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32c::crc32c(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::fs::OsFs;
    use super::*;

    const ID: SegmentId = SegmentId {
        number: 3,
        since: 1_000,
    };

    fn line(name: &str, stamp: &str) -> String {
        format!(
            "{{\"visitor_id\":\"visitor\",\"event\":\"{name}\",\"timestamp\":\"{stamp}\",\"metadata\":{{}},\"user_agent\":null}}\n"
        )
    }

    fn tally_of(text: &str) -> Tally {
        Tally::of(&mut text.as_bytes(), 100, |_| ()).unwrap().0
    }

    #[test]
    fn lines_are_counted_by_name_and_minute_and_torn_ones_are_no_events() {
        let text = [
            line("view", "1970-01-01T00:01:59.999999Z"),
            line("view", "1970-01-01T00:01:00Z"),
            line("a\\\"", "1969-12-31T23:59:59Z"),
            "{\"event\":\"view\",\"torn\":true}\n".to_owned(),
            line("view", "never"),
        ]
        .concat();
        let summary = tally_of(&text).summary(ID, 41);
        assert_eq!((summary.lines, summary.events, summary.first_seq), (5, 4, 41));
        assert_eq!(summary.bytes, text.len() as u64);
        assert_eq!(summary.crc32c, crc32c::crc32c(text.as_bytes()));
        assert_eq!((summary.first_minute, summary.last_minute), (Some(-1), Some(1)));
        let shown: Vec<_> = summary
            .counts
            .iter()
            .map(|counts| (counts.name(), counts.total, counts.minutes.clone().unwrap()))
            .collect();
        assert_eq!(
            shown,
            [
                (&b"view"[..], 3, vec![(None, 1), (Some(1), 2)].into()),
                (b"a\\\"", 1, vec![(Some(-1), 1)].into()),
            ]
        );
    }

    #[test]
    fn too_many_minutes_leave_the_totals() {
        let mut tally = Tally::new(2);
        for minute in 0..=CELLS_MAX as i64 {
            tally.add_events(b"a", Some(minute), 2);
        }
        for name in [b"b", b"c", b"d"] {
            tally.add_events(name, Some(0), 1);
        }
        let summary = tally.summary(ID, 1);
        let totals: Vec<_> = summary
            .counts
            .iter()
            .map(|counts| (counts.name(), counts.total))
            .collect();
        let of_a = 2 * (CELLS_MAX as u64 + 1);
        assert_eq!(totals, [(&b"a"[..], of_a), (b"b", 1), (OTHER, 2)]);
        assert!(summary.counts.iter().all(|counts| counts.minutes.is_none()));
        assert_eq!(summary.last_minute, Some(CELLS_MAX as i64));
    }

    #[test]
    fn a_summary_is_believed_only_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.summary.json");
        assert!(Summary::read(&OsFs, &path, ID).unwrap().is_none());
        let summary = tally_of(&line("view", "2025-10-09T12:34:56Z")).summary(ID, 1);
        summary.write(&OsFs, &path).unwrap();
        let read = Summary::read(&OsFs, &path, ID).unwrap().unwrap();
        assert_eq!(format!("{read:?}"), format!("{summary:?}"));
        assert!(
            Summary::read(&OsFs, &path, SegmentId { number: 4, ..ID })
                .unwrap()
                .is_none()
        );
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() - 1 {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let believed = Summary::decode(&damaged).map(|summary| format!("{summary:?}"));
                assert!(
                    believed.is_none_or(|believed| believed == format!("{summary:?}")),
                    "bit {bit} of byte {at}"
                );
            }
        }
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(Summary::read(&OsFs, &path, ID).unwrap().is_none());
    }
}
