//! A long stream of events is taken in constant memory.

mod common;

use std::io::Write;

use common::http::{self, BATCH};
use common::server::{Launch, Server};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

/// A writer that sends each piece as a chunk.
struct Chunks<'a>(&'a mut http::Client);

impl Write for Chunks<'_> {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        if !piece.is_empty() {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            self.0.send(&chunk)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sends so many megabytes of events, packed and in chunks, and gives how many were stored.
fn stream(server: &Server, megabytes: usize) -> u64 {
    let mut client = server.connect();
    let headers = [("Transfer-Encoding", "chunked"), ("Content-Encoding", "gzip")];
    client
        .send(&http::head("POST", &format!("{BATCH}?partial=true"), &headers))
        .unwrap();
    let event = format!(
        "{{\"visitor_id\":\"visitor-1\",\"event\":\"view\",\"metadata\":{{\"filler\":\"{}\"}}}}\n",
        "x".repeat(940)
    );
    let mut packed = GzEncoder::new(Chunks(&mut client), Compression::fast());
    for _ in 0..megabytes * 1000 {
        packed.write_all(event.as_bytes()).unwrap();
    }
    packed.finish().unwrap();
    client.send(b"0\r\n\r\n").unwrap();
    let answer = client.answer().expect(202).json();
    assert_eq!(answer["rejected"], json!(0));
    answer["stored"].as_u64().unwrap()
}

/// The most memory the server has had, in KiB.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_memory_for_a_packed_stream_does_not_grow_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path())
        .set("METRICS_BATCH_BYTES_MAX", "1GiB")
        .set("METRICS_INFLIGHT_BYTES_MAX", "1GiB")
        // What the journal maps counts as memory, and how much that is depends on the disk.
        .set("METRICS_JOURNAL_BYTES_MAX", "32MiB")
        .set("METRICS_ENQUEUE_TIMEOUT", "30s")
        .start();
    assert_eq!(stream(&server, 50), 50_000);
    let before = peak(&server);
    assert_eq!(stream(&server, 400), 400_000);
    let after = peak(&server);
    // All of it would be 400,000 KiB.
    assert!(after < before + 50_000, "{before} KiB, then {after} KiB");
}
