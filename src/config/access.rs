//! Settings of who may do what: origins, keys, rates, proxies, and the access log.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::values::Rejected;

/// Shortest key. Sixteen characters of a random key are 80 bits or more, which nobody guesses over a network.
pub const KEY_BYTES_MIN: usize = 16;
/// Longest key: each is compared in this length, whatever its own.
pub const KEY_BYTES_MAX: usize = 128;
/// Most keys of a kind: a request is compared with all of them.
pub const KEYS_MAX: usize = 1_000;
/// Longest name of a key.
const KEY_NAME_BYTES_MAX: usize = 64;
/// Most origins and most proxies in a list.
const LIST_MAX: usize = 1_000;
/// Most requests a second that can be said as a limit; above it the limit costs more than it protects.
const RATE_PER_SECOND_MAX: u32 = 1_000_000;

/// A key, and what it is called where it must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// What logs call it.
    pub name: String,
    /// What a client shows.
    pub secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.name)
    }
}

/// Where the keys of a kind are from.
#[derive(Clone, Debug, Default)]
pub struct KeySource {
    /// Those in the setting itself.
    pub listed: Vec<Key>,
    /// A file with more.
    pub file: Option<PathBuf>,
}

/// Who may read an answer in a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsOrigins {
    /// Every origin may write.
    pub any_may_write: bool,
    /// Origins that may write and read, as browsers spell them.
    pub exact: Vec<String>,
}

/// A token bucket: so many requests in such a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time after which there is room for one more.
    pub period: Duration,
    /// Requests at once.
    pub burst: NonZeroU32,
}

/// Who is believed about the address of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Processes behind a Unix socket.
    pub unix: bool,
    /// Addresses.
    pub networks: Vec<IpNet>,
}

impl Proxies {
    /// Whether the peer with that address, `None` behind a Unix socket, is one.
    pub fn contain(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            None => self.unix,
            Some(address) => self.networks.iter().any(|network| network.contains(&address)),
        }
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        !self.unix && self.networks.is_empty()
    }
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    /// To where the program's own messages go.
    Stderr,
    /// To a file.
    File(PathBuf),
}

/// The items of a comma-separated list.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A list of keys. `kind` names those that have no name, with their place in the list. What is wrong is told without
/// showing anything of a key.
pub fn keys<'a>(texts: impl Iterator<Item = &'a str>, kind: &str) -> Result<Vec<Key>, Rejected> {
    let mut keys = Vec::new();
    for (index, text) in texts.enumerate() {
        let (name, secret) = match text.split_once(':') {
            Some((name, secret)) => (name.to_owned(), secret),
            None => (format!("{kind}-{}", index + 1), text),
        };
        let place = index + 1;
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=KEY_NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_name_byte) {
            return Err(format!(
                "the name of key {place} is not one of letters, digits, `.`, `_` and `-`, at most {KEY_NAME_BYTES_MAX}; a key \
                 is written `key` or `name:key`"
            ));
        }
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&secret.len()) {
            return Err(format!(
                "key {place} has {} characters; a key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} (`openssl rand -hex 16` makes \
                 one)",
                secret.len()
            ));
        }
        // What RFC 6750 lets a bearer token be made of.
        if !secret
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte))
        {
            return Err(format!(
                "key {place} has characters that a key cannot have; it is made of letters, digits and `-._~+/=`"
            ));
        }
        if index == KEYS_MAX {
            return Err(format!("there are more than {KEYS_MAX} keys"));
        }
        keys.push(Key {
            name,
            secret: secret.to_owned(),
        });
    }
    if keys.is_empty() {
        // Taken for "no key is needed", an empty list would open what was meant to be closed.
        return Err("there is no key in it".into());
    }
    Ok(keys)
}

/// A comma-separated list of keys.
pub fn key_list(text: &str, kind: &str) -> Result<Vec<Key>, Rejected> {
    keys(items(text), kind)
}

/// The lines of a file of keys: one each, blank lines and those that begin with `#` skipped.
pub fn key_lines<'a>(text: &'a str, kind: &str) -> Result<Vec<Key>, Rejected> {
    let is_key = |line: &&'a str| !line.is_empty() && !line.starts_with('#');
    keys(text.lines().map(str::trim).filter(is_key), kind)
}

/// A list of origins, as browsers send them, and `*`.
pub fn cors_origins(text: &str) -> Result<CorsOrigins, Rejected> {
    let mut origins = CorsOrigins::default();
    for item in items(text) {
        match item {
            "*" => origins.any_may_write = true,
            _ => origins.exact.push(origin(item).ok_or_else(|| {
                format!("{item:?} is not an origin as `https://example.org` or `http://localhost:3000`, without a path, or `*`")
            })?),
        }
    }
    if origins.exact.len() > LIST_MAX {
        return Err(format!("it is a list of at most {LIST_MAX} origins"));
    }
    Ok(origins)
}

/// An origin as a browser spells it: in lower case and without the port that goes without saying.
fn origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    // The colon that a port follows stands behind the bracket of an IPv6 address.
    let (host, port) = match rest.rfind(':').filter(|at| !rest[*at..].contains(']')) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
    };
    let port = match port {
        Some(port) if !port.bytes().all(|byte| byte.is_ascii_digit()) => return None,
        Some(port) => Some(port.parse::<u16>().ok()?),
        None => None,
    };
    let said = match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    (is_scheme && is_host).then(|| format!("{scheme}://{host}{said}"))
}

/// A list of addresses and networks, and `unix`.
pub fn proxies(text: &str) -> Result<Proxies, Rejected> {
    let mut proxies = Proxies::default();
    for item in items(text) {
        let network = item
            .parse::<IpAddr>()
            .map(IpNet::from)
            .or_else(|_| item.parse::<IpNet>());
        match (item, network) {
            ("unix", _) => proxies.unix = true,
            (_, Ok(network)) => proxies.networks.push(network),
            (_, Err(_)) => {
                return Err(format!(
                    "{item:?} is not an IP address, a network as `10.0.0.0/8`, or `unix` for peers on Unix sockets"
                ));
            }
        }
    }
    if proxies.networks.len() > LIST_MAX {
        return Err(format!("it is a list of at most {LIST_MAX} networks"));
    }
    Ok(proxies)
}

/// A number of requests in a unit of time, as `100/s`; `off` for no limit.
pub fn rate(text: &str) -> Result<Option<(NonZeroU32, Duration)>, Rejected> {
    if text == "off" {
        return Ok(None);
    }
    let parsed = || {
        let (count, unit) = text.split_once('/')?;
        let count: NonZeroU32 = count
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| count.parse().ok())??;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return None,
        };
        (count.get() <= RATE_PER_SECOND_MAX).then_some((count, Duration::from_secs(seconds)))
    };
    let rate = parsed().ok_or_else(|| {
        format!("it is `off`, or a number of requests from 1 to {RATE_PER_SECOND_MAX} a second, minute or hour, as `100/s`, `6000/m` or `1000/h`")
    });
    rate.map(Some)
}

/// Where the access log goes, if anywhere.
pub fn access_log(text: &str) -> Result<Option<AccessTarget>, Rejected> {
    match text {
        "off" => Ok(None),
        "stderr" => Ok(Some(AccessTarget::Stderr)),
        _ => super::file_path(text)
            .map(|path| Some(AccessTarget::File(path.into())))
            .map_err(|_| "it is `off`, `stderr`, or the path of a file".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_spelled_as_browsers_spell_them() {
        for (text, origin) in [
            ("https://example.org", Some("https://example.org")),
            ("HTTPS://Example.ORG:443", Some("https://example.org")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://a:80", Some("http://a")),
            ("https://a:80", Some("https://a:80")),
            ("http://[::1]:8080", Some("http://[::1]:8080")),
            ("http://[::1]", Some("http://[::1]")),
            ("capacitor://localhost", Some("capacitor://localhost")),
            ("https://example.org/", None),
            ("https://example.org/path", None),
            ("example.org", None),
            ("https://", None),
            ("https://*.example.org", None),
            ("https://user@example.org", None),
            ("http://a:", None),
            ("http://a:99999", None),
            ("http://a:+1", None),
            ("http://[::1", None),
            ("https://exämple.org", None),
            ("null", None),
        ] {
            assert_eq!(super::origin(text).as_deref(), origin, "{text}");
        }
        let both = cors_origins(" https://a.example , *,").unwrap();
        assert!(both.any_may_write && both.exact == ["https://a.example"]);
        assert_eq!(cors_origins("").unwrap(), CorsOrigins::default());
    }

    #[test]
    fn keys_may_have_names_and_errors_never_show_them() {
        let named = key_list("web:0123456789abcdef,fedcba9876543210", "write").unwrap();
        assert_eq!(named[0].name, "web");
        assert_eq!(named[0].secret, "0123456789abcdef");
        assert_eq!(named[1].name, "write-2");
        for text in [
            "0123456789abcde",
            "a:0123456789abcde",
            "0123456789abcdef ghi",
            "0123456789abcdef\u{e9}",
            ":0123456789abcdef",
            "a b:0123456789abcdef",
            "0123456789abcdef,0123456789ab",
        ] {
            let error = key_list(text, "write").unwrap_err();
            assert!(!error.contains("0123456789"), "{error}");
        }
        assert!(key_list(" , ", "write").unwrap_err().contains("no key"));
        assert!(key_list(&"x".repeat(KEY_BYTES_MAX + 1), "write").is_err());
        let lines = key_lines("# ours\n\n  web:0123456789abcdef  \r\n", "write").unwrap();
        assert_eq!((lines.len(), lines[0].name.as_str()), (1, "web"));
        assert!(key_lines("# none\n", "write").is_err());
    }

    #[test]
    fn rates_have_a_unit() {
        let rate_of = |text| rate(text).map(|rate| rate.map(|(count, unit)| (count.get(), unit.as_secs())));
        assert_eq!(rate_of("off"), Ok(None));
        assert_eq!(rate_of("100/s"), Ok(Some((100, 1))));
        assert_eq!(rate_of("6000/m"), Ok(Some((6000, 60))));
        assert_eq!(rate_of("1/h"), Ok(Some((1, 3600))));
        for text in [
            "",
            "100",
            "0/s",
            "100/d",
            "/s",
            "1.5/s",
            "+1/s",
            "9999999/s",
            "100 /s",
        ] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn proxies_are_addresses_networks_and_unix() {
        let proxies = super::proxies("10.0.0.0/8, ::1,unix").unwrap();
        for (peer, trusted) in [
            (None, true),
            (Some("10.1.2.3"), true),
            (Some("11.1.2.3"), false),
            (Some("::1"), true),
            (Some("::2"), false),
        ] {
            let peer = peer.map(|peer| peer.parse().unwrap());
            assert_eq!(proxies.contain(peer), trusted, "{peer:?}");
        }
        assert!(super::proxies("").unwrap().is_empty());
        assert!(super::proxies("localhost").is_err());
        assert!(super::proxies("10.0.0.0/33").is_err());
    }
}
