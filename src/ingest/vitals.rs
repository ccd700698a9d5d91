//! What the machine says of the process and of its disks.
//!
//! Owner: the keeper thread asks twice a second, as asking can block (a disk that hangs); readers copy what it heard last. So
//! a reader may see what is some time old, and on a disk that hangs for good the last thing that was true.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::statvfs;
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// How often descriptors are counted one by one, where the kernel (before Linux 6.2) does not tell their number: with
/// ten thousand connections that takes some milliseconds.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that this process may still write there.
    pub free_bytes: u64,
    /// All that it has.
    pub total_bytes: u64,
}

/// What was heard last. What is not known is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Where the log is.
    pub log_disk: Option<Disk>,
    /// Where the journal is, unless that is in memory.
    pub journal_disk: Option<Disk>,
    /// Bytes of the live file that are not known to be on the disk.
    pub unsynced_bytes: u64,
    /// Processor time of the process.
    pub cpu: Duration,
    /// Memory that the process has, in bytes.
    pub resident_bytes: Option<u64>,
    /// Descriptors that it has open, and may have open.
    pub open_descriptors: Option<u64>,
    /// How many descriptors it may have open.
    pub descriptors_max: Option<u64>,
}

/// Asks, and keeps what it heard.
pub(super) struct Monitor {
    started: SystemTime,
    log: PathBuf,
    journal: Option<PathBuf>,
    heard: Mutex<(Vitals, Option<Instant>)>,
}

impl Monitor {
    /// `log` and `journal` are files; what is asked about is the file system of their directories, which are there.
    pub fn new(log: &Path, journal: Option<&Path>) -> Monitor {
        let directory = |file: &Path| match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let monitor = Monitor {
            started: SystemTime::now(),
            log: directory(log),
            journal: journal.map(directory),
            heard: Mutex::default(),
        };
        monitor.ask(0);
        monitor
    }

    /// What was heard last.
    pub fn heard(&self) -> Vitals {
        self.heard.lock().expect("no holder of this lock panics").0
    }

    /// When the process began.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Asks anew; may block.
    pub fn ask(&self, unsynced_bytes: u64) {
        let (before, mut counted) = *self.heard.lock().expect("no holder of this lock panics");
        let now = Instant::now();
        let mut open_descriptors = fs::metadata("/proc/self/fd").ok().map(|fds| fds.len());
        if open_descriptors.is_none_or(|number| number == 0) {
            open_descriptors = before.open_descriptors;
            if counted.is_none_or(|then| now.duration_since(then) >= COUNT_EVERY) {
                open_descriptors = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64);
                counted = Some(now);
            }
        }
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let vitals = Vitals {
            log_disk: disk(&self.log),
            journal_disk: self.journal.as_deref().and_then(disk),
            unsynced_bytes,
            cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
            resident_bytes: resident_bytes(),
            open_descriptors,
            descriptors_max: getrlimit(Resource::Nofile).current,
        };
        *self.heard.lock().expect("no holder of this lock panics") = (vitals, counted);
    }
}

fn disk(directory: &Path) -> Option<Disk> {
    let found = statvfs(directory).ok()?;
    Some(Disk {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// The second number there is in pages.
fn resident_bytes() -> Option<u64> {
    let sizes = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = sizes.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_of_disks_and_process() {
        let folder = tempfile::tempdir().unwrap();
        let monitor = Monitor::new(&folder.path().join("metrics.jsonl"), Some(Path::new("journal")));
        let before = monitor.heard();
        let disk = before.log_disk.unwrap();
        assert!(
            0 < disk.free_bytes && disk.free_bytes <= disk.total_bytes,
            "{disk:?}"
        );
        assert!(
            before.journal_disk.is_some(),
            "a path without a directory is in the current one"
        );
        assert!(before.resident_bytes.unwrap() > 1 << 20);
        let open = before.open_descriptors.unwrap();
        assert!(0 < open && open <= before.descriptors_max.unwrap());
        monitor.ask(7);
        let after = monitor.heard();
        assert!(after.cpu > before.cpu);
        assert_eq!(after.unsynced_bytes, 7);
        let nowhere = Monitor::new(&folder.path().join("gone/metrics.jsonl"), None);
        assert_eq!(
            (nowhere.heard().log_disk, nowhere.heard().journal_disk),
            (None, None)
        );
    }
}
