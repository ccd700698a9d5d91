//! A subscriber's end of the stream: what his coroutine calls.

use std::fmt::Write;
use std::sync::Arc;

use super::Shared;
use super::filter::Filter;
use super::hub::Taken;
use crate::log::cursor::Position;

/// A place in the log from which somebody is sent what he wants. Given back when it is dropped.
///
/// The coroutine attends, and then, whenever it is woken, asks for its [`Subscription::turn`]. With what it is given it
/// goes to its socket, once, and says what came of it: [`Subscription::sent`], or [`Subscription::away`] and, when the peer
/// has read everything, [`Subscription::back`].
pub struct Subscription {
    shared: Arc<Shared>,
    id: u64,
    filter: Arc<Filter>,
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: to sleep until one is woken.
    None,
    /// To send what was handed out.
    Taken,
    /// The log cannot be read: to end, for that reason.
    Failed(String),
}

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, id: u64, filter: Arc<Filter>) -> Subscription {
        Subscription { shared, id, filter }
    }

    /// There is no such place as it was to begin at: it goes on at the log's end.
    pub(super) fn displace(&self) {
        let end = self.shared.view.end().at;
        self.shared.lock().displace(self.id, end);
    }

    /// Where it is: everything before has been handed out, or is not wanted.
    pub fn position(&self) -> Position {
        self.shared.lock().position(self.id)
    }

    /// The same, where that may be further than the last event that was handed out: for who does not want all.
    pub fn passed(&self) -> Option<Position> {
        (!self.filter.is_all()).then(|| self.position())
    }

    /// Says how to wake the coroutine, from any thread, now that it can be.
    pub fn attend(&self, wake: impl Fn() + Send + Sync + 'static) {
        let wake = Arc::new(wake);
        self.shared.change(|state| state.attend(self.id, wake));
    }

    /// Uses a turn, if it is one's own: hands out text to be sent.
    pub fn turn(&self, mut to: impl FnMut(&[u8])) -> Turn {
        let view = &self.shared.view;
        let (taken, job) = self.shared.change(|state| state.take(self.id, view));
        if let Some(job) = job {
            self.shared.jobs.push(job);
        }
        match taken {
            Taken::Nothing => return Turn::None,
            Taken::Chunks(chunks, from) => {
                for chunk in chunks {
                    chunk.each_piece(from, &self.filter, &mut to);
                }
            }
            Taken::Text(text) => to(&text),
            Taken::Gap(skipped, position) => {
                let mut text = format!("event: gap\nid: {position}\ndata: {{\"skipped\":");
                match skipped {
                    Some(count) => write!(text, "{count}"),
                    None => write!(text, "null"),
                }
                .expect("a string takes everything");
                text.push_str("}\n\n");
                to(text.as_bytes());
            }
            Taken::Failed(error) => return Turn::Failed(error),
        }
        Turn::Taken
    }

    /// The turn is over, and everything has been sent.
    pub fn sent(&self) {
        self.shared.change(|state| state.end_turn(self.id));
    }

    /// The peer has to read first: a turn that one has is over. Also without one.
    pub fn away(&self) {
        self.shared.change(|state| state.go_away(self.id));
    }

    /// The peer has read.
    pub fn back(&self) {
        self.shared.change(|state| state.come_back(self.id));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.change(|state| state.leave(self.id));
    }
}
