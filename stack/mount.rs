// SPDX-License-Identifier: GPL-2.0

//! Mounts: options, the lower mount, open and close of the journal.

use super::{
    probe::{self, ProbeFailure},
    request_slots::RequestSlots,
    space::{SpaceReclaim, SpaceRequest, RECLAIM_DELAYS_MS},
    IdentityCache, MmapFlusher, NameReadahead, Stack,
};
use crate::{
    history::{
        journal::{self, Journal, OnError, OnFull},
        line::MAX_LINE,
        retention::PIECE, //
    },
    vfs::{
        attr,
        dentry::Dentry,
        error::EOPNOTSUPP,
        fs_context::{MountHooks, MountReport},
        inode::{Inode, UpperInode},
        mount::LowerMount,
        quota,
        store::StoreDir,
        superblock::SuperBlock,
        table::superblock::{ShownOptions, SuperHooks},
        task, //
    },
};
use core::fmt;
use kernel::{
    new_mutex,
    prelude::*,
    str::{CStr, CString},
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        Arc,
        Mutex, //
    }, //
};

/// The parsed mount options; `None` if not given.
#[derive(Default)]
pub(crate) struct MountOptions {
    private: bool,
    size: Option<CString>,
    history: Option<bool>,
    history_max: Option<u64>,
    on_full: Option<OnFull>,
    on_error: Option<OnError>,
    commit: Option<u32>,
    args: Option<bool>,
}

impl MountOptions {
    /// Whether the mount creates its own tmpfs.
    fn is_private(&self, source: &CStr) -> bool {
        self.private || source.to_bytes() == b"none"
    }

    fn on_full(&self) -> OnFull {
        self.on_full.unwrap_or(OnFull::Trim)
    }

    fn on_error(&self) -> OnError {
        self.on_error.unwrap_or(OnError::Continue)
    }

    /// Whether lines record the arguments of programs.
    fn args(&self) -> bool {
        self.args.unwrap_or(true)
    }

    /// Seconds.
    fn commit(&self) -> u32 {
        self.commit.unwrap_or(1)
    }

    /// The first given option that a remount cannot change.
    fn fixed(&self, mount: &Mount) -> Option<&'static str> {
        let size = mount.size.as_ref().map(|size| size.to_bytes());
        let fixed = [
            ("private", self.private && !mount.private),
            (
                "size",
                self.size
                    .as_ref()
                    .is_some_and(|s| Some(s.to_bytes()) != size),
            ),
            (
                "history_max",
                self.history_max
                    .is_some_and(|max| Some(max) != mount.history_max),
            ),
            ("on_full", self.on_full.is_some_and(|p| p != mount.on_full)),
            (
                "on_error",
                self.on_error.is_some_and(|p| p != mount.on_error),
            ),
            ("commit", self.commit.is_some_and(|s| s != mount.commit)),
            (
                "args",
                self.args
                    .is_some_and(|args| args != mount.identities.has_arguments()),
            ),
        ];
        let (name, _) = fixed.into_iter().find(|(_, asked)| *asked)?;
        Some(name)
    }
}

/// State of a mount.
#[pin_data]
pub(crate) struct Mount {
    /// First field, dropped first: the journal is closed before the lower mount.
    journal: Option<OpenJournal>,
    recording: Atomic<bool>,
    private: bool,
    size: Option<CString>,
    history_max: Option<u64>,
    on_full: OnFull,
    on_error: OnError,
    commit: u32,
    lost: Atomic<i64>,
    mmap_flusher: Arc<MmapFlusher>,
    /// Device number of the lower root.
    device: u32,
    #[pin]
    request_slots: RequestSlots,
    #[pin]
    name_readahead: NameReadahead,
    #[pin]
    scratch: Mutex<KVec<u8>>,
    #[pin]
    identities: IdentityCache,
    /// Last field, dropped last: the journal uses the lower mount.
    lower: LowerMount,
}

impl Mount {
    /// The mount below.
    pub(crate) fn lower(&self) -> &LowerMount {
        &self.lower
    }

    /// The journal; `None` while recording is off.
    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.any_journal().filter(|_| self.recording.load(Relaxed))
    }

    pub(crate) fn on_full(&self) -> OnFull {
        self.on_full
    }

    pub(crate) fn on_error(&self) -> OnError {
        self.on_error
    }

    /// Seconds after which changes are durable without fsync.
    pub(crate) fn commit(&self) -> u32 {
        self.commit
    }

    /// Whether the mount has its own tmpfs.
    pub(crate) fn is_private(&self) -> bool {
        self.private
    }

    /// Refuses to enter a subvolume below the source: a subvolume has its own inode number space,
    /// and the history identifies objects by number.
    pub(crate) fn refuse_other_volume(&self, inode: &Inode, lower: &Dentry) -> Result {
        if inode.is_directory() && self.is_other_volume(lower)? {
            return Err(EXDEV);
        }
        Ok(())
    }

    /// Whether a lower object is in another subvolume than the lower root.
    pub(super) fn is_other_volume(&self, lower: &Dentry) -> Result<bool> {
        Ok(attr::device(&self.lower, lower)? != self.device)
    }

    /// The slots of group requests.
    pub(crate) fn request_slots(&self) -> &RequestSlots {
        &self.request_slots
    }

    /// The readahead state of directory name_readahead.
    pub(crate) fn name_readahead(&self) -> &NameReadahead {
        &self.name_readahead
    }

    /// A buffer for a line of maximal length.
    pub(crate) fn scratch(&self) -> &Mutex<KVec<u8>> {
        &self.scratch
    }

    /// The flusher of writes through shared mappings.
    pub(crate) fn mmap_flusher(&self) -> &MmapFlusher {
        &self.mmap_flusher
    }

    /// The cache of process identities.
    pub(crate) fn identities(&self) -> &IdentityCache {
        &self.identities
    }

    /// With on_error=continue request_slots a journal error into a warning.
    pub(crate) fn tolerate(&self, result: Result) -> Result {
        match result {
            Err(e) if self.on_error == OnError::Continue => {
                self.warn_lost(e);
                Ok(())
            }
            other => other,
        }
    }

    /// Makes the history durable; interruptible by a fatal signal. The caller holds no lock.
    pub(super) fn flush_killable(&self, journal: &Journal) -> Result {
        match journal.flush_killable(true) {
            Err(e) if e == EINTR => Err(e),
            flushed => self.tolerate(flushed),
        }
    }

    /// Makes the line of a refused revert durable, since the next mount would continue a revert
    /// without that line. Gives up on a fatal signal.
    pub(crate) fn flush_end_of_refused(&self, journal: &Journal) {
        match journal.flush_killable(true) {
            Err(e) if e != EINTR => self.warn_lost(e),
            _ => {}
        }
    }

    /// Runs `operation`; on ENOSPC or EDQUOT reclaims orphans, oldest first, and runs it again. The
    /// operation must drop all lower locks before returning.
    pub(crate) fn with_space<T>(
        &self,
        request: SpaceRequest<'_>,
        operation: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        self.with_space_if(|| true, request, operation)
    }

    /// As [`Self::with_space`], as long as `again` returns true.
    pub(crate) fn with_space_if<T>(
        &self,
        again: impl Fn() -> bool,
        request: SpaceRequest<'_>,
        mut operation: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let mut reclaim = None;
        loop {
            let error = match operation() {
                Err(e) if journal::is_no_room(e) => e,
                result => return result,
            };
            let Some(journal) = self.journal().filter(|_| again()) else {
                return Err(error);
            };
            let reclaim =
                reclaim.get_or_insert_with(|| SpaceReclaim::new(journal, &self.lower, request));
            if !reclaim.reclaim_more(error).unwrap_or(false) {
                return Err(error);
            }
        }
    }

    /// As [`Self::with_space`], for a revert: releases the reserve instead of reclaiming history.
    pub(crate) fn with_reserve<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        // Doubled each time: a filesystem may require much more free space than the change uses.
        let mut share = PIECE;
        let mut pauses = RECLAIM_DELAYS_MS.into_iter();
        loop {
            let result = operation();
            let Some(journal) = self.journal() else {
                return result;
            };
            if !matches!(&result, Err(e) if journal::is_no_room(*e)) {
                return result;
            }
            if !journal.make_room_for_revert(share) {
                // The reserve is used up. btrfs frees extents asynchronously, so the last part may
                // become free soon.
                match pauses.next() {
                    Some(pause) if quota::sleep_killable(pause) => {}
                    _ => return result,
                }
                let _ = self.lower.root().superblock().sync();
            }
            share = share.saturating_mul(2);
        }
    }

    /// Warns of an operation that cannot be undone; only at the first and at each power of two.
    pub(crate) fn warn_lost(&self, error: Error) {
        let n = self.lost.fetch_add(1, Relaxed);
        if n.count_ones() <= 1 {
            pr_warn!(
                "history: an operation went through that cannot be taken back (error {}, {} so far)\n",
                error.to_errno(),
                n.saturating_add(1)
            );
        }
    }

    /// The journal, also while recording is off.
    pub(super) fn any_journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref().map(|open| &open.journal)
    }

    fn new(options: &MountOptions, base: MountBase) -> Result<Pin<KBox<Self>>> {
        let mut scratch = KVec::with_capacity(MAX_LINE, GFP_KERNEL)?;
        scratch.resize(MAX_LINE, 0, GFP_KERNEL)?;
        let size = match &options.size {
            Some(size) => Some(copy_of(size)?),
            None => None,
        };
        let device = attr::device(&base.lower, base.lower.root())?;
        KBox::pin_init(
            try_pin_init!(Self {
                journal: base.journal,
                recording: Atomic::new(options.history.unwrap_or(true)),
                private: base.private,
                size,
                history_max: options.history_max,
                on_full: options.on_full(),
                on_error: options.on_error(),
                commit: options.commit(),
                lost: Atomic::new(0),
                request_slots <- RequestSlots::new(),
                name_readahead <- NameReadahead::new(),
                mmap_flusher: MmapFlusher::new(options.commit())?,
                device,
                scratch <- new_mutex!(scratch, "Mount::scratch"),
                identities <- IdentityCache::new(options.args()),
                lower: base.lower,
            }? Error),
            GFP_KERNEL,
        )
    }
}

/// An open journal, closed by Drop: a failed mount has no `->put_super`.
struct OpenJournal {
    journal: Arc<Journal>,
    closed: Atomic<bool>,
}

impl OpenJournal {
    fn close(&self) {
        if self.closed.load(Relaxed) {
            return;
        }
        self.closed.store(true, Relaxed);
        // A mount that goes with its namespace is unmounted by an exiting task: exit_fs() has taken its
        // `fs_struct`, whose umask vfs_create() reads.
        let closed = task::call_on_workqueue(|| self.journal.close());
        if let Err(e) = closed.unwrap_or(Err(EIO)) {
            pr_warn!("history: not closed cleanly (error {})\n", e.to_errno());
        }
    }
}

impl Drop for OpenJournal {
    fn drop(&mut self) {
        self.close();
    }
}

/// The lower mount and the journal of a mount.
struct MountBase {
    private: bool,
    journal: Option<OpenJournal>,
    lower: LowerMount,
}

impl MountBase {
    /// Finds or creates the lower mount and checks the stacking limits.
    #[inline(never)]
    fn new(
        options: &MountOptions,
        source: &CStr,
        read_only: bool,
        report: &MountReport,
    ) -> Result<Self> {
        let private = options.is_private(source);
        if !private && options.size.is_some() {
            report.say(fmt!(
                "size= is for a private mount only (source 'none', or -o private)"
            ));
            return Err(EINVAL);
        }
        let lower = if private {
            let size = options.size.as_deref().unwrap_or(c"50%");
            LowerMount::private(size).inspect_err(|_| {
                report.say(fmt!("no private tmpfs could be made with size={}", size));
            })?
        } else {
            LowerMount::of_directory(source).inspect_err(|e| explain_source(report, source, *e))?
        };
        let mut base = Self {
            private,
            journal: None,
            lower,
        };
        base.check(read_only, report)?;
        if !read_only {
            base.open_journal(options, report)?;
        }
        Ok(base)
    }

    #[inline(never)]
    fn check(&self, read_only: bool, report: &MountReport) -> Result {
        let below = self.lower.root().superblock();
        if below.is_ours() {
            report.say(fmt!(
                "the source is on a LoggerFS mount already; undo of undo is not stacked"
            ));
            return Err(EINVAL);
        }
        // As in ovl_fill_super(): each stacked call chain needs kernel stack, so the depth is
        // limited.
        if below.stack_depth() >= MAX_STACK_DEPTH {
            report.say(fmt!("the source is stacked too deep already"));
            return Err(EINVAL);
        }
        // The owners of an id-mapped mount would have to be mapped wherever attributes are copied
        // or set.
        if self.lower.is_idmapped() {
            report.say(fmt!(
                "the source is on an id-mapped mount, which is not supported yet"
            ));
            return Err(EINVAL);
        }
        if self.lower.root().is_unsupported() {
            report.say(fmt!(
                "the source compares names without regard to case, or is an automount point; \
                 neither is supported"
            ));
            return Err(EINVAL);
        }
        if !read_only && self.lower.is_read_only() {
            report.say(fmt!(
                "the source is read-only; mount with -o ro, or make it writable"
            ));
            return Err(EROFS);
        }
        Ok(())
    }

    /// Opens the history, unless history=off.
    fn open_journal(&mut self, options: &MountOptions, report: &MountReport) -> Result {
        if options.history == Some(false) {
            return Ok(());
        }
        let wanted = journal::Options {
            history_max: options.history_max,
            on_full: options.on_full(),
            on_error: options.on_error(),
            commit_seconds: options.commit(),
            private: self.private,
        };
        let suits = |home: &StoreDir, is_new: bool| self.suits(home, is_new, report);
        let explain = |sentence: fmt::Arguments<'_>| report.say(sentence);
        let journal = Journal::open(self.lower.directory()?, wanted, &suits, &explain)?;
        self.journal = Some(OpenJournal {
            journal,
            closed: Atomic::new(false),
        });
        Ok(())
    }

    /// Refuses a lower filesystem without the features that undo needs. A private tmpfs has them.
    fn suits(&self, home: &StoreDir, is_new: bool, report: &MountReport) -> Result {
        if self.private {
            return Ok(());
        }
        let kind = self.lower.root().superblock().kind();
        match probe::probe(&self.lower, home, is_new) {
            Ok(()) => Ok(()),
            Err(ProbeFailure::Missing(what)) => {
                report.say(fmt!(
                    "the source's filesystem ({}) cannot {}, which undo needs; mount with history=off, or choose another source",
                    kind,
                    what
                ));
                Err(EOPNOTSUPP)
            }
            Err(ProbeFailure::Error(e)) => {
                report.say(fmt!(
                    "whether the source's filesystem ({}) can do what undo needs could not be tried in .loggerfs (error {}); history=off mounts without undo",
                    kind,
                    e.to_errno()
                ));
                Err(e)
            }
        }
    }
}

/// Upper limit of stacked filesystems, this one included.
const MAX_STACK_DEPTH: u32 = crate::vfs::c::MAX_STACK_DEPTH;

/// Reports why the source cannot be opened.
fn explain_source(report: &MountReport, source: &CStr, error: Error) {
    if error == ENOENT {
        report.say(fmt!(
            "the source '{}' does not exist; use 'none' or -o private for a tmpfs",
            source
        ));
    } else if error == ENOTDIR {
        report.say(fmt!("the source '{}' is not a directory", source));
    } else {
        report.say(fmt!(
            "the source '{}' cannot be opened (error {})",
            source,
            error.to_errno()
        ));
    }
}

impl MountHooks for Stack {
    type Options = MountOptions;

    fn parse(
        options: &mut MountOptions,
        key: &[u8],
        value: Option<&CStr>,
        report: &MountReport,
    ) -> Result<bool> {
        // vfs_parse_fs_param() passes one option per call; for Ok(false) the VFS reports an unknown
        // parameter.
        let text = value.map_or(&b""[..], |v| v.to_bytes());
        match key {
            b"private" if value.is_none() => options.private = true,
            b"size" => match value {
                Some(size) if !text.is_empty() => {
                    options.size = Some(copy_of(size)?);
                }
                _ => return refuse(report, "size= takes a size, such as 512M or 50%"),
            },
            b"history" => match text {
                b"on" => options.history = Some(true),
                b"off" => options.history = Some(false),
                _ => return refuse(report, "history= takes on or off"),
            },
            b"history_max" => match parse_size(text) {
                Some(bytes) => options.history_max = Some(bytes),
                None => return refuse(report, "history_max= takes a size, such as 512M or 2G"),
            },
            b"on_full" => match text {
                b"trim" => options.on_full = Some(OnFull::Trim),
                b"deny" => options.on_full = Some(OnFull::Deny),
                _ => return refuse(report, "on_full= takes trim or deny"),
            },
            b"on_error" => match text {
                b"continue" => options.on_error = Some(OnError::Continue),
                b"refuse" => options.on_error = Some(OnError::Refuse),
                _ => return refuse(report, "on_error= takes continue or refuse"),
            },
            b"commit" => match parse_number(text).and_then(|n| u32::try_from(n).ok()) {
                Some(seconds @ 1..=3600) => options.commit = Some(seconds),
                _ => return refuse(report, "commit= takes seconds, 1 to 3600"),
            },
            b"args" => match text {
                b"on" => options.args = Some(true),
                b"off" => options.args = Some(false),
                _ => return refuse(report, "args= takes on or off"),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn fill(
        sb: &SuperBlock,
        options: &MountOptions,
        source: Option<&CStr>,
        report: &MountReport,
    ) -> Result {
        let Some(source) = source else {
            report.say(fmt!(
                "no source: name a directory, or 'none' for a private tmpfs"
            ));
            return Err(EINVAL);
        };
        make(sb, options, source, report)?;
        // Recovery runs before get_tree() publishes the superblock: no program sees the tree in
        // between.
        crate::backup::orphans::repair_leaked_links(sb);
        crate::revert::recover_unfinished(sb);
        crate::backup::adopt::adopt(sb);
        Ok(())
    }

    fn is_directory(options: &MountOptions, source: &CStr) -> bool {
        !options.is_private(source)
    }

    fn join(sb: &SuperBlock, options: &MountOptions, report: &MountReport) -> Result {
        let mount = sb.mount();
        // sget_fc() has returned the superblock with s_umount held for writing.
        let recording = mount.recording.load(Relaxed);
        let history = options.history.is_some_and(|wanted| wanted != recording);
        // All mounts of a source share one superblock, so their options must agree.
        let other = if history {
            Some("history")
        } else {
            options.fixed(mount)
        };
        if let Some(name) = other {
            report.say(fmt!(
                "the source is mounted already, with another {}=; leave that option out to join that mount",
                name
            ));
            return Err(EBUSY);
        }
        Ok(())
    }

    fn reconfigure(
        sb: &SuperBlock,
        options: &MountOptions,
        read_only: Option<bool>,
        report: &MountReport,
    ) -> Result {
        let mount = sb.mount();
        if let Some(name) = options.fixed(mount) {
            report.say(fmt!(
                "{}= cannot be changed at a remount; unmount first",
                name
            ));
            return Err(EINVAL);
        }
        // reconfigure_super() changes SB_RDONLY after this, under s_umount.
        let wants_history = options.history.unwrap_or(mount.recording.load(Relaxed));
        let writable = !read_only.unwrap_or(sb.is_read_only());
        // The journal is opened by ->get_tree only: operations until now have left no lines.
        if wants_history && writable && mount.journal.is_none() {
            report.say(fmt!(
                "mounted without history; unmount and mount again, or add history=off"
            ));
            return Err(EINVAL);
        }
        if let (Some(journal), true) = (mount.any_journal(), read_only == Some(true)) {
            mount.mmap_flusher.flush_all();
            mount.flush_killable(journal)?;
        }
        mount.recording.store(wants_history, Relaxed);
        Ok(())
    }
}

/// Opens the lower mount and the journal. Not inlined, so that its stack frame is gone when
/// recovery runs.
#[inline(never)]
fn make(sb: &SuperBlock, options: &MountOptions, source: &CStr, report: &MountReport) -> Result {
    let base = MountBase::new(options, source, sb.is_read_only(), report)?;
    let mount = Mount::new(options, base)?;
    sb.prepare(mount, Mount::lower)
}

fn copy_of(text: &CStr) -> Result<CString> {
    CString::try_from_fmt(fmt!("{}", text))
}

fn refuse(report: &MountReport, sentence: &str) -> Result<bool> {
    report.say(fmt!("{sentence}"));
    Err(EINVAL)
}

/// A number with an optional suffix k, m, g or t (powers of 1024).
fn parse_size(text: &[u8]) -> Option<u64> {
    let (digits, shift) = match text.split_last()? {
        (b'k' | b'K', rest) => (rest, 10),
        (b'm' | b'M', rest) => (rest, 20),
        (b'g' | b'G', rest) => (rest, 30),
        (b't' | b'T', rest) => (rest, 40),
        _ => (text, 0),
    };
    parse_number(digits)?.checked_mul(1 << shift)
}

/// A decimal number.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number: u64 = 0;
    for digit in digits {
        let value = digit.checked_sub(b'0').filter(|v| *v < 10)?;
        number = number.checked_mul(10)?.checked_add(u64::from(value))?;
    }
    Some(number)
}

impl SuperHooks for Stack {
    fn lower(mount: &Mount) -> &LowerMount {
        &mount.lower
    }

    fn shut_down(mount: &Mount) {
        // generic_shutdown_super() calls ->put_super after evict_inodes(), so no inode can stage a
        // line any more.
        if let Some(open) = &mount.journal {
            open.close();
        }
    }

    fn evicted(inode: &UpperInode) {
        crate::backup::write_close_on_evict(inode);
    }

    fn dying(mount: &Mount) {
        mount.mmap_flusher.stop();
    }

    fn sync(mount: &Mount) -> Result {
        mount.mmap_flusher.flush_all();
        // The VFS ignores the result at unmount; closing the journal waits in any case.
        if let Some(journal) = mount.any_journal() {
            mount.flush_killable(journal)?;
        }
        // sync_filesystem() holds the upper s_umount for reading; the lower one is taken here, in
        // stacking order.
        mount.lower.root().superblock().sync()
    }

    fn freeze(mount: &Mount) -> Result {
        mount.mmap_flusher.flush_all();
        match mount.any_journal() {
            // freeze_super() has blocked writers and write faults, so no new line can be staged.
            Some(journal) => journal.flush_killable(true),
            None => Ok(()),
        }
    }

    fn show(mount: &Mount, options: &mut ShownOptions) {
        if mount.private {
            options.add(c"private", None);
        }
        if let Some(size) = &mount.size {
            options.add(c"size", Some(fmt!("{}", &**size)));
        }
        // The requested value: a read-only mount has no journal, and mount(8) passes the shown
        // options back.
        let wanted = mount.recording.load(Relaxed);
        let history = if wanted { "on" } else { "off" };
        options.add(c"history", Some(fmt!("{history}")));
        if let Some(bytes) = mount.history_max {
            options.add(c"history_max", Some(fmt!("{bytes}")));
        }
        let on_full = match mount.on_full {
            OnFull::Trim => "trim",
            OnFull::Deny => "deny",
        };
        options.add(c"on_full", Some(fmt!("{on_full}")));
        let on_error = match mount.on_error {
            OnError::Continue => "continue",
            OnError::Refuse => "refuse",
        };
        options.add(c"on_error", Some(fmt!("{on_error}")));
        options.add(c"commit", Some(fmt!("{}", mount.commit)));
        if !mount.identities.has_arguments() {
            options.add(c"args", Some(fmt!("off")));
        }
    }
}
