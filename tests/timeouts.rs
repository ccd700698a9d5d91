//! Peers that are slow, silent or gone, against the real server with short limits.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::http::{self, BATCH, BEHAVIOR, EVENT};
use common::server::{Launch, Server};
use common::{PATIENCE, await_true};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const EVENT_BODY: &str = r#"{"visitor_id":"visitor-1","event":"view"}"#;

/// A server with one limit shortened.
fn start(setting: &str, value: &str) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).set(setting, value).start();
    (folder, server)
}

/// A connection that has sent `bytes` and takes what the server says until it closes.
fn last_words(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("the server ends the connection");
    text
}

#[test]
fn each_limit_can_be_set_and_ends_what_it_is_for() {
    let post = http::post(EVENT, EVENT_BODY);
    let (head, body) = (&post[..20], &post[..post.len() - 1]);
    let (_folder, server) = start("METRICS_HEAD_TIMEOUT", "200ms");
    assert!(last_words(&server, head).starts_with("HTTP/1.1 408 "));
    assert_eq!(last_words(&server, b""), "");

    let (_folder, server) = start("METRICS_BODY_GRACE", "200ms");
    assert!(last_words(&server, body).starts_with("HTTP/1.1 408 "));

    let (_folder, server) = start("METRICS_IDLE_TIMEOUT", "200ms");
    let answered = last_words(&server, &post);
    assert!(answered.starts_with("HTTP/1.1 202 "), "{answered}");
    assert_eq!(answered.matches("HTTP/1.1").count(), 1, "{answered}");
}

#[test]
fn a_body_that_trickles_in_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path())
        .set("METRICS_BODY_GRACE", "500ms")
        .set("METRICS_BODY_RATE_MIN", "1MiB")
        .start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!("POST {EVENT} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // It never stands still for as long as it may, but is far below its rate.
    assert_eq!(trickle(&mut stream, b" "), "HTTP/1.1 408");
}

#[test]
fn who_has_much_of_a_body_kept_may_not_send_the_rest_in_a_trickle() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path())
        .set("METRICS_BODY_GRACE", "500ms")
        .start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST {BATCH} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n[",
        64 << 20
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; 40 << 20]).unwrap();
    // 300 bytes in 10 ms are less than 40 MiB in ten minutes, and many times METRICS_BODY_RATE_MIN.
    assert_eq!(trickle(&mut stream, &[b' '; 300]), "HTTP/1.1 408");
}

/// Sends `piece` some hundred times a second at the most, until the server says something: the beginning of that.
fn trickle(stream: &mut TcpStream, piece: &[u8]) -> String {
    let deadline = Instant::now() + PATIENCE;
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let mut answer = [0; 12];
    loop {
        assert!(Instant::now() < deadline, "the body is still being read");
        stream.write_all(piece).ok();
        if let Ok(count) = stream.read(&mut answer) {
            return String::from_utf8_lossy(&answer[..count]).into_owned();
        }
    }
}

#[test]
fn who_does_not_read_is_dropped_and_others_are_served() {
    let (_folder, server) = start("METRICS_WRITE_TIMEOUT", "200ms");
    let mut client = server.connect();
    // A recent window whose snapshot is larger than what the two kernels buffer.
    let filler = "x".repeat(30_000);
    for _ in 0..500 {
        let event = format!(r#"{{"visitor_id":"visitor-1","event":"view","metadata":{{"x":"{filler}"}}}}"#);
        client.post(EVENT, &event).expect(202);
    }
    let mut deaf = TcpStream::connect(server.address()).unwrap();
    deaf.set_read_timeout(Some(PATIENCE)).unwrap();
    deaf.write_all(&http::get(&format!("{BEHAVIOR}?limit=500")))
        .unwrap();
    // The server has given up once it refuses what we send: our own sending side is reset.
    await_true("the connection is dropped", || deaf.write_all(b" ").is_err());
    let mut rest = Vec::new();
    deaf.read_to_end(&mut rest).ok();
    assert!(rest.len() < 15_000_000, "all of it was sent: {}", rest.len());
    client.post(EVENT, EVENT_BODY).expect(202);
}

#[test]
fn two_thousand_who_drip_do_not_keep_others_from_posting() {
    const LORISES: usize = 2_000;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap();
    let (_folder, server) = start("METRICS_HEAD_TIMEOUT", "5s");
    let mut client = server.connect();
    client.post(EVENT, EVENT_BODY).expect(202);
    let mut lorises: Vec<TcpStream> = (0..LORISES)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    let mut posted = 0;
    let drip = b"POST / HTTP/1.1\r\nHost: a\r\nX: ";
    for byte in drip.iter().chain(std::iter::repeat_n(&b'x', 2_000)) {
        // All of them are dripping while somebody else posts.
        lorises.retain_mut(|loris| loris.write_all(&[*byte]).is_ok());
        client.post(EVENT, EVENT_BODY).expect(202);
        server.connect().post(EVENT, EVENT_BODY).expect(202);
        posted += 1;
        if lorises.is_empty() {
            break;
        }
    }
    assert!(lorises.is_empty(), "{} may drip for ever", lorises.len());
    assert!(posted > 0);
}
