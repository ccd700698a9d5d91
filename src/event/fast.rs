//! The fast path: ordinary valid events, read from simd-json's tape and stored from the source.
//!
//! Purpose: the cost of an event is that of simd-json's tape and little more. Whatever is not ordinary
//! (a member that is not valid, a number simd-json does not take, an escaped name of a member that
//! matters) is answered with "don't know", and the slow path decides. A test holds the two against each
//! other, on whole and on damaged events.
//!
//! simd-json unescapes strings where they stand, so it works on a scratch copy, and the positions of its
//! strings in the copy say where things are in the untouched source. That is enough to find everything:
//! in valid JSON there are only white space, one comma and one brace between the key of a member and the
//! end of the value before it. No bracket is ever searched for or matched here.
//!
//! Many events at once ([`Fast::group`]) are read as one array, which spares the start and the end of a
//! parse for each: for lines, their newlines become commas in the copy. What is made so is only believed
//! when the elements it yields are the lines, one each; see [`Spans::Lines`].
//!
//! Bounds: texts of at most [`FAST_BYTES_MAX`]; buffers of more than the usual size are given back after
//! use ([`Fast::trim`]). Invariant: what is answered is what the slow path would. Owner: the
//! thread; see [`Fast::with`].

use std::cell::RefCell;

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use super::Defaults;
use super::line::{Agent, Fields, Lines, Text};
use super::slow::{NAME_CHARS, NESTING_MAX, VISITOR_ID_CHARS};
use super::time::{self, StampText};

/// The longest text given to simd-json. Its tape and indexes take up to 28 bytes for each byte of a
/// hostile text, so this bounds a connection's memory; longer events are rare, and mostly too long.
pub(super) const FAST_BYTES_MAX: usize = 64 << 10;

/// Buffers above these sizes are not kept from one request to the next.
const KEEP_BYTES_MAX: usize = 32 << 10;
const KEEP_NODES_MAX: usize = 8 << 10;

/// Where the events of a group are, in its text.
pub(super) enum Spans<'a> {
    /// One event in each of these ranges, and white space between them. Each range begins and ends with
    /// a byte that is not white space, and the byte before each, the first apart, is a newline or white
    /// space behind one.
    ///
    /// Made into an array, the text is believed when it has as many elements as ranges, and each element
    /// begins where its range begins. Then each is whole in its range: the elements of an array are
    /// parted by one comma each; the comma that was put before an element, with nothing but white space
    /// between, must be that one; so the element before ended before it, in its own range.
    Lines(&'a [(u32, u32)]),
    /// The text is the inside of an array, or a part of it: the elements say where they are.
    Elements,
}

/// simd-json's buffers and the scratch copy.
pub(super) struct Fast {
    scratch: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

thread_local! {
    static OF_THREAD: RefCell<Fast> = RefCell::new(Fast::new());
}

impl Fast {
    fn new() -> Fast {
        Fast {
            scratch: Vec::new(),
            buffers: Buffers::with_max_depth(0, NESTING_MAX),
            tape: Tape(Vec::new()),
        }
    }

    /// Calls `read` with the buffers of this thread, which must not wait for anything: another coroutine would find them in
    /// use.
    ///
    /// Nothing in them outlives the call, so all connections of a worker take turns with one set: it stays in the core's
    /// first cache, and connections need none of their own.
    ///
    /// # Panics
    /// If `read` calls this again.
    #[inline]
    pub(super) fn with<R>(read: impl FnOnce(&mut Fast) -> R) -> R {
        OF_THREAD.with_borrow_mut(|fast| {
            let answer = read(fast);
            fast.trim();
            answer
        })
    }

    /// Gives back the memory of an unusual request.
    fn trim(&mut self) {
        let usual = self.scratch.capacity() <= KEEP_BYTES_MAX && self.tape.0.capacity() <= KEEP_NODES_MAX;
        if !usual {
            *self = Fast::new();
        }
    }

    /// Reads `text` as one event and appends its line. `false` means don't know; then nothing is changed.
    pub(super) fn single(
        &mut self,
        text: &[u8],
        defaults: &Defaults,
        line_bytes_max: usize,
        lines: &mut Lines,
    ) -> bool {
        let text = trim_end(text);
        if text.len() > FAST_BYTES_MAX {
            return false;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(text);
        self.with_tape(|nodes, base| {
            let source = Source { text, base };
            let end = text.len();
            let Some(fields) = source.event(nodes, 0, end, true, defaults) else {
                return false;
            };
            lines.push(&fields, line_bytes_max).is_ok()
        })
    }

    /// Reads `text` as many events. `None`: the whole of it is not known, and nothing is changed.
    /// Otherwise how many there are. The lines of those that are known are appended; for each other
    /// `unknown` is called with its number in the group, its range in `text`, and `lines`. All in order,
    /// until that gives `false`.
    pub(super) fn group(
        &mut self,
        text: &[u8],
        spans: &Spans<'_>,
        defaults: &Defaults,
        line_bytes_max: usize,
        lines: &mut Lines,
        mut unknown: impl FnMut(usize, usize, usize, &mut Lines) -> bool,
    ) -> Option<usize> {
        debug_assert!(text.len() <= FAST_BYTES_MAX);
        self.scratch.clear();
        self.scratch.push(b'[');
        self.scratch.extend_from_slice(text);
        self.scratch.push(b']');
        let breaks = match spans {
            Spans::Elements => memchr::memchr2(b'\n', b'\r', text).is_some(),
            Spans::Lines(ranges) => {
                for pair in ranges.windows(2) {
                    // Everything between two lines becomes white space, but for the comma.
                    let (from, to) = (pair[0].1 as usize + 1, pair[1].0 as usize + 1);
                    self.scratch[from] = b',';
                    self.scratch[from + 1..to].fill(b' ');
                }
                memchr::memchr(b'\r', text).is_some()
            }
        };
        self.with_tape(|nodes, base| {
            let source = Source { text, base: base + 1 };
            let Some(&Node::Array { len, .. }) = nodes.first() else {
                return None;
            };
            let known = match spans {
                Spans::Lines(ranges) => ranges.len() == len && source.begins_match(nodes, ranges),
                Spans::Elements => len > 0 && source.all_objects(nodes, len),
            };
            if !known {
                return None;
            }
            let mut at = 1;
            for number in 0..len {
                let next = at + width(&nodes[at]);
                let end = match spans {
                    Spans::Lines(ranges) => ranges[number].1 as usize,
                    Spans::Elements => source.end_of_value(nodes, next),
                };
                let pushed = match source.event(nodes, at, end, breaks, defaults) {
                    Some(fields) => lines.push(&fields, line_bytes_max).is_ok(),
                    None => false,
                };
                if !pushed {
                    let start = source
                        .start_of_object(nodes, at)
                        .expect("all elements are objects with members");
                    if !unknown(number, start, end, lines) {
                        break;
                    }
                }
                at = next;
            }
            Some(len)
        })
    }

    /// Parses the scratch copy and gives the tape and the address of the copy to `read`; the default
    /// when simd-json does not take it.
    #[inline]
    fn with_tape<R: Default>(&mut self, read: impl FnOnce(&[Node<'_>], usize) -> R) -> R {
        let Fast {
            scratch,
            buffers,
            tape,
        } = self;
        let len = scratch.len();
        scratch.resize(len + INPUT_PADDING, b' ');
        let base = scratch.as_ptr().addr();
        let mut filled: Tape<'_> = std::mem::replace(tape, Tape(Vec::new()));
        let parsed = simd_json::fill_tape_padded(scratch, len, buffers, &mut filled).is_ok();
        let answer = if parsed {
            read(&filled.0, base)
        } else {
            R::default()
        };
        *tape = filled.reset();
        answer
    }
}

/// Nodes of the value that begins with `node`.
#[inline]
fn width(node: &Node<'_>) -> usize {
    match *node {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        Node::String(_) | Node::Static(_) => 1,
    }
}

#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// `text` without white space at its end.
#[inline]
pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// The untouched text, and the address that its first byte has in the scratch copy.
#[derive(Clone, Copy)]
struct Source<'s> {
    text: &'s [u8],
    base: usize,
}

impl<'s> Source<'s> {
    /// Where the inside of a string of the tape begins in the source.
    #[inline]
    fn position(&self, string: &str) -> usize {
        string.as_ptr().addr() - self.base
    }

    /// Whether a string has no escapes: it was found as it stands in the source.
    ///
    /// Every escape is longer than what it stands for, so a string with one is shorter than its source,
    /// and the byte behind its length is still inside it. There, a quote has a backslash before it.
    #[inline]
    fn is_raw(&self, string: &str) -> bool {
        let end = self.position(string) + string.len();
        self.text[end] == b'"' && self.text[end - 1] != b'\\'
    }

    #[inline]
    fn string<'a>(&self, whole: &str, part: &'a str) -> Text<'a> {
        if self.is_raw(whole) {
            Text::Raw(part)
        } else {
            Text::Decoded(part)
        }
    }

    /// The end of what precedes `at`, white space left out.
    #[inline]
    fn back(&self, mut at: usize) -> usize {
        while at > 0 && is_space(self.text[at - 1]) {
            at -= 1;
        }
        at
    }

    /// Where the object at `at` begins, if it has a member.
    #[inline]
    fn start_of_object(&self, nodes: &[Node<'_>], at: usize) -> Option<usize> {
        match (&nodes[at], nodes.get(at + 1)) {
            (Node::Object { len: 1.., .. }, Some(Node::String(key))) => {
                Some(self.back(self.position(key) - 1) - 1)
            }
            _ => None,
        }
    }

    /// Whether the elements of the array are objects that begin where the ranges do.
    fn begins_match(&self, nodes: &[Node<'_>], ranges: &[(u32, u32)]) -> bool {
        let mut at = 1;
        ranges.iter().all(|&(start, _)| {
            let begins = self.start_of_object(nodes, at) == Some(start as usize);
            at += width(&nodes[at]);
            begins
        })
    }

    /// Whether the elements of the array are objects with members.
    fn all_objects(&self, nodes: &[Node<'_>], len: usize) -> bool {
        let mut at = 1;
        (0..len).all(|_| {
            let object = matches!(nodes[at], Node::Object { len: 1.., .. });
            at += width(&nodes[at]);
            object
        })
    }

    /// The end of the array's element before the one at `next`, or of the last one.
    #[inline]
    fn end_of_value(&self, nodes: &[Node<'_>], next: usize) -> usize {
        if next >= nodes.len() {
            return self.back(self.text.len());
        }
        let start = self
            .start_of_object(nodes, next)
            .expect("all elements are objects with members");
        let comma = self.back(start) - 1;
        self.back(comma)
    }

    /// The event at `at` of the tape, whose closing brace is the last byte before `end`.
    #[inline]
    fn event<'a>(
        &self,
        nodes: &'a [Node<'a>],
        at: usize,
        end: usize,
        breaks: bool,
        defaults: &'a Defaults,
    ) -> Option<Fields<'a>>
    where
        's: 'a,
    {
        let Node::Object { len, count } = nodes[at] else {
            return None;
        };
        let nodes = &nodes[at + 1..at + 1 + count];
        let (mut visitor_id, mut name) = (None, None);
        let mut timestamp = None;
        let mut metadata: &[u8] = b"{}";
        let mut user_agent = None;
        let mut at = 0;
        for _ in 0..len {
            let (Node::String(key), value) = (&nodes[at], &nodes[at + 1]) else {
                return None;
            };
            let next = at + 1 + width(value);
            // Repeated members: the last wins, and only it must be valid. That an earlier one is not is
            // rare enough for the slow path.
            match (member(key.as_bytes()), value) {
                (Member::Other, _) => {}
                (Member::VisitorId, Node::String(text)) => {
                    visitor_id = Some(self.string(text, bounded(text, VISITOR_ID_CHARS)?));
                }
                (Member::Event, Node::String(text)) => {
                    name = Some(self.string(text, bounded(text, NAME_CHARS)?));
                }
                (Member::Timestamp, value) => timestamp = Some(stamp(value)?),
                (Member::Metadata, Node::Object { .. }) => {
                    let end = match nodes.get(next) {
                        // Back over the next key's quote, and over the comma.
                        Some(Node::String(key)) => self.back(self.back(self.position(key) - 1) - 1),
                        Some(_) => return None,
                        None => self.back(end - 1),
                    };
                    metadata = &self.text[self.start_of_value(key)?..end];
                }
                (Member::UserAgent, Node::String(text)) => {
                    user_agent = (!text.is_empty()).then(|| self.string(text, text));
                }
                (Member::UserAgent, Node::Static(StaticNode::Null)) => user_agent = None,
                _ => return None,
            }
            at = next;
        }
        Some(Fields {
            visitor_id: visitor_id?,
            name: name?,
            timestamp: timestamp.unwrap_or_else(|| defaults.now()),
            metadata,
            breaks,
            user_agent: match user_agent {
                Some(text) => Agent::Text(text),
                None => Agent::Json(defaults.user_agent()),
            },
        })
    }

    /// Where the value of a member begins. `None` when its key has escapes: then it is not known where
    /// the key ends.
    #[inline]
    fn start_of_value(&self, key: &str) -> Option<usize> {
        if !self.is_raw(key) {
            return None;
        }
        let mut at = self.position(key) + key.len() + 1;
        while self.text[at] == b':' || is_space(self.text[at]) {
            at += 1;
        }
        Some(at)
    }
}

/// What a member's name means.
enum Member {
    VisitorId,
    Event,
    Timestamp,
    Metadata,
    UserAgent,
    Other,
}

/// Told apart by length first: then each comparison is of a known size, one or two words.
#[inline]
fn member(key: &[u8]) -> Member {
    match key.len() {
        5 if key == b"event" => Member::Event,
        8 if key == b"metadata" => Member::Metadata,
        9 if key == b"timestamp" => Member::Timestamp,
        10 if key == b"visitor_id" => Member::VisitorId,
        10 if key == b"user_agent" => Member::UserAgent,
        _ => Member::Other,
    }
}

/// `text` trimmed, if it has `min..=max` code points then.
#[inline]
fn bounded(text: &str, (min, max): (usize, usize)) -> Option<&str> {
    let graphic = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    let bytes = text.as_bytes();
    let text = if graphic(bytes.first()) && graphic(bytes.last()) {
        text
    } else {
        text.trim()
    };
    // Code points are counted only where bytes do not decide: of ASCII there are as many, and of other
    // texts at least a quarter.
    let bytes = text.len();
    let fits = bytes >= min
        && ((bytes <= max && (bytes >= 4 * min || text.is_ascii()))
            || (min..=max).contains(&text.chars().count()));
    fits.then_some(text)
}

/// The stored spelling of a timestamp that is valid and usual.
#[inline]
fn stamp(value: &Node<'_>) -> Option<StampText> {
    let parsed = match *value {
        Node::String(text) => match time::canonical(text.as_bytes()) {
            Some(stamp) => return Some(stamp),
            None => time::parse_text(text),
        },
        Node::Static(StaticNode::I64(number)) => time::parse_int(number),
        Node::Static(StaticNode::U64(number)) => time::parse_int(i64::try_from(number).ok()?),
        _ => return None,
    };
    parsed.ok().map(StampText::new)
}
