//! Acknowledgement levels: how they are asked for, what they are worth, and that reads see one's own writes.

mod common;

use common::http::{self, BATCH, BEHAVIOR, EVENT};
use common::log;
use common::server::{Launch, Server};
use common::{Rng, await_true};
use serde_json::json;

const LEVELS: [&str; 3] = ["journaled", "written", "synced"];

/// Longer than any of these tests takes, unless something waits for it.
const PUBLISH_RARELY: &str = "10s";

fn start(settings: &[(&str, &str)]) -> (tempfile::TempDir, Launch, Server) {
    let folder = tempfile::tempdir().unwrap();
    let launch = settings
        .iter()
        .fold(Launch::new(folder.path()), |launch, (name, value)| {
            launch.set(name, value)
        });
    let server = launch.start();
    (folder, launch, server)
}

fn event(visitor: &str) -> String {
    format!(r#"{{"visitor_id":"{visitor}","event":"view"}}"#)
}

fn with_level(path: &str, level: &str) -> String {
    format!("{path}?ack={level}")
}

/// The first and last sequence number of an `X-Seq`.
fn sequence(answer: &http::Answer) -> (u64, u64) {
    let text = answer
        .header("x-seq")
        .expect("from `written` up the sequence numbers are told");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    (first.parse().expect("a number"), last.parse().expect("a number"))
}

#[test]
fn the_level_can_be_asked_for_in_the_query_and_in_a_header() {
    let (_folder, _launch, server) = start(&[]);
    let mut client = server.connect();
    for level in LEVELS {
        let by_query = client.post(&with_level(EVENT, level), &event("visitor-1"));
        let header = [("X-Ack", level)];
        let by_header = client.call(&http::request(
            "POST",
            EVENT,
            &header,
            event("visitor-2").as_bytes(),
        ));
        let batch = client.post(&with_level(BATCH, level), &format!("[{}]", event("visitor-3")));
        for answer in [by_query, by_header, batch] {
            let answer = answer.expect(202);
            assert_eq!(answer.header("x-ack"), Some(level));
            assert_eq!(answer.header("x-seq").is_some(), level != "journaled", "{level}");
        }
    }
}

#[test]
fn without_a_wish_the_configured_level_holds() {
    for level in LEVELS {
        let (_folder, _launch, server) = start(&[("METRICS_ACK", level)]);
        let answer = server.connect().post(EVENT, &event("visitor-1")).expect(202);
        assert_eq!(answer.header("x-ack"), Some(level));
    }
    let (_folder, _launch, server) = start(&[]);
    let answer = server.connect().post(EVENT, &event("visitor-1")).expect(202);
    assert_eq!(
        answer.header("x-ack"),
        Some("journaled"),
        "the default of the default"
    );
}

#[test]
fn synced_is_reached_whatever_the_rhythm_of_syncs() {
    for fsync in ["always", "20ms"] {
        let (_folder, launch, server) = start(&[("METRICS_FSYNC", fsync)]);
        let mut client = server.connect();
        for level in ["journaled", "synced"] {
            let answer = client
                .post(&with_level(EVENT, level), &event("visitor-1"))
                .expect(202);
            assert_eq!(answer.header("x-ack"), Some(level), "{fsync}");
        }
        assert_eq!(log::lines(&launch.log()).len(), 2, "{fsync}");
    }
}

#[test]
fn an_unknown_level_is_refused_and_stores_nothing() {
    let (_folder, launch, server) = start(&[("METRICS_ACK", "written")]);
    let mut client = server.connect();
    let by_query = client.post(&with_level(EVENT, "maybe"), &event("visitor-1"));
    let header = [("X-Ack", "maybe")];
    let by_header = client.call(&http::request(
        "POST",
        EVENT,
        &header,
        event("visitor-1").as_bytes(),
    ));
    for answer in [by_query, by_header] {
        let body = answer.expect(422).json();
        let error = &body["detail"][0];
        assert!(
            error["type"].is_string() && error["loc"].is_array() && error["msg"].is_string(),
            "{body}"
        );
        assert_eq!(error["input"], "maybe", "{body}");
    }
    client.post(EVENT, &event("visitor-2")).expect(202);
    assert_eq!(log::visitors(&launch.log()), ["visitor-2"]);
}

#[test]
fn the_line_is_in_the_file_when_the_answer_says_written_or_synced() {
    let (_folder, launch, server) = start(&[("METRICS_PUBLISH_INTERVAL", PUBLISH_RARELY)]);
    let mut client = server.connect();
    let mut reader = log::Reader::new(&launch.log());
    for index in 0..200 {
        let visitor = format!("visitor-{index}");
        client
            .post(&with_level(EVENT, LEVELS[1 + index % 2]), &event(&visitor))
            .expect(202);
        let added = reader.added();
        assert_eq!(added.len(), 1, "{added:?}");
        assert_eq!(log::event(&added[0])["visitor_id"], visitor);
    }
}

#[test]
fn what_was_journaled_before_is_written_with_what_is_written() {
    let (_folder, launch, server) = start(&[("METRICS_PUBLISH_INTERVAL", PUBLISH_RARELY)]);
    let mut client = server.connect();
    client.post(EVENT, &event("visitor-1")).expect(202);
    client.post(EVENT, &event("visitor-2")).expect(202);
    let answer = client
        .post(&with_level(EVENT, "written"), &event("visitor-3"))
        .expect(202);
    assert_eq!(sequence(&answer), (3, 3));
    assert_eq!(
        log::visitors(&launch.log()),
        ["visitor-1", "visitor-2", "visitor-3"]
    );
}

#[test]
fn a_journaled_line_is_in_the_file_soon() {
    let (_folder, launch, server) = start(&[]);
    server.connect().post(EVENT, &event("visitor-1")).expect(202);
    await_true("the line in the file", || {
        log::bytes(&launch.log()).ends_with(b"\n")
    });
    assert_eq!(log::visitors(&launch.log()), ["visitor-1"]);
}

#[test]
fn sequence_numbers_are_line_numbers_without_a_gap_also_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    let mut rng = Rng::new(3);
    let mut stored = 0;
    for round in 0..4 {
        let server = launch.start();
        let mut client = server.connect();
        for _ in 0..40 {
            let count = rng.between(1, 20);
            let level = rng.pick(&LEVELS);
            let bodies: Vec<String> = (0..count)
                .map(|index| event(&format!("visitor-{}", stored + index + 1)))
                .collect();
            let answer = match count {
                1 => client.post(&with_level(EVENT, level), &bodies[0]),
                _ => client.post(&with_level(BATCH, level), &format!("[{}]", bodies.join(","))),
            };
            let answer = answer.expect(202);
            if level != "journaled" {
                assert_eq!(sequence(&answer), (stored + 1, stored + count), "round {round}");
            }
            stored += count;
        }
        if round % 2 == 0 {
            server.stop()
        } else {
            server.kill9()
        }
    }
    launch.start().stop();
    let expected: Vec<String> = (1..=stored).map(|number| format!("visitor-{number}")).collect();
    assert_eq!(log::visitors(&launch.log()), expected);
}

#[test]
fn concurrent_writers_get_the_numbers_of_their_own_lines() {
    let (_folder, launch, server) = start(&[("METRICS_ACK", "written")]);
    let threads: Vec<_> = (0..4)
        .map(|writer| {
            let mut client = server.connect();
            std::thread::spawn(move || {
                let post = |index| {
                    let visitor = format!("visitor-{writer}-{index}");
                    let (first, last) = sequence(&client.post(EVENT, &event(&visitor)).expect(202));
                    assert_eq!(first, last);
                    (first, visitor)
                };
                (0..250).map(post).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut told: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    told.sort();
    let visitors = log::visitors(&launch.log());
    assert_eq!(visitors.len(), told.len());
    for (line, ((number, visitor), stored)) in (1..).zip(told.iter().zip(&visitors)) {
        assert_eq!((*number, visitor), (line, stored));
    }
}

#[test]
fn without_a_journal_the_level_is_called_queued() {
    let (_folder, launch, server) = start(&[("METRICS_JOURNAL", "memory")]);
    let mut client = server.connect();
    let answer = client.post(EVENT, &event("visitor-1")).expect(202);
    assert_eq!(answer.header("x-ack"), Some("queued"));
    let answer = client
        .post(&with_level(EVENT, "written"), &event("visitor-2"))
        .expect(202);
    assert_eq!(answer.header("x-ack"), Some("written"));
    client.post(EVENT, &event("visitor-3")).expect(202);
    assert!(!launch.journal().exists(), "no journal is made");
    server.stop();
    assert_eq!(
        log::visitors(&launch.log()),
        ["visitor-1", "visitor-2", "visitor-3"]
    );
}

#[test]
fn a_pipelined_burst_of_all_levels_keeps_the_order_of_answers_and_lines() {
    let (_folder, launch, server) = start(&[]);
    let mut client = server.connect();
    let mut rng = Rng::new(11);
    let mut visitors = Vec::new();
    for _ in 0..20 {
        let wishes: Vec<&str> = (0..30).map(|_| rng.pick(&LEVELS)).collect();
        let mut requests = Vec::new();
        for level in &wishes {
            visitors.push(format!("visitor-{}", visitors.len()));
            requests.extend(http::post(
                &with_level(EVENT, level),
                &event(visitors.last().unwrap()),
            ));
        }
        client.send(&requests).unwrap();
        let first_of_burst = (visitors.len() - wishes.len() + 1) as u64;
        for (number, wish) in (first_of_burst..).zip(&wishes) {
            let answer = client.answer().expect(202);
            let reached = answer
                .header("x-ack")
                .and_then(|name| LEVELS.iter().position(|level| *level == name));
            assert!(
                reached >= LEVELS.iter().position(|level| level == wish),
                "{wish}: {answer:?}"
            );
            if *wish != "journaled" {
                assert_eq!(
                    sequence(&answer),
                    (number, number),
                    "answers come in the order of the requests"
                );
            }
        }
    }
    server.stop();
    assert_eq!(log::visitors(&launch.log()), visitors);
}

#[test]
fn a_snapshot_sees_what_was_acknowledged_before_it_at_every_level() {
    for interval in ["1ms", PUBLISH_RARELY] {
        let (_folder, launch, server) = start(&[("METRICS_PUBLISH_INTERVAL", interval)]);
        let (mut writer, mut other) = (server.connect(), server.connect());
        for count in 1..=60 {
            let visitor = format!("visitor-{count}");
            writer
                .post(&with_level(EVENT, LEVELS[count % 3]), &event(&visitor))
                .expect(202);
            let snapshot = other.get(&format!("{BEHAVIOR}?limit=2")).expect(200).json();
            assert_eq!(snapshot["total"], count, "{interval}");
            assert_eq!(
                snapshot["by_event"],
                json!([{"event": "view", "count": count}]),
                "{interval}"
            );
            assert_eq!(
                snapshot["last_events"][0]["visitor_id"], visitor,
                "{interval}: the newest comes first"
            );
            if count > 1 {
                assert_eq!(
                    snapshot["last_events"][1]["visitor_id"],
                    format!("visitor-{}", count - 1)
                );
            }
            assert_eq!(
                snapshot["file_size_bytes"],
                log::bytes(&launch.log()).len(),
                "{interval}"
            );
        }
    }
}

#[test]
fn a_snapshot_right_after_a_pipelined_write_on_the_same_connection_sees_it() {
    let (_folder, _launch, server) = start(&[("METRICS_PUBLISH_INTERVAL", PUBLISH_RARELY)]);
    let mut client = server.connect();
    let mut requests = http::post(EVENT, &event("visitor-1"));
    requests.extend(http::get(BEHAVIOR));
    requests.extend(http::post(EVENT, &event("visitor-2")));
    requests.extend(http::get(BEHAVIOR));
    client.send(&requests).unwrap();
    for total in 1..=2 {
        client.answer().expect(202);
        assert_eq!(client.answer().expect(200).json()["total"], total);
    }
}
