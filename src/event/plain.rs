//! The plain path: valid events in their common form, read in one pass over the bytes that came.
//!
//! Purpose: the cost of an event. A parser for any JSON finds every token of a text first and says what they mean
//! afterwards; here the shape is known, so that each byte is looked at once, nothing is copied before it is a line, and an
//! event that is spelt exactly as it is stored becomes its line by one copy. `cargo bench --bench validate` has it beside
//! simd-json's tape.
//!
//! What is not plain is answered with "don't know", and the next way decides: escapes in a text that matters or in the name
//! of a member, nesting deeper than [`DEPTH_MAX`], a member that is not valid, and whatever is not JSON.
//! Property tests hold the answers against the slow path's, on whole and on damaged events.
//!
//! Invariant: what is answered is what the slow path would. Nothing recurses or allocates. Bounds: none of its own; it
//! keeps nothing.

use super::Defaults;
use super::bytes::{CHUNK_BYTES, is_space, marks};
use super::line::{Agent, EXACT_BYTES, Fields, Text};
use super::member::{Member, NAME_CHARS, VISITOR_ID_CHARS, bounded};
use super::time::{self, StampText};

/// Deepest nesting of values below a member: one bit each of a word.
const DEPTH_MAX: u32 = 64;

/// Reads the event that begins at `at`, a `{`; gives its end too. `None` means don't know.
///
/// `LINES`: a newline is not white space, for it ends the event's line.
#[inline]
pub(super) fn event<'a, const LINES: bool>(
    text: &'a [u8],
    at: usize,
    defaults: &'a Defaults,
) -> Option<(Fields<'a>, usize)> {
    let mut scan = Scan::<LINES> {
        text,
        at,
        high: 0,
        breaks: false,
    };
    let found = scan.members()?;
    let (visitor_id, name) = (found.visitor_id?, found.name?);
    let (visitor_id, name) = match scan.high {
        0 => (
            bounded_ascii(visitor_id, VISITOR_ID_CHARS)?,
            bounded_ascii(name, NAME_CHARS)?,
        ),
        _ => {
            std::str::from_utf8(&text[at..scan.at]).ok()?;
            (
                bounded_utf8(visitor_id, VISITOR_ID_CHARS)?,
                bounded_utf8(name, NAME_CHARS)?,
            )
        }
    };
    let agent = found.user_agent.filter(|agent| !agent.is_empty());
    let mut fields = Fields {
        visitor_id: Text::Raw(visitor_id),
        name: Text::Raw(name),
        timestamp: found.timestamp.unwrap_or_else(|| defaults.now()),
        metadata: found.metadata.unwrap_or(b"{}"),
        breaks: scan.breaks,
        user_agent: match agent {
            Some(agent) => Agent::Text(Text::Raw(agent)),
            None => Agent::Json(defaults.user_agent()),
        },
        exact: None,
    };
    // All five in the order of the line, the stamp in its stored spelling: if there is not a byte more than the line has,
    // this is the line.
    if found.in_order == 5 && found.stored_stamp && !scan.breaks {
        let parts = [
            visitor_id,
            name,
            fields.timestamp.as_bytes(),
            fields.metadata,
            agent.unwrap_or_default(),
        ];
        let whole = &text[at..scan.at];
        if agent.is_some() && whole.len() == EXACT_BYTES + parts.iter().map(|part| part.len()).sum::<usize>()
        {
            fields.exact = Some(whole);
        }
    }
    Some((fields, scan.at))
}

/// The end of the JSON value that begins at `at`, if it is one; that its strings are UTF-8 is not checked. `None` means don't
/// know.
pub(super) fn end_of_value(text: &[u8], at: usize) -> Option<usize> {
    let mut scan = Scan::<false> {
        text,
        at,
        high: 0,
        breaks: false,
    };
    scan.value().map(|()| scan.at)
}

/// What the members of an event say. Of repeated ones the last.
#[derive(Default)]
struct Found<'t> {
    visitor_id: Option<&'t [u8]>,
    name: Option<&'t [u8]>,
    timestamp: Option<StampText>,
    /// Whether the time stamp came in the spelling in which it is stored.
    stored_stamp: bool,
    metadata: Option<&'t [u8]>,
    user_agent: Option<&'t [u8]>,
    /// How many members came in the order of the line; more than any line has, when one did not.
    in_order: usize,
}

/// A place in a text, and what has been noticed on the way to it.
struct Scan<'t, const LINES: bool> {
    text: &'t [u8],
    at: usize,
    /// Not zero if a byte of a string may not be ASCII.
    high: u32,
    /// Whether there was a line break between tokens.
    breaks: bool,
}

impl<'t, const LINES: bool> Scan<'t, LINES> {
    #[inline]
    fn members(&mut self) -> Option<Found<'t>> {
        let mut found = Found::default();
        self.token(b'{')?;
        loop {
            let member = self.member(&mut found.in_order)?;
            match member {
                Member::VisitorId => found.visitor_id = Some(self.plain_string()?),
                Member::Event => found.name = Some(self.plain_string()?),
                Member::Timestamp => {
                    let (stamp, stored) = self.stamp()?;
                    (found.timestamp, found.stored_stamp) = (Some(stamp), stored);
                }
                Member::Metadata => {
                    let from = self.at;
                    if self.byte()? != b'{' {
                        return None;
                    }
                    self.value()?;
                    found.metadata = Some(&self.text[from..self.at]);
                }
                Member::UserAgent if self.byte()? == b'n' => {
                    self.literal(b"null")?;
                    found.user_agent = None;
                }
                Member::UserAgent => found.user_agent = Some(self.plain_string()?),
                Member::Other => self.value()?,
            }
            self.space();
            match self.byte()? {
                b',' => {
                    self.at += 1;
                    self.space();
                }
                b'}' => {
                    self.at += 1;
                    return Some(found);
                }
                _ => return None,
            }
        }
    }

    /// Reads the name of a member up to its value. Names that come in the order of the line are recognised whole, so that
    /// the processor need not wait for where they end.
    #[inline]
    fn member(&mut self, in_order: &mut usize) -> Option<Member> {
        let rest = &self.text[self.at..];
        let (member, bytes) = match *in_order {
            0 if rest.starts_with(b"\"visitor_id\":") => (Member::VisitorId, 13),
            1 if rest.starts_with(b"\"event\":") => (Member::Event, 8),
            2 if rest.starts_with(b"\"timestamp\":") => (Member::Timestamp, 12),
            3 if rest.starts_with(b"\"metadata\":") => (Member::Metadata, 11),
            4 if rest.starts_with(b"\"user_agent\":") => (Member::UserAgent, 13),
            _ => {
                *in_order = usize::MAX;
                return self.any_member();
            }
        };
        *in_order += 1;
        self.at += bytes;
        self.space();
        Some(member)
    }

    fn any_member(&mut self) -> Option<Member> {
        let key = self.plain_string()?;
        self.space();
        self.token(b':')?;
        Some(Member::named(key))
    }

    /// The stored spelling of the time stamp here, and whether it came in that.
    #[inline]
    fn stamp(&mut self) -> Option<(StampText, bool)> {
        let from = self.at;
        if self.byte()? != b'"' {
            self.number()?;
            let digits = std::str::from_utf8(&self.text[from..self.at]).ok()?;
            let stamp = time::parse_int(digits.parse().ok()?).ok()?;
            return Some((StampText::new(stamp), false));
        }
        let text = self.plain_string()?;
        if let Some(stamp) = time::canonical(text) {
            return Some((stamp, stamp.as_bytes().len() == text.len()));
        }
        let stamp = time::parse_text(std::str::from_utf8(text).ok()?).ok()?;
        Some((StampText::new(stamp), false))
    }

    /// Reads over any value.
    #[inline]
    fn value(&mut self) -> Option<()> {
        // Where we are: the lowest bit is set inside an array, the next one for what that is in, and so on.
        let (mut depth, mut arrays) = (0, 0_u64);
        loop {
            match self.byte()? {
                b'"' => self.string()?,
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    self.space();
                    // The closing one is two behind the opening one.
                    if self.byte()? == open + 2 {
                        self.at += 1;
                    } else if depth == DEPTH_MAX {
                        return None;
                    } else {
                        depth += 1;
                        arrays = arrays << 1 | u64::from(open == b'[');
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => self.number()?,
            }
            // Behind a value: another one, or the end of what it is in.
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.space();
                let in_array = arrays & 1 == 1;
                match self.byte()? {
                    b',' => {
                        self.at += 1;
                        self.space();
                        if !in_array {
                            self.key()?;
                        }
                        break;
                    }
                    b']' if in_array => {}
                    b'}' if !in_array => {}
                    _ => return None,
                }
                self.at += 1;
                depth -= 1;
                arrays >>= 1;
            }
        }
    }

    /// Reads over the name of a member and the colon, up to its value.
    #[inline]
    fn key(&mut self) -> Option<()> {
        if self.byte()? != b'"' {
            return None;
        }
        self.string()?;
        self.space();
        self.token(b':')
    }

    /// The inside of a string without escapes.
    #[inline]
    fn plain_string(&mut self) -> Option<&'t [u8]> {
        if self.byte()? != b'"' {
            return None;
        }
        let from = self.at + 1;
        self.at = self.stop(from)?;
        if self.text[self.at] != b'"' {
            return None;
        }
        self.at += 1;
        Some(&self.text[from..self.at - 1])
    }

    /// Reads over a string, which begins here.
    #[inline]
    fn string(&mut self) -> Option<()> {
        let mut from = self.at + 1;
        loop {
            let at = self.stop(from)?;
            from = match (self.text[at], self.text.get(at + 1)) {
                (b'"', _) => {
                    self.at = at + 1;
                    return Some(());
                }
                (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => at + 2,
                (b'\\', Some(b'u')) => self.unicode_escape(at)?,
                _ => return None,
            };
        }
    }

    /// Where the `\u` escape at `at` ends: one, or a pair of surrogates. Half a pair stands for no character.
    fn unicode_escape(&self, at: usize) -> Option<usize> {
        let unit = |at: usize| {
            let digits = self.text.get(at..at + 6)?.strip_prefix(b"\\u")?;
            digits.iter().try_fold(0, |unit, digit| {
                Some(unit << 4 | char::from(*digit).to_digit(16)?)
            })
        };
        match unit(at)? {
            0xD800..0xDC00 => matches!(unit(at + 6)?, 0xDC00..0xE000).then_some(at + 12),
            0xDC00..0xE000 => None,
            _ => Some(at + 6),
        }
    }

    /// Where, from `at` on, the plain part of a string ends.
    #[inline]
    fn stop(&mut self, mut at: usize) -> Option<usize> {
        while let Some(chunk) = self.text.get(at..).and_then(<[u8]>::first_chunk::<CHUNK_BYTES>) {
            let marks = marks(chunk);
            self.high |= marks.high;
            if marks.stops != 0 {
                return Some(at + marks.stops.trailing_zeros() as usize);
            }
            at += CHUNK_BYTES;
        }
        self.last_stop(at)
    }

    /// As [`Scan::stop`], less than a chunk from the end of the text.
    #[inline]
    fn last_stop(&mut self, at: usize) -> Option<usize> {
        let rest = self.text.get(at..)?;
        // Zeros stop too, and lie behind the end.
        let mut chunk = [0; CHUNK_BYTES];
        chunk[..rest.len()].copy_from_slice(rest);
        let marks = marks(&chunk);
        self.high |= marks.high;
        let stop = marks.stops.trailing_zeros() as usize;
        (stop < rest.len()).then_some(at + stop)
    }

    /// Reads over a number.
    #[inline]
    fn number(&mut self) -> Option<()> {
        if self.byte()? == b'-' {
            self.at += 1;
        }
        match self.byte()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let b'+' | b'-' = self.byte()? {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Reads over one digit or more.
    #[inline]
    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.text.get(self.at) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        let found = self.text[self.at..].starts_with(literal);
        self.at += literal.len();
        found.then_some(())
    }

    /// Reads this byte, and the white space behind it.
    #[inline]
    fn token(&mut self, token: u8) -> Option<()> {
        if self.byte()? != token {
            return None;
        }
        self.at += 1;
        self.space();
        Some(())
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Reads over white space. There is none, or one blank, nearly always.
    #[inline]
    fn space(&mut self) {
        if self.byte() == Some(b' ') {
            self.at += 1;
        }
        if self.byte().is_some_and(is_space) {
            self.more_space();
        }
    }

    #[cold]
    fn more_space(&mut self) {
        while let Some(byte) = self.byte()
            && is_space(byte)
            && !(LINES && byte == b'\n')
        {
            self.breaks |= matches!(byte, b'\n' | b'\r');
            self.at += 1;
        }
    }
}

/// `text` trimmed, if it has `min..=max` characters then. A string that came without escapes has no other white space than
/// blanks.
#[inline]
fn bounded_ascii(text: &[u8], (min, max): (usize, usize)) -> Option<&[u8]> {
    let text = match text {
        [b' ', ..] | [.., b' '] => text.trim_ascii(),
        _ => text,
    };
    (min..=max).contains(&text.len()).then_some(text)
}

#[cold]
fn bounded_utf8(text: &[u8], bounds: (usize, usize)) -> Option<&[u8]> {
    bounded(std::str::from_utf8(text).ok()?, bounds).map(str::as_bytes)
}
