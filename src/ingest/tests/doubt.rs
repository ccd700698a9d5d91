//! The engine on a disk that does not take a sync.

use std::sync::Arc;
use std::time::Instant;

use super::super::{Engine, EngineConfig, Level, Outcome, RotationPolicy};
use super::faults::{open, produce};
use super::{PATIENCE, config, line_of, split, store, until};
use crate::log::fs::Fs;
use crate::log::fs::faulty::{Faults, FaultyFs};
use crate::log::segment::Family;

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
        until(|| !engine.view().status().is_sync_failing());
        until(|| fs.contents(&rescue).is_none());
        // Where nothing could be done before, the next start has had to.
        let family = Family::of(&config.log);
        let sealed = family.list(&fs).unwrap().into_keys().next();
        assert_eq!(sealed.is_none(), outcome == Outcome::Clean);
        let path = sealed.map_or(config.log.clone(), |id| family.plain(id));
        assert_eq!(fs.contents(&path).unwrap(), whole);
        assert_eq!(fs.contents(&family.doubt()), None);
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
fn bytes_that_are_appended_while_the_sync_of_an_empty_file_fails_are_in_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let fs = FaultyFs::new(1, Faults::default());
    let engine = open(&config, &fs);
    produce(&engine.entrance(), 1, 1, Level::Synced);
    // The next file's entry is being synced, and will not be.
    let begun = fs.syncs();
    fs.hold_syncs(true);
    fs.set(|faults| (faults.syncs, faults.rewrites) = (1, u32::MAX));
    engine.rotate();
    until(|| fs.syncs() > begun);
    let (view, hooked) = (engine.view(), fs.clone());
    fs.after_append(move || {
        let asked = hooked.lengths_asked();
        hooked.hold_syncs(false);
        until(|| view.status().sync_failures() == 1);
        // The sync thread looks, or has drawn its conclusions.
        until(|| hooked.lengths_asked() > asked || hooked.syncs() > begun + 1);
    });
    let lines = produce(&engine.entrance(), 2, 1, Level::Synced);
    let rescued = fs.contents(&Family::of(&config.log).rescue(2)).unwrap();
    assert!(
        rescued.ends_with(&lines[0]),
        "{}",
        String::from_utf8_lossy(&rescued)
    );
    engine.close(Instant::now() + PATIENCE, true);
}
