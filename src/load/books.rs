//! A worker's books: what is counted, and what is known of each event.

use std::time::Duration;

use super::answer::{Answer, beginning};
use super::ledger::{Fate, Ledger};
use super::link::{Break, Flight};
use super::tally::Tally;

/// Counts and, where the log is read afterwards, fates.
pub struct Books {
    /// What has been counted since it was handed over.
    pub tally: Tally,
    /// What became of each event, if anybody asks.
    pub ledger: Option<Ledger>,
    /// When the last answer came.
    pub last_answer: Duration,
}

impl Books {
    /// A burst was sent.
    #[inline]
    pub fn sent(&mut self, flight: &Flight, body_bytes: u64) {
        if flight.counts {
            let requests = u64::from(flight.requests);
            self.tally.requests.sent += requests;
            self.tally.events.sent += requests * u64::from(flight.events_each);
            self.tally.body_bytes += body_bytes;
        }
    }

    /// The next request of a burst was answered.
    #[inline]
    pub fn answered(&mut self, flight: &Flight, answer: &Answer, body: &[u8], now: Duration) {
        self.last_answer = now;
        let is_ok = (200..300).contains(&answer.status);
        let fate = match (is_ok, answer.has_ack) {
            (true, _) => Fate::Acknowledged,
            // A level that was not reached in time: the events are stored, or will be.
            (false, true) => Fate::Unknown,
            (false, false) => Fate::Refused,
        };
        if let Some(ledger) = &mut self.ledger {
            ledger.mark(flight.next(), flight.events_each, fate);
        }
        if !flight.counts {
            return;
        }
        let events = u64::from(flight.events_each);
        self.tally.requests.answered += 1;
        if is_ok {
            self.tally.ok += 1;
            self.tally.events.acknowledged += events;
            self.tally.took(now.saturating_sub(flight.due), 1);
            return;
        }
        match fate {
            Fate::Refused => self.tally.events.refused += events,
            _ => self.tally.events.unknown += events,
        }
        self.tally.requests.failed += 1;
        self.tally
            .error(&format!("status {}", answer.status), 1, || beginning(body));
    }

    /// What is left of a burst is not answered any more.
    pub fn failed(&mut self, flight: &Flight, why: &Break, now: Duration) {
        let requests = flight.requests - flight.answered;
        let events = requests * flight.events_each;
        if let Some(ledger) = &mut self.ledger {
            ledger.mark(flight.next(), events, Fate::Unknown);
        }
        if !flight.counts || requests == 0 {
            return;
        }
        self.tally.requests.failed += u64::from(requests);
        self.tally.events.unknown += u64::from(events);
        self.tally
            .error(why.kind(), u64::from(requests), || why.example());
        if matches!(why, Break::Timeout(_) | Break::End) {
            // They took as long as that, and would have taken longer: left out they would make the server look faster.
            self.tally
                .took(now.saturating_sub(flight.due), u64::from(requests));
        }
    }
}
