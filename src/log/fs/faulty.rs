//! A file system in memory that fails as it is told to: short writes, errors before, in and after a write, a disk that is
//! full and has space again, syncs and renames that fail.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Cursor, IoSlice, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use super::{AppendFile, DirectoryError, Fs, Identity, Source, Stat};

/// What is to go wrong. All chances are out of 256, for each append; what is left over succeeds whole.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Part of the bytes go in, and the call says how many.
    pub short: u8,
    /// Nothing goes in: `EINTR`.
    pub interrupted: u8,
    /// Part of the bytes go in, perhaps none or all, and the call fails: `EIO`, `EDQUOT` or `ENOSPC`.
    pub torn: u8,
    /// The call takes nothing and says so.
    pub nothing: u8,
    /// Bytes that still fit on the disk.
    pub space: Option<u64>,
    /// So many times a file's length cannot be asked for: `EIO`, as in what follows.
    pub lengths: u32,
    /// So many renames fail.
    pub renames: u32,
    /// So many times a file cannot get a second name.
    pub links: u32,
    /// So many syncs of a file fail.
    pub syncs: u32,
    /// So many syncs of a directory fail.
    pub directory_syncs: u32,
    /// So many times a directory cannot be opened: `EMFILE`.
    pub directory_opens: u32,
    /// So many times a file cannot be written over.
    pub rewrites: u32,
    /// So many files cannot be created.
    pub creates: u32,
}

#[derive(Default)]
struct State {
    files: HashMap<PathBuf, Arc<Mutex<Vec<u8>>>>,
    faults: Faults,
    random: u64,
    syncs: u64,
    directory_syncs: u64,
    uncached: Vec<Range<u64>>,
    is_sync_held: bool,
    lengths_asked: u64,
    after_append: Option<Hook>,
    /// What somebody who looks at a path after each step sees of it: its length.
    watched: Option<(PathBuf, Vec<Option<usize>>)>,
}

/// What is done at some moment.
type Hook = Box<dyn FnOnce() + Send>;

/// The file system. Clones are the same one.
#[derive(Clone, Default)]
pub struct FaultyFs {
    state: Arc<Mutex<State>>,
    bell: Arc<Condvar>,
}

struct FaultyFile {
    fs: FaultyFs,
    contents: Arc<Mutex<Vec<u8>>>,
}

/// The time at which everything happens here.
pub(super) fn always() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

impl Source for Cursor<Vec<u8>> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.get_ref().len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        fill(buffer, self.get_ref(), offset)
    }

    fn uncache(&self, _: Range<u64>) {}
}

/// A number that depends on `state` alone, which it moves on (SplitMix64).
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// What is known of a file with these contents.
pub(super) fn stat_of(contents: &[u8]) -> Stat {
    Stat {
        bytes: contents.len() as u64,
        modified: always(),
        changed: always(),
    }
}

/// A reader of these contents.
pub(super) fn source_of(contents: Vec<u8>) -> Box<dyn Source> {
    Box::new(Cursor::new(contents))
}

/// The names of those files that are in a directory.
pub(super) fn names_in<'p>(directory: &Path, files: impl Iterator<Item = &'p PathBuf>) -> Vec<OsString> {
    files
        .filter(|path| path.parent() == Some(directory))
        .filter_map(|path| path.file_name())
        .map(OsString::from)
        .collect()
}

/// Fills `buffer` with the bytes from `offset` on.
pub(super) fn fill(buffer: &mut [u8], contents: &[u8], offset: u64) -> io::Result<()> {
    let there = contents
        .get(offset as usize..)
        .and_then(|rest| rest.get(..buffer.len()));
    buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

fn take(count: &mut u32) -> io::Result<()> {
    match count.checked_sub(1) {
        Some(left) => {
            *count = left;
            Err(Errno::IO.into())
        }
        None => Ok(()),
    }
}

impl FaultyFs {
    /// An empty file system that makes its choices from `seed`.
    pub fn new(seed: u64, faults: Faults) -> FaultyFs {
        let fs = FaultyFs::default();
        *fs.lock() = State {
            random: seed,
            faults,
            ..State::default()
        };
        fs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Changes what is to go wrong.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// Holds back syncs that begin from now on, or lets them go on.
    pub fn hold_syncs(&self, held: bool) {
        self.lock().is_sync_held = held;
        self.bell.notify_all();
    }

    /// Has `hook` called when something has been appended, before who did it is told so.
    pub fn after_append(&self, hook: impl FnOnce() + Send + 'static) {
        self.lock().after_append = Some(Box::new(hook));
    }

    /// How often the length of a file was asked for.
    pub fn lengths_asked(&self) -> u64 {
        self.lock().lengths_asked
    }

    /// Syncs of files that have begun.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Syncs of directories that succeeded.
    pub fn directory_syncs(&self) -> u64 {
        self.lock().directory_syncs
    }

    /// What was said to be dropped from the page cache.
    pub fn uncached(&self) -> Vec<Range<u64>> {
        self.lock().uncached.clone()
    }

    /// The bytes at `path`, if there is a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.files.get(path).map(|file| file.lock().unwrap().clone())
    }

    /// All files there are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().files.keys().cloned().collect()
    }

    /// Puts a file there, as some other program would.
    pub fn put(&self, path: &Path, contents: &[u8]) {
        self.lock()
            .files
            .insert(path.to_owned(), Arc::new(Mutex::new(contents.to_vec())));
    }

    /// Notes the length of the file at `path` after each step from now on.
    pub fn watch(&self, path: &Path) {
        self.lock().watched = Some((path.to_owned(), Vec::new()));
    }

    /// What has been noted.
    pub fn watched(&self) -> Vec<Option<usize>> {
        self.lock().watched.take().expect("a path is watched").1
    }
}

impl State {
    fn note(&mut self) {
        if let Some((path, seen)) = &mut self.watched {
            seen.push(self.files.get(path).map(|file| file.lock().unwrap().len()));
        }
    }

    fn up_to(&mut self, most: usize) -> usize {
        (random(&mut self.random) % (most as u64 + 1)) as usize
    }

    fn append(&mut self, contents: &mut Vec<u8>, bytes: &[u8]) -> io::Result<usize> {
        let dice = random(&mut self.random) as u8;
        let chances = [
            self.faults.short,
            self.faults.interrupted,
            self.faults.torn,
            self.faults.nothing,
        ];
        let mut sum = 0;
        let fault = chances.iter().position(|chance| {
            sum += u16::from(*chance);
            u16::from(dice) < sum
        });
        let room = self
            .faults
            .space
            .map_or(bytes.len(), |space| bytes.len().min(space as usize));
        let (size, result) = match fault {
            Some(1) => (0, Err(Errno::INTR.into())),
            Some(3) => (0, Ok(0)),
            Some(2) => {
                let error = [Errno::IO, Errno::DQUOT, Errno::NOSPC][self.up_to(2)];
                (self.up_to(room), Err(error.into()))
            }
            _ if room == 0 && !bytes.is_empty() => (0, Err(Errno::NOSPC.into())),
            Some(_) => {
                let size = self.up_to(room).max(1);
                (size, Ok(size))
            }
            None => (room, Ok(room)),
        };
        contents.extend_from_slice(&bytes[..size]);
        if let Some(space) = &mut self.faults.space {
            *space -= size as u64;
        }
        result
    }
}

impl Fs for FaultyFs {
    fn open(&self, path: &Path) -> io::Result<Option<Arc<dyn AppendFile>>> {
        let contents = self.lock().files.get(path).cloned();
        Ok(contents.map(|contents| {
            Arc::new(FaultyFile {
                fs: self.clone(),
                contents,
            }) as Arc<dyn AppendFile>
        }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        take(&mut self.lock().faults.creates)?;
        self.put(path, b"");
        self.lock().note();
        Ok(self.open(path)?.expect("it has just been made"))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        take(&mut state.faults.renames)?;
        if state.files.contains_key(to) {
            return Err(Errno::EXIST.into());
        }
        let file = state.files.remove(from).ok_or(Errno::NOENT)?;
        state.files.insert(to.to_owned(), file);
        state.note();
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        take(&mut state.faults.links)?;
        if state.files.contains_key(to) {
            return Err(Errno::EXIST.into());
        }
        let file = state.files.get(from).cloned().ok_or(Errno::NOENT)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        take(&mut state.faults.renames)?;
        let file = state.files.remove(from).ok_or(Errno::NOENT)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn write_again(&self, path: &Path, offset: u64, from: &mut dyn Read) -> io::Result<()> {
        let mut state = self.lock();
        take(&mut state.faults.rewrites)?;
        if offset == 0 {
            state.files.entry(path.to_owned()).or_default();
        }
        let file = state.files.get(path).ok_or(Errno::NOENT)?;
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        let mut contents = file.lock().unwrap();
        let end = offset as usize + bytes.len();
        let length = contents.len().max(end);
        contents.resize(length, 0);
        contents[offset as usize..end].copy_from_slice(&bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.files.remove(path).map(drop).ok_or(Errno::NOENT.into())
    }

    fn identity_at(&self, path: &Path) -> io::Result<Option<Identity>> {
        let state = self.lock();
        Ok(state
            .files
            .get(path)
            .map(|file| (0, Arc::as_ptr(file).addr() as u64)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Option<Box<dyn Source>>> {
        Ok(self.contents(path).map(source_of))
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        Ok(self.contents(path).map(|contents| stat_of(&contents)))
    }

    fn make_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn put_whole(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        take(&mut self.lock().faults.creates)?;
        self.put(path, contents);
        Ok(())
    }

    fn names_in(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        Ok(names_in(directory, self.lock().files.keys()))
    }

    fn sync_directory(&self, _: &Path) -> Result<(), DirectoryError> {
        let mut state = self.lock();
        take(&mut state.faults.directory_opens).map_err(|_| DirectoryError::Open(Errno::MFILE.into()))?;
        take(&mut state.faults.directory_syncs).map_err(DirectoryError::Sync)?;
        state.directory_syncs += 1;
        state.note();
        Ok(())
    }
}

impl AppendFile for FaultyFile {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut state = self.fs.lock();
        let result = state.append(&mut self.contents.lock().unwrap(), &bytes);
        state.note();
        let hook = state.after_append.take();
        drop(state);
        hook.into_iter().for_each(|hook| hook());
        result
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.fs.lock();
        state.lengths_asked += 1;
        take(&mut state.faults.lengths)?;
        Ok(self.contents.lock().unwrap().len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.fs.lock();
        state.syncs += 1;
        self.fs.bell.notify_all();
        while state.is_sync_held {
            state = self.fs.bell.wait(state).unwrap();
        }
        take(&mut state.faults.syncs)
    }

    fn write_out(&self, _: Range<u64>) {}

    fn uncache(&self, bytes: Range<u64>) {
        self.fs.lock().uncached.push(bytes);
    }

    fn identity(&self) -> io::Result<(Identity, u64)> {
        let state = self.fs.lock();
        let names = state
            .files
            .values()
            .filter(|file| Arc::ptr_eq(file, &self.contents))
            .count();
        Ok(((0, Arc::as_ptr(&self.contents).addr() as u64), names as u64))
    }

    fn born(&self) -> SystemTime {
        always()
    }

    fn finish(&self, _: SystemTime) -> io::Result<()> {
        self.sync_data()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        fill(buffer, &self.contents.lock().unwrap(), offset)
    }
}
