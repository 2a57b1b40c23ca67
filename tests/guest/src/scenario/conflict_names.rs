// SPDX-License-Identifier: GPL-2.0

//! Messages on conflicts name a saved file by its name of today, once, however a program saves it.

use std::fs;
use std::path::Path;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::outcome::{check, same, At, Outcome};

use super::save_units::SAVES;
use super::verbs::{done, logctl, numbers};

pub const TESTS: &[Test] = &[
    Test::new("conflict-names-of-saves", of_saves)
        .lengthy()
        .seconds(300),
    Test::new("conflict-names-before-saves", before_saves)
        .lengthy()
        .seconds(300),
    Test::new("conflict-names-of-many", of_many),
];

/// More ways of saving `f`, with the result of [`SAVES`]. Python's os.link() calls linkat(), which follows links,
/// only with a descriptor of a directory; an absolute path makes no use of it.
const MORE: &[(&str, &str)] = &[
    ("nano", "script -qec 'nano -I +2,1 f' /dev/null < <(sleep 1; printf '\\0132\\r\\017\\r\\030'; sleep 1)"),
    ("emacs", "emacs -batch -Q f --eval '(progn (find-file \"f\") (search-forward \"two\") (replace-match \"2\") (save-buffer))'"),
    ("gedit's way", "python3 -c 'import os
new = os.open(\".goutputstream-ABC123\", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
os.write(new, open(\"/tmp/new/f\", \"rb\").read()); os.fsync(new); os.close(new)
os.rename(\".goutputstream-ABC123\", \"f\")'"),
    ("os.replace of python", "python3 -c 'import os, tempfile
new, name = tempfile.mkstemp(dir=\".\")
os.write(new, open(\"/tmp/new/f\", \"rb\").read()); os.close(new); os.chmod(name, 0o640); os.replace(name, \"f\")'"),
    ("O_TMPFILE and linkat", "python3 -c 'import os
new = os.open(\".\", os.O_TMPFILE | os.O_WRONLY, 0o640)
os.write(new, open(\"/tmp/new/f\", \"rb\").read()); os.unlink(\"f\")
os.link(\"/proc/self/fd/%d\" % new, \"f\", src_dir_fd=new, follow_symlinks=True)'"),
    ("O_TMPFILE and a rename", "python3 -c 'import os
new = os.open(\".\", os.O_TMPFILE | os.O_WRONLY, 0o640)
os.write(new, open(\"/tmp/new/f\", \"rb\").read())
os.link(\"/proc/self/fd/%d\" % new, \"f.tmp\", src_dir_fd=new, follow_symlinks=True); os.rename(\"f.tmp\", \"f\")'"),
    ("in place", "cp /tmp/new/f f"),
];

fn saves() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    // The debug kernel has no pseudo-terminals.
    let has_terminals = Path::new("/dev/ptmx").exists();
    let all = SAVES.iter().chain(MORE);
    all.filter(move |(_, save)| has_terminals || !save.starts_with("script"))
}

fn begin(w: &Fixture) -> Outcome {
    w.sh(
        "rm -rf d; mkdir -p d; printf 'one\\ntwo\\nthree\\n' > d/f; chmod 640 d/f
        mkdir -p /tmp/new; printf 'one\\n2\\nthree\\n' > /tmp/new/f; chmod 640 /tmp/new/f",
    )
    .map(drop)
}

fn head(w: &Fixture) -> Outcome<u64> {
    Ok(numbers(&done(w, "log -n 1 --all --ops")?)?[0])
}

/// The place of a conflict in JSON.
fn path_now(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"path_now\":\"")?;
    rest.split('"').next()
}

/// Asks for a revert of a range, which has to be refused; compares the list of conflicts with one that has this
/// name once. The JSON has it, too. Returns false if nothing conflicts.
fn names_once(w: &Fixture, what: &str, (first, last): (u64, u64), name: &str) -> Outcome<bool> {
    let line = format!("revert --ops {first}..{last} -n");
    let (code, said, complaint) = logctl(w, &line)?;
    if code == 0 {
        return Ok(false);
    }
    same(format!("{what}: {said}{complaint}"), code, 4)?;
    let rows = complaint.lines().filter(|row| row.starts_with("  "));
    let names: Vec<&str> = rows
        .filter_map(|row| row.split_whitespace().nth(1))
        .collect();
    same(format!("{what}: names in {complaint}"), names, vec![name])?;
    let (_, said, _) = logctl(w, &format!("{line} --json"))?;
    let conflicts = said.lines().filter(|line| line.contains("\"kind\":"));
    let now: Vec<&str> = conflicts.filter_map(path_now).collect();
    let path = w.path(name);
    let is_named = now.iter().any(|now| Path::new(now) == path);
    check!(is_named, "{what}: no conflict is at {name}: {said}");
    // A save with a backup has operations on that, too; but a name that is no more says nothing.
    let gone = now.iter().find(|now| !Path::new(now).exists());
    check!(gone.is_none(), "{what}: {gone:?} does not exist: {said}");
    Ok(true)
}

/// The save is selected, and the file was changed later: in place, or by another save, or under another name.
fn of_saves(w: &mut Fixture) -> Outcome {
    for (number, (who, save)) in saves().enumerate() {
        let (later, name) = [
            ("echo later >> f", "d/f"),
            ("mv f g; echo later >> g", "d/g"),
            ("echo later >> f; printf X | dd of=f bs=1 seek=1 conv=notrunc status=none; chmod 600 f", "d/f"),
            ("sed -i s/one/1/ f; echo later >> f", "d/f"),
            // The content that the save made is that of the backup.
            ("echo later >> f; perl -pi.bak -e s/one/1/ f; mv ../d ../e; mv ../e ../d", "d/f.bak"),
        ][number % 5];
        begin(w).at(*who)?;
        let first = head(w)? + 1;
        w.sh(&format!("cd d; {save}")).at(*who)?;
        w.same(who, "d/f", b"one\n2\nthree\n")?;
        let last = head(w)?;
        w.sh(&format!("cd d; {later}")).at(*who)?;
        let what = format!("{who}, then {later}");
        check!(
            names_once(w, &what, (first, last), name)?,
            "{what}: no conflict"
        );
    }
    Ok(())
}

/// The save is the later change of a file that was changed before.
fn before_saves(w: &mut Fixture) -> Outcome {
    let mut conflicts = 0;
    for (who, save) in saves() {
        begin(w).at(*who)?;
        w.sh("cd d; echo two > f.old; mv f.old f; printf 'one\\ntwo\\nthree\\n' > f; chmod 640 f")?;
        let last = head(w)?;
        w.sh(&format!("cd d; {save}")).at(*who)?;
        w.same(who, "d/f", b"one\n2\nthree\n")?;
        // The newest operations on the file itself, and its replacement before.
        for first in [last, last - 1, last - 5] {
            let what = format!("{who}, after {first}..{last}");
            conflicts += usize::from(names_once(w, &what, (first, last), "d/f")?);
        }
    }
    check!(conflicts > 20, "only {conflicts} requests had conflicts");
    Ok(())
}

/// Files are named once each, in the order in which their operations were done, also where more lie between.
fn of_many(w: &mut Fixture) -> Outcome {
    w.sh(
        "mkdir d; cd d; for i in a b c; do echo one > $i; done; sleep 2.1
        for i in 1 2 3; do for f in a b c; do echo $i >> $f; done; done",
    )?;
    let last = head(w)?;
    w.sh("cd d; for f in a b c; do sed -i s/one/two/ $f; echo x >> $f; done; rm c")?;
    fs::metadata(w.path("d/a")).at("d/a")?;
    let (code, said, complaint) = logctl(w, &format!("revert --ops {}..{last} -n", last - 20))?;
    same(format!("{said}{complaint}"), code, 4)?;
    let rows = complaint.lines().filter(|row| row.starts_with("  "));
    let mut names: Vec<&str> = rows
        .filter_map(|row| row.split_whitespace().nth(1))
        .collect();
    names.sort_unstable();
    let mut once = names.clone();
    once.dedup();
    same(format!("names in {complaint}"), names, once)?;
    check!(
        complaint.contains("d/a") && complaint.contains("d/c"),
        "{complaint}"
    );
    check!(
        !complaint.contains("d/sed"),
        "a temporary name: {complaint}"
    );
    Ok(())
}
