//! A report on a terminal.

use std::fmt::Write;

use console::Style;

use super::notes::{BEYOND_MIN, beyond, notes, percentile};
use super::units::{bytes, cost, count, duration, percent, plural, quantity, rate, seconds};
use super::{CountedFrom, Latency, Pacing, Report, Verify};
use crate::printable::printable;

/// Columns that a line of many settings may have.
const COLUMNS: usize = 100;
/// Columns of the names at the left.
const NAME_COLUMNS: usize = 10;

/// Writes a report as text.
struct Table<'r> {
    report: &'r Report,
    colours: bool,
    text: String,
}

/// The report for people, with colours or without.
pub fn table(report: &Report, colours: bool) -> String {
    let mut table = Table {
        report,
        colours,
        text: String::new(),
    };
    table.head();
    table.totals();
    table.latency();
    table.ramp();
    table.errors();
    table.verify();
    table.notes();
    table.text
}

impl Table<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn styled(&self, style: Style, text: impl std::fmt::Display) -> String {
        style.force_styling(self.colours).apply_to(text).to_string()
    }

    fn bold(&self, text: impl std::fmt::Display) -> String {
        self.styled(Style::new().bold(), text)
    }

    fn dim(&self, text: impl std::fmt::Display) -> String {
        self.styled(Style::new().dim(), text)
    }

    fn bad(&self, is_bad: bool, text: impl std::fmt::Display) -> String {
        match is_bad {
            true => self.styled(Style::new().red().bold(), text),
            false => text.to_string(),
        }
    }

    /// A name at the left.
    fn name(&self, name: &str) -> String {
        self.dim(format!("{name:NAME_COLUMNS$}"))
    }

    fn head(&mut self) {
        let report = self.report;
        let url = self.bold(printable(&report.url));
        let stopped = if report.interrupted { ", stopped early" } else { "" };
        self.line(&format!(
            "{url}  {}, {}{stopped}",
            pacing(report),
            seconds(report.seconds)
        ));
        let run = format!(
            "run {}, {}, floodgate {}",
            report.run, report.started, report.floodgate
        );
        self.line(&self.dim(printable(&run)));
        let mut line = String::new();
        for (name, value) in &report.settings {
            let setting = format!("{} {}", printable(name), printable(value));
            if !line.is_empty() && line.chars().count() + setting.chars().count() + 2 > COLUMNS {
                self.line(&self.dim(&line));
                line.clear();
            }
            let _ = write!(line, "{}{setting}", if line.is_empty() { "" } else { ", " });
        }
        if !line.is_empty() {
            self.line(&self.dim(line));
        }
        self.line(&self.dim(printable(&machine(report))));
    }

    fn totals(&mut self) {
        let report = self.report;
        let (requests, events) = (&report.requests, &report.events);
        let row = |name: &str, total: String, rate: String| format!("{name}{total:>16}{rate:>16}  ");
        self.line("");
        let mut failed = match requests.failed {
            0 => self.dim("none failed"),
            failed => {
                let share = percent(failed as f64 / requests.sent.max(1) as f64);
                self.bad(true, format!("{} failed ({share})", count(failed)))
            }
        };
        if report.unsent() > 0 {
            let unsent = self.bad(true, format!("{} never sent", count(report.unsent())));
            failed = format!("{failed}, {unsent}");
        }
        self.line(
            &(row(
                &self.name("requests"),
                count(requests.sent),
                rate(report.rate.requests_per_second),
            ) + &failed),
        );
        let mut fates = Vec::new();
        if events.refused > 0 {
            fates.push(self.bad(true, format!("{} refused", count(events.refused))));
        }
        if events.unknown > 0 {
            fates.push(self.bad(true, format!("{} without an answer", count(events.unknown))));
        }
        if fates.is_empty() {
            fates.push(self.dim("all acknowledged"));
        }
        self.line(
            &(row(
                &self.name("events"),
                count(events.sent),
                rate(report.rate.events_per_second),
            ) + &fates.join(", ")),
        );
        // The rate of a ramp is one step's.
        let sent = match report.ramp {
            None => bytes(report.rate.bytes_per_second * report.seconds),
            Some(_) => String::new(),
        };
        self.line(&row(
            &self.name("bodies"),
            sent,
            format!("{}/s", bytes(report.rate.bytes_per_second)),
        ));
        self.cpu("generator", Some(report.cpu.generator_seconds));
        self.cpu("server", report.cpu.server_seconds);
    }

    fn cpu(&mut self, who: &str, used: Option<f64>) {
        let Some(used) = used else { return };
        let report = self.report;
        let mut line = format!("{}{:>16}", self.name(who), format!("{} CPU", seconds(used)));
        let of_a_core = used / report.seconds;
        if of_a_core.is_finite() {
            let cores = format!("{} cores", quantity(of_a_core));
            let _ = write!(line, "{cores:>16}");
        }
        if report.events.acknowledged > 0 {
            let each = cost(used * 1e6 / report.events.acknowledged as f64);
            let _ = write!(line, "  {}", self.dim(format!("{each} an event")));
        }
        self.line(&line);
    }

    fn latency(&mut self) {
        let latency = &self.report.latency;
        self.line("");
        let from = counted_from(latency);
        self.line(&format!(
            "{}{}",
            self.bold("latency"),
            self.dim(format!(", {from}"))
        ));
        if latency.count == 0 {
            self.line("  no answer was timed");
            return;
        }
        let spread = format!("± {}", duration(latency.stdev));
        self.line(&self.latency_row("mean", latency.mean, &spread));
        self.line(&self.latency_row("min", latency.min as f64, ""));
        for (quantile, value) in latency.percentiles() {
            let slower = beyond(latency.count, quantile);
            let note = match quantile >= 0.99 {
                true if slower < BEYOND_MIN => format!("{} took longer: too few to tell", count(slower)),
                true => format!("{} took longer", count(slower)),
                false => String::new(),
            };
            self.line(&self.latency_row(&percentile(quantile), value as f64, &note));
        }
        self.line(&self.latency_row("max", latency.max as f64, ""));
    }

    fn latency_row(&self, name: &str, micros: f64, note: &str) -> String {
        let name = self.dim(format!("{name:>NAME_COLUMNS$}"));
        format!("{name}{:>16}  {}", duration(micros), self.dim(note))
    }

    fn ramp(&mut self) {
        let Some(ramp) = &self.report.ramp else { return };
        self.line("");
        let bound = duration(ramp.p99_max_us as f64);
        let found = match ramp.highest() {
            Some(step) => format!(
                "highest rate held: {} with p99 {}",
                self.bold(rate(step.rate)),
                duration(step.p99_us as f64)
            ),
            None => self.bad(true, "no rate was held"),
        };
        self.line(&format!(
            "{}{}; {found}",
            self.bold("ramp"),
            self.dim(format!(", p99 at most {bound}"))
        ));
        let heads = format!(
            "{:>16}{:>16}{:>12}{:>12}{:>12}",
            "meant", "reached", "50 %", "99 %", "99.9 %"
        );
        self.line(&self.dim(heads));
        for step in &ramp.steps {
            let times = [step.p50_us, step.p99_us, step.p99_9_us].map(|micros| duration(micros as f64));
            let [p50, p99, p99_9] = &times;
            let held = if step.held {
                "held".to_owned()
            } else {
                self.bad(true, "not held")
            };
            self.line(&format!(
                "{:>16}{:>16}{p50:>12}{p99:>12}{p99_9:>12}  {held}",
                rate(step.rate),
                rate(step.achieved)
            ));
        }
    }

    fn errors(&mut self) {
        let errors = &self.report.errors;
        if errors.is_empty() {
            return;
        }
        self.line("");
        self.line(&self.bold("errors"));
        let kinds = errors
            .iter()
            .map(|error| printable(&error.kind).chars().count())
            .max()
            .unwrap_or(0)
            .min(32);
        for error in errors {
            let number = self.bad(true, format!("{:>16}", count(error.count)));
            let example = self.dim(printable(&error.example));
            self.line(&format!("{number}  {:kinds$}  {example}", printable(&error.kind)));
        }
    }

    fn verify(&mut self) {
        let Some(verify) = &self.report.verify else { return };
        self.line("");
        let verdict = match verify.is_ok() {
            true => self.styled(Style::new().green().bold(), "verified"),
            false => self.bad(true, "not what was promised"),
        };
        self.line(&format!(
            "{verdict}{}",
            self.dim(format!(", {}", printable(&verify.log)))
        ));
        for (sentence, is_bad) in account(verify, self.report.events.acknowledged) {
            self.line(&format!("  {}", self.bad(is_bad, sentence)));
        }
        for example in &verify.examples {
            self.line(&format!("  {}", self.dim(format!("– {}", printable(example)))));
        }
    }

    fn notes(&mut self) {
        let notes = notes(self.report);
        if notes.is_empty() {
            return;
        }
        self.line("");
        for note in notes {
            let mark = self.styled(Style::new().yellow().bold(), "note");
            self.line(&format!("{mark}  {note}"));
        }
    }
}

/// `closed loop`, or with the rate that was meant.
pub fn pacing(report: &Report) -> String {
    match (report.pacing, report.target_rate) {
        (Pacing::Closed, _) => "closed loop".into(),
        (Pacing::Open, Some(target)) => format!("open loop at {}", rate(target)),
        (Pacing::Open, None) => "open loop".into(),
    }
}

/// Where the clock of a latency began, in words.
pub fn counted_from(latency: &Latency) -> &'static str {
    match latency.counted_from {
        CountedFrom::IntendedSendTime => "from the time the request was meant to be sent",
        CountedFrom::SendTime => "from the time the request was sent",
    }
}

/// The machine in a line.
pub fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let mut line = format!(
        "{}, {}, {}, {}",
        machine.cpu,
        plural(machine.cores, "core"),
        bytes(machine.memory_bytes as f64),
        machine.kernel
    );
    if let Some(load) = machine.load_average {
        let _ = write!(line, ", load average {load:.2} before");
    }
    line
}

/// What the log has of the events, in sentences; whether each is bad news.
pub fn account(verify: &Verify, acknowledged: u64) -> Vec<(String, bool)> {
    let stored = match verify.missing {
        0 => format!(
            "Each of {} acknowledged events is in the log.",
            count(acknowledged)
        ),
        missing => format!(
            "{} of {} acknowledged events are missing from the log.",
            count(missing),
            count(acknowledged)
        ),
    };
    let twice = match verify.twice {
        0 => "Nothing is there twice.".into(),
        twice => format!("{} there more than once.", are(twice)),
    };
    let mut account = vec![(stored, verify.missing > 0), (twice, verify.twice > 0)];
    if verify.refused + verify.refused_stored > 0 {
        account.push((format!("{} refused and not stored.", are(verify.refused)), false));
    }
    if verify.refused_stored > 0 {
        account.push((
            format!("{} refused and stored all the same.", are(verify.refused_stored)),
            true,
        ));
    }
    let unknown = verify.unknown_stored + verify.unknown_missing;
    if unknown > 0 {
        let what = format!(
            "Of {} without an answer {} stored and {} not: either is allowed.",
            plural(unknown, "event"),
            are_count(verify.unknown_stored),
            are_count(verify.unknown_missing),
        );
        account.push((what, false));
    }
    account
}

fn are(number: u64) -> String {
    let verb = if number == 1 { "was" } else { "were" };
    format!("{} {verb}", plural(number, "event"))
}

fn are_count(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_run_reads_as_it_was() {
        let text = table(&sample::closed(), false);
        for line in [
            "http://127.0.0.1:8001  closed loop, 10.0 s",
            "connections 64, shape single, ack journaled, duration 10s",
            "AMD EPYC 7B13, 2 cores, 24.00 GiB, Linux 6.18.5, load average 0.31 before",
            "requests         1,204,511       120,451/s  none failed",
            "server          9.90 s CPU     0.990 cores  8.22 µs an event",
            "latency, from the time the request was sent",
            "      50 %          389 µs",
            "   99.99 %         15.0 ms  120 took longer",
            "  Each of 1,204,511 acknowledged events is in the log.",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line:?} is missing from\n{text}"
            );
        }
        for absent in ["errors", "ramp", "note"] {
            assert!(!text.contains(absent), "{absent} in\n{text}");
        }
    }

    #[test]
    fn what_failed_was_lost_or_held_is_told_in_words() {
        let text = table(&sample::ramp(), false);
        for part in [
            "open loop, 60.4 s, stopped early",
            "1,300 failed (0.16 %)",
            "120,000 refused, 10,000 without an answer",
            "ramp, p99 at most 10.0 ms; highest rate held: 32,000/s with p99 9.40 ms",
            "1,200  status 503  {\"detail\":\"the journal is full\"}",
            "not what was promised, data/metrics.jsonl",
            "3 of 79,870,000 acknowledged events are missing from the log.",
            "2 events were there more than once.",
            "note  The generator used 91 % of what its threads can",
        ] {
            assert!(text.contains(part), "{part:?} is missing from\n{text}");
        }
    }

    #[test]
    fn what_was_never_sent_stands_beside_what_failed() {
        let mut report = sample::ramp();
        report.requests.failed = 0;
        report.errors.push(super::super::ErrorKind {
            kind: super::super::UNSENT.into(),
            count: 4_321,
            example: String::new(),
        });
        let text = table(&report, false);
        assert!(text.contains("none failed, 4,321 never sent"), "{text}");
        // Of several steps there is no rate that would give the bytes of all.
        let bodies = text.lines().find(|line| line.starts_with("bodies"));
        assert_eq!(
            bodies.map(|line| line.split_whitespace().collect::<Vec<_>>()),
            Some(vec!["bodies", "329.02", "MiB/s"])
        );
    }

    #[test]
    fn few_answers_are_called_too_few() {
        let mut report = sample::closed();
        report.latency.count = 5_000;
        let text = table(&report, false);
        assert!(
            text.contains("99.9 %         4.90 ms  5 took longer: too few to tell"),
            "{text}"
        );
        assert!(
            text.contains("note  5,000 answers say little of percentiles from 99.9 % on"),
            "{text}"
        );
    }

    #[test]
    fn colours_are_only_where_they_are_wanted_and_change_no_text() {
        let report = sample::ramp();
        let (plain, coloured) = (table(&report, false), table(&report, true));
        assert!(!plain.contains('\x1b') && coloured.contains('\x1b'));
        let bare: Vec<String> = coloured
            .lines()
            .map(|line| console::strip_ansi_codes(line).trim_end().to_owned())
            .collect();
        assert_eq!(bare, plain.lines().collect::<Vec<_>>());
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let text = table(&sample::hostile(), false);
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text}");
        assert!(text.contains("\\u001b[2J\\u202e"), "{text}");
    }
}
