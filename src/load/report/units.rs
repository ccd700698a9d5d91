//! Figures as people read them: three significant digits where a measurement has no more, all digits of a count.

use indicatif::{HumanBytes, HumanCount};

/// Microseconds: `512 µs`, `1.21 ms`, `14.2 s`. Below a millisecond there is nothing behind the point, as the histogram has none.
pub fn duration(micros: f64) -> String {
    let micros = rounded(micros);
    if micros < 1e3 {
        format!("{micros:.0} µs")
    } else if micros < 1e6 {
        format!("{} ms", significant(micros / 1e3))
    } else {
        format!("{} s", significant(micros / 1e6))
    }
}

/// Seconds: `8.10 s`, `1,204 s`.
pub fn seconds(seconds: f64) -> String {
    format!("{} s", quantity(seconds))
}

/// CPU time for one of many, in microseconds: `6.72 µs`, `0.312 µs`.
pub fn cost(micros: f64) -> String {
    format!("{} µs", quantity(micros))
}

/// A count, with its thousands told apart.
pub fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// So many a second.
pub fn rate(rate: f64) -> String {
    format!("{}/s", quantity(rate))
}

/// Bytes, in powers of two, as the settings have them.
pub fn bytes(bytes: f64) -> String {
    // What is no number, or below zero, is 0 then.
    HumanBytes(bytes as u64).to_string()
}

/// A share, as far as it can be told from nothing: `12 %`, `0.0013 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = match percent.abs() {
        0.0 => 0,
        below if below < 0.01 => 4,
        below if below < 1.0 => 2,
        below if below < 10.0 => 1,
        _ => 0,
    };
    format!("{percent:.digits$} %")
}

/// `1 request`, `2 requests`.
pub fn plural(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {one}s", count(number)),
    }
}

/// A number for an axis: `0`, `250`, `2.5 k`, `40 M`.
pub fn short(number: f64) -> String {
    let (scaled, unit) = match number.abs() {
        below if below < 1e3 => (number, ""),
        below if below < 1e6 => (number / 1e3, " k"),
        below if below < 1e9 => (number / 1e6, " M"),
        _ => (number / 1e9, " G"),
    };
    let text = format!("{scaled:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// A number without its unit: whole from a hundred on, three significant digits below.
pub fn quantity(number: f64) -> String {
    let number = if number.is_finite() { number.max(0.0) } else { 0.0 };
    match number {
        large if large >= 99.95 => count(large.round() as u64),
        small if small > 0.0 && small < 0.995 => format!("{small:.3}"),
        other => significant(other),
    }
}

fn significant(number: f64) -> String {
    let digits = match number {
        below if below < 9.995 => 2,
        below if below < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}")
}

/// Rounded to three significant digits, so that the unit is chosen by what will be shown.
fn rounded(number: f64) -> f64 {
    if !number.is_finite() || number <= 0.0 {
        return 0.0;
    }
    let step = 10f64.powf(number.log10().floor() - 2.0);
    (number / step).round() * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_the_unit_that_fits() {
        let shown = [
            0.0,
            7.0,
            512.0,
            999.4,
            999.6,
            1_214.0,
            14_240.0,
            99_960.0,
            999_700.0,
            1_500_000.0,
            75e6,
        ];
        let shown = shown.map(duration);
        let expected = [
            "0 µs", "7 µs", "512 µs", "999 µs", "1.00 ms", "1.21 ms", "14.2 ms", "100 ms", "1.00 s",
            "1.50 s", "75.0 s",
        ];
        assert_eq!(shown, expected);
        assert_eq!(duration(f64::NAN), "0 µs");
    }

    #[test]
    fn rates_shares_and_costs_read_well() {
        assert_eq!(
            [120_451.4, 99.96, 12.34, 0.5, 0.0].map(rate),
            ["120,451/s", "100/s", "12.3/s", "0.500/s", "0.00/s"]
        );
        assert_eq!(
            [1.0, 0.123, 0.0456, 0.0012, 0.000_013, 0.0].map(percent),
            ["100 %", "12 %", "4.6 %", "0.12 %", "0.0013 %", "0 %"]
        );
        assert_eq!(
            [0.312, 6.72, 12.345, 327.4].map(cost),
            ["0.312 µs", "6.72 µs", "12.3 µs", "327 µs"]
        );
        assert_eq!(
            [0.0, 250.0, 2_500.0, 40e6, 1e9].map(short),
            ["0", "250", "2.5 k", "40 M", "1 G"]
        );
        assert_eq!(
            [1, 1_204].map(|number| plural(number, "run")),
            ["1 run", "1,204 runs"]
        );
        assert_eq!(bytes(31_250_000.0), "29.80 MiB");
    }
}
