//! The steady state of a single POST allocates nothing, from the socket to the log.

#[path = "common/counting.rs"]
mod counting;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use counting::{Counting, allocations};
use floodgate::api::{Abroad, Api, Gate};
use floodgate::config::Config;
use floodgate::http::{Limits, Listener, serve};
use floodgate::ingest::Engine;
use floodgate::log::fs::OsFs;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: u64 = 2_000;

/// Posts `REQUESTS` events one after the other, from buffers that are there already.
fn post(client: &mut TcpStream) {
    const BODY: &str = r#"{"visitor_id":"visitor-1","event":"page_view","metadata":{"price":1.10}}"#;
    let mut request = [0; 512];
    let mut rest = &mut request[..];
    write!(
        rest,
        "POST /api/metrics/event HTTP/1.1\r\nHost: a\r\nUser-Agent: test\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    )
    .unwrap();
    let left = rest.len();
    let request = &request[..512 - left];
    let mut answer = [0; 1024];
    for _ in 0..REQUESTS {
        client.write_all(request).unwrap();
        let mut length = 0;
        while !answer[..length].ends_with(b"jsonl\"}") {
            let count = client.read(&mut answer[length..]).unwrap();
            assert!(count > 0);
            length += count;
        }
        assert!(answer.starts_with(b"HTTP/1.1 202 "));
    }
}

#[test]
fn the_steady_state_of_a_single_post_allocates_nothing() {
    may::config().set_workers(1).set_stack_size(0x4000);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("metrics.jsonl");
    let setting = |name: &str| (name == "METRICS_JSONL").then(|| log.to_str().unwrap().to_owned());
    let config = Config::new(setting).unwrap();
    let engine = Engine::open(config.engine.clone(), Arc::new(OsFs)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listeners = vec![Listener::tcp(listener).unwrap()];
    let gate = Gate::open(&config).unwrap();
    let http = serve(
        listeners,
        Api::new(&config, &engine, gate, Abroad::default()),
        Limits::default(),
    )
    .unwrap();

    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // Fills the recent window and whatever grows to a size once.
    post(&mut client);
    let before = allocations();
    post(&mut client);
    let allocated = allocations() - before;
    // The runtime's queue of ready coroutines takes a block of memory for every 32 wake-ups, of which a request has one or
    // two. Anything that allocated for each request would show 32 times as often.
    assert!(
        allocated <= REQUESTS / 16,
        "{allocated} allocations for {REQUESTS} requests"
    );

    drop(client);
    http.stop_accepting();
    assert!(http.join(Duration::from_secs(30)));
    engine.close(Instant::now() + Duration::from_secs(30), true);
}
