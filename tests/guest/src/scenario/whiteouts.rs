// SPDX-License-Identifier: GPL-2.0

//! Renames that leave a whiteout, and overlayfs with its upper layer on LoggerFS.

use std::fs;
use std::path::Path;

use rustix::fs::{RenameFlags, CWD};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{run_in, Lower};
use crate::outcome::{check, same, At, Outcome};
use crate::transcript::{compare, same_trees, Transcript};
use crate::undo;

const WITH_WHITEOUT: &[Lower] = &[
    Lower::Private,
    Lower::Tmpfs,
    Lower::Ext4,
    Lower::Xfs,
    Lower::Btrfs,
];

pub const TESTS: &[Test] = &[
    Test::new("whiteout-as-raw", |w| compare(w, renames)).only(WITH_WHITEOUT),
    Test::new("whiteout-undone", undone).only(WITH_WHITEOUT),
    Test::new("overlay-upper", overlay).only(&[Lower::Private, Lower::Ext4, Lower::Xfs]),
];

fn rename(dir: &Path, from: &str, to: &str, flags: RenameFlags) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, dir.join(from), CWD, dir.join(to), flags)
}

/// Files and directories that the renames of both tests use.
fn fill(dir: &Path) -> Outcome {
    fs::create_dir_all(dir.join("d/full"))?;
    fs::create_dir(dir.join("empty"))?;
    fs::create_dir(dir.join("other"))?;
    fs::write(dir.join("d/full/x"), "x")?;
    for name in ["a", "b", "c", "d/e"] {
        fs::write(dir.join(name), format!("content of {name}"))?;
    }
    Ok(())
}

/// From, to, and renameat2()'s flags beside WHITEOUT.
const RENAMES: &[(&str, &str)] = &[
    ("a", "new"),
    ("b", "c"),
    ("d/e", "other/e"),
    ("d", "empty"),
    ("empty", "other"),
    ("none", "x"),
];

fn renames(t: &mut Transcript) -> Outcome {
    fill(&t.dir)?;
    for (from, to) in RENAMES {
        let answer = rename(&t.dir, from, to, RenameFlags::WHITEOUT);
        t.call(&format!("rename {from} {to}"), answer);
        t.stat("old", from);
        t.stat("new", to);
    }
    let both = RenameFlags::WHITEOUT | RenameFlags::EXCHANGE;
    t.call("with EXCHANGE", rename(&t.dir, "new", "c", both));
    let keep = RenameFlags::WHITEOUT | RenameFlags::NOREPLACE;
    t.call("with NOREPLACE", rename(&t.dir, "new", "c", keep));
    // The whiteout is a device like another: it can be opened by path, replaced and removed.
    t.call(
        "over a whiteout",
        rename(&t.dir, "new", "a", RenameFlags::empty()),
    );
    t.stat("now", "a");
    t.call("unlink", fs::remove_file(t.path("b")));
    Ok(())
}

/// Every rename is taken back, the whiteout first; nothing is left of it.
fn undone(w: &mut Fixture) -> Outcome {
    fill(&w.mnt)?;
    let before = w.base.join("before");
    fs::create_dir(&before)?;
    run_in(
        &w.mnt,
        &["cp", "-a", "--", ".", &before.display().to_string()],
    )?;
    for (from, to) in RENAMES.iter().filter(|(from, _)| *from != "none") {
        if rename(&w.mnt, from, to, RenameFlags::WHITEOUT).is_err() {
            continue;
        }
        let stat = fs::symlink_metadata(w.path(from))?;
        use std::os::unix::fs::MetadataExt;
        same(*from, stat.mode() & 0o170_000, 0o020_000)?;
        same(*from, stat.rdev(), 0)?;
        // A private tmpfs goes with its mount.
        if w.lower != Lower::Private {
            w.remount().at("remounting")?;
        }
        let parent = Path::new(from).parent().unwrap_or(Path::new(""));
        let dir = fs::File::open(w.mnt.join(parent))?;
        undo::revert(&dir, 2).at(format!("taking {from} back"))?;
        drop(dir);
        same_trees(&before, &w.mnt).at(format!("after {from} came back"))?;
    }
    check!(w.path("a").exists(), "a is lost");
    Ok(())
}

/// The changes of overlayfs to its upper layer are recorded, and can be taken back.
fn overlay(w: &mut Fixture) -> Outcome {
    let mnt = w.mnt.display().to_string();
    let script = "
        mkdir -p low/d up work m; echo low >low/f; echo two >low/g; echo in >low/d/x
        mount -t overlay -o lowerdir=low,upperdir=up,workdir=work o m
        cd m; echo more >>f; rm g; mv d/x d/y; mkdir n; mv n z; rm -r d; echo again >g; ln f hard
        setfattr -n user.a -v b f; sync; cd ..
        (cd m; find . | sort; cat f g hard; getfattr -n user.a --only-values f); umount m
        (cd up; find . ! -type c | sort)";
    let raw = w.beside()?;
    let line = |dir: &str| format!("cd {dir} && {{ {script}; }} 2>&1");
    let want = run_in(&raw, &["bash", "-euc", &line(&raw.display().to_string())])?;
    let got = run_in(&w.mnt, &["bash", "-euc", &line(&mnt)])?;
    same("transcript", got.as_str(), want.as_str())
}
