//! What the event stage promises beside its answers: an ordinary request allocates nothing once the
//! buffers have grown to it.
//!
//! Alone in its file: the allocator counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use floodgate::event::{Lines, Parser, Timestamp};

/// The system's allocator, counting what is asked of it.
struct Counting;

/// Calls that gave or moved memory. Written by the one test here and read by it: no order is needed.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

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
    let mut lines = Lines::new();
    let agent = Some(&b"Mozilla/5.0 (X11; Linux x86_64)"[..]);
    let mut round = |parser: &mut Parser, now| {
        lines.clear();
        for event in &events {
            parser.single(event.as_bytes(), agent, now, &mut lines).unwrap();
        }
        parser
            .batch(text_lines.as_bytes(), agent, now, &mut lines)
            .unwrap();
        parser.batch(array.as_bytes(), agent, now, &mut lines).unwrap();
        assert_eq!(lines.count(), 3_000);
    };
    round(&mut parser, Timestamp::now());
    round(&mut parser, Timestamp::now());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..5 {
        round(&mut parser, Timestamp::now());
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
