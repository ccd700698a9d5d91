//! What open connections cost that do nothing.

mod common;

use common::await_true;
use common::http::EVENT;
use common::server::Launch;

const EVENT_BODY: &str =
    r#"{"visitor_id":"visitor-1","event":"view","metadata":{"path":"/products/7","n":7}}"#;
const CONNECTIONS: usize = 400;
/// What each gives back at the least, in KiB: two pages of its stack, some of which the kernel may count late. How much that
/// leaves is measured by `scripts/idle`, with a release build and many more connections.
const KIB_GIVEN_BACK_MIN: usize = 6;

/// Anonymous memory of a process, in KiB.
fn anonymous(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn connections_at_rest_give_their_memory_back_and_are_served_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = server.connect();
        client.post(EVENT, EVENT_BODY).expect(202);
        clients.push(client);
    }
    let busy = anonymous(server.id());
    await_true("connections come to rest", || {
        anonymous(server.id()) + CONNECTIONS * KIB_GIVEN_BACK_MIN <= busy
    });
    for client in &mut clients {
        client.post(EVENT, EVENT_BODY).expect(202);
    }
}
