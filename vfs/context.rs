// SPDX-License-Identifier: GPL-2.0

//! Mounting: `fs_context`, its options and its error log.
//!
//! C header: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h)

use super::{
    c,
    mount::Limits,
    superblock::SuperBlock,
    table::{superblock::SuperHooks, Table},
    FileSystem, Fs,
};
use kernel::{
    error::{from_err_ptr, from_result, to_result},
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

    /// Whether the source is a directory, which another mount may show already.
    fn is_directory(options: &Self::Options, source: &CStr) -> bool;

    /// Checks that a further mount of the source of `sb` asks for nothing that the first one has
    /// otherwise.
    fn join(sb: &SuperBlock, options: &Self::Options, report: &Report) -> Result;

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
        let private = KBox::new(Private::default(), GFP_KERNEL)?;
        // SAFETY: The caller passes a live context that is ours to fill.
        unsafe { (*fc).fs_private = KBox::into_raw(private).cast() };
        // SAFETY: As above.
        unsafe { (*fc).ops = &OPERATIONS.0 };
        Ok(0)
    })
}

/// State of a context.
struct Private {
    options: Options,
    /// The superblock that shows the source already, to be compared only; null: none does.
    shared: *mut c::super_block,
}

impl Default for Private {
    fn default() -> Self {
        Self {
            options: Options::default(),
            shared: core::ptr::null_mut(),
        }
    }
}

/// # Safety
///
/// `fc` is a context that [`init`] prepared and that nobody else uses.
unsafe fn private<'a>(fc: *mut c::fs_context) -> &'a mut Private {
    // SAFETY: The caller vouches for the context.
    let private = unsafe { (*fc).fs_private };
    // SAFETY: Set in `init`; the context's mutex keeps others away.
    unsafe { &mut *private.cast::<Private>() }
}

/// # Safety
///
/// As for [`private`].
unsafe fn options<'a>(fc: *mut c::fs_context) -> &'a mut Options {
    // SAFETY: The caller vouches for the context.
    &mut unsafe { private(fc) }.options
}

/// # Safety
///
/// Called by the VFS once, when nobody uses `fc`, a context of ours, any more.
unsafe extern "C" fn free(fc: *mut c::fs_context) {
    // SAFETY: The VFS passes a context of ours.
    let private = unsafe { core::mem::replace(&mut (*fc).fs_private, core::ptr::null_mut()) };
    if !private.is_null() {
        // SAFETY: It came out of a box in `init`.
        drop(unsafe { KBox::from_raw(private.cast::<Private>()) });
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
                // SAFETY: A live context; `fill_super` is of the type that it asks for.
                let err = unsafe { c::get_tree_nodev(fc, Some(fill_super)) };
                // The history may be in use by another mount of the source that came in between.
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

/// Joins the superblock that shows a source already; where that has died meanwhile, makes a new one.
///
/// # Safety
///
/// `fc` is a live context of ours.
unsafe fn get_shared_tree(
    fc: *mut c::fs_context,
    (source, shared): (&Source, *mut c::super_block),
) -> Result {
    // SAFETY: A live context of ours.
    unsafe { private(fc) }.shared = shared;
    // SAFETY: A live context; both functions are of the types that it asks for.
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

/// The directory that a context names, held together with its mount.
struct Source(c::path);

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: kern_path() gave us the references.
        unsafe { c::path_put(&self.0) };
    }
}

impl Source {
    /// Whether `sb`, of ours and filled, shows this directory, or has it for its own root.
    fn is_of(&self, sb: &SuperBlock) -> bool {
        let lower = <Fs as SuperHooks>::lower(sb.mount()).root();
        // SAFETY: A live superblock.
        let root = unsafe { (*sb.as_ptr()).s_root };
        self.0.dentry == root || self.0.dentry == lower.as_ptr()
    }

    /// The superblock of ours that [`Source::is_of`] is true for; null when there is none. It may have
    /// died when this returns.
    ///
    /// Waits for mounts and unmounts of LoggerFS that are under way, as sync(2) does.
    fn superblock(&self) -> *mut c::super_block {
        let mut search = Search {
            source: self,
            found: core::ptr::null_mut(),
        };
        let argument = (&raw mut search).cast();
        // SAFETY: A registered type; `compare` takes what `argument` points to.
        unsafe { c::iterate_supers_type(super::mount::type_ptr(), Some(compare), argument) };
        search.found
    }
}

/// What [`compare`] looks for and finds.
struct Search<'a> {
    source: &'a Source,
    found: *mut c::super_block,
}

/// The context's source, when it is a directory that can be looked up; [`MountHooks::fill`] says why it
/// cannot.
///
/// # Safety
///
/// `fc` is a live context of ours.
unsafe fn source_directory(fc: *mut c::fs_context) -> Option<Source> {
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
    // SAFETY: A C string and a place for the answer.
    let err = unsafe { c::kern_path(source.as_char_ptr(), flags, &mut path) };
    (err == 0).then_some(Source(path))
}

/// # Safety
///
/// Called by iterate_supers_type() with a filled superblock of ours, whose `s_umount` is held
/// for reading, and the [`Search`] of [`Source::superblock`].
unsafe extern "C" fn compare(sb: *mut c::super_block, search: *mut c_void) {
    // SAFETY: By the contract above.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    // SAFETY: A live superblock, which was filled: others are not iterated over.
    if search.source.is_of(unsafe { SuperBlock::from_raw(sb) }) {
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

/// Makes the context a further mount of `sb`; where the one that was found has died meanwhile, `sb` is
/// new, and gets filled.
///
/// # Safety
///
/// `fc` is a live context of ours; `sb` comes from sget_fc() with it, locked.
unsafe fn join(fc: *mut c::fs_context, sb: *mut c::super_block, source: &Source) -> Result {
    // SAFETY: A live superblock that this thread has locked.
    let root = unsafe { (*sb).s_root };
    if root.is_null() {
        // SAFETY: As vfs_get_super() does with a new superblock.
        to_result(unsafe { fill_super(sb, fc) })?;
        // SAFETY: This thread has locked it.
        unsafe { (*sb).s_flags |= c::SB_ACTIVE };
        return Ok(());
    }
    // SAFETY: A live context of ours.
    let options = unsafe { options(fc) };
    // SAFETY: A live superblock of ours.
    let sb = unsafe { SuperBlock::from_raw(sb) };
    if !source.is_of(sb) {
        // Another superblock has come to lie where the one that was found has been.
        return Err(EBUSY);
    }
    // SAFETY: A live context.
    let read_only = unsafe { (*fc).sb_flags } as c_ulong & c::SB_RDONLY != 0;
    if read_only != sb.is_read_only() {
        Report(fc).say(fmt!(
            "the source is mounted already, {}; bind that mount and remount the new one",
            if read_only { "writable" } else { "read-only" }
        ));
        return Err(EBUSY);
    }
    // SAFETY: The source holds its mount.
    let limits = unsafe { Limits::of(source.0.mnt) };
    if let Some(name) = limits.beyond(<Fs as SuperHooks>::lower(sb.mount()).limits()) {
        Report(fc).say(fmt!(
            "the source's mount is {}, and the mount of it that is there already is not; bind that one, and remount the new one with {}",
            name,
            name
        ));
        return Err(EBUSY);
    }
    <Fs as MountHooks>::join(sb, options, &Report(fc))
}

/// # Safety
///
/// Called by get_tree_nodev() or [`join`] with a new superblock, which it has locked, and the context of
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
