//! `GET /api/metrics/behavior`: totals and the newest events, of all or of what is asked for.

use super::parameters::Parameters;
use super::{Session, read};
use crate::http::{Output, Request};
use crate::query::count::Ask;
use crate::query::{filtered_snapshot, snapshot};

/// Events shown when the request does not say how many.
const LIMIT_DEFAULT: usize = 50;
/// Most names that are asked for at once.
pub const NAMES_MAX: usize = 50;

impl Session {
    pub(super) fn behavior(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let capacity = self.shared.view.recent().capacity();
        let mut parameters = Parameters::of(request);
        let limit = parameters.whole("limit", capacity, limit_default(capacity));
        let ask = Ask {
            names: parameters.names("event_type", NAMES_MAX),
            since: parameters.time("since"),
            until: None,
        };
        if !parameters.settle(output) || !self.is_readable(output) {
            return;
        }
        if ask.names.is_none() && ask.since.is_none() {
            return read::answer(snapshot(&self.shared.view, limit), output);
        }
        self.shared.read(request, output, move |view, time| {
            filtered_snapshot(view, &ask, limit, time)
        });
    }
}

/// The number of events shown when nobody says how many, with a window of `capacity`.
pub fn limit_default(capacity: usize) -> usize {
    LIMIT_DEFAULT.min(capacity)
}
