//! Generated events: of the kinds, sizes and spelling that web pages send, and each known again in the log.
//!
//! An event is a function of the seed and its number, but for the run's id and its time:
//!
//! ```text
//! {"visitor_id":"v-1f0c5d2e","event":"page_view","timestamp":"2026-11-22T12:00:00.123Z",
//!  "metadata":{"run":"5be1c0ffee42","n":"000000000017","path":"/products/42",…},"user_agent":"Mozilla/5.0 …"}
//! ```
//!
//! [`KINDS_COUNT`] texts are made before the load begins. A worker copies the one whose turn it is and patches visitor, time and
//! number, which are in fixed places: that costs some 30 ns, a tenth of what the server takes to read it. Visitors are 50,000, of whom
//! some come more often.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use memchr::memmem::Finder;
use speedate::DateTime;

/// Texts that are told apart. Together they fit into a core's second cache, as a real client's would.
const KINDS_COUNT: usize = 256;
/// Visitors that there are.
const VISITORS: u32 = 50_000;
/// Digits of a number: a million events a second for eleven days.
const NUMBER_DIGITS: usize = 12;
/// Characters of a visitor behind `v-`.
const VISITOR_DIGITS: usize = 8;
/// Characters of a time.
const STAMP_BYTES: usize = 24;
/// Numbers are below this.
pub const NUMBER_END: u64 = 1_000_000_000_000;

const BEFORE_VISITOR: &str = r#"{"visitor_id":"v-"#;

/// Names and how many of a hundred events have them.
const NAMES: [(&str, u32); 8] = [
    ("page_view", 46),
    ("link_click", 19),
    ("scroll", 14),
    ("search", 8),
    ("add_to_cart", 5),
    ("video_progress", 4),
    ("form_submit", 3),
    ("purchase", 1),
];

const AGENTS: [&str; 5] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
];

/// What marks the events of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The run's id: twelve hexadecimal digits.
    pub run: String,
    /// The seed that visitors are made of.
    pub seed: u64,
}

impl Marks {
    /// Those of a new run: the id is of the clock, since two runs with one seed are two runs.
    pub fn new(seed: u64) -> Marks {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos() as u64);
        let id = mix(nanos ^ (u64::from(std::process::id()) << 48)) >> 16;
        Marks {
            run: format!("{id:012x}"),
            seed,
        }
    }
}

/// An event's text, with places for what differs.
#[derive(Clone, Debug)]
pub struct Text {
    /// The event, with zeros in those places.
    pub bytes: Vec<u8>,
    stamp: usize,
    number: usize,
}

/// The texts of a run.
#[derive(Clone, Debug)]
pub struct Generator {
    texts: Vec<Text>,
    seed: u64,
}

impl Generator {
    /// Makes the texts.
    pub fn new(marks: &Marks) -> Generator {
        let mut rng = Rng::with_seed(marks.seed);
        Generator {
            texts: (0..KINDS_COUNT).map(|_| Text::new(marks, &mut rng)).collect(),
            seed: marks.seed,
        }
    }

    /// One of them.
    pub fn text(&self, index: usize) -> &Text {
        &self.texts[index]
    }

    /// Which text the event of that number has, and its visitor.
    #[inline]
    pub fn draw(&self, number: u64) -> (usize, u32) {
        let drawn = mix(self.seed ^ number);
        (drawn as usize % self.texts.len(), visitor(drawn))
    }
}

impl Text {
    fn new(marks: &Marks, rng: &mut Rng) -> Text {
        let name = name(rng.u32(0..100));
        let (zeros, no_time, no_visitor) = (
            "0".repeat(NUMBER_DIGITS),
            "0".repeat(STAMP_BYTES),
            "0".repeat(VISITOR_DIGITS),
        );
        let run = &marks.run;
        let details = details(name, rng);
        let agent = AGENTS[rng.usize(0..AGENTS.len())];
        let text = format!(
            r#"{BEFORE_VISITOR}{no_visitor}","event":"{name}","timestamp":"{no_time}","metadata":{{"run":"{run}","n":"{zeros}",{details}}},"user_agent":"{agent}"}}"#
        );
        let behind = |what: &str| text.find(what).expect("it is in the text") + what.len();
        Text {
            stamp: behind(r#""timestamp":""#),
            number: behind(r#","n":""#),
            bytes: text.into_bytes(),
        }
    }

    /// Writes what differs into a copy of the text.
    #[inline]
    pub fn patch(&self, copy: &mut [u8], number: u64, visitor: u32, stamp: &[u8; STAMP_BYTES]) {
        let begin = BEFORE_VISITOR.len();
        copy[begin..begin + VISITOR_DIGITS].copy_from_slice(&hex(visitor));
        copy[self.stamp..self.stamp + STAMP_BYTES].copy_from_slice(stamp);
        copy[self.number..self.number + NUMBER_DIGITS].copy_from_slice(&decimal(number));
    }
}

fn name(drawn: u32) -> &'static str {
    let mut sum = 0;
    let found = NAMES.iter().find(|(_, share)| {
        sum += share;
        drawn < sum
    });
    found.expect("the shares are a hundred together").0
}

/// The members of the metadata behind the marks.
fn details(name: &str, rng: &mut Rng) -> String {
    let product = rng.u32(1..2_000);
    let place = match rng.u32(0..4) {
        0 => "/".to_owned(),
        1 => format!("/category/{}", rng.u32(1..40)),
        2 => format!(
            "/blog/2026/{:02}/how-we-measure-{}",
            rng.u32(1..13),
            rng.u32(1..500)
        ),
        _ => format!("/products/{product}"),
    };
    let own = match name {
        "page_view" => format!(
            r#""referrer":"https://www.example.com/search","title":"Page {product}","load_ms":{}"#,
            rng.u32(80..4_000)
        ),
        "link_click" => format!(
            r#""href":"/products/{product}","text":"Read more","x":{},"y":{}"#,
            rng.u32(0..1_920),
            rng.u32(0..6_000)
        ),
        "scroll" => format!(r#""depth":{}"#, rng.u32(1..101)),
        "search" => format!(
            r#""query":"größe {} schwarz","results":{}"#,
            rng.u32(34..50),
            rng.u32(0..400)
        ),
        "add_to_cart" => format!(
            r#""product":{product},"quantity":{},"price":{}.{:02}"#,
            rng.u32(1..4),
            rng.u32(1..300),
            rng.u32(0..100)
        ),
        "video_progress" => format!(
            r#""video":"v{product}","second":{},"muted":{}"#,
            rng.u32(0..3_600),
            rng.bool()
        ),
        "form_submit" => format!(
            r#""form":"newsletter","fields":["email","name"],"valid":{}"#,
            rng.bool()
        ),
        _ => format!(
            r#""order":"{:010}","total":{}.{:02},"currency":"EUR","items":[{{"product":{product},"quantity":1}},{{"product":{},"quantity":2}}]"#,
            rng.u32(..),
            rng.u32(5..900),
            rng.u32(0..100),
            rng.u32(1..2_000)
        ),
    };
    format!(
        r#""path":"{place}",{own},"experiment":"{}""#,
        if rng.bool() { "a" } else { "b" }
    )
}

/// Scatters bits (the last step of splitmix64).
#[inline]
fn mix(value: u64) -> u64 {
    let mut bits = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The lesser of two draws, so that some come more often; scattered, so that ids look like ids.
#[inline]
fn visitor(drawn: u64) -> u32 {
    let below = |bits: u64| (((bits & 0xFFFF_FFFF) * u64::from(VISITORS)) >> 32) as u32;
    below(drawn >> 32)
        .min(below(drawn >> 8))
        .wrapping_mul(0x9E37_79B1)
}

#[inline]
fn hex(value: u32) -> [u8; VISITOR_DIGITS] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut text = [0; VISITOR_DIGITS];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[((value >> (28 - 4 * at)) & 15) as usize];
    }
    text
}

#[inline]
fn decimal(value: u64) -> [u8; NUMBER_DIGITS] {
    debug_assert!(value < NUMBER_END);
    let mut text = [b'0'; NUMBER_DIGITS];
    // Two halves of 32 bits: dividing those is cheaper, and they do not wait for each other.
    for (half, digits) in [value / 1_000_000, value % 1_000_000]
        .into_iter()
        .zip(text.chunks_exact_mut(6))
    {
        let mut rest = half as u32;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
    text
}

/// The time as events have it, in milliseconds; made anew only when it has changed.
#[derive(Debug)]
pub struct Clock {
    millis: u64,
    text: [u8; STAMP_BYTES],
}

impl Clock {
    /// A clock that has not been looked at.
    pub fn new() -> Clock {
        Clock {
            millis: u64::MAX,
            text: [b'0'; STAMP_BYTES],
        }
    }

    /// The text of a time since the Unix epoch.
    #[inline]
    pub fn text(&mut self, since_epoch: Duration) -> &[u8; STAMP_BYTES] {
        let millis = since_epoch.as_millis() as u64;
        if millis != self.millis {
            self.set(millis);
        }
        &self.text
    }

    #[cold]
    fn set(&mut self, millis: u64) {
        self.millis = millis;
        let time = DateTime::from_timestamp((millis / 1_000) as i64, 0).map(|time| time.to_string());
        // `2026-11-22T12:00:00`, and perhaps a zone.
        if let Some(text) = time.ok().as_ref().and_then(|text| text.as_bytes().get(..19)) {
            self.text[..19].copy_from_slice(text);
        }
        self.text[19..].copy_from_slice(format!(".{:03}Z", millis % 1_000).as_bytes());
    }
}

/// What a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not of this run.
    Foreign,
    /// The event of that number.
    Event(u64),
    /// Of this run, and not what was sent.
    Damaged,
}

/// Knows events of a run again.
pub struct Recognizer {
    marks: Marks,
    mark: Finder<'static>,
    visitor: Finder<'static>,
}

impl Recognizer {
    /// Of events with these marks.
    pub fn new(marks: &Marks) -> Recognizer {
        let mark = format!(r#""metadata":{{"run":"{}","n":""#, marks.run);
        Recognizer {
            marks: marks.clone(),
            mark: Finder::new(&mark).into_owned(),
            visitor: Finder::new(r#""visitor_id":"v-"#).into_owned(),
        }
    }

    /// What a line is. One that says another visitor than its number has was put together from two.
    pub fn see(&self, line: &[u8]) -> Seen {
        let Some(begin) = self.mark.find(line) else {
            return Seen::Foreign;
        };
        let number = place(line, begin + self.mark.needle().len(), NUMBER_DIGITS);
        let number = number.filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let number = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let said = self.visitor.find(line);
        let said = said.and_then(|at| place(line, at + self.visitor.needle().len(), VISITOR_DIGITS));
        match (number, said) {
            (Some(number), Some(said)) if said == hex(visitor(mix(self.marks.seed ^ number))) => {
                Seen::Event(number)
            }
            _ => Seen::Damaged,
        }
    }
}

fn place(line: &[u8], begin: usize, size: usize) -> Option<&[u8]> {
    let range: Range<usize> = begin..begin + size;
    (line.get(begin + size) == Some(&b'"')).then(|| &line[range])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn marks(seed: u64) -> Marks {
        Marks {
            run: "00c0ffee0042".into(),
            seed,
        }
    }

    fn event(generator: &Generator, number: u64) -> String {
        let (index, visitor) = generator.draw(number);
        let text = generator.text(index);
        let mut copy = text.bytes.clone();
        text.patch(&mut copy, number, visitor, b"2026-11-22T12:00:00.123Z");
        String::from_utf8(copy).unwrap()
    }

    #[test]
    fn events_are_what_the_server_takes_and_are_known_again() {
        let generator = Generator::new(&marks(7));
        let recognizer = Recognizer::new(&marks(7));
        let mut names = HashSet::new();
        for number in (0..2_000).chain([NUMBER_END - 1]) {
            let text = event(&generator, number);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["metadata"]["n"], format!("{number:012}"));
            assert_eq!(value["timestamp"], "2026-11-22T12:00:00.123Z");
            names.insert(value["event"].as_str().unwrap().to_owned());
            assert_eq!(recognizer.see(text.as_bytes()), Seen::Event(number));
            let numbered = text.replacen('{', r#"{"seq":17,"#, 1);
            assert_eq!(recognizer.see(numbered.as_bytes()), Seen::Event(number));
        }
        assert!(names.len() >= 6, "{names:?}");
    }

    #[test]
    fn the_same_seed_makes_the_same_events_and_another_one_does_not() {
        let [first, same, other] = [7, 7, 8].map(|seed| Generator::new(&marks(seed)));
        let texts = |generator| {
            (0..500)
                .map(|number| event(generator, number))
                .collect::<Vec<_>>()
        };
        assert_eq!(texts(&first), texts(&same));
        assert_ne!(texts(&first), texts(&other));
    }

    #[test]
    fn a_line_of_another_run_is_foreign_and_one_of_two_events_is_damaged() {
        let generator = Generator::new(&marks(7));
        let other = Marks {
            run: "00c0ffee0043".into(),
            seed: 7,
        };
        let [one, two] = [1, 2].map(|number| event(&generator, number));
        assert_eq!(Recognizer::new(&other).see(one.as_bytes()), Seen::Foreign);
        let glued = [&one[..40], &two[40..]].concat();
        let recognizer = Recognizer::new(&marks(7));
        assert_eq!(recognizer.see(glued.as_bytes()), Seen::Damaged);
        let cut = &one[..one.find(r#""n":"00000"#).unwrap() + 9];
        assert_eq!(recognizer.see(cut.as_bytes()), Seen::Damaged);
    }

    #[test]
    fn a_clock_writes_milliseconds() {
        let mut clock = Clock::new();
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_348_800_007, "2026-11-22T12:00:00.007Z"),
            (1_795_348_800_007, "2026-11-22T12:00:00.007Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
        ] {
            let shown = clock.text(Duration::from_millis(millis));
            assert_eq!(std::str::from_utf8(shown), Ok(text));
        }
    }
}
