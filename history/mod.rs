// SPDX-License-Identifier: GPL-2.0

//! The history on disk: a log of operations, and the content that they replaced.
//!
//! [`crate::log`] is the log's grammar and the inverse of each line; that crate compiles without a
//! kernel. All other modules use [`journal`]. Records are staged in memory ([`staging`],
//! [`payload`]) and written by a worker ([`writer`]); a second worker ([`maintenance`]) seals segments,
//! merges their index tables ([`index`], [`tables`]) and drops the oldest ([`retention`]). A mount
//! begins with [`trust`], [`meta`] and [`recovery`].
//!
//! Nothing here accesses users' files.

pub(crate) mod admission;
pub(crate) mod dir_tree;
pub(crate) mod flush;
pub(crate) mod format;
pub(crate) mod index;
pub(crate) mod intents;
pub(crate) mod journal;
pub(crate) mod lines;
pub(crate) mod maintenance;
pub(crate) mod meta;
pub(crate) mod objects;
mod orphan_lookup;
pub(crate) mod orphan_record;
pub(crate) mod orphan_scan;
pub(crate) mod orphans;
pub(crate) mod payload;
pub(crate) mod pins;
pub(crate) mod pool;
pub(crate) mod read;
pub(crate) mod reclaim;
pub(crate) mod recovery;
pub(crate) mod reservation;
pub(crate) mod retention;
pub(crate) mod segment;
pub(crate) mod sort;
pub(crate) mod staging;
pub(crate) mod state;
pub(crate) mod stream;
pub(crate) mod tables;
pub(crate) mod text;
pub(crate) mod trust;
pub(crate) mod writer;
