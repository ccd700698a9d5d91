//! `floodgate load show`: a saved report again, as a table or a page.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{FAILED, USAGE, complain};
use crate::load::report::Report;
use crate::load::report::page::page;
use crate::load::report::table::table;

/// The command's arguments.
pub fn command() -> Command {
    Command::new("show")
        .about("Show a saved report again, or make a page of it")
        .after_help("Exit codes: 0 fine; 1 the page cannot be written; 2 usage, or a file that is no report.")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("A file made by --json; of several reports in it the last is shown"),
        )
        .arg(
            Arg::new("html")
                .long("html")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the report as a page to this file, in place of the table"),
        )
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let failed = |code: u8, message: &str| {
        complain("load show", message);
        ExitCode::from(code)
    };
    let path = matches.get_one::<PathBuf>("file").expect("it is required");
    let report = match Report::read_all(path) {
        Ok(mut reports) => reports.pop().expect("there is one at least"),
        Err(error) => return failed(USAGE, &error),
    };
    let written = match matches.get_one::<PathBuf>("html") {
        Some(path) => {
            std::fs::write(path, page(&report)).map_err(|error| format!("{}: {error}", path.display()))
        }
        None => {
            let text = table(&report, io::stdout().is_terminal() && console::colors_enabled());
            match io::stdout().write_all(text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
                _ => Ok(()),
            }
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(FAILED, &error),
    }
}
