//! The content codings, on a real connection. A body that comes in pieces unpacks to what the same body unpacks to whole, which
//! is what the decoding library says of it, or is refused both times; no more than the limit comes out, and what is allocated
//! meanwhile is bounded (by the fuzzer's own limits, see `scripts/fuzz`).
//!
//! Input: what kind of body ([`Kind`]), its limit, two bytes for the pieces ([`Cuts`]), then the body.
#![no_main]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use floodgate::http::fuzzing::serve;
use floodgate::http::{BodyError, Output, Request, Service};
use floodgate_fuzz::Cuts;
use libfuzzer_sys::fuzz_target;

/// The window a frame may ask for, as a power of two. A larger one is also above what the fuzzer lets be allocated.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The first byte of an input, bit by bit.
#[derive(Clone, Copy)]
struct Kind(u8);

impl Kind {
    /// 0, 1.
    fn coding(self) -> &'static str {
        ["gzip", "deflate", "zstd", "identity"][usize::from(self.0 & 3)]
    }

    /// 2: framed by chunks when it comes in pieces, which hides its length.
    fn is_chunked(self) -> bool {
        self.0 & 4 != 0
    }

    /// 3: the input is text, which is packed first: deeper than mutations of packed bytes can get.
    fn is_text(self) -> bool {
        self.0 & 8 != 0
    }

    /// 4: how `deflate` is packed.
    fn is_bare(self) -> bool {
        self.0 & 16 != 0
    }

    fn pack(self, text: &[u8]) -> io::Result<Vec<u8>> {
        fn all(mut encoder: impl Write, text: &[u8]) -> io::Result<()> {
            encoder.write_all(text)?;
            encoder.flush()
        }
        let mut packed = Vec::new();
        match self.coding() {
            "gzip" => all(GzEncoder::new(&mut packed, Compression::fast()), text)?,
            "deflate" if self.is_bare() => all(DeflateEncoder::new(&mut packed, Compression::fast()), text)?,
            "deflate" => all(ZlibEncoder::new(&mut packed, Compression::fast()), text)?,
            "zstd" => packed = zstd::encode_all(text, 1)?,
            _ => packed.extend_from_slice(text),
        }
        Ok(packed)
    }

    /// Whether the library unpacks the body to this text, whole or, for zstd, byte by byte: of a frame that is there as a whole
    /// it checks the announced size even where the last block is empty, of one that comes in pieces it does not.
    fn is_packed(self, text: &[u8], packed: &[u8]) -> bool {
        let is_text = |unpacked: io::Result<Vec<u8>>| unpacked.is_ok_and(|unpacked| unpacked == text);
        is_text(self.unpack(packed, text.len()))
            || (self.coding() == "zstd"
                && is_text(self.unpack(BufReader::with_capacity(1, packed), text.len())))
    }

    /// What the library unpacks; no more than a byte above the limit.
    fn unpack(self, mut packed: impl BufRead, limit: usize) -> io::Result<Vec<u8>> {
        fn all(decoder: impl Read, limit: usize) -> io::Result<Vec<u8>> {
            let mut text = Vec::new();
            decoder.take(limit as u64 + 1).read_to_end(&mut text)?;
            Ok(text)
        }
        match self.coding() {
            "gzip" => all(MultiGzDecoder::new(packed), limit),
            "deflate" => match packed.fill_buf()?.first() {
                Some(byte) if byte & 0xf != 8 => all(DeflateDecoder::new(packed), limit),
                _ => all(ZlibDecoder::new(packed), limit),
            },
            "zstd" => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                all(decoder, limit)
            }
            _ => all(packed, limit),
        }
    }
}

/// What came of a body: its bytes, or the status that refuses it.
type Outcome = Result<Vec<u8>, u16>;

/// Unpacks the body of each request, and takes it off the reader in pieces.
struct Unpacker {
    limit: usize,
    cuts: Cuts,
    outcome: Arc<Mutex<Option<Outcome>>>,
}

impl Unpacker {
    fn read(&self, request: &mut Request<'_>) -> Result<Vec<u8>, BodyError> {
        let coding = request.header("content-encoding");
        let mut unpacked = Vec::new();
        let mut text = Vec::new();
        let mut body = request.body.decoded(coding, self.limit, &mut unpacked)?;
        for length in self.cuts.lengths() {
            let piece = body.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            // Longer ones of what is long.
            let count = piece.len().min(length * (1 + piece.len() / 256));
            text.extend_from_slice(&piece[..count]);
            body.consume(count);
            assert!(text.len() <= self.limit, "more than the limit comes out");
        }
        Ok(text)
    }
}

impl Service for Unpacker {
    fn call(&mut self, request: &mut Request<'_>, output: &mut Output) {
        let outcome = self.read(request).map_err(|error| error.answer().0);
        *self.outcome.lock().unwrap() = Some(outcome);
        output.json(200, &[], b"{}");
    }
}

fuzz_target!(|input: &[u8]| {
    let [kind, limit, width, seed, body @ ..] = input else {
        return;
    };
    let (kind, limit, cuts) = (Kind(*kind), limit_of(*limit), Cuts::new(*width, *seed));
    let packed = match kind.is_text() {
        true => kind.pack(body).expect("memory takes it"),
        false => body.to_vec(),
    };
    let service = |cuts| {
        let outcome = Arc::default();
        let unpacker = Unpacker {
            limit,
            cuts,
            outcome: Arc::clone(&outcome),
        };
        (unpacker, outcome)
    };
    let head = |framing: &str| {
        let coding = kind.coding();
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: {coding}\r\n{framing}\r\n\r\n")
    };
    let length = head(&format!("Content-Length: {}", packed.len()));

    let (unpacker, outcome) = service(Cuts::new(u8::MAX, 0));
    serve([&*[length.as_bytes(), &packed].concat()].into_iter(), unpacker);
    let whole = outcome.lock().unwrap().take().expect("a call");

    let (unpacker, outcome) = service(cuts);
    let pieces = cuts.of(&packed);
    if kind.is_chunked() {
        let chunks: Vec<_> = pieces
            .into_iter()
            .map(chunk)
            .chain([b"0\r\n\r\n".to_vec()])
            .collect();
        let head = head("Transfer-Encoding: chunked");
        serve(
            [head.as_bytes()]
                .into_iter()
                .chain(chunks.iter().map(Vec::as_slice)),
            unpacker,
        );
    } else {
        serve([length.as_bytes()].into_iter().chain(pieces), unpacker);
    }
    let split = outcome.lock().unwrap().take().expect("a call");

    for text in [&whole, &split].into_iter().flatten() {
        assert!(
            kind.is_packed(text, &packed),
            "the library unpacks something else"
        );
    }
    match (&whole, &split) {
        (Ok(whole), Ok(split)) => assert!(whole == split, "a split body unpacks to something else"),
        // Which of two faults is met first is up to the pieces.
        (Err(400 | 413), Err(400 | 413)) => {}
        // See `is_packed`: the library's word, which also depends on the room there is for the text. Frames that are packed as
        // they should be have no such excuse.
        (Ok(_), Err(400)) | (Err(400), Ok(_)) if kind.coding() == "zstd" && !kind.is_text() => {}
        (whole, split) => panic!("whole {:?}, split {:?}", brief(whole), brief(split)),
    }
    if kind.is_text() {
        let fits = body.len().max(packed.len()) <= limit;
        match &whole {
            Ok(whole) => assert!(fits && whole == body, "another text comes out"),
            Err(status) => assert_eq!((fits, *status), (false, 413), "a good body is refused"),
        }
    }
});

/// 1 B to 1 MiB, and a byte less than each of them.
fn limit_of(byte: u8) -> usize {
    (1 << (byte % 21)) - usize::from(byte >= 128)
}

fn chunk(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}

fn brief(outcome: &Outcome) -> Result<usize, u16> {
    outcome.as_ref().map(Vec::len).map_err(|status| *status)
}
