// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The log without a kernel: the grammar of its lines, and the steps that revert them.
//!
//! One source for the kernel module, which declares it as a module of its own crate, and for
//! `logctl`, the tests and the fuzzers, which depend on the crate `loggerfs-log`. The files refer to
//! each other by relative paths, and use neither a kernel API nor an allocator.

// Each user needs another part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod line;
pub mod plan;
pub mod types;
