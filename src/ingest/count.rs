//! What the writer does before it publishes anything: the counts of all there is, and the recent window.
//!
//! Of sealed files the summaries say it; the live file is read. Meanwhile events are taken into the journal; those who wait
//! for `written`, and reads, wait for the end of it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cut::Live;
use super::writer::{GaveUp, Writer};
use crate::event::facts_of_line;
use crate::log::catalog::Segment;
use crate::log::fs::Source;
use crate::log::summary::Tally;
use crate::log::{Backwards, FileRange, for_each_line, seq_of};

/// Time between two words in the log about how far it is.
const WORD_EVERY: Duration = Duration::from_secs(2);
/// How often reading is tried again after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// Most sealed files that are looked at for the recent window. Of a plain one only the end is read.
const SEALED_LOOKED_AT_MAX: usize = 100;
/// Most compressed ones that are read for it: they can be read from their beginning only.
const COMPRESSED_READ_MAX: usize = 3;
/// A line that is longer is none of ours, and nothing before it is looked at.
const LINE_BYTES_MAX: usize = 16 << 20;

impl Writer {
    /// Counts the log. What cannot be read is tried again, as for writing.
    pub(super) fn count_log(&mut self) -> Result<(), GaveUp> {
        let shared = Arc::clone(&self.shared);
        let (tally, window) = loop {
            match self.read_live() {
                Ok(read) => break read,
                Err(error) => {
                    shared.status.log_failed(&error);
                    if !shared.pause_unless_giving_up(RETRY) {
                        return Err(GaveUp);
                    }
                }
            }
        };
        shared.status.log_works();
        for segment in shared.catalog.segments() {
            for counts in &segment.summary.counts {
                shared.counters.add(counts.name(), counts.total);
            }
        }
        for (name, count) in tally.by_name() {
            shared.counters.add(name, count);
        }
        self.sequence = self.front.first_seq - 1 + tally.events() + tally.skipped();
        let checksum = tally.checksum();
        *shared.live() = Live {
            tally,
            file: self.live.file().cloned(),
        };
        self.sync_thread
            .published(self.live.file(), self.live.length(), checksum);
        shared.recent.lock().extend(0, window.iter().map(Vec::as_slice));
        self.tip_moved();
        shared.status.counted();
        tracing::info!(
            events = self.sequence,
            sealed_files = shared.catalog.segments().len(),
            "the log is counted"
        );
        Ok(())
    }

    fn read_live(&self) -> io::Result<(Tally, VecDeque<Vec<u8>>)> {
        let capacity = self.shared.recent.capacity();
        let names_max = self.shared.config.names_max;
        let mut window = VecDeque::with_capacity(capacity);
        let Some(file) = self.live.file() else {
            self.fill_from_sealed(&mut window);
            return Ok((Tally::new(names_max), window));
        };
        let mut from = Progress::new(FileRange::new(&**file, 0, self.live.length()), self.live.length());
        let mut last = 0;
        let (mut tally, _) = Tally::of(&mut from, names_max, |line| {
            last = seq_of(line).unwrap_or(last);
            keep(&mut window, capacity, line);
        })?;
        tally.numbered_up_to(self.front.first_seq, last);
        if window.len() < capacity {
            self.fill_from_sealed(&mut window);
        }
        Ok((tally, window))
    }

    /// Puts before the window what the newest sealed files have, until it is full.
    fn fill_from_sealed(&self, window: &mut VecDeque<Vec<u8>>) {
        let catalog = &self.shared.catalog;
        let mut compressed_left = COMPRESSED_READ_MAX;
        for segment in catalog.segments().iter().rev().take(SEALED_LOOKED_AT_MAX) {
            if window.len() == self.shared.recent.capacity() {
                return;
            }
            let read = match catalog.open_plain(segment.id()) {
                Ok(Some(file)) => self.prepend_last(&*file, window),
                Ok(None) if compressed_left == 0 => return,
                Ok(None) => self.prepend_compressed(segment, window).map(|is_there| {
                    compressed_left -= usize::from(is_there);
                }),
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                tracing::warn!(%error, "a sealed file cannot be read for the recent window");
            }
        }
    }

    fn prepend_last(&self, file: &dyn Source, window: &mut VecDeque<Vec<u8>>) -> io::Result<()> {
        let read = |to: &mut [u8], at| file.read_exact_at(to, at);
        let mut lines = Backwards::new(file.length()?, LINE_BYTES_MAX, read)?;
        while window.len() < self.shared.recent.capacity() {
            let Some((_, line)) = lines.previous()? else { break };
            if facts_of_line(line).is_some() {
                window.push_front([line, b"\n"].concat());
            }
        }
        Ok(())
    }

    /// Answers whether there is such a file.
    fn prepend_compressed(&self, segment: &Segment, window: &mut VecDeque<Vec<u8>>) -> io::Result<bool> {
        let count = self.shared.recent.capacity() - window.len();
        let mut lines = VecDeque::new();
        let Some(mut file) = self.shared.catalog.open_file(segment.id())? else {
            return Ok(false);
        };
        for_each_line(&mut file, |line| {
            if facts_of_line(line).is_some() {
                keep(&mut lines, count, line);
            }
        })?;
        lines.into_iter().rev().for_each(|line| window.push_front(line));
        Ok(true)
    }
}

/// Adds a line to the newest `capacity` ones.
fn keep(window: &mut VecDeque<Vec<u8>>, capacity: usize, line: &[u8]) {
    let oldest = match window.len() < capacity {
        true => None,
        false => window.pop_front(),
    };
    let mut slot = oldest.unwrap_or_default();
    slot.clear();
    slot.extend_from_slice(line);
    slot.push(b'\n');
    window.push_back(slot);
}

/// Reads, and says now and then how far it is.
struct Progress<R> {
    from: R,
    done: u64,
    length: u64,
    next_word: Instant,
}

impl<R: Read> Progress<R> {
    fn new(from: R, length: u64) -> Progress<R> {
        Progress {
            from,
            done: 0,
            length,
            next_word: Instant::now() + WORD_EVERY,
        }
    }
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let size = self.from.read(to)?;
        self.done += size as u64;
        if Instant::now() >= self.next_word {
            self.next_word += WORD_EVERY;
            tracing::info!(bytes = self.done, of = self.length, "reading the log");
        }
        Ok(size)
    }
}
