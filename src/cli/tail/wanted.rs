//! Which lines `floodgate tail` shows.

use std::borrow::Cow;

use clap::ArgMatches;
use serde::Deserialize;

use crate::event::{Timestamp, facts_of_line};
use crate::log::cursor::Selection;
use crate::log::summary::{OTHER, Summary};

/// Events of some names, from some time on; without either every line, whatever it is.
pub struct Wanted {
    /// As JSON text without the quotes; none means all.
    names: Vec<Vec<u8>>,
    since: Option<Timestamp>,
}

impl Wanted {
    /// What the arguments ask for.
    pub fn new(matches: &ArgMatches) -> Wanted {
        let names = matches.get_many::<String>("event").unwrap_or_default();
        Wanted {
            names: names.map(|name| json_text(name)).collect(),
            since: matches.get_one("since").copied(),
        }
    }

    fn has_name(&self, name: &[u8]) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }

    fn is_late_enough(&self, minute: Option<i64>, line: &[u8]) -> bool {
        let Some(since) = self.since else {
            return true;
        };
        match minute {
            Some(minute) if minute == since.minute() => time_of(line).is_some_and(|time| time >= since),
            Some(minute) => minute > since.minute(),
            None => false,
        }
    }
}

impl Selection for Wanted {
    fn asks_summaries(&self) -> bool {
        self.since.is_some() || !self.names.is_empty()
    }

    fn may_have(&self, summary: &Summary) -> bool {
        let is_late_enough =
            |since: Timestamp| summary.last_minute.is_some_and(|minute| minute >= since.minute());
        let has_name = || {
            let mut names = summary.counts.iter().map(|counts| counts.name());
            // Under that name events are counted that had one too many.
            names.any(|name| name == OTHER || self.has_name(name))
        };
        self.since.is_none_or(is_late_enough) && (self.names.is_empty() || has_name())
    }

    fn wants(&self, line: &[u8]) -> bool {
        if !self.asks_summaries() {
            return true;
        }
        facts_of_line(line)
            .is_some_and(|facts| self.has_name(&facts.name) && self.is_late_enough(facts.minute, line))
    }
}

/// A name as lines and summaries spell it, without the quotes.
fn json_text(name: &str) -> Vec<u8> {
    let quoted = serde_json::to_string(name).expect("a string can be written");
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

fn time_of(line: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Timed<'l> {
        #[serde(borrow)]
        timestamp: Cow<'l, str>,
    }
    let timed: Timed<'_> = serde_json::from_slice(line).ok()?;
    Timestamp::parse(&timed.timestamp)
}

/// Reads `--since`: a time as events may have it, or how long before `now`.
pub fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let units = [
        ("ms", 1_000),
        ("s", 1_000_000),
        ("m", 60_000_000),
        ("h", 3_600_000_000),
        ("d", 86_400_000_000),
    ];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    if let Some((_, micros)) = units.iter().find(|(name, _)| *name == unit) {
        let back = count
            .parse::<i64>()
            .ok()
            .and_then(|count| count.checked_mul(*micros));
        if let Some(micros) = back.and_then(|back| now.micros.checked_sub(back)) {
            return Ok(Timestamp { micros });
        }
    }
    Timestamp::parse(text).ok_or_else(|| {
        "it is a time such as 2026-11-22T12:00:00Z, Unix seconds, or a duration such as 15m (ms, s, m, h, d)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp {
        micros: 1_795_382_130_000_000,
    };

    fn line(name: &str, stamp: &str) -> String {
        format!(
            r#"{{"visitor_id":"visitor","event":"{name}","timestamp":"{stamp}","metadata":{{}},"user_agent":null}}"#
        )
    }

    #[test]
    fn a_time_is_absolute_or_a_duration_back() {
        for (text, seconds_back) in [
            ("15m", 900),
            ("90s", 90),
            ("2h", 7_200),
            ("3d", 259_200),
            ("0s", 0),
            ("2026-11-22T21:14:30Z", 60),
            ("2026-11-22T22:14:30+01:00", 60),
            ("1795382129", 1),
            ("1795382129.0", 1),
        ] {
            let micros = NOW.micros - seconds_back * 1_000_000;
            assert_eq!(since(text, NOW), Ok(Timestamp { micros }), "{text}");
        }
        assert_eq!(since("500ms", NOW).unwrap().micros, NOW.micros - 500_000);
        for text in [
            "",
            "yesterday",
            "m",
            "-15m",
            "1.5h",
            "15 m",
            "99999999999999999999d",
            "1w",
        ] {
            assert!(since(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_are_chosen_by_name_and_to_the_microsecond() {
        let wanted = Wanted {
            names: vec![json_text("a\"b"), json_text("view")],
            since: Some(NOW),
        };
        for (name, stamp, is_wanted) in [
            ("view", "2026-11-22T21:15:30Z", true),
            ("a\\\"b", "2026-11-22T21:15:30.000001Z", true),
            ("view", "2026-11-22T21:15:29.999999Z", false),
            ("view", "2026-11-22T21:16:00Z", true),
            ("view", "2026-11-22T21:14:59Z", false),
            ("view", "never", false),
            ("other", "2026-11-22T21:16:00Z", false),
        ] {
            let line = line(name, stamp);
            assert_eq!(wanted.wants(line.as_bytes()), is_wanted, "{line}");
        }
        assert!(!wanted.wants(br#"{"event":"view","torn":true}"#));
        let all = Wanted {
            names: Vec::new(),
            since: None,
        };
        assert!(all.wants(br#"{"event":"view","torn":true}"#));
    }
}
