// SPDX-License-Identifier: GPL-2.0

//! Making a group revert durable: the objects that it touches, one by one. To write all of the lower
//! filesystem back, as sync(2) does, would write what other users have dirtied, while the group has its
//! objects locked, and a directory that it shares with others among them.

use super::{GroupRevert, Outcome};
use crate::{
    history::{
        line::ObjectId,
        plan::NameStep, //
    },
    revert::{
        binding::find_orphan,
        names::directory,
        steps::{Direction, Lines, UndoStep},
    },
    uapi::Reason,
    vfs::{c, dentry::Dentry, file::File, superblock::SuperBlock}, //
};
use kernel::{prelude::*, rbtree::RBTree};

/// For more than this many, the lower filesystem is written back as a whole: once with nothing excluded, so
/// that little is left when it is done again.
const FEW: usize = 64;

/// What was made durable so far.
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

    /// Makes the objects durable, with nothing excluded yet, and all of those whose names come back. After a
    /// power cut within the group, recovery restores what the group replaced: were an older change of the
    /// same object not durable, that would give a state which the object never had. Waits, killably, as long
    /// as the lower filesystem is frozen.
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
            // One that has gone meanwhile is found out about when all are looked at again.
            let Ok(opened) = self.context.open(member.object) else {
                continue;
            };
            self.sync_lower(&opened.lower)?;
        }
        Ok(())
    }

    /// Makes objects durable whose names come back. One that cannot be is as durable as it was when its name
    /// went: no reason to refuse.
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

    /// Makes a lower object durable, with all that it holds.
    fn sync_lower(&self, lower: &Dentry) -> Result {
        let inode = lower.inode().ok_or(ENOENT)?;
        if inode.is_regular() || inode.is_directory() {
            let access = c::O_RDONLY | c::O_LARGEFILE | c::O_NONBLOCK;
            File::open_kernel(self.context.mount.lower(), lower, access)?.sync(0, i64::MAX, false)
        } else {
            // No file can be opened to have it synced.
            self.below().sync_metadata(inode)
        }
    }

    /// Makes durable what was done to the objects, and to the names of directories. A name goes from one
    /// directory to another in one transaction of the lower filesystem, kept/ among these.
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
                // With its name.
                Err(refusal) if refusal.reason == Reason::Gone => {}
                opened => synced.sync_at(member.object, &opened?.lower)?,
            }
        }
        Ok(())
    }
}

impl SyncedObjects<'_> {
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
