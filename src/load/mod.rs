//! `floodgate load`: a load test, its report, and the comparison of reports.
//!
//! | room | job |
//! |---|---|
//! | [`report`] | what a run found: its file, its table, its page |
//! | [`compare`] | two groups of runs side by side |

pub mod compare;
pub mod report;
