// SPDX-License-Identifier: MIT OR Apache-2.0

//! The objects of the view that the kernel knows, by inode number.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::rc::Weak;

use fuser::{FileAttr, FUSE_ROOT_ID};

use crate::past_directories::{Listed, NameInDirectory};
use loggerfs_log::types::ObjectId;

/// The number in the view of an object whose own inode number is that of the view's root.
const INSTEAD_OF_ROOT: u64 = u64::MAX - 1;

/// An object of the view.
#[derive(Default)]
pub struct Node {
    /// The object, if a line names it.
    pub object: Option<ObjectId>,
    /// The name by which it was looked up last; none for the root.
    pub name: Option<NameInDirectory>,
    /// Where it was found in the present tree.
    pub place: Option<PathBuf>,
    /// Its attributes, once they were read.
    pub attributes: Option<FileAttr>,
    /// Its content, while it is open.
    pub content: Weak<File>,
    /// Whether its content was read since the kernel knows it.
    pub was_read: bool,
    /// How many lookups the kernel has not forgotten.
    lookups: u64,
}

/// The objects that the kernel knows.
pub struct Nodes {
    root: u64,
    nodes: HashMap<u64, Node>,
}

impl Nodes {
    /// Only the root, by its inode number.
    pub fn new(root: u64) -> Self {
        Self {
            root,
            nodes: HashMap::from([(root, Node::default())]),
        }
    }

    /// The number by which the kernel knows an object.
    pub fn number(&self, inode: u64) -> u64 {
        match inode {
            inode if inode == self.root => FUSE_ROOT_ID,
            FUSE_ROOT_ID => INSTEAD_OF_ROOT,
            inode => inode,
        }
    }

    /// The inode number of an object that the kernel names.
    pub fn inode(&self, number: u64) -> u64 {
        match number {
            FUSE_ROOT_ID => self.root,
            INSTEAD_OF_ROOT => FUSE_ROOT_ID,
            number => number,
        }
    }

    /// An object.
    pub fn get(&self, inode: u64) -> Option<&Node> {
        self.nodes.get(&inode)
    }

    /// An object, to note something of it.
    pub fn get_mut(&mut self, inode: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&inode)
    }

    /// Adds an object by a name, unless it is known.
    pub fn add(&mut self, listed: Listed, name: NameInDirectory) {
        if listed.inode == self.root {
            return;
        }
        let node = self.nodes.entry(listed.inode).or_default();
        node.object = listed.object.or(node.object);
        node.name = Some(name);
    }

    /// Counts a lookup of an object.
    pub fn count(&mut self, inode: u64) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.lookups = node.lookups.saturating_add(1);
        }
    }

    /// Drops lookups of an object, and the object after the last of them.
    pub fn forget(&mut self, inode: u64, lookups: u64) {
        let Some(node) = self.nodes.get_mut(&inode) else {
            return;
        };
        node.lookups = node.lookups.saturating_sub(lookups);
        if node.lookups == 0 && inode != self.root {
            self.nodes.remove(&inode);
        }
    }
}
