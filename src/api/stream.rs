//! `GET /api/metrics/behavior/stream`: what is stored, as Server-Sent Events.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::{Duration, Instant};

use super::behavior::NAMES_MAX;
use super::parameters::Parameters;
use super::refusal::Shortage;
use super::{Session, error};
use crate::http::{Output, Request, StreamWriter};
use crate::log::cursor::{NoPosition, Position};
use crate::query::stream::{Filter, NotSubscribed, Subscription, Turn};

/// Proxies close connections on which nothing comes, after 60 s mostly; phones' networks sooner.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client is told to wait before it connects again, from and to, in milliseconds: spread, so that not all come at
/// once after a restart.
const RETRY_MS: (u64, u64) = (1_000, 3_000);
/// The second keeps nginx from gathering what is sent.
const HEADERS: [(&str, &str); 2] = [("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")];

impl Session {
    pub(super) fn stream(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let mut parameters = Parameters::of(request);
        let names = parameters.names("event_type", NAMES_MAX);
        let nodes = parameters.nodes(&self.shared.origin);
        if !parameters.settle(output) {
            return;
        }
        let filter = Filter::of_spelt(names.unwrap_or_default()).from_nodes(nodes);
        let Ok(from) = position_of(request, output) else {
            return;
        };
        // One's own writes come before, also those of this very burst. While the log is still being counted after the start
        // that may not be in time, and they follow.
        self.intake.producer.commit_joined();
        self.intake.producer.publish(self.shared.enqueue_timeout);
        if request.method() == "HEAD" {
            return output.stream(200, "text/event-stream", &HEADERS, Box::new(|_| Ok(())));
        }
        match self.shared.streams.subscribe(filter, from) {
            Ok(subscription) => {
                let produce = move |to: &mut StreamWriter<'_>| {
                    if !serve(&subscription, to) {
                        to.cut();
                    }
                    Ok(())
                };
                output.stream(200, "text/event-stream", &HEADERS, Box::new(produce));
            }
            Err(refusal) => refuse(refusal, output),
        }
    }
}

/// The place to resume at, if there is one; an error after an answer that it is none. The header is what a browser adds when it
/// connects again, and so newer than the query.
fn position_of(request: &Request<'_>, output: &mut Output) -> Result<Option<Position>, ()> {
    let in_query = request.query_pairs().filter(|(name, _)| name == "last_event_id");
    let (loc, text) = match request.header("last-event-id") {
        Some(id) if !id.is_empty() => (["header", "last-event-id"], String::from_utf8_lossy(id)),
        _ => (["query", "last_event_id"], in_query.last().unwrap_or_default().1),
    };
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: NoPosition| {
        let msg = format!("Input should be an event's id: {error}");
        error::invalid_parameter("log_position", loc, &msg, &text, None, output);
    })
}

fn refuse(refusal: NotSubscribed, output: &mut Output) {
    match refusal {
        NotSubscribed::Full => {
            Shortage::Subscribers.count(output);
            let sentence =
                "There are as many subscribers as there may be (METRICS_STREAM_SUBSCRIBERS_MAX). Try again.";
            output.detail(503, &[error::RETRY_AFTER], sentence);
        }
        NotSubscribed::Late => {
            Shortage::QueryTime.count(output);
            output.detail(
                503,
                &[error::RETRY_AFTER],
                "The log is slow to be read. Try again.",
            );
        }
        NotSubscribed::Unreadable(reason) => {
            tracing::warn!(%reason, "a subscriber could not resume");
            output.detail(500, &[], "The log cannot be read there.");
        }
    }
}

/// Sends until the peer has gone or the server stops. Whether the body may be ended as it should.
fn serve(subscription: &Subscription, to: &mut StreamWriter<'_>) -> bool {
    // A peer that has gone is how a stream ends.
    send(subscription, to).unwrap_or(false)
}

fn send(subscription: &Subscription, to: &mut StreamWriter<'_>) -> io::Result<bool> {
    let begun = subscription.position();
    let retry = RETRY_MS.0 + RandomState::new().hash_one(begun) % (RETRY_MS.1 - RETRY_MS.0);
    // With the place, so that who is cut off before the first event resumes there.
    to.collect(format!(": the live stream\nretry: {retry}\nid: {begun}\n\n").as_bytes());
    if !to.flush_or_stop()? {
        return Ok(false);
    }
    let waker = to.waker();
    subscription.attend(move || waker.wake());
    let mut heart = Heart::new(Instant::now(), begun);
    while !to.is_stopping() {
        let now = Instant::now();
        if heart.is_due(now) {
            to.collect(heart.beat(now, subscription.passed()).as_bytes());
        }
        match subscription.turn(|text| to.collect(text)) {
            Turn::Taken if to.try_flush()? => subscription.sent(),
            // A heartbeat, if anything.
            Turn::None if to.try_flush()? => drop(to.wait(heart.left(now))?),
            Turn::Taken | Turn::None => {
                subscription.away();
                if !to.flush_or_stop()? {
                    return Ok(false);
                }
                subscription.back();
            }
            Turn::Failed(error) => {
                tracing::warn!(%error, "a subscriber's stream ends: the log cannot be read");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// When the next heartbeat is due, and what the last one said.
struct Heart {
    due: Instant,
    told: Position,
}

impl Heart {
    fn new(now: Instant, told: Position) -> Heart {
        Heart {
            due: now + HEARTBEAT,
            told,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    fn left(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// A comment. For who wants events of some names, and has long got none, with the place that he has come to: resuming
    /// there, nobody has to read again what he did not want. An `id` alone is no event to a client; it remembers it.
    fn beat(&mut self, now: Instant, at: Option<Position>) -> String {
        self.due = now + HEARTBEAT;
        match at.filter(|at| *at != self.told) {
            Some(at) => {
                self.told = at;
                format!(": \nid: {at}\n\n")
            }
            None => ": \n\n".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heart_beats_every_fifteen_seconds_and_tells_how_far_it_is() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let at = |offset| Some(Position { number: 2, offset });
        let mut heart = Heart::new(begin, Position { number: 2, offset: 5 });
        assert!(!heart.is_due(after(14)) && heart.is_due(after(15)));
        assert_eq!(heart.left(after(14)), Duration::from_secs(1));
        assert_eq!(heart.beat(after(15), at(5)), ": \n\n");
        assert!(!heart.is_due(after(29)) && heart.is_due(after(30)));
        assert_eq!(heart.beat(after(31), at(80)), ": \nid: 2:80\n\n");
        assert_eq!(heart.beat(after(46), at(80)), ": \n\n");
        assert_eq!(heart.beat(after(61), None), ": \n\n");
        assert_eq!(heart.left(after(80)), Duration::ZERO);
    }
}
