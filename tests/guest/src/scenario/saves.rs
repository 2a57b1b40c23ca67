// SPDX-License-Identifier: GPL-2.0

//! `logctl FILE undo` after programs have saved in their ways: the file is as before the save, and
//! nothing else is left.

use std::fs;
use std::path::Path;

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("save-and-undo", save_and_undo)
        .lengthy()
        .seconds(300),
    Test::new("save-several-times", several_times).seconds(120),
    Test::new("save-among-others", among_others),
    Test::new("undo-of-directories", of_directories),
];

/// How programs save `f`; each has the same text in the end.
const SAVES: &[(&str, &str)] = &[
    ("sed", "sed -i s/two/2/ f"),
    ("perl", "perl -pi -e s/two/2/ f"),
    ("perl with a backup", "perl -pi.bak -e s/two/2/ f"),
    ("vim", "vim.tiny -u NONE -N -es -c %s/two/2/ -c wq f < /dev/null"),
    ("vim, renaming", "vim.tiny -u NONE -N -es -c 'set backupcopy=no' -c %s/two/2/ -c wq f < /dev/null"),
    // These two only save at a terminal.
    ("nano", "script -qec 'nano -I +2,1 f' /dev/null < <(sleep 1; printf '\\0132\\r\\017\\r\\030'; sleep 1)"),
    ("emacs", "emacs -batch -Q f --eval '(progn (find-file \"f\") (search-forward \"two\") (replace-match \"2\") (save-buffer))'"),
    ("emacs at a terminal", "script -qec \"TERM=xterm emacs -nw -Q f --eval '(progn (search-forward \\\"two\\\") (replace-match \\\"2\\\") (save-buffer) (kill-emacs))'\" /dev/null"),
    ("rsync", "sed s/two/2/ f > ../new && rsync -a --no-times ../new f"),
    ("cp", "sed s/two/2/ f > ../new && cp ../new f"),
    ("dpkg's way", "sed s/two/2/ f > ../new && perl -e 'open my $n, \">\", \"f.dpkg-new\"; print $n `cat ../new`; close $n; link \"f\", \"f.dpkg-tmp\"; rename \"f.dpkg-new\", \"f\"; unlink \"f.dpkg-tmp\"'"),
    ("git checkout", "sed s/two/2/ f > ../new && perl -e 'unlink \"f\"; open my $n, \">\", \"f\"; print $n `cat ../new`'"),
];

fn begin(w: &Fixture) -> Outcome<Tree> {
    w.sh("mkdir -p d; printf 'one\\ntwo\\nthree\\n' > d/f; chmod 640 d/f; echo beside > d/beside")?;
    Tree::of(&w.path("d"))
}

fn same_tree(w: &Fixture, what: &str, want: &Tree) -> Outcome {
    match Tree::of(&w.path("d"))?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

fn save_and_undo(w: &mut Fixture) -> Outcome {
    // The debug kernel has no pseudo-terminals.
    let has_terminals = Path::new("/dev/ptmx").exists();
    let needs_none = |save: &str| has_terminals || !save.starts_with("script");
    for (who, save) in SAVES.iter().filter(|(_, save)| needs_none(save)) {
        let before = begin(w).at(*who)?;
        // Operations of the preparation are not part of the save.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        w.sh(&format!("cd d; {save}")).at(*who)?;
        w.same(who, "d/f", b"one\n2\nthree\n")?;
        // A program may have come and gone with several actions.
        let said = w.sh("logctl d/f undo 2>&1").at(format!("undo of {who}"))?;
        same_tree(w, &format!("{who}, which said {said}"), &before)?;
        w.sh("rm -rf d new")?;
    }
    Ok(())
}

/// Each undo goes one save further back.
fn several_times(w: &mut Fixture) -> Outcome {
    begin(w)?;
    let mut states = vec![Tree::of(&w.path("d"))?];
    for number in 0..4 {
        w.sh(&format!("cd d; sed -i s/three/three{number}/ f"))?;
        states.push(Tree::of(&w.path("d"))?);
    }
    w.sh("echo added >> d/f")?;
    w.remount_if_lasting()?;
    while let Some(want) = states.pop() {
        w.sh("logctl undo d/f")?;
        same_tree(w, &format!("{} saves are left", states.len()), &want)?;
    }
    w.sh("rm d/f; logctl undo d/f")?;
    w.same("a deletion undone", "d/f", b"one\ntwo\nthree\n")
}

/// Others' later operations in the directory stay, and are in no way.
fn among_others(w: &mut Fixture) -> Outcome {
    begin(w)?;
    w.sh("cd d; sed -i s/two/2/ f; touch others")?;
    w.sh("logctl d/f undo")?;
    w.same("the file alone", "d/f", b"one\ntwo\nthree\n")?;
    w.same("beside it", "d/others", b"")?;
    w.sh("logctl redo")?;
    w.same("done again", "d/f", b"one\n2\nthree\n")?;
    w.sh("rm d/others")?;
    w.sh("logctl d undo && logctl d undo && logctl d/f undo")?;
    check!(
        !w.path("d/others").exists(),
        "the other file is still there"
    );
    w.same("without them", "d/f", b"one\ntwo\nthree\n")
}

fn of_directories(w: &mut Fixture) -> Outcome {
    begin(w)?;
    w.sh("cd d; mkdir s; touch s/1 s/2 x y")?;
    let before = Tree::of(&w.path("d"))?;
    w.sh("cd d; rm -rf s x y")?;
    w.sh("logctl d undo")?;
    same_tree(w, "rm -rf of three names", &before)?;
    w.sh("logctl undo d")?;
    same("what touch made", fs::read_dir(w.path("d"))?.count(), 3)
}
