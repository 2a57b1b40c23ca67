// SPDX-License-Identifier: GPL-2.0

//! Damage to the files of a history, and crafted content with right checksums.

use arbitrary::{Result, Unstructured};

use crate::crc32c;
use crate::history::index::{self, BLOCK};
use crate::history::state::{self, SegmentRange, State};
use crate::line::number;
use crate::vfs::store::{StoreDir, StoreFile};
use loggerfs_log::line::{LineDraft, Mode, Op, Undo, MAX_LINE};
use loggerfs_log::types::{Extent, ObjectId, Pos, Seed, Time};

/// The damage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// Something carries a right checksum and was never written by us.
    pub(crate) crafted: bool,
    /// In words.
    pub(crate) said: Vec<String>,
}

/// Damages some of the files below `home`.
pub(crate) fn damage(u: &mut Unstructured<'_>, home: &StoreDir, uuid: [u8; 16]) -> Result<Done> {
    let mut done = Done::default();
    for _ in 0..u.int_in_range(1..=4)? {
        let files = home.files();
        if files.is_empty() {
            break;
        }
        let (dir, name, file) = u.choose(&files)?;
        match u.int_in_range(0..=13)? {
            0..=7 => {
                let name_is = String::from_utf8_lossy(name);
                let before = file.bytes();
                let kind = hurt(u, dir, name, file, &files)?;
                let at = before.iter().zip(&file.bytes()).position(|(a, b)| a != b);
                done.said.push(format!("{kind} {name_is}, first at {at:?}"));
            }
            8 => stat(u, dir, file)?,
            9 | 10 => {
                let log = files.iter().find(|(_, other, _)| other.ends_with(b".log"));
                if let Some((dir, ..)) = log {
                    done.crafted = true;
                    craft_line(u, dir, uuid)?;
                }
            }
            11 => {
                done.crafted = true;
                craft_state(u, home, uuid)?;
            }
            _ if name.ends_with(b".idx") => {
                done.crafted = true;
                craft_index(u, file, uuid)?;
            }
            _ => {}
        }
    }
    Ok(done)
}

/// A place in a file of this length, or its end.
fn place(u: &mut Unstructured<'_>, length: usize) -> Result<usize> {
    Ok(usize::from(u.arbitrary::<u16>()?) % (length + 1))
}

/// Damage as by disks and mistakes.
fn hurt(
    u: &mut Unstructured<'_>,
    dir: &StoreDir,
    name: &[u8],
    file: &StoreFile,
    all: &[(StoreDir, Vec<u8>, StoreFile)],
) -> Result<&'static str> {
    let mut bytes = file.bytes();
    let length = bytes.len();
    let at = place(u, length)?;
    let kind = match u.int_in_range(0..=8)? {
        0..=2 => {
            for _ in 0..u.int_in_range(1..=3)? {
                let at = place(u, length)?;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << u.int_in_range(0..=7)?;
                }
            }
            "bits flipped in"
        }
        3 => {
            bytes.truncate(at);
            "cut off"
        }
        4 => {
            let end = (at + usize::from(u.arbitrary::<u16>()?)).min(length);
            bytes[at..end].fill(0);
            "zeroed in"
        }
        5 => {
            let _ = dir.unlink(name);
            return Ok("removed");
        }
        6 => {
            // Exchanges two contents, or copies one over the other.
            let (other_dir, other_name, other) = u.choose(all)?;
            dir.put(name, other.deep_copy());
            if u.arbitrary()? {
                other_dir.put(other_name, file.clone());
            }
            return Ok("another's content in");
        }
        7 => {
            let count = u.int_in_range(1..=64)?;
            bytes.extend_from_slice(u.bytes(u.len().min(count))?);
            "more behind"
        }
        _ => {
            let (number, end) = (number(u)?, *u.choose(&["log", "dat"])?);
            dir.put(format!("{number:08}.{end}").as_bytes(), file.deep_copy());
            return Ok("a copy of");
        }
    };
    file.change(|content| *content = bytes);
    Ok(kind)
}

/// Owner, mode and links that are not as we leave them.
fn stat(u: &mut Unstructured<'_>, dir: &StoreDir, file: &StoreFile) -> Result<()> {
    let (uid, mode, links) = (u.arbitrary()?, u.arbitrary()?, u.int_in_range(0..=3)?);
    if u.arbitrary()? {
        dir.set_stat(|stat| (stat.uid, stat.mode) = (uid, mode));
    } else {
        file.set_stat(|stat| (stat.uid, stat.mode, stat.links) = (uid, mode, links));
    }
    Ok(())
}

/// Numbers at the ends of their ranges.
fn absurd(u: &mut Unstructured<'_>) -> Result<u64> {
    let near = u.int_in_range(0..=3)?;
    Ok(match u.int_in_range(0..=4)? {
        0 => near,
        1 => (1 << 31) - 2 + near,
        2 => (1 << 63) - 2 + near,
        3 => u64::MAX - near,
        _ => number(u)?,
    })
}

fn pos(u: &mut Unstructured<'_>) -> Result<Pos> {
    Ok(Pos {
        segment: u.int_in_range(0..=12)?,
        offset: if u.arbitrary()? {
            u64::from(u.arbitrary::<u8>()?) * 8
        } else {
            absurd(u)?
        },
    })
}

/// Appends a line with a right checksum to a log, or inserts one at its beginning.
fn craft_line(u: &mut Unstructured<'_>, logs: &StoreDir, uuid: [u8; 16]) -> Result<()> {
    let segment = u.int_in_range(1..=9)?;
    let Ok(file) = logs.open(format!("{segment:08}.log").as_bytes(), true) else {
        return Ok(());
    };
    let mut buffer = [0; MAX_LINE];
    let op = *u.choose(Op::ALL)?;
    let offset = absurd(u)?;
    let length = absurd(u)?.min(u64::MAX - offset);
    let time = Time {
        sec: u.arbitrary()?,
        nsec: 1,
    };
    let mut draft = LineDraft::new(&mut buffer, time, b"/bin/forger", op, offset, length);
    draft.obj(ObjectId {
        volume: 0,
        inode: u.int_in_range(0..=12)?,
        generation: 1,
    });
    if u.arbitrary()? {
        draft.prev(pos(u)?);
    }
    draft.size(absurd(u)?);
    if u.arbitrary()? {
        let offset = absurd(u)?;
        draft.undo(Undo::At(Extent {
            segment: u.int_in_range(0..=12)?,
            offset,
            length: absurd(u)?.min(u64::MAX - offset),
        }));
        draft.map(absurd(u)?).crc(u.arbitrary()?);
    }
    draft.of(absurd(u)?).count(absurd(u)?);
    if u.arbitrary()? {
        draft.back(pos(u)?).mode(Mode::Walk);
    }
    draft.now(absurd(u)?);
    let mut out = [0; MAX_LINE];
    let seed = Seed { uuid, segment };
    if let Ok(len) = draft.seal(absurd(u)?, &seed, crc32c, &mut out) {
        let at_end = u.arbitrary()?;
        file.change(|content| {
            let at = if at_end { content.len() } else { 0 };
            content.splice(at..at, out[..len].iter().copied());
        });
    }
    Ok(())
}

/// A state with a right checksum and any numbers.
fn craft_state(u: &mut Unstructured<'_>, home: &StoreDir, uuid: [u8; 16]) -> Result<()> {
    let state = State {
        count: absurd(u)?,
        clean: u.arbitrary()?,
        seq: absurd(u)?,
        segment: absurd(u)?,
        first: absurd(u)?,
        reread: absurd(u)?,
        cut: absurd(u)?,
        recovered: absurd(u)?,
        log_bytes: absurd(u)?,
        undo_bytes: absurd(u)?,
        orphan_bytes: absurd(u)?,
    };
    let mut spans = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        let first = absurd(u)?;
        let last = absurd(u)?.max(first);
        spans.push(SegmentRange { first, last });
    }
    let mut slot = [0; state::SLOT];
    let len = state::encode(&state, spans.into_iter(), &uuid, crc32c, &mut slot);
    if let (Some(_), Ok(file)) = (len, home.open(b"state", true)) {
        let _ = file.write_at(&slot, (state.count & 1) * state::SLOT as u64);
    }
    Ok(())
}

/// A block of a table, or its head, with a right checksum.
fn craft_index(u: &mut Unstructured<'_>, file: &StoreFile, uuid: [u8; 16]) -> Result<()> {
    let mut bytes = file.bytes();
    let blocks = (bytes.len() / BLOCK).max(1);
    let at = u.choose_index(blocks)? * BLOCK;
    let mut block = [0; BLOCK];
    let rest = bytes.get(at..).unwrap_or_default();
    let n = rest.len().min(BLOCK);
    block[..n].copy_from_slice(&rest[..n]);
    for _ in 0..u.int_in_range(1..=4)? {
        let word = u.choose_index(16)? * 8;
        block[word..word + 8].copy_from_slice(&absurd(u)?.to_le_bytes());
    }
    if at == 0 {
        block[..8].copy_from_slice(b"lfs-idx2");
        block[8..24].copy_from_slice(&uuid);
    }
    index::seal(&mut block, crc32c);
    bytes.resize(bytes.len().max(at + BLOCK), 0);
    bytes[at..at + BLOCK].copy_from_slice(&block);
    file.change(|content| *content = bytes);
    Ok(())
}
