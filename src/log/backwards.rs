//! Reading the whole lines of a file from its end, in memory that does not grow with the file.

use std::io;

use super::fs::Source;

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 64 << 10;

/// The whole lines of a file, the last one first, as the file was when this was made.
///
/// INVARIANT: `text` has the bytes of the file from `at` to the end of the line that comes next; it is empty where `at`
/// is that end.
pub struct Backwards<'f> {
    file: &'f dyn Source,
    /// Longer lines end it.
    line_bytes_max: usize,
    at: u64,
    text: Vec<u8>,
    /// Where in `text` the line begins that was handed out.
    handed: usize,
}

impl<'f> Backwards<'f> {
    /// Of `file`. Nothing is handed out from a line on that is longer than `line_bytes_max`, or somewhat longer.
    ///
    /// # Errors
    /// What reading says.
    pub fn new(file: &'f dyn Source, line_bytes_max: usize) -> io::Result<Backwards<'f>> {
        Ok(Backwards {
            at: end_of_lines(file)?,
            file,
            line_bytes_max,
            text: Vec::new(),
            handed: 0,
        })
    }

    /// Where the line ends that comes next; the end of the last whole line at first.
    pub fn at(&self) -> u64 {
        self.at + self.handed as u64
    }

    /// The line before, without its newline, and where it begins.
    ///
    /// # Errors
    /// What reading says.
    pub fn previous(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.text.truncate(self.handed);
        loop {
            let inside = &self.text[..self.text.len().saturating_sub(1)];
            let begin = match memchr::memrchr(b'\n', inside) {
                Some(newline) => newline + 1,
                None if self.at == 0 && self.text.is_empty() || self.text.len() > self.line_bytes_max => {
                    return Ok(None);
                }
                None if self.at == 0 => 0,
                None => {
                    self.read_before()?;
                    continue;
                }
            };
            self.handed = begin;
            return Ok(Some((
                self.at + begin as u64,
                &self.text[begin..self.text.len() - 1],
            )));
        }
    }

    /// Takes in the bytes before `at`: as many as there are, so that a long line is not copied for each chunk of it.
    fn read_before(&mut self) -> io::Result<()> {
        let size = CHUNK_BYTES.max(self.text.len() as u64).min(self.at);
        let mut more = vec![0; size as usize];
        self.at -= size;
        self.file.read_exact_at(&mut more, self.at)?;
        more.extend_from_slice(&self.text);
        self.text = more;
        Ok(())
    }
}

/// Where the last whole line ends.
fn end_of_lines(file: &dyn Source) -> io::Result<u64> {
    let mut end = file.length()?;
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    while end > 0 {
        let size = CHUNK_BYTES.min(end);
        let chunk = &mut chunk[..size as usize];
        file.read_exact_at(chunk, end - size)?;
        if let Some(newline) = memchr::memrchr(b'\n', chunk) {
            return Ok(end - size + newline as u64 + 1);
        }
        end -= size;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_last_first_wherever_chunks_begin() {
        let chunk = CHUNK_BYTES as usize;
        for lengths in [
            vec![],
            vec![0],
            vec![5, 0, 7],
            vec![chunk - 1, 1, chunk, 0, 3 * chunk, 7, chunk - 9],
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
                let file = io::Cursor::new(bytes.clone());
                let mut backwards = Backwards::new(&file, 4 * chunk).unwrap();
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
    fn a_line_that_is_too_long_ends_it_in_bounded_memory() {
        let chunk = CHUNK_BYTES as usize;
        let bytes = [b"a\n", &vec![b'x'; 40 * chunk][..], b"\nbc\n"].concat();
        let file = io::Cursor::new(bytes);
        let mut backwards = Backwards::new(&file, 4 * chunk).unwrap();
        assert_eq!(backwards.previous().unwrap().unwrap().1, b"bc");
        assert!(backwards.previous().unwrap().is_none());
        assert!(backwards.text.len() <= 16 * chunk);
    }
}
