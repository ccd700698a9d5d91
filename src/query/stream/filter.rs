//! Which events a subscriber wants.

use std::sync::Arc;

use crate::log::cursor::Selection;
use crate::log::summary::{OTHER, Summary};

/// Events of some names, or all.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    /// As JSON text without the quotes, in the spelling that lines have; sorted. None means all.
    names: Vec<Box<[u8]>>,
}

impl Filter {
    /// Events of these names, as lines spell them; of all if there is none.
    pub fn of_spelt(mut names: Vec<Box<[u8]>>) -> Filter {
        names.sort_unstable();
        names.dedup();
        Filter { names }
    }

    /// Events of these names; of all if there is none.
    #[cfg(test)]
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Filter {
        Filter::of_spelt(names.into_iter().map(crate::event::spelt).collect())
    }

    /// Whether it lets everything through.
    pub fn is_all(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether it wants events of that name.
    pub fn wants(&self, name: &[u8]) -> bool {
        self.is_all() || self.names.binary_search_by(|wanted| (**wanted).cmp(name)).is_ok()
    }

    /// Whether it wants any of the names in `sorted`.
    pub(super) fn wants_any(&self, sorted: &[Box<[u8]>]) -> bool {
        match self.is_all() {
            true => !sorted.is_empty(),
            false => self.names.iter().any(|name| sorted.binary_search(name).is_ok()),
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
        names.any(|name| name == OTHER || self.0.wants(name))
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
    fn without_names_everything_is_wanted() {
        let all = Filter::of([]);
        assert!(all.is_all() && all.wants(b"x") && all.wants_any(&sorted(&["x"])));
        assert!(
            !all.wants_any(&[]),
            "where there is no event there is nothing to want"
        );
    }
}
