//! TLS 1.2 and 1.3 on a socket, and the certificate it begins with.
//!
//! **Owner.** A connection's coroutine owns its [`Tls`]; all share a [`TlsConfig`], whose lock is held for the copy of a
//! pointer at connect and at reload. The thread owns a piece of scratch memory that a single `read` or `write` works
//! in, so a connection between two bursts keeps nothing but the state of its session.
//!
//! **Invariants**
//! - `read` holds the contract of [`Socket`]: it comes back short only when every whole record has been opened *and* the
//!   socket is dry. `WouldBlock` is said only when the socket has said it, as no event announces what is left in a
//!   buffer of ours.
//! - An end that was found together with data (close_notify, the end of the stream, a broken record) gives no event of its
//!   own: the next `wait` announces it.
//! - A `write` is accepted when its last sealed byte is in the socket. Until then it is `WouldBlock`, and what is
//!   sealed waits in `unsent`: time limits on writing see the peer, not a buffer. As it shrinks they see that the peer reads,
//!   however slowly, long before the write is through.
//! - Handshakes happen within `read`, which says `WouldBlock` until there is data: the time limit of a head bounds them.
//!
//! **Bounds.** What cannot be opened yet: 32 KiB, twice the largest record. What is unsent besides a write: 64 KiB, more
//! than any handshake has; a peer that provokes more without reading is cut off. What was opened and not taken: a record, or
//! what was received during a blocked write.
//!
//! **When the peer is no TLS client**, it gets an alert and the end; that is worth a debug message.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ProtocolVersion, ServerConfig};

use super::socket::{Events, Socket};

/// The largest record on the wire: 16 KiB, what may be added to it, and its header.
const RECORD_BYTES_MAX: usize = (16 << 10) + 256 + 5;
/// Most ciphertext that may wait for the rest of its record or handshake message.
const UNOPENED_BYTES_MAX: usize = 32 << 10;
/// Most ciphertext that waits for the socket, besides a write.
const UNSENT_BYTES_MAX: usize = 64 << 10;
/// Most plaintext sealed by one write: what a burst's answers are flushed at.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// What sealing adds to a write at the most: header, explicit nonce, type and tag for each record of 16 KiB, and a key
/// update.
const SEALING_BYTES_MAX: usize = 1 << 10;
/// Room for the largest write behind what is unsent, and for a read of a full input buffer with a record to spare.
const SCRATCH_BYTES: usize = UNSENT_BYTES_MAX + WRITE_BYTES_MAX + SEALING_BYTES_MAX;

thread_local! {
    /// Borrowed within one `read` or `write`, neither of which parks the coroutine.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Why there is no certificate to begin with.
#[derive(Debug)]
pub enum TlsError {
    /// The file of the certificate cannot be read or used.
    Certificate(String),
    /// The file of the key cannot be read or used, or belongs to another certificate.
    Key(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Certificate(text) | Self::Key(text)) = self;
        to.write_str(text)
    }
}

impl std::error::Error for TlsError {}

/// What connections begin with: certificate, key, and the secret that resumes sessions. Can be replaced while
/// connections run.
#[derive(Debug)]
pub struct TlsConfig {
    cert: PathBuf,
    key: PathBuf,
    current: Mutex<Arc<ServerConfig>>,
}

impl TlsConfig {
    /// Reads a certificate chain and its key, both PEM.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: Mutex::new(read_config(cert, key)?),
        })
    }

    /// Reads the files again, for connections to come; those that run go on with what they began with. After an error
    /// everything stays as it is.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read_config(&self.cert, &self.key)?;
        *self.current() = config;
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Arc<ServerConfig>> {
        // Nothing that can panic happens under the lock.
        self.current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A new connection's TLS on `socket`.
    pub(super) fn accept<S: Socket>(&self, socket: S) -> io::Result<Tls<S>> {
        let config = self.current().clone();
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Tls::new(socket, session))
    }
}

fn read_config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let certificate =
        |error: &dyn fmt::Display| TlsError::Certificate(format!("{}: {error}", cert.display()));
    let private_key = |error: &dyn fmt::Display| TlsError::Key(format!("{}: {error}", key.display()));
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| certificate(&error))?;
    if chain.is_empty() {
        return Err(certificate(&"there is no certificate in it (PEM)"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => private_key(&"there is no private key in it (PEM)"),
        error => private_key(&error),
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| match error {
            rustls::Error::InvalidCertificate(_) => certificate(&error),
            rustls::Error::InconsistentKeys(_) => private_key(&"it does not belong to the certificate"),
            error => private_key(&error),
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sessions are resumed by tickets, which cost no memory. A new certificate comes with a new secret for them, so that
    // every client gets to see it.
    config.ticketer = ring::Ticketer::new().map_err(|error| private_key(&error))?;
    Ok(Arc::new(config))
}

/// How the peer's side of the session ended.
#[derive(Debug)]
enum End {
    /// By close_notify, or by the end of the stream: HTTP's own framing tells whether something is missing.
    Closed,
    /// What came is not TLS, or not of this session.
    Broken(rustls::Error),
}

/// Bytes that wait, taken from the front.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// INVARIANT: `start <= bytes.len()`; both are zero when there is nothing.
    start: usize,
}

impl Waiting {
    fn get(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.bytes.len() {
            // Seldom needed: the memory goes back at once.
            *self = Self::default();
        }
    }

    fn take_into(&mut self, to: &mut [u8]) -> usize {
        let count = self.get().len().min(to.len());
        to[..count].copy_from_slice(&self.get()[..count]);
        self.consume(count);
        count
    }
}

/// TLS on a socket, as a socket.
pub(super) struct Tls<S: Socket> {
    socket: S,
    session: UnbufferedServerConnection,
    /// Ciphertext that cannot be opened yet, or for which there was no room.
    received: Vec<u8>,
    queues: Queues,
    /// Plaintext of the write that is under way: sealed, and in part still unsent.
    sealed: usize,
    /// The last read of the socket came back short, and nothing has happened since.
    is_dry: bool,
    /// The end was told, by an event or by a read.
    end_told: bool,
    /// close_notify was sent.
    is_shut: bool,
}

/// What a session puts out while it is advanced.
#[derive(Debug, Default)]
struct Queues {
    /// Opened, and not taken by the connection.
    opened: Waiting,
    /// Ciphertext for the socket.
    unsent: Waiting,
    end: Option<End>,
}

/// What the session wants after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Another step.
    Again,
    /// More ciphertext, or something to seal.
    Rest,
}

impl Queues {
    /// Takes what a step of the session has put out, plaintext into `to` from `count` on. Answers also how much more
    /// ciphertext is used up.
    fn take(
        &mut self,
        state: Result<ConnectionState<'_, '_, ServerConnectionData>, rustls::Error>,
        to: &mut [u8],
        count: &mut usize,
    ) -> (Step, usize) {
        let mut used = 0;
        match state {
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(record) = records.next_record() {
                    match record {
                        Ok(record) => {
                            used += record.discard;
                            let fits = record.payload.len().min(to.len() - *count);
                            let (now, later) = record.payload.split_at(fits);
                            to[*count..][..fits].copy_from_slice(now);
                            *count += fits;
                            self.opened.push(later);
                        }
                        Err(error) => self.end = Some(End::Broken(error)),
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => self.encode(data),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => self.end = Some(End::Closed),
            Ok(
                ConnectionState::WriteTraffic(_)
                | ConnectionState::BlockedHandshake
                | ConnectionState::Closed,
            ) => {
                return (Step::Rest, used);
            }
            // Early data is not offered.
            Ok(_) => self.end = Some(End::Broken(rustls::Error::General("unexpected state".into()))),
            Err(error) => self.end = Some(End::Broken(error)),
        }
        (Step::Again, used)
    }

    /// Appends a message of the session to what is unsent.
    fn encode(&mut self, mut data: EncodeTlsData<'_, ServerConnectionData>) {
        let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
            return;
        };
        let start = self.unsent.bytes.len();
        self.unsent.bytes.resize(start + size.required_size, 0);
        data.encode(&mut self.unsent.bytes[start..])
            .expect("the room is what was asked for");
        if self.unsent.get().len() > UNSENT_BYTES_MAX {
            self.unsent = Waiting::default();
            self.end = Some(End::Broken(rustls::Error::General(
                "the peer does not read".into(),
            )));
        }
    }
}

impl<S: Socket> Tls<S> {
    fn new(socket: S, session: UnbufferedServerConnection) -> Self {
        Self {
            socket,
            session,
            received: Vec::new(),
            queues: Queues::default(),
            sealed: 0,
            is_dry: false,
            end_told: false,
            is_shut: false,
        }
    }

    /// Opens records until `to` is full or there is no whole one. Answers how much ciphertext is used up, and how much
    /// plaintext there is.
    fn open(&mut self, incoming: &mut [u8], to: &mut [u8]) -> (usize, usize) {
        let (mut used, mut count) = (0, 0);
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.session.process_tls_records(&mut incoming[used..]);
            let (step, more) = self.queues.take(state, to, &mut count);
            used += discard + more;
            if step == Step::Rest || self.queues.end.is_some() || count == to.len() {
                return (used, count);
            }
        }
    }

    /// Reads with `scratch`, behind `count` bytes that are in `to` already. Not inlined: where the thread's scratch lies
    /// must not be remembered beyond this call, after which the coroutine may run on another thread.
    #[inline(never)]
    fn read_records(&mut self, to: &mut [u8], mut count: usize) -> io::Result<usize> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut filled = self.received.len();
            scratch[..filled].copy_from_slice(&self.received);
            self.received = Vec::new();
            let read = loop {
                if filled > 0 {
                    let (used, opened) = self.open(&mut scratch[..filled], &mut to[count..]);
                    count += opened;
                    scratch.copy_within(used..filled, 0);
                    filled -= used;
                }
                if self.queues.end.is_some() || count == to.len() || (count > 0 && self.is_dry) {
                    break Ok(());
                }
                if filled > UNOPENED_BYTES_MAX {
                    self.queues.end = Some(End::Broken(rustls::Error::PeerSentOversizedRecord));
                    break Ok(());
                }
                if let Err(error) = self.send_handshake() {
                    break Err(error);
                }
                // About as much as there is room for: what does not fit has to be kept.
                let asked = (to.len() - count + RECORD_BYTES_MAX).min(scratch.len() - filled);
                match self.socket.read(&mut scratch[filled..][..asked]) {
                    Ok(0) => self.queues.end = Some(End::Closed),
                    Ok(got) => {
                        self.is_dry = got < asked;
                        filled += got;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
            };
            self.received.extend_from_slice(&scratch[..filled]);
            match read {
                // A failure shows again; what was read before it comes first.
                Err(error) if count == 0 => Err(error),
                _ => Ok(()),
            }
        })?;
        if let Some(End::Broken(_)) = self.queues.end {
            self.send_alert();
        }
        match count {
            0 => self.tell_end(),
            _ => Ok(count),
        }
    }

    fn tell_end(&mut self) -> io::Result<usize> {
        self.end_told = true;
        match &self.queues.end {
            Some(End::Broken(error)) => Err(io::Error::new(io::ErrorKind::InvalidData, error.clone())),
            _ => Ok(0),
        }
    }

    /// Sends what the peer waits for. What TLS 1.3 has to say after the handshake (tickets) leaves with the first answer.
    fn send_handshake(&mut self) -> io::Result<()> {
        let can_wait = self.session.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && !self.session.is_handshaking();
        if can_wait {
            return Ok(());
        }
        match self.send_unsent() {
            // `wait` sees to it that this is tried again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            sent => sent,
        }
    }

    /// Sends what is unsent, all of it or up to `WouldBlock`.
    fn send_unsent(&mut self) -> io::Result<()> {
        while !self.queues.unsent.is_empty() {
            match self.socket.write(self.queues.unsent.get()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.queues.unsent.consume(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells a peer that was not understood why the connection ends, as far as that can be done without waiting.
    fn send_alert(&mut self) {
        // Only for what it has to say: a session that has failed must not look at records again.
        while self.session.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(data)) = self.session.process_tls_records(&mut []).state
        {
            self.queues.encode(data);
        }
        // The session has nothing more to say.
        self.is_shut = true;
        let _ = self.send_unsent();
    }

    /// Has the session seal something.
    fn seal(
        &mut self,
        seal: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        let mut used = 0;
        let sealed = loop {
            if let Some(End::Broken(_)) = self.queues.end {
                break Err(io::ErrorKind::NotConnected.into());
            }
            let UnbufferedStatus { discard, state, .. } =
                self.session.process_tls_records(&mut self.received[used..]);
            used += discard;
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
                break seal(&mut traffic).map_err(io::Error::other);
            }
            // The session must have seen everything; what it opens meanwhile is kept for the next read.
            let (step, more) = self.queues.take(state, &mut [], &mut 0);
            used += more;
            if step == Step::Rest {
                break Err(io::ErrorKind::NotConnected.into());
            }
        };
        self.received.drain(..used);
        sealed
    }

    /// Seals the front of `from` and sends it, behind what is unsent. Not inlined for the reason of `read_records`.
    #[inline(never)]
    fn seal_and_send(&mut self, from: &[u8]) -> io::Result<()> {
        let from = &from[..from.len().min(WRITE_BYTES_MAX)];
        SCRATCH.with_borrow_mut(|scratch| {
            // One write for both.
            let (before, room) = scratch.split_at_mut(UNSENT_BYTES_MAX);
            let end = UNSENT_BYTES_MAX + self.seal(|traffic| traffic.encrypt(from, room))?;
            let unsent = std::mem::take(&mut self.queues.unsent);
            let start = UNSENT_BYTES_MAX - unsent.get().len();
            before[start..].copy_from_slice(unsent.get());
            self.sealed = from.len();
            let mut sent = start;
            loop {
                match self.socket.write(&scratch[sent..end]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) if sent + count == end => return Ok(()),
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.queues.unsent.push(&scratch[sent..end]);
                        return Err(error);
                    }
                }
            }
        })
    }

    /// Sends close_notify, once, as far as that can be done without waiting.
    fn close(&mut self) {
        if std::mem::replace(&mut self.is_shut, true) || self.session.is_handshaking() {
            return;
        }
        let mut alert = [0; 256];
        if let Ok(count) = self.seal(|traffic| traffic.queue_close_notify(&mut alert)) {
            self.queues.unsent.push(&alert[..count]);
            let _ = self.send_unsent();
        }
    }
}

impl<S: Socket> Socket for Tls<S> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.queues.opened.take_into(to);
        if count > 0 && (count == to.len() || self.queues.end.is_some()) {
            return Ok(count);
        }
        if self.queues.end.is_some() {
            return self.tell_end();
        }
        self.read_records(to, count)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self.sealed {
            0 => self.seal_and_send(from)?,
            _ => self.send_unsent()?,
        }
        let count = std::mem::take(&mut self.sealed);
        assert!(
            count <= from.len(),
            "a refused write is repeated with the same bytes"
        );
        Ok(count)
    }

    fn unsent(&self) -> usize {
        self.queues.unsent.get().len()
    }

    fn wait(&mut self) -> Events {
        if self.queues.end.is_some() && !std::mem::replace(&mut self.end_told, true) {
            return Events::ENDED;
        }
        let events = self.socket.wait();
        if events.worth_reading() {
            self.is_dry = false;
        }
        if self.queues.unsent.is_empty() {
            events
        } else {
            // A read sends it.
            events.and_read()
        }
    }

    fn shut_write(&mut self) -> io::Result<()> {
        self.close();
        self.socket.shut_write()
    }

    fn is_hung_up(&self) -> bool {
        self.queues.end.is_some() || self.socket.is_hung_up()
    }
}

impl<S: Socket> Drop for Tls<S> {
    fn drop(&mut self) {
        // Without it some clients take the end for an attack.
        self.close();
    }
}

#[cfg(test)]
mod tests;
