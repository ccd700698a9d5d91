//! `floodgate load`: a load test and its report.
//!
//! Arguments become a [`Plan`], which [`crate::load`] carries out on threads of its own; the main thread gathers and prints.
//! SIGINT or SIGTERM ends the load, and the report is of what was done until then; a second one ends the process.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use indexmap::IndexMap;

use super::stopping::stop_on_signals;
use super::{FAILED, USAGE, complain, load_compare, load_show};
use crate::config::values;
use crate::load::plan::{
    Arrivals, BATCH_MAX, CONNECTIONS_MAX, Encoding, Key, PIPELINE_MAX, Pace, Plan, Shape, THREADS_MAX, Trust,
    rates,
};
use crate::load::report::Report;
use crate::load::report::page::page;
use crate::load::report::table::table;
use crate::load::target::Target;
use crate::load::{Failure, Input, run as make_load};

/// The variable that a key may come in, so that it is in no list of processes.
const KEY_VARIABLE: &str = "FLOODGATE_KEY";
/// What the 99th percentile of a ramp may be when nothing says.
const P99_DEFAULT: &str = "10ms";

/// The command's arguments.
pub fn command() -> Command {
    Command::new("load")
        .about("Make load, and say what came of it")
        .long_about(
            "Posts events to a server as fast as it answers (a closed loop), or with --rate by the clock (an open loop), where \
             latencies are counted from when a request was to be sent, so that a server that stalls is charged for all \
             that had to wait. Events are generated from a seed, or read from a file.",
        )
        .after_help(
            "A rate is of requests a second. Without --duration and --events load is made for 10 s, or each line of --input is \
             sent once.\nExit codes: 0 fine; 1 nothing got through, or --verify found something missing or twice; 2 usage.",
        )
        .arg(
            Arg::new("url")
                .value_name("URL")
                .required(true)
                .value_parser(|text: &str| text.parse::<Target>())
                .help("The server, such as http://127.0.0.1:8001"),
        )
        .args(pace_args())
        .args(shape_args())
        .args(target_args())
        .args(report_args())
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .subcommand(load_compare::command())
        .subcommand(load_show::command())
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn duration(text: &str) -> Result<Duration, String> {
    values::duration(text, 1, 7 * 86_400_000)
}

fn pace_args() -> [Arg; 9] {
    [
        option("connections", "COUNT", "Connections that are kept open")
            .short('c')
            .default_value("64")
            .value_parser(|text: &str| values::whole(text, 1, CONNECTIONS_MAX)),
        option("threads", "COUNT", "Threads that make load")
            .short('t')
            .default_value("1")
            .value_parser(|text: &str| values::whole(text, 1, THREADS_MAX)),
        option("rate", "RATE", "Requests a second by the clock, as 800, 12.5k or 1M; FIRST..HIGHEST looks for the highest one that is held: reached, with a p99 within --p99")
            .short('r')
            .value_parser(rates),
        option("arrivals", "HOW", "How requests arrive at a rate: evenly, or as those of many independent clients")
            .requires("rate")
            .default_value("constant")
            .value_parser(PossibleValuesParser::new(["constant", "poisson"])),
        option("p99", "TIME", "What the 99th percentile may be at a rate that is held")
            .requires("rate")
            .default_value(P99_DEFAULT)
            .value_parser(duration),
        option("duration", "TIME", "How long load is made, as 30s; of a ramp, how long each step [default: 10s, 5s]")
            .short('d')
            .value_parser(duration),
        option("events", "COUNT", "How many events are sent")
            .short('n')
            .value_parser(value_parser!(u64).range(1..1_000_000_000_000)),
        option("warmup", "TIME", "How long load is made before anything counts")
            .default_value("0ms")
            .value_parser(|text: &str| values::duration(text, 0, 3_600_000)),
        option("timeout", "TIME", "How long connecting, or an answer, may take")
            .default_value("10s")
            .value_parser(|text: &str| values::duration(text, 10, 600_000)),
    ]
}

fn shape_args() -> [Arg; 6] {
    [
        switch("single", "A request with an event at a time (the default)")
            .conflicts_with_all(["pipeline", "batch"]),
        option(
            "pipeline",
            "COUNT",
            "So many requests with an event each in one write, then their answers",
        )
        .conflicts_with("batch")
        .value_parser(value_parser!(u32).range(1..=i64::from(PIPELINE_MAX))),
        option("batch", "COUNT", "Requests with so many events each, one a line")
            .value_parser(value_parser!(u32).range(1..=i64::from(BATCH_MAX))),
        option("encoding", "CODING", "Pack bodies, at level 1")
            .value_parser(PossibleValuesParser::new(["gzip", "zstd"])),
        option("seed", "NUMBER", "The same seed makes the same events")
            .default_value("1")
            .value_parser(value_parser!(u64)),
        option(
            "input",
            "FILE",
            "Send the lines of a file, or of standard input (`-`), in turn, in place of generated events",
        )
        .value_parser(value_parser!(PathBuf)),
    ]
}

fn target_args() -> [Arg; 4] {
    [
        option(
            "ack",
            "LEVEL",
            "What a 202 is to promise [default: what the server promises]",
        )
        .value_parser(PossibleValuesParser::new(["journaled", "written", "synced"])),
        option(
            "key",
            "KEY",
            "A key for writing; better given by the variable, since a command line can be seen by others",
        )
        .env(KEY_VARIABLE)
        .hide_env_values(true)
        .value_parser(key),
        option(
            "ca",
            "FILE",
            "Trust the certificates in this file (PEM) and no others",
        )
        .value_parser(value_parser!(PathBuf))
        .conflicts_with("insecure"),
        switch("insecure", "Trust every certificate"),
    ]
}

fn report_args() -> [Arg; 3] {
    [
        option("verify", "LOG", "Afterwards read the log whose live file this is, and account for each event that was acknowledged")
            .value_parser(value_parser!(PathBuf))
            .conflicts_with("input"),
        option("json", "FILE", "Print the report as JSON, or write it to a file: --json=FILE")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("-")
            .value_parser(value_parser!(PathBuf)),
        option("html", "FILE", "Write the report as a page").value_parser(value_parser!(PathBuf)),
    ]
}

/// A key as it may stand in a header.
fn key(text: &str) -> Result<String, String> {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    match is_visible && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("it is of visible ASCII characters".into()),
    }
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("compare", of_compare)) => return load_compare::run(of_compare),
        Some(("show", of_show)) => return load_show::run(of_show),
        _ => {}
    }
    let failed = |code: u8, message: &dyn std::fmt::Display| {
        complain("load", message);
        ExitCode::from(code)
    };
    let plan = match plan(matches) {
        Ok(plan) => plan,
        Err(error) => return failed(USAGE, &error),
    };
    let stop = match stop_on_signals(FAILED) {
        Ok(stop) => stop,
        Err(error) => return failed(FAILED, &format!("cannot listen for signals: {error}")),
    };
    let report = match make_load(&plan, &stop) {
        Ok(report) => report,
        Err(error @ Failure::Usage(_)) => return failed(USAGE, &error),
        Err(error @ Failure::Failed(_)) => return failed(FAILED, &error),
    };
    if let Err(error) = show(matches, &report) {
        return failed(FAILED, &error);
    }
    let got_through = report.rate.requests_per_second > 0.0;
    let is_verified = report.verify.as_ref().is_none_or(|verify| verify.is_ok());
    match got_through && is_verified {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    }
}

fn plan(matches: &ArgMatches) -> Result<Plan, String> {
    let whole = |name: &str| *matches.get_one::<usize>(name).expect("it has a default");
    let time = |name: &str| *matches.get_one::<Duration>(name).expect("it has a default");
    let plan = Plan {
        target: matches.get_one::<Target>("url").expect("it is required").clone(),
        key: matches.get_one::<String>("key").cloned().map(Key),
        trust: match (matches.get_one::<PathBuf>("ca"), matches.get_flag("insecure")) {
            (Some(path), _) => Trust::File(path.clone()),
            (None, true) => Trust::Anybody,
            (None, false) => Trust::System,
        },
        threads: whole("threads"),
        connections: whole("connections"),
        pace: pace(matches),
        shape: match (
            matches.get_one::<u32>("pipeline"),
            matches.get_one::<u32>("batch"),
        ) {
            (Some(requests), _) => Shape::Pipeline(*requests),
            (_, Some(events)) => Shape::Batch(*events),
            (None, None) => Shape::Single,
        },
        encoding: matches
            .get_one::<String>("encoding")
            .map(|name| match name.as_str() {
                "gzip" => Encoding::Gzip,
                _ => Encoding::Zstd,
            }),
        ack: matches.get_one::<String>("ack").cloned(),
        duration: matches.get_one::<Duration>("duration").copied(),
        events: matches.get_one::<u64>("events").copied(),
        warmup: time("warmup"),
        timeout: time("timeout"),
        seed: *matches.get_one::<u64>("seed").expect("it has a default"),
        input: None,
        verify: matches.get_one::<PathBuf>("verify").cloned(),
        settings: settings(matches),
    };
    check(&plan)?;
    // Last: reading may take a while, and usage is told at once.
    let input = match matches.get_one::<PathBuf>("input") {
        None => None,
        Some(path) => {
            Some(Input::read(path).map_err(|error| format!("--input {}: {error}", path.display()))?)
        }
    };
    Ok(Plan { input, ..plan })
}

/// What arguments may not be together.
fn check(plan: &Plan) -> Result<(), String> {
    let (connections, threads) = (plan.connections, plan.threads);
    if threads > connections {
        return Err(format!(
            "--threads {threads}: each needs a connection, and there are {connections}"
        ));
    }
    if !plan.target.is_tls && !matches!(plan.trust, Trust::System) {
        return Err("--ca and --insecure are for https:// URLs".into());
    }
    if plan.events.is_some() && matches!(plan.pace, Pace::Ramp { .. }) {
        return Err("a ramp has steps of --duration, and no number of events".into());
    }
    if let Some(log) = &plan.verify {
        // A log begins with its first event, so only its folder has to be there.
        let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(format!("--verify {}: there is no such folder", log.display()));
        }
    }
    Ok(())
}

fn pace(matches: &ArgMatches) -> Pace {
    let arrivals = match matches
        .get_one::<String>("arrivals")
        .expect("it has a default")
        .as_str()
    {
        "poisson" => Arrivals::Poisson,
        _ => Arrivals::Constant,
    };
    match matches.get_one::<(f64, Option<f64>)>("rate") {
        None => Pace::Closed,
        Some((rate, None)) => Pace::Open(*rate, arrivals),
        Some((from, Some(to))) => Pace::Ramp {
            from: *from,
            to: *to,
            arrivals,
            p99_max: *matches.get_one::<Duration>("p99").expect("it has a default"),
        },
    }
}

/// What the run was told, as it was spelled, and defaults that shape it. A key is told as being there.
fn settings(matches: &ArgMatches) -> IndexMap<String, String> {
    const OF_THE_REPORT: [&str; 3] = ["url", "json", "html"];
    const ALWAYS: [&str; 2] = ["connections", "threads"];
    let mut settings = IndexMap::new();
    for id in command()
        .get_arguments()
        .map(|argument| argument.get_id().as_str().to_owned())
    {
        let is_said = matches!(
            matches.value_source(&id),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        );
        if OF_THE_REPORT.contains(&id.as_str()) || !is_said && !ALWAYS.contains(&id.as_str()) {
            continue;
        }
        let raw = matches.get_raw(&id).into_iter().flatten();
        let text = match id.as_str() {
            "key" => "yes".to_owned(),
            _ => raw
                .map(|text| text.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" "),
        };
        // A switch has no value of its own.
        let text = if text == "true" { "yes".into() } else { text };
        settings.insert(id, text);
    }
    settings
}

/// Prints the report, for people or as JSON, and writes it to the files that were asked for.
fn show(matches: &ArgMatches, report: &Report) -> Result<(), String> {
    let mut line = Vec::new();
    report.write_line(&mut line).expect("memory takes every byte");
    let mut printed = Vec::new();
    match matches.get_one::<PathBuf>("json") {
        Some(path) if path.as_os_str() == "-" => printed = line,
        Some(path) => write(path, &line)?,
        None => {}
    }
    if printed.is_empty() {
        let colours = io::stdout().is_terminal() && console::colors_enabled();
        printed = table(report, colours).into_bytes();
    }
    if let Some(path) = matches.get_one::<PathBuf>("html") {
        write(path, page(report).as_bytes())?;
    }
    match io::stdout().write_all(&printed) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the report: {error}"))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
