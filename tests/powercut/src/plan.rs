// SPDX-License-Identifier: GPL-2.0

//! The workload: the sequence of steps. It follows from a seed and from the results of earlier
//! steps, so that the marks determine all operations.

use std::collections::VecDeque;

use crate::model::{Model, NAMES};
use crate::shadow::Random;
use crate::tree::operation::Operation;

/// The subject of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// A bit of everything.
    Usual,
    /// The history is at its size limit, all the time.
    Trim,
    /// The lower filesystem is full, most of the time.
    Full,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Usual, Family::Trim, Family::Full];

    pub fn name(self) -> &'static str {
        match self {
            Family::Usual => "usual",
            Family::Trim => "trim",
            Family::Full => "full",
        }
    }

    pub fn parse(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.name() == name)
    }

    /// The mount's options.
    pub fn options(self) -> &'static str {
        match self {
            Family::Usual => "history_max=24M",
            Family::Trim => "history_max=2M",
            Family::Full => "history_max=8M",
        }
    }
}

/// How bytes are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Plain,
    /// Through a descriptor with O_SYNC.
    Sync,
    /// Through a descriptor with O_DIRECT.
    Direct,
}

/// How a group of operations is taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RevertMode {
    /// As an undo.
    Walk,
    /// As an operation like any other.
    Pick,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    Write {
        name: usize,
        at: usize,
        length: usize,
        how: How,
    },
    Truncate {
        name: usize,
        size: usize,
    },
    Punch {
        name: usize,
        at: usize,
        length: usize,
    },
    /// Zeroes, without a hole.
    Zero {
        name: usize,
        at: usize,
        length: usize,
    },
    /// Allocates space for holes, which changes no byte.
    Allocate {
        name: usize,
        at: usize,
        length: usize,
    },
    /// Of another file, or of another part of the same.
    Copy {
        from: (usize, usize),
        name: usize,
        at: usize,
        length: usize,
    },
    Fsync {
        name: usize,
        data_only: bool,
    },
    Sync,
    /// Makes the lower filesystem durable, and the written part of the history.
    SyncBelow,
    Revert {
        name: usize,
        count: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    Unlink {
        name: usize,
    },
    /// Takes operations on the directory's names back.
    Names {
        count: usize,
    },
    /// Takes back the newest operations of files, how many of each, of the directory's names, and of
    /// the two directories by one request.
    Group {
        way: RevertMode,
        files: Vec<(usize, usize)>,
        names: usize,
        tree: usize,
    },
    /// In the two directories.
    Tree(Operation),
    /// Takes back the undo of a group that was the last change.
    Redo,
    /// Stores through a shared map, all of them in one page.
    Store {
        name: usize,
        at: usize,
        length: usize,
        /// By msync.
        is_synced: bool,
    },
    Close {
        name: usize,
    },
    Unmount,
    UnmountLower,
    MountLower,
    Mount,
    Wait {
        milliseconds: u64,
    },
    /// Takes the lower filesystem's space, beside LoggerFS.
    Fill,
    /// Frees the space.
    Clear,
}

impl Act {
    pub fn is_group(&self) -> bool {
        matches!(self, Act::Group { .. } | Act::Redo)
    }

    pub fn is_revert(&self) -> bool {
        self.is_group() || matches!(self, Act::Revert { .. } | Act::Names { .. })
    }
}

/// Where the next step comes from.
pub struct Plan {
    family: Family,
    random: Random,
    waiting: VecDeque<Act>,
    /// How many steps in the two directories come next.
    operations: u64,
    step: u64,
    steps: u64,
}

impl Plan {
    /// Of a workload with about so many steps.
    pub fn new(family: Family, seed: u64, steps: u64) -> Plan {
        Plan {
            family,
            steps,
            random: Random::new(seed),
            waiting: VecDeque::new(),
            operations: 0,
            step: 0,
        }
    }

    /// The next step, in the state that the model is in.
    pub fn next(&mut self, model: &Model) -> Act {
        self.step += 1;
        while let Some(act) = self.waiting.pop_front() {
            if act != Act::Redo || model.undone().is_some() {
                return act;
            }
        }
        if self.operations > 0 {
            self.operations -= 1;
            return Act::Tree(Operation::choose(model.tree.state(), &mut self.random));
        }
        let steps = self.steps;
        if self.family == Family::Full && self.step == steps / 8 {
            return Act::Fill;
        }
        if self.family == Family::Full && self.step == steps * 3 / 4 {
            return Act::Clear;
        }
        if self.step == steps / 3 {
            // So long that every line before must be durable by itself.
            return Act::Wait { milliseconds: 4500 };
        }
        self.any(model)
    }

    fn any(&mut self, model: &Model) -> Act {
        let writes = if self.family == Family::Usual { 44 } else { 56 };
        // Not on a full disk: a partial change of names is not the subject there.
        let operations = if self.family == Family::Full { 0 } else { 16 };
        let dice = self.random.below(124 + writes + operations);
        if dice >= 124 + writes {
            self.operations = self.random.below(6);
            return Act::Tree(Operation::choose(model.tree.state(), &mut self.random));
        }
        if dice >= 124 {
            return self.write(model);
        }
        if dice >= 110 {
            return self.group(model);
        }
        if dice >= 100 {
            return self.store(model);
        }
        let Some(name) = self.existing(model) else {
            return self.write(model);
        };
        let size = model.size_of(name);
        match dice {
            0..16 => {
                let most = (size + size / 4 + 100) as u64;
                let size = self.random.below(most) as usize;
                Act::Truncate { name, size }
            }
            16..24 if size > 1 => {
                let at = self.random.below(size as u64 - 1) as usize;
                let length = 1 + self.random.below((size - at) as u64) as usize;
                match self.random.below(3) {
                    0 => Act::Zero { name, at, length },
                    1 => Act::Allocate { name, at, length },
                    _ => Act::Punch { name, at, length },
                }
            }
            24..46 => Act::Fsync {
                name,
                data_only: self.random.below(3) == 0,
            },
            46..51 => Act::Sync,
            51..72 => match model.depth_of(name) {
                0 => self.write(model),
                depth => {
                    let count = 1 + self.random.below(depth.min(4) as u64) as usize;
                    Act::Revert { name, count }
                }
            },
            72..78 => {
                let to = self.random.below(NAMES as u64) as usize;
                if to == name {
                    return Act::Close { name };
                }
                if self.random.below(3) == 0 {
                    self.waiting.push_back(Act::SyncBelow);
                }
                Act::Rename { from: name, to }
            }
            78..82 => {
                // The name may be lost before the line is durable; deleted files come back soon,
                // often enough.
                match self.random.below(4) {
                    0 => self.waiting.push_back(Act::SyncBelow),
                    1 | 2 => self.waiting.push_back(Act::Names { count: 1 }),
                    _ => {}
                }
                Act::Unlink { name }
            }
            82..84 => {
                let most = model.names_depth().min(3) as u64;
                Act::Names {
                    count: 1 + self.random.below(most) as usize,
                }
            }
            84..88 => Act::Close { name },
            88..94 => {
                if self.random.below(2) == 0 {
                    self.waiting
                        .extend([Act::UnmountLower, Act::MountLower, Act::Mount]);
                } else {
                    self.waiting.push_back(Act::Mount);
                }
                // The first line of a mount may be that of a loss.
                let first = self.existing(model).filter(|_| self.random.below(3) == 0);
                if let Some(name) = first {
                    self.waiting.extend([Act::Unlink { name }, Act::SyncBelow]);
                }
                Act::Unmount
            }
            94 => Act::Wait {
                milliseconds: 50 + self.random.below(1300),
            },
            95..98 if self.family != Family::Full => self.copy(model, name),
            _ => self.write(model),
        }
    }

    fn copy(&mut self, model: &Model, from: usize) -> Act {
        let (size, name) = (model.size_of(from), self.existing(model));
        let Some(name) = name.filter(|name| *name != from && size > 0) else {
            return self.write(model);
        };
        let random = &mut self.random;
        // Whole blocks, which may be shared, or any bytes.
        let unit = if random.below(2) == 0 { 4096 } else { 1 };
        let first = random.below(size as u64) as usize / unit * unit;
        let at = random.below(model.size_of(name) as u64 + 1) as usize / unit * unit;
        let length = 1 + random.below(((size - first) as u64).min(30_000)) as usize;
        Act::Copy {
            from: (from, first),
            name,
            at,
            length: length.next_multiple_of(unit).min(size - first),
        }
    }

    /// Several objects at once.
    fn group(&mut self, model: &Model) -> Act {
        let count = 2 + self.random.below(7) as usize;
        let (way, (files, names)) = match self.random.below(3) {
            0 => (RevertMode::Pick, self.chosen(model)),
            _ => (RevertMode::Walk, model.newest(count)),
        };
        let most = model.tree.newest().live.len().min(6) as u64;
        let tree = match way {
            RevertMode::Walk if self.random.below(2) == 0 => self.random.below(most + 1) as usize,
            _ => 0,
        };
        // One object's revert is not a group.
        if files.len() + usize::from(names > 0) + model.tree.members(tree) < 2 {
            return self.write(model);
        }
        if way == RevertMode::Walk && self.random.below(2) == 0 {
            match self.random.below(4) {
                0 => self.waiting.push_back(Act::Sync),
                1 => self.waiting.extend([Act::Unmount, Act::Mount]),
                _ => {}
            }
            self.waiting.push_back(Act::Redo);
        }
        Act::Group {
            way,
            files,
            names,
            tree,
        }
    }

    /// Operations of some files, despite later operations on others.
    fn chosen(&mut self, model: &Model) -> (Vec<(usize, usize)>, usize) {
        let mut files = Vec::new();
        for name in 0..NAMES {
            let depth = model.plain_depth_of(name);
            if depth > 0 && self.random.below(2) == 0 {
                files.push((name, 1 + self.random.below(depth.min(3) as u64) as usize));
            }
        }
        (files, 0)
    }

    /// Not where there is no room: the program would get a SIGBUS.
    fn store(&mut self, model: &Model) -> Act {
        let name = self.existing(model);
        let size = name.map_or(0, |name| model.size_of(name));
        match name {
            Some(name) if size > 0 && self.family != Family::Full => {
                let at = self.random.below(size as u64) as usize;
                let most = (size - at).min(4096 - at % 4096) as u64;
                Act::Store {
                    name,
                    at,
                    length: 1 + self.random.below(most) as usize,
                    is_synced: self.random.below(2) == 0,
                }
            }
            _ => self.write(model),
        }
    }

    fn existing(&mut self, model: &Model) -> Option<usize> {
        let first = self.random.below(NAMES as u64) as usize;
        (first..first + NAMES)
            .map(|name| name % NAMES)
            .find(|name| model.exists(*name))
    }

    fn write(&mut self, model: &Model) -> Act {
        let random = &mut self.random;
        let name = random.below(NAMES as u64) as usize;
        let size = model.size_of(name);
        let how = match random.below(10) {
            0 => How::Sync,
            1 => How::Direct,
            _ => How::Plain,
        };
        // A revert of much more than a segment takes ends its segment on the way.
        let is_large = self.family == Family::Trim;
        let mut length = match random.below(10) {
            0 if is_large => 150_000 + random.below(200_000),
            0 => 20_000 + random.below(60_000),
            1..4 => 3000 + random.below(17_000),
            _ => 1 + random.below(3000),
        } as usize;
        // No file gets much larger than this, so that all states fit into memory.
        let append = random.below(2) == 0 && size < 150_000;
        let mut at = if append {
            size
        } else {
            random.below(size as u64 + 1) as usize
        };
        if random.below(16) == 0 && size < 150_000 {
            at = size + random.below(9000) as usize;
        }
        if how == How::Direct {
            at = at / 4096 * 4096;
            length = length.div_ceil(4096) * 4096;
        }
        Act::Write {
            name,
            at,
            length,
            how,
        }
    }
}
