// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processes as lines record them, and the process that a number means. The kernel reuses process
//! numbers, so that a process is identified by its number and its start time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::str::FromStr;

use crate::actions::nanoseconds;
use crate::timeline::{Actor, Timeline};
use loggerfs_log::line::Process;
use loggerfs_log::types::Time;

/// A process as the user names one: `812`, or `812@1763639000.25` to tell processes with one number
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Its number.
    pub pid: u32,
    /// The start time, in the form of lines.
    pub start: Option<Time>,
}

impl ProcessSpec {
    /// The form that the user gave.
    pub fn text(&self) -> String {
        let process = |start| Process {
            pid: self.pid,
            start,
        };
        (self.start).map_or_else(|| self.pid.to_string(), |start| name(process(start)))
    }

    fn is(&self, process: Process) -> bool {
        self.pid == process.pid && self.start.is_none_or(|start| start == process.start)
    }
}

impl FromStr for ProcessSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no process: 812 is, or 812@1763639000.25");
        let (pid, start) = match text.split_once('@') {
            Some((pid, start)) => (pid, Some(start)),
            None => (text, None),
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let start = start.map(|start| {
            let (sec, fraction) = start.split_once('.').unwrap_or((start, "0"));
            let whole = format!("{fraction:0<9}");
            let is_time = is_number(sec) && is_number(fraction) && whole.len() == 9;
            let time = is_time.then(|| {
                Some(Time {
                    sec: sec.parse().ok()?,
                    nsec: whole.parse().ok()?,
                })
            });
            time.flatten().ok_or_else(wrong)
        });
        Ok(Self {
            pid: Some(pid)
                .filter(|pid| is_number(pid))
                .and_then(|pid| pid.parse().ok())
                .ok_or_else(wrong)?,
            start: start.transpose()?,
        })
    }
}

/// How a process is named, so that no other one is meant.
pub fn name(process: Process) -> String {
    let fraction = format!("{:09}", process.start.nsec);
    let fraction = fraction.trim_end_matches('0');
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    format!("{}@{}.{fraction}", process.pid, process.start.sec)
}

/// The record of a process.
#[derive(Clone, Debug)]
pub struct KnownProcess {
    /// Which one.
    pub process: Process,
    /// The data of its newest line.
    pub actor: Rc<Actor>,
    /// The parent at the time of the first line; that process may have ended since.
    ppid: Option<u32>,
    /// The ancestors at that time, the parent first; `None`: lines did not record them yet.
    ancestors: Option<Vec<Process>>,
    /// The number of the boot in which the process ran.
    boot: usize,
}

impl KnownProcess {
    /// Whether a process is recorded as its ancestor.
    fn has_ancestor(&self, process: Process) -> bool {
        let mut ancestors = self.ancestors.iter().flatten();
        ancestors.any(|ancestor| *ancestor == process)
    }
}

/// The processes that left lines.
pub struct Processes {
    /// By their numbers, those that started first before the others.
    by_pid: HashMap<u32, Vec<KnownProcess>>,
}

/// The root of a process tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeRoot {
    /// A process that left lines.
    Logged(Process),
    /// A process without lines, recorded as an ancestor of processes with lines.
    Ancestor(Process),
    /// A process without lines, named as the parent in lines of the n-th boot.
    Unlogged(u32, usize),
}

impl Processes {
    /// All that left lines.
    pub fn of(timeline: &Timeline) -> Self {
        let boots = BootNumbers::of(timeline);
        let mut known: BTreeMap<(u32, i128), KnownProcess> = BTreeMap::new();
        for entry in timeline.entries.iter().rev() {
            let Some(process) = entry.actor.process else {
                continue;
            };
            let key = (process.pid, nanoseconds(process.start));
            let known = known.entry(key).or_insert_with(|| KnownProcess {
                process,
                actor: entry.actor.clone(),
                ppid: entry.actor.ppid,
                ancestors: None,
                boot: boots.at(entry.at.segment),
            });
            known.actor = entry.actor.clone();
            if known.ancestors.is_none() && entry.actor.records_ancestors() {
                known.ancestors = Some(entry.actor.ancestors.clone());
            }
        }
        let mut by_pid: HashMap<u32, Vec<KnownProcess>> = HashMap::new();
        for known in known.into_values() {
            by_pid.entry(known.process.pid).or_default().push(known);
        }
        Self { by_pid }
    }

    /// All, in no order.
    pub fn all(&self) -> impl Iterator<Item = &KnownProcess> {
        self.by_pid.values().flatten()
    }

    /// The record of a process.
    pub fn get(&self, process: Process) -> Option<&KnownProcess> {
        let mut known = self.by_pid.get(&process.pid)?.iter();
        known.find(|known| known.process == process)
    }

    /// A process and its ancestors, the parent next, as far as lines record them, without the machine's first
    /// process.
    pub fn chain(&self, process: Process) -> Vec<Process> {
        let mut chain = vec![process];
        let mut at = self.get(process);
        while let Some(known) = at {
            if let Some(ancestors) = &known.ancestors {
                chain.extend(ancestors.iter().filter(|above| above.pid > 1));
                break;
            }
            at = self.parent(known);
            // Parents start first, so this ends; but a forged history may say otherwise.
            at = at.filter(|parent| !chain.contains(&parent.process));
            chain.extend(at.map(|parent| parent.process));
        }
        chain
    }

    /// Those that a number may mean, the oldest first.
    pub fn named(&self, number: ProcessSpec) -> Vec<Process> {
        let known = self.by_pid.get(&number.pid).into_iter().flatten();
        let processes = known.map(|known| known.process);
        processes.filter(|process| number.is(*process)).collect()
    }

    /// As [`Self::named`], also those that are only named as parents.
    pub fn roots(&self, number: ProcessSpec) -> Vec<TreeRoot> {
        let mut roots: Vec<TreeRoot> = self
            .named(number)
            .into_iter()
            .map(TreeRoot::Logged)
            .collect();
        let ancestors = self.all().filter_map(|known| known.ancestors.as_ref());
        let unlogged = (ancestors.flatten())
            .filter(|process| number.is(**process) && self.get(**process).is_none());
        let mut unlogged: Vec<Process> = unlogged.copied().collect();
        unlogged.sort_by_key(|process| nanoseconds(process.start));
        unlogged.dedup();
        roots.extend(unlogged.into_iter().map(TreeRoot::Ancestor));
        if number.start.is_none() {
            let children = (self.all())
                .filter(|known| known.ancestors.is_none() && known.ppid == Some(number.pid));
            let mut boots: Vec<usize> = (children.filter(|child| self.parent(child).is_none()))
                .map(|child| child.boot)
                .collect();
            boots.sort_unstable();
            boots.dedup();
            roots.extend(
                boots
                    .into_iter()
                    .map(|boot| TreeRoot::Unlogged(number.pid, boot)),
            );
        }
        roots
    }

    /// The number of a process' parent, as far as lines record it.
    fn parent_number(&self, process: Process) -> Option<u32> {
        if let Some(known) = self.get(process) {
            return known.ppid;
        }
        self.all().find_map(|known| {
            let ancestors = known.ancestors.as_ref()?;
            let at = ancestors.iter().position(|ancestor| *ancestor == process)?;
            ancestors.get(at + 1).map(|parent| parent.pid)
        })
    }

    /// The parent of a process, if the parent left lines: of the processes with that number in the same boot,
    /// the last one that started before the child.
    fn parent(&self, child: &KnownProcess) -> Option<&KnownProcess> {
        if let Some(ancestors) = &child.ancestors {
            return ancestors.iter().find_map(|process| self.get(*process));
        }
        let same_number = self.by_pid.get(&child.ppid?)?.iter();
        let mut older = same_number.rev().filter(|parent| {
            parent.boot == child.boot
                && nanoseconds(parent.process.start) <= nanoseconds(child.process.start)
        });
        older
            .next()
            .filter(|parent| parent.process != child.process)
    }
}

/// The boot of each segment. A mount begins a new segment; a process that started before that and writes
/// afterwards shows that the machine was not restarted in between.
struct BootNumbers(Vec<(u64, usize)>);

impl BootNumbers {
    fn of(timeline: &Timeline) -> Self {
        // From the newest segment on: its number, its newest time, and the earliest start time from there on.
        let mut segments: Vec<(u64, i128, i128)> = Vec::new();
        for entry in &timeline.entries {
            let time = nanoseconds(entry.time);
            let start = entry
                .actor
                .process
                .map(|process| nanoseconds(process.start));
            let start = start.unwrap_or(i128::MAX);
            match segments.last_mut() {
                Some((segment, _, earliest)) if *segment == entry.at.segment => {
                    *earliest = start.min(*earliest);
                }
                Some((_, _, earliest)) => {
                    let earliest = start.min(*earliest);
                    segments.push((entry.at.segment, time, earliest));
                }
                None => segments.push((entry.at.segment, time, start)),
            }
        }
        segments.reverse();
        let mut boot = 0;
        let mut before = None;
        let numbered = segments.into_iter().map(|(segment, newest, earliest)| {
            if before
                .replace(newest)
                .is_some_and(|before| earliest > before)
            {
                boot += 1;
            }
            (segment, boot)
        });
        Self(numbered.collect())
    }

    fn at(&self, segment: u64) -> usize {
        let index = self.0.partition_point(|(number, _)| *number < segment);
        self.0.get(index).map_or(0, |(_, boot)| *boot)
    }
}

/// A process with its descendants that left lines.
pub struct ProcessTree {
    members: HashSet<Process>,
    /// Processes without lines between the root and a member.
    between: HashSet<Process>,
    /// Processes that may belong to the tree: their parents left no line, or have ended.
    pub uncertain: Vec<Process>,
}

impl ProcessTree {
    /// Of a process.
    pub fn of(processes: &Processes, root: TreeRoot) -> Self {
        let mut all: Vec<&KnownProcess> = processes.all().collect();
        // Parents start first.
        all.sort_by_key(|known| (nanoseconds(known.process.start), known.process.pid));
        let mut family = Self {
            members: HashSet::new(),
            between: HashSet::new(),
            uncertain: Vec::new(),
        };
        for known in &all {
            let by_parent = match (processes.parent(known), root) {
                (Some(parent), _) => family.members.contains(&parent.process),
                (None, TreeRoot::Unlogged(pid, boot)) => {
                    known.ppid == Some(pid) && known.boot == boot
                }
                (None, TreeRoot::Logged(_) | TreeRoot::Ancestor(_)) => false,
            };
            let by_root = match root {
                TreeRoot::Ancestor(root) => known.has_ancestor(root),
                TreeRoot::Logged(root) => known.process == root,
                TreeRoot::Unlogged(..) => false,
            };
            if by_parent || by_root || family.leads(processes, known, root) {
                family.add(known, root);
            }
        }
        family.add_unsure(processes, root, &all);
        family
    }

    /// Adds a member, and the processes between it and the root.
    fn add(&mut self, known: &KnownProcess, root: TreeRoot) {
        self.members.insert(known.process);
        let (TreeRoot::Logged(root) | TreeRoot::Ancestor(root)) = root else {
            return;
        };
        if known.has_ancestor(root) {
            let ancestors = known.ancestors.iter().flatten();
            (self.between).extend(ancestors.take_while(|process| **process != root));
        }
    }

    /// Whether the tree made the process group of a process: the leader is of the tree. This finds processes
    /// whose parent has ended. The other processes of a pipeline have the leader's own parent.
    fn leads(&self, processes: &Processes, known: &KnownProcess, root: TreeRoot) -> bool {
        let Some(leader) = known.actor.group.as_ref().and_then(|group| group.leader) else {
            return false;
        };
        let is_of_tree = root == TreeRoot::Ancestor(leader)
            || self.members.contains(&leader)
            || self.between.contains(&leader);
        let is_beside = match processes.parent_number(leader) {
            Some(parent) => known.ppid == Some(parent),
            None => known.ppid.is_some_and(|ppid| ppid > 1),
        };
        is_of_tree && !is_beside
    }

    /// A process without its descendants.
    pub fn alone(process: Process) -> Self {
        Self {
            members: HashSet::from([process]),
            between: HashSet::new(),
            uncertain: Vec::new(),
        }
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = Process> + '_ {
        self.members.iter().copied()
    }

    /// The one that started first.
    pub fn first(&self) -> Option<Process> {
        self.members()
            .min_by_key(|process| nanoseconds(process.start))
    }

    /// Whether a process is a member.
    pub fn has(&self, process: Process) -> bool {
        self.members.contains(&process)
    }

    fn add_unsure(&mut self, processes: &Processes, root: TreeRoot, all: &[&KnownProcess]) {
        let Some(origin) = TreeOrigin::of(processes, root, &self.members) else {
            return;
        };
        let mut uncertain: HashSet<Process> = HashSet::new();
        for known in all {
            if self.members.contains(&known.process) {
                continue;
            }
            // Ancestors were recorded, and the root is not among them.
            if known.ancestors.is_some() && known.ppid.is_none_or(|ppid| ppid > 1) {
                continue;
            }
            let may_belong = match processes.parent(known) {
                Some(parent) => uncertain.contains(&parent.process),
                None => origin.may_have_started(known, processes, &self.members),
            };
            if may_belong {
                uncertain.insert(known.process);
                self.uncertain.push(known.process);
            }
        }
    }
}

/// The known data of the root of a tree.
struct TreeOrigin {
    pid: u32,
    boot: usize,
    /// The latest time at which the root may have started.
    start: i128,
    /// The sessions of the members.
    sids: HashSet<u32>,
    /// The numbers of the ancestors of the root, as far as lines record them.
    ancestors: HashSet<u32>,
}

impl TreeOrigin {
    fn of(processes: &Processes, root: TreeRoot, members: &HashSet<Process>) -> Option<Self> {
        let known = members.iter().filter_map(|process| processes.get(*process));
        let known: Vec<&KnownProcess> = known.collect();
        let start = known
            .iter()
            .map(|known| nanoseconds(known.process.start))
            .min()?;
        let (pid, boot) = match root {
            TreeRoot::Logged(process) => (process.pid, processes.get(process)?.boot),
            TreeRoot::Ancestor(process) => (process.pid, known.first()?.boot),
            TreeRoot::Unlogged(pid, boot) => (pid, boot),
        };
        let mut ancestors = HashSet::new();
        let mut at = match root {
            TreeRoot::Logged(process) => processes.get(process),
            TreeRoot::Ancestor(_) | TreeRoot::Unlogged(..) => None,
        };
        while let Some(known) = at {
            ancestors.extend(known.ppid);
            at = processes.parent(known);
        }
        Some(Self {
            pid,
            boot,
            start,
            sids: known.iter().filter_map(|known| known.actor.sid).collect(),
            ancestors,
        })
    }

    /// Whether a process whose parent left no line may have been started by the tree.
    fn may_have_started(
        &self,
        known: &KnownProcess,
        processes: &Processes,
        members: &HashSet<Process>,
    ) -> bool {
        let process = known.process;
        // A child does not start before its parent.
        if known.boot != self.boot || nanoseconds(process.start) < self.start {
            return false;
        }
        let Some(ppid) = known.ppid else {
            return true;
        };
        let shares_session = known.actor.sid.is_some_and(|sid| self.sids.contains(&sid));
        // The parent has ended, or the process is a service.
        if ppid <= 1 {
            return shares_session;
        }
        // Numbers are given out in their order: the parent is older than the root.
        let is_older = ppid < self.pid && self.pid < process.pid;
        if self.ancestors.contains(&ppid) || is_older {
            return false;
        }
        let leader = known
            .actor
            .sid
            .and_then(|sid| processes.by_pid.get(&sid)?.last());
        let is_others = leader.is_some_and(|leader| {
            leader.boot == self.boot
                && leader.process != process
                && !members.contains(&leader.process)
        });
        shares_session || !is_others
    }
}
