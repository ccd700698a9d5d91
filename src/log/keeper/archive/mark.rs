//! What is known of a file's way into the archive, in small files beside its summary, each put there whole and synced:
//!
//! | file | says |
//! |---|---|
//! | `….archiving.json` | an upload was begun: under which key, and which upload's parts lie there |
//! | `….archived.json` | the object is there and was read back whole |
//!
//! The first keeps a file from ever getting a second name in the store: whoever begins anew goes on with the key that was
//! chosen, also if the settings would choose another one by now. The second outlives the file.

use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failpoint;
use crate::log::fs::Fs;
use crate::log::segment::{Family, SegmentId};

/// Version of both formats.
const VERSION: u32 = 1;

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Intent {
    version: u32,
    /// Where to, as the settings said it.
    pub url: String,
    pub key: String,
    /// Whether it is the compressed file.
    pub is_compressed: bool,
    /// The store's name for the upload, while there are parts of one.
    pub upload: Option<String>,
}

impl Intent {
    pub fn new(url: String, key: String, is_compressed: bool) -> Intent {
        Intent {
            version: VERSION,
            url,
            key,
            is_compressed,
            upload: None,
        }
    }
}

/// An object that was read back whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Mark {
    version: u32,
    /// Where it is, as the settings said it.
    pub url: String,
    pub key: String,
    /// The object's bytes.
    pub bytes: u64,
    /// CRC-32C of the lines in it, as in the summary.
    pub crc32c: u32,
    /// The store's name for these very contents.
    pub etag: Option<String>,
    /// When it was found whole.
    pub archived: String,
}

impl Mark {
    pub fn new(intent: &Intent, bytes: u64, crc32c: u32, etag: Option<String>, archived: String) -> Mark {
        Mark {
            version: VERSION,
            url: intent.url.clone(),
            key: intent.key.clone(),
            bytes,
            crc32c,
            etag,
            archived,
        }
    }
}

/// The files of one log.
pub(in super::super) struct Marks<'f> {
    pub fs: &'f dyn Fs,
    pub family: &'f Family,
}

impl Marks<'_> {
    /// The mark of a file, if it has one that can be believed: otherwise the object is looked at again.
    pub fn mark(&self, id: SegmentId) -> Option<Mark> {
        self.read(self.mark_path(id), |mark: &Mark| mark.version)
    }

    /// The upload that was begun of a file.
    pub fn intent(&self, id: SegmentId) -> Option<Intent> {
        self.read(self.intent_path(id), |intent: &Intent| intent.version)
    }

    /// Notes that an upload is begun.
    pub fn begin(&self, id: SegmentId, intent: &Intent) -> io::Result<()> {
        self.put(self.intent_path(id), intent)
    }

    /// Notes that an object is whole; from then on the file may go.
    pub fn finish(&self, id: SegmentId, mark: &Mark) -> io::Result<()> {
        self.put(self.mark_path(id), mark)?;
        failpoint::hit("archive.marked");
        self.settle(id);
        Ok(())
    }

    /// Removes what was noted of the beginning, where there is a mark.
    pub fn settle(&self, id: SegmentId) {
        // One that stays is removed at the next start; the mark is what counts.
        self.fs.remove(&self.intent_path(id)).ok();
    }

    fn read<T: DeserializeOwned>(&self, path: PathBuf, version: impl Fn(&T) -> u32) -> Option<T> {
        let mut text = String::new();
        let mut file = self.fs.open_read(&path).ok()??;
        file.read_to_string(&mut text).ok()?;
        let read = serde_json::from_str(&text)
            .ok()
            .filter(|read| version(read) == VERSION);
        if read.is_none() {
            tracing::warn!(file = %path.display(), "what is noted of an upload is damaged or of another version; the store is asked");
        }
        read
    }

    fn put(&self, path: PathBuf, what: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(what)?;
        text.push(b'\n');
        self.fs.put_whole(&path, &text)?;
        Ok(self.fs.sync_directory(self.family.directory())?)
    }

    fn mark_path(&self, id: SegmentId) -> PathBuf {
        self.family.beside(id, ".archived.json")
    }

    fn intent_path(&self, id: SegmentId) -> PathBuf {
        self.family.beside(id, ".archiving.json")
    }
}
