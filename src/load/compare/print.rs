//! A comparison on a terminal.

use console::Style;

use super::rank::{CHANCE_MAX, chance_min};
use super::{Comparison, Figure, Side, Unit, Verdict};
use crate::load::report::units::{cost, duration, percent, plural, rate};
use crate::printable::printable;

impl Comparison {
    /// The comparison for people, with colours or without.
    pub fn table(&self, colours: bool) -> String {
        let style = |style: Style| style.force_styling(colours);
        let dim = style(Style::new().dim());
        let repeated = self.first.runs > 1 || self.second.runs > 1;
        let mut text = String::new();
        let mut line = |line: String| {
            text.push_str(line.trim_end());
            text.push('\n');
        };
        line(format!("{}  {}", dim.apply_to("first "), side(&self.first)));
        line(format!("{}  {}", dim.apply_to("second"), side(&self.second)));
        line(String::new());
        let medians = if repeated { "median of runs" } else { "" };
        line(
            dim.apply_to(format!(
                "{medians:<16}{:>14}{:>14}{:>10}   {:16}",
                "first",
                "second",
                "ratio",
                if self.can_tell() { "95 % interval" } else { "" }
            ))
            .to_string(),
        );
        for figure in &self.figures {
            let (word, look) = match figure.verdict {
                Verdict::Better => ("better", Style::new().green().bold()),
                Verdict::Worse => ("worse", Style::new().red().bold()),
                Verdict::WithinNoise => ("within noise", Style::new().dim()),
                Verdict::CannotTell => ("", Style::new()),
            };
            let verdict = match figure.p {
                Some(p) => format!(
                    "{}{}",
                    style(look).apply_to(word),
                    dim.apply_to(format!(", p = {}", chance(p)))
                ),
                None => String::new(),
            };
            line(format!("{}{verdict}", row(figure, self.can_tell())));
        }
        line(String::new());
        for warning in &self.warnings {
            line(format!(
                "{}  {}",
                style(Style::new().yellow().bold()).apply_to("warning"),
                printable(warning)
            ));
        }
        for note in self.notes() {
            line(format!("{}  {note}", dim.apply_to("note")));
        }
        text
    }

    /// What the verdicts mean.
    fn notes(&self) -> Vec<String> {
        let (first, second) = (self.first.runs, self.second.runs);
        let mut notes = Vec::new();
        if first == 1 && second == 1 {
            notes.push("One run of each side cannot tell a difference from noise.".into());
        } else if !self.can_tell() {
            notes.push(format!(
                "{} against {second} cannot tell a difference from noise: chance alone puts them in any order in {} of all cases.",
                plural(first as u64, "run"),
                percent(self.p_min)
            ));
        }
        if self.can_tell() {
            notes.push(format!(
                "p is how often chance alone makes such a difference (rank test of Mann and Whitney, exact); up to {CHANCE_MAX} it \
                 counts as one. Of twenty figures that do not differ, one is called different."
            ));
        } else {
            notes.push(format!(
                "Run each side at least 4 times, by turns: 4 against 4 can give p = {}, 5 against 5 {}.",
                chance(chance_min(4, 4)),
                chance(chance_min(5, 5)),
            ));
        }
        notes
    }
}

fn side(side: &Side) -> String {
    format!(
        "{}  {}, floodgate {}",
        printable(&side.url),
        plural(side.runs as u64, "run"),
        printable(&side.floodgate)
    )
}

fn row(figure: &Figure, can_tell: bool) -> String {
    let value = |value: f64| match figure.unit {
        Unit::Rate => rate(value),
        Unit::Time => duration(value),
        Unit::Cost => cost(value),
        Unit::Share => percent(value),
    };
    let ratio = figure.ratio.map_or("–".into(), multiple);
    let interval = match figure.ratio_interval {
        Some([from, to]) => format!("{} to {}", multiple(from), multiple(to)),
        None => String::new(),
    };
    let width = if can_tell { 18 } else { 0 };
    format!(
        "{:<16}{:>14}{:>14}{ratio:>10}   {interval:width$}",
        figure.title,
        value(figure.first),
        value(figure.second)
    )
}

/// `1.08`, or without digits that say nothing: `12.3`.
fn multiple(ratio: f64) -> String {
    match ratio {
        large if large >= 100.0 => format!("{large:.0}"),
        middle if middle >= 10.0 => format!("{middle:.1}"),
        small if small < 0.1 => format!("{small:.3}"),
        other => format!("{other:.2}"),
    }
}

fn chance(p: f64) -> String {
    match p {
        tiny if tiny < 0.0005 => format!("{tiny:.0e}"),
        small if small < 0.1 => format!("{small:.3}"),
        other => format!("{other:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::report::{Report, sample};
    use super::*;

    fn table(first: &[f64], second: &[f64]) -> String {
        let runs = |name: &str, factors: &[f64]| -> Vec<Report> {
            let factors = factors.iter().enumerate();
            factors
                .map(|(at, factor)| sample::slower(&format!("{name}{at}"), *factor))
                .collect()
        };
        Comparison::new(&runs("a", first), &runs("b", second))
            .unwrap()
            .table(false)
    }

    #[test]
    fn two_files_are_put_side_by_side_without_a_verdict() {
        let text = table(&[1.0], &[1.25]);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "first   http://127.0.0.1:8001  1 run, floodgate 0.1.0");
        assert_eq!(rows[3], "                         first        second     ratio");
        assert_eq!(rows[4], "requests             120,451/s      96,361/s      0.80");
        assert_eq!(rows[7], "50 %                    389 µs        486 µs      1.25");
        assert!(
            text.contains("failed                     0 %           0 %         –\n"),
            "{text}"
        );
        assert!(
            text.contains("One run of each side cannot tell a difference from noise."),
            "{text}"
        );
        assert!(text.contains("4 against 4 can give p = 0.029"), "{text}");
        assert!(!text.contains("better") && !text.contains("worse"), "{text}");
    }

    #[test]
    fn repeated_runs_have_verdicts_and_intervals() {
        let text = table(&[1.0, 1.01, 1.02, 1.03], &[1.1, 1.11, 1.12, 1.13]);
        let requests = text.lines().find(|line| line.starts_with("requests")).unwrap();
        assert!(
            requests.ends_with("0.91   0.88 to 0.94      worse, p = 0.029"),
            "{text}"
        );
        let failed = text.lines().find(|line| line.starts_with("failed")).unwrap();
        assert!(failed.ends_with("within noise, p = 1.00"), "{text}");
        let three = table(&[1.0, 1.01, 1.02], &[1.1, 1.11, 1.12]);
        assert!(three.contains("3 runs against 3 cannot tell"), "{three}");
    }
}
