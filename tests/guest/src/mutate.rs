// SPDX-License-Identifier: GPL-2.0

//! Mutations of a whole history that keep its format: words of lines are replaced by those of others, by
//! handles of objects elsewhere, and by absurd numbers and names; files of the history by others. Lines keep
//! right checksums and positions, so that readers get past those checks.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{symlink, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use lfs_shared::crc32c;

use crate::book::{Book, Entry};
use crate::crafted::{absurd, History};
use crate::outcome::Outcome;
use crate::shadow::Random;

/// An object that a history has no business with.
#[derive(Clone, Debug)]
pub struct Target {
    pub path: PathBuf,
    /// `INODE.GENERATION`
    pub object: String,
    /// In the form of `fh=`.
    pub handle: String,
}

/// Names that no directory has, or must not get.
const NAMES: [&str; 10] = [
    "",
    ".",
    "..",
    "%2e%2e",
    "a/b",
    "a%2fb",
    "..%2f..%2fetc",
    "%00",
    ".loggerfs",
    "%2eloggerfs",
];

const OPS: [&str; 26] = [
    "write", "truncate", "mmap", "allocate", "punch", "zero", "collapse", "insert", "copy",
    "create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "exchange",
    "setattr", "setxattr", "revert", "redo", "commit", "cancel", "close", "amend",
];

const OBJECTS: [&str; 4] = ["obj", "node", "over", "parent"];
const HANDLES: [&str; 4] = ["fh", "vfh", "pfh", "in"];
const NUMBERS: [&str; 12] = [
    "seq", "size", "of", "count", "map", "now", "group", "kept", "uid", "owner", "open", "attrs",
];

/// Between one and five mutations; says which.
pub fn mutate(
    random: &mut Random,
    history: &mut History,
    targets: &[Target],
) -> Outcome<Vec<String>> {
    let mut book = Book::of(history)?;
    let mut said = Vec::new();
    for _ in 0..1 + random.below(5) {
        said.push(match random.below(16) {
            0..=11 => line(random, &mut book, history, targets),
            12 => cut(random, &mut book),
            13 => twice(random, &mut book),
            14 => copied_segment(random, history),
            _ => history.damage(random),
        });
    }
    book.write(history);
    if random.below(5) != 0 {
        history.forget();
        said.push("state and tables taken away".into());
    }
    Ok(said)
}

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> Option<&'a T> {
    of.get(random.below(of.len().max(1) as u64) as usize)
}

/// One word of one line.
fn line(random: &mut Random, book: &mut Book, history: &mut History, targets: &[Target]) -> String {
    let places: Vec<(u64, u64)> = (book.entries.iter())
        .map(|entry| (entry.segment, entry.offset))
        .collect();
    let kind = random.below(14);
    let other = pick(random, &book.entries).cloned();
    let Some(target) = pick(random, targets).cloned() else {
        return "no target".into();
    };
    let count = book.entries.len() as u64;
    let Some(entry) = book.entries.get_mut(random.below(count.max(1)) as usize) else {
        return "no line".into();
    };
    let before = entry.words.join(" ");
    match kind {
        0 | 1 => {
            entry.set("obj", &target.object);
            entry.set("fh", &target.handle);
        }
        2 | 3 => {
            let key = OBJECTS[random.below(4) as usize];
            entry.set(key, &target.object);
            let handle = HANDLES[random.below(4) as usize];
            entry.set(handle, &target.handle);
            if key == "node" && random.below(2) == 0 {
                entry.remove("kept");
            }
        }
        4 => {
            let long = "a".repeat(200 + random.below(200) as usize);
            let at = random.below(NAMES.len() as u64 + 1) as usize;
            let name = NAMES.get(at).copied().unwrap_or(&long);
            let key = if random.below(2) == 0 { "name" } else { "to" };
            entry.set(key, name);
            if random.below(2) == 0 {
                entry.remove("over");
            }
        }
        5 => {
            let key = NUMBERS[random.below(NUMBERS.len() as u64) as usize];
            entry.set(key, &absurd(random).to_string());
        }
        6 => {
            let (segment, offset) = match random.below(4) {
                0 => (entry.segment, entry.offset),
                1 => (absurd(random), absurd(random)),
                _ => *pick(random, &places).unwrap_or(&(1, 0)),
            };
            let key = if random.below(3) == 0 { "back" } else { "prev" };
            entry.set(key, &format!("{segment}:{offset}"));
        }
        7 => {
            let op = OPS[random.below(OPS.len() as u64) as usize];
            if let Some(word) = entry.words.get_mut(2) {
                *word = op.to_string();
            }
        }
        8 => {
            let keys: Vec<String> = (entry.words.iter().skip(5))
                .filter_map(|word| Some(word.split_once('=')?.0.to_string()))
                .collect();
            if let Some(key) = pick(random, &keys) {
                entry.remove(key);
            }
        }
        9 => {
            let at = 3 + random.below(2) as usize;
            let number = absurd(random).to_string();
            if let Some(word) = entry.words.get_mut(at) {
                *word = number;
            }
        }
        10 | 11 => payload(random, entry, history),
        _ => {
            let Some(other) = other else {
                return "no other line".into();
            };
            exchanged(random, entry, &other);
        }
    }
    format!("{before} -> {}", entry.words.join(" "))
}

/// Words that another line has.
fn exchanged(random: &mut Random, entry: &mut Entry, other: &Entry) {
    let groups: [&[&str]; 8] = [
        &["obj", "fh"],
        &["undo", "crc", "map"],
        &["name"],
        &["to"],
        &["node"],
        &["kept"],
        &["vfh", "node"],
        &["parent", "pfh"],
    ];
    for key in groups[random.below(8) as usize] {
        match other.get(key) {
            Some(value) => entry.set(key, value),
            None => entry.remove(key),
        }
    }
}

/// A range of a payload file, with its right checksum if possible.
fn payload(random: &mut Random, entry: &mut Entry, history: &mut History) {
    let files: Vec<(String, Vec<u8>)> = (history.files().iter())
        .filter(|(name, _)| name.starts_with("undo/"))
        .map(|(name, bytes)| (name.clone(), bytes.clone()))
        .collect();
    let Some((name, bytes)) = pick(random, &files) else {
        return;
    };
    let digits = name.trim_start_matches("undo/").trim_end_matches(".dat");
    let segment: u64 = digits.parse().unwrap_or(1);
    if random.below(3) == 0 || bytes.is_empty() {
        let (offset, length) = (absurd(random), absurd(random));
        entry.set("undo", &format!("{segment}:{offset}+{length}"));
        return;
    }
    let from = random.below(bytes.len() as u64) as usize;
    let most = (bytes.len() - from).min(20_000) as u64;
    let to = from + random.below(most + 1) as usize;
    entry.set("undo", &format!("{segment}:{from}+{}", to - from));
    let crc = !crc32c(!0, &bytes[from..to]);
    entry.set("crc", &format!("{crc:08x}"));
    if random.below(2) == 0 {
        entry.remove("map");
    }
}

/// Reverts that did not end, or a history that ends earlier.
fn cut(random: &mut Random, book: &mut Book) -> String {
    if random.below(2) == 0 {
        book.take_away(|entry| entry.op() == "commit");
        return "no revert has ended".into();
    }
    let at = random.below(book.entries.len().max(1) as u64) as usize;
    book.entries.truncate(at);
    format!("the log ends behind {at} lines")
}

/// A line once more, at the end.
fn twice(random: &mut Random, book: &mut Book) -> String {
    let Some(mut entry) = pick(random, &book.entries).cloned() else {
        return "no line".into();
    };
    let newest = book.entries.iter().filter_map(|one| one.get("seq"));
    let newest = newest.filter_map(|seq| seq.parse::<u64>().ok()).max();
    if let Some(last) = book.entries.last() {
        (entry.segment, entry.offset) = (last.segment, last.offset + 4096);
    }
    let object = entry.get("obj").unwrap_or_default().to_string();
    let before = book.last(|one| one.get("obj") == Some(&object));
    if let Some(before) = before.map(|one| format!("{}:{}", one.segment, one.offset)) {
        entry.set("prev", &before);
    }
    entry.set(
        "seq",
        &(newest.unwrap_or(0) + 1 + random.below(9)).to_string(),
    );
    let said = format!("once more: {}", entry.words.join(" "));
    book.entries.push(entry);
    said
}

fn copied_segment(random: &mut Random, history: &mut History) -> String {
    let names: Vec<String> = history.files().keys().cloned().collect();
    let segments: Vec<&String> = names.iter().filter(|name| name.contains('/')).collect();
    let Some(name) = pick(random, &segments).map(|name| name.to_string()) else {
        return "no segment".into();
    };
    let number = random.below(12);
    let (place, end) = (
        name.split('/').next().unwrap_or("log").to_string(),
        name.rsplit('.').next().unwrap_or("log").to_string(),
    );
    let bytes = history.files().get(&name).cloned().unwrap_or_default();
    let copy = format!("{place}/{number:08}.{end}");
    history.files().insert(copy.clone(), bytes);
    format!("{name} copied to {copy}")
}

/// Replaces one of the history's files or directories by another object; returns a description.
pub fn misplace(random: &mut Random, home: &Path, targets: &[Target]) -> Outcome<String> {
    let mut places = vec![home.join("reserve"), home.join("undo/spare.dat")];
    let mut entries = Vec::new();
    let mut left = vec![home.to_path_buf()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            places.push(entry.path());
            if entry.path().starts_with(home.join("orphans")) {
                entries.push(entry.path());
            }
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            }
        }
    }
    places.sort();
    entries.sort();
    let files: Vec<&Target> = targets.iter().filter(|one| one.path.is_file()).collect();
    let Some(target) = pick(random, &files) else {
        return Ok("no target".into());
    };
    let place = match random.below(2) {
        0 => pick(random, &places),
        _ => pick(random, &entries),
    };
    let Some(place) = place.cloned() else {
        return Ok("no place".into());
    };
    let is_entry = place.components().count() >= home.components().count() + 4;
    let kind = random.below(10);
    if kind < 7 {
        let _ = fs::remove_dir_all(&place);
        let _ = fs::remove_file(&place);
    }
    // Missing entries, and those in missing directories, are skipped.
    let done = match kind {
        0 | 1 if is_entry => {
            // As the orphan entry of the object that it links to.
            let name = place
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let rest = name.split_once(',').map_or("", |(_, rest)| rest);
            let top = place.parent().and_then(Path::parent).unwrap_or(home);
            let inode = target.object.split('.').next().unwrap_or("0");
            let inode: u64 = inode.parse().unwrap_or(0);
            let there = top.join(format!("{:02x}", inode / 32 % 256));
            let _ = fs::create_dir_all(&there);
            fs::hard_link(
                &target.path,
                there.join(format!("{},{rest}", target.object)),
            )
        }
        0 | 1 => fs::hard_link(&target.path, &place),
        2 => symlink(&target.path, &place),
        3 => run(Command::new("mkfifo").arg(&place)),
        4 => run(Command::new("mknod").arg(&place).args(["c", "1", "5"])),
        5 => fs::create_dir(&place),
        6 => File::create(&place).and_then(|file| file.set_len(absurd(random) & ((1 << 42) - 1))),
        7 => fs::set_permissions(&place, Permissions::from_mode(0o4777)),
        8 => std::os::unix::fs::chown(&place, Some(2000), Some(2000)),
        _ => (OpenOptions::new().write(true).open(&place))
            .and_then(|file| file.write_all_at(&random.bytes(64), random.below(9000))),
    };
    let kinds = [
        "a link",
        "a link",
        "a symlink",
        "a fifo",
        "a device",
        "a directory",
        "sparse",
        "setuid and open",
        "a user's",
        "overwritten",
    ];
    Ok(format!(
        "{} is {} ({}) {done:?}",
        place.display(),
        kinds[kind as usize],
        target.path.display()
    ))
}

fn run(command: &mut Command) -> std::io::Result<()> {
    command.status().map(drop)
}
