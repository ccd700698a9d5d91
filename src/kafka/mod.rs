//! Shipping to Kafka: the log to a topic, by a cursor, in order for each visitor. Only with the cargo feature `kafka`.
//!
//! ```text
//! log ─ cursor ─→ session ─ records, many under way ─→ librdkafka (idempotent, acks=all) ─→ topic
//!  │                                                        │
//!  └ metrics.ship.json ←── everything before is delivered ──┘
//! ```
//!
//! A record is a line without its newline. Its key is the visitor's id, so that a visitor's events are in one partition, in
//! their order; its headers say whose log it is from and where it begins there (`floodgate-node`, `floodgate-position`).
//!
//! **What is promised.** Each event at least once, and within a partition in the log's order. As long as a producer lives it
//! sees to it that nothing is there twice, whatever brokers and connections do (it is idempotent). What was delivered and
//! not yet bookmarked when a process is killed (half a second's worth) is sent again by the next: who counts drops
//! a record whose position is not behind the last one that it has from that node in that partition.
//!
//! **Owner.** The thread that calls [`KafkaShipper::run`]; librdkafka has threads of its own. It reads files like any other who
//! tails the log, and nobody waits for it.
//!
//! **Bounds.** [`INFLIGHT_MAX`] records and [`INFLIGHT_BYTES`] of them under way, and a cursor's memory.
//!
//! **When Kafka is down** librdkafka tries again for as long as it takes, and the log grows. A producer that has given up, as the
//! brokers have lost what it goes by, is made anew from the bookmark on. What somebody has to set right (no such topic, no
//! right to write to it) ends the command.

mod properties;
mod session;
mod url;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use properties::Properties;
pub use url::KafkaUrl;

use crate::log::bookmark;
use crate::log::lock::{Lock, LockError};
use crate::log::segment::Family;
use session::{End, Session};

/// Records under way at the most. Kafka answers a batch in some milliseconds: more would only wait.
pub const INFLIGHT_MAX: usize = 50_000;
/// Their bytes.
pub const INFLIGHT_BYTES: usize = 32 << 20;
/// Pauses before a producer is made anew: each twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a pause looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Why a log is not shipped.
#[derive(Debug)]
pub enum KafkaError {
    /// Another process ships it.
    Locked(LockError),
    /// Something that somebody has to set right.
    Wrong(String),
}

impl std::fmt::Display for KafkaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KafkaError::Locked(LockError::Held { holder, .. }) => {
                write!(f, "another process ships this log (pid {holder})")
            }
            KafkaError::Locked(error) => error.fmt(f),
            KafkaError::Wrong(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for KafkaError {}

/// Ships a log.
pub struct KafkaShipper {
    log: PathBuf,
    node: String,
    url: KafkaUrl,
    properties: Properties,
    /// Stored once, by whoever has it end.
    stop: AtomicBool,
    /// Records that were delivered. Relaxed: a count.
    delivered: AtomicU64,
}

impl KafkaShipper {
    /// Ships the log at `log` as that of `node`, once it is run.
    pub fn new(log: &Path, node: &str, url: KafkaUrl, properties: Properties) -> KafkaShipper {
        KafkaShipper {
            log: log.to_owned(),
            node: node.to_owned(),
            url,
            properties,
            stop: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
        }
    }

    /// Has [`KafkaShipper::run`] settle what is under way and return.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Records that were delivered so far.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Ships until it is told to stop, or somebody has to set something right.
    ///
    /// # Errors
    /// [`KafkaError`].
    pub fn run(&self) -> Result<(), KafkaError> {
        let _lock = Lock::acquire(&bookmark::path(&Family::of(&self.log))).map_err(KafkaError::Locked)?;
        let mut pause = PAUSES.0;
        loop {
            let before = self.delivered();
            let why = match Session::begin(self).and_then(Session::work) {
                Ok(()) => return Ok(()),
                Err(End::Wrong(why)) => return Err(KafkaError::Wrong(why)),
                Err(End::Failed(why)) => why,
            };
            if self.delivered() > before {
                pause = PAUSES.0;
            }
            tracing::warn!(
                error = why,
                again_in_ms = pause.as_millis() as u64,
                "the log cannot be shipped now"
            );
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if self.is_stopped() {
                    return Ok(());
                }
                std::thread::sleep(LOOK_UP);
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
