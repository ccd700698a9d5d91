//! `floodgate replay`: the real binary, against the real server and against one that does as it is told.

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::fake::{Fake, Reply};
use common::http::{BATCH, EVENT};
use common::server::{Launch, Server};
use common::{Rng, await_some, await_true, log};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
    command
        .arg("replay")
        .args(arguments)
        .current_dir(folder)
        .env("NO_PROXY", "*")
        .env_remove("FLOODGATE_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn replay(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments)
        .output()
        .expect("the binary can be started")
}

/// The exit code, the summary, and what is said on standard error.
fn summary(folder: &Path, arguments: &[&str]) -> (i32, Value, String) {
    let output = replay(folder, &[arguments, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().expect("it is not killed"), value, stderr)
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

fn line(number: usize) -> String {
    format!(
        r#"{{"visitor_id":"visitor-{number:06}","event":"view","timestamp":"2026-11-22T12:00:00Z","metadata":{{"n":1.10}},"user_agent":null}}"#
    )
}

fn lines(count: usize) -> Vec<String> {
    (0..count).map(line).collect()
}

fn write(path: &Path, lines: &[String]) {
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

/// A replay under way, killed when dropped.
struct Running(Child);

impl Running {
    fn start(folder: &Path, arguments: &[&str]) -> Running {
        Running(
            command(folder, arguments)
                .spawn()
                .expect("the binary can be started"),
        )
    }

    fn kill9(&mut self) {
        self.0.kill().expect("a child can be killed");
        self.0.wait().expect("a child can be waited for");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn state(folder: &Path) -> Option<Value> {
    let text = fs::read(folder.join("a.jsonl.replay")).ok()?;
    serde_json::from_slice(&text).ok()
}

#[test]
fn what_is_valid_is_stored_in_order_and_every_refused_line_is_told_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    let mut text = Vec::new();
    let (mut valid, mut refused) = (Vec::new(), Vec::new());
    // More than the hundred errors that an answer has, all over one batch.
    for number in 0..600 {
        if number % 2 == 1 {
            refused.push(text.len() + 1);
            text.push(r#"{"visitor_id":"abc","event":""}"#.to_owned());
        } else {
            valid.push(line(number));
            text.push(line(number));
        }
    }
    text.extend([
        "".into(),
        r#"{"event":"x","torn":true}"#.into(),
        "[1]".into(),
        "{\"visitor_id\":".into(),
    ]);
    refused.extend([603, 604]);
    write(&folder.path().join("a.jsonl"), &text);
    let (code, told, stderr) = summary(folder.path(), &["a.jsonl", &url(&server)]);
    assert_eq!((code, &*stderr), (1, ""));
    for (name, count) in [
        ("lines", 604),
        ("stored", 300),
        ("refused", 302),
        ("blank", 1),
        ("torn", 1),
        ("maybe_twice", 0),
    ] {
        assert_eq!(told[name], count, "{name} in {told}");
    }
    assert_eq!(log::lines(&folder.path().join("metrics.jsonl")), valid);
    let rejected = log::lines(&folder.path().join("a.jsonl.rejected"));
    let rejected: Vec<Value> = rejected
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut numbers: Vec<u64> = rejected
        .iter()
        .map(|line| line["line"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(
        numbers,
        refused.iter().map(|number| *number as u64).collect::<Vec<_>>()
    );
    for line in &rejected {
        let number = line["line"].as_u64().unwrap() as usize;
        assert_eq!(
            (&line["file"], &line["text"]),
            (&Value::from("a.jsonl"), &Value::from(&*text[number - 1]))
        );
        let expected = match number {
            603 => "not a JSON object",
            604 => "JSON decode error (",
            _ => {
                "visitor_id: String should have at least 6 characters; event: String should have at least 1 character"
            }
        };
        assert!(line["reason"].as_str().unwrap().contains(expected), "{line}");
    }
    // There is nothing left to do, and it still is not all stored.
    let (code, told, _) = summary(folder.path(), &["a.jsonl", &url(&server)]);
    assert_eq!(
        (
            code,
            &told["stored"],
            &told["this_call"]["stored"],
            &told["resumed"]
        ),
        (1, &300.into(), &0.into(), &true.into())
    );
    assert_eq!(log::lines(&folder.path().join("metrics.jsonl")), valid);
}

#[test]
fn refused_lines_of_a_later_call_are_added_and_without_any_there_is_no_side_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    let (url, rejected) = (url(&server), folder.path().join("a.jsonl.rejected"));
    write(&folder.path().join("a.jsonl"), &lines(3));
    assert_eq!(summary(folder.path(), &["a.jsonl", &url]).0, 0);
    assert!(!rejected.exists());
    for (files, number) in [(2, 1), (3, 2)] {
        let names: Vec<String> = (0..files)
            .map(|file| format!("{}.jsonl", ["a", "b", "c"][file]))
            .collect();
        write(
            &folder.path().join(names.last().unwrap()),
            &["[]".to_owned(), line(number)],
        );
        let names: Vec<&str> = names.iter().map(String::as_str).chain([&*url]).collect();
        let (code, told, _) = summary(folder.path(), &names);
        assert_eq!((code, &told["this_call"]["refused"]), (1, &1.into()));
        let lines = log::lines(&rejected);
        assert_eq!(lines.len(), number, "{lines:?}");
    }
}

#[test]
fn nothing_is_sent_that_cannot_be_noted_first() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    write(&folder.path().join("a.jsonl"), &lines(50));
    // What is to be noted is written beside the state first, and there it cannot be.
    fs::create_dir(folder.path().join("a.jsonl.replay.tmp")).unwrap();
    let (code, told, stderr) = summary(folder.path(), &["a.jsonl", &url(&server)]);
    assert_eq!(
        (
            code,
            &told["stored"],
            log::lines(&folder.path().join("metrics.jsonl"))
        ),
        (1, &0.into(), vec![]),
        "{stderr}{told}"
    );
    assert!(
        format!("{stderr}{told}").contains("a.jsonl.replay"),
        "{stderr}{told}"
    );
}

#[test]
fn a_log_of_floodgates_own_replays_packed_or_not_with_its_numbers() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let launch = Launch::new(from.path()).set("METRICS_LINE_SEQ", "on");
    let server = launch.start();
    server.connect().post(BATCH, &lines(500).join("\n")).expect(202);
    server
        .connect()
        .post(EVENT, r#"{"visitor_id":"visitor-x","event":"a \"torn\" one"}"#)
        .expect(202);
    server.stop();
    let stored = log::bytes(&launch.log());
    let half = stored.len() / 2;
    let half = half + stored[half..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(
        from.path().join("1.zst"),
        zstd::encode_all(&stored[..half], 3).unwrap(),
    )
    .unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&stored[half..]).unwrap();
    fs::write(from.path().join("2.gz"), gzip.finish().unwrap()).unwrap();

    let target = Launch::new(to.path()).set("METRICS_LINE_SEQ", "on").start();
    let (code, told, stderr) = summary(
        from.path(),
        &[
            "1.zst",
            "2.gz",
            &url(&target),
            "--ack",
            "written",
            "--batch",
            "70",
        ],
    );
    assert_eq!(
        (code, &*stderr, &told["stored"], &told["ok"]),
        (0, "", &501.into(), &true.into())
    );
    assert_eq!(
        log::bytes(&to.path().join("metrics.jsonl")),
        stored,
        "numbers, times and absent user agents are what they were"
    );
}

#[test]
fn standard_input_is_read_and_more_connections_store_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    let all = lines(3000);
    let mut child = command(
        folder.path(),
        &[
            "-",
            &url(&server),
            "--connections",
            "4",
            "--batch",
            "10",
            "--ack",
            "written",
        ],
    )
    .stdin(Stdio::piped())
    .spawn()
    .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all((all.join("\n") + "\n").as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("3,000 events stored, 0 lines refused, of 3,000 lines; "),
        "{text}"
    );
    let mut stored = log::lines(&folder.path().join("metrics.jsonl"));
    stored.sort_unstable();
    assert_eq!(stored, all);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().contains("replay")),
        "{left:?}"
    );
}

#[test]
fn killed_while_a_batch_is_under_way_it_asks_before_it_goes_on() {
    for (word, times) in [("send", 2), ("skip", 1)] {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a.jsonl"), &lines(50));
        let fake = Fake::start(|number| {
            if number == 2 {
                Reply::Silence
            } else {
                Reply::Stored
            }
        });
        let arguments = ["a.jsonl", &fake.url(), "--batch", "10"];
        let mut running = Running::start(folder.path(), &arguments);
        await_true("the third batch", || fake.got().len() == 3);
        // Its state is in use as long as it lives.
        let (code, _, stderr) = summary(folder.path(), &arguments);
        assert!(code == 2 && stderr.contains("in use"), "{stderr}");
        running.kill9();

        let (code, _, stderr) = summary(folder.path(), &arguments);
        assert!(
            code == 2 && stderr.contains("lines 21 to 30 of a.jsonl may be stored or not"),
            "{stderr}"
        );
        assert_eq!(
            fake.got().len(),
            3,
            "nothing is sent before somebody says what to do"
        );
        let (code, told, stderr) = summary(folder.path(), &[&arguments[..], &["--in-doubt", word]].concat());
        assert_eq!((code, &*stderr), (if word == "send" { 0 } else { 1 }, ""));
        let (twice, skipped) = if word == "send" { (10, 0) } else { (0, 10) };
        assert_eq!(
            (&told["maybe_twice"], &told["skipped"]),
            (&twice.into(), &skipped.into())
        );
        assert_eq!(told["stored"], 50 - skipped);
        let got = fake.lines();
        for (number, line) in lines(50).iter().enumerate() {
            let expected = if (20..30).contains(&number) { times } else { 1 };
            assert_eq!(
                got.iter().filter(|got| *got == line).count(),
                expected,
                "{number} with {word}"
            );
        }
    }
}

#[test]
fn a_doubt_stays_one_until_it_is_settled_however_many_calls_that_takes() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.jsonl"), &lines(100));
    let fake = Fake::start(|number| match number {
        2..=4 => Reply::Silence,
        5..=7 => Reply::Status(403, "", r#"{"detail":"not now"}"#),
        _ => Reply::Stored,
    });
    let arguments = ["a.jsonl", &fake.url(), "--batch", "10", "--connections", "3"];
    let mut running = Running::start(folder.path(), &arguments);
    await_true("three batches are under way", || fake.got().len() == 5);
    running.kill9();
    let again = [&arguments[..], &["--in-doubt", "send"]].concat();
    let (code, _, stderr) = summary(folder.path(), &again);
    assert!(
        code == 1 && stderr.contains("may be stored or not, from an earlier call"),
        "{stderr}"
    );
    let (code, _, stderr) = summary(folder.path(), &arguments);
    assert!(code == 2 && stderr.contains("may be stored or not"), "{stderr}");
    while fake.got().len() < 8 {
        summary(folder.path(), &again);
    }
    let (code, told, stderr) = summary(folder.path(), &again);
    assert_eq!((code, &*stderr, &told["stored"]), (0, "", &100.into()));
    assert_eq!(told["maybe_twice"], 30);
    let got = fake.lines();
    assert!(
        lines(100).iter().all(|line| got.contains(line)),
        "nothing is missing"
    );
}

#[test]
fn ended_between_batches_it_goes_on_without_a_doubt() {
    for (signal, code) in [
        (Signal::KILL, None),
        (Signal::TERM, Some(1)),
        (Signal::INT, Some(1)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut all = lines(20);
        all.iter_mut()
            .skip(10)
            .for_each(|line| *line = line.replace("T12", "T13"));
        write(&folder.path().join("a.jsonl"), &all);
        let fake = Fake::start(|_| Reply::Stored);
        // The second half is due in an hour.
        let mut running = Running::start(folder.path(), &["a.jsonl", &fake.url(), "--speed", "1x"]);
        await_true("the first half is settled", || {
            state(folder.path())
                .is_some_and(|state| state["counts"]["stored"] == 10 && state["open"] == Value::Array(vec![]))
        });
        let pid = Pid::from_raw(running.0.id() as i32).expect("a child's id is not zero");
        kill_process(pid, signal).expect("the child can be signalled");
        let status = await_some("its end", || running.0.try_wait().unwrap());
        assert_eq!(status.code(), code);
        let (code, told, stderr) = summary(folder.path(), &["a.jsonl", &fake.url()]);
        assert_eq!((code, &*stderr), (0, ""));
        assert_eq!(
            (&told["stored"], &told["this_call"]["stored"]),
            (&20.into(), &10.into())
        );
        assert_eq!(fake.lines(), all);
    }
}

#[test]
fn killed_anywhere_again_and_again_nothing_is_missing_and_what_is_twice_was_counted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Launch::new(folder.path()).start();
    let all = lines(4000);
    write(&folder.path().join("a.jsonl"), &all);
    let arguments = [
        "a.jsonl",
        &url(&server),
        "--batch",
        "10",
        "--connections",
        "3",
        "--in-doubt",
        "send",
    ];
    let mut rng = Rng::new(7);
    let mut kills = 0;
    for goal in 1..10 {
        let goal = goal * 350 + rng.below(100);
        let mut running = Running::start(folder.path(), &arguments);
        await_some("some batches more, or the end", || {
            let is_over = running.0.try_wait().unwrap().is_some();
            let stored = state(folder.path())?["counts"]["stored"].as_u64()?;
            (is_over || stored >= goal).then_some(())
        });
        kills += usize::from(running.0.try_wait().unwrap().is_none());
        running.kill9();
    }
    assert!(kills > 0, "at least one of them was killed");
    let (code, told, stderr) = summary(folder.path(), &arguments);
    assert_eq!((code, &*stderr), (0, ""));
    server.connect().get("/api/metrics/behavior").expect(200);
    let mut times: HashMap<String, u64> = HashMap::new();
    log::lines(&folder.path().join("metrics.jsonl"))
        .into_iter()
        .for_each(|line| *times.entry(line).or_default() += 1);
    assert_eq!(times.len(), all.len(), "nothing is missing");
    let twice: u64 = times.values().map(|times| times - 1).sum();
    assert!(
        twice <= told["maybe_twice"].as_u64().unwrap(),
        "{twice} are twice, told: {told}"
    );
}

#[test]
fn a_server_that_asks_for_time_gets_it_and_a_lost_answer_is_a_doubt() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.jsonl"), &lines(20));
    let fake = Fake::start(|number| match number {
        0 => Reply::Status(503, "Retry-After: 0\r\n", r#"{"detail":"full"}"#),
        2 => Reply::Status(429, "Retry-After: 1\r\n", r#"{"detail":"slowly"}"#),
        3 => Reply::Close,
        _ => Reply::Stored,
    });
    let arguments = ["a.jsonl", &fake.url(), "--batch", "10"];
    let (code, told, stderr) = summary(folder.path(), &arguments);
    assert!(
        code == 1 && stderr.contains("lines 11 to 20 of a.jsonl may be stored or not"),
        "{stderr}"
    );
    assert_eq!((&told["stored"], fake.got().len()), (&10.into(), 4));
    assert!(fake.got()[3].at - fake.got()[2].at >= Duration::from_secs(1));
    let (code, told, _) = summary(folder.path(), &[&arguments[..], &["--in-doubt", "send"]].concat());
    assert_eq!(
        (code, &told["stored"], &told["maybe_twice"]),
        (0, &20.into(), &10.into())
    );
    for got in fake.got() {
        assert!(
            !got.head.to_ascii_lowercase().contains("user-agent"),
            "it would be stored with the events: {}",
            got.head
        );
    }
}

#[test]
fn with_leave_to_send_again_a_lost_answer_is_only_counted() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.jsonl"), &lines(30));
    let fake = Fake::start(|number| match number {
        1 => Reply::Close,
        2 => Reply::Status(502, "", "bad gateway"),
        _ => Reply::Stored,
    });
    let (code, told, stderr) = summary(
        folder.path(),
        &["a.jsonl", &fake.url(), "--batch", "10", "--in-doubt", "send"],
    );
    assert_eq!(
        (code, &*stderr, &told["stored"], &told["maybe_twice"]),
        (0, "", &30.into(), &10.into())
    );
    assert_eq!(fake.got().len(), 5);
}

#[test]
fn what_cannot_be_sent_is_not_in_doubt() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.jsonl"), &lines(10));
    // Nobody listens there once this is dropped.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let away = format!("http://127.0.0.1:{port}");
    for _ in 0..2 {
        let (code, told, stderr) = summary(folder.path(), &["a.jsonl", &away, "--retry-for", "50ms"]);
        assert!(code == 1 && stderr.contains("are not stored"), "{stderr}");
        assert_eq!(told["stored"], 0);
    }
    let fake = Fake::start(|_| Reply::Status(403, "", r#"{"detail":"no such key"}"#));
    let (code, _, stderr) = summary(folder.path(), &["a.jsonl", &fake.url(), "--state", "other"]);
    assert!(
        code == 1
            && stderr
                .contains("the server answered 403: no such key; lines 1 to 10 of a.jsonl are not stored"),
        "{stderr}"
    );
}

#[test]
fn a_level_that_is_missed_is_told_and_nothing_is_sent_twice_for_it() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.jsonl"), &lines(10));
    let fake = Fake::start(|_| Reply::Status(503, "X-Ack: journaled\r\n", r#"{"detail":"not in time"}"#));
    let (code, told, _) = summary(folder.path(), &["a.jsonl", &fake.url(), "--ack", "synced"]);
    assert_eq!(
        (code, &told["stored"], &told["below_level"]),
        (1, &10.into(), &10.into())
    );
    assert_eq!(fake.got().len(), 1);
    assert!(
        fake.got()[0]
            .head
            .starts_with("POST /api/metrics/events/batch?ack=synced&partial=true ")
    );
}

#[test]
fn the_recorded_pace_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let stamps = ["12:00:00", "12:00:01", "13:00:00", "12:30:00", "14:00:00"];
    let all: Vec<String> = lines(5)
        .into_iter()
        .zip(stamps)
        .map(|(line, stamp)| line.replace("12:00:00", stamp))
        .collect();
    write(&folder.path().join("a.jsonl"), &all);
    let fake = Fake::start(|_| Reply::Stored);
    // An hour is half a second.
    let (code, told, _) = summary(folder.path(), &["a.jsonl", &fake.url(), "--speed", "7200x"]);
    assert_eq!((code, &told["stored"]), (0, &5.into()));
    let got = fake.got();
    let batches: Vec<_> = got.iter().map(|got| got.body.lines().count()).collect();
    assert_eq!((batches, fake.lines()), (vec![2, 2, 1], all));
    // It may be late on a busy machine, and is never early.
    assert!(
        got[1].at - got[0].at >= Duration::from_millis(450)
            && got[2].at - got[0].at >= Duration::from_millis(950)
    );
}

#[test]
fn over_tls_with_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["", "other-"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(path(&format!("{name}cert.pem")), made.cert.pem()).unwrap();
        fs::write(path(&format!("{name}key.pem")), made.signing_key.serialize_pem()).unwrap();
    }
    let server = Launch::new(folder.path())
        .set("METRICS_TLS_CERT", path("cert.pem"))
        .set("METRICS_TLS_KEY", path("key.pem"))
        .set("METRICS_WRITE_KEYS", "0123456789abcdef")
        .start();
    write(&path("a.jsonl"), &lines(10));
    let url = format!("https://localhost:{}", server.address().port());
    let (code, _, stderr) = summary(folder.path(), &["a.jsonl", &url, "--ca", "other-cert.pem"]);
    assert!(
        code == 1 && stderr.contains("certificate"),
        "at once, as trying again is of no use: {stderr}"
    );
    let (code, _, stderr) = summary(folder.path(), &["a.jsonl", &url, "--ca", "cert.pem"]);
    assert!(code == 1 && stderr.contains("401"), "{stderr}");
    let with_key = [
        "a.jsonl",
        &url,
        "--ca",
        "cert.pem",
        "--key",
        "0123456789abcdef",
        "--ack",
        "written",
    ];
    let (code, told, stderr) = summary(folder.path(), &with_key);
    assert_eq!((code, &*stderr, &told["stored"]), (0, "", &10.into()));
    assert_eq!(log::lines(&path("metrics.jsonl")), lines(10));
}

#[test]
fn usage_that_is_wrong_is_told() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.jsonl"), &lines(1));
    fs::write(folder.path().join("no.state"), "something else").unwrap();
    for (arguments, word) in [
        (&["a.jsonl"][..], "URL"),
        (&["a.jsonl", "localhost:8001"], "http://"),
        (&["b.jsonl", "http://localhost"], "b.jsonl"),
        (&[".", "http://localhost"], "directory"),
        (&["-", "-", "http://localhost"], "once"),
        (&["a.jsonl", "http://localhost", "--speed", "0"], "above 0"),
        (&["a.jsonl", "http://localhost", "--batch", "0"], "10000"),
        (
            &["a.jsonl", "http://localhost", "--state", "no.state"],
            "not the state",
        ),
        (
            &["a.jsonl", "https://localhost", "--ca", "a.jsonl"],
            "certificate",
        ),
    ] {
        let output = replay(folder.path(), arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
    }
}
