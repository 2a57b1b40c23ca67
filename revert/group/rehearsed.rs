// SPDX-License-Identifier: GPL-2.0

//! The state of names and objects after the rehearsed steps.

use super::{
    objects::OpenDirectory,
    rehearse::{conflict, StepRehearsal},
    Outcome,
};
use crate::{
    backup::orphans,
    log::types::ObjectId,
    vfs::{dentry::Dentry, inode::UpperInode, namei},
};
use kernel::{prelude::*, sync::aref::ARef};

/// State of an object after the rehearsed steps.
pub(super) struct RehearsedObject {
    pub(super) inode: ARef<UpperInode>,
    pub(super) is_directory: bool,
    /// Whether the caller owns the object or has CAP_FOWNER.
    pub(super) is_owned: bool,
    /// Whether the caller may write to the object: needed for a directory that changes its parent.
    pub(super) may_write: bool,
    /// Whether FS_IMMUTABLE_FL or FS_APPEND_FL forbids to move or remove the object.
    pub(super) is_protected: bool,
    pub(super) is_orphan: bool,
    /// Number of hard links.
    pub(super) links: u32,
    /// Number of names that the rehearsed steps added to the directory.
    pub(super) inside: i64,
    /// The new parent, if the directory was moved.
    pub(super) parent: Option<ObjectId>,
    /// Lower dentry of a directory.
    pub(super) lower: Option<ARef<Dentry>>,
}

impl StepRehearsal<'_> {
    /// The object that a name is bound to after the earlier steps. Must be `node`, if given.
    #[inline(never)]
    pub(super) fn bound(
        &mut self,
        dir: &OpenDirectory,
        name: &[u8],
        node: Option<ObjectId>,
    ) -> Outcome<ObjectId> {
        // A forged line must not reach `.loggerfs`.
        (self.group.context.mount).refuse_history(dir.lower(), name)?;
        let found = match self.names.get(&NameKey::of(dir.object(), name)) {
            Some(bound) => bound.ok_or(conflict())?,
            None => {
                let lower = namei::lookup(self.group.context.mount.lower(), dir.lower(), name)?;
                let found = lower.inode().ok_or(conflict())?.id();
                self.know(found, &lower, false)?;
                found
            }
        };
        if node.is_some_and(|node| node != found) {
            return Err(conflict());
        }
        Ok(found)
    }

    /// Fails unless the name is free after the earlier steps.
    #[inline(never)]
    pub(super) fn must_be_free(&self, dir: &OpenDirectory, name: &[u8]) -> Outcome {
        (self.group.context.mount).refuse_history(dir.lower(), name)?;
        let is_free = match self.names.get(&NameKey::of(dir.object(), name)) {
            Some(bound) => bound.is_none(),
            None => namei::lookup(self.group.context.mount.lower(), dir.lower(), name)?
                .inode()
                .is_none(),
        };
        if is_free {
            Ok(())
        } else {
            Err(conflict())
        }
    }

    /// Reads the state of an object that no earlier step used.
    #[inline(never)]
    pub(super) fn know(&mut self, object: ObjectId, lower: &Dentry, is_orphan: bool) -> Outcome {
        if self.objects.get(&object).is_some() {
            return Ok(());
        }
        let context = &self.group.context;
        let inode = UpperInode::iget(context.sb, lower.inode().ok_or(ENOENT)?)?;
        // Flags or owner may have changed in the lower filesystem.
        inode.copy_attr();
        let is_directory = inode.is_directory();
        let is_unprotected = inode.is_protected() && self.group.has_content_of(object);
        // vfs_rename() checks MAY_WRITE for a directory that changes its parent; inode_permission()
        // refuses it for FS_IMMUTABLE_FL, which the request lifts first.
        let may_write = match is_unprotected {
            true => inode.may_write_unprotected(),
            false => inode.may_write(),
        };
        let known = RehearsedObject {
            is_directory,
            is_owned: inode.owner_or_capable(),
            may_write: !is_directory || may_write.is_ok(),
            is_protected: inode.is_protected() && !is_unprotected,
            is_orphan,
            links: inode.lower().links(),
            inside: 0,
            parent: None,
            lower: is_directory.then(|| lower.get()),
            inode,
        };
        self.objects
            .try_create_and_insert(object, known, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// State of an object that is known.
    pub(super) fn known(&mut self, object: ObjectId) -> Outcome<&mut RehearsedObject> {
        Ok(self.objects.get_mut(&object).ok_or(EIO)?)
    }

    /// Binds a name to an object, or unbinds it.
    #[inline(never)]
    pub(super) fn bind(
        &mut self,
        dir: &OpenDirectory,
        name: &[u8],
        node: Option<ObjectId>,
    ) -> Outcome {
        let key = NameKey::of(dir.object(), name);
        if self.objects.get(&dir.object()).is_none() {
            let is_orphan = self.group.context.is_orphan(dir.inode())?;
            self.know(dir.object(), dir.lower(), is_orphan)?;
        }
        let inside = &mut self.known(dir.object())?.inside;
        // Relative to the lower directory, which a rehearsal does not change.
        *inside = inside.saturating_add(if node.is_some() { 1 } else { -1 });
        match self.names.get_mut(&key) {
            Some(bound) => *bound = node,
            None => {
                self.names
                    .try_create_and_insert(key, node, GFP_KERNEL_ACCOUNT)?;
            }
        }
        if let Some(node) = node {
            let known = self.known(node)?;
            known.is_orphan = false;
            if known.is_directory {
                // Used by the check for descendants.
                known.parent = Some(dir.object());
            }
        }
        Ok(())
    }

    /// Whether the directory is empty after the earlier steps.
    #[inline(never)]
    pub(super) fn is_empty(&mut self, node: ObjectId) -> Outcome<bool> {
        let mount = self.group.context.mount;
        let known = self.known(node)?;
        let lower = known.lower.clone().ok_or(EIO)?;
        let inside = known.inside;
        // Another program may have added entries to the lower directory.
        let below = orphans::count(mount, &lower)?;
        Ok(i64::try_from(below)
            .unwrap_or(i64::MAX)
            .saturating_add(inside)
            <= 0)
    }

    /// Whether a directory is `top`, or a descendant of it after the earlier steps.
    #[inline(never)]
    pub(super) fn is_below(&self, dir: &OpenDirectory, top: ObjectId) -> Outcome<bool> {
        const DEEPEST: usize = 4096;
        let context = &self.group.context;
        let mut here = dir.lower().get();
        for _ in 0..DEEPEST {
            let object = here.inode().ok_or(ENOENT)?.id();
            if object == top {
                return Ok(true);
            }
            let moved = self.objects.get(&object).and_then(|known| known.parent);
            let parent = match moved {
                Some(parent) => match self
                    .objects
                    .get(&parent)
                    .and_then(|known| known.lower.clone())
                {
                    Some(lower) => lower,
                    None => context.open(parent)?.lower,
                },
                // dget_parent(): another program may move the directory.
                None => here.dget_parent(),
            };
            if core::ptr::eq(&*parent, &*here) {
                return Ok(false);
            }
            here = parent;
        }
        Err(conflict())
    }
}

/// Key of a name in a directory: two FNV-1a hashes, forwards and backwards. On a collision of both,
/// a step fails when it is applied, and the group is rolled back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameKey(u64, u64);

impl NameKey {
    pub(super) fn of(dir: ObjectId, name: &[u8]) -> Self {
        let place = [dir.volume, dir.inode, u64::from(dir.generation)];
        let step =
            |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let seed = (place.iter())
            .flat_map(|number| number.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, step);
        let forwards = name.iter().copied().fold(seed, step);
        let backwards = name.iter().rev().copied().fold(!seed, step);
        Self(forwards, backwards)
    }
}
