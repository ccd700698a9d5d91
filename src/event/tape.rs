//! The tape path: valid events that the plain path does not know, read from simd-json's tape and stored from the source.
//!
//! Purpose: events with escapes, which it reads at a third of what the slow path costs. Whatever is not ordinary
//! (a member that is not valid, a number simd-json does not take, an escaped name of a member that
//! matters) is answered with "don't know", and the slow path decides. A test holds the two against each
//! other, on whole and on damaged events.
//!
//! simd-json unescapes strings where they stand, so it works on a scratch copy, and the positions of its
//! strings in the copy say where things are in the untouched source. That is enough to find everything:
//! in valid JSON there are only white space, one comma and one brace between the key of a member and the
//! end of the value before it. No bracket is ever searched for or matched here.
//!
//! Bounds: texts of at most [`TAPE_BYTES_MAX`]; buffers of more than the usual size are given back after
//! use ([`TapeReader::trim`]). Invariant: what is answered is what the slow path would. Owner: the
//! thread; see [`TapeReader::with`].

use std::cell::RefCell;

use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

use super::Defaults;
use super::bytes::{is_space, trim_end};
use super::line::{Agent, Fields, Lines, Text};
use super::member::{Member, NAME_CHARS, VISITOR_ID_CHARS, bounded};
use super::slow::NESTING_MAX;
use super::time::{self, StampText};

/// The longest text given to simd-json. Its tape and indexes take up to 28 bytes for each byte of a
/// hostile text, so this bounds a connection's memory; longer events are rare, and mostly too long.
pub(super) const TAPE_BYTES_MAX: usize = 64 << 10;

/// Buffers above these sizes are not kept from one request to the next.
const KEEP_BYTES_MAX: usize = 32 << 10;
const KEEP_NODES_MAX: usize = 8 << 10;

/// simd-json's buffers and the scratch copy.
pub(super) struct TapeReader {
    scratch: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

thread_local! {
    static OF_THREAD: RefCell<TapeReader> = RefCell::new(TapeReader::new());
}

impl TapeReader {
    fn new() -> TapeReader {
        TapeReader {
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
    pub(super) fn with<R>(read: impl FnOnce(&mut TapeReader) -> R) -> R {
        OF_THREAD.with_borrow_mut(|reader| {
            let answer = read(reader);
            reader.trim();
            answer
        })
    }

    /// Gives back the memory of an unusual request.
    fn trim(&mut self) {
        let usual = self.scratch.capacity() <= KEEP_BYTES_MAX && self.tape.0.capacity() <= KEEP_NODES_MAX;
        if !usual {
            *self = TapeReader::new();
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
        if text.len() > TAPE_BYTES_MAX {
            return false;
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(text);
        self.with_tape(|nodes, base| {
            let source = Source { text, base };
            match source.event(nodes, defaults) {
                Some(fields) => lines.push(&fields, line_bytes_max).is_ok(),
                None => false,
            }
        })
    }

    /// Parses the scratch copy and gives the tape and the address of the copy to `read`; the default
    /// when simd-json does not take it.
    #[inline]
    fn with_tape<R: Default>(&mut self, read: impl FnOnce(&[Node<'_>], usize) -> R) -> R {
        let TapeReader {
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
            Text::Raw(part.as_bytes())
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

    /// The event on the tape, whose closing brace is the last byte of the source.
    #[inline]
    fn event<'a>(&self, nodes: &'a [Node<'a>], defaults: &'a Defaults) -> Option<Fields<'a>>
    where
        's: 'a,
    {
        let (Node::Object { len, .. }, nodes) = nodes.split_first()? else {
            return None;
        };
        let (mut visitor_id, mut name) = (None, None);
        let mut timestamp = None;
        let mut metadata: &[u8] = b"{}";
        let mut user_agent = None;
        let mut at = 0;
        for _ in 0..*len {
            let (Node::String(key), value) = (&nodes[at], &nodes[at + 1]) else {
                return None;
            };
            let next = at + 1 + width(value);
            // Repeated members: the last wins, and only it must be valid. That an earlier one is not is
            // rare enough for the slow path.
            match (Member::named(key.as_bytes()), value) {
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
                        None => self.back(self.text.len() - 1),
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
            breaks: true,
            user_agent: match user_agent {
                Some(text) => Agent::Text(text),
                None => Agent::Json(defaults.user_agent()),
            },
            exact: None,
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
