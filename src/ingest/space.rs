//! Free blocks, and waiting for them when there are none.
//!
//! Free blocks are two bounded lock-free queues; the steady state takes one and gives it back without a lock or an
//! allocation. The first, small one is filled before the second and emptied before it: as long as little is in flight the
//! same few blocks go round, and both their writer and their reader find them in a cache, however far the journal has
//! grown.
//!
//! A producer that needs more blocks than there are waits until the writer frees some or the growth thread adds some. It
//! waits with empty hands: either it gets all blocks it needs or it takes none, so two large requests cannot block each
//! other for ever. All who wait are woken together and try again, so the order is not that of their coming: a large
//! request can be overtaken by small ones until its time is up.
//!
//! # Why no wake-up is lost
//!
//! The same pattern as [`super::doorbell`]: the producer enters the line, then looks at the queue again; who gives back
//! blocks pushes them, then looks at the length of the line; each with a `SeqCst` fence in between. `tests/loom.rs` checks it.

use std::sync::Arc;
use std::time::Duration;

use super::blocks::{Block, HOT_BLOCKS};
use super::herald::{Herald, Waiter};
use super::primitives::{ArrayQueue, AtomicUsize, Mutex, Ordering, fence};

/// Of the blocks that are not reused first so many are left when more should be on their way: a journal's first chunk is half
/// used then.
const LOW_BLOCKS: usize = 512;

/// The free list.
pub struct Space {
    hot: ArrayQueue<Block>,
    cold: ArrayQueue<Block>,
    /// Length of `line`: stored under its lock, loaded without by whoever gives blocks back.
    waiting: AtomicUsize,
    line: Mutex<Vec<Arc<Waiter>>>,
    herald: Arc<Herald>,
}

impl Space {
    /// An empty free list with room for `capacity` blocks.
    pub fn new(capacity: usize, herald: Arc<Herald>) -> Space {
        let (hot, cold) = (ArrayQueue::new(HOT_BLOCKS), ArrayQueue::new(capacity));
        Space {
            hot,
            cold,
            waiting: AtomicUsize::new(0),
            line: Mutex::new(Vec::new()),
            herald,
        }
    }

    /// Blocks that are free now.
    pub fn free(&self) -> usize {
        self.hot.len() + self.cold.len()
    }

    /// Whether so few are left that more should be on their way.
    pub fn is_low(&self) -> bool {
        self.cold.len() < LOW_BLOCKS
    }

    /// Whether somebody waits for blocks.
    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Takes blocks until `into` holds `count`; all or none.
    #[inline]
    pub fn take(&self, count: usize, into: &mut Vec<Block>) -> bool {
        let before = into.len();
        // Looked up first where several are needed, so that large requests do not take blocks only to give them back.
        if count > before + 1 && self.free() < count - before {
            return false;
        }
        while into.len() < count {
            match self.hot.pop().or_else(|| self.cold.pop()) {
                Some(block) => into.push(block),
                None => {
                    // Somebody else took some meanwhile; others may have found none because of us.
                    self.give_back(into.drain(before..));
                    return false;
                }
            }
        }
        true
    }

    /// Takes all blocks that are free.
    pub fn take_all(&self) -> Vec<Block> {
        std::iter::from_fn(|| self.hot.pop().or_else(|| self.cold.pop())).collect()
    }

    /// As [`Space::take`], but waits up to `timeout`. `press` is called each time before it waits: it asks whoever can make
    /// room to do so.
    pub fn take_within(
        &self,
        timeout: Duration,
        count: usize,
        into: &mut Vec<Block>,
        press: impl Fn(),
    ) -> bool {
        let waiter = self.herald.waiter();
        let taken = waiter.wait(&self.herald, timeout, || {
            self.enter(&waiter);
            // Pairs with the fence in `give_back`.
            fence(Ordering::SeqCst);
            let taken = self.take(count, into).then_some(());
            if taken.is_none() {
                press();
            }
            taken
        });
        self.leave(&waiter);
        taken.is_some()
    }

    /// Gives blocks back and wakes those who wait for them.
    pub fn give_back(&self, blocks: impl Iterator<Item = Block>) {
        let mut given = false;
        for block in blocks {
            let block = self.hot.push(block);
            if let Err(block) = block {
                self.cold
                    .push(block)
                    .expect("the free list has room for every block there is");
            }
            given = true;
        }
        // Who waits looks in vain again, gives back nothing again, and would wake itself again.
        if !given {
            return;
        }
        // Pairs with the fence in `take_within`.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            let line = {
                let mut line = self.line.lock().expect("no holder of this lock panics");
                self.waiting.store(0, Ordering::Relaxed);
                std::mem::take(&mut *line)
            };
            line.into_iter().for_each(|waiter| self.herald.enqueue(waiter));
            self.herald.wake();
        }
    }

    fn enter(&self, waiter: &Arc<Waiter>) {
        let mut line = self.line.lock().expect("no holder of this lock panics");
        if !line.iter().any(|other| Arc::ptr_eq(other, waiter)) {
            line.push(Arc::clone(waiter));
        }
        self.waiting.store(line.len(), Ordering::Relaxed);
    }

    fn leave(&self, waiter: &Arc<Waiter>) {
        let mut line = self.line.lock().expect("no holder of this lock panics");
        line.retain(|other| !Arc::ptr_eq(other, waiter));
        self.waiting.store(line.len(), Ordering::Relaxed);
    }
}
