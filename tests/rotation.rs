//! The live file is sealed and another begun: by size, by the clock, on SIGUSR1; and the counts stay exact.

mod common;

use common::http::{BATCH, BEHAVIOR, EVENT, HEALTH};
use common::server::{Launch, Server};
use common::{await_some, await_true, log};
use rustix::process::Signal;
use serde_json::Value;

fn launch(folder: &std::path::Path) -> Launch {
    Launch::new(folder).set("METRICS_ROTATE_REST", "0ms")
}

fn event(number: u64, name: &str) -> String {
    format!(
        r#"{{"visitor_id":"visitor-{number}","event":"{name}","timestamp":"2025-10-09T12:{:02}:00Z"}}"#,
        number % 60
    )
}

/// Posts events and gives the sequence number of the last.
fn post(server: &Server, numbers: std::ops::Range<u64>, name: &str) -> u64 {
    let mut client = server.connect();
    let mut last = 0;
    for number in numbers {
        let answer = client
            .post(&format!("{EVENT}?ack=written"), &event(number, name))
            .expect(202);
        last = answer.header("x-seq").expect("a number").parse().unwrap();
    }
    last
}

fn snapshot(server: &Server) -> Value {
    await_some("the counts", || {
        let answer = server.connect().get(&format!("{BEHAVIOR}?limit=50"));
        (answer.status == 200).then(|| answer.json())
    })
}

fn sealed_count(launch: &Launch) -> usize {
    log::files(&launch.log())
        .iter()
        .filter(|file| **file != launch.log())
        .count()
}

fn rotate(server: &Server, launch: &Launch) {
    let before = sealed_count(launch);
    server.signal(Signal::USR1);
    await_true("a sealed file", || {
        sealed_count(launch) > before && launch.log().exists()
    });
}

#[test]
fn a_signal_seals_the_file_and_counts_numbers_and_the_recent_window_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path());
    let server = launch.start();
    assert_eq!(post(&server, 0..7, "first"), 7);
    rotate(&server, &launch);
    assert_eq!(std::fs::metadata(launch.log()).unwrap().len(), 0);
    assert_eq!(post(&server, 7..10, "second"), 10);
    rotate(&server, &launch);
    let before = snapshot(&server);
    assert_eq!(before["total"], 10);
    assert_eq!(before["by_event"][0]["count"], 7);
    assert_eq!(before["last_events"].as_array().unwrap().len(), 10);
    assert_eq!(before["file_size_bytes"], 0);
    server.stop();

    let names: Vec<String> = log::files(&launch.log())
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert!(
        names[0].ends_with("Z-000001.jsonl") && names[1].ends_with("Z-000002.jsonl"),
        "{names:?}"
    );
    assert_eq!(log::visitors(&launch.log()).len(), 10);

    let server = launch.start();
    assert_eq!(snapshot(&server), before);
    assert_eq!(post(&server, 10..11, "third"), 11);
    assert_eq!(
        server.connect().get(HEALTH).expect(200).json()["log"]["sealed_files"],
        2
    );
    server.stop();
}

#[test]
fn numbers_in_lines_have_no_gap_over_files_restarts_and_burst() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path()).set("METRICS_LINE_SEQ", "on");
    let server = launch.start();
    assert_eq!(post(&server, 0..3, "first"), 3);
    rotate(&server, &launch);
    assert_eq!(post(&server, 3..5, "first"), 5);
    server.stop();
    let server = launch.start();
    let batch: Vec<String> = (5..2_000).map(|number| event(number, "batch")).collect();
    let answer = server
        .connect()
        .post(&format!("{BATCH}?ack=written"), &batch.join("\n"))
        .expect(202);
    assert_eq!(answer.header("x-seq"), Some("6-2000"));
    assert_eq!(snapshot(&server)["last_events"][0]["seq"], 2_000);
    server.stop();
    let lines = log::lines(&launch.log());
    for (position, line) in lines.iter().enumerate() {
        let expected = format!("{{\"seq\":{},\"visitor_id\":\"visitor-{position}\"", position + 1);
        assert!(line.starts_with(&expected), "{line}");
        log::event(line);
    }
    assert_eq!(lines.len(), 2_000);
}

#[test]
fn a_stored_line_is_no_longer_than_allowed_with_its_number_either() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path())
        .set("METRICS_LINE_SEQ", "on")
        .set("METRICS_LINE_BYTES_MAX", "1KiB");
    let server = launch.start();
    let mut client = server.connect();
    let mut longest = 0;
    for filler in 800..1024 {
        let filler = "x".repeat(filler);
        let body = format!(r#"{{"visitor_id":"visitor","event":"long","metadata":{{"x":"{filler}"}}}}"#);
        let answer = client.post(EVENT, &body);
        match answer.status {
            202 => longest = filler.len(),
            status => {
                assert_eq!(status, 422);
                // What is left without the longest number there is.
                assert_eq!(answer.json()["detail"][0]["ctx"]["max_bytes"], 1024 - 27);
            }
        }
    }
    server.stop();
    let lines = log::lines(&launch.log());
    assert_eq!(lines.len(), longest - 800 + 1);
    assert!(lines.iter().all(|line| line.len() < 1024));
}

#[test]
fn a_file_that_is_empty_is_not_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path());
    let server = launch.start();
    server.signal(Signal::USR1);
    assert_eq!(post(&server, 0..1, "first"), 1);
    rotate(&server, &launch);
    for _ in 0..3 {
        server.signal(Signal::USR1);
        // A read has the writer go once round, and look.
        assert_eq!(snapshot(&server)["total"], 1);
    }
    server.stop();
    assert_eq!(sealed_count(&launch), 1);
}

#[test]
fn a_large_file_is_sealed_by_its_size_also_one_that_was_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path()).set("METRICS_ROTATE_BYTES", "off");
    let server = launch.start();
    post(&server, 0..2_000, "first");
    server.stop();
    assert_eq!(sealed_count(&launch), 0);
    let launch = launch.set("METRICS_ROTATE_BYTES", "64KiB");
    let server = launch.start();
    await_true("a sealed file", || sealed_count(&launch) == 1);
    post(&server, 2_000..4_000, "first");
    server.stop();
    let files = log::files(&launch.log());
    assert!(files.len() >= 4, "{files:?}");
    for file in &files[1..files.len() - 1] {
        let bytes = file.metadata().unwrap().len();
        assert!(
            (64 << 10..80 << 10).contains(&bytes),
            "{}: {bytes}",
            file.display()
        );
    }
    let visitors = log::visitors(&launch.log());
    let expected: Vec<String> = (0..4_000).map(|number| format!("visitor-{number}")).collect();
    assert_eq!(visitors, expected);
}

#[test]
fn a_file_is_sealed_when_its_period_is_over_though_nothing_comes() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path()).set("METRICS_ROTATE_EVERY", "1s");
    let server = launch.start();
    post(&server, 0..3, "first");
    await_true("a sealed file", || sealed_count(&launch) > 0);
    await_true("an empty live file", || {
        !log::bytes(&launch.log()).is_empty()
            && std::fs::metadata(launch.log()).is_ok_and(|metadata| metadata.len() == 0)
    });
    assert_eq!(snapshot(&server)["total"], 3);
    server.stop();
}

#[test]
fn a_summary_that_is_missing_or_damaged_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path());
    let server = launch.start();
    for round in 0..3 {
        post(&server, round * 10..round * 10 + 10, "first");
        rotate(&server, &launch);
    }
    let before = snapshot(&server);
    server.stop();
    let summaries = || {
        let mut paths: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(".summary.json"))
            .collect();
        paths.sort();
        paths
    };
    let paths = summaries();
    let whole: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(whole.len(), 3);
    std::fs::remove_file(&paths[0]).unwrap();
    let mut damaged = whole[1].clone();
    damaged[60] ^= 1;
    std::fs::write(&paths[1], damaged).unwrap();
    std::fs::write(&paths[2], &whole[2][..40]).unwrap();
    let server = launch.start();
    assert_eq!(snapshot(&server), before);
    server.stop();
    let again: Vec<Vec<u8>> = summaries()
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(again == whole, "the summaries are as they were");
}

#[test]
fn totals_outlive_files_that_were_removed() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path());
    let server = launch.start();
    post(&server, 0..5, "first");
    rotate(&server, &launch);
    post(&server, 5..8, "second");
    server.stop();
    std::fs::remove_file(&log::files(&launch.log())[0]).unwrap();
    let server = launch.start();
    let after = snapshot(&server);
    assert_eq!(after["total"], 8);
    assert_eq!(post(&server, 8..9, "third"), 9);
    rotate(&server, &launch);
    server.stop();
    let name = log::files(&launch.log())[0].clone();
    assert!(name.to_str().unwrap().ends_with("-000002.jsonl"), "{name:?}");
}

#[test]
fn a_deleted_file_is_copied_back_with_all_that_was_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path());
    let server = launch.start();
    post(&server, 0..5, "first");
    std::fs::remove_file(launch.log()).unwrap();
    // Some of these go into the file that has no name any more.
    assert_eq!(post(&server, 5..10, "second"), 10);
    await_true("the copy and a new file", || {
        sealed_count(&launch) == 1 && launch.log().exists()
    });
    assert_eq!(post(&server, 10..12, "third"), 12);
    assert_eq!(snapshot(&server)["total"], 12);
    server.stop();
    let expected: Vec<String> = (0..12).map(|number| format!("visitor-{number}")).collect();
    assert_eq!(log::visitors(&launch.log()), expected);
}

/// Renames the live file as logrotate does, and gives the lines of both files.
fn renamed_away(create: bool, signal: Option<Signal>) {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path());
    let server = launch.start();
    post(&server, 0..5, "first");
    let away = launch.log().with_extension("jsonl.1");
    std::fs::rename(launch.log(), &away).unwrap();
    if create {
        std::fs::write(launch.log(), "").unwrap();
    }
    if let Some(signal) = signal {
        server.signal(signal);
    }
    // Some of these go into the file under its new name.
    post(&server, 5..10, "second");
    await_true("another file begun", || {
        server.connect().get(HEALTH).json()["log"]["sealed_files"] == 1
    });
    assert_eq!(post(&server, 10..12, "third"), 12);
    assert_eq!(snapshot(&server)["total"], 12);
    server.stop();
    let lines = [log::bytes(&away), log::bytes(&launch.log())].concat();
    let lines = String::from_utf8(lines).unwrap();
    let visitors: Vec<_> = lines
        .lines()
        .map(|line| log::event(line)["visitor_id"].clone())
        .collect();
    let expected: Vec<_> = (0..12)
        .map(|number| Value::from(format!("visitor-{number}")))
        .collect();
    assert_eq!(visitors, expected);
    assert_eq!(
        sealed_count(&launch),
        0,
        "the empty file of another program is not sealed"
    );
    let server = launch.start();
    assert_eq!(snapshot(&server)["total"], 12);
    server.stop();
}

#[test]
fn a_file_renamed_by_another_program_is_left_to_it() {
    renamed_away(false, None);
}

#[test]
fn logrotate_with_create_and_a_signal_loses_nothing() {
    renamed_away(true, Some(Signal::HUP));
    renamed_away(true, Some(Signal::USR1));
}

#[test]
fn a_truncated_file_is_noticed_and_what_comes_after_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let launch = launch(folder.path());
    let server = launch.start();
    post(&server, 0..5, "first");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(launch.log())
        .unwrap();
    file.set_len(0).unwrap();
    post(&server, 5..8, "second");
    await_true("a word about it", || server.stderr().contains("copytruncate"));
    assert_eq!(post(&server, 8..10, "third"), 10);
    assert_eq!(snapshot(&server)["total"], 10);
    server.stop();
    let expected: Vec<String> = (5..10).map(|number| format!("visitor-{number}")).collect();
    assert_eq!(log::visitors(&launch.log()), expected);
}
