//! Listening, the register of live connections, and stopping.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use may::coroutine::Builder;

use super::connection::Connection;
use super::control::{Control, Kind, Slot};
use super::output::detail_body;
use super::socket::{Registered, Socket};
use super::wire::INPUT_BYTES_MAX;
use super::{Limits, MakeService};

/// How long the acceptor rests when the system has no descriptor or memory for a connection: long enough not
/// to burn a core, short enough to be back when a connection has ended.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Most connections that were waiting when the server began to stop and are still taken, so that a request
/// they carry is answered. Larger than usual backlogs; the bound is for peers that never cease to connect.
const LAST_ACCEPTS_MAX: usize = 4096;

/// Serves HTTP on a bound listener until told to stop. Returns at once: the listener and its connections live
/// on coroutines, whose stacks must have 128 KiB (`may::config().set_stack_size(0x4000)`).
pub fn serve<M: MakeService>(listener: TcpListener, make: M, limits: Limits) -> io::Result<Handle> {
    if limits.head_bytes_max == 0 || limits.head_bytes_max > INPUT_BYTES_MAX {
        let text = format!(
            "head_bytes_max is {}, allowed is 1 to {INPUT_BYTES_MAX}",
            limits.head_bytes_max
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let local_addr = listener.local_addr()?;
    let listener = Registered::new(listener)?;
    let control = Control::new(limits);
    let acceptor_slot = Slot::enter(&control, listener.waker(), Kind::Acceptor);
    let acceptor = Acceptor {
        listener,
        make: Arc::new(make),
        control: control.clone(),
    };
    may::go!(Builder::new(), move || {
        // Dropped last: the listener is closed when the acceptor counts as ended.
        let _slot = acceptor_slot;
        acceptor.run();
    })?;
    Ok(Handle { control, local_addr })
}

/// The running server, seen from outside. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Arc<Control>,
    local_addr: SocketAddr,
}

impl Handle {
    /// The address listened on, with the port the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Live connections.
    pub fn connections(&self) -> usize {
        self.control.register().connections
    }

    /// Stops listening. Connections answer the requests that have begun to arrive, then end; idle ones end
    /// now. From any thread or coroutine; returns at once.
    pub fn stop_accepting(&self) {
        self.control.stop();
    }

    /// Waits until the listener is closed and every connection has ended; false when that takes longer than
    /// `timeout`. Blocks the thread: not for coroutines.
    pub fn join(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut register = self.control.register();
        while register.entered > 0 {
            let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => left,
                None => timeout,
            };
            let woken = self.control.ended.wait_timeout(register, left);
            register = woken.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }
}

/// The coroutine that accepts connections.
struct Acceptor<M> {
    listener: Registered<TcpListener>,
    make: Arc<M>,
    control: Arc<Control>,
}

impl<M: MakeService> Acceptor<M> {
    fn run(self) {
        let mut last_accepts = 0;
        // One line in the log for each spell of failures.
        let mut is_failing = false;
        while last_accepts < LAST_ACCEPTS_MAX {
            let accepted = self
                .listener
                .accept()
                .and_then(|(stream, peer)| self.admit(stream, peer));
            match accepted {
                Ok(()) => is_failing = false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.control.is_stopping() {
                        return;
                    }
                    self.listener.wait();
                    continue;
                }
                // The peer gave up while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%error, "cannot accept connections; trying again");
                    }
                    may::coroutine::sleep(ACCEPT_REST);
                }
            }
            last_accepts += usize::from(self.control.is_stopping());
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let connections = self.control.register().connections;
        let mut socket = Registered::new(stream).map_err(not_would_block)?;
        if connections >= self.control.limits().connections_max {
            refuse(&mut socket);
            return Ok(());
        }
        // Answers leave in whole writes; waiting for an acknowledgement of the one before helps nobody. A peer
        // that is already gone is found out by the first read.
        let _ = socket.set_nodelay(true);
        let slot = Slot::enter(&self.control, socket.waker(), Kind::Connection);
        let (make, control) = (self.make.clone(), self.control.clone());
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&*socket);
        let connection = move || {
            // Dropped last: the socket is closed when the connection counts as ended.
            let _slot = slot;
            match catch_unwind(AssertUnwindSafe(|| make.make(peer))) {
                Ok(service) => Connection::new(socket, service, control).run(),
                Err(_) => tracing::error!("making a service panicked; its connection is closed"),
            }
        };
        // The worker that polls this descriptor also runs its coroutine. A stack that cannot be had is a panic
        // in the scheduler, and no reason to stop accepting.
        let builder = Builder::new().id(usize::try_from(descriptor).unwrap_or(0));
        let spawned = catch_unwind(AssertUnwindSafe(|| may::go!(builder, connection)));
        spawned
            .unwrap_or_else(|panic| Err(spawn_error(panic)))
            .map(drop)
            .map_err(not_would_block)
    }
}

fn spawn_error(_panic: Box<dyn Any + Send>) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "no stack for a connection's coroutine",
    )
}

/// `WouldBlock` is how the listener says that nobody waits; any other call's must not be taken for it.
fn not_would_block(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::other(error),
        _ => error,
    }
}

/// Tells a surplus connection that there is no room, without waiting for anything: what fits into the empty
/// send buffer is sent, and a request that is already there is read, as unread input would turn the closing
/// into a reset.
fn refuse(socket: &mut Registered<TcpStream>) {
    let body = detail_body("Too many connections.");
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         X-Content-Type-Options: nosniff\r\nRetry-After: 1\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), &body].concat();
    if socket.write(&answer).is_ok() && socket.shut_write().is_ok() {
        let _ = socket.read(&mut [0; 4096]);
    }
}
