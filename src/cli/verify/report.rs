//! What `floodgate verify` says in the end.

use std::io::{self, Write};
use std::path::Path;

use indicatif::HumanBytes;
use serde::Serialize;

use super::file::{Checked, FINDINGS_MAX, Finding, Findings, State};

/// What was found of a log.
#[derive(Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub ok: bool,
    log: String,
    /// Whether a server had the log open.
    live: bool,
    lines: u64,
    events: u64,
    /// Lines marked torn.
    torn: u64,
    /// Bytes, unpacked.
    bytes: u64,
    /// Summaries made anew.
    pub repaired: Vec<String>,
    findings_total: u64,
    /// The first ones.
    findings: Vec<Finding>,
    files: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    file: String,
    number: u64,
    state: State,
    lines: u64,
    events: u64,
    torn: u64,
    bytes: u64,
}

impl Report {
    /// Of these files, and of what is wrong between them.
    pub fn new(log: &Path, is_held: bool, files: Vec<Checked>, between: Findings) -> Report {
        let mut report = Report {
            ok: false,
            log: log.display().to_string(),
            live: is_held,
            lines: 0,
            events: 0,
            torn: 0,
            bytes: 0,
            repaired: Vec::new(),
            findings_total: 0,
            findings: Vec::new(),
            files: Vec::with_capacity(files.len()),
        };
        report.add(between);
        for file in files {
            report.add(file.findings);
            if file.state != State::Removed {
                report.lines += file.lines;
                report.events += file.events;
                report.torn += file.torn;
                report.bytes += file.bytes;
            }
            report.files.push(FileReport {
                file: file.name,
                number: file.number,
                state: file.state,
                lines: file.lines,
                events: file.events,
                torn: file.torn,
                bytes: file.bytes,
            });
        }
        report.ok = report.findings_total == 0;
        report
    }

    fn add(&mut self, findings: Findings) {
        self.findings_total += findings.total;
        let room = FINDINGS_MAX - self.findings.len();
        self.findings.extend(findings.first.into_iter().take(room));
    }

    /// Prints it to standard output.
    ///
    /// # Errors
    /// What writing says.
    pub fn print(&self, as_json: bool) -> io::Result<()> {
        let mut text = String::new();
        if as_json {
            text = serde_json::to_string(self)?;
            text.push('\n');
        } else {
            for path in &self.repaired {
                text += &format!("{path}: made anew\n");
            }
            for finding in &self.findings {
                text += &match (finding.line, finding.byte) {
                    (Some(line), Some(byte)) => {
                        format!("{}: line {line}, byte {byte}: {}\n", finding.file, finding.what)
                    }
                    _ => format!("{}: {}\n", finding.file, finding.what),
                };
            }
            if self.findings_total > self.findings.len() as u64 {
                text += &format!("… {} findings in all\n", self.findings_total);
            }
            text += &self.last_line();
        }
        io::stdout().write_all(text.as_bytes())
    }

    fn last_line(&self) -> String {
        let removed = self
            .files
            .iter()
            .filter(|file| file.state == State::Removed)
            .count();
        let read = self.files.len() - removed;
        let mut line = format!(
            "{}: {}; {} lines ({} events, {} torn) and {} in {read} {}",
            self.log,
            if self.ok { "fine" } else { "not fine" },
            self.lines,
            self.events,
            self.torn,
            HumanBytes(self.bytes),
            if read == 1 { "file" } else { "files" },
        );
        if removed > 0 {
            line += &format!(", {removed} more removed");
        }
        if self.live {
            line += " (live: a server has it open)";
        }
        line + "\n"
    }
}
