//! What the event stage promises beside its answers: an ordinary request allocates nothing once the
//! buffers have grown to it.

#[path = "common/counting.rs"]
mod counting;

use counting::{Counting, allocations_here};
use floodgate::event::{Lines, Parser, Room, Take, Timestamp};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn event(number: usize) -> String {
    let names = ["page_view", "link_click", "scr\\u006fll", "formulaire envoyé"];
    let times = [
        "\"2025-10-09T12:34:56.123Z\"",
        "1760000000123",
        "\"2025-10-09 12:34:56+02:00\"",
        "1760000000",
    ];
    format!(
        r#"{{"visitor_id":"visitor-{number:06}","event":"{}","timestamp":{},"metadata":{{"href":"https://example.com/?a={number}","list":[1.5,null,{{"b":"\n"}}]}}}}"#,
        names[number % 4],
        times[number / 4 % 4],
    )
}

#[test]
fn ordinary_requests_allocate_nothing_once_warm() {
    let events: Vec<String> = (0..1_000).map(event).collect();
    let text_lines = events.join("\r\n");
    let array = format!("[{}]", events.join(" ,\n"));
    let mut parser = Parser::new(32 << 10);
    let (mut lines, mut gathered) = (Lines::new(), Vec::new());
    let agent = Some(&b"Mozilla/5.0 (X11; Linux x86_64)"[..]);
    let mut round = |parser: &mut Parser, now| {
        lines.clear();
        for event in &events {
            parser.single(event.as_bytes(), agent, now, &mut lines).unwrap();
        }
        for body in [&text_lines, &array] {
            parser
                .batch(
                    body.as_bytes(),
                    (agent, now),
                    Take::All,
                    Room {
                        gathered: &mut gathered,
                        keep: &mut |_| true,
                    },
                    &mut lines,
                )
                .unwrap()
                .unwrap();
        }
        assert_eq!(lines.count(), 3_000);
    };
    round(&mut parser, Some(Timestamp::now()));
    round(&mut parser, Some(Timestamp::now()));
    let before = allocations_here();
    for _ in 0..5 {
        round(&mut parser, Some(Timestamp::now()));
    }
    assert_eq!(allocations_here() - before, 0);
}
