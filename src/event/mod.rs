//! What an event is.
//!
//! Bytes of a request's body go in, decompressed; finished lines for the log come out, or the list of errors
//! that the client gets. This stage knows nothing of HTTP, of files or of coroutines.
//!
//! ```text
//! body ------+- plain: one pass over the bytes as they came -------------+
//!  (batch    |   | don't know                                            |
//!   cuts it) +- tape: simd-json's tape, positions in the source ---------+--> Lines
//!            |   | don't know                                            |
//!            +- slow: serde_json, the whole truth -----------------------+
//!                +--> Details
//! ```
//!
//! There are three ways and one meaning. The first two answer for valid events, in their common form and with escapes,
//! and for nothing else; the slow path is the reference, and the only one that says what is wrong. All end in the same
//! function that writes the line.
//!
//! Rules that hold for whatever is sent:
//!
//! - the line is one line, valid JSON and UTF-8, of a bounded length, its five members in a fixed order;
//! - `metadata` is the sender's own bytes, less line breaks: no number is read, no key moved;
//! - a request that is refused leaves the lines as they were;
//! - nothing recurses on the input, and what is kept between requests is bounded.
//!
//! A [`Parser`] belongs to one connection and is used by its coroutine alone; the buffers of the tape belong to the
//! thread, see `TapeReader::with`. A valid event in its usual form allocates nothing once the buffers have grown to it. No
//! function here waits for anything but the body of a batch.

mod batch;
mod bytes;
mod details;
mod line;
mod member;
mod plain;
#[cfg(test)]
mod properties;
mod slow;
mod tape;
#[cfg(test)]
mod tests;
mod time;

use std::cell::OnceCell;
use std::io::{self, BufRead};

use batch::{Batch, Found};
use bytes::is_space;
use details::Details;
use tape::TapeReader;
use time::StampText;

pub use details::DETAILS_MAX;
pub use line::{Lines, NameCount, StoredEvent, facts_of_line, origin_of_line, spelt};
pub use time::{NotATime, Timestamp};

/// Most bytes of lines that a batch may have: positions in them have 32 bits.
const BATCH_LINES_BYTES_MAX: usize = 1 << 30;

/// A mark some clients put before their text. It is skipped.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Why nothing of a body was taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The body is not UTF-8: 400, "There was an error parsing the body".
    NotUtf8,
    /// The body is not what was asked for: 422. This is the JSON array for its `detail`.
    Invalid(Vec<u8>),
    /// The lines of the batch are longer together than is allowed: 413.
    TooLarge,
    /// What is kept of the batch while it comes is more than [`Room::keep`] allows: 503.
    NoRoom,
}

/// What was not taken of a batch of which the valid events were.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Events that were not taken.
    pub count: u64,
    /// The JSON array of the first [`DETAILS_MAX`] errors in them, `[]` if there are none.
    pub detail: Vec<u8>,
}

/// Room for what has to be kept of a batch while it comes.
pub struct Room<'a> {
    /// An array, or a line that is cut off; reused.
    pub gathered: &'a mut Vec<u8>,
    /// Told how many bytes of body and lines are kept, whenever they have grown by a window of the body; whether they may
    /// be.
    pub keep: &'a mut dyn FnMut(usize) -> bool,
}

/// What is taken of a batch.
pub enum Take<'a> {
    /// All of its events or, if any is not valid, none.
    All,
    /// The valid ones.
    Valid {
        /// When the lines have at least so many bytes, they are handed on before more of the body is read, so that a long
        /// one needs no more memory than a short one.
        part_bytes: usize,
        /// Takes lines and clears them. An error of it ends the reading.
        part: &'a mut dyn FnMut(&mut Lines) -> io::Result<()>,
    },
}

/// Reads events. Keeps what the next request of a connection is likely to need again.
pub struct Parser {
    line_bytes_max: usize,
    batch_lines_bytes_max: usize,
    defaults: Defaults,
}

impl Parser {
    /// A parser whose lines have at most `line_bytes_max` bytes, the newline included.
    pub fn new(line_bytes_max: usize) -> Parser {
        Parser {
            line_bytes_max,
            batch_lines_bytes_max: BATCH_LINES_BYTES_MAX,
            defaults: Defaults::new(),
        }
    }

    /// Bounds the lines of one batch, together, to `bytes` (1 GiB at the most, which is also the default). A small event
    /// can become a long line, by the user agent of its request.
    pub fn with_batch_bound(mut self, bytes: usize) -> Parser {
        self.batch_lines_bytes_max = bytes.min(BATCH_LINES_BYTES_MAX);
        self
    }

    /// Reads a body that is one event, and appends its line.
    ///
    /// `header_agent` is the request's `User-Agent`, for an event that names none; `now` is the time of an event that
    /// names none: if not given, the clock's when the first such event is met.
    ///
    /// # Errors
    ///
    /// When the body is not a valid event. `lines` is then as it was.
    pub fn single(
        &mut self,
        body: &[u8],
        header_agent: Option<&[u8]>,
        now: impl Into<Option<Timestamp>>,
        lines: &mut Lines,
    ) -> Result<(), Rejection> {
        self.defaults.set(header_agent, now.into());
        match push_known(body, &self.defaults, self.line_bytes_max, lines) {
            true => Ok(()),
            false => self.single_slow(body, lines),
        }
    }

    /// The reference for [`Parser::single`], the defaults already set.
    #[cold]
    fn single_slow(&mut self, body: &[u8], lines: &mut Lines) -> Result<(), Rejection> {
        if body.is_empty() {
            return Err(batch::empty_body());
        }
        let body = without_mark(body);
        let text = std::str::from_utf8(body).map_err(|_| Rejection::NotUtf8)?;
        let mut details = Details::default();
        match slow::event(
            text,
            None,
            &self.defaults,
            self.line_bytes_max,
            lines,
            &mut details,
        ) {
            true => Ok(()),
            false => Err(Rejection::Invalid(details.finish())),
        }
    }

    /// Reads a body of many events: a JSON array when its first byte that is not white space is `[`, else
    /// one event a line, where lines of white space are skipped. Appends their lines, in order.
    ///
    /// `header_agent` and `now` are as in [`Parser::single`].
    ///
    /// # Errors
    ///
    /// The outer one is the body's own, or that of [`Take::Valid`]'s function. The inner: when any event is not valid and
    /// all are to be, the body as a whole is not usable (empty, not UTF-8, or an array that is not JSON), or its lines
    /// are longer together than is allowed. What is left of the body is not read then. After either `lines` is as it was,
    /// less what has been handed on.
    pub fn batch(
        &mut self,
        mut body: impl BufRead,
        (header_agent, now): (Option<&[u8]>, Option<Timestamp>),
        take: Take<'_>,
        room: Room<'_>,
        lines: &mut Lines,
    ) -> io::Result<Result<Rejected, Rejection>> {
        self.defaults.set(header_agent, now);
        let mark = lines.begin();
        let partial = matches!(take, Take::Valid { .. });
        let mut batch = Batch {
            defaults: &self.defaults,
            line_bytes_max: self.line_bytes_max,
            lines_bytes_max: mark.bytes() + self.batch_lines_bytes_max,
            lines,
            mark,
            gathered_bytes: 0,
            keep: room.keep,
            found: Found::default(),
            take,
        };
        let read = batch::read(&mut body, room.gathered, &mut batch);
        let mark = batch.mark;
        let Found {
            rejected: count,
            details,
            ..
        } = batch.found;
        let refused = match read {
            Err(error) => Err(error),
            Ok(Err(rejection)) => Ok(Err(rejection)),
            Ok(Ok(())) if count > 0 && !partial => Ok(Err(Rejection::Invalid(details.finish()))),
            Ok(Ok(())) => {
                lines.commit(mark);
                // The array of no errors is not allocated for a caller that does not look at it.
                let detail = if partial { details.finish() } else { Vec::new() };
                return Ok(Ok(Rejected { count, detail }));
            }
        };
        lines.roll_back(mark);
        refused
    }
}

/// Appends the line of the event that `text` is, if the plain path or the tape's knows it. `false` means don't know; then
/// nothing is changed.
#[inline]
fn push_known(text: &[u8], defaults: &Defaults, line_bytes_max: usize, lines: &mut Lines) -> bool {
    let at = text.iter().position(|byte| !is_space(*byte)).unwrap_or(0);
    match plain::event::<false>(text, at, defaults) {
        Some((event, end)) if text[end..].iter().all(|byte| is_space(*byte)) => {
            lines.push(&event, line_bytes_max).is_ok()
        }
        Some(_) => false,
        None => TapeReader::with(|reader| reader.single(text, defaults, line_bytes_max, lines)),
    }
}

fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// What an event gets that does not say: the request's user agent, and the time.
///
/// Both are kept rendered. The header of a connection hardly ever changes, and all events of a batch have one time.
struct Defaults {
    /// The header that `user_agent` is the rendering of.
    header: Option<Vec<u8>>,
    user_agent: Vec<u8>,
    now_at: Option<Timestamp>,
    now: OnceCell<StampText>,
}

impl Defaults {
    fn new() -> Defaults {
        Defaults {
            header: None,
            user_agent: b"null".to_vec(),
            now_at: None,
            now: OnceCell::new(),
        }
    }

    #[inline]
    fn set(&mut self, header: Option<&[u8]>, now: Option<Timestamp>) {
        if self.header.as_deref() != header {
            self.set_header(header);
        }
        self.now_at = now;
        self.now = OnceCell::new();
    }

    /// Renders a header: its bytes are Latin-1. An empty one says nothing.
    #[cold]
    fn set_header(&mut self, header: Option<&[u8]>) {
        self.header = header.map(<[u8]>::to_vec);
        self.user_agent.clear();
        match header {
            None | Some([]) => self.user_agent.extend_from_slice(b"null"),
            Some(latin_1) => {
                let text: String = latin_1.iter().map(|byte| char::from(*byte)).collect();
                line::write_string(&mut self.user_agent, &text);
            }
        }
    }

    /// The JSON of the user agent: a string or `null`.
    #[inline]
    fn user_agent(&self) -> &[u8] {
        &self.user_agent
    }

    #[inline]
    fn now(&self) -> StampText {
        *self
            .now
            .get_or_init(|| StampText::new(self.now_at.unwrap_or_else(Timestamp::now)))
    }
}
