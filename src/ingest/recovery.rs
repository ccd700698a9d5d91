//! Bringing what a process left in its journal into the log: each acknowledged event once, and no line glued to another.
//!
//! # After `kill -9`
//!
//! The journal is exactly what the process stored, and so is the file. A frame with a place is compared with the file's
//! length: wholly there, it is done; in part, the rest is written; not there, it is written. Frames without a place are
//! appended in ticket order. Each gets its place in the journal's header before a byte of it is written, as in normal
//! running, so recovery may itself be killed at any point and the next one goes on.
//!
//! # After a restart of the machine
//!
//! Pages of the journal and of the file reached the disk in any order, or not at all. A frame is believed only if all its
//! checksums hold, and believed does not mean missing: the block may be an old state of one whose lines are long
//! in the log. So lines that the log already has, from the length it had when the oldest such frame was committed, are
//! not appended again. Only the last frame can be in the file in part, and it is completed if the part is its beginning;
//! any other torn end is closed in place (see [`crate::log::torn`]).
//!
//! Owner: the thread that opens the engine, before any other exists. Memory is bounded by the journal's size.

use std::collections::HashMap;
use std::io::{self, IoSlice};

use super::blocks::{Block, PAYLOAD_BYTES};
use super::header::{NO_BLOCK, State};
use super::journal::Remains;
use crate::failpoint;
use crate::log::{Ending, LiveFile, for_each_line, torn};

/// What recovery found and did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Events that were in the journal and are in the log now because of it, whole or completed.
    pub events: u64,
    /// Frames that could not be believed: their checksums do not hold though the machine was not restarted.
    pub damaged_frames: u64,
    /// A torn line was closed in place.
    pub torn_line_closed: bool,
}

/// A frame found in the journal.
struct Found<'a> {
    head: &'a Block,
    ticket: u64,
    base: u64,
    place: Option<u64>,
    lines: u64,
    bytes: Vec<u8>,
}

impl Found<'_> {
    fn end(&self) -> Option<u64> {
        self.place.map(|place| place + self.bytes.len() as u64)
    }
}

/// Brings `remains`, if there are any, into `live`, and closes a torn line at its end.
///
/// # Errors
/// What reading and writing the log says. Nothing is lost then: the journal is as good as before.
pub fn recover(remains: Option<&Remains>, live: &mut LiveFile) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let Some(remains) = remains else {
        close_torn_line(live, &mut recovered)?;
        return Ok(recovered);
    };
    let mut frames = find_frames(remains, &mut recovered);
    // Frames with a place first, in the order of the file; then the others, in the order of their acknowledgement.
    frames.sort_by_key(|frame| (frame.place.unwrap_or(u64::MAX), frame.ticket));
    complete_last_frame(&frames, live, remains.rebooted, &mut recovered)?;
    close_torn_line(live, &mut recovered)?;
    if remains.rebooted {
        append_missing_lines(frames, live, &mut recovered)?;
    } else {
        for frame in frames
            .iter()
            .filter(|frame| frame.end().is_none_or(|end| end > live.length()))
            .collect::<Vec<_>>()
        {
            append_frame(remains, frame, live, &mut recovered)?;
        }
    }
    if let Some(file) = live.file() {
        file.sync_data()?;
    }
    Ok(recovered)
}

fn find_frames<'a>(remains: &'a Remains, recovered: &mut Recovered) -> Vec<Found<'a>> {
    let mut frames = Vec::new();
    for head in &remains.blocks {
        let state = remains.region.header(head).state();
        if state == Some(State::Free) {
            continue;
        }
        match read_frame(remains, head, state) {
            Some(frame) => frames.push(frame),
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
    let place = match state? {
        State::Placed => Some(header.placed_at()),
        _ => None,
    };
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
            return whole.then_some(Found {
                head,
                ticket: first.ticket,
                base: first.base,
                place,
                lines,
                bytes,
            });
        }
        block = remains.blocks.get(part.next as usize)?;
    }
    None
}

/// Completes the frame of which only the beginning is in the file.
fn complete_last_frame(
    frames: &[Found<'_>],
    live: &mut LiveFile,
    rebooted: bool,
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
    let there = (length - place) as usize;
    if rebooted {
        let mut beginning = vec![0; there];
        let file = live.file().expect("a log with bytes in it is open");
        file.read_exact_at(&mut beginning, place)?;
        if beginning != frame.bytes[..there] {
            return Ok(());
        }
    }
    append(live, &frame.bytes[there..])?;
    recovered.events += frame.lines;
    Ok(())
}

fn append_frame(
    remains: &Remains,
    frame: &Found<'_>,
    live: &mut LiveFile,
    recovered: &mut Recovered,
) -> io::Result<()> {
    if let Some(place) = frame.place.filter(|place| *place != live.length()) {
        tracing::warn!(
            place,
            length = live.length(),
            "the log is shorter than it was; its journal is appended"
        );
    }
    remains.region.header(frame.head).place(live.length());
    failpoint::hit("recover.placed");
    append(live, &frame.bytes)?;
    failpoint::hit("recover.written");
    recovered.events += frame.lines;
    Ok(())
}

/// Appends those lines of `frames` that the log does not have.
fn append_missing_lines(
    mut frames: Vec<Found<'_>>,
    live: &mut LiveFile,
    recovered: &mut Recovered,
) -> io::Result<()> {
    frames.sort_by_key(|frame| frame.ticket);
    let Some(oldest) = frames.iter().map(|frame| frame.base).min() else {
        return Ok(());
    };
    // How often each line is to be in the log from there on, less how often it is.
    let mut missing: HashMap<&[u8], u64> = HashMap::new();
    let lines = |bytes: &'_ [u8]| -> Vec<std::ops::Range<usize>> {
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', bytes);
        ends.map(|end| std::mem::replace(&mut start, end + 1)..end)
            .collect()
    };
    for frame in &frames {
        for range in lines(&frame.bytes) {
            *missing.entry(&frame.bytes[range]).or_default() += 1;
        }
    }
    if let Some(file) = live.file() {
        let start = oldest.min(live.length());
        for_each_line(&**file, start, live.length(), |line| {
            if let Some(count) = missing.get_mut(line) {
                *count = count.saturating_sub(1);
            }
        })?;
    }
    for frame in &frames {
        for range in lines(&frame.bytes) {
            let count = missing
                .get_mut(&frame.bytes[range.clone()])
                .expect("every line was counted");
            if *count > 0 {
                *count -= 1;
                append(live, &frame.bytes[range.start..=range.end])?;
                recovered.events += 1;
            }
        }
    }
    Ok(())
}

/// Ends a last line that has no newline.
fn close_torn_line(live: &mut LiveFile, recovered: &mut Recovered) -> io::Result<()> {
    let Some(file) = live.file().cloned() else {
        return Ok(());
    };
    let start = last_line_start(&*file, live.length())?;
    if let Ending::Torn(cut) = for_each_line(&*file, start, live.length(), |_| {})? {
        append(live, &torn::closing(&cut))?;
        recovered.torn_line_closed = true;
        tracing::warn!(
            bytes = cut.len(),
            "the log ended with a torn line; it has been closed in place"
        );
    }
    Ok(())
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
