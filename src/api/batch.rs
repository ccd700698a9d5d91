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
        let (mut unpacked, mut gathered) = (self.shared.spare.bytes(), self.shared.spare.bytes());
        let mut lines = self.shared.spare.lines();
        let read = request
            .body
            .decoded(packed, self.shared.batch_bytes_max, &mut unpacked)
            .and_then(|body| {
                let now = Timestamp::now();
                let read = self
                    .parser
                    .batch(body, agent, now, partial, &mut gathered, &mut lines);
                Ok(read?)
            });
        match read {
            Ok(Ok(rejected)) => {
                let answer = match partial {
                    true => partial_body(lines.count(), &rejected),
                    false => ack::stored_body(lines.count(), &self.shared.log_name),
                };
                self.store(&mut lines, level, answer, output);
            }
            Ok(Err(rejection)) => error::rejected(rejection, output),
            Err(failure) => {
                let (status, sentence) = failure.answer();
                output.detail(status, &[], sentence);
            }
        }
        self.shared.spare.give_bytes(unpacked);
        self.shared.spare.give_bytes(gathered);
        self.shared.spare.give_lines(lines);
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

/// The body of the 202 to `?partial=true`.
fn partial_body(stored: usize, Rejected { count, detail }: &Rejected) -> Vec<u8> {
    let ok = *count == 0;
    let start = format!("{{\"ok\":{ok},\"stored\":{stored},\"rejected\":{count},\"detail\":");
    [start.as_bytes(), detail, b"}"].concat()
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
