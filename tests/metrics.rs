//! `/metrics`, the figures in health, and the description of the API: what they say, and to whom.

mod common;

use common::http::{self, BATCH, BEHAVIOR, Client, EVENT, HEALTH};
use common::metrics::{METRICS, Scrape};
use common::server::{Launch, Server};
use common::{await_some, await_true};

const EVENT_BODY: &str = r#"{"visitor_id":"visitor-1","event":"view"}"#;
const OPENAPI: &str = "/openapi.json";
const DOCS: &str = "/docs";
const READ: &str = "read0123456789abcdef";

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

fn with_header(client: &mut Client, path: &str, name: &str, value: &str) -> http::Answer {
    client.call(&http::request("GET", path, &[(name, value)], b""))
}

#[test]
fn every_answer_is_counted_once_by_route_and_status() {
    let (_folder, _, server) = start(&[]);
    let mut client = server.connect();
    // A burst in which answers alternate, and one in which some are owed until it is settled.
    let good = http::post(EVENT, EVENT_BODY);
    let burst = [
        good.clone(),
        good.clone(),
        http::post(EVENT, "{}"),
        good.clone(),
        http::get("/nowhere"),
        http::post(&format!("{EVENT}?ack=written"), EVENT_BODY),
        http::post(&format!("{EVENT}?ack=written"), EVENT_BODY),
        http::request("PUT", EVENT, &[], b""),
        http::post(BATCH, &format!("[{EVENT_BODY},{EVENT_BODY}]")),
        http::head("OPTIONS", BATCH, &[]),
        http::get(&format!("{BEHAVIOR}?limit=1")),
    ];
    client.send(&burst.concat()).unwrap();
    let statuses: Vec<u16> = burst.iter().map(|_| client.answer().status).collect();
    assert_eq!(statuses, [202, 202, 422, 202, 404, 202, 202, 405, 202, 204, 200]);
    // A head without a body, and what is no request, each on a connection of its own.
    let mut other = server.connect();
    other.send(&http::head("HEAD", HEALTH, &[])).unwrap();
    assert_eq!(other.try_answer_head().unwrap().status, 200);
    let mut rude = server.connect();
    rude.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(rude.answer().status, 400);

    // Whoever has an answer finds it counted, on whatever connection; the scrape itself is counted in the next.
    let scrape = Scrape::of(&mut server.connect());
    for (route, status, count) in [
        (EVENT, 202, 5.0),
        (EVENT, 422, 1.0),
        (EVENT, 405, 1.0),
        (BATCH, 202, 1.0),
        (BATCH, 204, 1.0),
        (BEHAVIOR, 200, 1.0),
        (HEALTH, 200, 1.0),
        (METRICS, 200, 0.0),
        ("other", 404, 1.0),
        ("none", 400, 1.0),
    ] {
        assert_eq!(
            scrape.requests(route, status),
            count,
            "{route} {status}: {scrape:?}"
        );
    }
    for (reason, count) in [
        ("invalid", 1.0),
        ("malformed", 1.0),
        ("not_found", 1.0),
        ("method_not_allowed", 1.0),
        ("journal_full", 0.0),
        ("internal_error", 0.0),
    ] {
        assert_eq!(scrape.refused(reason), count, "{reason}");
    }
    assert_eq!(Scrape::of(&mut other).requests(METRICS, 200), 1.0);
}

#[test]
fn connections_and_bytes_are_counted() {
    let (_folder, _, server) = start(&[("METRICS_CONNECTIONS_MAX", "2")]);
    let mut first = server.connect();
    let scraped = first.get(METRICS).expect(200);
    let before = Scrape::parse(&scraped.text());
    assert_eq!(before.get("floodgate_http_connections"), 1.0);
    let mut second = server.connect();
    let answer = second.post(EVENT, EVENT_BODY).expect(202);
    assert_eq!(server.connect().answer().status, 503);

    let after = Scrape::of(&mut first);
    for (name, value) in [
        ("floodgate_http_connections", 2.0),
        ("floodgate_http_connections_max", 2.0),
        ("floodgate_http_connections_accepted_total", 2.0),
        ("floodgate_http_connections_refused_total", 1.0),
    ] {
        assert_eq!(after.get(name), value, "{name}");
    }
    assert_eq!(
        (after.requests("none", 503), after.refused("connections")),
        (1.0, 1.0)
    );
    let grown = |name| after.get(name) - before.get(name);
    let request = http::post(EVENT, EVENT_BODY).len() + http::get(METRICS).len();
    assert_eq!(grown("floodgate_http_received_bytes_total"), request as f64);
    // The answers to both, each with a head.
    let bodies = (scraped.body.len() + answer.body.len()) as f64;
    let heads = grown("floodgate_http_sent_bytes_total") - bodies;
    assert!((200.0..1_000.0).contains(&heads), "{heads}");
    drop(second);
    await_true("that the connection is seen to have ended", || {
        Scrape::of(&mut first).get("floodgate_http_connections") == 1.0
    });
}

#[test]
fn what_is_stored_is_counted_and_timed() {
    let (_folder, launch, server) = start(&[]);
    let mut client = server.connect();
    for _ in 0..3 {
        client
            .post(&format!("{EVENT}?ack=synced"), EVENT_BODY)
            .expect(202);
    }
    let partial = format!("[{EVENT_BODY},{{}},1]");
    client
        .post(&format!("{BATCH}?partial=true&ack=synced"), &partial)
        .expect(202);
    let scrape = await_some("the events to be counted", || {
        let scrape = Scrape::of(&mut client);
        (scrape.get("floodgate_log_events") == 4.0).then_some(scrape)
    });
    let stored_bytes = std::fs::metadata(launch.log()).unwrap().len() as f64;
    for (name, value) in [
        ("floodgate_events_stored_total", 4.0),
        ("floodgate_stored_bytes_total", stored_bytes),
        ("floodgate_log_live_bytes", stored_bytes),
        ("floodgate_log_position_bytes", stored_bytes),
        ("floodgate_partial_events_rejected_total", 2.0),
        ("floodgate_event_names", 1.0),
        ("floodgate_ring_frames", 0.0),
        ("floodgate_journal_used_bytes", 0.0),
        ("floodgate_ready", 1.0),
        ("floodgate_log_failing", 0.0),
        ("floodgate_sync_failing", 0.0),
        ("floodgate_sync_failures_total", 0.0),
        ("floodgate_recovering", 0.0),
    ] {
        assert_eq!(scrape.get(name), value, "{name}");
    }
    for name in [
        "floodgate_append_duration_seconds",
        "floodgate_fsync_duration_seconds",
    ] {
        let buckets = scrape.buckets(name);
        assert_eq!((buckets.len(), buckets[0].0), (20, 0.000_01), "{name}");
        assert!(
            buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
            "{buckets:?}"
        );
        let (last_bound, count) = buckets[19];
        assert!(last_bound.is_infinite() && count >= 4.0, "{buckets:?}");
        assert_eq!(scrape.get(&format!("{name}_count")), count);
        assert!(scrape.get(&format!("{name}_sum")) > 0.0);
    }
    await_true("the keeper to have seen that all is on the disk", || {
        Scrape::of(&mut client).get("floodgate_log_unsynced_bytes") == 0.0
    });
    let health = client.get(HEALTH).json();
    assert_eq!(
        (&health["events_stored"], &health["connections"]),
        (&4.into(), &1.into())
    );
    for kind in ["append_us", "fsync_us"] {
        let quantile = |name| health["latency"][kind][name].as_u64().unwrap();
        assert!(
            0 < quantile("p50") && quantile("p50") <= quantile("p99") && quantile("p99") <= quantile("max"),
            "{health}"
        );
    }
    assert!(health["disk"]["free_bytes"].as_u64().unwrap() > 0);
    server.stop();

    // Counters begin anew with the process; what the log ever had does not.
    let server = launch.start();
    let mut client = server.connect();
    let scrape = await_some("the log to be counted", || {
        let scrape = Scrape::of(&mut client);
        scrape.find("floodgate_log_events").map(|_| scrape)
    });
    assert_eq!(scrape.get("floodgate_log_events"), 4.0);
    assert_eq!(scrape.get("floodgate_events_stored_total"), 0.0);
    let health = client.get(HEALTH).json();
    assert_eq!(health["events_stored"], 4);
    assert_eq!(
        health["latency"]["append_us"]["max"],
        serde_json::Value::Null,
        "nothing was appended"
    );
}

#[test]
fn the_format_is_the_one_that_is_preferred() {
    let (_folder, _, server) = start(&[]);
    let mut client = server.connect();
    client.post(EVENT, EVENT_BODY).expect(202);
    let classic = client.get(METRICS).expect(200);
    assert_eq!(
        classic.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(
        classic
            .text()
            .contains("\n# TYPE floodgate_events_stored_total counter\nfloodgate_events_stored_total ")
    );
    assert!(!classic.text().contains("# EOF"));
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = with_header(&mut client, METRICS, "Accept", accept).expect(200);
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(
        open.text()
            .contains("\n# TYPE floodgate_events_stored counter\nfloodgate_events_stored_total ")
    );
    assert!(open.text().ends_with("\n# EOF\n"));
    assert_eq!(open.header("vary"), Some("Accept"));
}

#[test]
fn figures_are_for_those_who_may_read_and_the_description_is_for_everybody() {
    let (_folder, _, server) = start(&[("METRICS_READ_KEYS", READ)]);
    let mut client = server.connect();
    client.get(METRICS).expect(401);
    let read = with_header(&mut client, METRICS, "X-Api-Key", READ).expect(200);
    assert_eq!(Scrape::parse(&read.text()).refused("unauthorized"), 1.0);
    client.get(&format!("{METRICS}?key={READ}")).expect(200);
    for detail in ["events_stored", "connections", "latency", "disk"] {
        assert_eq!(client.get(HEALTH).json().get(detail), None, "{detail}");
    }
    assert!(with_header(&mut client, HEALTH, "X-Api-Key", READ).json()["latency"].is_object());
    for path in [OPENAPI, DOCS] {
        client.get(path).expect(200);
        client.post(path, "").expect(405);
    }

    let (_folder, _, server) = start(&[("METRICS_BIND", "0.0.0.0:0")]);
    let mut client = Client::connect(([127, 0, 0, 1], server.address().port()).into()).unwrap();
    client.get(METRICS).expect(403);
    for path in [OPENAPI, DOCS] {
        client.get(path).expect(200);
    }
}

#[test]
fn a_head_is_answered_as_a_get_without_the_body() {
    let (_folder, _, server) = start(&[]);
    let mut client = server.connect();
    for path in [OPENAPI, DOCS] {
        let got = client.get(path).expect(200);
        client.send(&http::head("HEAD", path, &[])).unwrap();
        let head = client.try_answer_head().unwrap().expect(200);
        for header in ["content-length", "content-type", "content-security-policy"] {
            assert_eq!(head.header(header), got.header(header), "{path} {header}");
        }
    }
    // Its length is another each time.
    client.send(&http::head("HEAD", METRICS, &[])).unwrap();
    let head = client.try_answer_head().unwrap().expect(200);
    assert!(head.header("content-length").is_some());
    client.get(HEALTH).expect(200);
}

#[test]
fn the_description_has_the_settings_bounds() {
    let (_folder, _, server) = start(&[("METRICS_RING_CAPACITY", "7")]);
    let mut client = server.connect();
    let document = client.get(OPENAPI).expect(200).json();
    let parameters = document["paths"][BEHAVIOR]["get"]["parameters"]
        .as_array()
        .unwrap();
    let limit = &parameters
        .iter()
        .find(|parameter| parameter["name"] == "limit")
        .unwrap()["schema"];
    assert_eq!((&limit["maximum"], &limit["default"]), (&7.into(), &7.into()));
}
