// SPDX-License-Identifier: GPL-2.0

//! Kernel services for the history: scoped credentials and allocation flags, CRC-32C, UUIDs and the
//! clock.

use kernel::prelude::*;

use super::c;

/// override_creds(kernel_cred()) as a guard.
///
/// Not Send: Drop restores the credentials of the creating thread.
pub(crate) struct KernelCreds {
    before: *const c::cred,
}

impl KernelCreds {
    /// Switches the thread to the kernel's credentials.
    pub(crate) fn new() -> Self {
        // SAFETY: The kernel's credentials live for ever.
        let before = unsafe { c::lfs_override_creds(c::lfs_kernel_cred()) };
        Self { before }
    }
}

impl Drop for KernelCreds {
    fn drop(&mut self) {
        // SAFETY: `before` comes from lfs_override_creds() on this thread, which still owns the
        // reference: the type is neither Send nor Sync.
        unsafe { c::lfs_revert_creds(self.before) };
    }
}

/// memalloc_nofs_save() as a guard: allocations of the thread do not enter a filesystem.
pub(crate) struct MemallocNofs {
    before: c_uint,
    /// Makes the type neither Send nor Sync.
    _here: core::marker::PhantomData<*const ()>,
}

impl MemallocNofs {
    /// Begins the scope.
    pub(crate) fn new() -> Self {
        Self {
            // SAFETY: No preconditions.
            before: unsafe { c::lfs_nofs_save() },
            _here: core::marker::PhantomData,
        }
    }
}

impl Drop for MemallocNofs {
    fn drop(&mut self) {
        // SAFETY: Pairs with the call in `new`, on the same thread.
        unsafe { c::lfs_nofs_restore(self.before) };
    }
}

/// CRC-32C update of a state, without the initial and final inversion.
pub(crate) fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    // SAFETY: `bytes` is readable for its length.
    unsafe { c::crc32c(state, bytes.as_ptr().cast(), bytes.len()) }
}

/// Copies as many bytes as fit; optimised for pages.
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    // SAFETY: Both are valid for `len` bytes, and one being borrowed mutably, they are apart.
    unsafe { c::lfs_copy(to.as_mut_ptr().cast(), from.as_ptr().cast(), len) };
}

/// A fresh random UUID (version 4).
pub(crate) fn random_uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    // SAFETY: `uuid` has the sixteen bytes that are written.
    unsafe { c::generate_random_uuid(uuid.as_mut_ptr()) };
    uuid
}

/// Seconds since the epoch.
pub(crate) fn now_seconds() -> i64 {
    // SAFETY: No preconditions.
    unsafe { c::ktime_get_real_seconds() }
}
