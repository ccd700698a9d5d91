//! Old files are removed, the oldest first, and nothing before its minute is over.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::await_true;
use common::http::{BEHAVIOR, HEALTH};
use common::nats::Cluster;
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
        let mut launch = sealing_often(Launch::new(directory.path())).set("FLOODGATE_CLOCK_AHEAD", "40");
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
    // Forty seconds of the minute are over as soon as a file is sealed.
    let begun = Instant::now();
    let by_files = Limited::start(&[("METRICS_RETAIN_FILES", "2")]);
    let by_bytes = Limited::start(&[("METRICS_RETAIN_BYTES", "300KiB")]);
    let by_age = Limited::start(&[("METRICS_RETAIN_FOR", "1s")]);
    let compressed = Limited::start(&[("METRICS_RETAIN_FILES", "1"), ("METRICS_COMPRESS_AFTER", "0s")]);
    await_true("they are compressed", || compressed.folder.plain().is_empty());
    let unlimited = Limited::start(&[]);
    // Of these nothing is shipped as long as NATS is down; of one all is.
    let (folder, up) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut nats = Cluster::start(folder.path(), 1);
    nats.kill9(0);
    let (url, up) = (nats.url(), Cluster::start(up.path(), 1));
    let shipping = |settings: &[(&str, &str)]| {
        let common = [("METRICS_RETAIN_FILES", "0"), ("METRICS_SHIP_REPLICAS", "1")];
        Limited::start(&[&common, settings].concat())
    };
    let held = shipping(&[("METRICS_SHIP_URL", &url), ("METRICS_NODE", "held")]);
    let bounded = shipping(&[
        ("METRICS_SHIP_URL", &url),
        ("METRICS_NODE", "bounded"),
        ("METRICS_SHIP_HOLD", "300KiB"),
    ]);
    let shipped = shipping(&[("METRICS_SHIP_URL", &up.url()), ("METRICS_NODE", "shipped")]);
    let all = [
        &by_files,
        &by_bytes,
        &by_age,
        &compressed,
        &unlimited,
        &held,
        &bounded,
        &shipped,
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
        begun.elapsed() >= Duration::from_secs(19),
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
    assert_eq!(bounded.files(), all[6][FILES as usize - fit..]);
    let told = held.server.stderr();
    assert!(
        told.contains("should be removed and stays: it is not shipped yet"),
        "{told}"
    );
    assert_eq!(held.files(), all[5]);
    let in_stream = |nats: &Cluster, stream| {
        let messages = nats.messages(stream);
        messages
            .iter()
            .map(|message| message.lines().len())
            .sum::<usize>() as u64
    };
    assert_eq!(in_stream(&up, "metrics-shipped"), shipped.feed.posted());
    shipped.expect_newest(&all[7], 0);
    // Once NATS is there, what was held is shipped, and goes.
    let left = common::log::lines(&bounded.launch.log()).len() as u64;
    nats.run(0);
    nats.await_ready();
    await_within(4, "what is shipped is removed", || held.files().is_empty());
    assert_eq!(in_stream(&nats, "metrics-held"), held.feed.posted());
    held.expect_newest(&all[5], 0);
    await_within(4, "what is shipped is removed", || bounded.files().is_empty());
    assert_eq!(in_stream(&nats, "metrics-bounded"), left);
    assert!(left < bounded.feed.posted());
    bounded.expect_newest(&all[6], 0);
}
