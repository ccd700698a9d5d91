//! Parse, validate and spell a line, beside simd-json's tape alone over the same bytes: the floor under all of it.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use floodgate::event::{Lines, Parser, Room, Take, Timestamp};

const NAMES: [&str; 5] = ["page_view", "link_click", "scroll", "purchase", "search"];

/// About 230 bytes, as browsers send them.
fn event(number: usize) -> String {
    format!(
        r#"{{"visitor_id":"v-{:08x}","event":"{}","timestamp":"2025-10-09T12:34:56.{:06}Z","metadata":{{"path":"/products/{number}","n":{number},"ok":true}},"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101"}}"#,
        number.wrapping_mul(2_654_435_761) as u32,
        NAMES[number % NAMES.len()],
        number % 1_000_000,
    )
}

fn validate(criterion: &mut Criterion) {
    let now = Timestamp::now();
    let mut parser = Parser::new(32 << 10);
    let (mut lines, mut gathered) = (Lines::new(), Vec::new());
    let events: Vec<String> = (0..1000).map(event).collect();
    let ndjson = events.join("\n");
    let array = format!("[{}]", events.join(","));
    let spaced = ndjson.replace("\":", "\": ").replace(",\"", ", \"");
    let escaped = ndjson.replace("Mozilla", r#"\"Mozilla\""#);

    let mut group = criterion.benchmark_group("validate");
    group.throughput(Throughput::Elements(1));
    group.bench_function("single", |bencher| {
        bencher.iter(|| {
            lines.clear();
            parser
                .single(black_box(events[7].as_bytes()), None, now, &mut lines)
                .unwrap();
        });
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("tape alone, 1000 lines", |bencher| {
        let mut buffers = simd_json::Buffers::new(512);
        let mut tape = simd_json::Tape::null();
        let mut scratch = Vec::new();
        bencher.iter(|| {
            for line in &events {
                scratch.clear();
                scratch.extend_from_slice(line.as_bytes());
                let mut filled = std::mem::replace(&mut tape, simd_json::Tape::null()).reset();
                simd_json::fill_tape(&mut scratch, &mut buffers, &mut filled).unwrap();
                black_box(&filled);
                tape = filled.reset();
            }
        });
    });
    for (name, body) in [
        ("batch of 1000, NDJSON", &ndjson),
        ("batch of 1000, array", &array),
        ("batch of 1000, with a blank between tokens", &spaced),
        ("batch of 1000, with escapes in the user agent", &escaped),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                lines.clear();
                parser
                    .batch(
                        black_box(body.as_bytes()),
                        (None, Some(now)),
                        Take::All,
                        Room {
                            gathered: &mut gathered,
                            keep: &mut |_| true,
                        },
                        &mut lines,
                    )
                    .unwrap()
                    .unwrap();
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    validate(&mut criterion);
    criterion.final_summary();
}
