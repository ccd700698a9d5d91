//! Filtered snapshots, time series and funnels, compared with what a slow look at every line gives; over files that are
//! live, sealed, compressed, removed, and counted in every way there is.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::http::{self, BATCH, BEHAVIOR, Client};
use common::oracle::{self, Event};
use common::sealed::{Folder, sealing_often};
use common::server::{Launch, Server};
use common::vectors::instant;
use common::{Rng, await_true};
use serde_json::{Value, json};

const TIMESERIES: &str = "/api/metrics/behavior/timeseries";
const FUNNEL: &str = "/api/metrics/behavior/funnel";

/// Names of events, some of them in need of escapes.
const NAMES: [&str; 9] = [
    "view",
    "click",
    "signup",
    "buy",
    "say \"hi\"",
    "back\\slash",
    "tab\tand\nline",
    "é😀",
    "__other__",
];

/// The day most events are of; others are late, or of the future.
const DAY: &str = "2025-10-09";

/// A time of the day, to the microsecond, as text.
fn clock(day: &str, micros: u64) -> String {
    let (second, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute) = (second / 3600 % 24, second / 60 % 60);
    format!("{day}T{hour:02}:{minute:02}:{:02}.{fraction:06}Z", second % 60)
}

/// A time near most events: within minutes of noon, at times the very minute.
fn some_time(rng: &mut Rng) -> String {
    let day = rng.pick(&[DAY, DAY, DAY, DAY, DAY, DAY, "2025-09-30", "2031-01-01"]);
    let noon = 12 * 3_600_000_000;
    let minutes = 60_000_000 * rng.below(20);
    let within = match rng.below(4) {
        0 => 0,
        1 => 59_999_999,
        _ => rng.below(60_000_000),
    };
    clock(day, noon + minutes + within)
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Random events, as lines of NDJSON.
fn body(rng: &mut Rng, count: u64, names: &[&str]) -> String {
    let event = |rng: &mut Rng| {
        let variant = match rng.below(6) {
            0 => json!({}),
            1 => json!({"variant": null}),
            2 => json!({"variant": {"deep": 1}}),
            3 => json!({"variant": rng.below(30)}),
            _ => json!({"variant": rng.pick(&["A", "B", "C\"", "true"])}),
        };
        let mut metadata = variant;
        metadata["note"] = json!("x".repeat(rng.between(0, 200) as usize));
        let event = json!({
            "visitor_id": format!("visitor \"{}\"", rng.below(150)),
            // The first ones are the most frequent.
            "event": names[(rng.below(names.len() as u64)).min(rng.below(names.len() as u64)) as usize],
            "timestamp": some_time(rng),
            "metadata": metadata,
        });
        event.to_string() + "\n"
    };
    (0..count).map(|_| event(rng)).collect()
}

fn store(server: &Server, body: &str) {
    let request = http::request("POST", BATCH, &[("X-Ack", "written")], body.as_bytes());
    server.connect().call(&request).expect(202);
}

fn without_size(mut snapshot: Value) -> Value {
    let members = snapshot.as_object_mut().unwrap();
    members.remove("file_size_bytes").expect("the size is there");
    snapshot
}

/// Asks for random snapshots.
fn check_snapshots(client: &mut Client, events: &[Event], rng: &mut Rng, names: &[&str]) {
    for _ in 0..60 {
        let mut asked: Vec<&str> = (0..rng.below(4)).map(|_| rng.pick(names)).collect();
        let since = match rng.below(4) {
            0 => None,
            // The time of an event that is there.
            1 => {
                let at = rng.below(events.len() as u64) as usize;
                Some(events[at].line["timestamp"].as_str().unwrap().to_owned())
            }
            _ => Some(some_time(rng)),
        };
        if asked.is_empty() && since.is_none() {
            asked.push("view");
        }
        let limit = rng.between(1, 300) as usize;
        let mut query = format!("{BEHAVIOR}?limit={limit}");
        asked
            .iter()
            .for_each(|name| query += &format!("&event_type={}", escaped(name)));
        since.iter().for_each(|since| query += &format!("&since={since}"));
        let got = client.get(&query).expect(200).json();
        let since = since.map(|since| instant(&since).unwrap());
        assert_eq!(
            without_size(got),
            oracle::snapshot(events, &asked, since, limit),
            "{query}"
        );
    }
}

/// Asks for random time series.
fn check_timeseries(client: &mut Client, events: &[Event], rng: &mut Rng, names: &[&str]) {
    for _ in 0..30 {
        let (interval, minutes) = rng.pick(&[("1m", 1), ("5m", 5), ("1h", 60), ("1d", 1440)]);
        let since = clock(DAY, 12 * 3_600_000_000 - 3_000_000_000 + rng.below(4_000_000_000));
        let until = rng.pick(&[
            "2025-10-09T12:07:59.5Z",
            "2025-10-09T12:30:00Z",
            "2025-10-10T00:00:00Z",
        ]);
        let asked: Vec<&str> = (0..rng.below(4)).map(|_| rng.pick(names)).collect();
        let mut query = format!("{TIMESERIES}?interval={interval}&since={since}&until={until}");
        asked
            .iter()
            .for_each(|name| query += &format!("&event={}", escaped(name)));
        if instant(&since) >= instant(until) {
            continue;
        }
        let got = client.get(&query).expect(200).json();
        let length = minutes * 60_000_000;
        let begin = instant(&since).unwrap().div_euclid(length) * length;
        let end = -(-instant(until).unwrap()).div_euclid(length) * length;
        let count = ((end - begin) / length) as usize;
        assert_eq!(got["interval"], interval);
        assert_eq!(got["buckets"], count, "{query}");
        assert_eq!(instant(got["since"].as_str().unwrap()), Some(begin));
        assert_eq!(instant(got["until"].as_str().unwrap()), Some(end));
        let mut sum = vec![0; count];
        let mut shown = Vec::new();
        let series = got["series"].as_array().unwrap();
        for series in series {
            let name = series["event"].as_str().unwrap();
            let counts = oracle::buckets(events, name, (begin, minutes, count));
            assert_eq!(series["counts"], json!(counts), "{query}: {name}");
            assert_eq!(series["total"], counts.iter().sum::<u64>());
            sum.iter_mut().zip(&counts).for_each(|(sum, count)| *sum += count);
            shown.push(name);
        }
        if asked.is_empty() {
            assert!(series.is_sorted_by_key(|series| std::cmp::Reverse(series["total"].as_u64())));
            let all = all_buckets(events, (begin, minutes, count));
            if let Some(rest) = got["rest"]["counts"].as_array() {
                let rest = rest.iter().map(|count| count.as_u64().unwrap());
                sum.iter_mut().zip(rest).for_each(|(sum, count)| *sum += count);
            }
            assert_eq!(sum, all, "{query}");
        } else {
            let mut once = Vec::new();
            for name in &asked {
                if !once.contains(name) {
                    once.push(*name);
                }
            }
            assert_eq!((shown, &got["rest"]), (once, &Value::Null), "{query}");
        }
        assert_eq!(got["total"], sum.iter().sum::<u64>(), "{query}");
    }
}

fn all_buckets(events: &[Event], buckets: (i64, i64, usize)) -> Vec<u64> {
    let mut names: Vec<&str> = events.iter().map(|event| &*event.name).collect();
    names.sort_unstable();
    names.dedup();
    let mut all = vec![0; buckets.2];
    for name in names {
        let counts = oracle::buckets(events, name, buckets);
        all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    all
}

/// Asks for random funnels.
fn check_funnels(client: &mut Client, events: &[Event], rng: &mut Rng, names: &[&str]) {
    for _ in 0..25 {
        let steps: Vec<&str> = (0..rng.between(2, 5)).map(|_| rng.pick(names)).collect();
        let (a, b) = (some_time(rng), some_time(rng));
        let (since, until) = if instant(&a) < instant(&b) { (a, b) } else { (b, a) };
        if since == until {
            continue;
        }
        let mut query = format!("{FUNNEL}?split=variant&since={since}&until={until}");
        steps
            .iter()
            .for_each(|step| query += &format!("&step={}", escaped(step)));
        let got = client.get(&query).expect(200).json();
        assert_eq!(got["complete"], true, "{got}");
        let range = (instant(&since).unwrap(), instant(&until).unwrap());
        let reached = oracle::funnel(events, &steps, "variant", range);
        let mut groups: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (done, value) in reached.values() {
            let value = value.as_ref().unwrap_or(&Value::Null).to_string();
            let visitors = groups.entry(value).or_insert_with(|| vec![0; steps.len()]);
            visitors[..*done].iter_mut().for_each(|count| *count += 1);
        }
        let visitors = |step: usize| groups.values().map(|visitors| visitors[step]).sum::<u64>();
        let expected: Vec<Value> = (0..steps.len())
            .map(|step| json!({"event": steps[step], "visitors": visitors(step)}))
            .collect();
        assert_eq!(got["steps"], json!(expected), "{query}");

        let mut named: Vec<(String, Vec<u64>)> = groups
            .clone()
            .into_iter()
            .filter(|(value, _)| value != "null")
            .collect();
        named.sort_by_key(|(value, visitors)| (std::cmp::Reverse(visitors[0]), value.clone()));
        let mut rest = groups.get("null").cloned().unwrap_or(vec![0; steps.len()]);
        for (_, visitors) in named.iter().skip(10) {
            rest.iter_mut()
                .zip(visitors)
                .for_each(|(sum, count)| *sum += count);
        }
        named.truncate(10);
        if rest[0] > 0 {
            named.push(("null".to_owned(), rest));
        }
        let shown = got["split"]["groups"].as_array().unwrap();
        let shown: Vec<(String, Vec<u64>)> = shown
            .iter()
            .map(|group| {
                (
                    group["value"].to_string(),
                    serde_json::from_value(group["visitors"].clone()).unwrap(),
                )
            })
            .collect();
        assert_eq!(shown, named, "{query}");
    }
}

/// Everything is asked for, in every way.
fn check(server: &Server, log: &Path, rng: &mut Rng, names: &[&str]) {
    let events = oracle::events(log);
    let mut client = server.connect();
    check_snapshots(&mut client, &events, rng, names);
    check_timeseries(&mut client, &events, rng, names);
    check_funnels(&mut client, &events, rng, names);
}

#[test]
fn reads_are_exact_over_live_sealed_and_compressed_files_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let launch = sealing_often(Launch::new(directory.path())).set("METRICS_COMPRESS_AFTER", "1h");
    let folder = Folder::of(&launch);
    let mut rng = Rng::new(7);
    let server = launch.start();
    store(&server, &body(&mut rng, 90, &NAMES));
    check(&server, &launch.log(), &mut rng, &NAMES);
    for _ in 0..6 {
        store(&server, &body(&mut rng, 400, &NAMES));
    }
    store(&server, &body(&mut rng, 90, &NAMES));
    await_true("files are sealed", || folder.plain().len() >= 6);
    check(&server, &launch.log(), &mut rng, &NAMES);
    server.stop();

    let server = launch.clone().set("METRICS_COMPRESS_AFTER", "0s").start();
    await_true("they are compressed", || folder.plain().is_empty());
    check(&server, &launch.log(), &mut rng, &NAMES);
    server.stop();
}

#[test]
fn names_beyond_the_bound_are_found_by_reading() {
    let directory = tempfile::tempdir().unwrap();
    let launch = sealing_often(Launch::new(directory.path())).set("METRICS_EVENT_NAMES_MAX", "3");
    let folder = Folder::of(&launch);
    let mut rng = Rng::new(8);
    let server = launch.start();
    for _ in 0..3 {
        store(&server, &body(&mut rng, 400, &NAMES));
    }
    store(&server, &body(&mut rng, 90, &NAMES));
    await_true("files are sealed", || folder.plain().len() >= 3);
    let events = oracle::events(&launch.log());
    let mut client = server.connect();
    for name in NAMES {
        for since in [None, Some("2025-10-09T12:07:30Z"), Some("2025-10-09T12:08:00Z")] {
            let mut query = format!("{BEHAVIOR}?limit=7&event_type={}", escaped(name));
            since.iter().for_each(|since| query += &format!("&since={since}"));
            let got = client.get(&query).expect(200).json();
            let since = since.map(|since| instant(since).unwrap());
            assert_eq!(
                without_size(got),
                oracle::snapshot(&events, &[name], since, 7),
                "{query}"
            );
        }
    }
    check_timeseries(&mut client, &events, &mut rng, &NAMES);
    check_funnels(&mut client, &events, &mut rng, &NAMES);
    // Where no name is asked for, the total is right and the names that are not told apart are together.
    let got = client
        .get(&format!("{BEHAVIOR}?since=2025-10-09T12:07:30Z"))
        .expect(200)
        .json();
    let since = instant("2025-10-09T12:07:30Z");
    assert_eq!(got["total"], oracle::snapshot(&events, &[], since, 0)["total"]);
    assert!(got["by_event"].as_array().unwrap().len() <= 4, "{got}");
}

#[test]
fn files_whose_summary_has_too_many_minutes_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let launch = Launch::new(directory.path());
    let mut rng = Rng::new(9);
    let server = launch.start();
    // A minute each, from some time in 1970 on: more than a summary keeps.
    for batch in 0..4 {
        let event = |number: i64| {
            let minute = 60 * (batch * 17_000 + number);
            json!({"visitor_id": "visitor", "event": "early", "timestamp": minute}).to_string() + "\n"
        };
        store(&server, &(0..17_000).map(event).collect::<String>());
    }
    store(&server, &body(&mut rng, 400, &NAMES));
    check(&server, &launch.log(), &mut rng, &NAMES);
    server.signal(rustix::process::Signal::USR1);
    let folder = Folder::of(&launch);
    await_true("the file is sealed", || folder.summaries().len() == 1);
    check(&server, &launch.log(), &mut rng, &NAMES);
    server.stop();
}

#[test]
fn of_files_that_have_gone_the_counts_remain_and_what_is_not_known_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let launch = sealing_often(Launch::new(directory.path()));
    let folder = Folder::of(&launch);
    let mut rng = Rng::new(10);
    let server = launch.start();
    for _ in 0..3 {
        store(&server, &body(&mut rng, 400, &NAMES));
    }
    store(&server, &body(&mut rng, 90, &NAMES));
    await_true("files are sealed", || folder.plain().len() >= 3);
    let events = oracle::events(&launch.log());
    for name in folder.plain() {
        std::fs::remove_file(directory.path().join(name)).unwrap();
    }
    let left = oracle::events(&launch.log());
    let mut client = server.connect();
    let noon = "2025-10-09T12:08:00Z";
    let expected = oracle::snapshot(&events, &["view"], instant(noon), 0);
    let got = client
        .get(&format!("{BEHAVIOR}?event_type=view&since={noon}&limit=500"))
        .expect(200)
        .json();
    assert_eq!(
        (&got["total"], &got["by_event"]),
        (&expected["total"], &expected["by_event"])
    );
    assert_eq!(got.get("complete"), None, "all is known of whole minutes");
    let expected = oracle::snapshot(&left, &["view"], instant(noon), 500);
    assert_eq!(got["last_events"], expected["last_events"]);

    // A minute that is cut would have to be read.
    let got = client
        .get(&format!("{BEHAVIOR}?event_type=view&since=2025-10-09T12:08:30Z"))
        .expect(200)
        .json();
    assert_eq!(got["complete"], false);
    assert!(
        got["reason"].as_str().unwrap().ends_with("has been removed."),
        "{got}"
    );
    let got = client
        .get(&format!(
            "{FUNNEL}?step=view&step=click&since=2025-10-09T12:00:00Z&until=2025-10-09T13:00:00Z"
        ))
        .expect(200)
        .json();
    assert_eq!(got["complete"], false, "{got}");
    let series = client
        .get(&format!(
            "{TIMESERIES}?event=view&since=2025-10-09T12:00:00Z&until=2025-10-09T12:30:00Z"
        ))
        .expect(200)
        .json();
    let counts = oracle::buckets(&events, "view", (instant("2025-10-09T12:00:00Z").unwrap(), 1, 30));
    assert_eq!(series["series"][0]["counts"], json!(counts));
}

#[test]
fn an_answer_agrees_with_itself_while_events_are_stored_and_files_sealed() {
    const EVENTS: u64 = 60_000;
    let directory = tempfile::tempdir().unwrap();
    let launch = sealing_often(Launch::new(directory.path())).set("METRICS_COMPRESS_AFTER", "0s");
    let server = launch.start();
    let address = server.address();
    let writer = std::thread::spawn(move || {
        let mut client = Client::connect(address).unwrap();
        for burst in 0..EVENTS / 20 {
            let event = |number| {
                let note = "x".repeat(300);
                json!({"visitor_id": format!("visitor-{number}"), "event": "n", "metadata": {"number": number, "note": note}})
            };
            let numbers = burst * 20 + 1..=burst * 20 + 20;
            let requests: Vec<u8> = numbers
                .clone()
                .flat_map(|number| http::post(http::EVENT, &event(number).to_string()))
                .collect();
            client.send(&requests).unwrap();
            numbers.for_each(|_| drop(client.answer().expect(202)));
        }
    });
    let query = &|query: &str| {
        let mut client = server.connect();
        let mut seen = 0;
        while seen < EVENTS {
            let got = client.get(query).expect(200).json();
            let total = got["total"].as_u64().unwrap();
            assert!(total >= seen, "{query}: {got}");
            seen = total;
            let last = got["last_events"].as_array().unwrap();
            for (back, event) in last.iter().enumerate() {
                assert_eq!(event["metadata"]["number"], total - back as u64, "{query}: {got}");
            }
            assert_eq!(last.len() as u64, total.min(3), "{query}: {got}");
            if total > 0 {
                let counts = json!([{"event": "n", "count": total}]);
                assert_eq!(got["by_event"], counts, "{query}");
            }
        }
    };
    std::thread::scope(|scope| {
        for path in [
            "limit=3",
            "limit=3&event_type=n",
            "limit=3&since=2020-01-01T00:00:00.5Z",
        ] {
            for _ in 0..3 {
                scope.spawn(move || query(&format!("{BEHAVIOR}?{path}")));
            }
        }
    });
    writer.join().unwrap();
}

#[test]
fn parameters_that_make_no_sense_are_told_as_pydantic_tells_them() {
    let directory = tempfile::tempdir().unwrap();
    let server = Launch::new(directory.path()).start();
    let mut client = server.connect();
    let refused = |client: &mut Client, query: &str| client.get(query).expect(422).json()["detail"].clone();
    assert_eq!(
        refused(&mut client, &format!("{BEHAVIOR}?since=on-no-day-at-all&limit=0")),
        json!([
            {"type": "greater_than_equal", "loc": ["query", "limit"], "msg": "Input should be greater than or equal to 1",
             "input": "0", "ctx": {"ge": 1}},
            {"type": "datetime_from_date_parsing", "loc": ["query", "since"],
             "msg": "Input should be a valid datetime or date, invalid character in year", "input": "on-no-day-at-all",
             "ctx": {"error": "invalid character in year"}},
        ])
    );
    for (query, kind, field) in [
        (
            format!("{BEHAVIOR}?since="),
            "datetime_from_date_parsing",
            "since",
        ),
        (
            format!("{BEHAVIOR}?event_type=+"),
            "string_too_short",
            "event_type",
        ),
        (
            format!("{BEHAVIOR}?event_type={}", "x".repeat(65)),
            "string_too_long",
            "event_type",
        ),
        (
            format!("{BEHAVIOR}?{}", "event_type=x&".repeat(51)),
            "too_long",
            "event_type",
        ),
        (format!("{TIMESERIES}?interval=2m"), "literal_error", "interval"),
        (
            format!("{TIMESERIES}?until=never"),
            "datetime_from_date_parsing",
            "until",
        ),
        (
            format!("{TIMESERIES}?since=2025-10-09&until=2025-10-09"),
            "value_error",
            "since",
        ),
        (
            format!("{TIMESERIES}?since=2025-10-01&until=2025-10-08T00:00:01"),
            "value_error",
            "since",
        ),
        (format!("{TIMESERIES}?since=2998-10-01"), "value_error", "since"),
        (format!("{FUNNEL}?step=a"), "too_short", "step"),
        (FUNNEL.to_owned(), "too_short", "step"),
        (format!("{FUNNEL}?{}", "step=a&".repeat(11)), "too_long", "step"),
        (
            format!("{FUNNEL}?step=a&step=b&split={}", "x".repeat(257)),
            "string_too_long",
            "split",
        ),
        (
            format!("{FUNNEL}?step=a&step=b&since=2998-10-01"),
            "value_error",
            "since",
        ),
    ] {
        let detail = refused(&mut client, &query);
        assert_eq!(
            (&detail[0]["type"], &detail[0]["loc"]),
            (&json!(kind), &json!(["query", field])),
            "{query}: {detail}"
        );
        assert_eq!(detail.as_array().unwrap().len(), 1, "{detail}");
    }
    // What makes sense, in its less usual ways; an empty log has nothing.
    for query in [
        "since=1760000000",
        "since=1760000000.5",
        "since=2025-10-09T12:00:00+02:00",
        "since=2025-10-09%2012:00:00%2B02:00",
        "since=2025-10-09",
        "since=never&since=2025-10-09",
    ] {
        let got = client.get(&format!("{BEHAVIOR}?{query}")).expect(200).json();
        assert_eq!(
            got,
            json!({"total": 0, "by_event": [], "last_events": [], "file_size_bytes": 0}),
            "{query}"
        );
    }
    let got = client.get(TIMESERIES).expect(200).json();
    assert_eq!(
        (&got["interval"], &got["buckets"], &got["rest"]),
        (&json!("1m"), &json!(60), &Value::Null)
    );
    client
        .get(&format!("{TIMESERIES}?since=2025-10-01&until=2025-10-08"))
        .expect(200);
    client.post(TIMESERIES, "{}").expect(405);
}

#[test]
fn reads_are_gated_and_a_head_has_no_body() {
    let directory = tempfile::tempdir().unwrap();
    let key = "0123456789abcdef-read";
    let launch = Launch::new(directory.path()).set("METRICS_READ_KEYS", key);
    let server = launch.start();
    store(&server, &body(&mut Rng::new(1), 400, &NAMES));
    let paths = [
        format!("{BEHAVIOR}?event_type=view"),
        format!("{TIMESERIES}?interval=1m&since=2025-10-03&until=2025-10-10"),
        format!("{FUNNEL}?step=view&step=click&since=2025-10-03"),
    ];
    let mut client = server.connect();
    for path in paths {
        client.get(&path).expect(401);
        let got = client
            .call(&http::head("GET", &path, &[("X-Api-Key", key)]))
            .expect(200);
        client
            .send(&http::head("HEAD", &path, &[("X-Api-Key", key)]))
            .unwrap();
        let head = client.try_answer_head().unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(
            head.header("content-length"),
            got.header("content-length"),
            "{path}"
        );
        assert_eq!(head.header("content-type"), Some("application/json"));
    }
    // Nothing was left behind by the heads.
    client
        .call(&http::head("GET", BEHAVIOR, &[("X-Api-Key", key)]))
        .expect(200);
}

#[test]
fn a_read_that_takes_too_long_is_refused_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let launch = Launch::new(directory.path()).set("METRICS_QUERY_TIMEOUT", "1ms");
    let server = launch.start();
    let mut rng = Rng::new(3);
    let events = body(&mut rng, 20_000, &NAMES);
    for _ in 0..4 {
        store(&server, &events);
    }
    let mut client = server.connect();
    let answer = client
        .get(&format!("{BEHAVIOR}?since=2025-10-09T12:00:00.5Z"))
        .expect(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(
        answer.text().contains("METRICS_QUERY_TIMEOUT"),
        "{}",
        answer.text()
    );
}
