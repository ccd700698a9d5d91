//! The live stream: what is stored, to whoever wants to hear of it, as Server-Sent Events.
//!
//! ```text
//! writer ─ publishes, rings ─→ feeder ─ chunks ─→ ring ─┬─→ subscriber's coroutine ─→ socket
//!   log ──────────────────────────────────────────────┐ └─→ …
//!                                                     └─→ catch-up readers ─→ subscribers that are behind
//! ```
//!
//! The log is the broadcast: a subscriber is a place in it, and one that is slow lags on the disk and not in memory. At the
//! log's end all of them would read the same lines, so one thread reads and renders those for all, into chunks that are shared
//! and dropped by age (`feeder.rs`). Who is further behind than the ring reaches is read for from his own place, by
//! few threads in turn (`catchup.rs`), until he meets the ring.
//!
//! # What holds
//!
//! - Each subscriber is given each event that he wants once and in the log's order: he is at a place in the log, takes only what
//!   lies behind it, and moves on with what he has taken. The `id` of an event is the place behind it.
//! - The writer waits for nobody here. It pays what `ingest/tip.rs` says.
//! - Subscribers take turns (`crier.rs`): a few at a time are awake and send, 64 KiB each; then it is the turn of the
//!   requests that have come meanwhile, and then of the next few. One whose peer does not read gives up his turn and waits on
//!   his own.
//! - Who wants events of some names is not woken for others.
//! - One who falls out of the ring, and behind further than `lag_max` from where he was nearest to the end, is moved on to it,
//!   and told so by a `gap` with the number of events left out. Who has resumed far back may take his time: he is not to
//!   fall further back.
//! - One who resumes where there is no place, because a power failure or somebody's hand has taken it away or it is another
//!   log's, goes on at the log's end, and is told by a `gap` without a number.
//!
//! # Bounds
//!
//! Subscribers: as configured. Memory: the ring and what was read for several who are behind (16 MiB each, `shelf.rs`), and for
//! each subscriber what his connection collects in a turn, or has been read for him: 64 KiB, or a line that is longer. The
//! queues have a place for each subscriber. Threads: the feeder and two readers; coroutines beside the subscribers' own: a crier
//! for every two workers.
//!
//! # When the log cannot be read
//!
//! The feeder tries again each second; meanwhile nothing is sent but heartbeats. A place further back that cannot be read (a
//! damaged archive) ends its subscriber's stream.

mod catchup;
mod chunk;
mod crier;
mod feeder;
mod filter;
mod hub;
mod shelf;
mod subscription;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Builder, Thread};
use std::time::Duration;

use crate::ingest::{View, Waiter};
use crate::log::cursor::{CursorError, Position};
use catchup::{Job, Jobs};
use crier::Bell;
pub use filter::Filter;
use hub::State;
pub use subscription::{Subscription, Turn};

/// Memory of the ring: half a second of a hundred thousand events a second. Tests have a small one, so that a short log is
/// longer.
const RING_BYTES_MAX: usize = if cfg!(test) { 32 << 10 } else { 16 << 20 };
/// Text of a chunk in the ring.
const CHUNK_BYTES: usize = if cfg!(test) { 2 << 10 } else { 32 << 10 };
/// What a subscriber sends in a turn: some 30 µs of a core.
const TURN_BYTES: usize = 2 * CHUNK_BYTES;
/// Workers for each crier: subscribers are to have half of the processors at the most when there is more to do than they can.
const WORKERS_A_CRIER: usize = 2;
/// Threads that read for those who are behind. One may be busy with a compressed file for a second.
const READERS: usize = 2;
/// How long a subscriber waits to hear whether there is such a place in the log.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How many subscribers there may be, and how slow.
#[derive(Clone, Copy, Debug)]
pub struct StreamPolicy {
    /// Subscribers at a time.
    pub subscribers_max: usize,
    /// Bytes of the log that one may fall behind; `None`: any number.
    pub lag_max: Option<u64>,
}

/// How the stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// Subscribers now.
    pub subscribers: usize,
    /// How far the last of them is behind the log's end, in bytes.
    pub lag_bytes_max: u64,
    /// Gaps that were told since the start.
    pub gaps: u64,
}

/// Why there is no subscription.
#[derive(Debug)]
pub enum NotSubscribed {
    /// There are as many subscribers as there may be.
    Full,
    /// The log cannot be read there: why.
    Unreadable(String),
    /// The readers are too busy to say.
    Late,
}

/// What the threads and the subscribers share.
struct Shared {
    view: View,
    /// The live file.
    log: PathBuf,
    policy: StreamPolicy,
    state: Mutex<State>,
    jobs: Jobs,
    /// Of the criers.
    bells: Vec<Bell>,
    all: Arc<Filter>,
    stopping: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Changes something, and then has turns given to those who wait for one.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let to_ring = state.crier_to_ring();
        drop(state);
        if let Some(crier) = to_ring {
            self.bells[crier].ring();
        }
        result
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// The live stream of a log. Its threads end after this is dropped.
pub struct Streams {
    shared: Arc<Shared>,
    feeder: Thread,
}

impl Streams {
    /// Starts the threads and the criers.
    ///
    /// # Panics
    /// If the system has none to give.
    pub fn start(view: View, log: &Path, policy: StreamPolicy, workers: usize) -> Streams {
        let criers = workers.div_ceil(WORKERS_A_CRIER);
        let bells = (0..criers).map(|_| Bell::new().expect(STARTS)).collect();
        let shared = Arc::new(Shared {
            view,
            log: log.to_owned(),
            policy,
            state: Mutex::new(State::new(criers, policy.lag_max)),
            jobs: Jobs::default(),
            bells,
            all: Arc::new(Filter::of_spelt(Vec::new())),
            stopping: AtomicBool::new(false),
        });
        let thread = |name: &str, body: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            let spawned = Builder::new().name(name.into()).spawn(move || body(&shared));
            spawned
                .expect("a thread can be started at the start")
                .thread()
                .clone()
        };
        for crier in 0..criers {
            crier::start(&shared, crier).expect(STARTS);
        }
        for _ in 0..READERS {
            thread("floodgate-catch", catchup::run);
        }
        let feeder = thread("floodgate-feed", feeder::run);
        Streams { shared, feeder }
    }

    /// A subscription from the log's end on, or from `from`. Parks the coroutine (or thread) while it is looked whether there is
    /// such a place. Where not, it begins at the log's end, with a gap.
    ///
    /// # Errors
    /// [`NotSubscribed`].
    pub fn subscribe(&self, filter: Filter, from: Option<Position>) -> Result<Subscription, NotSubscribed> {
        let shared = &self.shared;
        let filter = Arc::new(filter);
        let end = shared.view.end();
        let from = from.filter(|at| *at != end.at);
        let subscription = {
            let mut state = shared.lock();
            if state.subscribers() >= shared.policy.subscribers_max {
                return Err(NotSubscribed::Full);
            }
            let (at, seq) = match from {
                // Where a file begins, its summary says which number its first event has.
                Some(at) => (at, shared.view.first_seq_of(at.number).filter(|_| at.offset == 0)),
                None => (end.at, end.next_seq),
            };
            let id = state.enter(Arc::clone(&filter), at, seq, end);
            Subscription::new(Arc::clone(shared), id, Arc::clone(&filter))
        };
        self.feeder.unpark();
        if let Some(at) = from
            && !self.is_there(at, filter)?
        {
            subscription.displace();
        }
        Ok(subscription)
    }

    /// Whether a line begins there, or will. The files say: whoever follows the log reads what is written before the writer
    /// tells where the log ends, and while a file is sealed is at the beginning of the next one.
    fn is_there(&self, at: Position, filter: Arc<Filter>) -> Result<bool, NotSubscribed> {
        let view = &self.shared.view;
        let opened = Opened::new(view);
        self.shared.jobs.push(Job::Open {
            at,
            filter,
            opened: opened.clone(),
        });
        let herald = view.herald();
        let result = opened.waiter.wait(herald, OPEN_TIMEOUT, || {
            opened.result.lock().expect(NO_PANIC).take()
        });
        match result {
            Some(Ok(())) => Ok(true),
            Some(Err(CursorError::NoLine(_) | CursorError::Beyond { .. })) => Ok(false),
            Some(Err(error)) => Err(NotSubscribed::Unreadable(error.to_string())),
            None => Err(NotSubscribed::Late),
        }
    }

    /// How it is doing.
    pub fn status(&self) -> StreamStatus {
        let state = self.shared.lock();
        StreamStatus {
            subscribers: state.subscribers(),
            lag_bytes_max: state.lag_bytes_max(&self.shared.view),
            gaps: state.gaps,
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.feeder.unpark();
        self.shared.jobs.ring();
        self.shared.bells.iter().for_each(Bell::ring);
    }
}

/// Where a reader says whether there is such a place, and one waits to hear it.
#[derive(Clone)]
struct Opened {
    result: Arc<Mutex<Option<Result<(), CursorError>>>>,
    waiter: Arc<Waiter>,
}

impl Opened {
    fn new(view: &View) -> Opened {
        Opened {
            result: Arc::default(),
            waiter: view.herald().waiter(),
        }
    }

    /// Tells. The result is there before the one who waits is woken, who looks again after each wake-up.
    fn tell(self, view: &View, result: Result<(), CursorError>) {
        *self.result.lock().expect(NO_PANIC) = Some(result);
        view.herald().enqueue(self.waiter);
        view.herald().wake();
    }
}

const STARTS: &str = "a server that starts has a thread or a descriptor more";
const NO_PANIC: &str = "no holder of this lock panics";
