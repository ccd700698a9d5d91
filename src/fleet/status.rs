//! How a view of a fleet is doing, for metrics, health and the dashboard.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// What it says of itself. Counts are relaxed: they vouch for nothing else.
#[derive(Debug, Default)]
pub struct FleetStatus {
    events: AtomicU64,
    messages: AtomicU64,
    duplicates: AtomicU64,
    gaps: AtomicU64,
    failures: AtomicU64,
    is_connected: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<String, NodeStatus>,
    error: Option<String>,
}

/// A node whose stream is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// What it is called.
    pub name: String,
    /// Behind the last line that was taken, in that node's log.
    pub position: Option<String>,
    /// Messages in its stream that have not been given out.
    pub waiting: u64,
    /// Events of it that were taken since the start of the process.
    pub events: u64,
}

/// Counts since the start of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Events that were taken.
    pub events: u64,
    /// Messages that they came in.
    pub messages: u64,
    /// Messages of which everything had been taken before.
    pub duplicates: u64,
    /// Times that what came next was not in a stream any more.
    pub gaps: u64,
    /// Times that reading had to be begun anew.
    pub failures: u64,
}

impl State {
    /// What is known of a node.
    fn node(&mut self, name: &str) -> &mut NodeStatus {
        self.nodes.entry(name.to_owned()).or_insert_with(|| NodeStatus {
            name: name.to_owned(),
            ..NodeStatus::default()
        })
    }
}

impl FleetStatus {
    pub(super) fn took(&self, node: &str, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.lock().node(node).events += events;
    }

    pub(super) fn duplicate(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        self.is_connected.store(true, Ordering::Relaxed);
        self.lock().error = None;
    }

    pub(super) fn failed(&self, error: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.is_connected.store(false, Ordering::Relaxed);
        self.lock().error = Some(error.to_owned());
    }

    pub(super) fn node(&self, name: &str, position: Option<String>, waiting: u64) {
        let mut state = self.lock();
        let node = state.node(name);
        node.position = position;
        node.waiting = waiting;
    }

    /// What was taken.
    pub fn taken(&self) -> Taken {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Taken {
            events: load(&self.events),
            messages: load(&self.messages),
            duplicates: load(&self.duplicates),
            gaps: load(&self.gaps),
            failures: load(&self.failures),
        }
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.lock().nodes.values().cloned().collect()
    }

    /// Whether the streams can be read, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Why they cannot, if they cannot.
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
