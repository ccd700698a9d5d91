//! The journal: what is acknowledged and not yet in the log, in a mapped file that outlives the process.
//!
//! ```text
//! preface (4 KiB)  block 0 (4,160 bytes)  block 1  …       all integers little-endian
//! preface: whose journal it is, and how many blocks it has (see `preface`)
//! block:   header (see `header`), piece of a frame's lines
//! ```
//!
//! The file grows chunk by chunk, each written with zeros and synced before it is used: a full disk is then an error of
//! [`Journal::grow`] and not a SIGBUS, and a store never waits for the disk to find it a block (measured: the longest
//! stall of a store was 18 ms where the file was only `fallocate`d, 0.5 ms where it had been written and synced).
//!
//! That holds where a block of a file stays where it is. On a copy-on-write file system (btrfs, ZFS, a reflinked copy) a store
//! after writeback needs a new block, and a full disk can be a SIGBUS: put the journal on tmpfs there
//! (`METRICS_JOURNAL=/dev/shm/…`) or in memory. Nothing acknowledged is lost by it, the journal is recovered at the next start.
//!
//! The file is private to the process (mode 0600), made anew at each start, and empty after a clean stop. What a process
//! that died left in it is brought into the log by [`super::recovery`] first.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::{MmapOptions, MmapRaw};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::blocks::{BLOCK_BYTES, Block, PREFACE_BYTES, Region};
use super::preface::{Preface, VERSION, note_blocks};
use crate::failpoint;
use crate::log::fs::{Fs, OsFs};

/// Bytes by which the journal grows: one publish interval of a fast machine fits many times, and zeros of this size are
/// written and synced in a few milliseconds.
pub const CHUNK_BYTES: usize = CHUNK_BLOCKS as usize * BLOCK_BYTES;
/// The same in blocks.
pub const CHUNK_BLOCKS: u32 = 1024;
/// The smallest bound a journal can have.
pub const BYTES_MIN: u64 = 1 << 20;
/// The largest bound: ring and free list take 150 bytes of memory for each block at once, 150 MiB for a journal of this
/// size.
pub const BYTES_MAX: u64 = 4 << 30;

/// Where the journal lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In the process's memory: for file systems without shared mappings. Nothing survives the process, so the level
    /// `journaled` is called `queued`.
    Memory,
}

/// An open journal.
pub struct Journal {
    region: Region,
    /// `None` for a journal in memory.
    file: Option<File>,
}

impl Journal {
    /// Makes an empty journal of `bytes_max` bytes at most for the log at `log`, replacing the file that is there. It has
    /// no blocks until [`Journal::grow`].
    ///
    /// # Errors
    /// What creating, writing or mapping the file says.
    pub fn create(place: &Place, log: &Path, bytes_max: u64) -> io::Result<Journal> {
        let bytes = PREFACE_BYTES + bytes_max as usize / BLOCK_BYTES * BLOCK_BYTES;
        let Place::File(path) = place else {
            let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
            return Ok(Journal {
                region: Region::new(map.into()),
                file: None,
            });
        };
        // Wherever a link of that name leads.
        let path = path.canonicalize().or_else(|_| std::path::absolute(path))?;
        let mut aside = path.clone().into_os_string();
        aside.push(".new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        // Half a preface, or one that the power took, would be refused by the next start as no journal: it gets its name when
        // it is on the disk.
        let made = file
            .write_all_at(&Preface::of(log).encode(), 0)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&aside, &path))
            .and_then(|()| Ok(OsFs.sync_directory(path.parent().unwrap_or(Path::new("/")))?));
        if let Err(error) = made {
            std::fs::remove_file(&aside).ok();
            return Err(error);
        }
        let map = MmapOptions::new().len(bytes).map_raw(&file)?;
        Ok(Journal {
            region: Region::new(map),
            file: Some(file),
        })
    }

    /// The blocks.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Whether what is committed survives the process.
    pub fn is_durable(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it is smaller than its bound.
    pub fn can_grow(&self) -> bool {
        self.region.minted() < self.region.capacity()
    }

    /// Adds a chunk of blocks; none if the journal has reached its bound.
    ///
    /// Writes and waits for the disk: not for a coroutine.
    ///
    /// # Errors
    /// What writing or syncing the file says, for instance that the disk is full. The journal is then as it was.
    pub fn grow(&self) -> io::Result<Vec<Block>> {
        let count = CHUNK_BLOCKS.min(self.region.capacity() - self.region.minted());
        if count == 0 {
            return Ok(Vec::new());
        }
        if let Some(file) = &self.file {
            let minted = self.region.minted();
            let start = length_of(minted);
            if let Err(error) = write_synced(file, start, &vec![0; count as usize * BLOCK_BYTES]) {
                // Give back what was taken of a disk that is full. If even that fails, the next attempt overwrites it.
                file.set_len(start).ok();
                return Err(error);
            }
            failpoint::hit("journal.grown");
            // If that fails, the number may be noted all the same: then the file has to have the blocks.
            note_blocks(file, minted + count)?;
        }
        Ok(self.region.mint(count))
    }

    /// Goes back to the first chunk, if all blocks behind it are among the free ones; answers those that are left, and whether it
    /// did.
    ///
    /// # Errors
    /// What truncating the file says. The blocks are gone then too, and their bytes are used again by the next chunk.
    pub fn shrink(&self, free: Vec<Block>) -> (Vec<Block>, io::Result<bool>) {
        let before = self.region.minted();
        let left = self.region.retire(free, CHUNK_BLOCKS);
        let minted = self.region.minted();
        let cut = match &self.file {
            Some(file) if minted < before => {
                note_blocks(file, minted).and_then(|()| file.set_len(length_of(minted)))
            }
            _ => Ok(()),
        };
        (left, cut.map(|()| minted < before))
    }

    /// Has every block on the disk as it is now, or is soon.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_back(&self) -> io::Result<()> {
        match self.is_durable() {
            true => self.region.flush(),
            false => Ok(()),
        }
    }

    /// Empties the file, when everything in it is in the log. Nobody may touch a block afterwards: it would be a SIGBUS.
    ///
    /// # Errors
    /// What truncating the file says.
    pub fn discard(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.set_len(0))
    }
}

/// Length of a journal's file with so many blocks.
fn length_of(blocks: u32) -> u64 {
    (PREFACE_BYTES + blocks as usize * BLOCK_BYTES) as u64
}

/// Writes `bytes` at `offset` and has them on the disk.
///
/// By writes that sync what they write, and nothing else (`RWF_DSYNC`). An `fdatasync` would write all that has been stored
/// in the journal lately, and write-protect its pages: the next store to each of them is then a page fault, and as long as the
/// journal grows by a chunk now and then, that was a sixth of what an event of a batch costs.
pub(super) fn write_synced(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        let rest = [IoSlice::new(&bytes[written..])];
        match pwritev2(file, &rest, offset + written as u64, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            // A kernel (or a stand-in for one) that does not know the flag.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                file.write_all_at(bytes, offset)?;
                return file.sync_data();
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A journal that another process left behind.
pub struct Remains {
    /// Its blocks.
    pub region: Region,
    /// The tokens to all of them.
    pub blocks: Vec<Block>,
    /// Whether the machine has been restarted since: then nothing is believed without its checksum.
    pub rebooted: bool,
    /// Blocks that it had, and that somebody has cut off.
    pub missing: u32,
}

/// Why the journal that is there cannot be used.
#[derive(Debug)]
pub enum JournalError {
    /// The file cannot be read or mapped.
    Io(PathBuf, io::Error),
    /// It is not a journal, or its preface is damaged.
    NotAJournal(PathBuf),
    /// It was written by another version.
    Version(PathBuf, u32),
    /// It belongs to another log.
    OtherLog(PathBuf, String),
}

impl std::fmt::Display for JournalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JournalError::Io(path, error) => write!(f, "cannot use the journal {}: {error}", path.display()),
            JournalError::NotAJournal(path) => write!(
                f,
                "{} is not a journal of Floodgate, or its first page is damaged; events in it, if any, cannot be \
                 recovered: move it away to start without them",
                path.display()
            ),
            JournalError::Version(path, version) => write!(
                f,
                "the journal {} was written by another version (format {version}, this is {VERSION}): start that \
                 version once and stop it cleanly, which empties the journal",
                path.display()
            ),
            JournalError::OtherLog(path, log) => write!(
                f,
                "the journal {} holds events of another log, {log}: start with that log once and stop cleanly, which \
                 empties the journal, or give this log a journal of its own (METRICS_JOURNAL)",
                path.display()
            ),
        }
    }
}

impl std::error::Error for JournalError {}

impl Remains {
    /// Opens what a process left at `path` for the log at `log`; `None` if there is nothing in it.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(path: &Path, log: &Path) -> Result<Option<Remains>, JournalError> {
        let failed = |error| JournalError::Io(path.to_owned(), error);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let length = file.metadata().map_err(failed)?.len();
        if length == 0 {
            return Ok(None);
        }
        let mut page = [0; PREFACE_BYTES];
        if length < PREFACE_BYTES as u64 {
            return Err(JournalError::NotAJournal(path.to_owned()));
        }
        file.read_exact_at(&mut page, 0).map_err(failed)?;
        let preface = Preface::decode(&page, path)?;
        let expected = Preface::of(log);
        if preface.log != expected.log {
            return Err(JournalError::OtherLog(
                path.to_owned(),
                String::from_utf8_lossy(&preface.log).into_owned(),
            ));
        }
        let map: MmapRaw = MmapOptions::new()
            .len(length as usize)
            .map_raw(&file)
            .map_err(failed)?;
        let region = Region::new(map);
        let blocks = region.mint(u32::MAX);
        Ok(Some(Remains {
            missing: preface.blocks.saturating_sub(region.capacity()),
            rebooted: preface.is_of_another_boot(&expected),
            region,
            blocks,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::preface::forged;
    use super::*;

    #[test]
    fn a_journal_grows_by_chunks_to_its_bound_and_is_empty_when_discarded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.journal");
        let log = directory.path().join("metrics.jsonl");
        let bytes_max = (CHUNK_BYTES + 3 * BLOCK_BYTES) as u64;
        let journal = Journal::create(&Place::File(path.clone()), &log, bytes_max).unwrap();
        assert_eq!(journal.grow().unwrap().len(), CHUNK_BYTES / BLOCK_BYTES);
        assert_eq!(journal.grow().unwrap().len(), 3);
        assert_eq!(journal.grow().unwrap().len(), 0);
        assert_eq!(path.metadata().unwrap().len(), bytes_max + PREFACE_BYTES as u64);
        let remains = Remains::open(&path, &log).unwrap().unwrap();
        assert_eq!(
            (remains.blocks.len(), remains.rebooted),
            (CHUNK_BYTES / BLOCK_BYTES + 3, false)
        );
        journal.discard().unwrap();
        assert!(Remains::open(&path, &log).unwrap().is_none());
    }

    #[test]
    fn a_journal_that_was_cut_off_is_told_from_one_that_was_never_longer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.journal");
        let log = directory.path().join("metrics.jsonl");
        let bytes_max = (CHUNK_BYTES + 3 * BLOCK_BYTES) as u64;
        let journal = Journal::create(&Place::File(path.clone()), &log, bytes_max).unwrap();
        let missing = || Remains::open(&path, &log).unwrap().unwrap().missing;
        assert_eq!(missing(), 0);
        let free = [journal.grow().unwrap(), journal.grow().unwrap()]
            .into_iter()
            .flatten();
        let free: Vec<Block> = free.collect();
        let length = path.metadata().unwrap().len();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for (cut, lost) in [
            (0, 0),
            (1, 1),
            (BLOCK_BYTES, 1),
            (BLOCK_BYTES + 1, 2),
            (CHUNK_BYTES, CHUNK_BLOCKS),
        ] {
            file.set_len(length - cut as u64).unwrap();
            assert_eq!(missing(), lost, "{cut} bytes cut off");
            file.set_len(length).unwrap();
        }
        file.set_len(PREFACE_BYTES as u64).unwrap();
        assert_eq!(missing(), CHUNK_BLOCKS + 3);
        file.set_len(length).unwrap();
        // Killed when it had grown and not said so: it has more than is noted.
        note_blocks(&file, CHUNK_BLOCKS).unwrap();
        assert_eq!(missing(), 0);
        // It gets shorter by itself.
        journal.shrink(free).1.unwrap();
        assert_eq!(path.metadata().unwrap().len(), length_of(CHUNK_BLOCKS));
        assert_eq!(missing(), 0);
    }

    #[test]
    fn a_file_that_is_not_this_logs_journal_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.journal");
        let log = directory.path().join("metrics.jsonl");
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = Remains::open(&path, &log).err().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            error
        };
        assert!(matches!(refused(b"{}\n"), JournalError::NotAJournal(_)));
        assert!(matches!(refused(&[0; 8192]), JournalError::NotAJournal(_)));
        let page = Preface::of(&log).encode();
        for length in [1, 8, 12, 56, PREFACE_BYTES - 1] {
            assert!(matches!(refused(&page[..length]), JournalError::NotAJournal(_)));
        }
        let (mut newer, mut older) = (page, page);
        forged::version(&mut newer, 3);
        let error = refused(&newer);
        assert!(matches!(error, JournalError::Version(_, 3)), "{error}");
        assert!(error.to_string().contains("format 3, this is 2"), "{error}");
        forged::first_version(&mut older);
        let error = refused(&older);
        assert!(matches!(error, JournalError::Version(_, 1)), "{error}");
        for bit in 0..PREFACE_BYTES * 8 {
            let mut damaged = page;
            damaged[bit / 8] ^= 1 << (bit % 8);
            let decoded = Preface::decode(&damaged, &path);
            assert!(matches!(decoded, Err(JournalError::NotAJournal(_))), "bit {bit}");
        }
        let other = Preface::of(Path::new("/elsewhere/metrics.jsonl")).encode();
        assert!(
            matches!(refused(&other), JournalError::OtherLog(_, log) if log == "/elsewhere/metrics.jsonl")
        );
    }
}
