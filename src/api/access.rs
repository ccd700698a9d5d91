//! The access log: a JSON line for each request, or for one in so many of those that went well.
//!
//! **Owner.** A connection renders the line when the answer has left and puts it into a queue; a thread writes what has
//! gathered there, so that a slow disk or a blocked stderr holds up no request.
//!
//! **Bounds.** [`QUEUE_MAX`] lines, and of a target [`TARGET_BYTES_MAX`]. When the queue is full, lines are dropped, counted (health
//! shows the number) and told of in the program's own messages; when the file cannot be written, what could not
//! be is counted too.
//!
//! **Secrets.** Values of query parameters whose name says `key` or `token` are masked, and headers are not logged at all.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::access::AccessTarget;
use crate::event::Timestamp;
use crate::http::{Answered, QueryPairs, Request};

/// Lines that wait to be written: some megabytes.
const QUEUE_MAX: usize = 8_192;
/// How long lines gather, so that one write, and one wake-up of the thread, is for all of them.
const GATHER: Duration = Duration::from_millis(5);
/// Most of a target that is logged, in bytes.
const TARGET_BYTES_MAX: usize = 1_024;
/// How often dropped lines are told of.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// How long the end of the program waits for the last lines.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The file is nobody else's business: it tells who asked for what.
const FILE_MODE: u32 = 0o640;

/// What is known of a request before it is answered.
pub struct Entry {
    at: Timestamp,
    began: Instant,
    peer: Option<IpAddr>,
    client: Option<IpAddr>,
    method: String,
    target: String,
    bytes_in: Option<u64>,
    /// The name of the key that was shown.
    pub key: Option<Arc<str>>,
}

impl Entry {
    pub fn new(request: &Request<'_>, peer: Option<IpAddr>, client: Option<IpAddr>) -> Entry {
        Entry {
            at: Timestamp::now(),
            began: Instant::now(),
            peer,
            client,
            method: cut(request.method()).to_owned(),
            target: target(request.path(), request.query()),
            bytes_in: request.body.length(),
            key: None,
        }
    }
}

/// A line. What is not known is `null`: of what is no request most things, and the status of an answer that did not leave.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: Option<&'a str>,
    client: Option<Cow<'a, str>>,
    peer: Option<Cow<'a, str>>,
    method: Option<&'a str>,
    target: Option<&'a str>,
    status: Option<u16>,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    duration_us: Option<u64>,
    key: Option<&'a str>,
}

enum Message {
    Line(String),
    /// There is something else to look at.
    Wake,
}

/// What the log's two sides share.
#[derive(Default)]
struct Words {
    reopen: AtomicBool,
    close: AtomicBool,
    dropped: AtomicU64,
}

/// The connections' side of the log.
pub struct AccessLog {
    queue: SyncSender<Message>,
    words: Arc<Words>,
    done: std::sync::Mutex<Receiver<()>>,
    sample: u64,
    /// Requests that went well.
    seen: AtomicU64,
}

impl AccessLog {
    /// Opens the log and starts its thread.
    pub fn open(target: &AccessTarget, sample: usize) -> Result<AccessLog, String> {
        let sink = match target {
            AccessTarget::Stderr => Sink::Stderr,
            AccessTarget::File(path) => {
                let file = open(path).map_err(|error| {
                    format!("METRICS_ACCESS_LOG: cannot open {}: {error}", path.display())
                })?;
                Sink::File(path.clone(), file)
            }
        };
        let (queue, lines) = sync_channel(QUEUE_MAX);
        let (tell_done, done) = sync_channel(1);
        let words = Arc::<Words>::default();
        let writer = Writer {
            sink,
            lines,
            words: Arc::clone(&words),
            is_cut: false,
            complained: None,
        };
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                writer.run();
                // Nobody may be waiting.
                tell_done.send(()).ok();
            })
            .map_err(|error| format!("METRICS_ACCESS_LOG: no thread for it: {error}"))?;
        Ok(AccessLog {
            queue,
            words,
            done: done.into(),
            sample: sample as u64,
            seen: AtomicU64::new(0),
        })
    }

    /// Logs a request that was answered; without an entry what was no request; without an answer one that got none, as its
    /// connection ended.
    pub fn log(&self, entry: Option<&Entry>, peer: Option<IpAddr>, answered: Option<&Answered>) {
        let went_well = answered.is_some_and(|answered| answered.status < 400);
        if went_well
            && !self
                .seen
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(self.sample)
        {
            return;
        }
        let line = Line {
            time: entry.map_or_else(Timestamp::now, |entry| entry.at).to_string(),
            request_id: answered.map(|answered| answered.request_id.as_str()),
            client: Some(spelled(entry.map_or(peer, |entry| entry.client))),
            peer: Some(spelled(entry.map_or(peer, |entry| entry.peer))),
            method: entry.map(|entry| entry.method.as_str()),
            target: entry.map(|entry| entry.target.as_str()),
            status: answered.map(|answered| answered.status),
            bytes_in: entry.and_then(|entry| entry.bytes_in),
            bytes_out: answered.map(|answered| answered.bytes),
            duration_us: entry.map(|entry| entry.began.elapsed().as_micros() as u64),
            key: entry.and_then(|entry| entry.key.as_deref()),
        };
        let mut text = serde_json::to_string(&line).expect("texts and numbers are JSON");
        text.push('\n');
        if self.queue.try_send(Message::Line(text)).is_err() {
            self.words.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.words.dropped.load(Ordering::Relaxed)
    }

    /// Opens the file again, soon: it may have been renamed.
    pub fn reopen(&self) {
        self.words.reopen.store(true, Ordering::Release);
        // If the queue is full, the thread is awake.
        self.queue.try_send(Message::Wake).ok();
    }

    /// Writes what has gathered, and ends. Blocks the thread for a limited time: not for coroutines.
    pub fn close(&self) {
        self.words.close.store(true, Ordering::Release);
        self.queue.try_send(Message::Wake).ok();
        let done = self.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if done.recv_timeout(CLOSE_TIMEOUT).is_err() {
            tracing::warn!("the access log could not be written to its end");
        }
    }
}

enum Sink {
    Stderr,
    File(PathBuf, File),
}

/// The thread's side of the log.
struct Writer {
    sink: Sink,
    lines: Receiver<Message>,
    words: Arc<Words>,
    /// The last write was cut off, perhaps within a line.
    is_cut: bool,
    /// When and at which number of dropped lines the last complaint was made.
    complained: Option<(Instant, u64)>,
}

impl Writer {
    fn run(mut self) {
        let mut batch = String::new();
        while let Ok(first) = self.lines.recv() {
            if !self.words.close.load(Ordering::Acquire) {
                std::thread::sleep(GATHER);
            }
            let mut count = 0;
            // No more than the queue holds: those who fill it must not keep the batch from being written.
            for message in std::iter::once(first)
                .chain(self.lines.try_iter())
                .take(QUEUE_MAX)
            {
                if let Message::Line(line) = message {
                    batch.push_str(&line);
                    count += 1;
                }
            }
            // What was there before the file is opened again belongs to the old one.
            self.write(&mut batch, count);
            if self.words.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            self.complain();
            if self.words.close.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn write(&mut self, batch: &mut String, count: u64) {
        if self.is_cut {
            batch.insert(0, '\n');
        }
        let written = match &mut self.sink {
            Sink::Stderr => io::stderr().write_all(batch.as_bytes()),
            Sink::File(_, file) => file.write_all(batch.as_bytes()),
        };
        if let Err(error) = written {
            if !std::mem::replace(&mut self.is_cut, true) {
                tracing::error!(%error, "the access log cannot be written; its lines are dropped");
            }
            self.words.dropped.fetch_add(count, Ordering::Relaxed);
        } else if !batch.is_empty() {
            self.is_cut = false;
        }
        batch.clear();
    }

    fn reopen(&mut self) {
        if let Sink::File(path, file) = &mut self.sink {
            match open(path) {
                Ok(opened) => {
                    *file = opened;
                    self.is_cut = false;
                }
                Err(error) => tracing::error!(
                    %error,
                    path = %path.display(),
                    "the access log cannot be opened again; the file in use stays in use"
                ),
            }
        }
    }

    fn complain(&mut self) {
        let dropped = self.words.dropped.load(Ordering::Relaxed);
        let (at, known) = self.complained.map_or((None, 0), |(at, known)| (Some(at), known));
        if dropped > known && at.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
            tracing::warn!(dropped, "lines of the access log were dropped");
            self.complained = Some((Instant::now(), dropped));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
}

fn spelled(address: Option<IpAddr>) -> Cow<'static, str> {
    address.map_or(Cow::Borrowed("unix"), |address| address.to_string().into())
}

/// The target of a request with its secrets masked.
fn target(path: &str, query: &str) -> String {
    let mut target = cut(path).to_owned();
    if query.is_empty() {
        return target;
    }
    let mut before = '?';
    // What is cut off goes first: half a key is masked as a whole one is.
    for pair in cut(query).split('&') {
        target.push(std::mem::replace(&mut before, '&'));
        match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => {
                target.push_str(name);
                target.push_str("=***");
            }
            _ => target.push_str(pair),
        }
    }
    target
}

/// Whether a parameter's name, encoded as it may be, says that its value is a secret.
fn is_secret(name: &str) -> bool {
    QueryPairs::new(name).any(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.contains("key") || name.contains("token")
    })
}

/// The first part of a long text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TARGET_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_targets_are_masked() {
        for (query, logged) in [
            ("", "/a"),
            ("ack=written", "/a?ack=written"),
            ("key=secret", "/a?key=***"),
            ("a=1&key=secret&b", "/a?a=1&key=***&b"),
            ("k%65y=secret", "/a?k%65y=***"),
            (
                "KEY=secret&api_key=secret&access_token=secret",
                "/a?KEY=***&api_key=***&access_token=***",
            ),
            ("key=a=b", "/a?key=***"),
            ("+key=secret", "/a?+key=***"),
            ("key", "/a?key"),
        ] {
            assert_eq!(target("/a", query), logged, "{query}");
        }
        let long = format!("{}key=secret", "x=y&".repeat(255));
        assert_eq!(long.len(), 1_020 + 10);
        assert!(!target("/a", &long).contains("sec"));
        assert_eq!(target(&"é".repeat(2_000), "").len(), TARGET_BYTES_MAX);
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_holds_up_nobody() {
        let (queue, lines) = sync_channel(2);
        let (_tell, done) = sync_channel(1);
        let log = AccessLog {
            queue,
            words: Arc::default(),
            done: done.into(),
            sample: 1,
            seen: AtomicU64::new(0),
        };
        for _ in 0..5 {
            log.log(None, None, None);
        }
        assert_eq!(log.dropped(), 3);
        assert_eq!(lines.try_iter().count(), 2);
    }
}
