//! The log goes to a stream of NATS JetStream, each event once and in order, whatever is killed meanwhile.

mod common;

use std::path::Path;

use common::await_true;
use common::http::{self, BATCH};
use common::log;
use common::nats::{Cluster, Message};
use common::server::{Launch, Server};
use serde_json::Value;

fn shipping(folder: &Path, url: &str, node: &str) -> Launch {
    Launch::new(folder)
        .set("METRICS_SHIP_URL", url)
        .set("METRICS_NODE", node)
        .set("METRICS_SHIP_REPLICAS", "1")
}

fn post(server: &Server, from: u64, count: u64) {
    let event = |number: u64| {
        let name = ["page_view", "a.b c", "buy"][number as usize % 3];
        format!(r#"{{"visitor_id":"visitor-{number}","event":"{name}","metadata":{{"n":{number}}}}}"#)
    };
    let body: Vec<_> = (from..from + count).map(event).collect();
    let answer = server
        .connect()
        .call(&http::post(&format!("{BATCH}?ack=written"), &body.join("\n")));
    assert_eq!(answer.status, 202, "{}", answer.text());
}

/// Checks that the messages are the lines of the log, each once, in order, and say where they are from.
fn check(messages: &[Message], path: &Path) {
    let lines = log::lines(path);
    let shipped: Vec<String> = messages.iter().flat_map(Message::lines).collect();
    assert_eq!(shipped.len(), lines.len());
    assert!(shipped == lines);
    let spans: Vec<Vec<&str>> = messages
        .iter()
        .map(|message| message.span.split(' ').collect())
        .collect();
    for (pair, message) in spans.windows(2).zip(&messages[1..]) {
        assert_eq!(pair[1][1], pair[0][3], "{message:?}");
    }
}

#[test]
fn each_event_is_a_message_with_its_node_and_name_in_the_subject() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Cluster::start(folder.path(), 1);
    let launch = shipping(folder.path(), &nats.url(), "eu-1");
    let server = launch.start();
    post(&server, 0, 300);
    await_true("all is shipped", || nats.messages_in("metrics-eu-1") == Some(300));
    let messages = nats.messages("metrics-eu-1");
    check(&messages, &launch.log());
    let subjects = ["metrics.eu-1.page_view", "metrics.eu-1.a_b_c", "metrics.eu-1.buy"];
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message.subject, subjects[number % 3]);
        let span: Vec<_> = message.span.split(' ').collect();
        assert_eq!(message.id, format!("eu-1:{}:{}", span[0], span[2]));
    }
    server.stop();
    // What comes after a restart follows, and nothing is sent again.
    let server = launch.clone().set("METRICS_SHIP_PACK", "on").start();
    post(&server, 300, 5_000);
    await_true("the rest is shipped", || {
        nats.messages("metrics-eu-1")
            .iter()
            .map(|message| message.lines().len())
            .sum::<usize>()
            == 5_300
    });
    let messages = nats.messages("metrics-eu-1");
    check(&messages, &launch.log());
    assert!(messages.len() < 320, "{}", messages.len());
    assert_eq!(messages[300].subject, "metrics.eu-1._frame");
    server.stop();
}

fn health(server: &Server) -> Value {
    server.connect().get(http::HEALTH).json()
}

#[test]
fn a_stream_that_is_another_is_refused_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Cluster::start(folder.path(), 1);
    let launch = shipping(folder.path(), "off", "a");
    launch.start().stop();
    std::fs::write(launch.log(), "").unwrap();
    nats.block_on(async {
        let config = async_nats::jetstream::stream::Config {
            name: "metrics-a".into(),
            subjects: vec!["metrics.a.>".into()],
            max_age: std::time::Duration::from_secs(60),
            duplicate_window: std::time::Duration::from_secs(60),
            num_replicas: 1,
            ..Default::default()
        };
        nats.connect().await.unwrap().create_stream(config).await.unwrap();
    });
    let output = launch.run(&["ship", &nats.url(), "--ship-keep-for", "1h"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for difference in [
        "its age limit is 60s and not 3600s (METRICS_SHIP_KEEP_FOR)",
        "its duplicate window is 60s and not 120s (METRICS_SHIP_DUPLICATES)",
    ] {
        assert!(told.contains(difference), "{told}");
    }
    assert!(!told.contains("replicas"), "{told}");
}

#[test]
fn while_nats_is_down_the_log_waits_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut nats = Cluster::start(folder.path(), 1);
    let launch = shipping(folder.path(), &nats.url(), "a").set("METRICS_SHIP_PACK", "on");
    let server = launch.start();
    post(&server, 0, 100);
    await_true("all is shipped", || {
        health(&server)["ship"]["lag_bytes"] == 0 && health(&server)["ship"]["events"] == 100
    });
    nats.kill9(0);
    await_true("it is noticed", || health(&server)["ship"]["connected"] == false);
    post(&server, 100, 1_000);
    let shipped = health(&server);
    assert_eq!(
        (&shipped["ok"], &shipped["ship"]["events"]),
        (&Value::Bool(true), &100.into())
    );
    assert!(
        shipped["ship"]["lag_bytes"].as_u64().unwrap() > 100_000,
        "{shipped}"
    );
    assert!(shipped["ship"]["error"].is_string(), "{shipped}");
    let metrics = server.connect().get("/metrics");
    let metrics = metrics.text();
    assert!(metrics.contains("floodgate_ship_connected 0"), "{metrics}");
    assert!(metrics.contains("floodgate_ship_events_total 100"), "{metrics}");
    nats.run(0);
    await_true("the rest is shipped", || {
        health(&server)["ship"]["lag_bytes"] == 0
    });
    check(&nats.messages("metrics-a"), &launch.log());
    server.stop();
}

#[test]
fn a_stream_that_has_lost_its_end_is_noticed_and_gets_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut nats = Cluster::start(folder.path(), 1);
    let launch = shipping(folder.path(), &nats.url(), "a").set("METRICS_SHIP_PACK", "on");
    let server = launch.start();
    let await_all = |events: u64| {
        await_true("all is shipped", || {
            let shipped = &health(&server)["ship"];
            shipped["lag_bytes"] == 0 && shipped["events"] == events && shipped["connected"] == true
        })
    };
    post(&server, 0, 100);
    await_all(100);
    // What the server of NATS has is kept, and put in place of what it has later.
    nats.kill9(0);
    let (store, kept) = (nats.store(0), folder.path().join("kept"));
    copy(&store, &kept);
    nats.run(0);
    post(&server, 100, 50);
    await_all(150);
    post(&server, 150, 50);
    await_all(200);
    nats.kill9(0);
    std::fs::remove_dir_all(&store).unwrap();
    copy(&kept, &store);
    nats.run(0);
    await_all(300);
    check(&nats.messages("metrics-a"), &launch.log());
    let told = server.stderr();
    assert!(
        told.contains("the stream has lost messages that it had acknowledged"),
        "{told}"
    );
    server.stop();
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn a_log_whose_disk_was_lost_begins_a_new_life() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Cluster::start(folder.path(), 1);
    let mut lives = Vec::new();
    let mut lines = Vec::new();
    for number in 0..3 {
        let disk = tempfile::tempdir().unwrap();
        let launch = shipping(disk.path(), &nats.url(), "a");
        let server = launch.start();
        post(&server, 1_000 * number, 10 + number);
        lines.extend(log::lines(&launch.log()));
        await_true("all is shipped", || {
            nats.messages_in("metrics-a") == Some(lines.len() as u64)
        });
        server.stop();
        let life = nats
            .messages("metrics-a")
            .last()
            .unwrap()
            .span
            .split_once(' ')
            .unwrap()
            .0
            .parse::<u64>()
            .unwrap();
        lives.push(life);
    }
    assert!(lives.is_sorted_by(|one, other| one < other), "{lives:?}");
    let shipped: Vec<_> = nats
        .messages("metrics-a")
        .iter()
        .flat_map(Message::lines)
        .collect();
    assert_eq!(shipped, lines);
}

#[test]
fn what_a_power_cut_took_from_the_log_stays_in_the_stream_and_the_rest_follows_once() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Cluster::start(folder.path(), 1);
    let launch = shipping(folder.path(), &nats.url(), "a");
    let server = launch.start();
    post(&server, 0, 100);
    await_true("all is shipped", || nats.messages_in("metrics-a") == Some(100));
    server.stop();
    let before = log::lines(&launch.log());
    // The last forty lines were not on the disk; others come in their place, once more after that.
    let mut expected = before.clone();
    for (from, kept) in [(200, 60), (300, 70)] {
        let lines = log::lines(&launch.log());
        let kept = lines[..kept].join("\n") + "\n";
        std::fs::write(launch.log(), &kept).unwrap();
        let server = launch.start();
        post(&server, from, 30);
        expected.extend(log::lines(&launch.log()).split_off(kept.lines().count()));
        await_true("the rest is shipped", || {
            nats.messages_in("metrics-a") == Some(expected.len() as u64)
        });
        server.stop();
        let shipped: Vec<_> = nats
            .messages("metrics-a")
            .iter()
            .flat_map(Message::lines)
            .collect();
        assert_eq!(shipped, expected);
    }
}

/// A certificate for this machine and its key, in files of a folder.
fn certificate(folder: &Path, name: &str) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let pems = [made.cert.pem(), made.signing_key.serialize_pem()];
    ["cert", "key"].map(|kind| {
        let path = folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(&path, &pems[usize::from(kind == "key")]).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

type Settings<'s> = &'s [(&'s str, &'s str)];

#[test]
fn servers_are_let_in_by_password_token_and_certificates_and_not_without() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = &certificate(folder.path(), "server");
    let [ours, our_key] = &certificate(folder.path(), "ours");
    let [others, others_key] = &certificate(folder.path(), "others");
    let tls = format!("cert_file: {cert:?}, key_file: {key:?}");
    let ca = ("METRICS_NATS_CA", &**cert);
    // What the server asks for, what does not do, and what does.
    let cases: [(String, Settings, Settings); 5] = [
        (
            "authorization { user: eu, password: secret-1 }".to_owned(),
            &[("METRICS_NATS_USER", "eu"), ("METRICS_NATS_PASSWORD", "secret-2")],
            &[("METRICS_NATS_USER", "eu"), ("METRICS_NATS_PASSWORD", "secret-1")],
        ),
        (
            "authorization { token: secret-2 }".to_owned(),
            &[],
            &[("METRICS_NATS_TOKEN", "secret-2")],
        ),
        (format!("tls {{ {tls} }}"), &[], &[ca]),
        (
            format!("tls {{ {tls}, ca_file: {ours:?}, verify: true }}"),
            &[ca],
            &[ca, ("METRICS_NATS_CERT", ours), ("METRICS_NATS_KEY", our_key)],
        ),
        (
            format!(
                "tls {{ {tls}, ca_file: {ours:?}, verify: true }}\nauthorization {{ user: eu, password: secret-1 }}"
            ),
            &[
                ca,
                ("METRICS_NATS_USER", "eu"),
                ("METRICS_NATS_PASSWORD", "secret-1"),
                ("METRICS_NATS_CERT", others),
                ("METRICS_NATS_KEY", others_key),
            ],
            &[
                ca,
                ("METRICS_NATS_USER", "eu"),
                ("METRICS_NATS_PASSWORD", "secret-1"),
                ("METRICS_NATS_CERT", ours),
                ("METRICS_NATS_KEY", our_key),
            ],
        ),
    ];
    for (number, (extra, wrong, right)) in cases.into_iter().enumerate() {
        let folder = folder.path().join(number.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let nats = Cluster::with(&folder, 1, &extra);
        let launch = |settings: &[(&str, &str)]| {
            let bare = shipping(&folder, &nats.url(), "a");
            settings
                .iter()
                .fold(bare, |launch, (name, value)| launch.set(name, value))
        };
        let server = launch(wrong).start();
        post(&server, 0, 3);
        await_true("it is not let in", || {
            health(&server)["ship"]["failures"].as_u64() > Some(1)
        });
        assert_eq!(health(&server)["ship"]["events"], 0, "{extra}");
        server.stop();
        let server = launch(right).start();
        await_true("all is shipped", || health(&server)["ship"]["events"] == 3);
        let told = server.stderr();
        assert!(!told.contains("secret"), "{told}");
        assert!(
            told.lines()
                .all(|line| serde_json::from_str::<Value>(line).is_ok() && !line.contains("event: ")),
            "the client's own messages are not shown: {told}"
        );
        server.stop();
    }
}
