//! The sealed files of a log, and events enough to have some.

use std::fs;
use std::path::{Path, PathBuf};

use super::http::{self, BATCH};
use super::server::{Launch, Server};
use super::{PATIENCE, log};

/// What makes a server seal a file after each batch of [`Feed`].
pub fn sealing_often(launch: Launch) -> Launch {
    launch
        .set("METRICS_ROTATE_BYTES", "64KiB")
        .set("METRICS_ROTATE_REST", "0s")
}

/// Posts events, each with a number of its own.
#[derive(Debug, Default)]
pub struct Feed {
    posted: u64,
}

/// Events of a batch: a good 64 KiB of lines.
const EVENTS_A_BATCH: u64 = 200;

impl Feed {
    /// Posts `count` batches, each of which fills a file, and waits until they are in the log.
    pub fn batches(&mut self, server: &Server, count: u64) {
        for _ in 0..count {
            let event = |number| {
                // Digits that compress a little, as events do.
                let note = format!(
                    "{:x}",
                    u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
                );
                format!(
                    r#"{{"visitor_id":"visitor-{number:08}","event":"view","metadata":{{"note":"{}"}}}}"#,
                    note.repeat(8)
                )
            };
            let numbers = self.posted..self.posted + EVENTS_A_BATCH;
            let body: String = numbers.map(|number| event(number) + "\n").collect();
            let request = http::request("POST", BATCH, &[("X-Ack", "written")], body.as_bytes());
            server.connect().call(&request).expect(202);
            self.posted += EVENTS_A_BATCH;
        }
    }

    /// Fails unless `texts`, in order, are the lines of all events that were posted, once each.
    pub fn check<'t>(&self, texts: impl IntoIterator<Item = &'t [u8]>) {
        let lines = texts.into_iter().flat_map(|text| {
            assert!(text.is_empty() || text.ends_with(b"\n"), "whole lines");
            text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
        });
        let mut next = 0;
        for line in lines {
            let event = log::event(std::str::from_utf8(line).expect("the log is UTF-8"));
            assert_eq!(
                event["visitor_id"],
                format!("visitor-{next:08}"),
                "in order, once each"
            );
            next += 1;
        }
        assert_eq!(next, self.posted);
    }

    /// How many events were posted.
    pub fn posted(&self) -> u64 {
        self.posted
    }
}

/// A sealed file's names, by what they end with.
fn names(directory: &Path, end: &str) -> Vec<String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(_) => return Vec::new(),
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a directory can be read").file_name())
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.starts_with("metrics-") && name.ends_with(end))
        .collect();
    names.sort();
    names
}

/// The directory of a server's log.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn of(launch: &Launch) -> Self {
        Self(launch.log().parent().expect("a log has a directory").to_owned())
    }

    /// Sealed files that are not compressed.
    pub fn plain(&self) -> Vec<String> {
        names(&self.0, ".jsonl")
    }

    /// Compressed files.
    pub fn compressed(&self) -> Vec<String> {
        names(&self.archive(), ".jsonl.zst")
    }

    /// Summaries.
    pub fn summaries(&self) -> Vec<String> {
        names(&self.0, ".summary.json")
    }

    /// Marks of files that are in the archive.
    pub fn marks(&self) -> Vec<String> {
        names(&self.0, ".archived.json")
    }

    /// Everything whose name ends with `end`, here and in the archive.
    pub fn ending(&self, end: &str) -> Vec<String> {
        [names(&self.0, end), names(&self.archive(), end)].concat()
    }

    pub fn archive(&self) -> PathBuf {
        self.0.join("archive")
    }

    /// The lines of all files, in order: each sealed one plain or from the archive, and the live one.
    pub fn texts(&self) -> Vec<Vec<u8>> {
        let there = |file: &PathBuf| log::contents(file).expect("it is there");
        for name in self.plain() {
            // While both are there they are the same.
            let twin = log::contents(&self.archive().join(format!("{name}.zst")));
            assert!(
                twin.is_none_or(|twin| twin == there(&self.0.join(&name))),
                "both are the same"
            );
        }
        log::files(&self.0.join("metrics.jsonl"))
            .iter()
            .map(there)
            .collect()
    }
}

/// Waits for something that has its own, longer time.
pub fn await_within(times: u32, what: &str, mut look: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE * times;
    while !look() {
        assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
