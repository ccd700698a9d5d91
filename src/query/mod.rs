//! Reading what is stored: on the counts and the recent window that the writer keeps, and on the log's files.
//!
//! Nothing here holds the writer back for longer than a copy of the window or of the counts. Files are read by the threads of
//! [`readers`], never by a coroutine.

pub mod count;
mod files;
pub mod funnel;
pub mod readers;
mod scan;
mod snapshot;
#[cfg(test)]
mod tests;
pub mod timeseries;

pub use files::Late;
pub use snapshot::{filtered_snapshot, snapshot};
