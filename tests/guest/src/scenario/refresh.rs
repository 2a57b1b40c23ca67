// SPDX-License-Identifier: GPL-2.0

//! Changes by other programs below the mount take effect through it at once: rights that were
//! revoked or granted, protection, set-id bits, and the size of a file for every way to read it.
//! Names are in the dcache and files open at that time.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{chown, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::run;
use crate::outcome::{same, same_bytes, same_errno, At, Outcome};
use crate::sys::{as_user, Map};

pub const TESTS: &[Test] = &[
    Test::new("refresh-rights-of-a-file", rights_of_a_file).raw(),
    Test::new("refresh-rights-of-a-directory", rights_of_a_directory).raw(),
    Test::new("refresh-sticky-owner", sticky_owner).raw(),
    Test::new("refresh-owner-by-descriptor", owner_by_descriptor).raw(),
    Test::new("refresh-protection", protection),
    Test::new("refresh-set-id-bits", set_id_bits).raw(),
    Test::new("refresh-size-grown", size_grown).raw(),
    Test::new("refresh-size-cut", size_cut).raw(),
    Test::new("refresh-size-for-cp", size_for_cp).raw(),
    Test::new("refresh-size-for-append", size_for_append).raw(),
];

const USER: u32 = 1000;
const OTHER: u32 = 1001;

fn mode(path: &Path, mode: u32) -> Outcome {
    fs::set_permissions(path, Permissions::from_mode(mode)).at(format!("chmod {mode:o}"))
}

/// All that a user may try with a file, or not.
fn tries(path: &Path) -> Vec<(&'static str, io::Result<()>)> {
    let open = |options: &mut OpenOptions| as_user(USER, || options.open(path).map(drop));
    let access = |wanted: rustix::fs::Access| {
        let at = rustix::fs::CWD;
        let flags = rustix::fs::AtFlags::EACCESS;
        as_user(USER, || {
            rustix::fs::accessat(at, path, wanted, flags).map_err(io::Error::from)
        })
    };
    vec![
        ("read", open(OpenOptions::new().read(true))),
        ("write", open(OpenOptions::new().write(true))),
        ("append", open(OpenOptions::new().append(true))),
        ("access", access(rustix::fs::Access::READ_OK)),
    ]
}

fn all_refused(what: &str, path: &Path, errno: Errno) -> Outcome {
    for (how, result) in tries(path) {
        same_errno(format!("{what}: {how}"), result, errno)?;
    }
    Ok(())
}

fn all_allowed(what: &str, path: &Path) -> Outcome {
    for (how, result) in tries(path) {
        result.at(format!("{what}: {how}"))?;
    }
    Ok(())
}

fn rights_of_a_file(w: &mut Fixture) -> Outcome {
    let (file, below) = (w.path("f"), w.below("f")?);
    w.make("f", b"secret")?;
    mode(&file, 0o666)?;
    // The second time the dentry was revalidated by nothing but this.
    for _ in 0..2 {
        all_allowed("as made", &file)?;
        mode(&below, 0)?;
        all_refused("chmod 000 behind", &file, Errno::ACCESS)?;
        mode(&below, 0o666)?;
        all_allowed("chmod 666 behind", &file)?;
        // The owner has fewer rights than all others.
        mode(&below, 0o066)?;
        all_allowed("not the owner", &file)?;
        chown(&below, Some(USER), None)?;
        all_refused("chown behind to the user", &file, Errno::ACCESS)?;
        chown(&below, Some(OTHER), None)?;
        all_allowed("chown behind to another", &file)?;
        chown(&below, Some(0), None)?;
        mode(&below, 0o666)?;
    }
    run(&["setfacl", "-m", "u:1000:-", &below.display().to_string()])?;
    all_refused("an ACL behind", &file, Errno::ACCESS)?;
    run(&["setfacl", "-b", &below.display().to_string()])?;
    all_allowed("no ACL any more", &file)
}

fn rights_of_a_directory(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    w.make("d/f", b"inside")?;
    mode(&w.path("d"), 0o777)?;
    mode(&w.path("d/f"), 0o666)?;
    let (dir, file, below) = (w.path("d"), w.path("d/f"), w.below("d")?);
    all_allowed("as made", &file)?;
    let held = File::open(&dir)?;
    let make = |name: &str| {
        as_user(USER, || {
            let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
            let made = rustix::fs::openat(&held, name, flags, rustix::fs::Mode::RUSR);
            made.map(drop).map_err(io::Error::from)
        })
    };
    make("one").at("creating by a descriptor")?;
    mode(&below, 0o700)?;
    all_refused("chmod 700 behind", &file, Errno::ACCESS)?;
    same_errno("creating in it", make("two"), Errno::ACCESS)?;
    let listed = as_user(USER, || fs::read_dir(&dir).map(drop));
    same_errno("listing it", listed, Errno::ACCESS)?;
    mode(&below, 0o755)?;
    all_allowed("chmod 755 behind", &file)?;
    same_errno("creating in it, 755", make("two"), Errno::ACCESS)?;
    let removed = as_user(USER, || fs::remove_file(&file));
    same_errno("removing in it, 755", removed, Errno::ACCESS)?;
    chown(&below, Some(USER), None)?;
    make("two").at("creating as its owner")
}

/// In a sticky directory only owners remove: the owner is the present one.
fn sticky_owner(w: &mut Fixture) -> Outcome {
    fs::create_dir(w.path("d"))?;
    mode(&w.path("d"), 0o1777)?;
    w.make("d/f", b"")?;
    let (file, below) = (w.path("d/f"), w.below("d/f")?);
    let remove = || as_user(USER, || fs::remove_file(&file));
    same_errno("root's", remove(), Errno::PERM)?;
    chown(&below, Some(USER), None)?;
    fs::metadata(&file)?;
    chown(&below, Some(OTHER), None)?;
    same_errno("another's by now", remove(), Errno::PERM)?;
    chown(&below, Some(USER), None)?;
    remove().at("the user's by now")
}

/// The calls that an owner may make through an open file.
fn owner_by_descriptor(w: &mut Fixture) -> Outcome {
    w.make("f", b"")?;
    chown(w.path("f"), Some(USER), None)?;
    let (file, below) = (w.open("f")?, w.below("f")?);
    let chmod = |mode: u32| as_user(USER, || file.set_permissions(Permissions::from_mode(mode)));
    chmod(0o644).at("as its owner")?;
    chown(&below, Some(OTHER), None)?;
    same_errno("not the owner any more", chmod(0o666), Errno::PERM)?;
    same("the mode", fs::metadata(&below)?.mode() & 0o7777, 0o644)
}

/// chattr +i and +a below the mount, also for root.
fn protection(w: &mut Fixture) -> Outcome {
    w.make("f", b"one")?;
    fs::create_dir(w.path("d"))?;
    w.make("d/f", b"")?;
    let (file, inside) = (w.path("f"), w.path("d/f"));
    let write = || OpenOptions::new().write(true).open(&file).map(drop);
    let open = w.open("f")?;
    fs::metadata(&file)?;
    fs::metadata(&inside)?;
    let chattr = |flags: &str, name: &str| {
        let below = w.below(name)?.display().to_string();
        run(&["chattr", flags, &below]).map(drop)
    };
    write().at("as made")?;
    chattr("+i", "f")?;
    let results = [
        ("write", write()),
        ("unlink", fs::remove_file(&file)),
        ("rename", fs::rename(&file, w.path("g"))),
        ("link", fs::hard_link(&file, w.path("g"))),
        (
            "chmod",
            fs::set_permissions(&file, Permissions::from_mode(0o600)),
        ),
        ("truncate", open.set_len(0)),
        (
            "touch",
            open.set_modified(std::time::SystemTime::UNIX_EPOCH),
        ),
    ];
    for (what, result) in results {
        same_errno(format!("+i behind: {what}"), result, Errno::PERM)?;
    }
    chattr("-i", "f")?;
    write().at("-i behind")?;
    chattr("+a", "f")?;
    same_errno("+a behind: write", write(), Errno::PERM)?;
    let append = OpenOptions::new().append(true).open(&file);
    append.at("+a behind: append")?.write_all(b" two")?;
    chattr("-a", "f")?;
    write().at("-a behind")?;
    chattr("+i", "d")?;
    same_errno("+i of its directory", fs::remove_file(&inside), Errno::PERM)?;
    let made = File::create_new(w.path("d/new"));
    same_errno("+i of its directory: create", made, Errno::PERM)?;
    chattr("-i", "d")?;
    fs::remove_file(&inside).at("-i of its directory")?;
    w.same("the content", "f", b"one two")
}

/// A write clears set-id bits that were set below after the file was opened.
fn set_id_bits(w: &mut Fixture) -> Outcome {
    w.make("f", b"one")?;
    mode(&w.path("f"), 0o777)?;
    let below = w.below("f")?;
    let file = as_user(USER, || OpenOptions::new().write(true).open(w.path("f")))?;
    as_user(USER, || file.write_all_at(b"two", 0))?;
    mode(&below, 0o6777)?;
    as_user(USER, || file.write_all_at(b"six", 0))?;
    same(
        "after a write",
        fs::metadata(&below)?.mode() & 0o7777,
        0o777,
    )
}

const OLD: usize = 4096;
const NEW: usize = 104_096;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 7 % 251) as u8).collect()
}

/// A file of `OLD` bytes, cached by the mount and open, that grew to `NEW` below.
fn grown(w: &Fixture, name: &str) -> Outcome<File> {
    w.make(name, &bytes(OLD))?;
    let file = w.open(name)?;
    let mut page = vec![0; OLD];
    file.read_exact_at(&mut page, 0)?;
    let mut below = OpenOptions::new().append(true).open(w.below(name)?)?;
    below.write_all(&bytes(NEW)[OLD..])?;
    Ok(file)
}

/// All ways to take a file's content, up to its end.
type AccessFn = fn(&File, PathBuf) -> io::Result<Vec<u8>>;
const WAYS: &[(&str, AccessFn)] = &[
    ("read", by_read),
    ("stat and read", by_stat),
    ("seek", by_seek),
    ("copy_file_range", by_copy),
    ("sendfile", by_sendfile),
    ("splice", by_splice),
    ("mmap", by_map),
    ("clone", by_clone),
];

fn by_read(mut file: &File, _to: PathBuf) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    file.read_to_end(&mut all)?;
    Ok(all)
}

fn by_stat(file: &File, _to: PathBuf) -> io::Result<Vec<u8>> {
    let mut all = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut all, 0)?;
    Ok(all)
}

fn by_seek(mut file: &File, _to: PathBuf) -> io::Result<Vec<u8>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut all = vec![0; end as usize];
    file.read_exact_at(&mut all, 0)?;
    Ok(all)
}

fn new_file(to: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).open(to)
}

fn by_copy(file: &File, to: PathBuf) -> io::Result<Vec<u8>> {
    let copy = new_file(&to)?;
    while rustix::fs::copy_file_range(file, None, &copy, None, 1 << 20)? > 0 {}
    fs::read(to)
}

fn by_sendfile(file: &File, to: PathBuf) -> io::Result<Vec<u8>> {
    let copy = new_file(&to)?;
    while rustix::fs::sendfile(&copy, file, None, 1 << 20)? > 0 {}
    fs::read(to)
}

fn by_splice(file: &File, _to: PathBuf) -> io::Result<Vec<u8>> {
    let (output, input) = rustix::pipe::pipe()?;
    let flags = rustix::pipe::SpliceFlags::empty();
    let mut all = Vec::new();
    loop {
        let count = rustix::pipe::splice(file, None, &input, None, 1 << 15, flags)?;
        let mut part = vec![0; count];
        if count == 0 {
            return Ok(all);
        }
        File::from(output.try_clone()?).read_exact(&mut part)?;
        all.extend(part);
    }
}

fn by_map(file: &File, _to: PathBuf) -> io::Result<Vec<u8>> {
    Ok(Map::of(file, NEW, true, false)?.load(0, NEW))
}

/// Where there are no clones there is nothing to see.
fn by_clone(file: &File, to: PathBuf) -> io::Result<Vec<u8>> {
    let copy = new_file(&to)?;
    match rustix::fs::ioctl_ficlone(&copy, file) {
        Ok(()) => fs::read(to),
        Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(bytes(NEW)),
        Err(error) => Err(error.into()),
    }
}

fn size_grown(w: &mut Fixture) -> Outcome {
    for (number, (how, way)) in WAYS.iter().enumerate() {
        let file = grown(w, &format!("f{number}"))?;
        let all = way(&file, w.path(&format!("copy{number}"))).at(how)?;
        same_bytes(how, &all, &bytes(NEW))?;
    }
    Ok(())
}

fn size_cut(w: &mut Fixture) -> Outcome {
    for (number, (how, way)) in WAYS.iter().enumerate() {
        if matches!(*how, "mmap" | "clone") {
            continue;
        }
        let name = format!("f{number}");
        w.make(&name, &bytes(NEW))?;
        let file = w.open(&name)?;
        file.read_exact_at(&mut vec![0; NEW], 0)?;
        let below = OpenOptions::new().write(true).open(w.below(&name)?)?;
        below.set_len(OLD as u64)?;
        let all = way(&file, w.path(&format!("copy{number}"))).at(how)?;
        same_bytes(how, &all, &bytes(OLD))?;
    }
    Ok(())
}

/// cp(1), by name and from an open descriptor.
fn size_for_cp(w: &mut Fixture) -> Outcome {
    let _open = grown(w, "f")?;
    w.sh("cp f copy")?;
    w.same("cp", "copy", &bytes(NEW))?;
    let _open = grown(w, "g")?;
    w.sh("cp --sparse=always g sparse; cp --reflink=auto g again; cat g > cat")?;
    for name in ["sparse", "again", "cat"] {
        w.same(name, name, &bytes(NEW))?;
    }
    Ok(())
}

/// Appended data follows the data that was added below the mount.
fn size_for_append(w: &mut Fixture) -> Outcome {
    grown(w, "f")?;
    let mut file = OpenOptions::new().append(true).open(w.path("f"))?;
    let mut below = OpenOptions::new().append(true).open(w.below("f")?)?;
    let mut want = bytes(NEW);
    for round in 0..5u8 {
        below.write_all(&[round; 100])?;
        want.extend([round; 100]);
        file.write_all(&[round; 50])?;
        want.extend([round; 50]);
    }
    w.same("in order", "f", &want)
}
