//! Lifetime counts: how many lines the log has, and how many of each event name.
//!
//! Owner: the writer thread is the only one who counts; any reader may look. The number of names is bounded: once
//! `names_max` are known, events of further names count as [`OTHER`]. After a restart the same bound is filled again from
//! the log, in its order: the names that are known are those that came first in it.

use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

pub use crate::log::summary::OTHER;

/// Counts by event name. Names are JSON text without the quotes, in the one spelling that stored lines have.
pub struct Counters {
    /// The counts are stored by the writer and loaded by readers; Relaxed, since no other data hangs on them.
    by_name: DashMap<Box<[u8]>, AtomicU64>,
    names_max: usize,
    total: AtomicU64,
}

impl Counters {
    /// Counters that tell `names_max` names apart.
    pub fn new(names_max: usize) -> Counters {
        Counters {
            by_name: DashMap::new(),
            names_max,
            total: AtomicU64::new(0),
        }
    }

    /// Counts `count` more events of `name`.
    pub fn add(&self, name: &[u8], count: u64) {
        self.total.fetch_add(count, Ordering::Relaxed);
        if let Some(counter) = self.by_name.get(name) {
            counter.fetch_add(count, Ordering::Relaxed);
            return;
        }
        let known = self.by_name.len() - usize::from(self.by_name.contains_key(OTHER));
        let name = if known < self.names_max { name } else { OTHER };
        self.by_name
            .entry(name.into())
            .or_default()
            .fetch_add(count, Ordering::Relaxed);
    }

    /// How many events there are in all.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// How many names are told apart, [`OTHER`] included.
    pub fn names(&self) -> usize {
        self.by_name.len()
    }

    /// All counts, in no order.
    pub fn all(&self) -> Vec<(Box<[u8]>, u64)> {
        let load = |entry: dashmap::mapref::multiple::RefMulti<'_, Box<[u8]>, AtomicU64>| {
            (entry.key().clone(), entry.value().load(Ordering::Relaxed))
        };
        self.by_name.iter().map(load).collect()
    }

    /// All counts, largest first, equal ones by name.
    pub fn ranking(&self) -> Vec<(Box<[u8]>, u64)> {
        ranked(self.all())
    }
}

/// Counts in their order: largest first, equal ones by name.
pub fn ranked(mut counts: Vec<(Box<[u8]>, u64)>) -> Vec<(Box<[u8]>, u64)> {
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let counters = Counters::new(2);
        for (name, count) in [(&b"a"[..], 1), (b"b", 2), (b"c", 3), (b"a", 4), (b"d", 5)] {
            counters.add(name, count);
        }
        let ranking = counters.ranking();
        let shown: Vec<_> = ranking.iter().map(|(name, count)| (&name[..], *count)).collect();
        assert_eq!(shown, [(OTHER, 8), (b"a", 5), (b"b", 2)]);
        assert_eq!((counters.total(), counters.names()), (15, 3));
    }
}
