// SPDX-License-Identifier: MIT OR Apache-2.0

//! A read-only view of a mount as it was at a point, mounted through FUSE.
//!
//! Nothing is copied: names are computed from the log and the present tree when a directory is listed, and
//! attributes and contents are read from the kernel when they are asked for.

mod attributes;
mod filesystem;
mod newer_lines;
mod nodes;
mod present_tree;
mod session;
mod view;

pub use newer_lines::NewerLines;
pub use present_tree::PresentTree;
pub use session::{check_directory, Session};
pub use view::View;
