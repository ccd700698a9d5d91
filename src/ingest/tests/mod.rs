//! The room as a whole: recovery from what a crash leaves, the engine on a disk that fails, on one that works, and when the
//! power goes.

mod doubt;
mod engine;
mod faults;
mod group;
mod model;
mod power;
mod recovery;

use std::path::Path;
use std::time::{Duration, Instant};

use super::journal::Place;
use super::{Acknowledged, EngineConfig, FsyncPolicy, Level, Producer, RotationPolicy};
use crate::event::{Lines, Parser, Room, Take};
use crate::log::keeper::KeepPolicy;

/// How long anything may take that is waited for; nothing here is about time.
const PATIENCE: Duration = Duration::from_secs(60);

/// An event's body.
fn body(visitor: &str, name: &str, filler: usize) -> String {
    let filler = "x".repeat(filler);
    format!(
        r#"{{"visitor_id":"{visitor}","event":"{name}","timestamp":"2025-10-09T12:34:56Z","metadata":{{"filler":"{filler}"}}}}"#
    )
}

/// The lines of these bodies.
fn lines_of(bodies: &[String]) -> Lines {
    let mut lines = Lines::new();
    let batch = format!("[{}]", bodies.join(","));
    Parser::new(32 << 10)
        .batch(
            batch.as_bytes(),
            (None, None),
            Take::All,
            Room {
                gathered: &mut Vec::new(),
                keep: &mut |_| true,
            },
            &mut lines,
        )
        .unwrap()
        .unwrap();
    lines
}

/// One line that tells who wrote it and which it is.
fn line_of(producer: u64, number: u64, filler: usize) -> Lines {
    lines_of(&[body(&format!("producer-{producer}-{number}"), "numbered", filler)])
}

/// Commits and waits.
fn store(producer: &mut Producer, lines: &mut Lines, level: Level) -> Acknowledged {
    let commitment = producer.commit(lines, level);
    producer.wait(commitment, PATIENCE)
}

/// The lines of a log, each with its newline.
fn split(log: &[u8]) -> Vec<&[u8]> {
    log.split_inclusive(|byte| *byte == b'\n').collect()
}

/// An engine with its files in that folder, and otherwise nothing in particular.
pub(crate) fn config(directory: &Path) -> EngineConfig {
    EngineConfig {
        log: directory.join("metrics.jsonl"),
        journal: Place::File(directory.join("metrics.journal")),
        journal_bytes_max: 1 << 20,
        journal_shrink_after: PATIENCE,
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
    }
}

/// Waits until `is_so`.
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to pass");
        std::thread::yield_now();
    }
}
