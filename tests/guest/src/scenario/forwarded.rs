// SPDX-License-Identifier: GPL-2.0

//! Calls that are forwarded to the lower filesystem: their results through the mount are those of
//! the object below.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::{Errno, IoSlice, IoSliceMut, ReadWriteFlags};

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, same, Outcome};
use crate::shadow::pattern;
use crate::sys;

const BELOW: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

pub const TESTS: &[Test] = &[
    Test::new("forwarded-ioctls", ioctls).only(BELOW),
    Test::new("forwarded-bmap", bmap).only(BELOW),
    Test::new("forwarded-shared-ranges", shared_ranges).only(BELOW),
    Test::new("forwarded-dedupe-is-ours", dedupe_is_ours).only(&[Lower::Xfs, Lower::Btrfs]),
    Test::new("forwarded-read-flags", read_flags).only(BELOW),
    Test::new("forwarded-write-flags", write_flags),
    Test::new("forwarded-swap", swap).only(BELOW),
];

const GETVERSION: u64 = 0x8008_7601;
const GETFSLABEL: u64 = 0x8100_9431;
const GETFSUUID: u64 = 0x8011_1500;
const FITRIM: u64 = 0xc018_5879;
const FIBMAP: u64 = 1;
const SETVERSION: u64 = 0x4008_7602;
const FICLONE: u64 = 0x4004_9409;
const FIDEDUPERANGE: u64 = 0xc018_9436;

/// A comparable result: the return value and buffer of a call, or its errno.
type IoctlResult = Result<(usize, Vec<u8>), i32>;

fn errno(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

fn ask(path: &Path, request: u64, argument: &[u8]) -> Outcome<IoctlResult> {
    let file = File::open(path)?;
    let mut bytes = argument.to_vec();
    let answer = sys::ioctl_bytes(&file, request, &mut bytes);
    Ok(answer.map(|n| (n, bytes)).map_err(errno))
}

fn ioctls(w: &mut Fixture) -> Outcome {
    fs::write(w.mnt.join("f"), pattern(1, 5000))?;
    fs::create_dir(w.mnt.join("d"))?;
    let src = w.base.join("src");
    let trim = |minimum: u64| [0, u64::MAX, minimum].map(u64::to_ne_bytes).concat();
    for name in ["f", "d", "."] {
        let (ours, raw) = (w.mnt.join(name), src.join(name));
        for (what, request, length) in [
            ("FS_IOC_GETVERSION", GETVERSION, 8),
            ("FS_IOC_GETFSLABEL", GETFSLABEL, 256),
            ("FS_IOC_GETFSUUID", GETFSUUID, 17),
        ] {
            let zeroes = vec![0; length];
            let want = ask(&raw, request, &zeroes)?;
            same(
                format!("{what} {name}").as_str(),
                ask(&ours, request, &zeroes)?,
                want,
            )?;
        }
        // How much is trimmed differs from call to call.
        let trimmed = |path: &Path| Ok(ask(path, FITRIM, &trim(4096))?.map(|(n, _)| n));
        let want: Outcome<_> = trimmed(&raw);
        same(format!("FITRIM {name}").as_str(), trimmed(&ours)?, want?)?;
    }
    // Changes an object's identity, which handles in the history name.
    same(
        "FS_IOC_SETVERSION",
        ask(&w.mnt.join("f"), SETVERSION, &[1; 8])?,
        Err(libc::ENOTTY),
    )?;
    // Only the filesystem's administrator may trim.
    let file = File::open(w.mnt.join("f"))?;
    let mut bytes = trim(4096);
    let answer = sys::as_user(1000, || sys::ioctl_bytes(&file, FITRIM, &mut bytes));
    let want = ask(&src.join("f"), FITRIM, &trim(4096))?;
    let refused = answer.map_err(errno);
    check!(
        refused == Err(libc::EPERM) || refused == Err(libc::ENOTTY) && want == Err(libc::ENOTTY),
        "FITRIM by a user: {refused:?}"
    );
    w.revert("f", 1)?;
    same("reverted", fs::read(src.join("f"))?, Vec::new())
}

fn bmap(w: &mut Fixture) -> Outcome {
    let ours = w.mnt.join("f");
    fs::write(&ours, pattern(2, 20_000))?;
    File::open(&ours)?.sync_all()?;
    let raw = w.base.join("src/f");
    for block in 0u32..6 {
        let want = ask(&raw, FIBMAP, &block.to_ne_bytes())?;
        same(
            format!("block {block}").as_str(),
            ask(&ours, FIBMAP, &block.to_ne_bytes())?,
            want,
        )?;
    }
    Ok(())
}

/// Without `->remap_file_range` below, FIDEDUPERANGE fails as a whole, not for each of its targets.
fn shared_ranges(w: &mut Fixture) -> Outcome {
    let src = w.base.join("src");
    for name in ["one", "two"] {
        fs::write(src.join(name), pattern(3, 8192))?;
    }
    let share = |dir: &Path| -> Outcome<_> {
        let file = File::open(dir.join("one"))?;
        let to = OpenOptions::new().write(true).open(dir.join("two"))?;
        let mut words = [0, 4096, 1, to.as_raw_fd() as u64, 0, 0, 0];
        let answer = sys::ioctl_words(&file, FIDEDUPERANGE, &mut words).map_err(errno);
        let mut none = [0, 4096, 0];
        let of_none = sys::ioctl_words(&file, FIDEDUPERANGE, &mut none).map_err(errno);
        let cloned = sys::ioctl_number(&to, FICLONE, file.as_raw_fd() as usize).map_err(errno);
        Ok((answer, words[5..].to_vec(), of_none, cloned))
    };
    let want = share(&src)?;
    same("shared ranges", share(&w.mnt)?, want)
}

/// Deduplication through the mount is no outside change, although btrfs increments the file's version:
/// earlier operations can be undone afterwards, with and without a mount in between.
fn dedupe_is_ours(w: &mut Fixture) -> Outcome {
    for remounts in [false, true] {
        let name = |file| format!("{file}-{remounts}");
        for file in ["one", "two"] {
            w.make(&name(file), &pattern(3, 65_536))?;
        }
        let file = w.open(&name("two"))?;
        file.write_all_at(b"before", 40_000)?;
        file.sync_all()?;
        let from = w.open(&name("one"))?;
        let mut words = [0, 8192, 1, file.as_raw_fd() as u64, 0, 0, 0];
        sys::ioctl_words(&from, FIDEDUPERANGE, &mut words)?;
        same("deduplicated", words[5..].to_vec(), vec![8192, 0])?;
        drop((file, from));
        if remounts {
            w.remount_if_lasting()?;
        }
        w.revert(&name("two"), 1)?;
        w.same("undone", &name("two"), &pattern(3, 65_536))?;
    }
    Ok(())
}

fn read(path: &Path, flags: ReadWriteFlags, at: u64) -> Outcome<Result<Vec<u8>, Errno>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; 5000];
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let n = rustix::io::preadv2(&file, &mut buffers, at, flags);
    Ok(n.map(|n| bytes[..n].to_vec()))
}

/// `RWF_DONTCACHE`, which rustix has no name for.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

fn read_flags(w: &mut Fixture) -> Outcome {
    let ours = w.mnt.join("f");
    let raw = w.base.join("src/f");
    fs::write(&ours, pattern(4, 40_000))?;
    let sets = [
        ReadWriteFlags::NOWAIT,
        ReadWriteFlags::HIPRI,
        DONTCACHE,
        DONTCACHE | ReadWriteFlags::NOWAIT,
        ReadWriteFlags::from_bits_retain(1 << 20),
    ];
    for flags in sets {
        for at in [0, 36_864, 39_999, 40_000, 80_000] {
            let want = read(&raw, flags, at)?;
            same(
                format!("{flags:?} at {at}").as_str(),
                read(&ours, flags, at)?,
                want,
            )?;
        }
    }
    // Content that is not in memory: a read ahead begins, and may end in time for all of it or for its first pages.
    let file = File::open(&ours)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    let got = read(&ours, ReadWriteFlags::NOWAIT, 0)?;
    check!(
        match &got {
            Ok(bytes) => !bytes.is_empty() && pattern(4, 40_000)[..5_000].starts_with(bytes),
            Err(error) => matches!(*error, Errno::AGAIN | Errno::OPNOTSUPP),
        },
        "NOWAIT, not cached: {:?}",
        got.map(|bytes| bytes.len())
    );
    Ok(())
}

/// Writes with RWF_NOWAIT may always return EAGAIN; the bytes that they wrote can be taken back.
fn write_flags(w: &mut Fixture) -> Outcome {
    let path = w.mnt.join("f");
    let before = pattern(5, 30_000);
    fs::write(&path, &before)?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let bytes = pattern(6, 5_000);
    let other = w.beside()?.join("f");
    fs::write(&other, &before)?;
    let raw = OpenOptions::new().read(true).write(true).open(&other)?;
    let put = |file: &File, flags| {
        rustix::io::pwritev2(file, &[IoSlice::new(&bytes)], 1_000, flags)
            .map_err(|e| e.raw_os_error())
    };
    let want = put(&raw, DONTCACHE);
    let got = put(&file, DONTCACHE);
    same("DONTCACHE", got, want)?;
    let mut wrote = usize::from(got.is_ok());
    let got = put(&file, ReadWriteFlags::NOWAIT);
    check!(
        got == Ok(bytes.len())
            || got == Err(libc::EAGAIN)
            || got == put(&raw, ReadWriteFlags::NOWAIT),
        "NOWAIT: {got:?}"
    );
    wrote += usize::from(got.is_ok());
    let mut now = vec![0; before.len()];
    file.read_exact_at(&mut now, 0)?;
    let mut want = before.clone();
    if wrote > 0 {
        want[1_000..6_000].copy_from_slice(&bytes);
    }
    same("written", now == want, true)?;
    drop(file);
    if wrote > 0 {
        w.revert("f", wrote)?;
        same("taken back", fs::read(&path)? == before, true)?;
    }
    Ok(())
}

/// Stores to swap files would bypass every hook, so that swapon(2) is refused; nothing changes.
fn swap(w: &mut Fixture) -> Outcome {
    let path = w.mnt.join("swap");
    w.sh("dd if=/dev/zero of=swap bs=1M count=1 status=none; chmod 600 swap; mkswap -q swap")?;
    let before = fs::read(&path)?;
    let said = w.sh("swapon swap 2>&1 || true")?;
    check!(said.contains("Invalid argument"), "swapon: {said}");
    same("content", fs::read(&path)? == before, true)
}
