//! Lines with their numbers: `METRICS_LINE_SEQ`.
//!
//! A line is numbered when it gets its place, so that numbers follow the order of the log: `{"seq":N,` takes the place of its
//! first brace. The journal has lines without numbers, and with a frame's place the number of its first line.

use std::io::Write;

use crate::log::seq_of;

const MEMBER: &[u8] = b"{\"seq\":";
/// Bytes by which a number makes a line longer, at the most: the member for the brace, the digits of a `u64`, a comma.
pub const NUMBER_BYTES_MAX: usize = MEMBER.len() - 1 + 20 + 1;

/// Appends the lines that `pieces` are, in order, numbered from `first` on. A line may begin in one piece and end in the
/// next; the last one ends with a newline.
pub(super) fn number<'p>(pieces: impl Iterator<Item = &'p [u8]>, first: u64, out: &mut Vec<u8>) {
    let mut next = first;
    let mut at_start = true;
    for mut piece in pieces {
        while let [_, behind_brace @ ..] = piece {
            if at_start {
                out.extend_from_slice(MEMBER);
                write!(out, "{next},").expect("a vector takes everything");
                next += 1;
                piece = behind_brace;
            }
            let end = memchr::memchr(b'\n', piece).map_or(piece.len(), |end| end + 1);
            at_start = piece[..end].ends_with(b"\n");
            out.extend_from_slice(&piece[..end]);
            piece = &piece[end..];
        }
    }
}

/// The number of a line, and what two lines have in common that differ in their number only.
pub(super) fn split(line: &[u8]) -> (Option<u64>, &[u8]) {
    let numbered = || {
        let number = seq_of(line)?;
        let rest = &line[MEMBER.len()..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        Some((Some(number), rest[digits..].strip_prefix(b",")?))
    };
    numbered().unwrap_or((None, line.strip_prefix(b"{").unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_however_they_are_cut() {
        let lines = b"{\"a\":1}\n{\"b\":\"{\"}\n{\"c\":{}}\n";
        let expected = b"{\"seq\":9,\"a\":1}\n{\"seq\":10,\"b\":\"{\"}\n{\"seq\":11,\"c\":{}}\n";
        for first in 0..=lines.len() {
            for second in first..=lines.len() {
                let pieces = [&lines[..first], &lines[first..second], &lines[second..]];
                let mut out = Vec::new();
                number(pieces.into_iter(), 9, &mut out);
                assert_eq!(out, expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_number_takes_no_more_than_it_is_said_to() {
        let mut out = Vec::new();
        number(std::iter::once(&b"{}\n"[..]), u64::MAX - 1, &mut out);
        assert_eq!(out.len(), 3 + NUMBER_BYTES_MAX);
    }

    #[test]
    fn a_line_is_split_from_its_number() {
        for (line, number, rest) in [
            (&b"{\"seq\":12,\"a\":1}"[..], Some(12), &b"\"a\":1}"[..]),
            (b"{\"a\":1}", None, b"\"a\":1}"),
            (b"{\"seq\":12", None, b"\"seq\":12"),
            (b"{\"seq\":,\"a\":1}", None, b"\"seq\":,\"a\":1}"),
            (b"", None, b""),
        ] {
            assert_eq!(split(line), (number, rest));
        }
    }
}
