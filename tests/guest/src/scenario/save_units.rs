// SPDX-License-Identifier: GPL-2.0

//! A save by rename is one unit about the name: a revert takes all of it back, or a later change of the file
//! keeps all of it, for every selection.

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};

use super::verbs::{done, logctl, numbers};

pub const TESTS: &[Test] = &[
    Test::new("save-unit-partial", partial)
        .lengthy()
        .seconds(240),
    Test::new("save-unit-partial-of-two", of_two),
    Test::new("save-unit-since", since),
    Test::new("save-unit-slow", slow),
    Test::new("save-unit-redo", redo),
];

/// How programs save `f`, all with the same result.
pub(super) const SAVES: &[(&str, &str)] = &[
    ("sed", "sed -i s/two/2/ f"),
    ("sed with a backup", "sed -i.bak s/two/2/ f"),
    ("perl", "perl -pi -e s/two/2/ f"),
    ("perl with a backup", "perl -pi.bak -e s/two/2/ f"),
    ("vim", "vim.tiny -u NONE -N -es -c %s/two/2/ -c wq f < /dev/null"),
    ("vim, renaming", "vim.tiny -u NONE -N -es -c 'set backupcopy=no' -c %s/two/2/ -c wq f < /dev/null"),
    ("vim, renaming, with a backup", "vim.tiny -u NONE -N -es -c 'set backupcopy=no backup' -c %s/two/2/ -c wq f < /dev/null"),
    ("emacs' way", "perl -e 'rename \"f\", \"f~\"; open my $n, \">\", \"f\"; syswrite $n, \"one\\n2\\n\"; syswrite $n, \"three\\n\"; close $n; chmod 0640, \"f\"'"),
    ("rsync", "rsync -a --no-times /tmp/new/f f"),
    ("rsync with a backup", "rsync -a --backup --no-times /tmp/new/f f"),
    ("a script", "sed s/two/2/ f > f.tmp && mv f.tmp f"),
    ("a script with parts", "(echo one; echo 2; echo three) > f.tmp && chmod 640 f.tmp && mv f.tmp f"),
    ("dpkg's way", "perl -e 'open my $n, \">\", \"f.dpkg-new\"; print $n `cat /tmp/new/f`; close $n; link \"f\", \"f.dpkg-tmp\"; rename \"f.dpkg-new\", \"f\"; unlink \"f.dpkg-tmp\"'"),
    ("git's objects", "perl -e 'open my $n, \">\", \"tmp_obj\"; print $n `cat /tmp/new/f`; close $n; unlink \"f\"; link \"tmp_obj\", \"f\"; unlink \"tmp_obj\"'"),
    ("git checkout", "perl -e 'unlink \"f\"; open my $n, \">\", \"f\"; syswrite $n, \"one\\n2\\n\"; syswrite $n, \"three\\n\"'"),
    ("an exchange", "perl -e 'open my $n, \">\", \"f.new\"; print $n `cat /tmp/new/f`; close $n; my ($one, $two) = (\"f.new\", \"f\"); syscall(316, -100, $one, -100, $two, 2) == 0 or die; unlink \"f.new\"'"),
    ("a lock", "perl -e 'mkdir \"f.lock\"; open my $n, \">\", \"f.lock/f\"; print $n `cat /tmp/new/f`; close $n; rename \"f.lock/f\", \"f\"; rmdir \"f.lock\"'"),
];

/// Changes that come later: at the end, in the middle, of the attributes, under another name.
const LATER: &[&str] = &[
    "echo later >> f",
    "printf X | dd of=f bs=1 seek=1 conv=notrunc status=none",
    "printf X | dd of=f bs=1 seek=10 conv=notrunc status=none",
    "mv f elsewhere; echo later >> elsewhere",
    "sed -i s/one/1/ f",
];

fn begin(w: &Fixture) -> Outcome<Tree> {
    w.sh("rm -rf d; mkdir -p d; printf 'one\\ntwo\\nthree\\n' > d/f; chmod 640 d/f; echo beside > d/beside
        mkdir -p /tmp/new; printf 'one\\n2\\nthree\\n' > /tmp/new/f; chmod 640 /tmp/new/f")?;
    Tree::of(&w.path("d"))
}

fn head(w: &Fixture) -> Outcome<u64> {
    Ok(numbers(&done(w, "log -n 1")?)?[0])
}

fn same_tree(w: &Fixture, what: &str, want: &Tree) -> Outcome {
    match Tree::of(&w.path("d"))?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

fn partial(w: &mut Fixture) -> Outcome {
    for (who, save) in SAVES {
        let mut later = LATER.iter().cycle().skip(who.len());
        for later in [None, later.next()] {
            let before = begin(w).at(*who)?;
            let first = head(w)?;
            w.sh(&format!("cd d; {save}")).at(*who)?;
            let last = head(w)?;
            if let Some(later) = later {
                w.sh(&format!("cd d; {later}")).at(*who)?;
            }
            let now = Tree::of(&w.path("d"))?;
            let line = format!("revert --ops {}..{last} --partial", first + 1);
            let dry = logctl(w, &format!("{line} -n"))?;
            same_tree(w, &format!("{who}, a dry run"), &now)?;
            let (code, said, complaint) = logctl(w, &line)?;
            let what = format!("{who}, then {later:?}: {code} {said}{complaint}");
            same(format!("{who}: a dry run's exit code"), dry.0, code)?;
            match later {
                None => same_tree(w, &what, &before)?,
                Some(_) => {
                    check!(code == 4 || code == 3, "{what}");
                    same_tree(w, &what, &now)?;
                }
            }
        }
    }
    Ok(())
}

/// As the hint recommends.
fn of_two(w: &mut Fixture) -> Outcome {
    begin(w)?;
    w.sh("cd d; cp f g; cp f h")?;
    w.sh("cd d; sed -i s/two/2/ f g h; echo later >> g")?;
    let (code, _, complaint) = logctl(w, "revert --by sed")?;
    same(&complaint, code, 4)?;
    check!(complaint.contains("--partial"), "{complaint}");
    let (code, said, complaint) = logctl(w, "revert --by sed --partial")?;
    same(format!("{said}{complaint}"), code, 3)?;
    w.same("later work", "d/g", b"one\n2\nthree\nlater\n")?;
    w.same("without", "d/f", b"one\ntwo\nthree\n")?;
    w.same("without, too", "d/h", b"one\ntwo\nthree\n")?;
    same("names", w.sh("ls d")?, "beside\nf\ng\nh\n".into())?;
    check!(
        !complaint.contains("sed"),
        "a temporary name is told: {complaint}"
    );
    Ok(())
}

/// A selection that begins between creation and rename.
fn since(w: &mut Fixture) -> Outcome {
    begin(w)?;
    let script = "open my \\$n, '>', 'f.new'; syswrite \\$n, qq(one\\n2\\n); sleep 3; syswrite \\$n, qq(three\\n); rename 'f.new', 'f'";
    w.sh(&format!("cd d; perl -e \"{script}\"; echo later >> f"))?;
    let now = Tree::of(&w.path("d"))?;
    let (code, said, complaint) = logctl(w, "revert --by perl --since 2s --partial")?;
    check!(code == 4 || code == 3, "{code} {said}{complaint}");
    same_tree(w, &format!("{said}{complaint}"), &now)
}

/// A program that pauses between write and rename is one action all the same.
fn slow(w: &mut Fixture) -> Outcome {
    let before = begin(w)?;
    let script = "open my \\$n, '>', 'f.new'; syswrite \\$n, qq(one\\n2\\n); close \\$n; sleep 3; rename 'f.new', 'f'";
    w.sh(&format!("cd d; perl -e \"{script}\""))?;
    done(w, "undo")?;
    same_tree(w, "undone", &before)
}

/// A redo does not replace operations that followed the undo.
fn redo(w: &mut Fixture) -> Outcome {
    for (step, later) in [
        ("sed -i s/two/2/ f", "echo later >> f"),
        ("rm f", "echo later >> f"),
    ] {
        begin(w)?;
        w.sh(&format!("cd d; {step}"))?;
        done(w, "undo")?;
        w.sh(&format!("cd d; {later}"))?;
        let now = Tree::of(&w.path("d"))?;
        let (code, said, complaint) = logctl(w, "redo")?;
        check!(code != 0, "{step}: {said}{complaint}");
        same_tree(w, step, &now)?;
    }
    Ok(())
}
