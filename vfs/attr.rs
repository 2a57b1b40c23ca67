// SPDX-License-Identifier: GPL-2.0

//! Attributes of lower objects: size, mode, owner, times, flags.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/fileattr.h`](srctree/include/linux/fileattr.h)

use super::{
    c,
    dentry::{Dentry, UpperDentry},
    error::{ENOIOCTLCMD, EOPNOTSUPP, ESTALE},
    file::UpperFile,
    inode::{Inode, UpperInode},
    mount::LowerMount, //
};
use crate::log::{
    plan::{Access, Flags, Times},
    types::{Cookie, Time},
};
use core::{marker::PhantomData, ptr::null_mut};
use kernel::{
    error::to_result,
    prelude::*,
    sync::aref::ARef,
    types::Opaque, //
};

/// A struct iattr: the attribute change that the VFS requests. `'a` is the time of the VFS's call.
///
/// # Invariants
///
/// With ATTR_FILE, `ia_file` is null or an upper file for `'a`.
#[repr(transparent)]
pub(crate) struct AttrChange<'a>(Opaque<c::iattr>, PhantomData<&'a UpperFile>);

impl<'a> AttrChange<'a> {
    /// # Safety
    ///
    /// `ptr` is the argument of `->setattr`, live for `'a`, used by this thread only.
    pub(super) unsafe fn from_raw<'b>(ptr: *mut c::iattr) -> &'b mut Self
    where
        'a: 'b,
    {
        // SAFETY: A transparent wrapper; the caller guarantees the rest.
        unsafe { &mut *ptr.cast() }
    }

    fn raw(&mut self) -> &mut c::iattr {
        // SAFETY: `&mut self` is the only user.
        unsafe { &mut *self.0.get() }
    }

    /// The new size, if ATTR_SIZE is set.
    pub(crate) fn size(&mut self) -> Option<u64> {
        let raw = self.raw();
        if raw.ia_valid & c::ATTR_SIZE == 0 {
            return None;
        }
        u64::try_from(raw.ia_size).ok()
    }

    /// Whether the change includes more than the size and the times that follow from a truncation.
    pub(crate) fn is_more_than_size(&mut self) -> bool {
        let with_size = c::ATTR_SIZE
            | c::ATTR_MTIME
            | c::ATTR_CTIME
            | c::ATTR_OPEN
            | c::ATTR_FILE
            | c::ATTR_FORCE
            | c::ATTR_TOUCH;
        let valid = self.raw().ia_valid;
        valid & c::ATTR_SIZE == 0 || valid & !with_size != 0
    }

    /// Whether the change may affect mode, owner or group.
    pub(crate) fn is_of_access(&mut self) -> bool {
        let access = c::ATTR_MODE
            | c::ATTR_UID
            | c::ATTR_GID
            | c::ATTR_KILL_SUID
            | c::ATTR_KILL_SGID
            | c::ATTR_KILL_PRIV;
        self.raw().ia_valid & access != 0
    }

    /// Whether the change sets atime or mtime.
    pub(crate) fn is_of_times(&mut self) -> bool {
        self.raw().ia_valid & (c::ATTR_MTIME | c::ATTR_ATIME) != 0
    }

    /// Whether only the access time changes, which is not logged.
    pub(crate) fn is_access_time_only(&mut self) -> bool {
        let valid = self.raw().ia_valid;
        valid & c::ATTR_ATIME != 0
            && valid
                & !(c::ATTR_ATIME
                    | c::ATTR_ATIME_SET
                    | c::ATTR_TIMES_SET
                    | c::ATTR_CTIME
                    | c::ATTR_TOUCH
                    | c::ATTR_FILE)
                == 0
    }

    /// The upper file that the change comes through (ATTR_FILE), if any.
    pub(crate) fn file(&mut self) -> Option<&'a UpperFile> {
        let raw = self.raw();
        if raw.ia_valid & c::ATTR_FILE == 0 || raw.ia_file.is_null() {
            return None;
        }
        // SAFETY: By the type invariant: the caller of notify_change() holds the file.
        Some(unsafe { UpperFile::from_raw(raw.ia_file) })
    }

    /// setattr_prepare() on the upper inode, as the caller.
    pub(crate) fn check(&mut self, dentry: &UpperDentry) -> Result {
        // SAFETY: A live dentry and change; our superblock has no id map.
        to_result(unsafe {
            c::setattr_prepare(&raw mut c::nop_mnt_idmap, dentry.as_ptr(), self.0.get())
        })
    }

    /// Adds ATTR_KILL_SUID and ATTR_KILL_SGID for set-id bits that the upper inode hides.
    pub(crate) fn drop_hidden_set_id(&mut self, mount: &LowerMount, lower: &Inode) {
        if !mount.limits().no_set_id {
            return;
        }
        let raw = self.raw();
        // SAFETY: A live inode.
        raw.ia_valid |= unsafe { c::lfs_set_id_to_drop(lower.as_ptr(), raw.ia_valid) };
    }

    /// Applies the change to the lower object, under the lower inode's lock. The caller has write
    /// access.
    pub(crate) fn apply(&mut self, mount: &LowerMount, lower: &Dentry) -> Result {
        let raw = self.raw();
        if raw.ia_valid & (c::ATTR_KILL_SUID | c::ATTR_KILL_SGID) != 0 {
            // notify_change() refuses ATTR_MODE together with ATTR_KILL_*; the lower filesystem
            // derives the mode.
            raw.ia_valid &= !c::ATTR_MODE;
        }
        // `ia_file` is the upper file, and the lower file was opened without O_TRUNC.
        raw.ia_valid &= !(c::ATTR_FILE | c::ATTR_OPEN);
        let inode = lower.inode().ok_or(ENOENT)?;
        let _lock = inode.lock();
        // SAFETY: A live dentry whose inode is locked, and a live change.
        to_result(unsafe {
            c::notify_change(mount.idmap(), lower.as_ptr(), self.0.get(), null_mut())
        })
    }
}

/// Sets the size of a lower file with the kernel's credentials. The caller does not hold the
/// inode's lock.
pub(crate) fn set_size(mount: &LowerMount, lower: &Dentry, size: u64) -> Result {
    let mut attr = c::iattr {
        ia_valid: c::ATTR_SIZE | c::ATTR_MTIME | c::ATTR_CTIME | c::ATTR_FORCE,
        ..Default::default()
    };
    attr.ia_size = i64::try_from(size).map_err(|_| EFBIG)?;
    let _write = mount.want_write()?;
    let inode = lower.inode().ok_or(ENOENT)?;
    let _lock = inode.lock();
    // SAFETY: A live dentry whose inode is locked, and a complete change.
    to_result(unsafe { c::notify_change(mount.idmap(), lower.as_ptr(), &mut attr, null_mut()) })
}

/// Clears S_ISGID. The caller has write access.
pub(crate) fn drop_set_group(mount: &LowerMount, lower: &Dentry) -> Result {
    let mut attr = c::iattr {
        ia_valid: c::ATTR_KILL_SGID | c::ATTR_CTIME,
        ..Default::default()
    };
    let inode = lower.inode().ok_or(ENOENT)?;
    let _lock = inode.lock();
    // SAFETY: A live dentry whose inode is locked, and a complete change.
    to_result(unsafe { c::notify_change(mount.idmap(), lower.as_ptr(), &mut attr, null_mut()) })
}

/// The object's change cookie. vfs_getattr_nosec() with STATX_CTIME marks a multigrain ctime as
/// queried, so any later change gets a different cookie.
pub(crate) fn cookie(mount: &LowerMount, lower: &Dentry) -> Result<Cookie> {
    let mut stat: c::kstat = pin_init::zeroed();
    let path = mount.path(lower);
    let _acting = mount.as_mounter();
    let mask = c::STATX_CTIME | c::STATX_SIZE | c::STATX_CHANGE_COOKIE;
    // SAFETY: A live path and a writable result.
    let err = unsafe { c::vfs_getattr_nosec(&path, &mut stat, mask, 0) };
    to_result(err)?;
    Ok(Cookie {
        ctime: Time {
            sec: stat.ctime.tv_sec,
            nsec: u32::try_from(stat.ctime.tv_nsec).unwrap_or(0),
        },
        size: u64::try_from(stat.size).unwrap_or(0),
        version: (stat.result_mask & c::STATX_CHANGE_COOKIE != 0).then_some(stat.change_cookie),
    })
}

/// Reads the target of a symbolic link into `buf`; returns its length.
pub(crate) fn read_link(mount: &LowerMount, lower: &Dentry, buf: &mut [u8]) -> Result<usize> {
    let room = c_int::try_from(buf.len()).map_err(|_| EINVAL)?;
    let _acting = mount.as_mounter();
    // SAFETY: A live dentry and a writable buffer.
    let length = unsafe { c::lfs_read_link(lower.as_ptr(), buf.as_mut_ptr().cast(), room) };
    to_result(length.min(0))?;
    usize::try_from(length).map_err(|_| EIO)
}

/// The object's `st_dev` on the lower filesystem, which differs between subvolumes.
pub(crate) fn device(mount: &LowerMount, lower: &Dentry) -> Result<u32> {
    let mut stat: c::kstat = pin_init::zeroed();
    let path = mount.path(lower);
    let _acting = mount.as_mounter();
    // SAFETY: A live path and a writable result.
    to_result(unsafe { c::vfs_getattr_nosec(&path, &mut stat, c::STATX_TYPE, 0) })?;
    Ok(stat.dev)
}

/// `->getattr`: the lower result with the upper `st_dev`.
pub(crate) fn stat(
    mount: &LowerMount,
    dentry: &UpperDentry,
    stat: &mut c::kstat,
    mask: u32,
    flags: u32,
) -> Result {
    let path = mount.path(dentry.lower()?);
    let _acting = mount.as_mounter();
    // SAFETY: A live path and a writable result.
    to_result(unsafe { c::vfs_getattr_nosec(&path, stat, mask, flags) })?;
    // SAFETY: A live superblock.
    stat.dev = unsafe { (*dentry.superblock().as_ptr()).s_dev };
    if dentry.upper_inode().is_some_and(UpperInode::is_orphan) {
        stat.nlink = 0;
    }
    Ok(())
}

/// Mode, owner and times of a lower object.
pub(crate) fn access_and_times(mount: &LowerMount, lower: &Dentry) -> Result<(Access, Times)> {
    let mut stat: c::kstat = pin_init::zeroed();
    let path = mount.path(lower);
    let _acting = mount.as_mounter();
    let mask = c::STATX_MODE | c::STATX_UID | c::STATX_GID | c::STATX_MTIME | c::STATX_ATIME;
    // SAFETY: A live path and a writable result.
    to_result(unsafe { c::vfs_getattr_nosec(&path, &mut stat, mask, 0) })?;
    let time = |t: c::timespec64| (t.tv_sec, u32::try_from(t.tv_nsec).unwrap_or(0));
    let access = Access {
        mode: u32::from(stat.mode) & c::S_IALLUGO,
        uid: stat.uid.val,
        gid: stat.gid.val,
    };
    let times = Times {
        modified: time(stat.mtime),
        accessed: time(stat.atime),
    };
    Ok((access, times))
}

/// Sets the differing ones of mode, owner and group, and the given times, as the caller. The caller
/// has write access.
pub(crate) fn set_access_and_times(
    mount: &LowerMount,
    lower: &Dentry,
    access: Option<&Access>,
    times: Option<&Times>,
) -> Result {
    let inode = lower.inode().ok_or(ENOENT)?;
    let _lock = inode.lock();
    let mut attr = change_of(mount, lower, access, times)?;
    // SAFETY: A live dentry whose inode is locked, and a complete change.
    to_result(unsafe { c::notify_change(mount.idmap(), lower.as_ptr(), &mut attr, null_mut()) })
}

/// Whether the caller may do [`set_access_and_times`], by setattr_prepare(). The checks of flags in
/// notify_change(), and quotas, are left out.
pub(crate) fn may_set_access_and_times(
    mount: &LowerMount,
    lower: &Dentry,
    access: Option<&Access>,
    times: Option<&Times>,
) -> Result {
    let mut attr = change_of(mount, lower, access, times)?;
    // SAFETY: A live dentry, and a complete change, which is not used any more.
    to_result(unsafe { c::setattr_prepare(mount.idmap(), lower.as_ptr(), &mut attr) })
}

/// The struct iattr with the differing attributes.
fn change_of(
    mount: &LowerMount,
    lower: &Dentry,
    access: Option<&Access>,
    times: Option<&Times>,
) -> Result<c::iattr> {
    let inode = lower.inode().ok_or(ENOENT)?;
    let (present, _) = access_and_times(mount, lower)?;
    let mut attr = c::iattr {
        ia_valid: c::ATTR_CTIME,
        ..Default::default()
    };
    if let Some(access) = access {
        let differs = |flag, yes: bool| if yes { flag } else { 0 };
        attr.ia_valid |= differs(c::ATTR_UID, access.uid != present.uid)
            | differs(c::ATTR_GID, access.gid != present.gid)
            // The mode of a symbolic link cannot be set.
            | differs(c::ATTR_MODE, !inode.is_symlink());
        // notify_change() expects the file type unchanged.
        attr.ia_mode = (inode.mode() & !c::S_IALLUGO | access.mode) as u16;
        attr.__bindgen_anon_1.ia_uid = c::kuid_t { val: access.uid };
        attr.__bindgen_anon_2.ia_gid = c::kgid_t { val: access.gid };
    }
    if let Some(times) = times {
        let set = |(tv_sec, tv_nsec): (i64, u32)| c::timespec64 {
            tv_sec,
            tv_nsec: tv_nsec as c_long,
        };
        attr.ia_valid |= c::ATTR_MTIME | c::ATTR_MTIME_SET | c::ATTR_ATIME | c::ATTR_ATIME_SET;
        attr.ia_mtime = set(times.modified);
        attr.ia_atime = set(times.accessed);
    }
    Ok(attr)
}

/// The file's flags; `None` without ->fileattr_get.
pub(crate) fn flags(mount: &LowerMount, lower: &Dentry) -> Result<Option<Flags>> {
    let mut raw = c::lfs_flags::default();
    let _acting = mount.as_mounter();
    // SAFETY: A live dentry and a writable result.
    match to_result(unsafe { c::lfs_get_flags(lower.as_ptr(), &mut raw) }) {
        Err(e) if e == ENOTTY || e == EOPNOTSUPP || e == ENOIOCTLCMD => Ok(None),
        Err(e) => Err(e),
        Ok(()) => Ok(Some(Flags {
            flags: raw.flags,
            xflags: raw.xflags,
            extent_size: raw.extent_size,
            project: raw.project,
            cow_extent_size: raw.cow_extent_size,
        })),
    }
}

/// Sets the differing file flags, as the caller, who has write access. FS_IOC_SETFLAGS and
/// FS_IOC_FSSETXATTR flags need one call each: fileattr_fill_flags() and fileattr_fill_xflags()
/// drop the bits that the other set does not know.
pub(crate) fn put_flags(mount: &LowerMount, lower: &Dentry, wanted: &Flags) -> Result {
    let (idmap, dentry) = (mount.idmap(), lower.as_ptr());
    if flags(mount, lower)?.ok_or(EOPNOTSUPP)?.flags != wanted.flags {
        // SAFETY: A live dentry.
        to_result(unsafe { c::lfs_set_flags(idmap, dentry, wanted.flags) })?;
    }
    let present = flags(mount, lower)?.ok_or(EOPNOTSUPP)?;
    let flags = wanted.flags;
    if (Flags { flags, ..present }) == *wanted {
        return Ok(());
    }
    let raw = c::lfs_flags {
        flags,
        xflags: wanted.xflags,
        extent_size: wanted.extent_size,
        project: wanted.project,
        cow_extent_size: wanted.cow_extent_size,
    };
    // SAFETY: A live dentry, and flags.
    to_result(unsafe { c::lfs_set_xflags(idmap, dentry, &raw) })
}

/// vfs_fileattr_get() of the lower file.
pub(crate) fn get_flags(mount: &LowerMount, lower: &Dentry, flags: &mut c::file_kattr) -> Result {
    let _acting = mount.as_mounter();
    // SAFETY: A live dentry and a writable result.
    to_result(unsafe { c::vfs_fileattr_get(lower.as_ptr(), flags) })
}

/// Whether the flags include FS_CASEFOLD_FL.
pub(crate) fn folds_case(flags: &c::file_kattr) -> bool {
    // SAFETY: The VFS's flags.
    unsafe { c::lfs_folds_case(flags) }
}

/// vfs_fileattr_set() of the lower file. The caller has write access.
pub(crate) fn set_flags(mount: &LowerMount, lower: &Dentry, flags: &mut c::file_kattr) -> Result {
    // SAFETY: A live dentry and the VFS's flags.
    to_result(unsafe { c::vfs_fileattr_set(mount.idmap(), lower.as_ptr(), flags) })
}

/// An object's file handle, as in a line's `fh=`. Returns the handle's type and length.
pub(crate) fn handle(inode: &super::inode::Inode, buf: &mut [u8; 64]) -> Option<(u8, usize)> {
    let mut aligned = [0u32; 16];
    let mut words = aligned.len() as c_int;
    // SAFETY: A live inode, and a buffer of `words` words.
    let kind = unsafe {
        c::exportfs_encode_inode_fh(
            inode.as_ptr(),
            aligned.as_mut_ptr().cast(),
            &mut words,
            null_mut(),
            0,
        )
    };
    let words = usize::try_from(words)
        .ok()
        .filter(|n| *n <= aligned.len())?;
    let kind = u8::try_from(kind).ok().filter(|k| *k != 0 && *k != 255)?;
    for (to, word) in buf.chunks_exact_mut(4).zip(aligned.iter().take(words)) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    Some((kind, words * 4))
}

/// Decodes a file handle (type byte, then the handle's bytes) to a dentry.
///
/// `ESTALE` if the object is gone. exportfs_decode_fh() returns that for a failed read, too, which must
/// not pass for an object that is gone; so this calls exportfs_decode_fh_raw(), and keeps `EIO`.
pub(crate) fn open_handle(mount: &LowerMount, handle: &[u8]) -> Result<ARef<Dentry>> {
    let (kind, bytes) = handle.split_first().ok_or(EINVAL)?;
    let mut words = [0u32; 16];
    if bytes.len() > size_of_val(&words) {
        return Err(EINVAL);
    }
    for (word, four) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
    }
    let count = c_int::try_from(bytes.len() / 4).map_err(|_| EINVAL)?;
    // exportfs_decode_fh_raw() reconnects a directory by looking up its path.
    let _acting = mount.as_mounter();
    for _ in 0..TRIES {
        // SAFETY: A live mount, a handle of `count` words, and a filter that needs no context.
        let dentry = unsafe {
            c::exportfs_decode_fh_raw(
                mount.as_ptr(),
                words.as_mut_ptr().cast(),
                count,
                c_int::from(*kind),
                0,
                Some(any),
                null_mut(),
            )
        };
        if dentry.is_null() {
            return Err(ESTALE);
        }
        // SAFETY: A reference or an error.
        match unsafe { Dentry::from_c(dentry) } {
            Err(e) if e == ENOMEM => sleep_one_tick(),
            Err(e) if e != EIO => return Err(ESTALE),
            found => return found,
        }
    }
    Err(ENOMEM)
}

/// Sleeps for one tick; shorter if a fatal signal arrives. The caller may sleep.
pub(crate) fn sleep_one_tick() {
    // SAFETY: Callers may sleep.
    unsafe { c::lfs_sleep_one_tick() };
}

/// Number of attempts. iget_locked() returns ENOMEM, too, if the inode is being evicted and its
/// number reused.
const TRIES: usize = 5;

extern "C" fn any(_context: *mut c_void, _dentry: *mut c::dentry) -> c_int {
    1
}
