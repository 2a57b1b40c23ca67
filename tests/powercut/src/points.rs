// SPDX-License-Identifier: GPL-2.0

//! The cut points of a recording, and the data that is left then.

use crate::check::{self, Cut, Damage, Tally};
use crate::decision::Decision;
use crate::lower::{self, Place};
use crate::model::Model;
use crate::nbd::Disk;
use crate::outcome::{At, Outcome};
use crate::plan::Act;
use crate::recording::Recording;
use crate::shadow::Random;
use crate::store::{lose, Entry, Loss, Store};
use crate::work;

/// The activity at the time of the cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum CutMoment {
    Any,
    /// The longest time after a flush.
    Unflushed,
    Reverting,
    /// Taking back operations of several objects.
    Grouping,
    /// The same with the deciding line on the disk: only the lines of the other objects are
    /// missing.
    Decided,
    Unmounting,
    /// Unmounted in good order.
    Unmounted,
    /// Right after a revert, or after a durable loss of a name below: its line is not durable.
    Promised,
    /// The next mount put things in order after another cut.
    Recovering,
}

impl CutMoment {
    /// In turn: of twelve points, two are in a group before its decision, and two after; two are where a
    /// durable change has no line yet.
    const ALL: [CutMoment; 12] = [
        CutMoment::Any,
        CutMoment::Unflushed,
        CutMoment::Decided,
        CutMoment::Promised,
        CutMoment::Reverting,
        CutMoment::Grouping,
        CutMoment::Recovering,
        CutMoment::Decided,
        CutMoment::Promised,
        CutMoment::Unmounting,
        CutMoment::Grouping,
        CutMoment::Unmounted,
    ];

    pub fn name(self) -> &'static str {
        match self {
            CutMoment::Any => "any",
            CutMoment::Unflushed => "unflushed",
            CutMoment::Reverting => "reverting",
            CutMoment::Grouping => "grouping",
            CutMoment::Decided => "decided",
            CutMoment::Unmounting => "unmounting",
            CutMoment::Unmounted => "unmounted",
            CutMoment::Promised => "promised",
            CutMoment::Recovering => "recovering",
        }
    }
}

/// One cut of a recording.
pub struct CutPoint {
    pub number: usize,
    pub moment: CutMoment,
    /// How many of the recording's entries had come.
    pub at: usize,
    seed: u64,
}

/// Lines wait in memory for at most `commit=` seconds; an emulated machine gets some more.
const COMMIT: u64 = 1000 + 2500;

/// The number of steps in the report of a failed point.
const STORY: usize = 40;

/// A recording, and its steps.
pub struct Cuts {
    recording: Recording,
    model: Model,
    acts: Vec<Act>,
    /// How each act ended; the last had perhaps begun.
    results: Vec<i64>,
    /// For each step from 0 on, its mark's place and time.
    marks: Vec<(usize, u64)>,
    decisions: Vec<Decision>,
}

impl Cuts {
    pub fn new(recording: Recording) -> Cuts {
        let marks = recording.marks();
        let steps: Vec<_> = marks.iter().skip(1).map(|(_, mark)| *mark).collect();
        let (model, acts) =
            work::replayed(recording.family, recording.seed, recording.steps, &steps);
        let results = steps.iter().map(|mark| mark.result).collect();
        let time = |at: usize| recording.entries[at].time;
        let marks: Vec<_> = marks.iter().map(|(at, _)| (*at, time(*at))).collect();
        let decisions = model.groups.iter().filter_map(|group| {
            let (before, own) = (group.step as usize - 1, group.step as usize);
            let places = marks.get(before)?.0 + 1..=marks.get(own)?.0;
            Decision::find(&recording.entries, places, group.seq)
        });
        let decisions = decisions.collect();
        Cuts {
            recording,
            model,
            acts,
            results,
            marks,
            decisions,
        }
    }

    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// `count` points, in the recording's order.
    pub fn choose(&self, count: usize) -> Vec<CutPoint> {
        let mut random = Random::new(self.recording.seed ^ 0x00c0_ffee);
        let mut points: Vec<CutPoint> = (0..count)
            .map(|number| {
                let moment = CutMoment::ALL[number % CutMoment::ALL.len()];
                // The operation to recover from is mostly a revert.
                let of = match moment {
                    CutMoment::Recovering => match random.below(5) {
                        0 => CutMoment::Reverting,
                        1 => CutMoment::Grouping,
                        2 => CutMoment::Decided,
                        _ => moment,
                    },
                    moment => moment,
                };
                let places = self.places(of);
                let (moment, places) = if places.is_empty() {
                    (CutMoment::Any, self.places(CutMoment::Any))
                } else {
                    (moment, places)
                };
                CutPoint {
                    number,
                    moment,
                    at: places[random.below(places.len() as u64) as usize],
                    seed: random.next(),
                }
            })
            .collect();
        points.sort_by_key(|point| point.at);
        points
    }

    /// Where a cut finds the machine at that.
    fn places(&self, moment: CutMoment) -> Vec<usize> {
        let first = self.marks[0].0 + 1;
        let all = first..=self.recording.entries.len();
        match moment {
            CutMoment::Any | CutMoment::Recovering => all.collect(),
            CutMoment::Unflushed => all
                .filter(|at| self.recording.entries.get(*at).is_none_or(Entry::is_flush))
                .collect(),
            CutMoment::Reverting => {
                self.during(|act| matches!(act, Act::Revert { .. } | Act::Names { .. }))
            }
            CutMoment::Grouping => {
                let groups = self.decisions.iter();
                let open = groups.map(|group| *group.before.start()..*group.durable.start());
                open.flatten().collect()
            }
            CutMoment::Decided => {
                let durable = self.decisions.iter().map(|group| group.durable.clone());
                durable.flatten().collect()
            }
            CutMoment::Unmounting => {
                self.during(|act| matches!(act, Act::Unmount | Act::UnmountLower))
            }
            CutMoment::Unmounted => self.behind(|act| *act == Act::Unmount),
            CutMoment::Promised => {
                self.behind(|act| matches!(act, Act::Revert { .. } | Act::SyncBelow))
            }
        }
    }

    /// The points right after such steps, if they were done.
    fn behind(&self, is_it: impl Fn(&Act) -> bool) -> Vec<usize> {
        let marks = self.marks.iter().zip(0usize..).skip(1);
        let is_done = |step: usize| self.results[step - 1] >= 0 && is_it(&self.acts[step - 1]);
        marks
            .filter(|(_, step)| is_done(*step))
            .map(|((at, _), _)| at + 1)
            .collect()
    }

    /// The places while such a step is under way.
    fn during(&self, is_it: impl Fn(&Act) -> bool) -> Vec<usize> {
        let mut found = Vec::new();
        for (pair, act) in self.marks.windows(2).zip(&self.acts) {
            if is_it(act) {
                found.extend(pair[0].0 + 1..=pair[1].0);
            }
        }
        found
    }

    /// The group that was under way, from its first line on.
    pub fn decision(&self, at: usize) -> Option<&Decision> {
        let is_there = |group: &&Decision| group.before.contains(&at) || group.behind.contains(&at);
        self.decisions.iter().find(is_there)
    }

    /// How many steps were done at a place.
    pub fn done(&self, at: usize) -> u64 {
        self.marks.partition_point(|(mark, _)| *mark < at) as u64 - 1
    }

    /// The step that was under way.
    pub fn act(&self, at: usize) -> &Act {
        &self.acts[self.done(at) as usize]
    }

    /// The last steps at a place, the one under way too, and how each ended.
    pub fn story(&self, at: usize) -> String {
        let done = self.done(at) as usize;
        let told = (done.saturating_sub(STORY)..=done).map(|step| match self.results.get(step) {
            Some(result) => format!("{} {:?} = {result}", step + 1, self.acts[step]),
            None => format!("{} {:?}", step + 1, self.acts[step]),
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// How long the longest step took that did not only wait: the worker may have taken as long.
    fn slowest(&self) -> u64 {
        let steps = self.marks.windows(2).zip(&self.acts);
        let works = steps.filter(|(_, act)| !matches!(act, Act::Wait { .. }));
        works
            .map(|(pair, _)| pair[1].1 - pair[0].1)
            .max()
            .unwrap_or(0)
    }

    /// Steps up to this one must have their lines in the log.
    fn lines(&self, at: usize) -> u64 {
        let done = self.done(at);
        let now = self.recording.entries[at - 1].time;
        let late = COMMIT + 2 * self.slowest();
        let old = |(mark, time): &&(usize, u64)| *mark < at && time + late < now;
        let by_time = self.marks.iter().filter(old).count() as u64;
        self.model
            .lines_durable_at(done)
            .max(by_time.saturating_sub(1))
    }
}

/// Makes cut after cut of one recording.
pub struct Cutter<'a> {
    cuts: &'a Cuts,
    disk: &'a Disk,
    place: &'a Place,
    /// The medium after the first entries.
    base: Store,
    applied: usize,
    damage: Option<Damage>,
}

impl<'a> Cutter<'a> {
    pub fn new(
        cuts: &'a Cuts,
        disk: &'a Disk,
        place: &'a Place,
        damage: Option<Damage>,
    ) -> Cutter<'a> {
        let size = lower::size(cuts.recording.lower) + crate::mark::AREA;
        Cutter {
            cuts,
            disk,
            place,
            base: Store::new(size),
            applied: 0,
            damage,
        }
    }

    /// Cuts there and looks. Points come in order.
    pub fn cut(&mut self, point: &CutPoint, tally: &mut Tally) -> Outcome {
        let mut random = Random::new(point.seed);
        let image = self.image(point.at, &mut random);
        self.disk.put(image.clone())?;
        if point.moment == CutMoment::Recovering {
            let image = self.recover(image, &mut random)?;
            self.disk.put(image)?;
        }
        let done = self.cuts.done(point.at);
        let decision = self.cuts.decision(point.at);
        if let Some(group) = decision {
            tally.undecided += u64::from(group.before.contains(&point.at));
            tally.behind += u64::from(group.behind.contains(&point.at));
        }
        let mut cut = Cut {
            model: &self.cuts.model,
            lower: self.cuts.recording.lower,
            family: self.cuts.recording.family,
            done,
            begun: done + 1,
            withdrawn: None,
            lines: self.cuts.lines(point.at),
            is_decided: decision.is_some_and(|group| group.durable.contains(&point.at)),
            damage: self.damage,
        };
        check::look(self.place, &mut cut, &mut random, tally)
    }

    fn image(&mut self, at: usize, random: &mut Random) -> Store {
        let entries = &self.cuts.recording.entries;
        let flushes = (0..at).rev().filter(|at| entries[*at].is_flush());
        let ignored = if self.damage == Some(Damage::Flush) {
            12
        } else {
            0
        };
        let flushed = flushes.clone().nth(ignored).unwrap_or(0);
        for entry in &entries[self.applied.min(flushed)..flushed] {
            entry.apply(&mut self.base);
        }
        self.applied = self.applied.max(flushed);
        let mut image = self.base.clone();
        let loss = Loss::choose(random, lower::atom(self.cuts.recording.lower));
        lose(&mut image, &entries[self.applied..at], &loss, random);
        image
    }

    /// Mounts the remains of the cut, and cuts again before that has ended.
    fn recover(&self, image: Store, random: &mut Random) -> Outcome<Store> {
        self.disk.record();
        let done = self.mount_once();
        let entries = self.disk.recorded();
        done.at("the mount that is cut")?;
        let at = random.below(entries.len() as u64 + 1) as usize;
        let flushed = (0..at).rev().find(|at| entries[*at].is_flush());
        let flushed = flushed.unwrap_or(0);
        let mut again = image;
        for entry in &entries[..flushed] {
            entry.apply(&mut again);
        }
        let loss = Loss::choose(random, lower::atom(self.cuts.recording.lower));
        lose(&mut again, &entries[flushed..at], &loss, random);
        Ok(again)
    }

    fn mount_once(&self) -> Outcome {
        self.place.mount_lower()?;
        self.place.mount(self.cuts.recording.family.options())?;
        self.place.unmount()?;
        self.place.unmount_lower()
    }
}
