//! TLS as clients see it: rustls as the client, the real binary as the server.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::http::{self, BATCH, Client, EVENT};
use common::server::{Launch, Server};
use common::{PATIENCE, await_true, log};
use rustix::process::Signal;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

/// A folder with a certificate, and a server that uses it.
struct Setup {
    folder: tempfile::TempDir,
    launch: Launch,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch::new(folder.path())
            .set("METRICS_TLS_CERT", folder.path().join("cert.pem"))
            .set("METRICS_TLS_KEY", folder.path().join("key.pem"));
        let setup = Self { folder, launch };
        setup.write_certificate();
        setup
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a new certificate with its key.
    fn write_certificate(&self) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(self.path("cert.pem"), made.cert.pem()).unwrap();
        fs::write(self.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    /// Clients that trust the certificate that is in its file now, and nothing else.
    fn trust(&self) -> Trust {
        Trust::new(&self.path("cert.pem"), &[&TLS12, &TLS13])
    }
}

/// What clients begin with.
#[derive(Clone)]
struct Trust(ClientConfig);

impl Trust {
    fn new(cert: &Path, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(cert).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(config)
    }

    fn protocols(mut self, names: &[&str]) -> Self {
        self.0.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Connects and shakes hands.
    fn try_connect(&self, address: SocketAddr) -> std::io::Result<Secure> {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(self.0.clone()), name).unwrap();
        let mut stream = StreamOwned::new(session, tcp(address));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Secure {
            stream,
            pending: Vec::new(),
        })
    }

    fn connect(&self, server: &Server) -> Secure {
        self.try_connect(server.address())
            .expect("the handshake succeeds")
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server takes connections");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A client's connection.
struct Secure {
    stream: StreamOwned<ClientConnection, TcpStream>,
    pending: Vec<u8>,
}

impl Secure {
    /// Sends bytes as one record, or as many as they need.
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Takes the status of the next answer.
    fn answer(&mut self) -> u16 {
        loop {
            if let Some((status, length)) = whole_answer(&self.pending) {
                self.pending.drain(..length);
                return status;
            }
            let mut piece = [0; 16 << 10];
            let count = self.stream.read(&mut piece).unwrap();
            assert_ne!(count, 0, "the connection ended within an answer");
            self.pending.extend_from_slice(&piece[..count]);
        }
    }

    fn call(&mut self, request: &[u8]) -> u16 {
        self.send(request);
        self.answer()
    }

    /// Expects that nothing more comes, and that the end is said properly.
    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        // An end without close_notify is an error.
        self.stream
            .read_to_end(&mut rest)
            .expect("the end comes with close_notify");
        assert!(rest.is_empty() && self.pending.is_empty(), "{rest:?}");
    }
}

/// Status and length of the answer that `bytes` begin with, if all of it is there.
fn whole_answer(bytes: &[u8]) -> Option<(u16, usize)> {
    let text = String::from_utf8_lossy(bytes);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
    let (_, length) = head
        .split_once("Content-Length: ")
        .expect("answers have a length");
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    let length = head.len() + 4 + length;
    (bytes.len() >= length).then_some((status, length))
}

fn event(visitor: &str) -> String {
    format!(r#"{{"visitor_id":"{visitor}","event":"view"}}"#)
}

fn post(visitor: &str) -> Vec<u8> {
    http::post(EVENT, &event(visitor))
}

fn visitors(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("visitor-{number}")).collect()
}

#[test]
fn posts_on_a_kept_connection_with_both_versions() {
    let setup = Setup::new();
    let server = setup.launch.start();
    assert_eq!(server.fields()["tls"], true);
    let names = visitors(6);
    for (version, names) in [&TLS12, &TLS13].into_iter().zip(names.chunks(3)) {
        let trust = Trust::new(&setup.path("cert.pem"), &[version]);
        let mut client = trust.protocols(&["h2", "http/1.1"]).connect(&server);
        assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        for name in names {
            assert_eq!(client.call(&post(name)), 202);
        }
        let last = http::request("GET", "/nowhere", &[("Connection", "close")], b"");
        assert_eq!(client.call(&last), 404);
        client.expect_end();
    }
    server.stop();
    assert_eq!(log::visitors(&setup.launch.log()), names);
}

#[test]
fn a_burst_in_one_record_in_many_and_in_many_segments() {
    let setup = Setup::new();
    let server = setup.launch.start();
    let names = visitors(90);
    let mut client = setup.trust().connect(&server);
    let (one, rest) = names.split_at(30);
    let (many, segments) = rest.split_at(30);
    let burst = |names: &[String]| names.iter().flat_map(|name| post(name)).collect::<Vec<_>>();
    client.send(&burst(one));
    assert_eq!([(); 30].map(|()| client.answer()), [202; 30]);
    // Records of seven bytes, all in one write.
    for piece in burst(many).chunks(7) {
        // Each call seals a record of its own.
        client.stream.conn.writer().write_all(piece).unwrap();
    }
    client.send(&[]);
    assert_eq!([(); 30].map(|()| client.answer()), [202; 30]);
    // One record, byte by byte.
    client.stream.conn.writer().write_all(&burst(segments)).unwrap();
    let mut sealed = Vec::new();
    while client.stream.conn.wants_write() {
        client.stream.conn.write_tls(&mut sealed).unwrap();
    }
    for byte in sealed {
        client.stream.sock.write_all(&[byte]).unwrap();
    }
    assert_eq!([(); 30].map(|()| client.answer()), [202; 30]);
    server.stop();
    assert_eq!(log::visitors(&setup.launch.log()), names);
}

#[test]
fn large_bodies_pass() {
    let setup = Setup::new();
    let server = setup.launch.start();
    let mut client = setup.trust().connect(&server);
    let mut single = event("visitor-0");
    single += &" ".repeat((1 << 20) - single.len());
    assert_eq!(client.call(&http::post(EVENT, &single)), 202);
    let line = event("visitor-1") + "\n";
    let count = (8 << 20) / line.len();
    assert_eq!(client.call(&http::post(BATCH, &line.repeat(count))), 202);
    assert_eq!(client.call(&post("visitor-2")), 202);
    server.stop();
    assert_eq!(log::lines(&setup.launch.log()).len(), count + 2);
}

#[test]
fn a_request_followed_by_close_notify_is_answered() {
    let setup = Setup::new();
    let server = setup.launch.start();
    for ends_stream in [false, true] {
        let mut client = setup.trust().connect(&server);
        client.stream.conn.writer().write_all(&post("visitor-1")).unwrap();
        client.stream.conn.send_close_notify();
        client.send(&[]);
        if ends_stream {
            client.stream.sock.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(client.answer(), 202);
        client.expect_end();
    }
    server.stop();
}

#[test]
fn sighup_brings_a_new_certificate_and_leaves_connections_alone() {
    let setup = Setup::new();
    let server = setup.launch.start();
    let before = setup.trust();
    let mut kept = before.connect(&server);
    assert_eq!(kept.call(&post("visitor-0")), 202);
    // Sessions are resumed: the second connection needs no certificate.
    let again = before.connect(&server);
    assert_eq!(again.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));

    setup.write_certificate();
    let reload = |times: usize| {
        server.signal(Signal::HUP);
        await_true("the answer to SIGHUP", || {
            server.stderr().matches("SIGHUP").count() == times
        });
    };
    reload(1);
    let after = setup.trust();
    assert_eq!(after.connect(&server).call(&post("visitor-1")), 202);
    assert!(
        before.try_connect(server.address()).is_err(),
        "a ticket of before must not hide the new certificate"
    );
    assert_eq!(kept.call(&post("visitor-2")), 202);

    // Files that are no use change nothing.
    fs::write(setup.path("key.pem"), "nothing").unwrap();
    reload(2);
    assert!(server.stderr().contains("METRICS_TLS_KEY"), "{}", server.stderr());
    fs::remove_file(setup.path("cert.pem")).unwrap();
    reload(3);
    assert!(
        server.stderr().contains("METRICS_TLS_CERT"),
        "{}",
        server.stderr()
    );
    assert_eq!(after.connect(&server).call(&post("visitor-3")), 202);
    server.stop();
    assert_eq!(log::visitors(&setup.launch.log()), visitors(4));
}

#[test]
fn without_anything_to_read_again_sighup_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    server.signal(Signal::HUP);
    await_true("the answer to SIGHUP", || server.stderr().contains("SIGHUP"));
    server.connect().post(EVENT, &event("visitor-1")).expect(202);
    server.stop();
}

#[test]
fn files_that_are_no_use_end_the_start_and_name_the_setting() {
    let other = Setup::new();
    let other_key = fs::read_to_string(other.path("key.pem")).unwrap();
    for (file, content, setting) in [
        ("cert.pem", None, "METRICS_TLS_CERT"),
        ("cert.pem", Some(""), "METRICS_TLS_CERT"),
        ("cert.pem", Some(&other_key[..]), "METRICS_TLS_CERT"),
        (
            "cert.pem",
            Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "METRICS_TLS_CERT",
        ),
        ("key.pem", None, "METRICS_TLS_KEY"),
        ("key.pem", Some("no key"), "METRICS_TLS_KEY"),
        ("key.pem", Some(&other_key[..]), "METRICS_TLS_KEY"),
    ] {
        let setup = Setup::new();
        match content {
            Some(content) => fs::write(setup.path(file), content).unwrap(),
            None => fs::remove_file(setup.path(file)).unwrap(),
        }
        let ended = setup
            .launch
            .try_start()
            .expect_err("there is nothing to begin with");
        assert_eq!(ended.status.code(), Some(2), "{content:?}: {}", ended.stderr);
        let path = setup.path(file).display().to_string();
        assert!(
            ended.stderr.contains(setting) && ended.stderr.contains(&path),
            "{content:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn peers_that_speak_something_else_are_closed_without_a_word_in_the_log() {
    let setup = Setup::new();
    let server = setup.launch.start();
    // Plain HTTP: an alert, and the end.
    let mut plain = tcp(server.address());
    plain.write_all(&post("visitor-1")).unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    assert_eq!((answer.len(), answer[0]), (7, 0x15), "{answer:?}");
    // A protocol that is not spoken here; a certificate that the client does not trust.
    assert!(
        setup
            .trust()
            .protocols(&["h2"])
            .try_connect(server.address())
            .is_err()
    );
    assert!(Setup::new().trust().try_connect(server.address()).is_err());
    // One that breaks off, and one that never goes on.
    drop(tcp(server.address()));
    let mut silent = tcp(server.address());
    silent.write_all(&[0x16, 3, 1]).unwrap();
    assert_eq!(setup.trust().connect(&server).call(&post("visitor-2")), 202);
    let words = server.stderr();
    assert!(
        words
            .lines()
            .all(|line| line.contains(r#""listening""#) || line.contains(r#""the log is counted""#)),
        "{words}"
    );
    // It holds up nothing.
    server.stop();
    assert_eq!(log::visitors(&setup.launch.log()), ["visitor-2"]);
}

#[test]
fn a_tls_hello_on_the_plain_port_ends_the_connection() {
    let setup = Setup::new();
    let launch = setup
        .launch
        .clone()
        .unset("METRICS_TLS_CERT")
        .unset("METRICS_TLS_KEY");
    let server = launch.start();
    assert_eq!(server.fields()["tls"], false);
    assert!(setup.trust().try_connect(server.address()).is_err());
    server.connect().post(EVENT, &event("visitor-1")).expect(202);
    server.stop();
}

#[test]
fn a_unix_socket_stays_plain_beside_tls() {
    let setup = Setup::new();
    let path = setup.path("floodgate.sock");
    let bind = format!("127.0.0.1:0,unix:{}", path.display());
    let server = setup.launch.clone().set("METRICS_BIND", bind).start();
    let mut local = std::os::unix::net::UnixStream::connect(&path).unwrap();
    local.set_read_timeout(Some(PATIENCE)).unwrap();
    local.write_all(&post("visitor-1")).unwrap();
    let mut answer = [0; 12];
    local.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 202");
    assert_eq!(setup.trust().connect(&server).call(&post("visitor-2")), 202);
    server.stop();
}

#[test]
fn a_surplus_connection_is_closed() {
    let setup = Setup::new();
    let server = setup.launch.clone().set("METRICS_CONNECTIONS_MAX", "1").start();
    let mut kept = setup.trust().connect(&server);
    assert_eq!(kept.call(&post("visitor-1")), 202);
    let mut surplus = Client::connect(server.address()).unwrap();
    assert!(surplus.is_at_end());
    assert_eq!(kept.call(&post("visitor-2")), 202);
    server.stop();
}

#[test]
fn a_slow_subscriber_of_the_live_stream_gets_every_event_whole() {
    const EVENTS: usize = 2_000;
    let setup = Setup::new();
    let server = setup.launch.start();
    let mut listener = setup.trust().connect(&server);
    // Of this version a body has no chunks.
    listener.send(b"GET /api/metrics/behavior/stream HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut text = vec![0; 32];
    listener.stream.read_exact(&mut text).unwrap();
    let mut writer = setup.trust().connect(&server);
    let padding = "x".repeat(8_000);
    for numbers in (0..EVENTS).collect::<Vec<_>>().chunks(100) {
        let event = |n: &usize| {
            format!(
                r#"{{"visitor_id":"visitor-{n:04}","event":"view","metadata":{{"padding":"{padding}"}}}}"#
            )
        };
        let body: Vec<String> = numbers.iter().map(event).collect();
        let path = format!("{BATCH}?ack=written");
        assert_eq!(writer.call(&http::post(&path, &body.join("\n"))), 202);
    }
    // Now it reads, of what is more than sockets take.
    let mut events = 0;
    let mut piece = [0; 16 << 10];
    while events < EVENTS {
        let count = listener.stream.read(&mut piece).unwrap();
        assert_ne!(count, 0, "the connection ended after {events} events");
        text.extend_from_slice(&piece[..count]);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let block = String::from_utf8(text.drain(..end + 2).collect()).unwrap();
            let Some((_, line)) = block.split_once("\ndata: ") else {
                assert_eq!(events, 0, "{block}");
                continue;
            };
            let event = log::event(line);
            assert_eq!(event["visitor_id"], format!("visitor-{events:04}"));
            assert_eq!(event["metadata"]["padding"], padding.as_str());
            events += 1;
        }
    }
}
