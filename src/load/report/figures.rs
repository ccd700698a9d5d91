//! The charts of a report: what is drawn, with which axes, and what is said to those who cannot see it.

use super::chart::{Axis, Chart, Line, Mark, Scale};
use super::notes::{BEYOND_MIN, percentile};
use super::series::Point;
use super::units::{count, duration, rate, short};
use super::{OverTime, Ramp, Report};

/// Points of a line: more than this is finer than a picture shows. A longer run has several steps put together, with the worst
/// of their latencies.
const POINTS_MAX: usize = 240;
/// Points of the latency curve.
const CURVE_POINTS: u32 = 300;
/// A last step that is a smaller part of a whole one is left out: its rate would be of a few answers.
const PART_MIN: f64 = 0.5;

/// Latency by percentile, on an axis that gives each nine the same room; none without answers.
pub fn distribution(report: &Report) -> Option<Chart> {
    let latency = &report.latency;
    let histogram = latency
        .histogram()
        .ok()
        .filter(|histogram| !histogram.is_empty())?;
    let nines = (histogram.len() as f64).log10().max(1.0);
    let at = |nines: f64| {
        let value = histogram.value_at_quantile(1.0 - 10f64.powf(-nines));
        value.min(histogram.max()) as f64
    };
    let mut points: Vec<(f64, f64)> = (0..CURVE_POINTS)
        .map(|step| nines * f64::from(step) / f64::from(CURVE_POINTS))
        .map(|nines| (nines, at(nines)))
        .collect();
    points.push((nines, histogram.max() as f64));
    let mut marks: Vec<Mark> = latency
        .percentiles()
        .into_iter()
        .map(|(quantile, value)| (-(1.0 - quantile).log10(), value as f64))
        .filter(|(place, _)| *place < nines - 0.05)
        .map(|(place, value)| mark((place, value), "a"))
        .collect();
    marks.push(mark((nines, histogram.max() as f64), "a"));
    let doubtful = nines - (BEYOND_MIN as f64).log10();
    let scale = Scale::log(histogram.min() as f64, histogram.max() as f64);
    let values = latency
        .percentiles()
        .map(|(quantile, value)| format!("{} {}", percentile(quantile), duration(value as f64)));
    Some(Chart {
        alternative: format!(
            "Latency by percentile, from {} to {}: {}.",
            duration(latency.min as f64),
            duration(latency.max as f64),
            values.join(", ")
        ),
        x: Axis {
            label: "share of answers that took at most so long".into(),
            scale: Scale::Linear(0.0, nines),
            ticks: nines_ticks(nines),
        },
        y: times("latency, logarithmic", scale),
        lines: vec![line("latency", "a", points)],
        marks,
        rule: None,
        doubtful_from: (doubtful > 0.0).then(|| (doubtful, format!("fewer than {BEYOND_MIN} answers"))),
        tips: Vec::new(),
    })
}

/// 0, 50, 90, 99, 99.9 %, as far as the axis goes.
fn nines_ticks(nines: f64) -> Vec<(f64, String)> {
    let whole = (1..=nines as u32).map(f64::from);
    let places = [0.0, 0.5f64.log10().abs()].into_iter().chain(whole);
    places
        .map(|place| (place, percentile(1.0 - 10f64.powf(-place))))
        .collect()
}

/// A run over time: what is drawn of it, already put together and with its rates.
pub struct Course {
    seconds: f64,
    step: f64,
    points: Vec<Point>,
}

impl Course {
    /// Of a run; none if it was too short to have a course.
    pub fn of(report: &Report) -> Option<Course> {
        let OverTime { step_seconds, points } = &report.over_time;
        let merged = points.len().div_ceil(POINTS_MAX).max(1);
        let step = *step_seconds as f64 * merged as f64;
        let mut points: Vec<Point> = points
            .chunks(merged)
            .map(|chunk| {
                let mut first = chunk[0];
                chunk[1..].iter().for_each(|next| first.absorb(next));
                first
            })
            .collect();
        let is_part = |point: &Point| report.seconds - (point.second as f64) < step * PART_MIN;
        while points.last().is_some_and(is_part) {
            points.pop();
        }
        (points.len() >= 2).then_some(Course {
            seconds: report.seconds.max(1.0),
            step,
            points,
        })
    }

    /// From when to when a step goes.
    fn span(&self, point: &Point) -> (f64, f64) {
        let from = point.second as f64;
        (
            from,
            (from + self.step)
                .min(self.seconds)
                .max(from + self.step * PART_MIN),
        )
    }

    /// A value for each step, at its middle.
    fn line(&self, value: impl Fn(&Point, f64) -> f64) -> Vec<(f64, f64)> {
        let at = |point: &Point| {
            let (from, to) = self.span(point);
            ((from + to) / 2.0, value(point, to - from))
        };
        self.points.iter().map(at).collect()
    }

    fn axis(&self) -> Axis {
        let steps = [
            1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0,
        ];
        let step = steps.into_iter().find(|step| self.seconds / step <= 12.0);
        let step = step.unwrap_or_else(|| (self.seconds / 12.0 / 3_600.0).ceil() * 3_600.0);
        let count = (self.seconds / step + 1e-9) as u32;
        Axis {
            label: "time since the start".into(),
            scale: Scale::Linear(0.0, self.seconds),
            ticks: (0..=count)
                .map(|at| f64::from(at) * step)
                .map(|second| (second, clock(second)))
                .collect(),
        }
    }

    fn tips(&self, tip: impl Fn(&Point, f64) -> String) -> Vec<(f64, f64, String)> {
        let tip = |point: &Point| {
            let (from, to) = self.span(point);
            (from, to, format!("{}: {}", clock(from), tip(point, to - from)))
        };
        self.points.iter().map(tip).collect()
    }

    /// Events a second, or requests if each had one.
    pub fn throughput(&self, report: &Report) -> Chart {
        let of_events = report.events.sent != report.requests.sent;
        let what = if of_events {
            "events acknowledged a second"
        } else {
            "requests answered a second"
        };
        let value = |point: &Point| if of_events { point.events } else { point.requests };
        let points = self.line(|point, seconds| value(point) as f64 / seconds);
        let events_each = if of_events {
            report.events.sent as f64 / report.requests.sent.max(1) as f64
        } else {
            1.0
        };
        let target = report.target_rate.map(|target| target * events_each);
        let scale = Scale::from_zero(highest(&points).max(target.unwrap_or(0.0)));
        let lowest = points.iter().map(|(_, rate)| *rate).fold(f64::MAX, f64::min);
        Chart {
            alternative: format!(
                "{what} over {}: from {} to {}.",
                clock(self.seconds),
                rate(lowest),
                rate(highest(&points))
            ),
            x: self.axis(),
            y: numbers(what, scale),
            lines: vec![Line {
                filled: true,
                ..line(what, "a", points)
            }],
            marks: Vec::new(),
            rule: target.map(|target| (target, format!("intended: {}", rate(target)))),
            doubtful_from: None,
            tips: self.tips(|point, seconds| rate(value(point) as f64 / seconds)),
        }
    }

    /// Median, p99 and the longest of each step.
    pub fn latency(&self) -> Chart {
        let values = [
            self.line(|point, _| point.max_us as f64),
            self.line(|point, _| point.p99_us as f64),
            self.line(|point, _| point.p50_us as f64),
        ];
        // A second in which nothing was answered has no latency.
        let values = values.map(|points| {
            points
                .into_iter()
                .filter(|(_, micros)| *micros > 0.0)
                .collect::<Vec<_>>()
        });
        let lowest = values[2]
            .iter()
            .map(|(_, micros)| *micros)
            .fold(f64::MAX, f64::min);
        let scale = Scale::log(lowest, highest(&values[0]));
        let worst = values.each_ref().map(|points| duration(highest(points)));
        let [max, p99, p50] = values;
        Chart {
            alternative: format!(
                "Latency over {}: at worst the median was {}, the 99th percentile {}, the longest {}.",
                clock(self.seconds),
                worst[2],
                worst[1],
                worst[0]
            ),
            x: self.axis(),
            y: times("latency, logarithmic", scale),
            lines: vec![
                line("longest", "c", max),
                line("99 %", "b", p99),
                line("median", "a", p50),
            ],
            marks: Vec::new(),
            rule: None,
            doubtful_from: None,
            tips: self.tips(|point, _| {
                let [p50, p99, max] =
                    [point.p50_us, point.p99_us, point.max_us].map(|micros| duration(micros as f64));
                format!("median {p50}, 99 % {p99}, longest {max}")
            }),
        }
    }

    /// Failed requests a second; none if nothing failed.
    pub fn errors(&self) -> Option<Chart> {
        let points = self.line(|point, seconds| point.errors as f64 / seconds);
        let failed: u64 = self.points.iter().map(|point| point.errors).sum();
        (failed > 0).then(|| Chart {
            alternative: format!(
                "{} failed requests over {}, at most {}.",
                count(failed),
                clock(self.seconds),
                rate(highest(&points))
            ),
            x: self.axis(),
            y: numbers(
                "requests failed, or never sent, a second",
                Scale::from_zero(highest(&points)),
            ),
            lines: vec![Line {
                filled: true,
                ..line("failed", "bad", points)
            }],
            marks: Vec::new(),
            rule: None,
            doubtful_from: None,
            tips: self.tips(|point, seconds| rate(point.errors as f64 / seconds)),
        })
    }
}

/// The rates that were tried, with their p99; none without steps.
pub fn ramp(ramp: &Ramp) -> Option<Chart> {
    let mut steps = ramp.steps.clone();
    steps.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    let (lowest, fastest) = (steps.first()?.rate, steps.last()?.rate);
    let p99 =
        |worst: fn(u64, u64) -> u64| steps.iter().map(|step| step.p99_us).reduce(worst).unwrap_or(1) as f64;
    let bound = ramp.p99_max_us as f64;
    let scale = Scale::log(p99(u64::min).min(bound), p99(u64::max).max(bound));
    let rates = match fastest / lowest > 20.0 {
        true => Scale::log(lowest, fastest),
        false => Scale::from_zero(fastest),
    };
    let how = if matches!(rates, Scale::Log(..)) {
        "intended requests a second, logarithmic"
    } else {
        "intended requests a second"
    };
    let said = steps.iter().map(|step| {
        let held = if step.held { "held" } else { "not held" };
        format!("{} {held} with {}", rate(step.rate), duration(step.p99_us as f64))
    });
    Some(Chart {
        alternative: format!(
            "99th percentile by rate: {}.",
            said.collect::<Vec<_>>().join(", ")
        ),
        x: numbers(how, rates),
        y: times("99th percentile, logarithmic; ● held, × not held", scale),
        lines: vec![line(
            "99 %",
            "a",
            steps.iter().map(|step| (step.rate, step.p99_us as f64)).collect(),
        )],
        marks: steps
            .iter()
            .map(|step| {
                mark(
                    (step.rate, step.p99_us as f64),
                    if step.held { "ok" } else { "bad" },
                )
            })
            .collect(),
        rule: Some((bound, format!("bound: {}", duration(bound)))),
        doubtful_from: None,
        tips: Vec::new(),
    })
}

fn mark(at: (f64, f64), class: &'static str) -> Mark {
    Mark {
        at,
        label: duration(at.1),
        class,
    }
}

fn line(name: &str, class: &'static str, points: Vec<(f64, f64)>) -> Line {
    Line {
        name: name.into(),
        class,
        points,
        filled: false,
    }
}

fn times(label: &str, scale: Scale) -> Axis {
    let tick = |micros: f64| match micros {
        below if below < 1e3 => format!("{} µs", short(micros)),
        below if below < 1e6 => format!("{} ms", short(micros / 1e3)),
        _ => format!("{} s", short(micros / 1e6)),
    };
    axis(label, scale, tick)
}

fn numbers(label: &str, scale: Scale) -> Axis {
    axis(label, scale, short)
}

fn axis(label: &str, scale: Scale, tick: impl Fn(f64) -> String) -> Axis {
    let ticks = scale.ticks().into_iter().map(|value| (value, tick(value)));
    Axis {
        label: label.into(),
        scale,
        ticks: ticks.collect(),
    }
}

fn highest(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}

/// `12 s`, `2:05 min`, `1:00:05 h`.
fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        below if below < 120 => format!("{whole} s"),
        below if below < 3_600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02} h", whole / 3_600, whole / 60 % 60, whole % 60),
    }
}
