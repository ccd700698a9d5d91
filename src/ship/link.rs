//! The way to NATS: addresses, who we say we are, TLS, and one connection at a time.
//!
//! The client would reconnect by itself, and would send then what it had gathered meanwhile. Here a connection that has
//! failed is given up with all that was under way on it, and another one is made: what is to be sent next is what the stream
//! lacks, and only the stream can say that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::Notify;

/// How long a connection may take until the server has said who it is. One that is stopped takes connections, as the kernel
/// does that for it, and says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request to JetStream, or the acknowledgement of a message, may take. Choosing another leader takes a few seconds.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the server is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Servers of NATS, and how they are to be talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Their addresses; any of a cluster's will do.
    pub servers: Vec<String>,
    /// Who we are.
    pub login: Login,
    /// Certificate authorities (PEM) in place of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key (PEM), where the servers want one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Who we say we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Nobody in particular.
    Anonymous,
    /// What `nsc` writes: a token of the operator's and a key.
    Credentials(PathBuf),
    /// A user with a password.
    User(String, String),
    /// A token that all share.
    Token(String),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Login::Anonymous => "Anonymous",
            Login::Credentials(_) => "Credentials",
            Login::User(..) => "User",
            Login::Token(_) => "Token",
        })
    }
}

/// Reads a list of addresses with commas.
///
/// # Errors
/// What is allowed instead, as a clause.
pub fn servers(text: &str) -> Result<Vec<String>, String> {
    const ALLOWED: &str =
        "it is `nats://host:4222` or `tls://host:4222`, several of a cluster separated by commas";
    let address = |text: &str| {
        let text = text.trim();
        let rest = text
            .strip_prefix("nats://")
            .or_else(|| text.strip_prefix("tls://"))
            .ok_or(ALLOWED)?;
        if rest.contains('@') {
            return Err(
                "it holds no credentials: those are METRICS_NATS_USER, METRICS_NATS_TOKEN or METRICS_NATS_CREDENTIALS",
            );
        }
        match text.parse::<ServerAddr>() {
            Ok(address) if !address.host().is_empty() && !rest.contains('/') => Ok(text.to_owned()),
            _ => Err(ALLOWED),
        }
    };
    text.split(',')
        .map(address)
        .collect::<Result<Vec<_>, _>>()
        .map_err(str::to_owned)
}

/// A connection.
pub struct Link {
    /// For what is not JetStream's.
    pub client: Client,
    /// For streams and consumers.
    pub jetstream: Context,
    /// Told when the connection is lost.
    lost: Arc<Notify>,
}

impl Link {
    /// Connects to one of the servers, calling ourselves `name`.
    ///
    /// # Errors
    /// Why it cannot be, as a sentence.
    pub async fn open(access: &Access, name: &str, inflight_max: usize) -> Result<Link, String> {
        let lost = Arc::new(Notify::new());
        let tell = Arc::clone(&lost);
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(ANSWER_TIMEOUT))
            .ping_interval(PING_EVERY)
            .max_reconnects(1)
            .event_callback(move |event| {
                let tell = Arc::clone(&tell);
                async move {
                    if matches!(event, Event::Disconnected | Event::Closed | Event::LameDuckMode) {
                        tell.notify_one();
                    }
                }
            });
        options = match &access.login {
            Login::Anonymous => options,
            Login::User(user, password) => options.user_and_password(user.clone(), password.clone()),
            Login::Token(token) => options.token(token.clone()),
            Login::Credentials(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("METRICS_NATS_CREDENTIALS: {}: {error}", path.display()))?;
                options
                    .credentials(&text)
                    .map_err(|error| format!("METRICS_NATS_CREDENTIALS: {}: {error}", path.display()))?
            }
        };
        if let Some(ca) = &access.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &access.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        let addresses: Result<Vec<ServerAddr>, _> =
            access.servers.iter().map(|server| server.parse()).collect();
        let addresses = addresses.expect("addresses are checked when they are read");
        let client = options.connect(addresses).await.map_err(|error| {
            format!(
                "no NATS server can be used ({}): {}",
                access.servers.join(", "),
                chain(&error)
            )
        })?;
        let jetstream = ContextBuilder::new()
            .timeout(ANSWER_TIMEOUT)
            .ack_timeout(ANSWER_TIMEOUT)
            // One more than we ever have under way: we count ourselves.
            .max_ack_inflight(inflight_max + 1)
            .build(client.clone());
        Ok(Link {
            client,
            jetstream,
            lost,
        })
    }

    /// Waits until the connection is lost.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }
}

/// An error with what caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_are_refused_with_what_is_allowed() {
        assert_eq!(
            servers("nats://a:4222, tls://b.example").unwrap(),
            ["nats://a:4222", "tls://b.example"]
        );
        for (text, allowed) in [
            ("", "`nats://host:4222`"),
            ("a:4222", "`nats://host:4222`"),
            ("http://a", "`nats://host:4222`"),
            ("nats://", "`nats://host:4222`"),
            ("nats://a/stream", "`nats://host:4222`"),
            ("nats://a,", "`nats://host:4222`"),
            ("nats://a:port", "`nats://host:4222`"),
            ("nats://user:word@a", "no credentials"),
        ] {
            let error = servers(text).unwrap_err();
            assert!(error.contains(allowed), "{text}: {error}");
        }
    }
}
