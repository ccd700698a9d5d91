//! Events of a batch by name and minute, gathered before they are counted.
//!
//! Frames of one event each have the same few names again and again. A look through the few that this batch has had costs less than
//! to find the name in each of the maps of counts.
//!
//! Owner: the writer thread. Bounds: [`ENTRIES_MAX`] entries.

/// How many entries are looked through. Traffic has few names, and little of it is of another minute.
const ENTRIES_MAX: usize = 16;

/// What a batch has, as far as it is gathered.
#[derive(Default)]
pub(super) struct Gathered {
    /// The entries' names, one after the other.
    names: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    /// Where the name ends; it begins where the one before it ends.
    name_end: usize,
    minute: i64,
    count: u64,
}

impl Gathered {
    /// Adds `count` events. What is gathered goes to `each` first if there is no room: in the order in which names came.
    pub fn add(&mut self, name: &[u8], minute: i64, count: u64, each: impl FnMut(&[u8], i64, u64)) {
        let mut begin = 0;
        for entry in &mut self.entries {
            if entry.minute == minute && self.names[begin..entry.name_end] == *name {
                entry.count += count;
                return;
            }
            begin = entry.name_end;
        }
        if self.entries.len() == ENTRIES_MAX {
            self.drain(each);
        }
        self.names.extend_from_slice(name);
        self.entries.push(Entry {
            name_end: self.names.len(),
            minute,
            count,
        });
    }

    /// Hands out what is gathered, and is empty then.
    pub fn drain(&mut self, mut each: impl FnMut(&[u8], i64, u64)) {
        let mut begin = 0;
        for entry in self.entries.drain(..) {
            each(&self.names[begin..entry.name_end], entry.minute, entry.count);
            begin = entry.name_end;
        }
        self.names.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ones_are_added_up_and_all_come_out_in_the_order_of_their_first_ones() {
        let mut gathered = Gathered::default();
        let mut out = Vec::new();
        let mut each = |name: &[u8], minute, count| out.push((name.to_vec(), minute, count));
        for (name, minute, count) in [
            ("ab", 1, 1),
            ("a", 1, 2),
            ("ab", 2, 3),
            ("b", 1, 4),
            ("ab", 1, 5),
            ("", 1, 6),
        ] {
            gathered.add(name.as_bytes(), minute, count, &mut each);
        }
        gathered.drain(&mut each);
        gathered.drain(&mut each);
        let expected = [("ab", 1, 6), ("a", 1, 2), ("ab", 2, 3), ("b", 1, 4), ("", 1, 6)];
        assert_eq!(
            out,
            expected.map(|(name, minute, count)| (name.as_bytes().to_vec(), minute, count))
        );
    }

    #[test]
    fn more_than_there_is_room_for_come_out_too_in_their_order() {
        let mut gathered = Gathered::default();
        let mut out = Vec::new();
        let mut each = |_: &[u8], minute, count| out.push((minute, count));
        let all = 3 * ENTRIES_MAX as i64 / 2;
        for minute in 0..all {
            gathered.add(b"name", minute, 1, &mut each);
            gathered.add(b"name", minute, 1, &mut each);
            assert!(gathered.entries.len() <= ENTRIES_MAX);
        }
        gathered.drain(&mut each);
        assert_eq!(out, (0..all).map(|minute| (minute, 2)).collect::<Vec<_>>());
    }
}
