//! What a load test is to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use super::input::Input;
use super::target::Target;

/// Most connections: what one address has ports for.
pub const CONNECTIONS_MAX: usize = 60_000;
/// Most threads.
pub const THREADS_MAX: usize = 256;
/// Most requests in one write. A server that reads a request's body before it answers the one before it must have room for them.
pub const PIPELINE_MAX: u32 = 1_024;
/// Most events of a batch: some 30 MB, half of what the server takes by default.
pub const BATCH_MAX: u32 = 100_000;
/// Highest rate, in requests a second: one each 100 ns is more than a thread can send.
pub const RATE_MAX: f64 = 10_000_000.0;

/// A load test.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where requests go.
    pub target: Target,
    /// Sent with each request, never shown.
    pub key: Option<Key>,
    /// Whom to trust where TLS is spoken.
    pub trust: Trust,
    /// Worker threads.
    pub threads: usize,
    /// Connections, over all threads; at least one for each.
    pub connections: usize,
    /// When to send.
    pub pace: Pace,
    /// What to send at a time.
    pub shape: Shape,
    /// How bodies are packed.
    pub encoding: Option<Encoding>,
    /// The level to ask for; none asks for nothing.
    pub ack: Option<String>,
    /// How long sending goes on; of a ramp, how long each step.
    pub duration: Option<Duration>,
    /// How many events are sent.
    pub events: Option<u64>,
    /// How long load is made before anything counts.
    pub warmup: Duration,
    /// How long a connection, or the answers to what was sent at a time, may take.
    pub timeout: Duration,
    /// The same seed makes the same events.
    pub seed: u64,
    /// Events to send in place of generated ones.
    pub input: Option<Input>,
    /// The live file of the log to hold against what was acknowledged.
    pub verify: Option<PathBuf>,
    /// What the run was told, to be shown. No secrets.
    pub settings: IndexMap<String, String>,
}

/// A key for writing. It cannot be printed by accident.
#[derive(Clone)]
pub struct Key(pub String);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Which certificates are trusted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that the system trusts.
    System,
    /// Those in a file (PEM), and no others.
    File(PathBuf),
    /// All. For tests only.
    Anybody,
}

/// When to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// When the answers to what was sent before are there.
    Closed,
    /// By the clock: so many requests a second.
    Open(f64, Arrivals),
    /// By the clock, at rates from the first to the last.
    Ramp {
        /// The first rate, requests a second.
        from: f64,
        /// The highest.
        to: f64,
        /// How they arrive.
        arrivals: Arrivals,
        /// What the 99th percentile may be at the most.
        p99_max: Duration,
    },
}

/// How the times at which requests are due lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// As those of many clients that know nothing of each other: exponential gaps.
    Poisson,
}

/// What is sent at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A request with an event.
    Single,
    /// So many requests with an event each, in one write.
    Pipeline(u32),
    /// A request with so many events, one a line.
    Batch(u32),
}

impl Shape {
    /// Requests in one write.
    pub fn requests(self) -> u32 {
        match self {
            Shape::Pipeline(requests) => requests,
            Shape::Single | Shape::Batch(_) => 1,
        }
    }

    /// Events in one write.
    pub fn events(self) -> u32 {
        match self {
            Shape::Single => 1,
            Shape::Pipeline(events) | Shape::Batch(events) => events,
        }
    }
}

/// How bodies are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `gzip`, level 1.
    Gzip,
    /// `zstd`, level 1.
    Zstd,
}

impl Encoding {
    /// Its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Gzip => "gzip",
            Encoding::Zstd => "zstd",
        }
    }
}

/// Reads a rate: requests a second, as `800`, `12.5k` or `1M`.
///
/// # Errors
/// What is allowed instead.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let rate = number
        .parse::<f64>()
        .ok()
        .filter(|_| is_plain)
        .map(|number| number * factor);
    rate.filter(|rate| (0.01..=RATE_MAX).contains(rate))
        .ok_or_else(|| "it is requests a second, from 0.01 to 10M, such as 800, 12.5k or 1M".into())
}

/// Reads `--rate`: a rate, or two with `..` between them.
///
/// # Errors
/// What is allowed instead.
pub fn rates(text: &str) -> Result<(f64, Option<f64>), String> {
    let Some((from, to)) = text.split_once("..") else {
        return Ok((rate(text)?, None));
    };
    let (from, to) = (rate(from)?, rate(to)?);
    match from < to {
        true => Ok((from, Some(to))),
        false => Err("a ramp goes from a lower rate to a higher one, such as 1k..200k".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(rates("800"), Ok((800.0, None)));
        assert_eq!(rates("12.5k"), Ok((12_500.0, None)));
        assert_eq!(rates("1k..2M"), Ok((1_000.0, Some(2_000_000.0))));
        for text in [
            "", "k", "0", "-1", "1e9", "inf", "NaN", "1..", "..1", "2k..1k", "1..1", "20M", "1 k",
        ] {
            assert!(rates(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", Some(Key("secret".into()))), "Some(Key(…))");
    }
}
