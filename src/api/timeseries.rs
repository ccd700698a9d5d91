//! `GET /api/metrics/behavior/timeseries`: events by interval.

use super::Session;
use super::behavior::NAMES_MAX;
use super::parameters::Parameters;
use crate::event::Timestamp;
use crate::http::{Output, Request};
use crate::query::timeseries::{BUCKETS_MAX, Buckets, Interval, NoBuckets, timeseries};

impl Session {
    pub(super) fn timeseries(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let mut parameters = Parameters::of(request);
        let names = parameters.names("event", NAMES_MAX);
        let nodes = parameters.nodes(&self.shared.origin);
        let interval = interval(&mut parameters);
        let since = parameters.time("since");
        let until = parameters.time("until").unwrap_or_else(Timestamp::now);
        let buckets = Buckets::new(interval, since, until);
        if !parameters.are_wrong() {
            match buckets {
                Ok(_) => {}
                Err(NoBuckets::Empty) => parameters.refuse_value("since", "since must be before until"),
                Err(NoBuckets::TooMany(count)) => {
                    let interval = interval.name();
                    let sentence = format!(
                        "there may be at most {BUCKETS_MAX} buckets, and from since to until there are {count} of {interval}"
                    );
                    parameters.refuse_value("since", &sentence);
                }
            }
        }
        if !parameters.settle(output) || !self.is_readable(output) {
            return;
        }
        let buckets = buckets.expect("what is wrong with them was answered");
        self.shared.read(request, output, move |view, time| {
            timeseries(view, buckets, names.clone(), nodes.clone(), time)
        });
    }
}

fn interval(parameters: &mut Parameters<'_>) -> Interval {
    let Some(text) = parameters.text("interval") else {
        return Interval::Minute;
    };
    let known = Interval::ALL.into_iter().find(|interval| interval.name() == text);
    known.unwrap_or_else(|| {
        let expected = "'1m', '5m', '1h' or '1d'";
        let msg = format!("Input should be {expected}");
        let ctx = serde_json::json!({"expected": expected});
        parameters.refuse("literal_error", "interval", &msg, &text, Some(ctx));
        Interval::Minute
    })
}
