//! What the service manager is told, where there is one: the protocol of `sd_notify(3)`, `Type=notify` in a unit of systemd.
//!
//! | when | what |
//! |---|---|
//! | it listens | `READY=1`, `STATUS=` with where |
//! | SIGHUP | `RELOADING=1` with the time, then `READY=1` |
//! | a signal says stop | `STOPPING=1` |
//! | every third of `WatchdogSec=` | `WATCHDOG=1`, as long as the engine's [`Pulse`] is felt |
//!
//! Without `NOTIFY_SOCKET` nothing of this happens. Owner: the main thread, and for the watchdog a thread of its own. A
//! message that cannot be sent is told once and is nothing to end for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::ingest::{Pulse, View};

/// Parts of the watchdog's time after which it is told that all is well: two messages may be late.
const BEATS: u32 = 3;

/// Tells the service manager how it goes.
pub struct Manager {
    /// The watchdog's thread ends when this is dropped.
    _watchdog: Option<Sender<()>>,
}

impl Manager {
    /// Says that the server is ready, and from then on that it lives, if that is asked for.
    pub fn ready(status: &str, view: &View) -> Manager {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        let watchdog = sd_notify::watchdog_enabled().map(|period| {
            let (stop, stopped) = channel();
            let (beat, mut pulse) = (beat(period), Pulse::of(view));
            let body = move || {
                watch(
                    beat,
                    || pulse.is_felt(beat),
                    |pause| stopped.recv_timeout(pause),
                    || tell(&[NotifyState::Watchdog]),
                );
            };
            std::thread::Builder::new()
                .name("floodgate-watch".into())
                .spawn(body)
                .expect("a thread can be started at the start");
            stop
        });
        Manager { _watchdog: watchdog }
    }

    /// Says that files are being read again, while `reload` does it.
    pub fn reloading(&self, reload: impl FnOnce()) {
        match NotifyState::monotonic_usec_now() {
            // Both in one message: `Type=notify-reload` wants to know that this is not of an earlier signal.
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
        reload();
        tell(&[NotifyState::Ready]);
    }

    /// Says that the end has begun; from here on nothing is watched.
    pub fn stopping(self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }
}

/// How long after a message the next one is sent to a watchdog that waits so long.
fn beat(period: Duration) -> Duration {
    period / BEATS
}

/// Has `alive` tell of each beat that is felt, until `pause` says that nobody listens any more.
fn watch(
    beat: Duration,
    mut feel: impl FnMut() -> bool,
    pause: impl Fn(Duration) -> Result<(), RecvTimeoutError>,
    mut alive: impl FnMut(),
) {
    let mut was_felt = true;
    loop {
        let next = Instant::now() + beat;
        let is_felt = feel();
        match (was_felt, is_felt) {
            (true, false) => {
                tracing::error!(
                    "the thread that writes the log hangs; the service manager is told no more that all is well"
                );
            }
            (false, true) => tracing::info!("the thread that writes the log goes on"),
            _ => {}
        }
        if is_felt {
            alive();
        }
        was_felt = is_felt;
        if pause(next.saturating_duration_since(Instant::now())) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    /// Swapped by whoever fails first; Relaxed, as nothing hangs on it.
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    if let Err(error) = sd_notify::notify(states)
        && !IS_TOLD.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, "the service manager cannot be told how it goes (NOTIFY_SOCKET)");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_beat_that_is_not_felt_is_not_told_and_the_next_one_that_is_is() {
        let (beats, told) = (Cell::new(0), Cell::new(Vec::new()));
        let pause = |_| match beats.get() {
            6 => Err(RecvTimeoutError::Disconnected),
            _ => Err(RecvTimeoutError::Timeout),
        };
        let feel = || {
            beats.set(beats.get() + 1);
            !(3..=5).contains(&beats.get())
        };
        watch(Duration::from_millis(1), feel, pause, || {
            told.set([told.take(), vec![beats.get()]].concat());
        });
        assert_eq!(told.take(), [1, 2, 6]);
    }

    #[test]
    fn two_messages_may_be_late() {
        let period = Duration::from_secs(30);
        assert_eq!(3 * beat(period), period);
    }
}
