//! The bytes of a burst.
//!
//! A worker has one buffer, in which each burst is put together: heads and texts are copied, what differs is patched. What a
//! socket does not take of it at once is copied to its connection, so nothing outlives the next burst.
//!
//! Packing costs more than all the rest. Where nobody looks for single events afterwards, packed requests are made before the load begins,
//! and sent in turn.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::events::{Clock, Generator, Marks};
use super::input::Input;
use super::plan::{Encoding, Plan, Shape};

/// The level of both codings: what clients in a hurry use, and the one that leaves the generator cheapest.
const LEVEL: u32 = 1;
/// Events in the packed requests that are made before the load begins.
const PACKED_EVENTS: u32 = 65_536;
/// Most of them.
const PACKED_REQUESTS_MAX: u32 = 256;

/// Where events come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// They are generated.
    Generated(Arc<Generator>),
    /// They are lines of a file.
    Lines(Input),
}

impl Source {
    /// What a plan asks for.
    pub fn new(plan: &Plan, marks: &Marks) -> Source {
        match &plan.input {
            Some(input) => Source::Lines(input.clone()),
            None => Source::Generated(Arc::new(Generator::new(marks))),
        }
    }

    fn length(&self, number: u64) -> usize {
        match self {
            Source::Generated(generator) => generator.text(generator.draw(number).0).bytes.len(),
            Source::Lines(input) => input.line(number).len(),
        }
    }

    /// Appends an event.
    #[inline]
    fn write(&self, number: u64, stamp: &[u8; 24], to: &mut Vec<u8>) {
        match self {
            Source::Generated(generator) => {
                let (index, visitor) = generator.draw(number);
                let text = generator.text(index);
                let begin = to.len();
                to.extend_from_slice(&text.bytes);
                text.patch(&mut to[begin..], number, visitor, stamp);
            }
            Source::Lines(input) => to.extend_from_slice(input.line(number)),
        }
    }

    /// Appends so many of them, one a line.
    fn write_all(&self, first: u64, count: u32, stamp: &[u8; 24], to: &mut Vec<u8>) {
        for number in first..first + u64::from(count) {
            if number > first {
                to.push(b'\n');
            }
            self.write(number, stamp, to);
        }
    }
}

/// Puts bursts together.
pub struct Requests {
    source: Source,
    shape: Shape,
    encoding: Option<Encoding>,
    /// Everything before the number of `Content-Length`.
    head: Vec<u8>,
    clock: Clock,
    /// What the clock of the run shows at its start.
    epoch: Duration,
    burst: Vec<u8>,
    body: Vec<u8>,
    packed: Vec<Vec<u8>>,
    next_packed: usize,
}

/// What a burst has.
pub struct Burst<'b> {
    /// Its bytes.
    pub bytes: &'b [u8],
    /// Those of them that are bodies.
    pub body_bytes: u64,
}

impl Requests {
    /// Those that a plan asks for. `is_watched` is whether each event is looked for afterwards, so that it must be sent once.
    pub fn new(plan: &Plan, source: Source, is_watched: bool) -> Requests {
        let mut requests = Requests {
            head: head(plan),
            shape: plan.shape,
            encoding: plan.encoding,
            clock: Clock::new(),
            epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            burst: Vec::new(),
            body: Vec::new(),
            packed: Vec::new(),
            next_packed: 0,
            source,
        };
        if plan.encoding.is_some() && !is_watched && matches!(requests.source, Source::Generated(_)) {
            requests.pack_ahead();
        }
        requests
    }

    fn pack_ahead(&mut self) {
        let each = match self.shape {
            Shape::Batch(events) => events,
            Shape::Single | Shape::Pipeline(_) => 1,
        };
        let count = (PACKED_EVENTS / each).clamp(1, PACKED_REQUESTS_MAX);
        for index in 0..count {
            self.burst.clear();
            self.request(u64::from(index * each), each, Duration::ZERO);
            self.packed.push(self.burst.clone());
        }
    }

    /// A burst with the events of these numbers; `now` is since the start of the run.
    #[inline]
    pub fn burst(&mut self, first: u64, events: u32, now: Duration) -> Burst<'_> {
        self.burst.clear();
        let mut body_bytes = 0;
        match self.shape {
            Shape::Batch(full) if events == full && !self.packed.is_empty() => {
                body_bytes += self.packed_request()
            }
            Shape::Batch(_) => body_bytes += self.request(first, events, now),
            Shape::Single | Shape::Pipeline(_) => {
                for number in first..first + u64::from(events) {
                    body_bytes += match self.packed.is_empty() {
                        true => self.request(number, 1, now),
                        false => self.packed_request(),
                    };
                }
            }
        }
        Burst {
            bytes: &self.burst,
            body_bytes,
        }
    }

    /// Appends a request that was packed before.
    fn packed_request(&mut self) -> u64 {
        let request = &self.packed[self.next_packed];
        self.next_packed = (self.next_packed + 1) % self.packed.len();
        self.burst.extend_from_slice(request);
        // All heads are as long as this one but for some digits, which nobody counts.
        (request.len() - self.head.len()) as u64
    }

    /// Appends a request.
    #[inline]
    fn request(&mut self, first: u64, events: u32, now: Duration) -> u64 {
        let stamp = self.clock.text(self.epoch + now);
        self.burst.extend_from_slice(&self.head);
        if let Some(encoding) = self.encoding {
            self.body.clear();
            self.source.write_all(first, events, stamp, &mut self.body);
            let packed = pack(encoding, &self.body).expect("packing into memory cannot fail");
            length(packed.len(), &mut self.burst);
            self.burst.extend_from_slice(&packed);
            return packed.len() as u64;
        }
        let numbers = first..first + u64::from(events);
        let size = numbers.map(|number| self.source.length(number)).sum::<usize>() + events as usize - 1;
        length(size, &mut self.burst);
        self.source.write_all(first, events, stamp, &mut self.burst);
        size as u64
    }
}

/// Ends a head with the length of its body.
#[inline]
fn length(size: usize, to: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = size;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
    to.extend_from_slice(b"\r\n\r\n");
}

fn head(plan: &Plan) -> Vec<u8> {
    let (path, kind) = match plan.shape {
        Shape::Batch(_) => ("/api/metrics/events/batch", "application/x-ndjson"),
        Shape::Single | Shape::Pipeline(_) => ("/api/metrics/event", "application/json"),
    };
    let query = plan
        .ack
        .as_ref()
        .map_or(String::new(), |level| format!("?ack={level}"));
    let (prefix, authority) = (&plan.target.prefix, &plan.target.authority);
    let mut head =
        format!("POST {prefix}{path}{query} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: {kind}\r\n");
    if let Some(key) = &plan.key {
        head += &format!("Authorization: Bearer {}\r\n", key.0);
    }
    if let Some(encoding) = plan.encoding {
        head += &format!("Content-Encoding: {}\r\n", encoding.name());
    }
    head += "Content-Length: ";
    head.into_bytes()
}

fn pack(encoding: Encoding, body: &[u8]) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
            encoder.write_all(body)?;
            encoder.finish()
        }
        Encoding::Zstd => zstd::bulk::compress(body, LEVEL as i32),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::events::{Recognizer, Seen};
    use super::super::plan::{Key, Pace, Trust};
    use super::*;

    fn marks() -> Marks {
        Marks {
            run: "00c0ffee0042".into(),
            seed: 7,
        }
    }

    fn plan(shape: Shape, encoding: Option<Encoding>) -> Plan {
        Plan {
            target: "http://a.example/in".parse().unwrap(),
            key: Some(Key("k1".into())),
            trust: Trust::System,
            threads: 1,
            connections: 1,
            pace: Pace::Closed,
            shape,
            encoding,
            ack: Some("synced".into()),
            duration: None,
            events: None,
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(1),
            seed: 7,
            input: None,
            verify: None,
            settings: Default::default(),
        }
    }

    /// Heads and bodies of the requests in a burst.
    fn requests(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut requests = Vec::new();
        while !bytes.is_empty() {
            let end = memchr::memmem::find(bytes, b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let (_, size) = head.trim_end().rsplit_once("Content-Length: ").unwrap();
            let size: usize = size.parse().unwrap();
            requests.push((head.clone(), bytes[end..end + size].to_vec()));
            bytes = &bytes[end + size..];
        }
        requests
    }

    fn numbers(body: &[u8]) -> Vec<u64> {
        let recognizer = Recognizer::new(&marks());
        let lines = body.split(|byte| *byte == b'\n');
        lines
            .map(|line| match recognizer.see(line) {
                Seen::Event(number) => number,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn each_shape_has_the_requests_that_it_says() {
        for (shape, path, each) in [
            (Shape::Single, "/in/api/metrics/event?ack=synced", 1),
            (Shape::Pipeline(5), "/in/api/metrics/event?ack=synced", 1),
            (Shape::Batch(5), "/in/api/metrics/events/batch?ack=synced", 5),
        ] {
            for encoding in [None, Some(Encoding::Gzip), Some(Encoding::Zstd)] {
                let plan = plan(shape, encoding);
                let mut made = Requests::new(&plan, Source::new(&plan, &marks()), true);
                let burst = made.burst(100, shape.events(), Duration::ZERO);
                let requests = requests(burst.bytes);
                assert_eq!(
                    requests.iter().map(|(_, body)| body.len() as u64).sum::<u64>(),
                    burst.body_bytes
                );
                assert_eq!(requests.len(), shape.requests() as usize);
                let mut sent = Vec::new();
                for (head, body) in requests {
                    assert!(
                        head.starts_with(&format!("POST {path} HTTP/1.1\r\nHost: a.example\r\n")),
                        "{head}"
                    );
                    assert!(head.contains("\r\nAuthorization: Bearer k1\r\n"));
                    let body = match encoding {
                        None => body,
                        Some(Encoding::Gzip) => {
                            let mut plain = Vec::new();
                            io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[..]), &mut plain)
                                .unwrap();
                            plain
                        }
                        Some(Encoding::Zstd) => zstd::decode_all(&body[..]).unwrap(),
                    };
                    let numbers = numbers(&body);
                    assert_eq!(numbers.len(), each);
                    sent.extend(numbers);
                }
                assert_eq!(sent, (100..100 + u64::from(shape.events())).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_last_batch_may_have_fewer_events_also_of_packed_ones() {
        for is_watched in [true, false] {
            let plan = plan(Shape::Batch(5), Some(Encoding::Zstd));
            let mut made = Requests::new(&plan, Source::new(&plan, &marks()), is_watched);
            let bodies: HashSet<Vec<u8>> = (0..3)
                .map(|at| requests(made.burst(5 * at, 5, Duration::ZERO).bytes)[0].1.clone())
                .collect();
            assert_eq!(bodies.len(), 3, "bursts differ");
            let last = requests(made.burst(15, 2, Duration::ZERO).bytes);
            assert_eq!(numbers(&zstd::decode_all(&last[0].1[..]).unwrap()), [15, 16]);
        }
    }
}
