// SPDX-License-Identifier: GPL-2.0

//! `logctl mount-past`: the mount as it was at a point, compared with copies that were made then.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::verbs::{done, logctl};
use crate::faults::tree::Tree;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts;
use crate::outcome::{check, fail, same, At, Outcome};

pub const TESTS: &[Test] = &[
    Test::new("past-mount-tree", tree).seconds(180),
    Test::new("past-mount-holes", holes),
    Test::new("past-mount-while-changing", while_changing),
    Test::new("past-mount-of-a-user", of_a_user),
    Test::new("past-mount-for-others", for_others),
    Test::new("past-mount-refused", refused),
    Test::new("past-mount-ends", ends),
    Test::new("past-mount-detached", detached),
    Test::new("past-mount-grep", grep),
    Test::new("past-mount-moving", moving).seconds(180),
    Test::new("past-mount-moving-fresh", moving_fresh),
    Test::new("past-mount-moving-detached", moving_detached),
    Test::new("past-mount-dropped", dropped).seconds(120),
];

/// A shell line that waits until no process serves the view at a directory.
fn wait(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "(for i in $(seq 200); do pgrep -f '[-]-detached.*{dir}' >/dev/null || exit 0; sleep 0.05; done
        echo 'it still runs'; exit 1)"
    )
}

/// A mounted view.
struct View(PathBuf);

impl View {
    fn of(w: &Fixture, point: impl std::fmt::Display) -> Outcome<View> {
        let dir = w.beside()?.join("past");
        fs::create_dir_all(&dir)?;
        done(w, &format!("mount-past '{point}' {}", dir.display()))?;
        Ok(View(dir))
    }

    /// Unmounts it, and waits for the end of the process.
    fn end(self) -> Outcome {
        mounts::run_in(Path::new("/"), &["umount", &self.0.to_string_lossy()])?;
        sh(&wait(&self.0)).map(drop)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = sh(&format!("umount -l {} 2>&1 || true", self.0.display()));
    }
}

/// A shell line, run outside of the mount.
fn sh(line: &str) -> Outcome<String> {
    mounts::run_in(Path::new("/"), &["bash", "-euc", line])
}

/// The number of the mount's last line.
fn point(w: &Fixture) -> Outcome<u64> {
    Ok(crate::past_read::now(&fs::File::open(&w.mnt)?)?.0)
}

/// A copy of the mount, beside it.
fn copy(w: &Fixture, name: &str) -> Outcome<PathBuf> {
    let to = w.beside()?.join(name);
    w.sh(&format!("cp -a . {}", to.display()))?;
    Ok(to)
}

/// The modification times of all files and directories, in nanoseconds.
fn times(root: &Path) -> Outcome<BTreeMap<PathBuf, i128>> {
    let mut found = BTreeMap::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(root.join(&dir)).at("listing")? {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            let meta = entry.metadata()?;
            let time = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            if meta.is_dir() {
                stack.push(path.clone());
            }
            found.insert(path, time);
        }
    }
    Ok(found)
}

/// Compares the view with a copy: names, kinds, contents, attributes, and times within a second.
fn compare(what: &str, view: &Path, copy: &Path) -> Outcome {
    compare_all_but_times(what, view, copy)?;
    let (found, want) = (times(view)?, times(copy)?);
    for (path, want) in &want {
        let found = found[path];
        let apart = (found - want).abs();
        check!(
            apart < 1_000_000_000,
            "{what}: {} was modified at {found}, not {want}",
            path.display()
        );
    }
    Ok(())
}

fn compare_all_but_times(what: &str, view: &Path, copy: &Path) -> Outcome {
    if let Some(difference) = Tree::of(view)?.difference(&Tree::of(copy)?) {
        fail!("{what}: {difference}");
    }
    let (view_path, copy_path) = (view.display(), copy.display());
    sh(&format!(
        "diff -r --no-dereference --exclude=pipe {view_path} {copy_path}"
    ))
    .at(what)?;
    Ok(())
}

const TREE: &str = "mkdir -p d/e/f empty gone/deep/er moving/in
    echo one > d/one; echo two > d/two; echo three > d/three; printf x > d/e/f/inner
    head -c 300000 /dev/urandom > big; echo in > gone/deep/er/file; echo m > moving/in/m
    ln -s d/e link; ln -s nowhere dangling; ln -s ../two gone/deep/to; ln d/one hard; ln d/one gone/hard
    setfattr -n user.a -v old d/two; setfattr -n user.dir -v old d/e
    chmod 4750 d/three; chown 1000:1001 d/three; chmod 1777 empty; mkfifo pipe
    setfacl -m u:1000:r d/two || true; setfacl -d -m g:1001:rx d || true";

const DAMAGE: [&str; 3] = [
    // Of all kinds.
    "echo changed >> d/one; truncate -s 1 d/two; mv d/e/f moved; rm -rf gone; chmod 600 d/three
    chown 5:6 big; printf new | dd of=big bs=1 seek=100000 conv=notrunc status=none
    setfattr -n user.a -v new d/two; setfattr -x user.dir d/e; setfacl -b d/two; rm hard; ln d/two other
    echo replaced > new; mv new d/three; rm link; ln -s elsewhere link; mv moving empty/moving; rm pipe
    mkdir gone; echo another > gone/hard",
    // Also some that is undone.
    "rm -rf d/e; mkdir d/e; echo in > d/e/f; logctl undo; mv empty full; echo more > full/moving/in/more; rm big
    logctl undo; logctl redo; mv moved/inner full/inner; rmdir moved; touch -d 2001-01-01 d/one",
    // Nothing stays.
    "rm -rf *; mkdir d; echo end > d/one",
];

/// Several points of a tree that was damaged in many ways, from the present one to the first.
fn tree(w: &mut Fixture) -> Outcome {
    w.sh(TREE)?;
    let mut points = vec![(point(w)?, copy(w, "copy0")?)];
    for (index, damage) in DAMAGE.iter().enumerate() {
        // Times before and after it differ.
        w.sh(&format!("sleep 1.5; {damage}"))?;
        points.push((point(w)?, copy(w, &format!("copy{}", index + 1))?));
    }
    for (point, copy) in points.iter().rev() {
        let view = View::of(w, point)?;
        compare(&format!("as of {point}"), &view.0, copy)?;
        view.end()?;
    }
    // Programs see the same in the view as in the copy.
    let (first, copy) = &points[0];
    let view = View::of(w, first)?;
    let (past, copy) = (view.0.display(), copy.display());
    sh(&format!(
        "cd {past}; test \"$(grep -rl . d | sort)\" = \"$(cd {copy}; grep -rl . d | sort)\"
        rsync -aHAX --filter='-x trusted.SGI_ACL_*' --checksum --delete --dry-run --itemize-changes {past}/ {copy}/ >/tmp/itemized
        grep -v '^[.].[.][.]t[.]* ' /tmp/itemized && exit 1
        cp -a {past} {copy}-again; diff -r --no-dereference --exclude=pipe {copy} {copy}-again
        test $(stat -c %h d/one) = 3; test $(stat -c %i d/one) = $(stat -c %i hard)
        if touch new 2>/dev/null || rm d/one 2>/dev/null; then exit 9; fi"
    ))?;
    view.end()
}

/// Holes stay holes, and are copied as such.
fn holes(w: &mut Fixture) -> Outcome {
    w.sh("truncate -s 8M f; printf x | dd of=f bs=1 seek=4000000 conv=notrunc status=none; printf 1 > small")?;
    let before = point(w)?;
    w.sh("dd if=/dev/urandom of=f bs=1M count=8 conv=notrunc status=none; truncate -s 100 small")?;
    let view = View::of(w, before)?;
    let past = view.0.display();
    let beside = w.beside()?;
    sh(&format!(
        "cd {}; rm -f f; cp -a {past}/f f; cmp f {past}/f; test $(stat -c %s f) = $((8<<20))
        test $(stat -c %b f) -lt 4000 || {{ stat f; exit 1; }}; test $(stat -c %s {past}/small) = 1; rm f",
        beside.display()
    ))?;
    view.end()
}

/// The view stays as it was while the mount changes.
fn while_changing(w: &mut Fixture) -> Outcome {
    w.sh(TREE)?;
    if let Some(src) = w.src.clone() {
        // No line is about any file.
        w.unmount()?;
        fs::remove_dir_all(src.join(".loggerfs"))?;
        w.mount()?;
        w.sh("touch line")?;
    }
    let copy = copy(w, "copy")?;
    let view = View::of(w, point(w)?)?;
    // Some names are looked up before, others only later.
    sh(&format!(
        "ls {0} {0}/d >/dev/null; cat {0}/d/two >/dev/null",
        view.0.display()
    ))?;
    for (index, damage) in DAMAGE.iter().enumerate() {
        w.sh(damage)?;
        // No line has the time of a directory before its first change.
        compare_all_but_times(&format!("after the damage {index}"), &view.0, &copy)?;
    }
    view.end()
}

/// A user who is not root (nobody: fusermount3 asks for a name) sees what is theirs, and no content of others that they cannot read now.
fn of_a_user(w: &mut Fixture) -> Outcome {
    w.sh("mkdir home shared; chown 65534:65534 home; chmod 755 . home shared; umask 022
        echo secret > shared/secret; chmod 600 shared/secret; echo public > shared/public; mkdir past
        rmdir past")?;
    let user = |line: &str| {
        w.sh(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups -- bash -euc \"{line}\""
        ))
    };
    user("cd home; echo one > mine; mkdir sub; echo two > sub/two; sleep 0.1")?;
    let before = point(w)?;
    user("cd home; echo more >> mine; rm -r sub")?;
    w.sh("echo opened >> shared/secret; chmod 644 shared/secret")?;
    let dir = w.beside()?.join("past");
    fs::create_dir_all(&dir)?;
    // As udev sets it.
    sh(&format!(
        "chown 65534:65534 {}; chmod 666 /dev/fuse",
        dir.display()
    ))?;
    let past = dir.display();
    let view = View(dir.clone());
    user(&format!(
        "chmod 700 {past} 2>/dev/null || true; logctl mount-past {before} {past}"
    ))?;
    let said = user(&format!(
        "cat {past}/home/mine {past}/home/sub/two; ls {past}/shared"
    ))?;
    same(
        "what is theirs",
        said.as_str(),
        "one\ntwo\npublic\nsecret\n",
    )?;
    user(&format!("! cat {past}/shared/secret 2>/dev/null"))?;
    // Not even root sees another user's view.
    sh(&format!("! ls {past} 2>/dev/null"))?;
    user(&format!(
        "! logctl mount-past --allow-other {before} {past}"
    ))?;
    user(&format!("fusermount3 -u {past}"))?;
    sh(&wait(&view.0)).map(drop)
}

/// With `--allow-other` others have the rights that they had.
fn for_others(w: &mut Fixture) -> Outcome {
    w.sh("chmod 755 .; umask 022; echo open > open; echo closed > closed; chmod 600 closed
        mkdir dir; echo in > dir/in; chmod 700 dir; echo acl > acl; chmod 640 acl; setfacl -m u:1000:r acl")?;
    let before = point(w)?;
    w.sh("chmod 600 open; chmod 644 closed; chmod 755 dir; setfacl -b acl; chmod 600 acl")?;
    let dir = w.beside()?.join("past");
    fs::create_dir_all(&dir)?;
    let past = dir.display();
    done(w, &format!("mount-past --allow-other {before} {past}"))?;
    let view = View(dir.clone());
    let said = sh(&format!(
        "setpriv --reuid 1000 --regid 1000 --clear-groups -- bash -c 'cd {past}; cat open acl closed dir/in' 2>&1 || true"
    ))?;
    check!(said.starts_with("open\nacl\n"), "{said}");
    same("refused", said.matches("Permission denied").count(), 2)?;
    view.end()
}

/// What cannot be mounted is refused with a reason, and nothing is mounted.
fn refused(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; mkdir inside")?;
    let beside = w.beside()?;
    fs::create_dir_all(beside.join("full/x"))?;
    fs::create_dir_all(beside.join("empty"))?;
    fs::write(beside.join("file"), "")?;
    let beside = beside.display();
    for (words, code, part) in [
        ("@ inside".to_owned(), 1, "inside the mount"),
        (format!("@ {beside}/full"), 1, "not empty"),
        (format!("@ {beside}/none"), 1, "does not exist"),
        (format!("@ {beside}/file"), 1, "not a directory"),
        (format!("999999 {beside}/empty"), 2, "still to come"),
        (format!("@~99 {beside}/empty"), 2, "does not go back"),
        (format!("nonsense {beside}/empty"), 2, "is no point"),
        (
            format!("-m /proc @ {beside}/empty"),
            10,
            "not on a LoggerFS mount",
        ),
    ] {
        for place in ["", "--foreground "] {
            let (got, said, complaint) = logctl(w, &format!("mount-past {place}{words}"))?;
            same(format!("{words}: {said}{complaint}"), got, code)?;
            check!(complaint.contains(part), "{words}: {complaint}");
        }
    }
    // No FUSE: its device is hidden.
    let line = format!("unshare -m bash -c 'mount -t tmpfs none /dev; logctl -m {} mount-past @ {beside}/empty' 2>&1 || true", w.mnt.display());
    let said = sh(&line)?;
    check!(said.contains("modprobe fuse"), "{said}");
    sh(&format!("! mountpoint -q {beside}/empty"))?;
    let said = done(w, &format!("--json mount-past @ {beside}/empty"))?;
    let view = View(PathBuf::from(format!("{beside}/empty")));
    check!(
        said.contains("\"type\":\"mount-past\"")
            && said.contains("\"moving\":true")
            && said.contains("/empty\""),
        "{said}"
    );
    // Its process keeps the mount busy until it has ended.
    view.end()
}

/// It ends with umount, and with signals; a busy view is unmounted lazily.
fn ends(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f")?;
    View::of(w, "@")?.end()?;
    let fixed = point(w)?.to_string();
    View::of(w, &fixed)?.end()?;
    for (signal, is_busy, point) in [
        ("TERM", false, "@"),
        ("INT", false, &fixed),
        ("TERM", true, &fixed),
        ("TERM", true, "@"),
    ] {
        let view = View::of(w, point)?;
        let past = view.0.display();
        let hold = if is_busy {
            format!("cd {past}; exec 3<f; ")
        } else {
            String::new()
        };
        sh(&format!(
            "{hold}pkill -{signal} -f '[-]-detached.*{past}'; {}
            ! mountpoint -q {past}",
            wait(&view.0)
        ))
        .at(format!("{signal}, {point}, busy: {is_busy}"))?;
    }
    // In the foreground.
    let dir = w.beside()?.join("past");
    let line = format!("logctl mount-past --foreground @ {0} & wait=$!; for i in $(seq 100); do mountpoint -q {0} && break; sleep 0.05; done
        cat {0}/f; kill -INT $wait; wait $wait", dir.display());
    let said = w.sh(&line)?;
    check!(said.contains("Mounted") && said.contains("one\n"), "{said}");
    // Nothing holds the mount any more.
    w.unmount()?;
    w.mount()
}

/// The mount that is shown goes away: nothing hangs.
fn detached(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; echo two > g; echo three > h")?;
    let before = point(w)?;
    w.sh("echo more >> f; echo more >> g; rm h")?;
    let view = View::of(w, before)?;
    let past = view.0.display().to_string();
    same("before", sh(&format!("cat {past}/f"))?.as_str(), "one\n")?;
    let mnt = w.mnt.display().to_string();
    // The view holds the mount, as any program with an open file does.
    sh(&format!("! umount {mnt} 2>/dev/null"))?;
    if sh(&format!("mount -o remount,history=off {mnt}")).is_ok() {
        let said = sh(&format!("timeout 20 cat {past}/g 2>&1 || true"))?;
        check!(said.contains("Input/output error"), "history=off: {said}");
        sh(&format!("mount -o remount,history=on {mnt}"))?;
    }
    sh(&format!("umount -l {mnt}"))?;
    w.forget_mount();
    let said = sh(&format!("timeout 20 cat {past}/h 2>&1 || true"))?;
    check!(
        said == "three\n" || said.contains("Input/output error"),
        "after umount -l: {said}"
    );
    sh(&format!(
        "timeout 20 ls -lR {past} >/dev/null 2>&1 || test $? != 124"
    ))?;
    view.end()?;
    w.mount()
}

/// The same lines are found in all files, again and again, also when the kernel kept nothing.
fn grep(w: &mut Fixture) -> Outcome {
    w.sh("mkdir d; for i in $(seq 200); do echo \"line $i\" > d/$i; done; head -c 400000 /dev/zero | tr '\\0' x > d/long
        printf '\\nline of the end\\n' >> d/long; : > d/empty")?;
    let (before, copy) = (point(w)?, copy(w, "copy")?);
    let view = View::of(w, before)?;
    w.sh("for i in $(seq 1 2 200); do echo \"changed line\" > d/$i; done; rm d/long; echo line > d/empty")?;
    let find = |dir: &Path| sh(&format!("cd {}; grep -r line . | sort", dir.display()));
    let want = find(&copy)?;
    for round in ["first", "second"] {
        same(format!("the {round} time"), find(&view.0)?, want.clone())?;
    }
    sh("echo 3 > /proc/sys/vm/drop_caches")?;
    same("without what the kernel kept", find(&view.0)?, want)?;
    // A file that is read on while others are opened.
    let past = view.0.display();
    sh(&format!(
        "exec 3<{past}/d/long; head -c 10 <&3 >/dev/null; cat {past}/d/* >/dev/null
        exec 4<{past}/d/long; cmp - {copy}/d/long <&4; cat <&3 | cmp - <(tail -c +{at} {copy}/d/long)",
        copy = copy.display(),
        // `head` may read further than it prints, but not from a file.
        at = 11,
    ))?;
    view.end()
}

/// The view of `@` is the mount, after each change.
fn moving(w: &mut Fixture) -> Outcome {
    w.sh(TREE)?;
    let (before, copy) = (point(w)?, copy(w, "copy")?);
    let view = View::of(w, "@")?;
    let mnt = w.mnt.clone();
    compare("at first", &view.0, &mnt)?;
    for (index, damage) in DAMAGE.iter().enumerate() {
        w.sh(damage)?;
        compare(&format!("after the damage {index}"), &view.0, &mnt)?;
    }
    w.sh("mkdir -p many; for i in $(seq 150); do : > many/a-rather-long-name-$i; done")?;
    compare("a large directory", &view.0, &mnt)?;
    let past = view.0.display();
    sh(&format!(
        "cd {past}; if touch new 2>/dev/null || rm -r many 2>/dev/null; then exit 9; fi"
    ))?;
    view.end()?;
    // An operation's number stays where it is.
    let view = View::of(w, before)?;
    compare_all_but_times("as of the number", &view.0, &copy)?;
    view.end()
}

/// Nothing that was read before is shown again after a change.
fn moving_fresh(w: &mut Fixture) -> Outcome {
    w.sh("mkdir -p a/b; echo one > f; echo in > a/b/f; echo gone > gone; ln -s f link; setfattr -n user.a -v 1 f")?;
    let view = View::of(w, "@")?;
    let (past, mnt) = (view.0.display(), w.mnt.display());
    sh(&format!(
        "set -x
        test \"$(cat {past}/f)\" = one; test ! -e {past}/new; test -e {past}/gone
        # As long, with the same time, in place.
        touch -r {mnt}/f /tmp/time; printf two | dd of={mnt}/f conv=notrunc status=none; touch -r /tmp/time {mnt}/f
        test \"$(cat {past}/f)\" = two
        # Through a file that stays open.
        exec 3<{past}/f; cat <&3 >/dev/null; echo more >> {mnt}/f; test \"$(cat <&3)\" = more
        test $(stat -L -c %s /proc/self/fd/3) = 9
        test $(stat -c %s {past}/f) = 9
        rm {mnt}/f; test ! -e {past}/f; test $(stat -L -c %s /proc/self/fd/3) = 9
        # Names.
        echo new > {mnt}/new; test \"$(cat {past}/new)\" = new; rm {mnt}/gone; test ! -e {past}/gone
        rm {mnt}/link; ln -s new {mnt}/link; test $(readlink {past}/link) = new
        # Attributes.
        chmod 600 {mnt}/new; test $(stat -c %a {past}/new) = 600
        setfattr -n user.a -v 2 {mnt}/new; test \"$(getfattr --only-values -n user.a {past}/new)\" = 2
        setfattr -n user.a -v 3 {mnt}/new; test \"$(getfattr --only-values -n user.a {past}/new)\" = 3
        # A directory in which a process works is moved.
        cd {past}/a/b; mv {mnt}/a {mnt}/c; test \"$(cat f)\" = in; test \"$(ls)\" = f; test ! -e {past}/a
        # A replaced file, and one made under the same name.
        echo other > {mnt}/tmp; mv {mnt}/tmp {mnt}/new; test \"$(cat {past}/new)\" = other
        mkdir {mnt}/kind; test -d {past}/kind; rmdir {mnt}/kind; echo x > {mnt}/kind; test \"$(cat {past}/kind)\" = x
        # Also for programs that map files.
        python3 -c 'import mmap,sys; f=open(sys.argv[1],\"rb\"); print(mmap.mmap(f.fileno(),0,mmap.MAP_PRIVATE)[:5])' {past}/new | grep other"
    ))?;
    view.end()
}

/// The mount that is shown goes away: errors, and no hanging.
fn moving_detached(w: &mut Fixture) -> Outcome {
    w.sh("echo one > f; mkdir d; echo two > d/g")?;
    let view = View::of(w, "@")?;
    let past = view.0.display().to_string();
    let mnt = w.mnt.display().to_string();
    same("before", sh(&format!("cat {past}/f"))?.as_str(), "one\n")?;
    sh(&format!("! umount {mnt} 2>/dev/null"))?;
    // Through a file that is open, too.
    let said = sh(&format!(
        "exec 3<{past}/f; umount -l {mnt}; timeout 20 cat <&3 2>&1 || true; timeout 20 cat {past}/d/g 2>&1 || true
        timeout 20 ls -lR {past} 2>&1 || true"
    ));
    w.forget_mount();
    let said = said?;
    same(
        format!("errors: {said}"),
        said.matches("Input/output error").count() >= 3,
        true,
    )?;
    check!(!said.contains("one") && !said.contains("two"), "{said}");
    view.end()?;
    w.mount()
}

/// History that was dropped: a point before it is refused, and what is lost later is an error.
fn dropped(w: &mut Fixture) -> Outcome {
    w.remount_with("history_max=16M")?;
    w.sh("echo one > f; echo two > g")?;
    let before = point(w)?;
    w.sh("echo changed > f")?;
    let view = View::of(w, before)?;
    let past = view.0.display().to_string();
    same("before", sh(&format!("cat {past}/f"))?.as_str(), "one\n")?;
    w.sh("for i in $(seq 40); do head -c 1048576 /dev/urandom > big; done; echo changed > g")?;
    let said = sh(&format!("timeout 60 cat {past}/g 2>&1 || true"))?;
    check!(said.contains("Input/output error"), "dropped: {said}");
    view.end()?;
    let dir = w.beside()?.join("past");
    let (code, said, complaint) = logctl(w, &format!("mount-past {before} {}", dir.display()))?;
    same(format!("{said}{complaint}"), code, 1)?;
    check!(complaint.contains("older than the history"), "{complaint}");
    Ok(())
}
