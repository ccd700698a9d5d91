//! The live stream as its subscribers see it: each event once and in order, whatever happens to the log, the server and
//! the connection.

mod common;

use std::fs;
use std::net::Shutdown;
use std::path::Path;
use std::thread;

use common::http::{self, BATCH, EVENT};
use common::load::Load;
use common::server::{Launch, Server};
use common::sse::{self, Item, STREAM, Sse, await_subscribers};
use common::{await_true, log};
use serde_json::{Value, json};

/// A server whose log is sealed, and compressed at once, as often as may be.
fn restless(folder: &Path) -> Launch {
    Launch::new(folder)
        .set("METRICS_ROTATE_BYTES", "64KiB")
        .set("METRICS_ROTATE_REST", "0ms")
        .set("METRICS_COMPRESS_AFTER", "0s")
}

fn post(server: &Server, event: &str, metadata: &Value) {
    let body = json!({"visitor_id": "visitor-1", "event": event, "metadata": metadata}).to_string();
    let path = format!("{EVENT}?ack=written");
    server.connect().post(&path, &body).expect(202);
}

/// Posts the events from `first` on, `count` of them, each with `padding` bytes, and waits until they are in the log.
fn post_numbered(server: &Server, first: u64, count: u64, padding: usize) {
    let mut client = server.connect();
    let padding = "x".repeat(padding);
    let numbers: Vec<u64> = (first..first + count).collect();
    for numbers in numbers.chunks(100) {
        let event = |n| {
            format!(r#"{{"visitor_id":"visitor-1","event":"view","metadata":{{"n":{n},"p":"{padding}"}}}}"#)
        };
        let body: Vec<String> = numbers.iter().map(event).collect();
        client
            .post(&format!("{BATCH}?ack=written"), &body.join("\n"))
            .expect(202);
    }
}

fn number(line: &str) -> u64 {
    log::event(line)["metadata"]["n"]
        .as_u64()
        .expect("a numbered event")
}

/// The lines with one of these names; all, if there are none.
fn named(lines: &[String], names: &[&str]) -> Vec<String> {
    let is_wanted =
        |line: &&String| names.is_empty() || names.contains(&log::event(line)["event"].as_str().unwrap());
    lines.iter().filter(is_wanted).cloned().collect()
}

/// Reads to the last event there is of the name `last`.
fn to_the_last(sse: &mut Sse, last: &str) -> Vec<String> {
    let is_last = |line: &String| {
        let event = log::event(line);
        event["event"] == last && event["metadata"]["id"] == "last"
    };
    let mut lines = Vec::new();
    while !lines.last().is_some_and(is_last) {
        lines.push(sse.event());
    }
    lines
}

#[test]
fn each_subscriber_gets_what_it_wants_once_and_in_order_while_files_are_sealed_and_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let launch = restless(folder.path());
    let mut server = launch.start();
    post(&server, "page_view", &json!({"id": 0}));
    let wishes: [(&str, &[&str]); 4] = [
        ("", &[]),
        ("?event_type=scroll", &["scroll"]),
        (
            "?event_type=link_click&event_type=page_view",
            &["link_click", "page_view"],
        ),
        ("?event_type=the%20end", &["the end"]),
    ];
    let mut subscribers = Vec::new();
    for (query, names) in wishes.into_iter().chain(wishes) {
        subscribers.push((Sse::open(&server, query, &[]), names, 1));
        subscribers.push((Sse::resume(&server, query, "1:0"), names, 0));
    }
    let readers: Vec<_> = subscribers
        .into_iter()
        .map(|(mut sse, names, skipped)| {
            thread::spawn(move || {
                let lines = to_the_last(&mut sse, names.last().unwrap_or(&"the end"));
                sse.expect_end();
                (lines, names, skipped)
            })
        })
        .collect();
    let load = Load::start(server.address(), 0, 7, &["", "written"]);
    load.await_acknowledged(20_000);
    load.stop();
    for name in ["scroll", "page_view", "the end"] {
        post(&server, name, &json!({"id": "last"}));
    }
    let lines = log::lines(&launch.log());
    assert!(log::files(&launch.log()).len() > 10);
    await_true("everybody to be at the end", || sse::status(&server).1 == 0);
    server.terminate();
    assert!(server.wait().success());
    for reader in readers {
        let (got, names, skipped) = reader.join().unwrap();
        let expected = named(&lines[skipped..], names);
        assert!(
            got == expected,
            "{names:?}: {} of {} events",
            got.len(),
            expected.len()
        );
    }
}

#[test]
fn a_stream_resumes_across_kills_restarts_rotation_and_compression() {
    let folder = tempfile::tempdir().unwrap();
    let launch = restless(folder.path());
    let (mut all, mut scrolls) = (Vec::new(), Vec::new());
    let (mut all_id, mut scrolls_id) = ("1:0".to_owned(), "1:0".to_owned());
    for round in 0..6 {
        let server = launch.start();
        let mut both = Sse::resume(&server, "", &all_id);
        let mut one = Sse::resume(&server, "?event_type=scroll", &scrolls_id);
        let load = Load::start(server.address(), round, 11, &["", "written"]);
        load.await_acknowledged(300 * (round + 1));
        all.extend(both.events(200 * (round as usize + 1)));
        scrolls.extend(one.events(30));
        // What was sent and not taken here is sent again: that is what the id is for.
        (all_id, scrolls_id) = (both.last_id.unwrap(), one.last_id.unwrap());
        server.kill9();
        load.finish();
    }
    let mut server = launch.start();
    post(&server, "scroll", &json!({"id": "last"}));
    let lines = log::lines(&launch.log());
    let mut both = Sse::resume(&server, "", &all_id);
    all.extend(both.events(lines.len() - all.len()));
    assert!(all == lines);
    let expected = named(&lines, &["scroll"]);
    let in_query = format!("?event_type=scroll&last_event_id={scrolls_id}");
    let mut one = Sse::open(&server, &in_query, &[]);
    scrolls.extend(one.events(expected.len() - scrolls.len()));
    assert!(scrolls == expected);
    // Every id there ever was is good to resume with.
    let mut from_the_start = Sse::resume(&server, "", "1:0");
    let mut ids = vec!["1:0".to_owned()];
    for _ in 0..lines.len() {
        from_the_start.event();
        ids.push(from_the_start.last_id.clone().unwrap());
    }
    for number in (0..lines.len()).step_by(1 + lines.len() / 60) {
        let mut sse = Sse::resume(&server, "", &ids[number]);
        assert_eq!(sse.event(), lines[number], "{}", ids[number]);
    }
    server.terminate();
    assert!(server.wait().success());
    both.expect_end();
    one.expect_end();
}

#[test]
fn what_was_removed_is_told_as_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path())
        .set("METRICS_ROTATE_BYTES", "64KiB")
        .set("METRICS_ROTATE_REST", "0ms");
    let server = launch.start();
    let mut sse = Sse::open(&server, "", &[]);
    for round in 0..6 {
        post_numbered(&server, 100 * round, 100, 700);
    }
    sse.events(50);
    let within = sse.last_id.clone().unwrap();
    assert!(within.starts_with("1:"));
    drop(sse);
    await_true("files to be sealed", || log::files(&launch.log()).len() > 5);
    // A server that runs has them in memory, or open, for a while.
    server.stop();
    for file in &log::files(&launch.log())[..2] {
        fs::remove_file(file).unwrap();
    }
    let server = launch.start();
    let oldest = number(&log::lines(&launch.log())[0]);
    assert!(oldest > 100);
    for (id, query, skipped) in [
        ("1:0", "", Some(oldest)),
        (&within, "", None),
        ("1:0", "?event_type=view", None),
    ] {
        let mut sse = Sse::resume(&server, query, id);
        let id = "3:0".to_owned();
        assert_eq!(sse.next(), Some(Item::Gap { id, skipped }), "{query}");
        assert_eq!(number(&sse.event()), oldest);
        // Told once.
        let mut again = Sse::resume(&server, query, "3:0");
        assert_eq!(number(&again.event()), oldest);
    }
}

/// Together more than the ring and the socket's buffers take.
const MUCH: u64 = 2_400;
const PADDING: usize = 16_000;

#[test]
fn a_slow_subscriber_lags_and_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    let mut slow = Sse::open(&server, "", &[]);
    let mut scrolls = Sse::open(&server, "?event_type=scroll", &[]);
    let mut quick = Sse::open(&server, "", &[]);
    let reader = thread::spawn(move || (0..MUCH).for_each(|n| assert_eq!(number(&quick.event()), n)));
    post_numbered(&server, 0, MUCH, PADDING);
    reader.join().unwrap();
    let (subscribers, lag, gaps) = sse::status(&server);
    assert!(subscribers >= 2 && gaps == 0);
    assert!(lag > 16 << 20, "it lags on the disk: {lag}");
    for n in 0..MUCH {
        assert_eq!(number(&slow.event()), n);
    }
    // It is one of those who keep up again.
    post(&server, "scroll", &json!({"n": MUCH}));
    assert_eq!(number(&slow.event()), MUCH);
    assert_eq!(number(&scrolls.event()), MUCH);
    await_true("nobody to lag", || sse::status(&server).1 == 0);
}

/// Reads the events from `first` to `last`, and gaps among them: how many gaps there were. Without a number, if `is_counted`
/// is false.
fn through_gaps(sse: &mut Sse, first: u64, last: u64, is_counted: bool) -> u64 {
    let (mut next, mut gaps) = (Some(first), 0);
    while next != Some(last + 1) {
        match sse.next().expect("the stream goes on") {
            Item::Event { line, .. } => {
                assert_eq!(number(&line), next.unwrap_or(number(&line)));
                next = Some(number(&line) + 1);
            }
            Item::Gap { skipped, .. } => {
                assert_eq!(skipped.is_some(), is_counted);
                gaps += 1;
                next = next.zip(skipped).map(|(next, skipped)| next + skipped);
            }
            comment => panic!("{comment:?}"),
        }
    }
    gaps
}

#[test]
fn one_who_lags_too_far_is_told_how_many_events_he_misses() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path())
        .set("METRICS_STREAM_LAG_MAX", "2MiB")
        .start();
    post_numbered(&server, 0, 100, 100);
    let from_the_end = Sse::open(&server, "", &[]);
    let by_name = Sse::open(&server, "?event_type=view", &[]);
    let mut resumed = Sse::resume(&server, "", "1:0");
    resumed.events(40);
    let within = resumed.last_id.clone().unwrap();
    let resumed_within = Sse::resume(&server, "", &within);
    drop(resumed);
    post_numbered(&server, 100, MUCH, PADDING);
    // They go on where the log ended when they were seen to be behind.
    let end = 100 + MUCH;
    let after = |mut sse: Sse, first, is_counted| {
        thread::spawn(move || {
            let gaps = through_gaps(&mut sse, first, end + 2, is_counted);
            assert!(gaps > 0);
            (gaps, sse)
        })
    };
    let readers = [
        after(from_the_end, 100, true),
        after(by_name, 100, false),
        after(resumed_within, 40, true),
    ];
    await_true("everybody to be told", || sse::status(&server).1 == 0);
    post_numbered(&server, end, 3, 10);
    let readers = readers.map(|reader| reader.join().unwrap());
    let told: u64 = readers.iter().map(|(gaps, _)| gaps).sum();
    assert_eq!(sse::status(&server).2, told);
    // The id of what came last is good to resume with.
    let [(_, from_the_end), ..] = &readers;
    let mut again = Sse::resume(&server, "", from_the_end.last_id.as_ref().unwrap());
    post_numbered(&server, end + 3, 1, 10);
    assert_eq!(number(&again.event()), end + 3);
}

#[test]
fn who_has_resumed_far_back_may_take_his_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path())
        .set("METRICS_STREAM_LAG_MAX", "2MiB")
        .start();
    post_numbered(&server, 0, MUCH, PADDING);
    let mut sse = Sse::resume(&server, "", "1:0");
    for n in 0..MUCH {
        assert_eq!(number(&sse.event()), n);
    }
    assert_eq!(sse::status(&server).2, 0);
}

#[test]
fn those_who_have_gone_are_noticed_and_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path())
        .set("METRICS_STREAM_SUBSCRIBERS_MAX", "3")
        .start();
    let mut subscribers: Vec<Sse> = (0..3).map(|_| Sse::open(&server, "", &[])).collect();
    let mut refused = Sse::open(&server, "", &[]);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let detail = refused.body()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("METRICS_STREAM_SUBSCRIBERS_MAX"), "{detail}");
    assert_eq!(sse::status(&server).0, 3);
    drop(subscribers.pop());
    await_subscribers(&server, 2);
    // Who ends his sending side has gone too.
    subscribers[0].shut(Shutdown::Write);
    await_subscribers(&server, 1);
    let mut new = Sse::open(&server, "", &[]);
    post(&server, "view", &json!({"n": 1}));
    assert_eq!((number(&new.event()), number(&subscribers[1].event())), (1, 1));
    drop((subscribers, new));
    await_subscribers(&server, 0);
    // Nobody has followed the log meanwhile.
    post(&server, "view", &json!({"n": 2}));
    let mut new = Sse::open(&server, "", &[]);
    post(&server, "view", &json!({"n": 3}));
    assert_eq!(number(&new.event()), 3);
}

#[test]
fn a_stopping_server_ends_the_streams_also_of_those_who_do_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Launch::new(folder.path())
        // Far longer than a test waits.
        .set("METRICS_SHUTDOWN_TIMEOUT", "10m")
        .set("METRICS_WRITE_TIMEOUT", "10m")
        .start();
    let rare = "?event_type=rare";
    let mut idle: Vec<Sse> = (0..20).map(|_| Sse::open(&server, rare, &[])).collect();
    let slow = Sse::open(&server, "", &[]);
    post_numbered(&server, 0, MUCH, PADDING);
    await_true("one to lag", || sse::status(&server).1 > 1 << 20);
    server.terminate();
    assert!(server.wait().success(), "{}", server.stderr());
    idle.iter_mut().for_each(Sse::expect_end);
    drop(slow);
}

#[test]
fn a_stream_begins_behind_ones_own_events() {
    let folder = tempfile::tempdir().unwrap();
    // Otherwise they would be in the log soon enough.
    let server = Launch::new(folder.path())
        .set("METRICS_PUBLISH_INTERVAL", "10s")
        .start();
    let body = |n: u64| json!({"visitor_id": "visitor-1", "event": "view", "metadata": {"n": n}}).to_string();
    let burst = [http::post(EVENT, &body(1)), http::get(STREAM)].concat();
    let mut sse = Sse::send_behind(&server, &burst, 202);
    let path = format!("{EVENT}?ack=written");
    server.connect().post(&path, &body(2)).expect(202);
    assert_eq!(number(&sse.event()), 2);
}

#[test]
fn the_answer_is_one_that_browsers_and_proxies_take_for_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access.jsonl");
    let server = Launch::new(folder.path())
        .set("METRICS_CORS_ORIGINS", "https://example.org")
        .set("METRICS_READ_KEYS", "read0123456789abcdef")
        .set("METRICS_ACCESS_LOG", &access)
        .start();
    for (query, status) in [("", 401), ("?key=wrong0123456789abcdef", 401)] {
        assert_eq!(Sse::open(&server, query, &[]).status, status, "{query}");
    }
    let query = "?key=read0123456789abcdef";
    let mut sse = Sse::open(&server, query, &[("Origin", "https://example.org")]);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
        ("access-control-allow-origin", "https://example.org"),
    ] {
        assert_eq!(sse.header(name), Some(value), "{sse:?}");
    }
    assert_eq!(sse.last_id.as_deref(), Some("1:0"));
    let mut client = server.connect();
    let head = http::head("HEAD", &format!("{STREAM}{query}"), &[]);
    client.send(&head).unwrap();
    let head = client.try_answer_head().unwrap();
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/event-stream"))
    );
    client.post(STREAM, "{}").expect(405);
    // HTTP/1.0 knows no chunks: the body ends with the connection.
    let request = format!("GET {STREAM}{query} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut old = Sse::send(&server, request.as_bytes());
    assert_eq!(
        (old.header("transfer-encoding"), old.header("connection")),
        (None, Some("close"))
    );
    post(&server, "view", &json!({"n": 5}));
    assert_eq!((number(&sse.event()), number(&old.event())), (5, 5));
    drop((sse, old));
    let streamed = || {
        let text = fs::read_to_string(&access).unwrap_or_default();
        let entries = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_stream = |entry: &Value| entry["status"] == 200 && entry["method"] == "GET";
        entries.filter(is_stream).collect::<Vec<_>>()
    };
    await_true("lines in the access log", || streamed().len() == 2);
    for entry in streamed() {
        assert_eq!(entry["target"], format!("{STREAM}?key=***"));
        assert!(entry["bytes_out"].as_u64().unwrap() > 300, "{entry}");
    }
}

#[test]
fn what_is_no_place_and_no_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    post(&server, "view", &json!({"n": 1}));
    let header = ["header", "last-event-id"];
    let name = ["query", "event_type"];
    let too_long = format!("?event_type={}", "x".repeat(65));
    let too_many = format!("?{}", "event_type=a&".repeat(65));
    for (query, id, loc, kind) in [
        ("", "17", header, "log_position"),
        ("", "1:", header, "log_position"),
        ("", "1:2:3", header, "log_position"),
        ("", "1:-7", header, "log_position"),
        ("?last_event_id=x", "", ["query", "last_event_id"], "log_position"),
        ("?event_type=", "", name, "string_too_short"),
        (&too_long, "", name, "string_too_long"),
        (&too_many, "", name, "too_long"),
    ] {
        let mut sse = Sse::open(&server, query, &[("Last-Event-ID", id)]);
        assert_eq!(sse.status, 422, "{query} {id}");
        let detail = &sse.body()["detail"][0];
        assert_eq!((&detail["loc"], &detail["type"]), (&json!(loc), &json!(kind)));
    }
    assert_eq!(sse::status(&server).0, 0);
    // The header is newer than the query.
    let mut sse = Sse::open(&server, "?last_event_id=9:9", &[("Last-Event-ID", "1:0")]);
    assert_eq!(number(&sse.event()), 1);
}

#[test]
fn who_resumes_where_there_is_no_place_goes_on_at_the_end_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    let mut first = Sse::open(&server, "", &[]);
    post(&server, "view", &json!({"n": 1}));
    assert_eq!(number(&first.event()), 1);
    let end = first.last_id.clone().unwrap();
    // Behind the end, of files to come (the next one's beginning is a place only while one is sealed), within a line.
    let mut gone = vec![];
    for id in [
        "1:99999",
        "2:0",
        "2:1",
        "3:0",
        "9:9",
        "18446744073709551615:0",
        "1:7",
    ] {
        for query in ["", "?event_type=view"] {
            let mut sse = Sse::resume(&server, query, id);
            assert_eq!(sse.last_id.as_deref(), Some(&*end), "{id}");
            let told = Item::Gap {
                id: end.clone(),
                skipped: None,
            };
            assert_eq!(sse.next(), Some(told), "{id}");
            gone.push(sse);
        }
    }
    // The end itself is a place.
    let mut at_end = Sse::resume(&server, "", &end);
    assert_eq!(sse::status(&server).2, gone.len() as u64);
    post(&server, "view", &json!({"n": 2}));
    for sse in gone.iter_mut().chain([&mut at_end]) {
        assert_eq!(sse.next(), first.next());
        first = Sse::resume(&server, "", &end);
    }
}

/// A server whose log has ten events, and two who follow it: one that wants all, and one that wants some.
fn followed(folder: &Path) -> (Launch, Server, [Sse; 2]) {
    let launch = Launch::new(folder);
    let server = launch.start();
    let mut followers = ["", "?event_type=view"].map(|query| Sse::open(&server, query, &[]));
    post_numbered(&server, 0, 10, 100);
    for sse in &mut followers {
        (0..10).for_each(|n| assert_eq!(number(&sse.event()), n));
    }
    (launch, server, followers)
}

#[test]
fn when_somebody_cuts_the_live_file_off_subscribers_are_told_and_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (launch, server, mut followers) = followed(folder.path());
    fs::File::options()
        .write(true)
        .open(launch.log())
        .unwrap()
        .set_len(0)
        .unwrap();
    await_true("the server to begin another file", || {
        log::files(&launch.log()).len() > 1 || {
            post(&server, "other", &json!({"n": 0}));
            false
        }
    });
    post_numbered(&server, 10, 3, 100);
    for sse in &mut followers {
        let (mut gaps, mut next) = (0, 10);
        while next < 13 {
            match sse.next().expect("the stream goes on") {
                Item::Gap { skipped, .. } => gaps += u64::from(skipped.is_none()),
                Item::Event { line, .. } if line.contains(r#""event":"other""#) => {}
                Item::Event { line, .. } => {
                    assert_eq!(number(&line), next);
                    next += 1;
                }
                comment => panic!("{comment:?}"),
            }
        }
        assert_eq!(gaps, 1);
    }
}

#[test]
fn when_somebody_takes_the_live_file_away_subscribers_get_each_event_once() {
    for taking in ["delete", "rename", "replace"] {
        let folder = tempfile::tempdir().unwrap();
        let (launch, server, mut followers) = followed(folder.path());
        let elsewhere = folder.path().join("elsewhere");
        match taking {
            "delete" => fs::remove_file(launch.log()).unwrap(),
            "rename" => fs::rename(launch.log(), elsewhere).unwrap(),
            _ => {
                fs::write(&elsewhere, "{\"event\":\"foreign\"}\n").unwrap();
                fs::rename(elsewhere, launch.log()).unwrap();
            }
        }
        // It goes into the file that is open still, or into the next one.
        post_numbered(&server, 10, 3, 100);
        for sse in &mut followers {
            (10..13).for_each(|n| assert_eq!(number(&sse.event()), n, "{taking}"));
        }
        post_numbered(&server, 13, 3, 100);
        for sse in &mut followers {
            (13..16).for_each(|n| assert_eq!(number(&sse.event()), n, "{taking}"));
        }
    }
}

#[test]
fn names_are_compared_as_they_are_and_not_as_they_are_spelt() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    let mut quoted = Sse::open(&server, "?event_type=a%22b", &[]);
    let mut accented = Sse::open(&server, "?event_type=%C3%A9+%C3%A9", &[]);
    let names = ["a", r#"a\"b"#, r"a\u0022b", "é é", r"\u00e9 é", "é"];
    for (n, name) in names.iter().enumerate() {
        let body = format!(r#"{{"visitor_id":"visitor-1","event":"{name}","metadata":{{"n":{n}}}}}"#);
        let path = format!("{EVENT}?ack=written");
        server.connect().post(&path, &body).expect(202);
    }
    for (sse, expected) in [(&mut quoted, [1, 2]), (&mut accented, [3, 4])] {
        assert_eq!([(); 2].map(|()| number(&sse.event())), expected);
    }
}
