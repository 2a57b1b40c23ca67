// SPDX-License-Identifier: GPL-2.0

//! `vfs::store`: directories and files, in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::rc::Rc;

use crate::prelude::*;
use crate::vfs::error::ENODATA;

/// No file grows beyond that: a fuzzer's numbers must not fill the memory.
const LARGEST: u64 = 16 << 20;

/// The attributes of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) inode: u64,
    pub(crate) generation: u32,
    is_dir: bool,
}

impl FileStat {
    const FILE: Self = Self {
        uid: 0,
        mode: 0o600,
        links: 1,
        inode: 2,
        generation: 1,
        is_dir: false,
    };

    const DIR: Self = Self {
        mode: 0o700,
        links: 2,
        is_dir: true,
        ..Self::FILE
    };

    pub(crate) fn is_file(&self) -> bool {
        !self.is_dir
    }

    pub(crate) fn is_private_to_root(&self) -> bool {
        self.uid == 0 && self.mode & 0o022 == 0 && (self.is_dir || self.links == 1)
    }
}

/// The object of a name.
#[derive(Clone)]
enum Node {
    Dir(StoreDir),
    File(StoreFile),
}

struct Inner {
    stat: FileStat,
    names: BTreeMap<Vec<u8>, Node>,
}

/// A directory.
#[derive(Clone)]
pub(crate) struct StoreDir(Rc<RefCell<Inner>>);

impl StoreDir {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Inner {
            stat: FileStat::DIR,
            names: BTreeMap::new(),
        })))
    }

    /// A deep copy.
    pub(crate) fn deep_copy(&self) -> Self {
        let copy = Self::new();
        let from = self.0.borrow();
        copy.0.borrow_mut().stat = from.stat;
        for (name, node) in &from.names {
            let node = match node {
                Node::Dir(dir) => Node::Dir(dir.deep_copy()),
                Node::File(file) => Node::File(file.deep_copy()),
            };
            copy.0.borrow_mut().names.insert(name.clone(), node);
        }
        copy
    }

    /// Every file in and below the directory, with its directory.
    pub(crate) fn files(&self) -> Vec<(Self, Vec<u8>, StoreFile)> {
        let mut found = Vec::new();
        for (name, node) in &self.0.borrow().names {
            match node {
                Node::Dir(dir) => found.extend(dir.files()),
                Node::File(file) => found.push((self.clone(), name.clone(), file.clone())),
            }
        }
        found
    }

    /// Puts a file there, replacing any object of the name.
    pub(crate) fn put(&self, name: &[u8], file: StoreFile) {
        self.0
            .borrow_mut()
            .names
            .insert(name.to_vec(), Node::File(file));
    }

    /// Puts an empty directory there, replacing any object of the name.
    pub(crate) fn put_dir(&self, name: &[u8]) {
        let node = Node::Dir(Self::new());
        self.0.borrow_mut().names.insert(name.to_vec(), node);
    }

    pub(crate) fn set_stat(&self, change: impl FnOnce(&mut FileStat)) {
        change(&mut self.0.borrow_mut().stat);
    }

    pub(crate) fn stat(&self) -> FileStat {
        self.0.borrow().stat
    }

    fn lookup(&self, name: &[u8]) -> Result<Node> {
        self.0.borrow().names.get(name).cloned().ok_or(ENOENT)
    }

    pub(crate) fn make_dir(&self, name: &[u8], _mode: u16) -> Result<Self> {
        match self.lookup(name) {
            Ok(Node::Dir(dir)) => Ok(dir),
            Ok(Node::File(_)) => Err(ENOTDIR),
            Err(_) => {
                let dir = Self::new();
                let node = Node::Dir(dir.clone());
                self.0.borrow_mut().names.insert(name.to_vec(), node);
                Ok(dir)
            }
        }
    }

    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.lookup(name).is_ok()
    }

    pub(crate) fn remove_dir(&self, name: &[u8]) -> Result {
        match self.lookup(name)? {
            Node::Dir(dir) if dir.0.borrow().names.is_empty() => {
                self.0.borrow_mut().names.remove(name);
                Ok(())
            }
            Node::Dir(_) => Err(ENOTEMPTY),
            Node::File(_) => Err(ENOTDIR),
        }
    }

    pub(crate) fn open(&self, name: &[u8], _write: bool) -> Result<StoreFile> {
        match self.lookup(name)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(EISDIR),
        }
    }

    pub(crate) fn create(&self, name: &[u8], _mode: u16) -> Result<StoreFile> {
        match self.open(name, true) {
            Err(e) if e == ENOENT => {}
            found => return found,
        }
        let file = StoreFile::new(Vec::new());
        self.put(name, file.clone());
        Ok(file)
    }

    pub(crate) fn rename(&self, from: &[u8], to: &StoreDir, name: &[u8]) -> Result {
        let node = self.lookup(from)?;
        self.0.borrow_mut().names.remove(from);
        to.0.borrow_mut().names.insert(name.to_vec(), node);
        Ok(())
    }

    pub(crate) fn unlink(&self, name: &[u8]) -> Result {
        match self.lookup(name)? {
            Node::Dir(_) => return Err(EISDIR),
            Node::File(_) => self.0.borrow_mut().names.remove(name),
        };
        Ok(())
    }

    pub(crate) fn list(&self, each: &mut dyn FnMut(&[u8])) -> Result {
        let names: Vec<_> = self.0.borrow().names.keys().cloned().collect();
        names.iter().for_each(|name| each(name));
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result {
        Ok(())
    }

    /// None, so that a directory goes by number and generation.
    pub(crate) fn handle(&self, _buf: &mut [u8; 128]) -> Result<(u8, usize)> {
        Err(ENOTSUPP)
    }
}

struct Content {
    stat: FileStat,
    bytes: Vec<u8>,
}

/// A file.
#[derive(Clone)]
pub(crate) struct StoreFile(Rc<RefCell<Content>>);

impl StoreFile {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(Content {
            stat: FileStat::FILE,
            bytes,
        })))
    }

    pub(crate) fn deep_copy(&self) -> Self {
        let from = self.0.borrow();
        let copy = Self::new(from.bytes.clone());
        copy.0.borrow_mut().stat = from.stat;
        copy
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.borrow_mut().bytes);
    }

    pub(crate) fn set_stat(&self, change: impl FnOnce(&mut FileStat)) {
        change(&mut self.0.borrow_mut().stat);
    }

    pub(crate) fn stat(&self) -> FileStat {
        self.0.borrow().stat
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.borrow().bytes.len() as u64
    }

    pub(crate) fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        let at = i64::try_from(at).map_err(|_| EFBIG)?;
        let content = self.0.borrow();
        let rest = content.bytes.get(at as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    pub(crate) fn read_exact_at(&self, buf: &mut [u8], at: u64) -> Result {
        if self.read_at(buf, at)? < buf.len() {
            return Err(ENODATA);
        }
        Ok(())
    }

    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> Result {
        let end = at.checked_add(bytes.len() as u64).ok_or(EINVAL)?;
        if end > LARGEST {
            return Err(EFBIG);
        }
        let (at, end) = (at as usize, end as usize);
        let mut content = self.0.borrow_mut();
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[at..end].copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn truncate(&self, size: u64) -> Result {
        if size > LARGEST {
            return Err(EFBIG);
        }
        self.0.borrow_mut().bytes.resize(size as usize, 0);
        Ok(())
    }

    pub(crate) fn allocate(&self, _start: u64, end: u64) -> Result {
        self.truncate(end)
    }

    pub(crate) fn sync(&self) -> Result {
        Ok(())
    }

    pub(crate) fn claim(&self) -> Result {
        Ok(())
    }
}

/// A file that is written in large pieces.
pub(crate) struct StreamFile(StoreFile);

impl StreamFile {
    pub(crate) fn read_only(file: StoreFile) -> Self {
        Self(file)
    }

    pub(crate) fn in_pages(file: StoreFile, _dir: &StoreDir, _name: &[u8]) -> Self {
        Self(file)
    }

    pub(crate) fn in_pieces(file: StoreFile) -> Self {
        Self(file)
    }
}

impl Deref for StreamFile {
    type Target = StoreFile;

    fn deref(&self) -> &StoreFile {
        &self.0
    }
}
