//! `GET /api/metrics/behavior/health`: whether events can be stored, and what is wrong if not.

use serde_json::{Value, json};

use super::{Session, Shared, ack, error};
use crate::fleet::FleetStatus;
use crate::http::Output;
use crate::ingest::latency::Latency;
use crate::ingest::{Level, View};
use crate::ship::ShipStatus;

impl Shared {
    /// Whether events can be stored.
    pub(super) fn can_store(&self) -> bool {
        let status = self.view.status();
        // Events acknowledged by default only when they are synced cannot be stored while the log cannot be synced.
        let can_sync = self.ack < Level::Synced || !status.is_sync_failing();
        can_sync && !status.is_log_failing() && !status.is_refusing()
    }
}

impl Session {
    /// Everybody is told whether events can be stored, so that probes need no key; what is wrong, and how much there is, only
    /// those who may read.
    pub(super) fn health(&mut self, may_read: bool, output: &mut Output) {
        let shared = &self.shared;
        let view = &shared.view;
        let status = view.status();
        let can_store = shared.can_store();
        let (used, bytes, bytes_max) = view.journal_bytes();
        let stream = shared.streams.status();
        let mut body = json!({
            "ok": can_store,
            "ring_capacity": view.recent().capacity(),
            "sink_exists": view.live_bytes() > 0 || view.sealed_files() > 0,
            "state": if view.is_recovering() { "recovering" } else { "running" },
        });
        let details = || {
            json!({
                "file": shared.log_name,
                "ack": ack::name(shared.ack, view),
                "events_stored": (!view.is_recovering()).then(|| view.counters().total()),
                "connections": shared.traffic.connections(),
                "latency": {
                    "append_us": quantiles(&status.append),
                    "fsync_us": quantiles(&status.fsync),
                },
                "disk": view.vitals().log_disk.map(|disk| {
                    json!({"free_bytes": disk.free_bytes, "total_bytes": disk.total_bytes})
                }),
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
                "stream": {
                    "subscribers": stream.subscribers,
                    "lag_bytes_max": stream.lag_bytes_max,
                    "gaps": stream.gaps,
                },
            })
        };
        if may_read {
            let Value::Object(details) = details() else {
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
            if let Some(ship) = &shared.abroad.ship {
                body["ship"] = shipping(ship, view);
            }
            if let Some(fleet) = &shared.abroad.fleet {
                body["fleet"] = fleet_view(fleet);
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

/// How shipping is doing.
fn shipping(ship: &ShipStatus, view: &View) -> Value {
    let shipped = ship.shipped();
    let (files, bytes) = view.hold().removed_unshipped();
    json!({
        "connected": ship.is_connected(),
        "position": ship.next().map(|next| next.to_string()),
        "lag_bytes": ship.next().map(|next| view.bytes_behind(next)),
        "lag_seconds": ship.lag_seconds().round() as u64,
        "events": shipped.events,
        "failures": shipped.failures,
        "lost_files": files.max(shipped.missing_files),
        "lost_bytes": bytes,
        "error": ship.error(),
    })
}

/// How the view of a fleet is doing.
fn fleet_view(fleet: &FleetStatus) -> Value {
    let taken = fleet.taken();
    let nodes: Vec<_> = fleet
        .nodes()
        .into_iter()
        .map(|node| {
            json!({
                "node": node.name,
                "position": node.position,
                "waiting_messages": node.waiting,
                "events": node.events,
            })
        })
        .collect();
    json!({
        "connected": fleet.is_connected(),
        "nodes": nodes,
        "events": taken.events,
        "duplicates": taken.duplicates,
        "gaps": taken.gaps,
        "failures": taken.failures,
        "error": fleet.error(),
    })
}

/// Of the last 30 to 60 s, in microseconds; `null` where nothing happened in that time.
fn quantiles(latency: &Latency) -> Value {
    let recent = latency.recent();
    json!({
        "p50": recent.map(|quantiles| quantiles.p50),
        "p99": recent.map(|quantiles| quantiles.p99),
        "max": recent.map(|quantiles| quantiles.max),
    })
}
