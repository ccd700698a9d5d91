//! Charts as SVG: lines and points over two axes, with a legend, in one of two sizes.
//!
//! Colours and type come from the style sheet of the page (`page.css`), by class, so that a chart is dark where the page is. Labels
//! that would run into each other are left out; the lines of the grid stay. Whatever is given is escaped.

use maud::{Markup, html};

/// Height of a line of text, and about the width of a character in it.
const LINE: f64 = 18.0;
const CHARACTER: f64 = 7.3;
/// Room above the axes, below them for labels, and at the right.
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;
const RIGHT: f64 = 24.0;
/// Least room at the left, so that charts below each other have their axes in a line.
const LEFT_MIN: f64 = 62.0;
/// Parts that an axis is divided into, about.
const ROWS: f64 = 6.0;

/// How values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Evenly, from the first to the last.
    Linear(f64, f64),
    /// By their logarithm; both ends are above 0.
    Log(f64, f64),
}

/// An axis.
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// How values lie on it.
    pub scale: Scale,
    /// Where its lines are, with what is written there.
    pub ticks: Vec<(f64, String)>,
}

/// A line.
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its look: `a`, `b`, `c` or `bad`.
    pub class: &'static str,
    /// Its points, in order.
    pub points: Vec<(f64, f64)>,
    /// Whether what is below is filled.
    pub filled: bool,
}

/// A single point that is marked.
pub struct Mark {
    /// Where.
    pub at: (f64, f64),
    /// What is written at it; may be empty.
    pub label: String,
    /// Its look: `a`, `ok` or `bad`. A bad one is a cross.
    pub class: &'static str,
}

/// A chart.
pub struct Chart {
    /// What it shows, for those who cannot see it.
    pub alternative: String,
    /// From left to right.
    pub x: Axis,
    /// From below.
    pub y: Axis,
    /// Lines, the first below.
    pub lines: Vec<Line>,
    /// Points, above the lines.
    pub marks: Vec<Mark>,
    /// A height that means something, and what.
    pub rule: Option<(f64, String)>,
    /// From where on what is shown means little, and why.
    pub doubtful_from: Option<(f64, String)>,
    /// What a pointer is told: up to where, and what.
    pub tips: Vec<(f64, f64, String)>,
}

impl Scale {
    /// Where a value lies, 0 to 1; what is beyond the ends is at them.
    fn at(self, value: f64) -> f64 {
        let share = match self {
            Scale::Linear(from, to) => (value - from) / (to - from),
            Scale::Log(from, to) => (value / from).ln() / (to / from).ln(),
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// From 0 to a round number that has room for `max`.
    pub fn from_zero(max: f64) -> Scale {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = round_step(max / ROWS);
        Scale::Linear(0.0, (max / step).ceil() * step)
    }

    /// A logarithmic one between round numbers that has room for both.
    pub fn log(min: f64, max: f64) -> Scale {
        let min = if min.is_finite() { min.max(1.0) } else { 1.0 };
        let max = if max.is_finite() { max.max(min) } else { min };
        let below = *LOG_STEPS
            .iter()
            .rev()
            .find(|step| decade(min) * **step <= min * 1.0001)
            .unwrap_or(&1.0);
        let above = LOG_STEPS.iter().find(|step| decade(max) * **step >= max * 0.9999);
        let (from, to) = (decade(min) * below, decade(max) * above.unwrap_or(&10.0));
        Scale::Log(from, if to > from { to } else { from * 2.0 })
    }

    /// Round values between its ends, not too many.
    pub fn ticks(self) -> Vec<f64> {
        match self {
            Scale::Linear(from, to) => {
                let step = round_step((to - from) / ROWS);
                let count = ((to - from) / step + 1e-9).floor().min(100.0) as u32;
                (0..=count).map(|at| from + f64::from(at) * step).collect()
            }
            Scale::Log(from, to) => {
                let decades = (to / from).log10();
                let steps: &[f64] = match decades {
                    few if few <= 2.5 => &LOG_STEPS,
                    some if some <= 4.0 => &[1.0, 3.0],
                    _ => &[1.0],
                };
                let mut ticks = Vec::new();
                let mut decade = decade(from);
                while decade <= to * 1.0001 && ticks.len() < 100 {
                    let here = steps.iter().map(|step| decade * step);
                    ticks.extend(here.filter(|tick| *tick >= from * 0.9999 && *tick <= to * 1.0001));
                    decade *= 10.0;
                }
                ticks
            }
        }
    }
}

const LOG_STEPS: [f64; 3] = [1.0, 2.0, 5.0];

fn decade(value: f64) -> f64 {
    10f64.powf((value.log10() + 1e-9).floor())
}

/// The round number (1, 2 or 5 and zeros) at or above another.
fn round_step(step: f64) -> f64 {
    let decade = decade(step);
    let round = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|round| decade * round >= step * 0.9999);
    decade * round.unwrap_or(10.0)
}

/// A chart in its place: where the axes are.
struct Plot<'c> {
    chart: &'c Chart,
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Chart {
    /// The chart twice, of which the style sheet shows the one that fits: scaling one would make its text too small to read, or
    /// coarse.
    pub fn both(&self) -> Markup {
        html! {
            div .chart.wide { (self.svg(720.0, 300.0)) }
            div .chart.narrow aria-hidden="true" { (self.svg(380.0, 280.0)) }
        }
    }

    fn svg(&self, width: f64, height: f64) -> Markup {
        let longest = self
            .y
            .ticks
            .iter()
            .map(|(_, label)| label.chars().count())
            .max()
            .unwrap_or(0);
        let left = (longest as f64 * CHARACTER + 12.0).max(LEFT_MIN);
        let legend = self.legend();
        let lines = if legend.is_empty() { 1.0 } else { 2.0 };
        let top = TOP + lines * LINE;
        let plot = Plot {
            chart: self,
            left,
            top,
            width: width - left - RIGHT,
            height: height - top - BOTTOM,
        };
        html! {
            svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(self.alternative) {
                (plot.doubtful())
                (plot.grid())
                (plot.rule())
                @for line in &self.lines { (plot.line(line)) }
                (plot.marks())
                (plot.tips())
                @if !legend.is_empty() { (legend_row(&legend, left)) }
                text .label x=(px(left)) y=(px(top - 8.0)) { (self.y.label) }
                text .label.end x=(px(left + plot.width)) y=(px(height - 4.0)) { (self.x.label) }
            }
        }
    }

    fn legend(&self) -> Vec<(&str, &'static str)> {
        match self.lines.len() {
            0 | 1 => Vec::new(),
            _ => self
                .lines
                .iter()
                .map(|line| (line.name.as_str(), line.class))
                .collect(),
        }
    }
}

fn legend_row(legend: &[(&str, &'static str)], left: f64) -> Markup {
    let mut from = left;
    let mut places = Vec::with_capacity(legend.len());
    for (name, _) in legend {
        places.push(from);
        from += 44.0 + name.chars().count() as f64 * CHARACTER;
    }
    html! {
        @for ((name, class), x) in legend.iter().zip(places) {
            line class={ "line " (class) } x1=(px(x)) x2=(px(x + 20.0)) y1="12" y2="12" {}
            text .label x=(px(x + 26.0)) y="16" { (name) }
        }
    }
}

impl Plot<'_> {
    fn x(&self, value: f64) -> f64 {
        self.left + self.chart.x.scale.at(value) * self.width
    }

    fn y(&self, value: f64) -> f64 {
        self.top + (1.0 - self.chart.y.scale.at(value)) * self.height
    }

    fn floor(&self) -> f64 {
        self.top + self.height
    }

    fn grid(&self) -> Markup {
        let (left, right) = (self.left, self.left + self.width);
        html! {
            @for (value, _) in &self.chart.y.ticks {
                @let y = px(self.y(*value));
                line .grid x1=(px(left)) x2=(px(right)) y1=(y) y2=(y) {}
            }
            @for (y, label) in self.y_labels() {
                text .tick.end x=(px(left - 7.0)) y=(px(y + 4.0)) { (label) }
            }
            @for (value, _) in &self.chart.x.ticks {
                @let x = px(self.x(*value));
                line .grid x1=(x) x2=(x) y1=(px(self.top)) y2=(px(self.floor())) {}
            }
            @for (x, label) in self.x_labels() {
                text .tick.middle x=(px(x)) y=(px(self.floor() + LINE)) { (label) }
            }
            line .axis x1=(px(left)) x2=(px(right)) y1=(px(self.floor())) y2=(px(self.floor())) {}
        }
    }

    /// Those that have room above the one before.
    fn y_labels(&self) -> Vec<(f64, &str)> {
        let mut labels: Vec<(f64, &str)> = Vec::new();
        for (value, label) in &self.chart.y.ticks {
            let y = self.y(*value);
            if labels.last().is_none_or(|(below, _)| below - y > LINE * 0.8) {
                labels.push((y, label));
            }
        }
        labels
    }

    /// The middles of those that have room beside the one before; all stay within the picture.
    fn x_labels(&self) -> Vec<(f64, &str)> {
        let mut labels = Vec::new();
        let mut free_from = f64::MIN;
        for (value, label) in &self.chart.x.ticks {
            let half = label.chars().count() as f64 * CHARACTER / 2.0;
            let middle = self.x(*value).min(self.left + self.width + RIGHT - half);
            if middle - half > free_from {
                labels.push((middle, label.as_str()));
                free_from = middle + half + CHARACTER;
            }
        }
        labels
    }

    fn rule(&self) -> Markup {
        html! {
            @if let Some((value, label)) = &self.chart.rule {
                @let y = self.y(*value);
                // Above the line, unless that is where the axis is named.
                @let base = if y - self.top < LINE { y + 14.0 } else { y - 5.0 };
                line .rule x1=(px(self.left)) x2=(px(self.left + self.width)) y1=(px(y)) y2=(px(y)) {}
                text .note x=(px(self.left + 6.0)) y=(px(base)) { (label) }
            }
        }
    }

    fn doubtful(&self) -> Markup {
        html! {
            @if let Some((from, why)) = &self.chart.doubtful_from {
                @let (x, right) = (self.x(*from), self.left + self.width);
                rect .doubtful x=(px(x)) y=(px(self.top)) width=(px(right - x)) height=(px(self.height)) {}
                text .note.end x=(px(right - 4.0)) y=(px(self.floor() - 6.0)) { (why) }
            }
        }
    }

    fn line(&self, line: &Line) -> Markup {
        let mut path = String::with_capacity(line.points.len() * 12);
        for (at, (x, y)) in line.points.iter().enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            path += &format!("{command}{} {}", px(self.x(*x)), px(self.y(*y)));
        }
        let area = match (line.filled, line.points.first(), line.points.last()) {
            (true, Some((first, _)), Some((last, _))) => {
                format!(
                    "{path}L{} {}L{} {}Z",
                    px(self.x(*last)),
                    px(self.floor()),
                    px(self.x(*first)),
                    px(self.floor())
                )
            }
            _ => String::new(),
        };
        html! {
            @if !area.is_empty() { path class={ "area " (line.class) } d=(area) {} }
            path class={ "line " (line.class) } d=(path) {}
        }
    }

    fn marks(&self) -> Markup {
        html! {
            @for mark in &self.chart.marks {
                @let (x, y) = (self.x(mark.at.0), self.y(mark.at.1));
                @if mark.class == "bad" {
                    path .mark.bad d=(format!("M{} {}l8 8m0 -8l-8 8", px(x - 4.0), px(y - 4.0))) {}
                } @else {
                    circle class={ "mark " (mark.class) } cx=(px(x)) cy=(px(y)) r="4" {}
                }
            }
            @for (right, base, label) in self.mark_labels() {
                text .value.end x=(px(right)) y=(px(base)) { (label) }
            }
        }
    }

    /// Right ends and base lines of the labels of marks: to the upper left, where a line that rises is not, if the others leave
    /// the room.
    fn mark_labels(&self) -> Vec<(f64, f64, &str)> {
        let width = |label: &str| label.chars().count() as f64 * CHARACTER;
        let mut labels: Vec<(f64, f64, &str)> = Vec::new();
        for mark in self.chart.marks.iter().filter(|mark| !mark.label.is_empty()) {
            let right = self.x(mark.at.0) - 6.0;
            let base = (self.y(mark.at.1) - 8.0).max(self.top + 11.0);
            let left = right - width(&mark.label);
            let is_free = labels.iter().all(|(other, height, label)| {
                left > other + CHARACTER
                    || right < other - width(label) - CHARACTER
                    || (base - height).abs() > LINE * 0.8
            });
            if is_free && left >= self.left {
                labels.push((right, base, &mark.label));
            }
        }
        labels
    }

    fn tips(&self) -> Markup {
        html! {
            @for (from, to, tip) in &self.chart.tips {
                @let (x, right) = (self.x(*from), self.x(*to));
                rect .tip x=(px(x)) y=(px(self.top)) width=(px(right - x)) height=(px(self.height)) { title { (tip) } }
            }
        }
    }
}

/// A coordinate; a tenth of a pixel is finer than anybody sees.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers_and_have_room_for_what_they_show() {
        assert_eq!(Scale::from_zero(118_000.0), Scale::Linear(0.0, 120_000.0));
        assert_eq!(Scale::from_zero(120_001.0), Scale::Linear(0.0, 140_000.0));
        assert_eq!(Scale::from_zero(0.0).ticks().first(), Some(&0.0));
        assert_eq!(Scale::from_zero(f64::NAN), Scale::from_zero(1.0));
        assert_eq!(Scale::log(300.0, 141_000.0), Scale::Log(200.0, 200_000.0));
        assert_eq!(Scale::log(0.0, 0.0), Scale::Log(1.0, 2.0));
        assert_eq!(
            Scale::Log(200.0, 2_000.0).ticks(),
            [200.0, 500.0, 1_000.0, 2_000.0]
        );
        for (min, max) in [(1.0, 1.0), (7.0, 9e9), (999.0, 1_001.0), (1.0, 1e18)] {
            let ticks = Scale::log(min, max).ticks();
            assert!((2..=20).contains(&ticks.len()), "{ticks:?}");
        }
    }

    fn chart(labels: &[&str]) -> Chart {
        let ticks: Vec<(f64, String)> = labels
            .iter()
            .enumerate()
            .map(|(at, label)| (at as f64, (*label).into()))
            .collect();
        let axis = |ticks| Axis {
            label: "<axis>".into(),
            scale: Scale::Linear(0.0, 10.0),
            ticks,
        };
        Chart {
            alternative: "\"quoted\" & <b>".into(),
            x: axis(ticks.clone()),
            y: axis(ticks),
            lines: Vec::new(),
            marks: vec![
                Mark {
                    at: (5.0, 5.0),
                    label: "first".into(),
                    class: "a",
                },
                Mark {
                    at: (5.1, 5.1),
                    label: "second".into(),
                    class: "bad",
                },
            ],
            rule: None,
            doubtful_from: None,
            tips: vec![(1.0, 2.0, "<tip>".into())],
        }
    }

    #[test]
    fn a_rule_at_the_top_is_named_below_it() {
        let mut chart = chart(&["0", "1"]);
        let mut height = |value| {
            chart.rule = Some((value, "the rule".into()));
            let text = chart.svg(380.0, 280.0).into_string();
            let of = |what: &str, name: &str| {
                let element = text.split('<').find(|element| element.starts_with(what));
                let behind = element.and_then(|element| element.split_once(name));
                let number = behind.and_then(|(_, rest)| rest.split('"').next());
                number
                    .and_then(|number| number.parse::<f64>().ok())
                    .expect("it has a height")
            };
            (
                of("line class=\"rule\"", "y1=\""),
                of("text class=\"note\"", " y=\""),
            )
        };
        let (line, label) = height(5.0);
        assert!(label < line);
        let (line, label) = height(10.0);
        assert!(label > line, "above it is the name of the axis");
    }

    #[test]
    fn labels_that_would_run_into_each_other_are_left_out() {
        let wide = chart(&[
            "0 of these labels",
            "1 of these labels",
            "2 of these labels",
            "3 of these labels",
        ]);
        let text = wide.svg(380.0, 280.0).into_string();
        let middles = text.matches("tick middle").count();
        assert!(
            (1..4).contains(&middles),
            "{middles} of 4 labels have room: {text}"
        );
        assert!(text.contains("first") && !text.contains("second"), "{text}");
        assert_eq!(text.matches("class=\"mark").count(), 2, "their points are there");
    }

    #[test]
    fn whatever_is_written_on_it_is_escaped() {
        let text = chart(&["<i>"]).svg(720.0, 300.0).into_string();
        assert!(
            text.contains("aria-label=\"&quot;quoted&quot; &amp; &lt;b&gt;\""),
            "{text}"
        );
        assert!(
            text.contains("&lt;axis&gt;")
                && text.contains("&lt;i&gt;")
                && text.contains("<title>&lt;tip&gt;</title>"),
            "{text}"
        );
    }
}
