//! The log goes to a stream of NATS JetStream, each event once and in order, whatever is killed meanwhile.

mod common;

use std::path::Path;

use common::await_true;
use common::http::{self, BATCH};
use common::log;
use common::nats::{Cluster, Message};
use common::server::{Launch, Server};

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
