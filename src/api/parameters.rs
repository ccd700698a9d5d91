//! Query parameters of reads: taken as the original takes them, and refused in Pydantic's words.
//!
//! Of a parameter that is there more than once the last counts, unless it is a list. All that is wrong is told together.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::error;
use crate::event::{Timestamp, spelt};
use crate::http::{Output, Request};
use crate::query::count::Nodes;

/// Code points of an event's name.
const NAME_CHARS: usize = 64;

/// Most nodes that are asked for at once.
const NODES_MAX: usize = 50;

/// Whose events a server has.
pub enum Origin {
    /// Those that were sent to it: the name of the node.
    Node(String),
    /// Those of a whole fleet.
    Fleet,
}

/// The query of a request, and what is wrong with it.
pub struct Parameters<'r> {
    pairs: Vec<(Cow<'r, str>, Cow<'r, str>)>,
    errors: Vec<Value>,
}

impl<'r> Parameters<'r> {
    /// Of a request.
    pub fn of(request: &Request<'r>) -> Parameters<'r> {
        Parameters {
            pairs: request.query_pairs().collect(),
            errors: Vec::new(),
        }
    }

    /// The text of a parameter.
    pub fn text(&self, name: &str) -> Option<String> {
        let mut pairs = self.pairs.iter().rev();
        pairs
            .find(|(known, _)| known == name)
            .map(|(_, text)| text.to_string())
    }

    /// A time: RFC 3339, or Unix seconds.
    pub fn time(&mut self, name: &str) -> Option<Timestamp> {
        let text = self.text(name)?;
        let error = match Timestamp::parse_as_parameter(&text) {
            Ok(at) => return Some(at),
            Err(error) => error,
        };
        // In a query a plus is a blank, and a zone that was not encoded has become one.
        if let Some((time, zone)) = text.rsplit_once(' ')
            && let Some(at) = Timestamp::parse(&format!("{time}+{zone}"))
        {
            return Some(at);
        }
        let ctx = json!({"error": error.error});
        self.refuse(error.kind, name, &error.msg, &text, Some(ctx));
        None
    }

    /// The names of events, in the spelling of lines, each once; `None` if there are none. At most `max` are taken.
    pub fn names(&mut self, name: &str, max: usize) -> Option<Vec<Box<[u8]>>> {
        let names = self.list(name, max)?;
        let mut spelt: Vec<Box<[u8]>> = Vec::new();
        for name in names.iter().map(|name| self::spelt(name)) {
            if !spelt.contains(&name) {
                spelt.push(name);
            }
        }
        Some(spelt)
    }

    /// As [`Parameters::names`], each as often as it is there.
    pub fn steps(&mut self, name: &str, max: usize) -> Option<Vec<Box<[u8]>>> {
        let names = self.list(name, max)?;
        Some(names.iter().map(|name| spelt(name)).collect())
    }

    /// The nodes of a fleet that are asked for; `None` where that is all there are. A node that is no view of a fleet has one: itself.
    pub fn nodes(&mut self, origin: &Origin) -> Option<Nodes> {
        let nodes = self.list("node", NODES_MAX)?;
        match origin {
            Origin::Node(own) if nodes.contains(own) => None,
            _ => Some(Nodes::new(nodes)),
        }
    }

    fn list(&mut self, name: &str, max: usize) -> Option<Vec<String>> {
        let given = self.pairs.iter().filter(|(known, _)| known == name);
        // As those of events are.
        let texts: Vec<String> = given.map(|(_, text)| text.trim().to_owned()).collect();
        for text in &texts {
            let chars = text.chars().count();
            if chars == 0 {
                let msg = "String should have at least 1 character";
                self.refuse(
                    "string_too_short",
                    name,
                    msg,
                    text,
                    Some(json!({"min_length": 1})),
                );
            } else if chars > NAME_CHARS {
                let msg = format!("String should have at most {NAME_CHARS} characters");
                let ctx = json!({"max_length": NAME_CHARS});
                self.refuse("string_too_long", name, &msg, text, Some(ctx));
            }
        }
        if texts.len() > max {
            let msg = format!(
                "List should have at most {max} items after validation, not {}",
                texts.len()
            );
            let ctx = json!({"field_type": "List", "max_length": max, "actual_length": texts.len()});
            self.refuse("too_long", name, &msg, &texts.join(","), Some(ctx));
        }
        (!texts.is_empty()).then_some(texts)
    }

    /// A whole number from 1 to `max`.
    pub fn whole(&mut self, name: &str, max: usize, default: usize) -> usize {
        let Some(text) = self.text(name) else {
            return default.min(max);
        };
        let Some((negative, digits)) = integer(&text) else {
            let msg = "Input should be a valid integer, unable to parse string as an integer";
            self.refuse("int_parsing", name, msg, &text, None);
            return default;
        };
        // More digits than fit are more than any bound.
        let number = digits.parse().unwrap_or(u64::MAX);
        if number == 0 || negative {
            let msg = "Input should be greater than or equal to 1";
            self.refuse("greater_than_equal", name, msg, &text, Some(json!({"ge": 1})));
        } else if number > max as u64 {
            let msg = format!("Input should be less than or equal to {max}");
            self.refuse("less_than_equal", name, &msg, &text, Some(json!({"le": max})));
        }
        number.min(max as u64) as usize
    }

    /// Notes that a parameter is not to be used.
    pub fn refuse(&mut self, kind: &str, name: &str, msg: &str, input: &str, ctx: Option<Value>) {
        let mut error = json!({"type": kind, "loc": ["query", name], "msg": msg, "input": input});
        if let Some(ctx) = ctx {
            error["ctx"] = ctx;
        }
        self.errors.push(error);
    }

    /// Notes what only a look at several parameters shows.
    pub fn refuse_value(&mut self, name: &str, sentence: &str) {
        let input = self.text(name);
        let msg = format!("Value error, {sentence}");
        let ctx = json!({"error": sentence});
        let error =
            json!({"type": "value_error", "loc": ["query", name], "msg": msg, "input": input, "ctx": ctx});
        self.errors.push(error);
    }

    /// Whether anything is wrong so far.
    pub fn are_wrong(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether all is well; an answer has been given where not.
    pub fn settle(self, output: &mut Output) -> bool {
        if self.are_wrong() {
            error::invalid(Value::Array(self.errors).to_string().as_bytes(), output);
            return false;
        }
        true
    }
}

/// Sign and digits of a whole number as the original takes it: white space around it, a sign, and `.0` are fine.
fn integer(text: &str) -> Option<(bool, &str)> {
    let text = text.trim();
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (whole && fraction.bytes().all(|byte| byte == b'0')).then_some((negative, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_taken_as_the_original_takes_them() {
        for (text, taken) in [
            ("7", Some((false, "7"))),
            ("007", Some((false, "007"))),
            (" 5.0 ", Some((false, "5"))),
            ("+3", Some((false, "3"))),
            ("-1", Some((true, "1"))),
            ("1.5", None),
            ("", None),
            (".0", None),
            ("1e3", None),
            ("--1", None),
            ("true", None),
        ] {
            assert_eq!(integer(text), taken, "{text:?}");
        }
    }
}
