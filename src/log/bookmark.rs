//! How far a log is shipped, in a small file beside it: `metrics.ship.json`, put there whole and synced.
//!
//! The stream itself says what it has; the file is for when the stream has nothing left of this node, for the life that the log
//! has (places in it begin anew when a node has lost its disk), and for whoever must not remove what is not shipped yet.

use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cursor::Position;
use super::fs::Fs;
use super::segment::Family;

/// Version of the format.
const VERSION: u32 = 1;
/// No bookmark is longer.
const BYTES_MAX: u64 = 4 << 10;

/// How far a log is shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// The stream it goes to.
    pub stream: String,
    /// Which log of its node it is.
    pub life: u64,
    /// Everything before is in the stream.
    pub next: Position,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    stream: String,
    life: u64,
    position: String,
}

/// Where the bookmark of a log is.
pub fn path(family: &Family) -> PathBuf {
    family.live().with_extension("ship.json")
}

impl Bookmark {
    /// Reads the one of a log; `None` if there is none.
    ///
    /// # Errors
    /// What reading says; [`io::ErrorKind::InvalidData`] for a file that is no bookmark.
    pub fn read(fs: &dyn Fs, family: &Family) -> io::Result<Option<Bookmark>> {
        let Some(file) = fs.open_read(&path(family))? else {
            return Ok(None);
        };
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text)?;
        let none = || io::Error::new(io::ErrorKind::InvalidData, "it is no bookmark of this version");
        let stored: Stored = serde_json::from_str(&text).map_err(|_| none())?;
        let next = stored.position.parse().map_err(|_| none())?;
        if stored.version != VERSION {
            return Err(none());
        }
        Ok(Some(Bookmark {
            stream: stored.stream,
            life: stored.life,
            next,
        }))
    }

    /// Puts it in place, synced.
    ///
    /// # Errors
    /// What writing or syncing says.
    pub fn write(&self, fs: &dyn Fs, family: &Family) -> io::Result<()> {
        let stored = Stored {
            version: VERSION,
            stream: self.stream.clone(),
            life: self.life,
            position: self.next.to_string(),
        };
        let mut text = serde_json::to_vec(&stored)?;
        text.push(b'\n');
        fs.put_whole(&path(family), &text)?;
        Ok(fs.sync_directory(family.directory())?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fs::OsFs;
    use super::*;

    #[test]
    fn a_bookmark_is_read_as_it_was_written_and_nothing_else_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let family = Family::of(&folder.path().join("metrics.jsonl"));
        assert_eq!(Bookmark::read(&OsFs, &family).unwrap(), None);
        let bookmark = Bookmark {
            stream: "metrics-a".into(),
            life: 5,
            next: "17:40960".parse().unwrap(),
        };
        bookmark.write(&OsFs, &family).unwrap();
        assert_eq!(Bookmark::read(&OsFs, &family).unwrap(), Some(bookmark));
        let path = folder.path().join("metrics.ship.json");
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in [
            "",
            "{}",
            &text[..20],
            &text.replace("\"version\":1", "\"version\":2"),
            &text.replace("17:", "x:"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = Bookmark::read(&OsFs, &family).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bad}");
        }
    }
}
