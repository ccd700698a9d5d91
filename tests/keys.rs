//! Who may write and read: keys, closed reads, rate limits, and whose address counts.

mod common;

use std::fs;

use common::http::{self, Answer, BATCH, BEHAVIOR, Client, EVENT, HEALTH};
use common::server::{Launch, Server};
use common::{await_true, log};
use rustix::process::Signal;

const EVENT_BODY: &str = r#"{"visitor_id":"visitor-1","event":"view"}"#;
const WRITE: &str = "write0123456789abcdef";
const OTHER_WRITE: &str = "write-fedcba9876543210+/=";
const READ: &str = "read0123456789abcdef";
const WRONG: &str = "wrong0123456789abcdef";

fn start(settings: &[(&str, &str)]) -> (tempfile::TempDir, Launch, Server) {
    let folder = tempfile::tempdir().unwrap();
    let mut launch = Launch::new(folder.path());
    for (name, value) in settings {
        launch = launch.set(name, value);
    }
    let server = launch.start();
    (folder, launch, server)
}

/// A request with headers.
fn ask(client: &mut Client, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let body = if method == "POST" { EVENT_BODY } else { "" };
    client.call(&http::request(method, path, headers, body.as_bytes()))
}

/// A request with a key, in each of the places where one can be.
fn with_key(client: &mut Client, method: &str, path: &str, key: &str) -> Vec<Answer> {
    let bearer = format!("Bearer {key}");
    let encoded = key.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    vec![
        ask(client, method, path, &[("Authorization", &bearer)]),
        ask(
            client,
            method,
            path,
            &[("authorization", &bearer.replace("Bearer", "bearer"))],
        ),
        ask(client, method, path, &[("X-Api-Key", key)]),
        ask(client, method, &format!("{path}?key={encoded}"), &[]),
        ask(client, method, &format!("{path}?key=x&key={key}"), &[]),
        // A proxy's own credentials are not ours.
        ask(
            client,
            method,
            path,
            &[("Authorization", "Basic YTpi"), ("X-Api-Key", key)],
        ),
    ]
}

fn assert_all(answers: Vec<Answer>, status: u16) {
    for (place, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, status, "place {place}: {answer:?}");
    }
}

#[test]
fn a_write_key_is_needed_once_there_is_one() {
    let keys = format!("web:{WRITE},{OTHER_WRITE}");
    let (_folder, launch, server) = start(&[("METRICS_WRITE_KEYS", &keys)]);
    let mut client = server.connect();
    for path in [EVENT, BATCH] {
        assert_all(with_key(&mut client, "POST", path, WRITE), 202);
        assert_all(with_key(&mut client, "POST", path, OTHER_WRITE), 202);
        for wrong in [
            WRONG,
            &WRITE[1..],
            &format!("{WRITE}x"),
            "web",
            &format!("web:{WRITE}"),
        ] {
            assert_all(with_key(&mut client, "POST", path, wrong), 401);
        }
        let answer = ask(&mut client, "POST", path, &[]).expect(401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"floodgate\"")
        );
        let answer = ask(&mut client, "POST", path, &[("X-Api-Key", WRONG)]).expect(401);
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .contains("invalid_token")
        );
        assert!(!answer.text().contains(WRONG));
    }
    // Health needs none, preflights cannot have one, and reading on loopback needs none of the other kind.
    client.get(HEALTH).expect(200);
    client.get(BEHAVIOR).expect(200);
    client.call(&http::head("OPTIONS", EVENT, &[])).expect(204);
    server.stop();
    assert_eq!(
        log::lines(&launch.log()).len(),
        24,
        "only what was acknowledged is stored"
    );
}

#[test]
fn a_read_key_is_needed_on_loopback_too_unless_reads_are_public() {
    let settings = [("METRICS_READ_KEYS", READ), ("METRICS_WRITE_KEYS", WRITE)];
    let (_folder, _launch, server) = start(&settings);
    let mut client = server.connect();
    assert_all(with_key(&mut client, "GET", BEHAVIOR, READ), 200);
    assert_all(with_key(&mut client, "GET", BEHAVIOR, WRONG), 401);
    ask(&mut client, "GET", BEHAVIOR, &[]).expect(401);
    // A key opens its own side.
    let answer = ask(&mut client, "GET", BEHAVIOR, &[("X-Api-Key", WRITE)]).expect(403);
    assert!(
        answer
            .header("www-authenticate")
            .unwrap()
            .contains("insufficient_scope")
    );
    ask(&mut client, "POST", EVENT, &[("X-Api-Key", READ)]).expect(403);

    let public = [&settings[..], &[("METRICS_PUBLIC_READS", "on")]].concat();
    let (_folder, _launch, server) = start(&public);
    server.connect().get(BEHAVIOR).expect(200);
}

#[test]
fn health_tells_strangers_only_whether_events_can_be_stored() {
    let (_folder, _launch, server) = start(&[("METRICS_READ_KEYS", READ)]);
    let mut client = server.connect();
    for headers in [&[][..], &[("X-Api-Key", WRONG)]] {
        let health = ask(&mut client, "GET", HEALTH, headers).expect(200).json();
        let mut members: Vec<_> = health.as_object().unwrap().keys().cloned().collect();
        members.sort();
        assert_eq!(members, ["ok", "ring_capacity", "sink_exists", "state"]);
        assert_eq!(health["ok"], true);
    }
    let health = ask(&mut client, "GET", HEALTH, &[("X-Api-Key", READ)])
        .expect(200)
        .json();
    assert!(health["journal"].is_object() && health["log"].is_object());
}

#[test]
fn reads_are_closed_on_a_public_address_until_a_key_or_a_switch_opens_them() {
    let public = ("METRICS_BIND", "0.0.0.0:0");
    let reads = |settings: &[(&str, &str)], key: Option<&str>| {
        let (_folder, _launch, server) = start(&[&[public], settings].concat());
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.address().port()));
        let mut client = Client::connect(address).unwrap();
        client.post(EVENT, EVENT_BODY).expect(202);
        let health = client.get(HEALTH).expect(200).json();
        let headers: Vec<_> = key.map(|key| ("X-Api-Key", key)).into_iter().collect();
        let status = ask(&mut client, "GET", BEHAVIOR, &headers).status;
        (status, health["journal"].is_object())
    };
    assert_eq!(reads(&[], None), (403, false));
    assert_eq!(reads(&[], Some(WRONG)), (403, false));
    assert_eq!(reads(&[("METRICS_READ_KEYS", READ)], None), (401, false));
    assert_eq!(reads(&[("METRICS_READ_KEYS", READ)], Some(READ)), (200, false));
    assert_eq!(reads(&[("METRICS_PUBLIC_READS", "on")], None), (200, true));
}

#[test]
fn keys_in_a_file_are_read_again_on_sighup_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    fs::write(&file, format!("# the shop\nshop:{WRITE}\n\n")).unwrap();
    let launch = Launch::new(folder.path()).set("METRICS_WRITE_KEYS_FILE", &file);
    let server = launch.start();
    // The connection stays: what it has seen must not be what it goes on believing.
    let mut client = server.connect();
    let mut status = |key: &str| ask(&mut client, "POST", EVENT, &[("X-Api-Key", key)]).status;
    assert_eq!((status(WRITE), status(OTHER_WRITE)), (202, 401));
    let mut reloads = 0;
    let mut reload = |content: &str| {
        fs::write(&file, content).unwrap();
        server.signal(Signal::HUP);
        reloads += 1;
        await_true("the answer to SIGHUP", || {
            server.stderr().matches("SIGHUP").count() == reloads
        });
    };
    reload(&format!("{OTHER_WRITE}\n"));
    assert_eq!((status(WRITE), status(OTHER_WRITE)), (401, 202));
    for bad in [
        "",
        "# no key\n",
        "short\n",
        &format!("{WRITE}\nfour words are no key\n"),
    ] {
        reload(bad);
        assert_eq!((status(WRITE), status(OTHER_WRITE)), (401, 202), "{bad:?}");
    }
    let stderr = server.stderr();
    assert_eq!(stderr.matches("METRICS_WRITE_KEYS_FILE").count(), 4, "{stderr}");
    for key in [WRITE, OTHER_WRITE, "short", "four words"] {
        assert!(!stderr.contains(key), "{key} is in {stderr}");
    }
}

#[test]
fn bad_keys_are_refused_at_the_start_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    for (setting, value, in_file) in [
        ("METRICS_WRITE_KEYS", "tooshort", false),
        ("METRICS_READ_KEYS", "tooshort", false),
        ("METRICS_WRITE_KEYS", "tooshort of a key with blanks", false),
        ("METRICS_WRITE_KEYS_FILE", "tooshort", true),
        ("METRICS_READ_KEYS_FILE", "tooshort", true),
        ("METRICS_READ_KEYS_FILE", "# tooshort", true),
    ] {
        fs::write(&file, value).unwrap();
        let launch = match in_file {
            true => Launch::new(folder.path()).set(setting, &file),
            false => Launch::new(folder.path()).set(setting, value),
        };
        let ended = launch.try_start().expect_err("a bad key is refused");
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(setting), "{}", ended.stderr);
        assert!(!ended.stderr.contains("tooshort"), "{}", ended.stderr);
    }
    let missing = Launch::new(folder.path()).set("METRICS_READ_KEYS_FILE", folder.path().join("none"));
    assert_eq!(missing.try_start().unwrap_err().status.code(), Some(2));
    // Nor where settings are printed.
    for arguments in [&["config"][..], &["config", "--json"]] {
        let launch = Launch::new(folder.path()).set("METRICS_WRITE_KEYS", WRITE);
        let printed = launch.run(arguments);
        assert!(printed.status.success());
        let text = String::from_utf8(printed.stdout).unwrap();
        assert!(
            text.contains("METRICS_WRITE_KEYS") && !text.contains(WRITE),
            "{text}"
        );
    }
    // A flag with nothing in it is not "no key is needed".
    let printed = Launch::new(folder.path()).run(&["config", "--write-keys", ""]);
    assert_eq!(printed.status.code(), Some(2));
}

/// The statuses of `count` requests.
fn statuses(client: &mut Client, count: usize, headers: &[(&str, &str)]) -> Vec<u16> {
    (0..count)
        .map(|_| ask(client, "POST", EVENT, headers).status)
        .collect()
}

#[test]
fn above_the_rate_requests_are_told_when_to_come_back() {
    let limit = [
        ("METRICS_RATE_LIMIT", "3/h"),
        ("METRICS_CORS_ORIGINS", "https://a.example"),
    ];
    let (_folder, launch, server) = start(&limit);
    let mut client = server.connect();
    assert_eq!(statuses(&mut client, 5, &[]), [202, 202, 202, 429, 429]);
    let answer = ask(&mut client, "POST", EVENT, &[("Origin", "https://a.example")]).expect(429);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&seconds), "{seconds}");
    assert!(answer.json()["detail"].is_string());
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    // Another connection is the same address; unknown paths and wrong methods count too.
    let mut other = server.connect();
    other.get(BEHAVIOR).expect(429);
    other.get("/nothing").expect(429);
    other.get(EVENT).expect(429);
    // Probes and preflights do not.
    other.get(HEALTH).expect(200);
    other.call(&http::head("OPTIONS", EVENT, &[])).expect(204);
    server.stop();
    assert_eq!(log::lines(&launch.log()).len(), 3);

    let (_folder, _launch, server) = start(&[("METRICS_RATE_LIMIT", "3600/h"), ("METRICS_RATE_BURST", "1")]);
    let mut client = server.connect();
    client.post(EVENT, EVENT_BODY).expect(202);
    let answer = client.post(EVENT, EVENT_BODY).expect(429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    // Who waits is served: the bucket fills.
    await_true("room in the bucket", || {
        client.post(EVENT, EVENT_BODY).status == 202
    });
}

#[test]
fn keys_are_not_guessed_at_health_faster_than_elsewhere() {
    let (_folder, _launch, server) = start(&[("METRICS_RATE_LIMIT", "2/h"), ("METRICS_READ_KEYS", READ)]);
    let mut client = server.connect();
    let mut health = |headers: &[(&str, &str)]| ask(&mut client, "GET", HEALTH, headers).status;
    let guess = [("X-Api-Key", WRONG)];
    assert_eq!([health(&guess), health(&guess), health(&guess)], [200, 200, 429]);
    // Probes, and those who know the key, go on.
    assert_eq!([health(&[]), health(&[("X-Api-Key", READ)])], [200, 200]);
}

#[test]
fn each_key_has_its_own_rate_and_wrong_keys_share_their_address_es() {
    let keys = format!("{WRITE},{OTHER_WRITE}");
    let (_folder, _launch, server) = start(&[("METRICS_RATE_LIMIT", "2/h"), ("METRICS_WRITE_KEYS", &keys)]);
    let mut client = server.connect();
    assert_eq!(statuses(&mut client, 3, &[("X-Api-Key", WRITE)]), [202, 202, 429]);
    assert_eq!(
        statuses(&mut client, 3, &[("X-Api-Key", OTHER_WRITE)]),
        [202, 202, 429]
    );
    // Guessing is limited by address, whatever is guessed.
    assert_eq!(statuses(&mut client, 1, &[("X-Api-Key", WRONG)]), [401]);
    assert_eq!(statuses(&mut client, 1, &[]), [401]);
    assert_eq!(statuses(&mut client, 1, &[("X-Api-Key", &WRONG[1..])]), [429]);
}

#[test]
fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    let limit = ("METRICS_RATE_LIMIT", "1/h");
    let forwarded = |value| [("X-Forwarded-For", value)];
    // Nobody is trusted: whatever is said, it is one address.
    let (_folder, _launch, server) = start(&[limit]);
    let mut client = server.connect();
    assert_eq!(statuses(&mut client, 1, &forwarded("203.0.113.1")), [202]);
    assert_eq!(statuses(&mut client, 1, &forwarded("203.0.113.2")), [429]);

    let trusted = ("METRICS_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8");
    let (_folder, _launch, server) = start(&[limit, trusted]);
    let mut client = server.connect();
    for (value, status, why) in [
        ("203.0.113.1", 202, "an address of its own"),
        ("203.0.113.2", 202, "another one"),
        ("203.0.113.1", 429, "the first again"),
        (
            "203.0.113.9, 203.0.113.1",
            429,
            "what a client says of itself is not believed",
        ),
        ("203.0.113.1, 10.1.2.3", 429, "a trusted proxy is passed over"),
        ("203.0.113.3, 10.1.2.3,10.3.2.1", 202, "two of them"),
        ("203.0.113.4:5678", 202, "with a port"),
        ("203.0.113.4", 429, "and without"),
        ("2001:db8::1", 202, "IPv6"),
        ("[2001:db8::2]:1234", 429, "the same network"),
        ("10.9.9.9", 202, "only proxies: the farthest one"),
        (
            "203.0.113.5, unknown, 10.9.9.9",
            429,
            "nothing behind what is no address",
        ),
    ] {
        assert_eq!(
            statuses(&mut client, 1, &forwarded(value)),
            [status],
            "{value}: {why}"
        );
    }
    // A proxy may add a header of its own instead of a value.
    let both = [
        ("X-Forwarded-For", "203.0.113.77"),
        ("X-Forwarded-For", "203.0.113.1"),
    ];
    assert_eq!(statuses(&mut client, 1, &both), [429]);
}

#[test]
fn behind_a_trusted_proxy_nobody_is_local() {
    let (_folder, _launch, server) = start(&[("METRICS_TRUSTED_PROXIES", "127.0.0.1")]);
    let mut client = server.connect();
    client.get(BEHAVIOR).expect(403);
    for forwarded in ["203.0.113.1", "127.0.0.1", "unknown", ""] {
        ask(&mut client, "GET", BEHAVIOR, &[("X-Forwarded-For", forwarded)]).expect(403);
    }
    let (_folder, _launch, server) = start(&[("METRICS_TRUSTED_PROXIES", "203.0.113.1")]);
    let forwarded = [("X-Forwarded-For", "203.0.113.1")];
    ask(&mut server.connect(), "GET", BEHAVIOR, &forwarded).expect(200);
}
