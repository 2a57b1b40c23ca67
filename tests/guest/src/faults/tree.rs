// SPDX-License-Identifier: GPL-2.0

//! All that a directory shows, to be compared: names, kinds, attributes, contents.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::outcome::{At, Outcome};

/// One name, and the object that it is bound to.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// Kind, permissions, owner, group, links (none for directories, which count them as they
    /// like), size (none for directories either), device.
    facts: String,
    /// A regular file's bytes, or a symbolic link's target.
    content: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Everything below a directory but the history.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    pub fn of(root: &Path) -> Outcome<Tree> {
        let mut tree = Tree::default();
        tree.walk(root, "")?;
        Ok(tree)
    }

    /// A regular file's bytes.
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|node| &node.content[..])
    }

    /// The same tree with other bytes in one file.
    pub fn with_content(&self, name: &str, content: Vec<u8>) -> Tree {
        let mut tree = self.clone();
        if let Some(node) = tree.0.get_mut(name) {
            let (head, _) = node.facts.rsplit_once(" size ").unwrap_or_default();
            node.facts = format!("{head} size {}", content.len());
            node.content = content;
        }
        tree
    }

    fn walk(&mut self, directory: &Path, prefix: &str) -> Outcome {
        for entry in fs::read_dir(directory).at(format!("listing {}", directory.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if prefix.is_empty() && name == ".loggerfs" {
                continue;
            }
            let path = entry.path();
            let name = format!("{prefix}{name}");
            let node = Node::of(&path).at(format!("looking at {name}"))?;
            self.0.insert(name.clone(), node);
            if entry.file_type()?.is_dir() {
                self.walk(&path, &format!("{name}/"))?;
            }
        }
        Ok(())
    }

    /// The same tree with everything below `place` (which ends in a slash) taken from another one.
    pub fn with_part_of(&self, other: &Tree, place: &str) -> Tree {
        let own = self.0.iter().filter(|(name, _)| !name.starts_with(place));
        let others = other.0.iter().filter(|(name, _)| name.starts_with(place));
        let both = own.chain(others);
        Tree(
            both.map(|(name, node)| (name.clone(), node.clone()))
                .collect(),
        )
    }

    /// The difference from the wanted tree; `None`: there is none.
    pub fn difference(&self, want: &Tree) -> Option<String> {
        let mut found = Vec::new();
        for (name, node) in &self.0 {
            match want.0.get(name) {
                None => found.push(format!("{name} is there")),
                Some(other) if other != node => found.push(node.difference(name, other)),
                Some(_) => {}
            }
        }
        for name in want.0.keys().filter(|name| !self.0.contains_key(*name)) {
            found.push(format!("{name} is missing"));
        }
        (!found.is_empty()).then(|| found.join(", "))
    }
}

impl Node {
    fn of(path: &Path) -> Outcome<Node> {
        let meta = fs::symlink_metadata(path)?;
        let kind = meta.file_type();
        let content = if kind.is_file() {
            fs::read(path)?
        } else if kind.is_symlink() {
            fs::read_link(path)?.as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        };
        let (links, size) = if kind.is_dir() {
            (0, 0)
        } else {
            (meta.nlink(), meta.len())
        };
        Ok(Node {
            facts: format!(
                "mode {:o} owner {}:{} links {links} device {} size {size}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.rdev()
            ),
            content,
            xattrs: xattrs(path)?,
        })
    }

    /// The object that a name is bound to; `None`: the name is free.
    pub fn at(path: &Path) -> Outcome<Option<Node>> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            _ => Node::of(path).map(Some),
        }
    }

    /// How this one differs from the one that is wanted.
    pub fn difference(&self, name: &str, want: &Node) -> String {
        if self.facts != want.facts {
            return format!("{name}: {} instead of {}", self.facts, want.facts);
        }
        if self.xattrs != want.xattrs {
            return format!("{name}: other extended attributes");
        }
        let pairs = self.content.iter().zip(&want.content);
        let same = pairs.take_while(|(one, two)| one == two).count();
        format!("{name}: other bytes from {same} on")
    }
}

fn xattrs(path: &Path) -> Outcome<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; 4096];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        // XFS shows root each ACL under a second name.
        if name.is_empty() || name.starts_with(b"trusted.SGI_ACL_") {
            continue;
        }
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}
