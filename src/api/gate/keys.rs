//! Keys: who shows one, and whether it is one of ours.
//!
//! **Owner.** The main thread reads the files, at the start and on SIGHUP. Connections look at a set that never changes; each
//! keeps the one it saw last and asks for another when the ring's number has changed, so that a request costs one load of an
//! atomic and no lock.
//!
//! **Bounds.** A thousand keys of each kind, of 128 bytes, files of 1 MiB.
//!
//! **When a file is bad.** At the start that is an error; later the keys in use stay in use.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::Config;
use crate::config::access::{KEY_BYTES_MAX, KEYS_MAX, Key, KeySource, key_lines};
use crate::http::Request;

/// Longest file of keys, in bytes: more than `KEYS_MAX` of the longest, with names and remarks.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Write,
    Read,
}

/// A key in use.
pub struct KnownKey {
    /// What logs call it.
    pub name: Arc<str>,
    /// What rate limits know it by: the same for the same key, also after files have been read again.
    pub id: u64,
    padded: [u8; KEY_BYTES_MAX],
}

/// The keys of one kind.
#[derive(Default)]
pub struct KeyList(Vec<KnownKey>);

impl KeyList {
    fn new(keys: impl Iterator<Item = Key>, hasher: &RandomState) -> KeyList {
        let known = |key: Key| KnownKey {
            name: key.name.into(),
            id: hasher.hash_one(&key.secret),
            padded: padded(key.secret.as_bytes()).expect("the settings bound the length of a key"),
        };
        KeyList(keys.map(known).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that is shown, if it is one of these. Takes as long whether and where it is found, and however much of it
    /// is right: all keys are compared, in their full length.
    pub fn find(&self, shown: &[u8]) -> Option<&KnownKey> {
        let shown = padded(shown)?;
        let mut found = u32::MAX;
        for (index, key) in self.0.iter().enumerate() {
            let is_equal: Choice = key.padded.ct_eq(&shown);
            found.conditional_assign(&(index as u32), is_equal);
        }
        self.0.get(found as usize)
    }
}

/// A key in the length in which keys are compared. No key has a NUL, so what is padded stays what it was.
fn padded(key: &[u8]) -> Option<[u8; KEY_BYTES_MAX]> {
    let mut padded = [0; KEY_BYTES_MAX];
    padded.get_mut(..key.len())?.copy_from_slice(key);
    Some(padded)
}

/// All keys at one time.
#[derive(Default)]
pub struct Keys {
    pub write: KeyList,
    pub read: KeyList,
}

impl Keys {
    pub fn of(&self, side: Side) -> &KeyList {
        match side {
            Side::Write => &self.write,
            Side::Read => &self.read,
        }
    }

    /// Those of the other kind.
    pub fn not_of(&self, side: Side) -> &KeyList {
        match side {
            Side::Write => &self.read,
            Side::Read => &self.write,
        }
    }
}

/// The keys as they are now, and where they come from.
pub struct KeyRing {
    write: KeySource,
    read: KeySource,
    hasher: RandomState,
    /// Locked to take a reference or to put another set in its place.
    keys: Mutex<Arc<Keys>>,
    /// How often the keys have changed. Written under the lock, after the keys.
    changes: AtomicU64,
}

impl KeyRing {
    /// Reads the files. The error names the setting.
    pub fn open(config: &Config) -> Result<KeyRing, String> {
        let ring = KeyRing {
            write: config.write_keys.clone(),
            read: config.read_keys.clone(),
            hasher: RandomState::new(),
            keys: Mutex::default(),
            changes: AtomicU64::new(0),
        };
        ring.reload()?;
        Ok(ring)
    }

    /// Reads the files again. After an error everything is as it was.
    pub fn reload(&self) -> Result<(), String> {
        let keys = Keys {
            write: self.load(&self.write, "METRICS_WRITE_KEYS_FILE", "write-file")?,
            read: self.load(&self.read, "METRICS_READ_KEYS_FILE", "read-file")?,
        };
        let mut current = self.lock();
        *current = Arc::new(keys);
        // Release: who sees the new number takes the new keys. The lock would do, but not for those who do not take it.
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn load(&self, source: &KeySource, setting: &str, kind: &str) -> Result<KeyList, String> {
        let from_file = match &source.file {
            Some(path) => {
                key_file(path, kind).map_err(|error| format!("{setting}: {}: {error}", path.display()))?
            }
            None => Vec::new(),
        };
        let listed = source.listed.iter().cloned();
        Ok(KeyList::new(listed.chain(from_file), &self.hasher))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Keys>> {
        // Nothing that can panic happens under the lock.
        self.keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The keys as they are now.
    pub fn held(&self) -> HeldKeys {
        // The number first: keys that are newer than their number are only asked for once too often.
        let changes = self.changes.load(Ordering::Acquire);
        HeldKeys {
            keys: Arc::clone(&self.lock()),
            changes,
        }
    }
}

/// The keys as a connection saw them last.
pub struct HeldKeys {
    keys: Arc<Keys>,
    changes: u64,
}

impl HeldKeys {
    /// Brings them up to date.
    pub fn refresh(&mut self, ring: &KeyRing) -> &Keys {
        if ring.changes.load(Ordering::Acquire) != self.changes {
            *self = ring.held();
        }
        &self.keys
    }
}

fn key_file(path: &Path, kind: &str) -> Result<Vec<Key>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "the file is longer than 1 MiB, which {KEYS_MAX} keys are not"
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not text".to_owned())?;
    key_lines(&text, kind)
}

/// The key that a request shows: in `Authorization: Bearer`, in `X-Api-Key`, or in the query as `key`, the only place that
/// beacons and event sources can put one. An `Authorization` of another scheme is for somebody else, as a proxy in front.
pub fn shown(request: &Request<'_>) -> Option<Vec<u8>> {
    let bearer = |value: &[u8]| {
        let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| token.trim_ascii().to_vec())
    };
    let in_header = request
        .header("authorization")
        .and_then(bearer)
        .or_else(|| request.header("x-api-key").map(<[u8]>::to_vec));
    if in_header.is_some() || request.query().is_empty() {
        return in_header;
    }
    let (_, key) = request.query_pairs().filter(|(name, _)| name == "key").last()?;
    // Who forgot to encode a plus sign meant one: a key has no blank.
    Some(key.replace(' ', "+").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(secrets: &[&str]) -> KeyList {
        let key = |secret: &&str| Key {
            name: format!("name of {secret}"),
            secret: (*secret).to_owned(),
        };
        KeyList::new(secrets.iter().map(key), &RandomState::new())
    }

    #[test]
    fn a_key_is_found_wherever_it_stands_and_nothing_else_is() {
        let keys = list(&["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "bbbbbbbbbbbbbbbbb"]);
        for secret in ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "bbbbbbbbbbbbbbbbb"] {
            let found = keys.find(secret.as_bytes()).unwrap();
            assert_eq!(&*found.name, format!("name of {secret}"));
        }
        for wrong in [
            "",
            "aaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaab",
            &"a".repeat(200),
        ] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert!(list(&[]).find(b"").is_none());
    }

    #[test]
    fn a_bad_file_leaves_the_keys_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let file = path.to_str().unwrap().to_owned();
        let config = Config::new(|name| (name == "METRICS_WRITE_KEYS_FILE").then(|| file.clone())).unwrap();
        let ring = KeyRing::open(&config).unwrap();
        let mut held = ring.held();
        for bad in [
            &b"# nothing\n"[..],
            b"short\n",
            b"\xff\xff",
            &[b'x'; (1 << 20) + 1],
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = ring.reload().unwrap_err();
            assert!(
                error.starts_with("METRICS_WRITE_KEYS_FILE: ") && error.contains(&file),
                "{error}"
            );
            assert!(held.refresh(&ring).write.find(b"0123456789abcdef").is_some());
        }
        std::fs::write(&path, "fedcba9876543210\n").unwrap();
        ring.reload().unwrap();
        assert!(held.refresh(&ring).write.find(b"0123456789abcdef").is_none());
        assert!(held.refresh(&ring).write.find(b"fedcba9876543210").is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(ring.reload().is_err());
        assert!(held.refresh(&ring).write.find(b"fedcba9876543210").is_some());
    }
}
