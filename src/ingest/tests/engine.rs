//! The engine on the operating system's files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::blocks::{BLOCK_BYTES, PREFACE_BYTES};
use super::super::doorbell::Doorbell;
use super::super::herald::Herald;
use super::super::journal::CHUNK_BYTES;
use super::super::space::Space;
use super::super::{Engine, EngineConfig, Level, OTHER, OpenError, Outcome, Refused, RotationPolicy, View};
use super::{PATIENCE, body, config, line_of, lines_of, split, store, until};
use crate::event::Lines;
use crate::log::fs::OsFs;
use crate::log::fs::faulty::random;

fn open(config: &EngineConfig) -> Engine {
    let engine = Engine::open(config.clone(), Arc::new(OsFs)).unwrap();
    until(|| !engine.view().is_recovering());
    engine
}

fn close(engine: Engine) -> Outcome {
    engine.close(Instant::now() + PATIENCE, true)
}

fn ranking(view: &View) -> Vec<(String, u64)> {
    let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    view.counters()
        .ranking()
        .iter()
        .map(|(text, count)| (name(text), *count))
        .collect()
}

fn newest(view: &View) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    view.recent()
        .lock()
        .newest(usize::MAX, |line| lines.push([line, b"\n"].concat()));
    lines
}

fn commit(engine: &Engine, lines: &mut Lines, level: Level) {
    let mut producer = engine.entrance().producer();
    producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
    assert_eq!(store(&mut producer, lines, level).level, level);
}

/// Commits `count` lines of `producer` in batches of mixed sizes and at mixed levels; answers them.
fn produce(engine: &super::super::Entrance, producer: u64, count: u64) -> Vec<Vec<u8>> {
    let mut dice = producer;
    let mut committed = Vec::new();
    let mut entrance = engine.producer();
    let mut number = 0;
    while number < count {
        let size = if random(&mut dice).is_multiple_of(20) {
            30
        } else {
            1 + random(&mut dice) % 4
        };
        let bodies: Vec<String> = (0..size)
            .map(|_| {
                number += 1;
                let filler = if random(&mut dice).is_multiple_of(30) {
                    6000
                } else {
                    random(&mut dice) % 300
                };
                let name = format!("name-{}", random(&mut dice) % 5);
                body(&format!("producer-{producer}-{number}"), &name, filler as usize)
            })
            .collect();
        let mut lines = lines_of(&bodies);
        committed.extend(split(lines.bytes()).iter().map(|line| line.to_vec()));
        let level = [Level::Journaled, Level::Journaled, Level::Written, Level::Synced]
            [random(&mut dice) as usize % 4];
        if !entrance.try_reserve(lines.bytes().len()) {
            entrance.reserve(lines.bytes().len(), PATIENCE).unwrap();
        }
        let acknowledged = store(&mut entrance, &mut lines, level);
        assert_eq!((acknowledged.level, acknowledged.sync_failed), (level, false));
        assert_eq!(acknowledged.first_sequence > 0, level > Level::Journaled);
        assert!(lines.is_empty());
    }
    committed
}

/// That `log` is these producers' lines, each once and each producer's in its order.
pub(super) fn assert_conserved(log: &[u8], producers: &[Vec<Vec<u8>>]) {
    let lines = split(log);
    assert_eq!(lines.len(), producers.iter().map(Vec::len).sum::<usize>());
    for committed in producers {
        let mut rest = lines.iter();
        for line in committed {
            let found = rest.any(|other| other == line);
            assert!(
                found,
                "missing or out of order: {}",
                String::from_utf8_lossy(line)
            );
        }
    }
}

#[test]
fn every_line_of_every_producer_is_in_the_log_once_and_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let engine = open(&config);
    let producers: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let start = |producer| {
            let entrance = engine.entrance();
            scope.spawn(move || produce(&entrance, producer, 1500))
        };
        let threads: Vec<_> = (0..4).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let view = engine.view();
    assert_eq!(close(engine), Outcome::Clean);
    let log = std::fs::read(&config.log).unwrap();
    assert_conserved(&log, &producers);
    assert_eq!(view.live_bytes(), log.len() as u64);
    let mut expected = HashMap::new();
    for line in split(&log) {
        *expected
            .entry(String::from_utf8(crate::event::facts_of_line(line).unwrap().name.to_vec()).unwrap())
            .or_insert(0) += 1;
    }
    assert_eq!(ranking(&view).into_iter().collect::<HashMap<_, u64>>(), expected);

    let again = open(&config);
    assert_eq!(ranking(&again.view()), ranking(&view));
    assert_eq!(newest(&again.view()), newest(&view));
    let last: Vec<Vec<u8>> = split(&log)
        .iter()
        .rev()
        .take(config.ring_capacity)
        .map(|line| line.to_vec())
        .collect();
    assert_eq!(newest(&again.view()), last);
    assert_eq!(again.recovered().events, 0);
    assert_eq!(close(again), Outcome::Clean);
}

#[test]
fn a_read_after_the_barrier_sees_ones_own_writes() {
    let directory = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        publish_interval: PATIENCE,
        ..config(directory.path())
    };
    let engine = open(&config);
    let mut producer = engine.entrance().producer();
    let mut bytes = 0;
    for number in 0..50 {
        let mut lines = line_of(1, number, 0);
        bytes += lines.bytes().len() as u64;
        producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
        producer.commit(&mut lines, Level::Journaled);
        producer.publish(PATIENCE);
        assert_eq!(engine.view().live_bytes(), bytes);
        assert_eq!(ranking(&engine.view()), [("numbered".to_owned(), number + 1)]);
        assert!(
            newest(&engine.view())[0]
                .starts_with(format!("{{\"visitor_id\":\"producer-1-{number}\"").as_bytes())
        );
    }
    drop(producer);
    assert_eq!(close(engine), Outcome::Clean);
}

#[test]
fn sequence_numbers_have_no_gap_and_go_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let mut expected = 1;
    for _ in 0..3 {
        let engine = open(&config);
        let mut producer = engine.entrance().producer();
        for size in 1..6_u64 {
            let bodies: Vec<String> = (0..size)
                .map(|number| body(&format!("visitor-{number}"), "x", 10))
                .collect();
            let mut lines = lines_of(&bodies);
            producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
            assert_eq!(
                store(&mut producer, &mut lines, Level::Written).first_sequence,
                expected
            );
            expected += size;
        }
        drop(producer);
        close(engine);
    }
}

#[test]
fn names_beyond_the_bound_are_counted_together_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        names_max: 3,
        ..config(directory.path())
    };
    let engine = open(&config);
    for number in 0..40 {
        let mut lines = lines_of(&[body("visitor", &format!("name-{}", number % 8), 0)]);
        commit(&engine, &mut lines, Level::Written);
    }
    let expected = [(OTHER, 25), (b"name-0", 5), (b"name-1", 5), (b"name-2", 5)]
        .map(|(name, count)| (String::from_utf8(name.to_vec()).unwrap(), count));
    engine.entrance().producer().publish(PATIENCE);
    assert_eq!(ranking(&engine.view()), expected);
    close(engine);
    let engine = open(&config);
    assert_eq!(ranking(&engine.view()), expected);
    close(engine);
}

#[test]
fn the_journal_grows_while_it_must_and_not_beyond_its_bound() {
    let directory = tempfile::tempdir().unwrap();
    let bytes_max = 9 << 20;
    let patient = EngineConfig {
        journal_bytes_max: bytes_max,
        publish_interval: PATIENCE,
        ..config(directory.path())
    };
    let engine = open(&patient);
    let (_, first, most) = engine.view().journal_bytes();
    let whole = |bytes: u64| bytes - bytes % BLOCK_BYTES as u64;
    assert_eq!((first, most), (CHUNK_BYTES as u64, whole(bytes_max)));
    let mut producer = engine.entrance().producer();
    // Three thirds of the bound: more than the first chunk. (Who finds no room has the writer publish.)
    let large: Vec<String> = (0..100)
        .map(|number| body(&format!("visitor-{number}"), "large", 30_000))
        .collect();
    let bytes = lines_of(&large).bytes().len();
    for _ in 0..3 {
        producer.reserve(bytes, PATIENCE).unwrap();
        producer.commit(&mut lines_of(&large), Level::Journaled);
    }
    until(|| engine.view().journal_bytes().1 > first);
    assert!(engine.view().journal_bytes().1 <= bytes_max);
    assert_eq!(
        producer.reserve(bytes_max as usize, PATIENCE),
        Err(Refused::TooLarge)
    );
    drop(producer);
    assert_eq!(close(engine), Outcome::Clean);
    let length = |path: &Path| path.metadata().unwrap().len();
    assert_eq!(length(&patient.log), 3 * bytes as u64);
    assert_eq!(
        length(&directory.path().join("metrics.journal")),
        0,
        "a clean stop leaves an empty journal"
    );
}

#[test]
fn another_chunk_is_there_before_somebody_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let roomy = EngineConfig {
        journal_bytes_max: 32 << 20,
        ..config(directory.path())
    };
    let engine = open(&roomy);
    let first = engine.view().journal_bytes().1;
    let mut producer = engine.entrance().producer();
    assert!(
        producer.try_reserve(CHUNK_BYTES * 3 / 4),
        "the first chunk is enough"
    );
    until(|| engine.view().journal_bytes().1 > first);
    drop(producer);
    assert_eq!(close(engine), Outcome::Clean);
}

#[test]
fn the_journal_has_room_for_what_comes_while_the_writer_rests() {
    let directory = tempfile::tempdir().unwrap();
    let calm = config(directory.path());
    let restful = EngineConfig {
        journal_bytes_max: 32 << 20,
        rotation: RotationPolicy {
            rest: PATIENCE,
            ..calm.rotation
        },
        ..calm
    };
    let engine = open(&restful);
    let first = engine.view().journal_bytes().1;
    let begun = Instant::now();
    // A frame at a time never needs more than its own block. How many of them pass in a rest is known after a while.
    while begun.elapsed() < Duration::from_millis(500) {
        commit(&engine, &mut line_of(1, 1, 0), Level::Written);
    }
    assert_eq!(engine.view().journal_bytes().1, first);
    engine.rotate();
    until(|| engine.view().journal_bytes().1 > first);
    assert_eq!(close(engine), Outcome::Clean);
}

#[test]
fn the_journal_goes_back_to_its_first_chunk_when_it_is_not_needed_and_grows_again() {
    let directory = tempfile::tempdir().unwrap();
    let brief = EngineConfig {
        journal_bytes_max: 32 << 20,
        journal_shrink_after: Duration::from_millis(60),
        ..config(directory.path())
    };
    let engine = open(&brief);
    let file = directory.path().join("metrics.journal");
    let length = || file.metadata().unwrap().len();
    let first = length();
    let mut producer = engine.entrance().producer();
    for _ in 0..3 {
        // Held blocks behind the first chunk keep the journal as it is.
        producer.reserve(2 * CHUNK_BYTES, PATIENCE).unwrap();
        assert!(length() > first);
        assert_eq!(engine.view().journal_bytes().1, length() - PREFACE_BYTES as u64);
        producer.release();
        until(|| engine.view().journal_bytes().1 == CHUNK_BYTES as u64 && length() == first);
    }
    let mut lines = line_of(1, 1, 0);
    producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
    assert_eq!(
        store(&mut producer, &mut lines, Level::Written).level,
        Level::Written
    );
    drop(producer);
    assert_eq!(close(engine), Outcome::Clean);
}

#[test]
fn a_file_killed_between_the_two_steps_of_its_renaming_is_counted_once_and_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let sealed = |number| {
        directory
            .path()
            .join(format!("metrics-20010909T014640Z-{number:06}.jsonl"))
    };
    let engine = open(&config);
    commit(&engine, &mut line_of(1, 0, 0), Level::Written);
    assert_eq!(close(engine), Outcome::Clean);
    for number in 1..4 {
        // What is left by a kill where renaming is linking and unlinking.
        std::fs::hard_link(&config.log, sealed(number)).unwrap();
        let engine = open(&config);
        assert_eq!(ranking(&engine.view()), [("numbered".to_owned(), number)]);
        assert_eq!(engine.view().live_bytes(), 0);
        commit(&engine, &mut line_of(1, number, 0), Level::Written);
        assert_eq!(close(engine), Outcome::Clean);
        assert_eq!(split(&std::fs::read(sealed(number)).unwrap()).len(), 1);
    }
}

#[test]
fn the_recent_window_is_filled_from_the_ends_of_as_many_sealed_files_as_it_takes() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let engine = open(&config);
    let mut all = Vec::new();
    for number in 0..15 {
        let mut lines = line_of(1, number, 0);
        all.insert(0, lines.bytes().to_vec());
        commit(&engine, &mut lines, Level::Written);
        if number % 2 == 1 {
            engine.rotate();
            until(|| engine.view().sealed_files() as u64 == number / 2 + 1);
        }
    }
    assert_eq!(close(engine), Outcome::Clean);
    // Lines that are no events are none of the window's.
    let last = directory.path().join("metrics-20010909T014640Z-000008.jsonl");
    std::fs::rename(&config.log, &last).unwrap();
    let torn = "{\"visitor_id\":\"visitor\",\"torn\":true}\n";
    std::fs::write(&last, [&*std::fs::read(&last).unwrap(), torn.as_bytes()].concat()).unwrap();
    let engine = open(&config);
    assert_eq!(newest(&engine.view()), all[..config.ring_capacity]);
    assert_eq!(close(engine), Outcome::Clean);
}

#[test]
fn a_second_engine_on_the_same_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let engine = open(&config);
    commit(&engine, &mut line_of(1, 1, 0), Level::Written);
    let second = Engine::open(config.clone(), Arc::new(OsFs));
    assert!(matches!(second.err(), Some(OpenError::Locked(_))));
    commit(&engine, &mut line_of(1, 2, 0), Level::Written);
    assert_eq!(close(engine), Outcome::Clean);
    let engine = open(&config);
    assert_eq!(engine.recovered().events, 0);
    close(engine);
}

#[test]
fn who_waits_for_blocks_in_vain_does_not_wake_itself() {
    let herald = Herald::start(Arc::new(Doorbell::new()));
    let space = Space::new(1, Arc::clone(&herald));
    let presses = std::cell::Cell::new(0);
    let press = || {
        presses.set(presses.get() + 1);
        // As the growth thread does when the journal has reached its bound.
        space.give_back(std::iter::empty());
    };
    let timekeeper = Arc::clone(&herald);
    let timekeeper = std::thread::spawn(move || timekeeper.keep_time());
    assert!(!space.take_within(Duration::from_millis(50), 1, &mut Vec::new(), press));
    // Before it waits, and after.
    assert!(presses.get() <= 3, "{presses:?}");
    herald.stop();
    timekeeper.join().unwrap();
}

#[test]
fn who_was_told_just_before_the_herald_stops_is_woken() {
    for _ in 0..50 {
        let herald = Herald::start(Arc::new(Doorbell::new()));
        let (sender, receiver) = std::sync::mpsc::channel();
        let of_thread = Arc::clone(&herald);
        let thread = std::thread::spawn(move || {
            let waiter = of_thread.waiter();
            sender.send(Arc::clone(&waiter)).unwrap();
            let written = |progress| progress == super::super::completion::Progress::Written;
            waiter.wait_for_progress(&of_thread, 100 * PATIENCE, written).1
        });
        let waiter = receiver.recv().unwrap();
        waiter.completion.written(41);
        herald.enqueue(waiter);
        herald.wake();
        herald.stop();
        until(|| thread.is_finished());
        assert_eq!(thread.join().unwrap(), 41);
    }
}
