// SPDX-License-Identifier: MIT OR Apache-2.0

//! `logctl`: shows the history that LoggerFS recorded, and takes operations back.
//!
//! A library only so that tests reach its parts; the program is all there is to use.

#![deny(unsafe_code)]

pub mod actions;
pub mod arguments;
pub mod blame;
pub mod cli;
pub mod commands;
pub mod describe;
pub mod error;
pub mod group;
#[allow(unsafe_code)]
pub mod ioctl;
pub mod json;
pub mod last_change;
pub mod mount;
pub mod object;
pub mod old_content;
pub mod operation_spec;
pub mod output;
pub mod pages;
pub mod past_directories;
pub mod past_mount;
pub mod past_times;
pub mod past_tree;
pub mod paths;
pub mod process;
pub mod procfs;
pub mod quote;
pub mod revision;
pub mod rewind;
pub mod save;
pub mod screen;
pub mod select;
pub mod session;
pub mod time;
pub mod timeline;
#[path = "../../uapi.rs"]
pub mod uapi;
pub mod verify;
