// SPDX-License-Identifier: GPL-2.0

//! Reverts operations on the names of one directory.

use super::{
    binding::{find_orphan, find_recorded, ObjectLookup, UnlinkedObject},
    content::{RevertLine, NO_REDO},
    locate,
    name_operations::NameOperations,
    rights::inverse::PermissionCheck,
    steps::{Direction, Lines, StepSequence, UndoStep},
    transaction::{self, RequestedRevert, RevertSteps, TransactionOutcome},
    Refusal, //
};
use crate::{
    history::journal::{Journal, Reservation, SpacePurpose},
    log::{
        line::{decode_percent, Op, Undo},
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

impl NamesRevert<'_> {
    /// Reverts operations, all or none, and logs that. The directory and `other` are locked. `open`
    /// is the open file of the request.
    #[inline(never)]
    pub(super) fn revert(&self, taken: &NameOperations, open: Option<&OpenFileState>) -> Outcome {
        // inode_permission(), as may_create() and may_delete() call it.
        self.dir.may_change_names()?;
        let mut revert = DirectoryRevert {
            names: self,
            taken,
            open,
            reservation: None,
            steps: None,
        };
        let outcome = transaction::run(self.mount, self.journal, &mut revert);
        if let (TransactionOutcome::Applied, Some(steps), SpacePurpose::Discard) =
            (&outcome, &revert.steps, self.purpose)
        {
            discard(self.mount, self.journal, &steps.undo_steps);
        }
        outcome.into_result()
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
    pub(super) fn sync(&self) -> Result {
        let _kernel = KernelCreds::new();
        self.mount.lower().directory_at(self.lower)?.sync()
    }

    /// Finds out which steps were applied before a crash, and resynchronises their objects.
    pub(super) fn find_applied(&self, steps: &mut StepSequence<'_>) -> Outcome {
        steps.find_applied(
            |lines, undo_step, progress| self.count_progress(lines, undo_step, progress),
            |lines, undo_step| self.resync(&lines.step(undo_step)?, undo_step.direction),
        )
    }

    /// Applies the steps that are not applied yet.
    pub(super) fn perform(&self, steps: &mut StepSequence<'_>) -> Outcome {
        steps.apply(|lines, undo_step| self.perform_one(lines, undo_step))
    }

    /// Rolls the applied steps back.
    pub(super) fn roll_back(&self, steps: &mut StepSequence<'_>) -> Outcome {
        // A rollback must not fail for a missing permission.
        let unasked = NamesRevert {
            permission: None,
            ..*self
        };
        steps.roll_back(|lines, undo_step| unasked.undo_one(lines, undo_step))
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

/// The revert of one directory's names.
struct DirectoryRevert<'s, 'a> {
    names: &'s NamesRevert<'a>,
    taken: &'s NameOperations,
    open: Option<&'s OpenFileState>,
    /// Space for the closing line, which therefore cannot fail.
    reservation: Option<Reservation<'a>>,
    /// The steps, once they are known.
    steps: Option<StepSequence<'a>>,
}

impl DirectoryRevert<'_, '_> {
    fn subject(&self) -> LineSubject<'_> {
        LineSubject {
            mount: self.names.mount,
            inode: self.names.dir,
            open: self.open,
        }
    }
}

impl RevertSteps for DirectoryRevert<'_, '_> {
    fn apply(&mut self) -> Outcome {
        let names = self.names;
        let undo_steps = self.taken.steps(names.journal)?;
        let steps = StepSequence::new(names.journal, undo_steps)?;
        names.perform(self.steps.insert(steps))?;
        // Order on disk: the objects' closing lines, then the directory, then the commit. All names
        // are reverted, so a failure is reported, not rolled back.
        if let Err(e) = names.journal.flush(true).and_then(|()| names.sync()) {
            names.mount.warn_lost(e);
        }
        Ok(())
    }

    fn roll_back(&mut self) -> Outcome {
        match &mut self.steps {
            Some(steps) => self.names.roll_back(steps),
            None => Ok(()),
        }
    }

    fn place_end(&mut self, _member: usize, end: Op, intent: u64) -> Result {
        let mut reservation = self.reservation.take().ok_or(EIO)?;
        let mut state = self.names.dir.object().state.lock();
        transaction::place_end(&self.subject(), &mut state, &mut reservation, end, intent)
    }
}

impl RequestedRevert for DirectoryRevert<'_, '_> {
    fn place_intent(&mut self, _member: usize, _first: Option<u64>) -> Outcome<u64> {
        let (journal, taken) = (self.names.journal, self.taken);
        let subject = self.subject();
        // The state's lock keeps other lines out between the listed operations and the intent.
        let mut state = self.names.dir.object().state.lock();
        let (is_newest, targets) = (taken.is_newest, &taken.targets);
        let entry =
            RevertLine::UNDO.with_targets(journal, &subject, &mut state, is_newest, targets)?;
        let mut reservation = journal.reserve_lines_killable(2)?;
        let undo = undo_of(self.names.purpose);
        let intent = write_intent(&subject, &mut state, taken, &mut reservation, (entry, undo))?;
        self.reservation = Some(reservation);
        Ok(intent)
    }

    fn forget(&mut self, _member: usize) {
        *self.names.dir.object().state.lock() = ObjectState::default();
    }
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
    // A handle that leads nowhere is `None`; any other error is the lower filesystem's.
    match locate::recorded_directory(mount, parent.handle)? {
        Some(found)
            if found
                .inode()
                .is_some_and(|inode| inode.id() == parent.object) =>
        {
            Ok(found)
        }
        _ => Err(Refusal::new(Reason::Conflict, 0)),
    }
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
