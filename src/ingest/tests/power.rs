//! The power goes: what the disk may have at any moment of an engine's life is opened again, with the real recovery.
//!
//! A story is some lives of one log, each ended by a power cut at one of the moments that were taken of it. At all of these
//! moments, and at some of the recoveries from them, a disk is made up ([`crate::log::fs::power`]), with a journal whose pages are
//! from different times, and checked: what was acknowledged as synced is there once, everything else at most once, each line
//! is whole or marked, numbers and counts are right.
//!
//! Choices are made from the seed. The threads of an engine come to their steps in an order of their own, so a seed does not
//! always tell the same story; it mostly does, as there is one producer. `POWER_ROUNDS` and `POWER_SEED` ask for more stories.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::super::blocks::PREFACE_BYTES;
use super::super::numbered;
use super::super::preface::forged;
use super::super::{Engine, EngineConfig, FsyncPolicy, Level, Producer, RotationPolicy};
use super::{PATIENCE, body, config, lines_of, split, until};
use crate::event::facts_of_line;
use crate::log::fs::faulty::random;
use crate::log::fs::power::{Image, Moment, PowerFs};
use crate::log::segment::Family;
use crate::log::summary::{Summary, Tally};

/// Stories that are told by `cargo test`.
const ROUNDS: u64 = 4;
const PAGE_BYTES: usize = 4096;

/// The journal's file at some moment: which file it is, and its bytes.
type JournalBytes = Option<(u64, Vec<u8>)>;

/// What is added to a moment.
struct Witness {
    journal: JournalBytes,
    /// Lines acknowledged as synced.
    synced: BTreeSet<u64>,
}

type Power = PowerFs<Witness>;

/// A disk, and what must be on it.
#[derive(Clone, Default)]
struct Disk {
    image: Image,
    journal: Option<Vec<u8>>,
    synced: BTreeSet<u64>,
}

struct Story {
    name: String,
    dice: u64,
    config: EngineConfig,
    /// Every line that was ever committed, without its number.
    committed: BTreeMap<u64, Vec<u8>>,
    synced: Arc<Mutex<BTreeSet<u64>>>,
    /// The journal that was there before the engine began: recovery has what it notes in it on the disk before it goes on.
    left_journal: Option<u64>,
    _directory: tempfile::TempDir,
}

/// Shows what there is, in brief, if the test fails.
struct Shown(&'static str, Power);

impl Drop for Shown {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (path, bytes) in self.1.files() {
            eprintln!("{}: {} has {} bytes", self.0, path.display(), bytes.len());
            for line in split(&bytes) {
                eprintln!(
                    "    {}",
                    String::from_utf8_lossy(&line[..line.len().min(60)]).trim_end()
                );
            }
        }
    }
}

fn journal_path(config: &EngineConfig) -> PathBuf {
    config.log.with_extension("journal")
}

fn read_journal(path: &Path) -> JournalBytes {
    let bytes = std::fs::read(path).ok()?;
    Some((std::fs::metadata(path).ok()?.ino(), bytes))
}

/// The journal as of another start of the machine.
fn of_another_boot(mut journal: Vec<u8>) -> Vec<u8> {
    if journal.len() >= PREFACE_BYTES {
        forged::another_boot(&mut journal);
    }
    journal
}

impl Story {
    fn new(seed: u64) -> Story {
        // The journal is a real file: its syncs need not wait for a disk.
        let memory = Path::new("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let mut dice = seed;
        let rotate = [None, Some(2_000), Some(6_000)][random(&mut dice) as usize % 3];
        let fsync = match random(&mut dice) % 3 {
            0 => FsyncPolicy::Always,
            1 => FsyncPolicy::Never,
            _ => FsyncPolicy::Every(Duration::from_millis(3)),
        };
        let config = EngineConfig {
            fsync,
            line_seq: seed.is_multiple_of(2),
            rotation: RotationPolicy {
                bytes: rotate,
                every: None,
                rest: Duration::ZERO,
            },
            ..config(directory.path())
        };
        Story {
            name: format!("seed {seed}"),
            dice,
            config,
            committed: BTreeMap::new(),
            synced: Arc::default(),
            left_journal: None,
            _directory: directory,
        }
    }

    fn below(&mut self, most: u64) -> u64 {
        random(&mut self.dice) % most
    }

    /// The disk, as a file system that takes moments.
    fn mount(&mut self, disk: &Disk, sync_fails: u8, moments: u32) -> Power {
        let path = journal_path(&self.config);
        std::fs::remove_file(&path).ok();
        if let Some(journal) = &disk.journal {
            std::fs::write(&path, journal).unwrap();
        }
        self.left_journal = read_journal(&path).map(|(file, _)| file);
        *self.synced.lock().unwrap() = disk.synced.clone();
        let synced = Arc::clone(&self.synced);
        let seed = random(&mut self.dice);
        PowerFs::new(&disk.image, seed, sync_fails, moments, move || Witness {
            journal: read_journal(&path),
            synced: synced.lock().unwrap().clone(),
        })
    }

    /// Opens the log; a start that fails for want of a sync is made again.
    fn open(&self, fs: &Power, rotates: bool) -> Engine {
        let mut config = self.config.clone();
        if !rotates {
            config.rotation.bytes = None;
        }
        let engine = Engine::open(config.clone(), Arc::new(fs.clone())).or_else(|_| {
            fs.set_sync_fails(0);
            Engine::open(config, Arc::new(fs.clone()))
        });
        let engine = engine.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        until(|| !engine.view().is_recovering());
        engine
    }

    /// A life of the log: events at all levels, rotations, failed syncs, starts. Answers the disks that there may be after it.
    fn live(&mut self, disk: &Disk) -> Vec<Disk> {
        let sync_fails = [0, 0, 40, 120][self.below(4) as usize];
        let fs = self.mount(disk, sync_fails, 14);
        for _ in 0..1 + self.below(2) {
            let engine = self.open(&fs, true);
            let mut producer = engine.entrance().producer();
            for _ in 0..5 + self.below(20) {
                match self.below(12) {
                    0 => engine.rotate(),
                    1 => producer.publish(PATIENCE),
                    2 => fs.set_sync_fails([0, sync_fails][self.below(2) as usize]),
                    _ => self.commit(&mut producer),
                }
            }
            drop(producer);
            engine.close(Instant::now() + PATIENCE, true);
        }
        self.disks(fs.moments())
    }

    fn commit(&mut self, producer: &mut Producer) {
        let first = self.committed.len() as u64;
        let count = 1 + self.below(4);
        let bodies: Vec<String> = (first..first + count)
            .map(|number| {
                let filler = if self.below(8) == 0 {
                    5_000
                } else {
                    self.below(300)
                };
                body(
                    &format!("visitor-{number}"),
                    &format!("name-{}", number % 3),
                    filler as usize,
                )
            })
            .collect();
        let mut lines = lines_of(&bodies);
        for (number, line) in (first..).zip(split(lines.bytes())) {
            self.committed.insert(number, line.to_vec());
        }
        let level = [Level::Journaled, Level::Written, Level::Synced][self.below(3) as usize];
        producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
        let commitment = producer.commit(&mut lines, level);
        if producer.wait(commitment, PATIENCE).level == Level::Synced {
            self.synced.lock().unwrap().extend(first..first + count);
        }
    }

    /// What the disk may have at these moments.
    fn disks(&mut self, moments: Vec<Moment<Witness>>) -> Vec<Disk> {
        let mut disks = Vec::new();
        for (position, moment) in moments.iter().enumerate() {
            for _ in 0..2 {
                let image = moment.image(&mut self.dice);
                disks.push(Disk {
                    image,
                    journal: self.journal_of(&moments[..=position]),
                    synced: moment.witness.synced.clone(),
                });
            }
        }
        disks
    }

    /// A journal with pages from any of these moments.
    fn journal_of(&mut self, moments: &[Moment<Witness>]) -> Option<Vec<u8>> {
        let (file, newest) = moments.last()?.witness.journal.as_ref()?;
        let earlier: Vec<&Vec<u8>> = moments
            .iter()
            .filter_map(|moment| moment.witness.journal.as_ref())
            .filter_map(|(other, bytes)| (other == file).then_some(bytes))
            .collect();
        let mut mixed = newest.clone();
        let is_mixed = self.below(3) > 0 && Some(*file) != self.left_journal;
        for page in 1..mixed.len().div_ceil(PAGE_BYTES) {
            let range = page * PAGE_BYTES..((page + 1) * PAGE_BYTES).min(mixed.len());
            if !is_mixed || self.below(3) > 0 {
                continue;
            }
            let other = earlier[self.below(earlier.len() as u64) as usize];
            match other.get(range.clone()).filter(|_| self.below(4) > 0) {
                Some(bytes) => mixed[range].copy_from_slice(bytes),
                None => mixed[range].fill(0),
            }
        }
        Some(of_another_boot(mixed))
    }

    /// Brings the log up from a disk, and checks it; and again where the power goes meanwhile.
    fn check(&mut self, disk: &Disk, depth: u32) {
        let _before = Shown("before", self.mount(disk, 0, 0));
        let fs = self.mount(disk, 0, if depth > 0 { 3 } else { 0 });
        let _after = Shown("after", fs.clone());
        // Nothing is sealed while it is looked at.
        let engine = self.open(&fs, false);
        until(|| !engine.view().status().is_sync_failing());
        let events = self.check_files(&fs, &disk.synced);
        let counted: u64 = engine
            .view()
            .counters()
            .ranking()
            .iter()
            .map(|(_, count)| count)
            .sum();
        assert_eq!(counted, events, "{}: counts", self.name);
        // What comes now is taken as ever.
        let mut producer = engine.entrance().producer();
        self.commit(&mut producer);
        drop(producer);
        engine.close(Instant::now() + PATIENCE, true);
        let synced = self.synced.lock().unwrap().clone();
        self.check_files(&fs, &synced);
        if depth > 0 {
            for disk in self.disks(fs.moments()) {
                self.check(&disk, depth - 1);
            }
        }
    }

    /// Checks every file and every line; answers how many events there are.
    fn check_files(&self, fs: &Power, synced: &BTreeSet<u64>) -> u64 {
        let family = Family::of(&self.config.log);
        let mut seen: Vec<u64> = Vec::new();
        let mut last_number = 0;
        for (id, parts) in family.list(fs).unwrap() {
            let bytes = fs.contents(&family.plain(id));
            let bytes = bytes.unwrap_or_else(|| panic!("{}: file {} is gone", self.name, id.number));
            self.check_lines(&bytes, &mut seen, &mut last_number);
            if parts.summary {
                let summary = Summary::read(fs, &family.summary(id), id).unwrap().unwrap();
                let (tally, _) = Tally::of(&mut &bytes[..], 100, |_| ()).unwrap();
                let found = tally.summary(id, summary.first_seq);
                let figures =
                    |summary: &Summary| (summary.bytes, summary.lines, summary.events, summary.crc32c);
                assert_eq!(
                    figures(&summary),
                    figures(&found),
                    "{}: file {}",
                    self.name,
                    id.number
                );
            }
        }
        let live = fs.contents(&self.config.log).unwrap_or_default();
        self.check_lines(&live, &mut seen, &mut last_number);
        let once: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(
            once.len(),
            seen.len(),
            "{}: a line is there twice: {seen:?}",
            self.name
        );
        let missing: Vec<_> = synced.difference(&once).collect();
        assert!(missing.is_empty(), "{}: synced and lost: {missing:?}", self.name);
        let in_order: Vec<_> = seen.iter().filter(|number| synced.contains(number)).collect();
        assert!(in_order.is_sorted(), "{}: out of order: {in_order:?}", self.name);
        seen.len() as u64
    }

    fn check_lines(&self, bytes: &[u8], seen: &mut Vec<u64>, last_number: &mut u64) {
        let shown = |line: &[u8]| format!("{}: {}", self.name, String::from_utf8_lossy(line));
        for line in split(bytes) {
            let value: serde_json::Value =
                serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", shown(line)));
            if facts_of_line(line.strip_suffix(b"\n").unwrap()).is_none() {
                assert!(
                    value["torn"] == true || value == serde_json::json!({}),
                    "{}",
                    shown(line)
                );
                continue;
            }
            let (number, rest) = numbered::split(line);
            assert_eq!(number.is_some(), self.config.line_seq, "{}", shown(line));
            if let Some(number) = number {
                assert!(number > *last_number, "after {last_number}: {}", shown(line));
                *last_number = number;
            }
            let visitor = value["visitor_id"]
                .as_str()
                .unwrap()
                .strip_prefix("visitor-")
                .unwrap();
            let which: u64 = visitor.parse().unwrap();
            assert_eq!(&self.committed[&which][1..], rest, "{}", shown(line));
            seen.push(which);
        }
    }
}

/// Plays a story of some lives.
fn play(seed: u64) {
    let mut story = Story::new(seed);
    let mut disk = Disk::default();
    for life in 0..3 {
        let disks = story.live(&disk);
        for (position, disk) in disks.iter().enumerate() {
            story.name = format!("seed {seed}, life {life}, disk {position}");
            let depth = u32::from(story.below(6) == 0);
            story.check(disk, depth);
        }
        disk = disks[story.below(disks.len() as u64) as usize].clone();
        story.name = format!("seed {seed}, after life {life}");
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_was_synced_is_there_once_whenever_the_power_goes() {
    let first = from_environment("POWER_SEED").unwrap_or(1);
    for seed in first..first + from_environment("POWER_ROUNDS").unwrap_or(ROUNDS) {
        play(seed);
    }
}
