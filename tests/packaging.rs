//! What is packaged beside the program names nothing that the program does not have: metrics, settings, endpoints, files.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use common::http::{EVENT, HEALTH};
use common::metrics::METRICS;
use common::server::{Launch, Server};

const DASHBOARD: &str = include_str!("../packaging/grafana/floodgate.json");
const ALERTS: &str = include_str!("../packaging/prometheus/alerts.yml");
const ALERTS_TEST: &str = include_str!("../packaging/prometheus/alerts.test.yml");
const MANIFEST: &str = include_str!("../packaging/kubernetes/floodgate.yaml");
const KEY: &str = "0123456789abcdef";

/// A server with everything that has metrics of its own, and something in each.
fn server(folder: &Path) -> Server {
    let archive = folder.join("far");
    fs::create_dir(&archive).unwrap();
    Launch::new(folder)
        .set("METRICS_ARCHIVE_URL", format!("file://{}", archive.display()))
        .set("METRICS_ACCESS_LOG", folder.join("access.jsonl"))
        .start()
}

/// Metrics by name, each with the values that its labels have.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn metrics(scrape: &str) -> Known {
    let mut known = Known::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let of_name = known.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split("\",") {
            if let Some((label, value)) = label.split_once("=\"") {
                let value = value.trim_end_matches('"').to_owned();
                of_name.entry(label.to_owned()).or_default().insert(value);
            }
        }
    }
    known
}

fn is_of_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// The metrics of ours that a text names, each with what stands behind it.
fn named(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_of_name) {
        let word = &rest[at..];
        let (word, behind) = word.split_at(word.find(|char| !is_of_name(char)).unwrap_or(word.len()));
        if word.starts_with("floodgate_") || word.starts_with("process_") {
            found.push((word, behind));
        }
        rest = behind;
    }
    found
}

/// The labels that a selector asks for, with the values that it names: `{reason=~"a|b"}`.
fn asked(selector: &str) -> Vec<(String, Vec<String>)> {
    let Some(inside) = selector.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return Vec::new();
    };
    let unescaped = inside.0.replace('\\', "");
    let label = |part: &str| {
        let (label, value) = part.split_once('=')?;
        let value = value.trim_start_matches('~').trim_matches('"');
        Some((
            label.trim().to_owned(),
            value.split('|').map(str::to_owned).collect(),
        ))
    };
    unescaped.split(',').filter_map(label).collect()
}

fn check(what: &str, text: &str, known: &Known) {
    let named = named(text);
    assert!(named.len() > 10, "{what} names metrics");
    for (name, behind) in named {
        let labels = known
            .get(name)
            .unwrap_or_else(|| panic!("{what}: there is no metric {name}"));
        for (label, values) in asked(behind) {
            // Those are Prometheus' own.
            if label == "job" || label == "instance" {
                continue;
            }
            let there = labels
                .get(&label)
                .unwrap_or_else(|| panic!("{what}: {name} has no label {label}"));
            // Answers that were not given yet, and bounds of test data.
            if label == "status" || label == "le" {
                continue;
            }
            for value in values {
                assert!(there.contains(&value), "{what}: {name} has no {label}={value}");
            }
        }
    }
}

#[test]
fn every_metric_and_label_that_dashboard_and_alerts_name_is_there() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let node = server(folders[0].path());
    let event = r#"{"visitor_id":"visitor-1","event":"view"}"#;
    node.connect()
        .post(&format!("{EVENT}?ack=synced"), event)
        .expect(202);
    // Nobody listens there.
    let apart = |setting, folder: &Path| Launch::new(folder).set(setting, "nats://127.0.0.1:1").start();
    let ships = apart("METRICS_SHIP_URL", folders[1].path());
    let view = apart("METRICS_FROM", folders[2].path());
    let mut known = Known::new();
    for server in [&node, &ships, &view] {
        known.extend(metrics(&server.connect().get(METRICS).expect(200).text()));
    }
    // Not there before the stream was asked.
    assert!(include_str!("../docs/METRICS.md").contains("| `floodgate_ship_lag_bytes` | gauge |"));
    known.insert("floodgate_ship_lag_bytes".into(), BTreeMap::new());
    check("the dashboard", DASHBOARD, &known);
    check("the alerts", ALERTS, &known);
    check("the tests of the alerts", ALERTS_TEST, &known);
    for server in [node, ships, view] {
        server.stop();
    }
}

#[test]
fn the_dashboard_is_json_that_grafana_can_place() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} lies over another panel", panel["title"]);
            }
        }
        let queries = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(panel["type"] == "row" || !queries.is_empty());
        for query in queries {
            let query = query["expr"].as_str().unwrap();
            assert!(query.contains("instance=~\"$instance\""), "{query}");
        }
    }
}

#[test]
fn probes_ask_what_answers_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).set("METRICS_READ_KEYS", KEY);
    let server = launch.start();
    let mut client = server.connect();
    let paths: BTreeSet<&str> = MANIFEST
        .lines()
        .filter_map(|line| line.split_once("httpGet: {path: ")?.1.split_once(','))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(paths, BTreeSet::from([HEALTH, "/tracker.js"]));
    for path in paths {
        client.get(path).expect(200);
    }
    client.get(METRICS).expect(401);
    server.stop();
}

/// The files below `packaging/`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

#[test]
fn every_setting_that_is_named_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = Launch::new(folder.path()).run(&["config", "--json"]);
    let settings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let mut seen = 0;
    for file in files(&packaging) {
        let text = fs::read_to_string(&file).unwrap();
        let words = text.split(|char| !is_of_name(char));
        for word in words.filter(|word| word.starts_with("METRICS_")) {
            let is_start = word.ends_with('_');
            assert!(
                is_start || settings.get(word).is_some(),
                "{}: {word}",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 20);
}
