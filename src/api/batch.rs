//! `POST /api/metrics/events/batch`: a JSON array of events, or NDJSON; all or nothing, or with `?partial=true` the valid
//! ones.
//!
//! A long partial one is stored part by part while it comes, in constant memory. What ends it early (a connection that is cut
//! off, a body that does not unpack, a journal that stays full) cannot take back what is stored by then: the answer says how
//! much that is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::budget::Held;
use super::intake::Intake;
use super::refusal::Shortage;
use super::{Session, ack, error};
use crate::event::{Lines, Rejected, Rejection, Room, Take};
use crate::http::{BodyError, Output, Request};
use crate::ingest::{Level, Refused};

/// A partial batch is stored in parts of so many bytes of lines: some thirty thousand events. A shorter one is one part, of
/// which nothing is stored if its body turns out not to be usable.
const PART_BYTES: usize = 8 << 20;

/// A body that is longer than this takes more than some ten microseconds.
const LONG_BODY_BYTES: u64 = 16 << 10;

/// Why a batch ends before its body does, or at an end that makes it useless.
enum Failure {
    Body(BodyError),
    /// No memory is left for bodies.
    Busy,
    Rejected(Rejection),
    Refused(Refused),
}

/// The lines of a batch on their way into the journal.
struct Storing<'a> {
    intake: &'a mut Intake,
    held: &'a Held<'a>,
    level: Level,
    stored: usize,
    refused: Option<Refused>,
}

impl Storing<'_> {
    fn store(&mut self, lines: &mut Lines) -> Result<(), Refused> {
        let count = lines.count();
        self.intake.commit(lines, self.level)?;
        self.stored += count;
        Ok(())
    }

    /// As a part of what is still being read.
    fn store_part(&mut self, lines: &mut Lines) -> io::Result<()> {
        let stored = self.store(lines).map_err(|refused| {
            self.refused = Some(refused);
            io::Error::other("no room")
        });
        self.held.release();
        stored
    }
}

impl Session {
    pub(super) fn batch(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let Some(level) = self.shared.level_of(request, output) else {
            return;
        };
        let Some(partial) = partial_of(request, output) else {
            return;
        };
        let begin = self.intake.begin_batch();
        if request
            .body
            .length()
            .is_none_or(|length| length > LONG_BODY_BYTES)
        {
            // Those who are ready and have less to do go first. Singles that have given way themselves (`Producer::settle`) would
            // be answered behind all batches of this round otherwise. The same is done whenever more of a body has come.
            may::coroutine::yield_now();
        }
        let shared = Arc::clone(&self.shared);
        let (spare, held) = (&shared.spare, shared.budget.hold(request.body.kept()));
        let (mut unpacked, mut gathered, mut lines) = (spare.bytes(), spare.bytes(), spare.lines());
        let mut storing = Storing {
            intake: &mut self.intake,
            held: &held,
            level,
            stored: 0,
            refused: None,
        };
        let context = (request.header("user-agent"), None);
        let packed = request.content_coding();
        let read = request
            .body
            .decoded(packed, shared.batch_bytes_max, &mut unpacked)
            .and_then(|body| {
                let mut part = |lines: &mut Lines| storing.store_part(lines);
                let take = match partial {
                    true => Take::Valid {
                        part_bytes: PART_BYTES,
                        part: &mut part,
                    },
                    false => Take::All,
                };
                let room = Room {
                    gathered: &mut gathered,
                    keep: &mut |bytes| held.keep(bytes),
                };
                Ok(self.parser.batch(body, context, take, room, &mut lines)?)
            });
        let read = match (read, storing.refused.take()) {
            (_, Some(refused)) => Err(Failure::Refused(refused)),
            (Ok(Err(Rejection::NoRoom)), None) => Err(Failure::Busy),
            (Err(error), None) => Err(Failure::Body(error)),
            (Ok(Err(rejection)), None) => Err(Failure::Rejected(rejection)),
            (Ok(Ok(rejected)), None) => match storing.store(&mut lines) {
                Err(refused) => Err(Failure::Refused(refused)),
                Ok(()) => Ok(rejected),
            },
        };
        let stored = storing.stored;
        match read {
            Ok(rejected) => {
                if rejected.count > 0 {
                    shared
                        .partial_rejected
                        .fetch_add(rejected.count, Ordering::Relaxed);
                }
                let body = match partial {
                    true => partial_body(stored, &rejected),
                    false => ack::stored_body(stored, &self.shared.log_name),
                };
                if level == Level::Journaled {
                    output.json(202, &[("X-Ack", ack::name(level, &self.shared.view))], &body);
                } else {
                    self.intake.end_batch(begin, level, body, output);
                }
            }
            Err(failure) if stored == 0 => refuse(failure, output),
            Err(failure) => refuse_rest(failure, stored, output),
        }
        spare.give_bytes(unpacked);
        spare.give_bytes(gathered);
        spare.give_lines(lines);
    }
}

/// The answer to a batch of which nothing is stored.
fn refuse(failure: Failure, output: &mut Output) {
    match failure {
        Failure::Body(error) => error::unreadable(error, output),
        Failure::Busy => error::busy(output),
        Failure::Rejected(rejection) => error::rejected(rejection, output),
        Failure::Refused(refused) => error::refused(refused, output),
    }
}

/// The answer to a batch of which the first events are stored. It has no Retry-After: the whole sent again would store those
/// twice.
fn refuse_rest(failure: Failure, stored: usize, output: &mut Output) {
    match failure {
        Failure::Busy => Shortage::Memory.count(output),
        Failure::Refused(_) => Shortage::Journal.count(output),
        _ => {}
    }
    let (status, sentence) = match failure {
        Failure::Body(error) => error.answer(),
        Failure::Busy => (503, error::BUSY),
        Failure::Rejected(Rejection::NotUtf8) => (400, "The request body is not UTF-8."),
        Failure::Rejected(_) => (413, "The events are too large."),
        Failure::Refused(_) => (503, error::JOURNAL_FULL),
    };
    let sentence = format!("{sentence} The first {stored} valid events of the batch are stored.");
    let body = serde_json::json!({"detail": sentence, "ok": false, "stored": stored});
    output.json(status, &[], body.to_string().as_bytes());
}

/// The body of the 202 to `?partial=true`.
fn partial_body(stored: usize, Rejected { count, detail }: &Rejected) -> Vec<u8> {
    let ok = *count == 0;
    let start = format!("{{\"ok\":{ok},\"stored\":{stored},\"rejected\":{count},\"detail\":");
    [start.as_bytes(), detail, b"}"].concat()
}

/// The switch `partial`; `None` after an answer that it is none.
fn partial_of(request: &Request<'_>, output: &mut Output) -> Option<bool> {
    let Some((_, value)) = request.query_pairs().filter(|(name, _)| name == "partial").last() else {
        return Some(false);
    };
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
        _ => {
            let msg = "Input should be a valid boolean, unable to interpret input";
            error::invalid_parameter("bool_parsing", ["query", "partial"], msg, &value, None, output);
            None
        }
    }
}
