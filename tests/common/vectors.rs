//! The test vectors, and how an answer and a stored line are compared with one.
//! `tests/vectors/events.jsonl` holds them; each comparison mode is described where it is made.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;

use super::http::{self, Answer};
use super::json::{Json, raw_members, without_space};

/// How far from the time of the request an event without a time may be stored.
const NOW_TOLERANCE_MICROSECONDS: i64 = 60_000_000;

/// A request and what must come of it.
#[derive(Debug)]
pub struct Vector {
    pub name: String,
    request: Vec<u8>,
    is_post_of_event: bool,
    expect: Json,
    stored: Json,
}

/// All vectors.
pub fn all() -> Vec<Vector> {
    let text = include_str!("../vectors/events.jsonl");
    text.lines()
        .map(|line| Vector::new(&Json::parse(line.as_bytes()).expect("a vector is JSON")))
        .collect()
}

/// The vectors with these names.
pub fn named(names: &[&str]) -> Vec<Vector> {
    let found: Vec<Vector> = all()
        .into_iter()
        .filter(|vector| names.contains(&&*vector.name))
        .collect();
    assert_eq!(found.len(), names.len(), "every name is a vector's");
    found
}

impl Vector {
    fn new(vector: &Json) -> Self {
        let text = |value: &Json| value.text().expect("a text").to_owned();
        let request = vector.member("request");
        let (method, path) = (text(request.member("method")), text(request.member("path")));
        let headers = match request.member("headers") {
            Json::Object(headers) => headers
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            _ => Vec::new(),
        };
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let body = match (request.get("body"), request.get("body_b64")) {
            (Some(body), _) if !body.is_null() => text(body).into_bytes(),
            (_, Some(body)) => base64::engine::general_purpose::STANDARD
                .decode(text(body))
                .expect("body_b64 is Base64"),
            _ => Vec::new(),
        };
        Self {
            name: text(vector.member("name")),
            request: http::request(&method, &path, &headers, &body),
            is_post_of_event: method == "POST" && path == http::EVENT,
            expect: vector.member("expect").clone(),
            stored: vector.member("stored").clone(),
        }
    }

    /// The bytes to send.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Checks an answer.
    pub fn check_answer(&self, answer: &Answer) {
        let name = &self.name;
        let status = self.expect.member("status");
        let allowed = status.list().unwrap_or(std::slice::from_ref(status));
        let is_allowed = allowed
            .iter()
            .any(|status| status.number() == Some(u64::from(answer.status)));
        assert!(
            is_allowed,
            "{name}: {} instead of {allowed:?}: {}",
            answer.status,
            answer.text()
        );
        let body =
            Json::parse(&answer.body).unwrap_or_else(|error| panic!("{name}: {error}: {}", answer.text()));
        let content_type = answer.header("content-type").unwrap_or_default();
        assert!(
            content_type.starts_with("application/json"),
            "{name}: the content type is {content_type:?}"
        );
        if answer.status >= 400 {
            check_refusal(name, answer.status, &body);
        }
        let expected = self.expect.member("body");
        let mode = self.expect.member("compare").text().expect("a mode is a text");
        let is_match = match mode {
            "full" if answer.status == 202 => {
                body.member("file").text().is_some()
                    && ["ok", "stored"]
                        .iter()
                        .all(|key| body.get(key) == expected.get(key))
            }
            "full" => body == *expected,
            "type+loc" => {
                let (got, wanted) = (errors(&body), errors(expected));
                got.len() == wanted.len()
                    && got.iter().zip(wanted).all(|(a, b)| {
                        a.member("type") == b.member("type") && a.member("loc") == b.member("loc")
                    })
            }
            "status+type" => {
                let (got, wanted) = (&errors(&body)[0], &errors(expected)[0]);
                got.member("type") == wanted.member("type") && first_loc(got) == first_loc(wanted)
            }
            "status" => true,
            "keys" => {
                let keys = expected.list().expect("keys is a list");
                let count = body
                    .get("last_events")
                    .and_then(Json::list)
                    .map_or(0, <[Json]>::len);
                let count_max = self
                    .expect
                    .get("last_events_max")
                    .and_then(Json::number)
                    .unwrap_or(u64::MAX);
                keys.iter()
                    .all(|key| body.get(key.text().expect("a key")).is_some())
                    && count as u64 <= count_max
            }
            other => panic!("{name}: no such mode: {other}"),
        };
        assert!(
            is_match,
            "{name}: by {mode}, expected\n{expected:?}\ngot\n{}",
            answer.text()
        );
    }

    /// Whether an answer with `status` stands for a line in the log.
    pub fn adds_a_line(&self, status: u16) -> bool {
        self.is_post_of_event && status == 202
    }

    /// Checks the line that the log got. `asked` is the time of the request.
    pub fn check_line(&self, line: &str, asked: SystemTime) {
        let name = &self.name;
        let members = raw_members(line.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
        let keys: Vec<&str> = members.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(
            keys,
            ["visitor_id", "event", "timestamp", "metadata", "user_agent"],
            "{name}"
        );
        let joined: Vec<String> = members
            .iter()
            .map(|(key, raw)| format!("\"{key}\":{raw}"))
            .collect();
        assert_eq!(
            line,
            format!("{{{}}}", joined.join(",")),
            "{name}: space between the members"
        );
        if self.stored.is_null() {
            return;
        }
        let line = Json::parse(line.as_bytes()).expect("its members parsed");
        for key in ["visitor_id", "event", "user_agent"] {
            if let Some(expected) = self.stored.get(key) {
                assert_eq!(line.member(key), expected, "{name}: {key}");
            }
        }
        if let Some(expected) = self.stored.get("metadata_text").and_then(Json::text) {
            assert_eq!(
                without_space(members[3].1),
                without_space(expected),
                "{name}: metadata"
            );
        }
        if let Some(expected) = self.stored.get("timestamp").and_then(Json::text) {
            let spelt = line.member("timestamp").text().expect("a timestamp is a text");
            let stored = instant(spelt).unwrap_or_else(|| panic!("{name}: not UTC with Z: {spelt}"));
            if expected == "now" {
                let asked = asked
                    .duration_since(UNIX_EPOCH)
                    .expect("the clock is right")
                    .as_micros() as i64;
                assert!(
                    (stored - asked).abs() < NOW_TOLERANCE_MICROSECONDS,
                    "{name}: {spelt} is not now"
                );
            } else {
                assert_eq!(
                    Some(stored),
                    instant(expected),
                    "{name}: {spelt} instead of {expected}"
                );
            }
        }
    }
}

/// The shape every refusal has, whatever the mode.
fn check_refusal(name: &str, status: u16, body: &Json) {
    let detail = body
        .get("detail")
        .unwrap_or_else(|| panic!("{name}: no detail in {body:?}"));
    if status != 422 {
        assert!(
            detail.text().is_some_and(|sentence| !sentence.is_empty()),
            "{name}: {detail:?}"
        );
        return;
    }
    let errors = detail.list().unwrap_or_default();
    assert!(!errors.is_empty(), "{name}: no errors in {body:?}");
    for error in errors {
        let is_complete = ["type", "msg"]
            .iter()
            .all(|key| error.member(key).text().is_some())
            && error.member("loc").list().is_some()
            && error.get("input").is_some();
        assert!(is_complete, "{name}: {error:?}");
    }
}

fn errors(body: &Json) -> &[Json] {
    body.member("detail").list().expect("a 422 has a list of errors")
}

fn first_loc(error: &Json) -> &Json {
    &error.member("loc").list().expect("loc is a list")[0]
}

/// The microseconds since 1970 of `2025-10-09T12:34:56.123456Z`; the fraction may be missing.
pub fn instant(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator, lengths: [usize; 3]| -> Option<[i64; 3]> {
        let parts: Vec<&str> = text.split(separator).collect();
        let is_spelt_well = parts.len() == 3
            && parts
                .iter()
                .zip(lengths)
                .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()));
        is_spelt_well.then(|| [0, 1, 2].map(|index| parts[index].parse().expect("all digits")))
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if fraction.is_empty() || fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let microseconds: i64 = format!("{fraction:0<6}").parse().expect("all digits");
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000 + microseconds)
}

/// The days from 1970-01-01 to a date of the Gregorian calendar, with years that begin in March so that the
/// leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month_from_march) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days_of_years = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_of_months = (153 * month_from_march + 2) / 5;
    // 719,468 days lie between 1 March of the year 0 and 1970-01-01.
    days_of_years + days_of_months + day - 1 - 719_468
}
