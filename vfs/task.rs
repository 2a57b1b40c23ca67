// SPDX-License-Identifier: GPL-2.0

//! The calling task: identity, capabilities, and calls in other threads that escape the caller's
//! limits.

use super::{c, superblock::SuperBlock};
use crate::log::{
    line::{ArgumentStarts, Process, ProcessGroup, MAX_ANCESTORS, MAX_ARGS},
    types::Time,
};
use kernel::prelude::*;

/// Identifies the calling process between two execve() calls, under one user id. Cheap: compared at
/// each operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessKey {
    start: u64,
    /// The process id (thread group) in the initial namespace.
    pub(crate) pid: u32,
    /// The number of execve() calls (`self_exec_id`).
    pub(crate) exec: u32,
    /// The real user id.
    pub(crate) uid: u32,
}

impl ProcessKey {
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

    /// The process's start time.
    pub(crate) fn start_time(&self) -> Time {
        real_time(self.start)
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

/// The process group: its number, and the leader's start time and `comm`, if that process still
/// exists and is not the calling one. Bytes after the first NUL of `comm` are undefined.
pub(crate) fn process_group() -> (ProcessGroup, [u8; COMM]) {
    let mut leader = c::lfs_other_process::default();
    let mut name = [0; COMM];
    // SAFETY: Reads the current task's group under RCU into `leader` and a buffer of TASK_COMM_LEN
    // bytes.
    unsafe { c::lfs_process_group(&mut leader, name.as_mut_ptr().cast()) };
    let is_other = leader.start != 0 && leader.pid != ProcessKey::current().pid;
    let group = ProcessGroup {
        pgid: leader.pid,
        start: is_other.then(|| real_time(leader.start)),
    };
    (group, if is_other { name } else { [0; COMM] })
}

/// The ancestors of the process, the parent first, without the machine's first process. The rest of
/// `found` is unchanged. Returns their number.
pub(crate) fn ancestors(found: &mut [Process; MAX_ANCESTORS]) -> usize {
    let mut raw: [c::lfs_other_process; MAX_ANCESTORS] = Default::default();
    // CAST: A small constant.
    let most = MAX_ANCESTORS as u32;
    // SAFETY: Room for so many; walks the parents of the current task under RCU.
    let count = unsafe { c::lfs_ancestors(raw.as_mut_ptr(), most) };
    let count = usize::try_from(count).unwrap_or(0).min(MAX_ANCESTORS);
    for (to, from) in found.iter_mut().zip(&raw).take(count) {
        *to = Process {
            pid: from.pid,
            start: real_time(from.start),
        };
    }
    count
}

/// The current time.
pub(crate) fn now() -> Time {
    let mut now: c::timespec64 = pin_init::zeroed();
    // SAFETY: A writable result.
    unsafe { c::ktime_get_real_ts64(&mut now) };
    Time {
        sec: now.tv_sec,
        nsec: u32::try_from(now.tv_nsec).unwrap_or(0),
    }
}

/// The time of CLOCK_REALTIME for nanoseconds of CLOCK_BOOTTIME.
fn real_time(boottime: u64) -> Time {
    // SAFETY: Arithmetic on clocks.
    time_of(unsafe { c::lfs_real_time(boottime) })
}

fn time_of(nanoseconds: u64) -> Time {
    Time {
        sec: i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(0),
        nsec: u32::try_from(nanoseconds % 1_000_000_000).unwrap_or(0),
    }
}

/// TASK_COMM_LEN.
pub(crate) const COMM: usize = 16;

/// The process's `comm`; bytes after the first NUL are undefined.
pub(crate) fn comm() -> [u8; COMM] {
    let mut name = [0; COMM];
    // SAFETY: A buffer of TASK_COMM_LEN bytes.
    unsafe { c::lfs_comm(name.as_mut_ptr().cast()) };
    name
}

/// The executable's path, written into `buf`; returns the used part.
pub(crate) fn executable(buf: &mut [u8]) -> Option<&[u8]> {
    let len = c_int::try_from(buf.len()).ok()?;
    let mut path = core::ptr::null_mut();
    // SAFETY: A buffer and its length; the result points into the buffer.
    let err = unsafe { c::lfs_exe_path(buf.as_mut_ptr().cast(), len, &mut path) };
    if err != 0 || path.is_null() {
        return None;
    }
    let start = (path as usize).checked_sub(buf.as_ptr() as usize)?;
    let text = buf.get(start..)?;
    let end = text.iter().position(|b| *b == 0)?;
    text.get(..end)
}

/// The first bytes of the process's arguments, each with a NUL at its end, as its memory has them
/// now. Never faults in user memory.
pub(crate) fn arguments(buf: &mut [u8]) -> &mut [u8] {
    let len = c_int::try_from(buf.len()).unwrap_or(0);
    // SAFETY: A buffer and its length.
    let n = unsafe { c::lfs_arguments(buf.as_mut_ptr().cast(), len) };
    buf.get_mut(..usize::try_from(n).unwrap_or(0))
        .unwrap_or(&mut [])
}

/// Where in the text of [`arguments`] the arguments began when the program was started; `None` if
/// the program has changed its `argv`. Never faults in user memory.
pub(crate) fn argument_starts() -> Option<ArgumentStarts> {
    let mut starts = ArgumentStarts::default();
    // CAST: A small constant.
    let bytes = MAX_ARGS as u32;
    // SAFETY: A bit for each of so many bytes.
    let are_known = unsafe { c::lfs_argument_starts(starts.as_mut_ptr(), bytes) };
    are_known.then_some(starts)
}

/// Whether the caller has CAP_FOWNER and CAP_CHOWN over the superblock.
pub(crate) fn may_give_away(sb: &SuperBlock) -> bool {
    has_capability(sb, c::CAP_FOWNER) && has_capability(sb, c::CAP_CHOWN)
}

/// Whether the caller has CAP_SYS_ADMIN over the superblock. Without an audit record: each reader
/// of a log is checked, and a negative result refuses nothing.
pub(crate) fn is_administrator(sb: &SuperBlock) -> bool {
    has_capability(sb, c::CAP_SYS_ADMIN)
}

/// ns_capable_noaudit() for the superblock's user namespace.
fn has_capability(sb: &SuperBlock, capability: u32) -> bool {
    // SAFETY: A live superblock; the field is set once, before the superblock is published.
    let users = unsafe { (*sb.as_ptr()).s_user_ns };
    // CAST: A small number.
    let capability = capability as c_int;
    // SAFETY: The superblock holds its namespace; asks about the running task.
    unsafe { c::ns_capable_noaudit(users, capability) }
}

/// Whether the caller is in execve(2).
pub(crate) fn is_executing() -> bool {
    // SAFETY: Reads the current task only.
    unsafe { c::lfs_is_executing() }
}

/// Whether the caller may set and clear S_IMMUTABLE and S_APPEND.
pub(crate) fn may_protect() -> bool {
    // SAFETY: Reads the current task only.
    unsafe { c::capable(c::CAP_LINUX_IMMUTABLE as c_int) }
}

/// Whether the caller has CAP_FSETID, so that a write keeps setuid and setgid bits.
pub(crate) fn leaves_set_ids() -> bool {
    // SAFETY: Reads the current task only.
    unsafe { c::capable(c::CAP_FSETID as c_int) }
}

/// Whether a fatal signal is pending; long operations end then.
pub(crate) fn is_killed() -> bool {
    // SAFETY: Reads the current task only.
    unsafe { c::lfs_is_killed() }
}

/// A value that is unique among the live tasks; not 0.
pub(crate) fn current_id() -> i64 {
    // SAFETY: Asks for an address.
    unsafe { c::lfs_current_id() }
}

/// cond_resched() in long loops. `EINTR` on a fatal signal.
pub(crate) fn resched_killable() -> Result {
    // SAFETY: The caller holds no spinlock.
    kernel::error::to_result(unsafe { c::lfs_resched_killable() })
}

/// Translates a process id of the initial namespace to the caller's namespace; 0 if there is none.
pub(crate) fn pid_for_caller(pid: u32) -> u32 {
    // SAFETY: Looks a number up.
    unsafe { c::lfs_pid_for_caller(pid) }
}

/// Runs `work` on a workqueue and waits, so that the caller's RLIMIT_FSIZE, signals, quota and
/// memory cgroup do not apply. The caller keeps its locks; `work` must not take them.
pub(crate) fn call_on_workqueue<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    call(work, false)
}

/// As [`call_on_workqueue`], for deep call chains that need a fresh kernel stack. `work` may use
/// [`call_on_workqueue`], too.
pub(crate) fn call_on_new_stack<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    call(work, true)
}

fn call<R: Send>(work: impl FnOnce() -> R + Send, nests: bool) -> Option<R> {
    struct ThreadCall<W, R> {
        work: Option<W>,
        result: Option<R>,
    }
    /// # Safety
    ///
    /// `argument` is a live `ThreadCall<W, R>` that no other task uses until this returns.
    unsafe extern "C" fn run<W: FnOnce() -> R, R>(argument: *mut c_void) {
        // SAFETY: `call` passes its call_state and waits for this call to end.
        let call_state = unsafe { &mut *argument.cast::<ThreadCall<W, R>>() };
        call_state.result = call_state.work.take().map(|work| work());
    }
    fn runner<W: FnOnce() -> R, R>(_: &ThreadCall<W, R>) -> unsafe extern "C" fn(*mut c_void) {
        run::<W, R>
    }
    let mut call_state = ThreadCall {
        work: Some(work),
        result: None,
    };
    let function = runner(&call_state);
    let argument = (&raw mut call_state).cast();
    if nests {
        // SAFETY: The call_state lives until the call returns, which is after `run` has.
        unsafe { c::lfs_call_on_new_stack(Some(function), argument) };
    } else {
        // SAFETY: As above.
        unsafe { c::lfs_call_on_workqueue(Some(function), argument) };
    }
    call_state.result
}
