//! The socket under a connection: non-blocking, edge-triggered, and woken from anywhere.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use may::io::{CoIo, WaitIo, WaitIoWaker};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendFlags};

/// What happened to a socket while its coroutine was parked: the flags `epoll` reported, and a wake-up.
#[derive(Clone, Copy, Debug)]
pub struct Events(usize);

impl Events {
    const IN: usize = 0x1;
    const ERROR: usize = 0x8;
    const HANG_UP: usize = 0x10;
    const PEER_SHUT: usize = 0x2000;
    const WOKEN: usize = 0x8000_0000;

    /// What a scripted socket reports.
    #[cfg(any(test, fuzzing))]
    pub const READABLE: Self = Self(Self::IN);
    /// What a socket says that knows of an end or an error which no event will announce.
    pub(super) const ENDED: Self = Self(Self::HANG_UP);

    /// No event at all.
    #[cfg(test)]
    pub(super) const NOTHING: Self = Self(0);

    /// The same, and a read is worth trying whatever the descriptor reports.
    pub(super) fn and_read(self) -> Self {
        Self(self.0 | Self::WOKEN)
    }

    /// Nothing but a wake-up.
    #[cfg(test)]
    pub fn woken() -> Self {
        Self(Self::WOKEN)
    }

    /// There may be input, or somebody wants the connection to look up: a read is worth trying.
    pub fn worth_reading(self) -> bool {
        self.0 & (Self::IN | Self::ERROR | Self::HANG_UP | Self::PEER_SHUT | Self::WOKEN) != 0
    }

    /// The peer has ended its sending side, or the connection broke. No further edge may come after this
    /// one, so reading must go on until it returns the end or the error.
    pub fn is_hang_up(self) -> bool {
        self.0 & (Self::ERROR | Self::HANG_UP | Self::PEER_SHUT) != 0
    }
}

/// A byte stream that a connection can run on: TCP, a Unix socket, or TLS on one of them.
///
/// Reads and writes never block; `wait` parks the coroutine until something has changed. A read that returns
/// fewer bytes than asked for says that there are no more before the next `wait`, except after a hang-up.
/// A write that was refused with `WouldBlock` is repeated with the same bytes, unless the connection ends: TLS
/// has sealed them already.
pub trait Socket: Send + 'static {
    /// Reads what is there. `Ok(0)` is the end of the peer's sending side.
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize>;
    /// Writes what fits.
    fn write(&mut self, from: &[u8]) -> io::Result<usize>;
    /// How much of a refused write is still here, sealed: less than at the refusal before, when the peer has read meanwhile.
    fn unsent(&self) -> usize {
        0
    }
    /// Parks the coroutine until the socket changes or somebody wakes it; returns at once if that has happened
    /// since the last call.
    fn wait(&mut self) -> Events;
    /// Ends the sending side; the peer sees the end of the stream after the bytes written so far.
    fn shut_write(&mut self) -> io::Result<()>;
    /// Whether the peer has ended its sending side, or the connection is broken, whatever is still to be read. Takes
    /// nothing in, and does not wait.
    fn is_hung_up(&self) -> bool;
}

/// A descriptor registered with the coroutine scheduler's `epoll`.
///
/// `CoIo` alone closes its descriptor before it takes it out of the `epoll` set: by then the number may belong
/// to another socket, which would be taken out in its place. This wrapper turns the order around.
#[derive(Debug)]
pub struct Registered<T: AsRawFd> {
    /// INVARIANT: `Some` until drop.
    io: Option<CoIo<T>>,
}

impl<T: AsRawFd> Registered<T> {
    /// Makes the descriptor non-blocking and registers it.
    pub fn new(inner: T) -> io::Result<Self> {
        let io = CoIo::new(inner).map_err(io::Error::from)?;
        Ok(Self { io: Some(io) })
    }

    fn io(&self) -> &CoIo<T> {
        self.io
            .as_ref()
            .expect("a registered descriptor keeps its registration until drop")
    }

    /// Parks the coroutine until the descriptor changes or the waker is used.
    pub fn wait(&self) -> Events {
        Events(self.io().wait_io())
    }

    /// What wakes a coroutine parked in `wait`, from any thread or coroutine.
    pub fn waker(&self) -> WaitIoWaker {
        self.io().waker()
    }
}

impl<T: AsRawFd> Deref for Registered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.io().inner()
    }
}

impl<T: AsRawFd> Drop for Registered<T> {
    fn drop(&mut self) {
        // `into_inner` drops the registration and hands out the descriptor, which is closed after it.
        drop(self.io.take().map(CoIo::into_inner));
    }
}

/// A stream socket of the system.
pub trait Stream: AsRawFd + AsFd + Send + 'static {
    /// Ends the sending side.
    fn shut_write(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn shut_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn shut_write(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// The system calls are made directly: the C library's wrappers first enter and then leave a point at which the thread
/// may be cancelled, which is half a hundred nanoseconds each.
impl<T: Stream> Socket for Registered<T> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let (count, _) = rustix::net::recv(&**self, to, RecvFlags::empty())?;
        Ok(count)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&**self, from, SendFlags::NOSIGNAL)?)
    }

    fn wait(&mut self) -> Events {
        Registered::wait(self)
    }

    fn shut_write(&mut self) -> io::Result<()> {
        (**self).shut_write()
    }

    fn is_hung_up(&self) -> bool {
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut asked = [PollFd::new(&**self, ends)];
        let now = Timespec::default();
        rustix::event::poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().intersects(ends)
    }
}
