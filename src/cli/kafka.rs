//! `floodgate ship kafka://…`: ships a log to a topic of Kafka, beside a server or without one.
//!
//! Owner: the main thread ships ([`crate::kafka`]); another one waits for signals. The first SIGINT or SIGTERM has it settle
//! what is under way, the second ends it at once.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{FAILED, USAGE, complain, given, is_there};
use crate::config::Config;
use crate::kafka::{KafkaShipper, KafkaUrl, Properties};

/// The settings that this has a use for.
const SETTINGS: [&str; 4] = [
    "METRICS_JSONL",
    "METRICS_NODE",
    "METRICS_LOG_FORMAT",
    "METRICS_LOG_LEVEL",
];

/// What there is to say of Kafka beside what `floodgate ship` has anyway.
pub fn add_to(ship: Command) -> Command {
    let file = Arg::new("kafka-config")
        .long("kafka-config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("With kafka://: further settings of librdkafka, a name=value a line: security.protocol, sasl.username, …");
    ship.about("Ship the log to NATS JetStream, each event exactly once, or to Kafka")
        .mut_arg("url", |url| {
            url.help(
                "Servers of NATS, as nats://host:4222, separated by commas [default: METRICS_SHIP_URL]; or \
                 kafka://host:port/topic, several brokers separated by commas: keyed by visitor, in order in each \
                 partition; what a killed process had delivered in its last half second is sent again by the next, and can be \
                 told by its headers",
            )
        })
        .arg(file)
}

/// Ships to the topic at `url`.
pub fn run(url: &str, matches: &ArgMatches) -> ExitCode {
    let usage = |message: String| {
        complain("ship", message);
        ExitCode::from(USAGE)
    };
    let url = match KafkaUrl::parse(url) {
        Ok(url) => url,
        Err(allowed) => return usage(format!("{url:?} is not allowed; {allowed}")),
    };
    let properties = match matches.get_one::<PathBuf>("kafka-config") {
        Some(path) => Properties::read(path),
        None => Ok(Properties::default()),
    };
    let properties = match properties {
        Ok(properties) => properties,
        Err(error) => return usage(format!("--kafka-config: {error}")),
    };
    let said = |variable: &str| {
        SETTINGS
            .contains(&variable)
            .then(|| given(matches, variable))
            .flatten()
    };
    let config = match Config::new(said) {
        Ok(config) => config,
        Err(error) => return usage(error.to_string()),
    };
    if !is_there(&config.engine.log) {
        return usage(format!("there is no log at {}", config.engine.log.display()));
    }
    super::messages::start(config.log_format, config.log_level);
    let shipper = Arc::new(KafkaShipper::new(
        &config.engine.log,
        &config.node,
        url,
        properties,
    ));
    if let Err(error) = stop_on_signals(&shipper) {
        complain("ship", format_args!("cannot listen for signals: {error}"));
        return ExitCode::from(FAILED);
    }
    match shipper.run() {
        Ok(()) => {
            tracing::info!(events = shipper.delivered(), "stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain("ship", error);
            ExitCode::from(FAILED)
        }
    }
}

fn stop_on_signals(shipper: &Arc<KafkaShipper>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let shipper = Arc::clone(shipper);
    std::thread::spawn(move || {
        for is_first in std::iter::once(true).chain(std::iter::repeat(false)) {
            signals.forever().next();
            if !is_first {
                std::process::exit(0);
            }
            shipper.stop();
        }
    });
    Ok(())
}
