//! Where the server listens: IPv4, IPv6, several addresses, Unix sockets, passed sockets, several acceptors.

mod common;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use common::http::{self, BEHAVIOR, Client, EVENT};
use common::server::{Launch, Server};
use common::{PATIENCE, await_true, log};
use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

fn folder() -> (tempfile::TempDir, Launch) {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    (folder, launch)
}

fn event(visitor: &str) -> String {
    format!(r#"{{"visitor_id":"{visitor}","event":"view"}}"#)
}

/// Sends a request that asks for the connection's end, and takes the status of the answer.
fn exchange(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> u16 {
    let request = http::request(method, path, &[("Connection", "close")], body.as_bytes());
    stream.write_all(&request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

fn unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the server takes connections");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The addresses behind the first one.
fn more_addresses(server: &Server) -> Vec<String> {
    let more = server.fields()["more_addresses"].as_str().unwrap_or_default();
    more.split(", ").map(str::to_owned).collect()
}

/// A start that must fail for its addresses.
fn start_error(launch: &Launch) -> String {
    let ended = launch.try_start().expect_err("there is nothing to listen on");
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("METRICS_BIND"), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn ipv6_and_two_addresses_at_once() {
    let (_folder, launch) = folder();
    let launch = launch.set("METRICS_BIND", "[::1]:0, 127.0.0.1:0");
    let server = launch.start();
    assert!(server.address().is_ipv6(), "{}", server.address());
    let more = more_addresses(&server);
    let [second] = &more[..] else {
        panic!("{more:?}");
    };
    let second: SocketAddr = second.parse().unwrap();
    assert!(second.is_ipv4());
    for (address, visitor) in [(server.address(), "visitor-6"), (second, "visitor-4")] {
        let mut client = Client::connect(address).unwrap();
        client
            .post(&format!("{EVENT}?ack=written"), &event(visitor))
            .expect(202);
        client.get(BEHAVIOR).expect(200);
    }
    server.stop();
    assert_eq!(log::visitors(&launch.log()), ["visitor-6", "visitor-4"]);
    assert!(TcpStream::connect(second).is_err(), "still listening");
}

#[test]
fn both_families_may_share_a_port() {
    let (_folder, launch) = folder();
    // A port that is free for both: taken from the system for one, and given back. Somebody else may be faster.
    let (server, port) = (0..20)
        .find_map(|_| {
            let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
            let launch = launch
                .clone()
                .set("METRICS_BIND", format!("[::]:{port},0.0.0.0:{port}"));
            Some((launch.try_start().ok()?, port))
        })
        .expect("a port that is free for both families");
    for ip in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        Client::connect(address)
            .unwrap()
            .post(EVENT, &event("visitor-1"))
            .expect(202);
    }
    server.stop();
}

#[test]
fn reads_are_closed_as_soon_as_one_address_is_public() {
    for (bind, status) in [
        ("127.0.0.1:0,[::1]:0", 200),
        ("127.0.0.1:0,unix:a.sock", 200),
        ("127.0.0.1:0,0.0.0.0:0", 403),
    ] {
        let (_folder, launch) = folder();
        let server = launch.set("METRICS_BIND", bind).start();
        assert_eq!(server.connect().get(BEHAVIOR).status, status, "{bind}");
    }
}

#[test]
fn a_unix_socket_is_local_has_its_mode_and_goes_with_the_server() {
    let (folder, launch) = folder();
    let path = folder.path().join("floodgate.sock");
    let place = format!("unix:{}", path.display());
    let launch = launch.set("METRICS_BIND", &place);
    let server = launch.start();
    assert_eq!(server.fields()["address"], place);
    assert_eq!(exchange(unix(&path), "POST", EVENT, &event("visitor-1")), 202);
    assert_eq!(exchange(unix(&path), "GET", BEHAVIOR, ""), 200);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660, "{mode:o}");
    // Idle connections end with the server.
    let mut idle = unix(&path);
    server.stop();
    assert_eq!(idle.read(&mut [0; 8]).unwrap(), 0);
    assert!(!path.exists(), "the file stayed behind");
    assert_eq!(log::visitors(&launch.log()), ["visitor-1"]);
}

#[test]
fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
    let (folder, launch) = folder();
    let path = folder.path().join("floodgate.sock");
    let launch = launch.set("METRICS_BIND", format!("unix:{}", path.display()));
    launch.start().kill9();
    assert!(path.exists(), "a killed server leaves its socket");
    let server = launch.start();
    assert_eq!(exchange(unix(&path), "POST", EVENT, &event("visitor-1")), 202);
    // Another process with a log of its own wants the same path.
    let (_other_folder, other) = self::folder();
    let other = other.set("METRICS_BIND", format!("unix:{}", path.display()));
    let error = start_error(&other);
    assert!(error.contains("another process listens there"), "{error}");
    assert_eq!(exchange(unix(&path), "POST", EVENT, &event("visitor-2")), 202);
    server.stop();
    // Nor is a file that is no socket.
    fs::write(&path, "precious").unwrap();
    let error = start_error(&launch);
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_unix_socket_that_took_the_place_of_ours_is_not_removed() {
    let (folder, launch) = folder();
    let path = folder.path().join("floodgate.sock");
    let server = launch
        .set("METRICS_BIND", format!("unix:{}", path.display()))
        .start();
    fs::remove_file(&path).unwrap();
    let _theirs = UnixListener::bind(&path).unwrap();
    server.stop();
    assert!(path.exists(), "somebody else's socket was removed");
}

#[test]
fn a_passed_tcp_socket_is_used_when_nothing_else_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (_folder, launch) = folder();
    let server = launch
        .unset("METRICS_BIND")
        .pass(listener.try_clone().unwrap())
        .start();
    assert_eq!(server.address(), address);
    let mut client = server.connect();
    client.post(EVENT, &event("visitor-1")).expect(202);
    // It is a loopback address, though the setting does not say so.
    client.get(BEHAVIOR).expect(200);
    server.stop();
}

#[test]
fn a_passed_unix_socket_is_used_beside_another_address() {
    let (folder, launch) = folder();
    let path = folder.path().join("passed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = launch
        .set("METRICS_BIND", "127.0.0.1:0,systemd")
        .pass(listener)
        .start();
    server.connect().post(EVENT, &event("visitor-1")).expect(202);
    assert_eq!(more_addresses(&server), [format!("unix:{}", path.display())]);
    assert_eq!(exchange(unix(&path), "GET", BEHAVIOR, ""), 200);
    server.stop();
    assert!(
        path.exists(),
        "the service manager's socket is not ours to remove"
    );
}

#[test]
fn a_passed_socket_that_nobody_asked_for_is_named_in_the_log() {
    let (_folder, launch) = folder();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let passed = listener.local_addr().unwrap();
    let server = launch.pass(listener).start();
    assert_ne!(server.address(), passed);
    assert!(server.stderr().contains("are not used"), "{}", server.stderr());
    server.stop();
}

#[test]
fn what_cannot_be_listened_on_ends_the_start() {
    let (_folder, launch) = folder();
    let error = start_error(&launch.clone().set("METRICS_BIND", "systemd"));
    assert!(error.contains("passed no socket"), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = start_error(
        &launch
            .clone()
            .set("METRICS_BIND", format!("127.0.0.1:0,{address}")),
    );
    assert!(error.contains(&address.to_string()), "{error}");
    let error = start_error(&launch.clone().set("METRICS_BIND", "unix:no/such/folder/a.sock"));
    assert!(error.contains("unix:no/such/folder/a.sock"), "{error}");
    // A connection instead of a listener: what `Accept=yes` passes.
    let connected = TcpStream::connect(address).unwrap();
    let error = start_error(&launch.clone().set("METRICS_BIND", "systemd").pass(connected));
    assert!(error.contains("Accept=yes"), "{error}");
    let file = fs::File::open("/dev/null").unwrap();
    let error = start_error(&launch.set("METRICS_BIND", "systemd").pass(file));
    assert!(error.contains("neither a TCP nor a Unix"), "{error}");
}

/// Sockets of this machine that listen on the port.
fn listening_sockets(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let is_ours = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // State 0A is LISTEN.
        fields[1].ends_with(&local) && fields[3] == "0A"
    };
    table.lines().skip(1).filter(is_ours).count()
}

#[test]
fn several_acceptors_share_a_port_among_themselves_only() {
    let (_folder, launch) = folder();
    let server = launch.set("METRICS_ACCEPTORS", "4").start();
    let port = server.address().port();
    assert_eq!(listening_sockets(port), 4);
    assert_eq!(
        more_addresses(&server),
        [""],
        "one address, however many sockets it has"
    );
    // With 64 connections each socket has some, but for one run in millions.
    for number in 0..64 {
        let mut client = server.connect();
        client
            .post(EVENT, &event(&format!("visitor-{number}")))
            .expect(202);
    }
    // Another process would share the port without a word, were it not refused.
    let (_other_folder, other) = self::folder();
    let other = other
        .set("METRICS_ACCEPTORS", "4")
        .set("METRICS_BIND", server.address().to_string());
    let error = start_error(&other);
    assert!(error.contains("in use"), "{error}");
    let address = server.address();
    let mut idle = server.connect();
    server.stop();
    assert!(idle.is_at_end());
    assert!(TcpStream::connect(address).is_err(), "still listening");
}

#[test]
fn the_backlog_is_as_long_as_set() {
    const BACKLOG: usize = 3;
    let (folder, launch) = folder();
    let path = folder.path().join("floodgate.sock");
    let server = launch
        .set("METRICS_BIND", format!("unix:{}", path.display()))
        .set("METRICS_BACKLOG", BACKLOG.to_string())
        .start();
    // While it stands still nobody accepts. A Unix socket's queue takes one more than its backlog.
    server.signal(Signal::STOP);
    await_true("the server to stand still", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('T')
    });
    let name = SockAddr::unix(&path).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&name) {
            Ok(()) => waiting.push(socket),
            Err(error) => break error,
        }
        assert!(waiting.len() <= BACKLOG + 1, "longer than set");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    assert_eq!(waiting.len(), BACKLOG + 1);
    server.signal(Signal::CONT);
    assert_eq!(exchange(unix(&path), "POST", EVENT, &event("visitor-1")), 202);
    server.stop();
}
