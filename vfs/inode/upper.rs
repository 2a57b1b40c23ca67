// SPDX-License-Identifier: GPL-2.0

//! Upper inodes, which hold a lower inode.

use super::Inode;
use crate::vfs::{
    c,
    superblock::UpperSuperBlock,
    table::{self, superblock::SuperHooks},
    FileSystem,
    Fs, //
};
use core::{ops::Deref, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{ordering::Relaxed, Atomic},
        SetOnce, //
    }, //
};

/// Content of an upper inode's `i_private`.
#[pin_data]
struct InodePrivate {
    lower: ARef<Inode>,
    /// Whether the mounter may search the lower directory, with the attributes of the last
    /// copy_attr().
    searched: Atomic<bool>,
    /// The inode that owns the pages of mappings, if not the lower inode.
    pages: SetOnce<ARef<Inode>>,
    /// Whether the object is an orphan: the link count is zero, whatever the lower inode's is.
    orphan: Atomic<bool>,
    /// Whether a dentry was bound to the inode since the inode was read.
    shown: Atomic<bool>,
    /// The task that holds the inode's lock for a whole request; 0 if none. See
    /// [`crate::vfs::lock::HeldInodes`].
    holder: Atomic<i64>,
    /// Number of that task's guards of the lock.
    holds: Atomic<i32>,
    #[pin]
    object: <Fs as FileSystem>::Object,
}

impl InodePrivate {
    fn new(lower: &Inode) -> impl PinInit<Self, Error> + use<'_> {
        try_pin_init!(Self {
            lower: lower.get(),
            searched: Atomic::new(false),
            pages: SetOnce::new(),
            orphan: Atomic::new(false),
            shown: Atomic::new(false),
            holder: Atomic::new(0),
            holds: Atomic::new(0),
            object <- <Fs as FileSystem>::new_object(),
        })
    }
}

/// An upper inode: represents one lower inode and carries the object's state.
///
/// # Invariants
///
/// `i_private` points to an [`InodePrivate`], from before the inode is hashed until the inode is
/// freed.
#[repr(transparent)]
pub(crate) struct UpperInode(Inode);

// SAFETY: As for `Inode`.
unsafe impl AlwaysRefCounted for UpperInode {
    fn inc_ref(&self) {
        self.0.inc_ref();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: As for `Inode`; the types have one layout.
        unsafe { Inode::dec_ref(obj.cast()) }
    }
}

impl Deref for UpperInode {
    type Target = Inode;

    fn deref(&self) -> &Inode {
        &self.0
    }
}

impl UpperInode {
    /// # Safety
    ///
    /// As for [`Inode::from_raw`]; and the inode is one that [`UpperInode::iget`] made.
    pub(in crate::vfs) unsafe fn from_raw<'a>(ptr: *mut c::inode) -> &'a Self {
        // SAFETY: Guaranteed by the caller; both types have the same layout.
        unsafe { &*ptr.cast() }
    }

    fn private(&self) -> &InodePrivate {
        // SAFETY: `self` is a live inode.
        let private = unsafe { (*self.as_ptr()).i_private };
        // SAFETY: By the type invariant; `i_private` lives as long as the inode.
        unsafe { &*private.cast::<InodePrivate>() }
    }

    /// The lower inode.
    pub(crate) fn lower(&self) -> &Inode {
        &self.private().lower
    }

    /// The inode that owns the pages of shared mappings: the lower inode, or, on a stacked lower
    /// filesystem, the inode below.
    pub(crate) fn pages(&self) -> &Inode {
        match self.private().pages.as_ref() {
            Some(pages) => pages,
            None => self.lower(),
        }
    }

    /// Sets that inode before the file is mapped. `ENODEV`: an earlier mapping has set another
    /// inode.
    pub(crate) fn note_pages(&self, pages: &Inode) -> Result {
        if core::ptr::eq(pages, self.lower()) {
            return Ok(());
        }
        let place = &self.private().pages;
        // Of two concurrent callers one wins; populate() may return false shortly before the
        // winner's value is visible.
        while place.as_ref().is_none() {
            let _ = place.populate(pages.get());
        }
        if core::ptr::eq(self.pages(), pages) {
            Ok(())
        } else {
            Err(ENODEV)
        }
    }

    /// The object's state.
    pub(crate) fn object(&self) -> &<Fs as FileSystem>::Object {
        &self.private().object
    }

    /// The upper superblock.
    pub(crate) fn superblock(&self) -> &UpperSuperBlock {
        // SAFETY: By the contract of `from_raw` the inode is on a superblock of ours, which has its
        // state as long as there are inodes.
        unsafe { UpperSuperBlock::from_raw(self.0.superblock().as_ptr()) }
    }

    /// The mount's state.
    pub(crate) fn mount(&self) -> &<Fs as FileSystem>::Mount {
        self.superblock().mount()
    }

    /// A counted reference.
    pub(crate) fn get(&self) -> ARef<Self> {
        ARef::from(self)
    }

    /// Whether the object is an orphan: its names are not in the tree.
    #[inline]
    pub(crate) fn is_orphan(&self) -> bool {
        self.private().orphan.load(Relaxed)
    }

    /// Sets whether the object is an orphan.
    pub(crate) fn note_orphan(&self, is_orphan: bool) {
        self.private().orphan.store(is_orphan, Relaxed);
    }

    /// Notes that a dentry is bound to the inode.
    #[inline]
    pub(in crate::vfs) fn note_shown(&self) {
        self.private().shown.store(true, Relaxed);
    }

    /// The task that holds the inode's lock for a whole request; 0 if none.
    pub(in crate::vfs) fn holder(&self) -> i64 {
        self.private().holder.load(Relaxed)
    }

    /// Sets the lock holder. Only the holding task writes its own id and 0, so each task reads its
    /// own writes.
    pub(in crate::vfs) fn note_holder(&self, task: i64) {
        self.private().holder.store(task, Relaxed);
    }

    /// Number of guards of the lock that is held for a whole request. Used by the holder only.
    pub(in crate::vfs) fn holds(&self) -> &Atomic<i32> {
        &self.private().holds
    }

    /// Mode bits that upper files never have, whatever the lower mode is.
    fn hidden_bits(&self) -> u16 {
        <Fs as SuperHooks>::lower(self.mount()).hidden_bits()
    }

    /// Copies mode, owner, times, size and flags of the lower inode.
    pub(crate) fn copy_attr(&self) {
        let is_orphan = self.is_orphan();
        let hidden = self.hidden_bits();
        self.private().searched.store(false, Relaxed);
        // SAFETY: Both are live inodes.
        unsafe { c::lfs_copy_attr(self.as_ptr(), self.lower().as_ptr(), is_orphan, hidden) }
    }

    /// Whether [`Self::note_search`] was called since the last copy_attr().
    #[inline]
    pub(crate) fn may_be_searched(&self) -> bool {
        self.private().searched.load(Relaxed)
    }

    /// Records that the mounter may search the lower directory, until the lower attributes change:
    /// a change of an ACL or label moves ctime, too. Not recorded if the lower filesystem has
    /// `->permission`, which may depend on other state.
    pub(crate) fn note_search(&self) {
        let lower = self.lower().as_ptr();
        // SAFETY: A live inode, or in RCU mode its memory is still there.
        let operations = unsafe { (*lower).i_op };
        // SAFETY: An inode's operations live as long as the inode.
        if unsafe { (*operations).permission }.is_none() {
            self.private().searched.store(true, Relaxed);
        }
    }

    /// Whether copy_attr() would change this inode. Callable in RCU walk.
    pub(crate) fn attr_differs(&self) -> bool {
        let is_orphan = self.is_orphan();
        let hidden = self.hidden_bits();
        // SAFETY: Both are live inodes, or in RCU mode their memory is still there.
        unsafe { c::lfs_attr_differs(self.as_ptr(), self.lower().as_ptr(), is_orphan, hidden) }
    }

    /// Calls [`Self::copy_attr`] if the lower attributes were changed without an upper operation.
    /// Not in RCU walk: the inode may be in eviction, and set_nlink() updates a counter of the
    /// superblock.
    #[inline]
    pub(crate) fn copy_attr_if_changed(&self) {
        if self.attr_differs() {
            self.copy_attr();
        }
    }

    /// Copies the lower size only. The VFS reads the upper `i_size` before it calls some hooks
    /// (copy_file_range(2), FIONREAD, F_SETLK with SEEK_END), so read-only hooks copy the size for
    /// the calls that follow.
    #[inline]
    pub(crate) fn copy_size(&self) {
        if self.lower().size() != self.size() {
            // SAFETY: Two live inodes.
            unsafe { c::lfs_copy_size(self.as_ptr(), self.lower().as_ptr()) }
        }
    }

    /// As [`Self::copy_attr`], after a change of the content only.
    pub(crate) fn copy_content_attr(&self) {
        // SAFETY: Both are live inodes.
        unsafe { c::lfs_copy_content_attr(self.as_ptr(), self.lower().as_ptr()) }
    }

    /// The upper inode for `lower`: from the inode cache, or a new one.
    ///
    /// One lower inode has exactly one upper inode, whatever its number of names is.
    pub(crate) fn iget(sb: &UpperSuperBlock, lower: &Inode) -> Result<ARef<UpperInode>> {
        Self::check_lower(sb, lower)?;
        if let Some(inode) = Self::find(sb, lower) {
            // The VFS checks permissions against the upper inode's attributes.
            inode.copy_attr_if_changed();
            return Ok(inode);
        }
        let private = KBox::pin_init(InodePrivate::new(lower), GFP_KERNEL)?;
        // SAFETY: The box is passed to C, which never moves the content.
        let raw = KBox::into_raw(unsafe { Pin::into_inner_unchecked(private) });
        let key = lower.as_ptr();
        // SAFETY: `raw` has the type that `test` and `set` expect; `set` stores `raw` in the new
        // inode.
        let inode = unsafe {
            c::iget5_locked(
                sb.as_ptr(),
                key as u64,
                Some(test_new),
                Some(set),
                raw.cast(),
            )
        };
        Self::settle(inode, raw)
    }

    /// Refuses an inode that is not on the lower superblock, which `sb` keeps alive.
    #[inline]
    fn check_lower(sb: &UpperSuperBlock, lower: &Inode) -> Result {
        let below = <Fs as SuperHooks>::lower(sb.mount()).root().superblock();
        if !core::ptr::eq(below, lower.superblock()) {
            return Err(EXDEV);
        }
        Ok(())
    }

    /// Allocates an upper inode before a lower object is created, so that iget cannot fail for lack
    /// of memory after the creation.
    pub(crate) fn prealloc(sb: &UpperSuperBlock) -> Result<PreallocInode> {
        let private = KBox::new_uninit(GFP_KERNEL)?;
        // SAFETY: A live superblock of ours.
        let inode = unsafe { c::new_inode(sb.as_ptr()) };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        Ok(PreallocInode {
            inode: UnboundInode(inode),
            private,
        })
    }

    /// As [`Self::iget`], without allocation.
    pub(crate) fn iget_prealloc(
        prealloc: PreallocInode,
        lower: &Inode,
    ) -> Result<ARef<UpperInode>> {
        // SAFETY: An inode that `prealloc` made, on a superblock of ours.
        let sb = unsafe { UpperSuperBlock::from_raw((*prealloc.inode.0.as_ptr()).i_sb) };
        Self::check_lower(sb, lower)?;
        let private = prealloc.private.write_pin_init(InodePrivate::new(lower))?;
        // SAFETY: The box is passed to C, which never moves the content.
        let raw = KBox::into_raw(unsafe { Pin::into_inner_unchecked(private) });
        let key = lower.as_ptr();
        let new = prealloc.inode.0.as_ptr();
        let (hash, data) = (key as u64, raw.cast());
        // SAFETY: `new` is a new upper inode that is not visible to other tasks; `raw` has the type
        // that both functions expect, and `set` stores `raw` in the new inode.
        let inode = unsafe { c::inode_insert5(new, hash, Some(test_new), Some(set), data) };
        if inode == new {
            // The reference passes to the result.
            core::mem::forget(prealloc.inode);
        }
        Self::settle(inode, raw)
    }

    /// Ends [`UpperInode::iget`]: fills a new inode, or frees the unused private data.
    fn settle(inode: *mut c::inode, raw: *mut InodePrivate) -> Result<ARef<UpperInode>> {
        // SAFETY: `inode`, when not null, is live and ours.
        if inode.is_null() || unsafe { (*inode).i_private } != raw.cast() {
            // SAFETY: `raw` came from a box, and no inode has taken it over.
            drop(unsafe { KBox::from_raw(raw) });
        }
        let own = NonNull::new(inode.cast::<UpperInode>()).ok_or(ENOMEM)?;
        // SAFETY: iget5_locked() has returned a reference to a live inode whose `i_private` is set.
        let own = unsafe { ARef::from_raw(own) };
        // SAFETY: A live inode.
        if unsafe { c::lfs_inode_is_new(inode) } {
            own.fill();
            // SAFETY: The inode is new and locked by us; all is set.
            unsafe { c::unlock_new_inode(inode) };
        }
        Ok(own)
    }

    /// Permission by mode and ACL only, without S_IMMUTABLE and security modules.
    fn may_by_mode(&self, wanted: u32) -> Result {
        let idmap = &raw mut c::nop_mnt_idmap;
        // CAST: Small flags.
        let wanted = wanted as c_int;
        // SAFETY: A live inode; mounts of ours are not id-mapped.
        kernel::error::to_result(unsafe { c::generic_permission(idmap, self.as_ptr(), wanted) })
    }

    /// As [`Self::may_change_names`], when chattr -i or -a follows.
    pub(crate) fn may_change_names_unprotected(&self) -> Result {
        self.may_by_mode(c::MAY_WRITE | c::MAY_EXEC)
    }

    /// As [`Self::may_write`], when chattr -i or -a follows.
    pub(crate) fn may_write_unprotected(&self) -> Result {
        self.may_by_mode(c::MAY_WRITE)
    }

    /// inode_permission() with this mask.
    fn permission(&self, wanted: u32) -> Result {
        let idmap = &raw mut c::nop_mnt_idmap;
        // CAST: Small flags.
        let wanted = wanted as c_int;
        // SAFETY: A live inode. A mount's id map affects that mount only and is ignored here.
        kernel::error::to_result(unsafe { c::inode_permission(idmap, self.as_ptr(), wanted) })
    }

    /// Whether the caller may read the content.
    pub(crate) fn may_read(&self) -> Result {
        self.permission(c::MAY_READ)
    }

    /// Whether the caller may write the content.
    pub(crate) fn may_write(&self) -> Result {
        self.permission(c::MAY_WRITE)
    }

    /// Whether the caller may look up names.
    pub(crate) fn may_search(&self) -> Result {
        self.permission(c::MAY_EXEC)
    }

    /// Whether the inode cache has an upper inode for `lower` that was bound to a name.
    pub(crate) fn was_shown(sb: &UpperSuperBlock, lower: &Inode) -> bool {
        Self::find(sb, lower).is_some_and(|inode| inode.private().shown.load(Relaxed))
    }

    fn find(sb: &UpperSuperBlock, lower: &Inode) -> Option<ARef<UpperInode>> {
        let key = lower.as_ptr();
        // SAFETY: `test` takes a lower inode; all inodes of `sb` are ours.
        let inode = unsafe { c::ilookup5(sb.as_ptr(), key as u64, Some(test), key.cast()) };
        let own = NonNull::new(inode.cast::<UpperInode>())?;
        // SAFETY: ilookup5() gave us a reference; by the type invariant the inode is ours.
        Some(unsafe { ARef::from_raw(own) })
    }

    /// Sets the operation tables and attributes of a new inode.
    fn fill(&self) {
        let ptr = self.as_ptr();
        let lower = self.lower();
        // SAFETY: The inode is new and not visible to other tasks.
        unsafe { (*ptr).i_ino = lower.number() };
        // SAFETY: Both are live inodes.
        unsafe { (*ptr).i_generation = (*lower.as_ptr()).i_generation };
        // SAFETY: As above.
        unsafe { (*ptr).i_blkbits = (*lower.as_ptr()).i_blkbits };
        self.copy_attr();
        // SAFETY: A live new inode.
        unsafe { c::lfs_allow_all_caching(ptr) };
        // SAFETY: A live new inode whose mode is set.
        unsafe { c::lfs_annotate_locks(ptr) };
        // SAFETY: A new inode.
        unsafe { table::set_tables(self) };
    }
}

/// See [`UpperInode::prealloc`].
pub(crate) struct PreallocInode {
    inode: UnboundInode,
    private: KBox<core::mem::MaybeUninit<InodePrivate>>,
}

/// A referenced inode without private data.
struct UnboundInode(NonNull<c::inode>);

impl Drop for UnboundInode {
    fn drop(&mut self) {
        // SAFETY: The reference is owned. Without private data ->evict_inode ignores the inode.
        unsafe { c::iput(self.0.as_ptr()) };
    }
}

/// Inode cache callback: whether an upper inode represents the lower inode `data`.
///
/// # Safety
///
/// Called by the inode cache with a hashed upper inode, under the hash lock; `data` is only
/// compared.
unsafe extern "C" fn test(inode: *mut c::inode, data: *mut c_void) -> c_int {
    // SAFETY: All hashed inodes of our superblocks have their private data.
    let own = unsafe { UpperInode::from_raw(inode) };
    c_int::from(own.lower().as_ptr() == data.cast())
}

/// As [`test`]; `data` is the private data prepared for a new inode.
///
/// # Safety
///
/// As for [`test`]; and `data` is a live [`InodePrivate`].
unsafe extern "C" fn test_new(inode: *mut c::inode, data: *mut c_void) -> c_int {
    // SAFETY: `iget` passes a live `InodePrivate`.
    let lower = unsafe { &(*data.cast::<InodePrivate>()).lower };
    // SAFETY: As the caller of this function: a hashed inode of ours.
    unsafe { test(inode, lower.as_ptr().cast()) }
}

/// Inode cache callback: sets a new inode's private data. Called under the hash lock, so it must
/// not sleep.
///
/// # Safety
///
/// Called by iget5_locked() with a new inode that is not visible to other tasks; `data` is a boxed
/// [`InodePrivate`], whose ownership passes to the inode.
unsafe extern "C" fn set(inode: *mut c::inode, data: *mut c_void) -> c_int {
    // SAFETY: The inode is new and not yet visible.
    unsafe { (*inode).i_private = data };
    0
}

/// Super operation `free_inode`: frees the memory, one grace period after the last use.
///
/// # Safety
///
/// Called by the VFS with an inode that is not reachable any more.
pub(crate) unsafe extern "C" fn free(inode: *mut c::inode) {
    // SAFETY: The inode's memory is still there.
    let private = unsafe { (*inode).i_private };
    if !private.is_null() {
        // SAFETY: By the type invariant a boxed `InodePrivate`, freed here only. `destroy` has
        // dropped the lower inode.
        drop(unsafe { KBox::from_raw(private.cast::<core::mem::ManuallyDrop<InodePrivate>>()) });
    }
    // SAFETY: The inode came from the VFS's default allocator.
    unsafe { c::free_inode_nonrcu(inode) };
}

/// Super operation `destroy_inode`: drops the lower inode and the object's state, which may sleep.
/// RCU walk may still read the memory, which `free` frees.
///
/// # Safety
///
/// Called by the VFS once, when the last reference is gone.
pub(crate) unsafe extern "C" fn destroy(inode: *mut c::inode) {
    // SAFETY: The inode is still there.
    let private = unsafe { (*inode).i_private };
    if !private.is_null() {
        // SAFETY: A boxed `InodePrivate`; `free` frees only its memory after this.
        unsafe { core::ptr::drop_in_place(private.cast::<InodePrivate>()) };
    }
}
