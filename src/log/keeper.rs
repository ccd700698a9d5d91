//! The keeper thread: what is done to sealed files, beside the writer and never in its way.
//!
//! It stores their summaries, and copies back a live file that somebody has deleted. What cannot be done now (a full disk) is tried again at the next tick; what is not done when
//! the process ends is done at the next start, which finds a file without a summary and counts it.

use std::io::{self, IoSlice, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::catalog::{Catalog, Segment};
use super::fs::{AppendFile, Fs};
use super::lines::FileRange;
use crate::failpoint;

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(500);

/// Bytes of a file that are copied at a time.
const COPIED_AT_ONCE: usize = 1 << 20;

enum Order {
    Sealed(Arc<Segment>),
    Restore(Arc<dyn AppendFile>, Arc<Segment>),
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
    /// Deleted files that have not been copied back yet.
    nameless: Vec<(Arc<dyn AppendFile>, Arc<Segment>)>,
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
            nameless: Vec::new(),
        };
        (Keeper { orders }, spawn(Box::new(move || work.run(&inbox, tick))))
    }

    /// A file has been sealed.
    pub fn sealed(&self, segment: Arc<Segment>) {
        // The thread ends after the writer.
        self.orders.send(Order::Sealed(segment)).ok();
    }

    /// A file without a name is to get that of the segment it is.
    pub fn restore(&self, file: Arc<dyn AppendFile>, segment: Arc<Segment>) {
        self.orders.send(Order::Restore(file, segment)).ok();
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.orders.send(Order::Stop).ok();
    }
}

/// Copies the first `length` bytes of `file` to `path`, aside first.
fn copy(fs: &dyn Fs, file: &dyn AppendFile, length: u64, path: &Path) -> io::Result<()> {
    let mut aside = path.to_owned().into_os_string();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let to = fs.create(&aside)?;
    let mut from = FileRange::new(file, 0, length.min(file.length()?));
    let mut chunk = vec![0; COPIED_AT_ONCE];
    loop {
        let size = from.read(&mut chunk)?;
        if size == 0 {
            break;
        }
        let mut rest = &chunk[..size];
        while !rest.is_empty() {
            match to.append(&[IoSlice::new(rest)])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => rest = &rest[written..],
            }
        }
    }
    to.sync_data()?;
    fs.rename_new(&aside, path)
}

impl Work {
    fn run(mut self, inbox: &Receiver<Order>, mut tick: impl FnMut()) {
        loop {
            match inbox.recv_timeout(TICK) {
                Ok(Order::Sealed(segment)) => {
                    self.unsummarised.push(segment);
                    self.summarise();
                }
                Ok(Order::Restore(file, segment)) => {
                    self.nameless.push((file, segment));
                    self.restore();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.restore();
                    self.summarise();
                    tick();
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.restore();
                    return self.summarise();
                }
            }
        }
    }

    fn restore(&mut self) {
        let Work { fs, catalog, .. } = self;
        self.nameless.retain(|(file, segment)| {
            let path = catalog.family().plain(segment.id());
            let copied = copy(&**fs, &**file, segment.summary.bytes, &path);
            match &copied {
                Ok(()) => tracing::info!(file = %path.display(), "a deleted file of the log is copied back"),
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a deleted file of the log cannot be copied back; trying again");
                }
            }
            copied.is_err()
        });
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
