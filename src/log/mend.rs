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
//! Damage is what cannot be text (a NUL byte, or bytes that are no UTF-8), and what begins as an object and is none. All else is left as it is, also an event right behind
//! a hole that has its newline before it: where a process was killed after a failed sync, that one may be synced.
//!
//! Owner: the thread that opens the engine, before anything is read, and only where the power may have gone since the log
//! was written. It reads the file once.

use std::io::{self, Read};
use std::path::Path;

use serde::de::IgnoredAny;

use super::fs::Fs;
use super::lines::{Ending, for_each_line};
use crate::event::facts_of_line;

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
    let length = fs.stat(path)?.map_or(0, |stat| stat.bytes);
    for hole in &holes {
        let is_end = hole.end == length;
        // Twice, first with what is no text and has no line break: however much of it has got to the disk when the power goes,
        // the next start finds NUL bytes in each line of the hole that is not a whole one.
        for fill in [blank as fn(u64, bool) -> Vec<u8>, filling] {
            let (mut at, mut left) = (hole.start, hole.end - hole.start);
            while left > 0 {
                let filling = fill(left, is_end);
                fs.write_again(path, at, &mut &filling[..])?;
                at += filling.len() as u64;
                left -= left.min(filling.len() as u64);
            }
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
    let mut look = |line: &[u8], is_cut: bool| {
        let end = at + line.len() as u64 + u64::from(!is_cut);
        if let Some(damaged) = damaged_bytes(line, is_cut) {
            let hole_end = damaged.map_or(end, |bytes| at + bytes as u64);
            match holes.last_mut().filter(|hole| hole.end == at) {
                Some(hole) => hole.end = hole_end,
                None => holes.push(Hole {
                    start: at,
                    end: hole_end,
                }),
            }
        }
        at = end;
    };
    let ending = for_each_line(file, |line| look(line, false))?;
    if let Ending::Torn(cut) = ending {
        look(&cut, true);
    }
    Ok(holes)
}

/// Whether a line is damaged, and if so, how much of it: `None` is all.
fn damaged_bytes(line: &[u8], is_cut: bool) -> Option<Option<usize>> {
    let mut read = 0;
    let mut damage_end = memchr::memrchr(0, line).map_or(0, |at| at + 1);
    // Text is the rule, and is found to be so fast.
    if std::str::from_utf8(line).is_err() {
        for chunk in line.utf8_chunks() {
            read += chunk.valid().len() + chunk.invalid().len();
            let is_begun = |error: std::str::Utf8Error| error.error_len().is_none();
            match std::str::from_utf8(chunk.invalid()) {
                Ok(_) => {}
                // The end may be cut within a character.
                Err(error) if is_cut && read == line.len() && is_begun(error) => {}
                Err(_) => damage_end = damage_end.max(read),
            }
        }
    }
    let is_json = |line| serde_json::from_slice::<IgnoredAny>(line).is_ok();
    let is_object = line.first() == Some(&b'{');
    if damage_end == 0 {
        let is_damaged = if is_cut {
            !is_object
        } else {
            is_object && !is_json(line)
        };
        return is_damaged.then_some(None);
    }
    // A line behind the damage is whole: only the newline before it is gone.
    let rest = &line[damage_end..];
    let is_whole = !is_cut && facts_of_line(rest).is_some() && is_json(rest);
    Some(is_whole.then_some(damage_end))
}

/// NUL bytes for the next bytes of a hole with so many left, the last of which ends the line, if something follows.
fn blank(left: u64, is_end: bool) -> Vec<u8> {
    let mut bytes = vec![0; left.min(WRITTEN_AT_ONCE) as usize];
    if !is_end && left <= WRITTEN_AT_ONCE {
        bytes.pop();
        bytes.push(b'\n');
    }
    bytes
}

/// Lines for the next bytes of a hole with so many left. At the end of the file, where it may grow, they may be more than that.
fn filling(left: u64, is_end: bool) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut left = left;
    while left > 0 && (lines.len() as u64) < WRITTEN_AT_ONCE {
        if left < LINE_BYTES_MIN && !is_end {
            // No line of ours is so short, and no page: but if there is such a hole, a blank line is all that fits.
            lines.resize(lines.len() + left as usize - 1, b' ');
            lines.push(b'\n');
            break;
        }
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
    use super::super::fs::faulty::{FaultyFs, random};
    use super::super::fs::power::{Image, Moment, PowerFs};
    use super::*;

    const LOG: &str = "data/metrics.jsonl";

    fn mended(before: &[u8]) -> (usize, Vec<u8>) {
        let fs = FaultyFs::default();
        let path = Path::new(LOG);
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

    fn event(name: &str) -> String {
        format!(
            "{{\"visitor_id\":\"visitor\",\"event\":\"{name}\",\"timestamp\":\"2025-10-09T12:34:56Z\",\"metadata\":{{}},\"user_agent\":null}}\n"
        )
    }

    #[test]
    fn holes_are_filled_wherever_they_are_and_nothing_else_is_touched() {
        let text = ["a", "é", "c", "d"].map(event).concat().into_bytes();
        assert_eq!(mended(&text), (0, text.clone()));
        for start in 0..text.len() {
            for end in (start + 1..=text.len()).filter(|end| end % 3 == 0 || end - start > text.len() - 40) {
                let byte = [0, 0xFF][end % 2];
                let mut damaged = text.clone();
                damaged[start..end].fill(byte);
                let (holes, after) = mended(&damaged);
                assert_eq!(holes, 1);
                let before = text[..start].iter().rposition(|byte| *byte == b'\n');
                let before = before.map_or(0, |newline| newline + 1);
                // What begins right behind the hole is whole, whether or not its newline before is.
                let behind = match text[end - 1] {
                    b'\n' => end,
                    _ => {
                        end + text[end..]
                            .iter()
                            .position(|byte| *byte == b'\n')
                            .map_or(0, |at| at + 1)
                    }
                };
                assert_eq!(after[..before], text[..before]);
                assert!(after.ends_with(&text[behind..]), "{start}..{end}");
                assert_eq!(after.len(), text.len().max(before + LINE_BYTES_MIN as usize));
                let filled = &after[before..after.len() - (text.len() - behind)];
                assert!(lines(filled).iter().all(|line| line["torn"] == true));
            }
        }
    }

    /// A log on a disk, with what is to be there in any case before each of its damaged lines, and at its end.
    fn disk_with_holes(seed: u64) -> (Image, usize) {
        let mut dice = seed;
        let mut below = |end: usize| random(&mut dice) as usize % end;
        let mut text = Vec::new();
        for _ in 0..4 {
            text.extend_from_slice(event("whole").as_bytes());
            // A long line begins with a page, so that lines of the filling end with one.
            let padding = 512 - (text.len() + 10) % 512;
            text.extend_from_slice(format!("{{\"pad\":\"{}\"}}\n", "-".repeat(padding)).as_bytes());
            assert!(text.len().is_multiple_of(512));
            let mut long = event(&"x".repeat(below(9_000))).into_bytes();
            let start = below(long.len());
            let end = (start + 1 + below(3_000)).min(long.len());
            long[start..end].fill([0, 0xFF][below(2)]);
            text.extend_from_slice(&long);
        }
        text.extend_from_slice(event("whole").as_bytes());
        let fs = PowerFs::new(&Image::default(), seed, 0, 0, || ());
        let file = fs.create(Path::new(LOG)).unwrap();
        let mut rest = &text[..];
        while !rest.is_empty() {
            rest = &rest[file.append(&[io::IoSlice::new(rest)]).unwrap()..];
        }
        file.sync_data().unwrap();
        fs.sync_directory(Path::new("data")).unwrap();
        (fs.moments().remove(0).image(&mut dice), text.len())
    }

    /// Fills the holes, and checks that all is lines then; answers the moments at which the power may have gone meanwhile.
    fn mend_and_check(image: &Image, length: usize, seed: u64) -> Vec<Moment<()>> {
        let fs = PowerFs::new(image, seed, 0, 20, || ());
        mend(&fs, Path::new(LOG)).unwrap();
        let mended = fs.contents(Path::new(LOG)).unwrap();
        assert_eq!(mended.len(), length);
        let whole = |line: &serde_json::Value| line["event"] == "whole";
        assert_eq!(
            lines(&mended).iter().filter(|line| whole(line)).count(),
            5,
            "seed {seed}"
        );
        fs.moments()
    }

    #[test]
    fn holes_are_filled_also_when_the_power_goes_meanwhile() {
        for seed in 0..100 {
            let mut dice = seed;
            let (mut image, length) = disk_with_holes(seed);
            for _ in 0..2 {
                let moments = mend_and_check(&image, length, random(&mut dice));
                for moment in &moments {
                    image = moment.image(&mut dice);
                    mend_and_check(&image, length, random(&mut dice));
                }
            }
        }
    }

    #[test]
    fn a_large_hole_gets_lines_of_bounded_length() {
        for bytes in (13..40)
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
        assert_eq!(mended(b"{\"a\":1}\n{\"b\":\"\xFF").0, 1);
        for cut in [&b"{\"a\":1}\n{\"b\":\"\xC3"[..], b"{", b"{\"a\":1}\n{\"b"] {
            assert_eq!(mended(cut), (0, cut.to_vec()));
        }
    }
}
