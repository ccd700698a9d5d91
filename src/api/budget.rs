//! The bytes of bodies that are being read, over all connections.
//!
//! Each body has a limit, and so has the number of connections, but their product is more memory than there is. So a body
//! of which more is kept than its connection's input buffer holds takes the rest from here, step by step while it comes, and
//! gives it back when its request is done with it. Of a batch that is the lines it becomes and what is gathered of it, of a
//! single event the body. Who finds nothing left is refused (503 with `Retry-After`) and keeps
//! nothing.
//!
//! What a body has taken the connection is told ([`Kept`]), which asks the more of the peer's rate the more that is: who could
//! hold a share of this for a trickle would shut everybody else out. Of a packed body it is told what was unpacked, too: a little
//! that is much when it is unpacked has come as fast as that.
//!
//! Owner: shared by all sessions; a [`Held`] belongs to one request. Bound: `METRICS_INFLIGHT_BYTES_MAX`.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http::Kept;

/// What a body may have without asking: the connection's input buffer, which is there in any case.
const FREE_BYTES: usize = 64 << 10;
/// What is taken at a time.
const STEP_BYTES: usize = 256 << 10;

/// What is left for bodies.
pub struct Budget {
    /// Taken and given back by requests. Relaxed: a count that vouches for nothing else.
    left: AtomicUsize,
    most: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Budget {
        Budget {
            left: AtomicUsize::new(bytes),
            most: bytes,
        }
    }

    /// What all requests may hold together.
    pub fn most(&self) -> usize {
        self.most
    }

    /// What all requests hold now.
    pub fn held(&self) -> usize {
        self.most - self.left.load(Ordering::Relaxed)
    }

    /// For one request, that holds nothing yet. `kept` is told what it takes.
    pub fn hold<'b>(&'b self, kept: Kept<'b>) -> Held<'b> {
        Held {
            budget: self,
            kept,
            granted: Cell::new(FREE_BYTES),
            used: Cell::new(0),
            exhausted: Cell::new(false),
        }
    }
}

/// What one request holds. Given back on drop.
pub struct Held<'b> {
    budget: &'b Budget,
    kept: Kept<'b>,
    granted: Cell<usize>,
    used: Cell<usize>,
    exhausted: Cell<bool>,
}

impl Held<'_> {
    /// `body`, every byte of which is held from when it is consumed.
    pub fn metered<R>(&self, body: R) -> Metered<'_, R> {
        Metered { body, held: self }
    }

    /// The reading ended because nothing was left.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// What has been read so far is not kept any longer.
    pub fn release(&self) {
        let granted = self.granted.replace(FREE_BYTES);
        self.budget
            .left
            .fetch_add(granted - FREE_BYTES, Ordering::Relaxed);
        self.used.set(0);
        self.kept.set(0);
    }

    /// So many bytes are kept now, in all; whether they may be.
    pub fn keep(&self, used: usize) -> bool {
        self.used.set(used);
        let missing = used.saturating_sub(self.granted.get());
        if missing > 0 {
            let wanted = missing.next_multiple_of(STEP_BYTES);
            let taken = self
                .budget
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(wanted)
                });
            match taken {
                Ok(_) => {
                    let granted = self.granted.get() + wanted;
                    self.granted.set(granted);
                    self.kept.set(granted - FREE_BYTES);
                }
                Err(_) => self.exhausted.set(true),
            }
        }
        !self.is_exhausted()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

/// A body and who holds its bytes.
pub struct Metered<'h, R> {
    body: R,
    held: &'h Held<'h>,
}

impl<R: BufRead> BufRead for Metered<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.held.is_exhausted() {
            return Err(io::Error::other("no memory is left for bodies"));
        }
        self.body.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.held.keep(self.held.used.get() + count);
        self.body.consume(count);
    }
}

impl<R: BufRead> Read for Metered<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = piece.len().min(to.len());
        to[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Account;

    fn read(held: &Held<'_>, bytes: usize) -> bool {
        let body = vec![b'x'; bytes];
        let read = held.metered(&body[..]).read_to_end(&mut Vec::new());
        assert_eq!(read.is_err(), held.is_exhausted());
        read.is_ok()
    }

    #[test]
    fn bodies_share_what_there_is_and_give_it_back() {
        let budget = Budget::new(2 * STEP_BYTES);
        let hold = || budget.hold(Kept::nothing());
        let (small, large, other) = (hold(), hold(), hold());
        assert!(read(&large, FREE_BYTES + 2 * STEP_BYTES));
        assert!(read(&small, FREE_BYTES));
        assert!(!read(&other, FREE_BYTES + 1));
        drop((large, other));
        let other = hold();
        assert!(read(&other, FREE_BYTES + STEP_BYTES + 1));
        other.release();
        assert!(read(&other, FREE_BYTES + 2 * STEP_BYTES));
        assert!(!read(&other, 1));
        drop((small, other));
        assert_eq!(budget.left.into_inner(), 2 * STEP_BYTES);
    }

    #[test]
    fn the_connection_is_told_what_is_taken_and_no_more() {
        let (budget, told) = (Budget::new(2 * STEP_BYTES), Account::default());
        let held = budget.hold(Kept::of(&told));
        assert!(held.keep(FREE_BYTES));
        assert_eq!(told.kept(), 0);
        assert!(held.keep(FREE_BYTES + STEP_BYTES + 1));
        assert_eq!(told.kept(), 2 * STEP_BYTES);
        held.release();
        assert_eq!(told.kept(), 0);
        assert!(held.keep(FREE_BYTES + 1));
        assert!(!held.keep(FREE_BYTES + 3 * STEP_BYTES));
        assert_eq!(told.kept(), STEP_BYTES);
        drop(held);
        assert_eq!(told.kept(), 0);
    }
}
