// SPDX-License-Identifier: GPL-2.0

//! Take operations back.
//!
//! A revert of one object holds the object's lock from its checks to its end. It walks the chain
//! ([`chain`]), merges the inverses into one plan, verifies every payload that the plan uses, saves
//! what the plan will replace, makes its own line durable (the intent), applies the plan in a
//! kernel thread ([`apply`]), and commits. What fails on the way is rolled back from what was
//! saved; what a crash leaves is withdrawn at the next mount.

mod across;
mod apply;
mod attributes;
mod binding;
mod chain;
mod gather;
mod names;
mod removed;
mod taken;

use crate::{
    backup::{self, Saved, Subject, Teller, What},
    history::{
        journal::{Journal, LineRoom},
        line::{Line, Mode, Op, Pos},
        plan::{changes_names, Changes, OnForeign, Records, Step}, //
    },
    stack::ObjectState,
    uapi::Reason,
    vfs::{
        attr,
        error::{ENODATA, EOPNOTSUPP, ESTALE, EUCLEAN},
        file::OwnFile,
        inode::OwnInode, //
    },
};
pub(crate) use apply::{withdraw_last, withdraw_unfinished};
pub(crate) use chain::{Chain, Link};
use gather::Gathered;
use kernel::prelude::*;
use names::Names;
use taken::Taken;

/// Why a revert was refused. Nothing was changed.
pub(crate) struct Refusal {
    /// The errno.
    pub(crate) error: Error,
    /// Why.
    pub(crate) reason: Reason,
    /// The line in the way; 0: none.
    pub(crate) seq: u64,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, seq: u64) -> Self {
        let error = match reason {
            Reason::NothingLeft | Reason::Lost | Reason::Trimmed | Reason::HistoryOff => ENODATA,
            Reason::Foreign => ESTALE,
            Reason::Mapped | Reason::Conflict => EBUSY,
            Reason::NotOwner | Reason::NotPermitted => EPERM,
            Reason::NotWritable => EBADF,
            Reason::NoSpace => ENOSPC,
            Reason::Corrupt => EUCLEAN,
            Reason::Unsupported => EOPNOTSUPP,
            Reason::Io => EIO,
        };
        Self { error, reason, seq }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let reason = if error == ENOSPC {
            Reason::NoSpace
        } else if error == EUCLEAN {
            Reason::Corrupt
        } else if error == ENODATA {
            Reason::Trimmed
        } else if error == EPERM || error == EACCES {
            Reason::NotPermitted
        } else {
            Reason::Io
        };
        Self {
            error,
            reason,
            seq: 0,
        }
    }
}

impl From<AllocError> for Refusal {
    fn from(error: AllocError) -> Self {
        Error::from(error).into()
    }
}

use kernel::alloc::AllocError;

/// How a revert failed.
enum Undone {
    /// Nothing was changed.
    Whole(Error),
    /// Neither could it be done nor rolled back.
    Half(Error),
}

impl Undone {
    fn refusal(self) -> Refusal {
        match self {
            Self::Whole(e) | Self::Half(e) => e.into(),
        }
    }
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        Self::Whole(error)
    }
}

type Outcomes = Result<u64, Refusal>;

/// How a revert goes about it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Go on although the file was changed outside, or is mapped.
    pub(crate) force: bool,
    /// Bring a removed directory back with what the same process had removed from it before.
    pub(crate) deep: bool,
}

/// Takes back the newest `count` standing operations of the file. Returns how many more were taken
/// back inside of directories that came back.
pub(crate) fn walk(file: &OwnFile, count: u64, manner: Manner) -> Outcomes {
    let inode = file.own_inode();
    may_revert(inode)?;
    let mount = inode.mount();
    let journal = mount.journal().ok_or(Refusal::new(Reason::HistoryOff, 0))?;
    let _write = file.want_write()?;
    let revert = Revert {
        file,
        inode,
        journal,
        manner,
    };
    let mut inside = 0;
    if inode.is_directory() {
        inside = revert.walk_directory(count)?;
    } else {
        let _lock = inode.lock();
        revert.walk_object(count)?;
    }
    inode.refresh();
    Ok(inside)
}

/// Who may revert at all.
fn may_revert(inode: &OwnInode) -> Result<(), Refusal> {
    if !inode.owner_or_capable() {
        return Err(Refusal::new(Reason::NotOwner, 0));
    }
    Ok(())
}

/// Through which descriptor, and whether the object may be changed at all: content needs one that is
/// open for writing, attributes any.
fn may_change(file: &OwnFile, inode: &OwnInode, plan: &Gathered) -> Result<(), Refusal> {
    let records = plan.records()?;
    let content = apply::is_of_content(&plan.pieces, &plan.outcome, records);
    if content && inode.is_regular() && !file.is_writable() {
        return Err(Refusal::new(Reason::NotWritable, 0));
    }
    if inode.is_protected() && !attributes::lifts_protection(records) {
        return Err(Refusal {
            error: EPERM,
            reason: Reason::NotWritable,
            seq: 0,
        });
    }
    Ok(())
}

/// Operations of a directory that are taken back together.
enum Run {
    /// So many on its names.
    Names(u64),
    /// So many on its attributes.
    Attributes(u64),
    /// A rename between it and another directory.
    Across,
}

impl Run {
    fn of(line: &Line<'_>) -> Self {
        if !changes_names(line.op) {
            Self::Attributes(1)
        } else if line.parent.is_some() {
            Self::Across
        } else {
            Self::Names(1)
        }
    }
}

struct Revert<'a> {
    file: &'a OwnFile,
    inode: &'a OwnInode,
    journal: &'a Journal,
    manner: Manner,
}

impl Revert<'_> {
    /// Takes back the newest `count` operations on content and attributes. Our inode is locked.
    fn walk_object(&self, count: u64) -> Result<(), Refusal> {
        // Stores through mappings are told before, or come after.
        let _gate = self.inode.object().stores().shut();
        let mut state = self.inode.object().state.lock();
        let on_foreign = self.verify(&mut state)?;
        let gathered = gather::newest(self.journal, self.inode, state.head, count, on_foreign)?;
        may_change(self.file, self.inode, &gathered)?;
        self.perform(&mut state, gathered)
    }

    /// Takes back the newest `count` operations of a directory, in runs that are taken back as a
    /// whole: operations on its names, those on its attributes, and each rename between it and
    /// another directory. Answers how many were taken back inside of directories that came back.
    fn walk_directory(&self, count: u64) -> Outcomes {
        let mut inside = 0u64;
        let runs = {
            let _lock = self.inode.lock_as_parent();
            self.runs(count)?
        };
        for run in runs {
            match run {
                Run::Across => across::take_back(self)?,
                Run::Names(n) => {
                    if self.manner.deep {
                        inside = inside.saturating_add(removed::refill(self, n)?);
                    }
                    let _lock = self.inode.lock_as_parent();
                    let taken = self.newest_names(n)?;
                    self.take_back_names(&taken, None)?;
                }
                Run::Attributes(n) => {
                    let _lock = self.inode.lock_as_parent();
                    self.walk_object(n)?;
                }
            }
        }
        Ok(inside)
    }

    /// The newest `count` operations in runs. The directory is locked.
    fn runs(&self, count: u64) -> Result<KVec<Run>, Refusal> {
        if self.inode.object().is_kept() {
            // Removed, but open: its names are nobody's business any more.
            return Err(ENOENT.into());
        }
        let mut state = self.inode.object().state.lock();
        self.verify(&mut state)?;
        let head = state.head;
        drop(state);
        let mut chain = Chain::new(self.journal, self.inode.id(), head, OnForeign::Pass)?;
        let mut runs: KVec<Run> = KVec::new();
        let mut found = 0;
        while found < count {
            match chain.step()? {
                Link::End => return Err(Refusal::new(Reason::NothingLeft, 0)),
                Link::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                Link::Line(line, _, _, Step::Take) => {
                    found += 1;
                    match (Run::of(&line), runs.last_mut()) {
                        (Run::Names(_), Some(Run::Names(n)))
                        | (Run::Attributes(_), Some(Run::Attributes(n))) => *n += 1,
                        (run, _) => runs.push(run, GFP_KERNEL)?,
                    }
                }
                Link::Line(..) => {}
            }
        }
        Ok(runs)
    }

    /// The newest `count` operations, which must all be on names. The directory is locked.
    fn newest_names(&self, count: u64) -> Result<Taken, Refusal> {
        let head = self.inode.object().state.lock().head;
        let taken = Taken::gather(self.journal, self.inode.id(), head, count, |_| true)?;
        if taken.count() != count {
            // Somebody came in between.
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        Ok(taken)
    }

    /// Takes operations on names back. The directory is locked, and so is `other`, the one at the
    /// other end of a rename.
    fn take_back_names(&self, taken: &Taken, other: Option<&Names<'_>>) -> Result<(), Refusal> {
        let names = Names {
            mount: self.inode.mount(),
            journal: self.journal,
            dir: self.inode,
            dentry: Some(self.file.dentry()),
            lower: self.file.lower_name(),
            other,
        };
        names.revert(taken, Some(self.file.open()))
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            mount: self.inode.mount(),
            inode: self.inode,
            open: Some(self.file.open()),
        }
    }

    /// Whether the object is as our last line says.
    fn verify(&self, state: &mut ObjectState) -> Result<OnForeign, Refusal> {
        let mount = self.inode.mount();
        let below = self.file.lower_name();
        backup::load_known(mount, self.journal, self.inode, below, state)?;
        backup::tell_stores(self.journal, self.inode, state, Teller::Locker)?;
        if !self.inode.is_regular() {
            return Ok(OnForeign::Stop);
        }
        // Behind us: its stores are seen by nobody.
        let stores = self.inode.object().stores();
        let mapped = !stores.is_mapped() && self.inode.lower().is_writably_mapped();
        if mapped && !self.manner.force {
            return Err(Refusal::new(Reason::Mapped, 0));
        }
        if !mapped && (backup::is_foreign(state, self.inode) || !self.is_as_we_left_it(state)?) {
            backup::foreign(mount, self.journal, self.inode, below, state)?;
        }
        Ok(if self.manner.force {
            OnForeign::Pass
        } else {
            OnForeign::Stop
        })
    }

    fn is_as_we_left_it(&self, state: &ObjectState) -> Result<bool> {
        let Some(left) = state.left else {
            return Ok(true);
        };
        let cookie = attr::cookie(self.inode.mount().lower(), self.file.lower_name())?;
        Ok(cookie == left)
    }

    /// Saves, states the intent, applies, commits.
    fn perform(&self, state: &mut ObjectState, plan: Gathered) -> Result<(), Refusal> {
        let begun = self.journal.begin_intent()?;
        let result = self.perform_begun(state, plan, begun);
        // A revert that is half done stays open: the next mount tries again.
        if !matches!(result, Err(Undone::Half(_))) {
            self.journal.end_intent(begun);
        }
        result.map_err(Undone::refusal)
    }

    fn perform_begun(
        &self,
        state: &mut ObjectState,
        plan: Gathered,
        begun: u64,
    ) -> Result<(), Undone> {
        let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
        let saved = self.save(&plan, records)?;
        let mut room = self.journal.reserve_lines(3)?;
        let intent = self.state_intent(state, &mut room, &plan, &saved)?;
        if let Err(e) = self.journal.flush(true) {
            close_intent(&self.subject(), state, &mut room, Op::Cancel, intent);
            return Err(e.into());
        }
        let target = apply::Target {
            mount: self.inode.mount().lower(),
            file: self.file.lower(),
            dentry: self.file.lower_name(),
            journal: self.journal,
        };
        let mut touched = false;
        let applied = target.apply(&plan.pieces, &plan.outcome, records, &mut touched);
        let end = match applied {
            Ok(()) => Op::Commit,
            Err(_) => {
                // What was saved puts back what was replaced; the intent stays open when that
                // fails too: whoever uses the file next tries again, or the next mount.
                match target.roll_back(&saved, plan.outcome.present, touched) {
                    Ok(()) => Op::Cancel,
                    Err(e) => {
                        pr_err!("revert {} is half done: error {}\n", intent, e.to_errno());
                        self.journal.leave_intent(begun, intent);
                        *state = ObjectState::default();
                        return Err(Undone::Half(e));
                    }
                }
            }
        };
        close_intent(&self.subject(), state, &mut room, end, intent);
        backup::note_change(state, self.inode);
        applied.map_err(Undone::Whole)
    }

    /// Saves what applying the plan will replace.
    fn save(&self, plan: &Gathered, records: Records<'_>) -> Result<Saved> {
        let mut runs = KVec::new();
        for (offset, length) in Changes::new(&plan.pieces, &plan.outcome) {
            let end = offset.saturating_add(length);
            backup::add_runs(&mut runs, self.file.lower(), (offset, end))?;
        }
        let mount = self.inode.mount().lower();
        let present = backup::gather_attributes(mount, self.file.lower_name(), records)?;
        if runs.is_empty() && present.is_empty() {
            return Ok(Saved::Nothing);
        }
        let (lower, file) = (self.inode.lower(), self.file.lower());
        backup::capture_runs(self.journal, lower, file, &runs, &present)
    }

    /// Places the revert's own line; returns its number.
    fn state_intent(
        &self,
        state: &mut ObjectState,
        room: &mut LineRoom<'_>,
        plan: &Gathered,
        saved: &Saved,
    ) -> Result<u64> {
        let (at, length) = plan.outcome.hull(&plan.pieces);
        let what = What {
            op: Op::Revert,
            at,
            length,
            size: plan.outcome.present,
        };
        // The next mount may have to find the file by this line alone.
        state.handle_told_in = 0;
        let placed = backup::place(&self.subject(), state, room, &what, |draft| {
            saved.describe(draft);
            draft.of(plan.newest).count(plan.count);
            if let Some(back) = plan.back {
                draft.back(back);
            }
            draft.now(plan.outcome.size).mode(Mode::Walk);
        })?;
        Ok(placed.seq)
    }
}

/// Says how a revert ended.
fn close_intent(
    subject: &Subject<'_>,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
    op: Op,
    intent: u64,
) {
    let what = What {
        op,
        at: 0,
        length: 0,
        size: subject.inode.lower().size(),
    };
    let placed = backup::place(subject, state, room, &what, |draft| {
        draft.of(intent);
    });
    if let Err(e) = placed {
        subject.mount.warn_lost(e);
    }
}

/// Where an object's chain begins for a reader.
pub(crate) fn head(journal: &Journal, inode: &OwnInode) -> Result<Option<Pos>> {
    backup::tell(inode);
    let state = inode.object().state.lock();
    if !state.loaded {
        // Not loaded for good: only an open for writing compares the object with its last line.
        return journal.last_line(inode.id());
    }
    Ok(state.head)
}
