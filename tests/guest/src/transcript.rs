// SPDX-License-Identifier: GPL-2.0

//! The same work done twice, on the raw lower filesystem and through LoggerFS: the results of each
//! call and the resulting trees must be equal.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::fixture::Fixture;
use crate::outcome::{check, fail, name, At, Outcome};
use crate::shadow::Random;

/// The results of the calls of one run, in order.
pub struct Transcript {
    /// The directory to work in.
    pub dir: PathBuf,
    /// As in the test's world.
    pub full: bool,
    lines: Vec<String>,
    missing: Vec<String>,
}

impl Transcript {
    fn new(dir: &Path, full: bool) -> Transcript {
        Transcript {
            dir: dir.to_path_buf(),
            full,
            lines: Vec::new(),
            missing: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes down a value.
    pub fn note(&mut self, what: &str, value: impl Debug) {
        let here = self.dir.display().to_string();
        let value = format!("{value:?}").replace(&here, "HERE");
        self.lines.push(format!("{what}: {value}"));
    }

    /// Records the result of a call, success or errno.
    pub fn call<T: Debug, E: Into<io::Error>>(&mut self, what: &str, result: Result<T, E>) {
        match result {
            Ok(value) => self.note(what, value),
            Err(error) => {
                let errno = error.into().raw_os_error().map_or("no errno".into(), name);
                self.lines.push(format!("{what}: {errno}"));
            }
        }
    }

    /// A call that must succeed on the raw filesystem, or the test would say nothing.
    pub fn must<T: Debug, E: Into<io::Error>>(&mut self, what: &str, result: Result<T, E>) {
        if result.is_err() {
            self.missing.push(what.to_string());
        }
        self.call(what, result);
    }

    /// A shell line that must succeed on the raw filesystem; its output is compared.
    pub fn sh(&mut self, line: &str) {
        let output = std::process::Command::new("bash")
            .args(["-uc", line])
            .current_dir(&self.dir)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .stdin(std::process::Stdio::null())
            .output();
        match output {
            Ok(output) => {
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    self.missing.push(format!("{line} ({said})"));
                }
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                self.note(line, output.status.code());
                self.note("stdout", text(&output.stdout));
                self.note("stderr", text(&output.stderr));
            }
            Err(error) => self.must(line, Err::<(), _>(error)),
        }
    }

    /// Records the `lstat` of a name, except for fields that may differ.
    pub fn stat(&mut self, what: &str, name: &str) {
        match fs::symlink_metadata(self.path(name)) {
            Ok(stat) => {
                let seen = (
                    stat.mode(),
                    stat.nlink(),
                    stat.uid(),
                    stat.gid(),
                    stat.size(),
                );
                self.note(&format!("{what}: stat {name}"), (seen, stat.rdev()));
            }
            Err(error) => self.call(&format!("{what}: stat {name}"), Err::<(), _>(error)),
        }
    }
}

/// Runs the same work on both and compares answers and trees.
pub fn compare(w: &mut Fixture, work: fn(&mut Transcript) -> Outcome) -> Outcome {
    let mut raw = Transcript::new(&w.beside()?, w.full);
    let mut ours = Transcript::new(&w.mnt, w.full);
    work(&mut raw).at("on the raw filesystem")?;
    check!(
        raw.missing.is_empty(),
        "fails on the raw filesystem: {:?}",
        raw.missing
    );
    work(&mut ours).at("through LoggerFS")?;
    for (number, (raw, ours)) in raw.lines.iter().zip(&ours.lines).enumerate() {
        check!(
            raw == ours,
            "answer {number} differs; raw: {raw}; through LoggerFS: {ours}"
        );
    }
    check!(
        raw.lines.len() == ours.lines.len(),
        "{} answers instead of {}",
        ours.lines.len(),
        raw.lines.len()
    );
    same_trees(&raw.dir, &ours.dir).at("through LoggerFS")?;
    if let (Some(src), false) = (w.src.clone(), w.raw) {
        same_trees(&raw.dir, &src).at("from below")?;
        w.remount()?;
        same_trees(&raw.dir, &w.mnt).at("after a mount")?;
    }
    Ok(())
}

/// Compares names, kinds, modes, owners, links, sizes, targets, contents and attributes.
pub fn same_trees(want: &Path, got: &Path) -> Outcome {
    let mut wanted = Vec::new();
    tree(want, want, &mut wanted)?;
    let mut found = Vec::new();
    tree(got, got, &mut found)?;
    for (want, got) in wanted.iter().zip(&found) {
        check!(want == got, "the trees differ; raw: {want}; here: {got}");
    }
    match wanted.len().cmp(&found.len()) {
        std::cmp::Ordering::Less => fail!("more than on raw: {}", found[wanted.len()]),
        std::cmp::Ordering::Greater => fail!("missing: {}", wanted[found.len()]),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// One line for each name below a directory, sorted.
fn tree(root: &Path, directory: &Path, lines: &mut Vec<String>) -> Outcome {
    let mut names: Vec<PathBuf> = fs::read_dir(directory)
        .at(directory.display())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    names.sort();
    for path in names {
        if directory == root && path.file_name().is_some_and(|name| name == ".loggerfs") {
            continue;
        }
        lines.push(describe(root, &path).at(path.display())?);
        if fs::symlink_metadata(&path)?.is_dir() {
            tree(root, &path, lines)?;
        }
    }
    Ok(())
}

fn describe(root: &Path, path: &Path) -> Outcome<String> {
    let stat = fs::symlink_metadata(path)?;
    let kind = stat.file_type();
    let mut size = stat.size();
    let mut links = stat.nlink();
    let content = if kind.is_file() {
        format!("{:016x}", hash(&fs::read(path)?))
    } else if kind.is_symlink() {
        fs::read_link(path)?
            .display()
            .to_string()
            .replace(&root.display().to_string(), "HERE")
    } else {
        String::new()
    };
    if kind.is_dir() {
        // A directory's size and links are the lower filesystem's own affair.
        (size, links) = (0, 0);
    } else if kind.is_symlink() {
        size = content.len() as u64;
    }
    let device = kind.is_block_device() || kind.is_char_device();
    Ok(format!(
        "{} mode {:o} {}:{} links {links} size {size} dev {} {content} {:?}",
        path.strip_prefix(root).unwrap_or(path).display(),
        stat.mode(),
        stat.uid(),
        stat.gid(),
        if device { stat.rdev() } else { 0 },
        attributes(path)
    ))
}

/// The extended attributes with their values, sorted.
pub fn attributes(path: &Path) -> Vec<(String, u64)> {
    let mut names = vec![0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0u8; 65536];
        let name = std::ffi::OsStr::from_bytes(name);
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
        found.push((name.to_string_lossy().into_owned(), hash(&value[..length])));
    }
    found.sort();
    found
}

/// A hash that tells contents apart well enough.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64;
    for piece in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        state = Random::new(state ^ u64::from_le_bytes(word)).next();
    }
    state
}
