// SPDX-License-Identifier: GPL-2.0

//! What a step of taking names back does to one name, or two: in the lower directory, to our inode,
//! and to what the dcache and those who watch know. Nothing is ever written over.

use super::{
    locate,
    names::{NamesRevert, Outcome},
    steps::Lines,
    Refusal,
};
use crate::{
    backup::{
        self,
        orphans::{self, LastName, VictimState},
    },
    history::{
        journal::Journal,
        line::{decode_hex, ObjectId, Pos},
        orphan::{Cause, EntryName, HANDLE_MAX},
        plan::Victim,
    },
    uapi::Reason,
    vfs::{
        c,
        dentry::{Dentry, OwnDentry},
        error::{ENODATA, ENOTEMPTY, EUCLEAN},
        inode::{Inode, OwnInode},
        mount::LowerMount,
        name::{self, Locked, LowerName},
        scope::AsKernel,
        store::Dir,
        superblock::SuperBlock,
        xattr,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// Any shorter name fits into an entry of what is kept.
const LONG: usize = 64;

/// An object that a name was taken from.
pub(super) struct UnlinkedObject {
    inode: ARef<Inode>,
    /// With which segment it is kept, and how many bytes were counted for it; `None`: it has other names.
    kept: Option<(u64, u64)>,
}

impl UnlinkedObject {
    /// Where it is kept: the segment, and which object it is; and how many bytes were counted for it.
    pub(super) fn kept(&self) -> Option<(u64, ObjectId, u64)> {
        let (segment, bytes) = self.kept?;
        Some((segment, self.inode.id(), bytes))
    }
}

impl NamesRevert<'_> {
    /// Whether a name is bound to an object.
    pub(super) fn is_bound(&self, name: &[u8], node: ObjectId) -> Result<bool> {
        let lower = name::look_up(self.mount.lower(), self.lower, name)?;
        Ok(lower.inode().is_some_and(|inode| inode.id() == node))
    }

    /// What a name is bound to, which must be `node`, if that is known.
    fn bound(&self, name: &[u8], node: Option<ObjectId>) -> Outcome<ARef<Dentry>> {
        self.mount.refuse_history(self.lower, name)?;
        let lower = name::look_up(self.mount.lower(), self.lower, name)?;
        match lower.inode() {
            Some(inode) if node.is_none_or(|node| inode.id() == node) => Ok(lower),
            _ => Err(Refusal::new(Reason::Conflict, 0)),
        }
    }

    fn must_be_free(&self, name: &[u8]) -> Outcome {
        self.mount.refuse_history(self.lower, name)?;
        match name::look_up(self.mount.lower(), self.lower, name)?.inode() {
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

    fn cached(&self, name: &[u8]) -> Option<ARef<OwnDentry>> {
        self.dentry?.cached_child(name)
    }

    /// Our dentry of a name that is about to be taken from here, if the dcache has it; also if not, when
    /// the filesystem is watched: events need it. The directory is locked.
    fn leaving(&self, name: &[u8]) -> Option<ARef<OwnDentry>> {
        let dir = self.dentry?;
        let child = if self.dir.superblock().has_watchers() {
            dir.child(name).ok()
        } else {
            dir.cached_child(name)
        };
        child.filter(|child| child.own_inode().is_some())
    }

    /// Takes a name away; its object is kept if it has no other.
    pub(super) fn remove(&self, name: &[u8], node: ObjectId) -> Outcome<UnlinkedObject> {
        let lower = self.bound(name, Some(node))?;
        let inode = self.own(&lower)?;
        if let Some(permission) = self.permission {
            permission.remove((self.dir, self.dentry), name, &inode)?;
        }
        let _lock = inode.lock_unless_held();
        let cached = self.leaving(name);
        if cached.as_ref().is_some_and(|child| child.is_mount_point()) {
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        backup::load(&inode)?;
        let _changing = cached.as_ref().map(|child| child.begin_change());
        let at = self.lower_name(&lower, name);
        let mut victim_state = if !inode.is_directory() && inode.lower().links() > 1 {
            self.change_below(|mount| Locked::to_remove(mount, &at)?.unlink())?;
            VictimState::Linked(&inode)
        } else {
            let last = LastName {
                parent: self.lower,
                name,
                cause: Cause::Revert,
            };
            orphans::move_to_orphans(self.mount, self.journal, &inode, last, &at, 0, self.room)
                .map_err(full)?
        };
        victim_state.settle();
        let kept = match &victim_state {
            VictimState::Orphan(kept) => Some((kept.segment(), kept.bytes())),
            _ => None,
        };
        backup::note_ctime_change_at(&inode, &lower);
        if kept.is_none() {
            // It is found by its lines when it is to have this name again: it may have none so far.
            backup::write_close_with_handle(&inode, &lower);
        }
        inode.refresh();
        if let Some(child) = &cached {
            child.removed();
        }
        Ok(UnlinkedObject {
            inode: inode.lower().get(),
            kept,
        })
    }

    /// Undoes [`Self::remove`]; without `unlinked`, that was done before a crash.
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
        let other = match unlinked.and_then(|unlinked| unlinked.inode.any_name()) {
            Some(other) => other,
            None => find_recorded(self.dir.superblock(), self.journal, node)?.into_lower()?,
        };
        self.link(name, &other)
    }

    /// Gives an object its name back: from what is kept, or as one more.
    pub(super) fn restore(&self, name: &[u8], victim: &Victim<'_>) -> Outcome {
        let sb = self.dir.superblock();
        match find_victim(sb, self.journal, victim, self.lower)? {
            VictimLocation::Orphan(dir, kept) => self.restore_orphan(name, &dir, &kept),
            VictimLocation::Linked(lower) => self.link(name, &lower),
        }
    }

    /// Moves an object from what is kept to its name.
    fn restore_orphan(&self, name: &[u8], dir: &Dir, kept: &Dentry) -> Outcome {
        self.must_be_free(name)?;
        let inode = self.own(kept)?;
        self.ask_to_bind(name, &inode, kept, false)?;
        let _lock = inode.lock_unless_held();
        backup::load(&inode)?;
        let from = LowerName {
            parent: dir.dentry(),
            dentry: kept,
            name: LowerName::ANY,
        };
        let flags = c::RENAME_NOREPLACE;
        self.change_below(|lower| name::rename(lower, &from, (self.lower, name), None, flags))?;
        if name.len() > LONG {
            let _kernel = AsKernel::new();
            let _ = xattr::forget_long_name(self.mount.lower(), kept);
        }
        let bytes = self.mount.lower().bytes_of(kept);
        self.journal.count_kept(0, bytes);
        inode.object().note_kept(false);
        if inode.is_directory() {
            inode.is_back();
        }
        if let Some(child) = self.added(name, &inode, kept) {
            child.added();
        }
        Ok(())
    }

    /// Gives an object that has other names one more.
    fn link(&self, name: &[u8], lower: &Dentry) -> Outcome {
        self.must_be_free(name)?;
        let inode = self.own(lower)?;
        self.ask_to_bind(name, &inode, lower, true)?;
        let _lock = inode.lock_unless_held();
        backup::load(&inode)?;
        self.change_below(|mount| Locked::to_create(mount, self.lower, name)?.link(lower))?;
        if let Some(child) = self.added(name, &inode, lower) {
            child.linked(&inode);
        }
        Ok(())
    }

    /// Whether the caller may give the object the name.
    #[inline(never)]
    fn ask_to_bind(&self, name: &[u8], inode: &OwnInode, lower: &Dentry, is_link: bool) -> Outcome {
        match self.permission {
            Some(permission) => {
                let place = (self.journal, self.dentry);
                permission.bind(place, name, (inode, lower), is_link)
            }
            None => Ok(()),
        }
    }

    /// An object has got a name: its times have moved, and the directory shows it. Answers our dentry of
    /// the name.
    fn added(&self, name: &[u8], inode: &OwnInode, lower: &Dentry) -> Option<ARef<OwnDentry>> {
        backup::note_ctime_change_at(inode, lower);
        inode.refresh();
        self.forget(name);
        let child = self.dentry?.child(name).ok()?;
        child.own_inode().is_some().then_some(child)
    }

    /// What the dcache says of a name is not true any more.
    fn forget(&self, name: &[u8]) {
        if let Some(child) = self.cached(name) {
            child.forget();
        }
    }

    /// Changes names below; where the lower filesystem has no room, again with the reserve.
    fn change_below(&self, mut change: impl FnMut(&LowerMount) -> Result) -> Result {
        let _kernel = AsKernel::new();
        let lower = self.mount.lower();
        self.mount.with_reserve(|| {
            let _write = lower.want_write()?;
            change(lower)
        })
    }

    /// Moves a name of another directory, or of this one, to a free name here.
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
            let (dirs, names) = ((other.dir, self.dir), (other.dentry, self.dentry));
            permission.rename(dirs, names, (from, to), &inode, c::RENAME_NOREPLACE)?;
        }
        let _lock = inode.lock_unless_held();
        backup::load(&inode)?;
        let cached = match self.dentry {
            Some(_) => other.leaving(from),
            // Not locked: the other one cannot be seen.
            None => other
                .cached(from)
                .filter(|child| child.own_inode().is_some()),
        };
        let target = match (&cached, self.dentry) {
            (Some(_), Some(dir)) => Some(dir.child(to)?),
            _ => None,
        };
        let _changing =
            [&cached, &target].map(|name| name.as_ref().map(|name| name.begin_change()));
        let (here, there) = (other.lower_name(&lower, from), (self.lower, to));
        self.change_below(|mount| name::rename(mount, &here, there, None, c::RENAME_NOREPLACE))?;
        backup::note_ctime_change_at(&inode, &lower);
        inode.refresh();
        match (&cached, &target) {
            (Some(child), Some(target)) => child.moved(target),
            (cached, _) => {
                self.forget(to);
                if let Some(child) = cached {
                    child.forget();
                }
            }
        }
        Ok(())
    }

    /// Exchanges a name with one of another directory, or of this one, if both are bound to what they
    /// should be, as far as that is known.
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
            let (dirs, names) = ((self.dir, other.dir), (self.dentry, other.dentry));
            let back = ((other.dir, self.dir), (other.dentry, self.dentry));
            permission.rename(dirs, names, (name, second_name), a, c::RENAME_EXCHANGE)?;
            permission.rename(back.0, back.1, (second_name, name), b, c::RENAME_EXCHANGE)?;
        }
        let is_across = self.dir.id() != other.dir.id();
        let _locks = OwnInode::lock_exchanged(a, b, is_across);
        for inode in &inodes {
            backup::load(inode)?;
        }
        let cached = if self.dentry.is_some() && other.dentry.is_some() {
            [self.leaving(name), other.leaving(second_name)]
        } else {
            [self.cached(name), other.cached(second_name)]
        };
        let _changing =
            [&cached[0], &cached[1]].map(|name| name.as_ref().map(|name| name.begin_change()));
        let (here, there) = (self.lower_name(&first, name), (other.lower, second_name));
        self.change_below(|mount| {
            name::rename(mount, &here, there, second.inode(), c::RENAME_EXCHANGE)
        })?;
        for (inode, lower) in inodes.iter().zip([&first, &second]) {
            backup::note_ctime_change_at(inode, lower);
            inode.refresh();
        }
        match &cached {
            [Some(one), Some(two)] => one.exchanged(two),
            children => {
                for child in children.iter().flatten() {
                    child.forget();
                }
            }
        }
        Ok(())
    }

    /// Our inode for a lower one.
    pub(super) fn own(&self, lower: &Dentry) -> Outcome<ARef<OwnInode>> {
        let inode = lower.inode().ok_or(ENOENT)?;
        Ok(OwnInode::obtain(self.dir.superblock(), inode)?)
    }
}

/// Where an object is that lost a name.
pub(super) enum VictimLocation {
    /// It is kept: the directory, and its name there.
    Orphan(Dir, ARef<Dentry>),
    /// It has other names.
    Linked(ARef<Dentry>),
}

/// Looks for an object that lost a name, by what the line of that says. `Trimmed`: it was kept, and is
/// not any more. `Lost`: it was not kept, and its other names are gone.
pub(super) fn find_victim(
    sb: &SuperBlock,
    journal: &Journal,
    victim: &Victim<'_>,
    beside: &Dentry,
) -> Outcome<VictimLocation> {
    if let Some((dir, lower)) = find_orphan(journal, victim.object, victim.kept)? {
        return Ok(VictimLocation::Orphan(dir, lower));
    }
    named_victim(sb, journal, victim, beside).map(VictimLocation::Linked)
}

/// Looks for one of the other names of an object that lost one in the directory `beside`. The refusals are
/// those of [`find_victim`].
pub(super) fn named_victim(
    sb: &SuperBlock,
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

/// What is kept: the directory, and its name there.
pub(super) type OrphanEntry = Option<(Dir, ARef<Dentry>)>;

/// Whether such an object is there, wherever. The refusals are those of [`find_victim`].
pub(super) fn exists(
    sb: &SuperBlock,
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

/// What became of an object that lines tell of.
pub(super) enum ObjectLookup {
    /// It is there; its lower name.
    Found(ARef<Dentry>),
    /// It is gone.
    Gone,
    /// It is gone, and has never had a name: nobody can miss it.
    Unnamed,
}

impl ObjectLookup {
    /// The lower name, if it is there.
    pub(super) fn into_lower(self) -> Outcome<ARef<Dentry>> {
        match self {
            Self::Found(lower) => Ok(lower),
            Self::Gone | Self::Unnamed => Err(Refusal::new(Reason::Gone, 0)),
        }
    }
}

/// Looks for an object by the newest file handle that its lines tell. `Trimmed`: that line was dropped.
pub(super) fn find_recorded(
    sb: &SuperBlock,
    journal: &Journal,
    object: ObjectId,
) -> Outcome<ObjectLookup> {
    let mut lines = Lines::new(journal)?;
    let next = journal.last_line(object)?;
    if next.is_none() {
        // Nothing was ever done to it, but for its names: it is kept, or nobody finds it.
        return Ok(ObjectLookup::Gone);
    }
    let mut handle = [0; HANDLE_MAX];
    let Some((len, is_unnamed)) = recorded_handle(&mut lines, next, &mut handle)? else {
        return Err(Refusal::new(Reason::Trimmed, 0));
    };
    let handle = handle.get(..len).ok_or(EUCLEAN)?;
    Ok(
        match locate::by_handle(sb, journal, (object, handle), None)? {
            Some(lower) => ObjectLookup::Found(lower),
            None if is_unnamed => ObjectLookup::Unnamed,
            None => ObjectLookup::Gone,
        },
    )
}

/// The newest file handle that an object's lines tell from `next` on: how long it is, and whether the object
/// had no name then. `None`: the line that does was dropped.
// Out of line: the line is not on the stack when the object is looked for.
#[inline(never)]
fn recorded_handle(
    lines: &mut Lines<'_>,
    mut next: Option<Pos>,
    handle: &mut [u8; HANDLE_MAX],
) -> Result<Option<(usize, bool)>> {
    while let Some(at) = next {
        let line = match lines.read(at) {
            Err(e) if e == ENODATA => return Ok(None),
            line => line?,
        };
        if let Some(recorded) = line.fh {
            let len = decode_hex(recorded, handle).ok_or(EUCLEAN)?;
            return Ok(Some((len, line.unnamed)));
        }
        if line.prev.is_some_and(|prev| prev >= at) {
            return Err(EUCLEAN);
        }
        next = line.prev;
    }
    Ok(None)
}

/// The lower name of an object with this file handle (hexadecimal); `None`: it is gone, or none of the tree.
fn by_handle(
    sb: &SuperBlock,
    journal: &Journal,
    (object, handle): (ObjectId, &[u8]),
    beside: Option<&Dentry>,
) -> Result<Option<ARef<Dentry>>> {
    let mut bytes = [0; HANDLE_MAX];
    let len = decode_hex(handle, &mut bytes).ok_or(EUCLEAN)?;
    let handle = bytes.get(..len).ok_or(EUCLEAN)?;
    locate::by_handle(sb, journal, (object, handle), beside)
}

/// What is kept of an object, and the directory that it is in, looked for with `segment` first: a
/// revert that was rolled back may have left it with a later one than its line says.
pub(super) fn find_orphan(
    journal: &Journal,
    object: ObjectId,
    segment: Option<u64>,
) -> Result<Option<(Dir, ARef<Dentry>)>> {
    let known = match segment {
        Some(segment) => orphan_at(journal.kept_with(segment, object), object)?,
        None => None,
    };
    match known {
        Some(found) => Ok(Some(found)),
        None => orphan_at(journal.find_kept(object), object),
    }
}

fn orphan_at(
    found: Result<(Dir, EntryName)>,
    object: ObjectId,
) -> Result<Option<(Dir, ARef<Dentry>)>> {
    let (dir, entry) = match found {
        Err(e) if e == ENODATA => return Ok(None),
        found => found?,
    };
    let kept = locate::orphan_entry(&dir, entry.bytes(), object)?;
    Ok(kept.map(|kept| (dir, kept)))
}

/// A directory that is not empty any more is in the way.
fn full(error: Error) -> Refusal {
    if error == ENOTEMPTY {
        Refusal::new(Reason::Conflict, 0)
    } else {
        error.into()
    }
}
