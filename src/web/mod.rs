//! The files of the dashboard and of the tracker: what they are called, what they are, and who may have them.
//!
//! They are part of the binary, so that there is no folder to install and no other host to trust, and a dashboard always fits
//! the server that serves it. None of them holds data: the dashboard asks the endpoints of the read side, with a read key
//! where one is needed.
//!
//! `tracker.js` is made of `tracker.source.js` by `tests/e2e/run minify`; a test there holds the two together.

/// Who may have a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Pages of other origins: it belongs to the write side, and is everybody's.
    Pages,
    /// Those who look at the dashboard: everybody, unless reading is closed altogether.
    Readers,
    /// Whoever wants to know how to use the server.
    Everybody,
}

/// A file.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is served.
    pub path: &'static str,
    /// Its content type.
    pub content_type: &'static str,
    /// Who may have it.
    pub audience: Audience,
    /// Its content.
    pub text: &'static str,
}

/// The page that shows `/openapi.json` and lets its reader try the endpoints.
pub const DOCS: &str = "/docs";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const fn of_dashboard(path: &'static str, content_type: &'static str, text: &'static str) -> File {
    File {
        path,
        content_type,
        audience: Audience::Readers,
        text,
    }
}

const fn of_docs(path: &'static str, content_type: &'static str, text: &'static str) -> File {
    File {
        path,
        content_type,
        audience: Audience::Everybody,
        text,
    }
}

/// All of them.
pub static FILES: &[File] = &[
    File {
        path: "/tracker.js",
        content_type: SCRIPT,
        audience: Audience::Pages,
        text: include_str!("tracker.js"),
    },
    of_dashboard("/", HTML, include_str!("dashboard.html")),
    of_dashboard("/assets/dashboard.css", CSS, include_str!("dashboard.css")),
    of_dashboard("/assets/theme.js", SCRIPT, include_str!("theme.js")),
    of_dashboard("/assets/dashboard.js", SCRIPT, include_str!("dashboard.js")),
    of_dashboard("/assets/api.js", SCRIPT, include_str!("api.js")),
    of_dashboard("/assets/chart.js", SCRIPT, include_str!("chart.js")),
    of_dashboard("/assets/figures.js", SCRIPT, include_str!("figures.js")),
    of_dashboard("/assets/funnel.js", SCRIPT, include_str!("funnel.js")),
    of_dashboard("/assets/health.js", SCRIPT, include_str!("health.js")),
    of_dashboard("/assets/nodes.js", SCRIPT, include_str!("nodes.js")),
    of_dashboard("/assets/ranking.js", SCRIPT, include_str!("ranking.js")),
    of_dashboard("/assets/series.js", SCRIPT, include_str!("series.js")),
    of_dashboard("/assets/stream.js", SCRIPT, include_str!("stream.js")),
    of_dashboard("/assets/tail.js", SCRIPT, include_str!("tail.js")),
    of_dashboard("/assets/text.js", SCRIPT, include_str!("text.js")),
    of_dashboard("/assets/view.js", SCRIPT, include_str!("view.js")),
    of_docs(DOCS, HTML, include_str!("docs.html")),
    of_docs("/assets/docs.css", CSS, include_str!("docs.css")),
    of_docs("/assets/docs.js", SCRIPT, include_str!("docs.js")),
];

/// The file that is served at that path.
pub fn file_at(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between `before` and the next quote, at each place.
    fn quoted<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
        let parts = text.split(before).skip(1);
        parts
            .map(|part| part.split('"').next().expect("split yields one part at least"))
            .collect()
    }

    #[test]
    fn pages_refer_to_what_is_served_and_nothing_is_served_in_vain() {
        let pages = ["/", DOCS].map(|path| file_at(path).expect("it is in the table").text);
        let in_page = pages.map(|page| {
            ["src=\"", "href=\"assets"]
                .map(|before| quoted(page, before))
                .concat()
        });
        let in_page = in_page.concat();
        let in_page = in_page.iter().map(|path| {
            format!(
                "/assets/{}",
                path.trim_start_matches("assets").trim_start_matches('/')
            )
        });
        let in_scripts = FILES.iter().flat_map(|file| quoted(file.text, " from \"./"));
        let own = ["/", DOCS, "/tracker.js"].map(str::to_owned);
        let referred: Vec<String> = own
            .into_iter()
            .chain(in_page)
            .chain(in_scripts.map(|name| format!("/assets/{name}")))
            .collect();
        for path in &referred {
            assert!(file_at(path).is_some(), "{path} is not served");
        }
        for file in FILES {
            assert!(
                referred.iter().any(|path| path == file.path),
                "{} is served and not used",
                file.path
            );
        }
    }

    #[test]
    fn the_files_name_no_other_host() {
        for file in FILES {
            for (at, _) in file.text.match_indices("//") {
                let is_address = file.text[..at].ends_with(':');
                // The name of a vocabulary is not an address: nobody fetches it.
                let is_vocabulary = file.text[at..].starts_with("//www.w3.org/2000/svg");
                assert!(
                    !is_address || is_vocabulary,
                    "{}: {:.60}",
                    file.path,
                    &file.text[at..]
                );
            }
        }
    }

    #[test]
    fn data_never_become_markup() {
        for file in FILES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
            ] {
                assert!(!file.text.contains(word), "{}: {word}", file.path);
            }
        }
    }

    #[test]
    fn the_description_is_small() {
        let files = FILES.iter().filter(|file| file.audience == Audience::Everybody);
        let bytes: usize = files.map(|file| file.text.len()).sum();
        assert!(bytes < 30 << 10, "{bytes} bytes");
    }

    #[test]
    fn the_tracker_is_small() {
        let tracker = file_at("/tracker.js").expect("it is in the table");
        assert!(tracker.text.len() < 2_048, "{} bytes", tracker.text.len());
    }
}
