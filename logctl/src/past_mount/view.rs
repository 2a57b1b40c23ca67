// SPDX-License-Identifier: MIT OR Apache-2.0

//! The view: names, attributes and contents at a point.
//!
//! An object that a line is about is read as of the point by its number. Any other one has not changed, and is
//! read where it is now. Lines that come meanwhile are taken in after the present tree was looked at: an
//! operation writes its line before it releases the directory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fuser::FileAttr;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::attributes::{of_old_content, of_present};
use super::newer_lines::NewerLines;
use super::nodes::Nodes;
use super::present_tree::PresentTree;
use crate::error::Error;
use crate::object::{self, Object};
use crate::old_content::{facts, in_memory, into_file, OldContent, TemporaryDir, Xattr};
use crate::past_directories::{Listed, PastDirectories};
use crate::past_times::PastTimes;
use crate::uapi::Reason;
use loggerfs_log::line::Line;
use loggerfs_log::types::ObjectId;

/// The state of a mount at a point.
pub struct View<'k> {
    kernel: &'k mut dyn Object,
    present: PresentTree,
    names: PastDirectories,
    times: PastTimes,
    newer: NewerLines,
    /// The number of the newest line that was taken in.
    newest: u64,
    cut: u64,
    temporary: TemporaryDir,
    /// The objects that the kernel knows.
    pub nodes: Nodes,
    /// The directories of the present tree, and the number of the newest line when they were searched.
    directories: Option<(u64, HashMap<u64, PathBuf>)>,
}

/// How deep names are followed, at most: lines that were forged could lead round and round.
const DEEPEST: usize = 4096;

/// How often a look at the present tree is repeated because lines came meanwhile.
const ATTEMPTS: usize = 8;

/// Contents up to this length are kept in memory while they are open.
const SHORT: u64 = 1 << 18;

/// Where an old state is read.
#[derive(Debug)]
enum OldState {
    /// As of the point.
    Read(OldContent),
    /// The object has no history of its own, and is as it is now.
    Present,
    /// The caller may not read its history.
    Refused,
}

impl<'k> View<'k> {
    /// The state right after the line numbered `cut`. `newest` is the number of the newest line that names and
    /// times have, and `newer` reads from that line or an older one on.
    pub fn new(
        kernel: &'k mut dyn Object,
        present: PresentTree,
        (names, times, cut): (PastDirectories, PastTimes, u64),
        (newer, newest): (NewerLines, u64),
    ) -> Self {
        Self {
            kernel,
            names,
            times,
            newer,
            newest,
            cut,
            temporary: TemporaryDir::outside(present.device()),
            nodes: Nodes::new(present.inode()),
            present,
            directories: None,
        }
    }

    /// The inode number of the root.
    pub fn root(&self) -> u64 {
        self.present.inode()
    }

    /// Takes newer lines in; returns whether there were any.
    fn refresh(&mut self) -> Result<bool, Errno> {
        let before = self.newest;
        for text in self.newer.read(self.kernel).map_err(|_| Errno::IO)? {
            let Ok(line) = Line::parse(&text, None) else {
                continue;
            };
            if line.seq > self.newest {
                self.newest = line.seq;
                self.names.take_in(&line);
                self.times.take_in(&line);
            }
        }
        Ok(self.newest != before)
    }

    /// Reads something: again, if it fails and lines have come meanwhile.
    fn retried<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, Errno>) -> Result<T, Errno> {
        for _ in 1..ATTEMPTS {
            match read(self) {
                Err(errno) if !self.refresh()? => return Err(errno),
                Err(_) => {}
                found => return found,
            }
        }
        read(self)
    }

    fn object(&self, inode: u64) -> Option<ObjectId> {
        let known = self.nodes.get(inode).and_then(|node| node.object);
        known.or_else(|| self.names.object(inode))
    }

    /// The object of a name in a directory.
    pub fn lookup(&mut self, dir: u64, name: &OsStr) -> Result<Listed, Errno> {
        // Newer lines do not change what is known of a name.
        let mut bound = self.names.name(dir, name.as_bytes());
        let mut present = None;
        for _ in 0..ATTEMPTS {
            if bound.is_some() {
                break;
            }
            let place = self.find(dir).map(|(place, _)| place.join(name));
            present = match place.map(|place| self.present.stat(&place)) {
                None | Some(Err(Errno::NOENT | Errno::XDEV)) => None,
                Some(found) => Some(found?.ino()),
            };
            // The directory may have been moved before it was found.
            let has_newer = self.refresh()?;
            bound = self.names.name(dir, name.as_bytes());
            if !has_newer {
                break;
            }
        }
        let listed = match bound {
            Some(bound) => bound.map(|object| Listed {
                inode: object.inode,
                object: Some(object),
            }),
            None => present.map(|inode| Listed {
                inode,
                object: self.names.object(inode),
            }),
        };
        let listed = listed.ok_or(Errno::NOENT)?;
        self.nodes.add(listed, (dir, name.as_bytes().to_vec()));
        Ok(listed)
    }

    /// The names in a directory.
    pub fn list(&mut self, dir: u64) -> Result<BTreeMap<Vec<u8>, Listed>, Errno> {
        self.refresh()?;
        let present = match self.find(dir) {
            // Another directory may have taken its place meanwhile.
            Some((place, _)) => match self.present.entries(&place, dir) {
                Err(Errno::NOENT | Errno::NOTDIR) => Vec::new(),
                entries => entries?,
            },
            // A directory that was removed was empty by then.
            None => Vec::new(),
        };
        self.refresh()?;
        Ok(self.names.list(dir, present))
    }

    /// The attributes of an object. The number of blocks is a guess until the content was read.
    pub fn attributes(&mut self, inode: u64) -> Result<FileAttr, Errno> {
        let known = self.nodes.get(inode).and_then(|node| node.attributes);
        let attributes = match known {
            Some(known) => known,
            None => self.retried(|view| view.read_attributes(inode))?,
        };
        if let Some(node) = self.nodes.get_mut(inode) {
            node.attributes = Some(attributes);
        }
        Ok(attributes)
    }

    fn read_attributes(&mut self, inode: u64) -> Result<FileAttr, Errno> {
        let number = self.nodes.number(inode);
        for _ in 0..ATTEMPTS {
            let state = self.old_state(inode, None)?;
            if let OldState::Read(_) = state {
                // A newer line has the time of a write that the state shows.
                self.refresh()?;
            }
            let present = self.find(inode).map(|(_, found)| found);
            let links = match &present {
                Some(found) if found.is_dir() => 1,
                present => self.links(inode, present.as_ref()),
            };
            match (state, present) {
                (OldState::Read(mut old), present) => {
                    if let Some(times) = &mut old.times {
                        times.modified = self.times.modified(inode, times.modified);
                    }
                    return of_old_content(number, &old, present.as_ref(), links);
                }
                (_, None) => return Err(Errno::IO),
                // The present state is the old one only if no line came before it was read.
                (_, Some(present)) => {
                    if !self.refresh()? {
                        return Ok(of_present(number, &present, links));
                    }
                }
            }
        }
        Err(Errno::AGAIN)
    }

    /// How many names an object had: those that lines record, and those that no line is about, which are there
    /// now and are counted by the present number of links.
    fn links(&mut self, inode: u64, present: Option<&Metadata>) -> u32 {
        let then = self.names.names_then(inode).count() as u64;
        let mut now = present.map_or(0, Metadata::nlink);
        let names = self.names.names_of(inode).to_vec();
        for (dir, name) in names {
            let Some((place, _)) = self.find(dir) else {
                continue;
            };
            let place = place.join(OsStr::from_bytes(&name));
            if self.has_inode(&place, inode).is_some() {
                now = now.saturating_sub(1);
            }
        }
        let links = then.saturating_add(now).max(1);
        u32::try_from(links).unwrap_or(u32::MAX)
    }

    /// The content of a regular file, in a file without a name, and whether holes were found in it: it is read
    /// once while it is in use.
    pub fn content(&mut self, inode: u64) -> Result<(Rc<File>, bool), Errno> {
        let open = self
            .nodes
            .get(inode)
            .and_then(|node| node.content.upgrade());
        if let Some(open) = open {
            return Ok((open, false));
        }
        let old = self.retried(|view| view.read_content(inode))?;
        let content = Rc::new(old.file.ok_or(Errno::IO)?);
        if let Some(node) = self.nodes.get_mut(inode) {
            node.content = Rc::downgrade(&content);
            node.was_read = true;
            let known = node.attributes.as_mut().zip(content.metadata().ok());
            if let Some((attributes, found)) = known.filter(|(_, found)| has_holes(found)) {
                attributes.blocks = found.blocks();
                return Ok((content, true));
            }
        }
        Ok((content, false))
    }

    /// Whether the content of a file was read since the kernel knows the file.
    pub fn was_read(&self, inode: u64) -> bool {
        self.nodes.get(inode).is_some_and(|node| node.was_read)
    }

    fn read_content(&mut self, inode: u64) -> Result<OldContent, Errno> {
        let output = self.output(inode)?;
        match self.old_state(inode, Some(output))? {
            OldState::Read(old) => Ok(old),
            OldState::Refused => Err(Errno::ACCESS),
            OldState::Present => {
                let output = self.output(inode)?;
                self.read_open(inode, Some(output))
            }
        }
    }

    /// An empty file for the content of an object: in memory if that is known to be short.
    fn output(&self, inode: u64) -> Result<File, Errno> {
        let known = self.nodes.get(inode).and_then(|node| node.attributes);
        let file = match known.is_some_and(|known| known.size <= SHORT) {
            true => in_memory(),
            false => self.temporary.file(),
        };
        file.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// The target of a symbolic link, which never changes.
    pub fn target(&mut self, inode: u64) -> Result<Vec<u8>, Errno> {
        self.retried(|view| view.read_target(inode))
    }

    fn read_target(&mut self, inode: u64) -> Result<Vec<u8>, Errno> {
        if let Some((place, _)) = self.find(inode) {
            return self.present.target(&place, inode);
        }
        let output = self.output(inode)?;
        match self.old_state(inode, Some(output))? {
            OldState::Read(mut old) if old.size != 0 => {
                let mut target = Vec::new();
                let file = old.file.as_mut().ok_or(Errno::IO)?;
                file.rewind().map_err(|_| Errno::IO)?;
                file.read_to_end(&mut target).map_err(|_| Errno::IO)?;
                Ok(target)
            }
            OldState::Refused => Err(Errno::ACCESS),
            _ => Err(Errno::IO),
        }
    }

    /// The extended attributes of an object; none where the caller may not read its history.
    pub fn xattrs(&mut self, inode: u64) -> Result<Vec<Xattr>, Errno> {
        self.retried(|view| view.read_xattrs(inode))
    }

    fn read_xattrs(&mut self, inode: u64) -> Result<Vec<Xattr>, Errno> {
        match self.old_state(inode, None)? {
            OldState::Read(old) => Ok(old.xattrs),
            OldState::Refused => Ok(Vec::new()),
            OldState::Present => match self.read_open(inode, None) {
                Ok(old) => Ok(old.xattrs),
                // Neither a file nor a directory.
                Err(Errno::ACCESS | Errno::LOOP | Errno::NXIO) => Ok(Vec::new()),
                Err(errno) => Err(errno),
            },
        }
    }

    /// Reads the old state of an object by its number.
    fn old_state(&mut self, inode: u64, output: Option<File>) -> Result<OldState, Errno> {
        let Some(object) = self.object(inode) else {
            return Ok(OldState::Present);
        };
        let path = Path::new("");
        let read = match output {
            None => facts(self.kernel, object, self.cut, path),
            Some(output) => into_file(self.kernel, object, self.cut, output, path),
        };
        match read {
            Ok(old) => Ok(OldState::Read(old)),
            // An object that has lines only as the node of others is not found by its number.
            Err(Error::OldContent(refusal)) if refusal.reason == Reason::Gone => {
                Ok(OldState::Present)
            }
            Err(error) => match errno_of(&error) {
                Errno::ACCESS => Ok(OldState::Refused),
                errno => Err(errno),
            },
        }
    }

    /// Reads the old state of a file or directory that is opened where it is now.
    fn read_open(&mut self, inode: u64, output: Option<File>) -> Result<OldContent, Errno> {
        let (place, found) = self.find(inode).ok_or(Errno::IO)?;
        if !found.is_file() && !found.is_dir() {
            return Err(Errno::NXIO);
        }
        let mut opened =
            object::File::from(self.present.open_inode(&place, inode, OFlags::RDONLY)?);
        let (itself, path) = (ObjectId::default(), Path::new(""));
        let read = match output {
            None => facts(&mut opened, itself, self.cut, path),
            Some(output) => into_file(&mut opened, itself, self.cut, output, path),
        };
        read.map_err(|error| errno_of(&error))
    }

    /// Where an object is now.
    fn find(&mut self, inode: u64) -> Option<(PathBuf, Metadata)> {
        let place = self.search(inode, &mut HashMap::new(), false)?;
        let found = self.has_inode(&place, inode)?;
        Some((place, found))
    }

    /// Where an object is now: at the place where it was found last, or by the name by which it was looked up,
    /// or by the names that lines gave it. `visited` has the results of this search; `None` in it also marks
    /// an object that is being searched.
    fn search(
        &mut self,
        inode: u64,
        visited: &mut HashMap<u64, Option<PathBuf>>,
        is_directory: bool,
    ) -> Option<PathBuf> {
        if inode == self.present.inode() {
            return Some(PathBuf::new());
        }
        if let Some(known) = visited.get(&inode) {
            return known.clone();
        }
        if visited.len() > DEEPEST {
            return None;
        }
        visited.insert(inode, None);
        let node = self.nodes.get(inode);
        let last = node.and_then(|node| node.place.clone());
        if let Some(last) = last.filter(|place| self.has_inode(place, inode).is_some()) {
            visited.insert(inode, Some(last.clone()));
            return Some(last);
        }
        let name = node.and_then(|node| node.name.clone());
        let recorded = self.names.names_of(inode).to_vec();
        let is_unnamed = recorded.is_empty();
        let mut found = None;
        for (dir, name) in name.into_iter().chain(recorded.into_iter().rev()) {
            let Some(dir) = self.search(dir, visited, true) else {
                continue;
            };
            let place = dir.join(OsStr::from_bytes(&name));
            if self.has_inode(&place, inode).is_some() {
                found = Some(place);
                break;
            }
        }
        if found.is_none() && is_directory && is_unnamed {
            found = self.search_tree(inode);
        }
        if let (Some(node), Some(found)) = (self.nodes.get_mut(inode), &found) {
            node.place = Some(found.clone());
        }
        visited.insert(inode, found.clone());
        found
    }

    /// Searches the present tree for a directory that no line names. The tree is searched anew only after
    /// lines came.
    fn search_tree(&mut self, inode: u64) -> Option<PathBuf> {
        for is_last in [false, true] {
            let known = self.directories.as_ref();
            if is_last && known.is_some_and(|(newest, _)| *newest == self.newest) {
                return None;
            }
            if is_last || known.is_none() {
                self.directories = Some((self.newest, self.present.directories()));
            }
            let (_, directories) = self.directories.as_ref()?;
            let place = directories.get(&inode).cloned();
            let place = place.filter(|place| self.has_inode(place, inode).is_some());
            if place.is_some() {
                return place;
            }
        }
        None
    }

    /// The attributes of the object at a place, if it has this inode number.
    fn has_inode(&self, place: &Path, inode: u64) -> Option<Metadata> {
        let found = self.present.stat(place).ok()?;
        (found.ino() == inode).then_some(found)
    }
}

/// Whether a file without a name has holes.
fn has_holes(found: &Metadata) -> bool {
    found.blocks().saturating_mul(512) < found.size()
}

/// The number of an error, as the view answers it.
fn errno_of(error: &Error) -> Errno {
    match error {
        Error::OldContent(refusal) => match refusal.reason {
            Reason::NotOwner | Reason::NotPermitted => Errno::ACCESS,
            Reason::NoSpace => Errno::NOSPC,
            _ => Errno::IO,
        },
        Error::System { errno, .. } => match *errno {
            Errno::PERM => Errno::ACCESS,
            Errno::ACCESS | Errno::NOSPC | Errno::NOMEM | Errno::FBIG => *errno,
            _ => Errno::IO,
        },
        Error::Output(error) => Errno::from_io_error(error).unwrap_or(Errno::IO),
        _ => Errno::IO,
    }
}
