//! How fast the journal's blocks pass.

use std::time::{Duration, Instant};

/// Over how long it is measured.
const SPAN: Duration = Duration::from_millis(200);

/// Blocks a second, of the last span that is over.
pub(super) struct Pace {
    since: Instant,
    blocks: usize,
    per_second: f64,
}

impl Pace {
    /// Nothing has passed yet.
    pub fn new() -> Pace {
        Pace {
            since: Instant::now(),
            blocks: 0,
            per_second: 0.0,
        }
    }

    /// So many have passed at `now`.
    pub fn passed(&mut self, blocks: usize, now: Instant) {
        self.blocks += blocks;
        let span = now.saturating_duration_since(self.since);
        if span >= SPAN {
            self.per_second = self.blocks as f64 / span.as_secs_f64();
            (self.since, self.blocks) = (now, 0);
        }
    }

    /// How many pass in so long, and a quarter more.
    pub fn blocks_in(&self, time: Duration) -> usize {
        (self.per_second * time.as_secs_f64() * 1.25) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_what_has_passed_and_a_quarter_more() {
        let mut pace = Pace::new();
        let begin = pace.since;
        assert_eq!(pace.blocks_in(Duration::from_secs(1)), 0);
        for step in 1..=10 {
            pace.passed(100, begin + SPAN * step / 10);
        }
        // 1,000 in a span of 0.2 s.
        assert_eq!(pace.blocks_in(Duration::from_secs(1)), 6_250);
        // A long silence counts.
        pace.passed(1_000, begin + SPAN * 11);
        assert_eq!(pace.blocks_in(Duration::from_secs(1)), 625);
    }
}
