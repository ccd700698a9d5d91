//! Where something is in a log.

use std::fmt;
use std::str::FromStr;

/// A place in a log: a file's number, and a byte of that file, unpacked. Written `17:40960`.
///
/// It stays true when the file is sealed, compressed or removed. Places are in the order in which the log was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The file's number, from 1.
    pub number: u64,
    /// Bytes before it in that file.
    pub offset: u64,
}

impl Position {
    /// Where every log begins.
    pub const FIRST: Position = Position::begin_of(1);

    /// Where that file begins.
    pub const fn begin_of(number: u64) -> Position {
        Position { number, offset: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.offset)
    }
}

/// A text that is no [`Position`].
#[derive(Debug, PartialEq, Eq)]
pub struct NoPosition;

impl fmt::Display for NoPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position is the number of a file, from 1, and a byte in it, as `17:40960`")
    }
}

impl std::error::Error for NoPosition {}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Position, NoPosition> {
        // One spelling: no sign, no leading zeros, as `Display` writes it.
        let whole = |digits: &str| {
            let number: u64 = digits.parse().map_err(|_| NoPosition)?;
            (number.to_string() == digits).then_some(number).ok_or(NoPosition)
        };
        let (number, offset) = text.split_once(':').ok_or(NoPosition)?;
        let position = Position {
            number: whole(number)?,
            offset: whole(offset)?,
        };
        (position.number > 0).then_some(position).ok_or(NoPosition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written_and_nothing_else_is() {
        let positions = [(1, 0), (17, 40_960), (u64::MAX, u64::MAX)];
        let positions = positions.map(|(number, offset)| Position { number, offset });
        assert!(positions.is_sorted());
        assert_eq!(positions[1].to_string(), "17:40960");
        for position in positions {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in [
            "",
            "17",
            ":",
            "17:",
            ":0",
            "0:0",
            "+1:0",
            "1:-1",
            "01:0",
            "1:00",
            "1:0 ",
            "1:0:0",
            "18446744073709551616:0",
        ] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }
}
