//! What became of each event, and how often the log has it: half a byte an event.
//!
//! A hundred million events are 50 MB. Numbers are given to workers by pages, so that each has pages of its own
//! ([`Numbers`]); behind the run they are put together.

use std::ops::Range;

/// Least events of a page: 32 KiB.
const PAGE_EVENTS_MIN: u64 = 65_536;

/// What the sender knows of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// There is no such event.
    Unsent = 0,
    /// It was answered with 2xx.
    Acknowledged = 1,
    /// It was answered otherwise.
    Refused = 2,
    /// It was sent, and not answered.
    Unknown = 3,
}

impl Fate {
    fn of(bits: u8) -> Fate {
        match bits & 3 {
            0 => Fate::Unsent,
            1 => Fate::Acknowledged,
            2 => Fate::Refused,
            _ => Fate::Unknown,
        }
    }
}

/// How often the log has an event: never, once, or more often.
const SEEN_ONCE: u8 = 4;
const SEEN_TWICE: u8 = 8;

/// Events of a page when so many are sent at a time: a burst never lies in two pages.
pub fn page_events(burst: u32) -> u64 {
    let bursts = PAGE_EVENTS_MIN.div_ceil(u64::from(burst)).next_multiple_of(2);
    bursts * u64::from(burst)
}

/// The numbers that a worker gives to its events.
#[derive(Clone, Debug)]
pub struct Numbers {
    page_events: u64,
    /// Pages up to the next one of this worker.
    stride: u64,
    free: Range<u64>,
    /// The page that they are of.
    page: u64,
}

impl Numbers {
    /// Of worker `index` of `count`, which share the pages from `first_page` on in turn.
    pub fn new(page_events: u64, first_page: u64, (index, count): (usize, usize)) -> Numbers {
        let page = first_page + index as u64;
        Numbers {
            page_events,
            stride: count as u64,
            free: page * page_events..(page + 1) * page_events,
            page,
        }
    }

    /// Of a worker that needs no pages: from `first` on.
    pub fn from(first: u64) -> Numbers {
        Numbers {
            page_events: u64::MAX,
            stride: 0,
            free: first..u64::MAX,
            page: 0,
        }
    }

    /// The first of `count` numbers, at most a burst's.
    #[inline]
    pub fn take(&mut self, count: u32) -> u64 {
        if self.free.end - self.free.start < u64::from(count) {
            self.page += self.stride;
            self.free = self.page * self.page_events..(self.page + 1) * self.page_events;
        }
        let first = self.free.start;
        self.free.start += u64::from(count);
        first
    }

    /// A page that no worker has begun, if none has given more numbers than this one.
    pub fn page_behind(&self) -> u64 {
        self.page + self.stride
    }
}

/// Half a byte for each number that was given.
#[derive(Debug)]
pub struct Ledger {
    page_events: u64,
    pages: Vec<Option<Box<[u8]>>>,
}

impl Ledger {
    /// Of nothing yet, in pages of so many events: an even number.
    pub fn new(page_events: u64) -> Ledger {
        Ledger {
            page_events,
            pages: Vec::new(),
        }
    }

    /// Records what became of `count` events, all in one page.
    pub fn mark(&mut self, first: u64, count: u32, fate: Fate) {
        let size = (self.page_events / 2) as usize;
        let index = (first / self.page_events) as usize;
        if self.pages.len() <= index {
            self.pages.resize_with(index + 1, || None);
        }
        let page = self.pages[index].get_or_insert_with(|| vec![0; size].into_boxed_slice());
        let begin = (first % self.page_events) as usize;
        for at in begin..begin + count as usize {
            let shift = at % 2 * 4;
            debug_assert_eq!(page[at / 2] >> shift & 3, 0, "an event has one fate");
            page[at / 2] |= (fate as u8) << shift;
        }
    }

    /// Records that the log has an event, once more. What is known of it, and whether it was there before; `None` if there is no
    /// such number.
    pub fn see(&mut self, number: u64) -> Option<(Fate, bool)> {
        let index = usize::try_from(number / self.page_events).ok()?;
        let page = self.pages.get_mut(index)?.as_mut()?;
        let at = (number % self.page_events) as usize;
        let shift = at % 2 * 4;
        let bits = page[at / 2] >> shift;
        let was_seen = bits & (SEEN_ONCE | SEEN_TWICE) != 0;
        let seen = if was_seen { SEEN_TWICE } else { SEEN_ONCE };
        page[at / 2] = (page[at / 2] & !((SEEN_ONCE | SEEN_TWICE) << shift)) | (seen << shift);
        Some((Fate::of(bits), was_seen))
    }

    /// Takes over the pages of another worker.
    pub fn absorb(&mut self, other: Ledger) {
        debug_assert_eq!(self.page_events, other.page_events);
        if self.pages.len() < other.pages.len() {
            self.pages.resize_with(other.pages.len(), || None);
        }
        for (mine, theirs) in self.pages.iter_mut().zip(other.pages) {
            debug_assert!(mine.is_none() || theirs.is_none(), "a page belongs to one worker");
            if theirs.is_some() {
                *mine = theirs;
            }
        }
    }

    /// Every event that was sent: number, what became of it, and how often the log has it (2: more than once).
    pub fn entries(&self) -> impl Iterator<Item = (u64, Fate, u8)> {
        let pages = self.pages.iter().enumerate();
        pages
            .filter_map(|(index, page)| Some((index as u64, page.as_ref()?)))
            .flat_map(|(index, page)| {
                let base = index * self.page_events;
                let entries = page.iter().enumerate().flat_map(move |(at, bits)| {
                    let number = base + 2 * at as u64;
                    [(number, bits & 15), (number + 1, bits >> 4)]
                });
                entries
                    .filter(|(_, bits)| *bits != 0)
                    .map(|(number, bits)| (number, Fate::of(bits), bits >> 2))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn workers_give_each_number_once_and_no_burst_lies_in_two_pages() {
        for burst in [1, 7, 16, 1_000, 65_537, 100_000] {
            let page_events = page_events(burst);
            assert_eq!(page_events % 2, 0);
            let mut given = HashSet::new();
            let mut workers: Vec<_> = (0..3)
                .map(|index| Numbers::new(page_events, 5, (index, 3)))
                .collect();
            let bursts = 2 * page_events / u64::from(burst) + 3;
            for count in (0..bursts).map(|at| if at % 5 == 4 { burst.div_ceil(2) } else { burst }) {
                for numbers in &mut workers {
                    let first = numbers.take(count);
                    assert!(given.insert(first) && first >= 5 * page_events);
                    assert_eq!(first / page_events, (first + u64::from(count) - 1) / page_events);
                    assert!(first / page_events < numbers.page_behind());
                }
            }
        }
    }

    #[test]
    fn fates_and_sights_do_not_touch_each_other() {
        let mut ledger = Ledger::new(4);
        ledger.mark(0, 3, Fate::Acknowledged);
        ledger.mark(3, 1, Fate::Refused);
        ledger.mark(9, 2, Fate::Unknown);
        let mut other = Ledger::new(4);
        other.mark(5, 1, Fate::Acknowledged);
        ledger.absorb(other);
        assert_eq!(ledger.see(1), Some((Fate::Acknowledged, false)));
        assert_eq!(ledger.see(2), Some((Fate::Acknowledged, false)));
        for _ in 0..3 {
            ledger.see(2);
        }
        assert_eq!(ledger.see(9), Some((Fate::Unknown, false)));
        assert_eq!(ledger.see(8), Some((Fate::Unsent, false)));
        assert_eq!(ledger.see(12), None);
        assert_eq!(ledger.see(u64::MAX), None);
        let entries: Vec<_> = ledger.entries().collect();
        assert_eq!(
            entries,
            [
                (0, Fate::Acknowledged, 0),
                (1, Fate::Acknowledged, 1),
                (2, Fate::Acknowledged, 2),
                (3, Fate::Refused, 0),
                (5, Fate::Acknowledged, 0),
                (8, Fate::Unsent, 1),
                (9, Fate::Unknown, 1),
                (10, Fate::Unknown, 0),
            ]
        );
    }

    #[test]
    fn a_hundred_million_events_take_fifty_megabytes() {
        let page = page_events(1);
        assert_eq!(100_000_000_u64.div_ceil(page) * page / 2, 50_003_968);
    }
}
