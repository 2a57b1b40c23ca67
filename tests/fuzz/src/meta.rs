// SPDX-License-Identifier: GPL-2.0

//! The small files of a history: `format`, `state`, the index.

use crate::crc32c;
use crate::history::format;
use crate::history::index::{self, Head, BLOCK, PER_BLOCK};
use crate::history::state;
use loggerfs_log::types::{ObjectId, Seed};

const UUID: [u8; 16] = *b"a fuzzed history";

/// This many tables fit into a state, for any numbers.
const TABLES: usize = 80;

/// Any bytes as each of these.
pub(crate) fn any_bytes(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    match choice % 3 {
        0 => as_format(bytes),
        1 => as_state(bytes, choice & 4 != 0),
        _ => as_index(bytes, choice & 4 != 0),
    }
}

fn as_format(bytes: &[u8]) {
    let Ok(found) = format::parse(bytes) else {
        return;
    };
    let mut out = [0; format::MAX_FORMAT];
    let len = format::encode(&found, -1, &mut out).expect("room");
    assert_eq!(format::parse(&out[..len]), Ok(found));
}

fn as_state(bytes: &[u8], sealed: bool) {
    let mut slot = bytes.to_vec();
    if sealed {
        let seed = Seed {
            uuid: UUID,
            segment: 0,
        };
        let sum = seed.sum(crc32c, bytes);
        slot.extend(format!(" sum={sum:08x}\n").bytes());
    }
    let Some(found) = state::parse(&slot, &UUID, crc32c) else {
        return;
    };
    let mut spans = Vec::new();
    let tables = state::tables(&slot, |span| spans.push(span));
    assert!(spans.iter().all(|span| span.first <= span.last));
    if tables.is_none() || spans.len() > TABLES {
        return;
    }
    let mut out = [0; state::SLOT];
    let known = spans.iter().copied();
    state::encode(&found, known, &UUID, crc32c, &mut out).expect("room");
    assert_eq!(state::parse(&out, &UUID, crc32c), Some(found));
    let mut again = Vec::new();
    state::tables(&out, |span| again.push(span)).expect("what was written");
    assert_eq!(spans, again);
    assert!(spans.iter().all(|span| span.len() > 0));
}

fn as_index(bytes: &[u8], sealed: bool) {
    let mut block = [0; BLOCK];
    let n = bytes.len().min(BLOCK);
    block[..n].copy_from_slice(&bytes[..n]);
    if sealed {
        block[..8].copy_from_slice(b"lfs-idx2");
        block[8..24].copy_from_slice(&UUID);
        index::seal(&mut block, crc32c);
    }
    if let Some(head) = Head::parse(&block, &UUID, crc32c) {
        use_head(&head);
    }
    for (object, _) in index::entries(&block, PER_BLOCK as usize + 2) {
        let _ = index::filter_piece(object, 1 << 20);
    }
}

fn use_head(head: &Head) {
    let mut again = [0; BLOCK];
    head.encode(&UUID, crc32c, &mut again);
    assert_eq!(Head::parse(&again, &UUID, crc32c), Some(*head));
    let object = ObjectId {
        volume: head.entries,
        inode: head.filters,
        generation: 1,
    };
    let _ = head.filter_at(object);
    for block in [0, head.blocks().saturating_sub(1), head.blocks(), u64::MAX] {
        let _ = head.block_at(block);
        let count = index::count_in_block(head.entries, block);
        assert!(count as u64 <= PER_BLOCK, "{count} entries in a block");
    }
}
