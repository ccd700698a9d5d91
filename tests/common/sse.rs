//! A client of the live stream, as strict about the format as a browser is lenient.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

use super::http;
use super::server::Server;
use super::{PATIENCE, await_true};

pub const STREAM: &str = "/api/metrics/behavior/stream";

/// One block of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A stored event: the position behind it, and its line.
    Event { id: String, line: String },
    /// Events that are left out, if it is known how many; and where it goes on.
    Gap { id: String, skipped: Option<u64> },
    /// A comment, with the place that is to be remembered, if it names one.
    Comment { id: Option<String> },
}

/// A subscriber.
#[derive(Debug)]
pub struct Sse {
    socket: BufReader<TcpStream>,
    pub status: u16,
    pub headers: Vec<String>,
    is_chunked: bool,
    /// Of the body, what was read and not handed out.
    text: Vec<u8>,
    /// The end of the body, or of the connection, has come: whether the body was ended as it should.
    ended: Option<bool>,
    /// The id that a browser would resume with.
    pub last_id: Option<String>,
}

impl Sse {
    /// Subscribes with the query `query`, and headers; takes the answer's head and, of a stream, its first block.
    pub fn open(server: &Server, query: &str, headers: &[(&str, &str)]) -> Sse {
        Sse::send(server, &http::head("GET", &format!("{STREAM}{query}"), headers))
    }

    /// Resumes behind the event with that id.
    pub fn resume(server: &Server, query: &str, id: &str) -> Sse {
        let sse = Sse::open(server, query, &[("Last-Event-ID", id)]);
        assert_eq!(sse.status, 200, "{sse:?}");
        sse
    }

    /// Sends requests of which the last one subscribes; the one before it is answered `status`.
    pub fn send_behind(server: &Server, requests: &[u8], status: u16) -> Sse {
        let mut sse = Sse::connect(server, requests);
        sse.take_head();
        assert_eq!(sse.status, status);
        sse.body();
        sse.take_head();
        sse.take_first();
        sse
    }

    /// Sends a request and takes the head of what is answered, and the first block.
    pub fn send(server: &Server, request: &[u8]) -> Sse {
        let mut sse = Sse::connect(server, request);
        sse.take_head();
        if sse.status == 200 {
            sse.take_first();
        }
        sse
    }

    fn connect(server: &Server, request: &[u8]) -> Sse {
        let mut socket = TcpStream::connect(server.address()).expect("the server takes connections");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(request).expect("the server takes the request");
        Sse {
            socket: BufReader::new(socket),
            status: 0,
            headers: Vec::new(),
            is_chunked: false,
            text: Vec::new(),
            ended: None,
            last_id: None,
        }
    }

    fn take_head(&mut self) {
        self.status = self.line()[9..12].parse().expect("a status");
        self.headers.clear();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            self.headers.push(line);
        }
        self.is_chunked = self.header("transfer-encoding").is_some();
    }

    fn take_first(&mut self) {
        let first = self.block().expect("a stream begins at once");
        assert!(first.starts_with(": the live stream\nretry: "), "{first}");
        self.last_id = Some(first.rsplit_once("\nid: ").expect("the place").1.to_owned());
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let value = |header: &'_ String| {
            let (known, _) = header.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(known.len() + 2)
        };
        self.headers
            .iter()
            .find_map(|header| value(header).map(|at| &header[at..]))
    }

    /// The next block that is no mere comment; `None` at the end.
    pub fn next(&mut self) -> Option<Item> {
        loop {
            match self.item()? {
                Item::Comment { .. } => {}
                item => return Some(item),
            }
        }
    }

    /// The next block; `None` at the end.
    pub fn item(&mut self) -> Option<Item> {
        let block = self.block()?;
        let (mut id, mut event, mut data, mut has_comment) = (None, None, None, false);
        for line in block.lines() {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            let slot = match name {
                "" => {
                    has_comment = true;
                    continue;
                }
                "id" => &mut id,
                "event" => &mut event,
                "data" => &mut data,
                _ => panic!("{line:?} in {block:?}"),
            };
            assert!(
                slot.replace(value.to_owned()).is_none(),
                "{name} is there twice: {block:?}"
            );
        }
        if id.is_some() {
            self.last_id.clone_from(&id);
        }
        Some(match (data, event.as_deref()) {
            (None, None) if has_comment => Item::Comment { id },
            (Some(line), None) => Item::Event {
                id: id.expect("an event has an id"),
                line,
            },
            (Some(data), Some("gap")) => Item::Gap {
                id: id.expect("a gap says where it goes on"),
                skipped: serde_json::from_str::<Value>(&data).unwrap()["skipped"].as_u64(),
            },
            _ => panic!("{block:?}"),
        })
    }

    /// The next event's line.
    pub fn event(&mut self) -> String {
        match self.next() {
            Some(Item::Event { line, .. }) => line,
            other => panic!("an event was to come, and there is {other:?}"),
        }
    }

    /// The lines of the next `count` events.
    pub fn events(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event()).collect()
    }

    /// Fails unless nothing more comes but the end, of a body that is whole.
    pub fn expect_end(&mut self) {
        assert_eq!(self.next(), None);
        assert_eq!(self.ended, Some(true), "the body has its end");
    }

    /// The whole body of an answer that is none of a stream.
    pub fn body(&mut self) -> Value {
        let mut text = String::new();
        let length = self.header("content-length").expect("a length").parse().unwrap();
        (&mut self.socket).take(length).read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).expect("JSON")
    }

    /// Ends the sending side, or everything.
    pub fn shut(&self, how: Shutdown) {
        self.socket.get_ref().shutdown(how).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.socket.read_line(&mut line).expect("a line");
        line.trim_end_matches("\r\n").to_owned()
    }

    /// The text up to the next empty line.
    fn block(&mut self) -> Option<String> {
        let mut from = 0;
        loop {
            if let Some(at) = self.text[from..].windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..from + at + 2).collect();
                let block = String::from_utf8(block).expect("the stream is UTF-8");
                assert!(!block.contains('\r'), "{block:?}");
                return Some(block.trim_end_matches('\n').to_owned());
            }
            from = self.text.len().saturating_sub(1);
            if self.ended.is_some() {
                return None;
            }
            if let Err(error) = self.fill() {
                assert!(
                    matches!(
                        error.kind(),
                        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                    ),
                    "{error}"
                );
                self.ended = Some(!self.is_chunked && error.kind() == io::ErrorKind::UnexpectedEof);
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if !self.is_chunked {
            let piece = self.socket.fill_buf()?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.text.extend_from_slice(piece);
            let count = piece.len();
            self.socket.consume(count);
            return Ok(());
        }
        let mut size = String::new();
        if self.socket.read_line(&mut size)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim_end(), 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let mut chunk = vec![0; size + 2];
        self.socket.read_exact(&mut chunk)?;
        assert_eq!(&chunk[size..], b"\r\n");
        self.text.extend_from_slice(&chunk[..size]);
        if size == 0 {
            self.ended = Some(true);
        }
        Ok(())
    }
}

/// What health tells of the stream: subscribers, the largest lag in bytes, gaps.
pub fn status(server: &Server) -> (u64, u64, u64) {
    let health = server.connect().get(http::HEALTH).json();
    let figure = |name: &str| health["stream"][name].as_u64().expect("a number");
    (figure("subscribers"), figure("lag_bytes_max"), figure("gaps"))
}

/// Waits until there are so many subscribers.
pub fn await_subscribers(server: &Server, count: u64) {
    await_true("subscribers to come or go", || status(server).0 == count);
}
