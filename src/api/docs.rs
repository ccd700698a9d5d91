//! `GET /docs`: a page that shows `/openapi.json` and lets its reader try the endpoints.
//!
//! One file without anything from elsewhere, so it works where there is no internet; it holds no data, and everybody may
//! have it. Its security policy lets it run its own script, talk to this server, and nothing else.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use crate::http::Output;

const PAGE: &str = include_str!("../web/docs.html");

/// The page's own script and style are named by their hashes: what else might get into the page does not run.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        source(PAGE, "script"),
        source(PAGE, "style")
    )
});

/// Answers with the page.
pub fn answer(output: &mut Output) {
    let headers = [
        ("Content-Security-Policy", POLICY.as_str()),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-cache"),
    ];
    output.answer(200, "text/html; charset=utf-8", &headers, PAGE.as_bytes());
}

/// The only element of that name, as a policy names it.
fn source(page: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let (_, rest) = page.split_once(&open).expect("the page has one");
    let (text, _) = rest.split_once(&close).expect("it has an end");
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_named_by_its_hash() {
        // The example of the Content Security Policy standard.
        let page = "<style>x</style><script>alert('Hello, world.');</script>";
        assert_eq!(
            source(page, "script"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }

    #[test]
    fn the_page_is_small_and_brings_everything_along() {
        assert!(PAGE.len() < 30 << 10, "{} bytes", PAGE.len());
        for foreign in ["http://", "https://", "//cdn", "@import", "style=\"", "onclick="] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert_eq!(PAGE.matches("<style").count(), 1);
    }
}
