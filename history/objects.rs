// SPDX-License-Identifier: GPL-2.0

//! The last line of each object in the segment that is being written.
//!
//! A table of fixed size with open addressing: an insertion costs a few dozen instructions,
//! allocates nothing, and is done under the journal's spinlock. A segment ends before its table
//! is full.

use core::ops::DerefMut;

use crate::log::types::ObjectId;

/// How many slots a segment's table has.
pub(crate) const SLOTS: usize = 8192;

/// Beyond this many objects a segment is ended.
pub(crate) const MANY: usize = SLOTS / 2;

/// This many objects always find space.
pub(crate) const MOST: usize = SLOTS / 8 * 7;

/// An object and the position of its last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastLine {
    /// The object.
    pub(crate) object: ObjectId,
    /// The offset in the segment's log, plus one; 0: the slot is free.
    mark: u64,
}

impl LastLine {
    /// A free slot.
    pub(crate) const FREE: Self = Self {
        object: ObjectId {
            volume: 0,
            inode: 0,
            generation: 0,
        },
        mark: 0,
    };

    /// The offset of the last line; `None`: a free slot.
    pub(crate) fn offset(&self) -> Option<u64> {
        self.mark.checked_sub(1)
    }
}

/// The table, over vectors of the caller's.
pub(crate) struct Objects<V, U> {
    slots: V,
    /// Which slots are used: the first `used` of these.
    order: U,
    used: usize,
}

impl<V: DerefMut<Target = [LastLine]>, U: DerefMut<Target = [u16]>> Objects<V, U> {
    /// Makes one of free slots; their number must be a power of two, and no larger than that of
    /// `order`.
    pub(crate) fn new(slots: V, order: U) -> Self {
        let used = 0;
        Self { slots, order, used }
    }

    /// The number of objects.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The slots that are used.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &LastLine> {
        let used = self.order.get(..self.used).unwrap_or_default();
        used.iter().filter_map(|&i| self.slots.get(usize::from(i)))
    }

    /// Sets the offset of `object`'s last line. False: the table is full.
    pub(crate) fn set(&mut self, object: ObjectId, offset: u64) -> bool {
        let Some(i) = self.find(object) else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(i) else {
            return false;
        };
        if slot.mark == 0 {
            let Some(place) = self.order.get_mut(self.used) else {
                return false;
            };
            // CAST: There are not more than SLOTS.
            *place = i as u16;
            self.used = self.used.wrapping_add(1);
            slot.object = object;
        }
        slot.mark = offset.wrapping_add(1);
        true
    }

    /// The offset of `object`'s last line.
    pub(crate) fn get(&self, object: ObjectId) -> Option<u64> {
        self.slots.get(self.find(object)?)?.offset()
    }

    /// Frees every slot.
    pub(crate) fn clear(&mut self) {
        for &i in self.order.get(..self.used).unwrap_or_default() {
            if let Some(slot) = self.slots.get_mut(usize::from(i)) {
                *slot = LastLine::FREE;
            }
        }
        self.used = 0;
    }

    /// The slot of `object`, or the free slot for it.
    #[inline]
    fn find(&self, object: ObjectId) -> Option<usize> {
        let mask = self.slots.len().wrapping_sub(1);
        // CAST: The low bits are as good as any.
        let mut i = hash(object) as usize & mask;
        for _ in 0..self.slots.len() {
            let slot = self.slots.get(i)?;
            if slot.mark == 0 || slot.object == object {
                return Some(i);
            }
            i = i.wrapping_add(1) & mask;
        }
        None
    }
}

/// Spreads an object over 64 bits.
#[inline]
pub(crate) fn hash(object: ObjectId) -> u64 {
    let generation = u64::from(object.generation);
    let mut x = object
        .inode
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(generation)
        .wrapping_add(object.volume.rotate_left(32));
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ (x >> 32)
}
