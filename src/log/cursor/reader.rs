//! Lines out of one file, in memory that does not grow with it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};

use zstd::stream::read::Decoder;

/// Bytes read at a time: the system call is lost in the work on that many, and a thousand readers of them are 64 MiB.
const CHUNK_BYTES: usize = 64 << 10;
/// The longest line that is taken into memory; a stored one has at most 1 MiB.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;

/// Which file it is, whatever its name: device and inode. Nobody else gets the pair while the file is open.
pub(super) type Identity = (u64, u64);

/// The identity that a file's metadata tell.
pub(super) fn identity(metadata: &std::fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

enum Source {
    Plain(File),
    Packed(Box<Decoder<'static, BufReader<File>>>),
}

/// What was found next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A line, without its newline: these bytes of the buffer.
    Line(Range<usize>),
    /// A line of more than [`LINE_BYTES_MAX`], which was passed over: so many bytes, with its newline.
    TooLong(u64),
    /// No whole line is left in what the file has now.
    End,
}

/// Reads a file, plain or compressed, line by line from some byte on.
///
/// INVARIANT: `buffer[begin..end]` are the bytes of the file from `offset + passed` on, and `buffer[begin..searched]` has no
/// newline.
pub(super) struct LineReader {
    source: Source,
    buffer: Vec<u8>,
    begin: usize,
    searched: usize,
    end: usize,
    /// Where in the file the next line begins.
    offset: u64,
    /// Bytes passed over of a line that is too long.
    passed: u64,
}

impl LineReader {
    /// Reads a plain file from its first byte.
    pub fn plain(file: File) -> LineReader {
        LineReader::new(Source::Plain(file))
    }

    /// Reads a compressed file from its first byte.
    pub fn packed(file: File) -> io::Result<LineReader> {
        Ok(LineReader::new(Source::Packed(Box::new(Decoder::new(file)?))))
    }

    fn new(source: Source) -> LineReader {
        LineReader {
            source,
            buffer: Vec::new(),
            begin: 0,
            searched: 0,
            end: 0,
            offset: 0,
            passed: 0,
        }
    }

    /// Where in the file the next line begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes at the end of the file that no newline follows.
    pub fn left(&self) -> u64 {
        self.passed + (self.end - self.begin) as u64
    }

    /// The bytes that [`Found::Line`] names, until the next call of [`LineReader::next`].
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The plain file's metadata.
    pub fn metadata(&self) -> Option<io::Result<std::fs::Metadata>> {
        match &self.source {
            Source::Plain(file) => Some(file.metadata()),
            Source::Packed(_) => None,
        }
    }

    /// Goes from the first byte of the file to byte `offset`, if a line begins there: whether one does.
    pub fn go_to(&mut self, offset: u64) -> io::Result<bool> {
        if offset == 0 {
            return Ok(true);
        }
        let mut before = [0];
        match &mut self.source {
            Source::Plain(file) => {
                if file.metadata()?.len() < offset {
                    return Ok(false);
                }
                file.read_exact_at(&mut before, offset - 1)?;
                file.seek(SeekFrom::Start(offset))?;
            }
            Source::Packed(decoder) => {
                let skipped = io::copy(&mut decoder.by_ref().take(offset - 1), &mut io::sink())?;
                if skipped < offset - 1 || decoder.read(&mut before)? == 0 {
                    return Ok(false);
                }
            }
        }
        self.offset = offset;
        Ok(before == *b"\n")
    }

    /// Takes the next line.
    pub fn next(&mut self) -> io::Result<Found> {
        loop {
            if let Some(found) = self.take() {
                return Ok(found);
            }
            if self.end - self.begin >= LINE_BYTES_MAX {
                self.passed += (self.end - self.begin) as u64;
                (self.begin, self.searched, self.end) = (0, 0, 0);
            }
            if self.fill()? == 0 {
                return Ok(Found::End);
            }
        }
    }

    /// Takes a line out of the buffer.
    fn take(&mut self) -> Option<Found> {
        let Some(length) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) else {
            self.searched = self.end;
            return None;
        };
        let line = self.begin..self.searched + length;
        (self.begin, self.searched) = (line.end + 1, line.end + 1);
        let bytes = self.passed + line.len() as u64 + 1;
        self.offset += bytes;
        match std::mem::take(&mut self.passed) {
            0 => Some(Found::Line(line)),
            _ => Some(Found::TooLong(bytes)),
        }
    }

    /// Reads more: how many bytes.
    fn fill(&mut self) -> io::Result<usize> {
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.searched -= self.begin;
            self.begin = 0;
        }
        if self.end == self.buffer.len() {
            // Doubled, so that a long line is not copied for each chunk of it.
            self.buffer.resize(CHUNK_BYTES.max(2 * self.end), 0);
        } else if self.end <= CHUNK_BYTES / 2 && self.buffer.len() > CHUNK_BYTES {
            // A long line was there.
            self.buffer.truncate(CHUNK_BYTES);
            self.buffer.shrink_to_fit();
        }
        let room = &mut self.buffer[self.end..];
        let size = loop {
            let read = match &mut self.source {
                Source::Plain(file) => file.read(room),
                Source::Packed(decoder) => decoder.read(room),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += size;
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8], packed: bool) -> LineReader {
        let mut file = tempfile::tempfile().unwrap();
        if packed {
            zstd::stream::copy_encode(bytes, &mut file, 1).unwrap();
        } else {
            io::Write::write_all(&mut file, bytes).unwrap();
        }
        file.rewind().unwrap();
        match packed {
            true => LineReader::packed(file).unwrap(),
            false => LineReader::plain(file),
        }
    }

    fn all(reader: &mut LineReader) -> Vec<(u64, usize)> {
        let mut lines = Vec::new();
        loop {
            let at = reader.offset();
            match reader.next().unwrap() {
                Found::Line(range) => lines.push((at, reader.bytes(range).len())),
                Found::TooLong(bytes) => lines.push((at, bytes as usize)),
                Found::End => return lines,
            }
        }
    }

    #[test]
    fn lines_come_out_whole_wherever_chunks_end() {
        for packed in [false, true] {
            let lengths = [CHUNK_BYTES - 1, 0, CHUNK_BYTES, 5, 3 * CHUNK_BYTES, 7];
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for length in lengths {
                expected.push((bytes.len() as u64, length));
                bytes.extend(vec![b'x'; length]);
                bytes.push(b'\n');
            }
            bytes.extend(b"half");
            let mut whole = reader(&bytes, packed);
            assert_eq!(all(&mut whole), expected);
            assert_eq!((whole.left(), whole.buffer.len()), (4, CHUNK_BYTES));
            for (at, (offset, _)) in expected.iter().enumerate() {
                let mut later = reader(&bytes, packed);
                assert!(later.go_to(*offset).unwrap());
                assert_eq!(all(&mut later), expected[at..]);
            }
        }
    }

    #[test]
    fn no_line_begins_within_a_line_or_behind_the_end() {
        for packed in [false, true] {
            for (offset, is_begin) in [
                (0, true),
                (1, false),
                (2, false),
                (3, true),
                (5, false),
                (6, false),
            ] {
                assert_eq!(
                    reader(b"ab\ncd", packed).go_to(offset).unwrap(),
                    is_begin,
                    "{offset}"
                );
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_in_bounded_memory() {
        let long = vec![b'x'; 3 * LINE_BYTES_MAX + 11];
        let bytes = [b"a\n", &long[..], b"\nbc\n", &long].concat();
        let mut reader = reader(&bytes, true);
        let expected = [(0, 1), (2, long.len() + 1), (2 + long.len() as u64 + 1, 2)];
        assert_eq!(all(&mut reader), expected);
        assert!(reader.buffer.len() <= 2 * LINE_BYTES_MAX);
        assert_eq!(reader.left(), long.len() as u64);
    }
}
