// SPDX-License-Identifier: GPL-2.0

//! The work that is counted, as rounds of equal calls. Under `-icount shift=0` a nanosecond of
//! the guest's clock is an instruction.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rustix::time::{clock_gettime, ClockId};

use crate::budget::Work;

/// Rounds in all; the first one is thrown away.
pub const ROUNDS: usize = 4;

const PAGE: usize = 4096;
const FILE: usize = 4 << 20;
const PIECE: usize = 1 << 20;

pub fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Instructions per call: until the last call returned, and until a `syncfs` after it, so that the
/// worker's share counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub calls: f64,
    pub synced: f64,
}

/// The mean of all rounds but the first.
pub fn measure(work: Work, directory: &Path) -> io::Result<Cost> {
    let mut sum = Cost::default();
    for round in 0..ROUNDS {
        let cost = one_round(work, directory)?;
        if round > 0 {
            sum.calls += cost.calls / (ROUNDS - 1) as f64;
            sum.synced += cost.synced / (ROUNDS - 1) as f64;
        }
    }
    Ok(sum)
}

fn one_round(work: Work, directory: &Path) -> io::Result<Cost> {
    match work {
        Work::Read4k => read_4k(directory),
        Work::Overwrite4k => overwrite(directory, PAGE, 5000),
        Work::Append4k => append(directory, 5000),
        Work::Overwrite1m => overwrite(directory, 1 << 20, 20),
        Work::CreateUnlink => create_unlink(directory, 1000),
        Work::Tree => tree(directory),
        Work::RevertLast | Work::Mount => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Counts `calls` calls, and the `syncfs` of the mount after them.
fn counted(
    directory: &Path,
    calls: usize,
    mut call: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<Cost> {
    let mount = File::open(directory)?;
    rustix::fs::syncfs(&mount)?;
    let start = now();
    for number in 0..calls {
        call(number)?;
    }
    let done = now();
    rustix::fs::syncfs(&mount)?;
    let synced = now();
    Ok(Cost {
        calls: (done - start) / calls as f64,
        synced: (synced - start) / calls as f64,
    })
}

/// A file of 4 MiB, all of it in the page cache, written in pieces of 1 MiB: that makes ext4's
/// folios as large as those that the budgets were measured with, and a small write to it walks
/// through the whole folio's blocks.
fn file_of_4m(directory: &Path) -> io::Result<File> {
    let path = directory.join("file");
    if !path.exists() {
        let mut file = File::create(&path)?;
        for _ in 0..FILE / PIECE {
            file.write_all(&vec![1; PIECE])?;
        }
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(path)
}

fn read_4k(directory: &Path) -> io::Result<Cost> {
    let file = file_of_4m(directory)?;
    let mut page = vec![0; PAGE];
    counted(directory, 10_000, |number| {
        let at = number * 7 % (FILE / PAGE) * PAGE;
        file.read_exact_at(&mut page, at as u64)
    })
}

fn overwrite(directory: &Path, length: usize, calls: usize) -> io::Result<Cost> {
    let file = file_of_4m(directory)?;
    let bytes = vec![2; length];
    counted(directory, calls, |number| {
        let at = number * 7 % (FILE / length) * length;
        whole(file.write_at(&bytes, at as u64)?, length)
    })
}

/// The file stays, and grows in the next round: LoggerFS keeps removed files for a while, and
/// freeing their space would fall into that round.
fn append(directory: &Path, calls: usize) -> io::Result<Cost> {
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("appended"))?;
    let end = file.metadata()?.len();
    let bytes = vec![3; PAGE];
    counted(directory, calls, |number| {
        whole(file.write_at(&bytes, end + (number * PAGE) as u64)?, PAGE)
    })
}

fn whole(written: usize, length: usize) -> io::Result<()> {
    if written == length {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{written} of {length} bytes written"
        )))
    }
}

fn create_unlink(directory: &Path, calls: usize) -> io::Result<Cost> {
    let path = directory.join("short-lived");
    counted(directory, calls, |_| {
        File::create_new(&path)?;
        fs::remove_file(&path)
    })
}

/// Unpack, build, delete: the operations on a developer's tree.
fn tree(directory: &Path) -> io::Result<Cost> {
    let place = directory.join("tree");
    fs::create_dir_all(&place)?;
    let script = "tar -mxf /run/lfs-bench.tar && make -s -C prog && rm -rf prog src";
    let cost = counted(directory, 1, |_| {
        let status = Command::new("sh")
            .args(["-ec", script])
            .current_dir(&place)
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the tree's work: {status}")))
        }
    });
    fs::remove_dir_all(place)?;
    cost
}

/// Fills the history until its oldest segments are recycled: the state of a mount that has
/// lived for a while.
pub fn fill_history(directory: &Path, bytes: u64) -> io::Result<()> {
    let file = file_of_4m(directory)?;
    let page = vec![4; PAGE];
    for number in 0..bytes / PAGE as u64 {
        let at = number * 7 % (FILE / PAGE) as u64 * PAGE as u64;
        file.write_all_at(&page, at)?;
    }
    rustix::fs::syncfs(&file)?;
    Ok(())
}

/// `lines` operations on one file, one byte each.
pub fn many_lines(path: &Path, lines: usize) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    for _ in 0..lines {
        rustix::io::write(&file, b"x")?;
    }
    rustix::fs::syncfs(&file)?;
    Ok(())
}

/// The cost of one revert of the last operation, the mean of a few.
pub fn revert_last(path: &Path, revert: impl Fn(&File) -> io::Result<()>) -> io::Result<Cost> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    revert(&file)?;
    counted(path.parent().unwrap_or(path), 5, |_| revert(&file))
}
