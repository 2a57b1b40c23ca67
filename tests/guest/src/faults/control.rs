// SPDX-License-Identifier: GPL-2.0

//! The module `faulty` (tests/faulty), which makes calls of the lower filesystem fail.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{OFlags, SeekFrom};

use crate::outcome::{fail, At, Outcome};

const CONTROL: &str = "/sys/kernel/debug/faulty";

/// Whose calls are counted and fail: the test's own process, or all others (workers).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    Caller,
    Workers,
}

impl Who {
    pub const ALL: [Who; 2] = [Who::Caller, Who::Workers];

    fn word(self) -> &'static str {
        match self {
            Who::Caller => "self",
            Who::Workers => "others",
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mode {
    /// The call has no effect and returns the error.
    Fail,
    /// The call takes effect and returns the error.
    After,
    /// The call writes half and succeeds.
    Short,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::Fail => "fail",
            Mode::After => "after",
            Mode::Short => "short",
        }
    }

    pub fn parse(word: &str) -> Option<Mode> {
        let all = [Mode::Fail, Mode::After, Mode::Short];
        all.into_iter().find(|mode| mode.word() == word)
    }
}

/// One failure to be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    pub hook: String,
    pub who: Who,
    pub mode: Mode,
    pub errno: i32,
    /// The first call that fails, from 1 on.
    pub nth: u64,
    /// Whether all later calls fail too.
    pub lasting: bool,
}

impl Fault {
    /// The form of `--fault`.
    pub fn words(&self) -> String {
        format!(
            "{}:{}:{}:{}:{}{}",
            self.hook,
            self.who.word(),
            self.mode.word(),
            self.errno,
            self.nth,
            if self.lasting { "+" } else { "" }
        )
    }

    pub fn parse(words: &str) -> Option<Fault> {
        let words: Vec<&str> = words.split(':').collect();
        let [hook, who, mode, errno, nth] = words[..] else {
            return None;
        };
        Some(Fault {
            hook: hook.into(),
            who: Who::ALL.into_iter().find(|one| one.word() == who)?,
            mode: Mode::parse(mode)?,
            errno: errno.parse().ok()?,
            nth: nth.trim_end_matches('+').parse().ok()?,
            lasting: nth.ends_with('+'),
        })
    }

    /// Whether the disk fails instead of a call of the filesystem.
    pub fn is_of_disk(&self) -> bool {
        self.hook.starts_with("block_")
    }

    pub fn arm(&self) -> Outcome {
        let (hook, who, mode) = (&self.hook, self.who.word(), self.mode.word());
        let times = if self.lasting { 0 } else { 1 };
        command(&format!(
            "arm {hook} {who} {} {times} {mode} {}",
            self.nth, self.errno
        ))
    }
}

/// Gives the module a command.
pub fn command(words: &str) -> Outcome {
    fs::write(CONTROL, words).at(format!("faulty: {words}"))
}

/// Probes the functions that serve `file`, and reports the address of the tested module's code.
pub fn attach(file: &Path) -> Outcome {
    command("disarm")?;
    command(&format!("attach {}", file.display()))?;
    let modules = fs::read_to_string("/proc/modules")?;
    let Some(line) = modules.lines().find(|line| line.starts_with("loggerfs ")) else {
        fail!("the module loggerfs is not loaded");
    };
    let words: Vec<&str> = line.split(' ').collect();
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (Some(start), Some(Ok(size))) = (
        words.get(5).and_then(|text| number(text)),
        words.get(1).map(|text| text.parse::<u64>()),
    ) else {
        fail!("cannot read /proc/modules: {line}");
    };
    command(&format!("text {start:x} {:x}", start + size))
}

/// Frames of the probe itself have these in their names; they are the innermost ones.
const PROBES: &[&str] = &["pre_handler", "kprobe", "rethook", "int3"];

/// The counts of the module since it was armed.
pub struct Counts {
    pub failed: u64,
    /// Whose bytes the last request to the disk carried that failed; 0: no file's.
    pub inode: u64,
    /// Hook, calls by the caller, calls by workers.
    pub calls: Vec<(String, [u64; 2])>,
    /// Where the last failure was made: functions, innermost first.
    pub trace: String,
}

pub fn counts() -> Outcome<Counts> {
    let text = fs::read_to_string(CONTROL).at("reading the counts")?;
    let mut counts = Counts {
        failed: 0,
        inode: 0,
        calls: Vec::new(),
        trace: String::new(),
    };
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["failed", n, inode] => {
                counts.failed = n.parse().unwrap_or(0);
                counts.inode = inode.parse().unwrap_or(0);
            }
            ["hook", name, one, two] => {
                let calls = [one.parse().unwrap_or(0), two.parse().unwrap_or(0)];
                counts.calls.push((name.into(), calls));
            }
            ["trace", ref frames @ ..] => {
                let of_probe = |frame: &&str| PROBES.iter().any(|word| frame.contains(word));
                let first = frames.iter().rposition(of_probe).map_or(0, |last| last + 1);
                counts.trace = frames[first..]
                    .iter()
                    .filter(|frame| !frame.starts_with('[') && !frame.starts_with("0x"))
                    .map(|frame| demangled(frame))
                    .take(12)
                    .collect::<Vec<_>>()
                    .join(" < ");
            }
            _ => {}
        }
    }
    Ok(counts)
}

/// The kernel's log from now on.
pub struct LogFollower(File);

impl LogFollower {
    pub fn open() -> Outcome<LogFollower> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(
            "/dev/kmsg",
            flags,
            rustix::fs::Mode::empty(),
        )?);
        rustix::fs::seek(&file, SeekFrom::End(0))?;
        Ok(LogFollower(file))
    }

    /// Everything said since then, or since the last call.
    pub fn said(&self) -> String {
        let mut buffer = vec![0; 8192];
        let mut text = String::new();
        while let Ok(length) = rustix::io::read(&self.0, &mut buffer[..]) {
            text += &String::from_utf8_lossy(&buffer[..length]);
        }
        text
    }
}

/// The last parts of a mangled Rust name: enough for a reader.
fn demangled(name: &str) -> String {
    if !name.starts_with("_R") {
        return name.into();
    }
    let mut parts: Vec<String> = Vec::new();
    let mut rest = name;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits: String = rest[start..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        let length: usize = digits.parse().unwrap_or(0);
        let from = start + digits.len();
        let from = from + usize::from(rest[from..].starts_with('_'));
        match rest.get(from..from + length) {
            Some(part) if length > 1 && !digits.starts_with('0') => {
                parts.push(part.into());
                rest = &rest[from + length..];
            }
            _ => rest = &rest[from.min(rest.len())..],
        }
    }
    let skip = parts.len().saturating_sub(2);
    parts[skip..].join("::")
}
