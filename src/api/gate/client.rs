//! Whose request it is: the peer's address, or what a trusted proxy says of it.

use std::net::{IpAddr, SocketAddr};

use crate::config::access::Proxies;
use crate::http::Request;

/// The address that a request comes from; `None` is a process of this machine behind a Unix socket.
///
/// `X-Forwarded-For` is believed as far as it was written by proxies that are trusted: from its end, the first address that
/// is not one of theirs. What stands before that anybody may have written. `Forwarded` is not read: the common
/// proxies do not send it, and a client that does would be believed through them.
pub fn client(peer: Option<IpAddr>, request: &Request<'_>, proxies: &Proxies) -> Option<IpAddr> {
    let mut client = peer;
    if proxies.is_empty() || !proxies.contain(peer) {
        return client;
    }
    // Some proxies add to the header that is there, some add another one.
    let hops = request
        .headers("x-forwarded-for")
        .rev()
        .flat_map(|value| value.rsplit(|&byte| byte == b','));
    for hop in hops {
        // What is no address (`unknown`, a name) hides whatever is behind it.
        let Some(address) = address(hop.trim_ascii()) else {
            break;
        };
        client = Some(address);
        if !proxies.contain(client) {
            break;
        }
    }
    client
}

/// An address as proxies spell it, with or without a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    // The same client counts as one, however a proxy spells it.
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_proxies_spell_them() {
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:1234", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:1234", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("unknown", None),
            ("_hidden", None),
            ("", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(address(text.as_bytes()), expected, "{text}");
        }
    }
}
