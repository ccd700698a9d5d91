//! Three nodes ship to a cluster of three servers, two by themselves and one by a command beside it, and a fourth one is a view of
//! all of them. Nodes, the view, that command and servers are killed or stopped for a while, one at a time and under load. In the
//! end each node's stream holds each line of its log once and in order, with everything that was acknowledged, and so does the
//! view, whose totals are the sum of the nodes'.

mod common;

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use common::http::{BEHAVIOR, HEALTH};
use common::load::{Books, Load};
use common::nats::{Cluster, Message};
use common::server::{Launch, Server};
use common::{Rng, log};
use serde_json::Value;

const NAMES: [&str; 3] = ["eu-1", "eu-2", "us-1"];
const LEVELS: &[&str] = &["", "written", "synced"];
/// How long the streams may take to have everything once nothing is killed any more: that servers are gone is noticed, and
/// leaders are chosen, within seconds.
const SETTLE: Duration = Duration::from_secs(90);

/// A node over many lives.
struct Node {
    name: &'static str,
    launch: Launch,
    server: Option<Server>,
    /// What its lives before have said.
    said: String,
    /// Where it is a process of its own.
    shipper: Option<Child>,
    ships_itself: bool,
    books: Books,
}

impl Node {
    fn new(folder: &Path, number: usize, url: &str, level: &str) -> Node {
        let name = NAMES[number];
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let ships_itself = number > 0;
        let launch = Launch::new(&folder)
            .set("METRICS_NODE", name)
            .set("METRICS_LOG_LEVEL", level)
            .set("METRICS_SHIP_PACK", if number == 1 { "off" } else { "on" })
            .set("METRICS_ROTATE_BYTES", "256KiB")
            .set("METRICS_ROTATE_REST", "0ms");
        let launch = match ships_itself {
            true => launch.set("METRICS_SHIP_URL", url),
            false => launch,
        };
        Node {
            name,
            books: Books::new(&launch.log(), false),
            launch,
            server: None,
            said: String::new(),
            shipper: None,
            ships_itself,
        }
    }

    fn run(&mut self) {
        self.server = Some(self.launch.start());
    }

    fn kill(&mut self) {
        let server = self.server.take().expect("it runs");
        self.said += &server.stderr();
        server.kill9();
    }

    /// What its shipper has said.
    fn story(&self) -> String {
        match &self.server {
            Some(server) if self.ships_itself => format!("{}{}", self.said, server.stderr()),
            _ => {
                let path = self.launch.log().with_file_name("ship.log");
                std::fs::read_to_string(path).unwrap_or_default()
            }
        }
    }

    fn run_shipper(&mut self, url: &str) {
        if !self.ships_itself && self.launch.log().exists() {
            self.shipper = Some(self.launch.spawn(&["ship", url], "ship.log"));
        }
    }

    fn kill_shipper(&mut self) {
        if let Some(mut shipper) = self.shipper.take() {
            shipper.kill().unwrap();
            shipper.wait().unwrap();
        }
    }

    fn load(&self, round: u64, seed: u64) -> Load {
        let server = self.server.as_ref().expect("it runs");
        Load::start(server.address(), round, seed, LEVELS)
    }

    fn stream(&self) -> String {
        format!("metrics-{}", self.name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill_shipper();
    }
}

/// What is done in a round.
#[derive(Clone, Copy, Debug)]
enum Deed {
    KillNode(usize),
    KillView,
    KillShipper,
    KillServer(usize),
    FreezeServer(usize, Duration),
}

impl Deed {
    fn random(rng: &mut Rng) -> Deed {
        let victim = rng.below(3) as usize;
        match rng.below(9) {
            0 | 1 => Deed::KillNode(victim),
            2 => Deed::KillShipper,
            3 | 4 => Deed::KillServer(victim),
            5 | 6 => Deed::KillView,
            _ => Deed::FreezeServer(victim, Duration::from_millis(rng.below(9_000))),
        }
    }
}

/// Plays a game. A server is hit when all have what the streams have, as streams with three replicas bear one loss at a time;
/// `in_a_rush` it is not waited for that.
fn play(seed: u64, rounds: u64, in_a_rush: bool) {
    let mut rng = Rng::new(seed);
    let folder = Kept(tempfile::tempdir().unwrap());
    let folder = &folder.0;
    let mut nats = Cluster::start(folder.path(), 3);
    let url = nats.url();
    // Each message is told where there is time to read about it.
    let level = if rounds > 3 { "debug" } else { "info" };
    let mut nodes: Vec<Node> = (0..3)
        .map(|number| Node::new(folder.path(), number, &url, level))
        .collect();
    nodes.iter_mut().for_each(Node::run);
    let folder_of_view = folder.path().join("view");
    std::fs::create_dir_all(&folder_of_view).unwrap();
    let view_launch = Launch::new(&folder_of_view)
        .set("METRICS_NODE", "view")
        .set("METRICS_FROM", &url)
        .set("METRICS_ROTATE_BYTES", "1MiB")
        .set("METRICS_ROTATE_REST", "0ms");
    let mut view = view_launch.start();
    let streams: Vec<String> = nodes.iter().map(Node::stream).collect();
    for round in 0..rounds {
        let deed = Deed::random(&mut rng);
        eprintln!("seed {seed}, round {round}: {deed:?}");
        if let (false, Deed::KillServer(_) | Deed::FreezeServer(..)) = (in_a_rush, deed) {
            nats.await_current(&streams);
        }
        let loads: Vec<Load> = nodes.iter().map(|node| node.load(round, seed)).collect();
        let counts: Vec<u64> = nodes.iter().map(|_| rng.between(1, 1_500)).collect();
        loads
            .iter()
            .zip(&counts)
            .for_each(|(load, count)| load.await_acknowledged(*count));
        if nodes[0].shipper.is_none() {
            nodes[0].run_shipper(&url);
        }
        match deed {
            Deed::KillNode(victim) => nodes[victim].kill(),
            Deed::KillView => {
                view.kill9();
                view = view_launch.start();
            }
            Deed::KillShipper => nodes[0].kill_shipper(),
            Deed::KillServer(victim) => nats.kill9(victim),
            Deed::FreezeServer(victim, _) => nats.freeze(victim),
        }
        for ((node, load), count) in nodes.iter_mut().zip(loads).zip(counts) {
            if node.server.is_some() {
                load.await_acknowledged(count + 300);
            }
            node.books.add(&load.stop());
        }
        match deed {
            Deed::KillNode(victim) => nodes[victim].run(),
            Deed::KillView => {}
            Deed::KillShipper => nodes[0].run_shipper(&url),
            Deed::KillServer(victim) => nats.run(victim),
            Deed::FreezeServer(victim, time) => {
                std::thread::sleep(time);
                nats.thaw(victim);
            }
        }
    }
    nats.await_ready();
    nats.await_current(&streams);
    check(&nats, &mut nodes, seed);
    check_view(&view, &view_launch, &nodes, seed);
}

/// The events that `floodgate verify` finds in a log, which has to be fine.
fn verified(launch: &Launch) -> u64 {
    let output = launch.run(&["verify", "--json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_str(&text).expect("the report is JSON");
    report["events"].as_u64().expect("it has the number of events")
}

fn check_view(view: &Server, launch: &Launch, nodes: &[Node], seed: u64) {
    let counts: Vec<u64> = nodes.iter().map(|node| verified(&node.launch)).collect();
    let total: u64 = counts.iter().sum();
    let deadline = Instant::now() + SETTLE;
    let total_of = |query: &str| {
        let answer = view.connect().get(&format!("{BEHAVIOR}{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["total"].as_u64().expect("a total is a number")
    };
    while total_of("") < total {
        let health = view.connect().get(HEALTH).json()["fleet"].clone();
        assert!(
            Instant::now() < deadline,
            "seed {seed}: {} of {total}: {health}",
            total_of("")
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(total_of(""), total, "seed {seed}");
    assert_eq!(verified(launch), total, "seed {seed}");
    let lines = log::lines(&launch.log());
    for (node, count) in nodes.iter().zip(counts) {
        assert_eq!(
            total_of(&format!("?node={}", node.name)),
            count,
            "seed {seed}, {}",
            node.name
        );
        let end = format!(r#","node":"{}","at":""#, node.name);
        let of_node = lines
            .iter()
            .filter_map(|line| Some(format!("{}}}", line.split_once(&end)?.0)));
        let of_node: Vec<String> = of_node.collect();
        assert!(
            of_node == log::lines(&node.launch.log()),
            "seed {seed}, {}",
            node.name
        );
    }
}

fn check(nats: &Cluster, nodes: &mut [Node], seed: u64) {
    let deadline = Instant::now() + SETTLE;
    for node in nodes {
        node.books.check_log(&format!("seed {seed}, {}", node.name));
        let losses = node
            .story()
            .matches("lost messages that it had acknowledged")
            .count();
        if losses > 0 {
            eprintln!(
                "{}: its stream had lost what it had acknowledged, {losses} times",
                node.name
            );
        }
        let lines = log::lines(&node.launch.log());
        let shipped = loop {
            let messages = nats.messages(&node.stream());
            let shipped: Vec<String> = messages.iter().flat_map(Message::lines).collect();
            if shipped.len() >= lines.len() {
                break shipped;
            }
            if Instant::now() > deadline {
                break shipped;
            }
            std::thread::sleep(Duration::from_millis(300));
        };
        let differs = shipped.iter().zip(&lines).position(|(one, other)| one != other);
        if differs.is_some() || shipped.len() != lines.len() {
            tell(nats, node);
            panic!(
                "seed {seed}, {}: the stream has {} events and the log {}; the first that differs: {differs:?}",
                node.name,
                shipped.len(),
                lines.len()
            );
        }
    }
}

/// Tells what happened where the stream of a node is not its log: its messages there, what the shipper said of them, and what the
/// servers say.
fn tell(nats: &Cluster, node: &Node) {
    const AROUND: u64 = 8;
    let messages = nats.messages(&node.stream());
    let spans: Vec<Vec<&str>> = messages
        .iter()
        .map(|message| message.span.split(' ').collect())
        .collect();
    let story = node.story();
    for (pair, message) in spans.windows(2).zip(&messages[1..]) {
        if pair[1][1] == pair[0][3] {
            continue;
        }
        let near = message.sequence.saturating_sub(AROUND)..message.sequence + AROUND;
        eprintln!("--- message {} does not follow the one before:", message.sequence);
        for message in messages.iter().filter(|message| near.contains(&message.sequence)) {
            eprintln!(
                "{} {} ({} bytes)",
                message.sequence,
                message.span,
                message.payload.len()
            );
        }
        let is_near = |line: &&str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line["number"]
                .as_u64()
                .is_none_or(|number| near.contains(&number))
        };
        story.lines().filter(is_near).for_each(|line| eprintln!("{line}"));
    }
    nats.tell(&node.stream());
}

/// A game's files: they stay where it was lost.
struct Kept(tempfile::TempDir);

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            eprintln!("--- the files are in {}", self.0.path().display());
        }
    }
}

#[test]
fn streams_and_view_have_each_event_once_whatever_is_killed() {
    play(1, 3, false);
}

/// What `scripts/fleet` runs.
#[test]
#[ignore = "takes minutes"]
fn streams_and_view_have_each_event_once_over_many_rounds() {
    let seed = std::env::var("FLEET_SEED").map_or(1, |seed| seed.parse().expect("a seed is a number"));
    play(seed, 20, std::env::var_os("FLEET_RUSH").is_some());
}
