// SPDX-License-Identifier: MIT OR Apache-2.0

//! A read-only view of a mount as it was at a point, mounted through FUSE. A view that moves shows the present.
//!
//! Nothing is copied: names are computed from the log and the present tree when a directory is listed, and
//! attributes and contents are read from the kernel when they are asked for.

mod attributes;
mod filesystem;
mod handles;
mod mounted_view;
mod moving;
mod newer_lines;
mod nodes;
mod present_tree;
mod view;

pub use mounted_view::{check_directory, MountedView};
pub use moving::MovingFilesystem;
pub use newer_lines::NewerLines;
pub use present_tree::PresentTree;
pub use view::View;
