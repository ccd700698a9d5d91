//! Acknowledgement levels: which one a request asks for, and the answers that promise one.

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
        let level = match (in_query, request.header("x-ack")) {
            (None, None) => self.ack,
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
        if level == Level::Synced && self.view.status().is_sync_failing() {
            let sentence = "The log could not be synced to the disk; `synced` is refused until it can.";
            output.detail(503, &[error::RETRY_AFTER], sentence);
            return None;
        }
        Some(level)
    }
}
