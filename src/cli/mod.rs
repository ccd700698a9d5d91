//! The command line: which command, with which settings.
//!
//! Flags and variables of the settings are made from [`SETTINGS`]. Exit codes: 0 fine, 1 something failed while running,
//! 2 usage or configuration.

mod config;
mod listen;
mod serve;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::Config;
use crate::config::settings::SETTINGS;

/// Usage or configuration is wrong.
const USAGE: u8 = 2;

/// Parses the command line and runs the command. Answers the exit code.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    let (name, of_command) = matches.subcommand().unwrap_or(("serve", &matches));
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
             250ms, 10s, 5m.\nExit codes: 0 fine, 1 failed while running, 2 usage or configuration.",
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
}

fn setting_args() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().map(|setting| {
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
    })
}

/// What was said of a setting, by flag or variable. An empty variable says nothing.
fn given(matches: &ArgMatches, variable: &str) -> Option<String> {
    let from_environment = matches.value_source(variable) == Some(clap::parser::ValueSource::EnvVariable);
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
