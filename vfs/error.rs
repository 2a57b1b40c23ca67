// SPDX-License-Identifier: GPL-2.0

//! Error numbers that `kernel::error::code` has no name for.

use super::c;
use core::num::NonZeroI32;
use kernel::error::Error;

/// `-number` as an [`Error`].
const fn errno(number: u32) -> Error {
    let value = match NonZeroI32::new(-(number as i32)) {
        Some(value) => value,
        None => NonZeroI32::MIN,
    };
    // SAFETY: `Error` is a struct of one `NonZeroI32`; having the same size, they have the same
    // layout. All numbers here are small positive ones, so its invariant holds.
    unsafe { core::mem::transmute::<NonZeroI32, Error>(value) }
}

/// Nothing (left) to revert, or no such xattr.
pub(crate) const ENODATA: Error = errno(c::ENODATA);
/// An object that cannot be stacked on.
pub(crate) const EREMOTE: Error = errno(c::EREMOTE);
/// Saved bytes or the log fail their checksum.
pub(crate) const EUCLEAN: Error = errno(c::EUCLEAN);
/// Changed outside.
pub(crate) const ESTALE: Error = errno(c::ESTALE);
/// The lower filesystem, or this version, does not do it.
pub(crate) const EOPNOTSUPP: Error = errno(c::EOPNOTSUPP);
/// The lower filesystem has no such command (within the kernel alone).
pub(crate) const ENOIOCTLCMD: Error = errno(c::ENOIOCTLCMD);
/// The name is too long.
pub(crate) const ENAMETOOLONG: Error = errno(c::ENAMETOOLONG);
/// A symbolic link where none may be.
pub(crate) const ELOOP: Error = errno(c::ELOOP);
/// A directory that is to be removed has something in it.
pub(crate) const ENOTEMPTY: Error = errno(c::ENOTEMPTY);
/// Somebody's quota is used up.
pub(crate) const EDQUOT: Error = errno(c::EDQUOT);
/// There is no such operation.
pub(crate) const ENOSYS: Error = errno(c::ENOSYS);
/// The journal has been shut down.
pub(crate) const ESHUTDOWN: Error = errno(c::ESHUTDOWN);
