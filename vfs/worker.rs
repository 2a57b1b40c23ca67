// SPDX-License-Identifier: GPL-2.0

//! A worker of a mount: a work item and a delayed work item on their own workqueue.
//!
//! The work runs with the kernel's credentials and in a memalloc_nofs scope, so the limits of
//! callers do not apply. The queue is created without WQ_MEM_RECLAIM: memory reclaim never waits
//! for the worker, and with the flag check_flush_dependency() would warn when xfs, called by the
//! worker, flushes a workqueue without the flag.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::cell::UnsafeCell;

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        Arc, //
    },
    types::Opaque, //
};

use super::{
    c,
    scope::MemallocNofs, //
};

/// The work function; `ID` distinguishes several workers of one type.
pub(crate) trait WorkerJob<const ID: u8>: Send + Sync + 'static {
    /// Runs in a workqueue thread; `timer` after the delay of queue_after(), not after queue().
    /// Not reentrant for the same kind of call.
    fn run(&self, is_timer: bool);
}

/// Runs a [`WorkerJob`] in a workqueue thread after queue() or queue_after().
///
/// # Invariants
///
/// `queue` is a valid workqueue until the worker is dropped. `job` is written at most once, by the
/// first [`Worker::start`], before `started` is set. Work items read `job` only after `started` is
/// set. [`Worker::stop`] clears `job` when no work can run any more.
#[pin_data(PinnedDrop)]
pub(crate) struct Worker<J: WorkerJob<ID>, const ID: u8> {
    queue: *mut c::workqueue_struct,
    #[pin]
    work: Opaque<c::work_struct>,
    #[pin]
    timer: Opaque<c::delayed_work>,
    job: UnsafeCell<Option<Arc<J>>>,
    starting: Atomic<bool>,
    started: Atomic<bool>,
}

// SAFETY: The work queue may be used from any thread; `job` is guarded by the type invariants.
unsafe impl<J: WorkerJob<ID>, const ID: u8> Send for Worker<J, ID> {}
// SAFETY: As above; queueing is safe from any thread at once.
unsafe impl<J: WorkerJob<ID>, const ID: u8> Sync for Worker<J, ID> {}

impl<J: WorkerJob<ID>, const ID: u8> Worker<J, ID> {
    /// Creates a worker without a job; `name` is the workqueue's.
    pub(crate) fn new(name: &'static CStr) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            queue: {
                // SAFETY: The name is a C string.
                let queue = unsafe { c::lfs_alloc_workqueue(name.as_char_ptr()) };
                if queue.is_null() {
                    return Err(ENOMEM);
                }
                queue
            },
            work <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` has the memory of a work item and is pinned.
                unsafe { c::lfs_init_work(slot, Some(run_work::<J, ID>)) }
            }),
            timer <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` has the memory of a delayed work item and is pinned.
                unsafe { c::lfs_init_delayed_work(slot, Some(run_timer::<J, ID>)) }
            }),
            job: UnsafeCell::new(None),
            starting: Atomic::new(false),
            started: Atomic::new(false),
        })
    }

    /// Sets the job; later calls have no effect. Work queued before this does nothing.
    pub(crate) fn start(&self, job: Arc<J>) {
        if self.starting.xchg(true, Full) {
            return;
        }
        // SAFETY: By the type invariants nothing reads the cell before `started` is set, and
        // `starting` lets only one thread come here.
        unsafe { *self.job.get() = Some(job) };
        self.started.store(true, Release);
    }

    /// Queues the job. Callable under a spinlock.
    pub(crate) fn queue(&self) {
        // SAFETY: Queue and item are valid by the type invariants.
        unsafe { c::lfs_queue_work(self.queue, self.work.get()) };
    }

    /// Queues the job after `seconds`, unless the timer is pending. Callable under a spinlock.
    pub(crate) fn queue_after(&self, seconds: u32) {
        // SAFETY: Queue and item are valid by the type invariants.
        unsafe { c::lfs_queue_delayed_work(self.queue, self.timer.get(), seconds) };
    }

    /// Waits for a running job and disables the work items; later calls of queue() do nothing.
    pub(crate) fn stop(&self) {
        // SAFETY: The item is valid by the type invariants.
        unsafe { c::disable_delayed_work_sync(self.timer.get()) };
        // SAFETY: The item is valid by the type invariants.
        unsafe { c::disable_work_sync(self.work.get()) };
        if !self.started.xchg(false, Full) {
            return;
        }
        // SAFETY: No work runs, and none will, so by the type invariants nothing reads the cell;
        // only one thread finds `started` set.
        let job = unsafe { (*self.job.get()).take() };
        drop(job);
    }
}

#[pinned_drop]
impl<J: WorkerJob<ID>, const ID: u8> PinnedDrop for Worker<J, ID> {
    fn drop(self: Pin<&mut Self>) {
        // A timer of a worker without `stop` may be pending: destroy_workqueue() does not wait for it.
        self.stop();
        // SAFETY: The queue is valid by the type invariants and idle.
        unsafe { c::destroy_workqueue(self.queue) };
    }
}

/// Work function of queue().
///
/// # Safety
///
/// `work` must be the field of a worker.
unsafe extern "C" fn run_work<J: WorkerJob<ID>, const ID: u8>(work: *mut c::work_struct) {
    // SAFETY: The work item is a field of a worker.
    let worker = unsafe {
        &*work
            .cast::<u8>()
            .sub(core::mem::offset_of!(Worker<J, ID>, work))
            .cast::<Worker<J, ID>>()
    };
    run(worker, false);
}

/// Work function of queue_after().
///
/// # Safety
///
/// `work` must be the work item within a worker's delayed one.
unsafe extern "C" fn run_timer<J: WorkerJob<ID>, const ID: u8>(work: *mut c::work_struct) {
    let item = work
        .cast::<u8>()
        .wrapping_sub(core::mem::offset_of!(c::delayed_work, work));
    // SAFETY: The delayed work item is a field of a worker.
    let worker = unsafe {
        &*item
            .sub(core::mem::offset_of!(Worker<J, ID>, timer))
            .cast::<Worker<J, ID>>()
    };
    run(worker, true);
}

/// Runs the worker's job.
fn run<J: WorkerJob<ID>, const ID: u8>(worker: &Worker<J, ID>, is_timer: bool) {
    if !worker.started.load(Acquire) {
        return;
    }
    let _nofs = MemallocNofs::new();
    // SAFETY: By the type invariants the cell does not change while work can run.
    let job = unsafe { &*worker.job.get() };
    if let Some(job) = job {
        job.run(is_timer);
    }
}
