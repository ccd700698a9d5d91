//! The header of a journal block, and the order in which it is written: the commit protocol.
//!
//! A block of the journal is this header, then up to 4 KiB of a frame's lines. A frame is a head block and, if its
//! lines need more room, continuation blocks that the head's chain of `next` names. Only a head ever has a state other
//! than [`State::Free`]; a continuation counts through its head.
//!
//! ```text
//! Free --commit--> Committed --place--> Placed --free--> Free
//!   the producer       the writer, before      the writer, when the
//!   (event survives    its writev              lines are in the log
//!    the process)
//! ```
//!
//! # Why plain stores survive `kill -9`
//!
//! The journal is a shared mapping of a file, so every store lands in the page cache, which outlives the process. SIGKILL
//! stops a thread between two instructions; what it stored before that point reaches memory. So all that can go wrong is
//! that the *compiler* or another core's view reorders "lines, then header" behind "state": the state is therefore stored with
//! `Release`, and whoever acts on a state loads it with `Acquire`. The other fields are `Relaxed`: they are published by
//! the state.
//!
//! # Who writes what
//!
//! Whoever holds the block's index owns the block (see [`super::blocks`]): a producer until it pushed the frame into the
//! ring, then the writer thread. There is never more than one writer of a header. The only other reader is recovery, in
//! a later process.
//!
//! `tests/loom.rs` runs this file against every interleaving and reordering that the memory model allows.

use super::primitives::{AtomicU32, AtomicU64, Ordering};

/// Where a head block's frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No frame begins here.
    Free,
    /// The frame is whole: its events are acknowledged or about to be.
    Committed,
    /// The frame has its place in the log, and may be there in part or whole.
    Placed,
}

// The checksum does not cover the state, so the words are many bits apart: a damaged one is not taken for another.
const FREE: u32 = 0;
const COMMITTED: u32 = u32::from_le_bytes(*b"Comm");
const PLACED: u32 = u32::from_le_bytes(*b"pLAC");

/// `next` of the last block of a chain.
pub const NO_BLOCK: u32 = u32::MAX;

/// What a producer says of one block of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The frame's ticket: frames are acknowledged in ticket order. Never 0.
    pub ticket: u64,
    /// Length of the log when the frame was committed, in bytes: its place is not before that.
    pub base: u64,
    /// Position of the block in its chain; the head is 0.
    pub part: u32,
    /// Index of the next block of the chain, or [`NO_BLOCK`].
    pub next: u32,
    /// Bytes of lines in this block.
    pub bytes: u32,
    /// Lines in the whole frame (head only, 0 in a continuation).
    pub lines: u32,
}

impl Part {
    /// CRC-32C over the payload and these fields. It is what makes a block believable after a reboot, when pages of one
    /// frame may be from different times.
    pub fn checksum(&self, payload: &[u8]) -> u32 {
        let mut fields = [0; 32];
        fields[0..8].copy_from_slice(&self.ticket.to_le_bytes());
        fields[8..16].copy_from_slice(&self.base.to_le_bytes());
        fields[16..20].copy_from_slice(&self.part.to_le_bytes());
        fields[20..24].copy_from_slice(&self.next.to_le_bytes());
        fields[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        fields[28..32].copy_from_slice(&self.lines.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&fields), payload)
    }
}

/// A block's header as it lies in the mapping: little surprises, fixed offsets, 64 bytes.
#[repr(C)]
pub struct Header {
    state: AtomicU32,
    part: AtomicU32,
    ticket: AtomicU64,
    base: AtomicU64,
    next: AtomicU32,
    bytes: AtomicU32,
    lines: AtomicU32,
    checksum: AtomicU32,
    /// Position in the log of the frame's first byte; means something in [`State::Placed`] only.
    place: AtomicU64,
    /// The number of the frame's first line, if its lines are stored with numbers; 0 if not. Comes with the place.
    first_seq: AtomicU64,
    /// Checksum of place, number and ticket, which come after the frame's own checksum.
    place_check: AtomicU32,
    reserved: AtomicU32,
}

/// Where a frame is in the log, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Position in the log of its first byte.
    pub position: u64,
    /// The number that its first line is stored with; 0 if lines are stored as they are.
    pub first_seq: u64,
}

impl Header {
    /// A header of a free block, as zeros on the disk are.
    #[cfg(test)]
    #[allow(
        clippy::new_without_default,
        reason = "only tests make headers that are not in a mapping"
    )]
    pub fn new() -> Header {
        Header {
            state: AtomicU32::new(FREE),
            part: AtomicU32::new(0),
            ticket: AtomicU64::new(0),
            base: AtomicU64::new(0),
            next: AtomicU32::new(0),
            bytes: AtomicU32::new(0),
            lines: AtomicU32::new(0),
            checksum: AtomicU32::new(0),
            place: AtomicU64::new(0),
            first_seq: AtomicU64::new(0),
            place_check: AtomicU32::new(0),
            reserved: AtomicU32::new(0),
        }
    }

    /// Writes what belongs to a block of a frame that is not committed yet. The block's state stays free.
    pub fn describe(&self, part: &Part, checksum: u32) {
        // Relaxed throughout: published by `commit`.
        self.part.store(part.part, Ordering::Relaxed);
        self.ticket.store(part.ticket, Ordering::Relaxed);
        self.base.store(part.base, Ordering::Relaxed);
        self.next.store(part.next, Ordering::Relaxed);
        self.bytes.store(part.bytes, Ordering::Relaxed);
        self.lines.store(part.lines, Ordering::Relaxed);
        self.checksum.store(checksum, Ordering::Relaxed);
    }

    /// Commits the frame whose head this is: from this store on it survives the process.
    pub fn commit(&self) {
        // Release: the lines and headers of all blocks of the frame come before the state that vouches for them.
        self.state.store(COMMITTED, Ordering::Release);
    }

    /// Gives the frame its place in the log, before a byte of it is written there.
    pub fn place(&self, placement: Placement) {
        self.place.store(placement.position, Ordering::Relaxed);
        self.first_seq.store(placement.first_seq, Ordering::Relaxed);
        let check = placement.checksum(self.ticket.load(Ordering::Relaxed));
        self.place_check.store(check, Ordering::Relaxed);
        crate::failpoint::hit("publish.placed_half");
        // Release: a frame that says it is placed has its whole place. Dying between the two stores leaves it
        // committed without a place, which is true: nothing of it is in the log yet.
        self.state.store(PLACED, Ordering::Release);
    }

    /// Lets go of the frame: its lines are in the log.
    pub fn free(&self) {
        // Release: nothing the writer did for the frame may move behind the moment it is forgotten.
        self.state.store(FREE, Ordering::Release);
    }

    /// The state; `None` if it is none of the three, which only a damaged journal has.
    pub fn state(&self) -> Option<State> {
        // Acquire: pairs with the Release stores above, so that what the state vouches for is there.
        match self.state.load(Ordering::Acquire) {
            FREE => Some(State::Free),
            COMMITTED => Some(State::Committed),
            PLACED => Some(State::Placed),
            _ => None,
        }
    }

    /// What the producer wrote, with its checksum. To be read after [`Header::state`].
    pub fn described(&self) -> (Part, u32) {
        let part = Part {
            ticket: self.ticket.load(Ordering::Relaxed),
            base: self.base.load(Ordering::Relaxed),
            part: self.part.load(Ordering::Relaxed),
            next: self.next.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            lines: self.lines.load(Ordering::Relaxed),
        };
        (part, self.checksum.load(Ordering::Relaxed))
    }

    /// The place given by [`Header::place`]; `None` if it is damaged. To be read after [`Header::state`] said
    /// [`State::Placed`].
    pub fn placed_at(&self) -> Option<Placement> {
        let placement = Placement {
            position: self.place.load(Ordering::Relaxed),
            first_seq: self.first_seq.load(Ordering::Relaxed),
        };
        let check = placement.checksum(self.ticket.load(Ordering::Relaxed));
        (check == self.place_check.load(Ordering::Relaxed)).then_some(placement)
    }
}

impl Placement {
    fn checksum(self, ticket: u64) -> u32 {
        let mut fields = [0; 24];
        fields[0..8].copy_from_slice(&self.position.to_le_bytes());
        fields[8..16].copy_from_slice(&self.first_seq.to_le_bytes());
        fields[16..24].copy_from_slice(&ticket.to_le_bytes());
        crc32c::crc32c(&fields)
    }
}
