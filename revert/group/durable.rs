// SPDX-License-Identifier: GPL-2.0

//! Flushes the objects of a group revert, one by one. A flush of the whole lower filesystem, as by
//! sync(2), would also write other users' dirty data while the group holds its locks, among them
//! the lock of a directory that the group shares with other users.

use super::{GroupRevert, Outcome};
use crate::{
    log::{plan::NameStep, types::ObjectId},
    revert::{
        binding::find_orphan,
        names::directory,
        steps::{Direction, Lines, UndoStep},
    },
    uapi::Reason,
    vfs::{c, dentry::Dentry, file::File, superblock::SuperBlock},
};
use kernel::{prelude::*, rbtree::RBTree};

/// Number of objects above which the whole lower filesystem is flushed, once without locks, so that
/// little is left for the second time.
const FEW: usize = 64;

/// The objects that were flushed so far.
struct SyncedObjects<'a> {
    group: &'a GroupRevert<'a>,
    objects: RBTree<ObjectId, ()>,
}

impl GroupRevert<'_> {
    fn below(&self) -> &SuperBlock {
        self.context.mount.lower().root().superblock()
    }

    fn is_large(&self) -> bool {
        self.members.len() > FEW
    }

    /// Flushes the group's objects, and the orphans that the group restores, before the objects are
    /// locked. After a power cut during the group, recovery restores only what the group replaced.
    /// If an older change of the same object were not durable, the result would be a state that the
    /// object never had. Waits, killably, while the lower filesystem is frozen.
    #[inline(never)]
    pub(super) fn sync_before(&self) -> Outcome {
        self.context.journal.flush_killable(true)?;
        let undo_steps = self.steps()?.undo_steps;
        if self.members.len().saturating_add(undo_steps.len()) > FEW {
            return Ok(self.below().sync()?);
        }
        self.sync_returning(&undo_steps)?;
        for member in &self.members {
            self.context.breathe()?;
            // The object is gone. The second planning finds that out.
            let Ok(opened) = self.context.open(member.object) else {
                continue;
            };
            self.sync_lower(&opened.lower)?;
        }
        Ok(())
    }

    /// Flushes the orphans that the group restores. A failure is no reason to refuse: the orphan is
    /// as durable as it was before its removal.
    fn sync_returning(&self, undo_steps: &[UndoStep]) -> Outcome {
        let journal = self.context.journal;
        let mut lines = Lines::new(journal)?;
        for undo_step in undo_steps {
            self.context.breathe()?;
            let (object, segment) = match (lines.step(undo_step)?, undo_step.direction) {
                (NameStep::Restore { victim, .. }, Direction::Undo) => (victim.object, victim.kept),
                (NameStep::Remove { node, .. }, Direction::Redo) => (node, None),
                _ => continue,
            };
            if let Some((_, lower)) = find_orphan(journal, object, segment)? {
                let _ = self.sync_lower(&lower);
            }
        }
        Ok(())
    }

    /// Flushes a lower object: data and metadata.
    fn sync_lower(&self, lower: &Dentry) -> Result {
        let inode = lower.inode().ok_or(ENOENT)?;
        if inode.is_regular() || inode.is_directory() {
            let access = c::O_RDONLY | c::O_LARGEFILE | c::O_NONBLOCK;
            File::open_kernel(self.context.mount.lower(), lower, access)?.sync(0, i64::MAX, false)
        } else {
            // Special files and symbolic links cannot be opened for an fsync(2) of the inode.
            inode.sync_metadata()
        }
    }

    /// Flushes the changed objects and directories. A rename between directories, also from or to
    /// the orphans' directory, is one transaction of the lower filesystem.
    #[inline(never)]
    pub(super) fn sync(&self, undo_steps: &[UndoStep]) -> Outcome {
        if self.is_large() {
            return Ok(self.below().sync()?);
        }
        let mut synced = SyncedObjects {
            group: self,
            objects: RBTree::new(),
        };
        let mut lines = Lines::new(self.context.journal)?;
        for undo_step in undo_steps {
            if let Some(parent) = lines.step(undo_step)?.other_directory() {
                let lower = directory(self.context.mount, &parent)?;
                synced.sync_at(parent.object, &lower)?;
            }
        }
        for member in &self.members {
            if member.is_untouched {
                continue;
            }
            match self.context.open(member.object) {
                // The object lost its last name in this group.
                Err(refusal) if refusal.reason == Reason::Gone => {}
                opened => synced.sync_at(member.object, &opened?.lower)?,
            }
        }
        Ok(())
    }
}

impl SyncedObjects<'_> {
    /// Flushes an object, once.
    fn sync_at(&mut self, object: ObjectId, lower: &Dentry) -> Outcome {
        if self.objects.get(&object).is_some() {
            return Ok(());
        }
        self.group.sync_lower(lower)?;
        self.objects
            .try_create_and_insert(object, (), GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }
}
