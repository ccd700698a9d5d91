//! Counting what is asked for: by the summaries, and where they do not say it, by reading.
//!
//! A summary has events by name and minute. It does not say
//!
//! - which events of a minute lie on which side of a time that cuts it: the file is read, if it has such a minute, for
//!   that minute only, and no further than its last event;
//! - minutes at all, where there were too many of them: the file is read;
//! - names that came after the bound on names, which it has together under [`OTHER`]: the file is read when such a name
//!   is asked for. Where no name is asked for they stay together.
//!
//! So what comes out is exact, unless a file that has to be read has gone or is damaged, which is told (`Gaps`).

use std::cmp::Ordering;
use std::collections::HashMap;

use super::files::{Gaps, Part};
use super::readers::{Limit, Stop};
use crate::event::{StoredEvent, Timestamp};
use crate::ingest::{OTHER, ranked};
use crate::log::summary::{NameCounts, Summary};

const MINUTE: i64 = 60_000_000;
/// What it costs to look at a name of a summary, and to add up one of its minutes, in bytes of lines that are read meanwhile.
const NAME_COST: usize = 128;
const CELL_COST: usize = 8;

/// Counts by minute; `None` is the minute of events without a time, or of a total.
pub(super) type Cells = [(Option<i64>, u64)];

/// Which events are asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Their names, as lines spell them; `None`: all.
    pub names: Option<Vec<Box<[u8]>>>,
    /// Not before that time; `None`: whenever, even without a time.
    pub since: Option<Timestamp>,
    /// Before that time.
    pub until: Option<Timestamp>,
}

/// The time that is asked for, in minutes.
struct Minutes {
    /// Those that lie in it wholly: from, and before.
    whole: (i64, i64),
    /// Those it has a part of.
    cut: [Option<i64>; 2],
}

impl Ask {
    /// Whether events of that name are asked for.
    pub fn wants_name(&self, name: &[u8]) -> bool {
        self.names
            .as_ref()
            .is_none_or(|names| names.iter().any(|wanted| **wanted == *name))
    }

    /// Whether that event is asked for.
    pub fn wants(&self, event: &StoredEvent<'_>) -> bool {
        self.wants_name(&event.name) && (!self.is_timed() || event.at().is_some_and(|at| self.wants_time(at)))
    }

    /// Whether that time is asked for.
    pub fn wants_time(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }

    /// Whether a file can have anything that is asked for, by its times.
    pub fn reaches(&self, summary: &Summary) -> bool {
        let Some((first, last)) = summary.first_minute.zip(summary.last_minute) else {
            return !self.is_timed();
        };
        self.since.is_none_or(|since| last >= since.minute())
            && self
                .until
                .is_none_or(|until| first.saturating_mul(MINUTE) < until.micros)
    }

    /// Whether a file can have anything that is asked for, by its names and minutes.
    pub fn may_have(&self, summary: &Summary) -> bool {
        let minutes = self.minutes();
        self.reaches(summary)
            && summary.counts.iter().any(|counts| {
                let name = counts.name();
                (name == OTHER || self.wants_name(name)) && Ask::touches(counts, minutes.as_ref())
            })
    }

    /// Whether some of these events may lie in the time.
    fn touches(counts: &NameCounts, minutes: Option<&Minutes>) -> bool {
        let (Some(minutes), Some(cells)) = (minutes, counts.minutes.as_deref()) else {
            return true;
        };
        !in_minutes(cells, minutes).is_empty() || minutes.cut_events(cells) > 0
    }

    fn is_timed(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    fn minutes(&self) -> Option<Minutes> {
        let is_cut = |at: &Timestamp| at.micros.rem_euclid(MINUTE) != 0;
        let cut = |at: Option<Timestamp>| at.filter(is_cut).map(Timestamp::minute);
        let (first, last) = (cut(self.since), cut(self.until));
        self.is_timed().then(|| Minutes {
            whole: (
                self.since
                    .map_or(i64::MIN, |since| since.minute() + i64::from(is_cut(&since))),
                self.until.map_or(i64::MAX, Timestamp::minute),
            ),
            // One minute may be cut at both ends.
            cut: [first, last.filter(|_| last != first)],
        })
    }
}

/// Calls `each` with what is counted of a file: a name, and how many of its events there are in which minutes (where no time
/// is asked for: how many there are). A name may come several times.
pub(super) fn count(
    part: Part<'_>,
    ask: &Ask,
    limit: &Limit,
    gaps: &mut Gaps,
    each: &mut dyn FnMut(&[u8], &Cells),
) -> Result<(), Stop> {
    let summary = part.summary();
    if summary.events == 0 || !ask.reaches(summary) {
        return Ok(());
    }
    limit.spend(NAME_COST * summary.counts.len())?;
    let minutes = ask.minutes();
    // Events of minutes that are cut; and whether there is more that has to be read.
    let (mut cut, mut is_read) = (0, false);
    let (mut asked_found, mut has_other) = (0, false);
    for counts in &summary.counts {
        let name = counts.name();
        if ask.names.is_some() && name == OTHER {
            // Those that were lumped together, and perhaps events that are truly called so.
            has_other = Ask::touches(counts, minutes.as_ref());
            continue;
        }
        if !ask.wants_name(name) {
            continue;
        }
        asked_found += 1;
        match (&minutes, counts.minutes.as_deref()) {
            (None, _) => each(name, &[(None, counts.total)]),
            (Some(_), None) => is_read = true,
            (Some(minutes), Some(cells)) => {
                let whole = in_minutes(cells, minutes);
                limit.spend(CELL_COST * whole.len())?;
                if !whole.is_empty() {
                    each(name, whole);
                }
                cut += minutes.cut_events(cells);
            }
        }
    }
    let is_all_found = ask.names.as_ref().is_none_or(|names| asked_found == names.len());
    is_read |= has_other && !is_all_found;
    if !is_read && cut == 0 {
        return Ok(());
    }
    let mut reading = Reading::new(summary, ask, minutes);
    if is_read {
        return part.read(limit, gaps, |_, line| {
            reading.line(line, each);
            true
        });
    }
    // When all events of the minutes that are cut have been met, there is nothing more to be found. In a log that is about
    // in the order of time they are near the end, or the beginning, as far as there are few events on that side.
    let mut goes_on = |line: &[u8]| {
        cut -= u64::from(reading.line(line, each)).min(cut);
        cut > 0
    };
    match is_nearer_the_end(summary, ask) {
        true => part.read_from_end(limit, gaps, goes_on),
        false => part.read(limit, gaps, |_, line| goes_on(line)),
    }
}

/// Whether fewer events lie behind the minute that is cut than before it.
fn is_nearer_the_end(summary: &Summary, ask: &Ask) -> bool {
    let Some(edge) = ask.since.or(ask.until).map(Timestamp::minute) else {
        return true;
    };
    let (mut before, mut behind) = (0, 0);
    let cells = summary
        .counts
        .iter()
        .filter_map(|counts| counts.minutes.as_deref());
    for (minute, count) in cells.flatten() {
        match minute.cmp(&Some(edge)) {
            Ordering::Less => before += count,
            Ordering::Equal => {}
            Ordering::Greater => behind += count,
        }
    }
    behind <= before
}

/// Counts by reading what a summary does not say.
struct Reading<'a> {
    ask: &'a Ask,
    minutes: Option<Minutes>,
    /// The names that the summary counts apart, and whether by minute.
    listed: HashMap<&'a [u8], bool>,
}

impl<'a> Reading<'a> {
    fn new(summary: &'a Summary, ask: &'a Ask, minutes: Option<Minutes>) -> Reading<'a> {
        let listed = summary.counts.iter();
        let listed = listed.map(|counts| (counts.name(), counts.minutes.is_some()));
        Reading {
            ask,
            minutes,
            listed: listed
                .filter(|(name, _)| ask.names.is_none() || *name != OTHER)
                .collect(),
        }
    }

    /// Counts an event that the summary does not count. Whether the line is one of a minute that is cut, which the summary has
    /// a count of.
    fn line(&mut self, line: &[u8], each: &mut dyn FnMut(&[u8], &Cells)) -> bool {
        let ask = self.ask;
        let Some(event) = StoredEvent::of_line(line).filter(|event| ask.wants_name(&event.name)) else {
            return false;
        };
        let name = match ask.names.is_some() || self.listed.contains_key(&*event.name) {
            true => &*event.name,
            false => OTHER,
        };
        let by_minute = self.listed.get(name).copied();
        let Some(minutes) = &self.minutes else {
            if by_minute.is_none() {
                each(name, &[(None, 1)]);
            }
            return false;
        };
        let Some(at) = event.at() else {
            return false;
        };
        let is_known = by_minute == Some(true);
        if ask.wants_time(at) && !(is_known && minutes.has_whole(at.minute())) {
            each(name, &[(Some(at.minute()), 1)]);
        }
        is_known && minutes.cut.contains(&Some(at.minute()))
    }
}

impl Minutes {
    fn has_whole(&self, minute: i64) -> bool {
        self.whole.0 <= minute && minute < self.whole.1
    }

    /// How many events there are in minutes that are cut.
    fn cut_events(&self, cells: &Cells) -> u64 {
        let count = |minute: &Option<i64>| {
            let found = cells.binary_search_by_key(minute, |cell| cell.0);
            found.map_or(0, |at| cells[at].1)
        };
        self.cut.iter().filter(|minute| minute.is_some()).map(count).sum()
    }
}

/// The cells, which are in order, of minutes that lie in the time wholly.
fn in_minutes<'c>(cells: &'c Cells, minutes: &Minutes) -> &'c Cells {
    let begin = cells.partition_point(|cell| cell.0 < Some(minutes.whole.0));
    let end = cells.partition_point(|cell| cell.0 < Some(minutes.whole.1));
    &cells[begin..end.max(begin)]
}

/// Counts by name, of as many names as are told apart, and of the others together.
pub(super) struct Totals {
    names_max: usize,
    by_name: HashMap<Box<[u8]>, u64>,
}

impl Totals {
    /// Of `names_max` names.
    pub fn new(names_max: usize) -> Totals {
        Totals {
            names_max,
            by_name: HashMap::new(),
        }
    }

    /// Adds what was counted.
    pub fn add(&mut self, name: &[u8], cells: &Cells) -> u64 {
        let count: u64 = cells.iter().map(|cell| cell.1).sum();
        if let Some(total) = self.by_name.get_mut(name) {
            *total += count;
            return count;
        }
        let name = match self.by_name.len() < self.names_max {
            true => name,
            false => OTHER,
        };
        *self.by_name.entry(name.into()).or_default() += count;
        count
    }

    /// The counts, largest first, equal ones by name.
    pub fn ranking(self) -> Vec<(Box<[u8]>, u64)> {
        let mut counts: Vec<_> = self.by_name.into_iter().collect();
        counts.retain(|(_, count)| *count > 0);
        ranked(counts)
    }
}
