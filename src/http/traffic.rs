//! What is counted of the traffic: answers by kind of request and status, refusals, bytes, connections.
//!
//! Kinds of requests and reasons of refusals are small numbers whose meaning is the service's: it says them with
//! [`Output::set_kind`](super::Output::set_kind) and [`Output::count_refusal`](super::Output::count_refusal). Kind 0 is
//! what no service has seen: what is no request, or came too slowly, or found no room.
//!
//! **What it costs.** A connection counts its answers for itself, in plain memory, as long as they are alike, and adds them
//! to what all share before they leave: an addition for each burst, not for each request. What is shared is
//! there once for each worker (a lane), on cache lines of its own; a connection uses the lane of the worker that polls its
//! descriptor, so that workers do not contend. Bytes are added by each read and write, which are system calls.
//!
//! **When.** An answer is counted before it leaves: who has it finds it counted. Whether it arrives is not known here.
//!
//! **Bounds.** [`KINDS_MAX`] kinds, [`REFUSALS_MAX`] reasons, the statuses of `status.rs`: 4 KiB a lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use super::status;

/// Kinds of requests that are told apart, 0 included.
pub const KINDS_MAX: usize = 16;
/// Reasons of refusals that are told apart.
pub const REFUSALS_MAX: usize = 16;
/// The statuses that are told apart, and one for all others.
const STATUSES: usize = status::ALL.len() + 1;

/// All atomics here are counts that vouch for nothing else: Relaxed.
#[derive(Debug)]
struct Lane {
    answers: [[AtomicU64; STATUSES]; KINDS_MAX],
    refusals: [AtomicU64; REFUSALS_MAX],
    received: AtomicU64,
    sent: AtomicU64,
}

impl Lane {
    fn new() -> Self {
        Self {
            answers: [const { [const { AtomicU64::new(0) }; STATUSES] }; KINDS_MAX],
            refusals: [const { AtomicU64::new(0) }; REFUSALS_MAX],
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }
}

/// The counts of a server, from its start on.
#[derive(Debug)]
pub struct Traffic {
    lanes: Box<[CachePadded<Lane>]>,
    accepted: AtomicU64,
    ended: AtomicU64,
    turned_away: AtomicU64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Traffic {
    /// Nothing yet. `lanes`: as many as there are workers.
    pub fn new(lanes: usize) -> Self {
        Self {
            lanes: (0..lanes.max(1)).map(|_| CachePadded::new(Lane::new())).collect(),
            accepted: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        }
    }

    /// Answers so far: kind, status, count, without zeros. The status is 0 for those that the server does not know.
    pub fn answers(&self) -> Vec<(u8, u16, u64)> {
        let mut answers = Vec::new();
        for kind in 0..KINDS_MAX {
            for place in 0..STATUSES {
                let count = self.sum(|lane| &lane.answers[kind][place]);
                if count > 0 {
                    let status = status::ALL.get(place).copied().unwrap_or(0);
                    answers.push((kind as u8, status, count));
                }
            }
        }
        answers
    }

    /// Refusals so far for that reason.
    pub fn refusals(&self, reason: u8) -> u64 {
        self.sum(|lane| &lane.refusals[usize::from(reason)])
    }

    /// Bytes received and sent, without what TLS adds.
    pub fn bytes(&self) -> (u64, u64) {
        (self.sum(|lane| &lane.received), self.sum(|lane| &lane.sent))
    }

    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        // Those that have ended first: of a connection that ends meanwhile neither is seen, and the difference stays above zero.
        let ended = self.ended.load(Ordering::Acquire);
        self.accepted.load(Ordering::Relaxed) - ended
    }

    /// Connections that were taken so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections for which there was no room so far.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn sum(&self, of: impl Fn(&Lane) -> &AtomicU64) -> u64 {
        let load = |lane: &CachePadded<Lane>| of(lane).load(Ordering::Relaxed);
        self.lanes.iter().map(load).fold(0, u64::wrapping_add)
    }

    fn lane(&self, lane: usize) -> &Lane {
        &self.lanes[lane % self.lanes.len()]
    }

    pub(super) fn received(&self, lane: usize, bytes: usize) {
        let received = &self.lane(lane).received;
        received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, lane: usize, bytes: usize) {
        self.lane(lane).sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        // Release: pairs with the load in `connections`, so that who sees the end has seen the beginning.
        self.ended.fetch_add(1, Ordering::Release);
    }

    pub(super) fn turn_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }
}

/// What one connection has answered and not added to the counts yet: so many answers that are alike.
#[derive(Debug)]
pub(super) struct Counts {
    traffic: Arc<Traffic>,
    lane: usize,
    kind: u8,
    status: u16,
    count: u64,
}

impl Counts {
    pub(super) fn new(traffic: Arc<Traffic>, lane: usize) -> Self {
        Self {
            traffic,
            lane,
            kind: 0,
            status: 0,
            count: 0,
        }
    }

    #[inline]
    pub(super) fn answered(&mut self, kind: u8, status: u16) {
        if (kind, status) != (self.kind, self.status) {
            self.fold();
            (self.kind, self.status) = (kind, status);
        }
        self.count = self.count.wrapping_add(1);
    }

    /// Takes back the answer that was counted last. If it has been added already, the next addition wraps round.
    pub(super) fn take_back(&mut self) {
        self.count = self.count.wrapping_sub(1);
    }

    pub(super) fn refused(&self, reason: u8) {
        let refusals = &self.traffic.lane(self.lane).refusals;
        refusals[usize::from(reason)].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds what has gathered to what all share.
    pub(super) fn fold(&mut self) {
        if self.count != 0 {
            let place = status::ALL.iter().position(|known| *known == self.status);
            let answers = &self.traffic.lane(self.lane).answers[usize::from(self.kind)];
            answers[place.unwrap_or(STATUSES - 1)].fetch_add(self.count, Ordering::Relaxed);
            self.count = 0;
        }
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        self.fold();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_lanes_are_counted_by_kind_and_status() {
        let traffic = Arc::new(Traffic::new(2));
        let mut first = Counts::new(Arc::clone(&traffic), 0);
        // A lane for each worker, whatever the numbers of their descriptors.
        let mut other = Counts::new(Arc::clone(&traffic), 7);
        for _ in 0..3 {
            first.answered(1, 202);
            other.answered(1, 202);
        }
        other.answered(2, 200);
        first.answered(0, 799);
        assert_eq!(traffic.answers(), [(1, 202, 6)]);
        first.fold();
        drop(other);
        assert_eq!(traffic.answers(), [(0, 0, 1), (1, 202, 6), (2, 200, 1)]);
    }

    #[test]
    fn an_answer_is_taken_back_before_and_after_it_was_added() {
        let traffic = Arc::new(Traffic::default());
        let mut counts = Counts::new(Arc::clone(&traffic), 0);
        counts.answered(1, 202);
        counts.answered(1, 202);
        counts.fold();
        counts.take_back();
        counts.answered(1, 500);
        counts.answered(1, 404);
        counts.take_back();
        counts.fold();
        assert_eq!(traffic.answers(), [(1, 202, 1), (1, 500, 1)]);
    }

    #[test]
    fn refusals_bytes_and_connections_are_counted() {
        let traffic = Arc::new(Traffic::new(3));
        Counts::new(Arc::clone(&traffic), 1).refused(4);
        Counts::new(Arc::clone(&traffic), 2).refused(4);
        assert_eq!((traffic.refusals(4), traffic.refusals(5)), (2, 0));
        traffic.received(4, 10);
        traffic.received(5, 1);
        traffic.sent(0, 7);
        assert_eq!(traffic.bytes(), (11, 7));
        (0..3).for_each(|_| traffic.connected());
        traffic.disconnected();
        traffic.turn_away();
        assert_eq!(
            (traffic.connections(), traffic.accepted(), traffic.turned_away()),
            (2, 3, 1)
        );
    }
}
