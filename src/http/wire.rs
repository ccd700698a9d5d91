//! Bytes in and out: the input buffer, and a socket that remembers whether it has been read dry and how long it may be
//! waited for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::deadline::{NEVER, Time, Watch, Watched, micros, signed};
use super::pool::Pool;
use super::request::Presence;
use super::socket::Socket;
use super::traffic::Counts;

/// Input buffer of a connection, in bytes: some twenty small requests.
pub(super) const INPUT_BYTES_START: usize = 8 * 1024;
/// The other size, for those that need more than that. Larger bodies pass through it piece by piece.
pub(super) const INPUT_BYTES_MAX: usize = 64 * 1024;

/// How long a connection waits for its next request before it gives its memory back. Requests of one page or one
/// program follow each other more closely; and one that comes later can well pay the microseconds.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How long a connection that was ended early waits for its peer to stop sending. Closing a socket with
/// unread input resets it, and the reset can overtake the answer that says why.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How much such a connection throws away, in bytes.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What was read and is not used up yet.
#[derive(Debug)]
pub(super) struct Input {
    /// INVARIANT: `start <= end <= bytes.len()`. The bytes between are the unused input, those after `end`
    /// are room for a read (zeros or left-overs). Empty while the connection waits.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled the whole room: there is probably more than the buffer takes.
    was_full: bool,
    /// The next buffer is to be a large one: since the connection was last at rest one was too small.
    is_large: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            end: 0,
            was_full: false,
            is_large: false,
        }
    }

    pub(super) fn unused(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "input used twice");
        self.start += count;
    }

    /// There is a buffer, and nothing in it: any other will do as well.
    fn is_spare(&self) -> bool {
        self.is_empty() && !self.bytes.is_empty()
    }

    /// Gives up the buffer, which holds nothing. The next one will be of the same size.
    fn give_up(&mut self) -> Vec<u8> {
        assert!(self.is_empty(), "unused input is not thrown away");
        self.is_large |= self.was_full;
        self.was_full = false;
        (self.start, self.end) = (0, 0);
        std::mem::take(&mut self.bytes)
    }

    /// As new, for a connection that has come to rest. The buffer, if it was not given up before.
    pub(super) fn release(&mut self) -> Vec<u8> {
        assert!(self.is_empty(), "unused input is not thrown away");
        std::mem::replace(self, Self::new()).bytes
    }

    /// Room for a read, never empty: a buffer if there is none, a large one where that was or is full. What is left is
    /// moved to the front.
    fn room(&mut self, pool: &Pool) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = match self.is_large {
                true => pool.take_large(),
                false => pool.take(),
            };
        }
        let left = self.end - self.start;
        let is_short = self.was_full || left == self.bytes.len();
        if is_short && self.bytes.len() < INPUT_BYTES_MAX {
            let mut large = pool.take_large();
            large[..left].copy_from_slice(self.unused());
            pool.give(std::mem::replace(&mut self.bytes, large));
            self.is_large = true;
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, left);
        self.was_full = false;
        // The head limit is below the buffer's bound (checked in `serve`), and body pieces are used up before
        // the next read.
        assert!(self.end < self.bytes.len(), "a read needs room");
        &mut self.bytes[self.end..]
    }

    fn filled(&mut self, count: usize) {
        self.end += count;
        self.was_full = self.end == self.bytes.len();
    }
}

/// What a wait for input is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The next request: between two of them a stopping server may end the connection.
    Request,
    /// More of a body, whose request is to be answered in any case. The service holds so many bytes for it; what came
    /// last was, of a packed body, so many when it was unpacked.
    Body { kept: usize, unpacked: Option<usize> },
}

/// What a write does when the socket takes no more for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It waits until the socket does.
    Waits,
    /// It waits, but not in a server that stops.
    WaitsUnlessStopping,
    /// It comes back.
    Returns,
}

/// How a wait for input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// There is new input.
    More,
    /// The peer has ended its sending side.
    End,
    /// The server is stopping, no request has begun, and the socket holds none.
    Stopping,
    /// Nothing has come for a while and no request has begun: the connection should give back what it does not need for
    /// waiting, and wait on.
    AtRest,
    /// The peer has taken too long: over a head, over a body, or to send another request.
    TooSlow,
}

impl<S: Socket> Presence for Wire<S> {
    fn is_peer_gone(&self) -> bool {
        self.socket.is_hung_up()
    }
}

/// A socket, what is known of it, and how long its peer may take.
#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: S,
    watch: Watch,
    /// A read came back short: the next one waits for an event first, instead of asking for `EAGAIN`.
    drained: bool,
    /// A hang-up was reported. The registration is edge-triggered, so a FIN that was reported together with
    /// data gives no further event: from here on only reading tells.
    hang_up: bool,
    /// When the head that is awaited must be there, once it has begun. [`NEVER`] between requests.
    head_until: Time,
    /// How much longer the peer may keep a body waiting, in microseconds: spent by waiting, earned by bytes, at most the
    /// grace. Below zero when bytes came too late: they are taken, but the debt stays, or whoever sends a little
    /// within each round of the clock could do so for ever.
    body_credit: i64,
    /// The same for what the service keeps of it. Of a packed body that came with the bytes that were unpacked, which may
    /// be many more; those of which nothing comes earn nothing here.
    kept_credit: i64,
    /// While the connection is at rest, when it has waited for the next request for too long. [`NEVER`] otherwise.
    rest_until: Time,
    /// A write has failed or was given up: what left of it may be half an answer, behind which there is no place for another.
    write_failed: bool,
}

impl<S: Socket> Wire<S> {
    /// The wire of a connection that was just accepted: its first head has begun.
    pub(super) fn new(socket: S, watch: Watch) -> Self {
        Self {
            head_until: watch.after(watch.timeouts().head),
            body_credit: watch.timeouts().body_credit_max(),
            kept_credit: watch.timeouts().body_credit_max(),
            socket,
            watch,
            drained: false,
            hang_up: false,
            rest_until: NEVER,
            write_failed: false,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.watch.control.is_stopping()
    }

    /// Where the answers of this connection are counted.
    pub(super) fn counts(&self) -> Counts {
        Counts::new(Arc::clone(&self.watch.control.traffic), self.watch.lane)
    }

    /// How far down the stack of a connection's coroutine goes.
    pub(super) fn stack_bytes(&self) -> Option<usize> {
        self.watch.control.stack_bytes
    }

    /// A request has been taken out of the input with its body: limits of head and body begin anew.
    pub(super) fn end_request(&mut self) {
        self.head_until = NEVER;
        self.body_credit = self.watch.timeouts().body_credit_max();
        self.kept_credit = self.body_credit;
    }

    /// Parks until the socket changes, somebody wakes the connection, or `until` has passed.
    fn wait(&mut self, until: Time) {
        self.watch.set(until);
        let events = self.socket.wait();
        if events.worth_reading() {
            self.drained = false;
        }
        self.hang_up |= events.is_hang_up();
    }

    /// When the wait that begins now has lasted too long.
    fn patience(&mut self, input: &Input, awaited: Awaited) -> Time {
        let limit = match awaited {
            Awaited::Body { .. } => {
                let credit = self.body_credit.min(self.kept_credit);
                return self.watch.after(0).saturating_add_signed(credit);
            }
            Awaited::Request if self.rest_until != NEVER => return self.rest_until,
            Awaited::Request if self.head_until != NEVER => return self.head_until,
            Awaited::Request if input.is_empty() => self.watch.timeouts().idle,
            Awaited::Request => {
                self.head_until = self.watch.after(self.watch.timeouts().head);
                return self.head_until;
            }
        };
        self.watch.after(limit)
    }

    /// Reads once, and parks the coroutine until there is something to read, or the peer has taken too long.
    pub(super) fn fill(&mut self, input: &mut Input, awaited: Awaited) -> io::Result<Filled> {
        let began = self.watch.now();
        if let Awaited::Body {
            kept,
            unpacked: Some(count),
        } = awaited
        {
            let timeouts = self.watch.timeouts();
            let earned = signed(timeouts.worth_of_kept(count, kept));
            let credit = self.kept_credit.saturating_add(earned);
            self.kept_credit = credit.min(timeouts.body_credit_max());
        }
        let until = self.patience(input, awaited);
        let can_rest = awaited == Awaited::Request && input.is_empty() && self.rest_until == NEVER;
        let rest_at = if can_rest {
            self.watch.after(micros(REST_AFTER))
        } else {
            NEVER
        };
        loop {
            // A stopping server has one last look at the socket of an idle connection: a request that is
            // already there is answered.
            let last_look = awaited == Awaited::Request && input.is_empty() && self.is_stopping();
            if self.drained && !self.hang_up && !last_look {
                self.spare(input);
                // Whoever is woken has a look at the socket first, and only then at the clock.
                let now = self.watch.now();
                if now >= until {
                    return Ok(Filled::TooSlow);
                }
                if now >= rest_at {
                    self.rest_until = until;
                    return Ok(Filled::AtRest);
                }
                self.wait(until.min(rest_at));
                if let Awaited::Body { .. } = awaited {
                    // Much may be to be done with it. Those who are ready and have less to do go first: one that gives way
                    // before its answer leaves would wait for all bodies of this round otherwise.
                    may::coroutine::yield_now();
                }
                continue;
            }
            let room = input.room(&self.watch.control.pool);
            let asked = room.len();
            match self.socket.read(room) {
                Ok(0) => return Ok(Filled::End),
                Ok(count) => {
                    self.watch.control.traffic.received(self.watch.lane, count);
                    self.drained = count < asked;
                    input.filled(count);
                    self.rest_until = NEVER;
                    if let Awaited::Body { kept, unpacked } = awaited {
                        self.earn(count, (kept, unpacked), began);
                    }
                    return Ok(Filled::More);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if last_look {
                        return Ok(Filled::Stopping);
                    }
                    self.drained = true;
                    self.hang_up = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Leaves the buffer to others if there is nothing in it.
    pub(super) fn spare(&self, input: &mut Input) {
        if input.is_spare() {
            self.watch.control.pool.give(input.give_up());
        }
    }

    /// Settles a wait for a part of a body that began at `began` and brought `count` bytes, while `kept` were held for
    /// it. What is earned beyond the grace is lost: a fast beginning does not pay for standing still later.
    fn earn(&mut self, count: usize, (kept, unpacked): (usize, Option<usize>), began: Time) {
        let timeouts = self.watch.timeouts();
        let spent = signed(self.watch.now() - began);
        let settle = |credit: i64, earned: Time| {
            let credit = credit.saturating_sub(spent).saturating_add(signed(earned));
            credit.min(timeouts.body_credit_max())
        };
        // What a packed piece is worth here shows when it has been unpacked.
        let of_kept = match unpacked {
            Some(_) => 0,
            None => timeouts.worth_of_kept(count, kept),
        };
        (self.body_credit, self.kept_credit) = (
            settle(self.body_credit, timeouts.worth_of(count)),
            settle(self.kept_credit, of_kept),
        );
    }

    /// Writes everything; parks the coroutine while the peer does not read, which it may do for so long. After a failure
    /// nothing is written any more.
    pub(super) fn write_all(&mut self, from: &[u8]) -> io::Result<()> {
        self.write_some(from, Refused::Waits).map(drop)
    }

    /// As [`Wire::write_all`], but says how many bytes have left when the socket takes no more, or when the server stops,
    /// as `refused` asks for.
    pub(super) fn write_some(&mut self, from: &[u8], refused: Refused) -> io::Result<usize> {
        if self.write_failed {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "an earlier write has failed",
            ));
        }
        let written = self.write_on(from, refused);
        self.write_failed = written.is_err();
        written
    }

    fn write_on(&mut self, from: &[u8], refused: Refused) -> io::Result<usize> {
        let mut left = from;
        // Until when the peer may leave so many bytes unread that the socket has taken and not sent.
        let mut stalled: Option<(usize, Time)> = None;
        while !left.is_empty() {
            match self.socket.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.watch.control.traffic.sent(self.watch.lane, count);
                    left = &left[count..];
                    stalled = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let is_over = match refused {
                        Refused::Waits => false,
                        Refused::WaitsUnlessStopping => self.is_stopping(),
                        Refused::Returns => true,
                    };
                    if is_over {
                        break;
                    }
                    let unsent = self.socket.unsent();
                    let until = match stalled {
                        Some((before, until)) if unsent >= before => until,
                        _ => self.watch.after(self.watch.timeouts().write),
                    };
                    stalled = Some((unsent, until));
                    if self.watch.now() >= until {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read"));
                    }
                    self.wait(until);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(from.len() - left.len())
    }

    /// Parks until somebody wakes the connection, its socket changes, or `timeout` has passed. Whether the server goes on;
    /// an error when the peer has gone.
    pub(super) fn wait_for_word(&mut self, timeout: Duration) -> io::Result<bool> {
        if !self.hang_up && !self.is_stopping() {
            self.wait(self.watch.after(micros(timeout)));
        }
        match self.hang_up {
            true => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer has gone",
            )),
            false => Ok(!self.is_stopping()),
        }
    }

    pub(super) fn watched(&self) -> Arc<Watched> {
        self.watch.watched.clone()
    }

    /// Ends the sending side and throws input away until the peer has ended its own, within bounds of time
    /// and bytes.
    pub(super) fn linger(&mut self, input: &mut Input) {
        if self.socket.shut_write().is_err() {
            return;
        }
        let until = self.watch.after(micros(LINGER_MAX));
        let mut discarded: usize = 0;
        while discarded < LINGER_BYTES_MAX && self.watch.now() < until {
            input.consume(input.unused().len());
            match self.socket.read(input.room(&self.watch.control.pool)) {
                Ok(0) => return,
                Ok(count) => discarded += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(until),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}
