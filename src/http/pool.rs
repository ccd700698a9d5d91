//! Input buffers that no connection holds now.
//!
//! A connection takes one when there is something to read, and gives it back before it waits with nothing in it. So there
//! are as many buffers as connections are busy at a moment, however many are open, and those few are warm in a core's
//! cache. A buffer that has grown stays with its connection, which would only have it grow again, until that
//! comes to rest. Bound: [`SPARE_MAX`] buffers of one size; one too many goes back to the allocator.

use std::fmt;

use crossbeam::queue::ArrayQueue;

use super::wire::INPUT_BYTES_START;

/// Most spare buffers: half a mebibyte. A coroutine that is ready does not have one yet, so few are out at a time.
const SPARE_MAX: usize = 64;

/// The spare buffers of a server, shared by its connections.
pub(super) struct Pool(ArrayQueue<Vec<u8>>);

impl Pool {
    pub(super) fn new() -> Self {
        Self(ArrayQueue::new(SPARE_MAX))
    }

    /// A buffer, with anything in it.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| vec![0; INPUT_BYTES_START])
    }

    /// Takes a buffer back, which has not grown.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        debug_assert_eq!(buffer.len(), INPUT_BYTES_START);
        // One too many is freed.
        self.0.push(buffer).ok();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_tuple("Pool").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_unless_they_are_many() {
        let pool = Pool::new();
        let mut buffer = pool.take();
        assert_eq!(buffer.len(), INPUT_BYTES_START);
        buffer[0] = 7;
        pool.give(buffer);
        assert_eq!(pool.take()[0], 7);
        for _ in 0..2 * SPARE_MAX {
            pool.give(vec![0; INPUT_BYTES_START]);
        }
        assert_eq!(pool.0.len(), SPARE_MAX);
    }
}
