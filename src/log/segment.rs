//! The files of a log: what they are called, and which there are.
//!
//! ```text
//! metrics.jsonl                                   the live file
//! metrics-20261122T211530Z-000017.jsonl           a sealed file: when it was begun (UTC), and its number
//! metrics-20261122T211530Z-000017.summary.json    what is counted of it; outlives the file
//! archive/metrics-20261122T211530Z-000017.jsonl.zst
//! metrics-20261122T211530Z-000017.sealing         while file 17 is sealed: a second name of it
//! metrics-000017.rescue                           after a failed sync: what was in doubt of file 17 (see `rescue`)
//! ```
//!
//! Numbers begin at 1 and are never given twice: the live file has the one after the highest that any file or summary
//! has, which is why summaries stay when their file has gone. Names sort as their numbers do up to 999,999, and by time
//! for longer.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::fs::Fs;
use crate::event::Timestamp;

/// The directory for compressed files, beside the live one.
pub const ARCHIVE: &str = "archive";

const SEALING: &str = ".sealing";

/// What tells the sealed files of a log apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Its number among the files of the log.
    pub number: u64,
    /// When it was begun, in seconds since the Unix epoch.
    pub since: u64,
}

/// The names of one log's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    directory: PathBuf,
    /// The live file's name up to its last dot.
    stem: OsString,
    /// The rest of it, dot included.
    extension: OsString,
}

/// What there is of a sealed file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The file itself, beside the live one.
    pub plain: bool,
    /// The file in the archive.
    pub compressed: bool,
    /// Its summary.
    pub summary: bool,
}

/// What a file name says.
enum Kind {
    Plain,
    Compressed,
    Summary,
}

impl Family {
    /// The family of the live file at `live`.
    pub fn of(live: &Path) -> Family {
        let directory = live.parent().filter(|parent| !parent.as_os_str().is_empty());
        let name = live.file_name().unwrap_or_default().as_bytes();
        let dot = memchr::memrchr(b'.', name)
            .filter(|dot| *dot > 0)
            .unwrap_or(name.len());
        Family {
            directory: directory.unwrap_or(Path::new(".")).to_owned(),
            stem: OsStr::from_bytes(&name[..dot]).to_owned(),
            extension: OsStr::from_bytes(&name[dot..]).to_owned(),
        }
    }

    /// Where live and sealed files and the summaries are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where compressed files are.
    pub fn archive_directory(&self) -> PathBuf {
        self.directory.join(ARCHIVE)
    }

    /// The live file.
    pub fn live(&self) -> PathBuf {
        self.directory.join(joined(&[&self.stem, &self.extension]))
    }

    /// The name of a sealed file.
    pub fn file_name(&self, id: SegmentId) -> OsString {
        joined(&[&self.stem, OsStr::new(&tail_of(id)), &self.extension])
    }

    /// The path of a sealed file.
    pub fn plain(&self, id: SegmentId) -> PathBuf {
        self.directory.join(self.file_name(id))
    }

    /// The path of a compressed file.
    pub fn compressed(&self, id: SegmentId) -> PathBuf {
        let name = joined(&[&self.file_name(id), OsStr::new(".zst")]);
        self.archive_directory().join(name)
    }

    /// Whether a path has the name of a compressed file.
    pub fn is_compressed(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        matches!(self.parse(name), Some((_, Kind::Compressed)))
    }

    /// The path of a summary.
    pub fn summary(&self, id: SegmentId) -> PathBuf {
        self.beside(id, ".summary.json")
    }

    /// The path of a small file about a sealed one, which outlives it.
    pub fn beside(&self, id: SegmentId, end: &str) -> PathBuf {
        let name = joined(&[&self.stem, OsStr::new(&tail_of(id)), OsStr::new(end)]);
        self.directory.join(name)
    }

    /// The second name that a file has while it is sealed.
    pub fn sealing(&self, id: SegmentId) -> PathBuf {
        self.beside(id, SEALING)
    }

    /// The path of what was in doubt of the file with this number, written again.
    pub fn rescue(&self, number: u64) -> PathBuf {
        let tail = format!("-{number:06}.rescue");
        self.directory.join(joined(&[&self.stem, OsStr::new(&tail)]))
    }

    /// The path of an empty file that says that something of the live file is in doubt.
    pub fn doubt(&self) -> PathBuf {
        self.directory.join(joined(&[&self.stem, OsStr::new(".doubt")]))
    }

    /// The numbers of the files of which something was in doubt, in order.
    ///
    /// # Errors
    /// What reading the directory says.
    pub fn rescues(&self, fs: &dyn Fs) -> io::Result<Vec<u64>> {
        let number_of = |name: OsString| -> Option<u64> {
            let rest = name.as_bytes().strip_prefix(self.stem.as_bytes())?;
            let digits = rest.strip_prefix(b"-")?.strip_suffix(b".rescue")?;
            let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
            (self.rescue(number).file_name() == Some(&name)).then_some(number)
        };
        let names = fs.names_in(&self.directory)?;
        let mut numbers: Vec<u64> = names.into_iter().filter_map(number_of).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// What there is of the sealed files, in order.
    ///
    /// # Errors
    /// What reading the directories says. None at all is no error.
    pub fn list(&self, fs: &dyn Fs) -> io::Result<BTreeMap<SegmentId, Parts>> {
        let mut found: BTreeMap<SegmentId, Parts> = BTreeMap::new();
        for (directory, is_archive) in [(self.directory.clone(), false), (self.archive_directory(), true)] {
            for name in fs.names_in(&directory)? {
                let Some((id, kind)) = self.parse(&name) else {
                    continue;
                };
                let parts = found.entry(id);
                match (kind, is_archive) {
                    (Kind::Plain, false) => parts.or_default().plain = true,
                    (Kind::Summary, false) => parts.or_default().summary = true,
                    (Kind::Compressed, true) => parts.or_default().compressed = true,
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Finishes the sealing that a process, or the power, was cut off in. Without this a file that was being sealed could be
    /// counted twice and written to, or be missing.
    ///
    /// # Errors
    /// What reading the directory, renaming or removing says.
    pub fn settle(&self, fs: &dyn Fs) -> io::Result<()> {
        self.settle_rename(fs)?;
        self.settle_sealing(fs)
    }

    /// Where renaming is linking and unlinking: a sealed file that has another name, too, loses that.
    fn settle_rename(&self, fs: &dyn Fs) -> io::Result<()> {
        let newest = self.list(fs)?.into_iter().rev().find(|(_, parts)| parts.plain);
        let Some((id, _)) = newest else { return Ok(()) };
        let identity = fs.identity_at(&self.plain(id))?;
        for other in [self.live(), aside(&self.plain(id))] {
            if identity.is_some() && fs.identity_at(&other)? == identity {
                tracing::info!(file = %other.display(), "a sealed file has this name, too, as its renaming was cut off; it is removed");
                fs.remove(&other)?;
                fs.sync_directory(&self.directory)?;
            }
        }
        Ok(())
    }

    /// What was being sealed is there under its second name, whatever else a power cut has left of its names.
    fn settle_sealing(&self, fs: &dyn Fs) -> io::Result<()> {
        let known = self.list(fs)?;
        for id in fs
            .names_in(&self.directory)?
            .iter()
            .filter_map(|name| self.parse_sealing(name))
        {
            let second = self.sealing(id);
            let is_live = fs.identity_at(&self.live())? == fs.identity_at(&second)?;
            // A file that is known was sealed: all of it, or its summary, came after its name was on the disk.
            if is_live || known.contains_key(&id) {
                fs.remove(&second)?;
                continue;
            }
            tracing::info!(file = %self.file_name(id).display(), "the power went while this file was sealed; it gets its name now");
            fs.rename_new(&second, &self.plain(id))?;
            fs.sync_directory(&self.directory)?;
        }
        Ok(())
    }

    fn parse_sealing(&self, name: &OsStr) -> Option<SegmentId> {
        let rest = name.as_bytes().strip_prefix(self.stem.as_bytes())?;
        let (id, end) = parse_tail(std::str::from_utf8(rest).ok()?)?;
        (end == SEALING).then_some(id)
    }

    fn parse(&self, name: &OsStr) -> Option<(SegmentId, Kind)> {
        let rest = name.as_bytes().strip_prefix(self.stem.as_bytes())?;
        let rest = std::str::from_utf8(rest).ok()?;
        let (id, end) = parse_tail(rest)?;
        let kind = match end.as_bytes() {
            b".summary.json" => Kind::Summary,
            end if end == self.extension.as_bytes() => Kind::Plain,
            end if end.strip_suffix(b".zst") == Some(self.extension.as_bytes()) => Kind::Compressed,
            _ => return None,
        };
        Some((id, kind))
    }
}

impl SegmentId {
    /// The id of a file with this number that was begun at `since`.
    pub fn new(number: u64, since: SystemTime) -> SegmentId {
        let since = since
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        SegmentId { number, since }
    }
}

/// Where a file is made that gets the name `path` when it is whole. No `*.jsonl` pattern matches it.
pub fn aside(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".new");
    name.into()
}

/// `-20261122T211530Z-000017`
fn tail_of(id: SegmentId) -> String {
    let micros = i64::try_from(id.since)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    let stamp: String = Timestamp { micros }
        .to_string()
        .chars()
        .filter(|char| char.is_ascii_alphanumeric())
        .collect();
    format!("-{stamp}-{:06}", id.number)
}

/// The id that a file name's tail has, and what follows it.
fn parse_tail(text: &str) -> Option<(SegmentId, &str)> {
    let (stamp, rest) = text.strip_prefix('-')?.split_once('-')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, end) = rest.split_at(digits);
    let number = number.parse().ok().filter(|number| *number > 0)?;
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let spelt = format!(
        "{}-{}-{}T{}:{}:{}Z",
        date.get(..4)?,
        date.get(4..6)?,
        date.get(6..8)?,
        time.get(0..2)?,
        time.get(2..4)?,
        time.get(4..6)?
    );
    let since = Timestamp::parse(&spelt)?.micros / 1_000_000;
    let id = SegmentId {
        number,
        since: u64::try_from(since).ok()?,
    };
    // One name a file: no other spelling is ours.
    text.starts_with(&tail_of(id)).then_some((id, end))
}

fn joined(parts: &[&OsStr]) -> OsString {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.as_bytes()).copied().collect();
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::fs::OsFs;
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let id = SegmentId {
            number: 17,
            since: 1_795_382_130,
        };
        let family = Family::of(Path::new("/logs/my.metrics.jsonl"));
        assert_eq!(family.live(), Path::new("/logs/my.metrics.jsonl"));
        let plain = "my.metrics-20261122T211530Z-000017.jsonl";
        assert_eq!(family.plain(id), Path::new("/logs").join(plain));
        assert_eq!(
            family.compressed(id),
            Path::new("/logs/archive").join(format!("{plain}.zst"))
        );
        for path in [family.plain(id), family.compressed(id), family.summary(id)] {
            let (found, _) = family.parse(path.file_name().unwrap()).unwrap();
            assert_eq!(found, id, "{path:?}");
        }
        let large = SegmentId {
            number: 12_345_678,
            ..id
        };
        assert_eq!(family.parse(&family.file_name(large)).unwrap().0, large);
    }

    #[test]
    fn names_of_others_are_left_alone() {
        let family = Family::of(Path::new("metrics.jsonl"));
        assert_eq!(family.directory(), Path::new("."));
        for name in [
            "metrics.jsonl",
            "metrics.jsonl.1",
            "metrics-20261122T211530Z-000017.jsonl.tmp",
            "metrics-20261122T211530Z-17.jsonl",
            "metrics-20261122T211530Z-000000.jsonl",
            "metrics-20261322T211530Z-000017.jsonl",
            "metrics-20261122T2115Z-000017.jsonl",
            "metrics-20261122-000017.jsonl",
            "other-20261122T211530Z-000017.jsonl",
            "metrics-20261122T211530Z-000017.txt",
            "metrics-2026é122T211530Z-000017.jsonl",
        ] {
            assert!(family.parse(OsStr::new(name)).is_none(), "{name}");
        }
        let bare = Family::of(Path::new("/logs/events"));
        assert_eq!(bare.live(), Path::new("/logs/events"));
    }

    #[test]
    fn a_directory_is_listed_in_order_with_what_there_is_of_each() {
        let directory = tempfile::tempdir().unwrap();
        let family = Family::of(&directory.path().join("metrics.jsonl"));
        assert_eq!(family.list(&OsFs).unwrap(), BTreeMap::new());
        let [first, second] =
            [(2, 1_000_000), (10, 2_000_000)].map(|(number, since)| SegmentId { number, since });
        std::fs::create_dir(family.archive_directory()).unwrap();
        for path in [
            family.plain(second),
            family.summary(second),
            family.summary(first),
            family.compressed(first),
            family.live(),
        ] {
            std::fs::write(path, "").unwrap();
        }
        let list: Vec<_> = family.list(&OsFs).unwrap().into_iter().collect();
        let archived = Parts {
            plain: false,
            compressed: true,
            summary: true,
        };
        let sealed = Parts {
            plain: true,
            compressed: false,
            summary: true,
        };
        assert_eq!(list, [(first, archived), (second, sealed)]);
    }
}
