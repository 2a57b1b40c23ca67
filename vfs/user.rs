// SPDX-License-Identifier: GPL-2.0

//! The structures of our commands, in and out of user memory.

use crate::uapi::{ReadLog, Revert, Status};
use kernel::{
    prelude::*,
    transmute::{AsBytes, FromBytes},
    uaccess::{UserPtr, UserSlice}, //
};

// SAFETY: Integers and arrays of integers; any bytes are a value.
unsafe impl FromBytes for Revert {}
// SAFETY: No padding: checked in `uapi`.
unsafe impl AsBytes for Revert {}
// SAFETY: As above.
unsafe impl FromBytes for ReadLog {}
// SAFETY: As above.
unsafe impl AsBytes for ReadLog {}
// SAFETY: As above.
unsafe impl FromBytes for Status {}
// SAFETY: As above.
unsafe impl AsBytes for Status {}

/// Copies a structure in.
pub(crate) fn read<T: FromBytes>(address: usize) -> Result<T> {
    UserSlice::new(UserPtr::from_addr(address), size_of::<T>())
        .reader()
        .read()
}

/// Copies a structure out.
pub(crate) fn write<T: AsBytes>(address: usize, value: &T) -> Result {
    UserSlice::new(UserPtr::from_addr(address), size_of::<T>())
        .writer()
        .write(value)
}

/// Copies bytes out.
pub(crate) fn write_bytes(address: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .writer()
        .write_slice(bytes)
}
