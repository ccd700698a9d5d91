//! Listening, the register of live connections, and stopping.

use std::any::Any;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use may::coroutine::Builder;

use super::connection::Connection;
use super::control::{Control, Kind, Slot};
use super::deadline;
use super::listener::{Accept, Address, Listener, ListenerKind, Tcp, TlsTcp, Unix};
use super::output::{Output, Turn};
use super::socket::{Registered, Socket};
use super::traffic::Counts;
use super::{Answered, HeadLimits, Limits, MakeService, Peer};

/// How long the acceptor rests when the system has no descriptor or memory for a connection: long enough not
/// to burn a core, short enough to be back when a connection has ended.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Most connections that were waiting when the server began to stop and are still taken, so that a request
/// they carry is answered. Larger than usual backlogs; the bound is for peers that never cease to connect.
const LAST_ACCEPTS_MAX: usize = 4096;

/// Serves HTTP on bound listeners until told to stop, with an acceptor for each. Returns at once: listeners and connections
/// live on coroutines, whose stacks must have 128 KiB (`may::config().set_stack_size(0x4000)`).
pub fn serve<M: MakeService>(listeners: Vec<Listener>, make: M, limits: Limits) -> io::Result<Handle> {
    let head = &limits.head;
    let is_head_allowed = (1..=HeadLimits::BYTES_BOUND).contains(&head.bytes_max)
        && (1..=HeadLimits::HEADERS_BOUND).contains(&head.headers_max);
    if !is_head_allowed {
        let text = format!("{head:?} is beyond the bounds of a head");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut addresses: Vec<Address> = Vec::new();
    for listener in &listeners {
        if !addresses.contains(listener.address()) {
            addresses.push(listener.address().clone());
        }
    }
    let handle = Handle {
        control: Control::new(limits, make.traffic()),
        addresses: addresses.into(),
    };
    let make = Arc::new(make);
    for listener in listeners {
        let (make, control) = (make.clone(), handle.control.clone());
        let started = match listener.kind {
            ListenerKind::Tcp(listener) => Acceptor::start(Tcp, listener, make, control),
            ListenerKind::Tls(listener, config) => Acceptor::start(TlsTcp(config), listener, make, control),
            ListenerKind::Unix(listener) => Acceptor::start(Unix, listener, make, control),
        };
        // Those that were started before do not stay behind.
        started.inspect_err(|_| handle.stop_accepting())?;
    }
    deadline::start_patrol(&handle.control).inspect_err(|_| handle.stop_accepting())?;
    Ok(handle)
}

/// The running server, seen from outside. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Arc<Control>,
    addresses: Arc<[Address]>,
}

impl Handle {
    /// The addresses listened on, each once, in the order in which they were given.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
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

    /// Waits until every listener is closed and every connection has ended; false when that takes longer than
    /// `timeout`. Blocks the thread: not for coroutines.
    pub fn join(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut register = self.control.register();
        while register.entered > 0 || register.is_patrolled {
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

/// The coroutine that accepts a listener's connections.
struct Acceptor<A: Accept, M> {
    accept: A,
    listener: Registered<A::Listener>,
    make: Arc<M>,
    control: Arc<Control>,
}

impl<A: Accept, M: MakeService> Acceptor<A, M> {
    fn start(accept: A, listener: A::Listener, make: Arc<M>, control: Arc<Control>) -> io::Result<()> {
        let listener = Registered::new(listener)?;
        let slot = Slot::enter(&control, listener.waker(), Kind::Acceptor);
        // The worker that polls this descriptor also runs its coroutine.
        let builder = Builder::new().id(worker_of(&*listener));
        let acceptor = Acceptor {
            accept,
            listener,
            make,
            control,
        };
        let run = move || {
            // Dropped last: the listener is closed when the acceptor counts as ended.
            let _slot = slot;
            acceptor.run();
        };
        may::go!(builder, run).map(drop)
    }

    fn run(self) {
        let mut last_accepts = 0;
        // One line in the log for each spell of failures.
        let mut is_failing = false;
        while last_accepts < LAST_ACCEPTS_MAX {
            let accepted = self
                .accept
                .accept(&self.listener)
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

    fn admit(&self, stream: A::Stream, peer: Peer) -> io::Result<()> {
        let connections = self.control.register().connections;
        let stream = Registered::new(stream).map_err(not_would_block)?;
        if connections >= self.control.limits().connections_max {
            let traffic = &self.control.traffic;
            traffic.turn_away();
            let counts = Counts::new(Arc::clone(traffic), worker_of(&*stream));
            let mut socket = self.accept.refusable(stream);
            let answered = socket.as_mut().and_then(|socket| refuse(socket, counts));
            self.make.refused(peer, answered);
            return Ok(());
        }
        let slot = Slot::enter(&self.control, stream.waker(), Kind::Connection);
        let worker = worker_of(&*stream);
        // Boxed, as what the closure holds lies on the coroutine's stack for good.
        let socket = Box::new(self.accept.socket(stream).map_err(not_would_block)?);
        let (make, watch) = (self.make.clone(), slot.watch(worker));
        let connection = move || {
            // Dropped last: the socket is closed when the connection counts as ended.
            let _slot = slot;
            let connection = || Connection::new(socket, || make.make(peer), watch);
            match catch_unwind(AssertUnwindSafe(connection)) {
                Ok(mut connection) => connection.run(),
                Err(_) => tracing::error!("making a service panicked; its connection is closed"),
            }
        };
        // The worker that polls this descriptor also runs its coroutine. A stack that cannot be had is a panic
        // in the scheduler, and no reason to stop accepting.
        let builder = Builder::new().id(worker);
        let spawned = catch_unwind(AssertUnwindSafe(|| may::go!(builder, connection)));
        spawned
            .unwrap_or_else(|panic| Err(spawn_error(panic)))
            .map(drop)
            .map_err(not_would_block)
    }
}

/// The runtime spreads descriptors over its workers by their number.
fn worker_of(descriptor: &impl AsRawFd) -> usize {
    usize::try_from(descriptor.as_raw_fd()).unwrap_or(0)
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
/// into a reset. What was answered, if it left.
fn refuse(socket: &mut impl Socket, counts: Counts) -> Option<Answered> {
    let mut output = Output::new(counts);
    output.watch();
    output.begin_turn(Turn {
        close: true,
        ..Turn::default()
    });
    output.detail(503, &[("Retry-After", "1")], "Too many connections.");
    output.fold();
    let sent = socket.write(output.ready());
    if sent.is_ok() && socket.shut_write().is_ok() {
        let _ = socket.read(&mut [0; 4096]);
    }
    output.take_report().filter(|_| sent.is_ok())
}
