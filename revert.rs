// SPDX-License-Identifier: GPL-2.0

//! Reverts operations.
//!
//! A revert of one object holds the inode lock from the first check to the last line. The revert
//! walks the object's chain of lines ([`chain`]), merges the inverse of each operation into one
//! plan, verifies every payload that the plan reads, and captures the pre-image of the plan. The
//! lines that a revert places and the order of its durable steps are in [`transaction`], and so
//! is the recovery at the next mount after a crash.

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
pub(crate) mod past;
mod plan_builder;
mod plan_vec;
mod read_buffer;
mod retained;
pub(crate) mod rights;
mod steps;
mod subtree;
mod target_choice;
mod targets;
mod transaction;

use crate::{
    history::{
        journal::{Journal, SpacePurpose},
        pins::Pin,
    },
    log::{
        line::{Line, Op},
        plan::{OnExternal, WalkStep},
        types::Pos,
    },
    record,
    uapi::{Operation, Reason},
    vfs::{
        dentry::Dentry,
        error::{ENODATA, ENOTEMPTY, EOPNOTSUPP, ESTALE, EUCLEAN},
        file::UpperFile,
        inode::UpperInode,
        lock::LockFailure,
        task,
        upper_names::LockedDirectory, //
    },
};
pub(crate) use chain::{Chain, ChainLink};
use content::ContentRevert;
use core::cell::Cell;
use kernel::prelude::*;
use name_operations::NameOperations;
use names::NamesRevert;
use plan_builder::refuse;
use rights::{inverse::PermissionCheck, CallerRights, ChainRights};
use steps::{is_on_names, Lines};
use target_choice::TargetChoice;
pub(crate) use transaction::{recover_unfinished, roll_back_last};

/// The reason why a revert was refused. The object is unchanged.
pub(crate) struct Refusal {
    /// Error number that the ioctl returns.
    pub(crate) error: Error,
    /// Reason code for user space.
    pub(crate) reason: Reason,
    /// Number of the line that blocks the revert; 0 if there is none.
    pub(crate) seq: u64,
}

impl Refusal {
    /// A refusal with the errno of its reason.
    pub(crate) fn new(reason: Reason, seq: u64) -> Self {
        let error = match reason {
            Reason::NothingLeft
            | Reason::Lost
            | Reason::Trimmed
            | Reason::Gone
            | Reason::HistoryOff => ENODATA,
            Reason::External => ESTALE,
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

impl From<LockFailure> for Refusal {
    fn from(failure: LockFailure) -> Self {
        match failure {
            LockFailure::Killed => EINTR.into(),
            LockFailure::Busy(pid) => Self::new(Reason::Busy, u64::from(pid)),
        }
    }
}

impl From<AllocError> for Refusal {
    fn from(error: AllocError) -> Self {
        Error::from(error).into()
    }
}

use kernel::alloc::AllocError;

type UndoResult = Result<u64, Refusal>;

/// Options of an undo.
#[derive(Clone, Copy, Default)]
pub(crate) struct UndoOptions {
    /// Ignore changes made outside this mount, and mappings of the file.
    pub(crate) force: bool,
    /// After restoring a removed directory, also undo the removals that the same process made in
    /// that directory before.
    pub(crate) deep: bool,
    /// Do not capture the pre-image: the undo cannot be redone.
    pub(crate) no_redo: bool,
}

/// Undoes the newest `count` live operations of the file. Returns the number of further operations
/// undone inside restored directories.
pub(crate) fn undo(file: &UpperFile, count: u64, options: UndoOptions) -> UndoResult {
    let inode = file.upper_inode();
    let mount = inode.mount();
    let journal = mount.journal().ok_or(Refusal::new(Reason::HistoryOff, 0))?;
    let rights = CallerRights::new(file, journal).over(inode, file.lower_dentry())?;
    if rights == ChainRights::Nothing {
        return Err(Refusal::new(Reason::NotOwner, 0));
    }
    // Before the first read: retention may drop a segment at any time.
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
            // mnt_want_write_file() comes first in the lock order. The VFS does not call it for an ioctl.
            let _write = file.want_write()?;
            // With a timeout: a direct write holds this lock until its pages arrive.
            let _lock = inode.lock_in_time()?;
            revert.undo_object(count)?;
        }
    }
    // Our inode caches attributes of the lower inode: copy them.
    inode.copy_attr();
    Ok(inside)
}

/// Refuses a caller without the right to revert content and attributes of the object.
fn may_revert(file: &UpperFile, inode: &UpperInode, lower: &Dentry) -> Result<(), Refusal> {
    let journal = inode.mount().journal();
    let journal = journal.ok_or(Refusal::new(Reason::HistoryOff, 0))?;
    // The rule of setattr_prepare(): the owner, or CAP_FOWNER.
    if !inode.owner_or_capable()
        || CallerRights::new(file, journal).over(inode, lower)? == ChainRights::Nothing
    {
        return Err(Refusal::new(Reason::NotOwner, 0));
    }
    Ok(())
}

/// Adjacent operations of a directory that are undone in one step.
enum OperationRun {
    /// This many operations on names.
    Names(u64),
    /// This many operations on attributes.
    Attributes(u64),
    /// One rename between this directory and another one.
    CrossDirectory,
    /// A revert of names, by the position of its line. Reverting a revert can involve other
    /// directories.
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
    file: &'a UpperFile,
    inode: &'a UpperInode,
    journal: &'a Journal,
    options: UndoOptions,
    /// Keeps the segments that this undo reads from being dropped.
    pin: &'a Pin<'a>,
    /// Whether further runs follow this one. They read older segments, so the pin may not be
    /// narrowed.
    is_one_of_many: Cell<bool>,
}

impl ObjectUndo<'_> {
    /// Undoes the newest `count` operations on content and attributes: a system call with several
    /// lines is one. The inode is locked.
    #[inline(never)]
    fn undo_object(&self, count: u64) -> Result<(), Refusal> {
        // Blocks writes through mappings: each is logged either before the undo or after it.
        let _gate = self.inode.object().mmap_writes().block_faults();
        let content = self.content();
        let mut state = self.inode.object().state.lock();
        let on_external = content.verify(&mut state)?;
        let choice = TargetChoice::Calls(count);
        let plan = plan_builder::plan(&content, state.head, choice, on_external, &mut refuse)?;
        // The VFS checks FMODE_WRITE for write(2) and ftruncate(2); fchmod(2) and fsetxattr(2) need
        // no writable file.
        if content.has_content(&plan)? && !self.file.is_writable() {
            return Err(Refusal::new(Reason::NotWritable, 0));
        }
        // Before the intent: a refused request leaves no line.
        content.require_permission(&plan)?;
        let changed = content.changed_by(&plan)?;
        if changed.content {
            content.refuse_swapfile()?;
        }
        // Retention may drop segments older than the newest pre-image needs, to free space for this
        // one. With `no_redo` nothing is captured, and recovery reads the same lines again: all are
        // kept.
        let floor = match self.options.no_redo {
            true => 0,
            false => plan.oldest_used(self.journal.segment()),
        };
        self.narrow(floor, u64::MAX);
        self.pin.is_resumed_from(plan.oldest_read);
        let result = content.perform(&mut state, plan, self.options.no_redo, self.pin);
        drop(state);
        if result.is_ok() {
            self.inode.notify_through(self.file, changed);
        }
        result
    }

    /// Undoes the newest `count` operations of a directory, one run after another. Each run is
    /// atomic. Lines before number `first` are outside the caller's rights. Returns the number of
    /// operations undone inside restored directories.
    fn undo_directory(&self, first: u64, count: u64) -> UndoResult {
        let mut inside = 0u64;
        let runs = {
            let _write = self.file.want_write()?;
            let _lock = self.inode.lock_in_time()?;
            self.runs(first, count)?
        };
        self.is_one_of_many
            .set(runs.len() != 1 || self.options.deep);
        // Each run takes the locks anew: a run with another directory needs lock_rename() order.
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
                    let lock = self.inode.lock_in_time()?;
                    let taken = self.newest_names(n)?;
                    self.undo_names(&taken, lock.directory(self.file.dentry()), None)?;
                }
                OperationRun::Attributes(n) => {
                    let _lock = self.inode.lock_in_time()?;
                    self.undo_object(n)?;
                }
            }
        }
        Ok(inside)
    }

    /// Undoes the newest `count` operations, all on names, together with removals inside the
    /// directories that this restores. Returns the number of those; `None` if there are none, and
    /// then nothing is changed.
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

    /// Reverts a revert of names. The reverted operations can involve other directories, so a group
    /// revert locks them all.
    #[inline(never)]
    fn undo_revert(&self, line: Operation) -> Result<(), Refusal> {
        let mut operations = KVVec::new();
        operations.push(line, GFP_KERNEL)?;
        subtree::undo(self, operations)
    }

    /// Undoes the newest `count` operations of the caller in a directory that the caller does not
    /// own. Returns the number of operations undone inside restored directories.
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

    /// The newest `count` operations of the caller, the newest first.
    // Out of line: a parsed line takes half a kilobyte of stack, which must be free again before
    // the undo.
    #[inline(never)]
    fn own_operations(&self, rights: ChainRights, count: u64) -> Result<KVVec<Operation>, Refusal> {
        let head = head(self.journal, self.inode)?;
        let object = self.inode.id();
        let mut chain = Chain::new(self.journal, object, head, OnExternal::Pass)?;
        let mut caller = CallerRights::new(self.file, self.journal);
        let mut operations = KVVec::new();
        while (operations.len() as u64) < count {
            task::resched_killable()?;
            match &chain.step()? {
                ChainLink::End => return Err(Refusal::new(Reason::NothingLeft, 0)),
                ChainLink::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                ChainLink::Line(line, at, _, WalkStep::Live) => {
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

    /// The newest `count` operations, in runs. The directory is locked.
    #[inline(never)]
    fn runs(&self, first: u64, count: u64) -> Result<KVVec<OperationRun>, Refusal> {
        if self.inode.is_orphan() {
            // The open directory was removed: vfs_rmdir() has set S_DEAD, and no name in it may
            // change.
            return Err(ENOENT.into());
        }
        let mut state = self.inode.object().state.lock();
        // Logs an external change first, so that the chain is complete.
        self.content().verify(&mut state)?;
        let head = state.head;
        drop(state);
        let mut chain = Chain::new(self.journal, self.inode.id(), head, OnExternal::Pass)?;
        let mut runs: KVVec<OperationRun> = KVVec::new();
        let mut found = 0;
        while found < count {
            task::resched_killable()?;
            match chain.step_back()? {
                ChainLink::End => return Err(Refusal::new(Reason::NothingLeft, 0)),
                ChainLink::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                ChainLink::Line(line, _, _, WalkStep::Live) if line.seq < first => {
                    return Err(Refusal::new(Reason::NotOwner, 0))
                }
                ChainLink::Line(line, at, _, WalkStep::Live) => {
                    found += 1;
                    match (OperationRun::of(&line, at), runs.last_mut()) {
                        (OperationRun::Names(_), Some(OperationRun::Names(n)))
                        | (OperationRun::Attributes(_), Some(OperationRun::Attributes(n))) => {
                            *n += 1
                        }
                        (run, _) => runs.push(run, GFP_KERNEL_ACCOUNT)?,
                    }
                }
                ChainLink::Line(line, _, _, WalkStep::Conflict) => {
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
            // Another operation was logged while the directory was unlocked.
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        Ok(taken)
    }

    /// Undoes operations on names of this directory, `locked`. For a rename between directories,
    /// `other` is the locked other directory.
    #[inline(never)]
    fn undo_names(
        &self,
        taken: &NameOperations,
        locked: Option<LockedDirectory<'_>>,
        other: Option<&NamesRevert<'_>>,
    ) -> Result<(), Refusal> {
        let names = NamesRevert {
            mount: self.inode.mount(),
            journal: self.journal,
            dir: self.inode,
            dentry: Some(self.file.dentry()),
            locked,
            lower: self.file.lower_dentry(),
            other,
            purpose: self.purpose(),
            permission: self.permission(),
        };
        let steps = taken.steps(self.journal)?;
        if !taken.is_deep {
            let (floor, orphan_floor) = name_operations::oldest_of(self.journal, &steps);
            self.narrow(floor, orphan_floor);
        }
        let mut lines = Lines::new(self.journal)?;
        let mut bytes = 0u64;
        for undo_step in &steps {
            bytes = bytes.saturating_add(names.orphan_bytes_of(&mut lines, undo_step)?);
        }
        // Orphans count against the history's limit. One check for the sum, before the first step.
        self.journal.admit_orphan(bytes, self.purpose())?;
        names.revert(taken, Some(self.file.open()))
    }

    /// See [`Pin::narrow`].
    fn narrow(&self, floor: u64, orphan_floor: u64) {
        if !self.is_one_of_many.get() {
            self.pin.narrow(floor, orphan_floor);
        }
    }

    /// The permission check for each step on names.
    fn permission(&self) -> Option<PermissionCheck<'_>> {
        Some(PermissionCheck {
            file: self.file,
            rights: true,
        })
    }

    /// What happens with objects that lose their last name: kept as orphans, or deleted.
    fn purpose(&self) -> SpacePurpose {
        match self.options.no_redo {
            true => SpacePurpose::Discard,
            false => SpacePurpose::Revert,
        }
    }

    /// The content and attributes of this object, as the target of a revert.
    fn content(&self) -> ContentRevert<'_> {
        ContentRevert {
            mount: self.inode.mount(),
            journal: self.journal,
            inode: self.inode,
            lower: self.file.lower_dentry(),
            file: Some(self.file.lower()),
            open: Some(self.file.open()),
            force: self.options.force,
            resumed: None,
            is_killable: true,
        }
    }
}

/// Position of the object's newest line.
pub(crate) fn head(journal: &Journal, inode: &UpperInode) -> Result<Option<Pos>> {
    record::log_mmap_writes(inode);
    let state = inode.object().state.lock();
    if !state.loaded {
        // `state.loaded` stays false: only an open for writing compares the object with its closing
        // line.
        return journal.last_line(inode.id());
    }
    Ok(state.head)
}
