//! `floodgate load` against the real server, and against servers that misbehave.

mod common;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::server::Launch;
use common::{await_true, http, log};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A folder with a server's files.
fn launch() -> (tempfile::TempDir, Launch) {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    (folder, launch)
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Runs a load test; its exit code, its report if there is one, and all that it printed.
fn load(launch: &Launch, url: &str, arguments: &[&str]) -> (i32, Value, String) {
    let output = launch.run(&[&["load", url, "--json"], arguments].concat());
    told(&output)
}

fn told(output: &Output) -> (i32, Value, String) {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    let report = serde_json::from_str(&stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report, stdout + &stderr)
}

/// Errors of a kind in a report.
fn errors(report: &Value, kind: &str) -> u64 {
    let kinds = report["errors"].as_array().expect("a report has errors");
    let found = kinds.iter().find(|error| error["kind"] == kind);
    found.map_or(0, |error| error["count"].as_u64().unwrap())
}

#[test]
fn each_shape_stores_what_it_says_once() {
    let (_folder, launch) = launch();
    let server = launch.start();
    let log = launch.log();
    let verify = ["--verify", log.to_str().unwrap()];
    let mut stored = 0;
    for (arguments, requests) in [
        (&["--single"][..], 1_003),
        (&["--pipeline", "8", "--threads", "2"], 1_003),
        (&["--batch", "50"], 21),
        (&["--batch", "50", "--encoding", "gzip", "--ack", "written"], 21),
        (&["--pipeline", "3", "--encoding", "zstd"], 1_003),
        (&["--single", "--rate", "5k", "--arrivals", "poisson"], 1_003),
    ] {
        let all = [&["-c", "4", "-n", "1003"], &verify[..], arguments].concat();
        let (code, report, text) = load(&launch, &url(server.address()), &all);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        assert_eq!(report["events"]["acknowledged"], 1_003, "{arguments:?}: {text}");
        assert_eq!(report["requests"]["answered"], requests, "{arguments:?}: {text}");
        assert_eq!(report["latency"]["count"], requests, "{arguments:?}");
        let verify = &report["verify"];
        assert_eq!(verify["stored_once"], 1_003, "{arguments:?}: {text}");
        assert_eq!(
            (&verify["missing"], &verify["twice"]),
            (&0.into(), &0.into()),
            "{arguments:?}"
        );
        stored += 1_003;
        assert_eq!(
            log::lines(&log).len(),
            stored,
            "{arguments:?}: nothing but that is stored"
        );
        let run = report["run"].as_str().unwrap();
        let of_run = log::events(&log)
            .into_iter()
            .filter(|event| event["metadata"]["run"] == run);
        assert_eq!(of_run.count(), 1_003, "{arguments:?}");
    }
    server.stop();
    assert_eq!(launch.run(&["verify"]).status.code(), Some(0));
}

#[test]
fn packed_requests_that_are_made_before_are_whole_too() {
    let (_folder, launch) = launch();
    let server = launch.start();
    for encoding in ["gzip", "zstd"] {
        let arguments = ["-n", "2050", "--batch", "100", "-c", "2", "--encoding", encoding];
        let (code, report, text) = load(&launch, &url(server.address()), &arguments);
        assert_eq!(
            (code, &report["events"]["acknowledged"]),
            (0, &2_050.into()),
            "{text}"
        );
    }
    await_true("all lines", || log::lines(&launch.log()).len() == 4_100);
}

#[test]
fn what_is_sent_while_the_server_warms_up_does_not_count_but_is_looked_for() {
    let (_folder, launch) = launch();
    let server = launch.start();
    let log = launch.log();
    let arguments = [
        "-n",
        "500",
        "--warmup",
        "200ms",
        "-c",
        "3",
        "--verify",
        log.to_str().unwrap(),
    ];
    let (code, report, text) = load(&launch, &url(server.address()), &arguments);
    assert_eq!(code, 0, "{text}");
    assert_eq!(report["events"]["acknowledged"], 500);
    let stored = log::lines(&log).len();
    assert!(stored > 500, "{stored}");
    assert_eq!(report["verify"]["stored_once"], stored);
}

#[test]
fn what_a_warm_up_costs_does_not_count() {
    let (_folder, launch) = launch();
    let server = launch.start();
    // A second of work that does not count, and then next to none.
    let arguments = ["-n", "100", "--warmup", "1s", "-c", "3"];
    let (code, report, text) = load(&launch, &url(server.address()), &arguments);
    assert_eq!(code, 0, "{text}");
    for who in ["generator_seconds", "server_seconds"] {
        let used = report["cpu"][who].as_f64().unwrap_or(0.0);
        assert!(used < 0.1, "{who}: {text}");
    }
}

#[test]
fn an_open_loop_sends_by_the_clock_and_accounts_for_every_arrival() {
    let (_folder, launch) = launch();
    let server = launch.start();
    for shape in [&["--single"][..], &["--pipeline", "10"]] {
        let arguments = [&["--rate", "2k", "--duration", "1s", "-c", "8"], shape].concat();
        let (code, report, text) = load(&launch, &url(server.address()), &arguments);
        assert_eq!((code, &report["loop"]), (0, &"open".into()), "{text}");
        assert_eq!(report["latency"]["counted_from"], "intended send time");
        let sent = report["requests"]["sent"].as_u64().unwrap();
        assert_eq!(sent + errors(&report, "unsent"), 2_000, "{text}");
        assert_eq!(report["latency"]["count"], 2_000, "{text}");
    }
}

#[test]
fn a_stall_is_charged_to_all_that_had_to_wait_for_it() {
    let (_folder, launch) = launch();
    // One connection, a hundred a second, and one answer that takes half a second.
    let stub = Stub::start(|number| match number {
        20 => Reply::Late(Duration::from_millis(500)),
        _ => Reply::Accepted,
    });
    let arguments = ["--rate", "100", "--duration", "1s", "-c", "1"];
    let (code, report, text) = load(&launch, &url(stub.address), &arguments);
    assert_eq!(code, 0, "{text}");
    // Some fifty were to be sent meanwhile; they waited for 490 ms, 480 ms, …
    assert!(report["latency"]["p75"].as_u64().unwrap() > 150_000, "{text}");
}

#[test]
fn what_could_not_be_sent_counts_with_the_time_that_it_waited_and_not_in_the_warm_up() {
    let (_folder, launch) = launch();
    // Whoever left those out would say of this server that it was slow twice.
    let stub = Stub::start(|_| Reply::Silence);
    let arguments = [
        "--rate",
        "1k",
        "-c",
        "2",
        "--warmup",
        "300ms",
        "-d",
        "500ms",
        "--timeout",
        "600ms",
    ];
    let (code, report, text) = load(&launch, &url(stub.address), &arguments);
    assert_eq!(code, 1, "{text}");
    let (unsent, sent) = (errors(&report, "unsent"), &report["requests"]["sent"]);
    // Of 500, one at a time on each connection; those of the warm-up are not among them.
    assert_eq!(unsent + sent.as_u64().unwrap(), 500, "{text}");
    assert_eq!(report["latency"]["count"], 500, "{text}");
    // They waited for up to half a second and the grace at the end.
    assert!(report["latency"]["p50"].as_u64().unwrap() > 200_000, "{text}");
}

#[test]
fn lines_of_a_file_are_sent_once_each_in_place_of_generated_events() {
    let (folder, launch) = launch();
    let server = launch.start();
    let lines: Vec<String> = (0..101)
        .map(|at| format!(r#"{{"visitor_id":"visitor-{at:03}","event":"from_file"}}"#))
        .collect();
    let path = folder.path().join("input.jsonl");
    fs::write(&path, lines.join("\n\n")).unwrap();
    let input = ["--input", path.to_str().unwrap()];
    for shape in [&["--single"][..], &["--batch", "10"], &["--pipeline", "4"]] {
        let before = log::lines(&launch.log()).len();
        let arguments = [&input[..], &["-c", "3", "-t", "3"], shape].concat();
        let (code, report, text) = load(&launch, &url(server.address()), &arguments);
        assert_eq!(
            (code, &report["events"]["acknowledged"]),
            (0, &101.into()),
            "{shape:?}: {text}"
        );
        await_true("all lines", || log::lines(&launch.log()).len() == before + 101);
        let mut visitors = log::visitors(&launch.log()).split_off(before);
        visitors.sort();
        let expected: Vec<String> = (0..101).map(|at| format!("visitor-{at:03}")).collect();
        assert_eq!(visitors, expected, "{shape:?}");
    }
    let (code, _, text) = load(&launch, &url(server.address()), &["--input", "nowhere.jsonl"]);
    assert_eq!(code, 2, "{text}");
}

#[test]
fn a_key_is_sent_and_never_shown() {
    let (_folder, launch) = launch();
    let launch = launch.set("METRICS_WRITE_KEYS", "an-example-key-1");
    let server = launch.start();
    let url = url(server.address());
    let (code, report, text) = load(&launch, &url, &["-n", "10", "-c", "2"]);
    assert_eq!(code, 1, "nothing got through: {text}");
    assert_eq!(errors(&report, "status 401"), 10, "{text}");
    assert_eq!(report["events"]["refused"], 10);
    let keyed = launch.clone().set("FLOODGATE_KEY", "an-example-key-1");
    for (launch, arguments) in [(&keyed, &[][..]), (&launch, &["--key", "an-example-key-1"])] {
        let (code, report, text) = load(launch, &url, &[&["-n", "10"], arguments].concat());
        assert_eq!(code, 0, "{text}");
        assert_eq!(report["events"]["acknowledged"], 10);
        assert!(!text.contains("an-example-key"), "{text}");
    }
}

#[test]
fn tls_is_spoken_to_whom_it_trusts() {
    let (folder, launch) = launch();
    let path = |name: &str| folder.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let launch = launch
        .set("METRICS_TLS_CERT", path("cert.pem"))
        .set("METRICS_TLS_KEY", path("key.pem"));
    let server = launch.start();
    let url = format!("https://localhost:{}", server.address().port());
    let cert = path("cert.pem");
    let log = launch.log();
    for (trust, shape) in [
        (&["--ca", cert.to_str().unwrap()][..], &["--batch", "700"][..]),
        (&["--insecure"], &["--pipeline", "16"]),
    ] {
        let verify = ["-n", "7000", "-c", "4", "--verify", log.to_str().unwrap()];
        let (code, report, text) = load(&launch, &url, &[&verify[..], trust, shape].concat());
        assert_eq!(code, 0, "{text}");
        assert_eq!(report["verify"]["stored_once"], 7_000, "{text}");
    }
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(path("other.pem"), other.cert.pem()).unwrap();
    let (code, _, text) = load(
        &launch,
        &url,
        &["-n", "10", "--ca", path("other.pem").to_str().unwrap()],
    );
    assert_eq!(code, 1, "a certificate that nobody vouches for: {text}");
    assert!(text.contains("cannot connect"), "{text}");
}

#[test]
fn a_certificate_that_no_server_may_use_is_told_with_what_to_do() {
    let (folder, launch) = launch();
    let path = |name: &str| folder.path().join(name);
    let mut authority = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(path("cert.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let launch = launch
        .set("METRICS_TLS_CERT", path("cert.pem"))
        .set("METRICS_TLS_KEY", path("key.pem"));
    let server = launch.start();
    let url = format!("https://localhost:{}", server.address().port());
    let cert = path("cert.pem");
    let (code, _, text) = load(&launch, &url, &["-n", "10", "--ca", cert.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(text.contains("CA:FALSE") && text.contains("--insecure"), "{text}");
    assert_eq!(load(&launch, &url, &["-n", "10", "--insecure"]).0, 0);
}

#[test]
fn what_a_server_does_wrong_is_counted_by_kind_with_an_example() {
    let (_folder, launch) = launch();
    for (reply, kind, example) in [
        (
            Reply::Bytes(b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nbroken"),
            "status 500",
            "broken",
        ),
        (Reply::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n"), "malformed", "SSH-2.0"),
        (
            Reply::Bytes(b"HTTP/1.1 202 Accepted\r\n\r\n"),
            "malformed",
            "neither a length",
        ),
        (
            Reply::Bytes(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nhalf"),
            "timeout",
            "nothing within",
        ),
        (
            Reply::Bytes(b"\x15\x03\x03\x00\x02\x02\x32"),
            "malformed",
            "is the address one of https://?",
        ),
        (Reply::Close, "closed", "ended the connection"),
        (Reply::Silence, "timeout", "nothing within"),
    ] {
        let stub = Stub::start(move |_| reply);
        let arguments = ["-c", "2", "--duration", "500ms", "--timeout", "100ms"];
        let (code, report, text) = load(&launch, &url(stub.address), &arguments);
        assert_eq!(code, 1, "nothing got through: {text}");
        let failed = errors(&report, kind);
        assert!(failed > 0, "{kind}: {text}");
        assert_eq!(report["requests"]["failed"], failed, "{kind}: {text}");
        assert_eq!(report["requests"]["sent"], failed, "{kind}: {text}");
        let found = &report["errors"][0];
        assert!(
            found["example"].as_str().unwrap().contains(example),
            "{kind}: {text}"
        );
    }
}

#[test]
fn connections_that_the_server_ends_are_made_again() {
    let (_folder, launch) = launch();
    let ending = b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let stub = Stub::start(move |_| Reply::Bytes(ending));
    let (code, report, text) = load(&launch, &url(stub.address), &["-c", "3", "-n", "50"]);
    assert_eq!((code, &report["requests"]["answered"]), (0, &50.into()), "{text}");
    assert_eq!(report["errors"].as_array().unwrap().len(), 0, "{text}");
}

#[test]
fn where_nobody_listens_and_what_makes_no_sense_is_said_at_once() {
    let (_folder, launch) = launch();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, text) = load(&launch, &url(free), &[]);
    assert!(code == 1 && text.contains("cannot connect"), "{text}");
    for (arguments, reason) in [
        (&["--rate", "0"][..], "requests a second"),
        (&["--rate", "2k..1k"], "lower rate to a higher"),
        (&["--batch", "0"], "--batch"),
        (&["--batch", "5", "--pipeline", "5"], "cannot be used with"),
        (&["--threads", "4", "-c", "2"], "each needs a connection"),
        (&["--insecure"], "https://"),
        (&["--rate", "1..2", "-n", "5"], "ramp"),
        (&["--verify", "nowhere/metrics.jsonl"], "--verify"),
        (&["--input", "-", "--verify", "x"], "cannot be used with"),
    ] {
        let stub = Stub::start(|_| Reply::Accepted);
        let (code, _, text) = load(&launch, &url(stub.address), arguments);
        assert_eq!(code, 2, "{arguments:?}: {text}");
        assert!(text.contains(reason), "{arguments:?}: {text}");
    }
    assert_eq!(load(&launch, "localhost:1", &[]).0, 2);
}

#[test]
fn a_ramp_tries_rates_until_one_is_not_held() {
    let (_folder, launch) = launch();
    let steps = |p99: &str, reply: Reply| {
        let stub = Stub::start(move |_| reply);
        let arguments = ["--rate", "40..160", "--p99", p99, "-d", "500ms", "-c", "8"];
        let (code, report, text) = load(&launch, &url(stub.address), &arguments);
        assert_eq!(code, 0, "{text}");
        let steps = report["ramp"]["steps"].as_array().unwrap().clone();
        let number = |value: &Value| value.as_f64().unwrap();
        // Counts are of all steps, rates of the highest that was held, or of the first.
        let answered = steps
            .iter()
            .map(|step| number(&step["achieved"]) * 0.5)
            .sum::<f64>();
        assert!(
            number(&report["requests"]["answered"]) >= answered - 1e-6,
            "{text}"
        );
        let held = steps.iter().filter(|step| step["held"] == true);
        let best = held.max_by(|one, other| number(&one["rate"]).total_cmp(&number(&other["rate"])));
        let reached = number(&best.unwrap_or(&steps[0])["achieved"]);
        assert!(
            (number(&report["rate"]["requests_per_second"]) - reached).abs() < 1e-6,
            "{text}"
        );
        steps
            .iter()
            .map(|step| (step["rate"].as_f64().unwrap(), step["held"] == true))
            .collect::<Vec<_>>()
    };
    let late = Reply::Late(Duration::from_millis(20));
    assert_eq!(
        steps("10ms", late),
        [(40.0, false), (40.0, false)],
        "tried twice, then given up"
    );
    let held = steps("20s", Reply::Accepted);
    // A step may fail where the machine has other work; it is tried again then.
    assert_eq!(held[0].0, 40.0, "{held:?}");
    assert!(held.iter().any(|(_, held)| *held), "{held:?}");
    assert!(
        held.iter().all(|(rate, _)| (40.0..=160.0).contains(rate)),
        "{held:?}"
    );
}

#[test]
fn verification_finds_what_is_missing_and_what_is_twice() {
    let (folder, launch) = launch();
    let server = launch.start();
    server
        .connect()
        .post(http::EVENT, r#"{"visitor_id":"visitor-1","event":"before"}"#)
        .expect(202);
    await_true("the log", || launch.log().exists());
    for (forgery, missing, twice) in [
        (Forgery::Nothing, 0, 0),
        (Forgery::Removed, 1, 0),
        (Forgery::Doubled, 0, 1),
    ] {
        // A copy of the log in which a line is not as it was.
        let copy = folder.path().join(format!("{forgery:?}.jsonl"));
        let forger = Forger::start(&launch.log(), &copy, forgery);
        let arguments = [
            "-n",
            "2000",
            "-c",
            "4",
            "--batch",
            "10",
            "--verify",
            copy.to_str().unwrap(),
        ];
        let (code, report, text) = load(&launch, &url(server.address()), &arguments);
        forger.stop();
        let verify = &report["verify"];
        assert_eq!(verify["missing"], missing, "{forgery:?}: {text}");
        assert_eq!(verify["twice"], twice, "{forgery:?}: {text}");
        assert_eq!(
            verify["stored_once"],
            2_000 - missing - twice,
            "{forgery:?}: {text}"
        );
        assert_eq!(code, i32::from(missing + twice > 0), "{forgery:?}: {text}");
        let examples = verify["examples"].as_array().unwrap();
        assert_eq!(
            examples.len() as u64,
            (missing + twice) as u64,
            "{forgery:?}: {text}"
        );
    }
}

#[test]
fn nothing_acknowledged_is_missing_when_the_server_is_killed_and_started_again() {
    let (_folder, launch) = launch();
    let server = launch.start();
    let address = server.address();
    let log = launch.log();
    let arguments = [
        "--batch",
        "20",
        "-c",
        "8",
        "-n",
        "200000",
        "--timeout",
        "5s",
        "--verify",
        log.to_str().unwrap(),
    ];
    let running = Running::start(&url(address), &arguments);
    await_true("some events", || {
        log.metadata().is_ok_and(|file| file.len() > 100_000)
    });
    server.kill9();
    let server = launch.set("METRICS_BIND", address.to_string()).start();
    let (code, report, text) = running.end();
    assert_eq!(code, 0, "{text}");
    let events = &report["events"];
    let count = |name: &str| report["verify"][name].as_u64().unwrap();
    assert_eq!(events["sent"], 200_000, "{text}");
    assert_eq!(
        count("stored_once"),
        events["acknowledged"].as_u64().unwrap(),
        "{text}"
    );
    assert_eq!(
        count("unknown_stored") + count("unknown_missing"),
        events["unknown"].as_u64().unwrap(),
        "{text}"
    );
    assert!(
        events["unknown"].as_u64().unwrap() > 0,
        "the kill met requests on the way: {text}"
    );
    assert_eq!(
        log::lines(&log).len() as u64,
        count("stored_once") + count("unknown_stored"),
        "{text}"
    );
    server.stop();
}

#[test]
fn reports_are_written_where_they_are_asked_for() {
    let (folder, launch) = launch();
    let stub = Stub::start(|_| Reply::Accepted);
    let arguments = [
        "load",
        &url(stub.address),
        "-n",
        "20",
        "--json=run.json",
        "--html",
        "run.html",
    ];
    let output = launch.run(&arguments);
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("closed loop") && !table.contains('{'), "{table}");
    let report = fs::read_to_string(folder.path().join("run.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["requests"]["answered"], 20);
    let settings = report["settings"].as_object().unwrap();
    assert_eq!(
        settings.keys().collect::<Vec<_>>(),
        ["connections", "events", "threads"]
    );
    let page = fs::read_to_string(folder.path().join("run.html")).unwrap();
    assert!(page.contains("<html") && page.contains(report["run"].as_str().unwrap()));
}

#[test]
fn a_run_that_is_stopped_reports_what_was_done() {
    let (_folder, launch) = launch();
    let server = launch.start();
    let log = launch.log();
    let arguments = ["-d", "1h", "-c", "2", "--verify", log.to_str().unwrap()];
    let running = Running::start(&url(server.address()), &arguments);
    await_true("some events", || {
        log.metadata().is_ok_and(|file| file.len() > 100_000)
    });
    running.signal(Signal::INT);
    let (code, report, text) = running.end();
    assert_eq!(code, 0, "{text}");
    assert_eq!(report["interrupted"], true);
    assert_eq!(
        report["verify"]["stored_once"], report["events"]["acknowledged"],
        "{text}"
    );
    assert_eq!(
        report["events"]["unknown"], 0,
        "answers on the way were waited for: {text}"
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (_folder, _launch) = launch();
    let stub = Stub::start(|_| Reply::Silence);
    let running = Running::start(&url(stub.address), &["-d", "1h", "-c", "1", "--timeout", "5m"]);
    await_true("a request", || stub.requests() > 0);
    // Two of one kind may be delivered as one.
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    let (code, report, text) = running.end();
    assert_eq!((code, report), (1, Value::Null), "{text}");
}

/// A load test that goes on.
struct Running(Child);

impl Running {
    fn start(url: &str, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_floodgate"));
        command.args(["load", url, "--json"]).args(arguments);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null());
        Running(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id() as i32).unwrap();
        kill_process(pid, signal).expect("it is not reaped yet");
    }

    fn end(mut self) -> (i32, Value, String) {
        await_true("the end of the load", || self.0.try_wait().unwrap().is_some());
        told(&self.0.wait_with_output().unwrap())
    }
}

/// What a stub does with a request.
#[derive(Clone, Copy)]
enum Reply {
    Accepted,
    /// Accepted, after a while.
    Late(Duration),
    Bytes(&'static [u8]),
    Close,
    Silence,
}

/// A server that does as it is told with each request, of which the first has the number 0.
struct Stub {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Stub {
    fn start(reply: impl Fn(u64) -> Reply + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let stub = Stub {
            address: listener.local_addr().unwrap(),
            requests: Arc::clone(&requests),
        };
        let reply = Arc::new(reply);
        // Its threads end with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (reply, requests) = (Arc::clone(&reply), Arc::clone(&requests));
                thread::spawn(move || serve(stream, &*reply, &requests));
            }
        });
        stub
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Serves a connection until either side has enough.
fn serve(mut stream: TcpStream, reply: &dyn Fn(u64) -> Reply, requests: &AtomicU64) -> Option<()> {
    let accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
    stream.set_nodelay(true).ok()?;
    let mut pending = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = request_end(&pending) {
                break end;
            }
            let mut chunk = [0; 16 << 10];
            let size = stream.read(&mut chunk).ok().filter(|size| *size > 0)?;
            pending.extend_from_slice(&chunk[..size]);
        };
        let is_post = pending.starts_with(b"POST");
        pending.drain(..end);
        if !is_post {
            // It has no metrics.
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .ok()?;
            continue;
        }
        match reply(requests.fetch_add(1, Ordering::Relaxed)) {
            Reply::Accepted => stream.write_all(accepted).ok()?,
            Reply::Late(time) => {
                thread::sleep(time);
                stream.write_all(accepted).ok()?;
            }
            Reply::Bytes(bytes) => stream.write_all(bytes).ok()?,
            Reply::Close => return None,
            Reply::Silence => {}
        }
    }
}

/// Where the first request ends, if it is there as a whole.
fn request_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let size = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let end = end + size.map_or(0, |size| size.parse().unwrap());
    (bytes.len() >= end).then_some(end)
}

/// What is done to a copy of the log.
#[derive(Clone, Copy, Debug)]
enum Forgery {
    Nothing,
    Removed,
    Doubled,
}

/// Copies a log while it is written, and does something to its 1,000th new line.
struct Forger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Forger {
    fn start(log: &Path, copy: &Path, forgery: Forgery) -> Forger {
        let mut from = fs::File::open(log).unwrap();
        from.seek(SeekFrom::End(0)).unwrap();
        let mut to = fs::File::options().create(true).append(true).open(copy).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (mut pending, mut count) = (Vec::new(), 0);
                while !stop.load(Ordering::Relaxed) {
                    from.read_to_end(&mut pending).unwrap();
                    while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = pending.drain(..=end).collect();
                        count += 1;
                        let copies = match (count == 1_000, forgery) {
                            (false, _) | (true, Forgery::Nothing) => 1,
                            (true, Forgery::Removed) => 0,
                            (true, Forgery::Doubled) => 2,
                        };
                        to.write_all(&line.repeat(copies)).unwrap();
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Forger { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the forger does not panic");
    }
}
