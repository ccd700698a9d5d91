//! Where the last lines of a log begin.
//!
//! Plain files are read backwards by chunks, compressed ones forwards, twice: memory does not grow with the number of lines
//! asked for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::reader::{Found, LINE_BYTES_MAX, LineReader};
use super::view::{self, View};
use super::{CursorError, Position, Selection, may_have};
use crate::log::backwards::Backwards;
use crate::log::segment::{Family, SegmentId};

/// Where the earliest of the last `count` lines begins that `selection` wants; the end of the last whole line if `count` is 0
/// or there is none.
pub(super) fn position(
    family: &Family,
    count: u64,
    selection: &impl Selection,
) -> Result<Position, CursorError> {
    let view = View::take(family)?;
    let mut position = Position::begin_of(view.front);
    let mut missing = count;
    if let Some((file, _)) = &view.live {
        let path = family.live();
        let failed = |source| CursorError::Io { path, source };
        let (offset, found) = of_plain(file, count, selection).map_err(failed)?;
        position.offset = offset;
        missing -= found;
    }
    for (number, id) in view.sealed.iter().rev() {
        if missing == 0 {
            break;
        }
        if !may_have(family, *id, selection)? {
            continue;
        }
        let (offset, found) = of_sealed(family, *id, missing, selection)?;
        if found > 0 {
            missing -= found;
            position = Position {
                number: *number,
                offset,
            };
        }
    }
    Ok(position)
}

/// Where the earliest of the last `count` lines of a sealed file begins, and how many there are. None of one that has gone.
fn of_sealed(
    family: &Family,
    id: SegmentId,
    count: u64,
    selection: &impl Selection,
) -> Result<(u64, u64), CursorError> {
    let path = family.plain(id);
    if let Some((file, _)) = view::open(&path)? {
        return of_plain(&file, count, selection).map_err(|source| CursorError::Io { path, source });
    }
    let path = family.compressed(id);
    let packed = || match view::open(&path)? {
        Some((file, _)) => LineReader::packed(file)
            .map(Some)
            .map_err(|source| CursorError::Io {
                path: path.clone(),
                source,
            }),
        None => Ok(None),
    };
    let (Some(first), Some(second)) = (packed()?, packed()?) else {
        return Ok((0, 0));
    };
    of_packed(first, second, count, selection).map_err(|source| CursorError::Io {
        path: path.clone(),
        source,
    })
}

fn of_packed(
    mut first: LineReader,
    mut second: LineReader,
    count: u64,
    selection: &impl Selection,
) -> io::Result<(u64, u64)> {
    let mut total = 0;
    while next_wanted(&mut first, selection)?.is_some() {
        total += 1;
    }
    let mut before = total - count.min(total);
    loop {
        match next_wanted(&mut second, selection)? {
            Some(_) if before > 0 => before -= 1,
            Some(offset) => return Ok((offset, count.min(total))),
            None => return Ok((second.offset(), 0)),
        }
    }
}

/// Where the next line begins that is wanted.
fn next_wanted(reader: &mut LineReader, selection: &impl Selection) -> io::Result<Option<u64>> {
    loop {
        let offset = reader.offset();
        match reader.next()? {
            Found::Line(range) if selection.wants(reader.bytes(range.clone())) => return Ok(Some(offset)),
            Found::Line(_) | Found::TooLong(_) => {}
            Found::End => return Ok(None),
        }
    }
}

/// Where the earliest of the last `count` lines begins, and how many there are; the end of the last whole line if there is
/// none.
fn of_plain(file: &File, count: u64, selection: &impl Selection) -> io::Result<(u64, u64)> {
    let read = |to: &mut [u8], at| file.read_exact_at(to, at);
    let mut lines = Backwards::new(file.metadata()?.len(), LINE_BYTES_MAX, read)?;
    let (mut earliest, mut found) = (lines.at(), 0);
    while found < count {
        let Some((at, line)) = lines.previous()? else {
            break;
        };
        if selection.wants(line) {
            (earliest, found) = (at, found + 1);
        }
    }
    Ok((earliest, found))
}
