//! Reading the whole lines of a file from its end, in memory that does not grow with the file.

/// Bytes read first, then twice as many each time: who wants but a few lines reads little.
const FIRST_CHUNK_BYTES: usize = 32 << 10;
/// Bytes read at a time in the long run: the system call is lost in the work on that many lines, and they are in the
/// processor's cache when they are looked at.
const CHUNK_BYTES: usize = 256 << 10;

/// The whole lines of the first bytes of a file, the last one first. `R` fills a buffer from an offset on; whatever bounds the
/// reading, a time limit say, is its business, and so is the kind of error.
///
/// INVARIANT: `text` has the bytes of the file from `at` to the end of the line that comes next; it is empty where `at`
/// is that end.
pub struct Backwards<R> {
    read: R,
    /// Longer lines, or somewhat longer ones, are passed over.
    line_bytes_max: usize,
    at: u64,
    text: Vec<u8>,
    /// Where in `text` the line begins that was handed out.
    handed: usize,
    chunk_bytes: usize,
}

impl<E, R: FnMut(&mut [u8], u64) -> Result<(), E>> Backwards<R> {
    /// Of the first `end` bytes of the file that `read` reads. What follows the last newline is no line.
    ///
    /// # Errors
    /// What reading says.
    pub fn new(end: u64, line_bytes_max: usize, read: R) -> Result<Backwards<R>, E> {
        let mut lines = Backwards {
            read,
            line_bytes_max,
            at: end,
            text: Vec::new(),
            handed: 0,
            chunk_bytes: FIRST_CHUNK_BYTES,
        };
        lines.leave_line()?;
        Ok(lines)
    }

    /// Where the line ends that comes next; the end of the last whole line at first.
    pub fn at(&self) -> u64 {
        self.at + self.handed as u64
    }

    /// The line before, without its newline, and where it begins.
    ///
    /// # Errors
    /// What reading says.
    pub fn previous(&mut self) -> Result<Option<(u64, &[u8])>, E> {
        self.text.truncate(self.handed);
        // Bytes at the beginning of `text` in which there may be a newline.
        let mut unsearched = self.text.len().saturating_sub(1);
        let begin = loop {
            if let Some(newline) = memchr::memrchr(b'\n', &self.text[..unsearched]) {
                break newline + 1;
            }
            if self.text.len() > self.line_bytes_max {
                self.leave_line()?;
                unsearched = self.text.len().saturating_sub(1);
            } else if self.at > 0 {
                let before = self.text.len();
                let more = self.read_before()?;
                // Of a text that was empty the last newline is the end of the line.
                unsearched = if before == 0 { more - 1 } else { more };
            } else if self.text.is_empty() {
                return Ok(None);
            } else {
                break 0;
            }
        };
        self.handed = begin;
        let line = &self.text[begin..self.text.len() - 1];
        Ok(Some((self.at + begin as u64, line)))
    }

    /// Passes over the rest of what is no line, or too long a one: to the end of the line before.
    fn leave_line(&mut self) -> Result<(), E> {
        self.text.clear();
        while self.at > 0 && self.text.is_empty() {
            self.read_before()?;
            let end = memchr::memrchr(b'\n', &self.text).map_or(0, |newline| newline + 1);
            self.text.truncate(end);
        }
        self.handed = self.text.len();
        Ok(())
    }

    /// Takes in bytes before `at`, and says how many: as many as there are in `text` at least, so that a long line is not
    /// copied for each chunk of it.
    fn read_before(&mut self) -> Result<usize, E> {
        let kept = self.text.len();
        let size = (self.chunk_bytes.max(kept) as u64).min(self.at) as usize;
        self.chunk_bytes = (2 * self.chunk_bytes).min(CHUNK_BYTES);
        self.text.resize(size + kept, 0);
        self.text.copy_within(..kept, size);
        self.at -= size as u64;
        (self.read)(&mut self.text[..size], self.at)?;
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over bytes in memory, of which no read may go beyond the end.
    fn backwards(
        bytes: &[u8],
        line_bytes_max: usize,
    ) -> Backwards<impl FnMut(&mut [u8], u64) -> Result<(), std::convert::Infallible>> {
        let read = |to: &mut [u8], at: u64| {
            to.copy_from_slice(&bytes[at as usize..][..to.len()]);
            Ok(())
        };
        Backwards::new(bytes.len() as u64, line_bytes_max, read).unwrap()
    }

    #[test]
    fn lines_come_out_last_first_wherever_chunks_begin() {
        let (first, chunk) = (FIRST_CHUNK_BYTES, CHUNK_BYTES);
        for lengths in [
            vec![],
            vec![0],
            vec![5, 0, 7],
            vec![chunk - 1, 1, chunk, 0, 3 * chunk, 7, chunk - 9],
            vec![7, 2 * first - 2, 0, first - 1],
            vec![7, 2 * first - 1, 0, first - 2],
            vec![7, first, first, 5 * first],
            (0..3000).map(|length| length % 100).collect(),
        ] {
            for half in ["", "half a line"] {
                let mut bytes = Vec::new();
                let mut expected = Vec::new();
                for (number, length) in lengths.iter().enumerate() {
                    let line = vec![b'a' + (number % 26) as u8; *length];
                    expected.push((bytes.len() as u64, line.clone()));
                    bytes.extend(line);
                    bytes.push(b'\n');
                }
                bytes.extend(half.as_bytes());
                let mut backwards = backwards(&bytes, 4 * chunk);
                assert_eq!(backwards.at(), (bytes.len() - half.len()) as u64);
                let mut found = Vec::new();
                while let Some((at, line)) = backwards.previous().unwrap() {
                    found.push((at, line.to_vec()));
                }
                found.reverse();
                assert!(found == expected, "{lengths:?}");
                assert_eq!(backwards.at(), 0);
                assert!(backwards.previous().unwrap().is_none());
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_in_bounded_memory() {
        let chunk = CHUNK_BYTES;
        let long = vec![b'x'; 40 * chunk];
        let bytes = [b"a\n", &long[..], b"\nbc\n", &long, b"\n\nd\n", &long].concat();
        let mut backwards = backwards(&bytes, 4 * chunk);
        for expected in [&b"d"[..], b"", b"bc", b"a"] {
            assert_eq!(backwards.previous().unwrap().unwrap().1, expected);
        }
        assert!(backwards.previous().unwrap().is_none());
        assert_eq!(backwards.at(), 0);
        assert!(backwards.text.capacity() <= 16 * chunk);
    }

    #[test]
    fn an_error_ends_it() {
        let read = |_: &mut [u8], _| Err("unreadable");
        assert_eq!(Backwards::new(7, 9, read).err(), Some("unreadable"));
    }
}
