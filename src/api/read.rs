//! What the reads have in common: who is sent to a thread, and how what it brings is answered.

use super::refusal::Shortage;
use super::{Session, Shared, error};
use crate::http::{JSON, Output, Request};
use crate::ingest::View;
use crate::query::readers::{Lane, Limit, Stop, Unread};

/// Reads of each kind that may wait for a thread; each is a parked connection.
pub const QUEUE_MAX: usize = 128;
/// An answer longer than this is streamed from where it is instead of being copied into the connection's output.
const STREAM_FROM_BYTES: usize = 64 << 10;

impl Session {
    /// Has what was acknowledged before be seen by the read that follows, one's own writes of this very burst included. Whether
    /// there can be one; an answer has been given where not.
    pub(super) fn is_readable(&mut self, output: &mut Output) -> bool {
        self.intake.producer.commit_joined();
        self.intake.producer.publish(self.shared.enqueue_timeout);
        let is_recovering = self.shared.view.is_recovering();
        if is_recovering {
            Shortage::Counts.count(output);
            let sentence = "The log is still being read after the start: its totals are not known yet.";
            output.detail(503, &[error::RETRY_AFTER], sentence);
        }
        !is_recovering
    }
}

impl Shared {
    /// Has a thread read, and answers with what it brings. Work that costs more than others should wait for is begun anew
    /// where it holds up nothing quick.
    pub(super) fn read(
        &self,
        request: &Request<'_>,
        output: &mut Output,
        work: impl Fn(&View, &Limit) -> Result<Vec<u8>, Stop> + Send + Sync + 'static,
    ) {
        let (view, time) = (self.view.clone(), self.query_timeout);
        let is_gone = || request.is_peer_gone();
        let read = self
            .readers
            .run_by_cost(time, &is_gone, move |limit| work(&view, limit));
        answer_read(read, output);
    }

    /// The same for what reads whole files and takes much memory.
    pub(super) fn read_heavily(
        &self,
        request: &Request<'_>,
        output: &mut Output,
        work: impl FnOnce(&View, &Limit) -> Vec<u8> + Send + 'static,
    ) {
        let (view, time) = (self.view.clone(), self.query_timeout);
        let is_gone = || request.is_peer_gone();
        let read = self
            .readers
            .run(Lane::Heavy, time, &is_gone, move |limit| work(&view, limit));
        answer_read(read, output);
    }
}

fn answer_read(read: Result<Vec<u8>, Unread>, output: &mut Output) {
    match read {
        Ok(body) => answer(body, output),
        Err(Unread::Late) => {
            Shortage::QueryTime.count(output);
            let sentence = "The log's files could not be read in time (METRICS_QUERY_TIMEOUT). Ask for less, or try again.";
            output.detail(503, &[error::RETRY_AFTER], sentence);
        }
        Err(Unread::Busy) => {
            Shortage::Reads.count(output);
            output.detail(
                503,
                &[error::RETRY_AFTER],
                "Too many reads are waiting. Try again.",
            );
        }
        // Most have nobody who reads it; it is for the access log and the counts, and for one who has only ended his sending side.
        Err(Unread::Gone) => output.detail(
            499,
            &[],
            "The client ended its side of the connection while the log was read.",
        ),
        Err(Unread::Failed) => output.detail(500, &[], "Internal server error."),
    }
}

/// Answers with JSON.
pub fn answer(body: Vec<u8>, output: &mut Output) {
    if body.len() < STREAM_FROM_BYTES {
        output.json(200, &[], &body);
    } else {
        output.stream(
            200,
            JSON,
            &[],
            Box::new(move |to| std::io::Write::write_all(to, &body)),
        );
    }
}
