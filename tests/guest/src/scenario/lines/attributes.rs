// SPDX-License-Identifier: GPL-2.0

//! What changes attributes.

use std::io;

use rustix::fs::{IFlags, XattrFlags};
use rustix::io::Errno;

use super::{Case, Place};

pub const CASES: &[Case] = &[
    Case::new("chmod", |p| p.sh("chmod 600 f"), &["f: setattr 0 0"]),
    Case::new(
        "chmod of a directory",
        |p| p.sh("chmod 700 full"),
        &["full: setattr 0 0"],
    ),
    Case::new(
        "chown",
        |p| std::os::unix::fs::chown(p.path("f"), Some(1000), None),
        &["f: setattr 0 0"],
    ),
    Case::new(
        "chgrp",
        |p| std::os::unix::fs::chown(p.path("f"), None, Some(1000)),
        &["f: setattr 0 0"],
    ),
    Case::new(
        "utimes",
        |p| p.sh("touch -d 2001-02-03 f"),
        &["f: setattr 0 0"],
    ),
    Case::new(
        "utimes, the present time",
        |p| p.sh("touch f"),
        &["f: setattr 0 0"],
    ),
    Case::new(
        "setxattr",
        |p| xattr(p, "user.a", XattrFlags::empty()),
        &["f: setxattr 0 0"],
    ),
    Case::new(
        "setxattr, for root alone",
        |p| xattr(p, "trusted.a", XattrFlags::empty()),
        &["f: setxattr 0 0"],
    ),
    Case::new(
        "removexattr",
        |p| {
            xattr(p, "user.a", XattrFlags::CREATE)?;
            Ok(rustix::fs::removexattr(p.path("f"), "user.a")?)
        },
        &["f: setxattr 0 0", "f: setxattr 0 0"],
    ),
    Case::new(
        "setxattr that fails",
        |p| match xattr(p, "user.none", XattrFlags::REPLACE) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NODATA) => Ok(()),
            other => other.and(Err(io::Error::other("it succeeded"))),
        },
        &[],
    ),
    Case::new(
        "an ACL",
        |p| p.sh("setfacl -m u:2000:rw f"),
        &["f: setacl 0 0"],
    ),
    Case::new(
        "an ACL taken away",
        |p| p.sh("setfacl -m u:2000:rw f; setfacl -b f"),
        &["f: setacl 0 0", "f: setacl 0 0"],
    ),
    Case::new(
        "a default ACL",
        |p| p.sh("setfacl -d -m u:2000:rwx empty"),
        &["empty: setacl 0 0"],
    ),
    Case::new("flags", flags, &["f: setflags 0 0"]).optional(),
];

fn xattr(p: &Place, name: &str, flags: XattrFlags) -> io::Result<()> {
    Ok(rustix::fs::setxattr(p.path("f"), name, b"value", flags)?)
}

fn flags(p: &Place) -> io::Result<()> {
    let file = p.open("f")?;
    let flags = rustix::fs::ioctl_getflags(&file)?;
    Ok(rustix::fs::ioctl_setflags(&file, flags | IFlags::NODUMP)?)
}
