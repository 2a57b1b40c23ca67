// SPDX-License-Identifier: GPL-2.0

//! `revert --merge` and `undo --merge`: the operations go out of text files that were changed later, line by line.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::past::{said, user};
use super::verbs::{done, logctl, numbers};
use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, fail, same, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("merge-apart", apart).seconds(240),
    Test::new("merge-overlapping", overlapping),
    Test::new("merge-alternating", alternating),
    Test::new("merge-left-alone", left_alone).seconds(180),
    Test::new("merge-texts", texts).seconds(180),
    Test::new("merge-undo", undo),
    Test::new("merge-in-a-script", in_a_script),
    Test::new("merge-of-a-user", of_a_user),
];

/// How programs write a file whose new content is in `/tmp/merge-new`.
const WAYS: &[(&str, &str)] = &[
    ("in place", "cat /tmp/merge-new > f"),
    ("by rename", "cp -p f f.tmp; cat /tmp/merge-new > f.tmp; mv f.tmp f"),
    ("by sed", "sed -i -n -e '1{r /tmp/merge-new' -e '}' f"),
    (
        "with a backup that goes",
        "perl -e 'rename \"f\", \"f~\"; open my $n, \">\", \"f\"; print $n `cat /tmp/merge-new`; close $n; unlink \"f~\"'",
    ),
];

/// Twenty lines, some of them others.
fn text(others: &[(usize, &str)]) -> String {
    let line = |number: usize| {
        let other = others.iter().find(|(at, _)| *at == number);
        other.map_or_else(
            || format!("line {number}\n"),
            |(_, line)| format!("{line}\n"),
        )
    };
    (1..=20).map(line).collect()
}

const THEIRS: [(usize, &str); 3] = [(1, "agent 1"), (2, "agent 2"), (3, "agent 3")];

/// Gives the file its content in a way; returns the numbers of the first and the last operation.
fn save(w: &Fixture, content: &[u8], way: &str) -> Outcome<(u64, u64)> {
    fs::write("/tmp/merge-new", content)?;
    let first = last_number(w)? + 1;
    w.sh(way)?;
    Ok((first, last_number(w)?))
}

fn last_number(w: &Fixture) -> Outcome<u64> {
    Ok(crate::past_read::now(&fs::File::open(&w.mnt)?)?.0)
}

fn same_tree(w: &Fixture, what: &str, want: &Tree) -> Outcome {
    match Tree::of(&w.mnt)?.difference(want) {
        Some(difference) => fail!("{what}: {difference}"),
        None => Ok(()),
    }
}

/// Lines 1 to 3 by the agent, line 20 by a person, each in every way. The file stays the same object.
fn apart(w: &mut Fixture) -> Outcome {
    for (theirs, way) in WAYS {
        for (mine, later) in WAYS {
            let what = format!("{theirs}, then {mine}");
            one_apart(w, &what, (way, later)).at(&what)?;
        }
    }
    Ok(())
}

fn one_apart(w: &Fixture, what: &str, (way, later): (&str, &str)) -> Outcome {
    w.sh("rm -rf f g; echo one > g")?;
    fs::write(w.path("f"), text(&[]))?;
    w.sh("chmod 640 f")?;
    let (first, _) = save(w, text(&THEIRS).as_bytes(), way)?;
    let (_, last) = save(w, b"", "echo two > g")?;
    let both = [&THEIRS[..], &[(20, "mine")]].concat();
    save(w, text(&both).as_bytes(), later)?;
    w.sh("setfattr -n user.a -v b f; chmod 604 f; chown 1000:1001 f")?;
    let before = Tree::of(&w.mnt)?;
    let inode = fs::metadata(w.path("f"))?.ino();
    let open = fs::File::open(w.path("f"))?;
    let line = format!("revert --ops {first}..{last} --merge");
    let said = done(w, &format!("{line} -n"))?;
    check!(
        said.contains("Would take back") && said.contains("Would merge f: 1 hunk taken back.\n"),
        "{what}: {said}"
    );
    same_tree(w, "a dry run", &before)?;
    let said = done(w, &line)?;
    check!(
        said.contains("Took back") && said.contains("Merged f: 1 hunk taken back.\n"),
        "{what}: {said}"
    );
    w.same(what, "f", text(&[(20, "mine")]).as_bytes())?;
    w.same(what, "g", b"one\n")?;
    let found = fs::metadata(w.path("f"))?;
    same("the object", found.ino(), inode)?;
    same(
        "mode",
        (found.mode() & 0o7777, found.uid(), found.gid()),
        (0o604, 1000, 1001),
    )?;
    same(
        "attribute",
        w.sh("getfattr --only-values -n user.a f")?,
        "b".into(),
    )?;
    let mut start = [0; 7];
    open.read_exact_at(&mut start, 0)?;
    same("through the open file", &start, b"line 1\n")?;
    let after = Tree::of(&w.mnt)?;
    // Both the revert and the merge.
    let said = done(w, "undo --any")?;
    w.same(
        format!("undone: {said}").as_str(),
        "f",
        text(&both).as_bytes(),
    )?;
    w.same("undone", "g", b"two\n")?;
    done(w, "redo")?;
    w.same("redone", "f", text(&[(20, "mine")]).as_bytes())?;
    same_tree(w, "redone", &after)
}

/// One of their hunks is where the person wrote: it stays, without markers in the file.
fn overlapping(w: &mut Fixture) -> Outcome {
    fs::write(w.path("f"), text(&[]))?;
    let theirs = [(1, "agent 1"), (7, "agent 7"), (15, "agent 15")];
    let (first, last) = save(w, text(&theirs).as_bytes(), WAYS[1].1)?;
    let now = [(1, "agent 1"), (7, "mine"), (15, "agent 15")];
    save(w, text(&now).as_bytes(), WAYS[0].1)?;
    let before = Tree::of(&w.mnt)?;
    let line = format!("revert --ops {first}..{last} --merge");
    let sentence =
        "merge f: 2 of 3 hunks taken back, 1 kept, which overlaps a later change: line 7.\n";
    let (code, said, complaint) = logctl(w, &format!("{line} -n"))?;
    same(format!("{said}{complaint}"), code, 3)?;
    check!(said.contains(&format!("Would {sentence}")), "{said}");
    same_tree(w, "a dry run", &before)?;
    let out = w.beside()?.join("out");
    let (code, said, complaint) = logctl(w, &format!("{line} --out {}", out.display()))?;
    same(format!("{said}{complaint}"), code, 3)?;
    let mut marked: Vec<String> = text(&[(7, "mine")])
        .split_inclusive('\n')
        .map(str::to_owned)
        .collect();
    let copy = fs::read_to_string(out.join("f"))?;
    let names: Vec<&str> = copy
        .lines()
        .filter(|line| line.starts_with(['|', '>']))
        .collect();
    same("markers", names.len(), 2)?;
    marked[6] = format!(
        "<<<<<<< now\nmine\n{}\nagent 7\n=======\nline 7\n{}\n",
        names[0], names[1]
    );
    same("the copy", copy, marked.concat())?;
    same_tree(w, "with --out", &before)?;
    let (code, said, complaint) = logctl(w, &format!("--json {line}"))?;
    same(format!("{said}{complaint}"), code, 3)?;
    check!(
        said.contains("\"state\":\"merged\",\"hunks\":3,\"taken_back\":2,\"kept\":[{\"line\":7,\"lines\":1,\"hunks\":1}]"),
        "{said}"
    );
    w.same("merged", "f", text(&[(7, "mine")]).as_bytes())?;
    done(w, "undo --any")?;
    same_tree(w, "undone", &before)?;
    // Nothing of it can be taken out.
    save(
        w,
        text(&[(1, "x"), (7, "y"), (15, "z")]).as_bytes(),
        WAYS[0].1,
    )?;
    let now = Tree::of(&w.mnt)?;
    let (dry, _, _) = logctl(w, &format!("{line} -n"))?;
    let (code, said, complaint) = logctl(w, &line)?;
    same(format!("{said}{complaint}"), (code, dry), (4, 4))?;
    check!(said.contains("Kept f: "), "{said}");
    same_tree(w, "all is kept", &now)
}

/// The agent and the person take turns on one file: only the agent's lines go.
fn alternating(w: &mut Fixture) -> Outcome {
    fs::write(w.path("f"), text(&[]))?;
    fs::copy("/bin/dd", "/tmp/merge-agent")?;
    w.sh("chmod 755 /tmp/merge-agent")?;
    let mut lines: Vec<(usize, &str)> = Vec::new();
    for (number, line, way) in [
        (
            2,
            "agent 2",
            "/tmp/merge-agent if=/tmp/merge-new of=f status=none",
        ),
        (6, "mine 6", WAYS[0].1),
        (
            10,
            "agent 10",
            "/tmp/merge-agent if=/tmp/merge-new of=f status=none",
        ),
        (14, "mine 14", WAYS[1].1),
        (
            18,
            "agent 18",
            "/tmp/merge-agent if=/tmp/merge-new of=f status=none",
        ),
        (20, "mine 20", WAYS[3].1),
    ] {
        lines.push((number, line));
        save(w, text(&lines).as_bytes(), way)?;
    }
    let said = done(w, "revert --by merge-agent --merge")?;
    check!(said.contains("Merged f: 3 hunks taken back.\n"), "{said}");
    let mine = [(6, "mine 6"), (14, "mine 14"), (20, "mine 20")];
    w.same(&said, "f", text(&mine).as_bytes())?;
    done(w, "undo --any")?;
    w.same("undone", "f", text(&lines).as_bytes())
}

/// Files that are not merged stay as they are, each with a reason; the others go back.
fn left_alone(w: &mut Fixture) -> Outcome {
    w.sh("for i in whole gone moved removed; do seq 20 > $i; done; printf 'a\\0b\\nc\\nd\\n' > binary
        yes | head -c 17000000 > big; sync")?;
    let first = last_number(w)? + 1;
    w.sh(
        "for i in whole gone moved; do sed s/^1$/agent/ $i > /tmp/merge-new; cat /tmp/merge-new > $i; done
        printf 'A\\0b\\nc\\nd\\n' > binary; printf agent | dd of=big conv=notrunc status=none
        rm removed; seq 20 > made",
    )?;
    let last = last_number(w)?;
    w.sh(
        "rm gone; mv moved elsewhere; echo mine >> elsewhere; printf 'A\\0b\\nc\\nD\\n' > binary
        printf mine | dd of=big conv=notrunc status=none; seq 3 > removed; echo mine >> made",
    )?;
    let kept: Vec<Vec<u8>> = ["elsewhere", "binary", "removed", "made"]
        .iter()
        .map(|name| w.read(name))
        .collect::<Outcome<_>>()?;
    let big = w.sh("sha256sum < big")?;
    let line = format!("revert --ops {first}..{last} --merge");
    let (dry, _, _) = logctl(w, &format!("{line} -n"))?;
    let (code, said, complaint) = logctl(w, &line)?;
    let all = format!("{said}{complaint}");
    same(&all, (code, dry), (3, 3))?;
    for part in [
        "Not merged: binary: it has or had NUL bytes, so it is no text; `logctl cat binary --at ",
        "Not merged: big: it is or was longer than 16 MiB; ",
        "Not merged: made: the operations made it; ",
        "Not merged: moved: it was moved later: elsewhere; ",
        "Not merged: removed: the operations removed it; ",
    ] {
        check!(all.contains(part), "no '{part}' in {all}");
    }
    w.same(&all, "whole", w.sh("seq 20")?.as_bytes())?;
    for (name, want) in ["elsewhere", "binary", "removed", "made"].iter().zip(&kept) {
        w.same(&all, name, want)?;
    }
    same("big", w.sh("sha256sum < big")?, big)
}

/// A later change, and the expected text, for what the agent made of a text.
type TextCase = (
    &'static str,
    &'static [u8],
    &'static [u8],
    &'static [u8],
    &'static [u8],
);

const CASES: [TextCase; 8] = [
    (
        "CRLF",
        b"a\r\nb\r\nc\r\n",
        b"A\r\nb\r\nc\r\n",
        b"A\r\nb\r\nmine\r\n",
        b"a\r\nb\r\nmine\r\n",
    ),
    (
        "no newline at the end",
        b"a\nb\nc\nd",
        b"A\nb\nc\nd",
        b"A\nb\nc\nmine",
        b"a\nb\nc\nmine",
    ),
    (
        "a newline that came",
        b"a\nb\nc",
        b"a\nb\nc\n",
        b"mine\na\nb\nc\n",
        b"mine\na\nb\nc",
    ),
    (
        "Latin 1",
        b"\xe9\nb\nc\n",
        b"\xe8\nb\nc\n",
        b"\xe8\nb\n\xfc\n",
        b"\xe9\nb\n\xfc\n",
    ),
    (
        "the same change",
        b"a\nb\nc\nd\n",
        b"A\nb\nc\nD\n",
        b"a\nb\nc\nD\n",
        b"a\nb\nc\nd\n",
    ),
    (
        "shorter",
        b"a\nb\nc\nd\ne\n",
        b"a\nb\nc\nd\nlong line of the agent\ne\n",
        b"mine\nb\nc\nd\nlong line of the agent\ne\n",
        b"mine\nb\nc\nd\ne\n",
    ),
    (
        "longer",
        b"a\na long line that goes\nb\nc\n",
        b"a\nb\nc\n",
        b"a\nb\nc\nmine\n",
        b"a\na long line that goes\nb\nc\nmine\n",
    ),
    ("an empty text", b"a\nb\n", b"", b"", b"a\nb\n"),
];

fn texts(w: &mut Fixture) -> Outcome {
    for (what, old, theirs, now, want) in CASES {
        w.sh("rm -f f")?;
        fs::write(w.path("f"), old)?;
        let (first, last) = save(w, theirs, WAYS[0].1)?;
        save(w, now, WAYS[0].1)?;
        let (code, said, complaint) = logctl(w, &format!("revert --ops {first}..{last} --merge"))?;
        same(format!("{what}: {said}{complaint}"), code, 0)?;
        w.same(&format!("{what}: {said}{complaint}"), "f", want)?;
        done(w, "undo --any")?;
        w.same(what, "f", now)?;
    }
    Ok(())
}

/// An undo of a named action, which an undo takes back.
fn undo(w: &mut Fixture) -> Outcome {
    fs::write(w.path("f"), text(&[]))?;
    w.sh("echo one > g; sleep 2.1")?;
    fs::write("/tmp/merge-new", text(&THEIRS))?;
    w.sh("set -m; (cat /tmp/merge-new > f; echo two > g); sleep 2.1")?;
    let chosen = numbers(&done(w, "log -n 1")?)?[0];
    let both = [&THEIRS[..], &[(20, "mine")]].concat();
    fs::write("/tmp/merge-new", text(&both))?;
    w.sh("set -m; (cat /tmp/merge-new > f); sleep 2.1")?;
    let before = Tree::of(&w.mnt)?;
    let said = done(w, &format!("undo {chosen} --merge"))?;
    check!(said.contains("Merged f: 1 hunk taken back.\n"), "{said}");
    w.same(&said, "f", text(&[(20, "mine")]).as_bytes())?;
    w.same(&said, "g", b"one\n")?;
    // One action in the log, with its command.
    let log = done(w, "log -n 2")?;
    let first = log.lines().nth(1).unwrap_or("");
    check!(
        first.contains("undo") && first.contains("--merge") && first.contains("~2 files"),
        "{log}"
    );
    done(w, "undo")?;
    same_tree(w, "undone", &before)?;
    done(w, "redo")?;
    w.same("redone", "f", text(&[(20, "mine")]).as_bytes())?;
    done(w, "undo")?;
    same_tree(w, "undone again", &before)
}

/// Without job control, the merge is no part of the commands before and after it.
fn in_a_script(w: &mut Fixture) -> Outcome {
    fs::write(w.path("f"), text(&[]))?;
    w.sh("echo one > g; echo one > h; sleep 2.1")?;
    let (first, _) = save(w, text(&THEIRS).as_bytes(), WAYS[0].1)?;
    let (_, last) = save(w, b"", "echo two > g")?;
    let both = [&THEIRS[..], &[(20, "mine")]].concat();
    fs::write("/tmp/merge-new", text(&both))?;
    w.sh(&format!(
        "cat /tmp/merge-new > f; echo two > h; logctl revert --ops {first}..{last} --merge"
    ))?;
    w.same("merged", "f", text(&[(20, "mine")]).as_bytes())?;
    done(w, "undo --any")?;
    w.same("undone", "f", text(&both).as_bytes())?;
    w.same("undone", "g", b"two\n")?;
    w.same("undone", "h", b"two\n")
}

const ANA: u32 = 2000;
const BEN: u32 = 2001;

/// Who is not root merges own files, and no file of others.
fn of_a_user(w: &mut Fixture) -> Outcome {
    w.sh("mkdir box; chmod 777 box . ; chown 2000:2000 box")?;
    fs::write("/tmp/merge-new", text(&[]))?;
    w.sh(&user(
        ANA,
        "cat /tmp/merge-new > box/f; chmod 644 box/f; sleep 2.1",
    ))?;
    for (_, way) in [WAYS[0], WAYS[1]] {
        fs::write("/tmp/merge-new", text(&[]))?;
        w.sh(&user(ANA, "cat /tmp/merge-new > box/f"))?;
        let first = last_number(w)? + 1;
        fs::write("/tmp/merge-new", text(&THEIRS))?;
        w.sh(&user(ANA, &format!("cd box; {way}")))?;
        let last = last_number(w)?;
        let both = [&THEIRS[..], &[(20, "mine")]].concat();
        fs::write("/tmp/merge-new", text(&both))?;
        w.sh(&user(ANA, &format!("cd box; {way}")))?;
        let line = format!("logctl revert --ops {first}..{last} --merge");
        let (_, text_of_ben) = said(w, BEN, &line)?;
        w.same(&text_of_ben, "box/f", text(&both).as_bytes())?;
        let (code, text_of_ana) = said(w, ANA, &line)?;
        same(&text_of_ana, code.as_str(), "0")?;
        w.same(&text_of_ana, "box/f", text(&[(20, "mine")]).as_bytes())?;
        w.sh(&user(ANA, "logctl undo --any"))?;
        w.same("undone", "box/f", text(&both).as_bytes())?;
    }
    Ok(())
}
