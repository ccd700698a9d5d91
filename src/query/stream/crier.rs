//! Criers: coroutines that give out turns, some at a time, and let everybody else have a turn between.
//!
//! A worker of the runtime runs all coroutines that are ready, and those that these make ready, before it looks at its sockets
//! again. A thousand subscribers, each of whom wakes the next, would keep it from them for as long as there is something to
//! send, and a request that comes meanwhile would wait for seconds. So nobody wakes the next one himself: he rings a crier, by an
//! `eventfd` among the worker's sockets. The crier is woken when the worker looks at them, behind all requests that
//! have come by then, and wakes [`TURNS_A_CRY`] subscribers. That is also why waking costs a system call for as many of
//! them, whoever rings, and not one for each.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use may::io::{CoIo, WaitIo};
use rustix::event::{EventfdFlags, eventfd};

use super::Shared;

/// Subscribers that are woken at a time: a tenth of a millisecond of sending before the next look at the sockets.
pub(super) const TURNS_A_CRY: usize = 4;

/// What rings a crier.
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> io::Result<Bell> {
        Ok(Bell(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// From any thread or coroutine. The descriptor is watched for edges, of which each ring is one: nobody reads it.
    pub fn ring(&self) {
        let rung = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        debug_assert_eq!(rung, Ok(8), "a counter has room for more rings than there can be");
    }
}

/// Starts the crier with that number.
pub(super) fn start(shared: &Arc<Shared>, number: usize) -> io::Result<()> {
    let bell = CoIo::new(shared.bells[number].0.try_clone()?).map_err(io::Error::from)?;
    let shared = Arc::clone(shared);
    let run = move || {
        while !shared.is_stopping() {
            bell.wait_io();
            let wakes = shared.change(|state| state.cry(number));
            wakes.iter().for_each(|wake| wake());
        }
        // The registration goes before the descriptor: by then its number could be another's.
        drop(bell.into_inner());
    };
    may::go!(run);
    Ok(())
}
