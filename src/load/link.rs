//! A connection: its states, and what is on the way.
//!
//! ```text
//!          connected            burst sent
//! connecting ------> idle ------------------> busy
//!     ^  |             ^  <------------------  |
//!     |  | refused     |      all answered     | broken, or not answered in time
//!     |  v             |                       v
//!     down <-----------+-------------------- (what was not answered is counted)
//!       closed by the server
//! ```
//!
//! From `down` it goes on after a pause, which grows from 10 ms to a second while connecting fails or bursts break without an answer.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::answer::{Malformed, Reader};
use super::books::Books;
use super::wire::Wire;

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connection. Times are since the start of the run.
pub struct Link {
    /// What it does.
    pub state: State,
    /// Its socket, unless it is down.
    pub wire: Option<Wire>,
    /// The beginning of an answer whose rest has not come.
    pub carry: Vec<u8>,
    /// What is on the way while it is busy.
    pub flight: Flight,
    /// Whether the server ends the connection behind what it has answered.
    pub closing: bool,
    /// Whether it is in the list of those that are idle.
    pub is_listed: bool,
    /// How often it failed since the last answer.
    pub fails: u32,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits to connect again.
    Down(Duration),
    /// It has been connecting since then.
    Connecting(Duration),
    /// It could send.
    Idle,
    /// It waits for answers.
    Busy,
}

/// A burst on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flight {
    /// When it was to be sent.
    pub due: Duration,
    /// When it was sent.
    pub sent: Duration,
    /// The number of its first event.
    pub first: u64,
    /// Its requests.
    pub requests: u32,
    /// The events of each.
    pub events_each: u32,
    /// Requests that are answered.
    pub answered: u32,
    /// Whether it counts: what is sent while the server warms up does not.
    pub counts: bool,
}

impl Flight {
    /// The number of the first event of the request that is answered next.
    pub fn next(&self) -> u64 {
        self.first + u64::from(self.answered) * u64::from(self.events_each)
    }
}

/// Why a connection is given up.
#[derive(Debug)]
pub enum Break {
    /// It could not be made.
    Connect(io::Error),
    /// The server ended it.
    Closed,
    /// It broke.
    Io(io::Error),
    /// What came is no answer.
    Malformed(Malformed),
    /// An answer that nobody asked for.
    Unasked(u16),
    /// Connecting or answers took too long.
    Timeout(Duration),
    /// The run is over.
    End,
}

impl From<Malformed> for Break {
    fn from(error: Malformed) -> Break {
        Break::Malformed(error)
    }
}

impl From<io::Error> for Break {
    fn from(error: io::Error) -> Break {
        match error.kind() {
            // TLS tells an end without a farewell apart; for us it is an end.
            ErrorKind::UnexpectedEof => Break::Closed,
            _ => Break::Io(error),
        }
    }
}

impl Break {
    /// What it is counted as.
    pub fn kind(&self) -> &'static str {
        match self {
            Break::Connect(_) => "connect",
            Break::Closed => "closed",
            Break::Io(error) => match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => "reset",
                _ => "io",
            },
            Break::Malformed(_) | Break::Unasked(_) => "malformed",
            Break::Timeout(_) => "timeout",
            Break::End => "unanswered",
        }
    }

    /// In words.
    pub fn example(&self) -> String {
        match self {
            Break::Connect(error) | Break::Io(error) => error.to_string(),
            Break::Closed => "the server ended the connection before it had answered".into(),
            Break::Malformed(error) => error.to_string(),
            Break::Unasked(status) => format!("an answer that nobody had asked for, with status {status}"),
            Break::Timeout(time) => format!("nothing within {time:?}"),
            Break::End => "the run was over before there was an answer".into(),
        }
    }
}

impl Link {
    /// One that is to be connected.
    pub fn new() -> Link {
        Link {
            state: State::Down(Duration::ZERO),
            wire: None,
            carry: Vec::new(),
            flight: Flight::default(),
            closing: false,
            is_listed: false,
            fails: 0,
        }
    }

    /// Takes bytes that have come, and books the answers in them. Whether a burst is answered as a whole.
    ///
    /// # Errors
    /// They are no answer, or one to nothing.
    #[inline]
    pub fn take(
        &mut self,
        chunk: &[u8],
        reader: &mut Reader,
        books: &mut Books,
        now: Duration,
    ) -> Result<bool, Break> {
        let mut bytes = chunk;
        if !self.carry.is_empty() {
            self.carry.extend_from_slice(chunk);
            bytes = &self.carry;
        }
        let (mut at, mut is_completed) = (0, false);
        while at < bytes.len()
            && let Some(answer) = reader.read(&bytes[at..])?
        {
            // An interim answer says nothing; the one behind it does.
            if !(100..200).contains(&answer.status) {
                if self.state != State::Busy {
                    return Err(Break::Unasked(answer.status));
                }
                let body = &bytes[at..][answer.body.clone()];
                books.answered(&self.flight, &answer, body, now);
                self.fails = 0;
                self.flight.answered += 1;
                self.closing |= answer.closes;
                if self.flight.answered == self.flight.requests {
                    self.state = State::Idle;
                    is_completed = true;
                }
            }
            at += answer.length;
        }
        match (self.carry.is_empty(), at == bytes.len()) {
            (true, true) => {}
            (false, true) => self.carry.clear(),
            (true, false) => self.carry.extend_from_slice(&chunk[at..]),
            (false, false) => drop(self.carry.drain(..at)),
        }
        Ok(is_completed)
    }

    /// Lets go of the socket; it is connected again after a pause.
    pub fn drop_wire(&mut self, now: Duration) {
        self.wire = None;
        self.carry.clear();
        self.closing = false;
        let pause = match self.fails {
            0 => Duration::ZERO,
            fails => (PAUSE_MIN * (1 << (fails - 1).min(10))).min(PAUSE_MAX),
        };
        self.state = State::Down(now + pause);
    }
}
