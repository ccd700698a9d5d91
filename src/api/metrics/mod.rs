//! `GET /metrics`: how the server is doing, for Prometheus and what understands its text.
//!
//! Two formats are spoken: Prometheus' own text (0.0.4), which everything understands, and OpenMetrics 1.0 where `Accept`
//! prefers it, as that of Prometheus does. The crate `prometheus-client`, which Prometheus itself keeps, writes OpenMetrics
//! out of values that are asked for at that moment; the older text differs in three points (`classic`). The
//! alternative, the crate `prometheus`, writes the older one only, and out of values that have to be copied into its own.
//!
//! A scrape reads atomics and copies two histograms. It waits for nothing: while the disk hangs it is still answered.

mod accept;
mod figures;

use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::Session;
use crate::http::{Output, Request};
use accept::prefers_open_metrics;
use figures::Figures;

const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Session {
    pub(super) fn metrics(&mut self, request: &Request<'_>, output: &mut Output) {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Figures::new(Arc::clone(&self.shared))));
        let mut text = String::with_capacity(16 << 10);
        text::encode(&mut text, &registry).expect("a string takes everything");
        let is_open = request.header("accept").is_some_and(prefers_open_metrics);
        let (content_type, text) = match is_open {
            true => (OPEN_METRICS, text),
            false => (CLASSIC, classic(&text)),
        };
        let headers = [("Cache-Control", "no-store"), ("Vary", "Accept")];
        output.answer(200, content_type, &headers, text.as_bytes());
    }
}

/// OpenMetrics as Prometheus' older text: a counter's family is called as its sample is, with `_total`, and there is no mark
/// of the end. (Numbers, labels and histograms are spelled alike, and no other types are used.)
fn classic(open: &str) -> String {
    let mut text = String::with_capacity(open.len() + open.len() / 8);
    let mut lines = open.lines().peekable();
    while let Some(line) = lines.next() {
        // HELP stands before TYPE.
        let about = lines.peek().and_then(|next| next.strip_prefix("# TYPE "));
        let counter = about.and_then(|about| about.strip_suffix(" counter"));
        let help = line.strip_prefix("# HELP ");
        match (counter, help) {
            (Some(name), Some(help)) => {
                let help = help.strip_prefix(name).expect("HELP and TYPE tell of the same");
                text.extend([
                    "# HELP ",
                    name,
                    "_total",
                    help,
                    "\n# TYPE ",
                    name,
                    "_total counter\n",
                ]);
                lines.next();
            }
            _ if line == "# EOF" => {}
            _ => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_text_names_counters_as_their_samples() {
        let open = "# HELP a_b How many.\n# TYPE a_b counter\na_b_total{c=\"d\"} 1\n# HELP e What.\n# TYPE e gauge\ne 2\n# EOF\n";
        let expected = "# HELP a_b_total How many.\n# TYPE a_b_total counter\na_b_total{c=\"d\"} 1\n# HELP e What.\n# TYPE e gauge\ne 2\n";
        assert_eq!(classic(open), expected);
    }
}
