//! The snapshot: lifetime totals, and the newest events.

use std::io::Write;

use crate::ingest::View;

/// The snapshot as JSON: `{"total","by_event":[{"event","count"}],"last_events":[…],"file_size_bytes"}`, with the newest
/// `limit` events of the recent window, newest first.
///
/// `total` is the sum of the counts shown, so the two agree whatever is stored meanwhile.
pub fn snapshot(view: &View, limit: usize) -> Vec<u8> {
    let ranking = view.counters().ranking();
    let total: u64 = ranking.iter().map(|(_, count)| count).sum();
    let mut body = Vec::with_capacity(64 * (ranking.len() + 1) + 320 * limit);
    let mut put = |parts: std::fmt::Arguments<'_>| body.write_fmt(parts).expect("a vector takes everything");
    put(format_args!("{{\"total\":{total},\"by_event\":["));
    for (position, (name, count)) in ranking.iter().enumerate() {
        // The names are JSON text already.
        let name = String::from_utf8_lossy(name);
        let comma = if position == 0 { "" } else { "," };
        put(format_args!("{comma}{{\"event\":\"{name}\",\"count\":{count}}}"));
    }
    body.extend_from_slice(b"],\"last_events\":[");
    let before = body.len();
    view.recent().newest(limit, |line| {
        if body.len() > before {
            body.push(b',');
        }
        body.extend_from_slice(line);
    });
    let file_size = view.live_bytes();
    body.write_fmt(format_args!("],\"file_size_bytes\":{file_size}}}"))
        .expect("a vector takes everything");
    body
}
