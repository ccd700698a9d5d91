//! What the tests of this room share.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::ingest::journal::Place;
use crate::ingest::{Engine, EngineConfig, FsyncPolicy, RotationPolicy};
use crate::log::fs::OsFs;
use crate::log::keeper::KeepPolicy;

/// An engine with a log of its own.
pub(super) fn engine() -> (Engine, TempDir) {
    engine_over("")
}

/// An engine with a log that has these lines, all of them counted.
pub(super) fn engine_over(lines: &str) -> (Engine, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("metrics.jsonl"), lines).unwrap();
    let config = EngineConfig {
        log: directory.path().join("metrics.jsonl"),
        journal: Place::Memory,
        journal_bytes_max: 1 << 20,
        journal_shrink_after: Duration::from_secs(60),
        publish_interval: Duration::from_millis(1),
        fsync: FsyncPolicy::Never,
        page_cache: None,
        line_seq: false,
        rotation: RotationPolicy {
            bytes: None,
            every: None,
            rest: Duration::ZERO,
        },
        keep: KeepPolicy::default(),
        ring_capacity: 10,
        names_max: 100,
    };
    let engine = Engine::open(config, Arc::new(OsFs)).unwrap();
    while engine.view().is_recovering() {
        std::thread::yield_now();
    }
    (engine, directory)
}
