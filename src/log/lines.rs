//! Reading a log from its first byte, line by line, in memory that does not grow with the file.

use std::io::{self, Read};

use super::fs::AppendFile;

/// Bytes read at a time: large enough that the system call disappears in the work on its lines.
const CHUNK_BYTES: usize = 1 << 20;

/// How a log ends.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a newline, or the file is empty.
    Whole,
    /// With a line that has no newline: these bytes.
    Torn(Vec<u8>),
}

/// A part of a file, to be read in order.
pub struct FileRange<'f> {
    file: &'f dyn AppendFile,
    at: u64,
    end: u64,
}

impl<'f> FileRange<'f> {
    /// The bytes from `at` to `end`, which the file must have.
    pub fn new(file: &'f dyn AppendFile, at: u64, end: u64) -> FileRange<'f> {
        FileRange { file, at, end }
    }
}

impl Read for FileRange<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.at);
        let size = left.min(to.len() as u64) as usize;
        self.file.read_exact_at(&mut to[..size], self.at)?;
        self.at += size as u64;
        Ok(size)
    }
}

/// Calls `each` with every line that `from` gives, without its newline.
///
/// Memory is bounded by the longest line.
///
/// # Errors
/// What reading says.
pub fn for_each_line(from: &mut dyn Read, mut each: impl FnMut(&[u8])) -> io::Result<Ending> {
    let mut carried = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let size = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut rest = &chunk[..size];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if carried.is_empty() {
                each(&rest[..end]);
            } else {
                carried.extend_from_slice(&rest[..end]);
                each(&carried);
                carried.clear();
            }
            rest = &rest[end + 1..];
        }
        carried.extend_from_slice(rest);
    }
    Ok(if carried.is_empty() {
        Ending::Whole
    } else {
        Ending::Torn(carried)
    })
}

/// The number that a line begins with, if lines are stored with numbers.
pub fn seq_of(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::fs::{Fs, OsFs};
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Ending) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, bytes).unwrap();
        let file = OsFs.open(&path).unwrap().unwrap();
        let mut lines = Vec::new();
        let ending = for_each_line(&mut FileRange::new(&*file, 0, bytes.len() as u64), |line| {
            lines.push(line.to_vec());
        })
        .unwrap();
        (lines, ending)
    }

    #[test]
    fn lines_that_cross_a_chunk_come_out_whole() {
        let long = vec![b'x'; CHUNK_BYTES - 3];
        let bytes = [&long[..], b"\nabcdef\n", &long, &long, b"\n"].concat();
        let (lines, ending) = read(&bytes);
        assert_eq!(
            lines.iter().map(Vec::len).collect::<Vec<_>>(),
            [long.len(), 6, 2 * long.len()]
        );
        assert_eq!(ending, Ending::Whole);
    }

    #[test]
    fn a_last_line_without_a_newline_is_told_apart() {
        assert_eq!(read(b""), (vec![], Ending::Whole));
        assert_eq!(
            read(b"a\n\nb"),
            (vec![b"a".to_vec(), vec![]], Ending::Torn(b"b".to_vec()))
        );
    }
}
