//! Fixed reports, for the tests of what is made of them.

use hdrhistogram::Histogram;

use super::series::{Builder, Point};
use super::*;

/// A run of ten seconds in a closed loop in which all went well, verified.
pub(crate) fn closed() -> Report {
    let count = 1_204_511;
    Report {
        version: VERSION,
        floodgate: "0.1.0".into(),
        run: "7c1e09ab".into(),
        started: "2026-11-25T16:31:00Z".into(),
        seconds: 10.0,
        interrupted: false,
        url: "http://127.0.0.1:8001".into(),
        settings: settings(&[
            ("connections", "64"),
            ("shape", "single"),
            ("ack", "journaled"),
            ("duration", "10s"),
        ]),
        machine: Machine {
            cpu: "AMD EPYC 7B13".into(),
            cores: 2,
            memory_bytes: 24 << 30,
            kernel: "Linux 6.18.5".into(),
            load_average: Some(0.31),
        },
        pacing: Pacing::Closed,
        target_rate: None,
        requests: Requests {
            sent: count,
            answered: count,
            failed: 0,
        },
        events: Events {
            sent: count,
            acknowledged: count,
            refused: 0,
            unknown: 0,
        },
        rate: Rate {
            requests_per_second: 120_451.1,
            events_per_second: 120_451.1,
            bytes_per_second: 31_196_834.0,
        },
        cpu: Cpu {
            generator_seconds: 8.1,
            server_seconds: Some(9.9),
        },
        latency: latency(count, CountedFrom::SendTime),
        over_time: over_time(10, 0),
        errors: Vec::new(),
        ramp: None,
        verify: Some(Verify {
            log: "data/metrics.jsonl".into(),
            stored_once: count,
            ..Verify::default()
        }),
    }
}

/// A search for the highest rate, by batches, with refusals, answers that never came, and events lost and doubled.
pub(crate) fn ramp() -> Report {
    let step = |rate: f64, share: f64, p99_us: u64, held| Step {
        rate,
        achieved: rate * share,
        p50_us: 210,
        p99_us,
        p99_9_us: p99_us * 3,
        generator_cores: rate * share / 20_000.0,
        held,
    };
    Report {
        run: "ramp".into(),
        started: "2026-11-25T17:00:00Z".into(),
        seconds: 60.4,
        interrupted: true,
        settings: settings(&[("rate", "1k..64k"), ("shape", "batch 100")]),
        pacing: Pacing::Open,
        requests: Requests {
            sent: 800_000,
            answered: 799_900,
            failed: 1_300,
        },
        events: Events {
            sent: 80_000_000,
            acknowledged: 79_870_000,
            refused: 120_000,
            unknown: 10_000,
        },
        rate: Rate {
            requests_per_second: 13_223.5,
            events_per_second: 1_322_350.0,
            bytes_per_second: 345e6,
        },
        cpu: Cpu {
            generator_seconds: 110.0,
            server_seconds: None,
        },
        latency: latency(798_700, CountedFrom::IntendedSendTime),
        over_time: over_time(61, 40),
        errors: vec![
            error("status 503", 1_200, r#"{"detail":"the journal is full"}"#),
            error("timeout", 100, "no answer within 5 s"),
        ],
        ramp: Some(Ramp {
            p99_max_us: 10_000,
            steps: vec![
                step(1_000.0, 1.0, 420, true),
                step(8_000.0, 1.0, 610, true),
                step(64_000.0, 0.41, 912_000, false),
                step(24_000.0, 1.0, 3_120, true),
                step(40_000.0, 0.98, 22_400, false),
                step(32_000.0, 1.0, 9_400, true),
            ],
        }),
        verify: Some(Verify {
            log: "data/metrics.jsonl".into(),
            stored_once: 79_869_995,
            missing: 3,
            twice: 2,
            refused: 120_000,
            refused_stored: 0,
            unknown_stored: 4_000,
            unknown_missing: 6_000,
            examples: vec![
                "event 17 is missing".into(),
                "event 40 is there twice, in lines 41 and 977".into(),
            ],
        }),
        ..closed()
    }
}

/// One whose every text means ill to whoever shows it.
pub(crate) fn hostile() -> Report {
    let evil = r#"</script></style><script>alert(1)</script><img src=x onerror="alert(2)" a='&amp;">"#;
    let evil = format!("{evil}\u{1b}[2J\u{202e}");
    let mut report = ramp();
    report.url = format!("http://127.0.0.1:8001/{evil}");
    report.floodgate = evil.clone();
    report.run = evil.clone();
    report.started = evil.clone();
    report.settings = settings(&[(&evil, &evil)]);
    report.machine.cpu = evil.clone();
    report.machine.kernel = evil.clone();
    report.errors = vec![error(&evil, 1, &evil)];
    let verify = report.verify.as_mut().expect("it was verified");
    verify.log = evil.clone();
    verify.examples = vec![evil];
    report
}

/// The named run again, with everything slower by a factor.
pub(crate) fn slower(run: &str, factor: f64) -> Report {
    let mut report = closed();
    report.run = run.into();
    report.rate.requests_per_second /= factor;
    report.rate.events_per_second /= factor;
    report.cpu.generator_seconds *= factor;
    report.cpu.server_seconds = report.cpu.server_seconds.map(|seconds| seconds * factor);
    let latency = &mut report.latency;
    latency.mean *= factor;
    for value in [
        &mut latency.p50,
        &mut latency.p75,
        &mut latency.p90,
        &mut latency.p99,
        &mut latency.p99_9,
        &mut latency.p99_99,
        &mut latency.max,
    ] {
        *value = (*value as f64 * factor).round() as u64;
    }
    report
}

fn settings(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn error(kind: &str, count: u64, example: &str) -> ErrorKind {
    ErrorKind {
        kind: kind.into(),
        count,
        example: example.into(),
    }
}

/// So many answers, most of them near half a millisecond, with a tail that grows by half for each nine.
fn latency(count: u64, counted_from: CountedFrom) -> Latency {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).expect("good bounds");
    let mut left = count;
    let mut value = 300.0;
    while left > 0 {
        // A twentieth of those left at each value, which is a geometric tail.
        let here = left.div_ceil(20);
        histogram.record_n(value as u64, here).expect("within bounds");
        left -= here;
        value *= 1.0 + 0.02 + 0.0002 * value / 300.0;
    }
    Latency::of(&histogram, counted_from)
}

fn over_time(seconds: u64, errors_from: u64) -> OverTime {
    let mut builder = Builder::new();
    for second in 0..seconds {
        let wave = second * 7_919 % 1_009;
        builder.push(Point {
            requests: 118_000 + 5 * wave,
            events: 118_000 + 5 * wave,
            errors: if errors_from > 0 && second >= errors_from {
                10 + wave / 20
            } else {
                0
            },
            p50_us: 500 + wave / 20,
            p99_us: 1_100 + wave,
            max_us: 3_000 + 17 * wave,
            ..Point::default()
        });
    }
    builder.finish()
}
