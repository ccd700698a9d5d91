//! The archive: sealed files go to an object store, each once and under its own name.
//!
//! ```text
//! asked for the key → noted what is begun → uploaded → read back and compared with the summary → marked
//! ```
//!
//! **What counts as uploaded.** The object is read back, unpacked where it is compressed, and must have the length and the
//! CRC-32C of the summary. Sizes and entity tags alone would not do: a tag is a checksum of ours in one store and not in the
//! next, and never for an upload in parts; and this is what allows the only other copy to be removed. It costs the transfer
//! of each object back once, which stores do not charge for within their own region.
//!
//! **After a crash** the same question is asked first: an object that is there and whole is marked and not uploaded again.
//! An object of that name that is something else is never replaced: that is another log's, and the log says so.
//! What was begun under one key goes on under it, also where the [layout] or the node's name is another one by now; and where
//! nothing is noted any more (a mark that is damaged) the key of the other layout is asked for, too.
//! Parts of an upload that was cut off are removed by the name that was noted before the first of them.
//!
//! **Owner.** The thread `floodgate-arch` with a runtime for the client of its own.
//!
//! **Bounds.** One file at a time, 8 MiB at a time.
//!
//! **When the store fails** it is tried again for as long as it takes, after pauses that grow to `PAUSE_MAX`; the log says so
//! once, and once when it is over, and health shows the error and how much is waiting. Nothing that waits is removed.

pub mod layout;
pub mod mark;
pub mod store;

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::passing::{Fingerprint, Passing};
use crate::event::Timestamp;
use crate::failpoint;
use crate::log::catalog::Segment;
use crate::log::fs::Fs;
use crate::log::segment::{Family, SegmentId};
use layout::Layout;
use mark::{Intent, Mark, Marks};
use store::{ArchiveUrl, Store};

/// Bytes of a part: what is in memory of a file, twice at the most. With the 10,000 parts of S3 that is 80 GiB.
const PART_BYTES: usize = 8 << 20;
/// The first pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// How the archive is doing: stored by the keeper and its helper, loaded by health.
#[derive(Debug, Default)]
pub struct ArchiveStatus {
    waiting_files: AtomicU64,
    waiting_bytes: AtomicU64,
    error: Mutex<Option<String>>,
}

impl ArchiveStatus {
    /// Sealed files that are not safely archived yet, and what they take on the disk.
    pub fn waiting(&self) -> (u64, u64) {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (load(&self.waiting_files), load(&self.waiting_bytes))
    }

    /// Why the last attempt failed; `None` after one that did not.
    pub fn error(&self) -> Option<String> {
        self.error.lock().expect("no holder of this lock panics").clone()
    }

    pub(super) fn set_waiting(&self, files: u64, bytes: u64) {
        self.waiting_files.store(files, Ordering::Relaxed);
        self.waiting_bytes.store(bytes, Ordering::Relaxed);
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().expect("no holder of this lock panics") = error;
    }
}

/// Where sealed files are archived, and how.
#[derive(Clone, Debug)]
pub struct ArchivePolicy {
    /// The store.
    pub url: ArchiveUrl,
    /// The keys in it.
    pub layout: Layout,
    /// The name of this node, which is part of keys.
    pub node: String,
}

/// A file to be uploaded.
pub(super) struct Job {
    pub segment: Arc<Segment>,
    /// The compressed file, not the plain one.
    pub is_compressed: bool,
}

/// Why a file was not uploaded.
#[derive(Debug)]
pub(super) enum UploadError {
    /// The process ends.
    Stopping,
    /// The file has gone.
    Gone,
    /// The file is not what its summary says.
    Altered,
    /// There is something else of that name.
    Foreign(String),
    /// The store, or the disk, says no; it can be tried again.
    Failed(String),
}

impl std::fmt::Display for UploadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UploadError::Stopping => f.write_str("the process ends"),
            UploadError::Gone => f.write_str("the file has gone"),
            UploadError::Altered => f.write_str("the file is not what its summary says"),
            UploadError::Foreign(key) => write!(
                f,
                "there is something else at {key}, which is not replaced: does another log use this address?"
            ),
            UploadError::Failed(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        UploadError::Failed(error.to_string())
    }
}

impl From<object_store::Error> for UploadError {
    fn from(error: object_store::Error) -> Self {
        UploadError::Failed(error.to_string())
    }
}

/// Uploads files.
pub(super) struct Archivist {
    fs: Arc<dyn Fs>,
    family: Family,
    url: String,
    layout: Layout,
    node: String,
    store: Store,
    runtime: Runtime,
    status: Arc<ArchiveStatus>,
    /// Set once, when the process ends.
    stopped: watch::Receiver<bool>,
}

impl Archivist {
    /// Opens the store, which asks nobody yet.
    ///
    /// # Errors
    /// What is missing, as a sentence.
    pub fn new(
        fs: Arc<dyn Fs>,
        family: Family,
        policy: &ArchivePolicy,
        status: Arc<ArchiveStatus>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Archivist, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("floodgate-arch")
            .max_blocking_threads(2)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Archivist {
            fs,
            family,
            url: policy.url.to_string(),
            layout: policy.layout,
            node: policy.node.clone(),
            store: Store::open(&policy.url)?,
            runtime,
            status,
            stopped,
        })
    }

    /// Uploads what it is given until the sender is gone or the process ends.
    pub fn run(
        self,
        mut jobs: UnboundedReceiver<Job>,
        done: impl Fn(Arc<Segment>, Result<Mark, UploadError>),
    ) {
        // Waiting within the runtime keeps the client's connections in order meanwhile.
        while let Ok(Some(job)) = self.ask(async { Ok(jobs.recv().await) }) {
            let result = self.upload_in_the_end(&job);
            done(job.segment, result);
        }
        // What hangs in a call on a folder is left behind.
        self.runtime.shutdown_background();
    }

    /// Tries until it is there, or there is no sense in trying.
    fn upload_in_the_end(&self, job: &Job) -> Result<Mark, UploadError> {
        let mut pause = PAUSE_MIN;
        loop {
            let has_failed = pause > PAUSE_MIN;
            match self.upload(job) {
                Err(UploadError::Failed(error)) => {
                    if !has_failed {
                        let file = self.family.file_name(job.segment.id());
                        tracing::warn!(file = %file.display(), %error, "the archive cannot be written; trying again until it can");
                    }
                    self.status.set_error(Some(error));
                }
                Err(error @ (UploadError::Stopping | UploadError::Gone)) => return Err(error),
                Err(error) => {
                    self.status.set_error(Some(error.to_string()));
                    return Err(error);
                }
                Ok(mark) => {
                    if has_failed {
                        tracing::info!("the archive can be written again");
                    }
                    self.status.set_error(None);
                    return Ok(mark);
                }
            }
            let paused = async {
                tokio::time::sleep(pause).await;
                Ok(())
            };
            self.ask(paused)?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits for an answer, unless the process ends.
    fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, UploadError> {
        let mut stopped = self.stopped.clone();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => Err(UploadError::Stopping),
                answer = question => Ok(answer?),
            }
        })
    }

    fn upload(&self, job: &Job) -> Result<Mark, UploadError> {
        let id = job.segment.id();
        let marks = Marks {
            fs: &*self.fs,
            family: &self.family,
        };
        let path = match job.is_compressed {
            true => self.family.compressed(id),
            false => self.family.plain(id),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let earlier = marks.intent(id).filter(|earlier| earlier.url == self.url);
        if let Some(earlier) = &earlier {
            self.abort(earlier)?;
        }
        let (key, there) = self.find(job, &name, earlier.as_ref())?;
        let mut intent = Intent::new(self.url.clone(), key.to_string(), job.is_compressed);
        if let Some(there) = there {
            if !self.is_whole(&key, &there, job)? {
                return Err(UploadError::Foreign(intent.key));
            }
        } else {
            let size = self.fs.stat(&path)?.ok_or(UploadError::Gone)?.bytes;
            let source = self.fs.open_read(&path)?.ok_or(UploadError::Gone)?;
            marks.begin(id, &intent)?;
            failpoint::hit("archive.begun");
            self.put(&key, Passing::new(source), size, &mut |upload| {
                intent.upload = Some(upload);
                marks.begin(id, &intent)
            })?;
            failpoint::hit("archive.stored");
        }
        let there = self
            .look(&key)?
            .ok_or_else(|| UploadError::Failed(format!("{key} was stored and is not there")))?;
        if !self.is_whole(&key, &there, job)? {
            // Ours, and of no use.
            self.ask(self.store.objects.delete(&key))?;
            let reason = match self.is_local_whole(&path, job)? {
                true => UploadError::Failed(format!("{key} is not what was stored")),
                false => UploadError::Altered,
            };
            return Err(reason);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp {
            micros: now.as_micros() as i64,
        };
        let crc32c = job.segment.summary.crc32c;
        let mark = Mark::new(&intent, there.size, crc32c, there.e_tag, now.to_string());
        failpoint::hit("archive.verified");
        marks.finish(id, &mark)?;
        Ok(mark)
    }

    /// The key of a file, and what is there already. Never a second key for a file that has one, whatever the settings say by
    /// now: what was begun keeps its key, and of a file of which nothing is noted the other layout's key is looked at, too.
    fn find(
        &self,
        job: &Job,
        name: &str,
        earlier: Option<&Intent>,
    ) -> Result<(Key, Option<ObjectMeta>), UploadError> {
        let begun = earlier.filter(|earlier| earlier.is_compressed == job.is_compressed);
        if let Some(key) = begun.and_then(|begun| Key::parse(&begun.key).ok()) {
            let there = self.look(&key)?;
            return Ok((key, there));
        }
        let id: SegmentId = job.segment.id();
        let key_in = |layout: Layout| layout.key(self.store.prefix(), &self.node, id, name);
        let key = key_in(self.layout);
        let there = self.look(&key)?;
        if there.is_none() {
            let other = key_in(self.layout.other());
            if let Some(there) = self.look(&other)?
                && self.is_whole(&other, &there, job)?
            {
                return Ok((other, Some(there)));
            }
        }
        Ok((key, there))
    }

    /// Removes the parts of an upload that was cut off.
    fn abort(&self, intent: &Intent) -> Result<(), UploadError> {
        let (Some(parts), Some(upload)) = (&self.store.parts, &intent.upload) else {
            return Ok(());
        };
        let key = Key::parse(&intent.key).unwrap_or_default();
        match self.ask(parts.abort_multipart(&key, upload)) {
            Err(UploadError::Stopping) => Err(UploadError::Stopping),
            // It was completed or is gone already; if not, the store's own rules for such parts have to do.
            Err(error) => {
                tracing::debug!(key = intent.key, %error, "the parts of an earlier upload are not removed");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// What is said of the object, if there is one.
    fn look(&self, key: &Key) -> Result<Option<ObjectMeta>, UploadError> {
        let answer = async {
            match self.store.objects.head(key).await {
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                other => other.map(Some),
            }
        };
        self.ask(answer)
    }

    /// Puts a file there, in parts if it is large; `begun` is told the store's name for such an upload.
    fn put(
        &self,
        key: &Key,
        mut source: Passing,
        size: u64,
        begun: &mut dyn FnMut(String) -> io::Result<()>,
    ) -> Result<(), UploadError> {
        self.store.tidy(key);
        if size <= PART_BYTES as u64 {
            let part = next_part(&mut source)?;
            self.ask(self.store.objects.put(key, part))?;
            return Ok(());
        }
        let Some(parts) = &self.store.parts else {
            let mut upload = self.ask(self.store.objects.put_multipart(key))?;
            while let part = next_part(&mut source)?
                && part.content_length() > 0
            {
                self.ask(upload.put_part(part))?;
                failpoint::hit("archive.part");
            }
            self.ask(upload.complete())?;
            return Ok(());
        };
        let upload = self.ask(parts.create_multipart(key))?;
        begun(upload.clone())?;
        let mut done = Vec::new();
        while let part = next_part(&mut source)?
            && part.content_length() > 0
        {
            done.push(self.ask(parts.put_part(key, &upload, done.len(), part))?);
            failpoint::hit("archive.part");
        }
        self.ask(parts.complete_multipart(key, &upload, done))?;
        Ok(())
    }

    /// Whether the object is the file, by every byte of it.
    fn is_whole(&self, key: &Key, there: &ObjectMeta, job: &Job) -> Result<bool, UploadError> {
        let mut object = ObjectReader {
            archivist: self,
            key,
            there,
            at: 0,
            part: io::Cursor::default(),
            error: None,
        };
        let found = is_it(&mut object, job);
        match object.error {
            Some(error) => Err(error),
            None => Ok(found),
        }
    }

    fn is_local_whole(&self, path: &std::path::Path, job: &Job) -> Result<bool, UploadError> {
        let source = self.fs.open_read(path)?.ok_or(UploadError::Gone)?;
        Ok(is_it(&mut Passing::new(source), job))
    }
}

/// Whether what is read is the file.
fn is_it(from: &mut dyn Read, job: &Job) -> bool {
    let wanted = Fingerprint::of(&job.segment.summary);
    let enough = |found: &Fingerprint| found.is_longer_than(&wanted);
    let found = match job.is_compressed {
        true => Fingerprint::unpacked(from, enough),
        false => Fingerprint::read(from, enough),
    };
    found.is_ok_and(|found| found == wanted)
}

/// The next part of a file; empty at its end.
fn next_part(source: &mut Passing) -> io::Result<PutPayload> {
    let mut part = Vec::with_capacity(PART_BYTES);
    source.take(PART_BYTES as u64).read_to_end(&mut part)?;
    Ok(part.into())
}

/// Reads an object part by part, all of the same version of it.
struct ObjectReader<'a> {
    archivist: &'a Archivist,
    key: &'a Key,
    there: &'a ObjectMeta,
    at: u64,
    part: io::Cursor<Vec<u8>>,
    /// What the store said when it could not be read.
    error: Option<UploadError>,
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let is_through = self.part.position() == self.part.get_ref().len() as u64;
        if is_through && self.at < self.there.size {
            let end = self.there.size.min(self.at + PART_BYTES as u64);
            let options = GetOptions::default()
                .with_range(Some(self.at..end))
                .with_if_match(self.there.e_tag.clone());
            let part = async {
                let store = &self.archivist.store.objects;
                store.get_opts(self.key, options).await?.bytes().await
            };
            match self.archivist.ask(part) {
                Ok(part) => self.part = io::Cursor::new(part.into()),
                Err(error) => {
                    self.error = Some(error);
                    return Err(io::ErrorKind::Other.into());
                }
            }
            self.at = end;
        }
        self.part.read(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fs::OsFs;
    use crate::log::summary::Tally;
    use std::path::Path;

    const ID: SegmentId = SegmentId {
        number: 1,
        since: 1_000_000_000,
    };

    struct Bench {
        archivist: Archivist,
        stop: watch::Sender<bool>,
        directory: tempfile::TempDir,
    }

    impl Bench {
        fn new(store: impl FnOnce(&Path) -> Store) -> Bench {
            let directory = tempfile::tempdir().unwrap();
            let (stop, stopped) = watch::channel(false);
            let archivist = Archivist {
                fs: Arc::new(OsFs),
                family: Family::of(&directory.path().join("metrics.jsonl")),
                url: "s3://bucket/logs".into(),
                layout: Layout::Flat,
                node: "web-1".into(),
                store: store(directory.path()),
                runtime: tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap(),
                status: Arc::default(),
                stopped,
            };
            Bench {
                archivist,
                stop,
                directory,
            }
        }

        fn marks(&self) -> Marks<'_> {
            Marks {
                fs: &*self.archivist.fs,
                family: &self.archivist.family,
            }
        }

        /// Puts a sealed file of that contents there, and answers how to upload it.
        fn seal(&self, contents: &[u8], is_compressed: bool) -> Job {
            let family = &self.archivist.family;
            if is_compressed {
                std::fs::create_dir_all(family.archive_directory()).unwrap();
                std::fs::write(family.compressed(ID), zstd::encode_all(contents, 1).unwrap()).unwrap();
            } else {
                std::fs::write(family.plain(ID), contents).unwrap();
            }
            let summary = Tally::of(&mut &*contents, 10, |_| ()).unwrap().0.summary(ID, 1);
            Job {
                segment: Arc::new(Segment { base: 0, summary }),
                is_compressed,
            }
        }

        /// The keys that there are, in order.
        fn keys(&self) -> Vec<String> {
            let listed = self.archivist.store.objects.list_with_delimiter(None);
            let mut left = vec![self.archivist.ask(listed).unwrap()];
            let mut keys = Vec::new();
            while let Some(found) = left.pop() {
                keys.extend(found.objects.iter().map(|object| object.location.to_string()));
                for prefix in &found.common_prefixes {
                    let listed = self.archivist.store.objects.list_with_delimiter(Some(prefix));
                    left.push(self.archivist.ask(listed).unwrap());
                }
            }
            keys.sort();
            keys
        }

        fn object(&self, key: &str) -> Option<Vec<u8>> {
            let store = &self.archivist.store.objects;
            let object = async { store.get(&Key::from(key)).await?.bytes().await };
            self.archivist.ask(object).ok().map(Vec::from)
        }

        fn put(&self, key: &str, contents: &[u8]) {
            let store = &self.archivist.store.objects;
            self.archivist
                .ask(store.put(&Key::from(key), contents.to_vec().into()))
                .unwrap();
        }
    }

    const PARTITIONED: &str = "logs/date=2001-09-09/node=web-1/metrics-20010909T014640Z-000001.jsonl";
    const PLAIN: &str = "logs/metrics-20010909T014640Z-000001.jsonl";

    fn packed_key() -> String {
        format!("{PLAIN}.zst")
    }

    fn lines() -> Vec<u8> {
        b"{\"visitor_id\":\"visitor\",\"event\":\"view\"}\n".repeat(1000)
    }

    /// Lines of two and a half parts that do not compress.
    fn many_lines() -> Vec<u8> {
        let mut state = 1;
        let mut lines = Vec::new();
        while lines.len() < PART_BYTES * 5 / 2 {
            let word = crate::log::fs::faulty::random(&mut state);
            lines.extend_from_slice(format!("{word:016x}\n").as_bytes());
        }
        lines
    }

    #[test]
    fn a_file_is_stored_under_its_name_and_marked() {
        for is_compressed in [false, true] {
            let bench = Bench::new(|_| Store::in_memory());
            let job = bench.seal(&lines(), is_compressed);
            let mark = bench.archivist.upload(&job).unwrap();
            let key = if is_compressed {
                packed_key()
            } else {
                PLAIN.to_owned()
            };
            let object = bench.object(&key).unwrap();
            assert_eq!((mark.key, mark.bytes), (key, object.len() as u64));
            assert_eq!(mark.crc32c, crc32c::crc32c(&lines()));
            assert_eq!(bench.marks().mark(ID).unwrap().etag, mark.etag);
            assert_eq!(bench.marks().intent(ID), None);
            match is_compressed {
                true => assert!(zstd::decode_all(&*object).unwrap() == lines()),
                false => assert!(object == lines()),
            }
        }
    }

    #[test]
    fn what_is_there_and_whole_is_marked_and_not_uploaded_again() {
        for contents in [lines(), many_lines()] {
            let bench = Bench::new(|_| Store::in_memory());
            let job = bench.seal(&contents, false);
            let first = bench.archivist.upload(&job).unwrap();
            std::fs::remove_file(bench.archivist.family.beside(ID, ".archived.json")).unwrap();
            // Each put of the store in memory gives another tag.
            assert_eq!(bench.archivist.upload(&job).unwrap().etag, first.etag);
            assert_eq!(bench.marks().mark(ID).unwrap().etag, first.etag);
        }
    }

    #[test]
    fn a_file_keeps_its_one_key_whatever_the_layout_is_by_now() {
        for (before, key) in [(Layout::Flat, PLAIN), (Layout::Partitioned, PARTITIONED)] {
            // What is noted of it: the beginning, nothing but the object itself, the end.
            for left in ["begun", "object", "marked"] {
                let mut bench = Bench::new(|_| Store::in_memory());
                bench.archivist.layout = before;
                let job = bench.seal(&lines(), false);
                let first = bench.archivist.upload(&job).unwrap();
                assert_eq!(first.key, key);
                let mark = bench.archivist.family.beside(ID, ".archived.json");
                match left {
                    "begun" => {
                        let intent = Intent::new(bench.archivist.url.clone(), key.into(), false);
                        bench.marks().begin(ID, &intent).unwrap();
                        std::fs::remove_file(mark).unwrap();
                        // Then the name of the node does not matter either.
                        bench.archivist.node = "web-2".into();
                    }
                    "object" => std::fs::write(mark, "{").unwrap(),
                    _ => assert!(bench.marks().mark(ID).is_some()),
                }
                bench.archivist.layout = before.other();
                assert_eq!(bench.archivist.upload(&job).unwrap().etag, first.etag, "{left}");
                assert_eq!(bench.keys(), [key], "{left}");
            }
        }
    }

    #[test]
    fn an_upload_that_was_begun_is_finished_under_its_key() {
        let mut bench = Bench::new(|_| Store::in_memory());
        let job = bench.seal(&lines(), false);
        let intent = Intent::new(bench.archivist.url.clone(), PLAIN.into(), false);
        bench.marks().begin(ID, &intent).unwrap();
        bench.archivist.layout = Layout::Partitioned;
        assert_eq!(bench.archivist.upload(&job).unwrap().key, PLAIN);
        assert_eq!(bench.keys(), [PLAIN]);
    }

    #[test]
    fn what_is_something_else_under_the_other_layout_does_not_matter() {
        let mut bench = Bench::new(|_| Store::in_memory());
        let job = bench.seal(&lines(), false);
        bench.archivist.layout = Layout::Partitioned;
        bench.put(PLAIN, b"theirs");
        assert_eq!(bench.archivist.upload(&job).unwrap().key, PARTITIONED);
        assert_eq!(bench.object(PLAIN).unwrap(), b"theirs");
    }

    #[test]
    fn what_another_log_has_put_there_is_not_replaced() {
        for theirs in [&b"theirs"[..], &lines()[1..], &[lines(), lines()].concat(), b""] {
            let bench = Bench::new(|_| Store::in_memory());
            let job = bench.seal(&lines(), false);
            bench.put(PLAIN, theirs);
            let error = bench.archivist.upload(&job).unwrap_err();
            assert!(
                matches!(&error, UploadError::Foreign(key) if key == PLAIN),
                "{error}"
            );
            assert!(bench.object(PLAIN).unwrap() == theirs);
            assert_eq!(bench.marks().mark(ID), None);
        }
    }

    #[test]
    fn a_file_that_is_not_what_its_summary_says_is_not_archived() {
        for is_compressed in [false, true] {
            let bench = Bench::new(|_| Store::in_memory());
            let mut job = bench.seal(&lines(), is_compressed);
            let mut changed = lines();
            changed[100] ^= 1;
            job.segment = bench.seal(&changed, false).segment;
            std::fs::write(bench.archivist.family.plain(ID), lines()).unwrap();
            let error = bench.archivist.upload(&job).unwrap_err();
            assert!(matches!(error, UploadError::Altered), "{error}");
            assert_eq!((bench.object(PLAIN), bench.object(&packed_key())), (None, None));
            assert_eq!(bench.marks().mark(ID), None);
        }
    }

    #[test]
    fn the_parts_of_an_upload_that_was_cut_off_are_removed_and_it_begins_anew() {
        let bench = Bench::new(|_| Store::in_memory());
        let job = bench.seal(&many_lines(), false);
        let parts = bench.archivist.store.parts.clone().unwrap();
        let key = Key::from(PLAIN);
        let upload = bench.archivist.ask(parts.create_multipart(&key)).unwrap();
        let mut intent = Intent::new(bench.archivist.url.clone(), PLAIN.into(), false);
        intent.upload = Some(upload.clone());
        bench.marks().begin(ID, &intent).unwrap();
        bench.archivist.upload(&job).unwrap();
        assert!(bench.object(PLAIN).unwrap() == many_lines());
        let left = bench
            .archivist
            .ask(parts.put_part(&key, &upload, 0, PutPayload::from_static(b"x")));
        assert!(left.is_err(), "that upload is gone");
    }

    #[test]
    fn a_folder_takes_files_of_any_size_and_keeps_nothing_half_done() {
        for contents in [lines(), many_lines()] {
            let bench = Bench::new(|directory| {
                let folder = directory.join("far");
                std::fs::create_dir(&folder).unwrap();
                Store::open(&ArchiveUrl::parse(&format!("file://{}", folder.display())).unwrap()).unwrap()
            });
            let job = bench.seal(&contents, false);
            let name = PLAIN.trim_start_matches("logs/");
            let far = bench.directory.path().join("far");
            for number in 1..3 {
                std::fs::write(far.join(format!("{name}#{number}")), "half").unwrap();
            }
            let mark = bench.archivist.upload(&job).unwrap();
            assert_eq!(mark.key, name);
            let there: Vec<_> = std::fs::read_dir(&far)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(there, [name]);
            assert!(std::fs::read(far.join(name)).unwrap() == contents);
        }
    }

    #[test]
    fn a_mark_that_cannot_be_believed_is_none() {
        let bench = Bench::new(|_| Store::in_memory());
        let job = bench.seal(&lines(), false);
        bench.archivist.upload(&job).unwrap();
        let path = bench.archivist.family.beside(ID, ".archived.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let of_another_version = text.replace("\"version\":1", "\"version\":2");
        for bad in ["", "{}", &text[..text.len() / 2], &of_another_version] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(bench.marks().mark(ID), None, "{bad}");
        }
        std::fs::write(&path, text).unwrap();
        assert!(bench.marks().mark(ID).is_some());
    }

    #[test]
    fn a_stop_ends_the_thread_whatever_it_waits_for() {
        let bench = Bench::new(|_| Store::in_memory());
        let (jobs, given) = tokio::sync::mpsc::unbounded_channel::<Job>();
        bench.stop.send_replace(true);
        bench
            .archivist
            .run(given, |_, _| panic!("there was nothing to do"));
        assert!(jobs.is_closed());
    }
}
