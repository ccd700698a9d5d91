//! The files of the dashboard, of the description of the API and of the tracker: what is served to whom, and under which rules a browser runs it.

mod common;

use common::http::{self, Answer, Client};
use common::server::{Launch, Server};

const READ: &str = "read0123456789abcdef";
const PAGES: [&str; 2] = ["/", "/docs"];
const SHOP: &str = "https://shop.example";

fn start(settings: &[(&str, &str)]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let launch = settings
        .iter()
        .fold(Launch::new(folder.path()), |launch, (name, value)| {
            launch.set(name, value)
        });
    let server = launch.start();
    (folder, server)
}

fn get_with(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.call(&http::head("GET", path, headers))
}

/// The assets that the pages name, and those that these name.
fn assets(client: &mut Client) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    let mut texts = PAGES.map(|page| client.get(page).expect(200).text()).to_vec();
    while let Some(text) = texts.pop() {
        let in_page = text.split("=\"assets/").skip(1);
        let in_script = text.split(" from \"./").skip(1);
        for part in in_page.chain(in_script) {
            let path = format!("/assets/{}", part.split('"').next().unwrap());
            if !paths.contains(&path) {
                texts.push(client.get(&path).expect(200).text());
                paths.push(path);
            }
        }
    }
    paths
}

#[test]
fn the_pages_and_all_that_they_name_are_served_with_their_types() {
    let (_folder, server) = start(&[]);
    let mut client = server.connect();
    for page in PAGES {
        let page = client.get(page).expect(200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    }
    let assets = assets(&mut client);
    assert!(assets.len() > 10, "{assets:?}");
    for path in assets {
        let kind = if path.ends_with(".css") {
            "text/css"
        } else {
            "text/javascript"
        };
        let answer = client.get(&path).expect(200);
        let expected = format!("{kind}; charset=utf-8");
        assert_eq!(answer.header("content-type"), Some(&*expected), "{path}");
    }
    for path in [
        "/assets/",
        "/assets/nothing.js",
        "/dashboard.html",
        "//",
        "/assets/../tracker.js",
    ] {
        client.get(path).expect(404);
    }
}

#[test]
fn a_browser_may_run_nothing_but_a_pages_own_files() {
    let (_folder, server) = start(&[]);
    let mut client = server.connect();
    for page in PAGES {
        let page = client.get(page).expect(200);
        let policy = page.header("content-security-policy").unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|part| part == rule), "{rule}: {policy}");
        }
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        let text = page.text();
        for forbidden in [
            "<style",
            " style=",
            "onclick=",
            "onload=",
            "javascript:",
            "<script>",
        ] {
            assert!(
                !text.contains(forbidden),
                "{forbidden} would be kept from running"
            );
        }
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let (_folder, server) = start(&[]);
    let mut client = server.connect();
    for (path, cache) in [
        ("/", "no-cache"),
        ("/assets/dashboard.js", "no-cache"),
        ("/docs", "no-cache"),
        ("/assets/docs.js", "no-cache"),
        ("/tracker.js", "public, max-age=3600"),
    ] {
        let whole = client.get(path).expect(200);
        assert_eq!(whole.header("cache-control"), Some(cache));
        let etag = whole.header("etag").unwrap().to_owned();
        for known in [etag.clone(), format!("\"other\", W/{etag}"), "*".to_owned()] {
            let answer = get_with(&mut client, path, &[("If-None-Match", &known)]).expect(304);
            assert_eq!(answer.header("etag"), Some(&*etag), "{path}");
            assert_eq!(answer.header("cache-control"), Some(cache));
            assert!(answer.body.is_empty());
        }
        get_with(&mut client, path, &[("If-None-Match", "\"other\"")]).expect(200);
    }
}

#[test]
fn head_has_the_length_and_no_body_and_other_methods_are_refused() {
    let (_folder, server) = start(&[]);
    let mut client = server.connect();
    for path in ["/", "/docs", "/assets/dashboard.css", "/tracker.js"] {
        let length = client.get(path).expect(200).body.len().to_string();
        client.send(&http::head("HEAD", path, &[])).unwrap();
        let answer = client.try_answer_head().unwrap().expect(200);
        assert_eq!(answer.header("content-length"), Some(&*length));
        let answer = client.post(path, "{}").expect(405);
        assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
        let answer = client.call(&http::head("OPTIONS", path, &[])).expect(204);
        assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    }
}

#[test]
fn the_dashboard_asks_for_the_key_itself_and_is_withheld_only_where_reading_is_closed() {
    let keys = format!("dashboard:{READ}");
    let (_folder, server) = start(&[("METRICS_READ_KEYS", &keys), ("METRICS_BIND", "0.0.0.0:0")]);
    let mut client = server.connect();
    for path in ["/", "/assets/dashboard.js", "/tracker.js"] {
        client.get(path).expect(200);
        get_with(&mut client, path, &[("X-Api-Key", "wrong0123456789abcdef")]).expect(200);
    }
    client.get("/api/metrics/behavior").expect(401);

    let (_folder, server) = start(&[("METRICS_BIND", "0.0.0.0:0"), ("METRICS_WRITE_KEYS", READ)]);
    let mut client = server.connect();
    for path in ["/", "/assets/dashboard.js"] {
        let detail = client.get(path).expect(403).json()["detail"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(detail.contains("METRICS_READ_KEYS"), "{detail}");
    }
    for path in ["/tracker.js", "/docs", "/assets/docs.js", "/assets/docs.css"] {
        client.get(path).expect(200);
    }
}

#[test]
fn a_name_that_a_page_may_own_gets_no_dashboard_without_a_key() {
    let (_folder, server) = start(&[]);
    let mut client = server.connect();
    let rebound = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n").into_bytes();
    client.call(&rebound("/")).expect(403);
    client.call(&rebound("/tracker.js")).expect(200);
}

#[test]
fn files_do_not_count_against_the_rate() {
    let (_folder, server) = start(&[("METRICS_RATE_LIMIT", "2/h")]);
    let mut client = server.connect();
    for _ in 0..30 {
        client.get("/assets/dashboard.css").expect(200);
        client.get("/tracker.js").expect(200);
    }
    client.get("/api/metrics/behavior").expect(200);
    client.get("/api/metrics/behavior").expect(200);
    client.get("/api/metrics/behavior").expect(429);
    client.get("/").expect(200);
}

#[test]
fn pages_that_may_write_may_check_the_tracker_before_they_run_it() {
    let (_folder, server) = start(&[("METRICS_CORS_ORIGINS", "*")]);
    let mut client = server.connect();
    let answer = get_with(&mut client, "/tracker.js", &[("Origin", SHOP)]).expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(
        answer.header("cross-origin-resource-policy"),
        Some("cross-origin")
    );
    let answer = get_with(&mut client, "/", &[("Origin", SHOP)]).expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
}
