//! Has the journal forget, on the disk as well, what it had of sealed files.
//!
//! A block of the journal that is long free, or used again, is on the disk what it was when the kernel last wrote its page.
//! After a power cut it is that again: its lines are believed, looked for in the log, and appended where they are not found. So
//! they must be there to be found. A file is removed only when the journal has been written back since the file was
//! sealed: all frames that had lines in it were free by then, and so no block on the disk has one of them any more.
//!
//! Owner: the keeper. Writing back is done by a thread of its own, as the journal's disk may be slow; it is asked for when there is
//! something to remove, and at most every ten seconds, as each page that is stored to afterwards is a page fault.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Order, Spawn};

/// Shortest time between two.
const PAUSE: Duration = Duration::from_secs(10);

/// Has the journal as it is written back.
pub type WriteBack = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

pub(super) struct Forgetting {
    /// Each a number: of files before that nothing is to be left. The thread ends when this is dropped.
    jobs: Sender<u64>,
    thread: JoinHandle<()>,
    is_busy: bool,
    not_before: Option<Instant>,
    /// Of files with a lower number the journal has nothing.
    below: u64,
}

impl Forgetting {
    /// Files that were sealed before this start, those before number `front`, are not in the journal, which is a new one.
    pub fn start(front: u64, write_back: WriteBack, orders: Sender<Order>, spawn: Spawn<'_>) -> Forgetting {
        let (jobs, given) = channel();
        let body = move || {
            for below in given {
                orders.send(Order::Forgotten(below, write_back())).ok();
            }
        };
        Forgetting {
            jobs,
            thread: spawn("floodgate-flush", Box::new(body)),
            is_busy: false,
            not_before: None,
            below: front,
        }
    }

    /// Whether the journal has nothing of file `number`.
    pub fn is_done(&self, number: u64) -> bool {
        number < self.below
    }

    /// Has it forget all files before number `front`, which are sealed, as soon as may be.
    pub fn demand(&mut self, front: u64) {
        if !self.is_busy && self.not_before.is_none_or(|then| Instant::now() >= then) {
            self.is_busy = true;
            self.jobs.send(front).ok();
        }
    }

    /// It was tried for the files before number `below`.
    pub fn done(&mut self, below: u64, result: io::Result<()>) {
        (self.is_busy, self.not_before) = (false, Some(Instant::now() + PAUSE));
        if let Err(error) = result {
            // Not a reason to fill the log's disk.
            tracing::warn!(%error, "the journal cannot be written back; if the power goes now, events of files that are removed may come again");
        }
        self.below = below;
    }

    pub fn end(self) {
        drop(self.jobs);
        self.thread
            .join()
            .expect("a panicking thread of the engine ends the process");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_forgotten_before_the_journal_has_been_written_back_and_not_too_often() {
        let (orders, inbox) = channel();
        let (let_go, held) = channel::<io::Result<()>>();
        let held = std::sync::Mutex::new(held);
        let write_back = Arc::new(move || held.lock().unwrap().recv().unwrap());
        let spawn = |_: &str, body: Box<dyn FnOnce() + Send>| std::thread::spawn(body);
        let mut forgetting = Forgetting::start(3, write_back, orders, &spawn);
        let done = |forgetting: &mut Forgetting| match inbox.recv().unwrap() {
            Order::Forgotten(below, result) => forgetting.done(below, result),
            _ => panic!("it says nothing else"),
        };
        assert!(forgetting.is_done(2) && !forgetting.is_done(3));
        forgetting.demand(5);
        // Of what is sealed meanwhile nothing is known.
        forgetting.demand(8);
        assert!(!forgetting.is_done(4));
        let_go.send(Ok(())).unwrap();
        done(&mut forgetting);
        assert!(forgetting.is_done(4) && !forgetting.is_done(5));
        forgetting.demand(8);
        assert!(!forgetting.is_busy, "it has just been done");
        forgetting.not_before = None;
        forgetting.demand(8);
        let_go.send(Err(io::ErrorKind::Other.into())).unwrap();
        done(&mut forgetting);
        assert!(
            forgetting.is_done(7),
            "a sick journal does not keep files for ever"
        );
        forgetting.end();
    }
}
