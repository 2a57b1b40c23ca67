// SPDX-License-Identifier: GPL-2.0

//! A side process that reads all of a crafted history and takes back all that it can, one object at a time
//! and in groups. The process ends by itself or is killed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::group::{self, Placed};
use crate::mounts;
use crate::shadow::Random;
use crate::sys;
use crate::undo;

/// More than this is not tried in one go.
const MOST: usize = 60;

/// `mount SOURCE TARGET`, or `use PLACE SEED UID`.
pub fn main(words: &[&str]) -> io::Result<()> {
    match words {
        ["mount", source, target] => {
            mounts::mount(source, Path::new(target), "").map_err(|refusal| {
                println!("{}", refusal.said.join("; "));
                refusal.error
            })
        }
        ["use", place, seed, uid] => {
            let uid = uid.parse().unwrap_or(0);
            if uid != 0 {
                sys::become_only(uid)?;
            }
            let mut random = Random::new(seed.parse().unwrap_or(0));
            use_all(Path::new(place), &mut random)
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Paths below a directory, with itself.
fn paths(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_path_buf()];
    let mut at = 0;
    while at < all.len() && all.len() < 400 {
        for entry in fs::read_dir(&all[at]).into_iter().flatten().flatten() {
            all.push(entry.path());
        }
        at += 1;
    }
    all
}

fn use_all(place: &Path, random: &mut Random) -> io::Result<()> {
    let root = File::open(place)?;
    let lines = group::all(&root).unwrap_or_default();
    let all = paths(place);
    for _ in 0..all.len().min(MOST) {
        let path = &all[random.below(all.len() as u64) as usize];
        let _ = single(path, random);
        if random.below(3) == 0 {
            let _ = groups(&root, &lines, random);
        }
    }
    let commands: [&[&str]; 7] = [
        &["log", "--json"],
        &["status", "."],
        &["undo"],
        &["redo"],
        &["restore", "--to", "@~2"],
        &["revert", "@~1", "--partial"],
        &["revert", "@~1", "--merge"],
    ];
    for _ in 0..2 {
        let words = commands[random.below(7) as usize];
        let output = Command::new("logctl")
            .args(words)
            .current_dir(place)
            .output()?;
        if output.status.code().is_none_or(|code| code == 101) {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("logctl {words:?}: {said}")));
        }
    }
    Ok(())
}

/// One object: reads its log, and takes its operations back.
fn single(path: &Path, random: &mut Random) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    options.write(meta.is_file());
    if !meta.is_file() && !meta.is_dir() {
        return Ok(());
    }
    let file = options.open(path)?;
    let _ = undo::page(&file);
    let _ = undo::raw_log(&file, random.below(2) == 0);
    for _ in 0..1 + random.below(3) {
        let flags = [0, undo::FORCE, undo::DEEP, undo::FORCE | undo::DEEP];
        let flags = flags[random.below(4) as usize];
        match random.below(3) {
            0 => drop(undo::revert(&file, 1 + random.below(3) as usize)),
            _ => drop(undo::revert_more(&file, 1 + random.below(4), flags)),
        }
    }
    Ok(())
}

/// Some operations at once.
fn groups(root: &File, lines: &[Placed], random: &mut Random) -> io::Result<()> {
    let Some(last) = (lines.len() as u64).checked_sub(1) else {
        return Ok(());
    };
    let mut chosen: Vec<Placed> = Vec::new();
    for _ in 0..1 + random.below(4) {
        chosen.push(lines[random.below(last + 1) as usize].clone());
    }
    chosen.sort_by_key(|placed| placed.seq);
    chosen.dedup_by_key(|placed| placed.seq);
    let flags = [
        0,
        group::FORCE,
        group::DRY_RUN,
        group::WALK,
        group::WALK | group::FORCE,
        group::REDO,
    ];
    let _ = group::revert(root, &chosen, flags[random.below(6) as usize]);
    Ok(())
}
