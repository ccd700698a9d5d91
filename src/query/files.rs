//! The files of one moment of the log, to be read by whatever they are: live, sealed or compressed.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;

use super::readers::{Limit, Stop};
use super::scan::{self, Stopped};
use crate::ingest::{Cut, View};
use crate::log::FileRange;
use crate::log::catalog::Segment;
use crate::log::fs::AppendFile;
use crate::log::segment::Family;
use crate::log::summary::Summary;

/// What an answer lacks, because a file could not be read.
#[derive(Debug, Default)]
pub struct Gaps {
    reason: Option<String>,
}

impl Gaps {
    /// Why the answer is not complete; `None` if it is.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Something is missing; the first reason is the one that is told.
    pub fn add(&mut self, reason: impl FnOnce() -> String) {
        self.reason.get_or_insert_with(reason);
    }
}

/// One moment of the log.
pub struct Log {
    cut: Cut,
    family: Family,
}

/// One of its files, and what is counted of it.
#[derive(Clone, Copy)]
pub struct Part<'l> {
    log: &'l Log,
    segment: &'l Segment,
    is_live: bool,
}

enum Opened<'f> {
    Plain(Plain<'f>, u64),
    Packed(zstd::stream::read::Decoder<'static, io::BufReader<File>>),
    Gone,
}

enum Plain<'f> {
    Live(&'f dyn AppendFile),
    Sealed(File),
}

impl Plain<'_> {
    fn file(&self) -> &dyn AppendFile {
        match self {
            Plain::Live(file) => *file,
            Plain::Sealed(file) => file,
        }
    }
}

impl Log {
    /// The log as it is now.
    pub fn now(view: &View) -> Log {
        Log {
            cut: view.cut(),
            family: view.family().clone(),
        }
    }

    /// Its files, the oldest first.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = Part<'_>> {
        let part = |segment, is_live| Part {
            log: self,
            segment,
            is_live,
        };
        let sealed = self.cut.sealed.iter().map(move |segment| part(&**segment, false));
        sealed.chain(std::iter::once(part(&self.cut.live, true)))
    }

    /// Bytes in the live file.
    pub fn live_bytes(&self) -> u64 {
        self.cut.live.summary.bytes
    }
}

impl<'l> Part<'l> {
    /// What is counted of it.
    pub fn summary(&self) -> &'l Summary {
        &self.segment.summary
    }

    /// Position of its first byte among all that the log ever had.
    pub fn base(&self) -> u64 {
        self.segment.base
    }

    /// Calls `each` with the lines and where in the file they begin, until it has enough (`false`). A file that has gone, or
    /// cannot be read to its end, is a gap.
    pub fn read(
        &self,
        limit: &Limit,
        gaps: &mut Gaps,
        each: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), Stop> {
        let opened = self.open();
        self.read_opened(opened, limit, gaps, each)
    }

    /// As [`Part::read`], from the end if the file can be read so.
    pub fn read_from_end(
        &self,
        limit: &Limit,
        gaps: &mut Gaps,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Stop> {
        match self.open() {
            Ok(Opened::Plain(plain, end)) => {
                let read = scan::backwards(plain.file(), end, limit, each);
                self.settle(read, gaps)
            }
            opened => self.read_opened(opened, limit, gaps, |_, line| each(line)),
        }
    }

    fn read_opened(
        &self,
        opened: io::Result<Opened<'_>>,
        limit: &Limit,
        gaps: &mut Gaps,
        each: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), Stop> {
        let read = match opened {
            Ok(Opened::Gone) => {
                gaps.add(|| format!("{} has been removed.", self.name()));
                Ok(())
            }
            Ok(Opened::Plain(plain, end)) => {
                scan::forwards(&mut FileRange::new(plain.file(), 0, end), limit, each)
            }
            Ok(Opened::Packed(mut unpacked)) => scan::forwards(&mut unpacked, limit, each),
            Err(error) => Err(error.into()),
        };
        self.settle(read, gaps)
    }

    /// Adds to `newest`, which is in descending order, the last lines that are wanted, until it has `count` of them, or
    /// `there` are found, which is all. A file that has gone has none.
    pub fn newest(
        &self,
        (count, there): (usize, u64),
        limit: &Limit,
        gaps: &mut Gaps,
        newest: &mut Vec<Vec<u8>>,
        mut wants: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Stop> {
        let room = (count.saturating_sub(newest.len()) as u64).min(there) as usize;
        let read = match self.open() {
            _ if room == 0 => return Ok(()),
            Ok(Opened::Gone) => return Ok(()),
            Ok(Opened::Plain(plain, end)) => {
                let mut left = room;
                scan::backwards(plain.file(), end, limit, |line| {
                    if wants(line) {
                        newest.push(line.to_vec());
                        left -= 1;
                    }
                    left > 0
                })
            }
            Ok(Opened::Packed(mut unpacked)) => {
                let mut last: VecDeque<Vec<u8>> = VecDeque::with_capacity(room);
                let read = scan::forwards(&mut unpacked, limit, |_, line| {
                    if wants(line) {
                        let mut slot = match last.len() < room {
                            true => Vec::new(),
                            false => last.pop_front().unwrap_or_default(),
                        };
                        slot.clear();
                        slot.extend_from_slice(line);
                        last.push_back(slot);
                    }
                    true
                });
                // Of a file that was not read to its end these are not the newest.
                if read.is_ok() {
                    newest.extend(last.into_iter().rev());
                }
                read
            }
            Err(error) => Err(error.into()),
        };
        self.settle(read, gaps)
    }

    fn open(&self) -> io::Result<Opened<'l>> {
        if self.is_live {
            let bytes = self.segment.summary.bytes;
            let file = self.log.cut.file.as_deref();
            return Ok(file.map_or(Opened::Gone, |file| Opened::Plain(Plain::Live(file), bytes)));
        }
        let id = self.segment.id();
        // The plain one is removed only after the compressed one is in place.
        if let Some(file) = open(&self.log.family.plain(id))? {
            let length = file.metadata()?.len();
            return Ok(Opened::Plain(Plain::Sealed(file), length));
        }
        match open(&self.log.family.compressed(id))? {
            Some(file) => Ok(Opened::Packed(zstd::stream::read::Decoder::new(file)?)),
            None => Ok(Opened::Gone),
        }
    }

    fn settle(&self, read: Result<(), Stopped>, gaps: &mut Gaps) -> Result<(), Stop> {
        match read {
            Ok(()) => Ok(()),
            Err(Stopped::Limited(stop)) => Err(stop),
            Err(Stopped::Failed(error)) => {
                let name = self.name();
                tracing::warn!(file = name, %error, "a file of the log cannot be read for a query");
                gaps.add(|| format!("{name} cannot be read to its end."));
                Ok(())
            }
        }
    }

    fn name(&self) -> String {
        match self.is_live {
            true => "The live file".to_owned(),
            false => {
                let name = self.log.family.file_name(self.segment.id());
                name.to_string_lossy().into_owned()
            }
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
