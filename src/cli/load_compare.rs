//! `floodgate load compare`: runs of a load test side by side.
//!
//! A subcommand of `load`, as `show` is.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{FAILED, USAGE, complain};
use crate::load::compare::Comparison;
use crate::load::report::Report;

/// Percent that is lost before `--fail-if-slower` alone calls it slower.
const SLOWER_PERCENT: &str = "5";

/// The command's arguments.
pub fn command() -> Command {
    Command::new("compare")
        .about("Put the reports of two runs, or of two groups of runs, side by side")
        .long_about(
            "Puts rates, latencies, CPU and failures of two runs side by side, the second as a multiple of the first. With repeated \
             runs (several files a side, or several reports in a file) it says which differences chance alone makes: 4 runs a side \
             are the fewest that can tell, best made by turns. Warns where settings or machines differ.",
        )
        .after_help(
            "  floodgate load compare before.json after.json\n  floodgate load compare before-*.json --with after-*.json\n\n\
             Exit codes: 0 compared; 1 slower, with --fail-if-slower; 2 usage, a file that is no report, or too few runs for \
             --fail-if-slower.",
        )
        .arg(
            Arg::new("files")
                .value_name("FILE")
                .num_args(1..)
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Reports made by --json; two files are the two sides, unless --with names the second"),
        )
        .arg(
            Arg::new("with")
                .long("with")
                .value_name("FILE")
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("Reports of the second side"),
        )
        .arg(
            Arg::new("fail-if-slower")
                .long("fail-if-slower")
                .value_name("PERCENT")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(SLOWER_PERCENT)
                .value_parser(percent)
                .help(
                    "Exit with 1 if the second side has fewer events a second, or more median, 99th percentile or server CPU an event, \
                     by more than this [default: 5] and more than noise; needs repeated runs",
                ),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print a JSON object"))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>();
    let number = number.ok().filter(|number| (0.0..=1_000.0).contains(number));
    number.ok_or_else(|| "a number from 0 to 1000 is allowed".into())
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let failed = |code: u8, message: &str| {
        complain("load compare", message);
        ExitCode::from(code)
    };
    let comparison = match compared(matches) {
        Ok(comparison) => comparison,
        Err(error) => return failed(USAGE, &error),
    };
    let text = match matches.get_flag("json") {
        true => serde_json::to_string(&comparison).expect("a comparison can be written") + "\n",
        false => comparison.table(io::stdout().is_terminal() && console::colors_enabled()),
    };
    if let Err(error) = io::stdout().write_all(text.as_bytes())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return failed(FAILED, &format!("cannot write the comparison: {error}"));
    }
    let Some(percent) = matches.get_one::<f64>("fail-if-slower") else {
        return ExitCode::SUCCESS;
    };
    if !comparison.can_tell() {
        return failed(
            USAGE,
            "--fail-if-slower needs more runs: with so few nothing is beyond noise",
        );
    }
    let slower: Vec<&str> = comparison.slower(percent / 100.0).collect();
    match slower.is_empty() {
        true => ExitCode::SUCCESS,
        false => failed(
            FAILED,
            &format!("slower by more than {percent} %: {}", slower.join(", ")),
        ),
    }
}

fn compared(matches: &ArgMatches) -> Result<Comparison, String> {
    let paths = |name: &str| -> Vec<&PathBuf> { matches.get_many(name).unwrap_or_default().collect() };
    let (files, with) = (paths("files"), paths("with"));
    let (first, second) = match (&files[..], &with[..]) {
        ([first, second], []) => (vec![*first], vec![*second]),
        (_, []) => {
            return Err(format!(
                "{} named, where two are the two sides; for more put --with before those of the second side",
                if files.len() == 1 {
                    "one file is".into()
                } else {
                    format!("{} files are", files.len())
                }
            ));
        }
        _ => (files, with),
    };
    Comparison::new(&reports(&first)?, &reports(&second)?)
}

fn reports(paths: &[&PathBuf]) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    for path in paths {
        reports.extend(Report::read_all(path)?);
    }
    Ok(reports)
}
