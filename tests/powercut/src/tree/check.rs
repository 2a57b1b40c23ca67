// SPDX-License-Identifier: GPL-2.0

//! The checks of the two directories after a cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::found::FoundTree;
use super::{name_of, Op, Slot, State, Tree};
use crate::check::{Cut, Tally};
use crate::group::{self, Placed};
use crate::lower::Place;
use crate::mounts::Lower;
use crate::outcome::{check, fail, Outcome};
use crate::plan::{Family, RevertMode};
use crate::shadow::Random;

/// The operations in the log of a directory.
const ON_NAMES: [&str; 7] = [
    "create", "mkdir", "symlink", "link", "unlink", "rmdir", "rename",
];

/// The operations of the two directories, oldest first: no other object changes attributes, and names of the
/// files are in the root's log.
pub fn lines(root: &File) -> Outcome<Vec<Placed>> {
    let own = root.metadata()?.ino();
    let mut lines = group::history(root)?;
    lines.retain(|placed| {
        let op = placed.line.op.as_str();
        let of = group::inode_of(placed.line.key("obj").unwrap_or_default());
        ["setattr", "setxattr"].contains(&op) || ON_NAMES.contains(&op) && of != own
    });
    Ok(lines)
}

/// The numbers of the newest `count` live operations; `None`: some were dropped.
pub fn newest(root: &File, tree: &Tree, count: usize) -> Outcome<Option<Vec<u64>>> {
    if count == 0 {
        return Ok(Some(Vec::new()));
    }
    let lines = lines(root)?;
    check!(
        lines.len() <= tree.ops.len(),
        "{} lines tell of {} operations",
        lines.len(),
        tree.ops.len()
    );
    let dropped = tree.ops.len() - lines.len();
    let live = tree.newest().live.iter().rev().take(count);
    let numbers = live.map(|at| Some(lines[at.checked_sub(dropped)?].seq));
    Ok(numbers.collect())
}

/// The operation of each line of the log.
struct LoggedOperations {
    lines: Vec<Placed>,
    /// For each operation with a line, where that is in `lines`.
    of: BTreeMap<usize, usize>,
    /// How many operations there are up to the last that has a line.
    ops: usize,
    /// The lines could be of no other operations, and none before the last lacks.
    is_sure: bool,
}

impl LoggedOperations {
    fn number(&self, op: usize) -> Option<u64> {
        let at = *self.of.get(&op)?;
        self.lines.get(at).map(|placed| placed.seq)
    }
}

struct Check<'a> {
    place: &'a Place,
    cut: &'a Cut<'a>,
    tree: &'a Tree,
    root: File,
    inodes: Vec<u64>,
}

/// Checks names, attributes and lines, and takes live operations back.
pub fn look(place: &Place, cut: &Cut<'_>, random: &mut Random, tally: &mut Tally) -> Outcome {
    if cut.family == Family::Full {
        return Ok(());
    }
    let mut check = Check {
        place,
        cut,
        tree: &cut.model.tree,
        root: File::open(&place.top)?,
        inodes: cut.model.tree.inodes.clone(),
    };
    for (root, inode) in super::ROOTS.iter().zip(&mut check.inodes) {
        *inode = place.top.join(root).metadata()?.ino();
    }
    let logged = check.logged()?;
    let seen = check.seen()?;
    tally.nodes += seen.nodes.len() as u64;
    let shown = || {
        let texts = logged.lines.iter().map(|placed| placed.line.text.as_str());
        texts.collect::<Vec<_>>().join("\n")
    };
    match check.take_back(&logged, seen, random, tally) {
        Err(crate::outcome::Stop::Fail(reason)) => fail!("{reason}\n{}", shown()),
        result => result,
    }
}

impl Check<'_> {
    /// Each line is true, and none lacks that is durable.
    fn logged(&self) -> Outcome<LoggedOperations> {
        let lines = lines(&self.root)?;
        let until = |step: u64| self.tree.ops.partition_point(|op| op.step <= step);
        let (begun, floor) = (until(self.cut.begun), until(self.cut.lines));
        let is_trimmed = self.cut.family == Family::Trim;
        let is_recovered = |placed: &Placed| placed.line.key("recovered").is_some();
        let written = lines.iter().position(is_recovered).unwrap_or(lines.len());
        let ends = (written..=begun).rev();
        let ends = ends.filter(|end| is_trimmed || *end == written);
        let fits = |end: &usize| {
            let ops = self.tree.ops[end - written..*end].iter();
            let mut ops = ops.zip(&lines);
            ops.all(|(op, line)| self.is_of(op, line))
        };
        let ends: Vec<usize> = ends.filter(fits).collect();
        let found = ends
            .iter()
            .find_map(|end| Some((*end, self.recovered(&lines[written..], *end, begun)?)));
        let Some((end, recovered)) = found else {
            let texts: Vec<_> = lines.iter().map(|line| line.line.text.as_str()).collect();
            let ops = self.tree.ops[..begun].iter();
            let ops: Vec<_> = ops.map(|op| (op.step, op.word, op.of, op.names)).collect();
            fail!("the log says {}, and done was {ops:?}", texts.join("\n"));
        };
        let may_lack = is_trimmed && lines.is_empty();
        check!(
            end >= floor.min(begun) || may_lack,
            "the log ends with operation {end} on names and attributes, and {floor} must be in it"
        );
        let mut of: BTreeMap<usize, usize> = (end - written..end).zip(0..written).collect();
        let exact = recovered.iter().zip(written..);
        of.extend(exact.filter_map(|(op, at)| Some(((*op)?, at))));
        let ops = of.keys().next_back().map_or(end, |last| last + 1);
        let is_whole = recovered.iter().all(Option::is_some) && end + recovered.len() == ops;
        Ok(LoggedOperations {
            is_sure: ends.len() == 1 && is_whole,
            lines,
            of,
            ops,
        })
    }

    /// Which operations from `end` on the recovered lines are of; `None` within: of none exactly. A
    /// line is recovered from an object that lost its name, so these need not be next to each other,
    /// and where two losses follow each other their lines have the losses' order.
    fn recovered(&self, lines: &[Placed], end: usize, begun: usize) -> Option<Vec<Option<usize>>> {
        let mut left: Vec<usize> = (end..begun).collect();
        let mut found = Vec::new();
        for line in lines {
            let is_it = |at: &usize| self.is_of(&self.tree.ops[*at], line);
            let exact = left.iter().position(is_it).map(|at| left.remove(at));
            let mut ops = self.tree.ops[end..begun].iter();
            if exact.is_none() && !ops.any(|op| self.is_part_of(op, line)) {
                return None;
            }
            found.push(exact);
        }
        Some(found)
    }

    /// Whether a recovered line may record a part of an operation: it lost or gave that name. The
    /// earlier name, and whether the object was made then, are not known of each object.
    fn is_part_of(&self, op: &Op, placed: &Placed) -> bool {
        let line = &placed.line;
        let of = group::inode_of(line.key("obj").unwrap_or_default());
        let is_there = |slot: &Slot| {
            [0, of].contains(&self.inodes[slot.0])
                && line.key("name") == Some(name_of(slot.1)).as_deref()
        };
        ["unlink", "rmdir", "link", "mkdir"].contains(&line.op.as_str())
            && op.slots.iter().any(is_there)
    }

    fn is_of(&self, op: &Op, placed: &Placed) -> bool {
        let line = &placed.line;
        let inode = self.inodes[op.of];
        let of = group::inode_of(line.key("obj").unwrap_or_default());
        let (name, to) = match op.names {
            Some((name, to)) => (Some(name_of(name)), to.map(name_of)),
            None => (None, None),
        };
        let is_named = op.names.is_none()
            || line.key("name") == name.as_deref() && line.key("to") == to.as_deref();
        line.op == op.word && [0, of].contains(&inode) && is_named
    }

    fn is_ordered(&self) -> bool {
        self.cut.lower != Lower::Btrfs
    }

    /// The present tree must be a state since the last durable one: all of it from the same time if the
    /// journal of the filesystem is ordered, otherwise each name and each node by itself.
    fn seen(&self) -> Outcome<FoundTree> {
        let (tree, done, begun) = (self.tree, self.cut.done, self.cut.begun);
        let durable = tree.durable_at(done, self.is_ordered());
        let moments = &tree.moments[tree.moment_at(durable)..=tree.moment_at(begun)];
        if self.is_ordered() {
            let may = |slot: Slot| {
                let bound = moments.iter().map(|moment| moment.state.names.get(&slot));
                bound.map(|node| node.copied()).collect::<BTreeSet<_>>()
            };
            let seen = FoundTree::at(&self.place.top, &self.inodes, &may)?;
            let mut differences = moments.iter().map(|moment| seen.difference(&moment.state));
            let newest = seen.difference(&moments[moments.len() - 1].state);
            check!(
                differences.any(|difference| difference.is_none()),
                "names and attributes are as after none of the steps {durable} to {begun} ({done} done), and last differ in: {newest:?}"
            );
            return Ok(seen);
        }
        let may = |slot: Slot| tree.may_be_bound(slot, done, begun);
        let seen = FoundTree::at(&self.place.top, &self.inodes, &may)?;
        for (node, found) in &seen.nodes {
            let may_be = tree.may_be(*node, done, begun);
            check!(
                may_be.contains(&found),
                "node {node} is {found:?}, and was to be one of {may_be:?}"
            );
        }
        Ok(seen)
    }

    fn exactly(&self, state: &State) -> Outcome<FoundTree> {
        let may = |slot: Slot| BTreeSet::from([state.names.get(&slot).copied()]);
        let seen = FoundTree::at(&self.place.top, &self.inodes, &may)?;
        if let Some(difference) = seen.difference(state) {
            fail!("{difference}");
        }
        Ok(seen)
    }

    /// Takes live operations back, some at a time. If the disk agrees with the log, that must give the
    /// earlier states, exactly; otherwise the request may be refused, and nothing changes then.
    fn take_back(
        &self,
        logged: &LoggedOperations,
        seen: FoundTree,
        random: &mut Random,
        tally: &mut Tally,
    ) -> Outcome {
        let moments = self.tree.moments.iter();
        let moments = moments.filter(|moment| moment.step <= self.cut.begun);
        let mut moments = moments.filter(|moment| moment.ops <= logged.ops);
        let Some(now) = moments.next_back() else {
            return Ok(());
        };
        let is_sure = logged.is_sure && seen.is_like(&now.state);
        let mut live = now.live.to_vec();
        // Mostly all at once: each request reads the whole history.
        let at_once = random.below(4) != 0;
        let mut seen = seen;
        while !live.is_empty() {
            let count = match at_once && is_sure {
                true => live.len(),
                false => (1 + random.below(8) as usize).min(live.len()),
            };
            let taken = live.split_off(live.len() - count);
            let numbers: Option<Vec<u64>> = taken.iter().map(|op| logged.number(*op)).collect();
            let Some(numbers) = numbers else {
                return Ok(());
            };
            let is_done = self.request(&numbers, is_sure, tally)?;
            match (is_done, is_sure) {
                (true, true) => seen = self.exactly(&self.tree.as_before(taken[0]))?,
                (false, _) => {
                    let may = |slot: Slot| BTreeSet::from([seen.names.get(&slot).copied()]);
                    let still = FoundTree::at(&self.place.top, &self.inodes, &may)?;
                    check!(
                        still == seen,
                        "a group was refused, and changed something: {still:?}, before {seen:?}"
                    );
                    return Ok(());
                }
                // The result on a disk that does not agree with the log is not modelled.
                (true, false) => return Ok(()),
            }
            tally.taken += count as u64;
        }
        Ok(())
    }

    /// Whether the request succeeded.
    fn request(&self, numbers: &[u64], is_sure: bool, tally: &mut Tally) -> Outcome<bool> {
        for force in [false, true] {
            let done = group::take_back_these(&self.root, numbers, RevertMode::Walk, force)?;
            match done.map_err(|error: io::Error| error.raw_os_error().unwrap_or(0)) {
                Ok(_) => return Ok(true),
                Err(libc::ESTALE) if !force => tally.external += 1,
                Err(_) if !is_sure => return Ok(false),
                Err(libc::ENODATA | libc::ENOSPC) if self.cut.family == Family::Trim => {
                    return Ok(false)
                }
                Err(errno) => fail!("taking back {numbers:?}: {}", crate::outcome::name(errno)),
            }
        }
        Ok(false)
    }
}
