// SPDX-License-Identifier: GPL-2.0

//! Who gets which objects back: each step of an undo passes the checks of the corresponding call by
//! the user.

use std::fs;
use std::path::Path;

use crate::fixture::Fixture;
use crate::group::{Placed, Watch, DRY_RUN, FORCE, WALK};
use crate::harness::Test;
use crate::mounts;
use crate::outcome::{check, same, Outcome, Stop};

use super::past::{as_uid, said, user};

pub const TESTS: &[Test] = &[
    Test::new("past-set-ids-come-back", set_ids)
        .lengthy()
        .seconds(240),
    Test::new("past-set-ids-in-a-removed-tree", in_a_tree).seconds(120),
    Test::new("past-set-ids-of-ones-own", own_set_ids).seconds(120),
    Test::new("past-links-come-back", links)
        .lengthy()
        .seconds(120),
    Test::new("past-sticky-renames", sticky)
        .lengthy()
        .seconds(120),
    Test::new("past-attributes-come-back", attributes)
        .lengthy()
        .seconds(120),
    Test::new("past-names-under-a-profile", profile)
        .lengthy()
        .seconds(180),
    Test::new("past-modes-changed-behind-the-mount", modes_behind).seconds(120),
];

const ANA: u32 = 2000;
const BEN: u32 = 2001;

/// Asks in every way for operations on names; the state after `look` stays. The mount's root must not
/// be open to users, as a private tmpfs' is: the owner of a directory might take that back there.
fn stays(w: &Fixture, uid: u32, dir: &str, operations: &[Placed], look: &str) -> Outcome {
    let before = w.sh(look)?;
    for mode in [DRY_RUN, 0, DRY_RUN | WALK, WALK] {
        let error = as_uid(w, uid, dir, operations, mode)?;
        check!(
            error == Some(libc::EPERM) || error == Some(libc::EACCES),
            "flags {mode}: {error:?}"
        );
        same(format!("flags {mode}"), w.sh(look)?, before.clone())?;
    }
    for line in [
        format!("logctl {dir} revert"),
        format!("logctl {dir} revert --flat"),
        format!("logctl {dir} revert --no-redo"),
        format!("logctl undo {dir}"),
        "logctl undo".to_string(),
        format!("logctl undo --partial {dir}"),
    ] {
        let (code, text) = said(w, uid, &line)?;
        check!(code != "0", "{line}: {text}");
        same(format!("{line}: {text}"), w.sh(look)?, before.clone())?;
    }
    Ok(())
}

/// Root removes a program in a user's directory that gives rights to its caller.
fn set_ids(w: &mut Fixture) -> Outcome {
    w.sh("chmod 755 .; mkdir box; chown 2000:2000 box")?;
    let look = "find box -printf '%P %m %U %y\\n' | sort; getcap -r box";
    for (what, make) in [
        ("setuid", "cp /usr/bin/id box/x; chmod 4755 box/x"),
        ("setgid", "cp /usr/bin/id box/x; chmod 2755 box/x"),
        (
            "capabilities",
            "cp /usr/bin/id box/x; setcap cap_dac_override+ep box/x",
        ),
        ("a device", "mknod -m 666 box/x c 1 3"),
        (
            "capabilities of a user's file",
            "cp /usr/bin/id box/x; chown 2000:2000 box/x; setcap cap_dac_override+ep box/x",
        ),
    ] {
        for remove in ["rm -f box/x", "touch box/n; mv -f box/n box/x"] {
            w.sh(make)?;
            let made = w.sh(look)?;
            let since = Watch::begin(w)?;
            w.sh(remove)?;
            let removal = since.operations(w)?;
            let last: Vec<Placed> = removal.clone();
            stays(w, ANA, "box", &last, look).map_err(|stop| match stop {
                Stop::Fail(why) => Stop::Fail(format!("{what}, {remove}: {why}")),
                stop => stop,
            })?;
            // Root takes the removal back completely.
            same("root", as_uid(w, 0, "box", &removal, WALK)?, None)?;
            same(format!("{what}: as it was"), w.sh(look)?, made)?;
            w.sh("rm -f box/*")?;
        }
    }
    Ok(())
}

fn in_a_tree(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p box/d/e; cp /usr/bin/id box/d/e/x; chmod 4755 box/d/e/x; echo y > box/d/y; chown 2000:2000 box box/d box/d/e box/d/y")?;
    let since = Watch::begin(w)?;
    w.sh("rm -rf box/d")?;
    let removal = since.operations(w)?;
    for mode in [DRY_RUN, 0, DRY_RUN | WALK, WALK] {
        let error = as_uid(w, ANA, "box", &removal, mode)?;
        check!(error.is_some(), "flags {mode}: taken back whole");
    }
    let (code, text) = said(w, ANA, "logctl box revert")?;
    check!(code != "0", "the tree came back: {text}");
    check!(!w.path("box/d").exists(), "a part is seen: {text}");
    // Without the program the user has the rest.
    w.sh(&user(ANA, "logctl undo --partial box || true"))?;
    check!(!w.path("box/d/e/x").exists(), "the program came back");
    Ok(())
}

/// The owner gets back the attributes that an owner could set.
fn own_set_ids(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -m 777 box")?;
    w.sh(&user(
        ANA,
        "cp /usr/bin/id box/x; chmod 4755 box/x; rm box/x; logctl undo",
    ))?;
    same(
        "its mode",
        w.sh("stat -c '%a %u' box/x")?.trim(),
        "4755 2000",
    )?;
    w.sh(&user(ANA, "chmod 2755 box/x; rm box/x; logctl undo"))?;
    same(
        "its mode",
        w.sh("stat -c '%a %u' box/x")?.trim(),
        "2755 2000",
    )?;
    w.sh(&user(ANA, "chmod 4755 box/x; chmod 755 box/x; logctl undo"))?;
    same(
        "its mode",
        w.sh("stat -c '%a %u' box/x")?.trim(),
        "4755 2000",
    )?;
    // The owner changed first: that cleared the set-id bits, which do not come back.
    w.sh("cp /usr/bin/id box/r; chmod 4755 box/r; chown 2000:2000 box/r")?;
    let (code, text) = said(w, ANA, "logctl box/r revert; logctl undo box/r")?;
    check!(code != "0", "{text}");
    check!(
        w.sh("stat -c %a box/r")?.trim() == "755",
        "set-id bits: {text}"
    );
    Ok(())
}

/// A name that is linked again, where link(2) would be refused.
fn links(w: &mut Fixture) -> Outcome {
    w.sh("chmod 755 .; mkdir sys box; chown 2000:2000 box; cp /usr/bin/id sys/tool; chmod 4755 sys/tool; echo r > sys/r; chmod 644 sys/r; echo o > sys/o; chmod 666 sys/o; echo m > sys/m; chown 2000 sys/m")?;
    let look = "find box -printf '%P %m %n\\n' | sort";
    for name in ["tool", "r"] {
        w.sh(&format!("ln sys/{name} box/{name}"))?;
        let since = Watch::begin(w)?;
        w.sh(&format!("rm box/{name}"))?;
        let removal = since.operations(w)?;
        stays(w, ANA, "box", &removal, look)?;
    }
    for name in ["o", "m"] {
        w.sh(&format!("ln sys/{name} box/{name}"))?;
        w.sh(&format!("rm box/{name}"))?;
        w.sh(&user(ANA, "logctl box revert"))?;
        same(
            "linked again",
            w.sh(&format!("stat -c %h box/{name}"))?.trim(),
            "2",
        )?;
    }
    // The other name lies where the user does not come.
    w.sh("rm box/m; chmod 700 sys")?;
    let (code, text) = said(w, ANA, "logctl box revert")?;
    check!(
        code != "0",
        "linked out of a directory that is shut: {text}"
    );
    Ok(())
}

/// A rename is taken back as if the user had moved the name.
fn sticky(w: &mut Fixture) -> Outcome {
    w.sh("chmod 755 .; mkdir -m 1777 tmp; mkdir -m 777 mine; chown 2000:2000 mine; mkdir -m 777 dir; chown 2001:2001 dir")?;
    let look = "find tmp mine dir -printf '%p %U\\n' | sort";
    for (what, make, act) in [
        (
            "out of it",
            "echo b > mine/f; chown 2001 mine/f",
            "mv mine/f tmp/f",
        ),
        (
            "an exchange",
            "echo b > mine/f; echo b > tmp/g; chown 2001 mine/f tmp/g",
            "mv --exchange mine/f tmp/g",
        ),
        (
            "of a directory",
            "mkdir mine/d; chown 2001 mine/d; chmod 777 mine/d",
            "mv mine/d tmp/d",
        ),
    ] {
        w.sh(make)?;
        let since = Watch::begin(w)?;
        w.sh(&user(BEN, act))?;
        let moved = since.operations(w)?;
        stays(w, ANA, "mine", &moved, look).map_err(|stop| match stop {
            Stop::Fail(why) => Stop::Fail(format!("{what}: {why}")),
            stop => stop,
        })?;
        w.sh("rm -rf tmp/* mine/*")?;
    }
    // Moving a directory writes to the directory itself: its `..` entry changes.
    w.sh("mkdir -m 755 mine/d; chown 2001 mine/d; mkdir -m 777 other; mv mine/d other/d")?;
    let (code, text) = said(w, ANA, "logctl mine revert")?;
    check!(code != "0", "another's directory was moved: {text}");
    check!(w.path("other/d").exists(), "moved: {text}");
    // A file may be.
    w.sh("echo b > mine/f; chown 2001 mine/f; mv mine/f other/f")?;
    w.sh(&user(ANA, "logctl mine revert"))?;
    w.same("moved back", "mine/f", b"b\n")
}

/// Attributes are set as the user may set them.
fn attributes(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -m 777 box; echo x > box/f; chown 2000:2000 box/f; chmod 755 box/f")?;
    let look = "stat -c '%a %u %g' box/f; getfattr -d -m - --absolute-names box/f; getcap box/f";
    for (make, change) in [
        (
            "setfattr -n trusted.x -v 1 box/f",
            "setfattr -x trusted.x box/f",
        ),
        (
            "setfattr -n security.x -v 1 box/f",
            "setfattr -x security.x box/f",
        ),
        ("setcap cap_chown+ep box/f", "setcap -r box/f"),
        ("chown 2000:0 box/f", "chown 2000:2000 box/f"),
        ("true", "chown 2001:2001 box/f"),
    ] {
        let made = w.sh(&format!("{make}; {look}"))?;
        let since = Watch::begin(w)?;
        w.sh(change)?;
        let operations = since.operations(w)?;
        let changed = w.sh(look)?;
        for mode in [0, WALK] {
            for uid in [ANA, BEN] {
                let error = as_uid(w, uid, "box/f", &operations, mode)?;
                check!(error.is_some(), "{change}, user {uid}, flags {mode}");
                same(change, w.sh(look)?, changed.clone())?;
            }
        }
        let (code, text) = said(w, ANA, "logctl box/f revert")?;
        check!(code != "0", "{change}: {text}");
        same(change, w.sh(look)?, changed)?;
        same("root", as_uid(w, 0, "box/f", &operations, WALK)?, None)?;
        same(format!("{change}: root's"), w.sh(look)?, made)?;
        w.sh("setfattr -x trusted.x box/f; setfattr -x security.x box/f; setcap -r box/f; true")
            .or_else(|_| Ok::<_, Stop>(String::new()))?;
    }
    Ok(())
}

/// May do everything, but for one name.
const PROFILE: &str = "
profile lfs-undo {
    file,
    capability,
    signal,
    deny /**/forbidden w,
}
";

/// A security module that decides by paths is asked as for the program's own calls.
fn profile(w: &mut Fixture) -> Outcome {
    if !Path::new("/sys/kernel/security/apparmor/.replace").exists() {
        return Err(Stop::Skip("the kernel has no AppArmor".into()));
    }
    fs::write("/run/lfs-undo", PROFILE)?;
    mounts::run(&[
        "apparmor_parser",
        "--replace",
        "--skip-cache",
        "/run/lfs-undo",
    ])?;
    let bound = |line: &str| -> Outcome<String> {
        w.sh(&format!(
            "bash -uc 'echo changeprofile lfs-undo > /proc/self/attr/current; {line}' 2>&1 && echo exit 0 || echo failed"
        ))
    };
    w.sh("mkdir d e")?;
    for (make, act) in [
        ("echo x > d/forbidden", "rm d/forbidden"),
        ("true", "echo x > d/forbidden"),
        ("echo x > d/forbidden", "mv d/forbidden d/other"),
        ("echo x > d/other", "mv d/other d/forbidden"),
        ("echo x > d/forbidden", "mv d/forbidden e/other"),
    ] {
        w.sh(&format!("rm -rf d/* e/*; {make}"))?;
        w.sh(act)?;
        let before = w.sh("find d e | sort")?;
        for line in ["logctl d revert", "logctl undo d"] {
            let said = bound(line)?;
            check!(said.ends_with("failed\n"), "{act}: {line}: {said}");
            same(
                format!("{act}: {line}: {said}"),
                w.sh("find d e | sort")?,
                before.clone(),
            )?;
        }
    }
    w.sh("rm -rf d/* e/*; echo x > d/free; rm d/free")?;
    let said = bound("logctl d revert")?;
    check!(said.ends_with("exit 0\n"), "{said}");
    w.same("what it may", "d/free", b"x\n")
}

/// Rights that are revoked in SOURCE take effect at once for requests through the mount.
fn modes_behind(w: &mut Fixture) -> Outcome {
    let below = w.below("")?.display().to_string();
    w.sh("mkdir -m 777 box; echo x > box/f; chown 2000:2000 box/f")?;
    let since = Watch::begin(w)?;
    w.sh(&user(ANA, "echo y > box/f"))?;
    let writes = since.operations(w)?;
    let since = Watch::begin(w)?;
    w.sh(&user(ANA, "echo n > box/n; rm box/n"))?;
    let mut names = since.operations(w)?;
    names.retain(|one| one.line.op == "unlink");
    w.sh(&user(BEN, "mv box/f box/g"))?;
    let since = Watch::begin(w)?;
    w.sh(&user(BEN, "mv box/g box/h"))?;
    let moves = since.operations(w)?;
    let look = "ls -l --time-style=+ box; cat box/h";
    let asked = |what: &str, uid: u32, through: &str, operations: &[Placed]| -> Outcome {
        let before = w.sh(look)?;
        for mode in [DRY_RUN | FORCE, FORCE, WALK | FORCE] {
            let error = as_uid(w, uid, through, operations, mode)?;
            check!(
                [Some(libc::EPERM), Some(libc::EACCES), Some(libc::EBADF)].contains(&error),
                "{what}, flags {mode}: {error:?}"
            );
            same(format!("{what}, flags {mode}"), w.sh(look)?, before.clone())?;
        }
        Ok(())
    };
    // A file that its owner may not write to any more.
    w.sh(&format!("chmod 444 {below}/box/h"))?;
    asked("mode of a file", ANA, "box/h", &writes)?;
    w.sh(&format!("chmod 644 {below}/box/h"))?;
    // A directory that becomes sticky, and one that is shut.
    w.sh(&format!("chmod 1777 {below}/box"))?;
    asked("a sticky bit", BEN, "box", &moves)?;
    w.sh(&format!("chmod 755 {below}/box"))?;
    asked("a directory's mode", BEN, "box", &moves)?;
    asked("a directory's mode", ANA, "box", &names)?;
    // A file of another user.
    w.sh(&format!("chmod 777 {below}/box; chown 0:0 {below}/box/h"))?;
    asked("an owner", ANA, "box/h", &writes)?;
    w.sh(&format!("chown 2000:2000 {below}/box/h"))?;
    if w.sh(&format!("chattr +i {below}/box/h 2>&1 && echo set || true"))?
        .contains("set")
    {
        asked("flags", ANA, "box/h", &writes)?;
        asked("flags of what is moved", BEN, "box", &moves)?;
        asked("flags, and root", 0, "box/h", &writes)?;
        w.sh(&format!("chattr -i {below}/box/h"))?;
    }
    same("at last", as_uid(w, BEN, "box", &moves, 0)?, None)
}
