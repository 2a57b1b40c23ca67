// SPDX-License-Identifier: GPL-2.0

//! A disk whose whole history is crafted by a user who knows the format: mounted, read, and reverted by root
//! and by a user. Each case begins with the same disk, a copy of an image on which real operations of all
//! kinds left their history, and some of whose objects were moved out of the source. For every crafted
//! history: nothing outside the source changes, the history's own files get no name in the tree, no user
//! gains rights, and each step ends in time or when it is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, symlink, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::hostile::{picture, unchanged};
use crate::crafted::History;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, run, Lower};
use crate::mutate::{misplace, mutate, Target};
use crate::outcome::{check, fail, At, Outcome};
use crate::pace::{count, Rounds};
use crate::shadow::Random;
use crate::sys;

pub const TESTS: &[Test] = &[Test::new("fuzz-hostile", hostile)
    .only(&[Lower::Ext4, Lower::Xfs, Lower::Btrfs])
    .unmounted()
    .lengthy()
    .seconds(240)];

/// How many cases a usual run has.
const ROUNDS: u64 = 3;

/// How many cases one image serves for.
const CASES: u64 = 40;

/// A step takes no longer, on a busy machine that emulates the guest.
const PATIENCE: Duration = Duration::from_secs(60);

/// After SIGKILL, the process ends within this time.
const DYING: Duration = Duration::from_secs(20);

const USER: u32 = 2000;

/// The disk, and its mount point.
struct HostileDisk {
    image: PathBuf,
    good: PathBuf,
    at: PathBuf,
    targets: Vec<Target>,
}

fn hostile(w: &mut Fixture) -> Outcome {
    run(&["modprobe", "loop"])?;
    let mut rounds = Rounds::new(w, "fuzz-hostile", w.times(8, ROUNDS));
    let mut disk = None;
    let mut uses = 0;
    while let Some(mut random) = rounds.next() {
        let (making, mut random) = (random.next(), random.clone());
        let good = match disk.take() {
            Some(good) if uses < CASES && w.round.is_none() => good,
            _ => {
                uses = 0;
                make(w, making)?
            }
        };
        uses += 1;
        let outcome = case(w, &good, &mut random);
        let tidy = leave(w, &good);
        rounds.judge(outcome, "a hostile history")?;
        tidy?;
        disk = Some(good);
    }
    Ok(())
}

/// Unmounts everything.
fn leave(w: &Fixture, disk: &HostileDisk) -> Outcome {
    let _ = mounts::unmount(&w.mnt);
    mounts::unmount(&disk.at)
}

fn mount_image(w: &Fixture, disk: &HostileDisk) -> Outcome {
    let (image, at) = (
        disk.image.display().to_string(),
        disk.at.display().to_string(),
    );
    run(&[
        "mount",
        "-t",
        w.lower.name(),
        "-o",
        "loop,noatime",
        &image,
        &at,
    ])
    .map(drop)
}

/// Makes an image with a history, and with objects of its lines outside the source.
fn make(w: &Fixture, seed: u64) -> Outcome<HostileDisk> {
    let mut disk = HostileDisk {
        image: w.base.join("disk"),
        good: w.base.join("good"),
        at: w.base.join("at"),
        targets: Vec::new(),
    };
    fs::create_dir_all(&disk.at)?;
    let (size, force) = match w.lower {
        Lower::Ext4 => (32, "-F"),
        Lower::Btrfs => (128, "-f"),
        _ => (320, "-f"),
    };
    let _ = fs::remove_file(&disk.image);
    File::create(&disk.image)?.set_len(size << 20)?;
    let mkfs = format!("mkfs.{}", w.lower.name());
    run(&[&mkfs, "-q", force, &disk.image.display().to_string()])?;
    mount_image(w, &disk)?;
    let (source, beside) = (disk.at.join("src"), disk.at.join("beside"));
    fs::create_dir(&source)?;
    fs::create_dir(&beside)?;
    let mut random = Random::new(seed);
    for mount in 0..1 + random.below(3) {
        mounts::mount(&source.display().to_string(), &w.mnt, "")
            .map_err(|refusal| refusal.error)?;
        work(w, &mut random, mount).at("making a history")?;
        mounts::unmount(&w.mnt)?;
    }
    for name in ["out-file", "out-link", "out-dir", "out-fifo", "out-symlink"] {
        fs::rename(source.join(name), beside.join(name))?;
    }
    fs::write(beside.join("secret"), "beside the source, of root")?;
    fs::set_permissions(beside.join("secret"), fs::Permissions::from_mode(0o600))?;
    fs::write(beside.join("setuid"), "beside the source, setuid")?;
    fs::set_permissions(beside.join("setuid"), fs::Permissions::from_mode(0o4755))?;
    fs::write(beside.join("user"), "beside the source, a user's")?;
    chown(beside.join("user"), Some(USER), Some(USER))?;
    symlink("secret", beside.join("symlink"))?;
    disk.targets = targets(&disk)?;
    mounts::unmount(&disk.at)?;
    copy(&disk.image, &disk.good)?;
    Ok(disk)
}

/// Operations of all kinds, by root and by a user, with some taken back.
fn work(w: &Fixture, random: &mut Random, mount: u64) -> Outcome {
    let script = "
        mkdir -p d/e shared home; chmod 1777 shared; chown 2000:2000 home
        echo one > f; echo two >> f; head -c 9000 /dev/urandom > d/big; truncate -s 100 d/big
        fallocate -p -o 0 -l 4096 d/big 2>/dev/null || true
        echo x > d/x; echo y > d/y; mv d/x d/y; ln f d/link; ln -s f d/symlink; mkfifo d/fifo
        mknod d/null c 1 3; chmod 600 f; chmod 4755 d/y; setfattr -n user.a -v b f 2>/dev/null || true
        rm d/link; rm d/symlink; mkdir gone; echo z > gone/z; rm -r gone; touch -d @5 f
        mv d/e d/e2; rmdir d/e2; mv --exchange d/y d/big 2>/dev/null || true
        setpriv --reuid 2000 --regid 2000 --clear-groups sh -c '
            cd home; echo mine > m; echo more >> m; chmod 4755 m; mv m n; echo s > ../shared/s; rm ../shared/s
            mkdir o; echo p > o/p; rm -r o; ln n q; rm q; echo last > n'";
    let outside = "
        echo one > out-file; echo two >> out-file; chmod 640 out-file; echo three > out-file
        mkdir d; echo one > d/linked; ln d/linked out-link; rm d/linked
        mkdir out-dir; echo x > out-dir/x; mv out-dir/x d/moved; touch out-dir/y; rm out-dir/y
        mkfifo out-fifo; chmod 600 out-fifo; ln -s x out-symlink; touch -h -d @5 out-symlink";
    w.sh(&format!(
        "mkdir m{mount}; chmod 755 m{mount}; cd m{mount}; {script}"
    ))?;
    if mount == 0 {
        w.sh(outside)?;
    }
    let place = w.path(&format!("tree{mount}"));
    fs::create_dir(&place)?;
    let seed = random.next().to_string();
    let place = place.display().to_string();
    let status = w.worker(&["tree", &place, &seed, "30"]).status()?;
    check!(status.success(), "worker tree: {status}");
    w.sh("logctl undo >/dev/null || true; logctl redo >/dev/null || true; logctl undo -2 >/dev/null || true")?;
    w.sh(&format!(
        "logctl revert @~1 >/dev/null || true; logctl m{mount}/f revert || true"
    ))?;
    Ok(())
}

/// Objects beside the source, and those that the history is made of.
fn targets(disk: &HostileDisk) -> Outcome<Vec<Target>> {
    let home = disk.at.join("src/.loggerfs");
    let mut paths = vec![disk.at.clone(), disk.at.join("src"), home.clone()];
    let mut left = vec![home, disk.at.join("beside")];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            paths.push(entry.path());
            if entry.file_type()?.is_dir() && paths.len() < 100 {
                left.push(entry.path());
            }
        }
    }
    let mut targets = Vec::new();
    for path in paths {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(std::io::Error::from)?;
        let handle = sys::name_to_handle(&name, 0)?;
        let (kind, bytes) = (handle[4], &handle[8..]);
        let number = |at: usize| {
            let four = bytes
                .get(at..at + 4)
                .map(|four| four.try_into().unwrap_or([0; 4]));
            u32::from_ne_bytes(four.unwrap_or([0; 4]))
        };
        // FILEID_INO32_GEN; xfs with 64-bit numbers; btrfs, whose handle begins with the tree.
        let generation = match (kind, bytes.len()) {
            (1 | 2, _) => number(4),
            (0x4d..=0x4f, _) => number(16),
            _ => number(8),
        };
        let digits = bytes
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        targets.push(Target {
            object: format!("{}.{generation}", fs::symlink_metadata(&path)?.ino()),
            handle: format!("{kind:02x}{digits}"),
            path,
        });
    }
    Ok(targets)
}

fn copy(from: &Path, to: &Path) -> Outcome {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    run(&["cp", "--sparse=always", "--reflink=auto", &from, &to]).map(drop)
}

fn case(w: &Fixture, disk: &HostileDisk, random: &mut Random) -> Outcome {
    copy(&disk.good, &disk.image)?;
    mount_image(w, disk)?;
    let source = disk.at.join("src");
    let home = source.join(".loggerfs");
    let mut history = History::read(&home)?;
    let mut said = mutate(random, &mut history, &disk.targets)?;
    history.write(&home)?;
    if random.below(3) == 0 {
        said.push(misplace(random, &home, &disk.targets)?);
    }
    let said = said.join("; ");
    if w.round.is_some() {
        println!("{said}");
    }
    asked(w, disk, random).at(said)
}

/// Mounts, uses and unmounts twice; nothing beside the source has changed then.
fn asked(w: &Fixture, disk: &HostileDisk, random: &mut Random) -> Outcome {
    let source = disk.at.join("src");
    let beside = disk.at.join("beside");
    let before = picture(&beside)?;
    let home = fs::symlink_metadata(source.join(".loggerfs"))?.ino();
    for _ in 0..2 {
        let words = [
            "hostile",
            "mount",
            &source.display().to_string(),
            &w.mnt.display().to_string(),
        ];
        if step(w, &words, "mount")? != 0 {
            count("mounts refused");
            break;
        }
        count("mounted");
        for uid in [USER, 0, USER] {
            let rights = rights(&source)?;
            let words = [
                "hostile",
                "use",
                &w.mnt.display().to_string(),
                &random.next().to_string(),
                &uid.to_string(),
            ];
            let code = step(w, &words, &format!("use by {uid}"))?;
            check!(
                code == 0 || code == libc::EACCES,
                "use by {uid} ends with {code}"
            );
            if uid == USER {
                gained(&rights, &self::rights(&source)?)?;
            }
        }
        unmount(w)?;
    }
    // The history may remove its own links to outside objects.
    unchanged_but_links(&beside, &before)?;
    let now = fs::symlink_metadata(source.join(".loggerfs"))?.ino();
    check!(now == home, ".loggerfs was moved");
    history_is_hidden(&source)
}

fn unmount(w: &Fixture) -> Outcome {
    mounts::unmount(&w.mnt).at("unmounting")
}

/// As [`unchanged`], except for the fields that the removal of a link changes.
fn unchanged_but_links(top: &Path, before: &BTreeMap<PathBuf, String>) -> Outcome {
    let Err(_) = unchanged(top, before) else {
        return Ok(());
    };
    let strip = |text: &String| -> String {
        let words: Vec<&str> = text.split(' ').collect();
        let mut kept = Vec::new();
        let mut at = 0;
        while at < words.len() {
            match words[at] {
                "links" | "ctime" => at += 2,
                word => {
                    kept.push(word);
                    at += 1;
                }
            }
        }
        kept.join(" ")
    };
    let links = |text: &String| -> u64 {
        let rest = text
            .split(" links ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        rest.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let now = picture(top)?;
    for (path, was) in before {
        let Some(is) = now.get(path) else {
            fail!("{} is gone", path.display());
        };
        let is_less = links(is) < links(was);
        check!(
            is == was || is_less && strip(is) == strip(was),
            "{}: is {is}, was {was}",
            path.display()
        );
    }
    check!(
        now.len() == before.len(),
        "something has come beside the source"
    );
    Ok(())
}

/// Owner, set-id bits and capabilities of each object of the tree, by its number.
type Rights = BTreeMap<u64, (u32, u32, bool)>;

fn rights(source: &Path) -> Outcome<Rights> {
    let mut all = Rights::new();
    let mut left = vec![source.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path)?;
        let mut value = [0u8; 64];
        let has = rustix::fs::lgetxattr(&path, "security.capability", &mut value).is_ok();
        all.insert(meta.ino(), (meta.uid(), meta.mode() & 0o6000, has));
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
    }
    Ok(all)
}

/// No user has granted more than own rights.
fn gained(before: &Rights, now: &Rights) -> Outcome {
    for (ino, is) in now {
        let Some(was) = before.get(ino) else { continue };
        check!(
            is.0 == was.0,
            "object {ino} was {}'s and is {}'s",
            was.0,
            is.0
        );
        let more = is.1 & !was.1 != 0 && is.0 != USER;
        check!(!more, "object {ino} of {} has set-id bits: {is:?}", is.0);
        check!(was.2 || !is.2, "object {ino} has got capabilities");
    }
    Ok(())
}

/// No file that the history is made of has a name in the tree.
fn history_is_hidden(source: &Path) -> Outcome {
    let home = source.join(".loggerfs");
    let mut own = BTreeSet::new();
    for place in ["", "log", "undo", "index"] {
        for entry in fs::read_dir(home.join(place)).into_iter().flatten() {
            own.insert(fs::symlink_metadata(entry?.path())?.ino());
        }
    }
    let mut left: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(source)? {
        let path = entry?.path();
        if path != home {
            left.push(path);
        }
    }
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path)?;
        check!(
            !own.contains(&meta.ino()),
            "{} is of the history",
            path.display()
        );
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// A step in a process of its own, which ends in time; its exit code.
fn step(w: &Fixture, words: &[&str], what: &str) -> Outcome<i32> {
    let mut command = w.worker(words);
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if w.round.is_none() {
        command.stderr(Stdio::null());
    }
    let mut child = command.spawn()?;
    if let Some(code) = ended(&mut child, PATIENCE)? {
        return Ok(code);
    }
    let place = fs::read_to_string(format!("/proc/{}/stack", child.id())).unwrap_or_default();
    child.kill()?;
    if ended(&mut child, DYING)?.is_none() {
        fail!("{what} cannot be killed: {place}");
    }
    fail!("{what} takes more than {} s: {place}", PATIENCE.as_secs());
}

fn ended(child: &mut Child, patience: Duration) -> Outcome<Option<i32>> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or(-1)));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(None)
}
