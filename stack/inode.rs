// SPDX-License-Identifier: GPL-2.0

//! Names: look-up, creation, removal, renaming.
//!
//! Each change of names leaves a line in its directory's chain. What loses its last name is kept.

use super::{Open, Payer, Stack, HISTORY};
use crate::{
    backup::{self, names::NameChange},
    history::line::Op,
    vfs::{
        attr,
        c,
        dentry::{Dentry, OwnDentry},
        error::{EREMOTE, ESTALE},
        file::OwnFile,
        inode::{OwnInode, Spare},
        name::{self, Locked, LowerName},
        table::inode::NameHooks, //
    }, //
};
use kernel::{prelude::*, str::CStr, sync::aref::ARef};

impl NameHooks for Stack {
    fn look_up(dir: &OwnInode, dentry: &OwnDentry) -> Result<*mut c::dentry> {
        if is_hidden(dentry) {
            return Ok(dentry.splice(None));
        }
        let parent = dentry.parent().lower()?;
        let lower = name::look_up(dir.mount().lower(), parent, dentry.name())?;
        if parent.is_unsupported() || lower.is_unsupported() {
            // As ovl_lookup() has it.
            return Err(EREMOTE);
        }
        let inode = match lower.inode() {
            Some(inode) => {
                dir.mount().refuse_other_volume(inode, &lower)?;
                Some(OwnInode::obtain(dir.superblock(), inode)?)
            }
            None => None,
        };
        dentry.set_lower(lower);
        Ok(dentry.splice(inode))
    }

    fn create(dir: &OwnInode, dentry: &OwnDentry, mode: u16, exclusive: bool) -> Result {
        let create = || {
            let made = make(dir, dentry, Op::Create, |locked| {
                locked.create(mode)?;
                Ok(locked)
            });
            match made {
                // Another program made it behind us since the VFS looked it up. Only O_EXCL is
                // refused for that: ESTALE makes the VFS look it up again.
                Err(e) if e == EEXIST && !exclusive => Err(ESTALE),
                made => made,
            }
        };
        while_stale(create)
    }

    fn make_directory(dir: &OwnInode, dentry: &OwnDentry, mode: u16) -> Result {
        make(dir, dentry, Op::Mkdir, |locked| locked.make_directory(mode))
    }

    fn make_node(dir: &OwnInode, dentry: &OwnDentry, mode: u16, device: u32) -> Result {
        make(dir, dentry, Op::Mknod, |locked| {
            locked.make_node(mode, device)?;
            Ok(locked)
        })
    }

    fn make_symlink(dir: &OwnInode, dentry: &OwnDentry, target: &CStr) -> Result {
        make(dir, dentry, Op::Symlink, |locked| {
            locked.make_symlink(target)?;
            Ok(locked)
        })
    }

    fn link(old: &OwnDentry, dir: &OwnInode, dentry: &OwnDentry) -> Result {
        refuse_hidden(dentry)?;
        let inode = old.existing()?;
        let mount = dir.mount();
        backup::load(inode)?;
        let naming = NameChange::begin(dir, Op::Link, dentry.name())?;
        let parent = dentry.parent().lower()?;
        let _changing = dentry.begin_change();
        let lower = mount.with_room(Payer::Object(parent, 4096), || {
            let _write = mount.lower().want_write()?;
            let locked = Locked::to_create(mount.lower(), dentry.parent().lower()?, dentry.name())?;
            locked.link(old.lower()?)?;
            Ok(locked.dentry().get())
        })?;
        naming.done(Some(inode));
        // Its next line tells of this directory, too.
        backup::note_new_parent(inode);
        backup::note_ctime_change(inode, old);
        backup::names::note_named(inode, old);
        dentry.set_lower(lower);
        inode.refresh();
        dir.refresh();
        dentry.instantiate(inode.hold());
        Ok(())
    }

    fn unlink(dir: &OwnInode, dentry: &OwnDentry) -> Result {
        remove(dir, dentry, Op::Unlink, |locked| locked.unlink())
    }

    fn remove_directory(dir: &OwnInode, dentry: &OwnDentry) -> Result {
        remove(dir, dentry, Op::Rmdir, |locked| locked.remove_directory())
    }

    fn rename(
        (from, old): (&OwnInode, &OwnDentry),
        (to, new): (&OwnInode, &OwnDentry),
        flags: u32,
    ) -> Result {
        if flags & !(c::RENAME_NOREPLACE | c::RENAME_EXCHANGE | c::RENAME_WHITEOUT) != 0 {
            return Err(EINVAL);
        }
        refuse_hidden(old)?;
        refuse_hidden(new)?;
        let op = if flags & c::RENAME_EXCHANGE != 0 {
            Op::Exchange
        } else {
            Op::Rename
        };
        let moved = old.existing()?;
        backup::load(moved)?;
        if let Some(target) = new.own_inode() {
            backup::load(target)?;
        }
        let mut naming = NameChange::begin(from, op, old.name())?;
        // A second line: the whiteout is an object of its own, which an undo removes before the name
        // comes back. Both lines are placed under the directory's lock, one after the other.
        let whiteout = if flags & c::RENAME_WHITEOUT != 0 {
            Some(NameChange::begin(from, Op::Mknod, old.name())?)
        } else {
            None
        };
        let victim = new.own_inode().filter(|_| op == Op::Rename);
        let _changing = [old.begin_change(), new.begin_change()];
        if let Err(e) = change_below(&mut naming, victim, (old, new), flags) {
            drop(naming);
            // It may have had one name more.
            if let Some(victim) = victim {
                backup::note_ctime_change(victim, new);
            }
            return Err(e);
        }
        naming.done_with(moved, |draft| {
            if from.id() != to.id() {
                draft.parent(to.id());
                let mut handle = [0; 64];
                if let Some((kind, len)) = attr::handle(to.lower(), &mut handle) {
                    draft.parent_handle(kind, handle.get(..len).unwrap_or_default());
                }
            }
            draft.to(new.name());
            if let Some(over) = new.own_inode() {
                draft.over(over.id());
            }
        });
        if let Some(naming) = whiteout {
            naming.done_or_uncaptured(whiteout_at(from, old).as_deref());
        }
        for (inode, dentry) in [(Some(moved), old), (new.own_inode(), new)] {
            if let Some(inode) = inode {
                inode.refresh();
                if from.id() != to.id() {
                    backup::note_new_parent(inode);
                }
                backup::note_ctime_change(inode, dentry);
            }
        }
        from.refresh();
        to.refresh();
        // Last: what came before has borrowed the names.
        match op {
            Op::Exchange => old.exchange_with(new),
            _ => old.move_to(new),
        }
        Ok(())
    }

    fn make_unnamed(dir: &OwnInode, file: &OwnFile, mode: u16) -> Result {
        let mount = dir.mount();
        let dentry = file.dentry();
        let parent = dentry.parent().lower()?;
        let lower = mount.with_room(Payer::New(parent), || {
            let _write = mount.lower().want_write()?;
            let flags = super::file::lower_flags(file);
            file.open_lower_unnamed(mount.lower(), parent, flags, mode)
        })?;
        let inode = OwnInode::obtain(dir.superblock(), lower.inode())?;
        backup::note_new(&inode);
        inode.object().note_unnamed(true);
        dentry.set_lower(lower.lower_dentry().get());
        file.opened(lower, Open::new())?;
        file.name_unnamed(&inode);
        dentry.instantiate(inode.hold());
        let result = file.finish_unnamed(dentry);
        // Only what counts as open is released, whether the open itself succeeds or not.
        if file.is_opened() && file.is_writable() {
            inode.object().writer_came();
        }
        result
    }
}

/// What the lower filesystem has for one of our names, by what we know. The directory is locked.
fn lower_name(dentry: &OwnDentry) -> Result<LowerName<'_>> {
    Ok(LowerName {
        parent: dentry.parent().lower()?,
        dentry: dentry.lower()?,
        name: dentry.name(),
    })
}

/// Whether the name is that of the history's directory.
fn is_hidden(dentry: &OwnDentry) -> bool {
    dentry.parent().is_root() && dentry.name() == HISTORY
}

fn refuse_hidden(dentry: &OwnDentry) -> Result {
    if is_hidden(dentry) {
        return Err(EPERM);
    }
    Ok(())
}

/// Renames on the lower filesystem; the object that loses the name `new` is kept.
fn change_below<'a>(
    naming: &mut NameChange<'a>,
    victim: Option<&'a OwnInode>,
    (old, new): (&OwnDentry, &'a OwnDentry),
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

/// Our inode for the whiteout that a rename has left at the name of `old`, which the lower dentry has
/// left. The directory `dir` is locked. The rename has happened, so it is looked for more than once.
fn whiteout_at(dir: &OwnInode, old: &OwnDentry) -> Result<ARef<OwnInode>> {
    let mut last = ESTALE;
    for tick in 0..TICKS {
        if tick != 0 {
            attr::nap();
        }
        match look_for_whiteout(dir, old) {
            Err(e) => last = e,
            found => return found,
        }
    }
    Err(last)
}

fn look_for_whiteout(dir: &OwnInode, old: &OwnDentry) -> Result<ARef<OwnInode>> {
    let lower = name::look_up(dir.mount().lower(), old.parent().lower()?, old.name())?;
    // Another program may have put something else there behind us.
    let lower = lower.inode().filter(|inode| inode.is_whiteout());
    let inode = OwnInode::obtain(dir.superblock(), lower.ok_or(ESTALE)?)?;
    backup::note_new(&inode);
    Ok(inode)
}

/// Renames below, to a name that is free or whose object is not a directory to be kept.
fn rename_below(old: &OwnDentry, new: &OwnDentry, flags: u32) -> Result {
    let mount = old.superblock().mount();
    let payer = Payer::Object(new.parent().lower()?, 4096);
    let rename = || {
        let _write = mount.lower().want_write()?;
        name::rename(
            mount.lower(),
            &lower_name(old)?,
            (new.parent().lower()?, new.name()),
            new.own_inode().map(|inode| inode.lower()),
            flags,
        )
    };
    while_stale(|| mount.with_room(payer, rename))
}

/// How many ticks a name is waited for that comes and goes behind us.
const TICKS: u32 = 5;

/// Does `change` again for a moment, as long as it finds another object than the VFS has looked up.
/// The VFS answers ESTALE with one more look-up only, and where a name comes and goes behind us, that
/// may be as wrong as the first one; but such a name also goes again.
fn while_stale(mut change: impl FnMut() -> Result) -> Result {
    for _ in 0..TICKS {
        match change() {
            Err(e) if e == ESTALE => attr::nap(),
            result => return result,
        }
    }
    change()
}

/// Renames over an empty directory: that is exchanged, then moved away from the old name. Where it
/// cannot be kept, it is removed as usual.
fn over_directory<'a>(
    naming: &mut NameChange<'a>,
    victim: &'a OwnInode,
    old: &OwnDentry,
    new: &'a OwnDentry,
    flags: u32,
) -> Result {
    // Only the second step leaves the old name.
    let whiteout = flags & c::RENAME_WHITEOUT;
    let exchange = (flags & !whiteout) | c::RENAME_EXCHANGE;
    let lower = new.lower()?;
    if !backup::orphans::is_empty(victim.mount(), lower)? {
        // Refused, most probably: in the lower filesystem's own words.
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
        name::rename(mount, &moved, back, Some(victim.lower()), flag)?;
    }
    gone?;
    rename_below(old, new, flags)
}

/// Reads off what a change of its names has changed of a directory.
fn refresh_parent(dir: &OwnInode, op: Op) {
    if matches!(op, Op::Mkdir | Op::Rmdir) {
        dir.refresh();
    } else {
        dir.refresh_after_write();
    }
}

/// Creates a name and what it is bound to.
fn make(
    dir: &OwnInode,
    dentry: &OwnDentry,
    op: Op,
    create: impl for<'a> Fn(Locked<'a>) -> Result<Locked<'a>>,
) -> Result {
    refuse_hidden(dentry)?;
    let mount = dir.mount();
    let spare = OwnInode::spare(dir.superblock())?;
    let naming = NameChange::begin(dir, op, dentry.name())?;
    let _changing = dentry.begin_change();
    let lower = mount.with_room(Payer::New(dentry.parent().lower()?), || {
        let _write = mount.lower().want_write()?;
        let parent = dentry.parent().lower()?;
        let locked = match dentry.lower() {
            Ok(child) => Locked::to_create_at(mount.lower(), parent, child, dentry.name())?,
            Err(_) => Locked::to_create(mount.lower(), parent, dentry.name())?,
        };
        Ok(create(locked)?.dentry().get())
    })?;
    let result = bind(spare, dentry, &lower);
    naming.done_or_uncaptured(result.as_deref());
    refresh_parent(dir, op);
    let inode = result?;
    dentry.set_lower(lower);
    dentry.instantiate(inode);
    Ok(())
}

/// Our inode for what was just created below.
fn bind(spare: Spare, dentry: &OwnDentry, lower: &Dentry) -> Result<ARef<OwnInode>> {
    let Some(inode) = lower.inode() else {
        // A filesystem that makes no use of the dentry: the next look-up finds the name.
        dentry.forget();
        return Err(ESTALE);
    };
    let inode = OwnInode::obtain_with(spare, inode)?;
    backup::note_new(&inode);
    Ok(inode)
}

/// Removes a name.
fn remove(
    dir: &OwnInode,
    dentry: &OwnDentry,
    op: Op,
    remove: impl FnOnce(&Locked<'_>) -> Result,
) -> Result {
    let inode = dentry.existing()?;
    let mount = dir.mount();
    // Deleting always works; what cannot be told now is told when the object is used next.
    let is_known = backup::load(inode).is_ok();
    let mut naming = NameChange::begin(dir, op, dentry.name())?;
    let at = lower_name(dentry)?;
    let _changing = dentry.begin_change();
    let removed = naming.remove_victim(inode, (at.parent, at.name), &at, 0);
    let removed = removed.and_then(|is_gone| {
        if is_gone {
            return Ok(());
        }
        let _write = mount.lower().want_write()?;
        remove(&Locked::to_remove(mount.lower(), &at)?)
    });
    match removed {
        Ok(()) => naming.done(Some(inode)),
        // Another object was put in the place of this one behind us. That was not ours to log, and
        // it is as if ours had come just before.
        Err(e) if e == ESTALE && at.dentry.has_lost_its_name() => drop(naming),
        Err(e) => {
            drop(naming);
            // It may have had one name more.
            if is_known {
                backup::note_ctime_change(inode, dentry);
            }
            return Err(e);
        }
    }
    if is_known {
        backup::note_ctime_change(inode, dentry);
    }
    inode.refresh();
    refresh_parent(dir, op);
    // A negative dentry would keep the lower inode of an unlinked file in memory.
    dentry.forget();
    Ok(())
}
