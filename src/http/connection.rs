//! One connection's loop: requests out of the input, answers into the output, one write a burst.

use std::any::Any;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::body::{Account, Body, Framing, Incoming, Kept, Rest};
use super::chunked::Decoder;
use super::deadline::Watch;
use super::output::{Output, Turn};
use super::request::{self, HEADERS_MAX, Head, Reject, Request};
use super::socket::Socket;
use super::stack::Extent;
use super::stream;
use super::wire::{Awaited, Filled, Input, Wire};
use super::{HeadLimits, Service};

/// A burst's answers leave when they have grown to this many bytes, even if more requests are there.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Most of a body that a service left unread which is read and thrown away, in bytes, to keep the connection.
/// Beyond that a new connection is cheaper for both sides.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection and its service.
///
/// INVARIANT: no byte of `output` leaves unless `service.settle` has run since the last `service.call`.
pub(super) struct Connection<S, V> {
    wire: Wire<S>,
    input: Input,
    output: Output,
    /// The head of a request whose body is on its way: the input buffer is needed for the body.
    head_copy: Vec<u8>,
    service: V,
    /// The coroutine's stack, below where it began.
    stack: Option<Extent>,
    head_limits: HeadLimits,
    /// How much unused input has been parsed in vain: without a new line in what came since there is no
    /// complete head, and a head that comes byte by byte is not parsed for every byte.
    parsed_in_vain: usize,
    /// The empty line that may stand before a request line has been seen.
    empty_line_seen: bool,
    /// No request has been understood yet.
    is_new: bool,
    is_unsettled: bool,
    /// The service is working on a request that has no answer yet.
    is_in_call: bool,
}

/// What follows a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The next request, if its head and body are in the input.
    Request,
    /// More input is needed.
    Input,
    /// The end of the connection; the peer sends nothing more.
    End,
    /// The end of the connection; the peer may still be sending.
    EndWithInput,
}

impl<S: Socket, V: Service> Connection<S, V> {
    /// On the heap, and in a frame of its own: what lies in the first frames of a coroutine stays in memory.
    #[inline(never)]
    #[expect(
        clippy::boxed_local,
        reason = "a caller that holds the socket itself would hold it for good"
    )]
    pub(super) fn new(socket: Box<S>, make_service: impl FnOnce() -> V, watch: Watch) -> Box<Self> {
        let head_limits = watch.control.limits().head;
        let service = make_service();
        let wire = Wire::new(*socket, watch);
        let mut output = Output::new(wire.counts());
        if service.watches() {
            output.watch();
        }
        Box::new(Self {
            wire,
            input: Input::new(),
            output,
            head_copy: Vec::new(),
            service,
            stack: None,
            head_limits,
            parsed_in_vain: 0,
            empty_line_seen: false,
            is_new: true,
            is_unsettled: false,
            is_in_call: false,
        })
    }

    /// Serves the connection to its end. A panic of the service ends it, and nothing else.
    pub(super) fn run(&mut self) {
        self.stack = self.wire.stack_bytes().map(Extent::new);
        match catch_unwind(AssertUnwindSafe(|| self.serve())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection failed"),
            Err(panic) => {
                tracing::error!(
                    panic = panic_text(&*panic),
                    "a service panicked; its connection is closed"
                );
                if self.is_in_call && self.output.fail_turn() {
                    self.tell_failure();
                }
            }
        }
        self.wire.spare(&mut self.input);
    }

    /// Best effort: the peer learns more from a 500 than from a closed connection.
    fn tell_failure(&mut self) {
        self.output.fold();
        if self.wire.write_all(self.output.ready()).is_err() {
            return;
        }
        // The service is in an unknown state, so it may panic again.
        let report = || self.output.report(&mut self.service);
        if catch_unwind(AssertUnwindSafe(report)).is_err() {
            tracing::error!("a service that had panicked did so again when it was told of the answer");
        }
        self.wire.linger(&mut self.input);
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let next = self.step()?;
            self.stream_if_any()?;
            match next {
                Next::Request => {
                    self.wire.end_request();
                    if self.output.len() >= OUTPUT_BYTES_MAX {
                        self.flush()?;
                    }
                }
                Next::Input => {
                    // Settling may take its time, and needs no input buffer.
                    self.wire.spare(&mut self.input);
                    self.flush()?;
                    if self.input.is_empty() {
                        self.output.shrink();
                    }
                    if !self.await_input()? {
                        return Ok(());
                    }
                }
                Next::End if self.input.is_empty() => return self.flush(),
                Next::End | Next::EndWithInput => {
                    self.flush()?;
                    self.wire.linger(&mut self.input);
                    return Ok(());
                }
            }
        }
    }

    /// Takes a request out of the input, and those behind it that repeat its head. A frame of its own: room for headers
    /// takes 4 KiB of stack, which a connection that waits for its next request is not to hold.
    #[inline(never)]
    fn step(&mut self) -> io::Result<Next> {
        if let Err(reject) = self.skip_empty_line() {
            return Ok(self.reject(reject));
        }
        let unused = self.input.unused();
        if unused.is_empty() {
            return Ok(Next::Input);
        }
        if self.parsed_in_vain > 0
            && unused.len() < self.head_limits.bytes_max
            && memchr::memchr(b'\n', &unused[self.parsed_in_vain..]).is_none()
        {
            self.parsed_in_vain = unused.len();
            return Ok(Next::Input);
        }
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut head = match request::parse(unused, &mut room, &self.head_limits) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.parsed_in_vain = unused.len();
                return Ok(Next::Input);
            }
            Err(reject) => return Ok(self.reject(reject)),
        };
        self.parsed_in_vain = 0;
        self.empty_line_seen = false;
        self.is_new = false;
        let head_bytes = head.bytes;
        let behind = &unused[head_bytes..];
        if head.is_chunked || head.content_length > behind.len() as u64 {
            self.head_copy.clear();
            self.head_copy.extend_from_slice(&unused[..head_bytes]);
            return self.call_with_body_on_its_way();
        }
        let mut behind = behind;
        let is_last = loop {
            let body;
            (body, behind) = behind.split_at(head.content_length as usize);
            let turn = turn_of(&head, self.wire.is_stopping() && behind.is_empty());
            self.is_unsettled = true;
            self.is_in_call = true;
            self.output.begin_turn(turn);
            let mut path_room = String::new();
            let mut request = Request::new(head, Body::whole(body), &mut path_room).on(&self.wire);
            self.service.call(&mut request, &mut self.output);
            let is_last = self.output.end_turn();
            self.is_in_call = false;
            if is_last || self.output.has_stream() || self.output.len() >= OUTPUT_BYTES_MAX {
                break is_last;
            }
            let Some(length) = head.repeated(&unused[..head_bytes], behind) else {
                break false;
            };
            let body_and_behind = &behind[head_bytes..];
            if length > body_and_behind.len() as u64 {
                break false;
            }
            self.wire.end_request();
            head.content_length = length;
            behind = body_and_behind;
        };
        let used = unused.len() - behind.len();
        self.input.consume(used);
        Ok(if is_last { Next::End } else { Next::Request })
    }

    /// Calls the service while the body is still coming. What was answered before leaves first, so that it
    /// does not wait for a slow body.
    #[inline(never)]
    fn call_with_body_on_its_way(&mut self) -> io::Result<Next> {
        self.flush()?;
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let Ok(Some(head)) = request::parse(&self.head_copy, &mut room, &self.head_limits) else {
            unreachable!("this head has been parsed before")
        };
        self.input.consume(head.bytes);
        let turn = turn_of(&head, self.wire.is_stopping());
        let continue_owed = head.expects_continue && self.input.is_empty();
        let framing = match head.is_chunked {
            true => Framing::Chunked(Decoder::new()),
            false => Framing::Length {
                left: head.content_length,
            },
        };
        let account = Account::default();
        let kept = Kept::of(&account);
        let mut incoming = Incoming::new(&mut self.wire, &mut self.input, framing, continue_owed, kept);
        self.is_unsettled = true;
        self.is_in_call = true;
        self.output.begin_turn(turn);
        let mut path_room = String::new();
        let mut request = Request::new(head, Body::on_its_way(&mut incoming, kept), &mut path_room);
        self.service.call(&mut request, &mut self.output);
        let is_last = self.output.end_turn();
        self.is_in_call = false;
        let rest = incoming.finish(DISCARD_BYTES_MAX);
        if matches!(rest, Rest::Fatal) {
            self.output.close_turn();
        }
        self.stream_if_any()?;
        match rest {
            Rest::Fatal => Ok(Next::EndWithInput),
            Rest::Discardable(_) if is_last => Ok(Next::EndWithInput),
            Rest::Nothing if is_last => Ok(Next::End),
            Rest::Nothing => Ok(Next::Request),
            Rest::Discardable(framing) => {
                // The answer does not wait for what nobody reads.
                self.flush()?;
                let kept = Kept::nothing();
                let rest = Incoming::new(&mut self.wire, &mut self.input, framing, false, kept);
                match rest.discard(DISCARD_BYTES_MAX) {
                    true => Ok(Next::Request),
                    false => Ok(Next::EndWithInput),
                }
            }
        }
    }

    /// One empty line before a request line is ignored, as some clients end a body with one. More of them, or a bare LF,
    /// no client sends; httparse would pass over them.
    fn skip_empty_line(&mut self) -> Result<(), Reject> {
        while let [b'\r' | b'\n', ..] = self.input.unused() {
            match self.input.unused() {
                [b'\r', b'\n', ..] if !self.empty_line_seen => {
                    self.input.consume(2);
                    self.empty_line_seen = true;
                    self.parsed_in_vain = 0;
                }
                [b'\r', b'\n', ..] | [b'\n', ..] => return Err(request::EMPTY_LINE),
                // The LF is on its way, or parsing will miss it.
                _ => break,
            }
        }
        Ok(())
    }

    /// Answers what is no request. A peer that begins with a TLS handshake gets no answer: it could not read one.
    fn reject(&mut self, Reject { status, detail }: Reject) -> Next {
        let input = self.input.unused();
        if !(self.is_new && input.first() == Some(&TLS_HANDSHAKE)) {
            self.output.begin_turn(Turn {
                close: true,
                is_http10: false,
                is_head: input.starts_with(b"HEAD "),
            });
            self.output.detail(status, &[], detail);
        }
        Next::EndWithInput
    }

    fn stream_if_any(&mut self) -> io::Result<()> {
        let Some(stream) = self.output.take_stream() else {
            return Ok(());
        };
        self.flush()?;
        // A stream may last for days, and needs none of these.
        self.wire.spare(&mut self.input);
        self.output.shrink();
        if let Some(stack) = self.stack {
            stack.release();
        }
        let streamed = stream::run(stream, &mut self.wire)?;
        self.output.report_stream(streamed.bytes, &mut self.service);
        match streamed.is_whole {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "a streamed answer was cut short",
            )),
        }
    }

    /// Waits for more of a head, or for the next one; `false` when the connection ends instead.
    fn await_input(&mut self) -> io::Result<bool> {
        loop {
            match self.wire.fill(&mut self.input, Awaited::Request)? {
                Filled::More => {
                    self.output.refresh_date();
                    return Ok(true);
                }
                Filled::AtRest => self.rest(),
                // Nothing was asked: there is nothing to answer.
                Filled::TooSlow if self.input.is_empty() => return Ok(false),
                Filled::TooSlow => {
                    self.reject(Reject {
                        status: 408,
                        detail: "The request head did not arrive in time.",
                    });
                    self.flush()?;
                    self.wire.linger(&mut self.input);
                    return Ok(false);
                }
                Filled::End | Filled::Stopping => return Ok(false),
            }
        }
    }

    /// Gives back what is not needed for waiting.
    fn rest(&mut self) {
        drop(self.input.release());
        self.output.release();
        self.head_copy = Vec::new();
        self.service.rest();
        if let Some(stack) = self.stack {
            stack.release();
        }
    }

    /// Settles the burst and writes its answers.
    fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_unsettled) {
            self.output.begin_settling();
            self.service.settle(&mut self.output);
            self.output.end_settling();
        }
        self.output.fold();
        self.wire.write_all(self.output.ready())?;
        self.output.report(&mut self.service);
        self.output.clear();
        Ok(())
    }
}

/// `is_last_word`: the server is stopping and no request follows this one.
fn turn_of(head: &Head<'_, '_>, is_last_word: bool) -> Turn {
    Turn {
        close: head.close || is_last_word,
        is_http10: head.is_http10,
        is_head: head.method == "HEAD",
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}
