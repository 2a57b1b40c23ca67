// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The net effect of reverting operations and reverts of an object: which live operations are
//! reverted, and which reverted operations become live again.
//!
//! A live revert hides its targets. So every line is judged twice, with the present set of hidden
//! lines and with the set after the request; whatever undos, redos and reverts lie in between, an
//! operation that is hidden both times or neither time is not changed.

use super::super::types::{ObjectId, Pos};
use super::{
    super::line::{Line, Op, Undo},
    walk::Stop,
    Store,
};

/// How many lines that did not happen may be waited for.
const WAITING: usize = 8;

/// Numbers that a revert hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevertedRange {
    first: u64,
    last: u64,
    why: Why,
}

/// Why something is hidden one time and not the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Why {
    /// The target of the request that causes the difference; 0: there is none.
    pub cause: u64,
    /// Whether the old state of a restored operation was not saved.
    pub is_lost: bool,
}

/// The net effect on an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetChange {
    /// The line is no operation, or the operation is live neither before nor after.
    Nothing,
    /// The operation stays live.
    StaysLive,
    /// The operation is reverted.
    Reverted,
    /// The operation becomes live again.
    Restored,
}

/// The effect of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineEffect {
    /// The net effect on its operation.
    pub change: NetChange,
    /// The target that causes the effect.
    pub why: Why,
    /// Whether the line would be live after the request if it were not a target itself.
    pub is_due: bool,
    /// Whether the line is live after the request: as an operation, or as a revert that lists its
    /// targets.
    pub is_live_after: bool,
}

/// All that is hidden, one of the two times.
struct Side<S> {
    hidden: S,
    /// Everything newer than a place is.
    skip: Option<(Option<Pos>, Why)>,
}

impl<S: Store<RevertedRange>> Side<S> {
    /// Why a line is hidden; `None` if visible.
    fn hider(&mut self, seq: u64) -> Option<Why> {
        if let Some((_, why)) = self.skip {
            return Some(why);
        }
        let spans = self.hidden.items().iter();
        let found = spans
            .rev()
            .find(|span| span.first <= seq && seq <= span.last);
        found.map(|span| span.why)
    }

    fn arrive(&mut self, at: Pos) {
        let is_over = |back: &Option<Pos>| back.is_some_and(|back| at <= back);
        if self.skip.as_ref().is_some_and(|(back, _)| is_over(back)) {
            self.skip = None;
        }
    }

    fn hide(&mut self, line: &Line<'_>, why: Why) -> Result<(), Stop> {
        for (first, last) in line.targets.iter().flat_map(|targets| targets.ranges()) {
            if last >= line.seq {
                return Err(Stop::Corrupt);
            }
            let span = RevertedRange { first, last, why };
            self.hidden.push(span).map_err(|_| Stop::NoSpace)?;
        }
        Ok(())
    }
}

/// Computes the net effect of a request. The caller feeds all of an object's lines, newest first.
pub struct Net<S> {
    object: ObjectId,
    /// Lines from this number on are those of the request itself.
    first: u64,
    now: Side<S>,
    after: Side<S>,
    /// The sides for which the next line lists more, and why.
    further: [Option<Why>; 2],
    cancelled: [u64; WAITING],
    newer: Option<(u64, Pos)>,
    next: Option<Pos>,
    /// The lowest number that is hidden one time and not the other.
    lowest: u64,
}

impl<S: Store<RevertedRange>> Net<S> {
    /// Begins at an object's newest line; both stores are empty.
    pub fn new(object: ObjectId, newest: Option<Pos>, first: u64, stores: (S, S)) -> Self {
        let side = |hidden| Side { hidden, skip: None };
        Self {
            object,
            first,
            now: side(stores.0),
            after: side(stores.1),
            further: [None; 2],
            cancelled: [0; WAITING],
            newer: None,
            next: newest,
            lowest: u64::MAX,
        }
    }

    /// Takes everything back that is newer than `back`: an undo's or a redo's line says that, which has
    /// the number `cause`.
    pub fn jump(&mut self, back: Option<Pos>, cause: u64) {
        let why = Why {
            cause,
            is_lost: false,
        };
        self.after.skip = Some((back, why));
    }

    /// The position of the next line.
    pub fn next(&self) -> Option<Pos> {
        self.next
    }

    /// Whether lines may come that are hidden one time and not the other.
    pub fn is_open(&self) -> bool {
        let newest = self.newer.map_or(u64::MAX, |(seq, _)| seq);
        let skips = [&self.now.skip, &self.after.skip];
        let mut skips = skips.into_iter().flatten();
        // The line at which a skip ends is not needed, and may have been dropped.
        let is_within = |back: Option<Pos>| self.next.is_some_and(|next| Some(next) > back);
        self.lowest < newest || skips.any(|(back, why)| why.cause != 0 && is_within(*back))
    }

    /// Takes the next line. `is_taken`: the line is a target of the request.
    pub fn step(&mut self, line: &Line<'_>, is_taken: bool) -> Result<LineEffect, Stop> {
        let at = self.next.take().ok_or(Stop::Corrupt)?;
        let older = self
            .newer
            .is_none_or(|(seq, pos)| line.seq < seq && at < pos);
        if !older || line.obj != Some(self.object) {
            return Err(Stop::Corrupt);
        }
        self.newer = Some((line.seq, at));
        self.next = line.prev;
        self.now.arrive(at);
        self.after.arrive(at);
        let further = core::mem::take(&mut self.further);
        let nothing = LineEffect {
            change: NetChange::Nothing,
            why: Why::default(),
            is_due: false,
            is_live_after: false,
        };
        if self.is_cancelled(line)? || line.seq >= self.first {
            return Ok(nothing);
        }
        if line.op == Op::Picked {
            self.hide(line, further)?;
            return Ok(nothing);
        }
        if line.op.is_bookkeeping() {
            return Ok(nothing);
        }
        let (now, after) = (self.now.hider(line.seq), self.after.hider(line.seq));
        let is_due = after.is_none();
        let why = match (now, after) {
            (None, None) if is_taken => Why {
                cause: line.seq,
                is_lost: false,
            },
            (None, Some(why)) | (Some(why), None) => why,
            _ => Why::default(),
        };
        let is_live = is_due && !is_taken;
        let change = match (now, is_live) {
            (None, true) => NetChange::StaysLive,
            (None, false) => NetChange::Reverted,
            (Some(_), true) => NetChange::Restored,
            (Some(_), false) => NetChange::Nothing,
        };
        if !matches!(line.op, Op::Revert | Op::Redo) {
            return Ok(LineEffect {
                change,
                why,
                is_due,
                is_live_after: is_live,
            });
        }
        let why = Why {
            is_lost: why.is_lost
                || (change == NetChange::Reverted && line.undo == Some(Undo::Lost)),
            ..why
        };
        let why = match change {
            NetChange::StaysLive => Why::default(),
            _ => why,
        };
        let sides = [now.is_none().then_some(why), is_live.then_some(why)];
        if line.targets.is_some() {
            self.hide(line, sides)?;
        } else {
            let [now, after] = sides;
            self.now.skip = self.now.skip.or(now.map(|why| (line.back, why)));
            self.after.skip = self.after.skip.or(after.map(|why| (line.back, why)));
        }
        Ok(LineEffect {
            change: NetChange::Nothing,
            why,
            is_due,
            is_live_after: is_live && line.targets.is_some(),
        })
    }

    /// Hides the targets that a revert's line, or a `picked` line, lists.
    fn hide(&mut self, line: &Line<'_>, sides: [Option<Why>; 2]) -> Result<(), Stop> {
        let [now, after] = sides;
        if let Some(why) = now {
            self.now.hide(line, why)?;
        }
        if let Some(why) = after {
            self.after.hide(line, why)?;
        }
        if sides.iter().flatten().any(|why| why.cause != 0) {
            let lowest = line.targets.map_or(u64::MAX, |targets| targets.lowest());
            let further = line.further.unwrap_or(u64::MAX);
            self.lowest = self.lowest.min(lowest).min(further);
        }
        if line.further.is_some() {
            self.further = sides;
        }
        Ok(())
    }

    /// Whether a line did not happen, or says that of another one.
    fn is_cancelled(&mut self, line: &Line<'_>) -> Result<bool, Stop> {
        let seq = line.seq;
        let mut is_it = false;
        for of in &mut self.cancelled {
            is_it |= *of == seq;
            if *of >= seq {
                *of = 0;
            }
        }
        if line.op == Op::Cancel {
            let of = line.of.filter(|of| *of < seq).ok_or(Stop::Corrupt)?;
            let free = self.cancelled.iter_mut().find(|of| **of == 0);
            *free.ok_or(Stop::Corrupt)? = of;
            return Ok(true);
        }
        Ok(is_it)
    }
}
