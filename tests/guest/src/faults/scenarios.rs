// SPDX-License-Identifier: GPL-2.0

//! The scenarios that run while a call fails: one short sequence each.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{symlink, FileExt, OpenOptionsExt, PermissionsExt};

use rustix::fs::{AtFlags, FallocateFlags, RenameFlags, XattrFlags, CWD};

use super::case::{FaultCase, FILE};
use super::Scenario;
use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::{self, Lower};
use crate::outcome::{At, Outcome};
use crate::shadow::pattern;
use crate::sys::{self, Map};
use crate::undo;

/// Every lower filesystem that can be reached from below.
const LOWERS: &[Lower] = &[Lower::Tmpfs, Lower::Ext4, Lower::Xfs, Lower::Btrfs];

const fn scenario(
    name: &'static str,
    before: fn(&mut FaultCase) -> Outcome,
    act: fn(&mut FaultCase) -> Outcome,
) -> Scenario {
    Scenario {
        name,
        options: "",
        before,
        act,
        mounts: false,
        names: false,
        disk: false,
    }
}

impl Scenario {
    const fn with(mut self, options: &'static str) -> Scenario {
        self.options = options;
        self
    }

    const fn disk(mut self) -> Scenario {
        self.disk = true;
        self
    }

    const fn names(mut self) -> Scenario {
        self.names = true;
        self
    }

    const fn mounts(mut self) -> Scenario {
        self.mounts = true;
        self
    }
}

/// A table of tests from a table of scenarios: the harness wants a function for each.
macro_rules! tests {
    ($($name:ident = $scenario:expr;)*) => {
        $(fn $name(w: &mut Fixture) -> Outcome {
            const SCENARIO: Scenario = $scenario;
            super::run(w, &SCENARIO)
        })*
        pub const TESTS: &[Test] = &[
            $({
                const SCENARIO: Scenario = $scenario;
                Test::new(SCENARIO.name, $name).unmounted().only(LOWERS).seconds(900)
            },)*
        ];
    };
}

tests! {
    overwrite = scenario("overwrite", file, |c| c.write("write", 3000, &pattern(3, 9000)));
    overwrite_sync = scenario("overwrite-fsync", file, overwrite_and_sync).disk();
    overwrite_refuse = scenario("overwrite-fsync-refuse", file, overwrite_and_sync).with("on_error=refuse").disk();
    overwrite_large = scenario("overwrite-large", large_file, |c| c.write("write", 1000, &pattern(3, 150_000)));
    overwrite_large_refuse = scenario("overwrite-large-refuse", large_file, |c| {
        c.write("write", 1000, &pattern(3, 150_000))?;
        c.step("fsync", |c| c.open_file()?.sync_all())
    }).with("on_error=refuse");
    overwrite_sparse = scenario("overwrite-sparse", sparse_file, |c| c.write("write", 0, &pattern(3, 100_000)));
    append = scenario("append", file, |c| {
        c.write("write", 20_000, &pattern(4, 5000))?;
        c.step("fdatasync", |c| c.open_file()?.sync_data())
    }).disk();
    durable_write = scenario("write-o-sync", |c| file_as(c, libc::O_SYNC), |c| c.write("write", 3000, &pattern(3, 9000))).disk();
    durable_write_refuse = scenario("write-o-sync-refuse", |c| file_as(c, libc::O_SYNC), |c| {
        c.write("write", 3000, &pattern(3, 9000))
    }).with("on_error=refuse");
    direct_write = scenario("write-o-direct", |c| file_as(c, libc::O_DIRECT), direct).disk();
    truncate_down = scenario("truncate-down", file, |c| c.step("ftruncate", |c| c.open_file()?.set_len(700))).disk();
    truncate_path = scenario("truncate-path", file, |c| c.step("truncate", |c| truncate(c, 700)));
    truncate_refuse = scenario("truncate-refuse", file, |c| c.step("truncate", |c| truncate(c, 700))).with("on_error=refuse");
    truncate_up = scenario("truncate-up", file, |c| c.step("ftruncate", |c| c.open_file()?.set_len(50_000)));
    open_truncate = scenario("open-o-trunc", file, |c| c.step("open", |c| {
        c.file = Some(OpenOptions::new().write(true).truncate(true).open(c.w.path(FILE))?);
        Ok(())
    }));
    punch = scenario("punch", file, |c| allocate(c, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 5000));
    zero = scenario("zero", file, |c| match c.w.lower {
        Lower::Tmpfs => Err(crate::outcome::Stop::Skip("tmpfs zeroes no ranges".into())),
        _ => allocate(c, FallocateFlags::ZERO_RANGE, 5000),
    });
    extend = scenario("allocate-extends", file, |c| allocate(c, FallocateFlags::empty(), 40_000));
    fill = scenario("allocate-in-holes", sparse_file, |c| allocate(c, FallocateFlags::KEEP_SIZE, 60_000));
    copy_range = scenario("copy-file-range", two_files, |c| c.step("copy_file_range", copy));
    splice = scenario("sendfile", two_files, |c| c.step("sendfile", send));
    mapping = scenario("mmap", file, map);
    close = scenario("write-close", file, |c| {
        c.write("write", 100, b"before the close")?;
        c.step("close", |c| { c.file = None; Ok(()) })
    });
    open_write_close = scenario("open-write-close", |c| { file(c)?; c.file = None; Ok(()) }, |c| {
        c.step("open", |c| { c.file = Some(OpenOptions::new().write(true).open(c.w.path(FILE))?); Ok(()) })?;
        c.write("write", 100, b"in a file of its own")?;
        c.step("close", |c| { c.file = None; Ok(()) })
    });
    sync_all = scenario("write-syncfs", file, |c| {
        c.write("write", 100, b"before the sync")?;
        c.step("syncfs", |c| Ok(rustix::fs::syncfs(File::open(&c.w.mnt)?)?))
    });
    create = scenario("create", file, |c| c.step("create", |c| File::create_new(c.w.path("new"))));
    make_names = scenario("mkdir-symlink-mknod", file, |c| {
        c.step("mkdir", |c| fs::create_dir(c.w.path("d")))?;
        c.step("symlink", |c| symlink("f", c.w.path("s")))?;
        c.step("mknod", |c| Ok(rustix::fs::mknodat(CWD, c.w.path("p"), rustix::fs::FileType::Fifo, 0o600.into(), 0)?))
    });
    link = scenario("link", file, |c| c.step("link", |c| fs::hard_link(c.w.path(FILE), c.w.path("l"))));
    unlink = scenario("unlink", two_files, |c| c.step("unlink", |c| fs::remove_file(c.w.path("g"))));
    unlink_refuse = scenario("unlink-refuse", two_files, |c| c.step("unlink", |c| fs::remove_file(c.w.path("g")))).with("on_error=refuse");
    unlink_link = scenario("unlink-link", |c| { file(c)?; Ok(fs::hard_link(c.w.path(FILE), c.w.path("l"))?) }, |c| {
        c.step("unlink", |c| fs::remove_file(c.w.path("l")))
    });
    rmdir = scenario("rmdir", |c| { file(c)?; Ok(fs::create_dir(c.w.path("d"))?) }, |c| c.step("rmdir", |c| fs::remove_dir(c.w.path("d"))));
    rename = scenario("rename", file, |c| c.step("rename", |c| fs::rename(c.w.path(FILE), c.w.path("r")))
        .and_then(|()| c.step("rename back", |c| fs::rename(c.w.path("r"), c.w.path(FILE)))));
    rename_whiteout = scenario("rename-whiteout", two_files, |c| c.step("rename", |c| {
        Ok(rustix::fs::renameat_with(CWD, c.w.path("g"), CWD, c.w.path("r"), RenameFlags::WHITEOUT)?)
    }));
    rename_over = scenario("rename-over", two_files, |c| c.step("rename", |c| fs::rename(c.w.path("g"), c.w.path("h")))).disk();
    exchange = scenario("exchange", two_files, |c| c.step("exchange", |c| {
        Ok(rustix::fs::renameat_with(CWD, c.w.path("g"), CWD, c.w.path("h"), RenameFlags::EXCHANGE)?)
    }));
    unnamed = scenario("o-tmpfile", file, |c| c.step("tmpfile", tmpfile));
    attributes = scenario("chmod-chown-utimes", file, |c| {
        c.step("chmod", |c| fs::set_permissions(c.w.path(FILE), fs::Permissions::from_mode(0o604)))?;
        c.step("chown", |c| std::os::unix::fs::chown(c.w.path(FILE), Some(12), Some(34)))?;
        c.step("utimes", |c| c.open_file()?.set_modified(std::time::UNIX_EPOCH))
    });
    xattrs = scenario("xattrs", file, |c| {
        c.step("setxattr", |c| Ok(rustix::fs::setxattr(c.w.path(FILE), "user.one", b"1", XattrFlags::empty())?))?;
        c.step("removexattr", |c| Ok(rustix::fs::removexattr(c.w.path(FILE), "user.one")?))
    });
    revert_one = scenario("revert-1", overwritten, |c| c.step("revert", |c| undo::revert(c.open_file()?, 1)));
    revert_refuse = scenario("revert-1-refuse", overwritten, |c| c.step("revert", |c| undo::revert(c.open_file()?, 1))).with("on_error=refuse");
    revert_many = scenario("revert-4", many_written, |c| c.step("revert", |c| undo::revert(c.open_file()?, 4))).disk();
    revert_large = scenario("revert-large", |c| { large_file(c)?; c.put(1000, &pattern(3, 150_000)) }, |c| {
        c.step("revert", |c| undo::revert(c.open_file()?, 1))
    }).disk();
    revert_cut = scenario("revert-truncate", |c| { file(c)?; c.open_file()?.set_len(700)?; note(c) }, |c| {
        c.step("revert", |c| undo::revert(c.open_file()?, 1))
    });
    revert_growth = scenario("revert-append", |c| { file(c)?; c.put(20_000, &pattern(8, 70_000)) }, |c| {
        c.step("revert", |c| undo::revert(c.open_file()?, 1))
    });
    revert_holes = scenario("revert-holes", |c| { sparse_file(c)?; c.put(0, &pattern(3, 100_000)) }, |c| {
        c.step("revert", |c| undo::revert(c.open_file()?, 1))
    });
    revert_unlink = scenario("revert-names-unlink", |c| { two_files(c)?; Ok(fs::remove_file(c.w.path("g"))?) }, |c| {
        c.step("revert", |c| revert_names(c, "", 1))
    }).names();
    revert_over = scenario("revert-names-over", |c| { two_files(c)?; Ok(fs::rename(c.w.path("g"), c.w.path("h"))?) }, |c| {
        c.step("revert", |c| revert_names(c, "", 1))
    }).names().disk();
    revert_names_many = scenario("revert-names-many", many_names, |c| c.step("revert", |c| revert_names(c, "", 7))).names();
    revert_names_across = scenario("revert-names-across", |c| {
        two_files(c)?;
        fs::create_dir(c.w.path("d"))?;
        fs::write(c.w.path("d/x"), "x")?;
        Ok(fs::rename(c.w.path("d/x"), c.w.path("h"))?)
    }, |c| c.step("revert", |c| revert_names(c, "d", 1))).names();
    read_log = scenario("readlog", many_written, |c| c.step("readlog", |c| undo::page(c.open_file()?)));
    reading = scenario("read-list", two_files, |c| {
        c.step("read", |c| fs::read(c.w.path("g")))?;
        c.step("list", |c| fs::read_dir(&c.w.mnt)?.try_for_each(|entry| entry.map(drop)))
    });
    trim = scenario("trim", file, |c| many_overwrites(c, 14)).with("history_max=1M");
    mount = scenario("mount", written_and_unmounted, |c| c.call("mount", mount_again)).mounts().disk();
    unmount = scenario("unmount-mount", written, |c| {
        c.w.unmount()?;
        c.call("mount", mount_again)
    }).mounts();
    recovery = scenario("recovery", unclean, |c| c.call("mount", mount_again)).mounts().disk();
}

/// The file of most scenarios: older than LoggerFS, and written once.
fn file(c: &mut FaultCase) -> Outcome {
    file_as(c, 0)
}

fn file_as(c: &mut FaultCase, flags: i32) -> Outcome {
    base(c, &pattern(1, 20_000))?;
    c.file = Some(
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(c.w.path(FILE))?,
    );
    c.put(100, &pattern(2, 6000))?;
    let mut options = OpenOptions::new();
    c.file = Some(
        options
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(c.w.path(FILE))?,
    );
    Ok(())
}

fn base(c: &mut FaultCase, content: &[u8]) -> Outcome {
    c.w.make_before(FILE, content)?;
    c.had(content);
    Ok(())
}

fn large_file(c: &mut FaultCase) -> Outcome {
    base(c, &pattern(1, 300_000))?;
    c.file = Some(c.w.open(FILE)?);
    c.put(100, &pattern(2, 6000))
}

/// Data, a hole, data.
fn sparse_file(c: &mut FaultCase) -> Outcome {
    base(c, &pattern(1, 20_000))?;
    c.file = Some(c.w.open(FILE)?);
    c.put(70_000, &pattern(2, 9000))
}

fn two_files(c: &mut FaultCase) -> Outcome {
    c.w.make_before("g", &pattern(5, 12_000))?;
    file(c)?;
    fs::write(c.w.path("h"), pattern(6, 500)).at("making h")
}

/// One operation of each kind on names of the mount's top directory.
fn many_names(c: &mut FaultCase) -> Outcome {
    two_files(c)?;
    fs::write(c.w.path("new"), "new")?;
    fs::hard_link(c.w.path(FILE), c.w.path("l"))?;
    fs::rename(c.w.path("new"), c.w.path("g"))?;
    fs::create_dir(c.w.path("d"))?;
    let (one, two) = (c.w.path("d"), c.w.path("h"));
    rustix::fs::renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE)?;
    fs::remove_file(c.w.path("d"))?;
    Ok(fs::remove_dir(c.w.path("h"))?)
}

fn revert_names(c: &FaultCase, directory: &str, count: usize) -> io::Result<()> {
    undo::revert(&File::open(c.w.path(directory))?, count)
}

fn overwritten(c: &mut FaultCase) -> Outcome {
    file(c)?;
    c.put(3000, &pattern(3, 9000))
}

fn many_written(c: &mut FaultCase) -> Outcome {
    file(c)?;
    for number in 0..5u64 {
        c.put(number * 2000, &pattern(20 + number, 5000))?;
    }
    c.put(19_000, &pattern(30, 4000))
}

/// Records the present content of the file.
fn note(c: &mut FaultCase) -> Outcome {
    let content = c.w.read(FILE)?;
    c.had(&content);
    Ok(())
}

fn overwrite_and_sync(c: &mut FaultCase) -> Outcome {
    c.write("write", 3000, &pattern(3, 9000))?;
    c.step("fsync", |c| c.open_file()?.sync_all())?;
    c.write("second write", 5000, &pattern(7, 300))?;
    c.step("second fsync", |c| c.open_file()?.sync_all())
}

fn many_overwrites(c: &mut FaultCase, times: u64) -> Outcome {
    for number in 0..times {
        c.write("write", 0, &pattern(100 + number, 65_536))?;
    }
    c.step("fsync", |c| c.open_file()?.sync_all())
}

/// Aligned memory, offset and length.
fn direct(c: &mut FaultCase) -> Outcome {
    let mut memory = Map::anonymous(8192)?;
    memory.store(0, &pattern(3, 8192));
    c.step("direct write", |c| {
        let mut done = 0;
        while done < 8192 {
            done += c
                .open_file()?
                .write_at(&memory.bytes()[done..], 4096 + done as u64)?;
            c.note_part(4096, memory.bytes(), done);
        }
        Ok(())
    })
}

fn truncate(c: &mut FaultCase, size: i64) -> io::Result<()> {
    let path = std::ffi::CString::new(c.w.path(FILE).display().to_string())?;
    sys::truncate(&path, size)
}

fn allocate(c: &mut FaultCase, flags: FallocateFlags, length: u64) -> Outcome {
    c.step("fallocate", |c| {
        Ok(rustix::fs::fallocate(c.open_file()?, flags, 1000, length)?)
    })
}

fn copy(c: &mut FaultCase) -> io::Result<()> {
    let from = File::open(c.w.path("g"))?;
    let bytes = pattern(5, 12_000)[500..9500].to_vec();
    let mut done = 0;
    while done < bytes.len() {
        let (mut at, mut to) = (500 + done as u64, 2000 + done as u64);
        let file = c.open_file()?;
        done += rustix::fs::copy_file_range(
            &from,
            Some(&mut at),
            file,
            Some(&mut to),
            bytes.len() - done,
        )?;
        c.note_part(2000, &bytes, done);
    }
    Ok(())
}

fn send(c: &mut FaultCase) -> io::Result<()> {
    let from = File::open(c.w.path("g"))?;
    let bytes = pattern(5, 12_000)[..9000].to_vec();
    let mut done = 0;
    while done < bytes.len() {
        let mut at = done as u64;
        done += rustix::fs::sendfile(c.open_file()?, &from, Some(&mut at), bytes.len() - done)?;
        c.note_part(0, &bytes, done);
    }
    Ok(())
}

fn map(c: &mut FaultCase) -> Outcome {
    let mut map = None;
    c.step("mmap", |c| {
        let mut memory = Map::of(c.open_file()?, 8192, true, true)?;
        memory.store(10, b"through memory");
        map = Some(memory);
        Ok(())
    })?;
    c.step("msync", |_| map.map_or(Ok(()), |map| map.sync()))
}

fn tmpfile(c: &mut FaultCase) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(&c.w.mnt)?;
    file.write_all_at(b"without a name at first", 0)?;
    let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(rustix::fs::linkat(
        CWD,
        own,
        CWD,
        c.w.path("named"),
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

/// For scenarios of mounts: written through a mount that stays mounted.
fn written(c: &mut FaultCase) -> Outcome {
    c.w.mount_with(c.options)?;
    many_written(c)?;
    c.file = None;
    c.learn()
}

fn written_and_unmounted(c: &mut FaultCase) -> Outcome {
    written(c)?;
    c.w.unmount()
}

fn mount_again(c: &mut FaultCase) -> io::Result<()> {
    c.w.try_mount(c.options).map_err(|refusal| refusal.error)
}

/// A history that was not closed: the copy from before the unmount is put back after it.
fn unclean(c: &mut FaultCase) -> Outcome {
    written(c)?;
    rustix::fs::syncfs(File::open(&c.w.mnt)?)?;
    let history = c.w.history()?.display().to_string();
    let saved = format!("{}/saved", c.w.base.display());
    let _ = fs::remove_dir_all(&saved);
    mounts::run(&["cp", "-a", &history, &saved])?;
    c.w.unmount()?;
    mounts::run(&["rm", "-rf", &history])?;
    mounts::run(&["cp", "-a", &saved, &history]).map(drop)
}
