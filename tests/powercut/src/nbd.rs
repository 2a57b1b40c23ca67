// SPDX-License-Identifier: GPL-2.0

//! The disk: a network block device served by this program. The server keeps the written data in
//! memory and records every request, so that a cut can be made anywhere afterwards.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::mark::Mark;
use crate::mounts::run;
use crate::outcome::{At, Outcome};
use crate::store::{Entry, Store, What, SECTOR};
use crate::sys::ioctl_number;

const SET_SOCK: u64 = 0xab00;
const SET_BLKSIZE: u64 = 0xab01;
const DO_IT: u64 = 0xab03;
const CLEAR_SOCK: u64 = 0xab04;
const SET_SIZE_BLOCKS: u64 = 0xab07;
const DISCONNECT: u64 = 0xab08;
const SET_FLAGS: u64 = 0xab0a;
const BLKFLSBUF: u64 = 0x1261;

const HAS_FLAGS: usize = 1;
const SEND_FLUSH: usize = 1 << 2;
const SEND_FUA: usize = 1 << 3;
const SEND_WRITE_ZEROES: usize = 1 << 6;

const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

struct Shared {
    store: Store,
    log: Option<Vec<Entry>>,
    /// From here on there are marks.
    marks: u64,
    began: Instant,
}

/// The device, while it is connected.
pub struct Disk {
    pub path: String,
    shared: Arc<Mutex<Shared>>,
    device: File,
    end: UnixStream,
    threads: Vec<JoinHandle<()>>,
}

impl Disk {
    /// A disk of zeroes with space for marks after `size` bytes. With `fua`, it accepts FUA writes.
    pub fn new(number: u32, size: u64, fua: bool) -> Outcome<Disk> {
        run(&["modprobe", "nbd", "nbds_max=8", "max_part=0"])?;
        let path = format!("/dev/nbd{number}");
        let all = size + crate::mark::AREA;
        let device = open(&path)?;
        let (kernels, ours) = UnixStream::pair()?;
        let mut flags = HAS_FLAGS | SEND_FLUSH | SEND_WRITE_ZEROES;
        if fua {
            flags |= SEND_FUA;
        }
        ioctl_number(&device, SET_BLKSIZE, SECTOR)?;
        ioctl_number(&device, SET_SIZE_BLOCKS, all as usize / SECTOR)?;
        ioctl_number(&device, SET_FLAGS, flags)?;
        ioctl_number(&device, SET_SOCK, kernels.as_raw_fd() as usize).at("NBD_SET_SOCK")?;
        let shared = Arc::new(Mutex::new(Shared {
            store: Store::new(all),
            log: None,
            marks: size,
            began: Instant::now(),
        }));
        let ends = ours.try_clone()?;
        let of_server = shared.clone();
        let server = std::thread::spawn(move || serve(ours, &of_server));
        let of_kernel = open(&path)?;
        let kernel = std::thread::spawn(move || {
            let socket: OwnedFd = kernels.into();
            let _ = ioctl_number(&of_kernel, DO_IT, 0);
            let _ = ioctl_number(&of_kernel, CLEAR_SOCK, 0);
            drop(socket);
        });
        wait_for_size(&device, all)?;
        Ok(Disk {
            path,
            shared,
            device,
            end: ends,
            threads: vec![server, kernel],
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to write down requests.
    pub fn record(&self) {
        self.shared().log = Some(Vec::new());
    }

    /// Ends the recording, and returns it.
    pub fn recorded(&self) -> Vec<Entry> {
        self.shared().log.take().unwrap_or_default()
    }

    /// Puts other content into the disk. Nothing is mounted.
    pub fn put(&self, store: Store) -> Outcome {
        ioctl_number(&self.device, BLKFLSBUF, 0).at("dropping the disk's cache")?;
        self.shared().store = store;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = ioctl_number(&self.device, DISCONNECT, 0);
        let _ = self.end.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn open(path: &str) -> Outcome<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options.open(path).at(format!("opening {path}"))
}

/// The kernel sets the size after the connection.
fn wait_for_size(device: &File, size: u64) -> Outcome {
    for _ in 0..500 {
        let mut end = device.try_clone()?;
        if io::Seek::seek(&mut end, io::SeekFrom::End(0))? == size {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    crate::outcome::fail!("the network block device did not begin")
}

/// Answers requests until the other end is gone.
fn serve(mut socket: UnixStream, shared: &Mutex<Shared>) {
    while answer(&mut socket, shared).is_ok() {}
}

fn answer(socket: &mut UnixStream, shared: &Mutex<Shared>) -> io::Result<()> {
    let mut head = [0; 28];
    socket.read_exact(&mut head)?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(0) != REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (flags, kind) = (word(4) >> 16, word(4) & 0xffff);
    let at = u64::from(word(16)) << 32 | u64::from(word(20));
    let length = word(24) as usize;
    let mut reply = Vec::with_capacity(16 + length);
    reply.extend_from_slice(&REPLY.to_be_bytes());
    reply.extend_from_slice(&[0; 4]);
    reply.extend_from_slice(&head[8..16]);
    let what = match kind {
        0 => {
            let start = reply.len();
            reply.resize(start + length, 0);
            let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.store.read(at, &mut reply[start..]);
            None
        }
        1 => {
            let mut bytes = vec![0; length];
            socket.read_exact(&mut bytes)?;
            let bytes = Arc::new(bytes);
            Some(What::Write { at, bytes })
        }
        3 => Some(What::Flush),
        6 => Some(What::Zero {
            at,
            length: length as u64,
        }),
        // The kernel goes.
        2 => return Err(io::ErrorKind::ConnectionAborted.into()),
        _ => {
            reply[4..8].copy_from_slice(&(libc::EINVAL as u32).to_be_bytes());
            None
        }
    };
    if let Some(what) = what {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.take(what, flags & 1 != 0);
    }
    socket.write_all(&reply)
}

impl Shared {
    fn take(&mut self, what: What, durable: bool) {
        let time = self.began.elapsed().as_millis() as u64;
        let mut entry = Entry {
            what,
            durable,
            time,
        };
        entry.apply(&mut self.store);
        if let What::Write { at, bytes } = &entry.what {
            if let Some(mark) = Mark::decode(bytes).filter(|_| *at >= self.marks) {
                entry.what = What::Mark(mark);
            }
        }
        if let Some(log) = &mut self.log {
            log.push(entry);
        }
    }
}
