//! A server that does as it is told: it keeps the bodies it is sent, and answers as a test says, or not at all.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// All of its lines are stored.
    Stored,
    /// This status, with these header lines and this body.
    Status(u16, &'static str, &'static str),
    /// The connection is closed without an answer.
    Close,
    /// There is never an answer.
    Silence,
}

/// A request it got.
#[derive(Clone, Debug)]
pub struct Got {
    /// Request line and headers.
    pub head: String,
    pub body: String,
    pub at: Instant,
}

/// The server; it ends with the process.
pub struct Fake {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Fake {
    /// Starts one; `reply` is asked for each request, which are numbered from 0.
    pub fn start(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let got = Arc::new(Mutex::new(Vec::new()));
        let (shared, reply) = (Arc::clone(&got), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (got, reply) = (Arc::clone(&shared), Arc::clone(&reply));
                thread::spawn(move || serve(stream, &got, &*reply));
            }
        });
        Fake { address, got }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it got so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().expect("no server thread panics").clone()
    }

    /// All lines it got, in order.
    pub fn lines(&self) -> Vec<String> {
        self.got()
            .iter()
            .flat_map(|got| got.body.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

fn serve(stream: TcpStream, got: &Mutex<Vec<Got>>, reply: &dyn Fn(usize) -> Reply) {
    let mut to = stream.try_clone().expect("a socket can be cloned");
    let mut from = BufReader::new(stream);
    while let Ok(Some((head, body))) = read(&mut from) {
        let lines = body.lines().count();
        let number = {
            let mut got = got.lock().expect("no server thread panics");
            got.push(Got {
                head,
                body,
                at: Instant::now(),
            });
            got.len() - 1
        };
        let (status, headers, body) = match reply(number) {
            Reply::Stored => (
                202,
                "",
                format!(r#"{{"ok":true,"stored":{lines},"rejected":0,"detail":[]}}"#),
            ),
            Reply::Status(status, headers, body) => (status, headers, body.to_owned()),
            Reply::Close => return,
            Reply::Silence => loop {
                thread::park();
            },
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        if to.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(from: &mut impl BufRead) -> io::Result<Option<(String, String)>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length is a number");
        }
        head += &line;
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some((head, String::from_utf8(body).expect("lines are UTF-8"))))
}
