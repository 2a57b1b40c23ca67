// SPDX-License-Identifier: GPL-2.0

//! Marks: the workload writes one past the end of the filesystem, on the same disk, after each
//! completed step. So they are ordered with the other writes of the disk, and survive a killed
//! machine.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::outcome::{check, At, Outcome};
use crate::store::SECTOR;
use crate::sys::Map;

const MAGIC: &[u8; 8] = b"LFSMARK1";

/// How much room there is for them.
pub const AREA: u64 = 2 << 20;

/// One step was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The workload of the mark.
    pub run: u64,
    /// Steps count from 1.
    pub step: u64,
    /// How many bytes were written, or 0; less: the errno.
    pub result: i64,
    /// The inode's number, where a file was made.
    pub inode: u64,
    /// When, in milliseconds.
    pub time: u64,
}

impl Mark {
    pub fn encode(&self) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        sector[..8].copy_from_slice(MAGIC);
        let words = [
            self.run,
            self.step,
            self.result as u64,
            self.inode,
            self.time,
        ];
        for (at, word) in words.iter().enumerate() {
            sector[8 + 8 * at..16 + 8 * at].copy_from_slice(&word.to_le_bytes());
        }
        sector
    }

    pub fn decode(sector: &[u8]) -> Option<Mark> {
        if !sector.starts_with(MAGIC) {
            return None;
        }
        let word = |at: usize| {
            let bytes = sector.get(8 + 8 * at..16 + 8 * at)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        Some(Mark {
            run: word(0)?,
            step: word(1)?,
            result: word(2)? as i64,
            inode: word(3)?,
            time: word(4)?,
        })
    }
}

/// Writes marks.
pub struct Marker {
    disk: File,
    area: u64,
    buffer: Map,
}

impl Marker {
    /// On a disk whose filesystem ends at `area`.
    pub fn new(disk: &str, area: u64) -> Outcome<Marker> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        Ok(Marker {
            disk: options.open(disk).at(format!("opening {disk}"))?,
            area,
            buffer: Map::anonymous(4096)?,
        })
    }

    pub fn put(&mut self, mark: &Mark) -> Outcome {
        check!(mark.step < AREA / SECTOR as u64, "no room for more marks");
        self.buffer.store(0, &mark.encode());
        let at = self.area + mark.step * SECTOR as u64;
        let bytes = &self.buffer.bytes()[..SECTOR];
        let written = self.disk.write_at(bytes, at).at("writing a mark")?;
        check!(written == SECTOR, "a mark was not written whole");
        Ok(())
    }

    /// The marks of a run, in order.
    pub fn read(&self, run: u64) -> io::Result<Vec<Mark>> {
        let mut area = Map::anonymous(AREA as usize)?;
        let bytes = area.bytes();
        let mut done = 0;
        while done < bytes.len() {
            let n = self
                .disk
                .read_at(&mut bytes[done..], self.area + done as u64)?;
            if n == 0 {
                break;
            }
            done += n;
        }
        let marks = bytes.chunks(SECTOR).skip(1).zip(1u64..);
        Ok(marks
            .map_while(|(sector, step)| {
                Mark::decode(sector).filter(|mark| mark.run == run && mark.step == step)
            })
            .collect())
    }
}
