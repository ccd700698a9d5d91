//! Under which key a sealed file is stored.
//!
//! ```text
//! flat          prefix/metrics-20261122T211530Z-000017.jsonl.zst
//! partitioned   prefix/date=2026-11-22/node=web-1/metrics-20261122T211530Z-000017.jsonl.zst
//! ```
//!
//! The date is the day (UTC) on which the file was begun, as its name has it: it never changes, whatever the lines say. What is
//! in it may be of the next day, too, and by event time of any. This spelling (Hive's) is what DuckDB, ClickHouse, Spark
//! and others take for columns, so that a query reads the days that it asks for; and several nodes may share a prefix.

use object_store::path::Path as Key;

use crate::event::Timestamp;
use crate::log::segment::SegmentId;

/// Where an archive has its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All of them beside each other.
    Flat,
    /// A folder for each day and node.
    Partitioned,
}

impl Layout {
    /// The other one.
    pub(super) fn other(self) -> Layout {
        match self {
            Layout::Flat => Layout::Partitioned,
            Layout::Partitioned => Layout::Flat,
        }
    }

    /// The key, below `prefix`, of the file `name` with that id, which `node` has written.
    pub(super) fn key(self, prefix: &Key, node: &str, id: SegmentId, name: &str) -> Key {
        match self {
            Layout::Flat => prefix.clone().join(name),
            Layout::Partitioned => prefix
                .clone()
                .join(format!("date={}", day_of(id)))
                .join(format!("node={node}"))
                .join(name),
        }
    }
}

/// `2026-11-22`
fn day_of(id: SegmentId) -> String {
    let micros = i64::try_from(id.since)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    let time = Timestamp { micros }.to_string();
    time.split_once('T')
        .map_or(time.clone(), |(day, _)| day.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_prefix_day_node_and_name() {
        // One second before midnight, and midnight.
        for (since, day) in [(1_763_855_999, "2025-11-22"), (1_763_856_000, "2025-11-23")] {
            let id = SegmentId { number: 17, since };
            let key = |layout: Layout, prefix: &str| {
                layout
                    .key(&Key::parse(prefix).unwrap(), "web_1-a", id, "x.jsonl")
                    .to_string()
            };
            assert_eq!(key(Layout::Flat, "a/b"), "a/b/x.jsonl");
            assert_eq!(key(Layout::Flat, ""), "x.jsonl");
            let expected = format!("date={day}/node=web_1-a/x.jsonl");
            assert_eq!(key(Layout::Partitioned, ""), expected);
            assert_eq!(key(Layout::Partitioned, "a/b"), format!("a/b/{expected}"));
        }
    }
}
