//! `floodgate replay`: existing JSONL posted to a server.
//!
//! What it does is in [`crate::replay`]; here are its arguments, its progress bar and what it says in the end.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::stopping::stop_on_signals;
use super::{FAILED, USAGE, complain};
use crate::config::values;
use crate::replay::pace::Speed;
use crate::replay::sender::{Target, endpoint};
use crate::replay::source::Input;
use crate::replay::state::Counts;
use crate::replay::{CONNECTIONS_MAX, InDoubt, Options, Summary};

/// Longest time that a batch is tried: a week.
const RETRY_FOR_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// The command's arguments.
pub fn command() -> Command {
    Command::new("replay")
        .about("Post the events of existing JSONL files to a server")
        .long_about(
            "Posts the lines of JSONL files, plain or packed with gzip or zstd, as batches: to import history, or to give a server \
             recorded traffic again. Floodgate's own log files are taken as they are; lines that a power cut has torn are \
             left out. A replay that was cut off goes on where it stopped when it is called again.",
        )
        .after_help(
            "A batch whose answer was never seen may be stored or not: --in-doubt says what is done about it.\n\
             Exit codes: 0 all is stored; 1 some of it is not (refused, skipped, below the level asked for), or it ended \
             early; 2 usage, or an earlier call left a batch in doubt.",
        )
        .arg(
            Arg::new("files")
                .value_name("FILES")
                .required(true)
                .num_args(1..)
                .help("JSONL files in the order of their events, - for standard input"),
        )
        .arg(
            Arg::new("url")
                .value_name("URL")
                .required(true)
                .value_parser(endpoint)
                .help("The server, such as http://127.0.0.1:8001 (HTTP_PROXY and the like are respected)"),
        )
        .arg(
            option("speed", "FACTOR", "Keep the pace of the events' time stamps, so many times faster: 1x, 10x, 0.5x [default: as fast as it goes]")
                .value_parser(value_parser!(Speed)),
        )
        .arg(
            option("batch", "LINES", "Most lines in a batch, 1 to 10000; a batch is a mebibyte at most")
                .default_value("1000")
                .value_parser(value_parser!(u64).range(1..=10_000)),
        )
        .arg(
            option(
                "connections",
                "COUNT",
                "Connections, 1 to 64. One keeps the order of the lines; with more, batches overtake each other, and as many may be in doubt",
            )
            .default_value("1")
            .value_parser(value_parser!(u64).range(1..=CONNECTIONS_MAX as u64)),
        )
        .arg(option("ack", "LEVEL", "The acknowledgement asked for: journaled, written or synced [default: the server's]").value_parser(["journaled", "written", "synced"]))
        .arg(
            option("key", "KEY", "The write key; better given by the variable, which others do not see [env: FLOODGATE_KEY]")
                .env("FLOODGATE_KEY")
                .hide_env(true),
        )
        .arg(path("ca", "FILE", "Certificates (PEM) to trust in place of the system's, for https"))
        .arg(path("state", "FILE", "Where it is noted how far it has come [default: the first of FILES with .replay behind it; none for standard input]"))
        .arg(path("rejected", "FILE", "Where refused lines go, as JSONL of file, line, reason and text [default: the first of FILES with .rejected behind it; none for standard input]"))
        .arg(
            option("in-doubt", "WHAT", "What is done about a batch whose answer was never seen: stop (the next call has to say), send it again (it may be there twice), skip it (it may be missing)")
                .default_value("stop")
                .value_parser(["stop", "send", "skip"]),
        )
        .arg(
            option("retry-for", "TIME", "How long a batch is tried while the server cannot be reached or answers 503 or 429 with Retry-After")
                .default_value("5m")
                .value_parser(|text: &str| values::duration(text, 0, RETRY_FOR_MS_MAX)),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the summary as a JSON object"))
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).value_parser(value_parser!(PathBuf))
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let failed = |code: u8, message: &dyn std::fmt::Display| {
        complain("replay", message);
        ExitCode::from(code)
    };
    let options = match options(matches) {
        Ok(options) => options,
        Err(error) => return failed(USAGE, &error),
    };
    // What is under way is waited for after the first one, so that nothing is in doubt.
    let stop = match stop_on_signals(FAILED) {
        Ok(stop) => stop,
        Err(error) => return failed(FAILED, &format!("cannot listen for signals: {error}")),
    };
    let bar = progress(&options.inputs);
    let (url, inputs) = (options.target.url.to_string(), options.inputs.clone());
    let (state, rejected) = (options.state.clone(), options.rejected.clone());
    let mut show = |bytes: u64, counts: &Counts| {
        bar.set_position(bytes);
        bar.set_message(format!(
            "{} stored, {} refused",
            HumanCount(counts.stored),
            HumanCount(counts.refused)
        ));
    };
    let ended = crate::replay::run(options, stop, &mut show);
    bar.finish_and_clear();
    let summary = match ended {
        Ok(summary) => summary,
        Err(error) => return failed(USAGE, &error),
    };
    let report = Report::new(&summary, url, &inputs, state, rejected);
    if let Err(error) = report.print(matches.get_flag("json"))
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return failed(FAILED, &format!("cannot write the summary: {error}"));
    }
    match &summary.error {
        Some(error) => failed(FAILED, error),
        None if summary.is_all_stored() => ExitCode::SUCCESS,
        None => ExitCode::from(FAILED),
    }
}

/// What was asked for.
fn options(matches: &ArgMatches) -> Result<Options, String> {
    let files: Vec<&String> = matches.get_many("files").expect("it is required").collect();
    let inputs: Vec<Input> = files.iter().map(|name| Input::of(name)).collect();
    if inputs.iter().filter(|input| **input == Input::Stdin).count() > 1 {
        return Err("standard input can be read once".into());
    }
    for input in &inputs {
        if let Input::File(name) = input {
            let found = std::fs::metadata(name).map_err(|error| format!("{name}: {error}"))?;
            if found.is_dir() {
                return Err(format!("{name} is a directory"));
            }
        }
    }
    let ca = match matches.get_one::<PathBuf>("ca") {
        Some(path) => Some(std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?),
        None => None,
    };
    let beside = |name: &str, end: &str| {
        let given = matches.get_one::<PathBuf>(name).cloned();
        given.or_else(|| (inputs[0] != Input::Stdin).then(|| PathBuf::from(format!("{}{end}", files[0]))))
    };
    let number = |name: &str| *matches.get_one::<u64>(name).expect("it has a default") as usize;
    Ok(Options {
        target: Target {
            url: matches
                .get_one::<reqwest::Url>("url")
                .expect("it is required")
                .clone(),
            key: matches
                .get_one::<String>("key")
                .filter(|key| !key.is_empty())
                .cloned(),
            ack: matches.get_one::<String>("ack").cloned(),
            ca,
            retry_for: *matches
                .get_one::<Duration>("retry-for")
                .expect("it has a default"),
            in_doubt: match matches.get_one::<String>("in-doubt").map(String::as_str) {
                Some("send") => InDoubt::Send,
                Some("skip") => InDoubt::Skip,
                _ => InDoubt::Stop,
            },
        },
        connections: number("connections"),
        batch_lines: number("batch"),
        speed: matches.get_one::<Speed>("speed").copied(),
        state: beside("state", ".replay"),
        rejected: beside("rejected", ".rejected"),
        inputs,
    })
}

/// A bar on standard error, if that is a terminal.
fn progress(inputs: &[Input]) -> ProgressBar {
    let total: Option<u64> = inputs.iter().map(Input::bytes).sum();
    let template = match total {
        Some(_) => "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}  {msg}",
        None => "{binary_bytes} {binary_bytes_per_sec} {elapsed}  {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style)
}

/// What is said in the end.
#[derive(Serialize)]
struct Report<'s> {
    ok: bool,
    url: String,
    files: Vec<String>,
    /// Whether an earlier call had begun.
    resumed: bool,
    error: Option<&'s str>,
    /// Of all calls that shared the state.
    #[serde(flatten)]
    counts: &'s Counts,
    /// Of this one.
    this_call: &'s Counts,
    seconds: f64,
    events_per_second: f64,
    /// How far the recorded pace was missed at the worst.
    late_ms_max: u128,
    state: Option<PathBuf>,
    rejected: Option<PathBuf>,
}

impl<'s> Report<'s> {
    fn new(
        summary: &'s Summary,
        url: String,
        inputs: &[Input],
        state: Option<PathBuf>,
        rejected: Option<PathBuf>,
    ) -> Self {
        let seconds = summary.elapsed.as_secs_f64();
        Report {
            ok: summary.is_all_stored(),
            url,
            files: inputs.iter().map(|input| input.name().to_owned()).collect(),
            resumed: summary.is_resumed,
            error: summary.error.as_deref(),
            counts: &summary.counts,
            this_call: &summary.this_call,
            seconds,
            events_per_second: summary.this_call.stored as f64 / seconds.max(1e-9),
            late_ms_max: summary.late_max.as_millis(),
            state,
            rejected,
        }
    }

    fn print(&self, as_json: bool) -> io::Result<()> {
        let text = match as_json {
            true => serde_json::to_string(self)?,
            false => self.sentences(),
        };
        writeln!(io::stdout(), "{text}")
    }

    fn sentences(&self) -> String {
        let count = HumanCount;
        let Counts { stored, refused, .. } = *self.counts;
        let mut text = format!(
            "{} events stored, {} lines refused, of {} lines; {:.1} s, {} events/s",
            count(stored),
            count(refused),
            count(self.counts.lines),
            self.seconds,
            count(self.events_per_second as u64),
        );
        if self.resumed {
            text += &format!(
                "\n{} of the events were stored by this call, the others before",
                count(self.this_call.stored)
            );
        }
        if let Some(path) = self.rejected.as_ref().filter(|_| refused > 0) {
            text += &format!("\nwhat was refused, and why: {}", path.display());
        }
        let told = [
            (
                self.counts.blank + self.counts.torn,
                "lines left out, as they are no events (blank, or marked as torn)",
            ),
            (
                self.counts.maybe_twice,
                "events sent again after an answer that was never seen, which may be there twice",
            ),
            (
                self.counts.skipped,
                "events in doubt and not sent again, which may be missing",
            ),
            (
                self.counts.below_level,
                "events stored, but not at the level asked for; which of them were refused was not told",
            ),
        ];
        for (number, what) in told.into_iter().filter(|(number, _)| *number > 0) {
            text += &format!("\n{what}: {}", count(number));
        }
        if self.late_ms_max >= 1000 {
            text += &format!(
                "\nthe recorded pace could not be kept: up to {} ms late",
                count(self.late_ms_max as u64)
            );
        }
        text
    }
}
