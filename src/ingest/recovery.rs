//! Bringing what a process left in its journal into the log: each acknowledged event once, and no line glued to another.
//!
//! # After `kill -9`
//!
//! The journal is exactly what the process stored, and so is the file. A frame with a place is compared with the file's
//! length: wholly there, it is done; in part, the rest is written; not there, it is written. Frames without a place are
//! appended in ticket order. Each gets its place in the journal's header before a byte of it is written, as in normal
//! running, so recovery may itself be killed at any point and the next one goes on. A log that has other bytes at a
//! frame's place is another file than the one the place was given in; then lines are compared, as below.
//!
//! # After a restart of the machine
//!
//! Pages of the journal and of the file reached the disk in any order, or not at all. A frame is believed only if all its
//! checksums hold, and believed does not mean missing: the block may be an old state of one whose lines are long
//! in the log. So lines that the log already has, from the length it had when the oldest such frame was committed, are
//! not appended again. A torn end is completed if it is the beginning of a line that is missing, and closed in place
//! otherwise (see [`crate::log::torn`]).
//!
//! # What somebody else did to the journal
//!
//! A frame of which a bit is wrong is told and not appended. So it is with a journal that is shorter than it was: the preface
//! has the number of its blocks.
//!
//! Owner: the thread that opens the engine, before any other exists. Memory is bounded by the journal's size.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, IoSlice};

use super::blocks::{Block, PAYLOAD_BYTES};
use super::header::{NO_BLOCK, Placement, State};
use super::journal::Remains;
use super::numbered::{number, split};
use crate::event::facts_of_line;
use crate::failpoint;
use crate::log::catalog::Catalog;
use crate::log::{Ending, FileRange, LiveFile, for_each_line, seq_of, torn};

/// What recovery found and did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Events that were in the journal and are in the log now because of it, whole or completed.
    pub events: u64,
    /// Frames that could not be believed: their checksums do not hold though the machine was not restarted.
    pub damaged_frames: u64,
    /// A torn line was closed in place.
    pub torn_line_closed: bool,
    /// Blocks that were cut off the journal: what they held is lost, if it was not in the log.
    pub missing_blocks: u32,
    /// The last process did not stop cleanly, and its journal was not there.
    pub is_journal_gone: bool,
}

impl Recovered {
    /// Whether something that was acknowledged may be lost.
    pub fn is_journal_damaged(&self) -> bool {
        self.damaged_frames > 0 || self.missing_blocks > 0
    }
}

/// A frame found in the journal.
struct Found<'a> {
    head: &'a Block,
    ticket: u64,
    /// Position in the log before which it is not.
    base: u64,
    /// Offset in the live file that was given to it.
    place: Option<u64>,
    /// The number of its first line, if it was given a place and its lines numbers; else 0.
    first_seq: u64,
    /// It was given a place, which is damaged: it may be in the log.
    is_place_lost: bool,
    lines: u64,
    /// Its lines as they are, or were to be, in the log; as they came while it has no place.
    bytes: Vec<u8>,
}

impl Found<'_> {
    fn end(&self) -> Option<u64> {
        self.place
            .map(|place| place.saturating_add(self.bytes.len() as u64))
    }

    /// Its lines, without their newlines.
    fn each_line(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        memchr::memchr_iter(b'\n', &self.bytes)
            .map(move |end| &self.bytes[std::mem::replace(&mut start, end + 1)..end])
    }
}

/// Brings `remains`, if there are any, into `live`, and closes a torn line at its end.
///
/// # Errors
/// What reading and writing the log says. Nothing is lost then: the journal is as good as before.
///
/// `line_seq` says that lines are stored with their numbers.
pub fn recover(
    remains: Option<&Remains>,
    live: &mut LiveFile,
    catalog: &Catalog,
    line_seq: bool,
) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let Some(remains) = remains else {
        close_torn_line(live, &mut recovered)?;
        return Ok(recovered);
    };
    if remains.missing > 0 {
        recovered.missing_blocks = remains.missing;
        tracing::error!(
            blocks_missing = remains.missing,
            blocks_left = remains.blocks.len(),
            "the journal has been cut off: what is left of it is brought into the log, and what was acknowledged and lay behind the \
             cut, if anything did, is lost"
        );
    }
    let front = catalog.front().base;
    let mut numbers = Numbers {
        line_seq,
        next: None,
        catalog,
    };
    let mut frames = find_frames(remains, front, &mut recovered);
    // Frames with a place first, in the order of the file; then the others, in the order of their acknowledgement.
    frames.sort_by_key(|frame| (frame.place.unwrap_or(u64::MAX), frame.ticket));
    let is_place_lost = frames.iter().any(|frame| frame.is_place_lost);
    if remains.rebooted || is_place_lost {
        // A frame's lines are not before its base, nor before the place that an interrupted recovery gave it.
        let first = |frame: &Found<'_>| {
            frame
                .base
                .min(frame.place.map_or(u64::MAX, |place| front + place))
        };
        let oldest = frames.iter().map(first).min().unwrap_or(u64::MAX);
        append_missing_lines(remains, frames, oldest, live, &mut numbers, &mut recovered)?;
    } else if is_another_file(&frames, live)? {
        append_missing_lines(remains, frames, front, live, &mut numbers, &mut recovered)?;
    } else {
        complete_last_frame(&frames, live, &mut recovered)?;
        close_torn_line(live, &mut recovered)?;
        for frame in frames
            .iter()
            .filter(|frame| frame.end().is_none_or(|end| end > live.length()))
            .collect::<Vec<_>>()
        {
            append_frame(remains, frame, live, &mut numbers, &mut recovered)?;
        }
    }
    if let Some(file) = live.file() {
        file.sync_data()?;
    }
    Ok(recovered)
}

/// The frames that may not be in the log, with their places in the live file, which begins at `front`.
fn find_frames<'a>(remains: &'a Remains, front: u64, recovered: &mut Recovered) -> Vec<Found<'a>> {
    let mut frames = Vec::new();
    for head in &remains.blocks {
        let state = remains.region.header(head).state();
        if state == Some(State::Free) {
            continue;
        }
        match read_frame(remains, head, state) {
            // A file is sealed when it is on the disk with every frame that has its place in it.
            Some(frame) if frame.place.is_some_and(|place| place < front) => {}
            Some(frame) => frames.push(Found {
                place: frame.place.map(|place| place - front),
                ..frame
            }),
            None if remains.rebooted => {}
            None => {
                recovered.damaged_frames += 1;
                tracing::error!(
                    block = head.index(),
                    "a frame in the journal is damaged and cannot be recovered"
                );
            }
        }
    }
    frames
}

/// Reads the frame that begins at `head`; `None` unless everything about it is right.
fn read_frame<'a>(remains: &'a Remains, head: &'a Block, state: Option<State>) -> Option<Found<'a>> {
    let header = remains.region.header(head);
    let is_placed = state? == State::Placed;
    let placement = header.placed_at().filter(|_| is_placed);
    let first_seq = placement.map_or(0, |placement| placement.first_seq);
    let (first, _) = header.described();
    let mut bytes = Vec::new();
    let mut block = head;
    // A chain names each part in order, so it cannot be longer than there are blocks.
    for position in 0..remains.blocks.len() as u32 {
        let (part, checksum) = remains.region.header(block).described();
        let payload = remains.region.payload(block).get(..part.bytes as usize)?;
        let right =
            part.ticket == first.ticket && part.part == position && part.checksum(payload) == checksum;
        if !right || payload.is_empty() || (part.next != NO_BLOCK && payload.len() < PAYLOAD_BYTES) {
            return None;
        }
        bytes.extend_from_slice(payload);
        if part.next == NO_BLOCK {
            let lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
            let whole = bytes.ends_with(b"\n") && lines == u64::from(first.lines);
            if first_seq > 0 {
                bytes = numbered(&bytes, first_seq);
            }
            return whole.then_some(Found {
                head,
                ticket: first.ticket,
                base: first.base,
                place: placement.map(|placement| placement.position),
                first_seq,
                is_place_lost: is_placed && placement.is_none(),
                lines,
                bytes,
            });
        }
        block = remains.blocks.get(part.next as usize)?;
    }
    None
}

/// Whether the log has, where a frame has its place, bytes that are not the frame's: then places say nothing about it.
fn is_another_file(frames: &[Found<'_>], live: &LiveFile) -> io::Result<bool> {
    let Some(file) = live.file() else { return Ok(false) };
    let mut there = Vec::new();
    for frame in frames {
        let Some(place) = frame.place.filter(|place| *place < live.length()) else {
            continue;
        };
        let end = live.length().min(place.saturating_add(frame.bytes.len() as u64));
        there.resize((end - place) as usize, 0);
        file.read_exact_at(&mut there, place)?;
        if there != frame.bytes[..there.len()] {
            tracing::warn!(
                place,
                "the log is not the file that the journal was written for; its lines are compared"
            );
            return Ok(true);
        }
    }
    Ok(false)
}

/// Completes the frame of which only the beginning is in the file.
fn complete_last_frame(
    frames: &[Found<'_>],
    live: &mut LiveFile,
    recovered: &mut Recovered,
) -> io::Result<()> {
    let length = live.length();
    let cut = |frame: &&Found<'_>| {
        frame.place.is_some_and(|place| place < length) && frame.end().is_some_and(|end| end > length)
    };
    let Some(frame) = frames.iter().find(cut) else {
        return Ok(());
    };
    let place = frame.place.expect("a frame that is cut has a place");
    let rest = &frame.bytes[(length - place) as usize..];
    append(live, rest)?;
    recovered.events += memchr::memchr_iter(b'\n', rest).count() as u64;
    Ok(())
}

fn append_frame(
    remains: &Remains,
    frame: &Found<'_>,
    live: &mut LiveFile,
    numbers: &mut Numbers<'_>,
    recovered: &mut Recovered,
) -> io::Result<()> {
    if let Some(place) = frame.place.filter(|place| *place != live.length()) {
        tracing::warn!(
            place,
            length = live.length(),
            "the log is shorter than it was; its journal is appended"
        );
    }
    let (first_seq, bytes) = match frame.place {
        // Its lines have their numbers.
        Some(_) => (frame.first_seq, Cow::Borrowed(&frame.bytes)),
        None => match numbers.next(live)? {
            0 => (0, Cow::Borrowed(&frame.bytes)),
            first => (first, Cow::Owned(numbered(&frame.bytes, first))),
        },
    };
    remains.region.header(frame.head).place(Placement {
        position: numbers.catalog.front().base + live.length(),
        first_seq,
    });
    failpoint::hit("recover.placed");
    append(live, &bytes)?;
    failpoint::hit("recover.written");
    recovered.events += frame.lines;
    numbers.next = (first_seq > 0).then_some(first_seq + frame.lines);
    Ok(())
}

/// Appends those lines of `frames` that the log does not have from position `oldest` on, and completes a torn one that is the beginning of such a
/// line.
fn append_missing_lines(
    remains: &Remains,
    mut frames: Vec<Found<'_>>,
    oldest: u64,
    live: &mut LiveFile,
    numbers: &mut Numbers<'_>,
    recovered: &mut Recovered,
) -> io::Result<()> {
    let front = numbers.catalog.front().base;
    frames.sort_by_key(|frame| frame.ticket);
    // How often each line is to be in the log from there on, less how often it is.
    let mut missing: HashMap<&[u8], u64> = HashMap::new();
    for line in frames.iter().flat_map(Found::each_line) {
        *missing.entry(split(line).1).or_default() += 1;
    }
    numbers
        .catalog
        .for_each_line_from(oldest, |line| found(&mut missing, line))?;
    if let Some(file) = live.file() {
        let start = oldest.saturating_sub(front).min(live.length());
        let mut rest = FileRange::new(&**file, start, live.length());
        for_each_line(&mut rest, |line| found(&mut missing, line))?;
    }
    note_places(remains, &frames, front, live)?;
    complete_missing_line(&frames, numbers, &mut missing, live, recovered)?;
    close_torn_line(live, recovered)?;
    for frame in &frames {
        for line in frame.each_line() {
            let line = split(line).1;
            let count = missing.get_mut(line).expect("every line was counted");
            if *count > 0 {
                *count -= 1;
                let bare = [b"{", line, b"\n"].concat();
                match numbers.next(live)? {
                    0 => append(live, &bare)?,
                    number => {
                        append(live, &numbered(&bare, number))?;
                        numbers.next = Some(number + 1);
                    }
                }
                recovered.events += 1;
            }
        }
    }
    Ok(())
}

/// A line that the log has is not missing.
fn found(missing: &mut HashMap<&[u8], u64>, line: &[u8]) {
    if let Some(count) = missing.get_mut(split(line).1) {
        *count = count.saturating_sub(1);
    }
}

fn numbered(lines: &[u8], first: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + lines.len() / 8);
    number(std::iter::once(lines), first, &mut out);
    out
}

/// The numbers that lines without one are stored with.
struct Numbers<'c> {
    line_seq: bool,
    /// The next one, once it is known.
    next: Option<u64>,
    catalog: &'c Catalog,
}

impl Numbers<'_> {
    /// The number of the next line; 0 if lines are stored without.
    fn next(&mut self, live: &LiveFile) -> io::Result<u64> {
        Ok(match (self.line_seq, self.next) {
            (false, _) => 0,
            (true, Some(next)) => next,
            (true, None) => *self
                .next
                .insert(next_number(self.catalog.front().first_seq, live)?),
        })
    }
}

/// The number of the next line; `first` is the live file's first.
fn next_number(first: u64, live: &LiveFile) -> io::Result<u64> {
    let Some(file) = live.file() else { return Ok(first) };
    let (mut next, mut last) = (first, 0);
    for_each_line(&mut FileRange::new(&**file, 0, live.length()), |line| {
        if facts_of_line(line).is_some() {
            next += 1;
            last = seq_of(line).unwrap_or(last);
        }
    })?;
    // A power cut may have taken lines before the last one.
    Ok(next.max(last + 1))
}

/// Notes, for a recovery after this one, that lines of the frames are from the log's end on, or from its last line on if that is cut.
/// The notes are on the disk before a line is: the log may be shorter than it was when a frame was committed, and who looked
/// for its lines only from there on would not find them.
fn note_places(remains: &Remains, frames: &[Found<'_>], front: u64, live: &LiveFile) -> io::Result<()> {
    if !remains.rebooted {
        return Ok(());
    }
    let cut = torn_line(live)?.map_or(0, |cut| cut.len() as u64);
    let position = front + live.length() - cut;
    let mut is_noted = false;
    for frame in frames {
        let header = remains.region.header(frame.head);
        let is_placed = header.state() == Some(State::Placed);
        let known = header.placed_at().filter(|_| is_placed);
        let known = known.map_or(u64::MAX, |placement| placement.position);
        if position < known.min(frame.base) {
            header.place(Placement {
                position,
                first_seq: 0,
            });
            is_noted = true;
        }
    }
    match is_noted {
        true => remains.region.flush(),
        false => Ok(()),
    }
}

/// Completes the log's torn end, if it is the beginning of a line that is missing.
fn complete_missing_line(
    frames: &[Found<'_>],
    numbers: &Numbers<'_>,
    missing: &mut HashMap<&[u8], u64>,
    live: &mut LiveFile,
    recovered: &mut Recovered,
) -> io::Result<()> {
    let Some(cut) = torn_line(live)? else {
        return Ok(());
    };
    // What is cut before or within its number is closed.
    let (number, begun) = split(&cut);
    if number.is_none() && (numbers.line_seq || cut.starts_with(b"{\"seq\"")) {
        return Ok(());
    }
    for frame in frames {
        let fits =
            |line: &&[u8]| line.starts_with(begun) && missing.get(line).is_some_and(|count| *count > 0);
        let Some(line) = frame.each_line().map(|line| split(line).1).find(fits) else {
            continue;
        };
        *missing.get_mut(line).expect("every line was counted") -= 1;
        append(live, &[&line[begun.len()..], b"\n"].concat())?;
        recovered.events += 1;
        return Ok(());
    }
    Ok(())
}

/// Ends a last line that has no newline.
fn close_torn_line(live: &mut LiveFile, recovered: &mut Recovered) -> io::Result<()> {
    if let Some(cut) = torn_line(live)? {
        append(live, &torn::closing(&cut))?;
        recovered.torn_line_closed = true;
        tracing::warn!(
            bytes = cut.len(),
            "the log ended with a torn line; it has been closed in place"
        );
    }
    Ok(())
}

/// The log's last line, if it has no newline.
fn torn_line(live: &LiveFile) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = live.file() else { return Ok(None) };
    let start = last_line_start(&**file, live.length())?;
    match for_each_line(&mut FileRange::new(&**file, start, live.length()), |_| {})? {
        Ending::Torn(cut) => Ok(Some(cut)),
        Ending::Whole => Ok(None),
    }
}

/// Where the last line of `file` begins, newline or not; looks backwards in steps.
fn last_line_start(file: &dyn crate::log::fs::AppendFile, length: u64) -> io::Result<u64> {
    let mut chunk = vec![0; 64 << 10];
    let mut end = length;
    while end > 0 {
        let size = end.min(chunk.len() as u64) as usize;
        let start = end - size as u64;
        file.read_exact_at(&mut chunk[..size], start)?;
        if let Some(newline) = memchr::memrchr(b'\n', &chunk[..size]) {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn append(live: &mut LiveFile, bytes: &[u8]) -> io::Result<()> {
    live.append(&mut &mut [IoSlice::new(bytes)][..])
}
