//! `floodgate load`: what is done with the reports of load tests.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use super::{load_compare, load_show};

/// The command's arguments.
pub fn command() -> Command {
    Command::new("load")
        .about("Load tests: their reports, and runs side by side")
        .subcommand_required(true)
        .subcommand(load_compare::command())
        .subcommand(load_show::command())
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("show", matches)) => load_show::run(matches),
        Some((_, matches)) => load_compare::run(matches),
        None => unreachable!("a command is required"),
    }
}
