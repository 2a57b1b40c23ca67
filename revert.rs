// SPDX-License-Identifier: GPL-2.0

//! Take operations back.
//!
//! A revert of one object holds the object's lock from its checks to its end. It walks the chain
//! ([`chain`]), merges the inverses into one plan, verifies every payload that the plan uses, saves
//! what the plan will replace, makes its own line durable (the intent), applies the plan in a
//! kernel thread ([`apply`]), and commits. What fails on the way is rolled back from what was
//! saved; what a crash leaves is withdrawn at the next mount.

mod apply;
mod attributes;
mod binding;
mod chain;
mod content;
mod cross_directory;
pub(crate) mod group;
pub(crate) mod locate;
mod name_operations;
mod names;
mod plan_builder;
mod recover;
mod retained;
pub(crate) mod rights;
mod steps;
mod subtree;
mod targets;

use crate::{
    backup::{self, LineSubject, OperationArgs},
    history::{
        journal::{Journal, LineRoom, Room},
        line::{Line, Op, Pos},
        pins::Pin,
        plan::{OnForeign, Step}, //
    },
    stack::ObjectState,
    uapi::{Operation, Reason},
    vfs::{
        dentry::Dentry,
        error::{ENODATA, ENOTEMPTY, EOPNOTSUPP, ESTALE, EUCLEAN},
        file::OwnFile,
        inode::OwnInode,
        lock::Late,
        task, //
    },
};
pub(crate) use chain::{Chain, ChainLink, HiddenRanges};
use content::ContentRevert;
use core::cell::Cell;
use kernel::prelude::*;
use name_operations::NameOperations;
use names::NamesRevert;
use plan_builder::{refuse, TargetChoice};
pub(crate) use recover::{recover_unfinished, roll_back_last};
use rights::{inverse::PermissionCheck, CallerRights, ChainRights};
use steps::{is_on_names, Lines};

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
            Reason::NothingLeft
            | Reason::Lost
            | Reason::Trimmed
            | Reason::Gone
            | Reason::HistoryOff => ENODATA,
            Reason::Foreign => ESTALE,
            Reason::Mapped | Reason::Conflict | Reason::Busy => EBUSY,
            Reason::NotOwner | Reason::NotPermitted => EPERM,
            Reason::NotWritable => EBADF,
            Reason::NoSpace => ENOSPC,
            Reason::Corrupt => EUCLEAN,
            Reason::Unsupported => EOPNOTSUPP,
            Reason::Executed => ETXTBSY,
            Reason::Leased => EAGAIN,
            Reason::NotEmpty => ENOTEMPTY,
            Reason::Io => EIO,
        };
        Self { error, reason, seq }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let reason = if error == ENOSPC {
            Reason::NoSpace
        } else if error == ETXTBSY {
            Reason::Executed
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

impl From<Late> for Refusal {
    fn from(late: Late) -> Self {
        match late {
            Late::Killed => EINTR.into(),
            Late::Busy(pid) => Self::new(Reason::Busy, u64::from(pid)),
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
enum ContentRevertError {
    /// Nothing was changed.
    RolledBack(Error),
    /// Neither could it be done nor rolled back.
    Incomplete(Error),
}

impl ContentRevertError {
    fn refusal(self) -> Refusal {
        match self {
            Self::RolledBack(e) | Self::Incomplete(e) => e.into(),
        }
    }
}

impl From<Error> for ContentRevertError {
    fn from(error: Error) -> Self {
        Self::RolledBack(error)
    }
}

type UndoResult = Result<u64, Refusal>;

/// How a revert goes about it.
#[derive(Clone, Copy, Default)]
pub(crate) struct UndoOptions {
    /// Go on although the file was changed outside, or is mapped.
    pub(crate) force: bool,
    /// Bring a removed directory back with what the same process had removed from it before.
    pub(crate) deep: bool,
    /// Save nothing of what is replaced.
    pub(crate) no_redo: bool,
}

/// Takes back the newest `count` standing operations of the file. Returns how many more were taken
/// back inside of directories that came back.
pub(crate) fn undo(file: &OwnFile, count: u64, options: UndoOptions) -> UndoResult {
    let inode = file.own_inode();
    let mount = inode.mount();
    let journal = mount.journal().ok_or(Refusal::new(Reason::HistoryOff, 0))?;
    let rights = CallerRights::new(file, journal).over(inode, file.lower_name())?;
    if rights == ChainRights::Nothing {
        return Err(Refusal::new(Reason::NotOwner, 0));
    }
    let pin = journal.pin()?;
    let revert = ObjectUndo {
        file,
        inode,
        journal,
        options,
        pin: &pin,
        is_one_of_many: Cell::new(false),
    };
    let mut inside = 0;
    match rights {
        ChainRights::Names(u64::MAX) => inside = revert.undo_own(rights, count)?,
        ChainRights::Names(first) => inside = revert.undo_directory(first, count)?,
        _ => {
            let _write = file.want_write()?;
            let _lock = inode.lock_in_time()?;
            revert.undo_object(count)?;
        }
    }
    inode.refresh();
    Ok(inside)
}

/// Whether the caller may take content and attributes of an object back at all.
fn may_revert(file: &OwnFile, inode: &OwnInode, lower: &Dentry) -> Result<(), Refusal> {
    let journal = inode.mount().journal();
    let journal = journal.ok_or(Refusal::new(Reason::HistoryOff, 0))?;
    if !inode.owner_or_capable()
        || CallerRights::new(file, journal).over(inode, lower)? == ChainRights::Nothing
    {
        return Err(Refusal::new(Reason::NotOwner, 0));
    }
    Ok(())
}

/// Operations of a directory that are taken back together.
enum OperationRun {
    /// So many on its names.
    Names(u64),
    /// So many on its attributes.
    Attributes(u64),
    /// A rename between it and another directory.
    CrossDirectory,
    /// A revert of names that was an operation of its own: its line.
    Revert(Operation),
}

impl OperationRun {
    fn of(line: &Line<'_>, at: Pos) -> Self {
        if !is_on_names(line) {
            Self::Attributes(1)
        } else if line.op == Op::Revert {
            Self::Revert(subtree::operation(line.seq, at))
        } else if line.parent.is_some() {
            Self::CrossDirectory
        } else {
            Self::Names(1)
        }
    }
}

struct ObjectUndo<'a> {
    file: &'a OwnFile,
    inode: &'a OwnInode,
    journal: &'a Journal,
    options: UndoOptions,
    /// What it reads stays.
    pin: &'a Pin<'a>,
    /// Whether others follow, which read older parts of the history.
    is_one_of_many: Cell<bool>,
}

impl ObjectUndo<'_> {
    /// Takes back the newest `count` operations on content and attributes. Our inode is locked.
    #[inline(never)]
    fn undo_object(&self, count: u64) -> Result<(), Refusal> {
        // Stores through mappings are told before, or come after.
        let _gate = self.inode.object().stores().shut();
        let content = self.content();
        let mut state = self.inode.object().state.lock();
        let on_foreign = content.verify(&mut state)?;
        let choice = TargetChoice::Newest(count);
        let plan = plan_builder::plan(&content, state.head, choice, on_foreign, &mut refuse)?;
        // Content needs a descriptor that is open for writing, attributes any.
        if content.has_content(&plan)? && !self.file.is_writable() {
            return Err(Refusal::new(Reason::NotWritable, 0));
        }
        content.require_permission(&plan)?;
        let changed = content.changed_by(&plan)?;
        if changed.content {
            content.refuse_swapfile()?;
        }
        // What is replaced may have the room of what is older than what replaces it. Without redo copies
        // the lines are read again when a crash comes.
        let floor = match self.options.no_redo {
            true => 0,
            false => plan.oldest_used(self.journal.segment()),
        };
        self.narrow(floor, u64::MAX);
        self.pin.is_resumed_from(plan.oldest_read);
        let result = content.perform(&mut state, plan, self.options.no_redo, self.pin);
        drop(state);
        if result.is_ok() {
            self.inode.changed_through(self.file, changed);
        }
        result
    }

    /// Takes back the newest `count` operations of a directory, in runs that are taken back as a
    /// whole: operations on its names, those on its attributes, and each rename between it and
    /// another directory. Those before the line `first` are not the caller's. Answers how many were taken
    /// back inside of directories that came back.
    fn undo_directory(&self, first: u64, count: u64) -> UndoResult {
        let mut inside = 0u64;
        let runs = {
            let _write = self.file.want_write()?;
            let _lock = self.inode.lock_in_time()?;
            self.runs(first, count)?
        };
        self.is_one_of_many
            .set(runs.len() != 1 || self.options.deep);
        for run in runs {
            match &run {
                OperationRun::Revert(line) => {
                    self.undo_revert(*line)?;
                    continue;
                }
                OperationRun::Names(n) if self.options.deep => {
                    if let Some(more) = self.undo_subtrees(*n)? {
                        inside = inside.saturating_add(more);
                        continue;
                    }
                }
                _ => {}
            }
            let _write = self.file.want_write()?;
            match run {
                OperationRun::Revert(_) => {}
                OperationRun::CrossDirectory => cross_directory::undo(self)?,
                OperationRun::Names(n) => {
                    let _lock = self.inode.lock_in_time()?;
                    let taken = self.newest_names(n)?;
                    self.undo_names(&taken, None)?;
                }
                OperationRun::Attributes(n) => {
                    let _lock = self.inode.lock_in_time()?;
                    self.undo_object(n)?;
                }
            }
        }
        Ok(inside)
    }

    /// Takes back the newest `count` operations, which are all on names, with the removals from the
    /// directories that come back. Answers how many more that were; `None`: there are none, and nothing
    /// was taken back.
    #[inline(never)]
    fn undo_subtrees(&self, count: u64) -> Result<Option<u64>, Refusal> {
        let mut operations = KVVec::new();
        {
            let _lock = self.inode.lock_in_time()?;
            let mut lines = Lines::new(self.journal)?;
            for &at in &self.newest_names(count)?.places {
                let operation = subtree::operation(lines.read(at)?.seq, at);
                operations.push(operation, GFP_KERNEL_ACCOUNT)?;
            }
        }
        let inside = subtree::add_inside(self, &mut operations)?;
        if inside == 0 {
            return Ok(None);
        }
        subtree::undo(self, operations)?;
        Ok(Some(inside))
    }

    /// Takes back a revert that was an operation of its own, in this directory: what it took back there
    /// may have to do with other directories.
    #[inline(never)]
    fn undo_revert(&self, line: Operation) -> Result<(), Refusal> {
        let mut operations = KVVec::new();
        operations.push(line, GFP_KERNEL)?;
        subtree::undo(self, operations)
    }

    /// Takes back the newest `count` operations that are the caller's, in a directory that is not. Answers
    /// how many were taken back inside of directories that came back.
    #[inline(never)]
    fn undo_own(&self, rights: ChainRights, count: u64) -> UndoResult {
        let mut operations = self.own_operations(rights, count)?;
        let inside = match self.options.deep {
            true => subtree::add_inside(self, &mut operations)?,
            false => 0,
        };
        subtree::undo(self, operations)?;
        Ok(inside)
    }

    /// The newest `count` operations that are the caller's.
    // Out of line: the lines that it reads are not on the stack when something is done about them.
    #[inline(never)]
    fn own_operations(&self, rights: ChainRights, count: u64) -> Result<KVVec<Operation>, Refusal> {
        let head = head(self.journal, self.inode)?;
        let object = self.inode.id();
        let mut chain = Chain::new(self.journal, object, head, OnForeign::Pass)?;
        let mut caller = CallerRights::new(self.file, self.journal);
        let mut operations = KVVec::new();
        while (operations.len() as u64) < count {
            task::breathe()?;
            match &chain.step()? {
                ChainLink::End => return Err(Refusal::new(Reason::NothingLeft, 0)),
                ChainLink::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                ChainLink::Line(line, at, _, Step::Take) => {
                    if caller.may_take_back(rights, line)? {
                        let operation = subtree::operation(line.seq, *at);
                        operations.push(operation, GFP_KERNEL_ACCOUNT)?;
                    }
                }
                ChainLink::Line(..) => {}
            }
        }
        Ok(operations)
    }

    /// The newest `count` operations in runs. The directory is locked.
    #[inline(never)]
    fn runs(&self, first: u64, count: u64) -> Result<KVVec<OperationRun>, Refusal> {
        if self.inode.object().is_kept() {
            // Removed, but open: its names are nobody's business any more.
            return Err(ENOENT.into());
        }
        let mut state = self.inode.object().state.lock();
        self.content().verify(&mut state)?;
        let head = state.head;
        drop(state);
        let mut chain = Chain::new(self.journal, self.inode.id(), head, OnForeign::Pass)?;
        let mut runs: KVVec<OperationRun> = KVVec::new();
        let mut found = 0;
        while found < count {
            task::breathe()?;
            match chain.step_back()? {
                ChainLink::End => return Err(Refusal::new(Reason::NothingLeft, 0)),
                ChainLink::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                ChainLink::Line(line, _, _, Step::Take) if line.seq < first => {
                    return Err(Refusal::new(Reason::NotOwner, 0))
                }
                ChainLink::Line(line, at, _, Step::Take) => {
                    found += 1;
                    match (OperationRun::of(&line, at), runs.last_mut()) {
                        (OperationRun::Names(_), Some(OperationRun::Names(n)))
                        | (OperationRun::Attributes(_), Some(OperationRun::Attributes(n))) => {
                            *n += 1
                        }
                        (run, _) => runs.push(run, GFP_KERNEL_ACCOUNT)?,
                    }
                }
                ChainLink::Line(line, _, _, Step::Barred) => {
                    return Err(Refusal::new(Reason::Conflict, line.seq))
                }
                ChainLink::Line(..) => {}
            }
        }
        Ok(runs)
    }

    /// The newest `count` operations, which must all be on names. The directory is locked.
    #[inline(never)]
    fn newest_names(&self, count: u64) -> Result<NameOperations, Refusal> {
        let head = self.inode.object().state.lock().head;
        let taken = NameOperations::gather(self.journal, self.inode.id(), head, count, |_| true)?;
        if taken.count() != count {
            // Somebody came in between.
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        Ok(taken)
    }

    /// Takes operations on names back. The directory is locked, and so is `other`, the one at the
    /// other end of a rename.
    #[inline(never)]
    fn undo_names(
        &self,
        taken: &NameOperations,
        other: Option<&NamesRevert<'_>>,
    ) -> Result<(), Refusal> {
        let names = NamesRevert {
            mount: self.inode.mount(),
            journal: self.journal,
            dir: self.inode,
            dentry: Some(self.file.dentry()),
            lower: self.file.lower_name(),
            other,
            room: self.room(),
            permission: self.permission(),
        };
        let steps = taken.steps(self.journal)?;
        if !taken.is_deep {
            let (floor, kept_floor) = name_operations::oldest_of(self.journal, &steps)?;
            self.narrow(floor, kept_floor);
        }
        let mut lines = Lines::new(self.journal)?;
        let mut bytes = 0u64;
        for undo_step in &steps {
            bytes = bytes.saturating_add(names.bytes_to_keep(&mut lines, undo_step)?);
        }
        // All of it together must not drop what the history has.
        self.journal.admit_kept(bytes, self.room())?;
        names.revert(taken, Some(self.file.open()))
    }

    /// See [`Pin::narrow`].
    fn narrow(&self, floor: u64, kept_floor: u64) {
        if !self.is_one_of_many.get() {
            self.pin.narrow(floor, kept_floor);
        }
    }

    /// Who is asked about steps on names.
    fn permission(&self) -> Option<PermissionCheck<'_>> {
        Some(PermissionCheck {
            file: self.file,
            rights: true,
        })
    }

    /// What becomes of the objects that lose their last names.
    fn room(&self) -> Room {
        match self.options.no_redo {
            true => Room::Discard,
            false => Room::Revert,
        }
    }

    /// The object as one whose content and attributes are taken back.
    fn content(&self) -> ContentRevert<'_> {
        ContentRevert {
            mount: self.inode.mount(),
            journal: self.journal,
            inode: self.inode,
            lower: self.file.lower_name(),
            file: Some(self.file.lower()),
            open: Some(self.file.open()),
            force: self.options.force,
            resumed: None,
            is_killable: true,
        }
    }
}

/// Says how a revert ended.
fn close_intent(
    subject: &LineSubject<'_>,
    state: &mut ObjectState,
    room: &mut LineRoom<'_>,
    op: Op,
    intent: u64,
) {
    let args = OperationArgs {
        op,
        at: 0,
        length: 0,
        size: subject.inode.lower().size(),
    };
    let placed = backup::place(subject, state, room, &args, |draft| {
        draft.of(intent);
    });
    if let Err(e) = placed {
        subject.mount.warn_lost(e);
    }
}

/// Where an object's chain begins for a reader.
pub(crate) fn head(journal: &Journal, inode: &OwnInode) -> Result<Option<Pos>> {
    backup::log_mmap_writes(inode);
    let state = inode.object().state.lock();
    if !state.loaded {
        // Not loaded for good: only an open for writing compares the object with its last line.
        return journal.last_line(inode.id());
    }
    Ok(state.head)
}
