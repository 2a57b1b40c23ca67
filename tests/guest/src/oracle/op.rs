// SPDX-License-Identifier: GPL-2.0

//! The operations of one process, as lines of text: words and numbers that mean the same wherever the tree
//! is, so that any part of a sequence can run without the rest.

use crate::shadow::Random;

/// All kinds of operations, each with its frequency and its subject.
pub const KINDS: &[(&str, u64, About)] = &[
    ("create", 24, About::Name),
    ("mkdir", 5, About::Name),
    ("symlink", 2, About::Name),
    ("fifo", 1, About::Name),
    ("socket", 1, About::Name),
    ("device", 1, About::Name),
    ("tmpfile", 2, About::Name),
    ("unlink", 5, About::Name),
    ("rmdir", 2, About::Name),
    ("rmtree", 1, About::Name),
    ("link", 4, About::Second),
    ("rename", 5, About::Names),
    ("noreplace", 3, About::Names),
    ("exchange", 4, About::Names),
    ("save", 3, About::Names),
    ("write", 8, About::Object),
    ("writev", 2, About::Object),
    ("append", 4, About::Object),
    ("direct", 2, About::Object),
    ("synced", 1, About::Object),
    ("aio", 1, About::Object),
    ("uring", 1, About::Object),
    ("splice", 2, About::Object),
    ("sendfile", 2, About::Objects),
    ("copy", 3, About::Objects),
    ("clone", 2, About::Objects),
    ("clonerange", 2, About::Objects),
    ("dedupe", 1, About::Objects),
    ("truncate", 3, About::Object),
    ("otrunc", 1, About::Object),
    ("allocate", 1, About::Object),
    ("keep", 1, About::Object),
    ("punch", 2, About::Object),
    ("zero", 2, About::Object),
    ("zerokeep", 1, About::Object),
    ("writezeroes", 1, About::Object),
    ("collapse", 2, About::Object),
    ("insert", 2, About::Object),
    ("unshare", 1, About::Object),
    ("chmod", 2, About::Object),
    ("chown", 2, About::Object),
    ("utimes", 2, About::Object),
    ("setxattr", 3, About::Object),
    ("trusted", 1, About::Object),
    ("rmxattr", 2, About::Object),
    ("setacl", 2, About::Object),
    ("defacl", 1, About::Object),
    ("rmacl", 1, About::Object),
    ("flags", 2, About::Object),
    ("project", 1, About::Object),
    ("capability", 2, About::Object),
    ("protect", 1, About::Object),
    ("unprotect", 6, About::Object),
    ("fsync", 1, About::Object),
    ("open", 10, About::Slot),
    ("map", 10, About::Slot),
    ("unmap", 2, About::Slot),
    ("remap", 2, About::Slot),
    ("close", 2, About::Slot),
    ("store", 16, About::Slot),
    ("forkstore", 2, About::Slot),
    ("protectstore", 1, About::Slot),
    ("msync", 2, About::Slot),
    ("hwrite", 6, About::Slot),
    ("htruncate", 3, About::Slot),
    ("hpunch", 1, About::Slot),
    ("hcollapse", 1, About::Slot),
    ("hchmod", 1, About::Slot),
    ("hxattr", 1, About::Slot),
    ("hlink", 1, About::Slot),
];

/// The subject of an operation, which also decides whose newest operation it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// A name: its directory's.
    Name,
    /// Two names: the first one's directory's.
    Names,
    /// Two names, of which only the second one changes.
    Second,
    /// The object that a name is bound to.
    Object,
    /// Two such; the second is changed.
    Objects,
    /// A file that a process holds open.
    Slot,
}

/// How many files a process holds at most.
pub const SLOTS: u64 = 3;

/// Where names are made.
const PLACES: &[&str] = &["", "", "n0/", "n0/", "n1/", "n0/n2/", "n1/n3/"];

/// The largest file that is made on purpose.
pub const LARGEST: u64 = 40_000;

/// An operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Op {
    pub kind: &'static str,
    pub about: About,
    pub one: String,
    pub two: String,
    pub slot: usize,
    pub at: u64,
    pub length: u64,
    /// The source of its bytes and of other choices.
    pub salt: u64,
}

impl Op {
    pub fn random(random: &mut Random) -> Op {
        let whole: u64 = KINDS.iter().map(|(_, weight, _)| weight).sum();
        let mut left = random.below(whole);
        let chosen = KINDS.iter().find(|(_, weight, _)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let (kind, _, about) = *chosen.unwrap_or(&KINDS[0]);
        let mut path = || {
            let place = PLACES[random.below(PLACES.len() as u64) as usize];
            format!("{place}n{}", random.below(5))
        };
        let (one, two) = (path(), path());
        let most = [64, 5000, 5000, 20_000][random.below(4) as usize];
        let farthest = [9000, LARGEST][random.below(2) as usize];
        Op {
            kind,
            about,
            one,
            two,
            slot: random.below(SLOTS) as usize,
            at: random.below(farthest),
            length: 1 + random.below(most),
            salt: random.below(1 << 32),
        }
    }

    /// One that makes a name.
    pub fn made(kind: &'static str, path: &str) -> Op {
        Op {
            kind,
            about: About::Name,
            one: path.into(),
            two: path.into(),
            slot: 0,
            at: 0,
            length: 1,
            salt: 1,
        }
    }

    pub fn text(&self) -> String {
        let (kind, one, two) = (self.kind, &self.one, &self.two);
        let (slot, at, length, salt) = (self.slot, self.at, self.length, self.salt);
        format!("{kind} {one} {two} {slot} {at} {length} {salt}")
    }

    pub fn parse(text: &str) -> Option<Op> {
        let words: Vec<&str> = text.split(' ').collect();
        let [kind, one, two, slot, at, length, salt] = words[..] else {
            return None;
        };
        let (kind, _, about) = *KINDS.iter().find(|(name, _, _)| *name == kind)?;
        Some(Op {
            kind,
            about,
            one: one.into(),
            two: two.into(),
            slot: slot.parse().ok()?,
            at: at.parse().ok()?,
            length: length.parse().ok()?,
            salt: salt.parse().ok()?,
        })
    }

    /// The names that the operation may change, or the objects of which.
    pub fn paths(&self) -> Vec<&str> {
        match self.about {
            About::Name | About::Object => vec![&self.one],
            About::Names | About::Second | About::Objects => vec![&self.one, &self.two],
            About::Slot if self.kind == "hlink" => vec![&self.one],
            About::Slot => Vec::new(),
        }
    }

    /// Whether the operation removes a name.
    pub fn removes(&self) -> bool {
        ["unlink", "rmdir", "rmtree"].contains(&self.kind)
    }

    /// Whether the operation also applies to directories and special files.
    pub fn is_of_attributes(&self) -> bool {
        let kinds = [
            "chmod",
            "chown",
            "utimes",
            "setxattr",
            "trusted",
            "rmxattr",
            "setacl",
            "rmacl",
            "defacl",
            "flags",
            "project",
            "fsync",
            "protect",
            "unprotect",
        ];
        kinds.contains(&self.kind)
    }

    /// Whether the operation changes only the state of the process.
    pub fn is_of_the_process(&self) -> bool {
        ["open", "map", "unmap", "remap", "close"].contains(&self.kind)
    }

    /// Whether two files may share blocks afterwards, on a filesystem that supports that.
    pub fn may_share(&self) -> bool {
        ["copy", "clone", "clonerange", "dedupe"].contains(&self.kind)
    }

    /// Whether the operation changes mapped memory.
    pub fn is_store(&self) -> bool {
        ["store", "forkstore", "protectstore"].contains(&self.kind)
    }

    /// Whether an ordinary user does the operation, and not root: new objects belong to that user, forbidden
    /// calls fail, and a write clears set-id bits and capabilities.
    pub fn is_of_a_user(&self) -> bool {
        (self.salt >> 16) % 6 == 5
    }

    /// The path of the object whose newest operation it is.
    pub fn object(&self) -> Option<&str> {
        match self.about {
            About::Name | About::Names => Some(parent(&self.one)),
            About::Second => Some(parent(&self.two)),
            About::Object => Some(&self.one),
            About::Objects => Some(&self.two),
            About::Slot => None,
        }
    }
}

pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(place, _)| place)
}
