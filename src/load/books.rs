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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn books() -> Books {
        Books {
            tally: Tally::new(),
            ledger: Some(Ledger::new(1_000)),
            last_answer: Duration::ZERO,
        }
    }

    /// Three requests of ten events each from number 100 on, of which so many are answered.
    fn flight(answered: u32) -> Flight {
        Flight {
            due: 5 * MS,
            sent: 8 * MS,
            first: 100,
            requests: 3,
            events_each: 10,
            answered,
            counts: true,
        }
    }

    fn answer(status: u16, has_ack: bool) -> Answer {
        Answer {
            status,
            closes: false,
            has_ack,
            length: 0,
            body: 0..0,
        }
    }

    /// Events by what became of them.
    fn fates(books: &Books) -> [usize; 3] {
        let of = |fate| {
            let entries = books.ledger.as_ref().unwrap().entries();
            entries.filter(|(_, other, _)| *other == fate).count()
        };
        [Fate::Acknowledged, Fate::Refused, Fate::Unknown].map(of)
    }

    #[test]
    fn what_a_status_says_of_events_is_written_down() {
        for (status, has_ack, expected) in [
            (202, true, [10, 0, 0]),
            (200, false, [10, 0, 0]),
            (199, false, [0, 10, 0]),
            (300, false, [0, 10, 0]),
            (503, false, [0, 10, 0]),
            // They are stored, though not as safely as was asked for.
            (503, true, [0, 0, 10]),
        ] {
            let mut books = books();
            books.answered(&flight(1), &answer(status, has_ack), b"", 12 * MS);
            assert_eq!(fates(&books), expected, "{status}");
            let Tally { events, requests, .. } = &books.tally;
            assert_eq!(
                [events.acknowledged, events.refused, events.unknown],
                expected.map(|count| count as u64)
            );
            let is_ok = expected[0] > 0;
            assert_eq!(
                (requests.answered, requests.failed, books.tally.ok),
                (1, u64::from(!is_ok), u64::from(is_ok))
            );
            // From when it was to be sent; and only what was answered well.
            assert_eq!(books.tally.latency.len(), u64::from(is_ok));
            let in_time = books.tally.latency.count_between(6_990, 7_010);
            assert_eq!(in_time, u64::from(is_ok));
            let (first, _, _) = books.ledger.unwrap().entries().next().unwrap();
            assert_eq!(first, 110);
        }
    }

    #[test]
    fn of_a_burst_that_breaks_what_was_answered_is_not_unknown() {
        for (why, timed) in [
            (Break::Closed, 0),
            (Break::Unasked(200), 0),
            (Break::Timeout(MS), 2),
            (Break::End, 2),
        ] {
            let mut books = books();
            books.answered(&flight(0), &answer(202, true), b"", 6 * MS);
            books.failed(&flight(1), &why, 105 * MS);
            assert_eq!(fates(&books), [10, 0, 20], "{why:?}");
            assert_eq!(books.tally.requests.failed, 2);
            assert_eq!(books.tally.events.unknown, 20);
            assert_eq!(books.tally.errors_count(), 2);
            assert_eq!(books.tally.latency.len(), 1 + timed, "{why:?}");
            let late = books.tally.latency.count_between(99_000, 101_000);
            assert_eq!(late, timed, "they waited that long, at the least");
        }
        // Nothing was under way.
        let mut books = books();
        books.failed(&flight(3), &Break::Closed, 105 * MS);
        assert_eq!((books.tally.errors_count(), fates(&books)), (0, [0; 3]));
    }

    #[test]
    fn a_warm_up_counts_for_nothing_and_is_accounted_for() {
        let mut books = books();
        let flight = |answered| Flight {
            counts: false,
            ..flight(answered)
        };
        books.sent(&flight(0), 500);
        books.answered(&flight(0), &answer(202, true), b"", 6 * MS);
        books.answered(&flight(1), &answer(503, false), b"", 6 * MS);
        books.failed(&flight(2), &Break::End, 7 * MS);
        let Tally {
            requests,
            events,
            ok,
            body_bytes,
            latency,
            errors,
        } = &books.tally;
        assert_eq!((requests.sent, requests.answered, requests.failed), (0, 0, 0));
        assert_eq!(
            (events.sent, events.acknowledged, events.refused, events.unknown),
            (0, 0, 0, 0)
        );
        assert_eq!((*ok, *body_bytes, latency.len(), errors.len()), (0, 0, 0, 0));
        assert_eq!(fates(&books), [10, 10, 10]);

        books.sent(&super::tests::flight(0), 500);
        assert_eq!(
            (
                books.tally.requests.sent,
                books.tally.events.sent,
                books.tally.body_bytes
            ),
            (3, 30, 500)
        );
    }
}
