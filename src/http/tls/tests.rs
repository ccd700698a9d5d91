//! TLS on a socket of the test's making: what comes when, and what fits, is known to the byte.

use std::collections::VecDeque;
use std::io::{Read, Write};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::super::Limits;
use super::super::control::{Control, Kind, Slot};
use super::super::deadline::micros;
use super::super::socket::Registered;
use super::super::wire::Wire;
use super::*;

/// What the other side and the network do.
#[derive(Default)]
struct Network {
    incoming: VecDeque<u8>,
    /// No more will come once `incoming` is taken.
    is_at_end: bool,
    sent: Vec<u8>,
    /// What the socket still takes; `None`: everything.
    room: Option<usize>,
    writes: usize,
    waits: usize,
    is_shut: bool,
    /// A clock for the reader: with each wait of the server 29 seconds pass, and it reads so many bytes; at the end of
    /// the list it reads no more, and the patrol calls.
    reader: Option<(Slot, VecDeque<usize>)>,
}

#[derive(Clone, Default)]
struct FakeSocket(Arc<Mutex<Network>>);

impl FakeSocket {
    fn network(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap()
    }
}

impl Socket for FakeSocket {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut network = self.network();
        if network.incoming.is_empty() && !network.is_at_end {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        network.incoming.read(to)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut network = self.network();
        let count = from.len().min(network.room.unwrap_or(usize::MAX));
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        network.writes += 1;
        network.room = network.room.map(|room| room - count);
        network.sent.extend_from_slice(&from[..count]);
        Ok(count)
    }

    fn wait(&mut self) -> Events {
        let mut network = self.network();
        network.waits += 1;
        let Network { reader, room, .. } = &mut *network;
        if let Some((slot, reads)) = reader {
            let watch = slot.watch(0);
            let pause = match reads.pop_front() {
                Some(count) => {
                    *room = room.map(|room| room + count);
                    micros(Limits::WRITE_TIMEOUT) - 1_000_000
                }
                None => micros(2 * Limits::WRITE_TIMEOUT),
            };
            watch.control.clock.set(watch.now() + pause);
        }
        // Writable, and nothing else.
        Events::NOTHING
    }

    fn shut_write(&mut self) -> io::Result<()> {
        self.network().is_shut = true;
        Ok(())
    }

    fn is_hung_up(&self) -> bool {
        false
    }
}

/// A server's connection and its client.
struct Pair {
    tls: Tls<FakeSocket>,
    socket: FakeSocket,
    client: ClientConnection,
}

impl Pair {
    fn new(version: &'static rustls::SupportedProtocolVersion) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let socket = FakeSocket::default();
        Self {
            tls: TlsConfig::load(&cert, &key)
                .unwrap()
                .accept(socket.clone())
                .unwrap(),
            socket,
            client: ClientConnection::new(Arc::new(config), name).unwrap(),
        }
    }

    /// A pair that has shaken hands.
    fn established(version: &'static rustls::SupportedProtocolVersion) -> Self {
        let mut pair = Self::new(version);
        pair.shake_hands();
        pair
    }

    fn shake_hands(&mut self) {
        // Two flights of the client, and with TLS 1.2 one more look at the server's last.
        for _ in 0..3 {
            self.send();
            self.expect_nothing();
            self.receive();
        }
        assert!(!self.client.is_handshaking());
    }

    /// Takes what the client wants to send to the server's socket.
    fn send(&mut self) {
        let sealed = self.sealed();
        self.socket.network().incoming.extend(sealed);
    }

    fn sealed(&mut self) -> Vec<u8> {
        let mut sealed = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut sealed).unwrap();
        }
        sealed
    }

    /// A record for each piece.
    fn records(&mut self, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut record = |piece: &&[u8]| {
            self.client.writer().write_all(piece).unwrap();
            self.sealed()
        };
        pieces.iter().map(&mut record).collect()
    }

    /// Takes what the server has sent to the client, and answers what it says.
    fn receive(&mut self) -> Vec<u8> {
        let sent = std::mem::take(&mut self.socket.network().sent);
        let mut sent = &sent[..];
        let mut plain = Vec::new();
        while !sent.is_empty() {
            self.client.read_tls(&mut sent).unwrap();
            self.client.process_new_packets().unwrap();
            let _ = self.client.reader().read_to_end(&mut plain);
        }
        plain
    }

    fn expect_nothing(&mut self) {
        let error = self.tls.read(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    /// Reads as a connection does, with room for `room` bytes: until a read comes back short.
    fn read(&mut self, room: usize) -> Vec<u8> {
        let mut bytes = vec![0; room];
        let mut all = Vec::new();
        loop {
            match self.tls.read(&mut bytes) {
                Ok(count) => {
                    all.extend_from_slice(&bytes[..count]);
                    if count < room {
                        return all;
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                    return all;
                }
            }
        }
    }

    /// Writes all of it as a connection does, with the client reading whenever the socket is full.
    fn write_all(&mut self, mut from: &[u8]) -> Vec<u8> {
        let mut received = Vec::new();
        while !from.is_empty() {
            match self.tls.write(from) {
                Ok(count) => from = &from[count..],
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                    received.extend(self.receive());
                    self.socket.network().room = Some(10_000);
                }
            }
        }
        received.extend(self.receive());
        received
    }
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn a_short_read_leaves_nothing_behind_however_records_and_segments_lie() {
    for version in VERSIONS {
        let mut pair = Pair::established(version);
        let text: Vec<u8> = (0..40_000u32).flat_map(|at| (at as u16).to_le_bytes()).collect();
        for sizes in [
            &[1, 1, 2, 3][..],
            &[300; 20],
            &[16_384, 1, 16_000],
            &[16_384; 4],
            &[5_000, 7],
        ] {
            for segment in [1, 5, 100, 1_460, 20_000, 1 << 20] {
                // A few bytes at a time are slow, and tell nothing about large records that 100 do not.
                if segment < 100 && sizes.iter().sum::<usize>() > 10_000 {
                    continue;
                }
                for room in [1, 3, 100, 8_192, 65_536] {
                    check_split(&mut pair, &text, sizes, segment, room);
                }
            }
        }
    }
}

/// Sends records of `sizes` in segments, and checks after each that the reader has everything that can be known.
fn check_split(pair: &mut Pair, text: &[u8], sizes: &[usize], segment: usize, room: usize) {
    let mut rest = text;
    let pieces: Vec<_> = sizes
        .iter()
        .map(|size| rest.split_off(..*size).unwrap())
        .collect();
    let records = pair.records(&pieces);
    let stream = records.concat();
    let (mut sent, mut read) = (0, Vec::new());
    for part in stream.chunks(segment) {
        pair.socket.network().incoming.extend(part);
        sent += part.len();
        read.extend(pair.read(room));
        let mut ends = records.iter().scan(0, |end, record| {
            *end += record.len();
            Some(*end)
        });
        let whole = ends.by_ref().take_while(|end| *end <= sent).count();
        let expected: usize = sizes[..whole].iter().sum();
        assert_eq!(
            read.len(),
            expected,
            "records {sizes:?}, segments of {segment}, room {room}, {sent} sent"
        );
    }
    assert!(
        read == text[..read.len()],
        "records {sizes:?}, segments of {segment}, room {room}"
    );
    assert!(pair.tls.received.is_empty() && pair.tls.queues.opened.is_empty());
}

#[test]
fn an_end_that_came_with_data_is_announced_once_and_answers_still_leave() {
    for version in VERSIONS {
        for is_stream_end in [false, true] {
            let mut pair = Pair::established(version);
            pair.client.writer().write_all(b"last words").unwrap();
            if !is_stream_end {
                pair.client.send_close_notify();
            }
            pair.send();
            pair.socket.network().is_at_end = is_stream_end;
            let mut bytes = [0; 100];
            // The end of the stream shows at the second read, as a plain socket's does.
            assert_eq!(pair.tls.read(&mut bytes).unwrap(), 10);
            if !is_stream_end {
                assert!(pair.tls.wait().is_hang_up());
                assert_eq!(
                    pair.socket.network().waits,
                    0,
                    "nobody would have ended this wait"
                );
            }
            assert_eq!(pair.tls.read(&mut bytes).unwrap(), 0);
            assert_eq!(pair.tls.read(&mut bytes).unwrap(), 0);
            assert_eq!(pair.write_all(b"an answer"), b"an answer");
            // A second wait is a real one: a blocked write must not spin.
            pair.tls.wait();
            assert_eq!(pair.socket.network().waits, 1);
            drop(pair.tls);
        }
    }
}

#[test]
fn a_write_is_accepted_when_all_of_it_is_in_the_socket() {
    for version in VERSIONS {
        let mut pair = Pair::established(version);
        pair.write_all(b"takes the tickets along");
        let text: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
        pair.socket.network().room = Some(100);
        let error = pair.tls.write(&text[..1_000]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        pair.socket.network().room = Some(2_000);
        assert_eq!(pair.tls.write(&text[..1_000]).unwrap(), 1_000);
        assert!(pair.tls.queues.unsent.is_empty());
        assert_eq!(pair.receive(), &text[..1_000]);
        pair.socket.network().room = Some(0);
        assert!(pair.write_all(&text) == text);
        // One system call a burst.
        pair.socket.network().room = None;
        let before = pair.socket.network().writes;
        assert_eq!(pair.tls.write(&text[..60_000]).unwrap(), 60_000);
        assert_eq!(pair.socket.network().writes, before + 1);
        assert!(pair.receive() == text[..60_000]);
    }
}

#[test]
fn who_reads_slowly_and_steadily_is_not_given_up_and_who_stops_is() {
    for version in VERSIONS {
        for (reads, is_read) in [(70, true), (60, false)] {
            let mut pair = Pair::established(version);
            pair.write_all(b"takes the tickets along");
            let control = Control::new(Limits::default(), Arc::default());
            let waker = Registered::new(std::os::unix::net::UnixStream::pair().unwrap().0).unwrap();
            let slot = Slot::enter(&control, waker.waker(), Kind::Connection);
            let watch = slot.watch(0);
            // A kilobyte at a time, of 64 that are sealed at once.
            let steps = std::iter::repeat_n(1 << 10, reads).collect();
            let socket = pair.socket.clone();
            socket.network().room = Some(0);
            socket.network().reader = Some((slot, steps));
            let text = vec![b'x'; WRITE_BYTES_MAX];
            let mut wire = Wire::new(pair.tls, watch);
            let written = wire.write_all(&text);
            let sent = socket.network().sent.len();
            match is_read {
                true => assert!(written.is_ok() && sent > text.len(), "{written:?} after {sent}"),
                false => {
                    let error = written.unwrap_err();
                    assert_eq!((error.kind(), sent), (io::ErrorKind::TimedOut, reads << 10));
                    // Of the next write nothing may leave: some of this one is still sealed and waits.
                    socket.network().room = None;
                    assert!(wire.write_all(b"an answer").is_err());
                    assert_eq!(socket.network().sent.len(), sent);
                }
            }
        }
    }
}

#[test]
fn reading_and_a_blocked_write_do_not_disturb_each_other() {
    let mut pair = Pair::established(&rustls::version::TLS13);
    let records = pair.records(&[b"one", b"two", b"three"]).concat();
    let half = records.len() - 5;
    pair.socket.network().incoming.extend(&records[..half]);
    // Room for the first record and a half: the rest is kept sealed.
    assert_eq!(pair.tls.read(&mut [0; 4]).unwrap(), 4);
    assert_eq!(pair.write_all(b"an answer"), b"an answer");
    assert_eq!(pair.read(100), b"wo");
    pair.socket.network().incoming.extend(&records[half..]);
    assert_eq!(pair.read(100), b"three");
}

#[test]
fn tickets_leave_with_the_first_answer() {
    let mut pair = Pair::established(&rustls::version::TLS13);
    let before = pair.socket.network().writes;
    assert_eq!(before, 1, "the handshake is one flight");
    assert!(!pair.tls.queues.unsent.is_empty());
    assert_eq!(pair.write_all(b"an answer"), b"an answer");
    assert_eq!(pair.socket.network().writes, before + 1);
    assert_eq!(pair.client.tls13_tickets_received(), 2);
}

#[test]
fn a_flight_that_did_not_fit_is_sent_when_there_is_room() {
    for version in VERSIONS {
        let mut pair = Pair::new(version);
        pair.socket.network().room = Some(10);
        pair.send();
        pair.expect_nothing();
        assert!(pair.tls.wait().worth_reading(), "a read has to send the rest");
        pair.socket.network().room = None;
        pair.expect_nothing();
        assert!(!pair.tls.wait().worth_reading());
        pair.receive();
        pair.shake_hands();
    }
}

#[test]
fn what_is_not_tls_gets_an_alert_and_the_end() {
    for text in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        // A handshake message that no client begins with.
        b"\x16\x03\x01\x00\x05\x14\x00\x00\x01\x00",
        &[0; 100],
    ] {
        let mut pair = Pair::new(&rustls::version::TLS13);
        pair.socket.network().incoming.extend(text);
        let error = pair.tls.read(&mut [0; 100]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // An alert, in plain.
        let sent = pair.socket.network().sent.clone();
        assert_eq!(sent[..2], [0x15, 0x03], "{sent:?}");
        assert_eq!(sent[5], 2, "fatal: {sent:?}");
        assert!(pair.tls.read(&mut [0; 100]).is_err(), "the error stays");
        assert!(pair.tls.write(b"anything").is_err());
        drop(pair.tls);
        assert_eq!(pair.socket.network().sent, sent, "nothing follows an alert");
    }
}

#[test]
fn a_broken_record_comes_after_what_was_whole() {
    let mut pair = Pair::established(&rustls::version::TLS13);
    let mut records = pair.records(&[b"whole", b"broken"]).concat();
    *records.last_mut().unwrap() ^= 1;
    pair.socket.network().incoming.extend(records);
    let mut bytes = [0; 100];
    assert_eq!(pair.tls.read(&mut bytes).unwrap(), 5);
    assert!(pair.tls.wait().is_hang_up());
    let error = pair.tls.read(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_hello_that_does_not_end_is_not_collected_for_ever() {
    let mut pair = Pair::new(&rustls::version::TLS13);
    // A handshake message of 64 KiB less one, in records of 1 KiB.
    let mut body = vec![1, 0, 0xff, 0xff];
    body.resize(1 << 10, 0);
    for number in 0..64 {
        let mut network = pair.socket.network();
        network.incoming.extend([0x16, 3, 1, 4, 0]);
        network.incoming.extend(&body);
        drop(network);
        body = vec![0; 1 << 10];
        if let Err(error) = pair.tls.read(&mut [0; 8192])
            && error.kind() != io::ErrorKind::WouldBlock
        {
            assert!(number > 16, "{number} KiB are not too many");
            return;
        }
        assert!(pair.tls.received.len() <= UNOPENED_BYTES_MAX);
    }
    panic!("64 KiB of a hello were taken");
}

#[test]
fn the_end_is_said_with_close_notify() {
    for version in VERSIONS {
        let mut pair = Pair::established(version);
        pair.write_all(b"an answer");
        pair.tls.shut_write().unwrap();
        assert!(pair.socket.network().is_shut);
        let sent = pair.socket.network().sent.len();
        pair.receive();
        assert!(
            pair.client.process_new_packets().unwrap().peer_has_closed(),
            "no close_notify"
        );
        assert!(sent > 0);
        // Once is enough.
        drop(pair.tls);
        assert!(pair.socket.network().sent.is_empty());

        let mut pair = Pair::established(version);
        pair.write_all(b"an answer");
        let Pair {
            tls,
            socket,
            mut client,
        } = pair;
        drop(tls);
        client.read_tls(&mut &socket.network().sent[..]).unwrap();
        assert!(client.process_new_packets().unwrap().peer_has_closed());
    }
}
