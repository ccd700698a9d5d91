//! One connection's loop: requests out of the input, answers into the output, one write a burst.

use std::any::Any;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Service;
use super::body::{Body, Incoming};
use super::control::Control;
use super::output::{Output, Turn};
use super::request::{self, HEADERS_MAX, Head, Reject, Request};
use super::socket::Socket;
use super::stream;
use super::wire::{Awaited, Filled, Input, Wire};

/// A burst's answers leave when they have grown to this many bytes, even if more requests are there.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Most of a body that a service left unread which is read and thrown away, in bytes, to keep the connection.
/// Beyond that a new connection is cheaper for both sides.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;

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
    head_bytes_max: usize,
    /// How much unused input has been parsed in vain: without a new line in what came since there is no
    /// complete head, and a head that comes byte by byte is not parsed for every byte.
    parsed_in_vain: usize,
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
    pub(super) fn new(socket: S, service: V, control: Arc<Control>) -> Self {
        let head_bytes_max = control.limits().head_bytes_max;
        let mut output = Output::new();
        if service.watches() {
            output.watch();
        }
        Self {
            wire: Wire::new(socket, control),
            input: Input::new(),
            output,
            head_copy: Vec::new(),
            service,
            head_bytes_max,
            parsed_in_vain: 0,
            is_unsettled: false,
            is_in_call: false,
        }
    }

    /// Serves the connection to its end. A panic of the service ends it, and nothing else.
    pub(super) fn run(mut self) {
        match catch_unwind(AssertUnwindSafe(|| self.serve())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection failed"),
            Err(panic) => {
                tracing::error!(
                    panic = panic_text(&*panic),
                    "a service panicked; its connection is closed"
                );
                if self.is_in_call && self.output.fail_turn() {
                    // Best effort: the peer learns more from a 500 than from a closed connection.
                    if self.wire.write_all(self.output.ready()).is_ok() {
                        self.wire.linger(&mut self.input);
                    }
                }
            }
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            match self.step()? {
                Next::Request => {
                    if self.output.len() >= OUTPUT_BYTES_MAX {
                        self.flush()?;
                    }
                }
                Next::Input => {
                    self.flush()?;
                    if self.input.is_empty() {
                        self.output.shrink();
                    }
                    match self.wire.fill(&mut self.input, Awaited::Request)? {
                        Filled::More => self.output.refresh_date(),
                        Filled::End | Filled::Stopping => return Ok(()),
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

    /// Takes one request out of the input.
    fn step(&mut self) -> io::Result<Next> {
        while let [b'\n', ..] | [b'\r', b'\n', ..] = self.input.unused() {
            // Empty lines before a request are ignored; some clients end a body with one.
            self.input
                .consume(1 + usize::from(self.input.unused()[0] == b'\r'));
            self.parsed_in_vain = 0;
        }
        let unused = self.input.unused();
        if unused.is_empty() {
            return Ok(Next::Input);
        }
        if self.parsed_in_vain > 0
            && unused.len() < self.head_bytes_max
            && memchr::memchr(b'\n', &unused[self.parsed_in_vain..]).is_none()
        {
            self.parsed_in_vain = unused.len();
            return Ok(Next::Input);
        }
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let head = match request::parse(unused, &mut room, self.head_bytes_max) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.parsed_in_vain = unused.len();
                return Ok(Next::Input);
            }
            Err(reject) => {
                self.reject(reject);
                return Ok(Next::EndWithInput);
            }
        };
        self.parsed_in_vain = 0;
        let head_bytes = head.bytes;
        let behind = &unused[head_bytes..];
        if head.content_length > behind.len() as u64 {
            self.head_copy.clear();
            self.head_copy.extend_from_slice(&unused[..head_bytes]);
            return self.call_with_body_on_its_way();
        }
        let (body, behind) = behind.split_at(head.content_length as usize);
        let turn = turn_of(&head, self.wire.is_stopping() && behind.is_empty());
        let used = head_bytes + body.len();
        self.is_unsettled = true;
        self.is_in_call = true;
        self.output.begin_turn(turn);
        self.service
            .call(&mut Request::new(head, Body::whole(body)), &mut self.output);
        let is_last = self.output.end_turn();
        self.is_in_call = false;
        self.input.consume(used);
        self.stream_if_any()?;
        Ok(if is_last { Next::End } else { Next::Request })
    }

    /// Calls the service while the body is still coming. What was answered before leaves first, so that it
    /// does not wait for a slow body.
    fn call_with_body_on_its_way(&mut self) -> io::Result<Next> {
        self.flush()?;
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let Ok(Some(head)) = request::parse(&self.head_copy, &mut room, self.head_bytes_max) else {
            unreachable!("this head has been parsed before")
        };
        self.input.consume(head.bytes);
        let turn = turn_of(&head, self.wire.is_stopping());
        let (length, expects_continue) = (head.content_length, head.expects_continue);
        let continue_owed = expects_continue && self.input.is_empty();
        let mut incoming = Incoming::with_length(&mut self.wire, &mut self.input, length, continue_owed);
        self.is_unsettled = true;
        self.is_in_call = true;
        self.output.begin_turn(turn);
        self.service.call(
            &mut Request::new(head, Body::on_its_way(&mut incoming)),
            &mut self.output,
        );
        let is_last = self.output.end_turn();
        self.is_in_call = false;
        let left = incoming.left();
        if !incoming.can_discard(DISCARD_BYTES_MAX) {
            self.output.close_turn();
            self.stream_if_any()?;
            return Ok(Next::EndWithInput);
        }
        self.stream_if_any()?;
        if left > 0 {
            if is_last {
                return Ok(Next::EndWithInput);
            }
            // The answer does not wait for what nobody reads.
            self.flush()?;
            if !Incoming::with_length(&mut self.wire, &mut self.input, left, false).discard() {
                return Ok(Next::End);
            }
        } else if is_last {
            return Ok(Next::End);
        }
        Ok(Next::Request)
    }

    fn reject(&mut self, Reject { status, detail }: Reject) {
        self.output.begin_turn(Turn {
            close: true,
            is_http10: false,
            is_head: false,
        });
        self.output.detail(status, &[], detail);
    }

    fn stream_if_any(&mut self) -> io::Result<()> {
        let Some(stream) = self.output.take_stream() else {
            return Ok(());
        };
        self.flush()?;
        let bytes = stream::run(stream, &mut self.wire)?;
        self.output.report_stream(bytes, &mut self.service);
        Ok(())
    }

    /// Settles the burst and writes its answers.
    fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_unsettled) {
            self.output.begin_settling();
            self.service.settle(&mut self.output);
            self.output.end_settling();
        }
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
