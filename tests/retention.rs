//! Old files are removed, the oldest first, and nothing before its minute is over.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::await_true;
use common::http::{BEHAVIOR, HEALTH};
use common::sealed::{Feed, Folder, await_within, sealing_often};
use common::server::{Launch, Server};

const FILES: u64 = 5;

/// A log with some sealed files, and limits that some of them are beyond.
struct Limited {
    directory: tempfile::TempDir,
    launch: Launch,
    folder: Folder,
    feed: Feed,
    server: Server,
}

impl Limited {
    fn start(settings: &[(&str, &str)]) -> Limited {
        let directory = tempfile::tempdir().unwrap();
        let mut launch = sealing_often(Launch::new(directory.path()));
        for (name, value) in settings {
            launch = launch.set(name, value);
        }
        let (folder, mut feed, server) = (Folder::of(&launch), Feed::default(), launch.start());
        feed.batches(&server, FILES);
        await_true("the files are sealed", || {
            folder.summaries().len() as u64 == FILES
        });
        Limited {
            directory,
            launch,
            folder,
            feed,
            server,
        }
    }

    fn files(&self) -> Vec<String> {
        [self.folder.plain(), self.folder.compressed()].concat()
    }

    /// Waits until only the newest `count` are left, and checks that they are still counted, also after a restart.
    fn expect_newest(self, all: &[String], count: usize) {
        await_within(4, "the surplus is removed", || self.files().len() <= count);
        assert_eq!(self.files(), all[all.len() - count..]);
        assert_eq!(self.folder.summaries().len() as u64, FILES);
        let total = |server: &Server| server.connect().get(BEHAVIOR).expect(200).json()["total"].clone();
        assert_eq!(total(&self.server), self.feed.posted());
        self.server.stop();
        let server = self.launch.start();
        assert_eq!(total(&server), self.feed.posted());
        server.stop();
    }
}

#[test]
fn the_oldest_go_by_number_bytes_and_age_after_their_minute() {
    let begun = Instant::now();
    let by_files = Limited::start(&[("METRICS_RETAIN_FILES", "2")]);
    let by_bytes = Limited::start(&[("METRICS_RETAIN_BYTES", "300KiB")]);
    let by_age = Limited::start(&[("METRICS_RETAIN_FOR", "1s")]);
    let compressed = Limited::start(&[("METRICS_RETAIN_FILES", "1"), ("METRICS_COMPRESS_AFTER", "0s")]);
    await_true("they are compressed", || compressed.folder.plain().is_empty());
    let unlimited = Limited::start(&[]);
    // Nobody listens there: nothing of these is shipped.
    let unshipped = [
        ("METRICS_RETAIN_FILES", "0"),
        ("METRICS_SHIP_URL", "nats://127.0.0.1:1"),
    ];
    let held = Limited::start(&unshipped);
    let bounded = Limited::start(&[unshipped[0], unshipped[1], ("METRICS_SHIP_HOLD", "300KiB")]);
    let all = [
        &by_files,
        &by_bytes,
        &by_age,
        &compressed,
        &unlimited,
        &held,
        &bounded,
    ];
    let all = all.map(Limited::files);
    assert!(
        all.iter().all(|files| files.len() as u64 == FILES),
        "nothing goes at once"
    );
    let sizes = all[1]
        .iter()
        .map(|name| fs::metadata(by_bytes.directory.path().join(name)).unwrap().len());
    let fit = {
        let mut left = 300 << 10;
        let newest_first = sizes.collect::<Vec<_>>().into_iter().rev();
        newest_first
            .take_while(|size| {
                left -= *size as i64;
                left >= 0
            })
            .count()
    };
    assert!((1..FILES as usize).contains(&fit), "some fit");
    await_within(4, "the first goes", || by_age.files().len() < FILES as usize);
    // Times of files are whole seconds here.
    assert!(
        begun.elapsed() >= Duration::from_secs(59),
        "not before its minute is over"
    );
    by_files.expect_newest(&all[0], 2);
    by_bytes.expect_newest(&all[1], fit);
    by_age.expect_newest(&all[2], 0);
    compressed.expect_newest(&all[3], 1);
    unlimited.expect_newest(&all[4], FILES as usize);
    await_true("more is waiting than is held", || {
        bounded.server.connect().get(HEALTH).json()["ship"]["lost_files"] == FILES - fit as u64
    });
    let told = bounded.server.stderr();
    assert!(
        told.contains("a file of the log is removed that was not shipped"),
        "{told}"
    );
    bounded.expect_newest(&all[6], fit);
    let told = held.server.stderr();
    assert!(
        told.contains("should be removed and stays: it is not shipped yet"),
        "{told}"
    );
    held.expect_newest(&all[5], FILES as usize);
}
