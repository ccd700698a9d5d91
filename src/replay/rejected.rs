//! The side file of refused lines: JSONL of `{"file","line","reason","text"}`.
//!
//! It is appended to, so that calls that go on where others stopped add to it. It is made with its first line; a replay of which
//! nothing is refused leaves none. Owner: the coordinator.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::source::RefusedHere;

/// A line that is not stored.
#[derive(Serialize)]
pub struct RejectedLine<'l> {
    /// The input, as it was named.
    pub file: &'l str,
    /// Counted from 1.
    pub line: u64,
    /// Why, as the server says it.
    pub reason: &'l str,
    /// The line itself; where it is not UTF-8, with replacement characters.
    pub text: String,
}

impl<'l> RejectedLine<'l> {
    /// One that could not be sent.
    pub fn of(refused: &'l RefusedHere) -> RejectedLine<'l> {
        RejectedLine {
            file: &refused.file,
            line: refused.line,
            reason: refused.reason,
            text: refused.text.clone(),
        }
    }
}

/// The file.
pub struct RejectedFile {
    path: Option<PathBuf>,
    file: Option<File>,
}

impl RejectedFile {
    /// To be made at `path` when it is needed.
    pub fn new(path: Option<PathBuf>) -> RejectedFile {
        RejectedFile { path, file: None }
    }

    /// Appends these lines.
    ///
    /// # Errors
    /// That they cannot be written, as a sentence.
    pub fn add(&mut self, lines: &[RejectedLine<'_>]) -> Result<(), String> {
        let Some(path) = self.path.as_ref().filter(|_| !lines.is_empty()) else {
            return Ok(());
        };
        let failed =
            |error: std::io::Error| format!("cannot write refused lines to {}: {error}", path.display());
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = File::options()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(failed)?;
                self.file.insert(file)
            }
        };
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).expect("it can be written to memory");
            text.push(b'\n');
        }
        file.write_all(&text).map_err(failed)
    }
}
