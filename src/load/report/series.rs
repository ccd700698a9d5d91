//! Figures second by second, of bounded number: when there are too many, neighbours are put together and each point is of
//! twice the time.

use serde::{Deserialize, Serialize};

/// Most points that are kept: an hour by seconds.
pub const POINTS_MAX: usize = 3_600;

/// A run second by second, or by longer steps if it was long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverTime {
    /// Seconds that a point is of. The last may be of fewer: the run's `seconds` tell.
    pub step_seconds: u64,
    /// In order, none left out.
    pub points: Vec<Point>,
}

/// A step of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its begin, seconds after the start of the run.
    pub second: u64,
    /// Requests answered in it with 2xx.
    pub requests: u64,
    /// Events acknowledged in it.
    pub events: u64,
    /// Requests that failed in it.
    pub errors: u64,
    /// Median of the answers of this step; where several were put together, the mean of theirs by number of answers.
    pub p50_us: u64,
    /// 99th percentile; where several were put together, the worst of theirs.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Gathers points while a run goes on.
pub struct Builder {
    step_seconds: u64,
    points: Vec<Point>,
    /// Steps of a second that the last point has.
    of_last: u64,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// Of a run that begins.
    pub fn new() -> Builder {
        Builder {
            step_seconds: 1,
            points: Vec::new(),
            of_last: 0,
        }
    }

    /// Takes the figures of the next second; `second` of the point is set here.
    pub fn push(&mut self, point: Point) {
        match self
            .points
            .last_mut()
            .filter(|_| self.of_last < self.step_seconds)
        {
            Some(last) => {
                last.absorb(&point);
                self.of_last += 1;
            }
            None => {
                if self.points.len() == POINTS_MAX {
                    self.halve();
                }
                let second = self.points.len() as u64 * self.step_seconds;
                self.points.push(Point { second, ..point });
                self.of_last = 1;
            }
        }
    }

    fn halve(&mut self) {
        self.step_seconds *= 2;
        self.points = self
            .points
            .chunks(2)
            .map(|pair| {
                let mut first = pair[0];
                pair[1..].iter().for_each(|second| first.absorb(second));
                first
            })
            .collect();
    }

    /// What was gathered.
    pub fn finish(self) -> OverTime {
        OverTime {
            step_seconds: self.step_seconds,
            points: self.points,
        }
    }
}

impl Point {
    /// Puts the step behind this one into it.
    pub(super) fn absorb(&mut self, next: &Point) {
        let total = self.requests + next.requests;
        if total > 0 {
            let sum = u128::from(self.p50_us) * u128::from(self.requests)
                + u128::from(next.p50_us) * u128::from(next.requests);
            self.p50_us = u64::try_from(sum / u128::from(total)).expect("a mean is at most the larger");
        }
        self.requests = total;
        self.events += next.events;
        self.errors += next.errors;
        self.p99_us = self.p99_us.max(next.p99_us);
        self.max_us = self.max_us.max(next.max_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(seconds: u64) -> OverTime {
        let mut builder = Builder::new();
        for second in 0..seconds {
            builder.push(Point {
                requests: second % 7,
                events: 2,
                p50_us: 100 + second % 3,
                p99_us: second,
                max_us: second + 1,
                ..Point::default()
            });
        }
        builder.finish()
    }

    #[test]
    fn an_hour_is_kept_by_seconds() {
        let hour = gathered(3_600);
        assert_eq!((hour.step_seconds, hour.points.len()), (1, 3_600));
        assert_eq!(hour.points[17].p99_us, 17);
    }

    #[test]
    fn what_is_longer_is_put_together_and_nothing_is_lost() {
        for seconds in [3_601, 7_200, 7_201, 20_000] {
            let long = gathered(seconds);
            assert!(long.points.len() <= POINTS_MAX);
            assert_eq!(
                long.points.iter().map(|point| point.events).sum::<u64>(),
                2 * seconds
            );
            let requests: u64 = (0..seconds).map(|second| second % 7).sum();
            assert_eq!(
                long.points.iter().map(|point| point.requests).sum::<u64>(),
                requests
            );
            for (at, point) in long.points.iter().enumerate() {
                assert_eq!(point.second, at as u64 * long.step_seconds);
                let last = (point.second + long.step_seconds).min(seconds) - 1;
                assert_eq!(
                    (point.p99_us, point.max_us),
                    (last, last + 1),
                    "the worst of its seconds"
                );
                assert!((100..=102).contains(&point.p50_us), "between theirs");
            }
        }
    }
}
