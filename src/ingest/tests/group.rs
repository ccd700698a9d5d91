//! Group commit: lines of several producers in one frame.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::blocks::BLOCK_BYTES;
use super::super::group::GROUP_BYTES_MAX;
use super::super::{Commitment, Engine, EngineConfig, Joined, Level, NotJoined, Outcome, Producer, Refused};
use super::{PATIENCE, body, config, lines_of, until};
use crate::event::{Lines, Parser};
use crate::log::fs::OsFs;

/// Longer than any line here that has no filler.
const LINE_BYTES_MAX: usize = 256;

/// An engine whose writer publishes when somebody is in a hurry only.
fn open(directory: &Path) -> (Engine, EngineConfig) {
    let config = EngineConfig {
        publish_interval: PATIENCE,
        ..config(directory)
    };
    let engine = Engine::open(config.clone(), Arc::new(OsFs)).unwrap();
    until(|| !engine.view().is_recovering());
    (engine, config)
}

/// Has the writer publish a line and then wait for the recent window, which the caller holds: what is committed from here on
/// stays in the ring.
fn occupy_writer(engine: &Engine) {
    let mut producer = engine.entrance().producer();
    join(&mut producer, Level::Written, "before");
    producer.settle();
    until(|| engine.view().live_bytes() > 0);
}

/// The visitors in the log, in its order, once the engine has ended.
fn visitors(engine: Engine, config: &EngineConfig) -> Vec<String> {
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    let log = std::fs::read_to_string(&config.log).unwrap();
    let visitor = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let visitor = event["visitor_id"].as_str().unwrap();
        visitor.strip_prefix("visitor-").unwrap().to_owned()
    };
    log.lines().map(visitor).collect()
}

fn push(lines: &mut Lines, visitor: &str, filler: usize) {
    let body = body(&format!("visitor-{visitor}"), "joined", filler);
    Parser::new(32 << 10)
        .single(body.as_bytes(), None, None, lines)
        .unwrap();
}

fn join(producer: &mut Producer, level: Level, visitor: &str) -> Joined {
    let added = producer.join(
        LINE_BYTES_MAX,
        level,
        || PATIENCE,
        |lines| {
            push(lines, visitor, 0);
            Ok::<_, Infallible>(())
        },
    );
    added.unwrap_or_else(|_| panic!("there is room for {visitor}"))
}

#[test]
fn lines_of_several_producers_are_one_frame_and_each_learns_of_its_own_level_and_number() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, config) = open(directory.path());
    let [mut first, mut second, mut third] = std::array::from_fn(|_| engine.entrance().producer());
    let journaled = join(&mut first, Level::Journaled, "a");
    let written = join(&mut second, Level::Written, "b");
    let synced = join(&mut third, Level::Synced, "c");
    assert!(journaled.commitment.is_none());
    assert_eq!(engine.view().ring_depth(), 0, "nothing is committed yet");
    second.commit_joined();
    // Others have nothing left to commit: what they add next is of another frame.
    first.commit_joined();
    let next = join(&mut third, Level::Written, "d");
    third.commit_joined();

    let reached = |producer: &mut Producer, joined: Joined| {
        let reached = producer.wait(joined.commitment.expect("a level was asked for"), PATIENCE);
        (reached.level, reached.first_sequence + joined.line as u64)
    };
    assert_eq!(reached(&mut second, written), (Level::Written, 2));
    assert_eq!(reached(&mut third, synced), (Level::Synced, 3));
    assert_eq!(reached(&mut third, next), (Level::Written, 4));
    drop((first, second, third));
    assert_eq!(visitors(engine, &config), ["a", "b", "c", "d"]);
}

#[test]
fn a_group_is_one_frame_in_as_few_blocks_as_its_lines_need() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, config) = open(directory.path());
    let view = engine.view();
    let mut producers: Vec<Producer> = (0..10).map(|_| engine.entrance().producer()).collect();
    let window = view.recent().lock();
    occupy_writer(&engine);
    let (used, _, _) = view.journal_bytes();
    for producer in &mut producers {
        join(producer, Level::Journaled, "one of ten");
    }
    for producer in &mut producers {
        producer.settle();
    }
    assert_eq!(view.ring_depth(), 1);
    assert_eq!(view.journal_bytes().0, used + BLOCK_BYTES as u64);
    drop(window);
    drop(producers);
    assert_eq!(visitors(engine, &config).len(), 11);
}

#[test]
fn a_producer_waits_once_for_what_is_committed_together() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, _) = open(directory.path());
    let mut producer = engine.entrance().producer();
    let mut commitments: Vec<Commitment> = Vec::new();
    let mut counts = Vec::new();
    for level in [
        Level::Journaled,
        Level::Written,
        Level::Written,
        Level::Synced,
        Level::Written,
    ] {
        commitments.extend(join(&mut producer, level, "a").commitment);
        counts.push(commitments.len());
    }
    assert_eq!(counts, [0, 1, 1, 2, 2]);
    producer.settle();
    let reached = commitments
        .into_iter()
        .map(|commitment| producer.wait(commitment, PATIENCE).level);
    assert!(reached.eq([Level::Written, Level::Synced]));
}

#[test]
fn a_group_is_committed_before_it_gets_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, config) = open(directory.path());
    let view = engine.view();
    let mut producers: Vec<Producer> = (0..10).map(|_| engine.entrance().producer()).collect();
    let window = view.recent().lock();
    occupy_writer(&engine);
    let bytes = GROUP_BYTES_MAX / 4;
    for (number, producer) in producers.iter_mut().enumerate() {
        let add = |lines: &mut Lines| {
            push(lines, &number.to_string(), bytes - LINE_BYTES_MAX);
            Ok::<_, Infallible>(())
        };
        producer
            .join(bytes, Level::Journaled, || PATIENCE, add)
            .ok()
            .unwrap();
    }
    assert_eq!(view.ring_depth(), 2);
    for producer in &mut producers {
        producer.settle();
    }
    assert_eq!(view.ring_depth(), 3);
    drop(window);
    drop(producers);
    let expected = ["before".to_owned()]
        .into_iter()
        .chain((0..10).map(|number| number.to_string()));
    assert!(visitors(engine, &config).into_iter().eq(expected));
}

#[test]
fn who_finds_no_room_commits_first_and_takes_what_others_free() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, config) = open(directory.path());
    let [mut hoarder, mut producer, mut other] = std::array::from_fn(|_| engine.entrance().producer());
    join(&mut producer, Level::Journaled, "before");
    let (_, minted, _) = engine.view().journal_bytes();
    let mut hoarded = minted as usize;
    while !hoarder.try_reserve(hoarded) {
        hoarded -= 4096;
    }

    let refused = producer.join(
        40_000,
        Level::Journaled,
        || Duration::ZERO,
        |_| Ok::<_, Infallible>(()),
    );
    assert!(matches!(refused, Err(NotJoined::Refused(Refused::Full))));
    // What it had added is committed, and published, as it is in a hurry.
    until(|| engine.view().live_bytes() > 0);

    // Others add to the group while it waits.
    let make_room = || {
        hoarder.release();
        join(&mut other, Level::Journaled, "meanwhile");
        PATIENCE
    };
    let add = |lines: &mut Lines| {
        push(lines, "after", 30_000);
        Ok::<_, Infallible>(())
    };
    producer
        .join(40_000, Level::Journaled, make_room, add)
        .ok()
        .unwrap();
    producer.settle();
    other.settle();
    drop((hoarder, producer, other));
    assert_eq!(visitors(engine, &config), ["before", "meanwhile", "after"]);
}

#[test]
fn a_line_that_fails_leaves_the_group_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, config) = open(directory.path());
    let [mut producer, mut careless] = std::array::from_fn(|_| engine.entrance().producer());
    let fail = |_: &mut Lines| Err("no event");
    for _ in 0..2 {
        let failed = producer.join(10_000, Level::Synced, || PATIENCE, fail);
        assert!(matches!(failed, Err(NotJoined::Failed("no event"))));
    }
    assert_eq!(engine.view().journal_bytes().0, 0, "no block is kept for it");
    producer.settle();

    join(&mut producer, Level::Journaled, "a");
    let mut panic = |add: fn(&mut Lines)| {
        let add = |lines: &mut Lines| -> Result<(), Infallible> {
            add(lines);
            panic!("a defect of the parser")
        };
        let join = || {
            careless
                .join(LINE_BYTES_MAX, Level::Journaled, || PATIENCE, add)
                .ok()
        };
        assert!(catch_unwind(AssertUnwindSafe(join)).is_err());
    };
    panic(|lines| lines.push_half_a_line());
    panic(|lines| push(lines, "whole", 0));
    join(&mut producer, Level::Journaled, "b");
    producer.settle();
    producer.publish(PATIENCE);
    let ranking = engine.view().counters().ranking();
    assert_eq!(
        ranking,
        [(b"joined".to_vec().into(), 3)],
        "what is counted is what is there"
    );
    drop((producer, careless));
    assert_eq!(visitors(engine, &config), ["a", "whole", "b"]);
}

#[test]
fn a_frame_of_ones_own_comes_behind_what_one_added_to_a_group() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, config) = open(directory.path());
    let mut producer = engine.entrance().producer();
    join(&mut producer, Level::Journaled, "a");
    let mut lines = lines_of(&[body("visitor-b", "committed", 0)]);
    producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
    producer.commit(&mut lines, Level::Journaled);
    join(&mut producer, Level::Journaled, "c");
    producer.settle();
    drop(producer);
    assert_eq!(visitors(engine, &config), ["a", "b", "c"]);
}

#[test]
fn what_a_producer_added_is_committed_when_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, config) = open(directory.path());
    let mut producer = engine.entrance().producer();
    join(&mut producer, Level::Journaled, "a");
    drop(producer);
    assert_eq!(visitors(engine, &config), ["a"]);
}

#[test]
fn a_producer_that_goes_on_on_another_thread_keeps_the_order_of_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, config) = open(directory.path());
    let mut producer = engine.entrance().producer();
    // Threads have groups by turns.
    for number in 0..8 {
        let add = || join(&mut producer, Level::Journaled, &number.to_string());
        std::thread::scope(|scope| scope.spawn(add).join().unwrap());
    }
    producer.settle();
    drop(producer);
    let expected: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    assert_eq!(visitors(engine, &config), expected);
}
