//! The engine on a disk that fails.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::blocks::BLOCK_BYTES;
use super::super::{Engine, EngineConfig, Entrance, FsyncPolicy, Level, Outcome, Pulse, Refused};
use super::engine::assert_conserved;
use super::{PATIENCE, config, line_of, split, store, until};
use crate::log::fs::Fs;
use crate::log::fs::faulty::{Faults, FaultyFs};

pub(super) fn open(config: &EngineConfig, fs: &FaultyFs) -> Engine {
    let engine = Engine::open(config.clone(), Arc::new(fs.clone())).unwrap();
    until(|| !engine.view().is_recovering());
    engine
}

pub(super) fn produce(entrance: &Entrance, producer: u64, count: u64, level: Level) -> Vec<Vec<u8>> {
    let mut entrance = entrance.producer();
    let produce = |number| {
        let mut lines = line_of(
            producer,
            number,
            (number * 37 % 200) as usize + if number % 16 == 0 { 5000 } else { 0 },
        );
        let bytes = lines.bytes().to_vec();
        entrance.reserve(bytes.len(), PATIENCE).unwrap();
        assert_eq!(store(&mut entrance, &mut lines, level).level, level);
        bytes
    };
    (0..count).map(produce).collect()
}

#[test]
fn on_a_disk_that_cuts_writes_and_fails_each_line_is_in_the_log_once() {
    for seed in 0..6 {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let fs = FaultyFs::new(
            seed,
            Faults {
                short: 100,
                interrupted: 20,
                torn: 4,
                nothing: 1,
                ..Faults::default()
            },
        );
        fs.watch(&config.log);
        let engine = open(&config, &fs);
        let producers: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
            let start = |producer| {
                let entrance = engine.entrance();
                scope.spawn(move || produce(&entrance, producer, 200, Level::Journaled))
            };
            let threads: Vec<_> = (0..3).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let view = engine.view();
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
        let log = fs.contents(&config.log).unwrap();
        assert_conserved(&log, &producers);
        assert_eq!(view.live_bytes(), log.len() as u64);
        // It is first seen with whole lines in it, and never gets shorter.
        let seen: Vec<usize> = fs.watched().into_iter().flatten().collect();
        assert!(
            seen[0] > 0 && log[..seen[0]].ends_with(b"\n") && seen.is_sorted(),
            "seed {seed}"
        );
    }
}

#[test]
fn a_full_disk_fills_the_journal_and_refuses_until_there_is_space_again() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(
        1,
        Faults {
            space: Some(500),
            ..Faults::default()
        },
    );
    let engine = open(&config, &fs);
    let view = engine.view();
    let mut producer = engine.entrance().producer();
    let mut acknowledged = Vec::new();
    loop {
        let mut lines = line_of(1, acknowledged.len() as u64, 3000);
        if let Err(refused) = producer.reserve(lines.bytes().len(), Duration::from_millis(20)) {
            assert_eq!(refused, Refused::Full);
            break;
        }
        acknowledged.push(lines.bytes().to_vec());
        producer.commit(&mut lines, Level::Journaled);
    }
    let blocks = config.journal_bytes_max as usize / BLOCK_BYTES;
    assert_eq!(acknowledged.len(), blocks);
    until(|| view.status().is_log_failing());
    assert!(
        view.status().log_error().unwrap().contains("No space"),
        "{:?}",
        view.status().log_error()
    );
    assert_eq!(view.journal_bytes().0, (blocks * BLOCK_BYTES) as u64);
    // A reader is not made to wait for a log that cannot be written.
    producer.publish(PATIENCE);

    fs.set(|faults| faults.space = None);
    until(|| view.live_bytes() > 0 && view.ring_depth() == 0);
    let mut lines = line_of(1, acknowledged.len() as u64, 0);
    until(|| producer.try_reserve(1));
    acknowledged.push(lines.bytes().to_vec());
    store(&mut producer, &mut lines, Level::Written);
    assert!(!view.status().is_log_failing());
    assert_eq!(view.status().log_error(), None);
    drop(producer);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    assert_eq!(split(&fs.contents(&config.log).unwrap()), acknowledged);
}

#[test]
fn many_who_wait_for_a_sync_share_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    fs.hold_syncs(true);
    let producers: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let start = |producer| {
            let entrance = engine.entrance();
            scope.spawn(move || produce(&entrance, producer, 1, Level::Synced))
        };
        let threads: Vec<_> = (0..16).map(start).collect();
        until(|| {
            split(&fs.contents(&config.log).unwrap_or_default()).len() == 16
                && engine.view().ring_depth() == 0
        });
        // All are waiting, or about to, while the first sync is held.
        assert!(threads.iter().all(|thread| !thread.is_finished()));
        fs.hold_syncs(false);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(fs.syncs() <= 4, "{} syncs for 16", fs.syncs());
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    assert_conserved(&fs.contents(&config.log).unwrap(), &producers);
}

#[test]
fn by_policy_the_log_is_synced_though_nobody_waits() {
    for fsync in [FsyncPolicy::Always, FsyncPolicy::Every(Duration::from_millis(5))] {
        let directory = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            fsync,
            ..config(directory.path())
        };
        let fs = FaultyFs::new(1, Faults::default());
        let engine = open(&config, &fs);
        for number in 0..3 {
            produce(&engine.entrance(), number, 1, Level::Written);
            until(|| {
                let view = engine.view();
                view.live_bytes() > 0 && view.status().synced_bytes() == view.live_bytes()
            });
        }
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    }
}

#[test]
fn a_lot_that_is_new_is_synced_before_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        fsync: FsyncPolicy::Every(Duration::from_secs(3600)),
        ..config(directory.path())
    };
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    let mut producer = engine.entrance().producer();
    let mut number = 0;
    until(|| {
        let mut lines = line_of(1, number, 16 << 10);
        number += 1;
        producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
        store(&mut producer, &mut lines, Level::Written);
        fs.syncs() > 0
    });
    assert!(number >= 1000, "{number} lines of 16 KiB were new");
    drop(producer);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
}

#[test]
fn writing_goes_on_while_the_sync_before_a_rotation_takes_long() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    let mut producer = engine.entrance().producer();
    let mut write = |number, level, patience| {
        let mut lines = line_of(1, number, 0);
        producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
        let commitment = producer.commit(&mut lines, level);
        producer.wait(commitment, patience).level
    };
    fs.hold_syncs(true);
    assert!(write(0, Level::Synced, Duration::ZERO) < Level::Synced);
    until(|| fs.syncs() == 1);
    engine.rotate();
    for number in 1..4 {
        // Less than a writer that stands for the sync would need.
        assert_eq!(
            write(number, Level::Written, Duration::from_secs(5)),
            Level::Written
        );
        // A read has the writer go once round, and look.
        engine.entrance().producer().publish(PATIENCE);
    }
    assert_eq!(engine.view().sealed_files(), 0);
    fs.hold_syncs(false);
    until(|| engine.view().sealed_files() == 1);
    assert_eq!(write(4, Level::Written, PATIENCE), Level::Written);
    drop(producer);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    assert_eq!(split(&fs.contents(&config.log).unwrap()).len(), 1);
}

#[test]
fn who_waits_for_the_disk_when_the_file_is_taken_away_is_told_the_truth() {
    // A renamed file is synced where it is; a deleted one is nowhere.
    for (is_deleted, expected) in [(false, (Level::Synced, false)), (true, (Level::Written, true))] {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let fs = FaultyFs::new(1, Faults::default());
        let engine = open(&config, &fs);
        let mut producer = engine.entrance().producer();
        // More than what comes after, so that a sync of this file can be taken for one of the next.
        let mut lines = line_of(1, 1, 3000);
        producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
        fs.hold_syncs(true);
        let begun = fs.syncs();
        let commitment = producer.commit(&mut lines, Level::Synced);
        until(|| fs.syncs() > begun);
        match is_deleted {
            true => fs.remove(&config.log).unwrap(),
            false => fs
                .rename_new(&config.log, &directory.path().join("away"))
                .unwrap(),
        }
        engine.check_file();
        if is_deleted {
            until(|| engine.view().sealed_files() == 1);
        } else {
            // The writer syncs it too.
            until(|| fs.syncs() > begun + 1);
        }
        fs.hold_syncs(false);
        let acknowledged = producer.wait(commitment, PATIENCE);
        assert_eq!((acknowledged.level, acknowledged.sync_failed), expected);
        // The next file has a sync of its own.
        let begun = fs.syncs();
        let mut lines = line_of(1, 2, 0);
        producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
        assert_eq!(
            store(&mut producer, &mut lines, Level::Synced).level,
            Level::Synced
        );
        assert!(fs.syncs() > begun || engine.view().status().synced_bytes() == engine.view().live_bytes());
        drop(producer);
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
        assert_eq!(split(&fs.contents(&config.log).unwrap()).len(), 1);
    }
}

#[test]
fn a_stop_says_whether_a_deleted_file_is_copied_back() {
    for comes_space in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let fs = FaultyFs::new(1, Faults::default());
        let engine = open(&config, &fs);
        produce(&engine.entrance(), 1, 3, Level::Written);
        let contents = fs.contents(&config.log).unwrap();
        fs.set(|faults| faults.space = Some(0));
        fs.remove(&config.log).unwrap();
        engine.check_file();
        until(|| engine.view().sealed_files() == 1);
        let name = |path: &Path| path.to_str().unwrap().ends_with("-000001.jsonl");
        let copied = || fs.paths().into_iter().find(|path| name(path));
        if comes_space {
            // A stop that has time waits for it.
            let outcome = std::thread::scope(|scope| {
                let closing = scope.spawn(|| engine.close(Instant::now() + PATIENCE, true));
                fs.set(|faults| faults.space = None);
                closing.join().unwrap()
            });
            assert_eq!(outcome, Outcome::Clean);
            assert_eq!(fs.contents(&copied().unwrap()).unwrap(), contents);
        } else {
            assert_eq!(engine.close(Instant::now(), true), Outcome::FileLost);
            assert_eq!(copied(), None);
        }
    }
}

#[test]
fn what_is_on_the_disk_leaves_the_page_cache_but_for_its_newest_bytes() {
    const MIB: u64 = 1 << 20;
    for (page_cache, steps) in [(Some(0), 6), (Some(5 * MIB), 3), (None, 0)] {
        let directory = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            page_cache,
            ..config(directory.path())
        };
        let fs = FaultyFs::new(1, Faults::default());
        let engine = open(&config, &fs);
        let mut producer = engine.entrance().producer();
        for number in 0..12 * 64 {
            let mut lines = line_of(1, number, 16 << 10);
            producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
            store(&mut producer, &mut lines, Level::Synced);
        }
        drop(producer);
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
        let expected: Vec<_> = (0..steps)
            .map(|step| 2 * step * MIB..2 * (step + 1) * MIB)
            .collect();
        assert_eq!(fs.uncached(), expected);
    }
}

/// The sealed files and the live one, one behind the other. (A file that was left in doubt is sealed sooner or later.)
fn whole_log(fs: &FaultyFs, directory: &Path) -> Vec<u8> {
    let mut names: Vec<_> = fs.names_in(directory).unwrap();
    names.retain(|name| name.to_string_lossy().ends_with(".jsonl"));
    // `metrics-…` comes before `metrics.jsonl`, and its number is behind the time.
    names.sort();
    let contents = names
        .iter()
        .map(|name| fs.contents(&directory.join(name)).unwrap());
    contents.collect::<Vec<_>>().concat()
}

#[test]
fn what_cannot_be_written_stays_in_the_journal_and_the_next_start_brings_it_in() {
    for space in [0, 1, 150, 20_000] {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let fs = FaultyFs::new(
            1,
            Faults {
                space: Some(space),
                ..Faults::default()
            },
        );
        let engine = open(&config, &fs);
        let entrance = engine.entrance();
        let producers: Vec<Vec<Vec<u8>>> = (0..3)
            .map(|producer| produce(&entrance, producer, 50, Level::Journaled))
            .collect();
        drop(entrance);
        assert_eq!(
            engine.close(Instant::now(), true),
            Outcome::LeftInJournal,
            "space {space}"
        );

        // Still no space: nothing is lost by a start that fails.
        assert!(Engine::open(config.clone(), Arc::new(fs.clone())).is_err());
        fs.set(|faults| faults.space = Some(10));
        assert!(Engine::open(config.clone(), Arc::new(fs.clone())).is_err());
        fs.set(|faults| faults.space = None);
        let engine = open(&config, &fs);
        assert!(engine.recovered().events > 0);
        assert_eq!(engine.view().counters().ranking()[0].1, 150);
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
        assert_conserved(&whole_log(&fs, directory.path()), &producers);
        let engine = open(&config, &fs);
        assert_eq!(engine.recovered().events, 0);
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    }
}

#[test]
fn a_strangers_file_in_the_logs_place_costs_no_event() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    // More than will be committed: by length alone every frame would be there.
    let theirs: Vec<u8> = (0..100)
        .flat_map(|number| line_of(7, number, 900).bytes().to_vec())
        .collect();
    fs.put(&config.log, &theirs);
    let ours = produce(&engine.entrance(), 1, 15, Level::Journaled);
    until(|| engine.view().status().is_log_failing());
    assert_eq!(engine.close(Instant::now(), true), Outcome::LeftInJournal);
    let engine = open(&config, &fs);
    assert_eq!(engine.recovered().events, 15);
    let log = fs.contents(&config.log).unwrap();
    assert!(log.starts_with(&theirs));
    assert_eq!(split(&log[theirs.len()..]), ours);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
}

#[test]
fn the_pulse_of_a_writer_that_hangs_is_not_felt_and_a_disk_that_is_full_is_no_hanging() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    let mut pulse = Pulse::of(&engine.view()).with_patience(Duration::ZERO);
    let look = Duration::from_millis(100);
    assert!(pulse.is_felt(PATIENCE), "an idle engine");
    produce(&engine.entrance(), 1, 1, Level::Written);
    // Who changes the faults keeps everybody else out of the file system.
    fs.set(|_| {
        produce(&engine.entrance(), 2, 1, Level::Journaled);
        until(|| !pulse.is_felt(look));
    });
    until(|| pulse.is_felt(look));
    assert!(pulse.is_felt(PATIENCE), "it goes on");
    fs.set(|faults| faults.space = Some(0));
    produce(&engine.entrance(), 3, 1, Level::Journaled);
    until(|| engine.view().status().is_log_failing());
    for _ in 0..5 {
        assert!(pulse.is_felt(look), "a restart would not mend a full disk");
    }
    fs.set(|faults| faults.space = None);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    pulse.is_felt(PATIENCE);
}
