//! What a service manager is told: a real datagram socket takes the messages, as systemd's does.

mod common;

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use common::PATIENCE;
use common::http::{EVENT, HEALTH};
use common::loop_disk::LoopDisk;
use common::server::Launch;
use rustix::process::Signal;

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn watch(launch: Launch, folder: &std::path::Path) -> (Manager, Launch) {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        (Manager(socket), launch.set("NOTIFY_SOCKET", path))
    }

    /// The next message, by its assignments; `None` when none comes within `time`.
    fn heard(&self, time: Duration) -> Option<Vec<String>> {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut message = [0; 4096];
        match self.0.recv(&mut message) {
            Ok(size) => {
                let text = std::str::from_utf8(&message[..size]).unwrap();
                Some(text.lines().map(str::to_owned).collect())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn next(&self) -> Vec<String> {
        self.heard(PATIENCE).expect("a message comes")
    }

    /// The next message that is not about the watchdog.
    fn next_step(&self) -> Vec<String> {
        loop {
            let message = self.next();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }

    /// Takes what has come by now.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

#[test]
fn it_is_told_when_the_server_is_ready_reads_again_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, launch) = Manager::watch(Launch::new(folder.path()), folder.path());
    let mut server = launch.start();
    // Ready is said when a client can connect, not before.
    let ready = manager.next();
    let status = format!("STATUS=listening on {}", server.address());
    assert_eq!(ready, ["READY=1", &status]);
    server.connect().get(HEALTH).expect(200);

    server.signal(Signal::HUP);
    let reloading = manager.next();
    assert_eq!(reloading[0], "RELOADING=1");
    let micros: u64 = reloading[1]
        .strip_prefix("MONOTONIC_USEC=")
        .unwrap()
        .parse()
        .unwrap();
    assert!(micros > 0);
    assert_eq!(manager.next(), ["READY=1"]);

    // Nobody asked for a watchdog.
    assert_eq!(manager.heard(Duration::from_millis(200)), None);
    server.terminate();
    assert_eq!(manager.next(), ["STOPPING=1", "STATUS=stopping"]);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, launch) = Manager::watch(Launch::new(folder.path()), folder.path());
    launch.set("METRICS_BIND", "systemd").try_start().unwrap_err();
    assert_eq!(manager.heard(Duration::from_millis(1)), None);
}

#[test]
fn the_watchdog_hears_of_a_server_that_lives_and_not_of_one_that_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, launch) = Manager::watch(Launch::new(folder.path()), folder.path());
    let server = launch.set("WATCHDOG_USEC", "300000").start();
    assert_eq!(manager.next()[0], "READY=1");
    for _ in 0..5 {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
    }
    server.signal(Signal::STOP);
    // One may have been under way.
    manager.forget();
    manager.heard(Duration::from_millis(100));
    assert_eq!(manager.heard(Duration::from_millis(500)), None);
    server.signal(Signal::CONT);
    assert_eq!(manager.next(), ["WATCHDOG=1"]);
    server.stop();
    assert_eq!(manager.next_step()[0], "STOPPING=1");
}

#[test]
fn the_watchdog_of_another_process_is_none_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, launch) = Manager::watch(Launch::new(folder.path()), folder.path());
    let launch = launch.set("WATCHDOG_USEC", "30000").set("WATCHDOG_PID", "1");
    let server = launch.start();
    assert_eq!(manager.next()[0], "READY=1");
    assert_eq!(manager.heard(Duration::from_millis(200)), None);
    server.stop();
}

#[test]
fn a_disk_that_hangs_is_no_reason_to_restart() {
    let Some(disk) = LoopDisk::mount() else { return };
    let journal = tempfile::tempdir_in("/dev/shm").unwrap();
    let launch = Launch::new(journal.path())
        .set("METRICS_JSONL", disk.path().join("metrics.jsonl"))
        .set("METRICS_JOURNAL", journal.path().join("metrics.journal"))
        .set("WATCHDOG_USEC", "300000");
    let (manager, launch) = Manager::watch(launch, journal.path());
    let server = launch.start();
    let mut client = server.connect();
    let body = r#"{"visitor_id":"visitor-1","event":"view"}"#;
    client.post(&format!("{EVENT}?ack=synced"), body).expect(202);
    let frozen = disk.freeze();
    client.post(EVENT, body).expect(202);
    // Longer than a writer that hangs for another reason is given.
    let long = Instant::now() + Duration::from_secs(15);
    manager.forget();
    while Instant::now() < long {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
    }
    drop(frozen);
    client.post(&format!("{EVENT}?ack=synced"), body).expect(202);
    server.stop();
}

#[test]
fn a_manager_that_is_gone_is_told_of_once_and_nothing_ends() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).set("NOTIFY_SOCKET", folder.path().join("nobody.sock"));
    let server = launch.start();
    server.signal(Signal::HUP);
    server.connect().get(HEALTH).expect(200);
    common::await_true("it says so", || server.stderr().contains("NOTIFY_SOCKET"));
    common::await_true("files are read", || server.stderr().contains("read again"));
    assert_eq!(server.stderr().matches("NOTIFY_SOCKET").count(), 1);
    server.stop();
}
