//! The program's own messages: where they go, how they look, and whose are shown.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::LogFormat;

/// Sends messages to stderr from here on: our own from `level` up, and of the libraries that we use what they warn of. What those
/// do (an `event: connected`) is told by us where it matters, with what it was about.
///
/// # Panics
/// If it was done before.
pub fn start(format: LogFormat, level: LevelFilter) {
    let shown = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let to_stderr = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    let set = match format {
        LogFormat::Json => {
            let json = to_stderr.json().flatten_event(true).with_current_span(false);
            set_global_default(json.finish().with(shown))
        }
        LogFormat::Text => {
            let text = to_stderr.with_ansi(std::io::stderr().is_terminal());
            set_global_default(text.finish().with(shown))
        }
    };
    set.expect("messages are set up once");
}
