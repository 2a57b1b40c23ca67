// SPDX-License-Identifier: GPL-2.0

//! Lines of operations on names, in the chain of the directory.

use super::orphans::{self, FileHandle, LastName, VictimState};
use crate::{
    history::{
        journal::{Journal, Reservation, SpacePurpose},
        orphan_record::Cause,
    },
    log::line::{LineDraft, Op, Undo},
    record::{self, allow, place, CaptureFailure, LineSubject, NameFields, OperationArgs},
    state::Mount,
    vfs::{
        dentry::{Dentry, UpperDentry},
        error::{ENOTEMPTY, EOPNOTSUPP},
        inode::UpperInode,
        namei::LowerName,
    },
};
use kernel::prelude::*;

/// A change of a name in preparation. The directory is locked. Dropping it without
/// [`NameChange::done`] means that nothing changed.
pub(crate) enum NameChange<'a> {
    /// The history is off.
    Off,
    /// The change gets no line: the journal has no space, and the policy lets the change go on.
    Unrecorded(&'a Mount, &'a Journal, CaptureFailure),
    /// The change gets a line.
    Recorded(NameRecord<'a>),
}

pub(crate) struct NameRecord<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    reservation: Reservation<'a>,
    dir: &'a UpperInode,
    op: Op,
    name: &'a [u8],
    /// State of the object that loses the name.
    victim_state: Option<VictimState<'a>>,
    /// Set if the object is not captured once the change happens.
    failure: Option<CaptureFailure>,
}

impl<'a> NameChange<'a> {
    /// Reserves journal space for the line.
    pub(crate) fn begin(dir: &'a UpperInode, op: Op, name: &'a [u8]) -> Result<Self> {
        let mount = dir.mount();
        let Some(journal) = mount.journal() else {
            return Ok(Self::Off);
        };
        let ready = {
            let mut state = dir.object().state.lock();
            record::load_unchecked(journal, dir, &mut state)
        };
        // Reserved before the change: afterwards, the line must not fail for lack of space.
        match ready.and_then(|()| journal.reserve_lines_killable(1)) {
            Ok(reservation) => Ok(Self::Recorded(NameRecord {
                mount,
                journal,
                reservation,
                dir,
                op,
                name,
                victim_state: None,
                failure: None,
            })),
            Err(e) => {
                let failure = allow(mount, e, frees(op))?;
                Ok(Self::Unrecorded(mount, journal, failure))
            }
        }
    }

    /// Keeps an object that is no directory, before a rename replaces this name of the object.
    pub(crate) fn link_victim(&mut self, victim: &'a UpperInode, at: LowerName<'a>) -> Result {
        let Self::Recorded(record) = self else {
            return Ok(());
        };
        let last = LastName {
            parent: at.parent,
            name: at.name,
            cause: Cause::Replacement,
        };
        let victim_state =
            orphans::link_to_orphans(record.mount, record.journal, victim, last, at.dentry);
        if victim_state.is_err() && at.check(record.mount.lower()).is_err() {
            // Another program has removed the name from the lower directory. vfs_rename() below
            // decides.
            return Ok(());
        }
        record.victim_state = Some(record.by_policy(victim_state)?);
        Ok(())
    }

    /// Removes a last name, or an empty directory, by moving the object to the orphans. The name is
    /// `at` after a directory was renamed over. Returns false if the name is still bound, and the
    /// caller has to remove it. `flags` are renameat2() flags besides RENAME_NOREPLACE.
    pub(crate) fn remove_victim(
        &mut self,
        victim: &'a UpperInode,
        (parent, name): (&'a Dentry, &'a [u8]),
        at: &LowerName<'_>,
        flags: u32,
    ) -> Result<bool> {
        let Self::Recorded(record) = self else {
            return Ok(false);
        };
        let victim_state = if !victim.is_directory() && victim.lower().links() > 1 {
            VictimState::Linked(victim)
        } else {
            let cause = match record.op {
                Op::Rename => Cause::Replacement,
                _ => Cause::Removal,
            };
            let last = LastName {
                parent,
                name,
                cause,
            };
            match orphans::move_to_orphans(
                record.mount,
                record.journal,
                victim,
                last,
                at,
                flags,
                SpacePurpose::Operation,
            ) {
                // rmdir(2) below returns the lower filesystem's own error.
                Err(e) if e == ENOTEMPTY => record.leave_uncaptured(e),
                Err(e) => {
                    // If the name is gone, the operation fails anyway: nothing is uncaptured.
                    at.check(record.mount.lower())?;
                    record.by_policy(Err(e))?
                }
                victim_state => victim_state?,
            }
        };
        // Renamed to orphans/ already: the caller must not unlink the name.
        let is_gone = matches!(victim_state, VictimState::Orphan(_));
        record.victim_state = Some(victim_state);
        Ok(is_gone)
    }

    /// Leaves the object that loses the name uncaptured.
    pub(crate) fn leave_uncaptured(&mut self) {
        if let Self::Recorded(record) = self {
            record.victim_state = Some(record.leave_uncaptured(EOPNOTSUPP));
        }
    }

    /// Writes the line. `node` is the object that the name is or was bound to.
    pub(crate) fn done(mut self, node: Option<&UpperInode>) {
        if let Some(record) = self.settled() {
            if !record.place_template(node) {
                record.place(node, |_| {});
            }
        }
    }

    /// As [`NameChange::done`], for a created object. If its inode is not found, the line says that
    /// the creation cannot be reverted, and why.
    pub(crate) fn done_or_uncaptured(mut self, node: Result<&UpperInode, &Error>) {
        match (&mut self, node) {
            (_, Ok(node)) => return self.done(Some(node)),
            (Self::Recorded(record), Err(e)) => {
                record.victim_state = Some(record.leave_uncaptured(*e))
            }
            _ => {}
        }
        self.done(None);
    }

    /// As [`NameChange::done`], with additional keys.
    pub(crate) fn done_with(mut self, node: &UpperInode, more: impl Fn(&mut LineDraft<'_>)) {
        if let Some(record) = self.settled() {
            record.place(Some(node), more);
        }
    }

    /// Commits the victim's state. Returns the record for the line, if there is to be one.
    fn settled(&mut self) -> Option<&mut NameRecord<'a>> {
        match self {
            Self::Recorded(record) => {
                record.settle();
                Some(record)
            }
            Self::Unrecorded(mount, journal, failure) => {
                failure.count(mount, journal);
                None
            }
            Self::Off => None,
        }
    }
}

/// Operations that free space. They must work on a full filesystem.
fn frees(op: Op) -> bool {
    matches!(op, Op::Unlink | Op::Rmdir)
}

impl<'a> NameRecord<'a> {
    /// The victim's state, or on failure the decision of the mount's policy.
    fn by_policy(&mut self, victim_state: Result<VictimState<'a>>) -> Result<VictimState<'a>> {
        victim_state.or_else(|e| {
            let failure = allow(self.mount, e, frees(self.op))?;
            self.failure = Some(failure);
            Ok(VictimState::Uncaptured(failure.why()))
        })
    }

    /// Leaves the object uncaptured, regardless of the policy.
    fn leave_uncaptured(&mut self, error: Error) -> VictimState<'a> {
        let failure = CaptureFailure(error);
        self.failure = Some(failure);
        VictimState::Uncaptured(failure.why())
    }

    /// Commits the victim's state and counts a failed capture.
    fn settle(&mut self) {
        if let Some(victim_state) = &mut self.victim_state {
            victim_state.settle();
        }
        if let Some(failure) = self.failure {
            // Counted only now: a failed operation loses nothing.
            failure.count(self.mount, self.journal);
        }
    }

    fn subject(&self) -> LineSubject<'a> {
        LineSubject {
            mount: self.mount,
            inode: self.dir,
            open: None,
        }
    }

    fn args(&self) -> OperationArgs {
        OperationArgs {
            op: self.op,
            at: 0,
            length: 0,
            size: self.dir.lower().size(),
        }
    }

    /// Writes a template line, if the operation fits one.
    fn place_template(&mut self, node: Option<&UpperInode>) -> bool {
        let (subject, args) = (self.subject(), self.args());
        let location = match &self.victim_state {
            Some(victim_state) => victim_state.template_fields(),
            None => Some((None, None)),
        };
        let Some((kept, handle)) = location else {
            return false;
        };
        let named = NameFields {
            name: self.name,
            node,
            kept,
            handle: handle.as_ref().map(FileHandle::parts),
        };
        let mut state = self.dir.object().state.lock();
        record::place_name(&subject, &mut state, &mut self.reservation, &args, &named).is_some()
    }

    /// Writes the line in its long form.
    fn place(&mut self, node: Option<&UpperInode>, more: impl Fn(&mut LineDraft<'_>)) {
        let (subject, args) = (self.subject(), self.args());
        let (name, victim_state) = (self.name, &self.victim_state);
        record::identify_by_name(self.mount, self.op, name);
        let mut state = self.dir.object().state.lock();
        let placed = place(
            &subject,
            &mut state,
            &mut self.reservation,
            &args,
            |draft| {
                match victim_state {
                    Some(victim_state) => victim_state.describe(draft),
                    None => {
                        draft.undo(Undo::None);
                    }
                }
                draft.name(name);
                if let Some(node) = node {
                    draft.node(node.id());
                }
                more(draft);
            },
        );
        drop(state);
        if let Err(e) = placed {
            // The change has happened: it can only be counted as lost.
            self.journal.count_lost();
            self.mount.warn_lost(e);
        }
    }
}

/// Notes the first name of an O_TMPFILE object. Its newest line must say so: an unnamed object that
/// is gone is skipped by a revert, a named one is not. The object is loaded, and its inode is
/// locked.
pub(crate) fn note_named(inode: &UpperInode, dentry: &UpperDentry) {
    if !inode.object().note_unnamed(false) || inode.object().state.lock().head.is_none() {
        return;
    }
    if let Ok(lower) = dentry.lower() {
        record::write_close_with_handle(inode, lower);
    }
}
