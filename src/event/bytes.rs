//! Bytes of JSON: white space, and sixteen bytes of a string at a time: where it may end, and whether all of it is ASCII.
//!
//! The one place of this stage with instructions of a certain processor. Most strings of an event are shorter than a
//! chunk, so that one look finds their end without a branch on each byte; `cargo bench --bench validate` is where that shows.

/// Whether a byte is white space between the tokens of JSON.
#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// `text` without white space at its end.
#[inline]
pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// Bytes looked at together.
pub(super) const CHUNK_BYTES: usize = 16;

/// What is in a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// Bit `i` is set where byte `i` is a quote, a backslash or a control character: what ends the plain part of a string.
    pub(super) stops: u32,
    /// Not zero where any byte is not ASCII, those behind the first stop included.
    pub(super) high: u32,
}

/// Marks of sixteen bytes.
#[inline]
pub(super) fn marks(chunk: &[u8; CHUNK_BYTES]) -> Marks {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is a part of every x86-64 processor.
    return unsafe { sse2(chunk) };
    #[cfg(not(target_arch = "x86_64"))]
    return any_processor(chunk);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn sse2(chunk: &[u8; CHUNK_BYTES]) -> Marks {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };

    let bits = u128::from_le_bytes(*chunk);
    // One load: the compiler sees that both halves come from the same place.
    let bytes = _mm_set_epi64x((bits >> 64) as i64, bits as i64);
    let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
    let backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
    let controls = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
    let stops = _mm_or_si128(_mm_or_si128(quotes, backslashes), controls);
    Marks {
        stops: _mm_movemask_epi8(stops) as u32,
        high: _mm_movemask_epi8(bytes) as u32,
    }
}

/// What [`marks`] is by definition.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn any_processor(chunk: &[u8; CHUNK_BYTES]) -> Marks {
    let mut found = Marks { stops: 0, high: 0 };
    for (at, &byte) in chunk.iter().enumerate() {
        found.stops |= u32::from(matches!(byte, b'"' | b'\\' | 0..=0x1F)) << at;
        found.high |= u32::from(!byte.is_ascii()) << at;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_marked_in_each_place() {
        for at in 0..CHUNK_BYTES {
            for byte in 0..=u8::MAX {
                for other in *b"a\"\\\x1f \xff" {
                    let mut chunk = [other; CHUNK_BYTES];
                    chunk[at] = byte;
                    assert_eq!(marks(&chunk), any_processor(&chunk), "{byte} at {at}");
                }
            }
        }
    }
}
