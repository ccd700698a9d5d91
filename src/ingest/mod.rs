//! From validated lines to the log: the journal, the ring, the writer thread, acknowledgements and counts.
//!
//! ```text
//! connection's coroutine                       writer thread             sync thread
//! ──────────────────────                       ─────────────             ───────────
//! Producer::reserve  blocks from the free list
//! Producer::commit   lines → blocks, header,   ring → places → writev
//!                    state: COMMITTED          → counts, window
//!                    push into the ring        → blocks freed ──────────→ fdatasync
//! Producer::join     one line into the worker's group
//! Producer::settle   the group as one commit
//! Producer::wait     (written, synced) ←────── herald ←────────────────── herald
//! ```
//!
//! # Invariants
//!
//! - A block belongs to who holds its token ([`blocks`]); a frame that is in the ring is committed ([`header`]).
//! - What is acknowledged is in the journal until it is in the log. The writer alone appends to the log, and frees a
//!   frame only after its last byte is there.
//! - Events of one producer are in the log in the order of their commits.
//!
//! # Bounds
//!
//! The journal has at most `journal_bytes_max`; the ring has a slot for each of its blocks, so a push cannot fail; a producer
//! waits for blocks and for a level as long as its caller says. Names are bounded by `names_max`, the window by
//! `ring_capacity`.
//!
//! # When it is full, when the disk fails
//!
//! Producers wait for blocks and are then refused ([`Refused::Full`]); nothing is dropped. `writer.rs` says what happens
//! while the log cannot be written, `doubt.rs` after a failed sync.
//!
//! # Coroutines and threads
//!
//! A [`Producer`] belongs to one coroutine (or thread) and parks only that. The locks in this room are held for moments,
//! never across I/O or a yield; the longest is a group's, under which a short event is read (`group.rs`).

pub mod blocks;
mod completion;
mod count;
mod counters;
mod cut;
mod doorbell;
mod doubt;
mod engine;
mod frame;
mod gathered;
mod group;
mod growth;
pub mod header;
mod herald;
pub mod journal;
pub mod latency;
mod left;
mod numbered;
mod pace;
mod preface;
mod primitives;
mod producer;
mod pulse;
mod recent;
pub mod recovery;
mod rotation;
mod seal;
mod space;
mod status;
mod sync_thread;
#[cfg(test)]
pub(crate) mod tests;
mod tip;
pub mod vitals;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::utils::CachePadded;

use crate::log::catalog::Catalog;
use crate::log::keeper::KeepPolicy;
use crate::log::keeper::KeepStatus;
pub use counters::{Counters, OTHER, ranked};
pub use cut::Cut;
pub use engine::{Engine, Entrance, OpenError, Outcome, View};
pub(crate) use herald::{Herald, Waiter};
pub use numbered::NUMBER_BYTES_MAX;
pub use producer::{Acknowledged, Commitment, Joined, NotJoined, Producer, Refused};
pub use pulse::Pulse;
pub use recent::Recent;
pub use rotation::{Period, RotationPolicy};
pub use status::Status;
pub use sync_thread::FsyncPolicy;
pub use tip::End;

/// What an acknowledgement promises; each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// In the journal: survives the process.
    Journaled,
    /// In the log: every tailer and reader can see it.
    Written,
    /// On the disk: survives power loss.
    Synced,
}

impl Level {
    /// The level's name in settings and headers.
    pub fn name(self) -> &'static str {
        match self {
            Level::Journaled => "journaled",
            Level::Written => "written",
            Level::Synced => "synced",
        }
    }

    /// The level named `name`; `queued`, the honest name of the first one without a durable journal, is it too.
    pub fn from_name(name: &str) -> Option<Level> {
        match name {
            "journaled" | "queued" => Some(Level::Journaled),
            "written" => Some(Level::Written),
            "synced" => Some(Level::Synced),
            _ => None,
        }
    }
}

/// What the engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The live file of the log.
    pub log: PathBuf,
    /// Where the journal lives.
    pub journal: journal::Place,
    /// Bound of the journal in bytes.
    pub journal_bytes_max: u64,
    /// How long it must need little before it goes back to its first chunk.
    pub journal_shrink_after: Duration,
    /// How long the writer gathers before it publishes.
    pub publish_interval: Duration,
    /// When the log is synced though nobody waits for it.
    pub fsync: FsyncPolicy,
    /// The newest bytes of the log that stay in the page cache when they are on the disk; `None` leaves that to the kernel.
    pub page_cache: Option<u64>,
    /// When the live file is sealed and another begun.
    pub rotation: RotationPolicy,
    /// Whether each line begins with its number.
    pub line_seq: bool,
    /// What is done to sealed files.
    pub keep: KeepPolicy,
    /// Lines in the recent window.
    pub ring_capacity: usize,
    /// Event names that are counted apart.
    pub names_max: usize,
}

/// What producers, the threads of this room and readers share.
struct Shared {
    config: EngineConfig,
    journal: journal::Journal,
    space: space::Space,
    ring: ArrayQueue<frame::Frame>,
    doorbell: Arc<doorbell::Doorbell>,
    herald: Arc<herald::Herald>,
    groups: group::Groups,
    growth: growth::Growth,
    /// Readers that want to see what is committed by now; popped by the writer.
    barriers: SegQueue<Arc<herald::Waiter>>,
    /// The last ticket given. Producers add to it, Relaxed: additions to one atomic have an order, and if an
    /// acknowledgement reached a client before that client's next request, it is the order of their additions.
    ticket: CachePadded<AtomicU64>,
    /// Bytes that the log ever had: stored by the writer after each publication, loaded by producers.
    published: CachePadded<AtomicU64>,
    /// Bytes in the live file: stored by the writer, loaded by readers.
    live_bytes: AtomicU64,
    /// Where the log ends, for those who follow it.
    tip: tip::Tip,
    /// The sealed files.
    catalog: Arc<Catalog>,
    /// The live file and what is counted of it. Locked by the writer for each batch, by readers for a copy.
    live: Mutex<cut::Live>,
    rotation: rotation::Rotation,
    counters: Counters,
    recent: Recent,
    status: Status,
    monitor: vitals::Monitor,
    keep: KeepStatus,
    /// Stored once by the engine's shutdown: the writer ends when the ring is empty.
    stopping: AtomicBool,
    /// Stored once by the engine's shutdown when time is up: the writer leaves what it cannot write in the journal.
    giving_up: AtomicBool,
}
