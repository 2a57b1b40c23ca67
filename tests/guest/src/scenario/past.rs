// SPDX-License-Identifier: GPL-2.0

//! The content that an object had under an earlier owner remains that owner's: for every way to read lines
//! and to revert them.

use std::fs::File;

use crate::fixture::Fixture;
use crate::group::{self, Placed, Watch, DRY_RUN, FORCE, WALK};
use crate::harness::Test;
use crate::outcome::{check, fail, same, Outcome};
use crate::sys;

pub const TESTS: &[Test] = &[
    Test::new("past-of-a-file-given-away", given_away)
        .lengthy()
        .seconds(120),
    Test::new("past-of-a-file-given-there-and-back", there_and_back)
        .lengthy()
        .seconds(120),
    Test::new("past-of-a-directory-given-away", directory).seconds(120),
    Test::new("past-given-away-behind-the-mount", behind).seconds(120),
    Test::new("past-through-the-tool", tool)
        .lengthy()
        .seconds(180),
    Test::new("past-after-a-remount", remounted)
        .lengthy()
        .seconds(120),
    Test::new("past-arguments", arguments).seconds(120),
    Test::new("past-arguments-off", no_arguments).seconds(120),
    Test::new("past-status-of-the-whole", status).seconds(120),
];

const ANA: u32 = 2000;
const BEN: u32 = 2001;

pub fn user(uid: u32, line: &str) -> String {
    format!("setpriv --reuid {uid} --regid {uid} --clear-groups bash -euc 'set -m; trap : EXIT; {line}' 2>&1")
}

/// The output and exit code of a user's command line, with or without success.
pub fn said(w: &Fixture, uid: u32, line: &str) -> Outcome<(String, String)> {
    let out = w.sh(&format!(
        "({}) && echo 'exit 0' || echo \"exit $?\"",
        user(uid, line)
    ))?;
    let (text, code) = out.trim_end().rsplit_once("exit ").unwrap_or((&out, "?"));
    Ok((code.to_owned(), text.to_owned()))
}

/// Asks as a user, through one of the mount's files or directories, to take operations back; answers the
/// error.
pub fn as_uid(
    w: &Fixture,
    uid: u32,
    through: &str,
    operations: &[Placed],
    flags: u32,
) -> Outcome<Option<i32>> {
    let path = w.path(through);
    let status = sys::in_child(|| {
        if uid != 0 && sys::become_only(uid).is_err() {
            std::process::exit(250);
        }
        let Ok(file) = File::open(&path) else {
            std::process::exit(251);
        };
        let (result, _) = group::revert(&file, operations, flags);
        let error = result.err().and_then(|error| error.raw_os_error());
        std::process::exit(error.unwrap_or(0));
    })?;
    check!(libc::WIFEXITED(status), "the child ended with {status}");
    match libc::WEXITSTATUS(status) {
        0 => Ok(None),
        250 => fail!("no user {uid}"),
        251 => fail!("user {uid} cannot open {through}"),
        error => Ok(Some(error)),
    }
}

/// Asks for each operation and for all, in every way: none may be taken back.
fn refused(w: &Fixture, uid: u32, name: &str, operations: &[Placed]) -> Outcome {
    let before = w.sh(&format!("stat -c '%u %a %s' {name}; cat {name}"))?;
    for mode in [0, WALK, FORCE, WALK | FORCE] {
        for dry in [DRY_RUN, 0] {
            for one in operations {
                let error = as_uid(w, uid, name, std::slice::from_ref(one), mode | dry)?;
                let is_external = mode & FORCE == 0 && error == Some(libc::ESTALE);
                check!(
                    is_external || error == Some(libc::EPERM),
                    "{} (op {}), flags {}: {error:?}",
                    one.line.op,
                    one.seq,
                    mode | dry
                );
            }
            let error = as_uid(w, uid, name, operations, mode | dry)?;
            check!(error.is_some(), "all at once, flags {}", mode | dry);
        }
    }
    let after = w.sh(&format!("stat -c '%u %a %s' {name}; cat {name}"))?;
    same("changed", after, before)
}

/// A file of `ANA` with a secret in its past, which root gives to `BEN`. Returns the operations of
/// `ANA`.
fn give(w: &Fixture) -> Outcome<Vec<Placed>> {
    w.sh("mkdir -m 777 box; echo public > box/f; chown 2000:2000 box/f; chmod 644 box/f")?;
    let since = Watch::begin(w)?;
    w.sh(&user(
        ANA,
        "echo secret > box/f; echo public > box/f; chmod 600 box/f",
    ))?;
    let mut past = since.operations(w)?;
    past.retain(|p| p.line.op != "setattr");
    Ok(past)
}

fn given_away(w: &mut Fixture) -> Outcome {
    let past = give(w)?;
    w.sh("chown 2001:2001 box/f")?;
    refused(w, BEN, "box/f", &past)?;
    // The operations of the new owner belong to the new owner.
    let since = Watch::begin(w)?;
    w.sh(&user(BEN, "echo mine > box/f"))?;
    let own = since.operations(w)?;
    refused(w, BEN, "box/f", &past)?;
    same("own", as_uid(w, BEN, "box/f", &own, WALK | DRY_RUN)?, None)?;
    same("own", as_uid(w, BEN, "box/f", &own, WALK)?, None)?;
    w.same("the state that was given", "box/f", b"public\n")?;
    refused(w, BEN, "box/f", &past)?;
    // Neither the change of the owner, nor earlier operations.
    same(
        "as root",
        as_uid(w, 0, "box/f", &past, WALK | DRY_RUN)?,
        None,
    )
}

/// The first owner gets the file again; content that the second owner wrote stays the second
/// owner's.
fn there_and_back(w: &mut Fixture) -> Outcome {
    give(w)?;
    w.sh("chown 2001:2001 box/f")?;
    let since = Watch::begin(w)?;
    w.sh(&user(BEN, "echo of ben > box/f; echo public > box/f"))?;
    let mut bens = since.operations(w)?;
    bens.retain(|p| p.line.op != "setattr");
    w.sh("chown 2000:2000 box/f")?;
    refused(w, ANA, "box/f", &bens)?;
    // Also when the change of the owner was itself taken back.
    w.sh("chown 2001:2001 box/f; logctl undo box/f")?;
    same("the owner", w.sh("stat -c %u box/f")?.trim(), "2000")?;
    refused(w, ANA, "box/f", &bens)?;
    w.sh("chown 2001:2001 box/f; logctl box/f revert --no-redo")?;
    same("the owner", w.sh("stat -c %u box/f")?.trim(), "2000")?;
    refused(w, ANA, "box/f", &bens)
}

/// A directory that is given away: its new owner cannot restore entries that were removed before.
fn directory(w: &mut Fixture) -> Outcome {
    w.sh("mkdir box; echo secret > box/f; chmod 644 box/f; echo x > box/old")?;
    let since = Watch::begin(w)?;
    w.sh("rm box/f; mv box/old box/new")?;
    let past = since.operations(w)?;
    w.sh("chown 2001:2001 box")?;
    for mode in [DRY_RUN, 0, WALK | DRY_RUN, WALK] {
        for one in &past {
            let error = as_uid(w, BEN, "box", std::slice::from_ref(one), mode)?;
            same(format!("op {}", one.seq), error, Some(libc::EPERM))?;
        }
    }
    let (code, text) = said(w, BEN, "logctl box revert")?;
    check!(code != "0", "the directory's revert: {text}");
    let (code, text) = said(w, BEN, "logctl undo")?;
    check!(code != "0", "an undo: {text}");
    check!(!w.path("box/f").exists(), "it came back");
    let log = said(w, BEN, "logctl log --ops --json; logctl box readlog --all")?.1;
    check!(!log.contains("unlink"), "the removal is shown: {log}");
    w.sh(&user(BEN, "echo mine > box/mine; rm box/mine"))?;
    w.sh(&user(BEN, "logctl box revert"))?;
    w.same("own", "box/mine", b"mine\n")
}

/// The owner is changed in SOURCE: no line says when.
fn behind(w: &mut Fixture) -> Outcome {
    let Ok(below) = w.below("box/f") else {
        return Err(crate::outcome::Stop::Skip(
            "the lower filesystem is hidden".into(),
        ));
    };
    let past = give(w)?;
    w.sh(&format!("chown 2001:2001 {}", below.display()))?;
    refused(w, BEN, "box/f", &past)?;
    let log = said(
        w,
        BEN,
        "logctl box/f readlog --all; logctl log --ops --json",
    )?
    .1;
    check!(!log.contains(" write "), "lines are shown: {log}");
    w.sh(&user(BEN, "echo mine >> box/f"))?;
    refused(w, BEN, "box/f", &past)?;
    let (code, text) = said(w, BEN, "logctl box/f revert --count 2 --force")?;
    check!(code != "0", "with force: {text}");
    // A permission that was revoked outside LoggerFS applies to requests by path, too.
    w.sh(&format!("chown 2000:2000 {}", below.display()))?;
    let mine: Vec<Placed> = group::history(w)?
        .into_iter()
        .filter(|p| p.line.op == "write" && p.seq > past[past.len() - 1].seq)
        .collect();
    refused(w, ANA, "box/f", &mine)
}

fn tool(w: &mut Fixture) -> Outcome {
    let past = give(w)?;
    w.sh("chown 2001:2001 box/f")?;
    let oldest = past[0].seq;
    let newest = past[past.len() - 1].seq;
    for line in [
        "logctl box/f revert --count 3".to_string(),
        "logctl box/f revert --count 3 --force".to_string(),
        "logctl undo box/f".to_string(),
        "logctl undo -3 box/f".to_string(),
        format!("logctl revert {newest}"),
        format!("logctl revert {newest} --partial"),
        format!("logctl revert {oldest}-{newest} --partial --force"),
        "logctl revert --by bash --partial".to_string(),
        "logctl revert --by bash --merge".to_string(),
        format!("logctl restore box/f --to {oldest}"),
        "logctl restore box/f --to 1h".to_string(),
    ] {
        let (code, text) = said(w, BEN, &line)?;
        check!(!text.contains("secret"), "{line}: {text}");
        let content = w.sh("cat box/f")?;
        same(
            format!("{line}: exit {code}, {text}"),
            content.as_str(),
            "public\n",
        )?;
    }
    for line in [
        "logctl box/f readlog",
        "logctl box/f readlog --all",
        "logctl log --ops --json",
        "logctl log --json box/f",
    ] {
        let (_, text) = said(w, BEN, line)?;
        check!(!text.contains("write"), "{line}: {text}");
    }
    for seq in [oldest, newest] {
        let (_, text) = said(
            w,
            BEN,
            &format!("logctl show {seq}; logctl show {seq} --diff"),
        )?;
        check!(!text.contains("secret"), "show {seq}: {text}");
    }
    // Their own stay theirs, and root has all.
    w.sh(&user(BEN, "echo mine > box/f; logctl undo box/f"))?;
    w.same("as given", "box/f", b"public\n")?;
    let log = w.sh("logctl log --ops --json")?;
    check!(log.contains(&format!("{newest}")), "root's view: {log}");
    Ok(())
}

/// Only the log is remembered.
fn remounted(w: &mut Fixture) -> Outcome {
    let past = give(w)?;
    w.sh("chown 2001:2001 box/f")?;
    w.remount_if_lasting()?;
    if w.path("box/f").exists() {
        refused(w, BEN, "box/f", &past)?;
        w.sh(&user(BEN, "echo mine > box/f"))?;
        w.remount_if_lasting()?;
        refused(w, BEN, "box/f", &past)?;
        let (code, text) = said(w, BEN, "logctl undo")?;
        same(format!("an undo of one's own: {text}"), code.as_str(), "0")?;
        w.same("as given", "box/f", b"public\n")?;
    }
    Ok(())
}

/// Arguments of other users, in every command that shows lines.
fn arguments(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -m 777 box; echo x > box/f; chown 2000:2000 box/f")?;
    w.sh("sed -i s/x/password-of-root/ box/f; chown 2000:2000 box/f; chmod 666 box/f")?;
    w.sh("bash -c 'echo y >> box/f' hunter-two")?;
    w.sh(&user(BEN, "bash -c \"echo z >> box/f\" hunter-three"))?;
    let (_, text) = said(
        w,
        ANA,
        "logctl box/f readlog; logctl box/f readlog --all; logctl box readlog --all; \
         logctl log --json; logctl log --ops --json; logctl log box/f; logctl show box/f",
    )?;
    for secret in ["hunter-two", "hunter-three", "password-of-root"] {
        check!(!text.contains(secret), "{secret}: {text}");
    }
    check!(text.contains("bash"), "no program's name: {text}");
    let (_, text) = said(w, BEN, "logctl box/f readlog --all")?;
    check!(!text.contains("hunter"), "not even the owner: {text}");
    let all = w.sh("logctl box/f readlog --all")?;
    for secret in ["hunter-two", "hunter-three"] {
        check!(all.contains(secret), "root's view: {all}");
    }
    Ok(())
}

/// With `args=off` no line has arguments, for any reader.
fn no_arguments(w: &mut Fixture) -> Outcome {
    w.unmount()?;
    w.mount_with("args=off")?;
    w.sh("bash -c 'echo y > f; echo z >> f; touch g' hunter-two")?;
    let all = w.sh("logctl f readlog --all; logctl . readlog --all; grep -o args= /proc/mounts || true; grep loggerfs /proc/mounts")?;
    check!(!all.contains("hunter-two"), "arguments: {all}");
    check!(all.contains("comm=bash"), "no program's name: {all}");
    check!(all.contains("args=off"), "not in /proc/mounts: {all}");
    w.unmount()?;
    w.mount_with("args=on")?;
    w.sh("bash -c 'echo y > f' hunter-three")?;
    let all = w.sh("logctl f readlog --all")?;
    check!(all.contains("hunter-three"), "{all}");
    let refused = w.unmount().map(|()| w.try_mount("args=maybe").is_err())?;
    check!(refused, "an unknown value passes");
    w.mount()
}

/// Statistics of the whole history are for administrators; an owner gets those of the object.
fn status(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -m 777 box; echo root > rooted; rm rooted")?;
    w.sh(&user(ANA, "echo one > box/f; echo two > box/f"))?;
    let figures = [
        "\"op\"",
        "segments",
        "log_bytes",
        "undo_bytes",
        "orphan_bytes",
        "lost",
        "errors",
    ];
    let root = w.sh("logctl box/f status --json")?;
    let (code, theirs) = said(w, ANA, "logctl box/f status --json")?;
    same("the owner's exit code", code.as_str(), "0")?;
    for figure in figures {
        let figure = figure.trim_matches('"');
        let has = |text: &str, value: &str| text.contains(&format!("\"{figure}\":{value}"));
        check!(has(&theirs, "null"), "{figure} is shown: {theirs}");
        check!(!has(&root, "null"), "{figure} is hidden from root: {root}");
    }
    for text in [&root, &theirs] {
        check!(text.contains("\"live\":"), "no own figures: {text}");
        check!(!text.contains("\"live\":0"), "no own figures: {text}");
    }
    let (code, text) = said(w, ANA, "logctl box/f status")?;
    same("in words", code.as_str(), "0")?;
    check!(text.contains("to administrators"), "it says: {text}");
    check!(!text.contains("last op"), "it says: {text}");
    check!(w.sh("logctl box/f status")?.contains("last op"), "root");
    let (code, _) = said(w, BEN, "logctl box/f status")?;
    check!(code != "0", "another user gets an answer");
    Ok(())
}
