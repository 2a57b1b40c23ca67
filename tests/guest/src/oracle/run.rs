// SPDX-License-Identifier: GPL-2.0

//! Plays a sequence on a mount: operations forth, reverts back, and everything compared.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::holes::Holes;
use super::op::{parent, About, Op};
use super::sequence::Action;
use super::state::{difference, has_other_holes, other_time, protection, State, TreeState};
use super::workers::{Held, Workers};
use crate::fixture::Fixture;
use crate::group::{self, Placed, REDO, WALK};
use crate::mounts::Lower;
use crate::outcome::{check, fail, At, Outcome, Stop};
use crate::shadow::Random;
use crate::undo;
use rustix::fs::IFlags;

/// So many steps are taken back at once even where a whole tree was recorded in between.
const FAR: usize = 20;

/// An object that a step touches.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Path(String),
    Held(Held),
}

type States = BTreeMap<Key, Option<State>>;

/// A step that left lines.
struct DoneStep {
    what: String,
    lines: Vec<Placed>,
    before: States,
    /// The path of the object whose newest operations these are, if they are one's.
    object: Option<String>,
    /// Whether the operation changes times only.
    sets_times: bool,
}

/// A mistake that is made on purpose: the test says so of the reverts of this kind of operation, once
/// there has been one of the other kind.
pub type Planted = Option<(&'static str, &'static str)>;

/// How a sequence is played.
pub struct SequenceRun<'w> {
    w: &'w mut Fixture,
    workers: Option<Workers>,
    /// How often the processes of before have held something new.
    turn: u64,
    done: Vec<DoneStep>,
    looks: BTreeMap<usize, TreeState>,
    cursor: group::Cursor,
    planted: Planted,
    /// How many operations there were that left lines.
    pub operations: usize,
    /// How often the whole tree was compared.
    pub compared: usize,
    /// How often a file came back with fewer holes, or others.
    pub other_holes: usize,
    holes: Holes,
}

impl<'w> SequenceRun<'w> {
    pub fn new(w: &'w mut Fixture, planted: Planted) -> Outcome<SequenceRun<'w>> {
        let looks = BTreeMap::from([(0, TreeState::of(&w.mnt)?)]);
        let cursor = group::Cursor::at_end(w)?;
        Ok(SequenceRun {
            workers: None,
            turn: 0,
            w,
            done: Vec::new(),
            looks,
            cursor,
            planted,
            operations: 0,
            compared: 0,
            other_holes: 0,
            holes: Holes::default(),
        })
    }

    /// Runs all of the sequence, and takes all live operations back in the end; an error comes with the
    /// number of the action.
    pub fn run(&mut self, actions: &[Action]) -> Result<(), (usize, Stop)> {
        for (number, action) in actions.iter().enumerate() {
            let result = self.act(action).at(action.text());
            result.map_err(|stop| (number, stop))?;
        }
        self.end().map_err(|stop| (actions.len(), stop))
    }

    /// The same, with other operations instead of those that can only fail where they are.
    pub fn run_choosing(
        &mut self,
        actions: &mut [Action],
        random: &mut Random,
    ) -> Result<(), (usize, Stop)> {
        for (number, action) in actions.iter_mut().enumerate() {
            if let Action::Do(ops) = action {
                for (worker, op) in ops {
                    *op = self.chosen(*worker, op, random);
                }
            }
            let result = self.act(action).at(action.text());
            result.map_err(|stop| (number, stop))?;
        }
        self.end().map_err(|stop| (actions.len(), stop))
    }

    /// This operation, or another one that has better prospects.
    fn chosen(&self, worker: usize, op: &Op, random: &mut Random) -> Op {
        let mut op = op.clone();
        for _ in 0..8 {
            if self.is_possible(worker, &op) {
                break;
            }
            op = Op::random(random);
        }
        op
    }

    /// Whether the subject of an operation exists.
    fn is_possible(&self, worker: usize, op: &Op) -> bool {
        let kind = |path: &str| {
            let meta = std::fs::symlink_metadata(self.w.path(path));
            meta.map(|meta| meta.file_type()).ok()
        };
        let is_file = |path: &str| kind(path).is_some_and(|kind| kind.is_file());
        let is_held = || {
            let workers = self.workers.as_ref();
            workers.is_some_and(|workers| workers.held(worker, op.slot).is_some())
        };
        match op.about {
            About::Name if op.removes() => kind(&op.one).is_some(),
            About::Name => {
                let place = self.w.path(parent(&op.one));
                kind(&op.one).is_none() && place.is_dir()
            }
            About::Names if op.kind == "save" => kind(&op.one).is_none(),
            About::Names if op.kind == "exchange" => {
                kind(&op.one).is_some() && kind(&op.two).is_some()
            }
            About::Names if op.kind == "rename" => kind(&op.one).is_some(),
            About::Names | About::Second => kind(&op.one).is_some() && kind(&op.two).is_none(),
            About::Object if op.is_of_attributes() => kind(&op.one).is_some(),
            About::Object => is_file(&op.one),
            About::Objects => is_file(&op.one) && is_file(&op.two),
            About::Slot if op.kind == "open" => is_file(&op.one),
            About::Slot => is_held(),
        }
    }

    fn end(&mut self) -> Outcome {
        while !self.done.is_empty() {
            self.back(1, false).at("in the end")?;
        }
        self.let_go();
        self.compare()
    }

    fn act(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Do(ops) => self.step(ops),
            Action::Back(count, forth) => self.back(*count, *forth),
            Action::Object(count) => self.back_of_object(*count),
            Action::Look => {
                let whole = TreeState::of(&self.w.mnt)?;
                self.looks.insert(self.done.len(), whole);
                Ok(())
            }
            Action::Remount => {
                self.let_go();
                self.w.remount_if_lasting()?;
                self.cursor = group::Cursor::at_end(self.w)?;
                self.compare()
            }
        }
    }

    /// The processes end.
    fn let_go(&mut self) {
        if let Some(workers) = self.workers.take() {
            self.turn = workers.turn;
        }
    }

    fn workers(&mut self) -> Outcome<&mut Workers> {
        if self.workers.is_none() {
            self.workers = Some(Workers::new(self.w, self.turn)?);
        }
        match &mut self.workers {
            Some(workers) => Ok(workers),
            None => fail!("no processes"),
        }
    }

    /// Does the operations of a step, and reads their lines from the history.
    fn step(&mut self, ops: &[(usize, Op)]) -> Outcome {
        self.workers()?;
        // A file opened in this step is not known before the step; none of its operations touches
        // that file.
        let keys = self.keys(ops);
        let before = self.states(keys.clone())?;
        let mut succeeded = Vec::new();
        for (worker, op) in ops {
            let decides = ["protect", "unprotect"].contains(&op.kind);
            if (decides && ops.len() > 1) || !self.could_be_taken_back(*worker, op) {
                continue;
            }
            let performed = self.workers()?.perform(*worker, op)?;
            if op.kind == "map" || op.is_store() {
                self.mapped(*worker, op)?;
            }
            if performed && op.may_share() {
                self.shared(op)?;
            }
            if op.is_store() {
                self.end_slice(*worker, op)?;
            }
            if performed && !op.is_of_the_process() {
                succeeded.push((*worker, op));
            }
        }
        let lines = self.cursor.operations(self.w)?;
        if lines.is_empty() {
            let what = "nothing is logged";
            return self.same(&before, what);
        }
        let whole = match &succeeded[..] {
            [(_, op)] => op.object(),
            _ => None,
        };
        let one = lines[0].line.key("obj");
        let is_one = lines.iter().all(|placed| placed.line.key("obj") == one);
        self.operations += succeeded.len();
        if self.is_tmpfs() {
            for placed in &lines {
                self.holes.done_unclearly(&placed.line);
            }
        }
        let texts = ops.iter().map(|(_, op)| op.text());
        self.done.push(DoneStep {
            what: texts.collect::<Vec<_>>().join("; "),
            lines,
            before,
            // One that fails may move them, too: a copy half way, a range that ext4 refuses late.
            sets_times: matches!(ops, [(_, op)] if op.kind == "utimes"),
            object: whole.filter(|_| is_one).map(str::to_string),
        });
        Ok(())
    }

    /// An operation that succeeds on a protected object cannot be taken back while the object is protected,
    /// which would end all reverts: root's other flags, writes through earlier descriptors, and appends.
    fn could_be_taken_back(&self, worker: usize, op: &Op) -> bool {
        if op.kind == "unprotect" || op.is_of_the_process() {
            return true;
        }
        let workers = self.workers.as_ref();
        let held = workers.and_then(|workers| workers.path(workers.held(worker, op.slot)?));
        if let Some(path) = held.filter(|_| op.about == About::Slot) {
            if !protection(&path).is_empty() {
                return false;
            }
        }
        let is_of_flags = ["flags", "project"].contains(&op.kind);
        op.paths().into_iter().all(|path| {
            let its = protection(&self.w.path(path));
            let place = protection(&self.w.path(parent(path)));
            let adds = (its | place).contains(IFlags::APPEND);
            !adds && (its.is_empty() || !is_of_flags)
        })
    }

    fn keys(&self, ops: &[(usize, Op)]) -> Vec<Key> {
        let mut keys = Vec::new();
        for (worker, op) in ops {
            keys.extend(op.paths().into_iter().map(|path| Key::Path(path.into())));
            let held = self
                .workers
                .as_ref()
                .and_then(|workers| workers.held(*worker, op.slot));
            if let (About::Slot, Some(held)) = (op.about, held) {
                keys.push(Key::Held(held));
            }
        }
        keys
    }

    fn states(&self, keys: impl IntoIterator<Item = Key>) -> Outcome<States> {
        let mut states = States::new();
        for key in keys {
            let state = match &key {
                Key::Path(path) => State::at(&self.w.path(path))?,
                Key::Held(held) => match self
                    .workers
                    .as_ref()
                    .and_then(|workers| workers.path(*held))
                {
                    Some(path) => Some(State::held(&path)?),
                    None => continue,
                },
            };
            states.insert(key, state);
        }
        Ok(states)
    }

    /// Two files may have blocks in common now.
    fn shared(&mut self, op: &Op) -> Outcome {
        for path in op.paths() {
            let inode = std::fs::symlink_metadata(self.w.path(path))?.ino();
            self.holes.loosened(inode);
        }
        Ok(())
    }

    fn is_tmpfs(&self) -> bool {
        matches!(self.w.lower, Lower::Private | Lower::Tmpfs)
    }

    /// A mapping of this file may put pages where there are holes.
    fn mapped(&mut self, worker: usize, op: &Op) -> Outcome {
        let is_tmpfs = self.is_tmpfs();
        let workers = self.workers()?;
        let path = workers
            .held(worker, op.slot)
            .and_then(|held| workers.path(held));
        if let Some(path) = path.filter(|_| is_tmpfs || op.is_store()) {
            self.holes.loosened(std::fs::metadata(path)?.ino());
        }
        Ok(())
    }

    /// Stores get their lines now: reading the log flushes them. Otherwise the file could be closed before
    /// the next step flushes them.
    fn end_slice(&mut self, worker: usize, op: &Op) -> Outcome {
        let workers = self.workers()?;
        if let Some(path) = workers
            .held(worker, op.slot)
            .and_then(|held| workers.path(held))
        {
            undo::page(&File::open(&path)?).at("reading the log")?;
        }
        Ok(())
    }

    /// The present state must be the recorded one.
    fn same(&mut self, want: &States, what: &str) -> Outcome {
        let now = self.states(want.keys().cloned())?;
        for (key, got) in &now {
            let want = want.get(key).and_then(Option::as_ref);
            if let Some(difference) = difference(got.as_ref(), want) {
                fail!("{what}: {key:?} {difference}");
            }
            let has_others = has_other_holes(got.as_ref(), want);
            self.other_holes += usize::from(has_others);
            let is_told = has_others && !matches!(self.w.lower, Lower::Xfs);
            if let (true, Some(got), Some(want)) = (is_told, got, want) {
                if let Some(difference) = self.holes.difference(got, want) {
                    let (is, was) = (&got.data, &want.data);
                    fail!("{what}: {key:?} {difference}: {is:?} instead of {was:?}");
                }
            }
        }
        Ok(())
    }

    /// How many of the newest steps to take back so that no recorded tree is stepped over.
    fn up_to_a_look(&self, count: usize) -> usize {
        let depth = self.done.len();
        if count > FAR {
            return count.min(depth);
        }
        let most = match self.looks.range(..depth).next_back() {
            Some((look, _)) => depth - look,
            None => depth,
        };
        count.min(most)
    }

    fn back(&mut self, count: usize, forth: bool) -> Outcome {
        let count = self.up_to_a_look(count);
        if count == 0 {
            return Ok(());
        }
        self.back_at_once(count, forth)
    }

    fn back_at_once(&mut self, count: usize, forth: bool) -> Outcome {
        let newest = self.done.len() - count;
        let lines: Vec<Placed> = self.done[newest..]
            .iter()
            .flat_map(|done| done.lines.iter().cloned())
            .collect();
        let keys: Vec<Key> = self.done[newest..]
            .iter()
            .flat_map(|done| done.before.keys().cloned())
            .collect();
        let now = if forth {
            self.states(keys)?
        } else {
            States::new()
        };
        // An undo is redone; a revert is undone.
        let is_undo = !forth || count % 2 == 0;
        self.revert(&lines, if is_undo { WALK } else { 0 })?;
        if forth {
            let entries = self.cursor.reverts(self.w)?;
            let flags = if is_undo { REDO } else { WALK };
            self.revert(&entries, flags).at("forth")?;
            for placed in &lines {
                self.holes.taken(&placed.line);
            }
            self.same(&now, "forth again")?;
            self.revert(&lines, WALK).at("back again")?;
        }
        self.took_back(count)
    }

    fn revert(&self, lines: &[Placed], flags: u32) -> Outcome {
        let (result, answer) = group::revert(&File::open(&self.w.mnt)?, lines, flags);
        let Err(error) = result else {
            return Ok(());
        };
        let conflict = answer.conflicts.first();
        let about = |placed: &&Placed| Some(placed.seq) == conflict.map(|one| one.seq);
        let line = lines.iter().find(about).map(|placed| &placed.line.text);
        let (reason, way) = (answer.reason, answer.blocking_seq);
        fail!("{error}, reason {reason}, in the way {way}, {conflict:?}: {line:?}")
    }

    fn back_of_object(&mut self, most: usize) -> Outcome {
        let most = self.up_to_a_look(most);
        let Some(object) = self.done.last().and_then(|done| done.object.clone()) else {
            return self.back(most.min(1), false);
        };
        let newest = self.done.last().and_then(|done| done.lines.last());
        let id = newest.and_then(|placed| placed.line.key("obj"));
        let is_its = |done: &&DoneStep| {
            let its = done.lines.last().and_then(|placed| placed.line.key("obj"));
            done.object.as_ref() == Some(&object) && its == id
        };
        let count = self.done.iter().rev().take(most).take_while(is_its).count();
        let path = self.w.path(&object);
        let meta = std::fs::symlink_metadata(&path).at(&object)?;
        let kind = meta.file_type();
        let is_plain = kind.is_file() || kind.is_dir();
        // An exchange of a name with itself succeeds and does nothing: then the lines are another one's.
        let is_its_id = id.is_some_and(|id| id.split('.').next() == Some(&meta.ino().to_string()));
        if !is_its_id || !is_plain || !protection(&path).is_empty() {
            return self.back(most.min(1), false);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(kind.is_file());
        options.custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).at(&object)?;
        let newest = &self.done[self.done.len() - count..];
        let lines: usize = newest.iter().map(|done| done.lines.len()).sum();
        let what = format!("{lines} lines of {object}");
        undo::revert(&file, lines).at(what)?;
        drop(file);
        self.took_back(count)
    }

    /// This many steps are taken back: the oldest of them has the wanted state.
    fn took_back(&mut self, count: usize) -> Outcome {
        let depth = self.done.len() - count;
        let taken = self.done.split_off(depth);
        let _ = self.looks.split_off(&(depth + 1));
        for placed in taken.iter().flat_map(|done| &done.lines) {
            self.holes.taken(&placed.line);
        }
        self.cursor.operations(self.w).map(drop)?;
        let Some(oldest) = taken.first() else {
            return Ok(());
        };
        let what = format!("{count} taken back, the oldest is {}", oldest.what);
        self.same(&oldest.before, &what)?;
        self.same_times(&taken).at(&what)?;
        if let Some(workers) = self.workers.as_mut() {
            workers.look().at(&what)?;
        }
        self.planted_mistake(&taken)?;
        if self.looks.contains_key(&depth) {
            self.compare().at(&what)?;
        }
        Ok(())
    }

    /// The modification time comes back if the operation that is reverted last changed it explicitly. A write
    /// does not save the time, and its revert is itself a change of the file, as that of a name is one of its
    /// directory, so that the time advances. So does the change time, which cannot be set, and the access
    /// time, which this test's own reads change.
    fn same_times(&self, taken: &[DoneStep]) -> Outcome {
        let Some(oldest) = taken.first().filter(|done| done.sets_times) else {
            return Ok(());
        };
        for path in oldest.object.iter() {
            let got = State::at(&self.w.path(path))?;
            let want = oldest.before.get(&Key::Path(path.clone()));
            let want = want.and_then(Option::as_ref);
            if let Some(difference) = other_time(got.as_ref(), want) {
                fail!("times: {path} {difference}");
            }
        }
        Ok(())
    }

    fn planted_mistake(&self, taken: &[DoneStep]) -> Outcome {
        let Some((first, second)) = self.planted else {
            return Ok(());
        };
        let is = |done: &DoneStep, kind: &str| done.what.starts_with(kind);
        if taken.iter().any(|done| is(done, second)) {
            check!(
                !self.done.iter().any(|done| is(done, first)),
                "planted: {second} after {first}"
            );
        }
        Ok(())
    }

    /// The whole tree must equal its recorded state, if there is one.
    fn compare(&mut self) -> Outcome {
        let Some(want) = self.looks.get(&self.done.len()) else {
            return Ok(());
        };
        self.compared += 1;
        match TreeState::of(&self.w.mnt)?.difference(want) {
            Some(difference) => fail!("the whole tree: {difference}"),
            None => Ok(()),
        }
    }
}
