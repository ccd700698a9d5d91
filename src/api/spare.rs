//! Buffers for batches, shared by all sessions.
//!
//! A batch needs room for its body and its lines, a connection does not need them between batches. So they are taken from
//! here for one request and given back: few buffers are in use at a time, and those are warm in a core's cache. Bounds:
//! [`SPARE_MAX`] of each kind, each of [`SPARE_BYTES_MAX`] at the most; larger ones are freed.

use crossbeam::queue::ArrayQueue;

use crate::event::Lines;

/// Most spare buffers of a kind: 16 MiB. Those of bodies that come slowly all come back at some time, but only as many
/// as there are cores are needed at a moment.
const SPARE_MAX: usize = 16;
/// The largest spare buffer, in bytes: a batch of some thousand events.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// The spare buffers.
pub struct Spare {
    bytes: ArrayQueue<Vec<u8>>,
    lines: ArrayQueue<Lines>,
}

impl Spare {
    /// None yet.
    pub fn new() -> Spare {
        Spare {
            bytes: ArrayQueue::new(SPARE_MAX),
            lines: ArrayQueue::new(SPARE_MAX),
        }
    }

    /// A buffer for bytes, with anything in it.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.pop().unwrap_or_default()
    }

    /// A buffer for lines, empty.
    pub fn lines(&self) -> Lines {
        self.lines.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub fn give_bytes(&self, bytes: Vec<u8>) {
        if (1..=SPARE_BYTES_MAX).contains(&bytes.capacity()) {
            // One too many is freed.
            self.bytes.push(bytes).ok();
        }
    }

    /// Takes a buffer back.
    pub fn give_lines(&self, mut lines: Lines) {
        if (1..=SPARE_BYTES_MAX).contains(&lines.capacity()) {
            lines.clear();
            self.lines.push(lines).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_unless_they_are_large_or_many() {
        let spare = Spare::new();
        spare.give_bytes(Vec::with_capacity(1000));
        spare.give_bytes(Vec::with_capacity(SPARE_BYTES_MAX + 1));
        spare.give_bytes(Vec::new());
        assert!(spare.bytes().capacity() >= 1000);
        assert_eq!(spare.bytes().capacity(), 0);
        for _ in 0..2 * SPARE_MAX {
            spare.give_bytes(Vec::with_capacity(10));
        }
        assert_eq!(spare.bytes.len(), SPARE_MAX);
    }
}
