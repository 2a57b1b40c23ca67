// SPDX-License-Identifier: GPL-2.0

//! Rehearses the steps on names: checks, before the first step is applied, that each step will find
//! its names and objects, and that the caller has the permissions. Dry runs and real requests share
//! this code, so both decide alike.
//!
//! The effects of earlier steps are kept in memory: names that are bound or free, and the state of
//! objects. Everything else is read from the lower directories.

use super::{
    objects::{DirectoryCache, OpenDirectory},
    order::OrderedSteps,
    rehearsed::{NameKey, RehearsedObject},
    ConflictSink, GroupRevert, Outcome,
};
use crate::{
    history::admission::SpacePurpose,
    log::{
        plan::{Directory, NameStep, Victim},
        types::ObjectId,
    },
    revert::{
        binding,
        names::{decode, directory, NAME},
        rights::inverse::{self, DeleteCheck},
        steps::{Direction, Lines, UndoStep},
        Refusal,
    },
    uapi::Reason,
    vfs::{dentry::Dentry, inode::UpperInode},
};
use kernel::{prelude::*, rbtree::RBTree, sync::aref::ARef};

/// A directory that an operation of the request created, and that will not be empty.
#[derive(Clone, Copy)]
pub(crate) struct NonEmptyDirectory {
    /// Number of the operation.
    pub(crate) seq: u64,
    /// The newest kept operation on a name inside; 0 if unknown.
    pub(crate) blocker: u64,
}

/// A rehearsal of the steps, one after another.
pub(super) struct StepRehearsal<'a> {
    pub(super) group: &'a GroupRevert<'a>,
    dirs: DirectoryCache<'a>,
    /// Bindings of names that steps changed; `None` for a free name.
    pub(super) names: RBTree<NameKey, Option<ObjectId>>,
    pub(super) objects: RBTree<ObjectId, RehearsedObject>,
    /// Directories in which the caller may change names.
    checked: RBTree<ObjectId, ()>,
    non_empty: KVVec<NonEmptyDirectory>,
    moves_directories: bool,
}

/// Result of a rehearsal.
#[derive(Default)]
pub(super) struct RehearsalResult {
    /// Directories that are not empty. The operations that created them are kept.
    pub(super) non_empty: KVVec<NonEmptyDirectory>,
    /// All objects that steps change, or whose names they remove.
    pub(super) inodes: KVVec<ARef<UpperInode>>,
    /// Whether a directory changes its parent.
    pub(super) moves_directories: bool,
    /// The steps that were rehearsed.
    pub(super) steps: OrderedSteps,
}

impl GroupRevert<'_> {
    /// Rehearses all steps on names, and reports the conflicts.
    #[inline(never)]
    pub(super) fn rehearse(&self, conflicts: ConflictSink<'_>) -> Outcome<RehearsalResult> {
        let steps = match self.steps() {
            Err(refusal) if refusal.seq != 0 => {
                conflicts(refusal.seq, refusal)?;
                return Ok(RehearsalResult::default());
            }
            steps => steps?,
        };
        let mut rehearsal = StepRehearsal {
            group: self,
            dirs: DirectoryCache::new(&self.context, SpacePurpose::Revert),
            names: RBTree::new(),
            objects: RBTree::new(),
            checked: RBTree::new(),
            non_empty: KVVec::new(),
            moves_directories: false,
        };
        let mut lines = Lines::new(self.context.journal)?;
        for undo_step in &steps.undo_steps {
            self.context.breathe()?;
            if let Err(refusal) = rehearsal.step(&mut lines, undo_step) {
                // The first failed step ends the rehearsal: later ones may depend on it.
                for non_empty in &rehearsal.non_empty {
                    conflicts(
                        non_empty.seq,
                        Refusal::new(Reason::NotEmpty, non_empty.blocker),
                    )?;
                }
                conflicts(undo_step.seq, refusal)?;
                return Ok(RehearsalResult::default());
            }
        }
        let mut inodes = KVVec::new();
        for known in rehearsal.objects.values() {
            inodes.push(known.inode.clone(), GFP_KERNEL_ACCOUNT)?;
        }
        Ok(RehearsalResult {
            non_empty: rehearsal.non_empty,
            inodes,
            moves_directories: rehearsal.moves_directories,
            steps,
        })
    }
}

pub(super) fn conflict() -> Refusal {
    Refusal::new(Reason::Conflict, 0)
}

/// EPERM, as the system call of this step would return.
fn forbidden() -> Refusal {
    Refusal::new(Reason::NotPermitted, 0)
}

fn protected() -> Refusal {
    Refusal {
        error: EPERM,
        reason: Reason::NotWritable,
        seq: 0,
    }
}

impl<'a> StepRehearsal<'a> {
    /// Rehearses one step.
    #[inline(never)]
    fn step(&mut self, lines: &mut Lines<'_>, undo_step: &UndoStep) -> Outcome {
        let made = undo_step.is_of_mkdir.then_some(undo_step.seq);
        let object = self.group.member_object(undo_step.directory)?;
        let dir = self.dirs.open(object)?;
        self.may_change_names(&dir)?;
        let mut buf = [0; NAME];
        let is_back = undo_step.direction == Direction::Undo;
        match lines.step(undo_step)? {
            // The operation bound a name: its inverse unbinds it.
            NameStep::Remove { name, node } => {
                let name = decode(name, &mut buf)?;
                if is_back {
                    self.remove(&dir, name, node, made)?;
                } else {
                    self.restore(&dir, name, &ReturningObject::Recorded(node))?;
                }
            }
            // The operation removed an object: its inverse restores the victim.
            NameStep::Restore {
                name,
                victim,
                parent,
            } => {
                let name = decode(name, &mut buf)?;
                let other = self.other(parent)?;
                let dir = other.as_ref().unwrap_or(&dir);
                if is_back {
                    self.restore(dir, name, &ReturningObject::Victim(victim))?;
                } else {
                    self.remove(dir, name, victim.object, None)?;
                }
            }
            step => self.rename(&dir, step, is_back)?,
        }
        self.dirs.keep(dir);
        Ok(())
    }

    /// Rehearses a rename or an exchange.
    #[inline(never)]
    fn rename(&mut self, dir: &OpenDirectory, step: NameStep<'_>, is_back: bool) -> Outcome {
        let other = self.other(step.other_directory())?;
        let there = other.as_ref().unwrap_or(dir);
        let mut buf = [[0; NAME]; 2];
        let [first, second] = &mut buf;
        match step {
            // The inverse of a rename renames back.
            NameStep::Move { from, to, node, .. } => {
                let (old, new) = ((there, decode(from, first)?), (dir, decode(to, second)?));
                match is_back {
                    true => self.move_to(old, new, node),
                    false => self.move_to(new, old, node),
                }
            }
            // An exchange is its own inverse.
            NameStep::Exchange {
                name,
                other,
                node,
                over,
                ..
            } => {
                let (here_node, there_node) = match is_back {
                    true => (over, Some(node)),
                    false => (Some(node), over),
                };
                self.exchange(
                    (dir, decode(name, first)?, here_node),
                    (there, decode(other, second)?, there_node),
                )
            }
            NameStep::Remove { .. } | NameStep::Restore { .. } => Err(EIO.into()),
        }
    }

    /// The other directory of a rename.
    #[inline(never)]
    fn other(&mut self, parent: Option<Directory<'_>>) -> Outcome<Option<OpenDirectory>> {
        let Some(parent) = parent else {
            return Ok(None);
        };
        let context = &self.group.context;
        let lower = directory(context.mount, &parent)?;
        let other = OpenDirectory::unchecked(context, lower)?;
        self.may_change_names(&other)?;
        let is_orphan = match self.objects.get(&parent.object) {
            Some(known) => known.is_orphan,
            None => self.group.context.is_orphan(other.inode())?,
        };
        if is_orphan {
            return Err(conflict());
        }
        Ok(Some(other))
    }

    /// Whether the caller may change names in the directory, with the flags that the request
    /// restores.
    #[inline(never)]
    fn may_change_names(&mut self, dir: &OpenDirectory) -> Outcome {
        let (object, inode) = (dir.object(), dir.inode());
        if self.checked.get(&object).is_some() {
            return Ok(());
        }
        // Search permission for each directory up to the mount's root, as in a path walk.
        if !self.group.context.caller()?.reaches_names_in(dir.lower())? {
            return Err(Refusal::new(Reason::NotOwner, 0));
        }
        if inode.is_protected() && self.group.has_content_of(object) {
            inode.may_change_names_unprotected()?;
        } else {
            inode.may_change_names()?;
        }
        self.checked
            .try_create_and_insert(object, (), GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// The checks of may_delete().
    #[inline(never)]
    fn may_delete(&mut self, dir: &OpenDirectory, node: ObjectId) -> Outcome {
        let is_protected = dir.inode().is_protected() && !self.group.has_content_of(dir.object());
        let known = self.known(node)?;
        let taken = DeleteCheck {
            is_protected: is_protected || known.is_protected,
            is_owned: known.is_owned,
        };
        inverse::may_delete(dir.inode(), &taken)
    }

    /// Rehearses the removal of a name. `made` is the operation that created the directory.
    #[inline(never)]
    fn remove(
        &mut self,
        dir: &OpenDirectory,
        name: &[u8],
        node: ObjectId,
        made: Option<u64>,
    ) -> Outcome {
        self.bound(dir, name, Some(node))?;
        self.may_delete(dir, node)?;
        // vfs_rmdir() and vfs_rename() return EBUSY for a local mountpoint.
        if dir.is_mount_point(name) {
            return Err(conflict());
        }
        let known = self.known(node)?;
        // Other links remain. The last link turns the object into an orphan.
        if !known.is_directory && known.links > 1 {
            known.links = known.links.saturating_sub(1);
        } else {
            if known.is_directory && !self.is_empty(node)? {
                let blocker = self.group.newest_inside(node)?;
                let Some(seq) = made else {
                    return Err(Refusal::new(Reason::Conflict, blocker));
                };
                self.non_empty
                    .push(NonEmptyDirectory { seq, blocker }, GFP_KERNEL_ACCOUNT)?;
                return Ok(());
            }
            self.known(node)?.is_orphan = true;
        }
        self.bind(dir, name, None)
    }

    /// Rehearses the restore of a name. The name must be free.
    #[inline(never)]
    fn restore(&mut self, dir: &OpenDirectory, name: &[u8], what: &ReturningObject<'_>) -> Outcome {
        let object = what.object();
        let is_orphan = self.find(dir, what)?;
        self.must_be_free(dir, name)?;
        let known = self.known(object)?;
        if known.is_protected {
            return Err(protected());
        }
        if !is_orphan {
            // A directory has one name at most.
            if known.is_directory {
                return Err(conflict());
            }
            known.links = known.links.saturating_add(1);
        }
        self.bind(dir, name, Some(object))
    }

    /// Finds an object to restore and reads its state. Returns whether it is an orphan then;
    /// otherwise it has another name.
    #[inline(never)]
    fn find(&mut self, dir: &OpenDirectory, what: &ReturningObject<'_>) -> Outcome<bool> {
        let object = what.object();
        if let Some(known) = self.objects.get(&object) {
            if known.is_orphan {
                return Ok(true);
            }
        } else if let Some((_, lower)) = self.kept(what)? {
            self.may_restore(&lower, false)?;
            self.know(object, &lower, true)?;
            return Ok(true);
        }
        let lower = self.named(dir, what)?;
        self.may_restore(&lower, true)?;
        self.know(object, &lower, false)?;
        Ok(false)
    }

    /// Whether the caller may give the object a name again.
    #[inline(never)]
    fn may_restore(&self, lower: &Dentry, is_link: bool) -> Outcome {
        let context = &self.group.context;
        let inode = UpperInode::iget(context.sb, lower.inode().ok_or(ENOENT)?)?;
        context.caller()?.may_restore(&inode, lower, is_link)
    }

    /// The orphan to restore, if there is one.
    #[inline(never)]
    fn kept(&self, what: &ReturningObject<'_>) -> Result<binding::OrphanEntry> {
        let segment = match what {
            ReturningObject::Victim(victim) => victim.kept,
            ReturningObject::Recorded(_) => None,
        };
        binding::find_orphan(self.group.context.journal, what.object(), segment)
    }

    /// Another name of the object to restore.
    #[inline(never)]
    fn named(&self, dir: &OpenDirectory, what: &ReturningObject<'_>) -> Outcome<ARef<Dentry>> {
        let context = &self.group.context;
        match what {
            ReturningObject::Victim(victim) => {
                binding::named_victim(context.sb, context.journal, victim, dir.lower())
            }
            ReturningObject::Recorded(object) => context.find_recorded(*object)?.into_lower(),
        }
    }

    /// Rehearses a rename to a free name.
    #[inline(never)]
    fn move_to(
        &mut self,
        (from, old): (&OpenDirectory, &[u8]),
        (to, new): (&OpenDirectory, &[u8]),
        node: ObjectId,
    ) -> Outcome {
        self.bound(from, old, Some(node))?;
        self.must_be_free(to, new)?;
        self.may_delete(from, node)?;
        self.may_change_parent(from, to, node)?;
        self.bind(from, old, None)?;
        self.bind(to, new, Some(node))
    }

    /// Rehearses an exchange of two names.
    #[inline(never)]
    fn exchange(
        &mut self,
        (here, name, node): (&OpenDirectory, &[u8], Option<ObjectId>),
        (there, second_name, second_node): (&OpenDirectory, &[u8], Option<ObjectId>),
    ) -> Outcome {
        let first = self.bound(here, name, node)?;
        let second = self.bound(there, second_name, second_node)?;
        self.may_delete(here, first)?;
        self.may_delete(there, second)?;
        self.may_change_parent(here, there, first)?;
        self.may_change_parent(there, here, second)?;
        self.bind(here, name, None)?;
        self.bind(there, second_name, None)?;
        self.bind(here, name, Some(second))?;
        self.bind(there, second_name, Some(first))
    }

    /// The checks of vfs_rename() for a directory that changes its parent: it must be writable, and
    /// may not become its own descendant.
    #[inline(never)]
    fn may_change_parent(
        &mut self,
        from: &OpenDirectory,
        to: &OpenDirectory,
        node: ObjectId,
    ) -> Outcome {
        let known = self.known(node)?;
        if !known.is_directory || from.object() == to.object() {
            return Ok(());
        }
        if !known.may_write {
            return Err(forbidden());
        }
        // The request then takes s_vfs_rename_mutex, as lock_rename() does.
        self.moves_directories = true;
        if self.is_below(to, node)? {
            return Err(conflict());
        }
        Ok(())
    }
}

/// An object that gets a name again.
enum ReturningObject<'a> {
    /// Found by the line of its removal.
    Victim(Victim<'a>),
    /// Found by its own lines.
    Recorded(ObjectId),
}

impl ReturningObject<'_> {
    fn object(&self) -> ObjectId {
        match self {
            Self::Victim(victim) => victim.object,
            Self::Recorded(object) => *object,
        }
    }
}
