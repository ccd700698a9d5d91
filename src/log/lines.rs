//! Reading a log from its first byte, line by line, in memory that does not grow with the file.

use std::io;

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

/// Calls `each` with every line of the first `length` bytes of `file` from `start` on, without its newline.
///
/// Memory is bounded by the longest line.
///
/// # Errors
/// What reading the file says.
pub fn for_each_line(
    file: &dyn AppendFile,
    start: u64,
    length: u64,
    mut each: impl FnMut(&[u8]),
) -> io::Result<Ending> {
    let mut carried = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = start;
    while offset < length {
        let size = (length - offset).min(CHUNK_BYTES as u64) as usize;
        file.read_exact_at(&mut chunk[..size], offset)?;
        offset += size as u64;
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
        let ending = for_each_line(&*file, 0, bytes.len() as u64, |line| lines.push(line.to_vec())).unwrap();
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
