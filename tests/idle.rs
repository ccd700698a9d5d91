//! What open connections cost that do nothing, and what those leave behind that did much.

mod common;

use common::await_true;
use common::http::{self, BATCH, EVENT};
use common::server::Launch;

const EVENT_BODY: &str =
    r#"{"visitor_id":"visitor-1","event":"view","metadata":{"path":"/products/7","n":7}}"#;
const CONNECTIONS: usize = 600;
/// What each keeps at the most, in KiB; before it comes to rest it has some 30. How much it really is, `scripts/idle` measures, with
/// a release build and many more connections.
const KIB_KEPT_MAX: usize = 16;

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
    let mut clients = vec![server.connect()];
    clients[0].post(EVENT, EVENT_BODY).expect(202);
    let before = anonymous(server.id());
    for _ in 0..CONNECTIONS {
        let mut client = server.connect();
        client.post(EVENT, EVENT_BODY).expect(202);
        clients.push(client);
    }
    await_true("connections come to rest", || {
        anonymous(server.id()) <= before + CONNECTIONS * KIB_KEPT_MAX
    });
    for client in &mut clients {
        client.post(EVENT, EVENT_BODY).expect(202);
    }
}

#[test]
fn what_large_batches_took_goes_back_although_nothing_happens_any_more() {
    const BATCHES: usize = 50;
    const BATCH_BYTES: usize = 3 << 20;
    /// What may stay of each, in KiB: spare buffers, its stack. Left to itself the allocator keeps up to 3,700.
    const KIB_LEFT_MAX: usize = 700;
    let folder = tempfile::tempdir().unwrap();
    // All that is under way has room in the journal, also where a disk is slow to let it grow.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let journal = memory.path().join("journal");
    let server = Launch::new(folder.path())
        .set("METRICS_JOURNAL", journal.to_str().unwrap())
        .set("METRICS_INFLIGHT_BYTES_MAX", "1GiB")
        .start();
    let line = format!("{EVENT_BODY}\n");
    let body = line.repeat(BATCH_BYTES / line.len());
    let request = http::post(BATCH, &body);
    let (first, last) = request.split_at(request.len() - 100);
    let mut clients: Vec<_> = (0..BATCHES).map(|_| server.connect()).collect();
    clients[0].post(EVENT, EVENT_BODY).expect(202);
    let before = anonymous(server.id());
    // All of them are under way at once.
    for client in &mut clients {
        client.send(first).unwrap();
    }
    for client in &mut clients {
        client.send(last).unwrap();
    }
    for client in &mut clients {
        client.answer().expect(202);
    }
    await_true("memory goes back", || {
        anonymous(server.id()) <= before + BATCHES * KIB_LEFT_MAX
    });
}
