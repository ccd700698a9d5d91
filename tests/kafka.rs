//! The log in a topic of Kafka: the real command against librdkafka's own cluster of brokers, on loopback.
//! Runs with `cargo test --features kafka --test kafka`.
#![cfg(feature = "kafka")]

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::http::{self, BATCH};
use common::sealed::sealing_often;
use common::server::{Launch, Server};
use common::{Rng, await_some, await_true, log};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};

const TOPIC: &str = "metrics";
const PARTITIONS: i32 = 4;
const VISITORS: u64 = 20;

/// Three brokers with a topic. Owned by nobody else, so it may outlive all clients.
fn cluster() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 3).unwrap();
    cluster
}

/// `floodgate ship`, killed when dropped.
struct Ship(Child);

impl Ship {
    fn start(launch: &Launch, brokers: &str, arguments: &[&str]) -> Ship {
        let child = Command::new(env!("CARGO_BIN_EXE_floodgate"))
            .args(["ship", &format!("kafka://{brokers}/{TOPIC}"), "--node", "web-1"])
            .arg("--jsonl")
            .arg(launch.log())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        Ship(child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id() as i32).unwrap(), signal).unwrap();
    }

    fn end(mut self) -> (ExitStatus, String) {
        let status = await_some("the shipper's end", || self.0.try_wait().unwrap());
        let mut told = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        (status, told)
    }

    fn stop(self) {
        self.signal(Signal::TERM);
        let (status, told) = self.end();
        assert_eq!(status.code(), Some(0), "{told}");
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a partition has: the record's line, its key, and the place in the log.
#[derive(Clone, Debug)]
struct Record {
    line: String,
    key: String,
    node: String,
    position: (u64, u64),
}

/// All records of each partition, in order.
fn records(brokers: &str) -> BTreeMap<i32, Vec<Record>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(TOPIC, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&all).unwrap();
    let mut records: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    let mut ends = 0;
    let deadline = Instant::now() + common::PATIENCE;
    while ends < PARTITIONS {
        assert!(Instant::now() < deadline, "the topic can be read");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records
                .entry(message.partition())
                .or_default()
                .push(record(&message)),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    records
}

fn record(message: &impl Message) -> Record {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let header = |name: &str| {
        let headers = message.headers().unwrap();
        text(headers.iter().find(|header| header.key == name).unwrap().value)
    };
    let position = header("floodgate-position");
    let (number, offset) = position.split_once(':').unwrap();
    Record {
        line: text(message.payload()),
        key: text(message.key()),
        node: header("floodgate-node"),
        position: (number.parse().unwrap(), offset.parse().unwrap()),
    }
}

/// Posts `count` events of some visitors, numbered from `first` on.
fn post(server: &Server, first: u64, count: u64) {
    let event = |number| {
        format!(
            "{{\"visitor_id\":\"visitor-{:02}\",\"event\":\"view\",\"metadata\":{{\"number\":{number},\"filler\":\"{}\"}}}}\n",
            number % VISITORS,
            "x".repeat(300)
        )
    };
    let body: String = (first..first + count).map(event).collect();
    let request = http::request("POST", BATCH, &[("X-Ack", "written")], body.as_bytes());
    server.connect().call(&request).expect(202);
}

/// The numbers of the events, by partition. Fails unless each record has the key, the node and the place that it must have.
fn numbers(brokers: &str) -> BTreeMap<i32, Vec<(u64, (u64, u64))>> {
    let number = |record: &Record| {
        let event = log::event(&record.line);
        assert_eq!(event["visitor_id"], record.key.as_str(), "the key is the visitor");
        assert_eq!(record.node, "web-1");
        (event["metadata"]["number"].as_u64().unwrap(), record.position)
    };
    let records = records(brokers);
    let mut homes = BTreeMap::new();
    for (partition, records) in &records {
        for record in records {
            let home = homes.entry(record.key.clone()).or_insert(*partition);
            assert_eq!(home, partition, "a visitor has one partition");
        }
    }
    records
        .into_iter()
        .map(|(partition, records)| (partition, records.iter().map(number).collect()))
        .collect()
}

fn count(brokers: &str) -> usize {
    records(brokers).values().map(Vec::len).sum()
}

#[test]
fn every_event_is_delivered_once_in_order_over_rotation_and_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, launch) = (cluster(), sealing_often(Launch::new(folder.path())));
    let brokers = cluster.bootstrap_servers();
    let server = launch.start();
    post(&server, 0, 200);
    let ship = Ship::start(&launch, &brokers, &[]);
    for round in 1..5 {
        post(&server, round * 200, 200);
    }
    await_true("all are delivered", || count(&brokers) == 1000);
    ship.stop();
    // What comes while nobody ships is shipped by the next, and nothing before it.
    post(&server, 1000, 200);
    let ship = Ship::start(&launch, &brokers, &[]);
    await_true("the rest is delivered", || count(&brokers) >= 1200);
    ship.stop();
    let mut all: Vec<u64> = Vec::new();
    for records in numbers(&brokers).values() {
        assert!(
            records.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1),
            "in the log's order, each once"
        );
        all.extend(records.iter().map(|(number, _)| number));
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..1200));
    server.stop();
}

#[test]
fn brokers_that_go_and_come_back_cost_nothing_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, launch) = (cluster(), Launch::new(folder.path()));
    let brokers = cluster.bootstrap_servers();
    let server = launch.start();
    post(&server, 0, 200);
    let ship = Ship::start(&launch, &brokers, &[]);
    await_true("it ships", || count(&brokers) == 200);
    for round in 1..4 {
        let broker = round as i32;
        cluster.broker_down(broker).unwrap();
        // Answers that say no, too: the client has to send those batches again.
        let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3];
        cluster.request_errors(rdkafka::types::RDKafkaApiKey::Produce, &errors);
        post(&server, round * 200, 200);
        cluster.broker_up(broker).unwrap();
    }
    await_true("all are delivered", || count(&brokers) >= 800);
    ship.stop();
    let mut all: Vec<u64> = Vec::new();
    for records in numbers(&brokers).values() {
        assert!(records.is_sorted_by(|a, b| a.0 < b.0), "in order, each once");
        all.extend(records.iter().map(|(number, _)| number));
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..800));
    server.stop();
}

#[test]
fn after_kills_everything_is_there_and_what_is_there_twice_can_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, launch) = (cluster(), sealing_often(Launch::new(folder.path())));
    let brokers = cluster.bootstrap_servers();
    let server = launch.start();
    let mut rng = Rng::new(7);
    let mut posted = 0;
    for _ in 0..6 {
        post(&server, posted, 300);
        posted += 300;
        let ship = Ship::start(&launch, &brokers, &[]);
        let least = count(&brokers);
        // At any instant: before it has begun, in the middle, when all is delivered and nothing bookmarked.
        std::thread::sleep(Duration::from_millis(rng.below(400)));
        ship.signal(Signal::KILL);
        ship.end();
        assert!(count(&brokers) >= least);
    }
    let ship = Ship::start(&launch, &brokers, &[]);
    let seen = || {
        let mut seen: Vec<u64> = Vec::new();
        for records in numbers(&brokers).values() {
            // What a consumer does: it drops what is not behind the last that it has.
            let mut last = None;
            for (number, position) in records {
                if last.is_none_or(|last| last < *position) {
                    seen.push(*number);
                    last = Some(*position);
                }
            }
        }
        seen.sort_unstable();
        seen
    };
    await_true("all are delivered", || seen().len() as u64 == posted);
    assert!(seen().into_iter().eq(0..posted), "each once");
    ship.stop();
    server.stop();
}

#[test]
fn what_somebody_has_to_set_right_ends_the_command_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, launch) = (cluster(), Launch::new(folder.path()));
    let brokers = cluster.bootstrap_servers();
    let server = launch.start();
    post(&server, 0, 1);
    // One log goes to one place.
    let first = Ship::start(&launch, &brokers, &[]);
    await_true("it ships", || count(&brokers) == 1);
    let (status, told) = Ship::start(&launch, &brokers, &[]).end();
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("another process ships this log"), "{told}");
    first.stop();
    let other = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .args(["ship", &format!("kafka://{brokers}/other"), "--jsonl"])
        .arg(launch.log())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    assert_eq!(other.status.code(), Some(1));
    assert!(
        told.contains("shipped to kafka:metrics and not to kafka:other"),
        "{told}"
    );
    // What Kafka does not take is not tried for ever.
    cluster
        .topic_error(
            TOPIC,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        )
        .unwrap();
    post(&server, 1, 1);
    let (status, told) = Ship::start(&launch, &brokers, &[]).end();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("was not delivered"), "{told}");
    server.stop();
}

#[test]
fn usage_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let properties = folder.path().join("kafka.properties");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_floodgate"))
            .arg("ship")
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["kafka://a/t"]).contains("`kafka://host:port/topic`"));
    assert!(run(&["kafka://a:1/t"]).contains("there is no log at"));
    std::fs::write(&properties, "acks=1\n").unwrap();
    let told = run(&["kafka://a:1/t", "--kafka-config", "kafka.properties"]);
    assert!(told.contains("acks is not yours to set"), "{told}");
}
