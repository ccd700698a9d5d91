//! Random histories of a log, held against a list in memory: events at every level, rotations, restarts, kills at any call
//! that changes a file, compression, retention, the hands of other programs on the live file, readers at any place.
//!
//! What must hold after each: every committed line is in the log once, in order, with its number where lines have numbers;
//! totals, the recent window, sequence numbers and summaries say what the lines say; a cursor reads on from any place that
//! a line ever had. A history depends on its seed, but for the timing of threads: a failure names the seed, and
//! `MODEL_SEED=… MODEL_ROUNDS=1` plays it again. `MODEL_ROUNDS` plays more of them (`scripts/crash` does).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::numbered::number;
use super::super::{Commitment, Engine, EngineConfig, FsyncPolicy, Level, Producer};
use super::{PATIENCE, config, lines_of, until};
use crate::event::{Lines, Parser, facts_of_line};
use crate::log::cursor::{Cursor, Notice, Position, Start, Step};
use crate::log::fs::dying::DyingFs;
use crate::log::fs::faulty::random;
use crate::log::fs::{Fs, OsFs};
use crate::log::keeper::compress::Compression;
use crate::log::segment::{Family, SegmentId};
use crate::log::summary::{Summary, Tally};

/// Histories that a usual run of the tests plays, and what happens in each.
const ROUNDS: u64 = 4;
const STEPS: usize = 150;
/// How long a level is waited for while the process may have died.
const TOUCH: Duration = Duration::from_millis(1);

/// What becomes of a sealed file.
#[derive(Clone, Debug)]
struct Sealed {
    id: SegmentId,
    /// The numbers of its lines, from 0.
    lines: std::ops::Range<usize>,
    /// Another program took it away.
    is_moved: bool,
}

struct World {
    dice: u64,
    config: EngineConfig,
    fs: DyingFs,
    engine: Option<Engine>,
    producer: Option<Producer>,
    /// All lines that were ever committed, as they are stored.
    lines: Vec<Vec<u8>>,
    sealed: BTreeMap<u64, Sealed>,
    /// How many lines there were when the engine was opened.
    lines_at_open: usize,
    /// Lines, the newest first, that could be read then.
    readable_at_open: Vec<usize>,
    /// A place for each line that a reader has seen.
    places: BTreeMap<Position, usize>,
    /// Reads along.
    follower: Option<Cursor>,
    followed: usize,
    /// How many files were sealed when it was last asked for one more.
    sealed_before_request: Option<usize>,
    /// Retention was on once.
    has_retained: bool,
    moved: u64,
    /// The live file has just been taken away, and perhaps nobody has noticed.
    is_taken: bool,
    directory: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> World {
        let directory = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            line_seq: seed.is_multiple_of(2),
            ..config(directory.path())
        };
        let mut world = World {
            dice: seed,
            follower: Cursor::open(&config.log, Start::Beginning).ok(),
            config,
            fs: DyingFs::new(seed),
            engine: None,
            producer: None,
            lines: Vec::new(),
            sealed: BTreeMap::new(),
            lines_at_open: 0,
            readable_at_open: Vec::new(),
            places: BTreeMap::new(),
            followed: 0,
            sealed_before_request: None,
            has_retained: false,
            moved: 0,
            is_taken: false,
            directory,
        };
        world.open();
        world
    }

    fn below(&mut self, end: u64) -> u64 {
        random(&mut self.dice) % end
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn family(&self) -> Family {
        Family::of(&self.config.log)
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it is open between two steps")
    }

    /// Opens the engine with settings of its own, however often it takes.
    fn open(&mut self) {
        self.config.rotation.bytes = self.pick(&[None, Some(1_500), Some(6_000)]);
        self.config.publish_interval = Duration::from_millis(self.pick(&[0, 1, 4]));
        self.config.fsync = self.pick(&[
            FsyncPolicy::Never,
            FsyncPolicy::Always,
            FsyncPolicy::Every(Duration::from_millis(5)),
        ]);
        self.config.page_cache = self.pick(&[None, Some(0)]);
        let compression = Compression {
            after: Duration::ZERO,
            level: 1,
        };
        self.config.keep.compression = self.pick(&[None, Some(compression)]);
        self.config.keep.retention.files = self.pick(&[None, None, Some(4)]);
        self.has_retained |= self.config.keep.retention.files.is_some();
        let is_flaky = self.pick(&[false, false, true]);
        if self.below(3) == 0 {
            // It may be killed while it starts, and again.
            self.fs.live_again(false);
            let calls = self.pick(&[0, 1, 2, 5]);
            self.fs.die_after(calls);
        } else {
            self.fs.live_again(is_flaky);
        }
        self.sealed_before_request = None;
        self.lines_at_open = self.lines.len();
        loop {
            match Engine::open(self.config.clone(), Arc::new(self.fs.clone())) {
                Ok(engine) => {
                    self.engine = Some(engine);
                    self.producer = Some(self.engine().entrance().producer());
                    break;
                }
                Err(error) => assert!(self.fs.is_dead() || is_flaky, "{error}"),
            }
            self.fs.live_again(false);
        }
        until(|| !self.engine().view().is_recovering() || self.fs.is_dead());
        if self.fs.is_dead() {
            return self.crash();
        }
        self.fs.live_again(is_flaky);
        self.learn();
        let gone = |line: &usize| {
            let file = self.sealed.values().find(|file| file.lines.contains(line));
            file.is_some_and(|file| !self.is_there(file.id))
        };
        let readable = (0..self.lines_at_open).rev().filter(|line| !gone(line));
        self.readable_at_open = readable.collect();
    }

    fn close(&mut self) {
        self.producer = None;
        let engine = self.engine.take().expect("it is open between two steps");
        let deadline = match self.fs.is_dead() {
            true => Instant::now(),
            false => Instant::now() + PATIENCE,
        };
        engine.close(deadline, true);
    }

    fn crash(&mut self) {
        self.fs.die();
        self.close();
        self.open();
    }

    fn restart(&mut self) {
        self.close();
        self.open();
    }

    fn is_there(&self, id: SegmentId) -> bool {
        let family = self.family();
        family.compressed(id).exists() || family.plain(id).exists()
    }

    /// Commits some lines as one frame, and waits for a level.
    fn commit(&mut self) {
        let count = 1 + self.below(4);
        let is_long = self.below(20) == 0;
        let bodies: Vec<String> = (0..count)
            .map(|at| {
                let (name, minute) = (self.below(4), self.below(3));
                let filler = "x".repeat(if is_long { 5_000 } else { self.below(150) as usize });
                let visitor = self.lines.len() as u64 + at;
                format!(
                    r#"{{"visitor_id":"visitor-{visitor}","event":"name-{name}","timestamp":"2025-10-09T12:{minute:02}:00Z","metadata":{{"filler":"{filler}"}}}}"#
                )
            })
            .collect();
        let mut lines = lines_of(&bodies);
        let joins = self.below(3) == 0;
        let producer = self.producer.as_mut().expect("it is open between two steps");
        let has_room = match self.fs.is_dead() {
            true => producer.try_reserve(lines.bytes().len()),
            false => producer.reserve(lines.bytes().len(), TOUCH).is_ok(),
        };
        if !has_room {
            return;
        }
        let first = self.lines.len() as u64 + 1;
        let mut stored = lines.bytes().to_vec();
        if self.config.line_seq {
            stored.clear();
            number(std::iter::once(lines.bytes()), first, &mut stored);
        }
        let split = stored.split_inclusive(|byte| *byte == b'\n');
        self.lines.extend(split.map(<[u8]>::to_vec));
        let level = self.pick(&[Level::Journaled, Level::Journaled, Level::Written, Level::Synced]);
        let producer = self.producer.as_mut().expect("it is open between two steps");
        let commitment = match joins {
            false => Some(producer.commit(&mut lines, level)),
            true => join(producer, &bodies, level),
        };
        let is_mortal = self.fs.is_mortal();
        let Some(commitment) = commitment else { return };
        let reached = producer.wait(commitment, if is_mortal { TOUCH } else { PATIENCE });
        // Of a file that was deleted who waits may be told that it is nowhere yet.
        assert!(
            is_mortal || reached.level == level || (self.is_taken && reached.sync_failed),
            "{reached:?}"
        );
        if reached.level > Level::Journaled {
            assert_eq!(reached.first_sequence, first);
        }
    }

    fn rotate(&mut self) {
        if !self.publish() || self.engine().view().live_bytes() == 0 {
            return;
        }
        self.sealed_before_request = Some(self.engine().view().sealed_files());
        self.engine().rotate();
        // On a disk that fails it can be put off for seconds.
        if self.below(2) == 0 && !self.fs.is_flaky() {
            self.await_rotation();
        }
    }

    /// Waits until no file is about to be sealed.
    fn await_rotation(&mut self) {
        let view = self.engine().view();
        let most = self.config.rotation.bytes.unwrap_or(u64::MAX);
        let before = self.sealed_before_request.take();
        until(|| {
            let is_sealed = before.is_none_or(|before| view.sealed_files() > before);
            self.fs.is_dead() || (is_sealed && view.live_bytes() < most)
        });
    }

    /// Another program deletes or renames the live file.
    fn take_away(&mut self) {
        if self.fs.is_mortal() || self.fs.is_flaky() || !self.publish() {
            return;
        }
        self.await_rotation();
        if !self.config.log.exists() {
            return;
        }
        let newest = |world: &World| world.family().list(&OsFs).unwrap().into_keys().next_back();
        let before = newest(self);
        let away = self.directory.path().join(format!("away-{}", self.moved));
        let is_deleted = self.below(2) == 0;
        match is_deleted {
            true => std::fs::remove_file(&self.config.log),
            false => std::fs::rename(&self.config.log, &away),
        }
        .unwrap();
        self.is_taken = true;
        (0..self.below(3)).for_each(|_| self.commit());
        self.is_taken = false;
        self.engine().check_file();
        // Its summary tells that it was noticed.
        until(|| newest(self) != before);
        let id = newest(self).expect("one has come");
        if is_deleted {
            until(|| self.is_there(id) || self.has_retained);
        } else {
            self.moved += 1;
            self.learn_moved(id.number, &std::fs::read(away).unwrap());
        }
    }

    /// Publishes all that is committed; `false` if the process has died before.
    fn publish(&mut self) -> bool {
        let view = self.engine().view();
        let producer = self.producer.as_mut().expect("it is open between two steps");
        until(|| {
            producer.publish(TOUCH);
            let is_done = view.ring_depth() == 0 && !view.status().is_log_failing();
            self.fs.is_dead()
                || (is_done
                    && view
                        .counters()
                        .ranking()
                        .iter()
                        .map(|(_, count)| count)
                        .sum::<u64>()
                        == self.lines.len() as u64)
        });
        !self.fs.is_dead()
    }

    fn lines(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        self.lines[range].concat()
    }

    fn learn_moved(&mut self, number: u64, contents: &[u8]) {
        self.learn();
        let file = self.sealed.get_mut(&number).expect("its summary is there");
        file.is_moved = true;
        let range = file.lines.clone();
        assert!(
            self.lines(range) == contents,
            "file {number} was moved with other lines"
        );
    }

    /// What a sealed file has, unpacked; `None` if it is not there.
    fn contents(&self, id: SegmentId) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = crate::log::catalog::open_file(&OsFs, &self.family(), id).unwrap()?;
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        Some(bytes)
    }

    /// Looks which files were sealed since the last look, and checks their lines.
    fn learn(&mut self) {
        let mut next = self.sealed.values().next_back().map_or(0, |file| file.lines.end);
        let list = self.family().list(&OsFs).unwrap();
        for id in list.into_keys() {
            if self.sealed.contains_key(&id.number) {
                continue;
            }
            let count = match self.contents(id) {
                Some(contents) => {
                    let count = memchr::memchr_iter(b'\n', &contents).count();
                    assert!(
                        self.lines
                            .get(next..next + count)
                            .is_some_and(|lines| lines.concat() == contents),
                        "file {} has other lines than those from {next} on",
                        id.number
                    );
                    count
                }
                None => self.summary(id).expect("a file that is gone has a summary").lines as usize,
            };
            let lines = next..next + count;
            next = lines.end;
            self.sealed.insert(
                id.number,
                Sealed {
                    id,
                    lines,
                    is_moved: false,
                },
            );
        }
    }

    fn summary(&self, id: SegmentId) -> Option<Summary> {
        Summary::read(&OsFs, &self.family().summary(id), id).unwrap()
    }

    /// All that can be seen from outside, at rest.
    fn check(&mut self) {
        if !self.publish() {
            return;
        }
        // Until no file was sealed meanwhile.
        let live = loop {
            self.learn();
            let identity = OsFs.identity_at(&self.config.log).unwrap();
            let live = std::fs::read(&self.config.log).unwrap_or_default();
            let known = self.sealed.len();
            self.learn();
            if known == self.sealed.len() && OsFs.identity_at(&self.config.log).unwrap() == identity {
                break live;
            }
        };
        let front = self.sealed.values().next_back().map_or(0, |file| file.lines.end);
        assert!(
            self.lines(front..self.lines.len()) == live,
            "the live file is not the lines from {front} on"
        );
        for (number, file) in &self.sealed {
            match self.contents(file.id) {
                Some(contents) => assert!(
                    self.lines(file.lines.clone()) == contents,
                    "file {number} has changed"
                ),
                None => assert!(file.is_moved || self.has_retained, "file {number} is gone"),
            }
            self.check_summary(file);
        }
        self.check_counts();
        self.check_window();
    }

    fn check_summary(&self, file: &Sealed) {
        until(|| self.fs.is_dead() || self.summary(file.id).is_some());
        let Some(stored) = self.summary(file.id) else {
            return;
        };
        let contents = self.lines(file.lines.clone());
        let (tally, _) = Tally::of(&mut &contents[..], self.config.names_max, |_| ()).unwrap();
        let expected = tally.summary(file.id, file.lines.start as u64 + 1);
        assert_eq!(format!("{stored:?}"), format!("{expected:?}"));
    }

    fn check_counts(&self) {
        let mut expected: HashMap<Vec<u8>, u64> = HashMap::new();
        for line in &self.lines {
            let name = facts_of_line(line).unwrap().name.to_vec();
            *expected.entry(name).or_default() += 1;
        }
        let ranking = self.engine().view().counters().ranking();
        let counted: HashMap<Vec<u8>, u64> = ranking
            .into_iter()
            .map(|(name, count)| (name.to_vec(), count))
            .collect();
        assert_eq!(counted, expected);
    }

    fn check_window(&self) {
        let mut window = Vec::new();
        self.engine()
            .view()
            .recent()
            .lock()
            .newest(usize::MAX, |line| window.push([line, b"\n"].concat()));
        let (capacity, count) = (self.config.ring_capacity, self.lines.len());
        let since = (count - self.lines_at_open).min(capacity);
        let newest: Vec<_> = self.lines.iter().rev().take(since).cloned().collect();
        assert!(
            window[..since] == newest,
            "the window has not the {since} newest lines"
        );
        let older = &window[since..];
        let readable: Vec<_> = self
            .readable_at_open
            .iter()
            .map(|at| self.lines[*at].clone())
            .collect();
        if self.config.keep.retention.files.is_none() {
            assert!(
                readable.starts_with(older),
                "the window has other lines than the newest"
            );
        }
        // Of compressed files it reads three.
        if self.config.keep.compression.is_none() && !self.has_retained && self.moved == 0 {
            assert_eq!(window.len(), capacity.min(count));
        }
    }

    /// Reads to the end from the cursor's place: each line once and in order but for those of files that are gone. Answers
    /// how many lines it has read; `next` is the number of the one that comes first, if that is known.
    fn read(&mut self, cursor: &mut Cursor, next: &mut Option<usize>) -> usize {
        let mut count = 0;
        loop {
            match cursor.step().unwrap() {
                Step::Line(line) => {
                    let bytes = [line.bytes, b"\n"].concat();
                    let at = next.unwrap_or_else(|| {
                        let found = self.lines.iter().position(|line| *line == bytes);
                        found.expect("the line was committed")
                    });
                    assert!(
                        self.lines.get(at) == Some(&bytes),
                        "{}: it is not line {at}",
                        line.at
                    );
                    assert_eq!(*self.places.entry(line.at).or_insert(at), at, "{}", line.at);
                    *next = Some(at + 1);
                    count += 1;
                }
                Step::Notice(Notice::Gap { first, last }) => {
                    self.learn();
                    for number in first..=last {
                        let file = &self.sealed[&number];
                        assert!(file.is_moved || self.has_retained, "file {number} is no gap");
                    }
                    *next = Some(self.sealed[&last].lines.end);
                }
                Step::Notice(notice) => panic!("{notice}"),
                Step::End => return count,
            }
        }
    }

    fn read_anywhere(&mut self) {
        if !self.publish() {
            return;
        }
        let log = self.config.log.clone();
        let last = self.below(7);
        let (start, mut next) = match self.below(3) {
            0 => (Start::Beginning, None),
            1 => (Start::Last(last), None),
            _ => match self.places.len() as u64 {
                0 => return,
                count => {
                    let at = self.below(count) as usize;
                    let (place, line) = self.places.iter().nth(at).unwrap();
                    (Start::At(*place), Some(*line))
                }
            },
        };
        let mut cursor = Cursor::open(&log, start).unwrap();
        let count = self.read(&mut cursor, &mut next);
        let end = self.lines.len();
        assert!(
            next.is_none_or(|next| next == end),
            "{start:?}: {next:?} of {end}"
        );
        if start == Start::Last(last) && self.moved == 0 && !self.has_retained {
            assert_eq!(count as u64, last.min(end as u64));
        }
    }

    fn follow(&mut self) {
        if !self.publish() {
            return;
        }
        let mut follower = self.follower.take().expect("it is put back");
        // Who begins with the oldest line there is hears nothing of those before it.
        let mut next = Some(self.followed).filter(|followed| *followed > 0);
        self.read(&mut follower, &mut next);
        self.followed = next.unwrap_or(self.followed);
        assert!(self.followed == self.lines.len() || next.is_none());
        self.follower = Some(follower);
    }

    fn step(&mut self) {
        match self.below(100) {
            0..50 => self.commit(),
            50..58 => self.rotate(),
            58..66 => self.check(),
            66..76 => self.read_anywhere(),
            76..82 => self.follow(),
            82..86 => self.restart(),
            86..88 => self.crash(),
            88..94 if !self.fs.is_mortal() => {
                let calls = self.below(12);
                self.fs.die_after(calls);
            }
            88..96 => self.take_away(),
            _ => (0..10).for_each(|_| self.commit()),
        }
        if self.fs.is_dead() {
            self.crash();
        }
    }
}

/// Adds these to a group, one by one, and has it committed; what to wait for, if the level is to be waited for. There is
/// room for them: it was reserved.
fn join(producer: &mut Producer, bodies: &[String], level: Level) -> Option<Commitment> {
    producer.release();
    let mut commitment = None;
    for body in bodies {
        let add = |lines: &mut Lines| Parser::new(32 << 10).single(body.as_bytes(), None, None, lines);
        let joined = producer.join(body.len() + 100, level, || TOUCH, add);
        commitment = joined.expect("there is room").commitment.or(commitment);
    }
    producer.settle();
    commitment
}

fn play(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    // What is still to come may not come any more.
    world.crash();
    world.check();
    world.follow();
    world.restart();
    world.check();
    world.close();
}

#[test]
fn a_random_history_leaves_what_a_list_in_memory_has() {
    let asked = |name| {
        std::env::var(name)
            .ok()
            .map(|text: String| text.parse().expect("a whole number"))
    };
    let first = asked("MODEL_SEED").unwrap_or(1);
    for seed in first..first + asked("MODEL_ROUNDS").unwrap_or(ROUNDS) {
        let played = std::panic::catch_unwind(|| play(seed));
        if let Err(panic) = played {
            eprintln!("the history of MODEL_SEED={seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}
