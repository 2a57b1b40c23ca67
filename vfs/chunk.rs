// SPDX-License-Identifier: GPL-2.0

//! A buffer that many callers fill concurrently, each its own range, and that one reader drains.
//!
//! Journal records are staged in chunks: a range is reserved in a few instructions (under the
//! journal's spinlock) and filled outside of any lock. The chunk is written to a file after seal()
//! and after all ranges are finished.

use core::{
    cell::UnsafeCell,
    mem, //
};
use kernel::{
    alloc::flags,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed, //
    },
};

/// No further reservations.
const SEALED: u64 = 1 << 63;
/// The reader drains the chunk.
const DRAINING: u64 = 1 << 62;
/// A reader copies finished bytes.
const PEEKING: u64 = 1 << 61;
/// Bit position of the number of reserved bytes; the lower bits hold the number of finished bytes.
const RESERVED_SHIFT: u32 = 30;
/// Upper limit of the size.
const MASK: u64 = (1 << 30) - 1;

/// A buffer of fixed size, reserved from start to end.
///
/// # Invariants
///
/// `bytes` has `size` initialised bytes and never moves. `state` holds `SEALED`, `DRAINING`,
/// `PEEKING`, and the numbers of reserved and finished bytes; finished ≤ reserved ≤ `size`. Each
/// reserved byte that is not finished belongs to exactly one [`Slot`]; while `DRAINING` is set, no
/// slot exists and nothing can be reserved. While `PEEKING` is set, bytes that were finished before
/// are not reserved again.
pub(crate) struct Chunk {
    bytes: UnsafeCell<KVVec<u8>>,
    size: usize,
    state: Atomic<u64>,
}

// SAFETY: The bytes are reached through slots, each of which has its own, and through `drain`,
// which excludes slots; both by the type invariants.
unsafe impl Sync for Chunk {}
// SAFETY: No field is bound to a thread.
unsafe impl Send for Chunk {}

impl Chunk {
    /// A chunk of `size` bytes, below 2³⁰.
    pub(crate) fn new(size: usize) -> Result<Self> {
        if size as u64 > MASK {
            return Err(EINVAL);
        }
        // INVARIANT: Nothing is reserved.
        Ok(Self {
            bytes: UnsafeCell::new(zeroes(size)?),
            size,
            state: Atomic::new(0),
        })
    }

    /// Reserves the next `len` bytes.
    pub(crate) fn reserve(&self, len: usize) -> Option<Slot<'_>> {
        let mut state = self.state.load(Relaxed);
        loop {
            let start = reserved(state);
            if state & SEALED != 0 || len > self.size.saturating_sub(start) {
                return None;
            }
            let next = state.checked_add((len as u64) << RESERVED_SHIFT)?;
            match self.state.cmpxchg(state, next, Full) {
                // INVARIANT: The bytes had no owner; the slot owns them now.
                Ok(_) => {
                    return Some(Slot {
                        chunk: self,
                        start,
                        len,
                    })
                }
                Err(now) => state = now,
            }
        }
    }

    /// Ends reservations. Returns the number of reserved bytes, and whether all of them are
    /// finished.
    pub(crate) fn seal(&self) -> (usize, bool) {
        let mut state = self.state.load(Relaxed);
        loop {
            match self.state.cmpxchg(state, state | SEALED, Full) {
                Ok(_) => return (reserved(state), is_complete(state | SEALED)),
                Err(now) => state = now,
            }
        }
    }

    /// Whether the chunk is sealed and all slots are finished.
    pub(crate) fn is_complete(&self) -> bool {
        is_complete(self.state.load(Acquire))
    }

    /// Passes all bytes to `read`, with the number of reserved ones (the rest is stale). `None` if
    /// the chunk is not complete, or is being drained.
    pub(crate) fn drain<R>(&self, read: impl FnOnce(&[u8], usize) -> R) -> Option<R> {
        let mut state = self.state.load(Acquire);
        loop {
            if !is_complete(state) || state & DRAINING != 0 {
                return None;
            }
            match self.state.cmpxchg(state, state | DRAINING, Full) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // SAFETY: By the type invariants no slot exists and none can be created while DRAINING is
        // set, so the bytes are not written.
        let bytes = unsafe { &*self.bytes.get() };
        let result = read(bytes, reserved(state));
        self.clear(DRAINING);
        Some(result)
    }

    /// Clears a flag.
    fn clear(&self, mark: u64) {
        let mut state = self.state.load(Relaxed);
        while let Err(now) = self.state.cmpxchg(state, state & !mark, Full) {
            state = now;
        }
    }

    /// Copies finished bytes from `start` on; returns the number of bytes. `None` while a slot is
    /// unfinished or another reader copies.
    pub(crate) fn peek(&self, start: usize, out: &mut [u8]) -> Option<usize> {
        let mut state = self.state.load(Acquire);
        loop {
            if reserved(state) != finished(state) || state & PEEKING != 0 {
                return None;
            }
            match self.state.cmpxchg(state, state | PEEKING, Full) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // SAFETY: Only the address is taken: `bytes` never changes.
        let base = unsafe { (*self.bytes.get()).as_ptr() };
        // SAFETY: All of these bytes are finished, so that no slot has any of them, and by the type
        // invariants none gets any while PEEKING is set.
        let bytes = unsafe { core::slice::from_raw_parts(base, finished(state)) };
        let found = bytes.get(start..).unwrap_or_default();
        let len = found.len().min(out.len());
        super::scope::copy(out, found);
        self.clear(PEEKING);
        Some(len)
    }

    /// Empties the chunk for reuse. Fails unless the chunk is complete and not being drained.
    pub(crate) fn reset(&self) -> bool {
        let state = self.state.load(Acquire);
        let is_used = state & (DRAINING | PEEKING) != 0;
        is_complete(state) && !is_used && self.state.cmpxchg(state, 0, Full).is_ok()
    }
}

/// A vector of zeroes, by __GFP_ZERO.
pub(crate) fn zeroes(size: usize) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::with_capacity(size, GFP_KERNEL | flags::__GFP_ZERO)?;
    // SAFETY: The capacity is at least `size`, and __GFP_ZERO has initialised the memory.
    unsafe { set_len(&mut bytes, size) };
    Ok(bytes)
}

/// Sets a vector's length.
///
/// # Safety
///
/// `len` is at most the capacity, and that many elements are initialised.
unsafe fn set_len(bytes: &mut KVVec<u8>, len: usize) {
    let (ptr, _, capacity) = mem::take(bytes).into_raw_parts();
    // SAFETY: The parts are the vector's own; the caller guarantees the length.
    *bytes = unsafe { KVVec::from_raw_parts(ptr, len, capacity) };
}

/// The number of reserved bytes in `state`.
fn reserved(state: u64) -> usize {
    // CAST: Below 2³⁰ by the mask.
    ((state >> RESERVED_SHIFT) & MASK) as usize
}

/// The number of finished bytes in `state`.
fn finished(state: u64) -> usize {
    // CAST: As above.
    (state & MASK) as usize
}

/// Whether the state is sealed with all reserved bytes finished.
fn is_complete(state: u64) -> bool {
    state & SEALED != 0 && reserved(state) == finished(state)
}

/// A reserved range of a chunk, to be filled.
///
/// # Invariants
///
/// The range lies in the chunk, and no other slot has any of it.
pub(crate) struct Slot<'a> {
    chunk: &'a Chunk,
    start: usize,
    len: usize,
}

impl Slot<'_> {
    /// The bytes; initially the stale content of an earlier use.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: Only the address is taken: `bytes` of the chunk never changes.
        let base = unsafe { (*self.chunk.bytes.get()).as_ptr() };
        // SAFETY: The range is in bounds by the type invariants, and only this slot, borrowed
        // mutably, reaches it.
        unsafe { core::slice::from_raw_parts_mut(base.add(self.start).cast_mut(), self.len) }
    }

    /// Finishes the first `len` bytes and returns the rest to the chunk. If a later reservation
    /// exists, the whole range counts as finished.
    pub(crate) fn finish_short(self, len: usize) {
        let end = self.start.saturating_add(self.len);
        let len = len.min(self.len) as u64;
        let back = (self.len as u64).wrapping_sub(len) << RESERVED_SHIFT;
        let mut state = self.chunk.state.load(Relaxed);
        while reserved(state) == end && state & SEALED == 0 {
            let next = state.wrapping_sub(back).wrapping_add(len);
            match self.chunk.state.cmpxchg(state, next, Full) {
                // INVARIANT: The bytes after `len` have no owner again, those before are finished.
                Ok(_) => return mem::forget(self),
                Err(now) => state = now,
            }
        }
        self.finish();
    }

    /// Marks the range as filled. Returns whether the chunk is complete now.
    pub(crate) fn finish(self) -> bool {
        let done = self.release();
        mem::forget(self);
        done
    }

    fn release(&self) -> bool {
        let before = self.chunk.state.fetch_add(self.len as u64, Full);
        is_complete(before.wrapping_add(self.len as u64))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
