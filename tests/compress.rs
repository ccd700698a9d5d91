//! Sealed files are compressed into the archive, and nothing is ever missing on the way there.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use common::await_true;
use common::http::BEHAVIOR;
use common::sealed::{Feed, Folder, sealing_often};
use common::server::Launch;

/// Files that are sealed in each test.
const FILES: u64 = 4;

fn launch(folder: &tempfile::TempDir) -> Launch {
    sealing_often(Launch::new(folder.path())).set("METRICS_COMPRESS_AFTER", "0s")
}

#[test]
fn sealed_files_move_into_the_archive_with_their_times_and_are_still_read() {
    let directory = tempfile::tempdir().unwrap();
    let launch = launch(&directory).set("METRICS_COMPRESS_AFTER", "1h");
    let (folder, mut feed) = (Folder::of(&launch), Feed::default());
    let server = launch.start();
    feed.batches(&server, FILES);
    await_true("the files are sealed", || {
        folder.summaries().len() as u64 == FILES
    });
    server.stop();
    assert_eq!(folder.plain().len() as u64, FILES, "their hour is not over");
    let modified = |path: std::path::PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let names = folder.plain();
    let times: Vec<_> = names
        .iter()
        .map(|name| modified(directory.path().join(name)))
        .collect();

    let server = launch.set("METRICS_COMPRESS_AFTER", "0s").start();
    await_true("the files are compressed", || folder.plain().is_empty());
    assert_eq!(
        folder.compressed(),
        names.iter().map(|name| format!("{name}.zst")).collect::<Vec<_>>()
    );
    for (name, time) in names.iter().zip(times) {
        assert_eq!(
            modified(folder.archive().join(format!("{name}.zst"))),
            time,
            "{name}"
        );
    }
    feed.check(folder.texts().iter().map(Vec::as_slice));
    server.stop();

    // Its recent window comes out of the archive.
    let server = launch_again(&directory);
    let snapshot = server.connect().get(BEHAVIOR).expect(200).json();
    assert_eq!(snapshot["total"], feed.posted());
    let newest = format!("visitor-{:08}", feed.posted() - 1);
    assert_eq!(snapshot["last_events"][0]["visitor_id"], newest);
    server.stop();
}

fn launch_again(directory: &tempfile::TempDir) -> common::server::Server {
    launch(directory).start()
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_leaves_nothing() {
    for failpoint in [
        "compress.half",
        "compress.written",
        "compress.verified",
        "compress.renamed",
        "compress.removed",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let launch = launch(&directory);
        let (folder, mut feed) = (Folder::of(&launch), Feed::default());
        let server = launch.clone().set("METRICS_COMPRESS_AFTER", "off").start();
        feed.batches(&server, FILES);
        await_true("the files are sealed", || {
            folder.summaries().len() as u64 == FILES
        });
        server.stop();
        for passing in 1..3 {
            let armed = launch
                .clone()
                .set("FLOODGATE_FAILPOINT", format!("{failpoint}:{passing}"));
            // It may die before it listens.
            let status = match armed.try_start() {
                Ok(mut server) => server.wait(),
                Err(ended) => ended.status,
            };
            assert_eq!(status.signal(), Some(9), "{failpoint}:{passing}");
            feed.check(folder.texts().iter().map(Vec::as_slice));
        }
        let server = launch.start();
        await_true("the files are compressed", || folder.plain().is_empty());
        await_true("nothing is half done", || folder.ending(".new").is_empty());
        assert_eq!(folder.compressed().len() as u64, FILES, "{failpoint}");
        feed.check(folder.texts().iter().map(Vec::as_slice));
        server.stop();
    }
}

#[test]
fn a_file_that_somebody_changed_is_left_alone_and_the_others_are_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let launch = launch(&directory);
    let (folder, mut feed) = (Folder::of(&launch), Feed::default());
    let server = launch.clone().set("METRICS_COMPRESS_AFTER", "off").start();
    feed.batches(&server, FILES);
    await_true("the files are sealed", || {
        folder.summaries().len() as u64 == FILES
    });
    server.stop();
    let changed = folder.plain().remove(0);
    let path = directory.path().join(&changed);
    let text = fs::read_to_string(&path).unwrap().replacen("view", "vies", 1);
    fs::write(&path, &text).unwrap();
    let server = launch.start();
    await_true("the others are compressed", || {
        folder.compressed().len() as u64 == FILES - 1
    });
    await_true("it says so", || {
        server.stderr().contains("not what its summary says")
    });
    await_true("only that one stays", || folder.plain() == [changed.clone()]);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    server.stop();
}
