//! Many events in one body: a JSON array, or one event a line.
//!
//! Purpose: to cut a body into windows of whole events that the fast path reads as one group, and to go
//! event by event where that is not possible.
//!
//! Lines are cut at newlines: JSON has none inside a string, so an event on one line is whole there. An
//! array is cut where `}`, `,` and `{` follow each other. That is a guess (the three also stand inside
//! events and strings), but one that the parser checks: whether the text before the cut is the inside of
//! an array depends on that text alone, so if it is, the comma behind it parts two elements of the
//! whole. A wrong guess costs time, not truth: the window is read element by element instead.
//!
//! Bounds: a window is at most [`WINDOW_BYTES_MAX`], an event longer than that goes alone; errors are
//! listed as in `details.rs`. Invariant: before anything is said about an event that the fast path does
//! not know, the whole body is checked to be UTF-8. Owner: the connection's coroutine.

use serde_json::value::RawValue;

use super::details::{Context, Details, Place};
use super::fast::{Fast, Spans, is_space, trim_end};
use super::line::Lines;
use super::slow::{self, byte_of_error, words_of_error};
use super::{Defaults, Rejection};

/// The longest text given to the fast path as one group: some thirty events, which is enough to share the
/// cost of a parse, and little enough for the copy and its tape to stay close to the processor.
pub(super) const WINDOW_BYTES_MAX: usize = 8 << 10;

/// How many places are tried for the end of an array's window before it is read element by element.
const CUTS_MAX: usize = 64;

/// The reading of one batch.
pub(super) struct Batch<'a> {
    pub(super) fast: &'a mut Fast,
    pub(super) defaults: &'a Defaults,
    pub(super) line_bytes_max: usize,
    /// Bound of all that `lines` may hold.
    pub(super) lines_bytes_max: usize,
    /// The ranges of a window's lines, reused.
    pub(super) ranges: &'a mut Vec<(u32, u32)>,
    pub(super) body: Body<'a>,
    pub(super) lines: &'a mut Lines,
    pub(super) found: Found,
    /// The valid events are kept whatever the others are: so all are looked at.
    pub(super) partial: bool,
}

/// The body, its byte order mark left out, and whether all of it is known to be UTF-8.
pub(super) struct Body<'a> {
    bytes: &'a [u8],
    text: Option<&'a str>,
}

impl<'a> Body<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Body<'a> {
        Body { bytes, text: None }
    }

    /// The body as text. Checked once.
    fn text(&mut self) -> Result<&'a str, Rejection> {
        if self.text.is_none() {
            self.text = Some(std::str::from_utf8(self.bytes).map_err(|_| Rejection::NotUtf8)?);
        }
        Ok(self.text.expect("just set"))
    }
}

/// What came of the events so far.
#[derive(Default)]
pub(super) struct Found {
    /// Events seen, which is the index of the next.
    events: u64,
    /// Those of them that are not valid.
    pub(super) rejected: u64,
    pub(super) details: Details,
}

impl Batch<'_> {
    /// Reads the body. An error is about the body as a whole; invalid events are in `found`.
    pub(super) fn read(&mut self) -> Result<(), Rejection> {
        let first = self.body.bytes.iter().position(|byte| !is_space(*byte));
        match first {
            Some(at) if self.body.bytes[at] == b'[' => self.array(at),
            _ => self.lines(),
        }
    }

    /// One event a line; lines of white space are skipped.
    fn lines(&mut self) -> Result<(), Rejection> {
        let bytes = self.body.bytes;
        let mut at = 0;
        while at < bytes.len() {
            let end = match bytes.get(at..at + WINDOW_BYTES_MAX) {
                None => bytes.len(),
                Some(window) => match memchr::memrchr(b'\n', window) {
                    Some(newline) => at + newline + 1,
                    // One long line.
                    None => {
                        memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |newline| at + newline + 1)
                    }
                },
            };
            self.window_of_lines(at, end)?;
            if self.found.details.is_full() && !self.partial {
                // Nothing will be stored, and nothing more said.
                return self.body.text().map(|_| ());
            }
            at = end;
        }
        Ok(())
    }

    fn window_of_lines(&mut self, at: usize, end: usize) -> Result<(), Rejection> {
        let window = &self.body.bytes[at..end];
        let mut ranges = std::mem::take(self.ranges);
        ranges.clear();
        let mut start = 0;
        while start < window.len() {
            let line_end =
                memchr::memchr(b'\n', &window[start..]).map_or(window.len(), |newline| start + newline);
            let trimmed_end = start + trim_end(&window[start..line_end]).len();
            let skipped = window[start..trimmed_end]
                .iter()
                .take_while(|byte| is_space(**byte))
                .count();
            if start + skipped < trimmed_end {
                ranges.push(((start + skipped) as u32, trimmed_end as u32));
            }
            start = line_end + 1;
        }
        let known = window.len() <= WINDOW_BYTES_MAX && !ranges.is_empty();
        let result = match known && self.group(at, end, &Spans::Lines(&ranges))? {
            true => Ok(()),
            false => ranges
                .iter()
                .try_for_each(|&(from, to)| self.alone(at + from as usize, at + to as usize)),
        };
        *self.ranges = ranges;
        result
    }

    /// An array, whose bracket is at `open`.
    fn array(&mut self, open: usize) -> Result<(), Rejection> {
        let bytes = self.body.bytes;
        let mut at = open + 1;
        // Whether a comma was read and an element must follow.
        let mut after_comma = false;
        // Up to here elements are read one by one, since no group was found.
        let mut alone_until = at;
        loop {
            at += bytes[at..].iter().take_while(|byte| is_space(**byte)).count();
            if bytes.get(at) == Some(&b']') && !after_comma {
                return self.end_of_array(at);
            }
            let cut = if at < alone_until { None } else { cut(bytes, at) };
            let end = match cut {
                Some(end) if self.group(at, end, &Spans::Elements)? => end,
                Some(end) => {
                    alone_until = end;
                    self.element(at)?
                }
                None => self.element(at)?,
            };
            at = end + bytes[end..].iter().take_while(|byte| is_space(**byte)).count();
            match bytes.get(at) {
                Some(b',') => after_comma = true,
                Some(b']') => return self.end_of_array(at),
                Some(_) => return Err(self.not_json(at, "expected `,` or `]`")?),
                None => return Err(self.not_json(at, "EOF while parsing a list")?),
            }
            at += 1;
        }
    }

    /// Reads the element of the array at `at` alone; gives its end.
    fn element(&mut self, at: usize) -> Result<usize, Rejection> {
        let rest = &self.body.text()?[at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        match values.next() {
            Some(Ok(_)) => {
                let end = at + values.byte_offset();
                self.alone(at, end)?;
                Ok(end)
            }
            Some(Err(error)) => {
                let words = words_of_error(&error);
                Err(self.not_json(at + byte_of_error(rest, &error), &words)?)
            }
            None => Err(self.not_json(at, "EOF while parsing a list")?),
        }
    }

    /// The array ends at `close`: only white space may follow.
    fn end_of_array(&mut self, close: usize) -> Result<(), Rejection> {
        match self.body.bytes[close + 1..]
            .iter()
            .position(|byte| !is_space(*byte))
        {
            None => Ok(()),
            Some(more) => Err(self.not_json(close + 1 + more, "trailing characters")?),
        }
    }

    /// The body is not JSON: nothing else is said of it. `Err` when it is not even UTF-8.
    fn not_json(&mut self, at: usize, error: &str) -> Result<Rejection, Rejection> {
        self.body.text()?;
        let mut details = Details::default();
        details.push_invalid(None, at, error);
        Ok(Rejection::Invalid(details.finish()))
    }

    /// Reads a window as one group. `false`: it has to be read event by event.
    fn group(&mut self, at: usize, end: usize, spans: &Spans<'_>) -> Result<bool, Rejection> {
        let Batch {
            fast,
            defaults,
            line_bytes_max,
            body,
            lines,
            found,
            ..
        } = self;
        let (defaults, line_bytes_max) = (*defaults, *line_bytes_max);
        let mut refused = None;
        let answer = fast.group(
            &body.bytes[at..end],
            spans,
            defaults,
            line_bytes_max,
            lines,
            |number, from, to, lines| {
                let text = match body.text() {
                    Ok(text) => &text[at + from..at + to],
                    Err(rejection) => {
                        refused = Some(rejection);
                        return false;
                    }
                };
                found.slow(
                    found.events + number as u64,
                    text,
                    defaults,
                    line_bytes_max,
                    lines,
                );
                true
            },
        );
        match (refused, answer) {
            (Some(rejection), _) => Err(rejection),
            (None, Some(events)) => {
                found.events += events as u64;
                self.check_bound().map(|()| true)
            }
            (None, None) => Ok(false),
        }
    }

    /// Reads the event in this range of the body by itself.
    fn alone(&mut self, start: usize, end: usize) -> Result<(), Rejection> {
        let Batch {
            fast,
            defaults,
            line_bytes_max,
            body,
            lines,
            found,
            ..
        } = self;
        if !fast.single(&body.bytes[start..end], defaults, *line_bytes_max, lines) {
            let text = &body.text()?[start..end];
            found.slow(found.events, text, defaults, *line_bytes_max, lines);
        }
        found.events += 1;
        self.check_bound()
    }

    /// Looked at after each window or event, so the bound is passed by the lines of one window at the most.
    fn check_bound(&self) -> Result<(), Rejection> {
        if self.lines.bytes().len() > self.lines_bytes_max {
            Err(Rejection::TooLarge)
        } else {
            Ok(())
        }
    }
}

impl Found {
    fn slow(
        &mut self,
        index: u64,
        text: &str,
        defaults: &Defaults,
        line_bytes_max: usize,
        lines: &mut Lines,
    ) {
        if !slow::event(
            text,
            Some(index),
            defaults,
            line_bytes_max,
            lines,
            &mut self.details,
        ) {
            self.rejected += 1;
        }
    }
}

/// Where the window of an array ends that begins with the element at `at`: behind an object, with a
/// comma and another object, or the end of the array, following.
fn cut(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let Some(mut window) = rest.get(..WINDOW_BYTES_MAX) else {
        let inside = trim_end(rest).strip_suffix(b"]")?;
        return Some(at + trim_end(inside).len());
    };
    for _ in 0..CUTS_MAX {
        window = &window[..memchr::memrchr(b'{', window)?];
        let before = trim_end(window);
        if let Some(inside) = before.strip_suffix(b",")
            && let inside = trim_end(inside)
            && inside.ends_with(b"}")
        {
            return Some(at + inside.len());
        }
    }
    None
}

/// The error for a body of no bytes.
pub(super) fn empty_body() -> Rejection {
    let mut details = Details::default();
    details.push(
        None,
        "missing",
        Place::Whole,
        "Field required",
        "null",
        Context::None,
    );
    Rejection::Invalid(details.finish())
}
