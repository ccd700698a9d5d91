//! The few file-system calls the log makes, behind a trait: the seam for fault tests.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Advice, CWD, RenameFlags};

#[cfg(test)]
pub mod dying;
#[cfg(test)]
pub mod faulty;
#[cfg(test)]
pub mod power;
mod write_out;

/// A file that only grows.
///
/// All methods take `&self`: the writer appends while the sync thread waits in [`AppendFile::sync_data`].
pub trait AppendFile: Send + Sync {
    /// Appends some of `slices` at the end of the file and says how many bytes went in (as `writev` does).
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Waits until data and length are on the disk (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Advises that those bytes be on their way to the disk. It does not wait, and a file system may ignore it.
    fn write_out(&self, bytes: Range<u64>);
    /// Advises that those bytes, which are on the disk, need not stay in memory. A file system may ignore it.
    fn uncache(&self, bytes: Range<u64>);
    /// Which file it is, and how many names it has.
    fn identity(&self) -> io::Result<(Identity, u64)>;
    /// When the file was made, as far as the file system knows.
    fn born(&self) -> SystemTime;
    /// Fills `buffer` from `offset` on.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Gives the file a modification time, and waits until all of it is on the disk (`fsync`).
    fn finish(&self, modified: SystemTime) -> io::Result<()>;
}

/// A file that is read: from its beginning, or anywhere.
pub trait Source: Read + Send {
    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset` on; where reading goes on from is as before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Advises that those bytes need not stay in memory. A file system may ignore it.
    fn uncache(&self, bytes: Range<u64>);
}

/// What is known of a file that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its length.
    pub bytes: u64,
    /// When it was written to last.
    pub modified: SystemTime,
    /// When anything of it changed last, its name included.
    pub changed: SystemTime,
}

/// What tells a file from all others: its device and inode.
pub type Identity = (u64, u64);

/// What the log asks of a file system.
pub trait Fs: Send + Sync {
    /// Opens an existing file for appending; `None` if there is none.
    fn open(&self, path: &Path) -> io::Result<Option<Arc<dyn AppendFile>>>;
    /// Creates a file, or empties the one that is there, and opens it for appending.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>>;
    /// Renames, failing with [`io::ErrorKind::AlreadyExists`] where `to` exists.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, failing with [`io::ErrorKind::AlreadyExists`] where `to` exists. Not every file system can.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, in place of what may be at `to`.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Writes the bytes of `from` over those that the file has from `offset` on, or behind its end, and waits until they are on
    /// the disk (`fsync`). Its modification time stays. If there is no file and `offset` is 0, one is made.
    fn write_again(&self, path: &Path, offset: u64, from: &mut dyn Read) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Which file is at `path`; `None` if there is none.
    fn identity_at(&self, path: &Path) -> io::Result<Option<Identity>>;
    /// Opens an existing file to read it; `None` if there is none.
    fn open_read(&self, path: &Path) -> io::Result<Option<Box<dyn Source>>>;
    /// What is known of a file; `None` if there is none.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;
    /// Makes a directory, if there is none, and sees to it that its entry is on the disk.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Puts a small file there, in place of the one that may be there: whole or not at all, its contents on the disk.
    fn put_whole(&self, path: &Path, contents: &[u8]) -> io::Result<()>;
    /// The names of what is in a directory; none if there is no directory.
    fn names_in(&self, directory: &Path) -> io::Result<Vec<OsString>>;
    /// Waits until a directory's entries are on the disk.
    fn sync_directory(&self, path: &Path) -> Result<(), DirectoryError>;
}

/// Why a directory could not be synced.
#[derive(Debug)]
pub enum DirectoryError {
    /// It could not be opened (too many open files, no memory): the disk was not asked, and nothing is lost.
    Open(io::Error),
    /// The disk did not take its entries.
    Sync(io::Error),
}

impl From<DirectoryError> for io::Error {
    fn from(error: DirectoryError) -> io::Error {
        match error {
            DirectoryError::Open(error) | DirectoryError::Sync(error) => error,
        }
    }
}

/// The operating system's files.
pub struct OsFs;

/// Mode of a new log: its owner writes, everybody who may enter the directory reads (tailers run as other users).
const LOG_MODE: u32 = 0o644;

impl Fs for OsFs {
    fn open(&self, path: &Path) -> io::Result<Option<Arc<dyn AppendFile>>> {
        match OpenOptions::new().read(true).append(true).open(path) {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(Arc::new(file))),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(LOG_MODE)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // File systems without RENAME_NOREPLACE say EINVAL; a hard link does not replace either.
            Err(rustix::io::Errno::INVAL) => {
                std::fs::hard_link(from, to)?;
                // What a kill leaves here is finished at the next start (`Family::settle`).
                std::fs::remove_file(from).inspect_err(|_| {
                    std::fs::remove_file(to).ok();
                })
            }
            other => Ok(other?),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn write_again(&self, path: &Path, offset: u64, from: &mut dyn Read) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(offset == 0)
            .truncate(false)
            .mode(LOG_MODE)
            .open(path)?;
        let modified = file.metadata()?.modified()?;
        let mut to = &file;
        to.seek(SeekFrom::Start(offset))?;
        io::copy(from, &mut to)?;
        file.set_modified(modified)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn identity_at(&self, path: &Path) -> io::Result<Option<Identity>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_read(&self, path: &Path) -> io::Result<Option<Box<dyn Source>>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Stat {
                bytes: metadata.len(),
                modified: metadata.modified()?,
                changed: SystemTime::UNIX_EPOCH + Duration::from_secs(metadata.ctime().max(0) as u64),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                Ok(self.sync_directory(parent.unwrap_or(Path::new(".")))?)
            }
        }
    }

    fn put_whole(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let mut aside = path.to_owned().into_os_string();
        aside.push(".new");
        let mut file = File::create(&aside)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    }

    fn names_in(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        match std::fs::read_dir(directory) {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DirectoryError> {
        let directory = File::open(path).map_err(DirectoryError::Open)?;
        match directory.sync_all() {
            // File systems that have no such thing say EINVAL.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other.map_err(DirectoryError::Sync),
        }
    }
}

impl AppendFile for File {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&mut &*self).write_vectored(slices)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn write_out(&self, bytes: Range<u64>) {
        write_out::begin(self, bytes);
    }

    fn uncache(&self, bytes: Range<u64>) {
        uncache(self, bytes);
    }

    fn identity(&self) -> io::Result<(Identity, u64)> {
        let metadata = self.metadata()?;
        Ok(((metadata.dev(), metadata.ino()), metadata.nlink()))
    }

    fn born(&self) -> SystemTime {
        let known = self
            .metadata()
            .and_then(|metadata| metadata.created().or_else(|_| metadata.modified()));
        known.unwrap_or_else(|_| SystemTime::now())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn finish(&self, modified: SystemTime) -> io::Result<()> {
        self.set_modified(modified)?;
        self.sync_all()
    }
}

impl Source for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn uncache(&self, bytes: Range<u64>) {
        uncache(self, bytes);
    }
}

fn uncache(file: &File, bytes: Range<u64>) {
    // No length means to the end of the file there.
    if let Some(length) = NonZeroU64::new(bytes.end.saturating_sub(bytes.start)) {
        rustix::fs::fadvise(file, bytes.start, Some(length), Advice::DontNeed).ok();
    }
}
