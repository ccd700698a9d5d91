//! The log's disk hangs, turns read-only, or has files that may not be changed: the server goes on, says so, loses nothing,
//! and recovers by itself where the disk does. Needs root and loop devices, and is skipped where there are none.

mod common;

use common::http::{BEHAVIOR, Client, EVENT, HEALTH};
use common::loop_disk::LoopDisk;
use common::server::{Launch, Server};
use common::{await_some, await_true, log};
use rustix::process::Signal;
use serde_json::Value;

/// More events than a journal of 1 MiB takes.
const EVENTS_MAX: usize = 4_000;

/// The log on `disk`, the journal in memory that outlives the process.
fn launch(disk: &LoopDisk) -> (tempfile::TempDir, Launch) {
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let launch = Launch::new(elsewhere.path())
        .set("METRICS_JSONL", disk.path().join("metrics.jsonl"))
        .set("METRICS_JOURNAL", elsewhere.path().join("metrics.journal"))
        .set("METRICS_JOURNAL_BYTES_MAX", "1MiB")
        .set("METRICS_ENQUEUE_TIMEOUT", "50ms")
        .set("METRICS_ACK_TIMEOUT", "200ms")
        .set("METRICS_ROTATE_REST", "0ms")
        .set("METRICS_LINE_SEQ", "on");
    (elsewhere, launch)
}

/// Who was sent, and what came of it.
#[derive(Default)]
struct Sent {
    acknowledged: Vec<String>,
    /// Answered that they are stored, but not as far as was asked.
    partly: Vec<String>,
    count: usize,
}

impl Sent {
    /// Posts one event at a level, and gives the status.
    fn post(&mut self, client: &mut Client, level: &str) -> u16 {
        self.count += 1;
        let visitor = format!("visitor-{:06}", self.count);
        let body = format!(r#"{{"visitor_id":"{visitor}","event":"view"}}"#);
        let answer = client.post(&format!("{EVENT}?ack={level}"), &body);
        match (
            answer.status,
            answer.header("x-ack"),
            answer.header("retry-after"),
        ) {
            (202, Some(reached), None) => {
                assert_eq!(reached, level);
                self.acknowledged.push(visitor);
            }
            // It is in the journal, and not to be sent again.
            (503, Some("journaled"), None) => self.partly.push(visitor),
            (503, None, Some(seconds)) => assert!(seconds.parse::<u64>().is_ok(), "{seconds}"),
            _ => panic!("{answer:?}"),
        }
        answer.status
    }

    /// Until events are refused, which must come.
    fn fill(&mut self, client: &mut Client) {
        while self.post(client, "journaled") == 202 {
            assert!(self.count < EVENTS_MAX, "nothing was refused");
        }
    }

    /// All that was taken is in the log once and in order, numbered without a gap, and nothing else.
    fn check(&self, launch: &Launch) {
        let mut expected: Vec<_> = self.acknowledged.iter().chain(&self.partly).cloned().collect();
        expected.sort();
        assert_eq!(log::visitors(&launch.log()), expected);
        for (position, event) in log::events(&launch.log()).iter().enumerate() {
            assert_eq!(event["seq"], position as u64 + 1);
        }
    }

    fn await_all(&self, launch: &Launch) {
        let count = self.acknowledged.len() + self.partly.len();
        await_true("everything in the log", || {
            let bytes = log::bytes(&launch.log());
            memchr::memchr_iter(b'\n', &bytes).count() == count
        });
        self.check(launch);
    }
}

fn await_health(server: &Server, status: u16) -> Value {
    let mut client = server.connect();
    await_some(&format!("health to answer with {status}"), || {
        let answer = client.get(HEALTH);
        (answer.status == status).then(|| answer.json())
    })
}

#[test]
fn while_the_disk_hangs_the_journal_takes_events_then_they_are_refused_and_afterwards_all_are_in_the_log() {
    let Some(disk) = LoopDisk::mount() else { return };
    let (_elsewhere, launch) = launch(&disk);
    let server = launch.start();
    let mut client = server.connect();
    let mut sent = Sent::default();
    assert_eq!(sent.post(&mut client, "synced"), 202);
    for _ in 0..3 {
        let frozen = disk.freeze();
        // The log cannot take it, the journal can.
        assert_eq!(sent.post(&mut client, "journaled"), 202);
        assert_eq!(sent.post(&mut client, "written"), 503);
        assert_eq!(sent.post(&mut client, "synced"), 503);
        let before = sent.acknowledged.len();
        sent.fill(&mut client);
        assert!(sent.acknowledged.len() - before > 50);
        // All else goes on.
        assert_eq!(client.get(HEALTH).json()["ok"], false);
        assert_eq!(server.connect().get(HEALTH).status, 503);
        assert!([200, 503].contains(&client.get(BEHAVIOR).status));
        assert_ne!(sent.post(&mut client, "journaled"), 202);
        drop(frozen);
        await_health(&server, 200);
        await_true("events to be taken again", || {
            sent.post(&mut client, "written") == 202
        });
        sent.await_all(&launch);
    }
    server.stop();
    sent.check(&launch);
}

#[test]
fn a_server_killed_while_its_disk_hangs_loses_nothing() {
    let Some(disk) = LoopDisk::mount() else { return };
    let (_elsewhere, launch) = launch(&disk);
    let mut server = launch.start();
    let mut client = server.connect();
    let mut sent = Sent::default();
    assert_eq!(sent.post(&mut client, "synced"), 202);
    let frozen = disk.freeze();
    sent.fill(&mut client);
    // It can die only when its calls come back.
    server.signal(Signal::KILL);
    drop(frozen);
    server.wait();
    let server = launch.start();
    sent.check(&launch);
    server.stop();
    sent.check(&launch);
}

#[test]
fn a_disk_that_hangs_while_a_file_is_to_be_sealed_delays_that_and_nothing_else() {
    let Some(disk) = LoopDisk::mount() else { return };
    let (_elsewhere, launch) = launch(&disk);
    let server = launch.start();
    let mut client = server.connect();
    let mut sent = Sent::default();
    for _ in 0..3 {
        assert_eq!(sent.post(&mut client, "written"), 202);
        let before = log::files(&launch.log()).len();
        let frozen = disk.freeze();
        server.signal(Signal::USR1);
        assert_eq!(sent.post(&mut client, "journaled"), 202);
        drop(frozen);
        await_true("a sealed file", || log::files(&launch.log()).len() > before);
        sent.await_all(&launch);
    }
    server.stop();
    sent.check(&launch);
}

#[test]
fn on_a_disk_that_turned_read_only_the_server_goes_on_and_the_next_start_has_everything() {
    let Some(disk) = LoopDisk::mount() else { return };
    let (_elsewhere, launch) = launch(&disk);
    let mut server = launch.start();
    let mut client = server.connect();
    let mut sent = Sent::default();
    (0..5).for_each(|_| assert_eq!(sent.post(&mut client, "synced"), 202));
    if !disk.break_down() {
        return;
    }
    assert_eq!(sent.post(&mut client, "journaled"), 202);
    let health = await_health(&server, 503);
    assert!(
        health["log"]["error"]
            .as_str()
            .unwrap()
            .contains("Read-only file system"),
        "{health}"
    );
    sent.fill(&mut client);
    assert!(server.is_running());
    server.kill9();
    disk.repair();
    let server = launch.start();
    sent.check(&launch);
    assert_eq!(sent.post(&mut server.connect(), "synced"), 202);
    server.stop();
    sent.check(&launch);
}

#[test]
fn a_live_file_that_may_not_be_changed_is_waited_for() {
    let Some(disk) = LoopDisk::mount() else { return };
    let (_elsewhere, launch) = launch(&disk);
    let mut server = launch.start();
    let mut client = server.connect();
    let mut sent = Sent::default();
    assert_eq!(sent.post(&mut client, "written"), 202);
    if !LoopDisk::set_immutable(&launch.log(), true) {
        return;
    }
    assert_eq!(sent.post(&mut client, "journaled"), 202);
    let health = await_health(&server, 503);
    assert!(
        health["log"]["error"].as_str().unwrap().contains("not permitted"),
        "{health}"
    );
    server.signal(Signal::USR1);
    sent.fill(&mut client);
    assert!(server.is_running());
    assert!(LoopDisk::set_immutable(&launch.log(), false));
    await_health(&server, 200);
    sent.await_all(&launch);
    await_true("events to be taken again", || {
        sent.post(&mut client, "written") == 202
    });
    server.stop();
    sent.check(&launch);
}

#[test]
fn in_a_folder_that_may_not_be_changed_the_live_file_goes_on_and_is_sealed_later() {
    let Some(disk) = LoopDisk::mount() else { return };
    let (_elsewhere, launch) = launch(&disk);
    let server = launch.start();
    let mut client = server.connect();
    let mut sent = Sent::default();
    assert_eq!(sent.post(&mut client, "written"), 202);
    if !LoopDisk::set_immutable(&disk.path(), true) {
        return;
    }
    server.signal(Signal::USR1);
    await_true("a word about it", || {
        assert_eq!(sent.post(&mut client, "written"), 202);
        server.stderr().contains("cannot be sealed now")
    });
    assert_eq!(client.get(HEALTH).status, 200);
    assert!(LoopDisk::set_immutable(&disk.path(), false));
    await_true("a sealed file", || log::files(&launch.log()).len() == 2);
    assert_eq!(sent.post(&mut client, "written"), 202);
    server.stop();
    sent.check(&launch);
}
