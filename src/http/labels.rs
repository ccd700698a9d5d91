//! What an answer carries beside what it says: headers that its request asked for, whatever the answer is, and the
//! request's id.
//!
//! A service says these before it answers, and they are put into every answer to that request: one that is owed, one that is
//! streamed, and the 500 after a panic. A request that brings no id gets one where somebody will look for it, on an answer that
//! is not a 2xx and wherever answers are reported; it is made of a number of the process, one of the connection and one
//! of the request, so that the usual 202 costs nothing for it.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The header that names a request.
pub(super) const REQUEST_ID: &str = "X-Request-Id";

/// Ids of different starts differ by this.
static PROCESS: LazyLock<u32> = LazyLock::new(|| RandomState::new().hash_one(0) as u32);
/// Connections so far.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Header lines rendered once and added to many answers.
#[derive(Clone, Debug, Default)]
pub struct HeaderLines(Vec<u8>);

impl HeaderLines {
    /// Renders headers, in order.
    pub fn new(headers: &[(&str, &str)]) -> Self {
        let mut lines = Vec::new();
        for (name, value) in headers {
            super::output::push_header(&mut lines, name, value);
        }
        Self(lines)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The labels of one request: places in the connection's label buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Labels {
    /// Of the request, among those of its connection.
    pub(super) number: u64,
    /// Its header lines.
    pub(super) lines: (usize, usize),
    /// The value of its id, within the lines; empty when it brought none.
    pub(super) id: (usize, usize),
    /// What kind of request it is, to the service.
    pub(super) kind: u8,
    /// The service waits for the report of this answer.
    pub(super) is_tracked: bool,
}

impl Labels {
    pub(super) fn has_id(&self) -> bool {
        self.id.0 < self.id.1
    }
}

/// What makes the ids of a connection.
#[derive(Debug)]
pub(super) struct Ids {
    connection: u64,
}

impl Ids {
    pub(super) fn new() -> Self {
        // Relaxed: the number is all there is to it.
        Self {
            connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Appends the id of a request.
    pub(super) fn push(&self, number: u64, to: &mut Vec<u8>) {
        write!(to, "{:08x}-{:x}-{number:x}", *PROCESS, self.connection).expect("a Vec takes what is written");
    }
}

/// An answer that has left.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The id of its request: brought, or made.
    pub request_id: String,
    /// Its status.
    pub status: u16,
    /// Its length with its head, in bytes.
    pub bytes: u64,
    /// The service has tracked the request; otherwise it has never seen it, as its head could not be understood.
    pub is_tracked: bool,
    pub(super) number: u64,
}
