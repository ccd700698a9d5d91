//! The coroutine that wakes waiting coroutines.
//!
//! Unparking a coroutine from a thread that is not one of the runtime's workers costs an `eventfd` write each. So the
//! writer and the sync thread hand all waiters of a batch to one coroutine, the herald, and wake only that: it unparks the
//! others from inside a worker, where that is a push to a local queue.
//!
//! Owner: the herald is a coroutine of its own, from the engine's start to its end. Its queue is bounded by the number of
//! coroutines that can wait, each at most once at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::SegQueue;
use may::sync::Blocker;

use super::completion::{Completion, Progress};

/// One who waits: a coroutine, or a thread in tests and embedders.
pub struct Waiter {
    /// What is waited for.
    pub completion: Completion,
    blocker: Blocker,
}

impl Waiter {
    /// A waiter for the calling coroutine or thread, which must be the one to call [`Waiter::park`].
    pub fn new() -> Arc<Waiter> {
        Arc::new(Waiter { completion: Completion::new(), blocker: Blocker::new(true) })
    }

    /// Parks until unparked, or until `deadline`: `false` if that has passed. May return early.
    pub fn park(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        !left.is_zero() && {
            self.blocker.park(Some(left.max(Duration::from_millis(1)))).ok();
            true
        }
    }

    /// Parks until the frame has come as far as `enough` says, or until `deadline`.
    pub fn wait(&self, deadline: Instant, enough: impl Fn(Progress) -> bool) -> (Progress, u64) {
        loop {
            let (progress, sequence) = self.completion.progress();
            if enough(progress) || !self.park(deadline) {
                return (progress, sequence);
            }
        }
    }
}

/// The herald's queue and bell.
pub struct Herald {
    queue: SegQueue<Arc<Waiter>>,
    /// The herald's own blocker.
    bell: Blocker,
    stopping: AtomicBool,
}

impl Herald {
    /// Starts the herald's coroutine.
    pub fn start() -> Arc<Herald> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let run = move || {
            let bell = Blocker::new(true);
            let herald =
                Arc::new(Herald { queue: SegQueue::new(), bell, stopping: AtomicBool::new(false) });
            if sender.send(Arc::clone(&herald)).is_ok() {
                herald.run();
            }
        };
        // SAFETY: the coroutine uses no thread-locals across a yield, and calls nothing that needs more than a fraction of
        // the smallest stack the runtime is configured with.
        unsafe { may::coroutine::spawn(run) };
        receiver.recv().expect("the herald answers before it does anything else")
    }

    fn run(&self) {
        loop {
            // Acquire: pairs with `stop`. Looked at before the queue: who was handed over before the stop is still woken.
            let stopping = self.stopping.load(Ordering::Acquire);
            while let Some(waiter) = self.queue.pop() {
                waiter.blocker.unpark();
            }
            if stopping {
                return;
            }
            // A ring between the last pop and here is kept by the blocker.
            self.bell.park(None).ok();
        }
    }

    /// Hands over one who is to be woken at the next [`Herald::wake`].
    pub fn enqueue(&self, waiter: Arc<Waiter>) {
        self.queue.push(waiter);
    }

    /// Wakes all who were handed over.
    pub fn wake(&self) {
        self.bell.unpark();
    }

    /// Ends the herald's coroutine.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.bell.unpark();
    }
}
