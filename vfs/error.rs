// SPDX-License-Identifier: GPL-2.0

//! Error numbers that `kernel::error::code` lacks.

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

/// No operation to revert, or no xattr of this name.
pub(crate) const ENODATA: Error = errno(c::ENODATA);
/// An object that cannot be stacked on.
pub(crate) const EREMOTE: Error = errno(c::EREMOTE);
/// Checksum error in the log or in captured bytes.
pub(crate) const EUCLEAN: Error = errno(c::EUCLEAN);
/// Changed outside.
pub(crate) const ESTALE: Error = errno(c::ESTALE);
/// Not supported by the lower filesystem, or by this version.
pub(crate) const EOPNOTSUPP: Error = errno(c::EOPNOTSUPP);
/// Unknown ioctl (within the kernel only).
pub(crate) const ENOIOCTLCMD: Error = errno(c::ENOIOCTLCMD);
/// The name is too long.
pub(crate) const ENAMETOOLONG: Error = errno(c::ENAMETOOLONG);
/// A symbolic link is not allowed here.
pub(crate) const ELOOP: Error = errno(c::ELOOP);
/// A directory to be removed is not empty.
pub(crate) const ENOTEMPTY: Error = errno(c::ENOTEMPTY);
/// A quota is exceeded.
pub(crate) const EDQUOT: Error = errno(c::EDQUOT);
/// The operation does not exist.
pub(crate) const ENOSYS: Error = errno(c::ENOSYS);
/// The journal was shut down.
pub(crate) const ESHUTDOWN: Error = errno(c::ESHUTDOWN);
