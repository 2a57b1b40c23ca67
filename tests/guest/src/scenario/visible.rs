// SPDX-License-Identifier: GPL-2.0

//! Differences between LoggerFS and the lower filesystem that a program can see, and filesystems that are not
//! stacked on.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, CWD};
use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{run, Lower};
use crate::outcome::{check, same, same_errno, At, Outcome, Stop};

pub const TESTS: &[Test] = &[
    Test::new("visible-unnamed-file", unnamed_file),
    Test::new("visible-statfs", statfs),
    Test::new("visible-uprobe", uprobe).only(&[
        Lower::Ext4,
        Lower::Xfs,
        Lower::Btrfs,
        Lower::Tmpfs,
    ]),
    Test::new("visible-folded-case", folded_case).only(&[Lower::Tmpfs]),
];

fn unnamed(dir: &Path) -> Outcome<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let file = rustix::fs::openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR);
    Ok(File::from(file.at("O_TMPFILE")?))
}

/// The link's text without the directory, which is another one.
fn text(dir: &Path, file: &File) -> Outcome<String> {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let text = link.display().to_string();
    let dir = dir.display().to_string();
    let rest = text.strip_prefix(&dir).map(str::to_string);
    let number = file.metadata()?.ino().to_string();
    rest.map(|rest| rest.replace(&number, "NUMBER"))
        .ok_or(Stop::Fail(format!("{text} is not in {dir}")))
}

/// An O_TMPFILE has the name and attributes as on the lower filesystem, also when it is linked
/// later.
fn unnamed_file(w: &mut Fixture) -> Outcome {
    let beside = w.beside()?;
    let (ours, raw) = (unnamed(&w.mnt)?, unnamed(&beside)?);
    same("its name", text(&w.mnt, &ours)?, text(&beside, &raw)?)?;
    let (a, b) = (ours.metadata()?, raw.metadata()?);
    let facts = |m: &fs::Metadata| (m.nlink(), m.mode(), m.uid(), m.gid(), m.len(), m.blocks());
    same("its attributes", facts(&a), facts(&b))?;
    let named = |file: &File, dir: &Path| -> Outcome<String> {
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = rustix::fs::AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(CWD, &from, CWD, dir.join("named"), flags).at("linkat")?;
        text(dir, file)
    };
    same("after linkat", named(&ours, &w.mnt)?, named(&raw, &beside)?)?;
    same("links", ours.metadata()?.nlink(), raw.metadata()?.nlink())
}

/// statfs(2) and statvfs(3) return the values of the lower filesystem.
fn statfs(w: &mut Fixture) -> Outcome {
    let below = w.below(".")?;
    let (ours, raw) = (rustix::fs::statfs(&w.mnt)?, rustix::fs::statfs(&below)?);
    same("f_type", ours.f_type, raw.f_type)?;
    same("f_bsize", ours.f_bsize, raw.f_bsize)?;
    same("f_frsize", ours.f_frsize, raw.f_frsize)?;
    same("f_namelen", ours.f_namelen, raw.f_namelen)?;
    same("f_blocks", ours.f_blocks, raw.f_blocks)?;
    let (ours, raw) = (rustix::fs::statvfs(&w.mnt)?, rustix::fs::statvfs(&below)?);
    check!(
        ours.f_flag == raw.f_flag,
        "statvfs: flags {:?}, want {:?}",
        ours.f_flag,
        raw.f_flag
    );
    check!(ours.f_fsid != 0, "statvfs: no f_fsid");
    Ok(())
}

/// A probe that is placed by the path below is hit when the program is run on the mount.
fn uprobe(w: &mut Fixture) -> Outcome {
    w.sh("cp /bin/true program; chmod 755 program")?;
    let at = w.base.join("tracing");
    fs::create_dir(&at)?;
    let tracing = at.display().to_string();
    run(&["mount", "-t", "tracefs", "none", &tracing])?;
    let result = probed(w, &at);
    let _ = fs::write(at.join("events/uprobes/enable"), "0");
    let _ = fs::write(at.join("uprobe_events"), "");
    run(&["umount", &tracing])?;
    result
}

fn probed(w: &Fixture, tracing: &Path) -> Outcome {
    let program = w.path("program");
    let entry = entry_of(&fs::read(&program)?);
    let below = w.below("program")?;
    let probe = format!("p:lfs_entry {}:{entry:#x}\n", below.display());
    fs::write(tracing.join("uprobe_events"), probe).at("adding a probe")?;
    fs::write(tracing.join("trace"), "")?;
    fs::write(tracing.join("events/uprobes/enable"), "1").at("enabling the probe")?;
    run(&[&program.display().to_string()])?;
    let trace = fs::read_to_string(tracing.join("trace"))?;
    check!(trace.contains("lfs_entry"), "the probe was not hit");
    Ok(())
}

/// The offset in the file of a program's first instruction.
fn entry_of(elf: &[u8]) -> u64 {
    let word = |at: usize, length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(&elf[at..at + length]);
        u64::from_le_bytes(bytes)
    };
    let (entry, table) = (word(24, 8), word(32, 8) as usize);
    let (size, count) = (word(54, 2) as usize, word(56, 2) as usize);
    (0..count)
        .map(|number| table + number * size)
        .filter(|at| word(*at, 4) == 1)
        .find_map(|at| {
            let (offset, address, length) = (word(at + 8, 8), word(at + 16, 8), word(at + 32, 8));
            let inside = entry.checked_sub(address).filter(|n| *n < length)?;
            Some(offset + inside)
        })
        .unwrap_or(0)
}

/// Directories with case-insensitive names are refused, at the mount and below it.
fn folded_case(w: &mut Fixture) -> Outcome {
    let at = w.base.join("folding");
    fs::create_dir(&at)?;
    let text = at.display().to_string();
    run(&["mount", "-t", "tmpfs", "-o", "casefold", "none", &text])?;
    let result = folding(w, &at);
    run(&["umount", &text])?;
    result
}

fn folding(w: &mut Fixture, at: &Path) -> Outcome {
    let (plain, folded) = (at.join("plain"), at.join("plain/folded"));
    fs::create_dir(&plain)?;
    fs::create_dir(&folded)?;
    run(&["chattr", "+F", &folded.display().to_string()])?;
    fs::write(folded.join("Name"), b"")?;
    let target = w.base.join("stacked");
    fs::create_dir(&target)?;
    let refused = crate::mounts::mount(&folded.display().to_string(), &target, "");
    check!(refused.is_err(), "a folding directory was stacked on");
    let mounted = crate::mounts::mount(&plain.display().to_string(), &target, "");
    check!(
        mounted.is_ok(),
        "a plain directory beside was not stacked on"
    );
    let result = inside(&target);
    crate::mounts::unmount(&target)?;
    result
}

fn inside(target: &Path) -> Outcome {
    same_errno(
        "entering",
        fs::read_dir(target.join("folded")).map(drop),
        Errno::REMOTE,
    )?;
    fs::create_dir(target.join("new"))?;
    fs::write(target.join("new/file"), b"")?;
    fs::remove_file(target.join("new/file"))?;
    let new = target.join("new").display().to_string();
    check!(
        run(&["chattr", "+F", &new]).is_err(),
        "chattr +F was not refused"
    );
    fs::write(target.join("new/file"), b"").at("writing on")
}
