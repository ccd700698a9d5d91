//! `floodgate tail`, the real binary on logs of a real server.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::http::EVENT;
use common::load::Load;
use common::log;
use common::server::Launch;
use common::{PATIENCE, await_some};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
    command
        .arg("tail")
        .args(arguments)
        .current_dir(folder)
        .env_remove("METRICS_JSONL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn tail(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments)
        .output()
        .expect("the binary can be started")
}

/// What it prints, when all is well.
fn printed(folder: &Path, arguments: &[&str]) -> Vec<String> {
    let output = tail(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{arguments:?}");
    let text = String::from_utf8(output.stdout).expect("the log is UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// A tail that follows, killed when dropped.
struct Following {
    child: Child,
}

impl Following {
    fn start(folder: &Path, arguments: &[&str]) -> Following {
        let arguments = [&["-f"], arguments].concat();
        let child = command(folder, &arguments)
            .spawn()
            .expect("the binary can be started");
        Following { child }
    }

    fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("stdout is piped and taken once")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a child's id is not zero");
        kill_process(pid, signal).expect("the child can be signalled");
    }

    fn wait(&mut self) -> ExitStatus {
        await_some("the end of tail", || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each line as it is printed.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn line(visitor: usize, event: &str, stamp: &str) -> String {
    format!(
        r#"{{"visitor_id":"visitor-{visitor}","event":"{event}","timestamp":"{stamp}","metadata":{{}},"user_agent":null}}"#
    )
}

/// A log of three files, the first one compressed, with ten lines each.
fn three_files(folder: &Path) -> Vec<String> {
    let lines: Vec<String> = (0..30)
        .map(|at| {
            line(
                at,
                ["view", "click"][at % 2],
                &format!("2026-11-22T12:{at:02}:00Z"),
            )
        })
        .collect();
    let text = |at: usize| lines[at * 10..at * 10 + 10].join("\n") + "\n";
    fs::create_dir(folder.join("archive")).unwrap();
    let packed = zstd::encode_all(text(0).as_bytes(), 1).unwrap();
    fs::write(
        folder.join("archive/metrics-20261122T120000Z-000001.jsonl.zst"),
        packed,
    )
    .unwrap();
    fs::write(folder.join("metrics-20261122T121000Z-000002.jsonl"), text(1)).unwrap();
    fs::write(folder.join("metrics.jsonl"), text(2)).unwrap();
    lines
}

#[test]
fn the_newest_lines_are_printed_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let lines = three_files(folder.path());
    let file = "metrics.jsonl";
    assert_eq!(printed(folder.path(), &[file]), lines[20..]);
    for count in [0, 3, 15, 25, 30, 99] {
        let shown = printed(folder.path(), &[file, "-n", &count.to_string()]);
        assert_eq!(shown, lines[30 - count.min(30)..], "{count}");
    }
    assert_eq!(printed(folder.path(), &["--jsonl", file, "-n1"]), lines[29..]);
    let mut by_variable = command(folder.path(), &["-n1"]);
    let output = by_variable.env("METRICS_JSONL", file).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        lines[29].clone() + "\n"
    );
}

#[test]
fn lines_are_chosen_by_name_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let lines = three_files(folder.path());
    let shown = |arguments: &[&str]| printed(folder.path(), &[&["metrics.jsonl"], arguments].concat());
    let clicks: Vec<_> = lines.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(shown(&["--event", "click", "-n", "100"]), clicks);
    // Ten of those that are wanted, which are in two files.
    assert_eq!(shown(&["--event", "click"]), clicks[5..]);
    assert_eq!(
        shown(&["--event", "view", "--event", "click", "-n5"]),
        lines[25..]
    );
    let none: [&str; 0] = [];
    assert_eq!(shown(&["--event", "other"]), none);
    assert_eq!(shown(&["--since", "2026-11-22T12:07:00Z"]), lines[7..]);
    assert_eq!(shown(&["--since", "1795349220.5"]), lines[8..]);
    assert_eq!(
        shown(&["--since", "2026-11-22T12:07:00Z", "-n", "2"]),
        lines[28..]
    );
    assert_eq!(
        shown(&["--since", "2026-11-22T12:07:00Z", "--event", "click"]),
        clicks[3..]
    );
    assert_eq!(shown(&["--since", "2099-01-01T00:00:00Z"]), none);
    let fresh = line(30, "view", &humantime(SystemTime::now()));
    let mut live = fs::OpenOptions::new()
        .append(true)
        .open(folder.path().join("metrics.jsonl"))
        .unwrap();
    writeln!(live, "{fresh}").unwrap();
    assert_eq!(shown(&["--since", "15m"]), [fresh]);
}

/// The time as GNU `date` writes it.
fn humantime(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let output = Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("@{seconds}")])
        .output();
    String::from_utf8(output.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn a_script_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let lines = three_files(folder.path());
    let shown = printed(folder.path(), &["metrics.jsonl", "-n", "99", "--positions"]);
    let split: Vec<_> = shown.iter().map(|line| line.split_once('\t').unwrap()).collect();
    assert_eq!(split.iter().map(|(_, line)| *line).collect::<Vec<_>>(), lines);
    for (at, (position, _)) in split.iter().enumerate() {
        let rest = printed(folder.path(), &["metrics.jsonl", "--from", position]);
        assert_eq!(rest, lines[at + 1..], "{position}");
    }
    assert_eq!(printed(folder.path(), &["metrics.jsonl", "--from", "1:0"]), lines);
}

#[test]
fn wrong_usage_is_told_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    three_files(folder.path());
    for (arguments, reason) in [
        (&["nothing.jsonl"][..], "there is no log at nothing.jsonl"),
        (&["archive"], "cannot read ./archive: not a regular file"),
        (&["metrics.jsonl", "--jsonl", "a"], "both name a log"),
        (&["metrics.jsonl", "--since", "soon"], "a duration such as 15m"),
        (&["metrics.jsonl", "--from", "1"], "as `17:40960`"),
        (
            &["metrics.jsonl", "--from", "1:1"],
            "no line of the log begins at 1:1",
        ),
        (
            &["metrics.jsonl", "--from", "4:0"],
            "whose newest file has the number 3",
        ),
        (&["metrics.jsonl", "-n", "-1"], "-1"),
        (&["metrics.jsonl", "--json", "--pretty"], "cannot be used with"),
    ] {
        let output = tail(folder.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let code = if arguments == ["archive"] { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
}

#[test]
fn what_is_for_people_has_no_colours_in_a_pipe_and_respects_no_color() {
    let folder = tempfile::tempdir().unwrap();
    three_files(folder.path());
    let shown = printed(folder.path(), &["metrics.jsonl", "-n1", "--pretty"]);
    assert_eq!(shown, ["2026-11-22T12:29:00Z  click             visitor-29  {}"]);
    let coloured = |no_color: bool| {
        let mut command = command(folder.path(), &["metrics.jsonl", "-n1", "--pretty"]);
        command.env("CLICOLOR_FORCE", "1").env("TERM", "xterm");
        if no_color {
            command.env_remove("CLICOLOR_FORCE").env("NO_COLOR", "1");
        }
        command.output().unwrap().stdout.contains(&0x1b)
    };
    assert!(coloured(false) && !coloured(true));
}

#[test]
fn following_ends_quietly_when_interrupted_or_when_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let lines = three_files(folder.path());
    for signal in [Signal::INT, Signal::TERM] {
        let mut following = Following::start(folder.path(), &["metrics.jsonl"]);
        let mut shown = BufReader::new(following.stdout());
        let mut first = String::new();
        shown.read_line(&mut first).unwrap();
        assert_eq!(first.trim_end(), lines[20]);
        following.signal(signal);
        assert_eq!(following.wait().code(), Some(0));
    }
    // The reader goes while there is nothing to write.
    let mut following = Following::start(folder.path(), &["metrics.jsonl", "-n1"]);
    let mut stdout = following.stdout();
    stdout.read_exact(&mut vec![0; lines[29].len() + 1]).unwrap();
    drop(stdout);
    assert_eq!(following.wait().code(), Some(0));
    // And while there is a lot.
    fs::write(
        folder.path().join("metrics.jsonl"),
        (lines[29].clone() + "\n").repeat(20_000),
    )
    .unwrap();
    let mut following = Following::start(folder.path(), &["metrics.jsonl", "-n", "20000"]);
    drop(following.stdout());
    assert_eq!(following.wait().code(), Some(0));
    let mut stderr = String::new();
    following
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(stderr, "");
}

#[test]
fn a_log_that_is_not_there_yet_is_awaited_and_only_new_lines_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let mut following = Following::start(folder.path(), &["metrics.jsonl", "-n", "0"]);
    let mut stderr = BufReader::new(following.child.stderr.take().unwrap());
    let mut told = String::new();
    stderr.read_line(&mut told).unwrap();
    assert_eq!(
        told,
        "floodgate tail: there is no log at metrics.jsonl yet; waiting for it\n"
    );
    let shown = lines_of(following.stdout());
    let server = Launch::new(folder.path()).start();
    for visitor in ["visitor-1", "visitor-2"] {
        let body = format!(r#"{{"visitor_id":"{visitor}","event":"view"}}"#);
        server.connect().post(EVENT, &body).expect(202);
        let line = shown.recv_timeout(PATIENCE).expect("the line is shown");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["visitor_id"], visitor);
    }
    // Until it has seen where the end is, a new line is an old one to it.
    let mut late = Following::start(folder.path(), &["metrics.jsonl", "-n", "0"]);
    let shown = lines_of(late.stdout());
    let line = await_some("a new line to be shown", || {
        let body = r#"{"visitor_id":"visitor-3","event":"view"}"#;
        server.connect().post(EVENT, body).expect(202);
        shown.recv_timeout(Duration::from_millis(20)).ok()
    });
    assert!(line.contains("visitor-3"), "{line}");
    server.stop();
}

/// Compresses sealed files as the server does: aside, renamed, then the plain one removed.
fn archive(folder: &Path, live: &Path) {
    fs::create_dir_all(folder.join("archive")).unwrap();
    for file in log::files(live) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if file == live || name.ends_with(".zst") {
            continue;
        }
        let packed = zstd::encode_all(&fs::read(&file).unwrap()[..], 1).unwrap();
        let aside = folder.join("archive/aside");
        fs::write(&aside, packed).unwrap();
        fs::rename(&aside, folder.join(format!("archive/{name}.zst"))).unwrap();
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn nothing_is_missed_while_a_server_under_load_rotates_and_files_are_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path())
        .set("METRICS_ROTATE_BYTES", "64KiB")
        .set("METRICS_ROTATE_REST", "0ms");
    let live = launch.log();
    let server = launch.start();
    let mut following = Following::start(folder.path(), &["metrics.jsonl", "--from", "1:0"]);
    let mut numbered = Following::start(folder.path(), &["metrics.jsonl", "--from", "1:0", "--positions"]);
    let [bytes, positions] = [following.stdout(), numbered.stdout()].map(|mut stdout| {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut chunk = vec![0; 64 << 10];
            while let Ok(size @ 1..) = stdout.read(&mut chunk) {
                if sender.send(chunk[..size].to_vec()).is_err() {
                    return;
                }
            }
        });
        receiver
    });
    let load = Load::start(server.address(), 1, 7, &["", "written"]);
    for events in [3_000, 6_000, 9_000] {
        load.await_acknowledged(events);
        archive(folder.path(), &live);
    }
    let acknowledged = load.stop().acknowledged.len();
    server.stop();
    let stored = log::bytes(&live);
    let files = log::files(&live);
    assert!(files.len() > 20, "{} files", files.len());
    assert!(files.iter().any(|file| file.extension().unwrap() == "zst"));
    assert_eq!(stored.iter().filter(|byte| **byte == b'\n').count(), acknowledged);
    let receive = |receiver: Receiver<Vec<u8>>, enough: &dyn Fn(&[u8]) -> bool| {
        let mut seen = Vec::new();
        while !enough(&seen) {
            seen.extend(receiver.recv_timeout(PATIENCE).expect("it prints what there is"));
        }
        seen
    };
    let seen = receive(bytes, &|seen| seen.len() >= stored.len());
    assert!(
        seen == stored,
        "{} bytes shown, {} stored",
        seen.len(),
        stored.len()
    );
    let lines = |seen: &[u8]| seen.iter().filter(|byte| **byte == b'\n').count();
    let seen = receive(positions, &|seen| lines(seen) >= acknowledged);
    let seen = String::from_utf8(seen).unwrap();
    // Each position leads to the line behind it: the last of a file in the archive, and any other.
    for (at, shown) in seen.lines().enumerate().step_by(acknowledged / 7) {
        let (position, _) = shown.split_once('\t').unwrap();
        let rest = printed(folder.path(), &["metrics.jsonl", "--from", position]);
        let expected = seen
            .lines()
            .skip(at + 1)
            .map(|line| line.split_once('\t').unwrap().1);
        assert!(rest.iter().map(String::as_str).eq(expected), "from {position}");
    }
    for mut following in [following, numbered] {
        following.signal(Signal::INT);
        assert_eq!(following.wait().code(), Some(0));
    }
}
