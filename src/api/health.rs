//! `GET /api/metrics/behavior/health`: whether events can be stored, and what is wrong if not.

use serde_json::{Value, json};

use super::{Session, ack, error};
use crate::http::Output;
use crate::ingest::Level;

impl Session {
    /// Everybody is told whether events can be stored, so that probes need no key; what is wrong, and how much there is, only
    /// those who may read.
    pub(super) fn health(&mut self, may_read: bool, output: &mut Output) {
        let shared = &self.shared;
        let view = &shared.view;
        let status = view.status();
        // Events acknowledged by default only when they are synced cannot be stored while the log cannot be synced.
        let can_sync = shared.ack < Level::Synced || !status.is_sync_failing();
        let can_store = can_sync && !status.is_log_failing() && !status.is_refusing();
        let (used, bytes, bytes_max) = view.journal_bytes();
        let mut body = json!({
            "ok": can_store,
            "ring_capacity": view.recent().capacity(),
            "sink_exists": view.live_bytes() > 0 || view.sealed_files() > 0,
            "state": if view.is_recovering() { "recovering" } else { "running" },
        });
        let details = json!({
            "file": shared.log_name,
            "ack": ack::name(shared.ack, view),
            "log": {
                "bytes": view.live_bytes(),
                "sealed_files": view.sealed_files(),
                "synced_bytes": status.synced_bytes(),
                "error": status.log_error(),
                "sync_fails": status.is_sync_failing(),
                "sync_failures": status.sync_failures(),
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
        if may_read {
            let Value::Object(details) = details else {
                unreachable!("an object was written there")
            };
            body.as_object_mut()
                .expect("an object was written there")
                .extend(details);
            if let Some(archive) = view.archive() {
                let (files, bytes) = archive.waiting();
                body["archive"] =
                    json!({"waiting_files": files, "waiting_bytes": bytes, "error": archive.error()});
            }
            if let Some(dropped) = shared.gate.access_lines_dropped() {
                body["access_log"] = json!({"dropped": dropped});
            }
        }
        let headers: &[_] = if can_store { &[] } else { &[error::RETRY_AFTER] };
        output.json(
            if can_store { 200 } else { 503 },
            headers,
            body.to_string().as_bytes(),
        );
    }
}
