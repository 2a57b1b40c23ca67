// SPDX-License-Identifier: GPL-2.0

//! Applies one step of a revert to names: changes the lower directory, our inode, the dcache, and
//! generates the fsnotify events. No step overwrites a name.

use super::{
    locate,
    names::{NamesRevert, Outcome},
    steps::Lines,
    Refusal,
};
use crate::{
    backup::orphans::{self, LastName, VictimState},
    history::{
        journal::Journal,
        orphan_record::{Cause, EntryName, HANDLE_MAX},
    },
    log::{line::decode_hex, plan::Victim, types::ObjectId},
    record,
    uapi::Reason,
    vfs::{
        c,
        dentry::{Dentry, UpperDentry},
        error::{ENODATA, ENOTEMPTY, EUCLEAN},
        inode::{Inode, UpperInode},
        mount::LowerMount,
        namei::{self, DirOpGuard, LowerName},
        scope::KernelCreds,
        store::StoreDir,
        superblock::UpperSuperBlock,
        upper_names::LockedChild,
        xattr,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Shorter names fit completely into an orphan's entry; the rest of a longer one is in an xattr.
const LONG: usize = 64;

/// An object that lost a name in a step.
pub(super) struct UnlinkedObject {
    inode: ARef<Inode>,
    /// The orphan's segment and its counted bytes; `None` if the object has other names.
    kept: Option<(u64, u64)>,
}

impl UnlinkedObject {
    /// The orphan's segment, the object, and its counted bytes.
    pub(super) fn kept(&self) -> Option<(u64, ObjectId, u64)> {
        let (segment, bytes) = self.kept?;
        Some((segment, self.inode.id(), bytes))
    }
}

impl NamesRevert<'_> {
    /// Whether the name is bound to the object.
    pub(super) fn is_bound(&self, name: &[u8], node: ObjectId) -> Result<bool> {
        let lower = namei::lookup(self.mount.lower(), self.lower, name)?;
        Ok(lower.inode().is_some_and(|inode| inode.id() == node))
    }

    /// Looks up a name, which must be bound to `node`, if given.
    fn bound(&self, name: &[u8], node: Option<ObjectId>) -> Outcome<ARef<Dentry>> {
        // A forged line must not reach `.loggerfs`.
        self.mount.refuse_history(self.lower, name)?;
        let lower = namei::lookup(self.mount.lower(), self.lower, name)?;
        match lower.inode() {
            Some(inode) if node.is_none_or(|node| inode.id() == node) => Ok(lower),
            _ => Err(Refusal::new(Reason::Conflict, 0)),
        }
    }

    fn must_be_free(&self, name: &[u8]) -> Outcome {
        self.mount.refuse_history(self.lower, name)?;
        match namei::lookup(self.mount.lower(), self.lower, name)?.inode() {
            Some(_) => Err(Refusal::new(Reason::Conflict, 0)),
            None => Ok(()),
        }
    }

    fn lower_name<'n>(&'n self, dentry: &'n Dentry, name: &'n [u8]) -> LowerName<'n> {
        LowerName {
            parent: self.lower,
            dentry,
            name,
        }
    }

    fn cached(&self, name: &[u8]) -> Option<ARef<UpperDentry>> {
        self.dentry?.cached_child(name)
    }

    /// Our dentry for a name that is about to be removed. Looked up if the filesystem has fsnotify
    /// marks, since events need a dentry; otherwise only from the dcache.
    fn leaving(&self, name: &[u8]) -> Option<LockedChild<'_>> {
        let dir = self.locked?;
        let child = if self.dir.superblock().has_watchers() {
            dir.child(name).ok()
        } else {
            dir.cached_child(name)
        };
        child.filter(|child| !child.is_negative())
    }

    /// Removes a name. The object becomes an orphan if the name is its last one.
    pub(super) fn remove(&self, name: &[u8], node: ObjectId) -> Outcome<UnlinkedObject> {
        let lower = self.bound(name, Some(node))?;
        let inode = self.own(&lower)?;
        if let Some(permission) = self.permission {
            permission.remove((self.dir, self.locked), name, &inode)?;
        }
        let lock = inode.lock_unless_held();
        let cached = self.leaving(name);
        // vfs_rmdir() and vfs_rename() return EBUSY for a local mountpoint.
        if cached.as_ref().is_some_and(|child| child.is_mount_point()) {
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        // unlink changes ctime: compare the object with its closing line before that.
        record::load(&inode)?;
        // A concurrent ->d_revalidate must not trust the dentry during the change.
        let _changing = cached.as_ref().map(|child| child.begin_change());
        let at = self.lower_name(&lower, name);
        let mut victim_state = if !inode.is_directory() && inode.lower().links() > 1 {
            self.change_below(|mount| DirOpGuard::start_removing_dentry(mount, &at)?.unlink())?;
            VictimState::Linked(&inode)
        } else {
            let last = LastName {
                parent: self.lower,
                name,
                cause: Cause::Revert,
            };
            orphans::move_to_orphans(self.mount, self.journal, &inode, last, &at, 0, self.purpose)
                .map_err(full)?
        };
        victim_state.settle();
        let kept = match &victim_state {
            VictimState::Orphan(kept) => Some((kept.segment(), kept.bytes())),
            _ => None,
        };
        record::note_ctime_change_at(&inode, &lower);
        if kept.is_none() {
            // A later step may restore this name. The object is then found by the file handle in
            // its lines, and the object may have no line so far.
            record::write_close_with_handle(&inode, &lower);
        }
        inode.copy_attr();
        if let Some(child) = &cached {
            child.removed(&lock);
        }
        Ok(UnlinkedObject {
            inode: inode.lower().get(),
            kept,
        })
    }

    /// Rolls [`Self::remove`] back. During recovery `unlinked` is `None`.
    pub(super) fn put_back(
        &self,
        name: &[u8],
        node: ObjectId,
        unlinked: Option<&UnlinkedObject>,
    ) -> Outcome {
        let segment = unlinked.and_then(|unlinked| Some(unlinked.kept?.0));
        if let Some((dir, kept)) = find_orphan(self.journal, node, segment)? {
            return self.restore_orphan(name, &dir, &kept);
        }
        let other = match unlinked.and_then(|unlinked| unlinked.inode.find_alias()) {
            Some(other) => other,
            None => find_recorded(self.dir.superblock(), self.journal, node)?.into_lower()?,
        };
        self.link(name, &other)
    }

    /// Restores a name of an object, from its orphan or as another hard link.
    pub(super) fn restore(&self, name: &[u8], victim: &Victim<'_>) -> Outcome {
        let sb = self.dir.superblock();
        match find_victim(sb, self.journal, victim, self.lower)? {
            VictimLocation::Orphan(dir, kept) => self.restore_orphan(name, &dir, &kept),
            VictimLocation::Linked(lower) => self.link(name, &lower),
        }
    }

    /// Renames an orphan to its former name.
    fn restore_orphan(&self, name: &[u8], dir: &StoreDir, kept: &Dentry) -> Outcome {
        self.must_be_free(name)?;
        let inode = self.own(kept)?;
        self.ask_to_bind(name, &inode, kept, false)?;
        let lock = inode.lock_unless_held();
        record::load(&inode)?;
        let from = LowerName {
            parent: dir.dentry(),
            dentry: kept,
            name: LowerName::ANY,
        };
        // Another program may bind the name in the lower directory at any time.
        let flags = c::RENAME_NOREPLACE;
        self.change_below(|lower| namei::rename(lower, &from, (self.lower, name), None, flags))?;
        if name.len() > LONG {
            let _kernel = KernelCreds::new();
            let _ = xattr::forget_long_name(self.mount.lower(), kept);
        }
        let bytes = self.mount.lower().bytes_of(kept);
        // The object no longer counts against the history's limit.
        self.journal.count_orphan_bytes(0, bytes);
        inode.note_orphan(false);
        if inode.is_directory() {
            // Clears S_DEAD, which was set when the directory was removed.
            lock.clear_dead();
        }
        if let Some(child) = self.added(name, &inode, kept) {
            child.added();
        }
        Ok(())
    }

    /// Adds a hard link to an object that has other names.
    fn link(&self, name: &[u8], lower: &Dentry) -> Outcome {
        self.must_be_free(name)?;
        let inode = self.own(lower)?;
        self.ask_to_bind(name, &inode, lower, true)?;
        let _lock = inode.lock_unless_held();
        record::load(&inode)?;
        self.change_below(|mount| {
            DirOpGuard::start_creating(mount, self.lower, name)?.link(lower)
        })?;
        if let Some(child) = self.added(name, &inode, lower) {
            child.linked(&inode);
        }
        Ok(())
    }

    /// Checks the caller's permission to bind the name to the object.
    #[inline(never)]
    fn ask_to_bind(
        &self,
        name: &[u8],
        inode: &UpperInode,
        lower: &Dentry,
        is_link: bool,
    ) -> Outcome {
        match self.permission {
            Some(permission) => {
                let place = (self.journal, self.locked);
                permission.bind(place, name, (inode, lower), is_link)
            }
            None => Ok(()),
        }
    }

    /// Updates ctime, our inode and the dcache after a name was bound. Returns our dentry of the
    /// name.
    fn added(&self, name: &[u8], inode: &UpperInode, lower: &Dentry) -> Option<LockedChild<'_>> {
        record::note_ctime_change_at(inode, lower);
        inode.copy_attr();
        self.forget(name);
        let child = self.locked?.child(name).ok()?;
        (!child.is_negative()).then_some(child)
    }

    /// Drops our dentry of a name (d_drop()): its binding changed.
    fn forget(&self, name: &[u8]) {
        if let Some(child) = self.cached(name) {
            child.d_drop();
        }
    }

    /// Changes lower names with the kernel's credentials. On ENOSPC, frees the reserve and retries.
    fn change_below(&self, mut change: impl FnMut(&LowerMount) -> Result) -> Result {
        let _kernel = KernelCreds::new();
        let lower = self.mount.lower();
        self.mount.with_reserve(|| {
            let _write = lower.want_write()?;
            change(lower)
        })
    }

    /// Renames a name of `other`, or of this directory, to a free name here.
    pub(super) fn move_here(
        &self,
        other: &NamesRevert<'_>,
        from: &[u8],
        to: &[u8],
        node: ObjectId,
    ) -> Outcome {
        let lower = other.bound(from, Some(node))?;
        self.must_be_free(to)?;
        let inode = self.own(&lower)?;
        if let Some(permission) = self.permission {
            let (dirs, names) = ((other.dir, self.dir), (other.locked, self.locked));
            permission.rename(dirs, names, (from, to), &inode, c::RENAME_NOREPLACE)?;
        }
        let _lock = inode.lock_unless_held();
        record::load(&inode)?;
        // If this directory has no dentry of ours, `other` is not locked: no lookup in it.
        let (child, unlocked) = match self.locked {
            Some(_) => (other.leaving(from), None),
            None => (None, other.cached(from)),
        };
        let unlocked = unlocked.filter(|child| child.upper_inode().is_some());
        // d_move() needs a dentry of the destination.
        let target = match (&child, self.locked) {
            (Some(_), Some(dir)) => Some(dir.child(to)?),
            _ => None,
        };
        let _changing = (
            [&child, &target].map(|name| name.as_ref().map(|name| name.begin_change())),
            unlocked.as_ref().map(|name| name.begin_change()),
        );
        let (here, there) = (other.lower_name(&lower, from), (self.lower, to));
        self.change_below(|mount| namei::rename(mount, &here, there, None, c::RENAME_NOREPLACE))?;
        record::note_ctime_change_at(&inode, &lower);
        inode.copy_attr();
        match (&child, &target) {
            (Some(child), Some(target)) => child.moved(target),
            _ => {
                self.forget(to);
                if let Some(name) = &unlocked {
                    name.d_drop();
                }
            }
        }
        Ok(())
    }

    /// Exchanges a name with one of `other`, or of this directory. Both must be bound to the given
    /// objects, if known.
    pub(super) fn exchange(
        &self,
        (name, node): (&[u8], Option<ObjectId>),
        other: &NamesRevert<'_>,
        (second_name, second_node): (&[u8], Option<ObjectId>),
    ) -> Outcome {
        let first = self.bound(name, node)?;
        let second = other.bound(second_name, second_node)?;
        let inodes = [self.own(&first)?, self.own(&second)?];
        let [a, b] = &inodes;
        if let Some(permission) = self.permission {
            let (dirs, names) = ((self.dir, other.dir), (self.locked, other.locked));
            let back = ((other.dir, self.dir), (other.locked, self.locked));
            permission.rename(dirs, names, (name, second_name), a, c::RENAME_EXCHANGE)?;
            permission.rename(back.0, back.1, (second_name, name), b, c::RENAME_EXCHANGE)?;
        }
        let is_across = self.dir.id() != other.dir.id();
        // As vfs_rename(): locks non-directories, and directories only if they change their parent.
        let _locks = UpperInode::lock_exchanged(a, b, is_across);
        for inode in &inodes {
            record::load(inode)?;
        }
        // d_exchange() needs both dentries.
        let (children, unlocked) = if self.locked.is_some() && other.locked.is_some() {
            let children = [self.leaving(name), other.leaving(second_name)];
            (children, [None, None])
        } else {
            let unlocked = [self.cached(name), other.cached(second_name)];
            ([None, None], unlocked)
        };
        let _changing = (
            (children.each_ref()).map(|name| name.as_ref().map(|name| name.begin_change())),
            (unlocked.each_ref()).map(|name| name.as_ref().map(|name| name.begin_change())),
        );
        let (here, there) = (self.lower_name(&first, name), (other.lower, second_name));
        self.change_below(|mount| {
            namei::rename(mount, &here, there, second.inode(), c::RENAME_EXCHANGE)
        })?;
        for (inode, lower) in inodes.iter().zip([&first, &second]) {
            record::note_ctime_change_at(inode, lower);
            inode.copy_attr();
        }
        match &children {
            [Some(one), Some(two)] => one.exchanged(two),
            children => {
                for child in children.iter().flatten() {
                    child.d_drop();
                }
                for name in unlocked.iter().flatten() {
                    name.d_drop();
                }
            }
        }
        Ok(())
    }

    /// Our inode for a lower one.
    pub(super) fn own(&self, lower: &Dentry) -> Outcome<ARef<UpperInode>> {
        let inode = lower.inode().ok_or(ENOENT)?;
        Ok(UpperInode::iget(self.dir.superblock(), inode)?)
    }
}

/// Location of an object that lost a name.
pub(super) enum VictimLocation {
    /// An orphan: its directory, and its dentry there.
    Orphan(StoreDir, ARef<Dentry>),
    /// The object has another name.
    Linked(ARef<Dentry>),
}

/// Finds an object that lost a name, by the line of the removal. `Trimmed`: the orphan was
/// reclaimed. `Lost`: the object was not captured, and its other names are gone.
pub(super) fn find_victim(
    sb: &UpperSuperBlock,
    journal: &Journal,
    victim: &Victim<'_>,
    beside: &Dentry,
) -> Outcome<VictimLocation> {
    if let Some((dir, lower)) = find_orphan(journal, victim.object, victim.kept)? {
        return Ok(VictimLocation::Orphan(dir, lower));
    }
    named_victim(sb, journal, victim, beside).map(VictimLocation::Linked)
}

/// Finds another name of an object that lost one in the directory `beside`. Refuses as
/// [`find_victim`].
pub(super) fn named_victim(
    sb: &UpperSuperBlock,
    journal: &Journal,
    victim: &Victim<'_>,
    beside: &Dentry,
) -> Outcome<ARef<Dentry>> {
    let found = match victim.handle {
        Some(handle) => by_handle(sb, journal, (victim.object, handle), Some(beside))?,
        None => None,
    };
    found.ok_or(missing(victim))
}

/// An orphan's directory and its dentry there.
pub(super) type OrphanEntry = Option<(StoreDir, ARef<Dentry>)>;

/// Whether the object exists, as an orphan or under another name. Refuses as [`find_victim`].
pub(super) fn exists(
    sb: &UpperSuperBlock,
    journal: &Journal,
    victim: &Victim<'_>,
    beside: &Dentry,
) -> Outcome {
    let found = match victim.handle {
        Some(handle) => by_handle(sb, journal, (victim.object, handle), Some(beside))?.is_some(),
        None => find_orphan(journal, victim.object, victim.kept)?.is_some(),
    };
    if found {
        Ok(())
    } else {
        Err(missing(victim))
    }
}

fn missing(victim: &Victim<'_>) -> Refusal {
    let reason = match victim.kept {
        Some(_) => Reason::Trimmed,
        None => Reason::Lost,
    };
    Refusal::new(reason, 0)
}

/// Result of a search for an object by its lines.
pub(super) enum ObjectLookup {
    /// The object exists; its lower dentry.
    Found(ARef<Dentry>),
    /// The object is gone.
    Gone,
    /// The object is gone and never had a name (O_TMPFILE).
    Unnamed,
}

impl ObjectLookup {
    /// The lower dentry; an error if the object is gone.
    pub(super) fn into_lower(self) -> Outcome<ARef<Dentry>> {
        match self {
            Self::Found(lower) => Ok(lower),
            Self::Gone | Self::Unnamed => Err(Refusal::new(Reason::Gone, 0)),
        }
    }
}

/// Finds an object by the newest file handle in its lines. `Trimmed`: that line was dropped.
pub(super) fn find_recorded(
    sb: &UpperSuperBlock,
    journal: &Journal,
    object: ObjectId,
) -> Outcome<ObjectLookup> {
    match RecordedHandle::of(journal, object)? {
        Some(recorded) => recorded.find(sb, journal, object),
        // The object has no line of its own. If it is an orphan, the caller has looked there first.
        None => Ok(ObjectLookup::Gone),
    }
}

/// The newest file handle in an object's lines.
#[derive(Clone, Copy)]
pub(super) struct RecordedHandle {
    bytes: [u8; HANDLE_MAX],
    len: usize,
    /// Whether the object had no name then.
    is_unnamed: bool,
}

impl RecordedHandle {
    /// Reads it. `None`: the object has no line. `Trimmed`: the line with the handle was dropped.
    #[inline(never)]
    pub(super) fn of(journal: &Journal, object: ObjectId) -> Outcome<Option<Self>> {
        let mut next = journal.last_line(object)?;
        if next.is_none() {
            return Ok(None);
        }
        let mut lines = Lines::new(journal)?;
        while let Some((_, line)) = lines.back_while_kept(&mut next)? {
            if let Some(recorded) = line.fh {
                let mut bytes = [0; HANDLE_MAX];
                let len = decode_hex(recorded, &mut bytes).ok_or(EUCLEAN)?;
                let is_unnamed = line.unnamed;
                return Ok(Some(Self {
                    bytes,
                    len,
                    is_unnamed,
                }));
            }
        }
        Err(Refusal::new(Reason::Trimmed, 0))
    }

    /// Finds the object of the handle.
    // Out of line: the parsed line must be off the stack before the lookup by handle.
    #[inline(never)]
    pub(super) fn find(
        &self,
        sb: &UpperSuperBlock,
        journal: &Journal,
        object: ObjectId,
    ) -> Outcome<ObjectLookup> {
        let handle = self.bytes.get(..self.len).ok_or(EUCLEAN)?;
        Ok(
            match locate::by_handle(sb, journal, (object, handle), None)? {
                Some(lower) => ObjectLookup::Found(lower),
                None if self.is_unnamed => ObjectLookup::Unnamed,
                None => ObjectLookup::Gone,
            },
        )
    }
}

/// The lower dentry for a hexadecimal file handle; `None` if the object is gone or outside SOURCE.
fn by_handle(
    sb: &UpperSuperBlock,
    journal: &Journal,
    (object, handle): (ObjectId, &[u8]),
    beside: Option<&Dentry>,
) -> Result<Option<ARef<Dentry>>> {
    let mut bytes = [0; HANDLE_MAX];
    let len = decode_hex(handle, &mut bytes).ok_or(EUCLEAN)?;
    let handle = bytes.get(..len).ok_or(EUCLEAN)?;
    locate::by_handle(sb, journal, (object, handle), beside)
}

/// Finds an orphan and its directory, first in `segment`: a revert that was rolled back may have
/// moved the orphan to a later segment than its line says.
pub(super) fn find_orphan(
    journal: &Journal,
    object: ObjectId,
    segment: Option<u64>,
) -> Result<Option<(StoreDir, ARef<Dentry>)>> {
    let known = match segment {
        Some(segment) => orphan_at(journal.find_orphan_in(segment, object), object)?,
        None => None,
    };
    match known {
        Some(found) => Ok(Some(found)),
        None => orphan_at(journal.find_orphan(object), object),
    }
}

/// The orphan in an entry, if the entry exists and still holds the object.
fn orphan_at(
    found: Result<(StoreDir, EntryName)>,
    object: ObjectId,
) -> Result<Option<(StoreDir, ARef<Dentry>)>> {
    let (dir, entry) = match found {
        Err(e) if e == ENODATA => return Ok(None),
        found => found?,
    };
    let kept = orphans::orphan_entry(&dir, entry.bytes(), object)?;
    Ok(kept.map(|kept| (dir, kept)))
}

/// move_to_orphans() returns ENOTEMPTY if an entry was added in the meantime: a conflict.
fn full(error: Error) -> Refusal {
    if error == ENOTEMPTY {
        Refusal::new(Reason::Conflict, 0)
    } else {
        error.into()
    }
}
