//! A view has all that a stream has, also where its consumer leaves out messages: the servers of NATS were seen to do that after some
//! of them had been killed. Here a consumer of that name is made beforehand, which begins too late.

mod common;

use std::path::Path;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use common::await_true;
use common::http::{self, BATCH, BEHAVIOR, HEALTH};
use common::nats::Cluster;
use common::server::{Launch, Server};

const EVENTS: u64 = 40;

fn post(server: &Server, count: u64) {
    let event = |number| format!(r#"{{"visitor_id":"visitor-{number}","event":"view"}}"#);
    let body: Vec<_> = (0..count).map(event).collect();
    let answer = server
        .connect()
        .call(&http::post(&format!("{BATCH}?ack=written"), &body.join("\n")));
    assert_eq!(answer.status, 202, "{}", answer.text());
}

fn total(server: &Server) -> u64 {
    let answer = server.connect().get(&format!("{BEHAVIOR}?node=a"));
    answer.json()["total"].as_u64().unwrap()
}

/// A node with some events in its stream, a message each, and a view that is about to start.
fn fleet(folder: &Path, nats: &Cluster) -> (Server, Launch) {
    let launch = |name: &str| {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Launch::new(&folder).set("METRICS_NODE", name)
    };
    let node = launch("a")
        .set("METRICS_SHIP_URL", nats.url())
        .set("METRICS_SHIP_REPLICAS", "1")
        .start();
    post(&node, EVENTS);
    await_true("all is shipped", || nats.messages_in("metrics-a") == Some(EVENTS));
    (node, launch("view").set("METRICS_FROM", nats.url()))
}

/// Makes the consumer that the view will use.
fn consumer(nats: &Cluster, deliver_policy: DeliverPolicy) {
    nats.block_on(async {
        let jetstream = nats.connect().await.unwrap();
        let stream = jetstream.get_stream("metrics-a").await.unwrap();
        let config = pull::Config {
            durable_name: Some("view-view".into()),
            ack_policy: AckPolicy::All,
            deliver_policy,
            ..Default::default()
        };
        stream.create_consumer(config).await.unwrap();
    });
}

#[test]
fn what_a_consumer_leaves_out_at_the_beginning_is_taken_out_of_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Cluster::start(folder.path(), 1);
    let (node, view) = fleet(folder.path(), &nats);
    let start_sequence = EVENTS - 10;
    consumer(&nats, DeliverPolicy::ByStartSequence { start_sequence });
    let view = view.start();
    await_true("the view has all", || total(&view) == EVENTS);
    assert_eq!(view.connect().get(HEALTH).json()["fleet"]["gaps"], 0);
    node.stop();
    view.stop();
}

#[test]
fn what_a_consumer_leaves_out_at_the_end_is_taken_out_of_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let nats = Cluster::start(folder.path(), 1);
    let (node, view) = fleet(folder.path(), &nats);
    consumer(&nats, DeliverPolicy::New);
    let view = view.start();
    await_true("the view has all", || total(&view) == EVENTS);
    post(&node, EVENTS);
    await_true("the view has all", || total(&view) == 2 * EVENTS);
    assert_eq!(view.connect().get(HEALTH).json()["fleet"]["gaps"], 0);
    node.stop();
    view.stop();
}
