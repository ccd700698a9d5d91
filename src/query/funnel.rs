//! Funnels: how many visitors did one thing, then another, then a third, by the time that their events say.
//!
//! A visitor has come as far as the longest beginning of the steps for which there are events of theirs, each later than
//! the one before; of two events at the same microsecond the one further on in the log is the later one. Whether the
//! log has them in that order does not matter: each step is a pass over the files that have its event in the range,
//! with the earliest time at which each visitor had done the steps before. The earliest is the best: whatever
//! follows a later one follows it too.
//!
//! Bounds: [`VISITORS_MAX`] visitors are followed, for some 250 MB while it runs, and [`VALUES_MAX`] values of the member that
//! splits them; what is beyond makes the answer incomplete, and so does the end of the time.

use std::collections::HashMap;
use std::io::Write;

use serde_json::value::RawValue;

use super::count::Ask;
use super::files::{Gaps, Log, Part};
use super::readers::{Limit, Stop};
use crate::event::{StoredEvent, Timestamp, spelt};
use crate::ingest::View;

/// Most visitors that are followed: those whose first step is met first. Tests have few.
pub const VISITORS_MAX: usize = if cfg!(test) { 100 } else { 1_000_000 };
/// Most steps.
pub const STEPS_MAX: usize = 10;
/// Most values that visitors are split by.
pub const VALUES_MAX: usize = if cfg!(test) { 20 } else { 10_000 };
/// Values that are shown, the others together.
const GROUPS_TOP: usize = 10;
/// The longest value that visitors are split by, as JSON.
const VALUE_BYTES_MAX: usize = 256;

/// Which funnel is asked for.
#[derive(Clone, Debug)]
pub struct Funnel {
    /// The names of the steps, as lines spell them.
    pub steps: Vec<Box<[u8]>>,
    /// The member of the first step's `metadata` by which visitors are split.
    pub split: Option<String>,
    /// From then on.
    pub since: Timestamp,
    /// Before then.
    pub until: Timestamp,
}

/// When an event was: its time in microseconds, then where in the log it is.
type Moment = (i64, u64);

const NEVER: Moment = (i64::MAX, u64::MAX);

/// A visitor who has done the steps so far.
struct Visitor {
    /// When they had, at the earliest.
    reached: Moment,
    /// When they did the step that is looked at. In the first pass: when they did the first step with the value that they
    /// are split by.
    next: Moment,
    /// Their value's place among the values; [`NO_VALUE`] if they have none.
    value: u32,
}

const NO_VALUE: u32 = u32::MAX;

/// The values by which visitors are split, as JSON.
#[derive(Default)]
struct Values {
    places: HashMap<Box<str>, u32>,
}

impl Values {
    /// The place of a value; `None` for one too many.
    fn place(&mut self, json: String) -> Option<u32> {
        let next = self.places.len();
        if let Some(place) = self.places.get(&*json) {
            return Some(*place);
        }
        (next < VALUES_MAX).then(|| {
            self.places.insert(json.into(), next as u32);
            next as u32
        })
    }
}

/// How many visitors did each step, of each value; of those without a value at the end.
struct Followed {
    visitors: HashMap<Box<[u8]>, Visitor>,
    values: Values,
    /// By step, then by place of the value, then those without.
    counts: Vec<Vec<u64>>,
}

/// The funnel as JSON.
pub fn funnel(view: &View, asked: &Funnel, time: &Limit) -> Vec<u8> {
    let log = Log::now(view);
    let mut gaps = Gaps::default();
    let mut followed = Followed {
        visitors: HashMap::new(),
        values: Values::default(),
        counts: Vec::new(),
    };
    for step in 0..asked.steps.len() {
        let pass = match step {
            0 => followed.begin(&log, asked, time, &mut gaps),
            _ => followed.go_on(&log, &asked.ask(step), time, &mut gaps),
        };
        followed.count();
        if pass.is_err() {
            gaps.add(|| {
                let number = step + 1;
                format!("The time (METRICS_QUERY_TIMEOUT) was over at step {number}: more visitors may have done it and those after it.")
            });
            break;
        }
    }
    followed.render(asked, gaps.reason())
}

impl Funnel {
    fn ask(&self, step: usize) -> Ask {
        Ask {
            names: Some(vec![self.steps[step].clone()]),
            since: Some(self.since),
            until: Some(self.until),
        }
    }
}

/// Calls `each` with every event that is asked for, its visitor, and when it was.
fn for_each_event(
    log: &Log,
    ask: &Ask,
    (time, gaps): (&Limit, &mut Gaps),
    mut each: impl FnMut(&StoredEvent<'_>, &[u8], Moment),
) -> Result<(), Stop> {
    let has_any = |part: &Part<'_>| ask.may_have(part.summary());
    for part in log.parts().filter(has_any) {
        part.read(time, gaps, |offset, line| {
            let Some(event) = StoredEvent::of_line(line).filter(|event| ask.wants_name(&event.name)) else {
                return true;
            };
            let at = event.at().filter(|at| ask.wants_time(*at));
            if let (Some(at), Some(visitor)) = (at, &event.visitor_id) {
                each(&event, visitor, (at.micros, part.base() + offset));
            }
            true
        })?;
    }
    Ok(())
}

impl Followed {
    /// Finds those who did the first step, when they did it first, and their value.
    fn begin(&mut self, log: &Log, asked: &Funnel, time: &Limit, gaps: &mut Gaps) -> Result<(), Stop> {
        let (mut too_many_visitors, mut too_many_values) = (false, false);
        let Followed { visitors, values, .. } = self;
        let pass = for_each_event(log, &asked.ask(0), (time, gaps), |event, id, moment| {
            if !visitors.contains_key(id) {
                if visitors.len() == VISITORS_MAX {
                    too_many_visitors = true;
                    return;
                }
                let new = Visitor {
                    reached: NEVER,
                    next: NEVER,
                    value: NO_VALUE,
                };
                visitors.insert(id.into(), new);
            }
            let visitor = visitors.get_mut(id).expect("it is there by now");
            visitor.reached = visitor.reached.min(moment);
            let Some(split) = asked.split.as_deref().filter(|_| moment < visitor.next) else {
                return;
            };
            if let Some(value) = event.metadata_member(split).and_then(value_of) {
                let place = values.place(value);
                too_many_values |= place.is_none();
                (visitor.next, visitor.value) = (moment, place.unwrap_or(NO_VALUE));
            }
        });
        visitors.values_mut().for_each(|visitor| visitor.next = NEVER);
        if too_many_visitors {
            gaps.add(|| format!("Only {VISITORS_MAX} visitors are followed, and there are more."));
        }
        if too_many_values {
            gaps.add(|| format!("Only {VALUES_MAX} values are told apart, and there are more."));
        }
        pass
    }

    /// Leaves those who did another step after those before.
    fn go_on(&mut self, log: &Log, ask: &Ask, time: &Limit, gaps: &mut Gaps) -> Result<(), Stop> {
        let visitors = &mut self.visitors;
        let pass = match visitors.is_empty() {
            true => Ok(()),
            false => for_each_event(log, ask, (time, gaps), |_, id, moment| {
                if let Some(visitor) = visitors.get_mut(id)
                    && moment > visitor.reached
                {
                    visitor.next = visitor.next.min(moment);
                }
            }),
        };
        visitors.retain(|_, visitor| visitor.next != NEVER);
        for visitor in visitors.values_mut() {
            (visitor.reached, visitor.next) = (visitor.next, NEVER);
        }
        pass
    }

    fn count(&mut self) {
        let values = self.values.places.len();
        let mut counts = vec![0; values + 1];
        for visitor in self.visitors.values() {
            counts[(visitor.value as usize).min(values)] += 1;
        }
        self.counts.push(counts);
    }

    fn render(mut self, asked: &Funnel, gap: Option<&str>) -> Vec<u8> {
        let values = self.values.places.len();
        // Steps that time did not suffice for.
        self.counts.resize(asked.steps.len(), vec![0; values + 1]);
        let mut body = Vec::new();
        let mut put =
            |parts: std::fmt::Arguments<'_>| body.write_fmt(parts).expect("a vector takes everything");
        put(format_args!(
            "{{\"since\":\"{}\",\"until\":\"{}\",\"steps\":[",
            asked.since, asked.until
        ));
        for (step, (name, counts)) in asked.steps.iter().zip(&self.counts).enumerate() {
            let comma = if step == 0 { "" } else { "," };
            // The names are JSON text already.
            let name = String::from_utf8_lossy(name);
            let visitors: u64 = counts.iter().sum();
            put(format_args!(
                "{comma}{{\"event\":\"{name}\",\"visitors\":{visitors}}}"
            ));
        }
        put(format_args!("],\"split\":"));
        match &asked.split {
            None => put(format_args!("null")),
            Some(field) => {
                let field = serde_json::to_string(field).expect("a text is JSON");
                put(format_args!("{{\"field\":{field},\"groups\":["));
                for (position, (value, visitors)) in self.groups().into_iter().enumerate() {
                    let comma = if position == 0 { "" } else { "," };
                    let visitors = serde_json::to_string(&visitors).expect("numbers are JSON");
                    put(format_args!(
                        "{comma}{{\"value\":{value},\"visitors\":{visitors}}}"
                    ));
                }
                put(format_args!("]}}"));
            }
        }
        match gap {
            None => body.extend_from_slice(b",\"complete\":true}"),
            Some(_) => {
                super::snapshot::put_gap(gap, &mut body);
                body.push(b'}');
            }
        }
        body
    }

    /// The values with the most visitors at the first step, and the others together, each with the visitors of each step.
    fn groups(&self) -> Vec<(&str, Vec<u64>)> {
        let mut values: Vec<(&str, usize)> = self
            .values
            .places
            .iter()
            .map(|(value, place)| (&**value, *place as usize))
            // Some were given up for one of an earlier event.
            .filter(|(_, place)| self.counts[0][*place] > 0)
            .collect();
        values.sort_unstable_by_key(|(value, place)| (std::cmp::Reverse(self.counts[0][*place]), *value));
        let of = |place: usize| self.counts.iter().map(move |counts| counts[place]);
        let top = values.iter().take(GROUPS_TOP);
        let mut groups: Vec<(&str, Vec<u64>)> =
            top.map(|(value, place)| (*value, of(*place).collect())).collect();
        let mut rest: Vec<u64> = of(self.values.places.len()).collect();
        for (_, place) in values.iter().skip(GROUPS_TOP) {
            rest.iter_mut()
                .zip(of(*place))
                .for_each(|(sum, count)| *sum += count);
        }
        if rest[0] > 0 {
            groups.push(("null", rest));
        }
        groups
    }
}

/// A text, number or truth value in its one spelling; of anything else, and what is too long, `None`.
fn value_of(json: &RawValue) -> Option<String> {
    let json = json.get();
    let value = match json.as_bytes()[0] {
        b'"' => {
            let text: String = serde_json::from_str(json).ok()?;
            format!("\"{}\"", String::from_utf8_lossy(&spelt(&text)))
        }
        b'{' | b'[' | b'n' => return None,
        _ => json.to_owned(),
    };
    (value.len() <= VALUE_BYTES_MAX).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::super::tests::engine_over;
    use super::*;

    /// A line of the log: of a visitor, at a second after noon.
    fn line(visitor: usize, event: &str, second: usize, metadata: Value) -> String {
        let at = format!("2025-10-09T12:00:{second:02}Z");
        format!(
            r#"{{"visitor_id":"visitor-{visitor}","event":"{event}","timestamp":"{at}","metadata":{metadata},"user_agent":null}}"#
        ) + "\n"
    }

    fn ask(lines: &str, split: Option<&str>, deadline: Instant) -> Value {
        let (engine, _directory) = engine_over(lines);
        let asked = Funnel {
            steps: ["view", "buy"].map(spelt).to_vec(),
            split: split.map(str::to_owned),
            since: Timestamp::parse("2025-10-09T12:00:00Z").unwrap(),
            until: Timestamp::parse("2025-10-09T13:00:00Z").unwrap(),
        };
        let body = funnel(&engine.view(), &asked, &Limit::until(deadline));
        serde_json::from_slice(&body).unwrap()
    }

    fn in_time() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn visitors(answer: &Value) -> Vec<u64> {
        let steps = answer["steps"].as_array().unwrap().iter();
        steps.map(|step| step["visitors"].as_u64().unwrap()).collect()
    }

    #[test]
    fn of_too_many_visitors_the_first_are_followed_and_the_answer_says_so() {
        for more in [0, 1, 30] {
            let everybody = VISITORS_MAX + more;
            let views = (0..everybody).map(|visitor| line(visitor, "view", 0, json!({})));
            // Those who came first once more, those that are not followed too.
            let again = (0..everybody).map(|visitor| line(visitor, "view", 5, json!({})));
            let buys = (0..everybody).map(|visitor| line(visitor, "buy", 9, json!({})));
            let answer = ask(
                &views.chain(again).chain(buys).collect::<String>(),
                None,
                in_time(),
            );
            assert_eq!(visitors(&answer), [VISITORS_MAX as u64; 2], "{answer}");
            assert_eq!(answer["complete"], more == 0);
            if more > 0 {
                let reason = format!("Only {VISITORS_MAX} visitors are followed, and there are more.");
                assert_eq!(answer["reason"], reason);
            }
        }
    }

    #[test]
    fn of_too_many_values_the_first_are_told_apart_and_the_rest_are_one_group() {
        for more in [0, 1, 7] {
            // The first value is the most frequent one.
            let values = VALUES_MAX + more;
            let people = values + 5;
            let value = |visitor: usize| json!({"plan": visitor.saturating_sub(5)});
            let views = (0..people).map(|visitor| line(visitor, "view", 0, value(visitor)));
            let buys = (0..people).map(|visitor| line(visitor, "buy", 9, json!({})));
            let answer = ask(&views.chain(buys).collect::<String>(), Some("plan"), in_time());
            assert_eq!(visitors(&answer), [people as u64; 2]);
            let groups = answer["split"]["groups"].as_array().unwrap();
            assert_eq!(groups.len(), GROUPS_TOP + 1);
            assert_eq!(groups[0], json!({"value": 0, "visitors": [6, 6]}));
            let rest = people - 6 - (GROUPS_TOP - 1);
            assert_eq!(
                groups[GROUPS_TOP],
                json!({"value": null, "visitors": [rest, rest]})
            );
            assert_eq!(answer["complete"], more == 0);
            if more > 0 {
                let reason = format!("Only {VALUES_MAX} values are told apart, and there are more.");
                assert_eq!(answer["reason"], reason);
            }
        }
    }

    #[test]
    fn without_time_there_is_an_answer_that_says_how_far_it_got() {
        let answer = ask(&line(1, "view", 0, json!({})), None, Instant::now());
        assert_eq!(visitors(&answer), [0, 0]);
        assert_eq!(answer["complete"], false);
        assert!(
            answer["reason"].as_str().unwrap().contains("at step 1"),
            "{answer}"
        );
    }
}
