// SPDX-License-Identifier: MIT OR Apache-2.0

//! Three-way merges of texts, line by line: a change is taken out of a text that was changed further.
//!
//! The change leads from `undone` to `base`, and `now` is `base` after other changes. Where no other change
//! overlaps or touches, the lines of `undone` come back. Elsewhere the lines of `now` stay. Lines are bytes that
//! end with a newline; their encoding does not matter.
//!
//! A difference often has several equal positions: of two equal lines, either may be the new one. All positions
//! of a hunk count for the overlap, so that the result does not depend on the choice of the algorithm.

use std::ops::Range;
use std::time::{Duration, Instant};

use similar::{capture_diff_slices_deadline, Algorithm, DiffOp};

/// Texts with more lines are not merged.
pub const MOST_LINES: usize = 1 << 20;

/// After this time the comparison stops to look for the smallest difference: hunks may be larger then.
const LONGEST: Duration = Duration::from_secs(10);

/// The result of a merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// The text.
    pub text: Vec<u8>,
    /// How many hunks the change has.
    pub hunks: usize,
    /// How many of them are not in the text any more: taken back, or gone already.
    pub taken_back: usize,
    /// The other ones.
    pub kept: Vec<KeptLines>,
    /// From which line of `now` on, counted from 0, lines are by how much further in the text.
    moves: Vec<(usize, isize)>,
}

/// Lines that stay, because other changes overlap hunks of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLines {
    /// The number of the first line in the merged text, from 1 on.
    pub line: usize,
    /// How many lines; 0: other changes removed them.
    pub lines: usize,
    /// How many hunks of the change.
    pub hunks: usize,
}

/// How overlaps are marked in the text.
#[derive(Clone, Copy, Debug)]
pub struct Markers<'m> {
    /// The names of the three texts: now, base, undone.
    pub names: [&'m str; 3],
    /// The length of a marker: 7, or more where the text has such markers already.
    pub length: usize,
}

impl Merge {
    /// How many hunks of the change stay.
    pub fn hunks_kept(&self) -> usize {
        self.kept.iter().map(|kept| kept.hunks).sum()
    }

    /// Adds the merge of a newer change, whose text this merge began with.
    pub fn after(self, newer: Self) -> Self {
        let mut kept: Vec<KeptLines> = newer.kept;
        for kept in &mut kept {
            let moves = &self.moves;
            let at = moves.partition_point(|(line, _)| *line < kept.line);
            let by = at.checked_sub(1).map_or(0, |at| moves[at].1);
            kept.line = moved(kept.line, by);
        }
        kept.extend(self.kept);
        kept.sort_by_key(|kept| kept.line);
        Self {
            text: self.text,
            hunks: self.hunks + newer.hunks,
            taken_back: self.taken_back + newer.taken_back,
            kept,
            moves: Vec::new(),
        }
    }
}

/// Takes the change from `undone` to `base` out of `now`. `None`: a text has too many lines.
pub fn merge(
    base: &[u8],
    undone: &[u8],
    now: &[u8],
    markers: Option<Markers<'_>>,
) -> Option<Merge> {
    let texts = [base, undone, now].map(lines);
    if texts.iter().any(|lines| lines.len() > MOST_LINES) {
        return None;
    }
    let [base, undone, now] = texts;
    let theirs = hunks(&base, &undone);
    let others = hunks(&base, &now);
    let mut merging = Merging {
        base: &base,
        undone: &undone,
        now: &now,
        markers,
        merge: Merge {
            hunks: theirs.len(),
            ..Merge::default()
        },
        lines: 0,
        at: 0,
    };
    for region in regions(&theirs, &others) {
        merging.add(&region);
    }
    merging.put(&now[merging.at..]);
    Some(merging.merge)
}

/// The lines of a text, each with its end.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Lines of the base that another text has replaced.
#[derive(Clone, Debug)]
struct Hunk {
    /// The lines in the base.
    old: Range<usize>,
    /// Those in the other text.
    new: Range<usize>,
    /// The lines of the base that the hunk may be on, with all of its positions.
    reach: Range<usize>,
}

/// The differences between two texts, in order.
fn hunks(base: &[&[u8]], other: &[&[u8]]) -> Vec<Hunk> {
    let deadline = Instant::now().checked_add(LONGEST);
    let operations = capture_diff_slices_deadline(Algorithm::Myers, base, other, deadline);
    let mut hunks: Vec<Hunk> = Vec::new();
    // Hunks are between the lines that are equal.
    let (mut old_end, mut new_end) = (0, 0);
    let equal = operations.iter().filter_map(|operation| match operation {
        DiffOp::Equal { .. } => Some((operation.old_range(), operation.new_range())),
        _ => None,
    });
    for (old, new) in equal.chain([(base.len()..base.len(), other.len()..other.len())]) {
        assert!(base[old.clone()] == other[new.clone()], "equal lines");
        if (old_end, new_end) != (old.start, new.start) {
            hunks.push(Hunk {
                old: old_end..old.start,
                new: new_end..new.start,
                reach: old_end..old.start,
            });
        }
        (old_end, new_end) = (old.end, new.end);
    }
    for at in 0..hunks.len() {
        let before = at.checked_sub(1).map_or(0, |before| hunks[before].old.end);
        let after = hunks.get(at + 1).map_or(base.len(), |next| next.old.start);
        hunks[at].reach = reach(&hunks[at], (base, other), before..after);
    }
    hunks
}

/// The lines of the base, within bounds, over which a hunk that only adds or only removes lines can be moved
/// with the same result.
fn reach(hunk: &Hunk, (base, other): (&[&[u8]], &[&[u8]]), bounds: Range<usize>) -> Range<usize> {
    let (text, moved) = match (hunk.old.is_empty(), hunk.new.is_empty()) {
        (true, false) => (other, &hunk.new),
        (false, true) => (base, &hunk.old),
        _ => return hunk.old.clone(),
    };
    let most_up = (hunk.old.start - bounds.start).min(moved.start);
    let up = (1..=most_up)
        .take_while(|by| text[moved.start - by] == text[moved.end - by])
        .count();
    let most_down = (bounds.end - hunk.old.end).min(text.len() - moved.end);
    let down = (0..most_down)
        .take_while(|by| text[moved.start + by] == text[moved.end + by])
        .count();
    hunk.old.start - up..hunk.old.end + down
}

/// Hunks that overlap or touch each other, and the lines of the texts that they are on.
#[derive(Debug)]
struct Region {
    base: Range<usize>,
    undone: Range<usize>,
    now: Range<usize>,
    /// How many hunks of the change, and of other changes.
    theirs: usize,
    others: usize,
}

/// Sorts the hunks of both texts into regions, in order.
fn regions(theirs: &[Hunk], others: &[Hunk]) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    let (mut theirs, mut others) = (theirs.iter().peekable(), others.iter().peekable());
    // How much further a line of the base is in the other texts.
    let (mut to_undone, mut to_now) = (0, 0);
    loop {
        let is_theirs = match (theirs.peek(), others.peek()) {
            (None, None) => return regions,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => one.reach.start <= other.reach.start,
        };
        let next = if is_theirs { &mut theirs } else { &mut others };
        let Some(hunk) = next.next() else {
            return regions;
        };
        let is_new = regions
            .last()
            .is_none_or(|last| last.base.end < hunk.reach.start);
        if is_new {
            let at = hunk.reach.start;
            regions.push(Region {
                base: at..at,
                undone: moved(at, to_undone)..0,
                now: moved(at, to_now)..0,
                theirs: 0,
                others: 0,
            });
        }
        let by = signed(hunk.new.len()) - signed(hunk.old.len());
        let Some(region) = regions.last_mut() else {
            return regions;
        };
        region.base.end = region.base.end.max(hunk.reach.end);
        if is_theirs {
            (region.theirs, to_undone) = (region.theirs + 1, to_undone + by);
        } else {
            (region.others, to_now) = (region.others + 1, to_now + by);
        }
        region.undone.end = moved(region.base.end, to_undone);
        region.now.end = moved(region.base.end, to_now);
    }
}

fn signed(number: usize) -> isize {
    isize::try_from(number).unwrap_or(isize::MAX)
}

fn moved(line: usize, by: isize) -> usize {
    line.saturating_add_signed(by)
}

/// The text under construction.
struct Merging<'m> {
    base: &'m [&'m [u8]],
    undone: &'m [&'m [u8]],
    now: &'m [&'m [u8]],
    markers: Option<Markers<'m>>,
    merge: Merge,
    /// How many lines the text has.
    lines: usize,
    /// The next line of `now`.
    at: usize,
}

impl<'m> Merging<'m> {
    fn put(&mut self, lines: &[&'m [u8]]) {
        for line in lines {
            self.merge.text.extend_from_slice(line);
        }
        self.lines += lines.len();
    }

    fn add(&mut self, region: &Region) {
        let (texts, base) = ((self.undone, self.now), &self.base[region.base.clone()]);
        let (undone, now) = (
            &texts.0[region.undone.clone()],
            &texts.1[region.now.clone()],
        );
        self.put(&texts.1[self.at..region.now.start]);
        self.note_move(region.now.start);
        self.at = region.now.end;
        if region.others == 0 {
            self.put(undone);
            self.merge.taken_back += region.theirs;
        } else if region.theirs == 0 || undone == now {
            self.put(now);
            self.merge.taken_back += region.theirs;
        } else {
            self.keep([now, base, undone], region.theirs);
        }
        self.note_move(self.at);
    }

    /// Notes where a line of `now` is in the text.
    fn note_move(&mut self, line: usize) {
        let by = signed(self.lines) - signed(line);
        self.merge.moves.push((line, by));
    }

    /// Both texts changed these lines.
    fn keep(&mut self, texts: [&'m [&'m [u8]]; 3], hunks: usize) {
        let line = self.lines + 1;
        match self.markers {
            None => self.put(texts[0]),
            Some(markers) => self.put_marked(texts, markers),
        }
        self.merge.kept.push(KeptLines {
            line,
            lines: self.lines + 1 - line,
            hunks,
        });
    }

    fn put_marked(&mut self, texts: [&'m [&'m [u8]]; 3], markers: Markers<'_>) {
        let mut all = self.now.iter().chain(self.base);
        let end: &[u8] = match all.any(|line| line.ends_with(b"\r\n")) {
            true => b"\r\n",
            false => b"\n",
        };
        let heads = [b'<', b'|', b'='];
        for ((text, head), name) in texts.into_iter().zip(heads).zip(["", markers.names[1], ""]) {
            let name = if head == b'<' { markers.names[0] } else { name };
            self.put_marker(head, markers.length, name, end);
            self.put(text);
            // A marker begins a line.
            if text.last().is_some_and(|line| !line.ends_with(b"\n")) {
                self.merge.text.extend_from_slice(end);
            }
        }
        self.put_marker(b'>', markers.length, markers.names[2], end);
    }

    fn put_marker(&mut self, head: u8, length: usize, name: &str, end: &[u8]) {
        let text = &mut self.merge.text;
        text.resize(text.len() + length, head);
        if !name.is_empty() {
            text.push(b' ');
            text.extend_from_slice(name.as_bytes());
        }
        text.extend_from_slice(end);
        self.lines += 1;
    }
}
