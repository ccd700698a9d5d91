//! A frame: the lines of one batch, or of the singles of one group, in one or more blocks.
//!
//! A producer fills a frame and commits it; the ring carries it to the writer, whatever its number of events, in one slot.

use std::sync::Arc;

use super::Level;
use super::blocks::{Block, PAYLOAD_BYTES, Region};
use super::header::{NO_BLOCK, Part};
use super::herald::Waiter;
use crate::event::{Lines, NameCount};
use crate::failpoint;

/// One who waits for a frame, and the level that is waited for.
pub type Awaited = (Level, Arc<Waiter>);

/// Blocks that `bytes` of lines need.
pub fn blocks_for(bytes: usize) -> usize {
    bytes.div_ceil(PAYLOAD_BYTES)
}

/// A committed frame on its way to the log: a cache line, as the ring has a place for each block that the journal may have.
pub struct Frame {
    head: Block,
    /// Bytes of all lines, as they are in the journal.
    bytes: u32,
    /// And as they are in the log. Set by the writer with the frame's place.
    stored_bytes: u32,
    lines: u32,
    /// The first name, which is all that a single has.
    name: NameCount,
    more: Option<Box<More>>,
    /// The first of those who wait for it.
    awaited: Option<Awaited>,
}

const _: () = assert!(size_of::<Frame>() <= 64);

/// What a frame with several blocks, names or waiters has beyond the first of each.
struct More {
    blocks: Vec<Block>,
    names: Vec<NameCount>,
    awaited: Vec<Awaited>,
}

impl Frame {
    /// Copies `lines` into `blocks`, describes them and commits: when this returns, they survive the process.
    ///
    /// # Panics
    /// If `blocks` are not exactly as many as the lines need, or there is no line.
    pub fn commit(
        region: &Region,
        mut blocks: impl ExactSizeIterator<Item = Block>,
        lines: &Lines,
        ticket: u64,
        base: u64,
        awaited: impl IntoIterator<Item = Awaited>,
    ) -> Frame {
        let bytes = lines.bytes();
        assert_eq!(
            blocks.len(),
            blocks_for(bytes.len()),
            "a frame gets the blocks it needs"
        );
        let mut head = blocks.next().expect("a frame has at least one line");
        let mut rest: Vec<Block> = blocks.collect();
        let mut pieces = bytes.chunks(PAYLOAD_BYTES);
        let mut describe = |block: &mut Block, part: usize, next: u32| {
            let piece = pieces.next().expect("there are as many pieces as blocks");
            let part = Part {
                ticket,
                base,
                part: part as u32,
                next,
                bytes: piece.len() as u32,
                lines: if part == 0 { lines.count() as u32 } else { 0 },
            };
            // Of the lines as they are here, in the core's cache, rather than of their copy, whose stores are on their way.
            let checksum = part.checksum(piece);
            region.payload_mut(block)[..piece.len()].copy_from_slice(piece);
            region.header(block).describe(&part, checksum);
        };
        describe(&mut head, 0, rest.first().map_or(NO_BLOCK, Block::index));
        for at in 0..rest.len() {
            let next = rest.get(at + 1).map_or(NO_BLOCK, Block::index);
            describe(&mut rest[at], at + 1, next);
        }
        failpoint::hit("commit.copied");
        region.header(&head).commit();
        failpoint::hit("commit.committed");

        let (name, names) = lines.names().split_first().expect("every line has a name");
        let mut awaited = awaited.into_iter();
        let first_awaited = awaited.next();
        let others_awaited: Vec<Awaited> = awaited.collect();
        let is_more = !rest.is_empty() || !names.is_empty() || !others_awaited.is_empty();
        let more = is_more.then(|| {
            Box::new(More {
                blocks: rest,
                names: names.to_vec(),
                awaited: others_awaited,
            })
        });
        Frame {
            head,
            bytes: bytes.len() as u32,
            stored_bytes: bytes.len() as u32,
            lines: lines.count() as u32,
            name: *name,
            more,
            awaited: first_awaited,
        }
    }

    /// Number of lines.
    pub fn lines(&self) -> usize {
        self.lines as usize
    }

    /// Bytes of the lines as they are in the log, once they have their place.
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes as usize
    }

    /// Notes how many bytes its lines have in the log.
    pub fn set_stored_bytes(&mut self, bytes: usize) {
        self.stored_bytes = bytes as u32;
    }

    /// Takes out those who wait for it.
    pub fn take_awaited(&mut self) -> impl Iterator<Item = Awaited> {
        let others = self.more.as_mut().map(|more| std::mem::take(&mut more.awaited));
        self.awaited
            .take()
            .into_iter()
            .chain(others.into_iter().flatten())
    }

    /// The head, whose header speaks for the frame.
    pub fn head(&self) -> &Block {
        &self.head
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        1 + self.rest().len()
    }

    /// The lines, piece by piece: a line may begin in one and end in the next.
    pub fn pieces<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = &'a [u8]> {
        let mut left = self.bytes as usize;
        std::iter::once(&self.head).chain(self.rest()).map(move |block| {
            let piece = &region.payload(block)[..left.min(PAYLOAD_BYTES)];
            left -= piece.len();
            piece
        })
    }

    /// Calls `each` with the name (as JSON text, without quotes), minute and number of events of each entry.
    pub fn for_each_name(
        &self,
        region: &Region,
        scratch: &mut Vec<u8>,
        mut each: impl FnMut(&[u8], i64, u64),
    ) {
        let names = self.more.as_deref().map_or(&[][..], |more| &more.names);
        for entry in std::iter::once(&self.name).chain(names) {
            let (at, end) = (entry.at as usize, entry.at as usize + usize::from(entry.len));
            let (first, last) = (at / PAYLOAD_BYTES, end.saturating_sub(1) / PAYLOAD_BYTES);
            if first == last {
                let payload = region.payload(self.block(first));
                let name = &payload[at % PAYLOAD_BYTES..][..end - at];
                each(name, entry.minute, u64::from(entry.count));
            } else {
                // A name is shorter than a block, so it lies in two at most.
                scratch.clear();
                scratch.extend_from_slice(&region.payload(self.block(first))[at % PAYLOAD_BYTES..]);
                let behind = end - last * PAYLOAD_BYTES;
                scratch.extend_from_slice(&region.payload(self.block(last))[..behind]);
                each(scratch, entry.minute, u64::from(entry.count));
            }
        }
    }

    fn rest(&self) -> &[Block] {
        self.more.as_deref().map_or(&[], |more| &more.blocks)
    }

    fn block(&self, part: usize) -> &Block {
        if part == 0 {
            &self.head
        } else {
            &self.rest()[part - 1]
        }
    }

    /// Takes the frame apart into its blocks.
    pub fn into_blocks(self) -> impl Iterator<Item = Block> {
        let rest = self.more.map(|more| more.blocks);
        std::iter::once(self.head).chain(rest.into_iter().flatten())
    }
}
