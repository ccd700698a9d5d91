//! The server as a client sees it: loopback sockets, raw bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use super::framing_tests::{BODY_BYTES_MAX, read_whole};
use super::*;

mod timeouts;

/// Far beyond what any step takes: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pieces of `/collect`, of 70,001 bytes each: more than sockets take.
const COLLECTED: usize = 200;

/// Answers by path; see `call`.
struct TestService {
    scratch: Vec<u8>,
    owed: Vec<(OwedSlot, String)>,
    gate: Gate,
}

/// Lets a test see that a call has begun, and lets it go on.
#[derive(Clone, Default)]
struct Gate {
    entered: Option<mpsc::Sender<()>>,
    release: Option<Arc<may::sync::Semphore>>,
    /// Where the streams of `/wait` hand in what wakes them.
    wakers: Option<mpsc::Sender<StreamWaker>>,
    /// What those streams have to say: a word for each.
    words: Arc<AtomicUsize>,
    /// Where it tells of answers that have left: status, length, and whether they were tracked.
    reports: Option<mpsc::Sender<Report>>,
    traffic: Arc<Traffic>,
}

type Report = (u16, u64, bool);

fn report_of(answered: &Answered) -> Report {
    (answered.status, answered.bytes, answered.is_tracked)
}

impl Service for TestService {
    fn call(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let path = request.path();
        output.track();
        output.set_kind(3);
        match path {
            "/echo" => match read_whole(&mut request.body, &mut self.scratch) {
                Ok(()) => output.json(200, &[], &self.scratch),
                Err(error) => {
                    let (status, sentence) = error.answer();
                    output.detail(status, &[], sentence);
                }
            },
            "/pieces" => {
                let mut count = 0;
                while let Ok(piece @ 1..) = request.body.available().map(<[u8]>::len) {
                    request.body.consume(piece);
                    count += piece;
                }
                output.json(200, &[("X-Length", "known")], count.to_string().as_bytes());
            }
            "/owe" => {
                let query = request.query().to_owned();
                self.owed.push((output.owe(), query));
            }
            "/unread" => output.detail(403, &[], "No."),
            "/gate" => {
                self.gate.entered.as_ref().unwrap().send(()).unwrap();
                self.gate.release.as_ref().unwrap().wait();
                output.prepared(&Prepared::json(202, &[("X-A", "b")], b"{}"));
            }
            "/prepared" => output.prepared(&Prepared::json(202, &[("X-A", "b")], b"{\"ok\":true}")),
            "/empty" => output.head_only(204, &[("X-A", "b")]),
            "/close" => {
                output.close();
                output.json(200, &[], b"{}");
            }
            "/stream" | "/broken" => {
                let breaks = path == "/broken";
                let produce = move |to: &mut StreamWriter<'_>| {
                    to.write_all(b"first")?;
                    to.flush()?;
                    to.flush()?;
                    if breaks {
                        return Err(std::io::Error::other("broken"));
                    }
                    to.write_all(&[b'x'; 100_000])
                };
                output.stream(200, "text/plain", &[], Box::new(produce));
            }
            "/wait" => {
                let wakers = self.gate.wakers.clone().unwrap();
                let words = self.gate.words.clone();
                let produce = move |to: &mut StreamWriter<'_>| {
                    wakers.send(to.waker()).unwrap();
                    // The first pass sends the head.
                    while to.wait(Duration::from_secs(3600))? {
                        for _ in 0..words.swap(0, Ordering::AcqRel) {
                            to.write_all(b"word")?;
                        }
                    }
                    to.write_all(b"over")
                };
                output.stream(200, "text/plain", &[], Box::new(produce));
            }
            "/collect" => {
                let refused = self.gate.words.clone();
                let produce = move |to: &mut StreamWriter<'_>| {
                    for number in 0..COLLECTED as u8 {
                        to.collect(&vec![number; 70_000]);
                        to.collect(b"|");
                        if !to.try_flush()? {
                            refused.fetch_add(1, Ordering::AcqRel);
                            if !to.flush_or_stop()? {
                                to.cut();
                                return Ok(());
                            }
                        }
                    }
                    Ok(())
                };
                output.stream(200, "text/plain", &[], Box::new(produce));
            }
            "/large" => output.json(200, &[], &[b'y'; 40_000]),
            "/panic" => panic!("as asked"),
            "/panic-late" => output.json(200, &[], b"never seen"),
            "/silent" => {}
            _ => output.detail(404, &[], "Not found."),
        }
        if path == "/panic-late" {
            panic!("as asked, after the answer");
        }
    }

    fn settle(&mut self, output: &mut Output) {
        for (slot, query) in self.owed.drain(..) {
            if query != "forgotten" {
                output.fill(slot, |output| output.json(200, &[], query.as_bytes()));
            }
        }
    }

    fn watches(&self) -> bool {
        self.gate.reports.is_some()
    }

    fn answered(&mut self, answered: Answered) {
        let reports = self.gate.reports.as_ref().unwrap();
        reports.send(report_of(&answered)).unwrap();
        assert_ne!(answered.status, 500, "nobody minds another panic");
    }
}

struct Make(Gate);

impl MakeService for Make {
    type Service = TestService;

    fn make(&self, _peer: Peer) -> TestService {
        TestService {
            scratch: Vec::new(),
            owed: Vec::new(),
            gate: self.0.clone(),
        }
    }

    fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.0.traffic)
    }

    fn refused(&self, _peer: Peer, answered: Option<Answered>) {
        if let Some(reports) = &self.0.reports {
            reports.send(report_of(&answered.unwrap())).unwrap();
        }
    }
}

fn start_with(gate: Gate, limits: Limits) -> Handle {
    static STACKS: Once = Once::new();
    STACKS.call_once(|| {
        may::config().set_stack_size(0x4000);
    });
    serve(listeners(), Make(gate), limits).unwrap()
}

fn listeners() -> Vec<Listener> {
    vec![Listener::tcp(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()]
}

fn address(handle: &Handle) -> SocketAddr {
    match handle.addresses() {
        [Address::Tcp(address)] => *address,
        other => panic!("{other:?}"),
    }
}

fn start() -> Handle {
    start_with(Gate::default(), Limits::default())
}

fn connect(handle: &Handle) -> TcpStream {
    let stream = TcpStream::connect(address(handle)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// One answer: its status line and headers, and its body with the coding taken off.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head["HTTP/1.1 ".len()..][..3].parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Takes answers off a connection.
struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    fn new(handle: &Handle) -> Self {
        Self {
            stream: connect(handle),
            bytes: Vec::new(),
        }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    fn read_more(&mut self) -> usize {
        let mut piece = [0; 65536];
        let count = self.stream.read(&mut piece).unwrap();
        self.bytes.extend_from_slice(&piece[..count]);
        count
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.bytes.len() < count {
            assert_ne!(self.read_more(), 0, "the connection ended within an answer");
        }
        self.bytes.drain(..count).collect()
    }

    fn take_through(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.bytes, end) {
                return String::from_utf8(self.take(at + end.len())).unwrap();
            }
            assert_ne!(self.read_more(), 0, "the connection ended within an answer");
        }
    }

    fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.take_through(b"\r\n\r\n");
        let mut answer = Answer {
            head,
            body: Vec::new(),
        };
        if answer.status() != 204 && answer.status() != 100 {
            assert!(
                answer.header("Date").is_some_and(|date| date.ends_with(" GMT")),
                "{answer:?}"
            );
        }
        if method == "HEAD" || answer.status() == 100 {
            return answer;
        }
        if answer.header("Transfer-Encoding") == Some("chunked") {
            loop {
                let size = self.take_through(b"\r\n");
                let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
                answer.body.extend(self.take(size));
                assert_eq!(self.take(2), b"\r\n");
                if size == 0 {
                    return answer;
                }
            }
        }
        match answer.header("Content-Length").map(str::parse) {
            Some(length) => answer.body = self.take(length.unwrap()),
            None if answer.status() == 204 => {}
            None => {
                while self.read_more() > 0 {}
                answer.body = std::mem::take(&mut self.bytes);
            }
        }
        answer
    }

    fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    fn expect_end(&mut self) {
        assert_eq!(self.read_more(), 0, "more than expected");
        assert!(
            self.bytes.is_empty(),
            "{:?}",
            String::from_utf8_lossy(&self.bytes)
        );
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn stop(handle: &Handle) {
    handle.stop_accepting();
    assert!(handle.join(PATIENCE), "connections outlived the server");
    assert_eq!(handle.connections(), 0);
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let server = start();
    let mut client = Client::new(&server);
    for round in 0..3 {
        let body = format!("round {round}");
        let answer = client.send(post("/echo", &body)).answer();
        assert_eq!((answer.status(), answer.text()), (200, &*body));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert_eq!(answer.header("Connection"), None);
        assert_eq!(server.connections(), 1);
    }
    let answer = client.send(get("/nowhere")).answer();
    assert_eq!(
        (answer.status(), answer.text()),
        (404, r#"{"detail":"Not found."}"#)
    );
    let answer = client.send(get("/silent")).answer();
    assert_eq!(answer.status(), 500);
    let answer = client.send(get("/prepared")).answer();
    assert_eq!(
        (answer.status(), answer.text(), answer.header("X-A")),
        (202, r#"{"ok":true}"#, Some("b"))
    );
    let answer = client.send(get("/empty")).answer();
    assert_eq!((answer.status(), answer.header("Content-Length")), (204, None));
    stop(&server);
    client.expect_end();
}

#[test]
fn owed_answers_leave_in_the_order_of_their_requests() {
    let server = start();
    let mut client = Client::new(&server);
    let burst = [
        post("/echo", "a"),
        get("/owe?b"),
        get("/owe?c"),
        get("/prepared"),
        get("/owe?forgotten"),
        get("/owe?d"),
        get("/empty"),
        get("/owe?forgotten"),
        post("/echo", "e"),
    ];
    for _ in 0..2 {
        client.send(burst.concat());
        let answers: Vec<_> = burst.iter().map(|_| client.answer()).collect();
        let statuses: Vec<_> = answers.iter().map(Answer::status).collect();
        assert_eq!(statuses, [200, 200, 200, 202, 500, 200, 204, 500, 200]);
        let texts: Vec<_> = answers
            .iter()
            .filter(|answer| answer.status() == 200)
            .map(Answer::text)
            .collect();
        assert_eq!(texts, ["a", "b", "c", "d", "e"]);
    }
    // The last request of a connection, owed, says so.
    client.send("GET /owe?x HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().header("Connection"), Some("close"));
    client.expect_end();
}

#[test]
fn every_split_of_a_burst_gives_the_same_answers() {
    let server = start();
    let burst = format!(
        "{}\r\n{}{}",
        post("/echo", "first body"),
        get("/owe?b"),
        post("/pieces", "12345")
    );
    let without_date = |answer: Answer| {
        let lines = answer.head.lines().filter(|line| !line.starts_with("Date: "));
        (lines.collect::<Vec<_>>().join("\n"), answer.body)
    };
    let mut whole = Client::new(&server);
    whole.send(&burst);
    let expected = [(); 3].map(|()| without_date(whole.answer()));
    let mut client = Client::new(&server);
    for split in 1..burst.len() {
        client.send(&burst[..split]).send(&burst[split..]);
        assert_eq!(
            [(); 3].map(|()| without_date(client.answer())),
            expected,
            "split at {split}"
        );
    }
    // And byte by byte.
    for byte in burst.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!([(); 3].map(|()| without_date(client.answer())), expected);
}

#[test]
fn a_burst_larger_than_the_buffers_is_answered() {
    let server = start();
    let mut client = Client::new(&server);
    const COUNT: usize = 2000;
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let burst: String = (0..COUNT).map(|at| get(&format!("/owe?{at}"))).collect();
        writer.write_all(burst.as_bytes()).unwrap();
    });
    for at in 0..COUNT {
        assert_eq!(client.answer().text(), at.to_string());
    }
    sender.join().unwrap();
    // Answers larger than the flush bound, and than what the socket takes at once.
    client.send(get("/large").repeat(50));
    for _ in 0..50 {
        assert_eq!(client.answer().body.len(), 40_000);
    }
}

#[test]
fn a_body_in_pieces_is_put_together() {
    let server = start();
    let mut client = Client::new(&server);
    let body = "0123456789".repeat(40_000);
    let request = post("/echo", &body);
    for piece in request.as_bytes().chunks(33_333) {
        client.send(piece);
    }
    assert_eq!(client.answer().text(), body);
    // What was answered before does not wait for the body.
    let (head, rest) = request.split_at(request.len() - 1);
    client.send(get("/owe?before")).send(get("/prepared") + head);
    assert_eq!(client.answer().text(), "before");
    assert_eq!(client.answer().status(), 202);
    client.send(rest);
    assert_eq!(client.answer().text(), body);
    client.send(request.replace("/echo", "/pieces"));
    assert_eq!(client.answer().text(), body.len().to_string());
}

#[test]
fn a_request_followed_by_the_end_is_answered() {
    let server = start();
    for request in [post("/echo", "bye"), post("/echo", "bye") + "GET / HT"] {
        let mut client = Client::new(&server);
        client.send(request);
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer().text(), "bye");
        client.expect_end();
    }
    // A body cut short: the service is told, and the connection ends.
    let mut client = Client::new(&server);
    let request = post("/echo", "never whole");
    client.send(&request[..request.len() - 1]);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().status(), 400);
    client.expect_end();
    drop(client);
    stop(&server);
}

#[test]
fn a_peer_that_expects_100_gets_it_when_its_body_is_wanted() {
    let server = start();
    let head = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut client = Client::new(&server);
    assert_eq!(client.send(head("/echo", 4)).answer().status(), 100);
    client.send("bo");
    client.send("dy");
    assert_eq!(client.answer().text(), "body");
    // Already there: nothing to ask for.
    assert_eq!(client.send(head("/echo", 4) + "body").answer().text(), "body");
    // Not wanted: the final answer comes at once and ends the connection.
    for (path, status) in [("/unread", 403), ("/echo", 413)] {
        let mut client = Client::new(&server);
        let answer = client.send(head(path, BODY_BYTES_MAX + 1)).answer();
        assert_eq!(
            (answer.status(), answer.header("Connection")),
            (status, Some("close"))
        );
        client.expect_end();
    }
    // HTTP/1.0 knows no interim answer.
    let mut client = Client::new(&server);
    client.send(head("/echo", 4).replace("1.1", "1.0"));
    client.send("body");
    assert_eq!(client.answer().text(), "body");
    client.expect_end();
}

#[test]
fn unread_bodies_are_thrown_away_or_end_the_connection() {
    let server = start();
    let mut client = Client::new(&server);
    // Whole in memory; on its way and small.
    assert_eq!(client.send(post("/unread", "body")).answer().status(), 403);
    let request = post("/unread", &"x".repeat(60_000));
    let (first, rest) = request.split_at(1000);
    let answer = client.send(first).answer();
    assert_eq!((answer.status(), answer.header("Connection")), (403, None));
    client.send(rest);
    assert_eq!(client.send(post("/echo", "next")).answer().text(), "next");
    // Chunked: here, on its way, and malformed, which is known before the answer leaves or only after it.
    let head = "GET /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = client
        .send(head.to_owned() + "4\r\nbody\r\n0\r\nA: b\r\n\r\n")
        .answer();
    assert_eq!((answer.status(), answer.header("Connection")), (403, None));
    assert_eq!(client.send(head).answer().status(), 403);
    client.send("4\r\nbody\r\n").send("0\r\n\r\n");
    assert_eq!(client.send(post("/echo", "next")).answer().text(), "next");
    let mut other = Client::new(&server);
    let answer = other.send(head.to_owned() + "4\r\nbody\n").answer();
    assert_eq!(
        (answer.status(), answer.header("Connection")),
        (403, Some("close"))
    );
    other.expect_end();
    let mut other = Client::new(&server);
    let answer = other.send(head).answer();
    assert_eq!((answer.status(), answer.header("Connection")), (403, None));
    other.send("+4\r\n".to_owned() + &get("/prepared"));
    other.expect_end();
    // Too large to wait for: the answer survives although the peer goes on sending.
    let answer = client.send(post("/unread", &"x".repeat(3_000_000))).answer();
    assert_eq!(
        (answer.status(), answer.header("Connection")),
        (403, Some("close"))
    );
    client.expect_end();
}

#[test]
fn http_10_closes_unless_asked_not_to() {
    let server = start();
    let mut client = Client::new(&server);
    let answer = client
        .send("GET /prepared HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .answer();
    assert_eq!(
        (answer.status(), answer.header("Connection")),
        (202, Some("keep-alive"))
    );
    let answer = client.send("GET /prepared HTTP/1.0\r\n\r\n").answer();
    assert_eq!(
        (answer.text(), answer.header("Connection")),
        (r#"{"ok":true}"#, Some("close"))
    );
    client.expect_end();
}

#[test]
fn connection_close_is_respected() {
    let server = start();
    let close = "GET /prepared HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n";
    // What follows the last request is not answered, even if it is there.
    for follow in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut client = Client::new(&server);
        client.send(get("/prepared") + close + follow);
        assert_eq!(client.answer().header("Connection"), None);
        assert_eq!(client.answer().header("Connection"), Some("close"));
        client.expect_end();
    }
    let mut client = Client::new(&server);
    assert_eq!(
        client.send(get("/close")).answer().header("Connection"),
        Some("close")
    );
    client.expect_end();
}

#[test]
fn head_answers_describe_a_body_and_have_none() {
    let server = start();
    let mut client = Client::new(&server);
    for (path, length) in [("/prepared", "11"), ("/large", "40000")] {
        let answer = client.send(get(path).replace("GET", "HEAD")).answer_to("HEAD");
        assert_eq!(answer.header("Content-Length"), Some(length));
    }
    client.send(get("/stream").replace("GET", "HEAD"));
    assert_eq!(
        client.answer_to("HEAD").header("Transfer-Encoding"),
        Some("chunked")
    );
    assert_eq!(client.send(post("/echo", "next")).answer().text(), "next");
}

#[test]
fn streamed_answers_are_chunked_and_in_order() {
    let server = start();
    let mut client = Client::new(&server);
    let expected = format!("first{}", "x".repeat(100_000));
    client.send(get("/owe?a") + &get("/stream") + &get("/owe?b") + &get("/stream"));
    assert_eq!(client.answer().text(), "a");
    assert_eq!(client.answer().text(), expected);
    assert_eq!(client.answer().text(), "b");
    assert_eq!(client.answer().text(), expected);
    // HTTP/1.0: the end of the connection is the end of the body, whatever the peer asked for.
    client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer();
    assert_eq!(
        (answer.text(), answer.header("Connection")),
        (&*expected, Some("close"))
    );
    assert_eq!(answer.header("Transfer-Encoding"), None);
    // A stream that breaks is visibly incomplete.
    let mut client = Client::new(&server);
    client.send(get("/broken"));
    while client.read_more() > 0 {}
    assert!(
        client.bytes.ends_with(b"\r\n\r\n0005\r\nfirst\r\n"),
        "{:?}",
        client.bytes
    );
}

#[test]
fn what_is_collected_leaves_as_the_peer_reads_it() {
    let gate = Gate::default();
    let refused = gate.words.clone();
    let server = start_with(gate, Limits::default());
    let mut expected = Vec::new();
    for number in 0..COLLECTED as u8 {
        expected.extend_from_slice(&[number; 70_000]);
        expected.push(b'|');
    }
    for version in ["1.1", "1.0"] {
        let mut client = Client::new(&server);
        client.send(format!("GET /collect HTTP/{version}\r\nHost: a\r\n\r\n"));
        while refused.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        assert!(client.answer().body == expected, "HTTP/{version}");
        refused.store(0, Ordering::Release);
    }
}

#[test]
fn a_stopping_server_does_not_wait_for_a_stream_that_nobody_reads() {
    let (reports, reported) = mpsc::channel();
    let gate = Gate {
        reports: Some(reports),
        ..Gate::default()
    };
    let refused = gate.words.clone();
    let limits = Limits {
        write_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    let server = start_with(gate, limits);
    let mut client = Client::new(&server);
    client.send(get("/collect"));
    while refused.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    server.stop_accepting();
    assert!(server.join(PATIENCE));
    // What had left is reported, and the body has no end.
    while client.read_more() > 0 {}
    let report = reported.recv_timeout(PATIENCE).unwrap();
    assert_eq!(report, (200, client.bytes.len() as u64, true));
    assert!(!client.bytes.ends_with(b"0\r\n\r\n"));
}

#[test]
fn what_cannot_be_understood_is_answered_and_ends_the_connection() {
    let server = start();
    let with = |header: &str| format!("POST /echo HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n");
    let large = "x".repeat(HeadLimits::BYTES_MAX);
    for (request, status) in [
        (with("Content-Length: abc"), 400),
        (with("Content-Length: 1\r\nContent-Length: 2"), 400),
        (with("Content-Length: 1\r\nTransfer-Encoding: chunked"), 400),
        (with("Transfer-Encoding: gzip"), 501),
        (with("Expect: something"), 417),
        (with(&format!("X: {large}")), 431),
        (format!("GET /{large}"), 414),
        (large.clone(), 400),
        ("\n".to_owned() + &get("/prepared"), 400),
        ("\r\n\r\n".to_owned() + &get("/prepared"), 400),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".to_owned(), 400),
        (with("X: y\r\n".repeat(128).trim_end()), 431),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("\x16\x03\x01\x02".to_owned(), 400),
    ] {
        let mut client = Client::new(&server);
        // Requests before it are answered, what follows is not taken for a request.
        client.send(post("/echo", "before") + &request + &get("/prepared"));
        assert_eq!(client.answer().text(), "before");
        let answer = client.answer();
        assert_eq!(
            (answer.status(), answer.header("Connection")),
            (status, Some("close")),
            "{request}"
        );
        assert!(answer.text().starts_with(r#"{"detail":""#), "{answer:?}");
        client.expect_end();
    }
    // Above the service's own limit: refused without being read.
    let mut client = Client::new(&server);
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        u64::MAX
    );
    let answer = client.send(request).answer();
    assert_eq!(
        (answer.status(), answer.header("Connection")),
        (413, Some("close"))
    );
    client.expect_end();
    // A connection that ended early waits a while for its peer to go.
    drop(client);
    stop(&server);
}

#[test]
fn a_panic_ends_its_connection_only() {
    let server = start();
    let mut other = Client::new(&server);
    assert_eq!(other.send(post("/echo", "a")).answer().text(), "a");
    for path in ["/panic", "/panic-late"] {
        let mut client = Client::new(&server);
        let answer = client.send(get(path)).answer();
        assert_eq!(
            (answer.status(), answer.header("Connection")),
            (500, Some("close"))
        );
        client.expect_end();
        // Earlier answers of the burst are unsettled and do not leave.
        let mut client = Client::new(&server);
        client.send(get("/owe?a") + &get(path));
        client.expect_end();
    }
    assert_eq!(other.send(post("/echo", "b")).answer().text(), "b");
    stop(&server);
}

#[test]
fn the_500_after_a_panic_and_the_503_without_a_service_are_reported() {
    let (sender, reports) = mpsc::channel();
    let gate = Gate {
        reports: Some(sender),
        ..Gate::default()
    };
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let server = start_with(gate, limits);
    let mut client = Client::new(&server);
    client.send(get("/prepared"));
    let length = |answer: &Answer| (answer.head.len() + answer.body.len()) as u64;
    let answer = client.answer();
    assert_eq!(reports.recv_timeout(PATIENCE), Ok((202, length(&answer), true)));
    let answer = Client::new(&server).answer();
    assert!(answer.header("X-Request-Id").is_some(), "{answer:?}");
    assert_eq!(reports.recv_timeout(PATIENCE), Ok((503, length(&answer), false)));
    let answer = client.send(get("/panic-late")).answer();
    assert_eq!(reports.recv_timeout(PATIENCE), Ok((500, length(&answer), true)));
    client.expect_end();
}

#[test]
fn answers_are_counted_once_each_whatever_becomes_of_them() {
    let gate = Gate::default();
    let traffic = Arc::clone(&gate.traffic);
    let server = start_with(gate, Limits::default());
    let mut client = Client::new(&server);
    let paths = [
        "/prepared",
        "/prepared",
        "/owe?a",
        "/empty",
        "/owe?forgotten",
        "/stream",
        "/silent",
    ];
    client.send(paths.map(get).concat());
    let statuses: Vec<u16> = paths.iter().map(|_| client.answer().status()).collect();
    assert_eq!(statuses, [202, 202, 200, 204, 500, 200, 500]);
    // The answer before a panic is not the one that leaves.
    client.send(get("/panic-late"));
    assert_eq!(client.answer().status(), 500);
    client.expect_end();
    let mut client = Client::new(&server);
    client.send("GET / HTTP/3.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status(), 505);
    let expected = [(0, 505, 1), (3, 200, 2), (3, 202, 2), (3, 204, 1), (3, 500, 3)];
    assert_eq!(traffic.answers(), expected);
    drop(client);
    stop(&server);
    assert_eq!((traffic.accepted(), traffic.connections()), (2, 0));
}

#[test]
fn stopping_ends_idle_connections_and_answers_what_is_in_flight() {
    let (entered, has_entered) = mpsc::channel();
    let release = Arc::new(may::sync::Semphore::new(0));
    let gate = Gate {
        entered: Some(entered),
        release: Some(release.clone()),
        ..Gate::default()
    };
    let server = start_with(gate, Limits::default());
    let mut idle = Client::new(&server);
    assert_eq!(idle.send(post("/echo", "a")).answer().text(), "a");
    // One is in its call, one has sent half a head, one half a body.
    let mut in_call = Client::new(&server);
    in_call.send(get("/gate"));
    has_entered.recv().unwrap();
    let half_way = |request: &str| {
        let mut client = Client::new(&server);
        assert_eq!(
            client
                .send(post("/echo", "a").repeat(2) + request)
                .answer()
                .text(),
            "a"
        );
        assert_eq!(client.answer().text(), "a");
        client
    };
    let mut half_head = half_way("GET /prepa");
    let mut half_body = half_way("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    server.stop_accepting();
    idle.expect_end();
    assert!(!server.join(Duration::ZERO));
    release.post();
    half_head.send("red HTTP/1.1\r\nHost: a\r\n\r\n");
    half_body.send("dy");
    for client in [&mut in_call, &mut half_head] {
        assert_eq!(client.answer().status(), 202);
        client.expect_end();
    }
    assert_eq!(half_body.answer().text(), "body");
    half_body.expect_end();
    assert!(server.join(PATIENCE));
    assert!(TcpStream::connect(address(&server)).is_err(), "still listening");
}

#[test]
fn the_last_answer_of_a_stopping_server_says_so() {
    let server = start();
    let mut client = Client::new(&server);
    client.send(post("/echo", "a") + "GET /prepared HTTP/1.1\r\n");
    assert_eq!(client.answer().text(), "a");
    server.stop_accepting();
    assert_eq!(
        client.send("Host: a\r\n\r\n").answer().header("Connection"),
        Some("close")
    );
    client.expect_end();
    assert!(server.join(PATIENCE));
}

#[test]
fn a_surplus_connection_is_refused() {
    let server = start_with(
        Gate::default(),
        Limits {
            connections_max: 2,
            ..Limits::default()
        },
    );
    let mut kept = [Client::new(&server), Client::new(&server)];
    for client in &mut kept {
        assert_eq!(client.send(post("/echo", "a")).answer().text(), "a");
    }
    let mut surplus = Client::new(&server);
    let head = surplus.take_through(b"\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
    assert_eq!(
        surplus.take_through(b"}"),
        r#"{"detail":"Too many connections."}"#
    );
    surplus.expect_end();
    // There is room again once one has gone.
    let [mut left, gone] = kept;
    drop(gone);
    let mut client = loop {
        let mut client = Client::new(&server);
        if server.connections() < 2 || client.stream.write_all(post("/echo", "b").as_bytes()).is_err() {
            continue;
        }
        if client.read_more() > 0 && client.bytes.starts_with(b"HTTP/1.1 200 ") {
            break client;
        }
    };
    assert_eq!(client.answer().text(), "b");
    assert_eq!(left.send(post("/echo", "c")).answer().text(), "c");
}

#[test]
fn many_connections_come_and_go() {
    let server = start();
    let served = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (server, served) = (server.clone(), served.clone());
            std::thread::spawn(move || {
                for round in 0..50 {
                    let mut client = Client::new(&server);
                    let body = round.to_string();
                    client.send(post("/echo", &body).repeat(3));
                    for _ in 0..3 {
                        assert_eq!(client.answer().text(), body);
                    }
                    *served.lock().unwrap() += 1;
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*served.lock().unwrap(), 400);
    stop(&server);
}

#[test]
fn limits_that_cannot_hold_are_named() {
    let limits = Limits {
        head: HeadLimits {
            bytes_max: 1 << 20,
            ..HeadLimits::default()
        },
        ..Limits::default()
    };
    let error = serve(listeners(), Make(Gate::default()), limits).unwrap_err();
    assert!(error.to_string().contains("bytes_max: 1048576"), "{error}");
}
