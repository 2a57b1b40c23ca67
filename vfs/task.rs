// SPDX-License-Identifier: GPL-2.0

//! The task that calls: who it is, and how to leave its limits behind.

use super::c;
use crate::history::line::Time;
use kernel::prelude::*;

/// Process id (thread group) in the initial namespace.
pub(crate) fn pid() -> u32 {
    // SAFETY: Reads the current task.
    unsafe { c::lfs_pid() }.unsigned_abs()
}

/// The parent's process id.
pub(crate) fn parent_pid() -> u32 {
    // SAFETY: Reads the current task.
    unsafe { c::lfs_parent_pid() }.unsigned_abs()
}

/// The session's id.
pub(crate) fn session_id() -> u32 {
    // SAFETY: Reads the current task.
    unsafe { c::lfs_session_id() }.unsigned_abs()
}

/// The real user id, in the initial namespace.
pub(crate) fn uid() -> u32 {
    // SAFETY: Reads the current task.
    unsafe { c::lfs_uid() }
}

/// How many times the process has executed a program.
pub(crate) fn exec_id() -> u32 {
    // SAFETY: Reads the current task.
    unsafe { c::lfs_exec_id() }
}

/// When the process was started.
pub(crate) fn start_time() -> Time {
    // SAFETY: Reads the current task.
    time_of(unsafe { c::lfs_start_time() })
}

/// The time of day.
pub(crate) fn now() -> Time {
    let mut now: c::timespec64 = pin_init::zeroed();
    // SAFETY: A place for the answer.
    unsafe { c::ktime_get_real_ts64(&mut now) };
    Time {
        sec: now.tv_sec,
        nsec: u32::try_from(now.tv_nsec).unwrap_or(0),
    }
}

fn time_of(nanoseconds: u64) -> Time {
    Time {
        sec: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0),
        nsec: u32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0),
    }
}

/// Length of a task's name, NUL included.
pub(crate) const COMM: usize = 16;

/// The process's name; what follows the first NUL means nothing.
pub(crate) fn comm() -> [u8; COMM] {
    let mut name = [0; COMM];
    // SAFETY: A buffer of TASK_COMM_LEN bytes.
    unsafe { c::lfs_comm(name.as_mut_ptr().cast()) };
    name
}

/// The executable's path, written into `buf`; returns the part that holds it.
pub(crate) fn executable(buf: &mut [u8]) -> Option<&[u8]> {
    let len = c_int::try_from(buf.len()).ok()?;
    let mut path = core::ptr::null_mut();
    // SAFETY: A buffer and its length; the answer points into it.
    let err = unsafe { c::lfs_exe_path(buf.as_mut_ptr().cast(), len, &mut path) };
    if err != 0 || path.is_null() {
        return None;
    }
    let start = (path as usize).checked_sub(buf.as_ptr() as usize)?;
    let text = buf.get(start..)?;
    let end = text.iter().position(|b| *b == 0)?;
    text.get(..end)
}

/// The first bytes of the process's arguments, separated by NULs. Never faults.
pub(crate) fn arguments(buf: &mut [u8]) -> &[u8] {
    let len = c_int::try_from(buf.len()).unwrap_or(0);
    // SAFETY: A buffer and its length.
    let n = unsafe { c::lfs_arguments(buf.as_mut_ptr().cast(), len) };
    buf.get(..usize::try_from(n).unwrap_or(0)).unwrap_or(&[])
}

/// Runs `work` in a kernel thread and waits: there the caller's RLIMIT_FSIZE, signals, quota and
/// memory control group do not reach. The caller keeps its locks; `work` must take none of them.
pub(crate) fn in_kthread<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    struct Job<W, R> {
        work: Option<W>,
        result: Option<R>,
    }
    unsafe extern "C" fn run<W: FnOnce() -> R, R>(argument: *mut c_void) {
        // SAFETY: `in_kthread` passes its job and waits for this call to end.
        let job = unsafe { &mut *argument.cast::<Job<W, R>>() };
        job.result = job.work.take().map(|work| work());
    }
    fn runner<W: FnOnce() -> R, R>(_: &Job<W, R>) -> unsafe extern "C" fn(*mut c_void) {
        run::<W, R>
    }
    let mut job = Job {
        work: Some(work),
        result: None,
    };
    let function = runner(&job);
    // SAFETY: The job lives until the call returns, which is after `run` has.
    unsafe { c::lfs_call_in_kthread(Some(function), (&raw mut job).cast()) };
    job.result
}
