//! An allocator that counts, for tests of what allocates nothing. Such a test is alone in its file: the allocator counts
//! for the whole process.

// Each test uses its own part of this.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, counting what is asked of it.
pub struct Counting;

/// Calls that gave or moved memory, of all threads. Relaxed: a count, on which no other data hangs.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The same, of this thread. Needs neither set-up nor memory, as an allocator must not ask for any.
    static HERE: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    HERE.set(HERE.get() + 1);
}

// SAFETY: every call is handed to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Calls so far that gave or moved memory.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Those of this thread: what the test harness does meanwhile on its own does not count.
pub fn allocations_here() -> u64 {
    HERE.get()
}
