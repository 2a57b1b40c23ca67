// SPDX-License-Identifier: GPL-2.0

//! `logctl restore` reaches any point after any other restore, undo or redo, and reports success only then.

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, Outcome};

use super::verbs::{done, logctl, numbers};

pub const TESTS: &[Test] = &[
    Test::new("restore-file-and-again", file),
    Test::new("restore-directory-and-again", directory).seconds(120),
    Test::new("restore-mount-and-again", mount).seconds(120),
    Test::new("restore-across-undos", across_undos).seconds(120),
    Test::new("restore-what-was-not", was_not),
];

/// The operations on `d`, step by step.
const STEPS: &[&str] = &[
    "mkdir d; echo beside > d/beside; echo out > out",
    "echo 1 > d/f; mkdir d/s; echo s > d/s/one",
    "echo 2 >> d/f; chmod 600 d/f",
    "sed -i s/1/one/ d/f; echo x > out",
    "mv d/f d/g; rm -r d/s",
    "echo 3 >> d/g; echo again > d/f",
    "rm d/g; mkdir d/s; echo new > d/s/two",
];

struct Points {
    numbers: Vec<u64>,
    trees: Vec<Tree>,
}

impl Points {
    fn make(w: &Fixture) -> Outcome<Self> {
        let mut points = Self {
            numbers: Vec::new(),
            trees: Vec::new(),
        };
        for step in STEPS {
            w.sh(step)?;
            points.numbers.push(numbers(&done(w, "log -n 1")?)?[0]);
            points.trees.push(Tree::of(&w.mnt)?);
        }
        Ok(points)
    }
}

fn same_tree(what: &str, got: &Tree, want: &Tree) -> Outcome {
    match got.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

/// In which order points are restored: there and back.
const ORDER: &[usize] = &[1, 3, 0, 2, 5, 4, 6, 1, 6, 0, 3];

fn mount(w: &mut Fixture) -> Outcome {
    let points = Points::make(w)?;
    for (round, point) in ORDER.iter().enumerate() {
        let line = format!("restore --to {}", points.numbers[*point]);
        let (code, said, complaint) = logctl(w, &line)?;
        let what = format!("round {round}, point {point}: {said}{complaint}");
        same(&what, code, 0)?;
        same_tree(&what, &Tree::of(&w.mnt)?, &points.trees[*point])?;
        if round % 4 == 3 {
            w.remount_if_lasting()?;
        }
    }
    Ok(())
}

fn directory(w: &mut Fixture) -> Outcome {
    let points = Points::make(w)?;
    w.sh("echo mine > out")?;
    let outside = Tree::of(&w.mnt)?;
    for (round, point) in ORDER.iter().enumerate() {
        let line = format!("restore --to {} d", points.numbers[*point]);
        let (code, said, complaint) = logctl(w, &line)?;
        let what = format!("round {round}, point {point}: {said}{complaint}");
        same(&what, code, 0)?;
        let want = outside.with_part_of(&points.trees[*point], "d/");
        same_tree(&what, &Tree::of(&w.mnt)?, &want)?;
    }
    Ok(())
}

/// Before its creation, and back to the last point.
fn file(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; echo 0 > d/other")?;
    let before = numbers(&done(w, "log -n 1")?)?[0];
    w.sh("echo 1 > d/f")?;
    let one = numbers(&done(w, "log -n 1")?)?[0];
    w.sh("sleep 2.1; echo 2 >> d/f")?;
    let two = numbers(&done(w, "log -n 1")?)?[0];
    w.sh("sed -i s/2/3/ d/f; echo other >> d/other")?;
    let three = numbers(&done(w, "log -n 1")?)?[0];
    let states = [
        (before, None),
        (one, Some("1\n")),
        (two, Some("1\n2\n")),
        (three, Some("1\n3\n")),
    ];
    for (round, point) in [0, 1, 3, 2, 0, 3, 1, 2].into_iter().enumerate() {
        let (number, want) = states[point];
        let (code, said, complaint) = logctl(w, &format!("restore --to {number} d/f"))?;
        let what = format!("round {round}, point {point}: {said}{complaint}");
        same(&what, code, 0)?;
        let now = std::fs::read_to_string(w.path("d/f")).ok();
        same(&what, now.as_deref(), want)?;
        let names = if want.is_some() {
            "f\nother\n"
        } else {
            "other\n"
        };
        same(&what, w.sh("ls d")?, names.into())?;
        w.same(&what, "d/other", b"0\nother\n")?;
    }
    Ok(())
}

fn across_undos(w: &mut Fixture) -> Outcome {
    let points = Points::make(w)?;
    let go = |line: &str, point: usize| -> Outcome {
        let (code, said, complaint) = logctl(w, line)?;
        let what = format!("{line}: {said}{complaint}");
        same(&what, code, 0)?;
        same_tree(&what, &Tree::of(&w.mnt)?, &points.trees[point])
    };
    let to = |point: usize| format!("restore --to {}", points.numbers[point]);
    for line in ["undo -2", "undo", "redo", "undo"] {
        done(w, line)?;
    }
    go(&to(6), 6)?;
    go(&to(2), 2)?;
    go("undo", 6)?;
    go("redo", 2)?;
    go(&to(5), 5)?;
    for line in ["undo", "undo -3"] {
        done(w, line)?;
    }
    go(&to(6), 6)?;
    go(&to(0), 0)?;
    go(&to(4), 4)
}

/// A file that did not exist at a point is no success.
fn was_not(w: &mut Fixture) -> Outcome {
    w.sh("echo 1 > other; echo first > g")?;
    let before = numbers(&done(w, "log -n 1")?)?[0];
    w.sh("echo 1 > f")?;
    let (code, said, complaint) = logctl(w, &format!("restore --to {before} nosuch"))?;
    check!(
        code != 0 && !said.contains("Restored"),
        "{code} {said}{complaint}"
    );
    check!(complaint.contains("nosuch"), "{complaint}");
    // A change that the log does not know of.
    let Some(_) = w.src else { return Ok(()) };
    w.sh("echo 2 > f")?;
    let point = numbers(&done(w, "log -n 1")?)?[0];
    w.sh("echo 3 >> f")?;
    std::fs::write(w.below("f")?, "behind")?;
    let (code, said, complaint) = logctl(w, &format!("restore --to {point} f --force"))?;
    check!(code != 0, "changed behind: {code} {said}{complaint}");
    Ok(())
}
