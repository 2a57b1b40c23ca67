// SPDX-License-Identifier: GPL-2.0

//! `logctl undo --out` and `logctl revert --out`: the copies are compared with the files after the real undo.

use std::collections::BTreeSet;
use std::path::Path;

use super::verbs::{done, logctl, numbers};
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts;
use crate::outcome::{check, same, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("revert-out-as-undone", as_undone).seconds(180),
    Test::new("revert-out-beside-later-work", beside_later_work),
    Test::new("revert-out-mixed-content", mixed_content),
    Test::new("revert-out-replaces-nothing", replaces_nothing),
];

/// A shell line, run outside of the mount.
fn sh(line: &str) -> Outcome<String> {
    mounts::run_in(Path::new("/"), &["bash", "-euc", line])
}

/// The number of the mount's last line.
fn point(w: &Fixture) -> Outcome<u64> {
    Ok(crate::past_read::now(&std::fs::File::open(&w.mnt)?)?.0)
}

/// The number of the newest action.
fn newest(w: &Fixture) -> Outcome<u64> {
    Ok(numbers(&done(w, "log -n 1")?)?[0])
}

/// All below a directory, one object a line: path, kind, mode, owners, size, target, sum and attributes.
fn listing(dir: &Path) -> Outcome<BTreeSet<String>> {
    let said = sh(&format!(
        "cd {}; find . -mindepth 1 -printf '%P\\n' | sort | while read -r name; do
            stat --printf '%n %f %u %g ' \"$name\"
            if test -L \"$name\"; then readlink \"$name\" | tr '\\n' ' '
            elif test -f \"$name\"; then stat --printf '%s ' \"$name\"; sha256sum <\"$name\" | cut -c1-64 | tr '\\n' ' '
            fi
            getfattr -h -d -m '^user' \"$name\" 2>/dev/null | grep = | tr '\\n' ' ' || true
            echo
        done",
        dir.display()
    ))?;
    Ok(said.lines().map(str::to_owned).collect())
}

fn name(line: &str) -> &str {
    line.split(' ').next().unwrap_or("")
}

/// Each of them is one action.
const CHANGES: [&str; 10] = [
    "echo more >> d/f",
    "printf X | dd of=d/f bs=1 seek=1 conv=notrunc status=none",
    "truncate -s 3 d/f",
    "sed -i s/one/uno/ d/f",
    "rm -rf d",
    "mv d/e/g d/h",
    "chmod 4711 d/f",
    "setfattr -n user.a -v new d/f",
    "echo new > new; ln -s new link",
    "rm d/l; printf x | dd of=d/sparse bs=1 seek=300000 conv=notrunc status=none",
];

/// The copies are the files that the undo then changes, byte for byte, and no others.
fn as_undone(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p d/e; printf 'one\\ntwo\\n' > d/f; echo deep > d/e/g; ln -s f d/l
        truncate -s 1000000 d/sparse; setfattr -n user.a -v old d/f; chown 1000:1001 d/e d/e/g; chmod 750 d/e")?;
    let start = point(w)?;
    for (index, change) in CHANGES.iter().enumerate() {
        // A group of its own, as an interactive shell gives it.
        w.sh(&format!(
            "set -m; setsid -w bash -euc '{change}'; sleep 2.1"
        ))?;
        let (before, last) = (listing(&w.mnt)?, point(w)?);
        let out = w.beside()?.join(format!("out{index}"));
        let said = done(w, &format!("undo --any --out {}", out.display()))?;
        same(format!("{change}: the last line"), point(w)?, last)?;
        same(
            format!("{change}: the mount"),
            listing(&w.mnt)?,
            before.clone(),
        )?;
        done(w, "undo --any")?;
        let (after, copies) = (listing(&w.mnt)?, listing(&out)?);
        for line in after.difference(&before) {
            check!(
                copies.contains(line),
                "{change}: not among the copies: {line}\n{copies:#?}\n{said}"
            );
        }
        for line in &copies {
            // Directories above copies are no copies.
            let prefix = format!("{}/", name(line));
            let is_above = copies.iter().any(|line| line.starts_with(&prefix));
            check!(
                is_above || after.contains(line),
                "{change}: other than undone: {line}\n{after:#?}"
            );
        }
        let names = |lines: &BTreeSet<String>| -> BTreeSet<String> {
            lines.iter().map(|line| name(line).to_owned()).collect()
        };
        for gone in names(&before).difference(&names(&after)) {
            let gone_line = format!("Would be gone: {gone}\n");
            // A file that is moved back is copied at its old path.
            let is_moved = *change == CHANGES[5];
            check!(
                is_moved || said.contains(&gone_line),
                "{change}: {gone}: {said}"
            );
        }
        // A slow command is several actions, and the undo took back only the newest of them.
        done(w, &format!("restore --to {start}"))?;
    }
    // The time of a file that comes back is the old one.
    w.sh("touch -d '2020-01-02 03:04:05.5' d/e/g; sleep 2.1; (set -m; rm d/e/g); true")?;
    let out = w.beside()?.join("times");
    done(w, &format!("undo d/e/g --out {}", out.display()))?;
    let time = sh(&format!("stat -c '%y' {}/d/e/g", out.display()))?;
    check!(
        time.starts_with("2020-01-02 03:04:05.5"),
        "the time is {time}"
    );
    Ok(())
}

/// Later work on other files is not among the copies.
fn beside_later_work(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo one > g; echo one > h; sleep 2.1")?;
    // One process does both.
    w.sh("perl -e 'open F, \">f\"; print F \"two\\n\"; close F; unlink \"h\"'; sleep 2.1")?;
    let chosen = newest(w)?;
    w.sh("echo mine >> g")?;
    let out = w.beside()?.join("out");
    let said = done(
        w,
        &format!("--json revert {chosen} --out {}", out.display()),
    )?;
    check!(
        said.contains("\"copied\":2") && said.contains("\"gone\":0"),
        "{said}"
    );
    same(
        "the names",
        sh(&format!("ls {}", out.display()))?.as_str(),
        "f\nh\n",
    )?;
    same("f", std::fs::read(out.join("f"))?, b"one\n".to_vec())?;
    same("h", std::fs::read(out.join("h"))?, b"one\n".to_vec())?;
    w.same("f on the mount", "f", b"two\n")?;
    // Of files alone.
    let out = w.beside()?.join("alone");
    done(w, &format!("revert g --out {}", out.display()))?;
    same("g", std::fs::read(out.join("g"))?, b"one\n".to_vec())?;
    let (code, _, complaint) = logctl(w, &format!("revert . --out {}", out.display()))?;
    same(format!("of a directory: {complaint}"), code, 2)?;
    let (code, _, _) = logctl(w, &format!("undo -n --out {}", out.display()))?;
    same("of a dry run", code, 2)
}

/// A later operation that stays on the same file: only the kernel can compute that content.
fn mixed_content(w: &mut Fixture) -> Outcome {
    w.sh("printf 'aaaabbbbcccc' > f; sleep 2.1")?;
    w.sh("printf XX | dd of=f bs=1 conv=notrunc status=none; sleep 2.1")?;
    let chosen = newest(w)?;
    w.sh("printf YY | dd of=f bs=1 seek=8 conv=notrunc status=none")?;
    done(w, &format!("revert -n {chosen}"))?;
    let out = w.beside()?.join("out");
    let (code, said, complaint) = logctl(w, &format!("revert {chosen} --out {}", out.display()))?;
    same(format!("{said}{complaint}"), code, 4)?;
    check!(
        complaint.contains("'f' was changed later by op"),
        "it says: {complaint}"
    );
    check!(!out.exists(), "something was written");
    // A request that the kernel would refuse is refused with the same reason.
    w.sh("sleep 2.1; printf ZZ | dd of=f bs=1 conv=notrunc status=none")?;
    let (code, said, complaint) = logctl(w, &format!("revert {chosen} --out {}", out.display()))?;
    same(format!("{said}{complaint}"), code, 4)?;
    check!(complaint.contains("conflict"), "it says: {complaint}");
    check!(!out.exists(), "something was written");
    w.same("the file", "f", b"ZZaabbbbYYcc")
}

/// Neither over a file nor through a link.
fn replaces_nothing(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d l; for i in d/f d/g l/h; do echo one > $i; done; sleep 2.1")?;
    w.sh("set -m; (for i in d/f d/g l/h; do echo two > $i; done)")?;
    let (out, victim) = (w.beside()?.join("out"), w.beside()?.join("victim"));
    sh(&format!(
        "mkdir -p {0}/d {1}; echo mine > {0}/d/f; ln -s {1} {0}/l",
        out.display(),
        victim.display()
    ))?;
    let (code, said, complaint) = logctl(w, &format!("undo --any --out {}", out.display()))?;
    same(format!("{said}{complaint}"), code, 3)?;
    for path in ["d/f", "l/h"] {
        let line = format!("Not copied: '{}'", out.join(path).display());
        check!(complaint.contains(&line), "it says: {complaint}");
    }
    same("mine", std::fs::read(out.join("d/f"))?, b"mine\n".to_vec())?;
    same(
        "the other",
        std::fs::read(out.join("d/g"))?,
        b"one\n".to_vec(),
    )?;
    same(
        "through the link",
        sh(&format!("ls {}", victim.display()))?.as_str(),
        "",
    )
}
