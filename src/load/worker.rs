//! A worker: an epoll loop over its share of the connections.
//!
//! A turn of the loop sends what is due, waits, and takes what has come. A burst costs a write, a read, and its part of an
//! `epoll_wait`; the clock is read once for each read. Timers that are of milliseconds (time-outs, connecting again, the end) are
//! looked after 50 times a second; the next arrival of an open loop has a timer of its own, exact to some microseconds.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::answer::Reader;
use super::books::Books;
use super::job::{Done, Part, Shared, Update};
use super::link::{Break, Flight, Link, State};
use super::plan::Shape;
use super::report::UNSENT;
use super::request::Requests;
use super::tally::Tally;
use super::wire::{Got, Wire};

/// Time between two looks at what is not exact.
const SWEEP_EVERY: Duration = Duration::from_millis(20);
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Sockets told of at a time.
const EVENTS_MAX: usize = 256;
/// How long connections may take before the run begins without those that have none.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// How long answers are waited for when somebody has stopped the run.
const STOPPED_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long what was due before the end, and waits for a connection, may still be sent: a thread that has lost its core for a moment
/// just then has not made a server slow.
const END_GRACE: Duration = Duration::from_millis(250);
/// What the timer is called among the sockets.
const TIMER: u64 = u64::MAX;

/// An epoll loop.
pub struct Worker<'r> {
    shared: &'r Shared<'r>,
    part: Part,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// What the timer is set to.
    alarm: Duration,
    links: Vec<Link>,
    /// Those that could send, the one that has rested longest first.
    idle: VecDeque<u32>,
    requests: Requests,
    reader: Reader,
    buffer: Box<[u8]>,
    books: Books,
    began: Instant,
    /// Set when nothing more is sent.
    sending_ended: Option<Duration>,
    second: u64,
    next_sweep: Duration,
    updates: Sender<Update>,
}

impl<'r> Worker<'r> {
    /// A worker that has not begun.
    ///
    /// # Errors
    /// What making its descriptors says.
    pub fn new(
        shared: &'r Shared<'r>,
        mut part: Part,
        requests: Requests,
        updates: Sender<Update>,
    ) -> io::Result<Worker<'r>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        epoll::add(
            &epoll,
            &timer,
            EventData::new_u64(TIMER),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Worker {
            shared,
            epoll,
            timer,
            alarm: Duration::ZERO,
            links: (0..part.connections).map(|_| Link::new()).collect(),
            idle: VecDeque::with_capacity(part.connections),
            requests,
            reader: Reader::default(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            books: Books {
                tally: Tally::new(),
                ledger: part.ledger.take(),
                last_answer: Duration::ZERO,
            },
            began: Instant::now(),
            sending_ended: None,
            second: 0,
            next_sweep: Duration::ZERO,
            updates,
            part,
        })
    }

    /// Makes load until its end.
    ///
    /// # Errors
    /// What waiting says; nothing that a server does is one.
    pub fn run(mut self) -> io::Result<Done> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let settled = self.settle(&mut events);
        // Whatever came of it, the others must not wait for this one.
        self.shared.start.wait();
        settled?;
        self.start();
        loop {
            let now = self.began.elapsed();
            if now >= self.next_sweep {
                self.sweep(now);
            }
            self.end_of_sending(now);
            if self.is_done(now) {
                break;
            }
            self.send_due();
            self.set_alarm()?;
            self.wait(&mut events)?;
        }
        Ok(self.finish())
    }

    /// Connects all, so that this is not measured with the first requests.
    fn settle(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        // Nothing is sent yet.
        self.sending_ended = Some(Duration::ZERO);
        for index in 0..self.links.len() {
            self.connect(index, Duration::ZERO);
            // A server's backlog is not for thousands at a time.
            if index % EVENTS_MAX == EVENTS_MAX - 1 {
                self.wait(events)?;
            }
        }
        let is_connecting = |link: &Link| matches!(link.state, State::Connecting(_));
        while self.links.iter().any(is_connecting) && self.began.elapsed() < SETTLE_MAX {
            if self.shared.is_stopped() {
                break;
            }
            self.wait(events)?;
        }
        self.sending_ended = None;
        Ok(())
    }

    fn start(&mut self) {
        self.began = Instant::now();
        for index in 0..self.links.len() {
            match &mut self.links[index].state {
                State::Down(again) => *again = Duration::ZERO,
                State::Connecting(since) => *since = Duration::ZERO,
                State::Idle | State::Busy => self.next(index, self.began.elapsed()),
            }
        }
    }

    fn is_sending(&self) -> bool {
        self.sending_ended.is_none()
    }

    fn end_of_sending(&mut self, now: Duration) {
        if !self.is_sending() {
            return;
        }
        let schedule = self.part.schedule.as_ref();
        let is_over = self.shared.sending.is_some_and(|end| {
            let is_all_sent = schedule.is_none_or(|schedule| schedule.next() >= end);
            now >= end && (is_all_sent || now >= end + END_GRACE)
        });
        if is_over || self.part.budget == Some(0) {
            let end = self.shared.sending.filter(|_| is_over).unwrap_or(now);
            self.stop_sending(end);
        }
    }

    /// Sends nothing more. What was due until `end` and has not been sent is counted.
    fn stop_sending(&mut self, end: Duration) {
        self.sending_ended = Some(end);
        let Some(schedule) = self
            .part
            .schedule
            .as_mut()
            .filter(|_| self.part.budget != Some(0))
        else {
            return;
        };
        let requests = u64::from(self.shared.shape.requests());
        let (mut unsent, mut longest) = (0, Duration::ZERO);
        while schedule.next() < end {
            if schedule.next() >= self.shared.warmup {
                unsent += requests;
                longest = longest.max(end - schedule.next());
                self.books.tally.took(end - schedule.next(), requests);
            }
            schedule.advance();
        }
        if unsent > 0 {
            let connections = self.links.len();
            self.books.tally.error(UNSENT, unsent, || {
                format!("all {connections} connections were busy or down; the longest wait was {longest:.1?} at the end")
            });
        }
    }

    fn is_done(&self, now: Duration) -> bool {
        let Some(ended) = self.sending_ended else {
            return false;
        };
        let is_stopped = self.shared.is_stopped();
        let patience = match is_stopped {
            true => self.shared.timeout.min(STOPPED_WAIT_MAX),
            // So that what is late is counted as that.
            false => self.shared.timeout + END_GRACE + 2 * SWEEP_EVERY,
        };
        now >= ended + patience || self.links.iter().all(|link| link.state != State::Busy)
    }

    fn finish(mut self) -> Done {
        let now = self.began.elapsed();
        for index in 0..self.links.len() {
            if self.links[index].state == State::Busy {
                self.broken(index, Break::End, now);
            }
        }
        let ended = self.sending_ended.unwrap_or(now).max(self.books.last_answer);
        Done {
            last: Update {
                worker: self.part.worker,
                second: self.second,
                tally: self.books.tally,
            },
            ledger: self.books.ledger,
            numbers: self.part.numbers,
            ended,
        }
    }

    /// What is looked after 50 times a second.
    #[cold]
    fn sweep(&mut self, now: Duration) {
        self.next_sweep = now + SWEEP_EVERY;
        let is_stopped = self.shared.is_stopped();
        if is_stopped && self.is_sending() {
            self.stop_sending(now);
        }
        self.hand_over(now);
        let timeout = self.shared.timeout;
        for index in 0..self.links.len() {
            let link = &self.links[index];
            match link.state {
                State::Down(again) if again <= now && self.is_sending() => self.connect(index, now),
                State::Connecting(since) if now >= since + timeout => {
                    self.broken(index, Break::Timeout(timeout), now);
                }
                State::Busy if now >= link.flight.sent + timeout => {
                    self.broken(index, Break::Timeout(timeout), now);
                }
                _ => {}
            }
        }
    }

    /// Gives what was counted to the main thread, when a second is over. What comes behind the end belongs to the last one.
    fn hand_over(&mut self, now: Duration) {
        let last = self
            .shared
            .sending
            .map_or(now, |end| end.saturating_sub(Duration::from_nanos(1)));
        let second = now.min(last).saturating_sub(self.shared.warmup).as_secs();
        if second > self.second && self.is_sending() {
            let update = Update {
                worker: self.part.worker,
                second: mem::replace(&mut self.second, second),
                tally: mem::replace(&mut self.books.tally, Tally::new()),
            };
            // The main thread waits for the end of all workers, so it is there.
            self.updates.send(update).ok();
        }
    }

    /// Sends the bursts that are due, as long as there are connections for them; in a closed loop each is due when it can be
    /// sent.
    ///
    /// Sending comes when all that had come is read, not in between: the server then finds several requests when it wakes, and both sides
    /// sleep and wake less often. In turns of one answer and one request a single costs both a quarter more.
    fn send_due(&mut self) {
        while self.is_sending()
            && let Some(index) = self.idle.front().copied()
        {
            let now = self.began.elapsed();
            let is_idle = self.links[index as usize].state == State::Idle;
            let mut due = now;
            if let Some(schedule) = self.part.schedule.as_mut().filter(|_| is_idle) {
                due = schedule.next();
                if due > now || self.shared.sending.is_some_and(|end| due >= end) {
                    return;
                }
                schedule.advance();
            }
            self.idle.pop_front();
            self.links[index as usize].is_listed = false;
            if is_idle {
                self.send(index as usize, due, now);
            }
        }
    }

    /// Has the loop woken when the next burst is due, if there is a connection for it.
    fn set_alarm(&mut self) -> io::Result<()> {
        let Some(schedule) = self.part.schedule.as_ref().filter(|_| self.is_sending()) else {
            return Ok(());
        };
        let (now, next) = (self.began.elapsed(), schedule.next());
        // Later ones are met by the sweep, whose end is waited for in any case.
        if self.idle.is_empty() || next == self.alarm || next > now + SWEEP_EVERY {
            return Ok(());
        }
        self.alarm = next;
        let left = next.saturating_sub(now).max(Duration::from_nanos(1));
        let value = Itimerspec {
            it_interval: Timespec::default(),
            it_value: timespec(left),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)?;
        Ok(())
    }

    /// Waits until a socket or the timer has something, a sweep is due at the latest, and takes what there is.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timespec(SWEEP_EVERY))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            if event.data.u64() != TIMER {
                self.ready(event.data.u64() as usize);
            }
        }
        Ok(())
    }

    /// A socket can be read or written, or is broken.
    #[inline]
    fn ready(&mut self, index: usize) {
        let state = self.links[index].state;
        let done = match state {
            State::Down(_) => return,
            State::Connecting(_) => self.establish(index),
            State::Idle | State::Busy => self.receive(index),
        };
        match done {
            Ok(None) => {}
            Ok(Some(now)) => self.next(index, now),
            Err(why) => self.broken(index, why, self.began.elapsed()),
        }
    }

    fn connect(&mut self, index: usize, now: Duration) {
        let wire = Wire::connect(self.shared.address, self.shared.secure).and_then(|wire| {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(
                &self.epoll,
                wire.descriptor(),
                EventData::new_u64(index as u64),
                flags,
            )?;
            Ok(wire)
        });
        let link = &mut self.links[index];
        link.state = State::Connecting(now);
        match wire {
            Ok(wire) => link.wire = Some(wire),
            Err(error) => self.broken(index, Break::Connect(error), now),
        }
    }

    /// Goes on with connecting; when it is done, the time.
    fn establish(&mut self, index: usize) -> Result<Option<Duration>, Break> {
        let link = &mut self.links[index];
        let wire = link.wire.as_mut().expect("it is connecting");
        if !wire.establish().map_err(Break::Connect)? {
            return Ok(None);
        }
        link.state = State::Idle;
        Ok(Some(self.began.elapsed()))
    }

    /// Takes what has come. The time, if a burst is answered as a whole.
    #[inline]
    fn receive(&mut self, index: usize) -> Result<Option<Duration>, Break> {
        let link = &mut self.links[index];
        link.wire.as_mut().expect("it is up").flush()?;
        let mut completed = None;
        loop {
            let wire = link.wire.as_mut().expect("it is up");
            let (size, is_last) = match wire.read(&mut self.buffer)? {
                Got::Some(size) => (size, false),
                Got::Last(size) => (size, true),
                Got::End => return Err(Break::Closed),
            };
            if size > 0 {
                let now = self.began.elapsed();
                if link.take(&self.buffer[..size], &mut self.reader, &mut self.books, now)? {
                    completed = Some(now);
                }
            }
            if is_last {
                return Ok(completed);
            }
        }
    }

    /// A connection could send.
    #[inline]
    fn next(&mut self, index: usize, now: Duration) {
        if self.links[index].closing {
            self.links[index].drop_wire(now);
            if self.is_sending() {
                self.connect(index, now);
            }
            return;
        }
        if !mem::replace(&mut self.links[index].is_listed, true) {
            self.idle.push_back(index as u32);
        }
    }

    /// Sends a burst.
    #[inline]
    fn send(&mut self, index: usize, due: Duration, now: Duration) {
        // What was due before counts by when it was due, and what is bounded is what counts.
        let counts = due >= self.shared.warmup;
        let mut events = self.shared.shape.events();
        if let Some(budget) = self.part.budget.as_mut().filter(|_| counts) {
            events = events.min(u32::try_from(*budget).unwrap_or(u32::MAX));
            *budget -= u64::from(events);
            if events == 0 {
                return;
            }
        }
        let first = self.part.numbers.take(events);
        let burst = self.requests.burst(first, events, now);
        let (requests, events_each) = match self.shared.shape {
            Shape::Batch(_) => (1, events),
            Shape::Single | Shape::Pipeline(_) => (events, 1),
        };
        let link = &mut self.links[index];
        link.flight = Flight {
            due,
            sent: now,
            first,
            requests,
            events_each,
            answered: 0,
            counts,
        };
        link.state = State::Busy;
        self.books.sent(&link.flight, burst.body_bytes);
        let wire = link.wire.as_mut().expect("it was idle");
        if let Err(error) = wire.send(burst.bytes) {
            self.broken(index, error.into(), now);
        }
    }

    /// Gives a connection up, and counts what was on the way.
    #[cold]
    fn broken(&mut self, index: usize, why: Break, now: Duration) {
        let link = &mut self.links[index];
        match link.state {
            State::Busy => {
                // One that broke without a single answer is no better than none.
                link.fails += u32::from(link.flight.answered == 0);
                self.books.failed(&link.flight, &why, now);
            }
            State::Connecting(_) => {
                link.fails += 1;
                let example = || why.example();
                self.books.tally.error("connect", 1, example);
            }
            // A server may end a connection that has nothing to do; one that says something unasked is another matter.
            State::Idle | State::Down(_) => {
                if matches!(why, Break::Unasked(_) | Break::Malformed(_)) {
                    link.fails += 1;
                    self.books.tally.error(why.kind(), 1, || why.example());
                }
            }
        }
        link.drop_wire(now);
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
