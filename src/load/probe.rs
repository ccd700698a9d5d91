//! Asks the server a question before and after the load: whether it is there, and how much CPU time it has used.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use super::answer::Reader;
use super::plan::Plan;
use super::wire::Secure;

/// How long connecting, reading or writing may stand still.
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// The metric that tells it, where the server has metrics.
const CPU_METRIC: &str = "process_cpu_seconds_total ";
const READ_BYTES: usize = 16 << 10;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// The first of the addresses that can be connected to, with its handshake done if it has one.
///
/// # Errors
/// What connecting to the last one says.
pub fn reachable(plan: &Plan, addresses: &[SocketAddr], secure: Option<&Secure>) -> io::Result<SocketAddr> {
    let mut failed = io::Error::other("there is no address");
    for address in addresses {
        match connect(plan, *address, secure) {
            Ok(_) => return Ok(*address),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The CPU time that the server has used, if it has metrics and lets us read them.
pub fn server_cpu(plan: &Plan, address: SocketAddr, secure: Option<&Secure>) -> Option<f64> {
    let text = get(plan, address, secure, "/metrics").ok()??;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix(CPU_METRIC))?;
    line.split(' ')
        .next()?
        .parse()
        .ok()
        .filter(|seconds: &f64| seconds.is_finite())
}

/// The body of an answer of 200.
fn get(plan: &Plan, address: SocketAddr, secure: Option<&Secure>, path: &str) -> io::Result<Option<Vec<u8>>> {
    let mut stream = connect(plan, address, secure)?;
    let (prefix, authority) = (&plan.target.prefix, &plan.target.authority);
    let mut request = format!("GET {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    if let Some(key) = &plan.key {
        request += &format!("Authorization: Bearer {}\r\n", key.0);
    }
    stream.write_all((request + "\r\n").as_bytes())?;
    stream.flush()?;
    let (mut reader, mut bytes) = (Reader::default(), Vec::new());
    let mut chunk = [0; READ_BYTES];
    loop {
        let size = stream.read(&mut chunk)?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..size]);
        if let Some(answer) = reader.read(&bytes).map_err(|error| io::Error::other(error.0))? {
            return Ok((answer.status == 200).then(|| bytes[answer.body].to_vec()));
        }
    }
}

fn connect(plan: &Plan, address: SocketAddr, secure: Option<&Secure>) -> io::Result<Box<dyn Stream>> {
    let patience = plan.timeout.min(PATIENCE_MAX);
    let mut socket = TcpStream::connect_timeout(&address, patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    let Some(secure) = secure else {
        return Ok(Box::new(socket));
    };
    let mut session =
        ClientConnection::new(Arc::clone(&secure.config), secure.name.clone()).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(Box::new(StreamOwned::new(session, socket)))
}
