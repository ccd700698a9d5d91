//! One stretch of load: starts the workers, and puts their seconds together while they run.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::events::Marks;
use super::job::{Done, Part, Shared, Update};
use super::ledger::{Ledger, Numbers, page_events};
use super::pacing::Schedule;
use super::plan::{Arrivals, Plan};
use super::probe;
use super::progress::Progress;
use super::report::Cpu;
use super::report::series::{Builder, Point};
use super::request::{Requests, Source};
use super::tally::Tally;
use super::wire::Secure;
use super::worker::Worker;

/// User and system time of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// A stretch that is bounded by events is given up when nothing has got through for so many seconds.
const VAIN_SECONDS_MAX: u64 = 30;
/// Time between two looks whether the workers are still there.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What does not change from one stretch to the next.
pub struct Setup<'r> {
    /// What is to be done.
    pub plan: &'r Plan,
    /// Where to connect.
    pub address: SocketAddr,
    /// How, if with TLS.
    pub secure: Option<Secure>,
    /// Where events come from.
    pub source: Source,
    /// What marks them.
    pub marks: Marks,
    /// Set when somebody wants the run to end.
    pub stop: &'r AtomicBool,
}

/// A stretch.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Requests a second; a closed loop, if there are none.
    pub rate: Option<(f64, Arrivals)>,
    /// How long load is made before anything counts.
    pub warmup: Duration,
    /// How long it is made after that.
    pub duration: Option<Duration>,
    /// How many events are sent after that.
    pub events: Option<u64>,
    /// Pages of numbers up to this one are given.
    pub first_page: u64,
}

/// What came of a stretch.
pub struct Outcome {
    /// Counts and latencies of all of it.
    pub total: Tally,
    /// From the end of the warm-up to the last answer, or to the end of sending if that is later.
    pub time: Duration,
    /// CPU time since the end of the warm-up.
    pub cpu: Cpu,
    /// Cores that the generator used meanwhile.
    pub generator_cores: f64,
    /// The next page of numbers that is free.
    pub next_page: u64,
}

/// CPU time up to some moment.
struct Meter {
    server_seconds: Option<f64>,
    generator: Duration,
    at: Instant,
}

impl Setup<'_> {
    /// Makes load. Points are added to `series`; what became of events to `ledger`, if there is one.
    ///
    /// # Errors
    /// Threads or descriptors cannot be had.
    pub fn run(
        &self,
        stretch: Stretch,
        ledger: &mut Option<Ledger>,
        series: &mut Builder,
        progress: &Progress,
    ) -> io::Result<Outcome> {
        let threads = self.plan.threads;
        let given_up = AtomicBool::new(false);
        let start = Barrier::new(threads + 1);
        let shared = Shared {
            address: self.address,
            secure: self.secure.as_ref(),
            shape: self.plan.shape,
            warmup: stretch.warmup,
            sending: stretch.duration.map(|duration| stretch.warmup + duration),
            timeout: self.plan.timeout,
            stop: self.stop,
            given_up: &given_up,
            start: &start,
        };
        let (updates, news) = mpsc::channel();
        let workers: Vec<Worker<'_>> = (0..threads)
            .map(|index| {
                let requests = Requests::new(self.plan, self.source.clone(), ledger.is_some());
                let part = self.part(stretch, index, ledger.is_some());
                Worker::new(&shared, part, requests, updates.clone())
            })
            .collect::<io::Result<_>>()?;
        // The channel ends with the workers.
        drop(updates);
        let mut seconds = Seconds::new(threads, series, progress);
        // The server is asked before it is busy, if it is not busy already because it warms up.
        let mut meter = stretch.warmup.is_zero().then(|| self.meter());
        let done = thread::scope(|scope| {
            let workers: Vec<_> = workers
                .into_iter()
                .map(|worker| scope.spawn(|| worker.run()))
                .collect();
            start.wait();
            let began = Instant::now();
            loop {
                let until_warm = stretch.warmup.saturating_sub(began.elapsed());
                if until_warm.is_zero() {
                    meter.get_or_insert_with(|| self.meter());
                }
                let wait = match meter {
                    Some(_) => LOOK_EVERY,
                    None => LOOK_EVERY.min(until_warm),
                };
                match news.recv_timeout(wait) {
                    Ok(update) => seconds.add(update),
                    Err(RecvTimeoutError::Timeout) => progress.tick(),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if stretch.events.is_some() && seconds.vain >= VAIN_SECONDS_MAX {
                    given_up.store(true, Ordering::Relaxed);
                }
            }
            let joined = workers
                .into_iter()
                .map(|worker| worker.join().expect("no worker panics"));
            joined.collect::<io::Result<Vec<Done>>>()
        })?;
        let (cpu, generator_cores) = self.used_since(meter);
        let mut time = Duration::ZERO;
        let mut next_page = stretch.first_page;
        for done in done {
            time = time.max(done.ended.saturating_sub(stretch.warmup));
            next_page = next_page.max(done.numbers.page_behind());
            if let (Some(all), Some(part)) = (ledger.as_mut(), done.ledger) {
                all.absorb(part);
            }
            seconds.add(done.last);
        }
        Ok(Outcome {
            total: seconds.finish(),
            time,
            cpu,
            generator_cores,
            next_page,
        })
    }

    /// What has been used by now.
    fn meter(&self) -> Meter {
        Meter {
            server_seconds: probe::server_cpu(self.plan, self.address, self.secure.as_ref()),
            generator: cpu_time(),
            at: Instant::now(),
        }
    }

    /// What was used since then, and how many cores that is for the generator; nothing if it never came to that.
    fn used_since(&self, before: Option<Meter>) -> (Cpu, f64) {
        let Some(before) = before else {
            return (Cpu::default(), 0.0);
        };
        let generator_seconds = cpu_time().saturating_sub(before.generator).as_secs_f64();
        let seconds = before.at.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let server_seconds = before.server_seconds.and_then(|before| {
            let after = probe::server_cpu(self.plan, self.address, self.secure.as_ref())?;
            // A server that was started anew has used less than before.
            Some(after - before).filter(|seconds| *seconds >= 0.0)
        });
        let cpu = Cpu {
            generator_seconds,
            server_seconds,
        };
        (cpu, generator_seconds / seconds)
    }

    fn part(&self, stretch: Stretch, index: usize, is_watched: bool) -> Part {
        let (plan, threads) = (self.plan, self.plan.threads);
        let share = |all: u64, index: usize| all * index as u64 / threads as u64;
        let connections = |index| share(plan.connections as u64, index) as usize;
        let burst = plan.shape.events();
        let page_events = page_events(burst);
        let bursts_per_second = |rate: f64| rate / f64::from(plan.shape.requests());
        let numbers = match &self.source {
            Source::Generated(_) => Numbers::new(page_events, stretch.first_page, (index, threads)),
            // Each worker sends its share of the lines, so that together they send each once.
            Source::Lines(input) => Numbers::from(share(stretch.events.unwrap_or(input.count()), index)),
        };
        Part {
            worker: index,
            connections: connections(index + 1) - connections(index),
            budget: stretch
                .events
                .map(|events| share(events, index + 1) - share(events, index)),
            schedule: stretch.rate.map(|(rate, arrivals)| {
                Schedule::new(bursts_per_second(rate), arrivals, (index, threads), plan.seed)
            }),
            numbers,
            ledger: is_watched.then(|| Ledger::new(page_events)),
        }
    }

    /// An empty ledger for a run.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(page_events(self.plan.shape.events()))
    }
}

/// Puts the seconds of several workers together.
struct Seconds<'s> {
    series: &'s mut Builder,
    progress: &'s Progress,
    total: Tally,
    /// The first second that is not told yet.
    next: u64,
    /// Those from there on, as far as they are known.
    waiting: VecDeque<Tally>,
    /// Up to which second each worker has told.
    told: Vec<u64>,
    /// Seconds in a row in which nothing got through.
    vain: u64,
}

impl<'s> Seconds<'s> {
    fn new(workers: usize, series: &'s mut Builder, progress: &'s Progress) -> Seconds<'s> {
        Seconds {
            series,
            progress,
            total: Tally::new(),
            next: 0,
            waiting: VecDeque::new(),
            told: vec![0; workers],
            vain: 0,
        }
    }

    /// Takes a worker's second, and tells those that all workers have told.
    fn add(&mut self, update: Update) {
        let at = update.second.saturating_sub(self.next) as usize;
        while self.waiting.len() <= at {
            self.waiting.push_back(Tally::new());
        }
        self.waiting[at].absorb(update.tally);
        self.told[update.worker] = update.second + 1;
        let all = self.told.iter().copied().min().unwrap_or(0);
        while self.next < all {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let tally = self.waiting.pop_front().unwrap_or_else(Tally::new);
        self.next += 1;
        self.vain = if tally.ok == 0 { self.vain + 1 } else { 0 };
        self.series.push(point(&tally));
        self.total.absorb(tally.clone());
        self.progress.second(&tally, &self.total);
    }

    /// Tells what is left, when all workers are done.
    fn finish(mut self) -> Tally {
        while !self.waiting.is_empty() {
            self.tell();
        }
        self.total.errors.sort_by_key(|error| Reverse(error.count));
        self.total
    }
}

fn point(tally: &Tally) -> Point {
    let at = |quantile| tally.latency.value_at_quantile(quantile).min(tally.latency.max());
    Point {
        second: 0,
        requests: tally.ok,
        events: tally.events.acknowledged,
        errors: tally.errors_count(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        max_us: tally.latency.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(worker: usize, second: u64, ok: u64) -> Update {
        let mut tally = Tally::new();
        tally.ok = ok;
        Update {
            worker,
            second,
            tally,
        }
    }

    #[test]
    fn a_second_is_told_when_all_workers_have_told_it_and_none_is_left_out() {
        let progress = Progress::hidden();
        let mut series = Builder::new();
        let mut seconds = Seconds::new(2, &mut series, &progress);
        for (worker, second, ok) in [(0, 0, 1), (0, 1, 2), (1, 0, 10), (1, 3, 40), (0, 3, 4)] {
            seconds.add(update(worker, second, ok));
        }
        let total = seconds.finish();
        assert_eq!(total.ok, 57);
        let points = series.finish().points;
        assert_eq!(
            points.iter().map(|point| point.requests).collect::<Vec<_>>(),
            [11, 2, 0, 44]
        );
    }
}
