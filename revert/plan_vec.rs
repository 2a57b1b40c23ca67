// SPDX-License-Identifier: GPL-2.0

//! The growing list that the plan's code without a kernel is lent.

use crate::log::plan::{PlanError, Store};
use kernel::prelude::*;

/// A growing list for the plan: the allocator-independent code in `log::plan` cannot allocate.
pub(super) struct PlanVec<T>(KVVec<T>);

impl<T> PlanVec<T> {
    pub(super) fn new() -> Self {
        Self(KVVec::new())
    }
}

impl<T> Default for PlanVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<KVVec<T>> for PlanVec<T> {
    fn from(items: KVVec<T>) -> Self {
        Self(items)
    }
}

impl<T> From<PlanVec<T>> for KVVec<T> {
    fn from(list: PlanVec<T>) -> Self {
        list.0
    }
}

impl<T> Store<T> for PlanVec<T> {
    fn push(&mut self, item: T) -> Result<(), PlanError> {
        (self.0.push(item, GFP_KERNEL_ACCOUNT)).map_err(|_| PlanError::NoSpace)
    }

    fn items(&mut self) -> &mut [T] {
        &mut self.0
    }
}
