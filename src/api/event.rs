//! `POST /api/metrics/event`: one event.

use std::io::Read;
use std::sync::Arc;

use super::{Session, ack, error};
use crate::event::Lines;
use crate::http::{BodyError, Output, Request};
use crate::ingest::{Level, NotJoined};

/// Bytes that a stored line has beyond the body it came from and the user agent: the names of its five members, a time
/// stamp, and the rest that a body may leave to defaults. Rounded up; it only decides how much is reserved.
const LINE_OVERHEAD_BYTES: usize = 192;
/// Most bytes that one byte of a `User-Agent` header becomes in a line: `\u00xx`.
const AGENT_GROWTH: usize = 6;

/// A body of up to so many bytes is read straight into the lines that others add to as well; a longer one would keep them
/// waiting, at the worst for as long as it takes to say what is wrong with it.
const SHORT_BODY_BYTES: usize = 4 << 10;

impl Session {
    pub(super) fn event(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let Some(level) = self.shared.level_of(request, output) else {
            return;
        };
        let agent = request.header("user-agent");
        let packed = request.content_coding();
        if packed.is_none()
            && let Some(body) = request.body.in_memory()
        {
            return match body.len() <= self.shared.event_bytes_max {
                true => self.single(body, agent, level, output),
                false => error::unreadable(BodyError::TooLarge, output),
            };
        }
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let shared = Arc::clone(&self.shared);
        let held = shared.budget.hold(request.body.kept());
        let read = request
            .body
            .decoded(packed, shared.event_bytes_max, &mut self.unpacked)
            .and_then(|packed| Ok(held.metered(packed).read_to_end(&mut body)?));
        match read {
            Ok(_) => self.single(&body, agent, level, output),
            Err(_) if held.is_exhausted() => error::busy(output),
            Err(failure) => error::unreadable(failure, output),
        }
        self.body = body;
    }

    fn single(&mut self, body: &[u8], agent: Option<&[u8]>, level: Level, output: &mut Output) {
        let taken_in = if body.len() <= SHORT_BODY_BYTES {
            let at_most = body.len() + AGENT_GROWTH * agent.map_or(0, <[u8]>::len) + LINE_OVERHEAD_BYTES;
            let at_most = at_most.min(self.shared.line_bytes_max);
            let parse = |lines: &mut Lines| self.parser.single(body, agent, None, lines);
            self.intake.take_in(at_most, level, parse)
        } else {
            let mut line = self.shared.spare.lines();
            let parsed = self.parser.single(body, agent, None, &mut line);
            let bytes = line.bytes().len();
            let append = |lines: &mut Lines| parsed.map(|()| lines.append(&mut line));
            let taken_in = self.intake.take_in(bytes, level, append);
            self.shared.spare.give_lines(line);
            taken_in
        };
        let line = match taken_in {
            Ok(line) => line,
            Err(NotJoined::Refused(refused)) => return error::refused(refused, output),
            Err(NotJoined::Failed(rejection)) => return error::rejected(rejection, output),
        };
        if level == Level::Journaled {
            return output.prepared(&self.shared.stored_one);
        }
        let body = ack::stored_body(1, &self.shared.log_name);
        self.intake.owe_single(line, level, body, output);
    }
}
