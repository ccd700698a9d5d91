//! Content codings: bodies that come packed with gzip, deflate or zstd.
//!
//! A packed body is unpacked as it comes, in constant memory, and bounded by the limit of the body: a small one that
//! unpacks to a large one stops there.

use std::io::{self, BufRead, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::body::{Body, BodyError, Kept};

/// Largest window of zstd, as a power of two: 8 MiB, what RFC 9659 allows for HTTP. A larger one is refused rather than
/// paid for in memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What is unpacked at a time, in bytes: as much as a piece of a body that is not packed.
const UNPACKED_BYTES: usize = 64 * 1024;

impl<'a> Body<'a> {
    /// A reader of what is left, with the coding that `Content-Encoding` names taken off: `gzip`, `deflate`, `zstd`, or
    /// none. `limit` holds for both forms; `unpacked` is room for the unpacked one, its contents are replaced.
    ///
    /// An error of the reader is a [`BodyError`] in an [`io::Error`]: [`BodyError::from`] takes it out.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] for an announced length above `limit`, [`BodyError::UnknownCoding`], and no memory.
    pub fn decoded<'r>(
        &'r mut self,
        coding: Option<&[u8]>,
        limit: usize,
        unpacked: &'r mut Vec<u8>,
    ) -> Result<Decoded<'r, 'a>, BodyError> {
        if self.length().is_some_and(|length| length > limit as u64) {
            return Err(BodyError::TooLarge);
        }
        let named = |names: &[&str]| {
            let coding = coding.unwrap_or(b"identity");
            names
                .iter()
                .any(|name| coding.eq_ignore_ascii_case(name.as_bytes()))
        };
        let kept = self.kept();
        let packed = Bounded {
            body: self,
            left: limit,
        };
        let decoder = if named(&["identity", ""]) {
            return Ok(Decoded::Plain(packed));
        } else if named(&["gzip", "x-gzip"]) {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(packed)))
        } else if named(&["deflate"]) {
            Decoder::deflate(packed)?
        } else if named(&["zstd"]) {
            let mut decoder = zstd::Decoder::with_buffer(packed).map_err(BodyError::Io)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(BodyError::Io)?;
            Decoder::Zstd(Box::new(decoder))
        } else {
            return Err(BodyError::UnknownCoding);
        };
        unpacked.resize(UNPACKED_BYTES, 0);
        kept.unpacked(0);
        Ok(Decoded::Packed(Unpacking {
            decoder,
            kept,
            left: limit,
            unpacked,
            start: 0,
            end: 0,
        }))
    }
}

/// A body as a reader, of no more than so many bytes.
pub struct Bounded<'r, 'a> {
    body: &'r mut Body<'a>,
    left: usize,
}

impl BufRead for Bounded<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let piece = self.body.available()?;
        if piece.len() > self.left {
            return Err(BodyError::TooLarge.into());
        }
        Ok(piece)
    }

    fn consume(&mut self, count: usize) {
        self.left -= count;
        self.body.consume(count);
    }
}

impl Read for Bounded<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        read_from_buffer(self, to)
    }
}

/// A body with its content coding taken off.
pub enum Decoded<'r, 'a> {
    /// It has none, and is lent from where it lies.
    Plain(Bounded<'r, 'a>),
    /// It is unpacked as it is read.
    Packed(Unpacking<'r, 'a>),
}

/// A packed body and what has been unpacked of it.
pub struct Unpacking<'r, 'a> {
    decoder: Decoder<'r, 'a>,
    /// Told how much was unpacked.
    kept: Kept<'a>,
    /// Bytes that may still be unpacked.
    left: usize,
    /// INVARIANT: `start <= end <= unpacked.len()`; what lies between has not been consumed.
    unpacked: &'r mut Vec<u8>,
    start: usize,
    end: usize,
}

/// Boxed: a coroutine's stack is small.
enum Decoder<'r, 'a> {
    Gzip(Box<MultiGzDecoder<Bounded<'r, 'a>>>),
    Zlib(Box<ZlibDecoder<Bounded<'r, 'a>>>),
    Deflate(Box<DeflateDecoder<Bounded<'r, 'a>>>),
    Zstd(Box<zstd::Decoder<'static, Bounded<'r, 'a>>>),
}

impl<'r, 'a> Decoder<'r, 'a> {
    /// `deflate` is the zlib format, says RFC 9110 8.4.1.2, and some send the deflate stream bare. The first byte tells: in
    /// zlib's its low half is 8, which bare would be a stored block with a padding that nobody writes.
    fn deflate(mut packed: Bounded<'r, 'a>) -> Result<Self, BodyError> {
        let is_zlib = packed.fill_buf()?.first().is_none_or(|byte| byte & 0x0f == 8);
        Ok(match is_zlib {
            true => Self::Zlib(Box::new(ZlibDecoder::new(packed))),
            false => Self::Deflate(Box::new(DeflateDecoder::new(packed))),
        })
    }

    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(to),
            Self::Zlib(decoder) => decoder.read(to),
            Self::Deflate(decoder) => decoder.read(to),
            Self::Zstd(decoder) => decoder.read(to),
        }
    }

    /// What follows the packed stream; gzip and zstd take it for another one themselves.
    fn has_more(&mut self) -> io::Result<bool> {
        let packed = match self {
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::Deflate(decoder) => decoder.get_mut(),
            Self::Gzip(_) | Self::Zstd(_) => return Ok(false),
        };
        Ok(!packed.fill_buf()?.is_empty())
    }
}

impl Unpacking<'_, '_> {
    fn fill(&mut self) -> Result<(), BodyError> {
        let count = self.decoder.read(self.unpacked).map_err(of_decoder)?;
        self.left = self.left.checked_sub(count).ok_or(BodyError::TooLarge)?;
        if count == 0 && self.decoder.has_more()? {
            return Err(BodyError::Corrupt);
        }
        (self.start, self.end) = (0, count);
        self.kept.unpacked(count);
        Ok(())
    }
}

/// A decoder passes on the errors of what it reads from; all others are its own.
fn of_decoder(error: io::Error) -> BodyError {
    match error.kind() {
        io::ErrorKind::OutOfMemory => BodyError::Io(error),
        _ => match error.downcast() {
            Ok(error) => error,
            Err(_) => BodyError::Corrupt,
        },
    }
}

impl BufRead for Decoded<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(body) => body.fill_buf(),
            Self::Packed(unpacking) => {
                if unpacking.start == unpacking.end {
                    unpacking.fill()?;
                }
                Ok(&unpacking.unpacked[unpacking.start..unpacking.end])
            }
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Plain(body) => body.consume(count),
            Self::Packed(unpacking) => unpacking.start += count,
        }
    }
}

impl Read for Decoded<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        read_from_buffer(self, to)
    }
}

fn read_from_buffer(from: &mut impl BufRead, to: &mut [u8]) -> io::Result<usize> {
    let piece = from.fill_buf()?;
    let count = piece.len().min(to.len());
    to[..count].copy_from_slice(&piece[..count]);
    from.consume(count);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(coding: &str, packed: &[u8], limit: usize) -> Result<Vec<u8>, u16> {
        let (mut unpacked, mut text) = (Vec::new(), Vec::new());
        let mut body = Body::whole(packed);
        let read = body
            .decoded(Some(coding.as_bytes()), limit, &mut unpacked)
            .and_then(|mut body| Ok(body.read_to_end(&mut text)?));
        read.map(|_| text).map_err(|error| error.answer().0)
    }

    #[test]
    fn packed_bodies_are_unpacked_and_others_lent() {
        let text = b"{\"a\":1}".repeat(100);
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        for (coding, packed) in [
            ("gzip", gzip(&text)),
            ("GZIP", gzip(&text)),
            ("deflate", zlib(&text)),
            ("deflate", deflate(&text)),
            ("zstd", zstd),
            ("identity", text.clone()),
        ] {
            assert_eq!(decoded(coding, &packed, text.len()), Ok(text.clone()), "{coding}");
        }
        assert_eq!(decoded("br", &text, 1000), Err(415));
        assert_eq!(decoded("gzip, zstd", &text, 1000), Err(415));
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for (coding, packed) in [
            ("gzip", gzip(&zeros)),
            ("deflate", zlib(&zeros)),
            ("deflate", deflate(&zeros)),
            ("zstd", zstd::encode_all(&zeros[..], 3).unwrap()),
        ] {
            assert!(packed.len() < 100 << 10);
            assert_eq!(decoded(coding, &packed, 1 << 20), Err(413), "{coding}");
        }
    }

    #[test]
    fn truncated_and_corrupt_bodies_are_refused() {
        let text: Vec<u8> = (0..5000u32)
            .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        for (coding, packed) in [
            ("gzip", gzip(&text)),
            ("deflate", zlib(&text)),
            ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
        ] {
            for cut in [0, 1, 5, packed.len() / 2, packed.len() - 1] {
                assert_eq!(
                    decoded(coding, &packed[..cut], 1 << 20),
                    Err(400),
                    "{coding} cut at {cut}"
                );
            }
            let followed = [&packed[..], b"more"].concat();
            assert_eq!(
                decoded(coding, &followed, 1 << 20),
                Err(400),
                "{coding}, more behind it"
            );
            let mut broken = packed.clone();
            broken[2] ^= 0xff;
            assert_eq!(decoded(coding, &broken, 1 << 20), Err(400), "{coding}");
        }
    }
}
