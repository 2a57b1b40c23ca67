// SPDX-License-Identifier: GPL-2.0

//! The objects of a group, and the directories among them. They are found by the file handles in
//! their lines, and opened for each stage of the revert anew: a group may have more of them than
//! memory.

use super::{Outcome, RevertContext, RevertPhase};
use crate::{
    history::journal::{Journal, SpacePurpose},
    log::{
        line::Op,
        plan::{NameStep, Records},
        types::{ObjectId, Pos},
    },
    record::{self, LineSubject},
    revert::{
        attributes,
        binding::{find_recorded, ObjectLookup, RecordedHandle},
        content::ContentRevert,
        cross_directory::{RenameEnd, RenamedNames},
        may_revert,
        names::{directory, NamesRevert, NAME},
        plan_builder,
        rights::{inverse::PermissionCheck, CallerRights},
        steps::{Direction, Lines, UndoStep},
        transaction, Refusal,
    },
    state::ObjectState,
    uapi::Reason,
    vfs::{
        c,
        dentry::{Dentry, UpperDentry},
        error::{ENODATA, EUCLEAN},
        file::{File, UpperFile},
        fsnotify::ChangeEvents,
        inode::UpperInode,
        lock::ReentrantInodeGuard,
        scope::KernelCreds,
        upper_names::{LockedDirectory, Renaming},
    },
};
use core::cell::Cell;
use kernel::{prelude::*, rbtree::RBTree, sync::aref::ARef};

/// An object of the group, with its lower dentry.
pub(super) struct OpenedObject {
    pub(super) inode: ARef<UpperInode>,
    pub(super) lower: ARef<Dentry>,
}

/// The file handles of the objects of one stage of a request. Each stage opens its objects several times, and the
/// line with an object's handle may be far back in its chain.
///
/// A handle stays right as long as the inode exists: it names the inode, not one of its names, and
/// `locate::by_handle()` compares the object that it finds. Whether the object had a name may change while
/// nothing is locked, so each stage has its own.
pub(super) struct StageHandles {
    known: Cell<RBTree<ObjectId, RecordedHandle>>,
    count: Cell<usize>,
}

/// The most handles that are kept, about half a megabyte: further ones are read each time.
const MOST_HANDLES: usize = 4096;

impl StageHandles {
    pub(super) fn new() -> Self {
        Self {
            known: Cell::new(RBTree::new()),
            count: Cell::new(0),
        }
    }

    /// The handle of an object; `None`: the object has no line.
    fn get(&self, journal: &Journal, object: ObjectId) -> Outcome<Option<RecordedHandle>> {
        let mut known = self.known.replace(RBTree::new());
        let found = known.get(&object).copied();
        if found.is_some() || self.count.get() >= MOST_HANDLES {
            self.known.set(known);
            return match found {
                Some(found) => Ok(Some(found)),
                None => RecordedHandle::of(journal, object),
            };
        }
        let read = RecordedHandle::of(journal, object);
        if let Ok(Some(recorded)) = &read {
            // Without memory it is read again.
            if let Ok(None) = known.try_create_and_insert(object, *recorded, GFP_KERNEL_ACCOUNT) {
                self.count.set(self.count.get().saturating_add(1));
            }
        }
        self.known.set(known);
        read
    }
}

impl<'a> RevertContext<'a> {
    /// The open file of the request.
    pub(super) fn request_file(&self) -> Outcome<&'a UpperFile> {
        Ok(self.file.ok_or(EIO)?)
    }

    /// Rights of the caller.
    pub(super) fn caller(&self) -> Outcome<CallerRights<'a>> {
        Ok(CallerRights::new(self.request_file()?, self.journal))
    }
}

impl RevertContext<'_> {
    /// Finds an object by the file handle in its lines. `Gone`: it no longer exists.
    pub(super) fn open(&self, object: ObjectId) -> Outcome<OpenedObject> {
        self.open_found(self.find_recorded(object)?)
    }

    /// As [`find_recorded`], with the handle that this stage has read before.
    pub(super) fn find_recorded(&self, object: ObjectId) -> Outcome<ObjectLookup> {
        let Some(handles) = self.handles else {
            return find_recorded(self.sb, self.journal, object);
        };
        match handles.get(self.journal, object)? {
            Some(recorded) => recorded.find(self.sb, self.journal, object),
            None => Ok(ObjectLookup::Gone),
        }
    }

    /// As [`Self::open`]. `None`: the object is gone and never had a name.
    pub(super) fn open_unless_unnamed(&self, object: ObjectId) -> Outcome<Option<OpenedObject>> {
        match self.find_recorded(object)? {
            ObjectLookup::Unnamed => Ok(None),
            found => self.open_found(found).map(Some),
        }
    }

    /// Whether the object is an orphan. The inode flag alone is not enough: eviction clears it.
    pub(super) fn is_orphan(&self, inode: &UpperInode) -> Outcome<bool> {
        if inode.is_orphan() {
            return Ok(true);
        }
        match self.journal.find_orphan(inode.id()) {
            Err(e) if e == ENODATA => Ok(false),
            found => found.map(|_| true).map_err(Refusal::from),
        }
    }

    fn open_found(&self, found: ObjectLookup) -> Outcome<OpenedObject> {
        let lower = found.into_lower()?;
        let inode = lower.inode().ok_or(ENOENT)?;
        let inode = UpperInode::iget(self.sb, inode)?;
        Ok(OpenedObject { inode, lower })
    }

    /// Flushes the lower filesystem (sync_filesystem()).
    pub(super) fn sync_all(&self) -> Result {
        self.mount.lower().root().superblock().sync()
    }

    /// Clears the protection that the revert at `at` may have restored. Returns the object if its
    /// flags are part of that revert. The caller holds the reference to keep the inode in memory: a
    /// fresh inode would be recovered on its own, and protected too early.
    #[inline(never)]
    pub(super) fn unprotect(&self, object: ObjectId, at: Pos) -> Outcome<Option<ARef<UpperInode>>> {
        let mut lines = Lines::new(self.journal)?;
        let saved = plan_builder::saved_attributes(self.journal, &lines.read(at)?)?;
        let records = Records::new(&saved).map_err(|_| EUCLEAN)?;
        if !attributes::lifts_protection(records) {
            return Ok(None);
        }
        let opened = match self.open(object) {
            Err(refusal) if refusal.reason == Reason::Gone => return Ok(None),
            opened => opened?,
        };
        opened.change(self, || {
            let _kernel = KernelCreds::new();
            let mount = self.mount.lower();
            Ok(attributes::unprotect(mount, &opened.lower, records)?)
        })?;
        Ok(Some(opened.inode))
    }

    /// Places the closing line of a member's intent.
    pub(super) fn place_end(&self, object: ObjectId, end: Op, intent: u64) -> Result {
        let opened = self.open(object).map_err(|refusal| refusal.error)?;
        let subject = LineSubject {
            mount: self.mount,
            inode: &opened.inode,
            open: None,
        };
        let mut reservation = self.journal.reserve_lines(1)?;
        let mut state = opened.inode.object().state.lock();
        opened.known(self, &mut state)?;
        transaction::place_end(&subject, &mut state, &mut reservation, end, intent)
    }

    /// Finishes the revert at `at`, which has no pre-image.
    #[inline(never)]
    pub(super) fn resume(&self, object: ObjectId, at: Pos) -> Outcome {
        let opened = self.open(object)?;
        let mut lines = Lines::new(self.journal)?;
        let line = lines.read(at)?;
        let file = opened.file(self, true)?;
        let content = opened.content(self, file.as_deref(), true);
        opened.change(self, || Ok(content.resume(&line, false)?))
    }

    /// Restores the pre-image of the revert at `at`.
    pub(super) fn restore_content(&self, object: ObjectId, at: Pos) -> Outcome {
        let _held = self.unprotect(object, at)?;
        let opened = self.open(object)?;
        let mut lines = Lines::new(self.journal)?;
        let line = lines.read(at)?;
        let resized = line.size != Some(opened.inode.lower().size());
        let to_change = opened.inode.is_regular() && (line.map.is_some() || resized);
        let file = opened.file(self, to_change)?;
        let content = opened.content(self, file.as_deref(), true);
        opened.change(self, || Ok(content.target(false).restore_from(&line)?))?;
        let changed = ChangeEvents {
            content: to_change,
            attributes: line.attributes.is_some(),
        };
        (opened.inode).notify_by_alias(&opened.lower, self.file, changed);
        Ok(())
    }
}

impl OpenedObject {
    /// Opens the lower file; `None` for an object without content or names.
    pub(super) fn file(
        &self,
        context: &RevertContext<'_>,
        to_change: bool,
    ) -> Outcome<Option<ARef<File>>> {
        if !self.inode.is_regular() && !self.inode.is_directory() {
            return Ok(None);
        }
        let access = if to_change { c::O_RDWR } else { c::O_RDONLY };
        // O_NONBLOCK: break_lease() must not wait while objects are locked.
        let access = access | c::O_LARGEFILE | c::O_NONBLOCK;
        match File::open_kernel(context.mount.lower(), &self.lower, access) {
            Err(e) if e == EPERM => Err(Refusal::new(Reason::NotWritable, 0)),
            Err(e) if e == EAGAIN => Err(Refusal::new(Reason::Leased, 0)),
            file => Ok(Some(file?)),
        }
    }

    /// The object as the target of a revert of content and attributes.
    pub(super) fn content<'a>(
        &'a self,
        context: &RevertContext<'a>,
        file: Option<&'a File>,
        force: bool,
    ) -> ContentRevert<'a> {
        ContentRevert {
            mount: context.mount,
            journal: context.journal,
            inode: &self.inode,
            lower: &self.lower,
            file,
            open: None,
            force,
            resumed: None,
            is_killable: context.phase != RevertPhase::Performing,
        }
    }

    /// Loads the object's chain. The inode may have been evicted and instantiated again.
    pub(super) fn known(&self, context: &RevertContext<'_>, state: &mut ObjectState) -> Result {
        if !state.loaded {
            record::load_unchecked(context.journal, &self.inode, state)?;
            state.incomplete = false;
        }
        Ok(())
    }

    /// Changes the object by `change`. Records its attributes and times after that as our own: the
    /// steps on names would log an external change.
    pub(super) fn change<T>(
        &self,
        context: &RevertContext<'_>,
        change: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<T> {
        let mut state = self.inode.object().state.lock();
        self.known(context, &mut state)?;
        let changed = change();
        self.inode.copy_attr();
        record::note_change(&mut state, &self.inode);
        changed
    }

    /// Checks the caller's right to revert content and attributes of the object.
    pub(super) fn may_be_reverted(&self, file: &UpperFile) -> Outcome {
        may_revert(file, &self.inode, &self.lower)
    }
}

/// Whether to apply a step or to roll it back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StepAction {
    Perform,
    Rollback,
}

/// A directory whose names are reverted.
pub(super) struct OpenDirectory {
    object: ObjectId,
    opened: OpenedObject,
    /// Our dentry of the directory, if the dcache has one.
    dentry: Option<ARef<UpperDentry>>,
}

impl OpenDirectory {
    fn new(context: &RevertContext<'_>, object: ObjectId, opened: OpenedObject) -> Self {
        let dentry = UpperDentry::of_lower(context.sb, &opened.lower).ok();
        Self {
            object,
            opened,
            dentry,
        }
    }

    /// Opens a directory by its lower dentry.
    pub(super) fn unchecked(context: &RevertContext<'_>, lower: ARef<Dentry>) -> Outcome<Self> {
        let inode = lower.inode().ok_or(ENOENT)?;
        let object = inode.id();
        let inode = UpperInode::iget(context.sb, inode)?;
        Ok(Self::new(context, object, OpenedObject { inode, lower }))
    }

    pub(super) fn object(&self) -> ObjectId {
        self.object
    }

    pub(super) fn inode(&self) -> &UpperInode {
        &self.opened.inode
    }

    pub(super) fn lower(&self) -> &Dentry {
        &self.opened.lower
    }

    /// Whether a filesystem is mounted on a name in the directory.
    pub(super) fn is_mount_point(&self, name: &[u8]) -> bool {
        let child = self.dentry.as_ref().and_then(|dir| dir.cached_child(name));
        child.is_some_and(|child| child.is_mount_point())
    }

    fn end(&self) -> RenameEnd<'_> {
        RenameEnd {
            dentry: self.dentry.as_deref(),
            lower: &self.opened.lower,
        }
    }

    /// Our dentry, under a lock of the directory.
    fn under<'a>(&'a self, lock: &'a ReentrantInodeGuard<'_>) -> Option<LockedDirectory<'a>> {
        lock.directory(self.dentry.as_deref()?)
    }

    /// The directory as the target of a revert of names, `locked` if it is changed.
    fn names<'a>(
        &'a self,
        context: &RevertContext<'a>,
        locked: Option<LockedDirectory<'a>>,
        other: Option<&'a NamesRevert<'a>>,
        purpose: SpacePurpose,
        action: StepAction,
    ) -> NamesRevert<'a> {
        // Checked in the rehearsal; the LSM hooks remain.
        let rights = false;
        let file = context.file.filter(|_| action == StepAction::Perform);
        NamesRevert {
            mount: context.mount,
            journal: context.journal,
            dir: &self.opened.inode,
            dentry: self.dentry.as_deref(),
            locked,
            lower: &self.opened.lower,
            other,
            purpose,
            permission: file.map(|file| PermissionCheck { file, rights }),
        }
    }
}

/// Directories whose names are reverted, one step at a time. Caches the last one.
pub(super) struct DirectoryCache<'a> {
    context: &'a RevertContext<'a>,
    purpose: SpacePurpose,
    last: Option<OpenDirectory>,
}

impl<'a> DirectoryCache<'a> {
    pub(super) fn new(context: &'a RevertContext<'a>, purpose: SpacePurpose) -> Self {
        Self {
            context,
            purpose,
            last: None,
        }
    }

    /// Takes the directory `object` out of the cache. [`Self::keep`] returns it.
    pub(super) fn open(&mut self, object: ObjectId) -> Outcome<OpenDirectory> {
        match self.last.take().filter(|dir| dir.object == object) {
            Some(dir) => Ok(dir),
            None => Ok(OpenDirectory::new(
                self.context,
                object,
                self.context.open(object)?,
            )),
        }
    }

    /// Calls `f` with a directory, for a look at its names.
    pub(super) fn with<T>(
        &mut self,
        object: ObjectId,
        f: impl FnOnce(&NamesRevert<'_>) -> Outcome<T>,
    ) -> Outcome<T> {
        let dir = self.open(object)?;
        let found = f(&dir.names(self.context, None, None, self.purpose, StepAction::Rollback))?;
        self.last = Some(dir);
        Ok(found)
    }

    /// Returns a directory to the cache.
    pub(super) fn keep(&mut self, dir: OpenDirectory) {
        self.last = Some(dir);
    }

    /// Applies a step of the directory `object`, or rolls it back. During recovery no directory is
    /// locked.
    pub(super) fn perform(
        &mut self,
        object: ObjectId,
        lines: &mut Lines<'_>,
        undo_step: &mut UndoStep,
        action: StepAction,
    ) -> Outcome {
        let (context, purpose) = (self.context, self.purpose);
        let dir = self.open(object)?;
        let mut buf = [[0; NAME]; 2];
        let peer = StepPeer::of(context, &lines.step(undo_step)?, &mut buf)?;
        let direction = match action {
            StepAction::Perform => undo_step.direction,
            StepAction::Rollback => undo_step.direction.inverted(),
        };
        // The caller's rights were checked in the rehearsal. Applied attributes may have changed
        // them since.
        let mut act = |here: Option<LockedDirectory<'_>>, there: Option<&NamesRevert<'_>>| {
            let names = dir.names(context, here, there, purpose, action);
            match action {
                StepAction::Perform => names.perform_one(lines, undo_step),
                StepAction::Rollback => names.undo_one(lines, undo_step),
            }
        };
        match &peer {
            None => {
                // I_MUTEX_PARENT: the lock of a child is taken below it.
                let lock = dir.opened.inode.lock_as_parent_unless_held();
                act(dir.under(&lock), None)?;
            }
            Some(peer) => {
                let locks = peer.lock(&dir, direction)?;
                let (here, there) = locks.directories(&dir, &peer.dir, direction);
                let there = peer.dir.names(context, there, None, purpose, action);
                act(here, Some(&there))?;
                peer.dir.opened.inode.copy_attr();
            }
        }
        drop(peer);
        dir.opened.inode.copy_attr();
        self.last = Some(dir);
        Ok(())
    }
}

/// The other directory of a step.
struct StepPeer<'n> {
    dir: OpenDirectory,
    /// The rename between both directories; `None` if the step changes the other one only.
    rename: Option<RenamedNames<'n>>,
}

impl<'n> StepPeer<'n> {
    /// `None` if the step changes its own directory only.
    #[inline(never)]
    fn of(
        context: &RevertContext<'_>,
        step: &NameStep<'_>,
        buf: &'n mut [[u8; NAME]; 2],
    ) -> Outcome<Option<Self>> {
        let Some(parent) = step.other_directory() else {
            return Ok(None);
        };
        let rename = RenamedNames::of(step, buf)?;
        let dir = OpenDirectory::unchecked(context, directory(context.mount, &parent)?)?;
        // A removed directory (S_DEAD) gets no names.
        if dir.inode().is_orphan() {
            return Err(Refusal::new(Reason::Conflict, 0));
        }
        Ok(Some(Self { dir, rename }))
    }

    /// Locks the directories of the step, unless the request holds them already.
    fn lock<'d>(&'d self, dir: &'d OpenDirectory, direction: Direction) -> Outcome<PeerLocks<'d>> {
        let (one, two) = (dir.inode(), self.dir.inode());
        let Some(rename) = &self.rename else {
            return Ok(PeerLocks {
                both: None,
                held: [None, Some(two.lock_as_parent_unless_held())],
            });
        };
        if one.is_held() && two.is_held() {
            let held = [one, two].map(|inode| Some(inode.lock_as_parent_unless_held()));
            return Ok(PeerLocks { both: None, held });
        }
        // Not held during recovery.
        let both = rename.lock(dir.end(), self.dir.end(), direction)?;
        Ok(PeerLocks {
            both,
            held: [None, None],
        })
    }
}

/// The locks of two directories, the one of the line first.
struct PeerLocks<'d> {
    /// Both, as lock_rename() takes them.
    both: Option<Renaming<'d>>,
    /// Otherwise each by itself.
    held: [Option<ReentrantInodeGuard<'d>>; 2],
}

impl PeerLocks<'_> {
    /// Our dentries of the directory `dir` of the line and of the other one, where they are locked.
    fn directories<'l>(
        &'l self,
        dir: &'l OpenDirectory,
        peer: &'l OpenDirectory,
        direction: Direction,
    ) -> (Option<LockedDirectory<'l>>, Option<LockedDirectory<'l>>) {
        if let Some(both) = &self.both {
            let (source, target) = both.directories();
            return match direction {
                Direction::Undo => (Some(target), Some(source)),
                Direction::Redo => (Some(source), Some(target)),
            };
        }
        let [here, there] = &self.held;
        let here = here.as_ref().and_then(|lock| dir.under(lock));
        (here, there.as_ref().and_then(|lock| peer.under(lock)))
    }
}
