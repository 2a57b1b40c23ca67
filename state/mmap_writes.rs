// SPDX-License-Identifier: GPL-2.0

//! Writes through shared mappings that have no log line yet.
//!
//! The pages of a mapping are read-only until the first store. The page fault captures the page,
//! adds a dirty range here and makes the page writable, all under the folio lock. Faults run under
//! mmap_lock, which other tasks take while holding an object's state. So faults never wait for the
//! state; its next holder places the lines ([`crate::record::log_dirty_ranges`]). All stores to a
//! page between the fault and the next write protection belong to one line.
//!
//! While the bytes of a record are captured, a [`FaultBlock`] makes faults retry, so that the captured
//! bytes are consistent.

use super::OpenActor;
use crate::log::types::Extent;
use core::mem;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Full, Relaxed},
            Atomic, //
        },
        Arc,
        Mutex,
        SpinLock, //
    },
    time::{Instant, Monotonic}, //
};

/// The content of a page before a store.
#[derive(Clone, Copy)]
pub(crate) enum PagePreImage {
    /// Captured: position in the journal, and the checksum state.
    Captured(Extent, u32),
    /// Not captured, for this reason.
    Uncaptured(&'static str),
    /// Not a store: the object was changed directly on the lower filesystem.
    External,
}

/// A range of adjacent dirty pages, which may change at any time from now on.
pub(crate) struct DirtyRange {
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) before: PagePreImage,
    /// The actor that created the mapping.
    pub(crate) actor: Arc<Mutex<OpenActor>>,
}

/// Upper limit of a range with one line.
const MAX_RANGE_LEN: u64 = 1 << 20;

impl DirtyRange {
    /// Extends this range by `next`, if adjacent in the file and in the journal. `join` combines
    /// two checksum states.
    fn take_in(&mut self, next: &Self, join: impl Fn(u32, u32, u64) -> Option<u32>) -> bool {
        let (PagePreImage::Captured(mine, state), PagePreImage::Captured(its, its_state)) =
            (self.before, next.before)
        else {
            return false;
        };
        let is_next = self.at.saturating_add(self.length) == next.at
            && mine.segment == its.segment
            && mine.offset.saturating_add(mine.length) == its.offset
            && self.length.saturating_add(next.length) <= MAX_RANGE_LEN
            && Arc::ptr_eq(&self.actor, &next.actor);
        let Some(state) = is_next
            .then(|| join(state, its_state, next.length))
            .flatten()
        else {
            return false;
        };
        let both = Extent {
            length: mine.length.saturating_add(its.length),
            ..mine
        };
        self.length = self.length.saturating_add(next.length);
        self.before = PagePreImage::Captured(both, state);
        true
    }
}

struct RangeNode {
    store: DirtyRange,
    next: Option<KBox<RangeNode>>,
}

/// A list of preallocated nodes, newest first; push_node() and append() allocate nothing.
#[derive(Default)]
pub(crate) struct DirtyRanges(Option<KBox<RangeNode>>);

impl DirtyRanges {
    /// Adds the newest range.
    pub(crate) fn push(&mut self, store: DirtyRange) -> Result {
        let node = RangeNode { store, next: None };
        self.push_node(KBox::new(node, GFP_KERNEL)?);
        Ok(())
    }

    fn push_node(&mut self, mut node: KBox<RangeNode>) {
        node.next = self.0.take();
        self.0 = Some(node);
    }

    fn pop_node(&mut self) -> Option<KBox<RangeNode>> {
        let mut node = self.0.take()?;
        self.0 = node.next.take();
        Some(node)
    }

    /// The newest one.
    pub(crate) fn first(&self) -> Option<&DirtyRange> {
        self.0.as_ref().map(|node| &node.store)
    }

    /// Drops the newest range.
    pub(crate) fn drop_first(&mut self) {
        drop(self.pop_node());
    }

    /// The list in reverse order.
    pub(crate) fn reversed(mut self) -> Self {
        let mut other = Self::default();
        while let Some(node) = self.pop_node() {
            other.push_node(node);
        }
        other
    }

    /// Appends a list after the last element.
    pub(crate) fn append(&mut self, other: Self) {
        // Reversed, so that nodes can be pushed at the end.
        let mut turned = mem::take(self).reversed();
        let mut other = other;
        while let Some(node) = other.pop_node() {
            turned.push_node(node);
        }
        *self = turned.reversed();
    }

    /// Calls `each` for all ranges, newest first.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&DirtyRange)) {
        let mut next = &self.0;
        while let Some(node) = next {
            each(&node.store);
            next = &node.next;
        }
    }
}

impl Drop for DirtyRanges {
    fn drop(&mut self) {
        // Iterative: a recursive drop could overflow the kernel stack.
        while self.pop_node().is_some() {}
    }
}

/// Fields under the spinlock.
#[derive(Default)]
struct Inner {
    stores: DirtyRanges,
    /// Number of ranges.
    count: usize,
    /// Number of fault blocks, and the start of the oldest.
    blocks: usize,
    since: Option<Instant<Monotonic>>,
}

/// Time limit of a fault block. A longer block may wait for a lock that the faulting program holds
/// (a read(2) into the mapping, on some filesystems).
const BLOCK_TIMEOUT_MS: i64 = 20_000;

/// Upper limit of pending ranges; further faults are retried.
const MAX_PENDING_RANGES: usize = 16 * 1024;

/// Whether a fault may proceed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultDecision {
    /// The fault proceeds.
    Proceed,
    /// The fault is retried.
    Retry,
    /// The fault proceeds without consistency: faults were blocked for too long.
    TimedOut,
}

/// The writes to an object through shared mappings.
#[pin_data]
pub(crate) struct MmapWrites {
    #[pin]
    inner: SpinLock<Inner>,
    /// Number of mappings.
    mappings: Atomic<i32>,
    /// Number of ranges without a line.
    unlogged: Atomic<i64>,
    /// Number of faults begun and ended. The object's times are updated in between.
    begun: Atomic<i64>,
    ended: Atomic<i64>,
    /// Operations that have captured their pre-image and have no line yet.
    running: Atomic<i32>,
    /// Whether the object is in the mount's list of objects with dirty ranges.
    is_listed: Atomic<bool>,
    /// Whether pages became writable while recording was off.
    uncaptured: Atomic<bool>,
}

impl MmapWrites {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- new_spinlock!(Inner::default(), "MmapWrites::inner"),
            mappings: Atomic::new(0),
            unlogged: Atomic::new(0),
            begun: Atomic::new(0),
            ended: Atomic::new(0),
            running: Atomic::new(0),
            is_listed: Atomic::new(false),
            uncaptured: Atomic::new(false),
        })
    }

    /// Counts a new mapping.
    pub(crate) fn add_mapping(&self) {
        let _ = self.mappings.fetch_add(1, Full);
    }

    /// Uncounts a mapping.
    pub(crate) fn remove_mapping(&self) {
        let _ = self.mappings.fetch_sub(1, Full);
    }

    /// Whether a mapping exists.
    #[inline]
    pub(crate) fn is_mapped(&self) -> bool {
        self.mappings.load(Relaxed) != 0
    }

    /// Whether ranges without a line exist.
    #[inline]
    pub(crate) fn has_unlogged(&self) -> bool {
        self.unlogged.load(Relaxed) != 0
    }

    /// Counts ranges without a line.
    pub(crate) fn add_unlogged(&self, count: i64) {
        let _ = self.unlogged.fetch_add(count, Full);
    }

    /// Uncounts ranges that got a line.
    pub(crate) fn sub_unlogged(&self, count: i64) {
        let _ = self.unlogged.fetch_sub(count, Full);
    }

    /// Records that a page became writable without a capture, with recording off.
    pub(crate) fn note_uncaptured(&self) {
        self.uncaptured.store(true, Relaxed);
    }

    /// Whether one did.
    #[inline]
    pub(crate) fn has_uncaptured(&self) -> bool {
        self.uncaptured.load(Relaxed)
    }

    /// Reads and clears [`Self::has_uncaptured`].
    pub(crate) fn take_uncaptured(&self) -> bool {
        self.has_uncaptured() && self.uncaptured.xchg(false, Full)
    }

    /// Begins a fault, which will update the object's times.
    pub(crate) fn begin_fault(&self) {
        let _ = self.begun.fetch_add(1, Full);
    }

    /// The fault has ended.
    pub(crate) fn end_fault(&self) {
        let _ = self.ended.fetch_add(1, Full);
    }

    /// Number of faults begun.
    pub(crate) fn begun(&self) -> i64 {
        self.begun.load(Relaxed)
    }

    /// Number of faults ended. Read this before the times.
    pub(crate) fn ended(&self) -> i64 {
        // Acquire: reads after this see the time updates of those faults.
        self.ended.load(Acquire)
    }

    /// Whether a fault may proceed now.
    pub(crate) fn fault_decision(&self) -> FaultDecision {
        let inner = self.inner.lock();
        if inner.count >= MAX_PENDING_RANGES {
            return FaultDecision::Retry;
        }
        inner.fault_decision()
    }

    /// Adds a fault's ranges, unless faults were blocked meanwhile; the ranges are dropped then.
    pub(crate) fn add(
        &self,
        stores: &mut DirtyRanges,
        count: usize,
        join: impl Fn(u32, u32, u64) -> Option<u32>,
    ) -> Result<(), FaultDecision> {
        let mut inner = self.inner.lock();
        match inner.fault_decision() {
            FaultDecision::Proceed => {}
            way => return Err(way),
        }
        let joined = count == 1 && inner.join(stores, join);
        if joined {
            return Ok(());
        }
        inner.take_in(stores);
        inner.count = inner.count.saturating_add(count);
        let _ = (self.unlogged).fetch_add(i64::try_from(count).unwrap_or(i64::MAX), Full);
        Ok(())
    }

    /// Adds a fault's ranges, also while faults are blocked.
    pub(crate) fn add_forced(&self, stores: &mut DirtyRanges, count: usize) {
        let mut inner = self.inner.lock();
        inner.take_in(stores);
        inner.count = inner.count.saturating_add(count);
        let _ = (self.unlogged).fetch_add(i64::try_from(count).unwrap_or(i64::MAX), Full);
    }

    /// Takes all ranges, oldest first.
    pub(crate) fn take(&self) -> DirtyRanges {
        let stores = {
            let mut inner = self.inner.lock();
            inner.count = 0;
            mem::take(&mut inner.stores)
        };
        stores.reversed()
    }

    /// Shuts the gate.
    pub(crate) fn block_faults(&self) -> FaultBlock<'_> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        inner.blocks = inner.blocks.saturating_add(1);
        inner.since.get_or_insert(now);
        drop(inner);
        FaultBlock(self)
    }

    /// Undoes block_faults() whose guard was forgotten.
    pub(crate) fn unblock_faults(&self) {
        let mut inner = self.inner.lock();
        inner.blocks = inner.blocks.saturating_sub(1);
        if inner.blocks == 0 {
            inner.since = None;
        }
    }

    /// Blocks faults if a mapping exists.
    #[inline]
    pub(crate) fn block_faults_if_mapped(&self) -> Option<FaultBlock<'_>> {
        self.is_mapped().then(|| self.block_faults())
    }

    /// An operation has captured its pre-image; later stores are logged after the operation's line.
    #[inline]
    pub(crate) fn begin_operation(&self) -> RunningOperation<'_> {
        let _ = self.running.fetch_add(1, Full);
        RunningOperation(self)
    }

    /// Whether an operation is between capture and line.
    pub(crate) fn has_running_operation(&self) -> bool {
        self.running.load(Relaxed) != 0
    }

    /// Marks the object as listed; `true` if the caller must add the object to the list.
    pub(crate) fn needs_listing(&self) -> bool {
        !self.is_listed.load(Relaxed) && !self.is_listed.xchg(true, Full)
    }

    /// Clears the mark.
    pub(crate) fn unlisted(&self) {
        self.is_listed.store(false, Relaxed);
    }
}

impl Inner {
    fn fault_decision(&self) -> FaultDecision {
        if self.blocks == 0 {
            return FaultDecision::Proceed;
        }
        match self.since {
            Some(since) if since.elapsed().as_millis() > BLOCK_TIMEOUT_MS => {
                FaultDecision::TimedOut
            }
            _ => FaultDecision::Retry,
        }
    }

    /// Prepends a list, newest first.
    fn take_in(&mut self, stores: &mut DirtyRanges) {
        let mut turned = mem::take(stores).reversed();
        while let Some(node) = turned.pop_node() {
            self.stores.push_node(node);
        }
    }

    /// Merges the only range of `stores` into the newest one.
    fn join(&mut self, stores: &DirtyRanges, join: impl Fn(u32, u32, u64) -> Option<u32>) -> bool {
        match (&mut self.stores.0, stores.first()) {
            (Some(newest), Some(store)) => newest.store.take_in(store, join),
            _ => false,
        }
    }
}

/// Blocks faults until dropped.
pub(crate) struct FaultBlock<'a>(&'a MmapWrites);

impl Drop for FaultBlock<'_> {
    fn drop(&mut self) {
        self.0.unblock_faults();
    }
}

/// See [`MmapWrites::begin_operation`].
pub(crate) struct RunningOperation<'a>(&'a MmapWrites);

impl Drop for RunningOperation<'_> {
    #[inline]
    fn drop(&mut self) {
        let _ = self.0.running.fetch_sub(1, Full);
    }
}
