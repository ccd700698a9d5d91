//! The process is killed at any moment and at each step of its protocol. Afterwards every acknowledged event is
//! in the log once, every other at most once, and who followed the file has seen exactly what it holds.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use common::Rng;
use common::http::BEHAVIOR;
use common::load::{Books, Load};
use common::log::{self, Follower};
use common::sealed::{Folder, await_within};
use common::server::{Launch, Server};
use rustix::process::Signal;

/// The rounds of kills at random moments.
const ROUNDS: u64 = 20;

/// The rounds with a kill at one step of the protocol.
const FAILPOINT_ROUNDS: u64 = 3;

/// How often a start with a kill in its recovery is tried until there is something to recover.
const RECOVERY_ATTEMPTS: u64 = 20;

const ALL_LEVELS: &[&str] = &["", "", "", "journaled", "written", "synced"];
const JOURNALED: &[&str] = &["journaled"];
const SYNCED: &[&str] = &["synced"];

/// The publish intervals that rounds are played with: with a long one, much is only in the journal.
const PUBLISH_INTERVALS: [&str; 4] = ["1ms", "1ms", "5ms", "50ms"];

/// The sizes at which the live file is sealed: with the small one it happens all the time.
const ROTATE_BYTES: [&str; 2] = ["64KiB", "1MiB"];
/// When sealed files are compressed: some are archived plain.
const COMPRESS_AFTER: [&str; 3] = ["0s", "0s", "off"];
const ROTATE_RESTS: [&str; 3] = ["0ms", "0ms", "20ms"];

/// One log over many lives of the server.
struct Story {
    launch: Launch,
    books: Books,
    follower: Follower,
    rng: Rng,
    seed: u64,
    /// The last to be dropped, after the follower.
    _folder: tempfile::TempDir,
}

impl Story {
    fn new(seed: u64) -> Self {
        Self::numbered(seed, seed.is_multiple_of(2))
    }

    /// A story whose lines have numbers, or not.
    fn numbered(seed: u64, numbered: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let line_seq = if numbered { "on" } else { "off" };
        let launch = Launch::new(folder.path()).set("METRICS_LINE_SEQ", line_seq);
        let (books, follower) = (
            Books::new(&launch.log(), numbered),
            Follower::start(&launch.log()),
        );
        Self {
            launch,
            books,
            follower,
            rng: Rng::new(seed),
            seed,
            _folder: folder,
        }
    }

    fn launch_round(&mut self) -> Launch {
        self.launch
            .clone()
            .set("METRICS_PUBLISH_INTERVAL", self.rng.pick(&PUBLISH_INTERVALS))
            .set("METRICS_ROTATE_BYTES", self.rng.pick(&ROTATE_BYTES))
            .set("METRICS_ROTATE_REST", self.rng.pick(&ROTATE_RESTS))
    }

    /// Puts load on `server` and kills it after a random number of acknowledgements.
    fn load_and_kill(&mut self, server: Server, round: u64, levels: &'static [&'static str], count_max: u64) {
        let load = Load::start(server.address(), round, self.seed, levels);
        load.await_acknowledged(self.rng.between(1, count_max));
        server.kill9();
        self.books.add(&load.finish());
    }

    /// Checks what the server has made of the log.
    fn check(&mut self, server: &Server, context: &str) {
        let context = format!("seed {}, {context}", self.seed);
        self.books.check_log(&context);
        self.books
            .check_snapshot(server.address(), &self.launch.log(), &context);
    }

    /// Ends the story in the orderly way and lets the follower compare.
    fn finish(mut self) {
        let server = self.launch.start();
        self.check(&server, "the last restart");
        server.stop();
        self.books.check_log("the last stop");
        assert!(self.books.stored_count() > 0, "something was stored");
        assert!(
            log::is_absent_or_empty(&self.launch.journal()),
            "a clean stop leaves nothing in the journal"
        );
        self.follower.finish();
    }
}

fn is_killed(status: std::process::ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

/// Plays `rounds` of kills at random moments: under load, now and then with a rotation just asked for, while files are
/// compressed and archived, and again while recovering.
fn play_kills(seed: u64, rounds: u64) {
    let mut story = Story::new(seed);
    let far = tempfile::tempdir().unwrap();
    let url = format!("file://{}", far.path().display());
    story.launch = story.launch.set("METRICS_ARCHIVE_URL", url);
    for round in 0..rounds {
        let compress_after = story.rng.pick(&COMPRESS_AFTER);
        story.launch = story.launch.set("METRICS_COMPRESS_AFTER", compress_after);
        let server = story.launch_round().start();
        story.check(&server, &format!("before round {round}"));
        if story.rng.below(3) == 0 {
            server.signal(Signal::USR1);
        }
        story.load_and_kill(server, round, ALL_LEVELS, 3_000);
        for _ in 0..story.rng.below(3) {
            // A start takes some 20 ms.
            let pause = std::time::Duration::from_micros(story.rng.below(40_000));
            story.launch_round().start_and_kill9(pause);
        }
    }
    check_archive(&story.launch, far.path());
    story.finish();
}

/// Waits until all sealed files are in the archive, and checks that each is there once, as it was.
fn check_archive(launch: &Launch, far: &Path) {
    let server = launch.start();
    let folder = Folder::of(launch);
    await_within(10, "an archive with all files", || {
        let health = server.connect().get(common::http::HEALTH).json();
        health["archive"]["waiting_files"] == 0 && folder.marks().len() == folder.summaries().len()
    });
    server.stop();
    let sealed = log::sealed(&launch.log());
    let objects = std::fs::read_dir(far).unwrap().map(|entry| entry.unwrap().path());
    let objects: Vec<_> = objects.collect();
    assert_eq!(objects.len(), sealed.len(), "each once, and nothing else");
    for file in sealed.values() {
        let name = file
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".zst");
        let is_it = |object: &&PathBuf| object.file_name().unwrap().to_str().unwrap().starts_with(name);
        let object = objects.iter().find(is_it).expect("it is there");
        assert!(
            log::contents(object) == log::contents(file),
            "{name} is as it was"
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_twenty_kills() {
    play_kills(1, ROUNDS);
}

/// What `scripts/crash` runs.
#[test]
#[ignore = "takes minutes"]
fn nothing_acknowledged_is_lost_or_doubled_by_many_kills() {
    let number = |name: &str| {
        let text = std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by scripts/crash"));
        text.parse().expect("a number")
    };
    play_kills(number("CRASH_SEED"), number("CRASH_ROUNDS"));
}

#[test]
fn a_restart_takes_over_what_only_the_journal_held() {
    let mut story = Story::new(2);
    let mut recovered = 0;
    for round in 0..5 {
        let server = story.launch.clone().set("METRICS_PUBLISH_INTERVAL", "2s").start();
        recovered += server.recovered();
        story.check(&server, &format!("before round {round}"));
        story.load_and_kill(server, round, JOURNALED, 2_000);
    }
    let server = story.launch.start();
    recovered += server.recovered();
    assert!(
        recovered > 0,
        "with so long an interval some events were in the journal only"
    );
    server.stop();
    story.finish();
}

#[test]
fn synced_events_are_there_after_a_kill() {
    let mut story = Story::new(3);
    for round in 0..4 {
        let server = story.launch.start();
        story.check(&server, &format!("before round {round}"));
        story.load_and_kill(server, round, SYNCED, 600);
    }
    story.finish();
}

#[test]
fn a_kill_right_after_a_start_changes_nothing() {
    let mut story = Story::new(4);
    let server = story.launch.start();
    story.load_and_kill(server, 0, JOURNALED, 2_000);
    for _ in 0..5 {
        story.launch.start().kill9();
    }
    story.finish();
}

/// Kills the server at the seeded passing of a step while it writes, and checks the log after each restart.
fn kill_while_writing(failpoint: &str, seed: u64) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: only debug builds have failpoints");
        return;
    }
    let mut story = Story::new(seed);
    for round in 0..FAILPOINT_ROUNDS {
        // The first rounds end at an early passing, the later ones in full swing.
        let most = match failpoint.starts_with("rotate.") {
            true => [1, 3, 6],
            false => [1, 20, 80],
        };
        let passing = story.rng.between(1, most[round as usize % 3]);
        let context = format!("{failpoint}:{passing}");
        let mut launch = story.launch_round();
        if failpoint.starts_with("rotate.") {
            launch = launch.set("METRICS_ROTATE_BYTES", "64KiB");
        }
        let mut server = match launch.set("FLOODGATE_FAILPOINT", &context).try_start() {
            Ok(server) => server,
            // What the last life left was enough to pass it.
            Err(ended) => {
                assert!(
                    is_killed(ended.status),
                    "{context}: {}\n{}",
                    ended.status,
                    ended.stderr
                );
                continue;
            }
        };
        let load = Load::start(server.address(), round, story.seed, ALL_LEVELS);
        let status = server.wait();
        assert!(
            is_killed(status),
            "{context}: ended by itself: {status}\n{}",
            server.stderr()
        );
        story.books.add(&load.finish());
        let server = story.launch.start();
        story.check(&server, &context);
        server.kill9();
    }
    story.finish();
}

/// Kills the server with a full journal, then again at a step of its recovery, and checks the next restart.
fn kill_while_recovering(failpoint: &str, seed: u64) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: only debug builds have failpoints");
        return;
    }
    let mut story = Story::new(seed);
    let mut kills = 0;
    for round in 0..RECOVERY_ATTEMPTS {
        // Every other first life ends within a write, so that there is half a line to finish.
        let mut launch = story.launch.clone().set("METRICS_PUBLISH_INTERVAL", "500ms");
        if round % 2 == 1 {
            launch = launch.set("FLOODGATE_FAILPOINT", "publish.written_half");
            let mut server = launch.start();
            let load = Load::start(server.address(), round, story.seed, JOURNALED);
            server.wait();
            story.books.add(&load.finish());
        } else {
            let server = launch.start();
            story.load_and_kill(server, round, JOURNALED, 1_000);
        }
        match story
            .launch
            .clone()
            .set("FLOODGATE_FAILPOINT", failpoint)
            .try_start()
        {
            Ok(server) => server.kill9(),
            Err(ended) => {
                assert!(
                    is_killed(ended.status),
                    "{failpoint}: {}\n{}",
                    ended.status,
                    ended.stderr
                );
                kills += 1;
            }
        }
        let server = story.launch.start();
        story.check(&server, &format!("{failpoint}, round {round}"));
        server.kill9();
        if kills >= FAILPOINT_ROUNDS {
            break;
        }
    }
    assert!(kills > 0, "{failpoint} was never passed");
    story.finish();
}

/// Makes the list of failpoints, and one test of each.
macro_rules! failpoint_tests {
    ($($test:ident: $play:ident($failpoint:literal),)+) => {
        /// Every step at which a debug build can kill itself.
        const FAILPOINTS: &[&str] = &[$($failpoint),+];

        $(
            #[test]
            fn $test() {
                let seed = 100 + FAILPOINTS.iter().position(|known| *known == $failpoint).unwrap_or(0) as u64;
                $play($failpoint, seed);
            }
        )+
    };
}

failpoint_tests! {
    a_kill_with_a_block_reserved: kill_while_writing("commit.reserved"),
    a_kill_with_the_lines_copied: kill_while_writing("commit.copied"),
    a_kill_with_the_frame_committed: kill_while_writing("commit.committed"),
    a_kill_with_the_frame_pushed: kill_while_writing("commit.pushed"),
    a_kill_with_half_of_the_frames_placed: kill_while_writing("publish.placed_half"),
    a_kill_with_the_frames_placed: kill_while_writing("publish.placed"),
    a_kill_within_the_write: kill_while_writing("publish.written_half"),
    a_kill_with_the_frames_written: kill_while_writing("publish.written"),
    a_kill_with_the_blocks_freed: kill_while_writing("publish.freed"),
    a_kill_with_the_live_file_due: kill_while_writing("rotate.due"),
    a_kill_with_the_next_file_open: kill_while_writing("rotate.opened"),
    a_kill_with_two_names_for_the_live_file: kill_while_writing("rotate.linked"),
    a_kill_with_the_file_sealed_and_no_live_one: kill_while_writing("rotate.sealed"),
    a_kill_with_the_next_file_in_place: kill_while_writing("rotate.placed"),
    a_kill_with_a_summary_due: kill_while_writing("rotate.unsummarised"),
    a_kill_with_a_summary_stored: kill_while_writing("rotate.summarised"),
    a_kill_with_the_journal_grown: kill_while_recovering("journal.grown"),
    a_kill_of_recovery_with_the_frames_placed: kill_while_recovering("recover.placed"),
    a_kill_of_recovery_with_the_frames_written: kill_while_recovering("recover.written"),
    a_kill_with_a_line_in_a_group: kill_while_writing("commit.joined"),
}

#[test]
fn a_clean_restart_finds_the_journal_empty_and_everything_else_as_it_was() {
    let mut story = Story::new(5);
    let server = story.launch.start();
    let load = Load::start(server.address(), 0, story.seed, ALL_LEVELS);
    load.await_acknowledged(2_000);
    story.books.add(&load.stop());
    let path = format!("{BEHAVIOR}?limit=500");
    let before = server.connect().get(&path).expect(200).json();
    server.stop();
    assert!(
        log::is_absent_or_empty(&story.launch.journal()),
        "a clean stop leaves nothing in the journal"
    );

    let server = story.launch.start();
    assert_eq!(server.recovered(), 0);
    let after = server.connect().get(&path).expect(200).json();
    assert_eq!(before["last_events"].as_array().map(Vec::len), Some(500));
    assert_eq!(
        before, after,
        "totals, recent events and size are those of before"
    );
    story.check(&server, "after a clean restart");
    server.stop();
    story.finish();
}

#[test]
fn the_journal_is_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    let server = launch.start();
    server
        .connect()
        .post(common::http::EVENT, r#"{"visitor_id":"visitor","event":"view"}"#)
        .expect(202);
    let mode = std::fs::metadata(launch.journal())
        .expect("the journal is beside the log")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Whose event is in the log before a server gathers those that it will not publish.
const PUBLISHED: &str = "visitor-published";

/// A server that is killed before it publishes what it has acknowledged; answers whose events those are.
fn die_with_events_in_the_journal(launch: &Launch, count: usize) -> Vec<String> {
    let server = launch.clone().set("METRICS_PUBLISH_INTERVAL", "10s").start();
    let mut client = server.connect();
    let visitors: Vec<String> = (0..count).map(|number| format!("visitor-{number}")).collect();
    let event = |visitor: &str| format!(r#"{{"visitor_id":"{visitor}","event":"view"}}"#);
    // The first events of a server may be published at once; behind a publication the writer gathers.
    let written = format!("{}?ack=written", common::http::EVENT);
    client.post(&written, &event(PUBLISHED)).expect(202);
    for visitor in &visitors {
        client.post(common::http::EVENT, &event(visitor)).expect(202);
    }
    server.kill9();
    visitors
}

/// The visitors in the log, but for those that were published before the kill.
fn visitors_recovered(log: &Path) -> Vec<String> {
    let mut visitors = log::visitors(log);
    visitors.retain(|visitor| visitor != PUBLISHED);
    visitors
}

#[test]
fn a_journal_that_was_cut_off_between_two_blocks_is_told_and_what_is_left_of_it_recovered() {
    const PREFACE_BYTES: u64 = 4096;
    const BLOCK_BYTES: u64 = 4096 + 64;
    const BLOCKS_LEFT: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    let visitors = die_with_events_in_the_journal(&launch, 50);
    let journal = std::fs::OpenOptions::new().write(true).open(launch.journal());
    let journal = journal.expect("a killed server leaves its journal");
    let blocks = (journal.metadata().unwrap().len() - PREFACE_BYTES) / BLOCK_BYTES;
    journal
        .set_len(PREFACE_BYTES + BLOCKS_LEFT * BLOCK_BYTES)
        .unwrap();

    let server = launch.start();
    assert_eq!(server.fields()["missing_blocks"], blocks - BLOCKS_LEFT);
    let stderr = server.stderr();
    assert!(stderr.contains("the journal has been cut off"), "{stderr}");
    let stored = visitors_recovered(&launch.log());
    assert_eq!(server.recovered(), stored.len() as u64);
    assert_eq!(
        stored,
        visitors[..stored.len()],
        "those in the blocks that are left"
    );
    assert!(
        (1..visitors.len()).contains(&stored.len()),
        "{} are left",
        stored.len()
    );
    let names = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let kept = names.filter(|name| name.to_string_lossy().contains("journal.damaged-"));
    assert_eq!(kept.count(), 1, "what is damaged is put aside");
    server.kill9();

    let server = launch.start();
    assert_eq!(server.fields()["missing_blocks"], 0, "the new journal is whole");
    assert_eq!(visitors_recovered(&launch.log()), stored);
    server.stop();
}

#[test]
fn a_journal_that_was_emptied_or_taken_away_after_a_kill_is_told_and_one_that_was_left_empty_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    let says = |launch: &Launch, word: &str| {
        let server = launch.start();
        assert_eq!(server.fields()["journal_gone"], !word.is_empty(), "{word}");
        assert!(server.stderr().contains(word), "{word}: {}", server.stderr());
        server.stop();
    };
    says(&launch, "");
    die_with_events_in_the_journal(&launch, 1);
    std::fs::write(launch.journal(), "").unwrap();
    says(&launch, "its journal is empty or gone");
    says(&launch, "");
    die_with_events_in_the_journal(&launch, 1);
    std::fs::remove_file(launch.journal()).unwrap();
    says(&launch, "its journal is empty or gone");
    assert_eq!(visitors_recovered(&launch.log()).len(), 0);

    // Not with the journal that has them.
    let visitors = die_with_events_in_the_journal(&launch, 3);
    let other = launch
        .clone()
        .set("METRICS_JOURNAL", folder.path().join("other.journal"));
    says(&other, "and had another journal");
    let server = launch.start();
    assert_eq!(server.recovered(), 3);
    server.stop();
    assert_eq!(visitors_recovered(&launch.log()), visitors);
}
