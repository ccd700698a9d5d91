//! `floodgate verify`, the real binary on logs of a real server, whole and damaged.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::http::{BATCH, Client};
use common::load::Load;
use common::log;
use common::server::Launch;
use serde_json::{Value, json};

/// What it says: exit code, standard output, standard error.
fn verify(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .arg("verify")
        .args(arguments)
        .current_dir(folder)
        .env_remove("METRICS_JSONL")
        .stdin(Stdio::null())
        .output()
        .expect("the binary can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
    let code = output.status.code().expect("it ends by itself");
    (code, text(output.stdout), text(output.stderr))
}

/// Its report as JSON; the exit code must go with it.
fn report(folder: &Path, arguments: &[&str]) -> Value {
    let arguments = [&["metrics.jsonl", "--json"], arguments].concat();
    let (code, stdout, stderr) = verify(folder, &arguments);
    assert_eq!(stderr, "", "{stdout}");
    let report: Value = serde_json::from_str(&stdout).expect("it prints JSON");
    assert_eq!(code, if report["ok"] == true { 0 } else { 1 }, "{stdout}");
    report
}

/// What is wrong, as `file:line:byte: what`, files without their folder.
fn findings(folder: &Path) -> Vec<String> {
    let report = report(folder, &[]);
    let shown = |value: &Value| value.as_u64().map_or("-".to_owned(), |number| number.to_string());
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| {
            let file = Path::new(finding["file"].as_str().unwrap())
                .file_name()
                .unwrap()
                .to_str()
                .unwrap();
            let what = finding["what"].as_str().unwrap();
            format!(
                "{file}:{}:{}: {what}",
                shown(&finding["line"]),
                shown(&finding["byte"])
            )
        })
        .collect()
}

/// A log of three sealed files and a live one, of ten to twelve events each; the paths of the sealed ones.
fn sealed_log(folder: &Path) -> Vec<PathBuf> {
    let launch = Launch::new(folder).set("METRICS_ROTATE_REST", "0ms");
    let server = launch.start();
    let mut client = server.connect();
    for file in 0..4_usize {
        post(&mut client, 10 + file.min(2));
        if file < 3 {
            server.signal(rustix::process::Signal::USR1);
            common::await_true("the file to be sealed", || sealed(folder).len() == file + 1);
        }
    }
    server.stop();
    sealed(folder)
}

fn post(client: &mut Client, events: usize) {
    let event = |at: usize| {
        let name = ["view", "click"][at % 2];
        json!({"visitor_id": format!("visitor-{at}"), "event": name, "timestamp": 1_795_382_130 + 50 * at})
    };
    let batch: Vec<_> = (0..events).map(event).collect();
    client
        .post(&format!("{BATCH}?ack=written"), &json!(batch).to_string())
        .expect(202);
}

fn sealed(folder: &Path) -> Vec<PathBuf> {
    let live = folder.join("metrics.jsonl");
    log::files(&live)
        .into_iter()
        .filter(|file| *file != live)
        .collect()
}

fn summary_of(file: &Path) -> PathBuf {
    file.with_extension("summary.json")
}

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

fn append(file: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Puts a file into the archive as the server does.
fn compress(file: &Path) {
    let archive = file.parent().unwrap().join("archive");
    fs::create_dir_all(&archive).unwrap();
    let packed = zstd::encode_all(&fs::read(file).unwrap()[..], 1).unwrap();
    fs::write(archive.join(name(file) + ".zst"), packed).unwrap();
    fs::remove_file(file).unwrap();
}

/// A summary with one member changed, its checksum right.
fn forge(summary: &Path, from: &str, to: &str) {
    let stored: Value = serde_json::from_str(&fs::read_to_string(summary).unwrap()).unwrap();
    let text = fs::read_to_string(summary).unwrap();
    let inner = text
        .split_once(r#""summary":"#)
        .unwrap()
        .1
        .trim_end()
        .strip_suffix('}')
        .unwrap();
    assert!(inner.contains(from), "{inner}");
    let inner = inner.replacen(from, to, 1);
    let checksum = format!("{:08x}", crc32c::crc32c(inner.as_bytes()));
    assert_ne!(stored["crc32c"], checksum);
    fs::write(
        summary,
        format!("{{\"crc32c\":\"{checksum}\",\"summary\":{inner}}}\n"),
    )
    .unwrap();
}

#[test]
fn a_log_of_a_server_is_fine_while_it_is_written_and_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path())
        .set("METRICS_ROTATE_BYTES", "64KiB")
        .set("METRICS_ROTATE_REST", "0ms")
        .set("METRICS_LINE_SEQ", "on");
    let server = launch.start();
    let load = Load::start(server.address(), 1, 5, &["", "written"]);
    for events in [500, 2_000, 4_000] {
        load.await_acknowledged(events);
        let report = report(folder.path(), &[]);
        assert_eq!(
            (&report["ok"], &report["live"]),
            (&json!(true), &json!(true)),
            "{report}"
        );
        assert!(report["events"].as_u64() > Some(0));
    }
    let acknowledged = load.stop().acknowledged.len();
    server.stop();
    let files = sealed(folder.path());
    assert!(files.len() > 5);
    compress(&files[1]);
    let report = report(folder.path(), &[]);
    assert_eq!(
        (&report["ok"], &report["live"], &report["torn"]),
        (&json!(true), &json!(false), &json!(0)),
        "{report}"
    );
    let bytes = log::bytes(&launch.log()).len();
    assert_eq!(
        (&report["events"], &report["bytes"]),
        (&json!(acknowledged), &json!(bytes))
    );
    let states: Vec<_> = report["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        (states[0], states[1], *states.last().unwrap()),
        ("plain", "compressed", "live")
    );
    let (code, stdout, stderr) = verify(folder.path(), &["metrics.jsonl"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("metrics.jsonl: fine; "), "{stdout}");
}

#[test]
fn a_log_of_the_python_service_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let line = r#"{"visitor_id": "visitor-1", "event": "view", "timestamp": "2025-10-09T12:34:56.123456Z", "metadata": {"a": 1}, "user_agent": "curl"}"#;
    fs::write(folder.path().join("metrics.jsonl"), format!("{line}\n{line}\n")).unwrap();
    assert_eq!(findings(folder.path()), [""; 0]);
}

#[test]
fn a_flipped_bit_anywhere_in_a_sealed_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let files = sealed_log(folder.path());
    let bytes = fs::read(&files[1]).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&files[1], damaged).unwrap();
        let found = findings(folder.path());
        assert!(
            found.iter().any(|found| found.contains("CRC-32C")),
            "byte {at}: {found:?}"
        );
    }
    fs::write(&files[1], bytes).unwrap();
    assert_eq!(findings(folder.path()), [""; 0]);
}

#[test]
fn a_fault_is_told_with_file_line_and_byte() {
    let folder = tempfile::tempdir().unwrap();
    sealed_log(folder.path());
    let live = folder.path().join("metrics.jsonl");
    let text = fs::read_to_string(&live).unwrap();
    let third = text.match_indices('\n').nth(1).unwrap().0 + 1;
    let broken = format!(
        "{}{}",
        &text[..third],
        text[third..].replacen(r#""event""#, r#""evant""#, 1)
    );
    fs::write(&live, &broken).unwrap();
    let byte = third + text[third..].find(r#""event""#).unwrap();
    let found = report(folder.path(), &[])["findings"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(
        (&found[0]["file"], &found[0]["line"]),
        (&json!("./metrics.jsonl"), &json!(3))
    );
    let told = found[0]["byte"].as_u64().unwrap() as usize;
    assert!((byte..byte + 8).contains(&told), "{told} for {byte}");
    let (code, stdout, _) = verify(folder.path(), &["metrics.jsonl"]);
    let expected =
        format!("./metrics.jsonl: line 3, byte {told}: the key \"evant\" is where \"event\" must be\n");
    assert_eq!(code, 1);
    assert!(stdout.starts_with(&expected), "{stdout}");
    assert!(stdout.contains("metrics.jsonl: not fine; "), "{stdout}");
    // No more than 20 are shown, all are counted.
    fs::write(&live, broken + &"garbage\n".repeat(30)).unwrap();
    let report = report(folder.path(), &[]);
    assert_eq!(report["findings"].as_array().unwrap().len(), 20);
    assert_eq!(report["findings_total"], 31);
    assert_eq!(report["findings"][1]["line"], 13);
    assert_eq!(report["findings"][1]["byte"], text.len());
}

#[test]
fn lines_marked_torn_are_counted_and_half_a_line_is_a_fault_unless_a_server_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    let server = launch.start();
    post(&mut server.connect(), 2);
    let live = launch.log();
    let length = fs::metadata(&live).unwrap().len();
    append(&live, r#"{"visitor_id":"vis"#);
    assert_eq!(findings(folder.path()), [""; 0]);
    server.kill9();
    let expected = format!(
        "metrics.jsonl:3:{length}: the file ends within a line, after 18 bytes of it; the next start of the server completes it"
    );
    assert_eq!(findings(folder.path()), [expected]);
    append(&live, "\",\"torn\":true}\n");
    let report = report(folder.path(), &[]);
    assert_eq!(
        (
            &report["ok"],
            &report["torn"],
            &report["lines"],
            &report["events"]
        ),
        (&json!(true), &json!(1), &json!(3), &json!(2))
    );
}

#[test]
fn missing_files_are_gaps_unless_their_summary_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let files = sealed_log(folder.path());
    fs::remove_file(&files[0]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    let report = report(folder.path(), &[]);
    assert_eq!(
        (&report["ok"], &report["files"][1]["state"]),
        (&json!(true), &json!("removed")),
        "{report}"
    );
    assert_eq!(
        (&report["lines"], &report["files"][1]["lines"]),
        (&json!(24), &json!(11))
    );
    fs::remove_file(summary_of(&files[1])).unwrap();
    let gap = "metrics.jsonl:-:-: file 2 is missing, without a summary to tell what was in it";
    assert_eq!(findings(folder.path()), [gap]);
    fs::write(summary_of(&files[0]), "{}").unwrap();
    let damaged = format!(
        "{}:-:-: the summary is damaged, of another version, or gone, and its file is gone",
        name(&summary_of(&files[0]))
    );
    assert_eq!(findings(folder.path()), [gap.to_owned(), damaged.clone()]);
    // What is gone cannot be repaired.
    let after = report_of_repair(folder.path());
    assert_eq!((&after["ok"], &after["repaired"]), (&json!(false), &json!([])));
    fs::remove_file(summary_of(&files[0])).unwrap();
    let gap = "metrics.jsonl:-:-: files 1 to 2 are missing, without a summary to tell what was in it";
    assert_eq!(findings(folder.path()), [gap]);
}

fn report_of_repair(folder: &Path) -> Value {
    report(folder, &["--repair"])
}

#[test]
fn a_summary_that_does_not_go_with_its_file_is_told_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let files = sealed_log(folder.path());
    let summary = summary_of(&files[1]);
    let whole = fs::read(&summary).unwrap();
    let data: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for (from, to, what) in [
        (
            r#""lines":11"#,
            r#""lines":12"#,
            "it says 12 lines, the file has 11",
        ),
        (
            r#""events":11"#,
            r#""events":10"#,
            "it says 10 events, the file has 11",
        ),
        (
            r#""first_seq":11"#,
            r#""first_seq":12"#,
            "its first event has the number 12, where 11 is the next",
        ),
        (
            r#""total":6"#,
            r#""total":5"#,
            r#"it says 5 events "view", the file has 6"#,
        ),
        (
            r#""event":"click""#,
            r#""event":"clack""#,
            r#"it says 5 events "clack", the file has 0"#,
        ),
        ("[29923035,1]", "[29923036,1]", r#"the minutes of the events "#),
        (
            r#""last_minute":299"#,
            r#""last_minute":298"#,
            "the minutes of its first and its last event",
        ),
    ] {
        forge(&summary, from, to);
        let found = findings(folder.path());
        assert!(
            found.iter().any(|found| found.contains(what)),
            "{what}: {found:?}"
        );
        let report = report_of_repair(folder.path());
        let path = format!("./{}", name(&summary));
        assert_eq!(
            (&report["ok"], &report["repaired"]),
            (&json!(true), &json!([path])),
            "{what}"
        );
        assert_eq!(fs::read(&summary).unwrap(), whole, "{what}");
    }
    // Damaged and missing, of files plain and compressed.
    let mut damaged = whole.clone();
    damaged[40] ^= 1;
    fs::write(&summary, damaged).unwrap();
    fs::remove_file(summary_of(&files[2])).unwrap();
    compress(&files[2]);
    assert_eq!(findings(folder.path()).len(), 2);
    assert_eq!(
        report_of_repair(folder.path())["repaired"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(fs::read(&summary).unwrap(), whole);
    let again = report_of_repair(folder.path());
    assert_eq!((&again["ok"], &again["repaired"]), (&json!(true), &json!([])));
    for (file, data) in files.iter().zip(data).take(2) {
        assert!(fs::read(file).unwrap() == data);
    }
}

#[test]
fn a_summary_that_is_late_is_no_fault_while_a_server_has_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let files = sealed_log(folder.path());
    let summary = summary_of(&files[1]);
    let server = Launch::new(folder.path()).start();
    // As it is for a moment after a file is sealed, and for longer on a disk that is full.
    fs::remove_file(&summary).unwrap();
    assert_eq!(findings(folder.path()), [""; 0]);
    fs::write(&summary, "{}").unwrap();
    assert_eq!(
        findings(folder.path()).len(),
        1,
        "one that is damaged is not late"
    );
    fs::remove_file(&summary).unwrap();
    server.stop();
    let told = format!("{}:-:-: the summary is missing", name(&summary));
    assert!(findings(folder.path())[0].starts_with(&told));
}

#[test]
fn nothing_is_repaired_while_a_server_has_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let files = sealed_log(folder.path());
    let server = Launch::new(folder.path()).start();
    fs::remove_file(summary_of(&files[0])).unwrap();
    let (code, stdout, stderr) = verify(folder.path(), &["metrics.jsonl", "--repair"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.contains("nothing is repaired: the log is open in another process"),
        "{stderr}"
    );
    assert!(!summary_of(&files[0]).exists());
    server.stop();
}

#[test]
fn sequence_numbers_in_lines_have_no_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("metrics.jsonl");
    let line = |seq: u64| {
        format!(
            "{{\"seq\":{seq},\"visitor_id\":\"visitor\",\"event\":\"view\",\"timestamp\":\"2025-10-09T12:34:56Z\",\"metadata\":{{}},\"user_agent\":null}}\n"
        )
    };
    let torn = "{\"seq\":4,\"torn\":true}\n".to_owned();
    fs::write(&live, [line(1), line(2), line(3), torn, line(4)].concat()).unwrap();
    assert_eq!(findings(folder.path()), [""; 0]);
    let length = fs::metadata(&live).unwrap().len();
    append(&live, &[line(6), line(7), line(7)].concat());
    let expected = [
        (6, length, "6, where 5"),
        (8, length + 2 * line(6).len() as u64, "7, where 8"),
    ];
    let expected = expected.map(|(line, byte, what)| {
        format!("metrics.jsonl:{line}:{byte}: its sequence number is {what} is the next")
    });
    assert_eq!(findings(folder.path()), expected);
    // Those that a power cut took are missing behind what it tore, and the summary knows of them.
    let torn = "{\"torn\":true     }\n".to_owned();
    let sealed = folder.path().join("metrics-20261122T211530Z-000001.jsonl");
    fs::write(&sealed, [line(1), torn, line(4)].concat()).unwrap();
    fs::write(&live, line(5)).unwrap();
    assert_eq!(report(folder.path(), &["--repair"])["ok"], true);
    assert_eq!(findings(folder.path()), [""; 0]);
}

#[test]
fn a_damaged_archive_is_told_and_the_others_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let files = sealed_log(folder.path());
    compress(&files[0]);
    let packed = folder.path().join("archive").join(name(&files[0]) + ".zst");
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() - 5]).unwrap();
    let found = findings(folder.path());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with(&name(&packed)) && found[0].contains("it cannot be read: "),
        "{found:?}"
    );
    assert_eq!(report(folder.path(), &[])["files"].as_array().unwrap().len(), 4);
}

#[test]
fn wrong_usage_is_told_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("metrics.jsonl"), "").unwrap();
    for (arguments, reason) in [
        (&["nothing.jsonl"][..], "there is no log at nothing.jsonl"),
        (&[], "there is no log at ./data/metrics.jsonl"),
        (&["metrics.jsonl", "--jsonl", "a"], "both name a log"),
        (
            &["metrics.jsonl", "--event-names-max", "0"],
            "METRICS_EVENT_NAMES_MAX",
        ),
        (&["--fix"], "unexpected argument"),
    ] {
        let (code, stdout, stderr) = verify(folder.path(), arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
    assert_eq!(findings(folder.path()), [""; 0]);
}
