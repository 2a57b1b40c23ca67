// SPDX-License-Identifier: MIT OR Apache-2.0

//! The words that name operations: a number, so many actions back, a range of these, or a run.

use std::fmt;

use crate::actions::{visible, Action};
use crate::marks::NamedMark;
use crate::process::{ProcessSpec, ProcessTree, Processes};
use crate::timeline::Timeline;

/// A word for one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationName {
    /// Its number: `1842`, `#1842`.
    Number(u64),
    /// The newest one of the action so many back from the newest, which is 0: `@`, `@-`, `@~3`.
    Back(usize),
}

impl OperationName {
    fn parse(word: &str) -> Option<Self> {
        let digits = word.strip_prefix('#').unwrap_or(word);
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return digits.parse().ok().map(Self::Number);
        }
        match word.strip_prefix('@')? {
            "" => Some(Self::Back(0)),
            "-" => Some(Self::Back(1)),
            back => back.strip_prefix('~')?.parse().ok().map(Self::Back),
        }
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(seq) => write!(f, "{seq}"),
            Self::Back(0) => f.write_str("@"),
            Self::Back(back) => write!(f, "@~{back}"),
        }
    }
}

/// A word for operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationSpec {
    /// The action that this operation belongs to.
    One(OperationName),
    /// The actions from one to another; `None`: to the end of the history on that side.
    Range(Option<OperationName>, Option<OperationName>),
    /// What was done in the run that a mark names.
    Run {
        /// The number of the mark's line.
        mark: u64,
        /// The name.
        name: String,
    },
}

/// How the words of a command line that name a run are written after the name was looked up. No name of a mark
/// and no other word has this form.
const RUN: &str = "@run";

/// The word for the run that a mark names.
pub fn run_word(mark: u64, name: &str) -> String {
    format!("{RUN}{mark}:{name}")
}

/// Why a word names no operations.
#[derive(Debug, PartialEq, Eq)]
pub enum NamingError {
    /// There are none.
    Nothing(String),
    /// The word has no meaning.
    Usage(String),
}

impl OperationSpec {
    /// Reads an operation's name, or a range: `1842..1850`, `@~3..@-`, `1842..`, `..@-`. `None`: the word has
    /// another form.
    pub fn parse(word: &str) -> Option<Self> {
        if let Some((mark, name)) = word.strip_prefix(RUN).and_then(|run| run.split_once(':')) {
            let (mark, name) = (mark.parse().ok()?, name.to_owned());
            return Some(Self::Run { mark, name });
        }
        let Some((first, last)) = word.split_once("..") else {
            return OperationName::parse(word).map(Self::One);
        };
        let end = |text: &str| match text {
            "" => Some(None),
            text => OperationName::parse(text).map(Some),
        };
        let (first, last) = (end(first)?, end(last)?);
        // `..` is a directory.
        (first.is_some() || last.is_some()).then_some(Self::Range(first, last))
    }

    /// The operations that are named, of the live ones, which `actions` has, too. `is_raw`: a number means one
    /// operation, not its action.
    pub fn find(
        &self,
        timeline: &Timeline,
        live: &[usize],
        actions: &[Action],
        is_raw: bool,
    ) -> Result<Vec<usize>, NamingError> {
        let found = match *self {
            Self::Run { mark, ref name } => return live_of_run(timeline, live, (mark, name)),
            Self::One(OperationName::Back(back)) => nth(timeline, live, back)?.entries,
            Self::One(OperationName::Number(seq)) if is_raw => within(timeline, live, (seq, seq)),
            Self::One(OperationName::Number(seq)) => action_of(timeline, actions, seq).to_vec(),
            Self::Range(first, last) => {
                let range = self.range(timeline, live, (first, last), is_raw)?;
                match is_raw {
                    true => within(timeline, live, range),
                    false => actions_within(timeline, actions, range),
                }
            }
        };
        match (found.is_empty(), self) {
            (false, _) => Ok(found),
            (true, Self::One(_)) => Err(NamingError::Nothing(format!("no live operation {self}"))),
            (true, Self::Range(..) | Self::Run { .. }) => {
                Err(NamingError::Nothing(format!("no live operation in {self}")))
            }
        }
    }

    /// The numbers that a range goes from and to.
    fn range(
        &self,
        timeline: &Timeline,
        live: &[usize],
        (first, last): (Option<OperationName>, Option<OperationName>),
        is_raw: bool,
    ) -> Result<(u64, u64), NamingError> {
        let number = |name: OperationName, is_first: bool| match name {
            OperationName::Number(seq) => Ok(seq),
            OperationName::Back(back) => {
                let action = nth(timeline, live, back)?;
                Ok(match is_raw && is_first {
                    true => action.oldest(timeline).seq,
                    false => action.newest(timeline).seq,
                })
            }
        };
        let from = first.map_or(Ok(0), |first| number(first, true))?;
        let to = last.map_or(Ok(u64::MAX), |last| number(last, false))?;
        if from <= to {
            return Ok((from, to));
        }
        let turned = Self::Range(last, first);
        let message = format!("'{self}' is a reversed range, the oldest comes first: {turned}");
        Err(NamingError::Usage(message))
    }
}

impl fmt::Display for OperationSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = match self {
            Self::One(name) => return name.fmt(f),
            Self::Run { name, .. } => return f.write_str(name),
            Self::Range(first, last) => (first, last),
        };
        let text = |name: &Option<OperationName>| name.map_or_else(String::new, |n| n.to_string());
        write!(f, "{}..{}", text(first), text(last))
    }
}

/// The operations of a run, the newest first, live or not: those of all processes that the process of the mark
/// started since then, but not its own, which may have taken them back.
pub fn of_run(timeline: &Timeline, mark: u64) -> Vec<usize> {
    let entry = timeline.find(mark).map(|index| &timeline.entries[index]);
    let process = entry
        .and_then(NamedMark::of_entry)
        .and_then(|mark| mark.actor.process);
    let Some(process) = process else {
        return Vec::new();
    };
    let processes = Processes::of(timeline);
    let number = ProcessSpec {
        pid: process.pid,
        start: Some(process.start),
    };
    let roots = processes.roots(number).into_iter();
    let trees: Vec<ProcessTree> = roots
        .map(|root| ProcessTree::of(&processes, root))
        .collect();
    let newer = (timeline.entries.iter().enumerate()).take_while(|(_, entry)| entry.seq > mark);
    let its = newer.filter(|(_, entry)| {
        let is_its = |own| own != process && trees.iter().any(|tree| tree.has(own));
        !entry.op.is_bookkeeping() && entry.actor.process.is_some_and(is_its)
    });
    its.map(|(index, _)| index).collect()
}

/// The operations of a run, if any is live. Those that are not may become so, if a revert among them is taken
/// back.
fn live_of_run(
    timeline: &Timeline,
    live: &[usize],
    (mark, name): (u64, &str),
) -> Result<Vec<usize>, NamingError> {
    let found = of_run(timeline, mark);
    let is_live = |index: &usize| live.binary_search(index).is_ok();
    match (found.is_empty(), found.iter().any(is_live)) {
        (_, true) => Ok(found),
        (true, _) => Err(NamingError::Nothing(format!(
            "no operation of the run '{name}' is in the log"
        ))),
        (false, _) => Err(NamingError::Nothing(format!(
            "nothing of the run '{name}' is live: it was taken back"
        ))),
    }
}

/// The action so many back.
fn nth(timeline: &Timeline, live: &[usize], back: usize) -> Result<Action, NamingError> {
    let too_far = || NamingError::Nothing("the history does not go back that far".into());
    let mut seen = visible(timeline, live).into_iter();
    seen.nth(back).ok_or_else(too_far)
}

/// The live operations with numbers of a range.
fn within(timeline: &Timeline, live: &[usize], (first, last): (u64, u64)) -> Vec<usize> {
    let within = |index: &usize| (first..=last).contains(&timeline.entries[*index].seq);
    live.iter().copied().filter(within).collect()
}

/// The operations of actions with numbers of a range.
fn actions_within(
    timeline: &Timeline,
    actions: &[Action],
    (first, last): (u64, u64),
) -> Vec<usize> {
    let within = |action: &&Action| (first..=last).contains(&action.newest(timeline).seq);
    let named = actions.iter().filter(within);
    named
        .flat_map(|action| action.entries.iter().copied())
        .collect()
}

/// The operations of the action that one with this number belongs to.
pub fn action_of<'a>(timeline: &Timeline, actions: &'a [Action], seq: u64) -> &'a [usize] {
    let index = timeline.find(seq);
    let has = |action: &&Action| index.is_some_and(|index| action.entries.contains(&index));
    match actions.iter().find(has) {
        Some(action) => &action.entries,
        None => &[],
    }
}
