//! The members of an event: what they are called, and what the texts among them may be.

/// Code points of a visitor id and of an event name, after trimming.
pub(super) const VISITOR_ID_CHARS: (usize, usize) = (6, 64);
pub(super) const NAME_CHARS: (usize, usize) = (1, 64);

/// What a member's name means.
#[derive(Clone, Copy)]
pub(super) enum Member {
    VisitorId,
    Event,
    Timestamp,
    Metadata,
    UserAgent,
    /// Nothing: it is ignored.
    Other,
}

impl Member {
    /// Told apart by length first: then each comparison is of a known size, one or two words.
    #[inline]
    pub(super) fn named(name: &[u8]) -> Member {
        match name.len() {
            5 if name == b"event" => Member::Event,
            8 if name == b"metadata" => Member::Metadata,
            9 if name == b"timestamp" => Member::Timestamp,
            10 if name == b"visitor_id" => Member::VisitorId,
            10 if name == b"user_agent" => Member::UserAgent,
            _ => Member::Other,
        }
    }
}

/// `text` trimmed, if it has `min..=max` code points then.
#[inline]
pub(super) fn bounded(text: &str, (min, max): (usize, usize)) -> Option<&str> {
    let graphic = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    let bytes = text.as_bytes();
    let text = if graphic(bytes.first()) && graphic(bytes.last()) {
        text
    } else {
        text.trim()
    };
    // Code points are counted only where bytes do not decide: of ASCII there are as many, and of other
    // texts at least a quarter.
    let bytes = text.len();
    let fits = bytes >= min
        && ((bytes <= max && (bytes >= 4 * min || text.is_ascii()))
            || (min..=max).contains(&text.chars().count()));
    fits.then_some(text)
}
