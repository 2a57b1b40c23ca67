// SPDX-License-Identifier: MIT OR Apache-2.0

//! A full-screen browser of the history: its state, its answers to keys, and how it is drawn. It knows neither a
//! terminal nor a mount, so that tests run it in memory.

mod draw;
mod state;

pub use draw::{draw, OTHER_LINES};
pub use state::{ActionRow, Browser, FileRow, Key, Source, VersionRow};
