//! What an event is.
