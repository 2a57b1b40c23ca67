// SPDX-License-Identifier: GPL-2.0

//! A disk in memory, and its requests.

use std::sync::Arc;

use crate::mark::Mark;
use crate::shadow::Random;

const PAGE: usize = 4096;

/// The smallest piece that a disk writes as a whole, or not at all.
pub const SECTOR: usize = 512;

/// A sparse disk; copies of it share equal pages.
#[derive(Clone)]
pub struct Store {
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Store {
    pub fn new(size: u64) -> Store {
        Store {
            pages: vec![None; (size as usize).div_ceil(PAGE)],
        }
    }

    pub fn read(&self, at: u64, bytes: &mut [u8]) {
        each_page(at, bytes.len(), |page, within, range| {
            match &self.pages[page] {
                Some(page) => {
                    bytes[range.clone()].copy_from_slice(&page[within..within + range.len()]);
                }
                None => bytes[range].fill(0),
            }
        });
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        each_page(at, bytes.len(), |page, within, range| {
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            let room = &mut Arc::make_mut(page)[within..within + range.len()];
            room.copy_from_slice(&bytes[range]);
        });
    }

    pub fn zero(&mut self, at: u64, length: u64) {
        each_page(at, length as usize, |page, within, range| {
            if range.len() == PAGE {
                self.pages[page] = None;
            } else if let Some(page) = &mut self.pages[page] {
                Arc::make_mut(page)[within..within + range.len()].fill(0);
            }
        });
    }
}

/// Calls with each page, the start of the range in it, and the part of the range.
fn each_page(at: u64, length: usize, mut each: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    let (mut at, mut done) = (at as usize, 0);
    while done < length {
        let within = at % PAGE;
        let part = (PAGE - within).min(length - done);
        each(at / PAGE, within, done..done + part);
        at += part;
        done += part;
    }
}

/// A request of a disk.
#[derive(Clone)]
pub enum What {
    Write { at: u64, bytes: Arc<Vec<u8>> },
    Zero { at: u64, length: u64 },
    Flush,
    Mark(Mark),
}

/// One request, in the order in which the disk had done them.
#[derive(Clone)]
pub struct Entry {
    pub what: What,
    /// The data is on the medium, independent of the cache (FUA).
    pub durable: bool,
    /// When, in milliseconds.
    pub time: u64,
}

impl Entry {
    pub fn apply(&self, store: &mut Store) {
        match &self.what {
            What::Write { at, bytes } => store.write(*at, bytes),
            What::Zero { at, length } => store.zero(*at, *length),
            What::Flush | What::Mark(_) => {}
        }
    }

    pub fn is_flush(&self) -> bool {
        matches!(self.what, What::Flush)
    }
}

/// How the cache's content is lost.
pub struct Loss {
    /// Pieces of this size are written as a whole, or not at all; their position may decide.
    pub atom: fn(u64) -> usize,
    /// Of 8 writes, how many reach the medium; some of them only in part.
    pub kept: u64,
}

impl Loss {
    pub fn choose(random: &mut Random, atom: fn(u64) -> usize) -> Loss {
        let kept = [0, 1, 4, 4, 7, 8][random.below(6) as usize];
        Loss { atom, kept }
    }
}

/// The remains of writes without a later flush after a power cut: any subset.
pub fn lose(store: &mut Store, unflushed: &[Entry], loss: &Loss, random: &mut Random) {
    for entry in unflushed {
        if entry.durable {
            entry.apply(store);
            continue;
        }
        if random.below(8) >= loss.kept {
            continue;
        }
        match &entry.what {
            What::Write { at, bytes } if loss.kept < 8 && random.below(4) == 0 => {
                tear(store, *at, bytes, (loss.atom)(*at), random);
            }
            _ => entry.apply(store),
        }
    }
}

/// Writes some of the pieces: the first ones, or any.
fn tear(store: &mut Store, at: u64, bytes: &[u8], atom: usize, random: &mut Random) {
    let first = atom - (at as usize % atom);
    let any = random.below(2) == 0;
    let until = random.below(bytes.len() as u64 + 1) as usize;
    let (mut start, mut end) = (0, first.min(bytes.len()));
    while start < bytes.len() {
        let keep = if any {
            random.below(2) == 0
        } else {
            end <= until
        };
        if keep {
            store.write(at + start as u64, &bytes[start..end]);
        }
        (start, end) = (end, (end + atom).min(bytes.len()));
    }
}
