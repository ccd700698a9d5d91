//! The operating system's files, for a process that dies: from a chosen call on none changes anything any more, as after
//! `kill -9`; the call in which it dies may have done a part of its work. What is in memory then can be closed, and the
//! next life begins with what is on the disk. Besides, calls can be made to fail now and then, as on a bad disk.
//!
//! Files look as if they had been sealed long ago, so that retention does not wait.

use std::ffi::OsString;
use std::io::{self, IoSlice, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::faulty::random;
use super::{AppendFile, DirectoryError, Fs, Identity, OsFs, Source, Stat};

#[derive(Default)]
struct State {
    random: u64,
    /// Calls that change something, before the one in which the process dies.
    left: Option<u64>,
    is_dead: bool,
    /// Now and then a call fails though the process lives.
    is_flaky: bool,
}

/// The file system. Clones are the same one.
#[derive(Clone, Default)]
pub struct DyingFs {
    state: Arc<Mutex<State>>,
}

struct DyingFile {
    fs: DyingFs,
    file: Arc<dyn AppendFile>,
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    /// A part of it is done, and it may say so.
    Part,
    /// A part of it is done, or nothing, and it fails.
    Fails,
}

impl DyingFs {
    /// One that makes its choices from `seed`.
    pub fn new(seed: u64) -> DyingFs {
        let fs = DyingFs::default();
        fs.lock().random = seed;
        fs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Has the process die after so many calls that change something.
    pub fn die_after(&self, calls: u64) {
        self.lock().left = Some(calls);
    }

    /// Has it die now.
    pub fn die(&self) {
        self.lock().is_dead = true;
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// Whether it has died, or is to.
    pub fn is_mortal(&self) -> bool {
        let state = self.lock();
        state.is_dead || state.left.is_some()
    }

    /// Whether calls may fail though it lives.
    pub fn is_flaky(&self) -> bool {
        self.lock().is_flaky
    }

    /// The next life begins, in which calls may fail.
    pub fn live_again(&self, is_flaky: bool) {
        let mut state = self.lock();
        (state.left, state.is_dead, state.is_flaky) = (None, false, is_flaky);
    }

    /// A number below `end`.
    fn below(&self, end: usize) -> usize {
        (random(&mut self.lock().random) % end as u64) as usize
    }

    /// What becomes of the next call that changes something.
    fn fate(&self) -> Fate {
        let mut state = self.lock();
        if state.is_dead {
            return Fate::Fails;
        }
        match &mut state.left {
            Some(0) => {
                state.is_dead = true;
                return Fate::Fails;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let dice = random(&mut state.random) % 64;
        match state.is_flaky {
            true if dice == 0 => Fate::Fails,
            true if dice < 12 => Fate::Part,
            _ => Fate::Whole,
        }
    }

    /// A call that is done or not.
    fn pass(&self) -> io::Result<()> {
        match self.fate() {
            Fate::Fails => Err(Errno::IO.into()),
            _ => Ok(()),
        }
    }

    /// A call that does not fail on a bad disk here, but in a dead process: a sync that fails is not forgotten, and a rename
    /// that fails is put off for seconds.
    fn pass_unless_dead(&self) -> io::Result<()> {
        let _ = self.fate();
        match self.is_dead() {
            true => Err(Errno::IO.into()),
            false => Ok(()),
        }
    }

    fn file(&self, file: Arc<dyn AppendFile>) -> Arc<dyn AppendFile> {
        Arc::new(DyingFile {
            fs: self.clone(),
            file,
        })
    }
}

impl Fs for DyingFs {
    fn open(&self, path: &Path) -> io::Result<Option<Arc<dyn AppendFile>>> {
        Ok(OsFs.open(path)?.map(|file| self.file(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        self.pass()?;
        Ok(self.file(OsFs.create(path)?))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let was_dead = self.is_dead();
        if let Err(error) = self.pass_unless_dead() {
            // Killed between linking and unlinking, as on file systems that cannot do it in one step.
            if !was_dead && self.below(2) == 0 {
                std::fs::hard_link(from, to).ok();
            }
            return Err(error);
        }
        OsFs.rename_new(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass()?;
        OsFs.link(from, to)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass_unless_dead()?;
        OsFs.rename_over(from, to)
    }

    fn write_again(&self, path: &Path, offset: u64, from: &mut dyn Read) -> io::Result<()> {
        self.pass()?;
        OsFs.write_again(path, offset, from)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.pass_unless_dead()?;
        OsFs.remove(path)
    }

    fn identity_at(&self, path: &Path) -> io::Result<Option<Identity>> {
        OsFs.identity_at(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Option<Box<dyn Source>>> {
        OsFs.open_read(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        Ok(OsFs.stat(path)?.map(|stat| Stat {
            changed: long_ago,
            ..stat
        }))
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.pass()?;
        OsFs.make_directory(path)
    }

    fn put_whole(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.pass()?;
        OsFs.put_whole(path, contents)
    }

    fn names_in(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        OsFs.names_in(directory)
    }

    fn sync_directory(&self, _: &Path) -> Result<(), DirectoryError> {
        self.pass_unless_dead().map_err(DirectoryError::Sync)
    }
}

impl AppendFile for DyingFile {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let was_dead = self.fs.is_dead();
        let fate = self.fs.fate();
        if fate == Fate::Whole || was_dead {
            return match fate {
                Fate::Whole => self.file.append(slices),
                _ => Err(Errno::IO.into()),
            };
        }
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let size = self.fs.below(bytes.len() + 1);
        let mut rest = &bytes[..size];
        while !rest.is_empty() {
            rest = &rest[self.file.append(&[IoSlice::new(rest)])?..];
        }
        match fate {
            Fate::Part if size > 0 => Ok(size),
            _ => Err(Errno::NOSPC.into()),
        }
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    // What is synced makes no difference to a process that is killed.
    fn sync_data(&self) -> io::Result<()> {
        self.fs.pass_unless_dead()
    }

    fn write_out(&self, bytes: Range<u64>) {
        self.file.write_out(bytes);
    }

    fn uncache(&self, bytes: Range<u64>) {
        self.file.uncache(bytes);
    }

    fn identity(&self) -> io::Result<(Identity, u64)> {
        self.file.identity()
    }

    fn born(&self) -> SystemTime {
        self.file.born()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn finish(&self, _: SystemTime) -> io::Result<()> {
        self.fs.pass()
    }
}
