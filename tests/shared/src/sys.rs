// SPDX-License-Identifier: GPL-2.0

//! System calls that no safe crate offers. With `missing`, the only files with `unsafe`.

use std::ffi::{c_void, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

mod missing;

pub use missing::Missing;

/// Turns the C convention (−1 and errno) into a result.
fn done(value: libc::c_long) -> io::Result<usize> {
    if value < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value as usize)
}

/// `ioctl` with a number as its argument, also used to hand in bad addresses.
pub fn ioctl_number(file: &impl AsFd, request: u64, argument: usize) -> io::Result<usize> {
    // SAFETY: the callers pass plain numbers, or addresses that the kernel must refuse.
    let value = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request as _, argument) };
    done(value.into())
}

/// `ioctl` with a buffer that is as long as the request says.
pub fn ioctl_bytes(file: &impl AsFd, request: u64, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the requests used here read and write at most `bytes.len()` bytes.
    let value = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request as _, bytes.as_mut_ptr()) };
    done(value.into())
}

/// The same with a buffer of numbers of 64 bits.
pub fn ioctl_words(file: &impl AsFd, request: u64, words: &mut [u64]) -> io::Result<usize> {
    // SAFETY: the requests used here read and write at most as many bytes as `words` has.
    let value = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request as _, words.as_mut_ptr()) };
    done(value.into())
}

/// The address of a buffer, for structures that carry one.
pub fn address(bytes: &mut [u8]) -> u64 {
    bytes.as_mut_ptr() as usize as u64
}

/// Makes the calling thread, and no other, one of another user's, without capabilities.
pub fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: plain numbers.
    let value = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    done(value).map(drop)
}

/// Makes the calling process, which has one thread, another user's with that group only.
pub fn become_only(uid: u32) -> io::Result<()> {
    // SAFETY: no groups.
    done(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) })?;
    // SAFETY: plain numbers.
    done(unsafe { libc::syscall(libc::SYS_setresgid, uid, uid, uid) })?;
    become_user(uid)
}

/// Leaves the calling process the capabilities that root has in a usual container.
pub fn drop_to_container() -> io::Result<()> {
    // CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP,
    // CAP_NET_BIND_SERVICE, CAP_NET_RAW, CAP_SYS_CHROOT, CAP_MKNOD, CAP_AUDIT_WRITE, CAP_SETFCAP.
    const KEPT: [u32; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
    let kept = KEPT.iter().fold(0u32, |all, bit| all | 1 << bit);
    // _LINUX_CAPABILITY_VERSION_3, and this process.
    let mut head = [0x2008_0522u32, 0];
    let sets = [kept, kept, 0, 0, 0, 0];
    // SAFETY: a header, and two times three sets.
    done(unsafe { libc::syscall(libc::SYS_capset, head.as_mut_ptr(), sets.as_ptr()) }).map(drop)
}

/// Does `work` as another user with that group, and is root again then.
pub fn as_user<T>(uid: u32, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    set_effective(uid)?;
    let result = work();
    set_effective(0)?;
    result
}

/// The effective user and group of the calling thread, whose real ones stay root's.
fn set_effective(id: u32) -> io::Result<()> {
    let set_user = || {
        // SAFETY: plain numbers; -1 leaves a value unchanged.
        done(unsafe { libc::syscall(libc::SYS_setresuid, -1, id, -1) })
    };
    let set_group = || {
        // SAFETY: plain numbers; -1 leaves a value unchanged.
        done(unsafe { libc::syscall(libc::SYS_setresgid, -1, id, -1) })
    };
    // Only root may choose a group.
    if id == 0 {
        set_user()?;
        set_group()?;
    } else {
        set_group()?;
        set_user()?;
    }
    Ok(())
}

/// A new fanotify queue, which does not wait, of events on a mount.
pub fn watch_mount(at: &Path, events: u64) -> io::Result<File> {
    let at = CString::new(at.as_os_str().as_bytes())?;
    // SAFETY: numbers only.
    let fd = unsafe { libc::fanotify_init(libc::FAN_NONBLOCK, libc::O_RDONLY as u32) };
    let fd = done(fd.into())? as i32;
    // SAFETY: a new descriptor, which no other code has.
    let queue = unsafe { File::from_raw_fd(fd) };
    let how = libc::FAN_MARK_ADD | libc::FAN_MARK_MOUNT;
    // SAFETY: a descriptor, numbers and a C string.
    done(unsafe { libc::fanotify_mark(fd, how, events, libc::AT_FDCWD, at.as_ptr()) }.into())?;
    Ok(queue)
}

/// The files of the events that wait in a fanotify queue, each with a descriptor of its own.
pub fn watched_files(queue: &mut File) -> io::Result<Vec<File>> {
    // struct fanotify_event_metadata, with the descriptor at 16.
    const EVENT: usize = 24;
    let mut bytes = [0; 4096];
    let count = queue.read(&mut bytes)?;
    let fds = bytes[..count].chunks_exact(EVENT).map(|event| {
        let fd = [event[16], event[17], event[18], event[19]];
        i32::from_ne_bytes(fd)
    });
    // SAFETY: each event gives us a new descriptor.
    Ok(fds.map(|fd| unsafe { File::from_raw_fd(fd) }).collect())
}

/// `fcntl` with a number as its argument.
pub fn fcntl_number(file: &impl AsFd, command: i32, argument: i32) -> io::Result<i32> {
    // SAFETY: plain numbers.
    let value = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, argument) };
    done(value.into()).map(|value| value as i32)
}

/// A record lock by `fcntl`: of the process (`F_SETLK`) or of the open file (`F_OFD_SETLK`).
pub fn fcntl_lock(
    file: &impl AsFd,
    command: i32,
    kind: i32,
    start: i64,
    length: i64,
) -> io::Result<i32> {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    // SAFETY: `lock` is a valid structure for the lock commands and outlives the call.
    let value = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &mut lock) };
    done(value.into())?;
    Ok(lock.l_type.into())
}

/// Ignores a signal in this process.
pub fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN installs no handler that could run.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// `truncate` by path.
pub fn truncate(path: &std::ffi::CStr, size: i64) -> io::Result<()> {
    // SAFETY: a C string and a number.
    done(unsafe { libc::truncate(path.as_ptr(), size) }.into()).map(drop)
}

/// `fallocate` with the flags as numbers.
pub fn fallocate(file: &impl AsFd, mode: i32, offset: i64, length: i64) -> io::Result<()> {
    // SAFETY: plain numbers.
    let value = unsafe { libc::fallocate(file.as_fd().as_raw_fd(), mode, offset, length) };
    done(value.into()).map(drop)
}

/// A file handle in the layout of `struct file_handle`: length, type, bytes.
pub type Handle = Vec<u8>;

/// `name_to_handle_at` of a path, whose last link is not followed.
pub fn name_to_handle(path: &std::ffi::CStr, flags: i32) -> io::Result<Handle> {
    const ROOM: usize = 128;
    let mut handle = vec![0; 8 + ROOM];
    handle[..4].copy_from_slice(&(ROOM as u32).to_ne_bytes());
    let mut mount = 0;
    let (name, to) = (path.as_ptr(), handle.as_mut_ptr().cast());
    // SAFETY: A C string, and a handle with its declared capacity.
    let value = unsafe { libc::name_to_handle_at(libc::AT_FDCWD, name, to, &mut mount, flags) };
    done(value.into())?;
    let length = u32::from_ne_bytes([handle[0], handle[1], handle[2], handle[3]]);
    handle.truncate(8 + length as usize);
    Ok(handle)
}

/// `open_by_handle_at` on the filesystem of `mount`.
pub fn open_by_handle(mount: &impl AsFd, handle: &Handle, flags: i32) -> io::Result<OwnedFd> {
    let mut handle = handle.clone();
    let from = handle.as_mut_ptr().cast();
    // SAFETY: A handle with its declared number of bytes.
    let fd = unsafe { libc::open_by_handle_at(mount.as_fd().as_raw_fd(), from, flags) };
    done(fd.into())?;
    // SAFETY: the kernel gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Writes the `length` bytes at `bytes` and the inaccessible memory after them to a file.
pub fn write_beyond(file: &impl AsFd, bytes: &[u8], beyond: usize) -> io::Result<usize> {
    let length = bytes.len() + beyond;
    let pages = Map::anonymous(length)?;
    // SAFETY: the range lies in the mapping, which is ours.
    unsafe { ptr::copy(bytes.as_ptr(), pages.start, bytes.len()) };
    let end = pages.start.wrapping_add(bytes.len()).cast();
    // SAFETY: as above; nothing reads the pages from `end` on any more.
    let cut = unsafe { libc::mprotect(end, beyond, libc::PROT_NONE) };
    done(cut.into())?;
    // SAFETY: the kernel stops at inaccessible memory.
    let value = unsafe { libc::write(file.as_fd().as_raw_fd(), pages.start.cast(), length) };
    done(value as libc::c_long)
}

/// Memory from `mmap`: of a file, or anonymous (aligned to pages, for O_DIRECT).
pub struct Map {
    start: *mut u8,
    length: usize,
}

// SAFETY: memory of the process, which any of its threads may use.
unsafe impl Send for Map {}

impl Map {
    /// Anonymous memory.
    pub fn anonymous(length: usize) -> io::Result<Map> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Map::make(length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    }

    /// A window on a file: `shared` or private, writable or not.
    pub fn of(file: &impl AsFd, length: usize, shared: bool, write: bool) -> io::Result<Map> {
        let protection = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        let flags = if shared {
            libc::MAP_SHARED
        } else {
            libc::MAP_PRIVATE
        };
        Map::make(length, protection, flags, file.as_fd().as_raw_fd(), 0)
    }

    fn make(length: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> io::Result<Map> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Map {
            start: start.cast(),
            length,
        })
    }

    pub fn store(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.length);
        // SAFETY: the range lies in the mapping, which lives as long as `self`.
        unsafe { ptr::copy(bytes.as_ptr(), self.start.add(at), bytes.len()) };
    }

    pub fn load(&self, at: usize, length: usize) -> Vec<u8> {
        assert!(at + length <= self.length);
        let mut bytes = vec![0; length];
        // SAFETY: the range lies in the mapping, which lives as long as `self`.
        unsafe { ptr::copy(self.start.add(at), bytes.as_mut_ptr(), length) };
        bytes
    }

    /// The address of a byte, which the kernel may be given with any protection.
    pub fn address(&self, at: usize) -> usize {
        assert!(at <= self.length);
        self.start as usize + at
    }

    /// Allows these accesses (`PROT_READ` and kin) to whole pages, and no others.
    pub fn protect(&self, at: usize, length: usize, protection: i32) -> io::Result<()> {
        assert!(at + length <= self.length);
        // SAFETY: The range lies in the mapping. No protected part is borrowed: only the kernel is given its
        // address.
        let value = unsafe { libc::mprotect(self.start.add(at).cast(), length, protection) };
        done(value.into()).map(drop)
    }

    /// The bytes of anonymous memory, which no other thread changes.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `length` bytes long, initialised, and borrowed through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }

    /// `madvise` on whole pages of the mapping.
    pub fn advise(&self, at: usize, length: usize, advice: i32) -> io::Result<()> {
        assert!(at + length <= self.length);
        // SAFETY: The range lies in the mapping, of which nothing is borrowed.
        let value = unsafe { libc::madvise(self.start.add(at).cast(), length, advice) };
        done(value.into()).map(drop)
    }

    /// `remap_file_pages` of its first pages to another place in the file.
    pub fn remap_pages(&self, length: usize, page: usize) -> io::Result<()> {
        assert!(length <= self.length);
        let (start, none) = (self.start as usize, 0usize);
        let call = libc::SYS_remap_file_pages;
        // SAFETY: The range lies in the mapping, of which nothing is borrowed.
        let value = unsafe { libc::syscall(call, start, length, none, page, none) };
        done(value).map(drop)
    }

    /// `mremap` to another length, at any address.
    pub fn resize(&mut self, length: usize) -> io::Result<()> {
        let flags = libc::MREMAP_MAYMOVE;
        // SAFETY: The range is our mapping, of which nothing is borrowed.
        let start = unsafe { libc::mremap(self.start.cast(), self.length, length, flags) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.start = start.cast();
        self.length = length;
        Ok(())
    }

    /// Which of its pages are in memory (`mincore`).
    pub fn resident(&self) -> io::Result<Vec<bool>> {
        let mut pages = vec![0u8; self.length.div_ceil(4096)];
        let to = pages.as_mut_ptr();
        // SAFETY: the range is our mapping, and there is a byte for each of its pages.
        let value = unsafe { libc::mincore(self.start.cast(), self.length, to) };
        done(value.into())?;
        Ok(pages.iter().map(|page| page & 1 != 0).collect())
    }

    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is our mapping.
        let value = unsafe { libc::msync(self.start.cast(), self.length, libc::MS_SYNC) };
        done(value.into()).map(drop)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is our mapping, and no borrow of it is left.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// Runs `work` in a child forked from this process, which has one thread; returns the status from
/// `waitpid`.
pub fn in_child(work: impl FnOnce()) -> io::Result<i32> {
    // SAFETY: the process has one thread, so that the child has a consistent copy.
    let child = unsafe { libc::fork() };
    if child == 0 {
        work();
        // SAFETY: ends the child, without anything that is the parent's.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: a place for the status of a child of ours.
    let value = unsafe { libc::waitpid(child, &mut status, 0) };
    done(value.into()).map(|_| status)
}

/// One write through the kernel's own AIO (`io_submit`).
pub fn aio_write(file: &impl AsFd, bytes: &[u8], offset: i64) -> io::Result<usize> {
    let mut context: libc::c_ulong = 0;
    // SAFETY: `context` is a valid place for the new context's id.
    done(unsafe { libc::syscall(libc::SYS_io_setup, 1, &mut context) })?;
    let result = aio_write_in(context, file, bytes, offset);
    // SAFETY: plain number; waits for pending requests.
    done(unsafe { libc::syscall(libc::SYS_io_destroy, context) })?;
    result
}

fn aio_write_in(
    context: libc::c_ulong,
    file: &impl AsFd,
    bytes: &[u8],
    offset: i64,
) -> io::Result<usize> {
    const PWRITE: u16 = 1;
    // SAFETY: an iocb of zeroes is valid.
    let mut block: libc::iocb = unsafe { std::mem::zeroed() };
    block.aio_lio_opcode = PWRITE;
    block.aio_fildes = file.as_fd().as_raw_fd() as u32;
    block.aio_buf = bytes.as_ptr() as usize as u64;
    block.aio_nbytes = bytes.len() as u64;
    block.aio_offset = offset;
    let mut list = [&mut block as *mut libc::iocb];
    // SAFETY: the block and the bytes outlive the request, which is waited for below.
    done(unsafe { libc::syscall(libc::SYS_io_submit, context, 1, list.as_mut_ptr()) })?;
    let mut event = [0u64; 4];
    let no_timeout = ptr::null_mut::<c_void>();
    // SAFETY: `event` has the size of one `struct io_event`.
    done(unsafe {
        libc::syscall(
            libc::SYS_io_getevents,
            context,
            1,
            1,
            event.as_mut_ptr(),
            no_timeout,
        )
    })?;
    match event[2] as i64 {
        error if error < 0 => Err(io::Error::from_raw_os_error(-error as i32)),
        written => Ok(written as usize),
    }
}

/// An io_uring with one entry, built on the raw system calls.
pub struct Ring {
    fd: OwnedFd,
    submission: Map,
    entries: Map,
    offsets: [u32; 30],
}

impl Ring {
    const SQ_TAIL: usize = 11;
    const SQ_MASK: usize = 12;
    const SQ_ARRAY: usize = 16;
    const CQ_HEAD: usize = 20;
    const CQ_CQES: usize = 25;

    pub fn new() -> io::Result<Ring> {
        let mut parameters = [0u32; 30];
        let asked = parameters.as_mut_ptr();
        // SAFETY: `parameters` has the size of `struct io_uring_params` (120 bytes).
        let fd = done(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, asked) })?;
        // SAFETY: the kernel gave us this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let raw = fd.as_raw_fd();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Ok(Ring {
            submission: Map::make(4096, protection, flags, raw, 0)?,
            entries: Map::make(4096, protection, flags, raw, 0x1000_0000)?,
            fd,
            offsets: parameters,
        })
    }

    /// Writes, and waits for completion.
    pub fn write(
        &mut self,
        file: &impl AsFd,
        bytes: &[u8],
        offset: u64,
        flags: u32,
    ) -> io::Result<usize> {
        const OP_WRITE: u8 = 23;
        let mut entry = [0u8; 64];
        entry[0] = OP_WRITE;
        entry[4..8].copy_from_slice(&file.as_fd().as_raw_fd().to_ne_bytes());
        entry[8..16].copy_from_slice(&offset.to_ne_bytes());
        entry[16..24].copy_from_slice(&(bytes.as_ptr() as usize as u64).to_ne_bytes());
        entry[24..28].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
        entry[28..32].copy_from_slice(&flags.to_ne_bytes());
        self.entries.store(0, &entry);
        let tail = self.word(Self::SQ_TAIL);
        let slot = (tail & self.word(Self::SQ_MASK)) as usize;
        let array = self.offsets[Self::SQ_ARRAY] as usize + 4 * slot;
        self.submission.store(array, &0u32.to_ne_bytes());
        self.set_word(Self::SQ_TAIL, tail.wrapping_add(1));
        self.enter()?;
        let head = self.word(Self::CQ_HEAD);
        // The completion queue has twice as many entries as the submission queue: two.
        let cqe = self.offsets[Self::CQ_CQES] as usize + 16 * (head & 1) as usize;
        let result = self.submission.load(cqe + 8, 4);
        self.set_word(Self::CQ_HEAD, head.wrapping_add(1));
        match i32::from_ne_bytes([result[0], result[1], result[2], result[3]]) {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            written => Ok(written as usize),
        }
    }

    fn enter(&self) -> io::Result<()> {
        const GET_EVENTS: u32 = 1;
        let none = ptr::null_mut::<c_void>();
        // SAFETY: the one entry names bytes that outlive the wait for its end.
        done(unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                1,
                1,
                GET_EVENTS,
                none,
                0,
            )
        })
        .map(drop)
    }

    fn word(&self, field: usize) -> u32 {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let bytes = self.submission.load(self.offsets[field] as usize, 4);
        u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn set_word(&mut self, field: usize, value: u32) {
        let at = self.offsets[field] as usize;
        self.submission.store(at, &value.to_ne_bytes());
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

/// A listener that must allow each open of a filesystem's files (`FAN_OPEN_PERM`).
pub struct OpenWatch(OwnedFd);

impl OpenWatch {
    /// Listens on the whole filesystem that `path` is on.
    pub fn of_filesystem(path: &std::ffi::CStr) -> io::Result<OpenWatch> {
        let class = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        // SAFETY: plain numbers.
        let fd = done(unsafe { libc::fanotify_init(class, libc::O_RDONLY as u32) }.into())?;
        // SAFETY: the kernel gave us this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let (add, mask) = (
            libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM,
            libc::FAN_OPEN_PERM,
        );
        let (raw, here) = (fd.as_raw_fd(), libc::AT_FDCWD);
        // SAFETY: plain numbers and a C string.
        done(unsafe { libc::fanotify_mark(raw, add, mask, here, path.as_ptr()) }.into())?;
        Ok(OpenWatch(fd))
    }

    /// Calls `before` and allows an open, if one waits; whether one did.
    pub fn allow_next(&self, before: impl FnOnce()) -> io::Result<bool> {
        const EVENT: usize = 24;
        let mut event = [0u8; EVENT];
        let (raw, to) = (self.0.as_raw_fd(), event.as_mut_ptr());
        // SAFETY: `event` has the size of one `struct fanotify_event_metadata`.
        match done(unsafe { libc::read(raw, to.cast(), EVENT) } as libc::c_long) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            read => read?,
        };
        let fd = i32::from_ne_bytes([event[16], event[17], event[18], event[19]]);
        // SAFETY: the kernel gave us the event's descriptor.
        let opened = unsafe { OwnedFd::from_raw_fd(fd) };
        before();
        let mut response = [0u8; 8];
        response[..4].copy_from_slice(&opened.as_raw_fd().to_ne_bytes());
        response[4..].copy_from_slice(&libc::FAN_ALLOW.to_ne_bytes());
        // SAFETY: `response` has the size of one `struct fanotify_response`.
        done(unsafe { libc::write(raw, response.as_ptr().cast(), 8) } as libc::c_long)?;
        Ok(true)
    }
}
