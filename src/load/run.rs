//! A load test from its plan to its report.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;

use super::engine::{Outcome, Setup, Stretch};
use super::events::{Clock, Marks};
use super::ledger::Ledger;
use super::plan::{Pace, Plan};
use super::progress::Progress;
use super::ramp::{self, Search};
use super::report::latency::CountedFrom;
use super::report::series::Builder;
use super::report::{Cpu, Latency, Machine, OverTime, Pacing, Ramp, Rate, Report, Step, VERSION, Verify};
use super::request::Source;
use super::tally::Tally;
use super::verify::Watch;
use super::wire::Secure;
use super::{probe, tls};

/// How long load is made when nothing says.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// Descriptors that are no connections: files, epoll sets, timers.
const DESCRIPTORS_OF_OURS: u64 = 64;

/// Why there is no report.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for cannot be done.
    Usage(String),
    /// It went wrong.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(what) | Failure::Failed(what) => f.write_str(what),
        }
    }
}

/// What came of the load, whether of one stretch or of many.
struct Made {
    /// What counts are of.
    total: Tally,
    /// What latencies and rates are of, and the time that took.
    best: Outcome,
    /// All of the time, and what it has cost.
    time: Duration,
    cpu: Cpu,
    steps: Option<Vec<Step>>,
}

/// Makes load, and says what came of it. Ends early when `stop` is set.
///
/// # Errors
/// There is no server, or the log cannot be read, or the machine does not give what is needed. What goes wrong while
/// load is made is in the report.
pub fn run(plan: &Plan, stop: &AtomicBool) -> Result<Report, Failure> {
    let machine = Machine::here();
    allow_descriptors(plan.connections as u64)?;
    let setup = prepare(plan, stop)?;
    let watch = plan.verify.as_deref().map(Watch::begin).transpose();
    let watch = watch.map_err(|error| Failure::Usage(format!("--verify: {error}")))?;
    let mut ledger = watch.is_some().then(|| setup.ledger());
    let mut series = Builder::new();
    let progress = Progress::new();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let made = make(&setup, &mut ledger, &mut series, &progress);
    let interrupted = stop.load(Ordering::Relaxed);
    let checked = match (&made, watch, ledger) {
        (Ok(_), Some(watch), Some(ledger)) => {
            progress.stage("reading the log");
            Some(watch.check(&setup.marks, ledger, &progress)).transpose()
        }
        _ => Ok(None),
    };
    progress.end();
    let made = made.map_err(|error| Failure::Failed(format!("cannot make load: {error}")))?;
    let verify = checked.map_err(|error| Failure::Failed(format!("--verify: {error}")))?;
    let circumstances = Circumstances {
        run: setup.marks.run,
        started: String::from_utf8_lossy(Clock::new().text(began)).into_owned(),
        interrupted,
        machine,
        over_time: series.finish(),
        verify,
    };
    Ok(report(plan, made, circumstances))
}

/// What is known of a run besides its plan and its counts.
struct Circumstances {
    run: String,
    started: String,
    interrupted: bool,
    machine: Machine,
    over_time: OverTime,
    verify: Option<Verify>,
}

fn report(plan: &Plan, made: Made, circumstances: Circumstances) -> Report {
    let best = &made.best;
    let seconds = best.time.as_secs_f64().max(f64::MIN_POSITIVE);
    let a_second = |count: u64| count as f64 / seconds;
    let (pacing, counted_from, target_rate) = match plan.pace {
        Pace::Closed => (Pacing::Closed, CountedFrom::SendTime, None),
        Pace::Open(rate, _) => (Pacing::Open, CountedFrom::IntendedSendTime, Some(rate)),
        Pace::Ramp { .. } => (Pacing::Open, CountedFrom::IntendedSendTime, None),
    };
    let p99_max = match plan.pace {
        Pace::Ramp { p99_max, .. } => p99_max,
        _ => Duration::ZERO,
    };
    let ramp = made.steps.map(|steps| Ramp {
        p99_max_us: p99_max.as_micros() as u64,
        steps,
    });
    Report {
        version: VERSION,
        floodgate: env!("CARGO_PKG_VERSION").into(),
        run: circumstances.run,
        started: circumstances.started,
        seconds: made.time.as_secs_f64(),
        interrupted: circumstances.interrupted,
        url: plan.target.url.clone(),
        settings: plan.settings.clone(),
        machine: circumstances.machine,
        pacing,
        target_rate,
        requests: made.total.requests,
        events: made.total.events,
        rate: Rate {
            requests_per_second: a_second(best.total.ok),
            events_per_second: a_second(best.total.events.acknowledged),
            bytes_per_second: a_second(best.total.body_bytes),
        },
        cpu: Cpu {
            // Some tell it in steps of 10 ms, and then it may be none.
            server_seconds: made.cpu.server_seconds.filter(|seconds| *seconds > 0.0),
            ..made.cpu
        },
        latency: Latency::of(&best.total.latency, counted_from),
        over_time: circumstances.over_time,
        errors: made.total.errors.clone(),
        ramp,
        verify: circumstances.verify,
    }
}

/// Makes sure that there is a server, and gets ready what all stretches need.
fn prepare<'r>(plan: &'r Plan, stop: &'r AtomicBool) -> Result<Setup<'r>, Failure> {
    let url = &plan.target.url;
    let secure = match plan.target.is_tls {
        false => None,
        true => {
            let config = tls::config(&plan.trust).map_err(|error| Failure::Usage(error.to_string()))?;
            let name = ServerName::try_from(plan.target.host.clone());
            let name = name.map_err(|error| Failure::Usage(format!("{url}: {error}")))?;
            Some(Secure { config, name })
        }
    };
    let cannot =
        |error: io::Error| Failure::Failed(format!("cannot connect to {url}: {error}{}", tls::hint(&error)));
    let addresses = plan.target.addresses().map_err(cannot)?;
    let address = probe::reachable(plan, &addresses, secure.as_ref()).map_err(cannot)?;
    let marks = Marks::new(plan.seed);
    Ok(Setup {
        plan,
        address,
        secure,
        source: Source::new(plan, &marks),
        marks,
        stop,
    })
}

fn make(
    setup: &Setup<'_>,
    ledger: &mut Option<Ledger>,
    series: &mut Builder,
    progress: &Progress,
) -> io::Result<Made> {
    let plan = setup.plan;
    let (rate, search) = match plan.pace {
        Pace::Closed => (None, None),
        Pace::Open(rate, arrivals) => (Some((rate, arrivals)), None),
        Pace::Ramp {
            from,
            to,
            arrivals,
            p99_max,
        } => {
            let step = plan.duration.unwrap_or(ramp::STEP_DEFAULT);
            (
                None,
                Some(Search {
                    from,
                    to,
                    arrivals,
                    p99_max,
                    step,
                }),
            )
        }
    };
    if let Some(search) = search {
        let found = ramp::search(setup, &search, ledger, series, progress)?;
        return Ok(Made {
            total: found.total,
            best: found.best,
            time: found.time,
            cpu: found.cpu,
            steps: Some(found.steps),
        });
    }
    let (duration, events) = match (plan.duration, plan.events, &plan.input) {
        (None, None, Some(input)) => (None, Some(input.count())),
        (None, None, None) => (Some(DURATION_DEFAULT), None),
        (duration, events, _) => (duration, events),
    };
    progress.stage("");
    let stretch = Stretch {
        rate,
        warmup: plan.warmup,
        duration,
        events,
        first_page: 0,
    };
    let outcome = setup.run(stretch, ledger, series, progress)?;
    Ok(Made {
        total: outcome.total.clone(),
        time: outcome.time,
        cpu: outcome.cpu,
        best: outcome,
        steps: None,
    })
}

/// Lets the process have a descriptor for each connection.
fn allow_descriptors(connections: u64) -> Result<(), Failure> {
    let needed = connections + DESCRIPTORS_OF_OURS;
    let limit = getrlimit(Resource::Nofile);
    let is_enough = |allowed: Option<u64>| allowed.is_none_or(|allowed| allowed >= needed);
    if is_enough(limit.current) {
        return Ok(());
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match is_enough(limit.maximum) && setrlimit(Resource::Nofile, raised).is_ok() {
        true => Ok(()),
        false => Err(Failure::Usage(format!(
            "{connections} connections need {needed} file descriptors, and the limit is lower (ulimit -n)"
        ))),
    }
}
