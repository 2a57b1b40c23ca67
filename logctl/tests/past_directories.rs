// SPDX-License-Identifier: MIT OR Apache-2.0

//! The names in directories as of a point, and when objects were modified.

#[path = "support/mount.rs"]
mod mount;

use std::collections::BTreeMap;

use logctl::past_directories::PastDirectories;
use logctl::past_times::PastTimes;
use loggerfs_log::line::Line;
use mount::{timeline, Kernel, BEGINNING};

/// A directory: names, and the inode numbers of their objects.
type Names = BTreeMap<String, u64>;

/// Directories by inode number.
type State = BTreeMap<u64, Names>;

/// A kernel, and the directories after each line.
struct Model {
    kernel: Kernel,
    state: State,
    states: Vec<State>,
}

const ROOT: u64 = 1;

impl Model {
    /// A mount whose files were there before any line.
    fn new(state: &[(u64, &[(&str, u64)])]) -> Self {
        let names = |names: &[(&str, u64)]| {
            let names = names.iter();
            names
                .map(|(name, inode)| ((*name).to_owned(), *inode))
                .collect()
        };
        let state: State = state.iter().map(|(dir, all)| (*dir, names(all))).collect();
        Self {
            kernel: Kernel::new(),
            states: vec![state.clone()],
            state,
        }
    }

    fn line(&mut self, dir: u64, op: &str, keys: &str) {
        let second = self.kernel.seq as i64;
        let keys = format!("{keys} undo=none pid=9@9.0 uid=0");
        let head = format!("/bin/x {op} 0 0");
        self.kernel.line(second, &format!("{dir}.1"), &head, &keys);
        self.states.push(self.state.clone());
    }

    fn names(&mut self, dir: u64) -> &mut Names {
        self.state.entry(dir).or_default()
    }

    fn create(&mut self, dir: u64, name: &str, inode: u64) {
        self.names(dir).insert(name.to_owned(), inode);
        self.line(dir, "create", &format!("name={name} node={inode}.1"));
    }

    fn unlink(&mut self, dir: u64, name: &str) {
        let inode = self.names(dir).remove(name).unwrap();
        self.line(dir, "unlink", &format!("name={name} node={inode}.1"));
    }

    fn rename(&mut self, (dir, name): (u64, &str), (other, to): (u64, &str)) {
        let inode = self.names(dir).remove(name).unwrap();
        let over = self.names(other).insert(to.to_owned(), inode);
        let over = over.map_or(String::new(), |over| format!(" over={over}.1"));
        let parent = if other == dir {
            String::new()
        } else {
            format!(" parent={other}.1")
        };
        let keys = format!("name={name} node={inode}.1{parent} to={to}{over}");
        self.line(dir, "rename", &keys);
    }

    /// Takes an operation on a directory's names, or a revert of one, back: the state is again that after the
    /// line `to`.
    fn revert(&mut self, dir: u64, op: &str, (of, to): (u64, u64)) {
        self.state = self.states[to as usize].clone();
        let before = self.kernel.key(of, "prev");
        let back = before.map_or(String::new(), |before| format!(" back={before}"));
        self.line(
            dir,
            op,
            &format!("of={of} count=1{back} mode=walk picks={of}"),
        );
        let revert = self.kernel.seq;
        self.line(dir, "commit", &format!("of={revert}"));
    }

    /// Compares the listings after each line with the model: with all lines known, and with the later half
    /// taken in one by one.
    fn check(&mut self) {
        let all = timeline(&mut self.kernel);
        let last = self.kernel.seq;
        let (states, now) = (self.states.clone(), self.state.clone());
        for cut in 0..=last {
            let whole = PastDirectories::at(&all, cut);
            compare(&whole, &now, &states[cut as usize], cut);
            let known = cut.midpoint(last);
            let mut older = all.clone();
            older.entries.retain(|entry| entry.seq <= known);
            let mut grown = PastDirectories::at(&older, cut);
            let lines: Vec<Line<'_>> = all.entries.iter().rev().map(|entry| entry.line()).collect();
            for line in lines.iter().filter(|line| line.seq > known) {
                grown.take_in(line);
            }
            compare(&grown, &now, &states[cut as usize], cut);
        }
    }
}

fn compare(names: &PastDirectories, now: &State, want: &State, cut: u64) {
    for dir in want.keys() {
        let present = now.get(dir).cloned().unwrap_or_default();
        let present = present
            .into_iter()
            .map(|(name, inode)| (name.into_bytes(), inode));
        let listed: Names = names
            .list(*dir, present)
            .into_iter()
            .map(|(name, listed)| (String::from_utf8(name).unwrap(), listed.inode))
            .collect();
        assert_eq!(listed, want[dir], "directory {dir} as of {cut}");
        for (name, inode) in &listed {
            let bound = names.name(*dir, name.as_bytes());
            let is_same = bound.is_none_or(|bound| bound.is_some_and(|id| id.inode == *inode));
            assert!(is_same, "{name} in {dir} as of {cut}: {bound:?}");
        }
    }
}

#[test]
fn listings_are_those_of_each_point() {
    let mut model = Model::new(&[
        (ROOT, &[("d", 2), ("old", 7)]),
        (2, &[("in", 8), ("e", 3)]),
        (3, &[]),
    ]);
    model.create(ROOT, "a", 10);
    model.create(2, "b", 11);
    model.rename((2, "in"), (ROOT, "out"));
    model.rename((ROOT, "a"), (2, "b"));
    model.unlink(ROOT, "old");
    model.create(ROOT, "old", 12);
    model.rename((2, "e"), (ROOT, "e"));
    model.create(3, "deep", 13);
    model.unlink(3, "deep");
    model.unlink(ROOT, "e");
    model.unlink(2, "b");
    model.unlink(ROOT, "d");
    model.check();
}

#[test]
fn a_directory_that_is_gone_keeps_its_names() {
    let mut model = Model::new(&[(ROOT, &[("d", 2)]), (2, &[("x", 5), ("y", 6)])]);
    model.unlink(2, "x");
    model.unlink(2, "y");
    model.unlink(ROOT, "d");
    model.state.remove(&2);
    model.check();
}

#[test]
fn a_reverted_operation_is_not_there_at_later_points() {
    let mut model = Model::new(&[(ROOT, &[("kept", 4)])]);
    model.create(ROOT, "a", 10);
    model.unlink(ROOT, "kept");
    model.revert(ROOT, "revert", (2, 1));
    model.create(ROOT, "b", 11);
    model.revert(ROOT, "revert", (5, 4));
    // A redo has no names, but the objects that it brings back were not there before.
    model.revert(ROOT, "redo", (6, 5));
    model.unlink(ROOT, "kept");
    model.create(ROOT, "kept", 20);
    model.check();
}

#[test]
fn names_of_an_object_are_counted() {
    let mut model = Model::new(&[(ROOT, &[("a", 5), ("b", 5)])]);
    model.unlink(ROOT, "b");
    model.names(ROOT).insert("c".into(), 5);
    model.line(ROOT, "link", "name=c node=5.1");
    let all = timeline(&mut model.kernel);
    let then = |cut| {
        let names = PastDirectories::at(&all, cut);
        let names: Vec<Vec<u8>> = names.names_then(5).map(|(_, name)| name.clone()).collect();
        names
    };
    assert_eq!(then(0), [b"b".to_vec()]);
    assert!(then(1).is_empty());
    assert_eq!(then(2), [b"c".to_vec()]);
}

#[test]
fn the_time_of_a_later_write_is_replaced() {
    let mut model = Model::new(&[(ROOT, &[("f", 5)])]);
    let write = |model: &mut Model| model.line(5, "write", "size=0");
    write(&mut model);
    model.create(ROOT, "other", 6);
    write(&mut model);
    let all = timeline(&mut model.kernel);
    let at = |second: i64| (BEGINNING + second, 0);
    let modified = |cut, known| PastTimes::at(&all, cut).modified(5, known);
    // Nothing came later: exactly as it is.
    assert_eq!(modified(3, at(2)), at(2));
    // The last write came later.
    assert_eq!(modified(2, at(2)), at(0));
    // A later line that left the time alone.
    assert_eq!(modified(2, at(-100)), at(-100));
    // That of a directory, of names in it.
    let of_root = |cut, known| PastTimes::at(&all, cut).modified(ROOT, known);
    assert_eq!(of_root(3, at(1)), at(1));
    assert_eq!(of_root(0, at(1)), at(1));
    // Nothing is known of earlier times.
    assert_eq!(modified(0, at(2)), at(0));
}

/// The clock of modification times lags behind that of lines where a virtual machine gets no time.
#[test]
fn a_time_between_two_writes_is_that_of_the_nearer_one() {
    let mut model = Model::new(&[(ROOT, &[("f", 5), ("g", 7)])]);
    for file in [5, 7] {
        model.line(file, "write", "size=0");
    }
    // It may have set the time, so the state is believed.
    model.line(7, "setattr", "size=0");
    for file in [5, 7] {
        model.line(file, "write", "size=0");
    }
    let all = timeline(&mut model.kernel);
    let modified = |file, known| PastTimes::at(&all, 3).modified(file, known);
    let at = |second: i64, nanoseconds: u32| (BEGINNING + second, nanoseconds);
    assert_eq!(modified(5, at(2, 900_000_000)), at(0, 0));
    assert_eq!(modified(5, at(0, 100_000_000)), at(0, 100_000_000));
    assert_eq!(modified(7, at(3, 900_000_000)), at(3, 900_000_000));
    assert_eq!(modified(7, at(3, 990_000_000)), at(1, 0));
}
