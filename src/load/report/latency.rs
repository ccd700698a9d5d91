//! Latencies: from the histogram to what is said of it, and back.
//!
//! The histogram is kept as HdrHistogram's own encoding (V2, packed), which its libraries in other languages read, too.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Bytes of a packed histogram, in base64, that is read: one of five digits over all 64 bits, badly packed, has less.
const ENCODED_BYTES_MAX: usize = 16 << 20;

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

    /// The histogram, unpacked.
    ///
    /// # Errors
    /// A clause: what is wrong with it.
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        if self.histogram.len() > ENCODED_BYTES_MAX {
            return Err(format!("the histogram has {} bytes", self.histogram.len()));
        }
        let bytes = BASE64_STANDARD
            .decode(&self.histogram)
            .map_err(|error| format!("the histogram is no base64: {error}"))?;
        Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("the histogram cannot be read: {error}"))
    }
}
