//! Looks for the highest rate that is held.
//!
//! The rate is doubled until it is not held, and then the gap between the highest that was held and the lowest that was not is
//! halved, by ratio, until it is [`CLOSE_ENOUGH`]. On a machine with other work a step may fail by chance, and everything above it would never
//! be tried: a rate that is not held is tried once more before that is believed.

use std::io;
use std::time::Duration;

use super::engine::{Outcome, Setup, Stretch};
use super::ledger::Ledger;
use super::plan::Arrivals;
use super::progress::Progress;
use super::report::series::Builder;
use super::report::{Cpu, Step};
use super::tally::Tally;

/// The ratio of two rates that need not be told apart.
const CLOSE_ENOUGH: f64 = 1.05;
/// Part of the rate that has to be reached.
pub const REACHED_MIN: f64 = 0.97;
/// Requests of a thousand that may fail.
pub const FAILED_PER_MILLE_MAX: u64 = 1;
/// Part of a step before it counts, and the longest: connections, caches and the allocator get used to the rate.
const WARMUP_PART: u32 = 10;
const WARMUP_MAX: Duration = Duration::from_secs(1);
/// How long a step is when nothing says.
pub const STEP_DEFAULT: Duration = Duration::from_secs(5);

/// What is looked for.
pub struct Search {
    /// The first rate.
    pub from: f64,
    /// The highest.
    pub to: f64,
    /// How requests arrive.
    pub arrivals: Arrivals,
    /// What the 99th percentile may be.
    pub p99_max: Duration,
    /// How long a step is.
    pub step: Duration,
}

/// What was found.
pub struct Found {
    /// All steps, in the order they were tried.
    pub steps: Vec<Step>,
    /// What came of all of them.
    pub total: Tally,
    /// What came of the highest that was held; of the first one, if none was.
    pub best: Outcome,
    /// All of it.
    pub time: Duration,
    /// What all of it has used.
    pub cpu: Cpu,
}

/// The rates to try.
#[derive(Debug)]
struct Rates {
    to: f64,
    held: Option<f64>,
    failed: Option<f64>,
    next: f64,
    is_second_try: bool,
}

impl Rates {
    fn new(from: f64, to: f64) -> Rates {
        Rates {
            to,
            held: None,
            failed: None,
            next: from,
            is_second_try: false,
        }
    }

    /// Takes whether the rate was held; the next one, or the end.
    fn next(&mut self, is_held: bool) -> Option<f64> {
        match is_held {
            true => self.held = Some(self.next),
            false if !self.is_second_try => {
                self.is_second_try = true;
                return Some(self.next);
            }
            false => self.failed = Some(self.next),
        }
        self.is_second_try = false;
        self.next = match (self.held, self.failed) {
            // Not even the first.
            (None, _) => return None,
            (Some(held), None) if held >= self.to => return None,
            (Some(held), None) => (held * 2.0).min(self.to),
            (Some(held), Some(failed)) if failed / held <= CLOSE_ENOUGH => return None,
            (Some(held), Some(failed)) => (held * failed).sqrt(),
        };
        Some(self.next)
    }
}

/// Tries rates. Ends early when somebody wants it.
///
/// # Errors
/// As [`Setup::run`].
pub fn search(
    setup: &Setup<'_>,
    search: &Search,
    ledger: &mut Option<Ledger>,
    series: &mut Builder,
    progress: &Progress,
) -> io::Result<Found> {
    let mut rates = Rates::new(search.from, search.to);
    let mut rate = search.from;
    let mut found: Option<Found> = None;
    let mut first_page = 0;
    loop {
        progress.stage(&format!("{rate:.0} requests/s"));
        let stretch = Stretch {
            rate: Some((rate, search.arrivals)),
            warmup: (search.step / WARMUP_PART).min(WARMUP_MAX),
            duration: Some(search.step),
            events: None,
            first_page,
        };
        let outcome = setup.run(stretch, ledger, series, progress)?;
        first_page = outcome.next_page;
        let step = step(rate, &outcome, search.p99_max);
        let is_stopped = setup.stop.load(std::sync::atomic::Ordering::Relaxed);
        match &mut found {
            None => {
                found = Some(Found {
                    steps: vec![step],
                    total: outcome.total.clone(),
                    time: outcome.time,
                    cpu: outcome.cpu,
                    best: outcome,
                });
            }
            Some(found) => {
                found.total.absorb(outcome.total.clone());
                found.time += outcome.time;
                found.cpu.absorb(outcome.cpu);
                let mut before = found.steps.iter().filter(|before| before.held);
                if step.held && before.all(|before| before.rate < rate) {
                    found.best = outcome;
                }
                found.steps.push(step);
            }
        }
        match rates.next(step.held) {
            Some(next) if !is_stopped => rate = next,
            _ => return Ok(found.expect("a step was made")),
        }
    }
}

fn step(rate: f64, outcome: &Outcome, p99_max: Duration) -> Step {
    let latency = &outcome.total.latency;
    let at = |quantile| latency.value_at_quantile(quantile).min(latency.max());
    let achieved = outcome.total.ok as f64 / outcome.time.as_secs_f64().max(f64::MIN_POSITIVE);
    let is_reached = achieved >= rate * REACHED_MIN;
    let is_well = outcome.total.requests.failed * 1_000 <= outcome.total.requests.sent * FAILED_PER_MILLE_MAX;
    let p99_us = at(0.99);
    Step {
        rate,
        achieved,
        p50_us: at(0.5),
        p99_us,
        p99_9_us: at(0.999),
        generator_cores: outcome.generator_cores,
        held: is_reached && is_well && u128::from(p99_us) <= p99_max.as_micros(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates tried against a server that holds up to `limit`; the highest that was held.
    fn tried(from: f64, to: f64, mut holds: impl FnMut(f64) -> bool) -> (usize, Option<f64>) {
        let mut rates = Rates::new(from, to);
        let (mut rate, mut count) = (from, 0);
        loop {
            count += 1;
            assert!(count < 60, "{rates:?}");
            match rates.next(holds(rate)) {
                Some(next) => rate = next,
                None => return (count, rates.held),
            }
        }
    }

    #[test]
    fn the_highest_rate_is_found_to_five_percent() {
        for limit in [1_000.0, 1_234.0, 33_333.0, 199_000.0] {
            let (count, held) = tried(1_000.0, 200_000.0, |rate| rate <= limit);
            let held = held.unwrap();
            assert!(
                held <= limit && held * 1.06 >= limit.min(200_000.0),
                "{limit}: {held}"
            );
            assert!(count <= 26, "{limit}: {count} steps");
        }
    }

    #[test]
    fn a_server_that_holds_all_or_nothing_is_asked_no_more_than_needed() {
        assert_eq!(tried(1_000.0, 8_000.0, |_| true), (4, Some(8_000.0)));
        assert_eq!(tried(1_000.0, 8_000.0, |_| false), (2, None));
    }

    #[test]
    fn a_rate_is_held_that_is_reached_in_time_without_failures() {
        // Answers of 10,000 a second for a second, failures among them, and what 99 % of them took.
        let held = |answered: u64, failed: u64, micros: u64| {
            let mut total = Tally::new();
            total.requests.sent = 10_000;
            total.requests.failed = failed;
            total.ok = answered;
            total.took(Duration::from_micros(micros), 9_900);
            total.took(Duration::from_secs(1), 100);
            let outcome = Outcome {
                total,
                time: Duration::from_secs(1),
                cpu: Cpu::default(),
                generator_cores: 0.5,
                next_page: 0,
            };
            step(10_000.0, &outcome, Duration::from_millis(1)).held
        };
        assert!(held(10_000, 0, 1_000));
        assert!(held(9_700, 10, 1_000));
        assert!(!held(9_699, 0, 1_000), "a rate that is not reached");
        assert!(!held(10_000, 11, 1_000), "failures");
        assert!(!held(10_000, 0, 1_001), "latency");
    }

    #[test]
    fn a_failure_by_chance_is_not_believed() {
        let mut tries = 0;
        let (_, held) = tried(1_000.0, 8_000.0, |_| {
            tries += 1;
            tries != 2
        });
        assert_eq!(held, Some(8_000.0));
    }
}
