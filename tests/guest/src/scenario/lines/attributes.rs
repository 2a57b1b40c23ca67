// SPDX-License-Identifier: GPL-2.0

//! Operations that change attributes.

use std::io;

use rustix::fs::{IFlags, XattrFlags};
use rustix::io::Errno;

use super::{LineCase, LinePlace};

pub const CASES: &[LineCase] = &[
    LineCase::new("chmod", |p| p.sh("chmod 600 f"), &["f: setattr 0 0"]),
    LineCase::new(
        "chmod of a directory",
        |p| p.sh("chmod 700 full"),
        &["full: setattr 0 0"],
    ),
    LineCase::new(
        "chown",
        |p| std::os::unix::fs::chown(p.path("f"), Some(1000), None),
        &["f: setattr 0 0"],
    ),
    LineCase::new(
        "chgrp",
        |p| std::os::unix::fs::chown(p.path("f"), None, Some(1000)),
        &["f: setattr 0 0"],
    ),
    LineCase::new(
        "utimes",
        |p| p.sh("touch -d 2001-02-03 f"),
        &["f: setattr 0 0"],
    ),
    LineCase::new(
        "utimes, the present time",
        |p| p.sh("touch f"),
        &["f: setattr 0 0"],
    ),
    LineCase::new(
        "setxattr",
        |p| xattr(p, "user.a", XattrFlags::empty()),
        &["f: setxattr 0 0"],
    ),
    LineCase::new(
        "setxattr, for root alone",
        |p| xattr(p, "trusted.a", XattrFlags::empty()),
        &["f: setxattr 0 0"],
    ),
    LineCase::new(
        "removexattr",
        |p| {
            xattr(p, "user.a", XattrFlags::CREATE)?;
            Ok(rustix::fs::removexattr(p.path("f"), "user.a")?)
        },
        &["f: setxattr 0 0", "f: setxattr 0 0"],
    ),
    LineCase::new(
        "setxattr that fails",
        |p| match xattr(p, "user.none", XattrFlags::REPLACE) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NODATA) => Ok(()),
            other => other.and(Err(io::Error::other("it succeeded"))),
        },
        &[],
    ),
    LineCase::new(
        "an ACL",
        |p| p.sh("setfacl -m u:2000:rw f"),
        &["f: setacl 0 0"],
    ),
    LineCase::new(
        "an ACL taken away",
        |p| p.sh("setfacl -m u:2000:rw f; setfacl -b f"),
        &["f: setacl 0 0", "f: setacl 0 0"],
    ),
    LineCase::new(
        "a default ACL",
        |p| p.sh("setfacl -d -m u:2000:rwx empty"),
        &["empty: setacl 0 0"],
    ),
    LineCase::new("flags", flags, &["f: setflags 0 0"]).optional(),
];

fn xattr(p: &LinePlace, name: &str, flags: XattrFlags) -> io::Result<()> {
    Ok(rustix::fs::setxattr(p.path("f"), name, b"value", flags)?)
}

fn flags(p: &LinePlace) -> io::Result<()> {
    let file = p.open("f")?;
    let flags = rustix::fs::ioctl_getflags(&file)?;
    Ok(rustix::fs::ioctl_setflags(&file, flags | IFlags::NODUMP)?)
}
