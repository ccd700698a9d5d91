//! What a reader of a report should know before believing its figures.

use super::units::{self, percent};
use super::{Pacing, Report};

/// Share of what its threads can use of the cores from which on the generator may be what limits the rate.
const BUSY_SHARE: f64 = 0.8;
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
    let cores = report.machine.cores as f64;
    let threads = report
        .settings
        .get("threads")
        .and_then(|count| count.parse().ok());
    let usable = threads.unwrap_or(cores).min(cores);
    let busy = report.cpu.generator_seconds / (report.seconds * usable);
    if busy.is_finite() && busy >= BUSY_SHARE {
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
            "{} say little of percentiles from {} on: fewer than {BEYOND_MIN} lie beyond.",
            units::plural(count, "answer"),
            percentile(quantile),
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
