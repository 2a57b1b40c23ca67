// SPDX-License-Identifier: MIT OR Apache-2.0

//! How operations on names are taken back, and where a crash stopped that.

use loggerfs_log::line::Line;
use loggerfs_log::plan::{
    is_on_names, name_steps, Directory, NameStep, PlanError, Progress, Victim,
};
use loggerfs_log::types::ObjectId;
use std::collections::BTreeMap;

fn node(inode: u64) -> ObjectId {
    ObjectId {
        volume: 0,
        inode,
        generation: 1,
    }
}

/// The steps that take a line back whose operation and keys these are.
fn steps(keys: &str) -> Result<(NameStep<'static>, Option<NameStep<'static>>), PlanError> {
    let text = format!("1.000000000 /bin/mv {keys} sum=00000000\n");
    let text: &'static str = text.leak();
    name_steps(&Line::parse(text.as_bytes(), None).unwrap())
}

#[test]
fn names_are_taken_back() {
    let one = |step| Ok((step, None));
    assert_eq!(
        steps("create 0 0 seq=1 undo=none name=a%20b node=5.1"),
        one(NameStep::Remove {
            name: b"a%20b",
            node: node(5)
        })
    );
    let kept = Victim {
        object: node(5),
        kept: Some(3),
        handle: None,
    };
    let restore = |victim, name, parent| NameStep::Restore {
        name,
        victim,
        parent,
    };
    assert_eq!(
        steps("unlink 0 0 seq=1 undo=none name=a node=5.1 kept=3"),
        one(restore(kept, b"a", None))
    );
    let named = Victim {
        kept: None,
        handle: Some(b"01ff"),
        ..kept
    };
    assert_eq!(
        steps("unlink 0 0 seq=1 undo=none name=a node=5.1 vfh=01ff"),
        one(restore(named, b"a", None))
    );
    let moved = |parent| NameStep::Move {
        from: b"b",
        to: b"a",
        node: node(6),
        parent,
    };
    assert_eq!(
        steps("rename 0 0 seq=1 undo=none name=a to=b node=6.1 over=5.1 kept=3"),
        Ok((moved(None), Some(restore(kept, b"b", None))))
    );
    let elsewhere = Some(Directory {
        object: node(7),
        handle: b"01",
    });
    assert_eq!(
        steps("rename 0 0 seq=1 undo=none name=a to=b node=6.1 over=5.1 kept=3 parent=7.1 pfh=01"),
        Ok((moved(elsewhere), Some(restore(kept, b"b", elsewhere))))
    );
    assert_eq!(
        steps("exchange 0 0 seq=1 undo=none name=a to=b node=6.1 over=5.1 parent=7.1 pfh=01"),
        one(NameStep::Exchange {
            name: b"a",
            other: b"b",
            node: node(6),
            over: Some(node(5)),
            parent: elsewhere
        })
    );
}

#[test]
fn lines_that_do_not_say_how_names_come_back_are_refused() {
    let refused = [
        (
            "unlink 0 0 seq=1 undo=lost why=error name=a node=5.1",
            PlanError::Lost,
        ),
        (
            "unlink 0 0 seq=1 undo=none name=a node=5.1",
            PlanError::Corrupt,
        ),
        (
            "rename 0 0 seq=1 undo=none name=a node=5.1",
            PlanError::Corrupt,
        ),
        ("create 0 0 seq=1 undo=none node=5.1", PlanError::Corrupt),
        ("create 0 0 seq=1 name=a node=5.1", PlanError::Corrupt),
        (
            "rename 0 0 seq=1 undo=none name=a to=b node=5.1 parent=7.1",
            PlanError::Unsupported,
        ),
        (
            "write 0 0 seq=1 undo=none name=a node=5.1",
            PlanError::Unsupported,
        ),
    ];
    for (line, error) in refused {
        assert_eq!(steps(line), Err(error), "{line}");
    }
}

/// A directory: the object that each name is bound to.
type Names = BTreeMap<String, u64>;

/// Random operations on few names, as lines, and the resulting directory.
fn scramble(random: &mut impl FnMut(u64) -> u64) -> (Vec<String>, Names) {
    let mut names = Names::new();
    let mut lines = Vec::new();
    let mut fresh = 10;
    for seq in 1..=random(12) + 1 {
        let (a, b) = (format!("n{}", random(4)), format!("n{}", random(4)));
        let line = match (names.get(&a).copied(), names.get(&b).copied()) {
            (None, _) => {
                fresh += 1;
                names.insert(a.clone(), fresh);
                format!("create 0 0 seq={seq} undo=none name={a} node={fresh}.1")
            }
            (Some(node), _) if a == b || random(3) == 0 => {
                names.remove(&a);
                format!("unlink 0 0 seq={seq} undo=none name={a} node={node}.1 kept=1")
            }
            (Some(node), Some(other)) if random(2) == 0 => {
                names.insert(a.clone(), other);
                names.insert(b.clone(), node);
                format!(
                    "exchange 0 0 seq={seq} undo=none name={a} to={b} node={node}.1 over={other}.1"
                )
            }
            (Some(node), over) => {
                names.remove(&a);
                names.insert(b.clone(), node);
                let over = over.map_or(String::new(), |over| format!(" over={over}.1 kept=1"));
                format!("rename 0 0 seq={seq} undo=none name={a} to={b} node={node}.1{over}")
            }
        };
        lines.push(line);
    }
    (lines, names)
}

/// Does one step, which must fit.
fn perform(step: &NameStep<'_>, names: &mut Names) {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    match *step {
        NameStep::Remove { name, node } => {
            assert_eq!(names.remove(&text(name)), Some(node.inode));
        }
        NameStep::Restore { name, victim, .. } => {
            assert_eq!(names.insert(text(name), victim.object.inode), None);
        }
        NameStep::Move { from, to, node, .. } => {
            assert_eq!(names.remove(&text(from)), Some(node.inode));
            assert_eq!(names.insert(text(to), node.inode), None);
        }
        NameStep::Exchange {
            name,
            other,
            node,
            over,
            ..
        } => {
            let first = names.remove(&text(name)).unwrap();
            assert_eq!(over.unwrap().inode, first);
            assert_eq!(names.insert(text(other), first), Some(node.inode));
            names.insert(text(name), node.inode);
        }
    }
}

#[test]
fn where_a_crash_stopped_a_revert_of_names_shows_in_the_names() {
    let mut state = 20261121_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 33) % below
    };
    for _ in 0..2000 {
        let (lines, mut names) = scramble(&mut random);
        let mut planned = Vec::new();
        for line in lines.iter().rev() {
            let (first, second) = steps(line).unwrap();
            planned.push(first);
            planned.extend(second);
        }
        let mut before = vec![names.clone()];
        for step in &planned {
            perform(step, &mut names);
            before.push(names.clone());
        }
        assert_eq!(names, Names::new(), "{lines:?}");
        for (done, names) in before.iter().enumerate() {
            let mut progress = Progress::default();
            for step in &planned {
                progress.count(step.bindings().map(|binding| {
                    let name = std::str::from_utf8(binding.name).unwrap();
                    (names.get(name) == Some(&binding.node.inode)) == binding.is_bound
                }));
            }
            let found = progress.done();
            assert!(found >= done, "{found} of {done}: {lines:?}");
            assert_eq!(&before[found], names, "{found} for {done}: {lines:?}");
        }
    }
}

/// A revert that did not save the replaced content (`undo=lost`) is distinguished from one of content by its size.
#[test]
fn reverts_of_names_are_distinguished_from_those_of_content() {
    let is_on_names = |keys: &str| {
        let text = format!("1.000000000 /bin/mv {keys} sum=00000000\n");
        is_on_names(&Line::parse(text.as_bytes(), None).unwrap())
    };
    for undo in ["none", "lost why=noredo"] {
        for op in ["revert", "redo"] {
            let names = format!("{op} 0 0 seq=9 size=40 undo={undo} of=8 count=1 mode=walk");
            assert!(is_on_names(&names), "{names}");
            let content = format!("{op} 0 5 seq=9 size=5 undo={undo} of=8 count=1 mode=walk now=5");
            assert!(!is_on_names(&content), "{content}");
        }
    }
    assert!(!is_on_names("write 0 5 seq=9 size=5 undo=lost why=nospace"));
}
