//! Time limits of connections: a coarse clock, a deadline for each connection, and the patrol that wakes those whose
//! deadline has passed.
//!
//! The runtime's timers take a lock and wake a thread for each wait. Here a wait with a limit costs one load and one store:
//! the connection stores when it wants to be woken at the latest, and the patrol, one plain thread, looks over all of them
//! some times a second. It decides nothing: it wakes the coroutine, which looks at its socket first and gives up only
//! if there is still nothing. As it is awake anyway, it also has the allocator give freed memory back (`purge.rs`).
//!
//! **Clock.** The patrol stores the time whenever it goes its round; nobody else looks at a clock. A connection therefore
//! reckons from a time that is up to one round old, and adds a round: a limit is never cut short, and kept to within
//! two rounds. Times are microseconds since the server's start, so that a single byte's share of a rate can be told.
//!
//! **Owner.** The deadline is the connection's; the patrol takes one back when it calls it, so that each is called once.
//! The thread begins with the server and ends when the last connection and the acceptor have.
//!
//! **Bounds.** [`LOOKED_AT_ONCE`] connections are looked at under one lock of the register; a wake-up within costs
//! about a microsecond, so nobody who connects or leaves waits longer than a fraction of a millisecond.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use may::io::WaitIoWaker;

use super::Limits;
use super::control::Control;
use super::purge::{PURGE_INTERVAL, purge};

/// Longest time between two rounds. A round over 10,000 connections takes less than a millisecond; limits are seconds.
const ROUND_MAX: Duration = Duration::from_millis(250);
/// Shortest, for limits of fractions of a second.
const ROUND_MIN: Duration = Duration::from_millis(10);
/// How many rounds the shortest limit has at least.
const ROUNDS_IN_LIMIT: u32 = 4;
/// Connections looked at while the register is locked.
const LOOKED_AT_ONCE: usize = 128;

/// A time in microseconds since the server's start, on the patrol's clock.
pub(super) type Time = u64;

/// No deadline.
pub(super) const NEVER: Time = Time::MAX;

/// The limits as the connections reckon with them, in microseconds of the patrol's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) head: Time,
    pub(super) body_grace: Time,
    /// Bytes a second; 0 for none.
    pub(super) body_rate_min: u64,
    pub(super) idle: Time,
    pub(super) write: Time,
    round: Time,
}

impl Timeouts {
    pub(super) fn new(limits: &Limits) -> Self {
        let shortest = limits
            .head_timeout
            .min(limits.body_grace)
            .min(limits.idle_timeout)
            .min(limits.write_timeout);
        Self {
            head: micros(limits.head_timeout),
            body_grace: micros(limits.body_grace),
            body_rate_min: limits.body_rate_min,
            idle: micros(limits.idle_timeout),
            write: micros(limits.write_timeout),
            round: micros((shortest / ROUNDS_IN_LIMIT).clamp(ROUND_MIN, ROUND_MAX)),
        }
    }

    /// How long a body may keep its connection waiting before it has earned more.
    pub(super) fn body_credit_max(&self) -> i64 {
        signed(self.body_grace)
    }

    /// How much longer a body may take for `count` bytes of it that have come.
    pub(super) fn worth_of(&self, count: usize) -> Time {
        self.worth_at(self.body_rate_min, count)
    }

    /// How much longer it may take while `kept` bytes are held for it, for `count` bytes that have come of what is held:
    /// they have to come at a rate that would bring all of those in time.
    pub(super) fn worth_of_kept(&self, count: usize, kept: usize) -> Time {
        self.worth_at(kept as u64 / Limits::KEPT_WITHIN.as_secs(), count)
    }

    /// Rounded in the peer's favour.
    fn worth_at(&self, rate: u64, count: usize) -> Time {
        match rate {
            // Without a rate each byte is worth the whole grace: only standing still is limited.
            0 => self.body_grace,
            rate => (count as u64 * 1_000_000).div_ceil(rate),
        }
    }
}

pub(super) fn micros(duration: Duration) -> Time {
    duration.as_micros().try_into().unwrap_or(NEVER)
}

/// A time as a difference.
pub(super) fn signed(time: Time) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

/// What the patrol knows of a connection.
pub(super) struct Watched {
    waker: WaitIoWaker,
    /// When the connection wants to be woken, [`NEVER`] if not. Stored by the connection, and taken back by the patrol
    /// when it calls it. Relaxed: it guards no other memory, and a stale value costs a round or a look.
    deadline: AtomicU64,
}

impl Watched {
    pub(super) fn new(waker: WaitIoWaker) -> Arc<Self> {
        Arc::new(Self {
            waker,
            deadline: AtomicU64::new(NEVER),
        })
    }

    #[cfg(test)]
    pub(super) fn deadline(&self) -> Time {
        self.deadline.load(Ordering::Relaxed)
    }

    /// Wakes the coroutine from its wait for the socket, or has its next such wait return at once.
    pub(super) fn wake(&self) {
        self.waker.wakeup();
    }

    /// Wakes the coroutine if its deadline has passed.
    fn call(&self, now: Time) {
        let deadline = self.deadline.load(Ordering::Relaxed);
        // A connection that has stored another one meanwhile is not meant.
        let called = deadline <= now
            && self
                .deadline
                .compare_exchange(deadline, NEVER, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if called {
            self.wake();
        }
    }
}

/// A connection's hold on its deadline.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) control: Arc<Control>,
    pub(super) watched: Arc<Watched>,
    /// The lane of [`super::Traffic`] in which its traffic is counted.
    pub(super) lane: usize,
}

impl Watch {
    /// The patrol's clock.
    pub(super) fn now(&self) -> Time {
        self.control.clock.now()
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        self.control.timeouts()
    }

    /// When `limit` from now has passed for certain.
    pub(super) fn after(&self, limit: Time) -> Time {
        self.now()
            .saturating_add(limit)
            .saturating_add(self.timeouts().round)
    }

    /// Has the patrol wake the coroutine at `deadline`, instead of any other that was set before.
    pub(super) fn set(&self, deadline: Time) {
        self.watched.deadline.store(deadline, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Watch")
            .field("deadline", &self.watched.deadline)
            .finish_non_exhaustive()
    }
}

/// The time of the patrol's last round. Stored by the patrol, read by everybody. Relaxed: it stands for nothing but itself.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    pub(super) fn now(&self) -> Time {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, now: Time) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// Starts the patrol. Somebody must be in the register, as the thread ends when nobody is.
pub(super) fn start_patrol(control: &Arc<Control>) -> io::Result<()> {
    control.register().is_patrolled = true;
    let patrolled = control.clone();
    let thread = std::thread::Builder::new().name("floodgate-patrol".to_owned());
    let spawned = thread.spawn(move || patrol(&patrolled));
    if spawned.is_err() {
        control.register().is_patrolled = false;
    }
    spawned.map(drop)
}

fn patrol(control: &Control) {
    let started = Instant::now();
    let round = Duration::from_micros(control.timeouts().round);
    let mut purge_at = PURGE_INTERVAL;
    loop {
        let register = control.register();
        let occupied = |register: &mut super::control::Register| register.entered > 0;
        let waited = control.ended.wait_timeout_while(register, round, occupied);
        let (mut register, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if register.entered == 0 {
            register.is_patrolled = false;
            control.ended.notify_all();
            return;
        }
        drop(register);
        let now = micros(started.elapsed());
        control.clock.set(now);
        if now >= purge_at {
            purge();
            purge_at = now + PURGE_INTERVAL;
        }
        for first in (0..).step_by(LOOKED_AT_ONCE) {
            // Slots that come meanwhile are behind, or have a deadline that is far off.
            let register = control.register();
            let Some(slots) = register.slots.get(first..) else {
                break;
            };
            for watched in slots.iter().take(LOOKED_AT_ONCE).flatten() {
                watched.call(now);
            }
        }
    }
}
