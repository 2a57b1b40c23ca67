// SPDX-License-Identifier: GPL-2.0

//! Open directories.

use super::Stack;
use crate::{
    history::trust::HISTORY_DIR,
    state::OpenFileState,
    vfs::{
        file::{OpeningFile, UpperFile},
        table::directory::DirectoryHooks,
    },
};
use kernel::prelude::*;

impl DirectoryHooks for Stack {
    fn open(file: OpeningFile<'_>) -> Result {
        let mount = file.upper_inode().mount();
        let dentry = file.dentry().lower()?;
        let flags = super::file::lower_flags(file.flags(), file.is_writable());
        let lower = file.open_lower(mount.lower(), dentry, flags)?;
        file.opened(lower, OpenFileState::new()).map(|_| ())
    }

    fn hides(file: &UpperFile, name: &[u8]) -> bool {
        // ->lookup hides the same name, so readdir and lookup agree.
        Self::hides_any(file) && name == HISTORY_DIR
    }

    fn hides_any(file: &UpperFile) -> bool {
        file.dentry().is_root()
    }
}
