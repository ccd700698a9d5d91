//! The gate: who may do what, and how often. Every request passes it before its endpoint sees it.
//!
//! ```text
//! request → id → CORS → access log's entry → OPTIONS, 405, 404 → key → rate → 401, 403, 429 → endpoint
//! ```
//!
//! Without origins, keys, a rate and an access log, which is the default, a request pays for a look at its headers (is there
//! an id to echo) and a few comparisons.
//!
//! **Rules.**
//! - Writing is open until there is a write key.
//! - Reading takes a read key once there is one. Until then it is open to clients on loopback where the server only
//!   listens there, and closed everywhere else. METRICS_PUBLIC_READS opens it to everybody. A client on loopback may be a
//!   browser that shows somebody's page, so such a request has to name this machine as no page's own name does (`host.rs`).
//! - Health answers everybody whether events can be stored, and details only those who may read.
//! - A request counts against the rate of its key, or, without a good one, of its address: guessing keys is limited too.
//!   Health, `OPTIONS` and files do not count: probes and browsers cannot help asking.
//! - The tracker's file is everybody's. The dashboard's are too, unless reading is closed: they hold no data.
//! - Cookies are never looked at.

mod client;
mod cors;
mod host;
mod keys;
mod rate;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

pub use keys::Side;
use keys::{HeldKeys, KeyRing, KnownKey};
use rate::{Limiter, Who};

use super::access::{AccessLog, Entry};
use super::error;
use super::route::Route;
use crate::config::Config;
use crate::config::access::Proxies;
use crate::http::{Answered, Output, Request};
use crate::web::{Audience, File};

/// Longest `X-Request-Id` that is echoed. A trace id with its parts has some 60 characters.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Most entries for which an idle connection keeps room; a burst has more.
const IDLE_ENTRIES_MAX: usize = 16;

/// Who may read without a key, as long as there is no read key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Everybody, and with read keys too.
    Public,
    /// Clients of this machine.
    Local,
    /// Nobody.
    Closed,
}

impl Reads {
    pub fn new(config: &Config) -> Reads {
        match (config.public_reads, config.may_read()) {
            (true, _) => Reads::Public,
            (false, true) => Reads::Local,
            (false, false) => Reads::Closed,
        }
    }
}

/// What all connections share of the gate.
pub struct Gate {
    keys: KeyRing,
    limiter: Option<Arc<Limiter>>,
    cors: Option<cors::Cors>,
    proxies: Proxies,
    access: Option<AccessLog>,
}

impl Gate {
    /// Reads the files of keys, opens the access log and starts what has threads. The error names the setting.
    pub fn open(config: &Config) -> Result<Arc<Gate>, String> {
        let keys = KeyRing::open(config)?;
        let limiter = config.rate_limit.map(Limiter::start).transpose();
        let access = config
            .access_log
            .as_ref()
            .map(|target| AccessLog::open(target, config.access_sample));
        Ok(Arc::new(Gate {
            keys,
            limiter: limiter.map_err(|error| format!("METRICS_RATE_LIMIT: no thread for it: {error}"))?,
            cors: cors::Cors::new(&config.cors_origins),
            proxies: config.trusted_proxies.clone(),
            access: access.transpose()?,
        }))
    }

    /// Reads the files of keys again and opens the access log again: what SIGHUP asks for. After an error the keys are what
    /// they were.
    pub fn reload(&self) -> Result<(), String> {
        if let Some(access) = &self.access {
            access.reopen();
        }
        self.keys.reload()
    }

    /// Writes the end of the access log. Blocks the thread for a limited time: not for coroutines.
    pub fn close(&self) {
        if let Some(access) = &self.access {
            access.close();
        }
    }

    /// Logs a connection for which there was no room, and the answer that it got.
    pub fn refused(&self, peer: Option<IpAddr>, answered: Option<&Answered>) {
        if let Some(access) = &self.access {
            access.log(None, peer, answered);
        }
    }

    /// Lines of the access log that were dropped, where there is one.
    pub fn access_lines_dropped(&self) -> Option<u64> {
        self.access.as_ref().map(AccessLog::dropped)
    }
}

/// A request that may go on to its endpoint.
pub struct Admitted {
    pub route: Route,
    /// Whether it may see what is on the read side.
    pub may_read: bool,
}

/// Why a request may not do what it asks for.
enum Refusal {
    KeyMissing,
    KeyWrong,
    /// It is a key of the other side.
    KeyMisplaced,
    ReadsClosed,
    /// Reading is open to this machine, and the request came by a name that may be a page's own.
    HostForeign,
}

impl Refusal {
    fn answer(&self, output: &mut Output) {
        const MISSING: (&str, &str) = ("WWW-Authenticate", "Bearer realm=\"floodgate\"");
        const WRONG: (&str, &str) = (
            "WWW-Authenticate",
            "Bearer realm=\"floodgate\", error=\"invalid_token\"",
        );
        const MISPLACED: (&str, &str) = (
            "WWW-Authenticate",
            "Bearer realm=\"floodgate\", error=\"insufficient_scope\"",
        );
        match self {
            Refusal::KeyMissing => {
                let sentence = "A key is needed: as `Authorization: Bearer`, as `X-Api-Key`, or as `?key=`.";
                output.detail(401, &[MISSING], sentence);
            }
            Refusal::KeyWrong => output.detail(401, &[WRONG], "The key is not known."),
            Refusal::KeyMisplaced => {
                let sentence = "The key is known, but not for this: keys for writing and for reading differ.";
                output.detail(403, &[MISPLACED], sentence);
            }
            Refusal::ReadsClosed => {
                let sentence = "Reading is closed on a public address. METRICS_READ_KEYS or METRICS_READ_KEYS_FILE opens it \
                                to those who have a key, METRICS_PUBLIC_READS=on to everybody.";
                output.detail(403, &[], sentence);
            }
            Refusal::HostForeign => {
                let sentence = "Reading without a key is open to this machine only, by an IP address or as localhost: by any other \
                                Host a page could read along. METRICS_READ_KEYS or METRICS_READ_KEYS_FILE opens it to those \
                                who have a key.";
                output.detail(403, &[], sentence);
            }
        }
    }
}

/// One connection's way through the gate.
pub struct Pass {
    gate: Arc<Gate>,
    reads: Reads,
    /// `None` behind a Unix socket.
    peer: Option<IpAddr>,
    keys: HeldKeys,
    /// Requests that are under way, in their order; only with an access log.
    entries: VecDeque<Entry>,
}

impl Pass {
    pub fn new(gate: &Arc<Gate>, reads: Reads, peer: Option<IpAddr>) -> Pass {
        Pass {
            keys: gate.keys.held(),
            gate: Arc::clone(gate),
            reads,
            peer,
            entries: VecDeque::new(),
        }
    }

    /// Gives back memory that a connection at rest does not need.
    pub fn rest(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Lets a request through to its endpoint; `None` after an answer.
    pub fn admit(&mut self, request: &Request<'_>, output: &mut Output) -> Option<Admitted> {
        if let Some(id) = request.header("x-request-id").and_then(sane_id) {
            output.set_request_id(id);
        }
        let route = Route::at(request.path());
        output.set_kind(Route::kind(route));
        let is_allowed_page = match &self.gate.cors {
            Some(cors) => cors.mark(request, route, output),
            None => false,
        };
        if self.gate.access.is_some() {
            output.track();
            let client = self.client(request);
            self.entries.push_back(Entry::new(request, self.peer, client));
        }
        match route {
            Some(route) if request.method() == "OPTIONS" => {
                cors::options(request, route, is_allowed_page, output);
                return None;
            }
            Some(Route::Health) if Route::Health.takes(request.method()) => {
                let key = self.key_for(Side::Read, request);
                // Probes are not limited, guesses at keys are: the details tell whether one was right.
                let is_guess = matches!(key, Err(Refusal::KeyWrong | Refusal::KeyMisplaced));
                if is_guess && !self.take(Who::at(self.client(request)), output) {
                    return None;
                }
                return Some(Admitted {
                    route: Route::Health,
                    may_read: key.is_ok(),
                });
            }
            Some(Route::File(file)) if Route::File(file).takes(request.method()) => {
                // Files do not count: a page needs a dozen at once.
                return self.may_have(file, request, output).then_some(Admitted {
                    route: Route::File(file),
                    may_read: false,
                });
            }
            _ => {}
        }
        let side = route.and_then(Route::side);
        let key = side.map_or(Ok(None), |side| self.key_for(side, request));
        let who = match &key {
            Ok(Some(id)) => Who::Key(*id),
            _ if self.gate.limiter.is_some() => Who::at(self.client(request)),
            // Nobody asks.
            _ => Who::at(None),
        };
        if !self.take(who, output) {
            return None;
        }
        let Some(route) = route else {
            not_found(request, output);
            return None;
        };
        if !route.takes(request.method()) {
            error::method_not_allowed(route.allow(), output);
            return None;
        }
        if let Err(refusal) = key {
            refusal.answer(output);
            return None;
        }
        let may_read = side == Some(Side::Read);
        Some(Admitted { route, may_read })
    }

    /// Whether a file may leave; `false` after an answer that it may not. The dashboard's hold no data, and ask for the read
    /// key themselves: they are withheld only where no key would open anything.
    fn may_have(&mut self, file: &File, request: &Request<'_>, output: &mut Output) -> bool {
        if file.audience != Audience::Readers {
            return true;
        }
        match self.key_for(Side::Read, request) {
            Err(refusal @ (Refusal::ReadsClosed | Refusal::HostForeign)) => {
                refusal.answer(output);
                false
            }
            _ => true,
        }
    }

    /// Whether a request may use that side, and the id of its key, if one is needed.
    fn key_for(&mut self, side: Side, request: &Request<'_>) -> Result<Option<u64>, Refusal> {
        let keys = self.keys.refresh(&self.gate.keys);
        let is_open = match side {
            Side::Write => keys.write.is_empty(),
            Side::Read => self.reads == Reads::Public,
        };
        if is_open {
            return Ok(None);
        }
        if keys.of(side).is_empty() {
            // Reading without read keys. A proxy on loopback speaks for somebody elsewhere, whatever it says of them.
            let is_proxy = self.gate.proxies.contain(self.peer);
            let is_local = !is_proxy && self.peer.is_none_or(|address| address.is_loopback());
            return match self.reads == Reads::Local && is_local {
                // No page gets to a Unix socket.
                true if self.peer.is_none() || host::is_of_no_page(request) => Ok(None),
                true => Err(Refusal::HostForeign),
                false => Err(Refusal::ReadsClosed),
            };
        }
        let Some(shown) = keys::shown(request) else {
            return Err(Refusal::KeyMissing);
        };
        let Some(KnownKey { name, id, .. }) = keys.of(side).find(&shown) else {
            return Err(match keys.not_of(side).find(&shown) {
                Some(_) => Refusal::KeyMisplaced,
                None => Refusal::KeyWrong,
            });
        };
        if let Some(entry) = self.entries.back_mut() {
            entry.key = Some(Arc::clone(name));
        }
        Ok(Some(*id))
    }

    /// Takes a request from a bucket; `false` after an answer that there is none.
    fn take(&self, who: Who, output: &mut Output) -> bool {
        let Some(limiter) = &self.gate.limiter else {
            return true;
        };
        match limiter.take(who) {
            Ok(()) => true,
            Err(seconds) => {
                let retry_after = [("Retry-After", &*seconds.to_string())];
                output.detail(429, &retry_after, "Too many requests. Try again later.");
                false
            }
        }
    }

    fn client(&self, request: &Request<'_>) -> Option<IpAddr> {
        client::client(self.peer, request, &self.gate.proxies)
    }

    /// Whether answers are logged.
    pub fn watches(&self) -> bool {
        self.gate.access.is_some()
    }

    /// Logs an answer that has left.
    pub fn answered(&mut self, answered: &Answered) {
        let entry = match answered.is_tracked {
            true => self.entries.pop_front(),
            false => None,
        };
        if let Some(access) = &self.gate.access {
            access.log(entry.as_ref(), self.peer, Some(answered));
        }
        if self.entries.is_empty() && self.entries.capacity() > IDLE_ENTRIES_MAX {
            self.entries = VecDeque::new();
        }
    }
}

impl Drop for Pass {
    /// What is still under way when the connection ends has got no answer.
    fn drop(&mut self) {
        if let Some(access) = &self.gate.access {
            for entry in self.entries.drain(..) {
                access.log(Some(&entry), self.peer, None);
            }
        }
    }
}

/// The answer for a path where there is no endpoint.
fn not_found(request: &Request<'_>, output: &mut Output) {
    if request.method() == "OPTIONS" && request.path() == "*" {
        // The server as a whole.
        return output.head_only(204, &[("Allow", "GET, HEAD, POST, OPTIONS")]);
    }
    output.detail(404, &[], "Not Found");
}

/// An id that may be echoed and logged: short, and of characters that mean nothing anywhere.
fn sane_id(id: &[u8]) -> Option<&str> {
    let is_sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@~".contains(byte);
    let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(is_sane);
    fits.then(|| std::str::from_utf8(id).ok()).flatten()
}
