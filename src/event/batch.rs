//! Many events in one body: a JSON array, or one event a line.
//!
//! Purpose: to go through a body event by event, by the plain path, which finds an event's end as it reads it; where that
//! does not know one, its text is found first, and the other ways decide.
//!
//! A body comes in pieces, as it is read ([`read`]). Of lines, the whole ones in a piece are read where they lie,
//! and only one that is cut off is kept until the rest of it comes; an array is gathered first.
//!
//! Lines are cut at newlines: JSON has none inside a string, so an event on one line is whole there.
//!
//! Bounds: those of the lines are looked at after each [`WINDOW_BYTES`] of the body; errors are
//! listed as in `details.rs`. Invariant: nothing is said about a body of which not all is UTF-8. Owner: the
//! connection's coroutine.

use std::io::{self, BufRead};

use serde_json::value::RawValue;

use super::bytes::{is_space, trim_end};
use super::details::{Context, Details, Place};
use super::line::{Lines, Mark};
use super::plain;
use super::slow::{self, byte_of_error, words_of_error};
use super::{BYTE_ORDER_MARK, Defaults, Rejection, Take, push_known};

/// How much of a body is read between two looks at the bounds of its lines.
pub(super) const WINDOW_BYTES: usize = 8 << 10;

/// Reads a body to its end, piece by piece; `reader` gives the reading of each.
///
/// `gathered` is room for what has to be kept of the pieces, reused.
pub(super) fn read(
    body: &mut impl BufRead,
    gathered: &mut Vec<u8>,
    batch: &mut Batch<'_, '_, '_>,
) -> io::Result<Result<(), Rejection>> {
    gathered.clear();
    let opening = opening(body, gathered)?;
    if gathered.is_empty() && opening.is_none() {
        return Ok(Err(empty_body()));
    }
    if gathered.starts_with(BYTE_ORDER_MARK) {
        gathered.drain(..BYTE_ORDER_MARK.len());
    }
    if opening == Some(b'[') {
        loop {
            let piece = body.fill_buf()?;
            let count = piece.len();
            if count == 0 {
                break;
            }
            gathered.extend_from_slice(piece);
            body.consume(count);
            if let Err(rejection) = batch.keep(gathered.len()) {
                return Ok(Err(rejection));
            }
        }
        let mut text = Text::new(gathered);
        let open = text.bytes.iter().position(|byte| !is_space(*byte));
        return Ok(batch.array(&mut text, open.expect("a bracket was seen")));
    }
    loop {
        let piece = body.fill_buf()?;
        let count = piece.len();
        if count == 0 {
            return Ok(batch.lines(&mut Text::new(gathered)));
        }
        let mut rest = piece;
        if !gathered.is_empty() {
            // The line that the last piece began.
            let newline = memchr::memchr(b'\n', rest);
            let (line, behind) = rest.split_at(newline.map_or(count, |newline| newline + 1));
            gathered.extend_from_slice(line);
            rest = behind;
            if newline.is_some() {
                if let Err(rejection) = batch.lines(&mut Text::new(gathered)) {
                    return Ok(Err(rejection));
                }
                gathered.clear();
            }
        }
        let (whole, begun) = rest.split_at(memchr::memrchr(b'\n', rest).map_or(0, |newline| newline + 1));
        if let Err(rejection) = batch.lines(&mut Text::new(whole)) {
            return Ok(Err(rejection));
        }
        gathered.extend_from_slice(begun);
        body.consume(count);
        if let Err(rejection) = batch.keep(gathered.len()) {
            return Ok(Err(rejection));
        }
        batch.hand_on()?;
    }
}

/// The first byte of a body that is not white space; `None` if there is none. What had to be read for that and may not be
/// lent a second time is in `gathered`.
fn opening(body: &mut impl BufRead, gathered: &mut Vec<u8>) -> io::Result<Option<u8>> {
    let first = |text: &[u8]| text.iter().copied().find(|byte| !is_space(*byte));
    loop {
        let piece = body.fill_buf()?;
        let count = piece.len();
        if count == 0 {
            return Ok(first(gathered.strip_prefix(BYTE_ORDER_MARK).unwrap_or(gathered)));
        }
        if gathered.is_empty()
            && piece[0] != BYTE_ORDER_MARK[0]
            && let Some(byte) = first(piece)
        {
            return Ok(Some(byte));
        }
        gathered.extend_from_slice(piece);
        body.consume(count);
        // Less than a mark may be the beginning of one.
        if gathered.len() >= BYTE_ORDER_MARK.len()
            && let Some(byte) = first(gathered.strip_prefix(BYTE_ORDER_MARK).unwrap_or(gathered))
        {
            return Ok(Some(byte));
        }
    }
}

/// The reading of one batch.
pub(super) struct Batch<'a, 't, 'k> {
    pub(super) defaults: &'a Defaults,
    pub(super) line_bytes_max: usize,
    /// Bound of all that `lines` may hold.
    pub(super) lines_bytes_max: usize,
    pub(super) lines: &'a mut Lines,
    /// How long `lines` were before this batch, or before the part of it that has not been handed on.
    pub(super) mark: Mark,
    /// Bytes of the body that are kept.
    pub(super) gathered_bytes: usize,
    pub(super) keep: &'k mut dyn FnMut(usize) -> bool,
    pub(super) found: Found,
    pub(super) take: Take<'t>,
}

/// Whole events: all of an array, or some lines. And whether they are known to be UTF-8.
struct Text<'t> {
    bytes: &'t [u8],
    utf8: Option<&'t str>,
}

impl<'t> Text<'t> {
    fn new(bytes: &'t [u8]) -> Text<'t> {
        Text { bytes, utf8: None }
    }

    /// As UTF-8. Checked once.
    fn utf8(&mut self) -> Result<&'t str, Rejection> {
        if self.utf8.is_none() {
            self.utf8 = Some(std::str::from_utf8(self.bytes).map_err(|_| Rejection::NotUtf8)?);
        }
        Ok(self.utf8.expect("just set"))
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

impl Batch<'_, '_, '_> {
    /// Hands on what has been read, if it is enough.
    fn hand_on(&mut self) -> io::Result<()> {
        match &mut self.take {
            Take::Valid { part_bytes, part } if self.lines.bytes().len() >= *part_bytes => {
                self.lines.commit(self.mark);
                part(self.lines)?;
                self.mark = self.lines.begin();
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads lines, the last of which may have no newline; those of white space are skipped. An error is about the body as
    /// a whole; invalid events are in `found`.
    fn lines(&mut self, text: &mut Text<'_>) -> Result<(), Rejection> {
        let bytes = text.bytes;
        let mut at = 0;
        while at < bytes.len() {
            if self.found.details.is_full() && matches!(self.take, Take::All) {
                // Nothing will be stored, and nothing more said.
                return text.utf8().map(|_| ());
            }
            let window_end = at + WINDOW_BYTES;
            while at < bytes.len().min(window_end) {
                at = match bytes[at] {
                    byte if is_space(byte) => at + 1,
                    _ => self.line(text, at)?,
                };
            }
            self.check_bounds()?;
        }
        Ok(())
    }

    /// Reads the event of the line whose first byte that is not white space is at `at`; gives the line's end.
    #[inline]
    fn line(&mut self, text: &mut Text<'_>, at: usize) -> Result<usize, Rejection> {
        let bytes = text.bytes;
        if let Some((event, end)) = plain::event::<true>(bytes, at, self.defaults)
            && let Some(end) = line_end(bytes, end)
            && self.lines.push(&event, self.line_bytes_max).is_ok()
        {
            self.found.events += 1;
            return Ok(end);
        }
        let line_end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |newline| at + newline);
        self.alone(text, at, at + trim_end(&bytes[at..line_end]).len())?;
        Ok(line_end)
    }

    /// An array, whose bracket is at `open`.
    fn array(&mut self, text: &mut Text<'_>, open: usize) -> Result<(), Rejection> {
        let bytes = text.bytes;
        let mut at = skip_space(bytes, open + 1);
        if bytes.get(at) == Some(&b']') {
            return end_of_array(text, at);
        }
        let mut window_end = at + WINDOW_BYTES;
        loop {
            at = skip_space(bytes, at);
            let end = self.element(text, at)?;
            if end >= window_end {
                self.check_bounds()?;
                window_end = end + WINDOW_BYTES;
            }
            at = skip_space(bytes, end);
            match bytes.get(at) {
                Some(b',') => at += 1,
                Some(b']') => {
                    self.check_bounds()?;
                    return end_of_array(text, at);
                }
                Some(_) => return Err(not_json(text, at, "expected `,` or `]`")?),
                None => return Err(not_json(text, at, "EOF while parsing a list")?),
            }
        }
    }

    /// Reads the element of the array at `at`; gives its end.
    #[inline]
    fn element(&mut self, text: &mut Text<'_>, at: usize) -> Result<usize, Rejection> {
        if let Some((event, end)) = plain::event::<false>(text.bytes, at, self.defaults)
            && self.lines.push(&event, self.line_bytes_max).is_ok()
        {
            self.found.events += 1;
            return Ok(end);
        }
        self.any_element(text, at)
    }

    /// As [`Batch::element`], for what the plain path does not know.
    fn any_element(&mut self, text: &mut Text<'_>, at: usize) -> Result<usize, Rejection> {
        if let Some(end) = plain::end_of_value(text.bytes, at) {
            self.alone(text, at, end)?;
            return Ok(end);
        }
        let rest = &text.utf8()?[at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        match values.next() {
            Some(Ok(_)) => {
                let end = at + values.byte_offset();
                self.alone(text, at, end)?;
                Ok(end)
            }
            Some(Err(error)) => {
                let words = words_of_error(&error);
                Err(not_json(text, at + byte_of_error(rest, &error), &words)?)
            }
            None => Err(not_json(text, at, "EOF while parsing a list")?),
        }
    }

    /// Reads the event in this range of the body by itself.
    fn alone(&mut self, text: &mut Text<'_>, start: usize, end: usize) -> Result<(), Rejection> {
        let Batch {
            defaults,
            line_bytes_max,
            lines,
            found,
            ..
        } = self;
        let event = &text.bytes[start..end];
        if !push_known(event, defaults, *line_bytes_max, lines) {
            let event = &text.utf8()?[start..end];
            found.slow(found.events, event, defaults, *line_bytes_max, lines);
        }
        found.events += 1;
        Ok(())
    }

    /// Looked at after each window, so the bounds are passed by the lines of one window, or of one event, at the most.
    fn check_bounds(&mut self) -> Result<(), Rejection> {
        match self.lines.bytes().len() > self.lines_bytes_max {
            true => Err(Rejection::TooLarge),
            false => self.keep(self.gathered_bytes),
        }
    }

    /// So much of the body is kept now, and the lines.
    fn keep(&mut self, gathered_bytes: usize) -> Result<(), Rejection> {
        self.gathered_bytes = gathered_bytes;
        match (self.keep)(gathered_bytes + self.lines.bytes().len()) {
            true => Ok(()),
            false => Err(Rejection::NoRoom),
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

/// The array ends at `close`: only white space may follow.
fn end_of_array(text: &mut Text<'_>, close: usize) -> Result<(), Rejection> {
    match text.bytes[close + 1..].iter().position(|byte| !is_space(*byte)) {
        None => Ok(()),
        Some(more) => Err(not_json(text, close + 1 + more, "trailing characters")?),
    }
}

/// The body is not JSON: nothing else is said of it. `Err` when it is not even UTF-8.
fn not_json(text: &mut Text<'_>, at: usize, error: &str) -> Result<Rejection, Rejection> {
    text.utf8()?;
    let mut details = Details::default();
    details.push_invalid(None, at, error);
    Ok(Rejection::Invalid(details.finish()))
}

/// The end of the line of which nothing but white space is left at `at`; `None` if more is.
#[inline]
fn line_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match bytes.get(at) {
            None | Some(b'\n') => return Some(at),
            Some(byte) if is_space(*byte) => at += 1,
            Some(_) => return None,
        }
    }
}

#[inline]
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| is_space(*byte)) {
        at += 1;
    }
    at
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
