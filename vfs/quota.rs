// SPDX-License-Identifier: GPL-2.0

//! The lower filesystem's quotas: the accounts that an object is charged to, and their limits.
//!
//! C header: [`include/linux/quota.h`](srctree/include/linux/quota.h)

use super::{c, dentry::Dentry, superblock::SuperBlock};
use kernel::prelude::*;

/// The quota type, with the kernel's values (USRQUOTA, GRPQUOTA, PRJQUOTA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaKind {
    User = 0,
    Group = 1,
    Project = 2,
}

/// A quota account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaAccount {
    pub(crate) kind: QuotaKind,
    pub(crate) id: u32,
}

/// All accounts that an object is charged to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaAccounts {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// 0: none.
    pub(crate) project: u32,
}

impl QuotaAccounts {
    /// The accounts of a lower object; `None` for a negative dentry.
    pub(crate) fn of(lower: &Dentry) -> Option<Self> {
        let inode = lower.inode()?;
        Some(Self {
            user: inode.uid(),
            group: inode.gid(),
            project: project(lower).0,
        })
    }

    /// The accounts of a new object in a lower directory.
    pub(crate) fn of_new(dir: &Dentry) -> Option<Self> {
        let inode = dir.inode()?;
        let (project, inherits) = project(dir);
        // SAFETY: Reads the current task's credentials.
        let user = unsafe { c::lfs_fsuid() };
        let group = if inode.mode() & c::S_ISGID != 0 {
            inode.gid()
        } else {
            // SAFETY: As above.
            unsafe { c::lfs_fsgid() }
        };
        Some(Self {
            user,
            group,
            project: if inherits { project } else { 0 },
        })
    }

    /// One by one.
    pub(crate) fn each(&self) -> impl Iterator<Item = QuotaAccount> {
        let all = [
            (QuotaKind::User, self.user),
            (QuotaKind::Group, self.group),
            (QuotaKind::Project, self.project),
        ];
        // Project 0 has no quota.
        let counts = |(kind, id): &(QuotaKind, u32)| *kind != QuotaKind::Project || *id != 0;
        let counted = all.into_iter().filter(counts);
        counted.map(|(kind, id)| QuotaAccount { kind, id })
    }

    /// Whether the object is charged to `account`.
    pub(crate) fn has(&self, account: QuotaAccount) -> bool {
        self.each().any(|own| own == account)
    }
}

/// A lower object's project id, and whether new children inherit the id.
fn project(lower: &Dentry) -> (u32, bool) {
    let mut flags = c::lfs_flags::default();
    // SAFETY: A live dentry and a writable result.
    let err = unsafe { c::lfs_get_flags(lower.as_ptr(), &mut flags) };
    if err != 0 {
        // No project quota support, or no project.
        return (0, false);
    }
    let inherits = flags.xflags & c::FS_XFLAG_PROJINHERIT != 0;
    (flags.project, inherits)
}

/// How many bytes, or inodes, a request exceeds the limits of `account` by; 0 if within the limits,
/// or without quota.
pub(crate) fn over_limit(sb: &SuperBlock, account: QuotaAccount, bytes: u64, inodes: u64) -> u64 {
    // CAST: The kernel's own numbers.
    let (kind, id) = (account.kind as c_int, account.id);
    // SAFETY: A live superblock, which the lower mount keeps alive.
    let over = unsafe { c::lfs_quota_over(sb.as_ptr(), kind, id, bytes, inodes) };
    u64::try_from(over).unwrap_or(0)
}

/// Sleeps; false on a fatal signal.
pub(crate) fn sleep_killable(milliseconds: u32) -> bool {
    // SAFETY: The caller may sleep: file I/O follows.
    unsafe { c::lfs_sleep_killable(milliseconds) }
}
