// SPDX-License-Identifier: GPL-2.0

//! As much of the kernel crate and of `vfs` as the history's files ask for, over memory.

pub(crate) mod prelude;
pub(crate) mod store;
pub(crate) mod sync;

/// The module's own wrappers.
pub(crate) mod vfs {
    pub(crate) use super::store;

    pub(crate) mod chunk {
        use crate::prelude::*;

        /// `size` zeroes.
        pub(crate) fn zeroes(size: usize) -> Result<KVVec<u8>> {
            Ok(KVVec::from_elem(0, size, GFP_KERNEL)?)
        }
    }

    pub(crate) mod error {
        use crate::prelude::Error;

        pub(crate) const ENODATA: Error = Error::new(61);
        pub(crate) const EUCLEAN: Error = Error::new(117);
        pub(crate) const EOPNOTSUPP: Error = Error::new(95);
        pub(crate) const ESHUTDOWN: Error = Error::new(108);
    }

    pub(crate) mod task {
        use crate::prelude::*;

        /// No signals here.
        pub(crate) fn resched_killable() -> Result {
            Ok(())
        }
    }

    pub(crate) mod scope {
        use std::sync::atomic::{AtomicU64, Ordering};

        pub(crate) use crate::crc32c;

        /// Work in the kernel's name.
        pub(crate) struct KernelCreds;

        impl KernelCreds {
            pub(crate) fn new() -> Self {
                Self
            }
        }

        /// No allocation may enter a filesystem.
        pub(crate) struct MemallocNofs;

        impl MemallocNofs {
            pub(crate) fn new() -> Self {
                Self
            }
        }

        /// Another one each time, but the same in each run.
        pub(crate) fn random_uuid() -> [u8; 16] {
            static NEXT: AtomicU64 = AtomicU64::new(1);
            u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_le_bytes()
        }

        pub(crate) fn now_seconds() -> i64 {
            1_763_639_066
        }
    }
}
