//! What must hold for any input: the two paths agree, a batch is its events, and a line says what was sent.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::tests::compact;
use super::*;

const LINE_BYTES_MAX: usize = 4 << 10;
const NOW: Timestamp = Timestamp {
    micros: 1_700_000_000_123_456,
};
const AGENT: Option<&[u8]> = Some(b"agent/1.0 \xe9");

fn space() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just(String::new()), 1 => "[ \t]{1,3}", 1 => "[ \r\t]{1,2}"]
}

/// A JSON string, as text: characters as they are, and escapes of every kind.
fn string_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => "[a-z0-9_ .:/-]{1,12}",
        1 => "\\PC{1,3}".prop_map(|text| text.replace(['"', '\\'], "x")),
        1 => select(vec![r"\n", r#"\""#, r"\\", r"\/", r"\u0041", r"\u00e9", r"\ud83d\ude00", r"\u0000", r"\t", r"\uD800", r"\udc00x"])
            .prop_map(str::to_owned),
        1 => select(vec!["\u{a0}", "\u{2028}", "\u{3000}", "é", "漢", "😀", "}", "{", ",", "[", "]", ":"])
            .prop_map(str::to_owned),
    ];
    vec(part, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn number_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
    ]
}

/// Any JSON value, as text, with white space anywhere but line breaks.
fn value_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec!["null", "true", "false", "{}", "[]"]).prop_map(str::to_owned),
        number_text(),
        string_text(),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec((space(), inner.clone(), space()), 0..4).prop_map(list_text),
            object_of(inner)
        ]
    })
}

fn list_text(items: Vec<(String, String, String)>) -> String {
    let items: Vec<_> = items
        .into_iter()
        .map(|(before, item, after)| before + &item + &after)
        .collect();
    format!("[{}]", items.join(","))
}

fn object_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    vec((space(), string_text(), value), 0..4).prop_map(object_text)
}

fn object_text(members: Vec<(String, String, String)>) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(space, key, value)| format!("{space}{key}{space}:{space}{value}{space}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn timestamp_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "\"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,7})?Z\"",
        1 => "\"[0-9]{4}-(0[1-9]|1[0-2])-[0-3][0-9][T_ ][0-2][0-9]:[0-5][0-9](:[0-6][0-9])?([.,][0-9]{0,8})?(Z|[+-][0-9]{2}:?[0-9]{2})?\"",
        1 => "\"[0-9]{4}-[0-9]{2}-[0-9]{2}\"",
        1 => number_text(),
        1 => (-10_000_000_000_000_i64..300_000_000_000_000).prop_map(|number| number.to_string()),
        1 => string_text(),
    ]
}

/// Something like an event: mostly valid, its members in any order, some twice, some of no meaning.
fn event_text() -> impl Strategy<Value = String> {
    let metadata = object_of(value_text());
    let named = |name: &'static str, value: BoxedStrategy<String>| {
        let key = prop_oneof![
            12 => Just(format!("\"{name}\"")),
            1 => Just(format!("\"\\u{:04x}{}\"", name.as_bytes()[0], &name[1..])),
        ];
        (space(), key, prop_oneof![12 => value, 1 => value_text().boxed()])
    };
    let id = prop_oneof![4 => "\"[a-z0-9-]{6,64}\"", 1 => string_text(), 1 => "\"[ é漢😀a]{1,70}\""];
    let name = prop_oneof![4 => "\"[a-z_]{1,20}\"", 1 => string_text()];
    let agent = prop_oneof![Just("null".to_owned()), Just("\"\"".to_owned()), string_text()];
    let usual = (
        named("visitor_id", id.boxed()),
        named("event", name.boxed()),
        proptest::option::of(named("timestamp", timestamp_text().boxed())),
        proptest::option::of(named("metadata", metadata.boxed())),
        proptest::option::of(named("user_agent", agent.boxed())),
    );
    let other = vec((space(), string_text(), value_text()), 0..2);
    let again = proptest::option::weighted(0.1, any::<Index>());
    (usual, other, again)
        .prop_flat_map(|((id, name, timestamp, metadata, agent), other, again)| {
            let mut members = vec![id, name];
            members.extend(timestamp.into_iter().chain(metadata).chain(agent).chain(other));
            if let Some(again) = again {
                members.push(again.get(&members).clone());
            }
            Just(members).prop_shuffle()
        })
        .prop_map(object_text)
}

/// A change to some bytes of a text.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    /// The line break after this byte becomes a comma, and the comma after the other a line break.
    Trade(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![3 => select(b"{}[]:,\"\\ \n\r\t0123456789.-+eEntfu\0\x7f\x80\xc3\xff".to_vec()), 1 => any::<u8>()];
    prop_oneof![
        (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        (any::<Index>(), byte.clone()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<Index>().prop_map(Damage::Remove),
        any::<Index>().prop_map(Damage::Cut),
        any::<(Index, Index)>().prop_map(|(newline, comma)| Damage::Trade(newline, comma)),
    ]
}

fn damaged(text: String, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match damage {
            Damage::Flip(at, bit) => bytes[at.index(len)] ^= bit,
            Damage::Set(at, byte) => bytes[at.index(len)] = *byte,
            Damage::Insert(at, byte) => bytes.insert(at.index(len + 1), *byte),
            Damage::Remove(at) => drop(bytes.remove(at.index(len))),
            Damage::Cut(at) => bytes.truncate(at.index(len)),
            Damage::Trade(newline, comma) => {
                let after = |from: &Index, byte| {
                    let from = from.index(len);
                    memchr::memchr(byte, &bytes[from..]).map(|skip| from + skip)
                };
                let (newline, comma) = (after(newline, b'\n'), after(comma, b','));
                newline.into_iter().for_each(|at| bytes[at] = b',');
                comma.into_iter().for_each(|at| bytes[at] = b'\n');
            }
        }
    }
    bytes
}

/// The answer of the slow path, and its lines.
fn reference(body: &[u8]) -> (Result<(), Rejection>, Vec<u8>) {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    let mut lines = Lines::new();
    parser.defaults.set(AGENT, Some(NOW));
    let answer = parser.single_slow(body, &mut lines);
    (answer, lines.bytes().to_vec())
}

/// What a batch of lines must come to, by the slow path alone: lines, details, count of the rejected.
fn reference_of_lines(body: &[u8]) -> Option<(Vec<u8>, Vec<u8>, u64)> {
    let text = std::str::from_utf8(without_mark(body)).ok()?;
    let mut defaults = Defaults::new();
    defaults.set(AGENT, Some(NOW));
    let (mut lines, mut details, mut rejected) = (Lines::new(), Details::default(), 0);
    let events = text
        .split('\n')
        .map(|line| line.trim_matches(slow::JSON_SPACE))
        .filter(|line| !line.is_empty());
    for (index, event) in events.enumerate() {
        let valid = slow::event(
            event,
            Some(index as u64),
            &defaults,
            LINE_BYTES_MAX,
            &mut lines,
            &mut details,
        );
        rejected += u64::from(!valid);
    }
    Some((lines.bytes().to_vec(), details.finish(), rejected))
}

fn check_sums(lines: &Lines) {
    let total: u32 = lines.names().iter().map(|entry| entry.count).sum();
    assert_eq!(total as usize, lines.count());
    assert_eq!(memchr::memchr_iter(b'\n', lines.bytes()).count(), lines.count());
}

/// Checks a body of lines against the reference, with one parser that has seen other bodies.
fn check_lines(parser: &mut Parser, body: &[u8]) {
    if body.iter().find(|byte| !is_space(**byte)) == Some(&b'[') || body.is_empty() {
        return;
    }
    let mut lines = Lines::new();
    let partial = parser.partial_in_memory(body, AGENT, NOW, &mut lines);
    let mut all = Lines::new();
    let whole = parser.batch_in_memory(body, AGENT, NOW, &mut all);
    check_sums(&lines);
    check_sums(&all);
    let Some((expected, detail, count)) = reference_of_lines(body) else {
        assert_eq!(
            (partial, whole),
            (Err(Rejection::NotUtf8), Err(Rejection::NotUtf8))
        );
        assert!(lines.is_empty() && all.is_empty());
        return;
    };
    assert_eq!(lines.bytes(), expected);
    assert_eq!(
        partial,
        Ok(Rejected {
            count,
            detail: detail.clone()
        })
    );
    match count {
        0 => assert_eq!((whole, all.bytes()), (Ok(()), &expected[..])),
        _ => assert_eq!((whole, all.bytes()), (Err(Rejection::Invalid(detail)), &b""[..])),
    }
}

/// Text without the errors' indexes: of a list of one event, the same as of that event alone.
fn without_index(detail: &[u8]) -> String {
    String::from_utf8_lossy(detail).replace("[\"body\",0", "[\"body\"")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_paths_agree_on_events(event in event_text()) {
        let mut parser = Parser::new(LINE_BYTES_MAX);
        let mut lines = Lines::new();
        let answer = parser.single(event.as_bytes(), AGENT, NOW, &mut lines);
        let (expected, line) = reference(event.as_bytes());
        prop_assert_eq!(&answer, &expected);
        prop_assert_eq!(lines.bytes(), line);
    }

    #[test]
    fn both_paths_agree_on_damaged_events(event in event_text(), damages in vec(damage(), 1..4)) {
        let body = damaged(event, &damages);
        let mut parser = Parser::new(LINE_BYTES_MAX);
        let mut lines = Lines::new();
        let answer = parser.single(&body, AGENT, NOW, &mut lines);
        let (expected, line) = reference(&body);
        prop_assert_eq!(&answer, &expected, "{}", String::from_utf8_lossy(&body));
        prop_assert_eq!(lines.bytes(), line);
    }

    #[test]
    fn a_line_says_what_was_sent(event in event_text()) {
        let mut lines = Lines::new();
        if Parser::new(LINE_BYTES_MAX).single(event.as_bytes(), AGENT, NOW, &mut lines).is_ok() {
            check_meaning(&event, lines.bytes());
        }
    }

    #[test]
    fn both_readers_of_time_agree(text in timestamp_text()) {
        let text = text.trim_matches('"');
        if let Some(stamp) = time::canonical(text.as_bytes()) {
            let expected = time::parse_text(text).expect("a time");
            let expected = StampText::new(expected);
            prop_assert_eq!(stamp.as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn damaged_times_are_never_taken_for_canonical(
        text in "2[0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?Z",
        damages in vec(damage(), 1..3),
    ) {
        let bytes = damaged(text, &damages);
        if let Some(stamp) = time::canonical(&bytes) {
            let text = std::str::from_utf8(&bytes).expect("ASCII");
            let expected = StampText::new(time::parse_text(text).expect("a time"));
            prop_assert_eq!(stamp.as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn instants_are_written_as_speedate_writes_them(second in -62_135_596_800_i64..=253_402_300_799, micro in 0_i64..1_000_000) {
        let written = Timestamp { micros: second * 1_000_000 + micro }.to_string();
        let read = time::parse_text(&written).expect("a time");
        prop_assert_eq!(read.micros, second * 1_000_000 + micro);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_are_read_as_each_alone(
        events in vec((event_text(), select(vec!["\n", "\r\n", "\n\n", " \n\t\n "])), 0..80),
        damages in vec(damage(), 0..4),
    ) {
        let body: String = events.iter().map(|(event, end)| format!("{event}{end}")).collect();
        let mut parser = Parser::new(LINE_BYTES_MAX);
        check_lines(&mut parser, body.as_bytes());
        check_lines(&mut parser, &damaged(body, &damages));
    }

    #[test]
    fn an_array_is_read_as_its_lines(
        events in vec((event_text(), space()), 1..100),
        between in select(vec![",", "\n,", ", \r\n"]),
        damages in vec(damage(), 1..4),
    ) {
        let list: Vec<_> = events.iter().map(|(event, space)| format!("{space}{event}{space}")).collect();
        let array = format!("[{}]", list.join(between));
        let mut parser = Parser::new(LINE_BYTES_MAX);
        let (mut of_lines, mut of_array) = (Lines::new(), Lines::new());
        let expected = parser.partial_in_memory(list.join("\n").as_bytes(), AGENT, NOW, &mut of_lines);
        let answer = parser.partial_in_memory(array.as_bytes(), AGENT, NOW, &mut of_array);
        prop_assert_eq!(&answer, &expected);
        prop_assert_eq!(of_array.bytes(), of_lines.bytes());
        check_sums(&of_array);

        // A damaged array: refused as a whole when it is not JSON, else what its elements are.
        let array = damaged(array, &damages);
        of_array.clear();
        let answer = parser.partial_in_memory(&array, AGENT, NOW, &mut of_array);
        check_sums(&of_array);
        if array.iter().find(|byte| !is_space(**byte)) != Some(&b'[') {
            return Ok(());
        }
        let Ok(text) = std::str::from_utf8(&array) else {
            prop_assert_eq!(answer, Err(Rejection::NotUtf8));
            return Ok(());
        };
        match serde_json::from_str::<Vec<&serde_json::value::RawValue>>(text) {
            Err(_) => prop_assert!(matches!(answer, Err(Rejection::Invalid(_))), "{text}"),
            Ok(elements) => {
                let singles: Vec<_> = elements.iter().map(|element| reference(element.get().as_bytes())).collect();
                let lines: Vec<u8> = singles.iter().flat_map(|(_, line)| line.clone()).collect();
                prop_assert_eq!(of_array.bytes(), lines);
                let refused = singles.iter().filter(|(answer, _)| answer.is_err()).count() as u64;
                prop_assert_eq!(answer.map(|rejected| rejected.count), Ok(refused));
            }
        }
    }

    #[test]
    fn a_list_of_one_is_the_event(event in event_text()) {
        let mut parser = Parser::new(LINE_BYTES_MAX);
        let (mut of_one, mut of_list) = (Lines::new(), Lines::new());
        let one = parser.single(event.as_bytes(), AGENT, NOW, &mut of_one);
        let list = parser.batch_in_memory(format!("[{event}]").as_bytes(), AGENT, NOW, &mut of_list);
        prop_assert_eq!(of_one.bytes(), of_list.bytes());
        match (one, list) {
            (Err(Rejection::Invalid(one)), Err(Rejection::Invalid(list))) => {
                prop_assert_eq!(without_index(&list), without_index(&one));
            }
            (one, list) => prop_assert_eq!(one, list),
        }
    }
}

/// Checks a line against the event that was sent, with nothing of what wrote it.
fn check_meaning(event: &str, line: &[u8]) {
    let line = std::str::from_utf8(line)
        .expect("UTF-8")
        .strip_suffix('\n')
        .expect("a newline");
    assert!(!line.contains(['\n', '\r']));
    let sent: Vec<(String, String)> = members(event);
    let stored: Vec<(String, String)> = members(line);
    let keys: Vec<_> = stored.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        ["visitor_id", "event", "timestamp", "metadata", "user_agent"]
    );
    let last = |key: &str| {
        sent.iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    };
    let text = |json: &str| serde_json::from_str::<String>(json).expect("a string");
    assert_eq!(text(&stored[0].1), text(last("visitor_id").unwrap()).trim());
    assert_eq!(text(&stored[1].1), text(last("event").unwrap()).trim());
    assert_eq!(compact(&stored[3].1), compact(last("metadata").unwrap_or("{}")));
    let agent = last("user_agent").filter(|json| !matches!(*json, "null" | "\"\""));
    assert_eq!(text(&stored[4].1), agent.map_or("agent/1.0 é".to_owned(), text));
    if last("timestamp").is_none() {
        assert_eq!(text(&stored[2].1), NOW.to_string());
    }
    assert_eq!(
        serde_json::from_str::<Value>(&stored[0].1)
            .unwrap()
            .as_str()
            .unwrap()
            .trim(),
        text(&stored[0].1)
    );
}

/// The members of an object, in order, each value as its text.
fn members(object: &str) -> Vec<(String, String)> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: serde::de::MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, Box<serde_json::value::RawValue>>()? {
                members.push((key, value.get().to_owned()));
            }
            Ok(members)
        }
    }
    use serde::Deserializer;
    let mut json = serde_json::Deserializer::from_str(object);
    json.deserialize_map(Members).expect("an object")
}
