//! Instants: reading what a sender wrote, and writing what is stored.
//!
//! Purpose: one type, [`Timestamp`], microseconds since the Unix epoch in UTC, and the one stored
//! spelling, `YYYY-MM-DDTHH:MM:SS[.ffffff]Z` (the fraction only when it is not zero).
//!
//! Reading is `speedate`'s, the parser of Pydantic, so that the same texts and numbers are taken and the
//! same words come back for the others. The spelling nearly every client sends, `Date.toISOString()`, is
//! recognised by [`canonical`] without it: checking 20 to 27 bytes costs a fifth of parsing them and
//! writing them again. A test holds the two against each other.
//!
//! Invariants: a `Timestamp` that came from an event lies in the years 1 to 9999. Nothing here allocates
//! but the words of an error. Owner: the connection's coroutine.

use std::borrow::Cow;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use speedate::{
    Date, DateConfig, DateTime, DateTimeConfig, MicrosecondsPrecisionOverflowBehavior, ParseError,
    TimeConfig, TimestampUnit,
};

/// First and last second of the years that a stored time can name, 0001-01-01 and 9999-12-31.
const SECOND_MIN: i64 = -62_135_596_800;
const SECOND_MAX: i64 = 253_402_300_799;

const MICROS: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Bytes of the longest stored spelling, `9999-12-31T23:59:59.999999Z`.
const TEXT_BYTES_MAX: usize = 27;

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Microseconds since the Unix epoch, negative before it.
    pub micros: i64,
}

impl Timestamp {
    /// The time of the machine's realtime clock.
    pub fn now() -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        };
        Timestamp { micros }
    }
}

impl Timestamp {
    /// Reads a time as an event may spell it; `None` if it is none.
    pub fn parse(text: &str) -> Option<Timestamp> {
        parse_text(text).ok()
    }

    /// As [`Timestamp::parse`]; an error has the `type`, the message and the `error` of its `ctx` that Pydantic gives.
    ///
    /// # Errors
    /// The text is no time.
    pub fn parse_as_parameter(text: &str) -> Result<Timestamp, NotATime> {
        parse_text(text).map_err(NotATime::from)
    }

    /// The minute it lies in, counted from the Unix epoch.
    pub fn minute(self) -> i64 {
        self.micros.div_euclid(60 * MICROS)
    }
}

/// Why a text is no time, as Pydantic words it.
#[derive(Debug, PartialEq, Eq)]
pub struct NotATime {
    /// The `type` of the error.
    pub kind: &'static str,
    /// Its `msg`.
    pub msg: String,
    /// What its `ctx` has under `error`.
    pub error: Cow<'static, str>,
}

impl From<StampError> for NotATime {
    fn from(error: StampError) -> NotATime {
        let (kind, subject, error) = match error {
            StampError::NotADate(error) => ("datetime_from_date_parsing", "datetime or date", error),
            StampError::NotADatetime(error) => ("datetime_parsing", "datetime", error),
        };
        let msg = format!("Input should be a valid {subject}, {error}");
        NotATime { kind, msg, error }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(StampText::new(*self).as_bytes()).expect("digits and punctuation"))
    }
}

/// The stored spelling of an instant, on the stack.
#[derive(Clone, Copy)]
pub(super) struct StampText {
    bytes: [u8; TEXT_BYTES_MAX],
    len: u8,
}

impl StampText {
    /// Renders `at`, clamped to the years 1 to 9999.
    pub(super) fn new(at: Timestamp) -> StampText {
        let micros = at
            .micros
            .clamp(SECOND_MIN * MICROS, SECOND_MAX * MICROS + MICROS - 1);
        let second = micros.div_euclid(MICROS);
        let fraction = micros.rem_euclid(MICROS) as u32;
        let (year, month, day) = civil_from_days(second.div_euclid(DAY_SECONDS));
        let in_day = second.rem_euclid(DAY_SECONDS) as u32;
        let mut bytes = *b"0000-00-00T00:00:00.000000Z";
        two_digits(&mut bytes, 0, year / 100);
        two_digits(&mut bytes, 2, year % 100);
        two_digits(&mut bytes, 5, month);
        two_digits(&mut bytes, 8, day);
        two_digits(&mut bytes, 11, in_day / 3_600);
        two_digits(&mut bytes, 14, in_day / 60 % 60);
        two_digits(&mut bytes, 17, in_day % 60);
        if fraction == 0 {
            bytes[19] = b'Z';
            return StampText { bytes, len: 20 };
        }
        two_digits(&mut bytes, 20, fraction / 10_000);
        two_digits(&mut bytes, 22, fraction / 100 % 100);
        two_digits(&mut bytes, 24, fraction % 100);
        StampText {
            bytes,
            len: TEXT_BYTES_MAX as u8,
        }
    }

    /// The text.
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// The minute it lies in, counted from the Unix epoch.
    #[inline]
    pub(super) fn minute(&self) -> i64 {
        let digit = |at: usize| i64::from(self.bytes[at] - b'0');
        let two = |at: usize| digit(at) * 10 + digit(at + 1);
        let days = days_from_civil(two(0) * 100 + two(2), two(5), two(8));
        days * (DAY_SECONDS / 60) + two(11) * 60 + two(14)
    }

    /// The instant it names.
    #[inline]
    fn instant(&self) -> Timestamp {
        let digit = |at: usize| i64::from(self.bytes[at] - b'0');
        let second = self.minute() * 60 + digit(17) * 10 + digit(18);
        let fraction = match usize::from(self.len) == TEXT_BYTES_MAX {
            true => (20..26).fold(0, |sum, at| sum * 10 + digit(at)),
            false => 0,
        };
        Timestamp {
            micros: second * MICROS + fraction,
        }
    }
}

/// The time that a line has; `None` if it is none.
pub(super) fn of_text(text: &[u8]) -> Option<Timestamp> {
    if let Some(stamp) = canonical(text) {
        return Some(stamp.instant());
    }
    parse_text(std::str::from_utf8(text).ok()?).ok()
}

/// The minute of a time that a line has, counted from the Unix epoch; `None` if it is none.
pub(super) fn minute_of_text(text: &[u8]) -> Option<i64> {
    if let Some(stamp) = canonical(text) {
        return Some(stamp.minute());
    }
    let parsed = parse_text(std::str::from_utf8(text).ok()?).ok()?;
    Some(parsed.minute())
}

#[inline]
fn two_digits(bytes: &mut [u8; TEXT_BYTES_MAX], at: usize, value: u32) {
    bytes[at] = b'0' + (value / 10 % 10) as u8;
    bytes[at + 1] = b'0' + (value % 10) as u8;
}

/// Year, month and day of a day counted from 1970-01-01, for the years 1 to 9999.
///
/// The calendar repeats every 400 years, 146,097 days. Counting years from the first of March puts the
/// leap day last, so that the lengths of the months before it follow one line: 153 days in five months.
fn civil_from_days(days: i64) -> (u32, u32, u32) {
    // Days since 0000-03-01: never negative in the years this is called with.
    let days = (days + 719_468) as u32;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u32::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`].
#[inline]
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

/// Reads `YYYY-MM-DDTHH:MM:SS[.f{1,6}]Z` and gives the stored spelling of it.
///
/// `None` means "not this shape, or not a time of the calendar": the full parser decides.
#[inline]
pub(super) fn canonical(text: &[u8]) -> Option<StampText> {
    if text.len() < 20 || text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let date = eight_digits(text, 0, b"0000-00-")?;
    let clock = eight_digits(text, 8, b"00T00:00")?;
    let year = pair(&date, 0) * 100 + pair(&date, 2);
    let month = pair(&date, 5);
    let day = pair(&clock, 0);
    let (hour, minute) = (pair(&clock, 3), pair(&clock, 6));
    let (tens, units) = (text[17].wrapping_sub(b'0'), text[18].wrapping_sub(b'0'));
    let plausible = text[16] == b':' && tens <= 5 && units <= 9 && hour <= 23 && minute <= 59 && year != 0;
    if !plausible || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let mut bytes = *b"0000-00-00T00:00:00.000000Z";
    // The two usual precisions are copied and checked in words: a byte stored is slow to be read again as part of a word.
    let is_whole = match *text {
        [.., b'Z'] if text.len() == TEXT_BYTES_MAX => {
            bytes.copy_from_slice(text);
            eight_digits(text, 19, b".000000Z")? == [0; 8]
        }
        [.., b'Z'] if text.len() == TEXT_BYTES_MAX - 3 => {
            bytes[..23].copy_from_slice(&text[..23]);
            eight_digits(text, 16, b":00.000Z")?[4..] == [0; 4]
        }
        _ => {
            bytes[..19].copy_from_slice(&text[..19]);
            write_fraction(&mut bytes, &text[19..])?
        }
    };
    if is_whole {
        bytes[19] = b'Z';
        return Some(StampText { bytes, len: 20 });
    }
    Some(StampText {
        bytes,
        len: TEXT_BYTES_MAX as u8,
    })
}

/// Puts the digits of `[.f{1,6}]Z` in their places; whether all are zero.
fn write_fraction(bytes: &mut [u8; TEXT_BYTES_MAX], fraction: &[u8]) -> Option<bool> {
    let digits = match *fraction {
        [b'Z'] => &[][..],
        [b'.', ref digits @ .., b'Z'] if !digits.is_empty() => digits,
        _ => return None,
    };
    let mut nonzero = 0;
    for (place, &digit) in bytes[20..26].iter_mut().zip(digits) {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        nonzero |= value;
        *place = digit;
    }
    Some(nonzero == 0)
}

/// The eight bytes at `at`, less those of `shape`: digits become their values and punctuation zero.
/// `None` when one does not fit. All eight are checked at once, as one number: a byte above nine either
/// has a high half or gets one when six is added to it (0xFA to 0xFF would carry, but have one already).
#[inline]
fn eight_digits(text: &[u8], at: usize, shape: &[u8; 8]) -> Option<[u8; 8]> {
    const HIGH: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const SIX: u64 = 0x0606_0606_0606_0606;
    let chunk: [u8; 8] = text[at..at + 8].try_into().expect("eight bytes");
    let values = u64::from_le_bytes(chunk) ^ u64::from_le_bytes(*shape);
    if (values | values.wrapping_add(SIX)) & HIGH != 0 {
        return None;
    }
    let values = values.to_le_bytes();
    // Punctuation must be itself, not something within nine of it.
    let exact = (0..8).all(|i| shape[i] == b'0' || values[i] == 0);
    exact.then_some(values)
}

#[inline]
fn pair(values: &[u8; 8], at: usize) -> u32 {
    u32::from(values[at]) * 10 + u32::from(values[at + 1])
}

#[inline]
fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 0,
    }
}

/// Why a value is not a time: the `type` of the error, and its words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StampError {
    /// A text that is neither a datetime nor a date.
    NotADate(Cow<'static, str>),
    /// A number or a date that the calendar of the log does not hold.
    NotADatetime(Cow<'static, str>),
}

const CONFIG: DateTimeConfig = DateTimeConfig {
    timestamp_unit: TimestampUnit::Infer,
    time_config: TimeConfig {
        microseconds_precision_overflow_behavior: MicrosecondsPrecisionOverflowBehavior::Truncate,
        unix_timestamp_offset: Some(0),
    },
};

/// Reads a text: a datetime, a date (its midnight), or a number of Unix seconds or milliseconds.
pub(super) fn parse_text(text: &str) -> Result<Timestamp, StampError> {
    if let Ok(datetime) = DateTime::parse_bytes_with_config(text.as_bytes(), &CONFIG) {
        return instant(&datetime);
    }
    match Date::parse_bytes_with_config(
        text.as_bytes(),
        &DateConfig {
            timestamp_unit: TimestampUnit::Infer,
        },
    ) {
        Ok(date) if date.year == 0 => Err(out_of_range("year 0 is out of range")),
        Ok(date) => in_range(date.timestamp(), 0),
        Err(error) => Err(StampError::NotADate(words(&error))),
    }
}

/// Reads a whole number of Unix seconds, or milliseconds when it is past 20,000,000,000 either way.
pub(super) fn parse_int(number: i64) -> Result<Timestamp, StampError> {
    numeric(DateTime::from_timestamp_with_config(number, 0, &CONFIG))
}

/// Reads the text of a JSON number.
pub(super) fn parse_number(text: &str) -> Result<Timestamp, StampError> {
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        // Every JSON number reads as some float, an infinity when it is too large.
        let number: f64 = text.parse().unwrap_or(f64::INFINITY);
        if number.is_infinite() {
            return Err(beyond(number < 0.0));
        }
        return numeric(DateTime::from_float_with_config(number, &CONFIG));
    }
    match text.parse() {
        Ok(number) => parse_int(number),
        Err(_) => Err(beyond(text.starts_with('-'))),
    }
}

fn numeric(parsed: Result<DateTime, ParseError>) -> Result<Timestamp, StampError> {
    match parsed {
        Ok(datetime) => instant(&datetime),
        Err(error) => Err(StampError::NotADatetime(words(&error))),
    }
}

fn beyond(below: bool) -> StampError {
    StampError::NotADatetime(words(if below {
        &ParseError::DateTooSmall
    } else {
        &ParseError::DateTooLarge
    }))
}

fn out_of_range(what: &'static str) -> StampError {
    StampError::NotADatetime(Cow::Borrowed(what))
}

/// The instant that a date and a time of day name. No zone means UTC.
fn instant(datetime: &DateTime) -> Result<Timestamp, StampError> {
    if datetime.date.year == 0 {
        return Err(out_of_range("year 0 is out of range"));
    }
    let offset_seconds = i64::from(datetime.time.tz_offset.unwrap_or(0));
    in_range(datetime.timestamp() - offset_seconds, datetime.time.microsecond)
}

fn in_range(second: i64, microsecond: u32) -> Result<Timestamp, StampError> {
    if second < SECOND_MIN {
        return Err(out_of_range("year 0 is out of range"));
    }
    if second > SECOND_MAX {
        return Err(out_of_range("year 10000 is out of range"));
    }
    Ok(Timestamp {
        micros: second * MICROS + i64::from(microsecond),
    })
}

/// What `speedate` documents an error to mean, which is what Pydantic puts into its message.
fn words(error: &ParseError) -> Cow<'static, str> {
    use ParseError as E;
    Cow::Borrowed(match error {
        E::TooShort => "input is too short",
        E::ExtraCharacters => "unexpected extra characters at the end of the input",
        E::InvalidCharDateTimeSep => "invalid datetime separator, expected `T`, `t`, `_` or space",
        E::InvalidCharDateSep => "invalid date separator, expected `-`",
        E::DateNotExact => "Timestamp is not an exact date",
        E::InvalidCharYear => "invalid character in year",
        E::InvalidCharMonth => "invalid character in month",
        E::InvalidCharDay => "invalid character in day",
        E::OutOfRangeMonth => "month value is outside expected range of 1-12",
        E::OutOfRangeDay => "day value is outside expected range",
        E::DateTooSmall => "dates before 0000 are not supported as unix timestamps",
        E::DateTooLarge => "dates after 9999 are not supported as unix timestamps",
        E::TimeTooLarge => "numeric times may not exceed 86,399 seconds",
        // The rest is about the time of day and durations: the date parser, whose error is the one
        // reported, cannot give it. Its name says enough.
        other => return Cow::Owned(other.to_string().replace('_', " ")),
    })
}
