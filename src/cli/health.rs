//! `floodgate health`: asks a server whether it can store events, for whoever has no other client: a container's health
//! check, a script.
//!
//! One request over a socket of the standard library. It speaks no TLS: of a server that does, a Unix socket beside
//! (`METRICS_BIND=0.0.0.0:8443,unix:/run/floodgate.sock`) is asked.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command};

use super::{FAILED, USAGE, complain, given, setting_arg};
use crate::config::settings::find;
use crate::config::{Bind, binds};

/// Where a server tells how it is.
const PATH: &str = "/api/metrics/behavior/health";
/// How long the whole exchange may take. A server that is well answers within milliseconds, also while its disk hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read: health's details have some 2 KiB.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Its arguments.
pub fn command() -> Command {
    Command::new("health")
        .about("Ask a server whether it can store events: 0 when it can, 1 when it cannot or does not answer")
        .arg(Arg::new("url").value_name("URL").help(
            "`http://HOST:PORT`, with or without a path, or `unix:PATH` [default: the first place in METRICS_BIND, a Unix \
             socket before others]",
        ))
        .args(["METRICS_BIND", "METRICS_TLS_CERT"].map(|name| setting_arg(find(name).expect("it is a setting"))))
}

/// Asks, prints the answer, and tells by the exit code.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let place = match matches.get_one::<String>("url") {
        Some(url) => Place::parse(url),
        None => Place::of_settings(matches),
    };
    let place = match place {
        Ok(place) => place,
        Err(error) => {
            complain("health", error);
            return ExitCode::from(USAGE);
        }
    };
    match place.ask(Instant::now() + PATIENCE) {
        Ok(answer) if answer.status == 200 => {
            // Whoever does not listen has the exit code.
            writeln!(io::stdout(), "{}", answer.body.trim_end()).ok();
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            complain(
                "health",
                format_args!("{place} answers {}: {}", answer.status, answer.body.trim_end()),
            );
            ExitCode::from(FAILED)
        }
        Err(error) => {
            complain("health", format_args!("{place} does not answer: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Where to ask.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Tcp { authority: String, path: String },
    Unix(PathBuf),
}

struct Answer {
    status: u16,
    body: String,
}

impl Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Tcp { authority, .. } => f.write_str(authority),
            Place::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Place {
    fn parse(url: &str) -> Result<Place, String> {
        if let Some(path) = url.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Place::Unix(path.into()));
        }
        if url.starts_with("https:") {
            return Err(format!(
                "{url}: TLS is not spoken here; ask a Unix socket that METRICS_BIND has beside"
            ));
        }
        let allowed = || {
            format!(
                "{url:?} is not allowed; it is `http://HOST:PORT`, with or without a path, or `unix:PATH`"
            )
        };
        let rest = url.strip_prefix("http://").ok_or_else(allowed)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || authority.contains(['@', '?', '#']) || !is_plain(rest) {
            return Err(allowed());
        }
        let has_port = !authority.ends_with(']') && authority.contains(':');
        Ok(Place::Tcp {
            authority: if has_port {
                authority.to_owned()
            } else {
                format!("{authority}:80")
            },
            path: if path.len() > 1 {
                path.to_owned()
            } else {
                PATH.to_owned()
            },
        })
    }

    /// Where a server with these settings listens.
    fn of_settings(matches: &ArgMatches) -> Result<Place, String> {
        let setting = find("METRICS_BIND").expect("it is a setting");
        let text = given(matches, setting.variable).unwrap_or_else(|| setting.default.to_owned());
        let binds =
            binds(&text).map_err(|allowed| format!("METRICS_BIND: {text:?} is not allowed; {allowed}"))?;
        let unix = binds.iter().find_map(|bind| match bind {
            Bind::Unix(path) => Some(Place::Unix(path.clone())),
            _ => None,
        });
        if let Some(place) = unix {
            return Ok(place);
        }
        let tcp = binds.iter().find_map(|bind| match bind {
            Bind::Tcp(address) if address.port() > 0 => Some(*address),
            _ => None,
        });
        let address =
            tcp.ok_or_else(|| format!("METRICS_BIND={text} names no place that could be asked: give a URL"))?;
        if given(matches, "METRICS_TLS_CERT").is_some() {
            return Err(format!(
                "{address} speaks TLS, which this command does not: add a Unix socket to METRICS_BIND, as `{text},unix:/run/floodgate.sock`"
            ));
        }
        Ok(Place::Tcp {
            authority: reachable(address).to_string(),
            path: PATH.into(),
        })
    }

    fn ask(&self, deadline: Instant) -> io::Result<Answer> {
        match self {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(left(deadline)?))?;
                let wait = |stream: &UnixStream| stream.set_read_timeout(Some(left(deadline)?));
                exchange(stream, wait, "localhost", PATH)
            }
            Place::Tcp { authority, path } => {
                let stream = connect(authority, deadline)?;
                stream.set_write_timeout(Some(left(deadline)?))?;
                let wait = |stream: &TcpStream| stream.set_read_timeout(Some(left(deadline)?));
                exchange(stream, wait, authority, path)
            }
        }
    }
}

/// An address that listens everywhere is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn connect(authority: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// What is left until the deadline; an error when nothing is.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(late());
    }
    Ok(left)
}

fn late() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("nothing came within {PATIENCE:?}"),
    )
}

/// Sends the request and reads the answer to its end; `wait` sets how long the next read may take.
fn exchange<S: Read + Write>(
    mut stream: S,
    wait: impl Fn(&S) -> io::Result<()>,
    host: &str,
    path: &str,
) -> io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while (answer.len() as u64) < ANSWER_BYTES_MAX {
        wait(&stream)?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(size) => answer.extend_from_slice(&chunk[..size]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) => return Err(error),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what comes is no HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(authority: &str, path: &str) -> Result<Place, String> {
        Ok(Place::Tcp {
            authority: authority.into(),
            path: path.into(),
        })
    }

    #[test]
    fn urls_are_read() {
        assert_eq!(Place::parse("http://floodgate:8001"), tcp("floodgate:8001", PATH));
        assert_eq!(
            Place::parse("http://floodgate:8001/"),
            tcp("floodgate:8001", PATH)
        );
        assert_eq!(Place::parse("http://[::1]/up"), tcp("[::1]:80", "/up"));
        assert_eq!(Place::parse("http://localhost"), tcp("localhost:80", PATH));
        assert_eq!(
            Place::parse("unix:/run/a.sock"),
            Ok(Place::Unix("/run/a.sock".into()))
        );
        for wrong in [
            "",
            "localhost:8001",
            "http://",
            "http:///x",
            "ftp://x",
            "unix:",
            "http://a@b",
            "http://a b",
        ] {
            let error = Place::parse(wrong).unwrap_err();
            assert!(error.contains("`http://HOST:PORT`"), "{error}");
        }
        assert!(
            Place::parse("https://localhost")
                .unwrap_err()
                .contains("Unix socket")
        );
    }

    #[test]
    fn without_a_url_the_settings_say_where() {
        let place = |arguments: &[&str]| {
            let line = ["health"].iter().chain(arguments);
            Place::of_settings(&command().try_get_matches_from(line).unwrap())
        };
        assert_eq!(place(&["--bind", "0.0.0.0:8002"]), tcp("127.0.0.1:8002", PATH));
        assert_eq!(place(&["--bind", "[::]:8002"]), tcp("[::1]:8002", PATH));
        assert_eq!(
            place(&["--bind", "10.0.0.1:8002,unix:a.sock"]),
            Ok(Place::Unix("a.sock".into()))
        );
        for (arguments, told) in [
            (&["--bind", "systemd"][..], "give a URL"),
            (&["--bind", "127.0.0.1:0"], "give a URL"),
            (&["--bind", "8001"], "METRICS_BIND"),
            (
                &["--bind", "0.0.0.0:443", "--tls-cert", "c.pem"],
                "add a Unix socket",
            ),
        ] {
            let error = place(arguments).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn an_answer_that_never_ends_is_read_up_to_its_bound() {
        struct Endless(&'static [u8]);
        impl Read for Endless {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    to.fill(b' ');
                    return Ok(to.len());
                }
                self.0.read(to)
            }
        }
        impl Write for Endless {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let asked = exchange(Endless(b"HTTP/1.1 503 No\r\n\r\nwhy"), |_| Ok(()), "h", "/");
        let answer = asked.unwrap();
        assert_eq!((answer.status, answer.body.trim_end()), (503, "why"));
        for no_http in [&b"SSH-2.0-x\r\n"[..], b"HTTP/1.1 abc", b"HTTP/1."] {
            assert!(exchange(Endless(no_http), |_| Ok(()), "h", "/").is_err());
        }
    }
}
