//! Starting, stopping and configuring the server, and taking over a log that is there already.

mod common;

use std::fs;

use common::await_true;
use common::http::{self, BEHAVIOR, Client, EVENT};
use common::load::{Books, Load};
use common::log;
use common::server::Launch;
use serde_json::json;

fn folder() -> (tempfile::TempDir, Launch) {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    (folder, launch)
}

fn event(visitor: &str) -> String {
    format!(r#"{{"visitor_id":"{visitor}","event":"view"}}"#)
}

/// A connection with a request under way: its head was read, its body is still to come.
fn open_request(server: &common::server::Server, body: &str) -> Client {
    let mut client = server.connect();
    let length = body.len().to_string();
    let headers = [("Content-Length", length.as_str()), ("Expect", "100-continue")];
    client.send(&http::head("POST", EVENT, &headers)).unwrap();
    client.answer().expect(100);
    client
}

#[test]
fn a_second_process_on_the_same_log_fails_and_names_it() {
    let (_folder, launch) = folder();
    let server = launch.start();
    server.connect().post(EVENT, &event("visitor-1")).expect(202);
    let ended = launch.try_start().expect_err("one log has one owner");
    assert!(matches!(ended.status.code(), Some(1 | 2)), "{}", ended.status);
    assert!(
        ended.stderr.contains("metrics.jsonl"),
        "the message names the file: {}",
        ended.stderr
    );
    server.connect().post(EVENT, &event("visitor-2")).expect(202);
    server.stop();
    assert_eq!(log::visitors(&launch.log()), ["visitor-1", "visitor-2"]);
}

#[test]
fn a_log_is_free_again_after_a_stop_and_after_a_kill() {
    let (_folder, launch) = folder();
    launch.start().stop();
    launch.start().kill9();
    launch.start().stop();
}

#[test]
fn a_stop_without_events_leaves_no_log_and_no_journal() {
    let (_folder, launch) = folder();
    launch.start().stop();
    assert!(!launch.log().exists(), "the file comes with its first batch");
    assert!(log::is_absent_or_empty(&launch.journal()));
}

#[test]
fn a_stop_under_load_keeps_everything_acknowledged() {
    const LEVELS: &[&str] = &["", "journaled", "written", "synced"];
    for round in 0..3 {
        let (_folder, launch) = folder();
        let mut server = launch.start();
        let mut books = Books::new(&launch.log(), false);
        let load = Load::start(server.address(), round, 7, LEVELS);
        load.await_acknowledged(1_000);
        server.terminate();
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "{}", server.stderr());
        books.add(&load.finish());
        books.check_log("after the stop");
        assert!(
            log::is_absent_or_empty(&launch.journal()),
            "a clean stop leaves nothing in the journal"
        );

        let server = launch.start();
        assert_eq!(server.recovered(), 0);
        books.check_snapshot(server.address(), &launch.log(), "after the restart");
    }
}

#[test]
fn a_request_under_way_is_answered_before_the_stop() {
    let (_folder, launch) = folder();
    let mut server = launch.start();
    let body = event("visitor-1");
    let mut client = open_request(&server, &body);
    server.terminate();
    client.call(body.as_bytes()).expect(202);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
    assert_eq!(log::visitors(&launch.log()), ["visitor-1"]);
}

#[test]
fn idle_connections_do_not_hold_up_a_stop() {
    let (_folder, launch) = folder();
    // Longer than the test's patience: a stop that waits for idle connections fails.
    let server = launch.set("METRICS_SHUTDOWN_TIMEOUT", "10m").start();
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    clients[0].post(EVENT, &event("visitor-1")).expect(202);
    server.stop();
}

#[test]
fn a_second_signal_ends_a_stop_that_waits() {
    let (_folder, launch) = folder();
    let launch = launch.set("METRICS_SHUTDOWN_TIMEOUT", "10m");
    let mut server = launch.start();
    server.connect().post(EVENT, &event("visitor-1")).expect(202);
    let _open = open_request(&server, &event("visitor-2"));
    server.terminate();
    // Two signals sent at once may arrive as one, so they are repeated until the process is gone.
    await_true("the second signal to end the process", || {
        let is_running = server.is_running();
        if is_running {
            server.terminate();
        }
        !is_running
    });
    launch.start().stop();
    assert_eq!(
        log::visitors(&launch.log()),
        ["visitor-1"],
        "what was acknowledged is not lost by haste"
    );
}

#[test]
fn a_stop_gives_up_on_a_request_that_never_ends() {
    let (_folder, launch) = folder();
    let mut server = launch.set("METRICS_SHUTDOWN_TIMEOUT", "200ms").start();
    let _open = open_request(&server, &event("visitor-1"));
    server.terminate();
    server.wait();
}

/// Scheduling policy and niceness of the server's threads, by their names; the kernel knows 15 bytes of each.
fn ranks(server: &common::server::Server) -> Vec<(String, [i32; 2])> {
    let threads = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    let of = |stat: String| {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The fields 41 and 19 of proc_pid_stat(5); the third is the first of these.
        let rank = [38, 16].map(|field| fields[field].parse().unwrap());
        Some((name.to_owned(), rank))
    };
    stats.filter_map(of).collect()
}

#[test]
fn what_reads_or_tidies_gives_way_to_what_takes_events_in() {
    let (_folder, launch) = folder();
    let server = launch.set("METRICS_COMPRESS_AFTER", "1h").start();
    let own = rustix::process::getpriority_process(None).unwrap();
    let (usual, background, idle) = ([0, own], [0, (own + 10).min(19)], 5);
    let all_are = |name: &str, holds: &dyn Fn([i32; 2]) -> bool| {
        let threads = ranks(&server);
        let name = format!("floodgate-{name}");
        let mut found = threads.iter().filter(|thread| thread.0 == name).peekable();
        found.peek().is_some() && found.all(|thread| holds(thread.1))
    };
    for name in ["read", "catch", "feed", "keep"] {
        await_true(&format!("{name} to give way"), || {
            all_are(name, &|rank| rank == background)
        });
    }
    await_true("pack to give way", || {
        all_are("pack", &|[policy, _]| policy == idle)
    });
    for name in ["write", "sync", "time", "grow"] {
        assert!(all_are(name, &|rank| rank == usual), "{:?}", ranks(&server));
    }
}

#[test]
fn a_bad_setting_ends_the_start_with_its_name_and_its_value() {
    let bad = [
        ("METRICS_ACK", "maybe"),
        ("METRICS_RING_CAPACITY", "0"),
        ("METRICS_RING_CAPACITY", "many"),
        ("METRICS_PUBLISH_INTERVAL", "fast"),
        ("METRICS_ENQUEUE_TIMEOUT", "-1s"),
        ("METRICS_JOURNAL_BYTES_MAX", "1KiB"),
        ("METRICS_JOURNAL_BYTES_MAX", "64"),
        ("METRICS_FSYNC", "sometimes"),
        ("METRICS_LINE_BYTES_MAX", "0"),
        ("METRICS_WORKERS", "some"),
        ("METRICS_BIND", "nowhere"),
        ("METRICS_LOG_FORMAT", "xml"),
    ];
    for (name, value) in bad {
        let (_folder, launch) = folder();
        let ended = launch
            .set(name, value)
            .try_start()
            .expect_err("a bad setting is no start");
        assert_eq!(ended.status.code(), Some(2), "{name}={value}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(name),
            "{name}={value}: the name is missing: {}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains(value),
            "{name}={value}: the value is missing: {}",
            ended.stderr
        );
    }
}

#[test]
fn a_bad_choice_is_told_what_is_allowed() {
    let (_folder, launch) = folder();
    let ended = launch
        .set("METRICS_ACK", "maybe")
        .try_start()
        .expect_err("no such level");
    for level in ["journaled", "written", "synced"] {
        assert!(
            ended.stderr.contains(level),
            "{level} is missing: {}",
            ended.stderr
        );
    }
}

#[test]
fn config_prints_the_effective_settings() {
    let (_folder, launch) = folder();
    let output = launch
        .set("METRICS_RING_CAPACITY", "77")
        .set("METRICS_PUBLISH_INTERVAL", "250ms")
        .run(&["config"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("settings are text");
    let names = [
        "METRICS_BIND",
        "METRICS_JSONL",
        "METRICS_RING_CAPACITY",
        "METRICS_WORKERS",
        "METRICS_ACK",
        "METRICS_JOURNAL",
        "METRICS_JOURNAL_BYTES_MAX",
        "METRICS_PUBLISH_INTERVAL",
        "METRICS_ENQUEUE_TIMEOUT",
        "METRICS_FSYNC",
        "METRICS_LOG_FORMAT",
    ];
    for name in names {
        assert!(text.contains(name), "{name} is missing:\n{text}");
    }
    for (name, value) in [
        ("METRICS_RING_CAPACITY", "77"),
        ("METRICS_PUBLISH_INTERVAL", "250ms"),
        // Effective means that a default which depends on another setting is worked out.
        ("METRICS_JOURNAL=", "metrics.journal"),
    ] {
        let line = text
            .lines()
            .find(|line| line.contains(name))
            .expect("checked above");
        assert!(line.contains(value), "{line}");
    }
}

#[test]
fn config_refuses_bad_settings_like_the_server() {
    let (_folder, launch) = folder();
    let output = launch.set("METRICS_ACK", "maybe").run(&["config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("METRICS_ACK"));
}

#[test]
fn help_lists_the_commands_and_an_unknown_one_is_a_usage_error() {
    let (_folder, launch) = folder();
    let output = launch.run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("help is text");
    for command in ["serve", "config"] {
        assert!(text.contains(command), "{command} is missing:\n{text}");
    }
    assert_eq!(launch.run(&["juggle"]).status.code(), Some(2));
}

#[test]
fn the_recent_window_is_as_large_as_configured_also_after_a_restart() {
    let (_folder, launch) = folder();
    let launch = launch.set("METRICS_RING_CAPACITY", "3");
    let server = launch.start();
    let mut client = server.connect();
    for number in 0..10 {
        client
            .post(EVENT, &event(&format!("visitor-{number}")))
            .expect(202);
    }
    let check = |client: &mut Client| {
        let snapshot = client.get(BEHAVIOR).expect(200).json();
        let last: Vec<_> = snapshot["last_events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["visitor_id"].clone())
            .collect();
        assert_eq!(
            (&snapshot["total"], last),
            (
                &json!(10),
                vec![json!("visitor-9"), json!("visitor-8"), json!("visitor-7")]
            )
        );
        let error = client.get(&format!("{BEHAVIOR}?limit=4")).expect(422).json();
        assert_eq!(
            error["detail"][0]["ctx"],
            json!({"le": 3}),
            "the limit is the capacity: {error}"
        );
    };
    check(&mut client);
    server.stop();
    check(&mut launch.start().connect());
}

#[test]
fn a_log_of_the_python_service_is_taken_over() {
    let (_folder, launch) = folder();
    let lines = [
        r#"{"visitor_id": "visitor-1", "event": "page_view", "timestamp": "2025-10-09T12:34:56Z", "metadata": {}, "user_agent": null}"#,
        r#"{"visitor_id": "caf\u00e9-123", "event": "\u00e9cran", "timestamp": "2025-10-09T12:34:57.250000Z", "metadata": {"a, b": [1, 2.50, "c: d"]}, "user_agent": "Mozilla/5.0"}"#,
        r#"{"visitor_id": "visitor-3", "event": "\ud83d\ude00", "timestamp": "2025-10-09T12:34:58Z", "metadata": {"k": "\u2028"}, "user_agent": null}"#,
    ];
    let original = lines.map(|line| format!("{line}\n")).concat();
    fs::write(launch.log(), &original).unwrap();
    let server = launch.start();
    let mut client = server.connect();
    for (visitor, event) in [
        ("visitor-4", "écran"),
        ("visitor-5", "😀"),
        ("visitor-6", "\\u00e9cran"),
    ] {
        let body = format!(r#"{{"visitor_id":"{visitor}","event":"{event}","timestamp":1760000000}}"#);
        client.post(EVENT, &body).expect(202);
    }
    let check = |snapshot: serde_json::Value| {
        assert_eq!(snapshot["total"], 6);
        let mut counts: Vec<(String, u64)> = snapshot["by_event"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                (
                    entry["event"].as_str().unwrap().to_owned(),
                    entry["count"].as_u64().unwrap(),
                )
            })
            .collect();
        counts.sort();
        assert_eq!(
            counts,
            [("page_view".into(), 1), ("écran".into(), 3), ("😀".into(), 2)],
            "one name, one count"
        );
        let last = snapshot["last_events"].as_array().unwrap();
        assert_eq!(last.len(), 6);
        assert_eq!(last[3], log::event(lines[2]));
        assert_eq!(last[4], log::event(lines[1]));
        assert_eq!(last[5], log::event(lines[0]));
    };
    check(client.get(BEHAVIOR).expect(200).json());
    let answer = client
        .post(&format!("{EVENT}?ack=written"), &event("visitor-7"))
        .expect(202);
    assert_eq!(
        answer.header("x-seq"),
        Some("7"),
        "sequence numbers go on where the lines end"
    );
    server.stop();
    let stored = log::bytes(&launch.log());
    assert!(
        stored.starts_with(original.as_bytes()),
        "what was there is not rewritten"
    );
    assert_eq!(log::lines(&launch.log()).len(), 7);
}
