//! The settings of a node among others: its name, NATS, what is shipped there and what is read from there.

use std::path::PathBuf;
use std::time::Duration;

use super::values::{Rejected, duration, size, switch, whole};
use super::{ConfigError, file_path, keeping_time, lonely, or_off};
use crate::fleet::FleetPolicy;
use crate::ship::link::{Access, Login, servers};
use crate::ship::names::{name, of_host};
use crate::ship::{ShipPolicy, StreamPolicy};

/// The servers of a cluster that JetStream lets hold one stream.
const REPLICAS_MAX: usize = 5;
/// More would be memory of the server's, and nothing won.
const INFLIGHT_MAX: usize = 16_384;

/// What a setting says, read by `read` or refused naming it.
pub(super) trait Texts {
    /// Reads a setting.
    fn read<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Rejected>) -> Result<T, ConfigError>;
    /// What it says, as it is; `None` if nothing was said.
    fn said(&self, name: &str) -> Option<String>;
}

/// The name of this node.
pub(super) fn node(texts: &impl Texts) -> Result<String, ConfigError> {
    match texts.said("METRICS_NODE") {
        Some(_) => texts.read("METRICS_NODE", name),
        None => {
            // The second for a sandbox that hides the first.
            let said = ["/proc/sys/kernel/hostname", "/etc/hostname"].map(std::fs::read_to_string);
            let host = said.into_iter().find_map(Result::ok).unwrap_or_default();
            Ok(of_host(host.trim()))
        }
    }
}

/// Where the log is shipped, if it is.
pub(super) fn ship(texts: &impl Texts) -> Result<Option<ShipPolicy>, ConfigError> {
    let url = texts.read("METRICS_SHIP_URL", |text| or_off(text, servers))?;
    // Read in any case: what is wrong is told before it is needed.
    let policy = ShipPolicy {
        access: access(texts, url.clone().unwrap_or_default())?,
        fleet: texts.read("METRICS_SHIP_STREAM", name)?,
        is_packed: texts.read("METRICS_SHIP_PACK", switch)?,
        inflight_max: texts.read("METRICS_SHIP_INFLIGHT", |text| whole(text, 1, INFLIGHT_MAX))?,
        stream: StreamPolicy {
            replicas: texts.read("METRICS_SHIP_REPLICAS", |text| whole(text, 1, REPLICAS_MAX))?,
            keep_for: texts.read("METRICS_SHIP_KEEP_FOR", |text| or_off(text, keeping_time))?,
            keep_bytes: texts.read("METRICS_SHIP_KEEP_BYTES", |text| {
                or_off(text, |text| size(text, 1 << 20, 1 << 60))
            })?,
            duplicates: texts.read("METRICS_SHIP_DUPLICATES", |text| {
                duration(text, 100, 24 * 3_600_000)
            })?,
        },
    };
    let shortest = policy.stream.keep_for.unwrap_or(Duration::MAX);
    if policy.stream.duplicates > shortest {
        return Err(ConfigError(format!(
            "METRICS_SHIP_DUPLICATES: {:?} is not allowed; it is at most METRICS_SHIP_KEEP_FOR",
            policy.stream.duplicates
        )));
    }
    Ok(url.map(|_| policy))
}

/// Bytes that are not shipped yet which retention leaves in place.
pub(super) fn hold(texts: &impl Texts) -> Result<u64, ConfigError> {
    texts.read("METRICS_SHIP_HOLD", |text| size(text, 0, 1 << 60))
}

/// Where a whole fleet is read from, if this node is a view of one.
pub(super) fn from(texts: &impl Texts) -> Result<Option<FleetPolicy>, ConfigError> {
    let Some(servers) = texts.read("METRICS_FROM", |text| or_off(text, servers))? else {
        return Ok(None);
    };
    Ok(Some(FleetPolicy {
        access: access(texts, servers)?,
        fleet: texts.read("METRICS_SHIP_STREAM", name)?,
    }))
}

fn access(texts: &impl Texts, servers: Vec<String>) -> Result<Access, ConfigError> {
    let path = |name: &str| -> Result<Option<PathBuf>, ConfigError> {
        let said = texts.said(name).is_some();
        said.then(|| texts.read(name, file_path).map(PathBuf::from))
            .transpose()
    };
    let not_empty = |text: &str| match text.is_empty() {
        true => Err("it is not empty".into()),
        false => Ok(text.to_owned()),
    };
    let secret = |name: &str| texts.said(name).map(|_| texts.read(name, not_empty)).transpose();
    let (credentials, token) = (path("METRICS_NATS_CREDENTIALS")?, secret("METRICS_NATS_TOKEN")?);
    let login = match (secret("METRICS_NATS_USER")?, secret("METRICS_NATS_PASSWORD")?) {
        (Some(user), Some(password)) => Some(Login::User(user, password)),
        (Some(user), None) => return Err(lonely("METRICS_NATS_USER", &user, "METRICS_NATS_PASSWORD")),
        (None, Some(_)) => {
            return Err(ConfigError(
                "METRICS_NATS_PASSWORD: it needs METRICS_NATS_USER beside it".into(),
            ));
        }
        (None, None) => None,
    };
    let logins = [
        credentials.map(Login::Credentials),
        token.map(Login::Token),
        login,
    ];
    let mut logins = logins.into_iter().flatten();
    let login = logins.next().unwrap_or(Login::Anonymous);
    if logins.next().is_some() {
        return Err(ConfigError(
            "METRICS_NATS_USER, METRICS_NATS_TOKEN, METRICS_NATS_CREDENTIALS: only one of them may be set"
                .into(),
        ));
    }
    let certificate = match (path("METRICS_NATS_CERT")?, path("METRICS_NATS_KEY")?) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(cert), None) => {
            return Err(lonely(
                "METRICS_NATS_CERT",
                &cert.to_string_lossy(),
                "METRICS_NATS_KEY",
            ));
        }
        (None, Some(key)) => {
            return Err(lonely(
                "METRICS_NATS_KEY",
                &key.to_string_lossy(),
                "METRICS_NATS_CERT",
            ));
        }
        (None, None) => None,
    };
    Ok(Access {
        servers,
        login,
        ca: path("METRICS_NATS_CA")?,
        certificate,
    })
}
