//! Input buffers that no connection holds now.
//!
//! A connection takes one when there is something to read, and gives it back before it waits with nothing in it. So there
//! are as many buffers as connections are busy at a moment, however many are open, and those few are warm in a core's
//! cache. There are two sizes: most connections never need the large one, and those that send large bodies have theirs, too,
//! only while they are busy: left with each until it comes to rest, they would be hundreds of megabytes that the
//! allocator then keeps. Bounds: [`SPARE_MAX`] and [`LARGE_SPARE_MAX`] buffers; one too many goes back to the allocator.

use std::fmt;

use crossbeam::queue::ArrayQueue;

use super::wire::{INPUT_BYTES_MAX, INPUT_BYTES_START};

/// Most spare buffers: half a mebibyte. A coroutine that is ready does not have one yet, so few are out at a time.
const SPARE_MAX: usize = 64;
/// Most spare large buffers: a mebibyte.
const LARGE_SPARE_MAX: usize = 16;

/// The spare buffers of a server, shared by its connections.
pub(super) struct Pool {
    small: ArrayQueue<Vec<u8>>,
    large: ArrayQueue<Vec<u8>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            small: ArrayQueue::new(SPARE_MAX),
            large: ArrayQueue::new(LARGE_SPARE_MAX),
        }
    }

    /// A buffer, with anything in it.
    pub(super) fn take(&self) -> Vec<u8> {
        self.small.pop().unwrap_or_else(|| vec![0; INPUT_BYTES_START])
    }

    /// A large buffer, with anything in it.
    pub(super) fn take_large(&self) -> Vec<u8> {
        self.large.pop().unwrap_or_else(|| vec![0; INPUT_BYTES_MAX])
    }

    /// Takes a buffer of either size back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let queue = match buffer.len() {
            INPUT_BYTES_START => &self.small,
            INPUT_BYTES_MAX => &self.large,
            length => unreachable!("no input buffer has {length} bytes"),
        };
        // One too many is freed.
        queue.push(buffer).ok();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Pool")
            .field("small", &self.small.len())
            .field("large", &self.large.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_unless_they_are_many() {
        let pool = Pool::new();
        for take in [Pool::take, Pool::take_large] {
            let mut buffer = take(&pool);
            let length = buffer.len();
            buffer[0] = 7;
            pool.give(buffer);
            let buffer = take(&pool);
            assert_eq!((buffer[0], buffer.len()), (7, length));
            for _ in 0..2 * SPARE_MAX {
                pool.give(vec![0; length]);
            }
        }
        assert_eq!((pool.small.len(), pool.large.len()), (SPARE_MAX, LARGE_SPARE_MAX));
    }
}
