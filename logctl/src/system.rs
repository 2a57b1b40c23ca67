// SPDX-License-Identifier: MIT OR Apache-2.0

//! Facts about this machine: the module, the mounts, and the installed files. All below one directory, so that
//! tests can have a machine of their own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The machine.
pub struct System {
    root: PathBuf,
}

/// A mount, as `/proc/self/mountinfo` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The filesystem's type.
    pub kind: String,
    /// Its source.
    pub source: PathBuf,
    /// The options: first those of the mount, then those of the filesystem.
    pub options: Vec<(String, Option<String>)>,
}

impl MountInfo {
    /// The value of an option; `None`: it is not set.
    pub fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_deref().unwrap_or_default())
    }
}

impl System {
    /// The machine whose files are below a directory.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn text(&self, path: &str) -> String {
        let bytes = fs::read(self.path(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether a file exists.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Whether the kernel has the filesystem.
    pub fn is_loaded(&self) -> bool {
        let kinds = self.text("/proc/filesystems");
        kinds
            .lines()
            .any(|line| line.split_whitespace().last() == Some("loggerfs"))
    }

    /// The version of the module that is loaded, if it states one.
    pub fn module_version(&self) -> Option<String> {
        let version = self.text("/sys/module/loggerfs/version");
        Some(version.trim().to_owned()).filter(|version| !version.is_empty())
    }

    /// The kernel's release.
    pub fn release(&self) -> String {
        self.text("/proc/sys/kernel/osrelease").trim().to_owned()
    }

    /// The file of the module that is installed for this kernel.
    pub fn installed_module(&self) -> Option<String> {
        let directory = format!("/lib/modules/{}", self.release());
        let known = self.text(&format!("{directory}/modules.dep"));
        let mut files = known.lines().filter_map(|line| line.split(':').next());
        let found = files.find(|file| {
            let name = file.rsplit('/').next().unwrap_or(file);
            name == "loggerfs.ko" || name.starts_with("loggerfs.ko.")
        })?;
        Some(format!("{directory}/{found}"))
    }

    /// The version of the module that is installed for this kernel, if its file is not compressed and states one.
    pub fn installed_module_version(&self) -> Option<String> {
        // As modinfo finds it: a word of its own in the section .modinfo.
        const KEY: &[u8] = b"\0version=";
        let file = fs::read(self.path(&self.installed_module()?)).ok()?;
        let at = file.windows(KEY.len()).position(|part| part == KEY)?;
        let version = file
            .get(at + KEY.len()..)?
            .split(|byte| *byte == 0)
            .next()?;
        Some(String::from_utf8_lossy(version).into_owned())
    }

    /// Whether a file or directory is on a mount of LoggerFS. `path` is absolute.
    pub fn is_on_own_mount(&self, path: &Path) -> bool {
        let mounts = self.mounts().into_iter();
        let holders = mounts.filter(|mount| path.starts_with(&mount.point));
        // Of several on one directory, the last one is in effect.
        let holder = holders.max_by_key(|mount| mount.point.components().count());
        holder.is_some_and(|mount| mount.kind == "loggerfs")
    }

    /// Whether the module is loaded at boot.
    pub fn loads_at_boot(&self) -> bool {
        let directories = ["/etc/modules-load.d", "/usr/lib/modules-load.d"];
        let files = directories
            .iter()
            .filter_map(|directory| fs::read_dir(self.path(directory)).ok())
            .flat_map(|entries| entries.flatten())
            .map(|entry| fs::read_to_string(entry.path()).unwrap_or_default());
        let mut texts = files.chain([self.text("/etc/modules")]);
        texts.any(|text| text.lines().any(|line| line.trim() == "loggerfs"))
    }

    /// Whether `/etc/fstab` has a mount point.
    pub fn is_in_fstab(&self, point: &Path) -> bool {
        let table = self.text("/etc/fstab");
        table.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let place = fields.next().map(unescaped);
            place.as_deref() == Some(point) && fields.next() == Some("loggerfs")
        })
    }

    /// All mounts, in the order in which they were mounted.
    pub fn mounts(&self) -> Vec<MountInfo> {
        let table = self.text("/proc/self/mountinfo");
        table.lines().filter_map(mount_info).collect()
    }

    /// The mounts of LoggerFS; of several on one directory, the topmost.
    pub fn own_mounts(&self) -> Vec<MountInfo> {
        let mut found: Vec<MountInfo> = Vec::new();
        for mount in self.mounts() {
            found.retain(|one| one.point != mount.point);
            if mount.kind == "loggerfs" {
                found.push(mount);
            }
        }
        found
    }

    /// The type of the filesystem that holds a directory below the mounts of LoggerFS. A mount on its own source
    /// covers that.
    pub fn kind_below(&self, source: &Path) -> Option<String> {
        let holds = |mount: &MountInfo| {
            mount.kind != "loggerfs" && source.starts_with(&mount.point) && source.is_absolute()
        };
        let all = self.mounts().into_iter().filter(holds);
        let nearest = all.max_by_key(|mount| mount.point.components().count());
        nearest.map(|mount| mount.kind)
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime shared:1 - ext3 /dev/root rw,errors=continue`.
fn mount_info(line: &str) -> Option<MountInfo> {
    let (own, filesystem) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(4);
    let (point, first) = (own.next()?, own.next()?);
    let mut filesystem = filesystem.split(' ');
    let (kind, source) = (filesystem.next()?, filesystem.next()?);
    let all = first.split(',').chain(filesystem.next()?.split(','));
    let mut options: Vec<(String, Option<String>)> = Vec::new();
    for option in all {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        if !options.iter().any(|(known, _)| known == name) {
            options.push((name.to_owned(), value));
        }
    }
    Some(MountInfo {
        point: unescaped(point),
        kind: kind.to_owned(),
        source: unescaped(source),
        options,
    })
}

/// A path in which blanks are written as `\040`.
fn unescaped(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.and_then(|code| u8::from_str_radix(code, 8).ok());
        path.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(path))
}
