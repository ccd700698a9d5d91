//! What a cursor has to say beside lines.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::Position;

/// Lines that are not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The files from `first` to `last` are gone, by retention or somebody's hand.
    Gap {
        /// The first number that is missing.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A sealed file ends with bytes that no newline follows.
    HalfLine {
        /// Where they begin.
        at: Position,
        /// How many they are.
        bytes: u64,
    },
    /// A line is longer than what is taken into memory.
    TooLong {
        /// Where it begins.
        at: Position,
        /// Its length, newline included.
        bytes: u64,
    },
    /// The live file was removed, or another one put in its place, by somebody else; what it had was handed out up to
    /// here.
    Replaced {
        /// How far it was read.
        at: Position,
    },
    /// The live file was cut off by somebody else; it is read from its beginning again.
    Truncated {
        /// How far it was read.
        at: Position,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Gap { first, last } if first == last => write!(f, "file {first} of the log is gone"),
            Notice::Gap { first, last } => write!(f, "files {first} to {last} of the log are gone"),
            Notice::HalfLine { at, bytes } => {
                write!(
                    f,
                    "{at}: the file ends within a line, of which it has {bytes} bytes"
                )
            }
            Notice::TooLong { at, bytes } => write!(f, "{at}: a line of {bytes} bytes is passed over"),
            Notice::Replaced { at } => {
                write!(f, "{at}: the live file was removed or replaced by somebody else")
            }
            Notice::Truncated { at } => {
                write!(
                    f,
                    "{at}: the live file was cut off by somebody else; it is read again"
                )
            }
        }
    }
}

/// Why a log cannot be read on.
#[derive(Debug)]
pub enum CursorError {
    /// A file or directory cannot be read; a compressed file may be damaged.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// In that place no line begins: it lies within a line, or behind the end of its file.
    NoLine(Position),
    /// The log has no such file yet.
    Beyond {
        /// The place asked for.
        position: Position,
        /// The number of the live file.
        front: u64,
    },
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CursorError::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            CursorError::NoLine(position) => write!(f, "no line of the log begins at {position}"),
            CursorError::Beyond { position, front } => {
                write!(
                    f,
                    "{position} is not in the log, whose newest file has the number {front}"
                )
            }
        }
    }
}

impl std::error::Error for CursorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CursorError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
