// SPDX-License-Identifier: GPL-2.0

//! The content and attributes that an object had at a point, read by one request, while nothing changes.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, At, Outcome};
use crate::past_read::{self, ask, attribute, now, ObjectId, Reply, Request};
use crate::shadow::Random;
use crate::sys::Map;

pub const TESTS: &[Test] = &[
    Test::new("old-content-of-each-operation", each_operation).seconds(240),
    Test::new("old-content-of-a-mapping", mapping),
    Test::new("old-content-of-the-removed", removed),
    Test::new("old-content-with-holes", holes),
    Test::new("old-content-attributes", attributes),
    Test::new("old-content-beside-a-writer", beside_writer).seconds(120),
    Test::new("old-content-into-the-mount", into_mount),
    Test::new("old-content-refused", refused).seconds(120),
    Test::new("old-content-of-a-former-owner", former_owner),
    Test::new("old-content-dropped", dropped).seconds(120),
    Test::new("old-content-changed-behind", changed_behind).only(BELOW),
    Test::new("old-content-on-a-read-only-mount", read_only).only(BELOW),
];

/// Those that a test can change below.
const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

/// Where output goes: outside of the mount.
fn output(w: &Fixture) -> Outcome<PathBuf> {
    Ok(w.beside()?.join("old"))
}

/// The content that a file had right after the line `seq`.
fn content(w: &Fixture, file: &File, seq: u64) -> Outcome<(Vec<u8>, Reply)> {
    past_read::read(file, ObjectId::default(), seq, &output(w)?)
}

/// The number of the last line.
fn point(w: &Fixture) -> Outcome<u64> {
    Ok(now(&File::open(&w.mnt)?)?.0)
}

/// One random change of a file; an undo or a redo among them.
fn change(w: &Fixture, file: &File, random: &mut Random) -> Outcome {
    let length = file.metadata()?.len();
    let at = random.below(length + 5_000);
    let bytes: Vec<u8> = (0..1 + random.below(9_000))
        .map(|_| random.below(250) as u8)
        .collect();
    match random.below(10) {
        0..=3 => file.write_all_at(&bytes, at)?,
        4 => file.set_len(at)?,
        5 => file.set_len(length / 2)?,
        6 => w
            .sh(&format!("fallocate -p -o {} -l 8192 f", at & !4095))
            .map(drop)?,
        7 => w
            .sh(&format!("fallocate -z -o {at} -l 3000 f || true"))
            .map(drop)?,
        8 => drop(w.try_revert("f", 1 + random.below(3) as usize)),
        _ => drop(w.sh("logctl undo f || logctl redo || true; test -e f || logctl redo")),
    }
    Ok(())
}

/// After each of many changes, undone ones too, the state of each point before can be read.
fn each_operation(w: &mut Fixture) -> Outcome {
    w.make("f", b"the beginning\n")?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(w.path("f"))?;
    let mut random = Random::new(w.seed ^ 0x01d);
    let mut states = vec![(point(w)?, w.read("f")?)];
    for _ in 0..w.times(150, 80) {
        change(w, &file, &mut random)?;
        states.push((point(w)?, w.read("f")?));
    }
    drop(file);
    w.remount_if_lasting()?;
    let file = File::open(w.path("f"))?;
    let last = w.read("f")?;
    for (seq, want) in states.iter().rev() {
        let (bytes, reply) = content(w, &file, *seq)?;
        check!(
            bytes == *want,
            "as of {seq}: {} bytes, not {}",
            bytes.len(),
            want.len()
        );
        same(
            format!("the size as of {seq}"),
            reply.size,
            want.len() as u64,
        )?;
        check!(
            reply.newest <= *seq,
            "the newest of {seq}: {}",
            reply.newest
        );
    }
    same("the present", w.read("f")?, last)
}

/// A store through a mapping is a change as others.
fn mapping(w: &mut Fixture) -> Outcome {
    w.make("f", &[b'a'; 20_000])?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(w.path("f"))?;
    let mut map = Map::of(&file, 20_000, true, true).at("mapping")?;
    let before = point(w)?;
    map.store(5_000, b"one");
    // The request itself logs what was stored so far.
    same(
        "before the store",
        content(w, &file, before)?.0,
        vec![b'a'; 20_000],
    )?;
    let between = point(w)?;
    map.store(5_000, b"two");
    map.store(9_000, b"more");
    same(
        "before both",
        content(w, &file, before)?.0,
        vec![b'a'; 20_000],
    )?;
    let (bytes, _) = content(w, &file, between)?;
    check!(&bytes[5_000..5_003] == b"one", "{:?}", &bytes[5_000..5_003]);
    check!(
        &bytes[9_000..9_004] == b"aaaa",
        "{:?}",
        &bytes[9_000..9_004]
    );
    check!(
        &w.read("f")?[5_000..5_003] == b"two",
        "the present was changed"
    );
    Ok(())
}

/// A removed file is read by its object, at the end and before.
fn removed(w: &mut Fixture) -> Outcome {
    w.make("f", b"one")?;
    let (first, object) = now(&w.open("f")?)?;
    w.sh("echo more >> f; chmod 600 f")?;
    let second = point(w)?;
    w.sh("rm f")?;
    let to = output(w)?;
    for is_remounted in [false, true] {
        if is_remounted {
            w.remount_if_lasting()?;
        }
        let root = File::open(&w.mnt)?;
        let read = |seq| past_read::read(&root, object, seq, &to);
        same("at its end", read(second)?.0, b"onemore\n".to_vec())?;
        same("before", read(first)?.0, b"one".to_vec())?;
        same("as of now", read(u64::MAX)?.0, b"onemore\n".to_vec())?;
    }
    check!(!w.path("f").exists(), "it has come back");
    let unknown = ObjectId {
        inode: object.inode + 1_000_000,
        ..object
    };
    let (result, reply) = ask(
        &File::open(&w.mnt)?,
        &Request {
            object: unknown,
            output: -1,
            ..Request::default()
        },
    );
    check!(result.is_err(), "an unknown object: {reply:?}");
    Ok(())
}

/// Holes stay holes, and a read of a large sparse file costs what its data costs.
fn holes(w: &mut Fixture) -> Outcome {
    w.sh("truncate -s 1G f; printf begin | dd of=f conv=notrunc status=none; printf end | dd of=f bs=1 seek=900000000 conv=notrunc status=none")?;
    let before = point(w)?;
    w.sh("printf other | dd of=f conv=notrunc status=none; truncate -s 5M f")?;
    let (result, reply) = {
        let to = File::create(output(w)?)?;
        let asked = Request {
            seq: before,
            output: to.as_raw_fd(),
            ..Request::default()
        };
        let answer = ask(&w.open("f")?, &asked);
        to.set_len(1 << 30)?;
        answer
    };
    result.at("reading a sparse file")?;
    same("size", reply.size, 1 << 30)?;
    check!(reply.written < 4 << 20, "{} bytes written", reply.written);
    let old = File::open(output(w)?)?;
    check!(
        old.metadata()?.blocks() < 8192,
        "{} blocks",
        old.metadata()?.blocks()
    );
    let mut bytes = [0; 5];
    old.read_exact_at(&mut bytes, 0)?;
    same("its beginning", &bytes[..], b"begin")?;
    let mut bytes = [0; 3];
    old.read_exact_at(&mut bytes, 900_000_000)?;
    same("its end", &bytes[..], b"end")?;
    fs::remove_file(output(w)?)?;
    Ok(())
}

const ACCESS: u8 = 1;
const XATTR: u8 = 4;

/// Mode, owner, group, and two extended attributes.
type Fact = (u32, u32, u32, [Option<Vec<u8>>; 2]);

/// Mode, owner and xattrs of each point.
fn attributes(w: &mut Fixture) -> Outcome {
    w.make("f", b"x")?;
    let steps = [
        "chmod 640 f",
        "setfattr -n user.a -v one f",
        "chown 2000:2001 f",
        "setfattr -n user.a -v two f; setfattr -n user.b -v three f",
        "setfattr -x user.a f; chmod 4711 f",
    ];
    let mut states = Vec::new();
    let fact = |w: &Fixture| -> Outcome<Fact> {
        let stat = fs::metadata(w.path("f"))?;
        let xattr = |name: &str| {
            let mut value = [0; 100];
            let n = rustix::fs::getxattr(w.path("f"), name, &mut value[..]);
            n.ok().map(|n| value[..n].to_vec())
        };
        Ok((
            stat.mode() & 0o7777,
            stat.uid(),
            stat.gid(),
            [xattr("user.a"), xattr("user.b")],
        ))
    };
    states.push((point(w)?, fact(w)?));
    for step in steps {
        w.sh(step)?;
        states.push((point(w)?, fact(w)?));
    }
    let file = w.open("f")?;
    for (seq, want) in states {
        let (result, reply) = ask(
            &file,
            &Request {
                seq,
                output: -1,
                ..Request::default()
            },
        );
        result.at("the attributes")?;
        let access = attribute(&reply.attributes, ACCESS, b"").unwrap_or_default();
        let number =
            |at: usize| u32::from_le_bytes(access[at..at + 4].try_into().unwrap_or_default());
        let xattr = |name: &[u8]| attribute(&reply.attributes, XATTR, name).map(<[u8]>::to_vec);
        let found = (
            number(0),
            number(4),
            number(8),
            [xattr(b"user.a"), xattr(b"user.b")],
        );
        same(format!("as of {seq}"), found, want)?;
        same("the kind", reply.kind, libc::S_IFREG)?;
    }
    Ok(())
}

/// While another thread overwrites, extends and cuts the file, the old state is read as it was.
fn beside_writer(w: &mut Fixture) -> Outcome {
    let old: Vec<u8> = (0..3_000_000u32).map(|at| (at / 7) as u8).collect();
    w.make("f", &old)?;
    let before = point(w)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(w.path("f"))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Outcome {
        let writer = scope.spawn(|| -> std::io::Result<()> {
            let mut random = Random::new(7);
            while !done.load(Ordering::Relaxed) {
                let at = random.below(3_200_000);
                let result = match random.below(20) {
                    0 => file.set_len(at),
                    _ => file.write_all_at(&[random.below(256) as u8; 7_000], at),
                };
                std::thread::sleep(std::time::Duration::from_millis(5));
                result?;
            }
            Ok(())
        });
        let read = || -> Outcome {
            for round in 0..2 {
                let (bytes, _) = content(w, &file, before)?;
                check!(
                    bytes == old,
                    "round {round}: another content, {} bytes",
                    bytes.len()
                );
            }
            Ok(())
        };
        let read = read();
        done.store(true, Ordering::Relaxed);
        match writer.join() {
            Ok(wrote) => wrote.at("the writer")?,
            Err(_) => crate::outcome::fail!("the writer panicked"),
        }
        read
    })
}

/// The output may be a file of the mount, also the file itself.
fn into_mount(w: &mut Fixture) -> Outcome {
    w.make("f", &[b'a'; 700_000])?;
    let before = point(w)?;
    w.make("f", &[b'b'; 600_000])?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(w.path("f"))?;
    let (bytes, _) = past_read::read(&file, ObjectId::default(), before, &w.path("g"))?;
    check!(bytes == [b'a'; 700_000], "{} bytes", bytes.len());
    let asked = Request {
        seq: before,
        output: file.as_raw_fd(),
        ..Request::default()
    };
    let (result, reply) = ask(&file, &asked);
    result.at("into itself")?;
    same("written", (reply.size, reply.written), (700_000, 700_000))?;
    check!(w.read("f")? == [b'a'; 700_000], "another content");
    // In steps of 256 KiB.
    w.revert("f", 3)?;
    check!(
        w.read("f")? == [b'b'; 600_000],
        "the copy is a change as others"
    );
    Ok(())
}

fn errno(answer: (std::io::Result<()>, Reply)) -> Option<i32> {
    answer.0.err().and_then(|error| error.raw_os_error())
}

/// Malformed requests, and those of others.
fn refused(w: &mut Fixture) -> Outcome {
    w.make("f", b"one")?;
    w.sh("chmod 644 f; echo two > f")?;
    let file = w.open("f")?;
    let none = Request {
        output: -1,
        ..Request::default()
    };
    let code = |request: &Request, file: &File| errno(ask(file, request));
    let with = |output: i32| Request { output, ..none };
    let invalid = Some(Errno::INVAL.raw_os_error());
    let bad = Some(Errno::BADF.raw_os_error());
    same(
        "a flag",
        code(&Request { flags: 1, ..none }, &file),
        invalid,
    )?;
    same("a negative descriptor", code(&with(-2), &file), invalid)?;
    same("a closed one", code(&with(900), &file), bad)?;
    let reader = File::open("/proc/version")?;
    same("one to read", code(&with(reader.as_raw_fd()), &file), bad)?;
    let device = OpenOptions::new().write(true).open("/dev/null")?;
    same("a device", code(&with(device.as_raw_fd()), &file), invalid)?;
    // The kernel cannot write to it on behalf of another.
    let comm = OpenOptions::new().write(true).open("/proc/self/comm")?;
    same("of procfs", code(&with(comm.as_raw_fd()), &file), invalid)?;
    let append = OpenOptions::new()
        .append(true)
        .create(true)
        .open(output(w)?)?;
    same(
        "at its end",
        code(&with(append.as_raw_fd()), &file),
        invalid,
    )?;
    let writer = OpenOptions::new().write(true).open(w.path("f"))?;
    same("a file that is not readable", code(&none, &writer), bad)?;
    // Another user may read the file, and no earlier content.
    let worker = w.sh("setpriv --reuid 2000 --regid 2000 --clear-groups cat f")?;
    same("may read", worker.as_str(), "two\n")?;
    let file = w.open("f")?;
    let refused = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            crate::sys::become_user(2000).ok()?;
            errno(ask(&file, &none))
        });
        asking.join().ok().flatten()
    });
    same("another user", refused, Some(Errno::PERM.raw_os_error()))
}

/// A file is given away in its present state only.
fn former_owner(w: &mut Fixture) -> Outcome {
    w.make("f", b"secret")?;
    let secret = point(w)?;
    w.sh("echo public > f; chown 2000 f")?;
    let given = point(w)?;
    w.sh("setpriv --reuid 2000 --regid 2000 --clear-groups bash -c 'echo own > f'")?;
    let file = w.open("f")?;
    let asked = |seq| {
        let file = &file;
        std::thread::scope(|scope| {
            let asking = scope.spawn(move || {
                crate::sys::become_user(2000).ok()?;
                Some(ask(
                    file,
                    &Request {
                        seq,
                        output: -1,
                        ..Request::default()
                    },
                ))
            });
            asking.join().ok().flatten()
        })
    };
    let Some((own, reply)) = asked(given) else {
        crate::outcome::fail!("no other user");
    };
    own.at("since it was given")?;
    same("its size", reply.size, 7)?;
    let Some((result, reply)) = asked(secret) else {
        crate::outcome::fail!("no other user");
    };
    check!(result.is_err(), "before it was given: {reply:?}");
    same(
        "the owner before",
        content(w, &file, secret)?.0,
        b"secret".to_vec(),
    )
}

/// What was dropped is said to be, and nothing else is read in its place.
fn dropped(w: &mut Fixture) -> Outcome {
    w.remount_with("history_max=16M")?;
    w.make("f", b"old")?;
    let old = point(w)?;
    for round in 0..40u8 {
        w.make("f", &vec![round; 1 << 20])?;
    }
    let late = point(w)?;
    w.make("f", b"new")?;
    let file = w.open("f")?;
    let (result, reply) = ask(
        &file,
        &Request {
            seq: old,
            output: -1,
            ..Request::default()
        },
    );
    check!(result.is_err(), "{reply:?}");
    const TRIMMED: u32 = 3;
    same("the reason", reply.reason, TRIMMED)?;
    check!(
        content(w, &file, late)?.0 == vec![39; 1 << 20],
        "another content"
    );
    // A file that was not changed since is read, although older lines are gone.
    same(
        "the present",
        content(w, &file, u64::MAX)?.0,
        b"new".to_vec(),
    )
}

/// Where another program changed the file below, the state before is not known.
fn changed_behind(w: &mut Fixture) -> Outcome {
    w.make("f", b"one")?;
    let one = point(w)?;
    w.make("f", b"two")?;
    let below = w.below("f")?;
    w.sh("sync")?;
    fs::write(below, b"three")?;
    let file = w.open("f")?;
    let (result, reply) = ask(
        &file,
        &Request {
            seq: one,
            output: -1,
            ..Request::default()
        },
    );
    const EXTERNAL: u32 = 4;
    same(
        "the reason",
        (result.is_err(), reply.reason),
        (true, EXTERNAL),
    )?;
    same(
        "as it is now",
        content(w, &file, u64::MAX)?.0,
        b"three".to_vec(),
    )
}

/// A mount that may not be written to has no history, and says so.
fn read_only(w: &mut Fixture) -> Outcome {
    w.make("f", b"one")?;
    let one = point(w)?;
    w.make("f", b"second")?;
    w.remount_with("ro")?;
    let file = File::open(w.path("f"))?;
    let asked = Request {
        seq: one,
        output: -1,
        ..Request::default()
    };
    let (result, reply) = ask(&file, &asked);
    const HISTORY_OFF: u32 = 11;
    same(
        "the reason",
        (result.is_err(), reply.reason),
        (true, HISTORY_OFF),
    )?;
    w.same("unchanged", "f", b"second")
}
