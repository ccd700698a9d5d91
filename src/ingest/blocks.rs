//! The journal's blocks and who may touch them: the one module with pointers into the mapping.
//!
//! The journal is a region of memory, mapped shared from a file (or anonymous, where `METRICS_JOURNAL=memory`), cut into
//! blocks of [`BLOCK_BYTES`]. **A block is owned by who holds its [`Block`] token.** Tokens are made in one place
//! ([`Region::mint`]), once for each index; they can be neither copied nor cloned, and they travel producer → ring → writer
//! → free list → producer. That is the whole safety argument: a `&mut Block` is the right to write its payload, and no
//! two threads can have one for the same bytes.
//!
//! Bounds: the region has a fixed size for the life of the process (address space, not memory); the blocks that exist
//! grow chunk by chunk from its beginning. A token is minted only after the chunk is backed by file blocks that are on the
//! disk, so that touching it can neither fault for want of space (SIGBUS) nor wait for an allocation.

use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::{Advice, MmapRaw};

use super::header::Header;

/// Size of a block in bytes: an odd number of cache lines. The beginnings of blocks, which is all that a single event
/// uses, are then spread over the whole of a core's cache; with a power of two they would share a few of its sets.
pub const BLOCK_BYTES: usize = 4096 + 64;
/// Bytes of the header at a block's beginning.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// Bytes of lines a block can hold.
pub const PAYLOAD_BYTES: usize = BLOCK_BYTES - HEADER_BYTES;
/// Blocks that are reused first: 1 MiB, which a core's own cache holds, and what a publish interval of fast traffic needs.
pub const HOT_BLOCKS: usize = 256;
/// Bytes in front of the first block: the journal file's own header.
pub const PREFACE_BYTES: usize = 4096;

const _: () = assert!(HEADER_BYTES == 64, "the on-disk layout of a header has 64 bytes");
// So a header is aligned, and lies in one page.
const _: () = assert!(BLOCK_BYTES.is_multiple_of(HEADER_BYTES) && PREFACE_BYTES.is_multiple_of(HEADER_BYTES));

/// The right to one block.
#[derive(Debug)]
pub struct Block {
    /// INVARIANT: less than the `minted` of the region it came from, and no other token has it.
    index: u32,
}

impl Block {
    /// The block's place in the journal.
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// The mapped blocks.
pub struct Region {
    /// INVARIANT: maps PREFACE_BYTES + capacity * BLOCK_BYTES bytes, readable and writable, until dropped.
    map: MmapRaw,
    capacity: u32,
    /// Blocks for which there is a token. Only `mint` and `retire` change it.
    minted: AtomicU32,
}

impl Region {
    /// A region over `map`, with no blocks yet.
    ///
    /// # Panics
    /// If the mapping has no room for the preface.
    pub fn new(map: MmapRaw) -> Region {
        let blocks = map
            .len()
            .checked_sub(PREFACE_BYTES)
            .expect("a journal mapping holds its preface")
            / BLOCK_BYTES;
        let capacity = u32::try_from(blocks).expect("a journal has fewer than 2^32 blocks");
        Region {
            map,
            capacity,
            minted: AtomicU32::new(0),
        }
    }

    /// Blocks the region has address space for.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Waits until what was stored in the mapping is on the disk (`msync`).
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&self) -> std::io::Result<()> {
        self.map.flush()
    }

    /// Blocks that exist.
    pub fn minted(&self) -> u32 {
        // Relaxed: a figure for health and growth decisions; tokens carry the ordering.
        self.minted.load(Ordering::Relaxed)
    }

    /// Makes the tokens for the next `count` blocks (fewer at the end of the region).
    ///
    /// The caller vouches that the file behind them is that long: touching a page behind the end of a file is a SIGBUS,
    /// which is a crash and not undefined behaviour.
    pub fn mint(&self, count: u32) -> Vec<Block> {
        let range = self
            .minted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |minted| {
                Some(minted + count.min(self.capacity - minted))
            });
        let start = range.expect("the closure always answers");
        let end = start + count.min(self.capacity - start);
        // Faults the pages in now rather than at an event's first store; of the first chunk those that go round first, since
        // a server with little to do never needs the others. Old kernels do not know the advice; then the first stores fault.
        let faulted = match start {
            0 => end.min(HOT_BLOCKS as u32),
            _ => end - start,
        };
        let offset = PREFACE_BYTES + start as usize * BLOCK_BYTES;
        self.map
            .advise_range(Advice::PopulateWrite, offset, faulted as usize * BLOCK_BYTES)
            .ok();
        (start..end).map(|index| Block { index }).collect()
    }

    /// Lets go of the tokens of all blocks from number `keep` on, if they are all among `blocks`: those blocks exist no more,
    /// until they are minted again. Answers the tokens that are left.
    pub fn retire(&self, mut blocks: Vec<Block>, keep: u32) -> Vec<Block> {
        let beyond = blocks.iter().filter(|block| block.index >= keep).count();
        if beyond as u32 == self.minted().saturating_sub(keep) {
            blocks.retain(|block| block.index < keep);
            self.minted.fetch_min(keep, Ordering::Relaxed);
        }
        blocks
    }

    fn pointer(&self, block: &Block) -> *mut u8 {
        debug_assert!(block.index < self.minted());
        // SAFETY: by the invariants of `Block::index` and `map`, the offset is within the mapping.
        unsafe {
            self.map
                .as_mut_ptr()
                .add(PREFACE_BYTES + block.index as usize * BLOCK_BYTES)
        }
    }

    /// The block's header. Its fields are atomics, so a shared reference suffices to write it.
    pub fn header(&self, block: &Block) -> &Header {
        // SAFETY: the block lies within the mapping, which lives as long as `self`, and begins at a multiple of the
        // header's size, so the header is aligned; every bit pattern is a valid `Header` (it consists of atomic integers), and nobody forms a `&mut` to it.
        unsafe { &*self.pointer(block).cast::<Header>() }
    }

    /// The block's room for lines, to read.
    pub fn payload<'a>(&'a self, block: &'a Block) -> &'a [u8] {
        // SAFETY: PAYLOAD_BYTES behind the header lie within the block. The token is unique and borrowed shared for 'a, so
        // nobody can hold the `&mut` of `payload_mut` meanwhile.
        unsafe { std::slice::from_raw_parts(self.pointer(block).add(HEADER_BYTES), PAYLOAD_BYTES) }
    }

    /// The block's room for lines, to write.
    pub fn payload_mut<'a>(&'a self, block: &'a mut Block) -> &'a mut [u8] {
        // SAFETY: as in `payload`; the token is unique and borrowed exclusively for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(block).add(HEADER_BYTES), PAYLOAD_BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::Placement;
    use super::*;

    fn region(blocks: usize) -> Region {
        let length = PREFACE_BYTES + blocks * BLOCK_BYTES;
        Region::new(memmap2::MmapOptions::new().len(length).map_anon().unwrap().into())
    }

    #[test]
    fn every_index_is_minted_once_and_none_behind_the_end() {
        let region = region(10);
        let indices = |blocks: Vec<Block>| blocks.iter().map(Block::index).collect::<Vec<_>>();
        assert_eq!(indices(region.mint(4)), [0, 1, 2, 3]);
        assert_eq!(indices(region.mint(4)), [4, 5, 6, 7]);
        assert_eq!(indices(region.mint(4)), [8, 9]);
        assert_eq!(indices(region.mint(4)), [0; 0]);
    }

    #[test]
    fn blocks_are_retired_only_all_together_and_can_be_minted_again() {
        let region = region(10);
        let mut blocks = region.mint(8);
        let held = blocks.pop().unwrap();
        let mut blocks = region.retire(blocks, 3);
        assert_eq!((blocks.len(), region.minted()), (7, 8));
        blocks.insert(2, held);
        let left = region.retire(blocks, 3);
        assert_eq!((left.len(), region.minted()), (3, 3));
        assert!(left.iter().all(|block| block.index() < 3));
        assert_eq!(
            region.mint(2).iter().map(Block::index).collect::<Vec<_>>(),
            [3, 4]
        );
    }

    #[test]
    fn blocks_do_not_overlap_and_headers_are_apart_from_payloads() {
        let region = region(3);
        let mut blocks = region.mint(3);
        for block in &mut blocks {
            let fill = block.index() as u8 + 1;
            region.payload_mut(block).fill(fill);
            region.header(block).place(Placement {
                position: u64::from(fill),
                first_seq: 0,
            });
        }
        for block in &blocks {
            let fill = block.index() as u8 + 1;
            assert!(region.payload(block).iter().all(|byte| *byte == fill));
            let placed = region.header(block).placed_at().unwrap();
            assert_eq!(placed.position, u64::from(fill));
        }
    }
}
