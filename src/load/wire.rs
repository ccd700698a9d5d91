//! A connection's socket, plain or TLS, that never blocks.
//!
//! Sockets are watched edge-triggered, for reading and writing, from their making on: the epoll set is never changed for them,
//! and a burst costs one write and one read. So reading goes on until there is nothing left. A plain read that comes back short says that
//! (what arrives later is an edge of its own), and saves the call that would say it again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

/// What TLS needs to begin a session.
#[derive(Clone)]
pub struct Secure {
    /// Whom to trust.
    pub config: Arc<ClientConfig>,
    /// Whom to expect.
    pub name: ServerName<'static>,
}

/// A socket.
pub struct Wire {
    socket: TcpStream,
    session: Option<Box<ClientConnection>>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
    sent: usize,
}

/// What was read.
pub enum Got {
    /// So many bytes, and perhaps there are more.
    Some(usize),
    /// So many bytes, and no more for now.
    Last(usize),
    /// The peer has ended the connection.
    End,
}

impl Wire {
    /// Begins to connect.
    ///
    /// # Errors
    /// What making the socket says.
    pub fn connect(address: SocketAddr, secure: Option<&Secure>) -> io::Result<Wire> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking().cloexec(),
            None,
        )?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
            _ => {}
        }
        let session = match secure {
            None => None,
            Some(secure) => {
                let mut session = ClientConnection::new(Arc::clone(&secure.config), secure.name.clone())
                    .map_err(io::Error::other)?;
                // A burst is taken as a whole; it is bounded by the plan.
                session.set_buffer_limit(None);
                Some(Box::new(session))
            }
        };
        Ok(Wire {
            socket: socket.into(),
            session,
            unsent: Vec::new(),
            sent: 0,
        })
    }

    /// Its descriptor, to be watched.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Goes on with connecting and with the handshake: whether it is ready to send.
    ///
    /// # Errors
    /// Why it cannot be connected.
    pub fn establish(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            other => other?,
        };
        let Some(session) = &mut self.session else {
            return Ok(true);
        };
        while session.is_handshaking() {
            while session.wants_write() {
                if would_block(|| session.write_tls(&mut self.socket))?.is_none() {
                    return Ok(false);
                }
            }
            if !session.is_handshaking() {
                break;
            }
            match would_block(|| session.read_tls(&mut self.socket))? {
                None => return Ok(false),
                Some(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Some(_) => {
                    let processed = session.process_new_packets();
                    if let Err(error) = processed {
                        // The alert tells the server why.
                        session.write_tls(&mut self.socket).ok();
                        return Err(io::Error::other(error));
                    }
                }
            }
        }
        self.flush()?;
        Ok(true)
    }

    /// Sends bytes; what the socket does not take goes when it can, by [`Wire::flush`].
    ///
    /// # Errors
    /// The connection is broken.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            session.writer().write_all(bytes)?;
            return self.flush();
        }
        debug_assert_eq!(self.unsent.len(), self.sent, "a burst follows the one before it");
        let taken = would_block(|| self.socket.write(bytes))?.unwrap_or(0);
        if taken < bytes.len() {
            self.unsent.clear();
            self.unsent.extend_from_slice(&bytes[taken..]);
            self.sent = 0;
            // Only a write that takes nothing makes sure that its end is told.
            self.flush()?;
        }
        Ok(())
    }

    /// Sends what is left of a burst, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is broken.
    #[inline]
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            while session.wants_write() && would_block(|| session.write_tls(&mut self.socket))?.is_some() {}
            return Ok(());
        }
        while self.sent < self.unsent.len() {
            match would_block(|| self.socket.write(&self.unsent[self.sent..]))? {
                None => return Ok(()),
                Some(taken) => self.sent += taken,
            }
        }
        Ok(())
    }

    /// Reads what has come, as far as there is room for it.
    ///
    /// # Errors
    /// The connection is broken.
    #[inline]
    pub fn read(&mut self, to: &mut [u8]) -> io::Result<Got> {
        let Some(session) = &mut self.session else {
            return Ok(match would_block(|| self.socket.read(to))? {
                None => Got::Last(0),
                Some(0) => Got::End,
                Some(size) if size < to.len() => Got::Last(size),
                Some(size) => Got::Some(size),
            });
        };
        loop {
            match session.reader().read(to) {
                Ok(0) => return Ok(Got::End),
                Ok(size) => return Ok(Got::Some(size)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match would_block(|| session.read_tls(&mut self.socket))? {
                None => return Ok(Got::Last(0)),
                // Without the end that TLS has: it may have been cut off.
                Some(0) => return Ok(Got::End),
                Some(_) => {
                    session.process_new_packets().map_err(io::Error::other)?;
                }
            }
        }
    }
}

/// Calls until it is not interrupted; `None`: not now.
#[inline]
fn would_block(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(size) => return Ok(Some(size)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
