//! What browsers are told of other origins, and the headers that every answer has.

mod common;

use common::http::{self, Answer, BATCH, BEHAVIOR, EVENT, HEALTH};
use common::log;
use common::server::{Launch, Server};

const EVENT_BODY: &str = r#"{"visitor_id":"visitor-1","event":"view"}"#;
const SHOP: &str = "https://shop.example";
const EVIL: &str = "https://evil.example";

fn start(settings: &[(&str, &str)]) -> (tempfile::TempDir, Launch, Server) {
    let folder = tempfile::tempdir().unwrap();
    let mut launch = Launch::new(folder.path());
    for (name, value) in settings {
        launch = launch.set(name, value);
    }
    let server = launch.start();
    (folder, launch, server)
}

fn from(origin: &str, method: &str, path: &str, body: &str) -> Vec<u8> {
    http::request(method, path, &[("Origin", origin)], body.as_bytes())
}

fn preflight(origin: &str, path: &str, method: &str) -> Vec<u8> {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    http::head("OPTIONS", path, &headers)
}

fn assert_allowed(answer: &Answer, origin: &str) {
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some(origin),
        "{answer:?}"
    );
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(
        answer.header("access-control-expose-headers"),
        Some("X-Ack, X-Seq, X-Request-Id, Retry-After")
    );
    assert_eq!(answer.header("vary"), Some("Origin"));
}

fn assert_not_allowed(answer: &Answer) {
    for name in ["origin", "credentials", "methods", "headers"] {
        assert_eq!(
            answer.header(&format!("access-control-allow-{name}")),
            None,
            "{answer:?}"
        );
    }
}

#[test]
fn without_origins_browsers_are_told_nothing() {
    let (_folder, _launch, server) = start(&[]);
    let mut client = server.connect();
    let answer = client.call(&from(SHOP, "POST", EVENT, EVENT_BODY)).expect(202);
    assert_not_allowed(&answer);
    assert_eq!(answer.header("vary"), None);
    let answer = client.call(&preflight(SHOP, EVENT, "POST")).expect(204);
    assert_not_allowed(&answer);
    assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
}

#[test]
fn an_allowed_origin_is_echoed_on_answers_of_every_kind() {
    let (_folder, launch, server) = start(&[(
        "METRICS_CORS_ORIGINS",
        "https://other.example, https://shop.example",
    )]);
    let mut client = server.connect();
    for (method, path, body, status) in [
        ("POST", EVENT, EVENT_BODY, 202),
        ("POST", "/api/metrics/event?ack=written", EVENT_BODY, 202),
        ("POST", "/api/metrics/event?ack=synced", EVENT_BODY, 202),
        ("POST", BATCH, EVENT_BODY, 202),
        ("POST", EVENT, "{}", 422),
        ("POST", "/api/metrics/event?ack=maybe", EVENT_BODY, 422),
        ("GET", EVENT, "", 405),
        ("GET", BEHAVIOR, "", 200),
        ("GET", HEALTH, "", 200),
        ("GET", "/api/metrics/nothing", "", 404),
    ] {
        assert_allowed(&client.call(&from(SHOP, method, path, body)).expect(status), SHOP);
        let answer = client.call(&from(EVIL, method, path, body)).expect(status);
        assert_not_allowed(&answer);
        assert_eq!(answer.header("vary"), Some("Origin"), "{method} {path}");
        // A cache must not keep what is told to those without an origin for those with one.
        let answer = client
            .call(&http::request(method, path, &[], body.as_bytes()))
            .expect(status);
        assert_eq!(answer.header("vary"), Some("Origin"), "{method} {path}");
    }
    assert_eq!(
        log::lines(&launch.log()).len(),
        12,
        "CORS is the browser's business: all are stored"
    );
}

#[test]
fn answers_of_a_burst_each_have_their_own_origin() {
    let (_folder, _launch, server) = start(&[(
        "METRICS_CORS_ORIGINS",
        "https://other.example,https://shop.example",
    )]);
    let mut client = server.connect();
    let mut burst = Vec::new();
    let asked = [
        (SHOP, EVENT),
        ("https://other.example", "/api/metrics/event?ack=written"),
        (EVIL, EVENT),
        (SHOP, "/api/metrics/event?ack=written"),
        ("https://other.example", EVENT),
    ]
    .repeat(20);
    for (origin, path) in &asked {
        burst.extend(from(origin, "POST", path, EVENT_BODY));
    }
    client.send(&burst).unwrap();
    for (origin, path) in &asked {
        let answer = client.answer().expect(202);
        let expected = (*origin != EVIL).then_some(*origin);
        assert_eq!(answer.header("access-control-allow-origin"), expected);
        assert_eq!(answer.header("x-seq").is_some(), path.contains("written"));
    }
}

#[test]
fn a_browser_that_asks_first_is_told_what_it_may_send() {
    let (_folder, _launch, server) = start(&[("METRICS_CORS_ORIGINS", "https://shop.example")]);
    let mut client = server.connect();
    for (path, methods, allow) in [
        (EVENT, "POST", "POST, OPTIONS"),
        (BATCH, "POST", "POST, OPTIONS"),
        (BEHAVIOR, "GET, HEAD", "GET, HEAD, OPTIONS"),
        (HEALTH, "GET, HEAD", "GET, HEAD, OPTIONS"),
    ] {
        let answer = client.call(&preflight(SHOP, path, "POST")).expect(204);
        assert_allowed(&answer, SHOP);
        assert_eq!(answer.header("access-control-allow-methods"), Some(methods));
        assert_eq!(answer.header("access-control-max-age"), Some("7200"));
        assert_eq!(answer.header("allow"), Some(allow));
        let headers = answer.header("access-control-allow-headers").unwrap();
        for name in [
            "Content-Type",
            "Content-Encoding",
            "Authorization",
            "X-Api-Key",
            "X-Ack",
            "X-Request-Id",
        ] {
            assert!(
                headers.split(", ").any(|header| header == name),
                "{name}: {headers}"
            );
        }
        assert_not_allowed(&client.call(&preflight(EVIL, path, "POST")).expect(204));
        let answer = client.call(&http::head("OPTIONS", path, &[])).expect(204);
        assert_eq!(answer.header("allow"), Some(allow));
        assert_eq!(answer.header("access-control-allow-methods"), None);
    }
    client
        .call(&preflight(SHOP, "/api/metrics/nothing", "POST"))
        .expect(404);
}

#[test]
fn a_star_lets_every_page_write_and_none_read() {
    let (_folder, _launch, server) = start(&[("METRICS_CORS_ORIGINS", "*,https://shop.example")]);
    let mut client = server.connect();
    for origin in [EVIL, "null", "http://localhost:3000"] {
        for path in [EVENT, BATCH] {
            assert_allowed(
                &client.call(&from(origin, "POST", path, EVENT_BODY)).expect(202),
                origin,
            );
            assert_allowed(&client.call(&preflight(origin, path, "POST")).expect(204), origin);
        }
        assert_not_allowed(&client.call(&from(origin, "GET", BEHAVIOR, "")).expect(200));
        assert_not_allowed(&client.call(&from(origin, "GET", HEALTH, "")).expect(200));
    }
    assert_allowed(&client.call(&from(SHOP, "GET", BEHAVIOR, "")).expect(200), SHOP);
    // What no browser sends is not echoed.
    let long = format!("https://{}.example", "a".repeat(400));
    for origin in ["https://a b", "https://\u{e9}.example", &long] {
        assert_not_allowed(&client.call(&from(origin, "POST", EVENT, EVENT_BODY)).expect(202));
    }
}

#[test]
fn origins_are_checked_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    for origins in [
        "shop.example",
        "https://shop.example/",
        "https://*.example",
        "null",
    ] {
        let ended = Launch::new(folder.path())
            .set("METRICS_CORS_ORIGINS", origins)
            .try_start();
        let ended = ended.expect_err("a bad origin is refused");
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("METRICS_CORS_ORIGINS"), "{}", ended.stderr);
    }
}

#[test]
fn every_answer_forbids_sniffing_and_none_tells_what_serves() {
    let (_folder, _launch, server) = start(&[]);
    let mut client = server.connect();
    for request in [
        http::post(EVENT, EVENT_BODY),
        http::post(EVENT, "{}"),
        http::get(BEHAVIOR),
        http::get("/nothing"),
        http::head("OPTIONS", EVENT, &[]),
        b"nonsense\r\n\r\n".to_vec(),
    ] {
        let answer = client.call(&request);
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{answer:?}"
        );
        assert_eq!(answer.header("server"), None);
    }
}

#[test]
fn the_request_id_is_echoed_or_made_where_it_is_looked_for() {
    let (_folder, _launch, server) = start(&[]);
    let mut client = server.connect();
    let with_id = |path: &str, body: &str, id: &str| {
        http::request("POST", path, &[("X-Request-Id", id)], body.as_bytes())
    };
    for path in [EVENT, "/api/metrics/event?ack=written", BATCH] {
        let answer = client
            .call(&with_id(path, EVENT_BODY, "abc-123_x.y:z"))
            .expect(202);
        assert_eq!(answer.header("x-request-id"), Some("abc-123_x.y:z"), "{path}");
    }
    let answer = client.call(&with_id(EVENT, "{}", "abc")).expect(422);
    assert_eq!(answer.header("x-request-id"), Some("abc"));
    // Nobody looks for the id of what went well and had none.
    assert_eq!(
        client.post(EVENT, EVENT_BODY).expect(202).header("x-request-id"),
        None
    );
    let mut made = Vec::new();
    for id in ["", "a b", "<script>", "\u{e9}", &"x".repeat(129)] {
        let answer = client.call(&with_id(EVENT, "{}", id)).expect(422);
        let given = answer.header("x-request-id").expect("one is made").to_owned();
        assert!(
            given.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'),
            "{given}"
        );
        made.push(given);
    }
    made.push(
        server
            .connect()
            .get("/nothing")
            .header("x-request-id")
            .unwrap()
            .to_owned(),
    );
    client.send(b"nonsense\r\n\r\n").unwrap();
    made.push(client.answer().header("x-request-id").unwrap().to_owned());
    let count = made.len();
    made.sort();
    made.dedup();
    assert_eq!(made.len(), count, "{made:?}");
}
