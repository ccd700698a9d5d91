//! What a reader of a report should know before believing its figures.

use super::units::{self, percent};
use super::{Pacing, Ramp, Report};

/// Share of what its threads can use of the cores from which on the generator may be what limits the rate.
const BUSY_SHARE: f64 = 0.8;
/// Seconds of a run from which on its CPU time says something of its load.
const SECONDS_MIN: f64 = 1.0;
/// Share of the intended rate that counts as reached.
pub const REACHED_SHARE: f64 = 0.99;
/// Answers beyond a percentile from which on it says something.
pub const BEYOND_MIN: u64 = 10;

/// Sentences, most important first.
pub fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if report.interrupted {
        notes.push("Stopped before its end: the figures are of what was done until then.".into());
    }
    if let Some(ramp) = &report.ramp {
        notes.extend(of_ramp(ramp, usable_cores(report)));
    }
    let busy = report.cpu.generator_seconds / (report.seconds * usable_cores(report));
    // The start of threads and connections is no load, and in a short run most of it.
    if report.seconds >= SECONDS_MIN && busy.is_finite() && busy >= BUSY_SHARE {
        notes.push(format!(
            "The generator used {} of what its threads can: the figures may be of it more than of the server. More --threads?",
            percent(busy)
        ));
    }
    let target = report.target_rate.filter(|_| report.pacing == Pacing::Open);
    if let Some(target) = target.filter(|target| report.rate.requests_per_second < target * REACHED_SHARE) {
        notes.push(format!(
            "Of the {} that were meant to be sent {} were answered well: what came late waited, and the wait is in its latency.",
            units::rate(target),
            units::rate(report.rate.requests_per_second),
        ));
    }
    let count = report.latency.count;
    if let Some(quantile) = [0.99, 0.999, 0.9999]
        .into_iter()
        .find(|quantile| count > 0 && beyond(count, *quantile) < BEYOND_MIN)
    {
        notes.push(format!(
            "{} {} little of percentiles from {} on: fewer than {BEYOND_MIN} lie beyond.",
            units::plural(count, "answer"),
            if count == 1 { "says" } else { "say" },
            percentile(quantile),
        ));
    }
    notes
}

/// Cores that the threads of the generator can use.
fn usable_cores(report: &Report) -> f64 {
    let cores = report.machine.cores as f64;
    let threads = report.settings.get("threads");
    let threads = threads.and_then(|count| count.parse().ok());
    threads.unwrap_or(cores).min(cores)
}

/// What a ramp has found, and whose limit it is.
fn of_ramp(ramp: &Ramp, usable_cores: f64) -> Vec<String> {
    let mut notes =
        vec!["Rates and latencies are those of the highest rate that was held; counts, errors and CPU are of all steps.".into()];
    let held = ramp.highest().map_or(0.0, |step| step.rate);
    let failed = ramp.steps.iter().filter(|step| !step.held && step.rate > held);
    let Some(failed) = failed.min_by(|one, other| one.rate.total_cmp(&other.rate)) else {
        if held > 0.0 {
            notes.push(format!(
                "No rate was too high: the limit lies above {}.",
                units::rate(held)
            ));
        }
        return notes;
    };
    let busy = failed.generator_cores / usable_cores;
    if busy >= BUSY_SHARE {
        notes.push(format!(
            "At {}, which was not held, the generator used {} of what its threads can: the limit may be its own. More --threads?",
            units::rate(failed.rate),
            percent(busy)
        ));
    }
    notes
}

/// A quantile as a percentile: `50 %`, `99.99 %`.
pub fn percentile(quantile: f64) -> String {
    let text = format!("{:.6}", quantile * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// How many of so many answers took longer than a quantile.
pub fn beyond(count: u64, quantile: f64) -> u64 {
    // 1 - 0.9999 is a little more than 0.0001: without the slack 100,000 answers would have 10, and 10,000 none.
    (count as f64 * (1.0 - quantile) + 1e-6).floor() as u64
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_ramp_says_whose_limit_it_has_found() {
        let with = |change: fn(&mut Ramp)| {
            let mut report = sample::ramp();
            change(report.ramp.as_mut().expect("it has one"));
            notes(&report).join("\n")
        };
        let generators = "At 40,000/s, which was not held, the generator used 98 % of what its threads can";
        let above = "No rate was too high: the limit lies above 32,000/s.";
        let text = with(|_| ());
        assert!(text.contains(generators) && !text.contains(above), "{text}");
        let text = with(|ramp| ramp.steps.iter_mut().for_each(|step| step.generator_cores = 1.5));
        assert!(!text.contains("which was not held"), "{text}");
        let text = with(|ramp| ramp.steps.retain(|step| step.held));
        assert!(
            text.contains(above) && !text.contains("which was not held"),
            "{text}"
        );
        let text = with(|ramp| ramp.steps.retain(|step| !step.held));
        assert!(text.contains("At 40,000/s"), "{text}");
    }

    #[test]
    fn what_a_run_of_a_moment_costs_is_not_its_load() {
        let mut report = sample::closed();
        report.latency.count = 1;
        (report.seconds, report.cpu.generator_seconds) = (0.01, 0.1);
        let few = "1 answer says little of percentiles from 99 % on: fewer than 10 lie beyond.";
        assert_eq!(notes(&report), [few]);
        report.seconds = 1.0;
        report.cpu.generator_seconds = 1.9;
        assert!(notes(&report)[0].starts_with("The generator used 95 %"));
    }
}
