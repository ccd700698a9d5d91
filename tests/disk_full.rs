//! A full disk is a refusal that clears by itself. Needs to mount a small tmpfs, and is skipped where that is
//! not permitted.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::http::{BATCH, Client, EVENT, HEALTH};
use common::metrics::Scrape;
use common::server::{Launch, Server};
use common::{await_some, await_true, log};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// The bytes of padding in an event.
const PADDING_BYTES: usize = 1_000;

/// More events than fit anywhere in these tests.
const EVENTS_MAX: usize = 64 * 1024;

/// A small file system, unmounted when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
    ballast: PathBuf,
}

impl SmallDisk {
    /// A disk of `bytes`, or nothing where it cannot be had.
    fn mount(bytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={bytes},mode=0700");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self {
                ballast: folder.path().join("ballast"),
                folder,
            }),
            other => {
                eprintln!("skipped: a tmpfs cannot be mounted: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts `bytes` of ballast on the disk, or as much as it takes.
    fn load_ballast(&self, bytes: usize) {
        let mut file = fs::File::create(&self.ballast).unwrap();
        let page = [0xBA; 4096];
        for _ in 0..bytes / page.len() {
            if file.write_all(&page).is_err() {
                return;
            }
        }
    }

    /// Leaves about `bytes` free.
    fn leave_free(&self, bytes: usize) {
        self.load_ballast(usize::MAX);
        let file = fs::OpenOptions::new().write(true).open(&self.ballast).unwrap();
        file.set_len(file.metadata().unwrap().len().saturating_sub(bytes as u64))
            .unwrap();
    }

    fn drop_ballast(&self) {
        fs::remove_file(&self.ballast).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            // Something still has a file open there: let go of the name now and of the rest later.
            let _ = Command::new("umount").arg("-l").arg(self.path()).status();
        }
    }
}

fn visitor(number: usize) -> String {
    format!("visitor-{number:06}")
}

fn event(number: usize) -> String {
    let padding = "p".repeat(PADDING_BYTES);
    format!(
        r#"{{"visitor_id":"{}","event":"view","metadata":{{"padding":"{padding}"}}}}"#,
        visitor(number)
    )
}

/// What was sent, and whether it was acknowledged.
#[derive(Default)]
struct Sent {
    acknowledged: Vec<String>,
    refused: Vec<String>,
}

impl Sent {
    fn count(&self) -> usize {
        self.acknowledged.len() + self.refused.len()
    }

    /// Posts one event; tells whether it was taken.
    fn post(&mut self, client: &mut Client) -> bool {
        self.post_many(client, 1)
    }

    fn post_many(&mut self, client: &mut Client, count: usize) -> bool {
        let first = self.count();
        let bodies: Vec<String> = (first..first + count).map(event).collect();
        let answer = match count {
            1 => client.post(EVENT, &bodies[0]),
            _ => client.post(BATCH, &format!("[{}]", bodies.join(","))),
        };
        let visitors = (first..first + count).map(visitor);
        match answer.status {
            202 => self.acknowledged.extend(visitors),
            503 => {
                // One that names a level is stored, though not as far as was asked: to be sent again it is not.
                if answer.header("x-ack").is_none() {
                    let seconds = answer
                        .header("retry-after")
                        .expect("a refusal says when to come again");
                    assert!(seconds.parse::<u64>().is_ok(), "Retry-After: {seconds}");
                } else {
                    assert_eq!(answer.header("retry-after"), None);
                }
                assert!(answer.json()["detail"].is_string(), "{}", answer.text());
                self.refused.extend(visitors);
            }
            status => panic!("{status}: {}", answer.text()),
        }
        answer.status == 202
    }

    /// Posts until events are refused.
    fn post_until_refused(&mut self, client: &mut Client) {
        while self.post(client) {
            assert!(self.count() < EVENTS_MAX, "nothing was refused");
        }
    }

    /// Everything acknowledged is in the log once and in order, what was refused at most once, and no more.
    fn check_log(&self, path: &Path) {
        let stored = log::visitors(path);
        let mut distinct = stored.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), stored.len(), "an event is there twice");
        let acknowledged: Vec<_> = stored
            .iter()
            .filter(|visitor| self.acknowledged.binary_search(visitor).is_ok())
            .collect();
        assert!(
            acknowledged.iter().copied().eq(&self.acknowledged),
            "an acknowledged event is lost or misplaced"
        );
        let others = stored
            .iter()
            .filter(|visitor| self.acknowledged.binary_search(visitor).is_err());
        others.for_each(|visitor| assert!(self.refused.contains(visitor), "nobody sent {visitor}"));
    }
}

/// Waits for the health page to answer with `status`.
fn await_health(server: &Server, status: u16) -> Value {
    let mut client = server.connect();
    await_some(&format!("health to answer with {status}"), || {
        let answer = client.get(HEALTH);
        (answer.status == status).then(|| answer.json())
    })
}

/// The file holds whole, valid lines and at most one that is cut off, and all of them are a prefix of what was
/// acknowledged.
fn assert_whole_lines(path: &Path) {
    let bytes = log::bytes(path);
    assert!(!bytes.contains(&0), "a NUL in the log");
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    for line in std::str::from_utf8(&bytes[..end])
        .expect("the log is UTF-8")
        .lines()
    {
        log::event(line);
    }
    let rest = &bytes[end..];
    assert!(
        rest.is_empty() || rest.starts_with(b"{"),
        "the cut line is the beginning of one"
    );
}

fn await_everything_stored(sent: &Sent, path: &Path) {
    let last = sent.acknowledged.last().expect("something was acknowledged");
    await_true("the last acknowledged event in the log", || {
        let bytes = log::bytes(path);
        bytes.ends_with(b"\n") && String::from_utf8_lossy(&bytes).contains(last)
    });
    sent.check_log(path);
}

fn launch_with_journal_elsewhere(disk: &SmallDisk, elsewhere: &Path) -> Launch {
    Launch::new(elsewhere)
        .set("METRICS_JSONL", disk.path().join("metrics.jsonl"))
        .set("METRICS_JOURNAL", elsewhere.join("metrics.journal"))
        .set("METRICS_JOURNAL_BYTES_MAX", "1MiB")
        .set("METRICS_ENQUEUE_TIMEOUT", "50ms")
        .set("METRICS_ACK_TIMEOUT", "200ms")
}

#[test]
fn a_full_disk_fills_the_journal_then_refuses_and_clears_by_itself() {
    let Some(disk) = SmallDisk::mount(2 * MIB) else {
        return;
    };
    disk.load_ballast(MIB);
    let elsewhere = tempfile::tempdir().unwrap();
    let launch = launch_with_journal_elsewhere(&disk, elsewhere.path());
    let mut server = launch.start();
    let mut client = server.connect();
    let mut sent = Sent::default();
    sent.post_until_refused(&mut client);
    let health = await_health(&server, 503);
    assert_eq!(health["ok"], false, "{health}");
    sent.post_until_refused(&mut client);
    assert_whole_lines(&launch.log());
    let scrape = Scrape::of(&mut client);
    assert_eq!(scrape.refused("journal_full"), sent.refused.len() as f64);
    for (state, value) in [("ready", 0.0), ("log_failing", 1.0), ("sync_failing", 0.0)] {
        assert_eq!(scrape.get(&format!("floodgate_{state}")), value, "{state}");
    }
    assert!(scrape.get("floodgate_ring_frames") > 0.0);
    assert!(server.is_running(), "a full disk does not end the server");

    disk.drop_ballast();
    assert_eq!(await_health(&server, 200)["ok"], true);
    await_everything_stored(&sent, &launch.log());
    await_true("events to be taken again", || sent.post(&mut client));
    await_everything_stored(&sent, &launch.log());
    server.stop();
    sent.check_log(&launch.log());
}

#[test]
fn a_disk_that_fills_ten_times_while_files_are_sealed_loses_and_tears_nothing() {
    let Some(disk) = SmallDisk::mount(64 * MIB) else {
        return;
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let launch = launch_with_journal_elsewhere(&disk, elsewhere.path())
        .set("METRICS_ROTATE_BYTES", "256KiB")
        .set("METRICS_ROTATE_REST", "0ms")
        .set("METRICS_LINE_SEQ", "on");
    let server = launch.start();
    let mut client = server.connect();
    let mut sent = Sent::default();
    for round in 0..10 {
        // From a few bytes to more than a file.
        disk.leave_free(round * 50_000);
        sent.post_until_refused(&mut client);
        await_health(&server, 503);
        disk.drop_ballast();
        await_health(&server, 200);
        await_everything_stored(&sent, &launch.log());
        await_true("events to be taken again", || sent.post(&mut client));
    }
    await_everything_stored(&sent, &launch.log());
    server.stop();
    sent.check_log(&launch.log());
    for (position, line) in log::lines(&launch.log()).iter().enumerate() {
        assert_eq!(log::event(line)["seq"], position as u64 + 1);
    }
    let files = log::files(&launch.log());
    assert!(files.len() > 10, "{files:?}");
    // Every summary was stored in the end: the counts of a start without reading the files are right.
    let server = launch.start();
    assert!(!server.stderr().contains("no summary"), "{}", server.stderr());
    server.stop();
}

#[test]
fn a_written_acknowledgement_is_never_given_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount(MIB) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let launch = launch_with_journal_elsewhere(&disk, elsewhere.path()).set("METRICS_ACK", "written");
    let server = launch.start();
    disk.leave_free(MIB / 4);
    let mut client = server.connect();
    let mut sent = Sent::default();
    let mut reader = log::Reader::new(&launch.log());
    while sent.post_many(&mut client, 7) {
        assert_eq!(reader.added().len(), 7, "written means in the file");
    }
    await_health(&server, 503);
    disk.drop_ballast();
    await_health(&server, 200);
    await_true("events to be taken again", || sent.post(&mut client));
    server.stop();
    sent.check_log(&launch.log());
}

#[test]
fn what_the_journal_holds_for_a_full_disk_survives_a_kill() {
    let Some(disk) = SmallDisk::mount(2 * MIB) else {
        return;
    };
    disk.load_ballast(MIB + MIB / 2);
    let elsewhere = tempfile::tempdir().unwrap();
    let launch = launch_with_journal_elsewhere(&disk, elsewhere.path());
    let server = launch.start();
    let mut sent = Sent::default();
    sent.post_until_refused(&mut server.connect());
    server.kill9();
    let in_the_file = log::bytes(&launch.log()).len();
    disk.drop_ballast();
    let server = launch.start();
    assert!(server.recovered() > 0);
    assert!(log::bytes(&launch.log()).len() > in_the_file);
    sent.check_log(&launch.log());
    server.stop();
    sent.check_log(&launch.log());
}

#[test]
fn a_journal_on_the_full_disk_refuses_as_well_and_kills_nobody() {
    let Some(disk) = SmallDisk::mount(32 * MIB) else {
        return;
    };
    let launch = Launch::new(disk.path())
        .set("METRICS_JOURNAL_BYTES_MAX", "16MiB")
        .set("METRICS_ENQUEUE_TIMEOUT", "50ms");
    let mut server = launch.start();
    disk.leave_free(MIB / 2);
    let mut client = server.connect();
    let mut sent = Sent::default();
    sent.post_until_refused(&mut client);
    assert_eq!(await_health(&server, 503)["ok"], false);
    assert_whole_lines(&launch.log());
    assert!(server.is_running());
    disk.drop_ballast();
    await_health(&server, 200);
    await_true("events to be taken again", || sent.post(&mut client));
    await_everything_stored(&sent, &launch.log());
    server.stop();
    sent.check_log(&launch.log());
}

#[test]
fn a_journal_whose_disk_is_full_does_with_what_it_has_while_the_log_has_room() {
    let Some(disk) = SmallDisk::mount(16 * MIB) else {
        return;
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let launch = Launch::new(elsewhere.path())
        .set("METRICS_JOURNAL", disk.path().join("metrics.journal"))
        .set("METRICS_ENQUEUE_TIMEOUT", "1s")
        .set("METRICS_LINE_SEQ", "on");
    disk.leave_free(MIB);
    // Without room for a first chunk there is no start, and no journal that would be refused at the next.
    let ended = launch.try_start().unwrap_err();
    assert!(
        ended.stderr.contains("metrics.journal") && ended.stderr.contains("No space"),
        "{}",
        ended.stderr
    );
    disk.drop_ballast();
    disk.leave_free(6 * MIB);
    let mut server = launch.start();
    disk.load_ballast(usize::MAX);
    let mut client = server.connect();
    let mut sent = Sent::default();
    // Many times what the journal has.
    for _ in 0..30 {
        assert!(sent.post_many(&mut client, 1_000));
    }
    // One that takes more than there is, but less than there could be, is refused and leaves no trace.
    assert!(!sent.post_many(&mut client, 6_000));
    let health = await_health(&server, 503);
    assert!(
        health["journal"]["error"].as_str().unwrap().contains("No space"),
        "{health}"
    );
    assert!(server.is_running());
    disk.drop_ballast();
    await_health(&server, 200);
    await_true("a batch to be taken that takes a larger journal", || {
        sent.post_many(&mut client, 6_000)
    });
    server.stop();
    sent.check_log(&launch.log());
}
