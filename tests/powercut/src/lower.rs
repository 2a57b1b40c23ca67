// SPDX-License-Identifier: GPL-2.0

//! The lower filesystem under test: how to make, mount and examine it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mounts::{self, run, Lower};
use crate::outcome::{fail, At, Outcome};

/// The size of the filesystem: small, but accepted by its tools.
pub fn size(lower: Lower) -> u64 {
    match lower {
        Lower::Btrfs => 160 << 20,
        Lower::Xfs => 304 << 20,
        _ => 64 << 20,
    }
}

/// The atomic unit of a disk's writes. ext4's journal bears torn blocks; xfs and btrfs require
/// atomic writes of the announced sector size, which is this one today.
pub fn atom(lower: Lower) -> fn(u64) -> usize {
    match lower {
        // ext4 writes its superblock, the second KiB, in place and with one checksum: a torn one
        // must be repaired by e2fsck before a mount, with or without LoggerFS.
        Lower::Ext4 => |at| if at < 2048 { 1024 } else { 512 },
        _ => |_| 4096,
    }
}

/// A place where the lower filesystem and LoggerFS over it are mounted.
pub struct Place {
    pub lower: Lower,
    pub disk: String,
    /// Where the lower filesystem is.
    pub base: PathBuf,
    /// The source of LoggerFS.
    pub source: PathBuf,
    /// Where LoggerFS is.
    pub top: PathBuf,
}

impl Place {
    pub fn new(lower: Lower, disk: &str) -> Outcome<Place> {
        // Several of this program may be at work, each on disks of its own.
        let base = Path::new("/run/powercut").join(disk.trim_start_matches('/'));
        let place = Place {
            lower,
            disk: disk.into(),
            source: base.join("lower/src"),
            top: base.join("top"),
            base: base.join("lower"),
        };
        std::fs::create_dir_all(&place.base)?;
        std::fs::create_dir_all(&place.top)?;
        Ok(place)
    }

    /// Makes the filesystem; the disk beyond its end is left unchanged.
    pub fn make(&self) -> Outcome {
        let bytes = size(self.lower).to_string();
        let data = format!("size={bytes},agcount=2");
        let kib = format!("{}k", size(self.lower) >> 10);
        let words: &[&str] = match self.lower {
            Lower::Ext4 => &["mkfs.ext4", "-q", "-F", &self.disk, &kib],
            Lower::Xfs => &["mkfs.xfs", "-q", "-f", "-d", &data, &self.disk],
            Lower::Btrfs => &["mkfs.btrfs", "-q", "-f", "-b", &bytes, &self.disk],
            _ => fail!("{} has no disk", self.lower.name()),
        };
        run(words).map(drop)
    }

    pub fn mount_lower(&self) -> Outcome {
        // Not by mount(8): a program costs an emulated processor more than the mount itself.
        let (kind, flags) = (self.lower.name(), rustix::mount::MountFlags::empty());
        let mounted = rustix::mount::mount(&*self.disk, &self.base, kind, flags, None);
        mounted.at(format!("mounting {kind}"))
    }

    pub fn unmount_lower(&self) -> Outcome {
        mounts::unmount(&self.base)
    }

    pub fn mount(&self, options: &str) -> Outcome {
        let source = self.source.display().to_string();
        match mounts::mount(&source, &self.top, options) {
            Ok(()) => Ok(()),
            Err(refusal) => fail!("mounting LoggerFS: {} {:?}", refusal.error, refusal.said),
        }
    }

    pub fn unmount(&self) -> Outcome {
        mounts::unmount(&self.top)
    }

    /// Unmounts everything.
    pub fn cleanup(&self) {
        mounts::cleanup(&self.top);
        mounts::cleanup(&self.base);
    }

    /// Asks the filesystem's own tool, which changes nothing, whether all is well.
    pub fn examine(&self) -> Outcome {
        let words: &[&str] = match self.lower {
            Lower::Ext4 => &["e2fsck", "-fn", &self.disk],
            Lower::Xfs => &["xfs_repair", "-n", "-P", &self.disk],
            Lower::Btrfs => &["btrfs", "check", "--readonly", &self.disk],
            _ => return Ok(()),
        };
        let output = Command::new(words[0]).args(&words[1..]).output();
        let output = output.at(words[0])?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            let more = String::from_utf8_lossy(&output.stderr);
            fail!("{}: {}: {said}{more}", words.join(" "), output.status);
        }
        Ok(())
    }
}
