// SPDX-License-Identifier: GPL-2.0

//! Side processes that try to hold others up, as users without rights: `lfs-tests work held WORDS`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::thread;

use rustix::pipe::{self, SpliceFlags};
use rustix::process::{setpriority_process, Pid};

use crate::group::{self, DRY_RUN};
use crate::sys::{self, Missing};
use crate::undo;

/// The user that they run as.
pub const NOBODY: u32 = 65534;

pub fn main(words: &[&str]) -> io::Result<()> {
    let (user, words) = match words {
        ["as", user, words @ ..] => (number(user) as u32, words),
        words => (NOBODY, words),
    };
    // The parent process may have a better one.
    setpriority_process(None::<Pid>, 0)?;
    sys::become_user(user)?;
    match words {
        ["bogus", count] => bogus(number(count)),
        ["crowd", threads, count] => crowd(number(threads), number(count)),
        ["splice", file] => splice(file),
        ["splices", dir, count] => splices(dir, number(count)),
        ["direct", file] => direct(file),
        ["buffers", dir, count] => buffers(dir, number(count)),
        ["dry", file] => dry(file),
        ["reverts", dir] => reverts(dir),
        ["reads"] => reads(),
        ["names", shared, own] => names(shared, own),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

/// Reports that the next call may never return.
fn ready() -> io::Result<()> {
    println!("ready");
    io::stdout().flush()
}

/// Operations that do not exist, the newest first.
pub fn nonsense(count: u64) -> Vec<u8> {
    let mut list = Vec::new();
    for seq in (1..=count).rev() {
        for word in [seq, 1, 0] {
            list.extend(u64::to_ne_bytes(word));
        }
    }
    list
}

/// Asks for ever whether operations could be taken back that do not exist, through the root.
fn bogus(count: u64) -> io::Result<()> {
    let root = File::open(".")?;
    let mut list = nonsense(count);
    ready()?;
    loop {
        let (result, _) = group::raw(&root, &mut list, count, DRY_RUN);
        if result.is_ok() {
            return Err(io::Error::other("nonsense was accepted"));
        }
    }
}

/// The same in many threads at once, each with a request of its own.
fn crowd(threads: u64, count: u64) -> io::Result<()> {
    let list = nonsense(count);
    ready()?;
    thread::scope(|scope| {
        for _ in 0..threads {
            let mut list = list.clone();
            scope.spawn(move || {
                let root = File::open(".").expect("the root");
                loop {
                    let _ = group::raw(&root, &mut list, count, DRY_RUN);
                }
            });
        }
    });
    Ok(())
}

/// Waits for a pipe that nothing comes out of, in a splice to a file.
fn splice(file: &str) -> io::Result<()> {
    let (from, _to) = pipe::pipe()?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(file)?;
    ready()?;
    pipe::splice(&from, None, &file, None, 4096, SpliceFlags::empty())?;
    Err(io::Error::other("an empty pipe gave something"))
}

/// As [`splice`], so many times at once.
fn splices(dir: &str, count: u64) -> io::Result<()> {
    at_once(dir, count, |file| {
        let (from, _to) = pipe::pipe()?;
        pipe::splice(&from, None, file, None, 4096, SpliceFlags::empty())?;
        Ok(())
    })
}

/// Writes that wait for pages that never come, so many at once.
fn buffers(dir: &str, count: u64) -> io::Result<()> {
    at_once(dir, count, |file| {
        // Some find their first page.
        Missing::new(8192, 4096)?.write_to(file)?;
        Ok(())
    })
}

/// A direct write, whose pages the lower filesystem takes under the file's lock, and that never come.
fn direct(file: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_DIRECT);
    let file = options.open(file)?;
    ready()?;
    Missing::new(8192, 0)?.write_to(&file)?;
    Err(io::Error::other("the pages came"))
}

/// Makes calls that never return, on this many files at once.
fn at_once(dir: &str, count: u64, work: impl Fn(&File) -> io::Result<()> + Sync) -> io::Result<()> {
    let open = |number| {
        let path = format!("{dir}/{number}");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    };
    let files = (0..count).map(open).collect::<io::Result<Vec<File>>>()?;
    ready()?;
    thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| work(file).expect("it never ends"));
        }
    });
    Ok(())
}

/// Changes files of its own, and takes that back and forth, for ever.
fn reverts(dir: &str) -> io::Result<()> {
    let open = |number| {
        let path = format!("{dir}/r{number}");
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    };
    let files = (0..8).map(open).collect::<io::Result<Vec<File>>>()?;
    let directory = File::open(dir)?;
    let mut round = 0u64;
    ready()?;
    loop {
        for file in &files {
            file.write_all_at(&[round as u8; 16 * 1024], round % 4 * 8192)?;
        }
        let name = format!("{dir}/n{}", round % 16);
        fs::rename(format!("{dir}/n"), &name).or_else(|_| File::create(&name).map(drop))?;
        for file in &files {
            undo::revert(file, 1)?;
        }
        // One at a time: conflicts among the others are their own tests' concern.
        let _ = undo::revert(&directory, 1);
        group_of_own(&directory, round)?;
        round += 1;
    }
}

/// A request for all of the newest operations in the log that this user may see.
fn group_of_own(directory: &File, round: u64) -> io::Result<()> {
    if round % 8 != 0 {
        return Ok(());
    }
    let newest = group::newest(directory)?;
    let from = newest.len().saturating_sub(40);
    let flags = if round % 16 == 0 { DRY_RUN } else { 0 };
    let _ = group::revert(directory, &newest[from..], flags);
    Ok(())
}

/// Reads the history of the whole mount, and that of a file, for ever.
fn reads() -> io::Result<()> {
    let root = File::open(".")?;
    ready()?;
    loop {
        group::newest(&root)?;
    }
}

/// Makes, moves, links and removes names in a directory that others use, for ever.
fn names(shared: &str, own: &str) -> io::Result<()> {
    ready()?;
    for round in 0u64.. {
        let at =
            |word: &str, place: &str| format!("{place}/{}-{word}{}", std::process::id(), round % 8);
        let made = at("made", shared);
        File::create(&made)?;
        fs::rename(&made, at("moved", own))?;
        fs::hard_link(at("moved", own), at("linked", shared))?;
        fs::remove_file(at("linked", shared))?;
        fs::remove_file(at("moved", own))?;
    }
    Ok(())
}

/// Asks once whether an operation could be taken back that does not exist.
fn dry(file: &str) -> io::Result<()> {
    let file = File::open(file)?;
    let _ = group::raw(&file, &mut nonsense(1), 1, DRY_RUN);
    Ok(())
}
