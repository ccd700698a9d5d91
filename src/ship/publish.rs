//! One connection's work: find out what the stream has, then send what comes after it, many messages at a time.
//!
//! # Why nothing is twice, missing or out of order
//!
//! Message `n` of the stream is sent with the word that the last one there must be `n - 1`. So of what is under way the server
//! takes a first part, in order, and nothing behind the first message that it does not take, whether that one was lost,
//! came to a server that has just ceased to lead, or was sent by somebody else. After each failure the stream is asked again.
//!
//! What was sent on a connection that was given up, or by a process that was killed, may come in much later: a server that was
//! stopped, or was slow, has it in its buffers. Mostly it names a number that is over. But a number does not say *which* message
//! lies there, and a frame that was cut at the log's end ([`Message::is_open`]) is a longer one when it is read again. So:
//!
//! - That a message is known by its id (`duplicate`) is no acknowledgement of ours: the stream has one that begins there, and it
//!   may be shorter. The stream is asked again.
//! - Behind an open frame nothing is sent until that one is taken: what comes in late never counts on a predecessor that has
//!   another end by then.
//! - The first [`FRAMES_MAX`] frames behind what the stream has go one by one: any of their numbers may have been given to an open
//!   frame before, by a connection that we know nothing of; further ones cannot, as no more are ever under way.
//!
//! With that, a message that is sent while others are under way follows, over frames that are not open, from one that is known to be
//! taken: it is the same on whatever connection it is sent, and so are those before it. Messages of one line are never open,
//! and none of them waits.
//!
//! A header that would pin the predecessor by its id (`Nats-Expected-Last-Msg-Id`) is not used: a server that was restarted has
//! forgotten the id of the last message where that is older than the duplicate window (up to nats-server's pull request 8564 of
//! September 2026), and each replica judges by its own memory: one may refuse what the others take.

use std::cell::Cell;
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
use super::reader::{FRAME_BYTES, Found, Message, Reader};
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
/// Frames under way at the most, however small they are: as many as have room by their bytes when they are full. A constant of the
/// protocol, since a process relies on what the one before it did: it may grow, not shrink.
const FRAMES_MAX: usize = INFLIGHT_BYTES / FRAME_BYTES;
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
    is_open: bool,
}

/// What there is to do when nothing more can be sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// There is more to read.
    GoOn,
    /// The log has ended: look again soon.
    Look,
    /// Something that is under way has to be settled first.
    Settle,
}

/// What one connection does.
pub struct Session<'s> {
    pub log: &'s Path,
    pub address: &'s Address,
    pub policy: &'s ShipPolicy,
    pub status: &'s ShipStatus,
    /// The highest number that the stream has acknowledged to this process.
    pub acknowledged: &'s Cell<u64>,
    pub stop: watch::Receiver<bool>,
}

struct Pipe<'s> {
    session: &'s Session<'s>,
    link: Link,
    family: Family,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    life: u64,
    /// Up to this number frames go one by one.
    careful_until: u64,
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
            let seen = (mark.as_ref(), self.acknowledged.get());
            stand(&stream, self.address, self.log, seen, now_micros()).await
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
            careful_until: sequence + FRAMES_MAX as u64,
            sequence,
            next,
            marked: (next, Instant::now()),
            end: None,
        };
        // At once: a new life must not be forgotten when something of it is in the stream.
        pipe.bookmark()?;
        self.status.begun(next);
        tracing::info!(stream = self.address.stream(), from = %next, life, behind = sequence, "shipping the log");
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
            let then = self.fill(&mut reader, &mut held).await?;
            if self.marked.0 != self.next && self.marked.1.elapsed() >= BOOKMARK_EVERY {
                self.bookmark()?;
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Err(self.stop().await),
                () = self.link.lost() => return Err(End::Failed("the connection to NATS is lost".into())),
                settled = first(&mut self.under_way), if !self.under_way.is_empty() => self.settle(settled)?,
                () = sleep(LOOK_EVERY), if then == Then::Look => {}
                () = tokio::task::yield_now(), if then == Then::GoOn => {}
            }
            // What else has come is settled without a turn for each.
            while let Some(settled) = ready(&mut self.under_way) {
                self.settle(settled)?;
            }
        }
    }

    /// Sends what may be under way. `held` is a message that has no room yet.
    async fn fill(&mut self, reader: &mut Reader, held: &mut Option<Message>) -> Result<Then, End> {
        for _ in 0..READ_AT_ONCE {
            // Before anything is read: what waits here may be part of a longer frame afterwards.
            if self.must_settle() {
                return Ok(Then::Settle);
            }
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
                        return Ok(Then::Look);
                    }
                    Err(error) => return Err(End::Failed(format!("the log cannot be read: {error}"))),
                },
            };
            if !self.has_room_for(&message) {
                *held = Some(message);
                return Ok(Then::Settle);
            }
            if message.is_open {
                self.end.get_or_insert((message.span.next, Instant::now()));
            }
            self.send(message).await?;
        }
        Ok(Then::GoOn)
    }

    /// Whether all that is under way has to be taken before more is sent.
    fn must_settle(&self) -> bool {
        let is_packed = self.session.policy.is_packed;
        self.under_way
            .back()
            .is_some_and(|last| last.is_open || (is_packed && last.sequence <= self.careful_until))
    }

    fn has_room_for(&self, message: &Message) -> bool {
        let count_max = match self.session.policy.is_packed {
            true => self.session.policy.inflight_max.min(FRAMES_MAX),
            false => self.session.policy.inflight_max,
        };
        let has_bytes = self.bytes + message.payload.len() <= INFLIGHT_BYTES;
        self.under_way.is_empty() || (self.under_way.len() < count_max && has_bytes)
    }

    fn miss(&self, notice: Notice) {
        tracing::error!(%notice, "lines of the log cannot be shipped");
        if let Notice::Gap { first, last } = notice {
            self.session.status.missing(last - first + 1);
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        let (next, events, bytes) = (message.span.next, message.events, message.payload.len());
        let is_open = message.is_open;
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
        tracing::debug!(number = self.sequence, span = %message.span, is_open, "sent");
        self.under_way.push_back(UnderWay {
            ack: ack.into_future(),
            sequence: self.sequence,
            next,
            events,
            bytes,
            is_open,
        });
        Ok(())
    }

    /// The first message that is under way is so no more.
    fn settle(&mut self, result: Result<PublishAck, PublishError>) -> Result<(), End> {
        let first = self.under_way.pop_front().expect("it was awaited");
        let number = first.sequence;
        let ack = result
            .map_err(|error| End::Failed(format!("message {number} was not taken: {}", chain(&error))))?;
        tracing::debug!(number, is = ack.sequence, duplicate = ack.duplicate, next = %first.next, "acknowledged");
        if ack.duplicate {
            return Err(End::Failed(format!(
                "the stream has a message that begins where number {number} does: it was still under way"
            )));
        }
        if ack.sequence != number {
            return Err(End::Failed(format!(
                "message {} was expected to be number {number}: somebody else writes to the stream",
                ack.sequence
            )));
        }
        self.session.acknowledged.set(number);
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
