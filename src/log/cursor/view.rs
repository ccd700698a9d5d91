//! Which files a log has at one moment, and which of them is the live one.
//!
//! Nothing tells a process beside the server which number the live file has: it is the one after the highest that a sealed
//! file or a summary has. Between looking at the directory and opening the live file there may be a rotation, so it is
//! opened first and looked for again last. If it has its name at both times it had it throughout (a file gets that name once), and
//! nothing was sealed between: the list is complete.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use super::CursorError;
use super::reader::{Identity, identity};
use crate::log::fs::OsFs;
use crate::log::segment::{Family, SegmentId};

/// How often it is looked again when a rotation came between. A log that rotates faster than its directory can be listed is
/// seen without its live file: there are enough sealed ones to read.
const TRIES_MAX: usize = 8;

/// The files of a log.
pub(super) struct View {
    /// The sealed files that are there, plain or compressed, by number.
    pub sealed: BTreeMap<u64, SegmentId>,
    /// The number of the live file; it may not be there.
    pub front: u64,
    /// The live file.
    pub live: Option<(File, Identity)>,
}

impl View {
    /// Looks.
    pub fn take(family: &Family) -> Result<View, CursorError> {
        let path = family.live();
        for tries in 1.. {
            let live = open(&path)?;
            let list = family.list(&OsFs).map_err(|source| CursorError::Io {
                path: family.directory().to_owned(),
                source,
            })?;
            let highest = list.keys().next_back().copied();
            let sealed: BTreeMap<_, _> = list
                .iter()
                .filter(|(_, parts)| parts.plain || parts.compressed)
                .map(|(id, _)| (id.number, *id))
                .collect();
            let front = highest.map_or(1, |id| id.number + 1);
            let Some((file, identity)) = live else {
                return Ok(View {
                    sealed,
                    front,
                    live: None,
                });
            };
            // Where renaming is linking and unlinking, a sealed file has both names for a moment.
            let is_sealed = match highest {
                Some(id) => identity_at(&family.plain(id))? == Some(identity),
                None => false,
            };
            let is_named = identity_at(&path)? == Some(identity);
            if is_named && !is_sealed || tries == TRIES_MAX {
                let live = (is_named && !is_sealed).then_some((file, identity));
                return Ok(View { sealed, front, live });
            }
        }
        unreachable!("the last try returns")
    }
}

/// Opens a file; `None` if there is none.
pub(super) fn open(path: &Path) -> Result<Option<(File, Identity)>, CursorError> {
    let opened = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok((file, identity(&metadata))),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
    });
    found(path, opened)
}

/// What file has that name now.
pub(super) fn identity_at(path: &Path) -> Result<Option<Identity>, CursorError> {
    found(path, std::fs::metadata(path).map(|metadata| identity(&metadata)))
}

fn found<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, CursorError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CursorError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}
