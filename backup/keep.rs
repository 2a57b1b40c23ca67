// SPDX-License-Identifier: GPL-2.0

//! Keeping what loses its last name: that name is moved into the history, or, where a rename takes
//! it, another one is given there first. So the inode never is without a name, for a power cut as
//! for other programs.

use crate::{
    history::{
        journal::Journal,
        kept::{entry, EntryName},
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
        store::Dir,
        superblock::SuperBlock, //
    },
};
use kernel::{prelude::*, sync::Arc};

/// What became of an object that an operation takes a name from.
pub(crate) enum Parting<'a> {
    /// It has other names; a file handle tells which object it is.
    Named(Handle),
    /// It is kept. Dropping this takes a name that was added back, unless the operation happened.
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

impl Handle {
    fn of(object: &OwnInode) -> Option<Self> {
        let mut bytes = [0; 64];
        let (kind, len) = attr::handle(object.lower(), &mut bytes)?;
        Some(Self { kind, bytes, len })
    }

    fn describe(&self, draft: &mut LineDraft<'_>) {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        draft.victim_handle(self.kind, bytes);
    }
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
    /// For when it has a name again, and another one is to come back. Directories have only one.
    handle: Option<Handle>,
    /// What it was called, where it is a directory that may have to go back.
    name: KVec<u8>,
    /// Whether it has a name more than before.
    is_linked: bool,
}

impl Kept<'_> {
    /// The segment that it is kept with.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// The operation has happened. The victim is locked.
    fn stay(&mut self) {
        self.is_linked = false;
        self.victim.object().note_kept(true);
        self.journal.count_kept(self.bytes, 0);
        // Only now: what was made durable before has not had the name.
        if let Err(e) = self.journal.kept_one(&self.dir) {
            self.mount.warn_lost(e);
        }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if !self.is_linked {
            return;
        }
        // Nothing happened: a name more would make it an object with several.
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
                draft.undo(Undo::None);
                handle.describe(draft);
            }
            Self::Kept(kept) => {
                draft.undo(Undo::None).kept(kept.segment);
                if let Some(handle) = &kept.handle {
                    handle.describe(draft);
                }
            }
            Self::Lost(why) => {
                draft.undo(Undo::Lost).why(why);
            }
        }
    }
}

/// Keeps the object that a rename takes its name from, unless it has other names: by a name more, so
/// that neither it nor the name is ever gone. Both directories and the object are locked by the VFS.
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
    let name = entry(victim.id());
    mount.with_room(|| {
        let _write = mount.lower().want_write()?;
        Locked::to_create(mount.lower(), kept.dir.dentry(), name.bytes())?.link(lower)
    })?;
    // From here on there is something to take back.
    kept.is_linked = true;
    Ok(Parting::Kept(kept))
}

/// What tells an object that has other names.
pub(crate) fn named<'a>(victim: &OwnInode) -> Result<Parting<'a>> {
    Ok(match Handle::of(victim) {
        Some(handle) => Parting::Named(handle),
        None => Parting::Lost("nohandle"),
    })
}

/// Moves an object from its place to what is kept: that is how a last name is removed. A directory
/// must be empty: `ENOTEMPTY`, as rmdir(2) has it. The directory and the object are locked by the
/// VFS.
pub(crate) fn away<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    (parent, lower): (&Dentry, &Dentry),
) -> Result<Parting<'a>> {
    let kept = begin(mount, journal, victim, lower)?;
    let _kernel = AsKernel::new();
    let inside = if victim.is_directory() {
        Some(mount.lower().directory_at(lower)?)
    } else {
        None
    };
    inside.as_ref().map_or(Ok(()), refuse_full)?;
    let name = entry(victim.id());
    mount.with_room(|| {
        let (here, there) = ((parent, lower), (kept.dir.dentry(), name.bytes()));
        let _write = mount.lower().want_write()?;
        name::rename(mount.lower(), here, there, None, c::RENAME_NOREPLACE)
    })?;
    // Somebody may have come behind us in between.
    if let Err(e) = inside.as_ref().map_or(Ok(()), refuse_full) {
        let (here, back) = ((kept.dir.dentry(), lower), (parent, &kept.name[..]));
        let _write = mount.lower().want_write()?;
        name::rename(mount.lower(), here, back, None, c::RENAME_NOREPLACE)?;
        return Err(e);
    }
    Ok(Parting::Kept(kept))
}

/// Puts right what a power cut left between the two steps of a rename over an object: it is kept, and
/// still has its own name, and its change time has moved without a line. At a mount.
pub(crate) fn tidy(sb: &SuperBlock) {
    let mount = sb.mount();
    let Some(journal) = mount.journal() else {
        return;
    };
    for (segment, name) in &journal.take_strays() {
        if let Err(e) = put_right(sb, journal, *segment, name) {
            mount.warn_lost(e);
        }
    }
}

fn put_right(sb: &SuperBlock, journal: &Journal, segment: u64, name: &EntryName) -> Result {
    let mount = sb.mount();
    let dir = journal.kept_with(segment)?;
    let kept = name::look_up(dir.dentry(), name.bytes())?;
    let inode = OwnInode::obtain(sb, kept.inode().ok_or(ENOENT)?)?;
    let _lock = inode.lock();
    let mut state = inode.object().state.lock();
    if !super::lines::is_as_left(mount, journal, &inode, &kept)? {
        // Its last line is not known here, so it gets none.
        return dir.unlink(name.bytes());
    }
    super::lines::rebase(mount, journal, &inode, &kept, &mut state)?;
    // Without the name nobody would know again why the time has moved.
    journal.flush(true)?;
    dir.unlink(name.bytes())?;
    super::note_change(&mut state, &inode);
    Ok(())
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
    let mut name = KVec::new();
    let mut handle = None;
    if victim.is_directory() {
        name.extend_from_slice(lower.name(), GFP_KERNEL)?;
    } else {
        handle = Handle::of(victim);
    }
    Ok(Kept {
        mount,
        journal,
        victim,
        segment,
        dir,
        bytes,
        handle,
        name,
        is_linked: false,
    })
}
