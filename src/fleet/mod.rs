//! The view of a fleet: a node that takes no events, but has those of all nodes, out of the streams that they ship their logs to.
//!
//! ```text
//!   stream metrics-eu-1 ─┐ pull, durable consumer each
//!   stream metrics-eu-2 ─┼─→ take: each line once ─→ lines with "node","at" ─→ journal → writer → log → snapshot, series, stream
//!   stream metrics-us-1 ─┘            ↑ acknowledged when the log has them ────────────────┘
//! ```
//!
//! What comes in goes through the same engine as what is sent to any node, so the same reads answer from the same files. A line gets
//! two members more, at its end: `"node":"eu-1"`, and `"at":"<life>:<file>:<byte>"`, the place behind it in that node's log.
//!
//! # Why each line is taken once
//!
//! The log itself says what was taken: of each node the last `at`. A line is taken if its place is behind that, and nothing else is
//! written down that could disagree with the log. A message that comes again, after a kill, a lost acknowledgement or a new
//! leader, brings lines at places that are behind already, and changes nothing. A message is acknowledged to the stream only
//! when its lines are in the log (`written`), or on the disk (`METRICS_ACK=synced`); what was not acknowledged comes again. Where the
//! log keeps us waiting, what was committed is waited for again before anything else is acknowledged; where it may have been lost,
//! the log is asked once more what it has.
//!
//! A message says where the one before it ended. If that is further than what was taken, messages are missing: they are taken out of
//! the stream itself, as is what comes before the first message of a node, and what a consumer has left out at the end. Only what
//! the stream does not have any more is given up, loudly.
//!
//! # Owner, bounds
//!
//! A thread (`floodgate-fleet`) with a runtime of its own. Of each node 64 messages are on their way; nodes: 1,000. Lines are committed
//! in frames of some 128 KiB, and wait for room in the journal like any other's.

mod consume;
mod state;
mod status;
mod take;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::ingest::{Entrance, Level, View};
use crate::ship::link::Access;
use consume::{End, Session};
use state::State;
pub use status::{FleetStatus, NodeStatus, Taken};
use take::Taker;

/// Pauses after failures: each twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Where the logs of a fleet come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetPolicy {
    /// Servers of NATS.
    pub access: Access,
    /// The name of the fleet.
    pub fleet: String,
}

/// What reads the streams of a fleet.
pub struct Fleet {
    /// The live file of this node's own log.
    log: PathBuf,
    /// The name of this node: its consumers are called after it.
    node: String,
    policy: FleetPolicy,
    entrance: Entrance,
    view: View,
    level: Level,
    status: Arc<FleetStatus>,
    stop: watch::Receiver<bool>,
}

/// It, on a thread of its own.
pub struct Running {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Fleet {
    /// Reads the streams into the engine behind `entrance`, whose log is at `log`, once it is started. Messages are acknowledged
    /// when their lines have reached `level`, and not before they are in the log.
    pub fn new(
        log: &Path,
        node: &str,
        policy: FleetPolicy,
        (entrance, view): (Entrance, View),
        level: Level,
    ) -> (Fleet, watch::Sender<bool>) {
        let (sender, stop) = watch::channel(false);
        let fleet = Fleet {
            log: log.to_owned(),
            node: node.to_owned(),
            policy,
            entrance,
            view,
            level: level.max(Level::Written),
            status: Arc::default(),
            stop,
        };
        (fleet, sender)
    }

    /// How it is doing.
    pub fn status(&self) -> Arc<FleetStatus> {
        Arc::clone(&self.status)
    }

    /// Starts the thread.
    ///
    /// # Panics
    /// If the system has none to give.
    pub fn start(self, stop: watch::Sender<bool>) -> Running {
        let thread = std::thread::Builder::new()
            .name("floodgate-fleet".into())
            .spawn(move || self.run());
        Running {
            stop,
            thread: thread.expect("a thread can be started at the start"),
        }
    }

    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the fleet cannot be read: a runtime cannot be started");
                return self.status.failed(&error.to_string());
            }
        };
        runtime.block_on(self.read());
        runtime.shutdown_background();
    }

    async fn read(&self) {
        let mut pause = PAUSES.0;
        let mut taker = None;
        while !*self.stop.borrow() {
            let before = self.status.taken().messages;
            let why = match self.session(&mut taker).await {
                End::Stopped => break,
                End::Failed(why) => why,
            };
            tracing::warn!(
                error = why,
                again_in_ms = pause.as_millis() as u64,
                "the fleet cannot be read now"
            );
            self.status.failed(&why);
            let mut stop = self.stop.clone();
            tokio::time::timeout(pause, stop.wait_for(|stop| *stop))
                .await
                .ok();
            pause = match self.status.taken().messages > before {
                true => PAUSES.0,
                false => (pause * 2).min(PAUSES.1),
            };
        }
        if let Some(taker) = &mut taker {
            taker.finish();
        }
    }

    async fn session(&self, taker: &mut Option<Taker>) -> End {
        if self.level == Level::Synced && self.view.status().is_sync_failing() {
            return End::Failed("the log cannot be synced".into());
        }
        taker.take_if(|taker| taker.is_in_doubt());
        if taker.is_none() {
            let state = match State::recover(&self.log) {
                Ok(state) => state,
                Err(error) => return End::Failed(format!("it cannot be told what was taken: {error}")),
            };
            // What the log has can be looked at by node also while NATS is away.
            for (node, mark) in state.nodes() {
                self.status.node(node, Some(mark.at.to_string()), 0);
            }
            *taker = Some(Taker::new(
                state,
                self.entrance.producer(),
                self.view.clone(),
                self.level,
                Arc::clone(&self.status),
            ));
        }
        let taker = taker.as_mut().expect("it was made above");
        let session = Session {
            policy: &self.policy,
            consumer: format!("view-{}", self.node),
            status: &self.status,
            stop: self.stop.clone(),
        };
        session.run(taker).await
    }
}

impl Running {
    /// Has it take what has come, and waits for that.
    pub fn stop(self) {
        self.stop.send_replace(true);
        // It has told what went wrong.
        self.thread.join().ok();
    }
}
