//! `floodgate load compare` and `floodgate load show`, the real binary on files that were forged from a report.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A report of `floodgate load --json`.
const REPORT: &str = include_str!("vectors/load_report.json");

/// What it says: exit code, standard output, standard error.
fn load(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_floodgate"))
        .arg("load")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the binary can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
    let code = output.status.code().expect("it ends by itself");
    (code, text(output.stdout), text(output.stderr))
}

/// The line of a run that is slower by a factor.
fn run(name: &str, factor: f64) -> String {
    let mut report: Value = serde_json::from_str(REPORT).unwrap();
    report["run"] = name.into();
    for rate in ["requests_per_second", "events_per_second"] {
        report["rate"][rate] = (report["rate"][rate].as_f64().unwrap() / factor).into();
    }
    for percentile in ["p50", "p99"] {
        report["latency"][percentile] =
            ((report["latency"][percentile].as_f64().unwrap() * factor) as u64).into();
    }
    format!("{report}\n")
}

/// A folder with runs of two sides: four files of the first, one file with four runs of the second, slower by a fifth.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (at, factor) in [1.0, 1.01, 1.02, 1.03].into_iter().enumerate() {
        fs::write(
            folder.path().join(format!("a{at}.json")),
            run(&format!("a{at}"), factor),
        )
        .unwrap();
    }
    let slow: String = [1.2, 1.21, 1.22, 1.23]
        .iter()
        .map(|factor| run(&format!("b{factor}"), *factor))
        .collect();
    fs::write(folder.path().join("b.json"), slow).unwrap();
    fs::write(folder.path().join("b0.json"), run("b0", 1.2)).unwrap();
    folder
}

#[test]
fn two_files_are_compared_without_a_verdict() {
    let folder = folder();
    let (code, stdout, stderr) = load(folder.path(), &["compare", "a0.json", "b0.json"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(
        stdout.contains("One run of each side cannot tell a difference from noise."),
        "{stdout}"
    );
    let (code, _, stderr) = load(
        folder.path(),
        &["compare", "a0.json", "b0.json", "--fail-if-slower"],
    );
    assert_eq!(code, 2);
    assert!(stderr.contains("needs more runs"), "{stderr}");
}

#[test]
fn repeated_runs_are_told_from_noise_and_fail_a_build() {
    let folder = folder();
    let sides = [
        "compare", "a0.json", "a1.json", "a2.json", "a3.json", "--with", "b.json",
    ];
    let with = |more: &[&str]| load(folder.path(), &[&sides, more].concat());
    let (code, stdout, _) = with(&["--json"]);
    assert_eq!(code, 0);
    let comparison: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&comparison["first"]["runs"], &comparison["second"]["runs"]),
        (&4.into(), &4.into())
    );
    let figure = |name: &str| {
        let figures = comparison["figures"].as_array().unwrap();
        figures
            .iter()
            .find(|figure| figure["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(figure("events_per_second")["verdict"], "worse");
    assert!((figure("events_per_second")["p"].as_f64().unwrap() - 2.0 / 70.0).abs() < 1e-9);
    assert_eq!(figure("latency_p99_9")["verdict"], "within_noise");

    let (code, _, stderr) = with(&["--fail-if-slower"]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("slower by more than 5 %: events_per_second, latency_p50, latency_p99"),
        "{stderr}"
    );
    assert_eq!(with(&["--fail-if-slower=30"]).0, 0, "they are slower by a fifth");
}

#[test]
fn what_cannot_be_compared_is_usage() {
    let folder = folder();
    fs::write(folder.path().join("other.json"), "{\"ok\":true}").unwrap();
    for (arguments, expected) in [
        (&["compare", "a0.json"][..], "one file is named"),
        (&["compare", "a0.json", "a1.json", "b0.json"], "put --with before"),
        (&["compare", "a0.json", "other.json"], "other.json: not a report"),
        (&["compare", "a0.json", "gone.json"], "gone.json: "),
        (
            &["compare", "a0.json", "a0.json", "--with", "b.json"],
            "is there twice",
        ),
        (
            &["compare", "a0.json", "b0.json", "--fail-if-slower=much"],
            "a number from 0 to 1000",
        ),
        (&["show", "other.json"], "other.json: not a report"),
    ] {
        let (code, stdout, stderr) = load(folder.path(), arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_saved_report_is_shown_again_and_made_a_page() {
    let folder = folder();
    let (code, stdout, stderr) = load(folder.path(), &["show", "a0.json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.contains("closed loop, 10.0 s") && !stdout.contains('\x1b'),
        "{stdout}"
    );
    let (code, stdout, _) = load(folder.path(), &["show", "b.json", "--html", "page.html"]);
    assert_eq!((code, stdout.as_str()), (0, ""));
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("b1.23"),
        "the last of several"
    );
    let (code, _, stderr) = load(folder.path(), &["show", "a0.json", "--html", "nowhere/page.html"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("nowhere/page.html"), "{stderr}");
}
