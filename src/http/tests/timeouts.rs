//! Time limits: the wire against a scripted socket and a clock of the test's own, then real sockets.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::super::connection::Connection;
use super::super::control::{Control, Kind, Slot};
use super::super::deadline::{NEVER, Time, micros};
use super::super::socket::{Events, Registered, Socket};
use super::super::wire::{Awaited, Filled, Input, Wire};
use super::*;

const SECOND: Time = 1_000_000;

/// More of a body of which nothing is kept.
const BODY: Awaited = Awaited::Body {
    kept: 0,
    unpacked: None,
};

/// What happens to a scripted socket, one step for each wait; reads and writes between take what is there.
enum Step {
    /// Bytes arrive so much later.
    Arrives(Time, &'static [u8]),
    /// The peer reads so many bytes so much later.
    Reads(Time, usize),
    /// Somebody wakes the connection so much later, for nothing.
    Woken(Time),
    /// Nothing happens until the patrol calls.
    Silence,
}

struct Scripted {
    slot: Slot,
    control: Arc<Control>,
    steps: VecDeque<Step>,
    incoming: VecDeque<u8>,
    /// Room in the send buffer.
    room: usize,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Socket for Scripted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(to) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            read => read,
        }
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let count = from.len().min(self.room);
        self.room -= count;
        self.written.lock().unwrap().extend_from_slice(&from[..count]);
        match count {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn wait(&mut self) -> Events {
        let deadline = self.slot.watch(0).watched.deadline();
        let clock = &self.control.clock;
        let step = self.steps.pop_front();
        let later = |after: Time| {
            assert!(clock.now() + after < deadline, "the patrol would have called");
            clock.set(clock.now() + after);
        };
        match step.expect("nobody waits for longer than the script") {
            Step::Arrives(after, bytes) if clock.now() + after >= deadline => {
                // The patrol comes first.
                let left = clock.now() + after - deadline;
                clock.set(deadline);
                self.steps.push_front(Step::Arrives(left, bytes));
            }
            Step::Arrives(after, bytes) => {
                later(after);
                self.incoming.extend(bytes);
            }
            Step::Reads(after, count) => {
                later(after);
                self.room += count;
            }
            Step::Woken(after) => later(after),
            Step::Silence => {
                assert_ne!(deadline, NEVER, "nobody would ever call");
                clock.set(deadline);
            }
        }
        Events::woken()
    }

    fn shut_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_hung_up(&self) -> bool {
        false
    }
}

/// A wire whose socket follows `steps`, and the clock it goes by.
fn wire(steps: impl IntoIterator<Item = Step>) -> (Wire<Scripted>, Arc<Control>) {
    let (socket, control) = socket(steps);
    let watch = socket.slot.watch(0);
    (Wire::new(socket, watch), control)
}

fn socket(steps: impl IntoIterator<Item = Step>) -> (Scripted, Arc<Control>) {
    let control = Control::new(Limits::default(), Arc::default());
    let registered = Registered::new(UnixStream::pair().unwrap().0).unwrap();
    let slot = Slot::enter(&control, registered.waker(), Kind::Connection);
    let socket = Scripted {
        slot,
        control: control.clone(),
        steps: steps.into_iter().collect(),
        incoming: VecDeque::new(),
        room: 0,
        written: Arc::default(),
    };
    (socket, control)
}

/// Fills and uses up until something else than input comes; the bytes that came, and when the end came.
fn fill_all(wire: &mut Wire<Scripted>, control: &Control, awaited: Awaited) -> (usize, Filled, Time) {
    let mut input = Input::new();
    let mut count = 0;
    let mut rested = false;
    loop {
        match wire.fill(&mut input, awaited).unwrap() {
            Filled::More => {
                // A head stays in the input until it is whole; a body is used up.
                if awaited != Awaited::Request {
                    count += input.unused().len();
                    input.consume(input.unused().len());
                } else {
                    count = input.unused().len();
                }
            }
            // Once in a wait for a request.
            Filled::AtRest => assert!(!std::mem::replace(&mut rested, true), "at rest twice"),
            other => return (count, other, control.clock.now()),
        }
    }
}

/// A limit is never cut short, and kept to within two rounds of a quarter of a second.
fn assert_after(limit: Time, at: Time) {
    assert!((limit..=limit + SECOND / 2).contains(&at), "{limit} but {at}");
}

#[test]
fn a_head_has_its_time_however_it_is_dripped_in() {
    let drip = (0..9).map(|_| Step::Arrives(SECOND, b"x"));
    let (mut wire, control) = wire(drip.chain([Step::Woken(SECOND / 2), Step::Silence]));
    let (count, end, at) = fill_all(&mut wire, &control, Awaited::Request);
    assert_eq!((count, end), (9, Filled::TooSlow));
    assert_after(micros(Limits::HEAD_TIMEOUT), at);
}

#[test]
fn a_connection_that_has_not_asked_anything_has_the_time_of_a_head() {
    // The first call is for the rest.
    let (mut wire, control) = wire([Step::Silence, Step::Silence]);
    let (count, end, at) = fill_all(&mut wire, &control, Awaited::Request);
    assert_eq!((count, end), (0, Filled::TooSlow));
    assert_after(micros(Limits::HEAD_TIMEOUT), at);
}

#[test]
fn between_requests_there_is_the_idle_time_and_then_that_of_a_head() {
    let steps = [
        Step::Silence,
        Step::Woken(30 * SECOND),
        Step::Arrives(40 * SECOND, b"G"),
        Step::Arrives(9 * SECOND, b"E"),
        Step::Silence,
    ];
    let (mut wire, control) = wire(steps);
    wire.end_request();
    let (count, end, at) = fill_all(&mut wire, &control, Awaited::Request);
    assert_eq!((count, end), (2, Filled::TooSlow));
    assert_after(71 * SECOND + micros(Limits::HEAD_TIMEOUT), at);

    let (mut wire, control) = self::wire([Step::Silence, Step::Silence]);
    wire.end_request();
    let (_, end, at) = fill_all(&mut wire, &control, Awaited::Request);
    assert_eq!(end, Filled::TooSlow);
    assert_after(micros(Limits::IDLE_TIMEOUT), at);
}

#[test]
fn a_slow_body_is_read_as_long_as_it_keeps_its_rate() {
    // A byte each 950 microseconds is more than 1 KiB a second; for far longer than the grace.
    let steady = (0..100_000).map(|_| Step::Arrives(950, b"x"));
    let (mut wire, control) = wire(steady.chain([Step::Silence]));
    let (count, end, at) = fill_all(&mut wire, &control, BODY);
    assert_eq!((count, end), (100_000, Filled::TooSlow));
    assert_after(95 * SECOND + micros(Limits::BODY_GRACE), at);
}

#[test]
fn a_body_below_its_rate_ends_when_the_grace_is_used_up() {
    // Half the rate: each second costs half a second of the grace.
    let half = (0..19).map(|_| Step::Arrives(SECOND, &[b'x'; 512]));
    let (mut wire, control) = wire(half.chain([Step::Silence]));
    let (count, end, at) = fill_all(&mut wire, &control, BODY);
    assert_eq!((count, end), (19 * 512, Filled::TooSlow));
    assert_after(2 * micros(Limits::BODY_GRACE) - SECOND / 2, at);
}

#[test]
fn a_body_in_crumbs_is_held_to_its_rate_however_often_they_come() {
    // Ten bytes a second, more often than the clock goes round.
    let crumbs = (0..1000).map(|_| Step::Arrives(SECOND / 10, b"x"));
    let (mut wire, control) = wire(crumbs);
    let (_, end, at) = fill_all(&mut wire, &control, BODY);
    assert_eq!(end, Filled::TooSlow);
    assert_after(micros(Limits::BODY_GRACE), at);
}

#[test]
fn a_fast_beginning_does_not_pay_for_standing_still() {
    let (mut wire, control) = wire([Step::Arrives(SECOND, &[b'x'; 8192]), Step::Silence]);
    let (count, end, at) = fill_all(&mut wire, &control, BODY);
    assert_eq!((count, end), (8192, Filled::TooSlow));
    assert_after(SECOND + micros(Limits::BODY_GRACE), at);
}

#[test]
fn the_more_is_kept_of_a_body_the_faster_its_rest_has_to_come() {
    // 60 MiB in ten minutes are 105 KiB a second; half of that each second costs half a second of the grace.
    let kept = Awaited::Body {
        kept: 60 << 20,
        unpacked: None,
    };
    let [half, enough] = [52_428, 104_858].map(|rate| vec![b'x'; rate].leak() as &'static [u8]);
    let trickle = (0..19).map(|_| Step::Arrives(SECOND, half));
    let (mut wire, control) = wire(trickle.chain([Step::Silence]));
    let (count, end, at) = fill_all(&mut wire, &control, kept);
    assert_eq!((count, end), (19 * half.len(), Filled::TooSlow));
    assert_after(2 * micros(Limits::BODY_GRACE) - SECOND / 2, at);
    // At that rate it may go on.
    let steady = (0..100).map(|_| Step::Arrives(SECOND, enough));
    let (mut wire, control) = self::wire(steady.chain([Step::Silence]));
    let (count, end, at) = fill_all(&mut wire, &control, kept);
    assert_eq!((count, end), (100 * enough.len(), Filled::TooSlow));
    assert_after(100 * SECOND + micros(Limits::BODY_GRACE), at);
}

#[test]
fn of_a_packed_body_what_was_unpacked_counts_for_what_is_kept() {
    // A tenth of what is needed, which unpacks to ten times as much: and then to nothing, as bytes of a bomb do.
    let tenth = vec![b'x'; 10_486].leak() as &'static [u8];
    let awaited = |unpacked| Awaited::Body {
        kept: 60 << 20,
        unpacked: Some(unpacked),
    };
    let steady = (0..100).map(|_| Step::Arrives(SECOND, tenth));
    let (mut wire, control) = wire(steady.chain([Step::Silence]));
    let (count, end, at) = fill_all(&mut wire, &control, awaited(10 * tenth.len()));
    assert_eq!((count, end), (100 * tenth.len(), Filled::TooSlow));
    assert_after(100 * SECOND + micros(Limits::BODY_GRACE), at);
    let steady = (0..100).map(|_| Step::Arrives(SECOND, tenth));
    let (mut wire, control) = self::wire(steady);
    let (_, end, at) = fill_all(&mut wire, &control, awaited(0));
    assert_eq!(end, Filled::TooSlow);
    assert_after(micros(Limits::BODY_GRACE), at);
}

#[test]
fn a_request_gives_the_next_body_its_whole_grace() {
    let (mut wire, control) = wire([Step::Arrives(9 * SECOND, b"x"), Step::Silence]);
    let mut input = Input::new();
    assert_eq!(wire.fill(&mut input, BODY).unwrap(), Filled::More);
    input.consume(1);
    wire.end_request();
    let (_, end, at) = fill_all(&mut wire, &control, BODY);
    assert_eq!(end, Filled::TooSlow);
    assert_after(9 * SECOND + micros(Limits::BODY_GRACE), at);
}

#[test]
fn a_write_may_stall_for_its_time_but_not_longer() {
    let progress = (0..4).map(|_| Step::Reads(29 * SECOND, 1));
    let stall = [
        Step::Woken(20 * SECOND),
        Step::Arrives(9 * SECOND, b"more"),
        Step::Silence,
    ];
    let (mut wire, control) = wire(progress.chain(stall));
    let error = wire.write_all(b"12345").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_after(
        4 * 29 * SECOND + micros(Limits::WRITE_TIMEOUT),
        control.clock.now(),
    );
}

#[test]
fn nothing_follows_an_interim_answer_that_was_given_up_half_way() {
    let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let steps = [
        Step::Arrives(SECOND, head),
        Step::Reads(SECOND, 10),
        Step::Silence,
        // Room for an answer, if anybody tried.
        Step::Reads(SECOND, 1000),
    ];
    let (socket, _control) = socket(steps);
    let (watch, written) = (socket.slot.watch(0), socket.written.clone());
    let service = || TestService {
        scratch: Vec::new(),
        owed: Vec::new(),
        gate: Gate::default(),
    };
    Connection::new(Box::new(socket), service, watch).run();
    let written = written.lock().unwrap();
    assert_eq!(String::from_utf8_lossy(&written), "HTTP/1.1 1");
}

#[test]
fn lingering_ends_although_the_peer_goes_on() {
    let steps = (0..20).map(|_| Step::Arrives(SECOND / 10, b"x"));
    let (mut wire, control) = wire(steps.chain([Step::Silence]));
    wire.linger(&mut Input::new());
    assert_after(2 * SECOND, control.clock.now());
}

#[test]
fn a_connection_comes_to_rest_once_and_waits_on_without_a_buffer() {
    let steps = [
        Step::Woken(SECOND / 2),
        Step::Silence,
        Step::Woken(SECOND),
        Step::Arrives(SECOND, b"x"),
        Step::Silence,
    ];
    let (mut wire, control) = wire(steps);
    wire.end_request();
    let mut input = Input::new();
    let mut fill = |input: &mut Input| wire.fill(input, Awaited::Request).unwrap();
    assert_eq!(fill(&mut input), Filled::AtRest);
    assert_after(SECOND, control.clock.now());
    assert!(input.release().is_empty(), "the buffer went back before");
    assert_eq!(fill(&mut input), Filled::More);
    assert_eq!(input.unused(), b"x");
    // As soon as there is nothing to be kept it does without one again, and can come to rest again.
    input.consume(1);
    assert_eq!(fill(&mut input), Filled::AtRest);
    assert!(input.release().is_empty());
}

/// Limits of which one is short, so that nothing else can end a connection.
fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let long = Duration::from_secs(3600);
    let mut limits = Limits {
        head_timeout: long,
        body_grace: long,
        idle_timeout: long,
        write_timeout: long,
        ..Limits::default()
    };
    set(&mut limits);
    limits
}

/// Short enough not to wait for long, and long enough for a busy machine to send a request in.
const SHORT: Duration = Duration::from_millis(500);

fn await_connections(server: &Handle, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while server.connections() != count {
        assert!(Instant::now() < deadline, "{} connections", server.connections());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn expect_408(client: &mut Client) {
    let answer = client.answer();
    assert_eq!(
        (answer.status(), answer.header("Connection")),
        (408, Some("close"))
    );
    assert!(answer.text().starts_with(r#"{"detail":""#), "{answer:?}");
    client.expect_end();
}

#[test]
fn half_a_head_is_answered_408() {
    let server = start_with(Gate::default(), limits(|limits| limits.head_timeout = SHORT));
    // As the first request, and behind another one.
    expect_408(Client::new(&server).send("GET / HTTP/1.1\r\nHos"));
    let mut client = Client::new(&server);
    client.send(post("/echo", "a") + "G");
    assert_eq!(client.answer().text(), "a");
    expect_408(&mut client);
    // Who has sent nothing gets nothing; between requests the limit does not hold.
    let mut kept = Client::new(&server);
    assert_eq!(kept.send(post("/echo", "b")).answer().text(), "b");
    Client::new(&server).expect_end();
    assert_eq!(kept.send(post("/echo", "c")).answer().text(), "c");
    drop((client, kept));
    stop(&server);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = start_with(Gate::default(), limits(|limits| limits.idle_timeout = SHORT));
    let mut client = Client::new(&server);
    assert_eq!(client.send(post("/echo", "a")).answer().text(), "a");
    client.expect_end();
    stop(&server);
}

#[test]
fn half_a_body_is_answered_408() {
    let server = start_with(Gate::default(), limits(|limits| limits.body_grace = SHORT));
    let request = post("/echo", "never whole");
    expect_408(Client::new(&server).send(&request[..request.len() - 1]));
    // One that nobody reads: its answer does not wait for it, and the connection ends.
    let mut client = Client::new(&server);
    client.send(&post("/unread", "never whole")[..request.len() - 1]);
    assert_eq!(client.answer().status(), 403);
    client.expect_end();
    stop(&server);
}

#[test]
fn a_peer_that_does_not_read_is_given_up() {
    let server = start_with(Gate::default(), limits(|limits| limits.write_timeout = SHORT));
    for path in ["/large", "/stream"] {
        let mut client = Client::new(&server);
        // More than the buffers of both kernels hold, which grow to a few MiB.
        let count = 400;
        let mut writer = client.stream.try_clone().unwrap();
        let burst = get(path).repeat(count);
        let sender = std::thread::spawn(move || writer.write_all(burst.as_bytes()));
        await_connections(&server, 1);
        await_connections(&server, 0);
        sender.join().unwrap().ok();
        // What had left before is still there to be read; then the end, or a reset.
        let mut bytes = 0;
        let mut piece = [0; 65536];
        while let Ok(count @ 1..) = client.stream.read(&mut piece) {
            bytes += count;
        }
        assert!(bytes < count * 40_000, "everything was read: {bytes}");
    }
    stop(&server);
}

#[test]
fn a_stream_may_wait_for_longer_than_any_limit() {
    let everything = |limits: &mut Limits| {
        limits.head_timeout = SHORT;
        limits.body_grace = SHORT;
        limits.idle_timeout = SHORT;
        limits.write_timeout = SHORT;
    };
    let (waker, wakers) = mpsc::channel();
    let words = Arc::new(AtomicUsize::new(0));
    let gate = Gate {
        words: words.clone(),
        wakers: Some(waker),
        ..Gate::default()
    };
    let server = start_with(gate, limits(everything));
    let mut listener = Client::new(&server);
    listener.send(get("/wait"));
    let waker: StreamWaker = wakers.recv_timeout(PATIENCE).unwrap();
    assert!(listener.take_through(b"\r\n\r\n").contains("chunked"));
    // Another one is closed for being idle twice over; the stream is still there and takes its word.
    for _ in 0..2 {
        let mut idle = Client::new(&server);
        assert_eq!(idle.send(post("/echo", "a")).answer().text(), "a");
        idle.expect_end();
    }
    for _ in 0..2 {
        words.fetch_add(1, Ordering::AcqRel);
        waker.wake();
        assert_eq!(listener.take_through(b"word\r\n"), "0004\r\nword\r\n");
    }
    // One that has gone is noticed while nothing is sent.
    await_connections(&server, 1);
    drop(listener);
    await_connections(&server, 0);
    // A stopping server is told to the producer, and the body comes to its end.
    let mut listener = Client::new(&server);
    listener.send(get("/wait"));
    wakers.recv_timeout(PATIENCE).unwrap();
    server.stop_accepting();
    assert_eq!(listener.answer().text(), "over");
    drop(listener);
    assert!(server.join(PATIENCE));
}
