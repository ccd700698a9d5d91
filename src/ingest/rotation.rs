//! When the live file is sealed: by its size, by the clock, when somebody asks.
//!
//! The writer looks at the size after each batch; the keeper thread looks at the clock and asks, as a signal does. What is
//! asked is done by the writer between two batches. An empty file is not sealed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// The Unix epoch was a Thursday: the first Monday is this far behind it, in seconds.
const FIRST_MONDAY: u64 = 4 * DAY;

/// When the live file is sealed and another begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    /// When it has at least so many bytes; `None`: never for its size.
    pub bytes: Option<u64>,
    /// When a period is over in which it was begun.
    pub every: Option<Period>,
    /// How long the writer rests before the file gets its new name, so that tailers read to its end.
    pub rest: Duration,
}

/// A period of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From one full hour to the next.
    Hourly,
    /// From midnight to midnight.
    Daily,
    /// From Monday to Monday.
    Weekly,
    /// So long, counted from the Unix epoch; a second at least.
    Of(Duration),
}

impl Period {
    /// When the period ends in which `second` lies; both in seconds since the Unix epoch.
    pub fn end(self, second: u64) -> u64 {
        let (first, length) = match self {
            Period::Hourly => (0, HOUR),
            Period::Daily => (0, DAY),
            Period::Weekly => (FIRST_MONDAY, 7 * DAY),
            Period::Of(length) => (0, length.as_secs().max(1)),
        };
        match second.checked_sub(first) {
            Some(since) => first + (since / length + 1) * length,
            None => first,
        }
    }
}

/// What the writer, the keeper and whoever asks share.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    requested: AtomicBool,
    /// Somebody else may have laid hands on the live file.
    suspected: AtomicBool,
    /// When the live file was begun, in seconds since the Unix epoch; 0 while it is empty. Stored by the writer.
    since: AtomicU64,
}

impl Rotation {
    /// Asks for the live file to be sealed. The writer is to be rung for.
    pub fn request(&self) {
        // Relaxed, as all here: no other data hangs on it, and the doorbell has its own ordering.
        self.requested.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has asked.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Has the writer look whether the live file is as it left it. The writer is to be rung for.
    pub fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
    }

    /// Whether the writer is to look.
    pub fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Relaxed)
    }

    /// The writer has looked.
    pub fn looked(&self) {
        self.suspected.store(false, Ordering::Relaxed);
    }

    /// What was asked for is done, or there is nothing to seal.
    pub fn done(&self) {
        self.requested.store(false, Ordering::Relaxed);
    }

    /// The live file was begun then; `None`: it is empty.
    pub fn begun(&self, since: Option<SystemTime>) {
        let seconds = since.map_or(0, |since| {
            since
                .duration_since(UNIX_EPOCH)
                .map_or(1, |since| since.as_secs().max(1))
        });
        self.since.store(seconds, Ordering::Relaxed);
    }

    /// Whether the period is over in which the live file was begun.
    pub fn is_period_over(&self, period: Period, now: SystemTime) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        since > 0 && now >= period.end(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_end_where_the_calendar_says() {
        // 2026-11-22T21:15:30Z, a Sunday.
        let second = 1_795_382_130;
        assert_eq!(Period::Hourly.end(second), 1_795_384_800);
        assert_eq!(Period::Daily.end(second), 1_795_392_000);
        assert_eq!(Period::Weekly.end(second), 1_795_392_000);
        assert_eq!(Period::Weekly.end(1_795_392_000), 1_795_392_000 + 7 * DAY);
        assert_eq!(Period::Weekly.end(0), FIRST_MONDAY);
        assert_eq!(Period::Of(Duration::from_secs(600)).end(second), 1_795_382_400);
        assert_eq!(Period::Of(Duration::ZERO).end(second), second + 1);
    }

    #[test]
    fn an_empty_file_has_no_period() {
        let rotation = Rotation::default();
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        assert!(!rotation.is_period_over(Period::Hourly, at(10 * HOUR)));
        rotation.begun(Some(at(HOUR + 1)));
        assert!(!rotation.is_period_over(Period::Hourly, at(2 * HOUR - 1)));
        assert!(rotation.is_period_over(Period::Hourly, at(2 * HOUR)));
        rotation.begun(None);
        assert!(!rotation.is_period_over(Period::Hourly, at(10 * HOUR)));
    }
}
