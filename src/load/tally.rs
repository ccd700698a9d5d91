//! What came of requests in some time: counts, latencies, errors by kind.
//!
//! A worker fills one and gives it away each second; nothing of it is shared while it is filled. Memory: 190 KB of histogram, and
//! [`ERROR_KINDS_MAX`] kinds of errors with an example each.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::report::{ERROR_KINDS_MAX, ErrorKind, Events, Requests};

/// Latencies up to an hour are told apart by three digits, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Bytes of an example.
const EXAMPLE_BYTES_MAX: usize = 200;
/// What kinds above the bound are counted as.
const OTHERS: &str = "other";

/// Counts and latencies of some time.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The requests.
    pub requests: Requests,
    /// The events in them.
    pub events: Events,
    /// Requests answered with 2xx.
    pub ok: u64,
    /// Bytes of bodies sent.
    pub body_bytes: u64,
    /// How long requests took, in microseconds: those with an answer of 2xx, and those that waited in vain, with how long.
    pub latency: Histogram<u64>,
    /// What failed.
    pub errors: Vec<ErrorKind>,
}

impl Tally {
    /// Of nothing yet.
    pub fn new() -> Tally {
        let mut latency = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are sound");
        latency.auto(false);
        Tally {
            requests: Requests::default(),
            events: Events::default(),
            ok: 0,
            body_bytes: 0,
            latency,
            errors: Vec::new(),
        }
    }

    /// Records how long `count` requests took.
    #[inline]
    pub fn took(&mut self, time: Duration, count: u64) {
        // Rounded up: nothing takes no time at all.
        let micros = (time.as_nanos() as u64).div_ceil(1_000).max(1);
        self.latency.saturating_record_n(micros, count);
    }

    /// Counts `count` errors of a kind; the first of them is the example.
    pub fn error(&mut self, kind: &str, count: u64, example: impl FnOnce() -> String) {
        let is_full = self.errors.len() >= ERROR_KINDS_MAX - 1;
        let mut known = self.errors.iter_mut();
        if let Some(error) = known.find(|error| error.kind == kind || is_full && error.kind == OTHERS) {
            error.count += count;
            return;
        }
        let kind = if is_full { OTHERS } else { kind }.to_owned();
        let mut example = example();
        if let Some((end, _)) = example.char_indices().find(|(at, _)| *at >= EXAMPLE_BYTES_MAX) {
            example.truncate(end);
            example.push('…');
        }
        self.errors.push(ErrorKind { kind, count, example });
    }

    /// How many errors there are.
    pub fn errors_count(&self) -> u64 {
        self.errors.iter().map(|error| error.count).sum()
    }

    /// Adds what another one has.
    pub fn absorb(&mut self, other: Tally) {
        self.requests.sent += other.requests.sent;
        self.requests.answered += other.requests.answered;
        self.requests.failed += other.requests.failed;
        self.events.sent += other.events.sent;
        self.events.acknowledged += other.events.acknowledged;
        self.events.refused += other.events.refused;
        self.events.unknown += other.events.unknown;
        self.ok += other.ok;
        self.body_bytes += other.body_bytes;
        self.latency
            .add(&other.latency)
            .expect("all have the same bounds");
        for error in other.errors {
            let example = error.example;
            self.error(&error.kind, error.count, || example);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_examples_of_errors_are_bounded_and_no_count_is_lost() {
        let mut tally = Tally::new();
        for kind in 0..100 {
            tally.error(&format!("kind {kind}"), 2, || "é".repeat(500));
            tally.error(&format!("kind {kind}"), 1, || "another".into());
        }
        assert_eq!(tally.errors.len(), ERROR_KINDS_MAX);
        assert_eq!(tally.errors_count(), 300);
        assert_eq!(tally.errors[0].count, 3);
        assert_eq!(tally.errors.last().unwrap().kind, OTHERS);
        assert!(
            tally
                .errors
                .iter()
                .all(|error| error.example.len() <= EXAMPLE_BYTES_MAX + 4)
        );
        let mut sum = Tally::new();
        sum.absorb(tally.clone());
        sum.absorb(tally);
        assert_eq!((sum.errors.len(), sum.errors_count()), (ERROR_KINDS_MAX, 600));
    }

    #[test]
    fn a_sum_has_everything_of_both() {
        let mut tally = Tally::new();
        tally.requests = Requests {
            sent: 1,
            answered: 2,
            failed: 3,
        };
        tally.events = Events {
            sent: 4,
            acknowledged: 5,
            refused: 6,
            unknown: 7,
        };
        (tally.ok, tally.body_bytes) = (8, 9);
        tally.took(Duration::from_millis(1), 10);
        let mut sum = tally.clone();
        sum.absorb(tally);
        let Requests {
            sent,
            answered,
            failed,
        } = sum.requests;
        assert_eq!([sent, answered, failed], [2, 4, 6]);
        let Events {
            sent,
            acknowledged,
            refused,
            unknown,
        } = sum.events;
        assert_eq!([sent, acknowledged, refused, unknown], [8, 10, 12, 14]);
        assert_eq!([sum.ok, sum.body_bytes, sum.latency.len()], [16, 18, 20]);
    }

    #[test]
    fn no_latency_is_zero_or_out_of_bounds() {
        let mut tally = Tally::new();
        tally.took(Duration::ZERO, 1);
        tally.took(Duration::from_nanos(1_001), 1);
        tally.took(Duration::from_secs(100_000), 1);
        assert_eq!(tally.latency.min(), 1);
        assert_eq!(tally.latency.value_at_quantile(0.5), 2);
        assert_eq!(tally.latency.len(), 3);
    }
}
