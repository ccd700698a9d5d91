//! The stream of a node: made if it is not there, refused if it is another than the settings say, and asked how far it is.
//!
//! Each node has a stream of its own. Nobody else writes to it, so the sequence number that the next message will get is known,
//! and each message says it (`Nats-Expected-Last-Sequence`): the server takes a message only where the one before it was taken,
//! however many are under way.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, LastRawMessageErrorKind, RetentionPolicy, StorageType, Stream,
};

use super::link::chain;
use super::names::{Address, SPAN, Span};
use super::reader;
use crate::log::bookmark::Bookmark;
use crate::log::cursor::Position;

/// How often it is asked again when something comes in meanwhile that was still under way.
const LOOKS_MAX: usize = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How a stream is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPolicy {
    /// Servers that hold it.
    pub replicas: usize,
    /// How long it keeps messages; `None`: for good.
    pub keep_for: Option<Duration>,
    /// Bytes it keeps; `None`: any number.
    pub keep_bytes: Option<u64>,
    /// How long it knows messages by their id.
    pub duplicates: Duration,
}

/// Why a stream cannot be used.
#[derive(Debug)]
pub enum StreamError {
    /// It is there, and is another than the settings say: a sentence.
    Differs(String),
    /// It can be neither found nor made now.
    Unavailable(String),
}

impl std::fmt::Display for StreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StreamError::Differs(why) | StreamError::Unavailable(why) => f.write_str(why),
        }
    }
}

fn unavailable(what: &str, stream: &str, error: &dyn std::error::Error) -> StreamError {
    StreamError::Unavailable(format!("the stream {stream} cannot be {what}: {}", chain(error)))
}

impl StreamPolicy {
    fn config(&self, address: &Address) -> Config {
        Config {
            name: address.stream(),
            subjects: vec![address.subjects()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            num_replicas: self.replicas,
            max_age: self.keep_for.unwrap_or_default(),
            max_bytes: self.keep_bytes.map_or(-1, |bytes| bytes as i64),
            max_messages: -1,
            max_messages_per_subject: -1,
            duplicate_window: self.duplicates,
            description: Some(format!("The log of {}, by Floodgate", address.node)),
            ..Config::default()
        }
    }

    /// The stream of a node, made if it is not there.
    ///
    /// # Errors
    /// `StreamError`.
    pub async fn stream(&self, jetstream: &Context, address: &Address) -> Result<Stream, StreamError> {
        let name = address.stream();
        let wanted = self.config(address);
        let found = match jetstream.get_stream(&name).await {
            Ok(stream) => stream,
            Err(error) if is_not_found(&error.kind()) => {
                let made = jetstream.create_stream(wanted.clone()).await;
                made.map_err(|error| match self.replicas {
                    1 => unavailable("made", &name, &error),
                    replicas => StreamError::Unavailable(format!(
                        "the stream {name} cannot be made with {replicas} replicas (METRICS_SHIP_REPLICAS; a server alone takes 1): {}",
                        chain(&error)
                    )),
                })?
            }
            Err(error) => return Err(unavailable("found", &name, &error)),
        };
        let differences = differences(&found.cached_info().config, &wanted);
        match differences.is_empty() {
            true => Ok(found),
            false => Err(StreamError::Differs(format!(
                "the stream {name} is not as the settings say: {}; change the one or the other",
                differences.join(", ")
            ))),
        }
    }
}

fn is_not_found(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// What differs, each as a clause.
fn differences(is: &Config, wanted: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, setting: &str, is: String, wanted: String| {
        if is != wanted {
            let of = if setting.is_empty() {
                String::new()
            } else {
                format!(" ({setting})")
            };
            found.push(format!("{what} is {is} and not {wanted}{of}"));
        }
    };
    let debug = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let bound = |count: i64| {
        if count <= 0 {
            "none".to_owned()
        } else {
            count.to_string()
        }
    };
    let time = |time: Duration| {
        if time.is_zero() {
            "none".to_owned()
        } else {
            format!("{time:?}")
        }
    };
    compare(
        "its list of subjects",
        "METRICS_SHIP_STREAM, METRICS_NODE",
        is.subjects.join(" "),
        wanted.subjects.join(" "),
    );
    compare(
        "its retention",
        "",
        debug(&is.retention),
        debug(&wanted.retention),
    );
    compare("its storage", "", debug(&is.storage), debug(&wanted.storage));
    compare(
        "what it discards when full",
        "",
        debug(&is.discard),
        debug(&wanted.discard),
    );
    compare(
        "its number of replicas",
        "METRICS_SHIP_REPLICAS",
        is.num_replicas.to_string(),
        wanted.num_replicas.to_string(),
    );
    compare(
        "its age limit",
        "METRICS_SHIP_KEEP_FOR",
        time(is.max_age),
        time(wanted.max_age),
    );
    compare(
        "its limit in bytes",
        "METRICS_SHIP_KEEP_BYTES",
        bound(is.max_bytes),
        bound(wanted.max_bytes),
    );
    compare(
        "its limit in messages",
        "",
        bound(is.max_messages),
        bound(wanted.max_messages),
    );
    compare(
        "its limit in messages a subject",
        "",
        bound(is.max_messages_per_subject),
        bound(wanted.max_messages_per_subject),
    );
    compare(
        "its duplicate window",
        "METRICS_SHIP_DUPLICATES",
        time(is.duplicate_window),
        time(wanted.duplicate_window),
    );
    found
}

/// Where shipping goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The life that the log has.
    pub life: u64,
    /// Everything before is in the stream.
    pub next: Position,
    /// The number of the stream's last message.
    pub sequence: u64,
}

/// The stream, its last message of this node, and what it said of itself before that. `acknowledged` is a number that it has
/// acknowledged: whoever knows of less is one that led until it was stopped, or the stream has lost messages.
async fn last_of(
    stream: &Stream,
    address: &Address,
    acknowledged: u64,
) -> Result<(Info, Option<StreamMessage>), StreamError> {
    let name = address.stream();
    for look in 1..=LOOKS_MAX {
        // In this order: what is behind the number that is told here will not be taken where we go on.
        let info = stream
            .get_info()
            .await
            .map_err(|error| unavailable("asked", &name, &error))?;
        let last = match stream.get_last_raw_message_by_subject(&address.subjects()).await {
            Ok(message) => Some(message),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => None,
            Err(error) => return Err(unavailable("asked for its last message", &name, &error)),
        };
        let has = info.state.last_sequence;
        tracing::debug!(stream = name, has, acknowledged, last = ?last.as_ref().map(|last| last.sequence), "asked");
        let is_settled = last.as_ref().is_none_or(|last| last.sequence <= has);
        if is_settled && has >= acknowledged {
            return Ok((info, last));
        }
        if is_settled && look == LOOKS_MAX {
            tracing::error!(
                stream = name,
                has,
                acknowledged,
                "the stream has lost messages that it had acknowledged; they are sent again, as far as the log has them"
            );
            return Ok((info, last));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Err(StreamError::Unavailable(format!(
        "somebody else writes to the stream {name}"
    )))
}

/// Finds out where to go on: behind the last message in the stream that this log has, too.
///
/// After a power cut the stream may have more than the log, whose end was not on the disk yet; what came after has got the
/// same places. Then shipping goes on where the two part, in a new life.
///
/// What is known of the stream already: the bookmark, and the highest number that it has acknowledged to this process.
///
/// # Errors
/// [`StreamError`]; a log that cannot be read is told so too.
pub async fn stand(
    stream: &Stream,
    address: &Address,
    log: &Path,
    (bookmark, acknowledged): (Option<&Bookmark>, u64),
    now: u64,
) -> Result<Stand, StreamError> {
    let (info, last) = last_of(stream, address, acknowledged).await?;
    let sequence = info.state.last_sequence;
    let bookmark = bookmark.filter(|bookmark| bookmark.stream == address.stream());
    let Some(last) = last else {
        let (life, next) = bookmark.map_or((now, Position::FIRST), |mark| (mark.life, mark.next));
        return Ok(Stand { life, next, sequence });
    };
    let last_span = span_of(&last).ok_or_else(|| {
        StreamError::Differs(format!(
            "the stream {} has messages that are not from Floodgate (number {})",
            address.stream(),
            last.sequence
        ))
    })?;
    if let Some(mark) = bookmark.filter(|mark| mark.life > last_span.life) {
        // A life that was begun, and of which nothing has been taken yet.
        return Ok(Stand {
            life: mark.life,
            next: mark.next,
            sequence,
        });
    }
    if is_ours(log, &last)? {
        if let Some(mark) = bookmark.filter(|mark| mark.life == last_span.life && mark.next > last_span.next)
        {
            tracing::error!(
                stream = address.stream(), shipped = %mark.next, has = %last_span.next,
                "the stream does not have what it had taken; that is sent again, as far as the log has it"
            );
        }
        return Ok(Stand {
            life: last_span.life,
            next: last_span.next,
            sequence,
        });
    }
    let common = last_common(stream, log, info.state.first_sequence, &last).await?;
    let next = common.map_or(Position::FIRST, |span| span.next);
    let life = now.max(last_span.life + 1);
    tracing::error!(
        stream = address.stream(), has = %last_span.next, from = %next,
        "the stream has events that this log does not have (a lost disk, or a power cut); a new life of the log is shipped"
    );
    Ok(Stand { life, next, sequence })
}

/// The last message of the stream that the log has as well. Of one life the log has what it had for a while and then no more,
/// so that is found by halving; where it has nothing of the last life, the one before is looked at.
async fn last_common(
    stream: &Stream,
    log: &Path,
    first: u64,
    last: &StreamMessage,
) -> Result<Option<Span>, StreamError> {
    let mut end = last.sequence;
    let mut life = span_of(last).map(|span| span.life);
    while let Some(of) = life {
        let begin = halve(stream, first.max(1), end, |message| {
            Ok(span_of(message).is_none_or(|span| span.life < of))
        });
        let (begin, before) = begin.await?;
        let (_, common) = halve(stream, begin, end, |message| is_ours(log, message)).await?;
        if common.is_some() {
            return Ok(common);
        }
        (end, life) = (begin, before.map(|span| span.life));
    }
    Ok(None)
}

/// The number of the first message from `first` on, and before `end`, of which `is_before` is not true (`end` if it is true of
/// all), and the last one of which it is. One that is not there any more is taken for one of which it is not.
async fn halve(
    stream: &Stream,
    mut first: u64,
    mut end: u64,
    is_before: impl Fn(&StreamMessage) -> Result<bool, StreamError>,
) -> Result<(u64, Option<Span>), StreamError> {
    let mut last = None;
    while first < end {
        let middle = first + (end - first) / 2;
        let message = match stream.get_raw_message(middle).await {
            Ok(message) => Some(message),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => None,
            Err(error) => return Err(unavailable("read", "of the node", &error)),
        };
        match message {
            Some(message) if is_before(&message)? => {
                last = span_of(&message);
                first = middle + 1;
            }
            _ => end = middle,
        }
    }
    Ok((first, last))
}

fn span_of(message: &StreamMessage) -> Option<Span> {
    message.headers.get(SPAN)?.as_str().parse().ok()
}

fn is_ours(log: &Path, message: &StreamMessage) -> Result<bool, StreamError> {
    let Some(span) = span_of(message) else {
        return Ok(false);
    };
    reader::has(log, &span, &message.payload)
        .map_err(|error| StreamError::Unavailable(format!("the log cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_is_what_should_be_and_the_setting() {
        let policy = StreamPolicy {
            replicas: 3,
            keep_for: Some(Duration::from_secs(3600)),
            keep_bytes: None,
            duplicates: Duration::from_secs(120),
        };
        let address = Address {
            fleet: "metrics".into(),
            node: "a".into(),
        };
        let wanted = policy.config(&address);
        assert_eq!(differences(&wanted, &wanted), [""; 0]);
        let is = Config {
            num_replicas: 1,
            max_age: Duration::ZERO,
            max_bytes: 1024,
            ..wanted.clone()
        };
        assert_eq!(
            differences(&is, &wanted),
            [
                "its number of replicas is 1 and not 3 (METRICS_SHIP_REPLICAS)",
                "its age limit is none and not 3600s (METRICS_SHIP_KEEP_FOR)",
                "its limit in bytes is 1024 and not none (METRICS_SHIP_KEEP_BYTES)",
            ]
        );
    }
}
