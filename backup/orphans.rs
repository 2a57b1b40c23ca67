// SPDX-License-Identifier: GPL-2.0

//! Keeping what loses its last name: that name is moved into the history, or, where a rename takes
//! it, another one is given there first. So the inode never is without a name, for a power cut as
//! for other programs.

use crate::{
    history::{
        journal::{Journal, Room},
        kept::Place,
        line::{LineDraft, Undo}, //
        orphan::{Cause, EntryName, Orphan, HANDLE_MAX},
    },
    stack::{Mount, Payer},
    vfs::{
        attr,
        c,
        dentry::Dentry,
        error::ENOTEMPTY,
        inode::{Inode, OwnInode},
        name::{self, Locked, LowerName},
        scope::AsKernel,
        store::Dir,
        superblock::SuperBlock,
        task::{self, Process},
        xattr, //
    },
};
use kernel::{prelude::*, sync::Arc};

/// What became of an object that an operation takes a name from.
pub(crate) enum VictimState<'a> {
    /// It has other names; its file handle tells which object it is.
    Linked(&'a OwnInode),
    /// It is kept. Dropping this takes a name that was added back, unless the operation happened.
    Orphan(NewOrphan<'a>),
    /// It is not kept; the word goes into the line's `why=`.
    Uncaptured(&'static str),
}

/// A file handle: its type byte, then its bytes.
pub(super) struct FileHandle {
    bytes: [u8; HANDLE_MAX],
    len: usize,
}

impl FileHandle {
    #[inline]
    fn of(object: &OwnInode) -> Option<Self> {
        Self::of_lower(object.lower())
    }

    #[inline]
    pub(super) fn of_lower(inode: &Inode) -> Option<Self> {
        let mut handle = Self {
            bytes: [0; HANDLE_MAX],
            len: 0,
        };
        let (first, rest) = handle.bytes.split_first_mut()?;
        let (kind, len) = attr::handle(inode, rest.first_chunk_mut()?)?;
        *first = kind;
        handle.len = len.saturating_add(1);
        Some(handle)
    }

    /// The type byte and the bytes.
    fn whole(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The type and the bytes.
    pub(super) fn parts(&self) -> (u8, &[u8]) {
        match self.whole() {
            [kind, bytes @ ..] => (*kind, bytes),
            [] => (0, &[]),
        }
    }

    pub(super) fn describe(&self, draft: &mut LineDraft<'_>) {
        let (kind, bytes) = self.parts();
        draft.victim_handle(kind, bytes);
    }
}

/// The last name of an object, which it loses.
#[derive(Clone, Copy)]
pub(crate) struct LastName<'a> {
    /// The lower directory that it is in.
    pub(crate) parent: &'a Dentry,
    pub(crate) name: &'a [u8],
    pub(crate) cause: Cause,
}

/// An object that the history has a name for.
pub(crate) struct NewOrphan<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    place: Arc<Place>,
    /// What its blocks take.
    bytes: u64,
    /// What it was called, who takes that name, and a number that no line had before.
    last: LastName<'a>,
    uid: u32,
    seq: u64,
    /// Whether it has a name more than before.
    is_linked: bool,
}

impl NewOrphan<'_> {
    /// The segment that it is kept with.
    pub(crate) fn segment(&self) -> u64 {
        self.place.segment()
    }

    /// How many bytes are counted for it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the name of the object's entry.
    #[inline(never)]
    fn write_entry(&self, entry: &mut EntryName) {
        let parent = self.last.parent.inode().and_then(FileHandle::of_lower);
        let orphan = Orphan {
            object: self.victim.id(),
            parent: parent.as_ref().map(FileHandle::whole).unwrap_or_default(),
            uid: self.uid,
            seq: self.seq,
            cause: self.last.cause,
            is_cut: false,
            name: self.last.name,
        };
        orphan.write(entry);
    }

    /// As [`Self::write_entry`], of the lower object, which is about to be kept. The end of a long name
    /// goes into an attribute; where there are none, an adopted object gets the shorter name.
    fn prepare_entry(&self, lower: &Dentry, entry: &mut EntryName) {
        self.write_entry(entry);
        if entry.is_cut {
            let mount = self.mount.lower();
            let write = mount.want_write();
            let _ = write.and_then(|_write| xattr::set_long_name(mount, lower, self.last.name));
        }
    }

    /// For when it has a name again, and another one is to come back. Directories have only one.
    fn handle(&self) -> Option<FileHandle> {
        (!self.victim.is_directory()).then(|| FileHandle::of(self.victim))?
    }

    /// The operation has happened. The victim is locked.
    fn commit(&mut self) {
        self.is_linked = false;
        self.victim.object().note_kept(true);
        self.journal.count_kept(self.bytes, 0);
        // Only now: what was made durable before has not had the name.
        if let Err(e) = self.journal.kept_one(&self.place) {
            self.mount.warn_lost(e);
        }
    }
}

impl Drop for NewOrphan<'_> {
    fn drop(&mut self) {
        if !self.is_linked {
            return;
        }
        // Nothing happened: a name more would make it an object with several.
        let mut entry = EntryName::empty();
        self.write_entry(&mut entry);
        if let Err(e) = self.place.dir().unlink(entry.bytes()) {
            pr_warn!(
                "history: a file is left with a name too many (error {})\n",
                e.to_errno()
            );
        }
    }
}

impl VictimState<'_> {
    /// The operation has happened. The victim is locked.
    pub(crate) fn settle(&mut self) {
        if let Self::Orphan(kept) = self {
            kept.commit();
        }
    }

    /// What a usual line tells: the segment that the object is kept with, and its file handle. `None`:
    /// it takes another one.
    pub(super) fn template_fields(&self) -> Option<(Option<u64>, Option<FileHandle>)> {
        match self {
            Self::Linked(object) => FileHandle::of(object).map(|handle| (None, Some(handle))),
            Self::Orphan(kept) => Some((Some(kept.segment()), kept.handle())),
            Self::Uncaptured(_) => None,
        }
    }

    /// Adds what the line has to tell.
    pub(crate) fn describe(&self, draft: &mut LineDraft<'_>) {
        match self {
            Self::Linked(object) => match FileHandle::of(object) {
                Some(handle) => {
                    draft.undo(Undo::None);
                    handle.describe(draft);
                }
                None => {
                    draft.undo(Undo::Lost).why("nohandle");
                }
            },
            Self::Orphan(kept) => {
                draft.undo(Undo::None).kept(kept.segment());
                if let Some(handle) = kept.handle() {
                    handle.describe(draft);
                }
            }
            Self::Uncaptured(why) => {
                draft.undo(Undo::Lost).why(why);
            }
        }
    }
}

/// Keeps the object that a rename takes its name from, unless it has other names: by a name more, so
/// that neither it nor the name is ever gone. Both directories and the object are locked by the VFS.
pub(crate) fn link_to_orphans<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    last: LastName<'a>,
    lower: &Dentry,
) -> Result<VictimState<'a>> {
    if victim.lower().links() > 1 {
        return Ok(VictimState::Linked(victim));
    }
    let mut kept = prepare_orphan(mount, journal, victim, (last, lower), Room::Operation)?;
    let _kernel = AsKernel::new();
    let mut name = EntryName::empty();
    kept.prepare_entry(lower, &mut name);
    mount.with_room(Payer::History, || {
        let _write = mount.lower().want_write()?;
        Locked::to_create(mount.lower(), kept.place.dir().dentry(), name.bytes())?.link(lower)
    })?;
    // From here on there is something to take back.
    kept.is_linked = true;
    Ok(VictimState::Orphan(kept))
}

/// Moves an object from its place to what is kept: that is how a last name
/// is removed. A directory must be empty: `ENOTEMPTY`, as rmdir(2) has it. The directory and the object
/// are locked by the VFS, or by the revert that `room` says it is for. `flags` are renameat2()'s beside
/// NOREPLACE.
///
/// A rename between directories takes the lower filesystem's one rename mutex. While another one has
/// it, a file is linked there instead, and then unlinked here, so that removals in two directories do
/// not wait for each other; alone, that costs more than the rename. It is also how a file goes where the
/// filesystem has no room for a rename. A power cut between the two leaves what [`repair_leaked_links`] puts right.
pub(crate) fn move_to_orphans<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    last: LastName<'a>,
    at: &LowerName<'_>,
    flags: u32,
    room: Room,
) -> Result<VictimState<'a>> {
    let lower = at.dentry;
    let mut kept = prepare_orphan(mount, journal, victim, (last, lower), room)?;
    let _kernel = AsKernel::new();
    let inside = if victim.is_directory() {
        Some(mount.lower().directory_at(lower)?)
    } else {
        None
    };
    inside.as_ref().map_or(Ok(()), require_empty)?;
    let mut name = EntryName::empty();
    kept.prepare_entry(lower, &mut name);
    let there = (kept.place.dir().dentry(), name.bytes());
    // NFS renames what is unlinked while in use, as our dentry below is.
    let is_local = mount.lower().root().superblock().is_local();
    let may_link = inside.is_none() && flags == 0 && is_local;
    let is_linked = with_room(mount, room, || {
        let below = mount.lower();
        if !may_link || !below.root().superblock().renames_wait() {
            let _write = below.want_write()?;
            match name::rename(below, at, there, None, flags | c::RENAME_NOREPLACE) {
                Err(e) if e == ENOSPC && may_link => {}
                result => return result.map(|()| false),
            }
        }
        let _write = below.want_write()?;
        Locked::to_create(below, there.0, there.1)?.link(lower)?;
        Ok(true)
    })?;
    if is_linked {
        // From here on there is something to take back.
        kept.is_linked = true;
        with_room(mount, room, || {
            let _write = mount.lower().want_write()?;
            Locked::to_remove(mount.lower(), at)?.unlink()
        })?;
        return Ok(VictimState::Orphan(kept));
    }
    // Somebody may have come behind us in between.
    if let Err(e) = inside.as_ref().map_or(Ok(()), require_empty) {
        let here = LowerName {
            parent: kept.place.dir().dentry(),
            dentry: lower,
            name: name.bytes(),
        };
        let back = (at.parent, at.name);
        if flags & c::RENAME_WHITEOUT == 0 {
            let _write = mount.lower().want_write()?;
            name::rename(mount.lower(), &here, back, None, c::RENAME_NOREPLACE)?;
            return Err(e);
        }
        // The whiteout holds the name.
        let held = name::look_up(mount.lower(), at.parent, at.name)?;
        let write = mount.lower().want_write()?;
        name::rename(mount.lower(), &here, back, held.inode(), c::RENAME_EXCHANGE)?;
        drop(write);
        kept.place.dir().unlink(name.bytes())?;
        return Err(e);
    }
    Ok(VictimState::Orphan(kept))
}

/// Puts right what a power cut left between the two steps of a rename over an object: it is kept, and
/// still has its own name, and its change time has moved without a line. At a mount.
#[inline(never)]
pub(crate) fn repair_leaked_links(sb: &SuperBlock) {
    let mount = sb.mount();
    let Some(journal) = mount.journal() else {
        return;
    };
    for (place, name) in &journal.take_strays() {
        if task::breathe().is_err() {
            // The next unclean mount goes on.
            break;
        }
        if let Err(e) = repair_link(sb, journal, place.dir(), name) {
            mount.warn_lost(e);
        }
    }
}

fn repair_link(sb: &SuperBlock, journal: &Journal, dir: &Dir, name: &EntryName) -> Result {
    let mount = sb.mount();
    let kept = dir.child(name.bytes())?;
    let inode = OwnInode::obtain(sb, kept.inode().ok_or(ENOENT)?)?;
    let _lock = inode.lock();
    if inode.lower().links() <= 1 {
        // The other name was one of these, too: this is the last.
        return Ok(());
    }
    let mut state = inode.object().state.lock();
    if !super::lines::is_as_closed(mount, journal, &inode, &kept)? {
        // Its last line is not known here, so it gets none.
        return dir.unlink(name.bytes());
    }
    super::lines::resync_loaded(mount, journal, &inode, &kept, &mut state)?;
    // Without the name nobody would know again why the time has moved.
    journal.flush(true)?;
    dir.unlink(name.bytes())?;
    super::note_change(&mut state, &inode);
    Ok(())
}

/// Whether a lower directory is empty.
pub(crate) fn is_empty(mount: &Mount, lower: &Dentry) -> Result<bool> {
    match require_empty(&mount.lower().directory_at(lower)?) {
        Err(e) if e == ENOTEMPTY => Ok(false),
        result => result.map(|()| true),
    }
}

/// How many names a lower directory has.
pub(crate) fn count(mount: &Mount, lower: &Dentry) -> Result<usize> {
    let mut count = 0usize;
    let dir = mount.lower().directory_at(lower)?;
    dir.list(&mut |_| count = count.saturating_add(1))?;
    Ok(count)
}

fn require_empty(dir: &Dir) -> Result {
    let mut is_empty = true;
    dir.list(&mut |_| is_empty = false)?;
    if is_empty {
        Ok(())
    } else {
        Err(ENOTEMPTY)
    }
}

/// Does `operation`; where it finds no room, again, with what may be given up for it.
fn with_room<T>(mount: &Mount, room: Room, operation: impl FnMut() -> Result<T>) -> Result<T> {
    match room {
        Room::Operation => mount.with_room(Payer::History, operation),
        Room::Revert | Room::Discard => mount.with_reserve(operation),
    }
}

/// Where it will be kept. `ENOSPC`: it takes more than the history may.
fn prepare_orphan<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a OwnInode,
    (last, lower): (LastName<'a>, &Dentry),
    room: Room,
) -> Result<NewOrphan<'a>> {
    let bytes = mount.lower().bytes_of(lower);
    journal.admit_kept(bytes, room)?;
    let (place, seq) = with_room(mount, room, || journal.kept_now(victim.id()))?;
    Ok(NewOrphan {
        mount,
        journal,
        victim,
        place,
        bytes,
        last,
        uid: Process::current().uid,
        seq,
        is_linked: false,
    })
}
