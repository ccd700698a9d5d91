//! Acknowledgement levels: which one a request asks for, and the answers that promise one.

use std::time::Instant;

use super::{Owed, Session, error};
use crate::http::{Output, Request};
use crate::ingest::{Acknowledged, Level, Refused, View};

/// The name of a level in `X-Ack`. Without a durable journal the first one is not called what it is not.
pub fn name(level: Level, view: &View) -> &'static str {
    match level {
        Level::Journaled if !view.is_journal_durable() => "queued",
        _ => level.name(),
    }
}

/// The body of a 202.
pub fn stored_body(count: usize, log_name: &str) -> Vec<u8> {
    format!(
        "{{\"ok\":true,\"stored\":{count},\"file\":{}}}",
        serde_json::json!(log_name)
    )
    .into_bytes()
}

impl Session {
    /// The level that the request asks for, in its query or else in its header, or the default. `None` after an answer:
    /// it asks for something that is not a level, or for one that cannot be had.
    pub(super) fn level_of(&self, request: &Request<'_>, output: &mut Output) -> Option<Level> {
        let in_query = if request.query().is_empty() {
            None
        } else {
            request
                .query_pairs()
                .filter(|(name, _)| name == "ack")
                .last()
                .map(|(_, value)| value.into_owned())
        };
        let level = match (in_query, request.header("x-ack")) {
            (None, None) => self.shared.ack,
            (in_query, in_header) => {
                let loc = if in_query.is_some() {
                    ["query", "ack"]
                } else {
                    ["header", "x-ack"]
                };
                let header = || String::from_utf8_lossy(in_header.unwrap_or_default()).into_owned();
                let text = in_query.unwrap_or_else(header);
                let Some(level) = Level::from_name(&text) else {
                    let expected = "'journaled', 'written' or 'synced'";
                    let ctx = serde_json::json!({"expected": expected});
                    let msg = format!("Input should be {expected}");
                    error::invalid_parameter("literal_error", loc, &msg, &text, Some(ctx), output);
                    return None;
                };
                level
            }
        };
        if level == Level::Synced && self.shared.view.status().has_sync_failed() {
            let sentence =
                "The log could not be synced to the disk; `synced` is refused until the server is restarted.";
            output.detail(503, &[], sentence);
            return None;
        }
        Some(level)
    }

    /// Makes room for `bytes` of lines, those of the burst included; `false` after an answer that there is none.
    pub(super) fn reserve(&mut self, bytes: usize, output: &mut Output) -> bool {
        if self.producer.try_reserve(self.burst.bytes().len() + bytes) {
            return true;
        }
        // Nobody waits for room while holding some: what is promised so far goes first.
        self.commit_burst();
        let until = *self
            .room_until
            .get_or_insert_with(|| Instant::now() + self.shared.enqueue_timeout);
        match self
            .producer
            .reserve(bytes, until.saturating_duration_since(Instant::now()))
        {
            Ok(()) => return true,
            Err(Refused::Full) => {
                let sentence =
                    "The journal is full: the log cannot take events as fast as they arrive. Try again.";
                output.detail(503, &[error::RETRY_AFTER], sentence);
            }
            Err(Refused::TooLarge) => error::too_large_for_journal(output),
        }
        false
    }

    /// Answers 202 for `count` events that are, or will be when the burst is settled, the lines from `first` on of
    /// the frame with the commitment that is next in line.
    pub(super) fn accept(
        &mut self,
        level: Level,
        commitment: usize,
        first: usize,
        count: usize,
        body: Vec<u8>,
        output: &mut Output,
    ) {
        if level == Level::Journaled {
            return output.json(202, &[("X-Ack", name(level, &self.shared.view))], &body);
        }
        let slot = output.owe();
        self.owed.push(Owed {
            slot,
            level,
            commitment,
            first,
            count,
            body,
        });
    }

    /// Waits for what was committed and hands in the answers that were owed for it.
    pub(super) fn pay_owed(&mut self, output: &mut Output) {
        if self.owed.is_empty() {
            return;
        }
        let until = *self
            .level_until
            .get_or_insert_with(|| Instant::now() + self.shared.ack_timeout);
        let wait = |commitment| {
            self.producer
                .wait(commitment, until.saturating_duration_since(Instant::now()))
        };
        let acknowledged: Vec<Acknowledged> = self.commitments.drain(..).map(wait).collect();
        for owed in self.owed.drain(..) {
            let Acknowledged {
                level,
                first_sequence,
                sync_failed,
            } = acknowledged[owed.commitment];
            let reached = name(level.min(owed.level), &self.shared.view);
            let first = first_sequence + owed.first as u64;
            let sequence = match owed.count {
                1 => first.to_string(),
                count => format!("{first}-{}", first + count as u64 - 1),
            };
            let numbered = [("X-Ack", reached), ("X-Seq", sequence.as_str())];
            // A level below `written` has no numbers, and neither has a batch of no events.
            let headers = if level >= Level::Written && owed.count > 0 {
                &numbered[..]
            } else {
                &numbered[..1]
            };
            output.fill(owed.slot, |output| {
                if level >= owed.level {
                    return output.json(202, headers, &owed.body);
                }
                let sentence = if sync_failed {
                    "The events are in the log, but it could not be synced to the disk."
                } else {
                    "The events are stored, but did not reach the level asked for in time (METRICS_ACK_TIMEOUT)."
                };
                // No Retry-After: the events are stored, and sent again they would be stored twice.
                output.detail(503, headers, sentence);
            });
        }
    }
}
