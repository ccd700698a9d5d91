//! Query strings: names and values, decoded.

use std::borrow::Cow;

/// The pairs of a query such as `a=1&b=x%20y+z`, in order.
///
/// A plus is a space; a percent sign that no two hexadecimal digits follow stands for itself; bytes that are
/// not UTF-8 become replacement characters. A name without `=` has the empty value; empty pairs are skipped.
#[derive(Clone, Debug)]
pub struct QueryPairs<'a> {
    rest: &'a str,
}

impl<'a> QueryPairs<'a> {
    /// The pairs of a query without its question mark.
    pub fn new(query: &'a str) -> Self {
        Self { rest: query }
    }
}

impl<'a> Iterator for QueryPairs<'a> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let (pair, rest) = self.rest.split_once('&').unwrap_or((self.rest, ""));
            self.rest = rest;
            if !pair.is_empty() {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                return Some((decode(name), decode(value)));
            }
        }
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            (byte, _) => decoded.push(*byte),
        }
    }
    Cow::Owned(match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        for (query, pairs) in [
            ("", &[][..]),
            ("a=1", &[("a", "1")]),
            ("a=1&a=2&b", &[("a", "1"), ("a", "2"), ("b", "")]),
            ("&&a=b=c&", &[("a", "b=c")]),
            ("=x", &[("", "x")]),
            ("a+b=c%20d%2Be", &[("a b", "c d+e")]),
            ("a=%C3%A9%e2%82%ac", &[("a", "é€")]),
            (
                "a=%&b=%4&c=%zz&d=%%41",
                &[("a", "%"), ("b", "%4"), ("c", "%zz"), ("d", "%A")],
            ),
            ("a=%FFb", &[("a", "\u{fffd}b")]),
        ] {
            let decoded: Vec<_> = QueryPairs::new(query).collect();
            let decoded: Vec<_> = decoded.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(decoded, pairs, "{query}");
        }
    }
}
