//! The chunked transfer coding of request bodies (RFC 9112, section 7.1): a state machine over bytes, which knows no
//! socket and no buffer.
//!
//! The caller shows it what has arrived. [`Decoder::skip_framing`] takes everything off the front that is not
//! data (size lines, line ends, trailers); then [`Decoder::data_left`] bytes of data follow, which the caller
//! takes where they lie and reports with [`Decoder::took`]. Nothing is copied, and a split at any byte leads through
//! the same states.
//!
//! Taken is what the grammar says and nothing else, because every leniency here is a place where a proxy in front and
//! this server can disagree on where a request ends: sizes are 1 to 16 hexadecimal digits, lines end with CRLF, blanks
//! stand only beside the `;` and `=` of an extension (where recipients have to take them), and extensions and
//! trailer fields have the characters that such things may have. Both are thrown away: no extension is known here, and
//! a trailer field must not be taken for a header, least of all one that frames or routes.
//!
//! Bounds: constant memory; [`EXTENSION_BYTES_MAX`] and [`TRAILER_BYTES_MAX`] for a whole body. What is beyond them is
//! malformed.

/// Most bytes of chunk extensions in one body. Nobody is known to send extensions to servers like this one, and without a
/// bound a body of a few bytes could come with any amount of them; as much as a head may have is generous.
pub(super) const EXTENSION_BYTES_MAX: u32 = 16 * 1024;
/// Most bytes of trailer fields behind one body: they are headers that come late, and bounded like those.
pub(super) const TRAILER_BYTES_MAX: u32 = 16 * 1024;
/// Most digits of a size: what 64 bits hold, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;

/// Why bytes are no chunked body; a sentence for the answer. The connection cannot go on: nobody knows where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const SIZE: Malformed = Malformed("The request body has a malformed chunk size.");
const LENGTH: Malformed = Malformed("The request body has a chunk that does not end where its size says.");
const EXTENSION: Malformed = Malformed("The request body has a malformed chunk extension.");
const EXTENSIONS: Malformed = Malformed("The chunk extensions of the request body are too large.");
const TRAILER: Malformed = Malformed("The request body has a malformed trailer field.");
const TRAILERS: Malformed = Malformed("The trailer fields of the request body are too large.");

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The size's digits; so many have been read.
    Size {
        digits: u8,
    },
    /// A blank where an extension may begin: now one has to.
    BlankBeforeExtension,
    /// Behind the `;`.
    NameStart,
    Name,
    /// A blank behind an extension's name: a `=` or the next extension has to follow.
    BlankAfterName,
    /// Behind the `=`.
    ValueStart,
    Token,
    Quoted,
    /// Behind a backslash between quotes.
    Escaped,
    QuotedEnd,
    /// The LF of a size line.
    SizeEnd,
    Data,
    /// The CR and the LF behind the data.
    DataCr,
    DataEnd,
    /// A trailer field's name, or the CR of the empty line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    /// The last LF.
    End,
    Done,
}

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    state: State,
    /// The size while its digits are read, then the data bytes of this chunk that have not been taken.
    size: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            state: State::Size { digits: 0 },
            size: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// The body has ended; what follows belongs to the next request.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of data that come next; 0 where framing or the end does.
    pub(super) fn data_left(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// Tells that `count` bytes of data were taken off.
    ///
    /// # Panics
    /// If there were fewer.
    pub(super) fn took(&mut self, count: u64) {
        assert!(count <= self.data_left(), "data taken twice");
        if count > 0 {
            self.size -= count;
            if self.size == 0 {
                self.state = State::DataCr;
            }
        }
    }

    /// The length of the framing at the front of `input`, which ends with `input`, with the body, or where data begin.
    pub(super) fn skip_framing(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        for (at, &byte) in input.iter().enumerate() {
            if matches!(self.state, State::Data | State::Done) {
                return Ok(at);
            }
            self.state = self.after(byte)?;
        }
        Ok(input.len())
    }

    /// The state behind a byte of framing.
    fn after(&mut self, byte: u8) -> Result<State, Malformed> {
        use State::{
            BlankAfterName, BlankBeforeExtension, Data, DataCr, DataEnd, Done, End, Escaped, Name, NameStart,
            Quoted, QuotedEnd, Size, SizeEnd, Token, TrailerEnd, TrailerName, TrailerStart, TrailerValue,
            ValueStart,
        };
        Ok(match (self.state, byte) {
            (Size { digits }, _) => self.after_size_byte(digits, byte)?,
            (SizeEnd, b'\n') if self.size == 0 => TrailerStart,
            (SizeEnd, b'\n') => Data,
            (SizeEnd, _) => return Err(SIZE),
            (DataCr, b'\r') => DataEnd,
            (DataEnd, b'\n') => Size { digits: 0 },
            (DataCr | DataEnd, _) => return Err(LENGTH),
            (TrailerStart, b'\r') => End,
            (End, b'\n') => Done,
            (TrailerStart | TrailerName | TrailerValue | TrailerEnd | End, _) => self.in_trailer(byte)?,
            (
                BlankBeforeExtension | NameStart | Name | BlankAfterName | ValueStart | Token | Quoted
                | Escaped | QuotedEnd,
                _,
            ) => self.in_extension(byte)?,
            (Data | Done, _) => unreachable!("data and what follows the body are not framing"),
        })
    }

    fn after_size_byte(&mut self, digits: u8, byte: u8) -> Result<State, Malformed> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeEnd),
            b';' | b' ' | b'\t' if digits > 0 => {
                self.state = State::BlankBeforeExtension;
                return self.in_extension(byte);
            }
            _ => return Err(SIZE),
        };
        if digits == SIZE_DIGITS_MAX {
            return Err(SIZE);
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    /// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, then CR.
    fn in_extension(&mut self, byte: u8) -> Result<State, Malformed> {
        use State::{
            BlankAfterName, BlankBeforeExtension, Escaped, Name, NameStart, Quoted, QuotedEnd, SizeEnd,
            Token, ValueStart,
        };
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(EXTENSIONS);
        }
        Ok(match (self.state, byte) {
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (state @ (BlankBeforeExtension | NameStart | BlankAfterName | ValueStart), b' ' | b'\t') => state,
            (Name, b' ' | b'\t') => BlankAfterName,
            (Token | QuotedEnd, b' ' | b'\t') => BlankBeforeExtension,
            (BlankBeforeExtension | Name | BlankAfterName | Token | QuotedEnd, b';') => NameStart,
            (Name | BlankAfterName, b'=') => ValueStart,
            (Name | Token | QuotedEnd, b'\r') => SizeEnd,
            (ValueStart, b'"') => Quoted,
            (NameStart | Name, _) if is_token(byte) => Name,
            (ValueStart | Token, _) if is_token(byte) => Token,
            _ => return Err(EXTENSION),
        })
    }

    /// Header lines behind the last chunk. A folded line begins with a blank, which no name does.
    fn in_trailer(&mut self, byte: u8) -> Result<State, Malformed> {
        use State::{TrailerEnd, TrailerName, TrailerStart, TrailerValue};
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(TRAILERS);
        }
        Ok(match (self.state, byte) {
            (TrailerStart | TrailerName, _) if is_token(byte) => TrailerName,
            (TrailerName, b':') => TrailerValue,
            (TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => TrailerValue,
            (TrailerValue, b'\r') => TrailerEnd,
            (TrailerEnd, b'\n') => TrailerStart,
            _ => return Err(TRAILER),
        })
    }
}

/// A character of names and tokens (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes pieces as they come: the data, and how many bytes the body took when it has ended.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Option<usize>), Malformed> {
        let mut decoder = Decoder::new();
        let (mut data, mut used) = (Vec::new(), 0);
        for mut piece in pieces {
            while !piece.is_empty() && !decoder.is_done() {
                let count = decoder.skip_framing(piece)?;
                piece = &piece[count..];
                let taken = piece.len().min(decoder.data_left() as usize);
                data.extend_from_slice(&piece[..taken]);
                decoder.took(taken as u64);
                piece = &piece[taken..];
                used += count + taken;
            }
        }
        Ok((data, decoder.is_done().then_some(used)))
    }

    /// Decodes whole, at every split and byte by byte; all have to agree.
    fn decode_every_way(body: &[u8]) -> Result<(Vec<u8>, Option<usize>), Malformed> {
        let whole = decode([body]);
        for split in 0..=body.len() {
            let (first, second) = body.split_at(split);
            assert_eq!(decode([first, second]), whole, "split at {split}: {body:?}");
        }
        assert_eq!(decode(body.chunks(1)), whole, "byte by byte: {body:?}");
        whole
    }

    #[test]
    fn what_the_grammar_allows_is_taken() {
        for (body, data) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
            ("A\r\n0123456789\r\n000\r\n\r\n", "0123456789"),
            (
                "000000000000000a\r\n\r\n0\r\n\r\n012\r\n0\r\n\r\n",
                "\r\n0\r\n\r\n012",
            ),
            ("1;a\r\nx\r\n0;b=c;d\r\n\r\n", "x"),
            ("1 ; a = \"b \\\" ; \\\\ \u{e9}\" ;c\t=d\r\nx\r\n0\r\n\r\n", "x"),
            ("1;a=\"\"\r\nx\r\n0\r\n\r\n", "x"),
            ("1\r\nx\r\n0\r\nA: b\r\nC:\r\nContent-Length:\t7 \r\n\r\n", "x"),
        ] {
            let expected = Ok((data.as_bytes().to_vec(), Some(body.len())));
            assert_eq!(decode_every_way(body.as_bytes()), expected, "{body:?}");
            // What follows is not touched, and nothing but the whole is the end.
            let followed = format!("{body}0\r\n\r\n");
            assert_eq!(decode_every_way(followed.as_bytes()), expected, "{body:?}");
            for cut in 0..body.len() {
                let (_, used) = decode([&body.as_bytes()[..cut]]).unwrap();
                assert_eq!(used, None, "{body:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn everything_else_is_malformed() {
        for (body, why) in [
            ("\r\n", SIZE),
            (" 5\r\n", SIZE),
            ("+5\r\n", SIZE),
            ("-1\r\n", SIZE),
            ("0x5\r\n", SIZE),
            ("1_0\r\n", SIZE),
            ("g\r\n", SIZE),
            ("5\n", SIZE),
            ("5\rX", SIZE),
            ("5\r\r\n", SIZE),
            ("00000000000000000\r\n", SIZE),
            ("FFFFFFFFFFFFFFFF0\r\n", SIZE),
            ("5\u{0}\r\n", SIZE),
            (";a\r\n", SIZE),
            ("5 \r\n", EXTENSION),
            ("5 5\r\n", EXTENSION),
            ("5;\r\n", EXTENSION),
            ("5;\n", EXTENSION),
            ("5; \r\n", EXTENSION),
            ("5;;a\r\n", EXTENSION),
            ("5;a \r\n", EXTENSION),
            ("5;a b\r\n", EXTENSION),
            ("5;a=\r\n", EXTENSION),
            ("5;=b\r\n", EXTENSION),
            ("5;a==b\r\n", EXTENSION),
            ("5;a=b=c\r\n", EXTENSION),
            ("5;a=b \r\n", EXTENSION),
            ("5;a[=b\r\n", EXTENSION),
            ("5;a\n", EXTENSION),
            ("5;\u{0}a\r\n", EXTENSION),
            ("5;a=\"b\r\n", EXTENSION),
            ("5;a=\"b\\\r\n", EXTENSION),
            ("5;a=\"b\n\"\r\n", EXTENSION),
            ("5;a=\"b\"c\r\n", EXTENSION),
            ("5;a\rX\r\n", SIZE),
            ("5\r\nhello0\r\n", LENGTH),
            ("5\r\nhello!!\r\n", LENGTH),
            ("5\r\nhello\n0\r\n", LENGTH),
            ("5\r\nhello\rX", LENGTH),
            ("0\r\n\n", TRAILER),
            ("0\r\n\rX", TRAILER),
            ("0\r\n: b\r\n", TRAILER),
            ("0\r\na b\r\n", TRAILER),
            ("0\r\na\r\n", TRAILER),
            ("0\r\na : b\r\n", TRAILER),
            ("0\r\na: b\n", TRAILER),
            ("0\r\na: b\rX", TRAILER),
            ("0\r\na: \u{0}\r\n", TRAILER),
            ("0\r\na: b\r\n c\r\n", TRAILER),
            ("0\r\n\u{e9}: b\r\n", TRAILER),
        ] {
            assert_eq!(decode_every_way(body.as_bytes()), Err(why), "{body:?}");
        }
    }

    #[test]
    fn the_largest_size_is_what_64_bits_hold() {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.skip_framing(b"fFfFFFFFFFFFFFFF\r\nx"), Ok(18));
        assert_eq!(decoder.data_left(), u64::MAX);
        decoder.took(u64::MAX);
        assert_eq!(decoder.skip_framing(b"\r\n0\r\n\r\n"), Ok(7));
        assert!(decoder.is_done());
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extended = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length));
        // The `;` and the CR count.
        let most = EXTENSION_BYTES_MAX as usize - 2;
        assert!(decode([extended(most).as_bytes()]).is_ok());
        assert_eq!(decode([extended(most + 1).as_bytes()]), Err(EXTENSIONS));
        // All of a body's count together.
        let many = "1;a\r\nx\r\n".repeat(most / 3 + 2) + "0\r\n\r\n";
        assert_eq!(decode([many.as_bytes()]), Err(EXTENSIONS));
        let trailed = |length: usize| format!("0\r\na:{}\r\n\r\n", "b".repeat(length));
        let most = TRAILER_BYTES_MAX as usize - 4;
        assert!(decode([trailed(most).as_bytes()]).is_ok());
        assert_eq!(decode([trailed(most + 1).as_bytes()]), Err(TRAILERS));
    }
}
