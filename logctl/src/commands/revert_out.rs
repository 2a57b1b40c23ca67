// SPDX-License-Identifier: MIT OR Apache-2.0

//! `undo --out` and `revert --out`: writes copies of the files that would change, as they would be then. The
//! mount stays as it is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fuser::FileType;
use rustix::fs::{mkdirat, openat, Mode, OFlags};
use rustix::io::Errno;

use crate::after_revert::AfterRevert;
use crate::cli::Options;
use crate::describe::count;
use crate::error::Error;
use crate::json::JsonObject;
use crate::merge_file::{MergeInto, MergedFile};
use crate::output::Output;
use crate::past_tree::PastTree;
use crate::quote::word;
use crate::timeline::Timeline;
use loggerfs_log::types::ObjectId;

use super::context::Context;
use super::copies::{cannot, open_new, Copies, CopyAttributes};
use super::diff::touched;
use super::merge::MergeRequest;
use super::mount_past::view_of;
use super::report::Report;
use super::revert::{flags, plan};
use super::view::View;

/// How many paths are listed.
const LISTED: usize = 20;

/// Writes the files that the request for the chosen operations would change into the directory `out`, unless the
/// kernel would refuse the request. `more` has flags of the request. With merges, copies of merged files have markers where
/// changes overlap.
pub fn run(
    context: &mut Context<'_>,
    command: &'static str,
    timeline: &Timeline,
    (chosen, more): (&[usize], u32),
    (out, is_merge): (&Path, bool),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let dry_run = Options {
        dry_run: true,
        ..Options::default()
    };
    if is_merge {
        let subject = (command, timeline, chosen);
        let how = (dry_run, MergeInto::Copy);
        let request = MergeRequest::prepare(context, subject, how, output)?;
        let reply = request.ask(context, timeline, chosen, flags(dry_run, 0));
        let written = write(
            context,
            (command, timeline),
            (&reply.done, &request.files),
            out,
            output,
        )?;
        request.report((command, true), context, output)?;
        let report = Report {
            command,
            view: &View::new(timeline.clone(), Vec::new(), context),
            answer: &reply.answer,
            left_out: &reply.left_out,
            options: dry_run,
        };
        let left_out = report.print_left_out(context, output);
        written.conclude(output)?;
        left_out?;
        return request.conclude(true, context);
    }
    let answer = plan(context, command, timeline, chosen, (dry_run, more), output)?;
    let staying: HashSet<u64> = answer.staying.iter().map(|note| note.seq).collect();
    let mut chosen = chosen.to_vec();
    chosen.retain(|index| !staying.contains(&timeline.entries[*index].seq));
    let written = write(context, (command, timeline), (&chosen, &[]), out, output)?;
    written.conclude(output)
}

/// Writes the copies: what taking operations back makes, and merged files.
fn write(
    context: &mut Context<'_>,
    (command, timeline): (&'static str, &Timeline),
    (chosen, merged): (&[usize], &[MergedFile]),
    out: &Path,
    output: &mut Output<'_>,
) -> Result<Copies, Error> {
    let effect = Effect::of(context, timeline, chosen)?;
    let dir = open_new(out).map_err(|errno| cannot(out, errno))?;
    let mut written = Written {
        copies: Copies {
            is_root: context.me.is_none(),
            ..Copies::default()
        },
        dir,
        out: out.to_owned(),
        parents: BTreeSet::new(),
        directories: BTreeMap::new(),
    };
    for (cut, objects) in &effect.made {
        let mut view = view_of(context, timeline, *cut)?;
        for (path, object) in objects {
            written.write(&mut view, path, object.inode);
        }
    }
    let mut changed = merged.iter().filter(|file| file.is_change()).peekable();
    if changed.peek().is_some() {
        let newest = timeline.entries.first().map_or(0, |entry| entry.seq);
        let mut view = view_of(context, timeline, newest)?;
        for file in changed {
            written.write_merged(&mut view, file);
        }
    }
    written.finish_directories();
    effect.report((command, &written.copies), (&context.root, out), output)?;
    Ok(written.copies)
}

/// The changes that a request would make in names.
#[derive(Default)]
struct Effect {
    /// The objects that would be at paths, by the number of a line right after which they were so.
    made: BTreeMap<u64, Vec<(PathBuf, ObjectId)>>,
    /// Paths at which nothing would be.
    gone: Vec<PathBuf>,
    /// Directories that would only have another path.
    moved: Vec<(PathBuf, PathBuf)>,
}

impl Effect {
    fn of(context: &Context<'_>, timeline: &Timeline, chosen: &[usize]) -> Result<Self, Error> {
        let after = AfterRevert::new(timeline, chosen);
        let (tree, identify) = (context.tree, context.identify);
        let then = after.tree(tree, identify);
        let now = PastTree::new(timeline, u64::MAX, tree, identify);
        let mut places: BTreeMap<PathBuf, (Option<ObjectId>, Option<ObjectId>)> = BTreeMap::new();
        for path in touched(timeline, chosen, [&now, &then]) {
            let pair = (now.object(&path)?, then.object(&path)?);
            places.insert(path, pair);
        }
        let come: HashSet<ObjectId> = places.values().filter_map(|(_, then)| *then).collect();
        let gone = places.iter().filter_map(|(path, pair)| match pair {
            (Some(object), None) => Some((*object, path)),
            _ => None,
        });
        let gone: HashMap<ObjectId, &PathBuf> = gone.collect();
        let mut effect = Self::default();
        for (path, pair) in &places {
            match pair {
                (None, None) => {}
                (Some(object), None) => {
                    let is_elsewhere = come.contains(object);
                    effect.gone.extend((!is_elsewhere).then(|| path.clone()));
                }
                (_, Some(object)) => {
                    let from = gone.get(object).copied();
                    match from.filter(|from| context.root.join(from).is_dir()) {
                        Some(from) => effect.moved.push((from.clone(), path.clone())),
                        None => effect.make(&after, path, *object)?,
                    }
                }
            }
        }
        Ok(effect)
    }

    fn make(
        &mut self,
        after: &AfterRevert<'_>,
        path: &Path,
        object: ObjectId,
    ) -> Result<(), Error> {
        let point = after.point(object).map_err(|later| Error::Mixed {
            path: path.to_owned(),
            later,
        })?;
        let objects = self.made.entry(point).or_default();
        objects.push((path.to_owned(), object));
        Ok(())
    }

    fn report(
        &self,
        (command, copies): (&str, &Copies),
        (root, out): (&Path, &Path),
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        if output.json {
            for path in &self.gone {
                output.object(&JsonObject::new("gone", &root.join(path)).into_value())?;
            }
            for (from, path) in &self.moved {
                let mut object = JsonObject::new("moved", &root.join(path));
                object.put_bytes("old_path", root.join(from).as_os_str().as_bytes());
                output.object(&object.into_value())?;
            }
            let mut summary = JsonObject::new("summary", root);
            summary
                .put("command", command)
                .put_bytes("out", out.as_os_str().as_bytes())
                .put("copied", copies.made)
                .put("bytes", copies.bytes)
                .put("gone", self.gone.len())
                .put("moved", self.moved.len())
                .put("failed", copies.failed.len())
                .put("incomplete", copies.incomplete.len());
            return output.object(&summary.into_value());
        }
        let objects = count(copies.made, "copy", "copies");
        output.text(&format!(
            "Wrote {objects} to {}, as after the {command}. The mount is unchanged.\n",
            word(out)
        ))?;
        let gone = self.gone.iter().map(|path| word(path)).collect();
        list("Would be gone", gone, output)?;
        let moved = |(from, to): &(PathBuf, PathBuf)| format!("{} -> {}", word(from), word(to));
        let moved = self.moved.iter().map(moved).collect();
        list("Would be moved, and is not copied", moved, output)
    }
}

/// Prints the first of some paths.
fn list(head: &str, paths: Vec<String>, output: &mut Output<'_>) -> Result<(), Error> {
    for path in paths.iter().take(LISTED) {
        output.text(&format!("{head}: {path}\n"))?;
    }
    match paths.len().saturating_sub(LISTED) {
        0 => Ok(()),
        more => output.text(&format!("{head}: {more} more\n")),
    }
}

/// The copies, below a directory.
struct Written {
    copies: Copies,
    dir: OwnedFd,
    out: PathBuf,
    /// Directories that were made to hold copies.
    parents: BTreeSet<PathBuf>,
    /// Directories that are copies, whose attributes are set when all that is in them was written.
    directories: BTreeMap<PathBuf, CopyAttributes>,
}

impl Written {
    /// Writes the copy of an object at its path.
    fn write(&mut self, view: &mut crate::past_mount::View<'_>, path: &Path, inode: u64) {
        let attributes = view.attributes(inode);
        let made = match attributes {
            Ok(found) if found.kind == FileType::Directory => self.make_directory(path).map(|()| {
                let attributes = CopyAttributes::of(view, inode, found);
                self.directories.insert(path.to_owned(), attributes);
                self.copies.made += 1;
            }),
            Ok(_) => self.parent(path).map(|(dir, name)| {
                let above = self.out.join(path.parent().unwrap_or(Path::new("")));
                self.copies
                    .copy(view, inode, (&dir, name.as_bytes()), &above);
            }),
            Err(errno) => Err(errno),
        };
        if let Err(errno) = made {
            self.copies.failed.push((self.out.join(path), errno));
        }
    }

    /// Writes the copy of a merged file, which has the attributes that the file has now.
    fn write_merged(&mut self, view: &mut crate::past_mount::View<'_>, file: &MergedFile) {
        let above = self.out.join(file.path.parent().unwrap_or(Path::new("")));
        match self.parent(&file.path) {
            Ok((dir, name)) => {
                let text = Some(&file.merge.text[..]);
                let object = (file.object.inode, text);
                self.copies
                    .copy_with(view, object, (&dir, name.as_bytes()), &above);
            }
            Err(errno) => self.copies.failed.push((self.out.join(&file.path), errno)),
        }
    }

    /// Makes a directory, unless it was made to hold copies.
    fn make_directory(&mut self, path: &Path) -> Result<(), Errno> {
        if path.as_os_str().is_empty() || self.parents.contains(path) {
            return Ok(());
        }
        let (dir, name) = self.parent(path)?;
        mkdirat(&dir, name, Mode::RWXU)
    }

    /// The directory above a path, which is made if necessary, and the path's last name.
    fn parent<'p>(&mut self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let mut at = self.dir.try_clone().map_err(|_| Errno::MFILE)?;
        let mut above = PathBuf::new();
        for name in path.parent().into_iter().flatten() {
            above.push(name);
            match mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                Ok(()) => drop(self.parents.insert(above.clone())),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            at = open_directory(&at, name)?;
        }
        Ok((at, name))
    }

    /// Sets the attributes of directories, the deepest first.
    fn finish_directories(&mut self) {
        for (path, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            let to = self.out.join(&path);
            let opened = match path.as_os_str().is_empty() {
                true => self.dir.try_clone().map_err(|_| Errno::MFILE),
                false => (self.parent(&path)).and_then(|(dir, name)| open_directory(&dir, name)),
            };
            match opened {
                Ok(opened) => self.copies.finish(attributes, &opened, &to),
                Err(errno) => self.copies.incomplete.push((to, errno)),
            }
        }
    }
}

fn open_directory(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}
