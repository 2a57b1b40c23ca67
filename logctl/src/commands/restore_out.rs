// SPDX-License-Identifier: MIT OR Apache-2.0

//! `restore --out`: writes copies of files and directories as they were at a point. The mount stays as it is.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::describe::count;
use crate::error::Error;
use crate::json::JsonObject;
use crate::output::Output;
use crate::past_mount::View;
use crate::quote::{quoted, word};

use super::context::Context;
use super::copies::{cannot, open_new, Copies};
use super::mount_past::view_at;

/// Copies the paths as of the point `to` into the directory `out`; without paths, the whole mount.
pub fn run(
    context: &mut Context<'_>,
    to: &str,
    paths: &[PathBuf],
    out: &Path,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let places = paths.iter().map(|path| context.place(path));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let mut copies = Copies {
        is_root: context.me.is_none(),
        ..Copies::default()
    };
    let mount = context.root.clone();
    let check = |timeline: &_, context: &Context<'_>| context.check_names(timeline, &places);
    let (mut view, root, cut) = view_at(context, to, check)?;
    let found = find_all(&mut view, root, &places, to)?;
    let dir = open_new(out).map_err(|errno| cannot(out, errno))?;
    for source in found {
        match source.name {
            Some(name) => copies.copy(&mut view, source.inode, (&dir, &name), out),
            None => copies.fill(&mut view, source.inode, &dir, out),
        }
    }
    report(&copies, (&mount, out, cut), output)?;
    copies.conclude(output)
}

/// An object that is to be copied.
struct CopySource {
    /// The name of its copy; the mount itself has none.
    name: Option<Vec<u8>>,
    inode: u64,
}

/// The objects of the paths; without paths, the root.
fn find_all(
    view: &mut View<'_>,
    root: u64,
    places: &[PathBuf],
    to: &str,
) -> Result<Vec<CopySource>, Error> {
    let mut found = Vec::new();
    for place in places {
        let mut at = root;
        for name in place.iter() {
            at = match view.lookup(at, name) {
                Ok(listed) => listed.inode,
                Err(_) => {
                    let message = format!("{} did not exist at {to}", quoted(place));
                    return Err(Error::Nothing { message });
                }
            };
        }
        let name = place.file_name().map(|name| name.as_bytes().to_vec());
        found.push(CopySource { name, inode: at });
    }
    if places.is_empty() {
        found.push(CopySource {
            name: None,
            inode: root,
        });
    }
    Ok(found)
}

fn report(
    copies: &Copies,
    (mount, out, cut): (&Path, &Path, u64),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if !output.json {
        let objects = count(copies.made, "copy", "copies");
        let out = word(out);
        return output.text(&format!("Wrote {objects} to {out}, as of op {cut}.\n"));
    }
    let mut summary = JsonObject::new("summary", mount);
    summary
        .put("command", "restore")
        .put("op", cut)
        .put_bytes("out", out.as_os_str().as_bytes())
        .put("copied", copies.made)
        .put("bytes", copies.bytes)
        .put("failed", copies.failed.len())
        .put("incomplete", copies.incomplete.len());
    output.object(&summary.into_value())
}
