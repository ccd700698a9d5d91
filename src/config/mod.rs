//! Settings: what the user said, and what the program needs.
//!
//! [`settings::SETTINGS`] lists each setting once, with its variable, flag, default, meaning and help; the command line,
//! `floodgate config` and the table in the README are made from, or checked against, that list. [`Config::new`]
//! turns the raw texts into one validated value, once, at the start.

pub mod access;
mod bind;
mod fleet;
pub mod settings;
pub mod values;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use access::{
    AccessTarget, CorsOrigins, KeySource, Proxies, Rate, access_log, cors_origins, key_list, proxies, rate,
};

use crate::fleet::FleetPolicy;
use crate::http::HeadLimits;
use crate::ingest::journal::{BYTES_MAX, BYTES_MIN, Place};
use crate::ingest::{EngineConfig, FsyncPolicy, Level, NUMBER_BYTES_MAX, Period, RotationPolicy};
use crate::log::keeper::KeepPolicy;
use crate::log::keeper::archive::ArchivePolicy;
use crate::log::keeper::archive::layout::Layout;
use crate::log::keeper::archive::store::ArchiveUrl;
use crate::log::keeper::compress::Compression;
use crate::log::keeper::hold::Hold;
use crate::log::keeper::retain::Retention;
use crate::query::stream::StreamPolicy;
use crate::ship::ShipPolicy;
pub use bind::Bind;
pub(crate) use bind::binds;
use values::{Rejected, duration, one_of, size, switch, whole};

/// How long the journal must need little before its file is made shorter: longer than any usual pause between two rushes.
const JOURNAL_SHRINK_AFTER: Duration = Duration::from_secs(60);
/// The smallest size at which the live file is sealed: smaller files would be more of names than of events.
const ROTATE_BYTES_MIN: u64 = 64 << 10;
/// Shortest and longest period after which it is sealed, in milliseconds.
const ROTATE_EVERY_MS: (u64, u64) = (1_000, 8760 * 3_600_000);

/// How log messages of the program itself are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text each, in colour on a terminal.
    Text,
    /// A JSON object each.
    Json,
}

/// Files of the certificate and of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// Everything `floodgate serve` is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub bind: Vec<Bind>,
    /// Nothing was said of where to listen: sockets that the service manager passes take the default's place.
    pub bind_is_default: bool,
    /// Connections that may wait to be accepted, on each socket.
    pub backlog: usize,
    /// Sockets, each with its acceptor, for each TCP address.
    pub acceptors: usize,
    /// What TCP connections are encrypted with.
    pub tls: Option<TlsFiles>,
    /// Worker threads for coroutines.
    pub workers: usize,
    /// Connections open at once.
    pub connections_max: usize,
    /// How long a request head may take.
    pub head_timeout: Duration,
    /// Bytes a second that a body comes with at the least; 0 for no such limit.
    pub body_rate_min: u64,
    /// How long a body may stand still.
    pub body_grace: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long an answer may make no progress.
    pub write_timeout: Duration,
    /// Level at which events are acknowledged when the request names none.
    pub ack: Level,
    /// How long a request waits for room in the journal.
    pub enqueue_timeout: Duration,
    /// How long a request waits for `written` or `synced`.
    pub ack_timeout: Duration,
    /// How long a read that looks into files may take.
    pub query_timeout: Duration,
    /// How large a request head may be.
    pub head: HeadLimits,
    /// Longest body of a single event, in bytes.
    pub event_bytes_max: usize,
    /// Longest body of a batch, in bytes, packed and unpacked.
    pub batch_bytes_max: usize,
    /// Bytes of bodies that are being read, over all connections.
    pub inflight_bytes_max: usize,
    /// Longest stored line with its newline, in bytes.
    pub line_bytes_max: usize,
    /// How many may follow the live stream, and how slowly.
    pub stream: StreamPolicy,
    /// Whether everybody may use the read side, wherever it is listened on, and without a key.
    pub public_reads: bool,
    /// Keys for writing; without any everybody may.
    pub write_keys: KeySource,
    /// Keys for reading.
    pub read_keys: KeySource,
    /// Which pages may use this server from a browser.
    pub cors_origins: CorsOrigins,
    /// How many requests a key or an address may make.
    pub rate_limit: Option<Rate>,
    /// Who is believed about the address of a client.
    pub trusted_proxies: Proxies,
    /// Where requests are logged.
    pub access_log: Option<AccessTarget>,
    /// Of so many requests that were answered well one is logged.
    pub access_sample: usize,
    /// How long a shutdown may take.
    pub shutdown_timeout: Duration,
    /// How messages are written.
    pub log_format: LogFormat,
    /// From which level on they are.
    pub log_level: LevelFilter,
    /// The path of the log as the user spelled it: answers name it.
    pub log_name: String,
    /// What this node is called among others.
    pub node: String,
    /// Where the log is shipped; `None`: nowhere.
    pub ship: Option<ShipPolicy>,
    /// Where the logs of a whole fleet come from, of which this node is a view; `None`: it takes events itself.
    pub from: Option<FleetPolicy>,
    /// What the engine is told.
    pub engine: EngineConfig,
}

/// A setting that cannot be used: which, what it was, and what is allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Validates the texts that `raw` gives for each variable (`None`: the default).
    ///
    /// # Errors
    /// The first setting that is wrong, with its name, its value and what is allowed.
    pub fn new(raw: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let text = |name: &str| {
            let setting = settings::find(name).expect("every setting that is read is listed");
            raw(name).unwrap_or_else(|| setting.default.to_owned())
        };
        let texts = Raw(&raw);
        macro_rules! get {
            ($name:literal, $parse:expr) => {
                read($name, &text($name), $parse)?
            };
        }
        let log_name = get!("METRICS_JSONL", file_path);
        let log = PathBuf::from(&log_name);
        let journal = match text("METRICS_JOURNAL").as_str() {
            "" => Place::File(log.with_extension("journal")),
            "memory" => Place::Memory,
            path => Place::File(path.into()),
        };
        if journal == Place::File(log.clone()) {
            return Err(ConfigError(format!(
                "METRICS_JOURNAL: {log_name:?} is not allowed; it is the log itself (METRICS_JSONL)"
            )));
        }
        let tls = match [text("METRICS_TLS_CERT"), text("METRICS_TLS_KEY")] {
            [cert, key] if cert.is_empty() && key.is_empty() => None,
            [cert, key] if key.is_empty() => {
                return Err(lonely("METRICS_TLS_CERT", &cert, "METRICS_TLS_KEY"));
            }
            [cert, key] if cert.is_empty() => {
                return Err(lonely("METRICS_TLS_KEY", &key, "METRICS_TLS_CERT"));
            }
            [cert, key] => Some(TlsFiles {
                cert: cert.into(),
                key: key.into(),
            }),
        };
        let key_source = |list: &str, file: &str, kind: &str| -> Result<KeySource, ConfigError> {
            let listed = match raw(list) {
                Some(text) => read(list, &text, |text| key_list(text, kind))?,
                None => Vec::new(),
            };
            let path = raw(file).map(|text| read(file, &text, file_path)).transpose()?;
            Ok(KeySource {
                listed,
                file: path.map(PathBuf::from),
            })
        };
        let burst = get!("METRICS_RATE_BURST", |text| match text {
            "" => Ok(None),
            _ => whole(text, 1, 1_000_000).map(Some),
        });
        let rate_limit = get!("METRICS_RATE_LIMIT", rate).map(|(count, unit)| Rate {
            period: unit / count.get(),
            burst: burst.map_or(count, |burst| {
                NonZeroU32::new(burst as u32).expect("it is at least 1")
            }),
        });
        let access_log = get!("METRICS_ACCESS_LOG", access_log);
        if let Some(AccessTarget::File(path)) = &access_log {
            let mut taken = vec![
                ("METRICS_JSONL", log.clone()),
                ("METRICS_JSONL", crate::log::lock::path_of(&log)),
            ];
            if let Place::File(journal) = &journal {
                taken.push(("METRICS_JOURNAL", journal.clone()));
            }
            if let Some((whose, _)) = taken.iter().find(|(_, taken)| same_file(path, taken)) {
                return Err(ConfigError(format!(
                    "METRICS_ACCESS_LOG: {path:?} is not allowed; it is a file of the log of events ({whose})"
                )));
            }
        }
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let workers = get!("METRICS_WORKERS", |text| if text.is_empty() {
            Ok(cores())
        } else {
            whole(text, 1, 256)
        });
        let node = fleet::node(&texts)?;
        let layout = get!("METRICS_ARCHIVE_LAYOUT", |text| one_of(
            text,
            &[("flat", Layout::Flat), ("partitioned", Layout::Partitioned)]
        ));
        let compress_level = get!("METRICS_COMPRESS_LEVEL", |text| whole(text, 1, 19)) as i32;
        let ship = fleet::ship(&texts)?;
        let from = fleet::from(&texts)?;
        if ship.is_some() && from.is_some() {
            return Err(ConfigError(format!(
                "METRICS_SHIP_URL: {:?} is not allowed; a view of a fleet (METRICS_FROM) ships nothing",
                text("METRICS_SHIP_URL")
            )));
        }
        let config = Config {
            bind: get!("METRICS_BIND", binds),
            bind_is_default: raw("METRICS_BIND").is_none(),
            backlog: get!("METRICS_BACKLOG", |text| whole(text, 1, 1_000_000)),
            acceptors: get!("METRICS_ACCEPTORS", |text| if text.is_empty() {
                Ok(workers.div_ceil(WORKERS_AN_ACCEPTOR))
            } else {
                whole(text, 1, 256)
            }),
            tls,
            workers,
            connections_max: get!("METRICS_CONNECTIONS_MAX", |text| whole(text, 1, 1_000_000)),
            head_timeout: get!("METRICS_HEAD_TIMEOUT", limit),
            body_rate_min: get!("METRICS_BODY_RATE_MIN", |text| size(text, 0, 1 << 20)),
            body_grace: get!("METRICS_BODY_GRACE", limit),
            idle_timeout: get!("METRICS_IDLE_TIMEOUT", limit),
            write_timeout: get!("METRICS_WRITE_TIMEOUT", limit),
            ack: get!("METRICS_ACK", level),
            enqueue_timeout: get!("METRICS_ENQUEUE_TIMEOUT", |text| duration(text, 0, 60_000)),
            ack_timeout: get!("METRICS_ACK_TIMEOUT", |text| duration(text, 1, 600_000)),
            query_timeout: get!("METRICS_QUERY_TIMEOUT", |text| duration(text, 1, 600_000)),
            head: HeadLimits {
                bytes_max: get!("METRICS_HEAD_BYTES_MAX", |text| size(
                    text,
                    1 << 10,
                    HeadLimits::BYTES_BOUND as u64
                )) as usize,
                headers_max: get!("METRICS_HEADERS_MAX", |text| whole(
                    text,
                    1,
                    HeadLimits::HEADERS_BOUND
                )),
                target_bytes_max: get!("METRICS_TARGET_BYTES_MAX", |text| size(
                    text,
                    1 << 6,
                    HeadLimits::BYTES_BOUND as u64
                )) as usize,
            },
            event_bytes_max: get!("METRICS_EVENT_BYTES_MAX", |text| size(text, 1 << 10, 1 << 30)) as usize,
            batch_bytes_max: get!("METRICS_BATCH_BYTES_MAX", |text| size(text, 1 << 10, 1 << 30)) as usize,
            inflight_bytes_max: get!("METRICS_INFLIGHT_BYTES_MAX", |text| size(text, 1 << 20, 1 << 40))
                as usize,
            line_bytes_max: get!("METRICS_LINE_BYTES_MAX", |text| size(text, 1 << 10, 1 << 20)) as usize,
            stream: StreamPolicy {
                subscribers_max: get!("METRICS_STREAM_SUBSCRIBERS_MAX", |text| whole(text, 0, 1_000_000)),
                lag_max: get!("METRICS_STREAM_LAG_MAX", |text| or_off(text, |text| size(
                    text,
                    64 << 10,
                    1 << 50
                ))),
            },
            public_reads: get!("METRICS_PUBLIC_READS", switch),
            write_keys: key_source("METRICS_WRITE_KEYS", "METRICS_WRITE_KEYS_FILE", "write")?,
            read_keys: key_source("METRICS_READ_KEYS", "METRICS_READ_KEYS_FILE", "read")?,
            cors_origins: get!("METRICS_CORS_ORIGINS", cors_origins),
            rate_limit,
            trusted_proxies: get!("METRICS_TRUSTED_PROXIES", proxies),
            access_log,
            access_sample: get!("METRICS_ACCESS_SAMPLE", |text| whole(text, 1, 1_000_000)),
            shutdown_timeout: get!("METRICS_SHUTDOWN_TIMEOUT", |text| duration(text, 0, 3_600_000)),
            log_format: get!("METRICS_LOG_FORMAT", log_format),
            log_level: get!("METRICS_LOG_LEVEL", log_level),
            log_name,
            node: node.clone(),
            ship: ship.clone(),
            from,
            engine: EngineConfig {
                log,
                journal,
                journal_bytes_max: get!("METRICS_JOURNAL_BYTES_MAX", |text| size(
                    text, BYTES_MIN, BYTES_MAX
                )),
                publish_interval: get!("METRICS_PUBLISH_INTERVAL", |text| duration(text, 0, 10_000)),
                fsync: get!("METRICS_FSYNC", fsync),
                page_cache: get!("METRICS_PAGE_CACHE", page_cache),
                journal_shrink_after: JOURNAL_SHRINK_AFTER,
                line_seq: get!("METRICS_LINE_SEQ", switch),
                rotation: RotationPolicy {
                    bytes: get!("METRICS_ROTATE_BYTES", rotate_bytes),
                    every: get!("METRICS_ROTATE_EVERY", rotate_every),
                    rest: get!("METRICS_ROTATE_REST", |text| duration(text, 0, 60_000)),
                },
                keep: KeepPolicy {
                    compression: get!("METRICS_COMPRESS_AFTER", |text| or_off(text, keeping_time)).map(
                        |after| Compression {
                            after,
                            level: compress_level,
                        },
                    ),
                    retention: Retention {
                        age: get!("METRICS_RETAIN_FOR", |text| or_off(text, keeping_time)),
                        bytes: get!("METRICS_RETAIN_BYTES", |text| or_off(text, |text| size(
                            text,
                            0,
                            1 << 60
                        ))),
                        files: get!("METRICS_RETAIN_FILES", |text| or_off(text, |text| whole(
                            text, 0, 1_000_000
                        ))),
                    },
                    archive: get!("METRICS_ARCHIVE_URL", |text| or_off(text, ArchiveUrl::parse))
                        .map(|url| ArchivePolicy { url, layout, node }),
                    hold: Hold {
                        is_shipped: ship.is_some(),
                        bytes_max: fleet::hold(&texts)?,
                    },
                },
                ring_capacity: get!("METRICS_RING_CAPACITY", |text| whole(text, 1, 100_000)),
                names_max: get!("METRICS_EVENT_NAMES_MAX", |text| whole(text, 1, 1_000_000)),
            },
        };
        if config.line_bytes_max as u64 > config.engine.journal_bytes_max / LINES_IN_JOURNAL_MIN {
            return Err(ConfigError(format!(
                "METRICS_LINE_BYTES_MAX: {:?} is not allowed; it is at most a {LINES_IN_JOURNAL_MIN}th of \
                 METRICS_JOURNAL_BYTES_MAX ({:?})",
                text("METRICS_LINE_BYTES_MAX"),
                text("METRICS_JOURNAL_BYTES_MAX"),
            )));
        }
        if config.head.target_bytes_max > config.head.bytes_max {
            return Err(ConfigError(format!(
                "METRICS_TARGET_BYTES_MAX: {:?} is not allowed; it is at most METRICS_HEAD_BYTES_MAX ({:?})",
                text("METRICS_TARGET_BYTES_MAX"),
                text("METRICS_HEAD_BYTES_MAX"),
            )));
        }
        if config.batch_bytes_max > config.inflight_bytes_max {
            return Err(ConfigError(format!(
                "METRICS_INFLIGHT_BYTES_MAX: {:?} is not allowed; it is at least METRICS_BATCH_BYTES_MAX ({:?})",
                text("METRICS_INFLIGHT_BYTES_MAX"),
                text("METRICS_BATCH_BYTES_MAX"),
            )));
        }
        Ok(config)
    }

    /// Longest line before it gets its number: a stored one is never longer than [`Config::line_bytes_max`].
    pub fn bare_line_bytes_max(&self) -> usize {
        match self.engine.line_seq {
            true => self.line_bytes_max - NUMBER_BYTES_MAX,
            false => self.line_bytes_max,
        }
    }

    /// Whether the read side answers those without a key, where no read key is set: always where only this machine can
    /// connect, which must hold for every place that is listened on; elsewhere when it was switched on.
    pub fn may_read(&self) -> bool {
        self.public_reads || self.bind.iter().all(Bind::is_local)
    }
}

fn read<T>(name: &str, text: &str, parse: impl Fn(&str) -> Result<T, Rejected>) -> Result<T, ConfigError> {
    let error = |allowed| {
        ConfigError(match settings::is_secret(name) {
            true => format!("{name}: {allowed}"),
            false => format!("{name}: {text:?} is not allowed; {allowed}"),
        })
    };
    parse(text).map_err(error)
}

/// The texts of settings.
struct Raw<'r, R>(&'r R);

impl<R: Fn(&str) -> Option<String>> fleet::Texts for Raw<'_, R> {
    fn read<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Rejected>) -> Result<T, ConfigError> {
        let setting = settings::find(name).expect("every setting that is read is listed");
        read(
            name,
            &self.said(name).unwrap_or_else(|| setting.default.to_owned()),
            parse,
        )
    }

    fn said(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

/// Workers that one acceptor keeps busy with connections of a single request each: it works 15 of the 50 µs that such a
/// connection costs.
const WORKERS_AN_ACCEPTOR: usize = 3;

/// Lines of the largest size that the journal can hold at the least: one request may take half of it, and some of its
/// blocks are in other hands.
const LINES_IN_JOURNAL_MIN: u64 = 8;

/// Whether two paths lead to one file, also where one of them is yet to be made.
fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = std::fs::canonicalize(parent.unwrap_or(Path::new(".")));
        std::fs::canonicalize(path)
            .or_else(|_| Ok::<_, std::io::Error>(folder?.join(path.file_name().unwrap_or_default())))
            .or_else(|_| std::path::absolute(path))
            // `absolute` keeps what goes in a circle.
            .map(|path| path.components().collect::<PathBuf>())
    };
    one == other || matches!((real(one), real(other)), (Ok(one), Ok(other)) if one == other)
}

fn file_path(text: &str) -> Result<String, Rejected> {
    let named = !text.is_empty() && !text.ends_with('/') && !text.contains('\0');
    if named {
        Ok(text.to_owned())
    } else {
        Err("it is the path of a file".into())
    }
}

fn lonely(name: &str, value: &str, other: &str) -> ConfigError {
    ConfigError(format!(
        "{name}: {value:?} is not allowed; it needs {other} beside it"
    ))
}

/// A time limit of connections. Below some tens of milliseconds the patrol's rounds decide; a connection that may hang for
/// an hour is as good as unlimited.
fn limit(text: &str) -> Result<Duration, Rejected> {
    duration(text, 50, 3_600_000)
}

fn level(text: &str) -> Result<Level, Rejected> {
    one_of(
        text,
        &[
            ("journaled", Level::Journaled),
            ("written", Level::Written),
            ("synced", Level::Synced),
        ],
    )
}

fn log_format(text: &str) -> Result<LogFormat, Rejected> {
    one_of(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}

fn log_level(text: &str) -> Result<LevelFilter, Rejected> {
    one_of(
        text,
        &[
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
        ],
    )
}

fn fsync(text: &str) -> Result<FsyncPolicy, Rejected> {
    match text {
        "never" => Ok(FsyncPolicy::Never),
        "always" => Ok(FsyncPolicy::Always),
        _ => duration(text, 1, 3_600_000)
            .map(FsyncPolicy::Every)
            .map_err(|allowed| format!("it is `never`, `always`, or an interval: {allowed}")),
    }
}

fn rotate_bytes(text: &str) -> Result<Option<u64>, Rejected> {
    match text {
        "off" => Ok(None),
        _ => size(text, ROTATE_BYTES_MIN, u64::MAX)
            .map(Some)
            .map_err(|allowed| format!("it is `off`, or {}", allowed.trim_start_matches("it is "))),
    }
}

fn rotate_every(text: &str) -> Result<Option<Period>, Rejected> {
    let words = [
        ("off", None),
        ("hourly", Some(Period::Hourly)),
        ("daily", Some(Period::Daily)),
        ("weekly", Some(Period::Weekly)),
    ];
    if let Ok(word) = one_of(text, &words) {
        return Ok(word);
    }
    let length = duration(text, ROTATE_EVERY_MS.0, ROTATE_EVERY_MS.1);
    length
        .map(|length| Some(Period::Of(length)))
        .map_err(|_| "it is `hourly`, `daily`, `weekly`, `off`, or a duration such as `15m` (s, m, h, d), from 1s to 365d".into())
}

/// `off`, or what `parse` takes.
fn or_off<T>(text: &str, parse: impl Fn(&str) -> Result<T, Rejected>) -> Result<Option<T>, Rejected> {
    match text {
        "off" => Ok(None),
        _ => parse(text)
            .map(Some)
            .map_err(|allowed| format!("it is `off`, or {}", allowed.trim_start_matches("it is "))),
    }
}

/// How long a sealed file is left alone or kept: up to a hundred years.
fn keeping_time(text: &str) -> Result<Duration, Rejected> {
    duration(text, 0, 36_500 * 24 * 3_600_000)
}

fn page_cache(text: &str) -> Result<Option<u64>, Rejected> {
    match text {
        "all" => Ok(None),
        _ => size(text, 0, u64::MAX)
            .map(Some)
            .map_err(|allowed| format!("it is `all`, or {}", allowed.trim_start_matches("it is "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> Result<Config, ConfigError> {
        Config::new(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn the_defaults_are_valid_and_those_of_the_contract() {
        let config = Config::new(|_| None).unwrap();
        assert_eq!(config.bind, [Bind::Tcp("127.0.0.1:8001".parse().unwrap())]);
        assert_eq!(config.engine.log, PathBuf::from("./data/metrics.jsonl"));
        assert_eq!(
            config.engine.journal,
            Place::File("./data/metrics.journal".into())
        );
        assert_eq!((config.engine.ring_capacity, config.ack), (500, Level::Journaled));
        assert_eq!(config.engine.fsync, FsyncPolicy::Every(Duration::from_secs(1)));
        assert_eq!(config.line_bytes_max, 32 << 10);
        for (workers, acceptors) in [("1", 1), ("3", 1), ("4", 2), ("64", 22)] {
            assert_eq!(with("METRICS_WORKERS", workers).unwrap().acceptors, acceptors);
        }
    }

    #[test]
    fn each_setting_refuses_a_wrong_value_naming_itself_the_value_and_what_is_allowed() {
        let wrong = [
            ("METRICS_BIND", "8001", "127.0.0.1:8001"),
            ("METRICS_BACKLOG", "0", "from 1 to 1000000"),
            ("METRICS_ACCEPTORS", "0", "from 1 to 256"),
            ("METRICS_TLS_CERT", "cert.pem", "METRICS_TLS_KEY beside it"),
            ("METRICS_TLS_KEY", "key.pem", "METRICS_TLS_CERT beside it"),
            ("METRICS_JSONL", "data/", "path of a file"),
            ("METRICS_JOURNAL", "./data/metrics.jsonl", "the log itself"),
            ("METRICS_JOURNAL_BYTES_MAX", "4KiB", "from 1MiB"),
            ("METRICS_RING_CAPACITY", "0", "from 1 to 100000"),
            ("METRICS_WORKERS", "many", "from 1 to 256"),
            ("METRICS_CONNECTIONS_MAX", "0", "from 1 to 1000000"),
            ("METRICS_HEAD_TIMEOUT", "10", "from 50ms"),
            ("METRICS_BODY_RATE_MIN", "1GiB", "of at most 1MiB"),
            ("METRICS_BODY_GRACE", "0s", "from 50ms"),
            ("METRICS_IDLE_TIMEOUT", "1d", "from 50ms to 1h"),
            ("METRICS_WRITE_TIMEOUT", "never", "from 50ms"),
            ("METRICS_ACK", "maybe", "`journaled`, `written` or `synced`"),
            ("METRICS_FSYNC", "sometimes", "`never`, `always`"),
            ("METRICS_PAGE_CACHE", "none", "`all`, or a size"),
            ("METRICS_LINE_SEQ", "yes", "`on` or `off`"),
            (
                "METRICS_ROTATE_BYTES",
                "1KiB",
                "`off`, or a size such as `64MiB` (B, KiB, MiB, GiB), of at least 64KiB",
            ),
            (
                "METRICS_ROTATE_EVERY",
                "monthly",
                "`hourly`, `daily`, `weekly`, `off`",
            ),
            ("METRICS_ROTATE_REST", "2m", "of at most 1m"),
            (
                "METRICS_COMPRESS_AFTER",
                "on",
                "`off`, or a duration such as `250ms` (ms, s, m, h, d), of at most 36500d",
            ),
            ("METRICS_COMPRESS_LEVEL", "20", "from 1 to 19"),
            ("METRICS_RETAIN_FOR", "1 month", "`off`, or a duration such as"),
            (
                "METRICS_RETAIN_BYTES",
                "10GB",
                "`off`, or a size such as `64MiB` (B, KiB, MiB, GiB)",
            ),
            ("METRICS_RETAIN_FILES", "-1", "`off`, or a whole number"),
            ("METRICS_ARCHIVE_URL", "ftp://host/logs", "`s3://bucket/prefix`"),
            ("METRICS_ARCHIVE_LAYOUT", "hive", "`flat` or `partitioned`"),
            ("METRICS_PUBLISH_INTERVAL", "fast", "`250ms`"),
            ("METRICS_ENQUEUE_TIMEOUT", "1h", "of at most 1m"),
            ("METRICS_ACK_TIMEOUT", "0s", "from 1ms"),
            ("METRICS_QUERY_TIMEOUT", "0s", "from 1ms"),
            ("METRICS_STREAM_SUBSCRIBERS_MAX", "-1", "whole number"),
            ("METRICS_STREAM_LAG_MAX", "1", "`off`"),
            ("METRICS_SHUTDOWN_TIMEOUT", "-1s", "of at most"),
            ("METRICS_EVENT_BYTES_MAX", "1", "from 1KiB"),
            ("METRICS_BATCH_BYTES_MAX", "2GiB", "to 1GiB"),
            ("METRICS_HEAD_BYTES_MAX", "1MiB", "from 1KiB to 64KiB"),
            ("METRICS_HEADERS_MAX", "129", "from 1 to 128"),
            ("METRICS_TARGET_BYTES_MAX", "1", "from 64B to 64KiB"),
            ("METRICS_INFLIGHT_BYTES_MAX", "1KiB", "from 1MiB to 1024GiB"),
            ("METRICS_LINE_BYTES_MAX", "1.5MiB", "to 1MiB"),
            ("METRICS_EVENT_NAMES_MAX", "", "from 1 to 1000000"),
            ("METRICS_PUBLIC_READS", "perhaps", "`on` or `off`"),
            ("METRICS_WRITE_KEYS", "short", "16 to 128"),
            ("METRICS_WRITE_KEYS_FILE", "keys/", "path of a file"),
            ("METRICS_READ_KEYS", "", "no key in it"),
            ("METRICS_READ_KEYS_FILE", "keys/", "path of a file"),
            ("METRICS_CORS_ORIGINS", "example.org", "`https://example.org`"),
            ("METRICS_RATE_LIMIT", "100", "`100/s`"),
            ("METRICS_RATE_BURST", "0", "from 1 to 1000000"),
            ("METRICS_TRUSTED_PROXIES", "nginx", "`10.0.0.0/8`"),
            ("METRICS_ACCESS_LOG", "logs/", "`off`, `stderr`"),
            ("METRICS_ACCESS_SAMPLE", "0.1", "from 1 to 1000000"),
            ("METRICS_LOG_FORMAT", "xml", "`text` or `json`"),
            ("METRICS_LOG_LEVEL", "loud", "`info`"),
            ("METRICS_NODE", "eu.1", "letters, digits"),
            ("METRICS_SHIP_URL", "http://a", "`off`, or `nats://host:4222`"),
            ("METRICS_SHIP_STREAM", "a.b", "letters, digits"),
            ("METRICS_SHIP_PACK", "yes", "`on` or `off`"),
            ("METRICS_SHIP_INFLIGHT", "0", "from 1 to 16384"),
            ("METRICS_SHIP_REPLICAS", "6", "from 1 to 5"),
            ("METRICS_SHIP_KEEP_FOR", "1 week", "`off`, or a duration such as"),
            ("METRICS_SHIP_KEEP_BYTES", "1", "`off`, or a size such as"),
            ("METRICS_SHIP_DUPLICATES", "1ms", "from 100ms to 1d"),
            ("METRICS_SHIP_HOLD", "all", "a size such as"),
            ("METRICS_FROM", "nats://user:word@a", "no credentials"),
            ("METRICS_NATS_USER", "eu", "METRICS_NATS_PASSWORD beside it"),
            ("METRICS_NATS_PASSWORD", "secret", "METRICS_NATS_USER beside it"),
            ("METRICS_NATS_TOKEN", "", "not empty"),
            ("METRICS_NATS_CREDENTIALS", "creds/", "path of a file"),
            ("METRICS_NATS_CA", "ca/", "path of a file"),
            ("METRICS_NATS_CERT", "cert.pem", "METRICS_NATS_KEY beside it"),
            ("METRICS_NATS_KEY", "key.pem", "METRICS_NATS_CERT beside it"),
        ];
        for (name, value, allowed) in wrong {
            let error = with(name, value).unwrap_err().to_string();
            if settings::is_secret(name) {
                assert!(value.is_empty() || !error.contains(value), "{error}");
                assert!(error.starts_with(&format!("{name}: ")), "{error}");
            } else {
                assert!(error.starts_with(&format!("{name}: {value:?}")), "{error}");
            }
            assert!(error.contains(allowed), "{error}");
        }
        let listed: Vec<_> = settings::SETTINGS
            .iter()
            .map(|setting| setting.variable)
            .collect();
        for name in listed {
            assert!(
                wrong.iter().any(|(tested, _, _)| *tested == name),
                "{name} is not tested"
            );
        }
    }

    #[test]
    fn the_access_log_is_no_file_of_the_log_of_events_however_it_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("metrics.jsonl");
        let link = folder.path().join("link");
        let with_access_log = |path: PathBuf| {
            let text = |path: &Path| path.to_str().unwrap().to_owned();
            Config::new(|name| match name {
                "METRICS_JSONL" => Some(text(&log)),
                "METRICS_ACCESS_LOG" => Some(text(&path)),
                _ => None,
            })
        };
        let other = folder.path().join("access.jsonl");
        assert!(with_access_log(other).is_ok());
        std::os::unix::fs::symlink(&log, &link).unwrap();
        std::fs::write(&log, "").unwrap();
        for path in [
            log.clone(),
            folder.path().join("./metrics.jsonl"),
            folder
                .path()
                .join("../")
                .join(folder.path().file_name().unwrap())
                .join("metrics.journal"),
            folder.path().join("metrics.jsonl.lock"),
            link,
        ] {
            let error = with_access_log(path).unwrap_err().to_string();
            assert!(error.starts_with("METRICS_ACCESS_LOG: "), "{error}");
        }
    }

    #[test]
    fn a_target_must_fit_into_its_head() {
        let error = with("METRICS_TARGET_BYTES_MAX", "17KiB").unwrap_err().to_string();
        assert!(
            error.starts_with("METRICS_TARGET_BYTES_MAX: \"17KiB\""),
            "{error}"
        );
    }

    #[test]
    fn one_batch_must_fit_into_what_all_may_hold() {
        assert!(with("METRICS_INFLIGHT_BYTES_MAX", "64MiB").is_ok());
        let error = with("METRICS_INFLIGHT_BYTES_MAX", "63MiB")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("METRICS_INFLIGHT_BYTES_MAX: \"63MiB\""),
            "{error}"
        );
    }

    #[test]
    fn a_line_must_not_fill_the_journal() {
        let with_journal = |size: &'static str| {
            Config::new(move |name| match name {
                "METRICS_LINE_BYTES_MAX" => Some("256KiB".into()),
                "METRICS_JOURNAL_BYTES_MAX" => Some(size.into()),
                _ => None,
            })
        };
        assert!(with_journal("2MiB").is_ok());
        let error = with_journal("1MiB").unwrap_err().to_string();
        assert!(error.starts_with("METRICS_LINE_BYTES_MAX: \"256KiB\""), "{error}");
    }

    #[test]
    fn reads_are_closed_on_public_addresses_until_switched_on() {
        for (bind, may_read) in [
            ("[::1]:0", true),
            ("[::1]:0,127.0.0.1:0,unix:a.sock", true),
            ("0.0.0.0:8001", false),
            ("127.0.0.1:8001,192.168.1.1:8001", false),
            ("unix:a.sock,[::]:8001", false),
            ("systemd", false),
        ] {
            assert_eq!(with("METRICS_BIND", bind).unwrap().may_read(), may_read, "{bind}");
        }
        let both = Config::new(|name| match name {
            "METRICS_BIND" => Some("0.0.0.0:8001".into()),
            "METRICS_PUBLIC_READS" => Some("on".into()),
            _ => None,
        });
        assert!(both.unwrap().may_read());
    }
}
