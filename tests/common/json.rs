//! JSON for comparing: numbers keep their spelling and members can be had as raw text, neither of which the
//! usual library offers for numbers beyond 64 bits or 1e308.

use std::str;

/// A value. A lone surrogate escape in a string becomes U+FFFD; no comparison depends on one.
#[derive(Clone, Debug)]
pub enum Json {
    Null,
    Bool(bool),
    /// As it was spelt.
    Number(String),
    Text(String),
    List(Vec<Json>),
    /// Members in order, repeats included.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a whole text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value()?;
        parser.space();
        if parser.at == text.len() {
            Ok(value)
        } else {
            Err(format!("more after the value at {}", parser.at))
        }
    }

    /// The member `name`; the last one when it is repeated.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members
                .iter()
                .rev()
                .find(|(known, _)| known == name)
                .map(|(_, v)| v),
            _ => None,
        }
    }

    /// The member `name`, which must be there.
    pub fn member(&self, name: &str) -> &Json {
        self.get(name)
            .unwrap_or_else(|| panic!("no member {name:?} in {self:?}"))
    }

    pub fn text(&self) -> Option<&str> {
        if let Json::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    pub fn list(&self) -> Option<&[Json]> {
        if let Json::List(items) = self {
            Some(items)
        } else {
            None
        }
    }

    pub fn number(&self) -> Option<u64> {
        if let Json::Number(number) = self {
            number.parse().ok()
        } else {
            None
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }
}

/// As values: the order of members and the spelling of numbers do not count.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Json::Null, Json::Null) => true,
            (Json::Bool(a), Json::Bool(b)) => a == b,
            (Json::Number(a), Json::Number(b)) => same_number(a, b),
            (Json::Text(a), Json::Text(b)) => a == b,
            (Json::List(a), Json::List(b)) => a == b,
            (Json::Object(a), Json::Object(b)) => {
                a.iter().all(|(name, _)| self.get(name) == other.get(name))
                    && b.iter().all(|(name, _)| self.get(name).is_some())
            }
            _ => false,
        }
    }
}

fn same_number(a: &str, b: &str) -> bool {
    let is_integer = |text: &str| !text.contains(['.', 'e', 'E']);
    decimal(a) == decimal(b)
        || (!is_integer(a) || !is_integer(b)) && a.parse::<f64>().ok() == b.parse::<f64>().ok()
}

/// Sign, digits without zeros at either end, and the power of ten they stand for.
fn decimal(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.parse().expect("exponents in tests are small");
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let power = exponent - fraction.len() as i64 + (digits.len() - trimmed.len()) as i64;
    match trimmed.trim_start_matches('0') {
        "" => (false, String::new(), 0),
        digits => (negative, digits.to_owned(), power),
    }
}

/// The members of an object in order, each value as the bytes that spell it.
pub fn raw_members(text: &[u8]) -> Result<Vec<(String, &str)>, String> {
    let mut parser = Parser { text, at: 0 };
    let mut members = Vec::new();
    parser.object(|parser, name| {
        parser.space();
        let start = parser.at;
        parser.value()?;
        let raw = str::from_utf8(&text[start..parser.at]).map_err(|error| error.to_string())?;
        members.push((name, raw));
        Ok(())
    })?;
    if parser.at == text.len() {
        Ok(members)
    } else {
        Err(format!("more after the object at {}", parser.at))
    }
}

/// `text` without the white space outside its strings.
pub fn without_space(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    text.chars()
        .filter(|&c| {
            if in_string {
                in_string = escaped || c != '"';
                escaped = c == '\\' && !escaped;
                return true;
            }
            in_string = c == '"';
            !matches!(c, ' ' | '\t' | '\r' | '\n')
        })
        .collect()
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, expected: &str) -> Result<T, String> {
        Err(format!("{expected} expected at {}", self.at))
    }

    /// Steps over `byte` when it comes next, white space before it included.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, String> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return self.fail(word);
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self) -> Result<Json, String> {
        self.space();
        match self.text.get(self.at) {
            Some(b'{') => {
                let mut members = Vec::new();
                self.object(|parser, name| {
                    members.push((name, parser.value()?));
                    Ok(())
                })?;
                Ok(Json::Object(members))
            }
            Some(b'[') => self.array(),
            Some(b'"') => self.string().map(Json::Text),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => self.spelt_number(),
        }
    }

    fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, String) -> Result<(), String>,
    ) -> Result<(), String> {
        if !self.take(b'{') {
            return self.fail("{");
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            let name = self.string()?;
            if !self.take(b':') {
                return self.fail(":");
            }
            member(self, name)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.fail(", or }");
            }
        }
    }

    fn array(&mut self) -> Result<Json, String> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(b']') {
                return Ok(Json::List(items));
            }
            if !self.take(b',') {
                return self.fail(", or ]");
            }
        }
    }

    fn spelt_number(&mut self) -> Result<Json, String> {
        let start = self.at;
        while matches!(
            self.text.get(self.at),
            Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
        ) {
            self.at += 1;
        }
        let spelling = str::from_utf8(&self.text[start..self.at]).expect("all ASCII");
        let digits = spelling.strip_prefix('-').unwrap_or(spelling);
        let is_leading_zero =
            digits.starts_with('0') && digits[1..].starts_with(|c: char| c.is_ascii_digit());
        if !digits.starts_with(|c: char| c.is_ascii_digit())
            || is_leading_zero
            || spelling.parse::<f64>().is_err()
        {
            return self.fail("a value");
        }
        Ok(Json::Number(spelling.to_owned()))
    }

    fn string(&mut self) -> Result<String, String> {
        if self.text.get(self.at) != Some(&b'"') {
            return self.fail("a string");
        }
        let start = self.at;
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(0x20..) => self.at += 1,
                _ => return self.fail("the rest of a string"),
            }
        }
        self.at += 1;
        unescape(&self.text[start + 1..self.at - 1])
    }
}

fn unescape(raw: &[u8]) -> Result<String, String> {
    let raw = str::from_utf8(raw).map_err(|error| error.to_string())?;
    let mut units: Vec<u16> = Vec::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match rest.next() {
            Some(c @ ('"' | '\\' | '/')) => c as u16,
            Some('b') => 0x08,
            Some('f') => 0x0C,
            Some('n') => 0x0A,
            Some('r') => 0x0D,
            Some('t') => 0x09,
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                let is_hex = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| is_hex);
                unit.ok_or_else(|| format!("a bad escape: \\u{digits}"))?
            }
            other => return Err(format!("a bad escape: {other:?}")),
        });
    }
    Ok(String::from_utf16_lossy(&units))
}
