//! When bursts are due in an open loop.
//!
//! A schedule is looked at, not kept: the next time is a function of the one before, so any number of bursts that are late
//! takes no memory. Threads have a schedule each at their share of the rate; evenly spaced ones are shifted against each other, and several
//! Poisson processes are one together.

use std::time::Duration;

use fastrand::Rng;

use super::plan::Arrivals;

/// Times since the start of the run.
#[derive(Debug)]
pub struct Schedule {
    /// Nanoseconds between two bursts, on average.
    gap: f64,
    /// When the next one is due, in nanoseconds. A float has the resolution of a nanosecond up to a hundred days.
    next: f64,
    rng: Option<Rng>,
}

impl Schedule {
    /// Of worker `index` of `count`, which send `rate` bursts a second together.
    pub fn new(rate: f64, arrivals: Arrivals, (index, count): (usize, usize), seed: u64) -> Schedule {
        let gap = 1e9 / rate;
        let mut schedule = Schedule {
            gap: gap * count as f64,
            next: gap * index as f64,
            rng: (arrivals == Arrivals::Poisson).then(|| Rng::with_seed(seed ^ ((index as u64 + 1) << 40))),
        };
        if schedule.rng.is_some() {
            schedule.next = schedule.draw();
        }
        schedule
    }

    /// When the next burst is due.
    #[inline]
    pub fn next(&self) -> Duration {
        Duration::from_nanos(self.next as u64)
    }

    /// Takes that burst.
    #[inline]
    pub fn advance(&mut self) {
        self.next += self.draw();
    }

    #[inline]
    fn draw(&mut self) -> f64 {
        match &mut self.rng {
            None => self.gap,
            // 1 - f64() is never 0.
            Some(rng) => -(1.0 - rng.f64()).ln() * self.gap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(mut schedule: Schedule, end: Duration) -> Vec<Duration> {
        let mut times = Vec::new();
        while schedule.next() < end {
            times.push(schedule.next());
            schedule.advance();
        }
        times
    }

    #[test]
    fn constant_arrivals_of_all_workers_are_evenly_spaced_together() {
        let of = |index| Schedule::new(1_000.0, Arrivals::Constant, (index, 3), 1);
        let mut all: Vec<_> = (0..3)
            .flat_map(|index| times(of(index), Duration::from_secs(1)))
            .collect();
        all.sort();
        assert_eq!(all.len(), 1_000);
        assert!(
            all.windows(2)
                .all(|pair| pair[1] - pair[0] == Duration::from_millis(1))
        );
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_exponential_gaps() {
        let of = |seed| {
            times(
                Schedule::new(10_000.0, Arrivals::Poisson, (0, 1), seed),
                Duration::from_secs(10),
            )
        };
        let times = of(3);
        let gaps: Vec<f64> = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.98..1.02).contains(&(mean * 10_000.0)), "{mean}");
        assert!((0.96..1.04).contains(&(variance.sqrt() / mean)), "{variance}");
        assert_eq!(times, of(3), "the seed decides");
        assert_ne!(times, of(4));
    }

    #[test]
    fn poisson_arrivals_of_all_workers_are_one_process_together() {
        const SECOND: Duration = Duration::from_secs(1);
        let of = |index, seed| Schedule::new(4_000.0, Arrivals::Poisson, (index, 4), seed);
        let each: Vec<_> = (0..4).map(|index| times(of(index, 3), SECOND)).collect();
        let mut all = each.concat();
        all.sort();
        all.dedup();
        assert!((3_800..4_200).contains(&all.len()), "{}", all.len());
        assert!(
            each.iter().all(|times| (850..1_150).contains(&times.len())),
            "each has its share"
        );
        // The first arrival is as far from the start as the others are from each other, for every worker.
        for index in 0..4 {
            let first = |seed| of(index, seed).next().as_secs_f64();
            let mean = (0..2_000).map(first).sum::<f64>() / 2_000.0;
            assert!((0.9..1.1).contains(&(mean * 1_000.0)), "{index}: {mean}");
        }
    }
}
