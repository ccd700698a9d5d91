//! By which name a client on loopback has called.
//!
//! What is open to this machine is open to every browser on it, and a browser keeps a page from the answers of other
//! origins only. A page's own name is its origin, and whoever owns the name may have it point to 127.0.0.1 when the page has
//! been loaded (DNS rebinding). Such a request has that name as its Host, which no page can change. So only those are believed
//! that nobody can own.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::http::Request;

/// Whether the Host is an address or a name for every machine itself. None at all, which HTTP/1.0 allows, no browser sends.
pub fn is_of_no_page(request: &Request<'_>) -> bool {
    request.header("host").is_none_or(is_nobodys)
}

/// An IP address, `localhost`, or a name below that (RFC 6761), with or without a port, which is known to be one.
fn is_nobodys(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    if let Some(rest) = host.strip_prefix('[') {
        let literal = rest.split_once(']').map(|(literal, _)| literal);
        return literal.is_some_and(|literal| literal.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_can_own_are_believed() {
        for host in [
            "localhost",
            "localhost:8001",
            "LocalHost.:8001",
            "dashboard.localhost",
            "127.0.0.1",
            "127.0.0.1:8001",
            "192.0.2.7:80",
            "[::1]",
            "[::1]:8001",
        ] {
            assert!(is_nobodys(host.as_bytes()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8001",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io:8001",
            "[evil.example]",
            "[::1",
            "2130706433",
            "0x7f.1",
            "machine",
            "",
            "\u{e9}",
        ] {
            assert!(!is_nobodys(host.as_bytes()), "{host}");
        }
    }
}
