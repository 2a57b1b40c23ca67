// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which operations are meant: by number, command, process, user, time, path.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use globset::{Glob, GlobMatcher};

use crate::actions::{actions, nanoseconds, visible, Action};
use crate::operation_spec::{action_of, NamingError, OperationSpec};
use crate::paths::{Paths, Place, Tree};
use crate::process::{KnownProcess, ProcessSpec, ProcessTree, Processes, TreeRoot};
use crate::process_trees::{ProcessTrees, TreeSpec};
use crate::quote::decoded;
use crate::timeline::{Actor, Entry, Timeline};
use loggerfs_log::line::Process;
use loggerfs_log::types::Time;

/// The conditions on operations. An empty field is no condition.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these.
    pub ops: Vec<OperationSpec>,
    /// Numbers are those of operations, not of actions.
    pub is_raw: bool,
    /// By a program of this name.
    pub by: Option<String>,
    /// By this process.
    pub pid: Option<ProcessSpec>,
    /// By this process or a descendant.
    pub tree: Option<TreeSpec>,
    /// Where a number means several processes, all of them are meant: nothing is changed.
    pub is_looking: bool,
    /// Of this session.
    pub session: Option<u32>,
    /// By this user.
    pub uid: Option<u32>,
    /// Not before.
    pub since: Option<Time>,
    /// Not after.
    pub until: Option<Time>,
    /// On a path that matches.
    pub path: Option<GlobMatcher>,
    /// Through the open file of this operation.
    pub open: Option<u64>,
    /// Of the remaining actions, the newest.
    pub last: Option<usize>,
    /// On these files, or in these directories; none: anywhere. Relative to the mount's root.
    pub places: Vec<PathBuf>,
}

/// Makes a pattern for paths: `*` stays within a name, `**` does not, and a pattern without a slash is
/// one for names.
pub fn glob(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    let anchored = match pattern.strip_prefix('/') {
        Some(rest) => rest.to_owned(),
        None if pattern.contains('/') => pattern.to_owned(),
        None => format!("**/{pattern}"),
    };
    let glob = globset::GlobBuilder::new(&anchored)
        .literal_separator(true)
        .build();
    glob.map(|glob: Glob| glob.compile_matcher())
}

/// Operations that were chosen, the newest first.
pub struct SelectedOperations {
    /// As indices into the timeline.
    pub entries: Vec<usize>,
    /// In actions, as far as they were chosen.
    pub actions: Vec<Action>,
    /// Processes that may belong to the tree that was asked for, but were left out, each with the number of
    /// its newest operation.
    pub uncertain: Vec<(KnownProcess, u64)>,
}

/// Why a selection has no clear meaning.
#[derive(Debug)]
pub enum SelectionError {
    /// Nothing is: why.
    Nothing(String),
    /// A word has no meaning: why.
    Usage(String),
    /// A number means several processes.
    Several(ProcessSpec, Vec<Candidate>),
}

impl From<NamingError> for SelectionError {
    fn from(error: NamingError) -> Self {
        match error {
            NamingError::Nothing(message) => Self::Nothing(message),
            NamingError::Usage(message) => Self::Usage(message),
        }
    }
}

/// One of several processes that a number may mean.
#[derive(Debug)]
pub struct Candidate {
    /// The process, or a child if the process left no line.
    pub known: KnownProcess,
    /// Whether the process left lines itself.
    pub is_logged: bool,
    /// Number and start of the process, if they are known.
    pub process: Option<Process>,
}

impl Filter {
    /// Whether paths matter.
    pub fn needs_paths(&self) -> bool {
        self.path.is_some() || !self.places.is_empty()
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        let places = &self.places;
        self.is_anything() && places.is_empty()
    }

    /// Whether the meaning depends on all lines: numbers may be old ones, and processes and names are compared
    /// with all.
    pub fn needs_all(&self) -> bool {
        !self.ops.is_empty()
            || self.pid.is_some()
            || self.tree.is_some()
            || self.open.is_some()
            || self.last.is_some()
    }

    /// Whether the oldest lines may be meant.
    pub fn reaches_back(&self, timeline: &Timeline) -> bool {
        let oldest = timeline.entries.last().map(|entry| nanoseconds(entry.time));
        let is_older = |since: Time| oldest.is_some_and(|oldest| nanoseconds(since) < oldest);
        let is_named = !self.ops.is_empty() || self.open.is_some() || self.last.is_some();
        !is_named && self.since.is_none_or(is_older)
    }

    /// Whether all that is meant is older than the oldest line.
    pub fn is_before(&self, timeline: &Timeline) -> bool {
        let oldest = timeline.entries.last().map(|entry| nanoseconds(entry.time));
        let is_older = |until: Time| oldest.is_some_and(|oldest| nanoseconds(until) < oldest);
        self.until.is_some_and(is_older)
    }

    /// Whether no operation is left out, but for its place.
    fn is_anything(&self) -> bool {
        self.ops.is_empty()
            && self.by.is_none()
            && self.pid.is_none()
            && self.tree.is_none()
            && self.session.is_none()
            && self.uid.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.path.is_none()
            && self.open.is_none()
            && self.last.is_none()
    }

    /// Chooses among the live operations. If a chosen operation is a revert, the operations that it took back
    /// become live again, and are chosen too if they fit.
    pub fn choose(
        &self,
        timeline: &Timeline,
        tree: &dyn Tree,
    ) -> Result<SelectedOperations, SelectionError> {
        let live = timeline.live(&|_| false);
        let numbered = self.numbered(timeline, &live)?;
        let open = self
            .opened(timeline, &live)
            .map_err(SelectionError::Nothing)?;
        let window = SequenceWindow::of(timeline, self.since, self.until);
        let fits_but_for_process = |index: usize| {
            let entry = &timeline.entries[index];
            numbered.as_ref().is_none_or(|set| set.contains(&index))
                && open.is_none_or(|open| entry.open == Some(open))
                && window.has(entry)
                && self.fits(entry)
        };
        let who = self.processes(timeline, &live, &fits_but_for_process)?;
        let fits = |index: usize| {
            let process = timeline.entries[index].actor.process;
            fits_but_for_process(index)
                && (who.as_ref()).is_none_or(|who| process.is_some_and(|process| who.has(process)))
        };
        let mut chosen = self.settle(timeline, tree, &fits);
        if let Some(last) = self.last {
            let mut all = visible(timeline, &chosen);
            all.truncate(last);
            let kept: HashSet<usize> = all.into_iter().flat_map(|action| action.entries).collect();
            chosen = self.settle(timeline, tree, &|index| {
                kept.contains(&index) && fits(index)
            });
        }
        let actions = match self.is_raw {
            true => actions(timeline, &chosen),
            false => visible(timeline, &chosen),
        };
        let uncertain = who.map_or_else(Vec::new, |who| {
            let is_its = |process: Process, index: &usize| {
                timeline.entries[*index].actor.process == Some(process)
                    && fits_but_for_process(*index)
            };
            let uncertain = who.uncertain.into_iter().filter_map(|known| {
                let newest = live.iter().find(|index| is_its(known.process, index))?;
                Some((known, timeline.entries[*newest].seq))
            });
            uncertain.collect()
        });
        Ok(SelectedOperations {
            entries: chosen,
            actions,
            uncertain,
        })
    }

    /// Which processes are meant; `None`: any.
    fn processes(
        &self,
        timeline: &Timeline,
        live: &[usize],
        fits: &dyn Fn(usize) -> bool,
    ) -> Result<Option<ProcessSet>, SelectionError> {
        if self.pid.is_none() && self.tree.is_none() {
            return Ok(None);
        }
        let processes = Processes::of(timeline);
        let mut acting = HashSet::new();
        for index in live.iter().filter(|index| fits(**index)) {
            acting.extend(timeline.entries[*index].actor.process);
        }
        let mut meaning: Option<ProcessSet> = None;
        let of_tree = match self.tree {
            Some(TreeSpec::Process(number)) => Some(number),
            Some(TreeSpec::OfOperation(seq)) => {
                meaning = Some(ProcessSet::of_operation(&processes, timeline, seq)?);
                None
            }
            None => None,
        };
        let numbers = [(self.pid, false), (of_tree, true)];
        for (number, is_tree) in numbers {
            let Some(number) = number else { continue };
            let own = ProcessSet::of(&processes, number, is_tree, &acting, self.is_looking)?;
            meaning = Some(match meaning {
                Some(before) => before.and(own),
                None => own,
            });
        }
        Ok(meaning)
    }

    /// The operations that fit, and are live when those that fit are taken back.
    fn settle(
        &self,
        timeline: &Timeline,
        tree: &dyn Tree,
        fits: &dyn Fn(usize) -> bool,
    ) -> Vec<usize> {
        if !self.needs_paths() {
            let live = timeline.live(fits);
            return live.into_iter().filter(|index| fits(*index)).collect();
        }
        // The places of operations depend on which of them are live.
        let mut placed: HashSet<usize> = HashSet::new();
        loop {
            let live = timeline.live(&|index| placed.contains(&index));
            let places = Paths::places(timeline, &live, tree);
            let both = live.iter().copied().zip(&places);
            let fitting: Vec<(usize, &Place)> = both.filter(|(index, _)| fits(*index)).collect();
            let within = fitting.iter().filter(|(_, place)| self.is_placed(place));
            let found: BTreeSet<usize> = within.map(|(index, _)| *index).collect();
            let before = placed.len();
            placed.extend(&found);
            if placed.len() == before {
                return found.into_iter().collect();
            }
        }
    }

    /// Whether the place of an operation fits.
    pub fn is_placed(&self, place: &Place) -> bool {
        let within = |path: &PathBuf| place.is_within(path);
        let is_within = self.places.is_empty() || self.places.iter().any(within);
        let matches = |glob: &GlobMatcher| place.all().any(|path| glob.is_match(path));
        is_within && self.path.as_ref().is_none_or(matches)
    }

    /// Whether an operation fits, apart from number, process, time, open file and place.
    fn fits(&self, entry: &Entry) -> bool {
        let actor = &entry.actor;
        self.by.as_deref().is_none_or(|name| is_by(actor, name))
            && self.session.is_none_or(|wanted| actor.sid == Some(wanted))
            && self.uid.is_none_or(|wanted| actor.uid == Some(wanted))
    }

    /// The operations that the numbers name; `None`: there are no numbers.
    fn numbered(
        &self,
        timeline: &Timeline,
        live: &[usize],
    ) -> Result<Option<BTreeSet<usize>>, NamingError> {
        if self.ops.is_empty() {
            return Ok(None);
        }
        let actions = actions(timeline, live);
        let mut found = BTreeSet::new();
        for ops in &self.ops {
            let named = ops.find(timeline, live, &actions, self.is_raw)?;
            found.extend(named);
        }
        Ok(Some(found))
    }

    /// The open file that `--open` names.
    fn opened(&self, timeline: &Timeline, live: &[usize]) -> Result<Option<u64>, String> {
        let Some(seq) = self.open else {
            return Ok(None);
        };
        let own = timeline
            .find(seq)
            .and_then(|index| timeline.entries[index].open);
        let found = own.or_else(|| {
            let actions = actions(timeline, live);
            let all = action_of(timeline, &actions, seq);
            all.iter().find_map(|index| timeline.entries[*index].open)
        });
        let nothing = || format!("operation {seq} was not done through an open file");
        found.map(Some).ok_or_else(nothing)
    }
}

/// Processes that are meant.
struct ProcessSet {
    processes: HashSet<Process>,
    uncertain: Vec<KnownProcess>,
}

impl ProcessSet {
    /// The processes that a number means, among those with live operations that fit.
    fn of(
        processes: &Processes,
        number: ProcessSpec,
        is_tree: bool,
        acting: &HashSet<Process>,
        is_looking: bool,
    ) -> Result<Self, SelectionError> {
        let roots = match is_tree {
            true => processes.roots(number),
            false => processes
                .named(number)
                .into_iter()
                .map(TreeRoot::Logged)
                .collect(),
        };
        if roots.is_empty() && number.start.is_some() {
            let name = format!("no process {} left a line", number.text());
            return Err(SelectionError::Nothing(name));
        }
        let all = roots.into_iter().map(|root| {
            let family = match (is_tree, root) {
                (false, TreeRoot::Logged(process)) => ProcessTree::alone(process),
                _ => ProcessTree::of(processes, root),
            };
            (root, family)
        });
        let mut all: Vec<(TreeRoot, ProcessTree)> = all.collect();
        all.retain(|(_, family)| acting.iter().any(|process| family.has(*process)));
        if all.len() > 1 && !is_looking {
            let meant = all.iter().filter_map(|(root, family)| {
                let (process, is_logged) = match *root {
                    TreeRoot::Logged(process) => (Some(process), true),
                    TreeRoot::Ancestor(process) => (Some(process), false),
                    TreeRoot::Unlogged(..) => (None, false),
                };
                let known = process.filter(|_| is_logged).or_else(|| family.first());
                Some(Candidate {
                    known: processes.get(known?)?.clone(),
                    is_logged,
                    process,
                })
            });
            return Err(SelectionError::Several(number, meant.collect()));
        }
        let mut meaning = Self {
            processes: HashSet::new(),
            uncertain: Vec::new(),
        };
        for (_, family) in all {
            let uncertain = family.uncertain.iter();
            (meaning.uncertain)
                .extend(uncertain.filter_map(|process| processes.get(*process).cloned()));
            meaning.processes.extend(family.members());
        }
        Ok(meaning)
    }

    /// The processes of the tree that an operation belongs to.
    fn of_operation(
        processes: &Processes,
        timeline: &Timeline,
        seq: u64,
    ) -> Result<Self, SelectionError> {
        let nothing = |message: String| SelectionError::Nothing(message);
        let index = timeline.find(seq);
        let index =
            index.ok_or_else(|| nothing(format!("there is no operation {seq} any more")))?;
        let process = timeline.entries[index].actor.process;
        let process = process
            .ok_or_else(|| nothing(format!("operation {seq} does not record its process")))?;
        let root = ProcessTrees::of(processes).tree_root(process);
        let family = ProcessTree::of(processes, root);
        let uncertain = family.uncertain.iter();
        Ok(Self {
            uncertain: uncertain
                .filter_map(|process| processes.get(*process).cloned())
                .collect(),
            processes: family.members().collect(),
        })
    }

    fn has(&self, process: Process) -> bool {
        self.processes.contains(&process)
    }

    /// Those that are meant by both.
    fn and(mut self, other: Self) -> Self {
        self.processes.retain(|process| other.has(*process));
        self.uncertain.extend(other.uncertain);
        self
    }
}

/// A range of the log between two times. The clock may have been set back; the order of lines counts, and a
/// time means its last occurrence.
struct SequenceWindow {
    after: u64,
    up_to: u64,
}

impl SequenceWindow {
    fn of(timeline: &Timeline, since: Option<Time>, until: Option<Time>) -> Self {
        Self {
            after: since.map_or(0, |since| timeline.last_before(since)),
            up_to: until.map_or(u64::MAX, |until| timeline.last_at(until)),
        }
    }

    fn has(&self, entry: &Entry) -> bool {
        self.after < entry.seq && entry.seq <= self.up_to
    }
}

/// Whether a program or script of this name did the operation: the executable, the short name of the process,
/// the name that the program was called by, or its first argument that is not an option.
pub fn is_by(actor: &Actor, name: &str) -> bool {
    let command = decoded(&actor.command);
    let script = actor.args.iter().skip(1).find(|arg| !arg.starts_with(b"-"));
    let mut names = [
        Some(&command),
        Some(&actor.comm),
        actor.args.first(),
        script,
    ]
    .into_iter()
    .flatten();
    names.any(|own| is_called(own, name.as_bytes()))
}

/// Whether a path or its last part, with its suffix or without, is this name.
fn is_called(path: &[u8], name: &[u8]) -> bool {
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let base = base.strip_prefix(b"-").unwrap_or(base);
    let stem = base
        .iter()
        .rposition(|byte| *byte == b'.')
        .map(|dot| &base[..dot]);
    path == name || base == name || stem.is_some_and(|stem| !stem.is_empty() && stem == name)
}

/// A path relative to the root of the mount; `None`: the path is not on the mount.
pub fn relative(root: &Path, path: &Path) -> Option<PathBuf> {
    path.strip_prefix(root).ok().map(Path::to_owned)
}
