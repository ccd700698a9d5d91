//! How far a replay has come, on the disk, so that a later call goes on from there.
//!
//! The state is one small JSON file, replaced as a whole (written aside, renamed) before each batch is sent. It names the last
//! batch that was handed out and those of which no answer is known yet. So after a kill of this process:
//! - what is before the last batch and not named as open is settled;
//! - what is open and was with a sender is in doubt, and nothing else is;
//! - what is behind the last batch was not sent.
//!
//! It is not synced before each batch: after a power cut of the machine that replays, the state may be older than what
//! was sent. A batch is remembered with the checksum of its lines; a file that is not what it was is noticed.
//!
//! The file that is the state is locked (`flock`) while a replay has it, so that two of them do not send the same. Owner: the
//! coordinator.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::InDoubt;
use super::source::{Input, Planned};

/// Of the file's format.
const VERSION: u32 = 1;

/// Whole lines of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The number of the input, from 0.
    pub file: usize,
    /// The number of the first line, from 1.
    pub line: u64,
    /// Where it begins, in bytes, unpacked.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// CRC-32C of its bytes.
    pub crc: u32,
    /// Lines of it that are sent.
    pub events: u64,
    /// All its lines.
    pub lines: u64,
}

/// A batch that was handed out and is not settled.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    span: Span,
    /// Whether it may be stored.
    in_doubt: bool,
}

/// What became of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Lines that are settled, of whatever kind.
    pub lines: u64,
    /// Events that the server has acknowledged.
    pub stored: u64,
    /// Lines that were refused.
    pub refused: u64,
    /// Blank lines, not sent.
    pub blank: u64,
    /// Lines marked `"torn":true`, which are no events, not sent.
    pub torn: u64,
    /// Of those stored: how many were sent again after an answer that was never seen, and may be there twice.
    pub maybe_twice: u64,
    /// Events in doubt that were not sent again, and may be missing.
    pub skipped: u64,
    /// Of those stored: how many the server did not bring to the level asked for. (Which of them it refused, such an answer does
    /// not say.)
    pub below_level: u64,
}

impl Counts {
    fn each(&mut self, other: &Counts, change: impl Fn(&mut u64, u64)) {
        let ours = [
            &mut self.lines,
            &mut self.stored,
            &mut self.refused,
            &mut self.blank,
            &mut self.torn,
            &mut self.maybe_twice,
            &mut self.skipped,
            &mut self.below_level,
        ];
        let theirs = [
            other.lines,
            other.stored,
            other.refused,
            other.blank,
            other.torn,
            other.maybe_twice,
            other.skipped,
            other.below_level,
        ];
        for (our, their) in ours.into_iter().zip(theirs) {
            change(our, their);
        }
    }

    /// What was added since it was `begin`.
    pub fn since(&self, begin: &Counts) -> Counts {
        let mut counts = self.clone();
        counts.each(begin, |now, before| *now -= before);
        counts
    }
}

/// How far it has come.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    version: u32,
    url: String,
    files: Vec<String>,
    /// The batch that was handed out last.
    last: Option<Span>,
    /// Those that are not settled, in the order of the lines.
    open: Vec<Open>,
    /// What became of the others.
    pub counts: Counts,
}

/// Why a replay cannot begin.
#[derive(Debug)]
pub enum StateError {
    /// The state cannot be read or written.
    Io {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    InUse(PathBuf),
    /// The file is something else.
    NotAState(PathBuf),
    /// It is the state of a replay of other files, or to another server.
    OfAnother(String),
    /// A batch is in doubt, and nobody has said what to do.
    InDoubt(String),
    /// The target cannot be used.
    Target(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Io { path, source } => write!(f, "the state {}: {source}", path.display()),
            StateError::InUse(path) => write!(f, "another replay has the state {} in use", path.display()),
            StateError::NotAState(path) => write!(f, "{} is not the state of a replay", path.display()),
            StateError::OfAnother(what) => write!(
                f,
                "the state is of another replay: {what}; name the same files in the same order (more may follow) and the same URL, \
                 or another --state"
            ),
            StateError::InDoubt(what) => write!(
                f,
                "{what} may be stored or not: an earlier call ended before it saw the answer; look at the server, then \
                 say --in-doubt send (they may be there twice) or --in-doubt skip (they may be missing)"
            ),
            StateError::Target(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StateError {}

impl State {
    /// Nothing is done yet.
    pub fn new(url: &str, inputs: &[Input]) -> State {
        State {
            version: VERSION,
            url: url.into(),
            files: inputs.iter().map(|input| input.name().into()).collect(),
            last: None,
            open: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Prepares to go on with these inputs: what has to be read again, in order, before what follows.
    ///
    /// # Errors
    /// When it cannot go on without an answer of the user.
    pub fn resume(
        &mut self,
        url: &str,
        inputs: &[Input],
        in_doubt: InDoubt,
    ) -> Result<Vec<Planned>, StateError> {
        if self.url != url {
            return Err(StateError::OfAnother(format!("it goes to {}", self.url)));
        }
        let names = || inputs.iter().map(Input::name);
        if let Some((at, file)) = self
            .files
            .iter()
            .enumerate()
            .find(|(at, file)| names().nth(*at) != Some(*file))
        {
            return Err(StateError::OfAnother(format!("its file {} is {file}", at + 1)));
        }
        self.files = names().map(str::to_owned).collect();
        let doubtful = self.open.iter().find(|open| open.in_doubt);
        if let Some(open) = doubtful.filter(|_| in_doubt == InDoubt::Stop) {
            return Err(StateError::InDoubt(self.place(&open.span)));
        }
        if in_doubt == InDoubt::Skip {
            let spans: Vec<Span> = self
                .open
                .iter()
                .filter(|open| open.in_doubt)
                .map(|open| open.span.clone())
                .collect();
            spans.iter().for_each(|span| self.skip(span));
        }
        // They stay open here until they are settled, so that a call that does not get to all of them forgets none.
        let planned = |open: &Open| Planned {
            span: open.span.clone(),
            is_sent: true,
            is_again: open.in_doubt,
        };
        let mut plan: Vec<Planned> = self.open.iter().map(planned).collect();
        if let Some(last) = self
            .last
            .clone()
            .filter(|last| plan.iter().all(|planned| planned.span != *last))
        {
            plan.push(Planned {
                span: last,
                is_sent: false,
                is_again: false,
            });
        }
        // Batches are begun in the order of the lines, and what is open is sent again before anything new.
        debug_assert!(plan.is_sorted_by_key(|planned| (planned.span.file, planned.span.offset)));
        Ok(plan)
    }

    /// A batch is about to be sent.
    pub fn begin(&mut self, span: Span) {
        let is_behind = |last: &Span| (last.file, last.offset) < (span.file, span.offset);
        if self.last.as_ref().is_none_or(is_behind) {
            self.last = Some(span.clone());
        }
        match self.open.iter_mut().find(|open| open.span == span) {
            Some(open) => open.in_doubt = true,
            None => self.open.push(Open { span, in_doubt: true }),
        }
    }

    /// A batch is settled.
    pub fn end(&mut self, span: &Span, counts: &Counts) {
        self.open.retain(|open| open.span != *span);
        self.counts.each(counts, |sum, one| *sum += one);
    }

    /// A batch is certainly not stored: it was not sent, by no call.
    pub fn not_sent(&mut self, span: &Span) {
        for open in self.open.iter_mut().filter(|open| open.span == *span) {
            open.in_doubt = false;
        }
    }

    /// A batch in doubt is given up.
    pub fn skip(&mut self, span: &Span) {
        let counts = Counts {
            lines: span.lines,
            skipped: span.events,
            ..Counts::default()
        };
        self.end(span, &counts);
    }

    /// Which lines those are.
    fn place(&self, span: &Span) -> String {
        format!(
            "lines {} to {} of {}",
            span.line,
            span.line + span.lines - 1,
            self.files[span.file]
        )
    }
}

/// The state's file, locked.
pub struct StateFile {
    path: PathBuf,
    /// The file that has the name at the moment.
    locked: Option<File>,
}

impl StateFile {
    /// Opens and reads it; where there is none, an empty one is made, so that it can be locked.
    ///
    /// # Errors
    /// When it is in use, or not a state.
    pub fn open(path: &Path) -> Result<(StateFile, Option<State>), StateError> {
        let failed = |source| StateError::Io {
            path: path.to_owned(),
            source,
        };
        let mut state_file = StateFile {
            path: path.to_owned(),
            locked: None,
        };
        loop {
            let mut options = File::options();
            let file = options
                .read(true)
                .append(true)
                .create(true)
                .open(path)
                .map_err(failed)?;
            lock(&file, path)?;
            // Whoever had the lock may have replaced the file in between.
            if !is_at(&file, path).map_err(failed)? {
                continue;
            }
            let text = io::read_to_string(&file).map_err(failed)?;
            state_file.locked = Some(file);
            if text.is_empty() {
                return Ok((state_file, None));
            }
            let state = serde_json::from_str(&text)
                .ok()
                .filter(|state: &State| state.version == VERSION);
            return match state {
                Some(state) => Ok((state_file, Some(state))),
                None => Err(StateError::NotAState(path.to_owned())),
            };
        }
    }

    /// Replaces it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&mut self, state: &State) -> Result<(), StateError> {
        let mut aside = self.path.clone().into_os_string();
        aside.push(".tmp");
        let text = serde_json::to_string(state).expect("a state can be written");
        let write = || {
            let mut file = File::create(&aside)?;
            // Before it has the name, so that nobody else can have it.
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&aside, &self.path)?;
            Ok(file)
        };
        let file = write().map_err(|source| StateError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.locked = Some(file);
        Ok(())
    }

    /// Brings it to the disk.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync(&self) -> Result<(), StateError> {
        let synced = self.locked.as_ref().map_or(Ok(()), File::sync_all);
        synced.map_err(|source| StateError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

fn lock(file: &File, path: &Path) -> Result<(), StateError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::InUse(path.to_owned())),
        Err(error) => Err(StateError::Io {
            path: path.to_owned(),
            source: error.into(),
        }),
    }
}

/// Whether `file` is what `path` names.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: u64) -> Span {
        Span {
            file: 0,
            line: offset + 1,
            offset,
            bytes: 10,
            crc: 7,
            events: 2,
            lines: 3,
        }
    }

    fn input() -> Vec<Input> {
        vec![Input::of("a.jsonl")]
    }

    fn stored(count: u64) -> Counts {
        Counts {
            lines: count,
            stored: count,
            ..Counts::default()
        }
    }

    #[test]
    fn what_is_open_is_sent_again_in_order_and_the_last_batch_is_looked_at() {
        let mut state = State::new("http://a/", &input());
        for offset in [0, 10, 20, 30] {
            state.begin(span(offset));
        }
        state.end(&span(10), &stored(2));
        state.end(&span(30), &stored(2));
        state.not_sent(&span(20));
        assert!(matches!(
            state.resume("http://a/", &input(), InDoubt::Stop),
            Err(StateError::InDoubt(_))
        ));
        let plan = state.resume("http://a/", &input(), InDoubt::Send).unwrap();
        let plan: Vec<_> = plan
            .iter()
            .map(|one| (one.span.offset, one.is_sent, one.is_again))
            .collect();
        assert_eq!(plan, [(0, true, true), (20, true, false), (30, false, false)]);
        assert_eq!(state.counts.stored, 4);
        // A call that sends the first of them and gets no further forgets neither.
        state.begin(span(0));
        state.not_sent(&span(0));
        state.begin(span(0));
        let open: Vec<_> = state
            .open
            .iter()
            .map(|open| (open.span.offset, open.in_doubt))
            .collect();
        assert_eq!(open, [(0, true), (20, false)]);
    }

    #[test]
    fn what_is_sent_again_is_not_taken_for_the_last_batch() {
        let mut state = State::new("http://a/", &input());
        for offset in [0, 10, 20] {
            state.begin(span(offset));
        }
        state.end(&span(10), &stored(2));
        state.end(&span(20), &stored(2));
        state.resume("http://a/", &input(), InDoubt::Send).unwrap();
        state.begin(span(0));
        state.end(&span(0), &stored(2));
        let plan = state.resume("http://a/", &input(), InDoubt::Stop).unwrap();
        let plan: Vec<_> = plan.iter().map(|one| (one.span.offset, one.is_sent)).collect();
        assert_eq!(plan, [(20, false)], "what is before 20 is not sent once more");
    }

    #[test]
    fn what_is_in_doubt_can_be_given_up() {
        let mut state = State::new("http://a/", &input());
        state.begin(span(0));
        let plan = state.resume("http://a/", &input(), InDoubt::Skip).unwrap();
        assert_eq!((plan.len(), plan[0].is_sent), (1, false));
        assert_eq!((state.counts.skipped, state.counts.lines), (2, 3));
    }

    #[test]
    fn other_files_and_other_servers_are_other_replays() {
        let mut state = State::new("http://a/", &input());
        let more = [Input::of("a.jsonl"), Input::of("b.jsonl")];
        assert!(state.resume("http://a/", &more, InDoubt::Stop).is_ok());
        for (url, inputs) in [
            ("http://b/", &more[..]),
            ("http://a/", &more[..1]),
            ("http://a/", &more[1..]),
        ] {
            assert!(matches!(
                state.resume(url, inputs, InDoubt::Stop),
                Err(StateError::OfAnother(_))
            ));
        }
    }

    #[test]
    fn a_state_is_nobody_elses_also_while_it_is_being_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut file, _) = StateFile::open(&path).unwrap();
        let state = State::new("http://a/", &input());
        std::thread::scope(|scope| {
            let owner = scope.spawn(|| {
                for _ in 0..500 {
                    file.save(&state).unwrap();
                }
            });
            while !owner.is_finished() {
                assert!(matches!(StateFile::open(&path), Err(StateError::InUse(_))));
            }
        });
    }

    #[test]
    fn a_state_belongs_to_one_at_a_time_also_after_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut file, none) = StateFile::open(&path).unwrap();
        assert!(none.is_none());
        let mut state = State::new("http://a/", &input());
        for offset in [0, 10] {
            state.begin(span(offset));
            file.save(&state).unwrap();
            assert!(matches!(StateFile::open(&path), Err(StateError::InUse(_))));
        }
        drop(file);
        let (_file, read) = StateFile::open(&path).unwrap();
        assert_eq!(read.unwrap().open, state.open);
        std::fs::write(folder.path().join("other"), "{}").unwrap();
        assert!(matches!(
            StateFile::open(&folder.path().join("other")),
            Err(StateError::NotAState(_))
        ));
    }
}
