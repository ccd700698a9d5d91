//! Which pages may use this server from a browser (the Fetch standard's CORS protocol).
//!
//! A beacon sends credentials whatever its page wants, and to credentials a browser takes no `*` for an answer. So the
//! origin is echoed, and who is allowed is this list's decision: an exact origin may write and read, `*` lets every page
//! write, which any page could in one way or another. Cookies are never looked at, so a page gains no rights by
//! its visitor's; keys are what gives rights.

use super::super::route::Route;
use super::keys::Side;
use crate::config::access::CorsOrigins;
use crate::http::{HeaderLines, Output, Request};
use crate::web::Audience;

/// Seconds for which a browser need not ask again. Chromium takes at most two hours, Firefox a day; a page is told of a
/// changed list after this time at the latest.
const PREFLIGHT_SECONDS: &str = "7200";
/// Headers that a page may send: those that mean something here.
const ALLOWED_HEADERS: &str = "Content-Type, Content-Encoding, Authorization, X-Api-Key, X-Ack, X-Request-Id";
/// Headers that a page may read.
const EXPOSED_HEADERS: &str = "X-Ack, X-Seq, X-Request-Id, Retry-After";
/// Longest origin that is echoed to `*`: a scheme, a domain name of 253 characters, a port.
const ORIGIN_BYTES_MAX: usize = 320;

/// The list.
pub struct Cors {
    any_may_write: bool,
    exact: Vec<(String, HeaderLines)>,
    /// What an answer to any allowed origin has beside its name, and what one to others has.
    rest: HeaderLines,
    others: HeaderLines,
}

impl Cors {
    /// The list; `None` when it is empty, and browsers are told nothing.
    pub fn new(origins: &CorsOrigins) -> Option<Cors> {
        let rest = [
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", EXPOSED_HEADERS),
            ("Vary", "Origin"),
        ];
        let lines = |origin: &String| {
            let named = [&[("Access-Control-Allow-Origin", origin.as_str())], &rest[..]].concat();
            (origin.clone(), HeaderLines::new(&named))
        };
        (origins != &CorsOrigins::default()).then(|| Cors {
            any_may_write: origins.any_may_write,
            exact: origins.exact.iter().map(lines).collect(),
            rest: HeaderLines::new(&rest),
            others: HeaderLines::new(&[("Vary", "Origin")]),
        })
    }

    /// Adds to the answer what the page's browser wants to know. Whether the page is allowed.
    pub fn mark(&self, request: &Request<'_>, route: Option<Route>, output: &mut Output) -> bool {
        let Some(origin) = request.header("origin") else {
            output.add_headers(&self.others);
            return false;
        };
        if let Some((_, lines)) = self.exact.iter().find(|(exact, _)| exact.as_bytes() == origin) {
            output.add_headers(lines);
            return true;
        }
        let is_write = route.is_some_and(is_of_writers);
        let sane = origin.len() <= ORIGIN_BYTES_MAX && origin.iter().all(u8::is_ascii_graphic);
        match std::str::from_utf8(origin) {
            Ok(origin) if self.any_may_write && is_write && sane => {
                output.add_header("Access-Control-Allow-Origin", origin);
                output.add_headers(&self.rest);
                true
            }
            _ => {
                output.add_headers(&self.others);
                false
            }
        }
    }
}

/// Whether a page that may write, and no more, uses it: it may also load the tracker with `crossorigin` and check its hash.
fn is_of_writers(route: Route) -> bool {
    match route {
        Route::File(file) => file.audience == Audience::Pages,
        _ => route.side() == Some(Side::Write),
    }
}

/// Answers `OPTIONS`: to the browser of an allowed page that asks before it sends, what it may send; to all others the
/// methods alone.
pub fn options(request: &Request<'_>, route: Route, is_allowed: bool, output: &mut Output) {
    let allow = ("Allow", route.allow());
    if !is_allowed || request.header("access-control-request-method").is_none() {
        return output.head_only(204, &[allow]);
    }
    let preflight = [
        allow,
        ("Access-Control-Allow-Methods", route.methods()),
        ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
        ("Access-Control-Max-Age", PREFLIGHT_SECONDS),
    ];
    output.head_only(204, &preflight);
}
