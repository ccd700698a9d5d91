//! Copying back a live file that another program has deleted: it is still open, and gets its name again.

use std::io::{self, IoSlice, Read};
use std::path::Path;

use crate::log::fs::{AppendFile, Fs};
use crate::log::lines::FileRange;
use crate::log::segment::aside;

/// Bytes of a file that are copied at a time.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Copies the first `length` bytes of `file` to `path`, aside first.
pub(super) fn copy(fs: &dyn Fs, file: &dyn AppendFile, length: u64, path: &Path) -> io::Result<()> {
    let aside = aside(path);
    let copied = copy_aside(fs, file, length, &aside).and_then(|()| fs.rename_new(&aside, path));
    match copied {
        Ok(()) => Ok(fs.sync_directory(path.parent().unwrap_or(Path::new(".")))?),
        Err(error) => {
            // A disk that is full is not to be kept full.
            fs.remove(&aside).ok();
            Err(error)
        }
    }
}

fn copy_aside(fs: &dyn Fs, file: &dyn AppendFile, length: u64, aside: &Path) -> io::Result<()> {
    let to = fs.create(aside)?;
    let mut from = FileRange::new(file, 0, length.min(file.length()?));
    let mut chunk = vec![0; COPIED_AT_ONCE];
    loop {
        let size = from.read(&mut chunk)?;
        if size == 0 {
            break;
        }
        let mut rest = &chunk[..size];
        while !rest.is_empty() {
            match to.append(&[IoSlice::new(rest)])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => rest = &rest[written..],
            }
        }
    }
    to.sync_data()
}
