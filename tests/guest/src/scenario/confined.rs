// SPDX-License-Identifier: GPL-2.0

//! A request reaches objects below the root of its descriptor's mount, by a path that the caller may search:
//! with bind mounts, in a container's mount namespace, with a container's capabilities.

use std::fs::File;
use std::path::Path;

use crate::fixture::Fixture;
use crate::group::{self, Placed, Watch, DRY_RUN, FORCE, WALK};
use crate::harness::Test;
use crate::outcome::{check, fail, same, Outcome};
use crate::sys;

use super::past::{said, user};

pub const TESTS: &[Test] = &[
    Test::new("confined-to-a-bind-mount", bind_mount).seconds(180),
    Test::new("confined-to-a-file", of_a_file).seconds(120),
    Test::new("confined-to-searchable-paths", searchable).seconds(120),
    Test::new("confined-removed-objects", removed).seconds(120),
    Test::new("confined-in-a-user-namespace", in_namespace).seconds(120),
    Test::new("confined-after-a-remount", remounted).seconds(120),
];

const ANA: u32 = 2000;

/// The capabilities that docker gives root in a container; CAP_SYS_ADMIN is not among them.
const CONTAINER: &str = "setpriv --bounding-set -all,+chown,+dac_override,+fsetid,+fowner,+mknod,\
    +net_raw,+setgid,+setuid,+setfcap,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write \
    --inh-caps -all";

/// As root in a container, which has the directory `from` of the mount as /mnt, by a bind mount, and no other
/// part of it.
fn contained(w: &Fixture, from: &str, line: &str) -> Outcome<(String, String)> {
    let at = w.path(from).display().to_string();
    let mnt = w.mnt.display().to_string();
    let out = w.sh(&format!(
        "cd /; unshare --mount --propagation private bash -euc \
         'mkdir -p /run/inside; \
          if [ -d {at} ]; then mount --bind {at} /run/inside; \
          else touch /run/inside.file; mount --bind {at} /run/inside.file; fi; \
          umount -l {mnt}; \
          exec {CONTAINER} bash -uc \"cd /run/inside; {line}\"' 2>&1 \
         && echo 'exit 0' || echo \"exit $?\""
    ))?;
    let (text, code) = out.trim_end().rsplit_once("exit ").unwrap_or((&out, "?"));
    Ok((code.to_owned(), text.to_owned()))
}

/// Asks by ioctls as a container's root, or a user, through a descriptor of a bind mount; answers errors.
fn by_ioctl(
    w: &Fixture,
    bound: &Path,
    uid: u32,
    operations: &[Placed],
    flags: u32,
) -> Outcome<Option<i32>> {
    let _ = w;
    let status = sys::in_child(|| {
        let is_done = if uid == 0 {
            sys::drop_to_container()
        } else {
            sys::become_only(uid)
        };
        if is_done.is_err() {
            std::process::exit(250);
        }
        let Ok(file) = File::open(bound) else {
            std::process::exit(251);
        };
        let (result, _) = group::revert(&file, operations, flags);
        let error = result.err().and_then(|error| error.raw_os_error());
        std::process::exit(error.unwrap_or(0));
    })?;
    match libc::WEXITSTATUS(status) {
        0 => Ok(None),
        250 => fail!("no user {uid}"),
        251 => fail!("user {uid} cannot open {}", bound.display()),
        error => Ok(Some(error)),
    }
}

const MODES: [u32; 6] = [
    DRY_RUN,
    0,
    DRY_RUN | WALK,
    WALK,
    DRY_RUN | FORCE,
    WALK | FORCE,
];

/// None of the operations may be taken back through a descriptor.
fn none(w: &Fixture, bound: &Path, uid: u32, operations: &[Placed]) -> Outcome {
    for mode in MODES {
        for one in operations {
            let error = by_ioctl(w, bound, uid, std::slice::from_ref(one), mode)?;
            check!(
                error == Some(libc::EPERM),
                "{} (op {}), flags {mode}, through {}: {error:?}",
                one.line.op,
                one.seq,
                bound.display()
            );
        }
    }
    Ok(())
}

/// Each of the operations can be.
fn all(w: &Fixture, bound: &Path, uid: u32, operations: &[Placed]) -> Outcome {
    let mut newest: Vec<&Placed> = operations.iter().collect();
    newest.sort_by_key(|one| std::cmp::Reverse(one.seq));
    for one in newest {
        let error = by_ioctl(w, bound, uid, std::slice::from_ref(one), 0)?;
        same(format!("{} (op {})", one.line.op, one.seq), error, None)?;
    }
    Ok(())
}

/// A directory that is bound elsewhere; unmounted when dropped.
struct Bound(std::path::PathBuf);

impl Bound {
    fn new(w: &Fixture, from: &str) -> Outcome<Bound> {
        let to = w.base.join(format!("bound-{}", from.replace('/', "-")));
        let from = w.path(from);
        if from.is_dir() {
            std::fs::create_dir_all(&to)?;
        } else {
            std::fs::write(&to, "")?;
        }
        w.sh(&format!("mount --bind {} {}", from.display(), to.display()))?;
        Ok(Bound(to))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = crate::mounts::unmount(&self.0);
    }
}

/// A container lists and takes back its own operations, and none outside its directory.
fn bind_mount(w: &mut Fixture) -> Outcome {
    w.sh(
        "mkdir inside private; echo a > inside/f; echo secret > private/f; \
          chown -R 2000:2000 private; chmod 700 private; chmod 600 private/f",
    )?;
    let since = Watch::begin(w)?;
    w.sh("cd private; echo other > f; chmod 640 f; mv f g; setfattr -n user.x -v 1 g; rm g; echo n > h")?;
    let outside = since.operations(w)?;
    let since = Watch::begin(w)?;
    w.sh("cd inside; echo b >> f; mv f g; echo n > h; rm h")?;
    let inside = since.operations(w)?;
    let bound = Bound::new(w, "inside")?;
    none(w, &bound.0, 0, &outside)?;
    none(w, &bound.0.join("g"), 0, &outside)?;
    let (_, text) = contained(
        w,
        "inside",
        "logctl log --ops --json; logctl log; logctl . readlog --all",
    )?;
    check!(
        !text.contains("secret") && !text.contains("private"),
        "{text}"
    );
    for one in &outside {
        check!(
            !text.contains(&format!("\"op\":{},", one.seq)),
            "op {}: {text}",
            one.seq
        );
    }
    check!(text.contains("write"), "not even its own: {text}");
    let before = w.sh("ls -lR private; cat private/*")?;
    for line in [
        "logctl undo -50",
        "logctl revert --by bash --partial",
        "logctl undo --all",
    ] {
        let (_, text) = contained(w, "inside", line)?;
        same(
            format!("{line}: {text}"),
            w.sh("ls -lR private; cat private/*")?,
            before.clone(),
        )?;
    }
    w.sh("rm -rf inside/*; echo a > inside/f")?;
    let since = Watch::begin(w)?;
    w.sh("cd inside; echo b >> f; mv f g; echo n > h; rm h; mkdir d; mv g d/g; chmod 600 d/g")?;
    drop(inside);
    let inside = since.operations(w)?;
    all(w, &bound.0, 0, &inside)?;
    w.same("as it was", "inside/f", b"a\n")
}

/// A bind mount of one file reaches that file.
fn of_a_file(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -m 777 d; echo one > d/f; echo one > d/other; chmod 666 d/*; chown 2000:2000 d/*")?;
    let since = Watch::begin(w)?;
    w.sh("echo two > d/f")?;
    let own = since.operations(w)?;
    let since = Watch::begin(w)?;
    w.sh("echo two > d/other; mv d/other d/moved; touch d/new")?;
    let others = since.operations(w)?;
    let bound = Bound::new(w, "d/f")?;
    for uid in [0, ANA] {
        none(w, &bound.0, uid, &others)?;
    }
    all(w, &bound.0, ANA, &own)?;
    w.same("its own", "d/f", b"one\n")?;
    let log = w.sh(&user(
        ANA,
        &format!(
            "logctl {} readlog --all; logctl {} status",
            bound.0.display(),
            bound.0.display()
        ),
    ))?;
    check!(log.contains("write"), "{log}");
    Ok(())
}

/// A user's own file in a directory that the user may not search, on the whole mount.
fn searchable(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p shut/in open; echo one > shut/in/f; echo one > open/f; chown 2000:2000 shut/in/f open/f; chmod 777 shut/in")?;
    let since = Watch::begin(w)?;
    w.sh("echo two > shut/in/f")?;
    w.sh(&user(ANA, "touch shut/in/g; mv shut/in/g shut/in/h"))?;
    let shut = since.operations(w)?;
    let since = Watch::begin(w)?;
    w.sh("echo two > open/f")?;
    let open = since.operations(w)?;
    w.sh("chmod 700 shut")?;
    none(w, &w.mnt, ANA, &shut)?;
    let (_, text) = said(w, ANA, "logctl log --ops --json")?;
    check!(!text.contains("shut/"), "{text}");
    for one in &shut {
        check!(
            !text.contains(&format!("\"op\":{},", one.seq)),
            "op {}: {text}",
            one.seq
        );
    }
    // A second name that can be reached is enough.
    w.sh("ln shut/in/f open/second; chmod 700 shut")?;
    all(w, &w.mnt, ANA, &open)?;
    let writes: Vec<Placed> = shut
        .into_iter()
        .filter(|one| one.line.op == "write")
        .collect();
    all(w, &w.mnt, ANA, &writes)?;
    // Permissions that are revoked outside LoggerFS take effect, too.
    if let Ok(below) = w.below("open") {
        let since = Watch::begin(w)?;
        w.sh("echo three > open/f")?;
        let open = since.operations(w)?;
        w.sh(&format!("rm open/second; chmod 700 {}", below.display()))?;
        none(w, &w.mnt, ANA, &open)?;
    }
    Ok(())
}

/// A removed object is reached by its former directory.
fn removed(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p inside/d outside/d; for d in inside outside; do echo x > $d/f; echo y > $d/d/g; done; chmod -R 777 inside outside; chown -R 2000:2000 inside outside")?;
    let since = Watch::begin(w)?;
    w.sh("echo two > outside/f; rm outside/f; rm -r outside/d")?;
    let outside = since.operations(w)?;
    let since = Watch::begin(w)?;
    w.sh("rm inside/f; rm -r inside/d")?;
    let inside = since.operations(w)?;
    let bound = Bound::new(w, "inside")?;
    for uid in [0, ANA] {
        none(w, &bound.0, uid, &outside)?;
    }
    let error = by_ioctl(w, &bound.0, ANA, &inside, 0)?;
    same("all of its own", error, None)?;
    w.same("back", "inside/d/g", b"y\n")?;
    w.same("back", "inside/f", b"x\n")?;
    // A rename that led out of the mount does not lead back in.
    let since = Watch::begin(w)?;
    w.sh("mv inside/f outside/f")?;
    let moved = since.operations(w)?;
    for uid in [0, ANA] {
        none(w, &bound.0, uid, &moved)?;
    }
    let (code, text) = said(w, ANA, &format!("logctl {} revert", bound.0.display()))?;
    check!(code != "0", "moved back: {text}");
    w.same("where it was moved", "outside/f", b"x\n")?;
    // The content that a file had inside does not count outside.
    let since = Watch::begin(w)?;
    w.sh("echo a > inside/k; echo b > inside/k; mv inside/k outside/k")?;
    let mut old = since.operations(w)?;
    old.retain(|one| one.line.op == "write" || one.line.op == "truncate");
    none(w, &bound.0, 0, &old)
}

/// Capabilities in a user namespace of the caller's own do not count.
fn in_namespace(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -m 777 d; echo secret > d/f; chmod 644 d/f; echo mine > d/g; chown 2000:2000 d/g")?;
    w.sh("echo x > d/f; echo x > d/g; rm d/f")?;
    let inside = "unshare --user --map-root-user --mount bash -uc \"logctl log --ops --json; \
        logctl undo -20; logctl revert --by bash --partial; ls d\"";
    let (_, text) = said(w, ANA, inside)?;
    check!(!w.path("d/f").exists(), "root's file came back: {text}");
    check!(text.contains("d/g"), "not even the own file: {text}");
    check!(!text.contains("\"path\":\"d/f\""), "root's lines: {text}");
    Ok(())
}

/// Objects that no name in memory leads to.
fn remounted(w: &mut Fixture) -> Outcome {
    w.sh("mkdir inside outside; chmod 777 inside outside; echo x > inside/f; echo x > outside/f; chown 2000:2000 */f; ln outside/f outside/second")?;
    let since = Watch::begin(w)?;
    w.sh("echo two > inside/f; echo two > outside/f; chmod 600 inside/f outside/f; touch inside/k; chown 2000:2000 inside/k; mv inside/k inside/l; echo l > inside/l")?;
    let operations = since.operations(w)?;
    w.remount_if_lasting()?;
    if !w.path("inside").exists() {
        return Ok(());
    }
    w.sh("sync; echo 3 > /proc/sys/vm/drop_caches")?;
    let (_, text) = said(w, ANA, "logctl log --ops --json")?;
    check!(
        text.contains("inside/f") && text.contains("outside/f"),
        "{text}"
    );
    let inode = w.sh("stat -c %i outside/f")?;
    let outside: Vec<Placed> = operations
        .iter()
        .filter(|one| one.line.text.contains(&format!(" obj={}.", inode.trim())))
        .cloned()
        .collect();
    check!(!outside.is_empty(), "no lines of outside/f");
    let inode = w.sh("stat -c %i inside/l")?;
    let inside: Vec<Placed> = operations
        .iter()
        .filter(|one| one.line.op == "write")
        .filter(|one| one.line.text.contains(&format!(" obj={}.", inode.trim())))
        .cloned()
        .collect();
    w.sh("sync; echo 3 > /proc/sys/vm/drop_caches")?;
    let bound = Bound::new(w, "inside")?;
    none(w, &bound.0, 0, &outside)?;
    none(w, &bound.0, ANA, &outside)?;
    w.sh("sync; echo 3 > /proc/sys/vm/drop_caches")?;
    all(w, &bound.0, ANA, &inside)?;
    all(w, &w.mnt, ANA, &outside)?;
    w.same("inside", "inside/f", b"two\n")
}
