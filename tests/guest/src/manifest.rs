// SPDX-License-Identifier: GPL-2.0

//! A tree as text, and how two of them differ: for tests/trials, which compares a directory before
//! an action with the same directory after the action was undone.
//!
//! `lfs-tests manifest DIR` prints a line for each object: its path, escaped, and tab-separated
//! fields `key=value`. `lfs-tests differ WANT GOT OTHER [strict]` compares two such files and prints
//! `KIND<TAB>PATH: KEY ...` for each difference. OTHER is the tree between them: a file that it
//! shows with the inode and the modification time of WANT was not written meanwhile, so its
//! modification time must come back. Of a file that was written that is not promised
//! (docs/limits.md, "What can be taken back"); `strict` expects it all the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::sys;

/// `FS_IOC_FSGETXATTR`, which fills 28 bytes: the project is in bytes 12 to 15.
const GET_MORE_FLAGS: u64 = 0x801c_581f;

/// Flags that a filesystem sets by itself: ext4's extents, inline data, and index of a directory.
const OWN_FLAGS: u32 = 0x1008_1000;

/// The size of the blocks that are hashed; one that is all zeroes counts as a hole does.
const BLOCK: usize = 65536;

type Fields = BTreeMap<String, String>;
type Manifest = BTreeMap<String, Fields>;

/// `manifest DIR`, or `differ WANT GOT OTHER [strict]`.
pub fn main(words: &[String]) -> i32 {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["manifest", root] => print(root),
        ["differ", want, got, other] => differ(want, got, other, false),
        ["differ", want, got, other, "strict"] => differ(want, got, other, true),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{}: {error}", words.join(" "));
            1
        }
    }
}

/// Prints the manifest of a directory; of the mount's root, without the history.
fn print(root: &str) -> io::Result<()> {
    let mut walk = Walk::default();
    let root = File::open(root)?;
    walk.object(
        &PathBuf::from(format!("/proc/self/fd/{}/.", root.as_raw_fd())),
        ".",
    )?;
    walk.directory(&root, "")?;
    print!("{}", walk.text);
    Ok(())
}

#[derive(Default)]
struct Walk {
    text: String,
    /// The first path of each inode, to tell links of one file from copies.
    first: HashMap<u64, String>,
}

impl Walk {
    /// Through the open directory and `/proc`, so that no path is too long.
    fn directory(&mut self, directory: &File, prefix: &str) -> io::Result<()> {
        let place = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let names = fs::read_dir(&place)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            if prefix.is_empty() && name == ".loggerfs" {
                continue;
            }
            let path = place.join(&name);
            let shown = format!("{prefix}{}", escaped(name.as_bytes()));
            if self.object(&path, &shown)?.is_dir() {
                let mut options = OpenOptions::new();
                options.read(true).custom_flags(libc::O_NOFOLLOW);
                self.directory(&options.open(&path)?, &format!("{shown}/"))?;
            }
        }
        Ok(())
    }

    fn object(&mut self, path: &Path, shown: &str) -> io::Result<Metadata> {
        let meta = fs::symlink_metadata(path)?;
        let mut line = format!(
            "{shown}\tmode={:o}\towner={}:{}\tmtime={}.{:09}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
        );
        if !meta.is_dir() {
            let first = self.first.entry(meta.ino()).or_insert_with(|| shown.into());
            add(
                &mut line,
                format_args!("\tlinks={}\tsame={first}", meta.nlink()),
            );
            add(
                &mut line,
                format_args!("\tinode={}\tsize={}", meta.ino(), meta.len()),
            );
        }
        if meta.is_file() || meta.is_dir() {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_NOFOLLOW);
            let file = options.open(path)?;
            plain(&file, &meta, &mut line)?;
        } else if meta.is_symlink() {
            let target = fs::read_link(path)?;
            add(
                &mut line,
                format_args!("\ttarget={}", escaped(target.as_os_str().as_bytes())),
            );
        } else if meta.file_type().is_block_device() || meta.file_type().is_char_device() {
            add(&mut line, format_args!("\tdevice={}", meta.rdev()));
        }
        for (name, value) in xattrs(path)? {
            let (name, value) = (escaped(&name), escaped(&value));
            add(&mut line, format_args!("\txattr:{name}={value}"));
        }
        self.text.push_str(&line);
        self.text.push('\n');
        Ok(meta)
    }
}

fn add(line: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = line.write_fmt(text);
}

/// Printable text without tabs, equal signs and percent signs.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_graphic() && !b"%=".contains(byte) {
            text.push(char::from(*byte));
        } else {
            add(&mut text, format_args!("%{byte:02x}"));
        }
    }
    text
}

/// The fields that only regular files and directories have.
fn plain(file: &File, meta: &Metadata, line: &mut String) -> io::Result<()> {
    if let Ok(flags) = rustix::fs::ioctl_getflags(file) {
        add(
            line,
            format_args!("\tflags={:x}", flags.bits() & !OWN_FLAGS),
        );
    }
    let mut more = [0u8; 28];
    if sys::ioctl_bytes(file, GET_MORE_FLAGS, &mut more).is_ok() {
        add(line, format_args!("\tproject={:?}", &more[12..16]));
    }
    if meta.is_file() {
        // ext4 and xfs count clean pages over allocated, unwritten space as data. Drop these pages, and
        // turn off read-ahead, which would fill in new ones while the data is read.
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?;
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random)?;
        let data = data(file)?;
        add(
            line,
            format_args!("\tcontent={:032x}\tdata=", hash(file, &data)?),
        );
        for (start, end) in data {
            add(line, format_args!("{start}-{end},"));
        }
    }
    Ok(())
}

/// Where a file's data is, as `lseek` says.
fn data(file: &File) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(found),
            start => start?,
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        found.push((start, at));
    }
}

/// A hash of the content of a file, independent of holes: only the bytes in `data` are read.
fn hash(file: &File, data: &[(u64, u64)]) -> io::Result<u128> {
    let mut sum = Hash::new();
    let mut block = vec![0; BLOCK];
    let mut next = 0;
    for (start, end) in data {
        let mut at = (start - start % BLOCK as u64).max(next);
        while at < *end {
            let length = read_block(file, &mut block, at)?;
            if block[..length].iter().any(|byte| *byte != 0) {
                sum.word(at);
                sum.bytes(&block[..length]);
            }
            at += BLOCK as u64;
        }
        next = at;
    }
    Ok(sum.value())
}

fn read_block(file: &File, block: &mut [u8], at: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match file.read_at(&mut block[length..], at + length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// Two 64-bit FNV-1a hashes over words; deliberate collisions are not a concern here.
struct Hash(u64, u64);

impl Hash {
    fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325, 0x8422_2325_cbf2_9ce4)
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3);
        self.1 = (self.1 ^ word.rotate_left(31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
        self.1 ^= self.1 >> 32;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
        for byte in words.remainder() {
            self.word(u64::from(*byte));
        }
        // Zeroes after the last byte are not part of the hash: the size is compared separately.
    }

    fn value(&self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }
}

fn xattrs(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 65536];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value)?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// Prints how GOT differs from WANT.
fn differ(want: &str, got: &str, other: &str, strict: bool) -> io::Result<()> {
    let (want, got, other) = (read(want)?, read(got)?, read(other)?);
    let mut paths: Vec<&String> = want.keys().chain(got.keys()).collect();
    paths.sort();
    paths.dedup();
    let unwritten: HashMap<&str, &str> = other
        .values()
        .filter_map(|fields| Some((field(fields, "inode")?, field(fields, "mtime")?)))
        .collect();
    for path in paths {
        match (want.get(path), got.get(path)) {
            (Some(_), None) => println!("tree\t{path}: is missing"),
            (None, Some(_)) => println!("tree\t{path}: is there, and was not"),
            (Some(want), Some(got)) => object(path, want, got, |want| {
                let inode = field(want, "inode").unwrap_or_default();
                strict || unwritten.get(inode).copied() == field(want, "mtime")
            }),
            (None, None) => {}
        }
    }
    Ok(())
}

/// `promised` says of an object whether its modification time has to come back.
fn object(path: &str, want: &Fields, got: &Fields, promised: impl Fn(&Fields) -> bool) {
    let is = |letter: &str| field(want, "mode").is_some_and(|mode| mode.starts_with(letter));
    let (is_directory, is_file) = (is("4"), is("10"));
    let mut keys: Vec<&String> = want.keys().chain(got.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (was, now) = (field(want, key), field(got, key));
        let kind = match key.as_str() {
            _ if was == now => continue,
            "data" => "holes",
            "inode" if !is_file => continue,
            "inode" => "inode",
            "mtime" if is_directory || (is_file && !promised(want)) => continue,
            "mtime" => "times",
            _ => "tree",
        };
        let (was, now) = (was.unwrap_or("nothing"), now.unwrap_or("nothing"));
        println!("{kind}\t{path}: {key} {now:.200} instead of {was:.200}");
    }
}

fn field<'a>(fields: &'a Fields, key: &str) -> Option<&'a str> {
    fields.get(key).map(String::as_str)
}

fn read(file: &str) -> io::Result<Manifest> {
    let text = fs::read_to_string(file)?;
    let lines = text.lines().map(|line| {
        let mut words = line.split('\t');
        let path = words.next().unwrap_or_default().to_string();
        let fields = words.filter_map(|word| word.split_once('='));
        let fields = fields.map(|(key, value)| (key.to_string(), value.to_string()));
        (path, fields.collect())
    });
    Ok(lines.collect())
}
