//! What a worker is told, and what it tells.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::ledger::{Ledger, Numbers};
use super::pacing::Schedule;
use super::plan::Shape;
use super::tally::Tally;
use super::wire::Secure;

/// What all workers of a run know.
pub struct Shared<'r> {
    /// Where to connect.
    pub address: SocketAddr,
    /// How, if with TLS.
    pub secure: Option<&'r Secure>,
    /// What is sent at a time.
    pub shape: Shape,
    /// How long load is made before anything counts.
    pub warmup: Duration,
    /// When sending ends, the warm-up included; never by the clock, if there is none.
    pub sending: Option<Duration>,
    /// How long connecting or answers may take.
    pub timeout: Duration,
    /// Somebody wants the run to end.
    pub stop: &'r AtomicBool,
    /// Nothing gets through any more.
    pub given_up: &'r AtomicBool,
    /// All workers and the main thread begin together.
    pub start: &'r Barrier,
}

impl Shared<'_> {
    /// Whether the run is to end before its time.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.given_up.load(Ordering::Relaxed)
    }
}

/// What a worker tells the main thread.
pub struct Update {
    /// Which worker.
    pub worker: usize,
    /// The second that is over, counted from the end of the warm-up.
    pub second: u64,
    /// What was counted in it.
    pub tally: Tally,
}

/// What a worker is told besides.
pub struct Part {
    /// Its index.
    pub worker: usize,
    /// Its connections.
    pub connections: usize,
    /// Events it may send, if that is bounded.
    pub budget: Option<u64>,
    /// When its bursts are due; `None` in a closed loop.
    pub schedule: Option<Schedule>,
    /// Numbers for its events.
    pub numbers: Numbers,
    /// What became of them, if anybody asks.
    pub ledger: Option<Ledger>,
}

/// What is left of a worker.
pub struct Done {
    /// What was counted since the last update.
    pub last: Update,
    /// What became of its events.
    pub ledger: Option<Ledger>,
    /// Its numbers.
    pub numbers: Numbers,
    /// When it ended: the last answer, or the end of sending if that is later.
    pub ended: Duration,
}
