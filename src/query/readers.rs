//! Reading files on behalf of coroutines: a pool of threads, since file I/O blocks and a coroutine must not.
//!
//! A coroutine hands in a piece of work and parks until a thread has done it ([`Readers::run`]). There is a queue for each kind of
//! work ([`Lane`]) and a thread for each queue, which helps with the quicker kinds when its own has nothing: however
//! many files are being read, what is quick does not wait for them, and of what takes much memory one runs at a time.
//!
//! # Bounds, and what happens when it is full
//!
//! Three threads, and as many places in each queue as [`Readers::start`] is told; work that finds its queue full is refused
//! ([`Unread::Busy`]), which clients see as a 503 with `Retry-After`. Each piece has a time limit from when it is handed in, which
//! it looks at itself ([`Limit`]), between two chunks of a file. What still waits in the queue when its time is over is not
//! begun. If the disk hangs, so that work cannot look, the coroutine goes on without it after `GRACE`; the thread is back
//! when the disk is.
//!
//! # What a piece of work costs
//!
//! Nobody can tell beforehand: a rare event may be the last one stored, or the first one of a year. So work is begun among the
//! quick with an allowance, and where that does not suffice it ends and begins anew among the long ([`Readers::run_by_cost`]).
//! What it has done by then is lost, some ten milliseconds.
//!
//! # When nobody waits any more
//!
//! The one who waits looks, each `LOOK`, whether his client is still there. Where not, work that waits in the queue leaves its
//! place, and work that is being done ends when it looks next.
//!
//! # Why no wake-up is lost
//!
//! The result is stored before the one who waits is handed to the herald (`Waiter`), which unparks it from inside a worker, and
//! the waiter looks for the result again after each park.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::background;
use crate::ingest::{Herald, View};

/// How much longer than its limit work is waited for: it ends itself, unless a call into the file system hangs.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether the client is still there: a system call of a third of a microsecond for each of those who wait.
const LOOK: Duration = Duration::from_millis(100);
/// What work may cost that others wait behind in the quick lane, in bytes of lines that are read, or in what takes as long: some
/// ten milliseconds. A month of ten names by the minute is within; and of a read of a whole file of 256 MiB, which begins anew
/// behind it, it is a twentieth.
const ALLOWANCE: usize = 12 << 20;

/// What a piece of work takes, as far as can be told beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Moments: what is in memory, or near the end of the live file.
    Quick,
    /// It may read whole files.
    Long,
    /// It reads files and keeps much of them in memory: one at a time.
    Heavy,
}

const LANES: usize = 3;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The queue is full.
    Busy,
    /// It was not done in time, or not even begun; or the server is stopping.
    Late,
    /// The client has gone.
    Gone,
    /// The work panicked; the program's own log says where.
    Failed,
}

/// Why work is to end before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its time is over, or nobody waits for it any more.
    Late,
    /// It costs more than it was allowed to.
    Costly,
}

/// How long a piece of work may go on, and what it may cost.
#[derive(Debug)]
pub struct Limit {
    deadline: Instant,
    /// Stored by the one who waited, loaded by the work; no data hangs on it.
    given_up: AtomicBool,
    /// Bytes that may still be spent. The work's own: an atomic only because the one who waits holds the limit, too.
    allowance: AtomicUsize,
}

impl Limit {
    /// One that is over at `deadline`, whatever the work costs.
    pub fn until(deadline: Instant) -> Limit {
        Limit::allowing(deadline, usize::MAX)
    }

    fn allowing(deadline: Instant, allowance: usize) -> Limit {
        Limit {
            deadline,
            given_up: AtomicBool::new(false),
            allowance: AtomicUsize::new(allowance),
        }
    }

    /// Whether the work may go on. To be asked often: who takes events in on the same core comes in between.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn look(&self) -> Result<(), Stop> {
        match self.is_given_up() || Instant::now() >= self.deadline {
            true => Err(Stop::Late),
            false => {
                std::thread::yield_now();
                Ok(())
            }
        }
    }

    /// The same, when it is about to cost so many `bytes`, or just has.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn spend(&self, bytes: usize) -> Result<(), Stop> {
        self.look()?;
        let left = self.allowance.load(Ordering::Relaxed);
        let left = left.checked_sub(bytes).ok_or(Stop::Costly)?;
        self.allowance.store(left, Ordering::Relaxed);
        Ok(())
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// A piece of work in a queue.
struct Work {
    limit: Arc<Limit>,
    run: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Queues {
    /// By lane.
    lanes: [VecDeque<Work>; LANES],
    is_closed: bool,
}

/// What the threads share. Locked for a push or a pop.
struct Pool {
    queues: Mutex<Queues>,
    /// Rung for each piece of work; all threads look, as not every thread takes everything.
    bell: Condvar,
    queue_max: usize,
}

/// The threads that read. They end, when they are done with what is queued, after this is dropped.
pub struct Readers {
    pool: Arc<Pool>,
    herald: Arc<Herald>,
}

impl Readers {
    /// Starts the threads, before which `queue_max` pieces of work of each kind may wait.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(view: &View, queue_max: usize) -> io::Result<Readers> {
        let pool = Arc::new(Pool {
            queues: Mutex::default(),
            bell: Condvar::new(),
            queue_max,
        });
        // Made first: it closes the pool again if a thread cannot be started.
        let readers = Readers {
            pool: Arc::clone(&pool),
            herald: Arc::clone(view.herald()),
        };
        for lane in 0..LANES {
            let pool = Arc::clone(&pool);
            std::thread::Builder::new()
                .name("floodgate-read".into())
                .spawn(move || pool.serve(lane))?;
        }
        Ok(readers)
    }

    /// Has a thread do `work` and parks the calling coroutine (or thread) until it is done, for `time` at most, and as long as
    /// it is not so that `is_gone`.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        time: Duration,
        is_gone: &dyn Fn() -> bool,
        work: impl FnOnce(&Limit) -> T + Send + 'static,
    ) -> Result<T, Unread> {
        self.run_within(lane, Limit::until(Instant::now() + time), is_gone, work)
    }

    /// The same for work of which nobody knows what it costs: it is done among the quick, or where that is not enough
    /// ([`Stop::Costly`]) from its beginning among the long.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn run_by_cost<T: Send + 'static>(
        &self,
        time: Duration,
        is_gone: &dyn Fn() -> bool,
        work: impl Fn(&Limit) -> Result<T, Stop> + Send + Sync + 'static,
    ) -> Result<T, Unread> {
        let deadline = Instant::now() + time;
        let work = Arc::new(work);
        let quick = Arc::clone(&work);
        let limit = Limit::allowing(deadline, ALLOWANCE);
        let done = match self.run_within(Lane::Quick, limit, is_gone, move |limit| quick(limit))? {
            Err(Stop::Costly) => {
                let limit = Limit::until(deadline);
                self.run_within(Lane::Long, limit, is_gone, move |limit| work(limit))?
            }
            done => done,
        };
        done.map_err(|_| Unread::Late)
    }

    fn run_within<T: Send + 'static>(
        &self,
        lane: Lane,
        limit: Limit,
        is_gone: &dyn Fn() -> bool,
        work: impl FnOnce(&Limit) -> T + Send + 'static,
    ) -> Result<T, Unread> {
        let limit = Arc::new(limit);
        let result = Arc::new(Mutex::new(None));
        let waiter = self.herald.waiter();
        let run = {
            let (limit, result, waiter) = (Arc::clone(&limit), Arc::clone(&result), Arc::clone(&waiter));
            let herald = Arc::clone(&self.herald);
            move || {
                let done = match limit.look() {
                    Err(_) => Err(Unread::Late),
                    Ok(()) => catch_unwind(AssertUnwindSafe(|| work(&limit))).map_err(|_| Unread::Failed),
                };
                *lock(&result) = Some(done);
                herald.enqueue(waiter);
                herald.wake();
            }
        };
        let until = limit.deadline + GRACE;
        self.pool.push(
            lane,
            Work {
                limit: Arc::clone(&limit),
                run: Box::new(run),
            },
        )?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let done = waiter.wait(&self.herald, left.min(LOOK), || lock(&result).take());
            let why = match done {
                Some(done) => return done,
                None if left.is_zero() || self.herald.is_stopping() => Unread::Late,
                None if is_gone() => Unread::Gone,
                None => continue,
            };
            limit.given_up.store(true, Ordering::Relaxed);
            return Err(why);
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        lock(&self.pool.queues).is_closed = true;
        self.pool.bell.notify_all();
    }
}

impl Pool {
    fn push(&self, lane: Lane, work: Work) -> Result<(), Unread> {
        let mut queues = lock(&self.queues);
        let queue = &mut queues.lanes[lane as usize];
        if queue.len() >= self.queue_max {
            // Those who have gone need no place.
            queue.retain(|work| !work.limit.is_given_up());
        }
        if queue.len() >= self.queue_max {
            return Err(Unread::Busy);
        }
        queue.push_back(work);
        drop(queues);
        self.bell.notify_all();
        Ok(())
    }

    /// A thread's body: its own lane first, then those of quicker work.
    fn serve(&self, lane: usize) {
        background::enter();
        let mut queues = lock(&self.queues);
        loop {
            let mut lanes = std::iter::once(lane).chain(0..lane);
            if let Some(work) = lanes.find_map(|lane| queues.lanes[lane].pop_front()) {
                drop(queues);
                (work.run)();
                queues = lock(&self.queues);
            } else if queues.is_closed {
                return;
            } else {
                queues = self.bell.wait(queues).expect("no holder of this lock panics");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::super::tests::engine;
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn there() -> bool {
        false
    }

    fn readers(queue_max: usize) -> (Readers, impl Sized) {
        let (engine, directory) = engine();
        (
            Readers::start(&engine.view(), queue_max).unwrap(),
            (engine, directory),
        )
    }

    #[test]
    fn a_coroutine_gets_what_a_thread_has_done() {
        let (readers, _engine) = readers(8);
        let readers = Arc::new(readers);
        let (results, got) = channel();
        for number in 0..100_u64 {
            let (readers, results) = (Arc::clone(&readers), results.clone());
            may::go!(move || {
                // The queue is shorter than there are coroutines.
                let squared = loop {
                    let lane = [Lane::Quick, Lane::Long, Lane::Heavy][number as usize % LANES];
                    match readers.run(lane, LONG, &there, move |_| number * number) {
                        Err(Unread::Busy) => may::coroutine::yield_now(),
                        done => break done.unwrap(),
                    }
                };
                results.send(squared).unwrap();
            });
        }
        drop(results);
        let mut squares: Vec<u64> = got.iter().collect();
        squares.sort_unstable();
        assert_eq!(
            squares,
            (0..100).map(|number| number * number).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_full_queue_refuses_and_quick_work_passes_heavy_work() {
        let (readers, _engine) = readers(1);
        let readers = Arc::new(readers);
        let (begun, has_begun) = channel();
        let (release, released) = sync_channel::<()>(0);
        let released = Arc::new(Mutex::new(released));
        let block = |readers: &Arc<Readers>| {
            let (readers, begun, released) = (Arc::clone(readers), begun.clone(), Arc::clone(&released));
            std::thread::spawn(move || {
                readers.run(Lane::Heavy, LONG, &there, move |_| {
                    begun.send(()).unwrap();
                    lock(&released).recv().unwrap();
                })
            })
        };
        let first = block(&readers);
        has_begun.recv().unwrap();
        let second = block(&readers);
        while lock(&readers.pool.queues).lanes[Lane::Heavy as usize].is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(readers.run(Lane::Heavy, LONG, &there, |_| ()), Err(Unread::Busy));
        assert_eq!(readers.run(Lane::Long, LONG, &there, |_| 6), Ok(6));
        assert_eq!(readers.run(Lane::Quick, LONG, &there, |_| 7), Ok(7));
        for _ in 0..2 {
            release.send(()).unwrap();
        }
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (Ok(()), Ok(())));
    }

    #[test]
    fn what_is_late_is_told_to_end_or_not_begun_and_a_panic_costs_no_thread() {
        let (readers, _engine) = readers(8);
        assert_eq!(
            readers.run(Lane::Quick, Duration::ZERO, &there, |_| ()),
            Err(Unread::Late)
        );
        for _ in 0..4 {
            let panicked = readers.run(Lane::Long, LONG, &there, |_| -> () { panic!("as it should") });
            assert_eq!(panicked, Err(Unread::Failed));
        }
        let told = readers.run(Lane::Long, Duration::from_millis(20), &there, |limit| {
            while limit.look().is_ok() {
                std::thread::yield_now();
            }
        });
        assert_eq!(told, Ok(()));
    }

    #[test]
    fn what_nobody_waits_for_any_more_ends_and_leaves_its_place_in_the_queue() {
        let (readers, _engine) = readers(2);
        let (told, says) = channel();
        let endless = move |limit: &Limit| {
            told.send("begun").unwrap();
            while limit.look().is_ok() {
                std::thread::yield_now();
            }
            told.send("ended").unwrap();
        };
        let (readers, is_done) = (&readers, &AtomicBool::new(false));
        std::thread::scope(|scope| {
            let busy = scope
                .spawn(move || readers.run(Lane::Heavy, LONG, &|| is_done.load(Ordering::Relaxed), endless));
            assert_eq!(says.recv(), Ok("begun"));
            // More than there are places: those whose clients have gone leave theirs.
            for _ in 0..4 {
                let gone = readers.run(Lane::Heavy, LONG, &|| true, |_| panic!("it is not begun"));
                assert_eq!(gone, Err::<(), _>(Unread::Gone));
            }
            is_done.store(true, Ordering::Relaxed);
            assert_eq!(busy.join().unwrap(), Err(Unread::Gone));
        });
        assert_eq!(says.recv(), Ok("ended"));
    }

    #[test]
    fn what_costs_more_than_quick_work_may_is_done_among_the_long() {
        let (readers, _engine) = readers(8);
        for (cost, runs) in [(0, 1), (ALLOWANCE, 1), (ALLOWANCE + 1, 2)] {
            let tries = Arc::new(AtomicUsize::new(0));
            let work = {
                let tries = Arc::clone(&tries);
                move |limit: &Limit| {
                    tries.fetch_add(1, Ordering::Relaxed);
                    limit.spend(cost / 2)?;
                    limit.spend(cost - cost / 2)
                }
            };
            assert_eq!(readers.run_by_cost(LONG, &there, work), Ok(()));
            assert_eq!(tries.load(Ordering::Relaxed), runs, "{cost}");
        }
        let late = readers.run_by_cost(Duration::from_millis(20), &there, |limit| {
            loop {
                limit.spend(1 << 10)?;
            }
        });
        assert_eq!(late, Err::<(), _>(Unread::Late));
    }
}
