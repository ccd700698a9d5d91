//! The endpoints: from HTTP to the engine and back, a file for each.
//!
//! A [`Session`] serves one connection, on that connection's coroutine. Singles of a pipelined burst collect in one frame:
//! each has its blocks reserved before it is validated, so that a 202 that is already rendered can be kept; the frame is
//! committed when the burst is settled, before an answer leaves. Answers that promise `written` or `synced` are owed until
//! then.
//!
//! Bounds: a burst is at most the connection's input buffer, 64 KiB; bodies by the settings. However many requests a burst
//! has, it waits for room once for the enqueue timeout and for levels once for the ack timeout. When the journal is full a request is answered 503 with `Retry-After`, and nothing of it is stored.

mod ack;
mod batch;
mod behavior;
mod error;
mod event;
mod health;
mod spare;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use ack::name as level_name;

use crate::config::Config;
use crate::event::{Lines, Parser, Timestamp};
use crate::http::{MakeService, Output, OwedSlot, Prepared, Request, Service};
use crate::ingest::{Commitment, Engine, Entrance, Level, Producer, View};

/// What all sessions share.
struct Shared {
    /// Name of the log in answers.
    log_name: String,
    enqueue_timeout: Duration,
    ack_timeout: Duration,
    ack: Level,
    event_bytes_max: usize,
    batch_bytes_max: usize,
    line_bytes_max: usize,
    batch_lines_bytes_max: usize,
    may_read: bool,
    view: View,
    spare: spare::Spare,
    /// The answer to a single event at level `journaled`: the hot one.
    stored_one: Prepared,
}

/// Makes a session for each connection.
pub struct Api {
    shared: Arc<Shared>,
    entrance: Entrance,
}

impl Api {
    /// The endpoints of `engine`.
    pub fn new(config: &Config, engine: &Engine) -> Api {
        let view = engine.view();
        let ack_header = [("X-Ack", ack::name(Level::Journaled, &view))];
        let shared = Shared {
            stored_one: Prepared::json(202, &ack_header, &ack::stored_body(1, &config.log_name)),
            log_name: config.log_name.clone(),
            enqueue_timeout: config.enqueue_timeout,
            ack_timeout: config.ack_timeout,
            ack: config.ack,
            event_bytes_max: config.event_bytes_max,
            batch_bytes_max: config.batch_bytes_max,
            line_bytes_max: config.line_bytes_max,
            batch_lines_bytes_max: (config.engine.journal_bytes_max / 2) as usize,
            may_read: config.may_read(),
            view,
            spare: spare::Spare::new(),
        };
        Api {
            shared: Arc::new(shared),
            entrance: engine.entrance(),
        }
    }
}

impl Shared {
    fn parser(&self) -> Parser {
        Parser::new(self.line_bytes_max).with_batch_bound(self.batch_lines_bytes_max)
    }
}

impl MakeService for Api {
    type Service = Session;

    fn make(&self, _peer: SocketAddr) -> Session {
        Session {
            parser: self.shared.parser(),
            producer: self.entrance.producer(),
            shared: Arc::clone(&self.shared),
            burst: Lines::new(),
            burst_level: Level::Journaled,
            now: None,
            commitments: Vec::new(),
            owed: Vec::new(),
            body: Vec::new(),
            unpacked: Vec::new(),
            room_until: None,
            level_until: None,
        }
    }
}

/// The service of one connection.
pub struct Session {
    shared: Arc<Shared>,
    parser: Parser,
    producer: Producer,
    /// Lines of the burst's singles that are not committed yet, and the highest level asked for among them.
    burst: Lines,
    burst_level: Level,
    /// The time of the burst: one look at the clock for all its events.
    now: Option<Timestamp>,
    /// What was committed in this burst and is waited for when it is settled.
    commitments: Vec<Commitment>,
    owed: Vec<Owed>,
    /// Bodies of singles that were not in the connection's input, and packed ones unpacked.
    body: Vec<u8>,
    unpacked: Vec<u8>,
    /// When those who wait in this burst give up: one deadline each for room and for a level, whatever the number of
    /// requests.
    room_until: Option<Instant>,
    level_until: Option<Instant>,
}

/// An answer that waits for its level.
struct Owed {
    slot: OwedSlot,
    level: Level,
    /// Index of its commitment; for singles that of the burst they will be committed with.
    commitment: usize,
    /// Position of its first line in the frame, and number of lines.
    first: usize,
    count: usize,
    /// The body of the 202.
    body: Vec<u8>,
}

/// Most that an idle session keeps of each buffer, in bytes.
const IDLE_BYTES_MAX: usize = 64 << 10;

impl Service for Session {
    fn call(&mut self, request: &mut Request<'_>, output: &mut Output) {
        match request.path() {
            "/api/metrics/event" => match request.method() {
                "POST" => self.event(request, output),
                _ => error::method_not_allowed("POST", output),
            },
            "/api/metrics/events/batch" => match request.method() {
                "POST" => self.batch(request, output),
                _ => error::method_not_allowed("POST", output),
            },
            "/api/metrics/behavior" => match request.method() {
                "GET" | "HEAD" => self.behavior(request, output),
                _ => error::method_not_allowed("GET, HEAD", output),
            },
            "/api/metrics/behavior/health" => match request.method() {
                "GET" | "HEAD" => self.health(output),
                _ => error::method_not_allowed("GET, HEAD", output),
            },
            _ => output.detail(404, &[], "Not Found"),
        }
    }

    fn settle(&mut self, output: &mut Output) {
        self.commit_burst();
        self.pay_owed(output);
        (self.now, self.room_until, self.level_until) = (None, None, None);
        for buffer in [&mut self.body, &mut self.unpacked] {
            if buffer.capacity() > IDLE_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
        if self.burst.capacity() > IDLE_BYTES_MAX {
            self.burst = Lines::new();
        }
    }

    fn rest(&mut self) {
        self.parser = self.shared.parser();
        self.shared.spare.give_lines(std::mem::take(&mut self.burst));
        for buffer in [&mut self.body, &mut self.unpacked] {
            self.shared.spare.give_bytes(std::mem::take(buffer));
        }
        (self.commitments, self.owed) = Default::default();
    }
}

impl Session {
    /// Commits the singles collected so far, as one frame.
    fn commit_burst(&mut self) {
        if self.burst.is_empty() {
            return self.producer.release();
        }
        let level = std::mem::replace(&mut self.burst_level, Level::Journaled);
        let commitment = self.producer.commit(&mut self.burst, level);
        if level > Level::Journaled {
            self.commitments.push(commitment);
        }
    }
}
