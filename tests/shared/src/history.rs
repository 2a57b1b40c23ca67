// SPDX-License-Identifier: GPL-2.0

//! The module's own file `format`, and the words that it is written in, by the paths that they know
//! each other by.

#![allow(dead_code)]

#[path = "../../../history/format.rs"]
pub mod format;
#[path = "../../../history/text.rs"]
pub mod text;
