//! Two groups of runs side by side, and whether they differ by more than chance.
//!
//! A run is one measurement, whatever the number of requests in it: requests of a run are not independent, and what differs from
//! run to run (where memory lies, what else the machine does) is the same for all of them. So one run of each side tells
//! nothing about noise, and that is said; with repeated runs each figure has a rank test ([`rank`]).
//!
//! Owner: the main thread. Bounds: [`rank::RUNS_MAX`] runs a side.

mod print;
pub mod rank;
mod warnings;

use std::collections::HashSet;

use serde::Serialize;

use super::report::Report;
use rank::{CHANCE_MAX, RUNS_MAX, chance, chance_min, interval};

/// A figure that both sides have.
struct Kind {
    /// Its name in JSON.
    name: &'static str,
    /// Its name on a terminal.
    title: &'static str,
    unit: Unit,
    /// Whether it should be high; the others should be low.
    is_high_better: bool,
    /// Whether it is looked at when slower is to be a failure. Not the far tail, which is moved by single events, and of each
    /// thing one figure: each is one more chance for a false alarm.
    is_speed: bool,
    of: fn(&Report) -> Option<f64>,
}

/// How a figure is written.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    /// So many a second.
    #[serde(rename = "1/s")]
    Rate,
    /// Microseconds that an answer took.
    #[serde(rename = "us")]
    Time,
    /// Microseconds of CPU.
    #[serde(rename = "us")]
    Cost,
    /// A part of one.
    Share,
}

static KINDS: [Kind; 12] = [
    Kind {
        name: "requests_per_second",
        title: "requests",
        unit: Unit::Rate,
        is_high_better: true,
        is_speed: false,
        of: |run| Some(run.rate.requests_per_second),
    },
    Kind {
        name: "events_per_second",
        title: "events",
        unit: Unit::Rate,
        is_high_better: true,
        is_speed: true,
        of: |run| Some(run.rate.events_per_second),
    },
    Kind {
        name: "latency_mean",
        title: "mean",
        unit: Unit::Time,
        is_high_better: false,
        is_speed: false,
        of: |run| timed(run, run.latency.mean),
    },
    Kind {
        name: "latency_p50",
        title: "50 %",
        unit: Unit::Time,
        is_high_better: false,
        is_speed: true,
        of: |run| timed(run, run.latency.p50 as f64),
    },
    Kind {
        name: "latency_p90",
        title: "90 %",
        unit: Unit::Time,
        is_high_better: false,
        is_speed: false,
        of: |run| timed(run, run.latency.p90 as f64),
    },
    Kind {
        name: "latency_p99",
        title: "99 %",
        unit: Unit::Time,
        is_high_better: false,
        is_speed: true,
        of: |run| timed(run, run.latency.p99 as f64),
    },
    Kind {
        name: "latency_p99_9",
        title: "99.9 %",
        unit: Unit::Time,
        is_high_better: false,
        is_speed: false,
        of: |run| timed(run, run.latency.p99_9 as f64),
    },
    Kind {
        name: "latency_p99_99",
        title: "99.99 %",
        unit: Unit::Time,
        is_high_better: false,
        is_speed: false,
        of: |run| timed(run, run.latency.p99_99 as f64),
    },
    Kind {
        name: "latency_max",
        title: "max",
        unit: Unit::Time,
        is_high_better: false,
        is_speed: false,
        of: |run| timed(run, run.latency.max as f64),
    },
    Kind {
        name: "server_cpu_per_event",
        title: "server CPU",
        unit: Unit::Cost,
        is_high_better: false,
        is_speed: true,
        of: |run| each(run, run.cpu.server_seconds?),
    },
    Kind {
        name: "generator_cpu_per_event",
        title: "generator CPU",
        unit: Unit::Cost,
        is_high_better: false,
        is_speed: false,
        of: |run| each(run, run.cpu.generator_seconds),
    },
    Kind {
        name: "failed_share",
        title: "failed",
        unit: Unit::Share,
        is_high_better: false,
        is_speed: false,
        of: |run| Some(run.requests.failed as f64 / run.requests.sent.max(1) as f64),
    },
];

fn timed(run: &Report, micros: f64) -> Option<f64> {
    (run.latency.count > 0).then_some(micros)
}

fn each(run: &Report, seconds: f64) -> Option<f64> {
    (run.events.acknowledged > 0).then(|| seconds * 1e6 / run.events.acknowledged as f64)
}

/// What a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The second side is better.
    Better,
    /// The second side is worse.
    Worse,
    /// Chance makes such differences.
    WithinNoise,
    /// There are too few runs to tell.
    CannotTell,
}

/// A figure of both sides.
#[derive(Serialize)]
pub struct Figure {
    name: &'static str,
    unit: Unit,
    /// Medians of the runs.
    first: f64,
    second: f64,
    /// Least and largest of the runs.
    first_range: [f64; 2],
    second_range: [f64; 2],
    /// The second as a multiple of the first; none of 0.
    ratio: Option<f64>,
    /// Where the ratio is with 95 % confidence.
    ratio_interval: Option<[f64; 2]>,
    /// How often chance alone makes such a difference; none with too few runs.
    p: Option<f64>,
    verdict: Verdict,
    #[serde(skip)]
    title: &'static str,
    #[serde(skip)]
    is_speed: bool,
    /// By how much the second side is worse, as a part of the first; negative if better.
    #[serde(skip)]
    loss: f64,
}

/// A side in short.
#[derive(Serialize)]
struct Side {
    runs: usize,
    url: String,
    floodgate: String,
    ids: Vec<String>,
}

/// Two groups of runs.
#[derive(Serialize)]
pub struct Comparison {
    first: Side,
    second: Side,
    /// The smallest p that so many runs can give.
    p_min: f64,
    figures: Vec<Figure>,
    /// Why the sides may not be comparable, in sentences.
    warnings: Vec<String>,
}

impl Comparison {
    /// Of two groups.
    ///
    /// # Errors
    /// A sentence: a group has too many runs, or one twice.
    pub fn new(first: &[Report], second: &[Report]) -> Result<Comparison, String> {
        for runs in [first, second] {
            if runs.len() > RUNS_MAX {
                return Err(format!(
                    "{} runs on one side, where at most {RUNS_MAX} are compared",
                    runs.len()
                ));
            }
            let mut seen = HashSet::new();
            if let Some(run) = runs.iter().find(|run| !seen.insert((&run.run, &run.started))) {
                return Err(format!(
                    "the run {:?} is there twice on one side: counted as two it would prove too much",
                    run.run
                ));
            }
        }
        if first.is_empty() || second.is_empty() {
            return Err("a side has no runs".into());
        }
        let figures = KINDS.iter().filter_map(|kind| figure(kind, first, second));
        Ok(Comparison {
            first: side(first),
            second: side(second),
            p_min: chance_min(first.len(), second.len()),
            figures: figures.collect(),
            warnings: warnings::warnings(first, second),
        })
    }

    /// Whether there are enough runs to tell a difference from noise.
    pub fn can_tell(&self) -> bool {
        self.p_min <= CHANCE_MAX
    }

    /// The figures by which the second side is slower than the first by more than a share, beyond noise.
    pub fn slower(&self, share: f64) -> impl Iterator<Item = &'static str> {
        let is_slower = move |figure: &&Figure| {
            figure.is_speed && figure.verdict == Verdict::Worse && figure.loss > share
        };
        self.figures.iter().filter(is_slower).map(|figure| figure.name)
    }
}

fn side(runs: &[Report]) -> Side {
    Side {
        runs: runs.len(),
        url: runs[0].url.clone(),
        floodgate: runs[0].floodgate.clone(),
        ids: runs.iter().map(|run| run.run.clone()).collect(),
    }
}

/// A figure, if every run has it.
fn figure(kind: &Kind, first: &[Report], second: &[Report]) -> Option<Figure> {
    let values = |runs: &[Report]| {
        let values: Option<Vec<f64>> = runs.iter().map(kind.of).collect();
        let mut values = values.filter(|values| values.iter().all(|value| value.is_finite()))?;
        values.sort_by(f64::total_cmp);
        Some(values)
    };
    let (one, other) = (values(first)?, values(second)?);
    let (from, to) = (median(&one), median(&other));
    let p = (chance_min(one.len(), other.len()) <= CHANCE_MAX).then(|| chance(&one, &other));
    let is_better = (to > from) == kind.is_high_better;
    let verdict = match p {
        None => Verdict::CannotTell,
        Some(p) if p > CHANCE_MAX || to == from => Verdict::WithinNoise,
        Some(_) if is_better => Verdict::Better,
        Some(_) => Verdict::Worse,
    };
    let ratio = (from > 0.0).then(|| to / from);
    let range = |values: &[f64]| [values[0], values[values.len() - 1]];
    Some(Figure {
        name: kind.name,
        unit: kind.unit,
        first: from,
        second: to,
        first_range: range(&one),
        second_range: range(&other),
        ratio,
        ratio_interval: interval(&one, &other).map(|(from, to)| [from, to]),
        p,
        verdict,
        title: kind.title,
        is_speed: kind.is_speed,
        loss: ratio.map_or(0.0, |ratio| {
            if kind.is_high_better {
                1.0 - ratio
            } else {
                ratio - 1.0
            }
        }),
    })
}

/// Of values in order.
fn median(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;
    use super::*;

    /// Runs that are slower by these factors, each begun a minute after the other, from a minute on.
    fn runs(name: &str, factors: &[f64]) -> Vec<Report> {
        let run = |(at, factor): (usize, &f64)| {
            let mut run = sample::slower(&format!("{name}{at}"), *factor);
            run.started = format!("2026-11-25T16:{:02}:00Z", 2 * at + usize::from(name > "a"));
            run
        };
        factors.iter().enumerate().map(run).collect()
    }

    fn verdict(comparison: &Comparison, name: &str) -> (Verdict, Option<f64>) {
        let figure = comparison
            .figures
            .iter()
            .find(|figure| figure.name == name)
            .unwrap();
        (figure.verdict, figure.p.map(|p| (p * 1e3).round() / 1e3))
    }

    #[test]
    fn four_runs_against_four_tell_better_from_worse() {
        let (fast, slow) = (
            runs("a", &[1.0, 1.01, 1.02, 1.03]),
            runs("b", &[1.1, 1.11, 1.12, 1.13]),
        );
        let worse = Comparison::new(&fast, &slow).unwrap();
        for name in [
            "events_per_second",
            "latency_p50",
            "latency_p99",
            "server_cpu_per_event",
        ] {
            assert_eq!(verdict(&worse, name), (Verdict::Worse, Some(0.029)), "{name}");
        }
        assert_eq!(verdict(&worse, "failed_share"), (Verdict::WithinNoise, Some(1.0)));
        let slower: Vec<_> = worse.slower(0.05).collect();
        assert_eq!(
            slower,
            [
                "events_per_second",
                "latency_p50",
                "latency_p99",
                "server_cpu_per_event"
            ]
        );
        assert_eq!(worse.slower(0.5).count(), 0, "they are slower by a tenth");
        let better = Comparison::new(&slow, &fast).unwrap();
        assert_eq!(
            verdict(&better, "events_per_second"),
            (Verdict::Better, Some(0.029))
        );
        assert_eq!(better.slower(0.0).count(), 0);
    }

    #[test]
    fn runs_that_overlap_differ_by_noise() {
        let comparison = Comparison::new(
            &runs("a", &[1.0, 1.05, 1.1, 1.15]),
            &runs("b", &[1.02, 1.07, 1.12, 1.17]),
        )
        .unwrap();
        let (verdict, p) = verdict(&comparison, "latency_p99");
        assert!(verdict == Verdict::WithinNoise && p.unwrap() > 0.5, "{p:?}");
        assert_eq!(comparison.slower(0.0).count(), 0);
    }

    #[test]
    fn one_run_of_each_and_three_tell_nothing_however_they_differ() {
        for count in [1, 3] {
            let comparison = Comparison::new(
                &runs("a", &[1.0, 1.01, 1.02][..count]),
                &runs("b", &[2.0, 2.01, 2.02][..count]),
            )
            .unwrap();
            assert!(!comparison.can_tell());
            assert!(
                comparison
                    .figures
                    .iter()
                    .all(|figure| figure.verdict == Verdict::CannotTell && figure.p.is_none())
            );
        }
    }

    #[test]
    fn a_figure_that_a_run_lacks_is_left_out() {
        let (mut one, other) = (runs("a", &[1.0]), runs("b", &[1.0]));
        one[0].cpu.server_seconds = None;
        let comparison = Comparison::new(&one, &other).unwrap();
        assert!(
            comparison
                .figures
                .iter()
                .all(|figure| figure.name != "server_cpu_per_event")
        );
    }

    #[test]
    fn a_run_that_is_given_twice_is_refused() {
        let one = runs("a", &[1.0]);
        let twice = [one.clone(), one.clone()].concat();
        let error = Comparison::new(&one, &twice).err().unwrap();
        assert!(error.contains("\"a0\" is there twice"), "{error}");
        let many = runs("b", &[1.0; RUNS_MAX + 1]);
        assert!(Comparison::new(&one, &many).err().unwrap().starts_with("51 runs"));
    }
}
