//! The `Date` header: formatted once a second, from a clock that costs no system call.

use rustix::time::{ClockId, clock_gettime};

/// Bytes of an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const DATE_BYTES: usize = 29;

const SECONDS_PER_DAY: u64 = 86_400;
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// The current date as text, cached for the second it is true.
#[derive(Debug)]
pub struct Date {
    second: u64,
    text: [u8; DATE_BYTES],
}

impl Date {
    /// The date as of now.
    pub fn now() -> Self {
        let second = unix_second();
        Self {
            second,
            text: format(second),
        }
    }

    /// Brings the text up to date. Called once a burst: the coarse clock is read without a system call,
    /// and is late by at most a few milliseconds.
    pub fn refresh(&mut self) {
        let second = unix_second();
        if second != self.second {
            *self = Self {
                second,
                text: format(second),
            };
        }
    }

    /// The text.
    pub fn text(&self) -> &[u8; DATE_BYTES] {
        &self.text
    }
}

fn unix_second() -> u64 {
    // A clock set before 1970 shows 1970: the header is decoration, not worth an error.
    u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0)
}

fn format(second: u64) -> [u8; DATE_BYTES] {
    let (days, rest) = (second / SECONDS_PER_DAY, second % SECONDS_PER_DAY);
    let (year, month, day) = civil(days);
    let mut text = *b"Www, DD Mmm YYYY HH:MM:SS GMT";
    text[0..3].copy_from_slice(WEEKDAYS[(days % 7) as usize]);
    two_digits(&mut text[5..7], day);
    text[8..11].copy_from_slice(MONTHS[month]);
    two_digits(&mut text[12..14], year / 100);
    two_digits(&mut text[14..16], year % 100);
    two_digits(&mut text[17..19], rest / 3600);
    two_digits(&mut text[20..22], rest / 60 % 60);
    two_digits(&mut text[23..25], rest % 60);
    text
}

fn two_digits(to: &mut [u8], value: u64) {
    to[0] = b'0' + (value / 10 % 10) as u8;
    to[1] = b'0' + (value % 10) as u8;
}

/// Year, month (from 0) and day (from 1) of a day counted from 1970-01-01. Walks the years of the current
/// 400-year cycle: at most 400 steps, once a second.
fn civil(days: u64) -> (u64, usize, u64) {
    const DAYS_PER_CYCLE: u64 = 146_097;
    let mut year = 1970 + days / DAYS_PER_CYCLE * 400;
    let mut left = days % DAYS_PER_CYCLE;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    for (month, length) in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        .into_iter()
        .enumerate()
    {
        if left < length {
            return (year, month, left + 1);
        }
        left -= length;
    }
    unreachable!("a day of the year lies in one of its months")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (13_569_465_600, "Sat, 01 Jan 2400 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&format(second)).unwrap(), text);
        }
    }
}
