//! A server that speaks S3, on loopback: `moto` from PyPI, which `scripts/test` installs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use super::PATIENCE;
use super::http::{self, Client};
use super::server::Launch;

const BUCKET: &str = "logs";

/// A running one, ended when dropped. It keeps everything in memory.
#[derive(Debug)]
pub struct Moto {
    child: Child,
    address: SocketAddr,
}

impl Moto {
    /// Starts it with an empty bucket, at `address` if one is given.
    pub fn start(address: Option<SocketAddr>) -> Moto {
        let installed = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("moto/bin/moto_server");
        let program = if installed.exists() {
            installed
        } else {
            "moto_server".into()
        };
        let port = address.map_or(0, |address| address.port());
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("moto_server can be started: scripts/test installs it");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (told, heard) = mpsc::channel();
        thread::spawn(move || {
            // Read to the end, or it would hang on a full pipe.
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("Running on http://") {
                    let _ = told.send(address.trim().to_owned());
                }
            }
        });
        let address = heard
            .recv_timeout(PATIENCE)
            .expect("moto_server says where it listens");
        let moto = Moto {
            child,
            address: address.parse().expect("an address"),
        };
        let made = moto.call(&http::request("PUT", &format!("/{BUCKET}"), &[], b""));
        assert_eq!(made.0, 200, "a bucket can be made");
        moto
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn call(&self, request: &[u8]) -> (u16, Vec<u8>) {
        let mut client = Client::connect(self.address).expect("it takes connections");
        let answer = client.call(request);
        (answer.status, answer.body)
    }

    /// The keys in the bucket, in order.
    pub fn keys(&self) -> Vec<String> {
        let (status, body) = self.call(&http::get(&format!("/{BUCKET}?list-type=2")));
        assert_eq!(status, 200);
        between(&String::from_utf8(body).expect("XML is text"), "<Key>", "</Key>")
    }

    /// Uploads in parts that were not completed.
    pub fn uploads(&self) -> Vec<String> {
        let (status, body) = self.call(&http::get(&format!("/{BUCKET}?uploads")));
        assert_eq!(status, 200);
        between(
            &String::from_utf8(body).expect("XML is text"),
            "<UploadId>",
            "</UploadId>",
        )
    }

    /// An object.
    pub fn object(&self, key: &str) -> Vec<u8> {
        // Who shows no key at all may read public objects only; the key itself is not looked at.
        let key_shown = [("Authorization", "AWS tester:any")];
        let request = http::request("GET", &format!("/{BUCKET}/{key}"), &key_shown, b"");
        let (status, body) = self.call(&request);
        assert_eq!(status, 200, "{key}");
        body
    }

    /// Puts an object there, as somebody else would.
    pub fn put(&self, key: &str, contents: &[u8]) {
        let (status, _) = self.call(&http::request("PUT", &format!("/{BUCKET}/{key}"), &[], contents));
        assert_eq!(status, 200, "{key}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The settings for an archive in the bucket of the server at `address`, under `prefix`.
pub fn archiving_to(launch: Launch, address: SocketAddr, prefix: &str) -> Launch {
    launch
        .set("METRICS_ARCHIVE_URL", format!("s3://{BUCKET}/{prefix}"))
        .set("AWS_ENDPOINT", format!("http://{address}"))
        .set("AWS_ALLOW_HTTP", "true")
        .set("AWS_REGION", "us-east-1")
        .set("AWS_ACCESS_KEY_ID", "tester")
        .set("AWS_SECRET_ACCESS_KEY", "secret")
}

fn between(text: &str, begin: &str, end: &str) -> Vec<String> {
    let rest = text.split(begin).skip(1);
    rest.filter_map(|rest| Some(rest.split_once(end)?.0.to_owned()))
        .collect()
}
