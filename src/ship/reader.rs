//! The log cut into messages: one for each event, or whole lines that follow each other packed into frames.
//!
//! Lines that are no events (what a power cut has torn) are left out, and so is nothing else. A frame is never held back for more:
//! it ends at its bound, where lines do not follow each other (another file, a line left out), or at the log's end.
//!
//! Where a message ends is thereby settled by where it begins, as what is in the log stays as it is, but for a frame that ends at the
//! log's end: read later it would be a longer one. Such a frame is *open*; [`super::publish`] says why that matters.

use std::path::Path;

use super::names::{Address, Span};
use crate::event::StoredEvent;
use crate::log::cursor::{Cursor, CursorError, Notice, Position, Start, Step};

/// Bytes of lines in a frame: some thousand events. The default bound of NATS for a message is 1 MiB.
pub const FRAME_BYTES: usize = 256 << 10;

/// What is sent at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub span: Span,
    /// A line without its newline, or lines with theirs.
    pub payload: Vec<u8>,
    pub events: u64,
    /// It is a frame that ends where the log did, and might have been a longer one.
    pub is_open: bool,
}

/// What there is to do next.
#[derive(Debug)]
pub enum Found {
    Message(Message),
    /// Lines that cannot be shipped, as they are not there any more.
    Missing(Notice),
    /// The log has no more now.
    End,
}

/// Reads a log from some place on.
pub struct Reader {
    cursor: Cursor,
    address: Address,
    life: u64,
    is_packed: bool,
    /// Where the last message ended.
    after: Position,
    frame: Frame,
}

#[derive(Default)]
struct Frame {
    lines: Vec<u8>,
    events: u64,
    /// Where they begin and end; without lines nothing.
    span: Option<(Position, Position)>,
}

impl Reader {
    /// Reads from `after` on.
    ///
    /// # Errors
    /// What reading says, and if no line begins there.
    pub fn open(
        log: &Path,
        address: Address,
        (life, after): (u64, Position),
        is_packed: bool,
    ) -> Result<Reader, CursorError> {
        // From the very beginning there is nothing to miss: what was removed before was never to be shipped.
        let start = match after == Position::FIRST {
            true => Start::Beginning,
            false => Start::At(after),
        };
        Ok(Reader {
            cursor: Cursor::open(log, start)?,
            address,
            life,
            is_packed,
            after,
            frame: Frame::default(),
        })
    }

    /// What is next.
    ///
    /// # Errors
    /// What reading says.
    pub fn next(&mut self) -> Result<Found, CursorError> {
        loop {
            let line = match self.cursor.step()? {
                Step::Line(line) => line,
                Step::Notice(notice) => return Ok(Found::Missing(notice)),
                Step::End => return Ok(self.cut_open().map_or(Found::End, Found::Message)),
            };
            let Some(event) = StoredEvent::of_line(line.bytes) else {
                continue;
            };
            if !self.is_packed {
                let span = Span {
                    life: self.life,
                    after: self.after,
                    from: line.at,
                    next: line.next,
                };
                self.after = line.next;
                return Ok(Found::Message(Message {
                    subject: self.address.subject_of(&event.name),
                    span,
                    payload: line.bytes.to_vec(),
                    events: 1,
                    is_open: false,
                }));
            }
            let follows = self.frame.span.is_none_or(|(_, end)| end == line.at);
            let fits = self.frame.lines.len() + line.bytes.len() < FRAME_BYTES;
            let cut = match follows && fits {
                true => None,
                false => cut(&mut self.frame, &self.address, self.life, &mut self.after),
            };
            self.frame.add(line.at, line.next, line.bytes);
            if let Some(message) = cut {
                return Ok(Found::Message(message));
            }
        }
    }

    fn cut_open(&mut self) -> Option<Message> {
        let message = cut(&mut self.frame, &self.address, self.life, &mut self.after)?;
        Some(Message {
            is_open: true,
            ..message
        })
    }
}

impl Frame {
    fn add(&mut self, at: Position, next: Position, line: &[u8]) {
        if self.lines.capacity() == 0 {
            self.lines.reserve(FRAME_BYTES.min(16 << 10));
        }
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        self.events += 1;
        self.span = Some((self.span.map_or(at, |(from, _)| from), next));
    }
}

/// Ends a frame, if there is anything in it.
fn cut(frame: &mut Frame, address: &Address, life: u64, after: &mut Position) -> Option<Message> {
    let Frame { lines, events, span } = std::mem::take(frame);
    let (from, next) = span?;
    let span = Span {
        life,
        after: std::mem::replace(after, next),
        from,
        next,
    };
    Some(Message {
        subject: address.frames(),
        span,
        payload: lines,
        events,
        is_open: false,
    })
}

/// Whether a log has the lines of a message where the message says that they lie. Of a file that has been removed nobody can
/// tell: it is believed.
///
/// # Errors
/// What reading says.
pub fn has(log: &Path, span: &Span, payload: &[u8]) -> Result<bool, CursorError> {
    let mut cursor = match Cursor::open(log, Start::At(span.from)) {
        Ok(cursor) => cursor,
        Err(CursorError::NoLine(_) | CursorError::Beyond { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let lines = payload.strip_suffix(b"\n").unwrap_or(payload);
    for expected in lines.split(|byte| *byte == b'\n') {
        match cursor.step()? {
            Step::Line(line) if line.bytes == expected => {}
            Step::Notice(Notice::Gap { .. }) => return Ok(true),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(name: &str) -> String {
        format!(
            r#"{{"visitor_id":"visitor","event":"{name}","timestamp":"2026-11-22T21:15:30Z","metadata":{{}},"user_agent":null}}"#
        )
    }

    fn place(number: u64, offset: usize) -> Position {
        Position {
            number,
            offset: offset as u64,
        }
    }

    /// A log of a sealed file and a live one, with a torn line in it.
    fn log(folder: &Path) -> (std::path::PathBuf, usize) {
        let (one, two, torn) = (line("one"), line("two"), r#"{"event":"x","torn":true}"#);
        assert_eq!(one.len(), two.len());
        let sealed = format!("{one}\n{torn}\n{two}\n{two}\n");
        fs::write(folder.join("metrics-20261122T211530Z-000001.jsonl"), sealed).unwrap();
        let live = folder.join("metrics.jsonl");
        fs::write(&live, format!("{one}\n")).unwrap();
        (live, one.len() + 1)
    }

    fn messages(log: &Path, after: Position, is_packed: bool) -> Vec<Message> {
        let address = Address {
            fleet: "metrics".into(),
            node: "a".into(),
        };
        let mut reader = Reader::open(log, address, (9, after), is_packed).unwrap();
        let mut messages = Vec::new();
        loop {
            match reader.next().unwrap() {
                Found::Message(message) => messages.push(message),
                Found::Missing(notice) => panic!("{notice}"),
                Found::End => return messages,
            }
        }
    }

    #[test]
    fn each_event_is_a_message_and_torn_lines_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let (log, length) = log(folder.path());
        let found = messages(&log, Position::FIRST, false);
        let subjects: Vec<_> = found.iter().map(|message| &*message.subject).collect();
        assert_eq!(
            subjects,
            ["metrics.a.one", "metrics.a.two", "metrics.a.two", "metrics.a.one"]
        );
        let torn = 26;
        let spans = [
            (place(1, 0), place(1, 0), place(1, length)),
            (
                place(1, length),
                place(1, length + torn),
                place(1, 2 * length + torn),
            ),
            (
                place(1, 2 * length + torn),
                place(1, 2 * length + torn),
                place(1, 3 * length + torn),
            ),
            (place(1, 3 * length + torn), place(2, 0), place(2, length)),
        ];
        for (message, (after, from, next)) in found.iter().zip(spans) {
            let span = Span {
                life: 9,
                after,
                from,
                next,
            };
            assert_eq!((message.span, message.events), (span, 1));
            assert!(has(&log, &message.span, &message.payload).unwrap());
        }
        assert_eq!(messages(&log, spans[1].2, false), found[2..]);
    }

    #[test]
    fn frames_hold_lines_that_follow_each_other_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (log, length) = log(folder.path());
        let found = messages(&log, Position::FIRST, true);
        let shapes: Vec<_> = found
            .iter()
            .map(|message| (message.events, message.payload.len(), message.span.from))
            .collect();
        assert_eq!(
            shapes,
            [
                (1, length, place(1, 0)),
                (2, 2 * length, place(1, length + 26)),
                (1, length, place(2, 0))
            ]
        );
        let are_open: Vec<_> = found.iter().map(|message| message.is_open).collect();
        assert_eq!(
            are_open,
            [false, false, true],
            "only the last one ends with the log"
        );
        assert!(
            found
                .windows(2)
                .all(|pair| pair[1].span.after == pair[0].span.next)
        );
        assert!(
            found
                .iter()
                .all(|message| has(&log, &message.span, &message.payload).unwrap())
        );
        assert!(found.iter().all(|message| message.subject == "metrics.a._frame"));
    }

    #[test]
    fn a_frame_is_no_longer_than_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("metrics.jsonl");
        let line = line("view");
        let count = 3 * FRAME_BYTES / line.len();
        fs::write(&log, format!("{line}\n").repeat(count)).unwrap();
        let found = messages(&log, Position::FIRST, true);
        assert!(found.len() > 2);
        assert!(found.iter().all(|message| message.payload.len() <= FRAME_BYTES));
        // Read once more when there is more, a frame that was not open is the same.
        fs::write(&log, format!("{line}\n").repeat(2 * count)).unwrap();
        let more = messages(&log, Position::FIRST, true);
        let closed = found.iter().filter(|message| !message.is_open).count();
        assert_eq!(closed, found.len() - 1);
        assert_eq!(more[..closed], found[..closed]);
        assert_ne!(more[closed], found[closed]);
        assert_eq!(
            found.iter().map(|message| message.events).sum::<u64>(),
            count as u64
        );
    }

    #[test]
    fn another_log_does_not_have_the_lines() {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = log(folder.path());
        let found = messages(&log, Position::FIRST, true);
        let Message { span, payload, .. } = &found[1];
        assert!(!has(&log, span, &payload[1..]).unwrap());
        let beyond = Span {
            from: place(9, 0),
            ..*span
        };
        assert!(!has(&log, &beyond, payload).unwrap());
        let within = Span {
            from: place(1, 3),
            ..*span
        };
        assert!(!has(&log, &within, payload).unwrap());
        fs::write(&log, "").unwrap();
        fs::remove_file(folder.path().join("metrics-20261122T211530Z-000001.jsonl")).unwrap();
        fs::write(folder.path().join("metrics-20261122T211530Z-000007.jsonl"), "").unwrap();
        assert!(has(&log, span, payload).unwrap(), "its file has gone");
    }
}
