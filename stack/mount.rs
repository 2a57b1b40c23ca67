// SPDX-License-Identifier: GPL-2.0

//! Mounts: options, the lower mount, open and close of the journal.

use super::{
    probe::{self, ProbeFailure},
    Stack,
};
use crate::{
    backup,
    history::journal::{self, Journal, OnError, OnFull},
    log::line::decode_padded_decimal,
    record, revert,
    state::{Mount, MountParts, MountSettings, OpenJournal},
    vfs::{
        error::EOPNOTSUPP,
        fs_context::{MountHooks, MountReport},
        inode::UpperInode,
        mount::LowerMount,
        store::StoreDir,
        superblock::{NewSuperBlock, UpperSuperBlock},
        table::superblock::{ShownOptions, SuperHooks}, //
    },
};
use core::fmt;
use kernel::{
    prelude::*,
    str::{CStr, CString}, //
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

    /// The settings of a mount with these options.
    fn settings(&self, private: bool) -> Result<MountSettings> {
        let size = match &self.size {
            Some(size) => Some(copy_of(size)?),
            None => None,
        };
        Ok(MountSettings {
            private,
            size,
            history_max: self.history_max,
            on_full: self.on_full(),
            on_error: self.on_error(),
            commit: self.commit(),
            args: self.args(),
        })
    }

    /// The first given option that a remount cannot change.
    fn fixed(&self, mount: &Mount) -> Option<&'static str> {
        let present = mount.settings();
        let size = present.size.as_ref().map(|size| size.to_bytes());
        let is_other_size = |size_given: &CString| Some(size_given.to_bytes()) != size;
        let is_other_max = |max| Some(max) != present.history_max;
        let fixed = [
            ("tmpfs", self.private && !present.private),
            ("size", self.size.as_ref().is_some_and(is_other_size)),
            ("history_max", self.history_max.is_some_and(is_other_max)),
            (
                "on_full",
                self.on_full.is_some_and(|p| p != present.on_full),
            ),
            (
                "on_error",
                self.on_error.is_some_and(|p| p != present.on_error),
            ),
            ("commit", self.commit.is_some_and(|s| s != present.commit)),
            ("args", self.args.is_some_and(|args| args != present.args)),
        ];
        let (name, _) = fixed.into_iter().find(|(_, asked)| *asked)?;
        Some(name)
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
                "size= is for a private mount only (source 'none', or -o tmpfs)"
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
        self.journal = Some(OpenJournal::new(journal));
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
            "the source '{}' does not exist; use 'none' or -o tmpfs for a private tmpfs",
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
            // Not `private`: mount(8) takes that word for a propagation flag and does not pass it on.
            b"tmpfs" if value.is_none() => options.private = true,
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
            b"commit" => match decode_padded_decimal(text).and_then(|n| u32::try_from(n).ok()) {
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
        sb: NewSuperBlock<'_>,
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
        let sb = make(sb, options, source, report)?;
        // Recovery runs before get_tree() publishes the superblock: no program sees the tree in
        // between.
        backup::orphans::repair_leaked_links(sb);
        revert::recover_unfinished(sb);
        backup::adopt::adopt(sb);
        Ok(())
    }

    fn is_directory(options: &MountOptions, source: &CStr) -> bool {
        !options.is_private(source)
    }

    fn join(sb: &UpperSuperBlock, options: &MountOptions, report: &MountReport) -> Result {
        let mount = sb.mount();
        // sget_fc() has returned the superblock with s_umount held for writing.
        let recording = mount.is_recording();
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
        sb: &UpperSuperBlock,
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
        let wants_history = options.history.unwrap_or(mount.is_recording());
        let writable = !read_only.unwrap_or(sb.is_read_only());
        // The journal is opened by ->get_tree only: operations until now have left no lines.
        if wants_history && writable && mount.any_journal().is_none() {
            report.say(fmt!(
                "mounted without history; unmount and mount again, or add history=off"
            ));
            return Err(EINVAL);
        }
        if let (Some(journal), true) = (mount.any_journal(), read_only == Some(true)) {
            mount.mmap_flusher().flush_all();
            mount.flush_killable(journal)?;
        }
        mount.set_recording(wants_history);
        Ok(())
    }
}

/// Opens the lower mount and the journal. Not inlined, so that its stack frame is gone when
/// recovery runs.
#[inline(never)]
fn make<'a>(
    sb: NewSuperBlock<'a>,
    options: &MountOptions,
    source: &CStr,
    report: &MountReport,
) -> Result<&'a UpperSuperBlock> {
    let base = MountBase::new(options, source, sb.is_read_only(), report)?;
    let mount = Mount::new(MountParts {
        settings: options.settings(base.private)?,
        recording: options.history.unwrap_or(true),
        journal: base.journal,
        lower: base.lower,
        roll_back: revert::roll_back_last,
        log_mmap_writes: record::log_mmap_writes,
    })?;
    sb.prepare(mount)
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
    decode_padded_decimal(digits)?.checked_mul(1 << shift)
}

impl SuperHooks for Stack {
    fn lower(mount: &Mount) -> &LowerMount {
        mount.lower()
    }

    fn shut_down(mount: &Mount) {
        // generic_shutdown_super() calls ->put_super after evict_inodes(), so no inode can stage a
        // line any more.
        mount.close_journal();
    }

    fn evicted(inode: &UpperInode) {
        record::write_close_on_evict(inode);
    }

    fn dying(mount: &Mount) {
        mount.mmap_flusher().stop();
    }

    fn sync(mount: &Mount) -> Result {
        mount.mmap_flusher().flush_all();
        // The VFS ignores the result at unmount; closing the journal waits in any case.
        if let Some(journal) = mount.any_journal() {
            mount.flush_killable(journal)?;
        }
        // sync_filesystem() holds the upper s_umount for reading; the lower one is taken here, in
        // stacking order.
        mount.lower().root().superblock().sync()
    }

    fn freeze(mount: &Mount) -> Result {
        mount.mmap_flusher().flush_all();
        match mount.any_journal() {
            // freeze_super() has blocked writers and write faults, so no new line can be staged.
            Some(journal) => journal.flush_killable(true),
            None => Ok(()),
        }
    }

    fn show(mount: &Mount, options: &mut ShownOptions) {
        let settings = mount.settings();
        if settings.private {
            options.add(c"tmpfs", None);
        }
        if let Some(size) = &settings.size {
            options.add(c"size", Some(fmt!("{}", &**size)));
        }
        // The requested value: a read-only mount has no journal, and mount(8) passes the shown
        // options back.
        let wanted = mount.is_recording();
        let history = if wanted { "on" } else { "off" };
        options.add(c"history", Some(fmt!("{history}")));
        if let Some(bytes) = settings.history_max {
            options.add(c"history_max", Some(fmt!("{bytes}")));
        }
        let on_full = match settings.on_full {
            OnFull::Trim => "trim",
            OnFull::Deny => "deny",
        };
        options.add(c"on_full", Some(fmt!("{on_full}")));
        let on_error = match settings.on_error {
            OnError::Continue => "continue",
            OnError::Refuse => "refuse",
        };
        options.add(c"on_error", Some(fmt!("{on_error}")));
        options.add(c"commit", Some(fmt!("{}", settings.commit)));
        if !settings.args {
            options.add(c"args", Some(fmt!("off")));
        }
    }
}
