// SPDX-License-Identifier: GPL-2.0

//! The disk below the lower filesystem fails: one request, or all from one on.
//!
//! Unsynced data that the lower filesystem loses would be lost without LoggerFS as well. The
//! filesystem may even go read-only until it is repaired, as after a power cut. A successful sync
//! after the failure must be durable, also when all caches are dropped.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::case::{FaultCase, FILE};
use super::control::{self, Fault, LogFollower};
use super::tree::Tree;
use super::{Scenario, Went};
use crate::fixture::Fixture;
use crate::mounts::{self, Lower};
use crate::outcome::{check, fail, name, At, Outcome};
use crate::undo;

/// Kernel messages of lower filesystems that go read-only or lost their metadata.
const GIVES_UP: &[&str] = &[
    "EXT4-fs error",
    "borting journal",
    "lost async page write",
    "lost sync page write",
    "hut down",
    "forced readonly",
];

/// Everything is on the disk, nothing in memory.
///
/// Without a mount, the first syncfs() may return the failed write of an earlier go: an error of the
/// filesystem is returned to the first descriptor opened after it (errseq_sample()), and none was opened below
/// the mount since. The second one must succeed.
pub fn prepare(case: &FaultCase) -> Outcome {
    let at = if case.w.is_mounted() {
        &case.w.mnt
    } else {
        let _ = rustix::fs::syncfs(File::open(&case.w.base)?);
        &case.w.base
    };
    rustix::fs::syncfs(File::open(at)?).at("syncfs before the failure")?;
    drop_caches()
}

fn drop_caches() -> Outcome {
    fs::write("/proc/sys/vm/drop_caches", "3").at("dropping caches")
}

/// The changes of a scenario reach the disk while the disk fails.
pub fn sync_at_last(case: &mut FaultCase) -> Outcome {
    if !case.w.is_mounted() {
        return Ok(());
    }
    let failed_before = case.failure.is_some();
    case.call("syncfs", |case| {
        Ok(rustix::fs::syncfs(File::open(&case.w.mnt)?)?)
    })?;
    if case.failure.is_none() {
        case.durable = case.steps();
    } else if failed_before {
        // Pending work is written nevertheless.
        let _ = File::open(&case.w.mnt).map(rustix::fs::syncfs);
    }
    Ok(())
}

/// One go: the disk fails while the scenario acts.
pub fn go(case: &mut FaultCase, scenario: &Scenario, fault: &Fault) -> Outcome<Went> {
    prepare(case)?;
    let mut users = inodes(case.w)?;
    let own = fs::metadata(case.w.below(FILE)?)?.ino();
    let watch = case.w.is_mounted().then(|| case.open_again()).transpose()?;
    let kernel = LogFollower::open()?;
    fault.arm()?;
    let mut durable = case.durable;
    let acted = (scenario.act)(case).and_then(|()| {
        durable = case.durable;
        sync_at_last(case)
    });
    let counts = control::counts()?;
    control::command("disarm")?;
    acted?;
    if is_lost_by_syncfs(&counts.trace) {
        case.durable = durable;
    }
    case.file = None;
    let said = kernel.said();
    let gave_up = GIVES_UP.iter().any(|words| said.contains(words)) || !is_writable(case.w);
    check_failure(case, counts.failed, gave_up)?;
    users.extend(inodes(case.w).unwrap_or_default());
    case.torn = gave_up || (fault.hook == "block_write" && users.contains(&counts.inode));
    let whole = if gave_up {
        drop(watch);
        let told = said.contains("that cannot be taken back") || said.contains("cannot be written");
        judge_repaired(case, scenario, told)?
    } else {
        if let Some(watch) = watch.filter(|_| counts.inode == own && fault.hook == "block_write") {
            check!(
                watch.sync_all().is_err(),
                "bytes of the file were lost, and fsync does not say so"
            );
        }
        if said.contains("is incomplete") {
            check!(fault.lasting, "one failure, and a revert is incomplete");
            case.withdraw()?;
        }
        judge(case, scenario)?
    };
    Ok(Went {
        injected: counts.failed,
        whole,
    })
}

/// Whether ext4 may have returned success from a syncfs() that lost all. sync_filesystem() begins the journal's
/// commit in a pass that does not wait; if that commit fails before the pass that waits, ext4_sync_fs() finds no
/// transaction and returns 0. So it does without LoggerFS.
fn is_lost_by_syncfs(trace: &str) -> bool {
    trace.contains("jbd2_journal_commit_transaction")
}

/// The inodes of the files that are the user's own.
fn inodes(w: &Fixture) -> Outcome<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(w.below(".")?)? {
        let entry = entry?;
        if entry.file_name() != ".loggerfs" {
            found.insert(entry.metadata()?.ino());
        }
    }
    Ok(found)
}

/// Whether the lower filesystem still takes anything.
fn is_writable(w: &Fixture) -> bool {
    let path = w.base.join("probe");
    let tried = File::create(&path)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::remove_file(&path))
        .and_then(|()| File::open(&w.base)?.sync_all());
    tried.is_ok()
}

fn check_failure(case: &FaultCase, injected: u64, gave_up: bool) -> Outcome {
    let Some(failure) = &case.failure else {
        return Ok(());
    };
    check!(
        injected > 0,
        "{}: {}, though nothing was made to fail",
        failure.what,
        failure.error
    );
    let said = failure.error.raw_os_error().unwrap_or(0);
    check!(
        said == libc::EIO
            || (gave_up && [libc::EROFS, libc::EUCLEAN, libc::ENOSPC].contains(&said)),
        "{} fails with {} where the disk fails",
        failure.what,
        name(said)
    );
    Ok(())
}

/// The checks when the lower filesystem goes on.
fn judge(case: &mut FaultCase, scenario: &Scenario) -> Outcome<bool> {
    if !case.w.is_mounted() {
        case.w
            .mount_with(scenario.options)
            .at("mounting after the failure")?;
    }
    case.check_tree("after it", true)?;
    // The next line would rewrite the last page of the log, and hide its loss.
    let (tree, lines) = sync_and_drop(case)?;
    check_promised(case, "caches dropped", &tree, &lines)?;
    case.check_goes_on()?;
    let (tree, lines) = sync_and_drop(case)?;
    case.w.unmount().at("unmounting after the failure")?;
    super::no_strays(case.w)?;
    case.w.mount_with(scenario.options).at("mounting again")?;
    check_promised(case, "mounted again", &tree, &lines)?;
    let whole = case.check_reverts().at("mounted again")?;
    super::clean_up(case, scenario, false)?;
    Ok(whole)
}

/// The checks when the lower filesystem has gone read-only and is repaired.
fn judge_repaired(case: &mut FaultCase, scenario: &Scenario, told: bool) -> Outcome<bool> {
    case.w.unmount().at("unmounting over what has given up")?;
    repair(case.w)?;
    case.w
        .mount_with(scenario.options)
        .at("mounting, repaired")?;
    case.check_torn("repaired", told)?;
    case.check_goes_on().at("repaired")?;
    let whole = case.check_reverts().at("repaired")?;
    case.w.unmount()?;
    super::empty(case.w, true)?;
    Ok(whole)
}

/// The tree after a successful sync and dropped caches.
fn sync_and_drop(case: &FaultCase) -> Outcome<(Tree, Vec<String>)> {
    sync_until_it_succeeds(case)?;
    let found = (Tree::of(&case.w.mnt)?, lines(case)?);
    drop_caches()?;
    Ok(found)
}

/// A sync reports an earlier loss once; the next must succeed.
fn sync_until_it_succeeds(case: &FaultCase) -> Outcome {
    let mut last = Ok(());
    for _ in 0..40 {
        last = sync_both(case);
        if last.is_ok() {
            break;
        }
        // The journal's worker tries again each second.
        std::thread::sleep(Duration::from_millis(100));
    }
    last.at("syncs after the failure")
}

fn sync_both(case: &FaultCase) -> io::Result<()> {
    rustix::fs::syncfs(File::open(&case.w.mnt)?)?;
    match OpenOptions::new().write(true).open(case.w.path(FILE)) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn lines(case: &FaultCase) -> Outcome<Vec<String>> {
    match File::open(case.w.path(FILE)) {
        Ok(file) => Ok(undo::lines(&file, true)?
            .into_iter()
            .map(|line| line.text)
            .collect()),
        Err(_) => Ok(Vec::new()),
    }
}

/// All synced data is present: content and names, unless a failed sync reported their loss, and
/// every line.
fn check_promised(case: &FaultCase, when: &str, tree: &Tree, want: &[String]) -> Outcome {
    let got = Tree::of(&case.w.mnt).at(when)?;
    if !case.torn {
        if let Some(difference) = got.difference(tree) {
            fail!("{when}, though a sync succeeded: {difference}");
        }
    }
    let got = lines(case)?;
    let lost = want.iter().find(|line| !got.contains(line));
    if let Some(line) = lost.filter(|_| !case.is_bounded()) {
        fail!("{when}, though a sync succeeded, this line is gone: {line}");
    }
    Ok(())
}

/// Checks the lower filesystem and mounts it anew.
fn repair(w: &Fixture) -> Outcome {
    let (disk, at) = lower_mount(&w.base)?;
    mounts::unmount(Path::new(&at)).at("unmounting what has given up")?;
    if w.lower == Lower::Ext4 {
        // Exit code 1: errors were found and repaired.
        mounts::run(&["sh", "-c", "e2fsck -fy \"$0\" || [ $? = 1 ]", &disk])?;
    }
    mounts::run(&["mount", "-t", w.lower.name(), &disk, &at])?;
    super::attach(w)
}

/// Device and mount point of the filesystem that holds this directory.
fn lower_mount(directory: &Path) -> Outcome<(String, String)> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let found = table.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let at = front.split(' ').nth(4)?;
        let disk = back.split(' ').nth(1)?;
        directory
            .starts_with(at)
            .then(|| (disk.to_string(), at.to_string()))
    });
    match found.max_by_key(|(_, at)| at.len()) {
        Some(found) => Ok(found),
        None => fail!("no filesystem holds {}", directory.display()),
    }
}
