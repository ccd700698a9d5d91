//! The recent window: the last events, as lines.
//!
//! Owner: the writer thread adds what it published; readers copy out. Both hold the lock for a copy of at most the
//! window (`METRICS_RING_CAPACITY` lines), never across I/O or a yield. Memory is bounded by that many lines of the largest
//! size; slots are reused, so the steady state allocates nothing.

use std::collections::VecDeque;
use std::sync::Mutex;

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

    /// Adds the lines of which `pieces` are the bytes, in order, leaving out the first `skip` of them.
    pub fn extend<'a>(&self, skip: usize, pieces: impl Iterator<Item = &'a [u8]>) {
        let mut lines = self.lines.lock().expect("no holder of this lock panics");
        let mut skip = skip;
        let mut open: Option<Vec<u8>> = None;
        for mut piece in pieces {
            while let Some(end) = memchr::memchr(b'\n', piece) {
                if skip > 0 {
                    skip -= 1;
                } else {
                    let mut line = open.take().unwrap_or_else(|| slot(&mut lines, self.capacity));
                    line.extend_from_slice(&piece[..end]);
                    lines.push_back(line);
                }
                piece = &piece[end + 1..];
            }
            if skip == 0 && !piece.is_empty() {
                open.get_or_insert_with(|| slot(&mut lines, self.capacity))
                    .extend_from_slice(piece);
            }
        }
        debug_assert!(open.is_none(), "what is published ends with a newline");
    }

    /// Calls `each` with the last `limit` lines, newest first.
    pub fn newest(&self, limit: usize, each: impl FnMut(&[u8])) {
        let lines = self.lines.lock().expect("no holder of this lock panics");
        lines.iter().rev().take(limit).map(Vec::as_slice).for_each(each);
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
        recent.newest(limit, |line| {
            lines.push(String::from_utf8(line.to_vec()).unwrap())
        });
        lines
    }

    #[test]
    fn the_window_holds_the_last_lines_newest_first() {
        let recent = Recent::new(3);
        recent.extend(0, [&b"a\nb\n"[..]].into_iter());
        assert_eq!(shown(&recent, 9), ["b", "a"]);
        recent.extend(0, [&b"c\nd"[..], b"d", b"\n"].into_iter());
        assert_eq!(shown(&recent, 9), ["dd", "c", "b"]);
        recent.extend(2, [&b"x\ny"[..], b"y\nz", b"z\n"].into_iter());
        assert_eq!(shown(&recent, 9), ["zz", "dd", "c"]);
        assert_eq!(shown(&recent, 1), ["zz"]);
    }
}
