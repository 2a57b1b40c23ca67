// SPDX-License-Identifier: GPL-2.0

//! `logctl undo`: of the terminal's session, and of a path while others work beside it.

use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("undo-of-a-session", of_a_session),
    Test::new("undo-of-a-directory-beside-others", directory_beside_others),
    Test::new("undo-of-a-file-beside-others", file_beside_others),
    Test::new("undo-of-a-save-beside-others", save_beside_others),
    Test::new("undo-in-a-removed-directory", in_a_removed_directory),
];

/// A shell with job control in a session of its own, as in a terminal.
fn session(line: &str) -> String {
    format!("setsid -w bash -ec 'set -m; trap : EXIT; {line}' 2>&1")
}

/// Checks that the mount holds the tree that was there, but for these names that a later command made.
fn same_but(w: &Fixture, want: &Tree, later: &str) -> Outcome {
    w.sh(&format!("rm -f {later}"))?;
    match Tree::of(&w.mnt)?.difference(want) {
        Some(difference) => fail!("{difference}"),
        None => Ok(()),
    }
}

/// Damages a tree while others work beside it, takes the last change of a path back, and compares.
fn goes_back(w: &Fixture, want: &Tree, damage: &str, (path, rest): (&str, &str)) -> Outcome {
    w.sh(&format!("{damage}; echo x > later; mkdir more; rmdir more"))?;
    let said = w.sh(&format!("logctl undo {path} 2>&1; {rest}"))?;
    w.sh("cmp later <(echo x)")?;
    same_but(w, want, "later").at(format!("{damage}: {said}"))?;
    w.sh("sleep 2.1").map(drop)
}

/// Without words, the last action of the session goes; what a daemon did meanwhile stays.
fn of_a_session(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p proj/sub; echo one > proj/sub/a; echo two > proj/b; sleep 2.1")?;
    let before = Tree::of(&w.mnt)?;
    let daemon = "setsid -w bash -c \"date >> daemon.log\"";
    let said = w.sh(&session(&format!("rm -rf proj; {daemon}; logctl undo")))?;
    check!(
        said.contains("1 newer action is of other sessions"),
        "{said}"
    );
    check!(said.contains("rm -rf proj"), "{said}");
    w.sh("test -s daemon.log; cmp proj/sub/a <(echo one)")?;
    same_but(w, &before, "daemon.log")?;
    // Nothing of a session that did nothing, and the newest of all on request.
    w.sh("sleep 2.1; rm -rf proj")?;
    let said = w.sh(&session("logctl undo || echo code $?; test ! -e proj"))?;
    check!(
        said.contains("in this terminal session") && said.ends_with("code 1\n"),
        "{said}"
    );
    check!(said.contains("`logctl undo --any`"), "{said}");
    w.sh(&session("logctl undo --any"))?;
    same_but(w, &before, "daemon.log")?;
    // Several, in their order.
    let line =
        format!("rm proj/b; sleep 2.1; {daemon}; mv proj/sub/a proj/c; {daemon}; logctl undo -2");
    w.sh(&session(&line))?;
    same_but(w, &before, "daemon.log")
}

/// `rm -rf proj; echo x >other; logctl undo proj`.
fn directory_beside_others(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p proj/sub other; echo one > proj/sub/a; ln proj/sub/a proj/b; chmod 600 proj/b; ln -s a proj/c
        chmod 750 proj/sub; sleep 2.1")?;
    let before = Tree::of(&w.mnt)?;
    for (damage, path) in [
        ("rm -rf proj", "proj"),
        ("rm -rf proj/sub", "proj/sub"),
        ("mv proj other/gone", "proj"),
        ("mv proj there", "there"),
        ("chmod 700 proj", "proj"),
        ("find proj -type l -delete", "proj"),
    ] {
        w.sh(&format!(
            "{damage}; echo x > later; mkdir more; echo y >> later"
        ))?;
        let said = w.sh(&format!("logctl undo {path} 2>&1"))?;
        w.sh("cmp later <(echo x; echo y); test -d more; rmdir more")?;
        same_but(w, &before, "later").at(format!("{damage}: {said}"))?;
        w.sh("sleep 2.1")?;
    }
    Ok(())
}

/// A file that was removed, moved, written or made, with others' work in its directory since.
fn file_beside_others(w: &mut Fixture) -> Outcome {
    w.sh("for f in a b c; do echo $f > $f; done; chmod 640 b; sleep 2.1")?;
    let before = Tree::of(&w.mnt)?;
    for (damage, path, rest) in [
        ("rm b", "b", "true"),
        (
            "rm a b c",
            "b",
            "test ! -e a; test ! -e c; logctl undo c; logctl undo a",
        ),
        ("mv b d", "d", "true"),
        ("mv b d", "b", "true"),
        ("mv -f a b", "b", "true"),
        ("echo more >> b", "b", "true"),
        ("ln a d", "d", "true"),
        ("echo new > d", "d", "true"),
        ("chmod 600 b", "b", "true"),
        // By another of its names, which stays.
        ("ln b d; echo more >> d", "b", "cmp d <(echo b); rm d"),
    ] {
        goes_back(w, &before, damage, (path, rest))?;
    }
    Ok(())
}

/// Saves that replace a file: each file goes back by itself, with all steps of its save.
fn save_beside_others(w: &mut Fixture) -> Outcome {
    w.sh("for f in a b; do printf \"1 $f\\n2 $f\\n\" > $f; done; sleep 2.1")?;
    let before = Tree::of(&w.mnt)?;
    let backup = "cp -p b b.old; printf new > b.new; mv b.new b; rm b.old";
    for (save, path, rest) in [
        ("sed -i s/2/3/ a b", "a", "grep -q 3 b; logctl undo b"),
        ("sed -i s/2/3/ a b", "b", "grep -q 3 a; logctl undo a"),
        (backup, "b", "true"),
        ("mv b b~; cp a b; rm b~", "b", "true"),
        ("sed -i.bak s/2/3/ b; rm b.bak", "b", "true"),
    ] {
        goes_back(w, &before, &format!("bash -c '{save}'"), (path, rest))?;
    }
    Ok(())
}

/// One file of a tree that is gone comes back with the directories above it, and nothing else.
fn in_a_removed_directory(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p proj/sub; chmod 750 proj; for f in a b; do echo $f > proj/sub/$f; done; sleep 2.1")?;
    w.sh("rm -rf proj; echo x > later")?;
    w.sh("logctl undo proj/sub/a")?;
    same(
        "the names",
        w.sh("find . -mindepth 1 | sort")?.as_str(),
        "./later\n./proj\n./proj/sub\n./proj/sub/a\n",
    )?;
    same("the content", w.sh("cat proj/sub/a")?.as_str(), "a\n")?;
    same("the mode", w.sh("stat -c %a proj")?.as_str(), "750\n")?;
    w.sh("logctl undo proj/sub/b; cmp proj/sub/b <(echo b)")
        .map(drop)
}
