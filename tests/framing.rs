//! Where requests begin and end, played against the real server: a table of raw requests, whole, split at every byte, and
//! between two good ones; and what is stored afterwards, which shows that no request was ever read out of a body.

#[path = "framing/cases.rs"]
mod cases;
mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cases::{Case, End};
use common::http::{self, Answer, BATCH, BEHAVIOR, Client, EVENT, HEALTH};
use common::server::{Launch, Server};
use serde_json::{Value, json};

/// Beyond so many bytes a case is split at some places only: it is its length that matters.
const SPLITS_MAX: usize = 1500;

/// A request that is always taken.
fn good() -> Vec<u8> {
    http::post(EVENT, r#"{"visitor_id":"visitor-1","event":"good"}"#)
}

/// Counts what the answers say was stored, to be compared with what is.
#[derive(Default)]
struct Ledger {
    probes: AtomicUsize,
    goods: AtomicUsize,
}

impl Ledger {
    fn note(to: &AtomicUsize, answer: &Answer) {
        if answer.status == 202 {
            let stored = answer.json()["stored"]
                .as_u64()
                .expect("a 202 tells how many were stored");
            to.fetch_add(stored as usize, Ordering::Relaxed);
        }
    }

    fn compare(&self, server: &Server) {
        let snapshot = server.connect().get(BEHAVIOR).expect(200).json();
        let mut expected = vec![
            json!({"event": "good", "count": self.goods.load(Ordering::Relaxed)}),
            json!({"event": "probe", "count": self.probes.load(Ordering::Relaxed)}),
        ];
        let mut counts = snapshot["by_event"].as_array().expect("an array").clone();
        for list in [&mut expected, &mut counts] {
            list.retain(|entry| entry["count"] != 0);
            list.sort_by_key(|entry| entry["event"].to_string());
        }
        assert_eq!(counts, expected, "{snapshot}");
    }
}

/// Takes an answer and checks what all of them have to have.
fn take(client: &mut Client, case: &Case, choice: &[u16], is_head: bool) -> Answer {
    let name = format!("{} ({:?})", case.name, case.level);
    let taken = loop {
        let taken = if is_head {
            client.try_answer_head()
        } else {
            client.try_answer()
        };
        match taken {
            Ok(answer) if answer.status == 100 => {
                assert!(
                    memchr::memmem::find(&case.bytes, b"100-continue").is_some(),
                    "{name}: nobody asked for a 100"
                );
            }
            other => break other,
        }
    };
    let answer = taken.unwrap_or_else(|error| panic!("{name}: no answer: {error}"));
    assert!(
        choice.contains(&answer.status),
        "{name}: {} {}",
        answer.status,
        answer.text()
    );
    assert!(
        answer
            .header("date")
            .is_some_and(|date| date.len() == 29 && date.ends_with(" GMT")),
        "{name}: {answer:?}"
    );
    match answer.status {
        204 => assert_eq!(answer.header("content-length"), None, "{name}"),
        _ => assert_eq!(answer.header("content-type"), Some("application/json"), "{name}"),
    }
    if matches!(answer.status, 204 | 405) {
        assert!(answer.header("allow").is_some(), "{name}: {answer:?}");
    }
    if answer.status >= 400 && !is_head {
        assert!(!answer.json()["detail"].is_null(), "{name}: {}", answer.text());
    }
    answer
}

/// Takes all answers of a case that was sent, with what shows that the connection goes on or has ended.
fn expect(client: &mut Client, case: &Case, ledger: &Ledger) {
    let name = case.name;
    let is_head = case.bytes.starts_with(b"HEAD ");
    for (at, choice) in case.answers.iter().enumerate() {
        let answer = take(client, case, choice, is_head);
        Ledger::note(&ledger.probes, &answer);
        let is_last = at + 1 == case.answers.len();
        // An answer that has left before the connection had to end does not say so.
        if is_last && answer.status >= 400 {
            let closes = answer.header("connection") == Some("close");
            assert_eq!(closes, case.end == End::Closed, "{name}: {answer:?}");
        }
    }
    match case.end {
        End::Kept => {
            client
                .send(&good())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let answer = client
                .try_answer()
                .unwrap_or_else(|error| panic!("{name}: not kept: {error}"));
            assert_eq!(answer.status, 202, "{name}: {}", answer.text());
            Ledger::note(&ledger.goods, &answer);
        }
        End::Closed => assert!(client.is_at_end(), "{name}: the connection goes on"),
        End::Waits(answers) => {
            client.finish_sending();
            for status in answers {
                take(client, case, &[*status], false);
            }
            assert!(client.is_at_end(), "{name}: the connection goes on");
        }
    }
}

/// Sends what the server may have stopped reading: it is the answers that tell.
fn send(client: &mut Client, bytes: &[u8]) {
    let _ = client.send(bytes);
}

/// Runs `play` for each case, on some threads.
fn for_each_case(play: impl Fn(&Case) + Sync) {
    let left = Mutex::new(cases::all());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = left.lock().expect("no holder panics").pop() else {
                        return;
                    };
                    play(&case);
                }
            });
        }
    });
}

fn start() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    (folder, server)
}

#[test]
fn the_table_holds_the_whole_suite() {
    let cases = cases::all();
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "a name is there twice");
    names.retain(|name| !name.starts_with("OWN"));
    assert_eq!(names.len(), 215);
}

#[test]
fn every_case_has_its_outcome() {
    let (_folder, server) = start();
    let ledger = Ledger::default();
    for_each_case(|case| {
        let mut client = server.connect();
        send(&mut client, &case.bytes);
        expect(&mut client, case, &ledger);
    });
    ledger.compare(&server);
}

#[test]
fn every_case_has_its_outcome_at_every_split() {
    let (_folder, server) = start();
    let ledger = Ledger::default();
    for_each_case(|case| {
        let length = case.bytes.len();
        let step = length / SPLITS_MAX * 97 + 1;
        let mut client = None;
        for split in (1..length).step_by(step) {
            let (first, second) = case.bytes.split_at(split);
            // A connection that is kept goes through all splits.
            let mut connected = client.take().unwrap_or_else(|| server.connect());
            send(&mut connected, first);
            send(&mut connected, second);
            expect(&mut connected, case, &ledger);
            client = (case.end == End::Kept && !is_http10(case)).then_some(connected);
        }
    });
    ledger.compare(&server);
}

fn is_http10(case: &Case) -> bool {
    memchr::memmem::find(&case.bytes, b"HTTP/1.0").is_some()
}

#[test]
fn every_case_has_its_outcome_between_good_requests() {
    let (_folder, server) = start();
    let ledger = Ledger::default();
    for_each_case(|case| {
        // What waits for more would take the next request for it.
        if matches!(case.end, End::Waits(_)) || case.name == "OWN-TLS-HELLO" {
            return;
        }
        let mut client = server.connect();
        send(&mut client, &[good(), case.bytes.clone(), good()].concat());
        let first = client
            .try_answer()
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        Ledger::note(&ledger.goods, &first.expect(202));
        if case.end == End::Kept {
            // The last answer is the third's, and another follows from `expect`.
            let third = case.answers.iter().copied().chain([&[202][..]]);
            let is_head = case.bytes.starts_with(b"HEAD ");
            for (at, choice) in third.enumerate() {
                let is_third = at == case.answers.len();
                let answer = take(&mut client, case, choice, is_head && !is_third);
                Ledger::note(if is_third { &ledger.goods } else { &ledger.probes }, &answer);
            }
            let nothing_more = Case {
                answers: Vec::new(),
                ..case.clone()
            };
            expect(&mut client, &nothing_more, &ledger);
        } else {
            // The good request behind it is not answered.
            expect(&mut client, case, &ledger);
        }
    });
    ledger.compare(&server);
}

#[test]
fn a_long_body_that_does_not_come_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path())
        .set("METRICS_BATCH_BYTES_MAX", "1GiB")
        .set("METRICS_INFLIGHT_BYTES_MAX", "1GiB");
    let server = launch.start();
    let mut client = server.connect();
    client
        .send(&http::head("POST", BATCH, &[("Content-Length", "999999999")]))
        .unwrap();
    client.finish_sending();
    let answer = client.answer().expect(400);
    assert_eq!(
        answer.json(),
        json!({"detail": "The request body is incomplete."})
    );
    assert!(client.is_at_end());
}

/// The body of a chunked request in chunks of `size`.
fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");

#[test]
fn a_large_batch_may_be_chunked_in_any_way() {
    let (folder, server) = start();
    let lines: Vec<String> = (0..20_000)
        .map(|at| format!(r#"{{"visitor_id":"visitor-{at}","event":"chunked"}}"#))
        .collect();
    let body = lines.join("\n");
    let sizes = [7, 1000, 65_536, 100_001, body.len()];
    let mut client = server.connect();
    for size in sizes {
        let mut request = http::head("POST", BATCH, &[CHUNKED]);
        request.extend(in_chunks(body.as_bytes(), size));
        let answer = client.call(&request).expect(202);
        assert_eq!(answer.json()["stored"], lines.len(), "in chunks of {size}");
    }
    assert_eq!(
        client.get(BEHAVIOR).expect(200).json()["total"],
        lines.len() * sizes.len()
    );
    let log = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    for (line, at) in log.lines().zip((0..lines.len()).cycle()) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["visitor_id"], format!("visitor-{at}"));
    }
}

#[test]
fn a_chunked_body_is_bounded_where_its_length_shows() {
    let (_folder, server) = start();
    // One byte more than an event may have, and no end.
    let mut client = server.connect();
    let body = vec![b' '; (1 << 20) + 1];
    let chunks = in_chunks(&body, 4096);
    client
        .send(
            &[
                http::head("POST", EVENT, &[CHUNKED]),
                chunks[..chunks.len() - 5].to_vec(),
            ]
            .concat(),
        )
        .unwrap();
    client.answer().expect(413);
    // The rest is short, so the connection is kept.
    client.send(b"0\r\n\r\n").unwrap();
    client.get(HEALTH).expect(200);
    // A rest that does not end is not read for ever.
    client.send(&http::head("POST", EVENT, &[CHUNKED])).unwrap();
    let mut sent = 0;
    while client.send(&chunks[..chunks.len() - 5]).is_ok() && sent < 64 << 20 {
        sent += chunks.len();
    }
    client.answer().expect(413);
    assert!(client.is_at_end());
}

#[test]
fn what_comes_with_the_end_of_sending_is_served() {
    let (_folder, server) = start();
    let chunked = [
        http::head("POST", EVENT, &[CHUNKED]),
        in_chunks(cases::EVENT.as_bytes(), 10),
    ]
    .concat();
    for request in [good(), chunked] {
        let mut client = server.connect();
        client.send(&request).unwrap();
        client.finish_sending();
        client.answer().expect(202);
        assert!(client.is_at_end());
    }
}

#[test]
fn a_chunked_body_is_asked_for_when_it_is_wanted() {
    let (_folder, server) = start();
    let expecting = [CHUNKED, ("Expect", "100-continue")];
    let mut client = server.connect();
    assert_eq!(client.call(&http::head("POST", EVENT, &expecting)).status, 100);
    let answer = client.call(&in_chunks(cases::EVENT.as_bytes(), 5)).expect(202);
    assert_eq!(answer.json()["stored"], 1);
    // Not wanted: the last word, without a 100 before it.
    let answer = client.call(&http::head("POST", HEALTH, &expecting)).expect(405);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_at_end());
}
