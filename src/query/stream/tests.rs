//! Subscribers of all kinds on a log that is written, sealed and removed while they read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::crier::TURNS_A_CRY;
use super::*;
use crate::event::{Lines, Parser, Room, Take};
use crate::ingest::journal::Place;
use crate::ingest::{Engine, EngineConfig, FsyncPolicy, Level, Producer, RotationPolicy};
use crate::log::fs::OsFs;
use crate::log::keeper::KeepPolicy;
use crate::log::segment::Family;

const PATIENCE: Duration = Duration::from_secs(60);
const NAMES: [&str; 3] = ["a", "b", "c"];

struct World {
    streams: Arc<Streams>,
    engine: Engine,
    log: PathBuf,
    _folder: TempDir,
}

fn world(lag_max: Option<u64>, subscribers_max: usize) -> World {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("metrics.jsonl");
    let config = EngineConfig {
        log: log.clone(),
        journal: Place::Memory,
        journal_bytes_max: 1 << 20,
        journal_shrink_after: PATIENCE,
        publish_interval: Duration::from_millis(1),
        fsync: FsyncPolicy::Never,
        page_cache: None,
        line_seq: false,
        rotation: RotationPolicy {
            bytes: Some(100_000),
            every: None,
            rest: Duration::ZERO,
        },
        keep: KeepPolicy::default(),
        ring_capacity: 10,
        names_max: 2,
    };
    let engine = Engine::open(config, Arc::new(OsFs)).unwrap();
    let policy = StreamPolicy {
        subscribers_max,
        lag_max,
    };
    let streams = Arc::new(Streams::start(engine.view(), &log, policy, 1));
    while engine.view().is_recovering() {
        thread::yield_now();
    }
    World {
        streams,
        engine,
        log,
        _folder: folder,
    }
}

/// Stores the events with the numbers `numbers`, and waits until they are in the log.
fn store(producer: &mut Producer, numbers: std::ops::Range<usize>, filler: usize) {
    let body = |n: usize| {
        let filler = "x".repeat(filler);
        format!(
            r#"{{"visitor_id":"visitor-{n:06}","event":"{}","metadata":{{"filler":"{filler}"}}}}"#,
            NAMES[n % 3]
        )
    };
    let bodies: Vec<String> = numbers.map(body).collect();
    let mut lines = Lines::new();
    let (mut gathered, keep) = (Vec::new(), &mut |_| true);
    let room = Room {
        gathered: &mut gathered,
        keep,
    };
    let batch = format!("[{}]", bodies.join(","));
    let taken = Parser::new(32 << 10).batch(batch.as_bytes(), (None, None), Take::All, room, &mut lines);
    taken.unwrap().unwrap();
    producer.reserve(lines.bytes().len(), PATIENCE).unwrap();
    let commitment = producer.commit(&mut lines, Level::Written);
    producer.wait(commitment, PATIENCE);
}

/// What a subscriber was sent: numbers of events, and what gaps said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Event(usize),
    Gap(Option<u64>),
}

/// A subscriber on a thread of its own, with a socket that takes everything, but for when it does not.
struct Reader {
    subscription: Subscription,
    got: Vec<Got>,
    last_id: String,
}

impl Reader {
    fn new(subscription: Subscription) -> Reader {
        let me: Thread = thread::current();
        subscription.attend(move || me.unpark());
        Reader {
            last_id: subscription.position().to_string(),
            subscription,
            got: Vec::new(),
        }
    }

    /// Uses a turn, if there is one: it has to be ended then.
    fn take(&mut self) -> bool {
        let mut text = Vec::new();
        match self.subscription.turn(|piece| text.extend_from_slice(piece)) {
            Turn::None => return false,
            Turn::Taken => {}
            Turn::Failed(error) => panic!("{error}"),
        }
        let text = String::from_utf8(text).unwrap();
        for block in text.split_terminator("\n\n") {
            let number = |at: usize| block[at + "visitor-".len()..][..6].parse().unwrap();
            let event = block.find("visitor-").map(|at| Got::Event(number(at)));
            self.got.push(event.unwrap_or_else(|| {
                let data = block.strip_prefix("event: gap\nid: ").expect("a gap");
                let (_, skipped) = data.split_once("{\"skipped\":").unwrap();
                Got::Gap(skipped.trim_end_matches('}').parse().ok())
            }));
            let id = block.lines().find_map(|line| line.strip_prefix("id: "));
            self.last_id = id.expect("each has an id").to_owned();
        }
        true
    }

    /// Uses turns as long as there are some.
    fn take_all(&mut self) -> bool {
        let mut any = false;
        while self.take() {
            self.subscription.sent();
            any = true;
        }
        any
    }
}

/// Numbers out of a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

#[test]
fn whoever_comes_goes_lags_and_resumes_gets_each_event_that_he_wants_once() {
    const EVENTS: usize = 20_000;
    let world = world(None, 100);
    let stored = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        for seed in 1..=12_usize {
            let (streams, stored) = (&world.streams, &stored);
            scope.spawn(move || {
                let mut random = Random((seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let wanted: Vec<usize> = (0..3).filter(|name| (seed % 8) & (1 << name) != 0).collect();
                let is_wanted = |number: usize| wanted.is_empty() || wanted.contains(&(number % 3));
                let mut got = Vec::new();
                let mut from = Position::FIRST;
                loop {
                    let filter = Filter::of(wanted.iter().map(|name| NAMES[*name]));
                    let mut reader = Reader::new(streams.subscribe(filter, Some(from)).unwrap());
                    // How long this connection lasts.
                    for _ in 0..random.below(400) {
                        let is_over = stored.load(Ordering::Acquire);
                        match reader.take() {
                            true if random.below(4) > 0 => reader.subscription.sent(),
                            true => {
                                reader.subscription.away();
                                thread::sleep(Duration::from_micros(300));
                                reader.subscription.back();
                            }
                            false => thread::park_timeout(Duration::from_millis(1)),
                        }
                        if is_over && reader.subscription.position() == streams.shared.view.end().at {
                            reader.take_all();
                            got.append(&mut reader.got);
                            let all = (0..EVENTS).filter(|number| is_wanted(*number)).map(Got::Event);
                            assert!(got.iter().cloned().eq(all), "seed {seed}: {} events", got.len());
                            return;
                        }
                    }
                    got.append(&mut reader.got);
                    // As one who wants few is told by heartbeats, or as the last event said.
                    from = match random.below(2) {
                        0 => reader.subscription.position(),
                        _ => reader.last_id.parse().unwrap(),
                    };
                }
            });
        }
        let mut producer = world.engine.entrance().producer();
        for first in (0..EVENTS).step_by(50) {
            store(&mut producer, first..first + 50, 100);
            if first % 1_000 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
        stored.store(true, Ordering::Release);
    });
    assert!(Family::of(&world.log).list(&OsFs).unwrap().len() > 20);
    assert_eq!(world.streams.status().subscribers, 0);
    assert_eq!(world.streams.status().gaps, 0);
}

#[test]
fn events_that_are_sent_and_those_that_gaps_tell_of_are_all_there_are() {
    const EVENTS: usize = 6_000;
    let world = world(Some(64 << 10), 100);
    let mut readers: Vec<Reader> = (0..4)
        .map(|_| Reader::new(world.streams.subscribe(Filter::of([]), None).unwrap()))
        .collect();
    let mut producer = world.engine.entrance().producer();
    let mut random = Random(5);
    let mut away = [false; 4];
    for first in (0..EVENTS).step_by(50) {
        store(&mut producer, first..first + 50, 100);
        // The first one keeps up, the last one hardly ever reads.
        for (slowness, reader) in readers.iter_mut().enumerate() {
            if away[slowness] && random.below(8 * slowness * slowness) == 0 {
                away[slowness] = false;
                reader.subscription.back();
            }
        }
        // Whoever is there uses his turns: others wait for them.
        while let Some(slowness) = (0..4).find(|number| !away[*number] && readers[*number].take()) {
            away[slowness] = slowness > 0;
            match away[slowness] {
                true => readers[slowness].subscription.away(),
                false => readers[slowness].subscription.sent(),
            }
        }
    }
    let end = world.engine.view().end().at;
    for (reader, _) in readers.iter().zip(away).filter(|(_, away)| *away) {
        reader.subscription.back();
    }
    while readers.iter().any(|reader| reader.subscription.position() < end) {
        let mut any = false;
        for reader in &mut readers {
            any |= reader.take_all();
        }
        if !any {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
    let mut gaps = 0;
    for reader in readers {
        let mut next = 0;
        for got in &reader.got {
            match got {
                Got::Event(number) => {
                    assert_eq!(*number, next);
                    next += 1;
                }
                Got::Gap(skipped) => {
                    gaps += 1;
                    next += skipped.expect("it is known how many") as usize;
                }
            }
        }
        assert_eq!(next, EVENTS);
    }
    assert!(gaps > 0);
    assert_eq!(world.streams.status().gaps, gaps);
}

#[test]
fn who_wants_other_events_is_not_woken_and_few_are_awake_at_a_time() {
    let world = world(None, 100);
    let subscribe = |name| {
        let woken = Arc::new(AtomicBool::new(false));
        let subscription = world.streams.subscribe(Filter::of([name]), None).unwrap();
        let flag = Arc::clone(&woken);
        subscription.attend(move || flag.store(true, Ordering::Release));
        (subscription, woken)
    };
    let those = |name: &'static str, count: usize| (0..count).map(|_| subscribe(name)).collect::<Vec<_>>();
    let mut all = those("b", 6);
    all.extend(those("other", 6));
    let awake = || -> Vec<usize> {
        let is_awake = |number: &usize| all[*number].1.load(Ordering::Acquire);
        (0..all.len()).filter(is_awake).collect()
    };
    // Waits for somebody's turn, and uses it: whose it was, and how much he was handed out.
    let turn = || {
        let deadline = Instant::now() + PATIENCE;
        let first = loop {
            let awake = awake();
            assert!(awake.len() <= TURNS_A_CRY && Instant::now() < deadline);
            if let [first, ..] = awake[..] {
                break first;
            }
            thread::yield_now();
        };
        let (subscription, woken) = &all[first];
        woken.store(false, Ordering::Release);
        let mut text = 0;
        assert_eq!(subscription.turn(|piece| text += piece.len()), Turn::Taken);
        (first, text)
    };
    // Everybody has a first look.
    let mut seen = Vec::new();
    for _ in 0..12 {
        let (number, text) = turn();
        assert_eq!(text, 0);
        all[number].0.sent();
        seen.push(number);
    }
    assert!(seen.len() == 12 && (0..12).all(|number| seen.contains(&number)));
    store(&mut world.engine.entrance().producer(), 0..3, 10);
    for round in 0..6 {
        let (number, text) = turn();
        assert!(number < 6 && text > 0);
        // One who does not read gives up his turn as well.
        match round % 2 {
            0 => all[number].0.sent(),
            _ => all[number].0.away(),
        }
    }
    // The others have come to the end without being woken.
    assert!(awake().is_empty());
    let end = world.engine.view().end().at;
    assert!(all.iter().all(|(subscription, _)| subscription.position() == end));
    assert_eq!(world.streams.status().lag_bytes_max, 0);
}
