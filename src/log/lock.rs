//! The lock that keeps a second process away from a log.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a lock may be held by somebody who only looks ([`is_held`]).
const LOOK_MAX: Duration = Duration::from_millis(100);

/// An exclusive advisory lock (`flock`) on `<log>.lock`. The kernel lets go of it when the process ends, however it
/// ends; the file stays, and a leftover file without a holder means nothing.
pub struct Lock {
    _file: File,
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
                let mut holder = String::new();
                // Only for the message: an unreadable holder is an unknown one.
                file.read_to_string(&mut holder).ok();
                return Err(LockError::Held {
                    path,
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Lock { _file: file })
    }
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
}
