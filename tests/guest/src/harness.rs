// SPDX-License-Identifier: GPL-2.0

//! Runs tests one after another, each in a process of its own with a time limit, and checks the
//! kernel's log and left-over mounts after each.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{kill_process, Pid, Signal};

use crate::fixture::Fixture;
use crate::mounts::{self, Lower};
use crate::outcome::{Outcome, Stop};

/// One test, as an entry of the table at the end of each scenario file.
#[derive(Clone, Copy)]
pub struct Test {
    pub name: &'static str,
    pub run: fn(&mut Fixture) -> Outcome,
    /// Says something on a raw filesystem too.
    pub raw: bool,
    /// Mounts by itself.
    pub unmounted: bool,
    /// The lower filesystems of the test; empty: all of them.
    pub lowers: &'static [Lower],
    /// Long, and says over each lower filesystem the same: run over the private tmpfs, over the others only when
    /// asked for, or with `--full`.
    pub lengthy: bool,
    /// Time limit in seconds; generous, for a busy machine that emulates the guest.
    pub seconds: u64,
}

impl Test {
    pub const fn new(name: &'static str, run: fn(&mut Fixture) -> Outcome) -> Test {
        Test {
            name,
            run,
            raw: false,
            unmounted: false,
            lowers: &[],
            lengthy: false,
            seconds: 60,
        }
    }

    pub const fn raw(mut self) -> Test {
        self.raw = true;
        self
    }

    pub const fn unmounted(mut self) -> Test {
        self.unmounted = true;
        self
    }

    pub const fn only(mut self, lowers: &'static [Lower]) -> Test {
        self.lowers = lowers;
        self
    }

    pub const fn lengthy(mut self) -> Test {
        self.lengthy = true;
        self
    }

    pub const fn seconds(mut self, seconds: u64) -> Test {
        self.seconds = seconds;
        self
    }

    fn is_for(&self, lower: Lower, raw: bool) -> bool {
        (!raw || self.raw) && (self.lowers.is_empty() || self.lowers.contains(&lower))
    }

    /// Whether a usual run skips the test over this lower filesystem.
    fn is_left_out(&self, lower: Lower, plan: &Plan) -> bool {
        let is_usual = match lower {
            // The others run over the private tmpfs, which is the same filesystem.
            Lower::Tmpfs => !self.is_for(Lower::Private, false) || plan.full,
            Lower::Private => true,
            Lower::Ext4 | Lower::Xfs | Lower::Btrfs => {
                !self.lengthy || plan.full || !self.is_for(Lower::Private, false)
            }
        };
        !is_usual && plan.only.is_empty()
    }

    /// Whether another guest of the run has the test, over another lower filesystem.
    fn is_elsewhere(&self, plan: &Plan) -> bool {
        let is_named = plan.elsewhere.iter().any(|word| matches(word, self.name));
        let sum: u64 = self.name.bytes().map(u64::from).sum();
        let is_of_half = plan.half.is_none_or(|half| sum % 2 == half % 2);
        (is_named && self.lowers.len() != 1) || (!is_of_half && self.lowers.is_empty())
    }
}

/// How one test went.
pub struct Report {
    pub lower: Lower,
    pub name: String,
    pub seconds: f64,
    /// The failure.
    pub failure: Option<String>,
    /// The reason for a skip.
    pub skipped: Option<String>,
}

/// Settings of the whole run.
pub struct Plan {
    pub raw: bool,
    pub full: bool,
    pub stay_loaded: bool,
    pub seed: u64,
    pub disk: String,
    pub only: Vec<String>,
    pub skip: Vec<String>,
    /// Tests to skip if they are for other lower filesystems, too.
    pub elsewhere: Vec<String>,
    /// Which half of the tests that are for all lower filesystems: 1 or 2. None: both.
    pub half: Option<u64>,
    pub out: Option<PathBuf>,
    pub place: PathBuf,
    pub slow: u64,
    /// How many seconds each fuzzer goes on.
    pub fuzz: Option<u64>,
}

/// Runs the tests that are for this lower filesystem.
pub fn run_lower(plan: &Plan, lower: Lower, tests: &[&Test]) -> Vec<Report> {
    let chosen: Vec<&&Test> = tests
        .iter()
        .filter(|test| test.is_for(lower, plan.raw))
        .filter(|test| !test.is_left_out(lower, plan) && !test.is_elsewhere(plan))
        .filter(|test| {
            plan.only.is_empty() || plan.only.iter().any(|only| matches(only, test.name))
        })
        .filter(|test| !plan.skip.iter().any(|skip| matches(skip, test.name)))
        .collect();
    let mut reports = Vec::new();
    if chosen.is_empty() {
        return reports;
    }
    println!("# {}", lower.name());
    let mut kernel = KernelLog::open();
    let at = plan.place.join(lower.name());
    reports.push(judged(lower, "lower-made", &mut kernel, || {
        lower.make(&plan.disk, &at)
    }));
    if reports[0].failure.is_none() {
        for test in chosen {
            reports.push(run_one(plan, lower, test, &at, &mut kernel));
        }
    }
    reports.push(judged(lower, "nothing-left-behind", &mut kernel, || {
        leave(plan, &at)
    }));
    reports
}

/// `--only` takes a name, or the beginning of names with a star.
pub fn matches(only: &str, name: &str) -> bool {
    match only.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => only == name,
    }
}

/// Everything must come off again: mounts, the lower filesystem, the module.
fn leave(plan: &Plan, at: &Path) -> Outcome {
    mounts::unmount(at)?;
    if !plan.raw && !plan.stay_loaded {
        reload()?;
    }
    Ok(())
}

/// Unloads the module, and loads it again for the next tests.
fn reload() -> Outcome {
    let module = std::env::var("LFS_MODULE").unwrap_or_default();
    mounts::run(&["rmmod", "loggerfs"])?;
    match module.as_str() {
        "" => mounts::run(&["modprobe", "loggerfs"])?,
        path => mounts::run(&["insmod", path])?,
    };
    Ok(())
}

/// A step of the harness itself, reported like a test.
fn judged(
    lower: Lower,
    name: &str,
    kernel: &mut KernelLog,
    step: impl FnOnce() -> Outcome,
) -> Report {
    let start = Instant::now();
    mark(lower, name);
    let outcome = step();
    finish(lower, name, start, outcome, kernel.complaints())
}

fn run_one(plan: &Plan, lower: Lower, test: &Test, at: &Path, kernel: &mut KernelLog) -> Report {
    let start = Instant::now();
    let base = at.join(format!("t-{}", test.name));
    let limit = Duration::from_secs(test.seconds * plan.slow + plan.fuzz.unwrap_or(0));
    mark(lower, test.name);
    let mut outcome = match spawn(plan, lower, test, &base) {
        Ok(child) => wait(child, limit, &base),
        Err(stop) => Err(stop),
    };
    let left = mounts::cleanup(&base);
    if left > 0 && outcome.is_ok() {
        outcome = Err(Stop::Fail(format!("left {left} mounts behind")));
    }
    finish(lower, test.name, start, outcome, kernel.complaints())
}

/// Writes the name of the test into the kernel's log, so that later messages can be attributed.
fn mark(lower: Lower, name: &str) {
    let _ = std::fs::write("/dev/kmsg", format!("lfs-tests: {}/{name}\n", lower.name()));
}

/// In the environment of all processes of a test, which have process groups of their own.
const MARK: &str = "LFS_IS_TEST";

/// This program again, as the process that runs one test.
fn spawn(plan: &Plan, lower: Lower, test: &Test, base: &Path) -> Outcome<Child> {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["child", test.name, lower.name()])
        .arg(base)
        .arg(plan.seed.to_string())
        .arg(if plan.raw { "raw" } else { "loggerfs" })
        .arg(if plan.full { "full" } else { "usual" })
        .stdin(Stdio::null())
        .stdout(Stdio::inherit())
        .env(MARK, "1")
        .process_group(0);
    if let Some(seconds) = plan.fuzz {
        command.env("LFS_FUZZ_SECONDS", seconds.to_string());
    }
    if let Some(out) = &plan.out {
        command.env("LFS_OUT", out);
    }
    Ok(command.spawn()?)
}

/// Waits for the end of a test, or kills the test with all its children.
fn wait(mut child: Child, limit: Duration, base: &Path) -> Outcome {
    let start = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > limit {
            break None;
        }
        sleep(Duration::from_millis(10));
    };
    let stuck = match ended {
        Some(_) => String::new(),
        None => stacks(),
    };
    for (pid, _) in processes() {
        let _ = kill_process(pid, Signal::KILL);
    }
    match ended {
        Some(status) => verdict(status, base),
        None => {
            let again = Instant::now();
            while child.try_wait()?.is_none() && again.elapsed() < Duration::from_secs(5) {
                sleep(Duration::from_millis(50));
            }
            Err(Stop::Fail(format!(
                "hangs: not done after {} s; {stuck}",
                limit.as_secs()
            )))
        }
    }
}

/// The processes of the test, with their directories in /proc.
fn processes() -> Vec<(Pid, PathBuf)> {
    let mark = format!("{MARK}=1");
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let pid = entry.file_name().to_string_lossy().parse().ok()?;
        Some((Pid::from_raw(pid)?, entry.path()))
    });
    numbered
        .filter(|(_, place)| {
            let environment = std::fs::read(place.join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        })
        .collect()
}

/// The kernel stacks of the processes of the test.
fn stacks() -> String {
    let mut text = String::new();
    for (pid, place) in processes() {
        let stat = std::fs::read_to_string(place.join("stat")).unwrap_or_default();
        let after = stat.rsplit(") ").next().unwrap_or_default();
        let stack = std::fs::read_to_string(place.join("stack")).unwrap_or_default();
        let frames: Vec<&str> = stack
            .lines()
            .filter_map(|line| line.split("] ").nth(1))
            .take(12)
            .collect();
        let state = after.get(..1).unwrap_or_default();
        text += &format!(
            "[{} {state}: {}] ",
            pid.as_raw_nonzero(),
            frames.join(" < ")
        );
    }
    text
}

/// The file in which the process of a test leaves its reason.
fn reason_file(base: &Path) -> PathBuf {
    let name = base.file_name().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("/run/lfs-tests-{name}"))
}

fn verdict(status: ExitStatus, base: &Path) -> Outcome {
    let file = reason_file(base);
    let reason = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(file);
    match status.code() {
        Some(0) => Ok(()),
        Some(77) => Err(Stop::Skip(reason)),
        Some(_) if !reason.is_empty() => Err(Stop::Fail(reason)),
        _ => Err(Stop::Fail(format!("the test itself died: {status}"))),
    }
}

/// The life of the process that runs one test; its exit status.
pub fn child(test: &Test, lower: Lower, raw: bool, full: bool, seed: u64, base: &Path) -> i32 {
    let outcome = Fixture::new(lower, raw, full, seed, base).and_then(|mut fixture| {
        if !test.unmounted {
            fixture.mount()?;
        }
        match (test.run)(&mut fixture) {
            Ok(()) | Err(Stop::RawEnds) => fixture.finish(),
            Err(stop @ Stop::Skip(_)) => fixture.finish().and(Err(stop)),
            failed => failed,
        }
    });
    let (code, reason) = match outcome {
        Ok(()) | Err(Stop::RawEnds) => return 0,
        Err(Stop::Skip(reason)) => (77, reason),
        Err(Stop::Fail(reason)) => (1, reason),
    };
    let _ = std::fs::write(reason_file(base), reason);
    code
}

fn finish(
    lower: Lower,
    name: &str,
    start: Instant,
    outcome: Outcome,
    complaints: Vec<String>,
) -> Report {
    let mut report = Report {
        lower,
        name: name.into(),
        seconds: start.elapsed().as_secs_f64(),
        failure: None,
        skipped: None,
    };
    match outcome {
        Ok(()) | Err(Stop::RawEnds) => {}
        Err(Stop::Skip(reason)) => report.skipped = Some(reason),
        Err(Stop::Fail(reason)) => report.failure = Some(reason),
    }
    if !complaints.is_empty() {
        let said = format!("the kernel complains: {}", complaints.join(" / "));
        report.failure = Some(match report.failure.take() {
            Some(reason) => format!("{reason}; {said}"),
            None => said,
        });
    }
    if let Some(reason) = &mut report.failure {
        *reason = shortened(reason);
    }
    let place = format!("{}/{} ({:.2} s)", lower.name(), report.name, report.seconds);
    match (&report.failure, &report.skipped) {
        (Some(reason), _) => println!("FAIL {place}: {reason}"),
        (None, Some(reason)) => println!("skip {place}: {reason}"),
        (None, None) => println!("ok   {place}"),
    }
    let _ = std::io::stdout().flush();
    report
}

/// A reason that fits on a screen.
fn shortened(reason: &str) -> String {
    const LONGEST: usize = 900;
    match reason.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{} …", &reason[..cut]),
        None => reason.to_string(),
    }
}

/// The kernel's log from now on.
struct KernelLog(Option<File>);

impl KernelLog {
    const BAD: [&'static str; 14] = [
        "BUG:",
        "BUG at",
        "WARNING:",
        "Oops",
        "Busy inodes",
        "still in use",
        "general protection",
        "refcount_t",
        "blocked for more than",
        "possible circular",
        "possible recursive",
        "KASAN",
        "UBSAN",
        "rust_kernel: panicked",
    ];

    fn open() -> KernelLog {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).map(File::from);
        let mut log = KernelLog(file.ok());
        log.complaints();
        log
    }

    /// The lines since the last call that no good kernel writes.
    fn complaints(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let Some(file) = &self.0 else {
            return found;
        };
        let mut buffer = vec![0; 16384];
        loop {
            let length = match rustix::io::read(file, &mut buffer[..]) {
                Ok(0) => break,
                Ok(length) => length,
                // Lines were overwritten before the read: go on with the oldest one left.
                Err(rustix::io::Errno::PIPE) => continue,
                Err(_) => break,
            };
            let record = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let text = record.split_once(';').map_or("", |(_, text)| text);
            let line = text.lines().next().unwrap_or_default();
            if found.len() < 6 && Self::BAD.iter().any(|bad| line.contains(bad)) {
                found.push(line.to_string());
            }
        }
        found
    }
}
