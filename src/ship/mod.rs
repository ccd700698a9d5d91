//! Shipping: the log to a stream of NATS JetStream, by a cursor, each event exactly once and in order.
//!
//! ```text
//!   log ─ cursor ─→ reader ─ messages ─→ publish ═ many under way ═→ stream metrics-<node> (3 servers)
//!    │               events, frames          ↑ acks, in order               │
//!    └ metrics.ship.json ←───────────────────┘        last message ←────────┘  asked at each connection
//! ```
//!
//! | part | job |
//! |---|---|
//! | `link` | a connection to NATS: addresses, TLS, credentials |
//! | `names` | stream, subjects, ids and the header that says where a message lies in the log |
//! | `reader` | the log cut into messages |
//! | `stream` | the stream: made, compared with the settings, asked where to go on |
//! | `publish` | what one connection does, and why nothing is lost, twice or out of order |
//! | `status` | how it is doing |
//!
//! **Owner.** A thread (`floodgate-ship`) with a runtime of its own, in the server or as `floodgate ship`. It reads files like any
//! other who tails the log, and nobody waits for it: where NATS is down, the log grows, and retention leaves what is not
//! shipped yet (`log::keeper`), up to a bound.
//!
//! **Bounds.** Messages under way: by number (of frames: 32) and 8 MiB. Beside them one message, and the cursor's memory.
//!
//! **When things fail** the connection is given up, and after a pause of 100 ms to 5 s another one is made, to any of the servers.
//! What somebody has to set right (a stream that is not as the settings say) ends the command, and is tried again
//! every 30 s in a server.

pub mod link;
pub mod names;
mod publish;
mod reader;
mod status;
mod stream;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::log::bookmark;
use crate::log::lock::{Lock, LockError};
use crate::log::segment::Family;
use link::Access;
use names::Address;
use publish::{End, Session};
pub use reader::FRAME_BYTES;
pub use status::{ShipStatus, Shipped};
pub use stream::StreamPolicy;

/// Pauses after failures: each twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pause after what somebody has to set right.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Where and how a log is shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipPolicy {
    /// Servers of NATS.
    pub access: Access,
    /// The name of the fleet.
    pub fleet: String,
    /// Whether lines are packed into frames.
    pub is_packed: bool,
    /// Messages under way at the most.
    pub inflight_max: usize,
    /// How the stream is made.
    pub stream: StreamPolicy,
}

/// Why a log is not shipped.
#[derive(Debug)]
pub enum ShipError {
    /// Another process ships it.
    Locked(LockError),
    /// Something that somebody has to set right.
    Wrong(String),
}

impl std::fmt::Display for ShipError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ShipError::Locked(LockError::Held { holder, .. }) => {
                write!(f, "another process ships this log (pid {holder})")
            }
            ShipError::Locked(error) => error.fmt(f),
            ShipError::Wrong(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ShipError {}

/// Ships a log.
pub struct Shipper {
    log: PathBuf,
    address: Address,
    policy: ShipPolicy,
    status: Arc<ShipStatus>,
    stop: watch::Receiver<bool>,
}

/// A shipper on a thread of its own.
pub struct Shipping {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Shipper {
    /// Ships the log at `log` as that of `node`, once it is run.
    pub fn new(log: &Path, node: &str, policy: ShipPolicy) -> (Shipper, watch::Sender<bool>) {
        let (sender, stop) = watch::channel(false);
        let address = Address {
            fleet: policy.fleet.clone(),
            node: node.to_owned(),
        };
        let shipper = Shipper {
            log: log.to_owned(),
            address,
            policy,
            status: Arc::default(),
            stop,
        };
        (shipper, sender)
    }

    /// How it is doing.
    pub fn status(&self) -> Arc<ShipStatus> {
        Arc::clone(&self.status)
    }

    /// Ships until it is told to stop, or, unless `is_patient`, until somebody has to set something right.
    ///
    /// # Errors
    /// [`ShipError`].
    pub fn run(&self, is_patient: bool) -> Result<(), ShipError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| ShipError::Wrong(format!("a runtime cannot be started: {error}")))?;
        let result = runtime.block_on(self.ship(is_patient));
        runtime.shutdown_background();
        result
    }

    async fn ship(&self, is_patient: bool) -> Result<(), ShipError> {
        let Some(_lock) = self.lock(is_patient).await? else {
            return Ok(());
        };
        let mut pause = PAUSES.0;
        let acknowledged = Cell::new(0);
        loop {
            let before = self.status.shipped().messages;
            let session = Session {
                log: &self.log,
                address: &self.address,
                policy: &self.policy,
                status: &self.status,
                acknowledged: &acknowledged,
                stop: self.stop.clone(),
            };
            let (why, wait) = match session.run().await {
                End::Stopped => return Ok(()),
                End::Wrong(why) if !is_patient => return Err(ShipError::Wrong(why)),
                End::Wrong(why) => (why, LONG_PAUSE),
                End::Failed(why) => (why, pause),
            };
            tracing::warn!(
                error = why,
                again_in_ms = wait.as_millis() as u64,
                "the log cannot be shipped now"
            );
            self.status.failed(&why);
            pause = match self.status.shipped().messages > before {
                true => PAUSES.0,
                false => (pause * 2).min(PAUSES.1),
            };
            if self.is_stopped_within(wait).await {
                return Ok(());
            }
        }
    }

    /// Makes sure that nobody else ships this log; `None` if it was told to stop before that was so.
    async fn lock(&self, is_patient: bool) -> Result<Option<Lock>, ShipError> {
        let place = bookmark::path(&Family::of(&self.log));
        loop {
            match Lock::acquire(&place) {
                Ok(lock) => return Ok(Some(lock)),
                Err(error) if !is_patient => return Err(ShipError::Locked(error)),
                Err(error) => {
                    let error = ShipError::Locked(error).to_string();
                    tracing::error!(error, "the log cannot be shipped now");
                    self.status.failed(&error);
                }
            }
            if self.is_stopped_within(LONG_PAUSE).await {
                return Ok(None);
            }
        }
    }

    async fn is_stopped_within(&self, time: Duration) -> bool {
        let mut stop = self.stop.clone();
        tokio::time::timeout(time, stop.wait_for(|stop| *stop))
            .await
            .is_ok()
    }
}

impl Shipping {
    /// Starts a thread that ships for as long as the server runs.
    ///
    /// # Panics
    /// If the system has no thread to give.
    pub fn start(shipper: Shipper, stop: watch::Sender<bool>) -> Shipping {
        let body = move || {
            if let Err(error) = shipper.run(true) {
                tracing::error!(%error, "the log is not shipped");
                shipper.status.failed(&error.to_string());
            }
        };
        let thread = std::thread::Builder::new()
            .name("floodgate-ship".into())
            .spawn(body);
        Shipping {
            stop,
            thread: thread.expect("a thread can be started at the start"),
        }
    }

    /// Has it settle what is under way, and waits for that.
    pub fn stop(self) {
        self.stop.send_replace(true);
        // It has told what went wrong.
        self.thread.join().ok();
    }
}
