//! What reads must answer, found the slow way: every line of every file parsed, every event looked at for every question.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::log;
use super::vectors::instant;

/// An event of the log.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub visitor: String,
    /// Microseconds since 1970.
    pub at: i64,
    pub line: Value,
}

/// All events of the log, in its order.
pub fn events(path: &std::path::Path) -> Vec<Event> {
    let event = |line: &String| {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        Event {
            name: line["event"].as_str().unwrap().to_owned(),
            visitor: line["visitor_id"].as_str().unwrap().to_owned(),
            at: instant(line["timestamp"].as_str().unwrap()).unwrap(),
            line,
        }
    };
    log::lines(path).iter().map(event).collect()
}

/// Counts as a snapshot shows them: the largest first, equal ones by the spelling of their names.
fn by_event(counts: BTreeMap<&str, u64>) -> Vec<Value> {
    let mut counts: Vec<(String, &str, u64)> = counts
        .into_iter()
        .map(|(name, count)| (serde_json::to_string(name).unwrap(), name, count))
        .collect();
    counts.sort_by(|a, b| b.2.cmp(&a.2).then(a.0.as_bytes().cmp(b.0.as_bytes())));
    let shown = |(_, name, count)| json!({"event": name, "count": count});
    counts.into_iter().map(shown).collect()
}

/// A snapshot, but for `file_size_bytes`.
pub fn snapshot(events: &[Event], names: &[&str], since: Option<i64>, limit: usize) -> Value {
    let wanted = |event: &&Event| {
        (names.is_empty() || names.contains(&&*event.name)) && since.is_none_or(|since| event.at >= since)
    };
    let matches: Vec<&Event> = events.iter().filter(wanted).collect();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &matches {
        *counts.entry(&event.name).or_default() += 1;
    }
    let newest: Vec<&Value> = matches
        .iter()
        .rev()
        .take(limit)
        .map(|event| &event.line)
        .collect();
    json!({"total": matches.len(), "by_event": by_event(counts), "last_events": newest})
}

/// The counts of a time series from `begin`, in buckets of so many minutes.
pub fn buckets(events: &[Event], name: &str, (begin, minutes, count): (i64, i64, usize)) -> Vec<u64> {
    let mut buckets = vec![0; count];
    for event in events.iter().filter(|event| event.name == name) {
        let bucket = (event.at - begin).div_euclid(minutes * 60_000_000);
        if let Some(bucket) = usize::try_from(bucket).ok().and_then(|at| buckets.get_mut(at)) {
            *bucket += 1;
        }
    }
    buckets
}

/// How far each visitor came through the steps, and the value of `split` they are counted under.
pub fn funnel(
    events: &[Event],
    steps: &[&str],
    split: &str,
    (since, until): (i64, i64),
) -> BTreeMap<String, (usize, Option<Value>)> {
    let mut by_visitor: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events
        .iter()
        .filter(|event| since <= event.at && event.at < until)
    {
        by_visitor.entry(&event.visitor).or_default().push(event);
    }
    let mut reached = BTreeMap::new();
    for (visitor, mut events) in by_visitor {
        // A stable sort: at the same time the order of the log counts.
        events.sort_by_key(|event| event.at);
        let mut done = 0;
        for event in &events {
            if done < steps.len() && event.name == steps[done] {
                done += 1;
            }
        }
        let value = events
            .iter()
            .filter(|event| event.name == steps[0])
            .map(|event| &event.line["metadata"][split])
            .find(|value| value.is_string() || value.is_number() || value.is_boolean());
        if done > 0 {
            reached.insert(visitor.to_owned(), (done, value.cloned()));
        }
    }
    reached
}
