//! `floodgate load`: a load test, its report, and the comparison of reports.
//!
//! ```text
//! plan -> run --+-> worker thread: pacing -> request -> wire -> answer -> tally, ledger --+
//!               +-> worker thread: …                                                      +-> seconds -> report
//!               +-> probe: the server's CPU time before and after          ledger + log --+-> verify
//! ```
//!
//! | file | job | who runs it |
//! |---|---|---|
//! | [`plan`] | what is to be done: checked once, read by all | the main thread |
//! | [`target`], `tls` | where requests go, and whom to trust there | the main thread |
//! | `input` | events from a file, in place of generated ones | the main thread |
//! | `events` | events of realistic kinds and sizes, a function of seed and number | made by the main thread, patched by workers |
//! | `request` | the bytes of a burst: copied from what was made before, and patched where requests differ | a worker |
//! | `pacing` | when a burst is due | a worker |
//! | `wire` | a socket that never blocks, plain or TLS | a worker |
//! | `answer` | HTTP/1.1 answers, read strictly | a worker |
//! | `link`, `worker`, `job` | a connection's states; an epoll loop over a worker's share of the connections; what it is told and tells | a worker |
//! | `books`, `tally` | what came of requests: counts, latencies, errors by kind | a worker, handed to the main thread each second |
//! | `ledger` | what became of each event, half a byte each | a worker, then the main thread |
//! | `engine` | starts workers, puts their seconds together | the main thread |
//! | `ramp` | looks for the highest rate that is held | the main thread |
//! | `verify` | reads the log and holds it against the ledger | the main thread |
//! | `probe`, `progress` | whether the server is there, and its CPU time; the line on the terminal | the main thread |
//! | [`report`] | what a run found: its file, its table, its page | the main thread |
//! | [`compare`] | two groups of runs side by side | the main thread |
//!
//! # Whose time a latency is
//!
//! In a closed loop (no rate) a connection sends when it has its answers, and a latency is from the send to the answer. It says how
//! fast the server is when nobody waits in line; it does not say what users see, since a server that stalls is sent less.
//! In an open loop (with a rate) each burst has a time at which it is due, whatever the server does. If every connection is
//! busy then, it is sent when one is free, and its latency is from when it was due: a stall of a second shows in every request
//! that should have been sent in that second. A burst that could not be sent at all until the run's end counts with the time
//! that it has waited by then, and as an error `unsent`.
//!
//! # Bounds
//!
//! Memory: a connection has what the socket did not take of its burst and what is there of an unfinished answer; a worker one burst, one
//! read buffer (64 KiB) and a histogram; a ledger half a byte an event. Time: a burst that is not answered within the time-out
//! costs its connection; connecting again is tried after 10 ms to 1 s; after the end answers are waited for as long as the time-out. A
//! worker never sleeps but in `epoll_wait`, and locks nothing.
//!
//! This room uses nothing of the server's rooms but the log's cursor.

mod answer;
mod books;
pub mod compare;
mod engine;
mod events;
mod input;
mod job;
mod ledger;
mod link;
mod pacing;
pub mod plan;
mod probe;
mod progress;
mod ramp;
pub mod report;
mod request;
mod run;
mod tally;
pub mod target;
mod tls;
mod verify;
mod wire;
mod worker;

pub use input::Input;
pub use run::{Failure, run};
