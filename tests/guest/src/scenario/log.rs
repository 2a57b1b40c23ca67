// SPDX-License-Identifier: GPL-2.0

//! The history of a whole mount, read segment by segment, and `logctl log` on top of it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::io::Errno;

use crate::fixture::Fixture;
use crate::harness::Test;
use crate::mounts::Lower;
use crate::outcome::{check, fail, same, same_bytes, same_errno, At, Outcome};
use crate::sys;
use crate::undo::{self, Line, Segment};

pub const TESTS: &[Test] = &[
    Test::new("history-whole", whole).only(&[Lower::Tmpfs, Lower::Ext4, Lower::Btrfs]),
    Test::new("history-of-others", of_others).only(&[Lower::Private, Lower::Ext4, Lower::Xfs]),
    Test::new("history-cursors", cursors).only(&[Lower::Private, Lower::Ext4]),
    Test::new("history-of-writers", of_writers).only(&[Lower::Private, Lower::Ext4]),
];

/// The smallest buffer that is allowed.
const LEAST: usize = 4096 + 16;

/// The segment's text and offsets must be those of its file.
fn same_as_file(w: &Fixture, segment: &Segment) -> Outcome {
    let path = format!(".loggerfs/log/{:08}.log", segment.number);
    let file = fs::read(w.below(&path)?).at(&path)?;
    let mut at = 0;
    for (offset, line) in &segment.lines {
        same(format!("where '{line}' stands"), *offset, at)?;
        at += line.len() as u64;
    }
    let text: String = (segment.lines.iter())
        .map(|(_, line)| line.as_str())
        .collect();
    same_bytes(path, text.as_bytes(), &file)
}

/// All lines, the oldest first.
fn lines(segments: &[Segment]) -> Outcome<Vec<Line>> {
    let newest_last = segments.iter().rev();
    let lines = newest_last.flat_map(|segment| &segment.lines);
    lines
        .map(|(_, line)| Line::parse(line.trim_end()))
        .collect()
}

fn directory(w: &Fixture) -> Outcome<File> {
    File::open(&w.mnt).at("opening the mount's root")
}

/// Root reads all lines in order, over several segments and across a remount, with any buffer.
fn whole(w: &mut Fixture) -> Outcome {
    w.remount_empty("history_max=4M")?;
    w.sh("mkdir d; for i in 1 2 3 4 5; do for j in $(seq 60); do echo $j >> d/f$i; done; done")?;
    w.sh("mv d/f1 d/g; ln d/g h; rm d/f2; chmod 600 d/f3; truncate -s 3 d/f4")?;
    w.remount_with("history_max=4M")?;
    w.sh("for i in $(seq 30); do echo $i >> d/f5; done")?;
    let segments = undo::history(&directory(w)?, 1 << 20).at("reading it")?;
    check!(segments.len() > 2, "only {} segments", segments.len());
    for segment in &segments {
        same_as_file(w, segment)?;
    }
    undo::ascending(&lines(&segments)?)?;
    let small = undo::history(&directory(w)?, LEAST).at("reading it bit by bit")?;
    for (one, other) in segments.iter().zip(&small) {
        same("a small buffer's lines", &one.lines, &other.lines)?;
    }
    // A damaged line is left out, and no other.
    let oldest = &segments[segments.len() - 1];
    let (at, line) = &oldest.lines[7];
    w.unmount()?;
    let path = w.below(&format!(".loggerfs/log/{:08}.log", oldest.number))?;
    let mut bytes = fs::read(&path)?;
    bytes[*at as usize + line.len() - 2] ^= 1;
    fs::write(&path, bytes)?;
    w.mount_with("history_max=4M")?;
    let again = undo::history(&directory(w)?, 1 << 16).at("reading it, damaged")?;
    let Some(found) = again.iter().find(|segment| segment.number == oldest.number) else {
        fail!("the oldest segment is gone");
    };
    let others = oldest.lines.iter().filter(|(offset, _)| offset != at);
    same(
        "the other lines",
        found.lines.iter().collect::<Vec<_>>(),
        others.collect(),
    )
}

/// Who has no right to other users' files sees no line of theirs, and no arguments of their processes.
/// In a directory where that user may make names, names of that user's objects are shown, too.
fn of_others(w: &mut Fixture) -> Outcome {
    const USER: u32 = 2000;
    w.sh("mkdir home; chown 2000 home; echo secret > root; chmod 600 root; echo one > given")?;
    let user = "setpriv --reuid 2000 --regid 2000 --clear-groups bash -euc";
    w.sh(&format!(
        "{user} 'cd home; echo mine > f; mkdir d; echo x > d/g; rm f; echo late > l'"
    ))?;
    w.sh("chown 2000 given; echo roots >> home/d/g; chown 0 home/l")?;
    let objects = |names: &[&str]| -> Outcome<Vec<u64>> {
        let inode = |name: &&str| Ok(fs::metadata(w.path(name)).at(name)?.ino());
        names.iter().map(inode).collect()
    };
    let mine = objects(&["home", "home/d", "home/d/g", "given"])?;
    let given = objects(&["home", "given"])?;
    let not_mine = objects(&["root", "home/l", "."])?;
    let named: Vec<String> = mine.iter().map(|inode| format!("{inode}.")).collect();
    let file = directory(w)?;
    for room in [LEAST, 1 << 20] {
        let all = lines(&undo::history(&file, room).at("root reads")?)?;
        let seen = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                sys::become_user(USER)?;
                undo::history(&file, room)
            });
            thread.join().expect("it does not panic")
        });
        let seen = lines(&seen.at("the user reads")?)?;
        let inode = |line: &Line| -> Outcome<u64> {
            let object = line.key("obj").unwrap_or_default();
            let inode = object.split('.').next().unwrap_or_default();
            inode.parse().or_else(|_| fail!("obj= of {}", line.text))
        };
        for line in &seen {
            let inode = inode(line)?;
            let is_named = line
                .key("node")
                .is_some_and(|node| named.iter().any(|own| node.starts_with(own)));
            check!(
                is_named || !not_mine.contains(&inode),
                "not theirs: {}",
                line.text
            );
            let is_own = line.key("uid") == Some("2000");
            check!(
                is_own || line.key("args").is_none(),
                "arguments: {}",
                line.text
            );
        }
        // A deleted file is an orphan, and still belongs to its owner.
        let Some(removal) = all.iter().find(|line| line.op == "unlink") else {
            fail!("no unlink");
        };
        let removed = removal.key("node").unwrap_or_default().to_string();
        // After root gave an object away, the lines up to that one remain root's: see
        // docs/security.md.
        let number = |line: &Line| line.key("seq").and_then(|seq| seq.parse::<u64>().ok());
        let is_of_root = |line: &Line| -> Outcome<bool> {
            let object = inode(line)?;
            let mut last = None;
            for chown in all.iter().filter(|line| line.op == "setattr") {
                if inode(chown)? == object {
                    last = last.max(number(chown));
                }
            }
            Ok(given.contains(&object) && number(line) <= last)
        };
        let mut want = Vec::new();
        for line in &all {
            let is_removed = line.key("obj") == Some(&removed);
            if (mine.contains(&inode(line)?) || is_removed) && !is_of_root(line)? {
                want.push(line.key("seq"));
            }
        }
        let mut found = Vec::new();
        for line in &seen {
            if !not_mine.contains(&inode(line)?) {
                found.push(line.key("seq"));
            }
        }
        let seen = found;
        check!(want.len() > 8, "only {} lines are theirs", want.len());
        same("their lines", seen, want)?;
    }
    Ok(())
}

/// Cursors that no answer gave, segments that are gone or were never there, bad requests.
fn cursors(w: &mut Fixture) -> Outcome {
    w.remount_empty("history_max=1M")?;
    w.sh("for i in 1 2 3; do echo $i >> f; done")?;
    let file = directory(w)?;
    let mut first = Segment::default();
    let ask = |segment, offset, room| {
        undo::read_history(&file, segment, offset, room, &mut Segment::default())
    };
    let end = undo::read_history(&file, 0, 0, 1 << 16, &mut first).at("the segment")?;
    same("it ends", end, None)?;
    let number = first.number;
    for (offset, line) in &first.lines {
        let next = offset + line.len() as u64;
        same(
            "a line's end",
            ask(number, next, LEAST).at("a line's end")?,
            None,
        )?;
        for odd in [offset + 1, next - 1] {
            same_errno("inside a line", ask(number, odd, LEAST), Errno::INVAL)?;
        }
    }
    for odd in [1 << 20, 1 << 40, u64::MAX - 1, u64::MAX] {
        same_errno("behind the end", ask(number, odd, LEAST), Errno::INVAL)?;
    }
    for odd in [number + 1, number + 1000, u64::MAX] {
        same_errno("a segment to come", ask(odd, 0, LEAST), Errno::INVAL)?;
    }
    same_errno("a small buffer", ask(number, 0, LEAST - 1), Errno::INVAL)?;
    // So much that the first segment is dropped.
    w.sh("for i in $(seq 40); do head -c 100000 /dev/urandom > big; done; sync -f .")?;
    for _ in 0..100 {
        if ask(number, 0, LEAST).is_err() {
            break;
        }
        w.sh("head -c 100000 /dev/urandom > big; sync -f .")?;
    }
    same_errno(
        "a segment that is gone",
        ask(number, 0, LEAST),
        Errno::NODATA,
    )?;
    let segments = undo::history(&file, 1 << 16).at("what is left")?;
    check!(
        segments.iter().all(|segment| segment.number > number),
        "the first segment is still there"
    );
    drop(file);
    w.remount_with("history=off")?;
    let file = directory(w)?;
    let off = undo::read_history(&file, 0, 0, LEAST, &mut Segment::default());
    same_errno("history=off", off, Errno::NODATA)
}

/// While others write, every answer has whole lines in order, and a later one has all of an earlier.
fn of_writers(w: &mut Fixture) -> Outcome {
    let file = directory(w)?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|i| {
                let w = &*w;
                scope.spawn(move || w.sh(&format!("for i in $(seq 400); do echo $i >> f{i}; done")))
            })
            .collect();
        let reader = scope.spawn(|| -> Outcome<usize> {
            let (mut count, mut before) = (0, Vec::new());
            while !ended.load(Ordering::Relaxed) {
                let room = LEAST + count % 3 * 20_000;
                let now = lines(&undo::history(&file, room).at("reading")?)?;
                undo::ascending(&now)?;
                let texts: Vec<String> = now.into_iter().map(|line| line.text).collect();
                check!(texts.starts_with(&before), "a line has gone");
                (count, before) = (count + 1, texts);
            }
            Ok(count)
        });
        for writer in writers {
            let written = writer.join();
            check!(matches!(written, Ok(Ok(_))), "a writer: {written:?}");
        }
        ended.store(true, Ordering::Relaxed);
        match reader.join() {
            Ok(count) => same("it was read meanwhile", count? > 0, true),
            Err(_) => fail!("the reader panicked"),
        }
    })?;
    let all = lines(&undo::history(&file, 1 << 20).at("reading it all")?)?;
    let writes = all.iter().filter(|line| line.op == "write").count();
    same("writes", writes, 800)
}
