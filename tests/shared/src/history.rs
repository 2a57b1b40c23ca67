// SPDX-License-Identifier: GPL-2.0

//! The module's own files that need no kernel: the log's grammar, the inverse plans and the file
//! `format`, at the paths they know each other by.

#![allow(dead_code)]

#[path = "../../../history/format.rs"]
pub mod format;
#[path = "../../../history/line.rs"]
pub mod line;
#[path = "../../../history/plan.rs"]
pub mod plan;
#[path = "../../../history/text.rs"]
pub mod text;
