//! Whether a line is what a line of the log must be.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::event::Timestamp;

/// A line as it may be.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event.
    Event {
        /// Its number, where the line has one.
        seq: Option<u64>,
    },
    /// What a power cut left of one, marked as such.
    Torn,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the line before it, as near as can be told.
    pub column: usize,
    /// A clause.
    pub what: String,
}

/// The keys of an event, in their order; `seq` may come before them, and in the log of a whole fleet `node` and `at` come behind.
const KEYS: [&str; 5] = ["visitor_id", "event", "timestamp", "metadata", "user_agent"];

/// Checks a line, which comes without its newline. White space between its tokens is allowed: other programs write some.
///
/// # Errors
/// What is wrong with it.
pub fn check(line: &[u8]) -> Result<Kind, Fault> {
    match event(line) {
        Ok(seq) => Ok(Kind::Event { seq }),
        Err(_) if is_torn(line) => Ok(Kind::Torn),
        Err(fault) => Err(fault),
    }
}

fn event(line: &[u8]) -> Result<Option<u64>, Fault> {
    let text = std::str::from_utf8(line).map_err(|error| Fault {
        column: error.valid_up_to(),
        what: "it is not UTF-8".into(),
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let checked = json.deserialize_map(EventVisitor);
    let checked = checked.and_then(|seq| json.end().map(|()| seq));
    checked.map_err(|error| {
        let column = error.column().saturating_sub(1);
        let mut what = error.to_string();
        if let Some(at) = what.rfind(" at line ") {
            what.truncate(at);
        }
        Fault { column, what }
    })
}

#[cold]
fn is_torn(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else {
        return false;
    };
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(TornVisitor).unwrap_or(false) && json.end().is_ok()
}

/// Reads an event, key by key, without keeping any of it.
struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Option<u64>, M::Error> {
        let mut seq = None;
        let mut next = map.next_key_seed(KeyIs("visitor_id", Some("seq")))?;
        if next == Some(true) {
            seq = Some(map.next_value()?);
            next = map.next_key_seed(KeyIs("visitor_id", None))?;
        }
        for (at, key) in KEYS.iter().enumerate() {
            if next.is_none() {
                return Err(M::Error::custom(format_args!("the key {key:?} is missing")));
            }
            match *key {
                "timestamp" => map.next_value_seed(Text(|text: &str| match Timestamp::parse(text) {
                    Some(_) => Ok(()),
                    None => Err("the timestamp is none"),
                }))?,
                "metadata" => map.next_value_seed(Object)?,
                "user_agent" => map.next_value_seed(TextOrNull)?,
                _ => map.next_value_seed(Text(|_: &str| Ok::<(), &str>(())))?,
            }
            next = match KEYS.get(at + 1) {
                Some(key) => map.next_key_seed(KeyIs(key, None))?,
                None => map.next_key_seed(NodeOrNone)?.map(|()| false),
            };
        }
        if next.is_some() {
            map.next_value_seed(Text(|_: &str| Ok::<(), &str>(())))?;
            if map.next_key_seed(KeyIs("at", None))?.is_none() {
                return Err(M::Error::custom("the key \"at\" is missing"));
            }
            map.next_value_seed(Text(|_: &str| Ok::<(), &str>(())))?;
            map.next_key_seed(NoKey)?;
        }
        Ok(seq)
    }
}

/// A key that must be the first of the two, or may be the second; whether it was the second.
struct KeyIs(&'static str, Option<&'static str>);

impl<'de> DeserializeSeed<'de> for KeyIs {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key {:?}", self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        if text == self.0 {
            Ok(false)
        } else if Some(text) == self.1 {
            Ok(true)
        } else {
            Err(E::custom(format_args!(
                "the key {text:?} is where {:?} must be",
                self.0
            )))
        }
    }
}

/// Where no key may be but `node`.
struct NodeOrNone;

impl<'de> DeserializeSeed<'de> for NodeOrNone {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(Text(|text: &str| match text {
            "node" => Ok(()),
            _ => Err(format!("the key {text:?} is one too many")),
        }))
    }
}

/// Where no key may be.
struct NoKey;

impl<'de> DeserializeSeed<'de> for NoKey {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(Text(|text: &str| {
            Err(format!("the key {text:?} is one too many"))
        }))
    }
}

/// A string that passes a check.
struct Text<C>(C);

impl<'de, C: FnOnce(&str) -> Result<(), W>, W: fmt::Display> DeserializeSeed<'de> for Text<C> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<C: FnOnce(&str) -> Result<(), W>, W: fmt::Display> Visitor<'_> for Text<C> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// A string or `null`.
struct TextOrNull;

impl<'de> DeserializeSeed<'de> for TextOrNull {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for TextOrNull {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// An object, whatever is in it: no number is read and nothing recursed into.
struct Object;

impl<'de> DeserializeSeed<'de> for Object {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Whether an object is marked torn.
struct TornVisitor;

impl<'de> Visitor<'de> for TornVisitor {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<bool, M::Error> {
        let mut is_torn = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "torn" {
                is_torn = map.next_value::<bool>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(is_torn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = r#"{"visitor_id":"visitor-1","event":"view","timestamp":"2025-10-09T12:34:56Z","metadata":{"a":[1e400,{"b":null}]},"user_agent":null}"#;

    #[test]
    fn lines_of_ours_and_of_the_python_service_are_events() {
        let event = |seq| Ok(Kind::Event { seq });
        assert_eq!(check(OURS.as_bytes()), event(None));
        assert_eq!(
            check(OURS.replacen('{', r#"{"seq":17,"#, 1).as_bytes()),
            event(Some(17))
        );
        let spaced = r#" {"visitor_id": "visitor-1", "event": "vi\u00e9w", "timestamp": "2025-10-09T12:34:56.123456+00:00", "metadata": {"a": 1}, "user_agent": "curl"} "#;
        assert_eq!(check(spaced.as_bytes()), event(None));
        let deep = OURS.replace(
            "null}]",
            &format!("{}{}}}]", "[".repeat(100_000), "]".repeat(100_000)),
        );
        assert_eq!(check(deep.as_bytes()), event(None));
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        for (from, to, column, what) in [
            (OURS, "", 0, "EOF while parsing a value"),
            (OURS, "[]", 0, "invalid type: sequence, expected an object"),
            (OURS, "null", 0, "invalid type: null, expected an object"),
            (r#"t":null}"#, r#"t":null"#, 127, "EOF while parsing an object"),
            (r#"t":null}"#, r#"t":null}}"#, 128, "trailing characters"),
            (
                r#""event""#,
                r#""evant""#,
                33,
                r#"the key "evant" is where "event" must be"#,
            ),
            (
                r#""event":"view","#,
                "",
                37,
                r#"the key "timestamp" is where "event" must be"#,
            ),
            (
                r#","user_agent":null"#,
                "",
                109,
                r#"the key "user_agent" is missing"#,
            ),
            (
                r#"t":null}"#,
                r#"t":null,"more":1}"#,
                133,
                r#"the key "more" is one too many"#,
            ),
            (
                r#"t":null}"#,
                r#"t":1}"#,
                124,
                "invalid type: integer `1`, expected a string or null",
            ),
            (
                r#""view""#,
                "7",
                35,
                "invalid type: integer `7`, expected a string",
            ),
            (
                r#"{"a":[1e400,{"b":null}]}"#,
                "[]",
                85,
                "invalid type: sequence, expected an object",
            ),
            (r#"{"b":null}"#, r#"{"b":nul}"#, 106, "expected ident"),
            ("2025-10-09T", "2025-13-09T", 72, "the timestamp is none"),
            (
                "view",
                "vi\u{0}w",
                37,
                "control character (\\u0000-\\u001F) found while parsing a string",
            ),
            (
                "{\"visitor_id\"",
                "{\"seq\":\"1\",\"visitor_id\"",
                9,
                "invalid type: string \"1\", expected u64",
            ),
            (
                "\"event\"",
                "\"seq\":1,\"event\"",
                31,
                r#"the key "seq" is where "event" must be"#,
            ),
        ] {
            let line = OURS.replacen(from, to, 1);
            let fault = check(line.as_bytes()).expect_err(&line);
            assert_eq!((fault.what.as_str(), &line), (what, &line));
            assert!(fault.column.abs_diff(column) <= 3, "{fault:?}: {line}");
        }
        let mut broken = OURS.as_bytes().to_vec();
        broken[16] = 0xFF;
        let what = "it is not UTF-8".to_owned();
        assert_eq!(check(&broken), Err(Fault { column: 16, what }));
    }

    #[test]
    fn a_line_marked_torn_is_no_event_and_no_fault() {
        for cut in 1..OURS.len() {
            let mut line = OURS.as_bytes()[..cut].to_vec();
            line.extend(crate::log::torn::closing(&line));
            line.pop();
            assert_eq!(check(&line), Ok(Kind::Torn), "{}", String::from_utf8_lossy(&line));
        }
        for line in [
            r#"{"torn":false}"#,
            r#"{"torn":true"#,
            r#"["torn",true]"#,
            r#"{"a":{"torn":true}}"#,
        ] {
            assert!(check(line.as_bytes()).is_err(), "{line}");
        }
    }
}
