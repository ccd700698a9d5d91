//! Floodgate: behaviour events arrive over HTTP and leave as an append-only JSONL log.
//!
//! ```text
//! socket → http → api → event → ingest (journal: commit, acknowledge) → ring → writer → log → everything that reads
//! ```
//!
//! | room | job | who runs it |
//! |---|---|---|
//! | [`cli`] | the commands; `serve` wires the rooms, waits for a signal, shuts down in order | the main thread; a service manager's watchdog is fed by a thread |
//! | [`config`] | the settings | the main thread, once |
//! | [`http`] | HTTP/1.1: connections, requests, bodies, answers; knows nothing of events | a coroutine a connection; deadlines: the patrol thread |
//! | [`api`] | a file per endpoint, behind a gate (who may do what): HTTP to engine and back | the connection's coroutine; access log, sweeping of rate limits: a thread each; reading keys again: the main thread |
//! | [`event`] | what an event is: validation, errors, the stored line | the connection's coroutine |
//! | [`ingest`] | journal, frames, ring, acknowledgement, counts | commit: the connection's coroutine; publish: the writer thread; sync, growth, deadlines: a thread each; waking: the herald coroutine |
//! | [`log`] | the log on disk: append, rotation, sealed files and what is counted of them, the cursor that reads it, lock | the writer thread; before it, recovery; for sealed files the keeper thread, and a thread each that compresses and uploads |
//! | [`query`] | snapshots, time series, funnels, the live stream | the snapshot of everything, and each stream: the connection's coroutine; what is filtered: reader threads, for which the coroutine parks; the stream's feeder and its catch-up readers: a thread each |
//! | [`load`] | the load test: makes load, holds the log against what was acknowledged, and says what it found, as a table, a page, a file; two groups of runs side by side | worker threads of its own; the main thread |
//! | [`replay`] | existing JSONL, posted to a server: `floodgate replay` | the main thread; a reader thread, and a thread for each connection |
//! | [`ship`] | the log to NATS JetStream, by a cursor | a thread |
//! | [`fleet`] | the view of a fleet: the logs of many nodes into one | a thread |
//! | `kafka` | the log to a topic of Kafka, by a cursor; only with the cargo feature of that name | `floodgate ship`: the main thread, and those of librdkafka |
//! | [`web`] | the files of the dashboard and of the tracker | – |
//!
//! Dependencies point one way, in the order of the pipeline; the log knows nothing of HTTP, and of events
//! how a line tells its name and its minute.
//! `docs/ARCHITECTURE.md` follows an event through all of it and argues the guarantees.
#![deny(rustdoc::broken_intra_doc_links)]

pub mod api;
mod background;
pub mod cli;
pub mod config;
pub mod event;
mod failpoint;
pub mod fleet;
pub mod http;
pub mod ingest;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod load;
pub mod log;
mod printable;
pub mod query;
pub mod replay;
pub mod ship;
pub mod web;
