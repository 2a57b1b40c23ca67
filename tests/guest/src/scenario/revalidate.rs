// SPDX-License-Identifier: GPL-2.0

//! Names that change during lookups: an operation through the mount never invalidates the name that
//! it changes, and a program that works below causes only errors that the lower filesystem alone
//! would give.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{RenameFlags, CWD};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{mounts_below, run};
use crate::outcome::{check, fail, name, At, Outcome};
use crate::undo;

pub const TESTS: &[Test] = &[
    Test::new(
        "revalidate-mount-in-a-renamed-directory",
        mount_in_a_renamed_directory,
    )
    .raw()
    .seconds(120),
    Test::new(
        "revalidate-mount-in-a-reverted-directory",
        mount_in_a_reverted_directory,
    )
    .seconds(120),
    Test::new("revalidate-new-files", new_files)
        .raw()
        .seconds(120),
    Test::new("revalidate-renamed-files", renamed_files)
        .raw()
        .seconds(120),
    Test::new("revalidate-many-changes", many_changes)
        .raw()
        .seconds(120),
    Test::new("revalidate-writer-behind", writer_behind)
        .raw()
        .seconds(240),
    Test::new("revalidate-name-moved-behind", name_moved_behind).raw(),
];

/// Does `work` while threads look at names with `look`, over and over.
fn watched<T>(look: impl Fn() + Sync, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    look();
                }
            });
        }
        let result = work();
        done.store(true, SeqCst);
        result
    })
}

fn look_at(paths: &[PathBuf]) {
    for path in paths {
        // Whether it exists or not, the test looks at it.
        let _ = fs::symlink_metadata(path);
        let _ = File::open(path);
    }
}

/// A rename by a test, with flags.
fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Outcome {
    let what = format!("{} to {}", from.display(), to.display());
    rustix::fs::renameat_with(CWD, from, CWD, to, flags).at(what)
}

/// A directory `d/m` with a tmpfs mounted on it, and a second one `e` beside `d`.
fn with_a_mount(w: &Fixture) -> Outcome {
    for dir in ["d", "d/m", "e", "other"] {
        fs::create_dir(w.path(dir))?;
    }
    let target = w.path("d/m").display().to_string();
    run(&["mount", "-t", "tmpfs", "none", &target])?;
    fs::write(w.path("d/m/file"), b"")?;
    Ok(())
}

fn still_mounted(w: &Fixture, place: &str, when: &str) -> Outcome {
    check!(
        w.path(place).join("m/file").exists(),
        "{when}: the mount in {place} is gone; left: {:?}",
        mounts_below(&w.mnt)
    );
    Ok(())
}

fn names_of_mounts(w: &Fixture) -> Vec<PathBuf> {
    [
        "d",
        "e",
        "other/d",
        "d/m",
        "e/m",
        "other/d/m/file",
        "f",
        "d/m/file",
    ]
    .iter()
    .map(|name| w.path(name))
    .collect()
}

/// The mount goes where its directory goes: by a rename in the directory, to another one, by an
/// exchange with a directory and with a file, and over an empty directory.
fn mount_in_a_renamed_directory(w: &mut Fixture) -> Outcome {
    with_a_mount(w)?;
    fs::write(w.path("f"), b"")?;
    let (d, e, f, other) = (w.path("d"), w.path("e"), w.path("f"), w.path("other/d"));
    let names = names_of_mounts(w);
    let plain = RenameFlags::empty();
    watched(
        || look_at(&names),
        || {
            for round in 0..w.times(200, 100) {
                let when = format!("round {round}");
                rename(&d, &e, RenameFlags::EXCHANGE)?;
                still_mounted(w, "e", &format!("{when}, exchanged"))?;
                rename(&e, &f, RenameFlags::EXCHANGE)?;
                still_mounted(w, "f", &format!("{when}, exchanged with a file"))?;
                rename(&e, &f, RenameFlags::EXCHANGE)?;
                rename(&e, &other, plain)?;
                still_mounted(w, "other/d", &format!("{when}, to another directory"))?;
                rename(&other, &d, plain).or_else(|_| {
                    fs::remove_dir(&d)
                        .at("rmdir")
                        .and_then(|()| rename(&other, &d, plain))
                })?;
                still_mounted(w, "d", &format!("{when}, over an empty one"))?;
                fs::create_dir(&e)?;
            }
            Ok(())
        },
    )?;
    run(&["umount", &w.path("d/m").display().to_string()])?;
    Ok(())
}

/// The same where renames are taken back.
fn mount_in_a_reverted_directory(w: &mut Fixture) -> Outcome {
    with_a_mount(w)?;
    w.undo_from_here()?;
    let names = names_of_mounts(w);
    let root = File::open(&w.mnt)?;
    let back = || undo::revert(&root, 1).at("taking back");
    watched(
        || look_at(&names),
        || {
            for round in 0..w.times(100, 50) {
                rename(&w.path("d"), &w.path("x"), RenameFlags::empty())?;
                back()?;
                still_mounted(w, "d", &format!("round {round}, taken back"))?;
                rename(&w.path("d"), &w.path("e"), RenameFlags::EXCHANGE)?;
                back()?;
                still_mounted(w, "d", &format!("round {round}, an exchange taken back"))?;
                rename(&w.path("d"), &w.path("other/d"), RenameFlags::empty())?;
                back()?;
                still_mounted(w, "d", &format!("round {round}, taken back across"))?;
            }
            Ok(())
        },
    )?;
    run(&["umount", &w.path("d/m").display().to_string()])?;
    Ok(())
}

/// The name of an open file in /proc.
fn name_in_proc(file: &File) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A new file, directory, link or node has its name at once for every observer.
fn new_files(w: &mut Fixture) -> Outcome {
    let current = AtomicUsize::new(0);
    let path = |number: usize| w.path(&format!("n{number}"));
    let count = w.times(3000, 1000);
    watched(
        || look_at(&[path(current.load(SeqCst)), path(current.load(SeqCst) + 1)]),
        || {
            for number in 0..count {
                let path = path(number);
                current.store(number, SeqCst);
                let made = match number % 4 {
                    0 | 1 => File::create_new(&path),
                    2 => fs::create_dir(&path).and_then(|()| File::open(&path)),
                    _ => fs::hard_link(w.path("n0"), &path).and_then(|()| File::open(&path)),
                };
                let name = name_in_proc(&made.at(format!("making number {number}"))?)?;
                check!(name == path, "number {number} is called {}", name.display());
            }
            Ok(())
        },
    )
}

/// An open file is called by its new name after each rename, and is not deleted.
fn renamed_files(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    let names: Vec<PathBuf> = ["a", "b", "d/a", "d/b"].iter().map(|n| w.path(n)).collect();
    let file = File::create_new(&names[0])?;
    watched(
        || look_at(&names),
        || {
            for round in 0..w.times(2000, 700) {
                let (from, to) = (&names[round % 4], &names[(round + 1) % 4]);
                rename(from, to, RenameFlags::empty())?;
                let name = name_in_proc(&file)?;
                check!(name == *to, "round {round}: called {}", name.display());
            }
            Ok(())
        },
    )
}

/// One process changes names while others look them up: none of its calls fails.
fn many_changes(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    let names: Vec<PathBuf> = ["a", "b", "c", "d/a", "d/e"]
        .iter()
        .map(|n| w.path(n))
        .collect();
    let [a, b, c, da, e] = [0, 1, 2, 3, 4].map(|n| names[n].clone());
    watched(
        || look_at(&names),
        || {
            for round in 0..w.times(500, 200) {
                let at = |what: &str| format!("round {round}: {what}");
                fs::write(&a, b"one").at(at("create a"))?;
                fs::hard_link(&a, &b).at(at("link a b"))?;
                fs::rename(&b, &c).at(at("rename b c"))?;
                // Two names of one object: nothing happens.
                fs::rename(&c, &a).at(at("rename c a"))?;
                fs::write(&b, b"two").at(at("create b"))?;
                fs::rename(&b, &a).at(at("rename b over a"))?;
                fs::rename(&a, &da).at(at("rename a d/a"))?;
                rename(&da, &c, RenameFlags::EXCHANGE).at(at("exchange d/a c"))?;
                fs::create_dir(&e).at(at("mkdir d/e"))?;
                fs::create_dir(&a).at(at("mkdir a"))?;
                fs::rename(&a, &e).at(at("rename a over d/e"))?;
                fs::remove_dir(&e).at(at("rmdir d/e"))?;
                std::os::unix::fs::symlink("c", &a).at(at("symlink a"))?;
                fs::read(&a).at(at("read a"))?;
                for name in [&a, &c, &da] {
                    fs::remove_file(name).at(at("unlink"))?;
                }
            }
            Ok(())
        },
    )
}

/// How often each call ended with each errno (0: well).
type Ends = BTreeMap<(&'static str, i32), usize>;

/// Calls on two names, in turn, as long as the time lasts.
fn calls(dir: &Path, until: Instant, ends: &Mutex<Ends>) {
    let [x, y, z] = ["x", "y", "z"].map(|name| dir.join(name));
    let mut counted = Ends::new();
    let mut count = |call: &'static str, result: io::Result<()>| {
        let errno = result
            .err()
            .map_or(0, |error| error.raw_os_error().unwrap_or(-1));
        *counted.entry((call, errno)).or_default() += 1;
    };
    let open = |options: &mut OpenOptions, path: &Path| options.open(path).map(drop);
    while Instant::now() < until {
        count(
            "open O_CREAT",
            open(
                OpenOptions::new().write(true).create(true).truncate(false),
                &x,
            ),
        );
        count("stat", fs::metadata(&x).map(drop));
        count("open", open(OpenOptions::new().read(true), &x));
        count("rename", fs::rename(&x, &y));
        count(
            "open O_CREAT",
            open(OpenOptions::new().append(true).create(true), &x),
        );
        count("rename", fs::rename(&y, &x));
        count(
            "open O_EXCL",
            open(OpenOptions::new().write(true).create_new(true), &x),
        );
        count("link", fs::hard_link(&x, &y));
        count(
            "chmod",
            fs::set_permissions(&x, std::os::unix::fs::PermissionsExt::from_mode(0o600)),
        );
        count("unlink", fs::remove_file(&x));
        count("unlink", fs::remove_file(&y));
        count("mkdir", fs::create_dir(&z));
        count("rmdir", fs::remove_dir(&z));
    }
    let mut all = ends.lock().expect("no thread panics");
    for (end, times) in counted {
        *all.entry(end).or_default() += times;
    }
}

/// Errors that the lower filesystem gives two such programs.
fn is_usual(call: &str, errno: i32) -> bool {
    const EEXIST: i32 = 17;
    const ENOENT: i32 = 2;
    match call {
        "open O_CREAT" => errno == 0,
        "open O_EXCL" | "mkdir" => matches!(errno, 0 | EEXIST),
        "link" => matches!(errno, 0 | EEXIST | ENOENT),
        _ => matches!(errno, 0 | ENOENT),
    }
}

/// Two programs do the same to the same names, one through the mount and one below.
fn writer_behind(w: &mut Fixture) -> Outcome {
    let below = w.below(".")?;
    let until = Instant::now() + Duration::from_secs(w.times(20, 12));
    let (through, behind) = (Mutex::default(), Mutex::default());
    thread::scope(|scope| {
        scope.spawn(|| calls(&below, until, &behind));
        calls(&w.mnt, until, &through);
    });
    let ends: Ends = through.into_inner().expect("no thread panics");
    let total: usize = ends.values().sum();
    // The VFS repeats a lookup once after ESTALE (retry_estale()): a call during which names change below
    // twice fails with that errno, as over overlayfs.
    let is_rare = |errno, times: usize| errno == libc::ESTALE && times <= total / 10_000;
    let unusual: Vec<String> = ends
        .iter()
        .filter(|((call, errno), &times)| !is_usual(call, *errno) && !is_rare(*errno, times))
        .map(|((call, errno), times)| format!("{call}: {} {times} times", name(*errno)))
        .collect();
    if !unusual.is_empty() {
        fail!("{}; of {total} calls", unusual.join(", "));
    }
    Ok(())
}

/// Removals and renames apply to the present object of the name, not to that of the lookup.
fn name_moved_behind(w: &mut Fixture) -> Outcome {
    let below = |name: &str| w.below(name);
    for (number, act) in ["unlink", "rename", "rename over", "exchange"]
        .iter()
        .enumerate()
    {
        let [x, y, t] = ["x", "y", "t"].map(|name| format!("{name}{number}"));
        w.make(&x, b"first")?;
        w.make(&t, b"target")?;
        fs::metadata(w.path(&x))?;
        // Below: x becomes y in the same directory, and another file is called x.
        fs::rename(below(&x)?, below(&y)?)?;
        fs::write(below(&x)?, b"second")?;
        match *act {
            "unlink" => fs::remove_file(w.path(&x)).at(act)?,
            "rename" => fs::rename(w.path(&x), w.path(&format!("n{number}"))).at(act)?,
            "rename over" => fs::rename(w.path(&x), w.path(&t)).at(act)?,
            _ => rename(&w.path(&x), &w.path(&t), RenameFlags::EXCHANGE)?,
        }
        w.same("what was moved away behind", &y, b"first")?;
        match *act {
            "unlink" => crate::outcome::same("x is there", w.path(&x).exists(), false)?,
            "rename" => w.same(act, &format!("n{number}"), b"second")?,
            _ => w.same(act, &t, b"second")?,
        }
    }
    Ok(())
}
