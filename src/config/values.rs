//! How values of settings are spelled: numbers, sizes, durations, switches.

use std::time::Duration;

/// What is allowed instead, as a clause for an error message.
pub type Rejected = String;

/// A whole number from `min` to `max`.
pub fn whole(text: &str, min: usize, max: usize) -> Result<usize, Rejected> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("it is a whole number from {min} to {max}"))
}

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A size in bytes, from `min` to `max`: a whole number with a unit, as `64MiB`; without one it is bytes.
pub fn size(text: &str, min: u64, max: u64) -> Result<u64, Rejected> {
    let bytes = with_unit(text, &SIZES).or_else(|| text.parse().ok());
    bytes.filter(|bytes| (min..=max).contains(bytes)).ok_or_else(|| {
        let range = range(min, max, &SIZES);
        format!("it is a size such as `64MiB` (B, KiB, MiB, GiB){range}")
    })
}

/// A duration from `min_ms` to `max_ms` milliseconds: a whole number with a unit, as `250ms`.
pub fn duration(text: &str, min_ms: u64, max_ms: u64) -> Result<Duration, Rejected> {
    let ms = with_unit(text, &DURATIONS).filter(|ms| (min_ms..=max_ms).contains(ms));
    ms.map(Duration::from_millis).ok_or_else(|| {
        let range = range(min_ms, max_ms, &DURATIONS);
        format!("it is a duration such as `250ms` (ms, s, m, h, d){range}")
    })
}

/// `on` or `off`.
pub fn switch(text: &str) -> Result<bool, Rejected> {
    one_of(text, &[("on", true), ("off", false)])
}

/// One of a few words.
pub fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Rejected> {
    let found = words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let (last, others) = words.split_last().expect("there is at least one word");
        format!("it is {} or {last}", others.join(", "))
    })
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// What is allowed from `min` to `max`, as people say it: nothing of limits that are none.
fn range(min: u64, max: u64, units: &[(&str, u64)]) -> String {
    let [first, last] = [min, max].map(|value| spelled(value, units));
    match (min, max) {
        (0, u64::MAX) => String::new(),
        (0, _) => format!(", of at most {last}"),
        (_, u64::MAX) => format!(", of at least {first}"),
        _ => format!(", from {first} to {last}"),
    }
}

/// In the largest unit of which it is a whole number.
fn spelled(value: u64, units: &[(&str, u64)]) -> String {
    let whole = |(_, factor): &&(&str, u64)| value.is_multiple_of(*factor);
    let (unit, factor) = units
        .iter()
        .filter(whole)
        .max_by_key(|(_, factor)| *factor)
        .expect("one unit is 1");
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_told_as_people_say_it() {
        let second = 1_000;
        for (min, max, told) in [
            (second, 36_500 * 86_400 * second, "from 1s to 36500d"),
            (50, 3_600 * second, "from 50ms to 1h"),
            (1, 90 * second, "from 1ms to 90s"),
            (0, 600 * second, "of at most 10m"),
            (60 * second, u64::MAX, "of at least 1m"),
        ] {
            let told = format!("it is a duration such as `250ms` (ms, s, m, h, d), {told}");
            assert_eq!(duration("x", min, max), Err(told));
        }
        let told = "it is a size such as `64MiB` (B, KiB, MiB, GiB)".to_owned();
        assert_eq!(size("x", 0, u64::MAX), Err(told));
    }

    #[test]
    fn sizes_and_durations_take_units_and_refuse_everything_else() {
        assert_eq!(size("64MiB", 0, u64::MAX), Ok(64 << 20));
        assert_eq!(size("4096", 0, u64::MAX), Ok(4096));
        assert_eq!(size("1KiB", 0, u64::MAX), Ok(1024));
        assert_eq!(duration("250ms", 0, 10_000), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10m", 0, 10_000_000), Ok(Duration::from_secs(600)));
        assert_eq!(duration("30d", 0, u64::MAX), duration("720h", 0, u64::MAX));
        for text in [
            "",
            "MiB",
            "1 MiB",
            "1.5MiB",
            "-1MiB",
            "1mib",
            "1MB",
            "99999999999GiB",
        ] {
            assert!(size(text, 0, u64::MAX).is_err(), "{text}");
        }
        for text in ["", "1", "ms", "1 s", "1.5s", "-1s", "1S", "1w"] {
            assert!(duration(text, 0, u64::MAX / 2).is_err(), "{text}");
        }
    }
}
