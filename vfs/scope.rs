// SPDX-License-Identifier: GPL-2.0

//! What the history needs of the kernel beside files and workers: scopes in which a thread acts
//! as the kernel itself, the checksum, chance, and the clock.

use kernel::prelude::*;

use super::c;

/// While it lives, the thread has the kernel's own credentials.
///
/// Not to be sent to another thread: it restores what this one had.
pub(crate) struct AsKernel {
    before: *const c::cred,
}

impl AsKernel {
    /// Takes the kernel's credentials until it is dropped.
    pub(crate) fn new() -> Self {
        // SAFETY: The kernel's credentials live for ever.
        let before = unsafe { c::lfs_override_creds(c::lfs_kernel_cred()) };
        Self { before }
    }
}

impl Drop for AsKernel {
    fn drop(&mut self) {
        // SAFETY: `before` is what lfs_override_creds() took off this very thread, whose reference
        // it still carries: the type is neither Send nor Sync.
        unsafe { c::lfs_revert_creds(self.before) };
    }
}

/// While it lives, no allocation of the thread enters a filesystem.
pub(crate) struct NoFs {
    before: c_uint,
    /// Keeps the type on its thread.
    _here: core::marker::PhantomData<*const ()>,
}

impl NoFs {
    /// Begins the scope.
    pub(crate) fn new() -> Self {
        Self {
            // SAFETY: No preconditions.
            before: unsafe { c::lfs_nofs_save() },
            _here: core::marker::PhantomData,
        }
    }
}

impl Drop for NoFs {
    fn drop(&mut self) {
        // SAFETY: Pairs with the call in `new`, on the same thread.
        unsafe { c::lfs_nofs_restore(self.before) };
    }
}

/// CRC-32C update: state and bytes in, state out, without any inversion.
pub(crate) fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    // SAFETY: `bytes` is readable for its length.
    unsafe { c::crc32c(state, bytes.as_ptr().cast(), bytes.len()) }
}

/// Copies as much of `from` as `to` takes; the fastest way for a page or more.
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
