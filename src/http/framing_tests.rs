//! The connection's loop on a scripted socket: what the peer sends arrives in exactly the pieces the script says. Every
//! split of a case has to lead to the same calls and the same answers as the whole. The cases are those that are also
//! played against the real server, where their outcomes are checked.
//!
//! The socket and the recorder also serve the fuzz targets (`fuzz/`).

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock, Mutex};

use super::connection::Connection;
use super::control::{Control, Kind, Slot};
use super::socket::{Events, Registered, Socket};
use super::{Body, BodyError, Limits, Output, Request, Service};

#[cfg(test)]
#[allow(dead_code)]
#[path = "../../tests/framing/cases.rs"]
mod cases;

/// Beyond so many bytes a case is split at some places only: it is its length that matters.
#[cfg(test)]
const SPLITS_MAX: usize = 1500;
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// What the server wrote, and what it called its service with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// All answers, one after another.
    pub written: Vec<u8>,
    /// Method, path and body of each call, with a space between. A byte of the body is the character of the same number, and a
    /// body that failed is the sentence that says why.
    pub calls: Vec<String>,
}

/// Hands out one piece a read, then the end.
struct Script {
    pieces: Vec<Vec<u8>>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Socket for Script {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.last_mut() else {
            return Ok(0);
        };
        let count = piece.len().min(to.len());
        to[..count].copy_from_slice(&piece[..count]);
        piece.drain(..count);
        if piece.is_empty() {
            self.pieces.pop();
        }
        Ok(count)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.written.lock().unwrap().extend_from_slice(from);
        Ok(from.len())
    }

    fn wait(&mut self) -> Events {
        Events::READABLE
    }

    fn shut_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_hung_up(&self) -> bool {
        false
    }
}

/// What is left of a body, of so many bytes at the most.
pub(super) fn read_whole(body: &mut Body<'_>, to: &mut Vec<u8>) -> Result<(), BodyError> {
    to.clear();
    if let Some(bytes) = body.in_memory() {
        to.extend_from_slice(bytes);
        return Ok(());
    }
    body.decoded(None, BODY_BYTES_MAX, &mut Vec::new())?
        .read_to_end(to)?;
    Ok(())
}

/// Reads the bodies of POST and leaves all others.
struct Recorder {
    calls: Arc<Mutex<Vec<String>>>,
    scratch: Vec<u8>,
}

impl Service for Recorder {
    fn call(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let mut call = format!("{} {} ", request.method(), request.path());
        if request.method() == "POST" {
            match read_whole(&mut request.body, &mut self.scratch) {
                Ok(()) => {
                    call.extend(self.scratch.iter().copied().map(char::from));
                    output.json(200, &[], self.scratch.len().to_string().as_bytes());
                }
                Err(failure) => {
                    let (status, sentence) = failure.answer();
                    call.push_str(sentence);
                    output.detail(status, &[], sentence);
                }
            }
        } else {
            output.json(200, &[], b"{}");
        }
        self.calls.lock().unwrap().push(call);
    }
}

/// All plays share one: nobody watches, as there is no patrol and the script does not wait.
static SLOT: LazyLock<Slot> = LazyLock::new(|| {
    let registered = Registered::new(UnixStream::pair().unwrap().0).unwrap();
    Slot::enter(
        &Control::new(Limits::default(), Arc::default()),
        registered.waker(),
        Kind::Connection,
    )
});

/// Serves a connection whose peer sends these pieces and the end. What is written on it.
pub fn serve<'p>(pieces: impl DoubleEndedIterator<Item = &'p [u8]>, service: impl Service) -> Vec<u8> {
    let written = Arc::default();
    let script = Script {
        pieces: pieces
            .filter(|piece| !piece.is_empty())
            .rev()
            .map(<[u8]>::to_vec)
            .collect(),
        written: Arc::clone(&written),
    };
    Connection::new(Box::new(script), || service, SLOT.watch(0)).run();
    std::mem::take(&mut written.lock().unwrap())
}

/// Plays pieces to the end of the connection. Taken out is what may differ: dates, ids, and what depends on how much is there when
/// it is written: whether a body is asked for, and whether an answer already knows that the unread body behind it is malformed.
pub fn play<'p>(pieces: impl DoubleEndedIterator<Item = &'p [u8]>) -> Trace {
    let calls = Arc::default();
    let recorder = Recorder {
        calls: Arc::clone(&calls),
        scratch: Vec::new(),
    };
    let written = String::from_utf8(serve(pieces, recorder)).expect("no answer repeats what the peer sent");
    let written = written
        .replace("HTTP/1.1 100 Continue\r\n\r\n", "")
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Date: ") && !line.starts_with("X-Request-Id: "))
        .filter(|line| *line != "Connection: close\r\n")
        .collect::<String>();
    Trace {
        written: written.into_bytes(),
        calls: std::mem::take(&mut calls.lock().unwrap()),
    }
}

/// Played whole, split at every byte and byte by byte: always the same.
#[cfg(test)]
fn play_every_way(name: &str, bytes: &[u8]) -> Trace {
    let whole = play([bytes].into_iter());
    let step = bytes.len() / SPLITS_MAX * 97 + 1;
    for split in (1..bytes.len()).step_by(step) {
        let (first, second) = bytes.split_at(split);
        assert_eq!(
            play([first, second].into_iter()),
            whole,
            "{name}, split at {split}"
        );
    }
    assert_eq!(play(bytes.chunks(step)), whole, "{name}, byte by byte");
    whole
}

#[test]
fn every_split_of_every_case_has_the_outcome_of_the_whole() {
    for case in cases::all() {
        let alone = play_every_way(case.name, &case.bytes);
        assert!(
            !alone
                .calls
                .iter()
                .any(|call| call.contains("smuggled") && !call.contains("HTTP/1.1")),
            "{}: {alone:?}",
            case.name
        );
        // Between two others nothing changes, but that the one behind it is called only if the connection is kept.
        let other = b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n";
        let between = play_every_way(case.name, &[&other[..], &case.bytes, other].concat());
        assert_eq!(between.calls[0], "GET /other ", "{}", case.name);
        let is_last_called =
            between.calls.len() > 1 && between.calls.last().is_some_and(|call| call == "GET /other ");
        assert_eq!(
            is_last_called,
            case.end == cases::End::Kept || case.bytes.is_empty(),
            "{}: {between:?}",
            case.name
        );
    }
}

#[test]
fn a_burst_of_chunked_and_plain_requests_is_told_apart() {
    let burst = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2;y=\"\\\"\"\r\nyz\r\n0\r\nT: u\r\n\r\n\
                  \r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n0\r\n\r\nPUT /c HTTP/1.1\r\nHost: a\r\n\
                  Transfer-Encoding: chunked\r\n\r\n3\r\n\r\n\r\r\n0\r\n\r\nGET /%64%2f HTTP/1.1\r\nHost: a\r\n\r\n";
    let trace = play_every_way("burst", burst);
    assert_eq!(
        trace.calls,
        ["POST /a xyz", "POST /b 0\r\n\r\n", "PUT /c ", "GET /d%2f "]
    );
}

#[test]
fn a_peer_that_begins_with_tls_is_not_answered() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
    assert_eq!(play_every_way("hello", hello), Trace::default());
}

#[test]
fn a_refused_head_request_is_answered_without_a_body() {
    let trace = play_every_way("head", b"HEAD / HTTP/1.1\r\nHost: a, b\r\n\r\n");
    let text = String::from_utf8(trace.written).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 400 ") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
}

/// A chunked body of `count` chunks of 1,000 bytes, without its end.
#[cfg(test)]
fn chunks(count: usize) -> String {
    format!("3e8\r\n{}\r\n", "x".repeat(1000)).repeat(count)
}

#[test]
fn what_is_left_of_a_chunked_body_is_thrown_away_up_to_a_bound() {
    let request = |count: usize, end: &str| {
        format!(
            "GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}{end}GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
            chunks(count)
        )
    };
    for (count, end, is_kept) in [
        (60, "0\r\n\r\n", true),
        (200, "0\r\n\r\n", false),
        (3, "0\r\n\n", false),
        (3, "0\r\nA\r\n\r\n", false),
    ] {
        let request = request(count, end);
        let trace = play(request.as_bytes().chunks(1460));
        let expected: &[&str] = if is_kept {
            &["GET /a ", "GET /b "]
        } else {
            &["GET /a "]
        };
        assert_eq!(trace.calls, expected, "{count} chunks, then {end:?}");
    }
}
