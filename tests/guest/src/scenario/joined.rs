// SPDX-License-Identifier: GPL-2.0

//! More than one mount of a source: they share one tree and one history.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, Lower};
use crate::outcome::{check, fail, same, Outcome};
use crate::undo;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4];

pub const TESTS: &[Test] = &[
    Test::new("joined-mounts", joined_mounts)
        .only(BELOW)
        .unmounted(),
    Test::new("joined-in-place", in_place)
        .only(BELOW)
        .unmounted(),
    Test::new("joined-refusals", refusals)
        .only(BELOW)
        .unmounted(),
    Test::new("joined-at-once", at_once).only(BELOW).unmounted(),
    Test::new("private-not-joined", private)
        .only(&[Lower::Private])
        .unmounted(),
];

/// A further mount point.
fn place(w: &Fixture, name: &str) -> Outcome<PathBuf> {
    let at = w.base.join(name);
    fs::create_dir_all(&at)?;
    Ok(at)
}

fn mount(w: &Fixture, at: &Path, options: &str) -> Outcome {
    match mounts::mount(&w.source(), at, options) {
        Ok(()) => Ok(()),
        Err(refusal) => fail!("mounting: {} {:?}", refusal.error, refusal.said),
    }
}

fn joined_mounts(w: &mut Fixture) -> Outcome {
    w.mount()?;
    fs::write(w.path("f"), "one")?;
    let second = place(w, "second")?;
    mount(w, &second, "")?;
    same("seen", fs::read(second.join("f"))?, b"one".to_vec())?;
    fs::write(second.join("f"), "two, longer")?;
    same("seen", fs::read(w.path("f"))?, b"two, longer".to_vec())?;
    fs::write(second.join("g"), "new")?;
    // Both are one filesystem: a file has one number, and an undo by either takes both's work back.
    w.revert("f", 1)?;
    same("by the first", fs::read(second.join("f"))?.len(), 0)?;
    // The first mount goes, the second one keeps the history.
    w.unmount()?;
    fs::write(second.join("f"), "three")?;
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(second.join("f"))?;
    undo::revert(&file, 1)?;
    same("by the second", fs::read(second.join("f"))?.len(), 0)?;
    drop(file);
    mounts::unmount(&second)?;
    w.mount()?;
    same("after all", fs::read(w.path("g"))?, b"new".to_vec())?;
    w.revert("g", 1)?;
    same("taken back", fs::read(w.path("g"))?.len(), 0)
}

/// The mount on it hides the source: a mount of that path joins the first one.
fn in_place(w: &mut Fixture) -> Outcome {
    let src = w.base.join("src");
    mount(w, &src, "")?;
    let second = place(w, "second")?;
    mount(w, &second, "")?;
    fs::write(second.join("f"), "content")?;
    same("seen", fs::read(src.join("f"))?, b"content".to_vec())?;
    // A directory of the tree is no source: undo of undo is not stacked.
    fs::create_dir(src.join("d"))?;
    let third = place(w, "third")?;
    match mounts::mount(&src.join("d").display().to_string(), &third, "") {
        Ok(()) => fail!("a directory of the mount was stacked on"),
        Err(refusal) => same("errno", refusal.error.raw_os_error(), Some(libc::EINVAL))?,
    }
    mounts::unmount(&second)?;
    mounts::unmount(&src)
}

fn refusals(w: &mut Fixture) -> Outcome {
    w.mount_with("commit=5,on_full=deny")?;
    let second = place(w, "second")?;
    for (options, named) in [
        ("commit=6", "commit"),
        ("on_full=trim", "on_full"),
        ("history=off", "history"),
        ("history_max=64M", "history_max"),
        ("ro", "writable"),
    ] {
        match mounts::mount(&w.source(), &second, options) {
            Ok(()) => fail!("joined with {options}"),
            Err(refusal) => {
                same(
                    options,
                    Errno::from_io_error(&refusal.error),
                    Some(Errno::BUSY),
                )?;
                let said = refusal.said.join("; ");
                check!(said.contains(named), "{options}: {said}");
            }
        }
    }
    // The same options are no other options.
    mount(w, &second, "commit=5,on_full=deny,history=on")?;
    mounts::unmount(&second)?;
    fs::write(w.path("f"), "content")?;
    w.revert("f", 1)?;
    same("the first goes on", fs::read(w.path("f"))?.len(), 0)
}

/// Mounts and unmounts of one source by several processes: each mount shows the tree.
fn at_once(w: &mut Fixture) -> Outcome {
    w.mount()?;
    fs::write(w.path("f"), "content")?;
    w.unmount()?;
    let source = w.source();
    let places: Vec<PathBuf> = (0..3)
        .map(|n| place(w, &format!("place{n}")))
        .collect::<Outcome<_>>()?;
    let rounds = w.times(40, 15);
    let bad: Vec<String> = thread::scope(|scope| {
        let workers = places.iter().map(|at| {
            let source = &source;
            scope.spawn(move || {
                for round in 0..rounds {
                    if let Err(refusal) = mounts::mount(source, at, "") {
                        return Some(format!("{round}: {} {:?}", refusal.error, refusal.said));
                    }
                    let seen = fs::read(at.join("f"));
                    let gone = mounts::unmount(at);
                    if seen.as_deref().ok() != Some(b"content") || gone.is_err() {
                        return Some(format!("{round}: {seen:?} {:?}", gone.is_err()));
                    }
                }
                None
            })
        });
        let workers: Vec<_> = workers.collect();
        workers
            .into_iter()
            .filter_map(|w| w.join().ok().flatten())
            .collect()
    });
    check!(bad.is_empty(), "{bad:?}");
    w.mount()?;
    w.revert("f", 1)?;
    same("taken back", fs::read(w.path("f"))?.len(), 0)
}

fn private(w: &mut Fixture) -> Outcome {
    w.mount()?;
    fs::write(w.path("f"), "content")?;
    let second = place(w, "second")?;
    mount(w, &second, "")?;
    check!(
        !second.join("f").exists(),
        "two private mounts share a tree"
    );
    mounts::unmount(&second)
}
