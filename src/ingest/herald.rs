//! Waiting, and the coroutine that wakes those who wait.
//!
//! Unparking a coroutine from a thread that is not one of the runtime's workers costs an `eventfd` write each, and waking
//! the writer thread costs a system call too. Both are bundled by one coroutine, the herald:
//!
//! - the writer and the sync thread hand it all waiters of a batch and wake only the herald, which unparks the others
//!   from inside a worker, where that is a push to a local queue;
//! - a producer in a hurry asks the herald to ring the writer's bell. The herald runs behind the coroutines that are
//!   ready now, so by then they have committed too, and one write serves them all.
//!
//! # Deadlines
//!
//! The runtime's timers wake a thread for each wait that ends in time. Instead a waiter notes the tick at which it gives up,
//! and the timekeeper thread looks through the waiters ten times a second: a wait that ends in time costs two stores.
//! A deadline is therefore one or two [`TICK`]s late.
//!
//! Owner: the herald is a coroutine of its own, the timekeeper a thread of its own, from the engine's start to its end.
//! Bounds: a waiter for each frame that a connection waits for; each is in the herald's queue once for each event.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use crossbeam::queue::SegQueue;
use may::sync::Blocker;

use super::completion::{Completion, Progress};
use super::doorbell::{Doorbell, Errand};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// One who waits: a coroutine, or a thread in tests and embedders. It may wait again and again, for one thing at a time.
pub struct Waiter {
    /// What is waited for.
    pub completion: Completion,
    blocker: Blocker,
    /// The tick at which it gives up; [`NO_DEADLINE`] while it does not wait. Stored by the one who waits, loaded by the
    /// timekeeper, Relaxed: a stale value costs a tick or a look.
    deadline: AtomicU64,
}

const NO_DEADLINE: u64 = u64::MAX;

impl Waiter {
    /// Parks until `done` answers something, or until `timeout` has passed: `None` then. Only one coroutine or thread may
    /// wait on a waiter at a time.
    pub fn wait<T>(
        &self,
        herald: &Herald,
        timeout: Duration,
        mut done: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let ticks = timeout.as_nanos().div_ceil(TICK.as_nanos()) as u64;
        // The current tick is partly over.
        let deadline = herald.now() + ticks + u64::from(ticks > 0);
        self.deadline.store(deadline, Ordering::Relaxed);
        let result = loop {
            let result = done();
            // Acquire: pairs with the Release in `stop`. Nobody would wake who waits from then on.
            let over = herald.now() >= deadline || herald.stopping.load(Ordering::Acquire);
            if result.is_some() || over {
                break result;
            }
            self.blocker.park(None).ok();
            // The runtime forgets an unpark that meets a park which ends at once, because of an earlier one: it stores
            // where it should swap. So the look that follows must not be made before that store is seen.
            fence(Ordering::SeqCst);
        };
        self.deadline.store(NO_DEADLINE, Ordering::Relaxed);
        result
    }

    /// Parks until the frame has come as far as `enough` says, or until `timeout`.
    pub fn wait_for_progress(
        &self,
        herald: &Herald,
        timeout: Duration,
        enough: impl Fn(Progress) -> bool,
    ) -> (Progress, u64) {
        self.wait(herald, timeout, || {
            Some(self.completion.progress()).filter(|(progress, _)| enough(*progress))
        })
        .unwrap_or_else(|| self.completion.progress())
    }
}

/// The herald's queue and bell, and the timekeeper's clock.
pub struct Herald {
    queue: SegQueue<Arc<Waiter>>,
    /// The herald's own blocker.
    bell: Blocker,
    /// The writer's bell is to be rung.
    ring: Errand,
    doorbell: Arc<Doorbell>,
    /// Nobody will be woken any more, except those who wait now.
    stopping: AtomicBool,
    /// The herald's coroutine is to end.
    dismissed: AtomicBool,
    /// Ticks since the start: stored by the timekeeper.
    tick: AtomicU64,
    waiters: Mutex<Vec<Weak<Waiter>>>,
    timekeeper_bell: Condvar,
}

impl Herald {
    /// Starts the herald's coroutine.
    pub fn start(doorbell: Arc<Doorbell>) -> Arc<Herald> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let run = move || {
            let herald = Arc::new(Herald {
                queue: SegQueue::new(),
                bell: Blocker::new(true),
                ring: Errand::new(),
                doorbell,
                stopping: AtomicBool::new(false),
                dismissed: AtomicBool::new(false),
                tick: AtomicU64::new(0),
                waiters: Mutex::new(Vec::new()),
                timekeeper_bell: Condvar::new(),
            });
            if sender.send(Arc::clone(&herald)).is_ok() {
                herald.run();
            }
        };
        // SAFETY: the coroutine uses no thread-locals across a yield, and calls nothing that needs more than a fraction of
        // the smallest stack the runtime is configured with.
        unsafe { may::coroutine::spawn(run) };
        receiver
            .recv()
            .expect("the herald answers before it does anything else")
    }

    fn run(&self) {
        loop {
            // Acquire: pairs with `dismiss`. Looked at before the queue: who was handed over before it is still woken.
            let dismissed = self.dismissed.load(Ordering::Acquire);
            while let Some(waiter) = self.queue.pop() {
                // Pairs with the fence in `Waiter::wait`.
                fence(Ordering::SeqCst);
                waiter.blocker.unpark();
            }
            if self.ring.take() {
                self.doorbell.ring(true);
            }
            if dismissed {
                return;
            }
            // A call between the last look and here is kept by the blocker.
            self.bell.park(None).ok();
        }
    }

    /// A waiter for the calling coroutine or thread.
    pub fn waiter(&self) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            completion: Completion::new(),
            blocker: Blocker::new(true),
            deadline: AtomicU64::new(NO_DEADLINE),
        });
        self.waiters
            .lock()
            .expect("no holder of this lock panics")
            .push(Arc::downgrade(&waiter));
        waiter
    }

    /// Hands over one who is to be woken at the next [`Herald::wake`].
    pub fn enqueue(&self, waiter: Arc<Waiter>) {
        self.queue.push(waiter);
    }

    /// Wakes all who were handed over.
    pub fn wake(&self) {
        self.bell.unpark();
    }

    /// Has the writer's bell rung, urgently, behind the coroutines that are ready now.
    pub fn ring_soon(&self) {
        if self.ring.ask() {
            self.bell.unpark();
        }
    }

    fn now(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    /// The timekeeper thread's body: wakes those whose deadline has passed, and in the end all who still wait.
    pub fn keep_time(&self) {
        loop {
            let (stopping, mut looked_at) = {
                let waiters = self.waiters.lock().expect("no holder of this lock panics");
                // Acquire: pairs with the Release in `stop`.
                let awake = |_: &mut Vec<Weak<Waiter>>| !self.stopping.load(Ordering::Acquire);
                let waited = self.timekeeper_bell.wait_timeout_while(waiters, TICK, awake);
                let (mut waiters, _) = waited.expect("no holder of this lock panics");
                // Taken out while they are looked at, so that connections do not wait for the lock meanwhile.
                (
                    self.stopping.load(Ordering::Acquire),
                    std::mem::take(&mut *waiters),
                )
            };
            let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
            let mut woken = false;
            looked_at.retain(|waiter| {
                let waiter = waiter.upgrade();
                if let Some(waiter) = &waiter {
                    let deadline = waiter.deadline.load(Ordering::Relaxed);
                    if deadline <= now || (stopping && deadline != NO_DEADLINE) {
                        self.enqueue(Arc::clone(waiter));
                        woken = true;
                    }
                }
                waiter.is_some()
            });
            if woken {
                self.wake();
            }
            if stopping {
                return;
            }
            self.waiters
                .lock()
                .expect("no holder of this lock panics")
                .append(&mut looked_at);
        }
    }

    /// Whether all waits have been ended.
    pub fn is_stopping(&self) -> bool {
        // Acquire: pairs with the Release in `stop`.
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends all waits, then the timekeeper thread. The herald goes on until [`Herald::dismiss`].
    pub fn stop(&self) {
        // Under the lock, so that the timekeeper is either before its look at the flag or asleep.
        let _waiters = self.waiters.lock().expect("no holder of this lock panics");
        self.stopping.store(true, Ordering::Release);
        self.timekeeper_bell.notify_one();
    }

    /// Ends the herald's coroutine, once it has woken all who were handed over.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.bell.unpark();
    }
}
