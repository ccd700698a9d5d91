//! `POST /api/metrics/events/batch`: a JSON array of events, or NDJSON; all or nothing, or with `?partial=true` the valid
//! ones.

use super::{Session, ack, error};
use crate::event::{Rejected, Timestamp};
use crate::http::{Output, Request};
use crate::ingest::Level;

impl Session {
    pub(super) fn batch(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let Some(level) = self.level_of(request, output) else {
            return;
        };
        let Some(partial) = partial_of(request, output) else {
            return;
        };
        let agent = request.header("user-agent");
        let packed = request.header("content-encoding");
        let mut scratch = std::mem::take(&mut self.body);
        let mut unpacked = std::mem::take(&mut self.unpacked);
        let limit = self.shared.batch_bytes_max;
        match request
            .body
            .read_decoded(packed, limit, &mut scratch, &mut unpacked)
        {
            Ok(body) => self.events(body, agent, level, partial, output),
            Err(failure) => {
                let (status, sentence) = failure.answer();
                output.detail(status, &[], sentence);
            }
        }
        (self.body, self.unpacked) = (scratch, unpacked);
    }

    fn events(
        &mut self,
        body: &[u8],
        agent: Option<&[u8]>,
        level: Level,
        partial: bool,
        output: &mut Output,
    ) {
        self.batch.clear();
        let now = Timestamp::now();
        let read = if partial {
            self.parser
                .batch_partial(body, agent, now, &mut self.batch)
                .map(Some)
        } else {
            self.parser
                .batch(body, agent, now, &mut self.batch)
                .map(|()| None)
        };
        let rejected = match read {
            Ok(rejected) => rejected,
            Err(rejection) => return error::rejected(rejection, output),
        };
        let count = self.batch.count();
        let body = match rejected {
            None => ack::stored_body(count, &self.shared.log_name),
            Some(Rejected {
                count: rejected,
                detail,
            }) => {
                let ok = rejected == 0;
                let start = format!("{{\"ok\":{ok},\"stored\":{count},\"rejected\":{rejected},\"detail\":");
                [start.as_bytes(), &detail, b"}"].concat()
            }
        };
        // A batch is a frame of its own, behind the singles before it in the burst.
        self.commit_burst();
        if count > 0 {
            if !self.reserve(self.batch.bytes().len(), output) {
                return;
            }
        } else if level > Level::Journaled {
            // Of no event every level is reached at once.
            return output.json(202, &[("X-Ack", level.name())], &body);
        } else {
            return self.accept(level, 0, 0, 0, body, output);
        }
        let commitment = self.producer.commit(&mut self.batch, level);
        let at = self.commitments.len();
        if level > Level::Journaled {
            self.commitments.push(commitment);
        }
        self.accept(level, at, 0, count, body, output);
    }
}

/// The switch `partial`; `None` after an answer that it is none.
fn partial_of(request: &Request<'_>, output: &mut Output) -> Option<bool> {
    let Some((_, value)) = request.query_pairs().filter(|(name, _)| name == "partial").last() else {
        return Some(false);
    };
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
        _ => {
            let msg = "Input should be a valid boolean, unable to interpret input";
            error::invalid_parameter("bool_parsing", ["query", "partial"], msg, &value, None, output);
            None
        }
    }
}
