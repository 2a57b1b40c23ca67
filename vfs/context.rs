// SPDX-License-Identifier: GPL-2.0

//! Mounting: `fs_context`, its options and its error log.
//!
//! C header: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h)

use super::{c, superblock::SuperBlock, table::Table, FileSystem, Fs};
use kernel::{
    error::{from_result, to_result},
    prelude::*,
    str::{CStr, CString}, //
};

/// What a stackable filesystem does at mount and remount.
pub(crate) trait MountHooks: FileSystem {
    /// What the options say.
    type Options: Default;

    /// Takes in one option. `Ok(false)`: not an option of ours.
    fn parse(
        options: &mut Self::Options,
        key: &[u8],
        value: Option<&CStr>,
        report: &Report,
    ) -> Result<bool>;

    /// Fills a new superblock, by [`SuperBlock::prepare`].
    fn fill(
        sb: &SuperBlock,
        options: &Self::Options,
        source: Option<&CStr>,
        report: &Report,
    ) -> Result;

    /// Takes over what a remount may change; `read_only` as far as it is to change.
    fn reconfigure(
        sb: &SuperBlock,
        options: &Self::Options,
        read_only: Option<bool>,
        report: &Report,
    ) -> Result;
}

type Options = <Fs as MountHooks>::Options;

/// The mount's error log, which mount(8) prints.
pub(crate) struct Report(*mut c::fs_context);

impl Report {
    /// Says why the mount is refused: one sentence, no newline.
    pub(crate) fn say(&self, sentence: core::fmt::Arguments<'_>) {
        let Ok(text) = CString::try_from_fmt(sentence) else {
            return;
        };
        // SAFETY: A live context for as long as the report; a C string.
        unsafe { c::lfs_fs_error(self.0, text.as_char_ptr()) };
    }
}

static OPERATIONS: Table<c::fs_context_operations> = Table(c::fs_context_operations {
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
        let options = KBox::new(Options::default(), GFP_KERNEL)?;
        // SAFETY: The caller passes a live context that is ours to fill.
        unsafe { (*fc).fs_private = KBox::into_raw(options).cast() };
        // SAFETY: As above.
        unsafe { (*fc).ops = &OPERATIONS.0 };
        Ok(0)
    })
}

/// # Safety
///
/// `fc` is a context that [`init`] prepared and that nobody else uses.
unsafe fn options<'a>(fc: *mut c::fs_context) -> &'a mut Options {
    // SAFETY: The caller vouches for the context.
    let private = unsafe { (*fc).fs_private };
    // SAFETY: Set in `init`; the context's mutex keeps others away.
    unsafe { &mut *private.cast::<Options>() }
}

/// # Safety
///
/// Called by the VFS once, when nobody uses `fc`, a context of ours, any more.
unsafe extern "C" fn free(fc: *mut c::fs_context) {
    // SAFETY: The VFS passes a context of ours.
    let private = unsafe { core::mem::replace(&mut (*fc).fs_private, core::ptr::null_mut()) };
    if !private.is_null() {
        // SAFETY: It came out of a box in `init`.
        drop(unsafe { KBox::from_raw(private.cast::<Options>()) });
    }
}

/// # Safety
///
/// Called by the VFS with a context that [`init`] prepared, which nobody else uses during the call,
/// and a whole parameter.
unsafe extern "C" fn parse_param(fc: *mut c::fs_context, param: *mut c::fs_parameter) -> c_int {
    from_result(|| {
        // SAFETY: The VFS passes live arguments.
        let err = unsafe { c::vfs_parse_fs_param_source(fc, param) };
        // Not `source`: ours to look at.
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
                // SAFETY: The type says that it is a string.
                Some(unsafe { CStr::from_char_ptr((*param).__bindgen_anon_1.string) })
            }
            _ => return Err(EINVAL),
        };
        // SAFETY: The VFS holds the context's mutex.
        let options = unsafe { options(fc) };
        if <Fs as MountHooks>::parse(options, key.to_bytes(), value, &Report(fc))? {
            Ok(0)
        } else {
            Ok(-NO_PARAMETER)
        }
    })
}

/// `ENOPARAM`: the VFS then says "Unknown parameter".
const NO_PARAMETER: c_int = c::ENOPARAM as c_int;

/// # Safety
///
/// Called by the VFS with a context that [`init`] prepared, which nobody else uses during the call.
unsafe extern "C" fn get_tree(fc: *mut c::fs_context) -> c_int {
    // SAFETY: A live context; `fill_super` is of the type that it asks for.
    unsafe { c::get_tree_nodev(fc, Some(fill_super)) }
}

/// # Safety
///
/// Called by get_tree_nodev() with a new superblock, which it has locked, and the context of
/// [`get_tree`].
unsafe extern "C" fn fill_super(sb: *mut c::super_block, fc: *mut c::fs_context) -> c_int {
    from_result(|| {
        // SAFETY: The VFS passes a new superblock.
        let sb = unsafe { SuperBlock::from_raw(sb) };
        // SAFETY: A live context.
        let source = unsafe { (*fc).source };
        // SAFETY: The source, when there is one, is a C string that the context owns.
        let source = (!source.is_null()).then(|| unsafe { CStr::from_char_ptr(source) });
        // SAFETY: The VFS holds the context's mutex.
        let options = unsafe { options(fc) };
        <Fs as MountHooks>::fill(sb, options, source, &Report(fc))?;
        Ok(0)
    })
}

/// # Safety
///
/// Called by the VFS with a context that [`init`] prepared, which nobody else uses during the call,
/// and whose `root` is a live dentry of ours.
unsafe extern "C" fn reconfigure(fc: *mut c::fs_context) -> c_int {
    from_result(|| {
        // SAFETY: In a reconfiguration `root` is a live dentry of ours.
        let sb = unsafe { (*(*fc).root).d_sb };
        // SAFETY: As above.
        let sb = unsafe { SuperBlock::from_raw(sb) };
        // SAFETY: The VFS holds the context's mutex.
        let options = unsafe { options(fc) };
        // SAFETY: A live context.
        let (flags, mask) = unsafe { ((*fc).sb_flags, (*fc).sb_flags_mask) };
        let read_only = mask as c_ulong & c::SB_RDONLY != 0;
        let read_only = read_only.then_some(flags as c_ulong & c::SB_RDONLY != 0);
        <Fs as MountHooks>::reconfigure(sb, options, read_only, &Report(fc))?;
        Ok(0)
    })
}
