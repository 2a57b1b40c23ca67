// SPDX-License-Identifier: GPL-2.0

//! Reverts operations on the names of one directory.

use super::{
    binding::{find_orphan, find_recorded, ObjectLookup, UnlinkedObject},
    close_intent,
    content::{RevertLine, NO_REDO},
    locate,
    name_operations::NameOperations,
    rights::inverse::PermissionCheck,
    steps::{Direction, Lines, UndoStep},
    Refusal, //
};
use crate::{
    history::journal::{Journal, Reservation, SpacePurpose},
    log::{
        line::{decode_percent, Line, Op, Undo, MAX_LINE},
        plan::{Directory, NameStep, Progress},
        types::ObjectId,
    },
    record::{self, LineSubject, OperationArgs},
    state::{Mount, ObjectState, OpenFileState},
    uapi::Reason,
    vfs::{
        dentry::{Dentry, UpperDentry},
        error::EUCLEAN,
        inode::{Inode, UpperInode},
        namei,
        scope::KernelCreds,
        upper_names::LockedDirectory,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Longest name (NAME_MAX).
pub(super) const NAME: usize = 255;

pub(super) type Outcome<T = ()> = Result<T, Refusal>;

/// A directory whose names are reverted. The directory is locked.
pub(super) struct NamesRevert<'a> {
    pub(super) mount: &'a Mount,
    pub(super) journal: &'a Journal,
    pub(super) dir: &'a UpperInode,
    /// Our dentry of the directory, if the dcache has one.
    pub(super) dentry: Option<&'a UpperDentry>,
    /// The same, if it is locked.
    pub(super) locked: Option<LockedDirectory<'a>>,
    pub(super) lower: &'a Dentry,
    /// The other directory of a rename, also locked. `None`: looked up when a step needs it, by a
    /// caller that has locked it, or while the mount has no other users.
    pub(super) other: Option<&'a NamesRevert<'a>>,
    /// Whether objects that lose their last name become orphans or are deleted.
    pub(super) purpose: SpacePurpose,
    /// Permission check for each step; `None` during a rollback and during recovery.
    pub(super) permission: Option<PermissionCheck<'a>>,
}

/// Outcome of a failed revert of names.
pub(super) enum NamesRevertError {
    /// All names are unchanged.
    RolledBack(Refusal),
    /// Some steps were applied, and the rollback failed, too.
    Incomplete(Refusal),
}

impl<E: Into<Refusal>> From<E> for NamesRevertError {
    fn from(error: E) -> Self {
        Self::RolledBack(error.into())
    }
}

impl NamesRevert<'_> {
    /// Reverts operations, all or none, and logs that. The directory and `other` are locked. `open`
    /// is the open file of the request.
    #[inline(never)]
    pub(super) fn revert(&self, taken: &NameOperations, open: Option<&OpenFileState>) -> Outcome {
        // inode_permission(), as may_create() and may_delete() call it.
        self.dir.may_change_names()?;
        let begun = self.journal.begin_intent()?;
        let result = self.revert_begun(taken, open, begun);
        // An incomplete revert keeps its intent open: the next mount resumes.
        if !matches!(result, Err(NamesRevertError::Incomplete(_))) {
            self.journal.end_intent(begun);
        }
        result.map_err(|left| match left {
            NamesRevertError::RolledBack(refusal) | NamesRevertError::Incomplete(refusal) => {
                refusal
            }
        })
    }

    /// Writes the intent, applies the steps, and writes the closing line.
    fn revert_begun(
        &self,
        taken: &NameOperations,
        open: Option<&OpenFileState>,
        begun: u64,
    ) -> Result<(), NamesRevertError> {
        let subject = LineSubject {
            mount: self.mount,
            inode: self.dir,
            open,
        };
        // The state's lock keeps other lines out between the listed operations and the intent.
        let (mut reservation, intent) = {
            let mut state = self.dir.object().state.lock();
            let (is_newest, targets) = (taken.is_newest, &taken.targets);
            let entry = RevertLine::UNDO.with_targets(
                self.journal,
                &subject,
                &mut state,
                is_newest,
                targets,
            )?;
            let mut reservation = self.journal.reserve_lines_killable(2)?;
            let undo = undo_of(self.purpose);
            let intent =
                write_intent(&subject, &mut state, taken, &mut reservation, (entry, undo))?;
            (reservation, intent)
        };
        let mut steps = KVVec::new();
        // Write-ahead: the intent is on disk before the first name changes.
        let flushed = self
            .journal
            .flush_killable(true)
            .map_err(NamesRevertError::from);
        let result = flushed.and_then(|()| {
            steps = taken.steps(self.journal)?;
            self.perform(&mut steps, 0)
        });
        let mut state = self.dir.object().state.lock();
        if let Err(NamesRevertError::Incomplete(_)) = &result {
            pr_err!("revert {} is incomplete\n", intent);
            self.journal.mark_incomplete(begun, intent);
            // The next use of the directory loads the chain again and finds the open intent.
            *state = ObjectState::default();
            return result;
        }
        let end = match &result {
            Ok(()) => {
                // Order on disk: the objects' closing lines, then the directory, then the commit.
                if let Err(e) = self.journal.flush(true).and_then(|()| self.sync()) {
                    self.mount.warn_lost(e);
                }
                Op::Commit
            }
            Err(_) => Op::Cancel,
        };
        close_intent(&subject, &mut state, &mut reservation, end, intent);
        // Each step changed the lower directory's times: record them as our own.
        record::note_change(&mut state, self.dir);
        drop(state);
        if result.is_ok() && self.purpose == SpacePurpose::Discard {
            discard(self.mount, self.journal, &steps);
        }
        if end == Op::Cancel {
            self.mount.flush_end_of_refused(self.journal);
        }
        result
    }

    /// Bytes of the object that loses its last name in this step; 0 if none does.
    #[inline(never)]
    pub(super) fn orphan_bytes_of(
        &self,
        lines: &mut Lines<'_>,
        undo_step: &UndoStep,
    ) -> Outcome<u64> {
        let step = lines.step(undo_step)?;
        let mut buf = [0; NAME];
        match (step, undo_step.direction) {
            // Reverting a creation removes the name.
            (NameStep::Remove { name, node }, Direction::Undo) => {
                self.bytes_of(decode(name, &mut buf)?, node)
            }
            (
                NameStep::Restore {
                    name,
                    victim,
                    parent,
                },
                Direction::Redo,
            ) => {
                let name = decode(name, &mut buf)?;
                self.with_other(parent, |dir| dir.bytes_of(name, victim.object))
            }
            _ => Ok(0),
        }
    }

    /// Bytes of an object that has a name in this directory, now or after an earlier step of this
    /// revert.
    fn bytes_of(&self, name: &[u8], node: ObjectId) -> Outcome<u64> {
        let lower = namei::lookup(self.mount.lower(), self.lower, name)?;
        let lower = match lower.inode() {
            Some(inode) if inode.id() == node => lower,
            _ => match find_recorded(self.dir.superblock(), self.journal, node)? {
                ObjectLookup::Found(lower) => lower,
                ObjectLookup::Gone | ObjectLookup::Unnamed => return Ok(0),
            },
        };
        // Only the last link turns an object into an orphan.
        let is_last = |inode: &Inode| inode.is_directory() || inode.links() <= 1;
        Ok(match lower.inode() {
            Some(inode) if is_last(inode) => self.mount.lower().bytes_of(&lower),
            _ => 0,
        })
    }

    /// Flushes the lower directory (fsync(2)).
    fn sync(&self) -> Result {
        let _kernel = KernelCreds::new();
        self.mount.lower().directory_at(self.lower)?.sync()
    }

    /// Recovery: finishes an interrupted revert, or rolls back the steps that were applied.
    pub(super) fn finish(&self, mut steps: KVVec<UndoStep>) -> Result<(), NamesRevertError> {
        let done = self
            .progress(&steps)
            .map_err(NamesRevertError::Incomplete)?;
        let mut lines = Lines::new(self.journal).map_err(incomplete)?;
        for undo_step in steps.iter().take(done) {
            let step = lines
                .step(undo_step)
                .map_err(NamesRevertError::Incomplete)?;
            self.resync(&step, undo_step.direction)
                .map_err(NamesRevertError::Incomplete)?;
        }
        self.perform(&mut steps, done)
    }

    /// Applies the steps from index `from` on. If a step fails, rolls all applied steps back.
    fn perform(&self, steps: &mut [UndoStep], from: usize) -> Result<(), NamesRevertError> {
        let mut lines = Lines::new(self.journal)?;
        let mut refused = None;
        for (index, undo_step) in steps.iter_mut().enumerate().skip(from) {
            if let Err(refusal) = self.perform_one(&mut lines, undo_step) {
                refused = Some((index, refusal));
                break;
            }
        }
        let Some((done, refusal)) = refused else {
            return Ok(());
        };
        // A rollback must not fail for a missing permission.
        let unasked = NamesRevert {
            permission: None,
            ..*self
        };
        for undo_step in steps.iter().take(done).rev() {
            if unasked.undo_one(&mut lines, undo_step).is_err() {
                return Err(NamesRevertError::Incomplete(refusal));
            }
        }
        Err(NamesRevertError::RolledBack(refusal))
    }

    /// Applies one step.
    pub(super) fn perform_one(&self, lines: &mut Lines<'_>, undo_step: &mut UndoStep) -> Outcome {
        let step = lines.step(undo_step)?;
        let done = match undo_step.direction {
            Direction::Undo => self.step(&step),
            Direction::Redo => self.undo_step(&step, None),
        };
        let seq = undo_step.seq;
        undo_step.unlinked = done.map_err(|refusal| Refusal { seq, ..refusal })?;
        Ok(())
    }

    /// Rolls one applied step back.
    pub(super) fn undo_one(&self, lines: &mut Lines<'_>, undo_step: &UndoStep) -> Outcome {
        let step = lines.step(undo_step)?;
        match undo_step.direction {
            Direction::Undo => self.undo_step(&step, undo_step.unlinked.as_ref()),
            Direction::Redo => self.step(&step),
        }
        .map(|_| ())
    }

    /// Applies the inverse of an operation. Returns the object that lost a name.
    fn step(&self, step: &NameStep<'_>) -> Outcome<Option<UnlinkedObject>> {
        let mut buf = [[0; NAME]; 2];
        let [first, second] = &mut buf;
        match *step {
            NameStep::Remove { name, node } => {
                return self.remove(decode(name, first)?, node).map(Some)
            }
            NameStep::Restore {
                name,
                victim,
                parent,
            } => {
                let name = decode(name, first)?;
                // The victim of a rename lost its name in the other directory.
                self.with_other(parent, |dir| dir.restore(name, &victim))?;
            }
            NameStep::Move {
                from,
                to,
                node,
                parent,
            } => {
                let (from, to) = (decode(from, first)?, decode(to, second)?);
                // RENAME_NOREPLACE: a name that was bound in the meantime is a conflict.
                self.with_other(parent, |other| self.move_here(other, from, to, node))?;
            }
            NameStep::Exchange {
                name,
                other,
                node,
                over,
                parent,
            } => {
                let (name, second) = (decode(name, first)?, decode(other, second)?);
                self.with_other(parent, |other| {
                    self.exchange((name, over), other, (second, Some(node)))
                })?;
            }
        }
        Ok(None)
    }

    /// Applies the operation again, the opposite of [`Self::step`]. `unlinked` is the result of
    /// that, if known.
    fn undo_step(
        &self,
        step: &NameStep<'_>,
        unlinked: Option<&UnlinkedObject>,
    ) -> Outcome<Option<UnlinkedObject>> {
        let mut buf = [[0; NAME]; 2];
        let [first, second] = &mut buf;
        match *step {
            NameStep::Remove { name, node } => {
                self.put_back(decode(name, first)?, node, unlinked)?
            }
            NameStep::Restore {
                name,
                victim,
                parent,
            } => {
                let name = decode(name, first)?;
                return self.with_other(parent, |dir| dir.remove(name, victim.object).map(Some));
            }
            NameStep::Move {
                from,
                to,
                node,
                parent,
            } => {
                let (from, to) = (decode(from, first)?, decode(to, second)?);
                self.with_other(parent, |other| other.move_here(self, to, from, node))?;
            }
            NameStep::Exchange {
                name,
                other,
                node,
                over,
                parent,
            } => {
                let (name, second) = (decode(name, first)?, decode(other, second)?);
                self.with_other(parent, |other| {
                    other.exchange((second, over), self, (name, Some(node)))
                })?;
            }
        }
        Ok(None)
    }

    /// Number of steps that were applied before a crash.
    fn progress(&self, steps: &[UndoStep]) -> Outcome<usize> {
        let mut progress = Progress::default();
        let mut lines = Lines::new(self.journal)?;
        for undo_step in steps {
            self.count_progress(&mut lines, undo_step, &mut progress)?;
        }
        Ok(progress.done())
    }

    /// Records in `progress` which of the step's names are bound as before the step, and which as
    /// after.
    pub(super) fn count_progress(
        &self,
        lines: &mut Lines<'_>,
        undo_step: &UndoStep,
        progress: &mut Progress,
    ) -> Outcome {
        let step = lines.step(undo_step)?;
        let mut found = [None; 4];
        for (binding, found) in step.bindings().zip(&mut found) {
            let mut buf = [0; NAME];
            let name = decode(binding.name, &mut buf)?;
            let is_bound =
                self.with_other(binding.parent, |dir| Ok(dir.is_bound(name, binding.node)?))?;
            let is_behind = is_bound == binding.is_bound;
            *found = Some(is_behind == (undo_step.direction == Direction::Undo));
        }
        progress.count(found.into_iter().flatten());
        Ok(())
    }

    /// A step applied before a crash changed ctime of its objects, and the lines about that may be
    /// lost. Without resync the next load would log an external change.
    pub(super) fn resync(&self, step: &NameStep<'_>, direction: Direction) -> Outcome {
        for binding in step.bindings() {
            let mut buf = [0; NAME];
            let name = decode(binding.name, &mut buf)?;
            self.with_other(binding.parent, |dir| {
                let lower = namei::lookup(dir.mount.lower(), dir.lower, name)?;
                if lower.inode().is_some() {
                    record::resync(self.mount, self.journal, &*self.own(&lower)?, &lower)?;
                }
                Ok(())
            })?;
            if binding.is_bound == (direction == Direction::Undo) {
                continue;
            }
            if let Some((_, kept)) = find_orphan(self.journal, binding.node, None)? {
                record::resync(self.mount, self.journal, &*self.own(&kept)?, &kept)?;
            }
        }
        Ok(())
    }

    /// Calls `f` with the other directory of a rename, or with this one if there is no other.
    fn with_other<T>(
        &self,
        parent: Option<Directory<'_>>,
        f: impl FnOnce(&NamesRevert<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let Some(parent) = parent else {
            return f(self);
        };
        if let Some(other) = self.other {
            // A forged line may refer to a directory that is not locked.
            return if other.dir.id() == parent.object {
                f(other)
            } else {
                Err(Refusal::new(Reason::Conflict, 0))
            };
        }
        let lower = directory(self.mount, &parent)?;
        let dir = self.own(&lower)?;
        f(&NamesRevert {
            dir: &dir,
            dentry: None,
            locked: None,
            lower: &lower,
            ..*self
        })
    }
}

fn incomplete(error: Error) -> NamesRevertError {
    NamesRevertError::Incomplete(error.into())
}

/// Deletes the orphans of these steps: `no_redo` keeps nothing.
pub(super) fn discard(mount: &Mount, journal: &Journal, steps: &[UndoStep]) {
    for (segment, object, bytes) in steps
        .iter()
        .filter_map(|undo_step| undo_step.unlinked.as_ref()?.kept())
    {
        if let Err(e) = journal.discard_orphan(segment, object, bytes) {
            mount.warn_lost(e);
        }
    }
}

/// The `undo=` key of a revert's line.
pub(super) fn undo_of(purpose: SpacePurpose) -> Undo {
    match purpose {
        // The orphans are deleted, so a redo is refused.
        SpacePurpose::Discard => Undo::Lost,
        _ => Undo::None,
    }
}

/// Writes the intent of a revert of names and returns its number.
pub(super) fn write_intent(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    taken: &NameOperations,
    reservation: &mut Reservation<'_>,
    (entry, undo): (RevertLine<'_>, Undo),
) -> Result<u64> {
    let args = OperationArgs {
        op: entry.op,
        at: 0,
        length: 0,
        size: subject.inode.lower().size(),
    };
    // Recovery may have to find the directory by this line alone, so the line must hold the file
    // handle.
    state.handle_segment = 0;
    let placed = record::place(subject, state, reservation, &args, |draft| {
        draft.undo(undo);
        if undo == Undo::Lost {
            draft.why(NO_REDO);
        }
        draft.of(taken.newest).count(taken.count());
        entry.describe(draft, taken.is_deep, taken.back);
    })?;
    Ok(placed.seq)
}

/// Finds the lower directory that a line refers to.
pub(super) fn directory(mount: &Mount, parent: &Directory<'_>) -> Outcome<ARef<Dentry>> {
    let found = locate::recorded_directory(mount, parent.handle);
    match found {
        Ok(Some(found))
            if found
                .inode()
                .is_some_and(|inode| inode.id() == parent.object) =>
        {
            Ok(found)
        }
        _ => Err(Refusal::new(Reason::Conflict, 0)),
    }
}

pub(super) fn parse(text: &[u8]) -> Result<Line<'_>> {
    if text.len() > MAX_LINE {
        return Err(EUCLEAN);
    }
    Line::parse(text, None).map_err(|_| EUCLEAN)
}

/// Decodes a percent-encoded name.
pub(super) fn decode<'b>(encoded: &[u8], buf: &'b mut [u8; NAME]) -> Result<&'b [u8]> {
    let len = decode_percent(encoded, buf).ok_or(EUCLEAN)?;
    let name = buf.get(..len).ok_or(EUCLEAN)?;
    let is_path = name.iter().any(|byte| matches!(byte, b'/' | 0));
    if name.is_empty() || is_path || name == b"." || name == b".." {
        return Err(EUCLEAN);
    }
    Ok(name)
}
