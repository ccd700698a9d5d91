//! A small HTTP/1.1 client on a plain socket: it sends the bytes it is given and reads one answer at a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

pub const EVENT: &str = "/api/metrics/event";
pub const BATCH: &str = "/api/metrics/events/batch";
pub const BEHAVIOR: &str = "/api/metrics/behavior";
pub const HEALTH: &str = "/api/metrics/behavior/health";

/// The bytes of a request, with `Host` and `Content-Length` added. Header values are Latin-1.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let mut bytes = head(
        method,
        path,
        &[&[("Content-Length", length.as_str())], headers].concat(),
    );
    bytes.extend_from_slice(body);
    bytes
}

/// The bytes of a request up to its body, with `Host` added.
pub fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend(
            value
                .chars()
                .map(|c| u8::try_from(u32::from(c)).expect("header values are Latin-1")),
        );
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The bytes of a `POST` of JSON.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    request(
        "POST",
        path,
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    )
}

/// The bytes of a `GET`.
pub fn get(path: &str) -> Vec<u8> {
    head("GET", path, &[])
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header; panics when it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text()))
    }

    /// Panics unless the status is `status`.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What was read and belongs to answers not yet taken.
    pending: Vec<u8>,
}

impl Client {
    /// Connects, with time limits so that nothing hangs for ever.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            pending: Vec::new(),
        })
    }

    /// Sends bytes as they are, in one write where the socket takes it.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Tells the server that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("a connected socket can be half-closed");
    }

    /// Sends a request and takes its answer.
    pub fn call(&mut self, request: &[u8]) -> Answer {
        self.send(request).expect("the server takes the request");
        self.answer()
    }

    /// Posts JSON.
    pub fn post(&mut self, path: &str, body: &str) -> Answer {
        self.call(&post(path, body))
    }

    /// Gets a page.
    pub fn get(&mut self, path: &str) -> Answer {
        self.call(&get(path))
    }

    /// Takes the next answer.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("the server answers")
    }

    /// Takes the next answer, or tells why there is none.
    pub fn try_answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.try_answer_head()?;
        answer.body = if answer
            .header("transfer-encoding")
            .is_some_and(|coding| coding.contains("chunked"))
        {
            self.chunks()?
        } else if let Some(length) = answer.header("content-length") {
            let length = length
                .parse()
                .map_err(|_| io::Error::other("Content-Length is not a number"))?;
            self.take(length)?
        } else if (100..200).contains(&answer.status) || matches!(answer.status, 204 | 304) {
            Vec::new()
        } else {
            self.rest()?
        };
        Ok(answer)
    }

    /// Takes the head of the next answer and no body: what `HEAD` is answered with.
    pub fn try_answer_head(&mut self) -> io::Result<Answer> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Answer {
                    status,
                    headers,
                    body: Vec::new(),
                });
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// All bytes up to the end of the connection, as they came.
    pub fn everything(&mut self) -> Vec<u8> {
        self.rest().expect("the server ends the connection in order")
    }

    /// Whether the server has ended the connection and everything it sent was taken.
    pub fn is_at_end(&mut self) -> bool {
        match self.fill() {
            // A reset is an end too: the server need not read what came after a bad request.
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ),
            Ok(()) => false,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pending.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.pending.len() < length {
            self.fill()?;
        }
        Ok(self.pending.drain(..length).collect())
    }

    fn line(&mut self) -> io::Result<String> {
        let end = loop {
            match self.pending.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) => break end,
                None => self.fill()?,
            }
        };
        let line = String::from_utf8_lossy(&self.pending[..end]).into_owned();
        self.pending.drain(..end + 2);
        Ok(line)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                usize::from_str_radix(size, 16).map_err(|_| io::Error::other("a chunk without a size"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            if !self.line()?.is_empty() {
                return Err(io::Error::other("a chunk is longer than it says"));
            }
        }
    }

    fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.pending));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
