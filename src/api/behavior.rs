//! `GET /api/metrics/behavior`: totals and the newest events.

use std::io::Write;

use super::refusal::Shortage;
use super::{Session, error};
use crate::http::{JSON, Output, Request};
use crate::query::snapshot;

/// Events shown when the request does not say how many.
const LIMIT_DEFAULT: usize = 50;
/// A snapshot longer than this is streamed from where it is instead of being copied into the connection's output.
const STREAM_FROM_BYTES: usize = 64 << 10;

impl Session {
    pub(super) fn behavior(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let capacity = self.shared.view.recent().capacity();
        let Some(limit) = limit_of(request, capacity, output) else {
            return;
        };
        // One's own writes are seen, also those of this very burst.
        self.intake.commit_burst();
        self.intake.producer.publish(self.shared.enqueue_timeout);
        if self.shared.view.is_recovering() {
            Shortage::Counts.count(output);
            let sentence = "The log is still being read after the start: its totals are not known yet.";
            return output.detail(503, &[error::RETRY_AFTER], sentence);
        }
        let body = snapshot(&self.shared.view, limit);
        if body.len() < STREAM_FROM_BYTES {
            output.json(200, &[], &body);
        } else {
            output.stream(200, JSON, &[], Box::new(move |to| to.write_all(&body)));
        }
    }
}

/// The number of events shown when nobody says how many, with a window of `capacity`.
pub fn limit_default(capacity: usize) -> usize {
    LIMIT_DEFAULT.min(capacity)
}

/// The number of events asked for; `None` after an answer that it is not one.
fn limit_of(request: &Request<'_>, max: usize, output: &mut Output) -> Option<usize> {
    let Some((_, text)) = request.query_pairs().filter(|(name, _)| name == "limit").last() else {
        return Some(limit_default(max));
    };
    let loc = ["query", "limit"];
    let Some((negative, digits)) = integer(&text) else {
        let msg = "Input should be a valid integer, unable to parse string as an integer";
        error::invalid_parameter("int_parsing", loc, msg, &text, None, output);
        return None;
    };
    // More digits than fit are more than any bound.
    let number = digits.parse().unwrap_or(u64::MAX);
    if number == 0 || negative {
        let msg = "Input should be greater than or equal to 1";
        let ctx = serde_json::json!({"ge": 1});
        error::invalid_parameter("greater_than_equal", loc, msg, &text, Some(ctx), output);
        return None;
    }
    if number > max as u64 {
        let msg = format!("Input should be less than or equal to {max}");
        let ctx = serde_json::json!({"le": max});
        error::invalid_parameter("less_than_equal", loc, &msg, &text, Some(ctx), output);
        return None;
    }
    Some(number as usize)
}

/// Sign and digits of a whole number as the original takes it: white space around it, a sign, and `.0` are fine.
fn integer(text: &str) -> Option<(bool, &str)> {
    let text = text.trim();
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (whole && fraction.bytes().all(|byte| byte == b'0')).then_some((negative, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_taken_as_the_original_takes_them() {
        for (text, taken) in [
            ("7", Some((false, "7"))),
            ("007", Some((false, "007"))),
            (" 5.0 ", Some((false, "5"))),
            ("+3", Some((false, "3"))),
            ("-1", Some((true, "1"))),
            ("1.5", None),
            ("", None),
            (".0", None),
            ("1e3", None),
            ("--1", None),
            ("true", None),
        ] {
            assert_eq!(integer(text), taken, "{text:?}");
        }
    }
}
