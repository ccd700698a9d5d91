//! HTTP/1.1 as clients in the field speak it, well and badly.

mod common;

use common::http::{self, BATCH, BEHAVIOR, Client, EVENT, HEALTH};
use common::log;
use common::server::{Launch, Server};
use serde_json::json;

fn start() -> (tempfile::TempDir, Launch, Server) {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).set("METRICS_ACK", "written");
    let server = launch.start();
    (folder, launch, server)
}

fn event(number: usize) -> String {
    format!(r#"{{"visitor_id":"visitor-{number}","event":"view"}}"#)
}

fn visitors(numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.map(|number| format!("visitor-{number}")).collect()
}

/// Sends what is no request; it is answered once, with a refusal, and the connection ends.
fn assert_refused_and_closed(server: &Server, what: &str, bytes: &[u8]) {
    let mut client = server.connect();
    client.send(bytes).unwrap();
    let answer = client
        .try_answer()
        .unwrap_or_else(|error| panic!("{what}: no answer: {error}"));
    assert!((400..=505).contains(&answer.status), "{what}: {}", answer.status);
    let body = answer.json();
    assert!(
        body["detail"].is_string() || body["detail"].is_array(),
        "{what}: {body}"
    );
    assert!(client.is_at_end(), "{what}: the connection goes on");
}

#[test]
fn the_answer_to_an_event_says_what_was_done() {
    let (_folder, launch, server) = start();
    let answer = server.connect().post(EVENT, &event(1)).expect(202);
    assert!(
        answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"))
    );
    let file = launch.log().to_str().unwrap().to_owned();
    assert_eq!(answer.json(), json!({"ok": true, "stored": 1, "file": file}));
}

#[test]
fn a_connection_is_kept_for_many_requests() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    for number in 0..300 {
        client.post(EVENT, &event(number)).expect(202);
    }
    assert_eq!(log::visitors(&launch.log()), visitors(0..300));
}

#[test]
fn a_hundred_requests_in_one_write_are_answered_in_order() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let mut requests = Vec::new();
    let expected: Vec<u16> = [202, 422, 202, 404, 202, 405, 202, 200, 202, 422].repeat(10);
    for (number, status) in expected.iter().enumerate() {
        requests.extend(match status {
            202 => http::post(EVENT, &event(number)),
            422 => http::post(EVENT, "{}"),
            404 => http::get("/api/metrics/nothing"),
            405 => http::get(EVENT),
            _ => http::get(HEALTH),
        });
    }
    client.send(&requests).unwrap();
    let statuses: Vec<u16> = expected.iter().map(|_| client.answer().status).collect();
    assert_eq!(statuses, expected);
    let stored = (0..100).filter(|number| expected[*number] == 202);
    assert_eq!(log::visitors(&launch.log()), visitors(stored));
}

#[test]
fn many_connections_are_served_at_once() {
    let (_folder, launch, server) = start();
    let mut clients: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&http::post(EVENT, &event(number))).unwrap();
    }
    for client in &mut clients {
        client.answer().expect(202);
    }
    let mut stored = log::visitors(&launch.log());
    stored.sort();
    let mut expected = visitors(0..200);
    expected.sort();
    assert_eq!(stored, expected);
}

#[test]
fn http_1_0_gets_its_answer_and_the_end_of_the_connection() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let body = event(1);
    let request = format!(
        "POST {EVENT} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.call(request.as_bytes()).expect(202);
    assert!(client.is_at_end());
    assert_eq!(log::visitors(&launch.log()), ["visitor-1"]);
}

#[test]
fn connection_close_is_honoured() {
    let (_folder, _launch, server) = start();
    let mut client = server.connect();
    client.post(EVENT, &event(1)).expect(202);
    let request = http::request("POST", EVENT, &[("Connection", "close")], event(2).as_bytes());
    let answer = client.call(&request).expect(202);
    let connection = answer.header("connection").map(str::to_ascii_lowercase);
    assert_eq!(connection.as_deref(), Some("close"), "the answer says so");
    assert!(client.is_at_end());
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let (_folder, _launch, server) = start();
    let mut client = server.connect();
    for path in [HEALTH, BEHAVIOR] {
        client.send(&http::head("HEAD", path, &[])).unwrap();
        assert_eq!(client.try_answer_head().unwrap().status, 200, "{path}");
        // The next answer begins right after the head: a body between them would be taken for it.
        client.get(path).expect(200).json();
    }
}

#[test]
fn unknown_paths_and_wrong_methods_are_told_apart() {
    let (_folder, _launch, server) = start();
    let mut client = server.connect();
    for path in [
        "/api/metrics/nothing",
        "/api/metrics/event/",
        "/api/metrics",
        "/api/metrics/events/batch/x",
    ] {
        let answer = client.get(path).expect(404);
        assert!(answer.json()["detail"].is_string(), "{path}");
    }
    let wrong = [
        ("GET", EVENT, "POST"),
        ("PUT", EVENT, "POST"),
        ("DELETE", BATCH, "POST"),
        ("POST", BEHAVIOR, "GET"),
        ("POST", HEALTH, "GET"),
    ];
    for (method, path, allowed) in wrong {
        let answer = client.call(&http::request(method, path, &[], b"{}")).expect(405);
        let allow = answer
            .header("allow")
            .unwrap_or_else(|| panic!("{method} {path}: no Allow"));
        assert!(
            allow.split(',').any(|name| name.trim() == allowed),
            "{method} {path}: Allow: {allow}"
        );
        assert!(answer.json()["detail"].is_string(), "{method} {path}");
    }
    client.post(EVENT, &event(1)).expect(202);
}

#[test]
fn what_is_no_request_is_refused_and_ends_the_connection() {
    let (_folder, launch, server) = start();
    let follow_up = http::post(EVENT, &event(666));
    let heads = [
        ("garbage", "what is this\r\n\r\n"),
        ("binary", "\u{1}\u{2}\u{3}\r\n\r\n"),
        ("an unknown version", "GET / HTTP/3.1\r\nHost: a\r\n\r\n"),
        (
            "a header without a colon",
            "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
        ),
        (
            "a space before the colon",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n\r\n",
        ),
        (
            "a length that is no number",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",
        ),
        (
            "a negative length",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        ),
        (
            "a signed length",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        ),
        (
            "a length beyond 64 bits",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ),
        (
            "two lengths",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            "an unknown coding",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: rot13\r\n\r\n",
        ),
        (
            "a length and chunks",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a chunk without a size",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ),
        (
            "a chunk longer than it says",
            "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        ),
    ];
    for (what, head) in heads {
        assert_refused_and_closed(&server, what, &[head.as_bytes(), &follow_up].concat());
    }
    server.connect().post(EVENT, &event(1)).expect(202);
    assert_eq!(
        log::visitors(&launch.log()),
        ["visitor-1"],
        "nothing behind a bad request is read as one"
    );
}

#[test]
fn an_endless_head_is_refused() {
    let (_folder, _launch, server) = start();
    let mut client = server.connect();
    let head = format!(
        "GET {HEALTH} HTTP/1.1\r\nHost: a\r\nX-Filler: {}\r\n\r\n",
        "x".repeat(4 << 20)
    );
    // The server need not read it all: the write may fail, and the answer may be lost with it.
    if client.send(head.as_bytes()).is_ok()
        && let Ok(answer) = client.try_answer()
    {
        assert!(matches!(answer.status, 400 | 431), "{}", answer.status);
    }
    server.connect().get(HEALTH).expect(200);
}

#[test]
fn browsers_send_many_headers() {
    let (_folder, _launch, server) = start();
    let names: Vec<String> = (0..40).map(|number| format!("Sec-Ch-Ua-{number}")).collect();
    let cookie = "c".repeat(3_000);
    let mut headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "\"value\"")).collect();
    headers.push(("Cookie", &cookie));
    server
        .connect()
        .call(&http::request("POST", EVENT, &headers, event(1).as_bytes()))
        .expect(202);
}

#[test]
fn header_names_are_taken_in_any_case() {
    let (_folder, launch, server) = start();
    let body = event(1);
    let request = format!(
        "POST {EVENT} HTTP/1.1\r\nhOST: a\r\ncONTENT-lENGTH: {}\r\nuSER-aGENT:\t agent \r\n\r\n{body}",
        body.len()
    );
    server.connect().call(request.as_bytes()).expect(202);
    assert_eq!(log::events(&launch.log())[0]["user_agent"], "agent");
}

#[test]
fn a_client_that_expects_100_continue_gets_it_before_it_sends_the_body() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let body = event(1);
    let length = body.len().to_string();
    client
        .send(&http::head(
            "POST",
            EVENT,
            &[("Content-Length", &length), ("Expect", "100-continue")],
        ))
        .unwrap();
    client.answer().expect(100);
    client.call(body.as_bytes()).expect(202);
    client.post(EVENT, &event(2)).expect(202);
    assert_eq!(log::visitors(&launch.log()), visitors(1..3));
}

#[test]
fn a_client_that_half_closes_after_its_requests_still_gets_the_answers() {
    let (_folder, launch, server) = start();
    let mut client = server.connect();
    let requests: Vec<u8> = (0..10)
        .flat_map(|number| http::post(EVENT, &event(number)))
        .collect();
    client.send(&requests).unwrap();
    client.finish_sending();
    for _ in 0..10 {
        client.answer().expect(202);
    }
    assert!(client.is_at_end());
    assert_eq!(log::visitors(&launch.log()), visitors(0..10));
}

#[test]
fn a_client_that_leaves_within_a_request_leaves_nothing_behind() {
    let (_folder, launch, server) = start();
    let request = http::post(EVENT, &event(1));
    for length in [1, request.len() / 2, request.len() - 1] {
        let mut client = server.connect();
        client.send(&request[..length]).unwrap();
        client.finish_sending();
        // Whether with a refusal or without a word, the server ends it.
        if let Ok(answer) = client.try_answer() {
            assert!((400..500).contains(&answer.status), "{}", answer.status);
        }
        assert!(client.is_at_end());
    }
    server.connect().post(EVENT, &event(2)).expect(202);
    assert_eq!(log::visitors(&launch.log()), ["visitor-2"]);
}

#[test]
fn health_tells_the_ring_and_whether_the_log_is_there() {
    let (_folder, _launch, server) = start();
    let mut client = server.connect();
    let health = client.get(HEALTH).expect(200).json();
    assert_eq!(
        (&health["ok"], &health["ring_capacity"]),
        (&json!(true), &json!(500)),
        "{health}"
    );
    assert_eq!(
        health["sink_exists"], false,
        "the file comes with its first batch: {health}"
    );
    client.post(EVENT, &event(1)).expect(202);
    assert_eq!(client.get(HEALTH).expect(200).json()["sink_exists"], true);
}

#[test]
fn a_page_whose_name_points_to_this_machine_can_write_and_not_read() {
    let (_folder, _launch, server) = start();
    let mut client = server.connect();
    let asked = |method: &str, path: &str, host: &str, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for host in [
        "rebound.example",
        "rebound.example:8001",
        "127.0.0.1.rebound.example",
    ] {
        let refused = client
            .call(asked("GET", BEHAVIOR, host, "").as_bytes())
            .expect(403);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("localhost"), "{detail}");
        client
            .call(asked("POST", EVENT, host, &event(1)).as_bytes())
            .expect(202);
        let health = client.call(asked("GET", HEALTH, host, "").as_bytes()).expect(200);
        assert_eq!(
            health.json().get("file"),
            None,
            "details are for those who may read"
        );
    }
    for host in ["localhost", "127.0.0.1:8001", "[::1]:8001", "a.localhost:1"] {
        client
            .call(asked("GET", BEHAVIOR, host, "").as_bytes())
            .expect(200);
        let health = client.call(asked("GET", HEALTH, host, "").as_bytes()).expect(200);
        assert!(health.json()["file"].is_string());
    }
    let mut old = server.connect();
    old.send(format!("GET {BEHAVIOR} HTTP/1.0\r\n\r\n").as_bytes())
        .unwrap();
    old.answer().expect(200);
    // Who has a key, or where reading is public, it is open by any name.
    let key = "read0123456789abcdef";
    for (setting, value) in [("METRICS_READ_KEYS", key), ("METRICS_PUBLIC_READS", "on")] {
        let folder = tempfile::tempdir().unwrap();
        let server = Launch::new(folder.path()).set(setting, value).start();
        let path = format!("{BEHAVIOR}?key={key}");
        let request = asked("GET", &path, "rebound.example", "");
        server.connect().call(request.as_bytes()).expect(200);
    }
}
