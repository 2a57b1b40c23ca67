// SPDX-License-Identifier: GPL-2.0

//! The request for the content and attributes that an object had, as a program sees it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::outcome::{fail, At, Outcome};
use crate::sys;

const fn iowr(number: u64, size: u64) -> u64 {
    (3 << 30) | (size << 16) | ((b'L' as u64) << 8) | number
}

const STATUS: u64 = iowr(3, 200);
const READ_PAST: u64 = iowr(6, 96);

/// An object, as lines name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectId {
    pub volume: u64,
    pub inode: u64,
    pub generation: u32,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The number of the mount's last line, and the object of an open file.
pub fn now(file: &File) -> Outcome<(u64, ObjectId)> {
    let mut bytes = [0u8; 200];
    bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
    sys::ioctl_bytes(file, STATUS, &mut bytes).at("the status")?;
    let object = ObjectId {
        volume: word(&bytes, 40),
        inode: word(&bytes, 48),
        generation: half(&bytes, 56),
    };
    Ok((word(&bytes, 32), object))
}

/// A request, as it is passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    pub flags: u32,
    pub seq: u64,
    /// All zero: the open file.
    pub object: ObjectId,
    pub output: i32,
}

/// The reply.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub size: u64,
    pub written: u64,
    pub newest: u64,
    pub kind: u32,
    pub reason: u32,
    pub attributes: Vec<u8>,
}

/// Passes a request on.
pub fn ask(file: &File, request: &Request) -> (io::Result<()>, Reply) {
    let mut attributes = vec![0u8; 64 * 1024];
    let mut bytes = [0u8; 96];
    bytes[0..4].copy_from_slice(&1u32.to_ne_bytes());
    bytes[4..8].copy_from_slice(&request.flags.to_ne_bytes());
    bytes[8..16].copy_from_slice(&request.seq.to_ne_bytes());
    bytes[16..24].copy_from_slice(&request.object.volume.to_ne_bytes());
    bytes[24..32].copy_from_slice(&request.object.inode.to_ne_bytes());
    bytes[32..36].copy_from_slice(&request.object.generation.to_ne_bytes());
    bytes[36..40].copy_from_slice(&request.output.to_ne_bytes());
    bytes[40..48].copy_from_slice(&sys::address(&mut attributes).to_ne_bytes());
    bytes[48..52].copy_from_slice(&(attributes.len() as u32).to_ne_bytes());
    let result = sys::ioctl_bytes(file, READ_PAST, &mut bytes).map(drop);
    attributes.truncate(half(&bytes, 52) as usize);
    let reply = Reply {
        size: word(&bytes, 56),
        written: word(&bytes, 64),
        newest: word(&bytes, 72),
        kind: half(&bytes, 80),
        reason: half(&bytes, 84),
        attributes,
    };
    (result, reply)
}

/// Reads the state right after the line `seq` into a new file at `to`; returns that file's content and the
/// reply.
pub fn read(file: &File, object: ObjectId, seq: u64, to: &Path) -> Outcome<(Vec<u8>, Reply)> {
    let output = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)?;
    let request = Request {
        seq,
        object,
        output: output.as_raw_fd(),
        ..Request::default()
    };
    let (result, reply) = ask(file, &request);
    if let Err(error) = result {
        fail!("as of {seq}: {error}: {reply:?}");
    }
    output.set_len(reply.size)?;
    Ok((std::fs::read(to)?, reply))
}

/// The value of the last record of a kind and name; `None`: there is no record, or it says that there was no value.
pub fn attribute<'r>(records: &'r [u8], kind: u8, name: &[u8]) -> Option<&'r [u8]> {
    let (mut rest, mut found) = (records, None);
    while rest.len() >= 8 {
        let (head, tail) = rest.split_at(8);
        let name_length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let value_length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (own, tail) = tail.split_at(name_length);
        let (value, tail) = tail.split_at(value_length);
        if head[0] == kind && own == name {
            found = (head[1] == 1).then_some(value);
        }
        rest = tail;
    }
    found
}
