// SPDX-License-Identifier: GPL-2.0

//! Stores through shared mappings that no line tells yet.
//!
//! A page of a mapping is read-only until a program stores to it. The fault saves what the page
//! held, adds it here, and makes the page writable, all under the lock of the page's folio. Faults
//! come under mmap_lock, which others take for themselves below the object's state: so they wait
//! for nothing, and whoever has the state places the lines ([`crate::backup::log_dirty_ranges`]). From a
//! page's fault until it is made read-only again, every store to it belongs to that one line.
//!
//! While a record of the object is being saved, its [`Gate`] is shut: faults are tried again until
//! it is open, so that a saved page is as it was at one moment.

use super::Who;
use crate::history::line::Extent;
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

/// What a page held before a store to it.
#[derive(Clone, Copy)]
pub(crate) enum Before {
    /// Its bytes are in the journal: where, and the state of their checksum.
    At(Extent, u32),
    /// It was not saved, for this reason.
    Lost(&'static str),
    /// No store: somebody has changed the object outside.
    Foreign,
}

/// A store, or several in a row: from here on the range may change at any moment.
pub(crate) struct Store {
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) before: Before,
    /// Who made the mapping.
    pub(crate) who: Arc<Mutex<Who>>,
}

/// The longest run of pages that has one line.
const LONGEST: u64 = 1 << 20;

impl Store {
    /// Makes `next` part of this one, if it goes on where this one ends, in the file and in the
    /// journal. `join` computes the state of the checksum of both, from that of each.
    fn take_in(&mut self, next: &Self, join: impl Fn(u32, u32, u64) -> Option<u32>) -> bool {
        let (Before::At(mine, state), Before::At(its, its_state)) = (self.before, next.before)
        else {
            return false;
        };
        let is_next = self.at.saturating_add(self.length) == next.at
            && mine.segment == its.segment
            && mine.offset.saturating_add(mine.length) == its.offset
            && self.length.saturating_add(next.length) <= LONGEST
            && Arc::ptr_eq(&self.who, &next.who);
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
        self.before = Before::At(both, state);
        true
    }
}

struct Node {
    store: Store,
    next: Option<KBox<Node>>,
}

/// Stores in memory of their own, so that adding one to a list needs none. The newest comes first.
#[derive(Default)]
pub(crate) struct List(Option<KBox<Node>>);

impl List {
    /// Adds a store as the newest.
    pub(crate) fn push(&mut self, store: Store) -> Result {
        let node = Node { store, next: None };
        self.push_node(KBox::new(node, GFP_KERNEL)?);
        Ok(())
    }

    fn push_node(&mut self, mut node: KBox<Node>) {
        node.next = self.0.take();
        self.0 = Some(node);
    }

    fn pop_node(&mut self) -> Option<KBox<Node>> {
        let mut node = self.0.take()?;
        self.0 = node.next.take();
        Some(node)
    }

    /// The newest one.
    pub(crate) fn first(&self) -> Option<&Store> {
        self.0.as_ref().map(|node| &node.store)
    }

    /// Drops the newest one.
    pub(crate) fn drop_first(&mut self) {
        drop(self.pop_node());
    }

    /// In the other order.
    pub(crate) fn reversed(mut self) -> Self {
        let mut other = Self::default();
        while let Some(node) = self.pop_node() {
            other.push_node(node);
        }
        other
    }

    /// Adds another list behind the last one.
    pub(crate) fn append(&mut self, other: Self) {
        // Turned around, the last one is where a list can grow.
        let mut turned = mem::take(self).reversed();
        let mut other = other;
        while let Some(node) = other.pop_node() {
            turned.push_node(node);
        }
        *self = turned.reversed();
    }

    /// Does `each` with all of them.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&Store)) {
        let mut next = &self.0;
        while let Some(node) = next {
            each(&node.store);
            next = &node.next;
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // Not one within the other: a kernel stack is short.
        while self.pop_node().is_some() {}
    }
}

/// What is under the lock.
#[derive(Default)]
struct Inner {
    stores: List,
    /// How many of them.
    count: usize,
    /// How many gates are shut, and since when one is.
    shut: usize,
    since: Option<Instant<Monotonic>>,
}

/// For how long a fault is put off. A gate that is shut for longer may be waiting for a lock that
/// the faulting program holds (a read(2) into the mapping, on some filesystems).
const PATIENCE_MS: i64 = 20_000;

/// How many stores may wait for their lines before further ones do.
const MANY: usize = 16 * 1024;

/// Whether a fault may go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It may.
    Open,
    /// It is to be tried again.
    Shut,
    /// It may, but what it saves fits to nothing: a record was being saved or put back for too long.
    Forced,
}

/// The stores to an object.
#[pin_data]
pub(crate) struct Stores {
    #[pin]
    inner: SpinLock<Inner>,
    /// How many mappings there are.
    mappings: Atomic<i32>,
    /// How many stores have no line yet.
    untold: Atomic<i64>,
    /// How many faults began, and ended: in between they move the object's times.
    begun: Atomic<i64>,
    ended: Atomic<i64>,
    /// How many operations have saved what they replace, and no line yet.
    under_way: Atomic<i32>,
    /// Whether the object is in its mount's list of those with such stores.
    is_listed: Atomic<bool>,
    /// Whether pages became writable while there was no history.
    unseen: Atomic<bool>,
}

impl Stores {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- new_spinlock!(Inner::default(), "Stores::inner"),
            mappings: Atomic::new(0),
            untold: Atomic::new(0),
            begun: Atomic::new(0),
            ended: Atomic::new(0),
            under_way: Atomic::new(0),
            is_listed: Atomic::new(false),
            unseen: Atomic::new(false),
        })
    }

    /// One more mapping through which stores may come.
    pub(crate) fn mapped(&self) {
        let _ = self.mappings.fetch_add(1, Full);
    }

    /// One of them is gone.
    pub(crate) fn unmapped(&self) {
        let _ = self.mappings.fetch_sub(1, Full);
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn is_mapped(&self) -> bool {
        self.mappings.load(Relaxed) != 0
    }

    /// Whether stores have no line yet.
    #[inline]
    pub(crate) fn has_untold(&self) -> bool {
        self.untold.load(Relaxed) != 0
    }

    /// So many more have none.
    pub(crate) fn came(&self, count: i64) {
        let _ = self.untold.fetch_add(count, Full);
    }

    /// So many have one.
    pub(crate) fn told(&self, count: i64) {
        let _ = self.untold.fetch_sub(count, Full);
    }

    /// A page became writable without being saved: the history is off.
    pub(crate) fn leave_unseen(&self) {
        self.unseen.store(true, Relaxed);
    }

    /// Whether one did.
    #[inline]
    pub(crate) fn has_unseen(&self) -> bool {
        self.unseen.load(Relaxed)
    }

    /// As [`Self::has_unseen`], and from now on none did.
    pub(crate) fn take_unseen(&self) -> bool {
        self.has_unseen() && self.unseen.xchg(false, Full)
    }

    /// A fault begins, which will move the object's times.
    pub(crate) fn begin_fault(&self) {
        let _ = self.begun.fetch_add(1, Full);
    }

    /// It has ended.
    pub(crate) fn end_fault(&self) {
        let _ = self.ended.fetch_add(1, Full);
    }

    /// How many faults have begun.
    pub(crate) fn begun(&self) -> i64 {
        self.begun.load(Relaxed)
    }

    /// How many have ended. To be asked before the times that they moved are looked at.
    pub(crate) fn ended(&self) -> i64 {
        // What is read after this is not older than what the faults did.
        self.ended.load(Acquire)
    }

    /// Whether a fault may go on now.
    pub(crate) fn way(&self) -> Way {
        let inner = self.inner.lock();
        if inner.count >= MANY {
            return Way::Shut;
        }
        inner.way()
    }

    /// Adds a fault's stores, unless a gate was shut meanwhile. They are dropped then.
    pub(crate) fn add(
        &self,
        stores: &mut List,
        count: usize,
        join: impl Fn(u32, u32, u64) -> Option<u32>,
    ) -> Result<(), Way> {
        let mut inner = self.inner.lock();
        match inner.way() {
            Way::Open => {}
            way => return Err(way),
        }
        let joined = count == 1 && inner.join(stores, join);
        if joined {
            return Ok(());
        }
        inner.take_in(stores);
        inner.count = inner.count.saturating_add(count);
        let _ = (self.untold).fetch_add(i64::try_from(count).unwrap_or(i64::MAX), Full);
        Ok(())
    }

    /// Adds a fault's stores, gate or not.
    pub(crate) fn add_forced(&self, stores: &mut List, count: usize) {
        let mut inner = self.inner.lock();
        inner.take_in(stores);
        inner.count = inner.count.saturating_add(count);
        let _ = (self.untold).fetch_add(i64::try_from(count).unwrap_or(i64::MAX), Full);
    }

    /// Takes all of them, the oldest first.
    pub(crate) fn take(&self) -> List {
        let stores = {
            let mut inner = self.inner.lock();
            inner.count = 0;
            mem::take(&mut inner.stores)
        };
        stores.reversed()
    }

    /// Shuts the gate.
    pub(crate) fn shut(&self) -> Gate<'_> {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        inner.shut = inner.shut.saturating_add(1);
        inner.since.get_or_insert(now);
        drop(inner);
        Gate(self)
    }

    /// Opens a gate that was forgotten.
    pub(crate) fn open_again(&self) {
        let mut inner = self.inner.lock();
        inner.shut = inner.shut.saturating_sub(1);
        if inner.shut == 0 {
            inner.since = None;
        }
    }

    /// Shuts the gate if there is any need.
    #[inline]
    pub(crate) fn shut_if_mapped(&self) -> Option<Gate<'_>> {
        self.is_mapped().then(|| self.shut())
    }

    /// An operation has saved what it replaces; stores from now on come after its line.
    #[inline]
    pub(crate) fn operation(&self) -> UnderWay<'_> {
        let _ = self.under_way.fetch_add(1, Full);
        UnderWay(self)
    }

    /// Whether there is such an operation.
    pub(crate) fn is_operation_under_way(&self) -> bool {
        self.under_way.load(Relaxed) != 0
    }

    /// Whether the object is not in its mount's list yet; it is to be added then.
    pub(crate) fn is_to_be_listed(&self) -> bool {
        !self.is_listed.load(Relaxed) && !self.is_listed.xchg(true, Full)
    }

    /// It is not in the list any more.
    pub(crate) fn unlisted(&self) {
        self.is_listed.store(false, Relaxed);
    }
}

impl Inner {
    fn way(&self) -> Way {
        if self.shut == 0 {
            return Way::Open;
        }
        match self.since {
            Some(since) if since.elapsed().as_millis() > PATIENCE_MS => Way::Forced,
            _ => Way::Shut,
        }
    }

    /// Adds a list, the newest first, in front.
    fn take_in(&mut self, stores: &mut List) {
        let mut turned = mem::take(stores).reversed();
        while let Some(node) = turned.pop_node() {
            self.stores.push_node(node);
        }
    }

    /// Makes the only one of `stores` part of the newest one.
    fn join(&mut self, stores: &List, join: impl Fn(u32, u32, u64) -> Option<u32>) -> bool {
        match (&mut self.stores.0, stores.first()) {
            (Some(newest), Some(store)) => newest.store.take_in(store, join),
            _ => false,
        }
    }
}

/// Faults are put off while it lives.
pub(crate) struct Gate<'a>(&'a Stores);

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        self.0.open_again();
    }
}

/// See [`Stores::operation`].
pub(crate) struct UnderWay<'a>(&'a Stores);

impl Drop for UnderWay<'_> {
    #[inline]
    fn drop(&mut self) {
        let _ = self.0.under_way.fetch_sub(1, Full);
    }
}
