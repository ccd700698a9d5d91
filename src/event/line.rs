//! The stored line: writing it, keeping many of them, and finding in one of them again what is counted of it.
//!
//! A line is `{"visitor_id":…,"event":…,"timestamp":…,"metadata":…,"user_agent":…}` and a newline, with no
//! space between the five members. Both ways of reading an event end in [`Lines::push`], so they cannot
//! spell a line differently.
//!
//! Invariants: a line holds one newline, its last byte; it is JSON and UTF-8; a string has one spelling
//! ([`write_string`]), so equal names are equal bytes. Bounds: a line is no longer than the caller
//! allows, newline included. Owner: the connection's coroutine; the buffers are reused.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::time::{self, StampText, Timestamp};

/// How many of the latest entries of [`Lines::names`] an event's name is looked up in. Traffic has few
/// names; a name that falls out of the window gets a second entry, and whoever counts adds them up.
const NAMES_LOOKBACK: usize = 8;

/// `count` events of one name in one minute: the name's JSON text, without the quotes, is `bytes[at..at + len]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameCount {
    /// Where the text begins, in [`Lines::bytes`].
    pub at: u32,
    /// Bytes of the text. 64 code points take at most 384.
    pub len: u16,
    /// Events counted.
    pub count: u32,
    /// The minute of their time stamps, counted from the Unix epoch.
    pub minute: i64,
}

/// Finished lines, how many they are, and what names they have.
///
/// A name may have several entries; their counts add up.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    count: usize,
    names: Vec<NameCount>,
    /// Entries before this one belong to an earlier request and are not merged with, so that the
    /// current one can be taken back whole.
    names_from: usize,
}

/// How long `Lines` were at some time, to go back to.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    bytes: usize,
    count: usize,
    names: usize,
    names_from: usize,
}

impl Mark {
    /// Bytes of lines there were.
    pub(super) fn bytes(self) -> usize {
        self.bytes
    }
}

impl Lines {
    /// No lines.
    pub fn new() -> Lines {
        Lines::default()
    }

    /// The lines, one after another, each with its newline.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What names the lines have, and how often.
    pub fn names(&self) -> &[NameCount] {
        &self.names
    }

    /// The JSON text, without the quotes, of the name that `entry` counts.
    pub fn name(&self, entry: &NameCount) -> &[u8] {
        &self.bytes[entry.at as usize..entry.at as usize + usize::from(entry.len)]
    }

    /// Bytes of lines there is memory for.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets all lines; the memory stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.names.clear();
        self.count = 0;
        self.names_from = 0;
    }

    /// Begins a request that may be taken back.
    pub(super) fn begin(&mut self) -> Mark {
        let mark = self.mark();
        self.names_from = mark.names;
        mark
    }

    /// Ends a request that stays.
    pub(super) fn commit(&mut self, mark: Mark) {
        self.names_from = mark.names_from;
    }

    /// Moves the lines of `other` behind these; `other` is empty then.
    pub fn append(&mut self, other: &mut Lines) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
        for entry in &other.names {
            let (at, len) = (start + entry.at as usize, usize::from(entry.len));
            self.count_name(at, len, entry.minute, entry.count);
        }
        other.clear();
    }

    /// How long the lines are now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            count: self.count,
            names: self.names.len(),
            names_from: self.names_from,
        }
    }

    /// What a push that panics in the middle leaves.
    #[cfg(test)]
    pub(crate) fn push_half_a_line(&mut self) {
        self.bytes.extend_from_slice(OPEN);
    }

    /// Takes back what there is of a line whose push has panicked. One that is whole stays: what counts its name comes last.
    pub(crate) fn drop_unfinished(&mut self, before: Mark) {
        if self.count == before.count {
            self.bytes.truncate(before.bytes);
        }
        self.names_from = before.names_from;
    }

    /// Ends a request that is taken back: all is as it was at `begin`.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.names.truncate(mark.names);
        self.count = mark.count;
        self.names_from = mark.names_from;
    }

    /// Appends a line that some node of a fleet has stored, with where it is from; whether it is one of our own shape, as
    /// otherwise nothing changes. A number that it begins with is left out: it counts another log's lines.
    pub fn push_of_node(&mut self, line: &[u8], node: &str, at: impl fmt::Display) -> bool {
        let line = line.trim_ascii();
        let Some(event) = Some(line)
            .filter(|line| line.last() == Some(&b'}') && TORN.find(line).is_none())
            .and_then(StoredEvent::of_own_line)
        else {
            return false;
        };
        let (Cow::Borrowed(name), Some(minute)) =
            (&event.name, event.stamp.as_deref().and_then(time::minute_of_text))
        else {
            return false;
        };
        let body = match line.strip_prefix(b"{\"seq\":") {
            Some(numbered) => {
                let digits = numbered.iter().take_while(|byte| byte.is_ascii_digit()).count();
                &numbered[digits + 1..]
            }
            None => &line[1..],
        };
        self.bytes.push(b'{');
        // Both are parts of `line`: the name lies as far behind the body's first byte here as there.
        let name_at = self.bytes.len() + (name.as_ptr().addr() - body.as_ptr().addr());
        let name_len = name.len();
        self.bytes.extend_from_slice(&body[..body.len() - 1]);
        writeln!(self.bytes, ",\"node\":\"{node}\",\"at\":\"{at}\"}}").expect("a vector takes everything");
        self.count += 1;
        self.count_name(name_at, name_len, minute, 1);
        true
    }

    /// Appends the line of an event, unless it is longer than `line_bytes_max`: then nothing changes and
    /// the error is the length it would have.
    #[inline]
    pub(super) fn push(&mut self, event: &Fields<'_>, line_bytes_max: usize) -> Result<(), usize> {
        if event.metadata.len() > line_bytes_max {
            return self.push_long(event, line_bytes_max);
        }
        let start = self.bytes.len();
        let name = self.write(event);
        let line_bytes = self.bytes.len() - start;
        if line_bytes > line_bytes_max {
            self.bytes.truncate(start);
            return Err(line_bytes);
        }
        self.count += 1;
        self.count_name(name.0, name.1, event.timestamp.minute(), 1);
        Ok(())
    }

    /// Appends an event whose metadata was sent with more bytes than a line may have. It may still fit,
    /// when they are line breaks; if not, it is measured without growing the buffer to it.
    #[cold]
    fn push_long(&mut self, event: &Fields<'_>, line_bytes_max: usize) -> Result<(), usize> {
        let metadata: Vec<u8> = event
            .metadata
            .iter()
            .copied()
            .filter(|byte| !is_break(*byte))
            .collect();
        if metadata.len() <= line_bytes_max {
            return self.push(
                &Fields {
                    metadata: &metadata,
                    breaks: false,
                    ..*event
                },
                line_bytes_max,
            );
        }
        let start = self.bytes.len();
        self.write(&Fields {
            metadata: b"",
            breaks: false,
            exact: None,
            ..*event
        });
        let line_bytes = self.bytes.len() - start + metadata.len();
        self.bytes.truncate(start);
        Err(line_bytes)
    }

    /// Writes the line; gives where the name is.
    #[inline]
    fn write(&mut self, event: &Fields<'_>) -> (usize, usize) {
        let out = &mut self.bytes;
        if let (Some(line), Text::Raw(visitor_id), Text::Raw(name)) =
            (event.exact, event.visitor_id, event.name)
        {
            let name_at = out.len() + OPEN.len() + visitor_id.len() + BEFORE_NAME.len();
            out.extend_from_slice(line);
            out.push(b'\n');
            return (name_at, name.len());
        }
        out.extend_from_slice(OPEN);
        event.visitor_id.write(out);
        out.extend_from_slice(BEFORE_NAME);
        let name_at = out.len();
        event.name.write(out);
        let name_len = out.len() - name_at;
        out.extend_from_slice(BEFORE_TIMESTAMP);
        out.extend_from_slice(event.timestamp.as_bytes());
        out.extend_from_slice(BEFORE_METADATA);
        write_unbroken(out, event.metadata, event.breaks);
        out.extend_from_slice(BEFORE_AGENT);
        match &event.user_agent {
            Agent::Json(json) => out.extend_from_slice(json),
            Agent::Text(text) => {
                out.push(b'"');
                text.write(out);
                out.push(b'"');
            }
        }
        out.extend_from_slice(CLOSE);
        (name_at, name_len)
    }

    /// Counts events of the name at `at`.
    #[inline]
    fn count_name(&mut self, at: usize, len: usize, minute: i64, count: u32) {
        let name = &self.bytes[at..at + len];
        let recent = &mut self.names[self.names_from..];
        for entry in recent.iter_mut().rev().take(NAMES_LOOKBACK) {
            let known = entry.at as usize;
            if entry.minute == minute
                && usize::from(entry.len) == len
                && &self.bytes[known..known + len] == name
            {
                entry.count += count;
                return;
            }
        }
        let at = u32::try_from(at).expect("the lines of a connection stay below 4 GiB");
        let len = u16::try_from(len).expect("a name has at most 64 code points");
        self.names.push(NameCount {
            at,
            len,
            count,
            minute,
        });
    }
}

/// What stands in a line between the values of its members, and around them.
const OPEN: &[u8] = b"{\"visitor_id\":\"";
const BEFORE_NAME: &[u8] = b"\",\"event\":\"";
const BEFORE_TIMESTAMP: &[u8] = b"\",\"timestamp\":\"";
const BEFORE_METADATA: &[u8] = b"\",\"metadata\":";
const BEFORE_AGENT: &[u8] = b",\"user_agent\":";
const CLOSE: &[u8] = b"}\n";

/// Bytes of a line that are not those of its values, where the user agent is a text; without the newline.
pub(super) const EXACT_BYTES: usize = OPEN.len()
    + BEFORE_NAME.len()
    + BEFORE_TIMESTAMP.len()
    + BEFORE_METADATA.len()
    + BEFORE_AGENT.len()
    + 2
    + 1;

/// A valid event, ready to be written.
pub(super) struct Fields<'a> {
    pub(super) visitor_id: Text<'a>,
    pub(super) name: Text<'a>,
    pub(super) timestamp: StampText,
    /// The sender's own bytes: a JSON object.
    pub(super) metadata: &'a [u8],
    /// Whether `metadata` may hold line breaks.
    pub(super) breaks: bool,
    pub(super) user_agent: Agent<'a>,
    /// The line without its newline, where it came like that: the fields are its parts.
    pub(super) exact: Option<&'a [u8]>,
}

/// The text of a string member.
#[derive(Clone, Copy)]
pub(super) enum Text<'a> {
    /// Came without a single escape: needs none either, and is copied.
    Raw(&'a [u8]),
    /// Was unescaped: may need escapes.
    Decoded(&'a str),
}

impl Text<'_> {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Text::Raw(text) => out.extend_from_slice(text),
            Text::Decoded(text) => write_escaped(out, text.as_bytes()),
        }
    }
}

/// The user agent of an event.
#[derive(Clone, Copy)]
pub(super) enum Agent<'a> {
    /// Rendered already: what the request's header says, or `null`.
    Json(&'a [u8]),
    /// What the event says.
    Text(Text<'a>),
}

/// Appends a JSON string, quotes included, in the one spelling that lines have.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text.as_bytes());
    out.push(b'"');
}

/// Appends the inside of a JSON string: quote, backslash and what is below U+0020 escaped, all else as it is.
fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut written = 0;
    for (at, &byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0C => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1F => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text[written..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
        written = at + 1;
    }
    out.extend_from_slice(&text[written..]);
}

fn is_break(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// Appends JSON less its line breaks. They are white space between tokens: inside a string JSON has
/// none, and no two tokens are told apart by white space alone.
#[inline]
fn write_unbroken(out: &mut Vec<u8>, json: &[u8], breaks: bool) {
    let mut rest = json;
    if breaks {
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at + 1..];
        }
    }
    out.extend_from_slice(rest);
}

/// Finds the mark of a torn line. Making a searcher costs as much as a search through a line.
static TORN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"torn\""));

/// What is counted of a line of the log.
#[derive(Debug, PartialEq, Eq)]
pub struct LineFacts<'l> {
    /// The event's name as JSON text without the quotes, in the spelling that [`Lines`] counts it under, whatever program
    /// wrote the line.
    pub name: Cow<'l, [u8]>,
    /// The minute of its time stamp, counted from the Unix epoch; `None` where it has none that can be read.
    pub minute: Option<i64>,
}

/// Reads what is counted of a line.
///
/// `None` when the line is not a JSON object with a text `event`, or is marked `"torn":true`. A line
/// that begins as ours do is not looked at further than its last byte, the mark apart: that the rest is
/// whole is the log's to check.
pub fn facts_of_line(line: &[u8]) -> Option<LineFacts<'_>> {
    let event = StoredEvent::of_line(line)?;
    let minute = event.stamp.as_deref().and_then(time::minute_of_text);
    Some(LineFacts {
        name: event.name,
        minute,
    })
}

/// An event as a line of the log has it, its members unread until they are asked for.
#[derive(Debug)]
pub struct StoredEvent<'l> {
    /// The visitor's id, as JSON text without the quotes in the one spelling that lines have; `None` where it is no text.
    pub visitor_id: Option<Cow<'l, [u8]>>,
    /// The event's name, spelled alike.
    pub name: Cow<'l, [u8]>,
    stamp: Option<Cow<'l, [u8]>>,
    /// Begins with the JSON of `metadata`; more of the line may follow.
    metadata: Option<&'l [u8]>,
}

impl<'l> StoredEvent<'l> {
    /// Reads a line; `None` for the lines that [`facts_of_line`] counts nothing of.
    pub fn of_line(line: &'l [u8]) -> Option<StoredEvent<'l>> {
        let line = line.trim_ascii();
        if line.last() == Some(&b'}')
            && TORN.find(line).is_none()
            && let Some(event) = StoredEvent::of_own_line(line)
        {
            return Some(event);
        }
        let text = std::str::from_utf8(line).ok()?;
        let mut json = serde_json::Deserializer::from_str(text);
        let event = json.deserialize_map(EventVisitor).ok()??;
        json.end().ok()?;
        Some(event)
    }

    /// An event in a line of our own shape.
    fn of_own_line(line: &'l [u8]) -> Option<StoredEvent<'l>> {
        let mut rest = line.strip_prefix(b"{")?;
        if let Some(numbered) = rest.strip_prefix(b"\"seq\":") {
            let digits = numbered.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest = numbered[digits..].strip_prefix(b",").filter(|_| digits > 0)?;
        }
        let (visitor_id, rest) = own_string(rest.strip_prefix(b"\"visitor_id\":\"")?)?;
        let (name, rest) = own_string(rest.strip_prefix(b"\",\"event\":\"")?)?;
        let rest = rest.strip_prefix(b"\",\"timestamp\":\"")?;
        let (stamp, rest) = rest.split_at(end_of_string(rest)?);
        Some(StoredEvent {
            visitor_id: Some(Cow::Borrowed(visitor_id)),
            name: Cow::Borrowed(name),
            stamp: Some(Cow::Borrowed(stamp)),
            metadata: rest.strip_prefix(b"\",\"metadata\":"),
        })
    }

    /// Its time; `None` where it has none that can be read.
    pub fn at(&self) -> Option<Timestamp> {
        time::of_text(self.stamp.as_deref()?)
    }

    /// The JSON of a member of `metadata`; of repeated ones the last. `None` if there is none, or no object there.
    pub fn metadata_member(&self, key: &str) -> Option<&'l RawValue> {
        let mut json = serde_json::Deserializer::from_slice(self.metadata?);
        json.deserialize_map(MemberVisitor { key }).ok()?
    }
}

/// Which node a line of a fleet's log is from, and where it lay there; `None` for a line that some node has stored itself. Its
/// last two members say so, and no line of ours can end like that otherwise: `user_agent` is the last one there.
pub fn origin_of_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.trim_ascii_end().strip_suffix(b"\"}")?;
    let at = memchr::memrchr(b'"', rest)?;
    let rest_of_at = rest[..at].strip_suffix(b"\",\"at\":")?;
    let node = memchr::memrchr(b'"', rest_of_at)?;
    rest_of_at[..node].strip_suffix(b",\"node\":")?;
    Some((&rest_of_at[node + 1..], &rest[at + 1..]))
}

/// A name or an id as lines spell it: JSON text without the quotes.
pub fn spelt(text: &str) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len());
    write_escaped(&mut out, text.as_bytes());
    out.into()
}

/// The string whose inside begins at the first byte, if it is spelt as we spell it, and what follows it.
fn own_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inside, rest) = text.split_at(end_of_string(text)?);
    (!inside.contains(&b'\\') || is_canonical(inside)).then_some((inside, rest))
}

/// Where the quote is that ends a string whose inside begins at the first byte.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &text[at..])?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
        if at > text.len() {
            return None;
        }
    }
}

/// Whether a name with escapes in it is spelt as we spell it. Another program's line can have our
/// members in our order and still write `\u0041`.
#[cold]
fn is_canonical(name: &[u8]) -> bool {
    let quoted = [b"\"", name, b"\""].concat();
    let Ok(text) = serde_json::from_slice::<String>(&quoted) else {
        return false;
    };
    let mut again = Vec::with_capacity(name.len());
    write_escaped(&mut again, text.as_bytes());
    again == name
}

/// Finds what is asked of an object that is not marked torn.
struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Option<StoredEvent<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut visitor_id, mut name, mut stamp, mut metadata, mut torn) = (None, None, None, None, false);
        let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "visitor_id" => visitor_id = text(map.next_value()?),
                "event" => name = text(map.next_value()?),
                "timestamp" => stamp = text(map.next_value()?),
                "metadata" => metadata = Some(map.next_value::<&RawValue>()?.get().as_bytes()),
                "torn" => torn = map.next_value::<&RawValue>()?.get() == "true",
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let Some(name) = name.filter(|_| !torn) else {
            return Ok(None);
        };
        Ok(Some(StoredEvent {
            visitor_id: visitor_id.map(|id| Cow::Owned(spelt(&id).into_vec())),
            name: Cow::Owned(spelt(&name).into_vec()),
            stamp: stamp.map(|stamp| Cow::Owned(stamp.into_bytes())),
            metadata,
        }))
    }
}

/// Finds a member of an object.
struct MemberVisitor<'k> {
    key: &'k str,
}

impl<'de> Visitor<'de> for MemberVisitor<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == self.key {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"visitor_id":"visitor","event":"a\"b","timestamp":"2026-11-22T21:15:30Z","metadata":{"at":"1"},"user_agent":"x\",\"node\":\"y"}"#;

    #[test]
    fn a_line_of_a_node_says_where_it_is_from_and_is_counted_by_its_name() {
        let mut lines = Lines::new();
        let numbered = LINE.replacen('{', "{\"seq\":17,", 1);
        assert!(lines.push_of_node(LINE.as_bytes(), "eu-1", "5:1:140"));
        assert!(lines.push_of_node(numbered.as_bytes(), "us-1", "5:1:280"));
        let text = std::str::from_utf8(lines.bytes()).unwrap();
        let expected: Vec<_> = [("eu-1", "5:1:140"), ("us-1", "5:1:280")]
            .iter()
            .map(|(node, at)| {
                format!(
                    "{},\"node\":\"{node}\",\"at\":\"{at}\"}}",
                    LINE.strip_suffix('}').unwrap()
                )
            })
            .collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert_eq!(lines.count(), 2);
        let names: Vec<_> = lines
            .names()
            .iter()
            .map(|entry| (lines.name(entry), entry.count))
            .collect();
        assert_eq!(names, [(&br#"a\"b"#[..], 2)]);
        for (line, (node, at)) in text.lines().zip([("eu-1", "5:1:140"), ("us-1", "5:1:280")]) {
            assert_eq!(
                origin_of_line(line.as_bytes()),
                Some((node.as_bytes(), at.as_bytes()))
            );
            assert_eq!(facts_of_line(line.as_bytes()), facts_of_line(LINE.as_bytes()));
        }
        assert_eq!(origin_of_line(LINE.as_bytes()), None);
    }

    #[test]
    fn what_is_no_line_of_our_own_is_not_taken() {
        let mut lines = Lines::new();
        for line in [
            "",
            "{}",
            r#"{"event":"x","torn":true}"#,
            &LINE.replace(":\"visitor\"", ": \"visitor\""),
            &LINE.replace("2026", "x"),
        ] {
            assert!(!lines.push_of_node(line.as_bytes(), "a", "1:1:1"), "{line}");
        }
        assert!(lines.is_empty() && lines.bytes().is_empty());
    }
}
