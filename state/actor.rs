// SPDX-License-Identifier: GPL-2.0

//! The process that an operation is logged for, read once and shared by its lines.

use crate::{
    log::{
        line::{
            actor_text, encode_command, started_arguments, Actor, NameTemplate, PaddedText,
            Process, ProcessGroup, RecordTemplate, MAX_ANCESTORS, MAX_ARGS, MAX_COMMAND,
        },
        types::{ObjectId, Pos, Time},
    },
    vfs::task,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex, SetOnce,
    }, //
};

/// A process between two execve() calls, under one user id.
pub(crate) struct ProcessIdentity {
    process: task::ProcessKey,
    start: Time,
    ppid: u32,
    sid: u32,
    group: ProcessGroup,
    group_comm: [u8; task::COMM],
    /// The parent first.
    ancestors: KVec<Process>,
    /// The segment whose log last recorded the ancestors; 0 if none.
    ancestors_segment: Atomic<u64>,
    comm: [u8; task::COMM],
    /// The path, percent-encoded and zero-padded as [`PaddedText`] requires.
    command: KVec<u8>,
    command_len: usize,
    command_cut: bool,
    arguments: KVec<u8>,
    /// [`Self::who`] as the text of a line, zero-padded; empty if too long.
    actor_text: KVec<u8>,
    actor_text_len: usize,
}

/// Size of the buffer for a path and for the encoded path.
const PATH: usize = 2048;

impl ProcessIdentity {
    /// Reads the fields of the calling process, which makes or removes `directory`. Never faults in
    /// user memory; allocates.
    fn gather(has_arguments: bool, directory: Option<&[u8]>) -> Result<Arc<Self>> {
        let mut scratch = KBox::<[u8; PATH]>::zeroed(GFP_KERNEL)?;
        let mut command = KVec::with_capacity(MAX_COMMAND, GFP_KERNEL)?;
        command.resize(MAX_COMMAND, 0, GFP_KERNEL)?;
        let (len, command_cut) = match task::executable(&mut scratch[..]) {
            Some(path) => encode_command(path, &mut command),
            None => (0, false),
        };
        let exact = padded(command.get(..len).unwrap_or(&[]))?;
        let mut arguments = KVec::new();
        let room = scratch.get_mut(..MAX_ARGS).unwrap_or(&mut []);
        if has_arguments {
            let starts = task::argument_starts();
            let text = started_arguments(task::arguments(room), starts.as_ref(), directory);
            arguments.extend_from_slice(text, GFP_KERNEL)?;
        }
        let process = task::ProcessKey::current();
        let (group, group_comm) = task::process_group();
        let mut identity = Self {
            process,
            start: process.start_time(),
            ppid: task::parent_pid(),
            sid: task::session_id(),
            group,
            group_comm,
            ancestors: ancestors()?,
            ancestors_segment: Atomic::new(0),
            comm: task::comm(),
            command: exact,
            command_len: len,
            command_cut,
            arguments,
            actor_text: KVec::new(),
            actor_text_len: 0,
        };
        if let Some(len) = actor_text(&identity.actor(), &mut scratch) {
            identity.actor_text = padded(scratch.get(..len).unwrap_or(&[]))?;
            identity.actor_text_len = len;
        }
        Ok(Arc::new(identity, GFP_KERNEL)?)
    }

    /// Whether the calling process is still the same.
    pub(crate) fn is_current(&self) -> bool {
        self.process == task::ProcessKey::current()
    }

    /// The executable's path, percent-encoded; and whether the path was truncated.
    pub(crate) fn command(&self) -> (&[u8], bool) {
        let path = self.command.get(..self.command_len).unwrap_or(&[]);
        (path, self.command_cut)
    }

    /// The same for a template line, which cannot mark a truncated path.
    pub(crate) fn whole_command(&self) -> Option<PaddedText<'_>> {
        PaddedText::new(&self.command, self.command_len).filter(|_| !self.command_cut)
    }

    /// [`Self::who`] as text for a template line.
    pub(crate) fn actor_text(&self) -> Option<PaddedText<'_>> {
        PaddedText::new(&self.actor_text, self.actor_text_len)
    }

    /// The ancestors of the process, if the log of this segment does not have them yet. Processes
    /// that change nothing leave no line of their own, and a process tree is found all the same.
    pub(crate) fn ancestors_due(&self, segment: u64) -> Option<&[Process]> {
        let is_due = self.ancestors_segment.load(Relaxed) != segment;
        (is_due && !self.ancestors.is_empty()).then_some(&*self.ancestors)
    }

    /// Records that the log of this segment has the ancestors. Of two threads, both may write them.
    pub(crate) fn ancestors_logged(&self, segment: u64) {
        self.ancestors_segment.store(segment, Relaxed);
    }

    /// The process fields of a line.
    pub(crate) fn actor(&self) -> Actor<'_> {
        Actor {
            pid: self.process.pid,
            start: self.start,
            ppid: self.ppid,
            sid: self.sid,
            group: self.group,
            group_comm: text_of(&self.group_comm),
            uid: self.process.uid,
            comm: text_of(&self.comm),
            exec: u64::from(self.process.exec),
            args: &self.arguments,
        }
    }
}

/// The text of a `comm`.
fn text_of(comm: &[u8; task::COMM]) -> &[u8] {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(0);
    comm.get(..end).unwrap_or(&[])
}

/// The ancestors of the calling process.
fn ancestors() -> Result<KVec<Process>> {
    let mut found = [Process::default(); MAX_ANCESTORS];
    let count = task::ancestors(&mut found);
    let mut ancestors = KVec::new();
    ancestors.extend_from_slice(found.get(..count).unwrap_or(&[]), GFP_KERNEL)?;
    Ok(ancestors)
}

/// A copy, zero-padded as [`PaddedText`] requires.
fn padded(text: &[u8]) -> Result<KVec<u8>> {
    let length = PaddedText::length(text.len());
    let mut copy = KVec::with_capacity(length, GFP_KERNEL)?;
    copy.extend_from_slice(text, GFP_KERNEL)?;
    copy.resize(length, 0, GFP_KERNEL)?;
    Ok(copy)
}

/// Number of further processes that the cache holds: those of a pipeline take turns.
const OTHERS: usize = 7;

/// Cache of the last process identities: consecutive calls mostly come from one process.
#[pin_data]
pub(crate) struct IdentityCache {
    #[pin]
    last: Mutex<LastProcess>,
    /// Whether lines record the arguments of programs.
    has_arguments: bool,
}

struct LastProcess {
    identity: Option<Arc<ProcessIdentity>>,
    /// Those before it.
    others: [Option<Arc<ProcessIdentity>>; OTHERS],
    /// The one that is replaced next.
    next: usize,
    template: NameTemplate,
}

impl IdentityCache {
    pub(crate) fn new(has_arguments: bool) -> impl PinInit<Self> {
        pin_init!(Self {
            has_arguments,
            last <- new_mutex!(LastProcess {
                identity: None,
                others: Default::default(),
                next: 0,
                template: NameTemplate::default(),
            }, "IdentityCache::last"),
        })
    }

    /// Calls `f` with the calling process if the cache holds that process: cheaper than
    /// [`Self::current`]. Also passes the template of lines about names.
    #[inline]
    pub(crate) fn if_last<T>(
        &self,
        f: impl FnOnce(&ProcessIdentity, &mut NameTemplate) -> Option<T>,
    ) -> Option<T> {
        let last = &mut *self.last.lock();
        let identity = last.identity.as_deref().filter(|i| i.is_current())?;
        f(identity, &mut last.template)
    }

    /// The calling process. `None` without memory; the line then has `-` for the path.
    pub(crate) fn current(&self) -> Option<Arc<ProcessIdentity>> {
        self.current_with(None)
    }

    /// As [`Self::current`]. `directory` is the name of the directory that the process is making or
    /// removing, which tells how it has cut its arguments ([`started_arguments`]).
    pub(crate) fn current_with(&self, directory: Option<&[u8]>) -> Option<Arc<ProcessIdentity>> {
        if let Some(known) = self.last.lock().find() {
            return Some(known);
        }
        let identity = ProcessIdentity::gather(self.has_arguments, directory).ok()?;
        // Drop the old identity outside the lock.
        let _old = self.last.lock().add(identity.clone());
        Some(identity)
    }
}

impl LastProcess {
    /// The calling process, which then is the last one.
    fn find(&mut self) -> Option<Arc<ProcessIdentity>> {
        if !self.identity.as_ref().is_some_and(|i| i.is_current()) {
            let is_it =
                |i: &&mut Option<Arc<ProcessIdentity>>| i.as_ref().is_some_and(|i| i.is_current());
            let found = self.others.iter_mut().find(is_it)?;
            core::mem::swap(found, &mut self.identity);
        }
        self.identity.clone()
    }

    /// Adds the calling process as the last one. Returns the one that it replaces.
    fn add(&mut self, identity: Arc<ProcessIdentity>) -> Option<Arc<ProcessIdentity>> {
        let before = self.identity.replace(identity);
        let place = self.others.get_mut(self.next)?;
        self.next = self.next.wrapping_add(1) % OTHERS;
        core::mem::replace(place, before)
    }
}

/// State of an open file.
pub(crate) struct OpenFileState {
    /// Allocated on first use: most files are opened without being changed.
    actor: SetOnce<Arc<Mutex<OpenActor>>>,
}

/// Ranges of reverted numbers of a walk that is resumed later.
pub(crate) type RevertedRanges = KVVec<(u64, u64)>;

/// The user of an open file, and the fields already logged for the open file.
#[derive(Default)]
pub(crate) struct OpenActor {
    /// The last process that used the file; `None` if the allocation failed.
    identity: Option<Arc<ProcessIdentity>>,
    /// Number of the open file's first line.
    pub(crate) first: Option<u64>,
    /// Segment whose log last recorded the actor; 0 if none.
    pub(crate) actor_segment: u64,
    /// The constant part of the open file's template lines.
    template: Option<RecordTemplate>,
    /// Position of a paginated log reader, and the reverts found so far.
    pub(crate) paused: Option<(Pos, RevertedRanges)>,
    /// Whether this belongs to an open file.
    pub(crate) has_file: bool,
}

impl OpenActor {
    /// The actor of a change without an open file.
    pub(crate) fn once(identities: &IdentityCache) -> Self {
        Self {
            identity: identities.current(),
            ..Self::default()
        }
    }

    /// Detects that another process uses the file; the next line then includes the actor.
    pub(crate) fn update(&mut self, identities: &IdentityCache) {
        if !self.identity.as_ref().is_some_and(|i| i.is_current()) {
            self.identity = identities.current();
            self.actor_segment = 0;
        }
    }

    /// The fields of the open file's template lines; `None` before its first line, or if they do
    /// not fit.
    #[inline]
    pub(crate) fn template(
        &mut self,
        object: ObjectId,
    ) -> Option<(PaddedText<'_>, &mut RecordTemplate)> {
        if self.template.is_none() {
            self.template = Some(RecordTemplate::new(object, self.first?)?);
        }
        let command = self.identity.as_ref()?.whole_command()?;
        Some((command, self.template.as_mut()?))
    }

    /// The process.
    pub(crate) fn identity(&self) -> Option<&ProcessIdentity> {
        self.identity.as_deref()
    }
}

impl OpenFileState {
    pub(crate) fn new() -> Self {
        Self {
            actor: SetOnce::new(),
        }
    }

    /// Shared with lines that are placed after the file was closed. Lock order: below the object's
    /// state. `ENOMEM` if the allocation fails.
    #[inline]
    pub(crate) fn actor(&self) -> Result<&Arc<Mutex<OpenActor>>> {
        match self.actor.as_ref() {
            Some(actor) => Ok(actor),
            None => self.make_actor(),
        }
    }

    #[cold]
    fn make_actor(&self) -> Result<&Arc<Mutex<OpenActor>>> {
        loop {
            let actor = OpenActor {
                has_file: true,
                ..OpenActor::default()
            };
            let actor = Arc::pin_init(new_mutex!(actor, "OpenFileState::actor"), GFP_KERNEL)?;
            // Of two concurrent callers one wins; populate() may return false shortly before the
            // winner's value is visible.
            let _ = self.actor.populate(actor);
            if let Some(actor) = self.actor.as_ref() {
                return Ok(actor);
            }
        }
    }
}
