//! How long something takes that one thread does again and again: since the start, and just now.
//!
//! Owner: the writer records its appends and the sync thread its syncs; readers copy out. The lock is held for a few
//! microseconds at most, so neither waits for a reader. Bounds: some 20 KiB for each [`Latency`].
//!
//! Two questions are asked, and one recording answers both. A time-series database wants counts in fixed buckets that only
//! grow ([`Latency::buckets`]), and forms its own windows. A person who asks how it is now wants quantiles of now: those
//! ([`Latency::recent`]) are of the last 30 to 60 s, within 1 % (`hdrhistogram`): two windows of 30 s, of
//! which the older one is thrown away when the younger one is full.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Upper bounds of the buckets, in microseconds: from what the page cache takes to what only a failing disk does.
pub const BOUNDS_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];
/// Half of what "recent" is: short enough to see a disk recover, long enough for a p99 of a sync each second.
const WINDOW: Duration = Duration::from_secs(30);
/// What is longer counts as this in quantiles, in microseconds.
const RECENT_US_MAX: u64 = 60_000_000;

/// How long something takes.
pub struct Latency(Mutex<Recorded>);

struct Recorded {
    /// One for each bound, and one for what is longer.
    buckets: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
    /// In microseconds.
    younger: Histogram<u32>,
    older: Histogram<u32>,
    /// When the younger window began.
    turned: Instant,
}

/// What was recorded since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// How many took as long as each of [`BOUNDS_US`] and longer than the one before, and last how many took longer than all.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All of it together.
    pub sum: Duration,
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// Of a hundred one takes longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    pub(super) fn new() -> Latency {
        let window = || {
            let mut window = Histogram::new_with_bounds(1, RECENT_US_MAX, 2).expect("the bounds are sound");
            window.auto(false);
            window
        };
        Latency(Mutex::new(Recorded {
            buckets: [0; BOUNDS_US.len() + 1],
            sum: Duration::ZERO,
            younger: window(),
            older: window(),
            turned: Instant::now(),
        }))
    }

    /// Records what began at `began` and ends now.
    pub(super) fn record(&self, began: Instant) {
        let now = Instant::now();
        self.recorded().record(now.saturating_duration_since(began), now);
    }

    /// What was recorded since the start.
    pub fn buckets(&self) -> Buckets {
        let recorded = self.recorded();
        Buckets {
            counts: recorded.buckets,
            sum: recorded.sum,
        }
    }

    /// Quantiles of the last 30 to 60 s; `None` when nothing was recorded in that time.
    pub fn recent(&self) -> Option<Quantiles> {
        self.recorded().recent(Instant::now())
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Recorded {
    fn record(&mut self, took: Duration, now: Instant) {
        self.turn(now);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // A bound includes itself and no nanosecond more, as in the text that is made of it.
        let bucket = BOUNDS_US.partition_point(|bound| Duration::from_micros(*bound) < took);
        self.buckets[bucket] += 1;
        self.sum += took;
        self.younger.saturating_record(micros.max(1));
    }

    fn recent(&mut self, now: Instant) -> Option<Quantiles> {
        self.turn(now);
        let mut both = self.older.clone();
        both.add(&self.younger).expect("both have the same bounds");
        (!both.is_empty()).then(|| Quantiles {
            p50: both.value_at_quantile(0.5),
            p99: both.value_at_quantile(0.99),
            max: both.max(),
        })
    }

    /// Begins another window if the younger one is full.
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age < WINDOW {
            return;
        }
        std::mem::swap(&mut self.younger, &mut self.older);
        self.younger.reset();
        if age >= 2 * WINDOW {
            self.older.reset();
        }
        self.turned = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_in_its_bucket_and_in_the_sum() {
        let latency = Latency::new();
        let now = Instant::now();
        let took = [
            Duration::ZERO,
            Duration::from_micros(10),
            Duration::from_nanos(10_001),
            Duration::from_millis(2),
            Duration::from_secs(10),
            Duration::from_secs(11),
        ];
        for took in took {
            latency.recorded().record(took, now);
        }
        let Buckets { counts, sum } = latency.buckets();
        let filled: Vec<_> = (0..counts.len()).filter(|place| counts[*place] > 0).collect();
        assert_eq!(filled, [0, 1, 7, 18, 19]);
        assert_eq!((counts[0], counts.iter().sum::<u64>()), (2, 6));
        assert_eq!(sum, took.iter().sum::<Duration>());
    }

    #[test]
    fn quantiles_are_of_now() {
        let latency = Latency::new();
        let mut recorded = latency.recorded();
        let start = recorded.turned;
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(recorded.recent(start), None);
        (0..98).for_each(|_| recorded.record(Duration::from_micros(100), start));
        (0..2).for_each(|_| recorded.record(Duration::from_millis(50), start));
        let quantiles = recorded.recent(start).unwrap();
        assert_eq!(quantiles.p50, 100);
        assert!((50_000..50_500).contains(&quantiles.p99), "{quantiles:?}");
        assert!((50_000..50_500).contains(&quantiles.max), "{quantiles:?}");
        // The stall is still seen after a window, and forgotten after two.
        recorded.record(Duration::from_micros(200), after(31));
        assert_eq!(recorded.recent(after(59)).unwrap().p50, 100);
        assert_eq!(recorded.recent(after(62)).unwrap().max, 200);
        assert_eq!(recorded.recent(after(62 + 61)), None);
        recorded.record(Duration::from_secs(3600), after(200));
        assert!(recorded.recent(after(200)).unwrap().max >= RECENT_US_MAX);
    }
}
