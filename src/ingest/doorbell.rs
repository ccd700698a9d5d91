//! The handshake by which producers wake the writer thread, and mostly need not.
//!
//! The writer is awake, idle (nothing to do: the next frame wakes it), or gathering (it has a frame and sleeps out the
//! publish interval: only somebody in a hurry wakes it). Producers look at one word after each push; a system call is made
//! only by the one who finds the writer asleep, so once an interval at most.
//!
//! # Why no wake-up is lost
//!
//! It is Dekker's pattern. The producer pushes, then looks at `state`; the writer sets `state`, then looks at the ring.
//! Each side puts a `SeqCst` fence between its store and its load, so at least one of them sees the other: either the
//! producer sees the writer asleep and wakes it, or the writer sees the frame and does not sleep. The same holds for
//! `urgent`. `tests/loom.rs` checks it.

use std::time::{Duration, Instant};

use super::primitives::{AtomicBool, AtomicU32, Mutex, Ordering, Thread, current, fence, park, park_timeout};

const AWAKE: u32 = 0;
const IDLE: u32 = 1;
const GATHERING: u32 = 2;

/// An errand that many ask for and one runs: however often it is asked for meanwhile, it is run once more.
pub struct Errand {
    /// Swapped to true by who asks, to false by who runs it.
    asked: AtomicBool,
}

impl Errand {
    /// One that nobody has asked for.
    pub fn new() -> Errand {
        Errand {
            asked: AtomicBool::new(false),
        }
    }

    /// Asks for it. `true` if nobody had: then whoever runs it is to be woken.
    pub fn ask(&self) -> bool {
        // AcqRel, and a swap even where it is set already: the taking swap then reads this one, or one after it, and so
        // sees what was pushed before. A plain look could miss one that has been taken and not run yet.
        !self.asked.swap(true, Ordering::AcqRel)
    }

    /// Takes it. `true` if it is to be run now: what those who asked had pushed is seen.
    pub fn take(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }
}

/// The bell on the writer's door.
pub struct Doorbell {
    /// Stored by the writer when it goes to sleep; swapped back to awake by whoever wakes it.
    state: AtomicU32,
    /// Set by a producer that cannot wait for the publish interval; taken by the writer.
    urgent: AtomicBool,
    /// The writer thread. Locked once by the writer when it starts, and by whoever wakes it.
    writer: Mutex<Option<Thread>>,
}

impl Doorbell {
    /// A bell whose writer has not come yet.
    pub fn new() -> Doorbell {
        Doorbell {
            state: AtomicU32::new(AWAKE),
            urgent: AtomicBool::new(false),
            writer: Mutex::new(None),
        }
    }

    /// Makes the calling thread the one to be woken. To be called before it first sleeps.
    pub fn attend(&self) {
        *self.writer.lock().expect("no holder of this lock panics") = Some(current());
    }

    /// Tells the writer of work that is visible to it already (pushed into a queue it looks at).
    ///
    /// Wakes an idle writer always, a gathering one only if `urgent`.
    #[inline]
    pub fn ring(&self, urgent: bool) {
        if urgent {
            // Release: the writer that takes the flag sees what was pushed before it was set. A swap: a store by one in a
            // hurry would cut the writer off from those who set the flag before. Acquire: ordered behind the taking
            // that was before it.
            self.urgent.swap(true, Ordering::AcqRel);
        }
        // Pairs with the fence in `set`.
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state == IDLE || (state == GATHERING && urgent) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        // AcqRel, and only one waker goes on: the others have been seen to have pushed before it.
        if self.state.swap(AWAKE, Ordering::AcqRel) != AWAKE
            && let Some(writer) = &*self.writer.lock().expect("no holder of this lock panics")
        {
            writer.unpark();
        }
    }

    /// Sleeps until there is work. `quiet` says whether there is none; it is asked again after the bell is armed.
    ///
    /// Only the writer calls this. May return early.
    pub fn wait(&self, quiet: impl Fn() -> bool) {
        // With the fence: we see what was pushed before, or they see that we sleep.
        self.set(IDLE);
        if quiet() {
            park();
        }
        self.set(AWAKE);
    }

    /// Says what the writer does from now on. Only the writer calls this.
    fn set(&self, state: u32) {
        // AcqRel, and a swap: a wake-up that was before this one happened before it, so nobody who sees this one can see
        // an older "awake" instead.
        self.state.swap(state, Ordering::AcqRel);
        // Pairs with the fence in `ring`.
        fence(Ordering::SeqCst);
    }

    /// Sleeps out `interval`, unless somebody is or comes in a hurry.
    ///
    /// Only the writer calls this.
    pub fn gather(&self, interval: Duration) {
        let end = Instant::now() + interval;
        // Said again after each park: who wakes an idle writer may come this late, and what it leaves says that we are
        // awake, so that one in a hurry would not wake us.
        while {
            self.set(GATHERING);
            !self.urgent.load(Ordering::Relaxed)
        } {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            park_timeout(left);
        }
        self.set(AWAKE);
        // Acquire: pairs with the Release in `ring`. Either we take the flag, and then the ring we empty next holds what
        // it was set for, or it is set after this and cuts the next gathering short. Release: for who sets it next.
        self.urgent.swap(false, Ordering::AcqRel);
    }
}
