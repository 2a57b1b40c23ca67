// SPDX-License-Identifier: GPL-2.0

//! The buffer through which a revert reads payloads.

use crate::{history::journal::Journal, log::types::Extent};
use kernel::prelude::*;

/// Most payloads are the few bytes or the page that a write replaced.
const SMALL: usize = 4 * 1024;

/// Number of bytes that are read at once from a larger one.
const LARGE: usize = 64 * 1024;

/// A buffer that is allocated when a payload needs it, and is as large as that payload needs. A revert
/// has one for each object, so that filling a large one would be most of what the object costs.
#[derive(Default)]
pub(super) struct ReadBuffer {
    small: Option<KBox<[u8; SMALL]>>,
    large: Option<KVBox<[u8; LARGE]>>,
}

impl ReadBuffer {
    /// Reads an extent, and calls `each` with every part of it and the part's offset in the extent.
    pub(super) fn read(
        &mut self,
        journal: &Journal,
        extent: Extent,
        mut each: impl FnMut(u64, &[u8]) -> Result,
    ) -> Result {
        let mut done = 0;
        while done < extent.length {
            let part = self.part(extent.length - done)?;
            journal.read_payload(extent, done, part)?;
            each(done, part)?;
            done = done.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    /// A part of the buffer for at most `left` bytes.
    fn part(&mut self, left: u64) -> Result<&mut [u8]> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let all: &mut [u8] = if left <= SMALL {
            let small = match self.small.take() {
                Some(small) => small,
                None => KBox::zeroed(GFP_KERNEL)?,
            };
            &mut self.small.insert(small)[..]
        } else {
            let large = match self.large.take() {
                Some(large) => large,
                None => KVBox::zeroed(GFP_KERNEL)?,
            };
            &mut self.large.insert(large)[..]
        };
        let length = left.min(all.len());
        all.get_mut(..length).ok_or(EINVAL)
    }
}
