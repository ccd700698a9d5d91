//! Has the allocator give freed memory back to the kernel, also when nobody allocates any more.
//!
//! mimalloc keeps freed pages for a second, as they are often needed again, and looks for those that were not the next time
//! somebody runs out of pages. A server that falls silent after a burst of large bodies never does: what they took,
//! hundreds of megabytes perhaps, would stay with the process until the next burst. So the patrol asks for that look now and then.
//! It is one comparison when nothing waits to be given back.

use super::deadline::Time;

/// How often: as long as the allocator keeps pages by default.
pub(super) const PURGE_INTERVAL: Time = 1_000_000;

/// Gives back what was freed a while ago, by whichever thread.
pub(super) fn purge() {
    // SAFETY: the function takes no pointers and may be called from any thread at any time. If mimalloc is not the
    // allocator of this program, it has nothing to give back.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
