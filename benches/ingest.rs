//! Commit into the journal and push into the ring, with 1, 2 and 4 producers, the writer publishing beside them.
//!
//! Each event is one frame, validated first, as a single POST does it; `validate` measures that part alone. The log lies on
//! the system's directory for temporary files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use floodgate::config::Config;
use floodgate::event::{Lines, Parser, Timestamp};
use floodgate::ingest::{Engine, Entrance, Level};
use floodgate::log::fs::OsFs;

const EVENT: &[u8] = br#"{"visitor_id":"v-0000002a-4f2a","event":"page_view","timestamp":"2025-10-09T12:34:56.000007Z","metadata":{"path":"/products/7","n":7,"ok":true},"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101"}"#;

fn open(directory: &std::path::Path) -> Engine {
    let log = directory.join("metrics.jsonl");
    let setting = |name: &str| match name {
        "METRICS_JSONL" => Some(log.display().to_string()),
        "METRICS_JOURNAL_BYTES_MAX" => Some("16MiB".to_owned()),
        "METRICS_FSYNC" => Some("never".to_owned()),
        _ => None,
    };
    let config = Config::new(setting).unwrap().engine;
    Engine::open(config, Arc::new(OsFs)).unwrap()
}

fn produce(entrance: &Entrance, events: u64) {
    let mut producer = entrance.producer();
    let (mut parser, mut lines, now) = (Parser::new(32 << 10), Lines::new(), Timestamp::now());
    for _ in 0..events {
        producer
            .reserve(EVENT.len() + 64, Duration::from_secs(60))
            .unwrap();
        parser.single(EVENT, None, now, &mut lines).unwrap();
        producer.commit(&mut lines, Level::Journaled);
    }
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.throughput(Throughput::Elements(1));
    for producers in [1, 2, 4] {
        group.bench_function(format!("{producers} producers"), |bencher| {
            bencher.iter_custom(|events| {
                let directory = tempfile::tempdir().unwrap();
                let engine = open(directory.path());
                let entrance = engine.entrance();
                let start = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..producers {
                        scope.spawn(|| produce(&entrance, events.div_ceil(producers)));
                    }
                });
                let took = start.elapsed();
                engine.close(Instant::now() + Duration::from_secs(60), true);
                took
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    commit(&mut criterion);
    criterion.final_summary();
}
