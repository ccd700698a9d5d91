//! HTTP/1.1 answers, read strictly: what a server must not send is an error that is counted, not guessed at.
//!
//! A body has a length, or comes in chunks, or there is none by the status. One that goes on until the connection ends is not
//! taken: it could not be told from one that was cut off. Heads are recognised: a server says the same thing again and again
//! with another date, and comparing costs a tenth of parsing.

use std::fmt;
use std::ops::Range;

/// Longest head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most header lines.
const HEADERS_MAX: usize = 96;
/// Longest body, also of chunks together.
const BODY_BYTES_MAX: usize = 16 << 20;
/// A date in a head, `Sun, 22 Nov 2026 12:00:00 GMT`.
const DATE_BYTES: usize = 29;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether the server ends the connection behind it.
    pub closes: bool,
    /// Whether it names a level that was reached, so that also an error's events may be stored.
    pub has_ack: bool,
    /// Bytes up to its end.
    pub length: usize,
    /// Where its body lies; of one in chunks with their sizes.
    pub body: Range<usize>,
}

/// How an alert of TLS begins, which a server that speaks it sends to whom does not.
const TLS_ALERT: &[u8] = &[0x15, 3];

/// Why bytes are no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunks,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    closes: bool,
    has_ack: bool,
    framing: Framing,
    length: usize,
}

/// Reads answers of one server.
#[derive(Debug, Default)]
pub struct Reader {
    /// The bytes of the last head, and where its date lies.
    known: Vec<u8>,
    date: Range<usize>,
    head: Option<Head>,
}

impl Reader {
    /// The answer that `bytes` begin with, if it is there as a whole. Interim answers (1xx) are answers of their own.
    ///
    /// # Errors
    /// It is none, whatever follows.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<Answer>, Malformed> {
        let head = match self.recognized(bytes) {
            Some(head) => head,
            None => match self.parse(bytes)? {
                Some(head) => head,
                None => return Ok(None),
            },
        };
        let size = match head.framing {
            Framing::Length(size) => Some(size).filter(|size| bytes.len() - head.length >= *size),
            Framing::Chunks => chunks_size(&bytes[head.length..])?,
        };
        Ok(size.map(|size| Answer {
            status: head.status,
            closes: head.closes,
            has_ack: head.has_ack,
            length: head.length + size,
            body: head.length..head.length + size,
        }))
    }

    /// The head, if it is the last one again but for its date.
    #[inline]
    fn recognized(&self, bytes: &[u8]) -> Option<Head> {
        let head = self.head?;
        let same = bytes.get(..head.length)?;
        let Range { start, end } = self.date;
        let is_same = same[..start] == self.known[..start] && same[end..] == self.known[end..];
        (is_same && (start == end || is_date(&same[start..end]))).then_some(head)
    }

    fn parse(&mut self, bytes: &[u8]) -> Result<Option<Head>, Malformed> {
        let malformed = |what: &str| Malformed(format!("{what}: {}", beginning(bytes)));
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
            Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
            Ok(_) => return Err(malformed("the head is longer than 64 KiB")),
            Err(_) if bytes.starts_with(TLS_ALERT) => {
                return Err(Malformed(
                    "this is TLS and no HTTP: is the address one of https://?".into(),
                ));
            }
            Err(error) => return Err(malformed(&format!("this is no HTTP ({error})"))),
        };
        let status = response.code.expect("a complete head has one");
        let mut head = Head {
            status,
            closes: response.version == Some(0),
            has_ack: false,
            framing: Framing::Length(0),
            length,
        };
        let (mut size, mut coding) = (None, None);
        self.date = 0..0;
        for header in response.headers.iter() {
            let value = header.value;
            match header.name {
                name if name.eq_ignore_ascii_case("content-length") => {
                    let number = number(value).ok_or_else(|| malformed("Content-Length is no number"))?;
                    if size.replace(number).is_some_and(|before| before != number) {
                        return Err(malformed("there are two lengths"));
                    }
                }
                name if name.eq_ignore_ascii_case("transfer-encoding") => coding = Some(value),
                name if name.eq_ignore_ascii_case("connection") => {
                    head.closes |= value.eq_ignore_ascii_case(b"close");
                }
                name if name.eq_ignore_ascii_case("x-ack") => head.has_ack = true,
                name if name.eq_ignore_ascii_case("date") && is_date(value) => {
                    let start = value.as_ptr().addr() - bytes.as_ptr().addr();
                    self.date = start..start + DATE_BYTES;
                }
                _ => {}
            }
        }
        head.framing = match (size, coding) {
            _ if status < 200 || matches!(status, 204 | 304) => Framing::Length(0),
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunks,
            (None, Some(_)) => return Err(malformed("a transfer coding other than chunked")),
            (Some(_), Some(_)) => return Err(malformed("a length and a transfer coding")),
            (Some(size), None) if size <= BODY_BYTES_MAX => Framing::Length(size),
            (Some(_), None) => return Err(malformed("the body is longer than 16 MiB")),
            (None, None) => return Err(malformed("neither a length nor chunks")),
        };
        self.known.clear();
        self.known.extend_from_slice(&bytes[..length]);
        self.head = Some(head);
        Ok(Some(head))
    }
}

/// Whether a value has a date's length and end; what is between is nobody's concern here.
#[inline]
fn is_date(value: &[u8]) -> bool {
    value.len() == DATE_BYTES && value.ends_with(b" GMT")
}

/// Digits and nothing else.
fn number(value: &[u8]) -> Option<usize> {
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_plain.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}

/// The size of a body in chunks, with what frames them; `None` while it is not there as a whole.
fn chunks_size(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut at = 0;
    loop {
        let (begin, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => {
                return Err(Malformed(format!(
                    "a chunk without a size: {}",
                    beginning(&bytes[at..])
                )));
            }
        };
        at += begin;
        if size == 0 {
            return trailers_end(bytes, at);
        }
        if size > (BODY_BYTES_MAX - at.min(BODY_BYTES_MAX)) as u64 {
            return Err(Malformed("the body is longer than 16 MiB".into()));
        }
        at += size as usize;
        match bytes.get(at..at + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += 2,
            Some(_) => return Err(Malformed("a chunk is longer than it says".into())),
        }
    }
}

/// Where the empty line behind the last chunk ends.
fn trailers_end(bytes: &[u8], at: usize) -> Result<Option<usize>, Malformed> {
    match bytes.get(at..) {
        Some([b'\r', b'\n', ..]) => return Ok(Some(at + 2)),
        Some(rest) if rest.len() > HEAD_BYTES_MAX => {
            return Err(Malformed(
                "what follows the last chunk is longer than 64 KiB".into(),
            ));
        }
        _ => {}
    }
    Ok(memchr::memmem::find(&bytes[at..], b"\r\n\r\n").map(|end| at + end + 4))
}

/// The first bytes, as a person can read them.
pub fn beginning(bytes: &[u8]) -> String {
    const SHOWN: usize = 120;
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let dots = if bytes.len() > SHOWN { "…" } else { "" };
    format!("`{}`{dots}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nX-Ack: journaled\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\n\r\n{\"a\"}";

    fn read(bytes: &[u8]) -> Result<Option<(u16, usize)>, Malformed> {
        let answer = Reader::default().read(bytes)?;
        Ok(answer.map(|answer| (answer.status, answer.length)))
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole_and_not_before() {
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        let trailed = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n";
        let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
        for (answer, status) in [(OK, 202), (chunked, 200), (trailed, 200), (empty, 204)] {
            for end in 0..answer.len() {
                assert_eq!(read(&answer[..end]), Ok(None), "{end} bytes");
            }
            let more = [answer, b"HTTP/1.1"].concat();
            assert_eq!(read(&more), Ok(Some((status, answer.len()))));
        }
    }

    #[test]
    fn a_head_that_comes_again_is_recognised_and_another_one_is_not() {
        let mut reader = Reader::default();
        let mut read = |bytes: &[u8]| reader.read(bytes).unwrap().unwrap();
        assert_eq!(read(OK).status, 202);
        let text = String::from_utf8(OK.to_vec()).unwrap();
        let later = text.replace("12:00:00", "12:00:01");
        assert_eq!(read(later.as_bytes()), read(OK));
        for (from, to, status, length) in [
            ("202", "503", 503, 0),
            ("Length: 5", "Length: 3", 202, 2),
            ("journaled", "synced", 202, 3),
        ] {
            let other = text.replace(from, to);
            let answer = read(other.as_bytes());
            assert_eq!(
                (answer.status, answer.length),
                (status, text.len() - length),
                "{to}"
            );
        }
    }

    #[test]
    fn what_tells_of_its_connection_and_its_level_is_heard() {
        let mut reader = Reader::default();
        let closing = b"HTTP/1.1 503 x\r\ncontent-length: 0\r\nCONNECTION: Close\r\n\r\n";
        let answer = reader.read(closing).unwrap().unwrap();
        assert!(answer.closes && !answer.has_ack);
        assert!(reader.read(OK).unwrap().unwrap().has_ack);
        let old = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert!(reader.read(old).unwrap().unwrap().closes);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for (bytes, reason) in [
            (&b"SSH-2.0-OpenSSH\r\n"[..], "no HTTP"),
            (b"HTTP/1.1 200 OK\r\n\r\n", "neither"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "no number"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
                "two lengths",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                "a length and",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                "other than chunked",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
                "16 MiB",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                "without a size",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
                "longer than it says",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n",
                "16 MiB",
            ),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.0.contains(reason), "{error} for {}", beginning(bytes));
        }
        let endless = [&b"HTTP/1.1 200 OK\r\nA: "[..], &vec![b'a'; HEAD_BYTES_MAX]].concat();
        assert!(read(&endless).is_err());
    }
}
