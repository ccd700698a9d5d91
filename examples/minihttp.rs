//! The yardstick: `may_minihttp`, with and without the engine behind it.
//!
//! `minihttp nothing PORT` reads each body and stores nothing: what the runtime and the sockets cost. `minihttp engine PORT
//! LOG` commits each event into Floodgate's journal, which is also how the library is embedded in another server. `minihttp
//! tape FILE SECONDS` parses the lines of a file with simd-json and does nothing else, `minihttp unpack FILE.gz SECONDS`
//! unpacks a file and does nothing else: the floors under a batch. `scripts/bench` runs them beside the real server.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;
use floodgate::config::Config;
use floodgate::event::{Lines, Parser, Timestamp};
use floodgate::ingest::{Engine, Entrance, Level, Producer};
use floodgate::log::fs::OsFs;
use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STORED: &str = r#"{"ok":true,"stored":1,"file":"./data/metrics.jsonl"}"#;

/// The service of one connection; without an engine it stores nothing.
struct Service {
    body: Vec<u8>,
    engine: Option<(Producer, Parser, Lines)>,
}

impl HttpService for Service {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        let Service { body, engine } = self;
        body.clear();
        request.body().read_to_end(body)?;
        response.header("Content-Type: application/json");
        if let Some((producer, parser, lines)) = engine {
            producer
                .reserve(body.len() + 256, Duration::from_secs(1))
                .map_err(|_| io::Error::other("the journal is full"))?;
            if parser.single(body, None, Timestamp::now(), lines).is_err() {
                response.status_code(422, "Unprocessable Content");
                return Ok(());
            }
            producer.commit(lines, Level::Journaled);
        }
        response.status_code(202, "Accepted");
        response.body(STORED);
        Ok(())
    }
}

#[derive(Clone)]
struct Factory(Option<Entrance>);

impl HttpServiceFactory for Factory {
    type Service = Service;

    fn new_service(&self, _id: usize) -> Service {
        let engine = self
            .0
            .as_ref()
            .map(|from| (from.producer(), Parser::new(32 << 10), Lines::new()));
        Service {
            body: Vec::new(),
            engine,
        }
    }
}

/// Prints how many lines were seen to in so many seconds by doing the same `pass` again and again.
fn flat_out(seconds: &str, mut pass: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds.parse().map_err(io::Error::other)?);
    let mut lines = 0;
    while Instant::now() < end {
        lines += pass()?;
    }
    println!("{lines}");
    Ok(())
}

/// simd-json's tape of each line, with reused buffers.
fn tape(file: &str, seconds: &str) -> io::Result<()> {
    let text = std::fs::read(file)?;
    let mut buffers = simd_json::Buffers::new(512);
    let mut tape = simd_json::Tape::null();
    let mut scratch = Vec::new();
    flat_out(seconds, || {
        let mut count = 0;
        for line in text.split(|byte| *byte == b'\n') {
            scratch.clear();
            scratch.extend_from_slice(line);
            let mut filled = std::mem::replace(&mut tape, simd_json::Tape::null()).reset();
            simd_json::fill_tape(&mut scratch, &mut buffers, &mut filled).map_err(io::Error::other)?;
            tape = filled.reset();
            count += 1;
        }
        Ok(count)
    })
}

/// The unpacked bytes of a file in reused memory, by the library that the server unpacks with.
fn unpack(file: &str, seconds: &str) -> io::Result<()> {
    let packed = std::fs::read(file)?;
    let mut unpacked = Vec::new();
    flat_out(seconds, || {
        unpacked.clear();
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut unpacked)?;
        Ok(unpacked.split(|byte| *byte == b'\n').count())
    })
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    may::config()
        .set_workers(1)
        .set_stack_size(0x4000)
        .set_worker_pin(false);
    let (entrance, port, _engine) = match words[..] {
        ["nothing", port] => (None, port, None),
        ["engine", port, log] => {
            let setting = |name: &str| (name == "METRICS_JSONL").then(|| log.to_owned());
            let config = Config::new(setting).map_err(io::Error::other)?.engine;
            let engine = Engine::open(config, Arc::new(OsFs)).map_err(io::Error::other)?;
            (Some(engine.entrance()), port, Some(engine))
        }
        ["tape", file, seconds] => return tape(file, seconds),
        ["unpack", file, seconds] => return unpack(file, seconds),
        _ => {
            let usage =
                "minihttp nothing PORT | minihttp engine PORT LOG | minihttp tape|unpack FILE SECONDS";
            return Err(io::Error::other(format!("usage: {usage}")));
        }
    };
    let server = Factory(entrance).start(format!("127.0.0.1:{port}"))?;
    server
        .join()
        .map_err(|_| io::Error::other("the server's coroutine ended"))
}
