//! A file system in memory that knows what of it is on the disk, and what the disk may have when the power goes.
//!
//! It is told as little as POSIX promises: bytes are on the disk when a sync of their file succeeded, names when a sync of their
//! directory did. Of all else any part may be there: pages of a file in any combination, its length somewhere between what was
//! synced and what was written, zeros or garbage where a page did not make it; steps in a directory each whole or not at
//! all, in any combination. A sync that fails leaves some pages behind for good: the next sync says that all is well and does
//! not write them (as Linux does).
//!
//! A [`Moment`] is taken before chosen steps, with whatever else a witness adds to it; [`Moment::image`] makes a disk of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, IoSlice, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use rustix::io::Errno;

use super::faulty::{always, fill, names_in, random, source_of, stat_of};
use super::{AppendFile, DirectoryError, Fs, Identity, Source, Stat};

/// Bytes that get to the disk together. A sector, so that small files have many.
const PAGE_BYTES: usize = 512;

#[derive(Clone, Default)]
struct Inode {
    /// What a reader sees.
    memory: Vec<u8>,
    /// What is certainly on the disk.
    disk: Vec<u8>,
    /// Pages that the next sync writes.
    dirty: BTreeSet<usize>,
}

/// A step in a directory.
#[derive(Clone)]
enum Step {
    /// It gets this name, as its first or one more.
    Name(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf, usize),
}

type Names = BTreeMap<PathBuf, usize>;

impl Step {
    fn apply(&self, names: &mut Names) {
        let mut take = |path: &PathBuf, inode: usize| {
            if names.get(path) == Some(&inode) {
                names.remove(path);
            }
        };
        match self {
            Step::Name(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Step::Rename(from, to, inode) => {
                take(from, *inode);
                names.insert(to.clone(), *inode);
            }
            Step::Remove(path, inode) => take(path, *inode),
        }
    }
}

/// What there is in memory and on the disk.
#[derive(Clone, Default)]
struct Contents {
    inodes: Vec<Inode>,
    names: Names,
    names_on_disk: Names,
    /// Steps that are in `names` and not in `names_on_disk`.
    pending: Vec<Step>,
}

/// The files that a disk has after the power went.
#[derive(Clone, Default)]
pub struct Image {
    names: Names,
    /// By number; a file can have several names.
    files: BTreeMap<usize, Vec<u8>>,
}

/// A moment at which the power may go.
pub struct Moment<W> {
    contents: Contents,
    /// What the witness said.
    pub witness: W,
    /// How many steps there had been.
    pub step: u64,
}

type Witness<W> = Box<dyn Fn() -> W + Send>;

struct State<W> {
    contents: Contents,
    random: u64,
    /// Syncs that fail, out of 256.
    sync_fails: u8,
    steps: u64,
    /// Steps to the next moment.
    until_moment: u64,
    moments_left: u32,
    moments: Vec<Moment<W>>,
    witness: Witness<W>,
}

/// The file system. Clones are the same one.
pub struct PowerFs<W>(Arc<Mutex<State<W>>>);

struct PowerFile<W> {
    fs: PowerFs<W>,
    inode: usize,
}

impl<W> Clone for PowerFs<W> {
    fn clone(&self) -> Self {
        PowerFs(Arc::clone(&self.0))
    }
}

fn pages_of(bytes: Range<usize>) -> Range<usize> {
    bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES)
}

impl Inode {
    fn page(&self, page: usize) -> Range<usize> {
        page * PAGE_BYTES..((page + 1) * PAGE_BYTES).min(self.memory.len())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        self.memory.resize(self.memory.len().max(end), 0);
        self.memory[at..end].copy_from_slice(bytes);
        self.dirty.extend(pages_of(at..end));
    }

    fn put_on_disk(&mut self, page: usize) {
        let range = self.page(page);
        self.disk.resize(self.disk.len().max(range.end), 0);
        self.disk[range.clone()].copy_from_slice(&self.memory[range]);
    }

    fn sync(&mut self, fails: bool, dice: &mut u64) {
        for page in std::mem::take(&mut self.dirty) {
            if !fails || random(dice).is_multiple_of(2) {
                self.put_on_disk(page);
            }
        }
        if !fails || random(dice).is_multiple_of(2) {
            self.disk.resize(self.memory.len(), 0);
        }
    }

    /// What the disk may have of it.
    fn image(&self, dice: &mut u64) -> Vec<u8> {
        let (synced, written) = (self.disk.len(), self.memory.len());
        let mode = random(dice) % 4;
        let length = match random(dice) % 3 {
            _ if mode == 0 => synced,
            0 => written,
            1 => synced,
            _ => synced + random(dice) as usize % (written - synced + 1),
        };
        let mut image = self.disk.clone();
        image.resize(length, 0);
        for page in &self.dirty {
            let range = self.page(*page);
            let range = range.start..range.end.min(length);
            if range.is_empty() {
                continue;
            }
            let fate = match mode {
                0 => 1,
                1 => 0,
                _ => random(dice) % 4,
            };
            match fate {
                0 => image[range.clone()].copy_from_slice(&self.memory[range]),
                1 => {}
                // What the disk had there before. It has what was synced in any case.
                2 => image[range.start.max(synced).min(range.end)..range.end].fill(0xFF),
                _ => {
                    let cut = range.start + random(dice) as usize % range.len();
                    image[range.start..cut].copy_from_slice(&self.memory[range.start..cut]);
                }
            }
        }
        image
    }
}

impl<W> Moment<W> {
    /// A disk as it may be when the power goes now.
    pub fn image(&self, dice: &mut u64) -> Image {
        let contents = &self.contents;
        let mut names = contents.names_on_disk.clone();
        let mode = random(dice) % 4;
        let prefix = random(dice) as usize % (contents.pending.len() + 1);
        for (position, step) in contents.pending.iter().enumerate() {
            let is_there = match mode {
                0 => true,
                1 => position < prefix,
                _ => random(dice).is_multiple_of(2),
            };
            if is_there {
                step.apply(&mut names);
            }
        }
        let there: BTreeSet<usize> = names.values().copied().collect();
        let image = |inode: usize| (inode, contents.inodes[inode].image(dice));
        Image {
            files: there.into_iter().map(image).collect(),
            names,
        }
    }
}

impl<W> State<W> {
    fn step(&mut self) {
        self.steps += 1;
        if self.moments_left == 0 {
            return;
        }
        match self.until_moment.checked_sub(1) {
            Some(left) => self.until_moment = left,
            None => {
                self.moments_left -= 1;
                self.until_moment = random(&mut self.random) % 12;
                self.moments.push(Moment {
                    contents: self.contents.clone(),
                    witness: (self.witness)(),
                    step: self.steps,
                });
            }
        }
    }

    fn take_step(&mut self, step: Step) {
        step.apply(&mut self.contents.names);
        self.contents.pending.push(step);
    }

    fn inode_at(&self, path: &Path) -> Option<usize> {
        self.contents.names.get(path).copied()
    }

    fn create(&mut self, path: &Path) -> usize {
        self.step();
        if let Some(old) = self.inode_at(path) {
            self.take_step(Step::Remove(path.to_owned(), old));
            self.step();
        }
        let inode = self.contents.inodes.len();
        self.contents.inodes.push(Inode::default());
        self.take_step(Step::Name(path.to_owned(), inode));
        inode
    }

    fn write(&mut self, inode: usize, at: Option<u64>, bytes: &[u8]) {
        self.step();
        let inode = &mut self.contents.inodes[inode];
        let at = at.map_or(inode.memory.len(), |at| at as usize);
        inode.write(at, bytes);
    }

    fn sync(&mut self, inode: usize) -> io::Result<()> {
        self.step();
        let fails = (random(&mut self.random) as u8) < self.sync_fails;
        self.contents.inodes[inode].sync(fails, &mut self.random);
        match fails {
            true => Err(Errno::IO.into()),
            false => Ok(()),
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step();
        let inode = self.inode_at(from).ok_or(Errno::NOENT)?;
        self.take_step(Step::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }
}

impl<W: Send + 'static> PowerFs<W> {
    /// A file system with what is on a disk, of which at most `moments` are taken, with what `witness` says.
    pub fn new(
        image: &Image,
        seed: u64,
        sync_fails: u8,
        moments: u32,
        witness: impl Fn() -> W + Send + 'static,
    ) -> PowerFs<W> {
        let mut contents = Contents::default();
        for (inode, bytes) in &image.files {
            let names = image.names.iter().filter(|(_, other)| *other == inode);
            let names = names.map(|(path, _)| (path.clone(), contents.inodes.len()));
            contents.names.extend(names);
            contents.inodes.push(Inode {
                memory: bytes.clone(),
                disk: bytes.clone(),
                dirty: BTreeSet::new(),
            });
        }
        contents.names_on_disk = contents.names.clone();
        let mut random_state = seed;
        PowerFs(Arc::new(Mutex::new(State {
            contents,
            until_moment: random(&mut random_state) % 12,
            random: random_state,
            sync_fails,
            steps: 0,
            moments_left: moments,
            moments: Vec::new(),
            witness: Box::new(witness),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Syncs that fail from now on, out of 256.
    pub fn set_sync_fails(&self, chance: u8) {
        self.lock().sync_fails = chance;
    }

    /// The moments that were taken, and a last one: now.
    pub fn moments(&self) -> Vec<Moment<W>> {
        let mut state = self.lock();
        let mut moments = std::mem::take(&mut state.moments);
        moments.push(Moment {
            contents: state.contents.clone(),
            witness: (state.witness)(),
            step: state.steps,
        });
        moments
    }

    /// What a reader sees of a file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.inode_at(path)?;
        Some(state.contents.inodes[inode].memory.clone())
    }

    /// What a reader sees of all files.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.lock();
        let Contents { names, inodes, .. } = &state.contents;
        let files = names.iter();
        files
            .map(|(path, inode)| (path.clone(), inodes[*inode].memory.clone()))
            .collect()
    }

    fn file(&self, inode: usize) -> Arc<dyn AppendFile> {
        let fs = self.clone();
        Arc::new(PowerFile { fs, inode })
    }
}

impl<W: Send + 'static> Fs for PowerFs<W> {
    fn open(&self, path: &Path) -> io::Result<Option<Arc<dyn AppendFile>>> {
        let inode = self.lock().inode_at(path);
        Ok(inode.map(|inode| self.file(inode)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn AppendFile>> {
        let inode = self.lock().create(path);
        Ok(self.file(inode))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        match state.inode_at(to) {
            Some(_) => Err(Errno::EXIST.into()),
            None => state.rename(from, to),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step();
        let inode = state.inode_at(from).ok_or(Errno::NOENT)?;
        match state.inode_at(to) {
            Some(_) => Err(Errno::EXIST.into()),
            None => {
                state.take_step(Step::Name(to.to_owned(), inode));
                Ok(())
            }
        }
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().rename(from, to)
    }

    fn write_again(&self, path: &Path, offset: u64, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        let mut state = self.lock();
        let inode = match state.inode_at(path) {
            Some(inode) => inode,
            None if offset == 0 => state.create(path),
            None => return Err(Errno::NOENT.into()),
        };
        state.write(inode, Some(offset), &bytes);
        state.sync(inode)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.inode_at(path).ok_or(Errno::NOENT)?;
        state.step();
        state.take_step(Step::Remove(path.to_owned(), inode));
        Ok(())
    }

    fn identity_at(&self, path: &Path) -> io::Result<Option<Identity>> {
        Ok(self.lock().inode_at(path).map(|inode| (0, inode as u64)))
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
        let mut aside = path.to_owned().into_os_string();
        aside.push(".new");
        let mut state = self.lock();
        let inode = state.create(Path::new(&aside));
        state.write(inode, None, contents);
        state.sync(inode)?;
        state.rename(Path::new(&aside), path)
    }

    fn names_in(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        Ok(names_in(directory, self.lock().contents.names.keys()))
    }

    fn sync_directory(&self, _: &Path) -> Result<(), DirectoryError> {
        let mut state = self.lock();
        state.step();
        if (random(&mut state.random) as u8) < state.sync_fails {
            return Err(DirectoryError::Sync(Errno::IO.into()));
        }
        let contents = &mut state.contents;
        contents.pending.clear();
        contents.names_on_disk = contents.names.clone();
        Ok(())
    }
}

impl<W: Send + 'static> AppendFile for PowerFile<W> {
    fn append(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut state = self.fs.lock();
        // Now and then a write comes in two parts, so that there are moments between.
        if bytes.len() > 1 && random(&mut state.random).is_multiple_of(4) {
            let size = 1 + random(&mut state.random) as usize % (bytes.len() - 1);
            bytes.truncate(size);
        }
        state.write(self.inode, None, &bytes);
        Ok(bytes.len())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.fs.lock().contents.inodes[self.inode].memory.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.lock().sync(self.inode)
    }

    fn write_out(&self, _: Range<u64>) {}

    fn uncache(&self, _: Range<u64>) {}

    fn identity(&self) -> io::Result<(Identity, u64)> {
        let state = self.fs.lock();
        let names = state.contents.names.values();
        let names = names.filter(|inode| **inode == self.inode).count();
        Ok(((0, self.inode as u64), names as u64))
    }

    fn born(&self) -> SystemTime {
        always()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.fs.lock();
        fill(buffer, &state.contents.inodes[self.inode].memory, offset)
    }

    fn finish(&self, _: SystemTime) -> io::Result<()> {
        self.sync_data()
    }
}
