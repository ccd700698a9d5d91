//! The recent window: the last events, as lines.
//!
//! Owner: the writer thread adds what it published; readers copy out. Both hold the lock for a copy of at most the
//! window (`METRICS_RING_CAPACITY` lines), the writer also while it counts the names of a batch, never across I/O or a yield. Memory is bounded by that many lines of the largest
//! size; slots are reused, so the steady state allocates nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

/// The last `capacity` lines of the log, without their newlines.
pub struct Recent {
    capacity: usize,
    lines: Mutex<VecDeque<Vec<u8>>>,
}

impl Recent {
    /// An empty window of `capacity` lines.
    pub fn new(capacity: usize) -> Recent {
        Recent {
            capacity,
            lines: Mutex::new(VecDeque::new()),
        }
    }

    /// Lines the window can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The window as it is, and stays until this is dropped. The writer counts what it adds under this lock: who
    /// looks at the lifetime counts while holding it sees counts and lines of one moment.
    pub fn lock(&self) -> Window<'_> {
        Window {
            capacity: self.capacity,
            lines: self.lines.lock().expect("no holder of this lock panics"),
        }
    }
}

/// The window, locked.
pub struct Window<'w> {
    capacity: usize,
    lines: MutexGuard<'w, VecDeque<Vec<u8>>>,
}

impl Window<'_> {
    /// Adds the lines of which `pieces` are the bytes, in order, leaving out the first `skip` of them.
    pub fn extend<'a>(&mut self, skip: usize, pieces: impl Iterator<Item = &'a [u8]>) {
        let (lines, capacity) = (&mut *self.lines, self.capacity);
        let mut skip = skip;
        let mut open: Option<Vec<u8>> = None;
        for mut piece in pieces {
            while let Some(end) = memchr::memchr(b'\n', piece) {
                if skip > 0 {
                    skip -= 1;
                } else {
                    let mut line = open.take().unwrap_or_else(|| slot(lines, capacity));
                    line.extend_from_slice(&piece[..end]);
                    lines.push_back(line);
                }
                piece = &piece[end + 1..];
            }
            if skip == 0 && !piece.is_empty() {
                open.get_or_insert_with(|| slot(lines, capacity))
                    .extend_from_slice(piece);
            }
        }
        debug_assert!(open.is_none(), "what is published ends with a newline");
    }

    /// Calls `each` with the last `limit` lines, newest first.
    pub fn newest(&self, limit: usize, each: impl FnMut(&[u8])) {
        self.lines
            .iter()
            .rev()
            .take(limit)
            .map(Vec::as_slice)
            .for_each(each);
    }
}

/// An empty line to fill: the oldest of a full window, or a new one.
fn slot(lines: &mut VecDeque<Vec<u8>>, capacity: usize) -> Vec<u8> {
    let mut line = if lines.len() >= capacity {
        lines.pop_front().unwrap_or_default()
    } else {
        Vec::new()
    };
    line.clear();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(recent: &Recent, limit: usize) -> Vec<String> {
        let mut lines = Vec::new();
        recent.lock().newest(limit, |line| {
            lines.push(String::from_utf8(line.to_vec()).unwrap())
        });
        lines
    }

    #[test]
    fn the_window_holds_the_last_lines_newest_first() {
        let recent = Recent::new(3);
        recent.lock().extend(0, [&b"a\nb\n"[..]].into_iter());
        assert_eq!(shown(&recent, 9), ["b", "a"]);
        recent.lock().extend(0, [&b"c\nd"[..], b"d", b"\n"].into_iter());
        assert_eq!(shown(&recent, 9), ["dd", "c", "b"]);
        recent
            .lock()
            .extend(2, [&b"x\ny"[..], b"y\nz", b"z\n"].into_iter());
        assert_eq!(shown(&recent, 9), ["zz", "dd", "c"]);
        assert_eq!(shown(&recent, 1), ["zz"]);
    }
}
