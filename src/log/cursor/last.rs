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
use crate::log::segment::{Family, SegmentId};

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 64 << 10;

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
/// none. It does not look beyond a line that is too long.
fn of_plain(file: &File, count: u64, selection: &impl Selection) -> io::Result<(u64, u64)> {
    let mut at = end_of_lines(file)?;
    let (mut earliest, mut found) = (at, 0);
    // The bytes from `at` on that are not looked at yet: empty, or whole lines but for the beginning of the first.
    let mut text: Vec<u8> = Vec::new();
    while found < count {
        let inside = &text[..text.len().saturating_sub(1)];
        let begin = match memchr::memrchr(b'\n', inside) {
            Some(newline) => newline + 1,
            None if at == 0 && text.is_empty() || text.len() > LINE_BYTES_MAX => break,
            None if at == 0 => 0,
            None => {
                // Doubled, so that a long line is not copied for each chunk of it.
                let size = CHUNK_BYTES.max(text.len() as u64).min(at);
                let mut more = vec![0; size as usize];
                at -= size;
                file.read_exact_at(&mut more, at)?;
                more.extend_from_slice(&text);
                text = more;
                continue;
            }
        };
        if selection.wants(&inside[begin..]) {
            found += 1;
            earliest = at + begin as u64;
        }
        text.truncate(begin);
    }
    Ok((earliest, found))
}

/// Where the last whole line ends.
fn end_of_lines(file: &File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    while end > 0 {
        let size = CHUNK_BYTES.min(end);
        let chunk = &mut chunk[..size as usize];
        file.read_exact_at(chunk, end - size)?;
        if let Some(newline) = memchr::memrchr(b'\n', chunk) {
            return Ok(end - size + newline as u64 + 1);
        }
        end -= size;
    }
    Ok(0)
}
