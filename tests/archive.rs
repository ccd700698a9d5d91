//! Sealed files are uploaded, each once, and nothing is removed before it is safe.

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use common::http::HEALTH;
use common::log;
use common::moto::{Moto, archiving_to};
use common::sealed::{Feed, Folder, sealing_often};
use common::server::{Launch, Server};
use common::{Rng, await_true};

const FILES: u64 = 4;

fn waiting(server: &Server) -> serde_json::Value {
    server.connect().get(HEALTH).json()["archive"].clone()
}

fn is_all_archived(server: &Server, folder: &Folder) -> bool {
    folder.marks().len() == folder.summaries().len() && waiting(server)["waiting_files"] == 0
}

/// The texts in the archive in order, and the live file's.
fn archived_texts(moto: &Moto, live: &Path) -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = moto
        .keys()
        .iter()
        .map(|key| {
            let object = moto.object(key);
            if key.ends_with(".zst") {
                log::unpacked(&object)
            } else {
                object
            }
        })
        .collect();
    texts.extend(log::contents(live));
    texts
}

#[test]
fn a_folder_gets_each_file_once_and_a_mark_is_kept_of_each() {
    for compress_after in ["off", "0s"] {
        let directory = tempfile::tempdir().unwrap();
        let far = tempfile::tempdir().unwrap();
        let launch = sealing_often(Launch::new(directory.path()))
            .set("METRICS_COMPRESS_AFTER", compress_after)
            .set("METRICS_ARCHIVE_URL", format!("file://{}", far.path().display()));
        let (folder, mut feed, server) = (Folder::of(&launch), Feed::default(), launch.start());
        feed.batches(&server, FILES);
        await_true("the files are sealed", || {
            folder.summaries().len() as u64 == FILES
        });
        await_true("all are archived", || is_all_archived(&server, &folder));
        let mut names: Vec<_> = fs::read_dir(far.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let (here, end) = match compress_after {
            "off" => (directory.path().to_owned(), ".jsonl"),
            _ => (folder.archive(), ".jsonl.zst"),
        };
        assert_eq!(names, folder.ending(end), "under their own names");
        for name in &names {
            assert!(fs::read(far.path().join(name)).unwrap() == fs::read(here.join(name)).unwrap());
        }
        assert!(folder.ending(".archiving.json").is_empty());
        let mark = directory.path().join(&folder.marks()[0]);
        let mark: serde_json::Value = serde_json::from_slice(&fs::read(mark).unwrap()).unwrap();
        assert_eq!(mark["key"], names[0]);
        feed.check(folder.texts().iter().map(Vec::as_slice));
        server.stop();
    }
}

#[test]
fn an_archive_that_cannot_be_used_ends_the_start_with_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let url = format!("file://{}", missing.display());
    let launch = Launch::new(directory.path()).set("METRICS_ARCHIVE_URL", url);
    let ended = launch.try_start().unwrap_err();
    assert_ne!(ended.status.code(), Some(0));
    assert!(
        ended
            .stderr
            .contains("METRICS_ARCHIVE_URL: the folder cannot be used"),
        "{}",
        ended.stderr
    );
    assert!(!missing.exists());
    // Stores that are nowhere near: what is missing is known before anybody is asked.
    let unset = launch.unset("AZURE_STORAGE_ACCOUNT_NAME");
    for (url, set, named) in [
        ("az://logs/web", None, "AZURE_STORAGE_ACCOUNT_NAME"),
        (
            "az://logs/web",
            Some(("AZURE_STORAGE_ACCOUNT_NAME", "us")),
            "AZURE_STORAGE_ACCOUNT_KEY",
        ),
        ("gs://logs/web", None, "/nowhere/key.json"),
    ] {
        let launch = unset
            .clone()
            .set("METRICS_ARCHIVE_URL", url)
            .set("GOOGLE_SERVICE_ACCOUNT", "/nowhere/key.json")
            .set("AZURE_STORAGE_ACCOUNT_KEY", "this is not base64");
        let launch = set
            .into_iter()
            .fold(launch, |launch, (name, value)| launch.set(name, value));
        let stderr = launch.try_start().unwrap_err().stderr;
        assert!(
            stderr.contains("METRICS_ARCHIVE_URL: ") && stderr.contains(named),
            "{url}: {stderr}"
        );
    }
}

/// Kills the server in the middle again and again; the bucket must have each sealed file once in the end.
fn kill_and_compare(compress_after: &str, kills: &[&str], seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let moto = Moto::start(None);
    let launch = sealing_often(Launch::new(directory.path())).set("METRICS_COMPRESS_AFTER", compress_after);
    let launch = archiving_to(launch, moto.address(), "deep/er");
    let (folder, mut feed, mut rng) = (Folder::of(&launch), Feed::default(), Rng::new(seed));
    for failpoint in kills {
        let mut armed = launch.clone();
        if !failpoint.is_empty() {
            // Two files are waiting when it comes to that step.
            let server = launch.clone().set("METRICS_ARCHIVE_URL", "off").start();
            feed.batches(&server, 2);
            server.kill9();
            armed = armed.set(
                "FLOODGATE_FAILPOINT",
                format!("{failpoint}:{}", rng.between(1, 2)),
            );
        }
        let Ok(mut server) = armed.try_start() else {
            // It died before it listened.
            continue;
        };
        if failpoint.is_empty() {
            feed.batches(&server, 2);
            let marks = folder.marks().len() + rng.below(2) as usize;
            await_true("some are archived", || folder.marks().len() >= marks);
            server.kill9();
        } else {
            await_true("it dies", || !server.is_running());
        }
    }
    let server = launch.start();
    feed.batches(&server, 1);
    // A kill can leave a file that is sealed at the next start only, with another batch in it.
    await_true("the files are sealed", || {
        let health = server.connect().get(HEALTH).json();
        health["log"]["bytes"] == 0 && health["log"]["sealed_files"] == folder.summaries().len()
    });
    await_true("all are archived", || is_all_archived(&server, &folder));
    server.stop();
    let end = if compress_after == "off" { "" } else { ".zst" };
    let expected: Vec<_> = folder
        .summaries()
        .iter()
        .map(|name| format!("deep/er/{}.jsonl{end}", name.trim_end_matches(".summary.json")))
        .collect();
    assert_eq!(moto.keys(), expected, "each once, under its own name");
    assert!(folder.ending(".archiving.json").is_empty());
    let texts = archived_texts(&moto, &launch.log());
    feed.check(texts.iter().map(Vec::as_slice));
}

#[test]
fn a_bucket_has_each_file_once_after_kills_at_every_step() {
    let kills = [
        "",
        "archive.begun",
        "",
        "archive.stored",
        "archive.verified",
        "",
        "archive.marked",
        "",
        "archive.stored",
        "",
    ];
    kill_and_compare("off", &kills, 1);
    kill_and_compare("0s", &kills, 2);
}

#[test]
fn a_file_keeps_the_name_under_which_its_upload_was_begun() {
    let directory = tempfile::tempdir().unwrap();
    let moto = Moto::start(None);
    let launch = archiving_to(sealing_often(Launch::new(directory.path())), moto.address(), "");
    let (folder, mut feed) = (Folder::of(&launch), Feed::default());
    let mut server = launch
        .clone()
        .set("FLOODGATE_FAILPOINT", "archive.stored")
        .start();
    feed.batches(&server, 1);
    await_true("it dies", || !server.is_running());
    assert_eq!(moto.keys().len(), 1);
    // Now files are compressed first, but that one has a name.
    let server = launch.set("METRICS_COMPRESS_AFTER", "0s").start();
    feed.batches(&server, 1);
    await_true("both are archived", || {
        folder.marks().len() == 2 && is_all_archived(&server, &folder)
    });
    await_true("both are compressed", || folder.plain().is_empty());
    let ends: Vec<_> = moto.keys().iter().map(|key| key.ends_with(".zst")).collect();
    assert_eq!(ends, [false, true]);
    server.stop();
}

#[test]
fn a_large_file_goes_in_parts_and_those_of_a_killed_upload_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let moto = Moto::start(None);
    let launch = Launch::new(directory.path())
        .set("METRICS_ROTATE_BYTES", "20MiB")
        .set("METRICS_ROTATE_REST", "0s");
    let launch = archiving_to(launch, moto.address(), "large");
    let (folder, mut feed) = (Folder::of(&launch), Feed::default());
    let mut server = launch
        .clone()
        .set("FLOODGATE_FAILPOINT", "archive.part:2")
        .start();
    // The server may die as soon as the file is sealed.
    let first = server.connect();
    drop(first);
    while folder.plain().is_empty() {
        feed.batches(&server, 1);
    }
    await_true("it dies", || !server.is_running());
    assert_eq!((moto.keys().len(), moto.uploads().len()), (0, 1));
    let server = launch.start();
    await_true("it is archived", || is_all_archived(&server, &folder));
    assert_eq!((moto.keys().len(), moto.uploads().len()), (1, 0));
    server.stop();
    let texts = archived_texts(&moto, &launch.log());
    feed.check(texts.iter().map(Vec::as_slice));
}

#[test]
fn what_somebody_else_has_stored_is_not_replaced_and_the_other_files_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let moto = Moto::start(None);
    let launch = sealing_often(Launch::new(directory.path()));
    let (folder, mut feed) = (Folder::of(&launch), Feed::default());
    let server = launch.start();
    feed.batches(&server, 3);
    await_true("the files are sealed", || folder.summaries().len() == 3);
    server.stop();
    let theirs = folder.plain().remove(1);
    moto.put(&theirs, b"theirs");
    let server = archiving_to(launch, moto.address(), "").start();
    await_true("the others are archived", || folder.marks().len() == 2);
    await_true("it says so", || {
        server.stderr().contains("there is something else at")
    });
    assert_eq!(moto.object(&theirs), b"theirs");
    await_true("one is left waiting", || waiting(&server)["waiting_files"] == 1);
    server.stop();
}

#[test]
fn nothing_is_removed_before_it_is_archived_and_a_store_that_comes_back_is_used() {
    let directory = tempfile::tempdir().unwrap();
    // A port that nobody listens on, until moto does.
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // The minute in which a file stays in any case is over at once.
    let launch = sealing_often(Launch::new(directory.path()))
        .set("METRICS_RETAIN_FILES", "1")
        .set("FLOODGATE_CLOCK_AHEAD", "60");
    let launch = archiving_to(launch, address, "");
    let (folder, mut feed, server) = (Folder::of(&launch), Feed::default(), launch.start());
    feed.batches(&server, FILES);
    await_true("the files are sealed", || {
        folder.summaries().len() as u64 == FILES
    });
    await_true("the error is shown", || waiting(&server)["error"].is_string());
    await_true("all are waiting", || waiting(&server)["waiting_files"] == FILES);
    await_true("it says that files stay", || {
        server.stderr().contains("stays: it is not archived yet")
    });
    assert_eq!(folder.plain().len() as u64, FILES, "nothing is removed");
    let moto = Moto::start(Some(address));
    await_true("all are archived", || is_all_archived(&server, &folder));
    assert!(waiting(&server)["error"].is_null());
    await_true("the surplus is removed", || folder.plain().len() == 1);
    assert!(server.stderr().contains("the archive can be written again"));
    server.stop();
    let texts = archived_texts(&moto, &launch.log());
    feed.check(texts.iter().map(Vec::as_slice));
}
