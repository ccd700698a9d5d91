//! Reading what is stored: on the counts and the recent window that the writer keeps, and on the log's files.
//!
//! ```text
//! request → ask ─→ readers (a thread) ─→ cut: sealed files + live counts + live file ─→ summaries ─→ answer
//!                                                                    └→ files, where they do not say it ─┘
//! ```
//!
//! # Invariants
//!
//! - All of an answer is of one moment of the log ([`Cut`](crate::ingest::Cut)).
//! - Counts are exact or the answer says that it is not complete; [`count`] has the rules for which files are read.
//! - Files are read by the threads of [`readers`], never by a coroutine, and nothing here holds the writer back for longer than
//!   a copy of the window or of the counts.
//!
//! # Bounds
//!
//! Three threads and 128 waiting reads for each, a time limit for each read (`METRICS_QUERY_TIMEOUT`); buckets
//! ([`timeseries`]), names, visitors ([`funnel`]); of the lines of a file a chunk, or the longest line.
//!
//! # When a file has gone, when the disk fails
//!
//! Counts that summaries have remain. What would have to be read is missing and told (`Gaps`); a disk that hangs costs
//! a thread until it is back, and its coroutine two seconds beyond the limit.

pub mod count;
mod files;
pub mod funnel;
pub mod readers;
mod scan;
mod snapshot;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod timeseries;

pub use snapshot::{filtered_snapshot, snapshot};
