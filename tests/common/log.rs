//! Readers of the log, as a program that tails it would read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
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

/// The bytes of all the log's files, the oldest first; none while there is no file.
pub fn bytes(path: &Path) -> Vec<u8> {
    contents_from(path, 0)
        .into_iter()
        .flat_map(|(_, bytes)| bytes)
        .collect()
}

/// The files of the log but for the first `skipped`, with their contents: read again if a file was sealed meanwhile.
fn contents_from(path: &Path, skipped: usize) -> Vec<(PathBuf, Vec<u8>)> {
    loop {
        let before = files(path);
        let new = before.iter().skip(skipped);
        let read: Option<Vec<_>> = new.map(|file| Some((file.clone(), contents(file)?))).collect();
        if let Some(read) = read
            && files(path) == before
        {
            return read;
        }
    }
}

/// The files of the log with the live file at `path`: the sealed ones by number, compressed or not, then the live one.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = sealed(path).into_values().collect();
    if path.exists() {
        files.push(path.to_owned());
    }
    files
}

/// The sealed files of the log by number; plain as long as they are there.
pub fn sealed(path: &Path) -> BTreeMap<u64, PathBuf> {
    let folder = path.parent().expect("a log is in a folder");
    let stem = path.file_stem().expect("a log has a name").to_str().unwrap();
    let mut sealed: BTreeMap<u64, PathBuf> = BTreeMap::new();
    // The archive last: what has gone from the folder by now is there.
    for folder in [folder.to_owned(), folder.join("archive")] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let file = entry.expect("a folder can be read").path();
            let name = file.file_name().unwrap().to_str().unwrap();
            let rest = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
            let rest = rest.map(|rest| rest.strip_suffix(".zst").unwrap_or(rest));
            let Some((_, number)) = rest.and_then(|rest| rest.strip_suffix(".jsonl")?.split_once('-')) else {
                continue;
            };
            let number = number.parse().expect("a sealed file has a number");
            sealed.entry(number).or_insert(file);
        }
    }
    sealed
}

/// The bytes of one of them, unpacked; `None` if it has gone.
pub fn contents(file: &Path) -> Option<Vec<u8>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("cannot read {}: {error}", file.display()),
    };
    Some(
        match file.extension().is_some_and(|extension| extension == "zst") {
            true => unpacked(&bytes),
            false => bytes,
        },
    )
}

/// What a zstd frame unpacks to.
pub fn unpacked(bytes: &[u8]) -> Vec<u8> {
    zstd::decode_all(bytes).expect("a whole zstd frame")
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

/// Hands out the lines that were added since the last look, over all files of the log.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// Files that were sealed and read whole when they were last looked at.
    whole: usize,
    /// Bytes read of the one behind them.
    offset: usize,
}

impl Reader {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            whole: 0,
            offset: 0,
        }
    }

    /// The lines added since; panics when the last one is not ended or a file has shrunk.
    pub fn added(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for (file, bytes) in contents_from(&self.path, self.whole) {
            let new = bytes.get(self.offset..);
            let new = new.unwrap_or_else(|| panic!("{} shrank to {} bytes", file.display(), bytes.len()));
            lines.extend(split_lines(new));
            match file == self.path {
                true => self.offset = bytes.len(),
                false => (self.whole, self.offset) = (self.whole + 1, 0),
            }
        }
        lines
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

/// A file of the log as a follower comes upon it.
enum Opened {
    Plain(File),
    /// It was compressed before it was opened.
    Packed(Vec<u8>),
}

/// The file with that number, if it is there; all before it are sealed.
fn open_file(path: &Path, number: u64) -> Option<Opened> {
    // First, so that it is that file also if it is sealed while the folder is read, and may be missed under either name.
    let live = File::open(path).ok();
    match sealed(path).remove(&number) {
        Some(file) if file.extension().is_some_and(|extension| extension == "zst") => {
            contents(&file).map(Opened::Packed)
        }
        Some(file) => File::open(file).ok().map(Opened::Plain),
        None => live.map(Opened::Plain),
    }
}

fn follow(path: &Path, must_stop: &AtomicBool) -> Vec<u8> {
    let mut seen = Vec::new();
    // The number of the file to open next; bytes seen of the one that is open.
    let (mut next, mut offset) = (1, 0);
    let mut file: Option<File> = None;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        // Looked at before the read, so that the last round reads all there is.
        let is_last = must_stop.load(Ordering::Acquire);
        while file.is_none()
            && let Some(opened) = open_file(path, next)
        {
            match opened {
                Opened::Plain(open) => (file, offset) = (Some(open), 0),
                Opened::Packed(bytes) => seen.extend_from_slice(&bytes),
            }
            next += 1;
        }
        if let Some(open) = &mut file {
            // Looked at before the read: of a file that has lost its name nothing is to come.
            let followed = open.metadata().expect("an open file has metadata").ino();
            let is_sealed = fs::metadata(path).map_or(true, |named| named.ino() != followed);
            loop {
                let count = open.read(&mut buffer).expect("the log can be read");
                if count == 0 {
                    break;
                }
                assert!(
                    !buffer[..count].contains(&0),
                    "a NUL at or after byte {}",
                    seen.len()
                );
                seen.extend_from_slice(&buffer[..count]);
                offset += count as u64;
            }
            let length = open.metadata().expect("an open file has metadata").len();
            assert!(length >= offset, "the log shrank below {offset} bytes");
            if is_sealed {
                file = None;
                continue;
            }
        }
        if is_last {
            return seen;
        }
        thread::sleep(Duration::from_micros(300));
    }
}
