//! `floodgate verify`: whether every line of every file is what it must be, and every summary says what its file has.
//!
//! Files are checked side by side, one a core; what goes from one file to the next (numbers without gaps) is checked when all
//! are done. A log that a server writes can be checked as it is: of the live file what it had when the check began. Nothing
//! is changed, but with `--repair` summaries, and those only while no server has the log.
//!
//! Owner: the main thread and its workers. Memory: a cursor and a tally for each worker, 20 findings a file.

mod file;
mod line;
mod repair;
mod report;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{FAILED, USAGE, complain, given, is_there, log_args, log_path, setting_arg};
use crate::config::Config;
use crate::config::settings::find;
use crate::log::cursor::{Cursor, CursorError, Start};
use crate::log::fs::OsFs;
use crate::log::lock::{self, Lock};
use crate::log::segment::{Family, Parts, SegmentId};
use crate::log::summary::Summary;
use file::{Checked, Checker, Findings, Task};
use report::Report;

/// Most files that are checked at the same time: more than a disk gives.
const WORKERS_MAX: usize = 8;
/// How long each worker waits for summaries of files that have just been sealed.
const SUMMARY_WAIT: Duration = Duration::from_secs(1);
/// The setting that bounds the names in a summary.
const NAMES_MAX: &str = "METRICS_EVENT_NAMES_MAX";

/// The command's arguments.
pub fn command() -> Command {
    Command::new("verify")
        .about("Check every line of the log, and its summaries")
        .long_about(
            "Checks every file of the log, sealed, compressed and live: each line is an event (a JSON object with its five keys \
             in order, \"seq\" before them where numbers are on, values of the right types), files and events are numbered \
             without gaps, and each summary has the lines, bytes, checksum and counts of its file. Lines marked \"torn\":true are \
             counted and are no fault; nor is a file that retention has removed, if its summary is there; nor, while a \
             server has the log open, half a line at its end.",
        )
        .after_help(
            "Exit codes: 0 fine; 1 something is wrong, and the first 20 findings name file, line and byte (of the unpacked \
             file, from 0); 2 usage, there is no such log, or --repair while a server has it open.",
        )
        .arg(
            Arg::new("repair")
                .long("repair")
                .action(ArgAction::SetTrue)
                .help("Make summaries anew that are missing, damaged or wrong; data files are never touched"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print the report as a JSON object"),
        )
        .args(log_args())
        .arg(setting_arg(find(NAMES_MAX).expect("it is a setting")).help(
            "Event names that a summary made by --repair tells apart; the server's setting [default: 10000]",
        ))
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let failed = |code: u8, message: &dyn std::fmt::Display| {
        complain("verify", message);
        ExitCode::from(code)
    };
    let path = match log_path(matches) {
        Ok(path) if is_there(&path) => path,
        Ok(path) => return failed(USAGE, &format!("there is no log at {}", path.display())),
        Err(error) => return failed(USAGE, &error),
    };
    let names_max = match Config::new(|name| (name == NAMES_MAX).then(|| given(matches, name))?) {
        Ok(config) => config.engine.names_max,
        Err(error) => return failed(USAGE, &error),
    };
    let report = match matches.get_flag("repair") {
        true => match Lock::acquire(&path) {
            Ok(_lock) => repaired(&path, names_max),
            Err(error) => return failed(USAGE, &format!("nothing is repaired: {error}")),
        },
        false => lock::is_held(&path)
            .map_err(|source| CursorError::Io {
                path: lock::path_of(&path),
                source,
            })
            .and_then(|is_held| checked(&path, is_held)),
    };
    let report = match report {
        Ok(report) => report,
        Err(error) => return failed(FAILED, &error),
    };
    if let Err(error) = report.print(matches.get_flag("json"))
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return failed(FAILED, &format!("cannot write the report: {error}"));
    }
    match report.ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    }
}

/// Checks a log.
fn checked(path: &Path, is_held: bool) -> Result<Report, CursorError> {
    let family = Family::of(path);
    let (files, findings) = check(&family, is_held)?;
    Ok(Report::new(path, is_held, files, findings))
}

/// Checks a log that is locked, makes its summaries right, and if any was not, checks it again.
fn repaired(path: &Path, names_max: usize) -> Result<Report, CursorError> {
    let family = Family::of(path);
    let (files, findings) = check(&family, false)?;
    let repaired = repair::repair(&family, &files, names_max)?;
    let (files, findings) = match repaired.is_empty() {
        true => (files, findings),
        false => check(&family, false)?,
    };
    let mut report = Report::new(path, false, files, findings);
    report.repaired = repaired;
    Ok(report)
}

/// Checks all files, and that they follow each other.
fn check(family: &Family, is_held: bool) -> Result<(Vec<Checked>, Findings), CursorError> {
    // Before the list: what is sealed behind this look is in the list.
    let live_bytes = std::fs::metadata(family.live())
        .map(|metadata| metadata.len())
        .ok();
    let list = family.list(&OsFs).map_err(|source| CursorError::Io {
        path: family.directory().to_owned(),
        source,
    })?;
    let list: Vec<_> = list.into_iter().collect();
    let (tasks, bytes) = tasks(family, &list, live_bytes)?;
    let progress = progress(bytes);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut checker = Checker {
            family,
            cursor: Cursor::open(&family.live(), Start::Beginning)?,
            is_held,
            patience: SUMMARY_WAIT,
            progress: &progress,
        };
        let mut checked = Vec::new();
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            checked.push(checker.check(*task));
        }
        Ok(checked)
    };
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get());
    let workers = workers.min(WORKERS_MAX).min(tasks.len().max(1));
    let checked: Result<Vec<Vec<Checked>>, CursorError> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"));
        joined.collect()
    });
    progress.finish_and_clear();
    let mut files: Vec<Checked> = checked?.into_iter().flatten().collect();
    files.sort_by_key(|file| file.number);
    let findings = check_order(family, &files);
    Ok((files, findings))
}

/// What there is to check, and about how many bytes.
fn tasks(
    family: &Family,
    list: &[(SegmentId, Parts)],
    live_bytes: Option<u64>,
) -> Result<(Vec<Task>, u64), CursorError> {
    let mut next_seq = None;
    let mut total = live_bytes.unwrap_or(0);
    let mut tasks = Vec::with_capacity(list.len() + 1);
    for (id, parts) in list {
        let path = family.summary(*id);
        let stored = match parts.summary {
            true => Summary::read(&OsFs, &path, *id).map_err(|source| CursorError::Io { path, source })?,
            false => None,
        };
        if parts.plain || parts.compressed {
            let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            total += match &stored {
                Some(summary) => summary.bytes,
                None => length(&family.plain(*id)),
            };
        }
        tasks.push(Task {
            sealed: Some((*id, *parts)),
            number: id.number,
            first_seq: stored.as_ref().map(|summary| summary.first_seq).or(next_seq),
            bytes: u64::MAX,
        });
        next_seq = stored.map(|summary| summary.next_seq());
    }
    if let Some(bytes) = live_bytes {
        let number = list.last().map_or(1, |(id, _)| id.number + 1);
        tasks.push(Task {
            sealed: None,
            number,
            first_seq: if number == 1 { Some(1) } else { next_seq },
            bytes,
        });
    }
    Ok((tasks, total))
}

/// Checks that numbers of files and events go on from one file to the next.
fn check_order(family: &Family, files: &[Checked]) -> Findings {
    let mut findings = Findings::default();
    let log = family.live().display().to_string();
    let (mut number, mut seq) = (1, Some(1));
    for file in files {
        if file.number > number {
            let which = match number + 1 == file.number {
                true => format!("file {number} is"),
                false => format!("files {number} to {} are", file.number - 1),
            };
            findings.add(
                &log,
                None,
                format!("{which} missing, without a summary to tell what was in it"),
            );
            seq = None;
        } else if file.number < number {
            findings.add(
                &file.name,
                None,
                format!("another file has the number {}, too", file.number),
            );
        }
        if let (Some(first), Some(next)) = (file.first_seq, seq)
            && first != next
        {
            let what = format!("its first event has the number {first}, where {next} is the next");
            findings.add(&file.name, None, what);
        }
        seq = file.first_seq.or(seq).map(|first| first + file.seq_count);
        number = file.number + 1;
    }
    findings
}

/// A bar on standard error, if that is a terminal.
fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    );
    ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
        .with_style(style.expect("the template is well formed"))
}
