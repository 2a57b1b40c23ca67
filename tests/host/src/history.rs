// SPDX-License-Identifier: GPL-2.0

//! The module's own files, at the paths they know each other by.

#[path = "../../../history/format.rs"]
pub(crate) mod format;
#[path = "../../../history/index.rs"]
pub(crate) mod index;
#[path = "../../../history/line.rs"]
pub(crate) mod line;
#[path = "../../../history/objects.rs"]
pub(crate) mod objects;
#[path = "../../../history/orphan.rs"]
pub(crate) mod orphan;
#[path = "../../../history/sort.rs"]
pub(crate) mod sort;
#[path = "../../../history/state.rs"]
pub(crate) mod state;
#[path = "../../../history/text.rs"]
pub(crate) mod text;
