// SPDX-License-Identifier: GPL-2.0

//! Does the workload's steps, and marks each that was done.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::copy_file_range;

use crate::group;
use crate::lower::{self, Place};
use crate::mark::{Mark, Marker};
use crate::model::{name_of, Model};
use crate::outcome::{fail, At, Outcome, Stop};
use crate::plan::{Act, Family, How, Plan, RevertMode};
use crate::sys::{self, Map};
use crate::tree::{self, operation::Operation};
use crate::undo;

pub struct Worker<'a> {
    place: &'a Place,
    family: Family,
    run: u64,
    pub model: Model,
    plan: Plan,
    marker: Marker,
    began: Instant,
    open: HashMap<usize, File>,
    inode: u64,
}

impl<'a> Worker<'a> {
    /// On a new filesystem, with LoggerFS mounted.
    pub fn begin(place: &'a Place, family: Family, seed: u64, steps: u64) -> Outcome<Worker<'a>> {
        let marker = Marker::new(&place.disk, lower::size(place.lower))?;
        for directory in tree::ROOTS {
            let path = place.source.join(directory);
            fs::create_dir_all(path).at("making the directories")?;
        }
        rustix::fs::syncfs(File::open(&place.base)?)?;
        let mut worker = Worker {
            place,
            family,
            run: seed,
            model: Model::new(seed),
            plan: Plan::new(family, seed, steps),
            marker,
            began: Instant::now(),
            open: HashMap::new(),
            inode: 0,
        };
        // From here on a cut may come.
        worker.mark(0, 0)?;
        place.mount(family.options())?;
        Ok(worker)
    }

    fn mark(&mut self, step: u64, result: i64) -> Outcome {
        self.marker.put(&Mark {
            run: self.run,
            step,
            result,
            inode: self.inode,
            time: self.began.elapsed().as_millis() as u64,
        })
    }

    /// Does the next step.
    pub fn step(&mut self) -> Outcome {
        let act = self.plan.next(&self.model);
        self.inode = 0;
        let step = self.model.step + 1;
        let result = match self.perform(&act, step) {
            Ok(result) => result,
            Err(Stop::Fail(reason)) => fail!("step {step}, {act:?}: {reason}"),
            Err(stop) => return Err(stop),
        };
        if result < 0 && !self.may_fail(&act, -result as i32) {
            let errno = io::Error::from_raw_os_error(-result as i32);
            fail!("step {step}, {act:?}: {errno}{}", self.story(&act));
        }
        self.model.apply(&act, result, self.inode);
        self.mark(step, result)
    }

    /// The log of a file and the recorded model, if a revert failed.
    fn story(&mut self, act: &Act) -> String {
        let Act::Revert { name, .. } = *act else {
            return String::new();
        };
        let Some(object) = self.model.object_of(name) else {
            return String::new();
        };
        let events = self.model.objects[object].events.iter();
        let events: Vec<_> = events.map(|e| format!("{}: {}", e.step, e.line)).collect();
        let lines = self.file(name).and_then(|file| undo::lines(file, true));
        let lines = lines.unwrap_or_default();
        let lines: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        format!("\n{}\n{}", events.join("\n"), lines.join("\n"))
    }

    /// Where there is no room, operations end with ENOSPC, and reverts find their past dropped; where the
    /// history is full, a revert that could be taken back only with more is refused.
    fn may_fail(&self, act: &Act, errno: i32) -> bool {
        let is_revert = act.is_revert();
        match self.family {
            Family::Usual => false,
            Family::Trim => is_revert && [libc::ENODATA, libc::ENOSPC].contains(&errno),
            Family::Full => {
                errno == libc::ENOSPC || is_revert && [libc::ENODATA, libc::ESTALE].contains(&errno)
            }
        }
    }

    fn path(&self, name: usize) -> PathBuf {
        self.place.top.join(name_of(name))
    }

    fn perform(&mut self, act: &Act, step: u64) -> Outcome<i64> {
        let place = self.place;
        let done = match *act {
            Act::Write {
                name,
                at,
                length,
                how,
            } => {
                let bytes = self.model.bytes(step, length);
                self.write(name, at as u64, &bytes, how)
            }
            Act::Truncate { name, size } => self.file(name)?.set_len(size as u64).map(|()| 0),
            Act::Punch { name, at, length } => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                sys::fallocate(self.file(name)?, mode, at as i64, length as i64).map(|()| 0)
            }
            Act::Zero { name, at, length } => {
                let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
                sys::fallocate(self.file(name)?, mode, at as i64, length as i64).map(|()| 0)
            }
            Act::Allocate { name, at, length } => {
                let mode = libc::FALLOC_FL_KEEP_SIZE;
                sys::fallocate(self.file(name)?, mode, at as i64, length as i64).map(|()| 0)
            }
            Act::Copy {
                from: (from, first),
                name,
                at,
                length,
            } => {
                let from = self.file(from)?.try_clone()?;
                let (mut first, mut at) = (first as u64, at as u64);
                let to = Some(&mut at);
                copy_file_range(from, Some(&mut first), self.file(name)?, to, length)
                    .map(|copied| copied as i64)
                    .map_err(io::Error::from)
            }
            Act::Group {
                way,
                ref files,
                names,
                tree,
            } => self.group(way, files, (names, tree))?,
            Act::Tree(ref operation) => self.tree(operation),
            Act::Redo => self.redo()?,
            Act::Store {
                name,
                at,
                length,
                is_synced,
            } => self.store(name, at, &self.model.bytes(step, length), is_synced),
            Act::Fsync { name, data_only } => {
                let file = self.file(name)?;
                if data_only {
                    file.sync_data()
                } else {
                    file.sync_all()
                }
                .map(|()| 0)
            }
            Act::Sync => rustix::fs::syncfs(File::open(&place.top)?)
                .map(|()| 0)
                .map_err(io::Error::from),
            Act::SyncBelow => rustix::fs::syncfs(File::open(&place.base)?)
                .map(|()| 0)
                .map_err(io::Error::from),
            Act::Revert { name, count } => undo::revert(self.file(name)?, count).map(|()| 0),
            Act::Rename { from, to } => fs::rename(self.path(from), self.path(to)).map(|()| 0),
            Act::Unlink { name } => fs::remove_file(self.path(name)).map(|()| 0),
            Act::Names { count } => {
                let directory = File::open(&place.top)?;
                undo::revert(&directory, count).map(|()| 0)
            }
            Act::Close { name } => {
                self.close(name);
                Ok(0)
            }
            Act::Unmount => {
                self.open.clear();
                place.unmount()?;
                Ok(0)
            }
            Act::UnmountLower => place.unmount_lower().map(|()| Ok(0))?,
            Act::MountLower => place.mount_lower().map(|()| Ok(0))?,
            Act::Mount => place.mount(self.family.options()).map(|()| Ok(0))?,
            Act::Wait { milliseconds } => {
                std::thread::sleep(Duration::from_millis(milliseconds));
                Ok(0)
            }
            Act::Fill => self.fill().map(|()| 0),
            Act::Clear => match fs::remove_file(place.base.join("filler")) {
                // The disk had no space for the file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                result => result.map(|()| 0),
            },
        };
        Ok(match done {
            Ok(result) => result,
            Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }

    fn close(&mut self, name: usize) {
        if let Some(object) = self.model.object_of(name) {
            self.open.remove(&object);
        }
    }

    /// A descriptor of an object that is there.
    fn file(&mut self, name: usize) -> Outcome<&File> {
        let Some(object) = self.model.object_of(name) else {
            fail!("{} is not there", name_of(name));
        };
        let path = self.path(name);
        match self.open.entry(object) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let file = OpenOptions::new().read(true).write(true).open(&path);
                Ok(entry.insert(file.at(format!("opening {}", path.display()))?))
            }
        }
    }

    fn write(&mut self, name: usize, at: u64, bytes: &[u8], how: How) -> io::Result<i64> {
        let existed = self.model.exists(name);
        let flags = match how {
            How::Plain => 0,
            How::Sync => libc::O_SYNC,
            How::Direct => libc::O_DIRECT,
        };
        if how == How::Plain && existed {
            let file = self.file(name).map_err(|_| io::ErrorKind::NotFound)?;
            return file.write_at(bytes, at).map(|n| n as i64);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.custom_flags(flags).open(self.path(name))?;
        if !existed {
            self.inode = file.metadata()?.ino();
        }
        let mut aligned = Map::anonymous(bytes.len().next_multiple_of(4096))?;
        aligned.store(0, bytes);
        let written = file.write_at(&aligned.bytes()[..bytes.len()], at);
        written.map(|n| n as i64)
    }

    fn group(
        &mut self,
        way: RevertMode,
        files: &[(usize, usize)],
        (names, tree): (usize, usize),
    ) -> Outcome<io::Result<i64>> {
        let root = File::open(&self.place.top)?;
        let Some(others) = tree::check::newest(&root, &self.model.tree, tree)? else {
            return Ok(Err(io::Error::from_raw_os_error(libc::ENODATA)));
        };
        let mut wanted = Vec::new();
        for (name, count) in files {
            wanted.push((self.file(*name)?.try_clone()?, *count));
        }
        let mut wanted: Vec<_> = wanted.iter().map(|(file, count)| (file, *count)).collect();
        if names > 0 {
            wanted.push((&root, names));
        }
        self.note_group(group::take_back(&root, &wanted, &others, way)?)
    }

    fn tree(&mut self, operation: &Operation) -> io::Result<i64> {
        self.inode = operation.perform(self.model.tree.state(), &self.place.top)?;
        Ok(0)
    }

    fn redo(&mut self) -> Outcome<io::Result<i64>> {
        let root = File::open(&self.place.top)?;
        let Some(undo) = self.model.undone() else {
            fail!("nothing was undone");
        };
        let seq = undo.seq;
        self.note_group(group::redo(&root, seq)?)
    }

    /// The mark has the number of the group in place of an inode number.
    fn note_group(&mut self, answer: io::Result<u64>) -> Outcome<io::Result<i64>> {
        Ok(answer.map(|seq| {
            self.inode = seq;
            0
        }))
    }

    fn store(&mut self, name: usize, at: usize, bytes: &[u8], is_synced: bool) -> io::Result<i64> {
        let size = self.model.size_of(name);
        let file = self.file(name).map_err(|_| io::ErrorKind::NotFound)?;
        let mut map = Map::of(file, size, true, true)?;
        map.store(at, bytes);
        if is_synced {
            map.sync()?;
        }
        drop(map);
        // Reading the log ends the flush interval of the page: the next store is a step of its own.
        undo::page(file).map(|_| 0)
    }

    /// Leaves some hundred KiB.
    fn fill(&mut self) -> io::Result<()> {
        let filler = self.place.base.join("filler");
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(filler)?;
        let mut piece = 8 << 20;
        while piece >= 64 << 10 {
            match io::Write::write_all(&mut &file, &vec![b'f'; piece]) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => piece /= 2,
                Err(error) => return Err(error),
            }
        }
        file.sync_all()
    }
}

/// The steps from the marks: the model, and each step; the last one had perhaps begun.
pub fn replayed(family: Family, seed: u64, steps: u64, marks: &[Mark]) -> (Model, Vec<Act>) {
    let mut model = Model::new(seed);
    let mut plan = Plan::new(family, seed, steps);
    let mut acts = Vec::new();
    for mark in marks {
        let act = plan.next(&model);
        model.apply(&act, mark.result, mark.inode);
        acts.push(act);
    }
    let begun = plan.next(&model);
    let length = match begun {
        Act::Write { length, .. } | Act::Copy { length, .. } => length as i64,
        _ => 0,
    };
    model.apply(&begun, length, 0);
    acts.push(begun);
    (model, acts)
}
