//! Lines out of a file, forwards or backwards, in bounded memory and time.
//!
//! Forwards, plain or unpacked, in chunks that stay in the processor's cache; backwards a plain file from its end, for the
//! newest lines. Half a line at the end of a file is none. A line of more than [`LINE_BYTES_MAX`] is passed over: ours have at
//! most 1 MiB. The limit is looked at for each chunk.

use std::io::{self, Read};

use super::readers::{Limit, Stop};
use crate::log::Backwards;
use crate::log::fs::AppendFile;

/// Bytes read at a time: the system call is lost in the work on that many lines, and they are in the cache when they are
/// looked at.
const CHUNK_BYTES: usize = 256 << 10;
/// The longest line that is taken into memory.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Why a file was not read to its end.
#[derive(Debug)]
pub enum Stopped {
    /// The limit says so.
    Limited(Stop),
    /// Reading failed.
    Failed(io::Error),
}

impl From<Stop> for Stopped {
    fn from(stop: Stop) -> Stopped {
        Stopped::Limited(stop)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Failed(error)
    }
}

/// Calls `each` with the lines that `from` gives and where they begin, without their newlines, until it says that it has enough
/// (`false`).
pub fn forwards(
    from: &mut dyn Read,
    limit: &Limit,
    mut each: impl FnMut(u64, &[u8]) -> bool,
) -> Result<(), Stopped> {
    let mut buffer = vec![0; CHUNK_BYTES];
    // Bytes of the file before the buffer's, and how many of the buffer's are of a line that has not ended.
    let (mut before, mut kept) = (0_u64, 0);
    let mut is_too_long = false;
    loop {
        limit.look()?;
        let size = read(from, &mut buffer[kept..])?;
        if size == 0 {
            return Ok(());
        }
        limit.spend(size)?;
        let end = kept + size;
        let mut begin = 0;
        for newline in memchr::memchr_iter(b'\n', &buffer[kept..end]) {
            let newline = kept + newline;
            let is_line = !std::mem::take(&mut is_too_long);
            if is_line && !each(before + begin as u64, &buffer[begin..newline]) {
                return Ok(());
            }
            begin = newline + 1;
        }
        if is_too_long || end - begin > LINE_BYTES_MAX {
            is_too_long = true;
            begin = end;
        }
        buffer.copy_within(begin..end, 0);
        before += begin as u64;
        kept = end - begin;
        if kept == buffer.len() {
            // Doubled, so that a long line is not searched for its end for each chunk of it.
            buffer.resize(2 * kept, 0);
        }
    }
}

fn read(from: &mut dyn Read, to: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(to) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Calls `each` with the lines of the first `end` bytes of `file`, the last one first, until it says that it has enough
/// (`false`).
pub fn backwards(
    file: &dyn AppendFile,
    end: u64,
    limit: &Limit,
    mut each: impl FnMut(&[u8]) -> bool,
) -> Result<(), Stopped> {
    let read = |to: &mut [u8], at| {
        limit.spend(to.len())?;
        Ok::<(), Stopped>(file.read_exact_at(to, at)?)
    };
    let mut lines = Backwards::new(end, LINE_BYTES_MAX, read)?;
    while let Some((_, line)) = lines.previous()? {
        if !each(line) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, Instant};

    use super::*;

    fn in_time() -> Limit {
        Limit::until(Instant::now() + Duration::from_secs(60))
    }

    fn forth(bytes: &[u8], count: usize) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Vec::new();
        let each = |at, line: &[u8]| {
            lines.push((at, line.to_vec()));
            lines.len() < count
        };
        forwards(&mut &*bytes, &in_time(), each).unwrap();
        lines
    }

    fn back(bytes: &[u8], count: usize) -> Vec<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut lines = Vec::new();
        backwards(&file, bytes.len() as u64, &in_time(), |line| {
            lines.push(line.to_vec());
            lines.len() < count
        })
        .unwrap();
        lines
    }

    #[test]
    fn both_ways_find_the_lines_that_splitting_finds_wherever_chunks_end() {
        let lengths = [
            0,
            1,
            CHUNK_BYTES / 8 - 1,
            CHUNK_BYTES / 8,
            CHUNK_BYTES - 2,
            CHUNK_BYTES,
            5 * CHUNK_BYTES + 3,
            0,
            7,
        ];
        for shift in 0..lengths.len() {
            let mut bytes = Vec::new();
            let mut lines = Vec::new();
            for (number, length) in lengths.iter().cycle().skip(shift).take(lengths.len()).enumerate() {
                let line = vec![b'a' + number as u8; *length];
                lines.push((bytes.len() as u64, line.clone()));
                bytes.extend(line);
                bytes.push(b'\n');
            }
            for tail in ["", "half"] {
                let bytes = [&bytes, tail.as_bytes()].concat();
                assert_eq!(forth(&bytes, usize::MAX), lines);
                assert_eq!(forth(&bytes, 3), lines[..3]);
                let mut expected: Vec<_> = lines.iter().map(|(_, line)| line.clone()).collect();
                expected.reverse();
                assert_eq!(back(&bytes, usize::MAX), expected);
                assert_eq!(back(&bytes, 3), expected[..3]);
            }
        }
        assert_eq!((forth(b"", 1), back(b"", 1)), (vec![], vec![]));
        assert_eq!((forth(b"half", 1), back(b"half", 1)), (vec![], vec![]));
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_both_ways() {
        let long = vec![b'x'; 2 * LINE_BYTES_MAX + 11];
        let bytes = [b"a\n", &long[..], b"\nbc\n", &long, b"\nd\n"].concat();
        let found: Vec<_> = forth(&bytes, 9).into_iter().map(|(_, line)| line).collect();
        assert_eq!(found, [&b"a"[..], b"bc", b"d"]);
        assert_eq!(back(&bytes, 9), [&b"d"[..], b"bc", b"a"]);
    }

    #[test]
    fn when_the_time_is_over_nothing_more_is_read() {
        let over = Limit::until(Instant::now());
        assert!(matches!(
            forwards(&mut &b"a\n"[..], &over, |_, _| panic!("nothing is read")),
            Err(Stopped::Limited(Stop::Late))
        ));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a\n").unwrap();
        assert!(matches!(
            backwards(&file, 2, &over, |_| panic!("nothing is read")),
            Err(Stopped::Limited(Stop::Late))
        ));
    }
}
