// SPDX-License-Identifier: GPL-2.0

//! Attributes taken back: mode, owner, times, xattrs, ACLs, flags.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, same_errno, At, Outcome};
use crate::sys::Map;
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new("attributes-one-by-one", one_by_one).seconds(180),
    Test::new("attributes-of-a-directory", of_a_directory).seconds(120),
    Test::new("attributes-between-writes", between_writes),
    Test::new("attributes-oldest-wins", oldest_wins),
    Test::new("attributes-after-a-remount", after_a_remount),
    Test::new("attributes-need-the-right", need_the_right),
    Test::new("attributes-of-a-former-owner", of_a_former_owner),
    Test::new("attributes-protected", protected),
    Test::new("attributes-stripped-by-a-write", stripped_by_a_write),
    Test::new("attributes-kept-by-a-revert", kept_by_a_revert),
    Test::new("attributes-of-our-own", of_our_own),
    Test::new("attributes-of-a-project", of_a_project).only(&[Lower::Xfs]),
];

/// All attributes of an object that can be set, except access and change times: by stat(2), with
/// ACLs as xattrs.
fn facts(w: &Fixture, name: &str) -> Outcome<String> {
    let path = w.path(name);
    let file = reader(w, name)?;
    let stat = file.metadata()?;
    let mut text = format!(
        "{:o} {} {} {}.{:09} {} {}",
        stat.mode(),
        stat.uid(),
        stat.gid(),
        stat.mtime(),
        stat.mtime_nsec(),
        stat.nlink(),
        stat.len()
    );
    let mut names = vec![0; 4096];
    let n = rustix::fs::listxattr(&path, &mut names)?;
    names.truncate(n);
    let mut xattrs: Vec<&[u8]> = names.split(|byte| *byte == 0).collect();
    xattrs.sort_unstable();
    for xattr in xattrs.into_iter().filter(|xattr| !xattr.is_empty()) {
        let mut value = vec![0; 4096];
        let n = rustix::fs::getxattr(&path, xattr, &mut value)?;
        let name = String::from_utf8_lossy(xattr);
        text += &format!("\n{name}={:02x?}", &value[..n]);
    }
    if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
        text += &format!("\nflags {:x}", flags.bits());
    }
    if stat.is_file() {
        text += &format!("\n{:?}", String::from_utf8_lossy(&std::fs::read(&path)?));
    }
    Ok(text)
}

/// Opens for a revert that needs no writable descriptor.
fn reader(w: &Fixture, name: &str) -> Outcome<File> {
    File::open(w.path(name)).at(format!("opening {name}"))
}

fn newest_op(w: &Fixture, name: &str) -> Outcome<String> {
    let lines = undo::lines(&reader(w, name)?, false)?;
    Ok(lines.last().map_or(String::new(), |line| line.op.clone()))
}

/// Each step is reverted to exactly its earlier state.
fn steps_taken_back(w: &Fixture, name: &str, steps: &[(&str, &str)]) -> Outcome {
    for (step, op) in steps {
        let before = facts(w, name)?;
        if w.sh(&step.replace('$', name)).is_err() {
            // Not on this filesystem; a refusal leaves no line.
            check!(newest_op(w, name)? != *op, "{step} failed, and left a line");
            continue;
        }
        let after = facts(w, name)?;
        check!(before != after, "{step} changed nothing: {after}");
        same(*step, newest_op(w, name)?, (*op).to_string())?;
        undo::revert(&reader(w, name)?, 1).at(format!("reverting: {step}"))?;
        same(format!("reverted: {step}"), facts(w, name)?, before)?;
    }
    Ok(())
}

fn one_by_one(w: &mut Fixture) -> Outcome {
    w.sh("echo content > f; chmod 640 f")?;
    let steps = [
        ("chmod 604 $", "setattr"),
        ("chmod 6777 $", "setattr"),
        ("chown 1000 $", "setattr"),
        ("chgrp 1001 $", "setattr"),
        ("touch -d '2001-02-03 04:05:06.789' $", "setattr"),
        ("touch -m -d 1960-01-01 $", "setattr"),
        ("setfattr -n user.one -v 1 $", "setxattr"),
        ("setfattr -n trusted.two -v 0x0001ff $", "setxattr"),
        ("setfattr -n security.three -v 3 $", "setxattr"),
        ("setfacl -m u:2000:rw,g:2001:r $", "setacl"),
        ("chattr +d $", "setflags"),
    ];
    steps_taken_back(w, "f", &steps)?;
    // Also on an object that has all of these attributes.
    w.sh(
        "setfattr -n user.one -v first f; setfacl -m u:2000:rw f; chown 1000:1001 f; chmod 4771 f",
    )?;
    let steps = [
        ("setfattr -n user.one -v second $", "setxattr"),
        ("setfattr -x user.one $", "setxattr"),
        ("setfacl -m u:2000:-,m::x $", "setacl"),
        ("setfacl -b $", "setacl"),
        // The new mode changes the ACL's mask.
        ("chmod 700 $", "setattr"),
        ("chown 0:0 $", "setattr"),
    ];
    steps_taken_back(w, "f", &steps)
}

fn of_a_directory(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; setfacl -d -m u:2000:rwx d; setfattr -n user.x -v y d")?;
    let steps = [
        ("chmod 1777 $", "setattr"),
        ("chown 1000:1001 $", "setattr"),
        ("touch -d 2001-01-01 $", "setattr"),
        ("setfattr -n user.x -v z $", "setxattr"),
        ("setfacl -d -m u:2000:r $", "setacl"),
        ("setfacl -k $", "setacl"),
        ("setfacl -m u:2001:rwx $", "setacl"),
        ("chattr +d $", "setflags"),
    ];
    steps_taken_back(w, "d", &steps)
}

/// A walk over both kinds stops in every state on its way.
fn between_writes(w: &mut Fixture) -> Outcome {
    let steps = [
        "echo two >> f",
        "chmod 600 f",
        "truncate -s 2 f",
        "setfattr -n user.a -v 1 f",
        "printf three >> f",
        "setfacl -m u:2000:rw f",
        "setfattr -n user.a -v 2 f",
        "printf X | dd of=f conv=notrunc bs=1 seek=1 status=none",
        "chmod 755 f",
    ];
    // A revert of content moves the modification time, as every write does.
    let state = |w: &Fixture, name: &str| -> Outcome<Vec<String>> {
        let facts = facts(w, name)?;
        let words = facts.split(' ').enumerate();
        Ok(words
            .filter(|(at, _)| *at != 3)
            .map(|(_, word)| word.to_string())
            .collect())
    };
    for at_once in [false, true] {
        let name = if at_once { "g" } else { "f" };
        w.sh(&format!("echo one > {name}"))?;
        let mut states = Vec::new();
        for step in steps {
            states.push(state(w, name)?);
            w.sh(&step
                .replace(" f", &format!(" {name}"))
                .replace("of=f", &format!("of={name}")))?;
        }
        same(
            "lines",
            undo::lines(&w.open(name)?, false)?.len(),
            steps.len() + 1,
        )?;
        if at_once {
            w.revert(name, steps.len())?;
            same("all at once", state(w, name)?, states[0].clone())?;
            continue;
        }
        for (number, want) in states.iter().enumerate().rev() {
            w.revert(name, 1)?;
            same(format!("back at step {number}"), &state(w, name)?, want)?;
        }
    }
    Ok(())
}

fn oldest_wins(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; chmod 641 f; setfattr -n user.a -v first f")?;
    let before = facts(w, "f")?;
    w.sh(
        "chmod 600 f; chown 1:2 f; setfattr -n user.a -v x f; chmod 755 f; setfattr -x user.a f; \
          setfattr -n user.b -v new f; touch f; chown 3:4 f",
    )?;
    undo::revert(&reader(w, "f")?, 8)?;
    same("eight at once", facts(w, "f")?, before)?;
    let text = String::from_utf8_lossy(&undo::page(&reader(w, "f")?)?).into_owned();
    check!(!text.contains("revert"), "a revert shows: {text}");
    same("lines that stand", text.lines().count(), 3)
}

fn after_a_remount(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; chmod 641 f")?;
    let before = facts(w, "f")?;
    w.sh("chmod 600 f; setfattr -n user.a -v x f; sync")?;
    w.remount_if_lasting()?;
    undo::revert(&reader(w, "f")?, 2)?;
    same("reverted", facts(w, "f")?, before.clone())?;
    w.remount_if_lasting()?;
    same("and it stays so", facts(w, "f")?, before)
}

/// Attributes that the caller may not set are not set, and then none is.
fn need_the_right(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; chown 2000:2000 f; echo two >> f")?;
    w.sh("chgrp 0 f; echo three >> f")?;
    // Not in group 0 before, nor after: to give the file to group 2000 is theirs to do.
    let status =
        w.sh("setpriv --reuid 2000 --regid 2000 --clear-groups logctl f revert 2>&1 --count 2")?;
    check!(status.contains("Reverted 2"), "{status}");
    w.same("the owner may", "f", b"one\ntwo\n")?;
    w.sh("setfattr -n trusted.x -v 1 f; echo four >> f")?;
    let now = facts(w, "f")?;
    let said = w.sh(
        "setpriv --reuid 2000 --regid 2000 --clear-groups --bounding-set=-all \
         logctl f revert --count 2 2>&1 || true",
    )?;
    check!(said.contains("may not"), "{said}");
    same("nothing changed", facts(w, "f")?, now)?;
    undo::revert(&w.open("f")?, 2)?;
    w.same("root may", "f", b"one\ntwo\n")
}

/// The new owner of a file does not get its earlier content.
fn of_a_former_owner(w: &mut Fixture) -> Outcome {
    w.sh("echo secret > f; chmod 600 f; echo public > f; chown 2000:2000 f")?;
    let said = w.sh(
        "setpriv --reuid 2000 --regid 2000 --clear-groups logctl f revert --count 2 2>&1 || true",
    )?;
    check!(said.contains("not yours"), "{said}");
    w.same("nothing changed", "f", b"public\n")?;
    undo::revert(&w.open("f")?, 2)?;
    w.same("root may", "f", b"")
}

fn protected(w: &mut Fixture) -> Outcome {
    for flag in ["i", "a"] {
        let name = format!("f{flag}");
        if w.sh(&format!(
            "echo one > {name}; echo two >> {name}; chmod 641 {name}"
        ))
        .and_then(|_| w.sh(&format!("lsattr {name} > /dev/null; chattr +{flag} {name}")))
        .is_err()
        {
            return Err(crate::outcome::Stop::Skip("no chattr here".into()));
        }
        let protected = facts(w, &name)?;
        let file = reader(w, &name)?;
        same_errno(
            "content needs a writer",
            undo::revert(&file, 3),
            Errno::BADF,
        )?;
        same("nothing changed", facts(w, &name)?, protected)?;
        undo::revert(&file, 2).at("flags and mode")?;
        same(
            "mode",
            w.sh(&format!("stat -c %a {name}"))?.trim().to_string(),
            "644".into(),
        )?;
        w.sh(&format!(
            "echo three >> {name}; printf x | dd of={name} conv=notrunc status=none"
        ))?;
        w.revert(&name, 3)?;
        w.same("and on", &name, b"one\n")?;
    }
    Ok(())
}

/// The same without the modification time.
fn facts_but_times(w: &Fixture, name: &str) -> Outcome<String> {
    let facts = facts(w, name)?;
    let mut words: Vec<&str> = facts.split(' ').collect();
    words.remove(3);
    Ok(words.join(" "))
}

/// A write takes setuid bits and capabilities away, with lines of their own.
fn stripped_by_a_write(w: &mut Fixture) -> Outcome {
    let capability = "0x0100000200040000000000000000000000000000";
    w.sh("echo one > f; chown 2000:2000 f; chmod 6757 f")?;
    w.sh(&format!(
        "setfattr -n security.capability -v {capability} f"
    ))?;
    let lines = |w: &Fixture| -> Outcome<usize> { Ok(undo::lines(&w.open("f")?, false)?.len()) };
    let state = |w: &Fixture| facts_but_times(w, "f");
    let (before, count) = (state(w)?, lines(w)?);
    w.sh("setpriv --reuid 2001 --regid 2001 --clear-groups bash -c 'echo two >> f'")?;
    let stripped = state(w)?;
    check!(!stripped.contains("capability"), "not stripped: {stripped}");
    check!(stripped.starts_with("100757 "), "not stripped: {stripped}");
    let since = lines(w)? - count;
    check!(since >= 2, "no line of what was stripped: {since}");
    w.revert("f", since)?;
    same("back", state(w)?, before)
}

/// A revert writes, and leaves the privileges that the file has, unless they are more than the caller may
/// give.
fn kept_by_a_revert(w: &mut Fixture) -> Outcome {
    const CAPABILITY: &str = "0x0100000200040000000000000000000000000000";
    let give = format!("setfattr -n security.capability -v {CAPABILITY} f");
    w.sh("chmod 777 .; echo one > f; chown 2000:2000 f")?;
    w.sh(&give)?;
    let but_content = |w: &Fixture| -> Outcome<String> {
        let facts = facts_but_times(w, "f")?;
        Ok(facts
            .rsplit_once('\n')
            .map_or("", |(head, _)| head)
            .to_string())
    };
    let before = but_content(w)?;
    check!(before.contains("capability"), "it has none: {before}");
    let file = w.open("f")?;
    let mut map = Map::of(&file, 4096, true, true)?;
    map.store(0, b"two");
    w.revert("f", 1)?;
    w.same("the store taken back", "f", b"one\n")?;
    same("with capabilities", but_content(w)?, before.clone())?;
    w.sh("logctl redo")?;
    w.same("and forth", "f", b"two\n")?;
    same("with capabilities", but_content(w)?, before.clone())?;
    drop(map);
    // A pick below them.
    w.sh("setfattr -x security.capability f; echo six > f")?;
    let owner = "setpriv --reuid 2000 --regid 2000 --clear-groups";
    w.sh(&format!("{owner} bash -c 'echo ten > f'"))?;
    w.sh(&give)?;
    let with = but_content(w)?;
    let pick = "logctl revert --user 2000 --by bash";
    let said = w.sh(&format!("{owner} {pick} 2>&1 || true"))?;
    same("by its owner", but_content(w)?, with.clone())?;
    w.same(&format!("refused: {said}"), "f", b"ten\n")?;
    w.sh(pick)?;
    w.same("by root", "f", b"six\n")?;
    same("by root", but_content(w)?, with.clone())?;
    // A group that the owner is not in: as with a write, the bit goes.
    w.sh("setfattr -x security.capability f")?;
    w.sh(&format!(
        "{owner} bash -c 'echo now > f'; chgrp 3000 f; chmod 2755 f"
    ))?;
    let with = but_content(w)?;
    check!(with.starts_with("102755 "), "no setgid bit: {with}");
    let said = w.sh(&format!("{owner} {pick} 2>&1"))?;
    w.same(&said, "f", b"six\n")?;
    let without = but_content(w)?;
    check!(without.starts_with("100755 "), "not stripped: {without}");
    w.sh("logctl undo")?;
    w.same("undone", "f", b"now\n")?;
    same("undone", but_content(w)?, with)
}

/// Attributes with the names of the history's own attributes cannot be read or set through the
/// mount.
fn of_our_own(w: &mut Fixture) -> Outcome {
    const OWN: &str = "trusted.loggerfs.kept";
    let below = w.below("f")?;
    w.make("f", b"one")?;
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&below, OWN, b"1", none)?;
    let path = w.path("f");
    let facts = facts(w, "f")?;
    check!(!facts.contains(OWN), "listed: {facts}");
    let mut value = [0; 10];
    let get = rustix::fs::getxattr(&path, OWN, &mut value);
    same_errno("get", get.map_err(Into::into), Errno::NODATA)?;
    let set = rustix::fs::setxattr(&path, OWN, b"2", none);
    same_errno("set", set.map_err(Into::into), Errno::PERM)?;
    let remove = rustix::fs::removexattr(&path, OWN);
    same_errno("remove", remove.map_err(Into::into), Errno::PERM)?;
    let n = rustix::fs::getxattr(&below, OWN, &mut value)?;
    same("below", &value[..n], b"1")
}

fn of_a_project(w: &mut Fixture) -> Outcome {
    let project = |w: &Fixture| -> Outcome<String> {
        Ok(w.sh("lsattr -p f | awk '{print $1}'")?.trim().to_string())
    };
    let lines = |w: &Fixture| -> Outcome<usize> { Ok(undo::lines(&reader(w, "f")?, false)?.len()) };
    w.sh("echo one > f; chattr -p 7 f")?;
    let first = lines(w)?;
    w.sh("chattr -p 8 f")?;
    same("project", project(w)?, "8".into())?;
    // chattr sets flags and project by calls of their own.
    undo::revert(&reader(w, "f")?, lines(w)? - first)?;
    same("back", project(w)?, "7".into())?;
    undo::revert(&reader(w, "f")?, first - 1)?;
    same("and back", project(w)?, "0".into())
}
