// SPDX-License-Identifier: GPL-2.0

//! Conflicts about the content of orphans. A removal affects all of a file. An earlier operation
//! cannot be reverted without the removal: the change would be invisible, and a later revert of the
//! removal would show it. Operations after the removal, through an open file, can be reverted.

use super::{ConflictSink, GroupMember, GroupRevert, Outcome};
use crate::{
    history::orphan_record::{Cause, OrphanRecord, HANDLE_MAX},
    log::{
        line::{Line, Op},
        types::ObjectId,
    },
    revert::{steps::Lines, Refusal},
    uapi::Reason,
    vfs::error::ENODATA,
};
use kernel::{prelude::*, rbtree::RBTree};

/// The objects of the chosen operations on names, which may get a name again.
pub(super) enum NamedObjects {
    These(RBTree<ObjectId, ()>),
    /// The operations include reverts, which may affect any object.
    Any,
}

impl NamedObjects {
    fn contains(&self, object: ObjectId) -> bool {
        match self {
            Self::These(objects) => objects.get(&object).is_some(),
            Self::Any => true,
        }
    }
}

impl GroupRevert<'_> {
    /// See [`NamedObjects`].
    #[inline(never)]
    pub(super) fn named(&self) -> Outcome<NamedObjects> {
        let mut objects = RBTree::new();
        if self.members.iter().all(|member| member.is_on_names) {
            return Ok(NamedObjects::These(objects));
        }
        let mut lines = Lines::new(self.context.journal)?;
        for chosen in self.chosen.iter().filter(|chosen| chosen.is_on_names) {
            let line = lines.read(chosen.at)?;
            if matches!(line.op, Op::Revert | Op::Redo) {
                return Ok(NamedObjects::Any);
            }
            for object in [line.node, line.over].into_iter().flatten() {
                objects.try_create_and_insert(object, (), GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(NamedObjects::These(objects))
    }

    /// Reports operations older than the removal of the member's object, if the object is an orphan
    /// and no chosen operation restores a name of it.
    #[inline(never)]
    pub(super) fn refuse_orphan_content(
        &self,
        member: &GroupMember,
        named: &NamedObjects,
        conflicts: ConflictSink<'_>,
    ) -> Outcome {
        if named.contains(member.object) {
            return Ok(());
        }
        let entry = match self.context.journal.find_orphan(member.object) {
            Err(e) if e == ENODATA => return Ok(()),
            found => found?.1,
        };
        let mut handle = [0; HANDLE_MAX];
        let Some(orphan) = OrphanRecord::parse(entry.bytes(), &mut handle) else {
            // The entry does not have the time of the removal.
            return Ok(());
        };
        // Removed by a revert: no operation in the log is the removal.
        if orphan.cause == Cause::Revert {
            return Ok(());
        }
        let before = |chosen: &&super::ChosenOperation| chosen.seq < orphan.seq;
        let mut removal = None;
        for chosen in self.of(member).iter().filter(before) {
            let seq = match removal {
                Some(seq) => seq,
                None => *removal.insert(self.removal(&orphan)?),
            };
            conflicts(chosen.seq, Refusal::new(Reason::Conflict, seq))?;
        }
        Ok(())
    }

    /// Number of the line of the removal; 0 if it is not found.
    #[inline(never)]
    fn removal(&self, orphan: &OrphanRecord<'_>) -> Outcome<u64> {
        let context = &self.context;
        let Ok(parent) = context.mount.directory_by_handle(orphan.parent) else {
            return Ok(0);
        };
        let parent = parent.inode().ok_or(ENOENT)?.id();
        let mut lines = Lines::new(context.journal)?;
        let mut next = context.journal.last_line(parent)?;
        while let Some((_, line)) = lines.back_while_kept(&mut next)? {
            if line.seq < orphan.seq {
                break;
            }
            if is_removal_of(&line, orphan.object) {
                return Ok(line.seq);
            }
        }
        Ok(0)
    }
}

/// Whether the line removed the object's name.
fn is_removal_of(line: &Line<'_>, object: ObjectId) -> bool {
    let removed = match line.op {
        Op::Unlink | Op::Rmdir => line.node,
        Op::Rename => line.over,
        _ => None,
    };
    removed == Some(object)
}
