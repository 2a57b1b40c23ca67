// SPDX-License-Identifier: GPL-2.0

//! The credentials that lower calls are made with: the mounter's.
//!
//! The caller's rights are checked on our own inodes, by the VFS and by our hooks. Below, the
//! security modules see a mount that no name leads to, which they refuse to confined callers, and
//! some calls convert what they are given for the caller's user namespace a second time. So
//! whatever is asked below is asked as the mounter ([`Credentials::asking`]), and whatever is
//! changed is changed as the mounter in the caller's place ([`Credentials::changing`]): with the
//! mounter's label and capabilities, the owner, groups and right to reserved space are the caller's.
//!
//! The guards are taken in this layer, next to the lower call: [`super::mount::LowerMount`] hands
//! them out, and [`super::mount::LowerMount::want_write`] comes with one.
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

/// While it lives, the thread has other credentials than before.
///
/// Not to be sent to another thread: it restores what this one had. Guards end in the reverse order
/// of their beginning.
pub(crate) struct Acting<'a> {
    before: *const c::cred,
    /// Let go when the thread does not have them any more.
    _own: Option<Cred>,
    _of: PhantomData<&'a Cred>,
}

impl<'a> Acting<'a> {
    /// # Safety
    ///
    /// `cred` are live credentials for `'a`.
    unsafe fn with(cred: *const c::cred) -> Self {
        Self {
            // SAFETY: The caller guarantees that they live as long as the guard.
            before: unsafe { c::lfs_override_creds(cred) },
            _own: None,
            _of: PhantomData,
        }
    }

    fn with_own(cred: Cred) -> Self {
        Self {
            // SAFETY: The guard keeps the reference.
            before: unsafe { c::lfs_override_creds(cred.as_ptr()) },
            _own: Some(cred),
            _of: PhantomData,
        }
    }

    /// With the credentials that a file was opened with: a lower file's are the mounter's.
    pub(super) fn as_opener(file: &'a File) -> Self {
        // SAFETY: A live file; the field never changes.
        let cred = unsafe { (*file.as_ptr()).f_cred };
        // SAFETY: A file holds its credentials.
        unsafe { Self::with(cred) }
    }
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        // SAFETY: `before` is what lfs_override_creds() took off this very thread, whose reference
        // it still carries: the type is neither Send nor Sync.
        unsafe { c::lfs_revert_creds(self.before) };
    }
}

/// How many callers' credentials are kept ready.
const READY: usize = 4;

/// A copy of the mounter's credentials for a caller.
struct ForCaller {
    /// The caller's. They do not change once a task has them, so what a copy takes from them, and
    /// whether the caller may exceed, is asked once. The reference keeps the address theirs.
    caller: Cred,
    copy: Cred,
}

/// The mounter's credentials, and those made from them of late.
pub(crate) struct Credentials {
    mounter: Cred,
    /// Whether a security module gives new files labels by who makes them.
    labels: bool,
    ready: Pin<KBox<SpinLock<Ready>>>,
}

/// Copies for callers, and which one goes next.
struct Ready {
    copies: [Option<ForCaller>; READY],
    next: usize,
}

impl Credentials {
    /// The present ones: of whoever mounts.
    pub(crate) fn of_mounter() -> Result<Self> {
        // SAFETY: Takes nothing; a copy of the thread's own, with a reference.
        let mounter = unsafe { Cred::from_c(c::prepare_creds()) }?;
        // SAFETY: Live credentials.
        let labels = unsafe { c::lfs_cred_labels(mounter.as_ptr()) };
        let ready = Ready {
            copies: [None, None, None, None],
            next: 0,
        };
        Ok(Self {
            mounter,
            labels,
            ready: KBox::pin_init(new_spinlock!(ready, "Credentials::ready"), GFP_KERNEL)?,
        })
    }

    /// For C, as long as `self` lives.
    pub(super) fn as_ptr(&self) -> *const c::cred {
        self.mounter.as_ptr()
    }

    /// To ask below. Never around [`Self::changing`]: whose place that takes would be lost.
    pub(super) fn asking(&self) -> Acting<'_> {
        // SAFETY: They live as long as `self`.
        unsafe { Acting::with(self.mounter.as_ptr()) }
    }

    /// To change something below in the caller's place. The kernel's own changes stay the kernel's.
    pub(super) fn changing(&self) -> Result<Acting<'_>> {
        // SAFETY: Takes nothing.
        let caller = unsafe { c::lfs_current_cred() };
        // SAFETY: As above.
        if caller == unsafe { c::lfs_kernel_cred() } {
            // SAFETY: The kernel's credentials live for ever.
            return Ok(unsafe { Acting::with(caller) });
        }
        Ok(Acting::with_own(self.for_caller(caller)?))
    }

    /// A copy of the mounter's with what stays the caller's, whose credentials are `caller`.
    fn for_caller(&self, caller: *const c::cred) -> Result<Cred> {
        let is_ready = |ready: &&ForCaller| core::ptr::eq(ready.caller.as_ptr(), caller);
        if let Some(ready) = self.ready.lock().copies.iter().flatten().find(is_ready) {
            return Ok(ready.copy.clone());
        }
        self.prepare(caller)
    }

    #[cold]
    fn prepare(&self, caller: *const c::cred) -> Result<Cred> {
        // SAFETY: Asks about the running task.
        let may_exceed = unsafe { c::lfs_may_exceed() };
        // SAFETY: Live credentials; the answer is a reference or null.
        let copy = unsafe { Cred::from_c(c::lfs_cred_for(self.mounter.as_ptr(), may_exceed)) }?;
        // SAFETY: The running task has them.
        let held = unsafe { c::get_cred(caller) };
        let new = ForCaller {
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
        // Not under the lock.
        drop(replaced);
        Ok(copy)
    }

    /// Around the creation of what `dentry`, which has its parent, is for: where files have labels,
    /// it gets the one that the caller's would have.
    pub(super) fn labelling(&self, dentry: &Dentry, mode: u16) -> Result<Option<Acting<'_>>> {
        if !self.labels {
            return Ok(None);
        }
        // SAFETY: A live dentry; the answer is a reference or an error.
        let cred = unsafe { Cred::from_c(c::lfs_cred_labelled(dentry.as_ptr(), mode)) }?;
        Ok(Some(Acting::with_own(cred)))
    }
}
