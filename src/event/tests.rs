//! The contract's examples, and single cases worth a name.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use base64::Engine;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::batch::WINDOW_BYTES;
use super::*;

const LINE_BYTES_MAX: usize = 32 << 10;
const NOW: Timestamp = Timestamp {
    micros: 1_700_000_000_123_456,
};

/// One line of `tests/vectors/events.jsonl`; see the README there.
#[derive(Deserialize)]
struct Vector {
    name: String,
    request: Request,
    expect: Expect,
    stored: Option<Stored>,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_b64: Option<String>,
}

#[derive(Deserialize)]
struct Expect {
    status: Value,
    compare: String,
    body: Option<Value>,
}

#[derive(Deserialize)]
struct Stored {
    visitor_id: Option<String>,
    event: Option<String>,
    timestamp: Option<String>,
    metadata_text: Option<String>,
    #[serde(default, deserialize_with = "some_value")]
    user_agent: Option<Value>,
}

/// A `null` that is there is a value.
fn some_value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct StoredLine<'a> {
    visitor_id: String,
    event: String,
    timestamp: String,
    #[serde(borrow)]
    metadata: &'a RawValue,
    user_agent: Option<String>,
}

fn vectors() -> impl Iterator<Item = Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/events.jsonl");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let vectors: Vec<Vector> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a vector"))
        .collect();
    vectors.into_iter().filter(|vector| {
        let request = &vector.request;
        let ours = request.method == "POST" && request.path == "/api/metrics/event";
        ours && !request.headers.contains_key("content-encoding")
    })
}

impl Request {
    fn bytes(&self) -> Vec<u8> {
        match (&self.body, &self.body_b64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(base64)) => base64::prelude::BASE64_STANDARD.decode(base64).expect("base64"),
            (None, None) => Vec::new(),
        }
    }

    fn agent(&self) -> Option<Vec<u8>> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("user-agent"))?;
        Some(
            value
                .chars()
                .map(|char| u8::try_from(char as u32).expect("Latin-1"))
                .collect(),
        )
    }
}

/// JSON text without the white space outside strings.
pub(super) fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|&char| {
            if in_string {
                in_string = escaped || char != '"';
                escaped = char == '\\' && !escaped;
                return true;
            }
            in_string = char == '"';
            !matches!(char, ' ' | '\t' | '\r' | '\n')
        })
        .collect()
}

fn check_line(vector: &Vector, line: &[u8]) {
    let name = &vector.name;
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "{name}");
    let text = std::str::from_utf8(line)
        .expect("UTF-8")
        .strip_suffix('\n')
        .expect("a newline");
    let Some(expected) = &vector.stored else { return };
    let stored: StoredLine<'_> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    if let Some(expected) = &expected.visitor_id {
        assert_eq!(&stored.visitor_id, expected, "{name}");
    }
    if let Some(expected) = &expected.event {
        assert_eq!(&stored.event, expected, "{name}");
        let stored = facts_of_line(line).expect("a name").name;
        assert_eq!(
            serde_json::from_str::<String>(&format!("\"{}\"", std::str::from_utf8(&stored).unwrap()))
                .unwrap(),
            *expected
        );
    }
    if let Some(expected) = &expected.user_agent {
        assert_eq!(
            stored.user_agent.map_or(Value::Null, Value::String),
            *expected,
            "{name}"
        );
    }
    match expected.timestamp.as_deref() {
        None => {}
        Some("now") => assert_eq!(stored.timestamp, NOW.to_string(), "{name}"),
        Some(expected) => {
            assert!(stored.timestamp.ends_with('Z'));
            let instant = |text: &str| time::parse_text(text).expect("a time").micros;
            assert_eq!(instant(&stored.timestamp), instant(expected), "{name}");
        }
    }
    if let Some(expected) = &expected.metadata_text {
        assert_eq!(compact(stored.metadata.get()), compact(expected), "{name}");
    }
}

fn check_refusal(vector: &Vector, status: u64, detail: &[u8]) {
    let name = &vector.name;
    if status == 400 {
        return;
    }
    let errors: Vec<BTreeMap<String, Box<RawValue>>> =
        serde_json::from_slice(detail).unwrap_or_else(|error| panic!("{name}: {error}: {detail:?}"));
    for error in &errors {
        assert!(
            ["type", "loc", "msg", "input"]
                .iter()
                .all(|key| error.contains_key(*key)),
            "{name}"
        );
    }
    let Some(expected) = vector
        .expect
        .body
        .as_ref()
        .map(|body| body["detail"].as_array().expect("a list"))
    else {
        return;
    };
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).expect("JSON");
    match vector.expect.compare.as_str() {
        "full" => {
            let got: Vec<BTreeMap<String, Value>> = errors
                .iter()
                .map(|error| error.iter().map(|(key, raw)| (key.clone(), value(raw))).collect())
                .collect();
            assert_eq!(
                serde_json::to_value(got).unwrap(),
                Value::Array(expected.clone()),
                "{name}"
            );
        }
        "type+loc" => {
            assert_eq!(errors.len(), expected.len(), "{name}");
            for (error, expected) in errors.iter().zip(expected) {
                assert_eq!(
                    (value(&error["type"]), value(&error["loc"])),
                    (expected["type"].clone(), expected["loc"].clone()),
                    "{name}"
                );
            }
        }
        "status+type" => {
            assert_eq!(value(&errors[0]["type"]), expected[0]["type"], "{name}");
            assert_eq!(value(&errors[0]["loc"])[0], expected[0]["loc"][0], "{name}");
        }
        "status" => {}
        other => panic!("{name}: compare {other}"),
    }
}

fn play(vector: &Vector, read: impl FnOnce(&[u8], Option<&[u8]>, &mut Lines) -> Result<(), Rejection>) {
    let mut lines = Lines::new();
    let answer = read(
        &vector.request.bytes(),
        vector.request.agent().as_deref(),
        &mut lines,
    );
    let (status, detail) = match &answer {
        Ok(()) => (202, &[][..]),
        Err(Rejection::NotUtf8) => (400, &[][..]),
        Err(Rejection::Invalid(detail)) => (422, &detail[..]),
        Err(Rejection::TooLarge) => (413, &[][..]),
        Err(Rejection::NoRoom) => (503, &[][..]),
    };
    let allowed = match &vector.expect.status {
        Value::Array(any) => any.contains(&status.into()),
        one => *one == status,
    };
    assert!(
        allowed,
        "{}: {status}, {}",
        vector.name,
        String::from_utf8_lossy(detail)
    );
    if status == 202 {
        assert_eq!((lines.count(), lines.names().len()), (1, 1));
        check_line(vector, lines.bytes());
    } else {
        assert!(lines.is_empty() && lines.bytes().is_empty() && lines.names().is_empty());
        check_refusal(vector, status, detail);
    }
}

#[test]
fn every_example_of_the_contract_is_answered_as_it_says() {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    let mut count = 0;
    for vector in vectors() {
        play(&vector, |body, agent, lines| {
            parser.single(body, agent, NOW, lines)
        });
        count += 1;
    }
    assert!(count > 150, "{count} examples");
}

#[test]
fn the_slow_path_alone_answers_every_example() {
    for vector in vectors() {
        let mut parser = Parser::new(LINE_BYTES_MAX);
        play(&vector, |body, agent, lines| {
            parser.defaults.set(agent, Some(NOW));
            parser.single_slow(body, lines)
        });
    }
}

/// All, or the valid ones, of which nothing is handed on before the end.
fn take(partial: bool) -> Take<'static> {
    match partial {
        false => Take::All,
        true => Take::Valid {
            part_bytes: usize::MAX,
            part: Box::leak(Box::new(|_: &mut Lines| {
                panic!("this is too short to be handed on")
            })),
        },
    }
}

/// Room without a bound.
fn room(gathered: &mut Vec<u8>) -> Room<'_> {
    Room {
        gathered,
        keep: Box::leak(Box::new(|_| true)),
    }
}

impl Parser {
    /// Reads a batch that is in memory, and again as it would come in pieces: the answers must be the same.
    pub(super) fn whole(
        &mut self,
        body: &[u8],
        agent: Option<&[u8]>,
        now: Timestamp,
        partial: bool,
        lines: &mut Lines,
    ) -> Result<Rejected, Rejection> {
        let mut gathered = Vec::new();
        let before = (lines.bytes().to_vec(), lines.names().to_vec());
        let start = lines.bytes().len();
        let answer = self.batch(
            body,
            (agent, Some(now)),
            take(partial),
            room(&mut gathered),
            lines,
        );
        let answer = answer.expect("memory can be read");
        for piece in [1, 3, 50, WINDOW_BYTES + 1] {
            if body.len() > 1_000_000 / (piece + 1) {
                continue;
            }
            let mut in_pieces = Lines::new();
            let pieces = BufReader::with_capacity(piece, body);
            let again = self.batch(
                pieces,
                (agent, Some(now)),
                take(partial),
                room(&mut gathered),
                &mut in_pieces,
            );
            assert_eq!(again.expect("memory can be read"), answer, "in pieces of {piece}");
            assert_eq!(in_pieces.bytes(), &lines.bytes()[start..], "in pieces of {piece}");
        }
        if answer.is_err() {
            assert_eq!((lines.bytes(), lines.names()), (&before.0[..], &before.1[..]));
        }
        answer
    }

    pub(super) fn batch_in_memory(
        &mut self,
        body: &[u8],
        agent: Option<&[u8]>,
        now: Timestamp,
        lines: &mut Lines,
    ) -> Result<(), Rejection> {
        self.whole(body, agent, now, false, lines).map(|_| ())
    }

    pub(super) fn partial_in_memory(
        &mut self,
        body: &[u8],
        agent: Option<&[u8]>,
        now: Timestamp,
        lines: &mut Lines,
    ) -> Result<Rejected, Rejection> {
        self.whole(body, agent, now, true, lines)
    }
}

/// A body that fails where it is cut off.
struct CutOff<'a>(&'a [u8]);

impl Read for CutOff<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.0.read(to)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn of_a_body_that_is_cut_off_nothing_is_taken() {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    let mut lines = Lines::new();
    parser.single(EVENT.as_bytes(), None, NOW, &mut lines).unwrap();
    let (bytes, names) = (lines.bytes().to_vec(), lines.names().to_vec());
    for body in [
        String::new(),
        format!("{EVENT}\n").repeat(3),
        format!("[{EVENT},{EVENT}"),
        " ".into(),
    ] {
        for partial in [false, true] {
            let body = BufReader::with_capacity(20, CutOff(body.as_bytes()));
            let answer = parser.batch(
                body,
                (None, Some(NOW)),
                take(partial),
                room(&mut Vec::new()),
                &mut lines,
            );
            assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!((lines.bytes(), lines.names()), (&bytes[..], &names[..]));
        }
    }
}

#[test]
fn every_stored_example_is_the_same_in_a_batch() {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    for vector in vectors().filter(|vector| vector.expect.status == 202) {
        let array = |body: &[u8]| [b"[", body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body), b"]"].concat();
        play(&vector, |body, agent, lines| {
            parser.batch_in_memory(&array(body), agent, NOW, lines)
        });
        if !vector.request.bytes().contains(&b'\n') {
            play(&vector, |body, agent, lines| {
                parser.batch_in_memory(body, agent, NOW, lines)
            });
        }
    }
}

const EVENT: &str = r#"{"visitor_id":"visitor-1","event":"view"}"#;

fn batch(body: &str) -> Result<String, Rejection> {
    let mut lines = Lines::new();
    let answer = Parser::new(LINE_BYTES_MAX).batch_in_memory(body.as_bytes(), None, NOW, &mut lines);
    answer.map(|()| String::from_utf8(lines.bytes().to_vec()).unwrap())
}

fn detail(answer: Result<impl std::fmt::Debug, Rejection>) -> Value {
    match answer {
        Err(Rejection::Invalid(detail)) => serde_json::from_slice(&detail).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_batch_of_nothing_is_fine_and_no_bytes_are_not() {
    for body in ["[]", " [ ] ", "\u{feff}[]", "\n\r\n \t\n", " "] {
        assert_eq!(batch(body), Ok(String::new()), "{body:?}");
    }
    assert_eq!(detail(batch(""))[0]["type"], "missing");
}

#[test]
fn a_broken_array_is_refused_as_a_whole() {
    for (body, at) in [
        ("[".to_owned(), 1),
        (format!("[{EVENT},]"), 43),
        (format!("[,{EVENT}]"), 1),
        (format!("[{EVENT} {EVENT}]"), 43),
        (format!("[{EVENT}]x"), 43),
        (format!("[{EVENT}"), 42),
        (format!("[{{}},{EVENT},"), 46),
        (format!("[{EVENT}}}]"), 42),
    ] {
        let expected = serde_json::json!(["body", at]);
        let detail = detail(batch(&body));
        assert_eq!(
            (&detail[0]["type"], &detail[0]["loc"]),
            (&"json_invalid".into(), &expected),
            "{body}"
        );
        assert_eq!(detail.as_array().unwrap().len(), 1);
        let mut lines = Lines::new();
        let partial = Parser::new(LINE_BYTES_MAX).partial_in_memory(body.as_bytes(), None, NOW, &mut lines);
        assert!(matches!(partial, Err(Rejection::Invalid(_))) && lines.is_empty());
    }
}

#[test]
fn lines_are_whole_events_however_they_might_be_joined() {
    for (body, wrong) in [
        (
            "{\"visitor_id\":\"visitor-1\"\n\"event\":\"view\"}".to_owned(),
            vec![0, 1],
        ),
        (format!("{{\"a\":[{EVENT}\n{EVENT}]}}"), vec![0, 1]),
        (format!("{EVENT},{EVENT}\n\n"), vec![0]),
        (format!("{EVENT},\n{EVENT}"), vec![0]),
        (format!("{EVENT}\n,{EVENT}"), vec![1]),
        (format!("{EVENT}]\n[{EVENT}"), vec![0, 1]),
        (
            "{\"visitor_id\":\"visit\n{\",\"event\":\"view\"}".to_owned(),
            vec![0, 1],
        ),
        (format!("{EVENT}\n1\n{EVENT}"), vec![1]),
    ] {
        let detail = detail(batch(&body));
        let mut indexes: Vec<_> = detail
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["loc"][1].as_u64().unwrap())
            .collect();
        indexes.dedup();
        assert_eq!(indexes, wrong, "{body}: {detail}");
    }
}

#[test]
fn a_partial_batch_keeps_the_valid_events_and_counts_the_others() {
    let body = format!("{EVENT}\n\n{{}}\r\nnonsense\n{EVENT}\r\n");
    let mut lines = Lines::new();
    let rejected = Parser::new(LINE_BYTES_MAX)
        .partial_in_memory(body.as_bytes(), None, NOW, &mut lines)
        .unwrap();
    assert_eq!((rejected.count, lines.count()), (2, 2));
    let detail: Value = serde_json::from_slice(&rejected.detail).unwrap();
    let locs: Vec<_> = detail
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["loc"].to_string())
        .collect();
    assert_eq!(
        locs,
        [
            r#"["body",1,"visitor_id"]"#,
            r#"["body",1,"event"]"#,
            r#"["body",2,1]"#
        ]
    );
    let none = Parser::new(LINE_BYTES_MAX)
        .partial_in_memory(EVENT.as_bytes(), None, NOW, &mut lines)
        .unwrap();
    assert_eq!(
        none,
        Rejected {
            count: 0,
            detail: b"[]".to_vec()
        }
    );
}

#[test]
fn a_refused_batch_leaves_the_lines_as_they_were() {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    let mut lines = Lines::new();
    parser.single(EVENT.as_bytes(), None, NOW, &mut lines).unwrap();
    let (bytes, names) = (lines.bytes().to_vec(), lines.names().to_vec());
    for bad in [
        "{}",
        "\u{1}",
        "{\"visitor_id\":\"visitor-1\",\"event\":\"other\",\"metadata\":1}",
    ] {
        let body = format!("{EVENT}\n{EVENT}\n{bad}\n{EVENT}");
        assert!(matches!(
            parser.batch_in_memory(body.as_bytes(), None, NOW, &mut lines),
            Err(Rejection::Invalid(_))
        ));
        let body = [body.as_bytes(), b"\n\xff"].concat();
        assert_eq!(
            parser.batch_in_memory(&body, None, NOW, &mut lines),
            Err(Rejection::NotUtf8)
        );
        assert_eq!(
            parser.partial_in_memory(&body, None, NOW, &mut lines),
            Err(Rejection::NotUtf8)
        );
        assert_eq!(
            (lines.bytes(), lines.names(), lines.count()),
            (&bytes[..], &names[..], 1)
        );
    }
}

#[test]
fn details_end_at_a_hundred_and_at_a_size() {
    let body = "{}\n".repeat(1_000);
    assert_eq!(detail(batch(&body)).as_array().unwrap().len(), DETAILS_MAX);
    // Two errors an event, each showing the whole of it.
    let long = format!("{{\"x\":\"{}\"}}\n", "x".repeat(30_000)).repeat(50);
    let shown = detail(batch(&long)).as_array().unwrap().len();
    assert_eq!(shown, (1 << 20) / 30_000 + 1);
    let longer = format!("{{\"x\":\"{}\"}}", "x".repeat(600_000));
    assert_eq!(detail(batch(&longer))[0]["input"], Value::Null);
    let mut lines = Lines::new();
    let rejected = Parser::new(LINE_BYTES_MAX)
        .partial_in_memory(body.as_bytes(), None, NOW, &mut lines)
        .unwrap();
    assert_eq!(rejected.count, 1_000);
}

#[test]
fn a_line_may_have_exactly_its_bound() {
    let event = |pad: usize| {
        format!(
            "{{\"visitor_id\":\"visitor-1\",\"event\":\"x\",\"metadata\":{{\"a\":\"{}\"}}}}",
            "a".repeat(pad)
        )
    };
    let mut lines = Lines::new();
    Parser::new(LINE_BYTES_MAX)
        .single(event(0).as_bytes(), None, NOW, &mut lines)
        .unwrap();
    let room = 1_000 - lines.bytes().len();
    let mut parser = Parser::new(1_000);
    lines.clear();
    parser
        .single(event(room).as_bytes(), None, NOW, &mut lines)
        .unwrap();
    assert_eq!(lines.bytes().len(), 1_000);
    for pad in [room + 1, 2_000, 200_000] {
        let detail = detail(parser.single(event(pad).as_bytes(), None, NOW, &mut lines));
        assert_eq!(detail[0]["type"], "event_too_large");
        assert!(
            detail[0]["msg"]
                .as_str()
                .unwrap()
                .contains(&(1_000 - room + pad).to_string())
        );
    }
    assert_eq!(lines.count(), 1);
    // Line breaks do not count: they are not stored.
    let broken = event(room).replace("{\"a\"", &format!("{{{}\"a\"", "\r\n".repeat(3_000)));
    parser.single(broken.as_bytes(), None, NOW, &mut lines).unwrap();
    assert_eq!(lines.bytes()[..1_000], lines.bytes()[1_000..]);
}

#[test]
fn nesting_is_bounded_and_harmless() {
    let mut parser = Parser::new(1 << 20);
    let mut lines = Lines::new();
    for (depth, fits) in [
        (10, true),
        (127, true),
        (128, true),
        (129, false),
        (100_000, false),
    ] {
        for (open, close, rest) in [("[", "]", ""), ("{\"a\":", "}", "1")] {
            // The event and its metadata are two of the levels.
            let inner = [&open.repeat(depth - 2), rest, &close.repeat(depth - 2)].concat();
            let event =
                format!("{{\"visitor_id\":\"visitor-1\",\"event\":\"x\",\"metadata\":{{\"a\":{inner}}}}}");
            for body in [event.clone(), format!("[{event}]"), format!("{event}\n{EVENT}")] {
                let answer = match body == event {
                    true => parser.single(body.as_bytes(), None, NOW, &mut lines),
                    false => parser.batch_in_memory(body.as_bytes(), None, NOW, &mut lines),
                };
                match fits {
                    true => assert_eq!(answer, Ok(()), "{depth}"),
                    false => assert_eq!(detail(answer)[0]["type"], "nesting_too_deep", "{depth}"),
                }
            }
        }
        for broken in ["[", "{\"a\":", "{", "[{\"a\":["] {
            let body = broken.repeat(depth);
            assert!(parser.single(body.as_bytes(), None, NOW, &mut lines).is_err());
            assert!(
                parser
                    .batch_in_memory(body.as_bytes(), None, NOW, &mut lines)
                    .is_err()
            );
            assert!(
                parser
                    .partial_in_memory(format!("[{body}").as_bytes(), None, NOW, &mut lines)
                    .is_err()
            );
        }
    }
}

#[test]
fn names_are_counted_as_they_are_stored() {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    let mut lines = Lines::new();
    let event = |name: &str| format!("{{\"visitor_id\":\"visitor-1\",\"event\":\"{name}\"}}\n");
    for name in ["view", " vi\\u0065w ", "a\\\"b", "é", "view"] {
        parser
            .single(event(name).as_bytes(), None, NOW, &mut lines)
            .unwrap();
    }
    let many: String = (0..30).map(|i| event(&format!("name {}", i % 15))).collect();
    parser
        .batch_in_memory(many.as_bytes(), None, NOW, &mut lines)
        .unwrap();
    let mut counts = BTreeMap::new();
    for entry in lines.names() {
        *counts.entry(lines.name(entry).to_vec()).or_insert(0) += entry.count;
    }
    let mut expected = BTreeMap::from([(b"view".to_vec(), 3), (b"a\\\"b".to_vec(), 1), ("é".into(), 1)]);
    expected.extend((0..15).map(|i| (format!("name {i}").into_bytes(), 2)));
    assert_eq!(counts, expected);
    assert_eq!(lines.count(), 35);
    for line in lines.bytes().split_inclusive(|byte| *byte == b'\n') {
        assert!(counts.contains_key(&*facts_of_line(line).unwrap().name));
    }
}

#[test]
fn the_name_is_found_in_lines_of_other_programs() {
    let name = |line: &str| {
        facts_of_line(line.as_bytes()).map(|facts| String::from_utf8(facts.name.into_owned()).unwrap())
    };
    let tail = r#""timestamp":"2025-01-01T00:00:00Z","metadata":{},"user_agent":null}"#;
    for (line, expected) in [
        (
            format!(r#"{{"visitor_id":"a\"\\","event":"vi\"ew",{tail}"#),
            Some(r#"vi\"ew"#),
        ),
        (
            format!("{{\"seq\":12,\"visitor_id\":\"abcdef\",\"event\":\"view\",{tail}\n"),
            Some("view"),
        ),
        (
            format!(r#"{{"visitor_id":"abcdef","event":"\u0041\n",{tail}"#),
            Some(r"A\n"),
        ),
        (
            r#"{"visitor_id": "abcdef", "event": "\u00e9\ud83d\ude00\u0001", "x": 1}"#.to_owned(),
            Some(r"é😀\u0001"),
        ),
        (
            r#"{"metadata": {"event": "no"}, "event": "yes"}"#.to_owned(),
            Some("yes"),
        ),
        (
            format!(r#"{{"visitor_id":"abcdef","event":"view","torn":true,{tail}"#),
            None,
        ),
        (
            format!(
                r#"{{"visitor_id":"abcdef","event":"view",{}"#,
                tail.replace("{}", r#"{"torn":true}"#)
            ),
            Some("view"),
        ),
        (r#"{"torn":true,"bytes":12}"#.to_owned(), None),
        (
            r#"{"visitor_id":"abcdef","event":"view","timest"#.to_owned(),
            None,
        ),
        (r#"{"visitor_id":"abcdef","event":7}"#.to_owned(), None),
        (r#"["event"]"#.to_owned(), None),
        (r#"{"seq":,"visitor_id":"a","event":"b"}"#.to_owned(), None),
        (String::new(), None),
    ] {
        assert_eq!(name(&line).as_deref(), expected, "{line}");
    }
}

#[test]
fn a_header_is_latin_1_and_is_read_anew_when_it_changes() {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    for (header, expected) in [
        (Some(&b"caf\xe9 \"x\"\\\t"[..]), Some("café \"x\"\\\t")),
        (None, None),
        (Some(b""), None),
        (Some(b"other"), Some("other")),
    ] {
        let mut lines = Lines::new();
        parser.single(EVENT.as_bytes(), header, NOW, &mut lines).unwrap();
        let line: StoredLine<'_> = serde_json::from_slice(lines.bytes()).unwrap();
        assert_eq!(line.user_agent.as_deref(), expected);
    }
}

#[test]
fn buffers_of_an_unusual_request_are_given_back() {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    let mut lines = Lines::new();
    let body = format!("{}{}{}", &EVENT[..40], ",\"x\":[1", ",1".repeat(30_000)) + "]}";
    parser.single(body.as_bytes(), None, NOW, &mut lines).unwrap();
    assert_eq!(lines.count(), 1);
    parser.single(EVENT.as_bytes(), None, NOW, &mut lines).unwrap();
    assert_eq!(lines.count(), 2);
}

/// The other tests hold whatever path answers; these hold the speed.
#[test]
fn the_plain_path_knows_events_in_their_common_form() {
    let mut defaults = Defaults::new();
    defaults.set(None, Some(NOW));
    let events = [
        r#"{"visitor_id":"visitor-1","event":"view"}"#,
        r#"{ "event": "view", "visitor_id": "visitor-1", "timestamp": "2025-10-09T12:34:56.123Z" }"#,
        r#"{"event":" view ","timestamp":1760000000123,"visitor_id":"é漢😀abc","extra":[{"a":-1.5e3}],"user_agent":null}"#,
        r#"{"visitor_id":"visitor-1","event":"view","timestamp":"2025-10-09","metadata":{"a":{"metadata":{"b":[]}}}}"#,
        r#"{"visitor_id":"visitor-1","event":"view","metadata":{"a":"\""},"metadata":{"visitor_id":[true,false,{}]}}"#,
        r#"{"visitor_id":"visitor-1","event":"view","timestamp":"2025-10-09T12:34:56Z","metadata":{},"user_agent":"Mozilla/5.0 (X11)"}"#,
    ];
    for event in events {
        let known = plain::event::<true>(event.as_bytes(), 0, &defaults);
        assert_eq!(known.map(|(_, end)| end), Some(event.len()), "{event}");
    }
}

#[test]
fn what_is_nearly_json_is_refused_wherever_it_stands() {
    let values = [
        "[1}",
        "{\"b\":1]",
        "[[1]}",
        "{\"b\":[1}}",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"b\":1,}",
        "{,\"b\":1}",
        "{\"b\"}",
        "{\"b\" 1}",
        "{\"b\"::1}",
        "{1:2}",
        "{\"b\":}",
        "01",
        "-",
        "-a",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "nul",
        "nulll",
        "True",
        "tru",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u123\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\t\"",
        "\"\0\"",
        "'b'",
        "",
    ];
    for value in values {
        for (before, after) in [("\"metadata\":{\"a\":", "}"), ("\"other\":", "")] {
            let event = format!("{{\"visitor_id\":\"visitor-1\",\"event\":\"view\",{before}{value}{after}}}");
            let mut lines = Lines::new();
            let mut parser = Parser::new(LINE_BYTES_MAX);
            assert!(
                parser.single(event.as_bytes(), None, NOW, &mut lines).is_err(),
                "{event}"
            );
            assert!(batch(&event).is_err(), "a line: {event}");
            assert!(batch(&format!("[{event}]")).is_err(), "an array: {event}");
            assert!(lines.is_empty());
        }
    }
}

#[test]
fn an_event_that_is_spelt_as_it_is_stored_becomes_its_line_by_one_copy() {
    let mut defaults = Defaults::new();
    defaults.set(None, Some(NOW));
    let line = r#"{"visitor_id":"visitor-1","event":"view","timestamp":"2025-10-09T12:34:56.120000Z","metadata":{"a": 1},"user_agent":"x"}"#;
    let exact = |text: &str| {
        let (event, _) = plain::event::<false>(text.as_bytes(), 0, &defaults).expect("a plain event");
        event.exact.is_some()
    };
    assert!(exact(line));
    for (from, to) in [
        ("\"event\"", " \"event\""),
        ("view", "view "),
        (".120000", ".12"),
        ("T12:", " 12:"),
        ("{\"a\"", "{\n\"a\""),
        ("\"x\"", "\"\""),
        ("\"x\"", "null"),
        (",\"user_agent\":\"x\"", ""),
        ("\"x\"}", "\"x\",\"more\":1}"),
    ] {
        let other = line.replace(from, to);
        assert_ne!(other, line);
        assert!(!exact(&other), "{other}");
    }
}

#[test]
fn the_tape_knows_escapes() {
    let mut defaults = Defaults::new();
    defaults.set(None, Some(NOW));
    let mut lines = Lines::new();
    let events = [
        r#"{"metadata": { } , "visitor_id":"a\"b\\c\u00e9def","event":"\n x","user_agent":"y\tz"}"#,
        r#"{"visit\u006fr_id":"visitor-1","event":"view","metadata":{"a":"\u00e9"},"metadata":{"visitor_id":1.5e3}}"#,
    ];
    for event in events {
        assert!(
            plain::event::<false>(event.as_bytes(), 0, &defaults).is_none(),
            "{event}"
        );
        let known =
            TapeReader::with(|reader| reader.single(event.as_bytes(), &defaults, LINE_BYTES_MAX, &mut lines));
        assert!(known, "{event}");
    }
}

#[test]
fn a_batch_whose_lines_outgrow_their_bound_is_refused_whole() {
    let agent = vec![b'x'; 1000];
    let event = "{\"visitor_id\":\"visitor-1\",\"event\":\"e\"}\n";
    let mut parser = Parser::new(32 << 10).with_batch_bound(100_000);
    let mut lines = Lines::new();
    let now = Timestamp { micros: 0 };
    parser
        .batch_in_memory(event.repeat(80).as_bytes(), Some(&agent), now, &mut lines)
        .unwrap();
    assert_eq!(lines.count(), 80);
    let (bytes, names) = (lines.bytes().to_vec(), lines.names().to_vec());
    for body in [
        event.repeat(120),
        format!("[{}]", vec![event; 120].join(",")),
        event.repeat(100_000),
    ] {
        let refused = parser.batch_in_memory(body.as_bytes(), Some(&agent), now, &mut lines);
        assert_eq!(refused, Err(Rejection::TooLarge));
        let refused = parser.partial_in_memory(body.as_bytes(), Some(&agent), now, &mut lines);
        assert_eq!(refused, Err(Rejection::TooLarge));
        assert_eq!((lines.bytes(), lines.names()), (&bytes[..], &names[..]));
    }
}

#[test]
fn the_valid_events_of_a_long_body_are_handed_on_part_by_part() {
    let body = format!("{EVENT}\n{{}}\n").repeat(100);
    let line = batch(EVENT).unwrap();
    let mut parser = Parser::new(LINE_BYTES_MAX);
    let mut lines = Lines::new();
    parser.single(EVENT.as_bytes(), None, NOW, &mut lines).unwrap();
    let mut handed_on = Vec::new();
    let mut part = |lines: &mut Lines| {
        check_part(lines, &line);
        handed_on.push(lines.count());
        lines.clear();
        Ok(())
    };
    let take = Take::Valid {
        part_bytes: 10 * line.len(),
        part: &mut part,
    };
    let pieces = BufReader::with_capacity(EVENT.len(), body.as_bytes());
    let rejected = parser.batch(pieces, (None, Some(NOW)), take, room(&mut Vec::new()), &mut lines);
    assert_eq!(rejected.unwrap().unwrap().count, 100);
    check_part(&lines, &line);
    // The line that was there before goes with the first part.
    assert_eq!(handed_on.iter().sum::<usize>() + lines.count(), 101);
    assert!(
        handed_on.len() >= 9 && handed_on.iter().all(|count| *count <= 12),
        "{handed_on:?}"
    );

    // What cannot be handed on ends the reading; what was not is taken back.
    lines.clear();
    let mut full = |_: &mut Lines| Err(io::ErrorKind::StorageFull.into());
    let take = Take::Valid {
        part_bytes: 1,
        part: &mut full,
    };
    let answer = parser.batch(
        body.as_bytes(),
        (None, Some(NOW)),
        take,
        room(&mut Vec::new()),
        &mut lines,
    );
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::StorageFull);
}

fn check_part(lines: &Lines, line: &str) {
    assert_eq!(lines.bytes(), line.repeat(lines.count()).as_bytes());
    let counted: u32 = lines.names().iter().map(|entry| entry.count).sum();
    assert_eq!(counted as usize, lines.count());
}

#[test]
fn what_is_kept_of_a_batch_is_told_and_may_be_refused() {
    let mut parser = Parser::new(LINE_BYTES_MAX);
    let mut lines = Lines::new();
    let events = vec![EVENT; 1_000];
    for (body, kept_at_least) in [
        (events.join("\n"), 1_000 * batch(EVENT).unwrap().len()),
        (
            format!("[{}]", events.join(",")),
            1_000 * (EVENT.len() + batch(EVENT).unwrap().len()),
        ),
        ("x".repeat(100_000), 100_000),
    ] {
        let mut most = 0;
        let room = Room {
            gathered: &mut Vec::new(),
            keep: &mut |bytes| {
                most = most.max(bytes);
                true
            },
        };
        let pieces = BufReader::with_capacity(10_000, body.as_bytes());
        parser
            .batch(pieces, (None, Some(NOW)), Take::All, room, &mut lines)
            .unwrap()
            .ok();
        assert!(most >= kept_at_least, "{most} of {kept_at_least}");
        lines.clear();
        let room = Room {
            gathered: &mut Vec::new(),
            keep: &mut |bytes| bytes < 50_000,
        };
        let pieces = BufReader::with_capacity(10_000, body.as_bytes());
        let answer = parser.batch(pieces, (None, Some(NOW)), Take::All, room, &mut lines);
        assert_eq!(answer.unwrap(), Err(Rejection::NoRoom));
        assert!(lines.is_empty());
    }
}

#[test]
fn lines_that_are_appended_are_those_that_would_have_been_pushed() {
    let event = |name: &str, minute: u32| {
        let time = format!("2025-10-09T12:{minute:02}:56Z");
        format!(r#"{{"visitor_id":"visitor","event":"{name}","timestamp":"{time}","metadata":{{}}}}"#)
    };
    let events = [
        event("view", 1),
        event("click", 1),
        event("view", 1),
        event("view", 2),
        event("buy", 2),
    ];
    let push = |events: &[String]| {
        let mut lines = Lines::new();
        for event in events {
            let mut parser = Parser::new(LINE_BYTES_MAX);
            parser.single(event.as_bytes(), None, NOW, &mut lines).unwrap();
        }
        lines
    };
    let pushed = push(&events);
    for split in 0..=events.len() {
        let (mut first, mut second) = (push(&events[..split]), push(&events[split..]));
        first.append(&mut second);
        assert_eq!(first.bytes(), pushed.bytes());
        assert_eq!(first.count(), pushed.count());
        assert_eq!(first.names(), pushed.names());
        assert!(second.is_empty() && second.bytes().is_empty() && second.names().is_empty());
    }
}
