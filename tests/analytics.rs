//! The archive of two nodes, read by DuckDB with the queries of docs/ANALYTICS.md as they stand there; by ClickHouse's engine, too,
//! where chDB is installed.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::await_true;
use common::http::EVENT;
use common::sealed::Folder;
use common::server::Launch;
use rustix::process::Signal;
use serde_json::{Value, json};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ANALYTICS.md");
const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/analytics/run.py");

/// Events of a node: visitor, name, time of the day, price.
type Told = (&'static str, &'static str, &'static str, Option<f64>);

const WEB_1: [Told; 3] = [
    ("visitor-1", "page_view", "10:00:00", None),
    ("visitor-1", "purchase", "10:01:00", Some(10.5)),
    ("visitor-2", "page_view", "10:00:00", None),
];
const WEB_2: [Told; 3] = [
    ("visitor-3", "page_view", "10:00:00", None),
    // More than an hour later.
    ("visitor-3", "purchase", "12:00:00", Some(20.0)),
    ("visitor-4", "purchase", "10:00:00", Some(5.25)),
];

/// A node that archives its events below `far`.
fn archive(node: &str, events: &[Told], compress_after: &str, far: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path())
        .set("METRICS_NODE", node)
        .set("METRICS_ROTATE_REST", "0s")
        .set("METRICS_COMPRESS_AFTER", compress_after)
        .set("METRICS_ARCHIVE_URL", format!("file://{}", far.display()))
        .set("METRICS_ARCHIVE_LAYOUT", "partitioned");
    // What a power cut has left is no event.
    fs::write(launch.log(), "{\"visitor_id\":\"visitor-9\",\"torn\":true}\n").unwrap();
    let server = launch.start();
    for (visitor, event, time, price) in events {
        let metadata = price.map_or(json!({}), |price| json!({"price": price}));
        let time = format!("2026-11-22T{time}Z");
        let body = json!({"visitor_id": visitor, "event": event, "timestamp": time, "metadata": metadata});
        let path = format!("{EVENT}?ack=written");
        server.connect().post(&path, &body.to_string()).expect(202);
    }
    server.signal(Signal::USR1);
    let marks = Folder::of(&launch);
    await_true("the file is archived", || marks.marks().len() == 1);
    server.stop();
}

/// Both nodes share a folder; of one the files are packed.
fn archive_of_both() -> tempfile::TempDir {
    let far = tempfile::tempdir().unwrap();
    archive("web-1", &WEB_1, "0s", far.path());
    archive("web-2", &WEB_2, "off", far.path());
    far
}

/// An interpreter with `module`.
fn python(module: &str) -> Option<PathBuf> {
    let installed = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("analytics/bin/python");
    [installed, "python3".into()].into_iter().find(|python| {
        let tried = Command::new(python)
            .args(["-c", &format!("import {module}")])
            .output();
        tried.is_ok_and(|output| output.status.success())
    })
}

fn results(python: &Path, engine: &str, far: &Path) -> Vec<Value> {
    let elsewhere = tempfile::tempdir().unwrap();
    let output = Command::new(python)
        .args([RUNNER, engine, DOCUMENT])
        .arg(far)
        .env("TMPDIR", elsewhere.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Events and visitors by name, over all days: the test may run at midnight. Numbers may come as texts.
fn by_name(rows: &Value) -> Vec<(String, u64, u64)> {
    let number = |value: &Value| value.to_string().trim_matches('"').parse::<u64>().unwrap();
    let mut names: Vec<(String, u64, u64)> = Vec::new();
    for row in rows.as_array().unwrap() {
        let name = row[1].as_str().unwrap().to_owned();
        let (events, visitors) = (number(&row[2]), number(&row[3]));
        match names.iter_mut().find(|known| known.0 == name) {
            Some(known) => (known.1, known.2) = (known.1 + events, known.2 + visitors),
            None => names.push((name, events, visitors)),
        }
    }
    names
}

fn expected_names() -> Vec<(String, u64, u64)> {
    vec![("page_view".into(), 3, 3), ("purchase".into(), 3, 3)]
}

#[test]
fn duckdb_reads_the_archive_as_the_document_says() {
    let far = archive_of_both();
    let python = python("duckdb").expect("duckdb is there: scripts/test installs it");
    let results = results(&python, "duckdb", far.path());
    let [_view, names, revenue, funnel, copied, plan] = &results[..] else {
        panic!("{results:?}");
    };
    assert_eq!(by_name(names), expected_names());
    assert_eq!(*revenue, json!([["web-1", 1, 10.5], ["web-2", 2, 25.25]]));
    assert_eq!(*funnel, json!([[3, 1]]));
    assert_eq!(*copied, json!([[6]]));
    assert!(plan.to_string().contains("Scanning Files: 1/2"), "{plan}");
}

#[test]
fn clickhouse_reads_the_archive_as_the_document_says() {
    let Some(python) = python("chdb") else {
        eprintln!("SKIPPED: chDB is not installed");
        return;
    };
    let far = archive_of_both();
    let results = results(&python, "clickhouse", far.path());
    let [names, _table, _loaded, revenue] = &results[..] else {
        panic!("{results:?}");
    };
    assert_eq!(by_name(names), expected_names());
    let revenue = revenue.to_string().replace("\"1\"", "1").replace("\"2\"", "2");
    assert_eq!(revenue, r#"[["web-1",1,10.5],["web-2",2,25.25]]"#);
}
