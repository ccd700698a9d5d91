//! The protocols between threads, run against every interleaving and reordering that the memory model allows.
//!
//! The files under test are compiled here a second time, with loom's atomics, locks and parking in place of the real
//! ones (`primitives`). Where a file needs neighbours that loom cannot run (the coroutine runtime, the mapped blocks, a
//! lock-free queue), small stand-ins are given that promise no more ordering than the real ones.
//!
//! There is no time here: a timed park lasts until somebody unparks, so a wake-up that is lost is a deadlock and not a
//! delay.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

/// What `src/ingest/primitives.rs` names, from loom.
mod primitives {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    pub use loom::thread::{Thread, current, park};

    /// Parks until unparked: an interval of this size never ends.
    pub fn park_timeout(_: std::time::Duration) {
        park();
    }

    /// A bounded queue of tokens that are all the same, of which only the number counts. It promises no ordering at all
    /// between who pushes and who pops, so that every ordering there is comes from the file under test.
    pub struct ArrayQueue<T> {
        count: AtomicUsize,
        token: fn() -> T,
    }

    impl ArrayQueue<super::blocks::Block> {
        pub fn new(_: usize) -> Self {
            ArrayQueue {
                count: AtomicUsize::new(0),
                token: || super::blocks::Block,
            }
        }
    }

    impl<T> ArrayQueue<T> {
        pub fn len(&self) -> usize {
            self.count.load(Ordering::Relaxed)
        }

        pub fn push(&self, _: T) -> Result<(), T> {
            self.count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        pub fn pop(&self) -> Option<T> {
            let less = |count: usize| count.checked_sub(1);
            self.count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .ok()
                .map(|_| (self.token)())
        }
    }
}

/// Nobody dies here.
mod failpoint {
    pub fn hit(_: &str) {}
}

/// A block without its memory: loom does not follow a mapping.
mod blocks {
    #[derive(Debug)]
    pub struct Block;

    pub const HOT_BLOCKS: usize = 256;
}

/// Waiters that park as the runtime's do: an unpark that comes before the park is kept.
mod herald {
    use super::completion::Completion;
    use super::primitives::{AtomicU32, Ordering, Thread, current, park};

    pub struct Waiter {
        pub completion: Completion,
        pub blocker: Blocker,
    }

    impl Waiter {
        pub fn new() -> std::sync::Arc<Waiter> {
            std::sync::Arc::new(Waiter {
                completion: Completion::new(),
                blocker: Blocker::new(),
            })
        }

        /// The deadline never comes.
        pub fn wait<T>(
            &self,
            _: &Herald,
            _: std::time::Duration,
            mut done: impl FnMut() -> Option<T>,
        ) -> Option<T> {
            loop {
                let result = done();
                if result.is_some() {
                    return result;
                }
                self.blocker.park();
            }
        }
    }

    const EMPTY: u32 = 0;
    const PARKED: u32 = 1;
    const UNPARKED: u32 = 2;

    /// Parks one thread. loom's own park is used only between "parked" and "unparked": elsewhere loom would let an unpark
    /// end a wait for a lock, which no real one does.
    pub struct Blocker {
        state: AtomicU32,
        thread: Thread,
    }

    impl Blocker {
        pub fn new() -> Blocker {
            Blocker {
                state: AtomicU32::new(EMPTY),
                thread: current(),
            }
        }

        pub fn park(&self) {
            let (acq_rel, acquire) = (Ordering::AcqRel, Ordering::Acquire);
            if self
                .state
                .compare_exchange(EMPTY, PARKED, acq_rel, acquire)
                .is_ok()
            {
                park();
            }
            assert_eq!(self.state.swap(EMPTY, acq_rel), UNPARKED);
        }

        pub fn unpark(&self) {
            if self.state.swap(UNPARKED, Ordering::AcqRel) == PARKED {
                self.thread.unpark();
            }
        }
    }

    /// Wakes by itself what the real one hands to its coroutine; that hand-over is a model of its own below.
    pub struct Herald {
        queue: std::sync::Mutex<Vec<std::sync::Arc<Waiter>>>,
    }

    impl Herald {
        pub fn new() -> std::sync::Arc<Herald> {
            std::sync::Arc::new(Herald {
                queue: std::sync::Mutex::default(),
            })
        }

        pub fn waiter(&self) -> std::sync::Arc<Waiter> {
            Waiter::new()
        }

        pub fn enqueue(&self, waiter: std::sync::Arc<Waiter>) {
            self.queue.lock().unwrap().push(waiter);
        }

        pub fn wake(&self) {
            let woken = std::mem::take(&mut *self.queue.lock().unwrap());
            woken.iter().for_each(|waiter| waiter.blocker.unpark());
        }
    }
}

#[allow(dead_code)]
#[path = "../src/ingest/completion.rs"]
mod completion;
#[allow(dead_code)]
#[path = "../src/ingest/doorbell.rs"]
mod doorbell;
#[allow(dead_code)]
#[path = "../src/ingest/header.rs"]
mod header;
#[allow(dead_code)]
#[path = "../src/ingest/space.rs"]
mod space;

use completion::{Completion, Progress};
use doorbell::{Doorbell, Errand};
use header::{Header, NO_BLOCK, Part, Placement, State};
use herald::{Blocker, Herald, Waiter};
use primitives::{AtomicBool, AtomicU32, Ordering};
use space::Space;

/// Runs `body` in every way with up to three preemptions: bugs that need more are not known to exist, and time is.
fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// Longer than anything.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

const PART: Part = Part {
    ticket: 7,
    base: 100,
    part: 0,
    next: NO_BLOCK,
    bytes: 8,
    lines: 1,
};
const PLACE: Placement = Placement {
    position: 1234,
    first_seq: 5,
};

/// A block of the journal: its header, and a payload that loom watches for races.
struct Slot {
    header: Header,
    payload: [loom::cell::UnsafeCell<u32>; 2],
}

// SAFETY: the payload is written before the commit and only read after it; loom fails the model where that does not hold.
unsafe impl Sync for Slot {}
// SAFETY: as above.
unsafe impl Send for Slot {}

impl Slot {
    fn new() -> Arc<Slot> {
        Arc::new(Slot {
            header: Header::new(),
            payload: [loom::cell::UnsafeCell::new(0), loom::cell::UnsafeCell::new(0)],
        })
    }

    fn fill_and_commit(&self) {
        for (position, word) in self.payload.iter().enumerate() {
            // SAFETY: nobody reads the payload before the commit; loom checks it.
            word.with_mut(|word| unsafe { *word = position as u32 + 1 });
        }
        self.header.describe(&PART, 99);
        self.header.commit();
    }

    /// What recovery would find, were the process killed now.
    fn observe(&self) -> Option<State> {
        let state = self.header.state();
        assert!(state.is_some(), "a state is one of the three");
        if state == Some(State::Free) {
            return state;
        }
        assert_eq!(self.header.described(), (PART, 99));
        for (position, word) in self.payload.iter().enumerate() {
            // SAFETY: the payload is not written after the commit; loom checks it.
            assert_eq!(word.with(|word| unsafe { *word }), position as u32 + 1);
        }
        if state == Some(State::Placed) {
            assert_eq!(self.header.placed_at(), Some(PLACE));
        }
        state
    }
}

#[test]
fn a_committed_frame_is_whole_whenever_the_process_is_killed() {
    model(|| {
        let slot = Slot::new();
        let observed = Arc::clone(&slot);
        let observer = thread::spawn(move || observed.observe());
        slot.fill_and_commit();
        observer.join().unwrap();
    });
}

#[test]
fn a_placed_frame_has_its_whole_place_whenever_the_process_is_killed() {
    model(|| {
        let slot = Slot::new();
        let observed = Arc::clone(&slot);
        let observer = thread::spawn(move || observed.observe());
        slot.fill_and_commit();
        // The ring hands the frame over with all that was done to it, as starting a thread does.
        let written = Arc::clone(&slot);
        let writer = thread::spawn(move || {
            written.header.place(PLACE);
            written.header.free();
        });
        observer.join().unwrap();
        writer.join().unwrap();
        assert_eq!(slot.observe(), Some(State::Free));
    });
}

#[test]
fn a_block_that_is_used_again_is_never_seen_committed_with_what_the_writer_did_to_it_missing() {
    model(|| {
        // The log, of which one bit says that the frame's lines are in it.
        let log = Arc::new(AtomicU32::new(0));
        let slot = Slot::new();
        slot.fill_and_commit();
        let (observed, file) = (Arc::clone(&slot), Arc::clone(&log));
        let observer = thread::spawn(move || {
            // What recovery finds forgotten must be in the log.
            if observed.header.state() == Some(State::Free) {
                assert_eq!(file.load(Ordering::Relaxed), 1);
            }
        });
        slot.header.place(PLACE);
        log.store(1, Ordering::Relaxed);
        slot.header.free();
        observer.join().unwrap();
    });
}

/// Work that producers hand to the writer: a word of bits, set in no order but what the bell gives.
struct Office {
    bell: Doorbell,
    pushed: AtomicU32,
}

impl Office {
    fn open() -> Arc<Office> {
        Arc::new(Office {
            bell: Doorbell::new(),
            pushed: AtomicU32::new(0),
        })
    }

    fn push(&self, item: u32, urgent: bool) {
        self.pushed.fetch_or(item, Ordering::Relaxed);
        self.bell.ring(urgent);
    }

    /// The writer's loop, until it has seen all of `wanted`.
    fn write(&self, wanted: u32, gathers: bool) {
        self.bell.attend();
        loop {
            let seen = self.pushed.load(Ordering::Relaxed);
            if seen & wanted == wanted {
                return;
            }
            self.bell.wait(|| self.pushed.load(Ordering::Relaxed) == seen);
            if gathers {
                self.bell.gather(FOR_EVER);
            }
        }
    }
}

fn producers_and_writer(items: &'static [(u32, bool)], wanted: u32, gathers: bool) {
    model(move || {
        let office = Office::open();
        let push = |&(item, urgent): &(u32, bool)| {
            let office = Arc::clone(&office);
            thread::spawn(move || office.push(item, urgent))
        };
        let producers: Vec<_> = items.iter().map(push).collect();
        // A thread of its own: an unpark that comes late would end this one's joins.
        let writer = thread::spawn({
            let office = Arc::clone(&office);
            move || office.write(wanted, gathers)
        });
        producers
            .into_iter()
            .chain([writer])
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn an_idle_writer_is_woken_by_whoever_pushes() {
    producers_and_writer(&[(1, false), (2, false)], 3, false);
}

#[test]
fn a_gathering_writer_is_woken_by_those_in_a_hurry() {
    producers_and_writer(&[(1, true), (2, true)], 3, true);
}

#[test]
fn one_in_a_hurry_is_heard_whatever_one_who_is_not_does() {
    producers_and_writer(&[(1, false), (2, true)], 2, true);
}

#[test]
fn an_errand_that_is_asked_for_is_run_with_all_that_was_pushed_before_in_sight() {
    model(|| {
        let errand = Arc::new(Errand::new());
        let pushed = Arc::new(AtomicU32::new(0));
        let (asked, seen) = (Arc::clone(&errand), Arc::clone(&pushed));
        let (sender, receiver) = std::sync::mpsc::channel();
        let runner = thread::spawn(move || {
            let bell = Arc::new(Blocker::new());
            let push = |item| {
                let (errand, pushed, bell) = (Arc::clone(&asked), Arc::clone(&seen), Arc::clone(&bell));
                thread::spawn(move || {
                    pushed.fetch_or(item, Ordering::Relaxed);
                    if errand.ask() {
                        bell.unpark();
                    }
                })
            };
            let producers = [push(1), push(2)];
            loop {
                if asked.take() && seen.load(Ordering::Relaxed) == 3 {
                    break;
                }
                bell.park();
            }
            sender.send(producers).unwrap();
        });
        runner.join().unwrap();
        let producers = receiver.recv().unwrap();
        producers
            .into_iter()
            .for_each(|producer| producer.join().unwrap());
    });
}

#[test]
fn taking_the_urgent_flag_shows_what_it_was_set_for() {
    model(|| {
        let office = Office::open();
        let desk = Arc::clone(&office);
        let writer = thread::spawn(move || {
            desk.bell.attend();
            // Returns only when the flag has been set.
            desk.bell.gather(FOR_EVER);
            assert_eq!(desk.pushed.load(Ordering::Relaxed), 1);
        });
        office.push(1, true);
        writer.join().unwrap();
    });
}

#[test]
fn who_sees_the_progress_sees_the_sequence_number() {
    model(|| {
        let completion = Arc::new(Completion::new());
        let told = Arc::clone(&completion);
        let writer = thread::spawn(move || {
            told.written(41);
            told.synced(true);
        });
        let (progress, sequence) = completion.progress();
        assert!(progress == Progress::Pending || sequence == 41);
        writer.join().unwrap();
        assert_eq!(completion.progress(), (Progress::Synced, 41));
    });
}

/// The herald's loop as `src/ingest/herald.rs` has it: a queue, a bell, and a flag that ends it.
struct Hall {
    queue: AtomicU32,
    bell: Blocker,
    stopping: AtomicBool,
    waiter: Arc<Waiter>,
}

impl Hall {
    /// The calling thread becomes the herald, as in the real hall its coroutine makes it.
    fn open(waiter: Arc<Waiter>) -> Arc<Hall> {
        let (queue, stopping) = (AtomicU32::new(0), AtomicBool::new(false));
        Arc::new(Hall {
            queue,
            bell: Blocker::new(),
            stopping,
            waiter,
        })
    }

    fn run(&self) {
        loop {
            let stopping = self.stopping.load(Ordering::Acquire);
            if self.queue.swap(0, Ordering::AcqRel) != 0 {
                self.waiter.blocker.unpark();
            }
            if stopping {
                return;
            }
            self.bell.park();
        }
    }

    fn tell(&self) {
        // AcqRel, as the real queue is.
        self.queue.swap(1, Ordering::AcqRel);
        self.bell.unpark();
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.bell.unpark();
    }
}

#[test]
fn who_waits_for_a_level_is_woken_through_the_herald() {
    model(|| {
        let waiter = Waiter::new();
        let told = Arc::clone(&waiter);
        let herald = thread::spawn(move || {
            let hall = Hall::open(told);
            let desk = Arc::clone(&hall);
            let writer = thread::spawn(move || {
                desk.waiter.completion.written(41);
                desk.tell();
                desk.stop();
            });
            hall.run();
            writer.join().unwrap();
        });
        let sequence = loop {
            let (progress, sequence) = waiter.completion.progress();
            if progress != Progress::Pending {
                break sequence;
            }
            waiter.blocker.park();
        };
        assert_eq!(sequence, 41);
        herald.join().unwrap();
    });
}

fn takers_and_giver(takers: usize, blocks_each: usize) {
    model(move || {
        let space = Arc::new(Space::new(takers * blocks_each, Herald::new()));
        let take = |_| {
            let space = Arc::clone(&space);
            thread::spawn(move || {
                let mut taken = Vec::new();
                assert!(space.take_within(Duration::MAX, blocks_each, &mut taken, || ()));
                assert_eq!(taken.len(), blocks_each);
            })
        };
        let takers: Vec<_> = (0..takers).map(take).collect();
        // One by one, as the writer frees frames.
        for _ in 0..takers.len() * blocks_each {
            space.give_back(std::iter::once(blocks::Block));
        }
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(space.free(), 0);
    });
}

#[test]
fn who_waits_for_a_block_is_woken_when_one_is_given_back() {
    takers_and_giver(1, 1);
}

#[test]
fn who_waits_for_two_blocks_gets_them_when_they_come_one_by_one() {
    takers_and_giver(1, 2);
}

#[test]
fn two_who_wait_get_a_block_each() {
    takers_and_giver(2, 1);
}
