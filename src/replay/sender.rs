//! Sending a batch until it is known what became of it.
//!
//! A batch is posted with `?partial=true`. The answer names the first hundred errors; where more lines were refused, which
//! ones is asked by posting the rest without `partial`: of that nothing is stored, as some of it is known to be refused, and the 422
//! names the next hundred. So every refused line is told with the server's own reason, and nothing is stored twice for it.
//!
//! What is tried again, for [`Target::retry_for`] at most a batch: a 503 or 429 with `Retry-After` (nothing is stored), a connection that
//! could not be made (nothing was sent), and with [`InDoubt::Send`] also what may be stored: a request whose answer never came,
//! or a gateway's or server's 5xx without `Retry-After`.
//!
//! Owner: a thread for each sender, with one connection. The client is `reqwest`, which is in the tree for uploads, on a runtime of the
//! thread's own. It sends no `User-Agent`: the server would store it with events that have none.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::InDoubt;
use super::source::Batch;

/// The endpoint, below the URL that is given.
const ENDPOINT: &str = "/api/metrics/events/batch";
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take: longer than any server lets a level be waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a connection may be at rest and be used again: less than servers and proxies keep one, so that no batch gets
/// lost in a connection that is just being closed.
const REST_MAX: Duration = Duration::from_secs(10);
/// Longest answer that is read: a list of errors is little more than a mebibyte.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The first pause before another try, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The wait for a `Retry-After` that is a date.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);

/// A server, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The endpoint's URL, without a query.
    pub url: Url,
    /// The write key.
    pub key: Option<String>,
    /// The level asked for.
    pub ack: Option<String>,
    /// Certificates in PEM that are trusted, in place of the system's.
    pub ca: Option<Vec<u8>>,
    /// How long a batch is tried.
    pub retry_for: Duration,
    /// What is done about what may be stored.
    pub in_doubt: InDoubt,
}

/// The endpoint's URL, from what a user gives: a server, or the endpoint itself.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn endpoint(text: &str) -> Result<Url, String> {
    let mut url =
        Url::parse(text).map_err(|error| format!("{error}; a URL looks like http://127.0.0.1:8001"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("it begins with http:// or https:// and a host".into());
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err("it has neither user, query nor fragment; keys are given by --key".into());
    }
    if !url.path().ends_with(ENDPOINT) {
        let path = format!("{}{ENDPOINT}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

/// What became of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// All is known.
    Answered(Answered),
    /// It may be stored, wholly or in part; why nobody knows.
    InDoubt(String),
    /// Nothing of it is stored; why.
    NotStored(String),
}

/// What a server has said of a batch.
#[derive(Debug, Default)]
pub struct Answered {
    /// Events stored.
    pub stored: u64,
    /// Lines of the batch that were refused, by their place in it, and why.
    pub refused: Vec<(usize, String)>,
    /// Of those stored: how many did not reach the level asked for.
    pub below_level: u64,
    /// Whether it was sent again after an answer that was never seen.
    pub is_sent_again: bool,
}

/// Why a request has no answer that says something.
enum Failure {
    InDoubt(String),
    NotStored(String),
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Outcome {
        match failure {
            Failure::InDoubt(why) => Outcome::InDoubt(why),
            Failure::NotStored(why) => Outcome::NotStored(why),
        }
    }
}

/// An answer.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    /// Whether it names a level: then the events are stored.
    has_level: bool,
    body: Vec<u8>,
}

/// A request without an answer.
struct Loss {
    why: String,
    /// Whether the server may have it.
    may_be_sent: bool,
    /// Whether another try would end alike.
    is_final: bool,
}

/// The body of an answer, as far as it is looked at.
#[derive(Default, Deserialize)]
struct Said {
    stored: Option<u64>,
    #[serde(default)]
    rejected: u64,
    #[serde(default)]
    detail: Value,
}

#[derive(Deserialize)]
struct Detail {
    loc: Vec<Value>,
    msg: String,
    #[serde(default)]
    ctx: Value,
}

/// Sends batches, one after the other.
pub struct Sender {
    target: Arc<Target>,
    /// The URL that stores what is valid, and the one that stores all or nothing.
    partial: Url,
    whole: Url,
    headers: HeaderMap,
    client: Client,
    runtime: Runtime,
    stop: Arc<AtomicBool>,
}

impl Sender {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// What of the target cannot be used, as a sentence.
    pub fn new(target: Arc<Target>, stop: Arc<AtomicBool>) -> Result<Sender, String> {
        // Only the first call in a process does anything.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut builder = Client::builder()
            .http1_only()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .pool_idle_timeout(REST_MAX)
            .pool_max_idle_per_host(1);
        if let Some(pem) = &target.ca {
            let certificates =
                Certificate::from_pem_bundle(pem).map_err(|error| format!("--ca: {}", chain(&error)))?;
            if certificates.is_empty() {
                return Err("--ca: the file has no certificate".into());
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| chain(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        if let Some(key) = &target.key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                .map_err(|_| "--key: a key has only printable ASCII characters".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut whole = target.url.clone();
        if let Some(level) = &target.ack {
            whole.query_pairs_mut().append_pair("ack", level);
        }
        let mut partial = whole.clone();
        partial.query_pairs_mut().append_pair("partial", "true");
        Ok(Sender {
            target,
            partial,
            whole,
            headers,
            client,
            runtime,
            stop,
        })
    }

    /// Sends a batch until it is known what became of it, or there is no sense in trying.
    pub fn send(&self, batch: &Batch) -> Outcome {
        match self.try_to_send(batch) {
            Ok(answered) => Outcome::Answered(answered),
            Err(failure) => failure.into(),
        }
    }

    fn try_to_send(&self, batch: &Batch) -> Result<Answered, Failure> {
        let is_again_fine = self.target.in_doubt == InDoubt::Send;
        let (answer, is_sent_again) = self.exchange(&self.partial, &batch.body, is_again_fine)?;
        let count = batch.lines.len();
        let said = answer.said();
        match (answer.status, said.stored) {
            (202, Some(stored)) if stored + said.rejected == count as u64 => Ok(Answered {
                stored,
                refused: self.refused(batch, &said)?,
                below_level: 0,
                is_sent_again,
            }),
            (503, None) if answer.has_level => Ok(Answered {
                stored: count as u64,
                refused: Vec::new(),
                below_level: count as u64,
                is_sent_again,
            }),
            // One line: it is that one which is not wanted.
            (413 | 422, None) if count == 1 => Ok(Answered {
                refused: vec![(0, answer.sentence())],
                is_sent_again,
                ..Answered::default()
            }),
            (400..=499, None) => Err(Failure::NotStored(answer.complaint())),
            _ => Err(Failure::InDoubt(answer.complaint())),
        }
    }

    /// Which lines were refused, and why.
    fn refused(&self, batch: &Batch, said: &Said) -> Result<Vec<(usize, String)>, Failure> {
        let wanted = said.rejected as usize;
        let mut refused = reasons(&said.detail, 0);
        while refused.len() < wanted {
            // Everything up to the last line that was told is known, and behind it is at least one that is refused.
            let begin = refused.last().map_or(0, |(at, _)| at + 1);
            let unclear = |complaint: String| {
                let left = wanted - refused.len();
                Failure::InDoubt(format!(
                    "which {left} lines were refused besides cannot be told: {complaint}"
                ))
            };
            let (answer, _) = self.exchange(&self.whole, batch.body_from(begin), true).map_err(
                |failure| match failure {
                    Failure::InDoubt(why) | Failure::NotStored(why) => unclear(why),
                },
            )?;
            let more = reasons(&answer.said().detail, begin);
            if answer.status != 422 || more.is_empty() || refused.len() + more.len() > wanted {
                return Err(unclear(answer.complaint()));
            }
            refused.extend(more);
        }
        Ok(refused)
    }

    /// Posts until there is an answer that says something, and whether an answer was lost on the way.
    fn exchange(&self, url: &Url, body: &[u8], is_again_fine: bool) -> Result<(Answer, bool), Failure> {
        let until = Instant::now() + self.target.retry_for;
        let (mut is_lost, mut backoff) = (false, PAUSE_MIN);
        loop {
            let (why, pause, may_be_stored) = match self.post(url, body) {
                Ok(answer) => match answer.retry_after {
                    Some(after) if matches!(answer.status, 429 | 503) => (answer.complaint(), after, false),
                    _ if answer.is_doubtful() => (answer.complaint(), backoff, true),
                    _ => return Ok((answer, is_lost)),
                },
                Err(loss) if loss.is_final => return Err(Failure::NotStored(loss.why)),
                Err(loss) => (loss.why, backoff, loss.may_be_sent),
            };
            is_lost |= may_be_stored;
            let may_try = !may_be_stored || is_again_fine;
            if !may_try || !self.pause(pause, until) {
                let failure = if is_lost {
                    Failure::InDoubt
                } else {
                    Failure::NotStored
                };
                return Err(failure(why));
            }
            backoff = (backoff * 2).min(PAUSE_MAX);
        }
    }

    /// Waits; whether there is still sense in trying.
    fn pause(&self, pause: Duration, until: Instant) -> bool {
        let end = Instant::now() + pause;
        if end > until {
            return false;
        }
        while !self.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            thread::sleep(left.min(super::TICK));
        }
        false
    }

    /// Posts once.
    fn post(&self, url: &Url, body: &[u8]) -> Result<Answer, Loss> {
        let request = self
            .client
            .post(url.clone())
            .headers(self.headers.clone())
            .body(body.to_vec());
        self.runtime.block_on(async {
            let mut response = request.send().await.map_err(|error| Loss::of(&error))?;
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            let retry_after = header(RETRY_AFTER.as_str())
                .map(|text| text.parse().map_or(RETRY_AFTER_DEFAULT, Duration::from_secs));
            let mut answer = Answer {
                status: response.status().as_u16(),
                retry_after,
                has_level: header("x-ack").is_some(),
                body: Vec::new(),
            };
            while let Some(piece) = response.chunk().await.map_err(|error| Loss::of(&error))? {
                if answer.body.len() + piece.len() <= ANSWER_BYTES_MAX {
                    answer.body.extend_from_slice(&piece);
                }
            }
            Ok(answer)
        })
    }
}

impl Loss {
    fn of(error: &reqwest::Error) -> Loss {
        Loss {
            why: chain(error),
            may_be_sent: !error.is_connect() && !error.is_builder(),
            is_final: error.is_builder() || error.is_connect() && is_about_certificates(error),
        }
    }
}

impl Answer {
    /// Whether it leaves open if the events are stored. A 503 that names a level does not.
    fn is_doubtful(&self) -> bool {
        self.status >= 500 && !(self.status == 503 && self.has_level)
    }

    fn said(&self) -> Said {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What it says is wrong.
    fn sentence(&self) -> String {
        let detail = self.said().detail;
        match (detail.as_str(), reasons(&detail, 0).pop()) {
            (Some(sentence), _) => sentence.to_owned(),
            (None, Some((_, reason))) => reason,
            (None, None) => String::from_utf8_lossy(&self.body[..self.body.len().min(200)]).into_owned(),
        }
    }

    fn complaint(&self) -> String {
        format!("the server answered {}: {}", self.status, self.sentence())
    }
}

/// The reasons in a `detail`, by event: its place in the batch, of which `begin` events were left out.
fn reasons(detail: &Value, begin: usize) -> Vec<(usize, String)> {
    let mut reasons: Vec<(usize, String)> = Vec::new();
    for detail in detail.as_array().into_iter().flatten() {
        let Ok(detail) = Detail::deserialize(detail) else {
            continue;
        };
        let Some(at) = detail.loc.get(1).and_then(Value::as_u64) else {
            continue;
        };
        let at = begin + at as usize;
        let place = match detail.loc.get(2) {
            Some(Value::String(field)) => format!("{field}: "),
            Some(byte) => format!("byte {byte}: "),
            None => String::new(),
        };
        let context = match detail.ctx.get("error").and_then(Value::as_str) {
            Some(error) if !detail.msg.contains(error) => format!(" ({error})"),
            _ => String::new(),
        };
        let reason = format!("{place}{}{context}", detail.msg);
        match reasons.last_mut().filter(|(last, _)| *last == at) {
            Some((_, text)) => *text += &format!("; {reason}"),
            None => reasons.push((at, reason)),
        }
    }
    reasons
}

/// An error with what is behind it, without saying anything twice.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        source = error.source();
    }
    text
}

/// Whether the peer's certificate is not trusted, or it speaks no TLS.
fn is_about_certificates(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // What an error of I/O wraps is not its source, and it may wrap another one.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_or_the_endpoint() {
        for (text, url) in [
            (
                "http://localhost:8001",
                "http://localhost:8001/api/metrics/events/batch",
            ),
            (
                "https://a.example/in/",
                "https://a.example/in/api/metrics/events/batch",
            ),
            (
                "http://a/api/metrics/events/batch",
                "http://a/api/metrics/events/batch",
            ),
        ] {
            assert_eq!(endpoint(text).unwrap().as_str(), url);
        }
        for text in [
            "localhost:8001",
            "ftp://a",
            "http://a?x=1",
            "http://user@a",
            "a",
            "unix:/a",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reasons_are_told_by_event() {
        let detail = serde_json::json!([
            {"type": "missing", "loc": ["body", 3, "event"], "msg": "Field required", "input": {}},
            {"type": "missing", "loc": ["body", 3, "visitor_id"], "msg": "Field required", "input": {}},
            {"type": "json_invalid", "loc": ["body", 5, 17], "msg": "JSON decode error", "ctx": {"error": "no value"}},
            {"type": "too_long", "loc": ["body", 6], "msg": "too long"},
            {"type": "odd", "loc": ["body"], "msg": "of no event"},
        ]);
        let expected = [
            (13, "event: Field required; visitor_id: Field required"),
            (15, "byte 17: JSON decode error (no value)"),
            (16, "too long"),
        ];
        assert_eq!(
            reasons(&detail, 10),
            expected.map(|(at, reason)| (at, reason.to_owned()))
        );
    }
}
