// SPDX-License-Identifier: GPL-2.0

//! The task that calls: who it is, and how to leave its limits behind.

use super::{c, superblock::SuperBlock};
use crate::history::line::Time;
use kernel::prelude::*;

/// What tells the calling process from others, and from itself before an exec or under another
/// user id. Cheap: compared at each operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    start: u64,
    /// The process (thread group) in the initial namespace.
    pub(crate) pid: u32,
    /// How many times it has executed a program.
    pub(crate) exec: u32,
    /// The real user id.
    pub(crate) uid: u32,
}

impl Process {
    /// The calling one.
    pub(crate) fn current() -> Self {
        let mut raw = c::lfs_process::default();
        // SAFETY: Reads the current task into `raw`.
        unsafe { c::lfs_process(&mut raw) };
        Self {
            start: raw.start,
            pid: raw.pid,
            exec: raw.exec,
            uid: raw.uid,
        }
    }

    /// When it was started.
    pub(crate) fn start_time(&self) -> Time {
        // SAFETY: Arithmetic on clocks.
        time_of(unsafe { c::lfs_real_time(self.start) })
    }
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

/// Whether the caller may do as any owner of the superblock's objects, and give them away.
pub(crate) fn may_give_away(sb: &SuperBlock) -> bool {
    has_capability(sb, c::CAP_FOWNER) && has_capability(sb, c::CAP_CHOWN)
}

/// Whether the caller administers the superblock. Asked for whoever reads a log, so without an audit record:
/// nothing is refused for the answer.
pub(crate) fn is_administrator(sb: &SuperBlock) -> bool {
    has_capability(sb, c::CAP_SYS_ADMIN)
}

/// Whether the caller has a capability in the user namespace of the superblock.
fn has_capability(sb: &SuperBlock, capability: u32) -> bool {
    // SAFETY: A live superblock; the field is set once, before it is seen.
    let users = unsafe { (*sb.as_ptr()).s_user_ns };
    // CAST: A small number.
    let capability = capability as c_int;
    // SAFETY: The superblock holds its namespace; asks about the running task.
    unsafe { c::ns_capable_noaudit(users, capability) }
}

/// Whether the caller is in execve(2).
pub(crate) fn is_executing() -> bool {
    // SAFETY: Asks about the running task.
    unsafe { c::lfs_is_executing() }
}

/// Whether the caller may make objects immutable or append-only, and lift that.
pub(crate) fn may_protect() -> bool {
    // SAFETY: Asks about the running task.
    unsafe { c::capable(c::CAP_LINUX_IMMUTABLE as c_int) }
}

/// Whether what the caller writes leaves setuid and setgid bits as they are.
pub(crate) fn leaves_set_ids() -> bool {
    // SAFETY: Asks about the running task.
    unsafe { c::capable(c::CAP_FSETID as c_int) }
}

/// Whether the caller is being killed: what takes long gives up then.
pub(crate) fn is_killed() -> bool {
    // SAFETY: Asks about the running task.
    unsafe { c::lfs_is_killed() }
}

/// What tells the running task from all others that are alive; not 0.
pub(crate) fn current_id() -> i64 {
    // SAFETY: Asks for an address.
    unsafe { c::lfs_current_id() }
}

/// In a loop that may take long: lets others run. `EINTR`: the caller is being killed.
pub(crate) fn breathe() -> Result {
    // SAFETY: The caller holds no spinlock.
    kernel::error::to_result(unsafe { c::lfs_breathe() })
}

/// A process of the initial namespace by its number in the caller's; 0: it has none there.
pub(crate) fn pid_for_caller(pid: u32) -> u32 {
    // SAFETY: Looks a number up.
    unsafe { c::lfs_pid_for_caller(pid) }
}

/// Runs `work` in a kernel thread and waits: there the caller's RLIMIT_FSIZE, signals, quota and
/// memory control group do not reach. The caller keeps its locks; `work` must take none of them.
pub(crate) fn in_kthread<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    call(work, false)
}

/// As [`in_kthread`], for what needs much of the stack, and is done far down on the caller's. `work` may use
/// that one itself.
pub(crate) fn on_new_stack<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    call(work, true)
}

fn call<R: Send>(work: impl FnOnce() -> R + Send, nests: bool) -> Option<R> {
    struct Job<W, R> {
        work: Option<W>,
        result: Option<R>,
    }
    /// # Safety
    ///
    /// `argument` is a live `Job<W, R>` that nobody else uses until this returns.
    unsafe extern "C" fn run<W: FnOnce() -> R, R>(argument: *mut c_void) {
        // SAFETY: `call` passes its job and waits for this call to end.
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
    let argument = (&raw mut job).cast();
    if nests {
        // SAFETY: The job lives until the call returns, which is after `run` has.
        unsafe { c::lfs_call_on_new_stack(Some(function), argument) };
    } else {
        // SAFETY: As above.
        unsafe { c::lfs_call_in_kthread(Some(function), argument) };
    }
    job.result
}
