// SPDX-License-Identifier: GPL-2.0

//! Applies the plans of a group, and rolls them back.

use super::{
    order::{self, DirectoryTargets, OrderedSteps},
    GroupMember, GroupRevert, OpenedObject, Outcome, RevertContext,
};
use crate::{
    backup,
    history::journal::SpacePurpose,
    log::{
        plan::{NameStep, Progress, Records},
        types::{ObjectId, Pos},
    },
    record,
    revert::{
        attributes,
        content::ContentRevert,
        cross_directory::{lock, RenameEnd},
        names::{decode, directory, NamesRevert, NAME},
        plan_builder::{self, refuse, ContentPlan},
        rights::inverse::PermissionCheck,
        steps::{Direction, Lines, UndoStep},
        Refusal,
    },
    state::ObjectState,
    uapi::Reason,
    vfs::{
        c,
        dentry::{Dentry, UpperDentry},
        error::EUCLEAN,
        fsnotify::ChangeEvents,
        inode::UpperInode,
        lock::ReentrantInodeGuard,
        scope::KernelCreds,
        upper_names::LockedDirectory,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Outcome of a failed group revert.
pub(super) enum GroupRevertError {
    /// All objects are unchanged.
    RolledBack(Refusal),
    /// Some objects are changed, and the rollback failed, too.
    Incomplete(Refusal),
}

impl GroupRevertError {
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::RolledBack(refusal) | Self::Incomplete(refusal) => refusal,
        }
    }
}

impl GroupRevert<'_> {
    /// Applies and flushes everything, or nothing. Returns the steps on names.
    #[inline(never)]
    pub(super) fn apply(&self) -> Result<KVVec<UndoStep>, GroupRevertError> {
        if self.request.no_redo {
            return self.apply_forward();
        }
        let mut undo_steps = self
            .steps()
            .map_err(GroupRevertError::RolledBack)?
            .undo_steps;
        let (mut begun, mut done) = (0, 0);
        let mut unfinished = KVVec::new();
        // First, since this clears flags that would forbid the steps on names.
        let applied = self.apply_contents(&mut begun, &mut unfinished);
        let applied = applied.and_then(|()| self.apply_names(&mut undo_steps, &mut done));
        let applied = applied.and_then(|()| self.finish_contents(&unfinished));
        // Order on disk: all objects, then the commit.
        let applied = applied.and_then(|()| self.sync(&undo_steps));
        let Err(refusal) = applied else {
            return Ok(undo_steps);
        };
        match self.roll_back(undo_steps.get_mut(..done).unwrap_or_default(), begun) {
            Ok(()) => Err(GroupRevertError::RolledBack(refusal)),
            Err(_) => Err(GroupRevertError::Incomplete(refusal)),
        }
    }

    /// As [`Self::apply`], without captured pre-images: first everything that can be rolled back
    /// without them, then content, which can only be finished.
    #[inline(never)]
    fn apply_forward(&self) -> Result<KVVec<UndoStep>, GroupRevertError> {
        let mut undo_steps = self
            .steps()
            .map_err(GroupRevertError::RolledBack)?
            .undo_steps;
        let mut done = 0;
        let mut attributes = KVVec::new();
        let prepared = self.put_attributes(&mut attributes);
        let prepared = prepared.and_then(|()| self.apply_names(&mut undo_steps, &mut done));
        if let Err(refusal) = prepared {
            let names = self.roll_back(undo_steps.get_mut(..done).unwrap_or_default(), 0);
            return match names.and_then(|()| self.put_attributes_back(&attributes)) {
                Ok(()) => Err(GroupRevertError::RolledBack(refusal)),
                Err(_) => Err(GroupRevertError::Incomplete(refusal)),
            };
        }
        let finish = || {
            let mut unfinished = KVVec::new();
            self.apply_contents(&mut 0, &mut unfinished)?;
            self.finish_contents(&unfinished)?;
            self.sync(&undo_steps)
        };
        finish()
            // No pre-image to roll back to: the plans, which are idempotent, are applied once more.
            .or_else(|_: Refusal| finish())
            .map_err(GroupRevertError::Incomplete)?;
        Ok(undo_steps)
    }

    /// Sets the attributes first, since the caller may lack the permission and nothing else is
    /// changed yet. Adds their previous values to `before`.
    #[inline(never)]
    fn put_attributes(&self, before: &mut KVVec<(usize, KVVec<u8>)>) -> Outcome {
        let context = &self.context;
        for (index, member) in self.members.iter().enumerate() {
            if member.is_on_names {
                continue;
            }
            let opened = context.open(member.object)?;
            let mut state = opened.inode.object().state.lock();
            self.with_plan(&opened, member, &mut state, |state, _, _, records| {
                if records.is_empty() {
                    return Ok(());
                }
                let (mount, lower) = (context.mount.lower(), &*opened.lower);
                let present = backup::gather_attributes(mount, lower, records)?;
                // Before the change: a failure below rolls this member back, too.
                before.push((index, present), GFP_KERNEL)?;
                let put = context.mount.with_reserve(|| {
                    attributes::unprotect(mount, lower, records)?;
                    attributes::put(mount, lower, records)
                });
                opened.inode.copy_attr();
                record::note_change(state, &opened.inode);
                Ok(put?)
            })?;
        }
        Ok(())
    }

    /// Restores the previous values.
    #[inline(never)]
    fn put_attributes_back(&self, before: &[(usize, KVVec<u8>)]) -> Outcome {
        for (index, present) in before {
            let member = self.members.get(*index).ok_or(EUCLEAN)?;
            let opened = self.context.open(member.object)?;
            let mut state = opened.inode.object().state.lock();
            opened.known(&self.context, &mut state)?;
            let content = opened.content(&self.context, None, true);
            let put = content.target(false).put_back(present);
            opened.inode.copy_attr();
            record::note_change(&mut state, &opened.inode);
            put?;
        }
        Ok(())
    }

    /// Whether objects that lose their last name become orphans or are deleted.
    pub(super) fn purpose(&self) -> SpacePurpose {
        match self.request.no_redo {
            true => SpacePurpose::Discard,
            false => SpacePurpose::Revert,
        }
    }

    /// The steps on names, in order.
    #[inline(never)]
    pub(super) fn steps(&self) -> Outcome<OrderedSteps> {
        let takes = |seq| self.takes(seq);
        let mut places: KVVec<DirectoryTargets<'_>> = KVVec::new();
        for (directory, member) in self.members.iter().enumerate() {
            if !member.is_on_names {
                continue;
            }
            let place = DirectoryTargets {
                directory,
                object: member.object,
                head: self.context.journal.last_line(member.object)?,
                takes: &takes,
                count: self.of(member).len() as u64,
                jump: None,
            };
            places.push(place, GFP_KERNEL)?;
        }
        order::steps(self.context.journal, &places, self.first_number())
    }

    /// Applies the plans for content and attributes. `begun` counts the members, for the rollback;
    /// `unfinished` receives those with a last step after all names.
    fn apply_contents(&self, begun: &mut usize, unfinished: &mut KVVec<usize>) -> Outcome {
        for (index, member) in self.members.iter().enumerate() {
            *begun = begun.saturating_add(1);
            if !member.is_on_names && self.apply_content(member)? {
                unfinished.push(index, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// Applies one plan. Returns whether a last step must follow: steps on names update a
    /// directory's times and need it unprotected.
    #[inline(never)]
    fn apply_content(&self, member: &GroupMember) -> Outcome<bool> {
        if member.is_untouched {
            return Ok(false);
        }
        let context = &self.context;
        let opened = context.open(member.object)?;
        let mut changed = ChangeEvents::default();
        let mut state = opened.inode.object().state.lock();
        let applied = self.with_plan(
            &opened,
            member,
            &mut state,
            |state, content, plan, records| {
                let to_change = content.has_content(plan)?;
                changed = content.changed_by(plan)?;
                // open(2) for writing fails with EPERM on an immutable file.
                attributes::unprotect(context.mount.lower(), &opened.lower, records)?;
                let file = opened.file(context, to_change)?;
                let content = opened.content(context, file.as_deref(), self.request.force);
                let target = content.target(false);
                let mut content_changed = false;
                let applied =
                    target.apply(&plan.pieces, &plan.outcome, records, &mut content_changed);
                opened.inode.copy_attr();
                // Or the steps on names would log an external change.
                record::note_change(state, &opened.inode);
                applied?;
                // The steps on names will update mtime and ctime of a directory again.
                let is_moved = opened.inode.is_directory() && !records.is_empty();
                Ok(is_moved || attributes::protects(records))
            },
        );
        drop(state);
        // Not at the commit: readers of the file see the change already.
        (opened.inode).notify_by_alias(&opened.lower, context.file, changed);
        applied
    }

    /// Builds the plan of a member, with a readable lower file, and passes it to `go`.
    #[inline(never)]
    fn with_plan<T>(
        &self,
        opened: &OpenedObject,
        member: &GroupMember,
        state: &mut ObjectState,
        go: impl FnOnce(&mut ObjectState, &ContentRevert<'_>, &ContentPlan, Records<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let context = &self.context;
        opened.known(context, state)?;
        let mut lines = Lines::new(context.journal)?;
        let (at, _) = member.intent.ok_or(EIO)?;
        // The chain from the line before the intent on.
        let head = lines.read(at)?.prev;
        let reader = opened.file(context, false)?;
        let content = opened.content(context, reader.as_deref(), self.request.force);
        let plan = self.plan(&content, member, head, self.on_external(), &mut refuse)?;
        let records = Records::new(&plan.attributes).map_err(|_| EUCLEAN)?;
        go(state, &content, &plan, records)
    }

    /// Applies the last steps of members.
    fn finish_contents(&self, unfinished: &[usize]) -> Outcome {
        for index in unfinished {
            self.finish_content(self.members.get(*index).ok_or(EUCLEAN)?)?;
        }
        Ok(())
    }

    /// The last step of one member: attributes that the steps on names changed, and flags.
    #[inline(never)]
    fn finish_content(&self, member: &GroupMember) -> Outcome {
        let context = &self.context;
        let opened = match context.open(member.object) {
            // The object lost its name in this revert.
            Err(refusal) if refusal.reason == Reason::Gone => return Ok(()),
            opened => opened?,
        };
        let mut state = opened.inode.object().state.lock();
        self.with_plan(&opened, member, &mut state, |state, content, _, records| {
            let finished = content.target(false).finish(records);
            opened.inode.copy_attr();
            record::note_change(state, &opened.inode);
            Ok(finished?)
        })
    }

    /// Bytes of the objects that lose their last name.
    #[inline(never)]
    pub(super) fn orphan_bytes_of(&self, undo_steps: &[UndoStep]) -> Outcome<u64> {
        let context = &self.context;
        let mut lines = Lines::new(context.journal)?;
        let mut dirs = DirectoryCache::new(context, self.purpose());
        let mut bytes = 0u64;
        for undo_step in undo_steps {
            let object = self.members.get(undo_step.directory).ok_or(EUCLEAN)?.object;
            bytes = bytes.saturating_add(dirs.orphan_bytes_of(object, &mut lines, undo_step)?);
        }
        Ok(bytes)
    }

    /// Applies the steps on names. `done` counts the applied ones.
    #[inline(never)]
    fn apply_names(&self, undo_steps: &mut [UndoStep], done: &mut usize) -> Outcome {
        let context = &self.context;
        let mut lines = Lines::new(context.journal)?;
        let mut dirs = DirectoryCache::new(context, self.purpose());
        for undo_step in undo_steps {
            let object = self.members.get(undo_step.directory).ok_or(EUCLEAN)?.object;
            let seq = undo_step.seq;
            dirs.perform(object, &mut lines, undo_step, StepAction::Perform)
                .map_err(|refusal| Refusal { seq, ..refusal })?;
            *done = done.saturating_add(1);
        }
        Ok(())
    }

    /// Rolls back the applied steps in reverse order, then the content of the first `begun`
    /// members.
    #[inline(never)]
    fn roll_back(&self, done: &mut [UndoStep], begun: usize) -> Outcome {
        let context = &self.context;
        let mut lines = Lines::new(context.journal)?;
        let mut dirs = DirectoryCache::new(context, self.purpose());
        for member in self.members.iter().take(begun) {
            if let (false, Some((at, _))) =
                (member.is_on_names || member.is_untouched, member.intent)
            {
                // may_delete() refuses names in an immutable directory: clear the flags before the
                // steps.
                let _ = context.unprotect(member.object, at)?;
            }
        }
        for undo_step in done.iter_mut().rev() {
            let object = self.members.get(undo_step.directory).ok_or(EUCLEAN)?.object;
            dirs.perform(object, &mut lines, undo_step, StepAction::Rollback)?;
        }
        for member in self.members.iter().take(begun) {
            if let (false, Some((at, _))) =
                (member.is_on_names || member.is_untouched, member.intent)
            {
                context.restore_content(member.object, at)?;
            }
        }
        // The rollback must be durable before the closing line.
        self.sync(done)
    }
}

impl RevertContext<'_> {
    /// Flushes the lower filesystem (sync_filesystem()).
    pub(super) fn sync_all(&self) -> Result {
        self.mount.lower().root().superblock().sync()
    }

    /// Clears the protection that the revert at `at` may have restored. Returns the object if its
    /// flags are part of that revert. The caller holds the reference to keep the inode in memory: a
    /// fresh inode would be recovered on its own, and protected too early.
    #[inline(never)]
    pub(super) fn unprotect(&self, object: ObjectId, at: Pos) -> Outcome<Option<ARef<UpperInode>>> {
        let mut lines = Lines::new(self.journal)?;
        let saved = plan_builder::saved_attributes(self.journal, &lines.read(at)?)?;
        let records = Records::new(&saved).map_err(|_| EUCLEAN)?;
        if !attributes::lifts_protection(records) {
            return Ok(None);
        }
        let opened = match self.open(object) {
            Err(refusal) if refusal.reason == Reason::Gone => return Ok(None),
            opened => opened?,
        };
        {
            let mut state = opened.inode.object().state.lock();
            opened.known(self, &mut state)?;
            let _kernel = KernelCreds::new();
            attributes::unprotect(self.mount.lower(), &opened.lower, records)?;
            opened.inode.copy_attr();
            // Or the steps on names would log an external change.
            record::note_change(&mut state, &opened.inode);
        }
        Ok(Some(opened.inode))
    }

    /// Finishes the revert at `at`, which has no pre-image.
    #[inline(never)]
    pub(super) fn resume(&self, object: ObjectId, at: Pos) -> Outcome {
        let opened = self.open(object)?;
        let mut lines = Lines::new(self.journal)?;
        let line = lines.read(at)?;
        let file = opened.file(self, true)?;
        let content = opened.content(self, file.as_deref(), true);
        let mut state = opened.inode.object().state.lock();
        opened.known(self, &mut state)?;
        content.resume(&line, false)?;
        record::note_change(&mut state, &opened.inode);
        Ok(())
    }

    /// Restores the pre-image of the revert at `at`.
    pub(super) fn restore_content(&self, object: ObjectId, at: Pos) -> Outcome {
        let _held = self.unprotect(object, at)?;
        let opened = self.open(object)?;
        let mut lines = Lines::new(self.journal)?;
        let line = lines.read(at)?;
        let resized = line.size != Some(opened.inode.lower().size());
        let to_change = opened.inode.is_regular() && (line.map.is_some() || resized);
        let file = opened.file(self, to_change)?;
        let content = opened.content(self, file.as_deref(), true);
        let mut state = opened.inode.object().state.lock();
        opened.known(self, &mut state)?;
        content.target(false).restore_from(&line)?;
        record::note_change(&mut state, &opened.inode);
        drop(state);
        let changed = ChangeEvents {
            content: to_change,
            attributes: line.attributes.is_some(),
        };
        (opened.inode).notify_by_alias(&opened.lower, self.file, changed);
        Ok(())
    }
}

/// Whether to apply a step or to roll it back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StepAction {
    Perform,
    Rollback,
}

/// A directory whose names are reverted.
pub(super) struct OpenDirectory {
    object: ObjectId,
    opened: OpenedObject,
    /// Our dentry of the directory, if the dcache has one.
    dentry: Option<ARef<UpperDentry>>,
}

impl OpenDirectory {
    fn new(context: &RevertContext<'_>, object: ObjectId, opened: OpenedObject) -> Self {
        let dentry = UpperDentry::of_lower(context.sb, &opened.lower).ok();
        Self {
            object,
            opened,
            dentry,
        }
    }

    /// Opens a directory by its lower dentry.
    pub(super) fn unchecked(context: &RevertContext<'_>, lower: ARef<Dentry>) -> Outcome<Self> {
        let inode = lower.inode().ok_or(ENOENT)?;
        let object = inode.id();
        let inode = UpperInode::iget(context.sb, inode)?;
        Ok(Self::new(context, object, OpenedObject { inode, lower }))
    }

    pub(super) fn object(&self) -> ObjectId {
        self.object
    }

    pub(super) fn inode(&self) -> &UpperInode {
        &self.opened.inode
    }

    pub(super) fn lower(&self) -> &Dentry {
        &self.opened.lower
    }

    /// Whether a filesystem is mounted on a name in the directory.
    pub(super) fn is_mount_point(&self, name: &[u8]) -> bool {
        let child = self.dentry.as_ref().and_then(|dir| dir.cached_child(name));
        child.is_some_and(|child| child.is_mount_point())
    }

    fn end(&self) -> RenameEnd<'_> {
        RenameEnd {
            dentry: self.dentry.as_deref(),
            lower: &self.opened.lower,
        }
    }

    /// Our dentry, under a lock of the directory.
    fn under<'a>(&'a self, lock: &'a ReentrantInodeGuard<'_>) -> Option<LockedDirectory<'a>> {
        lock.directory(self.dentry.as_deref()?)
    }

    /// The directory as the target of a revert of names, `locked` if it is changed.
    fn names<'a>(
        &'a self,
        context: &RevertContext<'a>,
        locked: Option<LockedDirectory<'a>>,
        other: Option<&'a NamesRevert<'a>>,
        purpose: SpacePurpose,
        action: StepAction,
    ) -> NamesRevert<'a> {
        // Checked in the rehearsal; the LSM hooks remain.
        let rights = false;
        let file = context.file.filter(|_| action == StepAction::Perform);
        NamesRevert {
            mount: context.mount,
            journal: context.journal,
            dir: &self.opened.inode,
            dentry: self.dentry.as_deref(),
            locked,
            lower: &self.opened.lower,
            other,
            purpose,
            permission: file.map(|file| PermissionCheck { file, rights }),
        }
    }
}

/// Directories whose names are reverted, one step at a time. Caches the last one.
pub(super) struct DirectoryCache<'a> {
    context: &'a RevertContext<'a>,
    purpose: SpacePurpose,
    last: Option<OpenDirectory>,
}

/// The part of a step outside its own directory.
enum OtherDirectory {
    /// None.
    Nothing,
    /// The step changes the other directory only.
    Instead(ARef<Dentry>),
    /// The step renames between the directories.
    Across { lower: ARef<Dentry>, flags: u32 },
}

impl<'a> DirectoryCache<'a> {
    pub(super) fn new(context: &'a RevertContext<'a>, purpose: SpacePurpose) -> Self {
        Self {
            context,
            purpose,
            last: None,
        }
    }

    /// Takes the directory `object` out of the cache. [`Self::keep`] returns it.
    pub(super) fn open(&mut self, object: ObjectId) -> Outcome<OpenDirectory> {
        match self.last.take().filter(|dir| dir.object == object) {
            Some(dir) => Ok(dir),
            None => Ok(OpenDirectory::new(
                self.context,
                object,
                self.context.open(object)?,
            )),
        }
    }

    /// See [`NamesRevert::orphan_bytes_of`].
    fn orphan_bytes_of(
        &mut self,
        object: ObjectId,
        lines: &mut Lines<'_>,
        undo_step: &UndoStep,
    ) -> Outcome<u64> {
        let dir = self.open(object)?;
        let bytes = (dir.names(self.context, None, None, self.purpose, StepAction::Rollback))
            .orphan_bytes_of(lines, undo_step)?;
        self.last = Some(dir);
        Ok(bytes)
    }

    /// Returns a directory to the cache.
    pub(super) fn keep(&mut self, dir: OpenDirectory) {
        self.last = Some(dir);
    }

    /// Counts whether the names of a step are as before or as after it.
    pub(super) fn count(
        &mut self,
        object: ObjectId,
        lines: &mut Lines<'_>,
        undo_step: &UndoStep,
        progress: &mut Progress,
    ) -> Outcome {
        let dir = self.open(object)?;
        dir.names(self.context, None, None, self.purpose, StepAction::Rollback)
            .count_progress(lines, undo_step, progress)?;
        self.last = Some(dir);
        Ok(())
    }

    /// Resynchronises the objects of an applied step.
    pub(super) fn resync(
        &mut self,
        object: ObjectId,
        lines: &mut Lines<'_>,
        undo_step: &UndoStep,
    ) -> Outcome {
        let dir = self.open(object)?;
        let step = lines.step(undo_step)?;
        dir.names(self.context, None, None, self.purpose, StepAction::Rollback)
            .resync(&step, undo_step.direction)?;
        self.last = Some(dir);
        Ok(())
    }

    /// Applies a step of the directory `object`, or rolls it back. During recovery no directory is
    /// locked.
    pub(super) fn perform(
        &mut self,
        object: ObjectId,
        lines: &mut Lines<'_>,
        undo_step: &mut UndoStep,
        action: StepAction,
    ) -> Outcome {
        let (context, purpose) = (self.context, self.purpose);
        let dir = self.open(object)?;
        let mut buf = [[0; NAME]; 2];
        let [first, second] = &mut buf;
        let (mut from, mut to): (&[u8], &[u8]) = (&[], &[]);
        let beside = match lines.step(undo_step)? {
            NameStep::Restore {
                parent: Some(parent),
                ..
            } => OtherDirectory::Instead(directory(context.mount, &parent)?),
            NameStep::Move {
                from: there,
                to: here,
                parent: Some(parent),
                ..
            } => {
                (from, to) = (decode(there, first)?, decode(here, second)?);
                let lower = directory(context.mount, &parent)?;
                OtherDirectory::Across { lower, flags: 0 }
            }
            NameStep::Exchange {
                name,
                other,
                parent: Some(parent),
                ..
            } => {
                (from, to) = (decode(other, first)?, decode(name, second)?);
                let lower = directory(context.mount, &parent)?;
                let flags = c::RENAME_EXCHANGE;
                OtherDirectory::Across { lower, flags }
            }
            _ => OtherDirectory::Nothing,
        };
        let direction = match action {
            StepAction::Perform => undo_step.direction,
            StepAction::Rollback => undo_step.direction.inverted(),
        };
        let act =
            |names: &NamesRevert<'_>, lines: &mut Lines<'_>, undo_step: &mut UndoStep| match action
            {
                StepAction::Perform => names.perform_one(lines, undo_step),
                StepAction::Rollback => names.undo_one(lines, undo_step),
            };
        // The caller's rights were checked in the rehearsal. Applied attributes may have changed
        // them since.
        match beside {
            OtherDirectory::Nothing => {
                // I_MUTEX_PARENT: the lock of a child is taken below it.
                let lock = dir.opened.inode.lock_as_parent_unless_held();
                let names = dir.names(context, dir.under(&lock), None, purpose, action);
                act(&names, lines, undo_step)?;
            }
            OtherDirectory::Instead(lower) => {
                let other = other(context, lower)?;
                let lock = other.opened.inode.lock_as_parent_unless_held();
                let there = other.names(context, other.under(&lock), None, purpose, action);
                let here = dir.names(context, None, Some(&there), purpose, action);
                act(&here, lines, undo_step)?;
                other.opened.inode.copy_attr();
            }
            OtherDirectory::Across { lower, flags } => {
                let other = other(context, lower)?;
                let (here, there) = (dir.end(), other.end());
                let (source, target) = match direction {
                    Direction::Undo => ((there, from), (here, to)),
                    Direction::Redo => ((here, to), (there, from)),
                };
                let (one, two) = (&*dir.opened.inode, &*other.opened.inode);
                // Not held during recovery: locks both in lock_rename() order.
                let is_held = one.is_held() && two.is_held();
                let both = match is_held {
                    true => None,
                    false => lock(source, target, flags)?,
                };
                let held = is_held.then(|| {
                    (
                        one.lock_as_parent_unless_held(),
                        two.lock_as_parent_unless_held(),
                    )
                });
                let (mut here, mut there) = (None, None);
                if let Some((one, two)) = &held {
                    (here, there) = (dir.under(one), other.under(two));
                } else if let Some(both) = &both {
                    let (source, target) = both.directories();
                    (here, there) = match direction {
                        Direction::Undo => (Some(target), Some(source)),
                        Direction::Redo => (Some(source), Some(target)),
                    };
                }
                let there = other.names(context, there, None, purpose, action);
                let here = dir.names(context, here, Some(&there), purpose, action);
                act(&here, lines, undo_step)?;
                other.opened.inode.copy_attr();
            }
        }
        dir.opened.inode.copy_attr();
        self.last = Some(dir);
        Ok(())
    }
}

/// The other directory of a rename.
fn other(context: &RevertContext<'_>, lower: ARef<Dentry>) -> Outcome<OpenDirectory> {
    let other = OpenDirectory::unchecked(context, lower)?;
    // A removed directory (S_DEAD) gets no names.
    if other.inode().is_orphan() {
        return Err(Refusal::new(Reason::Conflict, 0));
    }
    Ok(other)
}
