//! The list of errors a client gets: `[{"type","loc","msg","input","ctx"?}, …]`, rendered as it grows.
//!
//! Purpose: the shape that Pydantic v2 gives its errors, which clients of the service already read.
//! `input` is the sender's own bytes: it is JSON already.
//!
//! Bounds: at most [`DETAILS_MAX`] errors, and none is added once the list has passed
//! [`DETAILS_BYTES_MAX`] (one error can be as long as the body it shows). Owner: the connection's
//! coroutine, for one request; nothing is allocated before the first error.

use super::line::write_string;

/// Longest input that is shown in an error, in bytes; a longer one is shown as `null`. As long as the longest line by
/// default.
const INPUT_BYTES_MAX: usize = 32 << 10;
/// Errors listed of one request. More tell nobody anything, and each repeats what was sent.
pub const DETAILS_MAX: usize = 100;

/// No error is added to a list longer than this, in bytes.
const DETAILS_BYTES_MAX: usize = 1 << 20;

/// What in the body an error is about: what follows `"body"` and the index of the event in `loc`.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The body or the event as a whole.
    Whole,
    /// A field of the event.
    Field(&'static str),
    /// A byte of the body, or of the event's line.
    Byte(usize),
}

/// The `ctx` of an error.
#[derive(Clone, Copy)]
pub(super) enum Context<'a> {
    /// No `ctx`.
    None,
    /// A limit, under its name.
    Limit(&'static str, usize),
    /// What went wrong, under `error`.
    Error(&'a str),
}

/// The errors of one request, rendered.
#[derive(Default)]
pub(super) struct Details {
    json: Vec<u8>,
    count: usize,
}

impl Details {
    /// Whether no further error is taken.
    pub(super) fn is_full(&self) -> bool {
        self.count >= DETAILS_MAX || self.json.len() > DETAILS_BYTES_MAX
    }

    /// Adds an error, unless the list is full. `index` is that of the event in a batch, `input` is JSON.
    pub(super) fn push(
        &mut self,
        index: Option<u64>,
        kind: &str,
        place: Place,
        msg: &str,
        input: &str,
        context: Context<'_>,
    ) {
        if self.is_full() {
            return;
        }
        let out = &mut self.json;
        out.extend_from_slice(if self.count == 0 {
            b"[{\"type\":"
        } else {
            b",{\"type\":"
        });
        write_string(out, kind);
        out.extend_from_slice(b",\"loc\":[\"body\"");
        if let Some(index) = index {
            write_number(out, index);
        }
        match place {
            Place::Whole => {}
            Place::Field(name) => {
                out.push(b',');
                write_string(out, name);
            }
            Place::Byte(at) => write_number(out, at as u64),
        }
        out.extend_from_slice(b"],\"msg\":");
        write_string(out, msg);
        out.extend_from_slice(b",\"input\":");
        // A large input is not sent back: the sender has it, and an answer must not be as long as a request.
        let shown = if input.len() <= INPUT_BYTES_MAX {
            input
        } else {
            "null"
        };
        out.extend_from_slice(shown.as_bytes());
        match context {
            Context::None => {}
            Context::Limit(name, limit) => {
                out.extend_from_slice(format!(",\"ctx\":{{\"{name}\":{limit}}}").as_bytes())
            }
            Context::Error(error) => {
                out.extend_from_slice(b",\"ctx\":{\"error\":");
                write_string(out, error);
                out.push(b'}');
            }
        }
        out.push(b'}');
        self.count += 1;
    }

    /// Adds the error for a body or line that is not JSON, at the byte where that shows.
    pub(super) fn push_invalid(&mut self, index: Option<u64>, at: usize, error: &str) {
        self.push(
            index,
            "json_invalid",
            Place::Byte(at),
            "JSON decode error",
            "{}",
            Context::Error(error),
        );
    }

    /// The rendered JSON array.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.count == 0 {
            return b"[]".to_vec();
        }
        self.json.push(b']');
        self.json
    }
}

/// Appends a comma and a number.
fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(format!(",{number}").as_bytes());
}
