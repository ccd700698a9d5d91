//! What things are called in NATS: the stream of a node, its subjects, and the header that says where a message lies in the
//! node's log.

use std::fmt;
use std::str::FromStr;

use crate::log::cursor::Position;

/// Longest name of a node or of a fleet.
const NAME_BYTES_MAX: usize = 64;
/// Last token of the subject of packed frames.
const FRAME: &str = "_frame";
/// The header with a message's [`Span`].
pub const SPAN: &str = "Floodgate-Span";

/// Whether that may be the name of a node, or of a fleet: letters, digits, `-` and `_`, as subjects, streams and file names can
/// all hold it.
///
/// # Errors
/// What is allowed, as a clause.
pub fn name(text: &str) -> Result<String, String> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_safe);
    is_name
        .then(|| text.to_owned())
        .ok_or_else(|| format!("it is 1 to {NAME_BYTES_MAX} letters, digits, `-` and `_`"))
}

/// The machine's name made into a node's: up to its first dot, with `_` for what a name may not have.
pub fn of_host(host: &str) -> String {
    let name = safe(host.split('.').next().unwrap_or_default());
    match name.is_empty() {
        true => "node".to_owned(),
        false => name,
    }
}

fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// A text made into a token of a subject.
fn safe(text: &str) -> String {
    let safe = |char: char| match u8::try_from(char) {
        Ok(byte) if is_safe(byte) => char,
        _ => '_',
    };
    text.chars().map(safe).take(NAME_BYTES_MAX).collect()
}

/// What a node is called in NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The fleet's name.
    pub fleet: String,
    /// The node's.
    pub node: String,
}

impl Address {
    /// Its stream.
    pub fn stream(&self) -> String {
        format!("{}-{}", self.fleet, self.node)
    }

    /// All its subjects.
    pub fn subjects(&self) -> String {
        format!("{}.{}.>", self.fleet, self.node)
    }

    /// The subject of an event whose name is spelt so in the log.
    pub fn subject_of(&self, event: &[u8]) -> String {
        let event = safe(&String::from_utf8_lossy(event));
        format!("{}.{}.{event}", self.fleet, self.node)
    }

    /// The subject of a frame.
    pub fn frames(&self) -> String {
        format!("{}.{}.{FRAME}", self.fleet, self.node)
    }

    /// The id by which the stream knows a message that it has already.
    pub fn message_id(&self, span: &Span) -> String {
        format!("{}:{}:{}", self.node, span.life, span.from)
    }
}

/// Where the lines of a message lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which log of that node: places count from the beginning again when a node has lost its disk. A later one has a higher
    /// number.
    pub life: u64,
    /// Where the message before it ended. What lies between there and `from` is no event.
    pub after: Position,
    /// Where its first line begins; the others follow without a gap.
    pub from: Position,
    /// Behind its last line.
    pub next: Position,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.life, self.after, self.from, self.next)
    }
}

impl FromStr for Span {
    type Err = ();

    fn from_str(text: &str) -> Result<Span, ()> {
        let mut parts = text.split(' ');
        let life = parts.next().and_then(|life| life.parse().ok()).ok_or(())?;
        let mut place = || parts.next().and_then(|place| place.parse().ok()).ok_or(());
        let span = Span {
            life,
            after: place()?,
            from: place()?,
            next: place()?,
        };
        let is_one = span.after <= span.from
            && span.from < span.next
            && span.from.number == span.next.number
            && parts.next().is_none();
        is_one.then_some(span).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_subjects_streams_and_files_can_all_hold() {
        for text in ["a", "eu-1", "Web_07", &"x".repeat(64)] {
            assert_eq!(name(text).unwrap(), text);
        }
        for text in ["", "a.b", "a b", "a*", ">", "ä", &"x".repeat(65)] {
            assert!(name(text).is_err(), "{text}");
        }
        assert_eq!(of_host("web-1.example.org"), "web-1");
        assert_eq!(of_host("wéb 1"), "w_b_1");
        assert_eq!(of_host(""), "node");
    }

    #[test]
    fn subjects_are_safe_whatever_an_event_is_called() {
        let address = Address {
            fleet: "metrics".into(),
            node: "eu-1".into(),
        };
        assert_eq!(address.subject_of(b"page_view"), "metrics.eu-1.page_view");
        assert_eq!(
            address.subject_of("a.b *>\u{e4}\\\"".as_bytes()),
            "metrics.eu-1.a_b______"
        );
        assert_eq!(address.stream(), "metrics-eu-1");
        assert_eq!(address.subjects(), "metrics.eu-1.>");
    }

    #[test]
    fn a_span_is_read_as_it_is_written() {
        let place = |number, offset| Position { number, offset };
        let span = Span {
            life: 7,
            after: place(1, 900),
            from: place(2, 0),
            next: place(2, 140),
        };
        assert_eq!(span.to_string(), "7 1:900 2:0 2:140");
        assert_eq!(span.to_string().parse(), Ok(span));
        for text in [
            "",
            "7 1:900 2:0",
            "7 1:900 2:0 2:140 x",
            "7 1:900 2:0 2:0",
            "7 2:1 2:0 2:9",
            "7 1:900 2:0 3:9",
            "x 1:900 2:0 2:140",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
