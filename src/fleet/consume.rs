//! One connection's work: which streams there are, a consumer on each, and their messages, taken in turn.
//!
//! A task for each node pulls its messages and hands them over through a short queue; the session takes what is there, commits it
//! at once for all nodes, and acknowledges of each node the last message, which stands for those before it.
//!
//! A consumer is a hint of what is new, and no more: after servers were killed some have been seen to leave out messages, at
//! the beginning, in the middle or at the end. What must come next is known from what was taken, so the stream itself is asked where
//! a message is not that, where it is a node's first, and where a consumer has been quiet before the stream's last message.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{AckKind, Message};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::FleetPolicy;
use super::state::Mark;
use super::status::FleetStatus;
use super::take::{Fate, Taker};
use crate::ship::link::{ANSWER_TIMEOUT, Link, chain};
use crate::ship::names::{Address, SPAN, Span, name};

/// How often it is looked whether there are streams of other nodes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Nodes whose streams are read at the most.
const NODES_MAX: usize = 1_000;
/// Messages of a node that are on their way: of packed ones 16 MiB.
const AHEAD: usize = 64;
/// Messages that wait to be taken, over all nodes.
const QUEUE: usize = 64;
/// A consumer that has given nothing out for so long is quiet.
const QUIET_AFTER: Duration = Duration::from_secs(5);
/// Messages that are asked for one by one before the next one from the consumer gets its turn.
const FILL_MAX: u64 = 10_000;
/// After which time a message that was not acknowledged comes again.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// Why a connection's work has ended.
pub enum End {
    /// It was told to.
    Stopped,
    /// Something that may pass by itself.
    Failed(String),
}

/// What one connection does.
pub struct Session<'s> {
    pub policy: &'s FleetPolicy,
    /// What our consumers are called.
    pub consumer: String,
    pub status: &'s FleetStatus,
    pub stop: watch::Receiver<bool>,
}

/// What comes from the task that reads a node's stream.
enum Parcel {
    Message(Box<Message>),
    /// There has been nothing for a while; the number of the stream's last message.
    Quiet(u64),
    /// Why there are no more.
    Failed(String),
}

struct Work<'s> {
    session: &'s Session<'s>,
    link: Link,
    parcels: mpsc::Sender<(String, Parcel)>,
    tasks: JoinSet<()>,
    /// The nodes that are read, and the highest number that was given out of each.
    known: BTreeMap<String, u64>,
    /// The last message of each node that is taken and not acknowledged.
    taken: BTreeMap<String, Message>,
}

impl Session<'_> {
    /// Works until that is over.
    pub async fn run(&self, taker: &mut Taker) -> End {
        let mut stop = self.stop.clone();
        let name = format!("floodgate {}", self.consumer);
        let link = tokio::select! {
            link = Link::open(&self.policy.access, &name, 1) => link,
            _ = stop.wait_for(|stop| *stop) => return End::Stopped,
        };
        let link = match link {
            Ok(link) => link,
            Err(error) => return End::Failed(error),
        };
        let (parcels, mut inbox) = mpsc::channel(QUEUE);
        let mut work = Work {
            session: self,
            link,
            parcels,
            tasks: JoinSet::new(),
            known: BTreeMap::new(),
            taken: BTreeMap::new(),
        };
        let mut next_look = Instant::now();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return End::Stopped,
                () = work.link.lost() => return End::Failed("the connection to NATS is lost".into()),
                () = sleep_until(next_look) => {
                    if let Err(error) = work.look(taker).await {
                        return End::Failed(error);
                    }
                    self.status.connected();
                    next_look = Instant::now() + LOOK_EVERY;
                }
                parcel = inbox.recv() => {
                    let mut next = parcel;
                    while let Some((node, parcel)) = next {
                        let done = match parcel {
                            Parcel::Message(message) => work.take(taker, node, *message).await,
                            Parcel::Quiet(last) => work.catch_up(taker, node, last).await,
                            Parcel::Failed(error) => Err(error),
                        };
                        if let Err(error) = done {
                            return End::Failed(error);
                        }
                        next = if taker.is_full() { None } else { inbox.try_recv().ok() };
                    }
                    if let Err(error) = work.settle(taker).await {
                        return End::Failed(error);
                    }
                }
            }
        }
    }
}

impl Work<'_> {
    /// Looks for streams that are not read yet.
    async fn look(&mut self, taker: &Taker) -> Result<(), String> {
        let fleet = &self.session.policy.fleet;
        let names = self.link.jetstream.stream_names().try_collect::<Vec<_>>();
        let names = timeout(ANSWER_TIMEOUT, names)
            .await
            .map_err(|_| "the streams are not told".to_owned())?
            .map_err(|error| format!("the streams are not told: {}", chain(&error)))?;
        let nodes = names
            .iter()
            .filter_map(|stream| stream.strip_prefix(fleet.as_str())?.strip_prefix('-'));
        for node in nodes {
            if self.known.contains_key(node) || name(node).is_err() {
                continue;
            }
            if self.known.len() == NODES_MAX {
                tracing::warn!(nodes = NODES_MAX, "there are more nodes than are read");
                break;
            }
            if self.begin(node, taker).await? {
                self.known.insert(node.to_owned(), 0);
            }
        }
        Ok(())
    }

    /// Begins to read a node's stream; whether it is one.
    async fn begin(&mut self, node: &str, taker: &Taker) -> Result<bool, String> {
        let address = Address {
            fleet: self.session.policy.fleet.clone(),
            node: node.to_owned(),
        };
        let failed = |error: &dyn std::error::Error| {
            format!("the stream {} cannot be read: {}", address.stream(), chain(error))
        };
        let stream = self
            .link
            .jetstream
            .get_stream(address.stream())
            .await
            .map_err(|error| failed(&error))?;
        if stream.cached_info().config.subjects != [address.subjects()] {
            return Ok(false);
        }
        let config = config(&self.session.consumer);
        let consumer = stream
            .get_or_create_consumer(&self.session.consumer, config)
            .await;
        let consumer = consumer.map_err(|error| failed(&error))?;
        let position = taker.mark(node).map(|mark| mark.at.to_string());
        self.session
            .status
            .node(node, position, consumer.cached_info().num_pending);
        tracing::info!(node, "reading the stream of a node");
        self.tasks
            .spawn(pull(node.to_owned(), stream, consumer, self.parcels.clone()));
        Ok(true)
    }

    async fn take(&mut self, taker: &mut Taker, node: String, message: Message) -> Result<(), String> {
        let (sequence, waiting) = match message.info() {
            Ok(info) => (info.stream_sequence, info.pending),
            Err(error) => return Err(format!("a message says not what it is: {error}")),
        };
        let heard = self.known.entry(node.clone()).or_default();
        *heard = sequence.max(*heard);
        let span = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(SPAN)?.as_str().parse::<Span>().ok());
        let Some(span) = span else {
            tracing::error!(node, sequence, "a message is not from Floodgate; it is left out");
            self.taken.insert(node, message);
            return Ok(());
        };
        if !self
            .take_in_turn(taker, &node, (sequence, &span), &message.payload)
            .await?
        {
            return Ok(());
        }
        let position = taker.mark(&node).map(|mark| mark.at.to_string());
        self.session.status.node(&node, position, waiting);
        self.taken.insert(node, message);
        Ok(())
    }

    /// Takes a message, behind all that comes before it. Whether that is done: if it is very much, the rest comes with the next
    /// message.
    async fn take_in_turn(
        &mut self,
        taker: &mut Taker,
        node: &str,
        (number, span): (u64, &Span),
        payload: &[u8],
    ) -> Result<bool, String> {
        if taker.take(node, span, payload, false) != Fate::Early {
            return Ok(true);
        }
        let is_filled = self.fill(taker, node, (number, span)).await?;
        if is_filled {
            // What is missing before it now is not in the stream any more.
            taker.take(node, span, payload, true);
        }
        Ok(is_filled)
    }

    /// Takes what a consumer that is quiet has left out at the end of a stream, if it has.
    async fn catch_up(&mut self, taker: &mut Taker, node: String, last: u64) -> Result<(), String> {
        if self.known.get(&node).is_none_or(|heard| *heard >= last) {
            return Ok(());
        }
        let stream = self.stream(&node).await?;
        let Some((span, payload)) = message_at(&stream, last).await? else {
            return Ok(());
        };
        let before = taker.mark(&node);
        if self.take_in_turn(taker, &node, (last, &span), &payload).await? {
            self.known.insert(node.clone(), last);
        }
        let mark = taker.mark(&node);
        if mark != before {
            tracing::warn!(
                node,
                number = last,
                "a consumer has left out the end of a stream; the stream itself was asked"
            );
            let position = mark.map(|mark| mark.at.to_string());
            self.session.status.node(&node, position, 0);
        }
        Ok(())
    }

    /// Takes what comes before a message out of the stream itself, from the server that leads it. Whether that was all there is.
    async fn fill(
        &mut self,
        taker: &mut Taker,
        node: &str,
        (number, before): (u64, &Span),
    ) -> Result<bool, String> {
        let stream = self.stream(node).await?;
        let state = stream.cached_info().state.clone();
        if number == state.first_sequence {
            return Ok(true);
        }
        let until = end_of(before);
        let is_behind = |taker: &Taker, span: &Span| taker.mark(node).is_none_or(|mark| end_of(span) > mark);
        // The places of messages only grow, so the first that was not taken is found by halving.
        let (mut first, mut end) = (state.first_sequence.max(1), state.last_sequence + 1);
        while first < end {
            let middle = first + (end - first) / 2;
            match message_at(&stream, middle).await? {
                Some((span, _)) if !is_behind(taker, &span) => first = middle + 1,
                _ => end = middle,
            }
        }
        tracing::info!(node, from = ?taker.mark(node).map(|mark| mark.to_string()), to = %until, first, number, "the stream itself is asked for what comes before a message");
        for sequence in first..=state.last_sequence {
            let Some((span, payload)) = message_at(&stream, sequence).await? else {
                continue;
            };
            if end_of(&span) >= until {
                return Ok(true);
            }
            if sequence - first == FILL_MAX {
                return Ok(false);
            }
            taker.take(node, &span, &payload, true);
            if taker.is_full() {
                taker.commit()?;
            }
        }
        // A server that has led until it was stopped does not know what came after.
        match state.first_sequence > number {
            true => Ok(true),
            false => Err(format!(
                "the stream of {node} does not say what it has before message {number}"
            )),
        }
    }

    async fn stream(&self, node: &str) -> Result<Stream, String> {
        let stream = format!("{}-{node}", self.session.policy.fleet);
        let found = self.link.jetstream.get_stream(&stream).await;
        found.map_err(|error| format!("the stream {stream} cannot be read: {}", chain(&error)))
    }

    /// Has the log take what has come, and acknowledges it.
    async fn settle(&mut self, taker: &mut Taker) -> Result<(), String> {
        taker.commit()?;
        for (node, message) in std::mem::take(&mut self.taken) {
            message
                .ack_with(AckKind::Ack)
                .await
                .map_err(|error| format!("a message of {node} cannot be acknowledged: {error}"))?;
        }
        Ok(())
    }
}

/// Behind the last line of a message.
fn end_of(span: &Span) -> Mark {
    Mark {
        life: span.life,
        at: span.next,
    }
}

/// A message of the stream, from the server that leads it; `None` if it is not there any more, or none of ours.
async fn message_at(stream: &Stream, sequence: u64) -> Result<Option<(Span, Vec<u8>)>, String> {
    match stream.get_raw_message(sequence).await {
        Ok(message) => {
            let span = message
                .headers
                .get(SPAN)
                .and_then(|span| span.as_str().parse().ok());
            Ok(span.map(|span| (span, message.payload.to_vec())))
        }
        Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
        Err(error) => Err(format!("a message cannot be read: {}", chain(&error))),
    }
}

fn config(name: &str) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        name: Some(name.to_owned()),
        ack_policy: AckPolicy::All,
        ack_wait: ACK_WAIT,
        max_ack_pending: 4 * AHEAD as i64,
        deliver_policy: DeliverPolicy::All,
        ..pull::Config::default()
    }
}

/// Pulls the messages of a node and hands them over, until there are no more or nobody wants them.
async fn pull(
    node: String,
    stream: Stream,
    consumer: Consumer<pull::Config>,
    parcels: mpsc::Sender<(String, Parcel)>,
) {
    let failed = |error: &dyn std::error::Error| {
        Parcel::Failed(format!("the stream of {node} cannot be read: {}", chain(error)))
    };
    let messages = consumer.stream().max_messages_per_batch(AHEAD).messages().await;
    let mut messages = match messages {
        Ok(messages) => messages,
        Err(error) => return drop(parcels.send((node.clone(), failed(&error))).await),
    };
    loop {
        let parcel = match timeout(QUIET_AFTER, messages.next()).await {
            Ok(Some(Ok(message))) => Parcel::Message(Box::new(message)),
            Ok(Some(Err(error))) => failed(&error),
            Ok(None) => Parcel::Failed(format!("the stream of {node} is not given out any more")),
            Err(_) => match stream.get_info().await {
                Ok(info) => Parcel::Quiet(info.state.last_sequence),
                // It has no leader now: that it has one again is heard of from the consumer, or the next time.
                Err(_) => continue,
            },
        };
        let is_last = matches!(parcel, Parcel::Failed(_));
        if parcels.send((node.clone(), parcel)).await.is_err() || is_last {
            return;
        }
    }
}
