//! Plays every test vector against the server, each in several ways: the answers must not depend on how a
//! request reaches it.

mod common;

use std::thread;
use std::time::{Duration, SystemTime};

use common::Rng;
use common::http::Client;
use common::log::Reader;
use common::server::{Launch, Server};
use common::vectors::{self, Vector};

/// The requests in one write when they are pipelined.
const PIPELINED_REQUESTS: usize = 16;

/// Between the two writes of a split request: long enough that the server mostly sees them one by one. The
/// answers must be right either way.
const SPLIT_PAUSE: Duration = Duration::from_millis(1);

struct Stage {
    server: Server,
    reader: Reader,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// A server that answers when the line is in the file.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch::new(folder.path()).set("METRICS_ACK", "written");
        Self {
            server: launch.start(),
            reader: Reader::new(&launch.log()),
            _folder: folder,
        }
    }

    /// Plays `vector` on `client`, its request sent in two writes when `split` is within it.
    fn play(&mut self, client: &mut Client, vector: &Vector, split: Option<usize>) {
        let asked = SystemTime::now();
        let (first, second) = vector.request().split_at(split.unwrap_or(vector.request().len()));
        client
            .send(first)
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        if split.is_some() {
            thread::sleep(SPLIT_PAUSE);
            client
                .send(second)
                .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        }
        let answer = client
            .try_answer()
            .unwrap_or_else(|error| panic!("{}: no answer: {error}", vector.name));
        vector.check_answer(&answer);
        let added = self.reader.added();
        let expected = usize::from(vector.adds_a_line(answer.status));
        assert_eq!(added.len(), expected, "{}: lines added: {added:?}", vector.name);
        for line in &added {
            vector.check_line(line, asked);
        }
    }
}

#[test]
fn every_vector_holds_on_one_kept_connection() {
    let mut stage = Stage::new();
    let mut client = stage.server.connect();
    for vector in vectors::all() {
        stage.play(&mut client, &vector, None);
    }
}

#[test]
fn every_vector_holds_on_a_connection_of_its_own() {
    let mut stage = Stage::new();
    for vector in vectors::all() {
        let mut client = stage.server.connect();
        stage.play(&mut client, &vector, None);
    }
}

#[test]
fn every_vector_holds_when_requests_are_pipelined_in_one_write() {
    let mut stage = Stage::new();
    let mut client = stage.server.connect();
    for group in vectors::all().chunks(PIPELINED_REQUESTS) {
        let asked = SystemTime::now();
        let requests: Vec<u8> = group
            .iter()
            .flat_map(|vector| vector.request())
            .copied()
            .collect();
        client.send(&requests).unwrap();
        let mut stored = Vec::new();
        for vector in group {
            let answer = client
                .try_answer()
                .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
            vector.check_answer(&answer);
            if vector.adds_a_line(answer.status) {
                stored.push(vector);
            }
        }
        let added = stage.reader.added();
        let names: Vec<&str> = stored.iter().map(|vector| &*vector.name).collect();
        assert_eq!(
            added.len(),
            stored.len(),
            "one line for each of {names:?}: {added:?}"
        );
        for (vector, line) in stored.iter().zip(&added) {
            vector.check_line(line, asked);
        }
    }
}

#[test]
fn a_request_may_be_cut_in_two_at_every_point() {
    let mut stage = Stage::new();
    let mut client = stage.server.connect();
    let vector = &vectors::named(&["event-smallest"])[0];
    for split in 1..vector.request().len() {
        stage.play(&mut client, vector, Some(split));
    }
}

#[test]
fn requests_of_every_kind_may_be_cut_in_two() {
    const CUTS_PER_VECTOR: usize = 25;
    let names = [
        "event-all-fields",
        "event-pretty-printed",
        "event-byte-order-mark",
        "event-repeated-member-last-is-wrong",
        "metadata-30000-bytes",
        "utf-8-in-metadata",
        "body-open-string",
        "content-encoding-gzip",
        "content-encoding-zstd",
        "limit-0",
        "route-unknown",
    ];
    let mut rng = Rng::new(4);
    let mut stage = Stage::new();
    let mut client = stage.server.connect();
    for vector in vectors::named(&names) {
        for _ in 0..CUTS_PER_VECTOR {
            let split = rng.between(1, vector.request().len() as u64 - 1) as usize;
            stage.play(&mut client, &vector, Some(split));
        }
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut stage = Stage::new();
    let mut client = stage.server.connect();
    let vector = &vectors::named(&["event-all-fields"])[0];
    let (last, rest) = vector.request().split_last().unwrap();
    for byte in rest {
        client.send(&[*byte]).unwrap();
    }
    assert!(
        stage.reader.added().is_empty(),
        "nothing is stored before the request is whole"
    );
    client.send(&[*last]).unwrap();
    vector.check_answer(&client.answer());
    assert_eq!(stage.reader.added().len(), 1);
}

#[test]
fn instants_are_read_as_the_calendar_has_them() {
    let day = 86_400 * 1_000_000;
    assert_eq!(vectors::instant("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(vectors::instant("1969-12-31T23:59:58.75Z"), Some(-1_250_000));
    assert_eq!(
        vectors::instant("2024-03-01T00:00:00Z"),
        vectors::instant("2024-02-28T00:00:00Z").map(|t| t + 2 * day)
    );
    assert_eq!(
        vectors::instant("2025-10-09T08:53:20.000001Z"),
        Some(1_760_000_000_000_001)
    );
    assert_eq!(vectors::instant("2025-10-09T08:53:20+00:00"), None);
}
