//! `GET /`, `/docs`, `/assets/…` and `/tracker.js`: the files of the dashboard, of the description of the API and of the tracker,
//! rendered once at the start.
//!
//! A browser may keep them and asks whether they have changed, by their `ETag`: the tracker's after an hour, those of the pages each
//! time, so that after an upgrade no page runs with the scripts of another version.

use super::Session;
use crate::http::{HeaderLines, Output, Prepared, Request};
use crate::web::{Audience, FILES, File};

/// What the pages may load and do: their own files and this server's data. Nothing of an event can become more than text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The answers for the files.
pub struct Files(Vec<Ready>);

/// The answers for one file.
struct Ready {
    file: &'static File,
    etag: String,
    whole: Prepared,
    /// The headers of a 304, which are those of the 200 that matter to a cache.
    unchanged: HeaderLines,
}

impl Files {
    pub fn new() -> Files {
        Files(FILES.iter().map(Ready::new).collect())
    }

    fn of(&self, file: &'static File) -> &Ready {
        let found = self.0.iter().find(|ready| std::ptr::eq(ready.file, file));
        found.expect("there is one for each file")
    }
}

impl Ready {
    fn new(file: &'static File) -> Ready {
        let etag = format!(
            "\"{:08x}-{:x}\"",
            crc32c::crc32c(file.text.as_bytes()),
            file.text.len()
        );
        let mut headers = vec![("ETag", &*etag)];
        match file.audience {
            Audience::Pages => headers.extend([
                ("Cache-Control", "public, max-age=3600"),
                ("Cross-Origin-Resource-Policy", "cross-origin"),
            ]),
            Audience::Readers | Audience::Everybody => headers.extend([
                ("Cache-Control", "no-cache"),
                ("Content-Security-Policy", POLICY),
                ("Cross-Origin-Opener-Policy", "same-origin"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
                ("Referrer-Policy", "no-referrer"),
            ]),
        }
        Ready {
            file,
            whole: Prepared::new(200, file.content_type, &headers, file.text.as_bytes()),
            unchanged: HeaderLines::new(&headers[..2]),
            etag,
        }
    }
}

impl Session {
    pub(super) fn file(&mut self, file: &'static File, request: &Request<'_>, output: &mut Output) {
        let ready = self.shared.files.of(file);
        if request
            .headers("if-none-match")
            .any(|list| names(list, &ready.etag))
        {
            output.add_headers(&ready.unchanged);
            return output.head_only(304, &[]);
        }
        output.prepared(&ready.whole);
    }
}

/// Whether a list of entity tags has this one. Weak tags are compared as strong ones, as RFC 9110 wants it here.
fn names(list: &[u8], etag: &str) -> bool {
    list.split(|byte| *byte == b',').any(|tag| {
        let tag = tag.trim_ascii();
        tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_a_list() {
        for list in ["\"a-1\"", "W/\"a-1\"", "\"b\", \"a-1\"", "\"b\",W/\"a-1\" ", "*"] {
            assert!(names(list.as_bytes(), "\"a-1\""), "{list}");
        }
        for list in ["", "\"b\"", "a-1", "\"a-12\"", "W/W/\"a-1\"", ","] {
            assert!(!names(list.as_bytes(), "\"a-1\""), "{list}");
        }
    }
}
