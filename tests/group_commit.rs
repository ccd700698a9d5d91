//! Group commit on a worker's coroutines. A process of its own: the runtime has one worker here, so that the order in which
//! coroutines run is known.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use floodgate::config::Config;
use floodgate::event::{Lines, Parser};
use floodgate::ingest::{Engine, Level, Producer};
use floodgate::log::fs::OsFs;

const PATIENCE: Duration = Duration::from_secs(60);
const COROUTINES: usize = 10;

fn join(producer: &mut Producer, level: Level) -> Option<floodgate::ingest::Commitment> {
    let add = |lines: &mut Lines| {
        let event = br#"{"visitor_id":"visitor","event":"view"}"#;
        Parser::new(4096)
            .single(event, None, None, lines)
            .expect("it is valid");
        Ok::<_, Infallible>(())
    };
    let joined = producer.join(1000, level, || PATIENCE, add);
    joined.expect("there is room").commitment
}

#[test]
fn those_who_are_ready_on_a_worker_are_one_frame() {
    may::config().set_workers(1);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("metrics.jsonl");
    let setting = |name: &str| match name {
        "METRICS_JSONL" => Some(log.display().to_string()),
        "METRICS_PUBLISH_INTERVAL" => Some("10s".to_owned()),
        _ => None,
    };
    let engine = Engine::open(Config::new(setting).unwrap().engine, Arc::new(OsFs)).unwrap();
    // Behind this the writer gathers, and leaves in the ring what comes.
    let mut first = engine.entrance().producer();
    let commitment = join(&mut first, Level::Written).expect("it is to be waited for");
    first.settle();
    assert_eq!(first.wait(commitment, PATIENCE).level, Level::Written);

    let entrance = engine.entrance();
    let each = move |mut producer: Producer| {
        move || {
            join(&mut producer, Level::Journaled);
            producer.settle();
            producer
        }
    };
    // They are all ready before the first of them runs.
    let all = may::go!(move || {
        let spawn = |_| may::go!(each(entrance.producer()));
        let spawned: Vec<_> = (0..COROUTINES).map(spawn).collect();
        let ended = spawned
            .into_iter()
            .map(|coroutine| coroutine.join().expect("none panics"));
        ended.collect::<Vec<_>>()
    });
    let producers = all.join().expect("it does not panic");
    assert_eq!(engine.view().ring_depth(), 1);
    drop((first, producers));
    engine.close(Instant::now() + PATIENCE, true);
    let stored = std::fs::read_to_string(&log).unwrap();
    assert_eq!(stored.lines().count(), 1 + COROUTINES);
}
