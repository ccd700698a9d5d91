//! The log on disk: one live JSONL file that other programs tail while it is written, and the sealed ones before it.
//!
//! # The contract with those who tail the file
//!
//! 1. Every byte before the end of file is final, and the size never runs ahead of the data: lines arrive by
//!    `writev` on a descriptor opened with `O_APPEND`, never through a mapping (see `docs/ARCHITECTURE.md` for the
//!    measurement behind that).
//! 2. Lines are whole and in the order in which they were acknowledged. A `writev` that comes back short, or fails
//!    half way, is followed by the rest of itself and by nothing else: [`LiveFile::append`] advances its slices by what
//!    went in, and its caller comes back with what is left.
//! 3. The file never shrinks and is never rewritten. It is sealed by a new name ([`segment`]): after its last write it is synced
//!    and nothing is written for a rest, in which tailers read to its end; then it is renamed, and a new file, opened
//!    before, takes its place. Not one byte goes to it after that.
//! 4. The file appears with its first batch in it: that batch is written beside it (`….new`, which no `*.jsonl`
//!    pattern matches) and renamed into place.
//! 5. A line that a power cut tore and the journal cannot complete is closed in place into valid JSON marked
//!    `"torn":true` ([`torn`]), and holes that it left are filled with such lines ([`mend`]); no count and no reader of ours takes them
//!    for events. What a failed sync left in doubt is written again, beside the file and then over itself ([`rescue`]): a reader
//!    sees no difference.
//! 6. One process has the log open: [`lock`] holds an advisory lock on `<file>.lock` until the process ends.
//!
//! # Owner
//!
//! The writer thread of the ingest room owns the [`LiveFile`]; the sync thread shares the open file to call
//! `fdatasync` beside it. Before those threads start, recovery owns both. Sealed files are the [`keeper`]'s; what is known of
//! them is in the [`catalog`], to which the writer adds.
//!
//! # Other hands
//!
//! The live file is looked after twice a second, and on SIGHUP and SIGUSR1 ([`Sight`]): one that was renamed is left to
//! whoever did it; one that was deleted is copied back from the open descriptor as a sealed file; of one that was truncated what
//! came after is sealed. Each time another file is begun, and the program's own log says so.
//!
//! # When things fail
//!
//! A full disk or an I/O error leaves the file at a length that is known and the caller with the rest of its slices:
//! trying again later is always right. Every call goes through [`fs::Fs`], the seam at which tests cut writes short, fill the
//! disk and fail syncs.

mod backwards;
pub mod bookmark;
pub mod catalog;
pub mod cursor;
pub mod fs;
pub mod keeper;
mod lines;
mod live;
pub mod lock;
pub mod mend;
pub mod rescue;
pub mod segment;
pub mod summary;
#[cfg(test)]
mod tests;
pub mod torn;

pub use backwards::Backwards;
pub use lines::{Ending, FileRange, for_each_line, seq_of};
pub use live::{LiveFile, Sight};
