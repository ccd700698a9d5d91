//! `floodgate tail`: the log's lines, the newest or from some place on, and those to come.
//!
//! Lines go out as they are in the log, or shortened for people ([`pretty`]). At the end of the log, following means to look
//! again ten times a second. That costs two system calls a look, works on every file system (inotify tells nothing of what
//! another machine writes), and no eye sees the difference; a program that must know within a millisecond reads the
//! server's stream.
//!
//! Owner: the main thread. Memory: the cursor's, and 64 KiB of lines on their way out. A reader that is slow is waited for; one
//! that goes away ends the command, also while there is nothing to write.

mod pretty;
mod wanted;

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use console::Term;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::stopping::stop_on_signals;
use super::{FAILED, USAGE, complain, is_there, log_args, log_path};
use crate::event::Timestamp;
use crate::log::cursor::{Cursor, CursorError, Line, Position, Start, Step};
use pretty::Look;
use wanted::{Wanted, since};

/// Lines shown when nothing says how many.
const LINES_DEFAULT: u64 = 10;
/// Time between two looks at the end of the log.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of lines gathered for one write.
const OUT_BYTES: usize = 64 << 10;

/// The command's arguments.
pub fn command() -> Command {
    Command::new("tail")
        .about("Print the log's newest lines, and follow it")
        .long_about(
            "Prints lines of the log: over sealed files, compressed ones and the live file, in order. On a terminal they are \
             shortened and coloured (NO_COLOR is respected), elsewhere they are printed as they are in the log.",
        )
        .after_help(
            "What cannot be shown (files removed before they were read, a live file that somebody replaced) is said on \
             standard error.\nExit codes: 0 fine, also when interrupted or when the reader of the output goes away; \
             1 the log cannot be read; 2 usage, or there is no such log.",
        )
        .arg(switch("follow", "Wait for more lines, over rotations, and for the log itself if it is not there yet").short('f'))
        .arg(
            option("lines", "COUNT", "Begin with the newest COUNT lines of those that are wanted [default: 10; all with --since or --from]")
                .short('n')
                .value_parser(value_parser!(u64))
                .conflicts_with("from"),
        )
        .arg(
            option("since", "TIME", "Only events whose time stamp is not before TIME: RFC 3339, Unix seconds, or a duration back from now such as 15m (ms, s, m, h, d)")
                .allow_hyphen_values(true)
                .value_parser(|text: &str| since(text, Timestamp::now())),
        )
        .arg(
            option("event", "NAME", "Only events of that name; may be given several times")
                .action(ArgAction::Append),
        )
        .arg(
            option("from", "POSITION", "Begin at a position that --positions has printed")
                .value_parser(value_parser!(Position)),
        )
        .arg(switch("positions", "Before each line, print the position behind it and a tab: --from goes on there"))
        .arg(switch("json", "Print lines as they are in the log, also on a terminal").conflicts_with("pretty"))
        .arg(switch("pretty", "Print lines for people, also where there is no terminal"))
        .args(log_args())
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Runs the command.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let failed = |code: u8, message: &dyn std::fmt::Display| {
        complain("tail", message);
        ExitCode::from(code)
    };
    let path = match log_path(matches) {
        Ok(path) => path,
        Err(error) => return failed(USAGE, &error),
    };
    let follow = matches.get_flag("follow");
    if !is_there(&path) {
        let path = path.display();
        if !follow {
            return failed(USAGE, &format!("there is no log at {path}"));
        }
        complain("tail", format!("there is no log at {path} yet; waiting for it"));
    }
    // After the first one the line is finished; the second one ends it also while the reader of the output takes nothing.
    let stop = match stop_on_signals(0) {
        Ok(stop) => stop,
        Err(error) => return failed(FAILED, &format!("cannot listen for signals: {error}")),
    };
    let tail = Tail {
        follow,
        stop,
        printer: Printer::new(matches),
    };
    match tail.run(&path, start(matches), Wanted::new(matches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(End::Output(error)) => failed(FAILED, &format!("cannot write the lines: {error}")),
        Err(End::Log(error @ (CursorError::NoLine(_) | CursorError::Beyond { .. }))) => failed(USAGE, &error),
        Err(End::Log(error)) => failed(FAILED, &error),
    }
}

fn start(matches: &ArgMatches) -> Start {
    let lines = matches.get_one::<u64>("lines").copied();
    match (matches.get_one::<Position>("from"), lines) {
        (Some(position), _) => Start::At(*position),
        (None, Some(count)) => Start::Last(count),
        (None, None) if matches.contains_id("since") => Start::Beginning,
        (None, None) => Start::Last(LINES_DEFAULT),
    }
}

/// Why it cannot go on.
enum End {
    Log(CursorError),
    Output(io::Error),
}

impl From<CursorError> for End {
    fn from(error: CursorError) -> End {
        End::Log(error)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Output(error)
    }
}

struct Tail {
    follow: bool,
    stop: Arc<AtomicBool>,
    printer: Printer,
}

impl Tail {
    fn run(mut self, path: &Path, start: Start, wanted: Wanted) -> Result<(), End> {
        let mut cursor = Cursor::select(path, start, wanted)?;
        while !self.stop.load(Ordering::Relaxed) {
            match cursor.step()? {
                Step::Line(line) => self.printer.line(&line)?,
                Step::Notice(notice) => {
                    self.printer.flush()?;
                    complain("tail", notice);
                }
                Step::End => {
                    self.printer.flush()?;
                    if !self.follow || !self.printer.wait(LOOK_EVERY)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(self.printer.flush()?)
    }
}

/// Prints lines.
struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    positions: bool,
    /// `None`: as they are in the log.
    look: Option<Look>,
    /// Standard output, where it is a terminal.
    terminal: Option<Term>,
}

impl Printer {
    fn new(matches: &ArgMatches) -> Printer {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let is_pretty = matches.get_flag("pretty") || is_terminal && !matches.get_flag("json");
        let mut printer = Printer {
            out: BufWriter::with_capacity(OUT_BYTES, stdout.lock()),
            positions: matches.get_flag("positions"),
            look: is_pretty.then(|| Look {
                colours: console::colors_enabled(),
                width: None,
            }),
            terminal: is_terminal.then(Term::stdout),
        };
        printer.measure();
        printer
    }

    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        let Some(look) = &self.look else {
            if self.positions {
                write!(self.out, "{}\t", line.next)?;
            }
            self.out.write_all(line.bytes)?;
            return self.out.write_all(b"\n");
        };
        let prefix = match self.positions {
            true => format!("{}\t", line.next),
            false => String::new(),
        };
        writeln!(self.out, "{}", look.of(&prefix, line.bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.measure();
        self.out.flush()
    }

    /// Looks how wide the terminal is; somebody may pull at its corner.
    fn measure(&mut self) {
        if let (Some(look), Some(terminal)) = (&mut self.look, &self.terminal) {
            look.width = terminal.size_checked().map(|(_, columns)| usize::from(columns));
        }
    }

    /// Waits; whether somebody is still there to read.
    fn wait(&self, time: Duration) -> io::Result<bool> {
        let time = Timespec::try_from(time).expect("it is short");
        // No event is asked for, so nothing but the end of the reader is told.
        let stdout = self.out.get_ref();
        let mut descriptors = [PollFd::new(stdout, PollFlags::empty())];
        match poll(&mut descriptors, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(descriptors[0].revents().is_empty()),
            Err(error) => Err(error.into()),
        }
    }
}
