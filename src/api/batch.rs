//! `POST /api/metrics/events/batch`: a JSON array of events, or NDJSON; all or nothing, or with `?partial=true` the valid
//! ones.

use super::{Session, ack, error};
use crate::event::{Lines, Rejected, Timestamp};
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
        let limit = self.shared.batch_bytes_max;
        let (mut scratch, mut unpacked) = (self.shared.spare.bytes(), self.shared.spare.bytes());
        let mut lines = self.shared.spare.lines();
        match request
            .body
            .read_decoded(packed, limit, &mut scratch, &mut unpacked)
        {
            Ok(body) => {
                if let Some(answer) = self.read(body, agent, partial, &mut lines, output) {
                    self.store(&mut lines, level, answer, output);
                }
            }
            Err(failure) => {
                let (status, sentence) = failure.answer();
                output.detail(status, &[], sentence);
            }
        }
        self.shared.spare.give_bytes(scratch);
        self.shared.spare.give_bytes(unpacked);
        self.shared.spare.give_lines(lines);
    }

    /// Validates a batch into `lines` and renders the body of its 202; `None` after an answer that refuses it.
    fn read(
        &mut self,
        body: &[u8],
        agent: Option<&[u8]>,
        partial: bool,
        lines: &mut Lines,
        output: &mut Output,
    ) -> Option<Vec<u8>> {
        let now = Timestamp::now();
        let read = if partial {
            self.parser.batch_partial(body, agent, now, lines).map(Some)
        } else {
            self.parser.batch(body, agent, now, lines).map(|()| None)
        };
        match read {
            Ok(None) => Some(ack::stored_body(lines.count(), &self.shared.log_name)),
            Ok(Some(Rejected {
                count: rejected,
                detail,
            })) => {
                let (ok, stored) = (rejected == 0, lines.count());
                let start = format!("{{\"ok\":{ok},\"stored\":{stored},\"rejected\":{rejected},\"detail\":");
                Some([start.as_bytes(), &detail, b"}"].concat())
            }
            Err(rejection) => {
                error::rejected(rejection, output);
                None
            }
        }
    }

    /// Commits `lines` as a frame of its own, behind the singles before it in the burst, and answers.
    fn store(&mut self, lines: &mut Lines, level: Level, answer: Vec<u8>, output: &mut Output) {
        let count = lines.count();
        if count == 0 {
            // Of no event every level is reached at once.
            return output.json(202, &[("X-Ack", ack::name(level, &self.shared.view))], &answer);
        }
        self.commit_burst();
        if !self.reserve(lines.bytes().len(), output) {
            return;
        }
        let commitment = self.producer.commit(lines, level);
        let at = self.commitments.len();
        if level > Level::Journaled {
            self.commitments.push(commitment);
        }
        self.accept(level, at, 0, count, answer, output);
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
