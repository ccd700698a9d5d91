//! One moment of the log, for those who read it: which files are sealed, what is counted of each, and how far the live one
//! had come.
//!
//! The writer counts a batch under the lock of [`Live`], and under the same lock a file that is sealed goes from there into the
//! catalog. A reader that takes both under that lock has each event once: in the summary of a sealed file or in the
//! tally of the live one. What it copies stays true whatever comes after: bytes of the log are final, the live file
//! is read by its descriptor, which no rename or removal touches, and a sealed one that has gone is told as such.
//!
//! The lock is held for a copy: of a list of pointers, and of at most 65,536 counts. Whoever takes a cut is a
//! thread that may wait ([`crate::query::readers`]), not a coroutine.

use std::sync::Arc;

use super::View;
use crate::log::catalog::Segment;
use crate::log::fs::AppendFile;
use crate::log::segment::{Family, SegmentId};
use crate::log::summary::Tally;

/// The live file, as far as it is counted.
pub(super) struct Live {
    /// What is counted of it.
    pub tally: Tally,
    /// The open file; `None` while it has no line.
    pub file: Option<Arc<dyn AppendFile>>,
}

impl Live {
    /// A file that has not begun.
    pub fn new(names_max: usize) -> Live {
        Live {
            tally: Tally::new(names_max),
            file: None,
        }
    }
}

/// What the log has at one moment.
pub struct Cut {
    /// The sealed files, the oldest first.
    pub sealed: Vec<Arc<Segment>>,
    /// The live file as if it were sealed with what it has; only its id says nothing.
    pub live: Segment,
    /// The live file itself, for its first `live.summary.bytes` bytes; `None` if it has none.
    pub file: Option<Arc<dyn AppendFile>>,
}

impl View {
    /// What the log has now. Whatever was acknowledged as written before is in it.
    pub fn cut(&self) -> Cut {
        let live = self.shared.live();
        let sealed = self.shared.catalog.segments();
        let front = self.shared.catalog.front();
        let (tally, file) = (live.tally.clone(), live.file.clone());
        drop(live);
        let id = SegmentId {
            number: front.number,
            since: 0,
        };
        Cut {
            sealed,
            live: Segment {
                base: front.base,
                summary: tally.summary(id, front.first_seq),
            },
            file,
        }
    }

    /// The names of the log's files.
    pub fn family(&self) -> &Family {
        self.shared.catalog.family()
    }

    /// How many event names are told apart.
    pub fn names_max(&self) -> usize {
        self.shared.config.names_max
    }
}
