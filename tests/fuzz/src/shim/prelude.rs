// SPDX-License-Identifier: GPL-2.0

//! `kernel::prelude`.

use std::ops::{Deref, DerefMut};

/// An error number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Error(i32);

impl Error {
    pub(crate) const fn new(number: i32) -> Self {
        Self(-number)
    }

    pub(crate) fn to_errno(self) -> i32 {
        self.0
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "errno {}", -self.0)
    }
}

pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;

pub(crate) const EPERM: Error = Error::new(1);
pub(crate) const ENOENT: Error = Error::new(2);
pub(crate) const EIO: Error = Error::new(5);
pub(crate) const EEXIST: Error = Error::new(17);
pub(crate) const ENOTDIR: Error = Error::new(20);
pub(crate) const ENOTEMPTY: Error = Error::new(39);
pub(crate) const EISDIR: Error = Error::new(21);
pub(crate) const ENOMEM: Error = Error::new(12);
pub(crate) const EINVAL: Error = Error::new(22);
pub(crate) const EFBIG: Error = Error::new(27);
pub(crate) const EOVERFLOW: Error = Error::new(75);
pub(crate) const ENOTSUPP: Error = Error::new(524);

/// No memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllocError;

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        Self::new(12)
    }
}

/// How memory is got.
#[derive(Clone, Copy)]
pub(crate) struct Flags;

pub(crate) const GFP_KERNEL: Flags = Flags;

pub(crate) use std::pin::Pin;

/// A value on the heap.
pub(crate) type KBox<T> = Box<T>;

/// Constructs values in place.
pub(crate) trait InPlaceInit<T>: Sized {
    fn pin_init(value: T, flags: Flags) -> Result<Pin<Self>, AllocError>;
}

impl<T> InPlaceInit<T> for KBox<T> {
    fn pin_init(value: T, _: Flags) -> Result<Pin<Self>, AllocError> {
        Ok(Self::pin(value))
    }
}

/// A vector whose growth may fail.
#[derive(Clone, Debug)]
pub(crate) struct KVec<T>(Vec<T>);

pub(crate) type KVVec<T> = KVec<T>;

impl<T> KVec<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with_capacity(n: usize, _: Flags) -> Result<Self, AllocError> {
        let mut items = Vec::new();
        items.try_reserve(n).map_err(|_| AllocError)?;
        Ok(Self(items))
    }

    pub(crate) fn from_elem(item: T, n: usize, flags: Flags) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let mut items = Self::with_capacity(n, flags)?;
        items.0.resize(n, item);
        Ok(items)
    }

    pub(crate) fn reserve(&mut self, n: usize, _: Flags) -> Result<(), AllocError> {
        self.0.try_reserve(n).map_err(|_| AllocError)
    }

    pub(crate) fn push(&mut self, item: T, flags: Flags) -> Result<(), AllocError> {
        self.reserve(1, flags)?;
        self.0.push(item);
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// As the kernel's: an error where there is no such item, or no room.
    pub(crate) fn insert_within_capacity(&mut self, at: usize, item: T) -> Result<(), T> {
        if at > self.0.len() || self.0.len() == self.0.capacity() {
            return Err(item);
        }
        self.0.insert(at, item);
        Ok(())
    }

    pub(crate) fn remove(&mut self, at: usize) -> Result<T, usize> {
        if at < self.0.len() {
            Ok(self.0.remove(at))
        } else {
            Err(at)
        }
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(keep);
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> IntoIterator for KVec<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a KVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut KVec<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

/// The kernel's log has no reader here, but messages must be formatted.
macro_rules! pr_warn {
    ($($what:tt)*) => {
        drop(format!($($what)*))
    };
}
pub(crate) use pr_warn;
