//! Request heads: parsing, the few headers the connection itself obeys, and what a service sees.

use std::mem::MaybeUninit;

use httparse::Header;

use super::body::Body;
use super::query::QueryPairs;

/// Most headers a request may have. Browsers send some 20, proxies add a few.
pub(super) const HEADERS_MAX: usize = 128;

/// Room for the headers of one head. Left uninitialised: clearing 4 KiB for every request would cost more
/// than parsing a small one.
pub(super) type HeaderRoom<'b> = [MaybeUninit<Header<'b>>; HEADERS_MAX];

/// A request that is answered by the connection itself, which then ends: after a head that cannot be
/// understood nobody knows where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reject {
    pub(super) status: u16,
    pub(super) detail: &'static str,
}

const fn reject(status: u16, detail: &'static str) -> Reject {
    Reject { status, detail }
}

/// A parsed head and what it says about the connection.
#[derive(Debug)]
pub(super) struct Head<'h, 'b> {
    /// Length of the head itself.
    pub(super) bytes: usize,
    pub(super) content_length: u64,
    /// The connection ends after this request.
    pub(super) close: bool,
    pub(super) is_http10: bool,
    /// The peer waits for `100 Continue`.
    pub(super) expects_continue: bool,
    pub(super) method: &'b str,
    target: &'b str,
    headers: &'h [Header<'b>],
}

/// Parses the head at the front of `input`; `None` when its end has not arrived.
pub(super) fn parse<'h, 'b>(
    input: &'b [u8],
    room: &'h mut HeaderRoom<'b>,
    head_bytes_max: usize,
) -> Result<Option<Head<'h, 'b>>, Reject> {
    const TOO_LARGE: Reject = reject(431, "The request head is too large.");
    let mut parsed = httparse::Request::new(&mut []);
    let bytes = match parsed.parse_with_uninit_headers(input, room) {
        Ok(httparse::Status::Complete(bytes)) if bytes <= head_bytes_max => bytes,
        Ok(httparse::Status::Partial) if input.len() < head_bytes_max => return Ok(None),
        Ok(_) => return Err(TOO_LARGE),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(reject(431, "The request has too many headers."));
        }
        Err(httparse::Error::Version) if names_http(input) => {
            return Err(reject(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here."));
        }
        Err(_) => return Err(reject(400, "The request head is malformed.")),
    };
    let mut head = Head {
        bytes,
        content_length: 0,
        close: false,
        is_http10: parsed.version == Some(0),
        expects_continue: false,
        method: parsed.method.unwrap_or_default(),
        target: parsed.path.unwrap_or_default(),
        headers: parsed.headers,
    };
    head.obey()?;
    Ok(Some(head))
}

/// Whether the third word of a request line begins like an HTTP version.
fn names_http(line: &[u8]) -> bool {
    line.split(|&byte| byte == b' ')
        .nth(2)
        .is_some_and(|version| version.starts_with(b"HTTP/"))
}

impl Head<'_, '_> {
    /// Reads the headers that frame the request and govern the connection.
    fn obey(&mut self) -> Result<(), Reject> {
        let mut content_length = None;
        let mut has_transfer_encoding = false;
        let mut host_count = 0;
        let (mut close, mut keep_alive) = (false, false);
        for header in self.headers {
            let name = header.name;
            // The length tells these names apart; most headers are passed over without a comparison.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => host_count += 1,
                6 if name.eq_ignore_ascii_case("expect") => {
                    self.expects_continue = trim(header.value).eq_ignore_ascii_case(b"100-continue");
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    close |= has_token(header.value, b"close");
                    keep_alive |= has_token(header.value, b"keep-alive");
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let length = parse_length(trim(header.value))
                        .ok_or(reject(400, "The Content-Length is not a number."))?;
                    if content_length.is_some_and(|other| other != length) {
                        return Err(reject(400, "The Content-Length headers differ."));
                    }
                    content_length = Some(length);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => has_transfer_encoding = true,
                _ => {}
            }
        }
        if has_transfer_encoding {
            return Err(match content_length {
                Some(_) => reject(400, "Content-Length and Transfer-Encoding exclude each other."),
                None => reject(501, "This transfer coding is not supported."),
            });
        }
        if host_count > 1 || (host_count == 0 && !self.is_http10) {
            return Err(reject(400, "A request needs one Host header."));
        }
        self.content_length = content_length.unwrap_or(0);
        self.close = close || (self.is_http10 && !keep_alive);
        // The interim answer does not exist in HTTP/1.0.
        self.expects_continue &= !self.is_http10;
        Ok(())
    }
}

/// Digits and nothing else: a sign, a list or a blank would let two programs read two lengths.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
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
    /// The body's reader.
    pub body: Body<'a>,
}

impl<'a> Request<'a> {
    pub(super) fn new(head: Head<'a, 'a>, body: Body<'a>) -> Self {
        let target = origin_form(head.target);
        let (path, query) = match memchr::memchr(b'?', target.as_bytes()) {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (target, ""),
        };
        Self {
            method: head.method,
            path,
            query,
            headers: head.headers,
            body,
        }
    }

    /// The method, as sent: methods are case-sensitive.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The target's path, percent-encoded as sent.
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

/// The target as a path: a proxy's form (`http://host/path`), which every server has to take, loses its host.
fn origin_form(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let Some((scheme, rest)) = target.split_once("://") else {
        return target;
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return target;
    }
    match rest.find(['/', '?']) {
        Some(at) => &rest[at..],
        None => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all<T>(bytes: &[u8], check: impl FnOnce(Result<Option<Head<'_, '_>>, Reject>) -> T) -> T {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        check(parse(bytes, &mut room, 16 * 1024))
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
            ("Transfer-Encoding: chunked", 501),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
            ("A: b\r\n folded", 400),
        ] {
            assert_eq!(
                status_of(&format!("POST / HTTP/1.1\r\nHost: a\r\n{header}")),
                status,
                "{header}"
            );
        }
    }

    #[test]
    fn request_lines_and_hosts_are_checked() {
        for (lines, status) in [
            ("GET / HTTP/1.1\r\nHost: a", 200),
            ("GET / HTTP/1.1\r\nHost:", 200),
            ("GET / HTTP/1.0", 200),
            ("GET / HTTP/1.1", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
            ("GET / HTTP/1.2\r\nHost: a", 505),
            ("PRI * HTTP/2.0", 505),
            ("GET / FTP/1.1", 400),
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
    fn targets_lose_scheme_and_host() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/a%20b?c=d?e", "/a%20b", "c=d?e"),
            ("/a?", "/a", ""),
            ("*", "*", ""),
            ("http://host:1/a?b", "/a", "b"),
            ("HTTPS://host", "/", ""),
            ("http://host?b", "", "b"),
            ("/x://y", "/x://y", ""),
        ] {
            parse_all(
                format!("GET {target} HTTP/1.1\r\nHost: a\r\nX:  y z \t\r\n\r\n").as_bytes(),
                |head| {
                    let request = Request::new(head.unwrap().unwrap(), Body::whole(b""));
                    assert_eq!((request.path(), request.query()), (path, query), "{target}");
                    assert_eq!(request.header("x"), Some(&b"y z"[..]));
                    assert_eq!(request.header("y"), None);
                },
            );
        }
    }

    #[test]
    fn heads_are_bounded() {
        let with_headers =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a{}", "\r\nX: y".repeat(count - 1));
        assert_eq!(status_of(&with_headers(HEADERS_MAX)), 200);
        assert_eq!(status_of(&with_headers(HEADERS_MAX + 1)), 431);
        let with_bytes = |count: usize| format!("GET /{} HTTP/1.1\r\nHost: a", "x".repeat(count));
        assert_eq!(status_of(&with_bytes(16_000)), 200);
        assert_eq!(status_of(&with_bytes(16_384)), 431);
        let endless = format!("GET /{}", "x".repeat(16_384));
        parse_all(endless.as_bytes(), |parsed| {
            assert_eq!(parsed.unwrap_err().status, 431)
        });
    }
}
