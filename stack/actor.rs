// SPDX-License-Identifier: GPL-2.0

//! Who does it: the process behind an operation, gathered once and shared by its lines.

use crate::{
    history::line::{
        encode_command,
        Actor,
        Kept,
        LineDraft,
        ObjectId,
        Padded,
        Pos,
        Time,
        Usual,
        MAX_ARGS,
        MAX_COMMAND, //
    },
    revert::HiddenRanges,
    vfs::task, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex, SetOnce}, //
};

/// A process at a time of its life: between two calls of exec, under one user id.
pub(crate) struct Identity {
    process: task::Process,
    start: Time,
    ppid: u32,
    sid: u32,
    comm: [u8; task::COMM],
    /// The path, percent-encoded, and the zeroes that [`Padded`] wants behind it.
    command: KVec<u8>,
    command_len: usize,
    command_cut: bool,
    arguments: KVec<u8>,
    /// All of that as a line tells it, padded in the same way; empty when it is too long for that.
    actor_text: KVec<u8>,
    actor_text_len: usize,
}

/// Room for a path and for its percent-encoded form.
const PATH: usize = 2048;

impl Identity {
    /// Looks at the calling process. Never faults; allocates.
    fn gather(has_arguments: bool) -> Result<Arc<Self>> {
        let mut scratch = KVec::with_capacity(PATH, GFP_KERNEL)?;
        scratch.resize(PATH, 0, GFP_KERNEL)?;
        let mut command = KVec::with_capacity(MAX_COMMAND, GFP_KERNEL)?;
        command.resize(MAX_COMMAND, 0, GFP_KERNEL)?;
        let (len, command_cut) = match task::executable(&mut scratch) {
            Some(path) => encode_command(path, &mut command),
            None => (0, false),
        };
        let exact = padded(command.get(..len).unwrap_or(&[]))?;
        let mut arguments = KVec::new();
        let room = scratch.get_mut(..MAX_ARGS).unwrap_or(&mut []);
        if has_arguments {
            arguments.extend_from_slice(trimmed(task::arguments(room)), GFP_KERNEL)?;
        }
        let process = task::Process::current();
        let mut identity = Self {
            process,
            start: process.start_time(),
            ppid: task::parent_pid(),
            sid: task::session_id(),
            comm: task::comm(),
            command: exact,
            command_len: len,
            command_cut,
            arguments,
            actor_text: KVec::new(),
            actor_text_len: 0,
        };
        if let Some(len) = LineDraft::actor_alone(&mut scratch, &identity.actor()) {
            identity.actor_text = padded(scratch.get(..len).unwrap_or(&[]))?;
            identity.actor_text_len = len;
        }
        Ok(Arc::new(identity, GFP_KERNEL)?)
    }

    /// Whether it still describes the calling process.
    pub(crate) fn is_current(&self) -> bool {
        self.process == task::Process::current()
    }

    /// The executable's path, percent-encoded; and whether it was cut.
    pub(crate) fn command(&self) -> (&[u8], bool) {
        let path = self.command.get(..self.command_len).unwrap_or(&[]);
        (path, self.command_cut)
    }

    /// The same for a usual line, which has no room to say that it was cut.
    pub(crate) fn whole_command(&self) -> Option<Padded<'_>> {
        Padded::new(&self.command, self.command_len).filter(|_| !self.command_cut)
    }

    /// What [`Self::actor`] tells, as text for a usual line.
    pub(crate) fn actor_text(&self) -> Option<Padded<'_>> {
        Padded::new(&self.actor_text, self.actor_text_len)
    }

    /// The fields that a line tells.
    pub(crate) fn actor(&self) -> Actor<'_> {
        let end = self.comm.iter().position(|b| *b == 0).unwrap_or(0);
        Actor {
            pid: self.process.pid,
            start: self.start,
            ppid: self.ppid,
            sid: self.sid,
            uid: self.process.uid,
            comm: self.comm.get(..end).unwrap_or(&[]),
            exec: u64::from(self.process.exec),
            args: &self.arguments,
        }
    }
}

/// A copy with the zeroes behind it that [`Padded`] wants.
fn padded(text: &[u8]) -> Result<KVec<u8>> {
    let length = Padded::length(text.len());
    let mut copy = KVec::with_capacity(length, GFP_KERNEL)?;
    copy.extend_from_slice(text, GFP_KERNEL)?;
    copy.resize(length, 0, GFP_KERNEL)?;
    Ok(copy)
}

/// Arguments without the NUL that ends the last one.
fn trimmed(arguments: &[u8]) -> &[u8] {
    arguments.strip_suffix(&[0]).unwrap_or(arguments)
}

/// The last identity that a mount saw: most calls in a row come from one process.
#[pin_data]
pub(crate) struct IdentityCache {
    #[pin]
    last: Mutex<Last>,
    /// Whether lines have the arguments of programs.
    has_arguments: bool,
}

struct Last {
    identity: Option<Arc<Identity>>,
    usual: Usual,
}

impl IdentityCache {
    pub(crate) fn new(has_arguments: bool) -> impl PinInit<Self> {
        pin_init!(Self {
            has_arguments,
            last <- new_mutex!(Last {
                identity: None,
                usual: Usual::default(),
            }, "IdentityCache::last"),
        })
    }

    /// See the mount's option `args=`.
    pub(crate) fn has_arguments(&self) -> bool {
        self.has_arguments
    }

    /// Calls `f` with the calling process, if that was the last one: costs less than [`Self::current`].
    /// And with what is mostly the same in lines about names.
    #[inline]
    pub(crate) fn if_last<T>(
        &self,
        f: impl FnOnce(&Identity, &mut Usual) -> Option<T>,
    ) -> Option<T> {
        let last = &mut *self.last.lock();
        let identity = last.identity.as_deref().filter(|i| i.is_current())?;
        f(identity, &mut last.usual)
    }

    /// The calling process. `None`: there was no memory for it; the line then says `-`.
    pub(crate) fn current(&self) -> Option<Arc<Identity>> {
        {
            let last = self.last.lock();
            if let Some(known) = last.identity.as_ref().filter(|i| i.is_current()) {
                return Some(known.clone());
            }
        }
        let identity = Identity::gather(self.has_arguments).ok()?;
        // The old one is dropped outside the lock.
        let _old = self.last.lock().identity.replace(identity.clone());
        Some(identity)
    }
}

/// The state of an open file.
pub(crate) struct Open {
    /// Made when it is first asked for: most files are opened without being changed.
    who: SetOnce<Arc<Mutex<Who>>>,
}

/// Who uses an open file, and what its lines have told.
#[derive(Default)]
pub(crate) struct Who {
    /// The process that used the file last. `None`: there was no memory for it.
    identity: Option<Arc<Identity>>,
    /// The number of the first line that this open file made.
    pub(crate) first: Option<u64>,
    /// The segment in which a line last told the actor; 0: none did.
    pub(crate) told_in: u64,
    /// What stays the same in its usual lines.
    kept: Option<Kept>,
    /// Where a reader of the log stopped, and what reverts hide from there on.
    pub(crate) paused: Option<(Pos, HiddenRanges)>,
    /// Whether it is an open file's.
    pub(crate) has_file: bool,
}

impl Who {
    /// Who changes something without an open file.
    pub(crate) fn once(identities: &IdentityCache) -> Self {
        Self {
            identity: identities.current(),
            ..Self::default()
        }
    }

    /// Takes note when another process uses the file: the next line tells it.
    pub(crate) fn refresh(&mut self, identities: &IdentityCache) {
        if !self.identity.as_ref().is_some_and(|i| i.is_current()) {
            self.identity = identities.current();
            self.told_in = 0;
        }
    }

    /// What usual lines of the open file say about the program, `object` and the open file; `None`
    /// before its first line, and when they do not fit into a usual one.
    #[inline]
    pub(crate) fn usual(&mut self, object: ObjectId) -> Option<(Padded<'_>, &mut Kept)> {
        if self.kept.is_none() {
            self.kept = Some(Kept::new(object, self.first?)?);
        }
        let command = self.identity.as_ref()?.whole_command()?;
        Some((command, self.kept.as_mut()?))
    }

    /// The process.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }
}

impl Open {
    pub(crate) fn new() -> Self {
        Self {
            who: SetOnce::new(),
        }
    }

    /// Shared by lines that are placed when the file may be closed. Its lock stands below that of the
    /// object's state in the lock order. `ENOMEM`: there is no memory for it.
    #[inline]
    pub(crate) fn who(&self) -> Result<&Arc<Mutex<Who>>> {
        match self.who.as_ref() {
            Some(who) => Ok(who),
            None => self.make_who(),
        }
    }

    #[cold]
    fn make_who(&self) -> Result<&Arc<Mutex<Who>>> {
        loop {
            let who = Who {
                has_file: true,
                ..Who::default()
            };
            let who = Arc::pin_init(new_mutex!(who, "Open::who"), GFP_KERNEL)?;
            // Of two at the same time one is dropped, perhaps a moment before the other is there.
            let _ = self.who.populate(who);
            if let Some(who) = self.who.as_ref() {
                return Ok(who);
            }
        }
    }
}
