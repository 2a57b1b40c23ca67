// SPDX-License-Identifier: GPL-2.0

//! Random operations of all kinds on a tree, reverted one by one: the touched objects are compared at once,
//! the whole tree at some fifty random points and in the end.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{symlink, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, FileType, RenameFlags, XattrFlags, CWD};
use rustix::io::Errno;

use crate::faults::tree::{Node, Tree};
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{fail, same_errno, At, Outcome};
use crate::shadow::{pattern, Random};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("oracle-tree", oracle_tree).seconds(900),
    Test::new("oracle-tree-mixed", oracle_tree_mixed).seconds(1200),
];

/// Where names are made; the last ones are directories only now and then.
const PLACES: &[&str] = &["", "n0/", "n1/", "n0/n2/", "n1/n3/"];

/// An operation that succeeded.
struct DoneOperation {
    what: String,
    /// The object whose newest operation it is: the file, or the directory of the first name.
    object: String,
    /// The touched objects in their earlier state.
    before: Vec<(String, Option<Node>)>,
}

/// The operations on one or two paths below a directory.
struct Operation<'w> {
    root: &'w Path,
    random: &'w mut Random,
    one: String,
    two: String,
}

impl Operation<'_> {
    /// Does a random operation; returns its description, and the object whose newest operation it
    /// is. `None`: the operation was not possible, or had no effect.
    fn perform(&mut self) -> Outcome<Option<(String, String)>> {
        let (one, two) = (self.root.join(&self.one), self.root.join(&self.two));
        let kind = self.random.below(34);
        let name = [
            "create", "mkdir", "symlink", "mkfifo", "link", "unlink", "rmdir",
        ];
        let result = match kind {
            0..=5 => File::create_new(&one).map(drop),
            6 | 7 => fs::create_dir(&one),
            8 => symlink(format!("to {}", self.random.below(99)), &one),
            9 => rustix::fs::mknodat(CWD, &one, FileType::Fifo, 0o640.into(), 0)
                .map_err(io::Error::from),
            10 | 11 => fs::hard_link(&one, &two),
            12..=14 => fs::remove_file(&one),
            15 => fs::remove_dir(&one),
            16..=21 => return self.rename(&one, &two),
            _ => return self.change(&one),
        };
        let name = match kind {
            0..=5 => name[0],
            6 | 7 => name[1],
            8 | 9 => name[kind as usize - 6],
            10 | 11 => name[4],
            12..=14 => name[5],
            _ => name[6],
        };
        let (first, second) = (self.one.clone(), self.two.clone());
        let place = if name == "link" { &second } else { &first };
        Ok(result
            .is_ok()
            .then(|| (format!("{name} {first} {second}"), parent(place))))
    }

    fn rename(&mut self, one: &Path, two: &Path) -> Outcome<Option<(String, String)>> {
        let inode = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.ino()).ok();
        // Two names of one object: nothing happens.
        if inode(one) == inode(two) {
            return Ok(None);
        }
        let flags = match self.random.below(4) {
            0 => RenameFlags::EXCHANGE,
            1 => RenameFlags::NOREPLACE,
            _ => RenameFlags::empty(),
        };
        let result = rustix::fs::renameat_with(CWD, one, CWD, two, flags);
        let what = format!("rename {flags:?} {} {}", self.one, self.two);
        Ok(result.is_ok().then(|| (what, parent(&self.one))))
    }

    /// Changes content or attributes of a file, or attributes of a directory.
    fn change(&mut self, path: &Path) -> Outcome<Option<(String, String)>> {
        let Ok(meta) = fs::symlink_metadata(path) else {
            return Ok(None);
        };
        let file = match (meta.is_file(), meta.is_dir()) {
            (true, _) => OpenOptions::new().read(true).write(true).open(path)?,
            (_, true) => File::open(path)?,
            _ => return Ok(None),
        };
        let random = &mut *self.random;
        let (at, length) = (random.below(9000), 1 + random.below(3000));
        let name = format!("user.x{}", random.below(3));
        let kind = random.below(if meta.is_file() { 12 } else { 5 });
        let (what, result) = match kind {
            0 => {
                let mode = [0o600, 0o755, 0o4711, 0o1770][random.below(4) as usize];
                (
                    "chmod",
                    file.set_permissions(fs::Permissions::from_mode(mode)),
                )
            }
            1 => {
                let (user, group) = (random.below(3) as u32, random.below(3) as u32);
                (
                    "chown",
                    std::os::unix::fs::fchown(&file, Some(user), Some(group)),
                )
            }
            2 => {
                let value = random.bytes(1 + length as usize % 60);
                let set = rustix::fs::fsetxattr(&file, name, &value, XattrFlags::empty());
                ("setxattr", set.map_err(io::Error::from))
            }
            3 => (
                "removexattr",
                rustix::fs::fremovexattr(&file, name).map_err(io::Error::from),
            ),
            4 => {
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
                ("utimes", file.set_modified(time))
            }
            5 => ("truncate", file.set_len(at)),
            6 => {
                let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let punched = rustix::fs::fallocate(&file, mode, at, length);
                ("punch", punched.map_err(io::Error::from))
            }
            _ => {
                let bytes = pattern(random.next(), length as usize);
                ("write", file.write_at(&bytes, at).map(drop))
            }
        };
        let what = format!("{what} {} {at} {length}", self.one);
        Ok(result.is_ok().then(|| (what, self.one.clone())))
    }
}

fn parent(path: &str) -> String {
    path.rsplit_once('/')
        .map_or("", |(place, _)| place)
        .to_string()
}

/// One attempt below a directory, recorded in `done`; false: there was no effect.
fn step(root: &Path, random: &mut Random, done: &mut Vec<DoneOperation>) -> Outcome<bool> {
    let mut path = || {
        let place = PLACES[random.below(PLACES.len() as u64) as usize];
        format!("{place}n{}", random.below(6))
    };
    let (one, two) = (path(), path());
    let before = [&one, &two].map(|path| (path.clone(), Node::at(&root.join(path)).ok().flatten()));
    let mut operation = Operation {
        root,
        random,
        one,
        two,
    };
    let Some((what, object)) = operation.perform()? else {
        return Ok(false);
    };
    let before = before.to_vec();
    done.push(DoneOperation {
        what,
        object,
        before,
    });
    Ok(true)
}

/// So many operations below a directory.
pub fn work(root: &Path, random: &mut Random, count: usize) -> Outcome {
    let mut done = Vec::new();
    while done.len() < count {
        step(root, random, &mut done)?;
    }
    Ok(())
}

/// Takes back the newest operations, as many as are one object's, at most `most` of them.
fn take_back(w: &Fixture, done: &mut Vec<DoneOperation>, most: usize) -> Outcome {
    let Some(last) = done.last() else {
        return Ok(());
    };
    let (object, what) = (last.object.clone(), last.what.clone());
    let same = done.iter().rev().take(most);
    let count = same.take_while(|done| done.object == object).count();
    let what = format!("{count} operations, the newest is {what}");
    let path = w.path(&object);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(!path.is_dir())
        .custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&path).at(format!("{object}, {what}"))?;
    undo::revert(&file, count).at(&what)?;
    let oldest = done.drain(done.len() - count..).next();
    for (name, want) in oldest.into_iter().flat_map(|done| done.before) {
        let got = Node::at(&w.path(&name)).ok().flatten();
        match (got, want) {
            (Some(got), Some(want)) if got != want => {
                fail!("{what}: {}", got.difference(&name, &want))
            }
            (Some(_), None) => fail!("{what}: {name} is there"),
            (None, Some(_)) => fail!("{what}: {name} is missing"),
            _ => {}
        }
    }
    Ok(())
}

/// The whole tree after this many operations.
type Trees = BTreeMap<usize, Tree>;

/// Works until this many operations are live; compares the whole tree now and then.
fn go_on(
    w: &Fixture,
    random: &mut Random,
    (done, trees): (&mut Vec<DoneOperation>, &mut Trees),
    to: usize,
) -> Outcome {
    let seldom = 1 + to as u64 / 50;
    while done.len() < to {
        if step(&w.mnt, random, done)? && random.below(seldom) == 0 {
            trees.insert(done.len(), Tree::of(&w.mnt)?);
        }
    }
    Ok(())
}

/// Takes back until so many are left; `most` at once.
fn go_back(
    w: &mut Fixture,
    random: &mut Random,
    (done, trees): (&mut Vec<DoneOperation>, &mut Trees),
    (to, most): (usize, u64),
) -> Outcome {
    while done.len() > to {
        let at = format!("operation {}", done.len());
        let count = (1 + random.below(most) as usize).min(done.len() - to);
        take_back(w, done, count).at(&at)?;
        let _ = trees.split_off(&(done.len() + 1));
        if let Some(want) = trees.remove(&done.len()) {
            if let Some(difference) = Tree::of(&w.mnt)?.difference(&want) {
                fail!("{at}: {difference}");
            }
            if random.below(3) == 0 {
                w.remount_if_lasting()?;
            }
        }
    }
    Ok(())
}

/// Back one by one.
fn oracle_tree(w: &mut Fixture) -> Outcome {
    there_and_back(w, 3, 1, 1)
}

/// Back and forth several times, and several operations back at once.
fn oracle_tree_mixed(w: &mut Fixture) -> Outcome {
    there_and_back(w, 4, 4, 6)
}

fn there_and_back(w: &mut Fixture, salt: u64, rounds: u64, most: u64) -> Outcome {
    let mut random = Random::new(w.seed ^ salt);
    let random = &mut random;
    // `oracle-all` does many.
    let steps = w.times(1000, 300) / rounds as usize;
    let (mut done, mut trees) = (Vec::new(), Trees::from([(0, Tree::of(&w.mnt)?)]));
    let state = (&mut done, &mut trees);
    for round in 1..=rounds {
        let at = format!("seed {}, round {round}", w.seed);
        go_on(w, random, (state.0, state.1), steps).at(&at)?;
        let to = match rounds - round {
            0 => 0,
            _ => random.below(steps as u64) as usize,
        };
        w.remount_if_lasting()?;
        go_back(w, random, (state.0, state.1), (to, most)).at(&at)?;
    }
    let top = File::open(&w.mnt)?;
    same_errno("behind the first", undo::revert(&top, 1), Errno::NODATA)
}
