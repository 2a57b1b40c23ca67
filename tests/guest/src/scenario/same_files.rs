// SPDX-License-Identifier: GPL-2.0

//! Pass-through of the calls of programs on files: the same results as on the raw filesystem.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};

use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom, Timespec, Timestamps, CWD,
};
use rustix::pipe::SpliceFlags;

use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::Outcome;
use crate::shadow::pattern;
use crate::sys::{self, Map};
use crate::transcript::{compare, Transcript};

pub const TESTS: &[Test] = &[
    Test::new("same-open-flags", |w| compare(w, open_flags)).raw(),
    Test::new("same-read-write", |w| compare(w, read_write)).raw(),
    Test::new("same-sparse", |w| compare(w, sparse)).raw(),
    Test::new("same-fallocate", |w| compare(w, fallocate)).raw(),
    Test::new("same-copy-range", |w| compare(w, copy_range)).raw(),
    Test::new("same-clone", |w| compare(w, clone))
        .raw()
        .only(&[Lower::Btrfs, Lower::Xfs]),
    Test::new("same-splice-read", |w| compare(w, splice_read)).raw(),
    Test::new("same-unlinked-open", |w| compare(w, unlinked_open)).raw(),
    Test::new("same-tmpfile", |w| compare(w, tmpfile)).raw(),
    Test::new("same-exec", |w| compare(w, exec)).raw(),
    Test::new("same-mmap", |w| compare(w, mmap)).raw(),
    Test::new("same-times", |w| compare(w, times)).raw(),
    Test::new("same-setuid-stripped", |w| compare(w, setuid_stripped)).raw(),
    Test::new("same-locks", |w| compare(w, locks)).raw(),
    Test::new("same-leases", |w| compare(w, leases)).raw(),
    Test::new("same-sync", |w| compare(w, sync)).raw(),
    Test::new("same-chattr", |w| compare(w, chattr))
        .raw()
        .only(&[Lower::Ext4, Lower::Xfs, Lower::Btrfs]),
];

fn create(t: &Transcript, name: &str) -> Outcome<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    Ok(options.open(t.path(name))?)
}

fn open_flags(t: &mut Transcript) -> Outcome {
    fs::write(t.path("f"), "content")?;
    fs::create_dir(t.path("d"))?;
    std::os::unix::fs::symlink("f", t.path("l"))?;
    let sets = [
        OFlags::RDONLY,
        OFlags::WRONLY,
        OFlags::RDWR,
        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        OFlags::RDONLY | OFlags::DIRECTORY,
        OFlags::RDONLY | OFlags::NOFOLLOW,
        OFlags::RDWR | OFlags::DIRECT,
        OFlags::RDONLY | OFlags::PATH,
        OFlags::RDONLY | OFlags::NOATIME,
        OFlags::RDWR | OFlags::APPEND,
        OFlags::RDWR | OFlags::CREATE,
        OFlags::WRONLY | OFlags::TRUNC,
        OFlags::RDWR | OFlags::TMPFILE,
    ];
    for name in ["f", "d", "l", "none/x", "f/x", "", "d/.", "d/.."] {
        for flags in sets {
            let what = format!("open {name} {flags:?}");
            let opened = rustix::fs::open(t.path(name), flags, Mode::from_raw_mode(0o640));
            let opened = opened.and_then(rustix::fs::fcntl_getfl);
            t.call(&what, opened);
        }
    }
    t.stat("after", "f");
    Ok(())
}

fn read_write(t: &mut Transcript) -> Outcome {
    let mut file = create(t, "f")?;
    t.must("write", file.write(&pattern(1, 70_000)));
    t.must("write at 3", file.write_at(b"middle", 30_000));
    t.call("seek to the end", file.seek(std::io::SeekFrom::End(-10)));
    let mut tail = Vec::new();
    t.must("read the tail", file.read_to_end(&mut tail));
    t.note("tail", tail);
    t.call(
        "seek before the start",
        file.seek(std::io::SeekFrom::Current(-1_000_000)),
    );
    let mut bytes = [0; 100];
    t.call("read at the end", file.read(&mut bytes));
    t.call("read at 69990", file.read_at(&mut bytes, 69_990));
    t.call("read beyond", file.read_at(&mut bytes, 1 << 40));
    t.call(
        "write at the largest offset",
        file.write_at(b"x", i64::MAX as u64 - 1),
    );
    t.call("write a negative offset", file.write_at(b"x", u64::MAX - 5));
    t.call(
        "truncate to the largest size",
        file.set_len(i64::MAX as u64),
    );
    t.must("and back", file.set_len(70_001));
    let reader = File::open(t.path("f"))?;
    t.call("write to a reader", rustix::io::write(&reader, b"x"));
    t.call("truncate a reader", reader.set_len(3));
    let writer = OpenOptions::new().write(true).open(t.path("f"))?;
    t.call("read from a writer", (&writer).read(&mut bytes));
    let mut append = OpenOptions::new().append(true).open(t.path("f"))?;
    t.must("append", append.write(b"appended"));
    t.call("its position", append.stream_position());
    t.call(
        "truncate by path",
        rustix::fs::open(t.path("f"), OFlags::WRONLY | OFlags::TRUNC, Mode::empty()).map(drop),
    );
    t.stat("truncated", "f");
    let direct = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(t.path("f"))?;
    let mut memory = Map::anonymous(8192)?;
    t.must("direct", rustix::io::pwrite(&direct, memory.bytes(), 4096));
    t.call(
        "direct, odd offset",
        rustix::io::pwrite(&direct, memory.bytes(), 100),
    );
    t.call("read a directory", File::open(&t.dir)?.read(&mut bytes));
    t.stat("after", "f");
    Ok(())
}

fn sparse(t: &mut Transcript) -> Outcome {
    let file = create(t, "f")?;
    file.set_len(4 << 20)?;
    file.write_all_at(&[1; 65536], 1 << 20)?;
    file.sync_all()?;
    for at in [
        0,
        100,
        1 << 20,
        (1 << 20) + 65536,
        (4 << 20) - 1,
        4 << 20,
        5 << 20,
    ] {
        t.call(
            &format!("SEEK_DATA {at}"),
            rustix::fs::seek(&file, SeekFrom::Data(at)),
        );
        t.call(
            &format!("SEEK_HOLE {at}"),
            rustix::fs::seek(&file, SeekFrom::Hole(at)),
        );
    }
    t.note("few blocks", file.metadata()?.blocks() < 512);
    t.sh("cp --sparse=always f g && cmp f g && stat -c %s g");
    Ok(())
}

fn fallocate(t: &mut Transcript) -> Outcome {
    let modes = [
        ("allocate", FallocateFlags::empty()),
        ("keep size", FallocateFlags::KEEP_SIZE),
        (
            "punch",
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        ),
        ("zero", FallocateFlags::ZERO_RANGE),
        ("collapse", FallocateFlags::COLLAPSE_RANGE),
        ("insert", FallocateFlags::INSERT_RANGE),
        ("unshare", FallocateFlags::UNSHARE_RANGE),
        ("nonsense", FallocateFlags::PUNCH_HOLE),
    ];
    for (what, flags) in modes {
        fs::write(t.path("f"), pattern(2, 100_000))?;
        let file = create(t, "f")?;
        file.sync_all()?;
        t.call(what, rustix::fs::fallocate(&file, flags, 8192, 16384));
        t.call(
            &format!("{what}, beyond"),
            rustix::fs::fallocate(&file, flags, 98_304, 16384),
        );
        t.call(
            &format!("{what}, empty"),
            rustix::fs::fallocate(&file, flags, 0, 0),
        );
        t.note("content", crate::transcript::hash(&fs::read(t.path("f"))?));
        t.stat(what, "f");
        fs::remove_file(t.path("f"))?;
    }
    let reader = File::open(&t.dir)?;
    t.call("of a directory", sys::fallocate(&reader, 0, 0, 10));
    Ok(())
}

fn copy_range(t: &mut Transcript) -> Outcome {
    fs::write(t.path("from"), pattern(3, 200_000))?;
    let from = File::open(t.path("from"))?;
    let to = create(t, "to")?;
    let copy = |length: usize, mut start: u64, mut end: u64| {
        rustix::fs::copy_file_range(&from, Some(&mut start), &to, Some(&mut end), length)
    };
    t.must("all", copy(200_000, 0, 0));
    t.must("a piece", copy(5000, 100, 50_000));
    t.must("beyond the end", copy(5000, 0, 300_000));
    t.call("from the end", copy(5000, 200_000, 0));
    t.call("nothing", copy(0, 0, 0));
    let outside = fs::File::create("/run/lfs-tests-outside")?;
    let mut start = 0;
    let result = rustix::fs::copy_file_range(&from, Some(&mut start), &outside, None, 1000);
    t.call("to another filesystem", result);
    Ok(())
}

fn clone(t: &mut Transcript) -> Outcome {
    fs::write(t.path("from"), pattern(4, 131_072))?;
    let from = File::open(t.path("from"))?;
    let to = create(t, "to")?;
    t.must("clone", rustix::fs::ioctl_ficlone(&to, &from));
    to.write_all_at(b"only here", 4000)?;
    t.sh("cp --reflink=always from third && cmp from third; cmp from to | head -c 30; true");
    t.call(
        "clone a directory",
        rustix::fs::ioctl_ficlone(&to, File::open(&t.dir)?),
    );
    Ok(())
}

fn splice_read(t: &mut Transcript) -> Outcome {
    fs::write(t.path("f"), pattern(5, 30_000))?;
    let file = File::open(t.path("f"))?;
    let (read_end, write_end) = rustix::pipe::pipe()?;
    let mut at = 10_000;
    let none = SpliceFlags::empty();
    t.must(
        "splice",
        rustix::pipe::splice(&file, Some(&mut at), &write_end, None, 15_000, none),
    );
    t.note("offset", at);
    let mut bytes = vec![0; 15_000];
    File::from(read_end).read_exact(&mut bytes)?;
    t.note("bytes", crate::transcript::hash(&bytes));
    let out = create(t, "out")?;
    let mut from = 100;
    t.must(
        "sendfile",
        rustix::fs::sendfile(&out, &file, Some(&mut from), 20_000),
    );
    t.note("offset", from);
    Ok(())
}

fn unlinked_open(t: &mut Transcript) -> Outcome {
    let file = create(t, "f")?;
    file.write_all_at(b"before", 0)?;
    fs::remove_file(t.path("f"))?;
    t.must("write", file.write_at(b"after", 3));
    let mut bytes = [0; 20];
    t.must("read", file.read_at(&mut bytes, 0));
    t.note("bytes", bytes);
    t.note("links", file.metadata()?.nlink());
    t.must("truncate", file.set_len(2));
    t.must(
        "chmod",
        file.set_permissions(fs::Permissions::from_mode(0o600)),
    );
    fs::write(t.path("f"), "another")?;
    t.note("size of the old", file.metadata()?.size());
    let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    t.call(
        "link it again",
        rustix::fs::linkat(CWD, &proc, CWD, t.path("again"), AtFlags::SYMLINK_FOLLOW),
    );
    Ok(())
}

fn tmpfile(t: &mut Transcript) -> Outcome {
    let flags = OFlags::RDWR | OFlags::TMPFILE;
    let file = rustix::fs::open(&t.dir, flags, Mode::from_raw_mode(0o640))?;
    t.must("write", rustix::io::write(&file, b"no name yet"));
    let stat = rustix::fs::fstat(&file)?;
    t.note("links", stat.st_nlink);
    let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let follow = AtFlags::SYMLINK_FOLLOW;
    t.must(
        "link",
        rustix::fs::linkat(CWD, &proc, CWD, t.path("named"), follow),
    );
    t.stat("named", "named");
    t.must("write on", rustix::io::write(&file, b", and now one"));
    let never = rustix::fs::open(&t.dir, flags | OFlags::EXCL, Mode::from_raw_mode(0o600))?;
    let proc = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&never));
    t.call(
        "link what may not be",
        rustix::fs::linkat(CWD, &proc, CWD, t.path("no"), follow),
    );
    Ok(())
}

fn exec(t: &mut Transcript) -> Outcome {
    t.sh("cp /bin/true prog && ./prog && echo ran");
    t.sh("printf '#!/bin/sh\\necho script $1\\n' > s && chmod 755 s && ./s arg");
    t.sh("chmod 644 s; ./s arg; echo $?");
    t.sh("cp /bin/sleep busy; ./busy 3 & sleep 0.3; (echo x >> busy) 2>&1; kill %1; wait; true");
    t.sh("cp /bin/true prog && ldd ./prog | wc -l");
    Ok(())
}

fn mmap(t: &mut Transcript) -> Outcome {
    fs::write(t.path("f"), pattern(6, 10_000))?;
    let file = create(t, "f")?;
    let shared = Map::of(&file, 10_000, true, true);
    t.note("shared", shared.is_ok());
    let mut shared = shared?;
    shared.store(5000, b"through memory");
    t.must("msync", shared.sync());
    let mut bytes = [0; 14];
    t.must("read", file.read_at(&mut bytes, 5000));
    t.note("bytes", bytes);
    file.write_all_at(b"through write", 100)?;
    t.note("memory", shared.load(100, 13));
    let mut private = Map::of(&file, 10_000, false, true)?;
    private.store(0, b"private");
    t.must("read", file.read_at(&mut bytes, 0));
    t.note("unchanged", bytes);
    let reader = File::open(t.path("f"))?;
    t.call(
        "shared writable of a reader",
        Map::of(&reader, 4096, true, true).map(drop),
    );
    t.call(
        "shared read-only of a reader",
        Map::of(&reader, 4096, true, false).map(drop),
    );
    t.call(
        "of a directory",
        Map::of(&File::open(&t.dir)?, 4096, true, false).map(drop),
    );
    Ok(())
}

fn times(t: &mut Transcript) -> Outcome {
    fs::write(t.path("f"), "x")?;
    let stamp = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let stamps = [
        (
            stamp(1_000_000_000, 123_456_789),
            stamp(1_500_000_000, 987_654_321),
        ),
        (stamp(-5, 0), stamp(-1_000_000, 5)),
        (stamp(1, 1_000_000_000), stamp(2, 2)),
        (stamp(0, 0x3fff_fffe), stamp(77, 0)),
    ];
    for (last_access, last_modification) in stamps {
        let times = Timestamps {
            last_access,
            last_modification,
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        t.call(
            "utimensat",
            rustix::fs::utimensat(CWD, t.path("f"), &times, flags),
        );
        let stat = fs::metadata(t.path("f"))?;
        t.note("mtime", (stat.mtime(), stat.mtime_nsec()));
        if last_access.tv_nsec < 1_000_000_000 {
            t.note("atime", (stat.atime(), stat.atime_nsec()));
        }
    }
    let before = fs::metadata(t.path("f"))?;
    std::thread::sleep(std::time::Duration::from_millis(20));
    create(t, "f")?.write_all_at(b"yz", 0)?;
    let after = fs::metadata(t.path("f"))?;
    t.note("mtime moves", after.mtime() > before.mtime());
    t.note(
        "ctime moves",
        (after.ctime(), after.ctime_nsec()) > (before.ctime(), before.ctime_nsec()),
    );
    t.sh("touch -d '2001-02-03 04:05:06.789' f; stat -c %y f; touch -a -d 2003-01-01 f; stat -c %x f");
    t.sh("ln -s f l; touch -h -d 2001-01-01 l; cat l > /dev/null; test $(stat -c %X l) -gt 1000000000; echo $?");
    Ok(())
}

fn setuid_stripped(t: &mut Transcript) -> Outcome {
    let steps = ["printf x >> f", "truncate -s 1 f", "chgrp 1001 f"];
    for step in steps {
        t.sh("rm -f f; printf ab > f; chown 1000:1000 f; chmod 6777 f; stat -c %a f");
        t.sh(&format!("{step}; stat -c %a:%u:%g f"));
        t.sh("rm -f f; printf ab > f; chown 1000:1000 f; chmod 6777 f");
        let line = format!("setpriv --reuid 2000 --regid 2000 --clear-groups bash -c '{step}' 2>&1; stat -c %a:%u:%g f");
        t.sh(&line);
    }
    t.sh("cp /bin/true c && setcap cap_net_raw+ep c && getcap c && printf x >> c && getcap c && echo none");
    t.sh("chmod 666 c; setcap cap_net_raw+ep c; setpriv --reuid 2000 --regid 2000 --clear-groups bash -c 'printf x >> c' 2>&1; getcap c; stat -c %s c");
    Ok(())
}

fn locks(t: &mut Transcript) -> Outcome {
    let one = create(t, "f")?;
    let two = create(t, "f")?;
    t.must(
        "flock",
        rustix::fs::flock(&one, FlockOperation::LockExclusive),
    );
    t.call(
        "flock twice",
        rustix::fs::flock(&two, FlockOperation::NonBlockingLockExclusive),
    );
    t.must("unlock", rustix::fs::flock(&one, FlockOperation::Unlock));
    t.must(
        "flock again",
        rustix::fs::flock(&two, FlockOperation::NonBlockingLockShared),
    );
    let (set, read, write) = (libc::F_OFD_SETLK, libc::F_RDLCK, libc::F_WRLCK);
    t.must("ofd", sys::fcntl_lock(&one, set, write, 0, 100));
    t.call("ofd twice", sys::fcntl_lock(&two, set, write, 50, 100));
    t.must("ofd beside", sys::fcntl_lock(&two, set, write, 100, 100));
    t.call(
        "ofd test",
        sys::fcntl_lock(&two, libc::F_OFD_GETLK, read, 0, 10),
    );
    t.must(
        "posix",
        sys::fcntl_lock(&one, libc::F_SETLK, write, 1000, 10),
    );
    t.sh("flock -n f -c 'echo got it' || echo refused; flock -s -n f -c 'echo shared'");
    t.sh("python3 -c 'import fcntl\nf=open(\"f\",\"r+\")\ntry: fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,5,1000); print(\"got\")\nexcept OSError as e: print(e.errno)'");
    drop(one);
    t.must("ofd after close", sys::fcntl_lock(&two, set, write, 0, 100));
    Ok(())
}

fn leases(t: &mut Transcript) -> Outcome {
    fs::write(t.path("f"), "x")?;
    sys::ignore_signal(libc::SIGIO);
    let reader = File::open(t.path("f"))?;
    t.must(
        "read lease",
        sys::fcntl_number(&reader, libc::F_SETLEASE, libc::F_RDLCK),
    );
    t.call("which", sys::fcntl_number(&reader, libc::F_GETLEASE, 0));
    let flags = OFlags::WRONLY | OFlags::NONBLOCK;
    t.call(
        "open against it",
        rustix::fs::open(t.path("f"), flags, Mode::empty()).map(drop),
    );
    t.must(
        "give it up",
        sys::fcntl_number(&reader, libc::F_SETLEASE, libc::F_UNLCK),
    );
    t.must(
        "open",
        rustix::fs::open(t.path("f"), flags, Mode::empty()).map(drop),
    );
    let other = File::open(t.path("f"))?;
    t.call(
        "write lease with two",
        sys::fcntl_number(&reader, libc::F_SETLEASE, libc::F_WRLCK),
    );
    drop(other);
    drop(reader);
    let writer = create(t, "f")?;
    t.must(
        "write lease",
        sys::fcntl_number(&writer, libc::F_SETLEASE, libc::F_WRLCK),
    );
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    t.call(
        "read against it",
        rustix::fs::open(t.path("f"), flags, Mode::empty()).map(drop),
    );
    t.must(
        "give it up",
        sys::fcntl_number(&writer, libc::F_SETLEASE, libc::F_UNLCK),
    );
    Ok(())
}

fn sync(t: &mut Transcript) -> Outcome {
    let file = create(t, "f")?;
    file.write_all_at(&pattern(7, 50_000), 0)?;
    t.must("fsync", file.sync_all());
    t.must("fdatasync", file.sync_data());
    t.must("syncfs", rustix::fs::syncfs(&file));
    t.must("fsync of a directory", File::open(&t.dir)?.sync_all());
    let reader = File::open(t.path("f"))?;
    t.must("fsync of a reader", reader.sync_all());
    rustix::fs::sync();
    t.sh("sync f; sync -f f; dd if=f of=g conv=fsync oflag=dsync bs=4096 status=none && cmp f g");
    t.call(
        "fadvise",
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed),
    );
    t.note("content", crate::transcript::hash(&fs::read(t.path("f"))?));
    Ok(())
}

fn chattr(t: &mut Transcript) -> Outcome {
    t.sh("echo x > f; mkdir d; chattr +i f && lsattr f | cut -c1-22");
    t.sh("(echo y >> f) 2>&1; rm f 2>&1; mv f g 2>&1; chmod 600 f 2>&1; ln f h 2>&1; truncate -s 0 f 2>&1; true");
    t.sh("chattr -i f && echo y >> f && cat f");
    t.sh("chattr +a f && echo z >> f; (echo new > f) 2>&1; dd if=/dev/null of=f seek=0 conv=notrunc 2>&1; true");
    t.sh("chattr -a f && cat f && chattr +d f && lsattr f | cut -c1-22");
    t.sh("chattr +A d; lsattr -d d | cut -c1-22; chattr +z f 2>/dev/null || echo refused");
    Ok(())
}
