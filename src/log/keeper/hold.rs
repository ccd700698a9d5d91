//! What retention leaves in place because it is not shipped yet.
//!
//! How far the log is shipped is what the bookmark beside it says ([`crate::log::bookmark`]), whichever process ships it: looked
//! at afresh each time, so that a shipper that is stopped, or has not been started yet, holds what it will need. A bookmark
//! that nobody needs any more is to be removed by hand; until then it holds as much as the bound allows.

use std::sync::atomic::{AtomicU64, Ordering};

use super::stock::Held;
use crate::log::bookmark::Bookmark;
use crate::log::cursor::Position;
use crate::log::fs::Fs;
use crate::log::segment::Family;
use crate::log::summary::Summary;

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold {
    /// Whether this server ships, so that files are held also before there is a bookmark.
    pub is_shipped: bool,
    /// Bytes of sealed files, as they are on the disk, that are held at the most.
    pub bytes_max: u64,
}

/// What was removed though it was not shipped, since the start. Relaxed: counts.
#[derive(Debug, Default)]
pub struct HoldStatus {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl HoldStatus {
    pub(super) fn removed(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Files, and their bytes on the disk, that retention has removed before they were shipped.
    pub fn removed_unshipped(&self) -> (u64, u64) {
        (
            self.files.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// Which files are not shipped yet, and which of these are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unshipped {
    /// From this number on files are not shipped; `u64::MAX`: all are.
    from: u64,
    /// From this number on they are held: the newest, as far as the bound allows.
    held_from: u64,
}

impl Unshipped {
    /// All is shipped.
    pub const NOTHING: Unshipped = Unshipped {
        from: u64::MAX,
        held_from: u64::MAX,
    };

    /// What is to be shipped of the files in `held`, which are the oldest first.
    pub fn look(hold: Hold, fs: &dyn Fs, family: &Family, held: &[Held]) -> Unshipped {
        let from = match Bookmark::read(fs, family) {
            Ok(Some(mark)) => first_unshipped(fs, family, held, mark.next),
            // None of it, as long as nobody can say how much.
            Ok(None) if hold.is_shipped => 0,
            Ok(None) => u64::MAX,
            Err(_) => 0,
        };
        let mut left = hold.bytes_max;
        let newest = held.iter().rev().take_while(|file| file.id.number >= from);
        let fits = newest.take_while(|file| {
            let fits = file.bytes <= left;
            left = left.saturating_sub(file.bytes);
            fits
        });
        let held_from = fits.last().map_or(u64::MAX, |file| file.id.number);
        Unshipped { from, held_from }
    }

    /// Whether a file is to be shipped yet.
    pub fn is_unshipped(&self, number: u64) -> bool {
        number >= self.from
    }

    /// Whether it stays because of that.
    pub fn is_held(&self, number: u64) -> bool {
        number >= self.held_from
    }
}

/// The first file that is not shipped whole. Where nothing has been shipped of the file behind it, a file ends at the bookmark.
fn first_unshipped(fs: &dyn Fs, family: &Family, held: &[Held], next: Position) -> u64 {
    let marked = held.iter().find(|file| file.id.number == next.number);
    let summary = marked.and_then(|file| {
        Summary::read(fs, &family.summary(file.id), file.id)
            .ok()
            .flatten()
    });
    let is_whole = summary.is_some_and(|summary| summary.bytes <= next.offset);
    next.number + u64::from(is_whole)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::log::fs::OsFs;
    use crate::log::segment::{Parts, SegmentId};

    fn held(number: u64) -> Held {
        Held {
            id: SegmentId {
                number,
                since: number,
            },
            parts: Parts::default(),
            bytes: 100,
            modified: SystemTime::UNIX_EPOCH,
            sealed: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_is_not_shipped_is_held_the_newest_as_far_as_the_bound_allows() {
        let folder = tempfile::tempdir().unwrap();
        let family = Family::of(&folder.path().join("metrics.jsonl"));
        let files: Vec<_> = (1..=5).map(held).collect();
        let look = |is_shipped, bytes_max| {
            let found = Unshipped::look(
                Hold {
                    is_shipped,
                    bytes_max,
                },
                &OsFs,
                &family,
                &files,
            );
            let numbers = |is: &dyn Fn(u64) -> bool| (1..=5).filter(|number| is(*number)).collect::<Vec<_>>();
            (
                numbers(&|number| found.is_unshipped(number)),
                numbers(&|number| found.is_held(number)),
            )
        };
        assert_eq!(look(false, 1000), (vec![], vec![]), "nobody ships");
        assert_eq!(
            look(true, 1000),
            (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]),
            "nothing is shipped yet"
        );
        let mark = Bookmark {
            stream: "metrics-a".into(),
            life: 1,
            next: Position {
                number: 3,
                offset: 50,
            },
        };
        mark.write(&OsFs, &family).unwrap();
        assert_eq!(
            look(false, 1000),
            (vec![3, 4, 5], vec![3, 4, 5]),
            "another process ships"
        );
        assert_eq!(look(true, 250), (vec![3, 4, 5], vec![4, 5]));
        assert_eq!(look(true, 0), (vec![3, 4, 5], vec![]));
        std::fs::write(crate::log::bookmark::path(&family), "damaged").unwrap();
        assert_eq!(
            look(false, 200),
            (vec![1, 2, 3, 4, 5], vec![4, 5]),
            "nobody can say"
        );
    }
}
