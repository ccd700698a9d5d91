//! What one producer does: reads lines, has them sent, and moves the bookmark behind what was delivered.
//!
//! Records are delivered in the order of their partition, so not in that of the log: the bookmark goes as far as everything
//! before is delivered.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::{INFLIGHT_BYTES, INFLIGHT_MAX, KafkaShipper};
use crate::event::StoredEvent;
use crate::log::bookmark::{self, Bookmark};
use crate::log::cursor::{Cursor, CursorError, Position, Start, Step};
use crate::log::fs::OsFs;
use crate::log::segment::Family;

/// Headers of a record: whose log, and where in it.
const NODE: &str = "floodgate-node";
const POSITION: &str = "floodgate-position";
/// Lines read before deliveries are looked at.
const READ_AT_ONCE: usize = 500;
/// How long deliveries are waited for where there is nothing else to do.
const PAUSE: Duration = Duration::from_millis(10);
/// Time between two bookmarks: each is two syncs.
const BOOKMARK_EVERY: Duration = Duration::from_millis(500);
/// How long what is under way may take at the end.
const SETTLE: Duration = Duration::from_secs(10);

/// Why a session has ended.
#[derive(Debug)]
pub enum End {
    /// Something that a new producer may mend.
    Failed(String),
    /// Something that somebody has to set right.
    Wrong(String),
}

/// What librdkafka tells: deliveries, from within `poll`, and its own troubles, from its threads.
struct Receipts {
    settled: Mutex<Vec<(usize, Option<ClientError>)>>,
    /// Whether it was told that no broker can be reached; swapped.
    is_down: AtomicBool,
}

impl ClientContext for Receipts {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::debug!(facility, "{message}");
            }
            // Those of importance come as errors, too, and once.
            _ => tracing::debug!(facility, ?level, "{message}"),
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            if !self.is_down.swap(true, Ordering::Relaxed) {
                tracing::warn!(reason, "no broker can be reached; trying again until one can");
            }
        } else {
            tracing::debug!(%error, reason, "of the connection to Kafka");
        }
    }
}

impl ProducerContext for Receipts {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if result.is_ok()
            && self.is_down.load(Ordering::Relaxed)
            && self.is_down.swap(false, Ordering::Relaxed)
        {
            tracing::info!("Kafka takes records again");
        }
        let error = result.as_ref().err().map(|(error, _)| error.clone());
        self.settled
            .lock()
            .expect("no holder of this lock panics")
            .push((number, error));
    }
}

/// A record that is on its way.
struct UnderWay {
    next: Position,
    bytes: usize,
    is_delivered: bool,
}

/// A producer, and how far it is.
pub struct Session<'s> {
    shipper: &'s KafkaShipper,
    producer: BaseProducer<Receipts>,
    family: Family,
    life: u64,
    cursor: Cursor,
    under_way: VecDeque<UnderWay>,
    /// The number of the first of them.
    first: usize,
    bytes: usize,
    /// Everything before is delivered.
    next: Position,
    marked: (Position, Instant),
}

impl<'s> Session<'s> {
    /// Goes on from the bookmark.
    ///
    /// # Errors
    /// [`End`].
    pub fn begin(shipper: &'s KafkaShipper) -> Result<Session<'s>, End> {
        let family = Family::of(&shipper.log);
        let (life, next) = stand(shipper, &family)?;
        let start = match next == Position::FIRST {
            // What was removed before was never to be shipped.
            true => Start::Beginning,
            false => Start::At(next),
        };
        let cursor = Cursor::open(&shipper.log, start).map_err(unreadable)?;
        let receipts = Receipts {
            settled: Mutex::default(),
            is_down: AtomicBool::new(false),
        };
        let config = shipper.properties.config(&shipper.url);
        let producer = config
            .create_with_context(receipts)
            .map_err(|error| End::Wrong(format!("Kafka's client cannot be set up: {error}")))?;
        tracing::info!(topic = shipper.url.topic(), from = %next, "shipping the log to Kafka");
        Ok(Session {
            shipper,
            producer,
            family,
            life,
            cursor,
            under_way: VecDeque::new(),
            first: 0,
            bytes: 0,
            next,
            marked: (next, Instant::now()),
        })
    }

    /// Ships until it is told to stop.
    ///
    /// # Errors
    /// [`End`].
    pub fn work(mut self) -> Result<(), End> {
        // At once: what is held for it must be known before the first half second is over.
        self.bookmark()?;
        loop {
            let is_at_end = self.fill()?;
            self.settle(if is_at_end { PAUSE } else { Duration::ZERO })?;
            if self.marked.0 != self.next && self.marked.1.elapsed() >= BOOKMARK_EVERY {
                self.bookmark()?;
            }
            if self.shipper.is_stopped() {
                return self.end();
            }
        }
    }

    /// Sends what may be under way; whether there is nothing to do but wait.
    fn fill(&mut self) -> Result<bool, End> {
        for _ in 0..READ_AT_ONCE {
            if self.under_way.len() >= INFLIGHT_MAX || self.bytes >= INFLIGHT_BYTES {
                return Ok(true);
            }
            let line = match self.cursor.step().map_err(unreadable)? {
                Step::Line(line) => line,
                Step::Notice(notice) => {
                    tracing::error!(%notice, "lines of the log cannot be shipped");
                    continue;
                }
                Step::End => return Ok(true),
            };
            // What a power cut has torn is no event.
            let Some(event) = StoredEvent::of_line(line.bytes) else {
                continue;
            };
            let position = line.at.to_string();
            let headers = OwnedHeaders::new_with_capacity(2)
                .insert(header(NODE, &self.shipper.node))
                .insert(header(POSITION, &position));
            let number = self.first + self.under_way.len();
            let mut record: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(self.shipper.url.topic(), number)
                    .payload(line.bytes)
                    .headers(headers);
            if let Some(visitor) = &event.visitor_id {
                record = record.key(visitor);
            }
            self.under_way.push_back(UnderWay {
                next: line.next,
                bytes: line.bytes.len(),
                is_delivered: false,
            });
            self.bytes += line.bytes.len();
            // The client's queue is longer than ours, so it is never full.
            if let Err((error, _)) = self.producer.send(record) {
                return Err(undelivered(&error, &position));
            }
        }
        Ok(false)
    }

    /// Takes deliveries; waits up to `pause` for one.
    fn settle(&mut self, pause: Duration) -> Result<(), End> {
        self.producer.poll(pause);
        let settled = {
            let receipts = self.producer.context();
            std::mem::take(&mut *receipts.settled.lock().expect("no holder of this lock panics"))
        };
        for (number, error) in settled {
            let under_way = &mut self.under_way[number - self.first];
            if let Some(error) = error {
                return Err(undelivered(&error, &format!("before {}", under_way.next)));
            }
            under_way.is_delivered = true;
            self.bytes -= under_way.bytes;
            self.shipper.delivered.fetch_add(1, Ordering::Relaxed);
            while self.under_way.front().is_some_and(|first| first.is_delivered) {
                self.next = self.under_way.pop_front().map_or(self.next, |first| first.next);
                self.first += 1;
            }
        }
        if let Some((code, why)) = self.producer.client().fatal_error() {
            return Err(End::Failed(format!("the producer has given up: {why} ({code})")));
        }
        Ok(())
    }

    fn bookmark(&mut self) -> Result<(), End> {
        let mark = Bookmark {
            stream: self.shipper.url.stream(),
            life: self.life,
            next: self.next,
        };
        self.marked = (self.next, Instant::now());
        let place = bookmark::path(&self.family);
        mark.write(&OsFs, &self.family)
            .map_err(|error| End::Failed(format!("{}: {error}", place.display())))
    }

    /// Lets what is under way come to its end.
    fn end(mut self) -> Result<(), End> {
        let deadline = Instant::now() + SETTLE;
        while !self.under_way.is_empty() && Instant::now() < deadline {
            self.settle(PAUSE)?;
        }
        self.bookmark()
    }
}

/// Which log of its node it is, and from where on it is to be shipped.
fn stand(shipper: &KafkaShipper, family: &Family) -> Result<(u64, Position), End> {
    let place = bookmark::path(family);
    let mark =
        Bookmark::read(&OsFs, family).map_err(|error| End::Wrong(format!("{}: {error}", place.display())))?;
    let Some(mark) = mark else {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        return Ok((since.as_micros() as u64, Position::FIRST));
    };
    let stream = shipper.url.stream();
    if mark.stream != stream {
        return Err(End::Wrong(format!(
            "this log is shipped to {} and not to {stream}; remove {} to ship it there from its beginning",
            mark.stream,
            place.display()
        )));
    }
    Ok((mark.life, mark.next))
}

fn header<'h>(key: &'h str, value: &'h str) -> Header<'h, &'h str> {
    Header {
        key,
        value: Some(value),
    }
}

fn unreadable(error: CursorError) -> End {
    match error {
        CursorError::Io { .. } => End::Failed(format!("the log cannot be read: {error}")),
        _ => End::Wrong(format!("the log cannot be read: {error}")),
    }
}

/// A record that was not taken: nothing but time is tried again by the client itself, so what comes here is final.
fn undelivered(error: &ClientError, place: &str) -> End {
    let text = format!("the line at {place} was not delivered: {error}");
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::InvalidRecord,
        ) => End::Wrong(text),
        _ => End::Failed(text),
    }
}
