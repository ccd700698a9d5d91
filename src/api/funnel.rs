//! `GET /api/metrics/behavior/funnel`: how many visitors did one step after another.

use serde_json::json;

use super::Session;
use super::parameters::Parameters;
use crate::event::Timestamp;
use crate::http::{Output, Request};
use crate::query::funnel::{Funnel, STEPS_MAX, funnel};

/// Fewest steps that make a funnel.
const STEPS_MIN: usize = 2;
/// The time that is looked at where the request says nothing: a day before its end.
const SINCE_DEFAULT_MICROS: i64 = 86_400_000_000;
/// The longest name of a member that splits.
const SPLIT_CHARS: usize = 256;

impl Session {
    pub(super) fn funnel(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let mut parameters = Parameters::of(request);
        let steps = parameters.steps("step", STEPS_MAX).unwrap_or_default();
        if steps.len() < STEPS_MIN {
            let count = steps.len();
            let msg = format!("List should have at least {STEPS_MIN} items after validation, not {count}");
            let ctx = json!({"field_type": "List", "min_length": STEPS_MIN, "actual_length": count});
            let input = parameters.text("step").unwrap_or_default();
            parameters.refuse("too_short", "step", &msg, &input, Some(ctx));
        }
        let split = parameters.text("split");
        if let Some(text) = split.as_ref().filter(|text| text.chars().count() > SPLIT_CHARS) {
            let msg = format!("String should have at most {SPLIT_CHARS} characters");
            let ctx = json!({"max_length": SPLIT_CHARS});
            parameters.refuse("string_too_long", "split", &msg, text, Some(ctx));
        }
        let since = parameters.time("since");
        let until = parameters.time("until").unwrap_or_else(Timestamp::now);
        let since = since.unwrap_or(Timestamp {
            micros: until.micros.saturating_sub(SINCE_DEFAULT_MICROS),
        });
        if !parameters.are_wrong() && since >= until {
            parameters.refuse_value("since", "since must be before until");
        }
        if !parameters.settle(output) || !self.is_readable(output) {
            return;
        }
        let asked = Funnel {
            steps,
            split,
            since,
            until,
        };
        self.shared
            .read_heavily(request, output, move |view, time| funnel(view, &asked, time));
    }
}
