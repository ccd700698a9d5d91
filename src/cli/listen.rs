//! Binding what `METRICS_BIND` names, and adopting the sockets that the service manager passes.
//!
//! Runs on the main thread, before connections are accepted. What is bound listens already: who connects waits in the
//! queue until the acceptors run.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::config::{Bind, Config};
use crate::http::{Address, Listener, TlsConfig};

/// Who may connect to a Unix socket: the user and the group. A reverse proxy gets in by the group, and strangers, for whom
/// the read side would be open, do not.
const UNIX_SOCKET_MODE: u32 = 0o660;

/// Sockets that listen.
pub struct Bound {
    /// Each with an acceptor of its own.
    pub listeners: Vec<Listener>,
    /// Unix sockets' files, which are ours to remove at the end.
    pub files: Vec<SocketFile>,
}

/// Binds everything that the settings name. `passed` are the sockets of the service manager.
///
/// # Errors
/// A sentence that names the place.
pub fn bind(config: &Config, tls: Option<&Arc<TlsConfig>>, passed: ListenFd) -> Result<Bound, String> {
    let tcp = |listener| match tls {
        Some(tls) => Listener::tls(listener, Arc::clone(tls)),
        None => Listener::tcp(listener),
    };
    let mut bound = Bound {
        listeners: Vec::new(),
        files: Vec::new(),
    };
    let default_only = [Bind::Systemd];
    let binds = match passed.len() {
        1.. if config.bind_is_default => &default_only[..],
        _ => &config.bind,
    };
    if passed.len() > 0 && !binds.contains(&Bind::Systemd) {
        tracing::warn!(
            sockets = passed.len(),
            "sockets were passed by the service manager and are not used: METRICS_BIND does not name `systemd`"
        );
    }
    let mut passed = Some(passed);
    for place in binds {
        let listeners = match place {
            Bind::Tcp(address) => {
                // Alone `[::]:80` takes IPv4 too; beside `0.0.0.0:80` it must not.
                let only_v6 = binds.iter().any(
                    |other| matches!(other, Bind::Tcp(other) if other.is_ipv4() && other.port() == address.port()),
                );
                bind_tcp(*address, only_v6, config).and_then(|sockets| sockets.into_iter().map(tcp).collect())
            }
            Bind::Unix(path) => bind_unix(path, config).and_then(|(listener, file)| {
                bound.files.push(file);
                Ok(vec![Listener::unix(listener)?])
            }),
            // `METRICS_BIND` names it once.
            Bind::Systemd => adopt(passed.take().unwrap_or_else(ListenFd::empty), tcp),
        };
        bound
            .listeners
            .extend(listeners.map_err(|error| format!("cannot listen on {place}: {error}"))?);
    }
    Ok(bound)
}

/// What is listened on, spelled as the setting would be.
pub fn places(listeners: &[Listener]) -> Vec<Bind> {
    let place = |listener: &Listener| match listener.address() {
        Address::Tcp(address) => Bind::Tcp(*address),
        Address::Unix(path) => Bind::Unix(path.clone()),
    };
    listeners.iter().map(place).collect()
}

/// As many sockets for the address as there are to be acceptors; the kernel spreads connections over them.
fn bind_tcp(mut address: SocketAddr, only_v6: bool, config: &Config) -> io::Result<Vec<TcpListener>> {
    let mut sockets: Vec<Socket> = Vec::new();
    for _ in 0..config.acceptors {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // So that a restart does not wait for the old connections to be forgotten.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && only_v6 {
            socket.set_only_v6(true)?;
        }
        match sockets.first() {
            // Shared only from here on: the first bind must fail when another process listens, even one that would share.
            None => {
                socket.bind(&address.into())?;
                socket.set_reuse_port(config.acceptors > 1)?;
                if let Some(chosen) = socket.local_addr()?.as_socket() {
                    address = chosen;
                }
            }
            Some(_) => {
                socket.set_reuse_port(true)?;
                socket.bind(&address.into())?;
            }
        }
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(backlog(config))?;
    }
    Ok(sockets.into_iter().map(TcpListener::from).collect())
}

fn backlog(config: &Config) -> i32 {
    i32::try_from(config.backlog).unwrap_or(i32::MAX)
}

fn bind_unix(path: &Path, config: &Config) -> io::Result<(UnixListener, SocketFile)> {
    let name = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&name) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &name)?;
            socket.bind(&name)?;
        }
        bound => bound?,
    }
    let file = SocketFile::new(path)?;
    // Before it listens: until then nobody can connect, whatever the mode is.
    fs::set_permissions(path, Permissions::from_mode(UNIX_SOCKET_MODE))?;
    socket.listen(backlog(config))?;
    Ok((socket.into(), file))
}

/// Removes a socket that a process left behind. One on which somebody listens, and any other kind of file, stays.
fn remove_stale(path: &Path, name: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        let text = "there is a file of that name, and it is not a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener whose queue is full must not hold up the start.
    probe.set_nonblocking(true)?;
    match probe.connect(name) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => {
            let text = "another process listens there";
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

/// The file of a Unix socket, removed on drop unless another one has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: Self::identity(path)?,
        })
    }

    fn identity(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // What cannot be removed is found to be stale by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn adopt(
    mut passed: ListenFd,
    tcp: impl Fn(TcpListener) -> io::Result<Listener>,
) -> io::Result<Vec<Listener>> {
    if passed.len() == 0 {
        let text = "the service manager passed no socket (LISTEN_FDS, LISTEN_PID)";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    (0..passed.len())
        .map(|at| adopt_one(&mut passed, at, &tcp))
        .collect()
}

fn adopt_one(
    passed: &mut ListenFd,
    at: usize,
    tcp: impl Fn(TcpListener) -> io::Result<Listener>,
) -> io::Result<Listener> {
    let wrong = |kind: &str| {
        let text = format!("socket {at} of those passed is {kind}");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let (is_listener, listener) = match passed.take_tcp_listener(at) {
        Ok(Some(socket)) => (SockRef::from(&socket).is_listener()?, tcp(socket)?),
        // Left in its place: it is no TCP socket.
        _ => match passed.take_unix_listener(at) {
            Ok(Some(socket)) => (SockRef::from(&socket).is_listener()?, Listener::unix(socket)?),
            _ => return Err(wrong("neither a TCP nor a Unix stream socket")),
        },
    };
    if is_listener {
        Ok(listener)
    } else {
        Err(wrong("not listening (`Accept=yes` is not supported)"))
    }
}
