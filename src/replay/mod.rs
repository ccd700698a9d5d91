//! Replay: the lines of existing JSONL files, posted to a server as batches.
//!
//! ```text
//! files → reader thread (source: lines → batches) → coordinator (pace, state) → sender threads → server
//!                                                        ↑ outcomes ─────────────────┘
//! ```
//!
//! Purpose: to import history, and to give a server yesterday's traffic again, at full speed or at the pace of the events' own
//! time stamps.
//!
//! What is promised:
//! - Each line is sent once, stored or refused, and what was refused is told with its reason ([`rejected`]). The server says
//!   which lines it refuses; nothing is judged here but what cannot be put into a batch.
//! - A replay that was cut off goes on where it stopped ([`state`]): before a batch is sent, it is noted that it is under
//!   way, and the next note takes it off. So after a kill it is known which batches may or may not be stored, and no others.
//! - A batch that was sent and whose answer was never seen is *in doubt*: it may be stored. Nobody can tell from here, so
//!   [`InDoubt`] has the user say what is to be done, and the summary counts it.
//! - The order of the lines is kept with one connection. With more, batches overtake each other.
//!
//! Owners: the coordinator is the caller's thread and the only one that touches state, counts and the side file. Bounds: a
//! batch is at most [`BATCH_BYTES_MAX`] and one line; there is one for each connection, one at hand, two read ahead.
//! When the server is slow or refuses for a while, nothing is read; when it is away, senders try again for a bounded time.

pub mod pace;
pub mod rejected;
pub mod sender;
pub mod source;
pub mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender as Channel, bounded, never, unbounded};
use crossbeam::select;

use pace::Speed;
use rejected::{RejectedFile, RejectedLine};
use sender::{Answered, Outcome, Sender, Target};
use source::{Batch, Input, ReadError, Source};
use state::{Counts, State, StateError, StateFile};

/// Most bytes of lines in a batch. A batch that long costs a server as little for each event as a longer one, and is
/// stored by it as a whole or not at all.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Most connections.
pub const CONNECTIONS_MAX: usize = 64;
/// Batches read ahead of the one at hand.
const READ_AHEAD: usize = 2;
/// Time between two looks at whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// What is done about a batch of which it is not known whether it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubt {
    /// Nothing: the replay ends, and the next call has to say.
    Stop,
    /// It is sent again: nothing is missing, and it may be stored twice.
    Send,
    /// It is not sent again: nothing is twice, and it may be missing.
    Skip,
}

/// A replay, as it was asked for.
pub struct Options {
    /// What is read, in this order.
    pub inputs: Vec<Input>,
    /// Where it goes.
    pub target: Target,
    /// Connections, at most [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Most lines in a batch.
    pub batch_lines: usize,
    /// The recorded pace, faster or slower; `None` is full speed.
    pub speed: Option<Speed>,
    /// Where it is noted how far it has come; `None`: nowhere.
    pub state: Option<PathBuf>,
    /// Where refused lines go; `None`: nowhere, they are only counted.
    pub rejected: Option<PathBuf>,
}

/// How a replay ended.
pub struct Summary {
    /// Of all calls that shared the state, this one included.
    pub counts: Counts,
    /// What this call alone has counted.
    pub this_call: Counts,
    /// Whether an earlier call had begun.
    pub is_resumed: bool,
    /// Why it did not come to its end.
    pub error: Option<String>,
    /// How far the recorded pace was missed at the worst.
    pub late_max: Duration,
    /// How long it took.
    pub elapsed: Duration,
}

impl Summary {
    /// Whether all that was read is stored.
    pub fn is_all_stored(&self) -> bool {
        self.error.is_none()
            && self.counts.refused == 0
            && self.counts.skipped == 0
            && self.counts.below_level == 0
    }
}

/// How far it has come, for who shows it: bytes of the inputs as they are on the disk, and counts.
pub type OnProgress<'a> = dyn FnMut(u64, &Counts) + 'a;

/// Replays until the end of the inputs, a failure, or `stop`.
///
/// # Errors
/// What keeps it from beginning: a state that is not of this replay, is in use, or has a batch in doubt.
pub fn run(
    options: Options,
    stop: Arc<AtomicBool>,
    progress: &mut OnProgress<'_>,
) -> Result<Summary, StateError> {
    let began = Instant::now();
    let url = options.target.url.to_string();
    let opened = match &options.state {
        Some(path) => Some(StateFile::open(path)?),
        None => None,
    };
    let (file, found) = opened.unzip();
    let found = found.flatten();
    let is_resumed = found.is_some();
    let mut state = found.unwrap_or_else(|| State::new(&url, &options.inputs));
    let plan = state.resume(&url, &options.inputs, options.target.in_doubt)?;
    let begin = state.counts.clone();

    let (jobs, taken) = bounded(options.connections);
    let (outcomes, told) = unbounded();
    let target = Arc::new(options.target);
    let senders = (0..options.connections)
        .map(|_| Sender::new(Arc::clone(&target), Arc::clone(&stop)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(StateError::Target)?;
    for sender in senders {
        let (taken, outcomes) = (taken.clone(), outcomes.clone());
        thread::spawn(move || serve(&sender, &taken, &outcomes));
    }
    let source = Source::new(options.inputs, plan, options.batch_lines, options.speed);
    let mut coordinator = Coordinator {
        in_doubt: target.in_doubt,
        state,
        file,
        rejected: RejectedFile::new(options.rejected),
        jobs,
        told,
        batches: read_ahead(source),
        at_hand: None,
        at_end: false,
        under_way: 0,
        connections: options.connections,
        is_saved: true,
        error: None,
        paced_from: None,
        late_max: Duration::ZERO,
        stop,
    };
    coordinator.run(progress);
    Ok(coordinator.summary(&begin, is_resumed, began.elapsed()))
}

/// A sender's thread: a batch, its outcome, the next batch.
fn serve(sender: &Sender, jobs: &Receiver<Batch>, outcomes: &Channel<(Batch, Outcome)>) {
    for batch in jobs {
        let outcome = sender.send(&batch);
        if outcomes.send((batch, outcome)).is_err() {
            return;
        }
    }
}

/// Reads on a thread of its own, which nobody joins: it may be waiting for standard input for ever.
fn read_ahead(mut source: Source) -> Receiver<Result<Batch, ReadError>> {
    let (batches, read) = bounded(READ_AHEAD);
    thread::spawn(move || {
        while let Some(batch) = source.next_batch().transpose() {
            let is_last = batch.is_err();
            if batches.send(batch).is_err() || is_last {
                return;
            }
        }
    });
    read
}

struct Coordinator {
    in_doubt: InDoubt,
    state: State,
    file: Option<StateFile>,
    rejected: RejectedFile,
    jobs: Channel<Batch>,
    told: Receiver<(Batch, Outcome)>,
    batches: Receiver<Result<Batch, ReadError>>,
    /// The next to be sent.
    at_hand: Option<Batch>,
    at_end: bool,
    /// Batches with the senders.
    under_way: usize,
    connections: usize,
    /// Whether the state on the disk says all that is known.
    is_saved: bool,
    /// Why nothing more is handed out.
    error: Option<String>,
    /// When the first event of the recorded pace was due.
    paced_from: Option<Instant>,
    late_max: Duration,
    stop: Arc<AtomicBool>,
}

impl Coordinator {
    fn run(&mut self, progress: &mut OnProgress<'_>) {
        let nothing = never();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                self.fail("it was interrupted".into());
            }
            let wait = self.time_to_wait();
            if self.error.is_none()
                && self.under_way < self.connections
                && let Some(batch) = self.at_hand.take_if(|_| wait.is_zero())
            {
                self.hand_out(batch, progress);
                continue;
            }
            let is_over = self.error.is_some() || self.at_end && self.at_hand.is_none();
            if is_over && self.under_way == 0 {
                break;
            }
            // Nothing can be handed out at the moment, so there is time.
            self.save();
            let batches = match is_over || self.at_hand.is_some() || self.at_end {
                true => &nothing,
                false => &self.batches,
            };
            select! {
                recv(self.told) -> told => {
                    let (batch, outcome) = told.expect("senders live as long as there are jobs for them");
                    self.under_way -= 1;
                    self.settle(&batch, outcome);
                    progress(batch.raw_bytes, &self.state.counts);
                }
                recv(batches) -> batch => match batch {
                    Ok(Ok(batch)) => self.at_hand = Some(batch),
                    Ok(Err(error)) => self.fail(error.to_string()),
                    Err(_) => self.at_end = true,
                },
                default(if wait.is_zero() { TICK } else { wait.min(TICK) }) => {}
            }
        }
        self.save();
        if let Some(file) = &self.file
            && let Err(error) = file.sync()
        {
            self.fail(error.to_string());
        }
    }

    /// How long the batch at hand has to wait for its time.
    fn time_to_wait(&mut self) -> Duration {
        let Some(due) = self.at_hand.as_ref().and_then(|batch| batch.due) else {
            return Duration::ZERO;
        };
        let from = *self.paced_from.get_or_insert_with(Instant::now);
        due.saturating_sub(from.elapsed())
    }

    /// Notes that the batch is under way and gives it to a sender.
    fn hand_out(&mut self, batch: Batch, progress: &mut OnProgress<'_>) {
        self.state.begin(batch.span.clone());
        self.is_saved = false;
        if batch.lines.is_empty() {
            // Nothing but blank lines and such.
            self.settle(&batch, Outcome::Answered(Answered::default()));
            return progress(batch.raw_bytes, &self.state.counts);
        }
        self.save();
        if self.error.is_some() {
            self.not_sent(&batch);
            return;
        }
        if let (Some(due), Some(from)) = (batch.due, self.paced_from) {
            self.late_max = self.late_max.max(from.elapsed().saturating_sub(due));
        }
        self.under_way += 1;
        self.jobs
            .send(batch)
            .expect("senders live as long as there are jobs for them");
    }

    /// Takes in what became of a batch.
    fn settle(&mut self, batch: &Batch, outcome: Outcome) {
        self.is_saved = false;
        match outcome {
            Outcome::Answered(answered) => {
                let mut refused: Vec<RejectedLine<'_>> =
                    batch.refused_here.iter().map(RejectedLine::of).collect();
                refused.extend(
                    answered
                        .refused
                        .iter()
                        .map(|(at, reason)| batch.rejected(*at, reason)),
                );
                if let Err(error) = self.rejected.add(&refused) {
                    self.fail(error);
                }
                let again = batch.is_again || answered.is_sent_again;
                self.state.end(
                    &batch.span,
                    &Counts {
                        lines: batch.lines.len() as u64
                            + batch.blank
                            + batch.torn
                            + batch.refused_here.len() as u64,
                        stored: answered.stored,
                        refused: refused.len() as u64,
                        blank: batch.blank,
                        torn: batch.torn,
                        maybe_twice: if again { answered.stored } else { 0 },
                        skipped: 0,
                        below_level: answered.below_level,
                    },
                );
            }
            Outcome::InDoubt(_) if self.in_doubt == InDoubt::Skip => {
                self.state.skip(&batch.span);
            }
            Outcome::InDoubt(why) => self.fail(format!("{why}; {} may be stored or not", batch.place())),
            Outcome::NotStored(why) => {
                let not_stored = self.not_sent(batch);
                self.fail(format!("{why}; {} {not_stored}", batch.place()));
            }
        }
    }

    /// Notes that this call has not stored the batch, and says what is known of it. An earlier call may have.
    fn not_sent(&mut self, batch: &Batch) -> &'static str {
        if batch.is_again {
            return "may be stored or not, from an earlier call";
        }
        self.state.not_sent(&batch.span);
        "are not stored"
    }

    /// The first failure is the one that is told.
    fn fail(&mut self, why: String) {
        self.error.get_or_insert(why);
    }

    fn save(&mut self) {
        if !self.is_saved
            && let Some(file) = &mut self.file
            && let Err(error) = file.save(&self.state)
        {
            self.error.get_or_insert(error.to_string());
        }
        self.is_saved = true;
    }

    fn summary(self, begin: &Counts, is_resumed: bool, elapsed: Duration) -> Summary {
        Summary {
            this_call: self.state.counts.since(begin),
            counts: self.state.counts,
            is_resumed,
            error: self.error,
            late_max: self.late_max,
            elapsed,
        }
    }
}
