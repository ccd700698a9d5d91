//! The command line: which command, with which settings.
//!
//! Flags and variables of the settings are made from [`SETTINGS`]. Exit codes: 0 fine, 1 something failed while running
//! or what was checked is wrong, 2 usage or configuration.

mod config;
mod health;
#[cfg(feature = "kafka")]
mod kafka;
mod listen;
mod load;
mod load_compare;
mod load_show;
mod messages;
mod notify;
mod replay;
mod serve;
mod ship;
mod stopping;
mod tail;
mod verify;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::Config;
use crate::config::settings::{SETTINGS, Setting, find};
use crate::log::fs::OsFs;
use crate::log::segment::Family;

/// Something failed while running, or what was checked is wrong.
const FAILED: u8 = 1;
/// Usage or configuration is wrong.
const USAGE: u8 = 2;

/// Parses the command line and runs the command. Answers the exit code.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let (name, of_command) = matches.subcommand().unwrap_or(("serve", &matches));
    match name {
        "load" => return load::run(of_command),
        "replay" => return replay::run(of_command),
        "health" => return health::run(of_command),
        "tail" => return tail::run(of_command),
        "verify" => return verify::run(of_command),
        "ship" => return ship::run(of_command),
        _ => {}
    }
    let config = match Config::new(|variable| given(of_command, variable)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("floodgate: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match name {
        "config" => config::print(of_command, &config),
        _ => serve::serve(config),
    }
}

fn command() -> Command {
    Command::new("floodgate")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Takes behaviour events over HTTP and leaves them as an append-only JSONL log")
        .after_help(
            "Each setting is an environment variable and a flag; the flag wins. Sizes are written 64MiB, durations \
             250ms, 10s, 5m.\nExit codes: 0 fine, 1 failed while running, or what was checked is wrong, 2 usage or configuration.",
        )
        .args(setting_args())
        .args_conflicts_with_subcommands(true)
        .subcommand(
            Command::new("serve").about("Serve the endpoints (what is done without a command)").args(setting_args()),
        )
        .subcommand(
            Command::new("config")
                .about("Print the effective settings and where each comes from")
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print a JSON object"))
                .args(setting_args()),
        )
        .subcommand(load::command())
        .subcommand(replay::command())
        .subcommand(health::command())
        .subcommand(tail::command())
        .subcommand(verify::command())
        .subcommand(ship::command())
}

fn setting_args() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().map(setting_arg)
}

fn setting_arg(setting: &Setting) -> Arg {
    let help = match setting.default {
        "" => setting.help.to_owned(),
        default => format!("{} [default: {default}]", setting.help),
    };
    Arg::new(setting.variable)
        .long(setting.flag)
        .env(setting.variable)
        .value_name(setting.value)
        .allow_hyphen_values(true)
        .hide_env_values(true)
        .help(help)
}

/// The arguments that name a log to a command that reads it.
fn log_args() -> [Arg; 2] {
    let file = Arg::new("file")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("The live file of the log, in place of --jsonl; sealed files and archive are found beside it");
    [file, setting_arg(find("METRICS_JSONL").expect("it is a setting"))]
}

/// The live file that the arguments of [`log_args`] name.
fn log_path(matches: &ArgMatches) -> Result<PathBuf, String> {
    let setting = find("METRICS_JSONL").expect("it is a setting");
    let by_flag = matches.value_source(setting.variable) == Some(ValueSource::CommandLine);
    match matches.get_one::<PathBuf>("file") {
        Some(_) if by_flag => Err("FILE and --jsonl both name a log".into()),
        Some(file) => Ok(file.clone()),
        None => Ok(given(matches, setting.variable).map_or(setting.default.into(), PathBuf::from)),
    }
}

/// Whether there is anything of the log at `live`: the file itself, or sealed ones.
fn is_there(live: &Path) -> bool {
    // What cannot be looked at is told by who tries to read it.
    let is_sealed = || Family::of(live).list(&OsFs).map_or(true, |list| !list.is_empty());
    live.try_exists().unwrap_or(true) || is_sealed()
}

/// Says what went wrong. Nobody may be there to hear it.
fn complain(command: &str, message: impl Display) {
    writeln!(io::stderr(), "floodgate {command}: {message}").ok();
}

/// What was said of a setting, by flag or variable. An empty variable says nothing.
fn given(matches: &ArgMatches, variable: &str) -> Option<String> {
    let from_environment = matches.value_source(variable) == Some(ValueSource::EnvVariable);
    matches
        .get_one::<String>(variable)
        .filter(|text| !(from_environment && text.is_empty()))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_has_a_flag_for_each_setting() {
        command().debug_assert();
        for setting in SETTINGS {
            let flag = setting
                .variable
                .trim_start_matches("METRICS_")
                .to_lowercase()
                .replace('_', "-");
            assert_eq!(setting.flag, flag, "a flag has the name of its variable");
            let line = ["floodgate", "serve", &format!("--{flag}"), "value"];
            let matches = command().try_get_matches_from(line).unwrap();
            let (_, matches) = matches.subcommand().unwrap();
            assert_eq!(given(matches, setting.variable).as_deref(), Some("value"));
        }
    }
}
