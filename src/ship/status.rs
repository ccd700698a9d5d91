//! How shipping is doing, for metrics, health and the dashboard.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::log::cursor::Position;

/// What the shipper says of itself. Counts are relaxed: they vouch for nothing else.
#[derive(Debug)]
pub struct ShipStatus {
    events: AtomicU64,
    bytes: AtomicU64,
    messages: AtomicU64,
    failures: AtomicU64,
    missing_files: AtomicU64,
    is_connected: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Everything before is in the stream; `None` as long as the stream has not been asked.
    next: Option<Position>,
    /// When everything that the log had then was in the stream.
    caught_up: Instant,
    error: Option<String>,
}

impl Default for ShipStatus {
    fn default() -> ShipStatus {
        ShipStatus {
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            missing_files: AtomicU64::new(0),
            is_connected: AtomicBool::new(false),
            state: Mutex::new(State {
                next: None,
                caught_up: Instant::now(),
                error: None,
            }),
        }
    }
}

/// Counts since the start of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Events that the stream has acknowledged.
    pub events: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Messages that they were sent in.
    pub messages: u64,
    /// Times that shipping had to be begun anew.
    pub failures: u64,
    /// Files that were gone before they were shipped.
    pub missing_files: u64,
}

impl ShipStatus {
    pub(super) fn acknowledged(&self, events: u64, bytes: u64, next: Position) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.state().next = Some(next);
    }

    pub(super) fn begun(&self, next: Position) {
        self.is_connected.store(true, Ordering::Relaxed);
        let mut state = self.state();
        state.next = Some(next);
        state.error = None;
    }

    pub(super) fn caught_up(&self, when: Instant) {
        self.state().caught_up = when;
    }

    pub(super) fn failed(&self, error: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.is_connected.store(false, Ordering::Relaxed);
        self.state().error = Some(error.to_owned());
    }

    pub(super) fn missing(&self, files: u64) {
        self.missing_files.fetch_add(files, Ordering::Relaxed);
    }

    /// What was shipped.
    pub fn shipped(&self) -> Shipped {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Shipped {
            events: load(&self.events),
            bytes: load(&self.bytes),
            messages: load(&self.messages),
            failures: load(&self.failures),
            missing_files: load(&self.missing_files),
        }
    }

    /// Everything before is in the stream; `None` as long as that is not known.
    pub fn next(&self) -> Option<Position> {
        self.state().next
    }

    /// Whether the stream takes messages, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// How long ago all that the log had was in the stream.
    pub fn lag_seconds(&self) -> f64 {
        self.state().caught_up.elapsed().as_secs_f64()
    }

    /// Why nothing is shipped now, if nothing is.
    pub fn error(&self) -> Option<String> {
        self.state().error.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
