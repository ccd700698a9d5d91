//! Has the kernel begin to write a part of a file to the disk.
//!
//! `sync_file_range(2)` without its waiting. It promises nothing and takes nothing from the `fdatasync` that follows: an error of
//! writing is kept for that one, since only a call that waits for what was written takes errors off the file.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Begins to write `bytes` of `file`; where that cannot be done it does nothing.
pub(super) fn begin(file: &File, bytes: Range<u64>) {
    let from = i64::try_from(bytes.start);
    let length = i64::try_from(bytes.end.saturating_sub(bytes.start));
    // No length means to the end of the file there.
    if let (Ok(from), Ok(length @ 1..)) = (from, length) {
        // SAFETY: the call takes no pointers, and the descriptor is open for as long as `file` is.
        unsafe { libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE) };
    }
}
