//! The sealed files of a log: their summaries, in order, and how to read them.
//!
//! Together with the live file they are one long sequence of bytes: [`Segment::base`] says where in it a file begins. The
//! journal's places are positions in that sequence.
//!
//! Owner: the writer thread adds what it seals; everybody may look. What happens to the files themselves (compressed,
//! uploaded, removed) is not kept here: who wants to read one looks where it is.

use std::io::{self, Read};
use std::sync::{Arc, RwLock};

use super::fs::{Fs, Source};
use super::lines::{for_each_line, seq_of};
use super::segment::{Family, Parts, SegmentId};
use super::summary::{Summary, Tally};

/// A sealed file.
#[derive(Debug)]
pub struct Segment {
    /// Position of its first byte among all that the log ever had.
    pub base: u64,
    /// What is counted of it.
    pub summary: Summary,
}

impl Segment {
    /// Position behind its last byte.
    pub fn end(&self) -> u64 {
        self.base + self.summary.bytes
    }

    /// Its id.
    pub fn id(&self) -> SegmentId {
        self.summary.id()
    }
}

/// All sealed files that anything is known of.
pub struct Catalog {
    fs: Arc<dyn Fs>,
    family: Family,
    /// By number, ascending.
    segments: RwLock<Vec<Arc<Segment>>>,
}

/// Where the live file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its number.
    pub number: u64,
    /// Position of its first byte among all that the log ever had.
    pub base: u64,
    /// The number of its first event.
    pub first_seq: u64,
}

/// Opens a sealed file of `family` where it is, unpacked; `None` if it has gone.
///
/// # Errors
/// What opening says.
pub fn open_file(fs: &dyn Fs, family: &Family, id: SegmentId) -> io::Result<Option<Box<dyn Read + Send>>> {
    // The plain one is removed only after the compressed one is in place.
    if let Some(file) = fs.open_read(&family.plain(id))? {
        return Ok(Some(file));
    }
    match fs.open_read(&family.compressed(id))? {
        Some(file) => Ok(Some(Box::new(zstd::stream::read::Decoder::new(file)?))),
        None => Ok(None),
    }
}

impl Catalog {
    /// Reads the summaries of the log's files, and makes those that are missing or damaged.
    ///
    /// # Errors
    /// What reading the directory or a file, or writing a summary says.
    pub fn open(fs: Arc<dyn Fs>, family: Family, names_max: usize) -> io::Result<Catalog> {
        let catalog = Catalog {
            fs,
            family,
            segments: RwLock::default(),
        };
        for (id, parts) in catalog.family.list(&*catalog.fs)? {
            let path = catalog.family.summary(id);
            let known = match parts.summary {
                true => Summary::read(&*catalog.fs, &path, id)?,
                false => None,
            };
            match known {
                Some(summary) => {
                    catalog.add(summary);
                }
                None => {
                    let summary = catalog.summarise(id, parts, names_max)?;
                    if let Some(summary) = summary {
                        catalog.write(&summary)?;
                        catalog.add(summary);
                    }
                }
            }
        }
        Ok(catalog)
    }

    /// Counts a file that has no summary; `None`, after a word in the log, if there is none that could be read.
    fn summarise(&self, id: SegmentId, parts: Parts, names_max: usize) -> io::Result<Option<Summary>> {
        let name = self.family.file_name(id);
        let name = name.display();
        let Some(mut file) = self.open_file(id)? else {
            tracing::error!(file = %name, "of a sealed file that has gone the summary is damaged: its events are no longer counted");
            return Ok(None);
        };
        tracing::info!(file = %name, compressed = !parts.plain, "a sealed file has no summary; it is counted");
        let first_seq = self.front().first_seq;
        let mut last = 0;
        match Tally::of(&mut file, names_max, |line| last = seq_of(line).unwrap_or(last)) {
            Ok((mut tally, _)) => {
                tally.numbered_up_to(first_seq, last);
                Ok(Some(tally.summary(id, first_seq)))
            }
            // A compressed file that is damaged.
            Err(error) if !parts.plain => {
                tracing::error!(file = %name, %error, "a compressed file cannot be read: its events are not counted");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The names of the log's files.
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// Where the live file begins.
    pub fn front(&self) -> Front {
        let segments = self.segments.read().expect("no holder of this lock panics");
        match segments.last() {
            Some(last) => Front {
                number: last.summary.number + 1,
                base: last.end(),
                first_seq: last.summary.next_seq(),
            },
            None => Front {
                number: 1,
                base: 0,
                first_seq: 1,
            },
        }
    }

    /// All segments, the oldest first.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.read().expect("no holder of this lock panics");
        segments.clone()
    }

    /// The segment of that number, if anything is known of it.
    pub fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.read().expect("no holder of this lock panics");
        let at = segments.binary_search_by_key(&number, |segment| segment.summary.number);
        at.ok().map(|at| Arc::clone(&segments[at]))
    }

    /// Adds the file that has just been sealed.
    pub fn add(&self, summary: Summary) -> Arc<Segment> {
        let base = self.front().base;
        let segment = Arc::new(Segment { base, summary });
        let mut segments = self.segments.write().expect("no holder of this lock panics");
        segments.push(Arc::clone(&segment));
        segment
    }

    /// Stores a summary, and has it on the disk: files are removed on the strength of it, and some could not be counted again.
    ///
    /// # Errors
    /// What writing it, or syncing the directory, says.
    pub fn store(&self, segment: &Segment) -> io::Result<()> {
        self.write(&segment.summary)?;
        Ok(self.fs.sync_directory(self.family.directory())?)
    }

    fn write(&self, summary: &Summary) -> io::Result<()> {
        // Not before the file's own name is on the disk: a summary alone would count events that the live file has as well.
        self.fs.sync_directory(self.family.directory())?;
        summary.write(&*self.fs, &self.family.summary(summary.id()))
    }

    /// Opens a sealed file where it is, unpacked; `None` if it has gone.
    ///
    /// # Errors
    /// What opening says.
    pub fn open_file(&self, id: SegmentId) -> io::Result<Option<Box<dyn Read + Send>>> {
        open_file(&*self.fs, &self.family, id)
    }

    /// Opens a sealed file that is not compressed; `None` if there is none.
    ///
    /// # Errors
    /// What opening says.
    pub fn open_plain(&self, id: SegmentId) -> io::Result<Option<Box<dyn Source>>> {
        self.fs.open_read(&self.family.plain(id))
    }

    /// Calls `each` with the lines of sealed files at position `from` and behind; of the file in which that lies, with all.
    ///
    /// # Errors
    /// What reading the files says.
    pub fn for_each_line_from(&self, from: u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        for segment in self.segments().iter().filter(|segment| segment.end() > from) {
            if let Some(mut file) = self.open_file(segment.id())? {
                for_each_line(&mut file, &mut each)?;
            }
        }
        Ok(())
    }
}
