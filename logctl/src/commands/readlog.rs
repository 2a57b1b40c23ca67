// SPDX-License-Identifier: MIT OR Apache-2.0

//! `readlog`: a file's lines, oldest first.

use std::path::Path;

use crate::error::Error;
use crate::json;
use crate::object::Object;
use crate::output::Output;
use crate::pages::Pages;
use loggerfs_log::line::Line;

/// Prints the lines of the log unchanged, or their operations as JSON.
pub fn run(
    object: &mut impl Object,
    path: &Path,
    all: bool,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let pages = Pages::new(object, all)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|errno| Error::from_errno(path, "read the log of", errno))?;
    for line in pages.iter().rev().flat_map(|page| page.lines().rev()) {
        if !output.json {
            output.raw(line)?;
            continue;
        }
        // The kernel has verified the checksums.
        let object = match Line::parse(line, None) {
            Ok(parsed) => json::logged_op(path, &parsed, line),
            Err(error) => json::unread_op(path, line, error.as_str()),
        };
        output.object(&object)?;
    }
    Ok(())
}
