//! Readers of the log, as a program that tails it would read.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

/// The whole lines of the log; none while there is no file. Panics when the last one is not ended.
pub fn lines(path: &Path) -> Vec<String> {
    split_lines(&bytes(path))
}

/// The log's bytes; none while there is no file.
pub fn bytes(path: &Path) -> Vec<u8> {
    match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("cannot read {}: {error}", path.display()),
    }
}

fn split_lines(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).expect("the log is UTF-8");
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the log ends within a line"
    );
    text.split_terminator('\n').map(str::to_owned).collect()
}

/// The lines of the log as JSON.
pub fn events(path: &Path) -> Vec<Value> {
    lines(path).iter().map(|line| event(line)).collect()
}

/// A line as JSON.
pub fn event(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
}

/// The `visitor_id` of every line.
pub fn visitors(path: &Path) -> Vec<String> {
    let visitor = |event: &Value| {
        event["visitor_id"]
            .as_str()
            .expect("a visitor_id is a string")
            .to_owned()
    };
    events(path).iter().map(visitor).collect()
}

/// Whether the journal holds nothing.
pub fn is_absent_or_empty(path: &Path) -> bool {
    fs::metadata(path).map_or_else(
        |error| error.kind() == ErrorKind::NotFound,
        |metadata| metadata.len() == 0,
    )
}

/// Hands out the lines that were added since the last look.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    offset: u64,
}

impl Reader {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            offset: 0,
        }
    }

    /// The lines added since; panics when the last one is not ended or the file has shrunk.
    pub fn added(&mut self) -> Vec<String> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && self.offset == 0 => return Vec::new(),
            Err(error) => panic!("cannot open {}: {error}", self.path.display()),
        };
        let length = file.metadata().expect("an open file has metadata").len();
        assert!(
            length >= self.offset,
            "the log shrank from {} to {length} bytes",
            self.offset
        );
        file.seek(SeekFrom::Start(self.offset))
            .expect("a file can be sought in");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("the log can be read");
        self.offset += bytes.len() as u64;
        split_lines(&bytes)
    }
}

/// Reads the log to its end over and over, on a thread of its own, and checks the contract with tailers.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    must_stop: Arc<AtomicBool>,
    /// There until it is joined.
    thread: Option<JoinHandle<Vec<u8>>>,
}

impl Follower {
    /// Starts to follow; the file need not be there yet.
    pub fn start(path: &Path) -> Self {
        let must_stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (path, must_stop) = (path.to_owned(), Arc::clone(&must_stop));
            move || follow(&path, &must_stop)
        });
        Self {
            path: path.to_owned(),
            must_stop,
            thread: Some(thread),
        }
    }

    /// Reads to the end once more and checks that what was seen on the way is what the file holds.
    pub fn finish(mut self) {
        self.must_stop.store(true, Ordering::Release);
        let thread = self.thread.take().expect("only here and in drop");
        let seen = thread.join().expect("the follower saw the contract kept");
        let holds = bytes(&self.path);
        // Not assert_eq: nobody wants megabytes in the message.
        assert!(
            seen == holds,
            "the follower saw {} bytes, the file holds {}",
            seen.len(),
            holds.len()
        );
    }
}

impl Drop for Follower {
    /// Ends the thread of a follower that a failed test leaves behind, before the file goes.
    fn drop(&mut self) {
        self.must_stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn follow(path: &Path, must_stop: &AtomicBool) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut file: Option<File> = None;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        // Looked at before the read, so that the last round reads all there is.
        let is_last = must_stop.load(Ordering::Acquire);
        if file.is_none() {
            file = File::open(path).ok();
        }
        if let Some(file) = &mut file {
            loop {
                let count = file.read(&mut buffer).expect("the log can be read");
                if count == 0 {
                    break;
                }
                assert!(
                    !buffer[..count].contains(&0),
                    "a NUL at or after byte {}",
                    seen.len()
                );
                seen.extend_from_slice(&buffer[..count]);
            }
            let followed = file.metadata().expect("an open file has metadata");
            assert!(
                followed.len() >= seen.len() as u64,
                "the log shrank below {} bytes",
                seen.len()
            );
            let named = fs::metadata(path).expect("the log keeps its name");
            assert_eq!(named.ino(), followed.ino(), "the log was replaced");
        }
        if is_last {
            return seen;
        }
        thread::sleep(Duration::from_micros(300));
    }
}
