//! The keeper thread: what is done to sealed files, beside the writer and never in its way.
//!
//! It stores their summaries. What cannot be done now (a full disk) is tried again at the next tick; what is not done when
//! the process ends is done at the next start, which finds a file without a summary and counts it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::catalog::{Catalog, Segment};
use super::fs::Fs;
use crate::failpoint;

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(500);

enum Order {
    Sealed(Arc<Segment>),
    Stop,
}

/// Gives the keeper its work.
pub struct Keeper {
    orders: Sender<Order>,
}

struct Work {
    fs: Arc<dyn Fs>,
    catalog: Arc<Catalog>,
    /// Segments whose summary is not stored yet.
    unsummarised: Vec<Arc<Segment>>,
}

impl Keeper {
    /// Starts the thread, which calls `tick` some times a second.
    pub fn start(
        fs: Arc<dyn Fs>,
        catalog: Arc<Catalog>,
        tick: impl FnMut() + Send + 'static,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> JoinHandle<()>,
    ) -> (Keeper, JoinHandle<()>) {
        let (orders, inbox) = channel();
        let work = Work {
            fs,
            catalog,
            unsummarised: Vec::new(),
        };
        (Keeper { orders }, spawn(Box::new(move || work.run(&inbox, tick))))
    }

    /// A file has been sealed.
    pub fn sealed(&self, segment: Arc<Segment>) {
        // The thread ends after the writer.
        self.orders.send(Order::Sealed(segment)).ok();
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.orders.send(Order::Stop).ok();
    }
}

impl Work {
    fn run(mut self, inbox: &Receiver<Order>, mut tick: impl FnMut()) {
        loop {
            match inbox.recv_timeout(TICK) {
                Ok(Order::Sealed(segment)) => {
                    self.unsummarised.push(segment);
                    self.summarise();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.summarise();
                    tick();
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return self.summarise(),
            }
        }
    }

    fn summarise(&mut self) {
        let Work { fs, catalog, .. } = self;
        self.unsummarised.retain(|segment| {
            let path = catalog.family().summary(segment.id());
            failpoint::hit("rotate.unsummarised");
            let stored = segment.summary.write(&**fs, &path);
            if let Err(error) = &stored {
                tracing::warn!(file = %path.display(), %error, "a summary cannot be stored; trying again");
            }
            failpoint::hit("rotate.summarised");
            stored.is_err()
        });
    }
}
