// SPDX-License-Identifier: GPL-2.0

//! Pass-through of the calls of programs on names, attributes and directories.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::{symlink, MetadataExt};

use rustix::fs::{inotify, AtFlags, RawDir, RenameFlags, SeekFrom, XattrFlags, CWD};

use crate::harness::Test;
use crate::outcome::{check, Outcome};
use crate::shadow::pattern;
use crate::transcript::{compare, Transcript};

pub const TESTS: &[Test] = &[
    Test::new("same-directories", |w| compare(w, directories)).raw(),
    Test::new("same-rename", |w| compare(w, rename)).raw(),
    Test::new("same-links", |w| compare(w, links)).raw(),
    Test::new("same-special-files", |w| compare(w, special_files)).raw(),
    Test::new("same-names", |w| compare(w, names)).raw(),
    Test::new("same-xattr", |w| compare(w, xattr)).raw(),
    Test::new("same-acl", |w| compare(w, acl)).raw(),
    Test::new("same-modes", |w| compare(w, modes)).raw(),
    Test::new("same-statfs", |w| compare(w, statfs)).raw(),
    Test::new("same-inotify", |w| compare(w, inotify_events)).raw(),
    Test::new("same-readdir", |w| compare(w, readdir))
        .raw()
        .seconds(120),
];

fn directories(t: &mut Transcript) -> Outcome {
    t.must("mkdir", fs::create_dir(t.path("d")));
    t.call("mkdir twice", fs::create_dir(t.path("d")));
    t.call("mkdir in nothing", fs::create_dir(t.path("x/y")));
    t.must("deep", fs::create_dir_all(t.path("a/b/c/e/f/g")));
    fs::write(t.path("a/b/file"), "x")?;
    t.call("rmdir full", fs::remove_dir(t.path("a/b")));
    t.call("rmdir a file", fs::remove_dir(t.path("a/b/file")));
    t.call(
        "unlink a directory",
        rustix::fs::unlinkat(CWD, t.path("d"), AtFlags::empty()),
    );
    t.must("rmdir", fs::remove_dir(t.path("d")));
    t.call("rmdir twice", fs::remove_dir(t.path("d")));
    t.call("rmdir dot", fs::remove_dir(t.path("a/.")));
    t.call("rmdir dot dot", fs::remove_dir(t.path("a/b/..")));
    t.sh("chmod 2775 a; mkdir a/inherits; stat -c %a:%g a/inherits; find . | sort");
    t.sh("mkdir open; cd open; rmdir ../open; ls; touch x 2>&1 | grep -o 'No such.*'; true");
    t.stat("after", "a");
    Ok(())
}

fn rename(t: &mut Transcript) -> Outcome {
    let rename = |t: &mut Transcript, from: &str, to: &str, flags: RenameFlags| {
        let result = rustix::fs::renameat_with(CWD, t.path(from), CWD, t.path(to), flags);
        t.call(&format!("rename {from} {to} {flags:?}"), result);
    };
    t.sh("echo one > f; echo two > g; mkdir -p d/e d2; ln f hard; ln -s f l");
    let plain = RenameFlags::empty();
    let (exclusive, exchange) = (RenameFlags::NOREPLACE, RenameFlags::EXCHANGE);
    rename(t, "f", "g", exclusive);
    rename(t, "f", "new", exclusive);
    rename(t, "new", "g", exchange);
    t.sh("cat new g");
    rename(t, "new", "g", plain);
    rename(t, "none", "g", plain);
    rename(t, "none", "g", exchange);
    rename(t, "g", "none", exchange);
    rename(t, "g", "hard", plain);
    rename(t, "d", "d2/moved", plain);
    rename(t, "d2", "d2/moved/e", plain);
    rename(t, "d2/moved", "g", plain);
    rename(t, "g", "d2/moved", plain);
    rename(t, "d2/moved/e", "l", exchange);
    rename(t, "g", "d2/moved/deep", plain);
    rename(t, ".", "x", plain);
    rename(t, "d2/..", "x", plain);
    rename(t, "g", "g", plain);
    rename(t, "g", "x", exclusive | exchange);
    t.sh("mkdir full empty; touch full/x; mv -T empty full 2>&1; mv -T full empty; find . | sort");
    t.sh("for n in $(seq 8); do echo $n > t.new; mv t.new t; done; cat t");
    Ok(())
}

fn links(t: &mut Transcript) -> Outcome {
    fs::write(t.path("f"), "shared")?;
    t.must("link", fs::hard_link(t.path("f"), t.path("g")));
    t.call("link twice", fs::hard_link(t.path("f"), t.path("g")));
    let one = fs::metadata(t.path("f"))?;
    let two = fs::metadata(t.path("g"))?;
    check!(one.ino() == two.ino(), "two links, two inodes");
    t.note("links", (one.nlink(), two.nlink()));
    t.sh("echo more >> g; cat f; rm f; cat g; stat -c %h g");
    fs::create_dir(t.path("d"))?;
    t.call("link a directory", fs::hard_link(t.path("d"), t.path("e")));
    t.call("link nothing", fs::hard_link(t.path("none"), t.path("e")));
    t.call(
        "link to another filesystem",
        fs::hard_link(t.path("g"), "/run/lfs-tests-link"),
    );
    t.must("symlink", symlink("g", t.path("l")));
    t.must("dangling", symlink("nowhere", t.path("dangling")));
    t.must("long", symlink("x".repeat(1000), t.path("long")));
    t.call(
        "as long as may be",
        symlink("x".repeat(4095), t.path("longest")),
    );
    t.call("too long", symlink("x".repeat(5000), t.path("longer")));
    t.call("empty", symlink("", t.path("empty")));
    t.must("loop", symlink("loop", t.path("loop")));
    t.call("through the loop", fs::read(t.path("loop")));
    t.call("through the link", fs::read(t.path("l")));
    t.call("readlink", fs::read_link(t.path("l")));
    t.call("readlink of a file", fs::read_link(t.path("g")));
    t.must(
        "link a symlink",
        rustix::fs::linkat(CWD, t.path("l"), CWD, t.path("l2"), AtFlags::empty()),
    );
    for name in ["l", "dangling", "long", "l2"] {
        t.stat("links", name);
    }
    Ok(())
}

fn special_files(t: &mut Transcript) -> Outcome {
    t.sh("mkfifo p; (echo through > p &) ; cat p");
    t.sh("mknod c c 1 3; echo gone > c; cat c; mknod b b 7 250; mknod w c 0 0; stat -c '%F %t:%T' p c b w");
    t.sh("mknod z c 1 5; head -c 100 z | od -An -tx1 | tr -d ' \\n'");
    t.sh("python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); s.bind(\"s\"); s.listen(1); c=socket.socket(socket.AF_UNIX); c.connect(\"s\"); print(\"connected\")'; stat -c %F s");
    for name in ["p", "c", "b", "z", "s"] {
        t.stat("special", name);
    }
    t.sh("mv p q; ln q r; rm q c; ls");
    Ok(())
}

fn names(t: &mut Transcript) -> Outcome {
    let long = "n".repeat(255);
    let longer = "n".repeat(256);
    let all = [
        " ",
        "new\nline",
        "ünï",
        "*",
        "-rf",
        "%41",
        "..x",
        ".x",
        "a=b c",
        &long,
        &longer,
        "\\",
        "\"",
    ];
    for name in all {
        t.call(&format!("create {name:.20}"), fs::write(t.path(name), name));
        t.call(&format!("read {name:.20}"), fs::read(t.path(name)));
    }
    use std::os::unix::ffi::OsStrExt;
    let bytes = std::ffi::OsStr::from_bytes(b"\xff\xfe raw");
    t.call("not UTF-8", fs::write(t.dir.join(bytes), "x"));
    t.call(
        ".loggerfs deeper is a plain name",
        fs::create_dir(t.path("d")),
    );
    t.call("made", fs::create_dir(t.path("d/.loggerfs")));
    t.call("with a file", fs::write(t.path("d/.loggerfs/x"), "y"));
    t.call("and a name like it", fs::write(t.path(".loggerfs2"), "y"));
    Ok(())
}

fn xattr(t: &mut Transcript) -> Outcome {
    fs::write(t.path("f"), "x")?;
    fs::create_dir(t.path("d"))?;
    symlink("f", t.path("l"))?;
    let none = XattrFlags::empty();
    for (file, key) in [("f", "user.one"), ("d", "user.two"), ("f", "trusted.three")] {
        let path = t.path(file);
        let mut value = [0u8; 300];
        t.must(
            key,
            rustix::fs::setxattr(&path, key, b"value", XattrFlags::CREATE),
        );
        t.call(
            "again",
            rustix::fs::setxattr(&path, key, b"v", XattrFlags::CREATE),
        );
        t.must(
            "replace",
            rustix::fs::setxattr(&path, key, &[7; 200], XattrFlags::REPLACE),
        );
        t.must("get", rustix::fs::getxattr(&path, key, &mut value[..]));
        t.note(
            "value",
            value.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
        );
        t.call(
            "too small",
            rustix::fs::getxattr(&path, key, &mut value[..3]),
        );
        t.note("list", crate::transcript::attributes(&path));
    }
    t.must("remove", rustix::fs::removexattr(t.path("f"), "user.one"));
    t.call(
        "remove twice",
        rustix::fs::removexattr(t.path("f"), "user.one"),
    );
    t.call(
        "replace nothing",
        rustix::fs::setxattr(t.path("f"), "user.no", b"v", XattrFlags::REPLACE),
    );
    t.call(
        "of a symlink",
        rustix::fs::lsetxattr(t.path("l"), "user.x", b"v", none),
    );
    t.call(
        "unknown space",
        rustix::fs::setxattr(t.path("f"), "nonsense.x", b"v", none),
    );
    t.call(
        "empty value",
        rustix::fs::setxattr(t.path("f"), "user.empty", b"", none),
    );
    t.call(
        "huge",
        rustix::fs::setxattr(t.path("f"), "user.huge", &vec![1; 70_000], none),
    );
    t.sh("setpriv --reuid 2000 --clear-groups getfattr -n trusted.three f 2>&1 | head -1");
    t.sh("setpriv --reuid 2000 --clear-groups setfattr -n user.z -v 1 f 2>&1 | head -1");
    Ok(())
}

fn acl(t: &mut Transcript) -> Outcome {
    t.sh("echo x > f; chmod 640 f; setfacl -m u:2000:rw,g:2001:r f; getfacl -c f; stat -c %a f");
    t.sh("setpriv --reuid 2000 --regid 2000 --clear-groups bash -c 'cat f; echo y >> f; cat f'");
    t.sh("setpriv --reuid 2001 --regid 2000 --clear-groups cat f 2>&1 || true");
    t.sh("chmod 600 f; getfacl -c f; setpriv --reuid 2000 --clear-groups cat f 2>&1 || true");
    t.sh("mkdir d; setfacl -d -m u:2000:rwx d; touch d/new; mkdir d/sub; getfacl -c d/new d/sub");
    t.sh("setfacl -b f; getfacl -c f; setfacl -x u:2000 d 2>&1; getfacl -c d; umask 077; touch d/quiet; getfacl -c d/quiet");
    t.sh("cp -a d copy; getfacl -c copy/new");
    Ok(())
}

fn modes(t: &mut Transcript) -> Outcome {
    t.sh("umask 022; touch f; mkdir d; stat -c %a f d; umask 077; touch g; stat -c %a g");
    t.sh("chmod 7777 f; stat -c %a f; chmod 0 f; cat f; chmod 1777 d; chown 1000:1001 f d; stat -c %a:%u:%g f d");
    t.sh("chown -h 5:6 f; ln -s f l; chown -h 7:8 l; stat -c %u:%g l f");
    let as_user = "setpriv --reuid 2000 --regid 2000 --clear-groups";
    for line in [
        "cat f",
        "chmod 777 f",
        "chown 2000 f",
        "touch f",
        "rm d/x",
        "touch d/y",
        "echo >> f",
    ] {
        t.sh(&format!("touch d/x; {as_user} bash -c '{line}' 2>&1; true"));
    }
    t.sh(&format!("chmod 777 .; {as_user} bash -c 'echo mine > own; chmod 600 own; mkdir owndir; chgrp 3000 own' 2>&1; stat -c %a:%u:%g own owndir; chmod 755 ."));
    t.sh(&format!(
        "chmod 700 d; {as_user} ls d 2>&1; {as_user} test -r f; echo $?"
    ));
    Ok(())
}

fn statfs(t: &mut Transcript) -> Outcome {
    let stat = rustix::fs::statfs(&t.dir)?;
    t.note("block size", stat.f_bsize);
    t.note("blocks", stat.f_blocks > 0);
    t.note("name length", stat.f_namelen);
    let free =
        |t: &Transcript| rustix::fs::statvfs(&t.dir).map(|stat| stat.f_bfree * stat.f_frsize);
    let directory = File::open(&t.dir)?;
    rustix::fs::syncfs(&directory)?;
    let before = free(t)?;
    fs::write(t.path("f"), pattern(1, 32 << 20))?;
    rustix::fs::syncfs(&directory)?;
    let after = free(t)?;
    t.note("free space shrinks", before > after + (16 << 20));
    t.sh("df -T . > /dev/null && echo fine");
    Ok(())
}

fn inotify_events(t: &mut Transcript) -> Outcome {
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK)?;
    let all = inotify::WatchFlags::from_bits_retain(0xfff);
    inotify::add_watch(&watch, &t.dir, all)?;
    t.sh("echo x > f; cat f; chmod 600 f; mv f g; ln g h; rm h; mkdir d; rmdir d; truncate -s 0 g; touch g; rm g");
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut reader = inotify::Reader::new(&watch, &mut buffer);
    let mut events = Vec::new();
    while let Ok(event) = reader.next() {
        let name = event
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        events.push(format!("{:x} {name:?}", event.events().bits()));
    }
    t.note("events", &events);
    check!(events.len() > 20, "only {} events", events.len());
    Ok(())
}

/// 20,000 names (4,000 with the usual sizes: several blocks of every filesystem's directories),
/// then half of them; every position returned by the reader leads back to the same entry.
fn readdir(t: &mut Transcript) -> Outcome {
    let count = if t.full { 10_000 } else { 2_000 };
    fs::create_dir(t.path("d"))?;
    for number in 0..count {
        File::create(t.path(&format!("d/name-{number}")))?;
    }
    t.note("all", listed(t)?);
    for number in (0..count).step_by(2) {
        fs::remove_file(t.path(&format!("d/name-{number}")))?;
    }
    t.note("half", listed(t)?);
    positions(t)?;
    t.sh("ls -f d | wc -l; ls d | md5sum; find d -type f | wc -l");
    fs::remove_dir_all(t.path("d"))?;
    Ok(())
}

/// How many names there are, none twice.
fn listed(t: &Transcript) -> Outcome<usize> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(t.path("d"))? {
        let name = entry?.file_name();
        check!(names.insert(name.clone()), "{name:?} is listed twice");
    }
    Ok(names.len())
}

fn positions(t: &mut Transcript) -> Outcome {
    let directory = File::open(t.path("d"))?;
    let mut entries = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); 4096];
    let mut reader = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = reader.next() {
        let entry = entry?;
        entries.push((entry.file_name().to_owned(), entry.next_entry_cookie()));
    }
    t.note("entries", entries.len());
    for number in (0..entries.len() - 1).step_by(entries.len() / 10) {
        rustix::fs::seek(&directory, SeekFrom::Start(entries[number].1))?;
        let mut buffer = vec![MaybeUninit::uninit(); 512];
        let mut reader = RawDir::new(&directory, &mut buffer);
        match reader.next() {
            Some(entry) => {
                let name = entry?.file_name().to_owned();
                check!(
                    name == entries[number + 1].0,
                    "after {:?} comes {name:?}, not {:?}",
                    entries[number].0,
                    entries[number + 1].0
                );
            }
            None => crate::outcome::fail!("the directory ends at {:?}", entries[number].0),
        }
    }
    Ok(())
}
