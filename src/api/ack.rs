//! Acknowledgement levels: which one a request asks for, and the answers that promise one.

use super::refusal::Shortage;
use super::{Shared, error};
use crate::http::{Output, Request};
use crate::ingest::{Level, View};

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

impl Shared {
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
        let in_header = request.header("x-ack");
        let in_header = in_header.map(|text| String::from_utf8_lossy(text).into_owned());
        let mut asked = None;
        // One that is no level is an error even where the other goes before it.
        for (loc, text) in [(["query", "ack"], in_query), (["header", "x-ack"], in_header)] {
            let Some(text) = text else { continue };
            let Some(level) = Level::from_name(&text) else {
                let expected = "'journaled', 'written' or 'synced'";
                let ctx = serde_json::json!({"expected": expected});
                let msg = format!("Input should be {expected}");
                error::invalid_parameter("literal_error", loc, &msg, &text, Some(ctx), output);
                return None;
            };
            asked.get_or_insert(level);
        }
        let level = asked.unwrap_or(self.ack);
        if level == Level::Synced && self.view.status().is_sync_failing() {
            Shortage::Sync.count(output);
            let sentence = "The log could not be synced to the disk; `synced` is refused until it can.";
            output.detail(503, &[error::RETRY_AFTER], sentence);
            return None;
        }
        Some(level)
    }
}
