//! Closing a torn line: which bytes make a cut-off JSON object valid again, by appending only.
//!
//! Needed after a power cut, when the disk kept the beginning of a line and the journal does not have the rest. The file
//! is never truncated, and gluing the next line to the cut would ruin that one too; so the cut is completed with the
//! shortest text that makes it an object, marked `"torn":true` at its top level.

/// What may come next at a place in a JSON text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    FirstMember,
    Member,
    Colon,
    FirstElement,
    CommaOrEnd,
}

/// The bytes to append to `cut`, newline included.
///
/// A `cut` that only lacks its newline gets just that. A `cut` that is not the beginning of a JSON object cannot be
/// made into one by appending; it gets a newline too, so that the damage ends there.
pub fn closing(cut: &[u8]) -> Vec<u8> {
    let mut open = Vec::new();
    let mut expect = Expect::Value;
    let mut out = Vec::new();
    let mut at = 0;
    if cut.first() != Some(&b'{') {
        return b"\n".to_vec();
    }
    while at < cut.len() {
        let byte = cut[at];
        let token = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\r' => {}
            b'{' => {
                open.push(byte);
                expect = Expect::FirstMember;
            }
            b'[' => {
                open.push(byte);
                expect = Expect::FirstElement;
            }
            b'}' | b']' => {
                open.pop();
                expect = Expect::CommaOrEnd;
            }
            b':' => expect = Expect::Value,
            b',' => {
                expect = if open.last() == Some(&b'{') {
                    Expect::Member
                } else {
                    Expect::Value
                }
            }
            b'"' => {
                match string_end(cut, at) {
                    Some(end) => at = end,
                    None => {
                        close_string(&cut[at..], &mut out);
                        at = cut.len();
                    }
                }
                let is_key = matches!(expect, Expect::FirstMember | Expect::Member);
                expect = if is_key { Expect::Colon } else { Expect::CommaOrEnd };
            }
            _ => {
                while at < cut.len() && !b" \t\r,:[]{}\"".contains(&cut[at]) {
                    at += 1;
                }
                if at == cut.len() {
                    close_scalar(&cut[token..], &mut out);
                }
                expect = Expect::CommaOrEnd;
            }
        }
    }
    close_containers(&open, expect, &mut out);
    out.push(b'\n');
    out
}

fn close_containers(open: &[u8], mut expect: Expect, out: &mut Vec<u8>) {
    for (depth, container) in open.iter().enumerate().rev() {
        match expect {
            Expect::Colon => out.extend_from_slice(b":null"),
            Expect::Value => out.extend_from_slice(b"null"),
            Expect::Member if depth > 0 => out.extend_from_slice(b"\"\":null"),
            Expect::Member | Expect::FirstMember | Expect::FirstElement | Expect::CommaOrEnd => {}
        }
        if depth == 0 {
            let needs_comma = !matches!(expect, Expect::Member | Expect::FirstMember);
            out.extend_from_slice(if needs_comma {
                b",\"torn\":true"
            } else {
                b"\"torn\":true"
            });
        }
        out.push(if *container == b'{' { b'}' } else { b']' });
        expect = Expect::CommaOrEnd;
    }
}

/// Where the string that begins before `at` ends (behind its quote); `None` if it is cut off.
fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Completes a cut-off string: a broken escape, half a surrogate pair, a broken UTF-8 sequence, the quote.
fn close_string(contents: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    // The escape just before was the first half of a pair.
    let mut half = false;
    while at < contents.len() {
        if contents[at] != b'\\' {
            (at, half) = (at + 1, false);
            continue;
        }
        match contents.get(at + 1) {
            None => {
                out.extend_from_slice(if half { b"udc00" } else { b"\\" });
                (at, half) = (at + 1, false);
            }
            Some(b'u') => {
                let there = &contents[at + 2..contents.len().min(at + 6)];
                let missing = &(if half { *b"dc00" } else { *b"0000" })[there.len()..];
                out.extend_from_slice(missing);
                let digits = [there, missing].concat();
                half = digits[0].eq_ignore_ascii_case(&b'd') && b"89abAB".contains(&digits[1]);
                at += 6;
            }
            Some(_) => (at, half) = (at + 2, false),
        }
    }
    if half {
        out.extend_from_slice(b"\\udc00");
    }
    if let Err(error) = std::str::from_utf8(contents)
        && error.error_len().is_none()
    {
        let sequence = &contents[error.valid_up_to()..];
        let length = match sequence[0] {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            _ => 4,
        };
        for position in sequence.len()..length {
            out.push(match (position, sequence[0]) {
                (1, 0xE0) => 0xA0,
                (1, 0xF0) => 0x90,
                _ => 0x80,
            });
        }
    }
    out.push(b'"');
}

/// Completes a cut-off number or literal.
fn close_scalar(token: &[u8], out: &mut Vec<u8>) {
    for literal in [&b"true"[..], b"false", b"null"] {
        if literal.starts_with(token) {
            out.extend_from_slice(&literal[token.len()..]);
            return;
        }
    }
    if token.last().is_some_and(|last| b"-+.eE".contains(last)) {
        out.push(b'0');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that between them have every kind of token, escape and UTF-8 length.
    const LINES: [&str; 3] = [
        r#"{"visitor_id":"visitor-1","event":"é漢😀𐀀ࠀ","timestamp":"2025-10-09T12:34:56Z","metadata":{},"user_agent":null}"#,
        r#"{"visitor_id":"a\"\\\u00e9\ud83d\ude00z","event":"x","timestamp":"t","metadata":{"a":[1,-2.5e+7,true,false,null,{"b":[]}],"":{"c":"\n"}, "d" : [ 0.1 , "}" ]},"user_agent":"\ud83d\ude00"}"#,
        r#"{"a":{"b":{"c":[[["deep",{"k":-0}]]]}}}"#,
    ];

    #[test]
    fn every_cut_of_a_line_closes_into_valid_json_marked_torn() {
        for line in LINES {
            for cut in 1..line.len() {
                let mut text = line.as_bytes()[..cut].to_vec();
                text.extend(closing(&text));
                assert_eq!(text.pop(), Some(b'\n'));
                let shown = String::from_utf8_lossy(&text).into_owned();
                let value: serde_json::Value =
                    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {shown}"));
                assert_eq!(value["torn"], true, "{shown}");
                assert!(!text.contains(&b'\n'));
            }
        }
    }

    #[test]
    fn a_line_that_only_lacks_its_newline_gets_just_that() {
        for line in LINES {
            assert_eq!(closing(line.as_bytes()), b"\n");
        }
    }

    #[test]
    fn bytes_that_are_no_object_are_ended_where_they_are() {
        for bytes in [&b"\0\0\0"[..], b"garbage", b"[1,2"] {
            assert_eq!(closing(bytes), b"\n");
        }
    }
}
