//! A connection: heads, framing, pipelining. What a peer sends has one outcome, in whatever pieces it arrives, and every call
//! of the service is a request that a second, plain reading of the same bytes finds at the same place: so no request is read
//! out of a body, and none out of a head that two programs could read differently.
//!
//! Input: two bytes for the pieces ([`Cuts`]), then what the peer sends.
#![no_main]

use floodgate::http::fuzzing::{Trace, play};
use floodgate_fuzz::Cuts;
use libfuzzer_sys::fuzz_target;

/// What a body may have of chunk extensions, and of trailer fields.
const CHUNK_NOISE_BYTES_MAX: usize = 16 * 1024;

fuzz_target!(|input: &[u8]| {
    let [width, seed, sent @ ..] = input else {
        return;
    };
    let whole = play([sent].into_iter());
    let (certain, rest) = check_calls(sent, &whole.calls);
    check_answers(&whole);
    let pieces = Cuts::new(*width, *seed).of(sent);
    let split = play(pieces.into_iter());
    match certain {
        Some(count) => assert_eq!(split.calls[..count], whole.calls[..count], "a call differs"),
        None if split != whole => check_unfinished((sent, rest), &split, &whole),
        None => {}
    }
});

/// The one difference there may be: the last line has not ended, and is parsed only if it came together with an end of a line, as
/// a head that comes byte by byte is not parsed for every byte. What is wrong with it is then not told to a peer that ends there.
fn check_unfinished((sent, rest): (&[u8], &[u8]), split: &Trace, whole: &Trace) {
    let unfinished = rest.iter().rev().take_while(|byte| **byte != b'\n').count();
    let finished = sent.len() - unfinished;
    let without = play([&sent[..finished]].into_iter());
    assert!(
        *split == without && split.calls == whole.calls && whole.written.starts_with(&split.written),
        "what was sent in pieces has another outcome:\n{split}\nand whole:\n{whole}",
        split = show(split),
        whole = show(whole)
    );
}

fn show(trace: &Trace) -> String {
    format!("{:?}\n{}", trace.calls, trace.written.escape_ascii())
}

/// Reads what was sent once more, request by request, as far as there were calls, and gives what follows those. `Some`: only so
/// many of the calls are certain, because it is up to the arrival of the input whether the connection goes on behind them.
fn check_calls<'s>(sent: &'s [u8], calls: &[String]) -> (Option<usize>, &'s [u8]) {
    let mut certain = None;
    let mut rest = sent;
    for (index, call) in calls.iter().enumerate() {
        let is_last = index + 1 == calls.len();
        let head = Head::read(&mut rest);
        let (method, called) = call.split_once(' ').expect("a method and a path");
        let (path, body) = called.split_once(' ').expect("a path and a body");
        assert_eq!(method, head.method, "call {index}");
        if head.target.starts_with('/') && !head.target.contains(['%', '?']) {
            assert_eq!(path, head.target, "call {index}");
        }
        assert!(is_last || !head.closes, "a call behind the last one: {calls:?}");
        if certain.is_none() && head.expects_continue && method != "POST" && head.framing != Framing::None {
            // The body is not asked for, and the connection ends, unless it comes unasked.
            certain = Some(index + 1);
        }
        match read_body(&mut rest, head.framing) {
            Some(bytes) if method != "POST" || body.chars().eq(bytes.iter().copied().map(char::from)) => {}
            // It was refused, for what the plain reading passes over or for what is missing.
            other => {
                assert!(is_last, "a call behind a body without an end: {calls:?}");
                assert!(
                    method != "POST" || body.starts_with("The "),
                    "{other:?} was read as {body:?}"
                );
                assert!(
                    other.is_none() || head.framing == Framing::Chunked,
                    "{other:?} was read as {body:?}"
                );
            }
        }
    }
    (certain, rest)
}

/// One answer for each call, and perhaps one more for what was no request.
fn check_answers(trace: &Trace) {
    let mut written = std::str::from_utf8(&trace.written).expect("answers are text");
    for call in &trace.calls {
        let (head, behind) = written.split_once("\r\n\r\n").expect("an answer for each call");
        let status = head.strip_prefix("HTTP/1.1 ").expect("a status line");
        assert!(status.starts_with(['2', '4']), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        written = if call.starts_with("HEAD ") {
            behind
        } else {
            &behind[length..]
        };
    }
    if !written.is_empty() {
        let (head, body) = written.split_once("\r\n\r\n").expect("an answer");
        assert!(
            head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 5"),
            "{head}"
        );
        assert!(
            body.is_empty() || (body.starts_with("{\"detail\":\"") && body.ends_with("\"}")),
            "{body}"
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A head that was taken.
struct Head<'s> {
    method: &'s str,
    target: &'s str,
    framing: Framing,
    closes: bool,
    expects_continue: bool,
}

impl<'s> Head<'s> {
    /// Takes a head off the front. Asserts that it is one, and has one meaning.
    fn read(rest: &mut &'s [u8]) -> Self {
        let head = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        let end = head
            .windows(4)
            .position(|bytes| bytes == b"\r\n\r\n")
            .expect("a call without a head");
        *rest = &head[end + 4..];
        let mut lines = lines(&head[..end]);
        let request_line = std::str::from_utf8(lines.next().expect("a line")).expect("a target of text");
        let [method, target, version] = request_line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("no request line: {request_line:?}");
        };
        let is_http10 = version == "HTTP/1.0";
        assert!(is_http10 || version == "HTTP/1.1", "{version:?}");
        let (mut hosts, mut framing, mut expects_continue) = (0, Framing::None, false);
        let (mut close, mut keep_alive) = (false, false);
        for line in lines {
            let (name, value) = field(line);
            let value = String::from_utf8_lossy(value).to_ascii_lowercase();
            let value = value.trim_matches([' ', '\t']);
            match &*name {
                "host" => hosts += 1,
                "expect" => expects_continue = true,
                "connection" => {
                    let mut tokens = value.split(',').map(|token| token.trim_matches([' ', '\t']));
                    close |= tokens.clone().any(|token| token == "close");
                    keep_alive |= tokens.any(|token| token == "keep-alive");
                }
                "content-length" => {
                    assert!(value.bytes().all(|byte| byte.is_ascii_digit()), "{value:?}");
                    let length = Framing::Length(value.parse().expect("a length"));
                    assert!(framing == Framing::None || framing == length, "two lengths");
                    framing = length;
                }
                "transfer-encoding" => {
                    assert_eq!((value, is_http10), ("chunked", false));
                    assert_eq!(framing, Framing::None, "two framings");
                    framing = Framing::Chunked;
                }
                _ => {}
            }
        }
        assert!(hosts == 1 || (hosts == 0 && is_http10), "{hosts} hosts");
        Self {
            method,
            target,
            framing: match framing {
                Framing::Length(0) => Framing::None,
                other => other,
            },
            closes: close || (is_http10 && !keep_alive),
            expects_continue: expects_continue && !is_http10,
        }
    }
}

/// The lines between CRLFs. Asserts that nothing else in them could be taken for a line's end.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.windows(2).position(|bytes| bytes == b"\r\n");
        rest = end.map(|end| &text[end + 2..]);
        let line = &text[..end.unwrap_or(text.len())];
        assert!(
            !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
            "{:?}",
            line.escape_ascii()
        );
        Some(line)
    })
}

/// Name and value of a header line, the name in lower case.
fn field(line: &[u8]) -> (String, &[u8]) {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .expect("a header has a colon");
    let name = std::str::from_utf8(&line[..colon]).expect("a name of text");
    assert!(
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()),
        "{name:?}"
    );
    (name.to_ascii_lowercase(), &line[colon + 1..])
}

/// Takes a body off the front; `None` if it has no end there or is malformed.
fn read_body(rest: &mut &[u8], framing: Framing) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    match framing {
        Framing::None => {}
        Framing::Length(length) => body.extend(take(rest, length)?),
        Framing::Chunked => {
            let mut extensions = 0;
            loop {
                let line = take_line(rest)?;
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let (size, extension) = line.split_at(digits);
                if !(1..=16).contains(&digits) || !matches!(extension, [] | [b' ' | b'\t' | b';', ..]) {
                    return None;
                }
                extensions += extension.len() + usize::from(!extension.is_empty());
                if extensions > CHUNK_NOISE_BYTES_MAX {
                    return None;
                }
                match u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()? {
                    0 => break,
                    size => body.extend(take(rest, size)?),
                }
                if !take(rest, 2)?.eq(b"\r\n") {
                    return None;
                }
            }
            let mut trailers = 0;
            loop {
                match take_line(rest)? {
                    [] => break,
                    line => trailers += line.len() + 2,
                }
                if trailers > CHUNK_NOISE_BYTES_MAX {
                    return None;
                }
            }
        }
    }
    Some(body)
}

fn take<'s>(rest: &mut &'s [u8], count: u64) -> Option<&'s [u8]> {
    let (taken, behind) = rest.split_at_checked(usize::try_from(count).ok()?)?;
    *rest = behind;
    Some(taken)
}

fn take_line<'s>(rest: &mut &'s [u8]) -> Option<&'s [u8]> {
    let end = rest.windows(2).position(|bytes| bytes == b"\r\n")?;
    let line = take(rest, end as u64)?;
    take(rest, 2)?;
    (!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))).then_some(line)
}
