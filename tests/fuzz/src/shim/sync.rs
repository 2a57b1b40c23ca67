// SPDX-License-Identifier: GPL-2.0

//! `kernel::sync`: here everything happens in one thread.

use std::cell::{RefCell, RefMut};
use std::ops::Deref;
use std::rc::Rc;

use crate::prelude::{AllocError, Flags};

/// A counted reference.
pub(crate) struct Arc<T>(Rc<T>);

impl<T> Arc<T> {
    pub(crate) fn new(value: T, _: Flags) -> Result<Self, AllocError> {
        Ok(Self(Rc::new(value)))
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A lock without contention.
pub(crate) struct Mutex<T>(RefCell<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    pub(crate) fn lock(&self) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }
}

/// As the kernel's, without lock classes.
macro_rules! new_mutex {
    ($value:expr, $name:literal) => {
        $crate::sync::Mutex::new($value)
    };
}
pub(crate) use new_mutex;

/// `kernel::sync::atomic`.
pub(crate) mod atomic {
    use std::cell::Cell;

    /// An ordering.
    pub(crate) struct Relaxed;
    /// An ordering.
    pub(crate) struct Full;

    /// A value that several would share.
    pub(crate) struct Atomic<T>(Cell<T>);

    impl<T: Copy> Atomic<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Cell::new(value))
        }

        pub(crate) fn load(&self, _: Relaxed) -> T {
            self.0.get()
        }

        pub(crate) fn store(&self, value: T, _: Relaxed) {
            self.0.set(value);
        }

        pub(crate) fn xchg(&self, value: T, _: Full) -> T {
            self.0.replace(value)
        }
    }
}
