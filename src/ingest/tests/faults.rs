//! The engine on a disk that fails.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::blocks::BLOCK_BYTES;
use super::super::{Engine, EngineConfig, Entrance, FsyncPolicy, Level, Outcome, Refused, RotationPolicy};
use super::engine::assert_conserved;
use super::{PATIENCE, config, line_of, split, store, until};
use crate::log::fs::Fs;
use crate::log::fs::faulty::{Faults, FaultyFs};
use crate::log::segment::Family;

fn open(config: &EngineConfig, fs: &FaultyFs) -> Engine {
    let engine = Engine::open(config.clone(), Arc::new(fs.clone())).unwrap();
    until(|| !engine.view().is_recovering());
    engine
}

fn produce(entrance: &Entrance, producer: u64, count: u64, level: Level) -> Vec<Vec<u8>> {
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
fn after_a_failed_sync_what_was_in_doubt_is_on_the_disk_in_a_fresh_file_before_anybody_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    let view = engine.view();
    let mut producer = engine.entrance().producer();
    let mut commit = |number, level| {
        let mut lines = line_of(1, number, 0);
        producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
        let acknowledged = store(&mut producer, &mut lines, level);
        (acknowledged.level, acknowledged.sync_failed)
    };
    assert_eq!(commit(1, Level::Synced), (Level::Synced, false));
    assert_eq!(view.status().synced_bytes(), view.live_bytes());
    // The file cannot be healed for now, so that what was rescued can be looked at.
    fs.set(|faults| (faults.syncs, faults.rewrites) = (1, 1));
    assert_eq!(commit(2, Level::Written), (Level::Written, false));
    assert_eq!(commit(3, Level::Synced), (Level::Synced, false));
    let family = Family::of(&config.log);
    let rescued = fs.contents(&family.rescue(1)).unwrap();
    let doubtful = [line_of(1, 2, 0).bytes(), line_of(1, 3, 0).bytes()].concat();
    assert!(
        rescued.ends_with(&doubtful),
        "{}",
        String::from_utf8_lossy(&rescued)
    );
    assert_eq!(split(&rescued).len(), 1 + 2, "a header, and what was in doubt");

    until(|| !view.status().is_sync_failing());
    assert_eq!(view.sealed_files(), 1);
    assert_eq!(view.status().sync_failures(), 1);
    let told = view.status().sync_error().unwrap();
    assert!(told.contains("nothing is lost"), "{told}");
    for number in 4..6 {
        assert_eq!(commit(number, Level::Synced), (Level::Synced, false));
    }
    drop(producer);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    let sealed = family.list(&fs).unwrap().into_keys().next().unwrap();
    let (first, second) = (family.plain(sealed), config.log.clone());
    assert_eq!(split(&fs.contents(&first).unwrap()).len(), 3);
    assert_eq!(split(&fs.contents(&second).unwrap()).len(), 2);

    // Power goes: the disk has never had what was in doubt.
    let whole = fs.contents(&first).unwrap();
    let mut lost = whole.clone();
    let length = lost.len();
    lost[length - doubtful.len()..].fill(0);
    for damaged in [&lost[..], &whole[..length - doubtful.len()], &whole] {
        fs.put(&first, damaged);
        fs.put(&family.rescue(1), &rescued);
        let engine = open(&config, &fs);
        assert_eq!(fs.contents(&first).unwrap(), whole);
        assert_eq!(fs.contents(&family.rescue(1)), None);
        assert_eq!(engine.view().counters().ranking()[0].1, 5);
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    }
}

#[test]
fn a_sealed_file_is_healed_while_the_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    fs.set(|faults| faults.syncs = 1);
    produce(&engine.entrance(), 1, 3, Level::Synced);
    let rescue = Family::of(&config.log).rescue(1);
    until(|| engine.view().sealed_files() == 1 && fs.contents(&rescue).is_none());
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
}

#[test]
fn while_nothing_can_be_synced_waiters_are_told_so_and_events_are_taken_at_the_lower_levels() {
    let directory = tempfile::tempdir().unwrap();
    let config = EngineConfig {
        rotation: RotationPolicy {
            bytes: Some(1),
            ..config(directory.path()).rotation
        },
        ..config(directory.path())
    };
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    let view = engine.view();
    let mut producer = engine.entrance().producer();
    let mut commit = |number, level| {
        let mut lines = line_of(1, number, 0);
        producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
        let acknowledged = store(&mut producer, &mut lines, level);
        (acknowledged.level, acknowledged.sync_failed)
    };
    fs.set(|faults| faults.syncs = u32::MAX);
    assert_eq!(commit(1, Level::Synced), (Level::Written, true));
    assert!(view.status().is_sync_failing());
    for number in 2..30 {
        // Also those who ask in the pause are told, and at once.
        let level = [Level::Journaled, Level::Written, Level::Synced][number as usize % 3];
        assert_eq!(
            commit(number, level),
            (level.min(Level::Written), level == Level::Synced)
        );
    }
    assert!(!view.status().is_log_failing());
    assert_eq!(view.sealed_files(), 0, "what is in doubt is one file's");
    fs.set(|faults| faults.syncs = 0);
    until(|| !view.status().is_sync_failing() && view.sealed_files() == 1);
    assert_eq!(commit(30, Level::Synced), (Level::Synced, false));
    drop(producer);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
}

#[test]
fn what_cannot_be_read_back_is_lost_and_told_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    let view = engine.view();
    let mut producer = engine.entrance().producer();
    let mut lines = line_of(1, 1, 0);
    producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
    fs.hold_syncs(true);
    fs.set(|faults| faults.syncs = 1);
    let commitment = producer.commit(&mut lines, Level::Synced);
    until(|| fs.syncs() > 0);
    // The kernel goes back to what the disk has.
    fs.write_again(&config.log, 20, &mut &[0; 30][..]).unwrap();
    fs.hold_syncs(false);
    let acknowledged = producer.wait(commitment, PATIENCE);
    assert_eq!(
        (acknowledged.level, acknowledged.sync_failed),
        (Level::Written, true)
    );
    until(|| !view.status().is_sync_failing());
    assert!(view.status().sync_error().unwrap().contains("may be lost"));
    assert_eq!(fs.contents(&Family::of(&config.log).rescue(1)), None);
    let mut lines = line_of(1, 2, 0);
    producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
    assert_eq!(
        store(&mut producer, &mut lines, Level::Synced).level,
        Level::Synced
    );
    drop(producer);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
}

#[test]
fn a_stop_after_a_failed_sync_leaves_what_is_in_doubt_in_a_fresh_file() {
    for (syncs, outcome) in [(1, Outcome::Clean), (u32::MAX, Outcome::NotSynced)] {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let fs = FaultyFs::new(1, Faults::default());
        let engine = open(&config, &fs);
        produce(&engine.entrance(), 1, 3, Level::Written);
        fs.set(|faults| faults.syncs = syncs);
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), outcome);
        fs.set(|faults| faults.syncs = 0);
        let rescue = Family::of(&config.log).rescue(1);
        let whole = fs.contents(&config.log).unwrap();
        assert_eq!(fs.contents(&rescue).is_some(), outcome == Outcome::Clean);
        if outcome == Outcome::Clean {
            // The live file itself is healed by the next start, and by none that cannot.
            fs.put(&config.log, &whole[..10]);
            fs.set(|faults| faults.rewrites = 1);
            assert!(Engine::open(config.clone(), Arc::new(fs.clone())).is_err());
        }
        let engine = open(&config, &fs);
        // What is still in doubt is sealed by and by.
        let family = Family::of(&config.log);
        until(|| {
            let sealed = family.list(&fs).unwrap().into_keys();
            let sealed = sealed.filter_map(|id| fs.contents(&family.plain(id)));
            let log: Vec<_> = sealed.chain(fs.contents(&config.log)).collect();
            log.concat() == whole
        });
        until(|| fs.contents(&rescue).is_none());
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
    }
}

#[test]
fn a_directory_that_cannot_be_opened_is_no_failed_sync() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    let view = engine.view();
    produce(&engine.entrance(), 1, 3, Level::Synced);
    fs.set(|faults| faults.directory_opens = 3);
    engine.rotate();
    until(|| view.sealed_files() == 1);
    produce(&engine.entrance(), 2, 3, Level::Synced);
    assert_eq!(
        (view.status().sync_failures(), view.status().sync_error()),
        (0, None)
    );
    // While the disk does not take the old file's new name, no other gets the one it had.
    fs.set(|faults| faults.directory_syncs = u32::MAX);
    engine.rotate();
    until(|| view.sealed_files() == 2);
    let mut producer = engine.entrance().producer();
    let mut lines = line_of(4, 1, 0);
    producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
    let commitment = producer.commit(&mut lines, Level::Synced);
    until(|| view.status().is_log_failing());
    assert_eq!(fs.contents(&config.log), None);
    fs.set(|faults| faults.directory_syncs = 0);
    assert_eq!(producer.wait(commitment, PATIENCE).level, Level::Synced);
    drop(producer);
    produce(&engine.entrance(), 3, 3, Level::Synced);
    assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
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
    for (page_cache, steps) in [(Some(0), 3), (Some(5 * MIB), 1), (None, 0)] {
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
            .map(|step| 4 * step * MIB..4 * (step + 1) * MIB)
            .collect();
        assert_eq!(fs.uncached(), expected);
    }
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
        assert_conserved(&fs.contents(&config.log).unwrap(), &producers);
        assert_eq!(engine.view().counters().ranking()[0].1, 150);
        assert_eq!(engine.close(Instant::now() + PATIENCE, true), Outcome::Clean);
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
