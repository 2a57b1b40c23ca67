// SPDX-License-Identifier: GPL-2.0

//! The mmap flusher logs pending writes through shared mappings.
//!
//! The worker runs `commit=` seconds after the first store to any object, places the lines of all
//! pending dirty ranges, and write-protects their pages.

use crate::vfs::{
    inode::UpperInode,
    scope::{KernelCreds, MemallocNofs},
    worker::{Worker, WorkerJob}, //
};
use core::mem;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{aref::ARef, Arc, SpinLock}, //
};

/// The objects of a mount that have pending dirty ranges.
#[pin_data]
pub(crate) struct MmapFlusher {
    #[pin]
    due: SpinLock<DueObjects>,
    seconds: u32,
    /// Places the lines of an object.
    log_writes: fn(&UpperInode),
    #[pin]
    worker: Worker<MmapFlusher, 0>,
}

/// A list element.
struct DueObject {
    inode: ARef<UpperInode>,
    next: Option<KBox<DueObject>>,
}

#[derive(Default)]
struct DueObjects {
    first: Option<KBox<DueObject>>,
    is_over: bool,
}

impl MmapFlusher {
    /// Creates and starts the flusher; `seconds` is the flush interval,
    /// and `log_writes` places the lines of an object.
    pub(super) fn new(seconds: u32, log_writes: fn(&UpperInode)) -> Result<Arc<Self>> {
        let flusher = Arc::pin_init(
            try_pin_init!(Self {
                due <- new_spinlock!(DueObjects::default(), "MmapFlusher::due"),
                seconds,
                log_writes,
                worker <- Worker::new(c"lfs-mmap"),
            }),
            GFP_KERNEL,
        )?;
        flusher.worker.start(flusher.clone());
        Ok(flusher)
    }

    /// Adds an unlisted object. Called in page faults, so never sleeps on locks.
    pub(crate) fn add(&self, inode: &UpperInode) {
        let node = {
            // Memory reclaim under mmap_lock must not enter a filesystem.
            let _nofs = MemallocNofs::new();
            let inode = inode.get();
            KBox::new(DueObject { inode, next: None }, GFP_KERNEL)
        };
        let Ok(mut node) = node else {
            // Without memory the object stays unlisted; the next operation on the object logs the
            // range.
            inode.object().mmap_writes().unlisted();
            return;
        };
        let mut due = self.due.lock();
        if due.is_over {
            drop(due);
            return;
        }
        node.next = due.first.take();
        due.first = Some(node);
        drop(due);
        self.worker.queue_after(self.seconds);
    }

    /// Flushes as soon as possible.
    pub(crate) fn flush_now(&self) {
        self.worker.queue();
    }

    /// Places the lines of all pending dirty ranges.
    pub(crate) fn flush_all(&self) {
        let mut next = mem::take(&mut self.due.lock().first);
        while let Some(mut node) = next {
            next = node.next.take();
            let inode = &node.inode;
            let stores = inode.object().mmap_writes();
            stores.unlisted();
            (self.log_writes)(inode);
            if stores.has_unlogged() && stores.needs_listing() {
                self.add(inode);
            }
        }
    }

    /// Stops the worker and flushes. No mapping exists any more.
    pub(crate) fn stop(&self) {
        self.due.lock().is_over = true;
        self.worker.stop();
        self.flush_all();
    }
}

impl WorkerJob<0> for MmapFlusher {
    fn run(&self, _is_timer: bool) {
        let _kernel = KernelCreds::new();
        self.flush_all();
    }
}

impl Drop for DueObjects {
    fn drop(&mut self) {
        let mut next = self.first.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}
