//! What a load test found: the file it leaves ([`Report`]), and what is made of it.
//!
//! | file | job |
//! |---|---|
//! | this one | the types, which are the file format |
//! | [`latency`] | from a histogram to percentiles and back |
//! | [`series`] | figures second by second, bounded |
//! | [`machine`] | the machine that makes the load |
//! | [`file`](mod@file) | reports as files |
//! | [`notes`] | what to know before believing the figures |
//! | [`units`] | figures as people read them |
//! | [`table`] | the report on a terminal |
//! | [`page`] | the report as a page, with [`chart`]s of its [`figures`] |
//!
//! The file is JSON, version [`VERSION`]; fields may be added to it without a new version, so readers must pass over those they
//! do not know. Latencies are whole microseconds, rates are a second. Beside the percentiles the whole histogram is kept,
//! so that runs can be put together and other tools can read it: percentiles of several runs cannot be averaged.
//!
//! Everything is bounded: 3,600 points over time, [`ERROR_KINDS_MAX`] kinds of errors, [`EXAMPLES_MAX`] examples of each finding.
//! Owner: the thread that ran the test, or the one that compares; nothing here runs while load is made but
//! [`series::Builder`], once a second.

pub mod chart;
pub mod figures;
pub mod file;
pub mod latency;
pub mod machine;
pub mod notes;
pub mod page;
#[cfg(test)]
pub(crate) mod sample;
pub mod series;
pub mod table;
pub mod units;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use latency::{CountedFrom, Latency};
pub use series::OverTime;

/// Version of the file format.
pub const VERSION: u32 = 1;
/// Most kinds of errors that are told apart; who fills a report counts the others as one kind.
pub const ERROR_KINDS_MAX: usize = 64;
/// The kind of error that counts requests whose time came and that were never sent.
pub const UNSENT: &str = "unsent";
/// Most examples of events that verification did not find as they should be.
pub const EXAMPLES_MAX: usize = 20;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program that made the load.
    pub floodgate: String,
    /// The run's id, which its events carry.
    pub run: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// Seconds from the first send to the last answer.
    pub seconds: f64,
    /// Whether it was stopped before its end: the report is of what was done until then.
    #[serde(default)]
    pub interrupted: bool,
    /// Where the requests went. Without keys or passwords: reports are passed around.
    pub url: String,
    /// What the run was told, by name as on the command line, in the order it is to be shown. No secrets.
    pub settings: IndexMap<String, String>,
    /// The machine that made the load.
    pub machine: Machine,
    /// How requests were paced.
    #[serde(rename = "loop")]
    pub pacing: Pacing,
    /// Requests a second that were meant to be sent; none in a closed loop and in a ramp.
    pub target_rate: Option<f64>,
    /// The requests.
    pub requests: Requests,
    /// The events in them.
    pub events: Events,
    /// What was reached.
    pub rate: Rate,
    /// What it cost.
    pub cpu: Cpu,
    /// How long answers took.
    pub latency: Latency,
    /// The run second by second.
    pub over_time: OverTime,
    /// What failed, most frequent first.
    pub errors: Vec<ErrorKind>,
    /// The steps of a run that looked for the highest rate.
    #[serde(default)]
    pub ramp: Option<Ramp>,
    /// Whether what was acknowledged is in the log, if that was looked at.
    #[serde(default)]
    pub verify: Option<Verify>,
}

/// The machine that made the load. The server's may be another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: u64,
    /// Main memory.
    pub memory_bytes: u64,
    /// Operating system and its version.
    pub kernel: String,
    /// Programs that ran or wanted to, over the minute before the start: above a fraction of the cores, others were in the way.
    pub load_average: Option<f64>,
}

/// How requests were paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pacing {
    /// Each connection sends when it has its answer: the server sets the pace.
    Closed,
    /// By the clock, whatever the server does.
    Open,
}

/// Counts of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Written to a connection.
    pub sent: u64,
    /// Answered, with whatever status.
    pub answered: u64,
    /// Not answered, or with a status other than 2xx.
    pub failed: u64,
}

/// Counts of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// In requests that were sent.
    pub sent: u64,
    /// In requests answered with 2xx, less those that the answer calls rejected.
    pub acknowledged: u64,
    /// Answered otherwise.
    pub refused: u64,
    /// Sent without an answer: they may be stored or not.
    pub unknown: u64,
}

/// What was reached, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Answers with 2xx.
    pub requests_per_second: f64,
    /// Acknowledged events.
    pub events_per_second: f64,
    /// Bytes of bodies sent, as they went over the wire.
    pub bytes_per_second: f64,
}

/// CPU time, without that of a warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// User and system time of the process that made the load.
    pub generator_seconds: f64,
    /// The server's, by its own `process_cpu_seconds_total`, where it could be asked before and after.
    #[serde(default)]
    pub server_seconds: Option<f64>,
}

impl Cpu {
    /// Adds what another stretch has used; the server's is known if it is of both.
    pub fn absorb(&mut self, other: Cpu) {
        self.generator_seconds += other.generator_seconds;
        let both = self.server_seconds.zip(other.server_seconds);
        self.server_seconds = both.map(|(ours, theirs)| ours + theirs);
    }
}

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorKind {
    /// A short name: `status 503`, `connect`, `timeout`.
    pub kind: String,
    /// Requests that it cost.
    pub count: u64,
    /// What one of them said, shortened to a line.
    pub example: String,
}

/// A search for the highest rate that can be held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// A rate is held if its p99 is at most this, it is reached, and nothing fails.
    pub p99_max_us: u64,
    /// In the order they were tried.
    pub steps: Vec<Step>,
}

impl Ramp {
    /// The highest rate that was held.
    pub fn highest(&self) -> Option<&Step> {
        let held = self.steps.iter().filter(|step| step.held);
        held.max_by(|one, other| one.rate.total_cmp(&other.rate))
    }
}

/// A rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Requests a second that were meant to be sent.
    pub rate: f64,
    /// Those that were answered with 2xx.
    pub achieved: f64,
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p99_9_us: u64,
    /// Cores that the generator used.
    #[serde(default)]
    pub generator_cores: f64,
    /// Whether it was held.
    pub held: bool,
}

/// What the log has of the events that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// The file that was read, with those that were sealed beside it.
    #[serde(default)]
    pub log: String,
    /// Acknowledged, and in the log once.
    pub stored_once: u64,
    /// Acknowledged, and not in the log: lost.
    pub missing: u64,
    /// In the log more than once, whatever was answered.
    pub twice: u64,
    /// Refused, and not in the log.
    pub refused: u64,
    /// Refused, and in the log all the same.
    #[serde(default)]
    pub refused_stored: u64,
    /// Sent without an answer, and in the log.
    pub unknown_stored: u64,
    /// Sent without an answer, and not in the log.
    pub unknown_missing: u64,
    /// The first events that are missing or twice, in words.
    pub examples: Vec<String>,
}

impl Report {
    /// Requests whose time came and that were never sent.
    pub fn unsent(&self) -> u64 {
        let unsent = self.errors.iter().filter(|error| error.kind == UNSENT);
        unsent.map(|error| error.count).sum()
    }
}

impl Verify {
    /// Whether the promise was kept: nothing acknowledged is missing, nothing is there twice.
    pub fn is_ok(&self) -> bool {
        self.missing == 0 && self.twice == 0
    }
}
