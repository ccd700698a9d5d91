//! Gives the used part of a waiting coroutine's stack back to the kernel.
//!
//! A request that is parsed, validated and answered goes some 16 KiB deep; a connection that waits for the next one stands
//! a fraction of that below its first frame. The pages between would stay with the process though nobody reads them
//! again, and be two thirds of what a connection at rest costs. `madvise` returns them; the next request finds fresh
//! ones.
//!
//! For that it must be known how far down a stack goes. The runtime does not tell, so [`measure`] looks at one when the
//! server starts. All stacks of the runtime have the same size: it takes it from one process-wide setting, which is made
//! before its first coroutine.
//!
//! This and `purge.rs` are the only modules of the front end with `unsafe` in them.

use std::ffi::c_void;

use may::coroutine::Builder;
use may::sync::mpsc;
use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Pages at the lower end that are left alone: the lowest holds the runtime's mark by which it finds overflows, and two are
/// for what a connection's coroutine is started with beyond what the measured one was, which is some hundred bytes.
const PAGES_LEFT: usize = 3;
/// What the frames of [`Extent::release`] and of the system call below it need at the most, in bytes.
const FRAMES_BYTES_MAX: usize = 1024;

/// How many bytes below its first frame a coroutine's stack has for certain. `None` if that cannot be found out: then
/// stacks are left as they are.
pub(super) fn measure() -> Option<usize> {
    let (found, address) = mpsc::channel();
    let (keep, kept) = mpsc::channel::<()>();
    let probe = move || {
        found.send(this_frame()).ok();
        // Until its stack has been looked up it must not become somebody else's.
        kept.recv().ok();
    };
    may::go!(Builder::new(), probe).ok()?;
    let first = address.recv().ok()?;
    let lowest = lower_end(&std::fs::read_to_string("/proc/self/maps").ok()?, first)?;
    drop(keep);
    (first - lowest).checked_sub(PAGES_LEFT * page_size())
}

/// Where the mapping begins that has `address` in it. The page below a stack is a guard, so no other mapping is joined
/// to its lower end.
fn lower_end(maps: &str, address: usize) -> Option<usize> {
    maps.lines().find_map(|line| {
        let (first, rest) = line.split_once('-')?;
        let (end, _) = rest.split_once(' ')?;
        let [first, end] = [first, end].map(|text| usize::from_str_radix(text, 16).ok());
        (first?..end?).contains(&address).then_some(first?)
    })
}

#[inline(never)]
fn this_frame() -> usize {
    let local = 0u8;
    std::ptr::from_ref(std::hint::black_box(&local)).addr()
}

/// The part of the current coroutine's stack that may be given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// INVARIANT: an address in the stack of the coroutine that made this, above the runtime's mark.
    lowest: usize,
}

impl Extent {
    /// To be called where a coroutine begins, with what [`measure`] found.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            lowest: this_frame() - bytes,
        }
    }

    /// Gives back the pages below the caller, in the coroutine that made this.
    #[inline(never)]
    pub(super) fn release(self) {
        let page = page_size();
        let end = (this_frame() - FRAMES_BYTES_MAX) & !(page - 1);
        let first = self.lowest.next_multiple_of(page);
        if first >= end {
            return;
        }
        // SAFETY: the range is a part of this coroutine's stack (the invariant, and `end` is below the current frame). It
        // is all below the frames that are live during the call, so nobody relies on what is in it: whoever is called
        // later writes a frame before reading it.
        let advised = unsafe { madvise(first as *mut c_void, end - first, Advice::LinuxDontNeed) };
        // A kernel that does not want to keeps the pages, which costs memory and nothing else.
        advised.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_of_an_address_is_found() {
        let maps = "1000-3000 rw-p 0 0:0 0\n3000-4000 ---p 0 0:0 0 [guard]\n4000-8000 rw-p 0 0:0 0\n";
        assert_eq!(lower_end(maps, 0x1fff), Some(0x1000));
        assert_eq!(lower_end(maps, 0x4000), Some(0x4000));
        assert_eq!(lower_end(maps, 0x8000), None);
    }

    /// Uses the stack some 16 KiB deep.
    #[inline(never)]
    fn use_stack(seed: u8) -> u64 {
        let bytes = std::hint::black_box([seed; 16 << 10]);
        bytes.iter().map(|byte| u64::from(*byte)).sum()
    }

    #[test]
    fn a_coroutine_goes_on_after_its_stack_was_given_back() {
        // Whichever test came first has started the runtime, perhaps with small stacks.
        let Some(bytes) = measure() else { return };
        let run = move || {
            let extent = Extent::new(bytes.min(64 << 10));
            let mut kept = [0; 100];
            for round in 0..100u8 {
                kept[usize::from(round)] = use_stack(round);
                extent.release();
                may::coroutine::yield_now();
            }
            kept.iter().sum::<u64>()
        };
        let sum = may::go!(Builder::new(), run).unwrap().join().unwrap();
        assert_eq!(sum, (16 << 10) * (0..100).sum::<u64>());
    }
}
