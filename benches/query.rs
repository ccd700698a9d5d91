//! What reads cost, on the thread that does them (a request adds two wake-ups).
//!
//! - Time series over 30 days with 100 million events of ten names, in 105 sealed files: summaries only.
//! - A snapshot by name, its newest events at the end of the live file; the counts also of those 105 files.
//! - A snapshot since a time that cuts a minute, in which lies all of a plain file of 256 MiB: every line is read, from
//!   the page cache.
//! - A funnel of three steps over the same file.

use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use floodgate::config::Config;
use floodgate::event::{Parser, Timestamp};
use floodgate::ingest::{Engine, Level, View};
use floodgate::log::fs::OsFs;
use floodgate::log::segment::{Family, SegmentId};
use floodgate::log::summary::Tally;
use floodgate::query::count::Ask;
use floodgate::query::funnel::{Funnel, funnel};
use floodgate::query::readers::Limit;
use floodgate::query::timeseries::{Buckets, Interval, timeseries};
use floodgate::query::{filtered_snapshot, snapshot};

const NAMES: [&str; 10] = [
    "page_view",
    "click",
    "scroll",
    "signup",
    "login",
    "search",
    "add_to_cart",
    "checkout",
    "purchase",
    "logout",
];
const DAYS: i64 = 30;
const FILES: i64 = 105;
const EVENTS: i64 = 100_000_000;
const FILE_BYTES: u64 = 256 << 20;
/// The minute in which the 30 days begin.
const BEGIN: i64 = 29_000_000;
const LONG: Duration = Duration::from_secs(600);

fn at(minute: i64) -> Timestamp {
    Timestamp {
        micros: minute * 60_000_000,
    }
}

fn ask(name: Option<&str>, since: Option<Timestamp>) -> Ask {
    Ask {
        names: name.map(|name| vec![name.as_bytes().into()]),
        since,
        until: None,
        nodes: None,
    }
}

fn in_time() -> Limit {
    Limit::until(Instant::now() + LONG)
}

/// The summaries of the 30 days; of their files nothing is left.
fn write_summaries(family: &Family) {
    let minutes = DAYS * 1440 / FILES;
    for file in 0..FILES {
        let mut tally = Tally::new(10_000);
        for minute in 0..minutes {
            for name in NAMES {
                let count = EVENTS / (minutes * FILES * NAMES.len() as i64);
                tally.add_events(
                    name.as_bytes(),
                    Some(BEGIN + file * minutes + minute),
                    count as u64,
                );
            }
        }
        let id = SegmentId {
            number: file as u64 + 1,
            since: ((BEGIN + file * minutes) * 60) as u64,
        };
        let summary = tally.summary(id, 1);
        summary.write(&OsFs, &family.summary(id)).unwrap();
    }
}

fn line(number: u64, second: u64) -> String {
    format!(
        "{{\"visitor_id\":\"visitor-{:08}\",\"event\":\"{}\",\"timestamp\":\"2030-01-01T00:00:{:02}.{:06}Z\",\"metadata\":{{\"path\":\"/products/{number}\",\"referrer\":\"https://example.org/search?q=shoes\",\"variant\":\"{}\",\"price\":1.10}},\"user_agent\":\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0\"}}\n",
        number % 50_000,
        NAMES[(number % 10) as usize],
        second % 60,
        number % 1_000_000,
        ["A", "B"][(number % 2) as usize],
    )
}

/// A sealed file all events of which are in one minute.
fn write_file(family: &Family) {
    let id = SegmentId {
        number: FILES as u64 + 1,
        since: 1_893_456_000,
    };
    let mut file = BufWriter::new(std::fs::File::create(family.plain(id)).unwrap());
    let (mut bytes, mut number) = (0, 0);
    while bytes < FILE_BYTES {
        let line = line(number, number / 20_000);
        file.write_all(line.as_bytes()).unwrap();
        bytes += line.len() as u64;
        number += 1;
    }
    file.flush().unwrap();
}

fn open(directory: &Path) -> Engine {
    let setting = |name: &str| match name {
        "METRICS_JSONL" => Some(directory.join("metrics.jsonl").display().to_string()),
        "METRICS_JOURNAL" => Some("memory".to_owned()),
        "METRICS_FSYNC" => Some("never".to_owned()),
        "METRICS_ROTATE_BYTES" => Some("off".to_owned()),
        _ => None,
    };
    let config = Config::new(setting).unwrap().engine;
    Engine::open(config, Arc::new(OsFs)).unwrap()
}

/// Fills the live file with 20,000 events of now.
fn fill_live(engine: &Engine) {
    let mut producer = engine.entrance().producer();
    let mut lines = floodgate::event::Lines::new();
    let mut parser = Parser::new(32 << 10);
    for number in 0..20_000 {
        let body = line(number, number / 1000);
        parser
            .single(
                body.trim_ascii_end().as_bytes(),
                None,
                Timestamp::now(),
                &mut lines,
            )
            .unwrap();
        if number % 100 == 99 {
            producer.reserve(lines.bytes().len(), LONG).unwrap();
            let commitment = producer.commit(&mut lines, Level::Written);
            assert_eq!(producer.wait(commitment, LONG).level, Level::Written);
        }
    }
}

fn bench_summaries(criterion: &mut Criterion, view: &View) {
    let mut group = criterion.benchmark_group("30 days, 100 M events");
    let end = at(BEGIN + DAYS * 1440);
    for (label, interval, names) in [
        ("top names, 5m", Interval::FiveMinutes, None),
        ("top names, 1h", Interval::Hour, None),
        (
            "one name, 5m",
            Interval::FiveMinutes,
            Some(vec![b"purchase"[..].into()]),
        ),
    ] {
        let buckets = Buckets::new(interval, Some(at(BEGIN)), end).unwrap();
        group.bench_function(label, |bencher| {
            bencher.iter(|| timeseries(black_box(view), buckets, names.clone(), None, &in_time()).unwrap())
        });
    }
    group.finish();
}

fn bench_snapshots(criterion: &mut Criterion, view: &View) {
    let mut group = criterion.benchmark_group("snapshot");
    group.bench_function("of everything", |bencher| {
        bencher.iter(|| snapshot(black_box(view), 50))
    });
    for (label, ask) in [
        ("by name", ask(Some("purchase"), None)),
        ("since a whole minute", ask(None, Some(at(BEGIN)))),
    ] {
        group.bench_function(label, |bencher| {
            bencher.iter(|| filtered_snapshot(black_box(view), &ask, 50, &in_time()).unwrap())
        });
    }
    group.finish();
}

fn bench_scans(criterion: &mut Criterion, view: &View) {
    let mut group = criterion.benchmark_group("256 MiB, every line read");
    group.throughput(Throughput::Bytes(FILE_BYTES)).sample_size(10);
    let half = Timestamp::parse("2030-01-01T00:00:30Z").unwrap();
    for (label, ask) in [
        ("since within a minute", ask(None, Some(half))),
        ("by name since within a minute", ask(Some("purchase"), Some(half))),
    ] {
        group.bench_function(label, |bencher| {
            bencher.iter(|| filtered_snapshot(black_box(view), &ask, 50, &in_time()).unwrap())
        });
    }
    let asked = Funnel {
        steps: ["page_view", "scroll", "purchase"]
            .map(|name| name.as_bytes().into())
            .to_vec(),
        split: Some("variant".to_owned()),
        since: Timestamp::parse("2030-01-01T00:00:00Z").unwrap(),
        until: Timestamp::parse("2030-01-01T00:01:00Z").unwrap(),
        nodes: None,
    };
    group.bench_function("funnel of three steps, a pass each", |bencher| {
        bencher.iter(|| funnel(black_box(view), &asked, &in_time()))
    });
    group.finish();
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let family = Family::of(&directory.path().join("metrics.jsonl"));
    write_summaries(&family);
    write_file(&family);
    let engine = open(directory.path());
    fill_live(&engine);
    let view = engine.view();
    let mut criterion = Criterion::default().configure_from_args();
    bench_summaries(&mut criterion, &view);
    bench_snapshots(&mut criterion, &view);
    bench_scans(&mut criterion, &view);
    criterion.final_summary();
    engine.close(Instant::now() + LONG, true);
}
