//! What there is of sealed files on the disk: looked up afresh each time, so that what somebody else did to them is seen.

use std::io;
use std::time::SystemTime;

use crate::log::fs::Fs;
use crate::log::segment::{Family, Parts, SegmentId};

/// A sealed file that is on the disk, plain, compressed or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub id: SegmentId,
    pub parts: Parts,
    /// What it takes on the disk.
    pub bytes: u64,
    /// When it was written to last; a compressed file has it from its original.
    pub modified: SystemTime,
    /// When it got its name, or later: what else changes a file only makes it look sealed later.
    pub sealed: SystemTime,
}

/// The sealed files that are on the disk, the oldest first.
///
/// # Errors
/// What reading the directories says.
pub(super) fn held(fs: &dyn Fs, family: &Family) -> io::Result<Vec<Held>> {
    let mut all = Vec::new();
    for (id, parts) in family.list(fs)? {
        let plain = parts.plain.then(|| family.plain(id));
        let compressed = parts.compressed.then(|| family.compressed(id));
        let mut found: Option<Held> = None;
        for path in [plain, compressed].into_iter().flatten() {
            // It may have gone since the directory was read.
            let Some(stat) = fs.stat(&path)? else {
                continue;
            };
            let held = found.get_or_insert(Held {
                id,
                parts,
                bytes: 0,
                modified: stat.modified,
                sealed: stat.changed,
            });
            held.bytes += stat.bytes;
        }
        all.extend(found);
    }
    Ok(all)
}
