//! Streamed answers: a body of unknown length, written as it is made.
//!
//! A producer of a stream that others share the processor with collects what it has ([`StreamWriter::collect`]) and sends
//! as much as the socket takes at once ([`StreamWriter::try_flush`]); only with what is left it waits
//! ([`StreamWriter::flush_or_stop`]), which a stopping server does not.
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
use super::wire::{Refused, Wire};

/// Writes the body of a streamed answer.
pub type Produce = dyn FnOnce(&mut StreamWriter<'_>) -> io::Result<()> + Send;

/// A chunk leaves when it has grown to this many bytes, or at a flush.
const CHUNK_BYTES_MAX: usize = 32 * 1024;
/// A chunk's size line: four hexadecimal digits, with leading zeros so that it can be written before the
/// size is known.
const SIZE_LINE_BYTES: usize = 6;
/// Bytes for collecting that a stream keeps while it waits.
const IDLE_BYTES_MAX: usize = 4 * 1024;
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
    /// What leaves with the next write: perhaps the head, then finished chunks, then the chunk being collected.
    bytes: Vec<u8>,
    /// So many of the first of them have left.
    gone: usize,
    /// Where the current chunk's data begin, its size line before them.
    data_at: usize,
    is_chunked: bool,
    /// Bytes that have left, the head's included.
    sent: u64,
    is_cut: bool,
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
        if self.bytes.capacity() > IDLE_BYTES_MAX {
            // A thousand streams that wait need no memory for what they sent last.
            self.bytes = Vec::new();
            self.begin_chunk();
        }
        self.wire.wait_for_word(timeout)
    }

    /// Whether the server is stopping, and the body should come to its end.
    pub fn is_stopping(&self) -> bool {
        self.wire.is_stopping()
    }

    /// Adds to what has been collected and sends nothing, however much it becomes: who calls this keeps that within bounds.
    pub fn collect(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let room = CHUNK_BYTES_MAX - (self.bytes.len() - self.data_at);
            if room == 0 {
                self.end_chunk();
                self.begin_chunk();
                continue;
            }
            let (now, later) = piece.split_at(piece.len().min(room));
            self.bytes.extend_from_slice(now);
            piece = later;
        }
    }

    /// Sends of what has been collected what the socket takes now. `true`: everything has left.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        self.send(Refused::Returns)
    }

    /// Sends what has been collected, and parks the coroutine while the peer does not read. `false`: not everything has
    /// left, and the server is stopping.
    ///
    /// # Errors
    /// The peer has gone, or has read nothing for too long.
    pub fn flush_or_stop(&mut self) -> io::Result<bool> {
        self.send(Refused::WaitsUnlessStopping)
    }

    /// Ends the body here, cut short, and the connection with it: for a stream without an end, which is no failure to be
    /// without one. The answer is reported with what has left of it. To be called last.
    pub fn cut(&mut self) {
        self.is_cut = true;
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

    /// Ends the current chunk, sends and begins another. Whether everything has left.
    fn send(&mut self, refused: Refused) -> io::Result<bool> {
        self.end_chunk();
        let count = self.wire.send(&self.bytes[self.gone..], refused)?;
        self.sent += count as u64;
        self.gone += count;
        let is_all = self.gone == self.bytes.len();
        if is_all {
            self.bytes.clear();
            self.gone = 0;
        }
        self.begin_chunk();
        Ok(is_all)
    }

    fn finish(mut self) -> io::Result<u64> {
        self.end_chunk();
        if self.is_chunked {
            self.bytes.extend_from_slice(LAST_CHUNK);
        }
        let count = self.wire.send(&self.bytes[self.gone..], Refused::Waits)?;
        Ok(self.sent + count as u64)
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
        self.send(Refused::Waits).map(drop)
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
    fn send(&mut self, bytes: &[u8], refused: Refused) -> io::Result<usize>;
    fn wait_for_word(&mut self, timeout: Duration) -> io::Result<bool>;
    fn watched(&self) -> Arc<Watched>;
    fn is_stopping(&self) -> bool;
}

impl<S: Socket> ChunkSink for Wire<S> {
    fn send(&mut self, bytes: &[u8], refused: Refused) -> io::Result<usize> {
        self.write_some(bytes, refused)
    }

    fn wait_for_word(&mut self, timeout: Duration) -> io::Result<bool> {
        Wire::wait_for_word(self, timeout)
    }

    fn watched(&self) -> Arc<Watched> {
        Wire::watched(self)
    }

    fn is_stopping(&self) -> bool {
        Wire::is_stopping(self)
    }
}

/// What became of a streamed answer.
pub(super) struct Streamed {
    /// How many bytes have left, the head's included.
    pub(super) bytes: u64,
    /// Its end has left: another answer may follow it.
    pub(super) is_whole: bool,
}

/// Sends a streamed answer from head to end. The head leaves with the first chunk.
pub(super) fn run<S: Socket>(stream: PendingStream, wire: &mut Wire<S>) -> io::Result<Streamed> {
    let PendingStream {
        head, turn, produce, ..
    } = stream;
    if turn.is_head {
        wire.write_all(&head)?;
        return Ok(Streamed {
            bytes: head.len() as u64,
            is_whole: true,
        });
    }
    let mut writer = StreamWriter {
        wire,
        bytes: head,
        gone: 0,
        data_at: 0,
        is_chunked: !turn.is_http10,
        sent: 0,
        is_cut: false,
    };
    writer.begin_chunk();
    produce(&mut writer)?;
    if writer.is_cut {
        return Ok(Streamed {
            bytes: writer.sent,
            is_whole: false,
        });
    }
    Ok(Streamed {
        bytes: writer.finish()?,
        is_whole: true,
    })
}
