//! Latencies: from the histogram to what is said of it, and back.
//!
//! The histogram is kept as HdrHistogram's own encoding (V2, packed), which its libraries in other languages read, too.

use std::io::Read;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Bytes of a histogram, unpacked, that are read: one of microseconds at three digits that goes to an hour has 0.3 MiB at most.
const UNPACKED_BYTES_MAX: u64 = 8 << 20;
/// Bytes before the packed part: what it is, and how long.
const HEAD_BYTES: usize = 8;
/// Where the unpacked part has the length of what is behind its head, and that head's length.
const LENGTH_AT: std::ops::Range<usize> = 4..8;
const UNPACKED_HEAD_BYTES: usize = 40;

/// How long answers took, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// `us`.
    pub unit: String,
    /// From when the clock ran.
    pub counted_from: CountedFrom,
    /// Answers that were timed.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub stdev: f64,
    /// The shortest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 75th percentile.
    pub p75: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p99_9: u64,
    /// 99.99th percentile.
    pub p99_99: u64,
    /// The longest.
    pub max: u64,
    /// All of them, as an HdrHistogram (V2, deflate, base64).
    pub histogram: String,
}

/// From when the clock of a request ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CountedFrom {
    /// When it was to be sent by the plan, so that a server that stalls is charged for all that had to wait for it.
    #[serde(rename = "intended send time")]
    IntendedSendTime,
    /// When it was sent.
    #[serde(rename = "send time")]
    SendTime,
}

impl Latency {
    /// Of a histogram of microseconds.
    pub fn of(histogram: &Histogram<u64>, counted_from: CountedFrom) -> Latency {
        let at = |quantile: f64| match histogram.is_empty() {
            true => 0,
            // The upper end of a bucket may lie above everything that was seen.
            false => histogram.value_at_quantile(quantile).min(histogram.max()),
        };
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut bytes)
            .expect("memory takes every byte, and no count is above i64::MAX");
        Latency {
            unit: "us".into(),
            counted_from,
            count: histogram.len(),
            mean: histogram.mean(),
            stdev: histogram.stdev(),
            min: if histogram.is_empty() { 0 } else { histogram.min() },
            p50: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max(),
            histogram: BASE64_STANDARD.encode(bytes),
        }
    }

    /// The percentiles that are told, each with its quantile.
    pub fn percentiles(&self) -> [(f64, u64); 6] {
        [
            (0.5, self.p50),
            (0.75, self.p75),
            (0.9, self.p90),
            (0.99, self.p99),
            (0.999, self.p99_9),
            (0.9999, self.p99_99),
        ]
    }

    /// The histogram, unpacked.
    ///
    /// # Errors
    /// A clause: what is wrong with it.
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        let packed = BASE64_STANDARD
            .decode(&self.histogram)
            .map_err(|error| format!("the histogram is no base64: {error}"))?;
        let packed = packed.get(HEAD_BYTES..).ok_or("the histogram is too short")?;
        // Unpacked here and not by the reader, which believes whatever length it is told.
        let mut bytes = Vec::new();
        ZlibDecoder::new(packed)
            .take(UNPACKED_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("the histogram cannot be unpacked: {error}"))?;
        let length = bytes.get(LENGTH_AT).and_then(|length| length.try_into().ok());
        let length = length.map(|length| u32::from_be_bytes(length) as usize + UNPACKED_HEAD_BYTES);
        if length != Some(bytes.len()) {
            return Err("the histogram is cut off or too long".into());
        }
        Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("the histogram cannot be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        values
            .into_iter()
            .for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn a_histogram_comes_back_as_it_went() {
        for values in [
            vec![],
            vec![7],
            (1..=20_000).map(|at| at * at % 90_001 + 1).collect(),
        ] {
            let histogram = histogram(values);
            let latency = Latency::of(&histogram, CountedFrom::SendTime);
            assert_eq!(latency.histogram().unwrap(), histogram);
            let text = serde_json::to_string(&latency).unwrap();
            assert_eq!(serde_json::from_str::<Latency>(&text).unwrap(), latency);
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values_and_never_above_the_longest() {
        let latency = Latency::of(&histogram(1..=10_000), CountedFrom::IntendedSendTime);
        // Three digits: within a thousandth of the truth.
        let is_near = |is: u64, truth: u64| is.abs_diff(truth) * 1_000 <= truth;
        assert!(
            is_near(latency.p50, 5_000) && is_near(latency.p99, 9_900),
            "{latency:?}"
        );
        assert!(
            is_near(latency.p99_99, 9_999) && latency.p99_99 <= latency.max,
            "{latency:?}"
        );
        assert_eq!((latency.count, latency.min), (10_000, 1));
        assert!((latency.mean - 5_000.5).abs() < 5.0 && (latency.stdev - 2_886.75).abs() < 5.0);
        let empty = Latency::of(&histogram([]), CountedFrom::SendTime);
        assert_eq!((empty.count, empty.min, empty.p50, empty.max), (0, 0, 0, 0));
        assert_eq!(
            serde_json::to_value(&latency).unwrap()["counted_from"],
            "intended send time"
        );
    }

    #[test]
    fn a_damaged_histogram_is_an_error_and_takes_no_memory() {
        let whole = Latency::of(&histogram(1..=1_000), CountedFrom::SendTime);
        let with = |histogram: String| {
            Latency {
                histogram,
                ..whole.clone()
            }
            .histogram()
            .unwrap_err()
        };
        assert!(with("%%%".into()).contains("base64"));
        assert!(with("AAAA".into()).contains("too short"));
        let bytes = BASE64_STANDARD.decode(&whole.histogram).unwrap();
        for cut in HEAD_BYTES..bytes.len() {
            with(BASE64_STANDARD.encode(&bytes[..cut]));
        }
        // One that claims to have four billion bytes of counts.
        let mut unpacked = Vec::new();
        ZlibDecoder::new(&bytes[HEAD_BYTES..])
            .read_to_end(&mut unpacked)
            .unwrap();
        unpacked[LENGTH_AT].fill(0xff);
        let mut forged = bytes[..HEAD_BYTES].to_vec();
        let mut packer = flate2::write::ZlibEncoder::new(&mut forged, flate2::Compression::fast());
        std::io::Write::write_all(&mut packer, &unpacked).unwrap();
        packer.finish().unwrap();
        assert_eq!(
            with(BASE64_STANDARD.encode(forged)),
            "the histogram is cut off or too long"
        );
    }
}
