//! Events that somebody else has written: the lines of a file or of standard input.
//!
//! All of them are read before load is made, so that reading costs nothing while it is measured; memory is bounded by
//! [`INPUT_BYTES_MAX`]. What is in a line is the server's to judge.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Most bytes that are read. More is a history, which `floodgate replay` sends without keeping it.
pub const INPUT_BYTES_MAX: u64 = 512 << 20;

/// Lines to be sent, in turn.
#[derive(Clone)]
pub struct Input {
    text: Arc<Vec<u8>>,
    /// Where each line lies in the text, without its newline and without white space around it.
    lines: Arc<Vec<(u32, u32)>>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({} lines)", self.lines.len())
    }
}

impl Input {
    /// Reads a file, or standard input where it is called `-`.
    ///
    /// # Errors
    /// It cannot be read, is too long, or has no line.
    pub fn read(path: &Path) -> io::Result<Input> {
        let mut text = Vec::new();
        let source: Box<dyn Read> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin().lock()),
            false => Box::new(File::open(path)?),
        };
        source.take(INPUT_BYTES_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > INPUT_BYTES_MAX {
            let message = "it has more than 512 MiB; `floodgate replay` sends a history of any length";
            return Err(io::Error::other(message));
        }
        Input::of(text)
    }

    fn of(text: Vec<u8>) -> io::Result<Input> {
        let mut lines = Vec::new();
        let mut begin = 0;
        for piece in text.split(|byte| *byte == b'\n') {
            let line = piece.trim_ascii();
            if !line.is_empty() {
                let lead = piece.len() - piece.trim_ascii_start().len();
                let at = begin + lead;
                lines.push((at as u32, (at + line.len()) as u32));
            }
            begin += piece.len() + 1;
        }
        if lines.is_empty() {
            return Err(io::Error::other("it has no line"));
        }
        Ok(Input {
            text: Arc::new(text),
            lines: Arc::new(lines),
        })
    }

    /// How many lines there are.
    pub fn count(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The line whose turn it is: behind the last one the first comes again.
    pub fn line(&self, number: u64) -> &[u8] {
        let (begin, end) = self.lines[(number % self.count()) as usize];
        &self.text[begin as usize..end as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_turn_without_what_is_around_them() {
        let input = Input::of(b" {\"a\":1} \r\n\n  \n{\"b\":2}".to_vec()).unwrap();
        let lines: Vec<_> = (0..3).map(|number| input.line(number)).collect();
        assert_eq!(lines, [&b"{\"a\":1}"[..], b"{\"b\":2}", b"{\"a\":1}"]);
        assert!(Input::of(b" \n\n".to_vec()).is_err());
    }
}
