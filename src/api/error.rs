//! Answers to requests that are refused.

use super::refusal::Shortage;
use crate::event::Rejection;
use crate::http::{BodyError, Output};
use crate::ingest::Refused;

/// Seconds after which a refused client may come back: the journal has been written by then, or a disk is full and a
/// person has to look.
pub const RETRY_AFTER: (&str, &str) = ("Retry-After", "1");

/// What a refusal for want of memory says.
pub const BUSY: &str = "Too much is being received at once (METRICS_INFLIGHT_BYTES_MAX). Try again.";

/// What a refusal for want of room says.
pub const JOURNAL_FULL: &str = "The journal is full: the log cannot take events as fast as they arrive.";

/// 422 with `detail`, a JSON array of errors.
pub fn invalid(detail: &[u8], output: &mut Output) {
    output.json(422, &[], &[b"{\"detail\":", detail, b"}"].concat());
}

/// The answer to events that do not pass validation.
pub fn rejected(rejection: Rejection, output: &mut Output) {
    match rejection {
        Rejection::NotUtf8 => output.detail(400, &[], "There was an error parsing the body"),
        Rejection::Invalid(detail) => invalid(&detail, output),
        Rejection::TooLarge => too_large_for_journal(output),
        Rejection::NoRoom => busy(output),
    }
}

/// The answer to a body that cannot be read.
pub fn unreadable(failure: BodyError, output: &mut Output) {
    let (status, sentence) = failure.answer();
    output.detail(status, &[], sentence);
}

/// 503 for a body that there is no memory for among all those being read.
pub fn busy(output: &mut Output) {
    Shortage::Memory.count(output);
    output.detail(503, &[RETRY_AFTER], BUSY);
}

/// The answer to events that the journal has no room for.
pub fn refused(refused: Refused, output: &mut Output) {
    match refused {
        Refused::Full => {
            Shortage::Journal.count(output);
            output.detail(503, &[RETRY_AFTER], &format!("{JOURNAL_FULL} Try again."));
        }
        Refused::TooLarge => too_large_for_journal(output),
    }
}

/// 413 for events that would take more than half the journal: a request must not be able to fill it alone.
fn too_large_for_journal(output: &mut Output) {
    output.detail(
        413,
        &[],
        "The events are larger than half the journal (METRICS_JOURNAL_BYTES_MAX).",
    );
}

/// 422 for a query parameter or header: one error in the shape of the data's.
pub fn invalid_parameter(
    kind: &str,
    loc: [&str; 2],
    msg: &str,
    input: &str,
    ctx: Option<serde_json::Value>,
    output: &mut Output,
) {
    let mut error = serde_json::json!({"type": kind, "loc": loc, "msg": msg, "input": input});
    if let Some(ctx) = ctx {
        error["ctx"] = ctx;
    }
    invalid(serde_json::json!([error]).to_string().as_bytes(), output);
}

/// 405, saying what is allowed.
pub fn method_not_allowed(allow: &str, output: &mut Output) {
    output.detail(405, &[("Allow", allow)], "Method Not Allowed");
}
