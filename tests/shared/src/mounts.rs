// SPDX-License-Identifier: GPL-2.0

//! Lower filesystems, and mounts of LoggerFS through the calls that mount(8) 2.41 makes, so
//! that the kernel's own sentences about a refused mount can be read.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::CWD;
use rustix::mount::{self as rmount, FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::mount::{MoveMountFlags, UnmountFlags};

use crate::outcome::{fail, At, Outcome};

/// The lower filesystems.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lower {
    Private,
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
}

impl Lower {
    pub const ALL: [Lower; 5] = [
        Lower::Private,
        Lower::Tmpfs,
        Lower::Ext4,
        Lower::Xfs,
        Lower::Btrfs,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Lower::Private => "private",
            Lower::Tmpfs => "tmpfs",
            Lower::Ext4 => "ext4",
            Lower::Xfs => "xfs",
            Lower::Btrfs => "btrfs",
        }
    }

    pub fn parse(name: &str) -> Option<Lower> {
        Lower::ALL.into_iter().find(|lower| lower.name() == name)
    }

    /// Whether the filesystem needs a block device.
    pub fn has_disk(self) -> bool {
        matches!(self, Lower::Ext4 | Lower::Xfs | Lower::Btrfs)
    }

    /// Makes the filesystem on `disk` (a device, or a file that the kernel shows as one) and mounts
    /// it.
    pub fn make(self, disk: &str, at: &Path) -> Outcome {
        std::fs::create_dir_all(at)?;
        let at = at.display().to_string();
        let kind = self.name();
        if !self.has_disk() {
            return run(&["mount", "-t", "tmpfs", "-o", "size=80%", "lower", &at]).map(drop);
        }
        let mkfs = format!("mkfs.{kind}");
        let force = if self == Lower::Ext4 { "-F" } else { "-f" };
        run(&[&mkfs, "-q", force, disk])?;
        let loops = if Path::new(disk).is_file() {
            "loop"
        } else {
            "rw"
        };
        run(&["mount", "-t", kind, "-o", loops, disk, &at]).map(drop)
    }
}

/// Runs a program to its end; returns its output, or a failure that holds its messages.
pub fn run(words: &[&str]) -> Outcome<String> {
    run_in(Path::new("/"), words)
}

/// The same with a directory to run in.
pub fn run_in(directory: &Path, words: &[&str]) -> Outcome<String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(directory)
        .stdin(std::process::Stdio::null())
        // As from an interactive shell, where each command line is a process group.
        .process_group(0)
        .output()
        .at(words[0])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        fail!(
            "{} ({}): {}{}",
            words.join(" "),
            output.status,
            said,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(said)
}

/// A refused mount: the errno, and the kernel's text in the log of the mount context.
#[derive(Debug)]
pub struct Refusal {
    pub error: io::Error,
    pub said: Vec<String>,
}

/// Mounts LoggerFS; options as in `mount -o`.
pub fn mount(source: &str, target: &Path, options: &str) -> Result<(), Refusal> {
    let fs = rmount::fsopen("loggerfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| Refusal {
        error: error.into(),
        said: Vec::new(),
    })?;
    configure(&fs, source, target, options).map_err(|error| Refusal {
        error,
        said: sentences(&fs),
    })
}

fn configure(fs: &OwnedFd, source: &str, target: &Path, options: &str) -> io::Result<()> {
    rmount::fsconfig_set_string(fs, "source", source)?;
    let mut attributes = MountAttrFlags::empty();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) => rmount::fsconfig_set_string(fs, key, value)?,
            None if option == "noatime" => attributes |= MountAttrFlags::MOUNT_ATTR_NOATIME,
            None => rmount::fsconfig_set_flag(fs, option)?,
        }
    }
    rmount::fsconfig_create(fs)?;
    let mount = rmount::fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rmount::move_mount(&mount, "", CWD, target, empty)?)
}

/// The messages that wait in the mount's log, without the level at their front.
fn sentences(fs: &OwnedFd) -> Vec<String> {
    let mut said = Vec::new();
    let mut buffer = vec![0; 8192];
    while let Ok(length) = rustix::io::read(fs, &mut buffer[..]) {
        let text = String::from_utf8_lossy(&buffer[..length]);
        said.push(text.trim_end().to_string());
    }
    said
}

/// Unmounts for good: a mount that is still in use is an error.
pub fn unmount(target: &Path) -> Outcome {
    rmount::unmount(target, UnmountFlags::empty()).at(format!("unmounting {}", target.display()))
}

/// The mount points at or below a directory, innermost first.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(directory))
        .collect();
    points.reverse();
    points
}

/// Unmounts all mounts below a directory; returns their number.
pub fn cleanup(directory: &Path) -> usize {
    let points = mounts_below(directory);
    for point in &points {
        let _ = rmount::unmount(point.as_path(), UnmountFlags::DETACH);
    }
    points.len()
}
