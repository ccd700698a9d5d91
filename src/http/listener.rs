//! Where connections come in: TCP and Unix sockets, each with what an acceptor has to know of it.
//!
//! An acceptor is generic over [`Accept`], so that a connection is compiled for its socket, and plain TCP pays nothing for
//! the others.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use super::Peer;
use super::socket::{Registered, Socket};
use super::tls::{Tls, TlsConfig};

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// With the port that the system chose for port 0.
    Tcp(SocketAddr),
    /// The path of the socket; an abstract name begins with `@`.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(to),
            Self::Unix(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

/// A bound socket that listens. Several may share an address; each has its own acceptor.
#[derive(Debug)]
pub struct Listener {
    pub(super) kind: ListenerKind,
    address: Address,
}

#[derive(Debug)]
pub(super) enum ListenerKind {
    Tcp(TcpListener),
    Tls(TcpListener, Arc<TlsConfig>),
    Unix(UnixListener),
}

impl Listener {
    /// Plain HTTP over TCP.
    pub fn tcp(listener: TcpListener) -> io::Result<Self> {
        Ok(Self {
            address: Address::Tcp(listener.local_addr()?),
            kind: ListenerKind::Tcp(listener),
        })
    }

    /// HTTP over TLS over TCP.
    pub fn tls(listener: TcpListener, config: Arc<TlsConfig>) -> io::Result<Self> {
        Ok(Self {
            address: Address::Tcp(listener.local_addr()?),
            kind: ListenerKind::Tls(listener, config),
        })
    }

    /// Plain HTTP over a Unix socket.
    pub fn unix(listener: UnixListener) -> io::Result<Self> {
        let name = listener.local_addr()?;
        let path = match (name.as_pathname(), name.as_abstract_name()) {
            (Some(path), _) => path.to_owned(),
            (None, name) => format!("@{}", String::from_utf8_lossy(name.unwrap_or_default())).into(),
        };
        Ok(Self {
            address: Address::Unix(path),
            kind: ListenerKind::Unix(listener),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// A listening socket as its acceptor sees it.
pub(super) trait Accept: Send + 'static {
    /// The descriptor that listens.
    type Listener: AsRawFd + Send + 'static;
    /// What accepting yields.
    type Stream: AsRawFd + Send + 'static;
    /// What the connection runs on.
    type Socket: Socket;

    /// Takes a connection out of the queue.
    fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Stream, Peer)>;
    /// Makes the connection's socket.
    fn socket(&self, stream: Registered<Self::Stream>) -> io::Result<Self::Socket>;
    /// The socket, if an answer that nobody asked for can be sent to it at once.
    fn refusable(&self, stream: Registered<Self::Stream>) -> Option<Self::Socket>;
}

/// Plain TCP.
pub(super) struct Tcp;

impl Accept for Tcp {
    type Listener = TcpListener;
    type Stream = TcpStream;
    type Socket = Registered<TcpStream>;

    fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
        listener.accept().map(|(stream, peer)| (stream, Peer::Tcp(peer)))
    }

    fn socket(&self, stream: Registered<TcpStream>) -> io::Result<Self::Socket> {
        // Answers leave in whole writes; waiting for an acknowledgement of the one before helps nobody. A peer
        // that is already gone is found out by the first read.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn refusable(&self, stream: Registered<TcpStream>) -> Option<Self::Socket> {
        Some(stream)
    }
}

/// TLS over TCP.
pub(super) struct TlsTcp(pub(super) Arc<TlsConfig>);

impl Accept for TlsTcp {
    type Listener = TcpListener;
    type Stream = TcpStream;
    type Socket = Tls<Registered<TcpStream>>;

    fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
        Tcp.accept(listener)
    }

    fn socket(&self, stream: Registered<TcpStream>) -> io::Result<Self::Socket> {
        self.0.accept(Tcp.socket(stream)?)
    }

    fn refusable(&self, _stream: Registered<TcpStream>) -> Option<Self::Socket> {
        // There is no answer before a handshake, and no handshake without waiting.
        None
    }
}

/// Unix sockets.
pub(super) struct Unix;

impl Accept for Unix {
    type Listener = UnixListener;
    type Stream = UnixStream;
    type Socket = Registered<UnixStream>;

    fn accept(&self, listener: &UnixListener) -> io::Result<(UnixStream, Peer)> {
        listener.accept().map(|(stream, _)| (stream, Peer::Unix))
    }

    fn socket(&self, stream: Registered<UnixStream>) -> io::Result<Self::Socket> {
        Ok(stream)
    }

    fn refusable(&self, stream: Registered<UnixStream>) -> Option<Self::Socket> {
        Some(stream)
    }
}
