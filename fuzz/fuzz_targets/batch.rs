//! Batches: NDJSON and arrays. One that comes in pieces has the outcome of the whole, in both ways of taking it; the two ways
//! agree; and every line that comes out is one line of JSON with the members of an event.
//!
//! Input: a byte of choices ([`Choices`]), two for the pieces ([`Cuts`]), then the body.
#![no_main]

use std::io::{self, BufRead, Read};

use floodgate::event::{Lines, Parser, Room, Rejected, Rejection, Take, Timestamp};
use floodgate_fuzz::Cuts;
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::value::RawValue;

const NOW: Timestamp = Timestamp {
    micros: 1_700_000_000_123_456,
};

/// The first byte of an input.
#[derive(Clone, Copy)]
struct Choices {
    line_bytes_max: usize,
    header_agent: Option<&'static [u8]>,
    part_bytes: usize,
}

impl Choices {
    fn new(byte: u8) -> Self {
        Self {
            line_bytes_max: if byte & 1 == 0 { 32 << 10 } else { 160 },
            header_agent: (byte & 2 == 0).then_some(b"agent/1.0 \xe9\x80"),
            part_bytes: [1, 200, 1000, 8 << 20][usize::from(byte >> 2 & 3)],
        }
    }
}

/// A body in pieces: the last first, none empty.
struct Pieces<'b>(Vec<&'b [u8]>);

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.0.last().unwrap_or(&&[][..]))
    }

    fn consume(&mut self, count: usize) {
        if let Some(piece) = self.0.last_mut() {
            *piece = &piece[count..];
            if piece.is_empty() {
                self.0.pop();
            }
        }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(to)?;
        self.consume(count);
        Ok(count)
    }
}

/// What came of a batch: the lines of its parts and the last ones, and how many they are.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    result: Result<Rejected, Rejection>,
    lines: Vec<u8>,
    count: usize,
}

/// Reads a batch with a parser and buffers that have read others.
fn read(
    parser: &mut Parser,
    gathered: &mut Vec<u8>,
    mut pieces: Vec<&[u8]>,
    choices: Choices,
    is_partial: bool,
) -> Outcome {
    pieces.reverse();
    pieces.retain(|piece| !piece.is_empty());
    let (mut stored, mut count, mut lines) = (Vec::new(), 0, Lines::new());
    let mut take = |lines: &mut Lines| {
        check(lines, choices.line_bytes_max);
        stored.extend_from_slice(lines.bytes());
        count += lines.count();
        lines.clear();
        Ok(())
    };
    let how = match is_partial {
        true => Take::Valid {
            part_bytes: choices.part_bytes,
            part: &mut take,
        },
        false => Take::All,
    };
    let context = (choices.header_agent, Some(NOW));
    let result = parser.batch(Pieces(pieces), context, how, Room { gathered, keep: &mut |_| true }, &mut lines);
    let result = result.expect("the body's reading does not fail");
    assert!(result.is_ok() || lines.is_empty(), "what was refused is stored");
    take(&mut lines).expect("always");
    Outcome {
        result,
        lines: stored,
        count,
    }
}

/// A stored line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    visitor_id: String,
    event: String,
    timestamp: String,
    #[serde(borrow)]
    metadata: &'l RawValue,
    user_agent: Option<String>,
}

/// Lines that are in the log look like this.
fn check(lines: &Lines, line_bytes_max: usize) {
    let mut count = 0;
    for line in lines.bytes().split_inclusive(|byte| *byte == b'\n') {
        count += 1;
        assert!(
            line.len() <= line_bytes_max && line.ends_with(b"\n"),
            "{:?}",
            line.escape_ascii()
        );
        let parsed: Line<'_> =
            serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {:?}", line.escape_ascii()));
        assert!(
            (6..=64).contains(&parsed.visitor_id.chars().count()),
            "{:?}",
            parsed.visitor_id
        );
        assert!(
            (1..=64).contains(&parsed.event.chars().count()),
            "{:?}",
            parsed.event
        );
        assert!(parsed.timestamp.ends_with('Z'), "{:?}", parsed.timestamp);
        assert!(parsed.metadata.get().starts_with('{'), "{}", parsed.metadata);
        assert!(parsed.user_agent.is_none_or(|agent| !agent.is_empty()));
    }
    assert_eq!(count, lines.count());
    let named: u32 = lines.names().iter().map(|name| name.count).sum();
    assert_eq!(named as usize, count, "each line has a name");
}

fuzz_target!(|input: &[u8]| {
    let [choices, width, seed, body @ ..] = input else {
        return;
    };
    let choices = Choices::new(*choices);
    let cuts = Cuts::new(*width, *seed);
    let mut parser = Parser::new(choices.line_bytes_max);
    let mut gathered = Vec::new();
    let mut read = |pieces, is_partial| read(&mut parser, &mut gathered, pieces, choices, is_partial);
    let all = read(vec![body], false);
    assert_eq!(read(cuts.of(body), false), all, "all or nothing, in pieces");
    let valid = read(vec![body], true);
    let split = read(cuts.of(body), true);
    assert_eq!(split.result, valid.result, "the valid ones, in pieces");
    match &valid.result {
        Ok(rejected) => {
            assert_eq!((&split.lines, split.count), (&valid.lines, valid.count));
            match &all.result {
                Ok(_) => assert_eq!((rejected.count, &valid.lines), (0, &all.lines)),
                Err(Rejection::Invalid(detail)) => {
                    assert_eq!((rejected.count > 0, detail), (true, &rejected.detail))
                }
                Err(other) => panic!("the valid ones were taken of a body that is {other:?}"),
            }
        }
        Err(rejection) => {
            // How much was handed on by then is up to the pieces.
            let (short, long) = match split.count < valid.count {
                true => (&split.lines, &valid.lines),
                false => (&valid.lines, &split.lines),
            };
            assert!(long.starts_with(short), "parts differ");
            assert_eq!(all.result.as_ref(), Err(rejection));
        }
    }
});
