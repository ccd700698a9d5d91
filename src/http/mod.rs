//! HTTP/1.1 on coroutines: connections, requests, bodies, answers. Knows nothing of events.
//!
//! ```text
//! listener → acceptor → connection ─ input ─→ head, body ─→ Service::call ─┐
//!                            └──── one write ←─ output ←─ Service::settle ←┘
//! ```
//!
//! **Owner.** One coroutine accepts, and each connection has one that owns its socket, its buffers and its
//! [`Service`]. They share a flag (stopping) and the register of wakers, which is locked at connect, at
//! disconnect and when stopping. A coroutine's stack has a fixed 128 KiB: nothing here recurses on input, and
//! services must not either, nor block the thread, nor rely on thread-locals across a call that parks.
//!
//! **Pipelining.** The connection takes every complete request out of its input and calls the service for
//! each; when there is no further one it calls [`Service::settle`] and writes all answers at once. A service
//! may therefore share work among a burst (one commit, one flush) and owe the answers until then.
//!
//! **Invariants**
//! - Answers leave in the order of their requests, one for each; a request that the service leaves without
//!   one gets a 500.
//! - No answer leaves unless `settle` has run after the call that gave it.
//! - What was answered does not wait for input: before every read that may park, the output has left.
//! - A request is taken only when it has one meaning (`docs/HTTP.md` has the table). One whose head or framing can
//!   be read in two ways is answered and ends the connection, as nobody knows where the next request begins: no byte
//!   of a body is ever read as a request.
//! - A read that came back short is not followed by another before an event; after a hang-up the socket is
//!   read to its end, for which the edge-triggered registration gives no further event.
//! - A panic of a service ends its connection and nothing else.
//!
//! **Bounds.** Connections and head size: [`Limits`]; headers: 128; target: 8 KiB; chunk extensions and trailer fields
//! of a body: 16 KiB each. Input buffer: 8 to 64 KiB, larger bodies
//! pass through it in pieces, and how much of one is kept is the service's decision ([`Body::decoded`]'s
//! limit). Output: flushed at 64 KiB; one answer may be larger, or streamed in chunks of 32 KiB. An idle
//! connection keeps no more than 64 KiB of each. A steady keep-alive connection allocates nothing.
//!
//! **When full.** A surplus connection gets a 503 and is closed. Without descriptors or memory the acceptor
//! rests for 100 ms at a time; waiting peers stay in the listen queue.
//!
//! **When the peer is slow.** Writing parks the coroutine, and no further input is read: memory does not grow.
//! There are no time limits yet: a peer that stops in the middle of a request, or does not read, holds its
//! connection until it goes away. [`Handle::join`] gives up on those.
//!
//! A connection that ends while its peer may still be sending (a head that is no request, a large body nobody
//! reads) throws input away for up to 2 s and 16 MiB, so that a reset does not overtake the last answer.
//!
//! **When stopping.** The listen queue is emptied and closed; idle connections end, requests that have begun
//! are answered with `Connection: close`.

mod body;
mod chunked;
mod coding;
mod connection;
mod control;
mod date;
#[cfg(any(test, fuzzing))]
mod framing_tests;
mod output;
mod query;
mod request;
mod server;
mod socket;
mod status;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod wire;

use std::net::SocketAddr;

pub use body::{Body, BodyError};
pub use coding::Decoded;
pub use output::{JSON, Output, OwedSlot, Prepared};
pub use query::QueryPairs;
pub use request::Request;
pub use server::{Handle, serve};
pub use stream::{Produce, StreamWriter};

/// What the fuzz targets play connections with.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use super::framing_tests::{Trace, play, serve};
}

/// What answers the requests of one connection, one after the other.
pub trait Service: Send + 'static {
    /// Handles one request: gives its answer to `output`, or owes it until `settle`. Reading a body that is
    /// on its way parks the coroutine.
    fn call(&mut self, request: &mut Request<'_>, output: &mut Output);

    /// Called before answers leave: at the end of a pipelined burst and before anything that may wait for the
    /// peer. May park the coroutine. Owed answers are handed in now, in the order of their requests.
    fn settle(&mut self, output: &mut Output) {
        let _ = output;
    }
}

/// Makes the service of each connection.
pub trait MakeService: Send + Sync + 'static {
    /// What is made.
    type Service: Service;

    /// The service of a connection from `peer`; called on the connection's coroutine.
    fn make(&self, peer: SocketAddr) -> Self::Service;
}

/// Bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request head, request line included, in bytes; a longer one is a 431.
    pub head_bytes_max: usize,
    /// Most connections at a time; a surplus one is a 503.
    pub connections_max: usize,
}

impl Limits {
    /// What common servers and browsers agree on: cookies fit, abuse does not.
    pub const HEAD_BYTES_MAX: usize = 16 * 1024;
    /// Each connection has a stack of 128 KiB of address space, of which some 12 KiB are used, and 8 KiB of
    /// buffers; 10,000 are some 200 MiB, and two thirds of the mappings Linux allows a process are left.
    pub const CONNECTIONS_MAX: usize = 10_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: Self::HEAD_BYTES_MAX,
            connections_max: Self::CONNECTIONS_MAX,
        }
    }
}
