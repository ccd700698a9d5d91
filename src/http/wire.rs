//! Bytes in and out: the input buffer, and a socket that remembers whether it has been read dry.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::Control;
use super::socket::Socket;

/// Input buffer of a new connection, in bytes: some twenty small requests.
const INPUT_BYTES_START: usize = 8 * 1024;
/// What the input buffer may grow to, in bytes. Larger bodies pass through it piece by piece.
pub(super) const INPUT_BYTES_MAX: usize = 64 * 1024;

/// How long a connection that was ended early waits for its peer to stop sending. Closing a socket with
/// unread input resets it, and the reset can overtake the answer that says why.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How much such a connection throws away, in bytes.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// First and last pause between two looks at a lingering socket.
const LINGER_PAUSE_MIN: Duration = Duration::from_millis(1);
const LINGER_PAUSE_MAX: Duration = Duration::from_millis(100);

/// What was read and is not used up yet.
#[derive(Debug)]
pub(super) struct Input {
    /// INVARIANT: `start <= end <= bytes.len()`. The bytes between are the unused input, those after `end`
    /// are room for a read (zeros or left-overs).
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled the whole room: there is probably more than the buffer takes.
    was_full: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; INPUT_BYTES_START],
            start: 0,
            end: 0,
            was_full: false,
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

    /// Room for a read, never empty: moves what is left to the front and grows where needed.
    fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if (self.was_full || self.end == self.bytes.len()) && self.bytes.len() < INPUT_BYTES_MAX {
            self.bytes.resize((self.bytes.len() * 2).min(INPUT_BYTES_MAX), 0);
        }
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
    /// More of a body, whose request is to be answered in any case.
    Body,
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
}

/// A socket and what is known of it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: S,
    control: Arc<Control>,
    /// A read came back short: the next one waits for an event first, instead of asking for `EAGAIN`.
    drained: bool,
    /// A hang-up was reported. The registration is edge-triggered, so a FIN that was reported together with
    /// data gives no further event: from here on only reading tells.
    hang_up: bool,
}

impl<S: Socket> Wire<S> {
    pub(super) fn new(socket: S, control: Arc<Control>) -> Self {
        Self {
            socket,
            control,
            drained: false,
            hang_up: false,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.control.is_stopping()
    }

    fn wait(&mut self) {
        let events = self.socket.wait();
        if events.worth_reading() {
            self.drained = false;
        }
        self.hang_up |= events.is_hang_up();
    }

    /// Reads once, and parks the coroutine until there is something to read.
    pub(super) fn fill(&mut self, input: &mut Input, awaited: Awaited) -> io::Result<Filled> {
        loop {
            // A stopping server has one last look at the socket of an idle connection: a request that is
            // already there is answered.
            let last_look = awaited == Awaited::Request && input.is_empty() && self.is_stopping();
            if self.drained && !self.hang_up && !last_look {
                self.wait();
                continue;
            }
            let room = input.room();
            let asked = room.len();
            match self.socket.read(room) {
                Ok(0) => return Ok(Filled::End),
                Ok(count) => {
                    self.drained = count < asked;
                    input.filled(count);
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

    /// Writes everything; parks the coroutine while the peer does not read.
    pub(super) fn write_all(&mut self, mut from: &[u8]) -> io::Result<()> {
        while !from.is_empty() {
            match self.socket.write(from) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => from = &from[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the sending side and throws input away until the peer has ended its own, within bounds of time
    /// and bytes. Looks at the socket at growing intervals: no timer has to outlive the connection.
    pub(super) fn linger(&mut self, input: &mut Input) {
        if self.socket.shut_write().is_err() {
            return;
        }
        let began = Instant::now();
        let mut discarded: usize = 0;
        let mut pause = LINGER_PAUSE_MIN;
        while discarded < LINGER_BYTES_MAX && began.elapsed() < LINGER_MAX {
            input.consume(input.unused().len());
            match self.socket.read(input.room()) {
                Ok(0) => return,
                Ok(count) => discarded += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    may::coroutine::sleep(pause);
                    pause = (pause * 2).min(LINGER_PAUSE_MAX);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}
