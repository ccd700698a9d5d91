//! The access log: what it tells, what it must not tell, and that it waits for nobody and nobody for it.

mod common;

use std::fs;
use std::path::Path;

use common::http::{self, BEHAVIOR, EVENT, HEALTH};
use common::server::Launch;
use common::{await_true, log};
use rustix::process::Signal;
use serde_json::Value;

const EVENT_BODY: &str = r#"{"visitor_id":"visitor-1","event":"view"}"#;
const KEY: &str = "write0123456789abcdef";

fn entries(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Waits for the log to have so many entries, and no more.
fn await_entries(path: &Path, count: usize) -> Vec<Value> {
    await_true("entries in the access log", || {
        fs::read(path).unwrap_or_default().ends_with(b"\n") && entries(path).len() >= count
    });
    let entries = entries(path);
    assert_eq!(entries.len(), count, "{entries:#?}");
    entries
}

#[test]
fn each_request_has_a_line_that_tells_all_of_it_but_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access.jsonl");
    let server = Launch::new(folder.path())
        .set("METRICS_ACCESS_LOG", &access)
        .set("METRICS_WRITE_KEYS", format!("web:{KEY}"))
        .set("METRICS_TRUSTED_PROXIES", "127.0.0.1")
        .start();
    let mut client = server.connect();
    let post = |path: &str, headers: &[(&str, &str)], body: &str| {
        http::request("POST", path, headers, body.as_bytes())
    };
    let with_query = format!("{EVENT}?ack=written&key={KEY}");
    let encoded = format!("{EVENT}?k%65y={KEY}");
    let stored = client
        .call(&post(
            &with_query,
            &[("X-Request-Id", "mine"), ("X-Forwarded-For", "203.0.113.7")],
            EVENT_BODY,
        ))
        .expect(202);
    assert_eq!(stored.header("x-request-id"), Some("mine"));
    let made = client
        .call(&post(
            EVENT,
            &[("Authorization", &format!("Bearer {KEY}"))],
            EVENT_BODY,
        ))
        .expect(202)
        .header("x-request-id")
        .expect("with an access log every answer has one")
        .to_owned();
    client.call(&post(EVENT, &[("X-Api-Key", KEY)], "{}")).expect(422);
    client.call(&post(&encoded, &[], EVENT_BODY)).expect(202);
    client
        .call(&post(
            EVENT,
            &[("X-Api-Key", "wrong0123456789abcdef")],
            EVENT_BODY,
        ))
        .expect(401);
    client.get("/nothing?token=abc&key=").expect(404);
    client.send(b"nonsense\r\n\r\n").unwrap();
    client.answer().expect(400);

    let entries = await_entries(&access, 7);
    let column = |name: &str| {
        entries
            .iter()
            .map(|entry| entry[name].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(column("status"), [202, 202, 422, 202, 401, 404, 400]);
    assert_eq!(
        column("target"),
        [
            Value::from(format!("{EVENT}?ack=written&key=***")),
            EVENT.into(),
            EVENT.into(),
            format!("{EVENT}?k%65y=***").into(),
            EVENT.into(),
            "/nothing?token=***&key=***".into(),
            Value::Null,
        ]
    );
    let web = Value::from("web");
    let null = Value::Null;
    assert_eq!(
        column("key"),
        [&web, &web, &web, &web, &null, &null, &null].map(Value::clone)
    );
    assert_eq!(entries[0]["request_id"], "mine");
    assert_eq!(entries[1]["request_id"], made.as_str());
    assert_eq!(
        (&entries[0]["client"], &entries[0]["peer"]),
        (&"203.0.113.7".into(), &"127.0.0.1".into())
    );
    assert_eq!(
        (&entries[1]["client"], &entries[1]["method"]),
        (&"127.0.0.1".into(), &"POST".into())
    );
    assert_eq!(entries[0]["bytes_in"], EVENT_BODY.len());
    assert!(entries[0]["bytes_out"].as_u64().unwrap() > stored.body.len() as u64);
    assert!(entries[0]["duration_us"].is_u64());
    assert!(entries[0]["time"].as_str().unwrap().ends_with('Z'));

    let text = fs::read_to_string(&access).unwrap() + &server.stderr();
    assert!(
        !text.contains(KEY) && !text.contains("wrong0123456789abcdef"),
        "{text}"
    );
}

#[test]
fn a_connection_that_finds_no_room_has_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access.jsonl");
    let server = Launch::new(folder.path())
        .set("METRICS_ACCESS_LOG", &access)
        .set("METRICS_CONNECTIONS_MAX", "1")
        .start();
    let mut client = server.connect();
    client.post(EVENT, EVENT_BODY).expect(202);
    let refused = server.connect().answer().expect(503);
    let entry = &await_entries(&access, 2)[1];
    let id = refused.header("x-request-id").expect("every error has one");
    assert_eq!(entry["request_id"], id);
    assert_eq!(
        (&entry["status"], &entry["peer"]),
        (&503.into(), &"127.0.0.1".into())
    );
    assert_eq!((&entry["method"], &entry["target"]), (&Value::Null, &Value::Null));
}

#[test]
fn answers_of_a_burst_are_logged_in_their_order_each_with_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access.jsonl");
    let server = Launch::new(folder.path())
        .set("METRICS_ACCESS_LOG", &access)
        .start();
    let mut client = server.connect();
    let mut burst = Vec::new();
    let [written, synced] = ["written", "synced"].map(|level| format!("{EVENT}?ack={level}"));
    let paths = [written.as_str(), EVENT, HEALTH, synced.as_str()].repeat(5);
    for (number, path) in paths.iter().enumerate() {
        let id = format!("id-{number}");
        let method = if *path == HEALTH { "GET" } else { "POST" };
        burst.extend(http::request(
            method,
            path,
            &[("X-Request-Id", &id)],
            EVENT_BODY.as_bytes(),
        ));
    }
    client.send(&burst).unwrap();
    for number in 0..paths.len() {
        assert_eq!(
            client.answer().header("x-request-id"),
            Some(&*format!("id-{number}"))
        );
    }
    let entries = await_entries(&access, paths.len());
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(entry["request_id"], format!("id-{number}"));
        assert_eq!(entry["target"], paths[number]);
    }
    // The exact length, seen from the client: alone on a connection until its end.
    let mut client = server.connect();
    client
        .send(&http::request("GET", HEALTH, &[("Connection", "close")], b""))
        .unwrap();
    let raw = client.everything();
    assert_eq!(
        await_entries(&access, paths.len() + 1)[paths.len()]["bytes_out"],
        raw.len()
    );
}

#[test]
fn a_streamed_answer_is_logged_with_its_length_when_it_is_through() {
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access.jsonl");
    let server = Launch::new(folder.path())
        .set("METRICS_ACCESS_LOG", &access)
        .start();
    let mut client = server.connect();
    let long = format!(
        r#"{{"visitor_id":"visitor-1","event":"view","metadata":{{"a":"{}"}}}}"#,
        "x".repeat(20_000)
    );
    for _ in 0..10 {
        client.post(EVENT, &long).expect(202);
    }
    let mut client = server.connect();
    client
        .send(&http::request(
            "GET",
            &format!("{BEHAVIOR}?limit=10"),
            &[("Connection", "close")],
            b"",
        ))
        .unwrap();
    let raw = client.everything();
    assert!(raw.len() > 200_000);
    let entries = await_entries(&access, 11);
    assert_eq!(
        (&entries[10]["status"], &entries[10]["bytes_out"]),
        (&200.into(), &raw.len().into())
    );
}

#[test]
fn errors_are_always_logged_and_the_rest_one_in_so_many() {
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access.jsonl");
    let server = Launch::new(folder.path())
        .set("METRICS_ACCESS_LOG", &access)
        .set("METRICS_ACCESS_SAMPLE", "10")
        .start();
    let mut client = server.connect();
    for number in 0..60 {
        match number % 6 {
            0 => client.post(EVENT, "{}").expect(422),
            _ => client.post(EVENT, EVENT_BODY).expect(202),
        };
    }
    let entries = await_entries(&access, 10 + 5);
    let errors = entries.iter().filter(|entry| entry["status"] == 422).count();
    assert_eq!(errors, 10);
}

#[test]
fn the_file_is_opened_again_on_sighup_and_written_to_its_end_at_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let (access, rotated) = (folder.path().join("access.jsonl"), folder.path().join("access.1"));
    let launch = Launch::new(folder.path()).set("METRICS_ACCESS_LOG", &access);
    let mut server = launch.start();
    let mut client = server.connect();
    client.post(EVENT, EVENT_BODY).expect(202);
    await_entries(&access, 1);
    fs::rename(&access, &rotated).unwrap();
    client.post(EVENT, EVENT_BODY).expect(202);
    await_entries(&rotated, 2);
    server.signal(Signal::HUP);
    await_true("a new file", || access.exists());
    for _ in 0..100 {
        client.post(EVENT, EVENT_BODY).expect(202);
    }
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    assert_eq!(entries(&access).len(), 100);
    assert_eq!(entries(&rotated).len(), 2);
    assert_eq!(log::lines(&launch.log()).len(), 102);
}

#[test]
fn lines_go_to_stderr_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path())
        .set("METRICS_ACCESS_LOG", "stderr")
        .start();
    server.connect().post(EVENT, EVENT_BODY).expect(202);
    await_true("the line", || {
        server
            .stderr()
            .contains(r#""target":"/api/metrics/event","status":202"#)
    });
}

#[test]
fn a_log_that_cannot_be_written_holds_up_nothing_and_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).set("METRICS_ACCESS_LOG", "/dev/full");
    let server = launch.start();
    let mut client = server.connect();
    for _ in 0..50 {
        client.post(EVENT, EVENT_BODY).expect(202);
    }
    await_true("the count", || {
        client.get(HEALTH).json()["access_log"]["dropped"]
            .as_u64()
            .unwrap()
            >= 50
    });
    await_true("a message", || {
        server.stderr().contains("access log cannot be written")
    });
    server.stop();
    assert_eq!(log::lines(&launch.log()).len(), 50);

    let nowhere = Launch::new(folder.path()).set("METRICS_ACCESS_LOG", folder.path().join("no/such/folder"));
    let ended = nowhere.try_start().unwrap_err();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("METRICS_ACCESS_LOG"), "{}", ended.stderr);
}
