//! `floodgate health`: what a container's health check runs.

mod common;

use std::net::TcpListener;
use std::process::Output;

use common::await_true;
use common::http::{self, EVENT};
use common::loop_disk::LoopDisk;
use common::server::Launch;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn expect(output: &Output, code: i32) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    stdout + &stderr
}

#[test]
fn a_server_that_is_well_is_told_by_its_url_or_by_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    let server = launch.start();
    let url = format!("http://{}", server.address());
    let told = expect(&launch.run(&["health", &url]), 0);
    assert!(told.contains("\"ok\":true,"), "{told}");
    // As in the container: the check has the server's own environment.
    let port = server.address().port();
    let same = launch.clone().set("METRICS_BIND", format!("0.0.0.0:{port}"));
    expect(&same.run(&["health"]), 0);
    let by_name = format!("http://localhost:{port}/");
    expect(&launch.run(&["health", &by_name]), 0);
    let elsewhere = format!("{url}/nowhere");
    assert!(expect(&launch.run(&["health", &elsewhere]), 1).contains("answers 404"));
    server.stop();
    assert!(expect(&same.run(&["health"]), 1).contains("does not answer"));
}

#[test]
fn of_a_server_that_speaks_tls_the_unix_socket_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path()).set("METRICS_BIND", "127.0.0.1:0,unix:http.sock");
    let server = launch.start();
    expect(&launch.run(&["health"]), 0);
    expect(&launch.run(&["health", "unix:http.sock"]), 0);
    server.stop();
    assert!(expect(&launch.run(&["health", "unix:http.sock"]), 1).contains("http.sock does not answer"));
}

#[test]
fn what_cannot_be_asked_is_a_matter_of_usage() {
    let folder = tempfile::tempdir().unwrap();
    let launch = Launch::new(folder.path());
    for url in ["127.0.0.1:8001", "https://127.0.0.1:8001", "ftp://x"] {
        expect(&launch.run(&["health", url]), 2);
    }
    // Port 0: nobody knows which it became.
    expect(&launch.run(&["health"]), 2);
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    // It listens, and nobody accepts.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let told = expect(&Launch::new(folder.path()).run(&["health", &url]), 1);
    assert!(told.contains("nothing came within 5s"), "{told}");
}

#[test]
fn a_server_that_cannot_store_is_unhealthy() {
    let Some(disk) = LoopDisk::mount() else { return };
    let journal = tempfile::tempdir_in("/dev/shm").unwrap();
    let launch = Launch::new(journal.path())
        .set("METRICS_JSONL", disk.path().join("metrics.jsonl"))
        .set("METRICS_JOURNAL", journal.path().join("metrics.journal"))
        .set("METRICS_JOURNAL_BYTES_MAX", "1MiB")
        .set("METRICS_ENQUEUE_TIMEOUT", "50ms");
    let server = launch.start();
    let url = format!("http://{}", server.address());
    let mut client = server.connect();
    client
        .post(&format!("{EVENT}?ack=synced"), EVENT_BODY)
        .expect(202);
    let frozen = disk.freeze();
    await_true("the journal to be full", || {
        client.call(&http::post(EVENT, EVENT_BODY)).status == 503
    });
    let told = expect(&launch.run(&["health", &url]), 1);
    assert!(
        told.contains("answers 503: {") && told.contains("\"ok\":false,"),
        "{told}"
    );
    drop(frozen);
    await_true("it to be well again", || {
        launch.run(&["health", &url]).status.code() == Some(0)
    });
    server.stop();
}

const EVENT_BODY: &str = r#"{"visitor_id":"visitor-1","event":"view"}"#;
