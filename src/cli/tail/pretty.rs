//! A line for people: time, event, visitor, metadata.

use std::borrow::Cow;

use console::{Style, truncate_str};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::printable::printable;

/// Columns of an event's name; a longer one pushes the rest to the right.
const NAME_COLUMNS: usize = 16;
/// What stands for the part that is left out.
const MORE: &str = "…";

/// How lines look.
pub struct Look {
    /// Whether there are colours.
    pub colours: bool,
    /// Columns there are; `None`: as many as one likes.
    pub width: Option<usize>,
}

/// What is shown of a line.
#[derive(Deserialize)]
struct Shown<'l> {
    #[serde(borrow)]
    timestamp: Cow<'l, str>,
    #[serde(borrow)]
    event: Cow<'l, str>,
    #[serde(borrow)]
    visitor_id: Cow<'l, str>,
    #[serde(borrow)]
    metadata: &'l RawValue,
    #[serde(default)]
    torn: bool,
}

impl Look {
    /// The line behind `prefix`, as wide as there is room. What is no event is shown as it is.
    pub fn of(&self, prefix: &str, line: &[u8]) -> String {
        let style = |style: Style| style.force_styling(self.colours);
        let dim = style(Style::new().dim());
        let shown = serde_json::from_slice::<Shown<'_>>(line)
            .ok()
            .filter(|shown| !shown.torn);
        let text = match shown {
            Some(shown) => {
                let name = format!("{:NAME_COLUMNS$}", printable(&shown.event));
                format!(
                    "{prefix}{}  {}  {}  {}",
                    dim.apply_to(printable(&shown.timestamp)),
                    style(Style::new().cyan().bold()).apply_to(name),
                    style(Style::new().green()).apply_to(printable(&shown.visitor_id)),
                    printable(shown.metadata.get()),
                )
            }
            None => {
                let text = String::from_utf8_lossy(line);
                format!("{prefix}{}", dim.apply_to(printable(&text)))
            }
        };
        match self.width {
            // The tab behind a position takes up to eight columns.
            Some(width) => truncate_str(
                &text,
                width.saturating_sub(8 * usize::from(!prefix.is_empty())),
                MORE,
            )
            .into_owned(),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"seq":7,"visitor_id":"visitor-1","event":"page_view","timestamp":"2026-11-22T12:00:00Z","metadata":{"price":1.10},"user_agent":"curl"}"#;

    fn plain(prefix: &str, line: &str, width: Option<usize>) -> String {
        let look = Look {
            colours: false,
            width,
        };
        look.of(prefix, line.as_bytes())
    }

    #[test]
    fn an_event_is_shown_in_columns_that_fit() {
        let whole = r#"2026-11-22T12:00:00Z  page_view         visitor-1  {"price":1.10}"#;
        assert_eq!(plain("", LINE, None), whole);
        assert_eq!(plain("", LINE, Some(whole.len())), whole);
        assert_eq!(
            plain("", LINE, Some(56)),
            r#"2026-11-22T12:00:00Z  page_view         visitor-1  {"pr…"#
        );
        assert_eq!(plain("1:140\t", LINE, None), format!("1:140\t{whole}"));
    }

    #[test]
    fn colours_take_no_room() {
        let look = Look {
            colours: true,
            width: Some(56),
        };
        let text = look.of("", LINE.as_bytes());
        assert!(text.contains('\x1b'), "{text:?}");
        let bare = console::strip_ansi_codes(&text);
        assert_eq!(bare, plain("", LINE, Some(56)));
    }

    #[test]
    fn what_is_no_event_is_shown_as_it_is() {
        let torn = LINE
            .replace('}', r#","torn":true}"#)
            .replacen(r#","torn":true}"#, "}", 1);
        assert_eq!(plain("", &torn, None), torn);
        assert_eq!(plain("", "garbage", None), "garbage");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        let line = LINE
            .replace("visitor-1", "a\u{9b}31m\u{202e}\u{7f}")
            .replace("page_view", "\\u001b[2J");
        let text = plain("", &line, None);
        assert!(text.contains("a\\u009b31m\\u202e\\u007f"), "{text}");
        assert!(text.contains("\\u001b[2J"), "{text}");
        assert!(plain("", "\x1b[2J", None).contains("\\u001b[2J"));
    }
}
