//! The endpoints: from HTTP to the engine and back, a file for each.
//!
//! Every request passes the gate (`gate/mod.rs`) first: who may do what, and how often. A [`Session`] serves one
//! connection, on that connection's coroutine. Singles collect in one frame, those of a pipelined burst and of other
//! connections of the worker: each has its blocks reserved before its 202 is rendered, so that this can be kept; the frame is
//! committed when the burst is settled, before an answer leaves. Answers that promise `written` or `synced` are owed until then.
//!
//! Bounds: a burst is at most the connection's input buffer, 64 KiB; bodies by the settings. However many requests a
//! burst has, it waits for room once for the enqueue timeout and for levels once for the ack timeout. When the journal
//! is full a request is answered 503 with `Retry-After`, and nothing of it is stored.

mod access;
mod ack;
mod batch;
mod behavior;
mod budget;
mod error;
mod event;
mod files;
mod funnel;
mod gate;
mod health;
mod intake;
mod metrics;
mod openapi;
mod parameters;
mod read;
mod refusal;
mod route;
mod spare;
mod stream;
mod timeseries;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use ack::name as level_name;
pub use gate::Gate;

use crate::config::Config;
use crate::event::Parser;
use crate::fleet::FleetStatus;
use crate::http::{Answered, MakeService, Output, Peer, Prepared, Request, Service, Traffic};
use crate::ingest::{Engine, Entrance, Level, View};
use crate::query::readers::Readers;
use crate::query::stream::Streams;
use crate::ship::ShipStatus;
use gate::{Admitted, Pass, Reads};
use intake::Intake;
use route::Route;

/// What all sessions share.
struct Shared {
    /// Name of the log in answers.
    log_name: String,
    enqueue_timeout: Duration,
    ack_timeout: Duration,
    query_timeout: Duration,
    ack: Level,
    event_bytes_max: usize,
    batch_bytes_max: usize,
    /// Of a line without its number.
    line_bytes_max: usize,
    batch_lines_bytes_max: usize,
    gate: Arc<Gate>,
    reads: Reads,
    view: View,
    readers: Readers,
    streams: Streams,
    spare: spare::Spare,
    budget: budget::Budget,
    /// What is counted of the connections, and how many there may be.
    traffic: Arc<Traffic>,
    connections_max: usize,
    event_names_max: usize,
    /// `/openapi.json`.
    description: Vec<u8>,
    /// Invalid events that were left out of partial batches. Relaxed: a count that vouches for nothing else.
    partial_rejected: AtomicU64,
    files: files::Files,
    /// Whose events these are.
    origin: parameters::Origin,
    /// What goes on with other machines.
    abroad: Abroad,
    /// The answer to a single event at level `journaled`: the hot one.
    stored_one: Prepared,
}

/// How what goes on with other machines is doing, as far as it does.
#[derive(Default)]
pub struct Abroad {
    /// The log is shipped.
    pub ship: Option<Arc<ShipStatus>>,
    /// The logs of a fleet come in, and no events otherwise.
    pub fleet: Option<Arc<FleetStatus>>,
}

/// Makes a session for each connection.
pub struct Api {
    shared: Arc<Shared>,
    entrance: Entrance,
}

impl Api {
    /// The endpoints of `engine`, behind `gate`; `abroad` is what goes on with other machines.
    pub fn new(config: &Config, engine: &Engine, gate: Arc<Gate>, abroad: Abroad) -> Api {
        let view = engine.view();
        let ack_header = [("X-Ack", ack::name(Level::Journaled, &view))];
        let shared = Shared {
            stored_one: Prepared::json(202, &ack_header, &ack::stored_body(1, &config.log_name)),
            log_name: config.log_name.clone(),
            enqueue_timeout: config.enqueue_timeout,
            ack_timeout: config.ack_timeout,
            query_timeout: config.query_timeout,
            ack: config.ack,
            event_bytes_max: config.event_bytes_max,
            batch_bytes_max: config.batch_bytes_max,
            line_bytes_max: config.bare_line_bytes_max(),
            batch_lines_bytes_max: (config.engine.journal_bytes_max / 2) as usize,
            gate,
            reads: Reads::new(config),
            readers: Readers::start(&view, read::QUEUE_MAX).expect("the system starts threads"),
            streams: Streams::start(view.clone(), &config.engine.log, config.stream, config.workers),
            view,
            spare: spare::Spare::new(),
            budget: budget::Budget::new(config.inflight_bytes_max),
            traffic: Arc::new(Traffic::new(config.workers)),
            connections_max: config.connections_max,
            event_names_max: config.engine.names_max,
            description: openapi::render(&openapi::Facts {
                ring_capacity: config.engine.ring_capacity,
                limit_default: behavior::limit_default(config.engine.ring_capacity),
            }),
            partial_rejected: AtomicU64::new(0),
            files: files::Files::new(),
            origin: match &config.from {
                Some(_) => parameters::Origin::Fleet,
                None => parameters::Origin::Node(config.node.clone()),
            },
            abroad,
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

    fn make(&self, peer: Peer) -> Session {
        Session {
            pass: Pass::new(&self.shared.gate, self.shared.reads, peer.ip()),
            parser: self.shared.parser(),
            intake: Intake::new(Arc::clone(&self.shared), self.entrance.producer()),
            shared: Arc::clone(&self.shared),
            body: Vec::new(),
            unpacked: Vec::new(),
        }
    }

    fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.shared.traffic)
    }

    fn refused(&self, peer: Peer, answered: Option<Answered>) {
        self.shared.gate.refused(peer.ip(), answered.as_ref());
    }
}

/// The service of one connection.
pub struct Session {
    shared: Arc<Shared>,
    pass: Pass,
    parser: Parser,
    intake: Intake,
    /// Bodies of singles that were not in the connection's input, and packed ones unpacked.
    body: Vec<u8>,
    unpacked: Vec<u8>,
}

/// What those are told who send events to a view of a fleet.
const VIEW: &str = "This server is a view of a whole fleet (METRICS_FROM) and takes no events. Send them to one of its nodes.";

/// Most that an idle session keeps of each buffer, in bytes.
const IDLE_BYTES_MAX: usize = 64 << 10;

impl Service for Session {
    fn call(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let Some(Admitted { route, may_read }) = self.pass.admit(request, output) else {
            return;
        };
        if self.shared.abroad.fleet.is_some() && matches!(route, Route::Event | Route::Batch) {
            return output.detail(403, &[], VIEW);
        }
        match route {
            Route::Event => self.event(request, output),
            Route::Batch => self.batch(request, output),
            Route::Behavior => self.behavior(request, output),
            Route::Timeseries => self.timeseries(request, output),
            Route::Funnel => self.funnel(request, output),
            Route::Health => self.health(may_read, output),
            Route::Metrics => self.metrics(request, output),
            Route::OpenApi => openapi::answer(&self.shared, output),
            Route::File(file) => self.file(file, request, output),
            Route::Stream => self.stream(request, output),
        }
    }

    fn watches(&self) -> bool {
        self.pass.watches()
    }

    fn answered(&mut self, answered: Answered) {
        self.pass.answered(&answered);
    }

    fn settle(&mut self, output: &mut Output) {
        self.intake.settle(output);
        for buffer in [&mut self.body, &mut self.unpacked] {
            if buffer.capacity() > IDLE_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }

    fn rest(&mut self) {
        self.parser = self.shared.parser();
        self.intake.rest();
        self.pass.rest();
        for buffer in [&mut self.body, &mut self.unpacked] {
            self.shared.spare.give_bytes(std::mem::take(buffer));
        }
    }
}
