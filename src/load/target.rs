//! Where requests go.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use reqwest::Url;

/// A server, as its URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The URL as it may be shown: one with a password in it is not taken at all.
    pub url: String,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What `Host` says.
    pub authority: String,
    /// What goes before the endpoints' paths: empty, or begins with a slash and ends without one.
    pub prefix: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("it is the server's URL, such as http://127.0.0.1:8001 ({error})"))?;
        let is_tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(format!("it begins with http:// or https://, not {other}://")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it has no user and password: a key is given by --key or FLOODGATE_KEY".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it has neither query nor fragment: it names the server, the paths are known".into());
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or("it names no host")?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Target {
            url: url.as_str().trim_end_matches('/').to_owned(),
            is_tls,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port_or_known_default().expect("both schemes have one"),
            authority,
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl Target {
    /// Its addresses, at least one.
    ///
    /// # Errors
    /// What looking up the name says.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        match addresses.is_empty() {
            true => Err(io::Error::other("the name has no address")),
            false => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_perhaps_a_prefix() {
        for (text, url, is_tls, host, port, authority, prefix) in [
            (
                "http://127.0.0.1:8001",
                "http://127.0.0.1:8001",
                false,
                "127.0.0.1",
                8001,
                "127.0.0.1:8001",
                "",
            ),
            (
                "http://localhost/",
                "http://localhost",
                false,
                "localhost",
                80,
                "localhost",
                "",
            ),
            (
                "https://a.example/in/",
                "https://a.example/in",
                true,
                "a.example",
                443,
                "a.example",
                "/in",
            ),
            (
                "http://[::1]:81/a/b",
                "http://[::1]:81/a/b",
                false,
                "::1",
                81,
                "[::1]:81",
                "/a/b",
            ),
        ] {
            let target: Target = text.parse().unwrap();
            let [url, host, authority, prefix] = [url, host, authority, prefix].map(str::to_owned);
            let expected = Target {
                url,
                is_tls,
                host,
                port,
                authority,
                prefix,
            };
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn what_is_no_server_is_refused_with_a_reason() {
        for (text, reason) in [
            ("127.0.0.1:8001", "such as http://"),
            ("ftp://a.example", "not ftp://"),
            ("http://user:secret@a.example", "--key"),
            ("http://a.example/?ack=synced", "neither query"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(
                error.contains(reason) && !error.contains("secret"),
                "{text}: {error}"
            );
        }
    }
}
