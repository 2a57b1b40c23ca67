// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reverts that pick operations: their lines, the live operations after them, and their conflicts.

mod support;

use loggerfs_log::line::{
    split_targets, target_width, Line, LineDraft, LineError, Op, MAX_LINE, MAX_TARGETS_TEXT,
};
use loggerfs_log::plan::{
    resized, Disposition, LiveRange, LiveRanges, OnExternal, PlanError, RedoStep, RedoWalk,
    TargetRangesBuilder, Walk, WalkStep,
};
use loggerfs_log::types::Pos;
use proptest::prelude::*;
use support::{parse, pos, seal, List, OBJECT, WHEN};

fn unverified(text: &str) -> Result<Line<'_>, LineError> {
    Line::parse(text.as_bytes(), None)
}

#[test]
fn ranges_of_numbers_round_trip() {
    let ranges = [(3, 3), (5, 90), (92, u64::MAX - 2)];
    let mut buffer = [0; MAX_LINE];
    let mut draft = LineDraft::new(&mut buffer, WHEN, b"", Op::Revert, 0, 0);
    draft.obj(OBJECT).targets(&ranges).group(7);
    let text = seal(&draft, 1000);
    let line = parse(text.as_bytes(), 1);
    let targets = line.targets.unwrap();
    assert_eq!(targets.ranges().collect::<Vec<_>>(), ranges);
    assert_eq!((targets.lowest(), line.group), (3, Some(7)));
    for (seq, is_in) in [(2, false), (3, true), (4, false), (5, true), (91, false)] {
        assert_eq!(targets.contains(seq), is_in, "{seq}");
    }
}

#[test]
fn malformed_ranges_are_refused() {
    for targets in [
        "",
        ",",
        "1,",
        "2-1",
        "1-2-3",
        "1,1",
        "1-4,3",
        "1-2,3",
        "-",
        "1-",
        "a",
        "1,-3",
        "1-18446744073709551615",
    ] {
        let text = format!("1.000000000 - revert 0 0 seq=9 picks={targets} sum=00000000\n");
        assert_eq!(
            unverified(&text).unwrap_err(),
            LineError::Value,
            "{targets}"
        );
    }
}

/// How many bytes of ranges the lines below have room for: two or three ranges.
const ROOM: usize = 10;

/// A chain of one object: line `n` is at offset `n` and has the number `n`.
struct Chain(Vec<String>);

impl Chain {
    fn add(&mut self, rest: &str) -> u64 {
        let seq = self.0.len() as u64 + 1;
        let prev = seq - 1;
        let prev = if prev == 0 {
            String::new()
        } else {
            format!(" prev=1:{prev}")
        };
        self.0.push(format!(
            "1.000000000 - {rest} seq={seq} obj=131.1{prev} sum=00000000\n"
        ));
        seq
    }

    fn line(&self, at: Pos) -> Line<'_> {
        unverified(&self.0[at.offset as usize - 1]).unwrap()
    }

    fn head(&self) -> Option<Pos> {
        (!self.0.is_empty()).then(|| pos(1, self.0.len() as u64))
    }

    /// The numbers of the live operations, newest first.
    fn live(&self) -> Vec<u64> {
        let mut walk = Walk::new(OBJECT, self.head(), OnExternal::Stop);
        let mut reverted = List::default();
        let mut live = Vec::new();
        while let Some(at) = walk.next() {
            let mut line = self.line(at);
            match walk.step(&mut line, &mut reverted, Disposition::Keep) {
                WalkStep::Live => live.push(line.seq),
                WalkStep::Stop(stop) => panic!("{stop:?}"),
                _ => {}
            }
        }
        live
    }

    /// Places a revert of those of `chosen` that can be taken back, as the kernel does; says which.
    fn revert(&mut self, chosen: &[u64], mode: &str) -> Vec<u64> {
        let mut walk = Walk::new(OBJECT, self.head(), OnExternal::Stop);
        let mut reverted = List::default();
        let mut targets_builder = TargetRangesBuilder::new(List::default());
        let (mut taken, mut is_newest, mut back) = (Vec::new(), true, None);
        while let Some(at) = walk.next() {
            if chosen.iter().all(|seq| *seq > at.offset) {
                break;
            }
            let has_reverted = !reverted.items.is_empty();
            let mut line = self.line(at);
            let is_chosen = chosen.contains(&line.seq);
            let disposition = if is_chosen {
                Disposition::Revert
            } else {
                Disposition::Keep
            };
            match walk.step(&mut line, &mut reverted, disposition) {
                WalkStep::Live if is_chosen => {
                    is_newest &= !has_reverted;
                    taken.push(line.seq);
                    targets_builder.pick(line.seq).unwrap();
                    back = line.prev;
                }
                WalkStep::Live => {
                    is_newest = false;
                    targets_builder.part();
                }
                _ if !line.op.is_bookkeeping() => targets_builder.part(),
                _ => {}
            }
        }
        if taken.is_empty() {
            return taken;
        }
        is_newest &= reverted.items.is_empty();
        let of = taken[0];
        let count = taken.len();
        let told = if is_newest && mode == "walk" {
            back.map_or(String::new(), |back| format!(" back=1:{}", back.offset))
        } else {
            self.tell(&targets_builder.finish().items)
        };
        self.add(&format!(
            "revert 0 0 of={of} count={count} size=0 now=0 mode={mode}{told}"
        ));
        taken
    }

    /// Writes the list of operations that a revert takes back, on further lines before it if its own is too
    /// small.
    fn tell(&mut self, ranges: &[(u64, u64)]) -> String {
        let lowest = ranges[0].0;
        let (mut left, mut further) = (ranges, String::new());
        loop {
            let (page, rest) = split_targets(left, ROOM);
            let words: Vec<String> = page.iter().map(|(a, b)| format!("{a}-{b}")).collect();
            let told = format!(" picks={}{further}", words.join(","));
            if rest.is_empty() {
                return told;
            }
            self.add(&format!("picked 0 0 size=0{told}"));
            (left, further) = (rest, format!(" further={lowest}"));
        }
    }

    /// Places a redo of so many undos, if they can be redone.
    fn redo(&mut self, count: usize) -> bool {
        let mut redo_walk = RedoWalk::default();
        let mut next = self.head();
        let mut found = Vec::new();
        while let Some(at) = next {
            let line = self.line(at);
            next = line.prev;
            match redo_walk.step(&line) {
                RedoStep::Target => found.push(line.seq),
                RedoStep::Blocked => return false,
                RedoStep::Skip => continue,
            }
            if found.len() == count {
                let (of, back) = (found[0], line.prev.map(|prev| prev.offset));
                let back = back.map_or(String::new(), |back| format!(" back=1:{back}"));
                self.add(&format!(
                    "redo 0 0 of={of} count={count} size=0 now=0 mode=walk{back}"
                ));
                return true;
            }
        }
        false
    }
}

/// A group has two lines of a directory, one for its names and one for its attributes; both are
/// closed after the second one.
#[test]
fn two_reverts_that_did_not_happen_are_passed() {
    let mut chain = Chain(Vec::new());
    let write = chain.add("write 0 1 size=0 undo=none");
    let both = |chain: &mut Chain, line: &str| {
        let first = chain.add(line);
        let second = chain.add(line);
        for of in [first, second] {
            chain.add(&format!("cancel 0 0 of={of} size=0"));
        }
    };
    let undo = format!("revert 0 0 of={write} count=1 size=0 now=0 mode=walk");
    both(&mut chain, &undo);
    assert!(!chain.redo(1));
    let of = chain.add(&undo);
    both(
        &mut chain,
        &format!("redo 0 0 of={of} count=1 size=0 now=0 mode=walk"),
    );
    assert!(chain.redo(1));
    assert!(!chain.redo(1));
}

#[derive(Clone, Debug)]
enum Operation {
    Write,
    Undo(Vec<prop::sample::Index>),
    Pick(Vec<prop::sample::Index>),
    /// So many undos at once.
    Redo(usize),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let some = || prop::collection::vec(any::<prop::sample::Index>(), 1..9);
    let operation = prop_oneof![
        3 => Just(Operation::Write),
        2 => some().prop_map(Operation::Undo),
        2 => some().prop_map(Operation::Pick),
        2 => (1usize..4).prop_map(Operation::Redo),
    ];
    prop::collection::vec(operation, 1..40)
}

/// A live operation; a pick has its reverted operations.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    seq: u64,
    took: Vec<Entry>,
}

impl Entry {
    fn affected(&self) -> Vec<u64> {
        let inner = self.took.iter().flat_map(Entry::affected);
        std::iter::once(self.seq).chain(inner).collect()
    }
}

fn take_back(live: &mut Vec<Entry>, entry: &Entry) {
    live.retain(|other| other.seq != entry.seq);
    for taken in &entry.took {
        do_again(live, taken);
    }
}

fn do_again(live: &mut Vec<Entry>, entry: &Entry) {
    for taken in &entry.took {
        take_back(live, taken);
    }
    live.push(entry.clone());
}

proptest! {
    #[test]
    fn what_stands_is_what_a_model_says(operations in operations()) {
        let mut chain = Chain(Vec::new());
        let mut live: Vec<Entry> = Vec::new();
        let mut undone: Vec<Vec<Entry>> = Vec::new();
        for operation in operations {
            match operation {
                Operation::Write => {
                    let seq = chain.add("write 0 1 size=0 undo=none");
                    live.insert(0, Entry { seq, took: Vec::new() });
                    undone.clear();
                }
                Operation::Undo(which) | Operation::Pick(which) if live.is_empty() => drop(which),
                Operation::Undo(ref which) | Operation::Pick(ref which) => {
                    let is_undo = matches!(operation, Operation::Undo(_));
                    let before = live.clone();
                    let mut at: Vec<usize> =
                        which.iter().map(|index| index.index(live.len())).collect();
                    at.sort_unstable();
                    at.dedup();
                    // A revert of reverts that stays conflicts with the operations that it affected.
                    let mut stays = Vec::new();
                    let mut numbers = Vec::new();
                    for (index, entry) in live.iter().enumerate() {
                        if at.contains(&index) && !stays.contains(&entry.seq) {
                            numbers.push(entry.seq);
                        } else if entry.took.iter().any(|taken| !taken.took.is_empty()) {
                            stays.extend(entry.affected());
                        }
                    }
                    let taken = chain.revert(&numbers, if is_undo { "walk" } else { "pick" });
                    if taken.is_empty() {
                        continue;
                    }
                    let mut chosen = live.clone();
                    chosen.retain(|entry| taken.contains(&entry.seq));
                    let seq = chain.0.len() as u64;
                    for entry in &chosen {
                        take_back(&mut live, entry);
                    }
                    live.sort_by_key(|entry| std::cmp::Reverse(entry.seq));
                    if is_undo {
                        undone.push(before);
                    } else {
                        live.insert(0, Entry { seq, took: chosen });
                        undone.clear();
                    }
                }
                Operation::Redo(count) => match undone.len().checked_sub(count) {
                    Some(left) => {
                        prop_assert!(chain.redo(count));
                        live = undone[left].clone();
                        undone.truncate(left);
                    }
                    None => prop_assert!(!chain.redo(count)),
                },
            }
            let numbers: Vec<u64> = live.iter().map(|entry| entry.seq).collect();
            prop_assert_eq!(chain.live(), numbers, "{:#?}", chain.0);
        }
    }

    #[test]
    fn what_is_in_the_way_is_what_a_model_says(
        lines in prop::collection::vec((0u8..4, 0u64..40, 0u64..12, any::<bool>()), 1..40)
    ) {
        // Oldest first: operations on a file, whose size is followed.
        let mut size = 20u64;
        let mut texts = Vec::new();
        for (index, (kind, at, length, _)) in lines.iter().enumerate() {
            let (op, at, length, now) = match kind {
                0 | 1 => ("write", *at, *length, size.max(at + length)),
                2 => ("truncate", (*at).min(size), at.abs_diff(size), *at),
                _ => ("punch", *at, *length, size),
            };
            let now = if length == 0 { size } else { now };
            let seq = index + 1;
            texts.push(format!(
                "1.000000000 - {op} {at} {length} seq={seq} obj=131.1 size={size} undo=none sum=00000000\n"
            ));
            size = now;
        }
        const FILE: usize = 200;
        let affected = |line: &Line<'_>| -> Vec<bool> {
            let mut bytes = vec![false; FILE];
            let end = (line.offset + line.length) as usize;
            if line.op != Op::Truncate {
                bytes[line.offset as usize..end].fill(true);
            }
            if let Some(from) = resized(line) {
                bytes[from as usize..].fill(true);
            }
            bytes
        };
        let mut live_ranges = LiveRanges::new(List::<LiveRange>::default(), usize::MAX);
        let mut newest: Vec<Option<u64>> = vec![None; FILE];
        for (text, (.., stays)) in texts.iter().zip(&lines).rev() {
            let line = unverified(text).unwrap();
            let bytes = affected(&line);
            let expected = bytes.iter().zip(&newest).filter(|(is, _)| **is).filter_map(|(_, seq)| *seq).max();
            prop_assert_eq!(live_ranges.blocker(&line), expected, "{:#?} {}", texts, text);
            if *stays {
                live_ranges.add(&line).unwrap();
                for (byte, seq) in bytes.iter().zip(&mut newest) {
                    if *byte && seq.is_none() {
                        *seq = Some(line.seq);
                    }
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_into_a_line_is_split_off() {
    // Each takes 41 bytes, and a comma.
    let ranges: Vec<(u64, u64)> = (0..100u64)
        .map(|n| u64::MAX - 2000 + n * 10)
        .map(|first| (first, first + 5))
        .collect();
    let (mut left, mut pages) = (&ranges[..], Vec::new());
    while !left.is_empty() {
        let (page, rest) = split_targets(left, MAX_TARGETS_TEXT);
        let width: usize = page.iter().map(|range| target_width(*range)).sum();
        assert!(width <= MAX_TARGETS_TEXT);
        let one_more = rest
            .first()
            .map_or(MAX_TARGETS_TEXT, |range| target_width(*range));
        assert!(width + one_more > MAX_TARGETS_TEXT, "a page is not full");
        pages.extend_from_slice(page);
        left = rest;
    }
    assert_eq!(pages, ranges);
    assert_eq!(
        split_targets(&ranges, 1).0.len(),
        1,
        "a line lists one at least"
    );
    assert_eq!(split_targets(&[], MAX_TARGETS_TEXT), (&[][..], &[][..]));
}

#[test]
fn what_was_picked_is_told_on_several_lines() {
    let mut chain = Chain(Vec::new());
    for _ in 0..40 {
        chain.add("write 0 1 size=0 undo=none");
    }
    let even: Vec<u64> = (1..=20).rev().map(|n| 2 * n).collect();
    let odd: Vec<u64> = (1..=20).rev().map(|n| 2 * n - 1).collect();
    assert_eq!(chain.revert(&even, "walk"), even);
    assert!(
        chain.0.len() > 45,
        "they fit into few lines: {:#?}",
        chain.0
    );
    assert_eq!(chain.live(), odd);
    assert!(chain.redo(1));
    assert_eq!(chain.live().len(), 40);
    // Without the revert itself, as after a crash, they have no effect.
    assert_eq!(chain.revert(&odd, "pick"), odd);
    assert_eq!(chain.live().len(), 21);
    chain.0.pop();
    assert_eq!(chain.live().len(), 40);
}

#[test]
fn too_many_ranges_that_stay_are_given_up() {
    let mut live_ranges = LiveRanges::new(List::<LiveRange>::default(), 2);
    let line = |at: u64, seq: u64| {
        format!("1.000000000 - write {at} 1 seq={seq} obj=131.1 size=100 undo=none sum=00000000\n")
    };
    for (at, seq, result) in [
        (1, 9, Ok(())),
        (3, 8, Ok(())),
        (5, 7, Err(PlanError::NoSpace)),
    ] {
        let text = line(at, seq);
        assert_eq!(live_ranges.add(&unverified(&text).unwrap()), result);
    }
}
