//! Chunks that were read for subscribers who are behind, for others who are behind at the same place.
//!
//! Where many fall out of the ring at a time, because the machine stood still or the log is faster than they, each would
//! have the same lines read and rendered for himself. Near the log's end they are read whole, whatever who asks first wants
//! of them, and the newest [`SHELF_BYTES_MAX`] of that are kept. Owner: the catch-up readers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::RING_BYTES_MAX;
use super::chunk::Chunk;
use crate::log::cursor::Position;

/// Memory of the shelf: those who are behind together read the same for as long as it takes to go round.
const SHELF_BYTES_MAX: usize = RING_BYTES_MAX;

/// The chunks, by where they begin.
#[derive(Default)]
pub(super) struct Shelf {
    chunks: BTreeMap<Position, Arc<Chunk>>,
    /// The oldest first.
    order: VecDeque<Position>,
    bytes: usize,
}

impl Shelf {
    /// The chunk in which the line at `at` is.
    pub fn get(&self, at: Position) -> Option<Arc<Chunk>> {
        let (_, chunk) = self.chunks.range(..=at).next_back()?;
        (chunk.end > at).then(|| Arc::clone(chunk))
    }

    pub fn put(&mut self, chunk: &Arc<Chunk>) {
        if chunk.begin == chunk.end {
            return;
        }
        if let Some(before) = self.chunks.insert(chunk.begin, Arc::clone(chunk)) {
            // Two have read it at once; its place in the order stays.
            self.bytes -= before.bytes();
        } else {
            self.order.push_back(chunk.begin);
        }
        self.bytes += chunk.bytes();
        while self.bytes > SHELF_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            let oldest = self
                .chunks
                .remove(&oldest)
                .expect("what is in the order is there");
            self.bytes -= oldest.bytes();
        }
    }

    pub fn clear(&mut self) {
        *self = Shelf::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Builder;
    use super::*;

    fn chunk(begin: u64, end: u64, room: usize) -> Arc<Chunk> {
        let at = |offset| Position { number: 1, offset };
        let mut builder = Builder::new(at(begin), None, room);
        builder.pass(at(end));
        Arc::new(builder.finish())
    }

    #[test]
    fn a_chunk_is_found_by_any_place_in_it_until_newer_ones_take_its_room() {
        let at = |offset| Position { number: 1, offset };
        let mut shelf = Shelf::default();
        for begin in [0, 100, 300] {
            shelf.put(&chunk(begin, begin + 100, 0));
        }
        shelf.put(&chunk(100, 150, 0));
        let begins = |shelf: &Shelf, offset| shelf.get(at(offset)).map(|chunk| chunk.begin.offset);
        for (offset, begin) in [
            (0, Some(0)),
            (99, Some(0)),
            (100, Some(100)),
            (149, Some(100)),
            (150, None),
            (300, Some(300)),
            (400, None),
        ] {
            assert_eq!(begins(&shelf, offset), begin, "{offset}");
        }
        let many = 2 * SHELF_BYTES_MAX as u64 / size_of::<Chunk>() as u64;
        for number in 10..10 + many {
            shelf.put(&chunk(100 * number, 100 * number + 100, 0));
        }
        assert!(shelf.bytes <= SHELF_BYTES_MAX && shelf.order.len() == shelf.chunks.len());
        assert_eq!(
            (begins(&shelf, 0), begins(&shelf, 100 * (9 + many))),
            (None, Some(100 * (9 + many)))
        );
        shelf.clear();
        assert_eq!(begins(&shelf, 100 * (9 + many)), None);
    }
}
