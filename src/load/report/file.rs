//! Reports as files: a line of JSON each. A file may have several, so that the runs of one setting can be appended to one
//! file; one that a tool has spread over many lines is read as well.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Deserialize;
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::{Report, VERSION};

/// Bytes of a file that are read: a hundred of the longest reports.
const BYTES_MAX: u64 = 64 << 20;

/// Only what tells whether the rest can be understood.
#[derive(Deserialize)]
struct Stamp {
    version: Option<u32>,
}

impl Report {
    /// Writes it as a line.
    ///
    /// # Errors
    /// What writing says.
    pub fn write_line(&self, to: &mut impl Write) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        to.write_all(&line)
    }

    /// All reports in a file, at least one.
    ///
    /// # Errors
    /// A sentence with the path: it cannot be read, or has something else in it.
    pub fn read_all(path: &Path) -> Result<Vec<Report>, String> {
        let failed = |what: String| format!("{}: {what}", path.display());
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        file.take(BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(error.to_string()))?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(failed("a file of reports has at most 64 MiB".into()));
        }
        parse(&bytes).map_err(failed)
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    for value in Deserializer::from_slice(bytes).into_iter::<&RawValue>() {
        let value = value.map_err(|error| format!("not JSON: {error}"))?;
        match serde_json::from_str::<Stamp>(value.get()) {
            Ok(Stamp {
                version: Some(VERSION),
            }) => {}
            Ok(Stamp {
                version: Some(version),
            }) => {
                return Err(format!(
                    "a report of version {version}, where this program reads version {VERSION}"
                ));
            }
            _ => return Err("not a report of `floodgate load`".into()),
        }
        let report: Report =
            serde_json::from_str(value.get()).map_err(|error| format!("not a whole report: {error}"))?;
        report.check()?;
        reports.push(report);
    }
    match reports.is_empty() {
        true => Err("there is no report in it".into()),
        false => Ok(reports),
    }
}

impl Report {
    /// What every later computation relies on.
    fn check(&self) -> Result<(), String> {
        if self.latency.unit != "us" {
            return Err(format!(
                "latencies in {:?}, where \"us\" is known",
                self.latency.unit
            ));
        }
        if self.over_time.step_seconds == 0 {
            return Err("points over time of no length".into());
        }
        self.latency.histogram().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn line(report: &Report) -> String {
        let mut line = Vec::new();
        report.write_line(&mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_also_several_and_spread_over_lines() {
        let (one, other) = (sample::closed(), sample::ramp());
        let text = line(&one);
        assert_eq!(text.matches('\n').count(), 1, "a report is a line");
        let pretty = serde_json::to_string_pretty(&one).unwrap();
        let read = parse(format!("{text}\n{}{pretty}", line(&other)).as_bytes()).unwrap();
        assert_eq!(read, [one.clone(), other, one]);
    }

    #[test]
    fn the_order_of_settings_is_kept() {
        let text = line(&sample::closed());
        let read = &parse(text.as_bytes()).unwrap()[0];
        let names: Vec<&str> = read.settings.keys().map(String::as_str).collect();
        assert_eq!(names, ["connections", "shape", "ack", "duration"]);
    }

    #[test]
    fn a_field_of_a_later_program_is_passed_over_and_a_missing_one_named() {
        let text = line(&sample::closed());
        let more = text.replacen('{', r#"{"colour":"green","#, 1);
        assert_eq!(parse(more.as_bytes()).unwrap(), [sample::closed()]);
        let less = text.replacen("\"requests_per_second\"", "\"other\"", 1);
        let error = parse(less.as_bytes()).unwrap_err();
        assert!(
            error.starts_with("not a whole report: missing field `requests_per_second`"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_report_is_said_to_be_none() {
        let error = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert_eq!(error(""), "there is no report in it");
        assert_eq!(error("[1,2]"), "not a report of `floodgate load`");
        assert_eq!(error(r#"{"ok":true}"#), "not a report of `floodgate load`");
        assert!(error("Requests/sec: 12").starts_with("not JSON: "));
        let text = line(&sample::closed());
        let later = text.replacen("\"version\":1", "\"version\":2", 1);
        assert_eq!(
            error(&later),
            "a report of version 2, where this program reads version 1"
        );
        let seconds = text.replacen("\"us\"", "\"s\"", 1);
        assert_eq!(error(&seconds), "latencies in \"s\", where \"us\" is known");
        let missing = Report::read_all(Path::new("/nonexistent/a.json")).unwrap_err();
        assert!(missing.starts_with("/nonexistent/a.json: "), "{missing}");
    }
}
