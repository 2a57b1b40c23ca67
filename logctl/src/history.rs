// SPDX-License-Identifier: MIT OR Apache-2.0

//! The parts of the history that need no kernel, from the same files as the module's.

#[path = "../../history/line.rs"]
pub mod line;
#[path = "../../history/plan.rs"]
pub mod plan;
