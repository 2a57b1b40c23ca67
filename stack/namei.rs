// SPDX-License-Identifier: GPL-2.0

//! Names: lookup, creation, removal, rename.
//!
//! Each change of a name is logged in its directory's chain. An object that loses its last name
//! becomes an orphan.

use super::Stack;
use crate::{
    backup::{self, names::NameChange},
    history::trust::HISTORY_DIR,
    log::line::Op,
    record,
    state::{OpenFileState, SpaceRequest},
    vfs::{
        attr, c,
        dentry::{Dentry, DentryChangeGuard, UpperDentry},
        error::{EREMOTE, ESTALE},
        file::UnnamedFile,
        inode::{PreallocInode, UpperInode},
        locked_name::{LockedName, LookupResult, NewName},
        namei::{self, DirOpGuard, LowerName},
        table::inode::NameHooks,
    },
};
use kernel::{prelude::*, str::CStr, sync::aref::ARef};

impl NameHooks for Stack {
    fn lookup(dir: &UpperInode, dentry: NewName<'_>) -> Result<LookupResult> {
        if is_hidden(&dentry) {
            // A negative dentry hides the history's directory; ->create, ->mkdir and others refuse
            // the name.
            return dentry.d_splice_alias(None, None);
        }
        let parent = dentry.parent().lower()?;
        // The VFS holds the directory's i_rwsem during ->lookup, so name and parent are stable.
        let lower = namei::lookup(dir.mount().lower(), parent, dentry.name())?;
        if parent.is_unsupported() || lower.is_unsupported() {
            // As in ovl_lookup().
            return Err(EREMOTE);
        }
        let inode = match lower.inode() {
            Some(inode) => {
                dir.mount().refuse_other_volume(inode, &lower)?;
                Some(UpperInode::iget(dir.superblock(), inode)?)
            }
            None => None,
        };
        dentry.d_splice_alias(Some(lower), inode)
    }

    fn create(dir: &UpperInode, dentry: NewName<'_>, mode: u16, exclusive: bool) -> Result {
        let create = || {
            // The VFS has called may_o_create() or may_create_dentry(); the lower vfs_create()
            // applies the umask (SB_I_NOUMASK).
            let made = make(dir, &dentry, Op::Create, |locked| {
                locked.create(mode)?;
                Ok(locked)
            });
            match made {
                // A direct lower creation came after the VFS's lookup. With O_EXCL that is an
                // error; otherwise ESTALE makes the VFS repeat the lookup.
                Err(e) if e == EEXIST && !exclusive => Err(ESTALE),
                made => made,
            }
        };
        let made = while_stale(create)?;
        made.bind_to(dentry);
        Ok(())
    }

    fn mkdir(dir: &UpperInode, dentry: NewName<'_>, mode: u16) -> Result {
        let made = make(dir, &dentry, Op::Mkdir, |locked| locked.mkdir(mode))?;
        made.bind_to(dentry);
        Ok(())
    }

    fn mknod(dir: &UpperInode, dentry: NewName<'_>, mode: u16, device: u32) -> Result {
        let made = make(dir, &dentry, Op::Mknod, |locked| {
            locked.mknod(mode, device)?;
            Ok(locked)
        })?;
        made.bind_to(dentry);
        Ok(())
    }

    fn symlink(dir: &UpperInode, dentry: NewName<'_>, target: &CStr) -> Result {
        let made = make(dir, &dentry, Op::Symlink, |locked| {
            locked.symlink(target)?;
            Ok(locked)
        })?;
        made.bind_to(dentry);
        Ok(())
    }

    fn link(old: &UpperDentry, dir: &UpperInode, dentry: NewName<'_>) -> Result {
        refuse_hidden(&dentry)?;
        // vfs_link() has checked may_create_dentry() and locked the directory and the object; the
        // link count limit is checked by the lower vfs_link().
        let inode = old.existing()?;
        let mount = dir.mount();
        record::load(inode)?;
        let naming = NameChange::begin(dir, Op::Link, dentry.name())?;
        let parent = dentry.parent().lower()?;
        let _changing = dentry.begin_change();
        let lower = mount.with_space(SpaceRequest::Object(parent, 4096), || {
            let _write = mount.lower().want_write()?;
            let locked =
                DirOpGuard::start_creating(mount.lower(), dentry.parent().lower()?, dentry.name())?;
            locked.link(old.lower()?)?;
            Ok(locked.dentry().get())
        })?;
        naming.done(Some(inode));
        // The object's next line records this directory, too.
        record::note_new_parent(inode);
        record::note_ctime_change(inode, old);
        backup::names::note_named(inode, old);
        inode.copy_attr();
        dir.copy_attr();
        dentry.bind(lower, inode.get());
        Ok(())
    }

    fn unlink(dir: &UpperInode, dentry: LockedName<'_>) -> Result {
        remove(dir, &dentry, Op::Unlink, |locked| locked.unlink())
    }

    fn rmdir(dir: &UpperInode, dentry: LockedName<'_>) -> Result {
        remove(dir, &dentry, Op::Rmdir, |locked| locked.rmdir())
    }

    fn rename(
        (from, old): (&UpperInode, LockedName<'_>),
        (to, new): (&UpperInode, LockedName<'_>),
        flags: u32,
    ) -> Result {
        // vfs_rename() has locked both parents, the victim and directories that change the parent,
        // and called may_delete_dentry(). ->rename must refuse unknown flags with EINVAL.
        if flags & !(c::RENAME_NOREPLACE | c::RENAME_EXCHANGE | c::RENAME_WHITEOUT) != 0 {
            return Err(EINVAL);
        }
        refuse_hidden(&old)?;
        refuse_hidden(&new)?;
        let op = if flags & c::RENAME_EXCHANGE != 0 {
            Op::Exchange
        } else {
            Op::Rename
        };
        // vfs_rename() returns early if source and target have the same inode.
        let moved = old.existing()?;
        record::load(moved)?;
        if let Some(target) = new.upper_inode() {
            record::load(target)?;
        }
        let mut naming = NameChange::begin(from, op, old.name())?;
        // The whiteout is an object with its own line, and an undo removes the whiteout before
        // restoring the name. Both lines are placed under the directory's lock, in this order.
        let whiteout = if flags & c::RENAME_WHITEOUT != 0 {
            Some(NameChange::begin(from, Op::Mknod, old.name())?)
        } else {
            None
        };
        let victim = new.upper_inode().filter(|_| op == Op::Rename);
        // Marked before the lower rename: a concurrent ->d_revalidate would take the difference for
        // a direct lower change, and a result of 0 invalidates the dentry.
        let _changing = [old.begin_change(), new.begin_change()];
        if let Err(e) = change_below(&mut naming, victim, (&old, &new), flags) {
            drop(naming);
            // The failed rename may have linked the victim to the orphans and back, which changes
            // ctime.
            if let Some(victim) = victim {
                record::note_ctime_change(victim, &new);
            }
            return Err(e);
        }
        // After the lower rename no error may be returned: the VFS would leave the dentries in
        // their old places.
        naming.done_with(moved, |draft| {
            if from.id() != to.id() {
                draft.parent(to.id());
                let mut handle = [0; 64];
                if let Some((kind, len)) = attr::handle(to.lower(), &mut handle) {
                    draft.parent_handle(kind, handle.get(..len).unwrap_or_default());
                }
            }
            draft.to(new.name());
            if let Some(over) = new.upper_inode() {
                draft.over(over.id());
            }
        });
        log_whiteout(whiteout, from, &old);
        for (inode, dentry) in [(Some(moved), &old), (new.upper_inode(), &new)] {
            if let Some(inode) = inode {
                inode.copy_attr();
                if from.id() != to.id() {
                    record::note_new_parent(inode);
                }
                record::note_ctime_change(inode, dentry);
            }
        }
        from.copy_attr();
        to.copy_attr();
        // Last, since d_move() changes the names borrowed above. FS_RENAME_DOES_D_MOVE:
        // vfs_rename() leaves d_move() to ->rename.
        match op {
            Op::Exchange => old.d_exchange(new),
            _ => old.d_move(new),
        }
        Ok(())
    }

    fn tmpfile(dir: &UpperInode, file: UnnamedFile<'_>, mode: u16) -> Result {
        let mount = dir.mount();
        // vfs_tmpfile() has created an unhashed dentry below the directory; ->tmpfile must call
        // finish_open().
        let parent = file.parent().lower()?;
        let flags = super::file::lower_flags(file.flags(), file.is_writable());
        let lower = mount.with_space(SpaceRequest::New(parent), || {
            let _write = mount.lower().want_write()?;
            file.open_lower(mount.lower(), parent, flags, mode)
        })?;
        let inode = UpperInode::iget(dir.superblock(), lower.inode())?;
        record::note_new(&inode);
        inode.object().note_unnamed(true);
        file.finish(lower, OpenFileState::new(), &inode, |file| {
            if file.is_writable() {
                inode.object().writer_came();
            }
        })
    }
}

/// The lower name that an upper dentry represents.
fn lower_name<'a>(dentry: &'a LockedName<'_>) -> Result<LowerName<'a>> {
    Ok(LowerName {
        parent: dentry.parent().lower()?,
        dentry: dentry.lower()?,
        name: dentry.name(),
    })
}

/// Whether this is the name of the history's directory.
fn is_hidden(dentry: &LockedName<'_>) -> bool {
    dentry.parent().is_root() && dentry.name() == HISTORY_DIR
}

fn refuse_hidden(dentry: &LockedName<'_>) -> Result {
    if is_hidden(dentry) {
        return Err(EPERM);
    }
    Ok(())
}

/// Renames on the lower filesystem; a replaced object becomes an orphan.
fn change_below<'a>(
    naming: &mut NameChange<'a>,
    victim: Option<&'a UpperInode>,
    (old, new): (&LockedName<'_>, &'a LockedName<'_>),
    flags: u32,
) -> Result {
    match victim {
        Some(victim) if victim.is_directory() => over_directory(naming, victim, old, new, flags),
        _ => {
            if let Some(victim) = victim {
                naming.link_victim(victim, lower_name(new)?)?;
            }
            rename_below(old, new, flags)
        }
    }
}

/// Places the line of the whiteout that a rename has left at the old name.
fn log_whiteout(naming: Option<NameChange<'_>>, dir: &UpperInode, old: &LockedName<'_>) {
    if let Some(naming) = naming {
        naming.done_or_uncaptured(whiteout_at(dir, old).as_deref());
    }
}

/// The upper inode of the whiteout that a rename has left at the old name. Retries, since the rename
/// cannot be undone any more.
fn whiteout_at(dir: &UpperInode, old: &LockedName<'_>) -> Result<ARef<UpperInode>> {
    let mut last = ESTALE;
    for tick in 0..TICKS {
        if tick != 0 {
            attr::sleep_one_tick();
        }
        match look_for_whiteout(dir, old) {
            Err(e) => last = e,
            found => return found,
        }
    }
    Err(last)
}

fn look_for_whiteout(dir: &UpperInode, old: &LockedName<'_>) -> Result<ARef<UpperInode>> {
    let lower = namei::lookup(dir.mount().lower(), old.parent().lower()?, old.name())?;
    // A direct lower change may have replaced the whiteout.
    let lower = lower.inode().filter(|inode| inode.is_whiteout());
    let inode = UpperInode::iget(dir.superblock(), lower.ok_or(ESTALE)?)?;
    record::note_new(&inode);
    Ok(inode)
}

/// Renames on the lower filesystem, to a free name or over an object that is not a directory.
fn rename_below(old: &LockedName<'_>, new: &LockedName<'_>, flags: u32) -> Result {
    let mount = old.superblock().mount();
    let request = SpaceRequest::Object(new.parent().lower()?, 4096);
    let rename = || {
        let _write = mount.lower().want_write()?;
        namei::rename(
            mount.lower(),
            &lower_name(old)?,
            (new.parent().lower()?, new.name()),
            new.upper_inode().map(|inode| inode.lower()),
            flags,
        )
    };
    while_stale(|| mount.with_space(request, rename))
}

/// How many ticks to wait for a name that direct lower changes create and remove.
const TICKS: u32 = 5;

/// Repeats `change` while it returns ESTALE: the lower name is bound to another object than the VFS
/// has looked up. The VFS repeats a path lookup only once after ESTALE, and that lookup may be
/// stale again.
fn while_stale<T>(mut change: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..TICKS {
        match change() {
            Err(e) if e == ESTALE => attr::sleep_one_tick(),
            result => return result,
        }
    }
    change()
}

/// Renames over an empty directory: exchanges the names, then moves the victim from the old name to
/// the orphans. Without support for orphans the victim is removed.
fn over_directory<'a>(
    naming: &mut NameChange<'a>,
    victim: &'a UpperInode,
    old: &LockedName<'_>,
    new: &'a LockedName<'_>,
    flags: u32,
) -> Result {
    // The whiteout belongs to the rename away from the old name, the second step.
    let whiteout = flags & c::RENAME_WHITEOUT;
    let exchange = (flags & !whiteout) | c::RENAME_EXCHANGE;
    let lower = new.lower()?;
    if !backup::orphans::is_empty(victim.mount(), lower)? {
        // The lower rename will fail; its errno is returned.
        naming.leave_uncaptured();
        return rename_below(old, new, flags);
    }
    if rename_below(old, new, exchange).is_err() {
        naming.leave_uncaptured();
        return rename_below(old, new, flags);
    }
    let last = (new.parent().lower()?, new.name());
    let parent = old.parent().lower()?;
    let name = old.name();
    let at = LowerName {
        parent,
        dentry: lower,
        name,
    };
    let gone = naming.remove_victim(victim, last, &at, whiteout);
    if matches!(gone, Ok(true)) {
        return Ok(());
    }
    {
        let mount = victim.mount().lower();
        let _write = mount.want_write()?;
        let moved = LowerName {
            parent: new.parent().lower()?,
            dentry: old.lower()?,
            name: new.name(),
        };
        let back = (parent, name);
        let flag = c::RENAME_EXCHANGE;
        namei::rename(mount, &moved, back, Some(victim.lower()), flag)?;
    }
    gone?;
    rename_below(old, new, flags)
}

/// Copies the attributes that a change of its names has changed in a directory.
fn copy_attr_of_parent(dir: &UpperInode, op: Op) {
    if matches!(op, Op::Mkdir | Op::Rmdir) {
        dir.copy_attr();
    } else {
        dir.copy_content_attr();
    }
}

/// A new object, whose name is not bound yet.
struct NewObject<'a> {
    lower: ARef<Dentry>,
    inode: ARef<UpperInode>,
    /// The mark of the name, until the name is bound.
    _changing: DentryChangeGuard<'a>,
}

impl NewObject<'_> {
    fn bind_to(self, dentry: NewName<'_>) {
        dentry.bind(self.lower, self.inode);
    }
}

/// Creates an object with the name of `dentry`.
fn make<'d>(
    dir: &UpperInode,
    dentry: &NewName<'d>,
    op: Op,
    create: impl for<'a> Fn(DirOpGuard<'a>) -> Result<DirOpGuard<'a>>,
) -> Result<NewObject<'d>> {
    refuse_hidden(dentry)?;
    let mount = dir.mount();
    // Allocated first: once the lower object exists, the upper inode must not fail.
    let prealloc = UpperInode::prealloc(dir.superblock())?;
    let naming = NameChange::begin(dir, op, dentry.name())?;
    let changing = dentry.begin_change();
    let lower = mount.with_space(SpaceRequest::New(dentry.parent().lower()?), || {
        let _write = mount.lower().want_write()?;
        let parent = dentry.parent().lower()?;
        let locked = match dentry.lower() {
            Ok(child) => {
                DirOpGuard::start_creating_dentry(mount.lower(), parent, child, dentry.name())?
            }
            Err(_) => DirOpGuard::start_creating(mount.lower(), parent, dentry.name())?,
        };
        Ok(create(locked)?.dentry().get())
    })?;
    // vfs_mkdir() may have returned another dentry than the one passed in.
    let result = bind(prealloc, dentry, &lower);
    naming.done_or_uncaptured(result.as_deref());
    copy_attr_of_parent(dir, op);
    Ok(NewObject {
        lower,
        inode: result?,
        _changing: changing,
    })
}

/// The upper inode of the object just created.
fn bind(prealloc: PreallocInode, dentry: &UpperDentry, lower: &Dentry) -> Result<ARef<UpperInode>> {
    let Some(inode) = lower.inode() else {
        // The lower filesystem has not bound the dentry (as NFS may do): the next lookup finds the
        // name.
        dentry.d_drop();
        return Err(ESTALE);
    };
    let inode = UpperInode::iget_prealloc(prealloc, inode)?;
    record::note_new(&inode);
    Ok(inode)
}

/// Removes a name.
fn remove(
    dir: &UpperInode,
    dentry: &LockedName<'_>,
    op: Op,
    remove: impl FnOnce(&DirOpGuard<'_>) -> Result,
) -> Result {
    let inode = dentry.existing()?;
    let mount = dir.mount();
    // A removal must not fail because the object's history is unreadable; the object's next
    // operation logs the difference.
    let is_known = record::load(inode).is_ok();
    let mut naming = NameChange::begin(dir, op, dentry.name())?;
    // vfs_unlink() and vfs_rmdir() have called may_delete_dentry() and locked the directory and the
    // object.
    let at = lower_name(dentry)?;
    let _changing = dentry.begin_change();
    let removed = naming.remove_victim(inode, (at.parent, at.name), &at, 0);
    let removed = removed.and_then(|is_gone| {
        if is_gone {
            return Ok(());
        }
        let _write = mount.lower().want_write()?;
        remove(&DirOpGuard::start_removing_dentry(mount.lower(), &at)?)
    });
    match removed {
        Ok(()) => naming.done(Some(inode)),
        // A direct lower rename has replaced the object. The removal counts as done before, and is
        // not logged.
        Err(e) if e == ESTALE && at.dentry.has_lost_its_name() => drop(naming),
        Err(e) => {
            drop(naming);
            // The failed removal may have linked the object to the orphans and back.
            if is_known {
                record::note_ctime_change(inode, dentry);
            }
            return Err(e);
        }
    }
    if is_known {
        record::note_ctime_change(inode, dentry);
    }
    inode.copy_attr();
    copy_attr_of_parent(dir, op);
    // vfs_unlink() and vfs_rmdir() call d_delete_notify() after this, which accepts an unhashed
    // dentry.
    // A negative dentry would keep the lower inode of an unlinked file in memory.
    dentry.d_drop();
    Ok(())
}
