//! The report as a page: one file that needs nothing else, to look at, print and pass on.
//!
//! There is no script in it, and its own policy forbids any, as well as every host: what the texts of a report (addresses, settings,
//! answers of a server) try is shown, not done. Escaping is by construction: everything is written by [`maud`].

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::ramp::{FAILED_PER_MILLE_MAX, REACHED_MIN};
use super::chart::Chart;
use super::figures::{self, Course};
use super::notes::{beyond, notes, percentile};
use super::table::{account, counted_from, pacing};
use super::units::{bytes, cost, count, duration, percent, plural, quantity, rate, seconds};
use super::{Ramp, Report};
use crate::printable::printable;

const STYLE: &str = include_str!("page.css");
/// Nothing is fetched, run or sent.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The report as an HTML file.
pub fn page(report: &Report) -> String {
    let url = printable(&report.url);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Load test of " (url) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(report))
                    (totals(report))
                    (remarks(report))
                    (verification(report))
                    (latency(report))
                    (ramp(report.ramp.as_ref()))
                    (course(report))
                    (errors(report))
                    (circumstances(report))
                }
                footer { "Made by floodgate " (printable(&report.floodgate)) " load. Run " (foreign(&report.run)) "." }
            }
        }
    };
    page.into_string()
}

/// Text that anybody may have written: what turns the direction of writing is spelled out, and does not turn what is around.
fn foreign(text: &str) -> Markup {
    html! { bdi { (printable(text)) } }
}

fn head(report: &Report) -> Markup {
    html! {
        header {
            h1 { "Load test" }
            p .url { (foreign(&report.url)) }
            p .muted {
                (pacing(report)) ", " (seconds(report.seconds))
                @if report.interrupted { ", stopped early" }
                ", begun " (foreign(&report.started))
            }
        }
    }
}

/// A figure in large, what it is, and what belongs to it.
fn total(name: &str, value: &str, note: &str, is_bad: bool) -> Markup {
    html! {
        div .total {
            dt { (name) }
            dd .bad[is_bad] { (value) }
            dd .muted { (note) }
        }
    }
}

fn totals(report: &Report) -> Markup {
    let (requests, events, latency) = (&report.requests, &report.events, &report.latency);
    let share = percent(requests.failed as f64 / requests.sent.max(1) as f64);
    let failed = match report.unsent() {
        0 => format!("{share} of requests"),
        unsent => format!("{share} of requests; {} never sent", count(unsent)),
    };
    let (whose, used) = match report.cpu.server_seconds {
        Some(used) => ("server CPU", used),
        None => ("generator CPU", report.cpu.generator_seconds),
    };
    let each = match events.acknowledged {
        0 => "–".into(),
        acknowledged => cost(used * 1e6 / acknowledged as f64),
    };
    let beyond_99 = format!("{} took longer", count(beyond(latency.count, 0.99)));
    html! {
        dl .totals {
            (total("requests", &rate(report.rate.requests_per_second), &format!("{} sent", count(requests.sent)), false))
            (total("events", &rate(report.rate.events_per_second), &format!("{} acknowledged", count(events.acknowledged)), false))
            (total("median", &duration(latency.p50 as f64), &format!("mean {}", duration(latency.mean)), false))
            (total("99th percentile", &duration(latency.p99 as f64), &beyond_99, false))
            (total("failed", &count(requests.failed), &failed, requests.failed + report.unsent() > 0))
            (total(whose, &each, &format!("an event; {} cores", quantity(used / report.seconds)), false))
        }
    }
}

fn remarks(report: &Report) -> Markup {
    let notes = notes(report);
    html! {
        @if !notes.is_empty() {
            section .notes aria-label="Notes" { ul { @for note in notes { li { (note) } } } }
        }
    }
}

fn verification(report: &Report) -> Markup {
    html! {
        @if let Some(verify) = &report.verify {
            section .verified.bad[!verify.is_ok()] {
                h2 { @if verify.is_ok() { "✓ Verified" } @else { "✗ Not what was promised" } }
                p .muted { "The log was read: " (foreign(&verify.log)) }
                ul {
                    @for (sentence, is_bad) in account(verify, report.events.acknowledged) {
                        li .bad[is_bad] { (sentence) }
                    }
                }
                @if !verify.examples.is_empty() {
                    ul .examples { @for example in &verify.examples { li { (foreign(example)) } } }
                }
            }
        }
    }
}

/// A chart with what is to be said of it.
fn figure(title: &str, chart: &Chart, caption: &str) -> Markup {
    html! {
        figure {
            figcaption { h3 { (title) } @if !caption.is_empty() { p .muted { (caption) } } }
            (chart.both())
        }
    }
}

fn latency(report: &Report) -> Markup {
    let latency = &report.latency;
    let from = format!(
        "Counted {}. Each nine has the same room: the right half is the slowest hundredth and less.",
        counted_from(latency)
    );
    let row = |name: &str, micros: f64, slower: Option<u64>| {
        html! {
            tr { th scope="row" { (name) } td { (duration(micros)) } td { @if let Some(slower) = slower { (count(slower)) } } }
        }
    };
    html! {
        section {
            h2 { "Latency" }
            @match figures::distribution(report) {
                Some(chart) => {
                    (figure("Distribution", &chart, &from))
                    div .scroll {
                        table .figures {
                            thead { tr { th scope="col" { "percentile" } th scope="col" { "latency" } th scope="col" { "answers beyond" } } }
                            tbody {
                                (row("min", latency.min as f64, None))
                                @for (quantile, value) in latency.percentiles() {
                                    (row(&percentile(quantile), value as f64, Some(beyond(latency.count, quantile))))
                                }
                                (row("max", latency.max as f64, None))
                                (row("mean", latency.mean, None))
                                (row("standard deviation", latency.stdev, None))
                            }
                        }
                    }
                }
                None => p { "No answer was timed." },
            }
        }
    }
}

fn ramp(ramp: Option<&Ramp>) -> Markup {
    let Some(ramp) = ramp else { return html! {} };
    let bound = duration(ramp.p99_max_us as f64);
    let found = match ramp.highest() {
        Some(step) => format!(
            "The highest rate that was held is {}: p99 {}.",
            rate(step.rate),
            duration(step.p99_us as f64)
        ),
        None => "No rate was held.".into(),
    };
    let caption = format!(
        "{found} A rate is held if p99 is at most {bound}, {} of it are reached, and at most {FAILED_PER_MILLE_MAX} of 1,000 requests fails.",
        percent(REACHED_MIN)
    );
    html! {
        section {
            h2 { "Ramp" }
            @if let Some(chart) = figures::ramp(ramp) { (figure("Latency by rate", &chart, &caption)) }
            div .scroll {
                table .figures {
                    thead { tr { @for name in ["intended", "reached", "50 %", "99 %", "99.9 %", ""] { th scope="col" { (name) } } } }
                    tbody {
                        @for step in &ramp.steps {
                            tr {
                                th scope="row" { (rate(step.rate)) }
                                td { (rate(step.achieved)) }
                                @for micros in [step.p50_us, step.p99_us, step.p99_9_us] { td { (duration(micros as f64)) } }
                                td .bad[!step.held] { @if step.held { "held" } @else { "not held" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn course(report: &Report) -> Markup {
    html! {
        @if let Some(course) = Course::of(report) {
            section {
                h2 { "Over time" }
                (figure("Throughput", &course.throughput(report), ""))
                (figure("Latency", &course.latency(), ""))
                @if let Some(chart) = course.errors() { (figure("Errors", &chart, "")) }
            }
        }
    }
}

fn errors(report: &Report) -> Markup {
    let most = report
        .errors
        .iter()
        .map(|error| error.count)
        .max()
        .unwrap_or(0)
        .max(1);
    html! {
        @if !report.errors.is_empty() {
            section {
                h2 { "Errors by kind" }
                div .scroll {
                    table .errors {
                        thead { tr { th scope="col" { "kind" } th scope="col" { "requests" } th scope="col" { "share" } th scope="col" { "for example" } } }
                        tbody {
                            @for error in &report.errors {
                                tr {
                                    th scope="row" { (foreign(&error.kind)) }
                                    td { (count(error.count)) }
                                    td .bar {
                                        svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                                            rect .bad width=(format!("{:.1}", (error.count as f64 / most as f64 * 100.0).max(1.0))) height="8" {}
                                        }
                                    }
                                    td .example { (foreign(&error.example)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn circumstances(report: &Report) -> Markup {
    let machine = &report.machine;
    let (requests, events) = (&report.requests, &report.events);
    let of_cores = |used: f64| format!("{}, {} cores", seconds(used), quantity(used / report.seconds));
    let machine_rows = [
        ("processor", machine.cpu.clone()),
        ("cores", count(machine.cores)),
        ("memory", bytes(machine.memory_bytes as f64)),
        ("system", machine.kernel.clone()),
        (
            "load average before",
            machine
                .load_average
                .map_or("unknown".into(), |load| format!("{load:.2}")),
        ),
        ("generator CPU", of_cores(report.cpu.generator_seconds)),
        (
            "server CPU",
            report.cpu.server_seconds.map_or("unknown".into(), of_cores),
        ),
    ];
    let count_rows = [
        ("requests sent", count(requests.sent)),
        ("answered", count(requests.answered)),
        ("failed", count(requests.failed)),
        ("events sent", count(events.sent)),
        ("acknowledged", count(events.acknowledged)),
        ("refused", count(events.refused)),
        ("without an answer", count(events.unknown)),
        (
            "bytes of bodies",
            format!("{}/s", bytes(report.rate.bytes_per_second)),
        ),
    ];
    let list = |title: &str, rows: &[(&str, String)]| {
        html! {
            div {
                h3 { (title) }
                dl .rows { @for (name, value) in rows { div { dt { (foreign(name)) } dd { (foreign(value)) } } } }
            }
        }
    };
    let settings: Vec<(&str, String)> = report
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    html! {
        section {
            h2 { "Circumstances" }
            div .columns {
                (list("Settings", &settings))
                (list(&format!("Machine that made the load ({})", plural(machine.cores, "core")), &machine_rows))
                (list("Counts", &count_rows))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_page_has_its_parts_and_needs_nothing_else() {
        let text = page(&sample::ramp());
        for part in [
            "<h2>Latency</h2>",
            "<h2>Ramp</h2>",
            "<h2>Over time</h2>",
            "<h2>Errors by kind</h2>",
            "<h2>Circumstances</h2>",
            "✗ Not what was promised",
            "The highest rate that was held is 32,000/s",
        ] {
            assert!(text.contains(part), "{part} is missing");
        }
        assert!(!page(&sample::closed()).contains("<h2>Ramp"), "there was none");
        // No address is one that a browser would follow by itself.
        for fetching in ["src=", "href=", "url(", "@import", "<script", "<link", "<iframe"] {
            assert!(!text.contains(fetching), "{fetching} in the page");
        }
        assert!(text.contains("default-src 'none'"));
    }

    #[test]
    fn every_chart_says_what_it_shows() {
        let text = page(&sample::ramp());
        let charts = text
            .matches("<svg viewBox=\"0 0 720 300\" role=\"img\" aria-label=\"")
            .count();
        assert_eq!(charts, 5, "distribution, ramp, throughput, latency, errors");
        assert!(
            text.contains("aria-label=\"Latency by percentile, from 300 µs to 73.7 ms: 50 % 389 µs,"),
            "{text}"
        );
    }

    #[test]
    fn hostile_text_stays_text() {
        let text = page(&sample::hostile());
        let tame = page(&sample::ramp());
        let tags = |text: &str, tag: &str| text.matches(tag).count();
        for tag in ["<script", "<img", "onerror=\""] {
            assert_eq!(tags(&text, tag), 0, "{tag}");
        }
        for tag in ["<style", "</style", "<section", "<figure"] {
            assert_eq!(tags(&text, tag), tags(&tame, tag), "{tag}");
        }
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(!text.contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn a_run_without_answers_is_a_page_too() {
        let mut report = sample::closed();
        report.latency = super::super::Latency::of(
            &hdrhistogram::Histogram::new(3).unwrap(),
            report.latency.counted_from,
        );
        report.over_time.points.clear();
        report.seconds = 0.0;
        let text = page(&report);
        assert!(
            text.contains("No answer was timed.") && !text.contains("NaN") && !text.contains("inf"),
            "{text}"
        );
    }
}
