//! Content codings: bodies that come packed with gzip or zstd.
//!
//! Unpacking is bounded by the limit of the body: a small body that unpacks to a large one stops there.

use std::io::{self, Read};

use super::body::{Body, BodyError};

/// Largest window of zstd, as a power of two: 8 MiB, what RFC 9659 allows for HTTP. A larger one is refused rather than
/// paid for in memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

impl<'a> Body<'a> {
    /// As [`Body::read_all`], with the coding that `Content-Encoding` names taken off: `gzip`, `zstd`, or none. A body
    /// without one is lent as `read_all` lends it; an unpacked one is in `unpacked`. `limit` holds for both forms.
    ///
    /// # Errors
    /// Those of `read_all`; [`BodyError::UnknownCoding`], [`BodyError::Corrupt`].
    pub fn read_decoded<'x>(
        &mut self,
        coding: Option<&[u8]>,
        limit: usize,
        scratch: &'x mut Vec<u8>,
        unpacked: &'x mut Vec<u8>,
    ) -> Result<&'x [u8], BodyError>
    where
        'a: 'x,
    {
        let named = |names: &[&str]| {
            let coding = coding.unwrap_or(b"identity");
            names
                .iter()
                .any(|name| coding.eq_ignore_ascii_case(name.as_bytes()))
        };
        if named(&["identity", ""]) {
            return self.read_all(limit, scratch);
        }
        unpacked.clear();
        if named(&["gzip", "x-gzip"]) {
            let packed = self.read_all(limit, scratch)?;
            unpack(flate2::bufread::MultiGzDecoder::new(packed), limit, unpacked)?;
        } else if named(&["zstd"]) {
            let packed = self.read_all(limit, scratch)?;
            let mut decoder = zstd::Decoder::with_buffer(packed).map_err(BodyError::Io)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(BodyError::Io)?;
            unpack(decoder, limit, unpacked)?;
        } else {
            return Err(BodyError::UnknownCoding);
        }
        Ok(unpacked)
    }
}

fn unpack(decoder: impl Read, limit: usize, into: &mut Vec<u8>) -> Result<(), BodyError> {
    // One byte more than allowed tells a body of the limit from a longer one.
    match decoder.take(limit as u64 + 1).read_to_end(into) {
        Ok(_) if into.len() > limit => Err(BodyError::TooLarge),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Err(BodyError::Io(error)),
        Err(_) => Err(BodyError::Corrupt),
    }
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

    fn decoded(coding: &str, packed: &[u8], limit: usize) -> Result<Vec<u8>, u16> {
        let (mut scratch, mut unpacked) = (Vec::new(), Vec::new());
        let read =
            Body::whole(packed).read_decoded(Some(coding.as_bytes()), limit, &mut scratch, &mut unpacked);
        read.map(<[u8]>::to_vec).map_err(|error| error.answer().0)
    }

    #[test]
    fn packed_bodies_are_unpacked_and_others_lent() {
        let text = b"{\"a\":1}".repeat(100);
        let zstd = zstd::encode_all(&text[..], 3).unwrap();
        for (coding, packed) in [
            ("gzip", gzip(&text)),
            ("GZIP", gzip(&text)),
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
            ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
        ] {
            for cut in [0, 1, 5, packed.len() / 2, packed.len() - 1] {
                assert_eq!(
                    decoded(coding, &packed[..cut], 1 << 20),
                    Err(400),
                    "{coding} cut at {cut}"
                );
            }
            let mut broken = packed.clone();
            broken[2] ^= 0xff;
            assert_eq!(decoded(coding, &broken, 1 << 20), Err(400), "{coding}");
        }
    }
}
