//! What the integration tests share: the server as a child process, a raw HTTP client, load with a
//! ledger of what was acknowledged, and readers of the log.
//!
//! Nothing here links against the engine: the tests know it by its sockets, files and exit codes only.

// Each test file compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

pub mod detour;
pub mod fake;
pub mod http;
pub mod json;
pub mod load;
pub mod log;
pub mod loop_disk;
pub mod metrics;
pub mod moto;
pub mod nats;
pub mod oracle;
pub mod sealed;
pub mod server;
pub mod sse;
pub mod vectors;

use std::time::{Duration, Instant};

/// How long anything may take before a test calls it hung. Generous on purpose: it is no measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at something that is awaited.
const POLL_PAUSE: Duration = Duration::from_millis(2);

/// Calls `look` until it yields something; panics with `what` when that does not happen.
pub fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(POLL_PAUSE);
    }
}

/// Calls `look` until it is true; panics with `what` when that does not happen.
pub fn await_true(what: &str, mut look: impl FnMut() -> bool) {
    await_some(what, || look().then_some(()));
}

/// A xorshift generator: the same seed plays the same game again.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for `seed`, which may be zero.
    pub fn new(seed: u64) -> Self {
        // Spread small seeds over the state, which must not be zero.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 to `bound - 1`.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
