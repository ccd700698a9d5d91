//! HTTP/1.1 on coroutines: connections, requests, bodies, answers. Knows nothing of events.
//!
//! ```text
//! listener → acceptor → connection ─ input ─→ head, body ─→ Service::call ─┐
//!                            └──── one write ←─ output ←─ Service::settle ←┘
//! ```
//!
//! **Owner.** Each [`Listener`] has a coroutine that accepts, and each connection has one that owns its socket (TCP, TLS or
//! Unix; the code is compiled for each), its buffers and its [`Service`]. A thread, the patrol, wakes those whose deadline
//! has passed. They share a flag (stopping), the patrol's clock and the register of wakers, which is locked at connect, at
//! disconnect, when stopping, and by the patrol. A coroutine's stack has a fixed 128 KiB: nothing here recurses on input, and
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
//! - Nothing follows what has left in part: after a write that failed or was given up the connection ends.
//! - A panic of a service ends its connection and nothing else.
//!
//! **Bounds.** Connections and head size: [`Limits`]; headers: 128; target: 8 KiB; chunk extensions and trailer fields
//! of a body: 16 KiB each. Input buffer: 8 or 64 KiB, larger bodies
//! pass through it in pieces, and how much of one is kept is the service's decision ([`Body::decoded`]'s
//! limit). Output: flushed at 64 KiB; one answer may be larger, or streamed in chunks of 32 KiB; between bursts a
//! connection keeps no more than 64 KiB of it. A steady keep-alive connection allocates nothing.
//!
//! **At rest.** A connection that waits with nothing in its input has no input buffer: it takes one from a pool when there
//! is something to read. One that has waited for a second gives back everything else too, the used part of its
//! stack included ([`Service::rest`]), and costs some 10 KiB, of which 8 are the two ends of its stack.
//! What connections have freed goes back to the kernel a second or two later, also when nothing happens any more.
//!
//! **When full.** A surplus connection gets a 503, of which [`MakeService::refused`] is told, and is closed (over TLS, which
//! would need a handshake first, it is closed without). Without descriptors or memory the acceptor rests for 100 ms at a
//! time; waiting peers stay in the listen queue.
//!
//! **When the peer is slow.** Writing parks the coroutine, and no further input is read: memory does not grow.
//! Everything that is waited for has a limit ([`Limits`]): a head, however it is dripped in; a body, by its rate, which
//! rises with what the service keeps of it, and the longest pause; the next request; a write that makes no progress. A request that has begun is answered 408, where
//! nothing was asked or the peer does not read the connection just ends. While the service works there is no limit but its own.
//!
//! A connection that ends while its peer may still be sending (a head that is no request, a large body nobody
//! reads) throws input away for up to 2 s and 16 MiB, so that a reset does not overtake the last answer.
//!
//! **When stopping.** The listen queues are emptied and closed; idle connections end, requests that have begun
//! are answered with `Connection: close`.

mod body;
mod chunked;
mod coding;
mod connection;
mod control;
mod date;
mod deadline;
#[cfg(any(test, fuzzing))]
mod framing_tests;
mod labels;
mod listener;
mod output;
mod pool;
mod purge;
mod query;
mod request;
mod server;
mod socket;
mod stack;
mod status;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod traffic;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use body::{Account, Body, BodyError, Kept};
pub use coding::Decoded;
pub use labels::{Answered, HeaderLines};
pub use listener::{Address, Listener};
pub use output::{JSON, Output, OwedSlot, Prepared};
pub use query::QueryPairs;
pub use request::Request;
pub use server::{Handle, serve};
pub use stream::{Produce, StreamWaker, StreamWriter};
pub use tls::{TlsConfig, TlsError};
pub use traffic::{KINDS_MAX, REFUSALS_MAX, Traffic};

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

    /// Called when no request has come for a while: gives back memory that waiting does not need. Must not park.
    fn rest(&mut self) {}

    /// Whether the service wants to be told of every answer that has left. Asked once.
    fn watches(&self) -> bool {
        false
    }

    /// An answer has left; in the order of the requests. Those of the connection itself, to what is no request, are told
    /// too, and are not tracked; so is the 500 after a panic of this service.
    fn answered(&mut self, answered: Answered) {
        let _ = answered;
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address and port.
    Tcp(SocketAddr),
    /// A process of this machine, through a Unix socket.
    Unix,
}

impl Peer {
    /// The address; a process behind a Unix socket has none.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            // A listener for both families spells IPv4 addresses as IPv6 ones.
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }
}

/// Makes the service of each connection.
pub trait MakeService: Send + Sync + 'static {
    /// What is made.
    type Service: Service;

    /// The service of a connection from `peer`; called on the connection's coroutine.
    fn make(&self, peer: Peer) -> Self::Service;

    /// Where the traffic is counted. Asked once.
    fn traffic(&self) -> Arc<Traffic> {
        Arc::default()
    }

    /// There was no room for a connection from `peer`, and no service was made for it: it was given this answer, or over
    /// TLS none, and closed. Called on the acceptor's coroutine; must not park.
    fn refused(&self, peer: Peer, answered: Option<Answered>) {
        let _ = (peer, answered);
    }
}

/// Bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How large a request head may be.
    pub head: HeadLimits,
    /// Most connections at a time; a surplus one is a 503.
    pub connections_max: usize,
    /// How long a head may take from its first byte, and the first one of a connection from when that was accepted.
    pub head_timeout: Duration,
    /// Bytes a second that a body comes with at the least, on average; 0 for no such limit. More are asked for where
    /// the service keeps much of it ([`Limits::KEPT_WITHIN`]).
    pub body_rate_min: u64,
    /// How long a body may stand still, and how far it may fall behind its rate.
    pub body_grace: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
}

/// Bounds of a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Longest head, request line included, in bytes, at most [`HeadLimits::BYTES_BOUND`]; a longer one is a 431.
    pub bytes_max: usize,
    /// Most headers, at most [`HeadLimits::HEADERS_BOUND`]; more are a 431.
    pub headers_max: usize,
    /// Longest request target, in bytes; a longer one is a 414.
    pub target_bytes_max: usize,
}

impl HeadLimits {
    /// What `bytes_max` may be: the head lies in the input buffer as a whole.
    pub const BYTES_BOUND: usize = wire::INPUT_BYTES_MAX;
    /// What `headers_max` may be: there is room for so many on a coroutine's stack.
    pub const HEADERS_BOUND: usize = request::HEADERS_MAX;
    /// What common servers and browsers agree on: cookies fit, abuse does not.
    pub const BYTES_MAX: usize = 16 * 1024;
    /// RFC 9112 asks for request lines of 8,000 bytes at least, and no query of ours needs more.
    pub const TARGET_BYTES_MAX: usize = 8 * 1024;
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            bytes_max: Self::BYTES_MAX,
            headers_max: Self::HEADERS_BOUND,
            target_bytes_max: Self::TARGET_BYTES_MAX,
        }
    }
}

impl Limits {
    /// Each connection has a stack of 128 KiB of address space. At rest it costs some 10 KiB of memory, at work up to 30;
    /// 10,000 are 100 to 300 MiB, and two thirds of the mappings Linux allows a process are left.
    pub const CONNECTIONS_MAX: usize = 10_000;
    /// A head is one or a few packets. Ten seconds forgive two lost ones with their doubling pauses, and give a slow-loris
    /// no more than that for each connection it opens.
    pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
    /// Below any network that still serves a browser, and yet a body of 1 MiB is through after 17 minutes at the latest.
    pub const BODY_RATE_MIN: u64 = 1024;
    /// What a service keeps of a body must be able to arrive within this time at the rate that the body has to hold.
    /// Without that a peer could have much of a large body kept for hours, for a trickle. Ten minutes are patient with
    /// slow uplinks: 64 MiB at 110 KiB a second.
    pub const KEPT_WITHIN: Duration = Duration::from_secs(600);
    /// As for a head: a train goes through a tunnel, a phone changes its cell.
    pub const BODY_GRACE: Duration = Duration::from_secs(10);
    /// What nginx has by default: above the 60 s after which common clients and proxies close themselves, so that it is
    /// mostly they who do, and no request crosses a closing.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
    /// A window that stays shut for so long belongs to a peer that is gone or does not want to read; buffers of the
    /// kernel and of ours wait behind it.
    pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            connections_max: Self::CONNECTIONS_MAX,
            head_timeout: Self::HEAD_TIMEOUT,
            body_rate_min: Self::BODY_RATE_MIN,
            body_grace: Self::BODY_GRACE,
            idle_timeout: Self::IDLE_TIMEOUT,
            write_timeout: Self::WRITE_TIMEOUT,
        }
    }
}
