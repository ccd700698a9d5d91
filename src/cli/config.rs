//! `floodgate config`: the effective settings, and where each comes from.

use std::io::Write;
use std::process::ExitCode;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::given;
use crate::config::Config;
use crate::config::settings::{SETTINGS, is_secret};
use crate::ingest::journal::Place;

/// Prints each setting as `VARIABLE=value`, or all as one JSON object.
pub fn print(matches: &ArgMatches, config: &Config) -> ExitCode {
    let mut object = serde_json::Map::new();
    let mut text = String::new();
    for setting in SETTINGS {
        let said = given(matches, setting.variable);
        let source = match (&said, matches.value_source(setting.variable)) {
            (None, _) => "default",
            (Some(_), Some(ValueSource::EnvVariable)) => "environment",
            (Some(_), _) => "flag",
        };
        let said = said.map(|text| match is_secret(setting.variable) {
            true => "(not shown)".to_owned(),
            false => text,
        });
        let value = said.unwrap_or_else(|| match (setting.variable, &config.engine.journal) {
            // Defaults that depend on the machine or on another setting.
            ("METRICS_JOURNAL", Place::File(path)) => path.display().to_string(),
            ("METRICS_NODE", _) => config.node.clone(),
            ("METRICS_WORKERS", _) => config.workers.to_string(),
            ("METRICS_ACCEPTORS", _) => config.acceptors.to_string(),
            _ => setting.default.to_owned(),
        });
        text += &format!("{}={value}  # {source}\n", setting.variable);
        object.insert(
            setting.variable.into(),
            serde_json::json!({"value": value, "source": source}),
        );
    }
    if matches.get_flag("json") {
        text = serde_json::Value::Object(object).to_string() + "\n";
    }
    // A reader that went away has seen what it wanted.
    std::io::stdout().write_all(text.as_bytes()).ok();
    ExitCode::SUCCESS
}
