// SPDX-License-Identifier: GPL-2.0

//! Orphans: objects that lost their last name. The name is moved to a directory of the history, or,
//! where a rename replaces it, the object is linked there first. The inode therefore has a name at
//! all times, for other programs as well as after a power cut.

use crate::{
    history::{
        journal::{Journal, SpacePurpose},
        orphan_record::{Cause, EntryName, OrphanRecord, HANDLE_MAX},
        orphans::OrphanDir,
    },
    log::{
        line::{LineDraft, Undo},
        types::ObjectId,
    },
    record,
    state::{Mount, ObjectRef, SpaceRequest},
    vfs::{
        attr, c,
        dentry::Dentry,
        error::ENOTEMPTY,
        inode::{Inode, UpperInode},
        namei::{self, DirOpGuard, LowerName},
        scope::KernelCreds,
        store::StoreDir,
        superblock::UpperSuperBlock,
        task::{self, ProcessKey},
        xattr,
    },
};
use kernel::{
    prelude::*,
    sync::{aref::ARef, Arc}, //
};

/// State of an object after an operation removed one of its names.
pub(crate) enum VictimState<'a> {
    /// The object has other names; its file handle identifies it.
    Linked(&'a UpperInode),
    /// The object is an orphan. Dropping this before the operation happened removes an added link.
    Orphan(NewOrphan<'a>),
    /// The object is not captured; the reason is the value of the line's `why=`.
    Uncaptured(&'static str),
}

/// A file handle: the type byte, followed by the handle's bytes.
pub(super) struct FileHandle {
    bytes: [u8; HANDLE_MAX],
    len: usize,
}

impl FileHandle {
    #[inline]
    fn of(object: &UpperInode) -> Option<Self> {
        Self::of_lower(object.lower())
    }

    /// The file handle of a lower inode (exportfs_encode_inode_fh()).
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

    /// The type byte and the bytes, as one slice.
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

/// The last name of an object, about to be removed.
#[derive(Clone, Copy)]
pub(crate) struct LastName<'a> {
    /// The lower directory of the name.
    pub(crate) parent: &'a Dentry,
    pub(crate) name: &'a [u8],
    pub(crate) cause: Cause,
}

/// An object with a name in the orphans' directory.
pub(crate) struct NewOrphan<'a> {
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a UpperInode,
    orphan_dir: Arc<OrphanDir>,
    /// Allocated bytes of the object.
    bytes: u64,
    /// The last name, the caller who removes the name, and a number above those of all lines so
    /// far.
    last: LastName<'a>,
    uid: u32,
    seq: u64,
    /// Whether the entry is an additional hard link, still to be committed.
    is_linked: bool,
}

impl NewOrphan<'_> {
    /// The segment with which the orphan is kept.
    pub(crate) fn segment(&self) -> u64 {
        self.orphan_dir.segment()
    }

    /// Number of bytes that count against the history's limit.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the name of the orphan's entry.
    #[inline(never)]
    fn write_entry(&self, entry: &mut EntryName) {
        let parent = self.last.parent.inode().and_then(FileHandle::of_lower);
        let orphan = OrphanRecord {
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

    /// As [`Self::write_entry`], before the entry is made. The rest of a long name goes to an
    /// xattr. On a filesystem without xattrs, adoption uses the shortened name.
    fn prepare_entry(&self, lower: &Dentry, entry: &mut EntryName) {
        self.write_entry(entry);
        if entry.is_cut {
            let mount = self.mount.lower();
            let write = mount.want_write();
            let _ = write.and_then(|_write| xattr::set_long_name(mount, lower, self.last.name));
        }
    }

    /// The file handle for the line: identifies a file that gets further names later. A directory
    /// has only one name.
    fn handle(&self) -> Option<FileHandle> {
        (!self.victim.is_directory()).then(|| FileHandle::of(self.victim))?
    }

    /// Commits the orphan after the operation. The victim is locked.
    fn commit(&mut self) {
        self.is_linked = false;
        self.victim.note_orphan(true);
        self.journal.count_orphan_bytes(self.bytes, 0);
        // Not earlier: a flush of the directory before this point has not covered the entry.
        if let Err(e) = self.journal.orphan_added(&self.orphan_dir) {
            self.mount.warn_lost(e);
        }
    }
}

impl Drop for NewOrphan<'_> {
    fn drop(&mut self) {
        if !self.is_linked {
            return;
        }
        // The operation failed: removes the added link.
        let mut entry = EntryName::empty();
        self.write_entry(&mut entry);
        if let Err(e) = self.orphan_dir.dir().unlink(entry.bytes()) {
            pr_warn!(
                "history: a file is left with a name too many (error {})\n",
                e.to_errno()
            );
        }
    }
}

impl VictimState<'_> {
    /// Commits after the operation. The victim is locked.
    pub(crate) fn settle(&mut self) {
        if let Self::Orphan(kept) = self {
            kept.commit();
        }
    }

    /// Fields of a template line: the orphan's segment and the file handle. `None` if the line
    /// needs another form.
    pub(super) fn template_fields(&self) -> Option<(Option<u64>, Option<FileHandle>)> {
        match self {
            Self::Linked(object) => FileHandle::of(object).map(|handle| (None, Some(handle))),
            Self::Orphan(kept) => Some((Some(kept.segment()), kept.handle())),
            Self::Uncaptured(_) => None,
        }
    }

    /// Adds the keys about the victim.
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

/// Links an object to the orphans' directory before a rename replaces its last name, so that inode
/// and name exist at all times. Both directories and the object are locked by the VFS.
pub(crate) fn link_to_orphans<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a UpperInode,
    last: LastName<'a>,
    lower: &Dentry,
) -> Result<VictimState<'a>> {
    if victim.lower().links() > 1 {
        return Ok(VictimState::Linked(victim));
    }
    let mut kept = prepare_orphan(
        mount,
        journal,
        victim,
        (last, lower),
        SpacePurpose::Operation,
    )?;
    let _kernel = KernelCreds::new();
    let mut name = EntryName::empty();
    kept.prepare_entry(lower, &mut name);
    mount.with_space(SpaceRequest::History, || {
        let _write = mount.lower().want_write()?;
        DirOpGuard::start_creating(mount.lower(), kept.orphan_dir.dir().dentry(), name.bytes())?
            .link(lower)
    })?;
    // From now on, dropping `kept` removes the link.
    kept.is_linked = true;
    Ok(VictimState::Orphan(kept))
}

/// Renames an object to the orphans' directory: this removes its last name. A directory must be
/// empty (ENOTEMPTY otherwise, as rmdir(2)). The directory and the object are locked by the VFS, or
/// by the revert that `room` is for. `flags` are renameat2() flags besides RENAME_NOREPLACE.
///
/// A rename between directories takes s_vfs_rename_mutex of the lower superblock (lock_rename()).
/// If that is contended, a file is linked and then unlinked instead, so that removals in two
/// directories run in parallel; without contention, the rename is cheaper. A file is also linked if
/// the rename fails with ENOSPC. After a power cut between link and unlink, [`repair_leaked_links`]
/// removes the link.
pub(crate) fn move_to_orphans<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a UpperInode,
    last: LastName<'a>,
    at: &LowerName<'_>,
    flags: u32,
    purpose: SpacePurpose,
) -> Result<VictimState<'a>> {
    let lower = at.dentry;
    let mut kept = prepare_orphan(mount, journal, victim, (last, lower), purpose)?;
    let _kernel = KernelCreds::new();
    let inside = if victim.is_directory() {
        Some(mount.lower().directory_at(lower)?)
    } else {
        None
    };
    inside.as_ref().map_or(Ok(()), require_empty)?;
    let mut name = EntryName::empty();
    kept.prepare_entry(lower, &mut name);
    let there = (kept.orphan_dir.dir().dentry(), name.bytes());
    // The VFS pins our dentry, so its lower dentry is in use: NFS would silly-rename an unlinked
    // file.
    let is_local = mount.lower().root().superblock().is_local();
    let may_link = inside.is_none() && flags == 0 && is_local;
    let is_linked = with_space_for(mount, purpose, || {
        let below = mount.lower();
        if !may_link || !below.root().superblock().renames_wait() {
            let _write = below.want_write()?;
            match namei::rename(below, at, there, None, flags | c::RENAME_NOREPLACE) {
                Err(e) if e == ENOSPC && may_link => {}
                result => return result.map(|()| false),
            }
        }
        let _write = below.want_write()?;
        DirOpGuard::start_creating(below, there.0, there.1)?.link(lower)?;
        Ok(true)
    })?;
    if is_linked {
        // From now on, dropping `kept` removes the link.
        kept.is_linked = true;
        with_space_for(mount, purpose, || {
            let _write = mount.lower().want_write()?;
            DirOpGuard::start_removing_dentry(mount.lower(), at)?.unlink()
        })?;
        return Ok(VictimState::Orphan(kept));
    }
    // Another program may have added an entry to the lower directory before the rename: moves the
    // directory back.
    if let Err(e) = inside.as_ref().map_or(Ok(()), require_empty) {
        let here = LowerName {
            parent: kept.orphan_dir.dir().dentry(),
            dentry: lower,
            name: name.bytes(),
        };
        let back = (at.parent, at.name);
        if flags & c::RENAME_WHITEOUT == 0 {
            let _write = mount.lower().want_write()?;
            namei::rename(mount.lower(), &here, back, None, c::RENAME_NOREPLACE)?;
            return Err(e);
        }
        // The whiteout holds the name: exchanges both, then removes the whiteout.
        let held = namei::lookup(mount.lower(), at.parent, at.name)?;
        let write = mount.lower().want_write()?;
        namei::rename(mount.lower(), &here, back, held.inode(), c::RENAME_EXCHANGE)?;
        drop(write);
        kept.orphan_dir.dir().unlink(name.bytes())?;
        return Err(e);
    }
    Ok(VictimState::Orphan(kept))
}

/// Removes links that a power cut left between the two steps of a removal: an orphan that still has
/// its own name. The link changed ctime without a line, so the object is resynchronised. Called at
/// mount.
#[inline(never)]
pub(crate) fn repair_leaked_links(sb: &UpperSuperBlock) {
    let mount = sb.mount();
    let Some(journal) = mount.journal() else {
        return;
    };
    for (orphan_dir, name) in &journal.take_leaked_links() {
        if task::resched_killable().is_err() {
            // The next mount after an unclean shutdown continues.
            break;
        }
        if let Err(e) = repair_link(sb, journal, orphan_dir.dir(), name) {
            mount.warn_lost(e);
        }
    }
}

/// Removes one such link.
fn repair_link(
    sb: &UpperSuperBlock,
    journal: &Journal,
    dir: &StoreDir,
    name: &EntryName,
) -> Result {
    let mount = sb.mount();
    let kept = dir.child(name.bytes())?;
    let inode = UpperInode::iget(sb, kept.inode().ok_or(ENOENT)?)?;
    let _lock = inode.lock();
    if inode.lower().links() <= 1 {
        // The other name was such a link, too; this one is the last.
        return Ok(());
    }
    let object = ObjectRef {
        mount,
        journal,
        inode: &inode,
        lower: &kept,
    };
    let mut state = inode.object().state.lock();
    if !record::is_as_closed(&object)? {
        // The object's last line is unknown, so no resync line is written.
        return dir.unlink(name.bytes());
    }
    record::resync_loaded(&object, &mut state)?;
    // The orphan's entry is the only evidence that ctime changed through this mount: the line must
    // be durable before the entry is removed.
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

/// Number of names in a lower directory.
pub(crate) fn count(mount: &Mount, lower: &Dentry) -> Result<usize> {
    let mut count = 0usize;
    let dir = mount.lower().directory_at(lower)?;
    dir.list(&mut |_| count = count.saturating_add(1))?;
    Ok(count)
}

/// ENOTEMPTY if the lower directory has a name.
fn require_empty(dir: &StoreDir) -> Result {
    let mut is_empty = true;
    dir.list(&mut |_| is_empty = false)?;
    if is_empty {
        Ok(())
    } else {
        Err(ENOTEMPTY)
    }
}

/// Runs `operation`; on ENOSPC, frees space (`room` decides from where) and retries.
fn with_space_for<T>(
    mount: &Mount,
    purpose: SpacePurpose,
    operation: impl FnMut() -> Result<T>,
) -> Result<T> {
    match purpose {
        SpacePurpose::Operation => mount.with_space(SpaceRequest::History, operation),
        SpacePurpose::Revert | SpacePurpose::Discard => mount.with_reserve(operation),
    }
}

/// Prepares the orphan's entry. ENOSPC if the object exceeds the history's limit.
fn prepare_orphan<'a>(
    mount: &'a Mount,
    journal: &'a Journal,
    victim: &'a UpperInode,
    (last, lower): (LastName<'a>, &Dentry),
    purpose: SpacePurpose,
) -> Result<NewOrphan<'a>> {
    let bytes = mount.lower().bytes_of(lower);
    journal.admit_orphan(bytes, purpose)?;
    let (orphan_dir, seq) = with_space_for(mount, purpose, || journal.orphan_dir(victim.id()))?;
    Ok(NewOrphan {
        mount,
        journal,
        victim,
        orphan_dir,
        bytes,
        last,
        uid: ProcessKey::current().uid,
        seq,
        is_linked: false,
    })
}

/// The orphan in an entry, if the entry holds `object`. A file with another name is not an orphan:
/// its name may be anywhere.
pub(crate) fn orphan_entry(
    dir: &StoreDir,
    entry: &[u8],
    object: ObjectId,
) -> Result<Option<ARef<Dentry>>> {
    let kept = dir.child(entry)?;
    let is_it = kept
        .inode()
        .is_some_and(|inode| inode.id() == object && (inode.is_directory() || inode.links() == 1));
    Ok(is_it.then_some(kept))
}
