//! Whether the engine does its rounds, for a service manager that restarts what hangs.
//!
//! A timer that says "alive" proves that a timer runs. This asks for what every read asks for, that the writer publish what is
//! committed: the question goes through the herald, so a worker must run coroutines; the writer must come round to it; and
//! the answer comes back through the herald, or the timekeeper ends the wait. If one of those hangs nothing is answered.
//!
//! **What a restart would not mend is no silence.** A log that cannot be written, or whose disk hangs, is waited for: health
//! says so, events go into the journal, and a new process would have to wait just as long. A writer that is asleep in the
//! kernel for its disk (state `D`) counts as alive, and so does one that reads the log after the start.
//!
//! Owner: one thread that is no coroutine. Bounds: one question at a time is in the writer's hands.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::completion::Progress;
use super::herald::Waiter;
use super::{Shared, View};

/// How much longer than a rest and a publish interval the writer may take to come round: the grace of a seal is 8 s at the
/// most, and a machine that is short of everything gets some more.
const GRACE: Duration = Duration::from_secs(12);
/// The writer's name, as the kernel knows it: 15 bytes of it.
const WRITER: &str = "floodgate-write";

/// Asks the engine whether it is alive.
pub struct Pulse {
    shared: Arc<Shared>,
    patience: Duration,
    asked: Option<Question>,
}

/// A question that the writer has not answered yet.
struct Question {
    waiter: Arc<Waiter>,
    /// When it was asked, or when the log was last seen to grow.
    since: Instant,
    position: u64,
}

impl Pulse {
    /// Of the engine that `view` looks at.
    pub fn of(view: &View) -> Pulse {
        let shared = Arc::clone(&view.shared);
        let patience = shared.config.rotation.rest + shared.config.publish_interval + GRACE;
        Pulse {
            shared,
            patience,
            asked: None,
        }
    }

    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Pulse {
        Pulse { patience, ..self }
    }

    /// Waits for a sign of life, about as long as `timeout`; for ever when no coroutine runs any more. `false` when the writer
    /// hangs, and not for its disk.
    pub fn is_felt(&mut self, timeout: Duration) -> bool {
        let shared = &self.shared;
        let position = shared.published.load(Ordering::Relaxed);
        let mut question = self.asked.take().unwrap_or_else(|| {
            let waiter = shared.herald.waiter();
            shared.barriers.push(Arc::clone(&waiter));
            Question {
                waiter,
                since: Instant::now(),
                position,
            }
        });
        shared.herald.ring_soon();
        let answered = |progress| progress != Progress::Pending;
        let (progress, _) = question
            .waiter
            .wait_for_progress(&shared.herald, timeout, answered);
        if answered(progress) {
            return true;
        }
        let is_excused = position != question.position
            || shared.status.is_counting()
            || shared.status.is_log_failing()
            || waits_for_disk(WRITER);
        if is_excused {
            (question.since, question.position) = (Instant::now(), position);
        }
        let is_felt = is_excused || question.since.elapsed() <= self.patience;
        self.asked = Some(question);
        is_felt
    }
}

/// Whether a thread of ours with that name sleeps in the kernel where no signal reaches it.
fn waits_for_disk(name: &str) -> bool {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return false;
    };
    threads.flatten().any(|thread| {
        // `17 (floodgate-write) D 1 …`
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.split_once(&format!("({name}) "))
            .is_some_and(|(_, rest)| rest.starts_with('D'))
    })
}
