//! The keeper: what is done to sealed files, beside the writer and never in its way.
//!
//! ```text
//! sealed → summary stored → compressed → uploaded, verified → removed at the end of its retention
//! ```
//!
//! A live file that somebody has deleted is copied back; one of which a failed sync left something in doubt is healed
//! ([`super::rescue`]). All but that and the summary is off until configured
//! ([`KeepPolicy`]). Summaries stay when their file has gone: they are the lifetime counts.
//!
//! **Owner.** The thread `floodgate-keep` stores summaries, looks at the clock for the rotation, and decides what is to be
//! compressed ([`compress`]), uploaded ([`archive`]) and removed ([`retain`]); the first two are done by a thread each, and so is writing
//! back the journal before a file is removed ([`forget`]), so that nothing here waits for a slow disk or a slow network. It looks again when something has happened, else once a
//! second, or more rarely where looking takes long: never more than a hundredth of its time.
//!
//! **Bounds.** One file at a time is compressed, and one uploaded. What is kept in memory grows with the number of sealed
//! files by some tens of bytes each.
//!
//! **When things fail.** What cannot be done now (a full disk, no network) is tried again. What is not done when the process
//! ends is done after the next start: every step says by files alone how far it is. Nothing is removed before what takes its
//! place has been read back and found whole.

pub mod archive;
pub mod compress;
pub mod forget;
mod look;
mod passing;
mod restore;
pub mod retain;
mod stock;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::catalog::{Catalog, Segment};
use super::fs::{AppendFile, Fs};
use super::rescue;
use super::segment::SegmentId;
use crate::failpoint;
use archive::mark::{Intent, Mark, Marks};
use archive::store::ArchiveUrl;
use archive::{ArchiveStatus, Archivist, Job, UploadError};
use compress::{CompressError, Compression, Press};
use forget::{Forgetting, WriteBack};
use retain::Retention;

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(500);
/// Time between two looks at the sealed files, if nothing has happened.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that took long is followed by a pause so many times as long.
const LOOK_SHARE: u32 = 100;
/// How long after a failure compressing or healing is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// How long after a failure a deleted file is copied again: each time twice as long, as an attempt on a full disk takes what
/// little room there is from the live file.
const COPY_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The same when the process is to end.
const LAST_PAUSE: Duration = Duration::from_millis(100);
/// How often the log says that a file stays because it is not archived, and how long a file waits whose name is taken in
/// the archive.
const HOUR: Duration = Duration::from_secs(3600);

/// What is done to sealed files.
#[derive(Clone, Debug, Default)]
pub struct KeepPolicy {
    /// How they are compressed; `None`: not at all.
    pub compression: Option<Compression>,
    /// How many of them are kept.
    pub retention: Retention,
    /// Where they are archived; `None`: nowhere.
    pub archive: Option<ArchiveUrl>,
}

enum Order {
    Sealed(Arc<Segment>),
    Restore(Arc<dyn AppendFile>, Arc<Segment>),
    Compressed(Arc<Segment>, Result<u64, CompressError>),
    Uploaded(Arc<Segment>, Result<Mark, UploadError>),
    /// The journal was written back: of files before that number nothing is left in it.
    Forgotten(u64, io::Result<()>),
    Stop,
}

/// Gives the keeper its work.
pub struct Keeper {
    orders: Sender<Order>,
    stopping: Arc<AtomicBool>,
    /// Stored once, when what is not done yet is not to be waited for.
    giving_up: Arc<AtomicBool>,
    stopped: watch::Sender<bool>,
    /// Deleted files that have not been copied back: counted up by the writer, down by the thread.
    nameless: Arc<AtomicUsize>,
}

/// A file that is there only as long as it is open.
struct Nameless {
    file: Arc<dyn AppendFile>,
    segment: Arc<Segment>,
    /// Not copied before, after a failure.
    not_before: Option<Instant>,
    pause: Duration,
}

struct Work {
    fs: Arc<dyn Fs>,
    catalog: Arc<Catalog>,
    policy: KeepPolicy,
    /// Segments whose summary is not stored yet.
    unsummarised: Vec<Arc<Segment>>,
    /// Deleted files that have not been copied back yet.
    nameless: Vec<Nameless>,
    nameless_count: Arc<AtomicUsize>,
    giving_up: Arc<AtomicBool>,
    /// Numbers of files of which something was in doubt, and is still to be written over itself.
    unhealed: Vec<u64>,
    /// Not healed before, after a failure.
    heal_after: Option<Instant>,
    packer: Option<Helper<Sender<Arc<Segment>>>>,
    /// Not compressed before, after a failure.
    pack_after: Option<Instant>,
    uploader: Option<Helper<UnboundedSender<Job>>>,
    /// There where files are removed.
    forgetting: Option<Forgetting>,
    status: Arc<ArchiveStatus>,
    /// Files that are safe in the archive.
    archived: HashSet<SegmentId>,
    /// Files that an earlier process began to upload as they were then.
    begun: HashMap<SegmentId, Intent>,
    /// Files whose name is taken in the archive, and when to look again.
    foreign: HashMap<SegmentId, Instant>,
    /// When the log has said of a file that it stays.
    told: HashMap<SegmentId, Instant>,
    /// Files that are not what their summary says: nothing is done to them until the next start.
    altered: HashSet<SegmentId>,
    next_look: Instant,
}

/// A thread that does one thing at a time.
struct Helper<S> {
    /// The thread ends when this is dropped.
    jobs: S,
    thread: JoinHandle<()>,
    busy_with: Option<SegmentId>,
}

impl<S> Helper<S> {
    fn new(jobs: S, thread: JoinHandle<()>) -> Helper<S> {
        Helper {
            jobs,
            thread,
            busy_with: None,
        }
    }

    fn end(self) {
        drop(self.jobs);
        self.thread
            .join()
            .expect("a panicking thread of the engine ends the process");
    }
}

/// Starts a thread with a name.
type Spawn<'s> = &'s dyn Fn(&str, Box<dyn FnOnce() + Send>) -> JoinHandle<()>;

impl Keeper {
    /// Starts the thread, which calls `tick` some times a second, and those that help it, each with `spawn`. How the archive
    /// is doing can be seen in `status`. `write_back` has the journal written back before files are removed ([`forget`]).
    ///
    /// # Errors
    /// Why the archive cannot be used, as a sentence.
    pub fn start(
        fs: Arc<dyn Fs>,
        catalog: Arc<Catalog>,
        policy: KeepPolicy,
        status: Arc<ArchiveStatus>,
        write_back: WriteBack,
        tick: impl FnMut() + Send + 'static,
        spawn: Spawn<'_>,
    ) -> Result<(Keeper, JoinHandle<()>), String> {
        let (orders, inbox) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let (stopped, see_stopped) = watch::channel(false);
        let uploader = match &policy.archive {
            Some(url) => {
                let family = catalog.family().clone();
                let archivist =
                    Archivist::new(Arc::clone(&fs), family, url, Arc::clone(&status), see_stopped)?;
                let (jobs, given) = unbounded_channel();
                let orders = orders.clone();
                let done = move |segment, result| {
                    orders.send(Order::Uploaded(segment, result)).ok();
                };
                let thread = spawn("floodgate-arch", Box::new(move || archivist.run(given, done)));
                Some(Helper::new(jobs, thread))
            }
            None => None,
        };
        let packer = policy.compression.map(|compression| {
            let press = Press {
                fs: Arc::clone(&fs),
                family: catalog.family().clone(),
                level: compression.level,
                stopping: Arc::clone(&stopping),
            };
            let (jobs, given) = channel::<Arc<Segment>>();
            let done = orders.clone();
            let body = move || {
                Press::step_back();
                for segment in given {
                    let result = press.compress(&segment.summary);
                    done.send(Order::Compressed(segment, result)).ok();
                }
            };
            Helper::new(jobs, spawn("floodgate-pack", Box::new(body)))
        });
        let forgetting = policy.retention.is_limited().then(|| {
            let front = catalog.front().number;
            Forgetting::start(front, write_back, orders.clone(), spawn)
        });
        let nameless = Arc::new(AtomicUsize::new(0));
        let giving_up = Arc::new(AtomicBool::new(false));
        let work = Work {
            fs,
            catalog,
            policy,
            unsummarised: Vec::new(),
            nameless: Vec::new(),
            nameless_count: Arc::clone(&nameless),
            giving_up: Arc::clone(&giving_up),
            unhealed: Vec::new(),
            heal_after: None,
            packer,
            pack_after: None,
            uploader,
            forgetting,
            status,
            archived: HashSet::new(),
            begun: HashMap::new(),
            foreign: HashMap::new(),
            told: HashMap::new(),
            altered: HashSet::new(),
            next_look: Instant::now(),
        };
        let thread = spawn("floodgate-keep", Box::new(move || work.run(&inbox, tick)));
        let keeper = Keeper {
            orders,
            stopping,
            giving_up,
            stopped,
            nameless,
        };
        Ok((keeper, thread))
    }

    /// A file has been sealed.
    pub fn sealed(&self, segment: Arc<Segment>) {
        // The thread ends after the writer.
        self.orders.send(Order::Sealed(segment)).ok();
    }

    /// A file without a name is to get that of the segment it is.
    pub fn restore(&self, file: Arc<dyn AppendFile>, segment: Arc<Segment>) {
        // Relaxed, as the counting down: it is looked at when both threads have ended, or will not.
        self.nameless.fetch_add(1, Ordering::Relaxed);
        self.orders.send(Order::Restore(file, segment)).ok();
    }

    /// Files that will be gone with this process, as they could not be copied back.
    pub fn nameless(&self) -> usize {
        self.nameless.load(Ordering::Relaxed)
    }

    /// Has a thread that was told to end not wait any longer for what it cannot do.
    pub fn give_up(&self) {
        self.giving_up.store(true, Ordering::Relaxed);
    }

    /// Ends the threads. Deleted files are copied back first, however often that takes, until it is given up.
    pub fn stop(&self) {
        // Relaxed: no data hangs on it.
        self.stopping.store(true, Ordering::Relaxed);
        self.stopped.send_replace(true);
        self.orders.send(Order::Stop).ok();
    }
}

impl Work {
    fn run(mut self, inbox: &Receiver<Order>, mut tick: impl FnMut()) {
        if let Err(error) = Press::tidy(&*self.fs, self.catalog.family()) {
            tracing::warn!(%error, "what an earlier process left in the archive cannot be removed");
        }
        if self.policy.archive.is_some() {
            self.read_marks();
        }
        // What the start could not heal.
        match self.catalog.family().rescues(&*self.fs) {
            Ok(numbers) => self.unhealed = numbers,
            Err(error) => tracing::warn!(%error, "the log's directory cannot be read"),
        }
        let mut next_tick = Instant::now() + TICK;
        loop {
            // The clock is looked at however much there is to do.
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                self.restore();
                self.summarise();
                self.heal();
                tick();
            }
            match inbox.recv_timeout(TICK) {
                Ok(Order::Sealed(segment)) => {
                    let rescue = self.catalog.family().rescue(segment.id().number);
                    if self.fs.stat(&rescue).is_ok_and(|stat| stat.is_some()) {
                        self.unhealed.push(segment.id().number);
                    }
                    self.unsummarised.push(segment);
                    self.summarise();
                    self.heal();
                }
                Ok(Order::Restore(file, segment)) => {
                    self.nameless.push(Nameless {
                        file,
                        segment,
                        not_before: None,
                        pause: COPY_PAUSES.0,
                    });
                    self.restore();
                }
                Ok(Order::Compressed(segment, result)) => self.compressed(&segment, result),
                Ok(Order::Uploaded(segment, result)) => self.uploaded(&segment, result),
                Ok(Order::Forgotten(below, result)) => {
                    if let Some(forgetting) = &mut self.forgetting {
                        forgetting.done(below, result);
                    }
                    self.next_look = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
            if Instant::now() >= self.next_look {
                self.look();
            }
        }
    }

    fn end(mut self) {
        loop {
            self.nameless.iter_mut().for_each(|file| file.not_before = None);
            self.restore();
            if self.nameless.is_empty() || self.giving_up.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(LAST_PAUSE);
        }
        self.summarise();
        if let Some(packer) = self.packer {
            packer.end();
        }
        if let Some(uploader) = self.uploader {
            uploader.end();
        }
        if let Some(forgetting) = self.forgetting {
            forgetting.end();
        }
    }

    /// How far earlier processes have come.
    fn read_marks(&mut self) {
        let marks = Marks {
            fs: &*self.fs,
            family: self.catalog.family(),
        };
        let url = self.policy.archive.as_ref().map(ArchiveUrl::to_string);
        for segment in self.catalog.segments() {
            let id = segment.id();
            if marks.mark(id).is_some() {
                marks.settle(id);
                self.archived.insert(id);
            } else if let Some(intent) = marks
                .intent(id)
                .filter(|intent| Some(&intent.url) == url.as_ref())
            {
                self.begun.insert(id, intent);
            }
        }
    }

    fn restore(&mut self) {
        let Work {
            fs,
            catalog,
            nameless_count,
            ..
        } = self;
        let now = Instant::now();
        self.nameless.retain_mut(|nameless| {
            if nameless.not_before.is_some_and(|then| now < then) {
                return true;
            }
            let path = catalog.family().plain(nameless.segment.id());
            let copied = restore::copy(&**fs, &*nameless.file, nameless.segment.summary.bytes, &path);
            match &copied {
                Ok(()) => {
                    nameless_count.fetch_sub(1, Ordering::Relaxed);
                    tracing::info!(file = %path.display(), "a deleted file of the log is copied back");
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a deleted file of the log cannot be copied back; trying again");
                    nameless.not_before = Some(now + nameless.pause);
                    nameless.pause = (nameless.pause * 2).min(COPY_PAUSES.1);
                }
            }
            copied.is_err()
        });
    }

    /// Writes over itself what was in doubt of sealed files.
    fn heal(&mut self) {
        if self.heal_after.is_some_and(|then| Instant::now() < then) {
            return;
        }
        let Work { fs, catalog, .. } = self;
        let front = catalog.front().number;
        let mut has_failed = false;
        self.unhealed.retain(|number| {
            // The live file is the writer's.
            let healed = match *number < front {
                true => rescue::heal(&**fs, catalog.family(), *number),
                false => return false,
            };
            if let Err(error) = &healed {
                has_failed = true;
                let file = catalog.family().rescue(*number);
                tracing::error!(file = %file.display(), %error, "what was rescued cannot be put back into its file");
            }
            healed.is_err_and(|error| error.kind() != io::ErrorKind::InvalidData)
        });
        self.heal_after = has_failed.then(|| Instant::now() + RETRY);
    }

    /// Stores the summaries that are due. With that the files' names are on the disk, and they need no second one.
    fn summarise(&mut self) {
        let Work { fs, catalog, .. } = self;
        self.unsummarised.retain(|segment| {
            let family = catalog.family();
            failpoint::hit("rotate.unsummarised");
            let stored = catalog.store(segment);
            failpoint::hit("rotate.summarised");
            let stored = stored.and_then(|()| match fs.remove(&family.sealing(segment.id())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            });
            if let Err(error) = &stored {
                let file = family.summary(segment.id());
                tracing::warn!(file = %file.display(), %error, "a summary cannot be stored; trying again");
            }
            stored.is_err()
        });
    }

    fn compressed(&mut self, segment: &Segment, result: Result<u64, CompressError>) {
        let id = segment.id();
        if let Some(packer) = &mut self.packer {
            packer.busy_with = None;
        }
        self.next_look = Instant::now();
        let file = self.catalog.family().file_name(id);
        match result {
            Ok(bytes) => tracing::info!(
                file = %file.display(),
                bytes = segment.summary.bytes,
                compressed_bytes = bytes,
                "a file of the log is compressed"
            ),
            Err(CompressError::Stopping) => {}
            Err(error @ CompressError::Altered) => {
                tracing::error!(file = %file.display(), %error, "a file of the log cannot be compressed");
                self.altered.insert(id);
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a file of the log cannot be compressed now; trying again");
                self.pack_after = Some(Instant::now() + RETRY);
            }
        }
    }

    fn uploaded(&mut self, segment: &Segment, result: Result<Mark, UploadError>) {
        let id = segment.id();
        if let Some(uploader) = &mut self.uploader {
            uploader.busy_with = None;
        }
        self.next_look = Instant::now();
        let file = self.catalog.family().file_name(id);
        match result {
            Ok(mark) => {
                tracing::info!(file = %file.display(), key = mark.key, bytes = mark.bytes, "a file of the log is archived");
                self.archived.insert(id);
                self.begun.remove(&id);
            }
            Err(UploadError::Stopping | UploadError::Gone) => {}
            Err(error @ UploadError::Altered) => {
                tracing::error!(file = %file.display(), %error, "a file of the log cannot be archived");
                self.altered.insert(id);
            }
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "a file of the log cannot be archived; trying again in an hour");
                self.foreign.insert(id, Instant::now() + HOUR);
            }
        }
    }
}
