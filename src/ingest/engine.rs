//! The engine: opens a log with its journal, runs the threads, and closes both.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam::queue::{ArrayQueue, SegQueue};
use crossbeam::utils::CachePadded;

use super::cut::Live;
use super::doorbell::Doorbell;
use super::group::Groups;
use super::growth::Growth;
use super::herald::Herald;
use super::journal::{Journal, JournalError, Place, Remains};
use super::left::{is_journal_gone, journal_path, keep_damaged, may_power_have_gone, note_of};
use super::recovery::{Recovered, recover};
use super::rotation::Rotation;
use super::space::Space;
use super::sync_thread::SyncThread;
use super::tip::Tip;
use super::vitals::{Monitor, Vitals};
use super::writer::Writer;
use super::{Counters, EngineConfig, Producer, Recent, Shared, Status};
use crate::background;
use crate::log::catalog::Catalog;
use crate::log::cursor::Position;
use crate::log::fs::{Fs, OsFs};
use crate::log::keeper::archive::ArchiveStatus;
use crate::log::keeper::hold::HoldStatus;
use crate::log::keeper::{KeepStatus, Keeper};
use crate::log::lock::{Lock, LockError};
use crate::log::mend::mend;
use crate::log::rescue;
use crate::log::segment::Family;
use crate::log::{LiveFile, Sight};

/// Why an engine cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the log open.
    Locked(LockError),
    /// The journal that is there cannot be used.
    Journal(JournalError),
    /// The archive cannot be used: why.
    Archive(String),
    /// The log cannot be read or written: what was being done, and what came of it.
    Io(String, io::Error),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Locked(error) => error.fmt(f),
            OpenError::Journal(error) => error.fmt(f),
            OpenError::Archive(error) => write!(f, "METRICS_ARCHIVE_URL: {error}"),
            OpenError::Io(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// How an engine was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is in the log, and on the disk.
    Clean,
    /// Everything is in the log; not all of it is known to be on the disk.
    NotSynced,
    /// Some events are left in the journal; the next start brings them into the log.
    LeftInJournal,
    /// A file of the log that another program had deleted could not be copied back: its events are lost.
    FileLost,
}

/// How long behind its deadline a close waits for a thread that is in the middle of a call.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// An open log: producers commit into it, readers look at its counts.
pub struct Engine {
    shared: Arc<Shared>,
    recovered: Recovered,
    writer: JoinHandle<bool>,
    syncer: JoinHandle<bool>,
    grower: JoinHandle<()>,
    timekeeper: JoinHandle<()>,
    keeper: Arc<Keeper>,
    keeping: JoinHandle<()>,
    sync_thread: Arc<SyncThread>,
    lock: Arc<Lock>,
}

impl Engine {
    /// Locks the log, brings in what the last process left in the journal, counts the log's lines and starts the threads.
    /// Creates the log's directory if there is none.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing that was acknowledged is lost by a failed start.
    pub fn open(config: EngineConfig, fs: Arc<dyn Fs>) -> Result<Engine, OpenError> {
        let log = config.log.clone();
        let failed = |what: &str| {
            let what = format!("{what} {}", log.display());
            move |error| OpenError::Io(what, error)
        };
        if let Some(directory) = log.parent() {
            make_directories(directory).map_err(failed("create the directory of"))?;
        }
        let lock = Lock::acquire(&log).map_err(OpenError::Locked)?;
        let family = Family::of(&log);
        family.settle(&*fs).map_err(failed("look at the files of"))?;
        // What was written and could not be synced is for the next start to doubt.
        let doubt = family.doubt();
        let in_doubt = |_: &io::Error| drop(fs.create(&doubt));
        rescue::heal_all(&*fs, &family).map_err(failed("write again what a failed sync left in doubt of"))?;
        let catalog = Catalog::open(Arc::clone(&fs), family, config.names_max)
            .map_err(failed("read the sealed files of"))?;
        let remains = match &config.journal {
            Place::File(path) => Remains::open(path, &log).map_err(OpenError::Journal)?,
            Place::Memory => None,
        };
        if may_power_have_gone(&config.journal, remains.as_ref()) {
            mend(&*fs, &log).inspect_err(in_doubt).map_err(failed("mend"))?;
        }
        let mut live = LiveFile::open(Arc::clone(&fs), &log).map_err(failed("open"))?;
        let recovered = recover(remains.as_ref(), &mut live, &catalog, config.line_seq)
            .inspect_err(in_doubt)
            .map_err(failed("bring the journal's events into"))?;
        let is_gone = is_journal_gone(&config.journal, remains.is_some(), lock.left_journal());
        let recovered = Recovered {
            is_journal_gone: is_gone,
            ..recovered
        };
        drop(remains);
        if let (true, Place::File(path)) = (recovered.is_journal_damaged(), &config.journal) {
            keep_damaged(path).map_err(failed("put aside the damaged journal of"))?;
        }
        let counters = Counters::new(config.names_max);
        let recent = Recent::new(config.ring_capacity);
        let journal = make_journal(&config, &log)?;
        lock.note_journal(note_of(&config.journal).as_deref())
            .map_err(failed("write the lock file of"))?;

        let doorbell = Arc::new(Doorbell::new());
        let herald = Herald::start(Arc::clone(&doorbell));
        let blocks = journal.region().capacity() as usize;
        let shared = Arc::new(Shared {
            space: Space::new(blocks, Arc::clone(&herald)),
            ring: ArrayQueue::new(blocks),
            doorbell,
            herald,
            groups: Groups::new(may::config().get_workers()),
            growth: Growth::new(),
            barriers: SegQueue::new(),
            ticket: CachePadded::new(AtomicU64::new(0)),
            published: CachePadded::new(AtomicU64::new(catalog.front().base + live.length())),
            live_bytes: AtomicU64::new(live.length()),
            tip: Tip::new(Position {
                number: catalog.front().number,
                offset: live.length(),
            }),
            catalog: Arc::new(catalog),
            live: Mutex::new(Live::new(config.names_max)),
            rotation: Rotation::default(),
            counters,
            recent,
            status: Status::default(),
            monitor: Monitor::new(&log, journal_path(&config.journal)),
            keep: KeepStatus::default(),
            stopping: AtomicBool::new(false),
            giving_up: AtomicBool::new(false),
            journal,
            config,
        });
        let first = shared
            .journal
            .grow()
            .map_err(|error| journal_error(&shared.config, error))?;
        shared.space.give_back(first.into_iter());
        let file = live.file().cloned();
        let directory = shared.catalog.family().directory();
        let sync_thread = SyncThread::new(&shared.config, (Arc::clone(&fs), directory), file);
        let sync_thread = Arc::new(sync_thread);
        let clock = Arc::clone(&shared);
        let (keeper, keeping) = Keeper::start(
            Arc::clone(&fs),
            Arc::clone(&shared.catalog),
            shared.config.keep.clone(),
            shared.keep.clone(),
            {
                let shared = Arc::clone(&shared);
                Arc::new(move || shared.journal.write_back())
            },
            {
                let (fs, sync_thread) = (Arc::clone(&fs), Arc::clone(&sync_thread));
                move || clock.look_around(&*fs, &sync_thread)
            },
            &|name, body| background_thread(name, body),
        )
        .map_err(OpenError::Archive)?;
        let keeper = Arc::new(keeper);
        let writer = Writer::new(
            Arc::clone(&shared),
            live,
            Arc::clone(&sync_thread),
            Arc::clone(&keeper),
        );
        sync_thread
            .take_over(&shared)
            .map_err(|error| OpenError::Io("look at the log's directory".into(), error))?;
        let (for_syncer, for_grower) = (Arc::clone(&shared), Arc::clone(&shared));
        let synced = Arc::clone(&sync_thread);
        let herald = Arc::clone(&shared.herald);
        Ok(Engine {
            writer: thread("floodgate-write", move || writer.run()),
            syncer: thread("floodgate-sync", move || synced.run(&for_syncer)),
            timekeeper: thread("floodgate-time", move || herald.keep_time()),
            grower: thread("floodgate-grow", move || for_grower.growth.run(&for_grower)),
            keeper,
            keeping,
            shared,
            recovered,
            sync_thread,
            lock: Arc::new(lock),
        })
    }

    /// What connections get their producers from.
    pub fn entrance(&self) -> Entrance {
        Entrance {
            shared: Arc::clone(&self.shared),
            lock: Arc::clone(&self.lock),
        }
    }

    /// What was found in the journal at the start.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Has it looked, soon, whether another program has laid hands on the live file.
    pub fn check_file(&self) {
        self.shared.rotation.suspect();
        self.shared.doorbell.ring(true);
    }

    /// Has the live file sealed, soon.
    pub fn rotate(&self) {
        self.shared.rotation.request();
        self.shared.doorbell.ring(true);
    }

    /// A view for readers, which may outlive the engine.
    pub fn view(&self) -> View {
        View {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Publishes what is committed, syncs the log and ends the threads; what cannot be written until `deadline` stays in
    /// the journal. `quiet` says that no producer is left: then the journal's file is emptied.
    ///
    /// A thread that hangs in the kernel is left behind: a process that wants to end is not held up by a disk.
    pub fn close(self, deadline: Instant, quiet: bool) -> Outcome {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.doorbell.ring(true);
        let all_written = ended(self.writer, deadline, || {
            self.shared.giving_up.store(true, Ordering::Relaxed)
        });
        self.sync_thread.stop();
        let synced = ended(self.syncer, deadline, || ());
        self.keeper.stop();
        ended(self.keeping, deadline, || self.keeper.give_up());
        self.shared.growth.stop();
        ended(self.grower, deadline, || ());
        self.shared.herald.stop();
        ended(self.timekeeper, deadline, || ());
        self.shared.herald.dismiss();
        if all_written != Some(true) {
            return Outcome::LeftInJournal;
        }
        let is_synced = synced == Some(true);
        // The next start has to know that the log may not be on the disk.
        if quiet && is_synced {
            // In this order: a journal that is empty and noted is one that somebody has emptied.
            let emptied = self
                .lock
                .note_journal(None)
                .and_then(|()| self.shared.journal.discard());
            if let Err(error) = emptied {
                tracing::warn!(%error, "the journal could not be emptied; the next start will find nothing in it");
            }
        }
        if self.keeper.nameless() > 0 {
            Outcome::FileLost
        } else if is_synced {
            Outcome::Clean
        } else {
            Outcome::NotSynced
        }
    }
}

/// What the thread answered, if it ends within [`STOP_GRACE`] of `deadline`; `hurry` is called when that has passed.
fn ended<T>(thread: JoinHandle<T>, deadline: Instant, hurry: impl Fn()) -> Option<T> {
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            hurry();
        }
        if Instant::now() >= deadline + STOP_GRACE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(
        thread
            .join()
            .expect("a panicking thread of the engine ends the process"),
    )
}

/// Where producers come from. It may outlive the engine; what is committed after [`Engine::close`] stays in the journal.
#[derive(Clone)]
pub struct Entrance {
    shared: Arc<Shared>,
    lock: Arc<Lock>,
}

impl Entrance {
    /// A producer for the calling coroutine or thread.
    pub fn producer(&self) -> Producer {
        Producer::new(Arc::clone(&self.shared), Arc::clone(&self.lock))
    }
}

/// What readers may look at.
#[derive(Clone)]
pub struct View {
    pub(super) shared: Arc<Shared>,
}

impl View {
    /// Lifetime counts.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The recent window.
    pub fn recent(&self) -> &Recent {
        &self.shared.recent
    }

    /// What is wrong, if anything.
    pub fn status(&self) -> &Status {
        &self.shared.status
    }

    /// What the machine says of the process and of its disks; up to half a second old, or older while a disk hangs.
    pub fn vitals(&self) -> Vitals {
        self.shared.monitor.heard()
    }

    /// When the engine was opened, which is when the process began.
    pub fn started(&self) -> SystemTime {
        self.shared.monitor.started()
    }

    /// Bytes in the live file.
    pub fn live_bytes(&self) -> u64 {
        self.shared.live_bytes.load(Ordering::Acquire)
    }

    /// Sealed files that anything is known of.
    pub fn sealed_files(&self) -> usize {
        self.shared.catalog.segments().len()
    }

    /// Bytes that the log ever had, in all its files.
    pub fn position(&self) -> u64 {
        self.shared.published.load(Ordering::Acquire)
    }

    /// How the archive is doing, if there is one.
    pub fn archive(&self) -> Option<&ArchiveStatus> {
        let is_configured = self.shared.config.keep.archive.is_some();
        is_configured.then_some(&*self.shared.keep.archive)
    }

    /// What retention has removed before it was shipped.
    pub fn hold(&self) -> &HoldStatus {
        &self.shared.keep.hold
    }

    /// Whether the counts are not known yet: the live file is being read after the start.
    pub fn is_recovering(&self) -> bool {
        self.shared.status.is_counting()
    }

    /// Whether the journal survives the process.
    pub fn is_journal_durable(&self) -> bool {
        self.shared.journal.is_durable()
    }

    /// Blocks of the journal, in bytes: in use, there now, and at the most.
    pub fn journal_bytes(&self) -> (u64, u64, u64) {
        let region = self.shared.journal.region();
        let (minted, capacity) = (u64::from(region.minted()), u64::from(region.capacity()));
        let used = minted.saturating_sub(self.shared.space.free() as u64);
        let bytes = super::blocks::BLOCK_BYTES as u64;
        (used * bytes, minted * bytes, capacity * bytes)
    }

    /// What wakes coroutines that wait for a thread.
    pub(crate) fn herald(&self) -> &Arc<Herald> {
        &self.shared.herald
    }

    /// Frames committed and not yet published.
    pub fn ring_depth(&self) -> usize {
        self.shared.ring.len()
    }
}

/// Makes a directory and those it lies in, as far as they are missing, and has their entries on the disk.
fn make_directories(path: &Path) -> io::Result<()> {
    let missing = path
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.is_dir());
    let missing: Vec<&Path> = missing.collect();
    missing
        .into_iter()
        .rev()
        .try_for_each(|path| OsFs.make_directory(path))
}

impl Shared {
    /// What the keeper does twice a second beside its work: asks the machine how it is, has the live file sealed when its period is over, and looked after when another program has laid hands on it.
    fn look_around(&self, fs: &dyn Fs, sync_thread: &SyncThread) {
        self.monitor.ask(sync_thread.unsynced_bytes());
        let over = |period| self.rotation.is_period_over(period, SystemTime::now());
        if self.config.rotation.every.is_some_and(over) {
            self.rotation.request();
        }
        // The length first, as the file may grow meanwhile. That it may be sealed meanwhile is why the writer looks again.
        let length = self.live_bytes.load(Ordering::Acquire);
        if let Some(file) = sync_thread.file()
            && Sight::of(fs, &self.config.log, &*file, length).is_ok_and(|sight| sight != Sight::Well)
        {
            self.rotation.suspect();
        }
        // Also for one that was put off.
        if self.rotation.is_requested() || self.rotation.is_suspected() {
            self.doorbell.ring(true);
        }
    }
}

fn make_journal(config: &EngineConfig, log: &Path) -> Result<Journal, OpenError> {
    Journal::create(&config.journal, log, config.journal_bytes_max)
        .map_err(|error| journal_error(config, error))
}

fn journal_error(config: &EngineConfig, error: io::Error) -> OpenError {
    match &config.journal {
        Place::File(path) => OpenError::Io(
            format!(
                "make the journal {} (METRICS_JOURNAL=memory does without)",
                path.display()
            ),
            error,
        ),
        Place::Memory => OpenError::Io("make the journal in memory".into(), error),
    }
}

/// Starts a thread that gives way to those that take events in.
fn background_thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    thread(name, || {
        background::enter();
        body()
    })
}

/// Starts a thread of the engine. If one of them panics, the process ends: without the writer nothing would be published
/// any more, and what is acknowledged is safe in the journal.
fn thread<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let guarded = move || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or_else(|_| std::process::abort())
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(guarded)
        .expect("a thread can be started at the start")
}
