//! Reading the inputs: bytes → lines → batches.
//!
//! An input is a file or standard input, plain or packed with gzip or zstd, which its first bytes tell. A batch is whole lines
//! of one input. Not sent are blank lines, lines marked `"torn":true` (Floodgate's log closes lines with that mark that a
//! power cut has cut; they are no events), and what a batch cannot carry: lines that are not UTF-8 (they would spoil the
//! batch), that begin with `[` (the batch would be taken for an array) or that are too long.
//!
//! Owner: the reader thread. Memory: a batch and a line, each bounded, and what unpacking needs.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use memchr::memmem::Finder;
use serde::Deserialize;

use super::BATCH_BYTES_MAX;
use super::pace::{Pace, Speed};
use super::rejected::RejectedLine;
use super::state::Span;

/// Longest line that is sent. Servers refuse much shorter ones; this is the bound of what is kept.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// At the recorded pace, events that are due within this time go in one batch, at the time of the last of them.
const GATHER: Duration = Duration::from_millis(100);
/// Bytes of a line too long that are kept to be shown.
const SHOWN_BYTES: usize = 1 << 10;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Finds what may be the mark of a torn line.
static TORN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"torn\""));

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file; its name as it was given.
    File(String),
}

impl Input {
    /// `-` is standard input.
    pub fn of(name: &str) -> Input {
        match name {
            "-" => Input::Stdin,
            _ => Input::File(name.to_owned()),
        }
    }

    /// As it was given.
    pub fn name(&self) -> &str {
        match self {
            Input::Stdin => "-",
            Input::File(name) => name,
        }
    }

    /// Its length as it is on the disk; `None` where that cannot be told.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Input::Stdin => None,
            Input::File(name) => std::fs::metadata(name)
                .ok()
                .filter(|found| found.is_file())
                .map(|found| found.len()),
        }
    }
}

/// A batch of an earlier call that is read again, before what follows it.
#[derive(Debug)]
pub struct Planned {
    /// Its lines.
    pub span: Span,
    /// Whether it is sent; otherwise it is only made sure that it is what it was.
    pub is_sent: bool,
    /// Whether it may be stored already.
    pub is_again: bool,
}

/// A line that cannot be sent.
#[derive(Debug)]
pub struct RefusedHere {
    /// The input.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u64,
    /// Why.
    pub reason: &'static str,
    /// What of it is shown.
    pub text: String,
}

/// A line of a batch.
#[derive(Debug)]
pub struct BatchLine {
    /// Counted from 1.
    pub number: u64,
    start: usize,
    end: usize,
}

/// Lines to be sent together.
#[derive(Debug)]
pub struct Batch {
    /// Where they are from.
    pub span: Span,
    file: Arc<str>,
    /// The request's body: the lines, a newline behind each.
    pub body: Vec<u8>,
    /// The lines of the body.
    pub lines: Vec<BatchLine>,
    /// Lines that are not sent.
    pub refused_here: Vec<RefusedHere>,
    /// Blank lines.
    pub blank: u64,
    /// Torn lines.
    pub torn: u64,
    /// Whether they may be stored already.
    pub is_again: bool,
    /// When it is due, after the first event of all.
    pub due: Option<Duration>,
    /// Bytes read of all inputs by now, as they are on the disk.
    pub raw_bytes: u64,
}

impl Batch {
    /// Which lines those are, for people.
    pub fn place(&self) -> String {
        let Span { line, lines, .. } = self.span;
        format!("lines {line} to {} of {}", line + lines - 1, self.file)
    }

    /// The body from the line at this place on.
    pub fn body_from(&self, line: usize) -> &[u8] {
        self.lines.get(line).map_or(&[], |line| &self.body[line.start..])
    }

    /// The line at this place, which was refused.
    pub fn rejected<'b>(&'b self, at: usize, reason: &'b str) -> RejectedLine<'b> {
        let line = &self.lines[at];
        RejectedLine {
            file: &self.file,
            line: line.number,
            reason,
            text: String::from_utf8_lossy(&self.body[line.start..line.end]).into_owned(),
        }
    }
}

/// Why reading ends early.
#[derive(Debug)]
pub enum ReadError {
    /// What the system or the unpacking says.
    Io {
        /// The input.
        file: String,
        /// Where, in lines from 1.
        line: u64,
        /// What is wrong.
        source: io::Error,
    },
    /// The file is not what an earlier call has read.
    Changed {
        /// The input.
        file: String,
        /// The first of the lines that are not what they were.
        line: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io { file, line, source } => {
                write!(f, "cannot read {file} from line {line} on: {source}")
            }
            ReadError::Changed { file, line } => write!(
                f,
                "{file} is not what it was: from line {line} on it differs from what an earlier call has sent"
            ),
        }
    }
}

impl std::error::Error for ReadError {}

/// An input that is open.
struct Open {
    reader: Box<dyn BufRead + Send>,
    name: Arc<str>,
    /// Of the next byte, unpacked.
    offset: u64,
    /// Of the next line, from 1.
    line: u64,
}

/// Gives the batches, in order.
pub struct Source {
    inputs: Vec<Input>,
    plan: std::vec::IntoIter<Planned>,
    batch_lines: usize,
    pace: Option<Pace>,
    /// The number of the input that is open or is to be opened.
    file: usize,
    open: Option<Open>,
    /// A line that belongs to the next batch, and when it is due.
    kept: Option<(Line, Duration)>,
    raw: Arc<AtomicU64>,
    line: Vec<u8>,
}

impl Source {
    /// Reads what is planned, then what is behind it.
    pub fn new(inputs: Vec<Input>, plan: Vec<Planned>, batch_lines: usize, speed: Option<Speed>) -> Source {
        Source {
            inputs,
            plan: plan.into_iter(),
            batch_lines,
            pace: speed.map(Pace::new),
            file: 0,
            open: None,
            kept: None,
            raw: Arc::new(AtomicU64::new(0)),
            line: Vec::new(),
        }
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// When an input cannot be read, or is not what it was.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, ReadError> {
        while let Some(planned) = self.plan.next() {
            self.go_to(&planned.span)?;
            let batch = self.read(Some(&planned.span))?;
            let is_same = batch.as_ref().is_some_and(|batch| batch.span == planned.span);
            let Some(batch) = batch.filter(|_| is_same) else {
                return Err(ReadError::Changed {
                    file: self.inputs[planned.span.file].name().into(),
                    line: planned.span.line,
                });
            };
            if planned.is_sent {
                return Ok(Some(Batch {
                    is_again: planned.is_again,
                    ..batch
                }));
            }
        }
        while self.file < self.inputs.len() {
            if let Some(batch) = self.read(None)? {
                return Ok(Some(batch));
            }
            self.open = None;
            self.file += 1;
        }
        Ok(None)
    }

    /// Brings the reader to where a span begins.
    fn go_to(&mut self, span: &Span) -> Result<(), ReadError> {
        if self.file != span.file {
            (self.file, self.open) = (span.file, None);
        }
        if self.open.is_none() {
            let open = self.open_at(span.offset)?;
            self.open = Some(open);
        }
        let open = self.open.as_mut().expect("it was opened");
        let ahead = span.offset.saturating_sub(open.offset);
        let skipped = io::copy(&mut (&mut open.reader).take(ahead), &mut io::sink());
        let skipped = skipped.map_err(|source| open.failed(source))?;
        (open.offset, open.line) = (open.offset + skipped, span.line);
        Ok(())
    }

    /// Opens the input whose turn it is; a plain file at `offset`, what is packed or a pipe at its beginning.
    fn open_at(&self, offset: u64) -> Result<Open, ReadError> {
        let input = &self.inputs[self.file];
        let failed = |source| ReadError::Io {
            file: input.name().into(),
            line: 1,
            source,
        };
        let before: u64 = self.inputs[..self.file].iter().filter_map(Input::bytes).sum();
        self.raw.store(before, Ordering::Relaxed);
        let counted = |read: Box<dyn Read + Send>| Counted {
            read,
            bytes: Arc::clone(&self.raw),
        };
        let (reader, offset) = match input {
            Input::Stdin => (unpacked(counted(Box::new(io::stdin()))), 0),
            Input::File(name) => {
                let mut file = File::open(PathBuf::from(name)).map_err(failed)?;
                let mut head = [0; 4];
                let is_plain = file.metadata().map_err(failed)?.is_file() && {
                    let size = read_up_to(&mut file, &mut head).map_err(failed)?;
                    file.rewind().map_err(failed)?;
                    Packing::of(&head[..size]) == Packing::None
                };
                let offset = if is_plain { offset } else { 0 };
                if is_plain {
                    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                    self.raw.fetch_add(offset, Ordering::Relaxed);
                    let buffered = BufReader::with_capacity(CHUNK_BYTES, counted(Box::new(file)));
                    (Ok(Box::new(buffered) as Box<dyn BufRead + Send>), offset)
                } else {
                    (unpacked(counted(Box::new(file))), 0)
                }
            }
        };
        Ok(Open {
            reader: reader.map_err(failed)?,
            name: input.name().into(),
            offset,
            line: 1,
        })
    }

    /// Reads a batch of the input whose turn it is: the lines of `exactly`, or as many as belong together. `None` at the
    /// input's end.
    fn read(&mut self, exactly: Option<&Span>) -> Result<Option<Batch>, ReadError> {
        if self.open.is_none() {
            self.open = Some(self.open_at(0)?);
        }
        let open = self.open.as_mut().expect("it was opened");
        let mut batch = Batch::new(self.file, open);
        let mut first_due = None;
        loop {
            let is_full = match exactly {
                Some(span) => batch.span.bytes >= span.bytes,
                None => batch.span.lines >= self.batch_lines as u64 || batch.body.len() >= BATCH_BYTES_MAX,
            };
            if is_full {
                break;
            }
            let (line, due) = match self.kept.take() {
                Some(kept) => kept,
                None => {
                    let Some(line) = open.read_line(&mut self.line)? else {
                        break;
                    };
                    let due = self
                        .pace
                        .as_mut()
                        .map_or(Duration::ZERO, |pace| pace.due(&self.line));
                    (line, due)
                }
            };
            let first = *first_due.get_or_insert(due);
            if exactly.is_none() && due > first + GATHER {
                self.kept = Some((line, due));
                break;
            }
            batch.due = self.pace.is_some().then_some(due);
            batch.add(line, &self.line);
        }
        batch.raw_bytes = self.raw.load(Ordering::Relaxed);
        Ok((batch.span.lines > 0).then_some(batch))
    }
}

impl Batch {
    fn new(file: usize, open: &Open) -> Batch {
        Batch {
            span: Span {
                file,
                line: open.line,
                offset: open.offset,
                bytes: 0,
                crc: 0,
                events: 0,
                lines: 0,
            },
            file: Arc::clone(&open.name),
            body: Vec::new(),
            lines: Vec::new(),
            refused_here: Vec::new(),
            blank: 0,
            torn: 0,
            is_again: false,
            due: None,
            raw_bytes: 0,
        }
    }

    /// Adds a line, of which `text` is kept.
    fn add(&mut self, line: Line, text: &[u8]) {
        let span = &mut self.span;
        if span.lines == 0 {
            (span.line, span.offset) = (line.number, line.offset);
        }
        span.lines += 1;
        span.bytes += line.bytes;
        span.crc = crc32c::crc32c_append(span.crc, text);
        let mut text = text;
        if line.number == 1 {
            text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        }
        let text = text.trim_ascii();
        if text.is_empty() {
            self.blank += 1;
        } else if let Some(reason) = why_not(text, &line) {
            let shown = if line.is_cut { &text[..SHOWN_BYTES] } else { text };
            self.refused_here.push(RefusedHere {
                file: Arc::clone(&self.file),
                line: line.number,
                reason,
                text: String::from_utf8_lossy(shown).into_owned(),
            });
        } else if is_torn(text) {
            self.torn += 1;
        } else {
            let start = self.body.len();
            self.body.extend_from_slice(text);
            self.lines.push(BatchLine {
                number: line.number,
                start,
                end: self.body.len(),
            });
            self.body.push(b'\n');
            self.span.events += 1;
        }
    }
}

/// Why a line cannot be sent.
fn why_not(text: &[u8], line: &Line) -> Option<&'static str> {
    if line.is_cut {
        Some("the line is longer than 4 MiB")
    } else if text[0] == b'[' {
        Some("the line is not a JSON object")
    } else if std::str::from_utf8(text).is_err() {
        Some("the line is not UTF-8")
    } else {
        None
    }
}

/// Whether the line is marked as torn.
fn is_torn(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Marked {
        torn: bool,
    }
    TORN.find(text).is_some() && serde_json::from_slice(text).is_ok_and(|marked: Marked| marked.torn)
}

/// A line that was read.
struct Line {
    number: u64,
    offset: u64,
    /// Its length, with the newline.
    bytes: u64,
    /// Whether not all of it was kept.
    is_cut: bool,
}

impl Open {
    fn failed(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            file: self.name.to_string(),
            line: self.line,
            source,
        }
    }

    /// Reads a line into `text`, without its newline; of one that is too long the beginning. `None` at the end.
    fn read_line(&mut self, text: &mut Vec<u8>) -> Result<Option<Line>, ReadError> {
        text.clear();
        let (mut bytes, mut is_ended) = (0, false);
        while !is_ended {
            let piece = match self.reader.fill_buf() {
                Ok([]) => break,
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            };
            let newline = memchr::memchr(b'\n', piece);
            let kept = newline.unwrap_or(piece.len());
            let room = (LINE_BYTES_MAX + 1).saturating_sub(text.len());
            text.extend_from_slice(&piece[..kept.min(room)]);
            let used = newline.map_or(piece.len(), |at| at + 1);
            self.reader.consume(used);
            bytes += used as u64;
            is_ended = newline.is_some();
        }
        let line = Line {
            number: self.line,
            offset: self.offset,
            bytes,
            is_cut: text.len() > LINE_BYTES_MAX,
        };
        self.offset += bytes;
        self.line += 1;
        Ok((bytes > 0).then_some(line))
    }
}

/// How an input is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// By its first bytes; no JSON begins like that.
    fn of(head: &[u8]) -> Packing {
        if head.starts_with(GZIP) {
            Packing::Gzip
        } else if head.starts_with(ZSTD) {
            Packing::Zstd
        } else {
            Packing::None
        }
    }
}

/// A reader of what is packed in `from`.
fn unpacked(mut from: Counted) -> io::Result<Box<dyn BufRead + Send>> {
    let mut head = [0; 4];
    let size = read_up_to(&mut from, &mut head)?;
    let from = Cursor::new(head[..size].to_vec()).chain(from);
    let buffered = |read: Box<dyn Read + Send>| Box::new(BufReader::with_capacity(CHUNK_BYTES, read));
    Ok(match Packing::of(&head[..size]) {
        Packing::None => buffered(Box::new(from)),
        Packing::Gzip => buffered(Box::new(MultiGzDecoder::new(from))),
        Packing::Zstd => buffered(Box::new(zstd::Decoder::new(from)?)),
    })
}

/// Reads until `to` is full or there is no more.
fn read_up_to(from: &mut impl Read, to: &mut [u8]) -> io::Result<usize> {
    let mut size = 0;
    while size < to.len() {
        match from.read(&mut to[size..]) {
            Ok(0) => break,
            Ok(more) => size += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(size)
}

/// Counts what is read.
struct Counted {
    read: Box<dyn Read + Send>,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let size = self.read.read(to)?;
        // Read by the same thread, and shown.
        self.bytes.fetch_add(size as u64, Ordering::Relaxed);
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn inputs(file: &tempfile::NamedTempFile) -> Vec<Input> {
        vec![Input::of(file.path().to_str().unwrap())]
    }

    fn all(mut source: Source) -> Vec<Batch> {
        std::iter::from_fn(|| source.next_batch().unwrap()).collect()
    }

    fn plain(bytes: &[u8], batch_lines: usize) -> Vec<Batch> {
        all(Source::new(inputs(&file(bytes)), Vec::new(), batch_lines, None))
    }

    #[test]
    fn lines_are_batched_and_what_is_no_event_is_left_out() {
        let text = b"\xef\xbb\xbf{\"a\":1}\r\n\n{\"torn\":true   }\n{\"note\":\"torn\"}\n[1]\n\xff\n{\"b\":\"\\\"torn\\\"\"}";
        let batches = plain(text, 4);
        let bodies: Vec<_> = batches
            .iter()
            .map(|batch| String::from_utf8_lossy(&batch.body))
            .collect();
        assert_eq!(
            bodies,
            ["{\"a\":1}\n{\"note\":\"torn\"}\n", "{\"b\":\"\\\"torn\\\"\"}\n"]
        );
        assert_eq!((batches[0].blank, batches[0].torn), (1, 1));
        let refused: Vec<_> = batches[1]
            .refused_here
            .iter()
            .map(|line| (line.line, line.reason))
            .collect();
        assert_eq!(
            refused,
            [(5, "the line is not a JSON object"), (6, "the line is not UTF-8")]
        );
        let numbers: Vec<_> = batches
            .iter()
            .flat_map(|batch| batch.lines.iter().map(|line| line.number))
            .collect();
        assert_eq!(numbers, [1, 4, 7]);
        let end = batches[1].span.offset + batches[1].span.bytes;
        assert_eq!(
            (batches[1].span.line, batches[1].span.lines, end),
            (5, 3, text.len() as u64)
        );
    }

    #[test]
    fn a_line_too_long_is_refused_and_the_next_one_is_whole() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let batches = plain(&[&long[..LINE_BYTES_MAX], b"\n", &long, b"\n{}\n"].concat(), 10);
        let refused = &batches[1].refused_here;
        assert_eq!(
            (batches[0].lines.len(), refused.len(), batches[1].lines.len()),
            (1, 1, 1)
        );
        assert_eq!((refused[0].line, refused[0].text.len()), (2, SHOWN_BYTES));
    }

    #[test]
    fn packed_files_are_known_by_their_first_bytes() {
        let text = b"{\"a\":1}\n{\"a\":2}\n";
        let zstd = [
            zstd::encode_all(&text[..8], 1).unwrap(),
            zstd::encode_all(&text[8..], 1).unwrap(),
        ]
        .concat();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        for packed in [zstd, gzip.finish().unwrap(), text.to_vec()] {
            let batches = plain(&packed, 1);
            let bodies: Vec<_> = batches.iter().map(|batch| &batch.body[..]).collect();
            assert_eq!(bodies, [&text[..8], &text[8..]]);
            assert_eq!(batches[1].raw_bytes, packed.len() as u64);
        }
    }

    #[test]
    fn a_batch_is_read_again_as_it_was() {
        let text: Vec<u8> = (0..100)
            .flat_map(|at| format!("{{\"a\":{at}}}\n").into_bytes())
            .collect();
        for packed in [text.clone(), zstd::encode_all(&text[..], 1).unwrap()] {
            let file = file(&packed);
            let batches = all(Source::new(inputs(&file), Vec::new(), 7, None));
            let planned = |at: usize, is_sent| Planned {
                span: batches[at].span.clone(),
                is_sent,
                is_again: false,
            };
            // With other batches than before.
            let plan = vec![planned(3, true), planned(5, true), planned(8, false)];
            let again = all(Source::new(inputs(&file), plan, 50, None));
            let numbers: Vec<_> = again
                .iter()
                .map(|batch| (batch.span.line, batch.span.lines))
                .collect();
            assert_eq!(numbers, [(22, 7), (36, 7), (64, 37)]);
            assert_eq!(again[0].body, batches[3].body);
        }
    }

    #[test]
    fn a_file_that_changed_is_noticed() {
        let text = b"{\"a\":1}\n{\"a\":2}\n";
        let span = plain(text, 1).remove(1).span;
        for changed in [&b"{\"a\":1}\n{\"a\":3}\n"[..], b"{\"a\":1}\n", b""] {
            let plan = vec![Planned {
                span: span.clone(),
                is_sent: false,
                is_again: false,
            }];
            let changed_file = file(changed);
            let mut source = Source::new(inputs(&changed_file), plan, 1, None);
            let answer = source.next_batch();
            assert!(
                matches!(answer, Err(ReadError::Changed { line: 2, .. })),
                "{:?} of {changed:?}",
                answer.map(|batch| batch.map(|batch| batch.span))
            );
        }
    }

    #[test]
    fn at_the_recorded_pace_a_batch_is_what_is_due_together() {
        let text: Vec<u8> = [0, 50, 100, 201, 202, 1000]
            .iter()
            .flat_map(|millis| {
                format!(
                    "{{\"timestamp\":\"1970-01-01T00:00:0{}.{:03}Z\"}}\n",
                    millis / 1000,
                    millis % 1000
                )
                .into_bytes()
            })
            .collect();
        let batches = all(Source::new(
            inputs(&file(&text)),
            Vec::new(),
            100,
            Some("1x".parse().unwrap()),
        ));
        let due: Vec<_> = batches
            .iter()
            .map(|batch| (batch.lines.len(), batch.due.unwrap().as_millis()))
            .collect();
        assert_eq!(due, [(3, 100), (2, 202), (1, 1000)]);
    }
}
