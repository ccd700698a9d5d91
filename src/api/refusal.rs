//! Why requests are refused, as metrics tell it.
//!
//! Most statuses say it all; of a 503 it is said, by [`Shortage::count`] beside the answer, what there was too little of.

use super::route::Route;
use crate::http::{Output, REFUSALS_MAX};

/// Why a request is answered 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// The journal stayed full.
    Journal,
    /// No memory was left for bodies.
    Memory,
    /// `synced` was asked for and cannot be promised.
    Sync,
    /// The events are stored, but did not reach their level in time.
    Time,
    /// The log is still being read after the start.
    Counts,
    /// Too many reads wait for a thread.
    Reads,
    /// The log's files were not read in time.
    QueryTime,
    /// The live stream has as many subscribers as it may have.
    Subscribers,
}

const _: () = assert!(
    Shortage::ALL.len() <= REFUSALS_MAX,
    "every shortage is counted apart"
);

impl Shortage {
    /// All of them, in the order of their declaration.
    pub const ALL: [Shortage; 8] = [
        Shortage::Journal,
        Shortage::Memory,
        Shortage::Sync,
        Shortage::Time,
        Shortage::Counts,
        Shortage::Reads,
        Shortage::QueryTime,
        Shortage::Subscribers,
    ];

    /// Counts the 503 that is given beside this.
    pub fn count(self, output: &mut Output) {
        output.count_refusal(self as u8);
    }

    /// What metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Shortage::Journal => "journal_full",
            Shortage::Memory => "memory",
            Shortage::Sync => "sync_failed",
            Shortage::Time => "ack_timeout",
            Shortage::Counts => "recovering",
            Shortage::Reads => "reads",
            Shortage::QueryTime => "query_timeout",
            Shortage::Subscribers => "subscribers",
        }
    }
}

/// What metrics call a refusal with a status that says it all.
pub const BY_STATUS: [(&str, &[u16]); 13] = [
    ("malformed", &[400]),
    ("unauthorized", &[401]),
    ("forbidden", &[403]),
    ("not_found", &[404]),
    ("method_not_allowed", &[405]),
    ("too_slow", &[408]),
    ("too_large", &[413]),
    ("head_too_large", &[414, 431]),
    ("unsupported_coding", &[415]),
    ("not_supported", &[417, 501, 505]),
    ("invalid", &[422]),
    ("rate_limited", &[429]),
    ("internal_error", &[500]),
];

/// Refusals by reason, of these answers (kind, status, count) and of these shortages. Each reason is there, also those for
/// which nothing was refused yet.
pub fn by_reason(
    answers: &[(u8, u16, u64)],
    shortages: impl Fn(Shortage) -> u64,
) -> Vec<(&'static str, u64)> {
    let count = |is_counted: &dyn Fn(u8, u16) -> bool| {
        let counted = answers
            .iter()
            .filter(|(kind, status, _)| is_counted(*kind, *status));
        counted.map(|(_, _, count)| count).sum::<u64>()
    };
    let mut reasons: Vec<_> = BY_STATUS
        .iter()
        .map(|(name, statuses)| (*name, count(&|_, status| statuses.contains(&status))))
        .collect();
    reasons.extend(Shortage::ALL.map(|shortage| (shortage.name(), shortages(shortage))));
    // What no service has seen, and a 503 all the same.
    reasons.push(("connections", count(&|kind, status| kind == 0 && status == 503)));
    // Health says 503 and refuses nothing. What is left has no reason of its own here. (The counts are read one after the
    // other, so that there may seem to be fewer for a moment.)
    let all =
        count(&|kind, status| status == 503 && kind != 0 && Route::of_kind(kind) != Some(Route::Health));
    let told: u64 = Shortage::ALL.iter().map(|shortage| shortages(*shortage)).sum();
    reasons.push(("unavailable", all.saturating_sub(told)));
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_refusal_has_one_reason() {
        let event = Route::kind(Some(Route::Event));
        let health = Route::kind(Some(Route::Health));
        let answers = [
            (0, 431, 1),
            (0, 503, 2),
            (1, 404, 3),
            (event, 202, 100),
            (event, 414, 4),
            (event, 422, 5),
            (event, 503, 10),
            (health, 503, 1000),
        ];
        let shortages = |shortage| match shortage {
            Shortage::Journal => 6,
            Shortage::Sync => 1,
            _ => 0,
        };
        let mut reasons = by_reason(&answers, shortages);
        let names: HashSet<_> = reasons.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), reasons.len(), "a reason is there once");
        reasons.retain(|(_, count)| *count > 0);
        let expected = [
            ("not_found", 3),
            ("head_too_large", 5),
            ("invalid", 5),
            ("journal_full", 6),
            ("sync_failed", 1),
            ("connections", 2),
            ("unavailable", 3),
        ];
        assert_eq!(reasons, expected);
        for (place, shortage) in Shortage::ALL.into_iter().enumerate() {
            assert_eq!(shortage as usize, place);
        }
    }
}
