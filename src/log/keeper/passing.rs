//! Reading a file from end to end, to know what it is: its length and checksum, without leaving it in the page cache.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::compress::CHUNK_BYTES;
use crate::log::fs::Source;
use crate::log::summary::Summary;

/// Bytes after which what has been read is dropped from the page cache.
const UNCACHE_EVERY: u64 = 4 << 20;

/// Length and checksum of what went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub bytes: u64,
    crc32c: u32,
}

impl Fingerprint {
    /// Of the file with that summary.
    pub fn of(summary: &Summary) -> Fingerprint {
        Fingerprint {
            bytes: summary.bytes,
            crc32c: summary.crc32c,
        }
    }

    /// Of what `from` gives, as it is, until `enough` is true of it.
    ///
    /// # Errors
    /// What reading says; [`io::ErrorKind::Other`] when it was enough.
    pub fn read(
        from: &mut dyn Read,
        mut enough: impl FnMut(&Fingerprint) -> bool,
    ) -> io::Result<Fingerprint> {
        let mut found = Fingerprint::default();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return Ok(found),
                Ok(size) => found.write_all(&chunk[..size])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if enough(&found) {
                return Err(io::Error::other("enough was read"));
            }
        }
    }

    /// Of what `from` unpacks to, until it is `enough`.
    ///
    /// # Errors
    /// What reading says, and whatever is wrong with the compressed data: its end missing, its checksum too.
    pub fn unpacked(
        from: &mut dyn Read,
        enough: impl FnMut(&Fingerprint) -> bool,
    ) -> io::Result<Fingerprint> {
        Fingerprint::read(&mut zstd::stream::read::Decoder::new(from)?, enough)
    }

    /// Whether it is of more bytes than `other`.
    pub fn is_longer_than(&self, other: &Fingerprint) -> bool {
        self.bytes > other.bytes
    }
}

impl Write for Fingerprint {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that leaves the page cache as it is read.
pub(super) struct Passing {
    source: Box<dyn Source>,
    kept: Range<u64>,
    /// What reading said, where somebody between us and the caller may have put it in other words.
    pub error: Option<io::Error>,
}

impl Passing {
    pub fn new(source: Box<dyn Source>) -> Passing {
        Passing {
            source,
            kept: 0..0,
            error: None,
        }
    }
}

impl Read for Passing {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let size = match self.source.read(to) {
            Ok(size) => size,
            Err(error) => {
                self.error = Some(io::Error::new(error.kind(), error.to_string()));
                return Err(error);
            }
        };
        self.kept.end += size as u64;
        if size == 0 || self.kept.end - self.kept.start >= UNCACHE_EVERY {
            self.source.uncache(self.kept.clone());
            self.kept.start = self.kept.end;
        }
        Ok(size)
    }
}
