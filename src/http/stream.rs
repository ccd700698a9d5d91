//! Streamed answers: a body of unknown length, written as it is made.
//!
//! A producer that has nothing to send for now parks in [`StreamWriter::wait`], for as long as it likes: there is no
//! limit for a peer that waits too. It is told there when the peer has gone and when the server stops. A peer that
//! does not read what is sent is given up like any other ([`super::Limits::write_timeout`]).

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::deadline::Watched;
use super::output::Turn;
use super::socket::Socket;
use super::wire::Wire;

/// Writes the body of a streamed answer.
pub type Produce = dyn FnOnce(&mut StreamWriter<'_>) -> io::Result<()> + Send;

/// A chunk leaves when it has grown to this many bytes, or at a flush.
const CHUNK_BYTES_MAX: usize = 32 * 1024;
/// A chunk's size line: four hexadecimal digits, with leading zeros so that it can be written before the
/// size is known.
const SIZE_LINE_BYTES: usize = 6;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const _: () = assert!(CHUNK_BYTES_MAX <= 0xffff, "a chunk's size has four digits");

/// A streamed answer that waits for its turn.
pub(super) struct PendingStream {
    pub(super) head: Vec<u8>,
    /// Where in the head the `Connection` header stands.
    pub(super) connection: Range<usize>,
    pub(super) turn: Turn,
    pub(super) produce: Box<Produce>,
}

/// Takes the body of a streamed answer, collects it into chunks and writes them to the socket; parks the
/// coroutine while the peer does not read. `flush` sends what has been collected.
pub struct StreamWriter<'a> {
    wire: &'a mut dyn ChunkSink,
    /// What leaves with the next write: perhaps the head, then the chunk being collected.
    bytes: Vec<u8>,
    /// Where the current chunk's data begin, its size line before them.
    data_at: usize,
    is_chunked: bool,
    /// Bytes that have left, the head's included.
    sent: u64,
}

/// Wakes a producer that waits.
#[derive(Clone)]
pub struct StreamWaker(Arc<Watched>);

impl StreamWaker {
    /// Ends the producer's current wait, or its next one. From any thread or coroutine.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl fmt::Debug for StreamWaker {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("StreamWaker")
    }
}

impl StreamWriter<'_> {
    /// What ends [`StreamWriter::wait`].
    pub fn waker(&self) -> StreamWaker {
        StreamWaker(self.wire.watched())
    }

    /// Sends what has been collected, then parks the coroutine until the waker is used or `timeout` has passed; also
    /// now and then for nothing. `false`: the server is stopping, and the body should come to its end.
    ///
    /// # Errors
    /// The peer has gone. One that has only ended its sending side counts as gone too: whoever listens to a
    /// stream without an end has no other way to say so.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<bool> {
        self.flush()?;
        self.wire.wait_for_word(timeout)
    }

    fn begin_chunk(&mut self) {
        if self.is_chunked {
            self.bytes.extend_from_slice(b"0000\r\n");
        }
        self.data_at = self.bytes.len();
    }

    /// Ends the current chunk; one without data is taken back, as it would end the body.
    fn end_chunk(&mut self) {
        let size = self.bytes.len() - self.data_at;
        if !self.is_chunked {
            return;
        }
        if size == 0 {
            self.bytes.truncate(self.data_at - SIZE_LINE_BYTES);
            return;
        }
        let digits = &mut self.bytes[self.data_at - SIZE_LINE_BYTES..][..4];
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[size >> (4 * place) & 0xf];
        }
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn send(&mut self) -> io::Result<()> {
        self.wire.send(&self.bytes)?;
        self.sent += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        self.end_chunk();
        if self.is_chunked {
            self.bytes.extend_from_slice(LAST_CHUNK);
        }
        self.send()?;
        Ok(self.sent)
    }
}

impl Write for StreamWriter<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let count = from
            .len()
            .min(CHUNK_BYTES_MAX - (self.bytes.len() - self.data_at));
        self.bytes.extend_from_slice(&from[..count]);
        if self.bytes.len() - self.data_at == CHUNK_BYTES_MAX {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.end_chunk();
        self.send()?;
        self.begin_chunk();
        Ok(())
    }
}

impl fmt::Debug for StreamWriter<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("StreamWriter")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// A wire, whatever its socket.
trait ChunkSink {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn wait_for_word(&mut self, timeout: Duration) -> io::Result<bool>;
    fn watched(&self) -> Arc<Watched>;
}

impl<S: Socket> ChunkSink for Wire<S> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn wait_for_word(&mut self, timeout: Duration) -> io::Result<bool> {
        Wire::wait_for_word(self, timeout)
    }

    fn watched(&self) -> Arc<Watched> {
        Wire::watched(self)
    }
}

/// Sends a streamed answer from head to end, and tells how many bytes that were. The head leaves with the first chunk.
pub(super) fn run<S: Socket>(stream: PendingStream, wire: &mut Wire<S>) -> io::Result<u64> {
    let PendingStream {
        head, turn, produce, ..
    } = stream;
    if turn.is_head {
        wire.write_all(&head)?;
        return Ok(head.len() as u64);
    }
    let mut writer = StreamWriter {
        wire,
        bytes: head,
        data_at: 0,
        is_chunked: !turn.is_http10,
        sent: 0,
    };
    writer.begin_chunk();
    produce(&mut writer)?;
    writer.finish()
}
