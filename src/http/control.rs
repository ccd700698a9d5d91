//! What the acceptor, the connections and the handle share: the limits, the word to stop, and the register of those who
//! are to be woken by it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use may::io::WaitIoWaker;

use super::Limits;

/// What the acceptor, the connections and the handle share.
#[derive(Debug)]
pub(super) struct Control {
    limits: Limits,
    /// Written once, by `Handle::stop_accepting`; read by connections between bursts and by the acceptor.
    stopping: AtomicBool,
    /// Locked at connect, at disconnect and when stopping, never across a yield.
    register: Mutex<Register>,
    /// The last one has left the register.
    pub(super) ended: Condvar,
}

impl Control {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            stopping: AtomicBool::new(false),
            register: Mutex::new(Register::default()),
            ended: Condvar::new(),
        })
    }

    /// Everybody is to come to an end, and is woken to see that.
    pub(super) fn stop(&self) {
        // Release: whoever sees the flag is not made to see anything else; the register's lock orders this
        // store before the wake-ups and before every later entry.
        self.stopping.store(true, Ordering::Release);
        for waker in self.register().wakers.iter().flatten() {
            waker.wakeup();
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn register(&self) -> MutexGuard<'_, Register> {
        // Nothing that can panic happens under the lock.
        self.register
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Who is to be woken when the server stops.
#[derive(Default)]
pub(super) struct Register {
    pub(super) wakers: Vec<Option<WaitIoWaker>>,
    /// Indices of `wakers` that are `None`.
    free: Vec<usize>,
    /// Connections, and with the acceptor.
    pub(super) connections: usize,
    pub(super) entered: usize,
}

impl std::fmt::Debug for Register {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Register")
            .field("entered", &self.entered)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Acceptor,
    Connection,
}

/// A place in the register, left on drop.
pub(super) struct Slot {
    control: Arc<Control>,
    index: usize,
    kind: Kind,
}

impl Slot {
    pub(super) fn enter(control: &Arc<Control>, waker: WaitIoWaker, kind: Kind) -> Self {
        let mut register = control.register();
        let index = match register.free.pop() {
            Some(index) => {
                register.wakers[index] = Some(waker);
                index
            }
            None => {
                register.wakers.push(Some(waker));
                register.wakers.len() - 1
            }
        };
        register.entered += 1;
        register.connections += usize::from(kind == Kind::Connection);
        drop(register);
        Self {
            control: control.clone(),
            index,
            kind,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut register = self.control.register();
        register.wakers[self.index] = None;
        register.free.push(self.index);
        register.entered -= 1;
        register.connections -= usize::from(self.kind == Kind::Connection);
        if register.entered == 0 {
            self.control.ended.notify_all();
        }
    }
}
