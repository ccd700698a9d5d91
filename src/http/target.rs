//! Request targets and authorities: which are taken, and the path and query they name.
//!
//! A target is a path (`/a?b`), an `http` or `https` URL as it is sent to proxies (`http://host/a?b`), or `*` for OPTIONS.
//! One pass over it with a table of character classes finds whatever is wrong; a path is only copied when it has
//! percent-encodings that can be decoded.

use super::request::{Reject, reject};

/// Longest method, in bytes, twice as long as any that is registered; a longer one is a 501.
const METHOD_BYTES_MAX: usize = 32;

const TARGET: Reject = reject(400, "The request target is malformed.");
const FORM: Reject = reject(400, "The request target is neither a path nor an http URL.");
const METHOD: Reject = reject(501, "This method is not implemented.");

/// Classes of characters: what they may not be in, and `%`.
const NOT_IN_PATH: u8 = 1;
const NOT_IN_QUERY: u8 = 2;
const NOT_IN_HOST: u8 = 4;
const PERCENT: u8 = 8;
const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [NOT_IN_PATH | NOT_IN_QUERY | NOT_IN_HOST; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        classes[byte as usize] = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => 0,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => 0,
            // RFC 3986 has the comma in host names too. There is none with one, but there are lists of hosts.
            b',' | b':' | b'@' | b'/' => NOT_IN_HOST,
            b'?' => NOT_IN_PATH | NOT_IN_HOST,
            b'%' => PERCENT,
            // Browsers leave these as they are in a query, whatever RFC 3986 says (URL Standard, query percent-encode
            // set); in a path only broken clients and attacks have them.
            b'[' | b']' | b'{' | b'}' | b'|' | b'\\' | b'^' | b'`' => NOT_IN_PATH | NOT_IN_HOST,
            _ => NOT_IN_PATH | NOT_IN_QUERY | NOT_IN_HOST,
        };
        byte += 1;
    }
    classes
}

/// Where the first character of one of these classes stands.
fn find(classes: u8, text: &[u8]) -> Option<usize> {
    text.iter()
        .position(|&byte| CLASSES[usize::from(byte)] & classes != 0)
}

/// A valid target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'b> {
    path: &'b str,
    query: &'b str,
    /// The path has percent-encodings, all of them well-formed.
    has_percent: bool,
}

impl<'b> Target<'b> {
    pub(super) fn parse(method: &str, target: &'b str) -> Result<Self, Reject> {
        // What follows a CONNECT is not HTTP.
        if method.len() > METHOD_BYTES_MAX || method == "CONNECT" {
            return Err(METHOD);
        }
        if !target.starts_with('/') {
            return Self::parse_other_form(method, target);
        }
        Self::parse_path(target)
    }

    fn parse_path(target: &'b str) -> Result<Self, Reject> {
        let bytes = target.as_bytes();
        // Most targets are found to be a plain path here.
        let Some(special) = find(NOT_IN_PATH | PERCENT, bytes) else {
            return Ok(Self {
                path: target,
                query: "",
                has_percent: false,
            });
        };
        let (path, query) = match memchr::memchr(b'?', &bytes[special..]) {
            Some(at) => (&target[..special + at], &target[special + at + 1..]),
            None => (target, ""),
        };
        let has_percent = bytes[special] == b'%';
        if (path.len() > special && !is_percent_encoded(&path.as_bytes()[special..]))
            || find(NOT_IN_QUERY, query.as_bytes()).is_some()
        {
            return Err(TARGET);
        }
        Ok(Self {
            path,
            query,
            has_percent,
        })
    }

    /// `*`, which stands for the server, or the form for proxies, which every server has to take: it loses its host.
    #[cold]
    fn parse_other_form(method: &str, target: &'b str) -> Result<Self, Reject> {
        if target == "*" && method == "OPTIONS" {
            return Ok(Self {
                path: target,
                query: "",
                has_percent: false,
            });
        }
        let (scheme, rest) = target.split_once("://").ok_or(FORM)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(FORM);
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !is_authority(authority.as_bytes()) {
            return Err(TARGET);
        }
        let mut target = Self::parse_path(rest)?;
        if target.path.is_empty() {
            target.path = "/";
        }
        Ok(target)
    }

    /// The path; `room` takes it if something in it is decoded.
    pub(super) fn path(&self, room: &'b mut String) -> &'b str {
        if !self.has_percent {
            return self.path;
        }
        decode_unreserved(self.path, room);
        room
    }

    pub(super) fn query(&self) -> &'b str {
        self.query
    }
}

/// Whether the rest of a path has no character that does not belong there, and every `%` is followed by two hexadecimal
/// digits. None may stand for a control character: no path of ours has one, and who decodes it may end a text or a line
/// there.
fn is_percent_encoded(text: &[u8]) -> bool {
    find(NOT_IN_PATH, text).is_none()
        && memchr::memchr_iter(b'%', text).all(|at| match decoded(&text[at + 1..]) {
            Some(byte) => !byte.is_ascii_control(),
            None => false,
        })
}

/// What two hexadecimal digits at the front of `text` stand for.
fn decoded(text: &[u8]) -> Option<u8> {
    let [high, low, ..] = *text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// Decodes the characters that mean the same either way (RFC 3986, section 2.3), and no other.
fn decode_unreserved(text: &str, to: &mut String) {
    to.clear();
    let mut parts = text.split('%');
    to.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match decoded(part.as_bytes()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                to.push(char::from(byte));
                to.push_str(&part[2..]);
            }
            _ => {
                to.push('%');
                to.push_str(part);
            }
        }
    }
}

/// Whether `text` is `host` or `host:port`, as in a `Host` header: not empty, as every request here has a host, and without
/// a user, as no `http` URL has one.
pub(super) fn is_authority(text: &[u8]) -> bool {
    match find(NOT_IN_HOST | PERCENT, text) {
        None => !text.is_empty(),
        Some(0) if text[0] == b'[' => is_literal(text),
        Some(at) if text[at] == b'%' => {
            let end = find(NOT_IN_HOST, text).unwrap_or(text.len());
            is_percent_encoded(&text[..end]) && is_port(&text[end..])
        }
        Some(at) => at > 0 && is_port(&text[at..]),
    }
}

/// Nothing, or a colon and digits.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// `[address]` of IPv6 and perhaps a port. The older form for addresses yet to be invented is not taken.
#[cold]
fn is_literal(text: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b']', text) else {
        return false;
    };
    let address = std::str::from_utf8(&text[1..end]).unwrap_or_default();
    address.parse::<std::net::Ipv6Addr>().is_ok() && is_port(&text[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_an_optional_port() {
        for (host, valid) in [
            ("a", true),
            ("localhost:8001", true),
            ("example.com:", true),
            ("a_b-c.d~e", true),
            ("127.0.0.1:65535", true),
            ("[::1]", true),
            ("[fe80::1:2]:80", true),
            ("caf%C3%A9.example", true),
            ("a!$&'()*+;=b", true),
            ("", false),
            (":80", false),
            ("a:b", false),
            ("a:80:80", false),
            ("a:+80", false),
            ("a:123456", false),
            ("a b", false),
            ("a,b", false),
            ("a, b", false),
            ("user@a", false),
            ("user:secret@a", false),
            ("a/b", false),
            ("a?b", false),
            ("a#b", false),
            ("a%", false),
            ("a%zz", false),
            ("a%00", false),
            ("a\\b", false),
            ("caf\u{e9}", false),
            ("[::1", false),
            ("[]", false),
            ("[::g]", false),
            ("[::1]a", false),
            ("[::1%25eth0]", false),
            ("::1", false),
        ] {
            assert_eq!(is_authority(host.as_bytes()), valid, "{host:?}");
        }
    }

    fn parse(method: &str, target: &str) -> Result<(String, String), u16> {
        let target = Target::parse(method, target).map_err(|reject| reject.status)?;
        let mut room = String::new();
        Ok((target.path(&mut room).to_owned(), target.query().to_owned()))
    }

    #[test]
    fn targets_name_a_path_and_a_query() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/a%20b?c=d?e", "/a%20b", "c=d?e"),
            ("/a?", "/a", ""),
            ("/a?b=%6D&c=100%", "/a", "b=%6D&c=100%"),
            ("/a?[]{}|\\^`", "/a", "[]{}|\\^`"),
            ("http://host:1/a?b", "/a", "b"),
            ("HTTPS://host", "/", ""),
            ("http://[::1]:80/a", "/a", ""),
            ("http://host?b", "/", "b"),
            ("/x://y", "/x://y", ""),
            ("//a/../b/./c;d,e", "//a/../b/./c;d,e", ""),
            ("/%6d%65%54rics%2F%2f%41", "/meTrics%2F%2fA", ""),
            ("/%C3%A9%7E%25%36%44", "/%C3%A9~%256D", ""),
        ] {
            assert_eq!(
                parse("GET", target),
                Ok((path.to_owned(), query.to_owned())),
                "{target}"
            );
        }
        assert_eq!(parse("OPTIONS", "*"), Ok(("*".to_owned(), String::new())));
    }

    #[test]
    fn every_other_target_is_refused() {
        for (method, target, status) in [
            ("GET", "*", 400),
            ("OPTIONS", "**", 400),
            ("OPTIONS", "*?a", 400),
            ("GET", "a", 400),
            ("GET", "host:80", 400),
            ("GET", "ftp://host/", 400),
            ("GET", "http:/a", 400),
            ("GET", "http://", 400),
            ("GET", "http:///a", 400),
            ("GET", "http://user@host/", 400),
            ("GET", "http://a,b/", 400),
            ("GET", "http://host#a", 400),
            ("GET", "/a#b", 400),
            ("GET", "/a?b#c", 400),
            ("GET", "/a\\b", 400),
            ("GET", "/a|b", 400),
            ("GET", "/a[b]", 400),
            ("GET", "/{a}", 400),
            ("GET", "/a\"b", 400),
            ("GET", "/a?<b>", 400),
            ("GET", "/\u{e9}", 400),
            ("GET", "/?\u{e9}", 400),
            ("GET", "/a%", 400),
            ("GET", "/a%4", 400),
            ("GET", "/a%4g", 400),
            ("GET", "/a%+4", 400),
            ("GET", "/a%00", 400),
            ("GET", "/a%0d%0ab", 400),
            ("GET", "/a%7F", 400),
            ("CONNECT", "host:80", 501),
            ("CONNECT", "/", 501),
            (&"X".repeat(METHOD_BYTES_MAX + 1), "/", 501),
        ] {
            assert_eq!(parse(method, target), Err(status), "{method} {target:.40}");
        }
        assert!(parse(&"X".repeat(METHOD_BYTES_MAX), "/").is_ok());
    }
}
