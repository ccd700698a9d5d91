//! Looks what there is of sealed files, and what is to be done to each of them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::hold::Unshipped;
use super::stock::{self, Held};
use super::{HOUR, LOOK_EVERY, LOOK_SHARE, Work};
use crate::failpoint;
use crate::log::catalog::Segment;
use crate::log::keeper::archive::Job;
use crate::log::segment::SegmentId;

impl Work {
    /// Finds out what there is to do with the sealed files, and has it done.
    pub(super) fn look(&mut self) {
        let begun = Instant::now();
        let has_work = self.packer.is_some() || self.uploader.is_some() || self.policy.retention.is_limited();
        if has_work && let Err(error) = self.look_through() {
            tracing::warn!(%error, "the sealed files cannot be looked through");
        }
        self.next_look = Instant::now() + LOOK_EVERY.max(begun.elapsed() * LOOK_SHARE);
    }

    fn look_through(&mut self) -> io::Result<()> {
        let held = stock::held(&*self.fs, self.catalog.family())?;
        let segments = self.catalog.segments();
        let known = segments.iter().map(|segment| (segment.id(), segment)).collect();
        self.have_compressed(&held, &known);
        self.have_uploaded(&held, &known);
        self.retain(&held, &known);
        Ok(())
    }

    fn have_compressed(&mut self, held: &[Held], known: &HashMap<SegmentId, &Arc<Segment>>) {
        let (Some(packer), Some(compression)) = (&self.packer, self.policy.compression) else {
            return;
        };
        let now = failpoint::clock();
        let is_due = |file: &&Held| {
            let age = now.duration_since(file.sealed).unwrap_or_default();
            // Where both are there it was due once, and is not finished.
            file.parts.plain && (file.parts.compressed || age >= compression.after)
        };
        if packer.busy_with.is_some() || self.pack_after.is_some_and(|then| Instant::now() < then) {
            return;
        }
        let uploading = self.uploader.as_ref().and_then(|uploader| uploader.busy_with);
        let is_free = |id: &SegmentId| {
            // One that is being uploaded as it is must not change under that name.
            !self.altered.contains(id)
                && uploading != Some(*id)
                && !self.is_begun_plain(id)
                && !self.unhealed.contains(&id.number)
        };
        let mut due = held.iter().filter(is_due).filter(|file| is_free(&file.id));
        let next = due.find_map(|file| known.get(&file.id));
        if let (Some(segment), Some(packer)) = (next, &mut self.packer) {
            packer.busy_with = Some(segment.id());
            packer.jobs.send(Arc::clone(segment)).ok();
        }
    }

    fn is_begun_plain(&self, id: &SegmentId) -> bool {
        self.begun.get(id).is_some_and(|intent| !intent.is_compressed)
    }

    fn have_uploaded(&mut self, held: &[Held], known: &HashMap<SegmentId, &Arc<Segment>>) {
        let Some(uploader) = &self.uploader else {
            return;
        };
        let waiting = || held.iter().filter(|file| !self.archived.contains(&file.id));
        let bytes = waiting().map(|file| file.bytes).sum();
        self.status.archive.set_waiting(waiting().count() as u64, bytes);
        if uploader.busy_with.is_some() {
            return;
        }
        let now = Instant::now();
        let job = waiting().find_map(|file| {
            let is_put_off = self.foreign.get(&file.id).is_some_and(|then| now < *then);
            let is_unhealed = self.unhealed.contains(&file.id.number);
            if is_put_off || is_unhealed || self.altered.contains(&file.id) {
                return None;
            }
            Some(Job {
                segment: Arc::clone(known.get(&file.id)?),
                is_compressed: self.form_to_upload(file)?,
            })
        });
        if let (Some(job), Some(uploader)) = (job, &mut self.uploader) {
            uploader.busy_with = Some(job.segment.id());
            uploader.jobs.send(job).ok();
        }
    }

    /// Whether a file is to be uploaded compressed; `None`: not yet.
    fn form_to_upload(&self, file: &Held) -> Option<bool> {
        if file.parts.plain && self.is_begun_plain(&file.id) {
            return Some(false);
        }
        match (file.parts.plain, file.parts.compressed) {
            (false, _) => Some(true),
            // Not before it is compressed: each has one name in the archive.
            (true, _) if self.packer.is_some() => None,
            // Where both are there, the compressed one was not read back after a crash.
            (true, _) => Some(false),
        }
    }

    fn retain(&mut self, held: &[Held], known: &HashMap<SegmentId, &Arc<Segment>>) {
        if !self.policy.retention.is_limited() {
            return;
        }
        self.unshipped = Unshipped::look(self.policy.hold, &*self.fs, self.catalog.family(), held);
        let surplus = self
            .policy
            .retention
            .surplus(held, failpoint::clock(), |file| self.may_remove(file, known));
        if let Some(forgetting) = &mut self.forgetting
            && surplus
                .iter()
                .any(|goes| !forgetting.is_done(goes.file.id.number))
        {
            forgetting.demand(self.catalog.front().number);
        }
        let mut told = std::mem::take(&mut self.told);
        for goes in &surplus {
            let id = goes.file.id;
            if goes.is_needed {
                let is_silent = told.get(&id).is_some_and(|then| then.elapsed() < HOUR);
                let what_for = match self.is_archived(id) {
                    false => Some("archived"),
                    true => self.unshipped.is_held(id.number).then_some("shipped"),
                };
                if let Some(what_for) = what_for.filter(|_| !is_silent) {
                    told.insert(id, Instant::now());
                    tracing::warn!(
                        file = %self.catalog.family().file_name(id).display(),
                        because_of = goes.reason.setting(),
                        "a file of the log should be removed and stays: it is not {what_for} yet"
                    );
                }
                continue;
            }
            told.remove(&id);
            let file = self.catalog.family().file_name(goes.file.id);
            match self.remove(goes.file) {
                Ok(()) if self.unshipped.is_unshipped(id.number) => {
                    self.status.hold.removed(goes.file.bytes);
                    tracing::error!(
                        file = %file.display(),
                        bytes = goes.file.bytes,
                        because_of = goes.reason.setting(),
                        "a file of the log is removed that was not shipped: more is waiting than METRICS_SHIP_HOLD allows"
                    );
                }
                Ok(()) => tracing::info!(
                    file = %file.display(),
                    bytes = goes.file.bytes,
                    because_of = goes.reason.setting(),
                    "a file of the log is removed"
                ),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "a file of the log cannot be removed; trying again");
                }
            }
        }
        self.told = told;
    }

    fn is_archived(&self, id: SegmentId) -> bool {
        self.policy.archive.is_none() || self.archived.contains(&id)
    }

    /// Whether nothing needs a sealed file any more. Whoever has still to read files before they go has its say here.
    fn may_remove(&self, file: &Held, known: &HashMap<SegmentId, &Arc<Segment>>) -> bool {
        let is_counted =
            known.contains_key(&file.id) && !self.unsummarised.iter().any(|segment| segment.id() == file.id);
        let is_being_compressed = self
            .packer
            .as_ref()
            .is_some_and(|packer| packer.busy_with == Some(file.id));
        let forgetting = self.forgetting.as_ref();
        let is_forgotten = forgetting.is_none_or(|forgetting| forgetting.is_done(file.id.number));
        is_counted
            && !is_being_compressed
            && is_forgotten
            && self.is_archived(file.id)
            && !self.unshipped.is_held(file.id.number)
    }

    fn remove(&self, file: &Held) -> io::Result<()> {
        let family = self.catalog.family();
        for (is_there, path) in [
            (file.parts.compressed, family.compressed(file.id)),
            (file.parts.plain, family.plain(file.id)),
        ] {
            if is_there {
                match self.fs.remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => failpoint::hit("retain.removed"),
                }
            }
        }
        Ok(())
    }
}
