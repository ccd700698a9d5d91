//! Threads that give way to those that take events in.
//!
//! What reads, compresses or uploads can wait for a moment; who waits for a 202 should not. By default the kernel lets
//! a thread that has begun run on for some milliseconds, and a worker of the same core waits.

use rustix::process::nice;

/// How much nicer: a tenth of a core against one thread that is not, and all of it against none.
const NICENESS: i32 = 10;

/// Makes the calling thread one of them, and those that it starts. (On Linux niceness is a thread's own.)
pub(crate) fn enter() {
    // If that is forbidden, the thread does its work as before.
    nice(NICENESS).ok();
}
