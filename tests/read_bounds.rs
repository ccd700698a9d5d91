//! Reads that take long: they end with their clients, wait in a queue that has an end, and hold up nothing quick.
//!
//! A read that goes on for as long as a test wants is one of a sealed file that somebody has made very long: a hole of
//! terabytes takes no room on the disk and is read for hours.

mod common;

use std::fs;
use std::path::Path;

use common::http::{self, BEHAVIOR, EVENT};
use common::metrics::Scrape;
use common::sealed::{Feed, Folder, sealing_often};
use common::server::{Launch, Server};
use common::{await_some, await_true};

const FUNNEL: &str = "/api/metrics/behavior/funnel";
/// Reads that wait for a thread, of each kind.
const QUEUE_MAX: usize = 128;
const HOLE_BYTES: u64 = 4 << 40;

/// A read that does not end by itself while a test runs, and one like it that has nothing to read.
const ENDLESS: &str = "/api/metrics/behavior/funnel?step=view&step=view";
const EMPTY: &str = "/api/metrics/behavior/funnel?step=never&step=never";

/// A server with a sealed file that is endless, and a live one with an event of its own name.
fn start(folder: &Path) -> Server {
    let launch = sealing_often(Launch::new(folder)).set("METRICS_QUERY_TIMEOUT", "10m");
    let server = launch.start();
    Feed::default().batches(&server, 1);
    let sealed = await_some("a file to be sealed", || Folder::of(&launch).plain().pop());
    let file = fs::File::options()
        .write(true)
        .open(launch.log().with_file_name(sealed));
    file.unwrap().set_len(HOLE_BYTES).unwrap();
    let event = r#"{"visitor_id":"visitor-1","event":"live"}"#;
    server
        .connect()
        .post(&format!("{EVENT}?ack=written"), event)
        .expect(202);
    server
}

/// Bytes that the server has read from files and sockets.
fn read_bytes(server: &Server) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", server.id())).expect("it runs");
    let value = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    value.expect("the kernel counts it").parse().unwrap()
}

/// Waits until an endless read is under way that was sent when so many bytes had been read.
fn await_reading(server: &Server, before: u64) {
    await_true("the file to be read", || read_bytes(server) > before + (64 << 20));
}

#[test]
fn a_read_ends_when_its_client_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    for (round, is_half_gone) in [true, false, true].into_iter().enumerate() {
        let before = read_bytes(&server);
        let mut client = server.connect();
        client.send(&http::get(ENDLESS)).unwrap();
        await_reading(&server, before);
        // Its thread is the only one for funnels.
        let mut next = server.connect();
        next.send(&http::get(EMPTY)).unwrap();
        match is_half_gone {
            true => {
                client.finish_sending();
                client.answer().expect(499);
            }
            false => drop(client),
        }
        next.answer().expect(200);
        let ended = round as f64 + 1.0;
        let is_counted = || Scrape::of(&mut server.connect()).requests(FUNNEL, 499) == ended;
        await_true("it to be counted", is_counted);
    }
}

#[test]
fn a_full_queue_refuses_and_quick_reads_pass_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path());
    let before = read_bytes(&server);
    let ask = || {
        let mut client = server.connect();
        client.send(&http::get(ENDLESS)).unwrap();
        client
    };
    let mut waiting = vec![ask()];
    await_reading(&server, before);
    // So many more than there is room for have to be refused, whichever they are.
    waiting.extend((0..QUEUE_MAX + 3).map(|_| ask()));
    let refused = || Scrape::of(&mut server.connect()).refused("reads");
    await_true("three to be refused", || refused() == 3.0);
    let answer = server.connect().get(ENDLESS).expect(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.text().contains("Too many reads"), "{}", answer.text());
    for quick in ["?event_type=live&limit=1", "?since=2020-01-01T00:00:00Z&limit=1"] {
        let snapshot = server
            .connect()
            .get(&format!("{BEHAVIOR}{quick}"))
            .expect(200)
            .json();
        assert_eq!(snapshot["last_events"][0]["event"], "live", "{snapshot}");
    }
    // One that costs much reads whole files; it holds up nothing quick either.
    let mut costly = server.connect();
    costly
        .send(&http::get(&format!("{BEHAVIOR}?event_type=view&limit=1")))
        .unwrap();
    server
        .connect()
        .get(&format!("{BEHAVIOR}?event_type=live&limit=1"))
        .expect(200);
    assert_eq!(refused(), 4.0);
    drop((waiting, costly));
    await_true("all of them to leave", || {
        server.connect().get(EMPTY).status == 200
    });
}
