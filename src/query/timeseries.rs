//! Time series: how many events there were in each interval, by the time that the events say.
//!
//! Buckets are whole minutes, so summaries say it all: of 30 days and 100 million events with ten names that are some 430,000
//! counts in memory, added up twice (who is at the top, then their buckets). Only files whose summary lacks minutes,
//! or lumps names together of which one is asked for, are read.

use std::collections::HashMap;
use std::io::Write;

use super::count::{Ask, Cells, Names, Nodes, Totals, count};
use super::files::{Gaps, Log};
use super::readers::{Limit, Stop};
use super::snapshot::put_gap;
use crate::event::Timestamp;
use crate::ingest::{OTHER, View};

/// Most buckets of an answer: a week of minutes.
pub const BUCKETS_MAX: i64 = 10_080;
/// Names that have a series of their own where none is asked for.
pub const SERIES_TOP: usize = 10;

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// `1m`
    Minute,
    /// `5m`
    FiveMinutes,
    /// `1h`
    Hour,
    /// `1d`, from midnight UTC.
    Day,
}

impl Interval {
    /// All of them.
    pub const ALL: [Interval; 4] = [
        Interval::Minute,
        Interval::FiveMinutes,
        Interval::Hour,
        Interval::Day,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Interval::Minute => "1m",
            Interval::FiveMinutes => "5m",
            Interval::Hour => "1h",
            Interval::Day => "1d",
        }
    }

    /// Its minutes.
    pub fn minutes(self) -> i64 {
        match self {
            Interval::Minute => 1,
            Interval::FiveMinutes => 5,
            Interval::Hour => 60,
            Interval::Day => 1440,
        }
    }
}

/// Buckets one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    interval: Interval,
    /// The minute in which the first begins, from the Unix epoch.
    begin: i64,
    count: i64,
}

/// Why there are no such buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBuckets {
    /// There are none between the two times.
    Empty,
    /// There are more than [`BUCKETS_MAX`]: so many.
    TooMany(i64),
}

impl Buckets {
    /// Those of a time, which is rounded to whole ones: `since` down (`None`: 60 of them), `until` up.
    ///
    /// # Errors
    /// [`NoBuckets`].
    pub fn new(interval: Interval, since: Option<Timestamp>, until: Timestamp) -> Result<Buckets, NoBuckets> {
        let length = interval.minutes();
        let is_cut = until.micros.rem_euclid(length * 60_000_000) != 0;
        let end = until.minute().div_euclid(length) + i64::from(is_cut);
        let begin = since.map_or(end - 60, |since| since.minute().div_euclid(length));
        match end - begin {
            ..=0 => Err(NoBuckets::Empty),
            count if count > BUCKETS_MAX => Err(NoBuckets::TooMany(count)),
            count => Ok(Buckets {
                interval,
                begin: begin * length,
                count,
            }),
        }
    }

    fn time(&self, bucket: i64) -> Timestamp {
        let minute = self.begin + bucket * self.interval.minutes();
        Timestamp {
            micros: minute * 60_000_000,
        }
    }

    fn zeros(&self) -> Vec<u64> {
        vec![0; self.count as usize]
    }

    fn add(&self, cells: &Cells, to: &mut [u64]) {
        for (minute, count) in cells {
            let minute = minute.expect("where a time is asked for, each count has its minute");
            to[((minute - self.begin) / self.interval.minutes()) as usize] += count;
        }
    }
}

/// The time series as JSON, of `names` or, without any, of those at the top and the rest; from `nodes` only, where there are any.
///
/// # Errors
/// [`Stop`]: not everything is counted.
pub fn timeseries(
    view: &View,
    buckets: Buckets,
    names: Option<Names>,
    nodes: Option<Nodes>,
    time: &Limit,
) -> Result<Vec<u8>, Stop> {
    let log = Log::now(view);
    let mut gaps = Gaps::default();
    let mut ask = Ask {
        names,
        since: Some(buckets.time(0)),
        until: Some(buckets.time(buckets.count)),
        nodes,
    };
    let mut rest = None;
    if ask.names.is_none() {
        let mut totals = Totals::new(view.names_max());
        let mut all = buckets.zeros();
        for part in log.parts() {
            count(part, &ask, time, &mut gaps, &mut |name, cells| {
                totals.add(name, cells);
                buckets.add(cells, &mut all);
            })?;
        }
        let ranking = totals.ranking();
        let apart = ranking.iter().filter(|(name, _)| **name != *OTHER);
        let top: Vec<_> = apart.take(SERIES_TOP).map(|(name, _)| name.clone()).collect();
        rest = Some((ranking.len() - top.len(), all)).filter(|(names, _)| *names > 0);
        ask.names = Some(top);
    }
    // By their names, also those at the top: a file may have lumped one of them together with others.
    let names = ask.names.as_deref().unwrap_or_default();
    let places = names.iter().enumerate().map(|(place, name)| (&**name, place));
    let places: HashMap<&[u8], usize> = places.collect();
    let mut series = vec![buckets.zeros(); names.len()];
    for part in log.parts() {
        count(part, &ask, time, &mut gaps, &mut |name, cells| {
            buckets.add(cells, &mut series[places[name]]);
        })?;
    }
    if let Some((_, rest)) = &mut rest {
        let apart = series.iter();
        apart.for_each(|counts| {
            rest.iter_mut()
                .zip(counts)
                .for_each(|(rest, count)| *rest = rest.saturating_sub(*count))
        });
    }
    let series: Vec<_> = names.iter().map(|name| &**name).zip(series).collect();
    Ok(render(&buckets, &series, rest, gaps.reason()))
}

fn render(
    buckets: &Buckets,
    series: &[(&[u8], Vec<u64>)],
    rest: Option<(usize, Vec<u64>)>,
    gap: Option<&str>,
) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 * (series.len() + 1) * buckets.count as usize + 256);
    let counted = series.iter().map(|(_, counts)| counts);
    let counted = counted.chain(rest.iter().map(|(_, counts)| counts));
    let total: u64 = counted.map(|counts| counts.iter().sum::<u64>()).sum();
    put(
        &mut body,
        format_args!(
            "{{\"interval\":\"{}\",\"since\":\"{}\",\"until\":\"{}\",\"buckets\":{},\"total\":{total},\"series\":[",
            buckets.interval.name(),
            buckets.time(0),
            buckets.time(buckets.count),
            buckets.count,
        ),
    );
    for (position, (name, counts)) in series.iter().enumerate() {
        let comma = if position == 0 { "" } else { "," };
        // The names are JSON text already.
        let name = String::from_utf8_lossy(name);
        put(&mut body, format_args!("{comma}{{\"event\":\"{name}\","));
        put_counts(counts, &mut body);
    }
    body.extend_from_slice(b"],\"rest\":");
    match rest {
        Some((names, counts)) => {
            put(&mut body, format_args!("{{\"names\":{names},"));
            put_counts(&counts, &mut body);
        }
        None => body.extend_from_slice(b"null"),
    }
    put_gap(gap, &mut body);
    body.push(b'}');
    body
}

/// `"total":…,"counts":[…]}`
fn put_counts(counts: &[u64], body: &mut Vec<u8>) {
    let total: u64 = counts.iter().sum();
    put(body, format_args!("\"total\":{total},\"counts\":["));
    for (position, count) in counts.iter().enumerate() {
        if position > 0 {
            body.push(b',');
        }
        if *count < 10 {
            body.push(b'0' + *count as u8);
        } else {
            put(body, format_args!("{count}"));
        }
    }
    body.extend_from_slice(b"]}");
}

fn put(body: &mut Vec<u8>, parts: std::fmt::Arguments<'_>) {
    body.write_fmt(parts).expect("a vector takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn times_are_rounded_to_whole_buckets() {
        for (interval, since, until, begin, end) in [
            (
                Interval::Minute,
                "2026-11-22T12:00:59.9Z",
                "2026-11-22T12:01:00Z",
                "2026-11-22T12:00:00Z",
                "2026-11-22T12:01:00Z",
            ),
            (
                Interval::Minute,
                "2026-11-22T12:00:00Z",
                "2026-11-22T12:01:00.000001Z",
                "2026-11-22T12:00:00Z",
                "2026-11-22T12:02:00Z",
            ),
            (
                Interval::FiveMinutes,
                "2026-11-22T12:04:00Z",
                "2026-11-22T12:05:01Z",
                "2026-11-22T12:00:00Z",
                "2026-11-22T12:10:00Z",
            ),
            (
                Interval::Hour,
                "1969-12-31T23:59:00Z",
                "1970-01-01T00:00:00Z",
                "1969-12-31T23:00:00Z",
                "1970-01-01T00:00:00Z",
            ),
            (
                Interval::Day,
                "2026-11-22T12:00:00Z",
                "2026-11-23T00:00:01Z",
                "2026-11-22T00:00:00Z",
                "2026-11-24T00:00:00Z",
            ),
        ] {
            let buckets = Buckets::new(interval, Some(at(since)), at(until)).unwrap();
            let (first, last) = (buckets.time(0), buckets.time(buckets.count));
            assert_eq!(
                (first.to_string().as_str(), last.to_string().as_str()),
                (begin, end),
                "{since} {until}"
            );
        }
        let hour = Buckets::new(Interval::Minute, None, at("2026-11-22T12:00:00Z")).unwrap();
        assert_eq!((hour.count, hour.time(0)), (60, at("2026-11-22T11:00:00Z")));
    }

    #[test]
    fn buckets_are_bounded() {
        let since = at("2026-11-01T00:00:00Z");
        let week = Buckets::new(Interval::Minute, Some(since), at("2026-11-08T00:00:00Z")).unwrap();
        assert_eq!(week.count, BUCKETS_MAX);
        let more = Buckets::new(Interval::Minute, Some(since), at("2026-11-08T00:00:00.1Z"));
        assert_eq!(more, Err(NoBuckets::TooMany(BUCKETS_MAX + 1)));
        assert_eq!(
            Buckets::new(Interval::Day, Some(since), since),
            Err(NoBuckets::Empty)
        );
        let ends = (at("0001-01-01T00:00:00Z"), at("9999-12-31T23:59:59Z"));
        assert!(matches!(
            Buckets::new(Interval::Minute, Some(ends.0), ends.1),
            Err(NoBuckets::TooMany(_))
        ));
    }
}
