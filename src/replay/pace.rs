//! The recorded pace: when an event is due, by its own time stamp.
//!
//! The first event is due at once, and each later one as long after it as it was recorded, divided by the speed. An event
//! that is older than one before it, or has no time stamp, is due with that one: the order of the lines is kept.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Timestamp;

/// How much faster than it was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed(f64);

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        let number = text.strip_suffix('x').unwrap_or(text);
        match number.parse::<f64>() {
            Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Speed(speed)),
            _ => Err("it is a number above 0, such as 10x or 0.5x".into()),
        }
    }
}

/// Tells when events are due, one after the other.
pub struct Pace {
    speed: Speed,
    /// In microseconds.
    first: Option<i64>,
    latest: i64,
}

impl Pace {
    /// Begins with the next event.
    pub fn new(speed: Speed) -> Pace {
        Pace {
            speed,
            first: None,
            latest: i64::MIN,
        }
    }

    /// How long after the first event the one in `line` is due.
    pub fn due(&mut self, line: &[u8]) -> Duration {
        if let Some(time) = time_of(line) {
            self.first.get_or_insert(time.micros);
            self.latest = self.latest.max(time.micros);
        }
        let Some(first) = self.first else {
            return Duration::ZERO;
        };
        let micros = self.latest.saturating_sub(first) as f64 / self.speed.0;
        Duration::try_from_secs_f64(micros / 1e6).unwrap_or(Duration::MAX)
    }
}

/// The time stamp of an event, as senders may spell it; `None` where it has none that can be read.
fn time_of(line: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Timed<'l> {
        #[serde(borrow)]
        timestamp: &'l RawValue,
    }
    let timed: Timed<'_> = serde_json::from_slice(line).ok()?;
    let text = timed.timestamp.get();
    match text.starts_with('"') {
        true => Timestamp::parse(&serde_json::from_str::<String>(text).ok()?),
        false => Timestamp::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(speed: &str) -> Pace {
        Pace::new(speed.parse().unwrap())
    }

    fn line(stamp: &str) -> Vec<u8> {
        format!(r#"{{"visitor_id":"visitor-1","event":"view","timestamp":{stamp}}}"#).into_bytes()
    }

    #[test]
    fn events_are_due_as_long_after_the_first_as_they_were_recorded() {
        let mut pace = pace("10x");
        let due = [
            (r#""2026-11-22T12:00:00Z""#, 0),
            (r#""2026-11-22T12:00:01Z""#, 100),
            (r#""2026-11-22T13:00:10+01:00""#, 1_000),
            // Older than the one before it, or without a time: with that one.
            (r#""2026-11-22T11:00:00Z""#, 1_000),
            (r#""sometime""#, 1_000),
            ("null", 1_000),
            ("1795348820", 2_000),
        ];
        for (stamp, millis) in due {
            assert_eq!(pace.due(&line(stamp)), Duration::from_millis(millis), "{stamp}");
        }
        assert_eq!(pace.due(b"no JSON"), Duration::from_secs(2));
    }

    #[test]
    fn what_has_no_time_before_the_first_is_due_at_once() {
        let mut pace = pace("0.5");
        assert_eq!(pace.due(b"{}"), Duration::ZERO);
        assert_eq!(pace.due(&line("1000")), Duration::ZERO);
        assert_eq!(pace.due(&line("1001")), Duration::from_secs(2));
    }

    #[test]
    fn a_speed_is_a_number_above_zero() {
        for text in ["0", "0x", "-1x", "inf", "NaN", "x", "", "10xx", "fast"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
        assert_eq!("2.5x".parse(), Ok(Speed(2.5)));
    }
}
