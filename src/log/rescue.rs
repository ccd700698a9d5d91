//! What is in doubt after a failed sync, written again to a fresh file.
//!
//! After a failed `fdatasync` the kernel may have dropped the pages that it could not write, and says of the next sync that all is
//! well. So nothing that was appended since the last sync that succeeded is known to be on the disk, or ever will be by
//! syncing that file again. Those bytes are read back from the file (the page cache mostly has them still), held against
//! the checksum of what was written, and stored beside it:
//!
//! ```text
//! metrics-000017.rescue    {"number":17,"from":4096,"bytes":512,"crc32c_before":"…","crc32c":"…"}
//!                          the 512 bytes of file 17 from byte 4096 on
//! ```
//!
//! No pattern for `*.jsonl` matches it, so that who follows the log does not see those lines twice, and places in the log stay
//! what they are. Then the file is *healed*: the same bytes are written over themselves, which makes the kernel write them to
//! the disk, and the rescue file goes. A reader never sees a difference, unless the disk had lost them: then healing is
//! what brings them back, after a power cut at the next start and before anything else is read.
//!
//! **Format.** A line of JSON, then the bytes. `crc32c_before` is the CRC-32C of the file up to `from`, by which the file is
//! known again; `crc32c` goes to the end of the bytes.
//!
//! Owner: the sync thread writes it while the writer rests; the start, and after it the keeper, heals. Memory: a chunk of
//! 1 MiB, however much is in doubt.

use std::io::{self, BufRead, BufReader, IoSlice, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fs::{AppendFile, Fs};
use super::segment::Family;

/// Bytes copied at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// Longest first line.
const HEADER_BYTES_MAX: u64 = 1 << 10;

/// A part of a file of which nobody knows whether it is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The file's number.
    pub number: u64,
    /// Where it begins: all before is on the disk.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// CRC-32C of the file up to `from`.
    pub before: u32,
    /// CRC-32C of the file up to `to`.
    pub after: u32,
}

/// Why something could not be written again.
#[derive(Debug)]
pub enum RescueError {
    /// It cannot be read back as it was written: the kernel has dropped it, and the disk does not have it.
    Lost(io::Error),
    /// It cannot be written to the fresh file either. It may be tried again.
    Io(io::Error),
}

/// A rescue file's first line.
#[derive(Serialize, Deserialize)]
struct Header {
    number: u64,
    from: u64,
    bytes: u64,
    crc32c_before: String,
    crc32c: String,
}

/// Writes what is in doubt of `file` again: it is on the disk, with its name, when this returns.
///
/// # Errors
/// See [`RescueError`]. An earlier rescue file of the same log file is then as it was.
pub fn write(fs: &dyn Fs, family: &Family, file: &dyn AppendFile, doubt: &Doubt) -> Result<(), RescueError> {
    let path = family.rescue(doubt.number);
    let mut aside = path.clone().into_os_string();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let written = write_aside(fs, file, doubt, &aside).and_then(|()| {
        fs.rename_over(&aside, &path).map_err(RescueError::Io)?;
        fs.sync_directory(family.directory())
            .map_err(|error| RescueError::Io(error.into()))
    });
    if written.is_err() {
        fs.remove(&aside).ok();
    }
    written
}

fn write_aside(fs: &dyn Fs, file: &dyn AppendFile, doubt: &Doubt, aside: &Path) -> Result<(), RescueError> {
    let to = fs.create(aside).map_err(RescueError::Io)?;
    let header = Header {
        number: doubt.number,
        from: doubt.from,
        bytes: doubt.to - doubt.from,
        crc32c_before: format!("{:08x}", doubt.before),
        crc32c: format!("{:08x}", doubt.after),
    };
    let mut header = serde_json::to_vec(&header).map_err(|error| RescueError::Io(error.into()))?;
    header.push(b'\n');
    append(&*to, &header)?;
    let (mut at, mut checksum) = (doubt.from, doubt.before);
    let mut chunk = Vec::new();
    while at < doubt.to {
        chunk.resize(CHUNK_BYTES.min(doubt.to - at) as usize, 0);
        file.read_exact_at(&mut chunk, at).map_err(RescueError::Lost)?;
        checksum = crc32c::crc32c_append(checksum, &chunk);
        at += chunk.len() as u64;
        append(&*to, &chunk)?;
    }
    if checksum != doubt.after {
        return Err(RescueError::Lost(io::Error::other(
            "the bytes read back are not those that were written",
        )));
    }
    to.sync_data().map_err(RescueError::Io)
}

fn append(to: &dyn AppendFile, mut rest: &[u8]) -> Result<(), RescueError> {
    while !rest.is_empty() {
        match to.append(&[IoSlice::new(rest)]) {
            Ok(0) => return Err(RescueError::Io(io::ErrorKind::WriteZero.into())),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(RescueError::Io(error)),
        }
    }
    Ok(())
}

/// Heals what can be, before the log is opened.
///
/// # Errors
/// If the live file cannot be healed: nothing may be appended to it then. Of sealed files that is only told, and the keeper
/// tries again.
pub fn heal_all(fs: &dyn Fs, family: &Family) -> io::Result<()> {
    for number in family.rescues(fs)? {
        let path = family.rescue(number);
        match heal(fs, family, number) {
            Ok(()) => {}
            Err(error) if error.kind() != io::ErrorKind::InvalidData && is_live(fs, family, number)? => {
                return Err(error);
            }
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "what was rescued cannot be put back into its file");
            }
        }
    }
    Ok(())
}

fn is_live(fs: &dyn Fs, family: &Family, number: u64) -> io::Result<bool> {
    let list = family.list(fs)?;
    Ok(list.keys().next_back().map_or(0, |id| id.number) + 1 == number)
}

/// Writes what was rescued of the file with this number over itself, and removes the rescue file when it is on the disk; also
/// when nothing needs it any more: the file was compressed, which reads it back, or has been removed.
///
/// # Errors
/// What reading and writing says; [`io::ErrorKind::InvalidData`] if what is there does not belong together. The rescue file
/// is then as it was.
pub fn heal(fs: &dyn Fs, family: &Family, number: u64) -> io::Result<()> {
    let path = family.rescue(number);
    let list = family.list(fs)?;
    let sealed = list.iter().find(|(id, _)| id.number == number);
    let target = match sealed {
        Some((id, parts)) if parts.plain => family.plain(*id),
        None if is_live(fs, family, number)? => family.live(),
        None if list.keys().next_back().is_none_or(|last| last.number < number) => {
            return Err(mismatch("the file it belongs to is not there"));
        }
        _ => return fs.remove(&path),
    };
    let header = check(fs, &path)?;
    let mut before = fs.open_read(&target)?.map(|file| file.take(header.from));
    let (bytes, checksum) = match &mut before {
        Some(before) => checksum_of(before, 0)?,
        None => (0, 0),
    };
    if bytes != header.from || format!("{checksum:08x}") != header.crc32c_before {
        return Err(mismatch("the file it belongs to is another one"));
    }
    let (_, mut body) = open(fs, &path)?;
    fs.write_again(&target, header.from, &mut body)?;
    if before.is_none() {
        fs.sync_directory(family.directory())?;
    }
    tracing::info!(
        file = %target.display(),
        from = header.from,
        bytes = header.bytes,
        "what a failed sync had left in doubt is written again, and on the disk"
    );
    fs.remove(&path)
}

/// Reads a rescue file to its end, and believes it only if all of it is right.
fn check(fs: &dyn Fs, path: &Path) -> io::Result<Header> {
    let (header, mut body) = open(fs, path)?;
    let before = u32::from_str_radix(&header.crc32c_before, 16).map_err(|_| mismatch("it is damaged"))?;
    let (bytes, checksum) = checksum_of(&mut body, before)?;
    match bytes == header.bytes && format!("{checksum:08x}") == header.crc32c {
        true => Ok(header),
        false => Err(mismatch("it is damaged")),
    }
}

fn open(fs: &dyn Fs, path: &Path) -> io::Result<(Header, impl Read)> {
    let file = fs.open_read(path)?.ok_or(io::ErrorKind::NotFound)?;
    let mut file = BufReader::with_capacity(CHUNK_BYTES as usize, file);
    let mut line = Vec::new();
    (&mut file).take(HEADER_BYTES_MAX).read_until(b'\n', &mut line)?;
    let header = serde_json::from_slice(&line).map_err(|_| mismatch("it is damaged"))?;
    Ok((header, file))
}

/// How many bytes `from` gives, and their checksum behind `before`.
fn checksum_of(from: &mut dyn Read, before: u32) -> io::Result<(u64, u32)> {
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    let (mut bytes, mut checksum) = (0, before);
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok((bytes, checksum)),
            Ok(size) => {
                bytes += size as u64;
                checksum = crc32c::crc32c_append(checksum, &chunk[..size]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn mismatch(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
