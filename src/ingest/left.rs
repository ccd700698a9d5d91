//! What the last process has left, and where: looked at before the log is opened.

use std::io;
use std::path::{Path, PathBuf};

use super::journal::{Place, Remains};

/// The journal's file, if it has one.
pub(super) fn journal_path(place: &Place) -> Option<&Path> {
    match place {
        Place::File(path) => Some(path),
        Place::Memory => None,
    }
}

/// Whether the log may be as a power cut left it. A clean stop leaves an empty journal; where there is none nobody knows.
pub(super) fn may_power_have_gone(place: &Place, remains: Option<&Remains>) -> bool {
    match (place, remains) {
        (_, Some(remains)) => remains.rebooted,
        (Place::File(path), None) => !path.exists(),
        (Place::Memory, None) => true,
    }
}

/// How a journal is noted beside the lock.
pub(super) fn note_of(place: &Place) -> Option<PathBuf> {
    journal_path(place).and_then(|path| std::path::absolute(path).ok())
}

/// Whether the journal in which the last process may have left events is empty or gone, or not the one that is used now; says so.
pub(super) fn is_journal_gone(place: &Place, has_remains: bool, left: Option<&Path>) -> bool {
    let Some(left) = left.filter(|_| !has_remains) else {
        return false;
    };
    let journal = left.display();
    let is_another = note_of(place).is_none_or(|path| path != left);
    if is_another && left.metadata().is_ok_and(|metadata| metadata.len() > 0) {
        tracing::error!(
            %journal,
            "the last process did not stop cleanly, and had another journal: what was acknowledged and not yet in the log, if \
             anything, is still there; start with that journal once (METRICS_JOURNAL) and stop cleanly"
        );
    } else {
        tracing::error!(
            %journal,
            "the last process did not stop cleanly, and its journal is empty or gone: what was acknowledged and not yet in the \
             log, if anything, is lost"
        );
    }
    true
}

/// Renames a journal that was damaged or cut off, so that somebody can look at it.
pub(super) fn keep_damaged(path: &Path) -> io::Result<()> {
    let seconds = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs());
    let mut kept = path.to_owned().into_os_string();
    kept.push(format!(".damaged-{seconds}"));
    tracing::error!(kept = %Path::new(&kept).display(), "the journal was damaged; it has been put aside");
    std::fs::rename(path, kept)
}
