//! Recovery from the images that a crash can leave: the journal's bytes at some moment, and the log's.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::blocks::{BLOCK_BYTES, Block, HEADER_BYTES, PAYLOAD_BYTES, PREFACE_BYTES};
use super::super::frame::{Frame, blocks_for};
use super::super::header::Placement;
use super::super::journal::{Journal, Place, Remains};
use super::super::preface::forged;
use super::super::recovery::{Recovered, recover};
use super::{body, line_of, lines_of, split};
use crate::event::Lines;
use crate::log::LiveFile;
use crate::log::catalog::Catalog;
use crate::log::fs::Fs;
use crate::log::fs::faulty::{Faults, FaultyFs, random};
use crate::log::segment::{Family, SegmentId};
use crate::log::summary::Tally;

/// What a process does to its journal until it is killed.
struct Process {
    directory: tempfile::TempDir,
    journal: Journal,
    free: Vec<Block>,
    ticket: u64,
    used: usize,
}

impl Process {
    fn start() -> Process {
        let directory = tempfile::tempdir().unwrap();
        let (path, log) = paths(directory.path());
        let journal = Journal::create(&Place::File(path), &log, 1 << 20).unwrap();
        let mut free = journal.grow().unwrap();
        // The lowest first: images are cut behind the last block that was ever used.
        free.reverse();
        Process {
            directory,
            journal,
            free,
            ticket: 0,
            used: 0,
        }
    }

    fn commit(&mut self, lines: &Lines, base: u64) -> Frame {
        let count = blocks_for(lines.bytes().len());
        let blocks = self
            .free
            .split_off(self.free.len() - count)
            .into_iter()
            .rev()
            .collect::<Vec<_>>();
        self.used = self.used.max(
            blocks
                .iter()
                .map(|block| block.index() as usize + 1)
                .max()
                .unwrap(),
        );
        self.ticket += 1;
        Frame::commit(
            self.journal.region(),
            blocks.into_iter(),
            lines,
            self.ticket,
            base,
            None,
        )
    }

    /// Gives the frames their places from `place` on; answers where they end.
    fn place(&self, frames: &[Frame], mut place: u64) -> u64 {
        for frame in frames {
            let placement = Placement {
                position: place,
                first_seq: 0,
            };
            self.journal.region().header(frame.head()).place(placement);
            place += frame.stored_bytes() as u64;
        }
        place
    }

    fn free(&mut self, frame: Frame) {
        self.journal.region().header(frame.head()).free();
        self.free.extend(frame.into_blocks());
    }

    /// The journal as it is now.
    fn image(&self) -> Vec<u8> {
        let mut image = std::fs::read(paths(self.directory.path()).0).unwrap();
        image.truncate(PREFACE_BYTES + (self.used + 1) * BLOCK_BYTES);
        forged::blocks(&mut image, self.used + 1);
        image
    }
}

fn paths(directory: &Path) -> (PathBuf, PathBuf) {
    (directory.join("metrics.journal"), directory.join("metrics.jsonl"))
}

/// The same journal after a restart of the machine.
fn rebooted(mut image: Vec<u8>) -> Vec<u8> {
    forged::another_boot(&mut image);
    image
}

/// Where recoveries of one process's images take place.
struct Site<'a> {
    directory: &'a Path,
    fs: FaultyFs,
}

impl<'a> Site<'a> {
    fn new(process: &'a Process, image: &[u8], log: Option<&[u8]>) -> Site<'a> {
        let site = Site {
            directory: process.directory.path(),
            fs: FaultyFs::default(),
        };
        // A new file: the process's own stays mapped.
        let (journal, path) = paths(site.directory);
        std::fs::remove_file(&journal).ok();
        std::fs::write(&journal, image).unwrap();
        if let Some(log) = log {
            site.fs.put(&path, log);
        }
        site
    }

    fn recover(&self) -> io::Result<Recovered> {
        self.recover_as(false)
    }

    fn recover_as(&self, line_seq: bool) -> io::Result<Recovered> {
        let (journal, log) = paths(self.directory);
        let remains = Remains::open(&journal, &log).unwrap();
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let catalog = Catalog::open(Arc::clone(&fs), Family::of(&log), 100)?;
        let mut live = LiveFile::open(fs, &log)?;
        recover(remains.as_ref(), &mut live, &catalog, line_seq)
    }

    /// Recovers with so many bytes of space, then with so many more, and so on, and at last with all there is.
    fn recover_interrupted(&self, spaces: &[u64]) -> Recovered {
        for space in spaces {
            self.fs.set(|faults| {
                *faults = Faults {
                    space: Some(*space),
                    ..Faults::default()
                }
            });
            if let Ok(recovered) = self.recover() {
                return recovered;
            }
        }
        self.fs.set(|faults| *faults = Faults::default());
        self.recover().unwrap()
    }

    fn log(&self) -> Vec<u8> {
        self.fs.contents(&paths(self.directory).1).unwrap_or_default()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Three frames with their places behind `before` (the second has three blocks and five lines), two without.
fn five_frames(before: &[u8]) -> (Process, Vec<u8>, usize) {
    let mut process = Process::start();
    let many: Vec<String> = (0..5)
        .map(|number| body(&format!("visitor-{number}"), "batch", 1800))
        .collect();
    let frames = [
        line_of(1, 1, 5),
        lines_of(&many),
        line_of(1, 2, 50),
        line_of(2, 1, 0),
        line_of(1, 3, 9),
    ];
    let mut whole = before.to_vec();
    let mut placed = Vec::new();
    for (position, lines) in frames.iter().enumerate() {
        let frame = process.commit(lines, before.len() as u64);
        whole.extend_from_slice(lines.bytes());
        if position < 3 {
            placed.push(frame);
        }
    }
    let end = process.place(&placed, before.len() as u64);
    (process, whole, end as usize)
}

#[test]
fn frames_without_a_place_are_appended_in_the_order_of_their_tickets() {
    let mut process = Process::start();
    process.free.reverse();
    let mut whole = Vec::new();
    for number in 0..20 {
        // The blocks are in an order of their own.
        let length = process.free.len();
        process.free.swap(length - 1, (number as usize * 97) % length);
        let lines = line_of(1, number, number as usize);
        whole.extend_from_slice(lines.bytes());
        process.commit(&lines, 0);
    }
    let site = Site::new(&process, &process.image(), None);
    assert_eq!(
        site.recover().unwrap(),
        Recovered {
            events: 20,
            ..Recovered::default()
        }
    );
    assert_eq!(text(&site.log()), text(&whole));
}

#[test]
fn a_write_cut_off_at_any_byte_is_completed_byte_for_byte() {
    let before = line_of(9, 9, 0);
    let (process, whole, end) = five_frames(before.bytes());
    let (killed, restarted) = (process.image(), rebooted(process.image()));
    for cut in (before.bytes().len()..=end).filter(|cut| cut % 3 == 0 || end - cut < 300) {
        let missing = split(&whole).len()
            - split(&whole[..cut])
                .iter()
                .filter(|line| line.ends_with(b"\n"))
                .count();
        for image in [&killed, &restarted] {
            let site = Site::new(&process, image, Some(&whole[..cut]));
            let recovered = site.recover().unwrap();
            assert_eq!(text(&site.log()), text(&whole), "cut at {cut}");
            assert_eq!(
                recovered,
                Recovered {
                    events: missing as u64,
                    ..Recovered::default()
                },
                "cut at {cut}"
            );
            // Once more, as if the journal had not been emptied.
            assert_eq!(site.recover().unwrap(), Recovered::default());
            assert_eq!(site.log(), whole);
        }
    }
}

#[test]
fn a_log_that_was_not_there_yet_gets_everything() {
    let (process, whole, _) = five_frames(b"");
    let site = Site::new(&process, &process.image(), None);
    site.recover().unwrap();
    assert_eq!(text(&site.log()), text(&whole));
}

#[test]
fn a_recovery_interrupted_at_any_byte_and_repeated_comes_to_the_same_log() {
    let before = line_of(9, 9, 0);
    let (process, whole, end) = five_frames(before.bytes());
    for image in [process.image(), rebooted(process.image())] {
        for cut in [before.bytes().len(), before.bytes().len() + 40, end - 10, end] {
            let left = (whole.len() - cut) as u64;
            for space in (0..left).step_by(41).chain(left.saturating_sub(200)..left) {
                let site = Site::new(&process, &image, Some(&whole[..cut]));
                site.recover_interrupted(&[space, space % 17, space / 2]);
                assert_eq!(text(&site.log()), text(&whole), "cut at {cut}, space {space}");
            }
        }
    }
}

#[test]
fn a_log_that_lost_its_end_gets_each_event_once_however_often_recovery_is_interrupted() {
    let before: Vec<u8> = (0..20)
        .flat_map(|number| line_of(8, number, 30).bytes().to_vec())
        .collect();
    let (process, whole, end) = five_frames(&before);
    let of_journal = &whole[before.len()..];
    for image in [process.image(), rebooted(process.image())] {
        for lines_left in 0..20 {
            // Down to a line's end: power went, or somebody cut the file.
            let kept: Vec<u8> = split(&before)[..lines_left].concat();
            for space in (0..of_journal.len() as u64).step_by(397) {
                let site = Site::new(&process, &image, Some(&kept));
                site.recover_interrupted(&[space, 150]);
                assert_eq!(
                    text(&site.log()),
                    text(&[&kept, of_journal].concat()),
                    "{lines_left} left, space {space}"
                );
            }
        }
    }
    assert!(end > before.len());
}

#[test]
fn a_file_that_took_the_logs_place_is_kept_and_loses_nothing() {
    let (process, whole, _) = five_frames(b"");
    let image = process.image();
    for lines_there in [1, 3, 200] {
        let theirs: Vec<u8> = (0..lines_there)
            .flat_map(|number| line_of(7, number, 200).bytes().to_vec())
            .collect();
        for torn in [0, 30] {
            let theirs = &theirs[..theirs.len() - torn];
            for space in (0..4000).step_by(331) {
                let site = Site::new(&process, &image, Some(theirs));
                site.recover_interrupted(&[space, 150]);
                let log = site.log();
                assert!(log.starts_with(theirs));
                assert_eq!(count_of(&log, &whole), 1, "{}", text(&log));
            }
        }
    }
}

/// How often each line of `wanted` is in `log`: the same for all of them.
fn count_of(log: &[u8], wanted: &[u8]) -> usize {
    let counts = counts(log);
    let each: Vec<usize> = split(wanted)
        .iter()
        .map(|line| counts.get(line).copied().unwrap_or(0))
        .collect();
    assert!(each.iter().all(|count| *count == each[0]), "{each:?}");
    each[0]
}

fn counts(log: &[u8]) -> HashMap<&[u8], usize> {
    let mut counts = HashMap::new();
    split(log)
        .into_iter()
        .for_each(|line| *counts.entry(line).or_default() += 1);
    counts
}

#[test]
fn a_damaged_header_never_makes_a_wrong_line_and_what_it_costs_is_reported() {
    let before = line_of(9, 9, 0);
    let (process, whole, end) = five_frames(before.bytes());
    let image = process.image();
    let blocks = (image.len() - PREFACE_BYTES) / BLOCK_BYTES;
    for bit in 0..blocks * HEADER_BYTES * 8 {
        let (block, byte) = (bit / 8 / HEADER_BYTES, bit / 8 % HEADER_BYTES);
        let mut image = image.clone();
        image[PREFACE_BYTES + block * BLOCK_BYTES + byte] ^= 1 << (bit % 8);
        for cut in [before.bytes().len(), before.bytes().len() + 20, end] {
            let site = Site::new(&process, &image, Some(&whole[..cut]));
            let recovered = site.recover().unwrap();
            let what = format!("bit {bit}, cut {cut}");
            check_damage(&site.log(), &whole, &whole[..cut], &recovered, &what);
        }
    }
}

/// All lines are there once, or less those of damaged frames; a torn line may have been closed.
fn check_damage(log: &[u8], whole: &[u8], before: &[u8], recovered: &Recovered, what: &str) {
    assert!(log.starts_with(before));
    let (mut there, wanted) = (counts(log), counts(whole));
    let mut missing = 0;
    for line in wanted.keys() {
        match there.remove(line) {
            None => missing += 1,
            Some(count) => assert!(count == 1, "{what}: {}", text(log)),
        }
    }
    for strange in there.keys() {
        let value: serde_json::Value =
            serde_json::from_slice(strange).unwrap_or_else(|_| panic!("{what}: {}", text(strange)));
        assert!(value["torn"] == true, "{what}: {}", text(strange));
    }
    assert_eq!(there.len(), usize::from(recovered.torn_line_closed));
    assert!(
        missing == 0 || recovered.damaged_frames > 0,
        "{what}: {recovered:?}"
    );
}

#[test]
fn a_damaged_payload_is_reported_and_not_appended() {
    let (process, whole, _) = five_frames(b"");
    let image = process.image();
    let mut dice = 1;
    for _ in 0..500 {
        let mut damaged = image.clone();
        let block = random(&mut dice) as usize % ((image.len() - PREFACE_BYTES) / BLOCK_BYTES);
        let byte = random(&mut dice) as usize % PAYLOAD_BYTES;
        damaged[PREFACE_BYTES + block * BLOCK_BYTES + HEADER_BYTES + byte] ^= 1 << (random(&mut dice) % 8);
        let site = Site::new(&process, &damaged, None);
        let recovered = site.recover().unwrap();
        let what = format!("block {block}, byte {byte}");
        check_damage(&site.log(), &whole, b"", &recovered, &what);
    }
}

#[test]
fn of_a_journal_that_was_cut_off_what_is_left_of_it_is_recovered_and_nothing_else() {
    let before = line_of(9, 9, 0);
    let (process, whole, end) = five_frames(before.bytes());
    let image = process.image();
    let wanted = counts(&whole);
    for image in [image.clone(), rebooted(image)] {
        let edges = (PREFACE_BYTES..=image.len()).step_by(BLOCK_BYTES);
        for length in (PREFACE_BYTES..image.len()).step_by(53).chain(edges) {
            for cut in [before.bytes().len(), before.bytes().len() + 20, end] {
                let site = Site::new(&process, &image[..length], Some(&whole[..cut]));
                let recovered = site.recover().unwrap();
                let log = site.log();
                let missing = (image.len() - length).div_ceil(BLOCK_BYTES);
                assert_eq!(recovered.missing_blocks, missing as u32, "{length}");
                assert!(log.starts_with(&whole[..cut]));
                for (line, count) in counts(&log) {
                    let is_torn =
                        || serde_json::from_slice::<serde_json::Value>(line).unwrap()["torn"] == true;
                    let is_closed = recovered.torn_line_closed && is_torn();
                    let is_right = count == 1 && (wanted.contains_key(line) || is_closed);
                    assert!(is_right, "{length}, cut {cut}: {}", text(line));
                }
            }
        }
    }
}

#[test]
fn a_line_closed_for_a_damaged_frame_is_not_taken_for_the_next_frames_beginning() {
    let mut process = Process::start();
    let (first, second) = (line_of(1, 1, 0), line_of(1, 2, 300));
    let frames = [process.commit(&first, 0), process.commit(&second, 0)];
    process.place(&frames, 0);
    let mut image = process.image();
    image[PREFACE_BYTES + HEADER_BYTES + 10] ^= 1;
    let cut = first.bytes().len() - 2;
    // The closing reaches into the second frame's place; then recovery dies.
    for space in 0..400 {
        let site = Site::new(&process, &image, Some(&first.bytes()[..cut]));
        site.recover_interrupted(&[space]);
        let log = site.log();
        assert_eq!(count_of(&log, second.bytes()), 1, "space {space}: {}", text(&log));
        assert_eq!(split(&log).len(), 2);
    }
}

#[test]
fn after_a_restart_old_states_of_blocks_are_not_appended_again() {
    let before = line_of(9, 9, 0);
    let (process, whole, _) = five_frames(before.bytes());
    let more: Vec<u8> = (0..30)
        .flat_map(|number| line_of(3, number, 80).bytes().to_vec())
        .collect();
    let log = [&whole[..], &more].concat();
    let site = Site::new(&process, &rebooted(process.image()), Some(&log));
    assert_eq!(site.recover().unwrap(), Recovered::default());
    assert_eq!(text(&site.log()), text(&log));
}

#[test]
fn after_a_restart_old_states_of_blocks_whose_lines_are_in_sealed_files_are_not_appended_again() {
    let before = line_of(9, 9, 0);
    let (process, whole, _) = five_frames(before.bytes());
    let live = line_of(3, 1, 80);
    let (_, log) = paths(process.directory.path());
    let family = Family::of(&log);
    let id = |number| SegmentId { number, since: 1 };
    // What the frames have lies in two sealed files; the summary of the second is still to be made.
    let cut = before.bytes().len() + line_of(1, 1, 5).bytes().len();
    let site = Site::new(&process, &rebooted(process.image()), Some(live.bytes()));
    site.fs.put(&family.plain(id(1)), &whole[..cut]);
    site.fs.put(&family.plain(id(2)), &whole[cut..]);
    let (tally, _) = Tally::of(&mut &whole[..cut], 100, |_| ()).unwrap();
    tally
        .summary(id(1), 1)
        .write(&site.fs, &family.summary(id(1)))
        .unwrap();
    assert_eq!(site.recover().unwrap(), Recovered::default());
    assert_eq!(text(&site.log()), text(live.bytes()));
    assert!(site.fs.contents(&family.summary(id(2))).is_some());
}

#[test]
fn after_a_restart_a_torn_line_that_no_frame_has_is_closed_and_marked() {
    let before = line_of(9, 9, 0);
    let (process, whole, _) = five_frames(before.bytes());
    let strange = line_of(4, 4, 0);
    let torn = [before.bytes(), &strange.bytes()[..60]].concat();
    let site = Site::new(&process, &rebooted(process.image()), Some(&torn));
    let recovered = site.recover().unwrap();
    assert_eq!((recovered.events, recovered.torn_line_closed), (9, true));
    let log = site.log();
    assert!(log.starts_with(&torn) && log.ends_with(&whole[before.bytes().len()..]));
    let closed: serde_json::Value = serde_json::from_slice(split(&log)[1]).unwrap();
    assert_eq!(closed["torn"], true);
}

#[test]
fn after_a_restart_a_line_that_is_cut_before_its_number_is_not_completed_without_one() {
    let line = line_of(1, 1, 0);
    let mut process = Process::start();
    process.commit(&line, 0);
    let image = rebooted(process.image());
    for cut in 1..20 {
        let numbered = [b"{\"seq\":7,", &line.bytes()[1..]].concat();
        let site = Site::new(&process, &image, Some(&numbered[..cut]));
        site.recover_as(true).unwrap();
        let log = site.log();
        let lines = split(&log);
        let is_completed = cut > b"{\"seq\":7".len();
        let number = if is_completed { 7 } else { 1 };
        let whole = format!("{{\"seq\":{number},").into_bytes();
        assert_eq!(
            text(lines[lines.len() - 1]),
            text(&[&whole, &line.bytes()[1..]].concat()),
            "cut at {cut}: {}",
            text(&log)
        );
        assert_eq!(lines.len(), if is_completed { 1 } else { 2 }, "cut at {cut}");
    }
}

#[test]
fn after_a_restart_equal_lines_are_in_the_log_as_often_as_they_were_sent() {
    let line = line_of(1, 1, 0);
    for sent in 1..5_usize {
        for written in 0..=sent {
            for earlier in 0..3 {
                let mut process = Process::start();
                // These were freed long ago, and their blocks used again.
                let log = line.bytes().repeat(earlier + written);
                let base = (line.bytes().len() * earlier) as u64;
                for _ in 0..sent {
                    process.commit(&line, base);
                }
                let site = Site::new(&process, &rebooted(process.image()), Some(&log));
                assert_eq!(site.recover().unwrap().events, (sent - written) as u64);
                assert_eq!(text(&site.log()), text(&line.bytes().repeat(earlier + sent)));
            }
        }
    }
}

#[test]
fn after_a_restart_a_frame_with_pages_from_different_times_is_not_believed() {
    let many: Vec<String> = (0..5)
        .map(|number| body(&format!("visitor-{number}"), "batch", 1800))
        .collect();
    let batch = lines_of(&many);
    let mut process = Process::start();
    let old = process.commit(&batch, 0);
    let earlier = process.image();
    process.place(std::slice::from_ref(&old), 0);
    process.free(old);
    let newer: Vec<String> = (0..5)
        .map(|number| body(&format!("visitor-{number}"), "newer", 1800))
        .collect();
    let newer = lines_of(&newer);
    process.commit(&newer, batch.bytes().len() as u64);
    let later = process.image();
    let blocks = blocks_for(batch.bytes().len());
    for pages in 0..1 << blocks {
        let mut mixed = later.clone();
        for block in (0..blocks).filter(|block| pages & 1 << block != 0) {
            let range = PREFACE_BYTES + block * BLOCK_BYTES..PREFACE_BYTES + (block + 1) * BLOCK_BYTES;
            mixed[range.clone()].copy_from_slice(&earlier[range]);
        }
        let site = Site::new(&process, &rebooted(mixed), Some(batch.bytes()));
        let recovered = site.recover().unwrap();
        assert_eq!(recovered.damaged_frames, 0);
        let expected = if pages == 0 {
            [batch.bytes(), newer.bytes()].concat()
        } else {
            batch.bytes().to_vec()
        };
        // The blocks came back in another order, so "all old" is no image of ours; but it must not be believed wrongly.
        assert_eq!(text(&site.log()), text(&expected), "pages {pages:b}");
    }
}

/// Plays a process with random frames, kills it at a random step, and compares with what a plain list says.
#[test]
fn whatever_the_process_did_and_whenever_it_died_each_acknowledged_line_is_there_once() {
    for seed in 0..300 {
        let mut dice = seed;
        let mut below = |most: u64| random(&mut dice) % most;
        let mut process = Process::start();
        // The log as the writer would have it, how much of it is written, and the frames of the last batch.
        let (mut whole, mut written) = (Vec::new(), 0);
        let mut number = 0;
        let (mut ring, mut batch) = (Vec::<(Lines, Frame)>::new(), Vec::<(Lines, Frame)>::new());
        for _ in 0..3 + below(12) {
            // What was being written is written, and freed in part.
            written = whole.len();
            let freed = below(batch.len() as u64 + 1) as usize;
            let is_last = below(6) == 0;
            for (position, (_, frame)) in std::mem::take(&mut batch).into_iter().enumerate() {
                if !is_last || position < freed {
                    process.free(frame);
                }
            }
            if is_last {
                break;
            }
            for _ in 0..below(4) {
                let count = 1 + below(4);
                let bodies: Vec<String> = (0..count)
                    .map(|_| {
                        number += 1;
                        let filler = if below(5) == 0 { 3000 } else { below(60) } as usize;
                        body(&format!("visitor-{number}"), "random", filler)
                    })
                    .collect();
                let lines = lines_of(&bodies);
                if process.free.len() > 40 {
                    let frame = process.commit(&lines, written as u64);
                    ring.push((lines, frame));
                }
            }
            let taken = below(ring.len() as u64 + 1) as usize;
            batch = ring.drain(..taken).collect();
            let mut place = whole.len() as u64;
            for (lines, frame) in &batch {
                place = process.place(std::slice::from_ref(frame), place);
                whole.extend_from_slice(lines.bytes());
            }
            written += below((whole.len() - written) as u64 + 1) as usize;
        }
        let log = whole[..written].to_vec();
        ring.iter()
            .for_each(|(lines, _)| whole.extend_from_slice(lines.bytes()));
        let spaces: Vec<u64> = (0..below(4)).map(|_| below(whole.len() as u64 + 2)).collect();

        let site = Site::new(&process, &process.image(), Some(&log));
        site.recover_interrupted(&spaces);
        assert_eq!(text(&site.log()), text(&whole), "seed {seed}");

        // Power went instead: the log lost some of its end, and some pages of the journal never reached the disk.
        let kept = &log[..log.len() - below(log.len() as u64 / 4 + 1) as usize];
        let mut image = rebooted(process.image());
        for block in 0..process.used {
            if below(8) == 0 {
                image[PREFACE_BYTES + block * BLOCK_BYTES..][..BLOCK_BYTES].fill(0);
            }
        }
        let site = Site::new(&process, &image, Some(kept));
        site.recover_interrupted(&spaces);
        let log = site.log();
        assert!(log.starts_with(kept), "seed {seed}");
        let known = counts(&whole);
        let mut torn = 0;
        for (line, count) in counts(&log) {
            if known.contains_key(line) {
                assert_eq!(count, 1, "seed {seed}: {}", text(line));
            } else {
                let value: serde_json::Value = serde_json::from_slice(line).unwrap();
                assert_eq!(value["torn"], true, "seed {seed}: {}", text(line));
                torn += count;
            }
        }
        assert!(
            torn <= 1,
            "seed {seed}: a frame that is lost has no rest, the others are completed"
        );
        // And again: nothing is left to do.
        assert_eq!(site.recover().unwrap(), Recovered::default(), "seed {seed}");
        assert_eq!(site.log(), log);
    }
}
