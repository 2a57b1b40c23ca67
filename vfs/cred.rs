// SPDX-License-Identifier: GPL-2.0

//! The credentials of lower calls: the mounter's.
//!
//! The VFS and the upper hooks check the caller's permissions on upper inodes. Lower calls do not
//! run with the caller's credentials for two reasons: the lower mount is private
//! (clone_private_mount()), so security modules that check paths refuse confined callers; and some
//! calls convert their argument for the caller's user namespace a second time. So lower reads run
//! as the mounter ([`Credentials::as_mounter`]), and lower changes run with a copy of the mounter's
//! credentials ([`Credentials::as_mounter_for_caller`]): label and capabilities are the mounter's;
//! fsuid, fsgid, groups and CAP_SYS_RESOURCE are the caller's.
//!
//! The guards are taken in this layer, next to the lower call: [`super::mount::LowerMount`] creates
//! them, and [`super::mount::LowerMount::want_write`] includes one.
//!
//! C header: [`include/linux/cred.h`](srctree/include/linux/cred.h)

use super::{c, dentry::Dentry, file::File};
use core::{
    marker::PhantomData,
    mem,
    ptr::NonNull, //
};
use kernel::{
    error::from_err_ptr,
    new_spinlock,
    prelude::*,
    sync::SpinLock, //
};

/// Credentials, counted.
struct Cred(NonNull<c::cred>);

// SAFETY: Credentials may be used and released on any thread.
unsafe impl Send for Cred {}
// SAFETY: They do not change once they are in use.
unsafe impl Sync for Cred {}

impl Cred {
    /// # Safety
    ///
    /// `ptr` is null (`ENOMEM`), an ERR_PTR, or credentials with a reference that is ours.
    unsafe fn from_c(ptr: *const c::cred) -> Result<Self> {
        let ptr = from_err_ptr(ptr.cast_mut())?;
        NonNull::new(ptr).map(Self).ok_or(ENOMEM)
    }

    fn as_ptr(&self) -> *const c::cred {
        self.0.as_ptr()
    }
}

impl Clone for Cred {
    fn clone(&self) -> Self {
        // SAFETY: Live credentials.
        unsafe { c::get_cred(self.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for Cred {
    fn drop(&mut self) {
        // SAFETY: The reference is ours.
        unsafe { c::put_cred(self.as_ptr()) };
    }
}

/// override_creds() as a guard.
///
/// Not Send: Drop restores the credentials of the creating thread. Guards must be dropped in
/// reverse order, or the thread keeps credentials of one of them.
pub(crate) struct OverriddenCreds<'a> {
    before: *const c::cred,
    /// Dropped after the thread's credentials are restored.
    own: Option<Cred>,
    _of: PhantomData<&'a Cred>,
}

impl<'a> OverriddenCreds<'a> {
    /// # Safety
    ///
    /// `cred` are live credentials for `'a`.
    unsafe fn with(cred: *const c::cred) -> Self {
        Self {
            // SAFETY: The caller guarantees that they live as long as the guard.
            before: unsafe { c::lfs_override_creds(cred) },
            own: None,
            _of: PhantomData,
        }
    }

    fn with_own(cred: Cred) -> Self {
        Self {
            // SAFETY: The guard keeps the reference.
            before: unsafe { c::lfs_override_creds(cred.as_ptr()) },
            own: Some(cred),
            _of: PhantomData,
        }
    }

    /// With the credentials of the file's opener: the mounter's for a lower file.
    pub(super) fn as_opener(file: &'a File) -> Self {
        // SAFETY: A live file; the field never changes.
        let cred = unsafe { (*file.as_ptr()).f_cred };
        // SAFETY: A file holds its credentials.
        unsafe { Self::with(cred) }
    }
}

impl Drop for OverriddenCreds<'_> {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            // SAFETY: Takes nothing.
            if unsafe { c::lfs_current_cred() } != own.as_ptr() {
                // Dropped before a guard that was made later, which will restore these credentials:
                // they are never freed.
                mem::forget(own.clone());
            }
        }
        // SAFETY: `before` comes from lfs_override_creds() on this thread, which still owns the
        // reference: the type is neither Send nor Sync.
        unsafe { c::lfs_revert_creds(self.before) };
    }
}

/// Number of cached copies.
const READY: usize = 4;

/// A cached copy of the mounter's credentials for one caller.
struct CallerCreds {
    /// The caller's credentials. They are immutable once in use by a task, so the derived copy
    /// stays valid. The reference prevents reuse of the address.
    caller: Cred,
    copy: Cred,
}

/// The mounter's credentials and the cached copies.
pub(crate) struct Credentials {
    mounter: Cred,
    /// Whether a security module labels new files by the creator's credentials.
    labels: bool,
    ready: Pin<KBox<SpinLock<CredsCache>>>,
}

/// The cached copies, and the next one to replace.
struct CredsCache {
    copies: [Option<CallerCreds>; READY],
    next: usize,
}

impl Credentials {
    /// A copy of the current credentials, at mount time.
    pub(crate) fn of_mounter() -> Result<Self> {
        // SAFETY: Takes nothing; a copy of the thread's own, with a reference.
        let mounter = unsafe { Cred::from_c(c::prepare_creds()) }?;
        // SAFETY: Live credentials.
        let labels = unsafe { c::lfs_cred_labels(mounter.as_ptr()) };
        let ready = CredsCache {
            copies: [None, None, None, None],
            next: 0,
        };
        Ok(Self {
            mounter,
            labels,
            ready: KBox::pin_init(new_spinlock!(ready, "Credentials::ready"), GFP_KERNEL)?,
        })
    }

    /// The raw pointer, valid as long as `self`.
    pub(super) fn as_ptr(&self) -> *const c::cred {
        self.mounter.as_ptr()
    }

    /// For lower reads. Never nested around [`Self::as_mounter_for_caller`], which derives its copy
    /// from the current credentials.
    pub(super) fn as_mounter(&self) -> OverriddenCreds<'_> {
        // SAFETY: They live as long as `self`.
        unsafe { OverriddenCreds::with(self.mounter.as_ptr()) }
    }

    /// For lower changes. Changes by the kernel keep the kernel's credentials.
    pub(super) fn as_mounter_for_caller(&self) -> Result<OverriddenCreds<'_>> {
        // SAFETY: Takes nothing.
        let caller = unsafe { c::lfs_current_cred() };
        // SAFETY: As above.
        if caller == unsafe { c::lfs_kernel_cred() } {
            // SAFETY: The kernel's credentials live for ever.
            return Ok(unsafe { OverriddenCreds::with(caller) });
        }
        Ok(OverriddenCreds::with_own(self.for_caller(caller)?))
    }

    /// A copy of the mounter's credentials for the caller with the credentials `caller`.
    fn for_caller(&self, caller: *const c::cred) -> Result<Cred> {
        let is_ready = |ready: &&CallerCreds| core::ptr::eq(ready.caller.as_ptr(), caller);
        if let Some(ready) = self.ready.lock().copies.iter().flatten().find(is_ready) {
            return Ok(ready.copy.clone());
        }
        self.prepare(caller)
    }

    #[cold]
    fn prepare(&self, caller: *const c::cred) -> Result<Cred> {
        // SAFETY: Reads the current task only.
        let may_exceed = unsafe { c::lfs_may_exceed() };
        // SAFETY: Live credentials; the answer is a reference or null.
        let copy = unsafe { Cred::from_c(c::lfs_cred_for(self.mounter.as_ptr(), may_exceed)) }?;
        // SAFETY: The running task has them.
        let held = unsafe { c::get_cred(caller) };
        let new = CallerCreds {
            // SAFETY: The reference was taken just now.
            caller: unsafe { Cred::from_c(held) }?,
            copy: copy.clone(),
        };
        let replaced = {
            let mut ready = self.ready.lock();
            let at = ready.next % READY;
            ready.next = (at + 1) % READY;
            (ready.copies.get_mut(at)).and_then(|slot| mem::replace(slot, Some(new)))
        };
        // Dropped outside of the lock.
        drop(replaced);
        Ok(copy)
    }

    /// Credentials for the creation of `dentry`'s object (security_dentry_create_files_as()): the
    /// new object gets the label that the caller would give. `None` without labels.
    pub(super) fn labelling(
        &self,
        dentry: &Dentry,
        mode: u16,
    ) -> Result<Option<OverriddenCreds<'_>>> {
        if !self.labels {
            return Ok(None);
        }
        // SAFETY: A live dentry; the answer is a reference or an error.
        let cred = unsafe { Cred::from_c(c::lfs_cred_labelled(dentry.as_ptr(), mode)) }?;
        Ok(Some(OverriddenCreds::with_own(cred)))
    }
}
