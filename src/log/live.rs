//! The live file: created with its first batch in it, then appended to.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fs::{AppendFile, Fs};
use super::segment::{Family, SegmentId, aside};
use crate::failpoint;

/// The live file of the log and how long it is.
///
/// INVARIANT: `length` is the number of bytes that are in the file; between two calls of [`LiveFile::append`] that
/// succeeded it ends with a newline.
pub struct LiveFile {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    file: Option<Arc<dyn AppendFile>>,
    /// The first batch is still in the staging file, not yet renamed into place.
    staged: bool,
    /// The file was put in place, and its directory has not been synced since.
    is_entry_unsynced: bool,
    /// The file before this one has its new name, and the directory has not been synced since.
    is_seal_unsynced: bool,
    /// A call failed and nobody could say how long the file was after it.
    is_length_unknown: bool,
    length: u64,
}

/// What has become of the live file at the hands of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is in its place and as long as it should be.
    Well,
    /// It has no name any more: it is gone when it is closed.
    Deleted,
    /// It has another name; in its place is nothing, or another file.
    Moved,
    /// It is shorter than it was.
    Truncated,
}

impl Sight {
    /// Of `file`, which should be at `path` and have `length` bytes at least.
    ///
    /// # Errors
    /// What looking says.
    pub fn of(fs: &dyn Fs, path: &Path, file: &dyn AppendFile, length: u64) -> io::Result<Sight> {
        let (identity, names) = file.identity()?;
        Ok(if fs.identity_at(path)? != Some(identity) {
            if names == 0 { Sight::Deleted } else { Sight::Moved }
        } else if file.length()? < length {
            Sight::Truncated
        } else {
            Sight::Well
        })
    }
}

impl LiveFile {
    /// Opens the file at `path`, or remembers that it is to be created with its first batch.
    ///
    /// # Errors
    /// Whatever opening the file or removing a left-over staging file says; a `path` that is no regular file is
    /// [`io::ErrorKind::InvalidInput`].
    pub fn open(fs: Arc<dyn Fs>, path: &Path) -> io::Result<LiveFile> {
        let mut live = LiveFile {
            fs,
            path: path.to_owned(),
            file: None,
            staged: false,
            is_entry_unsynced: false,
            is_seal_unsynced: false,
            is_length_unknown: false,
            length: 0,
        };
        match live.fs.remove(&live.staging()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        live.file = live.fs.open(path)?;
        if let Some(file) = &live.file {
            live.length = file.length()?;
        }
        Ok(live)
    }

    /// Bytes in the file. Zero also where there is no file yet.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The open file, once there is one at its path.
    pub fn file(&self) -> Option<&Arc<dyn AppendFile>> {
        if self.staged { None } else { self.file.as_ref() }
    }

    /// Appends all of `slices`, continuing short writes.
    ///
    /// # Errors
    /// After an error `slices` has been advanced by what did go in, and holds the rest: the caller must come back with
    /// exactly that before it appends anything else, or a line would be glued to another.
    pub fn append(&mut self, slices: &mut &mut [IoSlice<'_>]) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => {
                let file = self.fs.create(&self.staging())?;
                self.staged = true;
                self.file.insert(file).clone()
            }
        };
        if self.is_length_unknown {
            self.catch_up(&*file, slices)?;
        }
        // Empty slices at the front would make a `writev` that returns 0 look like a file that takes nothing.
        IoSlice::advance_slices(slices, 0);
        while !slices.is_empty() {
            if failpoint::due("publish.written_half") {
                file.append(&[IoSlice::new(&slices[0][..slices[0].len() / 2])])?;
                failpoint::die();
            }
            match file.append(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(slices, written as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.is_length_unknown = true;
                    // If that fails too, it is done before anything else is written.
                    self.catch_up(&*file, slices).ok();
                    return Err(error);
                }
            }
        }
        if self.staged {
            self.put_in_place()?;
        }
        if self.is_entry_unsynced {
            self.fs.sync_directory(self.directory())?;
            self.is_entry_unsynced = false;
        }
        Ok(())
    }

    /// Seals the file: it gets the name of `id`, and a new one, empty, its place. The new one is open before anything is
    /// renamed, and is in place a moment after.
    ///
    /// A disk that kept of the two renames only the second would have lost the sealed file. So that it has not, that has a
    /// second name on the disk before, [`Family::sealing`]. The caller sees to it that the directory is synced after this, before
    /// anything in the new file counts as synced and before the second name goes. Where files have one name only, the directory is synced
    /// between the two renames; for that time there is no live file.
    ///
    /// # Errors
    /// What creating or renaming says. The file is then as it was and may be appended to.
    ///
    /// # Panics
    /// If there is no file.
    pub fn rotate(&mut self, family: &Family, id: SegmentId) -> io::Result<()> {
        assert!(self.file().is_some(), "what is sealed is there");
        let next = self.fs.create(&self.staging())?;
        failpoint::hit("rotate.opened");
        let second = family.sealing(id);
        // One that an attempt before this has left.
        self.fs.remove(&second).ok();
        self.is_seal_unsynced = match self.fs.link(&self.path, &second) {
            Ok(()) => self.fs.sync_directory(self.directory()).is_err(),
            Err(_) => true,
        };
        failpoint::hit("rotate.linked");
        if let Err(error) = self.fs.rename_new(&self.path, &family.plain(id)) {
            // The next attempt empties one that stays.
            self.fs.remove(&self.staging()).ok();
            self.fs.remove(&second).ok();
            self.is_seal_unsynced = false;
            return Err(error);
        }
        failpoint::hit("rotate.sealed");
        self.turn_to(next);
        Ok(())
    }

    /// Leaves the file to whoever took it from its place, and begins another there.
    ///
    /// # Errors
    /// What creating says. The file is then as it was.
    pub fn begin_anew(&mut self) -> io::Result<()> {
        let next = self.fs.create(&self.staging())?;
        self.turn_to(next);
        Ok(())
    }

    fn turn_to(&mut self, next: Arc<dyn AppendFile>) {
        self.file = Some(next);
        self.length = 0;
        self.is_length_unknown = false;
        self.staged = true;
        match self.put_in_place() {
            Ok(()) => self.is_entry_unsynced = false,
            // It comes into place with its first batch, as the first file of all does.
            Err(error) => tracing::warn!(%error, "the new file of the log is not in place yet"),
        }
        failpoint::hit("rotate.placed");
    }

    /// What has become of the file at the hands of others.
    ///
    /// # Errors
    /// What looking says.
    pub fn sight(&self) -> io::Result<Sight> {
        match self.file() {
            Some(file) => Sight::of(&*self.fs, &self.path, &**file, self.length),
            None => Ok(Sight::Well),
        }
    }

    /// A call that failed may have left a part behind: the file's own length is the truth.
    fn catch_up(&mut self, file: &dyn AppendFile, slices: &mut &mut [IoSlice<'_>]) -> io::Result<()> {
        let length = file.length()?;
        self.is_length_unknown = false;
        self.advance(slices, length.saturating_sub(self.length));
        Ok(())
    }

    fn advance(&mut self, slices: &mut &mut [IoSlice<'_>], written: u64) {
        let left: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        // More than we have left to write can only be a stranger's bytes; they are behind ours.
        IoSlice::advance_slices(slices, written.min(left) as usize);
        self.length += written;
    }

    /// Renames the staging file, now with its first batch in it, to the log's path.
    fn put_in_place(&mut self) -> io::Result<()> {
        if self.is_seal_unsynced {
            // Before the new file takes the name: a disk that had only that would have lost the old one.
            self.fs.sync_directory(self.directory())?;
            self.is_seal_unsynced = false;
        }
        let staging = self.staging();
        if let Err(error) = self.fs.rename_new(&staging, &self.path) {
            // An empty file that somebody made meanwhile (`touch`) may go; anything else is not ours to replace.
            let theirs = self.fs.open(&self.path)?.map(|file| file.length()).transpose()?;
            if error.kind() != io::ErrorKind::AlreadyExists || theirs != Some(0) {
                return Err(error);
            }
            self.fs.remove(&self.path)?;
            self.fs.rename_new(&staging, &self.path)?;
        }
        self.staged = false;
        self.is_entry_unsynced = true;
        Ok(())
    }

    fn directory(&self) -> &Path {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        directory.unwrap_or(Path::new("."))
    }

    fn staging(&self) -> PathBuf {
        aside(&self.path)
    }
}
