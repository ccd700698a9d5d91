//! `GET /api/metrics/behavior/health`: whether events can be stored, and what is wrong if not.

use serde_json::json;

use super::{Session, ack, error};
use crate::http::Output;
use crate::ingest::Level;

impl Session {
    pub(super) fn health(&mut self, output: &mut Output) {
        let shared = &self.shared;
        let view = &shared.view;
        let status = view.status();
        // Events acknowledged by default only when they are synced cannot be stored once syncing has failed.
        let can_sync = shared.ack < Level::Synced || !status.has_sync_failed();
        let can_store = can_sync && !status.is_log_failing() && !status.is_refusing();
        let (used, bytes, bytes_max) = view.journal_bytes();
        let body = json!({
            "ok": can_store,
            "ring_capacity": view.recent().capacity(),
            "sink_exists": view.published_bytes() > 0,
            "file": shared.log_name,
            "ack": ack::name(shared.ack, view),
            "log": {
                "bytes": view.published_bytes(),
                "synced_bytes": status.synced_bytes(),
                "error": status.log_error(),
                "sync_error": status.sync_error(),
            },
            "journal": {
                "durable": view.is_journal_durable(),
                "error": status.growth_error(),
                "frames": view.ring_depth(),
                "used_bytes": used,
                "bytes": bytes,
                "bytes_max": bytes_max,
            },
        });
        let headers: &[_] = if can_store { &[] } else { &[error::RETRY_AFTER] };
        output.json(
            if can_store { 200 } else { 503 },
            headers,
            body.to_string().as_bytes(),
        );
    }
}
