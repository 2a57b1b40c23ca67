// SPDX-License-Identifier: GPL-2.0

//! All requests of a disk during one run of the workload. The file has the format of Linux'
//! dm-log-writes (and of QEMU's blklogwrites), so that other tools can read it; "discard" means
//! zeroes, and the time of each entry follows its header.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::lower::{self, Place};
use crate::mark::Mark;
use crate::mounts::Lower;
use crate::nbd::Disk;
use crate::outcome::{At, Outcome, Stop};
use crate::plan::Family;
use crate::shadow::Random;
use crate::store::{Entry, What, SECTOR};
use crate::work::Worker;

const MAGIC: u64 = 0x6a73_6677_7368_7872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

pub struct Recording {
    pub lower: Lower,
    pub family: Family,
    pub seed: u64,
    pub steps: u64,
    pub entries: Vec<Entry>,
}

impl Recording {
    /// Runs the workload once, on network block device `number`.
    pub fn make(
        lower: Lower,
        family: Family,
        seed: u64,
        steps: u64,
        number: u32,
    ) -> Outcome<Recording> {
        let size = lower::size(lower);
        // Disks that take durable writes are other than those that only flush.
        let fua = Random::new(seed ^ 0xf0a).below(2) == 0;
        let disk = Disk::new(number, size, fua)?;
        let place = Place::new(lower, &disk.path)?;
        disk.record();
        let done = run(&place, family, seed, steps);
        place.cleanup();
        let entries = disk.recorded();
        done?;
        Ok(Recording {
            lower,
            family,
            seed,
            steps,
            entries,
        })
    }

    /// The marks, and their positions.
    pub fn marks(&self) -> Vec<(usize, Mark)> {
        let entries = self.entries.iter().enumerate();
        let marks = entries.filter_map(|(at, entry)| match entry.what {
            What::Mark(mark) => Some((at, mark)),
            _ => None,
        });
        marks.collect()
    }

    pub fn save(&self, path: &Path) -> Outcome {
        let file = BufWriter::new(File::create(path)?);
        self.write_to(file).at(format!("saving {}", path.display()))
    }

    fn write_to(&self, mut file: impl Write) -> io::Result<()> {
        let count = self.entries.len() as u64;
        put_words(&mut file, &[MAGIC, 1, count, SECTOR as u64])?;
        for entry in &self.entries {
            let mut flags = if entry.durable { FUA } else { 0 };
            let (at, length, data): (u64, u64, &[u8]) = match &entry.what {
                What::Write { at, bytes } => (*at, bytes.len() as u64, bytes),
                What::Zero { at, length } => {
                    flags |= DISCARD;
                    (*at, *length, &[])
                }
                What::Flush => {
                    flags |= FLUSH;
                    (0, 0, &[])
                }
                What::Mark(mark) => {
                    flags |= MARK;
                    put_entry(&mut file, 0, 0, flags, SECTOR as u64, entry.time)?;
                    file.write_all(&mark.encode())?;
                    continue;
                }
            };
            put_entry(&mut file, at, length, flags, 0, entry.time)?;
            file.write_all(data)?;
        }
        file.flush()
    }

    pub fn load(
        lower: Lower,
        family: Family,
        seed: u64,
        steps: u64,
        path: &Path,
    ) -> Outcome<Recording> {
        let mut file = BufReader::new(File::open(path).at(format!("opening {}", path.display()))?);
        let head = words(&mut file)?;
        if head[0] != MAGIC {
            return Err(Stop::Fail(format!("{} is no recording", path.display())));
        }
        let mut entries = Vec::new();
        for _ in 0..head[2] {
            entries.push(entry(&mut file).at("reading a recording")?);
        }
        Ok(Recording {
            lower,
            family,
            seed,
            steps,
            entries,
        })
    }
}

fn run(place: &Place, family: Family, seed: u64, steps: u64) -> Outcome {
    place.make()?;
    place.mount_lower()?;
    let mut worker = Worker::begin(place, family, seed, steps)?;
    for _ in 0..steps {
        worker.step()?;
    }
    Ok(())
}

fn put_words(file: &mut impl Write, words: &[u64]) -> io::Result<()> {
    let mut sector = [0; SECTOR];
    for (at, word) in words.iter().enumerate() {
        sector[8 * at..8 * at + 8].copy_from_slice(&word.to_le_bytes());
    }
    file.write_all(&sector)
}

fn put_entry(
    file: &mut impl Write,
    at: u64,
    length: u64,
    flags: u64,
    data: u64,
    time: u64,
) -> io::Result<()> {
    let sector = SECTOR as u64;
    put_words(file, &[at / sector, length / sector, flags, data, time])
}

/// The first words of a sector.
fn words(file: &mut impl Read) -> io::Result<[u64; 5]> {
    let mut sector = [0; SECTOR];
    file.read_exact(&mut sector)?;
    Ok(std::array::from_fn(|at| {
        let mut word = [0; 8];
        word.copy_from_slice(&sector[8 * at..8 * at + 8]);
        u64::from_le_bytes(word)
    }))
}

fn entry(file: &mut impl Read) -> io::Result<Entry> {
    let [at, length, flags, data, time] = words(file)?;
    let sector = SECTOR as u64;
    let (at, length) = (at * sector, length * sector);
    let what = if flags & MARK != 0 {
        let mut bytes = vec![0; data as usize];
        file.read_exact(&mut bytes)?;
        What::Mark(Mark::decode(&bytes).ok_or(io::ErrorKind::InvalidData)?)
    } else if flags & DISCARD != 0 {
        What::Zero { at, length }
    } else if flags & FLUSH != 0 {
        What::Flush
    } else {
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes)?;
        let bytes = Arc::new(bytes);
        What::Write { at, bytes }
    };
    Ok(Entry {
        what,
        durable: flags & FUA != 0,
        time,
    })
}
