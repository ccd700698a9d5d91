//! Named points at which a debug build can be made to die, as if by `kill -9`, to prove what recovery does there.
//!
//! `FLOODGATE_FAILPOINT=publish.placed:3` kills the process with SIGKILL when it passes the point `publish.placed` for
//! the third time. `FLOODGATE_CLOCK_AHEAD=40` puts the clock by which sealed files age ahead by so many seconds: when a file
//! got its name the kernel says, and nobody can make it say something else. Release builds hold none of this: [`due`] is a
//! constant `false`, and [`clock`] is the system's.

use std::time::SystemTime;

/// Whether the process is to die at this passing of the point `name`.
#[cfg(debug_assertions)]
pub(crate) fn due(name: &str) -> bool {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    // The name, and the passings left: counted down by whoever passes. Relaxed, since only the count itself matters.
    static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| {
        let value = std::env::var("FLOODGATE_FAILPOINT").ok()?;
        let (name, count) = value.split_once(':').unwrap_or((&value, "1"));
        Some((name.to_owned(), AtomicU64::new(count.parse().ok()?)))
    });
    armed
        .as_ref()
        .is_some_and(|(armed, left)| armed == name && left.fetch_sub(1, Ordering::Relaxed) == 1)
}

/// Whether the process is to die at this passing of the point `name`: never, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn due(_name: &str) -> bool {
    false
}

/// The time by which sealed files age.
#[cfg(debug_assertions)]
pub(crate) fn clock() -> SystemTime {
    let ahead = std::env::var("FLOODGATE_CLOCK_AHEAD");
    let ahead = ahead.ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    SystemTime::now() + std::time::Duration::from_secs(ahead)
}

/// The time by which sealed files age: the system's, in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn clock() -> SystemTime {
    SystemTime::now()
}

/// Dies here if it is due.
#[inline(always)]
pub(crate) fn hit(name: &str) {
    if due(name) {
        die();
    }
}

/// Ends the process as `kill -9` does: nothing is flushed, unwound or unlocked by us.
#[cold]
pub(crate) fn die() -> ! {
    let itself = rustix::process::getpid();
    rustix::process::kill_process(itself, rustix::process::Signal::KILL)
        .expect("a process may signal itself");
    loop {
        // The signal may reach another thread first.
        std::thread::park();
    }
}
