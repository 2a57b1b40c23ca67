// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks of one mount and its history.

use std::path::{Path, PathBuf};

use rustix::fs::StatVfs;
use rustix::io::Errno;

use crate::describe::bytes;
use crate::error::Error;
use crate::fetch::fetch_page;
use crate::object::Object;
use crate::system::{MountInfo, System};
use crate::uapi::{ReadHistory, Status, VERSION};
use crate::versions::advice;
use loggerfs_log::line::Line;
use loggerfs_log::types::Time;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, but should be looked at.
    Warning,
    /// Does not work.
    Problem,
}

impl State {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// A check that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Its result.
    pub state: State,
    /// The result in words.
    pub message: String,
    /// The next step.
    pub advice: Option<String>,
    /// The mount that it is about.
    pub path: Option<PathBuf>,
}

impl Check {
    /// One that found all well.
    pub fn ok(name: &'static str, message: String) -> Self {
        let state = State::Ok;
        Self {
            name,
            state,
            message,
            advice: None,
            path: None,
        }
    }

    /// One that found something that should be looked at.
    pub fn warning(name: &'static str, message: String, advice: &str) -> Self {
        Self {
            state: State::Warning,
            advice: Some(advice.to_owned()),
            ..Self::ok(name, message)
        }
    }

    /// One that found something that does not work.
    pub fn problem(name: &'static str, message: String, advice: &str) -> Self {
        Self {
            state: State::Problem,
            ..Self::warning(name, message, advice)
        }
    }

    /// The same, about a mount.
    #[must_use]
    pub fn on(self, path: &Path) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..self
        }
    }
}

/// All checks of a mount. `object`: any open file of it.
pub fn of_mount(
    mount: &MountInfo,
    object: Result<&mut dyn Object, &mut Error>,
    space: Option<&StatVfs>,
    system: &System,
) -> Vec<Check> {
    let mut checks = vec![options(mount), lower(mount, system)];
    checks.extend(space.map(free_space));
    if mount.option("tmpfs").is_none() && !system.is_in_fstab(&mount.point) {
        checks.push(Check::warning(
            "fstab",
            "it is not in /etc/fstab".into(),
            "add a line there, or the directory is without history after a boot.",
        ));
    }
    match object {
        Ok(object) => checks.extend(history(object, space, system)),
        Err(error) => checks.push(Check::warning(
            "history",
            error.to_string(),
            "run `logctl doctor` as a user who may read the mount's root, or as root.",
        )),
    }
    checks
}

fn options(mount: &MountInfo) -> Check {
    let own = [
        "tmpfs",
        "size",
        "history",
        "history_max",
        "on_full",
        "on_error",
        "commit",
        "args",
    ];
    let shown = mount
        .options
        .iter()
        .filter(|(name, _)| own.contains(&name.as_str()) || name == "ro" || name == "rw");
    let shown = shown.map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name.clone(),
    });
    let message = shown.collect::<Vec<_>>().join(",");
    match (mount.option("history"), mount.option("ro")) {
        (Some("off"), _) => Check::problem(
            "options",
            message,
            "nothing is recorded: `mount -o remount,history=on DIR`, or unmount and mount anew if it began with history=off.",
        ),
        (_, Some(_)) => Check::warning(
            "options",
            message,
            "the mount is read-only, and nothing can be taken back: `mount -o remount,rw DIR`.",
        ),
        _ => Check::ok("options", message),
    }
}

/// The filesystem below.
fn lower(mount: &MountInfo, system: &System) -> Check {
    const TESTED: [&str; 3] = ["ext4", "xfs", "btrfs"];
    if mount.option("tmpfs").is_some() {
        let message = "a private tmpfs: files and history end with the mount".into();
        return Check::ok("lower", message);
    }
    let source = mount.source.display();
    match system.kind_below(&mount.source) {
        Some(kind) if kind == "tmpfs" => Check::ok(
            "lower",
            format!("{source} on tmpfs: files and history end with the machine's run"),
        ),
        Some(kind) if TESTED.contains(&kind.as_str()) => {
            Check::ok("lower", format!("{source} on {kind}"))
        }
        Some(kind) => Check::warning(
            "lower",
            format!("{source} on {kind}, over which LoggerFS is not tested"),
            "use ext4, xfs, btrfs or tmpfs for files that matter.",
        ),
        None => Check::warning(
            "lower",
            format!("{source} is not visible from here"),
            "run `logctl doctor` where the source is visible, as outside of a container.",
        ),
    }
}

fn free_space(space: &StatVfs) -> Check {
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let total = space.f_blocks.saturating_mul(space.f_frsize);
    let message = format!("{} of {} free", bytes(free), bytes(total));
    if free == 0 {
        return Check::problem(
            "space",
            message,
            "delete something, or take something back by `logctl undo --no-redo`, which needs no space.",
        );
    }
    if free < total / 20 {
        return Check::warning(
            "space",
            message,
            "free some: when it is full, history is dropped.",
        );
    }
    Check::ok("space", message)
}

/// The history: its state, how far back it goes, and how it grows.
fn history(object: &mut dyn Object, space: Option<&StatVfs>, system: &System) -> Vec<Check> {
    let mut status = Status {
        version: VERSION,
        ..Status::default()
    };
    match object.status(&mut status) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOTTY) => {
            let message = "module and logctl do not understand each other".into();
            return vec![Check::problem("history", message, &advice(system))];
        }
        Err(Errno::PERM | Errno::ACCESS) => {
            let message = "its state is shown to root, and to the owner of the mount's root".into();
            return vec![Check::ok("history", message)];
        }
        Err(errno) => {
            let message = format!("its state cannot be read: {errno}");
            return vec![Check::warning("history", message, "`dmesg` may say more.")];
        }
    }
    let mut checks = vec![state(&status)];
    if status.mount_flags & Status::MOUNT_HISTORY == 0 {
        return checks;
    }
    match oldest(object) {
        Err(errno) => checks.push(Check::problem(
            "oldest point",
            format!("the history cannot be read: {errno}"),
            "`dmesg` may say more; check the disk.",
        )),
        Ok(None) => checks.push(Check::ok("oldest point", "nothing was recorded yet".into())),
        Ok(Some(oldest)) => {
            let now = now();
            checks.push(oldest.check(now));
            if status.mount_flags & Status::MOUNT_OF_OTHERS == 0 {
                checks.push(growth(&status, &oldest, now, space));
            }
        }
    }
    checks
}

fn state(status: &Status) -> Check {
    let is_set = |flag: u32| status.mount_flags & flag != 0;
    if !is_set(Status::MOUNT_HISTORY) {
        return Check::problem(
            "history",
            "off: nothing is recorded".into(),
            "`mount -o remount,history=on DIR` turns it on.",
        );
    }
    if is_set(Status::MOUNT_OF_OTHERS) {
        let message = "on; its health is shown to administrators".into();
        return Check::ok("history", message);
    }
    if status.errors != 0 {
        return Check::problem(
            "history",
            format!("its journal failed {} times since the mount", status.errors),
            "look at `dmesg` and check the disk; unmount and mount anew to begin afresh.",
        );
    }
    if status.lost != 0 {
        return Check::warning(
            "history",
            format!(
                "{} operations since the mount are without their old content",
                status.lost
            ),
            "there was no space for it: free some, or mount with a larger history_max=.",
        );
    }
    let message = format!(
        "on, last op {}; nothing was lost since the mount",
        status.seq
    );
    Check::ok("history", message)
}

/// The oldest operation that is recorded.
#[derive(Clone, Copy, Debug)]
pub struct Oldest {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub time: Time,
    /// Whether older ones were dropped.
    pub is_trimmed: bool,
}

/// So many segments are looked at.
const SEGMENTS: usize = 100_000;

/// Goes back from segment to segment, of each of which only the first lines are read.
pub fn oldest(object: &mut dyn Object) -> Result<Option<Oldest>, Errno> {
    let (mut found, mut segment) = (None, 0);
    for _ in 0..SEGMENTS {
        let mut request = ReadHistory {
            version: VERSION,
            segment,
            ..ReadHistory::default()
        };
        let mut lines = Vec::new();
        // Lines of other users are left out, so the first page may be empty.
        while lines.is_empty() && request.offset != ReadHistory::END {
            match fetch_page(object, &mut request, &mut lines) {
                // Dropped meanwhile.
                Err(Errno::NODATA) if segment != 0 => return Ok(found.map(trimmed)),
                fetched => fetched?,
            }
        }
        let first = lines
            .iter()
            .find_map(|(_, text)| Line::parse(text, None).ok());
        if let Some(line) = first {
            found = Some(Oldest {
                seq: line.seq,
                time: line.time,
                is_trimmed: false,
            });
        }
        if request.previous == 0 {
            return Ok(found.map(|oldest| match request.segment {
                ..=1 => oldest,
                _ => trimmed(oldest),
            }));
        }
        if request.previous >= request.segment {
            return Err(Errno::PROTO);
        }
        segment = request.previous;
    }
    Ok(found)
}

fn trimmed(oldest: Oldest) -> Oldest {
    Oldest {
        is_trimmed: true,
        ..oldest
    }
}

impl Oldest {
    fn check(&self, now: i64) -> Check {
        let age = span(now.saturating_sub(self.time.sec));
        let end = if self.is_trimmed {
            "; older ones were dropped to free space"
        } else {
            ""
        };
        Check::ok("oldest point", format!("op {}, {age} ago{end}", self.seq))
    }
}

/// Less history than this says nothing about the next days, in seconds.
const ENOUGH: i64 = 6 * 3600;

const DAY: i64 = 86_400;

/// How the history grows, and when it is as large as it may be.
pub fn growth(status: &Status, oldest: &Oldest, now: i64, space: Option<&StatVfs>) -> Check {
    let used = status
        .log_bytes
        .saturating_add(status.undo_bytes)
        .saturating_add(status.orphan_bytes);
    let free = space.map(|space| space.f_bavail.saturating_mul(space.f_frsize));
    let free = free.map_or(u64::MAX, |free| used.saturating_add(free));
    let limit = match status.history_max {
        0 => free,
        max => max.min(free),
    };
    let has = format!("{} of {}", bytes(used), bytes(limit));
    let age = now.saturating_sub(oldest.time.sec);
    if age < ENOUGH {
        let age = span(age);
        let message = format!("{has}; {age} of history are too little for a forecast");
        return Check::ok("growth", message);
    }
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let per_day = u128::from(used) * u128::from(number(DAY)) / u128::from(number(age));
    let per_day = u64::try_from(per_day).unwrap_or(u64::MAX);
    let rate = format!("{} a day", bytes(per_day));
    if oldest.is_trimmed {
        let message = format!("{has}, {rate}: it reaches {} back", span(age));
        return Check::ok("growth", message);
    }
    let left = limit.saturating_sub(used);
    let days = left.checked_div(per_day).unwrap_or(u64::MAX);
    if days > 3650 {
        return Check::ok("growth", format!("{has}, {rate}: room for years"));
    }
    let when = match days {
        0 => format!("{has}, {rate}: full within a day"),
        days => format!("{has}, {rate}: full in about {days} days"),
    };
    match status.on_full {
        Status::DENY if days < 7 => Check::warning(
            "growth",
            when,
            "changes are refused then (on_full=deny): mount with a larger history_max=.",
        ),
        Status::DENY => Check::ok("growth", format!("{when}, then changes are refused")),
        _ => Check::ok("growth", format!("{when}, then the oldest part is dropped")),
    }
}

/// A span of time in one unit.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{} s", seconds.max(0)),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / DAY),
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
