// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mounts the view, serves it, and unmounts it.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fuser::{Filesystem, MountOption};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::filesystem::{PastFilesystem, SharedNotifier};
use super::view::View;
use crate::error::Error;

/// A mounted view.
pub struct MountedView<F: Filesystem>(fuser::Session<F>);

/// Checks that a directory can be mounted on without hiding files, and returns its path. `device` is that of
/// the mount whose past is shown.
pub fn check_directory(dir: &Path, device: u64) -> Result<PathBuf, Error> {
    let wrong = |message: &str, hint: &str| Error::Mount {
        dir: dir.to_owned(),
        message: message.to_owned(),
        hint: hint.to_owned(),
    };
    let cannot = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => wrong("it does not exist", "`mkdir` makes it."),
        _ => wrong(&error.to_string(), NAME_ANOTHER),
    };
    let path = dir.canonicalize().map_err(cannot)?;
    let found = fs::metadata(&path).map_err(cannot)?;
    if !found.is_dir() {
        return Err(wrong("it is not a directory", NAME_ANOTHER));
    }
    if found.dev() == device {
        return Err(wrong(
            "it is inside the mount whose past is to be shown",
            "name a directory outside of the mount.",
        ));
    }
    match fs::read_dir(&path).map_err(cannot)?.next() {
        None => Ok(path),
        Some(_) => Err(wrong(
            "it is not empty, and its files would be hidden",
            NAME_ANOTHER,
        )),
    }
}

const NAME_ANOTHER: &str = "name an empty directory.";

impl<'k> MountedView<PastFilesystem<'k>> {
    /// Mounts the view of a point, as [`Self::mount`].
    pub fn of_point(
        view: View<'k>,
        dir: &Path,
        source: &str,
        is_shared: bool,
    ) -> Result<Self, Error> {
        let notifier = SharedNotifier::default();
        let filesystem = PastFilesystem::new(view, is_shared, notifier.clone());
        let mounted = Self::mount(filesystem, dir, source, is_shared)?;
        // Set only once.
        let _ = notifier.set(mounted.0.notifier());
        Ok(mounted)
    }
}

impl<F: Filesystem> MountedView<F> {
    /// Mounts a filesystem on an empty directory. `source` is the name that the table of mounts shows.
    pub fn mount(filesystem: F, dir: &Path, source: &str, is_shared: bool) -> Result<Self, Error> {
        let mut options = vec![
            MountOption::RO,
            MountOption::NoDev,
            MountOption::NoSuid,
            MountOption::DefaultPermissions,
            MountOption::FSName(source.to_owned()),
            MountOption::Subtype("loggerfs-past".to_owned()),
        ];
        if is_shared {
            options.push(MountOption::AllowOther);
        }
        // Signals that come from now on unmount.
        let signals = signals().map_err(|error| mount_error(dir, &error))?;
        let session = fuser::Session::new(filesystem, dir, &options);
        let session = session.map_err(|error| mount_error(dir, &error))?;
        let dir = dir.to_owned();
        std::thread::spawn(move || unmount_on_signal(signals, &dir));
        Ok(Self(session))
    }

    /// Answers requests until the view is unmounted.
    pub fn serve(mut self) -> io::Result<()> {
        self.0.run()
    }
}

/// A stream that a byte comes from with each signal that ends the program.
fn signals() -> io::Result<UnixStream> {
    let (receiver, sender) = UnixStream::pair()?;
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    Ok(receiver)
}

/// Waits for a signal, unmounts, and ends the process.
fn unmount_on_signal(mut signals: UnixStream, dir: &Path) {
    while signals.read_exact(&mut [0]).is_ok() {
        if unmount(dir).is_ok() {
            // Files that are still open cannot be read further: their contents end with this process.
            std::process::exit(0);
        }
    }
}

/// Unmounts, lazily if the mount is busy.
fn unmount(dir: &Path) -> io::Result<()> {
    let plain = rustix::mount::unmount(dir, UnmountFlags::NOFOLLOW);
    match plain {
        Err(Errno::BUSY) => Ok(rustix::mount::unmount(
            dir,
            UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
        )?),
        // Only fusermount3, which runs as root, may unmount for other users.
        Err(Errno::PERM) => {
            let mut command = Command::new("fusermount3");
            let command = command.args(["-u", "-q", "-z", "--"]).arg(dir);
            match command.stdin(Stdio::null()).status()?.success() {
                true => Ok(()),
                false => Err(Errno::PERM.into()),
            }
        }
        unmounted => Ok(unmounted?),
    }
}

/// The error of a mount that failed.
fn mount_error(dir: &Path, error: &io::Error) -> Error {
    let has_device = Path::new("/dev/fuse").exists();
    let (message, hint) = match error.kind() {
        ErrorKind::NotFound if !has_device => (
            "there is no /dev/fuse: the kernel's module for FUSE is not loaded".to_owned(),
            "`modprobe fuse` loads it.",
        ),
        ErrorKind::PermissionDenied => (
            "you may not use /dev/fuse".to_owned(),
            "`ls -l /dev/fuse` shows who may; usually everyone.",
        ),
        ErrorKind::NotFound => (
            "there is no fusermount3, which mounts for users other than root".to_owned(),
            "install the package fuse3, or ask root to do it.",
        ),
        _ => (
            error.to_string().trim_end().to_owned(),
            "`dmesg` may say more.",
        ),
    };
    Error::Mount {
        dir: dir.to_owned(),
        message,
        hint: hint.to_owned(),
    }
}
