//! The live file on a file system that fails.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::LiveFile;
use super::fs::Fs;
use super::fs::faulty::{Faults, FaultyFs, random};
use super::segment::{Family, SegmentId};

const LOG: &str = "data/metrics.jsonl";
const STAGING: &str = "data/metrics.jsonl.new";

fn open(fs: &FaultyFs) -> LiveFile {
    LiveFile::open(Arc::new(fs.clone()), Path::new(LOG)).unwrap()
}

/// Appends as the writer does: after an error it comes back with what is left. Answers the errors.
fn append(live: &mut LiveFile, pieces: &[&[u8]]) -> Vec<io::Error> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    let mut errors = Vec::new();
    while let Err(error) = live.append(&mut rest) {
        errors.push(error);
        assert!(errors.len() < 1000, "the file system works now and then");
    }
    assert!(rest.is_empty());
    errors
}

fn log(fs: &FaultyFs) -> Vec<u8> {
    fs.contents(Path::new(LOG)).unwrap_or_default()
}

#[test]
fn short_writes_are_continued() {
    let fs = FaultyFs::new(
        1,
        Faults {
            short: 255,
            ..Faults::default()
        },
    );
    let mut live = open(&fs);
    assert!(
        append(
            &mut live,
            &[b"", b"{\"a\":1}\n", b"", b"{\"b\":2}\n{\"c\"", b":3}\n"]
        )
        .is_empty()
    );
    assert_eq!(log(&fs), b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n");
    assert_eq!(live.length(), 24);
}

#[test]
fn nothing_half_written_is_ever_followed_by_anything_but_the_rest_of_itself() {
    for seed in 0..300 {
        let mut dice = seed;
        let faults = Faults {
            short: 60,
            interrupted: 30,
            torn: 60,
            nothing: 20,
            ..Faults::default()
        };
        let fs = FaultyFs::new(seed, faults);
        let mut live = open(&fs);
        let mut expected = Vec::new();
        for batch in 0..20 {
            let lines: Vec<String> = (0..random(&mut dice) % 5)
                .map(|line| format!("{batch}.{line}{}\n", "x".repeat(random(&mut dice) as usize % 40)))
                .collect();
            let pieces: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            // Whether the length can be asked for right after a failure, is another matter.
            let lengths = random(&mut dice) as u32 % 3;
            fs.set(|faults| faults.lengths = lengths);
            append(&mut live, &pieces);
            expected.extend(pieces.concat());
            assert_eq!(
                String::from_utf8(log(&fs)),
                String::from_utf8(expected.clone()),
                "seed {seed}"
            );
            assert_eq!(live.length(), expected.len() as u64);
        }
    }
}

#[test]
fn a_part_that_a_failed_call_left_is_counted_even_if_the_length_cannot_be_asked_for_at_once() {
    let fs = FaultyFs::new(3, Faults::default());
    let mut live = open(&fs);
    append(&mut live, &[b"first\n"]);
    for seed in 0..20 {
        fs.set(|faults| {
            *faults = Faults {
                torn: 200,
                lengths: 2,
                ..Faults::default()
            }
        });
        append(&mut live, &[format!("line {seed}\n").as_bytes()]);
    }
    let expected: String = (0..20).map(|seed| format!("line {seed}\n")).collect();
    assert_eq!(String::from_utf8(log(&fs)).unwrap(), format!("first\n{expected}"));
}

#[test]
fn a_full_disk_gives_the_error_and_space_lets_it_go_on() {
    let fs = FaultyFs::new(
        4,
        Faults {
            space: Some(10),
            ..Faults::default()
        },
    );
    let mut live = open(&fs);
    let mut slices = [IoSlice::new(b"0123456\n"), IoSlice::new(b"89abcdef\n")];
    let mut rest = &mut slices[..];
    for _ in 0..3 {
        assert_eq!(
            live.append(&mut rest).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(live.length(), 10);
        assert_eq!(&*rest[0], b"abcdef\n");
    }
    assert_eq!(log(&fs), b"", "the first batch is not there in part");
    fs.set(|faults| faults.space = None);
    live.append(&mut rest).unwrap();
    assert_eq!(log(&fs), b"0123456\n89abcdef\n");
}

#[test]
fn the_file_appears_with_its_first_batch_in_it() {
    for seed in 0..100 {
        let faults = Faults {
            short: 100,
            torn: 80,
            renames: 2,
            creates: 1,
            ..Faults::default()
        };
        let fs = FaultyFs::new(seed, faults);
        fs.watch(Path::new(LOG));
        let mut live = open(&fs);
        assert!(live.file().is_none());
        append(&mut live, &[b"one\n", b"two\n", b"three\n"]);
        assert!(live.file().is_some());
        let mut seen: Vec<usize> = fs.watched().into_iter().flatten().collect();
        seen.dedup();
        assert_eq!(seen, [14], "seed {seed}");
        assert_eq!(fs.contents(Path::new(STAGING)), None);
    }
}

#[test]
fn an_empty_file_that_somebody_made_meanwhile_gives_way_to_the_first_batch() {
    let fs = FaultyFs::new(
        5,
        Faults {
            torn: 128,
            ..Faults::default()
        },
    );
    let mut live = open(&fs);
    fs.put(Path::new(LOG), b"");
    append(&mut live, &[b"one\n"]);
    assert_eq!(log(&fs), b"one\n");
    append(&mut live, &[b"two\n"]);
    assert_eq!(log(&fs), b"one\ntwo\n");
}

#[test]
fn a_file_with_something_in_it_is_not_replaced_and_the_batch_waits_for_it_to_go() {
    let fs = FaultyFs::new(6, Faults::default());
    let mut live = open(&fs);
    fs.put(Path::new(LOG), b"theirs\n");
    let mut slices = [IoSlice::new(b"ours\n")];
    let mut rest = &mut slices[..];
    for _ in 0..3 {
        assert_eq!(
            live.append(&mut rest).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(live.file().is_none());
        assert_eq!(log(&fs), b"theirs\n");
    }
    fs.rename_new(Path::new(LOG), Path::new("data/theirs")).unwrap();
    live.append(&mut rest).unwrap();
    assert_eq!(log(&fs), b"ours\n");
}

#[test]
fn a_staging_file_that_was_left_behind_is_removed() {
    let fs = FaultyFs::new(7, Faults::default());
    fs.put(Path::new(STAGING), b"half a ba");
    let mut live = open(&fs);
    assert_eq!(fs.contents(Path::new(STAGING)), None);
    assert_eq!(live.length(), 0);
    append(&mut live, &[b"one\n"]);
    assert_eq!(log(&fs), b"one\n");
}

#[test]
fn a_new_files_directory_is_synced_before_its_first_batch_counts_as_written() {
    let fs = FaultyFs::new(
        8,
        Faults {
            directory_syncs: 2,
            ..Faults::default()
        },
    );
    let mut live = open(&fs);
    assert_eq!(append(&mut live, &[b"one\n"]).len(), 2);
    assert_eq!(fs.directory_syncs(), 1);
    append(&mut live, &[b"two\n"]);
    assert_eq!((fs.directory_syncs(), &log(&fs)[..]), (1, &b"one\ntwo\n"[..]));
}

#[test]
fn a_file_that_is_sealed_leaves_its_place_for_no_more_than_the_next_rename() {
    let family = Family::of(Path::new(LOG));
    let id = SegmentId { number: 1, since: 1 };
    // Once as it should be, once where files have one name, once where the directory cannot be synced at first.
    for (links, directory_syncs, absent) in [(0, 0, 1), (1, 0, 2), (0, 1, 2)] {
        let fs = FaultyFs::new(9, Faults::default());
        let mut live = open(&fs);
        append(&mut live, &[b"one\n"]);
        fs.watch(Path::new(LOG));
        fs.set(|faults| (faults.links, faults.directory_syncs) = (links, directory_syncs));
        live.rotate(&family, id).unwrap();
        let seen = fs.watched();
        let times = seen.iter().filter(|length| length.is_none()).count();
        assert_eq!(times, absent, "{seen:?}");
        append(&mut live, &[b"two\n"]);
        assert_eq!(log(&fs), b"two\n");
        assert_eq!(fs.contents(&family.plain(id)).unwrap(), b"one\n");
        let second = fs.contents(&family.sealing(id));
        assert_eq!(second.is_some(), links == 0);
        // Before that goes, the directory is synced by who does it.
        fs.remove(&family.sealing(id)).ok();
        assert_eq!(fs.paths().len(), 2, "{:?}", fs.paths());
    }
}

#[test]
fn a_file_that_cannot_be_sealed_goes_on_with_one_name() {
    let family = Family::of(Path::new(LOG));
    let fs = FaultyFs::new(10, Faults::default());
    let mut live = open(&fs);
    append(&mut live, &[b"one\n"]);
    fs.set(|faults| faults.renames = 1);
    live.rotate(&family, SegmentId { number: 1, since: 1 })
        .unwrap_err();
    assert_eq!(fs.paths(), [Path::new(LOG)]);
    append(&mut live, &[b"two\n"]);
    assert_eq!(log(&fs), b"one\ntwo\n");
}

#[test]
fn whatever_names_a_file_has_when_its_sealing_is_cut_off_it_has_one_after_the_next_start() {
    let family = Family::of(Path::new(LOG));
    let id = SegmentId { number: 7, since: 1 };
    let (live, plain, second) = (family.live(), family.plain(id), family.sealing(id));
    // The names of the old file; whether the new one is in place; where the old one is in the end.
    for (names, has_next, end) in [
        (vec![&live, &second], false, &live),
        (vec![&plain, &second], false, &plain),
        (vec![&live, &plain, &second], false, &plain),
        (vec![&plain, &second], true, &plain),
        (vec![&second], true, &plain),
        (vec![&second], false, &plain),
    ] {
        let fs = FaultyFs::new(11, Faults::default());
        fs.put(names[0], b"old\n");
        for name in &names[1..] {
            fs.link(names[0], name).unwrap();
        }
        if has_next {
            fs.put(&live, b"next\n");
        }
        family.settle(&fs).unwrap();
        assert_eq!(fs.contents(end).as_deref(), Some(&b"old\n"[..]), "{names:?}");
        let expected = if has_next { 2 } else { 1 };
        assert_eq!(fs.paths().len(), expected, "{names:?}: {:?}", fs.paths());
    }
    // One that was left behind by a file that has been packed or removed since brings nothing back.
    for known in [family.summary(id), family.compressed(id)] {
        let fs = FaultyFs::new(12, Faults::default());
        fs.put(&second, b"old\n");
        fs.put(&known, b"known");
        family.settle(&fs).unwrap();
        assert_eq!(fs.paths(), [known]);
    }
}
