// SPDX-License-Identifier: GPL-2.0

//! Breaks names and attributes on purpose.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{name_of, NAMES, ROOTS};
use crate::outcome::Outcome;

/// Moves a name to a free one of the other directory, or changes that directory's mode.
pub fn inflict(source: &Path, is_name: bool) -> Outcome {
    let [one, other] = ROOTS.map(|root| source.join(root));
    if !is_name {
        return Ok(fs::set_permissions(other, Permissions::from_mode(0o751))?);
    }
    let free = (0..NAMES).find(|name| fs::symlink_metadata(other.join(name_of(*name))).is_err());
    if let (Some(entry), Some(free)) = (fs::read_dir(one)?.next(), free) {
        fs::rename(entry?.path(), other.join(name_of(free)))?;
    }
    Ok(())
}
