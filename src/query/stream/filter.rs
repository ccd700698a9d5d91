//! Which events a subscriber wants.

use std::borrow::Cow;
use std::sync::Arc;

use crate::event::origin_of_line;
use crate::log::cursor::Selection;
use crate::log::summary::{OTHER, Summary};
use crate::query::count::Nodes;

/// Events of some names, or all, from some nodes of a fleet, or all.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    /// As JSON text without the quotes, in the spelling that lines have; sorted. None means all.
    names: Vec<Box<[u8]>>,
    nodes: Option<Nodes>,
}

/// What stands in a label between the name and the node. No name has it: lines spell it `\u0000`.
const BETWEEN: u8 = 0;

/// What events are told apart by: their name and, in the log of a fleet, their node.
pub(super) fn label<'l>(name: &'l [u8], line: &[u8]) -> Cow<'l, [u8]> {
    match origin_of_line(line) {
        None => Cow::Borrowed(name),
        Some((node, _)) => Cow::Owned([name, &[BETWEEN], node].concat()),
    }
}

impl Filter {
    /// Events of these names, as lines spell them; of all if there is none.
    pub fn of_spelt(mut names: Vec<Box<[u8]>>) -> Filter {
        names.sort_unstable();
        names.dedup();
        Filter { names, nodes: None }
    }

    /// Those of them that are from these nodes; from all if there are none.
    pub fn from_nodes(self, nodes: Option<Nodes>) -> Filter {
        Filter { nodes, ..self }
    }

    /// Events of these names; of all if there is none.
    #[cfg(test)]
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Filter {
        Filter::of_spelt(names.into_iter().map(crate::event::spelt).collect())
    }

    /// Whether it lets everything through.
    pub fn is_all(&self) -> bool {
        self.names.is_empty() && self.nodes.is_none()
    }

    /// Whether it wants events with that [`label`].
    pub(super) fn wants(&self, label: &[u8]) -> bool {
        if self.is_all() {
            return true;
        }
        let between = memchr::memchr(BETWEEN, label);
        let (name, node) = match between {
            Some(at) => (&label[..at], Some(&label[at + 1..])),
            None => (label, None),
        };
        self.wants_name(name)
            && self
                .nodes
                .as_ref()
                .is_none_or(|nodes| node.is_some_and(|node| nodes.has(node)))
    }

    fn wants_name(&self, name: &[u8]) -> bool {
        self.names.is_empty() || self.names.binary_search_by(|wanted| (**wanted).cmp(name)).is_ok()
    }

    /// Whether it wants any events with those labels.
    pub(super) fn wants_any(&self, labels: &[Box<[u8]>]) -> bool {
        match self.is_all() {
            true => !labels.is_empty(),
            false => labels.iter().any(|label| self.wants(label)),
        }
    }
}

/// Reads all lines of those files that may have a wanted one: so that who reads on can say how far it has come, and stop,
/// also where nothing is wanted.
pub(super) struct Passing(pub(super) Arc<Filter>);

impl Selection for Passing {
    fn asks_summaries(&self) -> bool {
        !self.0.is_all()
    }

    fn may_have(&self, summary: &Summary) -> bool {
        let mut names = summary.counts.iter().map(|counts| counts.name());
        // Under that name events are counted that had one too many.
        names.any(|name| name == OTHER || self.0.wants_name(name))
    }

    fn wants(&self, _: &[u8]) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Vec<Box<[u8]>> {
        let mut names: Vec<Box<[u8]>> = names.iter().map(|name| name.as_bytes().into()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn names_are_compared_as_lines_spell_them() {
        let filter = Filter::of(["view", "a\"b", "view", "é"]);
        assert_eq!(filter.names.len(), 3);
        for (name, is_wanted) in [
            ("view", true),
            (r#"a\"b"#, true),
            ("a\"b", false),
            ("é", true),
            ("vie", false),
        ] {
            assert_eq!(filter.wants(name.as_bytes()), is_wanted, "{name}");
        }
        assert!(filter.wants_any(&sorted(&["x", "view", "a"])));
        assert!(!filter.wants_any(&sorted(&["x", "views"])));
        assert!(!filter.wants_any(&[]));
    }

    #[test]
    fn nodes_are_told_apart_by_what_lines_say() {
        let of_node =
            |node: &str| format!(r#"{{"event":"view","user_agent":null,"node":"{node}","at":"1:1:9"}}"#);
        let nodes = || Some(Nodes::new(vec!["a".into(), "b".into()]));
        let (all, views) = (
            Filter::of([]).from_nodes(nodes()),
            Filter::of(["view"]).from_nodes(nodes()),
        );
        for (node, name, by_all, by_views) in [
            ("a", "view", true, true),
            ("b", "click", true, false),
            ("ab", "view", false, false),
        ] {
            let line = of_node(node);
            let label = label(name.as_bytes(), line.as_bytes());
            assert_eq!(
                (all.wants(&label), views.wants(&label)),
                (by_all, by_views),
                "{node} {name}"
            );
            assert!(Filter::of([name]).wants(&label));
        }
        let own = label(b"view", br#"{"event":"view","user_agent":null}"#);
        assert!(!all.wants(&own) && Filter::of(["view"]).wants(&own));
    }

    #[test]
    fn without_names_everything_is_wanted() {
        let all = Filter::of([]);
        assert!(all.is_all() && all.wants(b"x") && all.wants_any(&sorted(&["x"])));
        assert!(
            !all.wants_any(&[]),
            "where there is no event there is nothing to want"
        );
    }
}
