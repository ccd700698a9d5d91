//! Request heads: parsing, the few headers the connection itself obeys, and what a service sees.
//!
//! A head is taken only when it has one meaning: see `docs/HTTP.md` for what is refused, and why.

use std::mem::MaybeUninit;

use httparse::Header;

use super::HeadLimits;
use super::body::Body;
use super::query::QueryPairs;
use super::target::{Target, is_authority};

/// Most headers a head may be allowed to have: there is room for so many on the stack.
pub(super) const HEADERS_MAX: usize = 128;

/// Room for the headers of one head. Left uninitialised: clearing 4 KiB for every request would cost more
/// than parsing a small one.
pub(super) type HeaderRoom<'b> = [MaybeUninit<Header<'b>>; HEADERS_MAX];

/// A request that is answered by the connection itself, which then ends: after a head that cannot be
/// understood nobody knows where the next one begins, and after one that asks for what is not spoken here nobody knows
/// what the peer sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reject {
    pub(super) status: u16,
    pub(super) detail: &'static str,
}

pub(super) const fn reject(status: u16, detail: &'static str) -> Reject {
    Reject { status, detail }
}

/// More than one empty line before a request line, or one that is not CRLF.
pub(super) const EMPTY_LINE: Reject = reject(400, "The request does not begin with a request line.");
const MALFORMED: Reject = reject(400, "The request head is malformed.");
const LINE_END: Reject = reject(400, "A line of the request head does not end with CRLF.");
const TARGET_TOO_LONG: Reject = reject(414, "The request target is too long.");
const HOST: Reject = reject(400, "A request needs one valid Host header.");

/// A parsed head and what it says about the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'h, 'b> {
    /// Length of the head itself.
    pub(super) bytes: usize,
    /// Length of the body, unless it is chunked.
    pub(super) content_length: u64,
    /// Where in the head that length is spelled, and in how many digits; none where it is not spelled exactly once.
    length_digits: (usize, usize),
    pub(super) is_chunked: bool,
    /// The connection ends after this request.
    pub(super) close: bool,
    pub(super) is_http10: bool,
    /// The peer waits for `100 Continue`.
    pub(super) expects_continue: bool,
    pub(super) method: &'b str,
    target: Target<'b>,
    headers: &'h [Header<'b>],
}

/// Parses the head at the front of `input`; `None` when its end has not arrived.
///
/// httparse splits the head and checks the characters of method, header names and values; what it lets pass and RFC
/// 9112 does not is checked here.
pub(super) fn parse<'h, 'b>(
    input: &'b [u8],
    room: &'h mut HeaderRoom<'b>,
    limits: &HeadLimits,
) -> Result<Option<Head<'h, 'b>>, Reject> {
    let head_bytes_max = limits.bytes_max;
    // What is beyond the bound has no say, or the outcome would depend on how much has arrived by now.
    let input = &input[..input.len().min(head_bytes_max)];
    let mut parsed = httparse::Request::new(&mut []);
    let bytes = match parsed.parse_with_uninit_headers(input, &mut room[..limits.headers_max]) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if input.len() < head_bytes_max => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(too_large(input, limits)),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(reject(431, "The request has too many headers."));
        }
        Err(httparse::Error::Version) => match bad_version(input) {
            Some(reject) => return Err(reject),
            None if input.len() < head_bytes_max => return Ok(None),
            None => return Err(too_large(input, limits)),
        },
        Err(_) => return Err(MALFORMED),
    };
    let method = parsed.method.unwrap_or_default();
    let target = parsed.path.unwrap_or_default();
    if target.len() > limits.target_bytes_max {
        return Err(TARGET_TOO_LONG);
    }
    let mut head = Head {
        bytes,
        content_length: 0,
        length_digits: (0, 0),
        is_chunked: false,
        close: false,
        is_http10: parsed.version == Some(0),
        expects_continue: false,
        method,
        target: Target::parse(method, target)?,
        headers: parsed.headers,
    };
    head.obey(&input[..bytes])?;
    Ok(Some(head))
}

/// What is too large about a head that has not ended within its bound.
fn too_large(head: &[u8], limits: &HeadLimits) -> Reject {
    match head.split(|&byte| byte == b' ').nth(1) {
        None => reject(400, "The request line has no method."),
        Some(target) if target.len() > limits.target_bytes_max => TARGET_TOO_LONG,
        Some(_) => reject(431, "The request head is too large."),
    }
}

/// The answer to a version that httparse does not know; `None` where it may become one, as httparse does not wait for
/// the whole of it.
fn bad_version(input: &[u8]) -> Option<Reject> {
    const LIKE: &[u8] = b"HTTP/#.#\r";
    let version = input.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    let is_like = version.iter().zip(LIKE).all(|(byte, like)| match like {
        b'#' => byte.is_ascii_digit(),
        _ => byte == like,
    });
    match is_like {
        false => Some(MALFORMED),
        true if version.len() < LIKE.len() => None,
        true => Some(reject(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")),
    }
}

impl Head<'_, '_> {
    /// Whether `next` begins with the same head again, but for the digits of its Content-Length, in the same number. `head`
    /// is this one's text. What parsing would give is then known, and is this head with another length, which is the
    /// answer.
    ///
    /// Requests of one connection mostly differ in nothing else, and comparing costs a tenth of parsing.
    pub(super) fn repeated(&self, head: &[u8], next: &[u8]) -> Option<u64> {
        let next = next.get(..self.bytes)?;
        let (at, count) = self.length_digits;
        if next[..at] != head[..at] || next[at + count..] != head[at + count..self.bytes] {
            return None;
        }
        match count {
            0 => Some(self.content_length),
            _ => parse_length(&next[at..at + count]),
        }
    }

    /// Reads the headers that frame the request and govern the connection, of the head that lies in `bytes`.
    fn obey(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        // Every line has to end with CRLF. httparse takes a bare LF, which a proxy in front may take for a part of the
        // line: the two would see different headers. The bytes before each name and at the end of the head tell, without
        // another pass over it, as a head has no other lines.
        if !bytes.ends_with(b"\r\n\r\n") {
            return Err(LINE_END);
        }
        let mut content_length = None;
        let mut codings = None;
        let mut host_count = 0;
        let (mut close, mut keep_alive, mut is_expectation_known) = (false, false, true);
        for header in self.headers {
            let name = header.name;
            // Both lie in the same buffer, so the difference is the name's place in it.
            let at = name.as_ptr().addr() - bytes.as_ptr().addr();
            if bytes[at - 2] != b'\r' {
                return Err(LINE_END);
            }
            // The length tells these names apart; most headers are passed over without a comparison.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    host_count += 1;
                    if !is_authority(header.value) {
                        return Err(HOST);
                    }
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    self.expects_continue = true;
                    is_expectation_known &= trim(header.value).eq_ignore_ascii_case(b"100-continue");
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    close |= has_token(header.value, b"close");
                    keep_alive |= has_token(header.value, b"keep-alive");
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let digits = trim(header.value);
                    let length =
                        parse_length(digits).ok_or(reject(400, "The Content-Length is not a number."))?;
                    self.length_digits = match content_length {
                        None => (digits.as_ptr().addr() - bytes.as_ptr().addr(), digits.len()),
                        Some(_) => (0, 0),
                    };
                    if content_length.is_some_and(|other| other != length) {
                        return Err(reject(400, "The Content-Length headers differ."));
                    }
                    content_length = Some(length);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    codings.get_or_insert_with(Codings::default).read(header.value);
                }
                _ => {}
            }
        }
        if host_count > 1 || (host_count == 0 && !self.is_http10) {
            return Err(HOST);
        }
        if let Some(codings) = codings {
            if content_length.is_some() {
                return Err(reject(
                    400,
                    "Content-Length and Transfer-Encoding exclude each other.",
                ));
            }
            codings.check(self.is_http10)?;
            self.is_chunked = true;
        }
        // HTTP/1.0 knows neither expectations nor the interim answer.
        self.expects_continue &= !self.is_http10;
        if self.expects_continue && !is_expectation_known {
            return Err(reject(
                417,
                "The only expectation that can be met is 100-continue.",
            ));
        }
        self.content_length = content_length.unwrap_or(0);
        self.close = close || (self.is_http10 && !keep_alive);
        Ok(())
    }
}

/// What the `Transfer-Encoding` headers of a request say, taken together.
#[derive(Debug, Default)]
struct Codings {
    chunked: bool,
    /// There is a coding that is not spoken here.
    unknown: bool,
    /// The list is no list, or `chunked` is not its last word.
    malformed: bool,
}

impl Codings {
    /// Reads one header. An empty element, which lists may have elsewhere, is malformed: it has no use but to make two
    /// programs disagree. So is `chunked` with parameters, of which it has none.
    fn read(&mut self, list: &[u8]) {
        for coding in list.split(|&byte| byte == b',').map(trim) {
            let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
            let is_chunked = trim(name).eq_ignore_ascii_case(b"chunked");
            self.malformed |= self.chunked || name.is_empty() || (is_chunked && name.len() < coding.len());
            self.chunked |= is_chunked;
            self.unknown |= !is_chunked;
        }
    }

    fn check(&self, is_http10: bool) -> Result<(), Reject> {
        if is_http10 {
            return Err(reject(400, "HTTP/1.0 has no Transfer-Encoding."));
        }
        if self.malformed {
            return Err(reject(
                400,
                "The Transfer-Encoding does not end with one chunked.",
            ));
        }
        if self.unknown {
            return Err(reject(501, "Of the transfer codings only chunked is supported."));
        }
        Ok(())
    }
}

/// Digits and nothing else: a sign, a list or a blank would let two programs read two lengths, and so would a leading
/// zero, which is octal to some.
fn parse_length(value: &[u8]) -> Option<u64> {
    if matches!(value, [] | [b'0', _, ..]) {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a comma-separated list contains a token, in any case.
fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|&byte| byte == b',')
        .any(|item| trim(item).eq_ignore_ascii_case(token))
}

/// Without the blanks and tabs around it.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// One request, as a service sees it. Everything but a body on its way lies in the connection's buffers.
pub struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: &'a [Header<'a>],
    /// The connection it came on, where that can be looked at.
    presence: Option<&'a dyn Presence>,
    /// The body's reader.
    pub body: Body<'a>,
}

/// A connection, of which one may want to know whether anybody is there.
pub(super) trait Presence {
    /// Whether the peer has ended its sending side, or the connection is broken.
    fn is_peer_gone(&self) -> bool;
}

impl<'a> Request<'a> {
    /// `path_room` takes the path if it has to be decoded.
    pub(super) fn new(head: Head<'a, 'a>, body: Body<'a>, path_room: &'a mut String) -> Self {
        Self {
            method: head.method,
            path: head.target.path(path_room),
            query: head.target.query(),
            headers: head.headers,
            presence: None,
            body,
        }
    }

    /// On a connection that can be looked at meanwhile.
    pub(super) fn on(self, presence: &'a dyn Presence) -> Self {
        Self {
            presence: Some(presence),
            ..self
        }
    }

    /// Whether the peer has ended its sending side or the connection is broken, so that most likely nobody waits for the
    /// answer: a system call. While the body is on its way only reading it tells, and this does not.
    pub fn is_peer_gone(&self) -> bool {
        self.presence.is_some_and(Presence::is_peer_gone)
    }

    /// The method, as sent: methods are case-sensitive.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The target's path. Characters that need no percent-encoding are decoded, all others are as sent: `%6D` is an
    /// `m`, and `%2F` is not a slash.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The target's query without the question mark, percent-encoded as sent; empty when there is none.
    pub fn query(&self) -> &'a str {
        self.query
    }

    /// The query's names and values, decoded, in order.
    pub fn query_pairs(&self) -> QueryPairs<'a> {
        QueryPairs::new(self.query)
    }

    /// What `Content-Encoding` names. Of several headers, as of several codings in one, nothing that is known.
    pub fn content_coding(&self) -> Option<&'a [u8]> {
        let mut named = self.headers("content-encoding");
        match (named.next(), named.next()) {
            (Some(_), Some(_)) => Some(b"several"),
            (one, _) => one,
        }
    }

    /// The value of the first header of this name (in any case), without the blanks around it.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let header = self
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(trim(header.value))
    }

    /// The values of all headers of this name (in any case), in order, without the blanks around them.
    pub fn headers(&self, name: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let headers = self.headers.iter();
        headers
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| trim(header.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all<T>(bytes: &[u8], check: impl FnOnce(Result<Option<Head<'_, '_>>, Reject>) -> T) -> T {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        check(parse(bytes, &mut room, &HeadLimits::default()))
    }

    fn status_of(lines: &str) -> u16 {
        parse_all(format!("{lines}\r\n\r\n").as_bytes(), |parsed| match parsed {
            Ok(head) => head.map_or(0, |_| 200),
            Err(reject) => reject.status,
        })
    }

    #[test]
    fn framing_is_strict() {
        for (header, status) in [
            ("Content-Length: 5", 200),
            ("Content-Length: 5\r\ncontent-LENGTH: 5", 200),
            ("Content-Length: 5\r\nContent-Length: 6", 400),
            ("Content-Length: 5, 5", 400),
            ("Content-Length: +5", 400),
            ("Content-Length: -5", 400),
            ("Content-Length: 0x5", 400),
            ("Content-Length:", 400),
            ("Content-Length: abc", 400),
            ("Content-Length: 18446744073709551615", 200),
            ("Content-Length: 18446744073709551616", 400),
            ("Content-Length : 5", 400),
            ("Content-Length: 0", 200),
            ("Content-Length: 00", 400),
            ("Content-Length: 05", 400),
            ("Content-Length: 1_0", 400),
            ("Content-Length: 1 0", 400),
            ("Content-Length: \t5 ", 200),
            ("Transfer-Encoding: chunked", 200),
            ("transfer-encoding:\tCHUNKED ", 200),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
            ("Content-Length: 5\r\nTransfer-Encoding: gzip", 400),
            ("Transfer-Encoding:", 400),
            ("Transfer-Encoding: , chunked", 400),
            ("Transfer-Encoding: chunked,", 400),
            ("Transfer-Encoding: chunked, chunked", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: chunked, gzip", 400),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
            ("Transfer-Encoding: chunked;a=b", 400),
            ("Transfer-Encoding: chunked ; a", 400),
            ("Transfer-Encoding: xchunked", 501),
            ("Transfer-Encoding: chunked x", 501),
            ("Transfer-Encoding: gzip, chunked", 501),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
            ("Transfer-Encoding: identity", 501),
            ("Transfer-Encoding: \u{b}chunked", 400),
            ("Transfer-Encoding : chunked", 400),
            ("Transfer-Encoding:\r\n chunked", 400),
            ("Expect: 100-continue", 200),
            ("Expect: 100-Continue\r\nexpect: 100-continue", 200),
            ("Expect: 200-ok", 417),
            ("Expect: 100-continue, other", 417),
            ("Expect: 100-continue\r\nExpect:", 417),
            ("A: b\r\n folded", 400),
            ("A: b\nC: d", 400),
            ("A: b\n", 400),
            ("A:\n", 400),
            ("A: b\rC: d", 400),
            ("A: b\0", 400),
            ("A: \u{7f}", 400),
            ("A : b", 400),
            ("A\tB: c", 400),
            (": b", 400),
            ("A", 400),
            ("B[: c", 400),
            ("\u{e9}: c", 400),
        ] {
            assert_eq!(
                status_of(&format!("POST / HTTP/1.1\r\nHost: a\r\n{header}")),
                status,
                "{header}"
            );
        }
    }

    #[test]
    fn a_head_that_is_repeated_is_what_parsing_it_again_would_give() {
        let head = |lines: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let first = head("Content-Length: 15\r\nX: y\r\n");
        for (next, length) in [
            (first.clone(), Some(15)),
            (head("Content-Length: 27\r\nX: y\r\n") + "behind", Some(27)),
            (head("Content-Length: 7\r\nX: y\r\n") + "behind", None),
            (head("Content-Length: 127\r\nX: y\r\n"), None),
            (head("Content-Length: 05\r\nX: y\r\n"), None),
            (head("Content-Length: +5\r\nX: y\r\n"), None),
            (head("Content-Length: 5 \r\nX: y\r\n"), None),
            (head("Content-Length: 15\r\nX: z\r\n"), None),
            (head("Content-Length: 15\nX: y\r\n") + "\n", None),
            (head("content-Length: 15\r\nX: y\r\n"), None),
            (first[..first.len() - 1].to_owned(), None),
        ] {
            parse_all(first.as_bytes(), |parsed| {
                let parsed = parsed.unwrap().unwrap();
                let repeated = parsed.repeated(first.as_bytes(), next.as_bytes());
                assert_eq!(repeated, length, "{next:?}");
            });
            if let Some(length) = length {
                parse_all(next.as_bytes(), |parsed| {
                    assert_eq!(parsed.unwrap().unwrap().content_length, length, "{next:?}");
                });
            }
        }
        // Spelled twice it is the same text or nothing.
        let twice = |length: &str| head(&format!("Content-Length: 15\r\nContent-Length: {length}\r\n"));
        parse_all(twice("15").as_bytes(), |parsed| {
            let parsed = parsed.unwrap().unwrap();
            assert_eq!(
                parsed.repeated(twice("15").as_bytes(), twice("15").as_bytes()),
                Some(15)
            );
            assert_eq!(
                parsed.repeated(twice("15").as_bytes(), twice("16").as_bytes()),
                None
            );
        });
    }

    #[test]
    fn request_lines_and_hosts_are_checked() {
        for (lines, status) in [
            ("GET / HTTP/1.1\r\nHost: a", 200),
            ("GET / HTTP/1.1\r\nHost:", 400),
            ("GET / HTTP/1.1\r\nHost: a, b", 400),
            ("GET / HTTP/1.1\r\nHost: user@a", 400),
            ("GET http://b/ HTTP/1.1\r\nHost: a", 200),
            ("GET http://b/ HTTP/1.1", 400),
            ("GET http://b, c/ HTTP/1.1\r\nHost: a", 400),
            ("GET / HTTP/1.0", 200),
            ("GET / HTTP/1.0\r\nHost: a b", 400),
            ("GET / HTTP/1.0\r\nExpect: other", 200),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked", 400),
            ("GET / HTTP/1.1\nHost: a", 400),
            ("GET / HTTP/1.0\n", 400),
            ("GET / HTTP/1.1\rHost: a", 400),
            ("GET / HTTP/1.1\r\n Host: a", 400),
            ("GET / HTTP/1.1\r\n \r\nHost: a", 400),
            ("GET / HTTP/1.1", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
            ("GET / HTTP/1.2\r\nHost: a", 505),
            ("PRI * HTTP/2.0", 505),
            ("GET / HTTP/9.9", 505),
            ("GET / HTTP/1", 400),
            ("GET / HTTP/01.01", 400),
            ("GET / HTTP/1.10", 400),
            ("GET / HTTP/2.0x", 400),
            ("GET / HTTP/ 1.1", 400),
            ("GET / http/1.1", 400),
            ("GET / FTP/1.1", 400),
            ("GET  / HTTP/1.1\r\nHost: a", 400),
            ("GET\t/ HTTP/1.1\r\nHost: a", 400),
            ("GET HTTP/1.1\r\nHost: a", 400),
            ("GET /\0 HTTP/1.1\r\nHost: a", 400),
            ("GET * HTTP/1.1\r\nHost: a", 400),
            ("OPTIONS * HTTP/1.1\r\nHost: a", 200),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a:80", 501),
            ("GET /", 400),
            ("G@T / HTTP/1.1\r\nHost: a", 400),
            ("GET /a b HTTP/1.1\r\nHost: a", 400),
        ] {
            assert_eq!(status_of(lines), status, "{lines}");
        }
    }

    #[test]
    fn the_connection_header_is_a_list_in_any_case() {
        for (version, header, close) in [
            ("1.1", "X: close", false),
            ("1.1", "Connection: close", true),
            ("1.1", "connection: Upgrade , CLOSE\t", true),
            ("1.1", "Connection: upgrade\r\nConnection: close", true),
            ("1.1", "Connection: closed", false),
            ("1.1", "Connection: keep-alive", false),
            ("1.0", "X: y", true),
            ("1.0", "Connection: Keep-Alive", false),
            ("1.0", "Connection: keep-alive, close", true),
        ] {
            let lines = format!("GET / HTTP/{version}\r\nHost: a\r\n{header}\r\n\r\n");
            parse_all(lines.as_bytes(), |parsed| {
                assert_eq!(parsed.unwrap().unwrap().close, close, "{version} {header}");
            });
        }
    }

    #[test]
    fn requests_show_path_query_and_headers() {
        for (target, path, query) in [
            ("/a%20b?c=d?e", "/a%20b", "c=d?e"),
            ("/%6D", "/m", ""),
            ("http://host:1/a?b", "/a", "b"),
        ] {
            parse_all(
                format!("GET {target} HTTP/1.1\r\nHost: a\r\nX:  y z \t\r\n\r\n").as_bytes(),
                |head| {
                    let mut room = String::new();
                    let request = Request::new(head.unwrap().unwrap(), Body::whole(b""), &mut room);
                    assert_eq!((request.path(), request.query()), (path, query), "{target}");
                    assert_eq!(request.header("x"), Some(&b"y z"[..]));
                    assert_eq!(request.header("y"), None);
                },
            );
        }
    }

    #[test]
    fn of_several_content_codings_none_is_known() {
        for (headers, coding) in [
            ("X: y", None),
            ("content-encoding: gzip", Some(&b"gzip"[..])),
            ("Content-Encoding: gzip, br", Some(b"gzip, br")),
            (
                "Content-Encoding: identity\r\nContent-Encoding: br",
                Some(b"several"),
            ),
        ] {
            parse_all(
                format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n").as_bytes(),
                |head| {
                    let mut room = String::new();
                    let request = Request::new(head.unwrap().unwrap(), Body::whole(b""), &mut room);
                    assert_eq!(request.content_coding(), coding, "{headers}");
                },
            );
        }
    }

    #[test]
    fn the_bounds_of_a_head_are_those_that_were_set() {
        let limits = HeadLimits {
            bytes_max: 60,
            headers_max: 2,
            target_bytes_max: 5,
        };
        for (head, status) in [
            ("GET /1234 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", 200),
            ("GET /12345 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", 414),
            ("GET /1234 HTTP/1.1\r\nHost: a\r\nX: y\r\nZ:\r\n\r\n", 431),
            (
                "GET /1234 HTTP/1.1\r\nHost: a\r\nX: 123456789012345678901234567\r\n\r\n",
                431,
            ),
        ] {
            let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
            let parsed = parse(head.as_bytes(), &mut room, &limits);
            let answer = parsed.map_or_else(|reject| reject.status, |head| head.map_or(0, |_| 200));
            assert_eq!(answer, status, "{head}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let with_headers =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a{}", "\r\nX: y".repeat(count - 1));
        assert_eq!(status_of(&with_headers(HEADERS_MAX)), 200);
        assert_eq!(status_of(&with_headers(HEADERS_MAX + 1)), 431);
        let with_bytes = |target: usize, header: usize| {
            format!(
                "GET /{} HTTP/1.1\r\nHost: a\r\nX: {}",
                "x".repeat(target),
                "y".repeat(header)
            )
        };
        assert_eq!(status_of(&with_bytes(8_000, 8_000)), 200);
        assert_eq!(status_of(&with_bytes(8_000, 16_384)), 431);
        assert_eq!(status_of(&with_bytes(9_000, 0)), 414);
        for (endless, status) in [
            ("GET /", 414),
            ("GET / HTTP/1.1\r\nX: ", 431),
            ("GET / HTTP/1.1\r\n", 431),
            ("", 400),
        ] {
            let endless = format!("{endless}{}", "x".repeat(16_384));
            parse_all(endless.as_bytes(), |parsed| {
                assert_eq!(parsed.unwrap_err().status, status, "{endless:.20}")
            });
        }
    }

    #[test]
    fn a_head_has_one_verdict_however_it_arrives() {
        for (head, status) in [
            ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", None),
            ("PRI * HTTP/2.0\r\n\r\n", Some(505)),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Some(505)),
            ("GET / HTTP/1\r\nHost: a\r\n\r\n", Some(400)),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", Some(400)),
            ("GET /\r\n\r\n", Some(400)),
        ] {
            // Until the end has arrived there is no verdict, or already the one that the whole gets.
            for cut in 0..=head.len() {
                parse_all(&head.as_bytes()[..cut], |parsed| match parsed {
                    Ok(None) => assert_ne!(cut, head.len(), "{head:?}"),
                    Ok(Some(_)) => assert_eq!((cut, status), (head.len(), None), "{head:?}"),
                    Err(reject) => assert_eq!(Some(reject.status), status, "{head:?} cut at {cut}"),
                });
            }
        }
    }
}
