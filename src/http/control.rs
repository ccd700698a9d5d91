//! What the acceptor, the connections and the handle share: the limits, the word to stop, the clock, and the register of
//! those who are to be woken when the server stops or their deadline has passed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use may::io::WaitIoWaker;

use super::Limits;
use super::deadline::{Clock, Timeouts, Watch, Watched};
use super::pool::Pool;
use super::stack;
use super::traffic::Traffic;

/// What the acceptor, the connections and the handle share.
#[derive(Debug)]
pub(super) struct Control {
    limits: Limits,
    timeouts: Timeouts,
    /// The patrol's.
    pub(super) clock: Clock,
    pub(super) traffic: Arc<Traffic>,
    /// Input buffers of connections that are at rest.
    pub(super) pool: Pool,
    /// How far down a coroutine's stack goes for certain.
    pub(super) stack_bytes: Option<usize>,
    /// Written once, by `Handle::stop_accepting`; read by connections between bursts and by the acceptor.
    stopping: AtomicBool,
    /// Locked at connect, at disconnect, when stopping, and by the patrol for a part of it at a time; never across a
    /// yield.
    register: Mutex<Register>,
    /// The last one has left the register, or the patrol has ended.
    pub(super) ended: Condvar,
}

impl Control {
    pub(super) fn new(limits: Limits, traffic: Arc<Traffic>) -> Arc<Self> {
        Arc::new(Self {
            timeouts: Timeouts::new(&limits),
            clock: Clock::default(),
            traffic,
            pool: Pool::new(),
            stack_bytes: stack::measure(),
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
        for watched in self.register().slots.iter().flatten() {
            watched.wake();
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
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

/// Who is to be woken when the server stops or a deadline has passed.
#[derive(Default)]
pub(super) struct Register {
    pub(super) slots: Vec<Option<Arc<Watched>>>,
    /// Indices of `slots` that are `None`.
    free: Vec<usize>,
    /// Connections, and with the acceptor.
    pub(super) connections: usize,
    pub(super) entered: usize,
    /// The patrol has begun and not ended.
    pub(super) is_patrolled: bool,
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
    watch: Watch,
    index: usize,
    kind: Kind,
}

impl Slot {
    pub(super) fn enter(control: &Arc<Control>, waker: WaitIoWaker, kind: Kind) -> Self {
        let watched = Watched::new(waker);
        let entry = Some(watched.clone());
        let mut register = control.register();
        let index = match register.free.pop() {
            Some(index) => {
                register.slots[index] = entry;
                index
            }
            None => {
                register.slots.push(entry);
                register.slots.len() - 1
            }
        };
        register.entered += 1;
        register.connections += usize::from(kind == Kind::Connection);
        drop(register);
        if kind == Kind::Connection {
            control.traffic.connected();
        }
        let control = control.clone();
        Self {
            watch: Watch {
                control,
                watched,
                lane: 0,
            },
            index,
            kind,
        }
    }

    /// The deadline of whoever has this place, and where its traffic is counted.
    pub(super) fn watch(&self, lane: usize) -> Watch {
        Watch {
            lane,
            ..self.watch.clone()
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let control = &self.watch.control;
        if self.kind == Kind::Connection {
            control.traffic.disconnected();
        }
        let mut register = control.register();
        register.slots[self.index] = None;
        register.free.push(self.index);
        register.entered -= 1;
        register.connections -= usize::from(self.kind == Kind::Connection);
        if register.entered == 0 {
            control.ended.notify_all();
        }
    }
}
