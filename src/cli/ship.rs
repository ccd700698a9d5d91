//! `floodgate ship`: ships a log to NATS JetStream, beside a server or without one. (To Kafka: `kafka.rs`, where that is built in.)
//!
//! Owner: the main thread ships ([`crate::ship`]); another one waits for signals. The first SIGINT or SIGTERM has it settle what
//! is under way, the second ends it at once: the stream knows what it has, so nothing is lost by that.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{FAILED, USAGE, complain, given, is_there, messages, setting_arg};
use crate::config::Config;
use crate::config::settings::SETTINGS;
use crate::log::cursor::Position;
use crate::log::fs::OsFs;
use crate::log::segment::Family;
use crate::log::summary::Summary;
use crate::ship::{ShipStatus, Shipper};

/// How often it says how far it is, where somebody watches.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Whether the command has that setting.
fn is_ours(variable: &str) -> bool {
    let begins = |start| variable.starts_with(start);
    let is_ship = begins("METRICS_SHIP_") && variable != "METRICS_SHIP_HOLD";
    is_ship
        || begins("METRICS_NATS_")
        || begins("METRICS_LOG_")
        || ["METRICS_JSONL", "METRICS_NODE"].contains(&variable)
}

/// The command's arguments.
pub fn command() -> Command {
    let command = Command::new("ship")
        .about("Ship the log to NATS JetStream, each event exactly once")
        .long_about(
            "Follows the log over rotations and puts each event into the stream `metrics-<node>` of NATS JetStream, exactly once and \
             in order, whatever is killed or lost meanwhile. Makes the stream if it is not there. The server does the same by \
             itself with METRICS_SHIP_URL; this command is for a log that something else writes, or to have it in a process of its own.",
        )
        .after_help(
            "How far it is, is kept in a file beside the log (metrics.ship.json); a server's retention leaves what is not shipped.\n\
             Exit codes: 0 when told to stop, 1 something has to be set right, 2 usage, or there is no such log.",
        )
        .arg(
            Arg::new("url")
                .value_name("URLS")
                .help("Servers of NATS, as nats://host:4222, separated by commas [default: METRICS_SHIP_URL]"),
        )
        .arg(Arg::new("pack").long("pack").action(ArgAction::SetTrue).help("Many lines in a message, as --ship-pack on"))
        .args(SETTINGS.iter().filter(|setting| is_ours(setting.variable)).map(setting_arg));
    #[cfg(feature = "kafka")]
    let command = super::kafka::add_to(command);
    command
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    if let Some(url) = matches
        .get_one::<String>("url")
        .filter(|url| url.starts_with("kafka:"))
    {
        #[cfg(feature = "kafka")]
        return super::kafka::run(url, matches);
        #[cfg(not(feature = "kafka"))]
        complain(
            "ship",
            format_args!("{url}: this program was built without Kafka (`cargo build --features kafka`)"),
        );
        #[cfg(not(feature = "kafka"))]
        return ExitCode::from(USAGE);
    }
    let raw = |variable: &str| match variable {
        "METRICS_SHIP_URL" if matches.contains_id("url") => matches.get_one::<String>("url").cloned(),
        "METRICS_SHIP_PACK" if matches.get_flag("pack") => Some("on".into()),
        variable if is_ours(variable) => given(matches, variable),
        _ => None,
    };
    let usage = |message: &dyn std::fmt::Display| {
        complain("ship", message);
        ExitCode::from(USAGE)
    };
    let config = match Config::new(raw) {
        Ok(config) => config,
        Err(error) => return usage(&error),
    };
    let Some(policy) = config.ship else {
        return usage(&"it is not said where to: floodgate ship nats://host:4222");
    };
    let log = config.engine.log;
    if !is_there(&log) {
        return usage(&format!("there is no log at {}", log.display()));
    }
    messages::start(config.log_format, config.log_level);
    let (shipper, stop) = Shipper::new(&log, &config.node, policy);
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("cannot listen for signals: {error}")),
    };
    std::thread::spawn(move || {
        for is_first in std::iter::once(true).chain(std::iter::repeat(false)) {
            signals.forever().next();
            if !is_first {
                std::process::exit(0);
            }
            stop.send_replace(true);
        }
    });
    let status = shipper.status();
    if std::io::stderr().is_terminal() {
        let status = Arc::clone(&status);
        std::thread::spawn(move || tell(&log, &status));
    }
    match shipper.run(false) {
        Ok(()) => {
            let shipped = status.shipped();
            tracing::info!(
                events = shipped.events,
                bytes = shipped.bytes,
                messages = shipped.messages,
                "stopped"
            );
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(message: &dyn std::fmt::Display) -> ExitCode {
    complain("ship", message);
    ExitCode::from(FAILED)
}

/// Says now and then how far it is.
fn tell(log: &Path, status: &ShipStatus) {
    loop {
        std::thread::sleep(TELL_EVERY);
        let shipped = status.shipped();
        let left = status.next().and_then(|next| bytes_behind(log, next));
        tracing::info!(
            events = shipped.events,
            failures = shipped.failures,
            left_bytes = left,
            lag_seconds = status.lag_seconds().round() as u64,
            "shipped so far"
        );
    }
}

/// Bytes of the log behind that place, as far as its files tell.
fn bytes_behind(log: &Path, next: Position) -> Option<u64> {
    let family = Family::of(log);
    let length = |path: PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut bytes = length(family.live());
    for (id, parts) in family.list(&OsFs).ok()? {
        if id.number < next.number {
            continue;
        }
        bytes += match parts.plain {
            true => length(family.plain(id)),
            false => Summary::read(&OsFs, &family.summary(id), id)
                .ok()?
                .map_or(0, |summary| summary.bytes),
        };
    }
    // Of the file that it lies in, be it the live one, a part is shipped.
    Some(bytes.saturating_sub(next.offset))
}
