//! What the reads have in common: who is sent to a thread, and how what it brings is answered.

use super::refusal::Shortage;
use super::{Session, Shared, error};
use crate::http::{JSON, Output};
use crate::ingest::View;
use crate::query::Late;
use crate::query::readers::{Lane, Limit, Unread};

/// Reads of each kind that may wait for a thread; each is a parked connection.
pub const QUEUE_MAX: usize = 128;
/// An answer longer than this is streamed from where it is instead of being copied into the connection's output.
const STREAM_FROM_BYTES: usize = 64 << 10;

impl Session {
    /// Has what was acknowledged before be seen by the read that follows, one's own writes of this very burst included. Whether
    /// there can be one; an answer has been given where not.
    pub(super) fn is_readable(&mut self, output: &mut Output) -> bool {
        self.intake.commit_burst();
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
    /// Has a thread read, and answers with what it brings.
    pub(super) fn read(
        &self,
        lane: Lane,
        output: &mut Output,
        work: impl FnOnce(&View, &Limit) -> Result<Vec<u8>, Late> + Send + 'static,
    ) {
        let view = self.view.clone();
        let read = self
            .readers
            .run(lane, self.query_timeout, move |limit| work(&view, limit));
        match read {
            Ok(Ok(body)) => answer(body, output),
            Ok(Err(Late)) | Err(Unread::Late) => {
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
            Err(Unread::Failed) => output.detail(500, &[], "Internal server error."),
        }
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
