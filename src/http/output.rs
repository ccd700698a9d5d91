//! Answers: rendered one after the other into a buffer that leaves with one write.
//!
//! Each request has one answer: written at once, owed until the burst is settled, or streamed. The connection
//! opens a turn for each request and closes it after the call; what the answer needs to know of its request
//! (keep-alive, version, HEAD) is the turn's, so that a service only says what it answers.

use std::fmt;
use std::ops::Range;

use super::Service;
use super::date::{DATE_BYTES, Date};
use super::labels::{Answered, HeaderLines, Ids, Labels, REQUEST_ID};
use super::status::{is_bodiless, reason};
use super::stream::{PendingStream, Produce};
use super::traffic::{Counts, KINDS_MAX, REFUSALS_MAX};

/// Content type of an answer that says nothing else.
pub const JSON: &str = "application/json";

const DATE_HEADER: &[u8] = b"Date: ";
/// No browser shall guess that an answer is something else than it says.
const NO_SNIFFING: &[u8] = b"X-Content-Type-Options: nosniff\r\n";
/// Most of an idle connection's output buffer that is kept, in bytes.
const IDLE_BYTES_MAX: usize = 64 * 1024;
/// Most reports of answers for which an idle connection keeps room; a burst has more.
const IDLE_ANSWERED_MAX: usize = 16;

/// What an answer has to know of its request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// The connection ends after this answer.
    pub(super) close: bool,
    pub(super) is_http10: bool,
    /// The request was a HEAD: the answer describes a body and has none.
    pub(super) is_head: bool,
}

impl Turn {
    fn connection_header(self) -> &'static [u8] {
        match (self.close, self.is_http10) {
            (true, _) => b"Connection: close\r\n",
            (false, true) => b"Connection: keep-alive\r\n",
            (false, false) => b"",
        }
    }
}

/// What has become of the current turn.
#[derive(Debug)]
enum Answer {
    Missing,
    /// In the buffer; its `Connection` header, which may be empty, stands here.
    Written {
        connection: Range<usize>,
    },
    Owed,
    Streamed,
}

/// A place in the output that `Output::fill` fills later.
#[derive(Debug)]
#[must_use = "an answer that stays owed becomes a 500"]
pub struct OwedSlot {
    index: usize,
}

#[derive(Debug)]
struct Owed {
    /// Where in the buffer the answer belongs.
    at: usize,
    turn: Turn,
    labels: Labels,
}

/// The answers of a burst, in the order of their requests.
pub struct Output {
    /// What is ready to leave. While owed answers are pending it has gaps and may not leave.
    bytes: Vec<u8>,
    owed: Vec<Owed>,
    /// While settling, the former `bytes`; they move back behind each answer that is filled in.
    gapped: Vec<u8>,
    /// How much of `gapped` has moved, and how many of `owed` are filled.
    gapped_moved: usize,
    owed_filled: usize,
    is_settling: bool,
    turn: Turn,
    answer: Answer,
    /// Where the current turn's answer begins, and how many answers were owed before it.
    turn_at: usize,
    turn_owed: usize,
    stream: Option<PendingStream>,
    date: Date,
    /// What the current turn's answer carries beside what it says, and how many turns there were.
    labels: Labels,
    turns: u64,
    /// The labels of all turns of the burst.
    label_bytes: Vec<u8>,
    ids: Ids,
    /// Somebody wants to know of every answer: what is to be told, in any order, and of the streamed one.
    is_watched: bool,
    answered: Vec<Answered>,
    stream_answered: Option<Answered>,
    counts: Counts,
}

impl Output {
    pub(super) fn new(counts: Counts) -> Self {
        Self {
            bytes: Vec::new(),
            owed: Vec::new(),
            gapped: Vec::new(),
            gapped_moved: 0,
            owed_filled: 0,
            is_settling: false,
            turn: Turn::default(),
            answer: Answer::Missing,
            turn_at: 0,
            turn_owed: 0,
            stream: None,
            date: Date::now(),
            labels: Labels::default(),
            turns: 0,
            label_bytes: Vec::new(),
            ids: Ids::new(),
            is_watched: false,
            answered: Vec::new(),
            stream_answered: None,
            counts,
        }
    }

    /// Adds headers to the answer of this request, whatever it will be. To be called before it is given or owed.
    pub fn add_headers(&mut self, lines: &HeaderLines) {
        self.expect_no_answer();
        self.label_bytes.extend_from_slice(lines.bytes());
        self.labels.lines.1 = self.label_bytes.len();
    }

    /// Adds a header to the answer of this request, as `add_headers` does.
    pub fn add_header(&mut self, name: &str, value: &str) {
        self.expect_no_answer();
        push_header(&mut self.label_bytes, name, value);
        self.labels.lines.1 = self.label_bytes.len();
    }

    /// The id that the request brought: its answer carries it. To be called once, as `add_header`.
    pub fn set_request_id(&mut self, id: &str) {
        self.add_header(REQUEST_ID, id);
        let end = self.label_bytes.len() - b"\r\n".len();
        self.labels.id = (end - id.len(), end);
    }

    /// The kind of this request, below [`KINDS_MAX`]: its answer is counted there. To be called before it is given or owed.
    pub fn set_kind(&mut self, kind: u8) {
        assert!(
            usize::from(kind) < KINDS_MAX,
            "there is no room to count this kind"
        );
        self.labels.kind = kind;
    }

    /// Counts a refusal, whose reason is below [`REFUSALS_MAX`].
    pub fn count_refusal(&mut self, reason: u8) {
        assert!(
            usize::from(reason) < REFUSALS_MAX,
            "there is no room to count this reason"
        );
        self.counts.refused(reason);
    }

    /// The report of this request's answer is waited for.
    pub fn track(&mut self) {
        self.labels.is_tracked = true;
    }

    /// Answers with a JSON body. `Content-Length`, `Content-Type`, `Date` and `Connection` are added.
    pub fn json(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        self.answer(status, JSON, headers, body);
    }

    /// Answers with `{"detail":"<sentence>"}`, the shape of every error but those of the data.
    pub fn detail(&mut self, status: u16, headers: &[(&str, &str)], sentence: &str) {
        self.json(status, headers, &detail_body(sentence));
    }

    /// Answers with a body of any type.
    pub fn answer(&mut self, status: u16, content_type: &str, headers: &[(&str, &str)], body: &[u8]) {
        self.expect_no_answer();
        let head = HeadFields {
            status,
            content_type: Some(content_type),
            length: Some(body.len()),
            headers,
        };
        let at = self.bytes.len();
        let connection = self.write_head(&head);
        if !self.turn.is_head && !is_bodiless(status) {
            self.bytes.extend_from_slice(body);
        }
        self.answer = Answer::Written { connection };
        self.note(status, at);
    }

    /// Answers without a body.
    pub fn head_only(&mut self, status: u16, headers: &[(&str, &str)]) {
        self.expect_no_answer();
        let at = self.bytes.len();
        let connection = self.write_head(&HeadFields {
            status,
            content_type: None,
            length: Some(0),
            headers,
        });
        self.answer = Answer::Written { connection };
        self.note(status, at);
    }

    /// Answers with a response that was rendered before: one copy, and the date put in.
    pub fn prepared(&mut self, prepared: &Prepared) {
        self.expect_no_answer();
        let at = self.bytes.len();
        let connection_at = at + prepared.connection_at;
        let has_labels = self.labels.lines.0 < self.labels.lines.1 || self.needs_id(prepared.status);
        let Turn {
            close,
            is_http10,
            is_head,
        } = self.turn;
        let connection = if close || is_http10 || is_head || has_labels {
            self.bytes
                .extend_from_slice(&prepared.bytes[..prepared.connection_at]);
            self.write_labels(prepared.status);
            let connection_at = self.bytes.len();
            self.bytes.extend_from_slice(self.turn.connection_header());
            let connection = connection_at..self.bytes.len();
            let end = if is_head {
                prepared.body_at
            } else {
                prepared.bytes.len()
            };
            self.bytes
                .extend_from_slice(&prepared.bytes[prepared.connection_at..end]);
            connection
        } else {
            self.bytes.extend_from_slice(&prepared.bytes);
            connection_at..connection_at
        };
        self.bytes[at + prepared.date_at..][..DATE_BYTES].copy_from_slice(self.date.text());
        self.answer = Answer::Written { connection };
        self.note(prepared.status, at);
    }

    /// Answers with a body that `produce` writes piece by piece. It runs when everything before it has left,
    /// in the connection's coroutine; a slow peer slows it down. An error or a panic of it cuts the answer
    /// short and ends the connection, so that the peer sees it is incomplete. Not for owed answers.
    pub fn stream(
        &mut self,
        status: u16,
        content_type: &str,
        headers: &[(&str, &str)],
        produce: Box<Produce>,
    ) {
        assert!(!self.is_settling, "an owed answer cannot be streamed");
        self.expect_no_answer();
        // The end of the body is told by its coding, which HTTP/1.0 does not know: there it is the end of
        // the connection.
        self.turn.close |= self.turn.is_http10;
        let at = self.bytes.len();
        let mut fields = HeadFields {
            status,
            content_type: Some(content_type),
            length: None,
            headers,
        };
        let chunked = [("Transfer-Encoding", "chunked")];
        let with_coding: Vec<_>;
        if !self.turn.is_http10 {
            with_coding = chunked.iter().chain(headers).copied().collect();
            fields.headers = &with_coding;
        }
        let connection = self.write_head(&fields);
        let connection = connection.start - at..connection.end - at;
        let head = self.bytes.split_off(at);
        self.stream = Some(PendingStream {
            head,
            connection,
            turn: self.turn,
            produce,
        });
        self.answer = Answer::Streamed;
        self.counts.answered(self.labels.kind, status);
        if self.is_watched {
            self.stream_answered = Some(self.answered(status, 0));
        }
    }

    /// Puts the answer off until `Service::settle`, which hands it in with `fill`.
    pub fn owe(&mut self) -> OwedSlot {
        assert!(!self.is_settling, "settling is when answers are paid");
        self.expect_no_answer();
        self.owed.push(Owed {
            at: self.bytes.len(),
            turn: self.turn,
            labels: self.labels,
        });
        self.answer = Answer::Owed;
        OwedSlot {
            index: self.owed.len() - 1,
        }
    }

    /// Hands in an owed answer: `answer` answers as it would have at once. Only within `Service::settle`, and
    /// in the order of the requests; a slot that is passed over or never filled becomes a 500.
    pub fn fill(&mut self, slot: OwedSlot, answer: impl FnOnce(&mut Self)) {
        assert!(self.is_settling, "owed answers are handed in while settling");
        assert!(
            slot.index >= self.owed_filled,
            "owed answers are handed in in the order of their requests"
        );
        while self.owed_filled < slot.index {
            self.fill_next(|_| {});
        }
        self.fill_next(answer);
    }

    /// Ends the connection after this request; to be called before its answer is given or owed.
    pub fn close(&mut self) {
        assert!(
            !self.is_settling,
            "what follows an owed answer is already under way"
        );
        self.expect_no_answer();
        self.turn.close = true;
    }

    fn fill_next(&mut self, answer: impl FnOnce(&mut Self)) {
        let Owed { at, turn, labels } = self.owed[self.owed_filled];
        self.owed_filled += 1;
        self.move_gapped(at);
        self.turn = turn;
        self.labels = labels;
        self.answer = Answer::Missing;
        answer(self);
        self.answer_for_the_silent();
    }

    fn move_gapped(&mut self, to: usize) {
        self.bytes.extend_from_slice(&self.gapped[self.gapped_moved..to]);
        self.gapped_moved = to;
    }

    fn answer_for_the_silent(&mut self) {
        if matches!(self.answer, Answer::Missing) {
            tracing::error!("a request was left without an answer");
            self.detail(500, &[], "Internal server error.");
        }
    }

    fn expect_no_answer(&self) {
        assert!(matches!(self.answer, Answer::Missing), "a request has one answer");
    }

    /// Writes a head and tells where its `Connection` header stands.
    fn write_head(&mut self, head: &HeadFields<'_>) -> Range<usize> {
        head.write(&mut self.bytes);
        self.bytes.extend_from_slice(DATE_HEADER);
        self.bytes.extend_from_slice(self.date.text());
        self.bytes.extend_from_slice(b"\r\n");
        self.write_labels(head.status);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(self.turn.connection_header());
        let connection = at..self.bytes.len();
        self.bytes.extend_from_slice(b"\r\n");
        connection
    }

    /// Whether an answer of this status gets an id that is made here.
    fn needs_id(&self, status: u16) -> bool {
        !self.labels.has_id() && (self.is_watched || !(200..300).contains(&status))
    }

    fn write_labels(&mut self, status: u16) {
        let (begin, end) = self.labels.lines;
        self.bytes.extend_from_slice(&self.label_bytes[begin..end]);
        if self.needs_id(status) {
            self.bytes.extend_from_slice(REQUEST_ID.as_bytes());
            self.bytes.extend_from_slice(b": ");
            self.ids.push(self.labels.number, &mut self.bytes);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    /// Counts the answer that was written from `at` on, and notes it if somebody wants to know.
    fn note(&mut self, status: u16, at: usize) {
        self.counts.answered(self.labels.kind, status);
        if self.is_watched {
            let answered = self.answered(status, self.bytes.len() - at);
            self.answered.push(answered);
        }
    }

    fn answered(&self, status: u16, bytes: usize) -> Answered {
        let mut id = Vec::new();
        if self.labels.has_id() {
            id.extend_from_slice(&self.label_bytes[self.labels.id.0..self.labels.id.1]);
        } else {
            self.ids.push(self.labels.number, &mut id);
        }
        Answered {
            request_id: String::from_utf8(id).expect("an id was text"),
            status,
            bytes: bytes as u64,
            is_tracked: self.labels.is_tracked,
            number: self.labels.number,
        }
    }
}

/// The connection's side.
impl Output {
    /// Brings the `Date` header up to date.
    pub(super) fn refresh_date(&mut self) {
        self.date.refresh();
    }

    pub(super) fn begin_turn(&mut self, turn: Turn) {
        self.turn = turn;
        self.turn_at = self.bytes.len();
        self.turn_owed = self.owed.len();
        self.answer = Answer::Missing;
        self.turns += 1;
        let at = self.label_bytes.len();
        self.labels = Labels {
            number: self.turns,
            lines: (at, at),
            ..Labels::default()
        };
    }

    /// Adds the answers so far to the counts of the server.
    pub(super) fn fold(&mut self) {
        self.counts.fold();
    }

    /// From now on every answer is noted, for `report`.
    pub(super) fn watch(&mut self) {
        self.is_watched = true;
    }

    /// Tells the service of the answers that have left, in the order of their requests.
    pub(super) fn report(&mut self, service: &mut impl Service) {
        if self.answered.is_empty() {
            return;
        }
        // Those that were owed are noted behind those that were not.
        self.answered.sort_unstable_by_key(|answered| answered.number);
        for answered in self.answered.drain(..) {
            service.answered(answered);
        }
    }

    /// The report of the only answer, for who has no service to tell.
    pub(super) fn take_report(&mut self) -> Option<Answered> {
        self.answered.pop()
    }

    /// Tells the service of the answer that has been streamed.
    pub(super) fn report_stream(&mut self, bytes: u64, service: &mut impl Service) {
        if let Some(answered) = self.stream_answered.take() {
            service.answered(Answered { bytes, ..answered });
        }
    }

    /// Ends the turn and tells whether the connection ends with it.
    pub(super) fn end_turn(&mut self) -> bool {
        self.answer_for_the_silent();
        self.turn.close
    }

    /// Marks the current turn's answer, which is complete but has not left, as the connection's last.
    pub(super) fn close_turn(&mut self) {
        if std::mem::replace(&mut self.turn.close, true) {
            return;
        }
        let close = self.turn.connection_header();
        match &self.answer {
            Answer::Written { connection } => {
                self.bytes.splice(connection.clone(), close.iter().copied());
                if let Some(answered) = self.answered.last_mut() {
                    answered.bytes = answered.bytes + close.len() as u64 - connection.len() as u64;
                }
            }
            Answer::Owed => {
                self.owed
                    .last_mut()
                    .expect("this turn's answer is owed")
                    .turn
                    .close = true
            }
            Answer::Streamed => {
                let stream = self.stream.as_mut().expect("this turn's answer is streamed");
                stream
                    .head
                    .splice(stream.connection.clone(), close.iter().copied());
                stream.turn.close = true;
            }
            Answer::Missing => {}
        }
    }

    /// Turns the current turn, in which the service panicked, into a 500 that ends the connection. False when
    /// earlier answers of the burst stand before it: they may not leave unsettled, and nobody can settle them.
    pub(super) fn fail_turn(&mut self) -> bool {
        if self.turn_at > 0 || self.turn_owed > 0 {
            return false;
        }
        self.owed.clear();
        self.bytes.clear();
        self.stream = None;
        self.answered.clear();
        if matches!(self.answer, Answer::Written { .. } | Answer::Streamed) {
            self.counts.take_back();
        }
        self.answer = Answer::Missing;
        self.turn.close = true;
        self.detail(500, &[], "Internal server error.");
        true
    }

    pub(super) fn begin_settling(&mut self) {
        self.is_settling = true;
        if !self.owed.is_empty() {
            std::mem::swap(&mut self.bytes, &mut self.gapped);
        }
    }

    pub(super) fn end_settling(&mut self) {
        if !self.owed.is_empty() {
            while self.owed_filled < self.owed.len() {
                self.fill_next(|_| {});
            }
            self.move_gapped(self.gapped.len());
            self.gapped.clear();
            self.gapped_moved = 0;
            self.owed.clear();
            self.owed_filled = 0;
        }
        self.is_settling = false;
    }

    /// What may leave: everything, once settled.
    pub(super) fn ready(&self) -> &[u8] {
        debug_assert!(
            self.owed.is_empty() && !self.is_settling,
            "unsettled answers may not leave"
        );
        &self.bytes
    }

    /// Bytes waiting to leave.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.label_bytes.clear();
    }

    /// Whether an answer waits that is to be streamed: nothing may be answered before it has left.
    pub(super) fn has_stream(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn take_stream(&mut self) -> Option<PendingStream> {
        self.stream.take()
    }

    /// Gives back memory that a connection should not hold between bursts.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.bytes, &mut self.gapped, &mut self.label_bytes] {
            if buffer.capacity() > IDLE_BYTES_MAX {
                debug_assert!(buffer.is_empty(), "an idle connection has nothing to say");
                *buffer = Vec::new();
            }
        }
        if self.answered.capacity() > IDLE_ANSWERED_MAX {
            self.answered = Vec::new();
        }
    }

    /// Gives back all memory: the connection is at rest.
    pub(super) fn release(&mut self) {
        debug_assert!(
            self.bytes.is_empty() && self.gapped.is_empty(),
            "who rests has nothing to say"
        );
        (self.bytes, self.gapped, self.owed) = Default::default();
        (self.label_bytes, self.answered) = Default::default();
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Output")
            .field("bytes", &self.bytes.len())
            .field("owed", &self.owed.len())
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

/// A response rendered once and sent many times.
#[derive(Clone, Debug)]
pub struct Prepared {
    status: u16,
    bytes: Vec<u8>,
    /// Where the date stands (blanks here), where a `Connection` header goes, and where the body begins.
    date_at: usize,
    connection_at: usize,
    body_at: usize,
}

impl Prepared {
    /// Renders a response with a JSON body.
    pub fn json(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        Self::new(status, JSON, headers, body)
    }

    /// Renders a response with a body of any type.
    pub fn new(status: u16, content_type: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        assert!(!is_bodiless(status), "a prepared response has a body");
        let mut bytes = Vec::new();
        HeadFields {
            status,
            content_type: Some(content_type),
            length: Some(body.len()),
            headers,
        }
        .write(&mut bytes);
        bytes.extend_from_slice(DATE_HEADER);
        let date_at = bytes.len();
        bytes.extend_from_slice(&[b' '; DATE_BYTES]);
        bytes.extend_from_slice(b"\r\n");
        let connection_at = bytes.len();
        bytes.extend_from_slice(b"\r\n");
        let body_at = bytes.len();
        bytes.extend_from_slice(body);
        Self {
            status,
            bytes,
            date_at,
            connection_at,
            body_at,
        }
    }
}

/// Everything in a head but `Date` and `Connection`, which come last.
struct HeadFields<'a> {
    status: u16,
    content_type: Option<&'a str>,
    length: Option<usize>,
    headers: &'a [(&'a str, &'a str)],
}

impl HeadFields<'_> {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(to, u64::from(self.status));
        to.push(b' ');
        to.extend_from_slice(reason(self.status).as_bytes());
        to.extend_from_slice(b"\r\n");
        to.extend_from_slice(NO_SNIFFING);
        if !is_bodiless(self.status) {
            if let Some(content_type) = self.content_type {
                push_header(to, "Content-Type", content_type);
            }
            if let Some(length) = self.length {
                to.extend_from_slice(b"Content-Length: ");
                push_decimal(to, length as u64);
                to.extend_from_slice(b"\r\n");
            }
        }
        for (name, value) in self.headers {
            push_header(to, name, value);
        }
    }
}

pub(super) fn push_header(to: &mut Vec<u8>, name: &str, value: &str) {
    // A line break in a value would let whoever chose the value write headers, or a whole answer.
    assert!(
        memchr::memchr2(b'\r', b'\n', value.as_bytes()).is_none(),
        "a header is one line"
    );
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(value.as_bytes());
    to.extend_from_slice(b"\r\n");
}

fn push_decimal(to: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

/// `{"detail":"<sentence>"}`.
fn detail_body(sentence: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({ "detail": sentence })).expect("a string is valid JSON")
}
