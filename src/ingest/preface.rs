//! The journal's first page: what the file is, whose it is, and how much of it there is.
//!
//! ```text
//! magic, version, block size, boot id, path of the log      written once
//! CRC-32C of all that
//! number of blocks, and its CRC-32C                         written over each time the journal grows or shrinks
//! ```
//!
//! The number is what tells a journal that somebody cut off from one that was never longer. It is noted after the blocks are
//! on the disk and before a frame is put into them, and lowered before blocks are cut off: whenever a process or the power goes,
//! the file has at least the blocks that are noted.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::blocks::{BLOCK_BYTES, PREFACE_BYTES};
use super::journal::{JournalError, write_synced};

const MAGIC: [u8; 8] = *b"FLGTJRNL";
pub(super) const VERSION: u32 = 2;
const BOOT_ID: usize = 16;
const BOOT_ID_BYTES: usize = 36;
const PATH: usize = BOOT_ID + BOOT_ID_BYTES;
/// Longest path kept; of a longer one the end.
const PATH_BYTES_MAX: usize = 3 << 10;
/// The number of blocks and its checksum. Within one sector, so that a power cut leaves the old or the new.
const BLOCKS: usize = PREFACE_BYTES - 8;
/// The checksum of what is before it.
const CHECKSUM: usize = BLOCKS - 4;

const _: () = assert!(PATH + 4 + PATH_BYTES_MAX <= CHECKSUM && BLOCKS / 512 == (PREFACE_BYTES - 1) / 512);

/// What the first page says.
pub(super) struct Preface {
    boot_id: [u8; BOOT_ID_BYTES],
    /// The path of the log.
    pub log: Vec<u8>,
    /// Blocks that the file has at least.
    pub blocks: u32,
}

impl Preface {
    /// The preface of a journal without blocks that is made now for the log at `log`.
    pub fn of(log: &Path) -> Preface {
        // The canonical directory, so that the same log is known by whatever path it is named; the file itself may
        // not exist yet.
        let directory = log
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let path = directory.join(log.file_name().unwrap_or_default());
        let bytes = path.as_os_str().as_bytes();
        let log = bytes[bytes.len().saturating_sub(PATH_BYTES_MAX)..].to_vec();
        let mut boot_id = [0; BOOT_ID_BYTES];
        // Without a boot id every start counts as the first after a boot.
        if let Ok(text) = std::fs::read("/proc/sys/kernel/random/boot_id") {
            let length = text.len().min(BOOT_ID_BYTES);
            boot_id[..length].copy_from_slice(&text[..length]);
        }
        Preface {
            boot_id,
            log,
            blocks: 0,
        }
    }

    /// Whether the machine may have been restarted between the two.
    pub fn is_of_another_boot(&self, other: &Preface) -> bool {
        self.boot_id != other.boot_id || self.boot_id == [0; BOOT_ID_BYTES]
    }

    pub fn encode(&self) -> [u8; PREFACE_BYTES] {
        let mut page = [0; PREFACE_BYTES];
        page[0..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
        page[BOOT_ID..PATH].copy_from_slice(&self.boot_id);
        page[PATH..PATH + 4].copy_from_slice(&(self.log.len() as u32).to_le_bytes());
        page[PATH + 4..][..self.log.len()].copy_from_slice(&self.log);
        seal(&mut page);
        page[BLOCKS..].copy_from_slice(&note_of(self.blocks));
        page
    }

    /// Reads the first page of the journal at `path`.
    ///
    /// # Errors
    /// See [`JournalError`]. What is damaged in any bit is none.
    pub fn decode(page: &[u8; PREFACE_BYTES], path: &Path) -> Result<Preface, JournalError> {
        let word =
            |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().expect("four bytes are four bytes"));
        let is_whole = word(CHECKSUM) == crc32c::crc32c(&page[..CHECKSUM]);
        if page[0..8] != MAGIC || !(is_whole || is_of_version_1(page)) {
            return Err(JournalError::NotAJournal(path.to_owned()));
        }
        if word(8) != VERSION || word(12) != BLOCK_BYTES as u32 {
            return Err(JournalError::Version(path.to_owned(), word(8)));
        }
        let blocks = word(BLOCKS);
        if page[BLOCKS..] != note_of(blocks) {
            return Err(JournalError::NotAJournal(path.to_owned()));
        }
        let length = (word(PATH) as usize).min(PATH_BYTES_MAX);
        Ok(Preface {
            boot_id: page[BOOT_ID..PATH].try_into().expect("36 bytes are 36 bytes"),
            log: page[PATH + 4..][..length].to_vec(),
            blocks,
        })
    }
}

/// Notes in a journal's file that it has so many blocks; on the disk when this returns.
///
/// # Errors
/// What writing says. The file may say either number then.
pub(super) fn note_blocks(file: &File, blocks: u32) -> io::Result<()> {
    write_synced(file, BLOCKS as u64, &note_of(blocks))
}

fn note_of(blocks: u32) -> [u8; 8] {
    let mut note = [0; 8];
    note[..4].copy_from_slice(&blocks.to_le_bytes());
    let checksum = crc32c::crc32c(&note[..4]);
    note[4..].copy_from_slice(&checksum.to_le_bytes());
    note
}

/// Whether a page is one of the first version, which had no number of blocks and its checksum at the end: for a sentence that
/// says what to do.
fn is_of_version_1(page: &[u8; PREFACE_BYTES]) -> bool {
    let (checked, checksum) = page.split_at(PREFACE_BYTES - 4);
    page[8..12] == 1_u32.to_le_bytes() && *checksum == crc32c::crc32c(checked).to_le_bytes()
}

fn seal(page: &mut [u8; PREFACE_BYTES]) {
    let checksum = crc32c::crc32c(&page[..CHECKSUM]);
    page[CHECKSUM..BLOCKS].copy_from_slice(&checksum.to_le_bytes());
}

/// Forgeries for the tests of the room.
#[cfg(test)]
pub(super) mod forged {
    use super::*;

    fn with_page(journal: &mut [u8], change: impl FnOnce(&mut [u8; PREFACE_BYTES])) {
        let page = journal.first_chunk_mut().expect("a journal has its first page");
        change(page);
        seal(page);
    }

    /// Makes of a journal one that was written before the machine was restarted.
    pub fn another_boot(journal: &mut [u8]) {
        with_page(journal, |page| page[BOOT_ID] = b'#');
    }

    /// Makes of a journal one of another version.
    pub fn version(journal: &mut [u8], version: u32) {
        with_page(journal, |page| {
            page[8..12].copy_from_slice(&version.to_le_bytes())
        });
    }

    /// Makes of a page one of the first version.
    pub fn first_version(page: &mut [u8]) {
        page[8..12].copy_from_slice(&1_u32.to_le_bytes());
        page[CHECKSUM..].fill(0);
        let checksum = crc32c::crc32c(&page[..PREFACE_BYTES - 4]);
        page[PREFACE_BYTES - 4..PREFACE_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Notes in a journal that it has so many blocks.
    pub fn blocks(journal: &mut [u8], blocks: usize) {
        journal[BLOCKS..PREFACE_BYTES].copy_from_slice(&note_of(blocks as u32));
    }
}
