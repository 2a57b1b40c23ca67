// SPDX-License-Identifier: GPL-2.0

//! Copies the ioctl structures from and to user memory.

use crate::uapi::{
    Conflict,
    HistoryLine,
    Operation,
    PlaceMark,
    ReadHistory,
    ReadLog,
    ReadPast,
    Revert,
    RevertGroup,
    Status, //
};
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
// SAFETY: As above.
unsafe impl FromBytes for ReadHistory {}
// SAFETY: As above.
unsafe impl AsBytes for ReadHistory {}
// SAFETY: As above.
unsafe impl AsBytes for HistoryLine {}

// SAFETY: As above.
unsafe impl FromBytes for RevertGroup {}
// SAFETY: As above.
unsafe impl AsBytes for RevertGroup {}
// SAFETY: As above.
unsafe impl FromBytes for Operation {}
// SAFETY: As above.
unsafe impl AsBytes for Conflict {}

// SAFETY: As above.
unsafe impl FromBytes for ReadPast {}
// SAFETY: As above.
unsafe impl AsBytes for ReadPast {}

// SAFETY: As above.
unsafe impl FromBytes for PlaceMark {}
// SAFETY: As above.
unsafe impl AsBytes for PlaceMark {}

/// Copies a structure from user memory.
pub(crate) fn read<T: FromBytes>(address: usize) -> Result<T> {
    UserSlice::new(UserPtr::from_addr(address), size_of::<T>())
        .reader()
        .read()
}

/// Copies an array of structures from user memory.
pub(crate) fn read_all<T: FromBytes>(address: usize, count: u64) -> Result<KVVec<T>> {
    let count = usize::try_from(count).map_err(|_| EINVAL)?;
    let length = count.checked_mul(size_of::<T>()).ok_or(EINVAL)?;
    let mut reader = UserSlice::new(UserPtr::from_addr(address), length).reader();
    let mut items = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
    for _ in 0..count {
        items.push(reader.read()?, GFP_KERNEL)?;
    }
    Ok(items)
}

/// Copies a structure to user memory.
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
