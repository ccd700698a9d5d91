//! What a shipper sent on a connection that was given up comes in later, when another connection has sent the same lines, perhaps cut
//! in another way: whatever of it the stream takes, it has each line of the log once and in order.

mod common;

use std::path::Path;
use std::time::Duration;

use common::await_true;
use common::detour::Detour;
use common::http::{self, BATCH};
use common::log;
use common::nats::{Cluster, Message};
use common::server::{Launch, Server};

const STREAM: &str = "metrics-a";
/// So many frames of a connection go one by one in any case.
const CAREFUL: u64 = 32;
const PACKED: [(&str, &str); 1] = [("METRICS_SHIP_PACK", "on")];

struct Late {
    folder: tempfile::TempDir,
    nats: Cluster,
    detour: Detour,
    launch: Launch,
    posted: u64,
}

impl Late {
    /// A server that ships by way of a detour, with so many messages in the stream and nothing under way.
    fn start(settings: &[(&str, &str)], messages: u64) -> (Late, Server) {
        let folder = tempfile::tempdir().unwrap();
        let nats = Cluster::start(folder.path(), 1);
        let detour = Detour::start(nats.address(0));
        let launch = launch(folder.path(), &detour.url(), settings);
        let server = launch.start();
        let mut late = Late {
            folder,
            nats,
            detour,
            launch,
            posted: 0,
        };
        for _ in 0..messages {
            late.post(&server, 1);
            late.await_all(&server);
        }
        late.detour.hold();
        (late, server)
    }

    fn post(&mut self, server: &Server, count: u64) {
        let event = |number| {
            format!(r#"{{"visitor_id":"visitor-{number}","event":"view","metadata":{{"n":{number}}}}}"#)
        };
        let body: Vec<_> = (self.posted..self.posted + count).map(event).collect();
        let answer = server
            .connect()
            .call(&http::post(&format!("{BATCH}?ack=written"), &body.join("\n")));
        assert_eq!(answer.status, 202, "{}", answer.text());
        self.posted += count;
    }

    /// Waits until the shipper believes that all is in the stream.
    fn await_all(&self, server: &Server) {
        await_true("all is shipped", || {
            let health = server.connect().get(http::HEALTH).json();
            health["ship"]["lag_bytes"] == 0 && health["ship"]["connected"] == true
        });
    }

    /// The stream is the log.
    fn check(self) {
        let messages = self.nats.messages(STREAM);
        let shipped: Vec<String> = messages.iter().flat_map(Message::lines).collect();
        let lines = log::lines(&self.launch.log());
        let spans: Vec<_> = messages.iter().map(|message| &message.span).collect();
        assert_eq!(lines.len() as u64, self.posted);
        assert_eq!(shipped.len(), lines.len(), "{spans:#?}");
        assert!(shipped == lines, "{spans:#?}");
        drop(self.folder);
    }
}

fn launch(folder: &Path, url: &str, settings: &[(&str, &str)]) -> Launch {
    let launch = Launch::new(folder)
        .set("METRICS_SHIP_URL", url)
        .set("METRICS_NODE", "a")
        .set("METRICS_SHIP_REPLICAS", "1");
    settings
        .iter()
        .fold(launch, |launch, (name, value)| launch.set(name, value))
}

#[test]
fn a_shorter_frame_that_begins_where_ours_does_is_not_taken_for_ours() {
    let (mut late, server) = Late::start(&PACKED, 1);
    late.post(&server, 50);
    let first = late.detour.await_held(None);
    late.post(&server, 70);
    late.detour.cut(first);
    let second = late.detour.await_held(Some(first));
    // The stream was asked, and then it takes what was still under way.
    late.detour.release(first);
    late.detour.pass();
    late.detour.release(second);
    late.await_all(&server);
    server.stop();
    late.check();
}

#[test]
fn what_was_sent_behind_a_frame_that_became_a_longer_one_is_not_taken() {
    let (mut late, server) = Late::start(&PACKED, CAREFUL + 1);
    late.post(&server, 50);
    let first = late.detour.await_held(None);
    late.post(&server, 70);
    let sent = late.detour.held(first, 1);
    late.detour.cut(first);
    let second = late.detour.await_held(Some(first));
    late.detour.pass();
    late.detour.release(second);
    late.await_all(&server);
    // Now the first connection's.
    late.detour.release(first);
    late.post(&server, 10);
    late.await_all(&server);
    server.stop();
    late.check();
    assert_eq!(sent, 1, "nothing is sent behind a frame that ends with the log");
}

#[test]
fn a_new_process_sends_nothing_behind_a_frame_that_the_one_before_may_have_cut_shorter() {
    let (mut late, server) = Late::start(&PACKED, 1);
    late.post(&server, 50);
    let first = late.detour.await_held(None);
    // Several frames' worth more.
    for _ in 0..10 {
        late.post(&server, 500);
    }
    server.kill9();
    let server = late.launch.start();
    let second = late.detour.await_held(Some(first));
    let sent = late.detour.held(second, 1);
    late.detour.release(first);
    late.detour.pass();
    late.detour.release(second);
    late.await_all(&server);
    server.stop();
    late.check();
    assert_eq!(sent, 1, "the first frames go one by one");
}

#[test]
fn what_comes_in_when_its_ids_are_forgotten_is_refused_by_its_numbers() {
    let window = Duration::from_millis(100);
    let (mut late, server) = Late::start(
        &[
            ("METRICS_SHIP_DUPLICATES", "100ms"),
            ("METRICS_SHIP_INFLIGHT", "20"),
        ],
        1,
    );
    late.post(&server, 50);
    let first = late.detour.await_held(None);
    assert_eq!(
        late.detour.held(first, 20),
        20,
        "no more are under way than is set"
    );
    late.detour.cut(first);
    let second = late.detour.await_held(Some(first));
    late.detour.pass();
    late.detour.release(second);
    late.await_all(&server);
    // The server looks for what it may forget as often as the window is long.
    std::thread::sleep(3 * window);
    late.detour.release(first);
    late.post(&server, 10);
    late.await_all(&server);
    server.stop();
    late.check();
}
