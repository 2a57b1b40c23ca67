// SPDX-License-Identifier: MIT OR Apache-2.0

//! `logctl`: shows the history that LoggerFS recorded, and takes operations back.
//!
//! A library only so that tests reach its parts; the program is all there is to use.

#![deny(unsafe_code)]

pub mod actions;
pub mod after_revert;
pub mod arguments;
pub mod blame;
pub mod browse;
pub mod changes;
pub mod cli;
pub mod commands;
pub mod describe;
pub mod entry;
pub mod error;
pub mod fetch;
pub mod group;
pub mod health;
pub mod housekeeping;
#[allow(unsafe_code)]
pub mod ioctl;
pub mod json;
pub mod last_change;
pub mod live_places;
pub mod marks;
pub mod merge;
pub mod merge_file;
pub mod merge_plan;
pub mod mount;
pub mod object;
pub mod obstacle;
pub mod old_content;
pub mod operation_spec;
pub mod output;
pub mod pager;
pub mod pages;
pub mod past_directories;
pub mod past_mount;
pub mod past_times;
pub mod past_tree;
pub mod paths;
pub mod process;
pub mod process_trees;
pub mod procfs;
pub mod quote;
pub mod revert_effect;
pub mod revision;
pub mod rewind;
pub mod save;
pub mod screen;
pub mod select;
pub mod session;
pub mod system;
pub mod time;
pub mod timeline;
#[path = "../../uapi.rs"]
pub mod uapi;
pub mod usage;
pub mod verify;
pub mod versions;
pub mod word_diff;
