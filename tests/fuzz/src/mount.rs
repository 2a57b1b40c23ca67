// SPDX-License-Identifier: GPL-2.0

//! Mounts of damaged histories: trust, state, recovery, index and logs are the module's own, over
//! files in memory. A mount is refused with a message, or finds exactly the written lines.

use std::cell::Cell;
use std::collections::HashMap;

use arbitrary::Unstructured;

use crate::crc32c;
use crate::damage::{damage, Done};
use crate::history::opened::{self, Opened};
use crate::vfs::store::StoreDir;
use loggerfs_log::line::{Line, LineDraft, Op, OpenFileRef, Undo, MAX_LINE};
use loggerfs_log::plan::{inverse, Disposition, OnExternal, PlanError, Store, Walk, WalkStep};
use loggerfs_log::types::{ObjectId, Pos, Seed, Time};

/// The objects that are asked for: some of those with lines in many segments, and some of the
/// first segment's, whose table has two blocks.
const ASKED: [u64; 8] = [1, 2, 5, 12, 127, 128, 129, 150];

/// A sound history.
struct Sound {
    root: StoreDir,
    uuid: [u8; 16],
    /// Every line with its position.
    lines: HashMap<Pos, Vec<u8>>,
    /// The last one of each object.
    last: HashMap<ObjectId, Pos>,
}

thread_local! {
    /// Histories as a clean unmount and as a crash leave them.
    static SOUND: [Sound; 2] = [Sound::new(0), Sound::new(1)];
}

fn object(inode: u64) -> ObjectId {
    ObjectId {
        volume: 0,
        inode,
        generation: 1,
    }
}

impl Sound {
    /// Eight segments, the last `unsealed` of them without an index.
    fn new(unsealed: usize) -> Self {
        let mut sound = Self {
            root: StoreDir::new(),
            uuid: [0; 16],
            lines: HashMap::new(),
            last: HashMap::new(),
        };
        let root = sound.root.clone();
        let mut seq = 0;
        opened::make(&root, unsealed, &mut |seed| {
            (seed.segment <= 8).then(|| sound.segment(&seed, &mut seq))
        })
        .expect("a new history");
        sound
    }

    /// One segment's lines: the first has many objects, later ones a few each.
    fn segment(&mut self, seed: &Seed, seq: &mut u64) -> Vec<(ObjectId, Vec<u8>)> {
        self.uuid = seed.uuid;
        let count = if seed.segment == 1 { 150 } else { 10 };
        let mut offset = 0;
        (0..count)
            .map(|i| {
                *seq += 2;
                // Later ones have few objects, and not the same ones.
                let inode = 1 + match seed.segment {
                    1 => i,
                    segment => i * (segment + 2) % 12,
                };
                let object = object(inode);
                let text = self.line(object, *seq, seed);
                let at = Pos {
                    segment: seed.segment,
                    offset,
                };
                offset += text.len() as u64;
                self.lines.insert(at, text.clone());
                self.last.insert(object, at);
                (object, text)
            })
            .collect()
    }

    fn line(&self, object: ObjectId, seq: u64, seed: &Seed) -> Vec<u8> {
        let op = if seq % 22 == 0 { Op::Revert } else { Op::Write };
        let mut buffer = [0; MAX_LINE];
        let time = Time { sec: 9, nsec: 9 };
        let mut draft = LineDraft::new(&mut buffer, time, b"/bin/x", op, seq, 1);
        draft.obj(object);
        if let Some(prev) = self.last.get(&object) {
            draft.prev(*prev);
        }
        draft.size(seq).open(OpenFileRef::First).undo(Undo::None);
        let mut out = vec![0; MAX_LINE];
        let len = draft.seal(seq, seed, crc32c, &mut out).expect("room");
        out.truncate(len);
        out
    }
}

/// Damages a sound history and mounts it.
pub(crate) fn damaged(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(which) = u.choose_index(2) else { return };
    SOUND.with(|all| {
        let sound = &all[which];
        let root = sound.root.deep_copy();
        let home = root.make_dir(b".loggerfs", 0o700).expect("the history");
        let Ok(done) = damage(&mut u, &home, sound.uuid) else {
            return;
        };
        // The next mount must find the state that one mount has put in order.
        for _ in 0..2 {
            mount(sound, &root, &done);
        }
    });
}

fn mount(sound: &Sound, root: &StoreDir, done: &Done) {
    let said = Cell::new(0);
    let explain = |sentence: core::fmt::Arguments<'_>| {
        said.set(said.get() + sentence.to_string().split_whitespace().count());
    };
    match opened::open(root, &explain) {
        Ok(mut opened) => {
            let whole = !done.crafted && logs_are_whole(sound, root);
            // Without `format` and `state` there was no history, whichever other files exist.
            let exact = !done.crafted && !opened.is_new && (!opened.recovered || whole);
            look(sound, &mut opened, done, exact);
            if opened.merge().is_ok() {
                look(sound, &mut opened, done, exact);
            }
        }
        Err(e) => assert!(
            said.get() >= 4,
            "refused with {e:?} and no sentence, after: {:?}",
            done.said
        ),
    }
}

/// Whether all logs are still as they were written.
fn logs_are_whole(sound: &Sound, root: &StoreDir) -> bool {
    let logs = |root: &StoreDir| -> Vec<(Vec<u8>, Vec<u8>)> {
        let files = root.files().into_iter();
        let logs = files.filter(|(_, name, _)| name.ends_with(b".log"));
        let mut logs: Vec<_> = logs.map(|(_, name, file)| (name, file.bytes())).collect();
        logs.retain(|(_, bytes)| !bytes.is_empty());
        logs
    };
    let (was, is) = (logs(&sound.root), logs(root));
    was.iter().all(|log| is.contains(log))
}

/// Asks for every object's lines. With `exact`, none may be missing without an error.
fn look(sound: &Sound, opened: &mut Opened, done: &Done, exact: bool) {
    for inode in ASKED {
        let object = object(inode);
        let Ok(found) = opened.last_line(object) else {
            continue;
        };
        if exact {
            let last = sound.last.get(&object).copied();
            assert_eq!(
                found, last,
                "another line passes for the last of {inode} after: {:?}",
                done.said
            );
        }
        let most = sound.lines.len() + 8;
        let steps = walk(
            sound,
            opened,
            done,
            Walk::new(object, found, OnExternal::Pass),
        );
        assert!(steps <= most, "a walk of {steps} steps");
    }
}

/// The operations that reverts picked.
#[derive(Default)]
struct RevertedRanges(Vec<(u64, u64)>);

impl Store<(u64, u64)> for RevertedRanges {
    fn push(&mut self, range: (u64, u64)) -> Result<(), PlanError> {
        self.0.push(range);
        Ok(())
    }

    fn items(&mut self) -> &mut [(u64, u64)] {
        &mut self.0
    }
}

/// Goes along a chain; returns how many steps that took.
fn walk(sound: &Sound, opened: &mut Opened, done: &Done, mut walk: Walk) -> usize {
    let mut steps = 0;
    let mut reverted = RevertedRanges::default();
    while let Some(at) = walk.next() {
        let Ok(text) = opened.read_line(at) else {
            break;
        };
        steps += 1;
        if !done.crafted {
            assert_eq!(
                sound.lines.get(&at),
                Some(&text),
                "not what was written, after: {:?}",
                done.said
            );
        }
        let mut line = Line::parse(&text, None).expect("what was verified");
        if let WalkStep::Live = walk.step(&mut line, &mut reverted, Disposition::Keep) {
            let _ = inverse(&line);
        }
    }
    steps
}
