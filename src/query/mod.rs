//! Reading what is stored: on the counts and the recent window that the writer keeps, and on the log's files.
//!
//! Nothing here holds the writer back for longer than a copy of the window.

mod snapshot;
pub mod stream;

pub use snapshot::snapshot;
