//! The growth thread: adds chunks to the journal while the log is slower than the events.
//!
//! Writing zeros and waiting for the disk is not for a coroutine, and not for the writer either. After a failure (a full
//! disk) it rests a while before the next demand is heard.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::Shared;

/// Rest after a chunk could not be added.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

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

    pub fn stop(&self) {
        *self.order.lock().expect("no holder of this lock panics") = Order::Stop;
        self.bell.notify_one();
    }

    /// The thread's body.
    pub fn run(&self, shared: &Shared) {
        let mut failing = false;
        let mut order = self.order.lock().expect("no holder of this lock panics");
        loop {
            match *order {
                Order::Stop => return,
                Order::None => order = self.bell.wait(order).expect("no holder of this lock panics"),
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
                                tracing::warn!(%error, "the journal cannot grow; events are refused once it is full");
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
