//! The growth thread: adds chunks to the journal while the log is slower than the events, and gives the disk back what has not
//! been needed for a while.
//!
//! A chunk is asked for when half a chunk is left, so that it is there before anybody has to wait: a disk may take tens of
//! milliseconds for it.
//!
//! Writing zeros and waiting for the disk is not for a coroutine, and not for the writer either. After a failure (a full
//! disk) it rests a while before the next demand is heard.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::Shared;
use super::journal::CHUNK_BLOCKS;

/// Rest after a chunk could not be added.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How often in a row the journal must be found to need no more than half of its first chunk before it goes back to that.
const IDLE_LOOKS: u32 = 60;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    None,
    Grow,
    Stop,
}

/// The order book of the growth thread.
pub(super) struct Growth {
    order: Mutex<Order>,
    bell: Condvar,
}

impl Growth {
    pub fn new() -> Growth {
        Growth {
            order: Mutex::new(Order::None),
            bell: Condvar::new(),
        }
    }

    /// Asks for a chunk. Asking again before it is there asks for the same one.
    pub fn demand(&self) {
        let mut order = self.order.lock().expect("no holder of this lock panics");
        if *order == Order::None {
            *order = Order::Grow;
            self.bell.notify_one();
        }
    }

    /// Asks for a chunk that will be needed if it goes on like this; if the book is in somebody's hands just now, the next one asks.
    pub fn foresee(&self) {
        if let Ok(mut order) = self.order.try_lock()
            && *order == Order::None
        {
            *order = Order::Grow;
            self.bell.notify_one();
        }
    }

    pub fn stop(&self) {
        *self.order.lock().expect("no holder of this lock panics") = Order::Stop;
        self.bell.notify_one();
    }

    /// The thread's body.
    pub fn run(&self, shared: &Shared) {
        let mut failing = false;
        let look_every = shared.config.journal_shrink_after / IDLE_LOOKS;
        let mut idle_looks = 0;
        let mut order = self.order.lock().expect("no holder of this lock panics");
        loop {
            match *order {
                Order::Stop => return,
                Order::None => {
                    let nothing = |order: &mut Order| *order == Order::None;
                    let waited = self.bell.wait_timeout_while(order, look_every, nothing);
                    let timeout;
                    (order, timeout) = waited.expect("no holder of this lock panics");
                    if timeout.timed_out() {
                        drop(order);
                        idle_looks = shared.look_at_need(idle_looks);
                        order = self.order.lock().expect("no holder of this lock panics");
                    }
                }
                Order::Grow => {
                    drop(order);
                    let result = shared.journal.grow();
                    order = self.order.lock().expect("no holder of this lock panics");
                    // A demand is met by this chunk; who still needs one asks again.
                    let mut is_met = true;
                    match result {
                        Ok(blocks) => {
                            if std::mem::take(&mut failing) {
                                shared.status.growth(Ok(()));
                            }
                            shared.space.give_back(blocks.into_iter());
                        }
                        Err(error) => {
                            if !std::mem::replace(&mut failing, true) {
                                shared.status.growth(Err(&error));
                            }
                            let rest = |order: &mut Order| *order != Order::Stop;
                            let waited = self.bell.wait_timeout_while(order, REST_AFTER_FAILURE, rest);
                            order = waited.expect("no holder of this lock panics").0;
                            // Who waits has asked and does not ask again.
                            is_met = !shared.space.is_awaited();
                        }
                    }
                    if *order == Order::Grow && is_met {
                        *order = Order::None;
                    }
                }
            }
        }
    }
}

impl Shared {
    /// Looks how much of the journal is in use, and shrinks it when it has been little for long. Answers for how many looks it
    /// has been.
    fn look_at_need(&self, idle_looks: u32) -> u32 {
        let minted = self.journal.region().minted();
        let used = minted as usize - self.space.free().min(minted as usize);
        if minted <= CHUNK_BLOCKS || used > CHUNK_BLOCKS as usize / 2 {
            return 0;
        }
        if idle_looks + 1 < IDLE_LOOKS {
            return idle_looks + 1;
        }
        // For a moment nobody finds a free block; who waits for one is woken when they are given back.
        let (left, shrunk) = self.journal.shrink(self.space.take_all());
        self.space.give_back(left.into_iter());
        match shrunk {
            Ok(true) => tracing::info!("the journal is back to its first chunk"),
            // Someone was using a block behind it.
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the journal's file cannot be made shorter"),
        }
        0
    }
}
