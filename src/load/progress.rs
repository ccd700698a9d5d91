//! The line on the terminal while load is made; nothing where standard error is none.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tally::Tally;

/// A line that is written over and over.
pub struct Progress(ProgressBar);

impl Progress {
    /// On standard error, if that is a terminal.
    pub fn new() -> Progress {
        Progress::on(ProgressDrawTarget::stderr())
    }

    /// Nowhere.
    #[cfg(test)]
    pub fn hidden() -> Progress {
        Progress::on(ProgressDrawTarget::hidden())
    }

    fn on(target: ProgressDrawTarget) -> Progress {
        let style = ProgressStyle::with_template("{spinner} {elapsed} {prefix}{wide_msg}")
            .expect("the template is well formed");
        Progress(ProgressBar::with_draw_target(None, target).with_style(style))
    }

    /// Says what is being done.
    pub fn stage(&self, what: &str) {
        let gap = if what.is_empty() { "" } else { ": " };
        self.0.set_prefix(format!("{what}{gap}"));
        self.0.set_message("");
    }

    /// Shows the last second, and the errors so far.
    pub fn second(&self, last: &Tally, total: &Tally) {
        let at = |quantile| time(last.latency.value_at_quantile(quantile).min(last.latency.max()));
        let errors = total.errors_count();
        // Eighty columns have no room to say the same twice.
        let events = match last.events.acknowledged {
            events if events == last.ok => String::new(),
            events => format!("{} events/s, ", HumanCount(events)),
        };
        self.0.set_message(format!(
            "{} requests/s, {events}p50 {} p99 {} p99.9 {}, {} errors",
            HumanCount(last.ok),
            at(0.5),
            at(0.99),
            at(0.999),
            HumanCount(errors),
        ));
        self.0.tick();
    }

    /// Shows how far reading the log is.
    pub fn read(&self, found: u64, wanted: u64) {
        let (found, wanted) = (HumanCount(found), HumanCount(wanted));
        self.0.set_message(format!("{found} of {wanted} events found"));
        self.0.tick();
    }

    /// Shows that time goes by.
    pub fn tick(&self) {
        self.0.tick();
    }

    /// Takes the line away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn time(micros: u64) -> String {
    let digits = match micros {
        0..1_000 => return format!("{micros} µs"),
        1_000..10_000 => 2,
        10_000..100_000 => 1,
        _ => 0,
    };
    format!(
        "{:.digits$} ms",
        Duration::from_micros(micros).as_secs_f64() * 1e3
    )
}
