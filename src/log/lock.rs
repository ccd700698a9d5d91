//! The lock that keeps a second process away from a log.
//!
//! ```text
//! 4711                          the process that has it
//! /data/metrics.journal         while that has events in a journal: where
//! ```
//!
//! The second line goes at a clean stop. If it is still there at the next start, a journal that is empty or gone has been
//! emptied or removed by somebody.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a lock may be held by somebody who only looks ([`is_held`]).
const LOOK_MAX: Duration = Duration::from_millis(100);

/// An exclusive advisory lock (`flock`) on `<log>.lock`. The kernel lets go of it when the process ends, however it
/// ends; the file stays, and a leftover file without a holder means nothing.
pub struct Lock {
    file: File,
    /// What the holder before has left.
    left_journal: Option<PathBuf>,
}

/// Why a log could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process has the log open.
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote of itself: its process number.
        holder: String,
    },
    /// The lock file could not be opened or locked.
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockError::Held { path, holder } => {
                let holder = if holder.is_empty() { "unknown" } else { holder };
                write!(
                    f,
                    "the log is open in another process (pid {holder}), which holds {}",
                    path.display()
                )
            }
            LockError::Io(path, error) => write!(f, "cannot lock {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for LockError {}

/// The lock file of the log at `log`.
pub fn path_of(log: &Path) -> PathBuf {
    let mut name = log.to_owned().into_os_string();
    name.push(".lock");
    name.into()
}

/// Whether a process has the log at `log` open. Nothing is made or changed; the lock is shared for a moment.
///
/// # Errors
/// What opening or locking the lock file says.
pub fn is_held(log: &Path) -> io::Result<bool> {
    let file = match File::open(path_of(log)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Lock {
    /// Locks the log at `log`, without waiting for more than a look of [`is_held`].
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it, [`LockError::Io`] if the lock file cannot be used.
    pub fn acquire(log: &Path) -> Result<Lock, LockError> {
        let path = path_of(log);
        let failed = |error| LockError::Io(path.clone(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let begun = Instant::now();
        let locked = loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOOK_MAX => sleep(LOOK_MAX / 20),
                locked => break locked,
            }
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                // Only for the message: an unreadable holder is an unknown one.
                file.read_to_end(&mut text).ok();
                let holder = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                return Err(LockError::Held {
                    path,
                    holder: String::from_utf8_lossy(holder).trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let left_journal = left_journal(&text);
        let lock = Lock {
            file,
            left_journal: left_journal.clone(),
        };
        lock.write(left_journal.as_deref()).map_err(failed)?;
        Ok(lock)
    }

    /// Where the last holder had a journal, if it did not come to take that back.
    pub fn left_journal(&self) -> Option<&Path> {
        self.left_journal.as_deref()
    }

    /// Notes where there is a journal with events from now on, or that there is none; on the disk when this returns.
    ///
    /// # Errors
    /// What writing or syncing says.
    pub fn note_journal(&self, journal: Option<&Path>) -> io::Result<()> {
        self.write(journal)?;
        self.file.sync_data()
    }

    /// A kill in the middle leaves what was there, or what is written.
    fn write(&self, journal: Option<&Path>) -> io::Result<()> {
        let mut text = format!("{}\n", std::process::id()).into_bytes();
        if let Some(journal) = journal {
            text.extend_from_slice(journal.as_os_str().as_bytes());
            text.push(b'\n');
        }
        self.file.write_all_at(&text, 0)?;
        self.file.set_len(text.len() as u64)
    }
}

/// What is behind the first line; a path may have line breaks.
fn left_journal(text: &[u8]) -> Option<PathBuf> {
    let end = memchr::memchr(b'\n', text)?;
    let path = text[end + 1..]
        .strip_suffix(b"\n")
        .filter(|path| !path.is_empty())?;
    Some(OsString::from_vec(path.to_vec()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("metrics.jsonl");
        assert!(!is_held(&log).unwrap());
        assert!(!path_of(&log).exists());
        let first = Lock::acquire(&log).unwrap();
        assert!(is_held(&log).unwrap());
        let refused = Lock::acquire(&log).err().unwrap().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert!(refused.contains("metrics.jsonl.lock"), "{refused}");
        drop(first);
        assert!(!is_held(&log).unwrap());
        Lock::acquire(&log).unwrap();
    }

    #[test]
    fn a_journal_that_was_not_taken_back_is_known_to_those_who_come_after() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("metrics.jsonl");
        let journal = Path::new("/dev/shm/a\nb.journal");
        let first = Lock::acquire(&log).unwrap();
        assert_eq!(first.left_journal(), None);
        first.note_journal(Some(journal)).unwrap();
        let refused = Lock::acquire(&log).err().unwrap().to_string();
        assert!(!refused.contains("journal"), "{refused}");
        drop(first);
        // One that only looks leaves it as it is.
        assert_eq!(Lock::acquire(&log).unwrap().left_journal(), Some(journal));
        let third = Lock::acquire(&log).unwrap();
        assert_eq!(third.left_journal(), Some(journal));
        third.note_journal(None).unwrap();
        drop(third);
        assert_eq!(Lock::acquire(&log).unwrap().left_journal(), None);
    }
}
