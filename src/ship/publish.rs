//! One connection's work: find out what the stream has, then send what comes after it, many messages at a time.
//!
//! # Why nothing is twice, missing or out of order
//!
//! Message `n` of the stream is sent with the word that the last one there must be `n - 1`. So of what is under way the server
//! takes a first part, in order, and nothing behind the first message that it does not take, whether that one was lost,
//! came to a server that has just ceased to lead, or was sent by somebody else. What was sent on a connection that is given
//! up, and comes in later, names a number that is over, or is exactly the next one: then the stream has moved on by itself,
//! which the next message of ours finds out by being refused. After each failure the stream is asked again.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::ShipPolicy;
use super::link::{ANSWER_TIMEOUT, Link, chain};
use super::names::{Address, SPAN};
use super::reader::{Found, Message, Reader};
use super::status::ShipStatus;
use super::stream::{Stand, StreamError, stand};
use crate::log::bookmark::{self, Bookmark};
use crate::log::cursor::{Notice, Position};
use crate::log::fs::OsFs;
use crate::log::segment::Family;

/// Bytes of messages that are under way at the most, beside the bound on their number; one message always may be.
const INFLIGHT_BYTES: usize = 8 << 20;
/// Pause before another look at the end of the log.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Messages read before the connection gets its turn.
const READ_AT_ONCE: usize = 32;
/// Time between two bookmarks: each is two syncs. The stream says how far it is, so that one may be old.
const BOOKMARK_EVERY: Duration = Duration::from_millis(500);
/// Room for headers and subject in a message.
const HEAD_BYTES: usize = 1 << 10;

/// Why a connection's work has ended.
#[derive(Debug)]
pub enum End {
    /// It was told to; all that was under way is settled, or was given up.
    Stopped,
    /// Something that may pass by itself.
    Failed(String),
    /// Something that somebody has to set right.
    Wrong(String),
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> End {
        match error {
            StreamError::Differs(why) => End::Wrong(why),
            StreamError::Unavailable(why) => End::Failed(why),
        }
    }
}

type Ack = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

/// A message that the stream has not acknowledged yet.
struct UnderWay {
    ack: Ack,
    sequence: u64,
    next: Position,
    events: u64,
    bytes: usize,
}

/// What one connection does.
pub struct Session<'s> {
    pub log: &'s Path,
    pub address: &'s Address,
    pub policy: &'s ShipPolicy,
    pub status: &'s ShipStatus,
    pub stop: watch::Receiver<bool>,
}

struct Pipe<'s> {
    session: &'s Session<'s>,
    link: Link,
    family: Family,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    life: u64,
    /// The number of the last message sent.
    sequence: u64,
    /// Everything before is in the stream.
    next: Position,
    marked: (Position, Instant),
    /// Where the log ended when it was last read to its end, and when that was, until all before is in the stream.
    end: Option<(Position, Instant)>,
}

impl Session<'_> {
    /// Works until that is over.
    pub async fn run(&self) -> End {
        let Err(end) = self.work().await;
        end
    }

    async fn work(&self) -> Result<std::convert::Infallible, End> {
        let family = Family::of(self.log);
        let mark = Bookmark::read(&OsFs, &family)
            .map_err(|error| End::Wrong(format!("{}: {error}", bookmark::path(&family).display())))?;
        let inflight_max = self.policy.inflight_max;
        let name = format!("floodgate ship {}", self.address.node);
        let link = Link::open(&self.policy.access, &name, inflight_max);
        let link = self.unless_stopped(link).await?.map_err(End::Failed)?;
        let stand = self.unless_stopped(async {
            let stream = self.policy.stream.stream(&link.jetstream, self.address).await?;
            stand(&stream, self.address, self.log, mark.as_ref(), now_micros()).await
        });
        let Stand { life, next, sequence } = stand.await??;
        let reader = Reader::open(
            self.log,
            self.address.clone(),
            (life, next),
            self.policy.is_packed,
        )
        .map_err(|error| End::Failed(format!("the log cannot be read: {error}")))?;
        let mut pipe = Pipe {
            session: self,
            link,
            family,
            under_way: VecDeque::new(),
            bytes: 0,
            life,
            sequence,
            next,
            marked: (next, Instant::now()),
            end: None,
        };
        // At once: a new life must not be forgotten when something of it is in the stream.
        pipe.bookmark()?;
        self.status.begun(next);
        tracing::info!(stream = self.address.stream(), from = %next, life, "shipping the log");
        pipe.pump(reader).await
    }

    async fn unless_stopped<T>(&self, what: impl Future<Output = T>) -> Result<T, End> {
        let mut stop = self.stop.clone();
        tokio::select! {
            result = what => Ok(result),
            _ = stop.wait_for(|stop| *stop) => Err(End::Stopped),
        }
    }
}

impl Pipe<'_> {
    async fn pump(&mut self, mut reader: Reader) -> Result<std::convert::Infallible, End> {
        let mut stop = self.session.stop.clone();
        let mut held = None;
        loop {
            let is_at_end = self.fill(&mut reader, &mut held).await?;
            if self.marked.0 != self.next && self.marked.1.elapsed() >= BOOKMARK_EVERY {
                self.bookmark()?;
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Err(self.stop().await),
                () = self.link.lost() => return Err(End::Failed("the connection to NATS is lost".into())),
                settled = first(&mut self.under_way), if !self.under_way.is_empty() => self.settle(settled)?,
                () = sleep(LOOK_EVERY), if is_at_end => {}
                () = tokio::task::yield_now(), if !is_at_end && held.is_none() => {}
            }
            // What else has come is settled without a turn for each.
            while let Some(settled) = ready(&mut self.under_way) {
                self.settle(settled)?;
            }
        }
    }

    /// Sends what may be under way; whether that was all there is now. `held` is a message that has no room yet.
    async fn fill(&mut self, reader: &mut Reader, held: &mut Option<Message>) -> Result<bool, End> {
        for _ in 0..READ_AT_ONCE {
            let message = match held.take() {
                Some(message) => message,
                None => match reader.next() {
                    Ok(Found::Message(message)) => message,
                    Ok(Found::Missing(notice)) => {
                        self.miss(notice);
                        continue;
                    }
                    Ok(Found::End) => {
                        let end = self.under_way.back().map_or(self.next, |last| last.next);
                        self.end.get_or_insert((end, Instant::now()));
                        self.look_whether_caught_up();
                        return Ok(true);
                    }
                    Err(error) => return Err(End::Failed(format!("the log cannot be read: {error}"))),
                },
            };
            let has_room = self.under_way.len() < self.session.policy.inflight_max
                && (self.bytes + message.payload.len() <= INFLIGHT_BYTES || self.under_way.is_empty());
            if !has_room {
                *held = Some(message);
                return Ok(false);
            }
            self.send(message).await?;
        }
        Ok(false)
    }

    fn miss(&self, notice: Notice) {
        tracing::error!(%notice, "lines of the log cannot be shipped");
        if let Notice::Gap { first, last } = notice {
            self.session.status.missing(last - first + 1);
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        let (next, events, bytes) = (message.span.next, message.events, message.payload.len());
        let bytes_max = self.link.client.max_payload();
        if bytes + HEAD_BYTES > bytes_max {
            return Err(End::Wrong(format!(
                "a message of {bytes} bytes ({}) is more than the NATS server takes (max_payload is {bytes_max})",
                message.span.from
            )));
        }
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, self.session.address.message_id(&message.span));
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, self.sequence.to_string());
        headers.insert(SPAN, message.span.to_string());
        let publish = PublishMessage::build()
            .payload(message.payload.into())
            .headers(headers);
        let sent = self.link.jetstream.send_publish(message.subject, publish).await;
        let ack =
            sent.map_err(|error| End::Failed(format!("a message cannot be sent: {}", chain(&error))))?;
        self.sequence += 1;
        self.bytes += bytes;
        self.under_way.push_back(UnderWay {
            ack: ack.into_future(),
            sequence: self.sequence,
            next,
            events,
            bytes,
        });
        Ok(())
    }

    /// The first message that is under way is so no more.
    fn settle(&mut self, result: Result<PublishAck, PublishError>) -> Result<(), End> {
        let first = self.under_way.pop_front().expect("it was awaited");
        let ack =
            result.map_err(|error| End::Failed(format!("a message was not taken: {}", chain(&error))))?;
        if ack.sequence != first.sequence {
            return Err(End::Failed(format!(
                "message {} was expected to be number {}: somebody else writes to the stream",
                ack.sequence, first.sequence
            )));
        }
        self.bytes -= first.bytes;
        self.next = first.next;
        self.session
            .status
            .acknowledged(first.events, first.bytes as u64, first.next);
        self.look_whether_caught_up();
        Ok(())
    }

    fn look_whether_caught_up(&mut self) {
        if let Some((_, when)) = self.end.take_if(|(end, _)| *end <= self.next) {
            self.session.status.caught_up(when);
        }
    }

    fn bookmark(&mut self) -> Result<(), End> {
        let mark = Bookmark {
            stream: self.session.address.stream(),
            life: self.life,
            next: self.next,
        };
        self.marked = (self.next, Instant::now());
        mark.write(&OsFs, &self.family)
            .map_err(|error| End::Failed(format!("{}: {error}", bookmark::path(&self.family).display())))
    }

    /// Lets what is under way come to its end.
    async fn stop(&mut self) -> End {
        let rest = async {
            while !self.under_way.is_empty() {
                let settled = first(&mut self.under_way).await;
                if self.settle(settled).is_err() {
                    break;
                }
            }
        };
        timeout(ANSWER_TIMEOUT, rest).await.ok();
        match self.bookmark() {
            Ok(()) => End::Stopped,
            Err(error) => error,
        }
    }
}

/// Waits for the answer to the first message that is under way.
async fn first(under_way: &mut VecDeque<UnderWay>) -> Result<PublishAck, PublishError> {
    let first = under_way.front_mut().expect("something is under way");
    first.ack.as_mut().await
}

/// The answer to the first message that is under way, if it is there.
fn ready(under_way: &mut VecDeque<UnderWay>) -> Option<Result<PublishAck, PublishError>> {
    let first = under_way.front_mut()?;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match first.ack.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => Some(result),
        std::task::Poll::Pending => None,
    }
}

fn now_micros() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
