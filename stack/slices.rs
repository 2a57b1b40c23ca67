// SPDX-License-Identifier: GPL-2.0

//! The mmap flusher logs pending writes through shared mappings.
//!
//! The worker runs `commit=` seconds after the first store to any object, places the lines of all
//! pending dirty ranges, and write-protects their pages.

use crate::{
    backup,
    vfs::{
        inode::UpperInode,
        scope::{KernelCreds, MemallocNofs},
        worker::{Job, Worker}, //
    }, //
};
use core::mem;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{aref::ARef, Arc, SpinLock}, //
};

/// The objects of a mount that have pending dirty ranges.
#[pin_data]
pub(crate) struct Slices {
    #[pin]
    due: SpinLock<Due>,
    seconds: u32,
    #[pin]
    worker: Worker<Slices, 0>,
}

/// A list element.
struct Node {
    inode: ARef<UpperInode>,
    next: Option<KBox<Node>>,
}

#[derive(Default)]
struct Due {
    first: Option<KBox<Node>>,
    is_over: bool,
}

impl Slices {
    /// Creates and starts the flusher; `seconds` is the flush interval.
    pub(super) fn new(seconds: u32) -> Result<Arc<Self>> {
        let slices = Arc::pin_init(
            try_pin_init!(Self {
                due <- new_spinlock!(Due::default(), "Slices::due"),
                seconds,
                worker <- Worker::new(c"lfs-slices"),
            }),
            GFP_KERNEL,
        )?;
        slices.worker.start(slices.clone());
        Ok(slices)
    }

    /// Adds an unlisted object. Called in page faults, so never sleeps on locks.
    pub(crate) fn add(&self, inode: &UpperInode) {
        let node = {
            // Memory reclaim under mmap_lock must not enter a filesystem.
            let _nofs = MemallocNofs::new();
            let inode = inode.get();
            KBox::new(Node { inode, next: None }, GFP_KERNEL)
        };
        let Ok(mut node) = node else {
            // Without memory the object stays unlisted; the next operation on the object logs the
            // range.
            inode.object().stores().unlisted();
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
        self.worker.kick_in(self.seconds);
    }

    /// Flushes as soon as possible.
    pub(crate) fn hurry(&self) {
        self.worker.kick();
    }

    /// Places the lines of all pending dirty ranges.
    pub(super) fn tell_all(&self) {
        let mut next = mem::take(&mut self.due.lock().first);
        while let Some(mut node) = next {
            next = node.next.take();
            let inode = &node.inode;
            let stores = inode.object().stores();
            stores.unlisted();
            backup::log_mmap_writes(inode);
            if stores.has_untold() && stores.is_to_be_listed() {
                self.add(inode);
            }
        }
    }

    /// Stops the worker and flushes. No mapping exists any more.
    pub(super) fn stop(&self) {
        self.due.lock().is_over = true;
        self.worker.stop();
        self.tell_all();
    }
}

impl Job<0> for Slices {
    fn run(&self, _tick: bool) {
        let _kernel = KernelCreds::new();
        self.tell_all();
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        let mut next = self.first.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}
