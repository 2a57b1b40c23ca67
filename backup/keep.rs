// SPDX-License-Identifier: GPL-2.0

//! Keeping what loses its last name: by a name of the history's own, before the last one goes. So
//! the inode never is without a name, for a power cut as for other programs.

use crate::{
    history::{
        journal::Journal,
        kept::entry,
        line::{LineDraft, Undo}, //
    },
    stack::Mount,
    vfs::{
        attr,
        c,
        dentry::Dentry,
        error::ENOTEMPTY,
        inode::OwnInode,
        name::{self, Locked},
        scope::AsKernel,
        store::Dir, //
    },
};
use kernel::{prelude::*, sync::Arc};

/// What became of an object that an operation takes a name from.
pub(crate) enum Parting<'a> {
    /// It has other names; a file handle tells which object it is.
    Named(Handle),
    /// It is kept. Dropping this takes it back, unless it was told to stay.
    Kept(Kept<'a>),
    /// It is not kept; the word goes into the line's `why=`.
    Lost(&'static str),
}

/// A file handle: its type and its bytes.
pub(crate) struct Handle {
    kind: u8,
    bytes: [u8; 64],
    len: usize,
}

/// An object that the history has a name for.
pub(crate) struct Kept<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    segment: u64,
    dir: Arc<Dir>,
    /// What its blocks take.
    bytes: u64,
    is_to_stay: bool,
}

impl Kept<'_> {
    /// The segment that it is kept with.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// The operation has happened. The victim is locked.
    fn stay(&mut self) {
        self.is_to_stay = true;
        self.victim.object().note_kept(true);
        self.journal.count_kept(self.bytes, 0);
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if self.is_to_stay || self.victim.is_directory() {
            return;
        }
        // Nothing happened: a name more would make the object one with several.
        if let Err(e) = self.dir.unlink(entry(self.victim.id()).bytes()) {
            self.mount.warn_lost(e);
        }
    }
}

impl Parting<'_> {
    /// The operation has happened. The victim is locked.
    pub(crate) fn settle(&mut self) {
        if let Self::Kept(kept) = self {
            kept.stay();
        }
    }

    /// Adds what the line has to tell.
    pub(crate) fn describe(&self, draft: &mut LineDraft<'_>) {
        match self {
            Self::Named(handle) => {
                let bytes = handle.bytes.get(..handle.len).unwrap_or_default();
                draft.undo(Undo::None).victim_handle(handle.kind, bytes);
            }
            Self::Kept(kept) => {
                draft.undo(Undo::None).kept(kept.segment);
            }
            Self::Lost(why) => {
                draft.undo(Undo::Lost).why(why);
            }
        }
    }
}

/// Keeps an object that is no directory, unless it has other names. Both directories and the object
/// are locked by the VFS.
pub(crate) fn object<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    lower: &Dentry,
) -> Result<Parting<'a>> {
    if victim.lower().links() > 1 {
        return named(victim);
    }
    let mut kept = begin(mount, journal, victim, lower)?;
    let _kernel = AsKernel::new();
    // Until the link is there, there is nothing to take back.
    kept.is_to_stay = true;
    let name = entry(victim.id());
    mount.with_room(|| {
        let _write = mount.lower().want_write()?;
        Locked::to_create(mount.lower(), kept.dir.dentry(), name.bytes())?.link(lower)
    })?;
    kept.is_to_stay = false;
    Ok(Parting::Kept(kept))
}

fn named<'a>(victim: &OwnInode) -> Result<Parting<'a>> {
    let mut bytes = [0; 64];
    Ok(match attr::handle(victim.lower(), &mut bytes) {
        Some((kind, len)) => Parting::Named(Handle { kind, bytes, len }),
        None => Parting::Lost("nohandle"),
    })
}

/// Moves an empty directory from its place to what is kept: that is how it is removed. `ENOTEMPTY`
/// as rmdir(2) has it. Both directories are locked by the VFS.
pub(crate) fn directory<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    (parent, lower): (&Dentry, &Dentry),
) -> Result<Parting<'a>> {
    let kept = begin(mount, journal, victim, lower)?;
    let _kernel = AsKernel::new();
    let _write = mount.lower().want_write()?;
    let inside = mount.lower().directory_at(lower)?;
    refuse_full(&inside)?;
    let name = entry(victim.id());
    let (here, there) = ((parent, lower), (kept.dir.dentry(), name.bytes()));
    name::rename(mount.lower(), here, there, None, c::RENAME_NOREPLACE)?;
    // Somebody may have come behind us in between.
    if let Err(e) = refuse_full(&inside) {
        let back = (parent, lower.name());
        let here = (kept.dir.dentry(), lower);
        name::rename(mount.lower(), here, back, None, c::RENAME_NOREPLACE)?;
        return Err(e);
    }
    Ok(Parting::Kept(kept))
}

/// Whether a lower directory is empty.
pub(crate) fn is_empty(mount: &Mount, lower: &Dentry) -> Result<bool> {
    match refuse_full(&mount.lower().directory_at(lower)?) {
        Err(e) if e == ENOTEMPTY => Ok(false),
        result => result.map(|()| true),
    }
}

fn refuse_full(dir: &Dir) -> Result {
    let mut is_empty = true;
    dir.list(&mut |_| is_empty = false)?;
    if is_empty {
        Ok(())
    } else {
        Err(ENOTEMPTY)
    }
}

/// Where it will be kept. `ENOSPC`: it takes more than the history may.
fn begin<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    lower: &Dentry,
) -> Result<Kept<'a>> {
    let bytes = mount.lower().bytes_of(lower);
    if !journal.may_keep(bytes) {
        return Err(ENOSPC);
    }
    let (segment, dir) = journal.kept_now()?;
    Ok(Kept {
        mount,
        journal,
        victim,
        segment,
        dir,
        bytes,
        is_to_stay: false,
    })
}
