// SPDX-License-Identifier: GPL-2.0

//! Names in lower directories: lookup, creation, removal, rename.
//!
//! Order: write access to the lower mount ([`LowerMount::want_write`]), then a guard (the lower
//! directory's lock), then the change.
//!
//! C header: [`include/linux/namei.h`](srctree/include/linux/namei.h)

use super::error::{ENAMETOOLONG, ESTALE};
use super::{c, cred::OverriddenCreds, dentry::Dentry, inode::Inode, mount::LowerMount};
use core::ptr::null_mut;
use kernel::{
    error::to_result,
    prelude::*,
    str::CStr,
    sync::aref::ARef, //
};

/// A struct qstr.
fn qstr(name: &[u8]) -> Result<c::qstr> {
    let mut q = c::qstr {
        name: name.as_ptr(),
        ..Default::default()
    };
    q.__bindgen_anon_1.__bindgen_anon_1.len =
        u32::try_from(name.len()).map_err(|_| ENAMETOOLONG)?;
    Ok(q)
}

/// Looks up `name` in the lower directory `parent`; the result may be negative.
pub(crate) fn lookup(mount: &LowerMount, parent: &Dentry, name: &[u8]) -> Result<ARef<Dentry>> {
    let mut q = qstr(name)?;
    parent.directory()?;
    let _acting = mount.as_mounter();
    // SAFETY: A counted string and a live directory, which is not locked.
    let found = unsafe { c::lookup_noperm_unlocked(&mut q, parent.as_ptr()) };
    // SAFETY: A reference or an error.
    unsafe { Dentry::from_c(found) }
}

/// A lower name, as the upper dentry has it. A direct change of the lower filesystem may have moved
/// the name, so each operation compares under the lower directory's lock.
#[derive(Clone, Copy)]
pub(crate) struct LowerName<'a> {
    /// The directory.
    pub(crate) parent: &'a Dentry,
    /// The dentry that the name was bound to.
    pub(crate) dentry: &'a Dentry,
    /// The name; stable by the upper directory's lock, not the lower one's.
    pub(crate) name: &'a [u8],
}

impl LowerName<'_> {
    /// Any name: in the history's own directories, which only the history changes.
    pub(crate) const ANY: &'static [u8] = b"";

    fn is_called(&self, name: &[u8]) -> bool {
        self.name == Self::ANY || self.name == name
    }

    /// `ENOENT`: the name does not exist any more. `ESTALE`: the name is bound to another object,
    /// which the VFS has not checked; on ESTALE the VFS repeats the path lookup once.
    pub(crate) fn check(&self, mount: &LowerMount) -> Result {
        if self.name == Self::ANY {
            return Ok(());
        }
        let q = qstr(self.name)?;
        let dir = self.parent.inode().ok_or(ENOENT)?;
        // SAFETY: A counted string, a live dentry, and a directory that is compared only.
        if unsafe { c::lfs_same_place(&q, self.dentry.as_ptr(), dir.as_ptr()) } {
            return Ok(());
        }
        match lookup(mount, self.parent, self.name)?.inode() {
            Some(_) => Err(ESTALE),
            None => Err(ENOENT),
        }
    }

    /// The error of [`Self::check`], else `error`.
    fn explain(&self, mount: &LowerMount, error: Error) -> Error {
        self.check(mount).err().unwrap_or(error)
    }
}

/// A locked lower directory and a name to be created or removed (start_dirop()).
pub(crate) struct DirOpGuard<'a> {
    mount: &'a LowerMount,
    dentry: *mut c::dentry,
}

impl Drop for DirOpGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: A dentry (or, after a failed mkdir, an error) of one of the start functions.
        unsafe { c::end_dirop(self.dentry) };
    }
}

impl<'a> DirOpGuard<'a> {
    fn new(mount: &'a LowerMount, dentry: *mut c::dentry) -> Result<Self> {
        let dentry = kernel::error::from_err_ptr(dentry)?;
        Ok(Self { mount, dentry })
    }

    /// Locks `parent` for the creation of `name`; EEXIST if the name exists.
    pub(crate) fn start_creating(
        mount: &'a LowerMount,
        parent: &Dentry,
        name: &[u8],
    ) -> Result<Self> {
        let mut q = qstr(name)?;
        parent.directory()?;
        // SAFETY: A live directory that is not locked, and a counted string.
        let dentry = unsafe { c::start_creating_noperm(parent.as_ptr(), &mut q) };
        let locked = Self::new(mount, dentry)?;
        if locked.dentry().inode().is_some() {
            return Err(EEXIST);
        }
        Ok(locked)
    }

    /// As [`DirOpGuard::start_creating`], with the negative dentry `child` of an earlier lookup.
    pub(crate) fn start_creating_dentry(
        mount: &'a LowerMount,
        parent: &Dentry,
        child: &Dentry,
        name: &[u8],
    ) -> Result<Self> {
        parent.directory()?;
        // SAFETY: A live directory that is not locked, and a live dentry.
        let dentry = unsafe { c::start_creating_dentry(parent.as_ptr(), child.as_ptr()) };
        let locked = Self::new(mount, dentry);
        let is_settled = match &locked {
            Ok(locked) => locked.name() == name,
            Err(e) => *e == EEXIST,
        };
        if is_settled {
            return locked;
        }
        // A direct lower rename has moved the dentry, or a lookup by this name finds another one.
        drop(locked);
        Self::start_creating(mount, parent, name)
    }

    /// Locks the parent of `at` to remove the name.
    pub(crate) fn start_removing_dentry(mount: &'a LowerMount, at: &LowerName<'_>) -> Result<Self> {
        at.parent.directory()?;
        let (parent, child) = (at.parent.as_ptr(), at.dentry.as_ptr());
        // SAFETY: A live directory that is not locked, and a live dentry.
        let dentry = unsafe { c::start_removing_dentry(parent, child) };
        match Self::new(mount, dentry) {
            // start_removing_dentry() checks the parent, not the name.
            Ok(locked) if at.is_called(locked.name()) => Ok(locked),
            Ok(locked) => {
                drop(locked);
                Err(at.explain(mount, ESTALE))
            }
            // A direct lower rename or removal came first.
            Err(_) => Err(at.explain(mount, ESTALE)),
        }
    }

    /// The name's dentry.
    pub(crate) fn dentry(&self) -> &Dentry {
        // SAFETY: A dentry of one of the start functions: a failed `mkdir` keeps the
        // guard.
        unsafe { Dentry::from_raw(self.dentry) }
    }

    /// The present name of the dentry.
    fn name(&self) -> &[u8] {
        // SAFETY: The guard holds the directory's lock.
        unsafe { self.dentry().name_bytes() }
    }

    /// Credentials for the creation of the name's object.
    fn labelling(&self, mode: u16) -> Result<Option<OverriddenCreds<'a>>> {
        let mount: &'a LowerMount = self.mount;
        mount.credentials().labelling(self.dentry(), mode)
    }

    fn directory(&self) -> *mut c::inode {
        // SAFETY: A live dentry whose parent is locked, so `d_parent` is stable.
        let parent = unsafe { (*self.dentry).d_parent };
        // SAFETY: As above.
        unsafe { (*parent).d_inode }
    }

    pub(crate) fn create(&self, mode: u16) -> Result {
        let _acting = self.labelling(mode | c::S_IFREG as u16)?;
        // SAFETY: The directory is locked and the name free.
        to_result(unsafe { c::vfs_create(self.mount.idmap(), self.dentry, mode, null_mut()) })
    }

    /// Makes a directory. vfs_mkdir() may return another dentry, which the guard holds afterwards.
    pub(crate) fn mkdir(mut self, mode: u16) -> Result<Self> {
        let _acting = self.labelling(mode | c::S_IFDIR as u16)?;
        let (idmap, dir, dentry) = (self.mount.idmap(), self.directory(), self.dentry);
        // SAFETY: The directory is locked and the name free; vfs_mkdir() consumes the reference
        // when returning another dentry or an error, and end_dirop() accepts both.
        let made = unsafe { c::vfs_mkdir(idmap, dir, dentry, mode, null_mut()) };
        self.dentry = made;
        kernel::error::from_err_ptr(made)?;
        Ok(self)
    }

    pub(crate) fn mknod(&self, mode: u16, device: u32) -> Result {
        let _acting = self.labelling(mode)?;
        // SAFETY: The directory is locked and the name free.
        to_result(unsafe {
            c::vfs_mknod(
                self.mount.idmap(),
                self.directory(),
                self.dentry,
                mode,
                device,
                null_mut(),
            )
        })
    }

    pub(crate) fn symlink(&self, target: &CStr) -> Result {
        let _acting = self.labelling(c::S_IFLNK as u16)?;
        // SAFETY: The directory is locked and the name free; a C string.
        to_result(unsafe {
            c::vfs_symlink(
                self.mount.idmap(),
                self.directory(),
                self.dentry,
                target.as_char_ptr(),
                null_mut(),
            )
        })
    }

    /// vfs_link(): adds the name to `old`.
    pub(crate) fn link(&self, old: &Dentry) -> Result {
        // SAFETY: The directory is locked and the name free; `old` is positive.
        to_result(unsafe {
            c::vfs_link(
                old.as_ptr(),
                self.mount.idmap(),
                self.directory(),
                self.dentry,
                null_mut(),
            )
        })
    }

    pub(crate) fn unlink(&self) -> Result {
        // SAFETY: The directory is locked and the name there.
        to_result(unsafe {
            c::vfs_unlink(
                self.mount.idmap(),
                self.directory(),
                self.dentry,
                null_mut(),
            )
        })
    }

    pub(crate) fn rmdir(&self) -> Result {
        // SAFETY: The directory is locked and the name there.
        to_result(unsafe {
            c::vfs_rmdir(
                self.mount.idmap(),
                self.directory(),
                self.dentry,
                null_mut(),
            )
        })
    }
}

/// Renames `from` to `name` in `to`, with the flags of renameat2().
///
/// `expected` is the inode that the target is known to be bound to; another inode is ESTALE. A
/// negative target is accepted too, since nothing is replaced then.
pub(crate) fn rename(
    mount: &LowerMount,
    from: &LowerName<'_>,
    (to, name): (&Dentry, &[u8]),
    expected: Option<&Inode>,
    flags: u32,
) -> Result {
    let mut q = qstr(name)?;
    from.parent.directory()?;
    to.directory()?;
    if !core::ptr::eq(from.parent.superblock(), to.superblock()) {
        return Err(EXDEV);
    }
    let mut data = c::renamedata {
        mnt_idmap: mount.idmap(),
        old_parent: from.parent.as_ptr(),
        new_parent: to.as_ptr(),
        flags,
        ..Default::default()
    };
    // SAFETY: Live directories of one filesystem, neither of them locked, and a live dentry.
    let err = unsafe { c::start_renaming_dentry(&mut data, 0, from.dentry.as_ptr(), &mut q) };
    to_result(err).map_err(|e| {
        if e == EINVAL {
            from.explain(mount, e)
        } else {
            e
        }
    })?;
    // SAFETY: Both are filled in by the call above.
    let (source, target) = unsafe {
        (
            Dentry::from_raw(data.old_dentry),
            Dentry::from_raw(data.new_dentry),
        )
    };
    let same_target = match (target.inode(), expected) {
        (None, _) => true,
        (Some(there), Some(known)) => core::ptr::eq(there, known),
        _ => false,
    };
    // start_renaming_dentry() checks the parent, not the name.
    // SAFETY: Both directories are locked until end_renaming().
    let same_source = from.is_called(unsafe { source.name_bytes() });
    let result = if same_source && same_target {
        // SAFETY: Both directories are locked and the data complete.
        to_result(unsafe { c::vfs_rename(&mut data) })
    } else {
        Err(ESTALE)
    };
    // SAFETY: Undoes start_renaming_dentry().
    unsafe { c::end_renaming(&mut data) };
    if same_source {
        result
    } else {
        Err(from.explain(mount, ESTALE))
    }
}
