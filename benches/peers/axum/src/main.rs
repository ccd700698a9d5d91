//! The service as one would write it first in Rust: axum, serde_json, a `BufWriter` behind a lock.
//!
//! `peer-axum PORT FILE` validates each event, answers 202 and appends a line to FILE. What a 202 means here: the line is in this
//! process's memory (8 KiB of it at the most, flushed ten times a second), so a kill loses acknowledged events, which
//! Floodgate does not. One thread, as Floodgate has one worker in the comparison.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events in the recent window.
const RECENT: usize = 500;

#[derive(Deserialize)]
struct Event {
    visitor_id: String,
    event: String,
    timestamp: Option<DateTime<Utc>>,
    metadata: Option<Box<RawValue>>,
    user_agent: Option<String>,
}

#[derive(Serialize)]
struct Line<'e> {
    visitor_id: &'e str,
    event: &'e str,
    timestamp: DateTime<Utc>,
    metadata: Option<&'e RawValue>,
    user_agent: Option<&'e str>,
}

struct Log {
    file: BufWriter<File>,
    recent: VecDeque<Vec<u8>>,
}

type Shared = Arc<Mutex<Log>>;

/// The event's line, if it is one.
fn line_of(body: &[u8], agent: Option<&str>) -> Result<Vec<u8>, String> {
    let event: Event = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let (visitor_id, name) = (event.visitor_id.trim(), event.event.trim());
    if !(6..=64).contains(&visitor_id.chars().count()) || !(1..=64).contains(&name.chars().count()) {
        return Err("a text is too short or too long".into());
    }
    let line = Line {
        visitor_id,
        event: name,
        timestamp: event.timestamp.unwrap_or_else(Utc::now),
        metadata: event.metadata.as_deref(),
        user_agent: event.user_agent.as_deref().or(agent),
    };
    let mut line = serde_json::to_vec(&line).map_err(|error| error.to_string())?;
    line.push(b'\n');
    Ok(line)
}

fn store(shared: &Shared, lines: Vec<Vec<u8>>) -> Response {
    let stored = lines.len();
    let mut log = shared.lock().expect("nobody panics with the log");
    for line in lines {
        if log.file.write_all(&line).is_err() {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if log.recent.len() == RECENT {
            log.recent.pop_front();
        }
        log.recent.push_back(line);
    }
    let answer = serde_json::json!({"ok": true, "stored": stored, "file": "./data/metrics.jsonl"});
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}

fn refused(error: String) -> Response {
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        Json(serde_json::json!({"detail": error})),
    )
        .into_response()
}

fn agent(headers: &HeaderMap) -> Option<&str> {
    headers.get("user-agent").and_then(|value| value.to_str().ok())
}

async fn single(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    match line_of(&body, agent(&headers)) {
        Ok(line) => store(&shared, vec![line]),
        Err(error) => refused(error),
    }
}

async fn batch(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    match lines.map(|line| line_of(line, agent(&headers))).collect() {
        Ok(lines) => store(&shared, lines),
        Err(error) => refused(error),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, path] = &arguments[..] else {
        return Err(std::io::Error::other("usage: peer-axum PORT FILE"));
    };
    let file = File::options().append(true).create(true).open(path)?;
    let shared: Shared = Arc::new(Mutex::new(Log {
        file: BufWriter::new(file),
        recent: VecDeque::new(),
    }));
    let flushed = Arc::clone(&shared);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            flushed
                .lock()
                .expect("nobody panics with the log")
                .file
                .flush()
                .ok();
        }
    });
    let app = Router::new()
        .route("/api/metrics/event", post(single))
        .route("/api/metrics/events/batch", post(batch))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(shared);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    // Without it pipelined answers wait for the peer's delayed acknowledgements: 23,000 a second, whatever the server could do.
    let listener = listener.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    });
    axum::serve(listener, app).await
}
