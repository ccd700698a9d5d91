//! Foreign text on its way to people: names and messages are anybody's, and a terminal obeys what is written to it.

use std::borrow::Cow;
use std::fmt::Write;

/// The text without anything that a terminal would obey: control characters, and those that turn the direction of writing,
/// are spelled out.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_obeyed = |char: char| {
        char.is_control()
            || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_obeyed) {
        return text.into();
    }
    let mut spelled = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if is_obeyed(char) {
            write!(spelled, "\\u{:04x}", u32::from(char)).expect("a string takes everything");
        } else {
            spelled.push(char);
        }
    }
    spelled.into()
}
