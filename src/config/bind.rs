//! Where to listen, as the user spells it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::values::Rejected;

/// Longest path of a Unix socket, in bytes: what a socket address holds, less the NUL behind it.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// One place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket at that path.
    Unix(PathBuf),
    /// Whatever sockets the service manager passes.
    Systemd,
}

impl Bind {
    /// Whether only this machine can reach it. What the service manager passes is not known here, and does not count.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => match address.ip() {
                // As a listener for both families spells an IPv4 address.
                IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
                IpAddr::V4(ip) => ip.is_loopback(),
            },
            Self::Unix(_) => true,
            Self::Systemd => false,
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(to),
            Self::Unix(path) => write!(to, "unix:{}", path.display()),
            Self::Systemd => to.write_str("systemd"),
        }
    }
}

/// A list of places, with commas between.
pub fn binds(text: &str) -> Result<Vec<Bind>, Rejected> {
    let binds: Vec<Bind> = text
        .split(',')
        .map(|item| bind(item.trim()))
        .collect::<Option<_>>()
        .ok_or(
            "it is a list, with commas, of IP addresses with a port, as 127.0.0.1:8001 or [::1]:8001, of Unix sockets, \
             as unix:/run/floodgate.sock (at most 107 bytes of path), and of `systemd`",
        )?;
    match binds
        .iter()
        .enumerate()
        .find(|(at, bind)| binds[..*at].contains(bind))
    {
        Some((_, twice)) => Err(format!("{twice} is there twice")),
        None => Ok(binds),
    }
}

fn bind(text: &str) -> Option<Bind> {
    if text == "systemd" || text == "fd://" {
        return Some(Bind::Systemd);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let is_path = !path.is_empty() && !path.ends_with('/') && !path.contains('\0');
        return (is_path && path.len() <= UNIX_PATH_BYTES_MAX).then(|| Bind::Unix(path.into()));
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().ok()?;
        return Some(Bind::Tcp((Ipv4Addr::LOCALHOST, port).into()));
    }
    text.parse().ok().map(Bind::Tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_listen_are_spelled_as_users_expect() {
        let tcp = |text: &str| Bind::Tcp(text.parse().unwrap());
        let unix = |path: &str| Bind::Unix(path.into());
        for (text, expected) in [
            ("127.0.0.1:8001", vec![tcp("127.0.0.1:8001")]),
            ("localhost:8001", vec![tcp("127.0.0.1:8001")]),
            ("0.0.0.0:80, [::1]:81", vec![tcp("0.0.0.0:80"), tcp("[::1]:81")]),
            ("unix:/run/a.sock", vec![unix("/run/a.sock")]),
            ("unix:a b.sock,systemd", vec![unix("a b.sock"), Bind::Systemd]),
            ("fd://", vec![Bind::Systemd]),
        ] {
            assert_eq!(binds(text), Ok(expected), "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        for text in [
            "",
            ",",
            "127.0.0.1:1,",
            "unix:",
            "unix:/run/",
            "unix:\0",
            &long,
            "127.0.0.1",
            "localhost:http",
            "example.org:80",
            "[::1]:1,[::1]:1",
            "systemd,fd://",
        ] {
            assert!(binds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_this_machine_alone_can_reach_is_local() {
        for (text, expected) in [
            ("127.0.0.1:1", true),
            ("127.1.2.3:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/run/a.sock", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("[::ffff:10.0.0.1]:1", false),
            ("192.168.1.1:1", false),
            ("systemd", false),
        ] {
            assert_eq!(binds(text).unwrap()[0].is_local(), expected, "{text}");
        }
    }
}
