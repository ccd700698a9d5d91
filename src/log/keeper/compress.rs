//! Compression of sealed files, on a thread that gets only the time that nobody else wants.
//!
//! ```text
//! archive/….zst.new written → time copied, fsync → read back and compared → renamed → directory synced → original unlinked
//! ```
//!
//! What is unpacked again must have the length and the CRC-32C that the summary has, or nothing is removed. A crash at any
//! step does no harm: a left-over `….new` is removed at the next start, and where both files are there the compressed one is
//! read back once more before the original goes.
//!
//! **Owner.** The thread `floodgate-pack` runs under `SCHED_IDLE`, which for the disk too is the idle class, and shares no
//! lock with the threads that take events: it is given a file and answers what came of it. What it reads and writes it drops
//! from the page cache, so that the end of the log stays there for those who follow it.
//!
//! **Bounds.** One file at a time, read 256 KiB at a time. The compressor's own memory depends on the level alone.

use std::io::{self, IoSlice, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::passing::{Fingerprint, Passing};
use crate::failpoint;
use crate::log::fs::{AppendFile, Fs};
use crate::log::segment::{Family, aside};
use crate::log::summary::Summary;

/// Bytes read at a time.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// How sealed files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// How long after it was sealed a file is left as it is, for those who have not read it to its end.
    pub after: Duration,
    /// The level of zstd.
    pub level: i32,
}

/// Why a file was not compressed.
#[derive(Debug)]
pub(super) enum CompressError {
    /// The file is not what its summary says: somebody changed it, or the disk did. It stays as it is.
    Altered,
    /// The process ends.
    Stopping,
    /// Reading or writing failed; it can be tried again.
    Io(io::Error),
}

impl From<io::Error> for CompressError {
    fn from(error: io::Error) -> Self {
        CompressError::Io(error)
    }
}

impl std::fmt::Display for CompressError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CompressError::Altered => f.write_str("the file is not what its summary says; it stays as it is"),
            CompressError::Stopping => f.write_str("the process ends"),
            CompressError::Io(error) => error.fmt(f),
        }
    }
}

/// Does the work.
pub(super) struct Press {
    pub fs: Arc<dyn Fs>,
    pub family: Family,
    pub level: i32,
    /// Stored once when the process ends; looked at between two chunks.
    pub stopping: Arc<AtomicBool>,
}

impl Press {
    /// Lets the calling thread have only what nobody else wants, of the processor and of the disk.
    pub fn step_back() {
        use thread_priority::ThreadPriority;
        use thread_priority::unix::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle) {
            tracing::warn!(
                ?error,
                "compression runs at the usual priority: the system allows no other"
            );
        }
    }

    /// Removes what an earlier process has left half done.
    ///
    /// # Errors
    /// What reading the directory or removing says.
    pub fn tidy(fs: &dyn Fs, family: &Family) -> io::Result<()> {
        let directory = family.archive_directory();
        for name in fs.names_in(&directory)? {
            let path = directory.join(name);
            if path.extension().is_some_and(|end| end == "new")
                && family.is_compressed(&path.with_extension(""))
            {
                fs.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Puts the file with that summary into the archive and removes the original; answers its new size.
    pub fn compress(&self, summary: &Summary) -> Result<u64, CompressError> {
        let id = summary.id();
        let (plain, packed) = (self.family.plain(id), self.family.compressed(id));
        let aside = aside(&packed);
        self.fs.make_directory(&self.family.archive_directory())?;
        let is_there = match self.unpacked(&packed)? {
            Some(found) if found == Some(Fingerprint::of(summary)) => true,
            Some(_) => {
                tracing::warn!(file = %packed.display(), "a compressed file is damaged, its original is here; compressing it again");
                self.fs.remove(&packed)?;
                false
            }
            None => false,
        };
        if !is_there {
            let written = self.write(summary, &plain, &aside).and_then(|()| {
                failpoint::hit("compress.written");
                match self.unpacked(&aside)? {
                    Some(Some(found)) if found == Fingerprint::of(summary) => Ok(()),
                    _ => Err(io::Error::other("what was compressed does not unpack to what it was").into()),
                }
            });
            if let Err(error) = written {
                // The next attempt makes it anew.
                self.fs.remove(&aside).ok();
                return Err(error);
            }
            failpoint::hit("compress.verified");
            self.fs.rename_new(&aside, &packed)?;
        }
        failpoint::hit("compress.renamed");
        self.fs
            .sync_directory(&self.family.archive_directory())
            .map_err(io::Error::from)?;
        self.fs.remove(&plain)?;
        failpoint::hit("compress.removed");
        Ok(self.fs.stat(&packed)?.map_or(0, |stat| stat.bytes))
    }

    fn write(&self, summary: &Summary, plain: &Path, aside: &Path) -> Result<(), CompressError> {
        let source = self
            .fs
            .open_read(plain)?
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let modified = self
            .fs
            .stat(plain)?
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?
            .modified;
        let target = self.fs.create(aside)?;
        let mut encoder = zstd::stream::write::Encoder::new(Appender(&*target), self.level)?;
        encoder.include_checksum(true)?;
        encoder.set_pledged_src_size(Some(summary.bytes))?;
        let mut read = Fingerprint::default();
        let mut passing = Passing::new(source);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let bytes = self.next(&mut passing, &mut chunk)?;
            read.write_all(bytes)?;
            if bytes.is_empty() || read.bytes > summary.bytes {
                break;
            }
            encoder.write_all(bytes)?;
            failpoint::hit("compress.half");
        }
        if read != Fingerprint::of(summary) {
            return Err(CompressError::Altered);
        }
        encoder.finish()?;
        target.finish(modified)?;
        target.uncache(0..target.length()?);
        Ok(())
    }

    /// What a compressed file unpacks to: `None` if there is no file, `Some(None)` if it does not unpack.
    fn unpacked(&self, path: &Path) -> Result<Option<Option<Fingerprint>>, CompressError> {
        let Some(source) = self.fs.open_read(path)? else {
            return Ok(None);
        };
        let mut passing = Passing::new(source);
        let unpacked = Fingerprint::unpacked(&mut passing, |_| self.stopping.load(Ordering::Relaxed));
        match (unpacked, passing.error) {
            (Ok(found), _) => Ok(Some(Some(found))),
            (Err(_), Some(error)) => Err(error.into()),
            (Err(_), None) if self.stopping.load(Ordering::Relaxed) => Err(CompressError::Stopping),
            (Err(_), None) => Ok(Some(None)),
        }
    }

    /// The next chunk of a file; empty at its end.
    fn next<'c>(&self, from: &mut Passing, chunk: &'c mut [u8]) -> Result<&'c [u8], CompressError> {
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return Err(CompressError::Stopping);
            }
            match from.read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
                Ok(size) => return Ok(&chunk[..size]),
            }
        }
    }
}

/// Appends what is written, whatever the size of the pieces that go in.
struct Appender<'f>(&'f dyn AppendFile);

impl Write for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(&[IoSlice::new(bytes)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::log::fs::OsFs;
    use crate::log::fs::faulty::{Faults, FaultyFs};
    use crate::log::segment::SegmentId;
    use crate::log::summary::Tally;
    use std::time::SystemTime;

    const ID: SegmentId = SegmentId {
        number: 1,
        since: 1_000_000_000,
    };

    fn lines() -> Vec<u8> {
        let line = |number| format!("{{\"visitor_id\":\"visitor-{number}\",\"event\":\"view\"}}\n");
        (0..20_000).map(line).collect::<String>().into_bytes()
    }

    fn summary_of(bytes: &[u8]) -> Summary {
        Tally::of(&mut &*bytes, 10, |_| ()).unwrap().0.summary(ID, 1)
    }

    fn checked(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn press(fs: Arc<dyn Fs>, directory: &Path) -> Press {
        Press {
            fs,
            family: Family::of(&directory.join("metrics.jsonl")),
            level: 3,
            stopping: Arc::default(),
        }
    }

    /// A press for a directory with one sealed file, and the paths of that and of its compressed twin.
    fn with_file(directory: &Path) -> (Press, PathBuf, PathBuf) {
        let press = press(Arc::new(OsFs), directory);
        let (plain, packed) = (press.family.plain(ID), press.family.compressed(ID));
        std::fs::write(&plain, lines()).unwrap();
        (press, plain, packed)
    }

    #[test]
    fn a_file_is_moved_into_the_archive_with_its_time_and_a_checksum() {
        let directory = tempfile::tempdir().unwrap();
        let (press, plain, packed) = with_file(directory.path());
        let written = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
        std::fs::File::options()
            .write(true)
            .open(&plain)
            .and_then(|file| file.set_modified(written))
            .unwrap();
        let size = press.compress(&summary_of(&lines())).unwrap();
        let bytes = std::fs::read(&packed).unwrap();
        assert_eq!(bytes.len() as u64, size);
        assert!(zstd::decode_all(&*bytes).unwrap() == lines());
        // RFC 8878, 3.1.1.1.1: the frame has a content checksum.
        assert_eq!(bytes[4] & 0b100, 0b100);
        assert_eq!(std::fs::metadata(&packed).unwrap().modified().unwrap(), written);
        assert!(!plain.exists());
        assert!(!aside(&packed).exists());
    }

    #[test]
    fn a_file_that_is_not_what_its_summary_says_stays() {
        for change in [
            |bytes: &mut Vec<u8>| bytes[5000] ^= 1,
            |bytes: &mut Vec<u8>| bytes.extend_from_slice(b"more\n"),
            |bytes: &mut Vec<u8>| bytes.truncate(5000),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let (press, plain, packed) = with_file(directory.path());
            let mut changed = lines();
            change(&mut changed);
            std::fs::write(&plain, &changed).unwrap();
            let error = press.compress(&summary_of(&lines())).unwrap_err();
            assert!(matches!(error, CompressError::Altered), "{error}");
            assert!(std::fs::read(&plain).unwrap() == changed);
            assert!(!packed.exists() && !aside(&packed).exists());
        }
    }

    #[test]
    fn where_both_are_there_the_compressed_one_is_read_back_before_the_original_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (press, plain, packed) = with_file(directory.path());
        let summary = summary_of(&lines());
        std::fs::create_dir(directory.path().join("archive")).unwrap();
        let good = zstd::encode_all(&*lines(), 1).unwrap();
        std::fs::write(&packed, &good).unwrap();
        press.compress(&summary).unwrap();
        assert!(std::fs::read(&packed).unwrap() == good, "it was good, and stays");
        assert!(!plain.exists());
        let other = zstd::encode_all(&lines()[1..], 1).unwrap();
        let good_but_a_byte = checked(&lines());
        let good_but_a_byte = good_but_a_byte[..good_but_a_byte.len() - 1].to_vec();
        // Also one of whose checksum a byte is missing.
        for bad in [
            &good[..good.len() / 2],
            &good_but_a_byte,
            &other,
            &b"?"[..],
            &b""[..],
        ] {
            std::fs::write(&plain, lines()).unwrap();
            std::fs::write(&packed, bad).unwrap();
            press.compress(&summary).unwrap();
            assert!(zstd::decode_all(std::fs::File::open(&packed).unwrap()).unwrap() == lines());
            assert!(!plain.exists());
        }
    }

    #[test]
    fn whatever_fails_the_file_is_there_plain_or_whole_in_the_archive() {
        let summary = summary_of(&lines());
        for seed in 0..200 {
            let faults = Faults {
                short: 40,
                interrupted: 20,
                torn: 20,
                nothing: 5,
                renames: (seed % 2) as u32,
                syncs: (seed % 3) as u32,
                directory_syncs: (seed % 5) as u32,
                creates: (seed % 2) as u32,
                space: (seed % 7 == 0).then_some(5_000),
                ..Faults::default()
            };
            let fs = FaultyFs::new(seed, faults);
            let press = press(Arc::new(fs.clone()), Path::new("data"));
            let (plain, packed) = (press.family.plain(ID), press.family.compressed(ID));
            fs.put(&plain, &lines());
            let mut attempts = 0;
            while let Err(error) = press.compress(&summary) {
                assert!(matches!(error, CompressError::Io(_)), "seed {seed}: {error}");
                assert!(fs.contents(&plain) == Some(lines()), "seed {seed}");
                attempts += 1;
                assert!(attempts < 1000, "seed {seed}: {error}");
                fs.set(|faults| faults.space = None);
            }
            assert!(fs.contents(&plain).is_none(), "seed {seed}");
            assert!(fs.contents(&aside(&packed)).is_none(), "seed {seed}");
            assert!(zstd::decode_all(&*fs.contents(&packed).unwrap()).unwrap() == lines());
            assert!(fs.directory_syncs() > 0);
        }
    }

    #[test]
    fn a_stop_leaves_the_file_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (press, plain, packed) = with_file(directory.path());
        press.stopping.store(true, Ordering::Relaxed);
        let error = press.compress(&summary_of(&lines())).unwrap_err();
        assert!(matches!(error, CompressError::Stopping), "{error}");
        assert!(plain.exists() && !packed.exists() && !aside(&packed).exists());
    }

    #[test]
    fn only_what_we_left_half_done_is_tidied_away() {
        let directory = tempfile::tempdir().unwrap();
        let (press, _, packed) = with_file(directory.path());
        Press::tidy(&OsFs, &press.family).unwrap();
        let archive = directory.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        let others = [
            packed.clone(),
            archive.join("theirs.new"),
            archive.join("notes.txt"),
        ];
        for path in others.iter().chain([&aside(&packed)]) {
            std::fs::write(path, "x").unwrap();
        }
        Press::tidy(&OsFs, &press.family).unwrap();
        assert!(!aside(&packed).exists());
        assert!(others.iter().all(|path| path.exists()));
    }

    #[test]
    fn the_thread_gets_only_what_nobody_else_wants() {
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let (_, fields) = stat.rsplit_once(')').unwrap();
            // Field 41 of proc_pid_stat(5); the first behind the parenthesis is the third.
            fields.split_ascii_whitespace().nth(41 - 3).unwrap().to_owned()
        };
        let in_thread = std::thread::spawn(move || {
            let before = policy();
            Press::step_back();
            (before, policy())
        });
        // 5 is SCHED_IDLE in sched(7).
        assert_eq!(in_thread.join().unwrap(), ("0".to_owned(), "5".to_owned()));
    }
}
