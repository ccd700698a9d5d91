//! The first SIGINT or SIGTERM asks a command to come to its end; the second one ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Set by the first signal; the second one ends the process at once with `status`, whatever hangs.
///
/// A thread of its own takes the signals one after the other. Two handlers that run on two threads at a time would each take its
/// signal for the first.
///
/// # Errors
/// What the system says.
pub fn stop_on_signals(status: u8) -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // Relaxed: nothing else hangs on it.
    let seen = Arc::clone(&stop);
    std::thread::Builder::new()
        .name("floodgate-stop".into())
        .spawn(move || {
            for _ in signals.forever() {
                if seen.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(status));
                }
            }
        })?;
    Ok(stop)
}
