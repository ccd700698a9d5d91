//! What a power cut made of the live file's newest lines: holes that are filled with lines which say so.
//!
//! A file that grows is longer on the disk before all of its pages are there: after a power cut there can be zeros, or what the disk
//! had there before, between lines that are whole. Nothing of that was ever acknowledged as synced. The journal may have some of
//! those lines still; they are appended. The hole stays where it is, and the file must not get shorter, as those who
//! followed it know how far they were. So each hole, with the lines that it cuts, is written over:
//!
//! ```text
//! {"torn":true                         }
//! ```
//!
//! Damage is what cannot be text: a NUL byte, or bytes that are no UTF-8. All else is left as it is.
//!
//! Owner: the thread that opens the engine, before anything is read, and only where the power may have gone since the log
//! was written. It reads the file once, at the speed at which memory is searched.

use std::io::{self, Read};
use std::path::Path;

use super::fs::Fs;
use super::lines::{Ending, for_each_line};

const BEGIN: &[u8] = b"{\"torn\":true";
const END: &[u8] = b"}\n";
/// The shortest line that says so.
const LINE_BYTES_MIN: u64 = (BEGIN.len() + END.len()) as u64;
/// The longest that is written: there are readers that cannot take long ones.
const LINE_BYTES_MAX: u64 = 4 << 10;
/// Bytes that are written at a time.
const WRITTEN_AT_ONCE: u64 = 1 << 20;

/// A part of the file that is written over: whole lines, or the rest of it.
#[derive(Debug, PartialEq, Eq)]
struct Hole {
    start: u64,
    end: u64,
}

/// Fills the holes in the file at `path`, and waits until that is on the disk. Answers how many there were.
///
/// # Errors
/// What reading and writing says. What has been filled by then stays so.
pub fn mend(fs: &dyn Fs, path: &Path) -> io::Result<usize> {
    let Some(mut file) = fs.open_read(path)? else {
        return Ok(0);
    };
    let holes = find(&mut file)?;
    for hole in &holes {
        let (mut at, mut left) = (hole.start, hole.end - hole.start);
        while left > 0 {
            let filling = filling(left);
            fs.write_again(path, at, &mut &filling[..])?;
            at += filling.len() as u64;
            left -= left.min(filling.len() as u64);
        }
        tracing::warn!(
            file = %path.display(),
            from = hole.start,
            to = hole.end,
            "a part of the log did not get to the disk before the power went; it is marked as torn"
        );
    }
    Ok(holes.len())
}

fn find(file: &mut dyn Read) -> io::Result<Vec<Hole>> {
    let mut holes: Vec<Hole> = Vec::new();
    let mut at = 0;
    let mut look = |line: &[u8], end: u64, is_cut: bool| {
        let is_next = holes.last().is_some_and(|hole| hole.end == at);
        // One that is too short to say so takes the line behind it along, which came later still.
        let is_short = holes
            .last()
            .is_some_and(|hole| hole.end - hole.start < LINE_BYTES_MIN);
        match holes.last_mut() {
            Some(hole) if is_next && (is_short || is_damaged(line, is_cut)) => hole.end = end,
            _ if is_damaged(line, is_cut) => holes.push(Hole { start: at, end }),
            _ => {}
        }
        at = end;
    };
    let mut length = 0;
    let ending = for_each_line(file, |line| {
        length += line.len() as u64 + 1;
        look(line, length, false);
    })?;
    if let Ending::Torn(cut) = ending {
        look(&cut, length + cut.len() as u64, true);
    }
    Ok(holes)
}

fn is_damaged(line: &[u8], is_cut: bool) -> bool {
    let is_text = match std::str::from_utf8(line) {
        Ok(_) => true,
        // Cut within a character.
        Err(error) => is_cut && error.error_len().is_none(),
    };
    !is_text || memchr::memchr(0, line).is_some() || (is_cut && line[0] != b'{')
}

/// Lines for the next bytes of a hole with so many left. At the end of the file they may be more than are left.
fn filling(left: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut left = left;
    while left > 0 && (lines.len() as u64) < WRITTEN_AT_ONCE {
        let mut bytes = left.clamp(LINE_BYTES_MIN, LINE_BYTES_MAX);
        if (1..LINE_BYTES_MIN).contains(&left.saturating_sub(bytes)) {
            bytes -= LINE_BYTES_MIN;
        }
        lines.extend_from_slice(BEGIN);
        lines.resize(lines.len() + (bytes - LINE_BYTES_MIN) as usize, b' ');
        lines.extend_from_slice(END);
        left = left.saturating_sub(bytes);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::fs::faulty::FaultyFs;
    use super::*;

    fn mended(before: &[u8]) -> (usize, Vec<u8>) {
        let fs = FaultyFs::default();
        let path = Path::new("data/metrics.jsonl");
        fs.put(path, before);
        let holes = mend(&fs, path).unwrap();
        let after = fs.contents(path).unwrap();
        assert_eq!(mend(&fs, path).unwrap(), 0, "nothing is left to do");
        (holes, after)
    }

    fn lines(bytes: &[u8]) -> Vec<serde_json::Value> {
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[test]
    fn holes_are_filled_wherever_they_are_and_nothing_else_is_touched() {
        let text = b"{\"a\":1}\n{\"b\":\"second\"}\n{\"c\":\"\xC3\xA9\"}\n{\"d\":4}\n";
        assert_eq!(mended(text), (0, text.to_vec()));
        for start in 0..text.len() {
            for end in start + 1..=text.len() {
                for byte in [0, 0xFF] {
                    let mut damaged = text.to_vec();
                    damaged[start..end].fill(byte);
                    let (holes, after) = mended(&damaged);
                    assert_eq!(holes, 1);
                    let first = text[..start].iter().rposition(|byte| *byte == b'\n');
                    let whole = first.map_or(0, |newline| newline + 1);
                    assert!(after.starts_with(&text[..whole]));
                    assert!(after.len() == text.len() || after[whole..].len() == LINE_BYTES_MIN as usize);
                    let marked = lines(&after[whole..]);
                    assert_eq!(marked[0]["torn"], true);
                }
            }
        }
    }

    #[test]
    fn a_large_hole_gets_lines_of_bounded_length() {
        for bytes in (1..40)
            .chain(LINE_BYTES_MAX - 20..LINE_BYTES_MAX + 40)
            .chain([3 << 20])
        {
            let damaged = [b"{\"a\":1}\n", &vec![0; bytes as usize][..], b"\n{\"b\":2}\n"].concat();
            let (_, after) = mended(&damaged);
            let marked = lines(&after);
            assert_eq!(marked[0]["a"], 1);
            assert!(
                marked[1..]
                    .iter()
                    .all(|line| line["torn"] == true || line["b"] == 2)
            );
            let longest = after.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
            assert!(longest < Some(LINE_BYTES_MAX as usize));
        }
    }

    #[test]
    fn a_line_that_is_only_cut_is_left_to_be_completed() {
        for cut in [&b"{\"a\":1}\n{\"b\":\"\xC3"[..], b"{", b"{\"a\":1}\n{\"b"] {
            assert_eq!(mended(cut), (0, cut.to_vec()));
        }
    }
}
