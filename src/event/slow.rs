//! The reference: what an event is, in full. Decides everything that the fast path does not answer.
//!
//! Purpose: from the text of one event to its stored line or to the errors in it. `serde_json` checks the
//! grammar strictly and hands out each member as a slice of the source; no number is ever converted but
//! that of a timestamp, and `metadata` is not looked into at all.
//!
//! Invariants: the nesting is measured, without recursion, before anything else is done with the text,
//! and nothing here recurses. A text with half a surrogate pair in it anywhere is refused: its escape
//! is grammatical, but no parser that makes strings of it can read the line.
//!
//! Bounds: nesting of [`NESTING_MAX`]; details as in `details.rs`. Allocates; the connection's coroutine
//! owns all of it for one request.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Defaults;
use super::details::{Context, Details, Place};
use super::line::{Agent, Fields, Lines, Text};
use super::member::{Member, NAME_CHARS, VISITOR_ID_CHARS};
use super::time::{self, NotATime, StampText, Timestamp};

/// How deep objects and lists may be nested, the event itself counted.
pub(super) const NESTING_MAX: usize = 128;

/// The members of an event, as they were sent. Of repeated ones the last.
#[derive(Default)]
struct Members<'a> {
    visitor_id: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    metadata: Option<&'a RawValue>,
    user_agent: Option<&'a RawValue>,
}

/// Reads one event: appends its line, or adds what is wrong with it to `details` and gives `false`.
///
/// `index` is the event's place in a batch. `text` is the whole event and may have white space around it.
pub(super) fn event(
    text: &str,
    index: Option<u64>,
    defaults: &Defaults,
    line_bytes_max: usize,
    lines: &mut Lines,
    details: &mut Details,
) -> bool {
    let members = match read_members(text, index, details) {
        Some(members) => members,
        None => return false,
    };
    let mut checked = Checked {
        whole: text.trim_matches(JSON_SPACE),
        index,
        details,
        ok: true,
    };
    let visitor_id = checked.text("visitor_id", members.visitor_id, VISITOR_ID_CHARS);
    let name = checked.text("event", members.event, NAME_CHARS);
    let timestamp = checked.timestamp(members.timestamp, defaults);
    let metadata = checked.metadata(members.metadata);
    let user_agent = checked.user_agent(members.user_agent);
    if !checked.ok {
        return false;
    }
    let fields = Fields {
        visitor_id: Text::Decoded(visitor_id.trim()),
        name: Text::Decoded(name.trim()),
        timestamp,
        metadata: metadata.as_bytes(),
        breaks: true,
        user_agent: match &user_agent {
            Some(text) => Agent::Text(Text::Decoded(text)),
            None => Agent::Json(defaults.user_agent()),
        },
        exact: None,
    };
    match lines.push(&fields, line_bytes_max) {
        Ok(()) => true,
        Err(line_bytes) => {
            let msg = format!(
                "Event takes {line_bytes} bytes as a stored line, at most {line_bytes_max} are allowed"
            );
            let context = Context::Limit("max_bytes", line_bytes_max);
            details.push(index, "event_too_large", Place::Whole, &msg, "null", context);
            false
        }
    }
}

/// The white space of JSON.
pub(super) const JSON_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Takes the object apart; what is not one is an error.
fn read_members<'a>(text: &'a str, index: Option<u64>, details: &mut Details) -> Option<Members<'a>> {
    if let Some(at) = find_too_deep(text.as_bytes()) {
        let msg = format!("Nesting is deeper than {NESTING_MAX} levels");
        let context = Context::Limit("max_depth", NESTING_MAX);
        details.push(index, "nesting_too_deep", Place::Byte(at), &msg, "null", context);
        return None;
    }
    if !text.trim_start_matches(JSON_SPACE).starts_with('{') {
        match serde_json::from_str::<&RawValue>(text) {
            Ok(value) => details.push(
                index,
                "model_attributes_type",
                Place::Whole,
                "Input should be a valid dictionary or object to extract fields from",
                value.get(),
                Context::None,
            ),
            Err(error) => push_json_error(text, index, &error, details),
        }
        return None;
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json
        .deserialize_map(MembersVisitor)
        .and_then(|members| json.end().map(|()| members));
    match members {
        Err(error) => push_json_error(text, index, &error, details),
        Ok(members) => match find_lone_surrogate(text.as_bytes()) {
            Some(at) => details.push_invalid(index, at, "Lone surrogate escape: not a Unicode string"),
            None => return Some(members),
        },
    }
    None
}

/// Adds what `serde_json` found, with the byte it found it at.
fn push_json_error(text: &str, index: Option<u64>, error: &serde_json::Error, details: &mut Details) {
    details.push_invalid(index, byte_of_error(text, error), &words_of_error(error));
}

/// What `serde_json` says, less the line and column: the byte is in `loc`.
pub(super) fn words_of_error(error: &serde_json::Error) -> String {
    let words = error.to_string();
    match words.rfind(" at line ") {
        Some(end) => words[..end].to_owned(),
        None => words,
    }
}

/// The byte of `text` that an error's line and column name.
pub(super) fn byte_of_error(text: &str, error: &serde_json::Error) -> usize {
    let line_start = match error.line().saturating_sub(2) {
        _ if error.line() < 2 => 0,
        breaks_before => memchr::memchr_iter(b'\n', text.as_bytes())
            .nth(breaks_before)
            .map_or(0, |at| at + 1),
    };
    let at = line_start + error.column();
    // The column counts the byte that was wrong; at the end of the text there is none.
    if error.is_eof() {
        at.min(text.len())
    } else {
        at.saturating_sub(1).min(text.len())
    }
}

/// The fields of one event under validation.
struct Checked<'a, 'd> {
    /// The event as sent, which is the `input` of a missing member.
    whole: &'a str,
    index: Option<u64>,
    details: &'d mut Details,
    ok: bool,
}

impl<'a> Checked<'a, '_> {
    fn fail(&mut self, field: &'static str, kind: &str, msg: &str, input: &str, context: Context<'_>) {
        self.details
            .push(self.index, kind, Place::Field(field), msg, input, context);
        self.ok = false;
    }

    /// A required text of `min..=max` code points after trimming; given untrimmed.
    fn text(&mut self, field: &'static str, raw: Option<&RawValue>, (min, max): (usize, usize)) -> String {
        let Some(raw) = raw.map(RawValue::get) else {
            self.fail(field, "missing", "Field required", self.whole, Context::None);
            return String::new();
        };
        let Some(text) = self.string(field, raw) else {
            return String::new();
        };
        let chars = text.trim().chars().count();
        if chars < min {
            let msg = format!(
                "String should have at least {min} character{}",
                if min == 1 { "" } else { "s" }
            );
            self.fail(
                field,
                "string_too_short",
                &msg,
                raw,
                Context::Limit("min_length", min),
            );
        } else if chars > max {
            let msg = format!("String should have at most {max} characters");
            self.fail(
                field,
                "string_too_long",
                &msg,
                raw,
                Context::Limit("max_length", max),
            );
        }
        text
    }

    /// A member that must be a string.
    fn string(&mut self, field: &'static str, raw: &str) -> Option<String> {
        let text = raw
            .starts_with('"')
            .then(|| serde_json::from_str(raw).ok())
            .flatten();
        if text.is_none() {
            self.fail(
                field,
                "string_type",
                "Input should be a valid string",
                raw,
                Context::None,
            );
        }
        text
    }

    fn timestamp(&mut self, raw: Option<&RawValue>, defaults: &Defaults) -> StampText {
        const FIELD: &str = "timestamp";
        let Some(raw) = raw.map(RawValue::get) else {
            return defaults.now();
        };
        let parsed = match raw.as_bytes()[0] {
            b'"' => time::parse_text(&serde_json::from_str::<String>(raw).unwrap_or_default()),
            b'-' | b'0'..=b'9' => time::parse_number(raw),
            _ => {
                self.fail(
                    FIELD,
                    "datetime_type",
                    "Input should be a valid datetime",
                    raw,
                    Context::None,
                );
                return StampText::new(Timestamp { micros: 0 });
            }
        };
        let NotATime { kind, msg, error } = match parsed {
            Ok(timestamp) => return StampText::new(timestamp),
            Err(error) => error.into(),
        };
        self.fail(FIELD, kind, &msg, raw, Context::Error(&error));
        StampText::new(Timestamp { micros: 0 })
    }

    fn metadata(&mut self, raw: Option<&'a RawValue>) -> &'a str {
        let raw = raw.map_or("{}", RawValue::get);
        if !raw.starts_with('{') {
            self.fail(
                "metadata",
                "dict_type",
                "Input should be a valid dictionary",
                raw,
                Context::None,
            );
        }
        raw
    }

    /// `None` when the event does not say, or says `null` or nothing.
    fn user_agent(&mut self, raw: Option<&RawValue>) -> Option<String> {
        let raw = raw.map(RawValue::get).filter(|raw| *raw != "null")?;
        self.string("user_agent", raw).filter(|text| !text.is_empty())
    }
}

/// Where an object or list opens that is nested too deep. The text need not be JSON.
fn find_too_deep(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text[at] {
            b'"' => {
                // To the end of the string, or of the text: then the parser finds the rest wrong.
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Some(at);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where an escape stands that is half a surrogate pair. The text must be valid JSON: then a backslash
/// is only found in strings, and four digits follow each `\u`.
fn find_lone_surrogate(text: &[u8]) -> Option<usize> {
    let unit = |at: usize| match text.get(at..at + 6) {
        Some([b'\\', b'u', digits @ ..]) => std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u32::from_str_radix(digits, 16).ok()),
        _ => None,
    };
    let mut at = 0;
    while let Some(skip) = memchr::memchr(b'\\', &text[at..]) {
        at += skip;
        at += match unit(at) {
            None => 2,
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => return Some(at),
            Some(_) => 6,
        };
    }
    None
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Member, D::Error> {
        // Borrowed or not: a name with escapes in it is the name they spell.
        let name = Cow::<str>::deserialize(deserializer)?;
        Ok(Member::named(name.as_bytes()))
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
        let mut members = Members::default();
        while let Some(key) = map.next_key()? {
            let place = match key {
                Member::VisitorId => &mut members.visitor_id,
                Member::Event => &mut members.event,
                Member::Timestamp => &mut members.timestamp,
                Member::Metadata => &mut members.metadata,
                Member::UserAgent => &mut members.user_agent,
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *place = Some(map.next_value()?);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_nest() {
        assert_eq!(
            find_too_deep(&[b"\"".as_slice(), &[b'['; 500], b"\""].concat()),
            None
        );
        assert_eq!(
            find_too_deep(&[br#""\"#.as_slice(), b"\"", &[b'['; 500], b"\""].concat()),
            None
        );
        assert_eq!(find_too_deep(&[b'['; 128]), None);
        assert_eq!(find_too_deep(&[b'['; 129]), Some(128));
        assert_eq!(find_too_deep(b"\"\\"), None);
    }

    #[test]
    fn half_a_surrogate_pair_is_found_whatever_is_around_it() {
        assert_eq!(find_lone_surrogate(br#""\ud83d\ude00""#), None);
        assert_eq!(find_lone_surrogate(br#""\\ud83d""#), None);
        assert_eq!(find_lone_surrogate(br#""\ud83d""#), Some(1));
        assert_eq!(find_lone_surrogate(br#""a\uDE00\ud83d""#), Some(2));
        assert_eq!(find_lone_surrogate(br#""\ud83d\ud83d\ude00""#), Some(1));
        assert_eq!(find_lone_surrogate(br#""\u0041\n\ud83dx""#), Some(9));
    }

    #[test]
    fn an_error_is_placed_by_its_byte() {
        for (text, at) in [
            ("{\"a\":}", 5),
            ("{\n\"a\":\n}", 7),
            ("", 0),
            ("hello", 0),
            ("{\"a\":1}}", 7),
        ] {
            let error = serde_json::from_str::<&RawValue>(text).unwrap_err();
            assert_eq!(byte_of_error(text, &error), at, "{text:?}: {error}");
        }
    }
}
