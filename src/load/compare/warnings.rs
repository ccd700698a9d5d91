//! Why two groups of runs may not be comparable.

use std::collections::BTreeSet;

use super::super::report::units::percent;
use super::super::report::{Machine, Pacing, Report};
use crate::event::Timestamp;

/// Most settings that are named.
const SETTINGS_MAX: usize = 10;

/// Sentences; none if nothing speaks against it.
pub fn warnings(first: &[Report], second: &[Report]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut differ = |what: &str, of: &dyn Fn(&Report) -> String| {
        let (one, other) = (values(first, of), values(second, of));
        if one != other || one.len() > 1 {
            warnings.push(format!("{what}: {} against {}.", joined(&one), joined(&other)));
        }
    };
    differ("The machines that made the load differ", &|run| {
        machine(&run.machine)
    });
    differ("Latencies are counted from different times", &|run| {
        match run.pacing {
            Pacing::Closed => "closed loop",
            Pacing::Open => "open loop",
        }
        .into()
    });
    differ("Versions of the generator differ", &|run| run.floodgate.clone());
    for name in settings(first, second).into_iter().take(SETTINGS_MAX) {
        differ(&format!("The setting {name} differs"), &|run| {
            run.settings
                .get(name)
                .cloned()
                .unwrap_or_else(|| "not set".into())
        });
    }
    for (which, runs) in [("first", first), ("second", second)] {
        warnings.extend(of_runs(which, runs));
    }
    warnings.extend(order(first, second));
    warnings
}

/// Names of settings whose values are not the same in all runs. Where a run wrote its files is no matter of speed.
fn settings<'r>(first: &'r [Report], second: &'r [Report]) -> BTreeSet<&'r str> {
    let all = || first.iter().chain(second);
    let names = all().flat_map(|run| run.settings.keys()).map(String::as_str);
    let names: BTreeSet<&str> = names.collect();
    let differs = |name: &&str| {
        let values: BTreeSet<Option<&String>> = all().map(|run| run.settings.get(*name)).collect();
        values.len() > 1
    };
    names.into_iter().filter(differs).collect()
}

fn values(runs: &[Report], of: &dyn Fn(&Report) -> String) -> BTreeSet<String> {
    runs.iter().map(of).collect()
}

fn joined(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
}

fn machine(machine: &Machine) -> String {
    let Machine {
        cpu,
        cores,
        memory_bytes,
        kernel,
        ..
    } = machine;
    format!("{cpu}, {cores} cores, {} MiB, {kernel}", memory_bytes >> 20)
}

/// What makes the runs of a side worth less.
fn of_runs(which: &str, runs: &[Report]) -> Vec<String> {
    let mut warnings = Vec::new();
    let count = |is: &dyn Fn(&Report) -> bool| runs.iter().filter(|run| is(run)).count();
    let interrupted = count(&|run| run.interrupted);
    if interrupted > 0 {
        warnings.push(format!(
            "On the {which} side {interrupted} of {} were stopped early.",
            runs.len()
        ));
    }
    let broken = count(&|run| run.verify.as_ref().is_some_and(|verify| !verify.is_ok()));
    if broken > 0 {
        warnings.push(format!(
            "On the {which} side {broken} of {} lost events or stored them twice: how fast that was is of no use.",
            runs.len()
        ));
    }
    let failed = runs
        .iter()
        .map(|run| run.requests.failed as f64 / run.requests.sent.max(1) as f64);
    let failed = failed.fold(0.0, f64::max);
    if failed > 0.01 {
        warnings.push(format!(
            "On the {which} side up to {} of the requests failed: failing is often faster than answering.",
            percent(failed)
        ));
    }
    warnings
}

/// Whether all of one side came before all of the other: then whatever changed in between looks like a difference.
fn order(first: &[Report], second: &[Report]) -> Option<String> {
    if first.len() < 2 || second.len() < 2 {
        return None;
    }
    let span = |runs: &[Report]| {
        let times: Option<Vec<Timestamp>> = runs.iter().map(|run| Timestamp::parse(&run.started)).collect();
        let times = times?;
        Some((*times.iter().min()?, *times.iter().max()?))
    };
    let ((first_from, first_to), (second_from, second_to)) = (span(first)?, span(second)?);
    (first_to < second_from || second_to < first_from).then(|| {
        "All runs of one side came before those of the other: what changed on the machine in between looks like a difference. \
         Run the sides by turns."
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::report::sample;
    use super::*;

    fn run(name: &str, started: &str) -> Report {
        let mut run = sample::slower(name, 1.0);
        run.started = started.into();
        run
    }

    #[test]
    fn like_against_like_has_no_warning() {
        let (a, b) = (run("a", "2026-11-25T16:00:00Z"), run("b", "2026-11-25T16:01:00Z"));
        assert_eq!(warnings(&[a], &[b]), [""; 0]);
    }

    #[test]
    fn settings_machines_and_loops_that_differ_are_named() {
        let (one, mut other) = (run("a", "2026-11-25T16:00:00Z"), run("b", "2026-11-25T16:01:00Z"));
        other.settings.insert("connections".into(), "128".into());
        other.settings.insert("gzip".into(), "on".into());
        other.machine.cores = 8;
        other.pacing = Pacing::Open;
        let all = warnings(&[one], &[other]);
        assert_eq!(
            all,
            [
                "The machines that made the load differ: AMD EPYC 7B13, 2 cores, 24576 MiB, Linux 6.18.5 against AMD EPYC 7B13, 8 cores, 24576 MiB, Linux 6.18.5.",
                "Latencies are counted from different times: closed loop against open loop.",
                "The setting connections differs: 64 against 128.",
                "The setting gzip differs: not set against on.",
            ]
        );
    }

    #[test]
    fn runs_that_were_stopped_that_failed_or_lost_something_are_told() {
        let one = run("a", "2026-11-25T16:00:00Z");
        let mut other = sample::ramp();
        other.requests.failed = 80_000;
        let all = warnings(&[one], &[other]).join("\n");
        assert!(
            all.contains("On the second side 1 of 1 were stopped early."),
            "{all}"
        );
        assert!(all.contains("1 of 1 lost events"), "{all}");
        assert!(all.contains("up to 10 % of the requests failed"), "{all}");
    }

    #[test]
    fn sides_that_did_not_take_turns_are_told() {
        let runs =
            |minutes: [u32; 2]| minutes.map(|minute| run("", &format!("2026-11-25T16:{minute:02}:00Z")));
        assert_eq!(warnings(&runs([0, 2]), &runs([1, 3])), [""; 0]);
        assert!(warnings(&runs([0, 1]), &runs([2, 3]))[0].starts_with("All runs of one side came before"));
        assert!(warnings(&runs([2, 3]), &runs([0, 1]))[0].starts_with("All runs of one side came before"));
    }
}
