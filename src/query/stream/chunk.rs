//! A run of the log's lines as a subscriber is sent them: rendered once, and shared by all who want them.
//!
//! An event is three lines: `id: <position>`, where reading goes on behind it; `data: <the stored line>`; and an empty one.

use super::filter::{Filter, label};
use crate::event::facts_of_line;
use crate::log::cursor::{Line, Position};

/// A run of lines. Immutable: subscribers hold it while they copy out of it.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Where it begins.
    pub begin: Position,
    /// Where reading goes on behind it.
    pub end: Position,
    /// The number of its first event, where it is known.
    first_seq: Option<u64>,
    /// It has all events of its part of the log.
    is_complete: bool,
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// Labels, distinct, in the order of their first events, and how many events have each.
    names: Vec<(Box<[u8]>, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where reading goes on behind the event.
    next: Position,
    /// Where its text ends.
    text_end: u32,
    /// Which of the names it has.
    name: u32,
}

impl Chunk {
    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.text.capacity() + self.entries.len() * size_of::<Entry>() + size_of::<Chunk>()
    }

    /// How many events it has.
    pub fn events(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of text that `filter` wants, about: no event is much longer than others. 0 if there is none that it wants.
    pub fn bytes_wanted(&self, filter: &Filter) -> usize {
        let wanted = self.names.iter().filter(|(name, _)| filter.wants(name));
        let count: usize = wanted.map(|(_, count)| count).sum();
        (self.text.len() * count).div_ceil(self.events().max(1))
    }

    /// The labels that it has: names and, in the log of a fleet, nodes.
    pub fn names(&self) -> impl Iterator<Item = &Box<[u8]>> {
        self.names.iter().map(|(name, _)| name)
    }

    /// The number of the event behind it, for who had got to `from`, where the event with the number `seq` is next.
    pub fn next_seq(&self, from: Position, seq: Option<u64>) -> Option<u64> {
        if !self.is_complete {
            return None;
        }
        let counted = || Some(seq? + (self.events() - self.before(from)) as u64);
        let known = self.first_seq.map(|first| first + self.events() as u64);
        known.or_else(counted)
    }

    /// How many of its events lie before `from`.
    fn before(&self, from: Position) -> usize {
        match from <= self.begin {
            true => 0,
            false => self.entries.partition_point(|entry| entry.next <= from),
        }
    }

    /// Hands out the text of the events from `from` on that `filter` wants, in as few pieces as there are.
    pub fn each_piece(&self, from: Position, filter: &Filter, mut to: impl FnMut(&[u8])) {
        let skip = self.before(from);
        let begin_of = |entry: usize| match entry {
            0 => 0,
            _ => self.entries[entry - 1].text_end as usize,
        };
        if filter.is_all() {
            return to(&self.text[begin_of(skip)..]);
        }
        let is_wanted: Vec<bool> = self.names().map(|name| filter.wants(name)).collect();
        let mut run = None;
        for (number, entry) in self.entries.iter().enumerate().skip(skip) {
            match (is_wanted[entry.name as usize], run) {
                (true, None) => run = Some(begin_of(number)),
                (false, Some(begin)) => {
                    to(&self.text[begin..begin_of(number)]);
                    run = None;
                }
                _ => {}
            }
        }
        if let Some(begin) = run {
            to(&self.text[begin..]);
        }
    }
}

/// Appends a number in digits. The formatter of the standard library takes longer for a position than everything else does
/// for its event.
fn push_decimal(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[first..]);
}

/// Makes a [`Chunk`].
pub(super) struct Builder(Chunk);

impl Builder {
    /// An empty one, which begins at `begin`, where the event with the number `first_seq` is next, with room for `bytes`.
    pub fn new(begin: Position, first_seq: Option<u64>, bytes: usize) -> Builder {
        Builder(Chunk {
            begin,
            end: begin,
            first_seq,
            is_complete: true,
            text: Vec::with_capacity(bytes),
            entries: Vec::new(),
            names: Vec::new(),
        })
    }

    /// Bytes of text.
    pub fn bytes(&self) -> usize {
        self.0.text.len()
    }

    /// The number of the event behind it, if it is known.
    pub fn next_seq(&self) -> Option<u64> {
        self.0.next_seq(self.0.begin, None)
    }

    /// Adds a line if it is an event that `filter` wants.
    pub fn push(&mut self, line: &Line<'_>, filter: &Filter) {
        let chunk = &mut self.0;
        chunk.end = line.next;
        let Some(facts) = facts_of_line(line.bytes) else {
            return;
        };
        let label = label(&facts.name, line.bytes);
        if !filter.wants(&label) {
            chunk.is_complete = false;
            return;
        }
        let known = chunk.names.iter().position(|(name, _)| **name == *label);
        let name = known.unwrap_or_else(|| {
            chunk.names.push(((&*label).into(), 0));
            chunk.names.len() - 1
        });
        chunk.names[name].1 += 1;
        let text = &mut chunk.text;
        text.extend_from_slice(b"id: ");
        push_decimal(text, line.next.number);
        text.push(b':');
        push_decimal(text, line.next.offset);
        text.extend_from_slice(b"\ndata: ");
        let begin = text.len();
        text.extend_from_slice(line.bytes);
        // It would end the line for the client. In JSON it can only be white space, and in our lines it is not.
        if memchr::memchr(b'\r', line.bytes).is_some() {
            text[begin..]
                .iter_mut()
                .filter(|byte| **byte == b'\r')
                .for_each(|byte| *byte = b' ');
        }
        text.extend_from_slice(b"\n\n");
        chunk.entries.push(Entry {
            next: line.next,
            text_end: text.len() as u32,
            name: name as u32,
        });
    }

    /// It goes on to `end` with lines that are no events, or in files that have no wanted ones.
    pub fn pass(&mut self, end: Position) {
        self.0.end = end;
    }

    /// The chunk.
    pub fn finish(mut self) -> Chunk {
        // It may stay for a while, and one that ends early is mostly room.
        if self.0.text.len() < self.0.text.capacity() / 2 {
            self.0.text.shrink_to_fit();
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { number: 3, offset }
    }

    /// Lines of 10 bytes each from 100 on; the names tell which of them are no events.
    fn chunk(names: &[&str], filter: &Filter) -> Chunk {
        let mut builder = Builder::new(at(100), Some(7), 0);
        for (number, name) in names.iter().enumerate() {
            let begin = 100 + 10 * number as u64;
            let text = match *name {
                "torn" => r#"{"event":"torn","torn":true}"#.to_owned(),
                name => format!(
                    r#"{{"visitor_id":"visitor","event":"{name}","timestamp":"2026-11-22T12:00:00Z"}}"#
                ),
            };
            let line = Line {
                at: at(begin),
                next: at(begin + 10),
                bytes: text.as_bytes(),
            };
            builder.push(&line, filter);
        }
        builder.finish()
    }

    fn ids(chunk: &Chunk, from: Position, filter: &Filter) -> Vec<u64> {
        let mut text = Vec::new();
        chunk.each_piece(from, filter, |piece| text.extend_from_slice(piece));
        let text = String::from_utf8(text).unwrap();
        let events = text.split_terminator("\n\n").map(|event| {
            let (id, data) = event.split_once('\n').unwrap();
            assert!(
                data.starts_with("data: {\"visitor_id\":") && data.ends_with('}'),
                "{event}"
            );
            id.strip_prefix("id: 3:").unwrap().parse().unwrap()
        });
        events.collect()
    }

    #[test]
    fn each_event_comes_out_for_who_wants_it_from_where_he_is() {
        let all = Filter::of([]);
        let chunk = chunk(&["a", "b", "torn", "b", "a", "c"], &all);
        assert_eq!((chunk.begin, chunk.end, chunk.events()), (at(100), at(160), 5));
        for (filter, from, expected) in [
            (Filter::of([]), 0, &[110, 120, 140, 150, 160][..]),
            (Filter::of([]), 100, &[110, 120, 140, 150, 160]),
            (Filter::of([]), 120, &[140, 150, 160]),
            (Filter::of([]), 160, &[]),
            (Filter::of(["b"]), 100, &[120, 140]),
            (Filter::of(["b"]), 120, &[140]),
            (Filter::of(["a", "c"]), 110, &[150, 160]),
            (Filter::of(["torn", "d"]), 100, &[]),
        ] {
            assert_eq!(ids(&chunk, at(from), &filter), expected, "{filter:?} from {from}");
        }
        for (filter, has) in [
            (Filter::of([]), true),
            (Filter::of(["c", "d"]), true),
            (Filter::of(["torn", "d"]), false),
        ] {
            assert_eq!(chunk.bytes_wanted(&filter) > 0, has, "{filter:?}");
        }
    }

    #[test]
    fn the_number_of_the_next_event_is_known_where_all_are_counted() {
        let all = Filter::of([]);
        let known = chunk(&["a", "torn", "b"], &all);
        assert_eq!(known.next_seq(at(100), None), Some(9));
        let mut unknown = chunk(&["a", "torn", "b"], &all);
        unknown.first_seq = None;
        assert_eq!(unknown.next_seq(at(100), None), None);
        assert_eq!(unknown.next_seq(at(100), Some(50)), Some(52));
        assert_eq!(unknown.next_seq(at(110), Some(51)), Some(52));
        assert_eq!(
            chunk(&["a", "b"], &Filter::of(["a"])).next_seq(at(100), Some(7)),
            None
        );
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 7, 10, 40_960, 1_000_000_007, u64::MAX] {
            let mut text = b"x".to_vec();
            push_decimal(&mut text, number);
            assert_eq!(text, format!("x{number}").as_bytes());
        }
    }

    #[test]
    fn a_carriage_return_does_not_end_a_line() {
        let mut builder = Builder::new(at(0), None, 0);
        let line = Line {
            at: at(0),
            next: at(20),
            bytes: b"{\"event\":\"a\",\r\"timestamp\":1}\r",
        };
        builder.push(&line, &Filter::of([]));
        let chunk = builder.finish();
        assert_eq!(
            chunk.text,
            b"id: 3:20\ndata: {\"event\":\"a\", \"timestamp\":1} \n\n"
        );
    }
}
