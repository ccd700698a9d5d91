//! The atomics, cells and parking that the protocols of this room are built from.
//!
//! `tests/loom.rs` compiles the protocol files against loom's versions of the same names.

pub use crossbeam::queue::ArrayQueue;
pub use std::sync::Mutex;
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
pub use std::thread::{Thread, current, park};

/// Parks the calling thread until it is unparked, for `timeout` at most, or for no reason at all.
pub use std::thread::park_timeout;
