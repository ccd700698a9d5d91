//! The snapshot: totals, and the newest events; of all there is, or of what is asked for.

use std::io::Write;

use super::count::{Ask, Totals, count};
use super::files::{Gaps, Log};
use super::readers::{Limit, Stop};
use crate::event::StoredEvent;
use crate::ingest::{View, ranked};

/// The snapshot of everything as JSON: `{"total","by_event":[{"event","count"}],"last_events":[…],"file_size_bytes"}`, with
/// the newest `limit` events of the recent window, newest first. Nothing is read for it.
///
/// `total` is the sum of the counts shown, and the events are the last of those counted, whatever is stored meanwhile.
pub fn snapshot(view: &View, limit: usize) -> Vec<u8> {
    let mut shown = Shown::default();
    let window = view.recent().lock();
    let counts = view.counters().all();
    window.newest(limit, |line| shown.push(line));
    drop(window);
    shown.render(&ranked(counts), view.live_bytes(), None)
}

/// The snapshot of what is asked for, over all the log ever had, in the same shape: the counts by the summaries, also of files
/// that have gone; the newest `limit` events of the files that are there, read backwards, those without any passed over.
///
/// Where a file that has to be read cannot be, or the time is over before `limit` events are found, `"complete":false` and a
/// `"reason"` say so.
///
/// # Errors
/// [`Stop`]: not everything is counted, or it is too costly to find the newest.
pub fn filtered_snapshot(view: &View, ask: &Ask, limit: usize, time: &Limit) -> Result<Vec<u8>, Stop> {
    let log = Log::now(view);
    let mut gaps = Gaps::default();
    let mut totals = Totals::new(view.names_max());
    // How many there are in each file.
    let mut there = Vec::new();
    for part in log.parts() {
        let mut found = 0;
        count(part, ask, time, &mut gaps, &mut |name, cells| {
            found += totals.add(name, cells);
        })?;
        there.push(found);
    }
    let mut newest = Vec::new();
    for (part, there) in log.parts().rev().zip(there.into_iter().rev()) {
        let wants = |line: &[u8]| StoredEvent::of_line(line).is_some_and(|event| ask.wants(&event));
        match part.newest((limit, there), time, &mut gaps, &mut newest, wants) {
            Ok(()) => {}
            Err(Stop::Costly) => return Err(Stop::Costly),
            Err(Stop::Late) => {
                let reason =
                    "The time (METRICS_QUERY_TIMEOUT) was over before the newest events were all found.";
                gaps.add(|| reason.into());
                break;
            }
        }
    }
    let mut shown = Shown::default();
    newest.iter().for_each(|line| shown.push(line));
    Ok(shown.render(&totals.ranking(), log.live_bytes(), gaps.reason()))
}

/// Events as JSON, with commas between.
#[derive(Default)]
struct Shown {
    events: Vec<u8>,
}

impl Shown {
    fn push(&mut self, line: &[u8]) {
        if !self.events.is_empty() {
            self.events.push(b',');
        }
        self.events.extend_from_slice(line);
    }

    fn render(&self, ranking: &[(Box<[u8]>, u64)], file_size: u64, gap: Option<&str>) -> Vec<u8> {
        let total: u64 = ranking.iter().map(|(_, count)| count).sum();
        let mut body = Vec::with_capacity(64 * (ranking.len() + 2) + self.events.len());
        let mut put =
            |parts: std::fmt::Arguments<'_>| body.write_fmt(parts).expect("a vector takes everything");
        put(format_args!("{{\"total\":{total},\"by_event\":["));
        for (position, (name, count)) in ranking.iter().enumerate() {
            // The names are JSON text already.
            let name = String::from_utf8_lossy(name);
            let comma = if position == 0 { "" } else { "," };
            put(format_args!("{comma}{{\"event\":\"{name}\",\"count\":{count}}}"));
        }
        body.extend_from_slice(b"],\"last_events\":[");
        body.extend_from_slice(&self.events);
        write!(body, "],\"file_size_bytes\":{file_size}").expect("a vector takes everything");
        put_gap(gap, &mut body);
        body.push(b'}');
        body
    }
}

/// Says that an answer is not complete, if it is not.
pub(super) fn put_gap(gap: Option<&str>, body: &mut Vec<u8>) {
    if let Some(reason) = gap {
        let reason = serde_json::to_string(reason).expect("a text is JSON");
        write!(body, ",\"complete\":false,\"reason\":{reason}").expect("a vector takes everything");
    }
}
