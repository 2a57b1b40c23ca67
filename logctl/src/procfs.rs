// SPDX-License-Identifier: MIT OR Apache-2.0

//! Facts about processes, from /proc.

/// When a process was started, in nanoseconds since the machine's boot (proc_pid_stat(5), field 22); `None`: it
/// has ended, or /proc does not show it.
pub fn started(pid: u32) -> Option<i128> {
    let ticks = i128::from(field(&pid.to_string(), 22)?);
    let rate = i128::from(rustix::param::clock_ticks_per_second());
    Some(ticks * NANOSECONDS / rate.max(1))
}

/// The session of this process. 0: it was begun outside of this PID namespace or, in the first one, by no process;
/// the types of rustix exclude that.
pub fn own_session() -> Option<u32> {
    u32::try_from(field("self", 6)?).ok()
}

/// How long the machine has been running, in nanoseconds.
pub fn uptime() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    i128::from(now.tv_sec) * NANOSECONDS + i128::from(now.tv_nsec)
}

/// In a second.
const NANOSECONDS: i128 = 1_000_000_000;

/// A field after the name, by its number in proc_pid_stat(5).
fn field(process: &str, number: usize) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may have spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}
