// SPDX-License-Identifier: MIT OR Apache-2.0

//! The process trees of a history, as a person sees them: a command that was typed at a shell, with all that it
//! started, also in sessions and process groups of their own; or a service; or the shell itself, which writes
//! where it redirects output.
//!
//! A tree is named by the number of its first operation, `t195`: no other one ever has this name.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use crate::process::{ProcessSpec, Processes, TreeRoot};
use crate::timeline::Timeline;
use loggerfs_log::line::Process;

/// A process tree as the user names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeSpec {
    /// A process with its descendants.
    Process(ProcessSpec),
    /// The tree of an operation.
    OfOperation(u64),
}

impl FromStr for TreeSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('t');
        let is_number = |number: &&str| number.bytes().all(|byte| byte.is_ascii_digit());
        match number.filter(is_number).map(str::parse) {
            Some(Ok(seq)) => Ok(Self::OfOperation(seq)),
            _ => text
                .parse()
                .map(Self::Process)
                .map_err(|error: String| format!("{error}, or t195 as `logctl who` lists it")),
        }
    }
}

/// The roots of the trees of a history.
pub struct ProcessTrees<'p> {
    processes: &'p Processes,
    /// The sessions in which a shell gave each command line a process group, by their numbers.
    shells: HashSet<u32>,
    /// Found before.
    roots: HashMap<Process, Process>,
}

impl<'p> ProcessTrees<'p> {
    /// Of these processes.
    pub fn of(processes: &'p Processes) -> Self {
        let mut shells = HashSet::new();
        for known in processes.all() {
            let group = known.actor.group.as_ref().map(|group| group.pgid);
            if group.is_some() && group != known.actor.sid {
                shells.extend(known.actor.sid);
            }
        }
        Self {
            processes,
            shells,
            roots: HashMap::new(),
        }
    }

    /// The root of the tree that a process belongs to.
    pub fn root_of(&mut self, process: Process) -> Process {
        if let Some(root) = self.roots.get(&process) {
            return *root;
        }
        let root = self.find_root(process);
        self.roots.insert(process, root);
        root
    }

    /// The process below the outermost shell; without a shell the leader of the session.
    fn find_root(&self, process: Process) -> Process {
        let chain = self.processes.chain(process);
        let is_shell = |above: &Process| self.shells.contains(&above.pid);
        if let Some(shell) = chain.iter().skip(1).rposition(is_shell) {
            // The position counts from the parent on.
            return chain[shell];
        }
        let sid = self
            .processes
            .get(process)
            .and_then(|known| known.actor.sid);
        let leader = chain.iter().find(|above| Some(above.pid) == sid);
        leader.copied().unwrap_or(process)
    }

    /// The same, as a root to select by.
    pub fn tree_root(&mut self, process: Process) -> TreeRoot {
        let root = self.root_of(process);
        match self.processes.get(root) {
            Some(_) => TreeRoot::Logged(root),
            None => TreeRoot::Ancestor(root),
        }
    }

    /// The number of the first operation of each tree, by its root.
    pub fn first_operations(&mut self, timeline: &Timeline) -> HashMap<Process, u64> {
        let mut first = HashMap::new();
        // The newest entry comes first, so the oldest one is kept.
        for entry in &timeline.entries {
            if let Some(process) = entry.actor.process {
                first.insert(self.root_of(process), entry.seq);
            }
        }
        first
    }
}
