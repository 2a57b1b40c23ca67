// SPDX-License-Identifier: GPL-2.0

//! Inodes: anybody's ([`Inode`]) and our own ([`OwnInode`]).
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    c,
    dentry::Dentry,
    superblock::SuperBlock,
    table::superblock::SuperHooks,
    FileSystem,
    Fs, //
};
use crate::history::line::ObjectId;
use core::{ops::Deref, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{ordering::Relaxed, Atomic},
        SetOnce, //
    },
    types::Opaque, //
};

/// An inode of any filesystem.
#[repr(transparent)]
pub(crate) struct Inode(Opaque<c::inode>);

// SAFETY: An inode may be used and released on any thread.
unsafe impl Send for Inode {}
// SAFETY: All methods take the locks that they need, or read fields that the kernel reads racily.
unsafe impl Sync for Inode {}

// SAFETY: The count is the inode's `i_count`; it lives while that is not zero.
unsafe impl AlwaysRefCounted for Inode {
    fn inc_ref(&self) {
        // SAFETY: `self` is a live inode with a reference.
        unsafe { c::ihold(self.as_ptr()) }
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference that it owns.
        unsafe { c::iput(obj.as_ptr().cast()) }
    }
}

impl Inode {
    /// # Safety
    ///
    /// `ptr` is a live inode and stays so for `'a`.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut c::inode) -> &'a Self {
        // SAFETY: `Inode` is a transparent wrapper; the caller vouches for the rest.
        unsafe { &*ptr.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut c::inode {
        self.0.get()
    }

    /// A counted reference.
    pub(crate) fn get(&self) -> ARef<Self> {
        ARef::from(self)
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: `self` is a live inode.
        let size = unsafe { c::lfs_i_size_read(self.as_ptr()) };
        u64::try_from(size).unwrap_or(0)
    }

    /// Number and generation: what a line calls `obj=`.
    pub(crate) fn id(&self) -> ObjectId {
        let ptr = self.as_ptr();
        // SAFETY: `ptr` is a live inode; the number never changes.
        let inode = unsafe { (*ptr).i_ino };
        // SAFETY: As above.
        let generation = unsafe { (*ptr).i_generation };
        ObjectId {
            volume: 0,
            inode,
            generation,
        }
    }

    /// The inode's number.
    pub(crate) fn number(&self) -> u64 {
        // SAFETY: `self` is a live inode; the number never changes.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// Type and permission bits.
    pub(crate) fn mode(&self) -> u32 {
        // SAFETY: `self` is a live inode; a racy read is what the VFS does too.
        u32::from(unsafe { (*self.as_ptr()).i_mode })
    }

    fn is(&self, kind: u32) -> bool {
        self.mode() & c::S_IFMT == kind
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.is(c::S_IFREG)
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.is(c::S_IFLNK)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.is(c::S_IFDIR)
    }

    /// Whether it is what a rename with RENAME_WHITEOUT leaves: a character device with the number 0.
    pub(crate) fn is_whiteout(&self) -> bool {
        // SAFETY: `self` is a live inode; a device's number never changes.
        self.is(c::S_IFCHR) && unsafe { (*self.as_ptr()).i_rdev } == 0
    }

    /// Number of names.
    pub(crate) fn links(&self) -> u32 {
        // SAFETY: `self` is a live inode; a racy read is what the VFS does too.
        unsafe { (*self.as_ptr()).__bindgen_anon_1.i_nlink }
    }

    /// Whether the file may have holes: fewer blocks than bytes.
    ///
    /// Delayed allocation looks sparse too; the answer only chooses between two right ways.
    pub(crate) fn may_be_sparse(&self) -> bool {
        // SAFETY: `self` is a live inode; a racy read only affects speed.
        let blocks = unsafe { (*self.as_ptr()).i_blocks };
        blocks.saturating_mul(512) < self.size()
    }

    /// Whether its filesystem tells where a file's blocks are on the device (FIBMAP).
    pub(crate) fn tells_blocks(&self) -> bool {
        // SAFETY: `self` is a live inode, so its mapping is there.
        unsafe { c::lfs_has_bmap(self.as_ptr()) }
    }

    /// Whether its filesystem has `->remap_file_range` (FICLONE, FIDEDUPERANGE).
    pub(crate) fn shares_ranges(&self) -> bool {
        // SAFETY: `self` is a live inode.
        let operations = unsafe { (*self.as_ptr()).__bindgen_anon_3.i_fop };
        // SAFETY: A live inode has a table of file operations.
        unsafe { (*operations).remap_file_range }.is_some()
    }

    /// How many bytes its filesystem allocates together: a power of two.
    pub(crate) fn block(&self) -> u64 {
        // SAFETY: `self` is a live inode.
        let bits = unsafe { (*self.as_ptr()).i_blkbits };
        1u64.checked_shl(bits.into()).unwrap_or(1)
    }

    /// Whether it has neither bytes nor blocks; where blocks come late, it has the bytes before.
    pub(crate) fn is_bare(&self) -> bool {
        // SAFETY: `self` is a live inode; a racy read is what the VFS does too.
        let blocks = unsafe { (*self.as_ptr()).i_blocks };
        blocks == 0 && self.size() == 0
    }

    /// Change time and size as they stand in memory: cheap, for use after each operation of ours.
    pub(crate) fn quick_cookie(&self) -> QuickCookie {
        let ptr = self.as_ptr();
        QuickCookie {
            // SAFETY: `ptr` is a live inode.
            seconds: unsafe { (*ptr).i_ctime_sec },
            // SAFETY: As above. The queried bit of multigrain times is masked off.
            nanoseconds: unsafe { (*ptr).i_ctime_nsec } & 0x3fff_ffff,
            size: self.size(),
        }
    }

    /// Whether it has the content that it had when it looked like `then`, whatever moved its change time
    /// since: who writes moves the time of modification, too.
    pub(crate) fn has_content_of(&self, then: &QuickCookie) -> bool {
        let ptr = self.as_ptr();
        // SAFETY: `ptr` is a live inode; a racy read is what the VFS does too.
        let seconds = unsafe { (*ptr).i_mtime_sec };
        // SAFETY: As above.
        let nanoseconds = unsafe { (*ptr).i_mtime_nsec };
        self.size() == then.size && (seconds, nanoseconds) <= (then.seconds, then.nanoseconds)
    }

    /// Whether somebody maps the file shared and writable.
    pub(crate) fn is_writably_mapped(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_writably_mapped(self.as_ptr()) }
    }

    /// Whether the caller owns the inode or has CAP_FOWNER.
    pub(crate) fn owner_or_capable(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_owner_or_capable(self.as_ptr()) }
    }

    /// Whether the caller may give it one more name.
    pub(crate) fn may_be_linked(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_may_be_linked(self.as_ptr()) }
    }

    /// Whether the caller may give it the set-id bits that it has.
    pub(crate) fn may_have_set_ids(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_may_have_set_ids(self.as_ptr()) }
    }

    /// Whether the caller may make an object of its kind.
    pub(crate) fn may_be_made(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_may_be_made(self.as_ptr()) }
    }

    /// Whether an ACL that the caller sets takes the setgid bit away.
    pub(crate) fn loses_set_group(&self) -> bool {
        // SAFETY: `self` is a live inode.
        unsafe { c::lfs_loses_set_group(self.as_ptr()) }
    }

    /// The owner.
    pub(crate) fn uid(&self) -> u32 {
        // SAFETY: `self` is a live inode; a racy read is what the VFS does too.
        unsafe { (*self.as_ptr()).i_uid.val }
    }

    /// The group.
    pub(crate) fn gid(&self) -> u32 {
        // SAFETY: As above.
        unsafe { (*self.as_ptr()).i_gid.val }
    }

    /// Whether the inode is append-only or immutable.
    pub(crate) fn is_protected(&self) -> bool {
        // SAFETY: `self` is a live inode; a racy read is what the VFS does too.
        let flags = unsafe { (*self.as_ptr()).i_flags };
        flags & (c::S_APPEND | c::S_IMMUTABLE) != 0
    }

    /// Whether neither content nor attributes may be changed.
    pub(crate) fn is_immutable(&self) -> bool {
        // SAFETY: `self` is a live inode; a racy read is what the VFS does too.
        unsafe { (*self.as_ptr()).i_flags & c::S_IMMUTABLE != 0 }
    }

    /// Refuses a change of the content through a file that was open before it was protected. The VFS
    /// asks at open only; of the lower filesystems, ext4 asks at each change (`ext4_setattr()`,
    /// `ext4_write_checks()`, `ext4_page_mkwrite()`), and xfs, btrfs and tmpfs never.
    #[inline]
    pub(crate) fn refuse_immutable(&self) -> Result {
        if self.is_immutable() {
            return Err(EPERM);
        }
        Ok(())
    }

    /// Whether names in this directory are taken away only by owners of the directory or of the object.
    pub(crate) fn is_sticky(&self) -> bool {
        self.mode() & c::S_ISVTX != 0
    }

    /// Whether the caller may change names in this directory.
    pub(crate) fn may_change_names(&self) -> Result {
        // SAFETY: A live inode.
        kernel::error::to_result(unsafe { c::lfs_may_change_names(self.as_ptr()) })
    }

    /// Whether every write is to be durable (chattr +S, or a mount with `sync`).
    pub(crate) fn is_sync(&self) -> bool {
        // SAFETY: `self` is a live inode; a racy read is what the VFS does too.
        let flags = unsafe { (*self.as_ptr()).i_flags };
        flags & c::S_SYNC != 0 || self.superblock().flags() & c::SB_SYNCHRONOUS != 0
    }

    /// Copies `[at, at + buf.len())` out of the page cache, as far as pages are there without a
    /// gap; returns how many bytes were copied.
    pub(crate) fn copy_cached(&self, at: u64, buf: &mut [u8]) -> usize {
        let Ok(at) = i64::try_from(at) else {
            return 0;
        };
        // SAFETY: `self` is a live inode, so its mapping is there.
        let mapping = unsafe { (*self.as_ptr()).i_mapping };
        // SAFETY: `mapping` is the inode's; `buf` is writable for its length.
        unsafe { c::lfs_copy_cached(mapping, at, buf.as_mut_ptr().cast(), buf.len()) }
    }

    /// The first clean pages of zeroes of the page cache in `[at, end)`, and those behind without a gap.
    pub(crate) fn clean_zeroes(&self, at: u64, end: i64) -> Option<(i64, i64)> {
        let at = i64::try_from(at).ok().filter(|&at| at < end)?;
        // SAFETY: `self` is a live inode, so its mapping is there.
        let mapping = unsafe { (*self.as_ptr()).i_mapping };
        let mut to = end;
        // SAFETY: `mapping` is the inode's; `to` is writable.
        let from = unsafe { c::lfs_clean_zeroes(mapping, at, &mut to) };
        (from >= 0).then_some((from, to))
    }

    /// The inode leaves memory with its last user, instead of staying for the next; its names, too.
    pub(crate) fn drop_when_unused(&self) {
        // SAFETY: `self` is a live inode, and no lock of its names is held.
        unsafe { c::d_mark_dontcache(self.as_ptr()) };
    }

    /// One of the names that are in memory, if any.
    pub(crate) fn any_name(&self) -> Option<ARef<Dentry>> {
        // SAFETY: `self` is a live inode.
        let dentry = unsafe { c::d_find_any_alias(self.as_ptr()) };
        let dentry = NonNull::new(dentry.cast::<Dentry>())?;
        // SAFETY: d_find_any_alias() gave us a reference.
        Some(unsafe { ARef::from_raw(dentry) })
    }

    /// The name with this index of those that are in memory and can be looked up.
    pub(crate) fn name_in_memory(&self, index: u32) -> Option<ARef<Dentry>> {
        // SAFETY: `self` is a live inode.
        let dentry = unsafe { c::lfs_alias(self.as_ptr(), index) };
        let dentry = NonNull::new(dentry.cast::<Dentry>())?;
        // SAFETY: lfs_alias() gave us a reference.
        Some(unsafe { ARef::from_raw(dentry) })
    }

    pub(crate) fn superblock(&self) -> &SuperBlock {
        // SAFETY: A live inode has a superblock that outlives it.
        let sb = unsafe { (*self.as_ptr()).i_sb };
        // SAFETY: As above.
        unsafe { SuperBlock::from_raw(sb) }
    }
}

/// What [`Inode::quick_cookie`] sees; two of them are equal when nothing changed in between that
/// the clock could tell.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct QuickCookie {
    seconds: i64,
    nanoseconds: u32,
    size: u64,
}

/// What `i_private` of our inodes points to.
#[pin_data]
struct Private {
    lower: ARef<Inode>,
    /// Whether the mounter has the right to search the lower directory, by its attributes at the last
    /// refresh.
    searched: Atomic<bool>,
    /// The inode that the pages belong to, once the file was mapped, where that is another one.
    pages: SetOnce<ARef<Inode>>,
    #[pin]
    object: <Fs as FileSystem>::Object,
}

/// An inode of ours: it stands for a lower inode and carries the state of the object.
///
/// # Invariants
///
/// `i_private` points to a [`Private`], from before the inode is hashed until it is freed.
#[repr(transparent)]
pub(crate) struct OwnInode(Inode);

// SAFETY: As for `Inode`.
unsafe impl AlwaysRefCounted for OwnInode {
    fn inc_ref(&self) {
        self.0.inc_ref();
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: As for `Inode`; the types have one layout.
        unsafe { Inode::dec_ref(obj.cast()) }
    }
}

impl Deref for OwnInode {
    type Target = Inode;

    fn deref(&self) -> &Inode {
        &self.0
    }
}

impl OwnInode {
    /// # Safety
    ///
    /// As for [`Inode::from_raw`]; and the inode is one that [`OwnInode::obtain`] made.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut c::inode) -> &'a Self {
        // SAFETY: The caller vouches for it; the types have one layout.
        unsafe { &*ptr.cast() }
    }

    fn private(&self) -> &Private {
        // SAFETY: `self` is a live inode.
        let private = unsafe { (*self.as_ptr()).i_private };
        // SAFETY: By the type invariant; it lives as long as the inode.
        unsafe { &*private.cast::<Private>() }
    }

    /// The lower inode.
    pub(crate) fn lower(&self) -> &Inode {
        &self.private().lower
    }

    /// The inode in whose mapping the pages of shared mappings are: the lower one, but where that
    /// filesystem is stacked itself.
    pub(crate) fn pages(&self) -> &Inode {
        match self.private().pages.as_ref() {
            Some(pages) => pages,
            None => self.lower(),
        }
    }

    /// Notes which inode that is, before the file is mapped. `ENODEV`: it was another one before.
    pub(crate) fn note_pages(&self, pages: &Inode) -> Result {
        if core::ptr::eq(pages, self.lower()) {
            return Ok(());
        }
        let place = &self.private().pages;
        // Of two at the same time one is dropped, perhaps a moment before the other is there.
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

    /// The mount's state.
    pub(crate) fn mount(&self) -> &<Fs as FileSystem>::Mount {
        self.superblock().mount()
    }

    /// A counted reference.
    pub(crate) fn hold(&self) -> ARef<Self> {
        ARef::from(self)
    }

    /// The mode's bits that files of ours do not have, whatever the lower ones have.
    fn hidden_bits(&self) -> u16 {
        <Fs as SuperHooks>::lower(self.mount()).hidden_bits()
    }

    /// Reads mode, owner, times, size and flags off the lower inode.
    pub(crate) fn refresh(&self) {
        let is_kept = self.object().is_kept();
        let hidden = self.hidden_bits();
        self.private().searched.store(false, Relaxed);
        // SAFETY: Both are live inodes.
        unsafe { c::lfs_copy_attributes(self.as_ptr(), self.lower().as_ptr(), is_kept, hidden) }
    }

    /// Whether [`Self::note_search`] was called since the attributes were last refreshed.
    #[inline]
    pub(crate) fn may_be_searched(&self) -> bool {
        self.private().searched.load(Relaxed)
    }

    /// The mounter may search the lower directory. Kept until the lower inode's attributes change, which an
    /// ACL's or a label's change shows as well, by the change time. Not kept where the lower filesystem has
    /// an answer of its own (`->permission`), which may depend on something else.
    pub(crate) fn note_search(&self) {
        let lower = self.lower().as_ptr();
        // SAFETY: A live inode, or in RCU mode its memory is still there.
        let operations = unsafe { (*lower).i_op };
        // SAFETY: An inode's table of operations lives as long as it.
        if unsafe { (*operations).permission }.is_none() {
            self.private().searched.store(true, Relaxed);
        }
    }

    /// Whether the VFS would read something else off this inode than off the lower one. Also in RCU
    /// mode: compares only.
    pub(crate) fn attributes_differ(&self) -> bool {
        let is_kept = self.object().is_kept();
        let hidden = self.hidden_bits();
        // SAFETY: Both are live inodes, or in RCU mode their memory is still there.
        unsafe { c::lfs_attributes_differ(self.as_ptr(), self.lower().as_ptr(), is_kept, hidden) }
    }

    /// As [`Self::refresh`], where a change behind us is all that may have happened. Not in RCU mode:
    /// the inode may be on its way out, and its count of names is an account of the superblock.
    #[inline]
    pub(crate) fn refresh_if_changed(&self) {
        if self.attributes_differ() {
            self.refresh();
        }
    }

    /// Takes over the lower size alone. The VFS reads ours before some hooks are called
    /// (copy_file_range(2), FIONREAD, a lock from the file's end on), so hooks that only read take it
    /// over for those that follow.
    #[inline]
    pub(crate) fn refresh_size(&self) {
        let size = self.lower().size();
        if size != self.size() {
            // SAFETY: A live inode.
            unsafe { c::lfs_i_size_write(self.as_ptr(), i64::try_from(size).unwrap_or(i64::MAX)) }
        }
    }

    /// As [`Self::refresh`], when nothing but the content was changed.
    pub(crate) fn refresh_after_write(&self) {
        // SAFETY: Both are live inodes.
        unsafe { c::lfs_copy_content_attributes(self.as_ptr(), self.lower().as_ptr()) }
    }

    /// Our inode for `lower`: the one that is in memory, or a new one.
    ///
    /// One lower inode has one inode of ours, however many names it has.
    pub(crate) fn obtain(sb: &SuperBlock, lower: &Inode) -> Result<ARef<OwnInode>> {
        if let Some(inode) = Self::find(sb, lower) {
            // Rights are decided by what it says.
            inode.refresh_if_changed();
            return Ok(inode);
        }
        let private = KBox::pin_init(
            try_pin_init!(Private {
                lower: lower.get(),
                searched: Atomic::new(false),
                pages: SetOnce::new(),
                object <- crate::stack::new_object(),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: The box is handed to C, which never moves it.
        let raw = KBox::into_raw(unsafe { Pin::into_inner_unchecked(private) });
        let key = lower.as_ptr();
        // SAFETY: `test` and `set` take what `raw` is; `set` stores it in the new inode.
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

    /// Memory for an inode of ours, so that a lower object that is about to be created gets one
    /// whatever happens.
    pub(crate) fn spare(sb: &SuperBlock) -> Result<Spare> {
        let private = KBox::new_uninit(GFP_KERNEL)?;
        // SAFETY: A live superblock of ours.
        let inode = unsafe { c::new_inode(sb.as_ptr()) };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        Ok(Spare {
            inode: SpareInode(inode),
            private,
        })
    }

    /// As [`Self::obtain`], without any need of memory.
    pub(crate) fn obtain_with(spare: Spare, lower: &Inode) -> Result<ARef<OwnInode>> {
        let private = spare.private.write_pin_init(try_pin_init!(Private {
            lower: lower.get(),
            searched: Atomic::new(false),
            pages: SetOnce::new(),
            object <- crate::stack::new_object(),
        }))?;
        // SAFETY: The box is handed to C, which never moves it.
        let raw = KBox::into_raw(unsafe { Pin::into_inner_unchecked(private) });
        let key = lower.as_ptr();
        let new = spare.inode.0.as_ptr();
        let (hash, data) = (key as u64, raw.cast());
        // SAFETY: `new` is a new inode of ours that nobody sees; both functions take what `raw` is,
        // `set` stores it in the new inode.
        let inode = unsafe { c::inode_insert5(new, hash, Some(test_new), Some(set), data) };
        if inode == new {
            // The reference is the one that is answered.
            core::mem::forget(spare.inode);
        }
        Self::settle(inode, raw)
    }

    /// Ends [`OwnInode::obtain`]: fills a new inode, or frees what was prepared in vain.
    fn settle(inode: *mut c::inode, raw: *mut Private) -> Result<ARef<OwnInode>> {
        // SAFETY: `inode`, when not null, is live and ours.
        if inode.is_null() || unsafe { (*inode).i_private } != raw.cast() {
            // SAFETY: `raw` came out of a box and nobody took it over.
            drop(unsafe { KBox::from_raw(raw) });
        }
        let own = NonNull::new(inode.cast::<OwnInode>()).ok_or(ENOMEM)?;
        // SAFETY: iget5_locked() gave us a reference to a live inode whose private is set.
        let own = unsafe { ARef::from_raw(own) };
        // SAFETY: A live inode.
        if unsafe { c::lfs_inode_is_new(inode) } {
            own.fill();
            // SAFETY: The inode is new and locked by us; all is set.
            unsafe { c::unlock_new_inode(inode) };
        }
        Ok(own)
    }

    /// Says that a directory which was removed is there again.
    pub(crate) fn is_back(&self) {
        // SAFETY: A live inode, whose rwsem the caller holds for writing.
        unsafe { c::lfs_not_dead(self.as_ptr()) };
    }

    /// Whether the caller might do this by mode and ACL, if nothing protected the object.
    fn may_by_mode(&self, wanted: u32) -> Result {
        let idmap = &raw mut c::nop_mnt_idmap;
        // CAST: Small flags.
        let wanted = wanted as c_int;
        // SAFETY: A live inode; mounts of ours are not id-mapped.
        kernel::error::to_result(unsafe { c::generic_permission(idmap, self.as_ptr(), wanted) })
    }

    /// As [`Self::may_change_names`], when its protection is about to be lifted.
    pub(crate) fn may_change_names_unprotected(&self) -> Result {
        self.may_by_mode(c::MAY_WRITE | c::MAY_EXEC)
    }

    /// As [`Self::may_write`], when its protection is about to be lifted.
    pub(crate) fn may_write_unprotected(&self) -> Result {
        self.may_by_mode(c::MAY_WRITE)
    }

    /// Whether the caller may change its content, by its mode and ACL.
    pub(crate) fn may_write(&self) -> Result {
        let idmap = &raw mut c::nop_mnt_idmap;
        // CAST: A small flag.
        let wanted = c::MAY_WRITE as c_int;
        // SAFETY: A live inode; mounts of ours are not id-mapped.
        kernel::error::to_result(unsafe { c::inode_permission(idmap, self.as_ptr(), wanted) })
    }

    /// Whether the caller may look names up in this directory.
    pub(crate) fn may_search(&self) -> Result {
        let idmap = &raw mut c::nop_mnt_idmap;
        // CAST: A small flag.
        let wanted = c::MAY_EXEC as c_int;
        // SAFETY: A live inode; what a mount's id map changes is that mount's alone, and is not asked for here.
        kernel::error::to_result(unsafe { c::inode_permission(idmap, self.as_ptr(), wanted) })
    }

    /// Whether the lower inode has one of ours in memory that had a name of ours.
    pub(crate) fn was_shown(sb: &SuperBlock, lower: &Inode) -> bool {
        Self::find(sb, lower).is_some_and(|inode| inode.object().was_shown())
    }

    fn find(sb: &SuperBlock, lower: &Inode) -> Option<ARef<OwnInode>> {
        let key = lower.as_ptr();
        // SAFETY: `test` takes a lower inode; all inodes of `sb` are ours.
        let inode = unsafe { c::ilookup5(sb.as_ptr(), key as u64, Some(test), key.cast()) };
        let own = NonNull::new(inode.cast::<OwnInode>())?;
        // SAFETY: ilookup5() gave us a reference; by the type invariant the inode is ours.
        Some(unsafe { ARef::from_raw(own) })
    }

    /// Sets the tables and attributes of a new inode.
    fn fill(&self) {
        let ptr = self.as_ptr();
        let lower = self.lower();
        // SAFETY: The inode is new, nobody else sees it yet.
        unsafe { (*ptr).i_ino = lower.number() };
        // SAFETY: Both are live inodes.
        unsafe { (*ptr).i_generation = (*lower.as_ptr()).i_generation };
        // SAFETY: As above.
        unsafe { (*ptr).i_blkbits = (*lower.as_ptr()).i_blkbits };
        self.refresh();
        // SAFETY: A live new inode.
        unsafe { c::lfs_allow_all_caching(ptr) };
        // SAFETY: A live new inode whose mode is set.
        unsafe { c::lfs_annotate_locks(ptr) };
        super::table::set_tables(self);
    }
}

/// See [`OwnInode::spare`].
pub(crate) struct Spare {
    inode: SpareInode,
    private: KBox<core::mem::MaybeUninit<Private>>,
}

/// An inode that stands for nothing, with its reference.
struct SpareInode(NonNull<c::inode>);

impl Drop for SpareInode {
    fn drop(&mut self) {
        // SAFETY: The reference is ours; without private data it is not taken for a whole inode.
        unsafe { c::iput(self.0.as_ptr()) };
    }
}

/// Whether an inode of ours stands for the lower inode `data`.
///
/// # Safety
///
/// Called by the inode cache with an inode of ours, hashed, under the lock of the hash; `data` is
/// only compared.
unsafe extern "C" fn test(inode: *mut c::inode, data: *mut c_void) -> c_int {
    // SAFETY: All hashed inodes of our superblocks have their private data.
    let own = unsafe { OwnInode::from_raw(inode) };
    c_int::from(own.lower().as_ptr() == data.cast())
}

/// As [`test`]; `data` is the private data prepared for a new inode.
///
/// # Safety
///
/// As for [`test`]; and `data` is a live [`Private`].
unsafe extern "C" fn test_new(inode: *mut c::inode, data: *mut c_void) -> c_int {
    // SAFETY: `obtain` passes a live `Private`.
    let lower = unsafe { &(*data.cast::<Private>()).lower };
    // SAFETY: As the caller of this function: a hashed inode of ours.
    unsafe { test(inode, lower.as_ptr().cast()) }
}

/// Gives a new inode its private data; called under the hash lock, so it only stores.
///
/// # Safety
///
/// Called by iget5_locked() with a new inode that nobody sees yet; `data` is a boxed [`Private`],
/// which the inode takes over.
unsafe extern "C" fn set(inode: *mut c::inode, data: *mut c_void) -> c_int {
    // SAFETY: The inode is new and not yet visible.
    unsafe { (*inode).i_private = data };
    0
}

/// Super operation `free_inode`: frees the memory, a grace period after the last use.
///
/// # Safety
///
/// Called by the VFS with an inode that nobody can reach any more.
pub(crate) unsafe extern "C" fn free(inode: *mut c::inode) {
    // SAFETY: The inode's memory is still there.
    let private = unsafe { (*inode).i_private };
    if !private.is_null() {
        // SAFETY: By the type invariant it is a boxed `Private`, freed here only. The lower inode
        // was let go in `destroy`.
        drop(unsafe { KBox::from_raw(private.cast::<core::mem::ManuallyDrop<Private>>()) });
    }
    // SAFETY: The inode came from the VFS's default allocator.
    unsafe { c::free_inode_nonrcu(inode) };
}

/// Super operation `destroy_inode`: lets go of the lower inode and the object's state, which may
/// sleep; the memory stays for readers in RCU mode.
///
/// # Safety
///
/// Called by the VFS once, when the last reference is gone.
pub(crate) unsafe extern "C" fn destroy(inode: *mut c::inode) {
    // SAFETY: The inode is still there.
    let private = unsafe { (*inode).i_private };
    if !private.is_null() {
        // SAFETY: A boxed `Private`; `free` frees only its memory after this.
        unsafe { core::ptr::drop_in_place(private.cast::<Private>()) };
    }
}
