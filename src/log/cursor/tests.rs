//! A cursor against a log that is written, rotated, compressed and removed under it.

use std::fs;
use std::io::{IoSlice, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::log::LiveFile;
use crate::log::summary::Tally;

/// A log, and what it must read as.
struct World {
    folder: TempDir,
    family: Family,
    live: LiveFile,
    number: u64,
    /// Bytes of the live file, half a line included.
    length: u64,
    /// Every whole line there ever was.
    lines: Vec<(Position, String)>,
    half: String,
    plain: Vec<SegmentId>,
    packed: Vec<SegmentId>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        World {
            family: Family::of(&path),
            live: LiveFile::open(Arc::new(OsFs), &path).unwrap(),
            folder,
            number: 1,
            length: 0,
            lines: Vec::new(),
            half: String::new(),
            plain: Vec::new(),
            packed: Vec::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("metrics.jsonl")
    }

    fn write(&mut self, text: &str) {
        self.live
            .append(&mut &mut [IoSlice::new(text.as_bytes())][..])
            .unwrap();
        for part in text.split_inclusive('\n') {
            self.half.push_str(part);
            self.length += part.len() as u64;
            if let Some(line) = self.half.strip_suffix('\n') {
                let at = Position {
                    number: self.number,
                    offset: self.length - self.half.len() as u64,
                };
                self.lines.push((at, line.to_owned()));
                self.half.clear();
            }
        }
    }

    fn line(&mut self) {
        let count = self.lines.len();
        self.write(&format!("line {count} {}\n", "x".repeat(count % 7)));
    }

    /// Seals the live file, unless it is empty or ends within a line.
    fn rotate(&mut self) -> Option<SegmentId> {
        if self.length == 0 || !self.half.is_empty() {
            return None;
        }
        let id = SegmentId {
            number: self.number,
            since: 1_000_000 + self.number,
        };
        self.live.rotate(&self.family, id).unwrap();
        (self.number, self.length) = (self.number + 1, 0);
        self.plain.push(id);
        Some(id)
    }

    fn summarise(&self, id: SegmentId) {
        let mut file = fs::File::open(self.family.plain(id)).unwrap();
        let (tally, _) = Tally::of(&mut file, 100, |_| ()).unwrap();
        let summary = tally.summary(id, 1);
        summary.write(&OsFs, &self.family.summary(id)).unwrap();
    }

    fn compress(&mut self, at: usize) {
        let id = self.plain.remove(at);
        pack(&self.family, id);
        self.packed.push(id);
    }

    fn read(&self, start: Start) -> Vec<(Position, String)> {
        collect(&mut Cursor::open(&self.path(), start).unwrap())
    }
}

fn pack(family: &Family, id: SegmentId) {
    fs::create_dir_all(family.archive_directory()).unwrap();
    let bytes = fs::read(family.plain(id)).unwrap();
    let aside = family.archive_directory().join("aside");
    fs::write(&aside, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    fs::rename(&aside, family.compressed(id)).unwrap();
    fs::remove_file(family.plain(id)).unwrap();
}

fn collect<S: Selection>(cursor: &mut Cursor<S>) -> Vec<(Position, String)> {
    let mut lines = Vec::new();
    loop {
        match cursor.step().unwrap() {
            Step::Line(line) => lines.push((line.at, String::from_utf8(line.bytes.to_vec()).unwrap())),
            Step::Notice(notice) => panic!("{notice}"),
            Step::End => return lines,
        }
    }
}

/// The next step, a notice.
fn notice(cursor: &mut Cursor) -> Notice {
    match cursor.step().unwrap() {
        Step::Notice(notice) => notice,
        other => panic!("{other:?}"),
    }
}

/// Five files of 3 to 40 lines: two in the archive, two plain, the live one.
fn five_files() -> World {
    let mut world = World::new();
    for lines in [40, 3, 5, 17] {
        for _ in 0..lines {
            world.line();
        }
        world.rotate();
    }
    world.compress(0);
    world.compress(1);
    for _ in 0..4 {
        world.line();
    }
    world
}

#[test]
fn every_start_reads_the_lines_from_there_on() {
    let mut world = five_files();
    world.write("half a li");
    let whole = world.lines.clone();
    assert_eq!(world.read(Start::Beginning), whole);
    assert_eq!(world.read(Start::End), []);
    for count in 0..=whole.len() + 2 {
        let expected = &whole[whole.len().saturating_sub(count)..];
        assert_eq!(
            world.read(Start::Last(count as u64)),
            expected,
            "the last {count}"
        );
    }
    for (at, (position, _)) in whole.iter().enumerate() {
        assert_eq!(world.read(Start::At(*position)), whole[at..], "from {position}");
    }
}

#[test]
fn a_line_says_where_reading_goes_on_behind_it() {
    let world = five_files();
    let mut cursor = Cursor::open(&world.path(), Start::Beginning).unwrap();
    for rest in (0..world.lines.len()).rev() {
        let Step::Line(line) = cursor.step().unwrap() else {
            panic!("a line");
        };
        let next = line.next;
        assert_eq!(world.read(Start::At(next)).len(), rest);
        assert_eq!(cursor.position(), next);
    }
}

#[test]
fn a_place_where_no_line_begins_is_refused() {
    let world = five_files();
    let open = |number, offset| {
        let start = Start::At(Position { number, offset });
        Cursor::open(&world.path(), start)
            .err()
            .map(|error| error.to_string())
    };
    for number in [1, 2, 5] {
        for offset in [1, 9_999] {
            let expected = format!("no line of the log begins at {number}:{offset}");
            assert_eq!(open(number, offset), Some(expected));
        }
    }
    let expected = "6:0 is not in the log, whose newest file has the number 5";
    assert_eq!(open(6, 0).as_deref(), Some(expected));
}

#[test]
fn an_empty_log_is_awaited() {
    let mut world = World::new();
    for start in [
        Start::Beginning,
        Start::End,
        Start::Last(3),
        Start::At(Position::FIRST),
    ] {
        assert_eq!(world.read(start), []);
    }
    let mut cursor = Cursor::open(&world.path(), Start::End).unwrap();
    assert_eq!(cursor.step().unwrap(), Step::End);
    world.line();
    assert_eq!(collect(&mut cursor), world.lines);
}

#[test]
fn half_a_line_is_handed_out_when_it_is_whole() {
    let mut world = World::new();
    let mut cursor = Cursor::open(&world.path(), Start::Beginning).unwrap();
    for byte in ["l", "i", "n", "e"] {
        world.write(byte);
        assert_eq!(cursor.step().unwrap(), Step::End);
    }
    assert_eq!(cursor.half_line_bytes(), 4);
    world.write("\nnext");
    assert_eq!(collect(&mut cursor), world.lines);
    assert_eq!(world.lines.len(), 1);
    assert_eq!(cursor.position().to_string(), "1:5");
}

#[test]
fn what_was_written_between_the_last_read_and_the_rename_is_read() {
    let mut world = World::new();
    world.line();
    let mut cursor = Cursor::open(&world.path(), Start::Beginning).unwrap();
    let mut seen = collect(&mut cursor);
    world.line();
    world.rotate();
    world.line();
    world.rotate();
    // The file it has open, and the one after it, are in the archive when it looks.
    world.compress(0);
    world.compress(0);
    world.line();
    seen.extend(collect(&mut cursor));
    assert_eq!(seen, world.lines);
}

#[test]
fn files_removed_before_they_were_opened_are_a_gap_and_those_that_are_open_are_not() {
    let mut world = five_files();
    let mut from_begin = Cursor::open(&world.path(), Start::Beginning).unwrap();
    let mut from_place = Cursor::open(&world.path(), Start::At(Position::FIRST)).unwrap();
    for id in [world.packed[0], world.plain[0], world.packed[1]] {
        fs::remove_file(world.family.plain(id))
            .or_else(|_| fs::remove_file(world.family.compressed(id)))
            .unwrap();
    }
    for cursor in [&mut from_begin, &mut from_place] {
        let before = world.lines.iter().take(40);
        for (at, _) in before {
            assert!(matches!(cursor.step().unwrap(), Step::Line(line) if line.at == *at));
        }
        assert_eq!(notice(cursor), Notice::Gap { first: 2, last: 3 });
        assert_eq!(collect(cursor), world.lines[48..]);
    }
    // A name that leads nowhere is no file.
    std::os::unix::fs::symlink("nowhere", world.family.plain(world.plain[0])).unwrap();
    // What was gone before is none to who begins with what there is.
    assert_eq!(world.read(Start::Beginning), world.lines[48..]);
    assert_eq!(world.read(Start::Last(1_000)), world.lines[48..]);
    let mut late = Cursor::open(&world.path(), Start::At(Position { number: 3, offset: 7 })).unwrap();
    assert_eq!(notice(&mut late), Notice::Gap { first: 3, last: 3 });
    assert_eq!(collect(&mut late), world.lines[48..]);
    world.line();
    assert_eq!(collect(&mut late), world.lines[world.lines.len() - 1..]);
}

#[test]
fn a_strangers_hand_on_the_live_file_is_told() {
    let mut world = five_files();
    let mut cursor = Cursor::open(&world.path(), Start::Last(1)).unwrap();
    assert_eq!(collect(&mut cursor).len(), 1);
    let at = cursor.position();
    fs::write(world.path(), "one\n").unwrap();
    assert_eq!(notice(&mut cursor), Notice::Truncated { at });
    assert_eq!(collect(&mut cursor), [(Position::begin_of(5), "one".to_owned())]);
    let at = cursor.position();
    fs::rename(world.path(), world.folder.path().join("taken")).unwrap();
    assert_eq!(cursor.step().unwrap(), Step::End);
    fs::write(world.path(), "two\n").unwrap();
    assert_eq!(cursor.step().unwrap(), Step::End);
    cursor.patience = Duration::ZERO;
    assert_eq!(notice(&mut cursor), Notice::Replaced { at });
    assert_eq!(collect(&mut cursor), [(Position::begin_of(5), "two".to_owned())]);
    // A sealed file without its last newline, as a power cut and a hasty hand may leave it.
    let id = SegmentId { number: 5, since: 9 };
    fs::OpenOptions::new()
        .append(true)
        .open(world.path())
        .unwrap()
        .write_all(b"thr")
        .unwrap();
    fs::rename(world.path(), world.family.plain(id)).unwrap();
    let at = Position { number: 5, offset: 4 };
    assert_eq!(notice(&mut cursor), Notice::HalfLine { at, bytes: 3 });
    assert_eq!(cursor.step().unwrap(), Step::End);
    world.plain.push(id);
}

#[test]
fn a_live_file_that_was_taken_away_is_read_until_its_server_has_sealed_it() {
    let mut world = five_files();
    let mut cursor = Cursor::open(&world.path(), Start::Last(1)).unwrap();
    assert_eq!(collect(&mut cursor).len(), 1);
    fs::rename(world.path(), world.folder.path().join("taken")).unwrap();
    world.line();
    assert_eq!(collect(&mut cursor), world.lines[world.lines.len() - 1..]);
    // The server notices, and its summary says so.
    world.line();
    let id = SegmentId { number: 5, since: 9 };
    fs::write(world.family.summary(id), "").unwrap();
    fs::write(world.path(), "next\n").unwrap();
    let next = (Position::begin_of(6), "next".to_owned());
    let expected = [world.lines[world.lines.len() - 1].clone(), next];
    assert_eq!(collect(&mut cursor), expected);
}

#[test]
fn a_damaged_archive_names_the_file() {
    let world = five_files();
    let path = world.family.compressed(world.packed[0]);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 3);
    fs::write(&path, bytes).unwrap();
    let mut cursor = Cursor::open(&world.path(), Start::Beginning).unwrap();
    let error = loop {
        match cursor.step() {
            Ok(Step::End) => panic!("the damage is not seen"),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        error.starts_with(&format!("cannot read {}: ", path.display())),
        "{error}"
    );
    cursor.go_to(Position::begin_of(2)).unwrap();
    assert_eq!(collect(&mut cursor), world.lines[40..]);
}

/// A file that is linked to its new name before it loses the live one, where there is no other way to rename.
#[test]
fn a_sealed_file_that_still_has_the_live_name_is_read_once() {
    let mut world = World::new();
    world.line();
    let id = SegmentId { number: 1, since: 7 };
    fs::hard_link(world.path(), world.family.plain(id)).unwrap();
    let mut follower = Cursor::open(&world.path(), Start::Beginning).unwrap();
    assert_eq!(collect(&mut follower), world.lines);
    assert_eq!(world.read(Start::Last(2)), world.lines);
    fs::remove_file(world.path()).unwrap();
    assert_eq!(follower.step().unwrap(), Step::End);
    fs::write(world.path(), "next\n").unwrap();
    let next = (Position::begin_of(2), "next".to_owned());
    assert_eq!(collect(&mut follower), [next]);
}

struct Named(&'static str);

impl Selection for Named {
    fn asks_summaries(&self) -> bool {
        true
    }

    fn may_have(&self, summary: &Summary) -> bool {
        summary
            .counts
            .iter()
            .any(|counts| counts.name() == self.0.as_bytes())
    }

    fn wants(&self, line: &[u8]) -> bool {
        memchr::memmem::find(line, format!("\"{}\"", self.0).as_bytes()).is_some()
    }
}

#[test]
fn a_selection_reads_only_the_files_that_may_have_what_it_wants() {
    let mut world = World::new();
    for round in 0..6 {
        for event in ["common", if round % 2 == 0 { "even" } else { "odd" }] {
            world.write(&format!("{{\"event\":\"{event}\",\"round\":{round}}}\n"));
        }
        if let Some(id) = world.rotate().filter(|_| round > 0) {
            world.summarise(id);
        }
    }
    // Files 2 and 4 have none of them, and are not even opened.
    for number in [1, 3] {
        fs::write(world.family.plain(world.plain[number]), "\"even\"\n").unwrap();
    }
    world.compress(4);
    let read = |start| collect(&mut Cursor::select(&world.path(), start, Named("even")).unwrap());
    let expected: Vec<_> = world
        .lines
        .iter()
        .filter(|(_, line)| line.contains(":\"even\""))
        .cloned()
        .collect();
    assert_eq!(expected.len(), 3);
    assert_eq!(read(Start::Beginning), expected);
    assert_eq!(read(Start::Last(2)), expected[1..]);
    assert_eq!(read(Start::Last(3)), expected);
    assert_eq!(read(Start::Last(9)), expected);
}

/// Random operations, with cursors that read a few steps now and then.
#[test]
fn cursors_read_what_a_random_history_left() {
    for seed in 0..60_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
        };
        let mut world = World::new();
        // A cursor and the line it must come to next.
        let mut cursors: Vec<(Cursor, usize)> = Vec::new();
        for _ in 0..400 {
            match below(12) {
                0..=3 => world.line(),
                4 => world.write("a half "),
                5 => world.write("and its end\n"),
                6 => drop(world.rotate()),
                7 if !world.plain.is_empty() => world.compress(below(world.plain.len())),
                8 if below(8) == 0 && !world.packed.is_empty() => {
                    let id = world.packed.remove(below(world.packed.len()));
                    // Its number stays known.
                    fs::write(world.family.summary(id), "").unwrap();
                    fs::remove_file(world.family.compressed(id)).unwrap();
                }
                9 if cursors.len() < 5 => {
                    let at = world.lines.len();
                    let (start, expected) = match below(3) {
                        0 => (Start::End, at),
                        1 if at > 0 => {
                            let line = below(at);
                            (Start::At(world.lines[line].0), line)
                        }
                        _ => (Start::At(Position::FIRST), 0),
                    };
                    cursors.push((Cursor::open(&world.path(), start).unwrap(), expected));
                }
                _ if !cursors.is_empty() => {
                    let which = below(cursors.len());
                    let (cursor, expected) = &mut cursors[which];
                    for _ in 0..below(9) {
                        check_step(&world, cursor, expected, seed);
                    }
                }
                _ => {}
            }
        }
        for (cursor, expected) in &mut cursors {
            while check_step(&world, cursor, expected, seed) {}
            assert_eq!(*expected, world.lines.len(), "seed {seed}");
        }
    }
}

/// Takes a step and checks it against the lines there are; whether it came to something.
fn check_step(world: &World, cursor: &mut Cursor, expected: &mut usize, seed: u64) -> bool {
    match cursor.step().unwrap() {
        Step::Line(line) => {
            let (at, text) = &world.lines[*expected];
            assert_eq!((line.at, line.bytes), (*at, text.as_bytes()), "seed {seed}");
            *expected += 1;
        }
        Step::Notice(Notice::Gap { first, last }) => {
            let is_there = |id: &SegmentId| (first..=last).contains(&id.number);
            assert!(
                !world.plain.iter().chain(&world.packed).any(is_there),
                "seed {seed}"
            );
            while world
                .lines
                .get(*expected)
                .is_some_and(|(at, _)| at.number <= last)
            {
                assert!(
                    world.lines[*expected].0.number >= first,
                    "seed {seed}: lines left out"
                );
                *expected += 1;
            }
        }
        Step::Notice(notice) => panic!("seed {seed}: {notice}"),
        Step::End => {
            assert_eq!(*expected, world.lines.len(), "seed {seed}: an early end");
            return false;
        }
    }
    true
}

/// The same with real races: a writer that rotates as fast as it can, an archivist, and followers.
#[test]
fn followers_keep_up_with_a_writer_that_rotates_all_the_time() {
    let mut world = World::new();
    let done = AtomicBool::new(false);
    let (sealed, to_pack) = std::sync::mpsc::channel();
    let (path, family) = (world.path(), world.family.clone());
    thread::scope(|scope| {
        let follow = |start: Start| {
            let (path, done) = (&path, &done);
            move || {
                let mut cursor = Cursor::open(path, start).unwrap();
                let mut seen = Vec::new();
                loop {
                    let is_last = done.load(Ordering::Acquire);
                    seen.extend(collect(&mut cursor));
                    if is_last {
                        return seen;
                    }
                }
            }
        };
        let followers = [
            Start::Beginning,
            Start::At(Position::FIRST),
            Start::End,
            Start::Last(5),
        ]
        .map(|start| scope.spawn(follow(start)));
        scope.spawn(|| {
            for id in to_pack {
                pack(&family, id);
            }
        });
        for round in 0..1_500 {
            for _ in 0..round % 4 {
                world.line();
            }
            if let Some(id) = world.rotate() {
                sealed.send(id).unwrap();
            }
        }
        drop(sealed);
        done.store(true, Ordering::Release);
        let [beginning, first, end, last] = followers.map(|follower| follower.join().unwrap());
        assert!(beginning == world.lines && first == world.lines);
        assert!(world.lines.ends_with(&end) && world.lines.ends_with(&last));
    });
}
