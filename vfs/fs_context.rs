// SPDX-License-Identifier: GPL-2.0

//! Mounting: `fs_context`, options and the error log.
//!
//! C header: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h)

use super::{
    c,
    mount::MountLimits,
    superblock::{NewSuperBlock, UpperSuperBlock},
    table::{superblock::SuperHooks, OpsTable},
    FileSystem, Fs,
};
use kernel::{
    error::{from_err_ptr, from_result, to_result},
    prelude::*,
    str::{CStr, CString}, //
};

/// Mount and remount of a stackable filesystem.
pub(crate) trait MountHooks: FileSystem {
    /// The parsed mount options.
    type Options: Default;

    /// Parses one option. `Ok(false)`: unknown option.
    fn parse(
        options: &mut Self::Options,
        key: &[u8],
        value: Option<&CStr>,
        report: &MountReport,
    ) -> Result<bool>;

    /// Fills a new superblock, by [`NewSuperBlock::prepare`].
    fn fill(
        sb: NewSuperBlock<'_>,
        options: &Self::Options,
        source: Option<&CStr>,
        report: &MountReport,
    ) -> Result;

    /// Whether the source is a directory, which may be mounted already.
    fn is_directory(options: &Self::Options, source: &CStr) -> bool;

    /// Checks that the options of a further mount of the same source agree with the first mount's.
    fn join(sb: &UpperSuperBlock, options: &Self::Options, report: &MountReport) -> Result;

    /// Applies a remount. `read_only` is None if SB_RDONLY does not change.
    fn reconfigure(
        sb: &UpperSuperBlock,
        options: &Self::Options,
        read_only: Option<bool>,
        report: &MountReport,
    ) -> Result;
}

type Options = <Fs as MountHooks>::Options;

/// The context's error log, which mount(8) prints.
pub(crate) struct MountReport(*mut c::fs_context);

impl MountReport {
    /// Adds the reason of a failed mount: one sentence, no newline.
    pub(crate) fn say(&self, sentence: core::fmt::Arguments<'_>) {
        let Ok(text) = CString::try_from_fmt(sentence) else {
            return;
        };
        // SAFETY: A live context for as long as the report; a C string.
        unsafe { c::lfs_fs_error(self.0, text.as_char_ptr()) };
    }
}

static OPERATIONS: OpsTable<c::fs_context_operations> = OpsTable(c::fs_context_operations {
    free: Some(free),
    dup: None,
    parse_param: Some(parse_param),
    parse_monolithic: None,
    get_tree: Some(get_tree),
    reconfigure: Some(reconfigure),
});

/// Prepares a new context.
///
/// # Safety
///
/// `fc` is a new context of our type.
pub(crate) unsafe fn init(fc: *mut c::fs_context) -> c_int {
    from_result(|| {
        let private = KBox::new(ContextPrivate::default(), GFP_KERNEL)?;
        // SAFETY: The caller passes a live context that is ours to fill.
        unsafe { (*fc).fs_private = KBox::into_raw(private).cast() };
        // SAFETY: As above.
        unsafe { (*fc).ops = &OPERATIONS.0 };
        Ok(0)
    })
}

/// ContextPrivate data of a context.
struct ContextPrivate {
    options: Options,
    /// The superblock that has the source mounted, for comparison only; null if none.
    shared: *mut c::super_block,
}

impl Default for ContextPrivate {
    fn default() -> Self {
        Self {
            options: Options::default(),
            shared: core::ptr::null_mut(),
        }
    }
}

/// # Safety
///
/// `fc` is a context that [`init`] prepared and that no other task uses.
unsafe fn private<'a>(fc: *mut c::fs_context) -> &'a mut ContextPrivate {
    // SAFETY: The caller guarantees that the context is valid.
    let private = unsafe { (*fc).fs_private };
    // SAFETY: Set in `init`; the context's mutex keeps others away.
    unsafe { &mut *private.cast::<ContextPrivate>() }
}

/// # Safety
///
/// As for [`private`].
unsafe fn options<'a>(fc: *mut c::fs_context) -> &'a mut Options {
    // SAFETY: The caller guarantees that the context is valid.
    &mut unsafe { private(fc) }.options
}

/// # Safety
///
/// Called by the VFS once, with the last reference to `fc`, a context of ours.
unsafe extern "C" fn free(fc: *mut c::fs_context) {
    // SAFETY: The VFS passes a context of ours.
    let private = unsafe { core::mem::replace(&mut (*fc).fs_private, core::ptr::null_mut()) };
    if !private.is_null() {
        // SAFETY: Boxed in `init`.
        drop(unsafe { KBox::from_raw(private.cast::<ContextPrivate>()) });
    }
}

/// # Safety
///
/// Called by the VFS with a context that [`init`] prepared, which no other task uses during the
/// call, and a whole parameter.
unsafe extern "C" fn parse_param(fc: *mut c::fs_context, param: *mut c::fs_parameter) -> c_int {
    from_result(|| {
        // SAFETY: The VFS passes live arguments.
        let err = unsafe { c::vfs_parse_fs_param_source(fc, param) };
        // Any option but `source`.
        if err != -NO_PARAMETER {
            to_result(err)?;
            return Ok(0);
        }
        // SAFETY: A parameter has a key.
        let key = unsafe { CStr::from_char_ptr((*param).key) };
        // SAFETY: As above.
        let kind = unsafe { (*param).type_() };
        let value = match kind {
            c::fs_value_type_fs_value_is_flag => None,
            c::fs_value_type_fs_value_is_string => {
                // SAFETY: The parameter's type is string.
                Some(unsafe { CStr::from_char_ptr((*param).__bindgen_anon_1.string) })
            }
            _ => return Err(EINVAL),
        };
        // SAFETY: The VFS holds the context's mutex.
        let options = unsafe { options(fc) };
        if <Fs as MountHooks>::parse(options, key.to_bytes(), value, &MountReport(fc))? {
            Ok(0)
        } else {
            Ok(-NO_PARAMETER)
        }
    })
}

/// `ENOPARAM`: the VFS reports "Unknown parameter".
const NO_PARAMETER: c_int = c::ENOPARAM as c_int;

/// # Safety
///
/// Called by the VFS with a context that [`init`] prepared, which no other task uses during the
/// call.
unsafe extern "C" fn get_tree(fc: *mut c::fs_context) -> c_int {
    from_result(|| {
        // SAFETY: A live context of ours.
        let source = unsafe { source_directory(fc) };
        let shown = || {
            let source = source.as_ref()?;
            let shared = source.superblock();
            (!shared.is_null()).then_some((source, shared))
        };
        let found = match shown() {
            Some(found) => found,
            None => {
                // SAFETY: A live context; `fill_super` has the expected type.
                let err = unsafe { c::get_tree_nodev(fc, Some(fill_super)) };
                // A concurrent mount of the source may have locked the history.
                let found = (err == EBUSY.to_errno()).then(shown).flatten();
                let Some(found) = found else {
                    return Ok(err);
                };
                found
            }
        };
        // SAFETY: A live context of ours.
        unsafe { get_shared_tree(fc, found) }.map(|()| 0)
    })
}

/// Joins the superblock that has the source mounted; if the superblock has died meanwhile, makes a
/// new one.
///
/// # Safety
///
/// `fc` is a live context of ours.
unsafe fn get_shared_tree(
    fc: *mut c::fs_context,
    (source, shared): (&SourceDirectory, *mut c::super_block),
) -> Result {
    // SAFETY: A live context of ours.
    unsafe { private(fc) }.shared = shared;
    // SAFETY: A live context; both functions have the expected type.
    let sb = unsafe { c::sget_fc(fc, Some(is_shared), Some(c::set_anon_super_fc)) };
    let sb = from_err_ptr(sb)?;
    // SAFETY: A live context of ours, and a superblock of ours that this thread has locked.
    match unsafe { join(fc, sb, source) } {
        // SAFETY: A filled superblock has a root; the context takes the reference over.
        Ok(()) => unsafe { (*fc).root = c::lfs_dget((*sb).s_root) },
        Err(e) => {
            // SAFETY: sget_fc() gave us an active reference, and its lock.
            unsafe { c::deactivate_locked_super(sb) };
            return Err(e);
        }
    }
    Ok(())
}

/// The directory that a context names, with a reference to its mount.
struct SourceDirectory(c::path);

impl Drop for SourceDirectory {
    fn drop(&mut self) {
        // SAFETY: kern_path() gave us the references.
        unsafe { c::path_put(&self.0) };
    }
}

impl SourceDirectory {
    /// Whether `sb`, a filled superblock of ours, has this directory as its lower root, or as its
    /// own root.
    fn is_of(&self, sb: &UpperSuperBlock) -> bool {
        let lower = <Fs as SuperHooks>::lower(sb.mount()).root();
        // SAFETY: A live superblock.
        let root = unsafe { (*sb.as_ptr()).s_root };
        self.0.dentry == root || self.0.dentry == lower.as_ptr()
    }

    /// The superblock of ours for which [`SourceDirectory::is_of`] is true, or null. May be freed
    /// before this returns, so callers only compare the pointer.
    ///
    /// Waits for running mounts and unmounts of LoggerFS, as sync(2) does.
    fn superblock(&self) -> *mut c::super_block {
        let mut search = SuperBlockSearch {
            source: self,
            found: core::ptr::null_mut(),
        };
        let argument = (&raw mut search).cast();
        // SAFETY: A registered type; `argument` has the type that `compare` expects.
        unsafe { c::iterate_supers_type(super::mount::type_ptr(), Some(compare), argument) };
        search.found
    }
}

/// Argument and result of [`compare`].
struct SuperBlockSearch<'a> {
    source: &'a SourceDirectory,
    found: *mut c::super_block,
}

/// The context's source, if kern_path() finds a directory. Otherwise [`MountHooks::fill`] reports
/// the reason.
///
/// # Safety
///
/// `fc` is a live context of ours.
unsafe fn source_directory(fc: *mut c::fs_context) -> Option<SourceDirectory> {
    // SAFETY: A live context.
    let source = unsafe { (*fc).source };
    if source.is_null() {
        return None;
    }
    // SAFETY: The source is a C string that the context owns.
    let source = unsafe { CStr::from_char_ptr(source) };
    // SAFETY: A live context of ours.
    if !<Fs as MountHooks>::is_directory(unsafe { options(fc) }, source) {
        return None;
    }
    let mut path: c::path = pin_init::zeroed();
    let flags = c::LOOKUP_FOLLOW | c::LOOKUP_DIRECTORY;
    // SAFETY: A C string and a writable result.
    let err = unsafe { c::kern_path(source.as_char_ptr(), flags, &mut path) };
    (err == 0).then_some(SourceDirectory(path))
}

/// # Safety
///
/// Called by iterate_supers_type() with a filled superblock of ours, whose `s_umount` is held
/// for reading, and the [`SuperBlockSearch`] of [`SourceDirectory::superblock`].
unsafe extern "C" fn compare(sb: *mut c::super_block, search: *mut c_void) {
    // SAFETY: By the contract above.
    let search = unsafe { &mut *search.cast::<SuperBlockSearch<'_>>() };
    // SAFETY: A live superblock, which was filled: others are not iterated over.
    let upper = unsafe { UpperSuperBlock::from_raw(sb) };
    if search.source.is_of(upper) {
        search.found = sb;
    }
}

/// # Safety
///
/// Called by sget_fc() under `sb_lock`, with a context of ours: pointers are compared only.
unsafe extern "C" fn is_shared(sb: *mut c::super_block, fc: *mut c::fs_context) -> c_int {
    // SAFETY: A live context of ours, used by this thread only.
    c_int::from(unsafe { private(fc) }.shared == sb)
}

/// Attaches the context to `sb` as one more mount. If the superblock that was found has died
/// meanwhile, `sb` is new and gets filled.
///
/// # Safety
///
/// `fc` is a live context of ours; `sb` comes from sget_fc() with `fc`, locked.
unsafe fn join(
    fc: *mut c::fs_context,
    sb: *mut c::super_block,
    source: &SourceDirectory,
) -> Result {
    // SAFETY: A live superblock that this thread has locked.
    let root = unsafe { (*sb).s_root };
    if root.is_null() {
        // SAFETY: As vfs_get_super() does with a new superblock.
        to_result(unsafe { fill_super(sb, fc) })?;
        // SAFETY: This thread has locked `sb`.
        unsafe { (*sb).s_flags |= c::SB_ACTIVE };
        return Ok(());
    }
    // SAFETY: A live context of ours.
    let options = unsafe { options(fc) };
    // SAFETY: A live superblock of ours, which was filled, since it has a root.
    let sb = unsafe { UpperSuperBlock::from_raw(sb) };
    if !source.is_of(sb) {
        // Another superblock was allocated at the same address.
        return Err(EBUSY);
    }
    // SAFETY: A live context.
    let read_only = unsafe { (*fc).sb_flags } as c_ulong & c::SB_RDONLY != 0;
    if read_only != sb.is_read_only() {
        MountReport(fc).say(fmt!(
            "the source is mounted already, {}; bind that mount and remount the new one",
            if read_only { "writable" } else { "read-only" }
        ));
        return Err(EBUSY);
    }
    // SAFETY: The source holds its mount.
    let limits = unsafe { MountLimits::of(source.0.mnt) };
    if let Some(name) = limits.beyond(<Fs as SuperHooks>::lower(sb.mount()).limits()) {
        MountReport(fc).say(fmt!(
            "the source's mount is {}, and the mount of it that is there already is not; bind that one, and remount the new one with {}",
            name,
            name
        ));
        return Err(EBUSY);
    }
    <Fs as MountHooks>::join(sb, options, &MountReport(fc))
}

/// # Safety
///
/// Called by get_tree_nodev() or [`join`] with a new, locked superblock and the context of
/// [`get_tree`].
unsafe extern "C" fn fill_super(sb: *mut c::super_block, fc: *mut c::fs_context) -> c_int {
    from_result(|| {
        // SAFETY: The VFS passes a new superblock.
        let sb = unsafe { NewSuperBlock::from_raw(sb) };
        // SAFETY: A live context.
        let source = unsafe { (*fc).source };
        // SAFETY: The source, when there is one, is a C string that the context owns.
        let source = (!source.is_null()).then(|| unsafe { CStr::from_char_ptr(source) });
        // SAFETY: The VFS holds the context's mutex.
        let options = unsafe { options(fc) };
        <Fs as MountHooks>::fill(sb, options, source, &MountReport(fc))?;
        Ok(0)
    })
}

/// # Safety
///
/// Called by the VFS with a context that [`init`] prepared, which no other task uses during the
/// call, and whose `root` is a live dentry of ours.
unsafe extern "C" fn reconfigure(fc: *mut c::fs_context) -> c_int {
    from_result(|| {
        // SAFETY: In a reconfiguration `root` is a live dentry of ours.
        let sb = unsafe { (*(*fc).root).d_sb };
        // SAFETY: As above: a filled superblock.
        let sb = unsafe { UpperSuperBlock::from_raw(sb) };
        // SAFETY: The VFS holds the context's mutex.
        let options = unsafe { options(fc) };
        // SAFETY: A live context.
        let (flags, mask) = unsafe { ((*fc).sb_flags, (*fc).sb_flags_mask) };
        let read_only = mask as c_ulong & c::SB_RDONLY != 0;
        let read_only = read_only.then_some(flags as c_ulong & c::SB_RDONLY != 0);
        <Fs as MountHooks>::reconfigure(sb, options, read_only, &MountReport(fc))?;
        Ok(0)
    })
}
