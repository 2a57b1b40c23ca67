// SPDX-License-Identifier: GPL-2.0

//! The content of the two directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::operation::XATTR;
use super::{name_of, Kind, Node, Slot, State, NAMES, ROOTS};
use crate::outcome::{check, fail, At, Outcome};

/// Names, and the nodes that are there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FoundTree {
    pub names: BTreeMap<Slot, usize>,
    pub nodes: BTreeMap<usize, Node>,
    links: BTreeMap<usize, u64>,
}

/// Which nodes a name may be bound to, among them none.
pub type May<'a> = &'a dyn Fn(Slot) -> BTreeSet<Option<usize>>;

impl FoundTree {
    /// The tree below `top`, in which every name is bound to a permitted node.
    pub fn at(top: &Path, inodes: &[u64], may: May<'_>) -> Outcome<FoundTree> {
        let mut seen = FoundTree::default();
        let mut places: Vec<(usize, PathBuf)> = Vec::new();
        for (node, name) in ROOTS.iter().enumerate() {
            places.push((node, top.join(name)));
            let facts = fs::symlink_metadata(top.join(name)).at(*name)?;
            seen.nodes.insert(node, node_at(&top.join(name), &facts)?);
        }
        while let Some((directory, path)) = places.pop() {
            let mut others = fs::read_dir(&path).at(path.display())?;
            let is_known = |entry: &io::Result<fs::DirEntry>| {
                let known = |entry: &fs::DirEntry| {
                    (0..NAMES).any(|name| entry.file_name().to_str() == Some(&name_of(name)))
                };
                entry.as_ref().is_ok_and(known)
            };
            if let Some(other) = others.find(|entry| !is_known(entry)) {
                fail!("nobody made {}", other?.path().display());
            }
            for name in 0..NAMES {
                let path = path.join(name_of(name));
                if let Some(node) = seen.slot((directory, name), &path, inodes, may)? {
                    places.push((node, path));
                }
            }
        }
        seen.count_links()?;
        Ok(seen)
    }

    /// Answers the node of a directory.
    fn slot(
        &mut self,
        slot: Slot,
        path: &Path,
        inodes: &[u64],
        may: May<'_>,
    ) -> Outcome<Option<usize>> {
        let may_be = may(slot);
        let facts = match fs::symlink_metadata(path) {
            Ok(facts) => facts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check!(
                    may_be.contains(&None),
                    "{} is not there, and was to be node {may_be:?}",
                    path.display()
                );
                return Ok(None);
            }
            Err(error) => fail!("{}: {error}", path.display()),
        };
        let nodes = may_be.iter().rev().flatten();
        let mut nodes = nodes.filter(|node| [0, facts.ino()].contains(&inodes[**node]));
        let Some(node) = nodes.next().copied() else {
            fail!(
                "{} is inode {}, and was to be one of the nodes {may_be:?} of {inodes:?}",
                path.display(),
                facts.ino()
            );
        };
        self.names.insert(slot, node);
        self.nodes.insert(node, node_at(path, &facts)?);
        if facts.is_dir() {
            return Ok(Some(node));
        }
        self.links.insert(node, facts.nlink());
        Ok(None)
    }

    /// The names that history keeps are not counted.
    fn count_links(&self) -> Outcome {
        for (node, links) in &self.links {
            let names = self.names.values().filter(|bound| *bound == node).count();
            check!(
                *links == names as u64,
                "node {node} has {names} names, and says {links}: {:?}",
                self.names
            );
        }
        Ok(())
    }

    pub fn is_like(&self, state: &State) -> bool {
        self.difference(state).is_none()
    }

    /// The difference from a state.
    pub fn difference(&self, state: &State) -> Option<String> {
        if self.names != state.names {
            return Some(format!("names {:?}, want {:?}", self.names, state.names));
        }
        let mut nodes = self.nodes.iter();
        let (node, found) = nodes.find(|(node, found)| state.nodes.get(**node) != Some(found))?;
        Some(format!(
            "{} (node {node}) is {found:?}, want {:?}",
            state.path(*node),
            state.nodes.get(*node)
        ))
    }
}

fn node_at(path: &Path, facts: &Metadata) -> Outcome<Node> {
    let kind = match facts {
        _ if facts.is_dir() => Kind::Directory,
        _ if facts.is_symlink() => Kind::Symlink,
        _ => Kind::File,
    };
    check!(
        facts.uid() == facts.gid(),
        "{}: user {}, group {}",
        path.display(),
        facts.uid(),
        facts.gid()
    );
    check!(
        kind != Kind::File || facts.len() == 0,
        "{} is not empty",
        path.display()
    );
    let value = match kind {
        Kind::Symlink => Some(fs::read_link(path)?.into_os_string().into_vec()),
        _ => value_of(path)?,
    };
    Ok(Node {
        kind,
        mode: facts.mode() & 0o7777,
        owner: facts.uid(),
        value,
    })
}

fn value_of(path: &Path) -> Outcome<Option<Vec<u8>>> {
    let mut value = vec![0; 1024];
    match rustix::fs::lgetxattr(path, XATTR, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(rustix::io::Errno::NODATA) => Ok(None),
        Err(error) => fail!("{}: getxattr: {error}", path.display()),
    }
}
