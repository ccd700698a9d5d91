//! Load from several clients, and the books that tell afterwards what must be in the log.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use super::http::{self, Client};
use super::log::{self, Reader};
use super::{Rng, await_some, await_true};

/// The clients that write at the same time.
const CLIENTS: u64 = 4;

const BURST_REQUESTS_MAX: u64 = 32;
const BATCH_EVENTS_MAX: u64 = 200;
const PADDING_BYTES_MAX: u64 = 300;

/// An event's identity: the round of the test, the client and a count, from the top down.
fn first_id(round: u64, client: u64) -> u64 {
    round << 40 | client << 32
}

/// The client (and round) that sent an event.
fn sender(id: u64) -> u64 {
    id >> 32
}

/// The body of the event `id`.
fn event_body(id: u64, rng: &mut Rng) -> String {
    let event = rng.pick(&["page_view", "link_click", "scroll"]);
    let padding = "é\\u00e9x".repeat((rng.below(PADDING_BYTES_MAX) / 9) as usize);
    format!(
        r#"{{"visitor_id":"v-{id:016x}","event":"{event}","metadata":{{"id":{id},"padding":"{padding}"}}}}"#
    )
}

/// What happened to the events of a load.
#[derive(Debug, Default)]
pub struct Tally {
    pub attempted: Vec<u64>,
    pub acknowledged: Vec<u64>,
    /// Answers with 503.
    pub refusals: u64,
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    threads: Vec<JoinHandle<Tally>>,
    acknowledged: Arc<AtomicU64>,
    must_stop: Arc<AtomicBool>,
}

impl Load {
    /// Sets four clients to work; each asks for levels out of `levels`, where "" asks for none.
    pub fn start(address: SocketAddr, round: u64, seed: u64, levels: &'static [&'static str]) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let must_stop = Arc::new(AtomicBool::new(false));
        let threads = (0..CLIENTS)
            .map(|client| {
                let mut worker = Worker {
                    rng: Rng::new(
                        seed.wrapping_mul(31)
                            .wrapping_add(round)
                            .wrapping_mul(31)
                            .wrapping_add(client),
                    ),
                    levels,
                    next_id: first_id(round, client),
                    tally: Tally::default(),
                    acknowledged: Arc::clone(&acknowledged),
                };
                let must_stop = Arc::clone(&must_stop);
                thread::spawn(move || {
                    // An error is how the end of the server shows.
                    let _: io::Result<()> = (|| {
                        let mut connection = Client::connect(address)?;
                        while !must_stop.load(Ordering::Relaxed) {
                            worker.step(&mut connection)?;
                        }
                        Ok(())
                    })();
                    worker.tally
                })
            })
            .collect();
        Self {
            threads,
            acknowledged,
            must_stop,
        }
    }

    /// Waits until `count` events are acknowledged.
    pub fn await_acknowledged(&self, count: u64) {
        await_true("events to be acknowledged", || {
            let is_enough = self.acknowledged.load(Ordering::Relaxed) >= count;
            assert!(
                is_enough || self.threads.iter().any(|thread| !thread.is_finished()),
                "every client gave up"
            );
            is_enough
        });
    }

    /// Waits for the clients to end because the server did.
    pub fn finish(self) -> Tally {
        let mut all = Tally::default();
        for thread in self.threads {
            let tally = thread.join().expect("clients see no answer but 202 and 503");
            all.attempted.extend(tally.attempted);
            all.acknowledged.extend(tally.acknowledged);
            all.refusals += tally.refusals;
        }
        all
    }

    /// Ends the load and waits for the clients.
    pub fn stop(self) -> Tally {
        self.must_stop.store(true, Ordering::Relaxed);
        self.finish()
    }
}

struct Worker {
    rng: Rng,
    levels: &'static [&'static str],
    next_id: u64,
    tally: Tally,
    acknowledged: Arc<AtomicU64>,
}

impl Worker {
    /// One write of one kind: a single event, a pipelined burst of them, or a batch.
    fn step(&mut self, connection: &mut Client) -> io::Result<()> {
        let mut requests = Vec::new();
        let mut groups = Vec::new();
        match self.rng.below(10) {
            0..=4 => groups.push(self.single(&mut requests)),
            5..=7 => {
                for _ in 0..self.rng.between(2, BURST_REQUESTS_MAX) {
                    groups.push(self.single(&mut requests));
                }
            }
            _ => groups.push(self.batch(&mut requests)),
        }
        self.tally.attempted.extend(groups.iter().flatten());
        connection.send(&requests)?;
        for ids in groups {
            let answer = connection.try_answer()?;
            match answer.status {
                202 => {
                    self.acknowledged.fetch_add(ids.len() as u64, Ordering::Relaxed);
                    self.tally.acknowledged.extend(ids);
                }
                503 => self.tally.refusals += 1,
                status => panic!("{status}: {}", answer.text()),
            }
        }
        Ok(())
    }

    fn path(&mut self, path: &str) -> String {
        match self.rng.pick(self.levels) {
            "" => path.to_owned(),
            level => format!("{path}?ack={level}"),
        }
    }

    fn event(&mut self) -> (u64, String) {
        let id = self.next_id;
        self.next_id += 1;
        (id, event_body(id, &mut self.rng))
    }

    fn single(&mut self, requests: &mut Vec<u8>) -> Vec<u64> {
        let (id, body) = self.event();
        requests.extend(http::post(&self.path(http::EVENT), &body));
        vec![id]
    }

    fn batch(&mut self, requests: &mut Vec<u8>) -> Vec<u64> {
        let count = self.rng.between(1, BATCH_EVENTS_MAX);
        let (ids, bodies): (Vec<u64>, Vec<String>) = (0..count).map(|_| self.event()).unzip();
        let body = if self.rng.below(2) == 0 {
            format!("[{}]", bodies.join(","))
        } else {
            bodies.join("\n")
        };
        let path = self.path(http::BATCH);
        let content_type = if body.starts_with('[') {
            "application/json"
        } else {
            "application/x-ndjson"
        };
        requests.extend(http::request(
            "POST",
            &path,
            &[("Content-Type", content_type)],
            body.as_bytes(),
        ));
        ids
    }
}

/// What the log must hold after all rounds so far.
#[derive(Debug)]
pub struct Books {
    /// Whether lines have numbers.
    numbered: bool,
    reader: Reader,
    attempted: HashSet<u64>,
    acknowledged: HashSet<u64>,
    /// The events in the log, in its order.
    stored: Vec<u64>,
    stored_set: HashSet<u64>,
    /// The last acknowledged event in the log, by sender.
    latest: HashMap<u64, u64>,
}

impl Books {
    /// Books for the log at `path`, which begins empty.
    pub fn new(path: &Path, numbered: bool) -> Self {
        Self {
            numbered,
            reader: Reader::new(path),
            attempted: HashSet::new(),
            acknowledged: HashSet::new(),
            stored: Vec::new(),
            stored_set: HashSet::new(),
            latest: HashMap::new(),
        }
    }

    /// Takes over what the clients know.
    pub fn add(&mut self, tally: &Tally) {
        self.attempted.extend(&tally.attempted);
        self.acknowledged.extend(&tally.acknowledged);
    }

    /// Checks the log: every acknowledged event is there once, every other at most once, nothing else is,
    /// and each client's acknowledged events are in the order of their acknowledgement.
    pub fn check_log(&mut self, context: &str) {
        for line in self.reader.added() {
            let event = log::event(&line);
            let id = event["metadata"]["id"].as_u64().expect("every event has an id");
            assert_eq!(
                event["visitor_id"],
                format!("v-{id:016x}"),
                "{context}: a line of two events: {line}"
            );
            assert!(self.attempted.contains(&id), "{context}: nobody sent {id:x}");
            assert!(self.stored_set.insert(id), "{context}: {id:x} is there twice");
            self.stored.push(id);
            let number = self.numbered.then_some(self.stored.len() as u64);
            assert_eq!(
                event["seq"].as_u64(),
                number,
                "{context}: the line's number: {line}"
            );
            if self.acknowledged.contains(&id)
                && let Some(before) = self.latest.insert(sender(id), id)
            {
                assert!(before < id, "{context}: {before:x} comes before {id:x}");
            }
        }
        let lost: Vec<&u64> = self.acknowledged.difference(&self.stored_set).take(5).collect();
        assert!(
            lost.is_empty(),
            "{context}: acknowledged and not in the log, for one: {lost:x?}"
        );
    }

    /// Checks what the server tells of the log against the log.
    pub fn check_snapshot(&self, address: SocketAddr, path: &Path, context: &str) {
        let mut client = Client::connect(address).expect("the server takes connections");
        // A file that was large enough when the server started is sealed soon after.
        let snapshot = await_some("a snapshot with the live file's size", || {
            let answer = client.get(&format!("{}?limit=50", http::BEHAVIOR));
            let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            let snapshot = (answer.status == 200).then(|| answer.json())?;
            (snapshot["file_size_bytes"] == length).then_some(snapshot)
        });
        let count = self.stored.len() as u64;
        assert_eq!(
            snapshot["total"], count,
            "{context}: the total is the number of lines"
        );
        let by_event = snapshot["by_event"].as_array().expect("by_event is a list");
        let sum: u64 = by_event.iter().filter_map(|entry| entry["count"].as_u64()).sum();
        assert_eq!(sum, count, "{context}: the counts by event add up to the total");
        let last = snapshot["last_events"].as_array().expect("last_events is a list");
        let last: Vec<_> = last
            .iter()
            .map(|event| event["metadata"]["id"].as_u64())
            .collect();
        let expected: Vec<_> = self.stored.iter().rev().take(50).copied().map(Some).collect();
        assert_eq!(
            last, expected,
            "{context}: the last events are the last lines, newest first"
        );
    }

    /// The number of events in the log.
    pub fn stored_count(&self) -> usize {
        self.stored.len()
    }
}
