//! Making summaries right, from the files they are of.

use std::io;

use super::file::{Checked, State};
use crate::log::catalog::open_file;
use crate::log::cursor::CursorError;
use crate::log::fs::OsFs;
use crate::log::segment::{Family, SegmentId};
use crate::log::seq_of;
use crate::log::summary::{Summary, Tally};

/// Makes the summaries anew that were found to be missing, damaged or wrong. Answers their paths.
///
/// The log must be locked. What a file has is counted as the server counts it, and what cannot be read is left as it is.
pub fn repair(family: &Family, files: &[Checked], names_max: usize) -> Result<Vec<String>, CursorError> {
    let list = family.list(&OsFs).map_err(|source| CursorError::Io {
        path: family.directory().to_owned(),
        source,
    })?;
    let mut repaired = Vec::new();
    let (mut number, mut next_seq) = (1, Some(1));
    for file in files {
        if file.number != number {
            next_seq = None;
        }
        // Numbers in the lines are the truth; without them, what follows from the file before.
        let first_seq = file.first_seq_of_lines.or(next_seq).or(file.first_seq);
        let mut events = file.seq_count;
        let is_right = file.is_summary_right && first_seq == file.first_seq;
        let id = list.keys().find(|id| id.number == file.number);
        if let Some(id) = id.filter(|_| !is_right && matches!(file.state, State::Plain | State::Compressed)) {
            let path = family.summary(*id);
            let summary = make(family, *id, first_seq.unwrap_or(1), names_max);
            if let Ok(Some(summary)) = summary {
                events = summary.events + summary.skipped;
                summary.write(&OsFs, &path).map_err(|source| CursorError::Io {
                    path: path.clone(),
                    source,
                })?;
                repaired.push(path.display().to_string());
            }
        }
        let is_known = is_right || file.state != State::Removed;
        next_seq = first_seq.filter(|_| is_known).map(|first| first + events);
        number = file.number + 1;
    }
    Ok(repaired)
}

fn make(family: &Family, id: SegmentId, first_seq: u64, names_max: usize) -> io::Result<Option<Summary>> {
    let Some(mut file) = open_file(&OsFs, family, id)? else {
        return Ok(None);
    };
    let mut last = 0;
    let (mut tally, _) = Tally::of(&mut file, names_max, |line| last = seq_of(line).unwrap_or(last))?;
    tally.numbered_up_to(first_seq, last);
    Ok(Some(tally.summary(id, first_seq)))
}
